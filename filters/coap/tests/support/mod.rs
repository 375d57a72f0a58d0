//! A bench for CoAP sessions: the test is the client, the CoAP servers and the HTTP connection manager, the
//! latter with an HTTP/2 server in memory, driven by hand. Time is what the test says it is.
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

pub mod message;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::server::{Received, RequestId, Server, ServerLimits};
use bridge::{Bridge, Bytes, Ended, Peer, Surroundings};
use codec_coap::Code;
use filter_coap::{Client, Filter, Session};
use http::{HeaderMap, Response};

use message::Msg;

/// A client's address, unless a test says otherwise.
pub const ANNA: &str = "192.0.2.1:40001";

/// `c/…` is checked, `v/…` as well but not each time, `r/…` requested, the rest forwarded; and who says
/// nothing about it does not care about amplification.
pub fn rules(more: &str) -> String {
    let factor =
        if more.contains("amplification_factor") { "" } else { r#""amplification_factor": 0, "# };
    let comma = if more.is_empty() { "" } else { ", " };
    format!(
        r#"{{{factor}"rules": [
            {{"paths": ["/c/**"], "carry": "check"}},
            {{"paths": ["/v/**"], "carry": "check", "verdict_cache": "10s"}},
            {{"paths": ["/r/**"], "carry": "request"}}]{comma}{more}}}"#
    )
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

struct Names(Option<String>);
impl Surroundings for Names {
    fn server_name(&self) -> Option<String> {
        self.0.clone()
    }
}

/// What outlives a session: the filter of one worker.
pub struct Worker {
    pub filter: Filter,
    pub registry: Registry,
    is_tcp: bool,
}

impl Worker {
    pub fn new(json: &str) -> Self {
        let registry = Registry::default();
        let filter = match Filter::new(json.as_bytes(), &registry) {
            Ok(filter) => filter,
            Err(mistakes) => panic!("{mistakes:?}"),
        };
        let is_tcp = filter.transport() == filter_coap::config::Transport::Tcp;
        Self { filter, registry, is_tcp }
    }

    /// A session that begins now, of the client at this address.
    pub fn session(&self, address: &str, now: Duration) -> Bench {
        self.session_with(address, now, &LIMITS, None)
    }

    pub fn session_with(
        &self,
        address: &str,
        now: Duration,
        limits: &ServerLimits,
        server_name: Option<&str>,
    ) -> Bench {
        let address: Option<SocketAddr> = address.parse().ok();
        let client = Client { address, headers: HeaderMap::new() };
        let names = Box::new(Names(server_name.map(str::to_owned)));
        let bridge =
            Bridge::new(self.filter.limits(), names, now, |link| self.filter.carry(link, client));
        Bench {
            bridge,
            server: Server::new(limits),
            registry: self.registry.clone(),
            events: VecDeque::new(),
            now,
            is_tcp: self.is_tcp,
            accepts: true,
            holds: false,
            streams: Vec::new(),
            socket: VecDeque::new(),
            piece: usize::MAX,
            got: Vec::new(),
            got_read: 0,
            lost: false,
        }
    }
}

/// What the connection manager lets a session be ahead.
pub const LIMITS: ServerLimits = ServerLimits {
    stream_window: 1 << 20,
    connection_window: 16 << 20,
    max_header_list_size: 64 << 10,
    max_streams: 1000,
};

/// One HTTP/2 stream as the connection manager sees it.
pub struct Stream {
    pub id: RequestId,
    pub method: String,
    /// The path and the query.
    pub path: String,
    pub authority: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    read: usize,
    pub ended: Option<Ended>,
    /// A status was sent.
    pub answered: bool,
    pub finished: bool,
    unsent: VecDeque<u8>,
    end_after: bool,
}

impl Stream {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("visible ASCII"))
    }

    pub fn carry(&self) -> &str {
        self.header("x-carry").expect("every stream says how it is carried")
    }

    pub fn is_flow(&self) -> bool {
        self.carry() == "flow"
    }

    pub fn is_reset(&self) -> bool {
        matches!(self.ended, Some(Ended::Reset(_)))
    }

    /// The bridge's side has ended well, or the stream was reset.
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// The headers but for those of every request of a client, sorted.
    pub fn own_headers(&self) -> Vec<String> {
        let common = ["x-protocol", "x-coap-transport", "x-forwarded-for"];
        let own = self.headers.iter().filter(|(name, _)| !common.contains(&name.as_str()));
        let mut own: Vec<_> =
            own.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        own.sort();
        own
    }
}

/// One session.
pub struct Bench {
    pub bridge: Bridge<Session>,
    pub server: Server,
    pub registry: Registry,
    events: VecDeque<Received>,
    pub now: Duration,
    pub is_tcp: bool,
    /// Whether flows are answered with 200 as they are opened, as an HTTP UDP upstream does.
    pub accepts: bool,
    /// Whether the content of new streams is left unread.
    pub holds: bool,
    pub streams: Vec<Stream>,
    /// What the client has sent and the bridge has not taken.
    pub socket: VecDeque<u8>,
    /// Octets travel to the bridge in pieces of at most so many.
    pub piece: usize,
    /// What the client has received.
    pub got: Vec<u8>,
    got_read: usize,
    pub lost: bool,
}

impl Bench {
    pub fn new(json: &str) -> Self {
        Worker::new(json).session(ANNA, Duration::ZERO)
    }

    // The client.

    /// The client sends these messages at once.
    pub fn client_all(&mut self, messages: &[Msg]) {
        for message in messages {
            self.socket.extend(message.native());
        }
        self.settle();
    }

    pub fn client(&mut self, message: &Msg) {
        self.client_all(std::slice::from_ref(message));
    }

    /// The client sends a datagram of any octets.
    pub fn datagram(&mut self, octets: &[u8]) {
        self.octets(&message::capsule(octets));
    }

    /// The client's octets on the native connection.
    pub fn octets(&mut self, octets: &[u8]) {
        self.socket.extend(octets);
        self.settle();
    }

    /// What the client got since the last call, octet by octet.
    pub fn got_octets(&mut self) -> Vec<Vec<u8>> {
        let messages = message::split(&self.got[self.got_read..], self.is_tcp);
        self.got_read = self.got.len();
        messages
    }

    /// What the client got since the last call.
    pub fn got(&mut self) -> Vec<Msg> {
        let is_tcp = self.is_tcp;
        self.got_octets().iter().map(|octets| Msg::decode(octets, is_tcp)).collect()
    }

    /// The only message that the client got since the last call.
    pub fn got_one(&mut self) -> Msg {
        let mut got = self.got();
        assert_eq!(got.len(), 1, "{got:#?}");
        got.remove(0)
    }

    #[track_caller]
    pub fn got_nothing(&mut self) {
        let got = self.got();
        assert!(got.is_empty(), "{got:#?}");
    }

    // The connection manager.

    /// The newest flow with this path.
    #[track_caller]
    pub fn flow(&self, path: &str) -> usize {
        let found = self.streams.iter().rposition(|stream| stream.is_flow() && stream.path == path);
        found.unwrap_or_else(|| panic!("no flow {path}"))
    }

    /// The paths of all flows that were opened.
    pub fn flows(&self) -> Vec<&str> {
        self.streams.iter().filter(|stream| stream.is_flow()).map(|stream| &*stream.path).collect()
    }

    /// The checks and requests that wait for an answer.
    pub fn open(&self) -> Vec<usize> {
        let waits = |stream: &Stream| !stream.is_flow() && !stream.answered && !stream.is_reset();
        let streams = self.streams.iter().enumerate();
        streams.filter(|(_, stream)| waits(stream)).map(|(index, _)| index).collect()
    }

    /// The same as `check GET /a`.
    pub fn asked(&self) -> Vec<String> {
        let line = |index: usize| {
            let stream = &self.streams[index];
            format!("{} {} {}", stream.carry(), stream.method, stream.path)
        };
        self.open().into_iter().map(line).collect()
    }

    /// The only check or request that waits for an answer.
    #[track_caller]
    pub fn asked_one(&self) -> usize {
        let open = self.open();
        assert_eq!(open.len(), 1, "{:?}", self.asked());
        open[0]
    }

    /// A response's header section, and not its end.
    pub fn respond(&mut self, stream: usize, status: u16, headers: &[(&str, &str)]) {
        self.head(stream, status, headers, false);
        self.settle();
    }

    fn head(&mut self, stream: usize, status: u16, headers: &[(&str, &str)], end: bool) {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let stream = &mut self.streams[stream];
        stream.answered = true;
        stream.finished = end;
        self.server.respond(stream.id, response.body(()).expect("a valid response"), end);
    }

    /// Content of a response.
    pub fn content(&mut self, stream: usize, octets: &[u8]) {
        self.streams[stream].unsent.extend(octets);
        self.settle();
    }

    /// END_STREAM.
    pub fn finish(&mut self, stream: usize) {
        self.streams[stream].end_after = true;
        self.settle();
    }

    /// RST_STREAM.
    pub fn reset(&mut self, stream: usize) {
        self.streams[stream].answered = true;
        self.server.reset(self.streams[stream].id);
        self.settle();
    }

    /// A whole response.
    pub fn answer(&mut self, stream: usize, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        self.head(stream, status, headers, body.is_empty());
        if !body.is_empty() {
            self.streams[stream].unsent.extend(body);
            self.streams[stream].end_after = true;
        }
        self.settle();
    }

    /// Answers the only check or request that waits for it.
    #[track_caller]
    pub fn answer_one(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        let stream = self.asked_one();
        self.answer(stream, status, headers, body);
    }

    // The CoAP servers.

    /// The server at the other end of a flow sends a message.
    pub fn server(&mut self, stream: usize, message: &Msg) {
        self.content(stream, &message.native());
    }

    /// What the server got since the last call, octet by octet.
    pub fn server_got_octets(&mut self, stream: usize) -> Vec<Vec<u8>> {
        let stream = &mut self.streams[stream];
        let messages = message::split(&stream.body[stream.read..], self.is_tcp);
        stream.read = stream.body.len();
        messages
    }

    /// What the server got since the last call.
    pub fn server_got(&mut self, stream: usize) -> Vec<Msg> {
        let is_tcp = self.is_tcp;
        let octets = self.server_got_octets(stream);
        octets.iter().map(|octets| Msg::decode(octets, is_tcp)).collect()
    }

    /// The only message that the server got since the last call.
    #[track_caller]
    pub fn server_got_one(&mut self, stream: usize) -> Msg {
        let mut got = self.server_got(stream);
        assert_eq!(got.len(), 1, "{got:#?}");
        got.remove(0)
    }

    /// The same message as the only one that the server got since the last call.
    #[track_caller]
    pub fn assert_server_got(&mut self, stream: usize, message: &Msg) {
        assert_eq!(self.server_got_octets(stream), [message.octets()]);
    }

    /// A request in a flow, and its response.
    #[track_caller]
    pub fn exchange(&mut self, request: &Msg, flow: &str) {
        self.client(request);
        let stream = self.flow(flow);
        self.server_got(stream);
        self.server(stream, &request.reply(Code::CONTENT));
        self.got_one();
    }

    // Time and the ends.

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        // A timer that is set again and again for the same moment would never let time pass.
        for _ in 0..100_000 {
            match self.bridge.next_step().deadline {
                Some(deadline) if deadline <= until && !self.is_closed() => {
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

    pub fn is_closed(&self) -> bool {
        self.bridge.next_step().close
    }

    /// How long it takes until the session closes, if nothing happens.
    #[track_caller]
    pub fn closes_within(&mut self, most: Duration) -> Duration {
        let since = self.now;
        while !self.is_closed() {
            assert!(self.now - since <= most, "open after {most:?}");
            self.pass(millis(10));
        }
        self.now - since
    }

    /// The client's side of the native connection is gone.
    pub fn hang_up(mut self) {
        self.bridge.handle_close(Peer::Native);
    }

    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        self.registry.counter(name, labels).value()
    }

    pub fn gauge(&self, name: &str) -> i64 {
        self.registry.gauge(name, &[]).value()
    }

    /// Moves octets until nothing moves.
    pub fn settle(&mut self) {
        loop {
            let mut moved = false;
            while self.bridge.accepts_native() && !self.socket.is_empty() {
                let n = self.socket.len().min(self.piece);
                let octets: Vec<u8> = self.socket.drain(..n).collect();
                self.bridge.handle_native(self.now, octets.into());
                self.turn();
                moved = true;
            }
            moved |= self.turn();
            if !moved {
                return;
            }
        }
    }

    /// One round trip to the connection manager. Whether anything moved.
    fn turn(&mut self) -> bool {
        let octets = self.bridge.take_http();
        let mut moved = !octets.is_empty();
        self.server.receive(Bytes::from(octets));
        self.server.poll(&mut self.events);
        while let Some(event) = self.events.pop_front() {
            moved = true;
            self.received(event);
        }
        for stream in &mut self.streams {
            if stream.finished {
                continue;
            }
            let n = self.server.room(stream.id, stream.unsent.len());
            if n > 0 {
                moved = true;
                let octets: Vec<u8> = stream.unsent.drain(..n).collect();
                self.server.send(stream.id, octets.into());
            }
            if stream.end_after && stream.unsent.is_empty() {
                moved = true;
                stream.finished = true;
                self.server.finish(stream.id);
            }
        }
        self.server.poll(&mut self.events);
        if self.server.has_output() {
            moved = true;
            let octets = self.server.take_output();
            self.bridge.handle_http(self.now, octets.into());
        }
        let (first, rest) = self.bridge.take_native();
        moved |= !first.is_empty();
        self.got.extend(first.iter().chain(&rest));
        moved
    }

    fn received(&mut self, event: Received) {
        let find = |streams: &[Stream], id| streams.iter().position(|stream| stream.id == id);
        match event {
            Received::Request(id, request) => {
                let (parts, ()) = request.into_parts();
                let path = parts.uri.path_and_query().expect("a path").to_string();
                self.streams.push(Stream {
                    id,
                    method: parts.method.to_string(),
                    path,
                    authority: parts.uri.authority().expect("an authority").to_string(),
                    headers: parts.headers,
                    body: Vec::new(),
                    read: 0,
                    ended: None,
                    answered: false,
                    finished: false,
                    unsent: VecDeque::new(),
                    end_after: false,
                });
                self.server.hold(id, self.holds);
                let stream = self.streams.len() - 1;
                if self.accepts && self.streams[stream].is_flow() {
                    self.head(stream, 200, &[], false);
                }
            }
            Received::Body(id, octets) => {
                if let Some(stream) = find(&self.streams, id) {
                    self.streams[stream].body.extend_from_slice(&octets);
                }
            }
            Received::Ended(id, how) => {
                if let Some(stream) = find(&self.streams, id) {
                    self.streams[stream].ended = Some(how);
                }
            }
            Received::Writable(_) => {}
            Received::Lost => self.lost = true,
        }
    }
}
