//! `udp_proxy` gone mad: HTTP/2 frames that are about right, tunnels of any kind in them, capsules that are none, and header
//! values of any octets for who the client is. No session gets another's datagrams, and all are whole.
#![no_main]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{
    Bridge, Bytes, Ended, Input, Limits, Link, Peer, Protocol, Request, Response, StreamId, Want,
};
use entry_points_fuzz::{Choices, NoTls, PREFACE, any_frame, field, frame, kind};
use libfuzzer_sys::fuzz_target;
use tunnels::datagram::{self, Next};
use tunnels::{Client, Clients, Hub, RequestId, Service, Settings, Tunnels};

const MAX_SESSIONS: u32 = 4;

/// Sessions that were begun and have not ended.
type Open = Rc<RefCell<i64>>;

/// Sends back every datagram; one that begins with `!` closes, with `o` opens a stream.
struct Echo {
    open: Open,
    closed: bool,
}

impl Protocol for Echo {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        loop {
            match datagram::next(input.as_slice()) {
                Next::Incomplete => return Want::More,
                Next::Nothing(len) => input.skip(len),
                Next::Datagram { from, len } => {
                    let capsule = input.take(len);
                    match capsule.get(from) {
                        Some(b'!') => link.close(),
                        Some(b'o') => {
                            let request = Request::post("http://x/").body(()).expect("valid");
                            let _ = link.open(request, false);
                        }
                        _ => {}
                    }
                    link.reply(capsule);
                }
                Next::Malformed => {
                    input.clear();
                    link.close();
                    return Want::More;
                }
            }
        }
    }
    fn handle_native_end(&mut self, link: &mut Link) {
        link.close();
    }
    fn handle_response(&mut self, _: &mut Link, _: StreamId, _: Response<()>) {}
    fn handle_body(&mut self, _: &mut Link, _: StreamId, _: Bytes) {}
    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, _: Ended) {
        link.finish(stream);
    }
    fn handle_timeout(&mut self, _: &mut Link) {}
    fn handle_close(&mut self, _: Peer) {
        assert!(!std::mem::replace(&mut self.closed, true), "a session closes once");
        *self.open.borrow_mut() -= 1;
    }
}

/// The same for all of a connection.
struct Echoes(Open);

impl Service for Echoes {
    fn handle_client(&mut self, _: &mut Link, _: &mut Clients, _: RequestId, of: Client) {
        *self.0.borrow_mut() += 1;
        assert!(of.headers.len() < 100);
    }
    fn handle_datagram(
        &mut self,
        _: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        octets: Bytes,
    ) {
        clients.send(id, octets.len(), |out| {
            out.extend_from_slice(&octets);
            true
        });
        if octets.first() == Some(&b'!') {
            clients.end(id);
        }
    }
    fn handle_gone(&mut self, _: &mut Link, _: &mut Clients, _: RequestId) {
        *self.0.borrow_mut() -= 1;
    }
    fn handle_response(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Response<()>) {}
    fn handle_body(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Bytes) {}
    fn handle_ended(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Ended) {}
    fn handle_writable(&mut self, _: &mut Link, _: &mut Clients, _: StreamId) {}
    fn settle(&mut self, _: &mut Link, _: &mut Clients) {}
    fn handle_timeout(&mut self, _: &mut Link, _: &mut Clients) {}
    fn handle_close(&mut self, _: Peer) {}
}

fn blocks(forwarded_for: &[u8]) -> Vec<Vec<u8>> {
    let tunnel = |protocol: &[u8], path: &[u8], forwarded_for: &[u8]| {
        let mut block = Vec::new();
        field(&mut block, b":method", b"CONNECT");
        field(&mut block, b":protocol", protocol);
        field(&mut block, b":scheme", b"http");
        field(&mut block, b":authority", b"proxy");
        field(&mut block, b":path", path);
        field(&mut block, b"capsule-protocol", b"?1");
        field(&mut block, b"x-forwarded-for", forwarded_for);
        block
    };
    let path = b"/.well-known/masque/udp/10.0.0.1/53/";
    vec![
        tunnel(b"connect-udp", path, b"192.0.2.1:7"),
        tunnel(b"connect-udp", path, b"[2001:db8::1]:7"),
        tunnel(b"connect-udp", path, forwarded_for),
        tunnel(b"connect-udp", b"/%0d%0a", b"192.0.2.1, unknown, ,1"),
        tunnel(b"websocket", path, b""),
        vec![0x82, 0x86, 0x84],
        vec![],
    ]
}

fn capsules(choices: &mut Choices<'_>, stream: u32) -> Vec<u8> {
    let mut octets = Vec::new();
    for _ in 0..=choices.below(3) {
        let payload = choices.octets(60);
        match choices.below(8) {
            0 => octets.extend(payload),
            1 => octets.extend([&[0x17, payload.len() as u8], payload].concat()),
            2 => octets.extend([0, 0xbf, 0xff, 0xff, 0xff]),
            _ => {
                datagram::write(&mut octets, payload.len(), |out| {
                    out.extend_from_slice(payload);
                    true
                });
            }
        }
    }
    frame(kind::DATA, choices.one_of(&[0, 0, 0, 1]), stream, &octets)
}

fn run<P: Protocol>(
    mut bridge: Bridge<P>,
    choices: &mut Choices<'_>,
    open: &Open,
    gauge: impl Fn() -> i64,
) {
    let blocks = blocks(choices.octets(40));
    let mut now = Duration::from_secs(10);
    if !choices.once_in(16) {
        let hello = [PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat();
        bridge.handle_native(now, hello.into());
        bridge.handle_http(now, frame(kind::SETTINGS, 0, 0, &[]).into());
    }
    let mut piece = usize::MAX;
    while !choices.is_empty() {
        match choices.below(16) {
            0..=5 => {
                let octets = any_frame(choices, &blocks);
                for octets in octets.chunks(piece) {
                    bridge.handle_native(now, Bytes::copy_from_slice(octets));
                }
            }
            6 | 7 => {
                let stream = 2 * choices.below(6) as u32 + 1;
                let block = &blocks[choices.below(3)];
                bridge.handle_native(now, frame(kind::HEADERS, 4, stream, block).into());
            }
            8..=12 => {
                let stream = 2 * choices.below(6) as u32 + 1;
                let octets = capsules(choices, stream);
                for octets in octets.chunks(piece) {
                    bridge.handle_native(now, Bytes::copy_from_slice(octets));
                }
            }
            13 => {
                now += Duration::from_millis(100 << choices.below(8));
                bridge.handle_timeout(now);
            }
            14 => piece = choices.one_of(&[usize::MAX, 1, 7, 30]),
            _ if choices.once_in(4) => bridge.handle_native_end(now),
            _ => bridge.handle_http(now, any_frame(choices, &[vec![0x88]]).into()),
        }
        let _ = (bridge.take_native(), bridge.take_http());
        assert!(*open.borrow() <= i64::from(MAX_SESSIONS), "more sessions than may be");
        assert_eq!(gauge(), *open.borrow());
    }
    bridge.handle_close(Peer::Native);
    assert_eq!(gauge(), 0, "nothing is left");
}

fuzz_target!(|octets: &[u8]| {
    let mut choices = Choices::new(octets);
    let registry = Registry::default();
    let settings = Rc::new(Settings::new(MAX_SESSIONS, 1000, &registry));
    let open = Open::default();
    let now = Duration::from_secs(10);
    let gauge = || registry.gauge("udp_sessions_active", &[]).value();
    if choices.below(2) == 0 {
        let count = Rc::clone(&open);
        let start: Rc<tunnels::Start<Echo>> = Rc::new(move |_, _| {
            *count.borrow_mut() += 1;
            Echo { open: Rc::clone(&count), closed: false }
        });
        let bridge =
            Bridge::new(Limits::default(), Box::new(NoTls), now, |_| Tunnels::new(settings, start));
        run(bridge, &mut choices, &open, gauge);
        assert_eq!(*open.borrow(), 0);
    } else {
        let service = Echoes(Rc::clone(&open));
        let bridge =
            Bridge::new(Limits::default(), Box::new(NoTls), now, |_| Hub::new(settings, service));
        run(bridge, &mut choices, &open, gauge);
    }
});
