//! HTTP capsules (RFC 9297) and the payloads of UDP proxying (RFC 9298): zero-copy decoding and encoding
//! without allocation.
//!
//! * [`header`] reads a capsule's type and length alone, so that a limit applies before anything is
//!   buffered; [`decode`] turns the bytes of a whole one into a [`Capsule`].
//! * [`Decoder`] takes a stream apart however it is split: header first, then the value in chunks. It keeps
//!   no more than the bytes of an unfinished header.
//! * [`Datagram`] is what a DATAGRAM capsule holds; [`Datagram::encode`] writes the whole capsule.
//! * [`varint`] are the integers of all that (RFC 9000 §16).
//!
//! Capsules of unknown types are to be skipped (RFC 9297 §3.2), so every type decodes.
//!
//! ```
//! use codec_capsule::{CapsuleType, Datagram, Decoded, UDP_PAYLOAD, decode};
//!
//! let bytes = b"\x00\x06\x00hello";
//! let Decoded::Complete { value: capsule, consumed: 8 } = decode(bytes, 1500)? else { panic!() };
//! assert_eq!(capsule.capsule_type, CapsuleType::DATAGRAM);
//! let datagram = Datagram::decode(capsule.value)?;
//! assert_eq!((datagram.context_id, datagram.payload), (UDP_PAYLOAD, &b"hello"[..]));
//! # Ok::<(), codec_capsule::DecodeError>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::fmt;

pub mod varint;

/// The context ID of UDP payloads (RFC 9298 §4).
pub const UDP_PAYLOAD: u64 = 0;

/// The longest UDP payload in bytes (RFC 9298 §5).
pub const MAX_UDP_PAYLOAD_LEN: usize = 65_527;

/// The longest header of a capsule: two integers of eight bytes.
const MAX_HEADER_LEN: usize = 16;

/// What a capsule is (RFC 9297 §3.2, IANA "HTTP Capsule Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CapsuleType(pub u64);

impl CapsuleType {
    /// An HTTP datagram (RFC 9297 §3.5).
    pub const DATAGRAM: Self = Self(0x00);
    /// RFC 9484 §4.7.1
    pub const ADDRESS_ASSIGN: Self = Self(0x01);
    /// RFC 9484 §4.7.2
    pub const ADDRESS_REQUEST: Self = Self(0x02);
    /// RFC 9484 §4.7.3
    pub const ROUTE_ADVERTISEMENT: Self = Self(0x03);

    /// Whether the type only exercises that unknown ones are skipped (RFC 9297 §5.4).
    #[inline]
    pub const fn is_reserved(self) -> bool {
        self.0 >= 0x17 && (self.0 - 0x17).is_multiple_of(0x29)
    }
}

/// The outcome of decoding the front of a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// What was asked for.
    Complete {
        /// The decoded value.
        value: T,
        /// How many bytes of the input it took.
        consumed: usize,
    },
    /// The input ends too early.
    Incomplete {
        /// A lower bound on how many bytes, counted from the start of the capsule, must be there before
        /// another attempt can get further. Always more than there were.
        needed: usize,
    },
}

/// A capsule's type and length (RFC 9297 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the capsule is.
    pub capsule_type: CapsuleType,
    /// The length of its value in bytes.
    pub len: u64,
}

impl Header {
    /// Checks the length of a capsule that is going to be buffered.
    ///
    /// # Errors
    ///
    /// [`DecodeError::CapsuleTooLong`] above `limit` bytes of value.
    #[inline]
    pub const fn check(self, limit: u64) -> Result<Self, DecodeError> {
        let Self { capsule_type, len } = self;
        if len > limit {
            return Err(DecodeError::CapsuleTooLong { capsule_type, len, limit });
        }
        Ok(self)
    }

    /// How many bytes the header takes, in its shortest form.
    ///
    /// # Errors
    ///
    /// [`EncodeError::IntegerTooLarge`]
    #[inline]
    pub fn encoded_len(self) -> Result<usize, EncodeError> {
        Ok(varint::len(self.capsule_type.0)? + varint::len(self.len)?)
    }

    /// Writes the header to the front of `out` and says how many bytes it took; the value may follow
    /// piece by piece.
    ///
    /// # Errors
    ///
    /// An integer that is too large, or an `out` that is too short; then nothing is written.
    #[inline]
    pub fn encode(self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let needed = self.encoded_len()?;
        let out = out.get_mut(..needed).ok_or(EncodeError::BufferTooSmall { needed })?;
        let len = varint::encode(self.capsule_type.0, out)?;
        varint::encode(self.len, out.get_mut(len..).unwrap_or_default())?;
        Ok(needed)
    }
}

/// Reads the header of the capsule in front of a stream. It is never malformed.
#[inline]
pub fn header(bytes: &[u8]) -> Decoded<Header> {
    let (capsule_type, type_len) = match varint::decode(bytes) {
        Decoded::Complete { value, consumed } => (CapsuleType(value), consumed),
        // There is at least one byte of length.
        Decoded::Incomplete { needed } => return Decoded::Incomplete { needed: needed + 1 },
    };
    match varint::decode(bytes.get(type_len..).unwrap_or_default()) {
        Decoded::Complete { value: len, consumed } => {
            Decoded::Complete { value: Header { capsule_type, len }, consumed: type_len + consumed }
        }
        Decoded::Incomplete { needed } => Decoded::Incomplete { needed: type_len + needed },
    }
}

/// One capsule, borrowing from the bytes it was decoded from (RFC 9297 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capsule<'a> {
    /// What the capsule is.
    pub capsule_type: CapsuleType,
    /// Its value.
    pub value: &'a [u8],
}

/// Decodes the capsule in front of a stream, whose value may have up to `limit` bytes.
///
/// # Errors
///
/// [`DecodeError::CapsuleTooLong`], before the capsule is complete.
#[inline]
pub fn decode(bytes: &[u8], limit: u32) -> Result<Decoded<Capsule<'_>>, DecodeError> {
    let (Header { capsule_type, len }, header_len) = match header(bytes) {
        Decoded::Complete { value, consumed } => (value.check(u64::from(limit))?, consumed),
        Decoded::Incomplete { needed } => return Ok(Decoded::Incomplete { needed }),
    };
    // Not above the limit, which is a u32.
    let consumed = header_len.saturating_add(len as usize);
    match bytes.get(header_len..consumed) {
        Some(value) => Ok(Decoded::Complete { value: Capsule { capsule_type, value }, consumed }),
        None => Ok(Decoded::Incomplete { needed: consumed }),
    }
}

impl Capsule<'_> {
    #[inline]
    const fn header(&self) -> Header {
        Header { capsule_type: self.capsule_type, len: self.value.len() as u64 }
    }

    /// How many bytes the capsule takes, its header in the shortest form.
    ///
    /// # Errors
    ///
    /// [`EncodeError::IntegerTooLarge`]
    #[inline]
    pub fn encoded_len(&self) -> Result<usize, EncodeError> {
        Ok(self.header().encoded_len()?.saturating_add(self.value.len()))
    }

    /// Writes the capsule to the front of `out` and says how many bytes it took.
    ///
    /// # Errors
    ///
    /// A type that is too large, or an `out` that is too short; then nothing is written.
    #[inline]
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let needed = self.encoded_len()?;
        let out = out.get_mut(..needed).ok_or(EncodeError::BufferTooSmall { needed })?;
        let header_len = self.header().encode(out)?;
        if let Some(place) = out.get_mut(header_len..) {
            place.copy_from_slice(self.value);
        }
        Ok(needed)
    }
}

/// An HTTP datagram of UDP proxying: what a DATAGRAM capsule holds (RFC 9298 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// What the payload is: [`UDP_PAYLOAD`], or what an extension registered.
    pub context_id: u64,
    /// The payload; with [`UDP_PAYLOAD`], that of one UDP packet.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Decodes the value of a DATAGRAM capsule.
    ///
    /// # Errors
    ///
    /// A value that ends within its context ID, or a UDP payload of more than 65,527 bytes. The stream is
    /// to be aborted (RFC 9298 §5).
    #[inline]
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        let Decoded::Complete { value: context_id, consumed } = varint::decode(value) else {
            return Err(DecodeError::ContextIdTruncated { len: value.len() });
        };
        let payload = value.get(consumed..).unwrap_or_default();
        if context_id == UDP_PAYLOAD && payload.len() > MAX_UDP_PAYLOAD_LEN {
            return Err(DecodeError::UdpPayloadTooLong { len: payload.len() });
        }
        Ok(Self { context_id, payload })
    }

    #[inline]
    fn measure(&self) -> Result<(Header, usize), EncodeError> {
        let len = self.payload.len();
        if self.context_id == UDP_PAYLOAD && len > MAX_UDP_PAYLOAD_LEN {
            return Err(EncodeError::Refused(DecodeError::UdpPayloadTooLong { len }));
        }
        let len = varint::len(self.context_id)?.saturating_add(len);
        let header = Header { capsule_type: CapsuleType::DATAGRAM, len: len as u64 };
        Ok((header, header.encoded_len()?.saturating_add(len)))
    }

    /// How many bytes the DATAGRAM capsule takes.
    ///
    /// # Errors
    ///
    /// What must not be sent; see [`EncodeError`].
    #[inline]
    pub fn encoded_len(&self) -> Result<usize, EncodeError> {
        Ok(self.measure()?.1)
    }

    /// Writes the DATAGRAM capsule to the front of `out` and says how many bytes it took.
    ///
    /// # Errors
    ///
    /// What must not be sent, or an `out` that is too short for it; then nothing is written.
    #[inline]
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let (header, needed) = self.measure()?;
        let out = out.get_mut(..needed).ok_or(EncodeError::BufferTooSmall { needed })?;
        let mut at = header.encode(out)?;
        at += varint::encode(self.context_id, out.get_mut(at..).unwrap_or_default())?;
        if let Some(place) = out.get_mut(at..) {
            place.copy_from_slice(self.payload);
        }
        Ok(needed)
    }
}

/// What [`Decoder`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A capsule begins. Who buffers its value calls [`Header::check`] first.
    Begin(Header),
    /// The next bytes of its value: at least one.
    Value(&'a [u8]),
    /// The capsule ends.
    End,
}

/// Takes a stream of capsules apart, in whatever pieces it comes.
///
/// ```
/// use codec_capsule::{Decoder, Event};
///
/// let mut decoder = Decoder::new();
/// let mut value = Vec::new();
/// for mut piece in [&b"\x00"[..], b"\x06\x00he", b"llo"] {
///     while let Some(event) = decoder.next(&mut piece) {
///         match event {
///             Event::Begin(header) => drop(header.check(1500)?),
///             Event::Value(bytes) => value.extend_from_slice(bytes),
///             Event::End => assert_eq!(value, b"\x00hello"),
///         }
///     }
/// }
/// assert!(decoder.is_between_capsules());
/// # Ok::<(), codec_capsule::DecodeError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// The first bytes of a header.
    partial: [u8; MAX_HEADER_LEN],
    partial_len: usize,
    /// How much of the value is to come; `None` between capsules.
    left: Option<u64>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[inline]
    pub const fn new() -> Self {
        Self { partial: [0; MAX_HEADER_LEN], partial_len: 0, left: None }
    }

    /// Takes the next event off the front of `input`; `None` once `input` is used up.
    #[inline]
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Event<'a>> {
        match self.left {
            Some(0) => {
                self.left = None;
                Some(Event::End)
            }
            Some(left) => {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let (value, rest) = input.split_at_checked(len)?;
                if value.is_empty() {
                    return None;
                }
                *input = rest;
                self.left = Some(left - len as u64);
                Some(Event::Value(value))
            }
            None => {
                let header = self.header(input)?;
                self.left = Some(header.len);
                Some(Event::Begin(header))
            }
        }
    }

    /// Whether the stream may end here: no capsule has begun that has not ended (RFC 9297 §3.3).
    #[inline]
    pub const fn is_between_capsules(&self) -> bool {
        self.left.is_none() && self.partial_len == 0
    }

    fn header(&mut self, input: &mut &[u8]) -> Option<Header> {
        if self.partial_len == 0
            && let Decoded::Complete { value, consumed } = header(input)
        {
            *input = input.get(consumed..).unwrap_or_default();
            return Some(value);
        }
        // Byte by byte: what lies behind the header stays in the input.
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            // A header is complete before it is longer than this.
            *self.partial.get_mut(self.partial_len)? = byte;
            self.partial_len += 1;
            let partial = self.partial.get(..self.partial_len).unwrap_or_default();
            if let Decoded::Complete { value, .. } = header(partial) {
                self.partial_len = 0;
                return Some(value);
            }
        }
        None
    }
}

/// Why a capsule or what it holds is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// A capsule above the caller's limit.
    CapsuleTooLong {
        /// What the capsule is.
        capsule_type: CapsuleType,
        /// The length of its value in bytes.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// A datagram that ends within its context ID (RFC 9298 §5).
    ContextIdTruncated {
        /// The datagram's length in bytes.
        len: usize,
    },
    /// A UDP payload of more than 65,527 bytes (RFC 9298 §5).
    UdpPayloadTooLong {
        /// Its length in bytes.
        len: usize,
    },
}

impl DecodeError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::CapsuleTooLong { .. } => "capsule_too_long",
            Self::ContextIdTruncated { .. } => "context_id_truncated",
            Self::UdpPayloadTooLong { .. } => "udp_payload_too_long",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::CapsuleTooLong { capsule_type, len, limit } => write!(
                f,
                "capsule of type {:#x} with {len} bytes is above the limit of {limit}",
                capsule_type.0
            ),
            Self::ContextIdTruncated { len } => {
                write!(f, "datagram of {len} bytes ends within its context id")
            }
            Self::UdpPayloadTooLong { len } => {
                write!(f, "udp payload of {len} bytes is above 65527")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// Why a capsule cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeError {
    /// The output is shorter than the capsule.
    BufferTooSmall {
        /// The capsule's size in bytes.
        needed: usize,
    },
    /// An integer of 2^62 or more (RFC 9000 §16).
    IntegerTooLarge(u64),
    /// The bytes would be refused by a receiver, for this reason.
    Refused(DecodeError),
}

impl EncodeError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BufferTooSmall { .. } => "buffer_too_small",
            Self::IntegerTooLarge(_) => "integer_too_large",
            Self::Refused(error) => error.label(),
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BufferTooSmall { needed } => write!(f, "capsule takes {needed} bytes of buffer"),
            Self::IntegerTooLarge(value) => write!(f, "integer {value} is not below 2^62"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EncodeError {}
