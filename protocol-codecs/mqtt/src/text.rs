//! Looking for forbidden bytes eight at a time: as fast in wasm, which has no vectors here, as natively.

// Each question is asked twice: first in a cheaper way that also says yes to some rare strings, which only
// then have to be looked at closely.

/// Whether the null character U+0000 is in the string (§1.5.4).
#[inline]
pub(crate) fn has_null(bytes: &[u8]) -> bool {
    #[inline(never)]
    fn indeed(bytes: &[u8]) -> bool {
        any(bytes, null)
    }
    any(bytes, null_or_not_ascii) && indeed(bytes)
}

/// Whether U+0000, `+` or `#` is in the string.
#[inline]
pub(crate) fn has_null_or_wildcard(bytes: &[u8]) -> bool {
    #[inline(never)]
    fn indeed(bytes: &[u8]) -> bool {
        any(bytes, null_or_wildcard)
    }
    may_have_null_or_wildcard(bytes) && indeed(bytes)
}

/// Whether U+0000, `+`, `#` or something much like them is in the string.
#[inline(always)]
pub(crate) fn may_have_null_or_wildcard(bytes: &[u8]) -> bool {
    any(bytes, like_null_or_wildcard)
}

/// The string that these bytes are. Nearly all are ASCII, which is quicker to see than UTF-8.
#[inline(always)]
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, core::str::Utf8Error> {
    match ascii::AsciiStr::from_ascii(bytes) {
        Ok(string) => Ok(string.as_str()),
        Err(_) => core::str::from_utf8(bytes),
    }
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Sets the highest bit of a byte that is zero, by borrowing from it; and of most that are not ASCII.
#[inline]
const fn null_or_not_ascii(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS)
}

/// Sets the highest bit of a byte that is zero. Subtracting 1 borrows from it; in a byte that had the
/// bit before it means nothing.
#[inline]
const fn null(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word
}

/// Sets the highest bit of a byte that has none but the bits that 0, `#` (0x23) and `+` (0x2b) have, the
/// highest aside. Of the printable ASCII characters, that is also the space and `!"()*`.
#[inline]
const fn like_null_or_wildcard(word: u64) -> u64 {
    (word & (0x54 * LOW_BITS)).wrapping_sub(LOW_BITS)
}

/// Sets the highest bit of a byte that is zero, `#` (0x23) or `+` (0x2b); the latter two differ in one
/// bit, and become zero together.
#[inline]
const fn null_or_wildcard(word: u64) -> u64 {
    let wildcard = (word & (0xf7 * LOW_BITS)) ^ (0x23 * LOW_BITS);
    (word.wrapping_sub(LOW_BITS) | wildcard.wrapping_sub(LOW_BITS)) & !word
}

/// Whether `test` sets the highest bit of some byte of the string.
///
/// Words may overlap. Up to 31 bytes there is no loop: in wasm each round of one costs extra.
#[inline(always)]
fn any(bytes: &[u8], test: impl Fn(u64) -> u64) -> bool {
    let test_16 = |bytes: &[u8; 16]| {
        let words = u128::from_le_bytes(*bytes);
        test(words as u64) | test((words >> 64) as u64)
    };
    let test_32 = |bytes: &[u8; 32]| match bytes.as_chunks::<16>().0 {
        [first, last] => test_16(first) | test_16(last),
        _ => 0,
    };
    let found = if let Some(last) = bytes.last_chunk::<32>() {
        let (chunks, _) = bytes.as_chunks::<32>();
        chunks.iter().fold(test_32(last), |found, chunk| found | test_32(chunk))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        test_16(first) | test_16(last)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        test(u64::from_le_bytes(*first)) | test(u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        test(u64::from(first) | u64::from(last) << 32)
    } else {
        bytes.iter().fold(0, |found, &byte| found | test(u64::from(byte) * LOW_BITS))
    };
    found & HIGH_BITS != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn every_byte_at_every_place_is_judged_alone() {
        for len in 1..=70 {
            for at in 0..len {
                for byte in [0, 1, 0x22, 0x23, 0x24, 0x2a, 0x2b, 0x2c, 0x7f, 0x80, 0xa3, 0xab, 0xff]
                {
                    for filler in [b'a', 0x01, 0x22, 0x24, 0x2a, 0x2c, 0x80, 0xff] {
                        let mut string = vec![filler; len];
                        string[at] = byte;
                        assert_eq!(has_null(&string), byte == 0);
                        assert_eq!(has_null_or_wildcard(&string), matches!(byte, 0 | b'+' | b'#'));
                    }
                }
            }
        }
    }

    #[test]
    fn the_empty_string_has_neither() {
        assert!(!has_null(b""));
        assert!(!has_null_or_wildcard(b""));
    }
}
