//! A WebSocket client: an opening handshake that is about right, then frames that are. Whatever comes, the carried protocol
//! gets what a reader that knows only RFC 6455 §5.2 gets.
#![no_main]

use std::rc::Rc;
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{Bridge, Bytes, Ended, Input, Limits, Link, Peer, Protocol, Response, StreamId, Want};
use entry_points_fuzz::{Choices, NoTls};
use libfuzzer_sys::fuzz_target;
use websocket::{Settings, WebSocket};

const MAX_HELD: usize = 64;

const REQUEST: [&str; 8] = [
    "GET /mqtt HTTP/1.1\r\n",
    "Host: broker\r\n",
    "Upgrade: websocket\r\n",
    "Connection: Upgrade\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Protocol: test\r\n",
    "Sec-WebSocket-Version: 13\r\n",
    "\r\n",
];

/// Gathers what it gets, some octets at a time; answers `?`, and closes on `!`.
#[derive(Default)]
struct Gather {
    got: Vec<u8>,
    most: usize,
    closed: bool,
}

impl Protocol for Gather {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        self.most = self.most.max(input.len());
        let octets = input.as_slice();
        self.got.extend_from_slice(octets);
        if octets.contains(&b'?') {
            link.reply(Bytes::from_static(b"answer"));
        }
        if octets.contains(&b'!') {
            link.close();
        }
        input.clear();
        Want::More
    }
    fn handle_native_end(&mut self, link: &mut Link) {
        link.close();
    }
    fn handle_response(&mut self, _: &mut Link, _: StreamId, _: Response<()>) {}
    fn handle_body(&mut self, _: &mut Link, _: StreamId, _: Bytes) {}
    fn handle_ended(&mut self, _: &mut Link, _: StreamId, _: Ended) {}
    fn handle_timeout(&mut self, link: &mut Link) {
        link.close();
    }
    fn handle_close(&mut self, _: Peer) {
        self.closed = true;
    }
}

/// The payload of the binary messages at the front of a client's octets, up to the first fault, Close or `!`.
fn payload(mut octets: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut is_open = false;
    while let [first, second, rest @ ..] = octets {
        let (is_last, opcode) = (first & 0x80 > 0, first & 0x0f);
        let is_control = opcode >= 8;
        let (len, rest) = match (second & 0x7f, rest) {
            (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
            (127, rest) if rest.len() >= 8 => {
                (u64::from_be_bytes(rest[..8].try_into().expect("eight")), &rest[8..])
            }
            (len @ 0..126, rest) => (u64::from(len), rest),
            _ => break,
        };
        let is_right = match opcode {
            0 => is_open,
            2 => !is_open,
            9 | 10 => is_last && len < 126,
            _ => false,
        };
        if first & 0x70 > 0 || second & 0x80 == 0 || !is_right || len >> 63 > 0 {
            break;
        }
        let Some((mask, rest)) = rest.split_at_checked(4) else { break };
        let masked = &rest[..rest.len().min(usize::try_from(len).unwrap_or(usize::MAX))];
        if !is_control {
            for (octet, mask) in masked.iter().zip(mask.iter().cycle()) {
                payload.push(octet ^ mask);
                is_open = !is_last;
            }
            if masked.is_empty() {
                is_open = !is_last;
            }
        }
        if (masked.len() as u64) < len {
            break;
        }
        octets = &rest[masked.len()..];
    }
    payload
}

fn client_frame(choices: &mut Choices<'_>) -> Vec<u8> {
    let first = choices.one_of(&[0x82, 0x82, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88, 0x81, 0xc2, 0x03]);
    let payload = choices.octets(200);
    let mask = match choices.below(4) {
        0 => [0; 4],
        n => [n as u8, 0xfa, 0x21, 0x3d],
    };
    let mut frame = vec![first];
    // The length in more octets than it needs is a length all the same to many; see §5.2.
    match (choices.below(16), payload.len()) {
        (0, len) => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
        (1, len) => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        (2, _) => frame.push(choices.below(256) as u8),
        (_, len @ 0..126) => frame.push(0x80 | len as u8),
        (_, len) => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(octet, mask)| octet ^ mask));
    frame
}

fuzz_target!(|octets: &[u8]| {
    let mut choices = Choices::new(octets);
    let settings =
        Settings { subprotocol: "test", max_held: MAX_HELD, metrics: Registry::default() };
    let mut now = Duration::from_secs(10);
    let mut bridge = Bridge::new(Limits::default(), Box::new(NoTls), now, |_| {
        WebSocket::new(Gather::default(), Some(Rc::new(settings)))
    });

    let mut lines: Vec<Vec<u8>> = REQUEST.iter().map(|line| line.as_bytes().to_vec()).collect();
    let mut is_changed = false;
    while choices.once_in(4) {
        is_changed = true;
        let at = choices.below(lines.len());
        match choices.below(4) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, choices.octets(100).to_vec()),
            2 => lines.insert(at, lines[at].clone()),
            _ => {
                let within = choices.below(lines[at].len() + 1);
                lines[at].splice(within..within, choices.octets(8).iter().copied());
            }
        }
        if lines.is_empty() {
            break;
        }
    }
    let request = lines.concat();
    let mut replied = Vec::new();
    let mut frames = Vec::new();
    let mut pings = 0;
    let mut piece = choices.one_of(&[usize::MAX, 1, 7, 30]).min(1 << 20);
    for octets in request.chunks(piece) {
        bridge.handle_native(now, Bytes::copy_from_slice(octets));
    }
    while !choices.is_empty() {
        match choices.below(8) {
            0 => piece = choices.one_of(&[1 << 20, 1, 7, 30]),
            1 if choices.once_in(8) => {
                now += Duration::from_secs(1 << choices.below(4));
                if bridge.next_step().deadline.is_some_and(|at| at <= now) {
                    bridge.handle_timeout(now);
                }
            }
            2 if choices.once_in(4) => {
                let octets = choices.octets(40);
                frames.extend_from_slice(octets);
                bridge.handle_native(now, Bytes::copy_from_slice(octets));
                pings += octets.len();
            }
            _ => {
                let frame = client_frame(&mut choices);
                pings += usize::from(frame[0] == 0x89);
                for octets in frame.chunks(piece) {
                    bridge.handle_native(now, Bytes::copy_from_slice(octets));
                }
                frames.extend(frame);
            }
        }
        let (first, rest) = bridge.take_native();
        replied.extend(first.iter().chain(&rest));
    }
    let is_open = replied.starts_with(b"HTTP/1.1 101 ");
    let gathered = bridge.protocol().inner();
    assert!(!is_open || gathered.most <= MAX_HELD, "{} octets at once", gathered.most);
    if request.starts_with(b"GET ") {
        if !is_open {
            assert!(gathered.got.is_empty(), "nothing passes before the handshake");
        } else if !is_changed && pings < 60 {
            let expected = payload(&frames);
            let end = expected.iter().position(|octet| *octet == b'!').unwrap_or(expected.len());
            // What came with the `!` is taken; what a timeout cut off is not.
            let whole = expected.starts_with(&gathered.got) && gathered.got.len() <= end + MAX_HELD;
            assert!(whole, "{:?} of {expected:?}", gathered.got);
            if end == expected.len() && !bridge.next_step().close {
                assert_eq!(gathered.got, expected);
            }
        }
        assert!(replied.len() <= 400 + 20 * (octets.len() + 400));
    }
    bridge.handle_close(Peer::Native);
    assert!(bridge.protocol().inner().closed);
});
