//! The cache, as clients see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support;
use crate::support::message::{Msg, a, query, record, soa};
use crate::support::native::Udp;
use crate::support::{ANNA, BERT, Bench, Worker, https, millis, seconds, tcp, udp};
use codec_dns::{Flags, InfoCode, OptionCode, Rcode, RecordType};

fn cached(more: &str) -> String {
    format!(
        r#"{{"linger": "7200s", "idle_timeout": "7200s", "retry_after": "0s", "cache": {{{more}}}}}"#
    )
}

/// With answers that have expired.
fn stale(more: &str) -> String {
    cached(&format!(r#""stale": "3600s"{more}"#))
}

fn bench(json: &str) -> (Bench<Udp>, usize) {
    let mut bench = udp(json);
    let anna = bench.client(ANNA);
    (bench, anna)
}

/// A query that has to be forwarded, and its answer.
#[track_caller]
fn fetch(bench: &mut Bench<Udp>, client: usize, question: &Msg, ttl: u32) -> Msg {
    bench.exchange(client, question, |asked| asked.address(ttl, 1))
}

fn counts(bench: &Bench<Udp>) -> [i64; 3] {
    ["dns_cache_hits_total", "dns_cache_misses_total", "dns_cache_stale_total"]
        .map(|name| bench.counter(name, &[]))
}

#[test]
fn an_answer_that_holds_is_given_without_a_stream() {
    let (mut bench, anna) = bench(&cached(""));
    let bert = bench.client(BERT);
    fetch(&mut bench, anna, &a(1, "www.example"), 300);
    bench.pass(seconds(100));
    assert!(bench.open_flows().is_empty());
    // With the ID and the case of the query, and TTLs that have counted down.
    let got = bench.refused(bert, &a(2, "wWw.ExAmple"));
    assert_eq!(got.records[0][0].data, [192, 0, 2, 1]);
    assert_eq!((got.id, got.name(), got.ttls()), (2, "wWw.ExAmple.", vec![200]));
    assert!(got.has(Flags::QR.with(Flags::RD).with(Flags::RA)));
    assert_eq!(counts(&bench), [1, 1, 0]);
    assert_eq!(bench.gauge("dns_cache_entries"), 1);
    assert!(bench.gauge("dns_cache_bytes") > 0);
    assert!(bench.open_flows().is_empty());
    bench.pass(seconds(200));
    fetch(&mut bench, anna, &a(3, "www.example"), 300);
}

#[test]
fn what_makes_a_difference_is_told_apart() {
    let (mut bench, anna) = bench(&cached(""));
    let question = a(1, "www.example").edns(1232);
    for other in [
        question.clone(),
        query(1, "www.example", RecordType(65_280)),
        a(1, "ww.example"),
        query(1, "www.example", RecordType(65_280)).class(3),
        question.clone().dnssec(),
        question.clone().set(Flags::CD),
        question.clone().unset(Flags::RD),
    ] {
        let got = bench.exchange(anna, &other, |asked| {
            asked.reply(Rcode::NOERROR).answer(support::message::Record {
                class: asked.questions[0].class,
                ..record(asked.name(), asked.questions[0].record_type, 60, &[1, 2, 3, 4])
            })
        });
        assert_eq!(got.rcode(), Rcode::NOERROR);
    }
    // EDNS alone makes none.
    let got = bench.refused(anna, &a(2, "www.example"));
    assert_eq!(got.edns, None);
    let got = bench.refused(anna, &question.opt(OptionCode::NSID, b""));
    assert!(got.edns.unwrap().options.is_empty());
}

#[test]
fn that_there_is_nothing_is_kept_as_long_as_the_soa_record_says() {
    for rcode in [Rcode::NXDOMAIN, Rcode::NOERROR] {
        let (mut bench, anna) = bench(&cached(""));
        let negative = |asked: &Msg| asked.reply(rcode).authority(soa("example", 600, 60));
        bench.exchange(anna, &a(1, "www.example"), negative);
        bench.pass(seconds(59));
        let got = bench.refused(anna, &a(2, "www.example"));
        assert_eq!((got.rcode(), got.records[1][0].ttl), (rcode, 1));
        bench.pass(seconds(1));
        bench.exchange(anna, &a(3, "www.example"), negative);
    }
}

#[test]
fn what_does_not_hold_is_not_kept() {
    let (mut bench, anna) = bench(&cached(r#""failure_ttl": "0s""#));
    let answers: [&dyn Fn(&Msg) -> Msg; 6] = [
        &|asked| asked.address(0, 1),
        &|asked| asked.reply(Rcode::NXDOMAIN),
        &|asked| asked.address(300, 1).set(Flags::TC),
        &|asked| asked.reply(Rcode::REFUSED),
        &|asked| asked.reply(Rcode::SERVFAIL),
        &|asked| asked.reply(Rcode::NOERROR).authority(record("x", RecordType::NS, 60, b"\x01a\0")),
    ];
    for answer in answers {
        for id in 0..2 {
            bench.exchange(anna, &a(id, "www.example"), answer);
        }
    }
    assert_eq!(bench.gauge("dns_cache_entries"), 0);
}

#[test]
fn a_zone_may_have_no_cache() {
    let json = r#"{"linger": "60s", "cache": {}, "zones": [{"zone": "live.example", "cache": false},
        {"zone": "example"}]}"#;
    let (mut bench, anna) = bench(json);
    for id in 0..2 {
        fetch(&mut bench, anna, &a(id, "www.live.example"), 300);
    }
    fetch(&mut bench, anna, &a(3, "www.example"), 300);
    bench.refused(anna, &a(4, "www.example"));
    assert_eq!(counts(&bench), [1, 1, 0], "who is not asked misses nothing");
}

#[test]
fn ttls_are_kept_within_bounds() {
    let (mut bench, anna) = bench(&cached(r#""min_ttl": "60s", "max_ttl": "100s""#));
    for (name, ttl, kept) in [("a", 1, 60), ("b", 80, 80), ("c", 86_400, 100)] {
        fetch(&mut bench, anna, &a(1, name), ttl);
        assert_eq!(bench.refused(anna, &a(2, name)).ttls(), [kept]);
    }
}

#[test]
fn the_cache_is_bounded() {
    let (mut bench, anna) = bench(&cached(r#""max_size": 8192"#));
    for id in 0..200 {
        fetch(&mut bench, anna, &a(id, &format!("n{id}.example")), 300);
        assert!(bench.gauge("dns_cache_bytes") <= 8192);
    }
    assert!(bench.counter("dns_cache_evictions_total", &[]) > 100);
    assert!(bench.gauge("dns_cache_entries") > 10);
}

#[test]
fn all_transports_and_carries_use_it() {
    let mut bench = tcp(r#"{"cache": {}, "rules": [{"zones": ["r"], "carry": "request"}]}"#);
    bench.exchange(&a(1, "www.example"), |asked| asked.address(300, 1));
    bench.ask(&a(2, "www.example"));
    assert_eq!(bench.got_one().ttls(), [300]);
    bench.ask(&a(3, "x.r"));
    bench.doh(&a(0, "x.r").address(300, 1));
    bench.got_one();
    bench.ask(&a(4, "x.r"));
    assert_eq!(bench.got_one().ttls(), [300]);
    let mut bench = https(r#"{"cache": {}}"#);
    bench.exchange(&a(1, "www.example"), |asked| asked.address(300, 1));
    bench.pass(seconds(100));
    let call = bench.post(&a(0, "www.example"));
    assert_eq!(bench.call(call).message().ttls(), [200]);
    assert_eq!(bench.call(call).header("cache-control"), Some("max-age=200"));
}

#[test]
fn answers_of_one_clients_flows_are_not_kept_for_others() {
    // Envoy may have routed the flows to servers that say different things.
    let json = br#"{"flow_key": "client", "cache": {}}"#;
    let mistakes = filter_dns::Filter::new(json, &bridge::metrics::Registry::default()).err();
    let mistakes: Vec<_> = mistakes.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        mistakes,
        ["cache: cannot go with flow_key: client: the answers of one client are not for others"]
    );
}

#[test]
fn filters_with_a_cache_of_the_same_name_share_it() {
    let json = |name: &str, transport: &str| {
        format!(r#"{{"transport": "{transport}", "cache": {{"name": "{name}"}}}}"#)
    };
    let (udp, tcp) = (Worker::new(&json("one", "udp")), Worker::new(&json("one", "tcp")));
    let other = Worker::new(&json("two", "tcp"));
    let mut clients = udp.connect::<Udp>();
    let anna = clients.client(ANNA);
    fetch(&mut clients, anna, &a(1, "www.example"), 300);
    let mut client = tcp.connect::<support::native::Tcp>();
    client.ask(&a(2, "www.example"));
    assert!((299..=300).contains(&client.got_one().ttls()[0]));
    let mut client = other.connect::<support::native::Tcp>();
    client.ask(&a(2, "www.example"));
    client.asked_one();
}

// Answers that have expired.

#[test]
fn an_answer_that_has_expired_is_given_when_the_server_takes_long() {
    let (mut bench, anna) = bench(&stale(r#", "stale_after": "1.8s", "stale_ttl": "30s""#));
    fetch(&mut bench, anna, &a(1, "www.example"), 60);
    bench.pass(seconds(61));
    bench.ask(anna, &a(2, "www.example").edns(1232));
    bench.pass(millis(1799));
    bench.got_nothing(anna);
    bench.pass(millis(1));
    let got = bench.got_one(anna);
    assert_eq!((got.id, got.ttls(), got.error_code()), (2, vec![30], InfoCode::STALE_ANSWER));
    // What comes now is for the cache.
    let (flow, asked) = bench.asked_one();
    bench.server(flow, &asked.address(60, 9));
    bench.got_nothing(anna);
    let got = bench.refused(anna, &a(3, "www.example"));
    assert_eq!(got.records[0][0].data, [192, 0, 2, 9]);
    assert_eq!(counts(&bench), [1, 2, 1]);
    assert_eq!(bench.gauge("dns_outstanding"), 0);
}

#[test]
fn an_answer_in_time_is_better_than_one_that_has_expired() {
    let (mut bench, anna) = bench(&stale(""));
    fetch(&mut bench, anna, &a(1, "www.example"), 60);
    bench.pass(seconds(61));
    bench.ask(anna, &a(2, "www.example"));
    bench.pass(millis(1700));
    let (flow, asked) = bench.asked_one();
    bench.server(flow, &asked.address(60, 9));
    assert_eq!(bench.got_one(anna), a(2, "www.example").address(60, 9));
    bench.pass(seconds(10));
    bench.got_nothing(anna);
}

#[test]
fn an_answer_that_has_expired_is_better_than_a_failure() {
    let (mut bench, anna) = bench(&stale(r#", "stale_ttl": "20s""#));
    fetch(&mut bench, anna, &a(1, "www.example"), 60);
    bench.pass(seconds(61));
    let question = a(2, "www.example").edns(1232);
    let got = bench.exchange(anna, &question, |asked| asked.reply(Rcode::SERVFAIL));
    assert_eq!((got.rcode(), got.error_code()), (Rcode::NOERROR, InfoCode::STALE_ANSWER));
    // For a while the server is not asked again.
    bench.pass(millis(19_900));
    let got = bench.refused(anna, &question);
    assert_eq!(got.error_code(), InfoCode::STALE_ANSWER);
    bench.pass(millis(200));
    bench.ask(anna, &question);
    bench.asked_one();
}

#[test]
fn an_answer_that_has_expired_is_given_when_the_server_is_gone() {
    let (mut bench, anna) = bench(&stale(r#", "stale_after": "60s""#));
    fetch(&mut bench, anna, &a(1, "www.example"), 60);
    bench.exchange(anna, &a(1, "no.example"), |asked| {
        asked.reply(Rcode::NXDOMAIN).authority(soa("example", 60, 60))
    });
    bench.pass(seconds(61));
    bench.ask(anna, &a(2, "www.example").edns(1232));
    bench.ask(anna, &a(3, "no.example").edns(1232));
    bench.pass(seconds(5));
    let mut got = bench.got(anna);
    got.sort_by_key(|answer| answer.id);
    let said: Vec<_> = got.iter().map(|answer| (answer.rcode(), answer.error_code())).collect();
    let expected = [
        (Rcode::NOERROR, InfoCode::STALE_ANSWER),
        (Rcode::NXDOMAIN, InfoCode::STALE_NXDOMAIN_ANSWER),
    ];
    assert_eq!(said, expected);
}

#[test]
fn an_answer_that_has_expired_for_long_is_gone() {
    let (mut bench, anna) = bench(&cached(r#""stale": "600s""#));
    fetch(&mut bench, anna, &a(1, "www.example"), 60);
    bench.pass(seconds(661));
    let got = bench.exchange(anna, &a(2, "www.example"), |asked| asked.reply(Rcode::SERVFAIL));
    assert_eq!(got.rcode(), Rcode::SERVFAIL);
}

// Failures.

#[test]
fn a_failure_is_kept_for_a_short_time_and_says_so() {
    let (mut bench, anna) = bench(&cached(r#""failure_ttl": "5s""#));
    let question = |id| a(id, "www.example").edns(1232);
    bench.exchange(anna, &question(1), |asked| {
        asked.reply(Rcode::SERVFAIL).error(InfoCode::DNSSEC_BOGUS, "bogus")
    });
    bench.pass(millis(4_900));
    let got = bench.refused(anna, &question(2));
    assert_eq!(got.rcode(), Rcode::SERVFAIL);
    let errors: Vec<_> = got.errors().iter().map(|(code, _)| *code).collect();
    assert_eq!(errors, [InfoCode::CACHED_ERROR, InfoCode::DNSSEC_BOGUS]);
    bench.pass(millis(100));
    fetch(&mut bench, anna, &question(3), 60);
}

#[test]
fn that_a_server_does_not_answer_is_kept_too() {
    let (mut bench, anna) = bench(&cached(""));
    bench.ask(anna, &a(1, "www.example"));
    bench.asked_one();
    bench.pass(seconds(5));
    assert_eq!(bench.got_one(anna).rcode(), Rcode::SERVFAIL);
    assert_eq!(bench.refused(anna, &a(2, "www.example")).rcode(), Rcode::SERVFAIL);
    bench.pass(seconds(5));
    fetch(&mut bench, anna, &a(3, "www.example"), 60);
}

#[test]
fn a_failure_of_the_filter_itself_is_not_kept() {
    let json = r#"{"linger": "60s", "retry_after": "0s", "cache": {}, "max_outstanding": 1}"#;
    let (mut bench, anna) = bench(json);
    bench.ask(anna, &a(1, "a.example"));
    assert_eq!(bench.asked_one().1.name(), "a.example.");
    bench.ask(anna, &a(2, "b.example"));
    assert_eq!(bench.got_one(anna).rcode(), Rcode::SERVFAIL);
    bench.pass(seconds(6));
    bench.got(anna);
    fetch(&mut bench, anna, &a(3, "b.example"), 60);
}

// Prefetch.

#[test]
fn an_answer_in_use_is_fetched_again_before_it_expires() {
    let (mut bench, anna) = bench(&cached(r#""prefetch_percent": 20, "prefetch_hits": 2"#));
    fetch(&mut bench, anna, &a(1, "www.example"), 100);
    bench.pass(seconds(81));
    bench.refused(anna, &a(2, "www.example"));
    bench.ask(anna, &a(3, "www.example"));
    assert_eq!(bench.got_one(anna).ttls(), [19]);
    let (flow, asked) = bench.asked_one();
    // Once.
    bench.refused(anna, &a(4, "www.example"));
    bench.server(flow, &asked.address(100, 9));
    bench.got_nothing(anna);
    assert_eq!(bench.gauge("dns_outstanding"), 0);
    bench.pass(seconds(30));
    let got = bench.refused(anna, &a(5, "www.example"));
    assert_eq!((got.ttls(), &got.records[0][0].data[3]), (vec![70], &9));
}

#[test]
fn a_prefetch_that_fails_tells_nobody() {
    let (mut bench, anna) = bench(&cached(r#""prefetch_percent": 50, "prefetch_hits": 1"#));
    fetch(&mut bench, anna, &a(1, "www.example"), 100);
    bench.pass(seconds(60));
    bench.ask(anna, &a(2, "www.example"));
    assert_eq!(bench.got_one(anna).ttls(), [40]);
    bench.asked_one();
    bench.pass(seconds(6));
    bench.got_nothing(anna);
    assert_eq!(bench.gauge("dns_outstanding"), 0);
    // What was known holds.
    bench.ask(anna, &a(3, "www.example"));
    assert_eq!(bench.got_one(anna).ttls(), [34]);
}

#[test]
fn a_session_does_not_wait_for_a_prefetch() {
    let json = cached(r#""prefetch_percent": 50, "prefetch_hits": 1"#)
        .replace(r#""linger": "7200s""#, r#""linger": "0.1s""#);
    let (mut bench, anna) = bench(&json);
    fetch(&mut bench, anna, &a(1, "www.example"), 100);
    bench.pass(seconds(60));
    let bert = bench.client(BERT);
    bench.ask(bert, &a(2, "www.example"));
    bench.got_one(bert);
    bench.pass(millis(100));
    assert!(bench.is_over(bert));
}

// Checks.

const CHECKED: &str = r#"{"linger": "7200s", "idle_timeout": "7200s", "retry_after": "0s", "cache": {"stale": "3600s"},
    "rules": [{"zones": ["c"], "carry": "check"}]}"#;

#[test]
fn a_check_comes_before_the_cache() {
    let (mut bench, anna) = bench(CHECKED);
    let bert = bench.client(BERT);
    bench.ask(anna, &a(1, "x.c"));
    bench.respond_one(200, &[], b"");
    bench.server_answers();
    bench.got_one(anna);
    // Anna may have it without the server, Bert may not have it.
    bench.ask(anna, &a(2, "x.c"));
    bench.respond_one(204, &[], b"");
    assert_eq!(bench.got_one(anna).ttls(), [300]);
    bench.ask(bert, &a(3, "x.c"));
    bench.got_nothing(bert);
    bench.respond_one(403, &[], b"");
    let got = bench.got_one(bert);
    assert_eq!((got.rcode(), got.ttls()), (Rcode::REFUSED, vec![]));
    bench.asked_nothing();
}

#[test]
fn a_check_that_failed_does_not_open_the_cache() {
    for ttl in [300, 1] {
        let (mut bench, anna) = bench(CHECKED);
        bench.ask(anna, &a(1, "x.c"));
        bench.respond_one(200, &[], b"");
        let (flow, asked) = bench.asked_one();
        bench.server(flow, &asked.address(ttl, 1));
        bench.got_one(anna);
        bench.pass(seconds(2));
        let bert = bench.client(BERT);
        for how in 0..3 {
            bench.ask(bert, &a(2, "x.c").edns(1232));
            match how {
                0 => bench.respond_one(503, &[], b""),
                1 => {
                    let check = bench.open_one();
                    bench.reset(check);
                }
                _ => bench.pass(seconds(6)),
            }
            let got = bench.got_one(bert);
            assert_eq!((got.rcode(), got.ttls()), (Rcode::SERVFAIL, vec![]), "{ttl} {how}");
        }
    }
}

#[test]
fn a_check_that_failed_says_nothing_about_the_server() {
    let (mut bench, anna) = bench(CHECKED);
    let bert = bench.client(BERT);
    bench.ask(bert, &a(1, "x.c"));
    bench.respond_one(503, &[], b"");
    assert_eq!(bench.got_one(bert).rcode(), Rcode::SERVFAIL);
    bench.ask(anna, &a(2, "x.c"));
    bench.respond_one(200, &[], b"");
    bench.server_answers();
    assert_eq!(bench.got_one(anna).rcode(), Rcode::NOERROR);
}

#[test]
fn a_query_that_passed_is_answered_with_what_has_expired_when_the_server_takes_long() {
    let (mut bench, anna) = bench(CHECKED);
    bench.ask(anna, &a(1, "x.c"));
    bench.respond_one(200, &[], b"");
    bench.server_answers();
    bench.got_one(anna);
    bench.pass(seconds(301));
    bench.ask(anna, &a(2, "x.c").edns(1232));
    bench.pass(seconds(1));
    bench.respond_one(200, &[], b"");
    bench.pass(millis(1800));
    assert_eq!(bench.got_one(anna).error_code(), InfoCode::STALE_ANSWER);
}

// Client subnets.

#[test]
fn an_answer_for_a_network_is_for_who_asks_from_it() {
    let json = r#"{"linger": "60s", "cache": {}, "client_subnet": {"action": "replace"}}"#;
    let mut bench = udp(json);
    let near = ["192.0.2.1:7", "192.0.2.99:7"].map(|address| bench.client(address));
    let far = bench.client(BERT);
    let scoped = |scope: u8| {
        move |asked: &Msg| {
            let mut subnet = asked.option(OptionCode::CLIENT_SUBNET).unwrap().to_vec();
            subnet[3] = scope;
            asked.address(300, scope).opt(OptionCode::CLIENT_SUBNET, &subnet)
        }
    };
    bench.exchange(near[0], &a(1, "www.example"), scoped(24));
    assert_eq!(bench.refused(near[1], &a(2, "www.example")).records[0][0].data[3], 24);
    bench.exchange(far, &a(3, "www.example"), scoped(24));
    // For everybody.
    bench.exchange(near[0], &a(4, "all.example"), scoped(0));
    assert_eq!(bench.refused(far, &a(5, "all.example")).records[0][0].data[3], 0);
}

#[test]
fn a_client_gets_the_scope_of_a_cached_answer() {
    let (mut bench, anna) = bench(&cached(""));
    let question = |id| a(id, "www.example").edns(1232).subnet([10, 1, 2], 0);
    bench.exchange(anna, &question(1), |asked| asked.address(300, 1).subnet([10, 1, 2], 16));
    let other = a(2, "www.example").edns(1232).subnet([10, 1, 99], 0);
    let got = bench.refused(anna, &other);
    assert_eq!(got.option(OptionCode::CLIENT_SUBNET), Some(&[0, 1, 24, 16, 10, 1, 99][..]));
    // Without a subnet it is another question.
    fetch(&mut bench, anna, &a(3, "www.example"), 300);
}

// Limits on size.

#[test]
fn a_cached_answer_is_truncated_for_who_takes_less() {
    let (mut bench, anna) = bench(&cached(""));
    let question = query(1, "www.example", RecordType::TXT);
    bench.exchange(anna, &question.clone().edns(4096), |asked| asked.text_up_to(1000));
    let got = bench.refused(anna, &question);
    assert_eq!(got, question.reply(Rcode::NOERROR).set(Flags::TC));
}

#[test]
fn an_answer_is_kept_whole_though_its_client_got_it_truncated() {
    let json = cached("").replacen('{', r#"{"upstream": "tcp", "#, 1);
    let (mut bench, anna) = bench(&json);
    let question = query(1, "www.example", RecordType::TXT);
    let got = bench.exchange(anna, &question, |asked| asked.text_up_to(1000));
    assert!(got.has(Flags::TC));
    let got = bench.refused(anna, &question.edns(4096));
    assert!(!got.has(Flags::TC) && got.octets().len() >= 1000);
}

#[test]
fn a_signed_query_is_not_answered_from_the_cache() {
    let (mut bench, anna) = bench(&cached(""));
    fetch(&mut bench, anna, &a(1, "www.example"), 300);
    let tsig = record("key", RecordType::TSIG, 0, b"\x03mac\x00 signed");
    bench.ask(anna, &a(2, "www.example").additional(tsig));
    bench.asked_one();
}
