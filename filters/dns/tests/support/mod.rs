//! A bench for the filter: the test is the clients, the DNS servers and the HTTP connection manager, the latter
//! with an HTTP/2 server in memory, driven by hand. Time is what the test says it is.
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

pub mod hostile;
pub mod message;
pub mod model;
pub mod native;

use std::collections::VecDeque;
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::server::{Received, RequestId, Server, ServerLimits};
use bridge::{Bridge, Bytes, Ended, Peer, Surroundings};
use filter_dns::Filter;
use http::{HeaderMap, Response};

use message::Msg;
use native::{Https, Native, Tcp, Udp};

/// Clients' addresses.
pub const ANNA: &str = "192.0.2.1:40001";
pub const BERT: &str = "198.51.100.2:40002";

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub struct Address(pub &'static str);
impl Surroundings for Address {
    fn server_name(&self) -> Option<String> {
        None
    }

    fn source_address(&self) -> Option<String> {
        Some(self.0.to_owned())
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
        let filter = match Filter::new(json.as_bytes(), &registry) {
            Ok(filter) => filter,
            Err(mistakes) => panic!("{mistakes:?}"),
        };
        Self { filter, registry }
    }

    /// A connection of `udp_proxy`'s cluster, or of a client.
    pub fn connect<N: Native>(&self) -> Bench<N> {
        self.connect_with(&LIMITS)
    }

    pub fn connect_with<N: Native>(&self, limits: &ServerLimits) -> Bench<N> {
        self.connect_at(limits, seconds(1000))
    }

    pub fn connect_at<N: Native>(&self, limits: &ServerLimits, now: Duration) -> Bench<N> {
        let (native, bridge) = N::connect(self, now);
        let registry = self.registry.clone();
        let mut bench = Bench { bridge, native, manager: Manager::new(limits), registry, now };
        bench.settle();
        bench
    }
}

/// Clients over UDP.
pub fn udp(json: &str) -> Bench<Udp> {
    Worker::new(json).connect()
}

/// A client over TCP or TLS.
pub fn tcp(json: &str) -> Bench<Tcp> {
    let json = json.trim();
    if json.contains("\"transport\"") {
        return Worker::new(json).connect();
    }
    let comma = if json == "{}" { "" } else { ", " };
    Worker::new(&json.replacen('{', &format!(r#"{{"transport": "tcp"{comma}"#), 1)).connect()
}

/// Clients over HTTPS.
pub fn https(json: &str) -> Bench<Https> {
    let json = json.trim();
    let comma = if json == "{}" { "" } else { ", " };
    Worker::new(&json.replacen('{', &format!(r#"{{"transport": "https"{comma}"#), 1)).connect()
}

/// What the connection manager lets the filter be ahead.
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

    /// Messages have their lengths in front of them, and are not in capsules.
    pub fn is_tcp(&self) -> bool {
        self.header("x-dns-transport") == Some("tcp")
    }

    pub fn is_reset(&self) -> bool {
        matches!(self.ended, Some(Ended::Reset(_)))
    }

    /// The filter's side has ended well, or the stream was reset.
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// All header fields but the pseudo ones, sorted.
    pub fn all_headers(&self) -> Vec<String> {
        let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut headers: Vec<_> = self.headers.iter().map(line).collect();
        headers.sort();
        headers
    }
}

/// The HTTP connection manager, and what is behind it.
pub struct Manager {
    pub server: Server,
    events: VecDeque<Received>,
    /// Whether flows are answered with 200 as they are opened, as an HTTP UDP upstream does.
    pub accepts: bool,
    pub streams: Vec<Stream>,
    /// The filter has said something.
    is_used: bool,
    pub lost: bool,
}

impl Manager {
    fn new(limits: &ServerLimits) -> Self {
        Self {
            server: Server::new(limits),
            events: VecDeque::new(),
            accepts: true,
            streams: Vec::new(),
            is_used: false,
            lost: false,
        }
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

    /// One round trip. Whether anything moved.
    fn turn<P: bridge::Protocol>(&mut self, bridge: &mut Bridge<P>, now: Duration) -> bool {
        let octets = bridge.take_http();
        let mut moved = !octets.is_empty();
        self.is_used |= moved;
        if !self.is_used {
            return false;
        }
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
            bridge.handle_http(now, octets.into());
        }
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

/// One connection of clients to the filter, and one of the filter to the connection manager.
pub struct Bench<N: Native> {
    pub bridge: Bridge<N::Protocol>,
    pub native: N,
    pub manager: Manager,
    pub registry: Registry,
    pub now: Duration,
}

impl<N: Native> Bench<N> {
    // The connection manager.

    pub fn streams(&self) -> &[Stream] {
        &self.manager.streams
    }

    /// The newest flow with this authority.
    #[track_caller]
    pub fn flow(&self, authority: &str) -> usize {
        let is = |stream: &Stream| stream.is_flow() && stream.authority == authority;
        let found = self.streams().iter().rposition(is);
        found.unwrap_or_else(|| panic!("no flow for {authority}"))
    }

    /// All flows that were opened: their authorities.
    pub fn flows(&self) -> Vec<&str> {
        let flows = self.streams().iter().filter(|stream| stream.is_flow());
        flows.map(|stream| &*stream.authority).collect()
    }

    /// The flows that have not ended.
    pub fn open_flows(&self) -> Vec<usize> {
        let is_open = |stream: &Stream| stream.is_flow() && !stream.is_over();
        (0..self.streams().len()).filter(|index| is_open(&self.streams()[*index])).collect()
    }

    /// The checks and requests that wait for an answer.
    pub fn open(&self) -> Vec<usize> {
        let waits = |stream: &Stream| !stream.is_flow() && !stream.answered && !stream.is_reset();
        (0..self.streams().len()).filter(|index| waits(&self.streams()[*index])).collect()
    }

    /// The only check or request that waits for an answer.
    #[track_caller]
    pub fn open_one(&self) -> usize {
        let open = self.open();
        assert_eq!(open.len(), 1, "checks and requests that wait");
        open[0]
    }

    /// A response's header section, and not its end.
    pub fn respond(&mut self, stream: usize, status: u16, headers: &[(&str, &str)]) {
        self.manager.head(stream, status, headers, false);
        self.settle();
    }

    /// Content of a response.
    pub fn content(&mut self, stream: usize, octets: &[u8]) {
        self.manager.streams[stream].unsent.extend(octets);
        self.settle();
    }

    /// END_STREAM.
    pub fn finish(&mut self, stream: usize) {
        self.manager.streams[stream].end_after = true;
        self.settle();
    }

    /// RST_STREAM.
    pub fn reset(&mut self, stream: usize) {
        let of = &mut self.manager.streams[stream];
        (of.answered, of.finished) = (true, true);
        self.manager.server.reset(of.id);
        self.settle();
    }

    /// A whole response.
    pub fn respond_with(
        &mut self,
        stream: usize,
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        self.manager.head(stream, status, headers, body.is_empty());
        if !body.is_empty() {
            let of = &mut self.manager.streams[stream];
            of.unsent.extend(body);
            of.end_after = true;
        }
        self.settle();
    }

    /// Answers the only check or request that waits for it.
    #[track_caller]
    pub fn respond_one(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        let stream = self.open_one();
        self.respond_with(stream, status, headers, body);
    }

    /// A DoH server's answer to the only request.
    #[track_caller]
    pub fn doh(&mut self, message: &Msg) {
        let headers = [("content-type", "application/dns-message")];
        self.respond_one(200, &headers, &message.octets());
    }

    // The DNS servers.

    /// What the server at the other end of a flow got since the last call.
    pub fn server_got_octets(&mut self, stream: usize) -> Vec<Vec<u8>> {
        let stream = &mut self.manager.streams[stream];
        let messages = native::split(&stream.body[stream.read..], stream.is_tcp());
        stream.read = stream.body.len();
        messages
    }

    pub fn server_got(&mut self, stream: usize) -> Vec<Msg> {
        self.server_got_octets(stream).iter().map(|octets| Msg::decode(octets)).collect()
    }

    #[track_caller]
    pub fn server_got_one(&mut self, stream: usize) -> Msg {
        let mut got = self.server_got(stream);
        assert_eq!(got.len(), 1, "{got:#?}");
        got.remove(0)
    }

    /// What all servers got since the last call, each with its flow.
    pub fn servers_got(&mut self) -> Vec<(usize, Msg)> {
        let flows = (0..self.streams().len()).filter(|index| self.streams()[*index].is_flow());
        let flows: Vec<_> = flows.collect();
        let got = flows.into_iter().map(|flow| (flow, self.server_got(flow)));
        got.flat_map(|(flow, got)| got.into_iter().map(move |message| (flow, message))).collect()
    }

    /// The only message that any server got since the last call.
    #[track_caller]
    pub fn asked_one(&mut self) -> (usize, Msg) {
        let mut got = self.servers_got();
        assert_eq!(got.len(), 1, "{got:#?}");
        got.remove(0)
    }

    #[track_caller]
    pub fn asked_nothing(&mut self) {
        let got = self.servers_got();
        assert!(got.is_empty(), "{got:#?}");
    }

    /// The server at the other end of a flow sends any octets as a message.
    pub fn server_octets(&mut self, stream: usize, octets: &[u8]) {
        let native = match self.streams()[stream].is_tcp() {
            true => message::framed(octets),
            false => native::capsule(octets),
        };
        self.content(stream, &native);
    }

    /// The server at the other end of a flow sends a message.
    pub fn server(&mut self, stream: usize, message: &Msg) {
        self.server_octets(stream, &message.octets());
    }

    /// The server gives what it was asked last an answer with an address.
    #[track_caller]
    pub fn server_answers(&mut self) {
        let (flow, query) = self.asked_one();
        self.server(flow, &query.address(300, 1));
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

    /// The clients' side is gone.
    pub fn hang_up(mut self) {
        self.bridge.handle_close(Peer::Native);
    }

    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        self.registry.counter(name, labels).value()
    }

    pub fn gauge(&self, name: &str) -> i64 {
        self.registry.gauge(name, &[]).value()
    }

    /// Of messages of clients that were none, by kind.
    pub fn decode_errors(&self, kind: &str) -> i64 {
        let labels = [("direction", "from_client"), ("kind", kind)];
        self.counter("dns_decode_errors_total", &labels)
    }

    /// Of servers' messages that were none, by kind.
    pub fn server_errors(&self, kind: &str) -> i64 {
        let labels = [("direction", "to_client"), ("kind", kind)];
        self.counter("dns_decode_errors_total", &labels)
    }

    /// Of queries that met a limit.
    pub fn limited(&self, limit: &str, action: &str) -> i64 {
        self.counter("dns_limited_total", &[("limit", limit), ("action", action)])
    }

    /// Moves octets until nothing moves.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            let moved = self.native.turn(&mut self.bridge, self.now);
            let moved = self.manager.turn(&mut self.bridge, self.now) || moved;
            quiet = if moved { 0 } else { quiet + 1 };
        }
    }
}
