//! Nobody keeps to anything: any octets from the client, the broker and the connection manager, in
//! any order, under any of a handful of configurations.
#![no_main]

use std::time::Duration;

use codec_mqtt::{Decoded, Version, decode, decode_connect};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/mod.rs"]
mod support;

use support::model::Choices;
use support::wire::{connack, reconnect};
use support::{Bench, Worker};

const RULES: &str = r#""rules": [
    {"topic_filters": ["c/#", "+"], "carry": "check", "user_properties": ["k"]},
    {"topic_filters": ["e/#"], "carry": "request", "cloudevents": "structured"},
    {"topic_filters": ["b/#"], "carry": "request", "cloudevents": "binary"},
    {"topic_filters": ["r/#"], "carry": "request", "publish_reply": true},
    {"topic_filters": ["v/#"], "carry": "check", "verdict_cache": "5s"},
    {"packets": ["subscribe"], "topic_filters": ["s/#"], "carry": "check"},
    {"packets": ["delivery"], "topic_filters": ["d/#", "+"], "carry": "check"}]"#;

const MORE: [&str; 6] = [
    "",
    r#", "max_pending_messages": 1, "max_pending_size": 1024, "max_buffered_size": 300"#,
    r#", "topic_prefix": "t/{username}/", "max_in_flight": 3, "enforce_keep_alive": true"#,
    r#", "rate_limits": [{"messages": {"per_second": 5}, "exceeded": "delay"},
        {"octets": {"per_second": 500}, "exceeded": "drop", "per": "username"}]"#,
    r#", "max_subscriptions": 2, "max_topic_levels": 3, "max_topic_length": 20,
        "refused_in_3_1_1": "disconnect", "failed": "disconnect", "max_cached_verdicts": 1"#,
    r#", "max_packet_size": 100, "max_connect_size": 200, "max_topic_aliases": 0"#,
];

/// What may wait in all: pending messages and their octets, with room for what is being framed.
const MOST_PENDING: usize = 64 + 2;

const STATUS: [u16; 8] = [200, 204, 302, 401, 403, 404, 429, 503];

fn check(bench: &Bench) {
    assert!(bench.open().len() <= MOST_PENDING);
    for stream in &bench.streams {
        assert!(stream.path.starts_with('/'));
        assert!(stream.headers.get_all("x-carry").iter().count() == 1);
        assert!(stream.headers.get_all("x-protocol").iter().count() == 1);
        if !stream.is_session() {
            continue;
        }
        // Whatever the broker has is a CONNECT and packets of that version, the last one perhaps
        // not to its end.
        assert_eq!(stream.path, "/");
        let mut rest = &stream.body[..];
        let version = match decode_connect(rest).expect("CONNECT first") {
            Decoded::Incomplete { .. } => continue,
            Decoded::Complete { packet, consumed } => {
                rest = &rest[consumed..];
                packet.version
            }
        };
        while !rest.is_empty() {
            match decode(rest, version).expect("only valid packets reach the broker") {
                Decoded::Incomplete { .. } => break,
                Decoded::Complete { consumed, .. } => rest = &rest[consumed..],
            }
        }
    }
}

fn run(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let json = format!("{{{RULES}{}}}", MORE[choices.below(MORE.len())]);
    let worker = Worker::new(&json);
    let mut bench = match choices.below(3) {
        0 => worker.connect(),
        n => {
            let version = if n == 1 { Version::V311 } else { Version::V5 };
            worker.connect().establish(&reconnect(version, "c1"), version, &connack(version, true))
        }
    };
    while !choices.is_empty() {
        let n = choices.below(16);
        let streams = bench.streams.len();
        match n {
            0..=4 => {
                let n = choices.below(64);
                bench.client(choices.rest(n));
            }
            5..=7 if bench.session_index().is_some() => {
                let n = choices.below(64);
                bench.broker(choices.rest(n));
            }
            8 if streams > 0 => bench.answer(choices.below(streams), STATUS[choices.below(8)]),
            9 if streams > 0 => {
                // The reply's content type is the backend's.
                let types = ["text/plain", "a\tb", "", "x/y; z=\"1\""];
                let header = [("content-type", types[choices.below(4)])];
                bench.respond_with(choices.below(streams), STATUS[choices.below(8)], &header);
            }
            10 if streams > 0 => {
                let stream = choices.below(streams);
                let n = choices.below(64);
                bench.content(stream, choices.rest(n));
            }
            11 if streams > 0 => bench.finish(choices.below(streams)),
            12 if streams > 0 => bench.reset(choices.below(streams)),
            13 => bench.piece = [usize::MAX, 1, 7, 30][choices.below(4)],
            14 => bench.pass(Duration::from_millis(100 << choices.below(12))),
            15 => match choices.below(4) {
                0 => {
                    bench.bridge.handle_native_end(bench.now);
                    bench.settle();
                }
                1 => {
                    let n = choices.below(64);
                    bench.raw_http(choices.rest(n));
                }
                2 if streams > 0 => {
                    let stream = choices.below(streams);
                    bench.streams[stream].unread ^= true;
                    bench.settle();
                }
                _ => {
                    check(&bench);
                    bench.hang_up();
                    bench = worker.connect();
                }
            },
            _ => {}
        }
    }
    check(&bench);
    bench.hang_up();
}

fuzz_target!(|octets: &[u8]| run(octets));
