//! DNS with clients and servers that are not ours: what they say to each other is the same with Envoy between them.

// Tests may stop at the first surprise; clippy's own exception does not cover their helper functions.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use integration::dns::clients::{Dig, Kdig, PythonQuery, dnspython};
use integration::dns::dnsdist::{Dnsdist, Encrypted};
use integration::dns::knot::{Knot, TEXTS};
use integration::dns::setup::{Setup, config, port};
use integration::dns::unbound::Unbound;
use integration::envoy::Envoy;

/// Envoy in front of this resolver.
fn envoy(resolver: std::net::SocketAddr) -> Envoy {
    config().unwrap().port(port::RESOLVER, resolver.port()).start().unwrap()
}

/// Ways to ask, and where.
const WAYS: [(&[&str], u16); 3] =
    [(&["+notcp", "+ignore"], port::DNS), (&["+tcp"], port::DNS), (&["+tls"], port::TLS)];

#[test]
fn all_clients_get_unbound_s_answers_over_udp_tcp_and_tls() {
    let server = Unbound::with_records(&["www.example. 60 IN A 192.0.2.7"]).unwrap();
    let envoy = envoy(server.address());
    let (dns, tls) = (envoy.address(port::DNS).unwrap(), envoy.address(port::TLS).unwrap());
    for (args, port) in WAYS {
        let address = envoy.address(port).unwrap();
        let output = Dig::new(address, "www.example", "A").args(args).run().unwrap();
        assert_eq!(output.answers(), ["www.example. 60 IN A 192.0.2.7"], "{args:?}");
        let output = Dig::new(address, "other.example", "A").args(args).run().unwrap();
        assert_eq!(output.status(), "REFUSED", "{args:?}");
        let output = Kdig::new(address, "www.example", "A").args(args).run().unwrap();
        assert_eq!(output.short(), ["192.0.2.7"], "{args:?}");
    }
    let query = PythonQuery::new(dns, "www.example", "A");
    let over_tls = PythonQuery::new(tls, "www.example", "A").transport("tls");
    let queries = [
        query.clone(),
        query.clone().edns(1232, true),
        query.transport("tcp"),
        over_tls.clone(),
        over_tls.edns(4096, true),
    ];
    for answer in dnspython(&queries).unwrap() {
        assert_eq!(answer.rcode(), "NOERROR", "{answer:?}");
        assert_eq!(answer.answers(), ["www.example. 60 IN A 192.0.2.7"]);
    }
    assert_eq!(server.count("www.example.", "A"), 11);
}

/// dig's output without what differs from one run to the next.
fn steady(output: &str) -> Vec<&str> {
    const VARIES: [&str; 5] =
        ["; <<>> DiG", ";; Query time", ";; SERVER", ";; WHEN", ";; ->>HEADER"];
    let mut lines: Vec<&str> = output
        .lines()
        .filter(|line| !VARIES.iter().any(|start| line.starts_with(start)))
        // The filter says for itself how much it takes.
        .filter(|line| !line.starts_with("; EDNS:"))
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn knot_s_answers_are_the_same_through_envoy() {
    let server = Knot::start().unwrap();
    let envoy = envoy(server.address());
    let mut questions: Vec<(String, &str)> =
        TEXTS.iter().map(|size| (format!("text-{size}"), "TXT")).collect();
    for record_type in [
        "LOC",
        "NAPTR",
        "SSHFP",
        "TLSA",
        "URI",
        "SVCB",
        "HTTPS",
        "SRV",
        "HINFO",
        "CERT",
        "TYPE65280",
    ] {
        questions.push(("types".to_owned(), record_type));
    }
    for (name, record_type) in [
        ("chain", "A"),
        ("x.y.wild", "TXT"),
        ("below.moved", "A"),
        ("many", "A"),
        ("sub", "NS"),
        ("a.sub", "A"),
        ("nothing", "A"),
        ("www", "MX"),
    ] {
        questions.push((name.to_owned(), record_type));
    }
    let mut questions: Vec<(String, &str)> = questions
        .into_iter()
        .map(|(name, record_type)| (format!("{name}.plain.example"), record_type))
        .collect();
    questions.push(("www.signed.example".to_owned(), "A"));
    questions.push(("signed.example".to_owned(), "DNSKEY"));
    questions.push(("nothing.signed.example".to_owned(), "A"));
    for (name, record_type) in &questions {
        for args in [&["+tcp", "+dnssec"][..], &["+notcp", "+ignore", "+dnssec", "+bufsize=1232"]] {
            let dig = |address| {
                let args = [args, &["+nocookie", "+norecurse", "+nostats"]].concat();
                Dig::new(address, name, record_type).args(&args).run().unwrap().0
            };
            let direct = dig(server.address());
            let through = dig(envoy.address(port::DNS).unwrap());
            assert_eq!(steady(&direct), steady(&through), "{name} {record_type} {args:?}");
        }
    }
}

#[test]
fn a_zone_is_asked_for_at_a_doh_server() {
    let mut setup = Setup::new().unwrap();
    let server = Dnsdist::start(setup.resolver.address(), false, Encrypted::Yes).unwrap();
    let config = config().unwrap().port(port::DOH, server.https().port());
    setup.envoy = config.start().unwrap();
    for (args, port) in WAYS {
        let address = setup.envoy.address(port).unwrap();
        let output = Dig::new(address, "www.doh.example", "A").args(args).run().unwrap();
        assert_eq!(output.status(), "NOERROR", "{args:?}");
        let expected = integration::dns::setup::address("www.doh.example.").to_string();
        assert_eq!(output.short(), [expected], "{args:?}");
    }
    let entry = setup.envoy.access_log_entry(|entry| entry["carry"] == "request").unwrap();
    assert_eq!(entry["upstream"], server.https().to_string());
}

#[test]
fn a_forwarder_in_front_of_envoy_is_served() {
    let server = Unbound::with_records(&["www.example. 60 IN A 192.0.2.7"]).unwrap();
    let envoy = envoy(server.address());
    let dns = envoy.address(port::DNS).unwrap();
    let unbound = Unbound::forwarder(dns, true).unwrap();
    let dnsdist = Dnsdist::start(dns, false, Encrypted::No).unwrap();
    for address in [unbound.address(), dnsdist.address()] {
        for args in [&["+notcp"], &["+tcp"]] {
            let output = Dig::new(address, "www.example", "A").args(args).run().unwrap();
            assert_eq!(output.short(), ["192.0.2.7"], "{args:?}");
        }
    }
}
