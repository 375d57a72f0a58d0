//! The requests that are open, and what is sent in answer to them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use bridge::server::{Received, RequestId, Server, ServerLimits};
use bridge::{Bytes, Ended, HeaderMap, Method, Request, Response, StatusCode};
use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, HeaderValue, RETRY_AFTER};
use http::request::Parts;

use crate::Limits;

/// The error code for an answer that is cut off (RFC 9113 §7).
const INTERNAL_ERROR: u32 = 0x2;

/// What a service has to know, and the server itself.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "handed on at once, never kept")]
pub(crate) enum Event {
    Complete(RequestId, Request<Bytes>),
    Gone(RequestId),
    /// The connection is over. The last event.
    Lost,
}

/// The clients whose requests are open, to answer them.
pub struct Clients {
    server: Server,
    received: VecDeque<Received>,
    exchanges: BTreeMap<RequestId, Exchange>,
    /// Answers with something to write that was not tried yet.
    ready: VecDeque<RequestId>,
    max_content: usize,
    max_held: usize,
    /// The content of all incomplete requests.
    held: usize,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("exchanges", &self.exchanges.len())
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

struct Exchange {
    /// The method is HEAD: the answer has no content, whatever there is (RFC 9110 §9.3.2).
    is_head: bool,
    incoming: Incoming,
    /// What is sent, once the header section was.
    outgoing: Option<Outgoing>,
}

enum Incoming {
    /// As much of the request as has come.
    Part(Box<Parts>, BytesMut),
    /// The service has the request.
    Complete,
}

impl Incoming {
    fn held(&self) -> usize {
        match self {
            Self::Part(_, content) => content.len(),
            Self::Complete => 0,
        }
    }
}

/// Content that waits for the client to have room for it.
#[derive(Default)]
struct Outgoing {
    queue: VecDeque<Bytes>,
    /// The octets of the queue.
    held: usize,
    finished: bool,
}

impl Clients {
    pub(crate) fn new(limits: &Limits) -> Self {
        let server_limits = ServerLimits {
            stream_window: limits.stream_window,
            connection_window: limits.connection_window,
            max_header_list_size: limits.max_header_list_size,
            max_streams: limits.max_requests,
        };
        Self {
            server: Server::without_extended_connect(&server_limits),
            received: VecDeque::new(),
            exchanges: BTreeMap::new(),
            ready: VecDeque::new(),
            max_content: limits.max_content,
            max_held: limits.max_held,
            held: 0,
        }
    }

    /// Answers a request with this header section; with `end` there is no content, and there is none to HEAD.
    /// Only the first answer counts.
    pub fn respond(&mut self, id: RequestId, response: Response<()>, end: bool) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        if exchange.outgoing.is_some() {
            return;
        }
        let end = end || exchange.is_head;
        self.server.respond(id, response, end);
        if end {
            self.done(id);
        } else {
            exchange.outgoing = Some(Outgoing::default());
        }
    }

    /// Answers a request as a whole, with its `content-length`.
    pub fn respond_with(&mut self, id: RequestId, mut response: Response<()>, content: Bytes) {
        if !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
        }
        let is_empty = content.is_empty();
        self.respond(id, response, is_empty);
        if !is_empty {
            self.send(id, content);
            self.finish(id);
        }
    }

    /// Sends content, after the header section.
    pub fn send(&mut self, id: RequestId, content: Bytes) {
        if let Some(outgoing) = self.outgoing(id)
            && !content.is_empty()
        {
            let is_first = outgoing.queue.is_empty();
            outgoing.held += content.len();
            outgoing.queue.push_back(content);
            // What stands before it is tried already, or when there is room.
            if is_first {
                self.ready.push_back(id);
            }
        }
    }

    /// Ends the answer after the content that was sent.
    pub fn finish(&mut self, id: RequestId) {
        if let Some(outgoing) = self.outgoing(id) {
            outgoing.finished = true;
            // As in `send`.
            if outgoing.queue.is_empty() {
                self.ready.push_back(id);
            }
        }
    }

    /// Cuts the answer off with RST_STREAM, so that the client knows that it is not complete (RFC
    /// 9113 §8.1).
    pub fn abort(&mut self, id: RequestId) {
        if self.remove(id).is_some() {
            self.server.abort(id, INTERNAL_ERROR);
        }
    }

    /// How many octets of content wait for the client to have room for them.
    #[must_use]
    pub fn held(&self, id: RequestId) -> usize {
        let outgoing = self.exchanges.get(&id).and_then(|exchange| exchange.outgoing.as_ref());
        outgoing.map_or(0, |outgoing| outgoing.held)
    }

    /// Takes octets from the client. [`next_event`](Self::next_event) until there is none before the
    /// next ones.
    pub(crate) fn receive(&mut self, octets: Bytes) {
        self.server.receive(octets);
    }

    /// The client is gone.
    pub(crate) fn close(&mut self) {
        self.server.close(&mut self.received);
    }

    /// Moves everything that can move, up to what somebody has to know.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        loop {
            while let Some(received) = self.received.pop_front() {
                if let Some(event) = self.handle(received) {
                    return Some(event);
                }
            }
            while let Some(id) = self.ready.pop_front() {
                self.write(id);
            }
            self.server.poll(&mut self.received);
            if self.received.is_empty() {
                return None;
            }
        }
    }

    /// Takes the octets for the client, if there are some.
    pub(crate) fn take_output(&mut self) -> Option<Bytes> {
        self.server.has_output().then(|| Bytes::from(self.server.take_output()))
    }

    fn outgoing(&mut self, id: RequestId) -> Option<&mut Outgoing> {
        let outgoing = self.exchanges.get_mut(&id)?.outgoing.as_mut()?;
        (!outgoing.finished).then_some(outgoing)
    }

    fn handle(&mut self, received: Received) -> Option<Event> {
        match received {
            Received::Request(id, request) => self.add(id, request),
            Received::Body(id, octets) => self.read(id, &octets),
            Received::Ended(id, Ended::Complete) => return self.complete(id),
            Received::Ended(id, Ended::Reset(_)) => {
                let is_known = matches!(self.remove(id)?.incoming, Incoming::Complete);
                return is_known.then_some(Event::Gone(id));
            }
            Received::Writable(id) => self.write(id),
            Received::Lost => return Some(Event::Lost),
        }
        None
    }

    fn add(&mut self, id: RequestId, request: Request<()>) {
        let (head, ()) = request.into_parts();
        let is_too_long = stated_length(&head.headers).is_some_and(|len| len > self.max_content);
        let is_head = head.method == Method::HEAD;
        let incoming = Incoming::Part(Box::new(head), BytesMut::new());
        self.exchanges.insert(id, Exchange { is_head, incoming, outgoing: None });
        if is_too_long {
            self.refuse(id, StatusCode::PAYLOAD_TOO_LARGE);
        }
    }

    /// Keeps a part of a request's content.
    fn read(&mut self, id: RequestId, octets: &[u8]) {
        let Some(Exchange { incoming: Incoming::Part(_, content), .. }) =
            self.exchanges.get_mut(&id)
        else {
            return;
        };
        if content.len() + octets.len() > self.max_content {
            self.refuse(id, StatusCode::PAYLOAD_TOO_LARGE);
        } else if self.held + octets.len() > self.max_held {
            self.refuse(id, StatusCode::SERVICE_UNAVAILABLE);
        } else {
            content.extend_from_slice(octets);
            self.held += octets.len();
        }
    }

    fn complete(&mut self, id: RequestId) -> Option<Event> {
        let exchange = self.exchanges.get_mut(&id)?;
        let incoming = std::mem::replace(&mut exchange.incoming, Incoming::Complete);
        self.held -= incoming.held();
        let Incoming::Part(head, content) = incoming else { return None };
        Some(Event::Complete(id, Request::from_parts(*head, content.freeze())))
    }

    /// Answers a request whose rest does not matter.
    fn refuse(&mut self, id: RequestId, status: StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1));
        }
        self.respond_with(id, response, Bytes::new());
    }

    /// Writes as much of an answer as the client has room for.
    fn write(&mut self, id: RequestId) {
        let Some(Exchange { outgoing: Some(outgoing), .. }) = self.exchanges.get_mut(&id) else {
            return;
        };
        while let Some(front) = outgoing.queue.front_mut() {
            let room = self.server.room(id, outgoing.held).min(front.len());
            if room == 0 {
                return;
            }
            let piece = front.split_to(room);
            outgoing.held -= room;
            if front.is_empty() {
                outgoing.queue.pop_front();
            }
            if outgoing.finished && outgoing.queue.is_empty() {
                self.server.finish_with(id, piece);
                return self.done(id);
            }
            self.server.send(id, piece);
        }
        if outgoing.finished {
            self.server.finish(id);
            self.done(id);
        }
    }

    /// Forgets a request that was answered. If it is not complete, this tells the client not to go on.
    fn done(&mut self, id: RequestId) {
        self.server.reset(id);
        self.remove(id);
    }

    fn remove(&mut self, id: RequestId) -> Option<Exchange> {
        let exchange = self.exchanges.remove(&id)?;
        self.held -= exchange.incoming.held();
        Some(exchange)
    }
}

fn stated_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
