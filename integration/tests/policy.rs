//! Envoy's own routes, filters and clusters decide about MQTT sessions, as `envoy-configs/mqtt.yaml` says.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::process::Command;
use std::time::Duration;

use integration::broker::Mosquitto as Broker;
use integration::client::Mosquitto;
use integration::ports::free_port;
use integration::root;
use integration::setup::{Setup, bridge_config, expect_healthy, limited_config, port};
use integration::wire::{Client, Connect, VERSIONS, Version};

/// The CONNACK code by version: 5.0's reason code, 3.1.1's return code.
fn code(version: Version, v5: u8, v3: u8) -> u8 {
    if version == Version::V5 { v5 } else { v3 }
}

/// A CONNECT is answered with this CONNACK code, and the connection closed after it.
fn expect_refusal(address: std::net::SocketAddr, connect: &Connect, code: u8) {
    let (mut client, connack) = Client::connect(address, connect).unwrap();
    assert_eq!(connack.connack_code().unwrap(), code, "{connack:02x?}");
    assert!(!connack.session_present());
    assert_eq!(client.read_to_close(Duration::from_secs(5)).unwrap(), b"");
}

fn make_certificates() {
    let status = Command::new(root().join("scripts/dev-certs")).status().unwrap();
    assert!(status.success());
}

#[test]
fn users_named_eu_go_to_the_second_broker_and_others_to_the_first() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        for (user, id) in [("eu-anna", "anna"), ("us-bob", "bob"), ("neu-eu-", "carl")] {
            let id = format!("{id}-{version:?}");
            let connect = Connect::new(version, &id).user(user).password("x");
            Client::session(address, &connect).unwrap().disconnect().unwrap();
            assert_eq!(setup.eu.has_seen(&id), user == "eu-anna", "{user}");
            assert_eq!(setup.broker.has_seen(&id), user != "eu-anna", "{user}");
        }
        let nobody = Connect::new(version, &format!("nobody-{version:?}"));
        Client::session(address, &nobody).unwrap().disconnect().unwrap();
        assert!(setup.broker.has_seen(&format!("nobody-{version:?}")));
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_client_always_reaches_the_same_one_of_two_brokers() {
    let brokers = [Broker::start().unwrap(), Broker::start().unwrap()];
    let mut envoy = bridge_config()
        .unwrap()
        .port(port::BROKER, brokers[0].port())
        .port(port::BROKER_2, brokers[1].port())
        .start()
        .unwrap();
    let address = envoy.address(port::MQTT).unwrap();
    let mut at_first = 0;
    for n in 0..40 {
        let id = format!("sticky-{n}");
        for _ in 0..3 {
            let connect = Connect::new(Version::V5, &id);
            Client::session(address, &connect).unwrap().disconnect().unwrap();
        }
        let seen = brokers.each_ref().map(|broker| broker.has_seen(&id));
        assert!(seen[0] != seen[1], "{id} was seen by {seen:?}");
        at_first += usize::from(seen[0]);
    }
    assert!((5..=35).contains(&at_first), "the first broker has {at_first} of 40 clients");
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn connects_above_the_limit_per_address_are_refused() {
    let limit = "token_bucket: {max_tokens: 3, tokens_per_fill: 1, fill_interval: 3600s}";
    let mut setup = Setup::start(limited_config(limit).unwrap()).unwrap();
    let address = setup.mqtt().unwrap();
    let mut accepted = Vec::new();
    for n in 0..3 {
        let connect = Connect::new(VERSIONS[n % 2], &format!("in-{n}"));
        accepted.push(Client::session(address, &connect).unwrap());
    }
    for version in VERSIONS {
        expect_refusal(address, &Connect::new(version, "late"), code(version, 0x9F, 0x03));
    }
    let said = Mosquitto::publisher(address.port(), Version::V5, "t")
        .args(&["-m", "x"])
        .run_refused()
        .unwrap();
    assert!(said.contains("Connection rate exceeded"), "{said}");
    assert!(!setup.broker.has_seen("late"));
    // Those who are in stay in.
    for client in &mut accepted {
        client.ping().unwrap();
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_denied_user_is_told_not_authorized() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let connect = Connect::new(version, "denied").user("blocked").password("x");
        expect_refusal(address, &connect, code(version, 0x87, 0x05));
        // Only this one: not a name that contains it.
        let other = Connect::new(version, "other").user("blocked-2").password("x");
        Client::session(address, &other).unwrap();
    }
    assert!(!setup.broker.has_seen("denied"));
    let entry = setup.envoy.access_log_entry(|entry| entry["client_id"] == "denied").unwrap();
    assert_eq!(entry["code"], 403);
    assert_eq!(entry["details"], "rbac_access_denied_matched_policy[blocked-user]");
    setup.expect_healthy().unwrap();
}

#[test]
fn without_a_healthy_broker_clients_are_told_unavailable() {
    // Nobody listens on these.
    let mut envoy = bridge_config().unwrap().start().unwrap();
    let address = envoy.address(port::MQTT).unwrap();
    for version in VERSIONS {
        expect_refusal(address, &Connect::new(version, "early"), code(version, 0x88, 0x03));
    }
    let entry = envoy.access_log_entry(|entry| entry["client_id"] == "early").unwrap();
    assert_eq!(entry["code"], 503);
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn a_broker_that_does_not_answer_its_port_is_replaced_by_the_other_one() {
    let broker = Broker::start().unwrap();
    // Believed healthy until the first check fails: Envoy has to find out by connecting.
    let mut envoy = bridge_config()
        .unwrap()
        .replace(
            "health_checks: &tcp_check\n    - timeout: 1s\n      interval: 5s",
            "health_checks: &tcp_check\n    - timeout: 1s\n      interval: 3600s",
        )
        .unwrap()
        .replace("unhealthy_threshold: 2", "unhealthy_threshold: 100")
        .unwrap()
        .port(port::BROKER, broker.port())
        .port(port::BROKER_2, free_port().unwrap())
        .start()
        .unwrap();
    let address = envoy.address(port::MQTT).unwrap();
    for n in 0..20 {
        let connect = Connect::new(Version::V5, &format!("moved-{n}"));
        Client::session(address, &connect).unwrap().disconnect().unwrap();
    }
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn the_brokers_own_refusal_reaches_the_client() {
    let broker = Broker::builder().user("alice", "secret").start().unwrap();
    let mut envoy = bridge_config()
        .unwrap()
        .port(port::BROKER, broker.port())
        .port(port::BROKER_2, broker.port())
        .start()
        .unwrap();
    let address = envoy.address(port::MQTT).unwrap();
    for version in VERSIONS {
        let right = Connect::new(version, "a").user("alice").password("secret");
        Client::session(address, &right).unwrap().ping().unwrap();
        let wrong = Connect::new(version, "a").user("alice").password("guess");
        expect_refusal(address, &wrong, code(version, 0x87, 0x05));
    }
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn a_client_cannot_forge_headers() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    // Would go to Europe if the line break were taken for one; brokers may refuse control characters.
    let forged = Connect::new(Version::V5, "forger\r\nx-mqtt-username: eu-forger\r\n");
    if let Ok(mut client) = Client::open(address, Version::V5) {
        client.send(&forged.encode()).unwrap();
        let _ = client.receive();
    }
    assert!(!setup.eu.log().contains("forger"));

    let odd = Connect::new(Version::V3, "a b%c\u{e9}").user("n\u{fc}ll, \"x\"").password("x");
    Client::session(address, &odd).unwrap().disconnect().unwrap();
    let entry =
        setup.envoy.access_log_entry(|entry| entry["client_id"] == "a%20b%25c%C3%A9").unwrap();
    let username = entry["username"].as_str().unwrap();
    assert!(username.starts_with("n%C3%BCll"), "{username}");
    setup.expect_healthy().unwrap();
}

#[test]
fn tls_works_with_and_without_a_client_certificate() {
    make_certificates();
    let mut setup = Setup::bridge().unwrap();
    let port = setup.envoy.port(port::TLS).unwrap();
    for version in VERSIONS {
        for certificate in [None, Some("device-1")] {
            let topic = format!("tls/{version:?}/{certificate:?}");
            let mut subscriber = Mosquitto::subscriber(port, version, &topic)
                .tls(certificate)
                .start_subscribed()
                .unwrap();
            let id = format!("tls-{version:?}-{}", certificate.unwrap_or("none"));
            Mosquitto::publisher(port, version, &topic)
                .args(&["-i", &id, "-q", "1", "-m", "over tls"])
                .tls(certificate)
                .run()
                .unwrap();
            let messages = subscriber.wait_for_messages(1).unwrap();
            assert_eq!(messages, [format!("{topic} over tls")]);

            let entry = setup.envoy.access_log_entry(|entry| entry["client_id"] == *id).unwrap();
            assert_eq!(entry["sni"], "localhost");
            let peer = certificate.map(|_| "spiffe://mqtt.example/region/us/device/device-1");
            assert_eq!(entry["tls_peer"].as_str(), peer);
        }
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_route_follows_the_certificates_san() {
    make_certificates();
    let mut setup = Setup::bridge().unwrap();
    let port = setup.envoy.port(port::TLS).unwrap();
    for (certificate, expected) in [("device-eu", "eu-by-certificate"), ("device-1", "default")] {
        let id = format!("by-{certificate}");
        Mosquitto::publisher(port, Version::V5, "t")
            .args(&["-i", &id, "-m", "x"])
            .tls(Some(certificate))
            .run()
            .unwrap();
        assert_eq!(setup.eu.has_seen(&id), certificate == "device-eu");
        let entry = setup.envoy.access_log_entry(|entry| entry["client_id"] == *id).unwrap();
        assert_eq!(entry["route"], expected);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_revoked_certificate_is_denied() {
    make_certificates();
    let mut setup = Setup::bridge().unwrap();
    let port = setup.envoy.port(port::TLS).unwrap();
    for version in VERSIONS {
        let said = Mosquitto::publisher(port, version, "t")
            .args(&["-i", "revoked-client", "-m", "x"])
            .tls(Some("revoked"))
            .run_refused()
            .unwrap();
        assert!(said.to_lowercase().contains("not authori"), "{said}");
    }
    assert!(!setup.broker.has_seen("revoked-client"));
    setup.expect_healthy().unwrap();
}

#[test]
fn a_certificate_of_another_ca_is_turned_away_in_the_handshake() {
    make_certificates();
    let mut setup = Setup::bridge().unwrap();
    let stranger = setup.broker.process.dir().join("stranger");
    let (key, crt) = (stranger.with_extension("key"), stranger.with_extension("crt"));
    let openssl = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "1", "-subj", "/CN=stranger", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&crt)
        .output()
        .unwrap();
    assert!(openssl.status.success(), "{openssl:?}");
    Mosquitto::publisher(setup.envoy.port(port::TLS).unwrap(), Version::V5, "t")
        .args(&["-i", "stranger", "-m", "x"])
        .tls(None)
        .args(&["--cert", &crt.to_string_lossy(), "--key", &key.to_string_lossy()])
        .run_refused()
        .unwrap();
    assert!(!setup.broker.has_seen("stranger"));
    setup.expect_healthy().unwrap();
}
