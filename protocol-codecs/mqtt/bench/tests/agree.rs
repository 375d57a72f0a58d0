//! Beside `mqttbytes`, `mqttrs` and `mqtt-protocol-core`: what only the codec takes or only it refuses, and what is read
//! differently, has a reason. `fuzz/fuzz_targets/differential.rs` looks for more.
//!
//! The packets are those of `../../tests/mosquitto.txt`, most of them with some octets changed.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod others;

use codec_mqtt::{Decoded, Version, frame};
use others::compare;

struct Random(u64);

impl Random {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}

/// The packets of recorded connections, and the version of each.
fn recorded() -> Vec<(Vec<u8>, Version)> {
    let lines = include_str!("../../tests/mosquitto.txt").lines();
    let mut packets = Vec::new();
    let mut version = Version::V311;
    for line in lines.filter(|line| !line.starts_with('#')) {
        let digits = line.rsplit(' ').next().unwrap();
        let digit = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let octets: Vec<u8> = (0..digits.len()).step_by(2).map(digit).collect();
        let mut rest = &octets[..];
        while let Ok(Decoded::Complete { packet, .. }) = frame(rest, u32::MAX) {
            let (octets, after) = rest.split_at(packet.len());
            if let Ok(connect) = codec_mqtt::decode_connect(octets) {
                version = connect.complete().unwrap().version;
            }
            packets.push((octets.to_vec(), version));
            rest = after;
        }
    }
    packets
}

#[test]
fn what_others_read_is_what_is_read() {
    let packets = recorded();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut same, mut refused) = (0, 0);
    for round in 0..20_000 {
        let (mut octets, version) = packets[round % packets.len()].clone();
        if round >= packets.len() {
            for _ in 0..=random.below(3) {
                let at = random.below(octets.len());
                octets[at] = match random.below(3) {
                    0 => random.below(256) as u8,
                    1 => octets[at] ^ 1 << random.below(8),
                    _ => random.below(20) as u8,
                };
            }
        }
        let outcome = compare(&octets, version);
        same += outcome.same;
        refused += outcome.refused;
    }
    assert!(same > 8_000 && refused > 20_000, "{same} {refused}");
}
