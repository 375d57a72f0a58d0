//! Clients over HTTPS: RFC 8484 requests that Envoy forwards.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support;
use crate::support::message::{Msg, a, query, soa};
use crate::support::{https, seconds};
use codec_dns::{InfoCode, Opcode, OptionCode, Rcode, RecordType};

#[test]
fn a_query_may_come_in_the_content_or_in_the_uri() {
    let mut bench = https("{}");
    for is_post in [true, false] {
        let question = a(0, "www.example");
        let call = if is_post { bench.post(&question) } else { bench.get("GET", &question) };
        bench.server_answers();
        assert_eq!(bench.call(call).message(), a(0, "www.example").address(300, 1));
        assert_eq!(bench.call(call).header("content-type"), Some("application/dns-message"));
        assert_eq!(bench.call(call).header("cache-control"), Some("max-age=300"));
        let len = bench.call(call).received.len().to_string();
        assert_eq!(bench.call(call).header("content-length"), Some(&*len));
    }
}

#[test]
fn the_answer_to_head_has_no_content() {
    let mut bench = https("{}");
    let call = bench.get("HEAD", &a(0, "www.example"));
    bench.server_answers();
    let call = bench.call(call);
    assert_eq!((call.status, call.header("cache-control")), (Some(200), Some("max-age=300")));
    assert!(call.received.is_empty());
    assert_eq!(call.ended, Some(bridge::Ended::Complete));
}

#[test]
fn a_request_without_a_query_is_answered_by_http() {
    let message = ("content-type", "application/dns-message");
    let octets = a(1, "www.example").octets();
    let response = a(1, "www.example").address(300, 1).octets();
    for (method, path, header, content, status, kind) in [
        ("PUT", "/dns-query", message, &*octets, 405, "method"),
        ("GET", "/dns-query", message, b"", 400, "missing"),
        ("GET", "/dns-query?dns=AAAA&dns=AAAA", message, b"", 400, "repeated"),
        ("GET", "/dns-query?dns=A+A=", message, b"", 400, "base64"),
        ("GET", "/dns-query?dns=AAAA", message, b"", 400, "too_short"),
        ("POST", "/dns-query", ("content-type", "text/plain"), &octets, 415, "media_type"),
        ("POST", "/dns-query", ("x", "y"), &octets, 415, "media_type"),
        ("POST", "/dns-query", message, &octets[..11], 400, "too_short"),
        ("POST", "/dns-query", message, &response, 400, "is_response"),
    ] {
        let mut bench = https("{}");
        let call = bench.request(method, path, &[header], content);
        assert_eq!(bench.call(call).status, Some(status), "{method} {path} {kind}");
        assert_eq!(bench.call(call).header("content-type"), Some("text/plain"));
        assert_eq!(bench.counter("dns_doh_errors_total", &[("kind", kind)]), 1, "{kind}");
        assert!(bench.streams().is_empty());
    }
}

#[test]
fn a_query_that_is_too_long_is_refused_by_http() {
    let mut bench = https(r#"{"max_query_size": 512}"#);
    let long = a(1, "www.example").opt(OptionCode(65_001), &[0; 600]);
    let call = bench.post(&long);
    assert_eq!(bench.call(call).status, Some(413));
    let call = bench.get("GET", &long);
    assert_eq!(bench.call(call).status, Some(414));
    bench.asked_nothing();
}

#[test]
fn what_is_malformed_is_answered_with_formerr() {
    let mut bench = https("{}");
    let header = [("content-type", "application/dns-message")];
    let mut octets = a(7, "www.example").octets();
    octets.push(0);
    let call = bench.request("POST", "/", &header, &octets);
    let got = bench.call(call).message();
    assert_eq!((got.id, got.rcode()), (7, Rcode::FORMERR));
    assert_eq!(bench.call(call).header("cache-control"), Some("no-store"));
    assert_eq!(bench.decode_errors("trailing_octets"), 1);
}

#[test]
fn what_gets_no_answer_is_cut_off() {
    let mut bench =
        https(r#"{"malformed": "drop", "rules": [{"answer": "drop", "zones": ["d"]}]}"#);
    let dropped = bench.post(&a(1, "d"));
    assert!(bench.call(dropped).is_reset());
    let header = [("content-type", "application/dns-message")];
    let malformed = bench.request("POST", "/", &header, &[0; 13]);
    assert!(bench.call(malformed).is_reset());
    assert_eq!(bench.call(malformed).status, None);
}

#[test]
fn an_answer_says_how_long_it_may_be_kept() {
    for (answer, control) in [
        (Box::new(|asked: &Msg| asked.address(60, 1)) as Box<dyn Fn(&Msg) -> Msg>, "max-age=60"),
        (
            Box::new(|asked| asked.reply(Rcode::NXDOMAIN).authority(soa("example", 600, 30))),
            "max-age=30",
        ),
        (Box::new(|asked| asked.reply(Rcode::NXDOMAIN)), "no-store"),
        (Box::new(|asked| asked.reply(Rcode::SERVFAIL)), "no-store"),
        (Box::new(|asked| asked.address(0, 1)), "max-age=0"),
    ] {
        let mut bench = https("{}");
        let call = bench.post(&a(0, "www.example"));
        let (flow, asked) = bench.asked_one();
        bench.server(flow, &answer(&asked));
        assert_eq!(bench.call(call).header("cache-control"), Some(control));
    }
}

#[test]
fn what_depends_on_the_client_is_for_it_alone() {
    for json in [
        r#"{"flow_key": "client"}"#,
        r#"{"client_subnet": {"action": "replace"}}"#,
        r#"{"rules": [{"zones": ["c"], "carry": "check"}]}"#,
    ] {
        let mut bench = https(json);
        let call = bench.post(&a(0, "www.example"));
        bench.server_answers();
        assert_eq!(
            bench.call(call).header("cache-control"),
            Some("private, max-age=300"),
            "{json}"
        );
    }
}

#[test]
fn a_limit_makes_answers_private_too() {
    // Another client would not have been refused.
    let mut bench = https(r#"{"rate_limits": [{"queries": {"per_second": 1}}]}"#);
    bench.post(&a(0, "www.example"));
    bench.server_answers();
    let call = bench.post(&a(0, "www.example"));
    assert_eq!(bench.call(call).message().rcode(), Rcode::REFUSED);
    assert_eq!(bench.call(call).header("cache-control"), Some("no-store"));
}

#[test]
fn requests_are_answered_as_the_answers_come() {
    let mut bench = https("{}");
    let calls: Vec<_> = (0..10).map(|id| bench.post(&a(id, &format!("n{id}.example")))).collect();
    let mut asked = bench.servers_got();
    assert_eq!(asked.len(), 10);
    asked.reverse();
    for (flow, query) in &asked {
        bench.server(*flow, &query.address(300, 1));
    }
    for (id, call) in (0..).zip(calls) {
        let expected = a(id, &format!("n{id}.example")).address(300, 1);
        assert_eq!(bench.call(call).message(), expected);
    }
    assert_eq!(bench.gauge("dns_outstanding"), 0);
}

#[test]
fn a_client_that_goes_away_gets_nothing_and_others_all() {
    let mut bench = https(r#"{"max_flows": 1}"#);
    let (gone, stays) = (bench.post(&a(1, "www.example")), bench.post(&a(1, "www.example")));
    bench.cancel(gone);
    for query in bench.server_got(0) {
        bench.server(0, &query.address(300, 1));
    }
    assert_eq!(bench.call(gone).status, None);
    assert_eq!(bench.call(stays).message().id, 1);
    assert_eq!(bench.gauge("dns_outstanding"), 0);
}

#[test]
fn the_client_is_the_last_that_envoy_saw() {
    for (header, client) in [
        ("192.0.2.9, 192.0.2.1", Some("192.0.2.1")),
        ("2001:db8::1", Some("2001:db8::1")),
        ("::ffff:192.0.2.1", Some("192.0.2.1")),
        ("somebody", None),
    ] {
        let mut bench = https(r#"{"rules": [{"carry": "check"}]}"#);
        let headers = [("content-type", "application/dns-message"), ("x-forwarded-for", header)];
        bench.request("POST", "/dns-query", &headers, &a(1, "www.example").octets());
        assert_eq!(bench.streams()[0].header("x-forwarded-for"), client, "{header}");
        assert_eq!(bench.streams()[0].header("x-dns-transport"), Some("https"));
    }
}

#[test]
fn answers_to_padded_queries_are_padded() {
    let mut bench = https("{}");
    let question = a(0, "www.example").edns(4096).opt(OptionCode::PADDING, &[0; 70]);
    let got = bench.exchange(&question, |asked| asked.address(300, 1));
    assert_eq!(got.octets().len(), 468);
}

#[test]
fn a_long_answer_is_whole_and_whole_zones_are_refused() {
    let mut bench = https(r#"{"rules": [{"types": ["AXFR"], "carry": "flow"}]}"#);
    let question = query(0, "www.example", RecordType::TXT);
    let got = bench.exchange(&question, |asked| asked.text_up_to(65_535));
    assert_eq!(got, question.text_up_to(65_535));
    let call = bench.post(&query(0, "www.example", RecordType::AXFR));
    assert_eq!(bench.call(call).message().rcode(), Rcode::REFUSED);
}

#[test]
fn a_failure_is_an_answer() {
    let mut bench = https("{}");
    let call = bench.post(&a(0, "www.example").edns(1232));
    bench.pass(seconds(5));
    let got = bench.call(call).message();
    assert_eq!(
        (got.rcode(), got.error_code()),
        (Rcode::SERVFAIL, InfoCode::NO_REACHABLE_AUTHORITY)
    );
    let update = query(0, "www.example", RecordType::SOA);
    let update = Msg { flags: update.flags.with_opcode(Opcode::UPDATE), ..update };
    let call = bench.post(&update);
    assert_eq!(bench.call(call).message().rcode(), Rcode::NOTIMP);
}

#[test]
fn when_the_connection_ends_nothing_is_active() {
    let worker = support::Worker::new(r#"{"transport": "https"}"#);
    let mut bench = worker.connect::<support::native::Https>();
    bench.post(&a(1, "www.example"));
    assert_eq!(bench.gauge("dns_outstanding"), 1);
    bench.hang_up();
    for gauge in ["dns_outstanding", "dns_flows_active"] {
        assert_eq!(worker.registry.gauge(gauge, &[]).value(), 0, "{gauge}");
    }
}
