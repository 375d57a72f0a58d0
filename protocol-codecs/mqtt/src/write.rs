//! Putting fields into an output buffer.

use core::num::{NonZeroU16, NonZeroUsize};

use crate::error::{DecodeError, EncodeError};
use crate::frame::MAX_REMAINING_LENGTH;
use crate::number::PacketType;
use crate::text;

/// The output ends before the packet, which has been measured: does not happen. Without contents, so that
/// the results of writing stay in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overrun;

impl From<Overrun> for EncodeError {
    #[cold]
    fn from(_: Overrun) -> Self {
        Self::BufferTooSmall { needed: usize::MAX }
    }
}

/// The output that is left. The caller has measured the packet first; running out of space all the
/// same is an error, not a panic.
#[derive(Debug, Default)]
pub(crate) struct Writer<'a> {
    rest: &'a mut [u8],
}

impl<'a> Writer<'a> {
    /// Starts a packet of which `written` bytes of the `remaining_len` go into `out`; writes the fixed
    /// header. Also returns how many bytes that makes with the header.
    #[inline]
    pub(crate) fn packet(
        out: &'a mut [u8],
        packet_type: PacketType,
        flags: u8,
        remaining_len: usize,
        written: usize,
    ) -> Result<(Self, usize), EncodeError> {
        let needed = 1 + variable_byte_integer_len(remaining_len)? + written;
        let rest = out.get_mut(..needed).ok_or(EncodeError::BufferTooSmall { needed })?;
        let mut writer = Self { rest };
        writer.u8(packet_type.0 << 4 | flags)?;
        // Below 2^28, or the line above the last would have failed.
        writer.variable_byte_integer(remaining_len as u32)?;
        Ok((writer, needed))
    }

    #[inline]
    pub(crate) fn u8(&mut self, value: u8) -> Result<(), Overrun> {
        self.array([value])
    }

    #[inline]
    pub(crate) fn u16(&mut self, value: u16) -> Result<(), Overrun> {
        self.array(value.to_be_bytes())
    }

    #[inline]
    pub(crate) fn u32(&mut self, value: u32) -> Result<(), Overrun> {
        self.array(value.to_be_bytes())
    }

    #[inline]
    pub(crate) fn packet_id(&mut self, id: NonZeroU16) -> Result<(), Overrun> {
        self.u16(id.get())
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self, value: [u8; N]) -> Result<(), Overrun> {
        match core::mem::take(&mut self.rest).split_first_chunk_mut::<N>() {
            Some((place, rest)) => {
                *place = value;
                self.rest = rest;
                Ok(())
            }
            None => Err(Overrun),
        }
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Overrun> {
        match core::mem::take(&mut self.rest).split_at_mut_checked(bytes.len()) {
            Some((place, rest)) => {
                copy(place, bytes);
                self.rest = rest;
                Ok(())
            }
            None => Err(Overrun),
        }
    }

    /// Variable byte integer (§1.5.5).
    #[inline]
    pub(crate) fn variable_byte_integer(&mut self, mut value: u32) -> Result<(), Overrun> {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80)?;
            value >>= 7;
        }
        self.u8(value as u8)
    }

    /// Binary data (§1.5.6) or a string that was measured, and so checked, before.
    #[inline]
    pub(crate) fn field(&mut self, bytes: &[u8]) -> Result<(), Overrun> {
        // Measured before: fits.
        self.u16(bytes.len() as u16)?;
        self.bytes(bytes)
    }
}

/// Copies between slices of the same length. Most fields are short, and for those the call that
/// `copy_from_slice` makes takes longer than the copy; in wasm several times as long.
#[inline(always)]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        0..4 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        4..8 => copy_ends::<4>(to, from),
        8..16 => copy_ends::<8>(to, from),
        16..32 => copy_ends::<16>(to, from),
        32..=64 => copy_ends::<32>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first and the last `N` bytes, which may overlap.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
}

/// How many bytes a variable byte integer takes (§1.5.5); an error above its range.
#[inline]
pub(crate) const fn variable_byte_integer_len(value: usize) -> Result<usize, EncodeError> {
    match value {
        0..=127 => Ok(1),
        128..=16_383 => Ok(2),
        16_384..=2_097_151 => Ok(3),
        2_097_152..=268_435_455 => Ok(4),
        _ => Err(EncodeError::PacketTooLarge { remaining_len: value }),
    }
}

/// How many bytes a packet with this remaining length takes.
#[inline]
pub(crate) fn packet_len(remaining_len: usize) -> Result<usize, EncodeError> {
    Ok(1 + variable_byte_integer_len(remaining_len)? + remaining_len)
}

/// Checks the value of a variable byte integer.
#[inline]
pub(crate) fn check_variable_byte_integer(value: u32) -> Result<usize, EncodeError> {
    if value > MAX_REMAINING_LENGTH {
        return Err(EncodeError::VariableByteIntegerTooLarge(value));
    }
    variable_byte_integer_len(value as usize)
}

/// How many bytes binary data takes.
#[inline]
pub(crate) fn binary_len(bytes: &[u8]) -> Result<usize, EncodeError> {
    if bytes.len() > usize::from(u16::MAX) {
        return Err(EncodeError::FieldTooLong { len: bytes.len() });
    }
    Ok(2 + bytes.len())
}

/// How many bytes a string takes; an error if it contains U+0000.
#[inline(always)]
pub(crate) fn string_len(string: &str) -> Result<usize, EncodeError> {
    match valid_string_len(string) {
        Some(len) => Ok(len.get()),
        None => Err(string_error(string)),
    }
}

/// As [`string_len`], with a result that fits a register.
#[inline(never)]
fn valid_string_len(string: &str) -> Option<NonZeroUsize> {
    if string.len() > usize::from(u16::MAX) || text::has_null(string.as_bytes()) {
        return None;
    }
    NonZeroUsize::new(2 + string.len())
}

#[cold]
fn string_error(string: &str) -> EncodeError {
    if text::has_null(string.as_bytes()) {
        EncodeError::Refused(DecodeError::NullCharacter)
    } else {
        EncodeError::FieldTooLong { len: string.len() }
    }
}
