//! What happens when clients, brokers and configurations do not behave.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use integration::envoy::{Config, Envoy};
use integration::ports::free_port;
use integration::setup::{Setup, auto_config, bridge_config, expect_healthy, port};
use integration::wire::{
    Client, Connect, DISCONNECT, PINGREQ, VERSIONS, Version, ack, packet, publish, subscribe,
};
use integration::{PATIENCE, eventually};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_broker_that_dies_in_mid_session_closes_the_client() {
    for version in VERSIONS {
        let mut setup = Setup::bridge().unwrap();
        let address = setup.mqtt().unwrap();
        let mut client = Client::session(address, &Connect::new(version, "bereft")).unwrap();
        let elsewhere = Connect::new(version, "elsewhere").user("eu-x").password("x");
        let mut elsewhere = Client::session(address, &elsewhere).unwrap();
        setup.broker.process.kill().unwrap();
        client.read_to_close(SOON).unwrap();

        let (mut late, connack) = Client::connect(address, &Connect::new(version, "late")).unwrap();
        let unavailable = if version == Version::V5 { 0x88 } else { 0x03 };
        assert_eq!(connack.connack_code().unwrap(), unavailable);
        late.read_to_close(SOON).unwrap();
        elsewhere.ping().unwrap();
        setup.expect_healthy().unwrap();
    }
}

#[test]
fn a_broker_that_closes_mid_packet_closes_the_client_after_what_it_sent() {
    // A CONNACK, half a PUBLISH, the end.
    let half = &publish(Version::V3, "half", &[b'x'; 1000], 0, 0)[..500];
    let said = [&[0x20, 2, 0, 0], half].concat();
    let broker = scripted_broker(move |mut stream| {
        read_connect(&mut stream);
        stream.write_all(&said).unwrap();
    });
    let mut envoy = envoy_in_front_of(bridge_config().unwrap(), broker);
    let address = envoy.address(port::MQTT).unwrap();
    let mut client = Client::session(address, &Connect::new(Version::V3, "c")).unwrap();
    assert_eq!(client.read_to_close(SOON).unwrap(), half);
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn all_that_was_sent_before_a_disconnect_reaches_the_broker() {
    ends_without_loss(bridge_config(), true, |client| client.send(&DISCONNECT).unwrap());
    ends_without_loss(auto_config(), true, |client| client.send(&DISCONNECT).unwrap());
}

#[test]
fn all_that_was_sent_before_a_fin_reaches_the_broker() {
    ends_without_loss(bridge_config(), true, |client| client.finish().unwrap());
    ends_without_loss(auto_config(), true, |client| client.finish().unwrap());
}

#[test]
fn all_that_was_sent_before_a_disconnect_reaches_the_broker_even_before_its_connack() {
    ends_without_loss(bridge_config(), false, |client| client.send(&DISCONNECT).unwrap());
}

/// A client connects, publishes a lot and leaves, waiting for nothing but its CONNACK, if for that; nothing of it may be
/// missing.
fn ends_without_loss(
    config: anyhow::Result<Config>,
    wait_for_connack: bool,
    end: impl Fn(&mut Client),
) {
    let mut setup = Setup::start(config.unwrap()).unwrap();
    let address = setup.mqtt().unwrap();
    for (round, version) in (0..20).zip(VERSIONS.into_iter().cycle()) {
        let mut subscriber = Client::session(address, &Connect::new(version, "sub")).unwrap();
        subscriber.subscribe(&["last"], 0).unwrap();

        let payload = vec![b'x'; if round < 10 { 10 } else { 20_000 }];
        let messages = publish(version, "last", &payload, 0, 0).repeat(50);
        let mut leaver = Client::open(address, version).unwrap();
        let connect = Connect::new(version, "leaver").encode();
        if wait_for_connack {
            leaver.send(&connect).unwrap();
            leaver.expect(0x20).unwrap();
            leaver.send(&messages).unwrap();
        } else {
            leaver.send(&[connect, messages].concat()).unwrap();
        }
        end(&mut leaver);
        for n in 0..50 {
            let received = subscriber.receive_publish();
            assert!(received.is_ok(), "round {round}: only {n} of 50 messages arrived");
        }
        leaver.read_to_close(SOON).unwrap();
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn no_acknowledged_message_is_lost_when_the_publisher_closes_at_once() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for (round, version) in (0..20).zip(VERSIONS.into_iter().cycle()) {
        // Of its own: what was not acknowledged in the last round may still come.
        let topic = format!("acked/{round}");
        let mut subscriber = Client::session(address, &Connect::new(version, "sub")).unwrap();
        subscriber.subscribe(&[&*topic], 0).unwrap();
        let mut publisher = Client::session(address, &Connect::new(version, "pub")).unwrap();
        for id in 1..=20 {
            publisher.send(&publish(version, &topic, &[id as u8; 100], 1, id)).unwrap();
        }
        let acknowledged = round % 10 + 1;
        for id in 1..=acknowledged {
            assert_eq!(publisher.expect(0x40).unwrap().id().unwrap(), id);
        }
        drop(publisher);
        for id in 1..=acknowledged {
            assert_eq!(subscriber.receive_publish().unwrap().1, [id as u8; 100]);
        }
    }
    setup.expect_healthy().unwrap();
}

/// A broker that is a function, for each connection that says something; health checks do not.
fn scripted_broker(script: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", free_port().unwrap())).unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, script) = (stream.unwrap(), Arc::clone(&script));
            thread::spawn(move || {
                if stream.peek(&mut [0]).is_ok_and(|count| count > 0) {
                    script(stream);
                }
            });
        }
    });
    address
}

fn read_connect(stream: &mut TcpStream) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    stream.read_exact(&mut vec![0; head[1].into()]).unwrap();
}

fn envoy_in_front_of(config: Config, broker: SocketAddr) -> Envoy {
    let config = config.port(port::BROKER, broker.port()).port(port::BROKER_2, broker.port());
    config.start().unwrap()
}

/// How much Envoy may hold of one stalled session: buffers and windows on both sides of it, and copies between them.
const MOST_HELD: u64 = 24 << 20;
/// And the kernel's socket buffers, two pairs of them.
const MOST_UNDERWAY: u64 = MOST_HELD + (24 << 20);

/// Waits until a count has stopped growing.
fn settled(count: &AtomicU64) -> u64 {
    let mut last = (count.load(Ordering::Relaxed), Instant::now());
    loop {
        thread::sleep(Duration::from_millis(50));
        let now = count.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        } else if now > 0 && last.1.elapsed() > Duration::from_millis(1500) {
            return now;
        }
    }
}

#[test]
fn a_subscriber_that_stops_reading_does_not_grow_envoys_memory() {
    // Sends without end, numbered, and counts what it got rid of.
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let broker = scripted_broker(move |mut stream| {
        read_connect(&mut stream);
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        for n in 0..u64::MAX {
            let mut payload = vec![0; 32 * 1024];
            payload[..8].copy_from_slice(&n.to_be_bytes());
            let message = publish(Version::V3, "flood", &payload, 0, 0);
            if stream.write_all(&message).is_err() {
                return;
            }
            count.fetch_add(message.len() as u64, Ordering::Relaxed);
        }
    });
    let mut envoy = envoy_in_front_of(bridge_config().unwrap(), broker);
    let address = envoy.address(port::MQTT).unwrap();
    let before = envoy.process.resident_bytes().unwrap();
    let mut client = Client::session(address, &Connect::new(Version::V3, "stalled")).unwrap();

    let underway = settled(&sent);
    assert!(underway < MOST_UNDERWAY, "the broker got rid of {underway} bytes");
    let held = envoy.process.resident_bytes().unwrap().saturating_sub(before);
    assert!(held < MOST_HELD, "Envoy grew by {held} bytes");

    // It goes on where it stopped.
    let wanted = 2 * underway / (32 * 1024);
    for n in 0..wanted {
        let packet = client.expect(0x30).unwrap();
        let message = packet.publish(Version::V3).unwrap();
        assert_eq!(message.payload[..8], n.to_be_bytes());
    }
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn a_client_that_never_reads_is_closed_whoever_fills_its_buffer() {
    let timeout = |config: Config| {
        let short = "per_connection_buffer_high_watermark_timeout: 2s";
        config.replace("per_connection_buffer_high_watermark_timeout: 300s", short).unwrap()
    };
    // The filter, with its own acknowledgements of messages that go nowhere.
    let refusing = "max_buffered_size: 65536
                rules: [{packets: [publish], carry: check, verdict_cache: 60s}]";
    let config = bridge_config().unwrap().replace("max_buffered_size: 65536", refusing).unwrap();
    let mut setup = Setup::start(timeout(config)).unwrap();
    let mut client =
        Client::session(setup.mqtt().unwrap(), &Connect::new(Version::V5, "deaf")).unwrap();
    let flood = publish(Version::V5, "t", b"", 1, 1).repeat(100_000);
    let start = Instant::now();
    while client.send(&flood).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(60), "still open");
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_broker_that_stops_reading_does_not_grow_envoys_memory() {
    let (resume, resumed) = std::sync::mpsc::channel::<()>();
    let resumed = std::sync::Mutex::new(resumed);
    let total = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&total);
    let broker = scripted_broker(move |mut stream| {
        read_connect(&mut stream);
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        resumed.lock().unwrap().recv().unwrap();
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            count.fetch_add(read as u64, Ordering::Relaxed);
        }
    });
    let mut envoy = envoy_in_front_of(bridge_config().unwrap(), broker);
    let address = envoy.address(port::MQTT).unwrap();
    let before = envoy.process.resident_bytes().unwrap();
    let client = Client::session(address, &Connect::new(Version::V3, "flooding")).unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let progress = Arc::clone(&sent);
    let writing = thread::spawn(move || {
        let message = publish(Version::V3, "flood", &[0; 32 * 1024], 0, 0);
        let mut stream = client.stream();
        stream.set_write_timeout(None).unwrap();
        for _ in 0..4_000 {
            stream.write_all(&message).unwrap();
            progress.fetch_add(message.len() as u64, Ordering::Relaxed);
        }
        client
    });
    let underway = settled(&sent);
    assert!(underway < MOST_UNDERWAY, "the publisher got rid of {underway} bytes");
    let held = envoy.process.resident_bytes().unwrap().saturating_sub(before);
    assert!(held < MOST_HELD, "Envoy grew by {held} bytes");

    resume.send(()).unwrap();
    let _client = writing.join().unwrap();
    let all = sent.load(Ordering::Relaxed);
    eventually("all bytes to arrive", || Ok((total.load(Ordering::Relaxed) == all).then_some(())))
        .unwrap();
    expect_healthy(&mut envoy).unwrap();
}

/// What no client may send first, and what it is.
fn bad_beginnings() -> Vec<(&'static str, Vec<u8>)> {
    let good = Connect::new(Version::V3, "bad").encode();
    let change = |index: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[index] = byte;
        bytes
    };
    vec![
        ("HTTP that asks for no WebSocket", b"POST / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("zeros", vec![0; 100]),
        ("ones", vec![0xFF; 100]),
        ("PINGREQ", PINGREQ.to_vec()),
        ("PUBLISH", publish(Version::V3, "t", b"x", 0, 0)),
        ("SUBSCRIBE", subscribe(Version::V3, 1, &["t"], 0)),
        ("CONNECT with flags in its first byte", change(0, 0x11)),
        ("another protocol name", change(4, b'Q')),
        ("protocol level 9", change(8, 9)),
        ("the reserved connect flag", change(9, 0x03)),
        ("will QoS 3", change(9, 0x1E)),
        ("a remaining length of five bytes", b"\x10\xFF\xFF\xFF\xFF\x01".to_vec()),
        ("CONNECT with a byte too many", packet(0x10, &[&good[2..], &[0]].concat())),
        ("CONNECT without client identifier", packet(0x10, &good[2..12])),
        ("a client identifier that is no UTF-8", {
            let mut bytes = good.clone();
            *bytes.last_mut().unwrap() = 0xFF;
            bytes
        }),
        ("CONNECT above max_connect_size", {
            Connect::new(Version::V3, "big").user("u").password(&"x".repeat(20_000)).encode()
        }),
        (
            "CONNECT that claims 200 MB",
            b"\x10\x80\x80\x80\x60\x00\x04MQTT\x04\x02\x00\x3C".to_vec(),
        ),
    ]
}

/// What no client may send after its CONNECT, and what it is.
fn bad_packets(version: Version) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("a second CONNECT", Connect::new(version, "again").encode()),
        ("CONNACK", vec![0x20, 2, 0, 0]),
        ("packet type 0", vec![0x00, 0]),
        ("PUBLISH at QoS 3", packet(0x36, b"\0\x01t\0\x01")),
        ("PUBLISH with packet identifier 0", publish(version, "t", b"x", 1, 0)),
        ("PUBLISH to a wildcard", publish(version, "a/#", b"x", 0, 0)),
        ("PUBLISH to a topic with U+0000", publish(version, "a\0b", b"x", 0, 0)),
        ("PUBLISH with a topic that is no UTF-8", packet(0x30, b"\0\x02\xC3\x28\0")),
        ("PUBLISH whose topic is longer than it", packet(0x30, b"\0\xFFt")),
        ("PUBLISH above max_packet_size", b"\x30\x80\x80\x80\x60\0\x01tpayload".to_vec()),
        ("SUBSCRIBE without filters", subscribe(version, 1, &[], 0)),
        ("SUBSCRIBE to a bad filter", subscribe(version, 1, &["a/#/b"], 0)),
        ("SUBSCRIBE with flags 0", {
            let mut bytes = subscribe(version, 1, &["t"], 0);
            bytes[0] = 0x80;
            bytes
        }),
        ("SUBSCRIBE at QoS 3", subscribe(version, 1, &["t"], 3)),
        ("PUBREL with flags 0", ack(0x60, 1)),
        ("PINGREQ with a body", packet(0xC0, b"x")),
        ("a remaining length of five bytes", b"\x30\xFF\xFF\xFF\xFF\x01".to_vec()),
    ];
    if version == Version::V5 {
        all.push(("a property twice", packet(0x30, b"\0\x01t\x04\x01\x00\x01\x00x")));
        all.push(("a property of another packet", packet(0x30, b"\0\x01t\x05\x11\0\0\0\0x")));
    }
    all
}

#[test]
fn garbage_instead_of_a_connect_closes_that_connection_and_nothing_else() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    let mut bystander = Client::session(address, &Connect::new(Version::V5, "bystander")).unwrap();
    for (what, bytes) in bad_beginnings() {
        let mut client = Client::open(address, Version::V3).unwrap();
        // It may be closed before all is written.
        let _ = client.send(&bytes);
        let answer = client.read_to_close(SOON);
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        // At most a CONNACK that refuses.
        assert!(answer.is_empty() || answer[0] == 0x20 && answer[3] != 0, "{what}: {answer:02x?}");
        bystander.ping().unwrap();
    }
    for id in ["bad", "big"] {
        assert!(!setup.broker.has_seen(id), "{id} reached the broker");
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_malformed_packet_closes_its_session_and_nothing_else() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut bystander = Client::session(address, &Connect::new(version, "bystander")).unwrap();
        bystander.subscribe(&["#"], 0).unwrap();
        for (what, bytes) in bad_packets(version) {
            let mut client = Client::session(address, &Connect::new(version, "faulty")).unwrap();
            client.send(&publish(version, "before", what.as_bytes(), 0, 0)).unwrap();
            let _ = client.send(&bytes);
            let _ = client.send(&publish(version, "after", what.as_bytes(), 0, 0));
            let answer = client.read_to_close(SOON);
            let answer = answer.unwrap_or_else(|error| panic!("{version:?}, {what}: {error}"));
            // 5.0 may be told why, in a DISCONNECT.
            assert!(answer.is_empty() || answer[0] == 0xE0, "{version:?}, {what}: {answer:02x?}");
            // What came before it counts, what came after it does not.
            let received = bystander.receive_publish().unwrap();
            assert_eq!(received, ("before".to_owned(), what.as_bytes().to_vec()));
            bystander.ping().unwrap();
        }
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn truncated_packets_end_with_their_connection() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    let connect = Connect::new(Version::V5, "truncated").encode();
    for length in 0..connect.len() {
        let mut client = Client::open(address, Version::V5).unwrap();
        client.send(&connect[..length]).unwrap();
        client.finish().unwrap();
        client.read_to_close(SOON).unwrap();
    }
    assert!(!setup.broker.has_seen("truncated"));
    let message = publish(Version::V5, "t", b"payload", 1, 1);
    for length in 1..message.len() {
        let mut client = Client::session(address, &Connect::new(Version::V5, "cut-off")).unwrap();
        client.send(&message[..length]).unwrap();
        client.finish().unwrap();
        client.read_to_close(SOON).unwrap();
    }
    assert!(!setup.broker.log().contains("Received PUBLISH from cut-off"));
    setup.expect_healthy().unwrap();
}

#[test]
fn random_bytes_do_no_harm() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    let mut bystander = Client::session(address, &Connect::new(Version::V5, "bystander")).unwrap();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let mut bytes = Vec::new();
        if round % 2 == 0 {
            bytes.extend(Connect::new(VERSIONS[round % 4 / 2], "random").encode());
        }
        let length = random() % 2_000;
        bytes.extend((0..length).map(|_| random() as u8));
        let mut client = Client::open(address, Version::V5).unwrap();
        let _ = client.send(&bytes);
        let _ = client.finish();
        client.read_to_close(PATIENCE).unwrap();
    }
    bystander.ping().unwrap();
    setup.expect_healthy().unwrap();
}

#[test]
fn a_client_that_does_not_connect_in_time_is_closed() {
    let config = bridge_config().unwrap().replace("connect_timeout: 10s", "connect_timeout: 1s");
    let mut setup = Setup::start(config.unwrap()).unwrap();
    let address = setup.mqtt().unwrap();
    let connect = Connect::new(Version::V5, "slow").encode();
    for length in [0, 1, connect.len() - 1] {
        let start = Instant::now();
        let mut client = Client::open(address, Version::V5).unwrap();
        client.send(&connect[..length]).unwrap();
        client.read_to_close(SOON).unwrap();
        let waited = start.elapsed();
        assert!(waited > Duration::from_millis(800), "closed after {waited:?}");
    }
    // One that did connect may be silent for longer.
    let client = Client::session(address, &Connect::new(Version::V5, "in-time")).unwrap();
    assert!(client.is_quiet_for(Duration::from_millis(2_500)).unwrap());
    setup.expect_healthy().unwrap();
}

#[test]
fn the_largest_allowed_packet_passes_and_one_byte_more_does_not() {
    let config =
        bridge_config().unwrap().replace("max_packet_size: 16777216", "max_packet_size: 100000");
    let mut setup = Setup::start(config.unwrap()).unwrap();
    let address = setup.mqtt().unwrap();
    let largest = |more: usize| {
        let room = 100_000 - publish(Version::V3, "t", &[], 1, 1).len() - 2;
        publish(Version::V3, "t", &vec![0; room + more], 1, 1)
    };
    assert_eq!(largest(0).len(), 100_000);
    let mut client = Client::session(address, &Connect::new(Version::V3, "large")).unwrap();
    client.send(&largest(0)).unwrap();
    client.expect(0x40).unwrap();
    let _ = client.send(&largest(1));
    client.read_to_close(SOON).unwrap();
    setup.expect_healthy().unwrap();
}

#[test]
fn three_mistakes_in_the_filters_configuration_are_all_named_at_once() {
    let config = bridge_config()
        .unwrap()
        .replace("mode: bridge", "mode: brigde")
        .unwrap()
        .replace("connect_timeout: 10s", "connect_timeout: soon")
        .unwrap()
        .replace("max_connect_size: 16384", "max_conect_size: 16384")
        .unwrap();
    let log = config.start_refused().unwrap();
    let mistakes = ["mode", "brigde", "connect_timeout", "soon", "max_conect_size"];
    for mistake in mistakes {
        assert!(log.contains(mistake), "{mistake} is not in Envoy's log:\n{log}");
    }
}
