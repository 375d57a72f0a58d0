//! Variable-length integers (RFC 9000 §16).

use crate::{Decoded, EncodeError};

/// The largest integer.
pub const MAX: u64 = (1 << 62) - 1;

/// Reads the integer in front of the bytes; a longer form than necessary is as good as any.
#[inline]
pub fn decode(bytes: &[u8]) -> Decoded<u64> {
    let Some(&first) = bytes.first() else { return Decoded::Incomplete { needed: 1 } };
    let consumed = 1 << (first >> 6);
    let Some(integer) = bytes.get(..consumed) else {
        return Decoded::Incomplete { needed: consumed };
    };
    let value = integer.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
    Decoded::Complete { value: value & (u64::MAX >> (66 - 8 * consumed)), consumed }
}

/// How many bytes the integer takes: 1, 2, 4 or 8.
///
/// # Errors
///
/// [`EncodeError::IntegerTooLarge`] above [`MAX`].
#[inline]
pub const fn len(value: u64) -> Result<usize, EncodeError> {
    match value {
        0..=0x3f => Ok(1),
        0x40..=0x3fff => Ok(2),
        0x4000..=0x3fff_ffff => Ok(4),
        0x4000_0000..=MAX => Ok(8),
        _ => Err(EncodeError::IntegerTooLarge(value)),
    }
}

/// Writes the integer to the front of `out`, in as few bytes as it takes; says how many.
///
/// # Errors
///
/// An integer above [`MAX`], or an `out` that is too short; then nothing is written.
#[inline]
pub fn encode(value: u64, out: &mut [u8]) -> Result<usize, EncodeError> {
    let needed = len(value)?;
    let out = out.get_mut(..needed).ok_or(EncodeError::BufferTooSmall { needed })?;
    let form = (needed.trailing_zeros() as u64) << (8 * needed - 2);
    let bytes = (value | form).to_be_bytes();
    if let Some(bytes) = bytes.get(8 - needed..) {
        out.copy_from_slice(bytes);
    }
    Ok(needed)
}
