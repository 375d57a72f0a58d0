//! An HTTP/2 server whose octets come and go by hand: for protocols whose native peer speaks HTTP/2.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};

use crate::http2::{Ended, code};
use crate::pipe::Pipe;
use crate::woken::{Woken, waker};

/// A request that the native peer made on one connection (RFC 9113 §5.1.1). Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u32);

/// How much the native peer may send before it must wait, and other bounds.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Octets that may come on one stream and have not been read (RFC 9113 §5.2).
    pub stream_window: u32,
    /// Octets that may come on all streams together and have not been read.
    pub connection_window: u32,
    /// The largest request header section accepted, in octets as RFC 9113 §6.5.2 counts them.
    pub max_header_list_size: u32,
    /// Requests that may be open at once.
    pub max_streams: u32,
}

/// What the native peer did.
#[derive(Debug)]
pub enum Received {
    /// A request's header section. With `h2::ext::Protocol` among its extensions it is an extended
    /// CONNECT (RFC 8441 §4).
    Request(RequestId, Request<()>),
    /// A part of a request's content.
    Body(RequestId, Bytes),
    /// The peer ended its side of a stream. After [`Ended::Reset`] nothing can be sent either, and it is
    /// the last report; it may come after [`Ended::Complete`], until our side has ended as well.
    Ended(RequestId, Ended),
    /// A stream that had no room for more octets has some.
    Writable(RequestId),
    /// The connection cannot go on; all open streams were reported as reset.
    Lost,
}

enum State {
    Handshake(Handshake<Pipe, Bytes>),
    Open(Connection<Pipe, Bytes>),
    Lost,
}

struct Stream {
    respond: SendResponse<Bytes>,
    sending: Option<SendStream<Bytes>>,
    /// Unset once the peer has ended its side.
    receiving: Option<RecvStream>,
    /// Our side has sent END_STREAM.
    finished: bool,
    waits_for_room: bool,
    held: bool,
    waker: Waker,
}

/// The server's end of one connection.
///
/// [`receive`](Self::receive) octets, [`poll`](Self::poll) for what they mean, answer, `poll` again, and
/// [`take_output`](Self::take_output).
pub struct Server {
    pipe: Pipe,
    state: State,
    streams: BTreeMap<u32, Stream>,
    woken: Arc<Woken>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

impl Server {
    /// A server for a connection that was just accepted.
    #[must_use]
    pub fn new(limits: &ServerLimits) -> Self {
        Self::with(limits, |builder| builder.enable_connect_protocol())
    }

    /// The same without extended CONNECT: its SETTINGS do not offer it (RFC 8441 §3), and who asks for it
    /// is answered with RST_STREAM.
    #[must_use]
    pub fn without_extended_connect(limits: &ServerLimits) -> Self {
        Self::with(limits, |builder| builder)
    }

    fn with(limits: &ServerLimits, configure: impl FnOnce(&mut Builder) -> &mut Builder) -> Self {
        let pipe = Pipe::default();
        let mut builder = Builder::new();
        builder
            .initial_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_header_list_size(limits.max_header_list_size)
            .max_concurrent_streams(limits.max_streams)
            .max_send_buffer_size(1 << 20)
            // Guards against a hostile client; this one is Envoy, which resets a stream for each of its
            // clients that goes away.
            .max_pending_accept_reset_streams(usize::MAX >> 1)
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(0)
            .data_frame_budget(usize::MAX >> 1);
        configure(&mut builder);
        let state = State::Handshake(builder.handshake(pipe.clone()));
        Self { pipe, state, streams: BTreeMap::new(), woken: Arc::default() }
    }

    /// Whether [`take_output`](Self::take_output) has octets for the native peer.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.pipe.has_output()
    }

    /// Takes the octets for the native peer.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        self.pipe.take()
    }

    /// Offers octets from the native peer. [`poll`](Self::poll) before the next ones.
    pub fn receive(&mut self, octets: Bytes) {
        if !matches!(self.state, State::Lost) {
            self.pipe.offer(octets);
        }
    }

    /// How many requests are open.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.streams.len()
    }

    /// Answers a request with this header section; with `end_stream` there is no content.
    pub fn respond(&mut self, id: RequestId, response: Response<()>, end_stream: bool) {
        if let Some(stream) = self.streams.get_mut(&id.0)
            && stream.sending.is_none()
        {
            match stream.respond.send_response(response, end_stream) {
                Ok(sending) => {
                    stream.sending = Some(sending);
                    stream.finished = end_stream;
                }
                // The peer has reset the stream, which polling it reports; or it is no response that
                // HTTP/2 can carry.
                Err(_) => stream.respond.send_reset(Reason::INTERNAL_ERROR),
            }
            self.woken.push(id.0);
        }
    }

    /// How many octets there is room for on a stream now, at most as many as are wanted. If fewer,
    /// [`Received::Writable`] follows when there is more.
    pub fn room(&mut self, id: RequestId, wanted: usize) -> usize {
        let Some(stream) = self.streams.get_mut(&id.0) else { return 0 };
        let Some(sending) = stream.sending.as_mut().filter(|_| !stream.finished) else { return 0 };
        sending.reserve_capacity(wanted);
        if sending.capacity() < wanted
            && let State::Open(connection) = &mut self.state
        {
            // Room freed by octets that were sent before appears when the connection is polled.
            let _ = connection.poll_closed(&mut Context::from_waker(Waker::noop()));
        }
        let room = sending.capacity().min(wanted);
        stream.waits_for_room = room < wanted;
        if stream.waits_for_room {
            self.woken.push(id.0);
        }
        room
    }

    /// Sends octets for which there is [`room`](Self::room).
    pub fn send(&mut self, id: RequestId, octets: Bytes) {
        if let Some(stream) = self.streams.get_mut(&id.0)
            && let Some(sending) = &mut stream.sending
            && !stream.finished
        {
            // An error means that the peer reset the stream, which polling it reports.
            let _ = sending.send_data(octets, false);
        }
    }

    /// Ends our side of a stream with END_STREAM, after all that was sent on it.
    pub fn finish(&mut self, id: RequestId) {
        self.finish_with(id, Bytes::new());
    }

    /// Sends the last octets of a stream, for which there is [`room`](Self::room), and ends our side with
    /// them: one frame where [`send`](Self::send) and [`finish`](Self::finish) make two.
    pub fn finish_with(&mut self, id: RequestId, octets: Bytes) {
        if let Some(stream) = self.streams.get_mut(&id.0)
            && let Some(sending) = &mut stream.sending
            && !std::mem::replace(&mut stream.finished, true)
        {
            // As in `send`.
            let _ = sending.send_data(octets, true);
            self.woken.push(id.0);
        }
    }

    /// Gives a stream up in both directions; it is not reported any more. Where our side was ended,
    /// what was sent still arrives, and a peer that has not ended its side is told to stop without that
    /// being an error (RFC 9113 §8.1).
    pub fn reset(&mut self, id: RequestId) {
        if self.streams.get(&id.0).is_some_and(|stream| stream.finished) {
            // Without its handles, a stream is reset after what waits to be written.
            self.streams.remove(&id.0);
        } else {
            self.abort(id, Reason::NO_ERROR.into());
        }
    }

    /// Cuts a stream off with RST_STREAM and this error code (RFC 9113 §7), so that the peer knows that
    /// the response is not complete; it is not reported any more. What was sent and waits to be written
    /// is lost.
    pub fn abort(&mut self, id: RequestId, code: u32) {
        if let Some(mut stream) = self.streams.remove(&id.0) {
            match &mut stream.sending {
                Some(sending) => sending.send_reset(code.into()),
                None => stream.respond.send_reset(code.into()),
            }
        }
    }

    /// Leaves a stream's content unread, or reads it again. The peer then stops sending at
    /// [`ServerLimits::stream_window`]; content that was on its way is still reported.
    pub fn hold(&mut self, id: RequestId, held: bool) {
        if let Some(stream) = self.streams.get_mut(&id.0)
            && std::mem::replace(&mut stream.held, held)
            && !held
        {
            self.woken.push(id.0);
        }
    }

    /// The native peer is gone: reports all open requests as reset, and [`Received::Lost`].
    pub fn close(&mut self, events: &mut VecDeque<Received>) {
        if !matches!(std::mem::replace(&mut self.state, State::Lost), State::Lost) {
            for id in std::mem::take(&mut self.streams).into_keys() {
                let code = Reason::CANCEL.into();
                events.push_back(Received::Ended(RequestId(id), Ended::Reset(code)));
            }
            events.push_back(Received::Lost);
        }
    }

    /// Moves everything that can move and reports what happened.
    pub fn poll(&mut self, events: &mut VecDeque<Received>) {
        // What is left unread after the connection was lost stays so.
        while !matches!(self.state, State::Lost) {
            let before = self.pipe.output_len();
            let (accepted, lost) = self.accept(events);
            if lost {
                return self.close(events);
            }
            let woken = self.woken.take();
            let quiet = woken.is_empty() && !accepted;
            for id in woken {
                self.poll_stream(id, events);
            }
            // Reading a stream can free window that the connection wants to announce.
            if quiet && self.pipe.is_read() && self.pipe.output_len() == before {
                return;
            }
        }
    }

    /// Drives the connection. Returns whether there was a new request, and whether it has ended.
    fn accept(&mut self, events: &mut VecDeque<Received>) -> (bool, bool) {
        let cx = &mut Context::from_waker(Waker::noop());
        if let State::Handshake(handshake) = &mut self.state {
            match Pin::new(handshake).poll(cx) {
                Poll::Pending => return (false, false),
                Poll::Ready(Ok(connection)) => self.state = State::Open(connection),
                Poll::Ready(Err(_)) => return (false, true),
            }
        }
        let State::Open(connection) = &mut self.state else { return (false, false) };
        let mut accepted = false;
        loop {
            match connection.poll_accept(cx) {
                Poll::Pending => return (accepted, false),
                Poll::Ready(Some(Ok((request, respond)))) => {
                    accepted = true;
                    let id = respond.stream_id().as_u32();
                    let waker = waker(id, &self.woken);
                    let (parts, body) = request.into_parts();
                    let stream = Stream {
                        respond,
                        sending: None,
                        receiving: Some(body),
                        finished: false,
                        waits_for_room: false,
                        held: false,
                        waker,
                    };
                    self.streams.insert(id, stream);
                    self.woken.push(id);
                    let request = Request::from_parts(parts, ());
                    events.push_back(Received::Request(RequestId(id), request));
                }
                Poll::Ready(Some(Err(_)) | None) => return (accepted, true),
            }
        }
    }

    fn poll_stream(&mut self, id: u32, events: &mut VecDeque<Received>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let waker = stream.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        while let Some(body) = &mut stream.receiving
            && !stream.held
        {
            match body.poll_data(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(octets))) => {
                    let _ = body.flow_control().release_capacity(octets.len());
                    if !octets.is_empty() {
                        events.push_back(Received::Body(RequestId(id), octets));
                    }
                }
                // Reported below.
                Poll::Ready(Some(Err(_))) => stream.receiving = None,
                Poll::Ready(None) => {
                    stream.receiving = None;
                    events.push_back(Received::Ended(RequestId(id), Ended::Complete));
                }
            }
        }
        let reset = match &mut stream.sending {
            Some(sending) => sending.poll_reset(cx),
            None => stream.respond.poll_reset(cx),
        };
        let gone = match reset {
            Poll::Pending => None,
            Poll::Ready(Ok(reason)) => Some(reason.into()),
            Poll::Ready(Err(error)) => Some(code(&error)),
        };
        if let Some(code) = gone {
            self.streams.remove(&id);
            events.push_back(Received::Ended(RequestId(id), Ended::Reset(code)));
            return;
        }
        if stream.waits_for_room
            && let Some(sending) = &mut stream.sending
            && let Poll::Ready(Some(Ok(1..))) = sending.poll_capacity(cx)
        {
            stream.waits_for_room = false;
            events.push_back(Received::Writable(RequestId(id)));
        }
        if stream.finished && stream.receiving.is_none() {
            self.streams.remove(&id);
        }
    }
}
