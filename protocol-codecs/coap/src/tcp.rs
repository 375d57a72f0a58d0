//! Messages over TCP and TLS (RFC 8323 §3).

use crate::Decoded;
use crate::error::{DecodeError, EncodeError};
use crate::message::{MAX_TOKEN_LEN, body_len, write_body};
use crate::number::{Code, OptionNumber};
use crate::option::{self, OptionValue, Options, Scope};
use crate::write::Writer;

/// The largest message that may be sent to who has not said otherwise, in bytes (RFC 8323 §5.3.1).
pub const DEFAULT_MAX_MESSAGE_SIZE: u32 = 1152;

/// The largest number that the length field can say (RFC 8323 §3.2).
const MAX_LEN: u64 = 65_805 + u32::MAX as u64;

/// A message's header: what it is and how long (RFC 8323 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the message is.
    pub code: Code,
    /// Bytes up to and with the code: 2 to 6.
    pub header_len: usize,
    /// The length of the token, which follows the header, in bytes: up to 8.
    pub token_len: usize,
    /// Bytes of options, payload marker and payload, which follow the token.
    pub body_len: usize,
}

impl Frame {
    /// Bytes of the whole message.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "a message has at least two bytes")]
    pub const fn len(&self) -> usize {
        self.header_len + self.token_len + self.body_len
    }
}

/// Reads the header of the message in front of a stream.
///
/// It says how many bytes the message takes, so the caller can refuse or buffer; `max_message_size` counts
/// the whole message, as Max-Message-Size does (RFC 8323 §5.3.1). `consumed` is the length of the header.
///
/// # Errors
///
/// A reserved token length or code class, or a message above `max_message_size`: each as soon as the bytes
/// that show it are there.
#[inline]
pub fn frame_tcp(bytes: &[u8], max_message_size: u32) -> Result<Decoded<Frame>, DecodeError> {
    let Some((&first, after)) = bytes.split_first() else {
        return Ok(Decoded::Incomplete { needed: 2 });
    };
    let token_len = first & 15;
    if usize::from(token_len) > MAX_TOKEN_LEN {
        return Err(DecodeError::ReservedTokenLength(token_len));
    }
    let (len, after, header_len) = match (first >> 4, after) {
        (len @ 0..13, _) => (u64::from(len), after, 2),
        (13, [a, rest @ ..]) => (13 + u64::from(*a), rest, 3),
        (14, [a, b, rest @ ..]) => (269 + u64::from(u16::from_be_bytes([*a, *b])), rest, 4),
        (15, [a, b, c, d, rest @ ..]) => {
            (65_805 + u64::from(u32::from_be_bytes([*a, *b, *c, *d])), rest, 6)
        }
        (nibble, _) => {
            let extension = if nibble == 13 { 1 } else { usize::from(nibble - 13) * 2 };
            return Ok(Decoded::Incomplete { needed: 2 + extension });
        }
    };
    let size = len + header_len as u64 + u64::from(token_len);
    if size > u64::from(max_message_size) {
        return Err(DecodeError::MessageTooLarge { size, limit: max_message_size });
    }
    let Some(&code) = after.first() else {
        return Ok(Decoded::Incomplete { needed: header_len });
    };
    let code = Code(code);
    check(code, len == 0 && token_len == 0)?;
    // Not above the limit, which is a u32.
    let (token_len, body_len) = (usize::from(token_len), len as usize);
    let message = Frame { code, header_len, token_len, body_len };
    Ok(Decoded::Complete { message, consumed: header_len })
}

/// Checks that there may be such a message (§4.1, §12.1; RFC 8323 §5.1).
#[inline]
fn check(code: Code, is_bare: bool) -> Result<(), DecodeError> {
    match code.class() {
        1 | 6 => Err(DecodeError::ReservedCodeClass(code)),
        _ if code == Code::EMPTY && !is_bare => Err(DecodeError::EmptyMessageWithContent),
        _ => Ok(()),
    }
}

/// One message over TCP, borrowing from the bytes it was decoded from (RFC 8323 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpMessage<'a> {
    /// What the message is; an empty one is to be ignored (RFC 8323 §3.4).
    pub code: Code,
    /// Which request a response belongs to: at most 8 bytes.
    pub token: &'a [u8],
    /// The options; in a signaling message, those of its code (RFC 8323 §5.2).
    pub options: Options<'a>,
    /// The payload; without one it is empty.
    pub payload: &'a [u8],
}

/// Decodes the message in front of a stream.
///
/// There is no limit on the size but what a `u32` holds: see [`frame_tcp`] for that.
///
/// # Errors
///
/// As [`decode`](crate::decode); [`DecodeError::answer_tcp`] says what to do. Errors of the header show
/// before the message is complete.
#[inline]
pub fn decode_tcp(bytes: &[u8]) -> Result<Decoded<TcpMessage<'_>>, DecodeError> {
    let frame = match frame_tcp(bytes, u32::MAX)? {
        Decoded::Complete { message, .. } => message,
        Decoded::Incomplete { needed } => return Ok(Decoded::Incomplete { needed }),
    };
    let consumed = frame.len();
    let Some((token, rest)) = bytes
        .get(frame.header_len..consumed)
        .and_then(|message| message.split_at_checked(frame.token_len))
    else {
        return Ok(Decoded::Incomplete { needed: consumed });
    };
    let code = frame.code;
    let (options, payload) = option::read(rest, Scope::tcp(code))?;
    Ok(Decoded::Complete { message: TcpMessage { code, token, options, payload }, consumed })
}

impl<'a> TcpMessage<'a> {
    /// How many bytes the message takes.
    ///
    /// # Errors
    ///
    /// What must not be sent; see [`EncodeError`].
    #[inline]
    pub fn encoded_len(&self) -> Result<usize, EncodeError> {
        let len = self.body_len()?;
        Ok(2 + length(len as u64).1 + self.token.len() + len)
    }

    /// Writes the message to the front of `out` and says how many bytes it took.
    ///
    /// # Errors
    ///
    /// What must not be sent, or an `out` that is too short for it; then nothing is written.
    #[inline]
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let len = self.body_len()?;
        let (nibble, extension) = length(len as u64);
        let needed = 2 + extension + self.token.len() + len;
        let mut writer = Writer::new(out, needed)?;
        writer.u8(nibble << 4 | self.token.len() as u8)?;
        match nibble {
            13 => writer.u8((len - 13) as u8)?,
            14 => writer.array(((len - 269) as u16).to_be_bytes())?,
            15 => writer.array(((len - 65_805) as u32).to_be_bytes())?,
            _ => {}
        }
        writer.u8(self.code.0)?;
        write_body(self.token, &self.options, self.payload, &mut writer)?;
        Ok(needed)
    }

    fn body_len(&self) -> Result<usize, EncodeError> {
        let scope = Scope::tcp(self.code);
        let len = body_len(self.token, &self.options, self.payload, scope)?;
        // Leaves room for the header in a usize of 32 bits, too.
        if len as u64 > MAX_LEN.min(usize::MAX as u64 - 16) {
            return Err(EncodeError::MessageTooLarge { len });
        }
        check(self.code, len == 0 && self.token.is_empty())?;
        Ok(len)
    }

    /// The option of a signaling message with this code.
    fn signal(&self, code: Code, number: OptionNumber) -> Option<OptionValue<'a>> {
        if self.code == code { self.options.get(number) } else { None }
    }

    fn signal_uint(&self, code: Code, number: OptionNumber) -> Option<u32> {
        match self.signal(code, number) {
            Some(OptionValue::Uint(value)) => Some(value),
            _ => None,
        }
    }

    /// The largest message that the sender of this CSM takes, in bytes (RFC 8323 §5.3.1).
    pub fn max_message_size(&self) -> Option<u32> {
        self.signal_uint(Code::CSM, OptionNumber::MAX_MESSAGE_SIZE)
    }

    /// Whether the sender of this CSM supports block-wise transfers, and BERT if its Max-Message-Size is
    /// above 1152 (RFC 8323 §5.3.2).
    pub fn block_wise_transfer(&self) -> bool {
        self.signal(Code::CSM, OptionNumber::BLOCK_WISE_TRANSFER) == Some(OptionValue::Empty)
    }

    /// Whether this Ping asks for, or this Pong gives, the promise that what came before it was processed
    /// (RFC 8323 §5.4.1).
    pub fn custody(&self) -> bool {
        matches!(self.code, Code::PING | Code::PONG)
            && self.signal(self.code, OptionNumber::CUSTODY) == Some(OptionValue::Empty)
    }

    /// How many seconds the sender of this Release wants no connection (RFC 8323 §5.5).
    pub fn hold_off(&self) -> Option<u32> {
        self.signal_uint(Code::RELEASE, OptionNumber::HOLD_OFF)
    }

    /// Which option of a CSM the sender of this Abort could not process (RFC 8323 §5.6).
    pub fn bad_csm_option(&self) -> Option<OptionNumber> {
        self.signal_uint(Code::ABORT, OptionNumber::BAD_CSM_OPTION)
            .map(|number| OptionNumber(number as u16))
    }
}

/// The length nibble for this length, and the bytes of its extension (RFC 8323 §3.2).
#[inline]
const fn length(len: u64) -> (u8, usize) {
    match len {
        0..13 => (len as u8, 0),
        13..269 => (13, 1),
        269..65_805 => (14, 2),
        _ => (15, 4),
    }
}
