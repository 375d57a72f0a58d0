//! Taking fields off the front of a packet.
//!
//! Results in here carry their error beside them, in the [`Reader`]: then a `Result<&str, Refused>` is
//! as big as a `&str` and travels in registers, which makes decoding twice as fast.

use core::num::NonZeroU16;

use crate::error::DecodeError;
use crate::number::PacketType;
use crate::text;

/// The part of a packet that is still to be read.
///
/// Most strings of a packet lie close together with only small numbers between them, so the whole
/// stretch is usually valid UTF-8. It is checked in one go, and the strings are then cut out of it,
/// which needs no second check; neither now nor when an iterator comes by again.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// A stretch known to be UTF-8 that ends where `rest` ends; or empty.
    text: &'a str,
    /// With how many bytes left or fewer it is worth looking for such a stretch: beyond the last byte
    /// that cut one short. Keeps the total work linear.
    text_worthwhile: usize,
    /// Of no meaning as long as nothing was refused.
    error: DecodeError,
}

/// The packet is refused; the reader knows why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused(());

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest, text: "", text_worthwhile: usize::MAX, error: DecodeError::TrailingBytes(0) }
    }

    /// Reads again what was read before; `text` is what [`text`](Self::text) gave at the end.
    #[inline]
    pub(crate) const fn again(rest: &'a [u8], text: &'a str) -> Self {
        Self { rest, text, text_worthwhile: 0, error: DecodeError::TrailingBytes(0) }
    }

    /// Notes why the packet is refused.
    #[inline]
    pub(crate) fn refuse(&mut self, error: impl Into<DecodeError>) -> Refused {
        core::hint::cold_path();
        self.error = error.into();
        Refused(())
    }

    /// Why the packet was refused; takes the evidence that it was.
    #[inline]
    pub(crate) fn error(&self, Refused(()): Refused) -> DecodeError {
        self.error
    }

    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) const fn text(&self) -> &'a str {
        self.text
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn finish(&mut self) -> Result<(), Refused> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.refuse(trailing(self.rest))) }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Refused> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Refused> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Refused> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        match self.rest.split_first_chunk::<N>() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(*array)
            }
            None => Err(self.refuse(truncated(N, self.rest))),
        }
    }

    #[inline]
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Refused> {
        match self.rest.split_at_checked(len) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self.refuse(truncated(len, self.rest))),
        }
    }

    /// A reader for the next `len` bytes.
    #[inline]
    pub(crate) fn split(&mut self, len: usize) -> Result<Self, Refused> {
        let part = self.bytes(len)?;
        let text = match self.text.len().checked_sub(self.rest.len()) {
            Some(end) => self.text.get(..end).unwrap_or_default(),
            None => "",
        };
        Ok(Self { rest: part, text, ..Self::new(&[]) })
    }

    #[inline]
    pub(crate) fn packet_id(&mut self, packet_type: PacketType) -> Result<NonZeroU16, Refused> {
        match self.rest.split_first_chunk::<2>() {
            Some((id, rest)) => {
                self.rest = rest;
                let id = NonZeroU16::new(u16::from_be_bytes(*id));
                id.ok_or_else(|| self.refuse(DecodeError::PacketIdZero))
            }
            None => Err(self.refuse(DecodeError::PacketIdMissing(packet_type))),
        }
    }

    /// Variable byte integer (§1.5.5).
    #[inline]
    pub(crate) fn variable_byte_integer(&mut self) -> Result<u32, Refused> {
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u32::from(byte));
        }
        match variable_byte_integer(self.rest) {
            Ok(Some((value, len))) => self.bytes(len).map(|_| value),
            Ok(None) => Err(self.refuse(truncated(self.rest.len() + 1, self.rest))),
            Err(error) => Err(self.refuse(error)),
        }
    }

    /// Binary data (§1.5.6).
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Refused> {
        let len = self.u16()?;
        self.bytes(usize::from(len))
    }

    /// A string that stands alone between binary fields, checked except for U+0000.
    #[inline(always)]
    pub(crate) fn lone_string(&mut self) -> Result<&'a str, Refused> {
        let field = self.binary()?;
        text::utf8(field).map_err(|error| self.refuse(invalid_utf8(error)))
    }

    /// UTF-8 encoded string (§1.5.4), checked if `FIRST`; else the same bytes were read before.
    #[inline(always)]
    pub(crate) fn string<const FIRST: bool>(&mut self) -> Result<&'a str, Refused> {
        let string = self.string_or_null::<FIRST>()?;
        if FIRST && text::has_null(string.as_bytes()) {
            return Err(self.refuse(DecodeError::NullCharacter));
        }
        Ok(string)
    }

    /// A string, checked except for U+0000.
    #[inline(always)]
    pub(crate) fn string_or_null<const FIRST: bool>(&mut self) -> Result<&'a str, Refused> {
        let len = usize::from(self.u16()?);
        // Out of bounds if there is not as much text as there are bytes left.
        let text_from = self.text.len().wrapping_sub(self.rest.len());
        if let Some((string, rest)) =
            self.text.get(text_from..).and_then(|text| text.split_at_checked(len))
        {
            self.rest = rest.as_bytes();
            return Ok(string);
        }
        self.string_beyond_text::<FIRST>(len)
    }

    /// The string in front, which does not lie in a stretch of text known so far.
    #[inline(never)]
    fn string_beyond_text<const FIRST: bool>(&mut self, len: usize) -> Result<&'a str, Refused> {
        let start = self.rest;
        let field = self.bytes(len)?;
        if FIRST && start.len() <= self.text_worthwhile {
            match core::str::from_utf8(start) {
                Ok(text) => {
                    self.text = text;
                    if let Some(string) = text.get(..len) {
                        return Ok(string);
                    }
                }
                Err(error) => self.text_worthwhile = start.len() - error.valid_up_to() - 1,
            }
        }
        text::utf8(field).map_err(|error| self.refuse(invalid_utf8(error)))
    }
}

/// The value and length of the variable byte integer in front; `None` if it does not end (§1.5.5).
#[inline]
pub(crate) fn variable_byte_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    let mut len = 0;
    for &byte in bytes.iter().take(4) {
        value |= u32::from(byte & 0x7f) << (7 * len);
        len += 1;
        if byte < 0x80 {
            if byte == 0 && len > 1 {
                return Err(DecodeError::VariableByteIntegerNotMinimal(value));
            }
            return Ok(Some((value, len)));
        }
    }
    if len == 4 { Err(DecodeError::VariableByteIntegerTooLong) } else { Ok(None) }
}

#[cold]
pub(crate) fn truncated(needed: usize, rest: &[u8]) -> DecodeError {
    DecodeError::Truncated { needed: saturate(needed), available: saturate(rest.len()) }
}

#[cold]
fn trailing(rest: &[u8]) -> DecodeError {
    DecodeError::TrailingBytes(saturate(rest.len()))
}

#[cold]
fn invalid_utf8(error: core::str::Utf8Error) -> DecodeError {
    DecodeError::InvalidUtf8 { valid_up_to: u16::try_from(error.valid_up_to()).unwrap_or(u16::MAX) }
}

fn saturate(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
