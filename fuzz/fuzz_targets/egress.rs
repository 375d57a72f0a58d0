//! HTTP clients and a CoAP server that keep to nothing, and the gateway between them.
#![no_main]

use std::rc::Rc;
use std::time::Duration;

use bridge::Request;
use bridge::metrics::Registry;
use coap_egress::{Config, Egress, Settings};
use codec_capsule::{Datagram, Decoded, UDP_PAYLOAD};
use codec_coap::{CoapOption, Code, Message, MessageType, OptionNumber, Options, decode};
use entry_points_fuzz::Choices;
use filter_config::{Fraction, Mistakes, Whole};
use libfuzzer_sys::fuzz_target;

#[path = "../../filters/http-server/tests/support/mod.rs"]
mod support;

use support::Rig;

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "FETCH", "iPATCH", "HEAD", "BREW"];

const PATHS: [&str; 10] =
    ["/0", "/1", "/0?a=b&c", "/", "//", "/%2e%2e/x", "/a%2Fb", "/%00%0d%0a", "/%ff", "/../..;/x"];

const HEADERS: [(&str, &str); 16] = [
    ("accept", "text/event-stream"),
    ("accept", "*/*;q=0.1, application/json"),
    ("accept", "application/coap-payload;cf=70000"),
    ("content-type", "text/plain; charset=\"utf-8\""),
    ("content-type", "application/cbor"),
    ("content-encoding", "deflate"),
    ("if-match", "\"01\", W/\"02\", *"),
    ("if-none-match", "*"),
    ("if-none-match", "\"0102030405060708090a\""),
    ("x-coap-type", "non"),
    ("x-coap-hop-limit", "1"),
    ("x-coap-hop-limit", "-1"),
    ("cache-control", "max-age=99999999999999"),
    ("etag", "\"\\\""),
    ("accept", ";;;=,\"\\"),
    ("expect", "100-continue"),
];

const NUMBERS: [u16; 14] = [1, 4, 5, 6, 8, 9, 11, 12, 14, 23, 27, 28, 60, 252];

fn capsule(datagram: &[u8]) -> Vec<u8> {
    let datagram = Datagram { context_id: UDP_PAYLOAD, payload: datagram };
    let mut capsule = vec![0; datagram.encoded_len().expect("short")];
    datagram.encode(&mut capsule).expect("it fits");
    capsule
}

struct World {
    rig: Rig<Egress>,
    /// How much of each flow was looked at.
    seen: Vec<usize>,
    /// Messages that the server has, and by which flow.
    sent: Vec<(usize, Vec<u8>)>,
}

impl World {
    /// Everything that leaves is a CoAP message.
    fn look(&mut self) {
        for (flow, stream) in self.rig.streams.iter_mut().enumerate() {
            if self.seen.len() <= flow {
                self.seen.push(0);
                if flow % 7 != 6 {
                    stream.respond(200, false);
                }
            }
            let rest = &stream.received[self.seen[flow]..];
            if let Ok(Decoded::Complete { value, consumed }) = codec_capsule::decode(rest, 70_000) {
                self.seen[flow] += consumed;
                let datagram = Datagram::decode(value.value).expect("a datagram");
                decode(datagram.payload).expect("only messages reach a server");
                self.sent.push((flow, datagram.payload.to_vec()));
            }
        }
        self.rig.run();
    }

    fn deliver(&mut self, flow: usize, octets: &[u8]) {
        if self.rig.streams[flow].ended.is_none() && flow % 7 != 6 && flow < self.seen.len() {
            self.rig.streams[flow].send(octets);
            self.rig.run();
        }
    }

    /// An answer to one of the latest messages, as its code, options and payload are chosen.
    fn answer(&mut self, choices: &mut Choices<'_>) {
        let back = choices.below(4);
        let Some((flow, asked)) = self.sent.iter().rev().nth(back).cloned() else { return };
        let asked = decode(&asked).expect("it was looked at");
        let mut options: Vec<(u16, &[u8])> =
            (0..choices.below(4)).map(|_| (choices.one_of(&NUMBERS), choices.octets(9))).collect();
        options.sort_by_key(|(number, _)| *number);
        let list: Vec<CoapOption<'_>> = options
            .iter()
            .map(|(number, value)| CoapOption::new(OptionNumber(*number), *value))
            .collect();
        let codes = [69, 69, 69, 95, 68, 65, 129, 132, 136, 141, 163, 0, 1, 95, 231, 70];
        let code = Code(choices.one_of(&codes));
        let message = Message {
            message_type: MessageType::from_bits(choices.below(4) as u8),
            code,
            message_id: if choices.once_in(4) { 7 } else { asked.message_id },
            token: if choices.once_in(8) { b"x" } else { asked.token },
            options: Options::from(&*list),
            payload: choices.octets(40),
        };
        let mut octets = vec![0; 200];
        match message.encode(&mut octets) {
            Ok(len) => octets.truncate(len),
            // Not a message; so as octets.
            Err(_) => octets = [&[0x60, code.0], &asked.message_id.to_be_bytes()[..]].concat(),
        }
        self.deliver(flow, &capsule(&octets));
    }
}

fuzz_target!(|octets: &[u8]| {
    let mut choices = Choices::new(octets);
    let config = Config {
        ack_random_factor: Fraction(1.0),
        block_size: Whole(16),
        max_response_size: Whole(64),
        max_held_size: Whole(100),
        nstart: Whole(2),
        max_queued_requests: Whole(3),
        max_flows: Whole(3),
        ..Config::default()
    };
    let mut mistakes = Mistakes::default();
    let settings = Rc::new(Settings::compile(&config, "", &mut mistakes));
    assert!(mistakes.is_empty());
    let metrics = Registry::default();
    let limits = settings.server_limits();
    let egress = Egress::new(settings, &metrics, 42);
    let rig = Rig::with_window(egress, &limits, 1 << 16);
    let mut world = World { rig, seen: Vec::new(), sent: Vec::new() };
    let mut given_up = Vec::new();
    while !choices.is_empty() && !world.rig.closed && world.rig.calls.len() < 60 {
        match choices.below(8) {
            0..=2 => {
                let uri = format!("http://device{}", choices.one_of(&PATHS));
                let mut request = Request::builder().method(choices.one_of(&METHODS)).uri(uri);
                for _ in 0..choices.below(4) {
                    let (name, value) = choices.one_of(&HEADERS);
                    request = request.header(name, value);
                }
                let body = vec![b'x'; choices.below(128)];
                if let Ok(request) = request.body(()) {
                    world.rig.call(request, &body);
                }
            }
            3..=5 => world.answer(&mut choices),
            6 => {
                let flow = choices.below(8);
                let octets = choices.octets(60);
                let octets = if choices.once_in(4) { octets.to_vec() } else { capsule(octets) };
                if flow < world.rig.streams.len() {
                    world.deliver(flow, &octets);
                }
            }
            _ => match choices.below(4) {
                0 if !world.rig.calls.is_empty() => {
                    let which = choices.below(world.rig.calls.len());
                    world.rig.cancel(which);
                    given_up.push(which);
                }
                1 if !world.rig.streams.is_empty() => {
                    let which = choices.below(world.rig.streams.len());
                    world.rig.streams[which].reset();
                    world.rig.run();
                }
                _ => world.rig.wait(Duration::from_millis(50 << choices.below(10))),
            },
        }
        world.look();
        for stream in world.rig.streams.iter_mut().filter(|stream| stream.ended.is_some()) {
            stream.finish();
        }
        world.rig.run();
    }
    if world.rig.closed {
        return;
    }
    for _ in 0..40 {
        world.rig.wait(Duration::from_secs(30));
        world.look();
        for stream in world.rig.streams.iter_mut().filter(|stream| stream.ended.is_some()) {
            stream.finish();
        }
        world.rig.run();
    }
    for (index, call) in world.rig.calls.iter().enumerate() {
        assert!(given_up.contains(&index) || call.ended == Some(true), "{index} has no answer");
    }
});
