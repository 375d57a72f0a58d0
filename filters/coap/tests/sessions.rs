//! When a UDP session ends, and when it does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::time::Duration;

use crate::support::message::{Msg, con, get, post};
use crate::support::{ANNA, Bench, Worker, millis, rules, seconds};
use codec_coap::{Code, OptionNumber};

/// The idle time, and the largest delay with which it is noticed.
const IDLE: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(5);

#[track_caller]
fn closes_after_idling(bench: &mut Bench) {
    let took = bench.closes_within(SLACK);
    assert!(took >= IDLE, "{took:?}");
}

#[test]
fn a_session_without_messages_ends() {
    let mut bench = Bench::new(&rules(""));
    closes_after_idling(&mut bench);
}

#[test]
fn a_session_ends_a_while_after_its_last_message() {
    let mut bench = Bench::new(&rules(""));
    for id in 0..5 {
        bench.exchange(&get(id, "a"), "/a");
        bench.pass(millis(1900));
        assert!(!bench.is_closed());
    }
    bench.exchange(&get(9, "a"), "/a");
    closes_after_idling(&mut bench);
}

#[test]
fn a_session_waits_for_a_response_but_not_for_ever() {
    let mut bench = Bench::new(&rules(r#""response_timeout": "30s""#));
    bench.client(&get(1, "a"));
    bench.pass(seconds(29));
    assert!(!bench.is_closed());
    bench.server(0, &get(1, "a").reply(Code::CONTENT));
    closes_after_idling(&mut bench);
    let mut bench = Bench::new(&rules(r#""response_timeout": "30s""#));
    bench.client(&get(1, "a"));
    let took = bench.closes_within(seconds(33));
    assert!(took >= seconds(30));
}

#[test]
fn an_empty_acknowledgement_is_no_response() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "a"));
    bench.server(0, &get(1, "a").acknowledge());
    bench.pass(seconds(25));
    assert!(!bench.is_closed());
}

#[test]
fn a_request_that_wants_no_response_is_waited_for_by_nobody() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&post(1, "a", "x").non().opt(OptionNumber::NO_RESPONSE, 26));
    closes_after_idling(&mut bench);
    // But some of the classes are wanted here.
    let mut bench = Bench::new(&rules(""));
    bench.client(&post(1, "a", "x").non().opt(OptionNumber::NO_RESPONSE, 2));
    bench.pass(seconds(25));
    assert!(!bench.is_closed());
}

#[test]
fn a_session_waits_for_envoys_answer_however_long_that_takes() {
    for path in ["c", "r"] {
        let mut bench = Bench::new(&rules(""));
        bench.client(&get(1, path));
        bench.pass(seconds(1000));
        assert!(!bench.is_closed());
        bench.answer_one(403, &[], b"");
        let got = bench.got().pop().expect("an answer");
        assert_eq!(got.code, Code::FORBIDDEN);
    }
}

#[test]
fn a_session_waits_for_the_acknowledgement_of_a_servers_message() {
    for is_heard in [true, false] {
        let mut bench = Bench::new(&rules(r#""response_timeout": "30s""#));
        let request = get(1, "a");
        bench.client(&request);
        bench.server(0, &request.acknowledge());
        let response = con(Code::CONTENT, 700).token(&request.token);
        bench.server(0, &response);
        bench.got();
        bench.pass(seconds(20));
        assert!(!bench.is_closed());
        // The server sends it again.
        bench.server(0, &response);
        assert_eq!(bench.got_octets(), [response.octets()]);
        if is_heard {
            bench.client(&response.acknowledge());
            closes_after_idling(&mut bench);
        } else {
            let took = bench.closes_within(seconds(35));
            assert!(took >= seconds(29), "{took:?}");
        }
    }
}

#[test]
fn a_session_waits_for_the_acknowledgement_of_a_separate_response() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "r"));
    bench.pass(seconds(1));
    bench.answer_one(200, &[], b"");
    let response = bench.got().pop().expect("a response");
    bench.pass(seconds(40));
    assert!(!bench.is_closed());
    bench.client(&response.acknowledge());
    closes_after_idling(&mut bench);
}

#[test]
fn a_session_waits_while_a_body_is_on_its_way() {
    let mut bench = Bench::new(&rules(r#""transfer_timeout": "30s""#));
    bench.client(&post(1, "r", [1; 16]).block1(0, true, 0));
    bench.pass(seconds(29));
    assert!(!bench.is_closed());
    bench.closes_within(seconds(6));
    let mut bench = Bench::new(&rules(r#""transfer_timeout": "30s""#));
    bench.client(&get(1, "r"));
    bench.answer_one(200, &[], &[1; 2000]);
    bench.pass(seconds(29));
    assert!(!bench.is_closed());
    bench.client(&get(2, "r").block2(1, false, 6));
    assert_eq!(bench.got().len(), 2);
    closes_after_idling(&mut bench);
}

fn register(id: u16, lifetime: &str) -> Msg {
    let register = post(id, "rd", "</1/0>").opt(OptionNumber::URI_QUERY, "ep=dev");
    register.opt(OptionNumber::URI_QUERY, format!("lt={lifetime}").as_str())
}

#[test]
fn a_registered_device_can_be_reached_for_a_while() {
    for (timeout, lifetime, expected) in
        [("300s", "1000", 300), ("300s", "100", 100), ("0s", "100", 2), ("300s", "x", 300)]
    {
        let more = format!(r#""flow_key": "lwm2m_endpoint", "registration_timeout": "{timeout}""#);
        let mut bench = Bench::new(&rules(&more));
        let register = register(1, lifetime);
        bench.client(&register);
        bench.server(0, &register.reply(Code::CREATED));
        let took = bench.closes_within(seconds(expected + 5));
        assert!(took >= seconds(expected), "{took:?}");
    }
}

#[test]
fn a_servers_request_reaches_a_registered_device_and_its_answer_the_server() {
    let more = r#""flow_key": "lwm2m_endpoint", "registration_timeout": "300s""#;
    let mut bench = Bench::new(&rules(more));
    let register = register(1, "1000");
    bench.client(&register);
    bench.server(0, &register.reply(Code::CREATED));
    bench.pass(seconds(200));
    bench.got();
    bench.server_got(0);
    let request = get(900, "1/0/0").token(b"srv");
    bench.server(0, &request);
    assert_eq!(bench.got_octets(), [request.octets()]);
    let reply = request.reply(Code::CONTENT).payload("1");
    bench.client(&reply);
    bench.assert_server_got(0, &reply);
    // It was heard of, so it lives on as long again.
    bench.pass(seconds(200));
    assert!(!bench.is_closed());
}

#[test]
fn a_device_is_known_again_in_its_next_session() {
    let worker = Worker::new(&rules(r#""flow_key": "lwm2m_endpoint""#));
    let mut bench = worker.session(ANNA, Duration::ZERO);
    bench.client(&register(1, "100"));
    bench.hang_up();
    for (address, at, name) in
        [("192.0.2.1:40002", 10, None), (ANNA, 10, Some("dev")), (ANNA, 99, Some("dev"))]
    {
        let mut bench = worker.session(address, seconds(at));
        bench.client(&post(2, "rd/1", ""));
        assert_eq!(bench.streams[0].header("x-lwm2m-endpoint"), name, "{address} {at}");
        bench.hang_up();
    }
}

#[test]
fn a_session_that_ends_ends_its_flows() {
    let worker = Worker::new(&rules(""));
    let mut bench = worker.session(ANNA, Duration::ZERO);
    bench.client_all(&[get(1, "a"), get(2, "b")]);
    assert_eq!(bench.gauge("coap_flows_active"), 2);
    let observe = get(3, "a").observe(0);
    bench.client(&observe);
    bench.server(0, &observe.reply(Code::CONTENT).observe(1));
    assert_eq!(bench.gauge("coap_observations_active"), 1);
    bench.hang_up();
    assert_eq!(worker.registry.gauge("coap_flows_active", &[]).value(), 0);
    assert_eq!(worker.registry.gauge("coap_observations_active", &[]).value(), 0);
}

#[test]
fn the_end_of_the_tunnel_ends_the_session() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "a"));
    bench.bridge.handle_native_end(bench.now);
    assert!(bench.is_closed());
}

#[test]
fn a_connection_manager_that_is_lost_ends_the_session() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "a"));
    bench.bridge.handle_http(bench.now, bridge::Bytes::from_static(&[0xff; 100]));
    assert!(bench.is_closed());
}
