//! Properties, MQTT 5.0 (§2.2.2).

use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};

use crate::error::{DecodeError, EncodeError};
use crate::number::{PacketType, PropertyId, QoS, Version};
use crate::read::{Reader, Refused, truncated, variable_byte_integer};
use crate::topic::{self, TopicNameError};
use crate::write::{self, Overrun, Writer};

/// One property (§2.2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// Whether the payload is UTF-8 encoded character data (§3.3.2.3.2).
    PayloadFormatIndicator(bool),
    /// The lifetime of the message in seconds (§3.3.2.3.3).
    MessageExpiryInterval(u32),
    /// The content type of the message (§3.3.2.3.9).
    ContentType(&'a str),
    /// The topic name for a response message (§3.3.2.3.5).
    ResponseTopic(&'a str),
    /// Identifies which request a response is for (§3.3.2.3.6).
    CorrelationData(&'a [u8]),
    /// The identifier of a subscription, 1 to 268,435,455 (§3.3.2.3.8, §3.8.2.1.2).
    SubscriptionIdentifier(NonZeroU32),
    /// How many seconds the session outlives the connection; 0xFFFFFFFF: forever (§3.1.2.11.2).
    SessionExpiryInterval(u32),
    /// The client identifier that the server chose (§3.2.2.3.7).
    AssignedClientIdentifier(&'a str),
    /// The keep alive time in seconds that the server assigned (§3.2.2.3.14).
    ServerKeepAlive(u16),
    /// The name of the authentication method (§3.1.2.11.9).
    AuthenticationMethod(&'a str),
    /// Data whose contents the authentication method defines (§3.1.2.11.10).
    AuthenticationData(&'a [u8]),
    /// Whether reason strings and user properties may be sent on failures (§3.1.2.11.7).
    RequestProblemInformation(bool),
    /// How many seconds the server waits before publishing the will (§3.1.3.2.2).
    WillDelayInterval(u32),
    /// Whether the client asks for response information (§3.1.2.11.6).
    RequestResponseInformation(bool),
    /// The basis for a response topic (§3.2.2.3.15).
    ResponseInformation(&'a str),
    /// Another server to use (§3.2.2.3.16).
    ServerReference(&'a str),
    /// A human readable reason for diagnostics (§3.2.2.3.9).
    ReasonString(&'a str),
    /// How many QoS 1 and QoS 2 publications may be in flight (§3.1.2.11.3).
    ReceiveMaximum(NonZeroU16),
    /// The highest topic alias accepted (§3.1.2.11.5).
    TopicAliasMaximum(u16),
    /// Stands for the topic name (§3.3.2.3.4).
    TopicAlias(NonZeroU16),
    /// The highest QoS the server supports: 0 or 1 (§3.2.2.3.4).
    MaximumQos(QoS),
    /// Whether the server supports retained messages (§3.2.2.3.5).
    RetainAvailable(bool),
    /// A name and a value; may be repeated, and the order is significant (§3.1.2.11.8).
    UserProperty(&'a str, &'a str),
    /// The largest packet accepted, in bytes (§3.1.2.11.4).
    MaximumPacketSize(NonZeroU32),
    /// Whether the server supports wildcard subscriptions (§3.2.2.3.11).
    WildcardSubscriptionAvailable(bool),
    /// Whether the server supports subscription identifiers (§3.2.2.3.12).
    SubscriptionIdentifierAvailable(bool),
    /// Whether the server supports shared subscriptions (§3.2.2.3.13).
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    /// The property's identifier.
    pub const fn id(&self) -> PropertyId {
        match self {
            Self::PayloadFormatIndicator(_) => PropertyId::PAYLOAD_FORMAT_INDICATOR,
            Self::MessageExpiryInterval(_) => PropertyId::MESSAGE_EXPIRY_INTERVAL,
            Self::ContentType(_) => PropertyId::CONTENT_TYPE,
            Self::ResponseTopic(_) => PropertyId::RESPONSE_TOPIC,
            Self::CorrelationData(_) => PropertyId::CORRELATION_DATA,
            Self::SubscriptionIdentifier(_) => PropertyId::SUBSCRIPTION_IDENTIFIER,
            Self::SessionExpiryInterval(_) => PropertyId::SESSION_EXPIRY_INTERVAL,
            Self::AssignedClientIdentifier(_) => PropertyId::ASSIGNED_CLIENT_IDENTIFIER,
            Self::ServerKeepAlive(_) => PropertyId::SERVER_KEEP_ALIVE,
            Self::AuthenticationMethod(_) => PropertyId::AUTHENTICATION_METHOD,
            Self::AuthenticationData(_) => PropertyId::AUTHENTICATION_DATA,
            Self::RequestProblemInformation(_) => PropertyId::REQUEST_PROBLEM_INFORMATION,
            Self::WillDelayInterval(_) => PropertyId::WILL_DELAY_INTERVAL,
            Self::RequestResponseInformation(_) => PropertyId::REQUEST_RESPONSE_INFORMATION,
            Self::ResponseInformation(_) => PropertyId::RESPONSE_INFORMATION,
            Self::ServerReference(_) => PropertyId::SERVER_REFERENCE,
            Self::ReasonString(_) => PropertyId::REASON_STRING,
            Self::ReceiveMaximum(_) => PropertyId::RECEIVE_MAXIMUM,
            Self::TopicAliasMaximum(_) => PropertyId::TOPIC_ALIAS_MAXIMUM,
            Self::TopicAlias(_) => PropertyId::TOPIC_ALIAS,
            Self::MaximumQos(_) => PropertyId::MAXIMUM_QOS,
            Self::RetainAvailable(_) => PropertyId::RETAIN_AVAILABLE,
            Self::UserProperty(..) => PropertyId::USER_PROPERTY,
            Self::MaximumPacketSize(_) => PropertyId::MAXIMUM_PACKET_SIZE,
            Self::WildcardSubscriptionAvailable(_) => PropertyId::WILDCARD_SUBSCRIPTION_AVAILABLE,
            Self::SubscriptionIdentifierAvailable(_) => {
                PropertyId::SUBSCRIPTION_IDENTIFIER_AVAILABLE
            }
            Self::SharedSubscriptionAvailable(_) => PropertyId::SHARED_SUBSCRIPTION_AVAILABLE,
        }
    }

    /// Reads one property. With `FIRST` its value is checked; without, it was checked before.
    #[inline]
    fn read<const FIRST: bool>(reader: &mut Reader<'a>) -> Result<Self, Refused> {
        let id = PropertyId(reader.u8()?);
        Ok(match id {
            PropertyId::USER_PROPERTY => {
                let name = reader.string::<FIRST>()?;
                Self::UserProperty(name, reader.string::<FIRST>()?)
            }
            PropertyId::PAYLOAD_FORMAT_INDICATOR => {
                Self::PayloadFormatIndicator(boolean(id, reader)?)
            }
            PropertyId::MESSAGE_EXPIRY_INTERVAL => Self::MessageExpiryInterval(reader.u32()?),
            PropertyId::CONTENT_TYPE => Self::ContentType(string::<FIRST>(reader)?),
            PropertyId::RESPONSE_TOPIC => {
                let name = reader.string_or_null::<FIRST>()?;
                if FIRST {
                    topic::check_name(name).map_err(|error| reader.refuse(error))?;
                }
                Self::ResponseTopic(name)
            }
            PropertyId::CORRELATION_DATA => Self::CorrelationData(reader.binary()?),
            PropertyId::SUBSCRIPTION_IDENTIFIER => Self::SubscriptionIdentifier(
                NonZeroU32::new(reader.variable_byte_integer()?)
                    .ok_or_else(|| reader.refuse(DecodeError::SubscriptionIdentifierZero))?,
            ),
            PropertyId::SESSION_EXPIRY_INTERVAL => Self::SessionExpiryInterval(reader.u32()?),
            PropertyId::ASSIGNED_CLIENT_IDENTIFIER => {
                Self::AssignedClientIdentifier(string::<FIRST>(reader)?)
            }
            PropertyId::SERVER_KEEP_ALIVE => Self::ServerKeepAlive(reader.u16()?),
            PropertyId::AUTHENTICATION_METHOD => {
                Self::AuthenticationMethod(string::<FIRST>(reader)?)
            }
            PropertyId::AUTHENTICATION_DATA => Self::AuthenticationData(reader.binary()?),
            PropertyId::REQUEST_PROBLEM_INFORMATION => {
                Self::RequestProblemInformation(boolean(id, reader)?)
            }
            PropertyId::WILL_DELAY_INTERVAL => Self::WillDelayInterval(reader.u32()?),
            PropertyId::REQUEST_RESPONSE_INFORMATION => {
                Self::RequestResponseInformation(boolean(id, reader)?)
            }
            PropertyId::RESPONSE_INFORMATION => Self::ResponseInformation(string::<FIRST>(reader)?),
            PropertyId::SERVER_REFERENCE => Self::ServerReference(string::<FIRST>(reader)?),
            PropertyId::REASON_STRING => Self::ReasonString(string::<FIRST>(reader)?),
            PropertyId::RECEIVE_MAXIMUM => Self::ReceiveMaximum(
                NonZeroU16::new(reader.u16()?)
                    .ok_or_else(|| reader.refuse(DecodeError::ReceiveMaximumZero))?,
            ),
            PropertyId::TOPIC_ALIAS_MAXIMUM => Self::TopicAliasMaximum(reader.u16()?),
            PropertyId::TOPIC_ALIAS => Self::TopicAlias(
                NonZeroU16::new(reader.u16()?)
                    .ok_or_else(|| reader.refuse(DecodeError::TopicAliasZero))?,
            ),
            PropertyId::MAXIMUM_QOS => Self::MaximumQos(if boolean(id, reader)? {
                QoS::AtLeastOnce
            } else {
                QoS::AtMostOnce
            }),
            PropertyId::RETAIN_AVAILABLE => Self::RetainAvailable(boolean(id, reader)?),
            PropertyId::MAXIMUM_PACKET_SIZE => Self::MaximumPacketSize(
                NonZeroU32::new(reader.u32()?)
                    .ok_or_else(|| reader.refuse(DecodeError::MaximumPacketSizeZero))?,
            ),
            PropertyId::WILDCARD_SUBSCRIPTION_AVAILABLE => {
                Self::WildcardSubscriptionAvailable(boolean(id, reader)?)
            }
            PropertyId::SUBSCRIPTION_IDENTIFIER_AVAILABLE => {
                Self::SubscriptionIdentifierAvailable(boolean(id, reader)?)
            }
            PropertyId::SHARED_SUBSCRIPTION_AVAILABLE => {
                Self::SharedSubscriptionAvailable(boolean(id, reader)?)
            }
            PropertyId(unknown) => {
                return Err(reader.refuse(DecodeError::UnknownProperty(u32::from(unknown))));
            }
        })
    }

    /// The bytes that [`write`](Self::write) takes; an error for a value that must not be sent.
    #[inline]
    fn encoded_len(&self) -> Result<usize, EncodeError> {
        Ok(1 + match *self {
            Self::UserProperty(name, value) => return user_property_len(name, value),
            Self::PayloadFormatIndicator(_)
            | Self::RequestProblemInformation(_)
            | Self::RequestResponseInformation(_)
            | Self::RetainAvailable(_)
            | Self::WildcardSubscriptionAvailable(_)
            | Self::SubscriptionIdentifierAvailable(_)
            | Self::SharedSubscriptionAvailable(_) => 1,
            Self::MaximumQos(qos) => {
                if qos == QoS::ExactlyOnce {
                    let (id, value) = (PropertyId::MAXIMUM_QOS, qos as u8);
                    return Err(DecodeError::PropertyNotBoolean { id, value }.into());
                }
                1
            }
            Self::ServerKeepAlive(_)
            | Self::TopicAliasMaximum(_)
            | Self::ReceiveMaximum(_)
            | Self::TopicAlias(_) => 2,
            Self::MessageExpiryInterval(_)
            | Self::SessionExpiryInterval(_)
            | Self::WillDelayInterval(_)
            | Self::MaximumPacketSize(_) => 4,
            Self::SubscriptionIdentifier(id) => write::check_variable_byte_integer(id.get())?,
            Self::ResponseTopic(name) => topic_name_len(name)?,
            Self::ContentType(string)
            | Self::AssignedClientIdentifier(string)
            | Self::AuthenticationMethod(string)
            | Self::ResponseInformation(string)
            | Self::ServerReference(string)
            | Self::ReasonString(string) => write::string_len(string)?,
            Self::CorrelationData(data) | Self::AuthenticationData(data) => {
                write::binary_len(data)?
            }
        })
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Overrun> {
        writer.u8(self.id().0)?;
        match *self {
            Self::UserProperty(name, value) => {
                writer.field(name.as_bytes())?;
                writer.field(value.as_bytes())
            }
            Self::PayloadFormatIndicator(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => writer.u8(u8::from(value)),
            Self::MaximumQos(qos) => writer.u8(qos as u8),
            Self::ServerKeepAlive(value) | Self::TopicAliasMaximum(value) => writer.u16(value),
            Self::ReceiveMaximum(value) | Self::TopicAlias(value) => writer.u16(value.get()),
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value) => writer.u32(value),
            Self::MaximumPacketSize(value) => writer.u32(value.get()),
            Self::SubscriptionIdentifier(id) => writer.variable_byte_integer(id.get()),
            Self::ContentType(string)
            | Self::ResponseTopic(string)
            | Self::AssignedClientIdentifier(string)
            | Self::AuthenticationMethod(string)
            | Self::ResponseInformation(string)
            | Self::ServerReference(string)
            | Self::ReasonString(string) => writer.field(string.as_bytes()),
            Self::CorrelationData(data) | Self::AuthenticationData(data) => writer.field(data),
        }
    }
}

#[inline(always)]
fn user_property_len(name: &str, value: &str) -> Result<usize, EncodeError> {
    Ok(1 + write::string_len(name)? + write::string_len(value)?)
}

#[inline(always)]
fn write_user_property(name: &str, value: &str, writer: &mut Writer<'_>) -> Result<(), Overrun> {
    writer.u8(PropertyId::USER_PROPERTY.0)?;
    writer.field(name.as_bytes())?;
    writer.field(value.as_bytes())
}

/// How many bytes a topic name takes; an error if it is not one.
#[inline(always)]
pub(crate) fn topic_name_len(name: &str) -> Result<usize, EncodeError> {
    match topic::check_name(name) {
        Ok(()) => Ok(2 + name.len()),
        Err(TopicNameError::TooLong) => Err(EncodeError::FieldTooLong { len: name.len() }),
        Err(error) => Err(EncodeError::Refused(DecodeError::TopicName(error))),
    }
}

/// Out of line, unlike for user properties, which are many.
#[inline(never)]
fn string<'a, const FIRST: bool>(reader: &mut Reader<'a>) -> Result<&'a str, Refused> {
    reader.string::<FIRST>()
}

#[inline]
fn boolean(id: PropertyId, reader: &mut Reader<'_>) -> Result<bool, Refused> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(reader.refuse(DecodeError::PropertyNotBoolean { id, value })),
    }
}

/// Where properties stand; each place allows its own (§2.2.2.2, table 2-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    packet_type: PacketType,
    allowed: u64,
}

impl Place {
    pub(crate) const CONNECT: Self = Self::new(
        PacketType::CONNECT,
        bit(PropertyId::SESSION_EXPIRY_INTERVAL)
            | bit(PropertyId::AUTHENTICATION_METHOD)
            | bit(PropertyId::AUTHENTICATION_DATA)
            | bit(PropertyId::REQUEST_PROBLEM_INFORMATION)
            | bit(PropertyId::REQUEST_RESPONSE_INFORMATION)
            | bit(PropertyId::RECEIVE_MAXIMUM)
            | bit(PropertyId::TOPIC_ALIAS_MAXIMUM)
            | bit(PropertyId::MAXIMUM_PACKET_SIZE),
    );
    pub(crate) const WILL: Self = Self::new(
        PacketType::CONNECT,
        bit(PropertyId::PAYLOAD_FORMAT_INDICATOR)
            | bit(PropertyId::MESSAGE_EXPIRY_INTERVAL)
            | bit(PropertyId::CONTENT_TYPE)
            | bit(PropertyId::RESPONSE_TOPIC)
            | bit(PropertyId::CORRELATION_DATA)
            | bit(PropertyId::WILL_DELAY_INTERVAL),
    );
    pub(crate) const CONNACK: Self = Self::new(
        PacketType::CONNACK,
        bit(PropertyId::SESSION_EXPIRY_INTERVAL)
            | bit(PropertyId::ASSIGNED_CLIENT_IDENTIFIER)
            | bit(PropertyId::SERVER_KEEP_ALIVE)
            | bit(PropertyId::AUTHENTICATION_METHOD)
            | bit(PropertyId::AUTHENTICATION_DATA)
            | bit(PropertyId::RESPONSE_INFORMATION)
            | bit(PropertyId::SERVER_REFERENCE)
            | bit(PropertyId::REASON_STRING)
            | bit(PropertyId::RECEIVE_MAXIMUM)
            | bit(PropertyId::TOPIC_ALIAS_MAXIMUM)
            | bit(PropertyId::MAXIMUM_QOS)
            | bit(PropertyId::RETAIN_AVAILABLE)
            | bit(PropertyId::MAXIMUM_PACKET_SIZE)
            | bit(PropertyId::WILDCARD_SUBSCRIPTION_AVAILABLE)
            | bit(PropertyId::SUBSCRIPTION_IDENTIFIER_AVAILABLE)
            | bit(PropertyId::SHARED_SUBSCRIPTION_AVAILABLE),
    );
    pub(crate) const PUBLISH: Self = Self::new(
        PacketType::PUBLISH,
        bit(PropertyId::PAYLOAD_FORMAT_INDICATOR)
            | bit(PropertyId::MESSAGE_EXPIRY_INTERVAL)
            | bit(PropertyId::CONTENT_TYPE)
            | bit(PropertyId::RESPONSE_TOPIC)
            | bit(PropertyId::CORRELATION_DATA)
            | bit(PropertyId::SUBSCRIPTION_IDENTIFIER)
            | bit(PropertyId::TOPIC_ALIAS),
    );
    pub(crate) const SUBSCRIBE: Self =
        Self::new(PacketType::SUBSCRIBE, bit(PropertyId::SUBSCRIPTION_IDENTIFIER));
    pub(crate) const UNSUBSCRIBE: Self = Self::new(PacketType::UNSUBSCRIBE, 0);
    pub(crate) const DISCONNECT: Self = Self::new(
        PacketType::DISCONNECT,
        bit(PropertyId::SESSION_EXPIRY_INTERVAL)
            | bit(PropertyId::SERVER_REFERENCE)
            | bit(PropertyId::REASON_STRING),
    );
    pub(crate) const AUTH: Self = Self::new(
        PacketType::AUTH,
        bit(PropertyId::AUTHENTICATION_METHOD)
            | bit(PropertyId::AUTHENTICATION_DATA)
            | bit(PropertyId::REASON_STRING),
    );

    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK.
    pub(crate) const fn acknowledgement(packet_type: PacketType) -> Self {
        Self::new(packet_type, bit(PropertyId::REASON_STRING))
    }

    const fn new(packet_type: PacketType, allowed: u64) -> Self {
        Self { packet_type, allowed: allowed | bit(PropertyId::USER_PROPERTY) }
    }

    /// Whether the property may be there, after those in `present`.
    #[inline]
    fn accepts(self, id: PropertyId, present: u64) -> bool {
        self.allowed & bit(id) != 0 && (present & bit(id) == 0 || self.may_repeat(id))
    }

    #[inline]
    fn check(self, id: PropertyId, present: u64) -> Result<(), DecodeError> {
        if self.accepts(id, present) { Ok(()) } else { Err(self.not_accepted(id)) }
    }

    /// Why the property is not accepted.
    #[cold]
    fn not_accepted(self, id: PropertyId) -> DecodeError {
        if self.allowed & bit(id) == 0 {
            DecodeError::PropertyNotAllowed { packet_type: self.packet_type, id }
        } else {
            DecodeError::RepeatedProperty(id)
        }
    }

    /// Why the property in front of these bytes, which begin with `id`, is not accepted.
    #[cold]
    fn offence(self, bytes: &[u8], id: PropertyId) -> DecodeError {
        match variable_byte_integer(bytes) {
            Ok(Some((number, _))) if number >= 64 || KNOWN & 1 << number == 0 => {
                DecodeError::UnknownProperty(number)
            }
            Ok(Some(_)) => self.not_accepted(id),
            Ok(None) => truncated(bytes.len() + 1, bytes),
            Err(error) => error,
        }
    }

    /// A PUBLISH carries the identifiers of all subscriptions it matched (§3.3.2.3.8).
    #[inline]
    fn may_repeat(self, id: PropertyId) -> bool {
        id == PropertyId::USER_PROPERTY
            || id == PropertyId::SUBSCRIPTION_IDENTIFIER && self.packet_type == PacketType::PUBLISH
    }
}

/// A property as an element of a set; the empty set for an identifier that does not exist.
#[inline]
const fn bit(id: PropertyId) -> u64 {
    if id.0 < 64 { 1 << id.0 } else { 0 }
}

/// All that exist.
const KNOWN: u64 =
    Place::CONNECT.allowed | Place::WILL.allowed | Place::CONNACK.allowed | Place::PUBLISH.allowed;

/// The properties of a packet or a will, in their order on the wire (§2.2.2).
///
/// Decoded ones are a view of the packet's bytes, validated as a whole. For encoding, make them from
/// a slice: `Properties::from(&[Property::TopicAliasMaximum(10)])`. Two are equal if they hold the
/// same properties in the same order.
#[derive(Clone, Copy)]
pub struct Properties<'a>(Option<Source<'a>>);

/// Either a view of validated bytes or the caller's list. Not an enum: as fields side by side they
/// move from where they are made to where they are used without a detour through memory.
#[derive(Clone, Copy)]
struct Source<'a> {
    bytes: &'a [u8],
    /// The stretch of text at the end of `bytes`, see [`Reader`].
    text: &'a str,
    /// The set of what is in `bytes`; as bytes, so that 32-bit targets need no padding for it.
    present: [u8; 8],
    /// Empty if there are `bytes`; validated when written.
    list: &'a [Property<'a>],
}

// User properties, which alone may be many, go ahead of the others when written: that spares them the jumps
// by number. They may be anywhere and repeat, so there is nothing to check about their place.

impl Source<'_> {
    #[inline(always)]
    const fn present(&self) -> u64 {
        u64::from_ne_bytes(self.present)
    }

    fn measure(&self, place: Place) -> Result<usize, EncodeError> {
        // Only this one may repeat in one place and not in another.
        let repeated = self.present() & bit(PropertyId::SUBSCRIPTION_IDENTIFIER) != 0;
        if self.present() & !place.allowed != 0 || repeated {
            check_all(Properties(Some(*self)).iter(), place)?;
        }
        let mut present = 0;
        let mut len = self.bytes.len();
        for property in self.list {
            let property_len = if let Property::UserProperty(name, value) = property {
                user_property_len(name, value)?
            } else {
                core::hint::cold_path();
                place.check(property.id(), present)?;
                present |= bit(property.id());
                property.encoded_len()?
            };
            len = len.saturating_add(property_len);
        }
        Ok(len)
    }

    /// Takes the writer and gives it back, so that the caller's stays in registers.
    fn write<'b>(&self, mut writer: Writer<'b>) -> Result<Writer<'b>, Overrun> {
        writer.bytes(self.bytes)?;
        for property in self.list {
            if let Property::UserProperty(name, value) = property {
                write_user_property(name, value, &mut writer)?;
            } else {
                core::hint::cold_path();
                property.write(&mut writer)?;
            }
        }
        Ok(writer)
    }
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Self = Self(None);

    /// As [`EMPTY`](Self::EMPTY), which is a constant of all its bytes, where this writes but one word.
    #[inline(always)]
    pub(crate) const fn empty() -> Self {
        Self(None)
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this property is there.
    #[inline]
    pub fn contains(&self, id: PropertyId) -> bool {
        self.0.is_some_and(|source| {
            source.present() & bit(id) != 0
                || source.list.iter().any(|property| property.id() == id)
        })
    }

    /// The properties, in their order.
    #[inline]
    pub fn iter(&self) -> PropertyIter<'a> {
        match self.0 {
            Some(Source { bytes, text, list, .. }) => PropertyIter { list, bytes, text },
            None => PropertyIter { list: &[], bytes: &[], text: "" },
        }
    }

    /// The first property with this identifier.
    #[inline]
    pub fn get(&self, id: PropertyId) -> Option<Property<'a>> {
        if !self.contains(id) {
            return None;
        }
        self.iter().find(|property| property.id() == id)
    }

    /// The user properties, in their order (§3.1.2.11.8).
    #[inline]
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// The value of the first user property with this name.
    #[inline]
    pub fn user_property(&self, name: &str) -> Option<&'a str> {
        self.user_properties().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The subscription identifiers, in their order (§3.3.2.3.8).
    #[inline]
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = NonZeroU32> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        })
    }

    /// Reads the property length and the properties.
    #[inline]
    pub(crate) fn read(reader: &mut Reader<'a>, place: Place) -> Result<Self, Refused> {
        let len = reader.variable_byte_integer()?;
        if len == 0 {
            return Ok(Self::EMPTY);
        }
        let mut block = reader.split(len as usize)?;
        Self::read_block(&mut block, place).map_err(|refused| reader.refuse(block.error(refused)))
    }

    #[inline]
    fn read_block(reader: &mut Reader<'a>, place: Place) -> Result<Self, Refused> {
        let bytes = reader.rest();
        let mut present = 0u64;
        while let Some(&id) = reader.rest().first() {
            let id = PropertyId(id);
            if !place.accepts(id, present) {
                return Err(reader.refuse(place.offence(reader.rest(), id)));
            }
            present |= bit(id);
            Property::read::<true>(reader)?;
        }
        Ok(Self(Some(Source {
            bytes,
            text: reader.text(),
            present: present.to_ne_bytes(),
            list: &[],
        })))
    }

    /// The bytes of the properties, without the property length; an error if they must not be sent
    /// in this place.
    #[inline(always)]
    pub(crate) fn measure(&self, place: Place, version: Version) -> Result<usize, EncodeError> {
        match &self.0 {
            None => Ok(0),
            Some(_) if version == Version::V311 => Err(EncodeError::NotInVersion(version)),
            Some(source) => source.measure(place),
        }
    }

    /// Writes the property length and the properties; `len` is what [`measure`](Self::measure) gave.
    #[inline]
    pub(crate) fn write(&self, len: usize, writer: &mut Writer<'_>) -> Result<(), Overrun> {
        // The packet, which is longer, has been measured: fits.
        writer.variable_byte_integer(len as u32)?;
        match &self.0 {
            None => Ok(()),
            Some(source) => {
                *writer = source.write(core::mem::take(writer))?;
                Ok(())
            }
        }
    }
}

fn check_all<'a>(
    properties: impl Iterator<Item = Property<'a>>,
    place: Place,
) -> Result<(), DecodeError> {
    let mut present = 0;
    for property in properties {
        place.check(property.id(), present)?;
        present |= bit(property.id());
    }
    Ok(())
}

/// One accessor per property that appears at most once.
macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $id:ident, $variant:ident;)*) => {
        impl<'a> Properties<'a> {
            $(
                $(#[$doc])*
                #[inline]
                pub fn $name(&self) -> Option<$type> {
                    match self.get(PropertyId::$id) {
                        Some(Property::$variant(value)) => Some(value),
                        _ => None,
                    }
                }
            )*
        }
    };
}

accessors! {
    /// Whether the payload is UTF-8 encoded character data (§3.3.2.3.2).
    payload_format_indicator: bool = PAYLOAD_FORMAT_INDICATOR, PayloadFormatIndicator;
    /// The lifetime of the message in seconds (§3.3.2.3.3).
    message_expiry_interval: u32 = MESSAGE_EXPIRY_INTERVAL, MessageExpiryInterval;
    /// The content type of the message (§3.3.2.3.9).
    content_type: &'a str = CONTENT_TYPE, ContentType;
    /// The topic name for a response message (§3.3.2.3.5).
    response_topic: &'a str = RESPONSE_TOPIC, ResponseTopic;
    /// Identifies which request a response is for (§3.3.2.3.6).
    correlation_data: &'a [u8] = CORRELATION_DATA, CorrelationData;
    /// How many seconds the session outlives the connection; 0xFFFFFFFF: forever (§3.1.2.11.2).
    session_expiry_interval: u32 = SESSION_EXPIRY_INTERVAL, SessionExpiryInterval;
    /// The client identifier that the server chose (§3.2.2.3.7).
    assigned_client_identifier: &'a str = ASSIGNED_CLIENT_IDENTIFIER, AssignedClientIdentifier;
    /// The keep alive time in seconds that the server assigned (§3.2.2.3.14).
    server_keep_alive: u16 = SERVER_KEEP_ALIVE, ServerKeepAlive;
    /// The name of the authentication method (§3.1.2.11.9).
    authentication_method: &'a str = AUTHENTICATION_METHOD, AuthenticationMethod;
    /// Data whose contents the authentication method defines (§3.1.2.11.10).
    authentication_data: &'a [u8] = AUTHENTICATION_DATA, AuthenticationData;
    /// Whether reason strings and user properties may be sent on failures (§3.1.2.11.7).
    request_problem_information: bool = REQUEST_PROBLEM_INFORMATION, RequestProblemInformation;
    /// How many seconds the server waits before publishing the will (§3.1.3.2.2).
    will_delay_interval: u32 = WILL_DELAY_INTERVAL, WillDelayInterval;
    /// Whether the client asks for response information (§3.1.2.11.6).
    request_response_information: bool = REQUEST_RESPONSE_INFORMATION, RequestResponseInformation;
    /// The basis for a response topic (§3.2.2.3.15).
    response_information: &'a str = RESPONSE_INFORMATION, ResponseInformation;
    /// Another server to use (§3.2.2.3.16).
    server_reference: &'a str = SERVER_REFERENCE, ServerReference;
    /// A human readable reason for diagnostics (§3.2.2.3.9).
    reason_string: &'a str = REASON_STRING, ReasonString;
    /// How many QoS 1 and QoS 2 publications may be in flight (§3.1.2.11.3).
    receive_maximum: NonZeroU16 = RECEIVE_MAXIMUM, ReceiveMaximum;
    /// The highest topic alias accepted (§3.1.2.11.5).
    topic_alias_maximum: u16 = TOPIC_ALIAS_MAXIMUM, TopicAliasMaximum;
    /// Stands for the topic name (§3.3.2.3.4).
    topic_alias: NonZeroU16 = TOPIC_ALIAS, TopicAlias;
    /// The highest QoS the server supports: 0 or 1 (§3.2.2.3.4).
    maximum_qos: QoS = MAXIMUM_QOS, MaximumQos;
    /// Whether the server supports retained messages (§3.2.2.3.5).
    retain_available: bool = RETAIN_AVAILABLE, RetainAvailable;
    /// The largest packet accepted, in bytes (§3.1.2.11.4).
    maximum_packet_size: NonZeroU32 = MAXIMUM_PACKET_SIZE, MaximumPacketSize;
    /// Whether the server supports wildcard subscriptions (§3.2.2.3.11).
    wildcard_subscription_available: bool =
        WILDCARD_SUBSCRIPTION_AVAILABLE, WildcardSubscriptionAvailable;
    /// Whether the server supports subscription identifiers (§3.2.2.3.12).
    subscription_identifier_available: bool =
        SUBSCRIPTION_IDENTIFIER_AVAILABLE, SubscriptionIdentifierAvailable;
    /// Whether the server supports shared subscriptions (§3.2.2.3.13).
    shared_subscription_available: bool =
        SHARED_SUBSCRIPTION_AVAILABLE, SharedSubscriptionAvailable;
}

impl Default for Properties<'_> {
    #[inline]
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<'a> From<&'a [Property<'a>]> for Properties<'a> {
    #[inline]
    fn from(list: &'a [Property<'a>]) -> Self {
        if list.is_empty() {
            return Self::EMPTY;
        }
        Self(Some(Source { bytes: &[], text: "", present: [0; 8], list }))
    }
}

impl<'a, const N: usize> From<&'a [Property<'a>; N]> for Properties<'a> {
    #[inline]
    fn from(list: &'a [Property<'a>; N]) -> Self {
        Self::from(list.as_slice())
    }
}

impl PartialEq for Properties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Properties<'_> {}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertyIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertyIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over [`Properties`].
#[derive(Clone, Debug)]
pub struct PropertyIter<'a> {
    list: &'a [Property<'a>],
    bytes: &'a [u8],
    text: &'a str,
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    #[inline]
    fn next(&mut self) -> Option<Property<'a>> {
        if !self.bytes.is_empty() {
            let (property, rest) = next_on_wire(self.bytes, self.text)?;
            self.bytes = rest;
            return Some(property);
        }
        let (first, rest) = self.list.split_first()?;
        self.list = rest;
        Some(*first)
    }
}

/// The property in front, and what follows it. Out of line, and by value: so the iterator itself can
/// stay in registers.
#[inline(never)]
fn next_on_wire<'a>(bytes: &'a [u8], text: &'a str) -> Option<(Property<'a>, &'a [u8])> {
    let mut reader = Reader::again(bytes, text);
    // Validated before: does not fail.
    let property = Property::read::<false>(&mut reader).ok()?;
    Some((property, reader.rest()))
}

impl core::iter::FusedIterator for PropertyIter<'_> {}
