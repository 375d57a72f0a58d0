//! What happens to messages that Envoy is asked about first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::time::Duration;

use crate::support::message::{Msg, con, get, post, put};
use crate::support::{ANNA, Bench, Worker, rules, seconds};
use codec_coap::{Code, MessageType, OptionNumber};

#[test]
fn a_check_says_everything_about_the_message_but_its_payload() {
    let mut bench = Bench::new(&rules(""));
    let request = put(1, "c/a b/x", "payload")
        .opt(OptionNumber::URI_HOST, "Lamp.example")
        .opt(OptionNumber::URI_QUERY, "k=v")
        .opt(OptionNumber::CONTENT_FORMAT, 50)
        .opt(OptionNumber::ACCEPT, 60)
        .opt(OptionNumber::IF_MATCH, &b"\x01\xff"[..]);
    bench.client(&request);
    let stream = &bench.streams[bench.asked_one()];
    assert_eq!((&*stream.method, &*stream.path), ("PUT", "/c/a%20b/x?k=v"));
    assert_eq!(stream.authority, "lamp.example");
    assert_eq!(
        stream.own_headers(),
        [
            "accept: application/cbor",
            "content-type: application/json",
            "if-match: \"01ff\"",
            "x-carry: check",
            "x-coap-method: put",
            "x-coap-type: con",
        ]
    );
    assert!(stream.is_over() && stream.body.is_empty());
    let observe = get(2, "c").observe(0).non();
    bench.client(&observe);
    let stream = bench.streams.last().unwrap();
    assert_eq!(stream.header("x-coap-observe"), Some("0"));
    assert_eq!(stream.header("x-coap-type"), Some("non"));
}

#[test]
fn an_allowed_message_goes_on_once_and_unchanged() {
    let mut bench = Bench::new(&rules(""));
    let request = post(1, "c/x", vec![7; 1000])
        .opt(OptionNumber(65_000), &b"unknown"[..])
        .opt(OptionNumber::OSCORE, &b"\x09"[..]);
    bench.client(&request);
    assert!(bench.flows().is_empty());
    bench.answer_one(200, &[], b"ignored");
    let flow = bench.flow("/c");
    bench.assert_server_got(flow, &request);
    let reply = request.reply(Code::CHANGED);
    bench.server(flow, &reply);
    assert_eq!(bench.got_octets(), [reply.octets()]);
    let labels = [("verdict", "allowed"), ("source", "asked")];
    assert_eq!(bench.counter("coap_verdicts_total", &labels), 1);
}

#[test]
fn a_message_that_waits_for_its_check_holds_no_other() {
    let mut bench = Bench::new(&rules(""));
    let (first, second) = (get(1, "c/1"), get(2, "c/2"));
    bench.client_all(&[first.clone(), second.clone(), get(3, "a")]);
    assert_eq!(bench.asked(), ["check GET /c/1", "check GET /c/2"]);
    assert_eq!(bench.flows(), ["/a"]);
    let streams = bench.open();
    bench.answer(streams[1], 200, &[], b"");
    bench.answer(streams[0], 204, &[], b"");
    let flow = bench.flow("/c");
    assert_eq!(bench.server_got_octets(flow), [second.octets(), first.octets()]);
}

#[test]
fn a_refused_message_reaches_nobody_and_its_sender_is_told_why() {
    for (status, headers, code, max_age, text) in [
        (401, &[][..], Code::UNAUTHORIZED, None, "Unauthorized"),
        (403, &[], Code::FORBIDDEN, None, "Forbidden"),
        (404, &[], Code::NOT_FOUND, None, "Not Found"),
        (429, &[("retry-after", "7")], Code::TOO_MANY_REQUESTS, Some(7), "Too Many Requests"),
        (429, &[], Code::TOO_MANY_REQUESTS, None, "Too Many Requests"),
        (500, &[], Code::INTERNAL_SERVER_ERROR, None, "Internal Server Error"),
        (503, &[("retry-after", "9")], Code::SERVICE_UNAVAILABLE, Some(9), "Service Unavailable"),
        (302, &[("location", "/x")], Code::BAD_GATEWAY, None, "Found"),
    ] {
        for is_con in [true, false] {
            let mut bench = Bench::new(&rules(""));
            let request = post(0x0707, "c/x", "x").token(b"token-8!");
            let request = if is_con { request } else { request.non() };
            bench.client(&request);
            bench.answer_one(status, headers, b"a body that nobody reads");
            let got = bench.got_one();
            assert_eq!((got.code, &*got.token, got.text()), (code, &b"token-8!"[..], text));
            assert_eq!(got.uint(OptionNumber::MAX_AGE), max_age, "{status}");
            if is_con {
                assert_eq!(got.udp, Some((MessageType::Acknowledgement, 0x0707)));
            } else {
                assert_eq!(got.message_type(), MessageType::NonConfirmable);
            }
            assert!(bench.flows().is_empty());
            let labels = [("verdict", "refused"), ("source", "asked")];
            assert_eq!(bench.counter("coap_verdicts_total", &labels), 1);
        }
    }
}

#[test]
fn a_refusal_is_no_success_even_if_the_client_has_what_it_asks_for() {
    let mut bench = Bench::new(&rules(""));
    for (id, path) in [(1, "c"), (2, "v"), (3, "v")] {
        bench.client(&get(id, path).opt(OptionNumber::ETAG, &b"\x01"[..]));
        for stream in bench.open() {
            bench.answer(stream, 304, &[("etag", "\"01\"")], b"");
        }
        let got = bench.got_one();
        assert_eq!((got.id(), got.code), (id, Code::BAD_GATEWAY));
    }
    assert!(bench.flows().is_empty());
}

#[test]
fn a_check_without_an_answer_refuses() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "c"));
    bench.reset(0);
    let got = bench.got_one();
    assert_eq!((got.code, got.id()), (Code::BAD_GATEWAY, 1));
    assert!(bench.flows().is_empty());
}

#[test]
fn a_request_that_http_has_no_words_for_is_answered_without_a_check() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&Msg::new(MessageType::Confirmable, Code::new(0, 9), 1).path("c"));
    assert_eq!(bench.got_one().code, Code::METHOD_NOT_ALLOWED);
    bench.client(&get(2, "c").opt(OptionNumber::URI_HOST, "a/b"));
    assert_eq!(bench.got_one().code, Code::BAD_REQUEST);
    assert!(bench.streams.is_empty());
}

#[test]
fn an_allowed_message_whose_flow_is_refused_is_answered_with_that_status() {
    let mut bench = Bench::new(&rules(""));
    bench.accepts = false;
    bench.client(&get(1, "c"));
    bench.answer_one(200, &[], b"");
    let flow = bench.flow("/c");
    bench.answer(flow, 503, &[("retry-after", "5")], b"");
    let got = bench.got_one();
    assert_eq!((got.code, got.id()), (Code::SERVICE_UNAVAILABLE, 1));
    assert_eq!(got.uint(OptionNumber::MAX_AGE), Some(5));
}

// Retransmissions.

#[test]
fn a_retransmission_asks_nobody_again() {
    let mut bench = Bench::new(&rules(""));
    for request in [get(1, "c"), get(2, "c").non()] {
        bench.client(&request);
        // Not even while the first one waits.
        bench.client(&request);
        assert_eq!(bench.open().len(), 1);
        bench.answer_one(403, &[], b"");
        let first = bench.got_octets();
        assert_eq!(first.len(), 1);
        bench.client(&request);
        assert_eq!(bench.got_octets(), first);
        assert!(bench.open().is_empty() && bench.flows().is_empty());
    }
}

#[test]
fn a_retransmission_of_an_allowed_message_is_up_to_the_server() {
    let mut bench = Bench::new(&rules(""));
    let request = get(1, "c");
    bench.client(&request);
    bench.client(&request);
    bench.answer_one(200, &[], b"");
    let flow = bench.flow("/c");
    bench.assert_server_got(flow, &request);
    bench.client(&request);
    bench.assert_server_got(flow, &request);
    assert!(bench.open().is_empty());
}

#[test]
fn a_refusal_is_remembered_after_the_session_for_as_long_as_its_message_id_lives() {
    for (request, lifetime) in [(get(1, "c"), 247), (get(1, "c").non(), 145)] {
        let worker = Worker::new(&rules(""));
        let mut bench = worker.session(ANNA, Duration::ZERO);
        bench.client(&request);
        bench.answer_one(403, &[], b"");
        let first = bench.got_octets();
        bench.hang_up();
        let mut bench = worker.session(ANNA, seconds(lifetime - 1));
        bench.client(&request);
        assert_eq!(bench.got_octets(), first);
        assert!(bench.streams.is_empty());
        bench.pass(seconds(1));
        bench.client(&request);
        assert_eq!(bench.asked(), ["check GET /c"]);
    }
}

#[test]
fn a_message_whose_check_was_lost_with_the_session_is_checked_again() {
    let worker = Worker::new(&rules(""));
    let mut bench = worker.session(ANNA, Duration::ZERO);
    let request = get(1, "c");
    bench.client(&request);
    bench.hang_up();
    let mut bench = worker.session(ANNA, seconds(2));
    bench.client(&request);
    assert_eq!(bench.asked(), ["check GET /c"]);
}

// The verdict cache.

#[test]
fn a_verdict_holds_for_its_time_for_the_same_method_and_uri() {
    for status in [200, 403] {
        let mut bench = Bench::new(&rules(""));
        bench.client(&get(1, "v/a"));
        bench.answer_one(status, &[], b"");
        bench.client(&get(2, "v/a"));
        assert!(bench.open().is_empty());
        bench.client(&post(3, "v/a", ""));
        bench.client(&get(4, "v/b"));
        bench.client(&get(5, "v/a").opt(OptionNumber::URI_QUERY, "q"));
        bench.client(&get(6, "v/a").opt(OptionNumber::URI_HOST, "h"));
        let asked = ["check POST /v/a", "check GET /v/b", "check GET /v/a?q", "check GET /v/a"];
        assert_eq!(bench.asked(), asked);
        bench.pass(seconds(10));
        bench.client(&get(7, "v/a"));
        assert_eq!(bench.open().len(), 5);
        let verdict = if status == 200 { "allowed" } else { "refused" };
        let labels = [("verdict", verdict), ("source", "cached")];
        assert_eq!(bench.counter("coap_verdicts_total", &labels), 1);
    }
}

#[test]
fn a_cached_refusal_has_the_same_code_and_max_age() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "v"));
    bench.answer_one(429, &[("retry-after", "30")], b"");
    let first = bench.got_one();
    bench.client(&get(2, "v"));
    let second = bench.got_one();
    assert_eq!(second.clone().with_id(1).token(&first.token).octets(), first.octets());
}

#[test]
fn a_failure_of_a_service_is_no_verdict() {
    let mut bench = Bench::new(&rules(""));
    for id in 0..3 {
        bench.client(&get(id, "v"));
        bench.answer_one(503, &[], b"");
        assert_eq!(bench.got_one().code, Code::SERVICE_UNAVAILABLE);
    }
    assert_eq!(bench.streams.len(), 3);
}

#[test]
fn a_verdict_about_one_client_is_none_about_another() {
    let worker = Worker::new(&rules(""));
    let mut anna = worker.session(ANNA, Duration::ZERO);
    anna.client(&get(1, "v"));
    anna.answer_one(200, &[], b"");
    let mut bob = worker.session("192.0.2.2:1", Duration::ZERO);
    bob.client(&get(1, "v"));
    assert_eq!(bob.asked(), ["check GET /v"]);
    // Nor about the same one under another name.
    anna.client(&post(2, "rd", "").opt(OptionNumber::URI_QUERY, "ep=x"));
    anna.client(&get(3, "v"));
    assert_eq!(anna.asked(), ["check GET /v"]);
}

// Rules.

#[test]
fn the_first_rule_that_matches_decides() {
    let mut bench = Bench::new(
        r#"{"amplification_factor": 0, "rules": [
            {"methods": ["get", "fetch"], "paths": ["/x/*"], "carry": "flow"},
            {"hosts": ["h.example"], "carry": "request"},
            {"paths": ["/x/**"], "carry": "check"}]}"#,
    );
    bench.client(&get(1, "x/1"));
    bench.client(&get(2, "x"));
    bench.client(&post(3, "x/1", ""));
    bench.client(&post(4, "x/1", "").opt(OptionNumber::URI_HOST, "H.Example"));
    bench.client(&con(Code::FETCH, 5).path("x/1").opt(OptionNumber::URI_HOST, "h.example"));
    bench.client(&get(6, "y"));
    let carried: Vec<_> =
        bench.streams.iter().map(|s| format!("{} {}", s.carry(), s.authority)).collect();
    assert_eq!(
        carried,
        [
            "flow coap",
            "check coap",
            "check coap",
            "request h.example",
            "flow h.example",
            "flow coap"
        ]
    );
}
