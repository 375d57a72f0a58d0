//! DISCONNECT (§3.14).

use crate::error::{DecodeError, EncodeError};
use crate::number::{PacketType, ReasonCode, Version};
use crate::property::{Place, Properties};
use crate::read::{Reader, Refused};
use crate::write::{self, Writer};

/// Disconnect notification (§3.14). In MQTT 3.1.1 only the client sends it, and it carries nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why; always normal disconnection in MQTT 3.1.1, which does not carry it (§3.14.2.1).
    pub reason_code: ReasonCode,
    /// Empty in MQTT 3.1.1 (§3.14.2.2).
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A normal disconnection: the same in both versions.
    pub const NORMAL: Self =
        Self { reason_code: ReasonCode::NORMAL_DISCONNECTION, properties: Properties::EMPTY };

    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Refused> {
        let mut packet = Self::NORMAL;
        // Reason code and property length may be left out (§3.14.2.1, §3.14.2.2.1).
        if version == Version::V5 && !reader.is_empty() {
            packet.reason_code = ReasonCode(reader.u8()?);
            check(packet.reason_code).map_err(|error| reader.refuse(error))?;
            if !reader.is_empty() {
                packet.properties = Properties::read(reader, Place::DISCONNECT)?;
            }
        }
        Ok(packet)
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
    /// A packet that `version` cannot express, that a receiver would refuse, or that does not fit
    /// `out`. After an error the contents of `out` are unspecified.
    pub fn encode(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
        let (remaining, properties) = self.measure(version)?;
        let (mut writer, len) =
            Writer::packet(out, PacketType::DISCONNECT, 0, remaining, remaining)?;
        if remaining > 0 {
            writer.u8(self.reason_code.0)?;
        }
        if remaining > 1 {
            self.properties.write(properties, &mut writer)?;
        }
        Ok(len)
    }

    /// The remaining length, and that of the properties.
    fn measure(&self, version: Version) -> Result<(usize, usize), EncodeError> {
        if version == Version::V311 && self.reason_code != ReasonCode::NORMAL_DISCONNECTION {
            return Err(EncodeError::NotInVersion(version));
        }
        check(self.reason_code)?;
        let properties = self.properties.measure(Place::DISCONNECT, version)?;
        let remaining = if properties > 0 {
            1 + write::variable_byte_integer_len(properties)? + properties
        } else if self.reason_code != ReasonCode::NORMAL_DISCONNECTION {
            1
        } else {
            0
        };
        Ok((remaining, properties))
    }
}

#[inline]
fn check(code: ReasonCode) -> Result<(), DecodeError> {
    let packet_type = PacketType::DISCONNECT;
    if code.allowed_in(packet_type) {
        Ok(())
    } else {
        Err(DecodeError::ReasonCodeNotAllowed { packet_type, code: code.0 })
    }
}
