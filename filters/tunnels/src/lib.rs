//! The UDP sessions of Envoy's `udp_proxy`, tunnelled over HTTP/2.
//!
//! A `udp_proxy` with `tunneling_config` makes each of its sessions an extended CONNECT request
//! (RFC 9298 §3.4) on one HTTP/2 connection to the internal listener that its cluster names.
//! [`Tunnels`] is the protocol of that connection where each session has a protocol of its own: it answers
//! each request with 200 and carries it by a session, a [`Protocol`] whose native octets are capsules
//! (RFC 9297 §3.2) both ways. [`Hub`] is the one where a [`Service`] has the datagrams of all of them. All
//! sessions share the one connection to the next filter, so a session costs neither a connection nor an HTTP
//! connection manager of its own.
//!
//! # Ending
//!
//! When a session closes, its tunnel ends with END_STREAM and `udp_proxy` forgets its session. The streams
//! it opened end with END_STREAM as well, never with RST_STREAM, of which an HTTP connection manager takes
//! only so many; where the next filter does not end its side in answer, as with a UDP upstream, the route's
//! `timeout` has it do so.
//!
//! # Bounds
//!
//! At most [`Settings::max_sessions`] tunnels are open on one connection; Envoy opens another connection
//! for more. What a client sends ahead of its session is bounded by [`Settings::stream_window`]. A datagram
//! for a client whose tunnel has no room is dropped, as UDP drops.

pub mod datagram;
mod hub;
pub mod watch;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bridge::metrics::{Metric, Registry};
use bridge::server::{Received, Server, ServerLimits};
use bridge::{
    Bytes, Captured, Ended, HeaderMap, HeaderValue, Input, Link, Method, Peer, Protocol, Request,
    Response, StatusCode, StreamId, Want,
};
use hashbrown::HashMap;

pub use bridge::server::RequestId;
pub use hub::{Clients, Hub, Service};

/// The header that says who the client is: `udp_proxy` is told to add it.
const CLIENT: &str = "x-forwarded-for";

/// What all connections of one filter share.
#[derive(Debug)]
pub struct Settings {
    /// Tunnels that may be open at once on one connection.
    pub max_sessions: u32,
    /// Octets of capsules a client may be ahead of its session.
    pub stream_window: u32,
    opened: Metric,
    refused: Metric,
    active: Metric,
    dropped: Metric,
}

impl Settings {
    /// Settings whose metrics are counted here.
    #[must_use]
    pub fn new(max_sessions: u32, stream_window: u32, metrics: &Registry) -> Self {
        let opened = |result| metrics.counter("udp_sessions_total", &[("result", result)]);
        Self {
            max_sessions,
            stream_window,
            opened: opened("opened"),
            refused: opened("refused"),
            active: metrics.gauge("udp_sessions_active", &[]),
            dropped: metrics.counter("udp_dropped_total", &[("reason", "no_room")]),
        }
    }

    /// The server's end of a connection that was just accepted.
    fn server(&self) -> Server {
        Server::new(&ServerLimits {
            stream_window: self.stream_window,
            // Each stream has its own bound; together they may all be full.
            connection_window: (1 << 31) - 1,
            max_header_list_size: 16 << 10,
            max_streams: self.max_sessions,
        })
    }

    /// Answers a request for a tunnel. Whose it is, if it is one.
    fn accept(&self, server: &mut Server, id: RequestId, request: Request<()>) -> Option<Client> {
        let connect_udp = request.method() == Method::CONNECT
            && request.extensions().get::<h2::ext::Protocol>().is_some_and(|protocol| {
                // The only thing udp_proxy asks for.
                protocol.as_str() == "connect-udp"
            });
        let mut response = Response::new(());
        if !connect_udp {
            self.refused.increment();
            *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
            server.respond(id, response, true);
            return None;
        }
        response.headers_mut().insert("capsule-protocol", HeaderValue::from_static("?1"));
        server.respond(id, response, false);
        self.opened.increment();
        self.active.increment();
        Some(Client::of(request))
    }
}

/// Whose datagrams a tunnel carries.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client's address; the port is 0 where `udp_proxy` was not told to say it, and both are unknown
    /// where it says nothing.
    pub address: Option<SocketAddr>,
    /// The header fields of the request.
    pub headers: HeaderMap,
}

impl Client {
    fn of(request: Request<()>) -> Self {
        let (parts, ()) = request.into_parts();
        let address = parts.headers.get(CLIENT).and_then(|value| value.to_str().ok());
        // The last one is who Envoy itself saw.
        let address = address.and_then(|value| value.rsplit(',').next()).map(str::trim);
        let parse = |text: &str| {
            let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
            text.parse().or_else(|_| bare()).ok()
        };
        Self { address: address.and_then(parse), headers: parts.headers }
    }
}

/// Makes the session for a client.
pub type Start<S> = dyn Fn(&mut Link, Client) -> S;

/// One connection with the tunnels of many clients.
pub struct Tunnels<S> {
    settings: Rc<Settings>,
    start: Rc<Start<S>>,
    server: Server,
    sessions: HashMap<RequestId, Session<S>>,
    /// Which session opened a stream.
    owners: HashMap<StreamId, RequestId>,
    /// When sessions are looked at: at their deadline, or before it where that was put off.
    deadlines: BinaryHeap<Reverse<(Duration, RequestId)>>,
    events: VecDeque<Received>,
    /// Something happened since the connection was served.
    touched: bool,
}

#[derive(Debug)]
struct Session<S> {
    protocol: S,
    input: Input,
    want: Want,
    /// The client's side of the tunnel has ended.
    ended: bool,
    deadline: Option<Duration>,
    /// When it is looked at next.
    watched: Option<Duration>,
    streams: Vec<StreamId>,
}

impl<S> Session<S> {
    /// Has the session looked at when its deadline is due, unless it is looked at before that anyway: one
    /// entry in the list for each session is enough.
    fn watch(&mut self, deadlines: &mut BinaryHeap<Reverse<(Duration, RequestId)>>, id: RequestId) {
        if let Some(deadline) = self.deadline
            && self.watched.is_none_or(|watched| deadline < watched)
        {
            self.watched = Some(deadline);
            deadlines.push(Reverse((deadline, id)));
        }
    }
}

impl<S> std::fmt::Debug for Tunnels<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnels").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}

impl<S: Protocol> Tunnels<S> {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(settings: Rc<Settings>, start: Rc<Start<S>>) -> Self {
        Self {
            server: settings.server(),
            settings,
            start,
            sessions: HashMap::new(),
            owners: HashMap::new(),
            deadlines: BinaryHeap::new(),
            events: VecDeque::new(),
            touched: true,
        }
    }

    /// The sessions, to look at.
    pub fn sessions(&self) -> impl Iterator<Item = &S> {
        self.sessions.values().map(|session| &session.protocol)
    }

    /// Calls a session, and does what it said in its tunnel.
    fn call(
        &mut self,
        link: &mut Link,
        id: RequestId,
        call: impl FnOnce(&mut S, &mut Link, &mut Input) -> Option<Want>,
    ) {
        self.touched = true;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        link.set_deadline(session.deadline);
        let Session { protocol, input, want, .. } = session;
        let (wanted, captured) = link.capture(|link| call(protocol, link, input));
        if let Some(wanted) = wanted
            && wanted != *want
        {
            self.server.hold(id, wanted == Want::Room);
            *want = wanted;
        }
        let Captured { replied: (first, rest), closed, opened } = captured;
        for stream in opened {
            self.owners.insert(stream, id);
            session.streams.push(stream);
        }
        session.deadline = link.deadline();
        session.watch(&mut self.deadlines, id);
        for octets in [first, Bytes::from(rest)] {
            if octets.is_empty() {
            } else if self.server.room(id, octets.len()) < octets.len() {
                self.settings.dropped.increment();
            } else {
                self.server.send(id, octets);
            }
        }
        if closed {
            self.server.finish(id);
            self.server.reset(id);
            self.forget(link, id, Peer::Next);
        }
    }

    /// A session has ended.
    fn forget(&mut self, link: &mut Link, id: RequestId, by: Peer) {
        if let Some(mut session) = self.sessions.remove(&id) {
            session.protocol.handle_close(by);
            for stream in session.streams {
                self.owners.remove(&stream);
                link.abandon(stream);
            }
            self.settings.active.add(-1);
        }
    }

    fn offer(&mut self, link: &mut Link, id: RequestId) {
        self.call(link, id, |session, link, input| Some(session.handle_native(link, input)));
        if let Some(session) = self.sessions.get_mut(&id)
            && session.ended
            && session.want == Want::More
        {
            session.ended = false;
            self.call(link, id, |session, link, _| {
                session.handle_native_end(link);
                None
            });
        }
    }

    /// Tells a session something that may make it ready for more input.
    fn tell(&mut self, link: &mut Link, id: RequestId, call: impl FnOnce(&mut S, &mut Link)) {
        self.call(link, id, |session, link, _| {
            call(session, link);
            None
        });
        if self.sessions.get(&id).is_some_and(|session| session.want == Want::Room) {
            self.offer(link, id);
        }
    }

    fn of_stream(
        &mut self,
        link: &mut Link,
        stream: StreamId,
        call: impl FnOnce(&mut S, &mut Link),
    ) {
        if let Some(id) = self.owners.get(&stream).copied() {
            self.tell(link, id, call);
        }
    }

    fn open(&mut self, link: &mut Link, id: RequestId, request: Request<()>) {
        let Some(client) = self.settings.accept(&mut self.server, id, request) else { return };
        link.set_deadline(None);
        let (protocol, _) = link.capture(|link| (self.start)(link, client));
        let mut session = Session {
            protocol,
            input: Input::default(),
            want: Want::More,
            ended: false,
            deadline: link.deadline(),
            watched: None,
            streams: Vec::new(),
        };
        session.watch(&mut self.deadlines, id);
        self.sessions.insert(id, session);
    }

    fn receive(&mut self, link: &mut Link, event: Received) {
        match event {
            Received::Request(id, request) => self.open(link, id, request),
            Received::Body(id, octets) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.input.push(octets);
                    if session.want == Want::More {
                        self.offer(link, id);
                    }
                }
            }
            Received::Ended(id, Ended::Complete) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.ended = true;
                    self.offer(link, id);
                }
            }
            Received::Ended(id, Ended::Reset(_)) => self.forget(link, id, Peer::Native),
            // Datagrams do not wait.
            Received::Writable(_) => {}
            Received::Lost => link.close(),
        }
    }
}

impl<S: Protocol> Protocol for Tunnels<S> {
    fn handle_native(&mut self, _: &mut Link, input: &mut Input) -> Want {
        if !input.is_empty() {
            // All that came before has been polled.
            self.touched = true;
            self.server.receive(input.take(input.len()));
        }
        Want::More
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        link.close();
    }

    fn handle_response(&mut self, link: &mut Link, stream: StreamId, response: Response<()>) {
        self.of_stream(link, stream, |session, link| {
            session.handle_response(link, stream, response);
        });
    }

    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        self.of_stream(link, stream, |session, link| session.handle_body(link, stream, body));
    }

    fn handle_writable(&mut self, link: &mut Link, stream: StreamId) {
        if let Some(id) = self.owners.get(&stream).copied() {
            self.offer(link, id);
        }
    }

    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        let Some(id) = self.owners.get(&stream).copied() else { return };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.streams.retain(|other| *other != stream);
        }
        self.of_stream(link, stream, |session, link| session.handle_ended(link, stream, how));
        self.owners.remove(&stream);
    }

    /// Does what the server reported, and says what there is to say.
    fn settle(&mut self, link: &mut Link) -> bool {
        if !std::mem::take(&mut self.touched) {
            return false;
        }
        loop {
            self.server.poll(&mut self.events);
            let Some(event) = self.events.pop_front() else { break };
            self.receive(link, event);
            while let Some(event) = self.events.pop_front() {
                self.receive(link, event);
            }
        }
        if self.server.has_output() {
            link.reply(Bytes::from(self.server.take_output()));
        }
        // Deadlines of sessions that have another one by now are noticed when they are due.
        link.set_deadline(self.deadlines.peek().map(|Reverse((deadline, _))| *deadline));
        self.touched = false;
        true
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        let now = link.now();
        // Each at most once: a session may want to be called again at once.
        let mut due = Vec::new();
        while let Some(Reverse((deadline, id))) = self.deadlines.peek().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop();
            due.push((deadline, id));
        }
        for (deadline, id) in due {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if session.watched != Some(deadline) {
                continue;
            }
            session.watched = None;
            if session.deadline.is_some_and(|deadline| deadline <= now) {
                session.deadline = None;
                self.tell(link, id, |session, link| session.handle_timeout(link));
            } else {
                session.watch(&mut self.deadlines, id);
            }
        }
        self.touched = true;
    }

    fn handle_close(&mut self, by: Peer) {
        for (_, mut session) in self.sessions.drain() {
            session.protocol.handle_close(by);
            self.settings.active.add(-1);
        }
    }
}
