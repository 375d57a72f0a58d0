//! Putting fields into an output buffer.

use crate::error::EncodeError;

/// The longest value that an option header can announce (§3.1).
pub(crate) const MAX_OPTION_LEN: usize = 65_804;

/// The output ends before the message, which has been measured: does not happen. Without contents, so that
/// the results of writing stay in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overrun;

impl From<Overrun> for EncodeError {
    #[cold]
    fn from(_: Overrun) -> Self {
        Self::BufferTooSmall { needed: usize::MAX }
    }
}

/// The output that is left. The caller has measured the message first; running out of space all the same
/// is an error, not a panic.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    rest: &'a mut [u8],
}

impl<'a> Writer<'a> {
    /// Writes to the first `needed` bytes of `out`.
    #[inline(always)]
    pub(crate) fn new(out: &'a mut [u8], needed: usize) -> Result<Self, EncodeError> {
        match out.get_mut(..needed) {
            Some(rest) => Ok(Self { rest }),
            None => Err(EncodeError::BufferTooSmall { needed }),
        }
    }

    #[inline(always)]
    pub(crate) fn u8(&mut self, value: u8) -> Result<(), Overrun> {
        self.array([value])
    }

    #[inline(always)]
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

    #[inline(always)]
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
}

/// Copies between slices of the same length. Most fields are short, and for those the call that
/// `copy_from_slice` makes takes longer than the copy; in wasm several times as long.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
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
