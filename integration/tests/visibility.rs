//! What an operator sees: access logs and metrics, in both modes; and that observing changes nothing.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use integration::client::Mosquitto;
use integration::envoy::{Config, Envoy};
use integration::eventually;
use integration::ports::free_port;
use integration::setup::{Setup, bridge_config, expect_healthy, port};
use integration::wire::{Client, Connect, VERSIONS, Version, publish};

/// Waits until a metric has a value: the filter reports about once a second.
fn expect_metric(envoy: &Envoy, name: &str, labels: &[(&str, &str)], expected: f64) {
    let mut last = None;
    let reached = eventually("a metric", || {
        last = envoy.metric(name, labels)?;
        Ok((last == Some(expected)).then_some(()))
    });
    assert!(reached.is_ok(), "{name}{labels:?} is {last:?}, not {expected}");
}

/// One session with something of everything, and what the metrics say of it.
fn expect_traffic_is_counted(setup: &mut Setup, mode: &str) {
    let address = setup.mqtt().unwrap();
    // A dot would end the label's value in Envoy's name of the metric.
    for (version, name) in [(Version::V3, "3_1_1"), (Version::V5, "5_0")] {
        let mut client = Client::session(address, &Connect::new(version, name)).unwrap();
        client.subscribe(&["seen"], 0).unwrap();
        for qos in 0..3 {
            client.send(&publish(version, "unseen", b"x", qos, 7)).unwrap();
        }
        client.expect(0x40).unwrap();
        client.expect(0x50).unwrap();
        client.publish("seen", b"x", 0).unwrap();
        client.receive_publish().unwrap();
        client.ping().unwrap();
        expect_metric(&setup.envoy, "mqtt_sessions_active", &[("mode", mode)], 1.0);
        client.disconnect().unwrap();
        let labels = [("mode", mode), ("version", name)];
        expect_metric(&setup.envoy, "mqtt_sessions_total", &labels, 1.0);
        expect_metric(&setup.envoy, "mqtt_sessions_active", &[("mode", mode)], 0.0);
    }
    let packets = [
        ("from_client", "connect", 2.0),
        ("to_client", "connack", 2.0),
        ("from_client", "subscribe", 2.0),
        ("to_client", "suback", 2.0),
        ("from_client", "publish", 8.0),
        ("to_client", "publish", 2.0),
        ("to_client", "puback", 2.0),
        ("to_client", "pubrec", 2.0),
        ("from_client", "pingreq", 2.0),
        ("to_client", "pingresp", 2.0),
        ("from_client", "disconnect", 2.0),
    ];
    for (direction, kind, expected) in packets {
        let labels = [("direction", direction), ("type", kind)];
        expect_metric(&setup.envoy, "mqtt_packets_total", &labels, expected);
    }
    for (qos, expected) in [("0", 4.0), ("1", 2.0), ("2", 2.0)] {
        let labels = [("direction", "from_client"), ("type", "publish"), ("qos", qos)];
        expect_metric(&setup.envoy, "mqtt_packets_total", &labels, expected);
    }
    expect_metric(&setup.envoy, "mqtt_connack_total", &[("source", "broker")], 2.0);
    expect_metric(&setup.envoy, "mqtt_disconnect_total", &[("direction", "from_client")], 2.0);
    for direction in ["from_client", "to_client"] {
        let bytes = setup.envoy.metric("mqtt_bytes_total", &[("direction", direction)]).unwrap();
        assert!(bytes.unwrap() > 20.0);
    }
    expect_metric(&setup.envoy, "mqtt_connections_closed_total", &[], 2.0);
    setup.expect_healthy().unwrap();
}

#[test]
fn the_bridge_counts_sessions_packets_and_reasons_with_labels() {
    expect_traffic_is_counted(&mut Setup::bridge().unwrap(), "bridge");
}

#[test]
fn observe_counts_sessions_packets_and_reasons_with_labels() {
    expect_traffic_is_counted(&mut Setup::observe().unwrap(), "observe");
}

#[test]
fn the_bridge_counts_the_bytes_of_the_session_exactly() {
    let mut setup = Setup::bridge().unwrap();
    let connect = Connect::new(Version::V3, "bytes");
    let mut client = Client::session(setup.mqtt().unwrap(), &connect).unwrap();
    let message = publish(Version::V3, "bytes", &[0; 100_000], 1, 1);
    client.send(&message).unwrap();
    client.expect(0x40).unwrap();
    let sent = connect.encode().len() + message.len();
    #[expect(clippy::cast_precision_loss)]
    let sent = sent as f64;
    expect_metric(&setup.envoy, "mqtt_bytes_total", &[("direction", "from_client")], sent);
    // CONNACK and PUBACK of 3.1.1.
    expect_metric(&setup.envoy, "mqtt_bytes_total", &[("direction", "to_client")], 8.0);
    setup.expect_healthy().unwrap();
}

#[test]
fn a_refusal_and_a_decode_error_are_counted_by_reason() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    let blocked = Connect::new(Version::V5, "x").user("blocked");
    let (mut client, _) = Client::connect(address, &blocked).unwrap();
    client.read_to_close(Duration::from_secs(5)).unwrap();
    expect_metric(&setup.envoy, "mqtt_connack_total", &[("source", "filter")], 1.0);

    let mut client = Client::open(address, Version::V5).unwrap();
    client.send(b"POST / HTTP/1.1\r\n\r\n").unwrap();
    client.read_to_close(Duration::from_secs(5)).unwrap();
    let labels = [("direction", "from_client")];
    expect_metric(&setup.envoy, "mqtt_decode_errors_total", &labels, 1.0);
    setup.expect_healthy().unwrap();
}

#[test]
fn the_access_log_says_who_connected_where_and_how_it_went() {
    let mut setup = Setup::bridge().unwrap();
    for (version, name) in [(Version::V3, "3.1.1"), (Version::V5, "5.0")] {
        let id = format!("logged-{name}");
        let connect = Connect::new(version, &id).user("eu-ed").password("secret");
        let mut client = Client::session(setup.mqtt().unwrap(), &connect).unwrap();
        client.ping().unwrap();
        client.disconnect().unwrap();
        let entry = setup.envoy.access_log_entry(|entry| entry["client_id"] == *id).unwrap();
        assert_eq!(entry["username"], "eu-ed");
        assert_eq!(entry["version"], name);
        assert_eq!(entry["route"], "eu-by-username");
        assert_eq!(entry["code"], 200);
        assert_eq!(entry["upstream"], setup.eu.address().to_string());
        assert!(entry["bytes_from_client"].as_u64().unwrap() >= connect.encode().len() as u64);
        assert!(entry["bytes_to_client"].as_u64().unwrap() >= 6);
        assert!(entry["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    assert!(!setup.envoy.process.stdout().contains("secret"));
    setup.expect_healthy().unwrap();
}

#[test]
fn verdicts_limits_and_latencies_are_counted_and_messages_are_in_the_access_log() {
    let rules = "max_buffered_size: 65536
                rules: [{topic_filters: [checked/#], carry: check, verdict_cache: 60s}]
                rate_limits: [{messages: {per_second: 1, burst: 3}, exceeded: reject}]";
    let config = bridge_config().unwrap().replace("max_buffered_size: 65536", rules).unwrap();
    let mut setup = Setup::start(config).unwrap();
    let connect = Connect::new(Version::V5, "seen").user("anna").password("x");
    let mut client = Client::session(setup.mqtt().unwrap(), &connect).unwrap();
    // No route is made for messages there: 404, which is "Topic Name invalid". Once asked, and once remembered.
    for _ in 0..2 {
        client.send(&publish(Version::V5, "checked/a b", b"x", 1, 1)).unwrap();
        assert_eq!(client.expect(0x40).unwrap().body, [0, 1, 0x90, 0][..3]);
    }
    client.publish("free", b"x", 1).unwrap();
    client.send(&publish(Version::V5, "free", b"x", 1, 2)).unwrap();
    assert_eq!(client.expect(0x40).unwrap().body[2], 0x97);
    let envoy = &setup.envoy;
    for source in ["asked", "cached"] {
        let labels = [("packet", "publish"), ("verdict", "refused"), ("source", source)];
        expect_metric(envoy, "mqtt_verdicts_total", &labels, 1.0);
    }
    let labels = [("limit", "rate"), ("action", "reject")];
    expect_metric(envoy, "mqtt_limited_total", &labels, 1.0);
    expect_metric(envoy, "mqtt_check_microseconds_count", &[], 1.0);
    let entry = setup.envoy.access_log_entry(|entry| entry["carry"] == "check").unwrap();
    assert_eq!((&entry["method"], &entry["path"]), (&"POST".into(), &"/checked/a%20b".into()));
    assert_eq!((&entry["client_id"], &entry["username"]), (&"seen".into(), &"anna".into()));
    assert_eq!(entry["code"], 404);
    client.disconnect().unwrap();
    let entry = setup.envoy.access_log_entry(|entry| entry["carry"] == "flow").unwrap();
    assert_eq!((&entry["method"], &entry["path"]), (&"POST".into(), &"/".into()));
    setup.expect_healthy().unwrap();
}

#[test]
fn observe_gives_client_user_and_version_to_the_access_log() {
    let mut setup = Setup::observe().unwrap();
    for (version, name) in [(Version::V3, "3.1.1"), (Version::V5, "5.0")] {
        let id = format!("logged-{name}");
        let connect = Connect::new(version, &id).user("ed").password("secret");
        let mut client = Client::session(setup.mqtt().unwrap(), &connect).unwrap();
        client.ping().unwrap();
        client.disconnect().unwrap();
        let entry = setup.envoy.access_log_entry(|entry| entry["client_id"] == *id).unwrap();
        assert_eq!((&entry["username"], &entry["version"]), (&"ed".into(), &name.into()));
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn observe_picks_the_cluster_by_user_name_or_client_identifier() {
    let mut setup = Setup::observe().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let name = |id: &str| format!("{id}-{version:?}");
        let by_user = Connect::new(version, &name("a")).user("eu-anna").password("x");
        let by_id = Connect::new(version, &name("eu-b"));
        let neither = Connect::new(version, &name("c")).user("us-carl").password("x");
        for connect in [by_user, by_id, neither] {
            Client::session(address, &connect).unwrap().ping().unwrap();
        }
        assert!(setup.eu.has_seen(&name("a")) && setup.eu.has_seen(&name("eu-b")));
        assert!(setup.broker.has_seen(&name("c")) && !setup.eu.has_seen(&name("c")));
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn mosquitto_clients_of_both_versions_work_while_being_observed() {
    let mut setup = Setup::observe().unwrap();
    let port = setup.envoy.port(port::MQTT).unwrap();
    for version in VERSIONS {
        let topic = format!("observed/{version:?}");
        let mut subscriber = Mosquitto::subscriber(port, version, &topic)
            .args(&["-q", "2"])
            .start_subscribed()
            .unwrap();
        Mosquitto::publisher(port, version, &topic)
            .args(&["-q", "2", "-m", "hello"])
            .run()
            .unwrap();
        assert_eq!(subscriber.wait_for_messages(1).unwrap(), [format!("{topic} hello")]);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn observe_leaves_every_byte_as_it_is_whatever_it_is() {
    // Instead of a broker: sends back what it gets, until the end.
    let echo = TcpListener::bind(("127.0.0.1", free_port().unwrap())).unwrap();
    let echo_port = echo.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in echo.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut back = stream.try_clone().unwrap();
                // Health checks just close.
                let _ = std::io::copy(&mut stream, &mut back);
                let _ = back.shutdown(Shutdown::Write);
            });
        }
    });
    let config = Config::from_file("envoy-configs/mqtt-observe.yaml").unwrap();
    let mut envoy =
        config.port(port::BROKER, echo_port).port(port::BROKER_2, echo_port).start().unwrap();

    let mut session = Connect::new(Version::V5, "bytes").encode();
    for n in 0..2_000 {
        session.extend(publish(Version::V5, "t", &vec![n as u8; n], (n % 3) as u8, 1));
    }
    let mut broken = Connect::new(Version::V5, "broken").encode();
    broken.extend((0..100_000_u32).map(|n| ((n * 7) >> 3) as u8));
    let garbage = (0..100_000_u32).map(|n| ((n * 31) >> 2) as u8).collect();
    for (name, bytes) in [("session", session), ("broken", broken), ("garbage", garbage)] {
        let stream = TcpStream::connect(envoy.address(port::MQTT).unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let sent = bytes.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        (&stream).read_to_end(&mut received).unwrap();
        writing.join().unwrap();
        assert!(received == bytes, "{name}: {} of {} bytes", received.len(), bytes.len());
    }
    expect_healthy(&mut envoy).unwrap();
}
