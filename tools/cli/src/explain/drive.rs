//! A filter's engine with somebody at both ends: its clients' octets go in, and what it asks of the HTTP connection
//! manager comes out, is shown, and is answered.

use std::collections::VecDeque;
use std::time::Duration;

use bridge::server::{Received, RequestId, Server, ServerLimits};
use bridge::{Bridge, Bytes, Ended, HeaderMap, Limits, Link, Protocol, Response, Surroundings};

use super::caller::Caller;

/// Nothing here needs more turns than this; one that does is stuck.
const MAX_TURNS: usize = 10_000;

/// What the HTTP connection manager lets a filter be ahead.
const WINDOWS: ServerLimits = ServerLimits {
    stream_window: 16 << 20,
    connection_window: 64 << 20,
    max_header_list_size: 256 << 10,
    max_streams: 10_000,
};

/// What is known about a client besides its octets.
pub(crate) struct Client {
    pub(crate) address: String,
    pub(crate) server_name: Option<String>,
}

impl Surroundings for Client {
    fn server_name(&self) -> Option<String> {
        self.server_name.clone()
    }

    fn source_address(&self) -> Option<String> {
        Some(self.address.clone())
    }
}

/// One HTTP request, as Envoy sees it.
#[derive(Debug)]
pub(crate) struct Exchange {
    id: RequestId,
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Vec<u8>,
    /// How much of the content was shown.
    pub(crate) shown: usize,
    pub(crate) ended: Option<Ended>,
    pub(crate) answered: bool,
    /// It is a flow that somebody takes.
    pub(crate) goes_on: bool,
    finished: bool,
    unsent: VecDeque<u8>,
    ends: bool,
}

impl Exchange {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `flow`, `check` or `request`.
    pub(crate) fn carry(&self) -> &str {
        self.header("x-carry").unwrap_or_default()
    }

    pub(crate) fn is_flow(&self) -> bool {
        self.carry() == "flow"
    }
}

/// A response.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// One connection to a filter.
pub(crate) struct Drive<P> {
    bridge: Bridge<P>,
    /// Who is between the client and the filter, where that is reached over HTTP/2.
    caller: Option<Bridge<Caller>>,
    server: Server,
    events: VecDeque<Received>,
    pub(crate) exchanges: Vec<Exchange>,
    /// What the client has sent and the filter has not taken.
    socket: VecDeque<u8>,
    /// What the client got and nobody has taken.
    got: Vec<u8>,
    now: Duration,
}

impl<P: Protocol> Drive<P> {
    pub(crate) fn new(limits: Limits, client: Client, start: impl FnOnce(&mut Link) -> P) -> Self {
        // Not 0, so that something can be older.
        let now = Duration::from_secs(1000);
        Self {
            bridge: Bridge::new(limits, Box::new(client), now, start),
            caller: None,
            server: Server::new(&WINDOWS),
            events: VecDeque::new(),
            exchanges: Vec::new(),
            socket: VecDeque::new(),
            got: Vec::new(),
            now,
        }
    }

    /// The same with somebody between the client and the filter.
    pub(crate) fn called_by(mut self, mut caller: Bridge<Caller>) -> Self {
        // So that each knows what the other can do.
        caller.request_turn();
        self.caller = Some(caller);
        self.settle();
        self
    }

    /// The client sends.
    pub(crate) fn send(&mut self, octets: &[u8]) {
        self.socket.extend(octets);
        self.settle();
    }

    /// What the client got since the last call.
    pub(crate) fn take_got(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.got)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.bridge.next_step().close
    }

    /// Answers a request, as a whole unless it is for a flow, which goes on.
    pub(crate) fn answer(&mut self, index: usize, answer: &Answer, goes_on: bool) {
        let Some(exchange) = self.exchanges.get_mut(index) else { return };
        exchange.answered = true;
        exchange.goes_on = goes_on;
        let mut response = Response::new(());
        *response.status_mut() = answer.status.try_into().unwrap_or_default();
        *response.headers_mut() = answer.headers.clone();
        let ends = !goes_on && answer.body.is_empty();
        exchange.finished = ends;
        self.server.respond(exchange.id, response, ends);
        exchange.unsent.extend(&answer.body);
        exchange.ends = !goes_on;
        self.settle();
    }

    /// Content of a response that goes on.
    pub(crate) fn content(&mut self, index: usize, octets: &[u8]) {
        if let Some(exchange) = self.exchanges.get_mut(index) {
            exchange.unsent.extend(octets);
        }
        self.settle();
    }

    /// Moves octets until nothing moves.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..MAX_TURNS {
            quiet = if self.turn() { 0 } else { quiet + 1 };
            if quiet == 2 {
                return;
            }
        }
    }

    fn turn(&mut self) -> bool {
        let mut moved = false;
        if self.caller.is_some() {
            moved |= self.call();
        } else if self.bridge.accepts_native() && !self.socket.is_empty() {
            let octets: Vec<u8> = self.socket.drain(..).collect();
            self.bridge.handle_native(self.now, octets.into());
            moved = true;
        }
        let octets = self.bridge.take_http();
        moved |= !octets.is_empty();
        self.server.receive(Bytes::from(octets));
        self.server.poll(&mut self.events);
        while let Some(event) = self.events.pop_front() {
            moved = true;
            self.received(event);
        }
        for exchange in
            self.exchanges.iter_mut().filter(|exchange| exchange.answered && !exchange.finished)
        {
            let n = self.server.room(exchange.id, exchange.unsent.len());
            if n > 0 {
                moved = true;
                let octets: Vec<u8> = exchange.unsent.drain(..n).collect();
                self.server.send(exchange.id, octets.into());
            }
            if exchange.ends && exchange.unsent.is_empty() {
                moved = true;
                exchange.finished = true;
                self.server.finish(exchange.id);
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
        match &mut self.caller {
            Some(caller) => {
                let octets: Vec<u8> = first.iter().chain(&rest).copied().collect();
                caller.handle_http(self.now, octets.into());
            }
            None => self.got.extend(first.iter().chain(&rest)),
        }
        moved
    }

    /// Moves octets through who is between the client and the filter.
    fn call(&mut self) -> bool {
        let Some(caller) = &mut self.caller else { return false };
        let mut moved = false;
        if caller.accepts_native() && !self.socket.is_empty() {
            let octets: Vec<u8> = self.socket.drain(..).collect();
            caller.handle_native(self.now, octets.into());
            moved = true;
        }
        let octets = caller.take_http();
        if !octets.is_empty() {
            self.bridge.handle_native(self.now, octets.into());
            moved = true;
        }
        let (first, rest) = caller.take_native();
        moved |= !first.is_empty();
        self.got.extend(first.iter().chain(&rest));
        moved
    }

    fn received(&mut self, event: Received) {
        let find = |exchanges: &mut Vec<Exchange>, id| {
            exchanges.iter().position(|exchange| exchange.id == id)
        };
        match event {
            Received::Request(id, request) => {
                let (parts, ()) = request.into_parts();
                self.exchanges.push(Exchange {
                    id,
                    method: parts.method.to_string(),
                    authority: parts.uri.authority().map(ToString::to_string).unwrap_or_default(),
                    path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                    headers: parts.headers,
                    content: Vec::new(),
                    shown: 0,
                    ended: None,
                    answered: false,
                    goes_on: false,
                    finished: false,
                    unsent: VecDeque::new(),
                    ends: false,
                });
            }
            Received::Body(id, octets) => {
                let index = find(&mut self.exchanges, id);
                if let Some(exchange) = index.and_then(|index| self.exchanges.get_mut(index)) {
                    exchange.content.extend_from_slice(&octets);
                }
            }
            Received::Ended(id, how) => {
                let index = find(&mut self.exchanges, id);
                if let Some(exchange) = index.and_then(|index| self.exchanges.get_mut(index)) {
                    exchange.ended = Some(how);
                }
            }
            Received::Writable(_) | Received::Lost => {}
        }
    }
}
