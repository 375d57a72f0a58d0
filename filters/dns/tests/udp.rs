//! Clients over UDP: the sessions of `udp_proxy`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support;
use crate::support::message::{a, query};
use crate::support::native::capsule;
use crate::support::{ANNA, BERT, millis, seconds, udp};
use bridge::Ended;
use codec_dns::{Flags, Rcode, RecordType};

#[test]
fn a_session_ends_soon_after_its_only_answer() {
    let mut bench = udp(r#"{"linger": "0.1s"}"#);
    let anna = bench.client(ANNA);
    assert_eq!(bench.session(anna).status, Some(200));
    bench.ask(anna, &a(1, "www.example"));
    bench.pass(millis(500));
    assert!(!bench.is_over(anna), "it waits for an answer");
    bench.server_answers();
    bench.got_one(anna);
    bench.pass(millis(99));
    assert!(!bench.is_over(anna));
    bench.pass(millis(1));
    assert_eq!(bench.session(anna).ended, Some(Ended::Complete));
    assert_eq!(bench.gauge("udp_sessions_active"), 0);
}

#[test]
fn a_session_whose_client_asks_again_lives_until_it_is_idle() {
    let mut bench = udp(r#"{"linger": "0.1s", "idle_timeout": "10s"}"#);
    let anna = bench.client(ANNA);
    for id in 0..3 {
        bench.exchange(anna, &a(id, "www.example"), |asked| asked.address(300, 1));
        bench.pass(if id == 0 { millis(50) } else { seconds(9) });
        assert!(!bench.is_over(anna));
    }
    bench.pass(millis(999));
    assert!(!bench.is_over(anna));
    bench.pass(seconds(10));
    assert_eq!(bench.session(anna).ended, Some(Ended::Complete));
}

#[test]
fn two_questions_at_once_are_not_a_client_that_asks_again() {
    // As resolvers of operating systems ask: for A and AAAA from one port, and then never again.
    let mut bench = udp(r#"{"linger": "0.1s"}"#);
    let anna = bench.client(ANNA);
    bench.ask_all(anna, &[a(1, "www.example"), query(2, "www.example", RecordType::AAAA)]);
    for (flow, asked) in bench.servers_got() {
        bench.pass(millis(150));
        bench.server(flow, &asked.reply(Rcode::NOERROR));
    }
    assert_eq!(bench.got(anna).len(), 2);
    bench.pass(millis(100));
    assert!(bench.is_over(anna));
}

#[test]
fn a_session_that_waits_does_not_end() {
    let mut bench = udp(r#"{"linger": "0.1s", "idle_timeout": "1s", "response_timeout": "20s"}"#);
    let anna = bench.client(ANNA);
    bench.exchange(anna, &a(1, "www.example"), |asked| asked.address(300, 1));
    bench.ask(anna, &a(2, "www.example"));
    bench.pass(seconds(19));
    assert!(!bench.is_over(anna));
    let (flow, asked) = bench.servers_got().pop().unwrap();
    bench.server(flow, &asked.address(300, 1));
    assert_eq!(bench.got_one(anna).id, 2);
    bench.pass(seconds(3));
    assert!(bench.is_over(anna));
}

#[test]
fn a_session_whose_client_never_asks_ends_and_one_that_is_never_answered_too() {
    let mut bench = udp(r#"{"linger": "0.1s", "idle_timeout": "5s", "malformed": "drop"}"#);
    let (silent, junk) = (bench.client(ANNA), bench.client(BERT));
    bench.datagram(junk, b"junk");
    bench.pass(millis(4_999));
    // What it asks may be a while on its way.
    assert!(!bench.is_over(silent) && bench.is_over(junk));
    bench.pass(millis(1));
    assert!(bench.is_over(silent));
    assert_eq!(bench.gauge("udp_sessions_active"), 0);
}

#[test]
fn an_ended_session_gets_nothing_and_others_all() {
    for reset in [false, true] {
        let mut bench = udp(r#"{"max_flows": 1}"#);
        let (anna, bert) = (bench.client(ANNA), bench.client(BERT));
        bench.ask(anna, &a(1, "www.example"));
        bench.ask(bert, &a(1, "www.example"));
        if reset {
            bench.reset_session(anna)
        } else {
            bench.end_session(anna)
        }
        assert_eq!(bench.gauge("udp_sessions_active"), 1);
        for query in bench.server_got(0) {
            bench.server(0, &query.address(300, 1));
        }
        bench.got_nothing(anna);
        assert_eq!(bench.got_one(bert).id, 1);
        assert_eq!(bench.gauge("dns_outstanding"), 0);
    }
}

#[test]
fn a_session_ends_with_end_stream_and_at_most_one_reset() {
    let mut bench = udp(r#"{"linger": "0.1s"}"#);
    let sessions: Vec<_> = (0..50)
        .map(|n| {
            let session = bench.client(&format!("192.0.2.1:{}", 1000 + n));
            bench.exchange(session, &a(n, "www.example"), |asked| asked.address(300, 1));
            session
        })
        .collect();
    let before = bench.resets().len();
    bench.pass(seconds(1));
    for session in sessions {
        assert_eq!(bench.session(session).ended, Some(Ended::Complete));
    }
    let resets = bench.resets();
    assert_eq!(resets.len() - before, 50, "one each");
    // NO_ERROR: `udp_proxy` is told to stop without that being an error (RFC 9113 §8.1).
    assert!(resets.iter().all(|(_, code)| *code == 0), "{resets:?}");
}

#[test]
fn a_datagram_may_come_in_pieces_and_several_in_one() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let native: Vec<u8> = (1..=3).flat_map(|id| capsule(&a(id, "www.example").octets())).collect();
    for piece in native.chunks(7) {
        bench.session_octets(anna, piece);
    }
    for (flow, asked) in bench.servers_got() {
        bench.server(flow, &asked.address(300, 1));
    }
    let mut ids: Vec<_> = bench.got(anna).iter().map(|answer| answer.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn a_capsule_that_is_too_long_ends_the_session_alone() {
    let mut bench = udp("{}");
    let (anna, bert) = (bench.client(ANNA), bench.client(BERT));
    bench.session_octets(anna, b"\x00\x80\x01\x00\x10");
    assert!(bench.is_over(anna) && !bench.is_closed());
    bench.exchange(bert, &a(1, "www.example"), |asked| asked.address(300, 1));
    assert_eq!(bench.gauge("udp_sessions_active"), 1);
}

#[test]
fn an_answer_above_what_the_client_takes_is_truncated() {
    for (edns, limit) in [(None, 512), (Some(100), 512), (Some(900), 900), (Some(4096), 1232)] {
        for (len, is_whole) in [(limit, true), (limit + 1, false)] {
            let mut bench = udp("{}");
            let anna = bench.client(ANNA);
            let question = query(1, "www.example", RecordType::TXT);
            let question = edns.map_or(question.clone(), |size| question.edns(size));
            let got = bench.exchange(anna, &question, |asked| asked.text_up_to(len));
            assert_eq!(got.has(Flags::TC), !is_whole, "{edns:?} {len}");
            assert_eq!(bench.counter("dns_truncated_total", &[]), i64::from(!is_whole));
            if is_whole {
                assert_eq!(got, question.text_up_to(len));
            } else {
                let empty = question.reply(Rcode::NOERROR).set(Flags::TC);
                let got = support::message::Msg { edns: empty.edns.clone(), ..got };
                assert_eq!(got, empty);
            }
        }
    }
}

#[test]
fn the_longest_answer_is_configured() {
    let mut bench = udp(r#"{"max_udp_size": 600, "linger": "60s"}"#);
    let anna = bench.client(ANNA);
    let question = query(1, "www.example", RecordType::TXT).edns(4096);
    for (len, is_whole) in [(600, true), (601, false)] {
        let got = bench.exchange(anna, &question, |asked| {
            // Servers are not asked for more than the client may get.
            assert_eq!(asked.edns.as_ref().unwrap().size, 600);
            asked.text_up_to(len)
        });
        assert_eq!(!got.has(Flags::TC), is_whole);
    }
}

#[test]
fn what_the_server_truncated_stays_so() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let answer =
        bench.exchange(anna, &a(1, "www.example"), |asked| asked.address(300, 1).set(Flags::TC));
    assert_eq!(answer, a(1, "www.example").address(300, 1).set(Flags::TC));
    assert_eq!(bench.counter("dns_truncated_total", &[]), 1);
    assert_eq!(bench.flows().len(), 1, "the client comes over TCP by itself");
}

#[test]
fn an_answer_from_tcp_is_truncated_for_a_client_over_udp() {
    let mut bench = udp(r#"{"upstream": "tcp"}"#);
    let anna = bench.client(ANNA);
    let question = query(1, "www.example", RecordType::TXT);
    let got = bench.exchange(anna, &question, |asked| asked.text_up_to(40_000));
    assert_eq!(got, question.reply(Rcode::NOERROR).set(Flags::TC));
}

#[test]
fn a_query_that_is_too_long_is_dropped() {
    let mut bench = udp(r#"{"max_query_size": 512, "linger": "0.1s"}"#);
    let anna = bench.client(ANNA);
    let question = |pad: usize| a(1, "x").opt(codec_dns::OptionCode(65_001), &vec![0; pad]);
    let fixed = question(0).octets().len();
    bench.ask(anna, &question(513 - fixed));
    bench.asked_nothing();
    assert_eq!(bench.decode_errors("message_too_long"), 1);
    bench.ask(anna, &question(512 - fixed));
    bench.server_answers();
    assert_eq!(bench.got(anna).len(), 1);
    bench.pass(seconds(1));
    assert!(bench.is_over(anna));
}

#[test]
fn whole_zones_are_not_for_udp() {
    let mut bench = udp(r#"{"rules": [{"types": ["AXFR", "IXFR"], "carry": "flow"}]}"#);
    let anna = bench.client(ANNA);
    for record_type in [RecordType::AXFR, RecordType::IXFR] {
        let got = bench.refused(anna, &query(1, "corp.example", record_type));
        assert_eq!(got.rcode(), Rcode::REFUSED);
    }
}

#[test]
fn when_the_connection_ends_nothing_is_active() {
    let worker = support::Worker::new(r#"{"rules": [{"zones": ["c"], "carry": "check"}]}"#);
    let mut bench = worker.connect::<support::native::Udp>();
    let anna = bench.client(ANNA);
    bench.ask_all(anna, &[a(1, "www.example"), a(2, "c"), a(3, "other.example")]);
    assert_eq!(bench.gauge("dns_outstanding"), 3);
    bench.hang_up();
    for gauge in ["dns_outstanding", "dns_flows_active", "udp_sessions_active"] {
        assert_eq!(worker.registry.gauge(gauge, &[]).value(), 0, "{gauge}");
    }
}

#[test]
fn when_the_connection_manager_is_gone_the_connection_ends() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    bench.bridge.handle_http(bench.now, b"this is no HTTP/2"[..].into());
    bench.settle();
    assert!(bench.is_closed());
}
