//! Looking for forbidden bytes eight at a time: as fast in wasm, which has no vectors here, as natively.

/// Whether the null character U+0000 is in the string (§1.5.4).
#[inline]
pub(crate) fn has_null(bytes: &[u8]) -> bool {
    any(bytes, null)
}

/// Whether U+0000, `+` or `#` is in the string.
#[inline]
pub(crate) fn has_null_or_wildcard(bytes: &[u8]) -> bool {
    any(bytes, null_or_wildcard)
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Sets the highest bit of a byte that is zero. Subtracting 1 borrows from it; in a byte that had the
/// bit before it means nothing.
#[inline]
const fn null(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word
}

/// Sets the highest bit of a byte that is zero, `#` (0x23) or `+` (0x2b); the latter two differ in one
/// bit, and become zero together.
#[inline]
const fn null_or_wildcard(word: u64) -> u64 {
    let wildcard = (word & (0xf7 * LOW_BITS)) ^ (0x23 * LOW_BITS);
    (word.wrapping_sub(LOW_BITS) | wildcard.wrapping_sub(LOW_BITS)) & !word
}

/// Whether `test` sets the highest bit of some byte of the string. Words may overlap, and the word of
/// a short string repeats some of its bytes.
#[inline(always)]
fn any(bytes: &[u8], test: impl Fn(u64) -> u64) -> bool {
    let found = if let Some(last) = bytes.last_chunk::<8>() {
        let (words, _) = bytes.as_chunks::<8>();
        words.iter().fold(test(u64::from_le_bytes(*last)), |found, word| {
            found | test(u64::from_le_bytes(*word))
        })
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
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
        for len in 1..=40 {
            for at in 0..len {
                for byte in 0..=255 {
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
