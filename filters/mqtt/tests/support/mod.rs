//! A bench for a session with messages: the test is the MQTT client, the broker and the HTTP
//! connection manager. The latter two are the `h2` crate's server in memory, driven by hand.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test uses its own part, and may fail by panicking"
)]

pub mod model;
pub mod wire;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{Bridge, Bytes, Peer, Surroundings};
use codec_mqtt::Version;
use filter_mqtt::{Filter, Session};
use http::{HeaderMap, Request, Response};

use wire::connack;

#[path = "../../../bridge/tests/wire/mod.rs"]
mod transport;

use transport::Wire;

type Server = h2::server::Connection<Wire, Bytes>;
type Handshake = Pin<Box<dyn Future<Output = Result<Server, h2::Error>>>>;

/// One HTTP/2 stream as the connection manager sees it.
pub struct Stream {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// END_STREAM (true) or RST_STREAM (false) has come.
    pub ended: Option<bool>,
    /// Its content is left unread.
    pub unread: bool,
    /// It was answered or reset.
    pub answered: bool,
    incoming: h2::RecvStream,
    respond: h2::server::SendResponse<Bytes>,
    outgoing: Option<h2::SendStream<Bytes>>,
    /// What is to be sent on it as far as the client's window allows.
    unsent: VecDeque<Bytes>,
    end_after: bool,
}

impl Stream {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("visible ASCII"))
    }

    pub fn is_session(&self) -> bool {
        self.header("x-carry") == Some("flow")
    }

    /// Octets that the client's window has no room for.
    pub fn unsent_octets(&self) -> usize {
        self.unsent.iter().map(Bytes::len).sum()
    }

    /// Sends this and the end in one go, when octets move the next time.
    pub fn end_with(&mut self, octets: &[u8]) {
        self.unsent.push_back(Bytes::copy_from_slice(octets));
        self.end_after = true;
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(out) = &mut self.outgoing {
            while let Some(octets) = self.unsent.front_mut() {
                out.reserve_capacity(octets.len());
                let n = out.capacity().min(octets.len());
                if n == 0 {
                    let _ = out.poll_capacity(cx);
                    break;
                }
                if out.send_data(octets.split_to(n), false).is_err() {
                    self.unsent.clear();
                    break;
                }
                if octets.is_empty() {
                    self.unsent.pop_front();
                }
            }
            if self.end_after && self.unsent.is_empty() {
                let _ = out.send_data(Bytes::new(), true);
                self.outgoing = None;
            }
        }
        if self.ended.is_some() || self.unread {
            return;
        }
        while self.ended.is_none() {
            match self.incoming.poll_data(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(octets))) => {
                    let _ = self.incoming.flow_control().release_capacity(octets.len());
                    self.body.extend_from_slice(&octets);
                }
                Poll::Ready(None) => self.ended = Some(true),
                Poll::Ready(Some(Err(_))) => self.ended = Some(false),
            }
        }
    }
}

pub struct Client(pub Option<String>);
impl Surroundings for Client {
    fn server_name(&self) -> Option<String> {
        None
    }
    fn source_address(&self) -> Option<String> {
        self.0.clone()
    }
}

/// What outlives a connection: the filter of one worker.
pub struct Worker {
    pub filter: Filter,
    pub registry: Registry,
}

impl Worker {
    pub fn new(json: &str) -> Self {
        let registry = Registry::default();
        let filter = Filter::new(json.as_bytes(), &registry).expect("a valid configuration");
        Self { filter, registry }
    }

    /// A connection on which nothing was sent.
    pub fn connect(&self) -> Bench {
        self.connect_to(&h2::server::Builder::new(), Duration::ZERO)
    }

    pub fn connect_to(&self, server: &h2::server::Builder, now: Duration) -> Bench {
        let wire = Wire::default();
        let surroundings = Box::new(Client(Some("192.0.2.1".to_owned())));
        let bridge =
            Bridge::new(self.filter.limits(), surroundings, now, |link| self.filter.carry(link));
        Bench {
            bridge,
            version: Version::V5,
            now,
            handshake: Some(Box::pin(server.handshake(wire.clone()))),
            connection: None,
            wire,
            streams: Vec::new(),
            socket: VecDeque::new(),
            got: Vec::new(),
            got_read: 0,
            broker_read: 0,
            piece: usize::MAX,
            most_to_http: 0,
        }
    }

    /// A session that the next filter and the broker have accepted.
    pub fn session(&self, version: Version) -> Bench {
        self.session_with(&wire::connect(version, "c1"), version, false)
    }

    pub fn session_with(&self, connect: &[u8], version: Version, present: bool) -> Bench {
        self.connect().establish(connect, version, &connack(version, present))
    }
}

/// One connection.
pub struct Bench {
    pub bridge: Bridge<Session>,
    pub version: Version,
    pub now: Duration,
    handshake: Option<Handshake>,
    connection: Option<Server>,
    wire: Wire,
    pub streams: Vec<Stream>,
    /// What the client has sent and the bridge has not taken.
    pub socket: VecDeque<u8>,
    /// What the client has received.
    pub got: Vec<u8>,
    got_read: usize,
    broker_read: usize,
    /// Octets travel to the bridge in pieces of at most so many.
    pub piece: usize,
    /// The largest output to the next filter at once.
    pub most_to_http: usize,
}

impl Bench {
    pub fn new(json: &str, version: Version) -> Self {
        Worker::new(json).session(version)
    }

    /// Sends CONNECT, accepts the stream and sends this CONNACK.
    pub fn establish(mut self, connect: &[u8], version: Version, connack: &[u8]) -> Self {
        self.version = version;
        self.client(connect);
        let session = self.session_index().expect("a session's stream");
        self.respond(session, 200);
        let connect = wire::show(&self.streams[session].body, version);
        assert!(connect[0].starts_with("CONNECT"), "{connect:?}");
        self.broker_read = self.streams[session].body.len();
        self.broker(connack);
        self.got_read = self.got.len();
        self
    }

    pub fn session_index(&self) -> Option<usize> {
        self.streams.iter().position(Stream::is_session)
    }

    pub fn session_stream(&self) -> &Stream {
        &self.streams[self.session_index().expect("a session's stream")]
    }

    /// The client sends.
    pub fn client(&mut self, octets: &[u8]) {
        self.socket.extend(octets);
        self.settle();
    }

    /// The broker sends.
    pub fn broker(&mut self, octets: &[u8]) {
        let session = self.session_index().expect("a session's stream");
        self.content(session, octets);
    }

    pub fn content(&mut self, stream: usize, octets: &[u8]) {
        self.streams[stream].unsent.push_back(Bytes::copy_from_slice(octets));
        self.settle();
    }

    /// A response's header section, and not its end.
    pub fn respond(&mut self, stream: usize, status: u16) {
        self.respond_with(stream, status, &[]);
    }

    pub fn respond_with(&mut self, stream: usize, status: u16, headers: &[(&str, &str)]) {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let stream = &mut self.streams[stream];
        stream.answered = true;
        let response = response.body(()).expect("a valid response");
        stream.outgoing = stream.respond.send_response(response, false).ok();
        self.settle();
    }

    /// END_STREAM.
    pub fn finish(&mut self, stream: usize) {
        self.streams[stream].end_after = true;
        self.settle();
    }

    /// A whole response without content.
    pub fn answer(&mut self, stream: usize, status: u16) {
        let response = Response::builder().status(status).body(()).expect("valid");
        let stream = &mut self.streams[stream];
        stream.answered = true;
        let _ = stream.respond.send_response(response, true);
        self.settle();
    }

    /// RST_STREAM.
    pub fn reset(&mut self, stream: usize) {
        self.reset_with(stream, h2::Reason::INTERNAL_ERROR);
    }

    pub fn reset_with(&mut self, stream: usize, reason: h2::Reason) {
        let stream = &mut self.streams[stream];
        stream.answered = true;
        match &mut stream.outgoing {
            Some(outgoing) => outgoing.send_reset(reason),
            None => stream.respond.send_reset(reason),
        }
        self.settle();
    }

    /// The streams other than the session's that wait for an answer.
    pub fn open(&self) -> Vec<usize> {
        let open = |(index, stream): (usize, &Stream)| {
            (!stream.answered && stream.ended != Some(false) && !stream.is_session())
                .then_some(index)
        };
        self.streams.iter().enumerate().filter_map(open).collect()
    }

    /// The same as `POST /a`.
    pub fn asked(&self) -> Vec<String> {
        let line =
            |index: usize| format!("{} {}", self.streams[index].method, self.streams[index].path);
        self.open().into_iter().map(line).collect()
    }

    /// Answers the only stream that waits for one.
    pub fn answer_only(&mut self, status: u16) {
        let open = self.open();
        assert_eq!(open.len(), 1, "{:?}", self.asked());
        self.answer(open[0], status);
    }

    /// Answers the first stream with this path that waits.
    pub fn answer_path(&mut self, path: &str, status: u16) {
        let stream = self.find(path);
        self.answer(stream, status);
    }

    pub fn find(&self, path: &str) -> usize {
        let open = self.open();
        let found = open.into_iter().find(|&index| self.streams[index].path == path);
        found.unwrap_or_else(|| panic!("nothing asks about {path}: {:?}", self.asked()))
    }

    /// What the client got since the last call.
    pub fn client_got(&mut self) -> Vec<String> {
        let packets = wire::show(&self.got[self.got_read..], self.version);
        self.got_read = self.got.len();
        packets
    }

    /// What the broker got since the last call.
    pub fn broker_got(&mut self) -> Vec<String> {
        let body = &self.session_stream().body[self.broker_read..];
        let packets = wire::show(body, self.version);
        self.broker_read = self.session_stream().body.len();
        packets
    }

    pub fn is_closed(&self) -> bool {
        self.bridge.next_step().close
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        // A timer that is set again and again for the same moment would never let time pass.
        for _ in 0..10_000 {
            match self.bridge.next_step().deadline {
                Some(deadline) if deadline <= until => {
                    self.now = self.now.max(deadline);
                    self.bridge.handle_timeout(self.now);
                    self.settle();
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("the deadline does not move on");
    }

    /// Octets from the connection manager that are no HTTP/2, or not the server's.
    pub fn raw_http(&mut self, octets: &[u8]) {
        self.bridge.handle_http(self.now, Bytes::copy_from_slice(octets));
        self.settle();
    }

    /// The client's connection is gone.
    pub fn hang_up(mut self) {
        self.bridge.handle_close(Peer::Native);
    }

    /// Moves octets until nothing moves.
    pub fn settle(&mut self) {
        loop {
            let mut moved = false;
            while self.bridge.accepts_native() && !self.socket.is_empty() {
                let n = self.socket.len().min(self.piece);
                let octets: Vec<u8> = self.socket.drain(..n).collect();
                self.bridge.handle_native(self.now, octets.into());
                self.take_http();
                moved = true;
            }
            moved |= self.take_http();
            self.drive_server();
            let octets = std::mem::take(&mut self.wire.0.borrow_mut().1);
            for piece in octets.chunks(self.piece) {
                moved = true;
                self.bridge.handle_http(self.now, Bytes::copy_from_slice(piece));
                let (first, rest) = self.bridge.take_native();
                self.got.extend(first.iter().chain(&rest));
                self.take_http();
            }
            let step = self.bridge.next_step();
            // Nothing gives a turn where the connection manager is lost: the connection just closes.
            if step.native_output && !step.close {
                self.bridge.request_turn();
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn take_http(&mut self) -> bool {
        let octets = self.bridge.take_http();
        self.most_to_http = self.most_to_http.max(octets.len());
        // In one piece: how they are cut is the server's affair.
        if !octets.is_empty() {
            self.wire.0.borrow_mut().0.extend(&octets);
            self.drive_server();
        }
        !octets.is_empty()
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
                // After octets that were not its own the two may not understand each other.
                let Ok((request, respond)) = accepted else { return };
                self.streams.push(accept(request, respond));
            }
            for stream in &mut self.streams {
                stream.drive(cx);
            }
        }
    }
}

fn accept(request: Request<h2::RecvStream>, respond: h2::server::SendResponse<Bytes>) -> Stream {
    let (parts, incoming) = request.into_parts();
    Stream {
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().expect("a path").to_string(),
        headers: parts.headers,
        body: Vec::new(),
        ended: incoming.is_end_stream().then_some(true),
        unread: false,
        answered: false,
        incoming,
        respond,
        outgoing: None,
        unsent: VecDeque::new(),
        end_after: false,
    }
}
