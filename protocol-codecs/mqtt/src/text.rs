//! Looking for forbidden bytes eight at a time: as fast in wasm, which has no vectors here, as natively.

/// Whether the null character U+0000 is in the string (§1.5.4).
#[inline]
pub(crate) fn has_null(bytes: &[u8]) -> bool {
    any(bytes, zero_bytes)
}

/// Whether U+0000, `+` or `#` is in the string.
#[inline]
pub(crate) fn has_null_or_wildcard(bytes: &[u8]) -> bool {
    any(bytes, |word| zero_bytes(word) | wildcard_bytes(word))
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Not zero exactly if one of the eight bytes is zero.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word & HIGH_BITS
}

/// Not zero exactly if one of the eight bytes is `#` (0x23) or `+` (0x2b), which differ in one bit.
#[inline]
const fn wildcard_bytes(word: u64) -> u64 {
    zero_bytes((word & (0xf7 * LOW_BITS)) ^ (0x23 * LOW_BITS))
}

/// Whether `test` is not zero for some word of the string. Words may overlap, and a short string's
/// word repeats some of its bytes.
#[inline]
fn any(bytes: &[u8], test: impl Fn(u64) -> u64) -> bool {
    if let Some(last) = bytes.last_chunk::<8>() {
        let (words, _) = bytes.as_chunks::<8>();
        let found = words.iter().fold(test(u64::from_le_bytes(*last)), |found, word| {
            found | test(u64::from_le_bytes(*word))
        });
        return found != 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return test(u64::from(first) | u64::from(last) << 32) != 0;
    }
    bytes.iter().any(|&byte| test(u64::from(byte) * LOW_BITS) != 0)
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
