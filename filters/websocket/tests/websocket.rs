//! What a WebSocket promises, shown octet by octet: the test is the client and, with HTTP/2 frames
//! written by hand, the next filter. The carried protocol sends all it gets on one stream.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::rc::Rc;
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{
    Bridge, Bytes, Ended, Input, Limits, Link, Peer, Protocol, Request, Response, StreamId,
    Surroundings, Want,
};
use proptest::prelude::*;
use websocket::{Settings, WebSocket};

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: test\r\nSec-WebSocket-Version: 13\r\n\r\n";
const MAX_HELD: usize = 1000;
const PARKED: usize = 200_000;

const DATA: u8 = 0;
const END_STREAM: u8 = 1;

struct NoTls;
impl Surroundings for NoTls {
    fn server_name(&self) -> Option<String> {
        None
    }
}

/// Carries every octet on one stream, and what comes back on it. Waits 10 s for the first octet.
/// The octet `!` is answered and closes, `?` is the beginning of something longer, and `#` is
/// [`PARKED`] octets that it sends when there is room, without holding the client back.
#[derive(Debug, Default)]
struct Tunnel {
    stream: Option<StreamId>,
    most_input: usize,
    parked: Bytes,
    ended: bool,
    gone: Option<Peer>,
}

impl Protocol for Tunnel {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        self.most_input = self.most_input.max(input.len());
        if self.stream.is_none() && !input.is_empty() {
            link.set_deadline(None);
            let request = Request::post("http://test/").body(()).expect("valid");
            self.stream = link.open(request, false).ok();
        }
        let octets = input.as_slice();
        let n = octets.iter().position(|octet| b"!?#".contains(octet)).unwrap_or(octets.len());
        match self.stream {
            Some(stream) if link.send(stream, input, n) < n => return Want::Room,
            _ => {}
        }
        if input.as_slice().first() == Some(&b'!') {
            link.reply(Bytes::from_static(b"closed"));
            link.close();
        }
        if input.as_slice().first() == Some(&b'#') {
            input.skip(1);
            self.parked = Bytes::from(vec![b'#'; PARKED]);
        }
        if let Some(stream) = self.stream
            && !self.parked.is_empty()
        {
            link.send_octets(stream, &mut self.parked);
            if self.ended && self.parked.is_empty() {
                link.finish(stream);
            }
        }
        Want::More
    }
    fn handle_native_end(&mut self, link: &mut Link) {
        self.ended = true;
        match self.stream {
            Some(stream) if self.parked.is_empty() => link.finish(stream),
            Some(_) => {}
            None => link.close(),
        }
    }
    fn handle_response(&mut self, _: &mut Link, _: StreamId, _: Response<()>) {}
    fn handle_body(&mut self, link: &mut Link, _: StreamId, body: Bytes) {
        link.reply(body);
    }
    fn handle_ended(&mut self, link: &mut Link, _: StreamId, _: Ended) {
        link.close();
    }
    fn handle_timeout(&mut self, link: &mut Link) {
        link.reply(Bytes::from_static(b"timeout"));
        link.close();
    }
    fn handle_close(&mut self, by: Peer) {
        self.gone = Some(by);
    }
}

struct Peers {
    bridge: Bridge<WebSocket<Tunnel>>,
    metrics: Registry,
    now: Duration,
    /// HTTP/2 octets that do not yet form a frame.
    unparsed: Vec<u8>,
    preface_seen: bool,
    /// The request's content.
    content: Vec<u8>,
    ended: bool,
    replied: Vec<u8>,
    /// Octets that the client is held back with.
    held_back: Vec<u8>,
}

impl Peers {
    fn new(websocket: bool) -> Self {
        let metrics = Registry::default();
        let settings =
            Settings { subprotocol: "test", max_held: MAX_HELD, metrics: metrics.clone() };
        let settings = websocket.then(|| Rc::new(settings));
        let now = Duration::from_secs(100);
        let bridge = Bridge::new(Limits::default(), Box::new(NoTls), now, |link| {
            link.set_deadline(Some(now + Duration::from_secs(10)));
            WebSocket::new(Tunnel::default(), settings)
        });
        Self {
            bridge,
            metrics,
            now,
            unparsed: Vec::new(),
            preface_seen: false,
            content: Vec::new(),
            ended: false,
            replied: Vec::new(),
            held_back: Vec::new(),
        }
    }

    /// With an open WebSocket.
    fn open() -> Self {
        let mut peers = Self::new(true);
        peers.client(REQUEST);
        assert!(peers.replied.starts_with(b"HTTP/1.1 101 "));
        peers.replied.clear();
        peers
    }

    fn client(&mut self, octets: &[u8]) {
        if self.bridge.accepts_native() {
            self.bridge.handle_native(self.now, Bytes::copy_from_slice(octets));
        } else {
            self.held_back.extend(octets);
        }
        self.collect();
    }

    fn http(&mut self, octets: &[u8]) {
        self.bridge.handle_http(self.now, Bytes::copy_from_slice(octets));
        self.collect();
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.bridge.handle_timeout(self.now);
        self.collect();
    }

    /// Makes room for so many octets more.
    fn make_room(&mut self, n: u32) {
        for stream in [0, 1] {
            self.http(&http2(8, 0, stream, &n.to_be_bytes()));
        }
        if self.bridge.accepts_native() && !self.held_back.is_empty() {
            let octets = std::mem::take(&mut self.held_back);
            self.client(&octets);
        }
    }

    fn closed(&self) -> bool {
        self.bridge.next_step().close
    }

    fn tunnel(&self) -> &Tunnel {
        self.bridge.protocol().inner()
    }

    fn collect(&mut self) {
        let (first, rest) = self.bridge.take_native();
        self.replied.extend(first.iter().chain(&rest));
        self.unparsed.extend(self.bridge.take_http());
        if !self.preface_seen && self.unparsed.len() >= 24 {
            self.unparsed.drain(..24);
            self.preface_seen = true;
        }
        while self.preface_seen && self.unparsed.len() >= 9 {
            let len = usize::from(self.unparsed[1]) << 8 | usize::from(self.unparsed[2]);
            let (kind, flags) = (self.unparsed[3], self.unparsed[4]);
            let whole: Vec<u8> = self.unparsed.drain(..9 + len).collect();
            if kind == DATA {
                self.content.extend(&whole[9..]);
                self.ended |= flags & END_STREAM != 0;
            }
        }
    }
}

/// An HTTP/2 frame.
fn http2(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The next filter's SETTINGS, and 200 on the stream.
fn accepted() -> Vec<u8> {
    [http2(4, 0, 0, &[]), http2(1, 4, 1, b"\x88")].concat()
}

/// A client's frame.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | u8::try_from(len).expect("short")),
        len @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).expect("short").to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(octet, mask)| octet ^ mask));
    frame
}

fn close(code: u16) -> Vec<u8> {
    [&[0x88, 2][..], &code.to_be_bytes()].concat()
}

/// Takes our frames apart: first octet and payload.
fn frames(mut octets: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, len, rest @ ..] = octets {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().expect("eight")) as usize, &rest[8..]),
            len => (usize::from(*len), rest),
        };
        frames.push((*first, rest[..len].to_vec()));
        octets = &rest[len..];
    }
    frames
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + u8::try_from(i % 23).expect("small")).collect()
}

#[test]
fn what_is_not_a_get_request_passes_as_it_is_in_both_directions() {
    for octets in ["hello", "GOT", "GETA", "GEx", "POST / HTTP/1.1\r\n\r\n"] {
        let mut peers = Peers::new(true);
        for octet in octets.as_bytes() {
            peers.client(&[*octet]);
        }
        peers.http(&accepted());
        peers.http(&http2(DATA, 0, 1, b"answer"));
        assert_eq!(peers.content, octets.as_bytes());
        assert_eq!(peers.replied, b"answer");
    }
}

#[test]
fn the_beginning_of_get_and_no_more_reaches_the_carried_protocol() {
    let mut peers = Peers::new(true);
    peers.client(b"GET");
    assert_eq!(peers.content, b"");
    peers.bridge.handle_native_end(peers.now);
    peers.collect();
    assert_eq!(peers.content, b"GET");
    assert!(peers.ended);
}

#[test]
fn without_settings_a_get_request_is_the_carried_protocols() {
    let mut peers = Peers::new(false);
    peers.client(REQUEST);
    peers.http(&accepted());
    assert_eq!(peers.content, REQUEST);
}

#[test]
fn payload_reaches_the_carried_protocol_and_its_replies_become_binary_messages() {
    let mut peers = Peers::open();
    peers.client(&[masked(0x02, b"hel"), masked(0x80, b"lo")].concat());
    peers.http(&accepted());
    for reply in [&b"answer"[..], &[b'.'; 126], &[b'!'; 10_000]] {
        peers.http(&http2(DATA, 0, 1, reply));
        assert_eq!(frames(&peers.replied), [(0x82, reply.to_vec())]);
        peers.replied.clear();
    }
    assert_eq!(peers.content, b"hello");
}

#[test]
fn frames_behind_the_request_in_the_same_octets_are_read() {
    let mut peers = Peers::new(true);
    peers.client(&[REQUEST, &masked(0x82, b"hasty")].concat());
    peers.http(&accepted());
    assert_eq!(peers.content, b"hasty");
}

#[test]
fn a_refused_handshake_is_answered_and_closed_and_opens_no_stream() {
    let mut peers = Peers::new(true);
    peers.client(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\nwhatever follows");
    assert!(peers.replied.starts_with(b"HTTP/1.1 426 Upgrade Required\r\n"));
    assert!(peers.closed());
    assert!(!peers.preface_seen);
    let refused = peers.metrics.counter("websocket_handshakes_total", &[("reason", "no_upgrade")]);
    assert_eq!(refused.value(), 1);
}

#[test]
fn an_endless_request_is_refused_at_its_bound() {
    let mut peers = Peers::new(true);
    peers.client(b"GET / HTTP/1.1\r\n");
    let mut sent = 16;
    while !peers.closed() {
        peers.client(b"a: b\r\n");
        sent += 6;
        assert!(sent <= 8192 + 6);
    }
    assert!(peers.replied.starts_with(b"HTTP/1.1 431 "));
}

#[test]
fn the_deadline_of_the_carried_protocol_covers_the_handshake_and_what_follows() {
    for octets in [&REQUEST[..50], REQUEST, &[REQUEST, &[0x82][..]].concat()] {
        let mut peers = Peers::new(true);
        peers.client(octets);
        peers.wait(9);
        assert!(!peers.closed());
        let answered = peers.replied.len();
        peers.wait(1);
        if octets.len() < REQUEST.len() {
            assert!(peers.closed());
            assert_eq!(peers.replied, b"");
        } else {
            // What it says, it says in frames; then the client has a chance to answer.
            let timeout = (0x82, b"timeout".to_vec());
            assert_eq!(frames(&peers.replied[answered..]), [timeout, (0x88, vec![3, 0xE8])]);
            peers.wait(5);
            assert!(peers.closed());
        }
    }
}

#[test]
fn a_ping_is_answered_with_its_payload_even_in_the_middle_of_a_message() {
    let mut peers = Peers::open();
    let octets = [masked(0x02, b"hel"), masked(0x89, b"there?"), masked(0x80, b"lo")].concat();
    peers.client(&octets);
    peers.http(&accepted());
    assert_eq!(frames(&peers.replied), [(0x8A, b"there?".to_vec())]);
    assert_eq!(peers.content, b"hello");
}

#[test]
fn more_pings_than_are_answered_close_with_policy_violation() {
    let mut peers = Peers::open();
    for _ in 0..64 {
        peers.client(&masked(0x89, b""));
    }
    peers.wait(1);
    peers.client(&masked(0x89, b""));
    assert!(!peers.closed());
    peers.client(&masked(0x89, b""));
    assert!(peers.closed());
    assert_eq!(frames(&peers.replied).len(), 66);
    assert!(peers.replied.ends_with(&close(1008)));
}

#[test]
fn a_fault_is_answered_with_its_code_after_what_was_right_reached_the_stream() {
    let not_utf8 = masked(0x88, b"\x03\xE8\xFF");
    let cases = [
        (masked(0x81, b"text"), 1003, "text_message"),
        (vec![0x82, 1, b'x'], 1002, "protocol_error"),
        (masked(0x80, b"x"), 1002, "protocol_error"),
        (not_utf8, 1007, "not_utf8"),
    ];
    for (octets, code, label) in cases {
        let mut peers = Peers::open();
        peers.client(&[masked(0x82, b"good"), octets, masked(0x82, b"never")].concat());
        peers.http(&http2(4, 0, 0, &[]));
        assert_eq!(peers.replied, close(code));
        assert!(peers.closed());
        assert_eq!(peers.content, b"good");
        assert!(peers.ended, "the carried protocol knows that no more comes");
        let faults = peers.metrics.counter("websocket_faults_total", &[("reason", label)]);
        assert_eq!(faults.value(), 1);
    }
}

#[test]
fn the_carried_protocols_last_words_come_before_the_close_frame() {
    let mut peers = Peers::open();
    peers.client(&masked(0x82, b"x!ignored"));
    let last = [(0x82, b"closed".to_vec()), (0x88, vec![3, 0xE8])];
    assert_eq!(frames(&peers.replied), last);
    assert!(!peers.closed(), "the client's Close frame is waited for");
    // Whatever it sent before it knew is not an offence, and goes nowhere.
    peers.client(&[masked(0x82, b"late"), masked(0x89, b"ping")].concat());
    assert_eq!(frames(&peers.replied), last);
    assert!(!peers.closed());
    peers.client(&masked(0x88, &1000_u16.to_be_bytes()));
    assert!(peers.closed());
    assert_eq!(frames(&peers.replied), last);
    assert_eq!(peers.content, b"x");
}

#[test]
fn a_client_that_does_not_answer_a_close_frame_is_not_waited_for_for_ever() {
    let mut peers = Peers::open();
    peers.client(&masked(0x82, b"!"));
    let deadline = peers.bridge.next_step().deadline.expect("set");
    assert_eq!(deadline, peers.now + Duration::from_secs(5));
    peers.client(&masked(0x82, b"still here"));
    peers.wait(4);
    assert!(!peers.closed());
    peers.wait(1);
    assert!(peers.closed());
    assert_eq!(peers.bridge.next_step().deadline, None);
}

#[test]
fn a_clients_close_is_answered_when_the_carried_protocol_has_said_its_last() {
    let mut peers = Peers::open();
    peers.client(&[masked(0x82, b"last"), masked(0x88, b"\x03\xE9bye"), vec![0xFF; 9]].concat());
    peers.http(&accepted());
    assert_eq!(peers.content, b"last");
    assert!(peers.ended);
    assert_eq!(peers.replied, b"");
    peers.http(&http2(DATA, 0, 1, b"answer"));
    peers.http(&http2(DATA, END_STREAM, 1, b""));
    let expected = [(0x82, b"answer".to_vec()), (0x88, 1001_u16.to_be_bytes().to_vec())];
    assert_eq!(frames(&peers.replied), expected);
    assert!(peers.closed());
}

#[test]
fn a_clients_close_is_answered_after_a_while_even_if_the_next_filter_never_ends() {
    let mut peers = Peers::open();
    peers.client(&[masked(0x82, b"last"), masked(0x88, b"")].concat());
    peers.http(&accepted());
    peers.wait(4);
    assert_eq!(peers.replied, b"");
    peers.wait(1);
    assert_eq!(peers.replied, [0x88, 0]);
    assert!(peers.closed());
}

#[test]
fn what_the_carried_protocol_parked_is_sent_even_after_the_clients_close() {
    for close in [&b""[..], &masked(0x88, b"")] {
        let mut peers = Peers::open();
        peers.client(&[&masked(0x82, b"#")[..], close].concat());
        peers.http(&accepted());
        assert_eq!(peers.content.len(), 65_535);
        for _ in 0..3 {
            assert!(!peers.ended);
            peers.make_room(50_000);
        }
        assert_eq!(peers.content.len(), PARKED);
        assert_eq!(peers.ended, !close.is_empty());
    }
}

#[test]
fn a_close_before_anything_else_is_answered_at_once() {
    let mut peers = Peers::open();
    peers.client(&masked(0x88, &1000_u16.to_be_bytes()));
    assert_eq!(peers.replied, close(1000));
    assert!(peers.closed());
}

#[test]
fn the_end_of_the_octets_ends_the_carried_protocol_too() {
    let mut peers = Peers::open();
    peers.client(&masked(0x82, b"last"));
    peers.bridge.handle_native_end(peers.now);
    peers.http(&accepted());
    assert!(peers.ended);
    peers.http(&http2(DATA, END_STREAM, 1, b""));
    assert!(peers.closed());

    let mut peers = Peers::new(true);
    peers.client(&REQUEST[..20]);
    peers.bridge.handle_native_end(peers.now);
    assert!(peers.closed());
    assert!(peers.tunnel().ended);
}

#[test]
fn the_loss_of_the_connection_is_reported_in_every_state() {
    for octets in [&b""[..], b"G", b"GET / HTTP", REQUEST, b"other"] {
        let mut peers = Peers::new(true);
        peers.client(octets);
        peers.bridge.handle_close(Peer::Next);
        assert_eq!(peers.tunnel().gone, Some(Peer::Next));
    }
}

#[test]
fn a_connection_closed_for_a_fault_was_ended_by_the_client() {
    for octets in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[REQUEST, &[0xFF; 20]].concat()] {
        let mut peers = Peers::new(true);
        peers.client(octets);
        assert!(peers.closed());
        // Who closes the transport is the filter itself.
        peers.bridge.handle_close(Peer::Next);
        assert_eq!(peers.tunnel().gone, Some(Peer::Native));
    }
}

#[test]
fn while_there_is_no_room_no_more_is_taken_and_little_is_held() {
    let sent = pattern(1 << 20);
    let mut peers = Peers::open();
    peers.client(&masked(0x82, b"x"));
    peers.http(&accepted());
    peers.content.clear();
    // One frame of a megabyte in small pieces, then a Close frame.
    let octets = [masked(0x82, &sent), masked(0x88, b"")].concat();
    let mut accepted = 0;
    for piece in octets.chunks(5000) {
        if peers.bridge.accepts_native() {
            accepted += piece.len();
        }
        peers.client(piece);
    }
    assert!(accepted <= 65_535 + 2 * 5000, "{accepted} octets were taken without room");
    assert!(!peers.ended);
    while peers.content.len() < sent.len() {
        let before = peers.content.len();
        peers.make_room(50_000);
        assert!(peers.content.len() > before);
    }
    assert!(peers.content == sent);
    assert!(peers.ended, "the Close frame was reached");
    assert!(peers.tunnel().most_input <= MAX_HELD);
}

proptest! {
    #[test]
    fn any_split_and_any_fragmentation_gives_what_there_is_without_a_websocket(
        mut octets in prop::collection::vec(0x40..=0xFF_u8, 0..4000),
        special in prop::option::of((0..8000_usize, prop::sample::select(b"!?".as_slice()))),
        fragments in prop::collection::vec((0..700_usize, any::<bool>(), any::<bool>()), 1..40),
        pieces in prop::collection::vec(1..900_usize, 1..40),
    ) {
        if let Some((at, special)) = special
            && let Some(octet) = octets.get_mut(at)
        {
            *octet = special;
        }
        let answer = if octets.is_empty() {
            http2(4, 0, 0, &[])
        } else {
            [accepted(), http2(DATA, 0, 1, b"answer")].concat()
        };
        let mut plain = Peers::new(false);
        plain.client(&octets);
        plain.http(&answer);

        let (mut frames_sent, mut pings, mut fragmented) = (REQUEST.to_vec(), 0, false);
        let mut rest = &octets[..];
        for (len, last, ping) in fragments.into_iter().cycle() {
            let (fragment, after) = rest.split_at(len.max(1).min(rest.len()));
            rest = after;
            let last = last || rest.is_empty();
            let first = if last { 0x80 } else { 0 } | if fragmented { 0 } else { 2 };
            frames_sent.extend(masked(first, fragment));
            fragmented = !last;
            if ping && pings < 60 {
                frames_sent.extend(masked(0x89, b"ping"));
                pings += 1;
            }
            if rest.is_empty() {
                break;
            }
        }
        let mut peers = Peers::new(true);
        let mut rest = &frames_sent[..];
        for len in pieces.into_iter().cycle() {
            let (piece, after) = rest.split_at(len.min(rest.len()));
            rest = after;
            peers.client(piece);
            if rest.is_empty() {
                break;
            }
        }
        peers.http(&answer);
        prop_assert_eq!(&peers.content, &plain.content);
        let end = peers.replied.windows(4).position(|octets| octets == b"\r\n\r\n").expect("101");
        let mut replied = Vec::new();
        let mut pongs = 0;
        for (first, payload) in frames(&peers.replied[end + 4..]) {
            match first {
                0x82 => replied.extend(payload),
                0x8A => pongs += 1,
                _ => {}
            }
        }
        prop_assert_eq!(&replied, &plain.replied);
        if !plain.closed() {
            prop_assert_eq!(pongs, pings);
        }
    }

    #[test]
    fn no_octets_make_it_panic_or_hold_much(
        octets in prop::collection::vec(any::<u8>(), 0..3000),
        pieces in prop::collection::vec(1..300_usize, 1..20),
        from_the_start in any::<bool>(),
    ) {
        let mut peers = if from_the_start { Peers::new(true) } else { Peers::open() };
        let octets = if from_the_start { [b"GET ", &octets[..]].concat() } else { octets };
        let mut rest = &octets[..];
        for len in pieces.into_iter().cycle() {
            let (piece, after) = rest.split_at(len.min(rest.len()));
            rest = after;
            peers.client(piece);
            if rest.is_empty() {
                break;
            }
        }
        peers.http(&accepted());
        peers.wait(100);
        peers.bridge.handle_native_end(peers.now);
        peers.bridge.handle_close(Peer::Native);
        prop_assert!(peers.replied.len() <= octets.len() + 1000);
    }
}
