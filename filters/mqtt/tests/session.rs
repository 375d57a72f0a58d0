//! What a session in bridge mode promises, shown octet by octet: the test is the MQTT client and,
//! with HTTP/2 frames written by hand, the next filter.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{Bridge, Bytes, Limits, Peer, Surroundings};
use filter_mqtt::{Filter, Session};
use proptest::prelude::*;

const NOW: Duration = Duration::ZERO;
const END_STREAM: u8 = 1;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

struct NoTls;
impl Surroundings for NoTls {
    fn server_name(&self) -> Option<String> {
        None
    }
}

struct Peers {
    bridge: Bridge<Session>,
    registry: Registry,
    /// HTTP/2 octets that do not yet form a frame.
    unparsed: Vec<u8>,
    preface_seen: bool,
    /// The request's content.
    content: Vec<u8>,
    opened: usize,
    ended: bool,
    reset: bool,
    replied: Vec<u8>,
}

impl Peers {
    fn new(json: &str) -> Self {
        let registry = Registry::default();
        let filter = Filter::new(json.as_bytes(), &registry).expect("a valid configuration");
        let bridge =
            Bridge::new(Limits::default(), Box::new(NoTls), NOW, |link| filter.carry(link));
        Self {
            bridge,
            registry,
            unparsed: Vec::new(),
            preface_seen: false,
            content: Vec::new(),
            opened: 0,
            ended: false,
            reset: false,
            replied: Vec::new(),
        }
    }

    /// With a session that the next filter and the broker have accepted.
    fn accepted(version: u8) -> Self {
        let mut peers = Self::new("{}");
        peers.client(&connect(version));
        peers.status(b"\x88", false);
        peers.broker(if version == 5 { b"\x20\x03\x00\x00\x00" } else { b"\x20\x02\x00\x00" });
        peers.replied.clear();
        peers
    }

    fn client(&mut self, octets: &[u8]) {
        self.bridge.handle_native(NOW, Bytes::copy_from_slice(octets));
        self.collect();
    }

    fn http(&mut self, octets: &[u8]) {
        self.bridge.handle_http(NOW, Bytes::copy_from_slice(octets));
        let (first, rest) = self.bridge.take_native();
        self.replied.extend(first.iter().chain(&rest));
        self.collect();
    }

    /// A response header section; `hpack` encodes the status.
    fn status(&mut self, hpack: &[u8], end: bool) {
        let settings = frame(4, 0, 0, &[]);
        self.http(&settings);
        self.http(&frame(HEADERS, 4 | u8::from(end), 1, hpack));
    }

    fn broker(&mut self, octets: &[u8]) {
        self.http(&frame(DATA, 0, 1, octets));
    }

    /// What is waiting for the client, as if the next filter had just written something.
    fn flush(&mut self) {
        self.http(&frame(6, 1, 0, &[0; 8]));
    }

    fn collect(&mut self) {
        self.unparsed.extend(self.bridge.take_http());
        if !self.preface_seen && self.unparsed.len() >= 24 {
            assert_eq!(&self.unparsed[..24], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            self.unparsed.drain(..24);
            self.preface_seen = true;
        }
        while self.preface_seen && self.unparsed.len() >= 9 {
            let len = usize::from(self.unparsed[1]) << 8 | usize::from(self.unparsed[2]);
            let (kind, flags) = (self.unparsed[3], self.unparsed[4]);
            let whole: Vec<u8> = self.unparsed.drain(..9 + len).collect();
            match kind {
                DATA => self.content.extend(&whole[9..]),
                HEADERS => self.opened += 1,
                RST_STREAM => self.reset = true,
                _ => {}
            }
            self.ended |= kind == DATA && flags & END_STREAM != 0;
        }
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        self.registry.counter(name, labels).value()
    }

    fn is_closed(&self) -> bool {
        self.bridge.next_step().close
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut octets = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, stream];
    octets.extend(payload);
    octets
}

fn connect(version: u8) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', version, 2, 0, 60];
    if version == 5 {
        body.push(0);
    }
    body.extend([0, 2, b'c', b'1']);
    packet(0x10, &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![first];
    let mut len = body.len();
    loop {
        let more = len > 127;
        octets.push(u8::try_from(len % 128).expect("small") | u8::from(more) << 7);
        len /= 128;
        if !more {
            break;
        }
    }
    octets.extend(body);
    octets
}

fn publish(payload: &[u8]) -> Vec<u8> {
    packet(0x30, &[&[0, 3, b'a', b'/', b'b'], payload].concat())
}

/// Literal `:status` header field, RFC 7541 §6.2.2.
fn status(code: &[u8; 3]) -> Vec<u8> {
    [&[0x08, 3], &code[..]].concat()
}

#[test]
fn a_session_is_one_stream_and_the_brokers_octets_reach_the_client() {
    let mut peers = Peers::new("{}");
    peers.client(&connect(4));
    assert_eq!((peers.opened, &peers.content), (1, &connect(4)));
    peers.status(b"\x88", false);
    peers.broker(b"\x20\x02\x00\x00");
    peers.client(&publish(b"hello"));
    peers.broker(b"\xD0\x00");
    assert_eq!(peers.content, [connect(4), publish(b"hello")].concat());
    assert_eq!(peers.replied, b"\x20\x02\x00\x00\xD0\x00");
    assert_eq!(peers.registry.gauge("mqtt_sessions_active", &[("mode", "bridge")]).value(), 1);
    peers.bridge.handle_close(Peer::Native);
    assert_eq!(peers.registry.gauge("mqtt_sessions_active", &[("mode", "bridge")]).value(), 0);
}

/// The octets for the next filter, as they are, and what the client is told with them.
fn exchange(peers: &mut Peers, call: impl FnOnce(&mut Bridge<Session>)) -> (String, Vec<u8>) {
    call(&mut peers.bridge);
    let (first, rest) = peers.bridge.take_native();
    let http = peers.bridge.take_http();
    (String::from_utf8_lossy(&http).into_owned(), [&first[..], &rest].concat())
}

#[test]
fn a_session_can_be_one_exchange_of_http_1_1() {
    let mut peers = Peers::new(r#"{"codec": "auto"}"#);
    let client = |octets: &[u8]| Bytes::copy_from_slice(octets);
    let (sent, _) = exchange(&mut peers, |it| it.handle_native(NOW, client(&connect(4))));
    let (head, content) = sent.split_once("\r\n\r\n").expect("a header section");
    let mut lines: Vec<&str> = head.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "POST / HTTP/1.1",
            "host: mqtt",
            "transfer-encoding: chunked",
            "x-carry: flow",
            "x-mqtt-clean-start: true",
            "x-mqtt-client-id: c1",
            "x-mqtt-keep-alive: 60",
            "x-mqtt-version: 3.1.1",
            "x-protocol: mqtt",
        ]
    );
    assert_eq!(content.as_bytes(), [b"10\r\n", &connect(4)[..], b"\r\n"].concat());
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n\x20\x02\x00\x00\r\n";
    let (_, told) = exchange(&mut peers, |it| it.handle_http(NOW, client(answer)));
    assert_eq!(told, b"\x20\x02\x00\x00");
    let last = [publish(b"last"), vec![0xE0, 0]].concat();
    let (sent, _) = exchange(&mut peers, |it| it.handle_native(NOW, client(&last)));
    assert!(sent.ends_with("last\u{fffd}\0\r\n0\r\n\r\n"), "{sent:?}");
    assert!(!peers.is_closed(), "the broker closes");
    exchange(&mut peers, |it| it.handle_http(NOW, client(b"0\r\n\r\n")));
    assert!(peers.is_closed());
}

#[test]
fn a_refusal_over_http_1_1_becomes_a_connack_too() {
    let mut peers = Peers::new(r#"{"codec": "auto"}"#);
    peers.bridge.handle_native(NOW, connect(4).into());
    let answer = Bytes::from_static(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let (_, told) = exchange(&mut peers, |it| it.handle_http(NOW, answer));
    assert_eq!(told, b"\x20\x02\x00\x05");
    assert!(peers.is_closed());
}

#[test]
fn a_fault_in_a_session_over_http_1_1_closes_it_at_once() {
    let mut peers = Peers::new(r#"{"codec": "auto"}"#);
    peers.bridge.handle_native(NOW, connect(5).into());
    let answer =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n\x20\x03\x00\x00\x00\r\n";
    exchange(&mut peers, |it| it.handle_http(NOW, Bytes::from_static(answer)));
    let (sent, _) = exchange(&mut peers, |it| {
        it.handle_native(NOW, Bytes::from_static(b"\xf0\xff\xff\xff\xff"))
    });
    assert_eq!(sent, "0\r\n\r\n");
    assert!(peers.is_closed(), "there is nobody to ask for a turn to say why");
}

#[test]
fn sessions_whose_messages_are_looked_at_need_http_2() {
    let rule = r#"{"codec": "auto", "rules": [{"topic_filters": ["x/#"], "carry": "check"}]}"#;
    let mut peers = Peers::new(rule);
    peers.client(&connect(4));
    assert!(peers.preface_seen);
    // And so does a refusal of what is no session yet.
    let mut peers = Peers::new(r#"{"codec": "auto"}"#);
    peers.client(&connect(9));
    peers.bridge.request_turn();
    peers.collect();
    assert!(peers.preface_seen && !peers.is_closed());
}

#[test]
fn disconnect_is_carried_and_then_the_stream_ends_without_a_reset() {
    let mut peers = Peers::accepted(4);
    peers.client(&[publish(b"last"), vec![0xE0, 0], publish(b"too late")].concat());
    assert_eq!(peers.content, [connect(4), publish(b"last"), vec![0xE0, 0]].concat());
    assert!(peers.ended && !peers.reset);
    assert!(!peers.is_closed(), "the broker closes");
    peers.http(&frame(DATA, END_STREAM, 1, &[]));
    assert!(peers.is_closed());
}

#[test]
fn a_refusal_becomes_a_connack_in_the_clients_version() {
    for (version, expected) in [(4_u8, &b"\x20\x02\x00\x05"[..]), (5, b"\x20")] {
        let mut peers = Peers::new("{}");
        peers.client(&connect(version));
        peers.status(&status(b"403"), false);
        peers.http(&frame(DATA, END_STREAM, 1, b"RBAC: access denied"));
        assert!(peers.replied.starts_with(expected), "{:?}", peers.replied);
        if version == 5 {
            assert_eq!(peers.replied[3], 0x87);
            let text = String::from_utf8_lossy(&peers.replied);
            assert!(text.ends_with("403 Forbidden: RBAC: access denied"), "{text}");
        }
        assert!(peers.is_closed() && peers.ended && !peers.reset);
    }
}

#[test]
fn a_stream_that_is_reset_before_an_answer_means_unavailable() {
    let mut peers = Peers::new("{}");
    peers.client(&connect(4));
    peers.http(&frame(4, 0, 0, &[]));
    peers.http(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 2]));
    assert_eq!(peers.replied, b"\x20\x02\x00\x03");
    assert!(peers.is_closed());
}

#[test]
fn anything_but_connect_first_closes_and_reaches_nobody() {
    for first in
        [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"\xC0\x00", b"\x00", b"\x10\x80\x80\x80\x80"]
    {
        let mut peers = Peers::new("{}");
        peers.client(first);
        peers.flush();
        assert!(peers.is_closed(), "{first:?}");
        assert_eq!((peers.opened, &*peers.replied), (0, &b""[..]), "{first:?}");
    }
}

#[test]
fn a_connect_that_is_not_valid_is_answered_in_its_version() {
    let mut unknown = connect(4);
    unknown[8] = 6;
    let mut old = connect(4);
    old[8] = 3;
    let mut reserved = connect(5);
    reserved[9] |= 1;
    for (octets, reply) in
        [(unknown, &b"\x20"[..]), (old, b"\x20\x02\x00\x01"), (reserved, b"\x20")]
    {
        let mut peers = Peers::new("{}");
        peers.client(&octets);
        assert!(peers.bridge.next_step().native_output);
        peers.bridge.request_turn();
        peers.http(&frame(4, 0, 0, &[]));
        assert!(peers.replied.starts_with(reply), "{:?}", peers.replied);
        assert_eq!(peers.opened, 0);
        assert!(peers.is_closed());
    }
}

#[test]
fn a_connect_that_is_too_large_is_refused_before_it_is_held() {
    let mut peers = Peers::new(r#"{"max_connect_size": 100}"#);
    peers.client(&[0x10, 101]);
    assert!(!peers.is_closed());
    peers.client(&[0, 4, b'M', b'Q', b'T', b'T', 5]);
    peers.flush();
    assert_eq!(peers.replied.get(3), Some(&0x95));
    assert!(peers.is_closed());
    let labels = [("direction", "from_client"), ("kind", "packet_too_large")];
    assert_eq!(peers.metric("mqtt_decode_errors_total", &labels), 1);
}

#[test]
fn a_connect_that_does_not_come_in_time_closes() {
    let mut peers = Peers::new(r#"{"connect_timeout": "5s"}"#);
    peers.client(&connect(5)[..9]);
    assert_eq!(peers.bridge.next_step().deadline, Some(Duration::from_secs(5)));
    peers.bridge.handle_timeout(Duration::from_secs(5));
    assert!(peers.is_closed());
    assert_eq!(peers.opened, 0);
}

#[test]
fn a_bad_packet_is_not_carried_and_the_client_is_told_why() {
    for (version, reply) in [(4_u8, &b""[..]), (5, b"\xE0\x01\x81")] {
        let mut peers = Peers::accepted(version);
        let before = peers.content.len();
        // SUBSCRIBE with reserved flags, after a good PINGREQ.
        peers.client(&[0xC0, 0, 0x80, 5, 0, 1, 0, 1, b'a']);
        peers.flush();
        assert_eq!(&peers.content[before..], [0xC0, 0]);
        let replied = &peers.replied;
        assert!(replied.starts_with(reply) || replied.starts_with(b"\xE0\x02\x81"), "{replied:?}");
        assert!(peers.ended && peers.is_closed() && !peers.reset);
    }
}

#[test]
fn a_reply_never_lands_inside_a_packet_of_the_brokers() {
    let mut peers = Peers::accepted(5);
    let from_broker = publish(&[b'x'; 100]);
    peers.broker(&from_broker[..50]);
    peers.client(&[0x00, 0x00]);
    peers.flush();
    assert_eq!(peers.replied, &from_broker[..50]);
    assert!(peers.is_closed());
}

#[test]
fn a_broker_that_does_not_speak_mqtt_ends_the_session() {
    let mut peers = Peers::accepted(5);
    peers.broker(&[0x00; 40]);
    assert!(peers.replied.is_empty() && peers.is_closed() && peers.ended);
    peers.bridge.handle_close(Peer::Native);
    let labels = [("mode", "bridge"), ("cause", "server_error")];
    assert_eq!(peers.metric("mqtt_connections_closed_total", &labels), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_session_is_carried_the_same_in_any_pieces(
        payloads in proptest::collection::vec(0..3000_usize, 0..12),
        piece in 1..500_usize,
    ) {
        let mut stream = connect(5);
        for (i, payload) in payloads.iter().enumerate() {
            // MQTT 5.0: an empty property section before the payload.
            let mut body = vec![0, 3, b'a', b'/', b'b', 0];
            body.resize(6 + payload, u8::try_from(i).expect("few"));
            stream.extend(packet(0x30, &body));
            stream.extend([0xC0, 0]);
        }
        let mut peers = Peers::new("{}");
        for octets in stream.chunks(piece) {
            prop_assert!(peers.bridge.accepts_native());
            peers.client(octets);
        }
        prop_assert_eq!(&peers.content, &stream);
        let pings = peers.metric("mqtt_packets_total", &[("direction", "from_client"), ("type", "pingreq")]);
        prop_assert_eq!(pings, i64::try_from(payloads.len()).expect("few"));
    }

    #[test]
    fn no_octets_from_either_side_make_it_panic(
        start in 0..3_u8,
        steps in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..30),
    ) {
        let mut peers = match start {
            0 => Peers::new("{}"),
            1 => Peers::accepted(4),
            _ => Peers::accepted(5),
        };
        for (from_client, octets) in steps {
            if from_client {
                if peers.bridge.accepts_native() {
                    peers.client(&octets);
                }
            } else if start > 0 {
                peers.broker(&octets);
            } else {
                peers.http(&octets);
            }
        }
        peers.bridge.handle_close(Peer::Next);
    }
}
