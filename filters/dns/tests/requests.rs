//! Requests: each query an HTTP request of its own (RFC 8484).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support::message::{Msg, a, query};
use crate::support::{ANNA, BERT, seconds, tcp, udp};
use codec_dns::{InfoCode, OptionCode, Rcode, RecordType};

const REQUEST: &str = r#"{"rules": [{"carry": "request"}]}"#;

fn doh(headers: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("content-type", "application/dns-message")];
    all.extend(headers);
    all
}

#[test]
fn a_request_has_the_query_with_id_zero_as_its_content() {
    let mut bench = udp(REQUEST);
    let (anna, bert) = (bench.client(ANNA), bench.client(BERT));
    let question = a(0x1234, "wWw.example").edns(1232);
    bench.ask(anna, &question);
    let request = &bench.streams()[bench.open_one()];
    assert_eq!((&*request.method, &*request.path), ("POST", "/dns-query"));
    assert_eq!(request.authority, "www.example");
    assert_eq!(
        request.all_headers(),
        [
            "accept: application/dns-message",
            "content-length: 40",
            "content-type: application/dns-message",
            "x-carry: request",
            "x-dns-do: 0",
            "x-dns-opcode: query",
            "x-dns-qclass: IN",
            "x-dns-qname: www.example",
            "x-dns-qtype: A",
            "x-dns-rd: 1",
            "x-dns-transport: udp",
            "x-forwarded-for: 192.0.2.1",
            "x-protocol: dns",
        ]
    );
    assert_eq!(request.ended, Some(bridge::Ended::Complete));
    let first = request.body.clone();
    assert_eq!(Msg::decode(&first), question.with_id(0));
    // The same for everybody, so that caches can keep the answer.
    bench.ask(bert, &a(7, "wWw.example").edns(1232));
    let open = bench.open();
    assert_eq!(bench.streams()[open[1]].body, first);
}

#[test]
fn the_response_is_the_answer_with_the_id_of_the_query() {
    let mut bench = udp(REQUEST);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(7, "www.example"));
    bench.doh(&a(0, "www.example").address(300, 1));
    assert_eq!(bench.got_one(anna), a(7, "www.example").address(300, 1));
    assert!(bench.streams()[0].is_over());
    assert_eq!(bench.gauge("dns_outstanding"), 0);
}

#[test]
fn the_age_of_a_response_is_taken_off_its_ttls() {
    for (age, ttl) in [("0", 300), ("100", 200), ("300", 0), ("99999", 0), ("soon", 300)] {
        let mut bench = udp(REQUEST);
        let anna = bench.client(ANNA);
        bench.ask(anna, &a(7, "www.example"));
        let octets = a(0, "www.example").address(300, 1).octets();
        bench.respond_one(200, &doh(&[("age", age)]), &octets);
        assert_eq!(bench.got_one(anna).ttls(), [ttl], "{age}");
    }
}

#[test]
fn a_response_without_an_answer_is_a_failure() {
    let octets = a(0, "www.example").address(300, 1).octets();
    let mut too_long = octets.clone();
    too_long.resize(70_000, 0);
    let other = a(0, "ww.example").address(300, 1).octets();
    let itself = a(0, "www.example").octets();
    for (headers, body) in [
        (vec![("content-type", "text/html")], &*octets),
        (vec![], &octets),
        (doh(&[("content-encoding", "gzip")]), &octets),
        (doh(&[]), &octets[..30]),
        (doh(&[]), b""),
        (doh(&[]), &too_long),
        (doh(&[]), &other),
        (doh(&[]), &itself),
    ] {
        let mut bench = udp(REQUEST);
        let anna = bench.client(ANNA);
        bench.ask(anna, &a(7, "www.example").edns(1232));
        bench.respond_one(200, &headers, body);
        let got = bench.got_one(anna);
        assert_eq!(got.rcode(), Rcode::SERVFAIL, "{headers:?}");
        let text = "no DNS message in the response".to_owned();
        assert_eq!(got.errors(), [(InfoCode::NETWORK_ERROR, text)]);
    }
}

#[test]
fn a_response_that_is_cut_off_is_none() {
    let mut bench = udp(REQUEST);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(7, "www.example").edns(1232));
    let request = bench.open_one();
    bench.respond(request, 200, &doh(&[]));
    bench.content(request, &a(0, "www.example").address(300, 1).octets());
    bench.got_nothing(anna);
    bench.reset(request);
    assert_eq!(bench.got_one(anna).rcode(), Rcode::SERVFAIL);
}

#[test]
fn a_request_without_a_response_is_given_up_and_not_sent_again() {
    let mut bench = udp(REQUEST);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(7, "www.example").edns(1232));
    let request = bench.open_one();
    bench.pass(seconds(5));
    assert_eq!(bench.streams().len(), 1);
    let got = bench.got_one(anna);
    assert_eq!(
        (got.rcode(), got.error_code()),
        (Rcode::SERVFAIL, InfoCode::NO_REACHABLE_AUTHORITY)
    );
    assert!(bench.streams()[request].is_reset());
    bench.pass(seconds(60));
    bench.got_nothing(anna);
}

#[test]
fn the_status_of_a_request_is_the_answer() {
    for (status, rcode, code) in [
        (400, Rcode::FORMERR, InfoCode::OTHER),
        (403, Rcode::REFUSED, InfoCode::PROHIBITED),
        (404, Rcode::NXDOMAIN, InfoCode::BLOCKED),
        (413, Rcode::REFUSED, InfoCode::PROHIBITED),
        (429, Rcode::REFUSED, InfoCode::PROHIBITED),
        (302, Rcode::SERVFAIL, InfoCode::NETWORK_ERROR),
        (502, Rcode::SERVFAIL, InfoCode::NETWORK_ERROR),
        (504, Rcode::SERVFAIL, InfoCode::NO_REACHABLE_AUTHORITY),
    ] {
        let mut bench = udp(REQUEST);
        let anna = bench.client(ANNA);
        bench.ask(anna, &a(7, "www.example").edns(1232));
        bench.respond_one(status, &[("content-type", "text/plain")], b"why");
        let got = bench.got_one(anna);
        assert_eq!((got.rcode(), got.errors()), (rcode, vec![(code, "why".to_owned())]));
    }
}

#[test]
fn a_long_answer_is_truncated_over_udp_and_whole_over_tcp() {
    let question = query(7, "www.example", RecordType::TXT);
    let answer = question.text_up_to(4000);
    let mut bench = udp(REQUEST);
    let anna = bench.client(ANNA);
    bench.ask(anna, &question);
    bench.doh(&answer.clone().with_id(0));
    assert!(bench.got_one(anna).has(codec_dns::Flags::TC));
    let mut bench = tcp(REQUEST);
    bench.ask(&question);
    bench.doh(&answer.clone().with_id(0));
    assert_eq!(bench.got_one(), answer);
}

#[test]
fn what_is_between_client_and_filter_does_not_go_into_a_request() {
    let mut bench = tcp(REQUEST);
    let question = a(7, "www.example").edns(4096);
    bench.ask(
        &question.clone().opt(OptionCode::TCP_KEEPALIVE, b"").opt(OptionCode::PADDING, &[0; 50]),
    );
    let request = &bench.streams()[bench.open_one()];
    let sent = Msg::decode(&request.body);
    assert_eq!(sent.edns.as_ref().unwrap().options, []);
    assert_eq!(request.header("content-length"), Some(&*request.body.len().to_string()));
}

#[test]
fn the_longest_message_is_taken() {
    let mut bench = tcp(REQUEST);
    let question = query(7, "www.example", RecordType::TXT);
    bench.ask(&question);
    let longest = question.text_up_to(65_535);
    bench.doh(&longest.clone().with_id(0));
    assert_eq!(bench.got_one(), longest);
}
