//! CONNACK (§3.2).

use crate::error::{DecodeError, EncodeError};
use crate::number::{ConnectReturnCode, PacketType, ReasonCode, Version};
use crate::property::{Place, Properties};
use crate::read::{Reader, Refused};
use crate::write::{self, Writer};

/// Connect acknowledgement (§3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server has a session for the client already (§3.2.2.1.1).
    pub session_present: bool,
    /// The outcome.
    pub code: ConnectCode,
    /// Empty in MQTT 3.1.1 (§3.2.2.3).
    pub properties: Properties<'a>,
}

/// The outcome of a connection request, which the two versions number differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectCode {
    /// A return code of MQTT 3.1.1 (3.1.1 §3.2.2.3).
    V311(ConnectReturnCode),
    /// A reason code of MQTT 5.0 (§3.2.2.2).
    V5(ReasonCode),
}

impl ConnectCode {
    /// The byte on the wire.
    #[inline]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::V311(code) => code.0,
            Self::V5(code) => code.0,
        }
    }

    /// Whether the connection is accepted.
    #[inline]
    pub const fn is_accepted(self) -> bool {
        self.as_u8() == 0
    }

    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::V311(code) => code.label(),
            Self::V5(code) => code.label(),
        }
    }

    #[inline]
    const fn version(self) -> Version {
        match self {
            Self::V311(_) => Version::V311,
            Self::V5(_) => Version::V5,
        }
    }
}

impl<'a> ConnAck<'a> {
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Refused> {
        let [flags, code] = reader.array()?;
        if flags > 1 {
            return Err(reader.refuse(DecodeError::ReservedConnAckFlags(flags)));
        }
        let session_present = flags == 1;
        let (code, properties) = match version {
            Version::V311 => (ConnectCode::V311(ConnectReturnCode(code)), Properties::EMPTY),
            Version::V5 => {
                (ConnectCode::V5(ReasonCode(code)), Properties::read(reader, Place::CONNACK)?)
            }
        };
        let packet = Self { session_present, code, properties };
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
        let (mut writer, len) = Writer::packet(out, PacketType::CONNACK, 0, remaining, remaining)?;
        writer.u8(u8::from(self.session_present))?;
        writer.u8(self.code.as_u8())?;
        if version == Version::V5 {
            self.properties.write(properties, &mut writer)?;
        }
        Ok(len)
    }

    /// The remaining length, and that of the properties.
    fn measure(&self, version: Version) -> Result<(usize, usize), EncodeError> {
        if self.code.version() != version {
            return Err(EncodeError::NotInVersion(version));
        }
        self.check()?;
        let properties = self.properties.measure(Place::CONNACK, version)?;
        let remaining = match version {
            Version::V311 => 2,
            Version::V5 => 2 + write::variable_byte_integer_len(properties)? + properties,
        };
        Ok((remaining, properties))
    }

    #[inline]
    fn check(&self) -> Result<(), DecodeError> {
        let allowed = match self.code {
            ConnectCode::V311(code) => code <= ConnectReturnCode::NOT_AUTHORIZED,
            ConnectCode::V5(code) => code.allowed_in(PacketType::CONNACK),
        };
        let code = self.code.as_u8();
        if !allowed {
            return Err(DecodeError::ReasonCodeNotAllowed {
                packet_type: PacketType::CONNACK,
                code,
            });
        }
        if self.session_present && code != 0 {
            return Err(DecodeError::SessionPresentOnError(code));
        }
        Ok(())
    }
}
