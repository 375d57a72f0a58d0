//! A bridge with a real HTTP/2 client on its native side and a real HTTP/2 server as the next
//! filter, all in memory and driven by hand.
#![allow(dead_code, reason = "each test uses another part")]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bridge::{Bridge, Bytes, HeaderMap, Limits, Request, Response, StatusCode, Surroundings};
use http_server::{HttpServer, Service};

#[path = "../../../bridge/tests/wire/mod.rs"]
mod wire;

use wire::Wire;

impl Wire {
    fn give(&self, octets: &[u8]) {
        self.0.borrow_mut().0.extend(octets);
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().1)
    }
}

/// One request of the client.
pub(crate) struct Call {
    sending: Option<h2::SendStream<Bytes>>,
    content: VecDeque<Bytes>,
    finished: bool,
    head: Option<h2::client::ResponseFuture>,
    receiving: Option<h2::RecvStream>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) headers: HeaderMap,
    pub(crate) received: Vec<u8>,
    /// With or without END_STREAM.
    pub(crate) ended: Option<bool>,
    /// Leaves the response unread.
    pub(crate) held: bool,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.received).unwrap()
    }
}

/// One stream that the bridge opened.
pub(crate) struct Stream {
    pub(crate) request: Request<()>,
    receiving: h2::RecvStream,
    respond: h2::server::SendResponse<Bytes>,
    sending: Option<h2::SendStream<Bytes>>,
    pub(crate) received: Vec<u8>,
    /// With or without END_STREAM.
    pub(crate) ended: Option<bool>,
}

impl Stream {
    pub(crate) fn respond(&mut self, status: u16, end: bool) {
        let response = Response::builder().status(status).body(()).unwrap();
        self.sending = self.respond.send_response(response, end).ok();
    }

    pub(crate) fn send(&mut self, octets: &[u8]) {
        let sending = self.sending.as_mut().unwrap();
        let _ = sending.send_data(Bytes::copy_from_slice(octets), false);
    }

    pub(crate) fn reset(&mut self) {
        self.respond.send_reset(h2::Reason::REFUSED_STREAM);
    }

    pub(crate) fn finish(&mut self) {
        if let Some(mut sending) = self.sending.take() {
            let _ = sending.send_data(Bytes::new(), true);
        }
    }
}

type ServerHandshake =
    Pin<Box<dyn Future<Output = Result<h2::server::Connection<Wire, Bytes>, h2::Error>>>>;

struct NoTls;
impl Surroundings for NoTls {
    fn server_name(&self) -> Option<String> {
        None
    }
}

pub(crate) struct Rig<S> {
    pub(crate) bridge: Bridge<HttpServer<S>>,
    pub(crate) now: Duration,
    client_wire: Wire,
    connection: Option<h2::client::Connection<Wire, Bytes>>,
    requests: h2::client::SendRequest<Bytes>,
    pub(crate) calls: Vec<Call>,
    next_wire: Wire,
    handshake: Option<ServerHandshake>,
    next: Option<h2::server::Connection<Wire, Bytes>>,
    pub(crate) streams: Vec<Stream>,
    /// How many of the client's octets arrive at once.
    pub(crate) chunk: usize,
    /// Whether the bridge wants the native connection closed.
    pub(crate) closed: bool,
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl<S: Service> Rig<S> {
    pub(crate) fn new(service: S, limits: &http_server::Limits) -> Self {
        Self::with_window(service, limits, 1 << 20)
    }

    /// The client may be sent so much of a response before it reads.
    pub(crate) fn with_window(service: S, limits: &http_server::Limits, window: u32) -> Self {
        let now = Duration::from_secs(1000);
        let bridge = Bridge::new(Limits::default(), Box::new(NoTls), now, |_| {
            HttpServer::new(service, limits)
        });
        let client_wire = Wire::default();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(window.max(65_535));
        let mut handshake = Box::pin(builder.handshake(client_wire.clone()));
        let Poll::Ready(Ok((requests, connection))) = handshake.as_mut().poll(&mut cx()) else {
            panic!("the handshake waits")
        };
        let next_wire = Wire::default();
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1000).data_frame_budget(usize::MAX >> 1);
        let handshake = Some(Box::pin(builder.handshake(next_wire.clone())) as ServerHandshake);
        let mut rig = Self {
            bridge,
            now,
            client_wire,
            connection: Some(connection),
            requests,
            calls: Vec::new(),
            next_wire,
            handshake,
            next: None,
            streams: Vec::new(),
            chunk: usize::MAX,
            closed: false,
        };
        rig.run();
        rig
    }

    /// Sends a request, and returns its index.
    pub(crate) fn call(&mut self, request: Request<()>, content: &[u8]) -> usize {
        let index = self.start(request, content.is_empty());
        self.calls[index].content.push_back(Bytes::copy_from_slice(content));
        self.calls[index].finished = true;
        self.run();
        index
    }

    /// Sends a request's header section.
    pub(crate) fn start(&mut self, request: Request<()>, end: bool) -> usize {
        assert!(self.requests.poll_ready(&mut cx()).is_ready());
        let (head, sending) = self.requests.send_request(request, end).unwrap();
        self.calls.push(Call {
            sending: (!end).then_some(sending),
            content: VecDeque::new(),
            finished: end,
            head: Some(head),
            receiving: None,
            status: None,
            headers: HeaderMap::new(),
            received: Vec::new(),
            ended: None,
            held: false,
        });
        self.calls.len() - 1
    }

    /// Sends content of a request that was started.
    pub(crate) fn send(&mut self, index: usize, content: &[u8]) {
        self.calls[index].content.push_back(Bytes::copy_from_slice(content));
        self.run();
    }

    /// The client gives the request up.
    pub(crate) fn cancel(&mut self, index: usize) {
        let call = &mut self.calls[index];
        call.sending = None;
        call.head = None;
        call.receiving = None;
        self.run();
    }

    /// The client ends its connection.
    pub(crate) fn end(&mut self) {
        self.bridge.handle_native_end(self.now);
        self.run();
    }

    /// Octets that are no HTTP/2 arrive from the client.
    pub(crate) fn corrupt(&mut self, octets: &'static [u8]) {
        self.bridge.handle_native(self.now, Bytes::from_static(octets));
        self.run();
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.bridge.next_step().deadline.filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            self.bridge.handle_timeout(self.now);
            self.run();
        }
        self.now = until;
    }

    /// Lets everything happen that can happen without time passing.
    pub(crate) fn run(&mut self) {
        loop {
            self.drive_client();
            self.drive_next();
            let to_bridge = self.client_wire.take();
            let from_next = self.next_wire.take();
            for chunk in to_bridge.chunks(self.chunk) {
                self.bridge.handle_native(self.now, Bytes::copy_from_slice(chunk));
            }
            if !from_next.is_empty() {
                self.bridge.handle_http(self.now, Bytes::from(from_next.clone()));
            }
            let (first, rest) = self.bridge.take_native();
            self.client_wire.give(&first);
            self.client_wire.give(&rest);
            let to_next = self.bridge.take_http();
            self.next_wire.give(&to_next);
            self.closed |= self.bridge.next_step().close;
            if to_bridge.is_empty()
                && from_next.is_empty()
                && first.is_empty()
                && to_next.is_empty()
            {
                return;
            }
        }
    }

    fn drive_client(&mut self) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(&mut cx()).is_ready()
        {
            self.connection = None;
        }
        for call in &mut self.calls {
            if let Some(sending) = &mut call.sending {
                while let Some(front) = call.content.front_mut() {
                    sending.reserve_capacity(front.len());
                    if let Some(connection) = &mut self.connection {
                        let _ = Pin::new(connection).poll(&mut cx());
                    }
                    let room = sending.capacity().min(front.len());
                    if room == 0 && !front.is_empty() {
                        break;
                    }
                    let _ = sending.send_data(front.split_to(room), false);
                    if front.is_empty() {
                        call.content.pop_front();
                    }
                }
                if call.finished && call.content.is_empty() {
                    let _ = sending.send_data(Bytes::new(), true);
                    call.sending = None;
                }
            }
            if let Some(head) = &mut call.head {
                match Pin::new(head).poll(&mut cx()) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(response)) => {
                        let (head, body) = response.into_parts();
                        call.status = Some(head.status);
                        call.headers = head.headers;
                        call.receiving = Some(body);
                        call.head = None;
                    }
                    Poll::Ready(Err(_)) => {
                        call.ended = Some(false);
                        call.head = None;
                    }
                }
            }
            while let Some(body) = &mut call.receiving
                && !call.held
            {
                match body.poll_data(&mut cx()) {
                    Poll::Pending => break,
                    Poll::Ready(Some(Ok(octets))) => {
                        let _ = body.flow_control().release_capacity(octets.len());
                        call.received.extend_from_slice(&octets);
                    }
                    Poll::Ready(end) => {
                        call.ended = Some(end.is_none());
                        call.receiving = None;
                    }
                }
            }
        }
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(&mut cx()).is_ready()
        {
            self.connection = None;
        }
    }

    fn drive_next(&mut self) {
        if let Some(handshake) = &mut self.handshake {
            let Poll::Ready(Ok(connection)) = handshake.as_mut().poll(&mut cx()) else { return };
            self.next = Some(connection);
            self.handshake = None;
        }
        let Some(connection) = &mut self.next else { return };
        while let Poll::Ready(Some(Ok((request, respond)))) = connection.poll_accept(&mut cx()) {
            let (head, receiving) = request.into_parts();
            let request = Request::from_parts(head, ());
            let received = Vec::new();
            self.streams.push(Stream {
                request,
                receiving,
                respond,
                sending: None,
                received,
                ended: None,
            });
        }
        for stream in self.streams.iter_mut().filter(|stream| stream.ended.is_none()) {
            while let Poll::Ready(event) = stream.receiving.poll_data(&mut cx()) {
                match event {
                    Some(Ok(octets)) => {
                        let _ = stream.receiving.flow_control().release_capacity(octets.len());
                        stream.received.extend_from_slice(&octets);
                    }
                    end => {
                        stream.ended = Some(end.is_none());
                        break;
                    }
                }
            }
        }
        let _ = connection.poll_closed(&mut cx());
    }
}
