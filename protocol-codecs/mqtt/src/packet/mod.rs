//! The control packets (§3).

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod ping;
mod publish;
mod suback;
mod subscribe;
mod unsubscribe;

pub use ack::{PubAck, PubComp, PubRec, PubRel};
pub use auth::Auth;
pub use connack::{ConnAck, ConnectCode};
pub use connect::{Connect, Will};
pub use disconnect::Disconnect;
pub use ping::{PingReq, PingResp};
pub use publish::{Publish, PublishHeader};
pub use suback::{ReasonCodes, SubAck, UnsubAck};
pub use subscribe::{RetainHandling, Subscribe, Subscription, SubscriptionIter, Subscriptions};
pub use unsubscribe::{TopicFilterIter, TopicFilters, Unsubscribe};

use crate::Decoded;
use crate::error::{DecodeError, EncodeError};
use crate::frame::{Frame, frame};
use crate::number::{PacketType, Version};
use crate::read::Reader;

/// One control packet, borrowing from the bytes it was decoded from (§3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "boxing would allocate")]
pub enum Packet<'a> {
    /// §3.1
    Connect(Connect<'a>),
    /// §3.2
    ConnAck(ConnAck<'a>),
    /// §3.3
    Publish(Publish<'a>),
    /// §3.4
    PubAck(PubAck<'a>),
    /// §3.5
    PubRec(PubRec<'a>),
    /// §3.6
    PubRel(PubRel<'a>),
    /// §3.7
    PubComp(PubComp<'a>),
    /// §3.8
    Subscribe(Subscribe<'a>),
    /// §3.9
    SubAck(SubAck<'a>),
    /// §3.10
    Unsubscribe(Unsubscribe<'a>),
    /// §3.11
    UnsubAck(UnsubAck<'a>),
    /// §3.12
    PingReq(PingReq),
    /// §3.13
    PingResp(PingResp),
    /// §3.14
    Disconnect(Disconnect<'a>),
    /// §3.15
    Auth(Auth<'a>),
}

/// Decodes the packet in front of a stream.
///
/// `version` is the one its connection's CONNECT chose; a CONNECT itself is decoded as the version it
/// names. There is no limit on the size: see [`frame`] for that.
///
/// # Errors
///
/// Whatever the packet alone shows to be malformed or a protocol error. Errors of the fixed header
/// show before the packet is complete.
#[inline(always)]
pub fn decode(bytes: &[u8], version: Version) -> Result<Decoded<Packet<'_>>, DecodeError> {
    if version == Version::V311
        && let Some((publish, consumed)) = Publish::read_short_v311(bytes)
    {
        return Ok(Decoded::Complete { packet: Packet::Publish(publish), consumed });
    }
    decode_any(bytes, version)
}

/// Decodes any packet, and says what is wrong with one that is not. Out of line, so that the short way past
/// it stays short where it is inlined.
#[inline(never)]
fn decode_any(bytes: &[u8], version: Version) -> Result<Decoded<Packet<'_>>, DecodeError> {
    let frame = match frame(bytes, u32::MAX)? {
        Decoded::Complete { packet, .. } => packet,
        Decoded::Incomplete { needed } => return Ok(Decoded::Incomplete { needed }),
    };
    let consumed = frame.len();
    let Some(body) = bytes.get(frame.header_len..consumed) else {
        check_type(frame.packet_type, version)?;
        return Ok(Decoded::Incomplete { needed: consumed });
    };
    match (frame.packet_type, version) {
        (PacketType::PUBLISH, Version::V311) => publish::<false>(body, frame.flags, consumed),
        (PacketType::PUBLISH, Version::V5) => publish::<true>(body, frame.flags, consumed),
        (PacketType::CONNECT, _) => connect(body, consumed),
        (packet_type, version) => other(packet_type, body, version, consumed),
    }
}

/// Refuses the type that only MQTT 5.0 has.
fn check_type(packet_type: PacketType, version: Version) -> Result<(), DecodeError> {
    if packet_type == PacketType::AUTH && version == Version::V311 {
        return Err(DecodeError::ReservedPacketType(packet_type.0));
    }
    Ok(())
}

// Each of these builds the result in place: a packet is too big to be moved around.

#[inline(always)]
fn publish<const V5: bool>(
    body: &[u8],
    flags: u8,
    consumed: usize,
) -> Result<Decoded<Packet<'_>>, DecodeError> {
    let mut reader = Reader::new(body);
    match Publish::read::<V5>(&mut reader, flags) {
        Ok(packet) => Ok(Decoded::Complete { packet: Packet::Publish(packet), consumed }),
        Err(refused) => Err(reader.error(refused)),
    }
}

fn connect(body: &[u8], consumed: usize) -> Result<Decoded<Packet<'_>>, DecodeError> {
    match connect::version(body)? {
        Version::V311 => connect_in::<false>(body, consumed),
        Version::V5 => connect_in::<true>(body, consumed),
    }
}

#[inline(never)]
fn connect_in<const V5: bool>(
    body: &[u8],
    consumed: usize,
) -> Result<Decoded<Packet<'_>>, DecodeError> {
    let mut reader = Reader::new(body);
    match Connect::read::<V5>(&mut reader) {
        Ok(packet) => Ok(Decoded::Complete { packet: Packet::Connect(packet), consumed }),
        Err(refused) => Err(reader.error(refused)),
    }
}

#[inline(never)]
fn other(
    packet_type: PacketType,
    body: &[u8],
    version: Version,
    consumed: usize,
) -> Result<Decoded<Packet<'_>>, DecodeError> {
    check_type(packet_type, version)?;
    let mut reader = Reader::new(body);
    macro_rules! packet {
        ($variant:ident, $read:expr) => {
            match $read.and_then(|packet| reader.finish().map(|()| packet)) {
                Ok(packet) => Ok(Decoded::Complete { packet: Packet::$variant(packet), consumed }),
                Err(refused) => Err(reader.error(refused)),
            }
        };
    }
    match packet_type {
        PacketType::CONNACK => packet!(ConnAck, ConnAck::read(&mut reader, version)),
        PacketType::PUBACK => packet!(PubAck, PubAck::read(&mut reader, version)),
        PacketType::PUBREC => packet!(PubRec, PubRec::read(&mut reader, version)),
        PacketType::PUBREL => packet!(PubRel, PubRel::read(&mut reader, version)),
        PacketType::PUBCOMP => packet!(PubComp, PubComp::read(&mut reader, version)),
        PacketType::SUBSCRIBE => packet!(Subscribe, Subscribe::read(&mut reader, version)),
        PacketType::SUBACK => packet!(SubAck, SubAck::read(&mut reader, version)),
        PacketType::UNSUBSCRIBE => packet!(Unsubscribe, Unsubscribe::read(&mut reader, version)),
        PacketType::UNSUBACK => packet!(UnsubAck, UnsubAck::read(&mut reader, version)),
        PacketType::PINGREQ => packet!(PingReq, Ok(PingReq)),
        PacketType::PINGRESP => packet!(PingResp, Ok(PingResp)),
        PacketType::DISCONNECT => packet!(Disconnect, Disconnect::read(&mut reader, version)),
        PacketType::AUTH => packet!(Auth, Auth::read(&mut reader)),
        PacketType(number) => Err(DecodeError::ReservedPacketType(number)),
    }
}

/// Decodes the packet that opens a connection (§3.1), in whichever version it names.
///
/// Protocol name and version are judged as soon as their bytes are there.
///
/// # Errors
///
/// [`DecodeError::UnexpectedPacketType`] for any other packet, otherwise as [`decode`].
#[inline]
pub fn decode_connect(bytes: &[u8]) -> Result<Decoded<Connect<'_>>, DecodeError> {
    let frame = match frame_of(bytes, PacketType::CONNECT)? {
        Decoded::Complete { packet, .. } => packet,
        Decoded::Incomplete { needed } => return Ok(Decoded::Incomplete { needed }),
    };
    let consumed = frame.len();
    let Some(body) = bytes.get(frame.header_len..consumed) else {
        connect::check_protocol(bytes.get(frame.header_len..).unwrap_or_default())?;
        return Ok(Decoded::Incomplete { needed: consumed });
    };
    let mut reader = Reader::new(body);
    let read = match connect::version(body)? {
        Version::V311 => Connect::read::<false>(&mut reader),
        Version::V5 => Connect::read::<true>(&mut reader),
    };
    match read {
        Ok(packet) => Ok(Decoded::Complete { packet, consumed }),
        Err(refused) => Err(reader.error(refused)),
    }
}

/// Decodes a PUBLISH up to its payload, which may still be on its way (§3.3).
///
/// `consumed` is the offset of the payload, [`PublishHeader::payload_len`] its length.
///
/// # Errors
///
/// [`DecodeError::UnexpectedPacketType`] for any other packet, otherwise as [`decode`].
#[inline]
pub fn decode_publish_header(
    bytes: &[u8],
    version: Version,
) -> Result<Decoded<PublishHeader<'_>>, DecodeError> {
    let frame = match frame_of(bytes, PacketType::PUBLISH)? {
        Decoded::Complete { packet, .. } => packet,
        Decoded::Incomplete { needed } => return Ok(Decoded::Incomplete { needed }),
    };
    let available = bytes.get(frame.header_len..bytes.len().min(frame.len())).unwrap_or_default();
    let remaining_len = frame.remaining_len as usize;
    match publish::header_len(available, remaining_len, frame.flags, version)? {
        Decoded::Complete { packet: header, .. } => {
            let mut reader = Reader::new(header);
            let payload_len = remaining_len - header.len();
            let read = match version {
                Version::V311 => {
                    PublishHeader::read::<false>(&mut reader, frame.flags, payload_len)
                }
                Version::V5 => PublishHeader::read::<true>(&mut reader, frame.flags, payload_len),
            };
            match read {
                Ok(packet) => {
                    Ok(Decoded::Complete { packet, consumed: frame.header_len + header.len() })
                }
                Err(refused) => Err(reader.error(refused)),
            }
        }
        Decoded::Incomplete { needed } => {
            Ok(Decoded::Incomplete { needed: frame.header_len + needed })
        }
    }
}

/// The fixed header of a packet that must be of this type; the first byte decides.
#[inline]
fn frame_of(bytes: &[u8], packet_type: PacketType) -> Result<Decoded<Frame>, DecodeError> {
    let found = frame(bytes, u32::MAX);
    match bytes.first().map(|first| PacketType(first >> 4)) {
        Some(other) if other != packet_type && other != PacketType(0) => {
            Err(DecodeError::UnexpectedPacketType(other))
        }
        _ => found,
    }
}

impl Packet<'_> {
    /// The type of the packet.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::CONNECT,
            Self::ConnAck(_) => PacketType::CONNACK,
            Self::Publish(_) => PacketType::PUBLISH,
            Self::PubAck(_) => PacketType::PUBACK,
            Self::PubRec(_) => PacketType::PUBREC,
            Self::PubRel(_) => PacketType::PUBREL,
            Self::PubComp(_) => PacketType::PUBCOMP,
            Self::Subscribe(_) => PacketType::SUBSCRIBE,
            Self::SubAck(_) => PacketType::SUBACK,
            Self::Unsubscribe(_) => PacketType::UNSUBSCRIBE,
            Self::UnsubAck(_) => PacketType::UNSUBACK,
            Self::PingReq(_) => PacketType::PINGREQ,
            Self::PingResp(_) => PacketType::PINGRESP,
            Self::Disconnect(_) => PacketType::DISCONNECT,
            Self::Auth(_) => PacketType::AUTH,
        }
    }

    /// The size of the whole packet in bytes. A CONNECT is measured as the version it names.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode), except for the size of the output.
    #[inline]
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        match self {
            Self::Connect(packet) => packet.encoded_len(),
            Self::ConnAck(packet) => packet.encoded_len(version),
            Self::Publish(packet) => packet.encoded_len(version),
            Self::PubAck(packet) => packet.encoded_len(version),
            Self::PubRec(packet) => packet.encoded_len(version),
            Self::PubRel(packet) => packet.encoded_len(version),
            Self::PubComp(packet) => packet.encoded_len(version),
            Self::Subscribe(packet) => packet.encoded_len(version),
            Self::SubAck(packet) => packet.encoded_len(version),
            Self::Unsubscribe(packet) => packet.encoded_len(version),
            Self::UnsubAck(packet) => packet.encoded_len(version),
            Self::PingReq(packet) => packet.encoded_len(version),
            Self::PingResp(packet) => packet.encoded_len(version),
            Self::Disconnect(packet) => packet.encoded_len(version),
            Self::Auth(packet) => packet.encoded_len(version),
        }
    }

    /// Writes the packet to the front of `out` and returns its size. A CONNECT is written as the
    /// version it names.
    ///
    /// # Errors
    ///
    /// A packet that `version` cannot express, that a receiver would refuse, or that does not fit
    /// `out`. After an error the contents of `out` are unspecified.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
        match self {
            Self::Connect(packet) => packet.encode(out),
            Self::ConnAck(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::PubAck(packet) => packet.encode(version, out),
            Self::PubRec(packet) => packet.encode(version, out),
            Self::PubRel(packet) => packet.encode(version, out),
            Self::PubComp(packet) => packet.encode(version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::SubAck(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::UnsubAck(packet) => packet.encode(version, out),
            Self::PingReq(packet) => packet.encode(version, out),
            Self::PingResp(packet) => packet.encode(version, out),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// PUBLISH packets of MQTT 3.1.1 on both sides of where the short ways end.
    fn publishes() -> Vec<Vec<u8>> {
        let topics: [&[u8]; 9] = [
            b"",
            b"t",
            b"a/b/c",
            b"sensors/1 (new)",
            b"a/+",
            b"#/x",
            b"nu\0l",
            "ä/ø".as_bytes(),
            &[b'x'; 118],
        ];
        let mut all = Vec::new();
        for topic in topics {
            for payload_len in [0, 1, 5, 6, 7, 200] {
                for (flags, packet_id) in
                    [(0, &b""[..]), (1, b""), (2, b"\x01\x02"), (0x0d, b"\0\x07")]
                {
                    let mut body = std::vec![0, topic.len() as u8];
                    body.extend_from_slice(topic);
                    body.extend_from_slice(packet_id);
                    body.resize(body.len() + payload_len, 0xff);
                    let mut packet = std::vec![0x30 | flags];
                    match body.len() {
                        0..=127 => packet.push(body.len() as u8),
                        len => packet.extend([len as u8 | 0x80, (len >> 7) as u8]),
                    }
                    packet.append(&mut body);
                    all.push(packet);
                }
            }
        }
        all
    }

    fn short_ways_agree(bytes: &[u8]) {
        let decoded = decode(bytes, Version::V311);
        assert_eq!(decoded, decode_any(bytes, Version::V311), "{bytes:?}");
        let Ok(Decoded::Complete { packet: Packet::Publish(publish), consumed }) = decoded else {
            return;
        };
        for len in [consumed - 1, consumed, consumed + 1] {
            let (mut short, mut any) = ([0xaa; 512], [0xaa; 512]);
            let result = publish.encode(Version::V311, &mut short[..len]);
            assert_eq!(result, publish.encode_any(Version::V311, &mut any[..len]));
            assert!(result.is_err() || short == any, "{bytes:?}");
        }
    }

    #[test]
    fn the_short_ways_agree_with_the_long_ones() {
        for packet in publishes() {
            for cut in 0..packet.len().min(12) {
                short_ways_agree(&packet[..cut]);
            }
            short_ways_agree(&[&packet[..], b"\x30"].concat());
            // The bytes that decide the most.
            for at in 0..packet.len().min(12) {
                for byte in 0..=0xff {
                    let mut packet = packet.clone();
                    packet[at] = byte;
                    short_ways_agree(&packet);
                }
            }
        }
    }

    #[test]
    fn the_short_way_refuses_to_encode_what_the_long_one_refuses() {
        use core::num::NonZeroU16;

        use crate::number::QoS;
        use crate::property::{Properties, Property};

        let properties = [Properties::EMPTY, Properties::from(&[Property::TopicAliasMaximum(1)])];
        for topic in ["", "t", "a/+", "nu\0l", "a b"] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                for packet_id in [None, NonZeroU16::new(7)] {
                    for dup in [false, true] {
                        for properties in properties {
                            let publish = Publish {
                                dup,
                                qos,
                                retain: dup,
                                topic,
                                packet_id,
                                properties,
                                payload: b"payload",
                            };
                            let (mut short, mut any) = ([0; 32], [0; 32]);
                            let result = publish.encode(Version::V311, &mut short);
                            assert_eq!(result, publish.encode_any(Version::V311, &mut any));
                            assert!(result.is_err() || short == any, "{publish:?}");
                        }
                    }
                }
            }
        }
    }
}
