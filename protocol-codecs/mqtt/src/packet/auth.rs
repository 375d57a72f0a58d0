//! AUTH (§3.15).

use crate::error::{DecodeError, EncodeError};
use crate::number::{PacketType, PropertyId, ReasonCode, Version};
use crate::property::{Place, Properties};
use crate::read::{Reader, Refused};
use crate::write::{self, Writer};

/// Authentication exchange (§3.15); MQTT 5.0 only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue, or re-authenticate (§3.15.2.1).
    pub reason_code: ReasonCode,
    /// The authentication method at least, unless the packet is a bare success (§3.15.2.2).
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        // Success without properties may be left out altogether (§3.15.2.1).
        if reader.is_empty() {
            return Ok(Self { reason_code: ReasonCode::SUCCESS, properties: Properties::EMPTY });
        }
        let reason_code = ReasonCode(reader.u8()?);
        let packet = Self { reason_code, properties: Properties::read(reader, Place::AUTH)? };
        packet.check().map_err(|error| reader.refuse(error))?;
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
        let (mut writer, len) = Writer::packet(out, PacketType::AUTH, 0, remaining, remaining)?;
        if remaining > 0 {
            writer.u8(self.reason_code.0)?;
            self.properties.write(properties, &mut writer)?;
        }
        Ok(len)
    }

    /// The remaining length, and that of the properties.
    fn measure(&self, version: Version) -> Result<(usize, usize), EncodeError> {
        if version == Version::V311 {
            return Err(EncodeError::NotInVersion(version));
        }
        self.check()?;
        let properties = self.properties.measure(Place::AUTH, version)?;
        let remaining = if properties == 0 {
            0
        } else {
            1 + write::variable_byte_integer_len(properties)? + properties
        };
        Ok((remaining, properties))
    }

    #[inline]
    fn check(&self) -> Result<(), DecodeError> {
        let (packet_type, code) = (PacketType::AUTH, self.reason_code);
        if !code.allowed_in(packet_type) {
            return Err(DecodeError::ReasonCodeNotAllowed { packet_type, code: code.0 });
        }
        let bare_success = code == ReasonCode::SUCCESS && self.properties.is_empty();
        if !bare_success && !self.properties.contains(PropertyId::AUTHENTICATION_METHOD) {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        Ok(())
    }
}
