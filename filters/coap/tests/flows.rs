//! What travels in flows: messages as they are, each to the server that it belongs to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::time::Duration;

use crate::support;
use crate::support::message::{Msg, con, get, non, post};
use crate::support::{ANNA, Bench, LIMITS, Worker, millis, rules, seconds};
use codec_coap::{Code, OptionNumber};
use proptest::prelude::*;

#[test]
fn a_flow_is_one_stream_that_says_what_it_is() {
    let worker = Worker::new(r#"{"authority": "things.example:5683"}"#);
    let mut bench = worker.session("[2001:db8::7]:1234", Duration::ZERO);
    bench.client(&get(1, "sensors/temp"));
    bench.client(&post(2, "sensors/other", "x"));
    assert_eq!(bench.flows(), ["/sensors"]);
    let stream = &bench.streams[0];
    assert_eq!((&*stream.method, &*stream.authority), ("POST", "things.example:5683"));
    assert_eq!(stream.header("x-protocol"), Some("coap"));
    assert_eq!(stream.header("x-coap-transport"), Some("udp"));
    assert_eq!(stream.header("x-forwarded-for"), Some("2001:db8::7"));
    assert_eq!(stream.own_headers(), ["x-carry: flow"]);
    assert_eq!(bench.gauge("coap_flows_active"), 1);
}

#[test]
fn a_flow_is_named_by_host_and_first_segment() {
    let mut bench = Bench::new("{}");
    let host = |id, host: &str| get(id, "a/b").opt(OptionNumber::URI_HOST, host);
    bench.client_all(&[
        get(1, "a/b"),
        host(2, "Lamp.Example"),
        host(3, "lamp.example"),
        host(4, "lamp.example").opt(OptionNumber::URI_PORT, 7000),
        get(5, ""),
        get(6, "a%/b").opt(OptionNumber::URI_QUERY, "q"),
    ]);
    let flows: Vec<_> =
        bench.streams.iter().map(|stream| format!("{}{}", stream.authority, stream.path)).collect();
    assert_eq!(flows, ["coap/a", "lamp.example/a", "lamp.example:7000/a", "coap/", "coap/a%25"]);
}

#[test]
fn with_the_session_as_key_there_is_one_flow() {
    let mut bench = Bench::new(r#"{"flow_key": "session"}"#);
    bench.client_all(&[get(1, "a"), get(2, "b"), get(3, "")]);
    assert_eq!(bench.flows(), ["/"]);
    assert_eq!(bench.server_got(0).len(), 3);
}

#[test]
fn a_registration_names_the_endpoint_in_a_flow_of_its_own() {
    let mut bench = Bench::new(r#"{"flow_key": "lwm2m_endpoint"}"#);
    let register = |id, query: &str| post(id, "rd", "</1>").opt(OptionNumber::URI_QUERY, query);
    bench.client(&get(1, "bs"));
    bench.client(&register(2, "ep=urn:dev,1"));
    bench.client(&get(3, "a"));
    bench.client(&register(4, "ep=other"));
    let names: Vec<_> =
        bench.streams.iter().map(|stream| stream.header("x-lwm2m-endpoint")).collect();
    assert_eq!(names, [None, Some("urn:dev%2C1"), Some("other")]);
    assert_eq!(bench.server_got(1).len(), 2);
}

/// One of each kind of message that a client sends to a server, and the other way round.
fn conversation() -> (Vec<Msg>, Vec<Msg>) {
    let client = vec![
        get(1, "a/b").observe(0),
        get(2, "a").non().opt(OptionNumber(65_000), &b"unknown"[..]),
        post(3, "a", vec![0xff; 1200]).block1(0, true, 6),
        post(4, "a", b"\x00sealed").opt(OptionNumber::OSCORE, &b"\x09\x01"[..]),
        con(Code::CONTENT, 5).token(b"answer").payload("to a request of the server"),
        con(Code::EMPTY, 6).acknowledge(),
        con(Code::EMPTY, 7).reject(),
        con(Code::EMPTY, 8),
        Msg::new(codec_coap::MessageType::Confirmable, Code::new(0, 30), 9).path("a"),
    ];
    let server = vec![
        client[0].acknowledge(),
        con(Code::CONTENT, 100).token(b"\x00\x01").observe(7).payload("20 C"),
        non(Code::CONTENT, 101).token(b"\x00\x02").opt(OptionNumber(65_002), &b""[..]),
        client[2].reply(Code::CONTINUE).block1(0, true, 6),
        get(102, "device/of/the/client"),
        con(Code::EMPTY, 103),
        client[4].acknowledge(),
        con(Code::new(5, 31), 104).payload([0xff; 1100]),
    ];
    (client, server)
}

fn octets(messages: &[Msg]) -> Vec<Vec<u8>> {
    messages.iter().map(Msg::octets).collect()
}

#[test]
fn messages_of_every_kind_are_the_same_on_both_sides() {
    let mut bench = Bench::new(&rules(""));
    let (client, server) = conversation();
    bench.client_all(&client);
    let flow = bench.flow("/a");
    assert_eq!(bench.streams.len(), 1);
    assert_eq!(bench.server_got_octets(flow), octets(&client));
    for message in &server {
        bench.server(flow, message);
    }
    assert_eq!(bench.got_octets(), octets(&server));
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    #[test]
    fn messages_are_the_same_however_their_octets_are_split(
        piece in 1..1500_usize,
        cuts in proptest::collection::vec(1..1500_usize, 1..40),
    ) {
        let mut bench = Bench::new(&rules(""));
        bench.piece = piece;
        let (client, server) = conversation();
        bench.client_all(&client);
        let flow = bench.flow("/a");
        prop_assert_eq!(bench.server_got_octets(flow), octets(&client));
        let native: Vec<u8> = server.iter().flat_map(Msg::native).collect();
        let (mut rest, mut cuts) = (&*native, cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            bench.content(flow, now);
            rest = later;
        }
        prop_assert_eq!(bench.got_octets(), octets(&server));
    }
}

#[test]
fn capsules_of_other_types_and_contexts_mean_nothing() {
    let mut bench = Bench::new(&rules(""));
    let request = get(1, "a");
    let others = [&b"\x17\x03abc"[..], b"\x00\x02\x02x", b"\x00\x00", b"\x40\x25\x00"].concat();
    bench.octets(&[&*others, &request.native(), &others].concat());
    assert_eq!(bench.streams[0].body, request.native());
    let reply = request.reply(Code::CONTENT);
    bench.content(0, &[&*others, &reply.native(), &others].concat());
    assert_eq!(bench.got, reply.native());
}

#[test]
fn a_capsule_too_long_to_be_a_datagram_ends_the_session() {
    let mut bench = Bench::new("{}");
    bench.client(&get(1, "a"));
    bench.octets(b"\x00\x80\x01\x00\x10");
    assert!(bench.is_closed());
}

#[test]
fn a_server_that_sends_what_is_no_capsule_loses_its_flow_alone() {
    let mut bench = Bench::new(&rules(""));
    bench.client_all(&[get(1, "a"), get(2, "b")]);
    let (a, b) = (bench.flow("/a"), bench.flow("/b"));
    bench.content(a, b"\x00\x80\x01\x00\x10");
    let got = bench.got_one();
    assert_eq!((got.code, got.id()), (Code::BAD_GATEWAY, 1));
    bench.server(b, &get(2, "b").reply(Code::CONTENT));
    assert_eq!(bench.got_one().code, Code::CONTENT);
    assert!(bench.streams[a].is_over() && !bench.streams[b].is_over() && !bench.is_closed());
}

#[test]
fn what_a_server_sends_that_is_no_message_does_not_reach_the_client() {
    let mut bench = Bench::new(&rules(""));
    let request = get(1, "a");
    bench.client(&request);
    for junk in
        [&b""[..], b"\x40", b"\xc0\x45\x00\x01", b"\x49\x45\x00\x01123456789", b"\x48\x45\x00\x01"]
    {
        bench.content(0, &support::message::capsule(junk));
    }
    bench.got_nothing();
    bench.server(0, &request.reply(Code::CONTENT));
    assert_eq!(bench.got_one().code, Code::CONTENT);
}

// Which flow.

#[test]
fn the_flow_that_was_used_least_recently_ends_for_a_new_one() {
    let mut bench = Bench::new(&rules(r#""max_flows": 2"#));
    for (id, path) in [(1, "a"), (2, "b"), (3, "a"), (4, "d"), (5, "a"), (6, "b")] {
        bench.pass(millis(1));
        bench.exchange(&get(id, path), &format!("/{path}"));
    }
    assert_eq!(bench.flows(), ["/a", "/b", "/d", "/b"]);
    let over: Vec<_> = bench.streams.iter().map(|stream| stream.is_over()).collect();
    assert_eq!(over, [false, true, true, false]);
    assert!(bench.streams.iter().all(|stream| !stream.is_reset()));
    assert_eq!(bench.gauge("coap_flows_active"), 2);
    assert_eq!(
        bench.counter("coap_limited_total", &[("limit", "max_flows"), ("action", "close")]),
        2
    );
}

#[test]
fn an_acknowledgement_goes_to_the_server_whose_message_it_is_for() {
    let mut bench = Bench::new(&rules(""));
    bench.client_all(&[get(1, "a"), get(2, "b")]);
    let (a, b) = (bench.flow("/a"), bench.flow("/b"));
    bench.server_got(a);
    bench.server_got(b);
    let (of_a, of_b) =
        (con(Code::CONTENT, 700).token(b"\0\x01"), con(Code::CONTENT, 800).token(b"\0\x02"));
    bench.server(a, &of_a);
    bench.server(b, &of_b);
    bench.client(&of_a.reject());
    bench.client(&of_b.acknowledge());
    bench.assert_server_got(a, &of_a.reject());
    bench.assert_server_got(b, &of_b.acknowledge());
}

#[test]
fn a_response_goes_to_the_server_that_asked() {
    let mut bench = Bench::new(&rules(""));
    bench.client_all(&[get(1, "a"), get(2, "b")]);
    let (a, b) = (bench.flow("/a"), bench.flow("/b"));
    bench.server_got(a);
    bench.server_got(b);
    let (from_a, from_b) = (get(700, "x").token(b"A"), get(701, "y").token(b"B").non());
    bench.server(a, &from_a);
    bench.server(b, &from_b);
    // Piggybacked, separate and non-confirmable.
    let piggybacked = from_a.reply(Code::CONTENT);
    let separate = con(Code::CONTENT, 31).token(b"A");
    let answer = non(Code::CONTENT, 32).token(b"B");
    bench.client_all(&[answer.clone(), piggybacked.clone(), separate.clone()]);
    assert_eq!(bench.server_got_octets(a), [piggybacked.octets(), separate.octets()]);
    bench.assert_server_got(b, &answer);
}

#[test]
fn a_message_for_nobody_goes_nowhere_when_there_are_several_servers() {
    let mut bench = Bench::new(&rules(""));
    bench.client_all(&[get(1, "a"), get(2, "b")]);
    let (a, b) = (bench.flow("/a"), bench.flow("/b"));
    bench.server_got(a);
    bench.server_got(b);
    bench.client_all(&[con(Code::EMPTY, 9).acknowledge(), con(Code::CONTENT, 10).token(b"?")]);
    assert!(bench.server_got(a).is_empty() && bench.server_got(b).is_empty());
}

#[test]
fn a_ping_is_answered_by_the_only_server_or_else_by_the_filter() {
    let mut bench = Bench::new(&rules(""));
    let ping = con(Code::EMPTY, 50);
    bench.client(&ping);
    assert_eq!(bench.got_octets(), [ping.reject().octets()]);
    bench.client(&get(1, "a"));
    bench.client(&ping);
    assert_eq!(bench.server_got(0).len(), 2);
    bench.got_nothing();
    bench.client(&get(2, "b"));
    bench.client(&ping);
    assert_eq!(bench.got_octets(), [ping.reject().octets()]);
}

// Two servers with the same message ID.

#[test]
fn messages_of_two_servers_with_the_same_id_are_two_messages() {
    let mut bench = Bench::new(&rules(""));
    bench.client_all(&[get(1, "a"), get(2, "b")]);
    let (a, b) = (bench.flow("/a"), bench.flow("/b"));
    bench.server_got(a);
    bench.server_got(b);
    let of_a = con(Code::CONTENT, 700).token(b"\0\x01").payload("a").observe(1);
    let of_b = con(Code::CONTENT, 700).token(b"\0\x02").payload("b");
    bench.server(a, &of_a);
    bench.server(b, &of_b);
    let got = bench.got();
    assert_eq!(got[0].octets(), of_a.octets());
    assert_ne!(got[1].id(), 700);
    assert_eq!(got[1].clone().with_id(700).octets(), of_b.octets());
    // Whoever is meant gets its own message ID back.
    bench.client(&got[1].acknowledge());
    bench.client(&got[0].reject());
    bench.assert_server_got(a, &of_a.reject());
    bench.assert_server_got(b, &of_b.acknowledge());
    // A retransmission is the same message again.
    bench.server(b, &of_b);
    bench.server(a, &of_a);
    let again = bench.got_octets();
    assert_eq!(again, [got[1].octets(), got[0].octets()]);
}

#[test]
fn a_message_id_of_the_filter_is_none_of_a_servers() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "a"));
    let flow = bench.flow("/a");
    let mut ids = std::collections::HashSet::new();
    for id in 0..50 {
        bench.client(&get(1000 + id, "r/x").non());
        bench.answer_one(200, &[], b"");
        let own = bench.got_one().id();
        // The server happens to use the very next one.
        let server = con(Code::CONTENT, own.wrapping_add(1)).token(b"\0\x01");
        bench.server(flow, &server);
        assert!(ids.insert(own) && ids.insert(bench.got_one().id()));
    }
}

// Flows that are refused, or end.

#[test]
fn the_status_of_a_refused_flow_is_the_answer() {
    for (status, header, code, max_age) in [
        (403, ("x", "y"), Code::FORBIDDEN, None),
        (404, ("x", "y"), Code::NOT_FOUND, None),
        (429, ("retry-after", "17"), Code::TOO_MANY_REQUESTS, Some(17)),
        (503, ("retry-after", "3"), Code::SERVICE_UNAVAILABLE, Some(3)),
        (302, ("location", "/x"), Code::BAD_GATEWAY, None),
    ] {
        let mut bench = Bench::new(&rules(""));
        bench.accepts = false;
        bench.client_all(&[get(1, "a"), post(2, "a", "x").non()]);
        bench.answer(0, status, &[header], b"a page for browsers");
        let got = bench.got();
        assert_eq!(got.len(), 2, "{got:?}");
        for got in got {
            let expected = http::StatusCode::from_u16(status).unwrap();
            assert_eq!(got.text(), expected.to_string());
            assert_eq!((got.code, got.uint(OptionNumber::MAX_AGE)), (code, max_age));
            assert_eq!(got.message_type() as u8, if got.token == [0, 1] { 2 } else { 1 });
        }
        // The next request tries again.
        bench.client(&get(3, "a"));
        assert_eq!(bench.flows().len(), 2);
    }
}

#[test]
fn what_waits_in_a_flow_that_ends_is_answered_and_only_that() {
    for (was_open, text) in [(true, "server closed the connection"), (false, "server unreachable")]
    {
        let mut bench = Bench::new(&rules(""));
        bench.accepts = was_open;
        let answered = get(1, "a");
        bench.client_all(&[answered.clone(), get(2, "a")]);
        if was_open {
            bench.server(0, &answered.reply(Code::CONTENT));
            bench.got_one();
            bench.finish(0);
        } else {
            bench.reset(0);
        }
        let got = bench.got();
        assert_eq!(got.len(), if was_open { 1 } else { 2 });
        assert!(got.iter().all(|got| (got.code, got.text()) == (Code::BAD_GATEWAY, text)));
    }
}

#[test]
fn without_streams_a_request_is_answered() {
    let worker = Worker::new(&rules(""));
    let few = bridge::server::ServerLimits { max_streams: 1, ..LIMITS };
    let mut bench = worker.session_with(ANNA, Duration::ZERO, &few, None);
    bench.client(&get(1, "a"));
    bench.client(&get(2, "b"));
    let got = bench.got_one();
    assert_eq!((got.code, got.id()), (Code::SERVICE_UNAVAILABLE, 2));
}

#[test]
fn a_host_that_is_none_is_refused() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "a").opt(OptionNumber::URI_HOST, "a@b/c"));
    assert_eq!(bench.got_one().code, Code::BAD_REQUEST);
    assert!(bench.streams.is_empty());
}

// Retransmissions.

#[test]
fn a_retransmission_in_a_flow_is_up_to_the_server() {
    let mut bench = Bench::new(&rules(""));
    let request = get(1, "a");
    for _ in 0..3 {
        bench.client(&request);
        bench.assert_server_got(0, &request);
    }
    bench.server(0, &request.reply(Code::CONTENT));
    bench.got_one();
    bench.client(&request);
    bench.assert_server_got(0, &request);
    assert_eq!(bench.counter("coap_retransmissions_total", &[]), 3);
    assert_eq!(bench.counter("coap_deduplicated_total", &[]), 0);
}

#[test]
fn a_retransmission_after_the_session_gets_the_same_response() {
    let worker = Worker::new(&rules(""));
    let mut bench = worker.session(ANNA, Duration::ZERO);
    let request = get(1, "a");
    let reply = request.reply(Code::CONTENT).payload("20 C");
    bench.client(&request);
    bench.server(0, &reply);
    bench.hang_up();
    // From the same address only.
    let mut bench = worker.session("192.0.2.1:40002", seconds(10));
    bench.client(&request);
    assert_eq!(bench.streams.len(), 1);
    bench.hang_up();
    let mut bench = worker.session(ANNA, seconds(246));
    bench.client(&request);
    assert_eq!(bench.got_octets(), [reply.octets()]);
    assert!(bench.streams.is_empty());
    bench.hang_up();
    // A session of its own does not prolong what was remembered (EXCHANGE_LIFETIME).
    let mut bench = worker.session(ANNA, seconds(248));
    bench.client(&request);
    assert_eq!(bench.streams.len(), 1);
    bench.got_nothing();
}

// Backpressure.

#[test]
fn a_flow_without_room_loses_nothing_and_keeps_the_order() {
    let worker = Worker::new(&rules(r#""max_outstanding": 1000, "max_message_size": 1200"#));
    let narrow = bridge::server::ServerLimits { stream_window: 2500, ..LIMITS };
    let mut bench = worker.session_with(ANNA, Duration::ZERO, &narrow, None);
    bench.piece = 5000;
    bench.client(&get(0, "a"));
    let flow = bench.flow("/a");
    bench.server.hold(bench.streams[flow].id, true);
    let requests: Vec<_> = (1..100).map(|id| post(id, "a", vec![7; 900])).collect();
    bench.client_all(&requests);
    assert!(!bench.bridge.accepts_native());
    assert!(bench.socket.len() > 80_000, "{} octets are left in the socket", bench.socket.len());
    // Nothing of a message that does not fit is given away before the one in front of it.
    let other = get(500, "b");
    bench.client(&other);
    assert_eq!(bench.flows(), ["/a"]);
    bench.server.hold(bench.streams[flow].id, false);
    bench.settle();
    assert!(bench.bridge.accepts_native() && bench.socket.is_empty());
    let expected: Vec<_> =
        std::iter::once(get(0, "a").octets()).chain(requests.iter().map(Msg::octets)).collect();
    assert_eq!(bench.server_got_octets(flow), expected);
    let flow = bench.flow("/b");
    bench.assert_server_got(flow, &other);
}

#[test]
fn a_check_that_is_allowed_waits_its_turn_in_a_flow_without_room() {
    let worker = Worker::new(&rules(""));
    let narrow = bridge::server::ServerLimits { stream_window: 2500, ..LIMITS };
    let mut bench = worker.session_with(ANNA, Duration::ZERO, &narrow, None);
    let checks: Vec<_> = (1..20).map(|id| post(id, "c", vec![7; 1200])).collect();
    bench.client_all(&checks);
    bench.holds = true;
    for stream in bench.open() {
        bench.answer(stream, 200, &[], b"");
    }
    let flow = bench.flow("/c");
    assert!(bench.streams[flow].body.len() < 4000);
    bench.server.hold(bench.streams[flow].id, false);
    bench.settle();
    assert_eq!(bench.server_got_octets(flow), checks.iter().map(Msg::octets).collect::<Vec<_>>());
}

#[test]
fn requests_in_a_flow_that_ends_for_a_new_one_are_answered() {
    let mut bench = Bench::new(&rules(r#""max_flows": 1"#));
    bench.client(&get(1, "a"));
    bench.client(&get(2, "b"));
    let got = bench.got_one();
    assert_eq!((got.code.class(), got.id(), got.token), (5, 1, vec![0, 1]));
}

#[test]
fn a_request_is_sent_before_its_flow_ends_for_a_new_one() {
    let mut bench = Bench::new(&rules(r#""max_flows": 1"#));
    let first = get(1, "a");
    bench.client_all(&[first.clone(), get(2, "b")]);
    let flow = bench.flow("/a");
    bench.assert_server_got(flow, &first);
}

#[test]
fn what_a_server_acknowledged_is_answered_separately_when_its_flow_ends() {
    let mut bench = Bench::new(&rules(""));
    let request = get(1, "a");
    bench.client(&request);
    bench.server(0, &request.acknowledge());
    bench.got_one();
    bench.finish(0);
    // An acknowledgement would be a duplicate of the one the client has (RFC 7252 §4.2).
    let got = bench.got_one();
    assert_eq!((got.code, got.token.clone()), (Code::BAD_GATEWAY, request.token));
    assert_ne!(got.message_type(), codec_coap::MessageType::Acknowledgement, "{got}");
}

#[test]
fn an_acknowledgement_with_another_id_does_not_overtake() {
    let mut bench = Bench::new(&rules(""));
    bench.client_all(&[get(1, "a"), get(2, "b")]);
    let (a, b) = (bench.flow("/a"), bench.flow("/b"));
    bench.server(a, &con(Code::CONTENT, 700).token(b"\0\x01"));
    bench.server(b, &con(Code::CONTENT, 700).token(b"\0\x02"));
    let replaced = bench.got().pop().unwrap();
    bench.server_got(b);
    let request = get(3, "b");
    bench.client_all(&[request.clone(), replaced.acknowledge()]);
    let expected = [request.octets(), con(Code::CONTENT, 700).acknowledge().octets()];
    assert_eq!(bench.server_got_octets(b), expected);
}
