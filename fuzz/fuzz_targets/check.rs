//! Files given to `beyond-http check -`: YAML of any kind, among it configurations that were changed.
#![no_main]

use entry_points_fuzz::Choices;
use libfuzzer_sys::fuzz_target;

const SEEDS: [&str; 6] = [
    include_str!("../../envoy-configs/mqtt.yaml"),
    include_str!("../../envoy-configs/coap.yaml"),
    include_str!("../../envoy-configs/dns.yaml"),
    include_str!("../../envoy-configs/istio/mqtt-filter.yaml"),
    include_str!("../../envoy-configs/istio/mqtt-wasmplugin.yaml"),
    include_str!("../../envoy-configs/gateway-api/dns.yaml"),
];

const PIECES: [&str; 20] = [
    "&a ", "*a", "<<: *a\n", "- ", ": ", "\n", "\n  ", "|\n", "{", "}", "[", "]", "\"", "'", "#",
    "---\n", "!!int ", "~", "\t", "? ",
];

fuzz_target!(|octets: &[u8]| {
    let mut choices = Choices::new(octets);
    let form = choices.below(8);
    let text = if let Some(seed) = SEEDS.get(form) {
        let mut text = seed.as_bytes().to_vec();
        while !choices.is_empty() {
            let at = (choices.below(256) << 8 | choices.below(256)) % (text.len() + 1);
            match choices.below(4) {
                0 => drop(text.splice(at..at, choices.one_of(&PIECES).bytes())),
                1 => drop(text.splice(at..at, choices.octets(8).iter().copied())),
                2 => text.truncate(at),
                _ => {
                    let end = (at + choices.below(64)).min(text.len());
                    text.drain(at..end);
                }
            }
        }
        text
    } else {
        choices.rest().to_vec()
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = beyond_http::run(
        ["beyond-http", "check", "-"],
        &mut beyond_http::Io {
            input: &mut &*text,
            out: &mut out,
            err: &mut err,
            asks: false,
            colour: false,
        },
    );
    assert!(code == 0 || !out.is_empty() || !err.is_empty(), "refused without a reason");
    String::from_utf8(out).expect("text");
});
