//! Messages over UDP (§3).

use crate::error::{DecodeError, EncodeError};
use crate::number::{Code, MessageType};
use crate::option::{self, Options, PAYLOAD_MARKER, Scope};
use crate::write::{Overrun, Writer};

/// The longest token (§3).
pub const MAX_TOKEN_LEN: usize = 8;

/// A datagram's first four bytes, which tell what to do about a message that cannot be decoded (§3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the message is transmitted.
    pub message_type: MessageType,
    /// The length of the token in bytes: up to 8, or one of the reserved lengths 9 to 15.
    pub token_len: u8,
    /// What the message is.
    pub code: Code,
    /// The message ID: which other messages it is a duplicate or an acknowledgement of.
    pub message_id: u16,
}

impl Header {
    /// The token in the datagram that this is the header of, if it has one that may be echoed.
    #[inline]
    pub fn token<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
        if usize::from(self.token_len) > MAX_TOKEN_LEN {
            return None;
        }
        datagram.get(4..4 + usize::from(self.token_len))
    }
}

/// Reads a datagram's first four bytes.
///
/// # Errors
///
/// A datagram that is shorter, or of another version. It is ignored (§3).
#[inline]
pub fn header(datagram: &[u8]) -> Result<Header, DecodeError> {
    let Some(&[first, code, a, b]) = datagram.first_chunk() else {
        return Err(DecodeError::HeaderTruncated(datagram.len() as u8));
    };
    if first >> 6 != 1 {
        return Err(DecodeError::UnknownVersion(first >> 6));
    }
    Ok(Header {
        message_type: MessageType::from_bits(first >> 4),
        token_len: first & 15,
        code: Code(code),
        message_id: u16::from_be_bytes([a, b]),
    })
}

/// One message over UDP, borrowing from the datagram it was decoded from (§3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// How the message is transmitted.
    pub message_type: MessageType,
    /// What the message is.
    pub code: Code,
    /// The message ID: which other messages it is a duplicate or an acknowledgement of.
    pub message_id: u16,
    /// Which request a response belongs to: at most 8 bytes.
    pub token: &'a [u8],
    /// The options.
    pub options: Options<'a>,
    /// The payload; without one it is empty.
    pub payload: &'a [u8],
}

/// Decodes a datagram.
///
/// # Errors
///
/// Whatever the message alone shows to be a message format error, and what makes it necessary to reject it
/// whoever receives it. [`header`] and [`DecodeError::answer`] say how. Unknown critical options are up to
/// the caller, who knows more of them.
// Inlined, so that a message that is looked at where it is decoded need not go through memory.
#[inline(always)]
pub fn decode(datagram: &[u8]) -> Result<Message<'_>, DecodeError> {
    let Header { message_type, token_len, code, message_id } = header(datagram)?;
    check(message_type, code, datagram.len() == 4)?;
    if usize::from(token_len) > MAX_TOKEN_LEN {
        return Err(DecodeError::ReservedTokenLength(token_len));
    }
    let after = datagram.get(4..).unwrap_or_default();
    let Some((token, rest)) = after.split_at_checked(usize::from(token_len)) else {
        return Err(option::truncated(usize::from(token_len), after));
    };
    let (options, payload) = option::read(rest, Scope::udp(code))?;
    Ok(Message { message_type, code, message_id, token, options, payload })
}

/// Checks that there may be such a message (§4.1 to §4.3, table 1).
#[inline(always)]
fn check(message_type: MessageType, code: Code, is_bare: bool) -> Result<(), DecodeError> {
    // The classes of requests and responses, eight bits for each type; what is empty is looked at below.
    const CLASSES: u32 = 0x00_3c_3d_3d;
    if CLASSES >> ((message_type as u8) << 3 | code.class()) & 1 != 0 && code != Code::EMPTY {
        return Ok(());
    }
    check_empty(message_type, code, is_bare)
}

#[inline(never)]
fn check_empty(message_type: MessageType, code: Code, is_bare: bool) -> Result<(), DecodeError> {
    if matches!(code.class(), 1 | 6 | 7) {
        return Err(DecodeError::ReservedCodeClass(code));
    }
    match (message_type, code) {
        (MessageType::Reset, code) if code != Code::EMPTY => Err(DecodeError::ResetNotEmpty(code)),
        (_, code) if code != Code::EMPTY => Err(DecodeError::RequestInAcknowledgement(code)),
        (MessageType::NonConfirmable, _) => Err(DecodeError::EmptyNonConfirmable),
        _ if !is_bare => Err(DecodeError::EmptyMessageWithContent),
        _ => Ok(()),
    }
}

impl<'a> Message<'a> {
    /// An empty message (§4.1): a confirmable one is a ping, the others answer the message with this ID.
    #[inline]
    pub const fn empty(message_type: MessageType, message_id: u16) -> Self {
        Self {
            message_type,
            code: Code::EMPTY,
            message_id,
            token: &[],
            options: Options::EMPTY,
            payload: &[],
        }
    }

    /// How many bytes the message takes.
    ///
    /// # Errors
    ///
    /// What must not be sent; see [`EncodeError`].
    #[inline(always)]
    pub fn encoded_len(&self) -> Result<usize, EncodeError> {
        let scope = Scope::udp(self.code);
        let len = body_len(self.token, &self.options, self.payload, scope)?;
        let is_bare = len == 0 && self.token.is_empty();
        check(self.message_type, self.code, is_bare)?;
        Ok(4 + self.token.len() + len)
    }

    /// Writes the message to the front of `out` and says how many bytes it took.
    ///
    /// # Errors
    ///
    /// What must not be sent, or an `out` that is too short for it; then nothing is written.
    #[inline]
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let needed = self.encoded_len()?;
        let mut writer = Writer::new(out, needed)?;
        let first = 0x40 | (self.message_type as u8) << 4 | self.token.len() as u8;
        let [a, b] = self.message_id.to_be_bytes();
        writer.array([first, self.code.0, a, b])?;
        write_body(self.token, &self.options, self.payload, &mut writer)?;
        Ok(needed)
    }
}

/// How many bytes options, payload marker and payload take.
#[inline(always)]
pub(crate) fn body_len(
    token: &[u8],
    options: &Options<'_>,
    payload: &[u8],
    scope: Scope,
) -> Result<usize, EncodeError> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(EncodeError::TokenTooLong(token.len()));
    }
    let payload_len = if payload.is_empty() { 0 } else { 1 + payload.len() };
    Ok(options.measure(scope)?.saturating_add(payload_len))
}

#[inline(always)]
pub(crate) fn write_body(
    token: &[u8],
    options: &Options<'_>,
    payload: &[u8],
    writer: &mut Writer<'_>,
) -> Result<(), Overrun> {
    writer.bytes(token)?;
    options.write(writer)?;
    if payload.is_empty() {
        return Ok(());
    }
    writer.u8(PAYLOAD_MARKER)?;
    writer.bytes(payload)
}
