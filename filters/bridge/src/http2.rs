//! The HTTP/2 client towards the next filter: the `h2` crate, driven by hand.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::{Request, Response};

use crate::pipe::Pipe;
use crate::woken::{Woken, waker};

/// An HTTP/2 stream of one bridge (RFC 9113 §5.1.1), or its only exchange in HTTP/1.1. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// That of a connection with no other.
    pub(crate) const ONLY: Self = Self(1);
}

/// How much the next filter may send before it must wait, and other bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Octets the next filter may send on one stream ahead of the native peer (RFC 9113 §5.2).
    pub stream_window: u32,
    /// The same for all streams together.
    pub connection_window: u32,
    /// The largest response header section accepted, in octets as RFC 9113 §6.5.2 counts them.
    pub max_header_list_size: u32,
    /// Streams that may be open at once. The next filter's own limit applies as well.
    pub max_streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stream_window: 1 << 20,
            connection_window: 4 << 20,
            max_header_list_size: 64 << 10,
            max_streams: 1000,
        }
    }
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// [`Limits::max_streams`], or the next filter's own limit, is reached; try again when a
    /// stream ended.
    TooManyStreams,
    /// The next filter accepts no more streams, or the connection to it failed.
    Closed,
    /// The request is not one that HTTP/2 can carry.
    InvalidRequest,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManyStreams => "too many streams are open",
            Self::Closed => "the next filter accepts no more streams",
            Self::InvalidRequest => "the request cannot be carried by HTTP/2",
        })
    }
}

impl std::error::Error for OpenError {}

/// How the next filter ended its side of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With END_STREAM: the response is complete.
    Complete,
    /// With RST_STREAM, or because the connection failed: the response is cut off. Carries the
    /// HTTP/2 error code (RFC 9113 §7).
    Reset(u32),
}

/// What happened on the next filter's side.
#[derive(Debug)]
pub(crate) enum Event {
    Response(StreamId, Response<()>),
    Body(StreamId, Bytes),
    Ended(StreamId, Ended),
    /// A stream that had no room for more octets has some.
    Writable(StreamId),
    /// The connection to the next filter is gone; all streams have been reported as ended.
    Lost,
}

#[derive(Debug)]
enum Receiving {
    /// Waits for the response's header section.
    Head(ResponseFuture),
    Body(RecvStream),
    /// The next filter has ended its side.
    Done,
}

#[derive(Debug)]
struct Stream {
    sending: SendStream<Bytes>,
    receiving: Receiving,
    /// Our side has sent END_STREAM.
    finished: bool,
    /// The next filter has reset the stream: there will never be room again.
    dead: bool,
    waits_for_room: bool,
    /// The content stays unread.
    held: bool,
    waker: Waker,
}

pub(crate) struct Http2 {
    pipe: Pipe,
    connection: Option<Connection<Pipe, Bytes>>,
    requests: SendRequest<Bytes>,
    pings: Option<PingPong>,
    ping_pending: bool,
    streams: BTreeMap<u32, Stream>,
    woken: Arc<Woken>,
    max_streams: usize,
    resets: Resets,
}

/// How many streams may be reset. An HTTP connection manager with nghttp2 takes 1,000 at once and 33
/// each second, and gives the connection up after that.
#[derive(Debug)]
struct Resets {
    left: u32,
    refilled: Duration,
}

impl Resets {
    const MOST: u32 = 500;
    const PER_SECOND: u64 = 16;

    fn take(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.refilled).as_secs() * Self::PER_SECOND;
        if earned > 0 {
            self.left = u32::try_from(earned).unwrap_or(Self::MOST).saturating_add(self.left);
            self.left = self.left.min(Self::MOST);
            self.refilled = now;
        }
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl Http2 {
    /// Starts a connection: the client preface and SETTINGS are ready to be taken.
    pub(crate) fn new(limits: &Limits) -> Result<Self, OpenError> {
        let pipe = Pipe::default();
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_header_list_size(limits.max_header_list_size)
            // The next filter's responses are few and short: no table to remember them in.
            .header_table_size(0)
            .initial_max_send_streams(limits.max_streams)
            .max_send_buffer_size(1 << 20)
            // Guards against a hostile server; the next filter is our own process, and small DATA
            // frames are what small messages look like.
            .data_frame_budget(usize::MAX >> 1);
        let handshake = pin!(builder.handshake(pipe.clone()));
        // The pipe takes every octet at once, so there is nothing to wait for.
        let Poll::Ready(Ok((requests, mut connection))) =
            handshake.poll(&mut Context::from_waker(Waker::noop()))
        else {
            return Err(OpenError::Closed);
        };
        let pings = connection.ping_pong();
        Ok(Self {
            pipe,
            connection: Some(connection),
            requests,
            pings,
            ping_pending: false,
            streams: BTreeMap::new(),
            woken: Arc::default(),
            max_streams: limits.max_streams,
            resets: Resets { left: Resets::MOST, refilled: Duration::ZERO },
        })
    }

    pub(crate) fn has_output(&self) -> bool {
        self.pipe.has_output()
    }

    pub(crate) fn take_output(&self) -> Vec<u8> {
        self.pipe.take()
    }

    pub(crate) fn open(
        &mut self,
        request: Request<()>,
        end_stream: bool,
    ) -> Result<StreamId, OpenError> {
        if self.connection.is_none() {
            return Err(OpenError::Closed);
        }
        if self.streams.len() >= self.max_streams.min(self.requests.current_max_send_streams()) {
            return Err(OpenError::TooManyStreams);
        }
        match self.requests.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Err(OpenError::Closed),
            Poll::Pending => return Err(OpenError::TooManyStreams),
        }
        let (response, sending) = self.requests.send_request(request, end_stream).map_err(|e| {
            if e.is_go_away() { OpenError::Closed } else { OpenError::InvalidRequest }
        })?;
        let id = response.stream_id().as_u32();
        let waker = waker(id, &self.woken);
        let receiving = Receiving::Head(response);
        let stream = Stream {
            sending,
            receiving,
            finished: end_stream,
            dead: false,
            waits_for_room: false,
            held: false,
            waker,
        };
        self.streams.insert(id, stream);
        self.woken.push(id);
        Ok(StreamId(id))
    }

    /// Sends as many of `wanted` octets as the stream has room for now, taken with `take`.
    /// Returns how many.
    pub(crate) fn send(
        &mut self,
        id: StreamId,
        wanted: usize,
        take: impl FnOnce(usize) -> Bytes,
    ) -> usize {
        let Some(stream) = self.streams.get_mut(&id.0) else { return 0 };
        if stream.finished || stream.dead || wanted == 0 {
            return 0;
        }
        stream.sending.reserve_capacity(wanted);
        if stream.sending.capacity() < wanted {
            // Room freed by octets that were sent before appears when the connection is polled.
            Self::drive(&mut self.connection);
        }
        let Some(stream) = self.streams.get_mut(&id.0) else { return 0 };
        let n = stream.sending.capacity().min(wanted);
        stream.waits_for_room = n < wanted;
        if stream.waits_for_room {
            self.woken.push(id.0);
        }
        if n == 0 {
            return 0;
        }
        // An error means that the next filter reset the stream, which polling it reports.
        let _ = stream.sending.send_data(take(n), false);
        n
    }

    /// Ends our side of a stream with END_STREAM.
    pub(crate) fn finish(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id.0)
            && !std::mem::replace(&mut stream.finished, true)
        {
            stream.waits_for_room = false;
            // As in `send`.
            let _ = stream.sending.send_data(Bytes::new(), true);
            self.woken.push(id.0);
            // At once, because nothing more is reported about it that could make somebody try again.
            if matches!(stream.receiving, Receiving::Done) {
                self.streams.remove(&id.0);
            }
        }
    }

    /// Resets a stream, or lets it starve.
    pub(crate) fn reset(&mut self, id: StreamId, now: Duration) {
        if self.resets.take(now) {
            if let Some(mut stream) = self.streams.remove(&id.0) {
                stream.sending.send_reset(Reason::CANCEL);
            }
        } else {
            self.finish(id);
            self.hold(id, true);
        }
    }

    /// Ends our side of a stream, or resets it where that was done before.
    pub(crate) fn abandon(&mut self, id: StreamId, now: Duration) {
        if self.streams.get(&id.0).is_some_and(|stream| stream.finished) {
            self.reset(id, now);
        } else {
            self.finish(id);
        }
    }

    /// Leaves a stream's content unread, or reads it again.
    pub(crate) fn hold(&mut self, id: StreamId, held: bool) {
        if let Some(stream) = self.streams.get_mut(&id.0)
            && std::mem::replace(&mut stream.held, held)
            && !held
        {
            self.woken.push(id.0);
        }
    }

    /// Asks the next filter to say something: its answer is a moment at which the surroundings
    /// can write to the native peer.
    pub(crate) fn ping(&mut self) {
        if let Some(pings) = &mut self.pings
            && !self.ping_pending
        {
            self.ping_pending = pings.send_ping(Ping::opaque()).is_ok();
        }
    }

    /// Offers octets from the next filter.
    pub(crate) fn receive(&mut self, octets: Bytes) {
        if self.connection.is_some() {
            self.pipe.offer(octets);
        }
    }

    fn drive(connection: &mut Option<Connection<Pipe, Bytes>>) -> Option<Result<(), h2::Error>> {
        match Pin::new(connection.as_mut()?).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Moves everything that can move and reports what happened.
    pub(crate) fn poll(&mut self, events: &mut VecDeque<Event>) {
        loop {
            if self.connection.is_none() {
                return;
            }
            let before = self.pipe.output_len();
            let ended = Self::drive(&mut self.connection);
            if let Some(pings) = &mut self.pings
                && self.ping_pending
                && pings.poll_pong(&mut Context::from_waker(Waker::noop())).is_ready()
            {
                self.ping_pending = false;
            }
            let woken = self.woken.take();
            let quiet = woken.is_empty();
            for id in woken {
                self.poll_stream(id, events);
            }
            if ended.is_some() {
                self.lose(events);
                return;
            }
            // Reading a stream can free window that the connection wants to announce, so only two
            // quiet rounds in a row mean that nothing is left to do.
            if quiet && self.pipe.is_read() && self.pipe.output_len() == before {
                return;
            }
        }
    }

    fn poll_stream(&mut self, id: u32, events: &mut VecDeque<Event>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let waker = stream.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        if let Receiving::Head(response) = &mut stream.receiving {
            match Pin::new(response).poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(response)) => {
                    let (parts, body) = response.into_parts();
                    stream.receiving = Receiving::Body(body);
                    events
                        .push_back(Event::Response(StreamId(id), Response::from_parts(parts, ())));
                }
                Poll::Ready(Err(error)) => {
                    stream.receiving = Receiving::Done;
                    events.push_back(Event::Ended(StreamId(id), Ended::Reset(code(&error))));
                }
            }
        }
        while let Receiving::Body(body) = &mut stream.receiving
            && !stream.held
        {
            match body.poll_data(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(octets))) => {
                    // Handed on at once; from there on the native transport's own buffer limits
                    // hold the next filter back.
                    let _ = body.flow_control().release_capacity(octets.len());
                    if !octets.is_empty() {
                        events.push_back(Event::Body(StreamId(id), octets));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    stream.receiving = Receiving::Done;
                    events.push_back(Event::Ended(StreamId(id), Ended::Reset(code(&error))));
                }
                Poll::Ready(None) => {
                    stream.receiving = Receiving::Done;
                    events.push_back(Event::Ended(StreamId(id), Ended::Complete));
                }
            }
        }
        if stream.waits_for_room {
            match stream.sending.poll_capacity(cx) {
                Poll::Pending | Poll::Ready(Some(Ok(0))) => {}
                Poll::Ready(Some(Ok(_))) => {
                    stream.waits_for_room = false;
                    events.push_back(Event::Writable(StreamId(id)));
                }
                // The receiving side reports why.
                Poll::Ready(Some(Err(_)) | None) => {
                    stream.waits_for_room = false;
                    stream.dead = true;
                }
            }
        }
        if stream.finished && matches!(stream.receiving, Receiving::Done) {
            self.streams.remove(&id);
        }
    }

    fn lose(&mut self, events: &mut VecDeque<Event>) {
        self.connection = None;
        self.pings = None;
        for (id, stream) in std::mem::take(&mut self.streams) {
            if !matches!(stream.receiving, Receiving::Done) {
                let code = Reason::CANCEL.into();
                events.push_back(Event::Ended(StreamId(id), Ended::Reset(code)));
            }
        }
        events.push_back(Event::Lost);
    }
}

pub(crate) fn code(error: &h2::Error) -> u32 {
    error.reason().unwrap_or(Reason::INTERNAL_ERROR).into()
}
