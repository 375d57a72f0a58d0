//! PUBACK, PUBREC, PUBREL and PUBCOMP (§3.4 to §3.7), which share one shape.

use core::num::NonZeroU16;

use crate::error::{DecodeError, EncodeError};
use crate::number::{PacketType, ReasonCode, Version};
use crate::property::{Place, Properties};
use crate::read::{Reader, Refused};
use crate::write::{self, Writer};

macro_rules! acknowledgement {
    ($(#[$meta:meta])* $name:ident, $packet_type:ident, $flags:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name<'a> {
            /// The identifier of the PUBLISH that this is about (§2.2.1).
            pub packet_id: NonZeroU16,
            /// The outcome; always success in MQTT 3.1.1, which does not carry it.
            pub reason_code: ReasonCode,
            /// Empty in MQTT 3.1.1.
            pub properties: Properties<'a>,
        }

        impl<'a> $name<'a> {
            /// Success, without properties: the same in both versions.
            #[inline]
            pub const fn new(packet_id: NonZeroU16) -> Self {
                Self { packet_id, reason_code: ReasonCode::SUCCESS, properties: Properties::EMPTY }
            }

            #[inline]
            pub(super) fn read(
                reader: &mut Reader<'a>,
                version: Version,
            ) -> Result<Self, Refused> {
                let Fields { packet_id, reason_code, properties } =
                    Fields::read(reader, PacketType::$packet_type, version)?;
                Ok(Self { packet_id, reason_code, properties })
            }

            /// The size of the whole packet in bytes.
            ///
            /// # Errors
            ///
            /// As [`encode`](Self::encode), except for the size of the output.
            #[inline]
            pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
                write::packet_len(self.fields().measure(PacketType::$packet_type, version)?.0)
            }

            /// Writes the packet to the front of `out` and returns its size.
            ///
            /// # Errors
            ///
            /// A packet that `version` cannot express, that a receiver would refuse, or that does not
            /// fit `out`. After an error the contents of `out` are unspecified.
            #[inline]
            pub fn encode(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
                self.fields().encode(PacketType::$packet_type, $flags, version, out)
            }

            #[inline]
            const fn fields(&self) -> Fields<'a> {
                Fields {
                    packet_id: self.packet_id,
                    reason_code: self.reason_code,
                    properties: self.properties,
                }
            }
        }
    };
}

acknowledgement! {
    /// Publish acknowledgement: the answer to a PUBLISH at QoS 1 (§3.4).
    PubAck, PUBACK, 0b0000
}

acknowledgement! {
    /// Publish received: the answer to a PUBLISH at QoS 2 (§3.5).
    PubRec, PUBREC, 0b0000
}

acknowledgement! {
    /// Publish release: the answer to a PUBREC (§3.6).
    PubRel, PUBREL, 0b0010
}

acknowledgement! {
    /// Publish complete: the answer to a PUBREL (§3.7).
    PubComp, PUBCOMP, 0b0000
}

struct Fields<'a> {
    packet_id: NonZeroU16,
    reason_code: ReasonCode,
    properties: Properties<'a>,
}

impl<'a> Fields<'a> {
    #[inline]
    fn read(
        reader: &mut Reader<'a>,
        packet_type: PacketType,
        version: Version,
    ) -> Result<Self, Refused> {
        let packet_id = reader.packet_id(packet_type)?;
        let mut reason_code = ReasonCode::SUCCESS;
        let mut properties = Properties::EMPTY;
        // Reason code and property length may be left out (§3.4.2.1, §3.4.2.2.1).
        if version == Version::V5 && !reader.is_empty() {
            reason_code = ReasonCode(reader.u8()?);
            check(packet_type, reason_code).map_err(|error| reader.refuse(error))?;
            if !reader.is_empty() {
                properties = Properties::read(reader, Place::acknowledgement(packet_type))?;
            }
        }
        Ok(Self { packet_id, reason_code, properties })
    }

    fn encode(
        &self,
        packet_type: PacketType,
        flags: u8,
        version: Version,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let (remaining, properties) = self.measure(packet_type, version)?;
        let (mut writer, len) = Writer::packet(out, packet_type, flags, remaining, remaining)?;
        writer.packet_id(self.packet_id)?;
        if remaining > 2 {
            writer.u8(self.reason_code.0)?;
        }
        if remaining > 3 {
            self.properties.write(properties, &mut writer)?;
        }
        Ok(len)
    }

    /// The remaining length, and that of the properties.
    fn measure(
        &self,
        packet_type: PacketType,
        version: Version,
    ) -> Result<(usize, usize), EncodeError> {
        if version == Version::V311 && self.reason_code != ReasonCode::SUCCESS {
            return Err(EncodeError::NotInVersion(version));
        }
        check(packet_type, self.reason_code)?;
        let properties = self.properties.measure(Place::acknowledgement(packet_type), version)?;
        let remaining = if properties > 0 {
            3 + write::variable_byte_integer_len(properties)? + properties
        } else if self.reason_code != ReasonCode::SUCCESS {
            3
        } else {
            2
        };
        Ok((remaining, properties))
    }
}

#[inline]
fn check(packet_type: PacketType, code: ReasonCode) -> Result<(), DecodeError> {
    if code.allowed_in(packet_type) {
        Ok(())
    } else {
        Err(DecodeError::ReasonCodeNotAllowed { packet_type, code: code.0 })
    }
}
