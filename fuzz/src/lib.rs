//! What the targets have in common: choices from the fuzzer's octets, and HTTP/2 frames written by hand, which need not be
//! right.

use bridge::Surroundings;

/// A client without TLS.
pub struct NoTls;

impl Surroundings for NoTls {
    fn server_name(&self) -> Option<String> {
        None
    }
}

/// The fuzzer's octets as choices. When they are used up, the first of everything is chosen.
#[derive(Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// All of an input.
    pub fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// Whether nothing is left to choose with.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first) % n
    }

    /// Once in so many times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Any number of 32 bits, small ones more often.
    pub fn number(&mut self) -> u32 {
        let len = self.below(6).min(4);
        self.octets_of(len).iter().fold(0, |number, octet| number << 8 | u32::from(*octet))
    }

    /// Up to so many octets, as they stand.
    pub fn octets(&mut self, most: usize) -> &'a [u8] {
        let len = self.below(most + 1);
        self.octets_of(len)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn octets_of(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// How an HTTP/2 client begins (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113 §6).
pub mod kind {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header field that is in no table, neither the name nor the value (RFC 7541 §6.2.2).
pub fn field(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        let len = text.len();
        if len < 127 {
            block.push(len as u8);
        } else {
            // RFC 7541 §5.1, for lengths up to 16,510.
            block.extend([127, (len - 127) as u8 | 0x80, ((len - 127) >> 7) as u8]);
        }
        block.extend(text);
    }
}

/// A frame that is about right, with anything in it: of a peer that opens streams with these header blocks.
pub fn any_frame(choices: &mut Choices<'_>, blocks: &[Vec<u8>]) -> Vec<u8> {
    let stream = match choices.below(8) {
        0 => 0,
        1 => choices.number(),
        n => 2 * n as u32 - 3,
    };
    // END_STREAM or ACK, END_HEADERS, PADDED, PRIORITY, or what is chosen.
    let flags = choices.one_of(&[0, 1, 4, 5, 5, 4, 0x0c, 0x2d, 0xff]);
    match choices.below(16) {
        0..=3 => {
            let mut block = blocks[choices.below(blocks.len())].clone();
            if choices.once_in(8) {
                let at = choices.below(256) % (block.len() + 1);
                block.splice(at..at, choices.octets(20).iter().copied());
            }
            frame(kind::HEADERS, flags, stream, &block)
        }
        4..=7 => frame(kind::DATA, flags & 9, stream, choices.octets(120)),
        8 => {
            let mut settings = Vec::new();
            for _ in 0..choices.below(4) {
                settings.extend((choices.below(10) as u16).to_be_bytes());
                settings.extend(choices.number().to_be_bytes());
            }
            frame(kind::SETTINGS, flags & 1, if choices.once_in(8) { stream } else { 0 }, &settings)
        }
        9 | 10 => frame(kind::WINDOW_UPDATE, 0, stream, &choices.number().to_be_bytes()),
        11 => frame(kind::RST_STREAM, 0, stream, &choices.number().to_be_bytes()),
        12 => frame(kind::PING, flags & 1, 0, &[7; 8]),
        13 => {
            let promise = [stream.to_be_bytes().to_vec(), blocks[0].clone()].concat();
            match choices.below(4) {
                0 => frame(kind::GOAWAY, 0, 0, &[stream.to_be_bytes(), [0; 4]].concat()),
                1 => frame(kind::PUSH_PROMISE, flags, stream, &promise),
                _ => frame(kind::CONTINUATION, flags & 4, stream, choices.octets(40)),
            }
        }
        14 => frame(choices.below(256) as u8, flags, stream, choices.octets(40)),
        _ => choices.octets(40).to_vec(),
    }
}
