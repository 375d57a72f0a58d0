//! Changing what an encoded message says where it is.

use crate::error::{DecodeError, EncodeError};
use crate::message::{Flags, HEADER_LEN, decode};
use crate::name::{Name, skip};

/// Gives a message another ID. It is the one thing that may change under a TSIG (RFC 8945 §4.3.1).
///
/// # Errors
///
/// No header.
#[inline]
pub fn set_id(message: &mut [u8], id: u16) -> Result<(), DecodeError> {
    header_mut(message).map(|[i, d, ..]| [*i, *d] = id.to_be_bytes())
}

/// Gives a message other flags, another opcode and other four bits of a response code.
///
/// # Errors
///
/// No header.
#[inline]
pub fn set_flags(message: &mut [u8], flags: Flags) -> Result<(), DecodeError> {
    header_mut(message).map(|[_, _, f, g, ..]| [*f, *g] = flags.0.to_be_bytes())
}

fn header_mut(message: &mut [u8]) -> Result<&mut [u8; HEADER_LEN], DecodeError> {
    let len = message.len();
    message.first_chunk_mut().ok_or(DecodeError::HeaderTruncated(len as u8))
}

/// Takes so many seconds off all TTLs, as a cache does with what it answers (RFC 1035 §6.1.3); none gets
/// below zero. One above 2,147,483,647 counts as zero (RFC 2181 §8).
///
/// Who writes a message can have a name begin in the octets of a TTL. That name changes with the TTL, and
/// may be none any more: what a message says is kept for certain by a [`Builder`](crate::Builder).
///
/// # Errors
///
/// A message that does not decode. It stays as it is.
pub fn age(message: &mut [u8], seconds: u32) -> Result<(), DecodeError> {
    let mut walk = decode(message)?.walk();
    while let Some(at) = walk.next_ttl(message) {
        if let Some(place) = message.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            let ttl = u32::from_be_bytes(*place);
            let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl.saturating_sub(seconds) };
            *place = ttl.to_be_bytes();
        }
    }
    Ok(())
}

/// Gives the letters of the first question the case that they have in `name`, for who asked in another case
/// than the message answers. All that points to the question follows.
///
/// # Errors
///
/// Another name, or no question.
pub fn set_question_case(message: &mut [u8], name: Name<'_>) -> Result<(), EncodeError> {
    let asked = decode(message).ok().and_then(|message| message.question());
    if asked.is_none_or(|question| question.name != name) {
        return Err(EncodeError::OtherName);
    }
    // The first name of a message is not compressed: there is nothing to point to.
    let end = skip(message, HEADER_LEN);
    let mut octets = message.get_mut(HEADER_LEN..end).unwrap_or_default();
    for label in name.labels() {
        if let Some(place) = octets.get_mut(1..=label.len()) {
            place.copy_from_slice(label);
        }
        octets = octets.get_mut(1 + label.len()..).unwrap_or_default();
    }
    Ok(())
}
