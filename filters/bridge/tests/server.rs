//! What [`Server`] promises, shown with the `h2` crate's client in memory, driven by hand like the server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bridge::server::{Received, RequestId, Server, ServerLimits};
use bridge::{Bytes, Ended, Method, Request, Response};
use h2::Reason;
use proptest::prelude::*;

mod wire;

use wire::Wire;

const LIMITS: ServerLimits = ServerLimits {
    stream_window: 10_000,
    connection_window: 100_000,
    max_header_list_size: 16 << 10,
    max_streams: 100,
};

/// One request of the client.
struct Call {
    sending: h2::SendStream<Bytes>,
    head: Option<h2::client::ResponseFuture>,
    receiving: Option<h2::RecvStream>,
    status: Option<u16>,
    received: Vec<u8>,
    /// END_STREAM, or the error code of the reset.
    ended: Option<Result<(), Reason>>,
    /// Leaves the response unread.
    held: bool,
}

/// A server and its client.
struct Rig {
    server: Server,
    /// All that the server reported.
    reports: Vec<Received>,
    wire: Wire,
    connection: Option<h2::client::Connection<Wire, Bytes>>,
    requests: h2::client::SendRequest<Bytes>,
    calls: Vec<Option<Call>>,
    /// How many of the client's octets arrive at once.
    chunk: usize,
    /// How many arrived.
    arrived: usize,
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://server{path}")).body(()).unwrap()
}

fn ok() -> Response<()> {
    Response::new(())
}

/// A frame without flags, as RFC 9113 §4.1 lays it out.
fn frame(kind: u8, stream: u32, payload: &[u8]) -> Bytes {
    flagged(kind, 0, stream, payload)
}

fn flagged(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Bytes {
    let mut octets = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    octets.extend([kind, flags]);
    octets.extend(stream.to_be_bytes());
    octets.extend(payload);
    octets.into()
}

/// The types of the frames that these octets are, in order.
fn frame_types(mut octets: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, ..] = *octets {
        types.push(kind);
        octets = &octets[9 + u32::from_be_bytes([0, a, b, c]) as usize..];
    }
    types
}

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const CANCEL: u32 = 0x8;

impl Rig {
    fn new(limits: &ServerLimits) -> Self {
        Self::with_window(Server::new(limits), 1 << 20)
    }

    /// The client may be sent so much of a response before it reads.
    fn with_window(server: Server, window: u32) -> Self {
        let wire = Wire::default();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(window.max(65_535));
        builder.data_frame_budget(usize::MAX >> 1);
        let handshake = pin!(builder.handshake(wire.clone()));
        let Poll::Ready(Ok((requests, connection))) = handshake.poll(&mut cx()) else {
            panic!("the handshake waits")
        };
        let mut rig = Self {
            server,
            reports: Vec::new(),
            wire,
            connection: Some(connection),
            requests,
            calls: Vec::new(),
            chunk: usize::MAX,
            arrived: 0,
        };
        rig.run();
        rig
    }

    /// Sends a request's header section, and returns its index.
    fn start(&mut self, request: Request<()>, end: bool) -> usize {
        assert!(self.requests.poll_ready(&mut cx()).is_ready());
        let (head, sending) = self.requests.send_request(request, end).unwrap();
        self.calls.push(Some(Call {
            sending,
            head: Some(head),
            receiving: None,
            status: None,
            received: Vec::new(),
            ended: None,
            held: false,
        }));
        self.drive();
        self.calls.len() - 1
    }

    /// Starts a request without content that arrives, and says what the server calls it.
    fn open(&mut self, path: &str, end: bool) -> (usize, RequestId) {
        let call = self.start(post(path), end);
        self.run();
        (call, *self.accepted().last().unwrap())
    }

    fn call(&self, index: usize) -> &Call {
        self.calls[index].as_ref().unwrap()
    }

    fn send(&mut self, index: usize, content: &[u8], end: bool) {
        let call = self.calls[index].as_mut().unwrap();
        call.sending.send_data(Bytes::copy_from_slice(content), end).unwrap();
    }

    /// The client gives a request up.
    fn cancel(&mut self, index: usize) {
        if let Some(mut call) = self.calls[index].take() {
            call.sending.send_reset(Reason::CANCEL);
        }
        self.drive();
    }

    /// Octets that the client's library would not send.
    fn inject(&mut self, octets: Bytes) {
        self.server.receive(octets);
        self.poll();
    }

    fn poll(&mut self) {
        let mut events = VecDeque::new();
        self.server.poll(&mut events);
        self.reports.extend(events);
    }

    /// What the client wrote arrives.
    fn deliver(&mut self) -> bool {
        let octets = std::mem::take(&mut self.wire.0.borrow_mut().1);
        self.arrived += octets.len();
        for chunk in octets.chunks(self.chunk) {
            self.inject(Bytes::copy_from_slice(chunk));
        }
        self.poll();
        !octets.is_empty()
    }

    /// Lets everything happen that can happen.
    fn run(&mut self) {
        loop {
            self.drive();
            let sent = self.deliver();
            let answered = self.server.take_output();
            self.wire.0.borrow_mut().0.extend(&answered);
            self.drive();
            if !sent && answered.is_empty() {
                return;
            }
        }
    }

    fn drive(&mut self) {
        self.drive_connection();
        for call in self.calls.iter_mut().flatten() {
            if let Some(head) = &mut call.head {
                match Pin::new(head).poll(&mut cx()) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(response)) => {
                        call.status = Some(response.status().as_u16());
                        call.receiving = Some(response.into_body());
                        call.head = None;
                    }
                    Poll::Ready(Err(error)) => {
                        call.ended = Some(Err(error.reason().unwrap_or(Reason::INTERNAL_ERROR)));
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
                        body.flow_control().release_capacity(octets.len()).unwrap();
                        call.received.extend_from_slice(&octets);
                    }
                    Poll::Ready(Some(Err(error))) => {
                        call.ended = Some(Err(error.reason().unwrap_or(Reason::INTERNAL_ERROR)));
                        call.receiving = None;
                    }
                    Poll::Ready(None) => {
                        call.ended = Some(Ok(()));
                        call.receiving = None;
                    }
                }
            }
        }
        self.drive_connection();
    }

    fn drive_connection(&mut self) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(&mut cx()).is_ready()
        {
            self.connection = None;
        }
    }

    /// The requests reported, in order.
    fn accepted(&self) -> Vec<RequestId> {
        let id = |report: &Received| match report {
            Received::Request(id, _) => Some(*id),
            _ => None,
        };
        self.reports.iter().filter_map(id).collect()
    }

    /// The content reported of a request.
    fn content(&self, of: RequestId) -> Vec<u8> {
        let body = |report: &Received| match report {
            Received::Body(id, octets) if *id == of => Some(octets.clone()),
            _ => None,
        };
        self.reports.iter().filter_map(body).collect::<Vec<_>>().concat()
    }

    /// How a request's ends were reported.
    fn ends(&self, of: RequestId) -> Vec<Ended> {
        let ended = |report: &Received| match report {
            Received::Ended(id, how) if *id == of => Some(*how),
            _ => None,
        };
        self.reports.iter().filter_map(ended).collect()
    }

    fn lost(&self) -> usize {
        self.reports.iter().filter(|report| matches!(report, Received::Lost)).count()
    }

    /// Shows that the connection is as good as new.
    fn works(&mut self) -> bool {
        let call = self.start(post("/again"), false);
        self.send(call, b"all is well", true);
        self.run();
        let id = *self.accepted().last().unwrap();
        let echo = self.content(id);
        self.server.respond(id, ok(), false);
        assert_eq!(self.server.room(id, echo.len()), echo.len());
        self.server.finish_with(id, echo.into());
        self.run();
        self.call(call).received == b"all is well" && self.call(call).ended == Some(Ok(()))
    }
}

#[test]
fn a_request_is_reported_with_all_of_its_content_however_its_octets_are_split() {
    for chunk in [1, 2, 9, 100, usize::MAX] {
        let mut rig = Rig::new(&LIMITS);
        rig.chunk = chunk;
        let mut request = post("/some/where");
        request.headers_mut().insert("x-field", "value".parse().unwrap());
        let call = rig.start(request, false);
        let content: Vec<u8> = (0..50_000).map(|n: u32| n as u8).collect();
        for part in content.chunks(7_000) {
            rig.send(call, part, false);
            rig.run();
        }
        rig.send(call, b"", true);
        rig.run();
        let Received::Request(id, head) = &rig.reports[0] else { panic!("{:?}", rig.reports[0]) };
        assert_eq!((head.method(), head.uri().path()), (&Method::POST, "/some/where"));
        assert_eq!(head.headers()["x-field"], "value");
        assert!(rig.content(*id) == content, "{chunk}");
        assert_eq!(rig.ends(*id), [Ended::Complete]);
        assert!(matches!(rig.reports.last(), Some(Received::Ended(..))));
    }
}

#[test]
fn a_request_without_content_is_complete_at_once() {
    let mut rig = Rig::new(&LIMITS);
    let (_, id) = rig.open("/", true);
    assert_eq!(rig.reports.len(), 2, "{:?}", rig.reports);
    assert_eq!(rig.ends(id), [Ended::Complete]);
}

#[test]
fn a_response_arrives_with_its_content_and_end() {
    let mut rig = Rig::new(&LIMITS);
    let (call, id) = rig.open("/", true);
    rig.server.respond(id, Response::builder().status(418).body(()).unwrap(), false);
    rig.run();
    assert_eq!((rig.call(call).status, rig.call(call).ended), (Some(418), None));
    for part in [&b"in "[..], b"pieces"] {
        assert_eq!(rig.server.room(id, part.len()), part.len());
        rig.server.send(id, Bytes::from_static(part));
        rig.run();
    }
    assert_eq!(
        (rig.call(call).received.as_slice(), rig.call(call).ended),
        (&b"in pieces"[..], None)
    );
    assert_eq!(rig.server.open_requests(), 1);
    rig.server.finish(id);
    rig.run();
    assert_eq!(rig.call(call).ended, Some(Ok(())));
    assert_eq!(rig.server.open_requests(), 0);

    let (call, id) = rig.open("/", true);
    rig.server.respond(id, ok(), true);
    rig.run();
    assert_eq!((rig.call(call).status, rig.call(call).ended), (Some(200), Some(Ok(()))));
    assert_eq!(rig.server.open_requests(), 0);
}

#[test]
fn the_last_octets_and_the_end_are_one_frame() {
    let mut rig = Rig::new(&LIMITS);
    let (call, id) = rig.open("/", true);
    rig.server.respond(id, ok(), false);
    rig.run();
    assert_eq!(rig.server.room(id, 3), 3);
    rig.server.finish_with(id, Bytes::from_static(b"end"));
    rig.poll();
    let octets = rig.server.take_output();
    assert_eq!(frame_types(&octets), [DATA]);
    rig.wire.0.borrow_mut().0.extend(&octets);
    rig.run();
    assert_eq!(
        (rig.call(call).received.as_slice(), rig.call(call).ended),
        (&b"end"[..], Some(Ok(())))
    );
}

#[test]
fn only_the_first_response_and_the_first_end_count() {
    let mut rig = Rig::new(&LIMITS);
    let (call, id) = rig.open("/", false);
    // There is no stream to write to before the header section was sent.
    assert_eq!(rig.server.room(id, 5), 0);
    rig.server.send(id, Bytes::from_static(b"early"));
    rig.server.finish(id);
    rig.server.respond(id, ok(), false);
    rig.server.respond(id, Response::builder().status(500).body(()).unwrap(), true);
    rig.server.finish(id);
    rig.server.finish(id);
    assert_eq!(rig.server.room(id, 5), 0);
    rig.server.send(id, Bytes::from_static(b"late"));
    rig.run();
    let call = rig.call(call);
    assert_eq!(
        (call.status, call.received.as_slice(), call.ended),
        (Some(200), &[][..], Some(Ok(())))
    );
}

#[test]
fn there_is_room_for_what_the_client_can_take_and_more_is_announced() {
    let mut rig = Rig::with_window(Server::new(&LIMITS), 1000);
    let (call, id) = rig.open("/", true);
    rig.calls[call].as_mut().unwrap().held = true;
    rig.server.respond(id, ok(), false);
    let (mut sent, mut announced) = (0, 0);
    while sent < 5000 {
        let room = rig.server.room(id, 5000 - sent);
        assert_eq!(room, 1000);
        rig.server.send(id, vec![7; room].into());
        sent += room;
        assert_eq!(rig.server.room(id, 1), 0);
        rig.run();
        assert_eq!(rig.call(call).received.len(), sent - room, "sent without room");
        announced += 1;
        let writable = |rig: &Rig| {
            rig.reports.iter().filter(|report| matches!(report, Received::Writable(_))).count()
        };
        assert_eq!(writable(&rig), announced - 1);
        rig.calls[call].as_mut().unwrap().held = false;
        rig.run();
        rig.calls[call].as_mut().unwrap().held = true;
        assert_eq!(writable(&rig), announced);
    }
    // Others were not kept waiting, and are not now.
    assert!(rig.works());
}

#[test]
fn room_that_sending_frees_needs_no_answer_of_the_client() {
    const SIZE: usize = 3 << 19;
    let mut rig = Rig::with_window(Server::new(&LIMITS), 2 << 20);
    let (call, id) = rig.open("/", true);
    rig.server.respond(id, ok(), false);
    let mut sent = 0;
    while sent < SIZE {
        // Less at once than the window, because what waits to be written is bounded as well.
        let room = rig.server.room(id, SIZE - sent);
        assert!(room > 0, "{sent}");
        rig.server.send(id, vec![7; room].into());
        sent += room;
    }
    rig.server.finish(id);
    rig.run();
    assert_eq!((rig.call(call).received.len(), rig.call(call).ended), (SIZE, Some(Ok(()))));
}

#[test]
fn content_of_a_held_stream_stays_with_the_client_and_others_go_on() {
    let mut rig = Rig::new(&LIMITS);
    let (slow, slow_id) = rig.open("/slow", false);
    rig.server.hold(slow_id, true);
    let content: Vec<u8> = (0..50_000).map(|n: u32| n as u8).collect();
    rig.send(slow, &content, true);
    rig.run();
    assert!(rig.content(slow_id).is_empty());
    // The window, and what frames and header sections take.
    assert!(rig.arrived > 10_000 && rig.arrived < 10_500, "{}", rig.arrived);
    assert!(rig.works());
    rig.server.hold(slow_id, false);
    rig.run();
    assert!(rig.content(slow_id) == content);
    assert_eq!(rig.ends(slow_id), [Ended::Complete]);
}

#[test]
fn a_reset_by_the_client_is_the_last_report_of_a_stream() {
    let mut rig = Rig::new(&LIMITS);
    // In the middle of its content, before an answer.
    let (call, sending) = rig.open("/", false);
    rig.send(call, b"some", false);
    rig.run();
    rig.cancel(call);
    rig.run();
    assert_eq!(rig.ends(sending), [Ended::Reset(CANCEL)]);
    // After its content, before an answer.
    let (call, waiting) = rig.open("/", true);
    rig.cancel(call);
    rig.run();
    assert_eq!(rig.ends(waiting), [Ended::Complete, Ended::Reset(CANCEL)]);
    // In the middle of the answer.
    let (call, reading) = rig.open("/", true);
    rig.server.respond(reading, ok(), false);
    rig.run();
    rig.cancel(call);
    rig.run();
    assert_eq!(rig.ends(reading), [Ended::Complete, Ended::Reset(CANCEL)]);
    // After the answer, in the middle of its content.
    let (call, answered) = rig.open("/", false);
    rig.server.respond(answered, ok(), true);
    rig.run();
    rig.cancel(call);
    rig.run();
    assert_eq!(rig.ends(answered), [Ended::Reset(CANCEL)]);
    // While its content is held, or while it waits for room.
    let (call, held) = rig.open("/", false);
    rig.server.hold(held, true);
    rig.server.respond(held, ok(), false);
    let room = rig.server.room(held, 2 << 20);
    rig.server.send(held, vec![0; room].into());
    rig.run();
    rig.send(call, b"unread", false);
    rig.cancel(call);
    rig.run();
    assert_eq!(rig.ends(held), [Ended::Reset(CANCEL)]);

    assert_eq!(rig.server.open_requests(), 0);
    let reports = rig.reports.len();
    for id in [sending, waiting, reading, answered, held] {
        rig.server.respond(id, ok(), false);
        assert_eq!(rig.server.room(id, 1), 0);
        rig.server.send(id, Bytes::from_static(b"nobody"));
        rig.server.finish(id);
        rig.server.hold(id, false);
        rig.server.reset(id);
        rig.server.abort(id, CANCEL);
    }
    rig.run();
    assert_eq!(rig.reports.len(), reports);
    assert!(rig.works());
}

#[test]
fn streams_that_are_reset_before_they_are_looked_at_do_no_harm() {
    let mut rig = Rig::new(&ServerLimits { max_streams: 10, ..LIMITS });
    for round in 0..300 {
        for _ in 0..10 {
            let call = rig.start(post("/"), round % 2 == 0);
            rig.cancel(call);
        }
    }
    rig.run();
    let accepted = rig.accepted();
    assert_eq!(accepted.len(), 3000);
    for id in accepted {
        assert_eq!(rig.ends(id).last(), Some(&Ended::Reset(CANCEL)));
    }
    assert_eq!(rig.server.open_requests(), 0);
    assert!(rig.works());
}

#[test]
fn a_reset_after_both_sides_have_ended_is_nothing() {
    let mut rig = Rig::new(&LIMITS);
    let (_, id) = rig.open("/", true);
    rig.server.respond(id, ok(), true);
    rig.run();
    let reports = rig.reports.len();
    rig.inject(frame(RST_STREAM, 1, &CANCEL.to_be_bytes()));
    rig.run();
    assert_eq!(rig.reports.len(), reports);
    assert!(rig.works());
}

#[test]
fn a_stream_that_is_given_up_is_not_reported_any_more() {
    let mut rig = Rig::new(&LIMITS);
    for answered in [false, true] {
        let (call, id) = rig.open("/", false);
        if answered {
            rig.server.respond(id, ok(), false);
        }
        let reports = rig.reports.len();
        rig.server.reset(id);
        rig.send(call, b"too late", true);
        rig.run();
        assert_eq!(rig.call(call).ended, Some(Err(Reason::NO_ERROR)));
        assert_eq!((rig.reports.len(), rig.server.open_requests()), (reports, 0));
    }
    assert!(rig.works());
}

#[test]
fn content_on_its_way_to_streams_that_were_given_up_takes_no_room_from_others() {
    let mut rig = Rig::new(&LIMITS);
    for _ in 0..1100 {
        let (call, id) = rig.open("/", false);
        rig.send(call, &[7; 10_000], false);
        rig.drive();
        rig.server.reset(id);
        // The reset is on its way as well.
        rig.poll();
        rig.run();
    }
    // A hundred times the connection's window went there.
    assert!(rig.works());
}

#[test]
fn what_was_sent_and_ended_arrives_although_the_stream_is_given_up() {
    let mut rig = Rig::new(&LIMITS);
    for with_last in [false, true] {
        let (call, id) = rig.open("/", false);
        rig.server.respond(id, ok(), false);
        assert_eq!(rig.server.room(id, 50_000), 50_000);
        if with_last {
            rig.server.finish_with(id, vec![7; 50_000].into());
        } else {
            rig.server.send(id, vec![7; 50_000].into());
            rig.server.finish(id);
        }
        rig.server.reset(id);
        assert_eq!(rig.server.open_requests(), 0);
        rig.run();
        assert_eq!((rig.call(call).received.len(), rig.call(call).ended), (50_000, Some(Ok(()))));
        // The client is to send no more (RFC 9113 §8.1).
        let call = rig.calls[call].as_mut().unwrap();
        assert!(matches!(call.sending.poll_reset(&mut cx()), Poll::Ready(Ok(Reason::NO_ERROR))));
    }
    // Nothing is reset where the client has ended its side.
    let (_, id) = rig.open("/", true);
    rig.server.respond(id, ok(), true);
    rig.server.reset(id);
    rig.poll();
    assert_eq!(frame_types(&rig.server.take_output()), [HEADERS]);
}

#[test]
fn a_stream_that_is_cut_off_says_why() {
    let mut rig = Rig::new(&LIMITS);
    for sent in [0, 5] {
        let (call, id) = rig.open("/", true);
        if sent > 0 {
            rig.server.respond(id, ok(), false);
            assert_eq!(rig.server.room(id, sent), sent);
            rig.server.send(id, vec![7; sent].into());
            rig.run();
        }
        rig.server.abort(id, Reason::INADEQUATE_SECURITY.into());
        rig.run();
        assert_eq!(rig.call(call).received.len(), sent);
        assert_eq!(rig.call(call).ended, Some(Err(Reason::INADEQUATE_SECURITY)));
        assert_eq!(rig.server.open_requests(), 0);
    }
    assert!(rig.works());
}

#[test]
fn a_response_that_cannot_be_carried_resets_the_stream() {
    let mut rig = Rig::new(&LIMITS);
    let (call, id) = rig.open("/", true);
    let mut response = ok();
    // RFC 9113 §8.2.2.
    response.headers_mut().insert("connection", "close".parse().unwrap());
    rig.server.respond(id, response, false);
    rig.run();
    assert_eq!(rig.call(call).ended, Some(Err(Reason::INTERNAL_ERROR)));
    let code = Reason::INTERNAL_ERROR.into();
    assert_eq!(rig.ends(id), [Ended::Complete, Ended::Reset(code)]);
    assert_eq!(rig.server.open_requests(), 0);
    assert!(rig.works());
}

#[test]
fn what_is_no_http_loses_the_connection_and_all_streams() {
    for len in [30, 100_000] {
        // Instead of a preface.
        let mut server = Server::new(&LIMITS);
        let mut events = VecDeque::new();
        server.receive(vec![b'x'; len].into());
        server.poll(&mut events);
        assert!(matches!(events.make_contiguous(), [Received::Lost]), "{events:?}");

        // In the middle of it all.
        let mut rig = Rig::new(&LIMITS);
        let ids = [rig.open("/", true).1, rig.open("/", false).1, rig.open("/", false).1];
        rig.server.respond(ids[1], ok(), false);
        rig.server.hold(ids[2], true);
        rig.run();
        let reports = rig.reports.len();
        // A SETTINGS frame on a stream, and more than anybody wants to read (RFC 9113 §6.5).
        let mut garbage = frame(SETTINGS, 1, b"").to_vec();
        garbage.resize(len, b'x');
        rig.inject(garbage.into());
        assert_eq!(rig.reports.len(), reports + 4);
        assert!(ids.iter().all(|id| matches!(rig.ends(*id).last(), Some(Ended::Reset(_)))));
        assert!(matches!(rig.reports.last(), Some(Received::Lost)));
        assert_eq!(rig.server.open_requests(), 0);
        // It says why, and then nothing any more.
        assert!(frame_types(&rig.server.take_output()).contains(&GOAWAY));
        rig.server.respond(ids[0], ok(), true);
        assert_eq!(rig.server.room(ids[1], 1), 0);
        rig.server.abort(ids[2], CANCEL);
        rig.inject(Bytes::from_static(b"more"));
        rig.poll();
        assert_eq!(rig.reports.len(), reports + 4);
        assert!(!rig.server.has_output());
    }
}

#[test]
fn a_client_that_leaves_ends_all_streams_once() {
    let mut rig = Rig::new(&LIMITS);
    let ids = [rig.open("/", true).1, rig.open("/", false).1];
    let mut events = VecDeque::new();
    rig.server.close(&mut events);
    rig.server.close(&mut events);
    rig.server.poll(&mut events);
    rig.reports.extend(events);
    assert!(ids.iter().all(|id| matches!(rig.ends(*id).last(), Some(Ended::Reset(_)))));
    assert_eq!((rig.lost(), rig.server.open_requests()), (1, 0));
}

#[test]
fn a_client_that_opens_no_more_streams_is_answered_what_it_asked() {
    let mut rig = Rig::new(&LIMITS);
    let (call, id) = rig.open("/", true);
    // NO_ERROR (RFC 9113 §6.8).
    rig.inject(frame(GOAWAY, 0, &[0; 8]));
    assert_eq!((rig.lost(), rig.ends(id)), (0, vec![Ended::Complete]));
    rig.server.respond(id, ok(), false);
    assert_eq!(rig.server.room(id, 4), 4);
    rig.server.finish_with(id, Bytes::from_static(b"done"));
    rig.run();
    assert_eq!(
        (rig.call(call).received.as_slice(), rig.call(call).ended),
        (&b"done"[..], Some(Ok(())))
    );
    assert_eq!((rig.lost(), rig.server.open_requests()), (1, 0));
}

#[test]
fn no_more_than_so_many_streams_are_open_at_once() {
    let mut rig = Rig::new(&ServerLimits { max_streams: 10, ..LIMITS });
    let calls: Vec<usize> = (0..11).map(|_| rig.start(post("/"), true)).collect();
    rig.run();
    assert_eq!((rig.accepted().len(), rig.server.open_requests()), (10, 10));
    let first = rig.accepted()[0];
    rig.server.respond(first, ok(), true);
    rig.run();
    assert_eq!((rig.accepted().len(), rig.server.open_requests()), (11, 10));
    for id in rig.accepted() {
        rig.server.respond(id, ok(), true);
    }
    rig.run();
    assert_eq!(rig.server.open_requests(), 0);
    assert!(calls.iter().all(|call| rig.call(*call).ended == Some(Ok(()))));
}

#[test]
fn a_stream_too_many_is_refused_and_not_reported() {
    let mut server = Server::new(&ServerLimits { max_streams: 2, ..LIMITS });
    let mut octets = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    octets.extend(frame(SETTINGS, 0, b""));
    for stream in [1, 3, 5] {
        // END_HEADERS; `POST http://a/` (RFC 7541 §6).
        octets.extend(flagged(HEADERS, 0x4, stream, b"\x83\x86\x84\x01\x01a"));
    }
    let mut events = VecDeque::new();
    server.receive(octets.into());
    server.poll(&mut events);
    assert_eq!((events.len(), server.open_requests()), (2, 2), "{events:?}");
    let refused = frame(RST_STREAM, 5, &u32::from(Reason::REFUSED_STREAM).to_be_bytes());
    assert!(server.take_output().windows(refused.len()).any(|octets| octets == refused));
}

#[test]
fn small_parts_of_content_are_as_welcome_as_large_ones() {
    let mut rig = Rig::new(&LIMITS);
    let (call, id) = rig.open("/", false);
    for _ in 0..20_000 {
        rig.send(call, b"x", false);
        rig.drive();
    }
    rig.run();
    assert_eq!((rig.content(id).len(), rig.lost()), (20_000, 0));
}

#[test]
fn many_streams_are_told_apart() {
    let mut rig = Rig::new(&ServerLimits { max_streams: 1000, ..LIMITS });
    for n in 0..1000 {
        rig.start(post(&format!("/{n}")), false);
        rig.run();
    }
    for turn in 0..3 {
        for n in 0..1000 {
            rig.send(n, format!("{n} ").as_bytes(), turn == 2);
        }
        rig.run();
    }
    let ids = rig.accepted();
    assert_eq!((ids.len(), rig.server.open_requests()), (1000, 1000));
    let mut contents = std::collections::BTreeMap::<RequestId, Vec<u8>>::new();
    for report in &rig.reports {
        if let Received::Body(id, octets) = report {
            contents.entry(*id).or_default().extend_from_slice(octets);
        }
    }
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(contents[id], format!("{n} {n} {n} ").as_bytes());
        rig.server.respond(*id, ok(), false);
        assert_eq!(rig.server.room(*id, 4), 4);
        rig.server.finish_with(*id, format!("{n:04}").into());
    }
    rig.run();
    assert_eq!(rig.server.open_requests(), 0);
    for n in 0..1000 {
        assert_eq!(rig.call(n).received, format!("{n:04}").as_bytes());
    }
}

fn connect_udp() -> Request<()> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://server/.well-known/masque/udp/192.0.2.1/53/")
        .body(())
        .unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("connect-udp"));
    request
}

#[test]
fn an_extended_connect_is_a_tunnel() {
    let mut rig = Rig::new(&LIMITS);
    assert!(rig.requests.is_extended_connect_protocol_enabled());
    let call = rig.start(connect_udp(), false);
    rig.run();
    let Received::Request(id, head) = &rig.reports[0] else { panic!("{:?}", rig.reports[0]) };
    let (id, protocol) = (*id, head.extensions().get::<h2::ext::Protocol>().unwrap());
    assert_eq!((head.method(), protocol.as_str()), (&Method::CONNECT, "connect-udp"));
    rig.server.respond(id, ok(), false);
    for n in 1..4 {
        rig.send(call, b"ping", false);
        rig.run();
        assert_eq!(rig.content(id), b"ping".repeat(n));
        assert_eq!(rig.server.room(id, 4), 4);
        rig.server.send(id, Bytes::from_static(b"pong"));
        rig.run();
        assert_eq!(rig.call(call).received, b"pong".repeat(n));
    }
    rig.send(call, b"", true);
    rig.run();
    assert_eq!(rig.ends(id), [Ended::Complete]);
    rig.server.finish(id);
    rig.run();
    assert_eq!((rig.call(call).ended, rig.server.open_requests()), (Some(Ok(())), 0));
}

#[test]
fn without_extended_connect_none_is_offered_or_taken() {
    let mut rig = Rig::with_window(Server::without_extended_connect(&LIMITS), 1 << 20);
    assert!(!rig.requests.is_extended_connect_protocol_enabled());
    let call = rig.start(connect_udp(), false);
    rig.run();
    assert!(rig.reports.is_empty(), "{:?}", rig.reports);
    assert_eq!(rig.call(call).ended, Some(Err(Reason::PROTOCOL_ERROR)));
    assert!(rig.works());
}

/// What a client or the user of a server may do, to one of the streams.
#[derive(Debug, Clone)]
enum Step {
    Open(bool),
    Content(usize, usize, bool),
    Cancel(usize),
    Respond(usize, bool),
    Send(usize, usize),
    Finish(usize),
    Reset(usize),
    Abort(usize),
    Hold(usize, bool),
    Deliver,
    Run,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..64_usize;
    prop_oneof![
        any::<bool>().prop_map(Step::Open),
        (n.clone(), 0..4000_usize, any::<bool>())
            .prop_map(|(n, len, end)| Step::Content(n, len, end)),
        n.clone().prop_map(Step::Cancel),
        (n.clone(), any::<bool>()).prop_map(|(n, end)| Step::Respond(n, end)),
        (n.clone(), 0..4000_usize).prop_map(|(n, len)| Step::Send(n, len)),
        n.clone().prop_map(Step::Finish),
        n.clone().prop_map(Step::Reset),
        n.clone().prop_map(Step::Abort),
        (n, any::<bool>()).prop_map(|(n, held)| Step::Hold(n, held)),
        Just(Step::Deliver),
        Just(Step::Run),
    ]
}

fn take_step(rig: &mut Rig, step: &Step) {
    let call = |n: usize, rig: &Rig| (!rig.calls.is_empty()).then(|| n % rig.calls.len());
    let id = |n: usize, rig: &Rig| {
        let ids = rig.accepted();
        (!ids.is_empty()).then(|| ids[n % ids.len()])
    };
    match *step {
        Step::Open(end) => {
            if rig.requests.poll_ready(&mut cx()).is_ready() {
                rig.start(post("/"), end);
            }
        }
        Step::Content(n, len, end) => {
            if let Some(Some(call)) = call(n, rig).map(|n| &mut rig.calls[n]) {
                let _ = call.sending.send_data(vec![7; len].into(), end);
                rig.drive();
            }
        }
        Step::Cancel(n) => {
            if let Some(n) = call(n, rig) {
                rig.cancel(n);
            }
        }
        Step::Deliver => {
            rig.deliver();
        }
        Step::Run => rig.run(),
        Step::Respond(n, end) => {
            if let Some(id) = id(n, rig) {
                rig.server.respond(id, ok(), end);
            }
        }
        Step::Send(n, len) => {
            if let Some(id) = id(n, rig) {
                let room = rig.server.room(id, len);
                assert!(room <= len);
                rig.server.send(id, vec![7; room].into());
            }
        }
        Step::Finish(n) => {
            if let Some(id) = id(n, rig) {
                rig.server.finish(id);
            }
        }
        Step::Reset(n) => {
            if let Some(id) = id(n, rig) {
                rig.server.reset(id);
            }
        }
        Step::Abort(n) => {
            if let Some(id) = id(n, rig) {
                rig.server.abort(id, CANCEL);
            }
        }
        Step::Hold(n, held) => {
            if let Some(id) = id(n, rig) {
                rig.server.hold(id, held);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_both_sides_do_no_stream_is_forgotten(
        steps in prop::collection::vec(step(), 0..120),
        chunk in prop_oneof![1..50_usize, Just(usize::MAX)],
    ) {
        let limits = ServerLimits { max_streams: 20, ..LIMITS };
        let mut rig = Rig::with_window(Server::new(&limits), 5000);
        rig.chunk = chunk;
        for step in &steps {
            take_step(&mut rig, step);
            prop_assert!(rig.server.open_requests() <= 20);
        }
        rig.run();
        prop_assert_eq!(rig.lost(), 0);
        // Nothing is reported after a stream's last report, and its end only once.
        for id in rig.accepted() {
            let ends = rig.ends(id);
            let is_legal = matches!(
                ends.as_slice(),
                [] | [Ended::Complete | Ended::Reset(_)] | [Ended::Complete, Ended::Reset(_)]
            );
            prop_assert!(is_legal, "{:?}", ends);
        }
        // Once the client has given up all, and what is held is read, nothing is left.
        for call in 0..rig.calls.len() {
            rig.cancel(call);
        }
        for id in rig.accepted() {
            rig.server.hold(id, false);
        }
        rig.run();
        for id in rig.accepted() {
            rig.server.finish(id);
        }
        rig.run();
        prop_assert_eq!(rig.server.open_requests(), 0);
        prop_assert!(rig.works());
    }
}
