//! What the engine promises, shown with a real HTTP/2 server in memory: the `h2` crate's, driven by
//! hand like the client.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bridge::{
    Bridge, Bytes, Ended, Input, Limits, Link, OpenError, Peer, Protocol, Request, Response,
    StatusCode, StreamId, Surroundings, Want,
};
use proptest::prelude::*;

mod wire;

use wire::Wire;

const NOW: Duration = Duration::ZERO;

type Handshake =
    Pin<Box<dyn Future<Output = Result<h2::server::Connection<Wire, Bytes>, h2::Error>>>>;

/// What the server does with the content of requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    /// Sends it back.
    Echo,
    /// Reads it when the test says so.
    Slow,
    /// Answers with this status and this content, without reading.
    Refuse(u16, &'static str),
}

struct Exchange {
    request: Request<()>,
    incoming: h2::RecvStream,
    respond: h2::server::SendResponse<Bytes>,
    outgoing: Option<h2::SendStream<Bytes>>,
    received: Vec<u8>,
    ended: Option<Result<(), h2::Error>>,
}

struct Peers {
    bridge: Bridge<Tunnel>,
    wire: Wire,
    handshake: Option<Handshake>,
    connection: Option<h2::server::Connection<Wire, Bytes>>,
    server: Server,
    exchanges: Vec<Exchange>,
    /// What the native peer was sent.
    replied: Vec<u8>,
    /// Octets that travelled to the server.
    to_server: usize,
    reading: bool,
    closed: bool,
}

struct NoTls;
impl Surroundings for NoTls {
    fn server_name(&self) -> Option<String> {
        None
    }
}

/// Carries every octet on one stream; the octet `!` opens a request of its own without content.
#[derive(Default)]
struct Tunnel {
    stream: Option<StreamId>,
    responses: BTreeMap<StreamId, StatusCode>,
    ended: BTreeMap<StreamId, Ended>,
    open_error: Option<OpenError>,
    timeouts: usize,
    closed: Option<Peer>,
}

fn request(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}")).body(()).expect("valid")
}

impl Protocol for Tunnel {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        while input.as_slice().first() == Some(&b'!') {
            if let Err(error) = link.open(request("/request"), true) {
                self.open_error = Some(error);
            }
            input.skip(1);
        }
        if self.stream.is_none() && !input.is_empty() {
            self.stream = link.open(request("/tunnel"), false).ok();
        }
        let n = input.len();
        match self.stream {
            Some(stream) if link.send(stream, input, n) < n => Want::Room,
            _ => Want::More,
        }
    }
    fn handle_native_end(&mut self, link: &mut Link) {
        if let Some(stream) = self.stream {
            link.finish(stream);
        }
    }
    fn handle_response(&mut self, _: &mut Link, stream: StreamId, response: Response<()>) {
        self.responses.insert(stream, response.status());
    }
    fn handle_body(&mut self, link: &mut Link, _: StreamId, body: Bytes) {
        link.reply(body);
    }
    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        assert_eq!(self.ended.insert(stream, how), None, "a stream ends once");
        if self.stream == Some(stream) {
            link.finish(stream);
            link.close();
        }
    }
    fn handle_timeout(&mut self, link: &mut Link) {
        self.timeouts += 1;
        link.reply(Bytes::from_static(b"timeout"));
        link.close();
    }
    fn handle_close(&mut self, by: Peer) {
        self.closed = Some(by);
    }
}

impl Peers {
    fn new(server: Server, limits: Limits) -> Self {
        Self::with_server(server, limits, &h2::server::Builder::new())
    }

    fn with_server(server: Server, limits: Limits, builder: &h2::server::Builder) -> Self {
        let wire = Wire::default();
        Self {
            bridge: Bridge::new(limits, Box::new(NoTls), NOW, |_| Tunnel::default()),
            handshake: Some(Box::pin(builder.handshake(wire.clone()))),
            wire,
            connection: None,
            server,
            exchanges: Vec::new(),
            replied: Vec::new(),
            to_server: 0,
            reading: true,
            closed: false,
        }
    }

    fn native(&mut self, octets: &[u8]) {
        assert!(self.bridge.accepts_native());
        self.bridge.handle_native(NOW, Bytes::copy_from_slice(octets));
        self.settle();
    }

    /// Moves octets between the two until nothing moves.
    fn settle(&mut self) {
        self.settle_in_pieces(usize::MAX);
    }

    fn settle_in_pieces(&mut self, piece: usize) {
        loop {
            let octets = self.bridge.take_http();
            let mut moved = !octets.is_empty();
            self.to_server += octets.len();
            for piece in octets.chunks(piece) {
                self.wire.0.borrow_mut().0.extend(piece);
                self.drive_server();
            }
            self.drive_server();
            let octets = std::mem::take(&mut self.wire.0.borrow_mut().1);
            for piece in octets.chunks(piece) {
                moved = true;
                self.bridge.handle_http(NOW, Bytes::copy_from_slice(piece));
                // This is when the native peer can be written to.
                let (first, rest) = self.bridge.take_native();
                self.replied.extend(first.iter().chain(&rest));
            }
            let step = self.bridge.next_step();
            if step.native_output {
                self.bridge.request_turn();
                moved = true;
            }
            self.closed |= step.close;
            if !moved {
                return;
            }
        }
    }

    fn drive_server(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        if let Some(handshake) = &mut self.handshake {
            match handshake.as_mut().poll(cx) {
                Poll::Pending => return,
                Poll::Ready(connection) => {
                    self.connection = Some(connection.expect("a good client"));
                    self.handshake = None;
                }
            }
        }
        for _ in 0..3 {
            let Some(connection) = &mut self.connection else { return };
            while let Poll::Ready(Some(accepted)) = connection.poll_accept(cx) {
                let (request, respond) = accepted.expect("a good client");
                let (parts, incoming) = request.into_parts();
                self.exchanges.push(Exchange {
                    request: Request::from_parts(parts, ()),
                    incoming,
                    respond,
                    outgoing: None,
                    received: Vec::new(),
                    ended: None,
                });
            }
            let (server, reading) = (self.server, self.reading);
            for exchange in &mut self.exchanges {
                exchange.drive(server, reading, cx);
            }
        }
    }
}

impl Exchange {
    fn drive(&mut self, server: Server, reading: bool, cx: &mut Context<'_>) {
        let status = match server {
            Server::Refuse(status, _) => status,
            _ => 200,
        };
        if self.outgoing.is_none() {
            let response = Response::builder().status(status).body(()).expect("valid");
            self.outgoing = self.respond.send_response(response, false).ok();
            if let (Server::Refuse(_, content), Some(out)) = (server, &mut self.outgoing) {
                out.send_data(Bytes::from_static(content.as_bytes()), true).expect("sent");
            }
        }
        if !reading || matches!(server, Server::Refuse(..)) {
            return;
        }
        while self.ended.is_none() {
            match self.incoming.poll_data(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(octets))) => {
                    self.incoming.flow_control().release_capacity(octets.len()).expect("ours");
                    self.received.extend_from_slice(&octets);
                    if let (Server::Echo, Some(out)) = (server, &mut self.outgoing) {
                        out.send_data(octets, false).expect("sent");
                    }
                }
                Poll::Ready(None) => {
                    if let Some(out) = &mut self.outgoing {
                        out.send_data(Bytes::new(), true).expect("sent");
                    }
                    self.ended = Some(Ok(()));
                }
                Poll::Ready(Some(Err(error))) => self.ended = Some(Err(error)),
            }
        }
    }
}

/// Octets in which every position can be told from its neighbours.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + u8::try_from(i % 23).expect("small")).collect()
}

#[test]
fn octets_reach_the_server_and_its_answer_the_native_peer() {
    let mut peers = Peers::new(Server::Echo, Limits::default());
    peers.native(b"hello");
    peers.native(b", world");
    assert_eq!(peers.exchanges[0].request.uri().path(), "/tunnel");
    assert_eq!(peers.exchanges[0].received, b"hello, world");
    assert_eq!(peers.replied, b"hello, world");
    assert!(!peers.closed);
}

#[test]
fn nothing_is_said_to_the_next_filter_before_there_is_something_to_say() {
    let mut peers = Peers::new(Server::Echo, Limits::default());
    peers.settle();
    assert_eq!(peers.to_server, 0);
}

#[test]
fn a_server_that_does_not_read_stops_the_native_peer_within_its_window() {
    let mut peers = Peers::new(Server::Slow, Limits::default());
    peers.reading = false;
    let sent = pattern(1 << 20);
    peers.native(&sent);
    assert!(!peers.bridge.accepts_native(), "the native peer is held back");
    // RFC 9113 §6.9.2: the window a server starts with.
    let window = 65_535;
    assert!(peers.to_server < window + 1000, "{} octets left", peers.to_server);

    peers.reading = true;
    peers.settle();
    assert!(peers.bridge.accepts_native());
    assert_eq!(peers.exchanges[0].received, sent);
}

#[test]
fn the_end_of_the_native_input_becomes_end_stream_after_all_of_it() {
    let mut peers = Peers::new(Server::Slow, Limits::default());
    peers.reading = false;
    let sent = pattern(200_000);
    peers.native(&sent);
    peers.bridge.handle_native_end(NOW);
    peers.settle();
    peers.reading = true;
    peers.settle();
    assert_eq!(peers.exchanges[0].received, sent);
    assert!(matches!(peers.exchanges[0].ended, Some(Ok(()))), "END_STREAM, not RST_STREAM");
    assert!(peers.closed, "the server has ended its side as well");
}

#[test]
fn the_server_may_answer_at_any_length() {
    let mut peers = Peers::new(Server::Echo, Limits { stream_window: 65_535, ..Limits::default() });
    let sent = pattern(3 << 20);
    for piece in sent.chunks(60_000) {
        peers.native(piece);
    }
    assert_eq!(peers.replied.len(), sent.len());
    assert_eq!(peers.replied, sent);
}

#[test]
fn a_refusal_is_reported_with_its_content_and_closes() {
    let mut peers = Peers::new(Server::Refuse(403, "go away"), Limits::default());
    peers.native(b"hello");
    let tunnel = peers.bridge.protocol();
    let stream = tunnel.stream.expect("opened");
    assert_eq!(tunnel.responses[&stream], StatusCode::FORBIDDEN);
    assert_eq!(tunnel.ended[&stream], Ended::Complete);
    assert_eq!(peers.replied, b"go away");
    assert!(peers.closed);
    // From here on the native peer is not listened to.
    peers.native(b"more");
    assert_eq!(peers.replied, b"go away");
}

#[test]
fn the_native_peer_can_be_answered_while_the_server_is_silent() {
    let mut peers = Peers::new(Server::Echo, Limits::default());
    let mut bridge = Bridge::new(Limits::default(), Box::new(NoTls), NOW, |link| {
        link.set_deadline(Some(Duration::from_secs(10)));
        Tunnel::default()
    });
    assert_eq!(bridge.next_step().deadline, Some(Duration::from_secs(10)));
    bridge.handle_timeout(Duration::from_secs(9));
    assert_eq!(bridge.protocol().timeouts, 0);
    bridge.handle_timeout(Duration::from_secs(10));
    peers.bridge = bridge;
    assert!(!peers.bridge.next_step().close, "the answer comes first");
    peers.settle();
    assert_eq!(peers.replied, b"timeout");
    assert!(peers.closed);
    assert_eq!(peers.bridge.protocol().timeouts, 1);
}

#[test]
fn a_server_that_breaks_the_protocol_ends_every_stream() {
    let mut peers = Peers::new(Server::Slow, Limits::default());
    peers.reading = false;
    peers.native(b"hello");
    // DATA on stream 0 is a connection error (RFC 9113 §6.1).
    peers.bridge.handle_http(NOW, Bytes::from_static(&[0, 0, 1, 0, 0, 0, 0, 0, 0, b'x']));
    peers.settle();
    let tunnel = peers.bridge.protocol();
    assert!(matches!(tunnel.ended[&tunnel.stream.expect("opened")], Ended::Reset(_)));
    assert!(peers.closed);
}

#[test]
fn a_reset_stream_closes_and_does_not_spin() {
    let mut peers = Peers::new(Server::Slow, Limits::default());
    peers.reading = false;
    peers.native(&pattern(100_000));
    assert!(!peers.bridge.accepts_native());
    peers.exchanges[0].respond.send_reset(h2::Reason::CANCEL);
    peers.settle();
    let tunnel = peers.bridge.protocol();
    assert_eq!(tunnel.ended[&tunnel.stream.expect("opened")], Ended::Reset(8));
    assert!(peers.closed);
}

#[test]
fn requests_are_many_and_never_reset() {
    let mut peers = Peers::new(Server::Echo, Limits::default());
    for _ in 0..50 {
        peers.native(&[b'!'; 200]);
        for exchange in peers.exchanges.drain(..) {
            assert!(matches!(exchange.ended, Some(Ok(()))), "{:?}", exchange.ended);
        }
    }
    let tunnel = peers.bridge.protocol();
    assert_eq!(tunnel.ended.len(), 10_000);
    assert!(tunnel.ended.values().all(|how| *how == Ended::Complete));
    assert_eq!(tunnel.open_error, None);
}

#[test]
fn more_streams_than_allowed_are_refused_by_either_limit() {
    let limits = Limits { max_streams: 10, ..Limits::default() };
    let mut peers = Peers::new(Server::Slow, limits);
    peers.reading = false;
    peers.native(&[b'!'; 11]);
    assert_eq!(peers.bridge.protocol().open_error, Some(OpenError::TooManyStreams));
    assert_eq!(peers.exchanges.len(), 10);

    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(3);
    let mut peers = Peers::with_server(Server::Slow, Limits::default(), &builder);
    peers.reading = false;
    peers.native(b"!");
    peers.native(b"!!!!");
    assert_eq!(peers.bridge.protocol().open_error, Some(OpenError::TooManyStreams));
    assert_eq!(peers.exchanges.len(), 3);
}

#[test]
fn closing_is_reported_whoever_does_it() {
    for by in [Peer::Native, Peer::Next] {
        let mut peers = Peers::new(Server::Echo, Limits::default());
        peers.native(b"hello");
        peers.bridge.handle_close(by);
        assert_eq!(peers.bridge.protocol().closed, Some(by));
    }
}

/// One thing that happens to a bridge.
#[derive(Debug, Clone)]
enum Step {
    Native(usize),
    Reading(bool),
    Settle(usize),
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..40_000_usize).prop_map(Step::Native),
        any::<bool>().prop_map(Step::Reading),
        (1..3000_usize).prop_map(Step::Settle),
        Just(Step::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_order_and_the_pieces_octets_arrive_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..40)
    ) {
        let limits = Limits { stream_window: 20_000, connection_window: 70_000, ..Limits::default() };
        let mut peers = Peers::new(Server::Echo, limits);
        let mut sent = Vec::new();
        for step in steps {
            match step {
                Step::Native(n) if peers.bridge.accepts_native() => {
                    let octets: Vec<u8> = pattern(sent.len() + n).split_off(sent.len());
                    peers.bridge.handle_native(NOW, Bytes::from(octets.clone()));
                    sent.extend(octets);
                }
                Step::Native(_) => {}
                Step::Reading(reading) => peers.reading = reading,
                Step::Settle(piece) => peers.settle_in_pieces(piece),
                Step::Turn => peers.bridge.request_turn(),
            }
        }
        peers.reading = true;
        peers.bridge.handle_native_end(NOW);
        peers.settle();
        prop_assert_eq!(&peers.replied, &sent);
        prop_assert!(sent.is_empty() || peers.closed);
    }
}
