//! A first look at the options of a message, which for most messages is enough.
//!
//! It only finds that nothing is wrong. Where it is not sure of that, the options are read once more with
//! care, and what is wrong gets its name.

use core::num::NonZeroU64;

use crate::number::OptionNumber;
use crate::option::{self, Definition, Format, PAYLOAD_MARKER, Scope};

/// What is known of an option whose number is small, by bits: [`TEXT`], [`LOOK`], and above them the number.
type Entry = u32;

/// It is a string, and no Uri-Host.
const TEXT: Entry = 1;

/// Its value may be one that is not allowed: see [`look`].
const LOOK: Entry = 2;

/// None of them; with [`LOOK`], because a look has to be taken anyhow.
const ASK: Entry = u8::MAX as Entry;

/// Stands for the numbers that are not small.
const LARGE: Entry = 63 << 2;

const HOST: Entry = (OptionNumber::URI_HOST.0 as Entry) << 2 | LOOK;

/// The entry of the option that a byte begins, by the number of the option before it and that byte. [`ASK`],
/// unless the byte is its whole header and its length and repetition are allowed.
static STEPS: [u8; 64 << 8] = {
    let mut table = [ASK as u8; 64 << 8];
    let mut rest = table.as_mut_slice();
    let mut place = 0;
    while let Some((entry, others)) = rest.split_first_mut() {
        let (last, delta, len) = (place >> 8, place >> 4 & 15, place & 15);
        let number = OptionNumber(last + delta);
        let definition = option::of(number);
        if last < 63
            && delta < 13
            && len < 13
            && number.0 < 63
            && definition.allows(len as usize, delta == 0)
        {
            let look = if has_rules(definition.format, number, len as usize) { LOOK } else { 0 };
            *entry = (entry_of(number, definition) | look) as u8;
        }
        place += 1;
        rest = others;
    }
    table
};

const fn entry_of(number: OptionNumber, definition: Definition) -> Entry {
    if number.0 >= 63 {
        return LARGE;
    }
    let text =
        if definition.is_string() && number.0 != OptionNumber::URI_HOST.0 { TEXT } else { 0 };
    (number.0 << 2) as Entry | text
}

#[inline(always)]
fn look_up(last: Entry, first: u8) -> Entry {
    let place = (last & 0xfc) << 6 | u32::from(first);
    // The table has 2^14 entries, one for every place.
    STEPS.get(place as usize).map_or(ASK, |entry| Entry::from(*entry))
}

/// What is allowed of a string of 12 bytes is allowed of one of up to 255.
const _: () = {
    let mut number = 0;
    while number < 63 {
        let definition = option::of(OptionNumber(number));
        assert!(!definition.is_string() || definition.allows_len(12) && definition.allows_len(255));
        number += 1;
    }
};

/// What [`scan`] says if it is not sure.
const UNSURE: usize = usize::MAX;

/// Finds where the options end, if every one keeps to its definition and every string is ASCII. Whatever is
/// beyond `bytes` means that it is not sure of that.
#[inline(always)]
pub(crate) fn scan(bytes: &[u8], scope: Scope) -> usize {
    if scope.signal().is_some() {
        return UNSURE;
    }
    let mut scan = Scan { bytes, scope, at: 0, last: 0, large: 0 };
    // The stretch from the first to the last string is checked as a whole: it has only few other bytes in
    // it. A Uri-Host is checked by itself, because most often an option header follows that is not ASCII.
    let text_from = loop {
        let from = scan.at + 1;
        match scan.step() {
            Step::Option if scan.last & TEXT != 0 => break from,
            Step::Option => {}
            Step::End => return scan.at,
            Step::Unsure => return UNSURE,
        }
    };
    let mut text_to = scan.at;
    loop {
        match scan.step() {
            Step::Option if scan.last & TEXT != 0 => text_to = scan.at,
            Step::Option => {}
            Step::End => break,
            Step::Unsure => return UNSURE,
        }
    }
    if bytes.get(text_from..text_to).is_some_and(is_ascii) { scan.at } else { UNSURE }
}

struct Scan<'a> {
    bytes: &'a [u8],
    scope: Scope,
    /// Where the last option ends, which may be beyond the end.
    at: usize,
    /// The last option.
    last: Entry,
    /// Its number, if it is [`LARGE`].
    large: u16,
}

/// What a [`Scan`] comes upon.
enum Step {
    /// An option that keeps to its definition, but for not being ASCII if it is [`TEXT`].
    Option,
    End,
    Unsure,
}

impl Scan<'_> {
    #[inline(always)]
    fn step(&mut self) -> Step {
        let Some(&first) = self.bytes.get(self.at) else { return Step::End };
        let mut from = self.at + 1;
        let mut to = from + usize::from(first & 15);
        let mut entry = look_up(self.last, first);
        if entry & LOOK != 0 {
            // A string with one byte of extension; `242` is where its length is 255.
            if first & 15 == 13
                && let Some(&more @ ..=242) = self.bytes.get(from)
            {
                let like = look_up(self.last, first - 1);
                if like != ASK && (like & TEXT != 0 || like == HOST) {
                    entry = like;
                    from += 1;
                    to = from + 13 + usize::from(more);
                }
            }
            if entry == ASK {
                return self.stride(first);
            }
            if entry & LOOK != 0 {
                let Some(value) = self.bytes.get(from..to) else { return Step::Unsure };
                // Of these, a Uri-Host is the most frequent.
                let is_host = entry == HOST;
                if !(if is_host { is_ascii(value) } else { look(entry, value, self.scope) }) {
                    return Step::Unsure;
                }
            }
        }
        self.last = entry;
        self.at = to;
        Step::Option
    }

    #[inline(always)]
    fn stride(&mut self, first: u8) -> Step {
        if first == PAYLOAD_MARKER && self.at + 1 < self.bytes.len() {
            return Step::End;
        }
        let last = if self.last == LARGE { self.large } else { (self.last >> 2) as u16 };
        let Some(next) = stride(self.bytes, self.at, last, self.scope) else {
            return Step::Unsure;
        };
        let next = next.get();
        self.last = Entry::from(next as u8);
        self.large = (next >> 8) as u16;
        self.at = (next >> 24) as usize;
        Step::Option
    }
}

/// As [`Scan::step`], for any option: its entry, its number 8 bits above that, and 16 bits above that where
/// it ends. One word, because results of several go through memory.
#[inline(never)]
fn stride(bytes: &[u8], at: usize, last: u16, scope: Scope) -> Option<NonZeroU64> {
    let first = *bytes.get(at)?;
    let (delta, from) = extension(bytes, first >> 4, at + 1)?;
    let (len, from) = extension(bytes, first & 15, from)?;
    let to = from + len;
    let value = bytes.get(from..to)?;
    let number = OptionNumber(u16::try_from(usize::from(last) + delta).ok()?);
    let definition = option::of(number);
    if !definition.allows(len, delta == 0) {
        return None;
    }
    let entry = entry_of(number, definition);
    if has_rules(definition.format, number, len) && !look(entry, value, scope) {
        return None;
    }
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

/// Whether a value of this length may be one that [`look`] refuses.
#[inline(always)]
const fn has_rules(format: Format, number: OptionNumber, len: usize) -> bool {
    match format {
        Format::HopLimit | Format::Block => true,
        Format::Segment => matches!(len, 1 | 2),
        Format::String => number.0 == OptionNumber::URI_HOST.0,
        Format::Opaque | Format::Empty | Format::Uint => false,
    }
}

/// Whether the value of an option with rules is one that they allow, and ASCII if it is a Uri-Host.
#[inline(never)]
fn look(entry: Entry, value: &[u8], scope: Scope) -> bool {
    match OptionNumber((entry >> 2) as u16) {
        OptionNumber::URI_HOST => is_ascii(value),
        OptionNumber::HOP_LIMIT => value != [0],
        OptionNumber::URI_PATH | OptionNumber::LOCATION_PATH => !option::is_dot_segment(value),
        // A block.
        _ => !scope.is_udp() || value.last().is_none_or(|last| last & 7 != 7),
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
            let end = scan(&bytes, scope);
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
            assert_eq!(scan(bytes, scope), bytes.len());
            assert_eq!(scan(&[bytes, b"\xffpayload"].concat(), scope), bytes.len());
        }
    }
}
