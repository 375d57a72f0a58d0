//! SUBACK and UNSUBACK (§3.9, §3.11).

use core::fmt;
use core::num::NonZeroU16;

use crate::error::{DecodeError, EncodeError};
use crate::number::{PacketType, ReasonCode, Version};
use crate::property::{Place, Properties};
use crate::read::{Reader, Refused};
use crate::write::{self, Writer};

/// Subscribe acknowledgement (§3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The identifier of the SUBSCRIBE (§2.2.1).
    pub packet_id: NonZeroU16,
    /// Empty in MQTT 3.1.1 (§3.9.2.1).
    pub properties: Properties<'a>,
    /// One for each topic filter of the SUBSCRIBE, in its order (§3.9.3). MQTT 3.1.1 knows granted QoS
    /// 0 to 2 and 0x80, failure.
    pub reason_codes: ReasonCodes<'a>,
}

/// Unsubscribe acknowledgement (§3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The identifier of the UNSUBSCRIBE (§2.2.1).
    pub packet_id: NonZeroU16,
    /// Empty in MQTT 3.1.1 (§3.11.2.1).
    pub properties: Properties<'a>,
    /// One for each topic filter of the UNSUBSCRIBE, in its order (§3.11.3). None in MQTT 3.1.1.
    pub reason_codes: ReasonCodes<'a>,
}

/// The reason codes of a SUBACK or UNSUBACK: one byte each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ReasonCodes<'a>(&'a [u8]);

impl<'a> ReasonCodes<'a> {
    /// From their bytes; validated when written.
    #[inline]
    pub const fn new(codes: &'a [u8]) -> Self {
        Self(codes)
    }

    /// How many there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, one per code.
    #[inline]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The codes, in their order.
    #[inline]
    pub fn iter(
        &self,
    ) -> impl ExactSizeIterator<Item = ReasonCode> + DoubleEndedIterator + Clone + use<'a> {
        self.0.iter().copied().map(ReasonCode)
    }
}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

macro_rules! subscription_acknowledgement {
    ($name:ident, $packet_type:ident) => {
        impl<'a> $name<'a> {
            #[inline]
            pub(super) fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Refused> {
                let packet_type = PacketType::$packet_type;
                let packet_id = reader.packet_id(packet_type)?;
                let properties = match version {
                    Version::V311 => Properties::EMPTY,
                    Version::V5 => Properties::read(reader, Place::acknowledgement(packet_type))?,
                };
                let reason_codes = ReasonCodes(match (packet_type, version) {
                    (PacketType::UNSUBACK, Version::V311) => &[],
                    _ => reader.bytes(reader.rest().len())?,
                });
                check(packet_type, reason_codes, version).map_err(|error| reader.refuse(error))?;
                Ok(Self { packet_id, properties, reason_codes })
            }

            /// The size of the whole packet in bytes.
            ///
            /// # Errors
            ///
            /// As [`encode`](Self::encode), except for the size of the output.
            pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
                write::packet_len(self.measure(version)?.0)
            }

            /// Writes the packet to the front of `out` and returns its size.
            ///
            /// # Errors
            ///
            /// A packet that `version` cannot express, that a receiver would refuse, or that does not
            /// fit `out`. After an error the contents of `out` are unspecified.
            pub fn encode(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
                let (remaining, properties) = self.measure(version)?;
                let (mut writer, len) =
                    Writer::packet(out, PacketType::$packet_type, 0, remaining, remaining)?;
                writer.packet_id(self.packet_id)?;
                if version == Version::V5 {
                    self.properties.write(properties, &mut writer)?;
                }
                writer.bytes(self.reason_codes.0)?;
                Ok(len)
            }

            /// The remaining length, and that of the properties.
            fn measure(&self, version: Version) -> Result<(usize, usize), EncodeError> {
                let packet_type = PacketType::$packet_type;
                if packet_type == PacketType::UNSUBACK
                    && version == Version::V311
                    && !self.reason_codes.is_empty()
                {
                    return Err(EncodeError::NotInVersion(version));
                }
                check(packet_type, self.reason_codes, version)?;
                let properties =
                    self.properties.measure(Place::acknowledgement(packet_type), version)?;
                let mut remaining = self.reason_codes.len().saturating_add(2);
                if version == Version::V5 {
                    let properties = write::variable_byte_integer_len(properties)? + properties;
                    remaining = remaining.saturating_add(properties);
                }
                Ok((remaining, properties))
            }
        }
    };
}

subscription_acknowledgement!(SubAck, SUBACK);
subscription_acknowledgement!(UnsubAck, UNSUBACK);

/// Checks the codes of a SUBACK or UNSUBACK (§3.9.3, §3.11.3, 3.1.1 §3.9.3).
fn check(
    packet_type: PacketType,
    codes: ReasonCodes<'_>,
    version: Version,
) -> Result<(), DecodeError> {
    if codes.is_empty() && (packet_type, version) != (PacketType::UNSUBACK, Version::V311) {
        return Err(DecodeError::EmptyPayload(packet_type));
    }
    let allowed = |code: &ReasonCode| match version {
        Version::V311 => matches!(code.0, 0..=2 | 0x80),
        Version::V5 => code.allowed_in(packet_type),
    };
    match codes.iter().find(|code| !allowed(code)) {
        Some(code) => Err(DecodeError::ReasonCodeNotAllowed { packet_type, code: code.0 }),
        None => Ok(()),
    }
}
