//! The cache: what is answered without asking a server, for how long, and how much is kept.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use codec_dns::{Flags, InfoCode, Rcode, RecordType};
use integration::dns::authority::{Asked, Reply, Step, Transport};
use integration::dns::clients::{Dig, Kdig, Output};
use integration::dns::https::Request;
use integration::dns::query::{Answer, Query};
use integration::dns::responder::Responder;
use integration::dns::setup::{
    CORP, Setup, address, addresses, cached_with, port, rule, udp_settings,
};
use integration::dns::udp::Client;
use integration::eventually;

const CACHE: &str = "{name: dns}";
const SECOND: Duration = Duration::from_secs(1);

fn a(name: &str) -> Query {
    Query::new(name, RecordType::A).unwrap().edns(1232)
}

fn errors(answer: &Answer) -> Vec<InfoCode> {
    answer.extended_errors().unwrap().into_iter().map(|(code, _)| code).collect()
}

#[test]
fn a_question_is_asked_once_whatever_clients_come_over() {
    let setup = Setup::with(cached_with(CACHE).unwrap(), addresses).unwrap();
    let [dns, tls, https] =
        [port::DNS, port::TLS, port::HTTPS].map(|port| setup.envoy.address(port).unwrap());
    let expected = [address("www.example.").to_string()];
    let check = |output: Output| assert_eq!(output.short(), expected, "{output:?}");
    for (server, args) in [
        (dns, &["+notcp"][..]),
        (dns, &["+tcp"]),
        (tls, &["+tls"]),
        (https, &["+https"]),
        (https, &["+https-get"]),
    ] {
        // Of the flags of a query, those that change its answer have to be the same.
        let args = [args, &["+noadflag", "+nocookie"]].concat();
        check(Dig::new(server, "www.example", "A").args(&args).run().unwrap());
    }
    for (server, args) in [(dns, "+notcp"), (dns, "+tcp"), (tls, "+tls"), (https, "+https")] {
        let args = [args, "+noadflag"];
        check(Kdig::new(server, "WWW.example", "A").args(&args).run().unwrap());
    }
    let response = Request::get(https, &a("www.example")).unwrap().send().unwrap();
    assert_eq!(response.answer().unwrap().a().unwrap(), [address("www.example.")]);
    assert_eq!(setup.resolver.count("www.example."), 1);
    let metric = |name| setup.envoy.metric(name, &[]).unwrap();
    let hits = || Ok((metric("dns_cache_hits_total") == Some(9.0)).then_some(()));
    eventually("nine hits", hits).unwrap();
    assert_eq!(metric("dns_cache_misses_total"), Some(1.0));
    assert_eq!(metric("dns_cache_entries"), Some(1.0));
}

#[test]
fn an_answer_of_the_cache_is_younger_by_its_time_there_and_is_spelled_as_asked() {
    let mut setup = Setup::with(cached_with(CACHE).unwrap(), addresses).unwrap();
    let client = setup.client().unwrap();
    let start = Instant::now();
    assert_eq!(client.ask(&a("www.example")).unwrap().ttls().unwrap(), [300]);
    sleep(Duration::from_millis(1200));
    let answer = client.ask(&a("wWw.ExAmPlE").id(7)).unwrap();
    let least = 300 - u32::try_from(start.elapsed().as_secs() + 1).unwrap();
    let ttl = answer.ttls().unwrap()[0];
    assert!((least..300).contains(&ttl), "{ttl}");
    let message = answer.message().unwrap();
    assert_eq!(message.question().unwrap().name.to_string(), "wWw.ExAmPlE.");
    assert_eq!(message.answers().next().unwrap().name.to_string(), "wWw.ExAmPlE.");
    // What was authoritative at the server is not so here (RFC 1035 §4.1.1).
    assert!(!message.header.flags.has(Flags::AA), "{message:?}");
    assert_eq!(setup.resolver.count("www.example."), 1);

    // What is asked otherwise is another question.
    let cd = |query: Query| query.flags(Flags::RD.with(Flags::CD));
    for _ in 0..2 {
        let n = "n.example";
        let aaaa = Query::new(n, RecordType::AAAA).unwrap();
        for query in
            [a(n), a(n).dnssec_ok(), cd(a(n)), a(n).flags(Flags(0)), aaaa, a("m.n.example")]
        {
            client.ask(&query).unwrap();
        }
    }
    assert_eq!((setup.resolver.count("n.example."), setup.resolver.asked().len()), (5, 7));
    setup.expect_healthy().unwrap();
}

#[test]
fn that_there_is_nothing_is_known_for_as_long_as_the_soa_record_says() {
    let setup = Setup::with(cached_with(CACHE).unwrap(), |asked| {
        let reply = Reply::to(asked)?;
        Ok(vec![match asked.name.as_str() {
            "nxdomain." => reply.rcode(Rcode::NXDOMAIN).soa(1).send()?,
            "nodata." => reply.soa(1).send()?,
            "long." => reply.ttl(1).soa(300).send()?,
            _ => reply.rcode(Rcode::NXDOMAIN).send()?,
        }])
    })
    .unwrap();
    let client = setup.client().unwrap();
    let names = ["nxdomain", "nodata", "long", "no-soa"];
    let ask_all = || {
        for name in names {
            let answer = client.ask(&a(name)).unwrap();
            let expected = if name.starts_with('n') && name != "nodata" {
                Rcode::NXDOMAIN
            } else {
                Rcode::NOERROR
            };
            assert_eq!(answer.rcode().unwrap(), expected, "{name}");
            let message = answer.message().unwrap();
            let ttls: Vec<u32> = message.authorities().map(|record| record.ttl).collect();
            // The smaller of the SOA record's TTL and its MINIMUM (RFC 2308 §5).
            assert!(ttls.iter().all(|ttl| *ttl <= 1), "{name} {ttls:?}");
            assert_eq!(ttls.len(), usize::from(name != "no-soa"), "{name}");
        }
        names.map(|name| setup.resolver.count(&format!("{name}.")))
    };
    // The first answer goes to the client as it came.
    for name in names {
        client.ask(&a(name)).unwrap();
    }
    assert_eq!(ask_all(), [1, 1, 1, 2]);
    sleep(SECOND + SECOND / 10);
    for name in names {
        client.ask(&a(name)).unwrap();
    }
    assert_eq!(ask_all(), [2, 2, 2, 4]);
}

#[test]
fn what_is_no_answer_is_not_kept_and_a_failure_not_for_long() {
    let config = cached_with("{name: dns, failure_ttl: 1s}").unwrap();
    let setup = Setup::with(config, |asked| {
        let reply = Reply::to(asked)?;
        Ok(vec![match asked.name.as_str() {
            "truncated." if asked.transport == Transport::Udp => reply.truncated().send()?,
            "servfail." => {
                let reply = reply.rcode(Rcode::SERVFAIL);
                reply.extended_error(InfoCode::DNSSEC_BOGUS, "no proof").send()?
            }
            "refused." => reply.rcode(Rcode::REFUSED).send()?,
            "zero." => reply.ttl(0).a(CORP).send()?,
            _ => reply.a(CORP).send()?,
        }])
    })
    .unwrap();
    let client = setup.client().unwrap();
    let count = |name| setup.resolver.count(name);
    for _ in 0..2 {
        assert!(client.ask(&a("truncated")).unwrap().is_truncated().unwrap());
        assert_eq!(client.ask(&a("refused")).unwrap().rcode().unwrap(), Rcode::REFUSED);
        assert_eq!(client.ask(&a("zero")).unwrap().ttls().unwrap(), [0]);
    }
    assert_eq!((count("truncated."), count("refused."), count("zero.")), (2, 2, 2));
    // What came whole over TCP is kept, for clients over UDP too.
    assert_eq!(setup.tcp().unwrap().ask(&a("truncated")).unwrap().a().unwrap(), [CORP]);
    assert_eq!(client.ask(&a("truncated")).unwrap().a().unwrap(), [CORP]);
    assert_eq!(count("truncated."), 3);

    let first = client.ask(&a("servfail")).unwrap();
    assert_eq!(errors(&first), [InfoCode::DNSSEC_BOGUS]);
    let second = client.ask(&a("servfail")).unwrap();
    assert_eq!((second.rcode().unwrap(), count("servfail.")), (Rcode::SERVFAIL, 1));
    // Both why there is no answer, and that nobody was asked (RFC 8914 §4.14).
    assert_eq!(errors(&second), [InfoCode::CACHED_ERROR, InfoCode::DNSSEC_BOGUS]);
    sleep(SECOND + SECOND / 10);
    client.ask(&a("servfail")).unwrap();
    assert_eq!(count("servfail."), 2);
}

/// Answers that hold for a second; from `is_failing` on, SERVFAIL.
fn short(asked: &Asked, is_failing: &AtomicBool) -> anyhow::Result<Vec<Step>> {
    let reply = Reply::to(asked)?.ttl(1);
    let reply = match asked.name.as_str() {
        _ if is_failing.load(Ordering::Relaxed) => reply.rcode(Rcode::SERVFAIL),
        "nxdomain." => reply.rcode(Rcode::NXDOMAIN).soa(1),
        name => reply.a(address(name)),
    };
    Ok(vec![reply.send()?])
}

#[test]
fn a_stale_answer_is_better_than_none_until_the_server_is_back() {
    let is_failing = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&is_failing);
    let cache = "{name: dns, stale: 60s, stale_after: 0.3s, stale_ttl: 1s, failure_ttl: 1s}";
    // A server that is gone is not to be noticed by its silence.
    let config = udp_settings(cached_with(cache).unwrap(), "retry_after: 0.1s").unwrap();
    let mut setup = Setup::with(config, move |asked| short(asked, &failing)).unwrap();
    let client = setup.client().unwrap();
    let names = ["dead.", "failing.", "nxdomain."];
    let ask = |name: &str| client.ask(&a(name)).unwrap();
    for name in names {
        assert_eq!(errors(&ask(name)), []);
    }
    sleep(SECOND + SECOND / 10);

    setup.resolver.stop();
    let start = Instant::now();
    let answer = ask("dead.");
    assert!(start.elapsed() < 3 * SECOND, "{:?}", start.elapsed());
    assert_eq!(answer.a().unwrap(), [address("dead.")]);
    assert_eq!((answer.ttls().unwrap(), errors(&answer)), (vec![1], vec![InfoCode::STALE_ANSWER]));
    let answer = ask("nxdomain.");
    assert_eq!(answer.rcode().unwrap(), Rcode::NXDOMAIN);
    assert_eq!(errors(&answer), [InfoCode::STALE_NXDOMAIN_ANSWER]);
    let nothing = ask("nothing.");
    assert_eq!(nothing.rcode().unwrap(), Rcode::SERVFAIL);

    is_failing.store(true, Ordering::Relaxed);
    setup.resolver.restart().unwrap();
    for _ in 0..3 {
        let answer = ask("failing.");
        assert_eq!(answer.a().unwrap(), [address("failing.")]);
        assert_eq!(errors(&answer), [InfoCode::STALE_ANSWER]);
    }
    // It is left in peace for a while after it has failed (RFC 8767 §5).
    assert_eq!(setup.resolver.count("failing."), 2);

    is_failing.store(false, Ordering::Relaxed);
    sleep(SECOND + SECOND / 10);
    for name in names {
        let answer = ask(name);
        assert_eq!(errors(&answer), [], "{name} {:?}", answer.message());
    }
    let stale = setup.envoy.metric("dns_cache_stale_total", &[]).unwrap();
    assert_eq!(stale, Some(5.0));
}

#[test]
fn no_client_waits_for_a_server_longer_than_it_has_to() {
    const CACHE: &str =
        "{name: dns, stale: 60s, stale_after: 0.2s, prefetch_percent: 90, prefetch_hits: 1}";
    let setup = Setup::with(cached_with(CACHE).unwrap(), |asked| {
        let ttl = if asked.name == "often." || asked.number > 0 { 10 } else { 1 };
        let answer = Reply::to(asked)?.ttl(ttl).a(address(&asked.name)).send()?;
        let wait = if asked.number > 0 { SECOND * 6 / 10 } else { Duration::ZERO };
        Ok(vec![Step::Wait(wait), answer])
    })
    .unwrap();
    let client = setup.client().unwrap();
    client.ask(&a("late.")).unwrap();
    client.ask(&a("often.")).unwrap();
    sleep(SECOND + SECOND / 10);

    // Where there is a stale answer, not until the server's comes.
    let start = Instant::now();
    let answer = client.ask(&a("late.")).unwrap();
    let took = start.elapsed();
    assert!((SECOND / 6..SECOND / 2).contains(&took), "{took:?}");
    assert_eq!(errors(&answer), [InfoCode::STALE_ANSWER]);
    // That is for who asks next.
    sleep(SECOND * 7 / 10);
    let answer = client.ask(&a("late.")).unwrap();
    assert_eq!((errors(&answer), setup.resolver.count("late.")), (vec![], 2));

    // Where an answer is about to expire, not at all.
    sleep(SECOND / 5);
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(client.ask(&a("often.")).unwrap().ttls().unwrap(), [8]);
        assert!(start.elapsed() < SECOND / 2);
    }
    sleep(SECOND * 7 / 10);
    assert_eq!(client.ask(&a("often.")).unwrap().ttls().unwrap(), [10]);
    assert_eq!(setup.resolver.count("often."), 2);
    assert!(client.is_quiet_for(SECOND / 10).unwrap());
}

#[test]
fn a_cache_without_a_name_is_its_filter_s_own_and_a_zone_may_have_none() {
    let zones = "zones: &dns_zones\n                - {zone: corp.example";
    let config = cached_with("{max_size: 65536}").unwrap();
    let config = config.replace(zones, &format!("{zones}, cache: false")).unwrap();
    let config = rule(config, "{zones: [checked.example], carry: check}").unwrap();
    let mut setup = Setup::with(config, addresses).unwrap();
    let (udp, mut tcp) = (setup.client().unwrap(), setup.tcp().unwrap());
    for _ in 0..3 {
        for name in ["www.example", "www.corp.example", "www.checked.example"] {
            udp.ask(&a(name)).unwrap();
            tcp.ask(&a(name)).unwrap();
        }
    }
    let resolver = &setup.resolver;
    assert_eq!((resolver.count("www.example."), setup.corp.count("www.corp.example.")), (2, 6));
    // Each of them is checked, but not all of them are asked for.
    assert_eq!(resolver.count("www.checked.example."), 2);
    let checks = || {
        let log = setup.envoy.access_log();
        let checks = log.iter().filter(|entry| entry["carry"] == "check").count();
        Ok((checks == 6).then_some(()))
    };
    eventually("six checks in the access log", checks).unwrap();
    setup.expect_healthy().unwrap();
}

#[test]
fn the_cache_takes_the_room_it_is_given_and_no_more() {
    const NAMES: usize = 20_000;
    const SIZE: f64 = 1_048_576.0;
    let server = Responder::start().unwrap();
    let config = cached_with("{name: dns, max_size: 1048576}").unwrap();
    let config = config.port(port::RESOLVER, server.address().port());
    let config =
        config.replace("{per_second: 1000, burst: 5000}", "{per_second: 1000000}").unwrap();
    let mut envoy = config.start().unwrap();
    let client = Client::connect(envoy.address(port::DNS).unwrap()).unwrap();
    // Who has asked twice has a session that stays while the rest is made.
    for _ in 0..2 {
        client.ask(&a("first.example")).unwrap();
    }
    let names: Vec<Query> = (0..NAMES).map(|n| a(&format!("n{n}.example"))).collect();
    for names in names.chunks(100) {
        client.ask_all(names).unwrap();
    }
    let metric = |name| envoy.metric(name, &[]).unwrap().unwrap_or_default();
    let all = || {
        let sum = metric("dns_cache_entries") + metric("dns_cache_evictions_total");
        Ok((sum > NAMES as f64).then_some(()))
    };
    eventually("all names to be counted", all).unwrap();
    let (size, entries) = (metric("dns_cache_bytes"), metric("dns_cache_entries"));
    println!("{entries} of {NAMES} answers in {size} octets");
    assert!((SIZE * 0.7..=SIZE).contains(&size), "{size}");
    assert!(entries > 2000.0, "{entries}");
    // What came last is there.
    let hits = metric("dns_cache_hits_total");
    client.ask_all(&names[NAMES - 100..]).unwrap();
    let again = || Ok((metric("dns_cache_hits_total") > hits + 50.0).then_some(()));
    eventually("hits", again).unwrap();
    integration::setup::expect_healthy(&mut envoy).unwrap();
}
