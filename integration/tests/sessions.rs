//! MQTT sessions through the bridge are what they are without it.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::thread;
use std::time::Duration;

use integration::client::Mosquitto;
use integration::setup::{Setup, auto_config, port};
use integration::wire::{
    Client, Connect, DISCONNECT, PINGREQ, VERSIONS, publish, publish_retained, subscribe,
};
use integration::{PATIENCE, eventually};

/// Payloads in which a displaced or repeated byte shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

#[test]
fn mosquitto_clients_of_both_versions_exchange_messages_at_every_qos() {
    let mut setup = Setup::bridge().unwrap();
    let port = setup.envoy.port(port::MQTT).unwrap();
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let topic = format!("{version:?}/{qos}");
            let mut subscriber = Mosquitto::subscriber(port, version, &topic)
                .args(&["-q", qos])
                .start_subscribed()
                .unwrap();
            Mosquitto::publisher(port, version, &topic)
                .args(&["-q", qos, "-m", "hello"])
                .run()
                .unwrap();
            let messages = subscriber.wait_for_messages(1).unwrap();
            assert_eq!(messages, [format!("{topic} hello")]);
        }
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn sessions_over_http_1_1_are_what_they_are_over_http_2() {
    let mut setup = Setup::start(auto_config().unwrap()).unwrap();
    let address = setup.mqtt().unwrap();
    let connections =
        |codec| setup.envoy.stat(&format!("http.mqtt.downstream_cx_{codec}_total")).unwrap();
    for version in VERSIONS {
        let mut subscriber = Client::session(address, &Connect::new(version, "sub")).unwrap();
        subscriber.subscribe(&["q/#"], 2).unwrap();
        let mut publisher = Client::session(address, &Connect::new(version, "pub")).unwrap();
        for qos in 0..3 {
            for size in [0, 128, 16_384, 65_536, 4 << 20] {
                let (topic, payload) = (format!("q/{qos}"), pattern(size));
                publisher.publish(&topic, &payload, qos).unwrap();
                let received = subscriber.receive_publish().unwrap();
                assert!(received == (topic, payload), "{version:?}, QoS {qos}, {size} bytes");
            }
        }
        // A refusal is one.
        let nobody = Connect::new(version, "nobody").user("blocked");
        let (mut refused, connack) = Client::connect(address, &nobody).unwrap();
        assert_ne!(connack.connack_code().unwrap(), 0);
        assert!(refused.read_to_close(PATIENCE).unwrap().is_empty());
        // Told nothing, but closed, and nobody else is.
        publisher.send(&[0xf0, 0xff, 0xff, 0xff, 0xff]).unwrap();
        publisher.read_to_close(PATIENCE).unwrap();
        subscriber.ping().unwrap();
        subscriber.send(&DISCONNECT).unwrap();
        assert!(subscriber.read_to_close(PATIENCE).unwrap().is_empty());
    }
    assert_eq!((connections("http1"), connections("http2")), (6, 0));
    // What is refused before there is a session is told why over HTTP/2, which can be asked for a turn.
    let mut nobody = Client::open(address, VERSIONS[0]).unwrap();
    nobody.send(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 60, 0, 0]).unwrap();
    assert_eq!(nobody.expect(0x20).unwrap().connack_code().unwrap(), 0x84);
    assert_eq!((connections("http1"), connections("http2")), (6, 1));
    setup.expect_healthy().unwrap();
}

#[test]
fn every_qos_keeps_its_acknowledgements_in_both_directions() {
    let mut setup = Setup::bridge().unwrap();
    for version in VERSIONS {
        let address = setup.mqtt().unwrap();
        let mut subscriber = Client::session(address, &Connect::new(version, "sub")).unwrap();
        let granted = subscriber.subscribe(&["q/#"], 2).unwrap();
        assert_eq!(granted.body.last(), Some(&2));
        let mut publisher = Client::session(address, &Connect::new(version, "pub")).unwrap();
        for qos in 0..3 {
            let topic = format!("q/{qos}");
            publisher.publish(&topic, b"payload", qos).unwrap();
            let received = subscriber.receive_publish().unwrap();
            assert_eq!(received, (topic, b"payload".to_vec()));
        }
        publisher.disconnect().unwrap();
        subscriber.disconnect().unwrap();
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn payloads_from_nothing_to_eight_megabytes_arrive_unchanged() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut subscriber = Client::session(address, &Connect::new(version, "sub")).unwrap();
        subscriber.subscribe(&["size"], 1).unwrap();
        let mut publisher = Client::session(address, &Connect::new(version, "pub")).unwrap();
        // Around the places where the remaining length takes another byte, where HTTP/2 starts another frame, and
        // where its first window ends.
        for size in [0, 1, 110, 128, 16_370, 16_384, 65_535, 65_536, 1 << 20, 8 << 20] {
            let payload = pattern(size);
            publisher.publish("size", &payload, 1).unwrap();
            let (_, received) = subscriber.receive_publish().unwrap();
            assert_eq!(received.len(), size);
            assert!(received == payload, "a payload of {size} bytes arrived changed");
        }
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_will_is_published_when_the_client_vanishes_and_only_then() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut subscriber = Client::session(address, &Connect::new(version, "heir")).unwrap();
        subscriber.subscribe(&["will/#"], 1).unwrap();

        let polite = Connect::new(version, "polite").will("will/polite", b"gone", 1);
        Client::session(address, &polite).unwrap().disconnect().unwrap();
        let rude = Connect::new(version, "rude").will("will/rude", b"gone", 1);
        drop(Client::session(address, &rude).unwrap());

        let will = subscriber.receive_publish().unwrap();
        assert_eq!(will, ("will/rude".to_owned(), b"gone".to_vec()));
        assert!(subscriber.is_quiet_for(Duration::from_millis(300)).unwrap());
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_session_is_resumed_with_what_was_queued_for_it() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let name = format!("resumed-{version:?}");
        let connect = Connect::new(version, &name).persistent();
        let (mut client, connack) = Client::connect(address, &connect).unwrap();
        assert!(!connack.session_present());
        client.subscribe(&["queue"], 1).unwrap();
        client.disconnect().unwrap();
        let left = format!("Client {name} disconnected");
        eventually("the broker to see the client leave", || {
            Ok(setup.broker.log().contains(&left).then_some(()))
        })
        .unwrap();

        let mut publisher = Client::session(address, &Connect::new(version, "pub")).unwrap();
        publisher.publish("queue", b"kept", 1).unwrap();

        let (mut client, connack) = Client::connect(address, &connect).unwrap();
        assert!(connack.session_present());
        assert_eq!(client.receive_publish().unwrap().1, b"kept");
        client.disconnect().unwrap();
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_retained_message_reaches_a_later_subscriber() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let topic = format!("retained/{version:?}");
        let mut publisher = Client::session(address, &Connect::new(version, "pub")).unwrap();
        publisher.send(&publish_retained(version, &topic, b"state", 1, 9)).unwrap();
        publisher.expect(0x40).unwrap();
        publisher.disconnect().unwrap();

        let mut subscriber = Client::session(address, &Connect::new(version, "sub")).unwrap();
        subscriber.subscribe(&[&topic], 0).unwrap();
        let packet = subscriber.receive().unwrap();
        let message = packet.publish(version).unwrap();
        assert!(message.retain);
        assert_eq!((message.topic, message.payload), (topic.as_str(), &b"state"[..]));
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn two_hundred_subscriptions_each_get_their_message() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut subscriber = Client::session(address, &Connect::new(version, "sub")).unwrap();
        // Half of them one by one without waiting, half of them in one packet.
        let topics: Vec<String> = (0..200).map(|n| format!("many/{n}")).collect();
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        for (id, name) in (1..).zip(&names[..100]) {
            subscriber.send(&subscribe(version, id, &[name], 1)).unwrap();
        }
        subscriber.send(&subscribe(version, 500, &names[100..], 1)).unwrap();
        for id in (1..101).chain([500]) {
            assert_eq!(subscriber.expect(0x90).unwrap().id().unwrap(), id);
        }

        let mut publisher = Client::session(address, &Connect::new(version, "pub")).unwrap();
        for name in &names {
            publisher.publish(name, name.as_bytes(), 1).unwrap();
        }
        for name in &names {
            let (topic, payload) = subscriber.receive_publish().unwrap();
            assert_eq!((topic.as_str(), payload.as_slice()), (*name, name.as_bytes()));
        }
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_connect_sent_byte_by_byte_is_understood() {
    let mut setup = Setup::bridge().unwrap();
    for version in VERSIONS {
        let connect = Connect::new(version, "slow").user("u").password("p").will("w", b"x", 0);
        let mut client = Client::open(setup.mqtt().unwrap(), version).unwrap();
        for byte in connect.encode() {
            client.send(&[byte]).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(client.receive().unwrap().connack_code().unwrap(), 0);
        // So are the packets after it.
        for byte in publish(version, "slow", b"payload", 1, 3) {
            client.send(&[byte]).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(client.expect(0x40).unwrap().id().unwrap(), 3);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn five_hundred_packets_in_one_write_are_all_delivered_in_order() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut subscriber = Client::session(address, &Connect::new(version, "sub")).unwrap();
        subscriber.subscribe(&["burst"], 0).unwrap();
        let mut publisher = Client::session(address, &Connect::new(version, "pub")).unwrap();
        // QoS 1 is limited to what the broker takes at once; QoS 0 is not.
        let packet = |n: u16| publish(version, "burst", &n.to_be_bytes(), 0, 0);
        let mut burst: Vec<u8> = (0..500).flat_map(packet).collect();
        burst.extend_from_slice(&PINGREQ);
        publisher.send(&burst).unwrap();
        publisher.expect(0xD0).unwrap();
        for n in 0..500_u16 {
            assert_eq!(subscriber.receive_publish().unwrap().1, n.to_be_bytes());
        }
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_client_need_not_wait_for_the_connack() {
    let mut setup = Setup::bridge().unwrap();
    for version in VERSIONS {
        let mut client = Client::open(setup.mqtt().unwrap(), version).unwrap();
        let mut all = Connect::new(version, "hasty").encode();
        all.extend(subscribe(version, 1, &["hasty"], 0));
        all.extend(publish(version, "hasty", b"to myself", 0, 0));
        client.send(&all).unwrap();
        assert_eq!(client.receive().unwrap().connack_code().unwrap(), 0);
        client.expect(0x90).unwrap();
        assert_eq!(client.receive_publish().unwrap().1, b"to myself");
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn the_brokers_keep_alive_still_ends_silent_sessions() {
    let mut setup = Setup::bridge().unwrap();
    for version in VERSIONS {
        let connect = Connect::new(version, "silent").keep_alive(1);
        let mut client = Client::session(setup.mqtt().unwrap(), &connect).unwrap();
        // mosquitto looks every five seconds.
        client.read_to_close(Duration::from_secs(15)).unwrap();
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_disconnect_ends_the_session_at_the_broker_and_closes_the_connection() {
    let mut setup = Setup::bridge().unwrap();
    for version in VERSIONS {
        let name = format!("leaving-{version:?}");
        let mut client =
            Client::session(setup.mqtt().unwrap(), &Connect::new(version, &name)).unwrap();
        client.send(&DISCONNECT).unwrap();
        assert_eq!(client.read_to_close(Duration::from_secs(5)).unwrap(), b"");
        eventually("the broker to see the client leave", || {
            let left = format!("Client {name} disconnected");
            Ok(setup.broker.log().contains(&left).then_some(()))
        })
        .unwrap();
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_thousand_concurrent_sessions_work_side_by_side() {
    const SESSIONS: usize = 1_000;
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    let mut clients: Vec<Client> = (0..SESSIONS)
        .map(|n| {
            let version = VERSIONS[n % 2];
            Client::session(address, &Connect::new(version, &format!("c{n}"))).unwrap()
        })
        .collect();
    let gauge = |expected: f64| {
        eventually("the gauge of active sessions", || {
            let active = setup.envoy.metric("mqtt_sessions_active", &[("mode", "bridge")])?;
            Ok((active == Some(expected)).then_some(()))
        })
        .unwrap();
    };
    gauge(1_000.0);
    for (n, client) in clients.iter_mut().enumerate() {
        client.subscribe(&[&format!("own/{n}")], 1).unwrap();
    }
    // Each sends to its neighbour, all before any of them reads.
    for (n, client) in clients.iter_mut().enumerate() {
        let topic = format!("own/{}", (n + 1) % SESSIONS);
        client.send(&publish(VERSIONS[n % 2], &topic, topic.as_bytes(), 0, 0)).unwrap();
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let (topic, payload) = client.receive_publish().unwrap();
        assert_eq!((topic, payload), (format!("own/{n}"), format!("own/{n}").into_bytes()));
    }
    drop(clients);
    gauge(0.0);
    setup.expect_healthy().unwrap();
}

#[test]
fn rumqttc_of_version_3_1_1_works_unchanged() {
    use rumqttc::{Event, MqttOptions, Packet, QoS};
    const MESSAGES: usize = 100;

    let mut setup = Setup::bridge().unwrap();
    let mut options =
        MqttOptions::new("rumqttc-4", "127.0.0.1", setup.envoy.port(port::MQTT).unwrap());
    options.set_max_packet_size(1 << 20, 1 << 20);
    options.set_credentials("user", "password");
    let (client, mut connection) = rumqttc::Client::new(options, 10);
    // Not QoS 2, at which this client of rumqttc loses messages without Envoy, too.
    client.subscribe("rumqttc/#", QoS::AtLeastOnce).unwrap();
    let publisher = thread::spawn(move || {
        for n in 0..MESSAGES {
            client.publish("rumqttc/4", QoS::AtLeastOnce, false, pattern(n * 100)).unwrap();
        }
        client
    });
    let mut received = 0;
    for event in connection.iter() {
        if let Event::Incoming(Packet::Publish(publish)) = event.unwrap() {
            assert_eq!(publish.payload, pattern(received * 100));
            received += 1;
            if received == MESSAGES {
                break;
            }
        }
    }
    publisher.join().unwrap().disconnect().unwrap();
    setup.expect_healthy().unwrap();
}

#[test]
fn rumqttc_of_version_5_works_unchanged() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
    use rumqttc::v5::{Client, Event, MqttOptions};
    const MESSAGES: usize = 100;

    let mut setup = Setup::bridge().unwrap();
    let mut options =
        MqttOptions::new("rumqttc-5", "127.0.0.1", setup.envoy.port(port::MQTT).unwrap());
    options.set_max_packet_size(Some(1 << 20));
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe("rumqttc/#", QoS::ExactlyOnce).unwrap();
    let properties = PublishProperties {
        content_type: Some("text/plain".to_owned()),
        user_properties: vec![("key".to_owned(), "value".to_owned())],
        ..PublishProperties::default()
    };
    let expected = properties.clone();
    let publisher = thread::spawn(move || {
        for n in 0..MESSAGES {
            let (payload, properties) = (pattern(n * 100), properties.clone());
            client
                .publish_with_properties("rumqttc/5", QoS::ExactlyOnce, false, payload, properties)
                .unwrap();
        }
        client
    });
    let mut received = 0;
    for event in connection.iter() {
        if let Event::Incoming(Packet::Publish(publish)) = event.unwrap() {
            assert_eq!(publish.payload, pattern(received * 100));
            assert_eq!(publish.properties.unwrap().user_properties, expected.user_properties);
            received += 1;
            if received == MESSAGES {
                break;
            }
        }
    }
    publisher.join().unwrap().disconnect().unwrap();
    setup.expect_healthy().unwrap();
}

#[test]
fn a_client_that_connects_again_takes_its_session_over() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let connect = Connect::new(version, "same");
        let mut first = Client::session(address, &connect).unwrap();
        let mut second = Client::session(address, &connect).unwrap();
        first.read_to_close(Duration::from_secs(5)).unwrap();
        second.ping().unwrap();
    }
    setup.expect_healthy().unwrap();
}
