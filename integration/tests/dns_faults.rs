//! What networks, servers and clients of DNS do wrong: loss, silence, servers that are gone, floods, and clients that
//! do not read.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use codec_dns::{Rcode, RecordType};
use integration::dns::authority::{Authority, Reply, Transport};
use integration::dns::clients::{Dig, Kdig};
use integration::dns::knot::Knot;
use integration::dns::query::{Answer, Query};
use integration::dns::responder::Responder;
use integration::dns::setup::{
    CORP, Setup, address, addresses, config, port, rule, tcp_settings, udp_settings,
};
use integration::dns::tcp::Next;
use integration::dns::{tcp, udp};
use integration::envoy::Config;
use integration::ports::source;
use integration::relay::{Chance, Fate, Relay};
use integration::setup::expect_healthy;
use integration::{eventually, raise_descriptor_limit};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn a(name: &str) -> Query {
    Query::new(name, RecordType::A).unwrap().edns(1232)
}

/// What became of queries that were asked one after the other.
#[derive(Debug, Default)]
struct Tally {
    /// In the order of the queries: how long it took, and whether it was an answer or SERVFAIL; nothing if none came.
    fates: Vec<Option<(Duration, bool)>>,
}

impl Tally {
    /// Asks so many queries with this time between them, and waits for the last answers.
    fn ask(
        count: u16,
        gap: Duration,
        mut send: impl FnMut(&Query),
        mut receive: impl FnMut(Duration) -> Option<Answer>,
    ) -> Self {
        let mut fates = vec![None; usize::from(count)];
        let mut asked = Vec::new();
        let mut note = |asked: &[Instant], answer: &Answer| {
            let id = usize::from(answer.id().unwrap());
            let rcode = answer.rcode().unwrap();
            assert!(matches!(rcode, Rcode::NOERROR | Rcode::SERVFAIL), "{rcode:?}");
            fates[id] = Some((asked[id].elapsed(), rcode == Rcode::NOERROR));
        };
        for id in 0..count {
            asked.push(Instant::now());
            send(&a(&format!("n{id}.example")).id(id));
            let until = Instant::now() + gap;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                if let Some(answer) = receive(left) {
                    note(&asked, &answer);
                }
            }
        }
        while let Some(answer) = receive(2 * SECOND) {
            note(&asked, &answer);
        }
        Self { fates }
    }

    fn udp(server: SocketAddr, count: u16, gap: Duration) -> Self {
        let client = udp::Client::connect(server).unwrap();
        let send = |query: &Query| client.send(&query.octets().unwrap()).unwrap();
        Self::ask(count, gap, send, |time| client.receive_within(time).unwrap())
    }

    fn tcp(server: SocketAddr, count: u16, gap: Duration) -> Self {
        let client = std::cell::RefCell::new(tcp::Client::connect(server).unwrap());
        let send = |query: &Query| client.borrow_mut().send(&[query.octets().unwrap()]).unwrap();
        Self::ask(count, gap, send, |time| match client.borrow_mut().next_within(time).unwrap() {
            Next::Message(answer) => Some(answer),
            other => {
                assert_eq!(other, Next::Nothing);
                None
            }
        })
    }

    /// How many have an answer, SERVFAIL, and nothing; and what the slowest answer took.
    fn sums(&self) -> (usize, usize, usize, Duration) {
        let known = self.fates.iter().flatten();
        let good = known.clone().filter(|(_, good)| *good).count();
        let bad = known.clone().count() - good;
        let longest = known.filter(|(_, good)| *good).map(|(time, _)| *time).max();
        (good, bad, self.fates.len() - good - bad, longest.unwrap_or_default())
    }
}

#[test]
fn a_server_that_is_killed_fails_what_is_asked_meanwhile_and_nothing_after_it_is_back() {
    let mut setup = Setup::new().unwrap();
    let dns = setup.address().unwrap();
    let clients = [Tally::udp, Tally::tcp]
        .map(|ask| std::thread::spawn(move || ask(dns, 300, 10 * MILLISECOND)));
    sleep(SECOND / 2);
    setup.resolver.stop();
    sleep(SECOND);
    setup.resolver.restart().unwrap();
    for (client, transport) in clients.into_iter().zip(["udp", "tcp"]) {
        let tally = client.join().unwrap();
        let (good, bad, none, longest) = tally.sums();
        println!("{transport}: {good} answers, the slowest after {longest:?}; {bad} SERVFAIL");
        // Over UDP a query that is sent again may find it back.
        assert!(none == 0 && bad <= 200, "{transport}: {none} {bad}");
        assert!(tally.fates[..10].iter().chain(&tally.fates[270..]).flatten().all(|fate| fate.1));
    }
    setup.expect_healthy().unwrap();
}

/// A configuration where the resolver over UDP has a second host, at port 25354.
fn two_hosts() -> Config {
    let host = "{endpoint: {address: {socket_address: {protocol: UDP, address: 127.0.0.1, port_value: 25353}}}}";
    let other = host.replace("25353", "25354");
    let config = config().unwrap().concurrency(1);
    let config = config.replace(host, &format!("{host}, {other}")).unwrap();
    let config = udp_settings(config, "response_timeout: 1s").unwrap();
    let config = udp_settings(config, "retry_after: 0.2s").unwrap();
    // So that both hosts get their turn.
    udp_settings(config, "flow_lifetime: 0.3s").unwrap()
}

#[test]
fn where_one_of_two_servers_is_silent_or_gone_the_other_one_answers() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = two_hosts().port(25_354, silent.local_addr().unwrap().port());
    let mut setup = Setup::with(config, addresses).unwrap();
    let dns = setup.address().unwrap();
    let mut silent = Some(silent);
    for what in ["silent", "gone"] {
        let tally = Tally::udp(dns, 300, 5 * MILLISECOND);
        let (good, bad, none, longest) = tally.sums();
        println!("{what}: {good} answers, the slowest after {longest:?}; {bad} SERVFAIL");
        // Of all flows half lead to it. What gets no answer there is sent again until it is given up.
        assert!(none == 0 && good >= 280, "{what} {:?}", tally.sums());
        // From now on nothing listens there.
        silent = None;
    }
    drop(silent);
    setup.expect_healthy().unwrap();
}

#[test]
fn a_silent_server_is_ejected_where_envoy_is_told_to_detect_outliers() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = two_hosts()
        .port(25_354, silent.local_addr().unwrap().port())
        .replace(
            "route: {cluster: resolver_udp, timeout: 0.25s}",
            "route: {cluster: resolver_udp, timeout: 1s, retry_policy: {per_try_idle_timeout: 0.25s}}",
        )
        .unwrap()
        .replace(
            "  - name: resolver_udp\n",
            "  - name: resolver_udp\n    outlier_detection: {split_external_local_origin_errors: true, consecutive_local_origin_failure: 1, max_ejection_percent: 50}\n",
        )
        .unwrap();
    let mut setup = Setup::with(config, addresses).unwrap();
    let dns = setup.address().unwrap();
    let tally = Tally::udp(dns, 300, 5 * MILLISECOND);
    let (good, bad, none, longest) = tally.sums();
    println!("at first: {good} answers, the slowest after {longest:?}; {bad} SERVFAIL");
    assert!(none == 0 && good >= 280, "{:?}", tally.sums());
    const EJECTIONS: &str = "cluster.resolver_udp.outlier_detection.ejections_enforced_consecutive_local_origin_failure";
    let ejected = || Ok((setup.envoy.stat(EJECTIONS)? == 1).then_some(()));
    eventually("the ejection", ejected).unwrap();
    let tally = Tally::udp(dns, 300, 5 * MILLISECOND);
    let (good, bad, none, longest) = tally.sums();
    println!("once it is ejected: {good} answers, the slowest after {longest:?}");
    assert_eq!((good, bad, none), (300, 0, 0));
    assert!(longest < SECOND / 5, "{longest:?}");
    setup.expect_healthy().unwrap();
}

#[test]
fn on_a_bad_network_nearly_all_queries_are_answered_and_all_that_are_asked_again() {
    let chance = |seed| {
        let delay = 30 * MILLISECOND;
        Chance { lost: 10, twice: 5, overtaken: 5, late: 10, delay, ..Chance::new(seed) }
    };
    let resolver = Authority::start(addresses).unwrap();
    let behind = Relay::by_chance(resolver.address(), chance(1)).unwrap();
    let config = udp_settings(config().unwrap(), "retry_after: 0.2s").unwrap();
    let config = udp_settings(config, "response_timeout: 1s").unwrap();
    let mut envoy = config.port(port::RESOLVER, behind.address().port()).start().unwrap();
    let dns = envoy.address(port::DNS).unwrap();
    let tally = Tally::udp(dns, 500, 2 * MILLISECOND);
    let (good, bad, none, longest) = tally.sums();
    println!("{good} answers, the slowest after {longest:?}; {bad} SERVFAIL");
    // One in five is lost on its way there or back, and one in five of those that are sent again: four times.
    assert!(none == 0 && bad < 10, "{:?}", tally.sums());

    // As a stub resolver does it, with loss on its own side too.
    let before = Relay::by_chance(dns, chance(2)).unwrap();
    let client = udp::Client::connect(before.address()).unwrap();
    let mut left: HashMap<u16, Query> =
        (0..200).map(|id| (id, a(&format!("again{id}.example")).id(id))).collect();
    let deadline = Instant::now() + 10 * SECOND;
    while !left.is_empty() {
        assert!(Instant::now() < deadline, "{} queries without an answer", left.len());
        for query in left.values() {
            client.send(&query.octets().unwrap()).unwrap();
        }
        while let Some(answer) = client.receive_within(SECOND / 3).unwrap() {
            let id = answer.id().unwrap();
            if answer.rcode().unwrap() == Rcode::NOERROR && left.remove(&id).is_some() {
                assert_eq!(answer.a().unwrap(), [address(&format!("again{id}.example."))]);
            }
        }
    }
    assert!(before.log().iter().filter(|(_, fate)| *fate == Fate::Lost).count() > 20);
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn a_hung_server_and_clients_that_stay_keep_nobody_else_from_being_served() {
    const STAY: usize = 200;
    raise_descriptor_limit();
    let config = tcp_settings(config().unwrap(), "response_timeout: 1.5s").unwrap();
    let config = tcp_settings(config, "idle_timeout: 1s").unwrap();
    let mut setup = Setup::with(config, |asked| match asked.name.starts_with("hung") {
        true => Ok(vec![]),
        false => addresses(asked),
    })
    .unwrap();
    let mut staying: Vec<tcp::Client> = (0..STAY).map(|_| setup.tcp().unwrap()).collect();
    let half = a("half.example").octets().unwrap();
    for (number, client) in staying.iter_mut().enumerate() {
        let length = u16::try_from(half.len()).unwrap().to_be_bytes();
        // Nothing at all, half a length, half a message.
        let octets = match number % 3 {
            0 => &[][..],
            1 => &length[..1],
            _ => &[&length[..], &half[..20]].concat(),
        };
        client.send_raw(octets).unwrap();
    }
    let mut client = setup.tcp().unwrap();
    let start = Instant::now();
    let messages = ["hung", "b.example", "b.corp.example"].map(|name| a(name).octets().unwrap());
    client.send(&messages).unwrap();
    let first = [client.receive().unwrap(), client.receive().unwrap()];
    assert!(first.iter().all(|answer| answer.a().unwrap().len() == 1), "{first:?}");
    assert_eq!(client.receive().unwrap().rcode().unwrap(), Rcode::SERVFAIL);
    let took = start.elapsed();
    assert!(took >= SECOND, "{took:?}");
    assert_eq!(setup.resolver.count_over(Transport::Tcp, "hung."), 1);
    // Who has sent no query is not waited for.
    for client in &mut staying {
        assert_eq!(client.next_within(integration::PATIENCE).unwrap(), Next::End);
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn a_client_that_does_not_read_costs_little_and_gets_all_its_answers_later() {
    const QUERIES: u16 = 1000;
    let mut setup =
        Setup::with(config().unwrap(), |asked| Ok(vec![Reply::to(asked)?.text(60_000).send()?]))
            .unwrap();
    let mut other = setup.tcp().unwrap();
    other.ask(&a("before.corp.example")).unwrap();
    let before = setup.envoy.allocated_bytes().unwrap();
    let mut client = setup.tcp().unwrap();
    let messages: Vec<Vec<u8>> = (0..QUERIES)
        .map(|id| Query::new("large", RecordType::TXT).unwrap().id(id).octets().unwrap())
        .collect();
    client.send(&messages).unwrap();
    sleep(2 * SECOND);
    let grown = setup.envoy.allocated_bytes().unwrap().saturating_sub(before) >> 20;
    let asked = setup.resolver.count("large.");
    println!("{asked} of {QUERIES} queries were asked; Envoy has grown by {grown} MiB");
    assert!(asked < usize::from(QUERIES) && grown < 32, "{asked} {grown}");
    assert_eq!(other.ask(&a("meanwhile.corp.example")).unwrap().a().unwrap(), [CORP]);
    let mut left: Vec<bool> = vec![true; usize::from(QUERIES)];
    for _ in 0..QUERIES {
        let answer = client.receive().unwrap();
        assert_eq!(answer.texts().unwrap()[0].len(), 60_000);
        let id = usize::from(answer.id().unwrap());
        assert!(std::mem::take(&mut left[id]), "{id} twice");
    }
    setup.expect_healthy().unwrap();
}

#[test]
fn whole_zones_go_over_tcp_to_whom_a_rule_lets_them() {
    let server = Knot::start().unwrap();
    let rules = "{zones: [plain.example], types: [AXFR, IXFR], carry: flow}";
    let config = rule(config().unwrap(), rules).unwrap();
    let mut envoy = config.port(port::RESOLVER, server.address().port()).start().unwrap();
    let (dns, tls) = (envoy.address(port::DNS).unwrap(), envoy.address(port::TLS).unwrap());
    let records = |output: &str| {
        let records = output.lines().filter(|line| !line.starts_with(';') && !line.is_empty());
        let mut records: Vec<String> =
            records.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        records.sort_unstable();
        records
    };
    let dig = |server| Dig::new(server, "plain.example", "AXFR").run().unwrap().0;
    let direct = records(&dig(server.address()));
    assert!(direct.len() > 500, "{}", direct.len());
    assert!(records(&dig(dns)) == direct);
    let kdig =
        |server, arg| Kdig::new(server, "plain.example", "AXFR").args(&[arg]).run().unwrap().0;
    assert!(records(&kdig(tls, "+tls")) == records(&kdig(server.address(), "+tcp")));
    let ixfr = Dig::new(dns, "plain.example", "IXFR=1").args(&["+tcp"]).run().unwrap();
    assert!(ixfr.0.contains("SOA"), "{ixfr:?}");
    // Over UDP there is no room for one, and who asks there is to come over TCP.
    let ixfr = Query::new("plain.example", RecordType::IXFR).unwrap();
    let answer = udp::Client::connect(dns).unwrap().ask(&ixfr).unwrap();
    assert_eq!(answer.rcode().unwrap(), Rcode::REFUSED);
    let other = Dig::new(dns, "signed.example", "AXFR").run().unwrap();
    assert!(records(&other.0).is_empty() && other.0.contains("Transfer failed"), "{other:?}");
    expect_healthy(&mut envoy).unwrap();
}

#[test]
fn fifty_thousand_addresses_ask_once_each_and_leave_nothing_behind() {
    const SOURCES: u32 = 50_000;
    raise_descriptor_limit();
    let server = Responder::start().unwrap();
    let config = config().unwrap().port(port::RESOLVER, server.address().port());
    let mut envoy = config.start().unwrap();
    let dns = envoy.address(port::DNS).unwrap();
    let visit = |range: std::ops::Range<u32>| {
        for first in range.step_by(100) {
            let clients: Vec<(udp::Client, Query)> = (first..first + 100)
                .map(|number| {
                    let client = udp::Client::connect_from(source(number), dns).unwrap();
                    let query = a(&format!("s{number}.example"));
                    client.send(&query.octets().unwrap()).unwrap();
                    (client, query)
                })
                .collect();
            for (client, query) in clients {
                assert!(query.is_answered_by(&client.receive().unwrap()).unwrap());
            }
        }
        envoy.process.resident_bytes().unwrap() >> 20
    };
    let before = visit(0..5000);
    let start = Instant::now();
    let after = visit(5000..5000 + SOURCES);
    let took = start.elapsed();
    println!("{SOURCES} sources in {took:?}: {before} MiB before, {after} MiB after");
    assert!(after < before + 48, "{before} MiB became {after} MiB");
    expect_healthy(&mut envoy).unwrap();
}
