//! Messages over TCP and TLS (RFC 1035 §4.2.2, RFC 7766 §8, RFC 7858 §3.3).

use crate::error::{DecodeError, EncodeError};
use crate::message::{HEADER_LEN, MAX_MESSAGE_LEN};

/// The outcome of reading the front of a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// What was asked for.
    Complete {
        /// What was read.
        message: T,
        /// How many octets of the input it took.
        consumed: usize,
    },
    /// The input ends too early.
    Incomplete {
        /// A lower bound on how many octets, counted from the start of the frame, must be there before
        /// another attempt can get further. Always more than there were.
        needed: usize,
    },
}

/// Takes the message off the front of a stream; [`decode`](crate::decode) takes it from there.
///
/// # Errors
///
/// A length that no message has, or that is above `max_message_len`: as soon as its two octets are there.
/// There is no telling where the next message begins then, unless the caller skips this one.
#[inline]
pub fn frame_tcp(bytes: &[u8], max_message_len: u16) -> Result<Decoded<&[u8]>, DecodeError> {
    let Some((&length, rest)) = bytes.split_first_chunk() else {
        return Ok(Decoded::Incomplete { needed: 2 });
    };
    let len = u16::from_be_bytes(length);
    if len > max_message_len {
        return Err(DecodeError::MessageTooLong {
            len: u32::from(len),
            limit: u32::from(max_message_len),
        });
    }
    let len = usize::from(len);
    if len < HEADER_LEN {
        return Err(DecodeError::HeaderTruncated(len as u8));
    }
    let consumed = 2 + len;
    match rest.get(..len) {
        Some(message) => Ok(Decoded::Complete { message, consumed }),
        None => Ok(Decoded::Incomplete { needed: consumed }),
    }
}

/// The two octets that go in front of a message of `len` octets on a stream.
///
/// # Errors
///
/// More octets than a message can have.
#[inline]
pub fn tcp_length(len: usize) -> Result<[u8; 2], EncodeError> {
    if len > MAX_MESSAGE_LEN {
        return Err(EncodeError::MessageTooLong(len));
    }
    Ok((len as u16).to_be_bytes())
}
