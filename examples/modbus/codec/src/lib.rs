//! Modbus/TCP frames: zero-copy decoding and encoding without allocation.
//!
//! [`decode`] turns the front of a byte stream into a [`Frame`], whose PDU is left as it is but for its function code;
//! [`Frame::encode`] writes one. Section numbers are those of *MODBUS Messaging on TCP/IP Implementation Guide V1.0b*
//! (MBTCP) and of *MODBUS Application Protocol Specification V1.1b3* (MBAP).
//!
//! ```
//! use codec_modbus::{Decoded, Frame, Function, decode};
//!
//! let bytes = [0x15, 0x01, 0, 0, 0, 6, 0xff, 3, 0, 4, 0, 1];
//! let Decoded::Complete { frame, consumed: 12 } = decode(&bytes)? else { panic!() };
//! assert_eq!((frame.transaction, frame.unit), (0x1501, 0xff));
//! assert_eq!(frame.function, Function::READ_HOLDING_REGISTERS);
//! assert_eq!(frame.span().map(|span| (span.first, span.last)), Some((4, 4)));
//! # Ok::<(), codec_modbus::DecodeError>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

mod numbers;

pub use numbers::{Exception, Function};

/// The longest frame: seven bytes of header and a PDU of 253 (MBAP §4.1).
pub const MAX_FRAME_LEN: usize = 260;

/// The most bytes behind the function code.
pub const MAX_DATA_LEN: usize = 252;

/// What stands before the data: the header and the function code.
const PREFIX_LEN: usize = 8;

/// The bytes that the length field does not count.
const UNCOUNTED: usize = 6;

/// One frame, borrowing from the bytes it was decoded from (MBTCP §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Chosen by the client, and the same in the answer.
    pub transaction: u16,
    /// Which device behind a gateway is meant; 0 or 255 where there is none but the server itself.
    pub unit: u8,
    /// What is to be done; in an answer that is an exception, with the highest bit set.
    pub function: Function,
    /// What follows the function code: at most [`MAX_DATA_LEN`] bytes.
    pub data: &'a [u8],
}

/// The outcome of decoding the front of a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole frame.
    Complete {
        /// The frame.
        frame: Frame<'a>,
        /// How many bytes of the input it took.
        consumed: usize,
    },
    /// The input ends too early.
    Incomplete {
        /// How many bytes must be there before another attempt can get further. Always more than there were, and at
        /// most [`MAX_FRAME_LEN`].
        needed: usize,
    },
}

/// The addresses of the coils or registers that a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

/// Decodes the frame in front of a byte stream. What is wrong with its header is found before the frame is complete.
///
/// # Errors
///
/// A header that cannot be one; where the next frame begins is not known then.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, DecodeError> {
    let Some((header, _)) = bytes.split_first_chunk::<PREFIX_LEN>() else {
        return Ok(Decoded::Incomplete { needed: PREFIX_LEN });
    };
    let [t0, t1, p0, p1, l0, l1, unit, function] = *header;
    let protocol = u16::from_be_bytes([p0, p1]);
    if protocol != 0 {
        return Err(DecodeError::Protocol(protocol));
    }
    let length = u16::from_be_bytes([l0, l1]);
    let consumed = UNCOUNTED + usize::from(length);
    if !(PREFIX_LEN..=MAX_FRAME_LEN).contains(&consumed) {
        return Err(DecodeError::Length(length));
    }
    let Some(data) = bytes.get(PREFIX_LEN..consumed) else {
        return Ok(Decoded::Incomplete { needed: consumed });
    };
    let transaction = u16::from_be_bytes([t0, t1]);
    let frame = Frame { transaction, unit, function: Function(function), data };
    Ok(Decoded::Complete { frame, consumed })
}

impl<'a> Frame<'a> {
    /// How many bytes the frame takes.
    #[inline]
    pub const fn encoded_len(&self) -> usize {
        PREFIX_LEN + self.data.len()
    }

    /// Writes the frame to the front of `out` and says how many bytes it took.
    ///
    /// # Errors
    ///
    /// More data than a frame can have, or an `out` that is too short; then nothing is written.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let needed = self.encoded_len();
        let counted = match u16::try_from(needed - UNCOUNTED) {
            Ok(counted) if needed <= MAX_FRAME_LEN => counted,
            _ => return Err(EncodeError::TooMuchData { len: self.data.len() }),
        };
        let out = out.get_mut(..needed).ok_or(EncodeError::BufferTooSmall { needed })?;
        let ([t0, t1], [l0, l1]) = (self.transaction.to_be_bytes(), counted.to_be_bytes());
        let prefix = [t0, t1, 0, 0, l0, l1, self.unit, self.function.0];
        for (place, byte) in out.iter_mut().zip(prefix.iter().chain(self.data)) {
            *place = *byte;
        }
        Ok(needed)
    }

    /// The answer that says why this request was not carried out (MBAP §7). `data` is room for the exception code.
    pub fn refusal<'b>(&self, exception: Exception, data: &'b mut [u8; 1]) -> Frame<'b> {
        *data = [exception.0];
        Frame {
            transaction: self.transaction,
            unit: self.unit,
            function: self.function.as_exception(),
            data,
        }
    }

    /// The addresses that a request is about; `None` where its function has none, or it is malformed. Of a
    /// [`Function::READ_WRITE_MULTIPLE_REGISTERS`] those that are written.
    pub fn span(&self) -> Option<Span> {
        let (at, counted) = match self.function {
            Function::READ_COILS
            | Function::READ_DISCRETE_INPUTS
            | Function::READ_HOLDING_REGISTERS
            | Function::READ_INPUT_REGISTERS
            | Function::WRITE_MULTIPLE_COILS
            | Function::WRITE_MULTIPLE_REGISTERS => (0, true),
            Function::WRITE_SINGLE_COIL
            | Function::WRITE_SINGLE_REGISTER
            | Function::MASK_WRITE_REGISTER => (0, false),
            Function::READ_WRITE_MULTIPLE_REGISTERS => (4, true),
            _ => return None,
        };
        let (&[a0, a1, n0, n1], _) = self.data.get(at..)?.split_first_chunk()?;
        let first = u16::from_be_bytes([a0, a1]);
        let quantity = if counted { u16::from_be_bytes([n0, n1]) } else { 1 };
        Some(Span { first, last: first.checked_add(quantity.checked_sub(1)?)? })
    }
}

/// Why bytes are no Modbus/TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// A protocol identifier other than 0 (MBTCP §3.1.3).
    Protocol(u16),
    /// A length field that counts no function code, or more than a PDU can have.
    Length(u16),
}

impl DecodeError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Protocol(_) => "protocol",
            Self::Length(_) => "length",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(found) => write!(f, "the protocol identifier is {found}, not 0"),
            Self::Length(found) => write!(f, "the length field is {found}, not 2 to 254"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Why a frame could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeError {
    /// More than [`MAX_DATA_LEN`] bytes of data.
    TooMuchData {
        /// How many there are.
        len: usize,
    },
    /// The output is too short.
    BufferTooSmall {
        /// The length of the frame.
        needed: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMuchData { len } => {
                write!(f, "{len} bytes of data are more than {MAX_DATA_LEN}")
            }
            Self::BufferTooSmall { needed } => write!(f, "the frame takes {needed} bytes"),
        }
    }
}

impl core::error::Error for EncodeError {}
