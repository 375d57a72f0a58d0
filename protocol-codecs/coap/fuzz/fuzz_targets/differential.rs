//! Beside other implementations: what only we take or only we refuse, and what is read differently, has an explanation.
//!
//! With the first octet odd the input is a datagram as it stands; else one is built by our encoder from choices, and then changed.
#![no_main]

use codec_coap::{CoapOption, Code, Message, MessageType, OptionNumber, Options};
use libfuzzer_sys::fuzz_target;

#[path = "../../bench/tests/others/mod.rs"]
mod others;

struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn octet(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn octets(&mut self, most: usize) -> &'a [u8] {
        let len = (self.octet() % (most + 1)).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }
}

/// Those that a standard defines, and numbers that need one and two more octets.
const NUMBERS: [u16; 26] = [
    1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 20, 23, 27, 28, 35, 39, 60, 252, 258, 292,
    2049, 65_535,
];

fn built(choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    let mut options: Vec<(u16, &[u8])> = (0..choices.octet() % 6)
        .map(|_| (NUMBERS[choices.octet() % NUMBERS.len()], choices.octets(20)))
        .collect();
    options.sort_by_key(|(number, _)| *number);
    let options: Vec<CoapOption<'_>> = options
        .into_iter()
        .map(|(number, value)| CoapOption::new(OptionNumber(number), value))
        .collect();
    let message = Message {
        message_type: MessageType::from_bits(choices.octet() as u8 & 3),
        code: Code(choices.octet() as u8),
        message_id: choices.octet() as u16,
        token: choices.octets(8),
        options: Options::from(&*options),
        payload: choices.octets(20),
    };
    let mut octets = vec![0; message.encoded_len().ok()?];
    message.encode(&mut octets).ok()?;
    Some(octets)
}

fuzz_target!(|input: &[u8]| {
    let Some((mode, octets)) = input.split_first() else { return };
    if mode & 1 == 1 {
        others::compare(octets);
        return;
    }
    let mut choices = Choices(octets);
    let changes = choices.octet() % 4;
    let Some(mut octets) = built(&mut choices) else { return };
    for _ in 0..changes {
        let at = choices.octet() % octets.len();
        octets[at] = choices.octet() as u8;
    }
    others::compare(&octets);
});
