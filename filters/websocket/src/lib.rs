//! Carries a native protocol over WebSocket (RFC 6455), on the same listener as without.
//!
//! [`WebSocket`] goes around a [`Protocol`]. It looks at the first octets of a connection: one that
//! begins with `GET ` is the opening handshake of a WebSocket, any other is the carried protocol
//! as it is and costs one comparison for each call.
//!
//! In a WebSocket the payload of the client's binary messages, one after the other, is the carried
//! protocol's input: neither frames nor messages are boundaries to it (MQTT 5.0 §6,
//! [MQTT-6.0.0-2]). What it replies becomes binary messages; when it closes, the closing handshake
//! follows.
//!
//! `tungstenite` checks and answers the opening handshake, and reads and writes frame headers. Its
//! `WebSocket` type is not used, because that holds each message as a whole, and reserves as much
//! memory for a frame as its header claims; here payload goes on as it comes.
//!
//! # Bounds
//!
//! A request has at most 8192 octets and 64 header fields. Of frames a header or a control frame is
//! held until it is complete, at most 131 octets; and at most [`Settings::max_held`] octets of
//! payload are given to the carried protocol at once. Whatever it cannot take while it waits for
//! room is held, and then no more is read. So no frame is too long, and status code 1009 is never
//! sent: how long a packet may be is the carried protocol's to say. 64 Ping frames are answered at
//! once and one more each second, because their answers are not slowed down by a client that does
//! not read.

mod frame;
mod handshake;

use std::rc::Rc;
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{Bytes, Captured, Ended, Input, Link, Peer, Protocol, Response, StreamId, Want};

use frame::{Fault, Read, Reader};

/// How an HTTP request for a WebSocket begins. No packet of a protocol that is carried may.
const METHOD: &[u8] = b"GET ";
/// How long the client is waited for after our Close frame, and the carried protocol after the
/// client's.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Ping frames answered at once.
const PINGS: u32 = 64;
/// After this time one more Ping frame is answered.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The purpose of the connection is fulfilled (RFC 6455 §7.4.1).
const NORMAL_CLOSURE: u16 = 1000;

/// What all connections of one filter share.
#[derive(Debug)]
pub struct Settings {
    /// The subprotocol that a client has to offer, and that is selected (RFC 6455 §1.9).
    pub subprotocol: &'static str,
    /// The most octets of payload that are given to the carried protocol at once. At least 1.
    pub max_held: usize,
    /// Counts handshakes and faults.
    pub metrics: Registry,
}

impl Settings {
    fn count(&self, name: &str, reason: &str) {
        self.metrics.counter(name, &[("reason", reason)]).increment();
    }
}

/// A protocol that may come over WebSocket. Its client speaks first.
#[derive(Debug)]
pub struct WebSocket<P> {
    inner: P,
    state: State,
}

#[derive(Debug)]
enum State {
    /// So few octets have arrived, this many, that it cannot be told.
    Undecided(Rc<Settings>, usize),
    /// Not a WebSocket.
    Plain,
    /// The request is not complete; it was searched for its end up to here.
    Handshake(Rc<Settings>, usize),
    Open(Box<Open>),
    /// The connection is being closed.
    Closed,
}

#[derive(Debug)]
struct Open {
    settings: Rc<Settings>,
    reader: Reader,
    /// Payload that the carried protocol has not consumed.
    payload: Input,
    want: Want,
    /// What ends the connection as soon as the payload before it is consumed.
    then: Option<End>,
    pings: Pings,
    /// The status code of our Close frame.
    code: Option<u16>,
    close_sent: bool,
    /// Nothing that the client sends from here on matters.
    client_done: bool,
    /// When the closing handshake has taken too long. The carried protocol's own deadline has no
    /// meaning any more.
    deadline: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    /// A Close frame, with its status code.
    Close(Option<u16>),
    Fault(Fault),
}

/// How many Ping frames may be answered.
#[derive(Debug)]
struct Pings {
    left: u32,
    refilled: Duration,
}

impl Pings {
    fn take(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.refilled).as_secs() / PING_INTERVAL.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(PINGS);
            self.refilled = now;
        }
        let answered = self.left > 0;
        self.left = self.left.saturating_sub(1);
        answered
    }
}

impl Open {
    fn new(settings: Rc<Settings>, now: Duration) -> Self {
        Self {
            settings,
            reader: Reader::default(),
            payload: Input::default(),
            want: Want::More,
            then: None,
            pings: Pings { left: PINGS, refilled: now },
            code: Some(NORMAL_CLOSURE),
            close_sent: false,
            client_done: false,
            deadline: None,
        }
    }

    /// Reads frames until there is enough payload, or nothing more to read now, which it returns.
    fn read(&mut self, link: &mut Link, input: &mut Input) -> bool {
        let limit = self.settings.max_held.max(1);
        let mut payload = Vec::with_capacity(input.len().min(limit));
        let all = loop {
            match self.reader.read(input, &mut payload, limit) {
                Ok(Read::All) => break true,
                Ok(Read::Full) => break false,
                Ok(Read::Ping(_)) if self.close_sent => {}
                Ok(Read::Ping(payload)) => {
                    if !self.pings.take(link.now()) {
                        self.then = Some(End::Fault(Fault::TooManyPings));
                        break true;
                    }
                    link.reply(frame::pong(&payload));
                }
                Ok(Read::Close(code)) => {
                    self.then = Some(End::Close(code));
                    break true;
                }
                Err(fault) => {
                    self.then = Some(End::Fault(fault));
                    break true;
                }
            }
        };
        self.payload.push(Bytes::from(payload));
        all
    }
}

impl<P: Protocol> WebSocket<P> {
    /// Carries a connection. Without settings it is never a WebSocket.
    #[must_use]
    pub fn new(inner: P, settings: Option<Rc<Settings>>) -> Self {
        let state = settings.map_or(State::Plain, |settings| State::Undecided(settings, 0));
        Self { inner, state }
    }

    /// The carried protocol, to look at.
    pub fn inner(&self) -> &P {
        &self.inner
    }

    /// Calls the carried protocol, and says what it said in frames.
    fn call<T>(&mut self, link: &mut Link, call: impl FnOnce(&mut P, &mut Link) -> T) -> T {
        if matches!(self.state, State::Undecided(..) | State::Plain) {
            return call(&mut self.inner, link);
        }
        let (result, captured) = link.capture(|link| call(&mut self.inner, link));
        let Captured { replied: (first, rest), closed, .. } = captured;
        match &mut self.state {
            State::Open(open) => {
                let silent = first.is_empty() && rest.is_empty();
                if !open.close_sent && !silent {
                    link.reply(frame::binary([&first, &rest]));
                }
                if open.deadline.is_some() {
                    link.set_deadline(open.deadline);
                }
                if closed && !open.close_sent {
                    self.close(link);
                }
            }
            State::Handshake(..) if closed => self.end(link),
            _ => {}
        }
        result
    }

    /// Sends our Close frame, if that was not done, and waits for the client's, if that matters.
    fn close(&mut self, link: &mut Link) {
        let State::Open(open) = &mut self.state else { return };
        if !std::mem::replace(&mut open.close_sent, true) {
            link.reply(frame::close(open.code));
        }
        if open.client_done {
            self.end(link);
        } else {
            open.deadline = Some(link.now() + CLOSE_TIMEOUT);
            link.set_deadline(open.deadline);
        }
    }

    /// Closes the connection.
    fn end(&mut self, link: &mut Link) {
        self.state = State::Closed;
        link.set_deadline(None);
        link.close();
    }

    /// Reads as much of the opening handshake as there is. Returns whether the WebSocket is open.
    fn shake_hands(&mut self, link: &mut Link, input: &mut Input) -> bool {
        let State::Handshake(settings, scanned) = &mut self.state else { return true };
        match handshake::accept(input, scanned, settings.subprotocol) {
            None => false,
            Some(Ok(response)) => {
                settings.count("websocket_handshakes_total", "accepted");
                link.reply(response);
                self.state = State::Open(Box::new(Open::new(Rc::clone(settings), link.now())));
                true
            }
            Some(Err(refusal)) => {
                settings.count("websocket_handshakes_total", refusal.label());
                log::debug!("WebSocket refused with {}: {}", refusal.status(), refusal.label());
                link.reply(refusal.response(settings.subprotocol));
                self.end(link);
                false
            }
        }
    }

    /// Reads frames, and has the carried protocol consume their payload.
    fn carry(&mut self, link: &mut Link, input: &mut Input) -> Want {
        // Once in any case: it may wait for something else than payload.
        let mut called = false;
        loop {
            let State::Open(open) = &mut self.state else { return Want::More };
            let mut all = open.client_done;
            if open.client_done {
                input.clear();
            } else if open.want == Want::More && open.then.is_none() {
                let before = open.payload.len();
                all = open.read(link, input);
                if called && open.payload.len() == before && open.then.is_none() {
                    // Nothing for anybody: `all` is true, because there was room.
                    return Want::More;
                }
            }
            called = true;
            if open.close_sent {
                open.payload.clear();
            } else {
                let mut payload = std::mem::take(&mut open.payload);
                let want = self.call(link, |inner, link| inner.handle_native(link, &mut payload));
                let State::Open(open) = &mut self.state else { return Want::More };
                open.payload = payload;
                open.want = want;
                if open.close_sent {
                    open.payload.clear();
                    open.want = Want::More;
                }
                if open.want == Want::Room {
                    return Want::Room;
                }
            }
            let State::Open(open) = &mut self.state else { return Want::More };
            match open.then.take() {
                None if all => return Want::More,
                None => {}
                Some(End::Close(code)) => {
                    open.code = code;
                    self.client_done(link);
                }
                Some(End::Fault(fault)) => self.fail(link, fault),
            }
        }
    }

    /// The client has said its last: the carried protocol is told, and closes when it has said its
    /// own.
    fn client_done(&mut self, link: &mut Link) {
        let State::Open(open) = &mut self.state else { return };
        if std::mem::replace(&mut open.client_done, true) {
            return;
        }
        if open.close_sent {
            return self.end(link);
        }
        open.deadline = Some(link.now() + CLOSE_TIMEOUT);
        self.call(link, Protocol::handle_native_end);
    }

    /// Fails the connection (RFC 6455 §7.1.7).
    fn fail(&mut self, link: &mut Link, fault: Fault) {
        let State::Open(open) = &mut self.state else { return };
        if !open.close_sent {
            // After that it ended nothing: some clients do not mask their answer to our Close.
            open.settings.count("websocket_faults_total", fault.label());
            log::debug!("WebSocket failed: {}", fault.label());
        }
        open.code = Some(fault.code().into());
        self.client_done(link);
        // If the carried protocol has more to say, nobody listens.
        self.close(link);
    }
}

impl<P: Protocol> Protocol for WebSocket<P> {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        match &mut self.state {
            State::Plain => return self.inner.handle_native(link, input),
            State::Undecided(settings, seen) => {
                let octets = input.as_slice();
                *seen = octets.len().min(METHOD.len());
                if octets.get(..*seen) != METHOD.get(..*seen) {
                    self.state = State::Plain;
                    return self.inner.handle_native(link, input);
                }
                if *seen < METHOD.len() {
                    return Want::More;
                }
                self.state = State::Handshake(Rc::clone(settings), 0);
            }
            State::Handshake(..) | State::Open(_) => {}
            State::Closed => {
                input.clear();
                return Want::More;
            }
        }
        if self.shake_hands(link, input) { self.carry(link, input) } else { Want::More }
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        match self.state {
            State::Plain => self.inner.handle_native_end(link),
            State::Undecided(_, seen) => {
                self.state = State::Plain;
                let mut input = Input::default();
                input.push(Bytes::from_static(METHOD.get(..seen).unwrap_or_default()));
                self.inner.handle_native(link, &mut input);
                self.inner.handle_native_end(link);
            }
            State::Handshake(..) => {
                self.call(link, Protocol::handle_native_end);
                self.end(link);
            }
            State::Open(_) => self.client_done(link),
            State::Closed => {}
        }
    }

    fn handle_response(&mut self, link: &mut Link, stream: StreamId, response: Response<()>) {
        self.call(link, |inner, link| inner.handle_response(link, stream, response));
    }

    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        self.call(link, |inner, link| inner.handle_body(link, stream, body));
    }

    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        self.call(link, |inner, link| inner.handle_ended(link, stream, how));
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        if let State::Open(open) = &mut self.state
            && open.deadline.take().is_some()
        {
            open.client_done = true;
            self.close(link);
        } else {
            self.call(link, Protocol::handle_timeout);
        }
    }

    fn handle_close(&mut self, by: Peer) {
        // Closed here for what the client did; or the carried protocol closed, and knows why.
        let by = if matches!(self.state, State::Closed) { Peer::Native } else { by };
        self.inner.handle_close(by);
    }
}
