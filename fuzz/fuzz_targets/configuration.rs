//! Configurations as Envoy hands them over: text that is JSON or not, and JSON that is a configuration or not. What is refused
//! is refused with a reason for each mistake; what is accepted can begin to serve.
#![no_main]

use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{Bridge, Bytes, Peer};
use entry_points_fuzz::{Choices, NoTls};
use filter_config::Mistake;
use libfuzzer_sys::fuzz_target;

/// Fragments of configurations, right and wrong.
const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "0.1",
    "\"10s\"",
    "\"-1s\"",
    "\"0s\"",
    "\"mode\":\"bridge\"",
    "\"mode\":\"observe\"",
    "\"mode\":\"egress\"",
    "\"transport\":\"udp\"",
    "\"transport\":\"tcp\"",
    "\"transport\":\"https\"",
    "\"transport\":\"dtls\"",
    "\"rules\":[",
    "\"carry\":\"check\"",
    "\"carry\":\"request\"",
    "\"topic_filters\":[\"a/#\"]",
    "\"topic_filters\":[\"#/a\"]",
    "\"paths\":[\"/a/**\"]",
    "\"zones\":[\"example\"]",
    "\"rate_limits\":[",
    "\"messages\":{\"per_second\":1}",
    "\"cache\":{}",
    "\"cookies\":{}",
    "\"dtls\":{",
    "\"psk\":{\"secret\":\"\"}",
    "\"topic_prefix\":\"{username}/\"",
    "\"verdict_cache\":\"5s\"",
    "\"authority\":\"a b\"",
    "\"\\u0000\"",
];

const SEEDS: [&str; 9] = [
    "{}",
    r#"{"rules": [{"topic_filters": ["c/#"], "carry": "check", "user_properties": ["k"], "verdict_cache": "5s"}]}"#,
    r#"{"rate_limits": [{"messages": {"per_second": 5, "burst": 9}, "exceeded": "delay", "per": "username"}]}"#,
    r#"{"mode": "observe", "tcp_proxy_clusters": [{"username_prefix": "eu-", "cluster": "eu"}]}"#,
    r#"{"transport": "udp", "rules": [{"paths": ["/a/**"], "carry": "request"}], "flow_key": "session"}"#,
    r#"{"mode": "egress", "egress": {"max_flows": 3, "block_size": 64}}"#,
    r#"{"transport": "https", "zones": [{"zone": "z"}], "rules": [{"zones": ["c"], "carry": "check"}]}"#,
    r#"{"cache": {"stale": "60s"}, "cookies": {"secrets": ["00112233445566778899aabbccddeeff"]}, "upstream": "tcp"}"#,
    r#"{"transport": "dtls", "dtls": {"psk": {"secrets": [{"identity": "a", "key": "MDEyMzQ1Njc4OWFiY2RlZg=="}]}}}"#,
];

fn refused(mistakes: &[Mistake]) {
    assert!(!mistakes.is_empty(), "refused without a reason");
    for mistake in mistakes {
        let text = mistake.to_string();
        assert!(!mistake.what.is_empty() && text.len() > mistake.what.len());
    }
}

fuzz_target!(|octets: &[u8]| {
    let mut choices = Choices::new(octets);
    let form = choices.below(4);
    let text = match form {
        0 => choices.rest().to_vec(),
        1 => {
            let mut text = String::from("{");
            while !choices.is_empty() {
                text.push_str(choices.one_of(&PIECES));
            }
            text.into_bytes()
        }
        _ => {
            let mut text = choices.one_of(&SEEDS).as_bytes().to_vec();
            while !choices.is_empty() {
                let at = choices.below(256) % (text.len() + 1);
                match choices.below(4) {
                    0 => drop(text.splice(at..at, choices.one_of(&PIECES).bytes())),
                    1 => drop(text.splice(at..at, choices.octets(8).iter().copied())),
                    2 => text.truncate(text.len().max(at + 8) - choices.below(4)),
                    _ => {
                        let end = (at + choices.below(8)).min(text.len());
                        text.drain(at..end);
                    }
                }
            }
            text
        }
    };
    let now = Duration::from_secs(10);
    let begins = |limits, octets: &'static [u8]| (limits, Bytes::from_static(octets));
    match filter_mqtt::Filter::new(&text, &Registry::default()) {
        Ok(filter) => {
            let _ = (filter.mode(), filter.websocket(), filter.watch(now));
            let (limits, octets) =
                begins(filter.limits(), b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x00");
            let mut bridge = Bridge::new(limits, Box::new(NoTls), now, |link| filter.carry(link));
            bridge.handle_native(now, octets);
            bridge.handle_close(Peer::Native);
        }
        Err(mistakes) => refused(&mistakes),
    }
    match filter_coap::Filter::new(&text, &Registry::default()) {
        Ok(filter) => {
            let _ = (filter.mode(), filter.watch());
            let client = filter_coap::Client::default();
            let (limits, octets) = begins(filter.limits(), b"\x00\x05\x00\x40\x01\x00\x07");
            let mut bridge =
                Bridge::new(limits, Box::new(NoTls), now, |link| filter.carry(link, client));
            bridge.handle_native(now, octets);
            bridge.handle_close(Peer::Native);
        }
        Err(mistakes) => refused(&mistakes),
    }
    match filter_dns::Filter::new(&text, &Registry::default()) {
        Ok(filter) => {
            let _ = (filter.mode(), filter.transport(), filter.watch(), filter.udp());
            let query =
                b"\x00\x11\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01";
            let (limits, octets) = begins(filter.limits(), query);
            let mut bridge = Bridge::new(limits, Box::new(NoTls), now, |link| filter.stream(link));
            bridge.handle_native(now, octets);
            bridge.handle_close(Peer::Native);
        }
        Err(mistakes) => refused(&mistakes),
    }
});
