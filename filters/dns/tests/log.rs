//! The query log: lines of JSON about some of the queries.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::cell::RefCell;

use crate::support::message::{a, query};
use crate::support::{ANNA, millis, tcp, udp};
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::Value;

thread_local! {
    static LINES: RefCell<Vec<String>> = RefCell::default();
}

/// Keeps what each test's thread says.
struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// The lines since the last call.
fn lines() -> Vec<Value> {
    let lines = LINES.take();
    lines.iter().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
}

fn listen() {
    // Another test may have done it.
    let _ = log::set_logger(&Lines);
    log::set_max_level(LevelFilter::Info);
    lines();
}

#[test]
fn a_line_says_who_asked_what_and_what_came_of_it() {
    listen();
    let mut bench = udp(
        r#"{"query_log": {"one_in": 1}, "cache": {}, "rules": [{"zones": ["r"], "answer": "refuse"}]}"#,
    );
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "wWw.example"));
    bench.pass(millis(250));
    bench.server_answers();
    bench.got_one(anna);
    bench.refused(anna, &a(2, "www.example"));
    bench.refused(anna, &query(3, "r", codec_dns::RecordType(65_280)));
    let [server, cache, filter] = &lines()[..] else { panic!("three queries") };
    let expected = serde_json::json!({
        "client": "192.0.2.1", "transport": "udp", "qname": "www.example", "qtype": "A",
        "rcode": "noerror", "from": "server", "us": 250_000,
    });
    assert_eq!(*server, expected);
    assert_eq!((&cache["from"], &cache["us"]), (&"cache".into(), &0.into()));
    let said = ["qtype", "rcode", "from"].map(|field| filter[field].as_str().unwrap());
    assert_eq!(said, ["TYPE65280", "refused", "filter"]);
}

#[test]
fn a_name_cannot_forge_a_line() {
    listen();
    let mut bench = tcp(r#"{"query_log": {"one_in": 1}, "rules": [{"answer": "refuse"}]}"#);
    let mut octets = a(1, "x").octets();
    octets.splice(12..15, *b"\x0b\"}\r\n{\"a\":1,\x00");
    bench.message(&octets);
    let lines = lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["transport"], "tcp");
}

#[test]
fn one_of_so_many_queries_is_logged() {
    listen();
    let mut bench = tcp(r#"{"query_log": {"one_in": 10}, "rules": [{"answer": "refuse"}]}"#);
    for id in 0..1000 {
        bench.ask(&a(id, "www.example"));
    }
    let count = lines().len();
    assert!((50..200).contains(&count), "{count} of 1000");
}
