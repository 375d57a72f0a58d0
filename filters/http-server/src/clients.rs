//! The requests that are open, and what is sent in answer to them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bridge::{Bytes, Request, Response};
use bytes::BytesMut;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use crate::Limits;

/// One request of the connection. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u32);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a service has to know.
#[derive(Debug)]
pub(crate) enum Event {
    Complete(RequestId, Box<Request<Bytes>>),
    Gone(RequestId),
}

/// The clients whose requests are open, to answer them.
pub struct Clients {
    exchanges: BTreeMap<u32, Exchange>,
    events: VecDeque<Event>,
    woken: Arc<Woken>,
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
    incoming: Incoming,
    respond: SendResponse<Bytes>,
    outgoing: Outgoing,
    waker: Waker,
}

enum Incoming {
    Content(Box<http::request::Parts>, RecvStream, BytesMut),
    /// The service has the request.
    Complete,
    /// The rest of the request does not matter.
    Refused,
}

enum Outgoing {
    /// The header section was not sent.
    Nothing,
    Content {
        stream: SendStream<Bytes>,
        queue: VecDeque<Bytes>,
        held: usize,
        finished: bool,
    },
    /// Everything was sent.
    Done,
}

/// Streams whose state may have changed, filled by the wakers that `h2` calls.
#[derive(Debug, Default)]
struct Woken(Mutex<Vec<u32>>);

impl Woken {
    fn push(&self, id: u32) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.last() != Some(&id) {
            ids.push(id);
        }
    }

    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct StreamWaker {
    id: u32,
    woken: Arc<Woken>,
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.woken.push(self.id);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.push(self.id);
    }
}

impl Clients {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            exchanges: BTreeMap::new(),
            events: VecDeque::new(),
            woken: Arc::default(),
            max_content: limits.max_content,
            max_held: limits.max_held,
            held: 0,
        }
    }

    /// Answers a request with this header section; with `end` there is no content. Only the first
    /// answer counts.
    pub fn respond(&mut self, id: RequestId, response: Response<()>, end: bool) {
        let Some(exchange) = self.exchanges.get_mut(&id.0) else { return };
        if !matches!(exchange.outgoing, Outgoing::Nothing) {
            return;
        }
        // An error means that the client has reset the stream, which polling it reports.
        if let Ok(stream) = exchange.respond.send_response(response, end) {
            exchange.outgoing = if end {
                Outgoing::Done
            } else {
                Outgoing::Content { stream, queue: VecDeque::new(), held: 0, finished: false }
            };
        }
        self.woken.push(id.0);
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
        if let Some(Exchange {
            outgoing: Outgoing::Content { queue, held, finished: false, .. },
            ..
        }) = self.exchanges.get_mut(&id.0)
            && !content.is_empty()
        {
            *held += content.len();
            queue.push_back(content);
            self.woken.push(id.0);
        }
    }

    /// Ends the answer after the content that was sent.
    pub fn finish(&mut self, id: RequestId) {
        if let Some(Exchange { outgoing: Outgoing::Content { finished, .. }, .. }) =
            self.exchanges.get_mut(&id.0)
        {
            *finished = true;
            self.woken.push(id.0);
        }
    }

    /// Cuts the answer off with RST_STREAM, so that the client knows that it is not complete (RFC
    /// 9113 §8.1).
    pub fn abort(&mut self, id: RequestId) {
        if let Some(mut exchange) = self.exchanges.remove(&id.0) {
            self.held -= exchange.incoming.held();
            match &mut exchange.outgoing {
                Outgoing::Content { stream, .. } => stream.send_reset(h2::Reason::INTERNAL_ERROR),
                _ => exchange.respond.send_reset(h2::Reason::INTERNAL_ERROR),
            }
            // Something was done that the connection has to write.
            self.woken.push(id.0);
        }
    }

    /// How many octets of content wait for the client to have room for them.
    #[must_use]
    pub fn held(&self, id: RequestId) -> usize {
        match self.exchanges.get(&id.0).map(|exchange| &exchange.outgoing) {
            Some(Outgoing::Content { held, .. }) => *held,
            _ => 0,
        }
    }

    pub(crate) fn add(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let id = respond.stream_id().as_u32();
        let (head, content) = request.into_parts();
        let waker = Waker::from(Arc::new(StreamWaker { id, woken: Arc::clone(&self.woken) }));
        let incoming = Incoming::Content(Box::new(head), content, BytesMut::new());
        let exchange = Exchange { incoming, respond, outgoing: Outgoing::Nothing, waker };
        self.exchanges.insert(id, exchange);
        self.woken.push(id);
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Looks at every stream that something happened to. Returns whether there was none.
    pub(crate) fn poll(&mut self) -> bool {
        let woken = self.woken.take();
        let quiet = woken.is_empty();
        for id in woken {
            self.poll_exchange(id);
        }
        quiet
    }

    /// Forgets all requests, and says which of them the service knows.
    pub(crate) fn remove_all(&mut self) -> Vec<RequestId> {
        self.held = 0;
        self.events.clear();
        std::mem::take(&mut self.exchanges)
            .into_iter()
            .filter(|(_, exchange)| matches!(exchange.incoming, Incoming::Complete))
            .map(|(id, _)| RequestId(id))
            .collect()
    }

    fn poll_exchange(&mut self, id: u32) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let waker = exchange.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        let before = exchange.incoming.held();
        let others = self.held - before;
        let read =
            exchange.incoming.poll(cx, self.max_content, self.max_held.saturating_sub(others));
        self.held = others + exchange.incoming.held();
        match read {
            Read::Waits => {}
            Read::Request(request) => {
                self.events.push_back(Event::Complete(RequestId(id), request));
            }
            Read::Gone => {
                self.held = others;
                self.exchanges.remove(&id);
                return;
            }
            Read::Refused(status) => {
                let mut response = Response::new(());
                *response.status_mut() = status;
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1));
                }
                self.respond_with(RequestId(id), response, Bytes::new());
            }
        }
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        match exchange.poll_outgoing(cx) {
            Write::Waits => {}
            Write::Done => {
                // If the request is not complete, this tells the client not to go on (RFC 9113
                // §8.1).
                self.exchanges.remove(&id);
            }
            Write::Gone => {
                if matches!(exchange.incoming, Incoming::Complete) {
                    self.events.push_back(Event::Gone(RequestId(id)));
                }
                self.exchanges.remove(&id);
            }
        }
    }
}

enum Read {
    Waits,
    Request(Box<Request<Bytes>>),
    Refused(StatusCode),
    Gone,
}

impl Incoming {
    fn held(&self) -> usize {
        match self {
            Self::Content(_, _, content) => content.len(),
            Self::Complete | Self::Refused => 0,
        }
    }

    /// Reads as much of the request as has come.
    fn poll(&mut self, cx: &mut Context<'_>, max: usize, max_held: usize) -> Read {
        let Self::Content(head, stream, content) = self else { return Read::Waits };
        if stated_length(&head.headers).is_some_and(|len| len > max) {
            *self = Self::Refused;
            return Read::Refused(StatusCode::PAYLOAD_TOO_LARGE);
        }
        loop {
            match stream.poll_data(cx) {
                Poll::Pending => return Read::Waits,
                Poll::Ready(Some(Ok(octets))) => {
                    // What is held is bounded here, for each request and for all of them.
                    let _ = stream.flow_control().release_capacity(octets.len());
                    let len = content.len() + octets.len();
                    if len > max || len > max_held {
                        *self = Self::Refused;
                        return Read::Refused(if len > max {
                            StatusCode::PAYLOAD_TOO_LARGE
                        } else {
                            StatusCode::SERVICE_UNAVAILABLE
                        });
                    }
                    content.extend_from_slice(&octets);
                }
                Poll::Ready(Some(Err(_))) => return Read::Gone,
                Poll::Ready(None) => break,
            }
        }
        let Self::Content(head, _, content) = std::mem::replace(self, Self::Complete) else {
            return Read::Waits;
        };
        Read::Request(Box::new(Request::from_parts(*head, content.freeze())))
    }
}

fn stated_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

enum Write {
    Waits,
    Done,
    Gone,
}

impl Exchange {
    /// Writes as much of the answer as the client has room for.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Write {
        match &mut self.outgoing {
            Outgoing::Nothing => match self.respond.poll_reset(cx) {
                Poll::Pending => Write::Waits,
                Poll::Ready(_) => Write::Gone,
            },
            Outgoing::Content { stream, queue, held, finished } => {
                while let Some(front) = queue.front_mut() {
                    stream.reserve_capacity(*held);
                    let room = stream.capacity().min(front.len());
                    if room > 0 {
                        let piece = front.split_to(room);
                        *held -= room;
                        if front.is_empty() {
                            queue.pop_front();
                        }
                        let end = *finished && queue.is_empty();
                        if stream.send_data(piece, end).is_err() {
                            return Write::Gone;
                        }
                        if end {
                            return Write::Done;
                        }
                        continue;
                    }
                    match stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(room))) if room > 0 => {}
                        Poll::Ready(Some(Ok(_))) | Poll::Pending => break,
                        Poll::Ready(Some(Err(_)) | None) => return Write::Gone,
                    }
                }
                if *finished && queue.is_empty() {
                    // As in `respond`.
                    let _ = stream.send_data(Bytes::new(), true);
                    return Write::Done;
                }
                match stream.poll_reset(cx) {
                    Poll::Pending => Write::Waits,
                    Poll::Ready(_) => Write::Gone,
                }
            }
            Outgoing::Done => Write::Done,
        }
    }
}
