//! `envoy-configs/gateway-api`: its manifests, applied to what Envoy Gateway delivers without them, in front of real servers.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use integration::broker::Mosquitto as Broker;
use integration::client::Mosquitto;
use integration::envoy::Config;
use integration::setup::expect_healthy;
use integration::wire::Version;
use manifests::envoy_patch_policy;
use serde_json::Value;

use crate::kubernetes::{
    NOT_AUTHORIZED, config, expect_coap_routed_refused_and_logged, expect_counted,
    expect_dns_routed_refused_and_logged, expect_files, expect_valid, of_kind, proxy, read,
    refusal, token,
};

const FILES: [&str; 5] =
    ["coap.yaml", "dns.yaml", "envoyproxy.yaml", "mqtt-observe.yaml", "mqtt.yaml"];

/// The Gateway of a file with what the file says to Envoy. What it says to Envoy Gateway, and what envoyproxy.yaml does, the captured
/// configuration has.
fn gateway(name: &str) -> Config {
    let manifests = read("gateway-api", &[&format!("{name}.yaml")]);
    let mut proxy = proxy(&format!("envoy-gateway-{name}.yaml"));
    envoy_patch_policy::apply(&mut proxy, &of_kind(&manifests, "EnvoyPatchPolicy")).unwrap();
    config(proxy).0
}

#[test]
fn there_is_a_test_for_each_manifest() {
    expect_files("gateway-api", &FILES);
}

#[test]
fn the_manifests_are_valid() {
    expect_valid("gateway-api");
}

/// The captured configurations were written by hand: this is what keeps them to what the manifests ask Envoy Gateway for.
#[test]
fn what_envoy_gateway_makes_of_the_manifests_is_in_the_captured_configurations() {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for name in ["mqtt", "mqtt-observe", "coap", "dns"] {
        let manifests = read("gateway-api", &[&format!("{name}.yaml")]);
        let captured = proxy(&format!("envoy-gateway-{name}.yaml"));
        let routes: Vec<Value> = captured
            .routes
            .iter()
            .flat_map(|routes| list(&routes["virtual_hosts"]))
            .flat_map(|host| list(&host["routes"]))
            .collect();
        for listener in list(&of_kind(&manifests, "Gateway")[0].value()["spec"]["listeners"]) {
            let wanted = format!("default/{name}/{}", listener["name"].as_str().unwrap());
            let found =
                captured.listeners.iter().find(|listener| listener["name"] == wanted.as_str());
            let port = &found.expect(&wanted)["address"]["socket_address"]["port_value"];
            assert_eq!(*port, listener["port"], "{wanted}");
        }
        for route in of_kind(&manifests, "HTTPRoute") {
            let route = route.value();
            for (number, rule) in list(&route["spec"]["rules"]).iter().enumerate() {
                let wanted = format!(
                    "httproute/default/{}/rule/{number}",
                    route["metadata"]["name"].as_str().unwrap()
                );
                let prefix = format!("{wanted}/match/0/");
                let found = routes
                    .iter()
                    .find(|route| route["name"].as_str().unwrap().starts_with(&prefix));
                let found = found.expect(&wanted);
                if rule.get("backendRefs").is_some() {
                    assert_eq!(found["route"]["cluster"], wanted.as_str());
                    assert!(
                        captured.clusters.iter().any(|cluster| cluster["name"] == wanted.as_str()),
                        "{wanted}"
                    );
                    let timeout =
                        rule["timeouts"]["request"].as_str().unwrap().replace("250ms", "0.250s");
                    assert_eq!(found["route"]["timeout"], timeout.as_str(), "{wanted}");
                } else {
                    assert!(found.get("direct_response").is_some(), "{wanted}");
                }
            }
        }
        let all = serde_json::to_string(&captured.routes).unwrap();
        for policy in of_kind(&manifests, "SecurityPolicy") {
            for rule in list(&policy.value()["spec"]["authorization"]["rules"]) {
                assert!(all.contains(&format!("\"name\":{}", rule["name"])), "{rule}");
            }
        }
    }
}

#[test]
fn mqtt_sessions_and_messages_are_routed_refused_and_logged() {
    let valid = token(&["sub=sensor-1"]);
    let (broker, europe) = (Broker::start().unwrap(), Broker::start().unwrap());
    let config = gateway("mqtt").port(21_883, broker.port()).port(21_884, europe.port());
    let mut envoy = config.start().unwrap();
    let port = envoy.port(1883).unwrap();

    // A topic with an empty level stays as it is.
    let mut subscriber =
        Mosquitto::subscriber(port, Version::V5, "telemetry/#").start_subscribed().unwrap();
    for topic in ["telemetry/1", "telemetry//1"] {
        Mosquitto::publisher(port, Version::V3, topic)
            .args(&["-m", "21", "-q", "1"])
            .run()
            .unwrap();
    }
    assert_eq!(subscriber.wait_for_messages(2).unwrap(), ["telemetry/1 21", "telemetry//1 21"]);
    envoy.access_log_entry(|entry| entry["path"] == "/telemetry//1").unwrap();

    // HTTPRoute: by user name.
    Mosquitto::publisher(port, Version::V5, "t")
        .args(&["-i", "one", "-u", "eu-1", "-m", "x"])
        .run()
        .unwrap();
    assert!(europe.has_seen("one") && !broker.has_seen("one"));

    // SecurityPolicy: only one user publishes commands.
    assert_eq!(refusal(&envoy, 1883, "sensor-1", "commands/stop"), Some(NOT_AUTHORIZED));
    assert_eq!(refusal(&envoy, 1883, "operator", "commands/stop"), None);
    assert_eq!(refusal(&envoy, 1883, "sensor-1", "telemetry/1"), None);
    let refused = envoy.access_log_entry(|entry| entry["code"] == 403).unwrap();
    assert_eq!(
        (&refused["path"], &refused["mqtt_username"]),
        (&"/commands/stop".into(), &"sensor-1".into())
    );

    // SecurityPolicy: a JWT as password, over TLS.
    let port = envoy.port(8883).unwrap();
    let client = |id: &str, password: &str| {
        let client = Mosquitto::publisher(port, Version::V5, "t").tls(None);
        client.args(&["-i", id, "-u", "any", "-P", password, "-q", "1", "-m", "x"])
    };
    client("good", &valid).run().unwrap();
    assert!(broker.has_seen("good"));
    for (id, token) in [("expired", token(&["sub=x", "exp=-600"])), ("none", "hunter2".to_owned())]
    {
        let said = client(id, &token).run_refused().unwrap();
        assert!(said.to_lowercase().contains("bad user name or password"), "{id}: {said}");
        assert!(!broker.has_seen(id), "{id}");
    }
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn mqtt_through_a_tcp_route_is_watched() {
    let broker = Broker::start().unwrap();
    let mut envoy = gateway("mqtt-observe").port(21_883, broker.port()).start().unwrap();
    assert_eq!(refusal(&envoy, 1883, "sensor-1", "t"), None);
    expect_counted(&envoy, &["mqtt_packets_total", "type=puback"]).unwrap();
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn coap_over_udp_and_tcp_is_routed_refused_and_logged() {
    // By HTTPRoute, SecurityPolicy and EnvoyProxy.
    expect_coap_routed_refused_and_logged(gateway("coap"));
}

#[test]
fn dns_over_udp_and_tcp_is_routed_refused_and_logged() {
    // A blocklist of HTTPRoutes, answered by Envoy itself.
    expect_dns_routed_refused_and_logged(gateway("dns"), "NXDOMAIN", 404);
}
