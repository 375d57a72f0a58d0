//! Limits: what is above them, and what the client is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::time::Duration;

use crate::support::message::{Msg, con, get, non, post};
use crate::support::{ANNA, Bench, Worker, millis, rules, seconds};
use codec_coap::{Code, MessageType, OptionNumber};

const ECHO: OptionNumber = OptionNumber::ECHO;

fn limited(bench: &Bench, limit: &str, action: &str) -> i64 {
    bench.counter("coap_limited_total", &[("limit", limit), ("action", action)])
}

// Amplification (RFC 9175 §2.4).

/// The challenge that a client got, and its Echo option value.
#[track_caller]
fn challenge(bench: &mut Bench) -> (Msg, Vec<u8>) {
    let got = bench.got_one();
    assert_eq!(got.code, Code::UNAUTHORIZED, "{got}");
    let value = got.opaque(ECHO).expect("an Echo option");
    (got, value)
}

#[test]
fn a_large_response_of_a_server_waits_for_proof_of_the_address() {
    let mut bench = Bench::new(r#"{"amplification_factor": 3}"#);
    let request = get(1, "a");
    let size = request.octets().len();
    let reply = |request: &Msg, size: usize| {
        let bare = request.reply(Code::CONTENT).payload("x");
        let more = size - bare.octets().len();
        bare.payload("x".repeat(1 + more))
    };
    // So many octets are no amplification.
    bench.client(&request);
    let small = reply(&request, 3 * size);
    bench.server(0, &small);
    assert_eq!(bench.got_octets(), [small.octets()]);
    let request = request.with_id(2).token(b"\0\x02");
    bench.client(&request);
    bench.server(0, &reply(&request, 3 * size + 1));
    let (got, value) = challenge(&mut bench);
    assert_eq!(got.udp, Some((MessageType::Acknowledgement, 2)));
    assert_eq!(got.token, b"\0\x02");
    assert!(got.octets().len() <= 3 * size);
    assert_eq!(limited(&bench, "amplification_factor", "challenge"), 1);
    // With the proof it gets everything, and from then on without it.
    let proof = get(3, "a").opt(ECHO, &*value);
    for request in [proof, get(4, "a")] {
        bench.client(&request);
        let large = reply(&request, 1200);
        bench.server(0, &large);
        assert_eq!(bench.got_octets(), [large.octets()]);
    }
}

#[test]
fn a_large_response_to_a_non_confirmable_request_waits_for_proof() {
    let mut bench = Bench::new(&rules(r#""amplification_factor": 3"#));
    let request = get(1, "a").non();
    bench.client(&request);
    bench.server(0, &non(Code::CONTENT, 700).token(&request.token).payload([1; 900]));
    let (got, value) = challenge(&mut bench);
    assert_eq!(got.message_type(), MessageType::NonConfirmable);
    bench.client(&get(2, "r").non().token(b"t").opt(ECHO, &*value));
    bench.answer_one(200, &[], &[1; 1000]);
    assert_eq!(bench.got_one().payload.len(), 1000);
}

#[test]
fn a_large_response_of_a_service_waits_for_proof() {
    let mut bench = Bench::new(&rules(r#""amplification_factor": 3"#));
    bench.client(&get(1, "r"));
    bench.answer_one(200, &[], &[1; 900]);
    let (got, value) = challenge(&mut bench);
    assert_eq!(got.id(), 1);
    bench.client(&get(2, "r").opt(ECHO, &*value));
    bench.answer_one(200, &[], &[1; 900]);
    assert_eq!(bench.got_one().payload, [1; 900]);
}

#[test]
fn to_observe_needs_proof_because_notifications_have_no_request() {
    let mut bench = Bench::new(&rules(r#""amplification_factor": 3"#));
    for path in ["a", "r/a"] {
        bench.client(&get(1, path).observe(0));
        challenge(&mut bench);
    }
    assert!(bench.streams.is_empty());
}

#[test]
fn a_proof_is_one_clients_and_is_fresh_for_a_minute() {
    let worker = Worker::new("{}");
    let mut bench = worker.session(ANNA, seconds(100));
    bench.client(&get(1, "a").observe(0));
    let (_, value) = challenge(&mut bench);
    bench.hang_up();
    let mut old = value.clone();
    old[3] ^= 1;
    for (address, at, value, is_proof) in [
        ("192.0.2.1:40002", 100, &*value, false),
        ("192.0.2.2:40001", 100, &value, false),
        (ANNA, 100, &old, false),
        (ANNA, 100, &value[..11], false),
        (ANNA, 161, &value, false),
        (ANNA, 160, &value, true),
    ] {
        let mut bench = worker.session(address, seconds(at));
        bench.client(&get(2, "a").observe(0).opt(ECHO, value));
        assert_eq!(bench.streams.len(), usize::from(is_proof), "{address} {at}");
        bench.hang_up();
    }
    // Another worker has another key.
    let mut bench = Worker::new("{}").session(ANNA, seconds(100));
    bench.client(&get(2, "a").observe(0).opt(ECHO, &*value));
    challenge(&mut bench);
}

#[test]
fn a_proof_is_remembered_after_the_session() {
    let worker = Worker::new("{}");
    let mut bench = worker.session(ANNA, Duration::ZERO);
    bench.client(&get(1, "a").observe(0));
    let (_, value) = challenge(&mut bench);
    bench.client(&get(2, "a").observe(0).opt(ECHO, &*value));
    bench.hang_up();
    for (address, is_known) in [("192.0.2.1:40002", false), (ANNA, true)] {
        let mut bench = worker.session(address, seconds(300));
        bench.client(&get(3, "a").observe(0));
        assert_eq!(bench.streams.len(), usize::from(is_known));
        bench.hang_up();
    }
}

#[test]
fn without_a_factor_nothing_needs_proof() {
    let mut bench = Bench::new(&rules(r#""amplification_factor": 0"#));
    bench.client(&get(1, "a").observe(0));
    bench.server(0, &get(1, "a").reply(Code::CONTENT).observe(1).payload([1; 1000]));
    assert_eq!(bench.got_one().payload, [1; 1000]);
}

#[test]
fn what_the_filter_says_by_itself_is_no_amplification_either() {
    let mut bench = Bench::new(&rules(r#""amplification_factor": 1"#));
    let requests = [
        get(1, "r").opt(OptionNumber::OSCORE, &b""[..]),
        get(2, "c"),
        get(3, "").opt(OptionNumber::URI_HOST, "@"),
        con(Code::new(0, 30), 4).path("c"),
        con(Code::GET, 5),
    ];
    for request in requests {
        bench.client(&request);
        for stream in bench.open() {
            bench.answer(stream, 511, &[], b"");
        }
        for octets in bench.got_octets() {
            assert!(octets.len() <= request.octets().len(), "{request}");
        }
    }
}

// Rates.

#[test]
fn a_request_above_the_rate_is_told_when_to_come_again() {
    let limit = r#""rate_limits": [{"messages": {"per_second": 1, "burst": 3}}]"#;
    let mut bench = Bench::new(&rules(limit));
    for id in 1..=3 {
        bench.exchange(&get(id, "a"), "/a");
    }
    bench.client(&get(4, "a"));
    let got = bench.got_one();
    assert_eq!((got.code, got.id()), (Code::TOO_MANY_REQUESTS, 4));
    assert_eq!(got.uint(OptionNumber::MAX_AGE), Some(1));
    assert!(bench.server_got(0).is_empty());
    assert_eq!(limited(&bench, "rate", "reject"), 1);
    bench.pass(seconds(1));
    bench.exchange(&get(5, "a"), "/a");
}

#[test]
fn octets_are_limited_too() {
    let limit = r#""rate_limits": [{"octets": {"per_second": 100, "burst": 1000}}]"#;
    let mut bench = Bench::new(&rules(limit));
    bench.client(&post(1, "a", [1; 900]));
    bench.client(&post(2, "a", [1; 500]));
    let got = bench.got_one();
    assert_eq!((got.code, got.id()), (Code::TOO_MANY_REQUESTS, 2));
    // 500 octets are missing some 400: four seconds and a bit.
    let wait = got.uint(OptionNumber::MAX_AGE).expect("Max-Age");
    assert!((4..=5).contains(&wait), "{wait}");
}

#[test]
fn a_request_above_the_rate_can_be_dropped() {
    let limit =
        r#""rate_limits": [{"messages": {"per_second": 1, "burst": 1}, "exceeded": "drop"}]"#;
    let mut bench = Bench::new(&rules(limit));
    bench.client_all(&[get(1, "a"), get(2, "a")]);
    bench.got_nothing();
    assert_eq!(bench.server_got(0).len(), 1);
    assert_eq!(limited(&bench, "rate", "drop"), 1);
}

#[test]
fn only_requests_are_counted_and_retransmissions_that_are_answered_are_not() {
    let limit = r#""rate_limits": [{"messages": {"per_second": 1, "burst": 2}}]"#;
    let mut bench = Bench::new(&rules(limit));
    let request = get(1, "r");
    bench.client(&request);
    bench.answer_one(200, &[], b"");
    for _ in 0..10 {
        bench.client(&request);
        bench.client(&con(Code::EMPTY, 500).acknowledge());
        bench.client(&con(Code::EMPTY, 501));
        bench.client(&non(Code::CONTENT, 502).token(b"?"));
    }
    bench.got();
    bench.client(&get(2, "r"));
    assert_eq!(bench.open().len(), 1);
}

#[test]
fn the_addresses_of_one_network_share_their_limit() {
    let limit = r#""rate_limits": [{"per": "source_address",
        "messages": {"per_second": 1, "burst": 1}}]"#;
    for (first, second, is_same) in [
        ("192.0.2.1:1", "192.0.2.1:2", true),
        ("192.0.2.1:1", "192.0.2.2:1", false),
        ("[::ffff:192.0.2.1]:1", "192.0.2.1:2", true),
        ("[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::]:9", true),
        ("[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", false),
    ] {
        let worker = Worker::new(&rules(limit));
        let mut one = worker.session(first, Duration::ZERO);
        one.client(&get(1, "a"));
        let mut other = worker.session(second, Duration::ZERO);
        other.client(&get(1, "a"));
        assert_eq!(other.streams.is_empty(), is_same, "{first} {second}");
    }
}

// Numbers and sizes.

#[test]
fn one_request_too_many_at_once_is_refused() {
    for path in ["a", "c", "r"] {
        let mut bench = Bench::new(&rules(r#""max_outstanding": 3"#));
        for id in 1..=3 {
            bench.client(&get(id, path));
        }
        bench.got_nothing();
        bench.client(&get(4, path));
        let got = bench.got_one();
        assert_eq!((got.code, got.id()), (Code::TOO_MANY_REQUESTS, 4));
        assert_eq!(limited(&bench, "max_outstanding", "reject"), 1);
        // An answer makes room.
        if path == "a" {
            bench.server(0, &get(2, "a").reply(Code::CONTENT));
        } else {
            bench.answer(1, 403, &[], b"");
        }
        assert_eq!(bench.got_one().id(), 2);
        bench.client(&get(5, path));
        bench.got_nothing();
    }
}

#[test]
fn a_request_that_was_never_answered_makes_room_in_the_end() {
    let mut bench = Bench::new(&rules(
        r#""max_outstanding": 1, "response_timeout": "10s", "idle_timeout": "100s""#,
    ));
    bench.client(&get(1, "a"));
    bench.pass(seconds(5));
    bench.client(&get(2, "a"));
    assert_eq!(bench.got_one().code, Code::TOO_MANY_REQUESTS);
    bench.pass(seconds(5));
    bench.client(&get(3, "a"));
    bench.got_nothing();
    assert_eq!(bench.server_got(0).len(), 2);
}

#[test]
fn a_message_with_too_many_options_is_refused() {
    let mut bench = Bench::new(&rules(r#""max_options": 4"#));
    let four = get(1, "a/b/c/d");
    bench.client(&four);
    bench.assert_server_got(0, &four);
    bench.client(&get(2, "a/b/c/d/e"));
    let got = bench.got_one();
    assert_eq!((got.code, got.id()), (Code::BAD_REQUEST, 2));
    assert_eq!(limited(&bench, "max_options", "reject"), 1);
    assert!(bench.server_got(0).is_empty());
}

#[test]
fn a_message_that_is_too_large_is_refused() {
    let mut bench = Bench::new(&rules(r#""max_message_size": 100"#));
    let bare = post(1, "a", "x").octets().len() - 1;
    let fits = post(1, "a", vec![1; 100 - bare]);
    bench.client(&fits);
    bench.assert_server_got(0, &fits);
    bench.client(&post(2, "a", vec![1; 101 - bare]));
    let got = bench.got_one();
    assert_eq!((got.code, got.id()), (Code::REQUEST_ENTITY_TOO_LARGE, 2));
    assert_eq!(got.uint(OptionNumber::SIZE1), Some(100));
    // What is no request gets no response.
    bench.client(&con(Code::CONTENT, 3).payload([1; 200]));
    bench.got_nothing();
    assert!(bench.server_got(0).is_empty());
    assert_eq!(limited(&bench, "max_message_size", "reject"), 2);
}

#[test]
fn only_so_many_clients_are_remembered() {
    let worker = Worker::new(&rules(r#""max_remembered": 2"#));
    let address = |n: u16| format!("192.0.2.1:{n}");
    for n in 1..=3 {
        let mut bench = worker.session(&address(n), millis(n.into()));
        bench.client(&get(1, "r"));
        bench.answer_one(200, &[], b"");
        bench.hang_up();
    }
    for (n, is_known) in [(1, false), (2, true), (3, true)] {
        let mut bench = worker.session(&address(n), seconds(1));
        bench.client(&get(1, "r"));
        assert_eq!(bench.streams.is_empty(), is_known, "{n}");
        // A session that is not hung up is remembered by nobody.
    }
}

#[test]
fn a_response_that_no_request_waits_for_is_no_way_around_the_proof() {
    // Of a server that does not know No-Response (RFC 7967 §2: it is elective).
    let mut bench = Bench::new("{}");
    let request = get(1, "a").opt(OptionNumber::NO_RESPONSE, 26);
    bench.client(&request);
    bench.server(0, &request.reply(Code::CONTENT).payload([1; 1000]));
    for got in bench.got_octets() {
        assert!(got.len() <= 3 * request.octets().len(), "{} octets", got.len());
    }
    // Of one that is asked several times with the same token.
    let mut bench = Bench::new("{}");
    let requests: Vec<_> = (1..=20).map(|id| get(id, "a").token(b"t")).collect();
    bench.client_all(&requests);
    for request in &requests {
        bench.server(0, &request.reply(Code::CONTENT).payload([1; 1000]));
    }
    let asked: usize = requests.iter().map(|request| request.octets().len()).sum();
    let got: usize = bench.got_octets().iter().map(Vec::len).sum();
    assert!(got <= 3 * asked, "{got} octets to {asked}");
}

#[test]
fn a_retransmission_of_the_same_request_is_no_way_around_the_proof() {
    let mut bench = Bench::new("{}");
    let request = get(1, "a");
    bench.client(&request);
    bench.client(&request);
    for _ in 0..2 {
        bench.server(0, &request.reply(Code::CONTENT).payload([1; 1000]));
    }
    let got: usize = bench.got_octets().iter().map(Vec::len).sum();
    assert!(got <= 6 * request.octets().len(), "{got} octets");
}

#[test]
fn what_a_request_did_it_does_not_do_twice_for_a_proof() {
    let mut bench = Bench::new(&rules(r#""amplification_factor": 3"#));
    // The client learns what became of it, and has nothing to repeat.
    let request = post(1, "r/buy", "x");
    bench.client(&request);
    bench.answer_one(200, &[], &[1; 900]);
    let got = bench.got_one();
    assert_eq!((got.code, &*got.payload), (Code::CHANGED, &b""[..]));
    for separate in [false, true] {
        let id = 2 + u16::from(separate);
        let request = post(id, "a/buy", "x");
        bench.client(&request);
        let flow = bench.flow("/a");
        let reply = request.reply(Code::CHANGED).payload([1; 900]);
        let separately = con(Code::CHANGED, 700).token(&request.token).payload([1; 900]);
        bench.server(flow, if separate { &separately } else { &reply });
        let got = bench.got_one();
        assert_eq!(
            (got.code, &*got.payload, &got.token),
            (Code::CHANGED, &b""[..], &request.token)
        );
        assert_eq!(got.id(), if separate { 700 } else { id });
    }
}

#[test]
fn an_error_without_its_text_needs_no_proof() {
    let mut bench = Bench::new("{}");
    // An empty Uri-Host: 4.02 (RFC 7252 §5.4.1, §5.4.3).
    bench.datagram(b"\x40\x01\x00\x01\x30");
    let got = bench.got_one();
    assert_eq!(got.code, Code::BAD_OPTION, "{got}");
}

#[test]
fn to_observe_what_is_checked_needs_proof_too() {
    let mut bench = Bench::new(&rules(r#""amplification_factor": 3"#));
    bench.client(&get(1, "c").observe(0));
    for stream in bench.open() {
        bench.answer(stream, 200, &[], b"");
    }
    let got = bench.got_one();
    assert_eq!(got.code, Code::UNAUTHORIZED);
    assert!(bench.flows().is_empty());
}

#[test]
fn a_large_separate_response_waits_for_proof_as_well() {
    let mut bench = Bench::new("{}");
    let request = get(1, "a");
    bench.client(&request);
    bench.server(0, &request.acknowledge());
    bench.got();
    bench.server_got(0);
    let response = con(Code::CONTENT, 700).token(&request.token).payload([1; 900]);
    bench.server(0, &response);
    let (got, _) = challenge(&mut bench);
    assert_eq!((got.udp, &got.token), (response.udp, &request.token));
    // Whoever acknowledges it acknowledges the server's.
    bench.client(&got.acknowledge());
    bench.assert_server_got(0, &response.acknowledge());
}
