//! Sessions over UDP and TCP. In the first mode client and servers mostly keep to the standard: the model of
//! the property test, with the fuzzer's choices. In the others nobody keeps to anything: any octets from the
//! client, the servers and the connection manager, in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use codec_capsule::Decoded as Capsuled;
use codec_coap::{Decoded, decode, decode_tcp};
use support::message::capsule;
use support::model::{Choices, Model};
use support::{ANNA, Bench, LIMITS, Worker, millis, rules};

const MORE: [&str; 5] = [
    "",
    r#", "amplification_factor": 3, "max_flows": 1, "max_outstanding": 3"#,
    r#", "max_transfers": 1, "max_transfer_memory": 2000, "block_size": 16"#,
    r#", "flow_key": "lwm2m_endpoint", "registration_timeout": "60s", "max_options": 3"#,
    r#", "rate_limits": [{"octets": {"per_second": 300}}], "flow_key": "session""#,
];

const STATUS: [u16; 8] = [200, 204, 304, 403, 404, 429, 500, 503];

const KINDS: [&str; 3] = ["text/event-stream", "text/plain", "application/cbor"];

/// Whatever a server has is messages, the last one perhaps not to its end.
fn check(bench: &Bench) {
    for stream in bench.streams.iter().filter(|stream| stream.is_flow()) {
        let mut rest = &*stream.body;
        while !rest.is_empty() {
            let len = if bench.is_tcp {
                match decode_tcp(rest).expect("only messages reach a server") {
                    Decoded::Complete { consumed, .. } => consumed,
                    Decoded::Incomplete { .. } => break,
                }
            } else {
                match codec_capsule::decode(rest, 70_000).expect("capsules") {
                    Capsuled::Complete { value, consumed } => {
                        decode(&value.value[1..]).expect("only messages reach a server");
                        consumed
                    }
                    Capsuled::Incomplete { .. } => break,
                }
            };
            rest = &rest[len..];
        }
    }
}

fn run(is_tcp: bool, choices: &mut Choices<'_>) {
    let transport = if is_tcp { "tcp" } else { "udp" };
    let more = MORE[choices.below(MORE.len())];
    let worker = Worker::new(&rules(&format!(r#""transport": "{transport}"{more}"#)));
    let narrow = bridge::server::ServerLimits { stream_window: 200, ..LIMITS };
    let limits = if choices.below(4) == 0 { &narrow } else { &LIMITS };
    let mut bench = worker.session_with(ANNA, Duration::ZERO, limits, None);
    bench.accepts = choices.below(4) > 0;
    while !choices.is_empty() {
        let streams = bench.streams.len();
        match choices.below(16) {
            0..=2 => {
                let octets = choices.octets(80).to_vec();
                if is_tcp { bench.octets(&octets) } else { bench.datagram(&octets) }
            }
            3 => {
                let octets = choices.octets(80).to_vec();
                bench.octets(&octets);
            }
            4..=6 if streams > 0 => {
                let stream = choices.below(streams);
                let octets = choices.octets(80).to_vec();
                let is_datagram = !is_tcp && bench.streams[stream].is_flow();
                let octets = if is_datagram { capsule(&octets) } else { octets };
                bench.content(stream, &octets);
            }
            7 if streams > 0 => {
                let stream = choices.below(streams);
                let octets = choices.octets(80).to_vec();
                bench.content(stream, &octets);
            }
            8 if streams > 0 => {
                let stream = choices.below(streams);
                let headers = [("content-type", KINDS[choices.below(3)]), ("retry-after", "9")];
                let status = STATUS[choices.below(8)];
                if !bench.streams[stream].answered {
                    bench.respond(stream, status, &headers);
                }
            }
            9 if streams > 0 => {
                let stream = choices.below(streams);
                let body = vec![b'x'; choices.below(256) * 20];
                if !bench.streams[stream].answered {
                    bench.answer(stream, STATUS[choices.below(8)], &[("etag", "\"01\"")], &body);
                }
            }
            10 if streams > 0 => {
                let stream = choices.below(streams);
                bench.finish(stream);
            }
            11 if streams > 0 => {
                let stream = choices.below(streams);
                bench.reset(stream);
            }
            12 if streams > 0 => {
                let stream = choices.below(streams);
                let held = choices.below(2) == 0;
                bench.server.hold(bench.streams[stream].id, held);
                bench.settle();
            }
            13 => bench.piece = [usize::MAX, 1, 7, 30][choices.below(4)],
            14 => bench.pass(millis(50 << choices.below(12))),
            15 => match choices.below(4) {
                0 => {
                    bench.bridge.handle_native_end(bench.now);
                    bench.settle();
                }
                1 => {
                    let octets = choices.octets(40).to_vec();
                    bench.bridge.handle_http(bench.now, octets.into());
                    bench.settle();
                }
                _ => {
                    check(&bench);
                    let now = bench.now;
                    bench.hang_up();
                    bench = worker.session_with(ANNA, now, limits, None);
                }
            },
            _ => {}
        }
    }
    check(&bench);
    bench.hang_up();
    for gauge in ["coap_flows_active", "coap_observations_active"] {
        assert_eq!(worker.registry.gauge(gauge, &[]).value(), 0, "{gauge}");
    }
}

fuzz_target!(|octets: &[u8]| {
    let Some((mode, octets)) = octets.split_first() else { return };
    match mode % 4 {
        0 => Model::run(octets),
        1 => run(true, &mut Choices::new(octets)),
        _ => run(false, &mut Choices::new(octets)),
    }
});
