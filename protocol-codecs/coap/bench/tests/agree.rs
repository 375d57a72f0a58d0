//! Beside `coap-lite` and `coap-message-implementations`: what only the codec takes or only it refuses, and what is read
//! differently, has a reason. `fuzz/fuzz_targets/differential.rs` looks for more.
//!
//! The datagrams are those of `../../tests/libcoap.txt`, most of them with some octets changed.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod others;

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

fn recorded() -> Vec<Vec<u8>> {
    let lines = include_str!("../../tests/libcoap.txt").lines();
    let datagrams = lines.filter(|line| line.starts_with("udp ")).map(|line| {
        let digits = line.rsplit(' ').next().unwrap();
        let digit = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(digit).collect()
    });
    datagrams.collect()
}

#[test]
fn what_others_read_is_what_is_read() {
    let datagrams = recorded();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut same, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut octets = datagrams[round % datagrams.len()].clone();
        if round >= datagrams.len() {
            for _ in 0..=random.below(3) {
                let at = random.below(octets.len());
                octets[at] = match random.below(3) {
                    0 => random.below(256) as u8,
                    1 => octets[at] ^ 1 << random.below(8),
                    _ => random.below(20) as u8,
                };
            }
        }
        let outcome = compare(&octets);
        same += outcome.same;
        refused += outcome.refused;
    }
    assert!(same > 5_000 && refused > 500, "{same} {refused}");
}
