//! Observe mode: messages are counted on their way, and nothing of them is changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support;
use crate::support::message::{a, query};
use crate::support::native::capsule;
use bridge::Direction::{self, FromClient, ToClient};
use bridge::Observer as _;
use bridge::metrics::Registry;
use codec_dns::{Flags, Rcode, RecordType};
use filter_dns::{Filter, Observer};

struct Watched {
    observer: Observer,
    registry: Registry,
}

impl Watched {
    fn new(json: &str) -> Self {
        let registry = Registry::default();
        let json = json.replacen('{', r#"{"mode": "observe", "#, 1);
        let filter = Filter::new(json.as_bytes(), &registry).expect("a valid configuration");
        Self { observer: filter.watch(), registry }
    }

    fn see(&mut self, direction: Direction, octets: &[u8]) {
        assert_eq!(self.observer.see(direction, octets), 0);
    }

    fn queries(&self, record_type: &str, zone: &str, transport: &str) -> i64 {
        let labels = [("type", record_type), ("transport", transport), ("zone", zone)];
        self.registry.counter("dns_queries_total", &labels).value()
    }

    fn answers(&self, rcode: &str) -> i64 {
        self.registry.counter("dns_answers_total", &[("rcode", rcode)]).value()
    }

    fn errors(&self, direction: &str, kind: &str) -> i64 {
        let labels = [("direction", direction), ("kind", kind)];
        self.registry.counter("dns_decode_errors_total", &labels).value()
    }
}

const TCP: &str = r#"{"transport": "tcp", "zones": [{"zone": "corp.example"}]}"#;
const UDP: &str = r#"{"zones": [{"zone": "corp.example"}], "max_sessions": 3}"#;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An HTTP/2 frame (RFC 9113 §4.1).
fn frame(frame_type: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[frame_type, flags], &stream.to_be_bytes(), payload].concat()
}

fn data(stream: u32, octets: &[u8]) -> Vec<u8> {
    frame(0, 0, stream, octets)
}

#[test]
fn nothing_is_held_back() {
    let watched = Watched::new(TCP);
    assert!(watched.observer.may_proceed());
    assert_eq!(watched.observer.deadline(), None);
}

#[test]
fn queries_and_answers_are_counted_however_they_are_split() {
    for piece in [1, 7, 1000] {
        let mut watched = Watched::new(TCP);
        let queries = [a(1, "www.Corp.example"), query(2, "x", RecordType(65_280))];
        let answers = [
            queries[0].address(300, 1),
            queries[1].reply(Rcode::NXDOMAIN),
            queries[1].reply(Rcode::NOERROR).set(Flags::TC),
        ];
        for octets in queries.map(|query| query.framed()).concat().chunks(piece) {
            watched.see(FromClient, octets);
        }
        for octets in answers.map(|answer| answer.framed()).concat().chunks(piece) {
            watched.see(ToClient, octets);
        }
        assert_eq!(watched.queries("a", "corp.example", "tcp"), 1);
        assert_eq!(watched.queries("other", "other", "tcp"), 1);
        assert_eq!((watched.answers("noerror"), watched.answers("nxdomain")), (2, 1));
        assert_eq!(watched.registry.counter("dns_truncated_total", &[]).value(), 1);
    }
}

#[test]
fn what_is_malformed_is_counted_and_the_rest_goes_on() {
    let mut watched = Watched::new(TCP);
    let mut octets = a(1, "x").octets();
    octets.push(0);
    watched.see(FromClient, &support::message::framed(&octets));
    watched.see(ToClient, &support::message::framed(&octets));
    watched.see(FromClient, &a(1, "x").framed());
    assert_eq!(watched.errors("from_client", "trailing_octets"), 1);
    assert_eq!(watched.errors("to_client", "trailing_octets"), 1);
    assert_eq!(watched.queries("a", "other", "tcp"), 1);
}

#[test]
fn what_cannot_be_understood_is_not_looked_at_any_more_in_its_direction() {
    let mut watched = Watched::new(TCP);
    assert_eq!(watched.observer.see(FromClient, &[0, 3, 1, 2, 3]), u64::MAX);
    assert_eq!(watched.observer.see(FromClient, &a(1, "x").framed()), u64::MAX);
    assert_eq!(watched.errors("from_client", "header_truncated"), 1);
    assert_eq!(watched.queries("a", "other", "tcp"), 0);
    watched.see(ToClient, &a(1, "x").address(300, 1).framed());
    assert_eq!(watched.answers("noerror"), 1);
}

#[test]
fn over_udp_the_datagrams_of_all_sessions_are_counted() {
    for piece in [1, 9, 1000] {
        let mut watched = Watched::new(UDP);
        let one = capsule(&a(1, "www.corp.example").octets());
        let two = capsule(&a(1, "x").octets());
        let (front, rest) = one.split_at(10);
        let from_client = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &[]),
            frame(1, 4, 1, b"headers"),
            data(1, front),
            data(3, &two),
            data(1, rest),
            data(3, b"\x17\x02ab"),
            data(3, &two),
        ]
        .concat();
        for octets in from_client.chunks(piece) {
            watched.see(FromClient, octets);
        }
        let answer = capsule(&a(1, "x").address(300, 1).octets());
        for octets in [frame(4, 0, 0, &[]), data(3, &answer)].concat().chunks(piece) {
            watched.see(ToClient, octets);
        }
        assert_eq!(watched.queries("a", "corp.example", "udp"), 1);
        assert_eq!(watched.queries("a", "other", "udp"), 2);
        assert_eq!(watched.answers("noerror"), 1);
    }
}

#[test]
fn a_session_that_ended_makes_room_for_another() {
    let mut watched = Watched::new(UDP);
    watched.see(FromClient, PREFACE);
    let octets = capsule(&a(1, "x").octets());
    for stream in [1, 3, 5, 7, 9] {
        watched.see(FromClient, &data(stream, &octets));
    }
    assert_eq!(watched.queries("a", "other", "udp"), 3, "more sessions than there may be");
    // END_STREAM of one, RST_STREAM of another.
    watched.see(FromClient, &frame(0, 1, 1, b""));
    watched.see(FromClient, &frame(3, 0, 3, &[0; 4]));
    for stream in [11, 13, 15] {
        watched.see(FromClient, &data(stream, &octets));
    }
    assert_eq!(watched.queries("a", "other", "udp"), 5);
}

#[test]
fn octets_that_are_no_http2_are_not_looked_at_any_more() {
    let mut watched = Watched::new(UDP);
    watched.see(FromClient, PREFACE);
    assert_eq!(watched.observer.see(FromClient, &[0xff; 20]), u64::MAX);
    assert_eq!(watched.errors("from_client", "frame_too_long"), 1);
}
