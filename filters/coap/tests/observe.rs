//! Observing (RFC 7641): resources of HTTP services by server-sent events, and resources of CoAP servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support::message::{Msg, con, get, non};
use crate::support::{Bench, millis, rules, seconds};
use codec_coap::{Code, MessageType, OptionNumber};

const CON: MessageType = MessageType::Confirmable;
const NON: MessageType = MessageType::NonConfirmable;
const ACK: MessageType = MessageType::Acknowledgement;
const OBSERVE: OptionNumber = OptionNumber::OBSERVE;
const EVENTS: [(&str, &str); 1] = [("content-type", "text/event-stream; charset=utf-8")];

/// A session in which a resource is observed, and its first state was sent.
fn observed(more: &str) -> (Bench, Msg) {
    let mut bench = Bench::new(&rules(more));
    let request = get(1, "r/temp").token(b"obs").observe(0);
    bench.client(&request);
    bench.respond(0, 200, &EVENTS);
    bench.content(0, b"data: 0\n\n");
    let first = bench.got_one();
    assert_eq!((first.message_type(), first.id(), first.text()), (ACK, 1, "0"));
    (bench, request)
}

fn event(bench: &mut Bench, n: u32) {
    bench.content(0, format!("data: {n}\n\n").as_bytes());
}

#[test]
fn an_observation_is_a_request_for_events() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "r/temp").observe(0));
    bench.client(&get(2, "r/temp").observe(0).opt(OptionNumber::ACCEPT, 50));
    let accept: Vec<_> = bench.streams.iter().map(|stream| stream.header("accept")).collect();
    assert_eq!(
        accept,
        [Some("text/event-stream, */*;q=0.9"), Some("text/event-stream, application/json;q=0.9")]
    );
    assert!(bench.streams.iter().all(|stream| stream.header("x-coap-observe") == Some("0")));
    // It means nothing in other methods.
    bench.client(&con(Code::POST, 3).path("r").observe(0));
    let stream = bench.streams.last().unwrap();
    assert_eq!((stream.header("accept"), stream.header("x-coap-observe")), (None, None));
}

#[test]
fn the_first_event_is_the_response_and_each_other_one_a_notification() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "r/temp").token(b"obs").observe(0));
    bench.respond(0, 200, &EVENTS);
    bench.content(0, b": hello\n\nid: 1\n");
    bench.got_nothing();
    bench.content(0, b"data: 20\nda");
    bench.got_nothing();
    bench.content(0, b"ta: C\n\n");
    let first = bench.got_one();
    assert_eq!((first.message_type(), first.id()), (ACK, 1));
    assert_eq!((first.code, &*first.token, first.text()), (Code::CONTENT, &b"obs"[..], "20\nC"));
    assert_eq!(first.uint(OptionNumber::CONTENT_FORMAT), Some(0));
    let mut last = first.uint(OBSERVE).expect("a number");
    bench.content(0, b"data: 21\n\ndata: 22\n\n");
    let got = bench.got();
    assert_eq!(got.len(), 2);
    for (got, text) in got.iter().zip(["21", "22"]) {
        assert_eq!((got.message_type(), &*got.token, got.text()), (NON, &b"obs"[..], text));
        let number = got.uint(OBSERVE).expect("a number");
        assert!(number > last);
        last = number;
    }
    assert_ne!(got[0].id(), got[1].id());
    assert_eq!(bench.gauge("coap_observations_active"), 1);
    assert_eq!(bench.streams.len(), 1);
}

#[test]
fn every_sixth_message_finds_out_whether_the_client_is_there() {
    let (mut bench, _) = observed("");
    let mut types = Vec::new();
    for n in 1..=18 {
        event(&mut bench, n);
        let got = bench.got_one();
        types.push(got.message_type() == CON);
        if got.message_type() == CON {
            bench.client(&got.acknowledge());
        }
    }
    let at: Vec<_> = (1..).zip(&types).filter(|(_, is_con)| **is_con).map(|(n, _)| n).collect();
    // The response was the first of a run of five.
    assert_eq!(at, [5, 11, 17]);
    bench.pass(seconds(300));
    bench.got_nothing();
    assert!(!bench.is_closed());
}

#[test]
fn while_a_notification_is_not_acknowledged_the_newest_waits() {
    let (mut bench, _) = observed("");
    for n in 1..=5 {
        event(&mut bench, n);
    }
    let confirmable = bench.got().pop().expect("a notification");
    assert_eq!((confirmable.message_type(), confirmable.text()), (CON, "5"));
    for n in 6..=9 {
        event(&mut bench, n);
    }
    bench.got_nothing();
    bench.client(&confirmable.acknowledge());
    let newest = bench.got_one();
    assert_eq!(newest.text(), "9");
    assert!(newest.uint(OBSERVE) > confirmable.uint(OBSERVE));
    event(&mut bench, 10);
    assert_eq!(bench.got_one().text(), "10");
}

#[test]
fn a_client_that_acknowledges_nothing_is_not_told_for_ever() {
    let (mut bench, _) = observed("");
    for n in 1..=5 {
        event(&mut bench, n);
    }
    assert_eq!(bench.got().len(), 5);
    bench.pass(seconds(93));
    assert_eq!(bench.got().len(), 4, "MAX_RETRANSMIT");
    assert!(bench.streams[0].is_reset());
    assert_eq!(bench.gauge("coap_observations_active"), 0);
    bench.pass(seconds(5));
    assert!(bench.is_closed());
}

#[test]
fn a_rejected_notification_is_the_last_one() {
    for count in [1, 3, 5] {
        let (mut bench, _) = observed("");
        for n in 1..=count {
            event(&mut bench, n);
        }
        let last = bench.got().pop().expect("a notification");
        assert_eq!(last.message_type(), if count == 5 { CON } else { NON });
        bench.client(&last.reject());
        assert!(bench.streams[0].is_reset());
        event(&mut bench, 9);
        bench.pass(seconds(200));
        bench.got_nothing();
        assert!(bench.is_closed());
        assert_eq!(bench.gauge("coap_observations_active"), 0);
    }
}

#[test]
fn observe_1_ends_the_observation_and_is_a_request_itself() {
    let (mut bench, _) = observed("");
    bench.client(&get(2, "r/temp").token(b"obs").observe(1));
    assert!(bench.streams[0].is_reset());
    let stream = &bench.streams[1];
    assert_eq!((stream.header("accept"), stream.header("x-coap-observe")), (None, Some("1")));
    bench.answer(1, 200, &[], b"20");
    let got = bench.got_one();
    assert_eq!((got.id(), got.uint(OBSERVE), got.text()), (2, None, "20"));
    assert_eq!(bench.gauge("coap_observations_active"), 0);
}

#[test]
fn observe_1_with_another_token_ends_nothing() {
    let (mut bench, _) = observed("");
    bench.client(&get(2, "r/temp").token(b"other").observe(1));
    assert!(!bench.streams[0].is_over() || !bench.streams[0].is_reset());
    event(&mut bench, 1);
    assert_eq!(bench.got_one().text(), "1");
}

#[test]
fn the_same_token_again_replaces_the_observation() {
    let (mut bench, request) = observed("");
    bench.client(&request.with_id(2));
    assert!(bench.streams[0].is_reset() && !bench.streams[1].is_reset());
    bench.respond(1, 200, &EVENTS);
    bench.content(1, b"data: new\n\n");
    let got = bench.got_one();
    assert_eq!((got.id(), got.text()), (2, "new"));
    assert_eq!(bench.gauge("coap_observations_active"), 1);
}

#[test]
fn when_the_events_end_the_client_is_told() {
    for reset in [false, true] {
        let (mut bench, _) = observed("");
        event(&mut bench, 1);
        bench.got_one();
        if reset {
            bench.reset(0);
        } else {
            bench.finish(0);
        }
        let last = bench.got_one();
        assert_eq!((last.message_type(), last.code), (CON, Code::SERVICE_UNAVAILABLE));
        assert_eq!((&*last.token, last.uint(OBSERVE)), (&b"obs"[..], None));
        bench.pass(seconds(4));
        assert_eq!(bench.got_octets(), [last.octets()], "until it is acknowledged");
        bench.client(&last.acknowledge());
        bench.pass(seconds(100));
        bench.got_nothing();
        assert_eq!(bench.gauge("coap_observations_active"), 0);
    }
}

#[test]
fn events_that_end_before_there_is_one_are_an_error() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "r/temp").observe(0));
    bench.respond(0, 200, &EVENTS);
    bench.finish(0);
    let got = bench.got_one();
    assert_eq!((got.message_type(), got.id()), (ACK, 1));
    assert_eq!((got.code, got.uint(OBSERVE)), (Code::SERVICE_UNAVAILABLE, None));
}

#[test]
fn a_response_that_is_no_events_is_a_plain_one() {
    for (status, kind, code) in [
        (200, "text/plain", Code::CONTENT),
        (404, "text/event-stream", Code::NOT_FOUND),
        (204, "text/event-stream", Code::CONTENT),
    ] {
        let mut bench = Bench::new(&rules(""));
        bench.client(&get(1, "r/temp").observe(0));
        bench.answer(0, status, &[("content-type", kind)], b"");
        let got = bench.got_one();
        assert_eq!((got.code, got.uint(OBSERVE)), (code, None));
        assert_eq!(bench.gauge("coap_observations_active"), 0);
    }
}

#[test]
fn one_observation_too_many_is_a_plain_request() {
    let mut bench = Bench::new(&rules(r#""max_observations": 2"#));
    for id in 1..=3 {
        bench.client(&get(id, &format!("r/{id}")).observe(0));
        if id < 3 {
            let stream = bench.asked_one();
            bench.respond(stream, 200, &EVENTS);
            bench.content(stream, b"data: x\n\n");
        }
    }
    let stream = bench.asked_one();
    assert_eq!(bench.streams[stream].header("accept"), None);
    bench.answer(stream, 200, &[], b"plain");
    assert_eq!(bench.got().pop().and_then(|got| got.uint(OBSERVE)), None);
}

#[test]
fn a_late_first_event_comes_separately() {
    let mut bench = Bench::new(&rules(""));
    let request = get(1, "r/temp").token(b"obs").observe(0);
    bench.client(&request);
    bench.respond(0, 200, &EVENTS);
    bench.pass(seconds(1));
    assert_eq!(bench.got_octets(), [request.acknowledge().octets()]);
    bench.content(0, b"data: 1\n\n");
    let first = bench.got_one();
    assert_eq!((first.message_type(), &*first.token), (CON, &b"obs"[..]));
    assert!(first.uint(OBSERVE).is_some());
    bench.client(&first.acknowledge());
    event(&mut bench, 2);
    assert_eq!(bench.got_one().text(), "2");
}

#[test]
fn a_state_that_is_too_large_for_a_message_comes_in_blocks() {
    let (mut bench, _) = observed(r#""block_size": 64"#);
    let state = "x".repeat(100) + &"y".repeat(50);
    bench.content(0, format!("data: {state}\n\n").as_bytes());
    let first = bench.got_one();
    assert_eq!(first.block(OptionNumber::BLOCK2), Some((0, true, 2)));
    assert!(first.uint(OBSERVE).is_some());
    let mut whole = first.payload.clone();
    for (id, num) in [(10, 1), (11, 2)] {
        bench.client(&get(id, "r/temp").block2(num, false, 2));
        let got = bench.got_one();
        assert_eq!(got.uint(OBSERVE), None);
        assert_eq!(got.opaque(OptionNumber::ETAG), first.opaque(OptionNumber::ETAG));
        whole.extend(got.payload);
    }
    assert_eq!(whole, state.as_bytes());
    assert_eq!(bench.streams.len(), 1);
}

#[test]
fn an_observation_keeps_the_session() {
    let (mut bench, _) = observed("");
    bench.pass(seconds(100_000));
    assert!(!bench.is_closed());
    event(&mut bench, 1);
    assert_eq!(bench.got_one().text(), "1");
}

// CoAP servers.

#[test]
fn a_notification_of_a_server_is_carried_as_it_is() {
    let mut bench = Bench::new(&rules(""));
    let request = get(1, "temp").token(b"obs").observe(0);
    bench.client(&request);
    bench.assert_server_got(0, &request);
    bench.server(0, &request.reply(Code::CONTENT).observe(10).payload("20"));
    bench.got_one();
    assert_eq!(bench.gauge("coap_observations_active"), 1);
    for n in 0..5_u16 {
        bench.pass(seconds(1000));
        assert!(!bench.is_closed());
        let state = if n % 2 == 0 { con } else { non }(Code::CONTENT, 100 + n);
        let state = state.token(b"obs").observe(11 + u32::from(n)).payload("21");
        bench.server(0, &state);
        assert_eq!(bench.got_octets(), [state.octets()]);
        if n % 2 == 0 {
            bench.client(&state.acknowledge());
        }
    }
}

#[test]
fn the_end_of_a_servers_observation_ends_the_session() {
    let ends: [fn(&mut Bench); 4] = [
        |bench| bench.client(&non(Code::EMPTY, 100).reject()),
        |bench| {
            let request = get(2, "temp").token(b"obs").observe(1);
            bench.client(&request);
            bench.server(0, &request.reply(Code::CONTENT));
        },
        |bench| bench.server(0, &non(Code::NOT_FOUND, 101).token(b"obs")),
        |bench| bench.finish(0),
    ];
    for end in ends {
        let mut bench = Bench::new(&rules(""));
        let request = get(1, "temp").token(b"obs").observe(0);
        bench.client(&request);
        bench.server(0, &request.reply(Code::CONTENT).observe(10));
        bench.server(0, &non(Code::CONTENT, 100).token(b"obs").observe(11));
        bench.pass(seconds(60));
        assert!(!bench.is_closed());
        end(&mut bench);
        assert_eq!(bench.gauge("coap_observations_active"), 0);
        bench.closes_within(seconds(5));
    }
}

#[test]
fn a_server_that_does_not_let_itself_be_observed_keeps_no_session() {
    let mut bench = Bench::new(&rules(""));
    let request = get(1, "temp").observe(0);
    bench.client(&request);
    bench.server(0, &request.reply(Code::CONTENT));
    let took = bench.closes_within(seconds(5));
    assert!(took >= seconds(2) - millis(1));
}

#[test]
fn a_rejected_response_ends_the_observation() {
    for is_con in [true, false] {
        let mut bench = Bench::new(&rules(""));
        let request = get(1, "r/temp").token(b"obs").observe(0);
        bench.client(&if is_con { request } else { request.non() });
        bench.respond(0, 200, &EVENTS);
        bench.pass(seconds(1));
        bench.got();
        bench.content(0, b"data: 1\n\n");
        let first = bench.got_one();
        bench.client(&first.reject());
        assert!(bench.streams[0].is_reset(), "{first}");
    }
}

#[test]
fn a_response_that_is_never_acknowledged_ends_the_observation() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "r/temp").token(b"obs").observe(0));
    bench.respond(0, 200, &EVENTS);
    bench.pass(seconds(1));
    bench.content(0, b"data: 1\n\n");
    bench.pass(seconds(100));
    assert!(bench.streams[0].is_reset());
}

#[test]
fn a_client_is_looked_for_however_its_observation_began() {
    for (is_con, late) in [(true, true), (false, false)] {
        let mut bench = Bench::new(&rules(""));
        let request = get(1, "r/temp").token(b"obs").observe(0);
        bench.client(&if is_con { request } else { request.non() });
        if late {
            bench.pass(seconds(1));
        }
        bench.respond(0, 200, &EVENTS);
        let mut confirmables = 0;
        for _ in 0..20 {
            bench.content(0, b"data: x\n\n");
            for got in bench.got() {
                if got.message_type() == CON {
                    confirmables += 1;
                    bench.client(&got.acknowledge());
                }
            }
        }
        assert!(confirmables >= 3, "{confirmables} of 20, con: {is_con}");
    }
}
