//! Beside `domain` and `hickory-proto`: what all take for a message is the same to all of them, and where
//! one takes what another refuses, there is a reason.
//!
//! The messages are those of `../../tests/peers.txt`, most of them with some octets changed.

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
    let lines = include_str!("../../tests/peers.txt").lines();
    let messages = lines.filter(|line| !line.starts_with('#')).map(|line| {
        let digits = line.rsplit(' ').next().unwrap();
        let digit = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let octets: Vec<u8> = (0..digits.len()).step_by(2).map(digit).collect();
        if line.starts_with("tcp") { octets[2..].to_vec() } else { octets }
    });
    messages.collect()
}

#[test]
fn what_others_read_is_what_is_read() {
    let messages = recorded();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut same, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut octets = messages[round % messages.len()].clone();
        if round >= messages.len() {
            for _ in 0..=random.below(3) {
                let at = random.below(octets.len());
                octets[at] = match random.below(4) {
                    0 => 0xc0,
                    1 => random.below(256) as u8,
                    2 => octets[at] ^ 1 << random.below(8),
                    _ => random.below(20) as u8,
                };
            }
        }
        let outcome = compare(&octets);
        same += outcome.same;
        refused += outcome.refused;
    }
    // Most of what is random is the same to all.
    assert!(same > 15_000 && refused > 15_000, "{same} {refused}");
}
