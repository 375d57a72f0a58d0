//! A client, the filter, and an HTTP/2 server in the connection manager's place, with no time but the test's.
#![allow(unreachable_pub, reason = "a test has no other crate to reach it")]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{Bridge, Bytes, Surroundings};
use codec_modbus::{Frame, Function};
use filter_modbus::{Filter, Session};
use h2::{Reason, RecvStream, SendStream, server};
use http::Response;

#[path = "../../../../filters/bridge/tests/wire/mod.rs"]
mod transport;

use transport::Wire;

type Server = server::Connection<Wire, Bytes>;
type Handshake = Pin<Box<dyn Future<Output = Result<Server, h2::Error>>>>;

struct Client;
impl Surroundings for Client {
    fn server_name(&self) -> Option<String> {
        None
    }
}

/// One HTTP/2 stream as the connection manager sees it.
pub struct Stream {
    /// Such as `flow /1`.
    pub what: String,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
    /// END_STREAM (true) or RST_STREAM (false) has come.
    pub ended: Option<bool>,
    incoming: RecvStream,
    respond: server::SendResponse<Bytes>,
    outgoing: Option<SendStream<Bytes>>,
}

impl Stream {
    pub fn respond(&mut self, status: u16, end: bool) {
        let response = Response::builder().status(status).body(()).unwrap();
        self.outgoing = self.respond.send_response(response, end).ok();
    }

    pub fn send(&mut self, octets: &[u8], end: bool) {
        let outgoing = self.outgoing.as_mut().expect("a response with content");
        outgoing.send_data(Bytes::copy_from_slice(octets), end).unwrap();
    }

    pub fn reset(&mut self) {
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }

    fn receive(&mut self, cx: &mut Context<'_>) {
        while self.ended.is_none()
            && let Poll::Ready(data) = self.incoming.poll_data(cx)
        {
            match data {
                Some(Ok(octets)) => {
                    let _ = self.incoming.flow_control().release_capacity(octets.len());
                    self.body.extend_from_slice(&octets);
                }
                Some(Err(_)) => self.ended = Some(false),
                None => self.ended = Some(true),
            }
        }
    }
}

pub struct Bench {
    bridge: Bridge<Session>,
    registry: Registry,
    now: Duration,
    wire: Wire,
    handshake: Option<Handshake>,
    server: Option<Server>,
    pub streams: Vec<Stream>,
    /// What the client has sent and the filter has not taken.
    socket: Vec<u8>,
    got: Vec<u8>,
}

impl Bench {
    pub fn new(json: &str) -> Self {
        let registry = Registry::default();
        let filter = Filter::new(json.as_bytes(), &registry).expect("a valid configuration");
        let now = Duration::ZERO;
        let carry = |link: &mut bridge::Link| filter.carry(link);
        let wire = Wire::default();
        Self {
            bridge: Bridge::new(filter.limits(), Box::new(Client), now, carry),
            registry,
            now,
            handshake: Some(Box::pin(server::Builder::new().handshake(wire.clone()))),
            wire,
            server: None,
            streams: Vec::new(),
            socket: Vec::new(),
            got: Vec::new(),
        }
    }

    /// The client sends.
    pub fn client(&mut self, octets: &[u8]) {
        self.socket.extend_from_slice(octets);
        self.settle();
    }

    /// What the client has got since the last call.
    pub fn client_got(&mut self) -> Vec<u8> {
        self.settle();
        std::mem::take(&mut self.got)
    }

    /// The stream that is called so.
    pub fn stream(&mut self, what: &str) -> &mut Stream {
        self.settle();
        let names: Vec<_> = self.streams.iter().map(|stream| stream.what.clone()).collect();
        let found = self.streams.iter_mut().rfind(|stream| stream.what == what);
        found.unwrap_or_else(|| panic!("no stream {what}: {names:?}"))
    }

    /// All streams so far.
    pub fn asked(&mut self) -> Vec<&str> {
        self.settle();
        self.streams.iter().map(|stream| &*stream.what).collect()
    }

    pub fn is_closed(&self) -> bool {
        self.bridge.next_step().close
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.bridge.handle_timeout(self.now);
        self.settle();
    }

    /// A metric by its name and labels.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        self.registry.counter(name, labels).value()
    }

    /// Moves octets until nothing moves.
    pub fn settle(&mut self) {
        loop {
            let mut moved = false;
            if self.bridge.accepts_native() && !self.socket.is_empty() {
                let octets = std::mem::take(&mut self.socket);
                self.bridge.handle_native(self.now, octets.into());
                moved = true;
            }
            let to_server = self.bridge.take_http();
            moved |= !to_server.is_empty();
            self.wire.0.borrow_mut().0.extend(&to_server);
            self.drive_server();
            let to_bridge = std::mem::take(&mut self.wire.0.borrow_mut().1);
            if !to_bridge.is_empty() {
                self.bridge.handle_http(self.now, to_bridge.into());
                moved = true;
            }
            let (first, rest) = self.bridge.take_native();
            self.got.extend(first.iter().chain(&rest));
            if !moved {
                return;
            }
        }
    }

    fn drive_server(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        if let Some(handshake) = &mut self.handshake
            && let Poll::Ready(server) = handshake.as_mut().poll(cx)
        {
            self.server = Some(server.expect("a good client"));
            self.handshake = None;
        }
        // Twice, because reading a stream can free window that the connection then announces.
        for _ in 0..2 {
            let Some(server) = &mut self.server else { return };
            while let Poll::Ready(Some(accepted)) = server.poll_accept(cx) {
                let (request, respond) = accepted.expect("a good client");
                let (parts, incoming) = request.into_parts();
                let carry = parts.headers.get("x-carry").expect("x-carry").to_str().unwrap();
                self.streams.push(Stream {
                    what: format!("{carry} {}", parts.uri.path()),
                    headers: parts.headers,
                    body: Vec::new(),
                    ended: None,
                    incoming,
                    respond,
                    outgoing: None,
                });
            }
            for stream in &mut self.streams {
                stream.receive(cx);
            }
        }
    }
}

/// The octets of a frame.
pub fn frame(transaction: u16, unit: u8, function: u8, data: &[u8]) -> Vec<u8> {
    let frame = Frame { transaction, unit, function: Function(function), data };
    let mut octets = vec![0; frame.encoded_len()];
    frame.encode(&mut octets).expect("fits");
    octets
}
