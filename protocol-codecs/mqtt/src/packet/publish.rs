//! PUBLISH (§3.3).

use core::num::NonZeroU16;

use crate::Decoded;
use crate::error::{DecodeError, EncodeError};
use crate::frame::publish_flags;
use crate::number::{PacketType, PropertyId, QoS, Version};
use crate::property::{Place, Properties, topic_name_len};
use crate::read::{Reader, Refused, truncated, variable_byte_integer};
use crate::text;
use crate::topic::{self, TopicNameError};
use crate::write::{self, Writer};

/// Publish message (§3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// This may be a re-delivery (§3.3.1.1).
    pub dup: bool,
    /// The level of assurance (§3.3.1.2).
    pub qos: QoS,
    /// To be retained, or was retained (§3.3.1.3).
    pub retain: bool,
    /// The topic name; empty only in MQTT 5.0 where a topic alias stands for it (§3.3.2.1).
    pub topic: &'a str,
    /// The packet identifier: there is one at QoS 1 and QoS 2, and none at QoS 0 (§3.3.2.2).
    pub packet_id: Option<NonZeroU16>,
    /// Empty in MQTT 3.1.1 (§3.3.2.3).
    pub properties: Properties<'a>,
    /// The application message (§3.3.3).
    pub payload: &'a [u8],
}

/// A PUBLISH without its payload, which streams (§3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishHeader<'a> {
    /// This may be a re-delivery (§3.3.1.1).
    pub dup: bool,
    /// The level of assurance (§3.3.1.2).
    pub qos: QoS,
    /// To be retained, or was retained (§3.3.1.3).
    pub retain: bool,
    /// The topic name; empty only in MQTT 5.0 where a topic alias stands for it (§3.3.2.1).
    pub topic: &'a str,
    /// The packet identifier: there is one at QoS 1 and QoS 2, and none at QoS 0 (§3.3.2.2).
    pub packet_id: Option<NonZeroU16>,
    /// Empty in MQTT 3.1.1 (§3.3.2.3).
    pub properties: Properties<'a>,
    /// The bytes of application message that follow (§3.3.3).
    pub payload_len: usize,
}

impl<'a> Publish<'a> {
    #[inline(always)]
    pub(super) fn read<const V5: bool>(
        reader: &mut Reader<'a>,
        flags: u8,
    ) -> Result<Self, Refused> {
        let PublishHeader { dup, qos, retain, topic, packet_id, properties, .. } =
            PublishHeader::read::<V5>(reader, flags, 0)?;
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: reader.rest() })
    }

    /// Reads the packet that there is most of, by the shortest way: MQTT 3.1.1, with a remaining length of
    /// one byte. Also returns how many bytes it takes. `None` for anything else, and for whatever is wrong
    /// or merely unusual: [`read`](Self::read) tells which.
    #[inline(always)]
    pub(super) fn read_short_v311(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let &[first, remaining_len, len @ ..] = bytes.first_chunk::<4>()?;
        let flags = publish_flags(first)?;
        if remaining_len >= 0x80 {
            return None;
        }
        let consumed = 2 + usize::from(remaining_len);
        let packet = bytes.get(4..consumed)?;
        let (topic, rest) = packet.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
        // What follows uses this string rather than the bytes: copied later, in one piece, it would have to
        // wait for both halves of it to arrive in memory.
        let topic = text::utf8(topic).ok()?;
        if topic.is_empty() || text::may_have_null_or_wildcard(topic.as_bytes()) {
            return None;
        }
        let (qos, packet_id, payload) = match flags & 0b0110 {
            0 => (QoS::AtMostOnce, None, rest),
            qos => {
                let (id, payload) = rest.split_first_chunk::<2>()?;
                let qos = if qos == 0b0010 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                (qos, Some(NonZeroU16::new(u16::from_be_bytes(*id))?), payload)
            }
        };
        let (dup, retain) = (flags & DUP != 0, flags & RETAIN != 0);
        let properties = Properties::empty();
        Some((Self { dup, qos, retain, topic, packet_id, properties, payload }, consumed))
    }

    /// All but the payload.
    #[inline]
    pub const fn header(&self) -> PublishHeader<'a> {
        PublishHeader {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic,
            packet_id: self.packet_id,
            properties: self.properties,
            payload_len: self.payload.len(),
        }
    }

    /// The size of the whole packet in bytes.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode), except for the size of the output.
    #[inline]
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        Ok(self.parts().header_len(version)? + self.payload.len())
    }

    /// Writes the packet to the front of `out` and returns its size.
    ///
    /// # Errors
    ///
    /// A packet that `version` cannot express, that a receiver would refuse, or that does not fit
    /// `out`. After an error the contents of `out` are unspecified.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
        if version == Version::V311
            && let Some(len) = self.encode_short_v311(out)
        {
            return Ok(len);
        }
        self.encode_any(version, out)
    }

    #[inline(never)]
    pub(super) fn encode_any(
        &self,
        version: Version,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let (mut writer, len) = self.parts().write(version, out, self.payload.len())?;
        writer.bytes(self.payload)?;
        Ok(len)
    }

    /// Writes what [`read_short_v311`](Self::read_short_v311) reads; `None` for anything else, and for what
    /// must not be sent or does not fit.
    #[inline(always)]
    fn encode_short_v311(&self, out: &mut [u8]) -> Option<usize> {
        let (topic, payload) = (self.topic.as_bytes(), self.payload);
        let at_qos_0 = self.qos == QoS::AtMostOnce;
        let valid = !topic.is_empty()
            && at_qos_0 == self.packet_id.is_none()
            && !(at_qos_0 && self.dup)
            && self.properties.is_empty();
        // Before the sum, which so cannot overflow.
        if !valid || topic.len() > 0x7f || payload.len() > 0x7f {
            return None;
        }
        let packet_id_len = if at_qos_0 { 0 } else { 2 };
        let remaining_len = 2 + topic.len() + packet_id_len + payload.len();
        if remaining_len > 0x7f || text::may_have_null_or_wildcard(topic) {
            return None;
        }
        let len = 2 + remaining_len;
        let (front, rest) = out.get_mut(..len)?.split_first_chunk_mut::<4>()?;
        let first = PacketType::PUBLISH.0 << 4 | self.parts().flags();
        *front = [first, remaining_len as u8, 0, topic.len() as u8];
        let (place, mut rest) = rest.split_at_mut_checked(topic.len())?;
        write::copy(place, topic);
        if let Some(id) = self.packet_id {
            let (place, after) = rest.split_first_chunk_mut::<2>()?;
            *place = id.get().to_be_bytes();
            rest = after;
        }
        write::copy(rest, payload);
        Some(len)
    }

    #[inline(always)]
    fn parts(&self) -> Parts<'_> {
        Parts {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic,
            packet_id: self.packet_id,
            properties: &self.properties,
            payload_len: self.payload.len(),
        }
    }
}

const RETAIN: u8 = 0x01;
const DUP: u8 = 0x08;

impl<'a> PublishHeader<'a> {
    #[inline(always)]
    pub(super) fn read<const V5: bool>(
        reader: &mut Reader<'a>,
        flags: u8,
        payload_len: usize,
    ) -> Result<Self, Refused> {
        let topic = reader.lone_string()?;
        if !V5 || !topic.is_empty() {
            topic::check_name(topic).map_err(|error| reader.refuse(error))?;
        }
        let qos = qos(flags).map_err(|error| reader.refuse(error))?;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            _ => Some(reader.packet_id(PacketType::PUBLISH)?),
        };
        let properties =
            if V5 { Properties::read(reader, Place::PUBLISH)? } else { Properties::EMPTY };
        if V5 && topic.is_empty() && !properties.contains(PropertyId::TOPIC_ALIAS) {
            return Err(reader.refuse(DecodeError::TopicNameAndAliasMissing));
        }
        let (dup, retain) = (flags & DUP != 0, flags & RETAIN != 0);
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload_len })
    }

    /// The bytes up to the payload.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode), except for the size of the output.
    #[inline]
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        self.parts().header_len(version)
    }

    /// Writes the packet up to its payload to the front of `out`, and returns how many bytes that is.
    /// The `payload_len` bytes of payload follow.
    ///
    /// # Errors
    ///
    /// A packet that `version` cannot express, that a receiver would refuse, or whose header does not
    /// fit `out`. After an error the contents of `out` are unspecified.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
        self.parts().write(version, out, 0).map(|(_, len)| len)
    }

    #[inline(always)]
    fn parts(&self) -> Parts<'_> {
        Parts {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic,
            packet_id: self.packet_id,
            properties: &self.properties,
            payload_len: self.payload_len,
        }
    }
}

/// What [`Publish`] and [`PublishHeader`] have in common, without a copy of the properties.
struct Parts<'a> {
    dup: bool,
    qos: QoS,
    retain: bool,
    topic: &'a str,
    packet_id: Option<NonZeroU16>,
    properties: &'a Properties<'a>,
    payload_len: usize,
}

impl Parts<'_> {
    #[inline(always)]
    fn header_len(&self, version: Version) -> Result<usize, EncodeError> {
        let header = self.measure(version)?.header;
        let remaining = header.saturating_add(self.payload_len);
        Ok(1 + write::variable_byte_integer_len(remaining)? + header)
    }

    /// Writes the header, with space for `payload_in_out` bytes after it.
    #[inline(always)]
    fn write<'b>(
        &self,
        version: Version,
        out: &'b mut [u8],
        payload_in_out: usize,
    ) -> Result<(Writer<'b>, usize), EncodeError> {
        let Lengths { header, properties } = self.measure(version)?;
        let (mut writer, len) = Writer::packet(
            out,
            PacketType::PUBLISH,
            self.flags(),
            header.saturating_add(self.payload_len),
            header + payload_in_out,
        )?;
        writer.field(self.topic.as_bytes())?;
        if let Some(id) = self.packet_id {
            writer.packet_id(id)?;
        }
        if version == Version::V5 {
            self.properties.write(properties, &mut writer)?;
        }
        Ok((writer, len))
    }

    /// The flags of the fixed header (§3.3.1).
    #[inline(always)]
    fn flags(&self) -> u8 {
        let mut flags = (self.qos as u8) << 1;
        if self.dup {
            flags |= DUP;
        }
        if self.retain {
            flags |= RETAIN;
        }
        flags
    }

    #[inline(always)]
    fn measure(&self, version: Version) -> Result<Lengths, EncodeError> {
        let packet_id = match (self.qos, self.packet_id) {
            (QoS::AtMostOnce, None) => 0,
            (QoS::AtMostOnce, Some(_)) => return Err(EncodeError::PacketIdAtQos0),
            (_, Some(_)) => 2,
            (_, None) => return Err(EncodeError::PacketIdMissing),
        };
        if self.dup && self.qos == QoS::AtMostOnce {
            return Err(DecodeError::DupWithQos0.into());
        }
        let properties = self.properties.measure(Place::PUBLISH, version)?;
        let mut header = packet_id;
        if version == Version::V5 {
            header += write::variable_byte_integer_len(properties)? + properties;
        }
        header += if !self.topic.is_empty() {
            topic_name_len(self.topic)?
        } else if version == Version::V311 {
            return Err(DecodeError::TopicName(TopicNameError::Empty).into());
        } else if self.properties.contains(PropertyId::TOPIC_ALIAS) {
            2
        } else {
            return Err(DecodeError::TopicNameAndAliasMissing.into());
        };
        Ok(Lengths { header, properties })
    }
}

struct Lengths {
    /// Variable header.
    header: usize,
    properties: usize,
}

/// The variable header, once it is all there. `needed` counts from the start of the body, of which
/// `available` has arrived.
#[inline]
pub(super) fn header_len(
    available: &[u8],
    remaining_len: usize,
    flags: u8,
    version: Version,
) -> Result<Decoded<&[u8]>, DecodeError> {
    let mut needed = 2;
    if let Some(len) = available.first_chunk::<2>() {
        needed += usize::from(u16::from_be_bytes(*len));
        if qos(flags)? != QoS::AtMostOnce {
            needed += 2;
        }
        if version == Version::V5 {
            let properties = available.get(needed..).unwrap_or_default();
            needed += match variable_byte_integer(properties)? {
                Some((len, size)) => size + len as usize,
                None => properties.len() + 1,
            };
        }
    }
    match available.get(..needed) {
        Some(header) => Ok(Decoded::Complete { packet: header, consumed: needed }),
        // What is missing will never come.
        None if needed > remaining_len => Err(truncated(needed, available)),
        None => Ok(Decoded::Incomplete { needed }),
    }
}

/// The QoS in the flags of the fixed header.
#[inline]
fn qos(flags: u8) -> Result<QoS, DecodeError> {
    QoS::from_u8(flags >> 1 & 3).ok_or(DecodeError::PublishQos3)
}
