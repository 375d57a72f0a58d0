//! What the server promises, shown with a real HTTP/2 client in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::time::Duration;

use bridge::{Bytes, Ended, Link, Peer, Request, Response, StreamId};
use http_server::{Clients, Limits, RequestId, Service};
use support::Rig;

/// Answers by path: `/echo` with the content, `/later` after a second, `/stream` whenever the test
/// says so, `/next` with what the next filter answers, `/size/<n>` with so much content.
#[derive(Default)]
struct Paths {
    later: Vec<RequestId>,
    streams: Vec<RequestId>,
    next: Option<RequestId>,
    gone: Vec<RequestId>,
    requests: usize,
    closed: Option<Peer>,
}

fn ok() -> Response<()> {
    Response::new(())
}

impl Service for Paths {
    fn handle_request(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        request: Request<Bytes>,
    ) {
        self.requests += 1;
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/echo" => clients.respond_with(id, ok(), request.into_body()),
            "/later" => {
                self.later.push(id);
                link.set_deadline(Some(link.now() + Duration::from_secs(1)));
            }
            "/stream" => {
                clients.respond(id, ok(), false);
                self.streams.push(id);
            }
            "/next" => {
                self.next = Some(id);
                let request = Request::get("http://next/").body(()).unwrap();
                link.open(request, true).unwrap();
            }
            _ => {
                let size = path.rsplit('/').next().unwrap().parse().unwrap();
                clients.respond_with(id, ok(), Bytes::from(vec![b'x'; size]));
            }
        }
    }
    fn handle_gone(&mut self, _: &mut Link, clients: &mut Clients, id: RequestId) {
        clients.respond_with(id, ok(), Bytes::from_static(b"nobody reads this"));
        self.gone.push(id);
    }
    fn handle_room(&mut self, _: &mut Link, _: &mut Clients) {}
    fn handle_response(
        &mut self,
        _: &mut Link,
        clients: &mut Clients,
        _: StreamId,
        response: Response<()>,
    ) {
        let mut answer = ok();
        *answer.status_mut() = response.status();
        clients.respond_with(self.next.unwrap(), answer, Bytes::new());
    }
    fn handle_body(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Bytes) {}
    fn handle_ended(&mut self, _: &mut Link, _: &mut Clients, _: StreamId, _: Ended) {}
    fn handle_timeout(&mut self, _: &mut Link, clients: &mut Clients) {
        for id in self.later.drain(..) {
            clients.respond_with(id, ok(), Bytes::from_static(b"at last"));
        }
        for id in &self.streams {
            clients.send(*id, Bytes::from_static(b"more;"));
        }
    }
    fn handle_close(&mut self, by: Peer) {
        self.closed = Some(by);
    }
}

fn request(path: &str) -> Request<()> {
    Request::post(format!("http://server{path}")).body(()).unwrap()
}

fn rig(limits: Limits) -> Rig<Paths> {
    Rig::new(Paths::default(), &limits)
}

#[test]
fn a_request_is_answered_with_all_of_its_content() {
    let mut rig = rig(Limits { max_content: 3 << 20, ..Limits::default() });
    for len in [0, 1, 16_384, 16_385, 3 << 20] {
        let content: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let call = rig.call(request("/echo"), &content);
        let call = &rig.calls[call];
        assert_eq!((call.status.unwrap().as_u16(), call.ended), (200, Some(true)), "{len}");
        assert_eq!(call.header("content-length"), Some(&*len.to_string()));
        assert!(call.received == content);
    }
}

#[test]
fn an_answer_to_head_has_no_content() {
    let mut rig = rig(Limits::default());
    let head = |path: &str| Request::head(format!("http://server{path}")).body(()).unwrap();
    for (path, len) in [("/size/10", "10"), ("/size/0", "0")] {
        let call = rig.call(head(path), b"");
        let call = &rig.calls[call];
        assert_eq!((call.status.unwrap().as_u16(), call.ended), (200, Some(true)));
        assert_eq!((call.header("content-length"), call.text()), (Some(len), ""));
    }
    // Nor has one that would be streamed.
    let call = rig.call(head("/stream"), b"");
    rig.run();
    assert_eq!(rig.calls[call].ended, Some(true));
}

#[test]
fn requests_may_arrive_in_any_pieces() {
    for chunk in [1, 2, 9, 100] {
        let mut rig = rig(Limits::default());
        rig.chunk = chunk;
        let calls = [rig.call(request("/echo"), &[7; 3000]), rig.call(request("/size/5000"), b"")];
        assert_eq!(calls.map(|call| rig.calls[call].received.len()), [3000, 5000]);
    }
}

#[test]
fn requests_are_answered_in_any_order() {
    let mut rig = rig(Limits::default());
    let later = rig.call(request("/later"), b"");
    let echo = rig.call(request("/echo"), b"now");
    assert_eq!((rig.calls[later].status, rig.calls[echo].text()), (None, "now"));
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.calls[later].text(), "at last");
}

#[test]
fn an_answer_can_wait_for_the_next_filter() {
    let mut rig = rig(Limits::default());
    let call = rig.call(request("/next"), b"");
    rig.streams[0].respond(418, true);
    rig.run();
    assert_eq!(rig.calls[call].status.unwrap(), 418);
}

#[test]
fn more_content_than_allowed_is_answered_with_413_and_the_connection_goes_on() {
    let mut rig = rig(Limits { max_content: 1000, ..Limits::default() });
    let fits = rig.call(request("/echo"), &[7; 1000]);
    assert_eq!(rig.calls[fits].received.len(), 1000);
    let long = rig.call(request("/echo"), &[7; 1001]);
    assert_eq!(rig.calls[long].status.unwrap(), 413);
    // Before any of it was sent.
    let mut stated = request("/echo");
    stated.headers_mut().insert("content-length", "1001".parse().unwrap());
    let stated = rig.start(stated, false);
    rig.run();
    assert_eq!(rig.calls[stated].status.unwrap(), 413);
    assert_eq!(rig.bridge.protocol().service().requests, 1);
    let again = rig.call(request("/echo"), b"still here");
    assert_eq!(rig.calls[again].text(), "still here");
}

#[test]
fn incomplete_requests_together_hold_no_more_than_allowed() {
    let mut rig = rig(Limits { max_content: 1000, max_held: 1500, ..Limits::default() });
    let one = rig.start(request("/echo"), false);
    rig.send(one, &[1; 1000]);
    let other = rig.start(request("/echo"), false);
    rig.send(other, &[1; 501]);
    assert_eq!(rig.calls[other].status.unwrap(), 503);
    assert_eq!(rig.calls[other].header("retry-after"), Some("1"));
    // What is given up is not held any more.
    rig.cancel(one);
    for _ in 0..3 {
        let more = rig.call(request("/echo"), &[1; 1000]);
        assert_eq!(rig.calls[more].status.unwrap(), 200);
    }
}

#[test]
fn requests_beyond_the_limit_do_not_reach_the_service() {
    let mut rig = rig(Limits { max_requests: 2, ..Limits::default() });
    for _ in 0..3 {
        rig.call(request("/later"), b"");
    }
    assert_eq!(rig.bridge.protocol().service().requests, 2);
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.bridge.protocol().service().requests, 3);
    rig.wait(Duration::from_secs(1));
    assert!(rig.calls.iter().all(|call| call.text() == "at last"));
}

#[test]
fn a_service_hears_of_clients_that_give_up_only_if_it_knows_the_request() {
    let mut rig = rig(Limits::default());
    let incomplete = rig.start(request("/echo"), false);
    rig.run();
    rig.cancel(incomplete);
    assert!(rig.bridge.protocol().service().gone.is_empty());
    let waiting = rig.call(request("/later"), b"");
    let streaming = rig.call(request("/stream"), b"");
    rig.cancel(waiting);
    rig.cancel(streaming);
    assert_eq!(rig.bridge.protocol().service().gone.len(), 2);
    // An answer that comes too late does no harm.
    rig.wait(Duration::from_secs(1));
    let echo = rig.call(request("/echo"), b"fine");
    assert_eq!(rig.calls[echo].text(), "fine");
}

#[test]
fn an_answer_is_streamed_as_it_is_made() {
    let mut rig = rig(Limits::default());
    let call = rig.call(request("/stream"), b"");
    assert_eq!(rig.calls[call].status.unwrap(), 200);
    for n in 1..4 {
        let later = rig.call(request("/later"), b"");
        rig.wait(Duration::from_secs(1));
        assert_eq!(rig.calls[later].text(), "at last");
        assert_eq!(rig.calls[call].text(), "more;".repeat(n));
    }
    assert_eq!(rig.calls[call].ended, None);
}

#[test]
fn a_client_that_does_not_read_is_not_sent_more_than_it_has_room_for() {
    let mut rig = Rig::with_window(Paths::default(), &Limits::default(), 1000);
    let slow = rig.start(request("/size/100000"), true);
    rig.calls[slow].held = true;
    rig.run();
    assert_eq!((rig.calls[slow].status.unwrap().as_u16(), rig.calls[slow].ended), (200, None));
    // Others are not kept waiting.
    let other = rig.call(request("/echo"), &[1; 5000]);
    assert_eq!(rig.calls[other].received.len(), 5000);
    rig.calls[slow].held = false;
    rig.run();
    assert_eq!((rig.calls[slow].received.len(), rig.calls[slow].ended), (100_000, Some(true)));
}

#[test]
fn a_client_that_leaves_ends_everything() {
    let mut rig = rig(Limits::default());
    rig.call(request("/later"), b"");
    rig.call(request("/stream"), b"");
    rig.end();
    assert_eq!(rig.bridge.protocol().service().gone.len(), 2);
    assert!(rig.closed);
}

#[test]
fn what_is_not_http_closes_the_connection() {
    for octets in
        [&b"GET / HTTP/1.1\r\n\r\n       "[..], b"\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"]
    {
        let mut rig = rig(Limits::default());
        rig.corrupt(octets);
        assert!(rig.closed);
    }
}
