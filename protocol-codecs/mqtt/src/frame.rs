//! The fixed header (§2.1).

use crate::Decoded;
use crate::error::DecodeError;
use crate::number::PacketType;
use crate::read::variable_byte_integer;

/// The largest remaining length (§1.5.5).
pub const MAX_REMAINING_LENGTH: u32 = 268_435_455;

/// The size of the largest packet there can be, fixed header included.
pub const MAX_PACKET_SIZE: u32 = MAX_REMAINING_LENGTH + 5;

/// A packet's fixed header: what it is and how long (§2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The type of the packet.
    pub packet_type: PacketType,
    /// The lower four bits of the first byte; for PUBLISH they hold DUP, QoS and RETAIN.
    pub flags: u8,
    /// Bytes of the fixed header: 2 to 5.
    pub header_len: usize,
    /// Bytes that follow the fixed header (§2.1.4).
    pub remaining_len: u32,
}

impl Frame {
    /// Bytes of the whole packet.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "a packet has at least two bytes")]
    pub const fn len(&self) -> usize {
        self.header_len + self.remaining_len as usize
    }
}

/// Reads the fixed header of the packet in front of a stream.
///
/// It says how many bytes the packet takes, so the caller can refuse or buffer; `max_packet_size`
/// counts the whole packet, as Maximum Packet Size does (§3.1.2.11.4). `consumed` is the length of
/// the fixed header.
///
/// # Errors
///
/// A reserved packet type or flags, QoS 3 and DUP at QoS 0 of PUBLISH, a remaining length that is
/// malformed, or a packet above `max_packet_size`. All but the latter two show in the first byte.
#[inline]
pub fn frame(bytes: &[u8], max_packet_size: u32) -> Result<Decoded<Frame>, DecodeError> {
    let Some((&first, after_first)) = bytes.split_first() else {
        return Ok(Decoded::Incomplete { needed: 2 });
    };
    let packet_type = PacketType(first >> 4);
    let flags = first & 0x0f;
    check_flags(packet_type, flags)?;

    let (remaining_len, header_len) = match after_first.first() {
        Some(&byte) if byte < 0x80 => (u32::from(byte), 2),
        _ => match variable_byte_integer(after_first)? {
            Some((value, len)) => (value, 1 + len),
            None => return Ok(Decoded::Incomplete { needed: bytes.len() + 1 }),
        },
    };
    // At most 5 + 268,435,455: no overflow.
    let size = header_len as u32 + remaining_len;
    if size > max_packet_size {
        return Err(DecodeError::PacketTooLarge { size, limit: max_packet_size });
    }
    let frame = Frame { packet_type, flags, header_len, remaining_len };
    Ok(Decoded::Complete { packet: frame, consumed: header_len })
}

/// Checks the flags of the fixed header (§2.1.3); in PUBLISH they have a meaning of their own.
#[inline]
fn check_flags(packet_type: PacketType, flags: u8) -> Result<(), DecodeError> {
    let allowed: u16 = if packet_type == PacketType::PUBLISH {
        PUBLISH_FLAGS
    } else if WITH_FLAG_1 >> packet_type.0 & 1 != 0 {
        1 << 0b0010
    } else {
        1 << 0b0000
    };
    if allowed >> flags & 1 != 0 && packet_type.0 != 0 {
        Ok(())
    } else {
        Err(offence(packet_type, flags))
    }
}

/// The flags in the first byte of a PUBLISH; `None` for any other packet, or flags that it may not have.
#[inline(always)]
pub(crate) fn publish_flags(first: u8) -> Option<u8> {
    let flags = first ^ PacketType::PUBLISH.0 << 4;
    (flags < 16 && PUBLISH_FLAGS >> flags & 1 != 0).then_some(flags)
}

/// The flags that PUBLISH may have: QoS 0 without DUP, QoS 1, QoS 2.
const PUBLISH_FLAGS: u16 = 0b0011_1100_0011_1111;

/// The types whose flags are 0b0010.
const WITH_FLAG_1: u16 =
    1 << PacketType::PUBREL.0 | 1 << PacketType::SUBSCRIBE.0 | 1 << PacketType::UNSUBSCRIBE.0;

#[cold]
fn offence(packet_type: PacketType, flags: u8) -> DecodeError {
    match packet_type {
        PacketType(0) => DecodeError::ReservedPacketType(0),
        PacketType::PUBLISH if flags & 0b0110 == 0b0110 => DecodeError::PublishQos3,
        PacketType::PUBLISH => DecodeError::DupWithQos0,
        _ => DecodeError::ReservedFlags { packet_type, flags },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(bytes: &[u8]) -> Result<Decoded<(usize, u32)>, DecodeError> {
        frame(bytes, u32::MAX)
            .map(|decoded| decoded.map(|frame| (frame.header_len, frame.remaining_len)))
    }

    #[test]
    fn remaining_length_takes_one_to_four_bytes() {
        // The bounds of table 1-1 in §1.5.5.
        for (bytes, remaining) in [
            (&b"\x30\x00"[..], 0),
            (b"\x30\x7f", 127),
            (b"\x30\x80\x01", 128),
            (b"\x30\xff\x7f", 16_383),
            (b"\x30\x80\x80\x01", 16_384),
            (b"\x30\xff\xff\x7f", 2_097_151),
            (b"\x30\x80\x80\x80\x01", 2_097_152),
            (b"\x30\xff\xff\xff\x7f", 268_435_455),
        ] {
            let header = bytes.len();
            assert_eq!(
                lens(bytes),
                Ok(Decoded::Complete { packet: (header, remaining), consumed: header })
            );
            for cut in 0..header {
                let needed = (cut + 1).max(2);
                assert_eq!(lens(&bytes[..cut]), Ok(Decoded::Incomplete { needed }));
            }
        }
    }

    #[test]
    fn the_limit_counts_the_whole_packet() {
        assert!(frame(b"\x30\x80\x01", 131).is_ok());
        assert_eq!(
            frame(b"\x30\x80\x01", 130),
            Err(DecodeError::PacketTooLarge { size: 131, limit: 130 })
        );
        assert_eq!(
            frame(b"\x30\xff\xff\xff\x7f", MAX_PACKET_SIZE)
                .map(|frame| frame.complete().map(|frame| frame.len())),
            Ok(Some(MAX_PACKET_SIZE as usize))
        );
    }

    #[test]
    fn each_type_allows_only_its_flags() {
        for first in 0..=255_u8 {
            let allowed = match first >> 4 {
                0 => false,
                3 => (first & 6) != 6 && (first & 8 == 0 || first & 6 != 0),
                6 | 8 | 10 => first & 15 == 2,
                _ => first & 15 == 0,
            };
            assert_eq!(frame(&[first], 100).is_ok(), allowed, "{first:#04x}");
        }
    }
}
