//! A first look at the options of a message, which for most messages is enough.
//!
//! It only finds that nothing is wrong. Where it is not sure of that, the options are read once more with
//! care, and what is wrong gets its name. A table of 16 KiB makes it fast, of which the messages of one kind
//! use a few lines.

use core::num::NonZeroU64;

use crate::number::OptionNumber;
use crate::option::{self, Definition, Format, PAYLOAD_MARKER, Scope};

/// An option whose number is small: the number, and above it [`TEXT`].
type Entry = u32;

/// The highest bit of a string that is no Uri-Host.
const TEXT: Entry = 0x40;

/// The numbers from this on are not small, and have the entry of this one.
const LARGE: u16 = 63;

/// Of an option whose value has to be looked at, because not every value of that length is allowed.
const ASK: Entry = 0x80;

/// Stands for any other option. [`ASK`] is part of it.
const OTHER: Entry = 0xff;

/// The entry of the option that a byte begins, by that byte, and then by the number of the option before it:
/// in this order, because that number is known last. It is [`OTHER`] unless the byte is the whole header, and
/// length and repetition are allowed.
static STEPS: [[u8; 64]; 256] = {
    let mut table = [[OTHER as u8; 64]; 256];
    let mut rest = table.as_flattened_mut();
    let mut place = 0;
    while let Some((entry, others)) = rest.split_first_mut() {
        let (delta, len, last) = (place >> 10, place >> 6 & 15, place & 63);
        let number = OptionNumber(last + delta);
        let definition = option::of(number);
        let ask = match definition.format {
            Format::HopLimit | Format::Block => ASK,
            Format::Segment if len == 1 || len == 2 => ASK,
            _ => 0,
        };
        if last < LARGE
            && number.0 < LARGE
            // It has to be ASCII by itself; see `Scan::host`.
            && number.0 != OptionNumber::URI_HOST.0
            && delta < 13
            && len < 13
            && definition.allows(len as usize, delta == 0)
        {
            *entry = (entry_of(number, definition) | ask) as u8;
        }
        place += 1;
        rest = others;
    }
    table
};

const fn entry_of(number: OptionNumber, definition: Definition) -> Entry {
    if number.0 >= LARGE {
        return LARGE as Entry;
    }
    let is_text = definition.is_string() && number.0 != OptionNumber::URI_HOST.0;
    number.0 as Entry | if is_text { TEXT } else { 0 }
}

#[inline(always)]
fn look_up(last: Entry, first: u8) -> Entry {
    // There is one for every byte and every number: no bounds are checked.
    let by_last = STEPS.get(usize::from(first));
    by_last
        .and_then(|by_last| by_last.get(last as usize & 63))
        .map_or(OTHER, |entry| Entry::from(*entry))
}

/// Finds where the options end, if every one keeps to its definition but for strings that are not UTF-8, and
/// whether all of those are ASCII. An end beyond `bytes` means that it is not sure.
#[inline(always)]
pub(crate) fn scan(bytes: &[u8], scope: Scope) -> (usize, bool) {
    const UNSURE: (usize, bool) = (usize::MAX, false);
    if scope.signal().is_some() {
        return UNSURE;
    }
    let mut scan = Scan { bytes, scope, at: 0, last: 0, large: 0 };
    // The stretch from the first to the last string is checked as a whole: it has only few other bytes in
    // it. A Uri-Host is checked by itself, because most often an option header follows that is not ASCII.
    scan.host();
    let text_from = loop {
        let from = scan.at + 1;
        let step = match scan.quick() {
            Step::Ask(first) => scan.slow(first),
            step => step,
        };
        match step {
            Step::Option if scan.last & TEXT != 0 => break from,
            Step::Option => {}
            Step::End => return (scan.at, true),
            Step::Ask(_) => return UNSURE,
        }
    };
    let mut text_to = scan.at;
    loop {
        let step = match scan.quick() {
            Step::Ask(first) => scan.slow(first),
            step => step,
        };
        match step {
            Step::Option if scan.last & TEXT != 0 => text_to = scan.at,
            Step::Option => {}
            Step::End => break,
            Step::Ask(_) => return UNSURE,
        }
    }
    (scan.at, bytes.get(text_from..text_to).is_some_and(is_ascii))
}

struct Scan<'a> {
    bytes: &'a [u8],
    scope: Scope,
    /// Where the last option ends, which may be beyond the end.
    at: usize,
    /// The last option.
    last: Entry,
    /// Its number, if that is not small.
    large: u16,
}

/// What a [`Scan`] comes upon.
enum Step {
    /// An option that keeps to its definition, but for not being ASCII if it is [`TEXT`].
    Option,
    End,
    /// What begins with this byte, of which it cannot tell.
    Ask(u8),
}

impl Scan<'_> {
    /// Takes an option of which the table tells enough.
    #[inline(always)]
    fn quick(&mut self) -> Step {
        let Some(&first) = self.bytes.get(self.at) else { return Step::End };
        let entry = look_up(self.last, first);
        let to = self.at + 1 + usize::from(first & 15);
        if entry & ASK != 0 {
            // The last byte tells most of what is not allowed: `.` and `..`, a block with the size exponent
            // 7, a Hop-Limit of zero. If there is no value, it is the header, which then tells nothing.
            let is_fine = match self.bytes.get(to - 1) {
                Some(b'.') => entry & TEXT == 0,
                Some(last) => entry & TEXT != 0 || *last != 0 && last & 7 != 7,
                None => false,
            };
            if entry == OTHER || !is_fine {
                return Step::Ask(first);
            }
        }
        self.last = entry;
        self.at = to;
        Step::Option
    }

    /// Takes a Uri-Host in front of the other options, if it is ASCII.
    #[inline(always)]
    fn host(&mut self) {
        let (from, len) = match *self.bytes {
            [first @ 0x31..0x3d, ..] => (1, usize::from(first & 15)),
            [0x3d, more @ ..=LONGEST, ..] => (2, 13 + usize::from(more)),
            _ => return,
        };
        if self.bytes.get(from..from + len).is_some_and(is_ascii) {
            self.at = from + len;
            self.last = Entry::from(OptionNumber::URI_HOST.0);
        }
    }

    /// Takes any other option.
    #[inline(always)]
    fn slow(&mut self, first: u8) -> Step {
        if first == PAYLOAD_MARKER && self.at + 1 < self.bytes.len() {
            return Step::End;
        }
        let last = if self.last == Entry::from(LARGE) { self.large } else { self.last as u16 & 63 };
        let Some(next) = slow(self.bytes, self.at, last, self.scope) else {
            return Step::Ask(first);
        };
        let next = next.get();
        self.last = Entry::from(next as u8);
        self.large = (next >> 8) as u16;
        self.at = (next >> 24) as usize;
        Step::Option
    }
}

/// The extension of the length of the longest Uri-Host, which has 255 bytes (§5.10.1).
const LONGEST: u8 = 255 - 13;

/// As [`Scan::slow`]: gives the option's entry, 8 bits above that its number, and 16 bits above that where it
/// ends. One word, because results of several go through memory.
#[inline(never)]
fn slow(bytes: &[u8], at: usize, last: u16, scope: Scope) -> Option<NonZeroU64> {
    let first = *bytes.get(at)?;
    let (delta, from) = extension(bytes, first >> 4, at + 1)?;
    let (len, from) = extension(bytes, first & 15, from)?;
    let to = from + len;
    let value = bytes.get(from..to)?;
    let number = OptionNumber(u16::try_from(usize::from(last) + delta).ok()?);
    let definition = option::definition(number);
    let is_fine = definition.allows(len, delta == 0)
        && match definition.format {
            Format::Segment => !option::is_dot_segment(value),
            Format::Block => !scope.is_udp() || value.last().is_none_or(|last| last & 7 != 7),
            Format::HopLimit => value != [0],
            Format::String => number != OptionNumber::URI_HOST || is_ascii(value),
            Format::Opaque | Format::Empty | Format::Uint => true,
        };
    if !is_fine {
        return None;
    }
    let entry = entry_of(number, definition);
    NonZeroU64::new((to as u64) << 24 | u64::from(number.0) << 8 | u64::from(entry))
}

/// The number that a nibble and its extension stand for, and where it ends.
#[inline(always)]
pub(crate) fn extension(bytes: &[u8], nibble: u8, at: usize) -> Option<(usize, usize)> {
    match nibble {
        0..13 => Some((usize::from(nibble), at)),
        13 => Some((13 + usize::from(*bytes.get(at)?), at + 1)),
        14 => {
            let extension = bytes.get(at..at + 2)?.first_chunk()?;
            Some((269 + usize::from(u16::from_be_bytes(*extension)), at + 2))
        }
        _ => None,
    }
}

/// As `is_ascii` of the standard library, which is slower for as few bytes as there are here. Words may
/// overlap.
#[inline(always)]
pub(crate) fn is_ascii(bytes: &[u8]) -> bool {
    let fold_16 = |bytes: &[u8; 16]| {
        let words = u128::from_le_bytes(*bytes);
        words as u64 | (words >> 64) as u64
    };
    let seen = if bytes.len() > 32 {
        let mut seen = bytes.last_chunk().map_or(0, fold_16);
        let mut rest = bytes;
        while let Some((chunk, after)) = rest.split_first_chunk() {
            seen |= fold_16(chunk);
            rest = after;
        }
        seen
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        fold_16(first) | fold_16(last)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        u64::from_le_bytes(*first) | u64::from_le_bytes(*last)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        u64::from(u32::from_le_bytes(*first) | u32::from_le_bytes(*last))
    } else {
        bytes.iter().fold(0, |seen, &byte| seen | u64::from(byte))
    };
    seen & 0x8080_8080_8080_8080 == 0
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::number::Code;

    proptest! {
        /// Bytes that look like options of many kinds.
        #[test]
        fn what_the_first_look_is_sure_of_a_careful_one_finds_too(
            bytes in proptest::collection::vec(prop_oneof![
                4 => select(vec![0x00_u8, 0x01, 0x02, 0x10, 0x11, 0x31, 0x41, 0xb1, 0x0d, 0xd1, 0xff]),
                2 => select(b"..az".to_vec()),
                2 => any::<u8>(),
            ], 0..40),
            code in select(vec![Code::GET, Code::CONTENT]),
            is_udp in any::<bool>(),
        ) {
            let scope = if is_udp { Scope::udp(code) } else { Scope::tcp(code) };
            let (end, true) = scan(&bytes, scope) else { return Ok(()) };
            if end <= bytes.len() {
                prop_assert_eq!(option::examine(&bytes, scope), Ok((end, option::SMALL)));
            }
        }
    }

    #[test]
    fn the_first_look_is_enough_for_what_is_frequent() {
        let scope = Scope::udp(Code::POST);
        for bytes in [
            b"".as_slice(),
            b"\x37coap.me\x82rd\x04node\x11\x28\x34ep=7\xc1\x0a",
            b"\x3d\x06gw.eu-1.example.com\x87devices\x0d\x00twelve-plus-1\x46unit=C\x21\x3c",
            b"\x44\x01\x02\x03\x04\x81\x32\x22\x01\x2c",
            b"\x61\xff\xd1\x0a\xfe\xd2\x22\xff\xff",
        ] {
            assert_eq!(scan(bytes, scope), (bytes.len(), true));
            let with_payload = [bytes, b"\xffpayload"].concat();
            assert_eq!(scan(&with_payload, scope), (bytes.len(), true));
        }
    }
}
