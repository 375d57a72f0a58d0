//! Limits on what clients ask, and on what they are answered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support;
use crate::support::message::{Msg, a, query};
use crate::support::{ANNA, BERT, millis, seconds, tcp, udp};
use codec_dns::{Flags, InfoCode, OptionCode, Rcode, RecordType};

/// Two queries at once, one each second.
fn limit(more: &str) -> String {
    format!(
        r#"{{"linger": "60s", "rate_limits": [{{"queries": {{"per_second": 1, "burst": 2}}{more}}}]}}"#
    )
}

fn answered(bench: &mut support::Bench<support::native::Udp>, client: usize, question: &Msg) {
    let got = bench.exchange(client, question, |asked| asked.reply(Rcode::NOERROR));
    assert_eq!(got.rcode(), Rcode::NOERROR);
}

#[test]
fn a_query_above_a_limit_is_refused_and_never_forwarded() {
    let mut bench = udp(&limit(""));
    let (anna, other_port, bert) =
        (bench.client(ANNA), bench.client("192.0.2.1:9"), bench.client(BERT));
    answered(&mut bench, anna, &a(1, "www.example"));
    answered(&mut bench, other_port, &a(2, "www.example"));
    let got = bench.refused(anna, &a(3, "www.example").edns(1232));
    assert_eq!(got.rcode(), Rcode::REFUSED);
    assert_eq!(got.errors(), [(InfoCode::PROHIBITED, "rate limit".to_owned())]);
    assert_eq!(bench.limited("address", "refuse"), 1);
    answered(&mut bench, bert, &a(4, "www.example"));
    bench.pass(seconds(1));
    answered(&mut bench, anna, &a(5, "www.example"));
    assert_eq!(bench.refused(anna, &a(6, "www.example")).rcode(), Rcode::REFUSED);
}

#[test]
fn above_a_limit_a_query_is_dropped_or_sent_to_tcp() {
    let mut bench = udp(&limit(r#", "exceeded": "drop", "name": "flood""#));
    let anna = bench.client(ANNA);
    bench.ask_all(anna, &[a(1, "a.example"), a(2, "b.example"), a(3, "c.example")]);
    assert_eq!(bench.servers_got().len(), 2);
    bench.got_nothing(anna);
    assert_eq!(bench.limited("flood", "drop"), 1);

    let json = limit(r#", "exceeded": "truncate""#);
    let mut bench = udp(&json);
    let anna = bench.client(ANNA);
    bench.ask_all(anna, &[a(1, "a.example"), a(2, "b.example"), a(3, "c.example")]);
    let got = bench.got_one(anna);
    assert!(got.has(Flags::TC) && got.rcode() == Rcode::NOERROR && got.id == 3);
    let mut bench = tcp(&json);
    bench.ask_all(&[a(1, "a.example"), a(2, "b.example"), a(3, "c.example")]);
    assert_eq!(bench.got_one().rcode(), Rcode::REFUSED);
}

#[test]
fn who_is_exempt_has_no_limit() {
    let mut bench = udp(
        r#"{"rate_limits": [{"queries": {"per_second": 1}}], "rate_limit_exempt": ["192.0.2.0/24"],
            "response_rate_limit": {"per_second": 1}}"#,
    );
    let (anna, bert) = (bench.client(ANNA), bench.client(BERT));
    for id in 0..20 {
        answered(&mut bench, anna, &a(id, "www.example"));
    }
    answered(&mut bench, bert, &a(1, "www.example"));
    assert_eq!(bench.refused(bert, &a(2, "www.example")).rcode(), Rcode::REFUSED);
}

#[test]
fn only_the_types_that_a_limit_names_are_counted() {
    let mut bench = udp(&limit(r#", "types": ["ANY"]"#));
    let anna = bench.client(ANNA);
    let any = |id| query(id, "www.example", RecordType::ANY);
    for id in 0..2 {
        answered(&mut bench, anna, &any(id));
    }
    assert_eq!(bench.refused(anna, &any(3)).rcode(), Rcode::REFUSED);
    for id in 0..10 {
        answered(&mut bench, anna, &a(id, "www.example"));
    }
}

#[test]
fn who_gets_too_many_errors_is_above_a_limit() {
    let mut bench = udp(&limit(r#", "rcodes": ["NXDOMAIN"]"#));
    let anna = bench.client(ANNA);
    for id in 0..10 {
        answered(&mut bench, anna, &a(id, "www.example"));
    }
    for id in 0..2 {
        let got = bench.exchange(anna, &a(id, "x"), |asked| asked.reply(Rcode::NXDOMAIN));
        assert_eq!(got.rcode(), Rcode::NXDOMAIN);
    }
    assert_eq!(bench.refused(anna, &a(9, "www.example")).rcode(), Rcode::REFUSED);
    bench.pass(seconds(1));
    answered(&mut bench, anna, &a(9, "www.example"));
}

#[test]
fn a_client_that_is_blocked_is_refused_until_it_is_over() {
    let mut bench = udp(&limit(r#", "block": "30s", "types": ["ANY"]"#));
    let anna = bench.client(ANNA);
    let any = |id| query(id, "www.example", RecordType::ANY);
    for id in 0..2 {
        answered(&mut bench, anna, &any(id));
    }
    assert_eq!(bench.refused(anna, &any(3)).rcode(), Rcode::REFUSED);
    for second in 0..29 {
        assert_eq!(bench.refused(anna, &a(second, "www.example")).rcode(), Rcode::REFUSED);
        bench.pass(seconds(1));
    }
    assert_eq!(bench.counter("dns_blocks_total", &[("limit", "address")]), 1);
    bench.pass(seconds(1));
    answered(&mut bench, anna, &any(4));
}

#[test]
fn what_is_malformed_is_counted_too_and_gets_silence_above_the_limit() {
    let mut bench = udp(&limit(""));
    let anna = bench.client(ANNA);
    let mut octets = a(7, "www.example").octets();
    octets.push(0);
    for _ in 0..5 {
        bench.datagram(anna, &octets);
    }
    assert_eq!(bench.got(anna).len(), 2);
    assert_eq!(bench.decode_errors("trailing_octets"), 5);
}

#[test]
fn what_a_client_proves_with_a_cookie_is_counted_apart() {
    let json = limit("").replacen('{', r#"{"cookies": {}, "#, 1);
    let mut bench = udp(&json);
    let anna = bench.client(ANNA);
    let answer = |asked: &Msg| asked.address(300, 1);
    let first = a(1, "www.example").opt(OptionCode::COOKIE, b"client-1");
    let cookie = bench.exchange(anna, &first, answer).option(OptionCode::COOKIE).unwrap().to_vec();
    // Somebody else asks in Anna's name.
    let forger = bench.client("192.0.2.1:666");
    answered(&mut bench, forger, &a(2, "www.example"));
    assert_eq!(bench.refused(forger, &a(3, "www.example")).rcode(), Rcode::REFUSED);
    let question = a(4, "www.example").opt(OptionCode::COOKIE, &cookie);
    assert_eq!(bench.exchange(anna, &question, answer).rcode(), Rcode::NOERROR);
}

// Response rate limiting.

/// Asks so many times at once; how many answers are whole, truncated and none.
fn flood(bench: &mut support::Bench<support::native::Udp>, client: usize, n: u16) -> [usize; 3] {
    for id in 0..n {
        bench.ask(client, &a(id, "www.example").edns(1232));
        let (flow, asked) = bench.asked_one();
        bench.server(flow, &asked.address(300, 1));
    }
    let got = bench.got(client);
    let truncated = got.iter().filter(|answer| answer.has(Flags::TC)).count();
    assert!(got.iter().all(|answer| answer.has(Flags::TC) == answer.records[0].is_empty()));
    [got.len() - truncated, truncated, usize::from(n) - got.len()]
}

#[test]
fn answers_that_are_alike_are_limited_and_some_slip_through_without_records() {
    for (slip, expected) in [(0, [5, 0, 20]), (1, [5, 20, 0]), (2, [5, 10, 10])] {
        let mut bench = udp(&format!(
            r#"{{"linger": "60s", "response_rate_limit": {{"per_second": 5, "slip": {slip}}}}}"#
        ));
        let anna = bench.client(ANNA);
        assert_eq!(flood(&mut bench, anna, 25), expected, "{slip}");
        let limited = |action| bench.limited("response_rate_limit", action);
        assert_eq!(
            (limited("truncate"), limited("drop")),
            (expected[1] as i64, expected[2] as i64)
        );
        // Another network, and another answer.
        let bert = bench.client(BERT);
        assert_eq!(flood(&mut bench, bert, 5), [5, 0, 0]);
        answered(&mut bench, anna, &a(1, "other.example"));
    }
}

#[test]
fn a_flood_is_made_up_for() {
    let mut bench = udp(
        r#"{"linger": "60s", "response_rate_limit": {"per_second": 5, "slip": 0, "window": "4s"}}"#,
    );
    let anna = bench.client(ANNA);
    assert_eq!(flood(&mut bench, anna, 100), [5, 0, 95]);
    bench.pass(millis(3_900));
    assert_eq!(flood(&mut bench, anna, 1), [0, 0, 1]);
    bench.pass(millis(4_300));
    assert_eq!(flood(&mut bench, anna, 1), [1, 0, 0]);
}

#[test]
fn a_client_with_a_cookie_gets_all_answers() {
    let mut bench =
        udp(r#"{"linger": "60s", "cookies": {}, "response_rate_limit": {"per_second": 1}}"#);
    let anna = bench.client(ANNA);
    let first = a(1, "www.example").opt(OptionCode::COOKIE, b"client-1");
    let answer = |asked: &Msg| asked.address(300, 1);
    let cookie = bench.exchange(anna, &first, answer).option(OptionCode::COOKIE).unwrap().to_vec();
    for id in 0..20 {
        let question = a(id, "www.example").opt(OptionCode::COOKIE, &cookie);
        assert_eq!(bench.exchange(anna, &question, answer).ttls(), [300]);
    }
}

#[test]
fn what_the_filter_says_itself_is_limited_as_well() {
    let mut bench = udp(r#"{"linger": "60s", "response_rate_limit": {"per_second": 2, "slip": 0},
            "rules": [{"answer": "refuse"}]}"#);
    let anna = bench.client(ANNA);
    for id in 0..10 {
        bench.ask(anna, &a(id, &format!("n{id}.example")));
        // FORMERR is an error like another.
        bench.datagram(anna, &[0; 13]);
    }
    assert_eq!(bench.got(anna).len(), 2);
}

#[test]
fn over_tcp_answers_are_not_limited() {
    let mistakes = filter_dns::Filter::new(
        br#"{"transport": "tcp", "response_rate_limit": {"per_second": 1}}"#,
        &bridge::metrics::Registry::default(),
    );
    let mistakes: Vec<_> = mistakes.err().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(mistakes, ["response_rate_limit: has a meaning only with transport: udp"]);
}
