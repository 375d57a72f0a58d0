//! What the filter promises about a connection.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{Direction, Observer as _};
use filter_modbus::Filter;
use proptest::prelude::*;

use support::{Bench, frame};

const READ: u8 = 3;
const WRITE: u8 = 6;
const CHECKED: &str = r#"{"rules": [{"functions": ["write_single_register"], "carry": "check"}]}"#;
const REQUESTED: &str = r#"{"rules": [{"carry": "request"}]}"#;

fn read(transaction: u16, unit: u8) -> Vec<u8> {
    frame(transaction, unit, READ, &[0, 7, 0, 2])
}

fn write(transaction: u16) -> Vec<u8> {
    frame(transaction, 1, WRITE, &[0, 7, 0, 42])
}

/// An exception that the client is told of.
fn refusal(request: &[u8], exception: u8) -> Vec<u8> {
    frame(u16::from_be_bytes([request[0], request[1]]), request[6], request[7] | 0x80, &[exception])
}

#[test]
fn the_requests_for_a_unit_are_one_stream_and_travel_unchanged() {
    let mut bench = Bench::new("");
    let requests = [read(1, 1), read(2, 9), read(3, 1)].concat();
    bench.client(&requests[..9]);
    bench.client(&requests[9..]);
    assert_eq!(bench.asked(), ["flow /1", "flow /9"]);
    let flow = bench.stream("flow /1");
    assert_eq!(flow.body, [read(1, 1), read(3, 1)].concat());
    assert_eq!(flow.headers["x-protocol"], "modbus");
    assert_eq!(flow.ended, None);
}

#[test]
fn answers_of_several_servers_reach_the_client_frame_by_frame() {
    let mut bench = Bench::new("");
    bench.client(&[read(1, 1), read(2, 2)].concat());
    let answer = |transaction, unit| frame(transaction, unit, READ, &[4, 0, 1, 0, 2]);
    for unit in 1..=2 {
        bench.stream(&format!("flow /{unit}")).respond(200, false);
        bench.stream(&format!("flow /{unit}")).send(&answer(unit.into(), unit)[..5], false);
    }
    assert!(bench.client_got().is_empty());
    bench.stream("flow /2").send(&answer(2, 2)[5..], false);
    assert_eq!(bench.client_got(), answer(2, 2));
    bench.stream("flow /1").send(&answer(1, 1)[5..], false);
    assert_eq!(bench.client_got(), answer(1, 1));
}

#[test]
fn what_answers_no_request_does_not_reach_the_client() {
    let mut bench = Bench::new("");
    bench.client(&read(1, 1));
    let answer = frame(1, 1, READ, &[4, 0, 1, 0, 2]);
    let others = [frame(2, 1, READ, &[0]), frame(1, 2, READ, &[0]), frame(1, 1, WRITE, &[0])];
    bench.stream("flow /1").respond(200, false);
    let twice = [&others.concat(), &*answer, &answer].concat();
    bench.stream("flow /1").send(&twice, false);
    assert_eq!(bench.client_got(), answer);
    assert_eq!(bench.count("modbus_unmatched_total", &[]), 4);
}

#[test]
fn a_refused_write_is_never_forwarded() {
    let mut bench = Bench::new(CHECKED);
    bench.client(&[write(1), read(2, 1)].concat());
    // Nothing overtakes it.
    assert_eq!(bench.asked(), ["check /1/write_single_register"]);
    let check = bench.stream("check /1/write_single_register");
    assert_eq!(
        (&check.headers["x-modbus-first"], check.ended),
        (&"7".parse().unwrap(), Some(true))
    );
    check.respond(403, true);
    assert_eq!(bench.client_got(), refusal(&write(1), 1));
    assert_eq!(bench.stream("flow /1").body, read(2, 1));
}

#[test]
fn a_write_that_may_pass_goes_on_as_it_came() {
    let mut bench = Bench::new(CHECKED);
    bench.client(&write(1));
    bench.stream("check /1/write_single_register").respond(204, true);
    assert_eq!(bench.stream("flow /1").body, write(1));
    // The next one is asked about again.
    bench.client(&write(2));
    assert_eq!(bench.asked().len(), 3);
}

#[test]
fn a_check_that_nobody_answers_refuses() {
    let mut bench = Bench::new(CHECKED);
    bench.client(&[write(1), write(2)].concat());
    bench.stream("check /1/write_single_register").reset();
    assert_eq!(bench.client_got(), refusal(&write(1), 0x0b));
    assert_eq!(bench.asked().len(), 2);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.client_got(), refusal(&write(2), 0x0b));
}

#[test]
fn an_http_service_answers_a_request() {
    let mut bench = Bench::new(REQUESTED);
    bench.client(&read(7, 1));
    let request = bench.stream("request /1/read_holding_registers");
    assert_eq!((&*request.body, request.ended), (&[0, 7, 0, 2][..], Some(true)));
    request.respond(200, false);
    request.send(&[4, 0], false);
    request.send(&[1, 0, 2], true);
    assert_eq!(bench.client_got(), frame(7, 1, READ, &[4, 0, 1, 0, 2]));
}

#[test]
fn a_status_is_an_exception() {
    for (status, exception) in
        [(400, 3), (401, 1), (403, 1), (404, 0x0a), (429, 6), (500, 0x0b), (503, 0x0b), (302, 0x0b)]
    {
        for (json, stream) in [("", "flow /1"), (REQUESTED, "request /1/read_holding_registers")] {
            let mut bench = Bench::new(json);
            bench.client(&read(1, 1));
            bench.stream(stream).respond(status, true);
            assert_eq!(bench.client_got(), refusal(&read(1, 1), exception), "{status} {stream}");
        }
    }
}

#[test]
fn more_than_a_frame_can_have_is_a_failure_of_the_service() {
    let mut bench = Bench::new(REQUESTED);
    bench.client(&read(1, 1));
    let request = bench.stream("request /1/read_holding_registers");
    request.respond(200, false);
    request.send(&[0; 253], true);
    assert_eq!(bench.client_got(), refusal(&read(1, 1), 4));
}

#[test]
fn a_flow_that_ends_is_opened_again_by_the_next_request() {
    let mut bench = Bench::new("");
    bench.client(&read(1, 1));
    bench.stream("flow /1").respond(200, false);
    bench.stream("flow /1").send(&[], true);
    assert_eq!(bench.client_got(), refusal(&read(1, 1), 0x0b));
    bench.client(&read(2, 1));
    assert_eq!(bench.asked(), ["flow /1", "flow /1"]);
    assert_eq!(bench.stream("flow /1").body, read(2, 1));
}

#[test]
fn a_server_that_speaks_no_modbus_is_given_up() {
    let mut bench = Bench::new("");
    bench.client(&read(1, 1));
    bench.stream("flow /1").respond(200, false);
    bench.stream("flow /1").send(b"HTTP/1.1 400 Bad Request\r\n", false);
    assert_eq!(bench.client_got(), refusal(&read(1, 1), 0x0b));
    assert!(!bench.is_closed());
}

#[test]
fn a_silent_server_is_a_failed_target_and_its_late_answer_is_dropped() {
    for (json, stream) in [("", "flow /1"), (REQUESTED, "request /1/read_holding_registers")] {
        let mut bench = Bench::new(json);
        bench.client(&read(1, 1));
        bench.stream(stream).respond(200, false);
        bench.pass(Duration::from_millis(4999));
        assert!(bench.client_got().is_empty());
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.client_got(), refusal(&read(1, 1), 0x0b));
    }
    let mut bench = Bench::new("");
    bench.client(&read(1, 1));
    bench.stream("flow /1").respond(200, false);
    bench.pass(Duration::from_secs(5));
    bench.client_got();
    bench.stream("flow /1").send(&frame(1, 1, READ, &[2, 0, 1]), false);
    assert!(bench.client_got().is_empty());
}

#[test]
fn no_more_than_max_pending_requests_wait() {
    let mut bench = Bench::new(r#"{"max_pending": 2}"#);
    bench.client(&[read(1, 1), read(2, 1), read(3, 1)].concat());
    assert_eq!(bench.stream("flow /1").body.len(), 24);
    bench.stream("flow /1").respond(200, false);
    bench.stream("flow /1").send(&frame(1, 1, READ, &[2, 0, 1]), false);
    assert_eq!(bench.client_got().len(), 11);
    assert_eq!(bench.stream("flow /1").body.len(), 36);
}

#[test]
fn no_more_than_max_flows_units_have_a_stream() {
    let mut bench = Bench::new(r#"{"max_flows": 1}"#);
    bench.client(&[read(1, 1), read(2, 2)].concat());
    assert_eq!(bench.asked(), ["flow /1"]);
    assert_eq!(bench.client_got(), refusal(&read(2, 2), 6));
}

#[test]
fn a_client_that_speaks_no_modbus_is_disconnected() {
    let mut bench = Bench::new("");
    bench.client(b"GET / HTTP/1.1\r\n\r\n");
    assert!(bench.is_closed());
    assert_eq!(bench.asked(), Vec::<&str>::new());
    let labels = [("direction", "from_client"), ("kind", "protocol")];
    assert_eq!(bench.count("modbus_decode_errors_total", &labels), 1);
}

#[test]
fn a_function_that_no_request_has_is_refused() {
    let mut bench = Bench::new("");
    bench.client(&frame(1, 1, 0x83, &[1]));
    assert_eq!(bench.client_got(), frame(1, 1, 0x83, &[1]));
    assert_eq!(bench.asked(), Vec::<&str>::new());
}

#[test]
fn an_observer_counts_requests_however_they_are_split() {
    let octets = [read(1, 1), write(2)].concat();
    for piece in 1..=octets.len() {
        let registry = Registry::default();
        let filter = Filter::new(br#"{"mode": "observe"}"#, &registry).unwrap();
        let mut observer = filter.watch();
        for octets in octets.chunks(piece) {
            assert_eq!(observer.see(Direction::FromClient, octets), 0);
        }
        assert_eq!(observer.see(Direction::ToClient, b"no modbus"), u64::MAX);
        for function in ["read_holding_registers", "write_single_register"] {
            let labels = [("function", function), ("carry", "observe")];
            assert_eq!(registry.counter("modbus_requests_total", &labels).value(), 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a client sends, in whatever pieces, each request has one answer once all timeouts have passed.
    #[test]
    fn every_request_is_answered_once(
        requests in proptest::collection::vec((any::<u8>(), 0_u8..=255, 0_usize..=20), 1..40),
        piece in 1_usize..300,
        rules in proptest::sample::select(vec!["", CHECKED, REQUESTED]),
    ) {
        let mut bench = Bench::new(rules);
        let octets: Vec<u8> = requests.iter().zip(1_u16..).flat_map(|((unit, function, len), n)| {
            frame(n, *unit, *function, &[7; 20][..*len])
        }).collect();
        for piece in octets.chunks(piece) {
            bench.client(piece);
        }
        for _ in 0..requests.len() {
            bench.pass(Duration::from_secs(5));
        }
        let got = bench.client_got();
        // Nobody answers, so each answer is an exception: nine octets.
        let mut answered: Vec<u16> =
            got.chunks(9).map(|answer| u16::from_be_bytes([answer[0], answer[1]])).collect();
        answered.sort_unstable();
        let sent: Vec<u16> = (1..).take(requests.len()).collect();
        prop_assert_eq!(answered, sent);
    }
}
