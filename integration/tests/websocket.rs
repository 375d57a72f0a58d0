//! MQTT over WebSocket through the bridge is what it is without, on the same listener.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use integration::ports::free_port;
use integration::process::{Process, program};
use integration::setup::{Setup, bridge_config, port};
use integration::wire::{
    Client, Connect, DISCONNECT, PINGREQ, Packet, VERSIONS, Version, publish, subscribe,
};
use integration::{PATIENCE, eventually, root};

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

const SOON: Duration = Duration::from_secs(3);

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FINAL: u8 = 0x80;

/// A WebSocket client by hand: it sends and shows exactly what it is told to.
#[derive(Debug)]
struct Web {
    stream: TcpStream,
    version: Version,
    /// Payload of binary messages that is not yet a packet.
    payload: Vec<u8>,
}

impl Web {
    /// Opens a TCP connection and sends nothing.
    fn dial(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, version, payload: Vec::new() }
    }

    /// Opens a WebSocket.
    fn open(address: SocketAddr, version: Version) -> Self {
        let mut web = Self::dial(address, version);
        web.raw(REQUEST.as_bytes());
        let response = web.response();
        assert!(response.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{response}");
        assert!(response.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(response.contains("\r\nsec-websocket-protocol: mqtt\r\n"));
        assert!(!response.contains("extensions"));
        web
    }

    /// A session that must be accepted.
    fn session(address: SocketAddr, connect: &Connect, version: Version) -> Self {
        let mut web = Self::open(address, version);
        web.send(&connect.encode());
        assert_eq!(web.receive().connack_code().unwrap(), 0);
        web
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a frame.
    fn frame(&mut self, first: u8, payload: &[u8]) {
        self.raw(&masked(first, payload));
    }

    /// Sends a binary message.
    fn send(&mut self, payload: &[u8]) {
        self.frame(FINAL | BINARY, payload);
    }

    /// The header section of an HTTP response.
    fn response(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        String::from_utf8(head).unwrap()
    }

    /// The next frame: opcode and payload. The proxy's frames are final and not masked.
    fn read(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).unwrap();
        assert_eq!(head[0] & 0xF0, FINAL, "{head:02x?}");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).unwrap();
                u16::from_be_bytes(length).into()
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length).unwrap();
                u64::from_be_bytes(length)
            }
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).unwrap();
        (head[0] & 0x0F, payload)
    }

    /// The next packet, out of as many binary messages as it takes.
    fn receive(&mut self) -> Packet {
        loop {
            if let Some((packet, length)) = split_packet(&self.payload) {
                self.payload.drain(..length);
                return packet;
            }
            let (opcode, payload) = self.read();
            assert_eq!(opcode, BINARY, "{payload:02x?}");
            self.payload.extend(payload);
        }
    }

    fn expect(&mut self, kind: u8) -> Packet {
        let packet = self.receive();
        assert_eq!(packet.kind(), kind, "{packet:02x?}");
        packet
    }

    fn subscribe(&mut self, filter: &str, qos: u8) {
        self.send(&subscribe(self.version, 1, &[filter], qos));
        self.expect(0x90);
    }

    /// Receives a PUBLISH of QoS 0.
    fn receive_publish(&mut self) -> Vec<u8> {
        let packet = self.expect(0x30);
        packet.publish(self.version).unwrap().payload.to_vec()
    }

    /// PINGREQ and PINGRESP.
    fn ping(&mut self) {
        self.send(&PINGREQ);
        self.expect(0xD0);
    }

    /// The next frame has to be a Close with this code.
    fn expect_close(&mut self, code: u16) {
        assert_eq!(self.payload, b"");
        assert_eq!(self.read(), (CLOSE, code.to_be_bytes().to_vec()));
    }

    /// The peer has to close now.
    fn expect_end(mut self) {
        self.stream.set_read_timeout(Some(SOON)).unwrap();
        let mut rest = Vec::new();
        // A close with bytes unread on the other side is a reset.
        if let Err(error) = self.stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        assert_eq!(rest, b"");
    }
}

/// A frame as a client sends it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The packet at the front, and its length.
fn split_packet(bytes: &[u8]) -> Option<(Packet, usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let body = bytes.get(at..at + length)?.to_vec();
    Some((Packet { first: bytes[0], body }, at + length))
}

/// Payloads in which a displaced or repeated byte shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

/// Runs paho-mqtt to its end.
fn paho(args: &[&str]) {
    let output = Command::new(root().join("scripts/paho")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let path = String::from_utf8(output.stdout).unwrap();
    let mut command = vec![format!("PYTHONPATH={}", path.trim()), "python3".to_owned()];
    command.push("integration/tests/paho_exchange.py".to_owned());
    command.extend(args.iter().map(|&arg| arg.to_owned()));
    let mut process = Process::start("paho", &program("env").unwrap(), |_| Ok(command)).unwrap();
    let status = process.wait(6 * PATIENCE).unwrap();
    assert!(status.success(), "{status}: {}", process.stderr());
}

#[test]
fn paho_of_both_versions_exchanges_messages_at_every_qos_up_to_a_megabyte() {
    let mut setup = Setup::bridge().unwrap();
    let port = setup.envoy.port(port::MQTT).unwrap().to_string();
    for version in ["3.1.1", "5.0"] {
        paho(&[&port, version]);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn paho_works_over_tls() {
    assert!(Command::new(root().join("scripts/dev-certs")).status().unwrap().success());
    let mut setup = Setup::bridge().unwrap();
    let port = setup.envoy.port(port::TLS).unwrap().to_string();
    paho(&[&port, "5.0", ".build/certs/ca.crt"]);
    setup.expect_healthy().unwrap();
}

#[test]
fn clients_with_and_without_websocket_meet_on_one_listener() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut plain = Client::session(address, &Connect::new(version, "plain")).unwrap();
        let mut web = Web::session(address, &Connect::new(version, "web"), version);
        plain.subscribe(&["to/plain"], 2).unwrap();
        web.subscribe("to/web", 0);
        for qos in 0..3 {
            plain.publish("to/web", b"from plain", qos).unwrap();
            assert_eq!(web.receive_publish(), b"from plain");
        }
        web.send(&publish(version, "to/plain", b"from web", 1, 5));
        assert_eq!(plain.receive_publish().unwrap().1, b"from web");
        assert_eq!(web.expect(0x40).id().unwrap(), 5);
        plain.disconnect().unwrap();
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn neither_frames_nor_messages_are_boundaries_to_packets() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut web = Web::open(address, version);
        // A message of one-byte fragments, with a Ping in the middle of it.
        let connect = Connect::new(version, "fragments").user("u").password("p").encode();
        for (n, byte) in connect.iter().enumerate() {
            web.frame(if n == 0 { BINARY } else { CONTINUATION }, &[*byte]);
            if n == 7 {
                web.frame(FINAL | PING, b"are you there?");
            }
        }
        // The message goes on with several packets.
        let mut more = subscribe(version, 1, &["own"], 0);
        for n in 0..3_u8 {
            more.extend(publish(version, "own", &[n], 0, 0));
        }
        let (most, last) = more.split_at(more.len() - 2);
        web.frame(FINAL | CONTINUATION, most);
        assert_eq!(web.read(), (PONG, b"are you there?".to_vec()));
        assert_eq!(web.receive().connack_code().unwrap(), 0);
        web.expect(0x90);
        assert_eq!(web.receive_publish(), [0]);
        assert_eq!(web.receive_publish(), [1]);
        // And the last packet in the next message.
        web.frame(FINAL | BINARY, b"");
        web.send(last);
        assert_eq!(web.receive_publish(), [2]);

        // The same in one write, with frames cut anywhere by TCP.
        let mut burst = Vec::new();
        for n in 0..500_u16 {
            burst.extend(masked(FINAL | BINARY, &publish(version, "own", &n.to_be_bytes(), 0, 0)));
        }
        for piece in burst.chunks(777) {
            web.raw(piece);
        }
        for n in 0..500_u16 {
            assert_eq!(web.receive_publish(), n.to_be_bytes());
        }
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn eight_megabytes_pass_in_one_frame_and_in_many() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    let payload = pattern(8 << 20);
    for version in VERSIONS {
        let mut web = Web::session(address, &Connect::new(version, "large"), version);
        web.subscribe("large", 0);
        let packet = publish(version, "large", &payload, 0, 0);
        web.send(&packet);
        assert!(web.receive_publish() == payload);
        for (n, piece) in packet.chunks(100_000).enumerate() {
            web.frame(if n == 0 { BINARY } else { CONTINUATION }, piece);
        }
        web.frame(FINAL | CONTINUATION, b"");
        assert!(web.receive_publish() == payload);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_bad_handshake_is_answered_with_its_status_and_closed() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    let mut bystander = Web::session(address, &Connect::new(Version::V5, "by"), Version::V5);
    let change = |from: &str, to: &str| {
        assert!(REQUEST.contains(from));
        REQUEST.replacen(from, to, 1).into_bytes()
    };
    let padding =
        |field: &str, count| change("\r\n\r\n", &format!("\r\n{}\r\n", field.repeat(count)));
    let cases = [
        (426, b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec()),
        (426, change("Version: 13", "Version: 8")),
        (426, change("Upgrade: websocket", "Upgrade: h2c")),
        (400, change("HTTP/1.1", "HTTP/1.0")),
        (400, change("HTTP/1.1", "HTTP/9.9")),
        (400, change("Host: broker\r\n", "")),
        (400, change("Key: d", "Key: ")),
        (400, change("Sec-WebSocket-Protocol: mqtt\r\n", "")),
        (400, change("Protocol: mqtt", "Protocol: mqttv3.1")),
        (400, change("Host", "H\0st")),
        (400, b"GET \xFF\xFE\r\n\r\n".to_vec()),
        (414, [b"GET /", &vec![b'a'; 100_000][..]].concat()),
        (431, padding("a: b\r\n", 60)),
        (431, padding("a: b\r\n", 10_000)),
        (431, padding(&format!("a: {}\r\n", "b".repeat(8100)), 1)),
    ];
    for (status, request) in cases {
        let shown = String::from_utf8_lossy(&request[..request.len().min(300)]).into_owned();
        let mut web = Web::dial(address, Version::V5);
        // A long one may find the connection closed before its end.
        let _ = web.stream.write_all(&request);
        let mut response = Vec::new();
        let _ = web.stream.read_to_end(&mut response);
        let response = String::from_utf8(response).unwrap();
        let long = request.len() > 8192;
        // Closing with bytes unread can take the answer away from a client that is still sending.
        if !(long && response.is_empty()) {
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}\n{response}");
        }
        if status == 426 {
            assert!(response.contains("\r\nsec-websocket-version: 13\r\n"), "{response}");
        }
    }
    // What is not a GET request is not MQTT either.
    let mut post = Client::open(address, Version::V5).unwrap();
    post.send(REQUEST.replacen("GET", "POST", 1).as_bytes()).unwrap();
    assert_eq!(post.read_to_close(SOON).unwrap(), b"");
    bystander.ping();
    let refused = |reason: &str, count: f64| {
        eventually("the handshakes to be counted", || {
            let value = setup.envoy.metric("websocket_handshakes_total", &[("reason", reason)])?;
            Ok((value == Some(count)).then_some(()))
        })
        .unwrap();
    };
    refused("no_upgrade", 3.0);
    refused("subprotocol", 2.0);
    refused("accepted", 1.0);
    setup.expect_healthy().unwrap();
}

#[test]
fn a_handshake_or_a_connect_that_does_not_end_in_time_is_closed() {
    let config = bridge_config().unwrap().replace("connect_timeout: 10s", "connect_timeout: 1s");
    let mut setup = Setup::start(config.unwrap()).unwrap();
    let address = setup.mqtt().unwrap();
    for request in [&REQUEST[..1], &REQUEST[..4], &REQUEST[..REQUEST.len() - 1], REQUEST] {
        let start = Instant::now();
        let mut web = Web::dial(address, Version::V5);
        web.raw(request.as_bytes());
        if request == REQUEST {
            web.response();
            web.frame(BINARY, &Connect::new(Version::V5, "slow").encode()[..9]);
            web.expect_close(1000);
            web.frame(FINAL | CLOSE, &1000_u16.to_be_bytes());
        }
        web.expect_end();
        let waited = start.elapsed();
        assert!(waited > Duration::from_millis(800), "closed after {waited:?}");
    }
    // Drop by drop does not help.
    let mut web = Web::dial(address, Version::V5);
    let start = Instant::now();
    while web.stream.write_all(b"GET / HTTP/1.1\r\n".get(..1).unwrap()).is_ok() {
        assert!(start.elapsed() < SOON, "still open");
        thread::sleep(Duration::from_millis(50));
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_fault_closes_with_its_code_and_the_will_is_published() {
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    let mut heir = Client::session(address, &Connect::new(Version::V5, "heir")).unwrap();
    heir.subscribe(&["will"], 0).unwrap();
    let mut long_ping = masked(FINAL | PING, &[0; 126]);
    long_ping.truncate(8);
    let cases = [
        ("text", 1003, masked(FINAL | TEXT, b"hello")),
        ("not masked", 1002, vec![FINAL | BINARY, 2, 0xC0, 0]),
        ("reserved bit", 1002, masked(0xC0 | BINARY, &PINGREQ)),
        ("reserved opcode", 1002, masked(FINAL | 0x3, b"x")),
        ("continuation of nothing", 1002, masked(FINAL | CONTINUATION, b"x")),
        ("fragmented ping", 1002, masked(PING, b"x")),
        ("long ping", 1002, long_ping),
        ("close of one byte", 1002, masked(FINAL | CLOSE, b"x")),
        ("reason that is not UTF-8", 1007, masked(FINAL | CLOSE, b"\x03\xE8\xFF")),
    ];
    for version in VERSIONS {
        for (name, code, bytes) in &cases {
            let connect = Connect::new(version, "bad").will("will", name.as_bytes(), 0);
            let mut web = Web::session(address, &connect, version);
            web.raw(bytes);
            web.expect_close(*code);
            web.expect_end();
            assert_eq!(heir.receive_publish().unwrap().1, name.as_bytes());
        }
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn more_pings_than_are_answered_close_the_connection() {
    let mut setup = Setup::bridge().unwrap();
    let connect = Connect::new(Version::V5, "pings");
    let mut web = Web::session(setup.mqtt().unwrap(), &connect, Version::V5);
    let _ = web.stream.write_all(&masked(FINAL | PING, &[7; 125]).repeat(10_000));
    let mut pongs = 0;
    while web.read() == (PONG, vec![7; 125]) {
        pongs += 1;
    }
    assert!((64..80).contains(&pongs), "{pongs}");
    setup.expect_healthy().unwrap();
}

#[test]
fn a_refused_session_gets_its_connack_and_a_clean_close() {
    let mut setup = Setup::bridge().unwrap();
    for version in VERSIONS {
        let mut web = Web::open(setup.mqtt().unwrap(), version);
        web.send(&Connect::new(version, "x").user("blocked").password("p").encode());
        let code = if version == Version::V5 { 0x87 } else { 0x05 };
        assert_eq!(web.receive().connack_code().unwrap(), code);
        web.expect_close(1000);
        web.frame(FINAL | CLOSE, &1000_u16.to_be_bytes());
        web.expect_end();
    }
    assert!(!setup.broker.has_seen("x"));
    setup.expect_healthy().unwrap();
}

#[test]
fn a_malformed_packet_is_answered_as_without_websocket() {
    let mut setup = Setup::bridge().unwrap();
    for version in VERSIONS {
        let mut web = Web::session(setup.mqtt().unwrap(), &Connect::new(version, "m"), version);
        // A PUBLISH with both QoS bits set.
        web.send(&[0x36, 5, 0, 1, b't', 0, 1]);
        if version == Version::V5 {
            assert_eq!(web.expect(0xE0).body[0], 0x81);
        }
        web.expect_close(1000);
        web.frame(FINAL | CLOSE, b"");
        web.expect_end();
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_client_that_says_close_loses_nothing() {
    const MESSAGES: u32 = 2000;
    let mut setup = Setup::bridge().unwrap();
    let address = setup.mqtt().unwrap();
    for version in VERSIONS {
        let mut subscriber = Client::session(address, &Connect::new(version, "sub")).unwrap();
        subscriber.subscribe(&["last"], 0).unwrap();
        let mut web = Web::session(address, &Connect::new(version, "pub"), version);
        // All in one go, as a browser's client does: messages, DISCONNECT, Close.
        let mut burst = Vec::new();
        for n in 0..MESSAGES {
            let mut payload = n.to_be_bytes().to_vec();
            payload.resize(1000, 0);
            burst.extend(masked(FINAL | BINARY, &publish(version, "last", &payload, 0, 0)));
        }
        burst.extend(masked(FINAL | BINARY, &DISCONNECT));
        burst.extend(masked(FINAL | CLOSE, &1001_u16.to_be_bytes()));
        web.raw(&burst);
        let reader = thread::spawn(move || {
            for n in 0..MESSAGES {
                assert_eq!(subscriber.receive_publish().unwrap().1[..4], n.to_be_bytes());
            }
        });
        web.expect_close(1001);
        web.expect_end();
        reader.join().unwrap();
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_brokers_end_becomes_a_close_frame() {
    let mut setup = Setup::bridge().unwrap();
    let connect = Connect::new(Version::V5, "orphan");
    let mut web = Web::session(setup.mqtt().unwrap(), &connect, Version::V5);
    setup.broker.process.kill().unwrap();
    web.expect_close(1000);
    web.frame(FINAL | CLOSE, &1000_u16.to_be_bytes());
    web.expect_end();
    setup.expect_healthy().unwrap();
}

/// How much Envoy may hold of one stalled session, as without WebSocket: see `faults.rs`.
const MOST_HELD: u64 = 24 << 20;

#[test]
fn a_broker_that_stops_reading_holds_a_websocket_client_back() {
    let listener = TcpListener::bind(("127.0.0.1", free_port().unwrap())).unwrap();
    let broker = listener.local_addr().unwrap();
    let (resume, resumed) = mpsc::channel::<()>();
    let total = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&total);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Health checks say nothing.
            let mut head = [0; 2];
            if stream.read_exact(&mut head).is_ok() {
                stream.read_exact(&mut vec![0; head[1].into()]).unwrap();
                stream.write_all(&[0x20, 2, 0, 0]).unwrap();
                resumed.recv().unwrap();
                let mut buffer = vec![0; 1 << 16];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    count.fetch_add(read as u64, Ordering::Relaxed);
                }
            }
        }
    });
    let config = bridge_config().unwrap();
    let config = config.port(port::BROKER, broker.port()).port(port::BROKER_2, broker.port());
    let mut envoy = config.start().unwrap();
    let address = envoy.address(port::MQTT).unwrap();
    let before = envoy.process.resident_bytes().unwrap();
    let connect = Connect::new(Version::V3, "flooding");
    let mut web = Web::session(address, &connect, Version::V3);
    // Frames of 8 MB: none of them may be held as a whole.
    let packet = publish(Version::V3, "flood", &vec![0; 8 << 20], 0, 0);
    let message = masked(FINAL | BINARY, &packet);
    let sent = Arc::new(AtomicU64::new(0));
    let progress = Arc::clone(&sent);
    web.stream.set_write_timeout(None).unwrap();
    let writing = thread::spawn(move || {
        for _ in 0..12 {
            for piece in message.chunks(1 << 16) {
                web.raw(piece);
                progress.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
        }
        web
    });
    let mut last = 0;
    loop {
        thread::sleep(Duration::from_millis(1500));
        let now = sent.load(Ordering::Relaxed);
        if now > 0 && now == last {
            break;
        }
        last = now;
    }
    assert!(last < MOST_HELD + (24 << 20), "the client got rid of {last} bytes");
    let held = envoy.process.resident_bytes().unwrap().saturating_sub(before);
    assert!(held < MOST_HELD, "Envoy grew by {held} bytes");
    resume.send(()).unwrap();
    let _web = writing.join().unwrap();
    let all = 12 * packet.len() as u64;
    eventually("all bytes to arrive", || Ok((total.load(Ordering::Relaxed) == all).then_some(())))
        .unwrap();
    integration::setup::expect_healthy(&mut envoy).unwrap();
}

#[test]
fn switched_off_a_handshake_is_not_mqtt() {
    let config = bridge_config().unwrap().replace("mode: bridge", "websocket: false");
    let mut setup = Setup::start(config.unwrap()).unwrap();
    let address = setup.mqtt().unwrap();
    let mut web = Web::dial(address, Version::V5);
    web.raw(REQUEST.as_bytes());
    web.expect_end();
    Client::session(address, &Connect::new(Version::V5, "plain")).unwrap().disconnect().unwrap();
    setup.expect_healthy().unwrap();
}
