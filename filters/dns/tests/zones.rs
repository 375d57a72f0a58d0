//! Zones: which flow a query travels in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support;
use crate::support::message::a;
use crate::support::{ANNA, tcp, udp};

const ZONES: &str = r#"{"authority": "rest:53", "max_flows": 1, "zones": [
    {"zone": "corp.example"}, {"zone": "Lab.Corp.Example.", "upstream": "tcp"}, {"zone": "_x.*.example"}]}"#;

#[test]
fn the_longest_zone_that_a_name_is_in_is_the_authority() {
    for (name, authority) in [
        ("corp.example", "corp.example"),
        ("www.CORP.example", "corp.example"),
        ("a.b.c.corp.example", "corp.example"),
        ("lab.corp.example", "lab.corp.example"),
        ("a.LAB.corp.example", "lab.corp.example"),
        ("example", "rest:53"),
        ("mycorp.example", "rest:53"),
        ("corp.example.com", "rest:53"),
        (".", "rest:53"),
        ("a._X.*.example", "_x.=2A.example"),
    ] {
        let mut bench = udp(ZONES);
        let anna = bench.client(ANNA);
        bench.ask(anna, &a(1, name));
        assert_eq!(bench.flows(), [authority], "{name}");
    }
}

#[test]
fn each_zone_has_flows_of_its_own() {
    let mut bench = udp(ZONES);
    let anna = bench.client(ANNA);
    for (id, name) in (0..).zip(["a.corp.example", "b.corp.example", "c", "d.corp.example"]) {
        bench.ask(anna, &a(id, name));
    }
    assert_eq!(bench.flows(), ["corp.example", "rest:53"]);
    assert_eq!(bench.server_got(0).len(), 3);
    assert_eq!(bench.gauge("dns_flows_active"), 2);
}

#[test]
fn a_zone_says_how_its_servers_are_asked() {
    let mut bench = udp(ZONES);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "lab.corp.example"));
    bench.ask(anna, &a(2, "corp.example"));
    let kinds: Vec<_> = bench.streams().iter().map(|stream| stream.is_tcp()).collect();
    assert_eq!(kinds, [true, false]);
    let mut bench = tcp(ZONES);
    bench.ask(&a(2, "corp.example"));
    assert!(bench.streams()[0].is_tcp(), "as the client asks");
}

#[test]
fn queries_are_counted_by_zone_and_type() {
    let mut bench = udp(ZONES);
    let anna = bench.client(ANNA);
    let zone = "corp.example";
    for name in [zone, "www.corp.example", "c"] {
        bench.ask(anna, &a(1, name));
    }
    bench.ask(anna, &support::message::query(1, zone, codec_dns::RecordType(65_280)));
    let count = |record_type: &str, zone: &str| {
        let labels = [("type", record_type), ("transport", "udp"), ("zone", zone)];
        bench.counter("dns_queries_total", &labels)
    };
    assert_eq!((count("a", zone), count("a", "other"), count("other", zone)), (2, 1, 1));
}
