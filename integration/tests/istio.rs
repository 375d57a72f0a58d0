//! `envoy-configs/istio`: its manifests, applied to what istiod delivers without them, in front of real servers.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use integration::broker::Mosquitto as Broker;
use integration::client::Mosquitto;
use integration::coap::libcoap::{self, Tls};
use integration::dns::clients::Dig;
use integration::envoy::{Config, Envoy};
use integration::setup::expect_healthy;
use integration::wire::{Client, Connect, Version};
use manifests::envoy_filter::{self, PatchContext};
use manifests::wasm_plugin::{self, Mode};
use serde_json::{Value, json};

use crate::kubernetes::{
    NOT_AUTHORIZED, config, dns_server, expect_coap_routed_refused_and_logged, expect_counted,
    expect_dns_routed_refused_and_logged, expect_files, expect_valid, of_kind, proxy, read,
    refusal, token,
};

const FILES: [&str; 18] = [
    "access-log.yaml",
    "coap-authorization.yaml",
    "coap-filter.yaml",
    "coap-sidecar.yaml",
    "coap-wasmplugin.yaml",
    "coap.yaml",
    "dns-authorization.yaml",
    "dns-filter.yaml",
    "dns-sidecar.yaml",
    "dns-wasmplugin.yaml",
    "dns.yaml",
    "mqtt-authorization.yaml",
    "mqtt-filter.yaml",
    "mqtt-sidecar-trafficextension.yaml",
    "mqtt-sidecar.yaml",
    "mqtt-tls-jwt.yaml",
    "mqtt-wasmplugin.yaml",
    "mqtt.yaml",
];

/// A gateway with what these files say to Envoy. What they say to istiod, the captured configuration has.
fn gateway(files: &[&str]) -> Config {
    // The captured configuration verifies tokens for all ports, as istiod would.
    token(&["sub=nobody"]);
    let manifests = read("istio", files);
    let mut proxy = proxy("istio-gateway.yaml");
    envoy_filter::apply(&mut proxy, PatchContext::Gateway, &of_kind(&manifests, "EnvoyFilter"))
        .unwrap();
    wasm_plugin::apply(&mut proxy, Mode::Client, &of_kind(&manifests, "WasmPlugin")).unwrap();
    config(proxy).0
}

/// The sidecar of a workload with this port.
fn sidecar(files: &[&str], app: &str, port: u16) -> (Config, u16) {
    let manifests = read("istio", files);
    let mut proxy = proxy("istio-sidecar.yaml");
    proxy.labels.insert("app".to_owned(), app.to_owned());
    envoy_filter::apply(
        &mut proxy,
        PatchContext::SidecarInbound,
        &of_kind(&manifests, "EnvoyFilter"),
    )
    .unwrap();
    wasm_plugin::apply(&mut proxy, Mode::Server, &of_kind(&manifests, "TrafficExtension")).unwrap();
    let (config, ports) = config(proxy);
    // Without Istio's iptables rules the listener is on the port itself.
    (config.port(15_006, ports[&port]), ports[&port])
}

#[test]
fn there_is_a_test_for_each_manifest() {
    expect_files("istio", &FILES);
}

#[test]
fn the_manifests_are_valid() {
    expect_valid("istio");
}

/// The captured configuration was written by hand: this is what keeps it to what the manifests ask istiod for.
#[test]
fn what_istiod_makes_of_the_manifests_is_in_the_captured_configuration() {
    let manifests = read("istio", &FILES);
    let captured = proxy("istio-gateway.yaml");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let spec = |kind: &str| {
        of_kind(&manifests, kind).into_iter().map(|manifest| manifest.value()["spec"].clone())
    };
    let all = serde_json::to_string(&captured.listeners).unwrap();

    for server in spec("Gateway").flat_map(|gateway| list(&gateway["servers"])) {
        let bind = server["bind"].as_str().unwrap_or("0.0.0.0");
        let name = format!("{bind}_{}", server["port"]["number"]);
        let listener = captured.listeners.iter().find(|listener| listener["name"] == name.as_str());
        let address = listener.map(|listener| &listener["address"]["socket_address"]).expect(&name);
        assert_eq!(
            (&address["address"], &address["port_value"]),
            (&bind.into(), &server["port"]["number"])
        );
    }
    let hosts: Vec<Value> =
        captured.routes.iter().flat_map(|routes| list(&routes["virtual_hosts"])).collect();
    for service in spec("VirtualService") {
        for (host, route) in list(&service["hosts"]).iter().flat_map(|host| {
            list(&service["http"]).into_iter().map(move |route| (host.clone(), route))
        }) {
            let destination = &route["route"][0]["destination"];
            let cluster = format!(
                "outbound|{}|{}|{}",
                destination["port"]["number"],
                text(&destination["subset"]),
                text(&destination["host"])
            );
            let timeout = route["timeout"].as_str().unwrap_or("0s").replace("0.25s", "0.250s");
            let found = hosts.iter().filter(|candidate| candidate["domains"] == json!([host])).any(
                |candidate| {
                    list(&candidate["routes"]).iter().any(|candidate| {
                        candidate["name"] == route["name"]
                            && match route.get("directResponse") {
                                Some(response) => {
                                    candidate["direct_response"]["status"] == response["status"]
                                }
                                None => {
                                    candidate["route"]["cluster"] == cluster.as_str()
                                        && candidate["route"]["timeout"] == timeout.as_str()
                                }
                            }
                    })
                },
            );
            assert!(found, "{host}: {route}");
        }
    }
    for policy in of_kind(&manifests, "AuthorizationPolicy") {
        let metadata = &policy.value()["metadata"];
        let name = format!(
            "ns[{}]-policy[{}]-rule[0]",
            text(&metadata["namespace"]),
            text(&metadata["name"])
        );
        assert!(all.contains(&name), "{name}");
        let operation = &policy.value()["spec"]["rules"][0]["to"][0]["operation"];
        for port in list(&operation["ports"]) {
            assert!(
                all.contains(&format!("\"destination_port\":{}", text(&port))),
                "{name}: {port}"
            );
        }
        for path in list(&operation["paths"]).iter().chain(&list(&operation["hosts"])) {
            assert!(all.contains(text(path).trim_matches('*')), "{name}: {path}");
        }
    }
    for rule in spec("RequestAuthentication").flat_map(|spec| list(&spec["jwtRules"])) {
        assert!(all.contains(&text(&rule["issuer"])), "{rule}");
    }
}

#[test]
fn mqtt_sessions_and_messages_are_routed_refused_and_logged() {
    for module in ["mqtt-filter.yaml", "mqtt-wasmplugin.yaml"] {
        let (broker, europe) = (Broker::start().unwrap(), Broker::start().unwrap());
        let files = ["mqtt.yaml", module, "mqtt-authorization.yaml", "access-log.yaml"];
        let config = gateway(&files).port(21_883, broker.port()).port(21_884, europe.port());
        let mut envoy = config.start().unwrap();
        let port = envoy.port(1883).unwrap();

        let mut subscriber =
            Mosquitto::subscriber(port, Version::V5, "telemetry/#").start_subscribed().unwrap();
        for version in [Version::V3, Version::V5] {
            Mosquitto::publisher(port, version, "telemetry/1")
                .args(&["-m", "21", "-q", "1"])
                .run()
                .unwrap();
        }
        let messages = subscriber.wait_for_messages(2).unwrap();
        assert_eq!(messages, ["telemetry/1 21", "telemetry/1 21"], "{module}");

        // VirtualService: by user name.
        Mosquitto::publisher(port, Version::V5, "t")
            .args(&["-i", "one", "-u", "eu-1", "-m", "x"])
            .run()
            .unwrap();
        assert!(europe.has_seen("one") && !broker.has_seen("one"), "{module}");

        // AuthorizationPolicy: only operators publish commands.
        assert_eq!(
            refusal(&envoy, 1883, "sensor-1", "commands/stop"),
            Some(NOT_AUTHORIZED),
            "{module}"
        );
        assert_eq!(refusal(&envoy, 1883, "operator-1", "commands/stop"), None, "{module}");
        assert_eq!(refusal(&envoy, 1883, "sensor-1", "telemetry/1"), None, "{module}");

        // Telemetry: the lines of the refused message and of the session.
        let refused = envoy.access_log_entry(|entry| entry["code"] == 403).unwrap();
        assert_eq!(
            (&refused["path"], &refused["mqtt_username"]),
            (&"/commands/stop".into(), &"sensor-1".into())
        );
        let details = refused["details"].as_str().unwrap();
        assert!(details.contains("policy[mqtt-commands]"), "{details}");
        let session = envoy
            .access_log_entry(|entry| entry["mqtt_client_id"] == "one" && entry["path"] == "/");
        let session = session.unwrap();
        assert_eq!(session["route"], "europe");
        assert_eq!(
            session["upstream_cluster"],
            "outbound|1883||mosquitto-eu.mqtt.svc.cluster.local"
        );
        expect_healthy(&mut envoy).unwrap();
    }
}

#[test]
fn mqtt_over_tls_takes_who_has_a_valid_token() {
    let broker = Broker::start().unwrap();
    let mut envoy = gateway(&["mqtt-tls-jwt.yaml"]).port(21_883, broker.port()).start().unwrap();
    let port = envoy.port(8883).unwrap();
    let client = |id: &str, password: &str| {
        let client = Mosquitto::publisher(port, Version::V5, "t").tls(None);
        client.args(&["-i", id, "-u", "any", "-P", password, "-q", "1", "-m", "x"])
    };
    client("good", &token(&["sub=sensor-1"])).run().unwrap();
    assert!(broker.has_seen("good"));

    for (id, token) in [
        ("expired", token(&["sub=x", "exp=-600"])),
        ("other", token(&["sub=x", "iss=https://evil.example"])),
    ] {
        let said = client(id, &token).run_refused().unwrap();
        assert!(said.to_lowercase().contains("bad user name or password"), "{id}: {said}");
    }
    let nothing =
        Mosquitto::publisher(port, Version::V5, "t").tls(None).args(&["-i", "none", "-m", "x"]);
    let said = nothing.run_refused().unwrap();
    assert!(said.to_lowercase().contains("not authorized"), "{said}");
    for id in ["expired", "other", "none"] {
        assert!(!broker.has_seen(id), "{id}");
    }
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn coap_over_udp_and_tcp_is_routed_refused_and_logged() {
    for module in ["coap-filter.yaml", "coap-wasmplugin.yaml"] {
        // By VirtualService, AuthorizationPolicy and Telemetry.
        let files = ["coap.yaml", module, "coap-authorization.yaml", "access-log.yaml"];
        expect_coap_routed_refused_and_logged(gateway(&files));
    }
}

#[test]
fn dns_over_udp_and_tcp_is_routed_refused_and_logged() {
    for module in ["dns-filter.yaml", "dns-wasmplugin.yaml"] {
        let files = ["dns.yaml", module, "dns-authorization.yaml", "access-log.yaml"];
        expect_dns_routed_refused_and_logged(gateway(&files), "REFUSED", 403);
    }
}

#[test]
fn the_manifests_of_all_protocols_fit_on_one_gateway() {
    let all = ["mqtt.yaml", "mqtt-tls-jwt.yaml", "coap.yaml", "dns.yaml"];
    for modules in [
        ["mqtt-filter.yaml", "coap-filter.yaml", "dns-filter.yaml"],
        ["mqtt-wasmplugin.yaml", "coap-wasmplugin.yaml", "dns-wasmplugin.yaml"],
    ] {
        // Each patch applies to something. Not started: its VMs reserve more than the harness lets a process have.
        gateway(&[&all[..], &modules].concat());
    }
}

/// A session through a sidecar, in the clear and as from another sidecar.
fn expect_observed_session(mut envoy: Envoy, port: u16) {
    Client::session(envoy.address(15_006).unwrap(), &Connect::new(Version::V5, "plain")).unwrap();
    let mutual = Mosquitto::publisher(port, Version::V5, "t").tls(Some("device-1"));
    mutual.args(&["--tls-alpn", "istio", "-i", "mutual", "-m", "x", "-q", "1"]).run().unwrap();
    expect_counted(&envoy, &["mqtt_packets_total", "type=puback"]).unwrap();
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn a_sidecar_watches_mqtt() {
    for file in ["mqtt-sidecar.yaml", "mqtt-sidecar-trafficextension.yaml"] {
        let broker = Broker::start().unwrap();
        let (config, port) = sidecar(&[file], "mosquitto", 1883);
        let envoy = config.port(21_883, broker.port()).start().unwrap();
        expect_observed_session(envoy, port);
        assert!(broker.has_seen("plain") && broker.has_seen("mutual"), "{file}");
    }
}

#[test]
fn a_sidecar_watches_coap_over_tcp() {
    let server = libcoap::Server::start().unwrap();
    let (config, port) = sidecar(&["coap-sidecar.yaml"], "devices", 5683);
    let mut envoy = config.port(25_683, server.address().port()).start().unwrap();
    let uri = format!("coap+tcp://127.0.0.1:{port}/");
    assert!(!libcoap::Client::new(Tls::None, &uri).run().unwrap().payload.is_empty());
    expect_counted(&envoy, &["coap_requests_total", "method=get"]).unwrap();
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn a_sidecar_watches_dns_over_tcp() {
    let server = dns_server(1);
    let (config, _) = sidecar(&["dns-sidecar.yaml"], "resolver", 53);
    let mut envoy = config.port(25_353, server.address().port()).start().unwrap();
    let dig = Dig::new(envoy.address(15_006).unwrap(), "www.example", "A").args(&["+tcp"]);
    assert_eq!(dig.run().unwrap().short(), ["10.0.0.1"]);
    expect_counted(&envoy, &["dns_queries_total", "type=a"]).unwrap();
    expect_healthy(&mut envoy).unwrap();
}
