//! Connections where nobody keeps to anything: any octets from the clients, the servers and the connection
//! manager, in any order.

use codec_dns::{Decoded, decode, frame_tcp};
use tunnels::datagram::{self, Next};

use super::model::{Choices, Clients, Model, assert_idle};
use super::native::capsule;
use super::{Bench, LIMITS, Worker, message, millis};

const MORE: [&str; 6] = [
    "",
    r#", "max_flows": 1, "max_outstanding": 3, "max_pipelined": 2"#,
    r#", "cache": {"stale": "60s", "max_size": 4096, "prefetch_percent": 90, "prefetch_hits": 1}"#,
    r#", "flow_key": "client", "client_subnet": {"action": "add"}, "upstream": "tcp""#,
    r#", "upstream": "udp", "rate_limits": [{"queries": {"per_second": 5}, "exceeded": "truncate"}]"#,
    r#", "malformed": "drop", "max_query_size": 512, "max_udp_size": 512, "cache": {}"#,
];

const STATUS: [u16; 8] = [200, 204, 304, 403, 404, 429, 500, 504];

const KINDS: [&str; 3] = ["application/dns-message", "text/plain", "text/html"];

/// By the fuzzer's choices.
pub fn fuzz<N: Clients>(octets: &[u8]) {
    let Some((mode, octets)) = octets.split_first() else { return };
    let transport = if N::PLACES == 1 && mode & 2 > 0 { "tls" } else { N::TRANSPORT };
    let choices = Choices::new(octets);
    if mode & 1 == 0 { Model::<N>::run(choices, transport) } else { run::<N>(choices, transport) }
}

/// Whatever a server has is messages, the last one perhaps not to its end.
fn check<N: Clients>(bench: &Bench<N>) {
    for stream in bench.streams().iter().filter(|stream| stream.is_flow()) {
        let mut rest = &*stream.body;
        while !rest.is_empty() {
            let (message, len) = if stream.is_tcp() {
                match frame_tcp(rest, u16::MAX).expect("only messages reach a server") {
                    Decoded::Complete { message, consumed } => (message, consumed),
                    Decoded::Incomplete { .. } => break,
                }
            } else {
                match datagram::next(rest) {
                    Next::Datagram { from, len } => (&rest[from..len], len),
                    Next::Incomplete => break,
                    other => panic!("{other:?} reached a server"),
                }
            };
            let message = decode(message).expect("only messages reach a server");
            assert!(!message.header.flags.is_response(), "a response reached a server");
            rest = &rest[len..];
        }
    }
}

pub fn run<N: Clients>(mut choices: Choices<'_>, transport: &str) {
    let more = choices.one_of(&MORE);
    let worker = Worker::new(&format!(
        r#"{{"transport": "{transport}", "zones": [{{"zone": "z"}}], "rules": [
            {{"zones": ["c"], "carry": "check", "verdict_cache": "1s"}},
            {{"zones": ["r"], "carry": "request"}},
            {{"types": ["AXFR", "IXFR"], "carry": "flow"}},
            {{"opcodes": ["update"], "carry": "flow"}}]{more}}}"#
    ));
    let narrow = bridge::server::ServerLimits { stream_window: 200, max_streams: 9, ..LIMITS };
    let limits = if choices.below(4) == 0 { &narrow } else { &LIMITS };
    let mut bench: Bench<N> = worker.connect_with(limits);
    bench.manager.accepts = choices.below(4) > 0;
    let mut places = Vec::new();
    while !choices.is_empty() && !bench.is_closed() {
        places.retain(|place| !N::is_gone(&bench, *place));
        if places.is_empty() {
            places.push(N::client(&mut bench, "192.0.2.1:7"));
        }
        let place = places[choices.below(places.len())];
        let streams = bench.streams().len();
        match choices.below(16) {
            0..=3 => {
                let octets = choices.octets(100).to_vec();
                if let Some(place) = N::ask(&mut bench, place, &octets)
                    && !places.contains(&place)
                {
                    places.push(place);
                }
            }
            4 if places.len() < 4 => places.push(N::client(&mut bench, "198.51.100.2:7")),
            5 if choices.below(4) == 0 => N::garble(&mut bench, place, choices.octets(40)),
            6..=8 if streams > 0 => {
                // A server's answer, with the ID that it was asked with or another one.
                let stream = choices.below(streams);
                let of = &bench.streams()[stream];
                let is_tcp = of.is_tcp();
                let at = 2;
                let id: Vec<u8> = of.body.iter().skip(at).take(2).copied().collect();
                let octets = choices.octets(100).to_vec();
                let octets = if choices.below(4) > 0 { [id, octets].concat() } else { octets };
                let octets = if is_tcp { message::framed(&octets) } else { capsule(&octets) };
                bench.content(stream, &octets);
            }
            9 if streams > 0 => {
                // The query again, as if it were an answer.
                let stream = choices.below(streams);
                let mut octets = bench.streams()[stream].body.clone();
                let flags = if bench.streams()[stream].is_flow() { 4 } else { 2 };
                if let Some(octet) = octets.get_mut(flags) {
                    *octet |= 0x80;
                }
                bench.content(stream, &octets);
            }
            10 if streams > 0 => {
                let stream = choices.below(streams);
                let octets = choices.octets(80).to_vec();
                bench.content(stream, &octets);
            }
            11 if streams > 0 => {
                let stream = choices.below(streams);
                let headers = [("content-type", choices.one_of(&KINDS)), ("age", "7")];
                let status = choices.one_of(&STATUS);
                if !bench.streams()[stream].answered {
                    bench.respond(stream, status, &headers);
                }
            }
            12 if streams > 0 => {
                let stream = choices.below(streams);
                if choices.below(2) == 0 { bench.finish(stream) } else { bench.reset(stream) }
            }
            13 if streams > 0 => {
                let stream = choices.below(streams);
                let held = choices.below(2) == 0;
                bench.manager.server.hold(bench.manager.streams[stream].id, held);
                bench.settle();
            }
            14 => bench.pass(millis(20 << choices.below(10))),
            15 => match choices.below(8) {
                0 => {
                    let octets = choices.octets(40).to_vec();
                    bench.bridge.handle_http(bench.now, octets.into());
                    bench.settle();
                }
                1 => {
                    bench.bridge.handle_native_end(bench.now);
                    bench.settle();
                }
                how => {
                    N::leave(&mut bench, place, how % 2);
                    places.retain(|other| *other != place);
                }
            },
            _ => {}
        }
    }
    check(&bench);
    bench.hang_up();
    assert_idle(&worker.registry);
}
