//! What clients are given: limits, cookies, what servers get to know of them, rules, and what Envoy refuses.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use codec_dns::{Class, Flags, InfoCode, Opcode, OptionCode, Rcode, RecordType, decode};
use integration::dns::authority::{Asked, Reply, Step, Transport, echoed};
use integration::dns::clients::{Dig, Kdig};
use integration::dns::https::Request;
use integration::dns::query::{Answer, Query};
use integration::dns::setup::{
    Setup, address, addresses, config, https_settings, port, rate_limits, rule, tcp_settings,
    tls_settings, udp_settings, virtual_host,
};
use integration::dns::tcp::Next;
use integration::dns::udp::Client;
use integration::eventually;
use integration::process::{Process, program};

/// Well above `linger` and a tick: a query that comes from the same port in the moment in which its session ends is lost.
const QUIET: Duration = Duration::from_millis(400);

fn query(name: &str, record_type: RecordType) -> Query {
    Query::new(name, record_type).unwrap().edns(1232)
}

fn a(name: &str) -> Query {
    query(name, RecordType::A)
}

fn errors(answer: &Answer) -> Vec<InfoCode> {
    answer.extended_errors().unwrap().into_iter().map(|(code, _)| code).collect()
}

/// A client at this address of 127.0.0.0/16.
fn client_at(setup: &Setup, [third, fourth]: [u8; 2]) -> Client {
    let address = Ipv4Addr::new(127, 0, third, fourth);
    Client::connect_from(address, setup.address().unwrap()).unwrap()
}

/// Asks so many times, one after the other: how many answers came with data, without, and not at all.
fn ask_often(client: &Client, query: &Query, times: usize) -> (usize, usize, usize) {
    let (mut data, mut empty) = (0, 0);
    for _ in 0..times {
        client.send(&query.octets().unwrap()).unwrap();
    }
    while let Some(answer) = client.receive_within(QUIET).unwrap() {
        assert!(query.is_answered_by(&answer).unwrap());
        let has_data = answer.message().unwrap().header.answers > 0;
        *if has_data { &mut data } else { &mut empty } += 1;
    }
    (data, empty, times - data - empty)
}

/// Waits until a counter has a value: the filter reports about once a second.
fn expect_count(setup: &Setup, name: &str, expected: u64) {
    let mut last = 0;
    let reached = eventually("a counter", || {
        last = setup.envoy.stat(&format!("wasmcustom.{name}"))?;
        Ok((last == expected).then_some(()))
    });
    assert!(reached.is_ok(), "{name} is {last}, not {expected}");
}

#[test]
fn who_asks_too_much_is_limited_and_nobody_else() {
    let limits = [
        "{name: refused, queries: {per_second: 1, burst: 5}, types: [A]}",
        "{name: truncated, queries: {per_second: 1, burst: 5}, types: [TXT], exceeded: truncate}",
        "{name: dropped, queries: {per_second: 1, burst: 5}, types: [MX], exceeded: drop}",
        "{name: blocked, queries: {per_second: 1, burst: 5}, types: [ANY], block: 1s}",
        "{name: guesses, queries: {per_second: 1, burst: 5}, types: [SRV], rcodes: [NXDOMAIN]}",
    ];
    let config = rate_limits(config().unwrap(), &limits).unwrap();
    let mut setup = Setup::with(config, |asked| {
        let reply = Reply::to(asked)?;
        let reply = match asked.record_type {
            RecordType::SRV => reply.rcode(Rcode::NXDOMAIN).soa(60),
            RecordType::A => reply.a(address(&asked.name)),
            _ => reply.text(10),
        };
        Ok(vec![reply.send()?])
    })
    .unwrap();
    let (greedy, modest) = (client_at(&setup, [1, 1]), client_at(&setup, [1, 2]));
    let refused = |client: &Client, query: &Query| {
        let answer = client.ask(query).unwrap();
        (answer.rcode().unwrap() == Rcode::REFUSED).then(|| errors(&answer))
    };

    assert_eq!(ask_often(&greedy, &a("a"), 20), (5, 15, 0));
    assert_eq!(refused(&greedy, &a("a")), Some(vec![InfoCode::PROHIBITED]));
    assert_eq!(refused(&modest, &a("a")), None);
    assert_eq!(setup.resolver.count("a."), 6);

    // Truncated, a client comes back over TCP, where it is known to be who it says.
    let txt = query("txt", RecordType::TXT);
    assert_eq!(ask_often(&greedy, &txt, 20), (5, 15, 0));
    assert!(greedy.ask(&txt).unwrap().is_truncated().unwrap());
    assert!(!modest.ask(&txt).unwrap().is_truncated().unwrap());
    let local = client_at(&setup, [0, 1]);
    ask_often(&local, &txt, 10);
    let dig = Dig::new(setup.address().unwrap(), "txt", "TXT").run().unwrap();
    assert!(dig.0.contains(";; Truncated, retrying in TCP mode.") && dig.status() == "NOERROR");
    assert_eq!(setup.resolver.count_over(Transport::Tcp, "txt."), 1);

    assert_eq!(ask_often(&greedy, &query("mx", RecordType::MX), 20), (5, 0, 15));

    // Blocked for a time, whatever is asked; and after that no more.
    let blocked = client_at(&setup, [1, 3]);
    assert_eq!(ask_often(&blocked, &query("any", RecordType::ANY), 10), (5, 5, 0));
    assert!(refused(&blocked, &a("b")).is_some());
    sleep(Duration::from_millis(1100));
    assert_eq!(refused(&blocked, &a("b")), None);
    expect_count(&setup, "dns_blocks_total.limit=blocked", 1);

    // Answers are counted: the sixth comes too late.
    let guessing = client_at(&setup, [1, 4]);
    for _ in 0..5 {
        let answer = guessing.ask(&query("srv", RecordType::SRV)).unwrap();
        assert_eq!(answer.rcode().unwrap(), Rcode::NXDOMAIN);
    }
    assert!(refused(&guessing, &query("srv", RecordType::SRV)).is_some());
    expect_count(&setup, "dns_limited_total.limit=dropped.action=drop", 15);
    setup.expect_healthy().unwrap();
}

#[test]
fn the_same_is_not_answered_to_the_same_network_again_and_again() {
    let config = config().unwrap().concurrency(1);
    let limit =
        "response_rate_limit: {per_second: 5, slip: 2, window: 20s, exempt: [127.0.9.0/24]}";
    let config = udp_settings(udp_settings(config, limit).unwrap(), "cookies: {}").unwrap();
    let mut setup = Setup::with(config, |asked| {
        let reply = Reply::to(asked)?;
        let is_random = asked.name.ends_with(".random.");
        let reply =
            if is_random { reply.rcode(Rcode::NXDOMAIN) } else { reply.a(address(&asked.name)) };
        Ok(vec![reply.send()?])
    })
    .unwrap();
    let victim = client_at(&setup, [1, 1]);
    let (data, truncated, lost) = ask_often(&victim, &a("large."), 45);
    assert!((5..=7).contains(&data), "{data}");
    assert!(truncated.abs_diff(lost) <= 1, "{truncated} {lost}");
    // Its whole network counts, but another question does not.
    let neighbour = client_at(&setup, [1, 200]);
    let (data, ..) = ask_often(&neighbour, &a("large."), 4);
    assert_eq!(data, 0);
    assert_eq!(ask_often(&neighbour, &a("other."), 4), (4, 0, 0));
    assert_eq!(ask_often(&client_at(&setup, [2, 1]), &a("large."), 4), (4, 0, 0));
    assert_eq!(ask_often(&client_at(&setup, [9, 1]), &a("large."), 20), (20, 0, 0));
    // Names that do not exist are alike in their zone (random subdomains).
    let guesser = client_at(&setup, [3, 1]);
    for n in 0..20 {
        guesser.send(&a(&format!("n{n}.random")).octets().unwrap()).unwrap();
    }
    let mut denied = 0;
    while let Some(answer) = guesser.receive_within(QUIET).unwrap() {
        denied += usize::from(answer.rcode().unwrap() == Rcode::NXDOMAIN);
    }
    assert!((5..=7).contains(&denied), "{denied}");
    // Who is really there gets it over TCP.
    let dns = setup.address().unwrap();
    let local = client_at(&setup, [0, 77]);
    ask_often(&local, &a("large."), 8);
    let dig = || Dig::new(dns, "large.", "A").args(&["+nocookie", "+tries=3", "+time=1"]);
    assert_eq!(dig().run().unwrap().short(), [address("large.").to_string()]);

    // A cookie proves that too, from the second query on.
    let client = [1, 2, 3, 4, 5, 6, 7, 8];
    let with_cookie = a("cookie.").option(OptionCode::COOKIE, &client);
    let answer = victim.ask(&with_cookie).unwrap();
    let message = answer.message().unwrap();
    let cookie = message.edns().unwrap().options.cookie().unwrap();
    assert_eq!((cookie.client, cookie.server.len()), (client, 16));
    let cookie = [&cookie.client, cookie.server].concat();
    let with_cookie = a("large.").option(OptionCode::COOKIE, &cookie);
    assert_eq!(ask_often(&victim, &with_cookie, 20), (20, 0, 0));
    // At another address it is none.
    let (data, ..) = ask_often(&neighbour, &with_cookie, 4);
    assert_eq!(data, 0);
    // Servers see nothing of them.
    let asked = setup.resolver.asked();
    let has_cookie = |asked: &Asked| {
        let edns = decode(&asked.octets).unwrap().edns();
        edns.is_some_and(|edns| edns.options.cookie().is_some())
    };
    assert!(!asked.iter().any(has_cookie));
    setup.expect_healthy().unwrap();
}

#[test]
fn where_a_cookie_is_required_clients_come_with_one() {
    let secret = "cookies: {require: true, secrets: [e5e973e5a6b2a43f48e7dc849e37bfcf]}";
    let mut setup =
        Setup::with(udp_settings(config().unwrap(), secret).unwrap(), addresses).unwrap();
    let dns = setup.address().unwrap();
    let expected = [address("www.example.").to_string()];

    // dig and kdig ask again with the cookie that they are given.
    let dig = Dig::new(dns, "www.example", "A").args(&["+cookie", "+ignore"]).run().unwrap();
    assert!(dig.0.contains(";; BADCOOKIE, retrying"), "{dig:?}");
    assert!(dig.0.contains("(good)"), "{dig:?}");
    assert_eq!(dig.short(), expected);
    let kdig = Kdig::new(dns, "www.example", "A").args(&["+cookie", "+badcookie"]).run().unwrap();
    assert_eq!(kdig.short(), expected, "{kdig:?}");
    let refused = Kdig::new(dns, "www.example", "A").args(&["+cookie", "+nobadcookie"]);
    assert_eq!(refused.run().unwrap().status(), "BADCOOKIE");
    // Who knows no cookies asks over TCP.
    let args = ["+nocookie", "+ignore"];
    let output = Dig::new(dns, "www.example", "A").args(&args).run().unwrap();
    assert!(output.0.contains("flags: qr tc rd"), "{output:?}");
    let output = Dig::new(dns, "www.example", "A").args(&["+nocookie"]).run().unwrap();
    assert_eq!(output.short(), expected);
    assert_eq!(setup.resolver.asked().len(), 3);

    let client = client_at(&setup, [1, 1]);
    let ask = |client: &Client, cookie: &[u8]| {
        let query = a("www.example").option(OptionCode::COOKIE, cookie);
        let answer = client.ask(&query).unwrap();
        let message = answer.message().unwrap();
        let cookie = message.edns().unwrap().options.cookie().unwrap();
        (answer.rcode().unwrap(), [&cookie.client, cookie.server].concat())
    };
    let (rcode, cookie) = ask(&client, b"abcdefgh");
    assert_eq!(rcode, Rcode::BADCOOKIE);
    assert_eq!(ask(&client, &cookie), (Rcode::NOERROR, cookie.clone()));
    let mut forged = cookie.clone();
    forged[23] ^= 1;
    assert_eq!(ask(&client, &forged).0, Rcode::BADCOOKIE);
    assert_eq!(ask(&client_at(&setup, [1, 2]), &cookie).0, Rcode::BADCOOKIE);
    expect_count(&setup, "dns_cookies_total.verdict=invalid", 2);
    // expect_healthy() comes without one.
    integration::setup::expect_healthy(&mut setup.envoy).unwrap();
}

#[test]
fn servers_get_to_know_of_a_client_what_they_are_to() {
    let config = config().unwrap();
    let config = udp_settings(config, "client_subnet: {action: replace, ipv4_prefix: 16}").unwrap();
    let config = tcp_settings(config, "client_subnet: {action: strip}").unwrap();
    let config = tls_settings(config, "client_subnet: {action: add}").unwrap();
    let setup = Setup::with(config, addresses).unwrap();
    let [dns, tls, https] =
        [port::DNS, port::TLS, port::HTTPS].map(|port| setup.envoy.address(port).unwrap());
    let sent = |name: &str| {
        let asked = setup.resolver.asked().into_iter().rfind(|asked| asked.name == name).unwrap();
        let edns = asked.message().unwrap().edns()?;
        let subnet = edns.options.client_subnet()?;
        Some(format!("{}/{}", subnet.address(), subnet.source_prefix()))
    };
    let cases = [
        (dns, "+notcp", Some("127.0.0.0/16"), Some("127.0.0.0/16")),
        (dns, "+tcp", None, None),
        (tls, "+tls", Some("127.0.0.0/24"), Some("192.0.2.0/24")),
        (https, "+https", None, Some("192.0.2.0/24")),
    ];
    for (number, (server, transport, without, with)) in cases.into_iter().enumerate() {
        let name = format!("without{number}.");
        Dig::new(server, &name, "A").args(&[transport]).run().unwrap();
        assert_eq!(sent(&name).as_deref(), without, "{transport}");
        let name = format!("with{number}.");
        let args = [transport, "+subnet=192.0.2.0/24"];
        Dig::new(server, &name, "A").args(&args).run().unwrap();
        assert_eq!(sent(&name).as_deref(), with, "{transport}");
    }
}

#[test]
fn an_answer_over_udp_is_as_long_as_the_client_and_the_filter_take() {
    let setup = Setup::with(config().unwrap(), |asked| {
        let octets = asked.name.trim_start_matches('t').trim_end_matches('.').parse()?;
        Ok(vec![Reply::to(asked)?.text(octets).send()?])
    })
    .unwrap();
    let dns = setup.address().unwrap();
    let cases = [
        ("t400", "+noedns", false, None),
        ("t600", "+noedns", true, None),
        ("t400", "+bufsize=512", false, Some(512)),
        ("t600", "+bufsize=512", true, Some(512)),
        ("t1100", "+bufsize=1232", false, Some(1232)),
        ("t1300", "+bufsize=1232", true, Some(1232)),
        // The filter's limit, which the server is told.
        ("t1100", "+bufsize=4096", false, Some(1232)),
        ("t1300", "+bufsize=65535", true, Some(1232)),
    ];
    for (name, args, is_truncated, told) in cases {
        let args = [args, "+nocookie"];
        let output = Dig::new(dns, name, "TXT").args(&args).args(&["+ignore"]).run().unwrap();
        assert_eq!(
            output.0.contains("flags: qr aa tc rd"),
            is_truncated,
            "{name} {args:?} {output:?}"
        );
        assert_eq!(output.0.contains("OPT PSEUDOSECTION"), told.is_some(), "{output:?}");
        let asked = setup.resolver.asked().pop().unwrap();
        let edns = asked.message().unwrap().edns();
        assert_eq!(edns.map(|edns| edns.payload_size), told, "{name} {args:?}");
        let output = Dig::new(dns, name, "TXT").args(&args).run().unwrap();
        assert_eq!(output.answers().len(), 1, "{name} {args:?}");
    }
    let count = setup.resolver.asked().len();
    let output =
        Dig::new(dns, "t10", "TXT").args(&["+edns=1", "+noednsnegotiation"]).run().unwrap();
    assert_eq!((output.status(), setup.resolver.asked().len()), ("BADVERS", count));
}

/// Runs nsupdate with these commands: whether it was content, and what it said.
fn nsupdate(setup: &Setup, zone: &str) -> (bool, String) {
    let dns = setup.address().unwrap();
    let commands = format!(
        "server {} {}\nzone {zone}\nupdate add www.{zone} 60 A 192.0.2.1\nsend\n",
        dns.ip(),
        dns.port()
    );
    let mut process = Process::start("nsupdate", &program("nsupdate").unwrap(), |dir| {
        let file = dir.join("commands");
        std::fs::write(&file, commands)?;
        Ok(vec![file.to_string_lossy().into_owned()])
    })
    .unwrap();
    let status = process.wait(integration::PATIENCE).unwrap();
    (status.success(), process.stderr())
}

#[test]
fn rules_go_by_all_that_a_query_says() {
    let config = rule(config().unwrap(), "{opcodes: [update], zones: [dyn.example], carry: flow}");
    let config = rule(config.unwrap(), "{opcodes: ['9'], answer: refuse}").unwrap();
    let config = rule(config, "{classes: [CH], answer: refuse}").unwrap();
    let config = rule(config, "{types: [TYPE65281], answer: notimp}").unwrap();
    let config = rule(config, "{zones: [tcp.example], answer: truncate}").unwrap();
    let config = udp_settings(config, "malformed: drop").unwrap();
    let mut setup = Setup::with(config, |asked| {
        if asked.message()?.header.flags.opcode() == Opcode::UPDATE {
            return Ok(vec![Step::Send(echoed(asked)?)]);
        }
        addresses(asked)
    })
    .unwrap();
    let (dns, client) = (setup.address().unwrap(), setup.client().unwrap());
    let rcode = |query: &Query| client.ask(query).unwrap().rcode().unwrap();

    // An update to one zone goes to its server, and no other.
    assert_eq!(nsupdate(&setup, "dyn.example"), (true, String::new()));
    assert_eq!(setup.resolver.count("dyn.example."), 1);
    let (ok, complaint) = nsupdate(&setup, "static.example");
    assert!(!ok && complaint.contains("NOTIMP"), "{complaint}");

    let opcode = |number| Flags(0).with_opcode(Opcode(number));
    assert_eq!(rcode(&a("x").flags(opcode(9))), Rcode::REFUSED);
    assert_eq!(rcode(&a("x").flags(opcode(14))), Rcode::NOTIMP);
    let version = Dig::new(dns, "version.bind", "TXT").args(&["-c", "CH"]).run().unwrap();
    assert_eq!(version.status(), "REFUSED");
    assert_eq!(rcode(&query("x", RecordType(65_281))), Rcode::NOTIMP);
    assert_eq!(rcode(&query("other", RecordType(65_282))), Rcode::NOERROR);
    assert_eq!(rcode(&a("other").class(Class(254))), Rcode::NOERROR);
    assert_eq!(setup.resolver.asked().len(), 3);

    let any = Dig::new(dns, "www.example", "ANY").args(&["+notcp"]).run().unwrap();
    assert_eq!(any.answers(), ["www.example. 3600 IN HINFO \"RFC8482\" \"\""]);
    let any = Dig::new(dns, "www.example", "ANY").args(&["+tcp"]).run().unwrap();
    assert_eq!(any.short(), ["\"RFC8482\" \"\""]);

    let output = Dig::new(dns, "www.tcp.example", "A").run().unwrap();
    assert!(output.0.contains(";; Truncated, retrying in TCP mode."), "{output:?}");
    assert_eq!(output.short(), [address("www.tcp.example.").to_string()]);
    assert_eq!(setup.resolver.count_over(Transport::Udp, "www.tcp.example."), 0);

    // What is no query: dropped over UDP as configured here, answered over TCP, where the next one is read.
    let good = a("www.example").octets().unwrap();
    let bad = [&good[..], &[0]].concat();
    client.send(&bad).unwrap();
    assert!(client.is_quiet_for(QUIET).unwrap());
    let mut tcp = setup.tcp().unwrap();
    tcp.send(&[bad, good]).unwrap();
    assert_eq!(tcp.receive().unwrap().rcode().unwrap(), Rcode::FORMERR);
    assert_eq!(tcp.receive().unwrap().a().unwrap(), [address("www.example.")]);
    let errors = "dns_decode_errors_total.direction=from_client.kind=trailing_octets";
    expect_count(&setup, errors, 2);
    setup.expect_healthy().unwrap();
}

#[test]
fn too_many_requests_means_what_the_configuration_says() {
    let config = rule(config().unwrap(), "{zones: [many.example], carry: check}").unwrap();
    let host = "{name: many, domains: [many.example], routes: [{match: {prefix: /}, direct_response: {status: 429}}]}";
    let config = virtual_host(config, host).unwrap();
    let config = udp_settings(config, "too_many_requests: truncate").unwrap();
    let config = tcp_settings(config, "too_many_requests: truncate").unwrap();
    let config = tls_settings(config, "too_many_requests: drop").unwrap();
    let config = https_settings(config, "too_many_requests: drop").unwrap();
    let mut setup = Setup::with(config, addresses).unwrap();
    let answer = setup.client().unwrap().ask(&a("many.example")).unwrap();
    assert!(answer.is_truncated().unwrap());
    // Over TCP there is nothing to come back over.
    let mut tcp = setup.tcp().unwrap();
    let answer = tcp.ask(&a("many.example")).unwrap();
    assert_eq!(answer.rcode().unwrap(), Rcode::REFUSED);
    assert_eq!(errors(&answer), [InfoCode::PROHIBITED]);
    assert_eq!(tcp.next_within(QUIET).unwrap(), Next::Nothing);
    // Nothing comes over TLS, and the connection is still good.
    let tls = setup.envoy.address(port::TLS).unwrap();
    let args = ["+tls", "+time=1"];
    let output = Dig::new(tls, "many.example", "A").args(&args).run();
    assert!(output.is_err(), "{output:?}");
    let https = setup.envoy.address(port::HTTPS).unwrap();
    let response = Request::post(https, &a("many.example")).unwrap().send().unwrap();
    assert!((500..600).contains(&response.status().unwrap()), "{response:?}");
    assert_eq!(setup.resolver.asked().len(), 0);
    setup.expect_healthy().unwrap();
}
