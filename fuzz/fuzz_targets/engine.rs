//! The bridge between a native peer that sends anything and a connection manager that answers with anything: frames that
//! are about right, in any order, and octets that are none.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use bridge::{
    Bridge, Bytes, Ended, Input, Limits, Link, Peer, Protocol, Request, Response, StreamId, Want,
};
use entry_points_fuzz::{Choices, NoTls, any_frame, field, frame, kind};
use libfuzzer_sys::fuzz_target;

/// Carries octets on one stream. `!` opens a request of its own, `~` ends one, `=` leaves content where it is, `_` closes.
///
/// None is reset: h2 asserts in debug builds that no frame comes on a stream after that; without the assertion it resets the
/// stream again.
#[derive(Default)]
struct Carry {
    stream: Option<StreamId>,
    open: BTreeSet<StreamId>,
    answered: BTreeSet<StreamId>,
    /// Streams of which nothing more is to be heard.
    over: BTreeSet<StreamId>,
    is_held: bool,
    got: usize,
    closed: usize,
}

impl Carry {
    fn expect(&self, stream: StreamId) {
        assert!(self.open.contains(&stream), "it was never opened");
        assert!(!self.over.contains(&stream), "it has ended");
        assert_eq!(self.closed, 0, "nothing follows the end");
    }
}

impl Protocol for Carry {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        while let Some(&octet) = input.as_slice().first() {
            let last = self.open.last().copied();
            match octet {
                b'!' => {
                    let request = Request::get("http://test/more").body(()).expect("valid");
                    self.open.extend(link.open(request, true));
                }
                b'_' => link.close(),
                b'~' => {
                    if let Some(stream) = last {
                        link.finish(stream);
                    }
                }
                b'=' => {
                    self.is_held = !self.is_held;
                    if let Some(stream) = self.stream {
                        link.hold(stream, self.is_held);
                    }
                }
                b'@' => link.set_deadline(Some(link.now() + Duration::from_secs(1))),
                _ => {
                    if self.stream.is_none() {
                        let request = Request::post("http://test/").body(()).expect("valid");
                        self.stream = link.open(request, false).ok();
                        self.open.extend(self.stream);
                    }
                    let special = |octet: &u8| b"!~_=@".contains(octet);
                    let octets = input.as_slice();
                    let n = octets.iter().position(special).unwrap_or(octets.len());
                    match self.stream {
                        Some(stream) if link.send(stream, input, n) < n => return Want::Room,
                        Some(_) => {}
                        None => input.skip(n),
                    }
                    continue;
                }
            }
            input.skip(1);
        }
        Want::More
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        if let Some(stream) = self.stream {
            link.finish(stream);
        }
    }

    fn handle_response(&mut self, _: &mut Link, stream: StreamId, _: Response<()>) {
        self.expect(stream);
        assert!(self.answered.insert(stream), "it is answered once");
    }

    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        self.expect(stream);
        assert!(self.answered.contains(&stream), "the response is first");
        self.got += body.len();
        link.reply(body);
    }

    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, _: Ended) {
        self.expect(stream);
        self.over.insert(stream);
        link.finish(stream);
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        link.set_deadline(None);
    }

    fn handle_close(&mut self, _: Peer) {
        self.closed += 1;
    }
}

fn blocks() -> Vec<Vec<u8>> {
    // 200, 204 and 404 of the static table; others as they come.
    let mut blocks = vec![b"\x88".to_vec(), b"\x89".to_vec(), b"\x8d".to_vec(), vec![]];
    for status in ["103", "100", "101", "302", "999", "20", "2000", "\r\n"] {
        let mut block = Vec::new();
        field(&mut block, b":status", status.as_bytes());
        field(&mut block, b"content-length", b"5");
        blocks.push(block);
    }
    let mut large = b"\x88".to_vec();
    field(&mut large, b"x-large", &[b'a'; 9000]);
    blocks.push(large);
    let mut odd = b"\x88".to_vec();
    field(&mut odd, b"Upper", b"\x00\x01\xff");
    field(&mut odd, b":path", b"/");
    blocks.push(odd);
    blocks
}

fuzz_target!(|octets: &[u8]| {
    let mut choices = Choices::new(octets);
    let blocks = blocks();
    let limits = match choices.below(4) {
        0 => Limits { stream_window: 100, ..Limits::default() },
        _ => Limits::default(),
    };
    let mut now = Duration::from_secs(10);
    let mut bridge = Bridge::new(limits, Box::new(NoTls), now, |_| Carry::default());
    let (mut sent, mut replied, mut carried) = (0, 0, 0);
    let mut piece = usize::MAX;
    if !choices.once_in(8) {
        bridge.handle_http(now, frame(kind::SETTINGS, 0, 0, &[]).into());
    }
    while !choices.is_empty() {
        match choices.below(16) {
            0..=3 => {
                let octets = choices.octets(60);
                if bridge.accepts_native() {
                    sent += octets.len();
                    bridge.handle_native(now, Bytes::copy_from_slice(octets));
                }
            }
            4..=12 => {
                let octets = any_frame(&mut choices, &blocks);
                for octets in octets.chunks(piece) {
                    bridge.handle_http(now, Bytes::copy_from_slice(octets));
                }
            }
            13 => {
                now += Duration::from_millis(100 << choices.below(8));
                bridge.handle_timeout(now);
            }
            14 => piece = choices.one_of(&[usize::MAX, 1, 7, 30]),
            _ => match choices.below(3) {
                0 => bridge.handle_native_end(now),
                _ => bridge.request_turn(),
            },
        }
        let (first, rest) = bridge.take_native();
        replied += first.len() + rest.len();
        carried += bridge.take_http().len();
    }
    assert_eq!(replied, bridge.protocol().got);
    // Frames' headers and acknowledgements are bounded by what came; nothing grows of itself.
    assert!(carried <= 64 * (octets.len() + 64) + sent * 64, "{carried} of {}", octets.len());
    bridge.handle_close(Peer::Native);
    assert_eq!(bridge.protocol().closed, 1);
});
