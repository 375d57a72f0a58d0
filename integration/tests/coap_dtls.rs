//! CoAP over DTLS, terminated in the filter, with libcoap's clients on OpenSSL and on GnuTLS.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use integration::coap::libcoap::{Client, Output, Tls};
use integration::coap::setup::{self, Setup, port};
use integration::coap::udp;
use integration::coap::{draft::Draft, pattern};
use integration::envoy::Config;
use integration::eventually;
use integration::relay::{Chance, Fate, Relay};
use integration::root;
use serde_json::Value;
use services::web::Web;

const DEVICE_1: [&str; 4] = ["-u", "device-1", "-k", "key-of-device-1!"];

fn client(tls: Tls, port: u16, path: &str) -> Client {
    Client::new(tls, &format!("coaps://127.0.0.1:{port}/{path}"))
}

/// A client that is refused says so, or ends without a word; it gets nothing.
fn expect_refused(client: &Client, what: &str) {
    let got = client.clone().args(&["-B", "4"]).run();
    assert!(got.as_ref().is_err() || got.as_ref().unwrap().payload.is_empty(), "{what}: {got:?}");
}

/// Certificates instead of keys.
fn with_certificates(config: Config, more: &str) -> Config {
    assert!(Command::new(root().join("scripts/dev-certs")).status().unwrap().success());
    let pem = |name: &str| {
        let text = fs::read_to_string(root().join(".build/certs").join(name)).unwrap();
        serde_json::to_string(&text).unwrap()
    };
    let begin = "                  psk:\n                  - {identity: device-1, key: \"6b65792d6f662d6465766963652d3121\"}\n";
    let certificate = format!(
        "                  certificate: {}\n                  private_key: {}\n                  {more}\n{begin}",
        pem("server.crt"),
        pem("server.key"),
    );
    config.replace(begin, &certificate.replace("@CA@", &pem("ca.crt"))).unwrap()
}

#[test]
fn devices_with_a_key_are_served_and_known_by_their_identity() {
    let mut setup = Setup::new().unwrap();
    let web = Web::default();
    let _running = services::start(web, setup.web).unwrap();
    let port = setup.envoy.port(port::TLS).unwrap();
    for tls in Tls::BOTH {
        let ask = |path: &str| client(tls, port, path).args(&DEVICE_1).run().unwrap();
        assert_eq!(ask("small").text().unwrap(), "small", "{tls:?}");
        assert_eq!(ask("slow/600").text().unwrap(), "slow", "{tls:?}");
        assert!(ask("large/20000").payload == pattern(20_000), "{tls:?}");
        let seen: Value = serde_json::from_str(ask("telemetry/x").text().unwrap()).unwrap();
        assert_eq!(seen["headers"]["x-coap-psk-identity"][0], "device-1", "{tls:?}");
        assert_eq!(seen["headers"]["x-forwarded-for"][0], "127.0.0.1", "{tls:?}");
        let observe = client(tls, port, "ticks/20/20").args(&DEVICE_1).args(&["-s", "20"]);
        let all: String = (0..=20).map(|number| number.to_string()).collect();
        observe.start().unwrap().wait_for("20 notifications", |out| out == all.as_bytes()).unwrap();
        for (args, what) in [
            (["-u", "device-1", "-k", "another key"], "another key"),
            (["-u", "device-9", "-k", "key-of-device-1!"], "another identity"),
        ] {
            expect_refused(&client(tls, port, "small").args(&args), what);
        }
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn devices_with_a_certificate_are_served_and_known_by_it() {
    let more = "trusted_ca: @CA@\n                  client_certificates: required";
    let config = with_certificates(setup::config().unwrap(), more);
    let mut setup = Setup::start(config).unwrap();
    let web = Web::default();
    let _running = services::start(web, setup.web).unwrap();
    let port = setup.envoy.port(port::TLS).unwrap();
    for tls in Tls::BOTH {
        let ask = |path: &str| -> Output {
            client(tls, port, path).certificate("device-1").run().unwrap()
        };
        assert_eq!(ask("small").text().unwrap(), "small", "{tls:?}");
        let seen: Value = serde_json::from_str(ask("telemetry/x").text().unwrap()).unwrap();
        let subject = seen["headers"]["x-coap-client-subject"][0].as_str().unwrap();
        assert!(subject.contains("device-1"), "{tls:?} {subject}");
        let without = ["-C", ".build/certs/ca.crt"];
        expect_refused(&client(tls, port, "small").args(&without), "no certificate");
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn handshakes_and_transfers_get_through_loss_and_reordering() {
    let mut setup = Setup::new().unwrap();
    let port = setup.envoy.port(port::TLS).unwrap();
    let delay = Duration::from_millis(60);
    let mut lost = 0;
    for (tls, seed) in [(Tls::OpenSsl, 1), (Tls::GnuTls, 2), (Tls::OpenSsl, 3)] {
        let chance =
            Chance { lost: 5, twice: 10, overtaken: 10, late: 20, delay, ..Chance::new(seed) };
        let relay = Relay::by_chance(setup::own(port), chance).unwrap();
        let ask = client(tls, relay.address().port(), "large/5000").args(&DEVICE_1);
        let output = ask.start().unwrap().wait(Duration::from_secs(60)).unwrap();
        assert!(output.payload == pattern(5_000), "{tls:?} {seed} {}", output.complaint);
        lost += relay.log().iter().filter(|(_, fate)| *fate == Fate::Lost).count();
    }
    assert!(lost > 0, "the seeds lose nothing");
    setup.expect_healthy().unwrap();
}

#[test]
fn what_is_no_record_has_no_answer_and_leaves_no_session() {
    const IDLE: &str = "                  idle_timeout: 600s\n";
    let config = setup::config().unwrap();
    let soon = format!("{IDLE}                  handshake_timeout: 2s\n");
    let mut setup = Setup::start(config.replace(IDLE, &soon).unwrap()).unwrap();
    let address = setup::own(setup.envoy.port(port::TLS).unwrap());
    let client = udp::Client::connect(address).unwrap();
    // CoAP without DTLS, garbage, and the beginning of a ClientHello.
    let hello =
        [&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 1, 0, 0, 200][..], &[0; 28]].concat();
    for datagram in [Draft::get("small").id(1).datagram(), vec![0xff; 1200], vec![], hello] {
        client.send(&datagram).unwrap();
    }
    assert!(client.is_quiet_for(Duration::from_secs(1)).unwrap());
    assert!(setup.server.requests().unwrap().is_empty());
    eventually("the sessions to end", || {
        Ok((setup.envoy.stat("udp.coaps.downstream_sess_active")? == 0).then_some(()))
    })
    .unwrap();
    setup.expect_healthy().unwrap();
}
