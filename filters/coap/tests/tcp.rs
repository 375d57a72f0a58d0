//! CoAP over TCP (RFC 8323).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::time::Duration;

use crate::support::message::{Msg, get, post};
use crate::support::{ANNA, Bench, LIMITS, Worker, millis, rules, seconds};
use codec_coap::{Block, Code, OptionNumber, OptionValue};
use proptest::prelude::*;

const BLOCK1: OptionNumber = OptionNumber::BLOCK1;
const BLOCK2: OptionNumber = OptionNumber::BLOCK2;
const BERT: u8 = Block::BERT;

fn tcp(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    rules(&format!(r#""transport": "tcp"{comma}{more}"#))
}

/// A connection on which both sides have sent their CSM.
fn connected(more: &str) -> Bench {
    let mut bench = Bench::new(&tcp(more));
    bench.settle();
    let csm = bench.got_one();
    assert_eq!(csm.code, Code::CSM);
    bench.client(&csm_with(1 << 20));
    bench
}

fn csm_with(max_message_size: u32) -> Msg {
    Msg::tcp(Code::CSM)
        .opt(OptionNumber::MAX_MESSAGE_SIZE, max_message_size)
        .opt(OptionNumber::BLOCK_WISE_TRANSFER, OptionValue::Empty)
}

fn get_tcp(token: u8, path: &str) -> Msg {
    get(0, path).token(&[token]).on_tcp()
}

fn post_tcp(token: u8, path: &str, payload: impl AsRef<[u8]>) -> Msg {
    post(0, path, payload).token(&[token]).on_tcp()
}

/// Requests that a server got, without the CSM in front.
#[track_caller]
fn after_csm(mut got: Vec<Msg>) -> Vec<Vec<u8>> {
    assert_eq!(got.remove(0).code, Code::CSM);
    got.iter().map(Msg::octets).collect()
}

#[test]
fn a_connection_begins_with_what_the_filter_takes() {
    let mut bench = Bench::new(&tcp(r#""max_message_size": 5000"#));
    bench.settle();
    let csm = bench.got_one();
    assert_eq!(csm.code, Code::CSM);
    assert_eq!(csm.uint(OptionNumber::MAX_MESSAGE_SIZE), Some(5000));
    assert_eq!(csm.uint(OptionNumber::BLOCK_WISE_TRANSFER), Some(0));
}

#[test]
fn a_flow_begins_with_a_csm_and_has_the_messages_as_they_are() {
    let mut bench = connected("");
    let requests = [get_tcp(1, "a/b").observe(0), post_tcp(2, "a", vec![7; 60_000])];
    bench.client_all(&requests);
    let flow = bench.flow("/a");
    assert_eq!(bench.streams[flow].header("x-coap-transport"), Some("tcp"));
    let got = bench.server_got(flow);
    assert_eq!(got[0].uint(OptionNumber::MAX_MESSAGE_SIZE), Some(65_536));
    assert_eq!(after_csm(got), requests.each_ref().map(Msg::octets));
    let replies = [
        requests[1].reply(Code::CHANGED),
        requests[0].reply(Code::CONTENT).observe(1).payload([1; 9000]),
    ];
    bench.server(flow, &Msg::tcp(Code::CSM).opt(OptionNumber::MAX_MESSAGE_SIZE, 2000));
    for reply in &replies {
        bench.server(flow, reply);
    }
    assert_eq!(bench.got_octets(), replies.each_ref().map(Msg::octets));
}

#[test]
fn the_name_of_tls_is_the_authority() {
    let worker = Worker::new(&tcp(""));
    let mut bench = worker.session_with(ANNA, Duration::ZERO, &LIMITS, Some("things.example"));
    bench.client_all(&[csm_with(1152), get_tcp(1, "a"), get_tcp(2, "r")]);
    let host = get_tcp(3, "a").opt(OptionNumber::URI_HOST, "other.example");
    bench.client(&host);
    let authorities: Vec<_> = bench.streams.iter().map(|stream| &*stream.authority).collect();
    assert_eq!(authorities, ["things.example", "things.example", "other.example"]);
    for no_name in ["things.example:5684", "things.example.", "x@things.example", ""] {
        let mut bench = worker.session_with(ANNA, Duration::ZERO, &LIMITS, Some(no_name));
        bench.client_all(&[csm_with(1152), get_tcp(1, "a")]);
        assert_eq!(bench.streams[0].authority, "coap", "{no_name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    #[test]
    fn messages_are_the_same_however_their_octets_are_split(
        piece in 1..3000_usize,
        cuts in proptest::collection::vec(1..3000_usize, 1..40),
    ) {
        let requests: Vec<_> =
            (0..20_u8).map(|n| post_tcp(n, "a", vec![n; usize::from(n) * 300])).collect();
        let mut bench = connected("");
        bench.piece = piece;
        bench.client_all(&requests);
        let expected: Vec<_> = requests.iter().map(Msg::octets).collect();
        let got = bench.server_got(0);
        prop_assert_eq!(after_csm(got), expected);
        let replies: Vec<_> =
            requests.iter().map(|request| request.reply(Code::CONTENT).payload(&request.payload)).collect();
        let native: Vec<u8> = replies.iter().flat_map(Msg::native).collect();
        let (mut rest, mut cuts) = (&*native, cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            bench.content(0, now);
            rest = later;
        }
        let expected: Vec<_> = replies.iter().map(Msg::octets).collect();
        prop_assert_eq!(bench.got_octets(), expected);
    }
}

// Signaling (RFC 8323 §5).

#[test]
fn a_ping_is_answered_with_its_token_and_its_custody() {
    let mut bench = connected("");
    bench.client(&Msg::tcp(Code::PING).token(b"p1"));
    assert_eq!(bench.got_octets(), [Msg::tcp(Code::PONG).token(b"p1").octets()]);
    let custody = |code| Msg::tcp(code).token(b"p2").opt(OptionNumber::CUSTODY, OptionValue::Empty);
    bench.client(&custody(Code::PING));
    assert_eq!(bench.got_octets(), [custody(Code::PONG).octets()]);
}

#[test]
fn what_needs_no_answer_gets_none() {
    let mut bench = connected("");
    bench.client(&get_tcp(1, "a"));
    bench.server_got(0);
    bench.client_all(&[
        // An empty message (§3.4), a second CSM, a Pong nobody asked for, and signals nobody knows.
        Msg::tcp(Code::EMPTY),
        csm_with(2000),
        Msg::tcp(Code::PONG).token(b"x"),
        Msg::tcp(Code::new(7, 30)).opt(OptionNumber(2), &b"x"[..]),
    ]);
    bench.got_nothing();
    assert!(bench.server_got(0).is_empty() && !bench.is_closed());
}

#[test]
fn release_and_abort_end_the_connection_with_its_flows() {
    for code in [Code::RELEASE, Code::ABORT] {
        let mut bench = connected("");
        bench.client(&get_tcp(1, "a"));
        bench.client_all(&[get_tcp(2, "a"), Msg::tcp(code), get_tcp(3, "a")]);
        assert!(bench.is_closed());
        assert_eq!(after_csm(bench.server_got(0)).len(), 2, "what came before it is carried");
    }
}

#[test]
fn a_critical_option_of_a_csm_that_nobody_knows_aborts() {
    let mut bench = Bench::new(&tcp(""));
    bench.client(&Msg::tcp(Code::CSM).opt(OptionNumber(19), &b"x"[..]));
    let got = bench.got();
    let abort = got.last().expect("an answer");
    assert_eq!((abort.code, abort.uint(OptionNumber::BAD_CSM_OPTION)), (Code::ABORT, Some(19)));
    assert!(bench.is_closed());
    let mut bench = Bench::new(&tcp(""));
    bench.client(&Msg::tcp(Code::CSM).opt(OptionNumber(20), &b"x"[..]));
    bench.client(&get_tcp(1, "a"));
    assert!(!bench.is_closed() && bench.flows() == ["/a"]);
}

#[test]
fn a_message_above_the_limit_aborts_before_it_is_there() {
    let mut bench = connected(r#""max_message_size": 2000"#);
    let bare = post_tcp(1, "a", [1; 1500]).octets().len() - 1500;
    let fits = post_tcp(1, "a", vec![1; 2000 - bare]);
    assert_eq!(fits.octets().len(), 2000);
    bench.client(&fits);
    assert_eq!(after_csm(bench.server_got(0)), [fits.octets()]);
    // Its length alone says so.
    bench.octets(&post_tcp(2, "a", vec![1; 2001 - bare]).octets()[..4]);
    assert_eq!(bench.got_one().code, Code::ABORT);
    assert!(bench.is_closed() && bench.server_got(0).is_empty());
}

#[test]
fn what_is_no_message_aborts_and_reaches_nobody() {
    for octets in [
        // A reserved token length, code class 1, a token that is cut off by its own length, an option of
        // a reserved length, a payload marker without payload.
        &b"\x09\x01"[..],
        b"\x00\x21",
        b"\x10\x01\xf0",
        b"\x10\x01\xff",
    ] {
        let mut bench = connected("");
        bench.client(&get_tcp(1, "a"));
        let before = bench.server_got(0).len();
        bench.octets(octets);
        assert_eq!(before, 2);
        assert!(bench.is_closed(), "{octets:02x?}");
        assert_eq!(bench.got().last().map(|got| got.code), Some(Code::ABORT), "{octets:02x?}");
        assert!(bench.server_got(0).is_empty());
    }
}

#[test]
fn a_request_that_may_not_be_is_answered_and_the_next_one_served() {
    let mut bench = connected("");
    // A repeated Uri-Host; a dot segment.
    bench.octets(b"\x41\x01T\x31a\x01b");
    let got = bench.got_one();
    assert_eq!((got.code, &*got.token), (Code::BAD_OPTION, &b"T"[..]));
    bench.client(&get_tcp(1, "a"));
    assert_eq!(bench.flows(), ["/a"]);
}

// The server's side of a flow.

#[test]
fn a_servers_ping_is_answered_by_the_filter() {
    let mut bench = connected("");
    bench.client(&get_tcp(1, "a"));
    bench.server_got(0);
    bench.server(0, &Msg::tcp(Code::PING).token(b"ping"));
    assert_eq!(bench.server_got_octets(0), [Msg::tcp(Code::PONG).token(b"ping").octets()]);
    bench.got_nothing();
}

#[test]
fn a_servers_abort_ends_its_flow_and_answers_what_waits() {
    let mut bench = connected("");
    bench.client_all(&[get_tcp(1, "a"), get_tcp(2, "b")]);
    let (a, b) = (bench.flow("/a"), bench.flow("/b"));
    bench.server(a, &Msg::tcp(Code::ABORT));
    let got = bench.got_one();
    assert_eq!((got.code, &*got.token), (Code::BAD_GATEWAY, &[1][..]));
    assert!(bench.streams[a].is_over());
    let reply = get_tcp(2, "b").reply(Code::CONTENT);
    bench.server(b, &reply);
    assert_eq!(bench.got_octets(), [reply.octets()]);
    // The next request opens another one.
    bench.client(&get_tcp(3, "a"));
    assert_eq!(bench.flows(), ["/a", "/b", "/a"]);
}

#[test]
fn a_server_that_releases_answers_what_it_was_asked_and_is_asked_no_more() {
    let mut bench = connected("");
    bench.client_all(&[get_tcp(1, "a"), get_tcp(2, "a")]);
    let reply = get_tcp(1, "a").reply(Code::CONTENT);
    bench.content(0, &[Msg::tcp(Code::RELEASE).octets(), reply.octets()].concat());
    assert_eq!(bench.got_octets(), [reply.octets()]);
    bench.client(&get_tcp(3, "a"));
    assert_eq!(bench.flows(), ["/a", "/a"]);
    assert_eq!(bench.server_got(0).len(), 3, "a CSM and two requests");
    bench.finish(0);
    let got = bench.got_one();
    assert_eq!((got.code, &*got.token), (Code::BAD_GATEWAY, &[2][..]));
}

#[test]
fn the_end_of_an_observed_servers_flow_ends_the_connection() {
    let mut bench = connected("");
    let request = get_tcp(1, "a").observe(0);
    bench.client(&request);
    bench.server(0, &request.reply(Code::CONTENT).observe(1));
    bench.got();
    bench.finish(0);
    // Nothing else says that there are no more notifications.
    assert_eq!(bench.got_one().code, Code::RELEASE);
    assert!(bench.is_closed());
}

#[test]
fn a_servers_request_and_its_answer_find_their_way() {
    let mut bench = connected("");
    bench.client_all(&[get_tcp(1, "a"), get_tcp(2, "b")]);
    let (a, b) = (bench.flow("/a"), bench.flow("/b"));
    bench.server_got(a);
    bench.server_got(b);
    let request = get_tcp(77, "device");
    bench.server(b, &request);
    assert_eq!(bench.got_octets(), [request.octets()]);
    let reply = request.reply(Code::CONTENT);
    bench.client(&reply);
    bench.assert_server_got(b, &reply);
    assert!(bench.server_got(a).is_empty());
}

#[test]
fn a_server_that_sends_no_messages_loses_its_flow_alone() {
    let mut bench = connected("");
    bench.client_all(&[get_tcp(1, "a"), get_tcp(2, "b")]);
    bench.content(0, b"\x0f\xff\xff\xff");
    assert_eq!(bench.got_one().code, Code::BAD_GATEWAY);
    assert!(bench.streams[0].is_over() && !bench.streams[1].is_over() && !bench.is_closed());
}

// Requests and checks.

#[test]
fn a_request_has_its_response_and_no_type() {
    let mut bench = connected("");
    bench.client_all(&[get_tcp(1, "r/1"), get_tcp(2, "r/2")]);
    assert_eq!(bench.streams[0].own_headers(), ["x-carry: request", "x-coap-method: get"]);
    bench.pass(seconds(100));
    bench.answer(1, 200, &[], b"two");
    bench.answer(0, 404, &[], b"");
    let got: Vec<_> = bench.got().iter().map(Msg::to_string).collect();
    assert_eq!(got, ["2.05 [02] \"two\"", "4.04 [01]"]);
}

#[test]
fn a_check_decides_about_a_message_of_a_stream() {
    let mut bench = connected("");
    let allowed = post_tcp(1, "c/1", vec![3; 20_000]);
    bench.client_all(&[allowed.clone(), post_tcp(2, "c/2", "x"), get_tcp(3, "a")]);
    assert_eq!(bench.asked(), ["check POST /c/1", "check POST /c/2"]);
    let streams = bench.open();
    bench.answer(streams[1], 429, &[("retry-after", "9")], b"");
    let got = bench.got_one();
    assert_eq!(
        got.to_string(),
        format!("4.29 [02] {}=9 \"Too Many Requests\"", OptionNumber::MAX_AGE)
    );
    bench.answer(streams[0], 200, &[], b"");
    let flow = bench.flow("/c");
    assert_eq!(after_csm(bench.server_got(flow)), [allowed.octets()]);
}

#[test]
fn events_become_notifications_until_the_client_has_enough() {
    let mut bench = connected("");
    let request = get_tcp(1, "r/temp").observe(0);
    bench.client(&request);
    bench.respond(0, 200, &[("content-type", "text/event-stream")]);
    for n in 0..20 {
        bench.content(0, format!("data: {n}\n\n").as_bytes());
    }
    let got = bench.got();
    assert_eq!(got.len(), 20);
    assert!(got.is_sorted_by_key(|got| got.uint(OptionNumber::OBSERVE).expect("a number")));
    assert!(got.iter().all(|got| got.code == Code::CONTENT && got.token == [1]));
    bench.client(&get_tcp(1, "r/temp").observe(1));
    assert!(bench.streams[0].is_reset());
}

// Blocks (RFC 8323 §6).

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 16 * 31 + n) as u8).collect()
}

#[test]
fn a_response_that_fits_the_clients_messages_is_no_block() {
    let mut bench = connected("");
    bench.client(&get_tcp(1, "r"));
    bench.answer_one(200, &[], &body(60_000));
    let got = bench.got_one();
    assert_eq!((got.block(BLOCK2), got.payload.len()), (None, 60_000));
}

#[test]
fn a_client_without_blocks_of_any_size_gets_plain_ones() {
    let mut bench = Bench::new(&tcp(""));
    // RFC 8323 §5.3.1: without a CSM's word a message has up to 1152 octets.
    bench.client(&Msg::tcp(Code::CSM));
    bench.got();
    bench.client(&get_tcp(1, "r"));
    bench.answer_one(200, &[], &body(3000));
    let mut got = bench.got_one();
    let (_, mut more, szx) = got.block(BLOCK2).expect("a block");
    assert!(more && szx < BERT);
    let mut whole = got.payload;
    while more {
        let num = u32::try_from(whole.len() >> (4 + szx)).unwrap();
        bench.client(&get_tcp(2, "r").block2(num, false, szx));
        got = bench.got_one();
        assert!(got.octets().len() <= 1152);
        more = got.block(BLOCK2).expect("a block").1;
        whole.extend(&got.payload);
    }
    assert_eq!(whole, body(3000));
}

#[test]
fn a_megabyte_goes_and_comes_in_blocks_of_any_size() {
    let mut bench = connected("");
    let mega = body(1 << 20);
    let chunk = 60 << 10;
    let last = mega.len().div_ceil(chunk) - 1;
    for (n, part) in mega.chunks(chunk).enumerate() {
        let num = u32::try_from(n * (chunk >> 10)).unwrap();
        bench.client(&post_tcp(1, "r", part).block1(num, n < last, BERT));
        if n < last {
            let got = bench.got_one();
            assert_eq!((got.code, got.block(BLOCK1)), (Code::CONTINUE, Some((num, true, BERT))));
        }
    }
    assert!(bench.streams[0].body == mega);
    bench.answer(0, 200, &[], b"");
    bench.got_one();
    bench.client(&get_tcp(2, "r/down"));
    bench.answer_one(200, &[], &mega);
    let mut got = bench.got_one();
    let mut whole: Vec<u8> = Vec::new();
    let mut messages = 0;
    loop {
        messages += 1;
        let (num, more, szx) = got.block(BLOCK2).expect("a block");
        assert_eq!((num as usize, szx), (whole.len() >> 10, BERT));
        whole.extend(&got.payload);
        if !more {
            break;
        }
        let num = u32::try_from(whole.len() >> 10).unwrap();
        bench.client(&get_tcp(3, "r/down").block2(num, false, BERT));
        got = bench.got_one();
    }
    assert!(whole == mega);
    assert!(messages < 20, "{messages}");
    assert_eq!(bench.streams.len(), 2);
}

// Backpressure.

#[test]
fn a_flow_without_room_slows_the_client_and_loses_nothing() {
    let worker = Worker::new(&tcp(""));
    let narrow = bridge::server::ServerLimits { stream_window: 3000, ..LIMITS };
    let mut bench = worker.session_with(ANNA, Duration::ZERO, &narrow, None);
    bench.piece = 4000;
    bench.client_all(&[csm_with(1 << 20), get_tcp(0, "a"), get_tcp(0, "b")]);
    let (a, b) = (bench.flow("/a"), bench.flow("/b"));
    bench.server.hold(bench.streams[a].id, true);
    let requests: Vec<_> =
        (1..60_u8).map(|n| post_tcp(n, if n % 3 == 0 { "b" } else { "a" }, vec![n; 700])).collect();
    bench.client_all(&requests);
    assert!(!bench.bridge.accepts_native());
    let left = bench.socket.len();
    assert!(left > 20_000, "{left} octets are left in the socket");
    bench.server.hold(bench.streams[a].id, false);
    bench.settle();
    assert!(bench.bridge.accepts_native() && bench.socket.is_empty());
    for (flow, of_flow) in [(a, "a"), (b, "b")] {
        let expected: Vec<_> = std::iter::once(get_tcp(0, of_flow).octets())
            .chain(requests.iter().map(Msg::octets).filter(|octets| {
                let path = Msg::decode(octets, true).options;
                path.as_list().iter().any(|option| option.value == OptionValue::from(of_flow))
            }))
            .collect();
        assert_eq!(after_csm(bench.server_got(flow)), expected, "{of_flow}");
    }
}

#[test]
fn a_request_whose_body_has_no_room_slows_the_client() {
    let worker = Worker::new(&tcp(""));
    let narrow = bridge::server::ServerLimits { stream_window: 3000, ..LIMITS };
    let mut bench = worker.session_with(ANNA, Duration::ZERO, &narrow, None);
    bench.piece = 4000;
    // From here on the connection manager's own window counts.
    bench.client_all(&[csm_with(1 << 20), get_tcp(0, "a")]);
    bench.holds = true;
    let next = get_tcp(2, "a");
    bench.client_all(&[post_tcp(1, "r", body(60_000)), next.clone()]);
    bench.client(&post_tcp(3, "a", [1; 8000]));
    let stream = bench.asked_one();
    assert!(bench.streams[stream].body.len() < 10_000);
    assert!(!bench.bridge.accepts_native() && !bench.socket.is_empty());
    bench.server.hold(bench.streams[stream].id, false);
    bench.settle();
    assert!(bench.streams[stream].body == body(60_000) && bench.streams[stream].is_over());
    assert!(bench.bridge.accepts_native() && bench.socket.is_empty());
    assert_eq!(after_csm(bench.server_got(0)).len(), 3);
}

#[test]
fn pings_of_a_server_that_does_not_read_are_not_all_kept() {
    let worker = Worker::new(&rules(r#""transport": "tcp""#));
    let narrow = bridge::server::ServerLimits { stream_window: 2000, ..LIMITS };
    let mut bench = worker.session_with(ANNA, Duration::ZERO, &narrow, None);
    bench.settle();
    bench.holds = true;
    bench.client_all(&[Msg::tcp(Code::CSM), get(0, "a").token(b"t").on_tcp()]);
    for _ in 0..20 {
        let pings = Msg::tcp(Code::PING).token(b"12345678").octets().repeat(1000);
        bench.content(0, &pings);
    }
    bench.server.hold(bench.streams[0].id, false);
    bench.settle();
    let len = bench.streams[0].body.len();
    // The first window of a stream is 65,535 octets (RFC 9113 §6.9.2); those are on their way.
    assert!(len < 70_000, "{len} octets of Pongs were kept");
}

#[test]
fn a_connection_that_waits_for_nothing_is_released() {
    let mut bench = connected(r#""idle_timeout": "10s""#);
    bench.client(&get_tcp(1, "a"));
    bench.pass(millis(9_999));
    bench.client(&Msg::tcp(Code::PING).token(b"p"));
    assert_eq!(bench.got_one().code, Code::PONG);
    bench.pass(seconds(100));
    assert!(
        bench.is_closed(),
        "the response of a server that is silent is not waited for for ever"
    );
    assert_eq!(bench.got_one().code, Code::RELEASE);
}

#[test]
fn a_message_that_is_never_complete_does_not_keep_a_connection() {
    // Before the client's CSM, and after it.
    for first in [&[][..], &Msg::tcp(Code::CSM).octets()] {
        let mut bench = Bench::new(&tcp(r#""idle_timeout": "10s""#));
        bench.octets(first);
        let message = post_tcp(1, "a", body(1000)).octets();
        for octet in &message[..300] {
            bench.octets(&[*octet]);
            bench.pass(millis(100));
        }
        assert!(bench.is_closed());
        assert!(bench.streams.is_empty());
    }
}

#[test]
fn a_connection_with_an_observation_or_a_registration_is_kept() {
    let mut bench = connected(r#""idle_timeout": "10s""#);
    let request = get_tcp(1, "a").observe(0);
    bench.client(&request);
    bench.server(0, &request.reply(Code::CONTENT).observe(1));
    bench.pass(seconds(1000));
    assert!(!bench.is_closed());

    let mut bench = connected(r#""idle_timeout": "10s""#);
    let request = post_tcp(1, "rd", "").opt(OptionNumber::URI_QUERY, "ep=device-1");
    bench.client(&request);
    bench.server(0, &request.reply(Code::CREATED));
    bench.pass(seconds(1000));
    assert!(!bench.is_closed());
}
