//! What the gateway promises, shown with HTTP clients and a scripted CoAP server in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

#[path = "../../../http-server/tests/support/mod.rs"]
mod support;

use std::rc::Rc;
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{Bytes, Request};
use coap_egress::{Config, Egress, Settings};
use codec_capsule::{Datagram, Decoded, UDP_PAYLOAD};
use codec_coap::{
    Block, CoapOption, Code, ContentFormat, Message, MessageType, OptionNumber, OptionValue,
    Options,
};
use filter_config::{Fraction, Mistakes, Seconds, Whole};
use proptest::prelude::*;
use support::Rig;

type N = OptionNumber;
use MessageType::{
    Acknowledgement as Ack, Confirmable as Con, NonConfirmable as Non, Reset as Rst,
};

const SECOND: Duration = Duration::from_secs(1);

/// HTTP clients, the gateway, and what a CoAP server sees of it.
struct World {
    rig: Rig<Egress>,
    metrics: Registry,
    /// How much of each flow was looked at.
    seen: Vec<usize>,
}

/// A datagram, and the flow it was sent in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    flow: usize,
    datagram: Bytes,
}

impl Sent {
    fn message(&self) -> Message<'_> {
        codec_coap::decode(&self.datagram).expect("the gateway sends valid messages")
    }
}

/// No randomness in timeouts.
fn config() -> Config {
    Config { ack_random_factor: Fraction(1.0), ..Config::default() }
}

impl World {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: Config) -> Self {
        Self::with_window(config, 1 << 20)
    }

    fn with_window(config: Config, window: u32) -> Self {
        let mut mistakes = Mistakes::default();
        let settings = Rc::new(Settings::compile(&config, "", &mut mistakes));
        assert!(mistakes.is_empty());
        let metrics = Registry::default();
        let limits = settings.server_limits();
        let egress = Egress::new(settings, &metrics, 42);
        Self { rig: Rig::with_window(egress, &limits, window), metrics, seen: Vec::new() }
    }

    fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> usize {
        let mut request = Request::builder().method(method).uri(format!("http://device{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.rig.call(request.body(()).unwrap(), body)
    }

    fn get(&mut self, path: &str) -> usize {
        self.call("GET", path, &[], b"")
    }

    /// The datagrams sent since the last look.
    fn sent(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for (flow, stream) in self.rig.streams.iter_mut().enumerate() {
            if self.seen.len() <= flow {
                self.seen.push(0);
                stream.respond(200, false);
            }
            while let Ok(Decoded::Complete { value, consumed }) =
                codec_capsule::decode(&stream.received[self.seen[flow]..], 65_535)
            {
                self.seen[flow] += consumed;
                let datagram = Datagram::decode(value.value).unwrap();
                assert_eq!(datagram.context_id, UDP_PAYLOAD);
                sent.push(Sent { flow, datagram: Bytes::copy_from_slice(datagram.payload) });
            }
        }
        self.rig.run();
        sent
    }

    /// The one datagram sent since the last look.
    fn one(&mut self) -> Sent {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    fn none(&mut self) {
        assert_eq!(self.sent(), []);
    }

    fn deliver(&mut self, flow: usize, message: &Message<'_>) {
        self.deliver_octets(flow, &encode(message));
    }

    fn deliver_octets(&mut self, flow: usize, datagram: &[u8]) {
        self.rig.streams[flow].send(&capsule(datagram));
        self.rig.run();
    }

    /// Answers a request in its acknowledgement.
    fn piggyback(&mut self, sent: &Sent, code: Code, options: &[CoapOption<'_>], payload: &[u8]) {
        let request = sent.message();
        let message_type = if request.message_type == Con { Ack } else { Non };
        let answer = Message {
            message_type,
            code,
            message_id: request.message_id,
            token: request.token,
            options: Options::from(options),
            payload,
        };
        self.deliver(sent.flow, &answer);
    }

    /// Sends a message with the token of a request, but an ID of the server's own.
    fn separate(
        &mut self,
        sent: &Sent,
        (message_type, message_id): (MessageType, u16),
        code: Code,
        options: &[CoapOption<'_>],
        payload: &[u8],
    ) {
        let options = Options::from(options);
        let token = sent.message().token;
        let message = Message { message_type, code, message_id, token, options, payload };
        self.deliver(sent.flow, &message);
    }

    fn empty(&mut self, sent: &Sent, message_type: MessageType) {
        let message_id = sent.message().message_id;
        self.deliver(sent.flow, &Message::empty(message_type, message_id));
    }

    fn status(&self, call: usize) -> Option<u16> {
        self.rig.calls[call].status.map(|status| status.as_u16())
    }

    fn text(&self, call: usize) -> &str {
        self.rig.calls[call].text()
    }

    fn header(&self, call: usize, name: &str) -> Option<&str> {
        self.rig.calls[call].header(name)
    }

    fn counted(&self, name: &str) -> i64 {
        self.metrics.counter(name, &[]).value()
    }

    fn requests(&self, method: &str, code: &str) -> i64 {
        self.metrics
            .counter("coap_egress_requests_total", &[("method", method), ("code", code)])
            .value()
    }

    /// Nothing is remembered of anything.
    fn assert_idle(&mut self) {
        self.rig.wait(SECOND * 20);
        assert_eq!(self.metrics.gauge("coap_egress_flows_active", &[]).value(), 0);
        assert_eq!(self.metrics.gauge("coap_egress_observations_active", &[]).value(), 0);
        assert!(self.rig.streams.iter().all(|stream| stream.ended == Some(true)));
        assert_eq!(self.rig.bridge.next_step().deadline, None);
    }
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut datagram = vec![0; message.encoded_len().unwrap()];
    message.encode(&mut datagram).unwrap();
    datagram
}

fn capsule(datagram: &[u8]) -> Vec<u8> {
    let datagram = Datagram { context_id: UDP_PAYLOAD, payload: datagram };
    let mut capsule = vec![0; datagram.encoded_len().unwrap()];
    datagram.encode(&mut capsule).unwrap();
    capsule
}

fn option<'a>(number: N, value: impl Into<OptionValue<'a>>) -> CoapOption<'a> {
    CoapOption::new(number, value)
}

fn is_answer(sent: &Sent, message_type: MessageType, message_id: u16) -> bool {
    sent.message() == Message::empty(message_type, message_id)
}

#[test]
fn a_request_becomes_a_coap_request_and_its_answer_the_response() {
    let mut world = World::new();
    let call = world.call("GET", "/sensors/1?unit=c", &[("accept", "application/json")], b"");
    let sent = world.one();
    let request = sent.message();
    assert_eq!((request.message_type, request.code), (Con, Code::GET));
    assert!(request.options.uri_path().eq(["sensors", "1"]));
    assert!(request.options.uri_query().eq(["unit=c"]));
    assert_eq!(request.options.accept(), Some(ContentFormat::JSON));
    assert_eq!(request.token.len(), 4);
    let stream = &world.rig.streams[0].request;
    assert_eq!(stream.method(), "POST");
    assert_eq!(stream.uri(), "http://device/sensors");
    assert_eq!(stream.headers()["x-protocol"], "coap");
    assert_eq!(stream.headers()["x-carry"], "flow");
    let options = [option(N::ETAG, &b"\x01"[..]), option(N::CONTENT_FORMAT, ContentFormat::JSON)];
    world.piggyback(&sent, Code::CONTENT, &options, b"21.5");
    assert_eq!((world.status(call), world.text(call)), (Some(200), "21.5"));
    assert_eq!(world.header(call, "content-type"), Some("application/json"));
    assert_eq!(world.header(call, "etag"), Some("\"01\""));
    assert_eq!(world.header(call, "cache-control"), Some("max-age=60"));
    assert_eq!(world.header(call, "content-length"), Some("4"));
    assert_eq!(world.requests("get", "content"), 1);
    world.assert_idle();
}

#[test]
fn every_method_carries_its_content() {
    let mut world = World::new();
    for (method, code, answer, status) in [
        ("POST", Code::POST, Code::CREATED, 201),
        ("PUT", Code::PUT, Code::CHANGED, 204),
        ("FETCH", Code::FETCH, Code::CONTENT, 200),
        ("PATCH", Code::PATCH, Code::CHANGED, 204),
        ("iPATCH", Code::IPATCH, Code::CHANGED, 204),
    ] {
        let call = world.call(method, "/a", &[("content-type", "text/plain")], b"on");
        let sent = world.one();
        assert_eq!((sent.message().code, sent.message().payload), (code, &b"on"[..]));
        assert_eq!(sent.message().options.content_format(), Some(ContentFormat::TEXT_PLAIN));
        world.piggyback(&sent, answer, &[], b"");
        assert_eq!(world.status(call), Some(status));
    }
    for (method, code) in [("DELETE", Code::DELETE), ("HEAD", Code::GET)] {
        let call = world.call(method, "/a", &[], b"");
        let sent = world.one();
        assert_eq!(sent.message().code, code);
        world.piggyback(&sent, Code::CONTENT, &[], b"x");
        assert_eq!(world.status(call), Some(200));
        assert_eq!(world.text(call), if method == "HEAD" { "" } else { "x" });
    }
    // All of them in one flow.
    assert_eq!(world.rig.streams.len(), 1);
}

#[test]
fn what_cannot_be_said_in_coap_is_answered_at_once() {
    let mut world = World::new();
    for (method, path, headers, status) in [
        ("OPTIONS", "/", &[][..], 501),
        ("GET", "/%ff", &[], 400),
        ("GET", "/", &[("accept", "text/html")], 406),
        ("PUT", "/", &[("if-match", "\"foreign\"")], 412),
        ("POST", "/", &[("content-type", "text/html")], 415),
        ("GET", "/", &[("x-coap-hop-limit", "1")], 508),
    ] {
        let call = world.call(method, path, headers, if method == "POST" { b"x" } else { b"" });
        assert_eq!(world.status(call), Some(status));
        assert!(!world.text(call).is_empty());
    }
    assert!(world.rig.streams.is_empty());
    let call = world.call("POST", "/a", &[("content-type", "text/html")], b"");
    let sent = world.one();
    assert_eq!(sent.message().options.content_format(), None);
    world.piggyback(&sent, Code::CHANGED, &[], b"");
    assert_eq!(world.status(call), Some(204));
}

#[test]
fn the_hop_limit_is_counted_down() {
    let mut world = World::with(Config { hop_limit: Some(Whole(16)), ..config() });
    world.get("/a");
    assert_eq!(world.one().message().options.hop_limit(), Some(16));
    world.call("GET", "/b", &[("x-coap-hop-limit", "9")], b"");
    assert_eq!(world.one().message().options.hop_limit(), Some(8));
}

#[test]
fn errors_of_the_server_are_passed_on_with_their_explanation() {
    let mut world = World::new();
    for (code, status) in
        [(Code::NOT_FOUND, 404), (Code::UNAUTHORIZED, 403), (Code::BAD_OPTION, 500)]
    {
        let call = world.get("/a");
        let sent = world.one();
        world.piggyback(&sent, code, &[], b"because");
        assert_eq!((world.status(call), world.text(call)), (Some(status), "because"));
    }
    for code in [Code::SERVICE_UNAVAILABLE, Code::TOO_MANY_REQUESTS] {
        let call = world.get("/a");
        let sent = world.one();
        world.piggyback(&sent, code, &[option(N::MAX_AGE, 7)], b"");
        assert_eq!(world.header(call, "retry-after"), Some("7"));
    }
    let call = world.call("GET", "/a", &[("if-none-match", "\"01\"")], b"");
    let sent = world.one();
    assert!(sent.message().options.etags().eq([&[1][..]]));
    world.piggyback(&sent, Code::VALID, &[option(N::ETAG, &b"\x01"[..])], b"");
    assert_eq!((world.status(call), world.text(call)), (Some(304), ""));
    // Which has no content, whatever the server sends.
    for szx in [0, 6] {
        let call = world.get("/a");
        loop {
            let Some(sent) = world.sent().pop() else { break };
            let num = sent.message().options.block2().map_or(0, |block| block.num);
            let block = Block { num, more: num == 0 && szx == 0, szx };
            world.piggyback(&sent, Code::VALID, &[option(N::BLOCK2, block)], &[b'x'; 16]);
        }
        assert_eq!((world.status(call), world.text(call)), (Some(304), ""));
        assert_eq!(world.rig.calls[call].ended, Some(true));
    }
}

#[test]
fn a_lost_request_is_sent_again_and_again_until_it_times_out() {
    let mut world = World::new();
    let call = world.get("/a");
    let first = world.one();
    // ACK_TIMEOUT 2 s, doubled each time; at 2, 6, 14, 30 and the end at 62 s.
    for wait in [2, 4, 8, 16] {
        world.rig.wait(SECOND * wait - SECOND / 1000);
        world.none();
        world.rig.wait(SECOND / 1000);
        assert_eq!(world.one(), first, "a retransmission is the same datagram");
    }
    world.rig.wait(SECOND * 32 - SECOND / 1000);
    assert_eq!(world.status(call), None);
    world.rig.wait(SECOND / 1000);
    assert_eq!(world.status(call), Some(504));
    assert_eq!(world.counted("coap_egress_retransmissions_total"), 4);
    assert_eq!(world.counted("coap_egress_timeouts_total"), 1);
    assert_eq!(world.requests("get", "timeout"), 1);
    world.assert_idle();
}

#[test]
fn the_first_timeout_is_random_between_its_bounds() {
    let mut world = World::with(Config {
        ack_random_factor: Fraction(1.5),
        nstart: Whole(1000),
        max_queued_requests: Whole(0),
        ..Config::default()
    });
    for _ in 0..200 {
        world.get("/a");
    }
    assert_eq!(world.sent().len(), 200);
    world.rig.wait(SECOND * 2 - SECOND / 1000);
    world.none();
    world.rig.wait(SECOND / 2);
    let early = world.sent().len();
    assert!((50..150).contains(&early), "{early}");
    world.rig.wait(SECOND / 2);
    assert_eq!(early + world.sent().len(), 200);
}

#[test]
fn an_answer_to_a_retransmission_is_the_answer() {
    let mut world = World::new();
    let call = world.get("/a");
    let sent = world.one();
    world.rig.wait(SECOND * 3);
    world.one();
    world.piggyback(&sent, Code::CONTENT, &[], b"x");
    assert_eq!(world.status(call), Some(200));
    // The second answer, to the retransmission, has no effect.
    world.piggyback(&sent, Code::NOT_FOUND, &[], b"");
    world.none();
    world.assert_idle();
}

#[test]
fn a_separate_response_is_acknowledged_as_often_as_it_comes() {
    let mut world = World::new();
    let call = world.get("/a");
    let sent = world.one();
    world.empty(&sent, Ack);
    // What was acknowledged cannot be reset.
    world.empty(&sent, Rst);
    world.rig.wait(SECOND * 50);
    world.none();
    assert_eq!(world.status(call), None);
    for _ in 0..3 {
        world.separate(&sent, (Con, 7), Code::CONTENT, &[], b"late");
        let answer = world.one();
        assert!(is_answer(&answer, Ack, 7), "{answer:?}");
    }
    assert_eq!(world.text(call), "late");
    world.assert_idle();
}

#[test]
fn a_separate_response_may_overtake_the_acknowledgement() {
    let mut world = World::new();
    let call = world.get("/a");
    let sent = world.one();
    world.separate(&sent, (Non, 7), Code::CONTENT, &[], b"fast");
    world.none();
    assert_eq!(world.text(call), "fast");
    world.empty(&sent, Ack);
    world.rig.wait(SECOND * 5);
    world.none();
}

#[test]
fn an_acknowledged_request_without_a_response_times_out() {
    let mut world = World::with(Config { response_timeout: Seconds(SECOND * 10), ..config() });
    let call = world.get("/a");
    let sent = world.one();
    world.rig.wait(SECOND);
    world.empty(&sent, Ack);
    world.rig.wait(SECOND * 10 - SECOND / 1000);
    assert_eq!(world.status(call), None);
    world.rig.wait(SECOND / 1000);
    assert_eq!(world.status(call), Some(504));
    world.none();
    // What comes too late is rejected.
    world.separate(&sent, (Con, 9), Code::CONTENT, &[], b"");
    let answer = world.one();
    assert!(is_answer(&answer, Rst, 9));
}

#[test]
fn a_reset_is_a_bad_gateway() {
    let mut world = World::new();
    let call = world.get("/a");
    let sent = world.one();
    world.empty(&sent, Rst);
    assert_eq!(world.status(call), Some(502));
    assert_eq!(world.requests("get", "reset"), 1);
    world.assert_idle();
}

#[test]
fn non_confirmable_requests_are_sent_once() {
    let mut world = World::with(Config { response_timeout: Seconds(SECOND * 10), ..config() });
    let answered = world.call("GET", "/a", &[("x-coap-type", "NON")], b"");
    let sent = world.one();
    assert_eq!(sent.message().message_type, Non);
    world.separate(&sent, (Non, 1), Code::CONTENT, &[], b"x");
    assert_eq!(world.text(answered), "x");
    let reset = world.call("GET", "/a", &[("x-coap-type", "non")], b"");
    let sent = world.one();
    world.empty(&sent, Rst);
    assert_eq!(world.status(reset), Some(502));
    let lost = world.call("GET", "/a", &[("x-coap-type", "non")], b"");
    world.one();
    world.rig.wait(SECOND * 10);
    world.none();
    assert_eq!(world.status(lost), Some(504));
}

#[test]
fn an_unknown_critical_option_rejects_the_response() {
    let unknown = [option(OptionNumber(65_001), &b""[..])];
    let mut world = World::new();
    let piggybacked = world.get("/a");
    let sent = world.one();
    world.piggyback(&sent, Code::CONTENT, &unknown, b"x");
    assert_eq!(world.status(piggybacked), Some(502));
    let separate = world.get("/a");
    let sent = world.one();
    for _ in 0..2 {
        world.separate(&sent, (Con, 5), Code::CONTENT, &unknown, b"x");
        let answer = world.one();
        assert!(is_answer(&answer, Rst, 5));
    }
    assert_eq!(world.status(separate), Some(502));
    // An elective one is ignored.
    let call = world.get("/a");
    let sent = world.one();
    world.piggyback(&sent, Code::CONTENT, &[option(OptionNumber(65_000), &b""[..])], b"x");
    assert_eq!(world.status(call), Some(200));
    // A malformed critical one is no better than an unknown one: a Block2 of four bytes.
    let call = world.get("/a");
    let sent = world.one();
    let message = sent.message();
    let [high, low] = message.message_id.to_be_bytes();
    let mut datagram = vec![0x64, Code::CONTENT.0, high, low];
    datagram.extend_from_slice(message.token);
    datagram.extend_from_slice(&[0xd4, 10, 0, 0, 0, 0]);
    world.deliver_octets(sent.flow, &datagram);
    assert_eq!(world.status(call), Some(502));
}

#[test]
fn what_is_no_message_for_us_has_no_effect() {
    let mut world = World::new();
    let call = world.get("/a");
    let sent = world.one();
    let id = sent.message().message_id;
    let [high, low] = id.to_be_bytes();
    // Not CoAP at all, another version, a truncated token: ignored, or reset where confirmable.
    world.deliver_octets(0, b"");
    world.deliver_octets(0, b"\x60");
    world.deliver_octets(0, b"\x80\x45\x00\x01");
    world.deliver_octets(0, &[0x68, 0x45, high, low, 1]);
    world.none();
    world.deliver_octets(0, &[0x48, 0x45, 0, 1, 1]);
    let answer = world.one();
    assert!(is_answer(&answer, Rst, 1));
    // The right message ID with another token, another message ID, and a token nobody has.
    let token = &b"none"[..];
    let content = Message {
        message_type: Ack,
        code: Code::CONTENT,
        message_id: id,
        token,
        options: Options::EMPTY,
        payload: b"forged",
    };
    world.deliver(0, &content);
    let unknown = [option(OptionNumber(65_001), &b""[..])];
    world.deliver(0, &Message { options: Options::from(&unknown), ..content });
    world.deliver(0, &Message { message_id: id.wrapping_add(1), ..content });
    world.deliver(0, &Message { message_type: Non, message_id: 2, ..content });
    world.deliver(0, &Message::empty(Rst, id.wrapping_add(1)));
    world.none();
    world.deliver(0, &Message { message_type: Con, message_id: 3, ..content });
    let answer = world.one();
    assert!(is_answer(&answer, Rst, 3));
    // A ping, and a request to what is only a client.
    world.deliver(0, &Message::empty(Con, 4));
    let answer = world.one();
    assert!(is_answer(&answer, Rst, 4));
    world.deliver(
        0,
        &Message { message_type: Con, code: Code::GET, message_id: 6, payload: b"", ..content },
    );
    let answer = world.one();
    assert!(is_answer(&answer, Rst, 6));
    // Capsules of other types and contexts are skipped, however long they say they are.
    world.rig.streams[0].send(b"\x17\x03abc\x00\x03\x02hi");
    world.rig.run();
    assert_eq!(world.status(call), None);
    world.piggyback(&sent, Code::CONTENT, &[], b"real");
    assert_eq!(world.text(call), "real");
}

#[test]
fn requests_of_a_flow_wait_for_their_turn() {
    let mut world = World::with(Config { max_queued_requests: Whole(2), ..config() });
    let calls: Vec<_> = (0..4).map(|n| world.get(&format!("/a/{n}"))).collect();
    // One is on its way, two wait, one is too many.
    assert_eq!(world.status(calls[3]), Some(503));
    assert_eq!(world.header(calls[3], "retry-after"), Some("1"));
    let first = world.one();
    world.piggyback(&first, Code::CONTENT, &[], b"0");
    let second = world.one();
    assert!(second.message().options.uri_path().eq(["a", "1"]));
    // An acknowledgement is enough to let the next one go.
    world.empty(&second, Ack);
    let third = world.one();
    world.piggyback(&third, Code::CONTENT, &[], b"2");
    world.separate(&second, (Non, 1), Code::CONTENT, &[], b"1");
    assert_eq!([0, 1, 2].map(|n| world.text(calls[n]).to_owned()), ["0", "1", "2"]);
    // Another first segment is another flow, and does not wait.
    world.get("/a");
    world.get("/b");
    assert_eq!(world.sent().iter().map(|sent| sent.flow).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_client_that_gives_up_frees_the_flow() {
    let mut world = World::new();
    let first = world.get("/a");
    let waiting = world.get("/a");
    let last = world.get("/a/last");
    world.one();
    world.rig.cancel(waiting);
    world.none();
    world.rig.cancel(first);
    let sent = world.one();
    assert!(sent.message().options.uri_path().eq(["a", "last"]));
    world.piggyback(&sent, Code::CONTENT, &[], b"x");
    assert_eq!(world.text(last), "x");
    assert_eq!(world.requests("get", "gone"), 2);
    world.assert_idle();
}

#[test]
fn flows_are_shared_reused_bounded_and_ended() {
    let mut world = World::with(Config { max_flows: Whole(2), ..config() });
    for _ in 0..2 {
        world.get("/a");
        let sent = world.one();
        world.piggyback(&sent, Code::CONTENT, &[], b"");
        world.rig.wait(SECOND * 9);
        world.get("/b");
        let sent = world.one();
        world.piggyback(&sent, Code::CONTENT, &[], b"");
    }
    assert_eq!(world.rig.streams.len(), 2);
    let third = world.get("/c");
    assert_eq!(world.status(third), Some(503));
    world.rig.wait(SECOND);
    assert_eq!(world.rig.streams[0].ended, Some(true));
    world.rig.streams[0].finish();
    world.rig.run();
    let third = world.get("/c");
    assert_eq!((world.status(third), world.rig.streams.len()), (None, 3));
}

#[test]
fn a_flow_is_replaced_before_its_message_ids_return() {
    let mut world = World::with(Config { nstart: Whole(1000), ..config() });
    let mut ids = std::collections::BTreeSet::new();
    for batch in 0..61 {
        for _ in 0..1000 {
            world.rig.start(Request::get("http://device/a").body(()).unwrap(), true);
        }
        world.rig.run();
        for sent in world.sent() {
            assert!(ids.insert((sent.flow, sent.message().message_id)));
            let message = sent.message();
            let answer =
                Message { message_type: Ack, code: Code::CONTENT, payload: b"", ..message };
            let answer = Message { options: Options::EMPTY, ..answer };
            world.rig.streams[sent.flow].send(&capsule(&encode(&answer)));
        }
        world.rig.run();
        let open = world.rig.calls.iter().filter(|call| call.ended != Some(true)).count();
        assert_eq!(open, 0, "of batch {batch}");
        world.rig.calls.clear();
    }
    assert_eq!((ids.len(), world.rig.streams.len()), (61_000, 2));
    assert_eq!(world.rig.streams[0].ended, Some(true));
}

#[test]
fn a_refused_flow_answers_its_requests_with_the_status_of_the_refusal() {
    for (status, expected) in [(403, 403), (404, 404), (503, 503), (302, 502)] {
        let mut world = World::new();
        let calls = [world.get("/a"), world.get("/a")];
        world.rig.streams[0].respond(status, true);
        world.rig.run();
        for call in calls {
            assert_eq!(world.status(call), Some(expected));
        }
        // The next request tries again.
        world.get("/a");
        assert_eq!(world.rig.streams.len(), 2);
    }
}

#[test]
fn a_lost_flow_is_a_bad_gateway() {
    let mut world = World::new();
    let call = world.get("/a");
    world.one();
    world.rig.streams[0].reset();
    world.rig.run();
    assert_eq!(world.status(call), Some(502));

    let observer = world.call("GET", "/a", &[("accept", "text/event-stream")], b"");
    let sent = world.one();
    world.piggyback(&sent, Code::CONTENT, &[option(N::OBSERVE, 1)], b"");
    world.rig.streams[1].finish();
    world.rig.run();
    assert!(
        world
            .text(observer)
            .ends_with("event: error\ndata: the way to the CoAP server was lost\n\n")
    );
    assert_eq!(world.rig.calls[observer].ended, Some(true));
    assert_eq!(world.rig.streams[1].ended, Some(true));
}

#[test]
fn a_flow_may_be_lost_while_it_is_idle() {
    let mut world = World::new();
    world.get("/a");
    let sent = world.one();
    world.piggyback(&sent, Code::CONTENT, &[], b"");
    world.rig.streams[0].finish();
    world.rig.run();
    assert_eq!(world.rig.bridge.next_step().deadline, None);
    world.assert_idle();
}

// Block-wise transfers.

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 7 + n) as u8).collect()
}

/// Answers requests with the blocks of a body, and checks what they ask for.
fn serve_blocks(world: &mut World, body: &[u8], szx: u8, etag: &[u8]) -> usize {
    let mut requests = 0;
    loop {
        let sent = world.sent();
        if sent.is_empty() {
            return requests;
        }
        for sent in sent {
            requests += 1;
            let asked =
                sent.message().options.block2().unwrap_or(Block { num: 0, more: false, szx });
            let szx = asked.szx.min(szx);
            let start = asked.offset() as usize;
            let end = body.len().min(start + (16 << szx));
            let block = Block { num: (start >> (4 + szx)) as u32, more: end < body.len(), szx };
            let options = [option(N::ETAG, etag), option(N::BLOCK2, block)];
            world.piggyback(&sent, Code::CONTENT, &options, &body[start..end]);
        }
    }
}

#[test]
fn a_response_in_blocks_is_put_together() {
    for (len, szx, requests) in
        [(16, 0, 1), (17, 0, 2), (1024, 6, 1), (1025, 6, 2), (1 << 20, 6, 1024)]
    {
        let mut world = World::new();
        let call = world.get("/a");
        assert_eq!(serve_blocks(&mut world, &body(len), szx, b"\x01"), requests);
        assert_eq!(world.status(call), Some(200), "{len}");
        assert!(world.rig.calls[call].received == body(len));
        assert_eq!(world.header(call, "content-length"), Some(&*len.to_string()));
        world.assert_idle();
    }
}

#[test]
fn a_response_that_is_too_long_is_a_bad_gateway() {
    let mut world = World::with(Config { max_response_size: Whole(2048), ..config() });
    let call = world.get("/a");
    serve_blocks(&mut world, &body(2048), 6, b"\x01");
    assert_eq!(world.rig.calls[call].received.len(), 2048);
    let call = world.get("/a");
    assert_eq!(serve_blocks(&mut world, &body(2049), 6, b"\x01"), 3);
    assert_eq!(world.status(call), Some(502));
    // At once, if it says how long it is.
    let call = world.get("/a");
    let sent = world.one();
    let options = [option(N::BLOCK2, Block { num: 0, more: true, szx: 6 }), option(N::SIZE2, 2049)];
    world.piggyback(&sent, Code::CONTENT, &options, &body(1024));
    world.none();
    assert_eq!(world.status(call), Some(502));
    let call = world.get("/a");
    let sent = world.one();
    world.piggyback(&sent, Code::CONTENT, &[], &body(2049));
    assert_eq!(world.status(call), Some(502));
}

#[test]
fn incomplete_responses_together_hold_no_more_than_allowed() {
    let mut world = World::with(Config { max_held_size: Whole(2000), ..config() });
    let more = [option(N::BLOCK2, Block { num: 0, more: true, szx: 6 })];
    let calls = [world.get("/a"), world.get("/b")];
    for sent in world.sent() {
        world.piggyback(&sent, Code::CONTENT, &more, &body(1024));
    }
    assert_eq!((world.status(calls[0]), world.status(calls[1])), (None, Some(503)));
    world.rig.cancel(calls[0]);
    world.sent();
    let call = world.get("/c");
    serve_blocks(&mut world, &body(1500), 6, b"\x01");
    assert_eq!(world.status(call), Some(200));
}

#[test]
fn a_resource_that_changes_meanwhile_is_asked_for_again() {
    let mut world = World::new();
    let call = world.get("/a");
    let sent = world.one();
    let more = |num, more| option(N::BLOCK2, Block { num, more, szx: 0 });
    world.piggyback(
        &sent,
        Code::CONTENT,
        &[option(N::ETAG, &b"\x01"[..]), more(0, true)],
        &[b'a'; 16],
    );
    let sent = world.one();
    assert_eq!(sent.message().options.block2(), Some(Block { num: 1, more: false, szx: 0 }));
    world.piggyback(&sent, Code::CONTENT, &[option(N::ETAG, &b"\x02"[..]), more(1, false)], b"b");
    assert_eq!(serve_blocks(&mut world, &[b'b'; 17], 0, b"\x02"), 2);
    assert_eq!(world.text(call), "b".repeat(17));
    // But not for ever.
    let call = world.get("/a");
    for n in 0..3 {
        let sent = world.one();
        world.piggyback(
            &sent,
            Code::CONTENT,
            &[option(N::ETAG, &[1, n][..]), more(0, true)],
            &[b'a'; 16],
        );
        let sent = world.one();
        world.piggyback(
            &sent,
            Code::CONTENT,
            &[option(N::ETAG, &[2, n][..]), more(1, true)],
            &[b'b'; 16],
        );
    }
    world.none();
    assert_eq!(world.status(call), Some(502));
}

#[test]
fn blocks_that_do_not_fit_together_are_a_bad_gateway() {
    let block = |num, more| option(N::BLOCK2, Block { num, more, szx: 0 });
    let whole = [b'x'; 16];
    // What the server answers to the first and the second request.
    for (first, second) in [
        ((block(1, true), &whole[..]), None),
        ((block(0, true), &whole[..15]), None),
        ((block(0, true), &whole[..]), Some((block(2, false), &whole[..]))),
        ((block(0, true), &whole[..]), Some((block(0, true), &whole[..]))),
        ((block(0, true), &whole[..]), Some((block(1, true), &whole[..3]))),
        ((block(0, true), &whole[..]), Some((option(N::SIZE2, 1), &whole[..]))),
    ] {
        let mut world = World::new();
        let call = world.get("/a");
        let sent = world.one();
        world.piggyback(&sent, Code::CONTENT, &[first.0], first.1);
        if let Some((second, payload)) = second {
            let sent = world.one();
            world.piggyback(&sent, Code::CONTENT, &[second], payload);
        }
        world.none();
        assert_eq!(world.status(call), Some(502));
    }
    // An error instead of the next block is the answer.
    let mut world = World::new();
    let call = world.get("/a");
    let sent = world.one();
    world.piggyback(&sent, Code::CONTENT, &[block(0, true)], &whole);
    let sent = world.one();
    world.piggyback(&sent, Code::NOT_FOUND, &[], b"gone");
    assert_eq!((world.status(call), world.text(call)), (Some(404), "gone"));
}

/// Takes the blocks of a request, and answers the last one.
struct Taker {
    taken: Vec<u8>,
    szx: u8,
    requests: usize,
}

impl Taker {
    fn new(szx: u8) -> Self {
        Self { taken: Vec::new(), szx, requests: 0 }
    }

    fn run(&mut self, world: &mut World) {
        loop {
            let sent = world.sent();
            if sent.is_empty() {
                return;
            }
            for sent in sent {
                self.take(world, &sent);
            }
        }
    }

    fn take(&mut self, world: &mut World, sent: &Sent) {
        self.requests += 1;
        let message = sent.message();
        let block = message.options.block1().unwrap();
        if block.num == 0 {
            self.taken.clear();
        }
        assert_eq!(block.offset() as usize, self.taken.len());
        assert!(!block.more || message.payload.len() == block.size() as usize);
        self.taken.extend_from_slice(message.payload);
        let code = if block.more { Code::CONTINUE } else { Code::CHANGED };
        let answer = Block { szx: block.szx.min(self.szx), ..block };
        world.piggyback(sent, code, &[option(N::BLOCK1, answer)], b"");
    }
}

#[test]
fn long_content_is_sent_in_blocks_in_a_flow_of_its_own() {
    for (len, requests) in [(1025, 2), (2048, 2), (1 << 20, 1024)] {
        let mut world = World::new();
        world.get("/a");
        world.one();
        let call =
            world.call("PUT", "/a", &[("content-type", "application/octet-stream")], &body(len));
        let first = world.one();
        assert_eq!(first.flow, 1);
        assert_eq!(world.rig.streams[1].request.uri(), "http://device/a");
        assert_eq!(first.message().options.size1(), Some(len as u32));
        assert_eq!(first.message().options.content_format(), Some(ContentFormat::OCTET_STREAM));
        let mut taker = Taker::new(6);
        taker.take(&mut world, &first);
        taker.run(&mut world);
        assert_eq!((world.status(call), taker.requests), (Some(204), requests));
        assert!(taker.taken == body(len));
        world.rig.wait(SECOND * 10);
        assert_eq!(world.rig.streams[1].ended, Some(true));
    }
}

#[test]
fn uploads_share_a_flow_one_after_the_other_but_never_at_once() {
    let mut world = World::new();
    let one = world.call("PUT", "/a", &[], &body(2000));
    let other = world.call("PUT", "/a", &[], &body(3000));
    let firsts = world.sent();
    assert_eq!(firsts.iter().map(|sent| sent.flow).collect::<Vec<_>>(), [0, 1]);
    for (first, call) in firsts.iter().zip([one, other]) {
        let mut taker = Taker::new(6);
        taker.take(&mut world, first);
        taker.run(&mut world);
        assert_eq!(world.status(call), Some(204));
    }
    // One is kept.
    assert_eq!((world.rig.streams[0].ended, world.rig.streams[1].ended), (None, Some(true)));
    let next = world.call("PUT", "/a", &[], &body(2000));
    let mut taker = Taker::new(6);
    taker.run(&mut world);
    assert_eq!((world.status(next), world.rig.streams.len()), (Some(204), 2));
    for _ in 0..2 {
        world.call("PUT", "/a", &[], &body(2000));
    }
    assert_eq!(world.sent().iter().map(|sent| sent.flow).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_server_that_wants_to_see_its_echo_sees_it_once() {
    let mut world = World::new();
    let echo = [option(N::ECHO, &b"fresh"[..])];
    let call = world.get("/a");
    let sent = world.one();
    world.piggyback(&sent, Code::UNAUTHORIZED, &echo, b"");
    let sent = world.one();
    assert_eq!(sent.message().options.echo(), Some(&b"fresh"[..]));
    world.piggyback(&sent, Code::CONTENT, &[], b"x");
    assert_eq!(world.status(call), Some(200));
    let call = world.get("/a");
    for _ in 0..2 {
        let sent = world.one();
        world.piggyback(&sent, Code::UNAUTHORIZED, &echo, b"");
    }
    world.none();
    assert_eq!(world.status(call), Some(403));
}

#[test]
fn content_up_to_a_block_is_sent_as_it_is() {
    let mut world = World::new();
    world.call("PUT", "/a", &[], &body(1024));
    let sent = world.one();
    assert_eq!((sent.flow, sent.message().options.block1()), (0, None));
    assert_eq!(sent.message().payload, body(1024));
}

#[test]
fn the_server_may_ask_for_smaller_blocks() {
    let mut world = World::new();
    // For the next ones.
    let call = world.call("PUT", "/a", &[], &body(3000));
    let mut taker = Taker::new(2);
    taker.run(&mut world);
    assert_eq!(world.status(call), Some(204));
    assert!(taker.taken == body(3000));
    assert_eq!(taker.requests, 1 + (3000_usize - 1024).div_ceil(64));
    // From the beginning, with 4.13.
    let call = world.call("PUT", "/a", &[], &body(3000));
    let sent = world.one();
    let hint = [option(N::BLOCK1, Block { num: 0, more: true, szx: 3 })];
    world.piggyback(&sent, Code::REQUEST_ENTITY_TOO_LARGE, &hint, b"");
    let mut taker = Taker::new(6);
    taker.run(&mut world);
    assert_eq!((world.status(call), taker.requests), (Some(204), 3000_usize.div_ceil(128)));
    assert!(taker.taken == body(3000));
    // Also for what was sent as it is.
    let call = world.call("PUT", "/a", &[], &body(500));
    let sent = world.one();
    world.piggyback(&sent, Code::REQUEST_ENTITY_TOO_LARGE, &hint, b"");
    let mut taker = Taker::new(6);
    taker.run(&mut world);
    assert_eq!((world.status(call), taker.requests), (Some(204), 4));
    // Without a smaller size it is simply too large.
    let call = world.call("PUT", "/a", &[], &body(3000));
    let sent = world.one();
    world.piggyback(&sent, Code::REQUEST_ENTITY_TOO_LARGE, &[], b"");
    assert_eq!(world.status(call), Some(413));
    world.assert_idle();
}

#[test]
fn a_transfer_that_the_server_lost_begins_again() {
    let mut world = World::new();
    let call = world.call("PUT", "/a", &[], &body(2000));
    let mut taker = Taker::new(6);
    let first = world.one();
    taker.take(&mut world, &first);
    let second = world.one();
    world.piggyback(&second, Code::REQUEST_ENTITY_INCOMPLETE, &[], b"");
    taker.run(&mut world);
    assert_eq!((world.status(call), taker.requests), (Some(204), 3));
    // But not for ever.
    let call = world.call("PUT", "/a", &[], &body(2000));
    for _ in 0..3 {
        let sent = world.one();
        assert_eq!(sent.message().options.block1().unwrap().num, 0);
        world.piggyback(&sent, Code::REQUEST_ENTITY_INCOMPLETE, &[], b"");
    }
    world.none();
    assert_eq!(world.status(call), Some(502));
}

#[test]
fn answers_that_do_not_fit_the_blocks_sent_are_a_bad_gateway() {
    let other = [option(N::BLOCK1, Block { num: 1, more: true, szx: 6 })];
    for options in [&[][..], &other[..]] {
        let mut world = World::new();
        let call = world.call("PUT", "/a", &[], &body(2000));
        let sent = world.one();
        world.piggyback(&sent, Code::CONTINUE, options, b"");
        assert_eq!(world.status(call), Some(502));
    }
    let mut world = World::new();
    let call = world.call("PUT", "/a", &[], b"short");
    let sent = world.one();
    world.piggyback(&sent, Code::CONTINUE, &[], b"");
    assert_eq!(world.status(call), Some(502));
    // A server may refuse, or be content, before it has everything.
    for (code, status) in [(Code::FORBIDDEN, 403), (Code::CHANGED, 204)] {
        let call = world.call("PUT", "/a", &[], &body(2000));
        let sent = world.one();
        world.piggyback(&sent, code, &[], b"");
        world.none();
        assert_eq!(world.status(call), Some(status));
    }
}

#[test]
fn content_and_response_may_both_come_in_blocks() {
    let mut world = World::new();
    let call = world.call("POST", "/a", &[], &body(1500));
    let mut taken = Vec::new();
    for _ in 0..2 {
        let sent = world.one();
        let message = sent.message();
        taken.extend_from_slice(message.payload);
        let block = message.options.block1().unwrap();
        if block.more {
            world.piggyback(&sent, Code::CONTINUE, &[option(N::BLOCK1, block)], b"");
        } else {
            let more = option(N::BLOCK2, Block { num: 0, more: true, szx: 0 });
            world.piggyback(&sent, Code::CHANGED, &[more, option(N::BLOCK1, block)], &[b'r'; 16]);
        }
    }
    assert!(taken == body(1500));
    let sent = world.one();
    let message = sent.message();
    assert_eq!((message.code, message.payload), (Code::POST, &b""[..]));
    assert_eq!(message.options.block1(), None);
    world.piggyback(
        &sent,
        Code::CHANGED,
        &[option(N::BLOCK2, Block { num: 1, more: false, szx: 0 })],
        b"s",
    );
    assert_eq!((world.status(call), world.text(call)), (Some(200), "rrrrrrrrrrrrrrrrs"));
    // What a FETCH asks for is part of every request.
    let call = world.call("FETCH", "/a", &[], b"[1]");
    let sent = world.one();
    world.piggyback(
        &sent,
        Code::CONTENT,
        &[option(N::BLOCK2, Block { num: 0, more: true, szx: 0 })],
        &[b'r'; 16],
    );
    let sent = world.one();
    assert_eq!(sent.message().payload, b"[1]");
    world.piggyback(
        &sent,
        Code::CONTENT,
        &[option(N::BLOCK2, Block { num: 1, more: false, szx: 0 })],
        b"s",
    );
    assert_eq!(world.status(call), Some(200));
    world.assert_idle();
}

#[test]
fn transfers_survive_loss_duplication_and_reordering() {
    // Requests and answers get lost, answers come twice, late and in the wrong order; always the
    // same ones.
    let mut world = World::new();
    let upload = world.call("PUT", "/up", &[], &body(20_000));
    let download = world.get("/down");
    let (sent_body, served) = (body(20_000), body(30_000));
    let mut taken = vec![0; 20_000];
    let mut late: Vec<(Sent, Vec<u8>)> = Vec::new();
    let mut n = 0_u32;
    for _ in 0..10_000 {
        if world.status(upload).is_some() && world.status(download).is_some() {
            break;
        }
        let mut replies = std::mem::take(&mut late);
        for sent in world.sent() {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if n >> 24 & 7 == 0 {
                continue;
            }
            let message = sent.message();
            let mut options = Vec::new();
            let (code, payload) = match message.options.block1() {
                Some(block) => {
                    let at = block.offset() as usize;
                    taken[at..at + message.payload.len()].copy_from_slice(message.payload);
                    options.push(option(N::BLOCK1, block));
                    (if block.more { Code::CONTINUE } else { Code::CHANGED }, &[][..])
                }
                None => {
                    let block =
                        message.options.block2().unwrap_or(Block { num: 0, more: false, szx: 6 });
                    let at = block.offset() as usize;
                    let end = served.len().min(at + 1024);
                    options.push(option(N::BLOCK2, Block { more: end < served.len(), ..block }));
                    (Code::CONTENT, &served[at..end])
                }
            };
            let answer = Message {
                message_type: Ack,
                code,
                message_id: message.message_id,
                token: message.token,
                options: Options::from(&*options),
                payload,
            };
            let reply = (sent.clone(), encode(&answer));
            match n >> 16 & 15 {
                0 | 1 => late.push(reply),
                2 | 3 => replies.extend([reply.clone(), reply]),
                4 => {}
                _ => replies.push(reply),
            }
        }
        for (sent, datagram) in replies.iter().rev() {
            world.deliver_octets(sent.flow, datagram);
        }
        if replies.is_empty() {
            world.rig.wait(SECOND);
        }
    }
    assert_eq!((world.status(upload), world.status(download)), (Some(204), Some(200)));
    assert!(taken == sent_body && world.rig.calls[download].received == served);
    assert!(world.counted("coap_egress_retransmissions_total") > 5);
}

// Observations.

fn observe(world: &mut World, path: &str) -> (usize, Sent) {
    let call = world.call("GET", path, &[("accept", "text/event-stream")], b"");
    let sent = world.one();
    assert_eq!(sent.message().options.observe(), Some(0));
    (call, sent)
}

const TEXT: CoapOption<'static> =
    CoapOption { number: N::CONTENT_FORMAT, value: OptionValue::Uint(0) };

#[test]
fn notifications_become_events() {
    let mut world = World::new();
    let (call, sent) = observe(&mut world, "/temperature");
    world.piggyback(&sent, Code::CONTENT, &[option(N::OBSERVE, 5), TEXT], b"20");
    assert_eq!(world.status(call), Some(200));
    assert_eq!(world.header(call, "content-type"), Some("text/event-stream"));
    assert_eq!(world.header(call, "cache-control"), Some("no-store"));
    assert_eq!(world.header(call, "x-coap-content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(world.text(call), "id: 5\ndata: 20\n\n");
    // Confirmable ones are acknowledged, each as often as it comes, and old ones have no effect.
    for (message_type, id, sequence, payload) in
        [(Con, 1, 7, "21"), (Con, 1, 7, "21"), (Con, 2, 6, "old"), (Non, 3, 8, "22\n23")]
    {
        let options = [option(N::OBSERVE, sequence), TEXT];
        world.separate(&sent, (message_type, id), Code::CONTENT, &options, payload.as_bytes());
        if message_type == Con {
            let answer = world.one();
            assert!(is_answer(&answer, Ack, id));
        }
    }
    world.none();
    assert_eq!(
        world.text(call),
        "id: 5\ndata: 20\n\nid: 7\ndata: 21\n\nid: 8\ndata: 22\ndata: 23\n\n"
    );
    assert_eq!(world.rig.calls[call].ended, None);
    assert_eq!(world.metrics.gauge("coap_egress_observations_active", &[]).value(), 1);
    // The flow is free for others meanwhile.
    let other = world.get("/temperature");
    let request = world.one();
    assert_eq!(request.flow, sent.flow);
    world.piggyback(&request, Code::CONTENT, &[], b"x");
    assert_eq!(world.text(other), "x");
    world.rig.cancel(call);
    world.one();
    world.assert_idle();
}

#[test]
fn an_observation_is_given_up_when_the_client_goes_away() {
    let mut world = World::new();
    let (call, sent) = observe(&mut world, "/a");
    world.piggyback(&sent, Code::CONTENT, &[option(N::OBSERVE, 1), TEXT], b"1");
    world.rig.cancel(call);
    let farewell = world.one();
    let message = farewell.message();
    assert_eq!((message.code, message.options.observe()), (Code::GET, Some(1)));
    assert_eq!(message.token, sent.message().token);
    assert!(message.options.uri_path().eq(["a"]));
    // If that was lost, the next notification is rejected.
    for (message_type, id) in [(Con, 10), (Non, 11)] {
        world.separate(&sent, (message_type, id), Code::CONTENT, &[option(N::OBSERVE, 2)], b"2");
        let answer = world.one();
        assert!(is_answer(&answer, Rst, id));
    }
    world.assert_idle();
}

#[test]
fn a_resource_that_cannot_be_observed_is_read() {
    let mut world = World::new();
    let (call, sent) = observe(&mut world, "/a");
    world.piggyback(&sent, Code::CONTENT, &[TEXT], b"plain");
    assert_eq!((world.status(call), world.text(call)), (Some(200), "plain"));
    assert_eq!(world.header(call, "content-type"), Some("text/plain; charset=utf-8"));
    let (call, sent) = observe(&mut world, "/a");
    world.piggyback(&sent, Code::NOT_FOUND, &[], b"");
    assert_eq!(world.status(call), Some(404));
    world.assert_idle();
}

#[test]
fn what_else_the_client_accepts_is_asked_for() {
    let mut world = World::new();
    world.call("GET", "/a", &[("accept", "application/json, Text/Event-Stream;q=1")], b"");
    let sent = world.one();
    assert_eq!(sent.message().options.observe(), Some(0));
    assert_eq!(sent.message().options.accept(), Some(ContentFormat::JSON));
    world.call("POST", "/b", &[("accept", "text/event-stream")], b"");
    world.none();
    // An event has content whatever the client already knows.
    let headers = [("accept", "text/event-stream"), ("if-none-match", "\"01\"")];
    world.call("GET", "/c", &headers, b"");
    assert_eq!(world.one().message().options.etags().count(), 0);
}

#[test]
fn an_observation_ends_when_the_server_ends_it() {
    let mut world = World::new();
    let (call, sent) = observe(&mut world, "/a");
    world.piggyback(&sent, Code::CONTENT, &[option(N::OBSERVE, 1), TEXT], b"1");
    world.separate(&sent, (Con, 1), Code::NOT_FOUND, &[], b"removed");
    let answer = world.one();
    assert!(is_answer(&answer, Ack, 1));
    assert_eq!(world.text(call), "id: 1\ndata: 1\n\nevent: error\ndata: 4.04 removed\n\n");
    assert_eq!(world.rig.calls[call].ended, Some(true));
    let (call, sent) = observe(&mut world, "/a");
    world.piggyback(&sent, Code::CONTENT, &[option(N::OBSERVE, 1), TEXT], b"1");
    world.separate(&sent, (Non, 2), Code::CONTENT, &[TEXT], b"last");
    assert_eq!(world.text(call), "id: 1\ndata: 1\n\ndata: last\n\n");
    assert_eq!(world.rig.calls[call].ended, Some(true));
    world.assert_idle();
}

#[test]
fn a_silent_server_is_asked_again_and_a_dead_one_ends_the_events() {
    let mut world = World::new();
    let (call, sent) = observe(&mut world, "/a");
    let options = [option(N::OBSERVE, 1), TEXT, option(N::MAX_AGE, 30)];
    world.piggyback(&sent, Code::CONTENT, &options, b"1");
    world.rig.wait(SECOND * 35 - SECOND / 1000);
    world.none();
    world.rig.wait(SECOND * 10);
    let again = world.sent();
    let message = again[0].message();
    assert_eq!((message.options.observe(), message.token), (Some(0), sent.message().token));
    world.piggyback(
        &again[0],
        Code::CONTENT,
        &[option(N::OBSERVE, 2), TEXT, option(N::MAX_AGE, 30)],
        b"2",
    );
    assert_eq!(world.text(call), "id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n");
    world.rig.wait(SECOND * 120);
    assert!(
        world
            .text(call)
            .ends_with("event: error\ndata: the CoAP server did not answer in time\n\n")
    );
    assert_eq!(world.rig.calls[call].ended, Some(true));
    world.assert_idle();
}

#[test]
fn a_notification_makes_asking_again_needless() {
    let mut world = World::new();
    let (_, sent) = observe(&mut world, "/a");
    let options = |n| [option(N::OBSERVE, n), TEXT, option(N::MAX_AGE, 30)];
    world.piggyback(&sent, Code::CONTENT, &options(1), b"1");
    // Another request is on its way when it is time to ask.
    world.rig.wait(SECOND * 34);
    world.get("/a/other");
    let other = world.one();
    world.rig.wait(SECOND * 12);
    assert!(world.sent().iter().all(|sent| *sent == other));
    world.separate(&sent, (Non, 1), Code::CONTENT, &options(2), b"2");
    world.piggyback(&other, Code::CONTENT, &[], b"");
    world.none();
}

#[test]
fn a_notification_in_blocks_is_put_together() {
    let mut world = World::new();
    let (call, sent) = observe(&mut world, "/a");
    let more = option(N::BLOCK2, Block { num: 0, more: true, szx: 0 });
    let first = [option(N::OBSERVE, 1), TEXT, more];
    world.piggyback(&sent, Code::CONTENT, &first, &[b'a'; 16]);
    let rest = world.one();
    assert_eq!(rest.message().options.observe(), None);
    assert_ne!(rest.message().token, sent.message().token);
    world.piggyback(
        &rest,
        Code::CONTENT,
        &[TEXT, option(N::BLOCK2, Block { num: 1, more: false, szx: 0 })],
        b"a",
    );
    assert_eq!(world.text(call), format!("id: 1\ndata: {}\n\n", "a".repeat(17)));
    // A newer one takes the place of what is not complete.
    world.separate(
        &sent,
        (Non, 1),
        Code::CONTENT,
        &[option(N::OBSERVE, 2), TEXT, more],
        &[b'b'; 16],
    );
    let rest = world.one();
    world.separate(&sent, (Non, 2), Code::CONTENT, &[option(N::OBSERVE, 3), TEXT], b"c");
    world.piggyback(
        &rest,
        Code::CONTENT,
        &[TEXT, option(N::BLOCK2, Block { num: 1, more: false, szx: 0 })],
        b"b",
    );
    assert!(world.text(call).ends_with("\n\nid: 3\ndata: c\n\n"));
    assert!(!world.text(call).contains("id: 2"));
    // Also one that comes in blocks itself.
    for (n, byte) in [(4, b'd'), (5, b'e')] {
        let first = [option(N::OBSERVE, n), TEXT, more];
        world.separate(&sent, (Non, n as u16), Code::CONTENT, &first, &[byte; 16]);
    }
    let rest = world.sent();
    world.piggyback(
        rest.last().unwrap(),
        Code::CONTENT,
        &[TEXT, option(N::BLOCK2, Block { num: 1, more: false, szx: 0 })],
        b"e",
    );
    assert!(world.text(call).ends_with(&format!("c\n\nid: 5\ndata: {}\n\n", "e".repeat(17))));
    assert_eq!(world.counted("coap_egress_events_skipped_total"), 0);
    world.rig.cancel(call);
    world.one();
    world.assert_idle();
}

#[test]
fn a_slow_client_misses_events_but_not_the_last() {
    let config = Config { max_held_events: Whole(1000), ..config() };
    let mut world = World::with_window(config, 100);
    let (call, sent) = observe(&mut world, "/a");
    world.rig.calls[call].held = true;
    let payload = "x".repeat(400);
    world.piggyback(&sent, Code::CONTENT, &[option(N::OBSERVE, 1), TEXT], payload.as_bytes());
    for n in 2..20 {
        let options = [option(N::OBSERVE, n), TEXT];
        world.separate(&sent, (Non, n as u16), Code::CONTENT, &options, payload.as_bytes());
    }
    assert!(world.counted("coap_egress_events_skipped_total") > 10);
    world.rig.calls[call].held = false;
    world.rig.run();
    let ids: Vec<_> = world.text(call).lines().filter(|line| line.starts_with("id: ")).collect();
    assert_eq!(ids.last(), Some(&"id: 19"));
    assert!(ids.len() < 8, "{ids:?}");
}

#[test]
fn everything_ends_with_the_connection() {
    let mut world = World::new();
    let (_, sent) = observe(&mut world, "/a");
    world.piggyback(&sent, Code::CONTENT, &[option(N::OBSERVE, 1), TEXT], b"1");
    world.get("/a");
    world.call("PUT", "/a", &[], &body(5000));
    world.rig.end();
    assert!(world.rig.closed);
    assert_eq!(world.metrics.gauge("coap_egress_observations_active", &[]).value(), 0);
    assert_eq!(world.requests("get", "gone"), 2);
}

/// Something that happens, chosen at random.
#[derive(Debug, Clone)]
enum Act {
    Get(u8, bool, bool),
    Put(u8, usize),
    Cancel(usize),
    Wait(u16),
    /// A message about one of those that were sent: its type, code, which of them, whether it has
    /// that one's message ID and token, its options and its payload.
    Answer(u8, u8, usize, bool, bool, Vec<(u8, u32)>, usize),
    Octets(Vec<u8>),
}

fn act() -> impl Strategy<Value = Act> {
    let number = proptest::sample::select(vec![4_u8, 6, 6, 12, 14, 23, 23, 27, 27, 28, 9]);
    let code = proptest::sample::select(vec![
        0_u8, 1, 65, 68, 69, 69, 69, 69, 95, 95, 129, 132, 136, 141, 163,
    ]);
    prop_oneof![
        (0..3_u8, any::<bool>(), any::<bool>())
            .prop_map(|(path, events, non)| Act::Get(path, events, non)),
        (0..3_u8, 0..200_usize).prop_map(|(path, len)| Act::Put(path, len)),
        any::<usize>().prop_map(Act::Cancel),
        (0..40_000_u16).prop_map(Act::Wait),
        (
            0..4_u8,
            code,
            any::<usize>(),
            any::<bool>(),
            proptest::bool::weighted(0.8),
            proptest::collection::vec((number, 0..300_u32), 0..4),
            0..40_usize,
        )
            .prop_map(|(kind, code, which, id, token, options, len)| {
                Act::Answer(kind, code, which, id, token, options, len)
            }),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Act::Octets),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the server and the clients do, every request is answered, and nothing is left
    /// behind.
    #[test]
    fn every_request_comes_to_an_end(acts in proptest::collection::vec(act(), 1..60)) {
        let mut world = World::with(Config {
            block_size: Whole(16),
            max_response_size: Whole(64),
            max_held_size: Whole(100),
            nstart: Whole(2),
            max_queued_requests: Whole(3),
            max_flows: Whole(3),
            ..config()
        });
        let mut all: Vec<Sent> = Vec::new();
        let mut cancelled = std::collections::BTreeSet::new();
        for act in acts {
            match act {
                Act::Get(path, events, non) => {
                    let accept = if events { "text/event-stream" } else { "*/*" };
                    let kind = if non { "non" } else { "con" };
                    let headers = [("accept", accept), ("x-coap-type", kind)];
                    world.call("GET", &format!("/{path}"), &headers, b"");
                }
                Act::Put(path, len) => {
                    world.call("PUT", &format!("/{path}"), &[], &body(len));
                }
                Act::Cancel(which) => {
                    if !world.rig.calls.is_empty() {
                        let which = which % world.rig.calls.len();
                        world.rig.cancel(which);
                        cancelled.insert(which);
                    }
                }
                Act::Wait(time) => world.rig.wait(Duration::from_millis(time.into())),
                Act::Answer(kind, code, which, same_id, same_token, mut options, len) => {
                    // Most often about one of the latest.
                    let Some(sent) = all.iter().rev().take(6).cycle().nth(which % 6).cloned() else { continue };
                    if world.rig.streams[sent.flow].ended.is_some() {
                        continue;
                    }
                    options.sort_unstable();
                    options.dedup_by_key(|option| option.0);
                    let request = sent.message();
                    let mut values = Vec::new();
                    for (number, value) in &options {
                        values.push((u16::from(*number), value.to_be_bytes()));
                    }
                    let list: Vec<_> = values
                        .iter()
                        .map(|(number, value)| match OptionNumber(*number) {
                            N::ETAG | N::OSCORE => option(OptionNumber(*number), &value[2..]),
                            number => option(number, u32::from_be_bytes(*value)),
                        })
                        .collect();
                    let message = Message {
                        message_type: MessageType::from_bits(kind),
                        code: Code(code),
                        message_id: if same_id { request.message_id } else { which as u16 },
                        token: if same_token { request.token } else { b"x" },
                        options: Options::from(&*list),
                        payload: &[b'p'; 40][..len],
                    };
                    let empty = Message::empty(message.message_type, message.message_id);
                    let message = if code == 0 { empty } else { message };
                    if message.encoded_len().is_ok() {
                        world.deliver(sent.flow, &message);
                    }
                }
                Act::Octets(octets) => {
                    if let Some(flow) = (0..world.rig.streams.len()).rev().find(|flow| world.rig.streams[*flow].ended.is_none()) {
                        world.sent();
                        world.deliver_octets(flow, &octets);
                    }
                }
            }
            all.extend(world.sent());
            // The next filter ends what was ended, as a route's timeout does.
            for stream in world.rig.streams.iter_mut().filter(|stream| stream.ended.is_some()) {
                stream.finish();
            }
            world.rig.run();
        }
        for _ in 0..40 {
            world.rig.wait(SECOND * 30);
            world.sent();
            for stream in world.rig.streams.iter_mut().filter(|stream| stream.ended.is_some()) {
                stream.finish();
            }
            world.rig.run();
        }
        for (index, call) in world.rig.calls.iter().enumerate() {
            prop_assert!(cancelled.contains(&index) || call.ended == Some(true), "call {index} {:?}", call.status);
        }
        world.assert_idle();
    }
}
