//! The clients' side: tunnels of `udp_proxy`, a TCP connection, and HTTP requests.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine;
use bridge::{Bridge, Bytes, Ended, HeaderMap, Limits, Method, Protocol, Request};
use http_server::HttpServer;
use tunnels::Hub;
use tunnels::datagram::{self, Next};

use super::message::{Msg, framed};
use super::{Address, Bench, Worker};

#[path = "../../../bridge/tests/wire/mod.rs"]
mod wire;

use wire::Wire;

/// One of those sides.
pub trait Native: Sized {
    type Protocol: Protocol;

    fn connect(worker: &Worker, now: Duration) -> (Self, Bridge<Self::Protocol>);

    /// Moves octets both ways. Whether there were any.
    fn turn(&mut self, bridge: &mut Bridge<Self::Protocol>, now: Duration) -> bool;
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A datagram in a capsule (RFC 9297 §3.5).
pub fn capsule(octets: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    assert!(datagram::write(&mut stream, octets.len(), |out| {
        out.extend_from_slice(octets);
        true
    }));
    stream
}

/// The messages in a stream: with their lengths in front, or in capsules.
pub fn split(octets: &[u8], is_tcp: bool) -> Vec<Vec<u8>> {
    let (mut rest, mut messages) = (octets, Vec::new());
    while !rest.is_empty() {
        let (from, len) = if is_tcp {
            (2, 2 + usize::from(u16::from_be_bytes([rest[0], rest[1]])))
        } else {
            match datagram::next(rest) {
                Next::Datagram { from, len } => (from, len),
                other => panic!("{other:?} in the stream"),
            }
        };
        messages.push(rest[from..len].to_vec());
        rest = &rest[len..];
    }
    messages
}

fn messages(octets: &[Vec<u8>]) -> Vec<Msg> {
    octets.iter().map(|octets| Msg::decode(octets)).collect()
}

// HTTP/2 clients.

/// An HTTP/2 client, driven by hand.
struct Http {
    wire: Wire,
    /// All that came.
    received: Vec<u8>,
    requests: h2::client::SendRequest<Bytes>,
    connection: Option<h2::client::Connection<Wire, Bytes>>,
    calls: Vec<Call>,
}

/// One request: a query over HTTPS, or the tunnel of a session.
pub struct Call {
    sending: Option<h2::SendStream<Bytes>>,
    unsent: VecDeque<u8>,
    finishes: bool,
    head: Option<h2::client::ResponseFuture>,
    receiving: Option<h2::RecvStream>,
    pub status: Option<u16>,
    pub headers: HeaderMap,
    pub received: Vec<u8>,
    /// How often the stream was seen to end.
    pub ended: Option<Ended>,
}

impl Call {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("visible ASCII"))
    }

    pub fn is_reset(&self) -> bool {
        matches!(self.ended, Some(Ended::Reset(_)))
    }

    /// The message that the response has.
    #[track_caller]
    pub fn message(&self) -> Msg {
        assert_eq!(self.status, Some(200));
        assert_eq!(self.ended, Some(Ended::Complete));
        Msg::decode(&self.received)
    }

    fn drive(&mut self) {
        if let Some(sending) = &mut self.sending {
            if !self.unsent.is_empty() {
                sending.reserve_capacity(self.unsent.len());
                let _ = sending.poll_capacity(&mut cx());
                let n = sending.capacity().min(self.unsent.len());
                if n > 0 {
                    let octets: Vec<u8> = self.unsent.drain(..n).collect();
                    let _ = sending.send_data(octets.into(), false);
                }
            }
            if self.finishes && self.unsent.is_empty() {
                let _ = sending.send_data(Bytes::new(), true);
                self.sending = None;
            }
        }
        let reset = |error: &h2::Error| Ended::Reset(error.reason().map_or(0, Into::into));
        if let Some(head) = &mut self.head {
            match Pin::new(head).poll(&mut cx()) {
                Poll::Pending => return,
                Poll::Ready(Ok(response)) => {
                    let (parts, body) = response.into_parts();
                    self.status = Some(parts.status.as_u16());
                    self.headers = parts.headers;
                    self.receiving = Some(body);
                }
                Poll::Ready(Err(error)) => self.ended = Some(reset(&error)),
            }
            self.head = None;
        }
        while let Some(body) = &mut self.receiving {
            match body.poll_data(&mut cx()) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(octets))) => {
                    let _ = body.flow_control().release_capacity(octets.len());
                    self.received.extend_from_slice(&octets);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => self.ended = Some(reset(&error)),
                Poll::Ready(None) => self.ended = Some(Ended::Complete),
            }
            self.receiving = None;
        }
    }
}

impl Http {
    fn new() -> Self {
        let wire = Wire::default();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(16 << 20);
        let mut handshake = Box::pin(builder.handshake(wire.clone()));
        let Poll::Ready(Ok((requests, connection))) = handshake.as_mut().poll(&mut cx()) else {
            panic!("the handshake waits");
        };
        let received = Vec::new();
        Self { wire, received, requests, connection: Some(connection), calls: Vec::new() }
    }

    /// The streams that were reset, with the error codes (RFC 9113 §6.4).
    fn resets(&self) -> Vec<(u32, u32)> {
        const RST_STREAM: u8 = 3;
        let (mut rest, mut resets) = (&*self.received, Vec::new());
        while let Some((&[a, b, c, frame_type, _, d, e, f, g], after)) = rest.split_first_chunk() {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if frame_type == RST_STREAM {
                let code = u32::from_be_bytes(after[..4].try_into().unwrap());
                resets.push((u32::from_be_bytes([d, e, f, g]), code));
            }
            rest = &after[len..];
        }
        resets
    }

    fn start(&mut self, request: Request<()>, content: &[u8], finishes: bool) -> usize {
        assert!(self.requests.poll_ready(&mut cx()).is_ready(), "too many streams for the client");
        let end = finishes && content.is_empty();
        let (head, sending) = self.requests.send_request(request, end).expect("a request");
        self.calls.push(Call {
            sending: (!end).then_some(sending),
            unsent: content.iter().copied().collect(),
            finishes,
            head: Some(head),
            receiving: None,
            status: None,
            headers: HeaderMap::new(),
            received: Vec::new(),
            ended: None,
        });
        self.calls.len() - 1
    }

    fn turn<P: Protocol>(&mut self, bridge: &mut Bridge<P>, now: Duration) -> bool {
        for _ in 0..2 {
            if let Some(connection) = &mut self.connection
                && Pin::new(connection).poll(&mut cx()).is_ready()
            {
                self.connection = None;
            }
            self.calls.iter_mut().for_each(Call::drive);
        }
        let octets = std::mem::take(&mut self.wire.0.borrow_mut().1);
        let mut moved = !octets.is_empty();
        if moved {
            bridge.handle_native(now, octets.into());
        }
        let (first, rest) = bridge.take_native();
        moved |= !first.is_empty();
        self.received.extend(first.iter().chain(&rest));
        self.wire.0.borrow_mut().0.extend(first.iter().chain(&rest));
        moved
    }
}

// UDP.

/// `udp_proxy` with its sessions.
pub struct Udp {
    http: Http,
}

impl Native for Udp {
    type Protocol = Hub<filter_dns::Udp>;

    fn connect(worker: &Worker, now: Duration) -> (Self, Bridge<Self::Protocol>) {
        let settings = Rc::new(worker.filter.tunnels(&worker.registry));
        let bridge = Bridge::new(worker.filter.limits(), Box::new(Address("")), now, |_| {
            Hub::new(settings, worker.filter.udp())
        });
        (Self { http: Http::new() }, bridge)
    }

    fn turn(&mut self, bridge: &mut Bridge<Self::Protocol>, now: Duration) -> bool {
        self.http.turn(bridge, now)
    }
}

impl Bench<Udp> {
    /// A session for the client at this address.
    pub fn client(&mut self, address: &str) -> usize {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://proxy/.well-known/masque/udp/10.0.0.1/53/")
            .header("capsule-protocol", "?1")
            .header("x-forwarded-for", address)
            .body(())
            .expect("a request");
        request.extensions_mut().insert(h2::ext::Protocol::from_static("connect-udp"));
        let session = self.native.http.start(request, b"", false);
        self.settle();
        session
    }

    pub fn session(&self, session: usize) -> &Call {
        &self.native.http.calls[session]
    }

    /// The streams that the filter has reset, with the error codes.
    pub fn resets(&self) -> Vec<(u32, u32)> {
        self.native.http.resets()
    }

    pub fn is_over(&self, session: usize) -> bool {
        self.session(session).ended.is_some()
    }

    /// The client sends a datagram.
    pub fn datagram(&mut self, session: usize, octets: &[u8]) {
        self.session_octets(session, &capsule(octets));
    }

    /// Octets of a session's stream.
    pub fn session_octets(&mut self, session: usize, octets: &[u8]) {
        self.native.http.calls[session].unsent.extend(octets);
        self.settle();
    }

    /// The client asks.
    pub fn ask(&mut self, session: usize, message: &Msg) {
        self.datagram(session, &message.octets());
    }

    /// The client sends these messages at once.
    pub fn ask_all(&mut self, session: usize, messages: &[Msg]) {
        let octets: Vec<u8> =
            messages.iter().flat_map(|message| capsule(&message.octets())).collect();
        self.session_octets(session, &octets);
    }

    /// `udp_proxy` ends a session.
    pub fn end_session(&mut self, session: usize) {
        let call = &mut self.native.http.calls[session];
        call.finishes = true;
        self.settle();
    }

    /// `udp_proxy` resets the stream of a session.
    pub fn reset_session(&mut self, session: usize) {
        let call = &mut self.native.http.calls[session];
        if let Some(sending) = &mut call.sending {
            sending.send_reset(h2::Reason::CANCEL);
        }
        call.sending = None;
        self.settle();
    }

    /// What a client got since the last call, octet by octet.
    pub fn got_octets(&mut self, session: usize) -> Vec<Vec<u8>> {
        split(&std::mem::take(&mut self.native.http.calls[session].received), false)
    }

    pub fn got(&mut self, session: usize) -> Vec<Msg> {
        messages(&self.got_octets(session))
    }

    /// The only message that a client got since the last call.
    #[track_caller]
    pub fn got_one(&mut self, session: usize) -> Msg {
        let mut got = self.got(session);
        assert_eq!(got.len(), 1, "{got:#?}");
        got.remove(0)
    }

    #[track_caller]
    pub fn got_nothing(&mut self, session: usize) {
        let got = self.got(session);
        assert!(got.is_empty(), "{got:#?}");
    }

    /// A query and the answer that the server gives it, as the client gets it.
    #[track_caller]
    pub fn exchange(&mut self, session: usize, query: &Msg, answer: impl Fn(&Msg) -> Msg) -> Msg {
        self.ask(session, query);
        let (flow, asked) = self.asked_one();
        self.server(flow, &answer(&asked));
        self.got_one(session)
    }

    /// A query that the filter answers by itself.
    #[track_caller]
    pub fn refused(&mut self, session: usize, query: &Msg) -> Msg {
        self.ask(session, query);
        self.asked_nothing();
        self.got_one(session)
    }
}

// TCP and TLS.

/// A client's connection.
pub struct Tcp {
    /// What the client has sent and the filter has not taken.
    pub socket: VecDeque<u8>,
    /// Octets travel to the filter in pieces of at most so many.
    pub piece: usize,
    pub received: Vec<u8>,
}

impl Native for Tcp {
    type Protocol = filter_dns::Stream;

    fn connect(worker: &Worker, now: Duration) -> (Self, Bridge<Self::Protocol>) {
        let address = Box::new(Address("192.0.2.1"));
        let bridge =
            Bridge::new(worker.filter.limits(), address, now, |link| worker.filter.stream(link));
        (Self { socket: VecDeque::new(), piece: usize::MAX, received: Vec::new() }, bridge)
    }

    fn turn(&mut self, bridge: &mut Bridge<Self::Protocol>, now: Duration) -> bool {
        let mut moved = false;
        if bridge.accepts_native() && !self.socket.is_empty() {
            let n = self.socket.len().min(self.piece);
            let octets: Vec<u8> = self.socket.drain(..n).collect();
            bridge.handle_native(now, octets.into());
            moved = true;
        }
        let (first, rest) = bridge.take_native();
        self.received.extend(first.iter().chain(&rest));
        moved || !first.is_empty()
    }
}

impl Bench<Tcp> {
    /// Octets of the client.
    pub fn octets(&mut self, octets: &[u8]) {
        self.native.socket.extend(octets);
        self.settle();
    }

    /// The client asks.
    pub fn ask(&mut self, message: &Msg) {
        self.octets(&message.framed());
    }

    /// The client asks all of it at once.
    pub fn ask_all(&mut self, messages: &[Msg]) {
        let octets: Vec<u8> = messages.iter().flat_map(Msg::framed).collect();
        self.octets(&octets);
    }

    /// The client sends any octets as a message.
    pub fn message(&mut self, octets: &[u8]) {
        self.octets(&framed(octets));
    }

    /// FIN.
    pub fn end(&mut self) {
        self.bridge.handle_native_end(self.now);
        self.settle();
    }

    /// What the client got since the last call, octet by octet.
    pub fn got_octets(&mut self) -> Vec<Vec<u8>> {
        split(&std::mem::take(&mut self.native.received), true)
    }

    pub fn got(&mut self) -> Vec<Msg> {
        messages(&self.got_octets())
    }

    #[track_caller]
    pub fn got_one(&mut self) -> Msg {
        let mut got = self.got();
        assert_eq!(got.len(), 1, "{got:#?}");
        got.remove(0)
    }

    #[track_caller]
    pub fn got_nothing(&mut self) {
        let got = self.got();
        assert!(got.is_empty(), "{got:#?}");
    }

    /// A query and the answer that the server gives it, as the client gets it.
    #[track_caller]
    pub fn exchange(&mut self, query: &Msg, answer: impl Fn(&Msg) -> Msg) -> Msg {
        self.ask(query);
        let (flow, asked) = self.asked_one();
        self.server(flow, &answer(&asked));
        self.got_one()
    }
}

// HTTPS.

/// Envoy's HTTP clients.
pub struct Https {
    http: Http,
}

impl Native for Https {
    type Protocol = HttpServer<filter_dns::Https>;

    fn connect(worker: &Worker, now: Duration) -> (Self, Bridge<Self::Protocol>) {
        let bridge = Bridge::new(Limits::default(), Box::new(Address("")), now, |_| {
            let (https, limits) = worker.filter.https();
            HttpServer::new(https, &limits)
        });
        (Self { http: Http::new() }, bridge)
    }

    fn turn(&mut self, bridge: &mut Bridge<Self::Protocol>, now: Duration) -> bool {
        self.http.turn(bridge, now)
    }
}

impl Bench<Https> {
    /// Whether there may be another request.
    pub fn has_room(&mut self) -> bool {
        self.native.http.requests.poll_ready(&mut cx()).is_ready()
    }

    /// Any request.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        content: &[u8],
    ) -> usize {
        let mut request = Request::builder().method(method).uri(format!("https://doh{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let call = self.native.http.start(request, content, true);
        self.settle();
        call
    }

    /// A query as the content of a POST.
    pub fn post(&mut self, message: &Msg) -> usize {
        let headers =
            [("content-type", "application/dns-message"), ("x-forwarded-for", "192.0.2.1")];
        self.request("POST", "/dns-query", &headers, &message.octets())
    }

    /// A query in the URI.
    pub fn get(&mut self, method: &str, message: &Msg) -> usize {
        let text = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(message.octets());
        let headers = [("accept", "application/dns-message"), ("x-forwarded-for", "192.0.2.1")];
        self.request(method, &format!("/dns-query?dns={text}"), &headers, b"")
    }

    pub fn call(&self, call: usize) -> &Call {
        &self.native.http.calls[call]
    }

    /// The content of the response, when it is complete, once.
    pub fn take_content(&mut self, call: usize) -> Option<Vec<u8>> {
        let call = self.native.http.calls.get_mut(call)?;
        let is_message = call.status == Some(200) && call.ended == Some(Ended::Complete);
        (is_message && !call.received.is_empty()).then(|| std::mem::take(&mut call.received))
    }

    /// The client does not want the answer any more, if it has asked.
    pub fn cancel(&mut self, call: usize) {
        if let Some(call) = self.native.http.calls.get_mut(call) {
            (call.sending, call.head, call.receiving) = (None, None, None);
        }
        self.settle();
    }

    /// A query and the answer that the server gives it, as the client gets it.
    #[track_caller]
    pub fn exchange(&mut self, query: &Msg, answer: impl Fn(&Msg) -> Msg) -> Msg {
        let call = self.post(query);
        let (flow, asked) = self.asked_one();
        self.server(flow, &answer(&asked));
        self.call(call).message()
    }
}
