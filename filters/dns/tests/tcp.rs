//! Clients over TCP and TLS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support;
use crate::support::message::{Msg, a, query, record, soa};
use crate::support::{millis, seconds, tcp};
use codec_dns::{Flags, InfoCode, OptionCode, Rcode, RecordType};
use proptest::prelude::*;

#[test]
fn queries_are_pipelined_and_answered_as_the_answers_come() {
    let mut bench = tcp("{}");
    let queries: Vec<_> = (0..20).map(|id| a(id, &format!("n{id}.example"))).collect();
    bench.ask_all(&queries);
    let mut asked = bench.servers_got();
    assert_eq!(asked.len(), 20);
    asked.reverse();
    for (flow, query) in &asked {
        bench.server(*flow, &query.address(300, 1));
    }
    let mut got = bench.got();
    got.sort_by_key(|answer| answer.id);
    let expected: Vec<_> = queries.iter().map(|query| query.address(300, 1)).collect();
    assert_eq!(got, expected);
}

#[test]
fn more_queries_than_may_wait_stay_where_they_are() {
    let mut bench = tcp(r#"{"max_pipelined": 3}"#);
    let queries: Vec<_> = (0..5).map(|id| a(id, "www.example")).collect();
    bench.ask_all(&queries);
    let first = bench.servers_got();
    assert_eq!(first.len(), 3);
    assert!(!bench.bridge.accepts_native());
    // What the client sends now is left to TCP.
    bench.ask(&a(9, "www.example"));
    assert!(!bench.native.socket.is_empty());
    for (flow, query) in &first {
        bench.server(*flow, &query.address(300, 1));
    }
    for (flow, query) in bench.servers_got() {
        bench.server(flow, &query.address(300, 1));
    }
    assert_eq!(bench.got().len(), 6);
    assert!(bench.bridge.accepts_native());
    assert_eq!(bench.gauge("dns_outstanding"), 0);
}

#[test]
fn what_is_not_forwarded_does_not_wait() {
    let mut bench = tcp(r#"{"max_pipelined": 1, "rules": [{"answer": "drop", "zones": ["d"]},
        {"answer": "refuse", "zones": ["r"]}]}"#);
    bench.ask_all(&[a(1, "d"), a(2, "r"), a(3, "d"), a(4, "r"), a(5, "www.example")]);
    let ids: Vec<_> = bench.got().iter().map(|answer| answer.id).collect();
    assert_eq!(ids, [2, 4]);
    bench.server_answers();
    assert_eq!(bench.got_one().id, 5);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(32)
    })]

    #[test]
    fn messages_are_the_same_however_their_octets_are_split(
        piece in 1..100_usize,
        cut in 1..100_usize,
    ) {
        let mut bench = tcp("{}");
        bench.native.piece = piece;
        let queries: Vec<_> = (0..5).map(|id| a(id, "www.example").edns(4096)).collect();
        bench.ask_all(&queries);
        let asked = bench.servers_got();
        prop_assert_eq!(asked.len(), 5);
        for flow in [0, 1] {
            let of_flow = asked.iter().filter(|(of, _)| *of == flow);
            let octets: Vec<u8> =
                of_flow.flat_map(|(_, query)| query.text_up_to(700).framed()).collect();
            for octets in octets.chunks(cut) {
                bench.content(flow, octets);
            }
        }
        let mut got = bench.got();
        got.sort_by_key(|answer| answer.id);
        let expected: Vec<_> = queries.iter().map(|query| query.text_up_to(700)).collect();
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn an_idle_connection_is_closed() {
    let mut bench = tcp(r#"{"idle_timeout": "10s"}"#);
    bench.pass(millis(9_999));
    assert!(!bench.is_closed());
    bench.pass(millis(1));
    assert!(bench.is_closed());

    let mut bench = tcp(r#"{"idle_timeout": "10s", "response_timeout": "30s"}"#);
    bench.pass(seconds(8));
    bench.ask(&a(1, "www.example"));
    bench.pass(seconds(20));
    assert!(!bench.is_closed(), "the client waits for an answer");
    let (flow, asked) = bench.servers_got().pop().unwrap();
    bench.server(flow, &asked.address(300, 1));
    bench.pass(millis(9_999));
    assert!(!bench.is_closed());
    bench.pass(millis(1));
    assert!(bench.is_closed());
}

#[test]
fn a_message_that_is_never_complete_does_not_keep_a_connection() {
    let mut bench = tcp(r#"{"idle_timeout": "2s"}"#);
    bench.octets(&[0, 100]);
    for _ in 0..30 {
        bench.octets(&[0]);
        bench.pass(millis(100));
    }
    assert!(bench.is_closed());
}

#[test]
fn a_message_that_is_too_long_ends_the_connection() {
    let mut bench = tcp(r#"{"max_query_size": 512}"#);
    bench.octets(&[2, 1]);
    assert!(bench.is_closed());
    assert_eq!(bench.decode_errors("message_too_long"), 1);
    let mut bench = tcp(r#"{"max_query_size": 512}"#);
    bench.octets(&[2, 0]);
    assert!(!bench.is_closed());
}

#[test]
fn what_was_asked_before_a_message_too_long_is_refused_or_forwarded_but_never_lost_in_silence() {
    let mut bench =
        tcp(r#"{"max_query_size": 512, "rules": [{"zones": ["r"], "answer": "refuse"}]}"#);
    bench.octets(&[a(1, "r").framed(), vec![0xff, 0xff]].concat());
    assert_eq!(bench.got_one().rcode(), Rcode::REFUSED);
    assert!(bench.is_closed());
}

#[test]
fn the_end_of_the_client_is_the_end_of_the_connection() {
    let mut bench = tcp("{}");
    bench.ask(&a(1, "www.example"));
    bench.end();
    assert!(bench.is_closed());
}

#[test]
fn the_client_is_told_how_long_a_connection_is_kept_if_it_asks() {
    let mut bench = tcp(r#"{"idle_timeout": "12.3s"}"#);
    let question = a(1, "www.example").edns(4096);
    let got = bench.exchange(&question.clone().opt(OptionCode::TCP_KEEPALIVE, b""), |asked| {
        assert_eq!(asked.option(OptionCode::TCP_KEEPALIVE), None, "it is about this connection");
        asked.address(300, 1)
    });
    assert_eq!(got.option(OptionCode::TCP_KEEPALIVE), Some(&[0, 123][..]));
    assert_eq!(got.records, question.address(300, 1).records);
    let got = bench
        .exchange(&question, |asked| asked.address(300, 1).opt(OptionCode::TCP_KEEPALIVE, &[1, 0]));
    assert_eq!(got.option(OptionCode::TCP_KEEPALIVE), None);
}

#[test]
fn a_long_answer_is_whole() {
    let mut bench = tcp("{}");
    for (size, len) in [(None, 512), (None, 513), (Some(512), 5000), (None, 65_535)] {
        let question = query(1, "www.example", RecordType::TXT);
        let question = size.map_or(question.clone(), |size| question.edns(size));
        let got = bench.exchange(&question, |asked| asked.text_up_to(len));
        assert_eq!(got, question.text_up_to(len));
    }
}

// Zone transfers.

const TRANSFERS: &str = r#"{"rules": [{"zones": ["corp.example"], "types": ["AXFR", "IXFR"],
    "carry": "flow"}]}"#;

#[test]
fn whole_zones_are_for_those_that_somebody_names() {
    let mut bench = tcp(TRANSFERS);
    bench.ask(&query(1, "example", RecordType::AXFR));
    assert_eq!(bench.got_one().rcode(), Rcode::REFUSED);
    bench.ask(&query(1, "corp.example", RecordType::AXFR));
    bench.got_nothing();
    bench.asked_one();
}

/// The messages of a transfer: the SOA record is the first and the last.
fn transfer(asked: &support::message::Msg) -> Vec<support::message::Msg> {
    let soa = soa("corp.example", 3600, 60);
    let host = |n| record(&format!("h{n}.corp.example"), RecordType::A, 60, &[10, 0, 0, n]);
    vec![
        asked.reply(Rcode::NOERROR).answer(soa.clone()).answer(host(1)),
        // Only the first has to have a question (RFC 5936 §2.2.1).
        asked.reply(Rcode::NOERROR).answer(host(2)),
        asked.reply(Rcode::NOERROR).answer(host(3)).answer(soa),
    ]
}

#[test]
fn all_messages_of_a_transfer_reach_the_client() {
    let mut bench = tcp(TRANSFERS);
    bench.ask(&query(7, "corp.example", RecordType::AXFR));
    let (flow, asked) = bench.asked_one();
    let messages = transfer(&asked);
    for message in &messages {
        bench.server(flow, message);
        bench.pass(seconds(4));
    }
    let expected: Vec<_> = messages.iter().map(|message| message.clone().with_id(7)).collect();
    assert_eq!(bench.got(), expected);
}

#[test]
fn a_transfer_that_is_complete_is_over() {
    let mut bench = tcp(TRANSFERS);
    for id in 0..4 {
        bench.ask(&query(id, "corp.example", RecordType::AXFR));
        let (flow, asked) = bench.asked_one();
        for message in transfer(&asked) {
            bench.server(flow, &message);
        }
        assert_eq!(bench.got().len(), 3);
        assert_eq!(bench.gauge("dns_outstanding"), 0);
        bench.pass(seconds(6));
    }
    assert_eq!(bench.counter("dns_timeouts_total", &[]), 0);
    assert_eq!(bench.flows().len(), 1);
}

#[test]
fn differences_of_a_zone_are_a_transfer_too() {
    let mut bench = tcp(TRANSFERS);
    let versions = [9_u8, 8].map(|serial| {
        let mut soa = soa("corp.example", 3600, 60);
        let at = soa.data.len() - 17;
        soa.data[at] = serial;
        soa
    });
    let [new, old] = &versions;
    let host = record("h.corp.example", RecordType::A, 60, &[10, 0, 0, 1]);
    let differences: Vec<_> = [new, old, &host, new, &host, new].into_iter().cloned().collect();
    for (id, records) in (1..).zip([&differences[..], &versions[..1]]) {
        // Cut anywhere.
        let cut = if records.len() > 1 { 4 } else { 1 };
        bench.ask(&query(id, "corp.example", RecordType::IXFR).authority(old.clone()));
        let (flow, asked) = bench.asked_one();
        for records in records.chunks(cut) {
            let mut message = Msg { records: Default::default(), ..asked.reply(Rcode::NOERROR) };
            message.records[0] = records.to_vec();
            bench.server(flow, &message);
        }
        let got: Vec<_> = bench.got().into_iter().flat_map(|message| message.records).collect();
        assert_eq!(got.concat(), records);
        assert_eq!(bench.gauge("dns_outstanding"), 0);
    }
    assert_eq!(bench.counter("dns_timeouts_total", &[]), 0);
}

#[test]
fn a_transfer_may_have_one_record_in_each_message() {
    // The format `one-answer` of BIND.
    let mut bench = tcp(TRANSFERS);
    bench.ask(&query(7, "corp.example", RecordType::AXFR));
    let (flow, asked) = bench.asked_one();
    let soa = soa("corp.example", 3600, 60);
    let host = record("h.corp.example", RecordType::A, 60, &[10, 0, 0, 1]);
    let messages =
        [soa.clone(), host, soa].map(|record| asked.reply(Rcode::NOERROR).answer(record));
    for message in &messages {
        bench.server(flow, message);
    }
    assert_eq!(bench.got(), messages.map(|message| message.with_id(7)));
    assert_eq!(bench.gauge("dns_outstanding"), 0);
}

#[test]
fn a_transfer_that_is_refused_is_over() {
    let mut bench = tcp(TRANSFERS);
    bench.ask(&query(7, "corp.example", RecordType::AXFR));
    let (flow, asked) = bench.asked_one();
    bench.server(flow, &asked.reply(Rcode::REFUSED));
    assert_eq!(bench.got_one().rcode(), Rcode::REFUSED);
    assert_eq!(bench.gauge("dns_outstanding"), 0);
}

#[test]
fn a_transfer_that_breaks_off_is_not_begun_again() {
    let mut bench = tcp(TRANSFERS);
    bench.ask(&query(7, "corp.example", RecordType::AXFR));
    let (flow, asked) = bench.asked_one();
    bench.server(flow, &transfer(&asked)[0]);
    bench.got_one();
    bench.finish(flow);
    // What there is to say would look like another message of the transfer.
    bench.got_nothing();
    bench.asked_nothing();
    assert_eq!(bench.gauge("dns_outstanding"), 0);
}

// TLS.

#[test]
fn answers_to_padded_queries_are_padded_over_tls_and_nowhere_else() {
    for (transport, is_padded) in [("tls", true), ("tcp", false)] {
        let mut bench = tcp(&format!(r#"{{"transport": "{transport}"}}"#));
        let question = a(1, "www.example").edns(4096);
        let padded = question.clone().opt(OptionCode::PADDING, &[0; 70]);
        for len in [100, 467, 469, 1000, 60_000] {
            let got = bench.exchange(&padded, |asked| {
                assert_eq!(asked.option(OptionCode::PADDING), None);
                asked.text_up_to(len)
            });
            assert_eq!(got.octets().len() % 468 == 0, is_padded, "{transport} {len}");
            assert_eq!(got.option(OptionCode::PADDING).is_some(), is_padded);
            let plain = bench.exchange(&question, |asked| asked.text_up_to(len));
            assert_eq!(plain.octets().len(), len);
        }
        // What the filter says itself, too.
        bench.ask(&query(1, "x", RecordType::AXFR).edns(512).opt(OptionCode::PADDING, &[0; 9]));
        let got = bench.got_one();
        assert_eq!(got.octets().len() == 468, is_padded);
        let labels = [("type", "a"), ("transport", transport), ("zone", "other")];
        assert_eq!(bench.counter("dns_queries_total", &labels), 10);
    }
}

#[test]
fn padding_of_the_server_is_not_passed_on() {
    let mut bench = tcp(r#"{"transport": "tls"}"#);
    let question = a(1, "www.example").edns(4096);
    let got = bench
        .exchange(&question, |asked| asked.address(300, 1).opt(OptionCode::PADDING, &[0; 100]));
    assert_eq!(got.option(OptionCode::PADDING), None);
}

// Servers over UDP.

#[test]
fn what_is_truncated_over_udp_is_asked_again_over_tcp() {
    let mut bench = tcp(r#"{"upstream": "udp"}"#);
    bench.ask(&query(1, "www.example", RecordType::TXT));
    let (udp, asked) = bench.asked_one();
    assert!(!bench.streams()[udp].is_tcp());
    bench.server(udp, &asked.reply(Rcode::NOERROR).set(Flags::TC));
    bench.got_nothing();
    let (tcp, again) = bench.asked_one();
    assert!(bench.streams()[tcp].is_tcp());
    bench.server(tcp, &again.text_up_to(5000));
    assert_eq!(bench.got_one(), query(1, "www.example", RecordType::TXT).text_up_to(5000));
    // Once.
    bench.ask(&query(2, "www.example", RecordType::TXT));
    let (udp, asked) = bench.asked_one();
    bench.server(udp, &asked.reply(Rcode::NOERROR).set(Flags::TC));
    let (tcp, again) = bench.asked_one();
    bench.server(tcp, &again.reply(Rcode::NOERROR).set(Flags::TC));
    assert!(bench.got_one().has(Flags::TC));
}

#[test]
fn what_is_truncated_after_a_retry_is_asked_again_over_tcp_too() {
    let mut bench = tcp(r#"{"upstream": "udp"}"#);
    bench.ask(&query(1, "www.example", RecordType::TXT));
    bench.asked_one();
    bench.pass(seconds(1));
    let (udp, again) = bench.asked_one();
    bench.server(udp, &again.reply(Rcode::NOERROR).set(Flags::TC));
    bench.got_nothing();
    let (tcp, again) = bench.asked_one();
    assert!(bench.streams()[tcp].is_tcp());
    bench.server(tcp, &again.text_up_to(5000));
    assert!(!bench.got_one().has(Flags::TC));
}

#[test]
fn a_transfer_goes_over_tcp_whatever_the_upstream() {
    let mut bench = tcp(r#"{"upstream": "udp", "rules": [{"types": ["AXFR"], "carry": "flow"}]}"#);
    bench.ask(&query(1, "corp.example", RecordType::AXFR));
    let (flow, _) = bench.asked_one();
    assert!(bench.streams()[flow].is_tcp());
}

#[test]
fn a_signed_query_and_its_answer_stay_as_they_are() {
    let mut bench = tcp(r#"{"client_subnet": {"action": "replace"}}"#);
    let tsig = record("key", RecordType::TSIG, 0, b"\x03mac\x00 signed");
    let tsig = support::message::Record { class: 255, ..tsig };
    let question = a(1, "www.example").additional(tsig.clone());
    bench.ask(&question);
    let (flow, asked) = bench.asked_one();
    assert_eq!(asked.clone().with_id(1), question);
    let answer = asked.address(300, 1).additional(tsig);
    bench.server(flow, &answer);
    assert_eq!(bench.got_one(), answer.with_id(1));
}

#[test]
fn a_failure_says_why() {
    let mut bench = tcp(r#"{"idle_timeout": "60s"}"#);
    bench.ask(&a(1, "www.example").edns(1232));
    bench.pass(seconds(5));
    assert_eq!(bench.got_one().error_code(), InfoCode::NO_REACHABLE_AUTHORITY);
}
