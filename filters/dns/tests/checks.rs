//! Checks: a request about each query before it goes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support;
use crate::support::message::{a, query};
use crate::support::{ANNA, BERT, https, millis, seconds, tcp, udp};
use codec_dns::{InfoCode, Opcode, Rcode, RecordType};

const CHECK: &str = r#"{"rules": [{"carry": "check"}]}"#;

#[test]
fn a_check_says_what_is_asked_and_has_no_content() {
    let mut bench = udp(CHECK);
    let anna = bench.client(ANNA);
    bench.ask(anna, &query(1, "wWw.Exa_mple", RecordType(65_280)).edns(1232).dnssec().class(3));
    let check = &bench.streams()[bench.open_one()];
    assert_eq!((&*check.method, &*check.path), ("GET", "/dns-query"));
    assert_eq!(check.authority, "www.exa_mple");
    assert_eq!(check.ended, Some(bridge::Ended::Complete));
    assert_eq!(
        check.all_headers(),
        [
            "x-carry: check",
            "x-dns-do: 1",
            "x-dns-opcode: query",
            "x-dns-qclass: CH",
            "x-dns-qname: www.exa_mple",
            "x-dns-qtype: TYPE65280",
            "x-dns-rd: 1",
            "x-dns-transport: udp",
            "x-forwarded-for: 192.0.2.1",
            "x-protocol: dns",
        ]
    );
    assert!(check.body.is_empty());
}

#[test]
fn a_name_cannot_forge_a_header() {
    let mut bench = udp(CHECK);
    let anna = bench.client(ANNA);
    let mut octets = a(1, "x").octets();
    octets.splice(12..15, *b"\x0fa\r\nx-evil: 1%,.\x00");
    bench.datagram(anna, &octets);
    let check = &bench.streams()[bench.open_one()];
    assert_eq!(check.authority, "a=0D=0Ax-evil=3A=201=25=2C=2E");
    assert_eq!(check.header("x-evil"), None);
}

#[test]
fn no_octet_of_a_name_is_anything_but_part_of_a_host() {
    let requests = r#"{"rules": [{"zones": ["c"], "carry": "check"}, {"carry": "request"}]}"#;
    for octet in 0..=255_u8 {
        for zone in [b'c', b'r'] {
            let mut bench = udp(requests);
            let anna = bench.client(ANNA);
            let mut octets = a(1, "x").octets();
            octets.splice(12..15, [1, octet, 4, b'-', octet, octet, b'-', 1, zone, 0]);
            bench.datagram(anna, &octets);
            let stream = &bench.streams()[bench.open_one()];
            let is_host = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'A'..=b'F' | b'-' | b'_' | b'.' | b'=');
            assert!(stream.authority.bytes().all(is_host), "{}", stream.authority);
            assert_eq!(stream.header("x-dns-qname"), Some(&*stream.authority));
            assert_eq!(stream.authority.matches('.').count(), 2, "three labels are three");
            assert_eq!(stream.path, "/dns-query");
        }
    }
}

#[test]
fn the_root_and_a_name_of_full_length_can_be_checked() {
    let label = "x".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "x".repeat(61));
    let mut bench = udp(CHECK);
    let anna = bench.client(ANNA);
    for (id, name) in (1..).zip([".", &*longest]) {
        bench.ask(anna, &a(id, name));
        let check = bench.open_one();
        assert_eq!(bench.streams()[check].authority, name);
        bench.respond_with(check, 200, &[], b"");
        bench.server_answers();
        assert_eq!(bench.got_one(anna).id, id);
    }
}

#[test]
fn a_query_goes_on_when_its_check_has_passed_and_not_before() {
    for status in [200, 204, 299] {
        let mut bench = udp(CHECK);
        let anna = bench.client(ANNA);
        bench.ask(anna, &a(1, "www.example"));
        bench.asked_nothing();
        bench.respond_one(status, &[], b"");
        bench.server_answers();
        assert_eq!(bench.got_one(anna), a(1, "www.example").address(300, 1));
        let labels = [("verdict", "pass"), ("source", "asked")];
        assert_eq!(bench.counter("dns_verdicts_total", &labels), 1);
    }
}

#[test]
fn a_check_has_passed_with_its_header_section() {
    let mut bench = udp(CHECK);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    let check = bench.open_one();
    bench.respond(check, 200, &[]);
    bench.server_answers();
    assert_eq!(bench.got_one(anna).rcode(), Rcode::NOERROR);
    // What comes of it later means nothing.
    bench.content(check, b"content");
    bench.reset(check);
    bench.got_nothing(anna);
}

#[test]
fn a_refused_query_is_never_forwarded() {
    for (status, rcode, code) in [
        (400, Rcode::FORMERR, InfoCode::OTHER),
        (401, Rcode::REFUSED, InfoCode::PROHIBITED),
        (403, Rcode::REFUSED, InfoCode::PROHIBITED),
        (404, Rcode::NXDOMAIN, InfoCode::BLOCKED),
        (429, Rcode::REFUSED, InfoCode::PROHIBITED),
        (451, Rcode::REFUSED, InfoCode::PROHIBITED),
        (301, Rcode::SERVFAIL, InfoCode::NETWORK_ERROR),
        (500, Rcode::SERVFAIL, InfoCode::NETWORK_ERROR),
        (503, Rcode::SERVFAIL, InfoCode::NETWORK_ERROR),
        (504, Rcode::SERVFAIL, InfoCode::NO_REACHABLE_AUTHORITY),
    ] {
        let mut bench = udp(CHECK);
        let anna = bench.client(ANNA);
        bench.ask(anna, &a(1, "wWw.example").edns(1232));
        bench.respond_one(status, &[("content-type", "text/plain; charset=utf-8")], b"not you");
        let got = bench.got_one(anna);
        assert_eq!((got.id, got.rcode(), got.name()), (1, rcode, "wWw.example."), "{status}");
        assert_eq!(got.errors(), [(code, "not you".to_owned())], "{status}");
        assert!(bench.flows().is_empty());
        assert_eq!(bench.gauge("dns_outstanding"), 0);
    }
}

#[test]
fn who_speaks_no_edns_gets_the_response_code_alone() {
    let mut bench = udp(CHECK);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    bench.respond_one(403, &[("content-type", "text/plain")], b"not you");
    assert_eq!(bench.got_one(anna), a(1, "www.example").reply(Rcode::REFUSED));
}

#[test]
fn a_text_is_cut_short_and_what_is_none_is_left_out() {
    let long = vec![b'x'; 5000];
    for (content_type, body, text) in [
        ("text/plain", &*long, &"x".repeat(128)[..]),
        ("text/html", b"<html>", ""),
        ("text/plain", b"with a \x07", ""),
        ("text/plain", b"\xff\xfe", ""),
        ("text/plain", b"", ""),
    ] {
        let mut bench = udp(CHECK);
        let anna = bench.client(ANNA);
        bench.ask(anna, &a(1, "www.example").edns(1232));
        bench.respond_one(403, &[("content-type", content_type)], body);
        assert_eq!(bench.got_one(anna).errors(), [(InfoCode::PROHIBITED, text.to_owned())]);
    }
}

#[test]
fn what_429_means_is_configured() {
    let json = |action: &str| {
        format!(r#"{{"rules": [{{"carry": "check"}}], "too_many_requests": "{action}"}}"#)
    };
    let ask = a(1, "www.example");
    let mut bench = udp(&json("truncate"));
    let anna = bench.client(ANNA);
    bench.ask(anna, &ask);
    bench.respond_one(429, &[], b"");
    let got = bench.got_one(anna);
    assert!(got.has(codec_dns::Flags::TC) && got.rcode() == Rcode::NOERROR, "{got:?}");

    let mut bench = udp(&json("drop"));
    let anna = bench.client(ANNA);
    bench.ask(anna, &ask);
    bench.respond_one(429, &[], b"");
    bench.pass(seconds(20));
    bench.got_nothing(anna);

    // Over TCP a client cannot come over TCP.
    let mut bench = tcp(&json("truncate"));
    bench.ask(&ask);
    bench.respond_one(429, &[], b"");
    assert_eq!(bench.got_one().rcode(), Rcode::REFUSED);

    // Over HTTPS no answer is an error of HTTP.
    let mut bench = https(&json("drop"));
    let call = bench.post(&ask);
    bench.respond_one(429, &[], b"");
    assert!(bench.call(call).is_reset());
}

#[test]
fn a_check_that_is_reset_or_says_nothing_is_a_failure() {
    let mut bench = udp(CHECK);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example").edns(1232));
    let check = bench.open_one();
    bench.reset(check);
    let got = bench.got_one(anna);
    assert_eq!((got.rcode(), got.error_code()), (Rcode::SERVFAIL, InfoCode::NETWORK_ERROR));
    bench.ask(anna, &a(2, "www.example").edns(1232));
    let check = bench.open_one();
    bench.pass(seconds(5));
    let got = bench.got_one(anna);
    assert_eq!(
        (got.rcode(), got.error_code()),
        (Rcode::SERVFAIL, InfoCode::NO_REACHABLE_AUTHORITY)
    );
    assert!(bench.streams()[check].is_over());
    bench.respond_with(check, 200, &[], b"");
    bench.asked_nothing();
    bench.got_nothing(anna);
}

#[test]
fn a_check_is_asked_once_and_the_query_again_if_need_be() {
    let mut bench = udp(CHECK);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    bench.pass(millis(500));
    bench.respond_one(200, &[], b"");
    bench.asked_one();
    bench.pass(millis(600));
    bench.asked_one();
    bench.pass(seconds(10));
    assert_eq!(bench.servers_got().len(), 3);
    assert!(bench.open().is_empty());
    assert_eq!(bench.got(anna).len(), 1);
}

#[test]
fn a_check_that_takes_long_does_not_use_up_the_retry() {
    let mut bench = udp(CHECK);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    bench.pass(millis(1500));
    bench.respond_one(200, &[], b"");
    let (flow, _) = bench.asked_one();
    bench.finish(flow);
    bench.server_answers();
    assert_eq!(bench.got_one(anna).rcode(), Rcode::NOERROR);
}

// Verdicts.

const KEPT: &str = r#"{"linger": "60s", "max_cached_verdicts": 2,
    "rules": [{"carry": "check", "verdict_cache": "10s"}]}"#;

#[test]
fn a_verdict_holds_for_the_same_question_of_the_same_address() {
    let mut bench = udp(KEPT);
    let (anna, again, bert) = (bench.client(ANNA), bench.client("192.0.2.1:9"), bench.client(BERT));
    bench.ask(anna, &a(1, "www.example"));
    bench.respond_one(403, &[("content-type", "text/plain")], b"not you");
    bench.got_one(anna);
    for (client, question) in [(anna, a(2, "www.example")), (again, a(3, "WWW.example"))] {
        bench.ask(client, &question);
        assert_eq!(bench.got_one(client).rcode(), Rcode::REFUSED);
    }
    let labels = [("verdict", "refuse"), ("source", "cached")];
    assert_eq!(bench.counter("dns_verdicts_total", &labels), 2);
    for (client, question) in [
        (bert, a(4, "www.example")),
        (anna, a(5, "ww.example")),
        (anna, query(6, "www.example", RecordType::AAAA)),
    ] {
        bench.ask(client, &question);
        bench.respond_one(200, &[], b"");
        bench.server_answers();
        assert_eq!(bench.got_one(client).rcode(), Rcode::NOERROR);
    }
}

#[test]
fn a_verdict_holds_for_its_time_and_a_failure_for_none() {
    let mut bench = udp(KEPT);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    bench.respond_one(503, &[], b"");
    bench.ask(anna, &a(2, "www.example"));
    bench.respond_one(200, &[], b"");
    bench.server_answers();
    bench.pass(millis(9_999));
    bench.ask(anna, &a(3, "www.example"));
    bench.server_answers();
    bench.pass(millis(1));
    bench.ask(anna, &a(4, "www.example"));
    bench.respond_one(404, &[], b"");
    let rcodes: Vec<_> = bench.got(anna).iter().map(support::message::Msg::rcode).collect();
    assert_eq!(rcodes, [Rcode::SERVFAIL, Rcode::NOERROR, Rcode::NOERROR, Rcode::NXDOMAIN]);
}

#[test]
fn a_verdict_is_kept_with_its_text() {
    let mut bench = udp(KEPT);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example").edns(1232));
    bench.respond_one(403, &[("content-type", "text/plain")], b"not you");
    bench.ask(anna, &a(2, "www.example").edns(1232));
    for got in bench.got(anna) {
        assert_eq!(got.errors(), [(InfoCode::PROHIBITED, "not you".to_owned())]);
    }
    bench.ask(anna, &a(3, "www.example"));
    assert_eq!(bench.got_one(anna).edns, None);
}

#[test]
fn a_verdict_about_a_query_is_none_about_an_update_or_another_class() {
    let mut bench = udp(r#"{"linger": "60s", "rules": [{"opcodes": ["query", "update"],
        "carry": "check", "verdict_cache": "10s"}]}"#);
    let anna = bench.client(ANNA);
    let question = query(1, "corp.example", RecordType::SOA);
    bench.ask(anna, &question);
    bench.respond_one(200, &[], b"");
    bench.asked_one();
    let update = support::message::Msg {
        flags: question.flags.with_opcode(Opcode::UPDATE),
        ..question.clone()
    };
    for (n, other) in [update, question.class(3)].iter().enumerate() {
        bench.ask(anna, other);
        bench.asked_nothing();
        assert_eq!(bench.open().len(), n + 1, "{other:?}");
    }
}

#[test]
fn so_many_verdicts_are_kept() {
    let mut bench = udp(KEPT);
    let anna = bench.client(ANNA);
    for (id, name) in (0..).zip(["a.example", "b.example", "c.example"]) {
        bench.ask(anna, &a(id, name));
        bench.respond_one(200, &[], b"");
    }
    bench.ask(anna, &a(4, "b.example"));
    assert!(bench.open().is_empty());
    bench.ask(anna, &a(5, "a.example"));
    assert_eq!(bench.open().len(), 1);
}

#[test]
fn without_an_address_a_verdict_is_not_anybodys() {
    let mut bench = udp(KEPT);
    let nobody = bench.client("unknown");
    bench.ask(nobody, &a(1, "www.example"));
    assert_eq!(bench.streams()[bench.open_one()].header("x-forwarded-for"), None);
    bench.respond_one(403, &[], b"");
    assert_eq!(bench.got_one(nobody).rcode(), Rcode::REFUSED);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    assert_eq!(bench.open().len(), 1);
}

#[test]
fn an_update_can_be_checked() {
    let mut bench = udp(r#"{"rules": [{"opcodes": ["update", "notify"], "carry": "check"}]}"#);
    let anna = bench.client(ANNA);
    let update = query(1, "corp.example", RecordType::SOA);
    let update =
        support::message::Msg { flags: update.flags.with_opcode(Opcode::UPDATE), ..update };
    bench.ask(anna, &update);
    assert_eq!(bench.streams()[bench.open_one()].header("x-dns-opcode"), Some("update"));
    bench.respond_one(200, &[], b"");
    let (flow, asked) = bench.asked_one();
    assert_eq!(asked.clone().with_id(1), update);
    bench.server(flow, &asked.reply(Rcode::NOERROR));
    assert_eq!(bench.got_one(anna), update.reply(Rcode::NOERROR));
}
