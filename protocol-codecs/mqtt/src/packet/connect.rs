//! CONNECT (§3.1).

use crate::error::{DecodeError, EncodeError};
use crate::number::{PacketType, PropertyId, QoS, Version};
use crate::property::{Place, Properties, topic_name_len};
use crate::read::{Reader, Refused, truncated};
use crate::text;
use crate::topic;
use crate::write::{self, Writer};

/// Connection request (§3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that the packet, and with it the connection, is in (§3.1.2.2).
    pub version: Version,
    /// Start with a new session (§3.1.2.4); called Clean Session in MQTT 3.1.1.
    pub clean_start: bool,
    /// The longest silence of the client, in seconds; 0 turns the mechanism off (§3.1.2.10).
    pub keep_alive: u16,
    /// The client identifier; empty: the server assigns one (§3.1.3.1).
    pub client_id: &'a str,
    /// The user name (§3.1.3.5).
    pub username: Option<&'a str>,
    /// The password (§3.1.3.6).
    pub password: Option<&'a [u8]>,
    /// What the server publishes when the connection ends abnormally (§3.1.2.5).
    pub will: Option<Will<'a>>,
    /// Empty in MQTT 3.1.1 (§3.1.2.11).
    pub properties: Properties<'a>,
}

/// The will message of a connection (§3.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// The topic name to publish to (§3.1.3.3).
    pub topic: &'a str,
    /// The application message (§3.1.3.4).
    pub payload: &'a [u8],
    /// The QoS to publish with (§3.1.2.6).
    pub qos: QoS,
    /// Whether the message is to be retained (§3.1.2.7).
    pub retain: bool,
    /// Empty in MQTT 3.1.1 (§3.1.3.2).
    pub properties: Properties<'a>,
}

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

const PROTOCOL_NAME: [u8; 6] = *b"\x00\x04MQTT";

impl<'a> Connect<'a> {
    #[inline(always)]
    pub(super) fn read<const V5: bool>(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        let version = if V5 { Version::V5 } else { Version::V311 };
        let [_, _, _, _, _, _, _, flags, keep_alive @ ..] = reader.array::<10>()?;
        check_flags(flags, version).map_err(|error| reader.refuse(error))?;

        let mut properties = Properties::empty();
        if V5 {
            properties = Properties::read(reader, Place::CONNECT)?;
            check_authentication(&properties).map_err(|error| reader.refuse(error))?;
        }
        let client_id = string::<V5>(reader)?;
        if !V5 && client_id.is_empty() && flags & CLEAN_START == 0 {
            return Err(reader.refuse(DecodeError::EmptyClientId));
        }
        let will = if flags & WILL != 0 { Some(Will::read::<V5>(reader, flags)?) } else { None };
        let username = if flags & USERNAME != 0 { Some(string::<V5>(reader)?) } else { None };
        let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
        reader.finish()?;
        Ok(Self {
            version,
            clean_start: flags & CLEAN_START != 0,
            keep_alive: u16::from_be_bytes(keep_alive),
            client_id,
            username,
            password,
            will,
            properties,
        })
    }

    /// The size of the whole packet in bytes.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode), except for the size of the output.
    pub fn encoded_len(&self) -> Result<usize, EncodeError> {
        write::packet_len(self.measure()?.remaining)
    }

    /// Writes the packet, in its own version, to the front of `out` and returns its size.
    ///
    /// # Errors
    ///
    /// A packet that its version cannot express, that a receiver would refuse, or that does not fit
    /// `out`. After an error the contents of `out` are unspecified.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let lengths = self.measure()?;
        let (mut writer, len) =
            Writer::packet(out, PacketType::CONNECT, 0, lengths.remaining, lengths.remaining)?;
        let v5 = self.version == Version::V5;
        writer.array(PROTOCOL_NAME)?;
        writer.u8(self.version.level())?;
        writer.u8(self.flags())?;
        writer.u16(self.keep_alive)?;
        if v5 {
            self.properties.write(lengths.properties, &mut writer)?;
        }
        writer.field(self.client_id.as_bytes())?;
        if let Some(will) = &self.will {
            if v5 {
                will.properties.write(lengths.will_properties, &mut writer)?;
            }
            writer.field(will.topic.as_bytes())?;
            writer.field(will.payload)?;
        }
        if let Some(username) = self.username {
            writer.field(username.as_bytes())?;
        }
        if let Some(password) = self.password {
            writer.field(password)?;
        }
        Ok(len)
    }

    fn measure(&self) -> Result<Lengths, EncodeError> {
        let v311 = self.version == Version::V311;
        if v311 && self.password.is_some() && self.username.is_none() {
            return Err(DecodeError::PasswordWithoutUserName.into());
        }
        if v311 && self.client_id.is_empty() && !self.clean_start {
            return Err(DecodeError::EmptyClientId.into());
        }
        check_authentication(&self.properties)?;

        let properties = self.properties.measure(Place::CONNECT, self.version)?;
        let mut remaining = 10 + write::string_len(self.client_id)?;
        if !v311 {
            remaining += write::variable_byte_integer_len(properties)? + properties;
        }
        let mut will_properties = 0;
        if let Some(will) = &self.will {
            will_properties = will.properties.measure(Place::WILL, self.version)?;
            if !v311 {
                remaining += write::variable_byte_integer_len(will_properties)? + will_properties;
            }
            remaining += topic_name_len(will.topic)? + write::binary_len(will.payload)?;
        }
        if let Some(username) = self.username {
            remaining += write::string_len(username)?;
        }
        if let Some(password) = self.password {
            remaining += write::binary_len(password)?;
        }
        Ok(Lengths { remaining, properties, will_properties })
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << 3;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        if self.username.is_some() {
            flags |= USERNAME;
        }
        flags
    }
}

impl<'a> Will<'a> {
    #[inline(always)]
    fn read<const V5: bool>(reader: &mut Reader<'a>, flags: u8) -> Result<Self, Refused> {
        let properties =
            if V5 { Properties::read(reader, Place::WILL)? } else { Properties::empty() };
        let topic = if one_by_one::<V5>() {
            reader.lone_string()?
        } else {
            reader.string_or_null::<true>()?
        };
        topic::check_name(topic).map_err(|error| reader.refuse(error))?;
        let payload = reader.binary()?;
        let Some(qos) = QoS::from_u8((flags & WILL_QOS) >> 3) else {
            return Err(reader.refuse(DecodeError::WillQos3(flags)));
        };
        Ok(Self { topic, payload, qos, retain: flags & WILL_RETAIN != 0, properties })
    }
}

/// Whether to check each string on its own, not as part of a stretch. In wasm, and for no more than the three
/// strings of MQTT 3.1.1, that is faster; natively it is slower.
const fn one_by_one<const V5: bool>() -> bool {
    !V5 && cfg!(target_family = "wasm")
}

#[inline(always)]
fn string<'a, const V5: bool>(reader: &mut Reader<'a>) -> Result<&'a str, Refused> {
    if !one_by_one::<V5>() {
        return reader.string::<true>();
    }
    let string = reader.lone_string()?;
    if text::has_null(string.as_bytes()) {
        return Err(reader.refuse(DecodeError::NullCharacter));
    }
    Ok(string)
}

struct Lengths {
    remaining: usize,
    properties: usize,
    will_properties: usize,
}

/// The version that the front of the packet's body names; `None` if it does not reach that far
/// (§3.1.2.1, §3.1.2.2).
#[inline]
pub(super) fn check_protocol(body: &[u8]) -> Result<Option<Version>, DecodeError> {
    if let Some([name @ .., level]) = body.first_chunk::<7>()
        && *name == PROTOCOL_NAME
    {
        return match Version::from_level(*level) {
            Some(version) => Ok(Some(version)),
            None => Err(DecodeError::UnsupportedProtocolVersion(*level)),
        };
    }
    if body.iter().zip(&PROTOCOL_NAME).all(|(byte, expected)| byte == expected) {
        Ok(None)
    } else {
        Err(DecodeError::UnknownProtocolName)
    }
}

/// The version that a whole body names.
#[inline]
pub(super) fn version(body: &[u8]) -> Result<Version, DecodeError> {
    match check_protocol(body)? {
        Some(version) => Ok(version),
        None => Err(truncated(PROTOCOL_NAME.len() + 1, body)),
    }
}

/// Checks the connect flags (§3.1.2.3).
#[inline]
fn check_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    if flags & 1 != 0 {
        return Err(DecodeError::ReservedConnectFlag(flags));
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(DecodeError::WillFlagsWithoutWill(flags));
    }
    if flags & WILL_QOS == WILL_QOS {
        return Err(DecodeError::WillQos3(flags));
    }
    if version == Version::V311 && flags & (USERNAME | PASSWORD) == PASSWORD {
        return Err(DecodeError::PasswordWithoutUserName);
    }
    Ok(())
}

#[inline]
fn check_authentication(properties: &Properties<'_>) -> Result<(), DecodeError> {
    if properties.contains(PropertyId::AUTHENTICATION_DATA)
        && !properties.contains(PropertyId::AUTHENTICATION_METHOD)
    {
        return Err(DecodeError::AuthenticationDataWithoutMethod);
    }
    Ok(())
}
