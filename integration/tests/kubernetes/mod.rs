//! What the tests of Kubernetes manifests share.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result};
use integration::coap::draft::Draft;
use integration::coap::libcoap::{self, Tls};
use integration::coap::udp;
use integration::dns::authority::Authority;
use integration::dns::clients::Dig;
use integration::envoy::{Config, Envoy};
use integration::ports::{free_port, source};
use integration::setup::expect_healthy;
use integration::wire::{Client, Connect, Version, publish};
use integration::{eventually, root};
use manifests::manifest::Manifest;
use manifests::proxy::Proxy;
use serde_json::Value;

/// "Not authorized", in PUBACK and SUBACK.
pub(crate) const NOT_AUTHORIZED: u8 = 0x87;

/// The manifests of files in a folder of `envoy-configs`.
pub(crate) fn read(folder: &str, files: &[&str]) -> Vec<Manifest> {
    let all = files.iter().flat_map(|file| {
        let path = root().join("envoy-configs").join(folder).join(file);
        Manifest::read_all(&fs::read_to_string(&path).unwrap()).unwrap()
    });
    all.collect()
}

/// Those of a kind.
pub(crate) fn of_kind(manifests: &[Manifest], kind: &str) -> Vec<Manifest> {
    manifests.iter().filter(|manifest| manifest.kind() == kind).cloned().collect()
}

/// The captured configuration of a proxy.
pub(crate) fn proxy(file: &str) -> Proxy {
    let path = root().join("integration/tests/data").join(file);
    Proxy::from_yaml(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The configuration for this machine's Envoy, with the modules from `dist/`; and the ports in use for those that it not
/// only listens on, but also matches.
pub(crate) fn config(proxy: Proxy) -> (Config, BTreeMap<u16, u16>) {
    let mut bootstrap = proxy.into_static().unwrap();
    let mut ports = BTreeMap::new();
    use_free_ports(&mut bootstrap, &mut ports);
    let mut json = serde_json::to_string_pretty(&bootstrap).unwrap();
    for module in ["mqtt", "coap", "dns"] {
        json = json.replace(
            &format!("/var/local/wasm/{module}/plugin.wasm"),
            &format!("dist/{module}.wasm"),
        );
    }
    // `Config` finds ports by their name as YAML has it.
    let config = Config::from_text(json.replace("\"port_value\":", "port_value:"));
    // One worker: there is a VM for each on each of the ports, and nothing here is about several.
    let config = config.concurrency(1);
    let config = ports.iter().fold(config, |config, (written, used)| config.port(*written, *used));
    (config, ports)
}

/// Replaces what is matched: `Config` replaces what is listened on.
fn use_free_ports(value: &mut Value, ports: &mut BTreeMap<u16, u16>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "destination_port" {
                    let written = value.as_u64().unwrap().try_into().unwrap();
                    *value = (*ports.entry(written).or_insert_with(|| free_port().unwrap())).into();
                }
                use_free_ports(value, ports);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| use_free_ports(value, ports)),
        _ => {}
    }
}

/// An error if the folder has another file, which no test would be about.
pub(crate) fn expect_files(folder: &str, tested: &[&str]) {
    let files = fs::read_dir(root().join("envoy-configs").join(folder)).unwrap();
    let files: BTreeSet<String> =
        files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let tested: BTreeSet<String> = tested.iter().map(|&file| file.to_owned()).collect();
    assert_eq!(files, tested);
}

/// Checks a folder against the CRDs in `$CRDS`, if that is set: they are not part of this repository.
pub(crate) fn expect_valid(folder: &str) {
    let Some(crds) = std::env::var_os("CRDS") else {
        let skipped = format!(
            "{folder}: skipped, CRDS is not set to a folder with the CRDs: this repository does not have them\n"
        );
        // Not with a macro: the harness would keep it to itself.
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        return;
    };
    let mut command = Command::new(root().join("scripts/check-manifests"));
    let files = fs::read_dir(root().join("envoy-configs").join(folder)).unwrap();
    command.arg(crds).args(files.map(|entry| entry.unwrap().path())).current_dir(root());
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
    );
}

/// A token of the development issuer, whose keys are in `.build/jwt` afterwards.
pub(crate) fn token(claims: &[&str]) -> String {
    let output = Command::new(root().join("scripts/dev-jwt")).args(claims).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The reason code with which a message at QoS 1 from a user of this name is refused.
pub(crate) fn refusal(envoy: &Envoy, port: u16, user: &str, topic: &str) -> Option<u8> {
    let connect = Connect::new(Version::V5, user).user(user);
    let mut client = Client::session(envoy.address(port).unwrap(), &connect).unwrap();
    client.send(&publish(Version::V5, topic, b"x", 1, 9)).unwrap();
    let puback = client.expect(0x40).unwrap();
    assert_eq!(puback.id().unwrap(), 9);
    puback.body.get(2).copied().filter(|code| *code >= 0x80)
}

/// Waits until one of Envoy's statistics, whose name begins and contains this, is not zero.
pub(crate) fn expect_counted(envoy: &Envoy, parts: &[&str]) -> Result<()> {
    eventually("a statistic", || {
        let stats = envoy.get("/stats")?;
        let counted = stats
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)) && !line.ends_with(": 0"));
        Ok(counted.then_some(()))
    })
    .with_context(|| format!("{parts:?}"))
}

/// A DNS server with this address for all names.
pub(crate) fn dns_server(last: u8) -> Authority {
    Authority::with_address([10, 0, 0, last].into(), 60).unwrap()
}

/// CoAP over UDP and TCP: `/fw` has a server of its own, what a policy refuses is 4.03, and the access log says who it was.
pub(crate) fn expect_coap_routed_refused_and_logged(config: Config) {
    let (devices, firmware) =
        (libcoap::Server::start().unwrap(), libcoap::Server::start().unwrap());
    let config = config.port(25_683, devices.address().port());
    let mut envoy = config.port(25_783, firmware.address().port()).start().unwrap();
    let address = envoy.address(5683).unwrap();
    let request = |method: &str, uri: &str| {
        let payload: &[&str] = if method == "get" { &[] } else { &["-e", "on"] };
        libcoap::Client::new(Tls::None, uri).method(method).args(payload).run().unwrap()
    };
    for scheme in ["coap", "coap+tcp"] {
        let uri = |path: &str| format!("{scheme}://{address}/{path}");
        assert_eq!(request("put", &uri("lamp")).complaint, "", "{scheme}");
        assert_eq!(request("get", &uri("lamp")).text().unwrap(), "on", "{scheme}");
        // What the policy lets pass the server answers, which has no such thing.
        for method in ["put", "ipatch"] {
            let refused = request(method, &uri("config/x")).complaint;
            assert!(refused.contains("4.03"), "{scheme}: {refused}");
        }
        let passed = request("get", &uri("config/x")).complaint;
        assert!(passed.contains("4.04"), "{scheme}: {passed}");
    }
    // What is put there is there, and only there.
    assert_eq!(request("put", &format!("coap://{address}/fw")).complaint, "");
    assert_eq!(request("get", &format!("coap://{}/fw", firmware.address())).text().unwrap(), "on");
    assert!(request("get", &format!("coap://{}/fw", devices.address())).complaint.contains("4.04"));

    // The access log has the client's address although the datagrams came over loopback.
    let client = udp::Client::connect_from(source(7), address).unwrap();
    let answer = client.request(&Draft::put("config/x", b"y").id(1).token(b"t")).unwrap();
    assert_eq!(answer.code().unwrap(), "4.03");
    let from = source(7).to_string();
    let refused = envoy.access_log_entry(|entry| entry["client"] == from.as_str()).unwrap();
    assert_eq!((&refused["path"], &refused["code"]), (&"/config/x".into(), &403.into()));
    expect_healthy(&mut envoy).unwrap();
}

/// DNS over UDP and TCP: `corp.example` has a server of its own, and `ads.example` is refused with this RCODE because of this
/// HTTP status, which the access log has.
pub(crate) fn expect_dns_routed_refused_and_logged(config: Config, rcode: &str, status: u16) {
    let (resolver, corp) = (dns_server(1), dns_server(2));
    let config = config.port(25_353, resolver.address().port());
    let mut envoy = config.port(25_453, corp.address().port()).start().unwrap();
    let address = envoy.address(1053).unwrap();
    for transport in ["+notcp", "+tcp"] {
        let ask = |name: &str| Dig::new(address, name, "A").args(&[transport]).run().unwrap();
        assert_eq!(ask("www.example").short(), ["10.0.0.1"], "{transport}");
        assert_eq!(ask("www.corp.example").short(), ["10.0.0.2"], "{transport}");
        for name in ["ads.example", "x.ads.example"] {
            assert_eq!(ask(name).status(), rcode, "{transport}: {name}");
        }
    }
    assert_eq!((resolver.count("ads.example."), resolver.count("x.ads.example.")), (0, 0));
    let refused = envoy.access_log_entry(|entry| entry["code"] == status).unwrap();
    assert!(refused["authority"].as_str().unwrap().ends_with("ads.example"), "{refused}");
    expect_healthy(&mut envoy).unwrap();
}
