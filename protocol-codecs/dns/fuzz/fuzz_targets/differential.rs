//! Beside other implementations: what only we take or only we refuse, and what is read differently, has an explanation.
//!
//! With the first octet odd the input is a message as it stands; else one is built from choices, and then changed.
#![no_main]

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

    /// A name: labels, or a pointer to the question's.
    fn name(&mut self) -> Vec<u8> {
        let mut name = Vec::new();
        for _ in 0..self.octet() % 4 {
            let label = self.octets(9);
            if !label.is_empty() {
                name.push(label.len() as u8);
                name.extend(label);
            }
        }
        match self.octet() % 4 {
            0 => name.extend([0xc0, 12]),
            _ => name.push(0),
        }
        name
    }
}

const TYPES: [u16; 28] = [
    1, 2, 5, 6, 12, 13, 15, 16, 17, 18, 28, 29, 33, 35, 39, 41, 43, 46, 47, 48, 50, 51, 52, 64, 65,
    99, 250, 257,
];

/// RDATA of about this type.
fn rdata(choices: &mut Choices<'_>, record_type: u16) -> Vec<u8> {
    let mut data = Vec::new();
    match record_type {
        _ if choices.octet() % 8 == 7 => data.extend(choices.octets(30)),
        1 => data.extend([192, 0, 2, choices.octet() as u8]),
        28 => data.extend([7; 16]),
        2 | 5 | 12 | 39 => data = choices.name(),
        6 => {
            data = [choices.name(), choices.name()].concat();
            data.extend([1; 20]);
        }
        15 | 18 => data = [vec![0, 1], choices.name()].concat(),
        17 => data = [choices.name(), choices.name()].concat(),
        33 => data = [vec![0, 1, 0, 2, 0, 3], choices.name()].concat(),
        13 | 16 | 99 => {
            for _ in 0..=choices.octet() % 3 {
                let text = choices.octets(12);
                data.push(text.len() as u8);
                data.extend(text);
            }
        }
        35 => {
            data.extend([0, 1, 0, 2]);
            for _ in 0..3 {
                let text = choices.octets(6);
                data.push(text.len() as u8);
                data.extend(text);
            }
            data.extend(choices.name());
        }
        41 => {
            for _ in 0..choices.octet() % 3 {
                let code = [3_u16, 8, 10, 11, 12, 15, 65_001][choices.octet() % 7];
                let value = choices.octets(12);
                data.extend([code.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat());
                data.extend(value);
            }
        }
        64 | 65 => {
            data = [vec![0, 1], choices.name()].concat();
            for key in 0..choices.octet() % 7 {
                let value = choices.octets(12);
                data.extend(
                    [(key as u16).to_be_bytes(), (value.len() as u16).to_be_bytes()].concat(),
                );
                data.extend(value);
            }
        }
        46 => {
            data.extend([0, 1, 8, 2, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 9, 0, 7]);
            data.extend(choices.name());
            data.extend(choices.octets(20));
        }
        47 => {
            data = choices.name();
            data.extend([0, 3, 0x62, 1, 0x80]);
        }
        _ => data.extend(choices.octets(30)),
    }
    data
}

fn built(choices: &mut Choices<'_>) -> Vec<u8> {
    let counts = [choices.octet() % 3, choices.octet() % 3, choices.octet() % 3];
    let mut octets = vec![0, 7, choices.octet() as u8, choices.octet() as u8, 0, 1];
    for count in counts {
        octets.extend([0, count as u8]);
    }
    octets.extend(choices.name());
    octets.extend([0, 1, 0, 1]);
    for _ in 0..counts.iter().sum() {
        let record_type = TYPES[choices.octet() % TYPES.len()];
        let name = if record_type == 41 { vec![0] } else { choices.name() };
        let class = [1_u16, 1, 1, 3, 254, 255][choices.octet() % 6];
        let data = rdata(choices, record_type);
        octets.extend(name);
        octets.extend([record_type.to_be_bytes(), class.to_be_bytes()].concat());
        octets.extend([0, 0, 0, choices.octet() as u8]);
        octets.extend((data.len() as u16).to_be_bytes());
        octets.extend(data);
    }
    octets
}

fuzz_target!(|input: &[u8]| {
    let Some((mode, octets)) = input.split_first() else { return };
    if mode & 1 == 1 {
        others::compare(octets);
        return;
    }
    let mut choices = Choices(octets);
    let changes = choices.octet() % 4;
    let mut octets = built(&mut choices);
    for _ in 0..changes {
        let at = choices.octet() % octets.len();
        octets[at] = choices.octet() as u8;
    }
    others::compare(&octets);
});
