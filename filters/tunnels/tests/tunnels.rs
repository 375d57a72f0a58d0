//! What tunnels promise: the test is `udp_proxy`, with the `h2` crate's client driven by hand, and the
//! connection manager. What a session does, it is told in its datagrams.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::server::{Received, Server, ServerLimits};
use bridge::{
    Bridge, Ended, Input, Limits, Link, Peer, Protocol, Request, Response, StreamId, Surroundings,
    Want,
};
use bytes::Bytes;
use codec_capsule::{Datagram, Decoded, UDP_PAYLOAD, decode};
use http::Method;
use tunnels::{Client, Clients, Hub, RequestId, Service, Settings, Tunnels};

#[path = "../../bridge/tests/wire/mod.rs"]
mod wire;

use wire::Wire;

type Log = Rc<RefCell<Vec<String>>>;

/// A session that does what its datagrams say:
///
/// | datagram | |
/// |---|---|
/// | `say x` | replies `x` |
/// | `open /x` | opens a stream |
/// | `wait 5` | sets a deadline, in seconds |
/// | `close` | closes |
/// | `stop` | takes no more until something happens on a stream |
struct Talk {
    name: String,
    log: Log,
    stopped: bool,
}

impl Talk {
    fn note(&self, what: impl std::fmt::Display) {
        self.log.borrow_mut().push(format!("{} {what}", self.name));
    }
}

impl Protocol for Talk {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        while !self.stopped
            && let Decoded::Complete { value, consumed } =
                decode(input.as_slice(), 70_000).expect("a capsule")
        {
            let datagram = Datagram::decode(value.value).expect("a datagram").payload;
            let text = String::from_utf8_lossy(datagram).into_owned();
            input.skip(consumed);
            let (command, argument) = text.split_once(' ').unwrap_or((&text, ""));
            self.note(command);
            match command {
                "say" => link.reply(capsule(argument).into()),
                "open" => {
                    let mut request = Request::new(());
                    *request.method_mut() = Method::POST;
                    *request.uri_mut() = format!("http://x{argument}").parse().expect("a URI");
                    link.open(request, false).expect("a stream");
                }
                "wait" => {
                    let seconds = argument.parse().expect("a number");
                    link.set_deadline(Some(link.now() + Duration::from_secs(seconds)));
                }
                "close" => link.close(),
                "stop" => self.stopped = true,
                _ => {}
            }
        }
        if self.stopped { Want::Room } else { Want::More }
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        self.note("end");
        link.close();
    }

    fn handle_response(&mut self, _: &mut Link, _: StreamId, response: Response<()>) {
        self.note(response.status().as_u16());
    }

    fn handle_body(&mut self, link: &mut Link, _: StreamId, body: Bytes) {
        self.stopped = false;
        link.reply(capsule(&body).into());
    }

    fn handle_ended(&mut self, _: &mut Link, _: StreamId, how: Ended) {
        self.note(if how == Ended::Complete { "complete" } else { "reset" });
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        self.note(format!("timeout {}", link.now().as_secs()));
        link.reply(capsule("timeout").into());
    }

    fn handle_close(&mut self, by: Peer) {
        self.note(format!("closed by {by:?}"));
    }
}

fn capsule(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let datagram = Datagram { context_id: UDP_PAYLOAD, payload: payload.as_ref() };
    let mut octets = vec![0; datagram.encoded_len().expect("a datagram")];
    datagram.encode(&mut octets).expect("a datagram");
    octets
}

struct NoTls;
impl Surroundings for NoTls {
    fn server_name(&self) -> Option<String> {
        None
    }
}

/// A tunnel as `udp_proxy` sees it.
struct Tunnel {
    response: h2::client::ResponseFuture,
    sending: h2::SendStream<Bytes>,
    head: Option<Response<()>>,
    incoming: Option<h2::RecvStream>,
    /// What was sent and had no room.
    unsent: VecDeque<u8>,
    got: Vec<u8>,
    ended: Option<Ended>,
    /// What comes is left unread.
    unread: bool,
}

impl Tunnel {
    fn drive(&mut self, cx: &mut Context<'_>) {
        let reason = |error: &h2::Error| Ended::Reset(error.reason().map_or(0, Into::into));
        if !self.unsent.is_empty() {
            self.sending.reserve_capacity(self.unsent.len());
            let _ = self.sending.poll_capacity(cx);
            let n = self.sending.capacity().min(self.unsent.len());
            if n > 0 {
                let octets: Vec<u8> = self.unsent.drain(..n).collect();
                let _ = self.sending.send_data(octets.into(), false);
            }
        }
        if self.head.is_none() && self.ended.is_none() {
            match Pin::new(&mut self.response).poll(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(response)) => {
                    let (parts, body) = response.into_parts();
                    self.head = Some(Response::from_parts(parts, ()));
                    self.incoming = Some(body);
                }
                Poll::Ready(Err(error)) => self.ended = Some(reason(&error)),
            }
        }
        while let Some(body) = self.incoming.as_mut().filter(|_| !self.unread) {
            match body.poll_data(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(octets))) => {
                    let _ = body.flow_control().release_capacity(octets.len());
                    self.got.extend_from_slice(&octets);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => self.ended = Some(reason(&error)),
                Poll::Ready(None) => self.ended = Some(Ended::Complete),
            }
            self.incoming = None;
        }
    }
}

struct Bench {
    bridge: Bridge<Tunnels<Talk>>,
    registry: Registry,
    wire: Wire,
    requests: h2::client::SendRequest<Bytes>,
    connection: h2::client::Connection<Wire, Bytes>,
    is_lost: bool,
    tunnels: Vec<Tunnel>,
    log: Log,
    now: Duration,
    manager: Server,
    /// The paths of streams that sessions opened, and how they ended.
    streams: Vec<(RequestId, String, Option<Ended>)>,
}

impl Bench {
    fn new(max_sessions: u32) -> Self {
        Self::with(max_sessions, 1 << 16, &h2::client::Builder::new())
    }

    fn with(max_sessions: u32, stream_window: u32, client: &h2::client::Builder) -> Self {
        let registry = Registry::default();
        let settings = Rc::new(Settings::new(max_sessions, stream_window, &registry));
        let log = Log::default();
        let start: Rc<tunnels::Start<Talk>> = {
            let log = Rc::clone(&log);
            Rc::new(move |_, client: Client| {
                let name = client.headers.get("x-name").and_then(|name| name.to_str().ok());
                let name = name.unwrap_or("?").to_owned();
                let talk = Talk { name, log: Rc::clone(&log), stopped: false };
                let address = client.address.map_or("nowhere".to_owned(), |it| it.to_string());
                talk.note(format!("from {address}"));
                talk
            })
        };
        let bridge = Bridge::new(Limits::default(), Box::new(NoTls), Duration::ZERO, |_| {
            Tunnels::new(settings, start)
        });
        let wire = Wire::default();
        let mut handshake = Box::pin(client.handshake(wire.clone()));
        let Poll::Ready(Ok((requests, connection))) =
            handshake.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("no handshake");
        };
        let manager = Server::new(&ServerLimits {
            stream_window: 1 << 20,
            connection_window: 1 << 20,
            max_header_list_size: 1 << 16,
            max_streams: 1000,
        });
        let mut bench = Self {
            bridge,
            registry,
            wire,
            requests,
            connection,
            is_lost: false,
            tunnels: Vec::new(),
            log,
            now: Duration::ZERO,
            manager,
            streams: Vec::new(),
        };
        bench.settle();
        assert!(bench.requests.is_extended_connect_protocol_enabled());
        bench
    }

    fn request(&mut self, request: Request<()>) -> usize {
        let Poll::Ready(Ok(())) = self.requests.poll_ready(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("too many streams for the client");
        };
        let (response, sending) = self.requests.send_request(request, false).expect("valid");
        self.tunnels.push(Tunnel {
            response,
            sending,
            head: None,
            incoming: None,
            unsent: VecDeque::new(),
            got: Vec::new(),
            ended: None,
            unread: false,
        });
        self.settle();
        self.tunnels.len() - 1
    }

    /// Opens a tunnel as `udp_proxy` does.
    fn tunnel(&mut self, name: &str, forwarded_for: &str) -> usize {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://proxy/.well-known/masque/udp/10.0.0.1/5683/")
            .header("capsule-protocol", "?1")
            .header("x-name", name)
            .header("x-forwarded-for", forwarded_for)
            .body(())
            .expect("a request");
        request.extensions_mut().insert(h2::ext::Protocol::from_static("connect-udp"));
        self.request(request)
    }

    fn open(&mut self, name: &str) -> usize {
        let tunnel = self.tunnel(name, "192.0.2.1:7");
        assert_eq!(self.status(tunnel), 200);
        self.log();
        tunnel
    }

    fn status(&self, tunnel: usize) -> u16 {
        self.tunnels[tunnel].head.as_ref().expect("a response").status().as_u16()
    }

    fn send(&mut self, tunnel: usize, text: &str) {
        self.tunnels[tunnel].unsent.extend(capsule(text));
        self.settle();
    }

    /// The datagrams that came through a tunnel.
    fn got(&mut self, tunnel: usize) -> Vec<String> {
        let octets = std::mem::take(&mut self.tunnels[tunnel].got);
        let mut rest = &*octets;
        let mut texts = Vec::new();
        while !rest.is_empty() {
            let Decoded::Complete { value, consumed } = decode(rest, 70_000).expect("a capsule")
            else {
                panic!("a capsule is cut off");
            };
            let datagram = Datagram::decode(value.value).expect("a datagram").payload;
            texts.push(String::from_utf8_lossy(datagram).into_owned());
            rest = &rest[consumed..];
        }
        texts
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.borrow_mut())
    }

    fn pass(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(deadline) = self.bridge.next_step().deadline.filter(|it| *it <= until) {
            self.now = self.now.max(deadline);
            self.bridge.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        self.registry.counter(name, labels).value()
    }

    fn active(&self) -> i64 {
        self.registry.gauge("udp_sessions_active", &[]).value()
    }

    fn is_closed(&self) -> bool {
        self.bridge.next_step().close
    }

    /// Moves octets until nothing moves.
    fn settle(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut events = VecDeque::new();
        let mut quiet = 0;
        while quiet < 3 {
            quiet += 1;
            if !self.is_lost {
                self.is_lost = Pin::new(&mut self.connection).poll(cx).is_ready();
            }
            for tunnel in &mut self.tunnels {
                tunnel.drive(cx);
            }
            let octets = std::mem::take(&mut self.wire.0.borrow_mut().1);
            if !octets.is_empty() {
                quiet = 0;
                self.bridge.handle_native(self.now, octets.into());
            }
            let octets = self.bridge.take_http();
            if !octets.is_empty() {
                quiet = 0;
                self.manager.receive(octets.into());
            }
            self.manager.poll(&mut events);
            while let Some(event) = events.pop_front() {
                match event {
                    Received::Request(id, request) => {
                        self.streams.push((id, request.uri().path().to_owned(), None));
                    }
                    Received::Ended(id, how) => {
                        for stream in self.streams.iter_mut().filter(|stream| stream.0 == id) {
                            stream.2 = Some(how);
                        }
                    }
                    _ => {}
                }
            }
            if self.manager.has_output() {
                quiet = 0;
                let octets = self.manager.take_output();
                self.bridge.handle_http(self.now, octets.into());
            }
            let (first, rest) = self.bridge.take_native();
            if !first.is_empty() {
                quiet = 0;
                self.wire.0.borrow_mut().0.extend(first.iter().chain(&rest));
            }
        }
    }
}

#[test]
fn a_connect_udp_request_is_a_session() {
    let mut bench = Bench::new(10);
    let tunnel = bench.tunnel("anna", "192.0.2.9, 192.0.2.1:7");
    let head = bench.tunnels[tunnel].head.as_ref().expect("a response");
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["capsule-protocol"], "?1");
    assert_eq!(bench.log(), ["anna from 192.0.2.1:7"]);
    bench.send(tunnel, "say hello");
    assert_eq!(bench.got(tunnel), ["hello"]);
    assert_eq!(bench.metric("udp_sessions_total", &[("result", "opened")]), 1);
    assert_eq!(bench.active(), 1);
}

#[test]
fn a_client_is_who_envoy_saw() {
    let mut bench = Bench::new(10);
    for (header, address) in [
        ("192.0.2.1:7", "192.0.2.1:7"),
        ("192.0.2.1", "192.0.2.1:0"),
        ("2001:db8::1", "[2001:db8::1]:0"),
        ("[2001:db8::1]:7", "[2001:db8::1]:7"),
        ("192.0.2.9:1,192.0.2.1:7", "192.0.2.1:7"),
        ("somebody", "nowhere"),
        ("", "nowhere"),
    ] {
        bench.tunnel("x", header);
        assert_eq!(bench.log(), [format!("x from {address}")], "{header:?}");
    }
}

#[test]
fn another_request_is_refused_and_harms_nobody() {
    let mut bench = Bench::new(10);
    let tunnel = bench.open("anna");
    let plain = |method: Method| {
        Request::builder().method(method).uri("http://proxy/").body(()).expect("valid")
    };
    let mut websocket = plain(Method::CONNECT);
    websocket.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    for request in [plain(Method::GET), plain(Method::POST), websocket] {
        let refused = bench.request(request);
        assert_eq!(bench.status(refused), 501);
        assert_eq!(bench.tunnels[refused].ended, Some(Ended::Complete));
        bench.send(refused, "say hello");
        assert!(bench.got(refused).is_empty());
    }
    bench.send(tunnel, "say hello");
    assert_eq!(bench.got(tunnel), ["hello"]);
    assert_eq!(bench.log(), ["anna say"]);
    assert_eq!(bench.metric("udp_sessions_total", &[("result", "refused")]), 3);
}

#[test]
fn sessions_do_not_see_one_another() {
    let mut bench = Bench::new(100);
    let tunnels: Vec<_> = (0..50).map(|n| bench.open(&n.to_string())).collect();
    for (n, tunnel) in tunnels.iter().enumerate() {
        bench.tunnels[*tunnel].unsent.extend(capsule(format!("say {n}")));
        bench.tunnels[*tunnel].unsent.extend(capsule(format!("open /{n}")));
    }
    bench.settle();
    for (n, tunnel) in tunnels.iter().enumerate() {
        assert_eq!(bench.got(*tunnel), [n.to_string()]);
    }
    // What comes on a stream is the session's that opened it.
    for (id, path, _) in bench.streams.clone() {
        bench.manager.respond(id, Response::new(()), false);
        assert!(bench.manager.room(id, 10) == 10);
        bench.manager.send(id, Bytes::from(path.into_bytes()));
        bench.settle();
    }
    for (n, tunnel) in tunnels.iter().enumerate() {
        assert_eq!(bench.got(*tunnel), [format!("/{n}")]);
    }
}

#[test]
fn datagrams_are_whole_however_they_are_split() {
    let mut bench = Bench::new(10);
    let tunnel = bench.open("anna");
    for octet in capsule("say hello") {
        bench.tunnels[tunnel].unsent.push_back(octet);
        bench.settle();
    }
    assert_eq!(bench.got(tunnel), ["hello"]);
}

#[test]
fn a_tunnel_that_is_reset_ends_its_session_and_its_streams() {
    let mut bench = Bench::new(10);
    let (anna, bob) = (bench.open("anna"), bench.open("bob"));
    bench.send(anna, "open /anna");
    bench.send(bob, "open /bob");
    bench.log();
    bench.tunnels[anna].sending.send_reset(h2::Reason::CANCEL);
    bench.settle();
    assert_eq!(bench.log(), ["anna closed by Native"]);
    let ended: Vec<_> = bench.streams.iter().map(|stream| stream.2).collect();
    assert_eq!(ended, [Some(Ended::Complete), None]);
    assert_eq!(bench.active(), 1);
    // What the connection manager still says on that stream is nobody's.
    let id = bench.streams[0].0;
    bench.manager.respond(id, Response::new(()), true);
    bench.settle();
    assert!(bench.log().is_empty());
}

#[test]
fn each_session_has_its_own_deadline() {
    let mut bench = Bench::new(100);
    let tunnels: Vec<_> = (0..20).map(|n| bench.open(&n.to_string())).collect();
    for (n, tunnel) in tunnels.iter().enumerate() {
        bench.send(*tunnel, &format!("wait {}", 100 - n));
    }
    // A deadline that is moved counts as it was set last.
    bench.send(tunnels[19], "wait 95");
    bench.send(tunnels[0], "wait 50");
    bench.log();
    bench.pass(49);
    assert!(bench.log().is_empty());
    bench.pass(40);
    assert_eq!(
        bench.log(),
        [
            "0 timeout 50",
            "18 timeout 82",
            "17 timeout 83",
            "16 timeout 84",
            "15 timeout 85",
            "14 timeout 86",
            "13 timeout 87",
            "12 timeout 88",
            "11 timeout 89"
        ]
    );
    assert_eq!(bench.got(tunnels[0]), ["timeout"]);
    // That of a session that is gone means nothing.
    bench.send(tunnels[10], "close");
    bench.log();
    bench.pass(6);
    assert_eq!(bench.log().len(), 6, "9 to 5 by their own, and 19");
    bench.pass(1000);
    assert_eq!(bench.log().len(), 4);
    assert_eq!(bench.bridge.next_step().deadline, None);
}

#[test]
fn a_session_that_waits_for_room_holds_its_own_tunnel_alone() {
    let mut bench = Bench::with(10, 2000, &h2::client::Builder::new());
    let (anna, bob) = (bench.open("anna"), bench.open("bob"));
    bench.send(anna, "open /anna");
    bench.send(anna, "stop");
    for _ in 0..100 {
        bench.send(anna, &format!("say {}", "x".repeat(100)));
    }
    assert!(bench.got(anna).is_empty());
    assert!(bench.tunnels[anna].unsent.len() > 5000, "{}", bench.tunnels[anna].unsent.len());
    for _ in 0..100 {
        bench.send(bob, &format!("say {}", "y".repeat(100)));
    }
    assert_eq!(bench.got(bob).len(), 100);
    // Something happens on its stream: it goes on where it was.
    let id = bench.streams[0].0;
    bench.manager.respond(id, Response::new(()), false);
    assert_eq!(bench.manager.room(id, 2), 2);
    bench.manager.send(id, Bytes::from_static(b"go"));
    bench.settle();
    let got = bench.got(anna);
    assert_eq!((got.len(), &*got[0]), (101, "go"));
    assert!(bench.tunnels[anna].unsent.is_empty());
}

#[test]
fn datagrams_for_a_client_that_reads_nothing_are_dropped_whole() {
    let mut narrow = h2::client::Builder::new();
    narrow.initial_window_size(1000);
    let mut bench = Bench::with(10, 1 << 16, &narrow);
    let (anna, bob) = (bench.open("anna"), bench.open("bob"));
    bench.tunnels[anna].unread = true;
    for n in 0..20 {
        bench.send(anna, &format!("say {n:0>200}"));
        bench.send(bob, &format!("say {n:0>200}"));
    }
    assert_eq!(bench.got(bob).len(), 20);
    let dropped = bench.metric("udp_dropped_total", &[("reason", "no_room")]);
    assert!(dropped > 10, "{dropped}");
    bench.tunnels[anna].unread = false;
    bench.settle();
    bench.send(anna, "say again");
    let got = bench.got(anna);
    assert_eq!(got.len() as i64, 21 - dropped);
    assert_eq!((&*got[0], &**got.last().unwrap()), (&*format!("{:0>200}", 0), "again"));
}

#[test]
fn there_are_only_so_many_sessions_at_once() {
    let mut bench = Bench::new(3);
    let tunnels: Vec<_> = (0..3).map(|n| bench.open(&n.to_string())).collect();
    assert_eq!(bench.requests.current_max_send_streams(), 3);
    assert_eq!(bench.active(), 3);
    bench.send(tunnels[1], "close");
    assert_eq!(bench.active(), 2);
    let next = bench.open("next");
    bench.send(next, "say hello");
    assert_eq!(bench.got(next), ["hello"]);
}

#[test]
fn a_client_that_opens_too_many_at_once_is_refused_those() {
    let mut bench = Bench::new(2);
    // Frames by hand: the `h2` client keeps to the limit.
    for n in 0..2 {
        bench.open(&n.to_string());
    }
    let headers = b"\x00\x00\x05\x01\x05\x00\x00\x00\x15\x82\x86\x84\x41\x00";
    bench.bridge.handle_native(bench.now, Bytes::from_static(headers));
    bench.settle();
    assert_eq!(bench.active(), 2);
    assert!(bench.log().is_empty());
}

#[test]
fn octets_that_are_no_http_2_close_the_connection_and_its_sessions() {
    let mut bench = Bench::new(10);
    let tunnel = bench.open("anna");
    bench.send(tunnel, "open /anna");
    bench.log();
    bench.bridge.handle_native(bench.now, Bytes::from_static(&[0xff; 100]));
    assert!(bench.is_closed());
    bench.bridge.handle_close(Peer::Native);
    assert_eq!(bench.log(), ["anna closed by Native"], "once");
    assert_eq!(bench.active(), 0);
}

#[test]
fn a_connection_that_closes_closes_every_session_once() {
    for by_end in [true, false] {
        let mut bench = Bench::new(10);
        for n in 0..5 {
            bench.open(&n.to_string());
        }
        if by_end {
            bench.bridge.handle_native_end(bench.now);
            assert!(bench.is_closed());
        }
        bench.bridge.handle_close(Peer::Native);
        let mut log = bench.log();
        log.sort();
        assert_eq!(log, [0, 1, 2, 3, 4].map(|n| format!("{n} closed by Native")));
        assert_eq!(bench.active(), 0);
    }
}

#[test]
fn many_sessions_come_and_go_on_one_connection() {
    let mut bench = Bench::new(10);
    for round in 0..3000 {
        let tunnel = bench.open("x");
        if round % 3 == 0 {
            bench.send(tunnel, "open /x");
        }
        match round % 2 {
            0 => bench.send(tunnel, "close"),
            _ => {
                bench.tunnels[tunnel].sending.send_reset(h2::Reason::CANCEL);
                bench.settle();
            }
        }
        bench.tunnels.clear();
        // Streams that a session left end when the next filter ends its side too.
        for (id, _, _) in std::mem::take(&mut bench.streams) {
            bench.manager.respond(id, Response::new(()), true);
        }
        bench.settle();
        assert_eq!(bench.active(), 0);
    }
    assert!(!bench.is_closed() && !bench.is_lost);
}

#[test]
fn garbage_instead_of_http_2_closes() {
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], b"\x16\x03\x01\x00\x05hello"] {
        let registry = Registry::default();
        let settings = Rc::new(Settings::new(10, 1 << 16, &registry));
        let start: Rc<tunnels::Start<Talk>> = Rc::new(|_, _| panic!("no session"));
        let mut bridge = Bridge::new(Limits::default(), Box::new(NoTls), Duration::ZERO, |_| {
            Tunnels::new(settings, start)
        });
        bridge.handle_native(Duration::ZERO, Bytes::from_static(garbage));
        let _ = bridge.take_native();
        assert!(bridge.next_step().close, "{garbage:?}");
    }
}

#[test]
fn what_a_session_says_last_is_delivered() {
    let mut bench = Bench::new(10);
    let tunnel = bench.open("anna");
    bench.tunnels[tunnel].unsent.extend(capsule("say goodbye"));
    bench.tunnels[tunnel].unsent.extend(capsule("close"));
    bench.settle();
    assert_eq!(bench.got(tunnel), ["goodbye"]);
    assert_eq!(bench.tunnels[tunnel].ended, Some(Ended::Complete));
}

#[test]
fn a_session_that_closes_ends_its_tunnel_and_its_streams() {
    let mut bench = Bench::new(10);
    let (anna, bob) = (bench.open("anna"), bench.open("bob"));
    bench.send(anna, "open /anna");
    bench.send(bob, "open /bob");
    bench.log();
    bench.send(anna, "close");
    assert_eq!(bench.log(), ["anna close", "anna closed by Next"]);
    assert_eq!(bench.tunnels[anna].ended, Some(Ended::Complete));
    let ended: Vec<_> = bench.streams.iter().map(|stream| stream.2).collect();
    assert_eq!(ended, [Some(Ended::Complete), None], "with END_STREAM");
    assert_eq!(bench.active(), 1);
    bench.send(anna, "say nothing");
    bench.send(bob, "say hello");
    assert_eq!(bench.log(), ["bob say"]);
    assert_eq!(bench.got(bob), ["hello"]);
}

#[test]
fn the_end_of_a_tunnel_is_told_after_all_that_came() {
    let mut bench = Bench::new(10);
    let tunnel = bench.open("anna");
    bench.tunnels[tunnel].unsent.extend(capsule("say one"));
    bench.settle();
    let _ = bench.tunnels[tunnel].sending.send_data(Bytes::from(capsule("say two")), true);
    bench.settle();
    assert_eq!(bench.log(), ["anna say", "anna say", "anna end", "anna closed by Next"]);
    assert_eq!(bench.got(tunnel), ["one", "two"]);
    assert_eq!(bench.tunnels[tunnel].ended, Some(Ended::Complete));
}

#[test]
fn the_end_of_a_tunnel_waits_for_a_session_that_waits() {
    let mut bench = Bench::new(10);
    let tunnel = bench.open("anna");
    bench.send(tunnel, "open /anna");
    bench.send(tunnel, "stop");
    let _ = bench.tunnels[tunnel].sending.send_data(Bytes::from(capsule("say late")), true);
    bench.settle();
    assert_eq!(bench.log(), ["anna open", "anna stop"]);
    let id = bench.streams[0].0;
    bench.manager.respond(id, Response::new(()), false);
    assert_eq!(bench.manager.room(id, 2), 2);
    bench.manager.send(id, Bytes::from_static(b"go"));
    bench.settle();
    assert_eq!(bench.log(), ["anna 200", "anna say", "anna end", "anna closed by Next"]);
    assert_eq!(bench.got(tunnel), ["go", "late"]);
}

/// Counts what a hub reports of its clients; ends those that say `end`.
#[derive(Default)]
struct Counts {
    began: usize,
    datagrams: usize,
    gone: usize,
}

impl Service for Counts {
    fn handle_client(&mut self, _: &mut Link, _: &mut Clients, _: RequestId, _: Client) {
        self.began += 1;
    }
    fn handle_datagram(&mut self, _: &mut Link, clients: &mut Clients, id: RequestId, got: Bytes) {
        self.datagrams += 1;
        if got == "end" {
            clients.end(id);
        }
    }
    fn handle_gone(&mut self, _: &mut Link, _: &mut Clients, _: RequestId) {
        self.gone += 1;
    }
    fn handle_response(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Response<()>) {}
    fn handle_body(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Bytes) {}
    fn handle_ended(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Ended) {}
    fn handle_writable(&mut self, _: &mut Link, _: &mut Clients, _: StreamId) {}
    fn settle(&mut self, _: &mut Link, _: &mut Clients) {}
    fn handle_timeout(&mut self, _: &mut Link, _: &mut Clients) {}
    fn handle_close(&mut self, _: Peer) {}
}

#[test]
fn a_client_of_a_hub_is_gone_once_and_only_if_it_was_there() {
    const DATA: u8 = 0;
    const END_STREAM: u8 = 1;
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let request = |protocol: &str| {
        let mut block = Vec::new();
        let fields = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":authority", "x"),
        ];
        for (name, value) in fields.into_iter().chain([(":path", "/")]) {
            block.extend([0, name.len() as u8]);
            block.extend(name.bytes());
            block.push(value.len() as u8);
            block.extend(value.bytes());
        }
        frame(1, 4, 1, &block)
    };
    let too_long = [0, 0xbf, 0xff, 0xff, 0xff];
    let cases = [
        ("connect-udp", frame(DATA, END_STREAM, 1, b""), 1),
        ("connect-udp", frame(DATA, END_STREAM, 1, &too_long), 1),
        ("connect-udp", [frame(DATA, 0, 1, &too_long), frame(3, 0, 1, &[0, 0, 0, 8])].concat(), 1),
        ("connect-udp", frame(3, 0, 1, &[0, 0, 0, 8]), 1),
        // What the service has ended, it knows.
        ("connect-udp", frame(DATA, 0, 1, &capsule("end")), 0),
        // Refused, and so no client.
        ("websocket", frame(DATA, END_STREAM, 1, b""), 0),
    ];
    for (protocol, octets, gone) in cases {
        let registry = Registry::default();
        let settings = Rc::new(Settings::new(9, 1 << 16, &registry));
        let mut bridge = Bridge::new(Limits::default(), Box::new(NoTls), Duration::ZERO, |_| {
            Hub::new(settings, Counts::default())
        });
        let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, b"")[..]].concat();
        for octets in [hello, request(protocol), octets] {
            bridge.handle_native(Duration::ZERO, octets.into());
        }
        let service = bridge.protocol().service();
        assert_eq!((service.began, service.gone), (usize::from(protocol != "websocket"), gone));
        assert_eq!(registry.gauge("udp_sessions_active", &[]).value(), 0);
    }
}
