//! The bridge itself: native octets on one side, HTTP on the other, a protocol in between.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use crate::http1::Http1;
use crate::http2::{Ended, Event, Http2, Limits, OpenError, StreamId};
use crate::input::Input;

/// One of the two sides of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The native client.
    Native,
    /// The next filter, or Envoy itself.
    Next,
}

/// What is known about the native connection besides its octets.
pub trait Surroundings {
    /// The name the client asked for in its TLS handshake (SNI, RFC 6066 §3).
    fn server_name(&self) -> Option<String>;

    /// The address the connection comes from, without a port.
    fn source_address(&self) -> Option<String> {
        None
    }
}

/// What a protocol needs before it can consume more of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// More octets. What is left of the input is the beginning of something; the protocol bounds
    /// how much that can be.
    More,
    /// Room on a stream, or an answer of the next filter. The input stays, no more is taken from
    /// the native peer, and the protocol is called again after whatever happens next.
    Room,
}

/// The meaning of the native octets of one connection.
///
/// Every method may use the [`Link`] to send, reply and close.
pub trait Protocol {
    /// Consumes what it can of the native input. Also called with no more of it than before, or none:
    /// after [`Want::Room`], and when a stream has room again.
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want;

    /// The native peer will send no more, and all it sent was consumed, but for the beginning of
    /// something that will never be complete.
    fn handle_native_end(&mut self, link: &mut Link);

    /// A response's header section arrived.
    fn handle_response(&mut self, link: &mut Link, stream: StreamId, response: Response<()>);

    /// A part of a response's content arrived.
    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes);

    /// The next filter ended its side of a stream. The last report about this stream.
    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended);

    /// A stream that had no room for more octets has some. [`Protocol::handle_native`] is called after
    /// that in any case.
    fn handle_writable(&mut self, _link: &mut Link, _stream: StreamId) {}

    /// Everything that happened was reported: the moment to say at once what there is to say about all of
    /// it. Returns whether there was something to do.
    fn settle(&mut self, _link: &mut Link) -> bool {
        false
    }

    /// The deadline set with [`Link::set_deadline`] passed; it is unset.
    fn handle_timeout(&mut self, link: &mut Link);

    /// The native connection is gone; nothing can be sent either way. The last call.
    fn handle_close(&mut self, by: Peer);
}

/// What a protocol can do: towards the next filter, towards the native peer, and with time.
pub struct Link {
    limits: Limits,
    surroundings: Box<dyn Surroundings>,
    /// Made when the first octet has to go to the next filter, because a connection that never
    /// says anything sensible should cost nothing.
    http: Option<Http>,
    lost: bool,
    replies: Replies,
    closing: bool,
    now: Duration,
    deadline: Option<Duration>,
    /// The streams opened during [`Link::capture`].
    opened: Option<Vec<StreamId>>,
}

/// The connection to the next filter.
#[derive(Debug)]
enum Http {
    /// For one request.
    One(Box<Http1>),
    Two(Box<Http2>),
}

impl Http {
    fn has_output(&self) -> bool {
        match self {
            Self::One(http) => http.has_output(),
            Self::Two(http) => http.has_output(),
        }
    }

    fn take_output(&mut self) -> Vec<u8> {
        match self {
            Self::One(http) => http.take_output(),
            Self::Two(http) => http.take_output(),
        }
    }

    fn send(&mut self, id: StreamId, wanted: usize, take: impl FnOnce(usize) -> Bytes) -> usize {
        match self {
            Self::One(http) => http.send(&take(wanted)),
            Self::Two(http) => http.send(id, wanted, take),
        }
    }

    fn finish(&mut self, id: StreamId) {
        match self {
            Self::One(http) => http.finish(),
            Self::Two(http) => http.finish(id),
        }
    }

    fn receive(&mut self, octets: Bytes) {
        match self {
            Self::One(http) => http.receive(octets),
            Self::Two(http) => http.receive(octets),
        }
    }

    fn poll(&mut self, events: &mut VecDeque<Event>) {
        match self {
            Self::One(http) => http.poll(events),
            Self::Two(http) => http.poll(events),
        }
    }

    /// Whether the next filter can be asked for octets.
    fn gives_turns(&self) -> bool {
        matches!(self, Self::Two(_))
    }
}

/// Octets for the native peer. A single piece, the usual case, is not copied.
#[derive(Debug, Default)]
struct Replies {
    first: Bytes,
    rest: Vec<u8>,
}

impl Replies {
    fn push(&mut self, octets: Bytes) {
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = octets;
        } else {
            self.rest.extend_from_slice(&octets);
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }
}

/// What a protocol said during [`Link::capture`].
#[derive(Debug, Default)]
pub struct Captured {
    /// What it replied, in two pieces so that the usual single one need not be copied.
    pub replied: (Bytes, Vec<u8>),
    /// Whether it closed the native connection.
    pub closed: bool,
    /// The streams it opened.
    pub opened: Vec<StreamId>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("http", &self.http)
            .field("closing", &self.closing)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// The connection with many streams, unless there is one for a single one.
    fn http2(&mut self) -> Result<&mut Http2, OpenError> {
        if self.lost {
            return Err(OpenError::Closed);
        }
        let http = match self.http.take() {
            Some(http) => http,
            None => Http::Two(Box::new(Http2::new(&self.limits)?)),
        };
        match self.http.insert(http) {
            Http::One(_) => Err(OpenError::TooManyStreams),
            Http::Two(http) => Ok(http),
        }
    }

    /// The time, on the clock that the bridge is driven with.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What is known about the native connection besides its octets.
    #[must_use]
    pub fn surroundings(&self) -> &dyn Surroundings {
        &*self.surroundings
    }

    /// Opens a stream with this request's header section; with `end_stream` there is no content.
    ///
    /// # Errors
    /// [`OpenError`] says whether trying again later can help.
    pub fn open(&mut self, request: Request<()>, end_stream: bool) -> Result<StreamId, OpenError> {
        let stream = self.http2()?.open(request, end_stream)?;
        self.note(stream);
        Ok(stream)
    }

    /// Opens the only stream that there will be, if there was none before, with HTTP/1.1: it costs less, but what is replied to the
    /// native peer is delivered no sooner than the next filter says something of itself, or not at all where [`Link::close`] comes
    /// before that. The next filter has to take HTTP/1.1 as well as HTTP/2.
    ///
    /// # Errors
    /// As for [`Link::open`].
    pub fn open_alone(&mut self, request: Request<()>) -> Result<StreamId, OpenError> {
        if self.http.is_some() || self.lost {
            return self.open(request, false);
        }
        let max_head = self.limits.max_header_list_size as usize;
        self.http = Some(Http::One(Box::new(Http1::new(&request, max_head)?)));
        self.note(StreamId::ONLY);
        Ok(StreamId::ONLY)
    }

    fn note(&mut self, stream: StreamId) {
        if let Some(opened) = &mut self.opened {
            opened.push(stream);
        }
    }

    /// Sends the first `n` octets of the input on a stream, as far as there is room, and consumes
    /// what was sent. Returns how many that were; if fewer than `n`, return [`Want::Room`].
    pub fn send(&mut self, stream: StreamId, input: &mut Input, n: usize) -> usize {
        let Some(http) = &mut self.http else { return 0 };
        let n = n.min(input.len());
        http.send(stream, n, |room| input.take(room))
    }

    /// Like [`Link::send`], for octets that are not at the front of the input.
    pub fn send_octets(&mut self, stream: StreamId, octets: &mut Bytes) -> usize {
        let Some(http) = &mut self.http else { return 0 };
        http.send(stream, octets.len(), |room| octets.split_to(room))
    }

    /// Whether to leave a stream's content where it is. The next filter then stops sending at
    /// [`Limits::stream_window`]; content that was on its way is still reported.
    pub fn hold(&mut self, stream: StreamId, held: bool) {
        // With HTTP/1.1 the native transport's own buffer limits have to do.
        if let Some(Http::Two(http)) = &mut self.http {
            http.hold(stream, held);
        }
    }

    /// Ends our side of a stream with END_STREAM, after all that was sent on it.
    pub fn finish(&mut self, stream: StreamId) {
        if let Some(http) = &mut self.http {
            http.finish(stream);
        }
    }

    /// Gives a stream up in both directions, with RST_STREAM; it is not reported any more. The next
    /// filter takes only so many resets, so they are for what cannot end otherwise; where there were
    /// too many lately, the stream is held and finished instead, and the next filter's own timeouts
    /// end it.
    pub fn reset(&mut self, stream: StreamId) {
        match &mut self.http {
            Some(Http::Two(http)) => http.reset(stream, self.now),
            Some(Http::One(http)) => http.give_up(),
            None => {}
        }
    }

    /// Has no more use for a stream: ends our side, or resets the stream where our side has ended and the
    /// next filter's has not.
    pub fn abandon(&mut self, stream: StreamId) {
        match &mut self.http {
            Some(Http::Two(http)) => http.abandon(stream, self.now),
            Some(Http::One(http)) => http.finish(),
            None => {}
        }
    }

    /// Sends octets to the native peer, in the order of the calls.
    pub fn reply(&mut self, octets: Bytes) {
        if !octets.is_empty() && !self.closing {
            self.replies.push(octets);
        }
    }

    /// Closes the native connection after everything replied so far was delivered. What the
    /// native peer sends from now on is ignored.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whether [`Link::close`] was called.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Calls a protocol that is carried inside this one. What it replies, and that it closes, has
    /// no effect: both are returned, for this one to say them in its own way.
    pub fn capture<T>(&mut self, call: impl FnOnce(&mut Self) -> T) -> (T, Captured) {
        let replies = std::mem::take(&mut self.replies);
        let closing = std::mem::replace(&mut self.closing, false);
        let opened = self.opened.replace(Vec::new());
        let result = call(self);
        let Replies { first, rest } = std::mem::replace(&mut self.replies, replies);
        let closed = std::mem::replace(&mut self.closing, closing);
        let mine = std::mem::replace(&mut self.opened, opened).unwrap_or_default();
        if let Some(opened) = &mut self.opened {
            opened.extend_from_slice(&mine);
        }
        (result, Captured { replied: (first, rest), closed, opened: mine })
    }

    /// When [`Protocol::handle_timeout`] is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Sets when [`Protocol::handle_timeout`] is to be called, or that it is not.
    pub fn set_deadline(&mut self, deadline: Option<Duration>) {
        self.deadline = deadline;
    }
}

/// What a bridge waits for after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextStep {
    /// [`Bridge::take_http`] has octets for the next filter.
    pub http_output: bool,
    /// [`Bridge::take_native`] has octets for the native peer.
    pub native_output: bool,
    /// Everything was said: close the native connection.
    pub close: bool,
    /// When to call [`Bridge::handle_timeout`].
    pub deadline: Option<Duration>,
}

/// One native connection on its way to the next filter. The crate's documentation gives the order
/// of calls.
#[derive(Debug)]
pub struct Bridge<P> {
    protocol: P,
    link: Link,
    input: Input,
    want: Want,
    native_end: NativeEnd,
    events: VecDeque<Event>,
}

/// Whether the native peer may send more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NativeEnd {
    Open,
    /// It will not, but the protocol has not consumed all of it.
    Ended,
    /// The protocol knows.
    Told,
}

impl<P: Protocol> Bridge<P> {
    /// A bridge for a connection that was just accepted.
    #[must_use]
    pub fn new(
        limits: Limits,
        surroundings: Box<dyn Surroundings>,
        now: Duration,
        start: impl FnOnce(&mut Link) -> P,
    ) -> Self {
        let mut link = Link {
            limits,
            surroundings,
            http: None,
            lost: false,
            replies: Replies::default(),
            closing: false,
            now,
            deadline: None,
            opened: None,
        };
        let protocol = start(&mut link);
        Self {
            protocol,
            link,
            input: Input::default(),
            want: Want::More,
            native_end: NativeEnd::Open,
            events: VecDeque::new(),
        }
    }

    /// Whether more native octets are welcome. While they are not, they are to be left in the
    /// native transport, which then slows its peer down.
    #[must_use]
    pub fn accepts_native(&self) -> bool {
        self.want == Want::More || self.link.closing
    }

    /// Octets arrived from the native peer.
    pub fn handle_native(&mut self, now: Duration, octets: Bytes) {
        self.link.now = now;
        self.input.push(octets);
        self.offer();
        self.poll();
    }

    /// The native peer will send no more.
    pub fn handle_native_end(&mut self, now: Duration) {
        self.link.now = now;
        self.native_end = NativeEnd::Ended;
        self.offer();
        self.poll();
    }

    /// Octets arrived from the next filter.
    pub fn handle_http(&mut self, now: Duration, octets: Bytes) {
        self.link.now = now;
        if let Some(http) = &mut self.link.http {
            http.receive(octets);
            self.poll();
        }
    }

    /// Time passed: calls the protocol if its deadline did.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.link.now = now;
        if self.link.deadline.is_some_and(|deadline| deadline <= now) {
            self.link.deadline = None;
            self.protocol.handle_timeout(&mut self.link);
            if self.want == Want::Room {
                self.offer();
            }
            self.poll();
        }
    }

    /// Asks the next filter for octets, whose arrival is a moment at which the surroundings can
    /// write to the native peer. For surroundings that cannot do that at any time.
    pub fn request_turn(&mut self) {
        if let Ok(http) = self.link.http2() {
            http.ping();
            self.poll();
        }
    }

    /// The native connection is gone.
    pub fn handle_close(&mut self, by: Peer) {
        self.protocol.handle_close(by);
    }

    /// Takes the octets for the next filter.
    #[must_use]
    pub fn take_http(&mut self) -> Vec<u8> {
        self.link.http.as_mut().map(Http::take_output).unwrap_or_default()
    }

    /// Takes the octets for the native peer, in two pieces so that the usual single one need not
    /// be copied.
    #[must_use]
    pub fn take_native(&mut self) -> (Bytes, Vec<u8>) {
        let Replies { first, rest } = std::mem::take(&mut self.link.replies);
        (first, rest)
    }

    /// What the bridge waits for.
    #[must_use]
    pub fn next_step(&self) -> NextStep {
        let native_output = !self.link.replies.is_empty();
        let http = self.link.http.as_ref();
        // When the next filter is lost, nothing is left to give a turn to write.
        let gives_turns = !self.link.lost && http.is_none_or(Http::gives_turns);
        NextStep {
            http_output: http.is_some_and(Http::has_output),
            native_output,
            close: self.link.closing && (!native_output || !gives_turns),
            deadline: self.link.deadline,
        }
    }

    /// The protocol, to look at.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    fn offer(&mut self) {
        if self.link.closing {
            self.input.clear();
            return;
        }
        self.want = self.protocol.handle_native(&mut self.link, &mut self.input);
        if self.want == Want::More && self.native_end == NativeEnd::Ended && !self.link.closing {
            self.native_end = NativeEnd::Told;
            self.protocol.handle_native_end(&mut self.link);
        }
    }

    fn poll(&mut self) {
        loop {
            if let Some(http) = &mut self.link.http {
                http.poll(&mut self.events);
            }
            if self.events.is_empty() {
                if self.protocol.settle(&mut self.link) {
                    continue;
                }
                return;
            }
            while let Some(event) = self.events.pop_front() {
                let (protocol, link) = (&mut self.protocol, &mut self.link);
                match event {
                    Event::Response(id, response) => protocol.handle_response(link, id, response),
                    Event::Body(id, body) => protocol.handle_body(link, id, body),
                    Event::Ended(id, how) => protocol.handle_ended(link, id, how),
                    // Whatever it wanted, there may be something to send that is not input.
                    Event::Writable(id) => {
                        protocol.handle_writable(link, id);
                        self.want = Want::Room;
                    }
                    Event::Lost => {
                        link.lost = true;
                        link.http = None;
                        link.close();
                    }
                }
            }
            if self.want == Want::Room {
                self.offer();
            }
        }
    }
}
