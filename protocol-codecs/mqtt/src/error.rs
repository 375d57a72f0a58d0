//! What can be wrong with a packet.

use core::fmt;

use crate::number::{ConnectReturnCode, PacketType, PropertyId, ReasonCode, Version};
use crate::topic::{TopicFilterError, TopicNameError};

/// Why the standard calls the received bytes a malformed packet or a protocol error.
///
/// The receiver closes the connection on any of them (§4.13); [`reason_code`](Self::reason_code) is
/// what it tells an MQTT 5.0 peer first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// A packet type that the version does not define: 0, and 15 in MQTT 3.1.1 (§2.1.2).
    ReservedPacketType(u8),
    /// Flags of the fixed header that the packet type does not allow (§2.1.3).
    ReservedFlags {
        /// The packet's type.
        packet_type: PacketType,
        /// The lower four bits of its first byte.
        flags: u8,
    },
    /// A PUBLISH with both QoS bits set (§3.3.1.2).
    PublishQos3,
    /// A PUBLISH with DUP set at QoS 0 (§3.3.1.1).
    DupWithQos0,
    /// A variable byte integer that continues after its fourth byte (§1.5.5).
    VariableByteIntegerTooLong,
    /// A variable byte integer in more bytes than its value takes (§1.5.5); the value.
    VariableByteIntegerNotMinimal(u32),
    /// A packet above the caller's limit (§3.1.2.11.4).
    PacketTooLarge {
        /// The packet's size in bytes, with its fixed header.
        size: u32,
        /// The limit.
        limit: u32,
    },
    /// A packet of another type than the caller asked for, such as a connection that does not start
    /// with CONNECT (§3.1).
    UnexpectedPacketType(PacketType),
    /// A field reaches beyond the end of the packet or of its properties.
    Truncated {
        /// How many bytes the field takes.
        needed: u32,
        /// How many are left.
        available: u32,
    },
    /// Bytes after the last field; how many.
    TrailingBytes(u32),
    /// A packet that ends where its packet identifier belongs (§2.2.1).
    PacketIdMissing(PacketType),
    /// A packet identifier of zero (§2.2.1).
    PacketIdZero,

    /// A string that is not well-formed UTF-8, surrogates included (§1.5.4); how many bytes are.
    InvalidUtf8 {
        /// Offset of the first offending byte in the string.
        valid_up_to: u16,
    },
    /// A string with the null character U+0000 (§1.5.4).
    NullCharacter,
    /// A topic name that is not one, in PUBLISH, will topic or response topic (§4.7).
    TopicName(TopicNameError),
    /// A topic filter that is not one (§4.7, §4.8.2).
    TopicFilter(TopicFilterError),

    /// A CONNECT whose protocol name is not `MQTT` (§3.1.2.1).
    UnknownProtocolName,
    /// A CONNECT for a protocol version other than 3.1.1 and 5.0 (§3.1.2.2).
    UnsupportedProtocolVersion(u8),
    /// A CONNECT with its reserved flag set (§3.1.2.3); the flags.
    ReservedConnectFlag(u8),
    /// A CONNECT with will QoS 3 (§3.1.2.6); the flags.
    WillQos3(u8),
    /// A CONNECT with will QoS or will retain but no will (§3.1.2.6, §3.1.2.7); the flags.
    WillFlagsWithoutWill(u8),
    /// An MQTT 3.1.1 CONNECT with a password but no user name (3.1.1 §3.1.2.9).
    PasswordWithoutUserName,
    /// An MQTT 3.1.1 CONNECT with an empty client identifier that wants to keep its session
    /// (3.1.1 §3.1.3.1).
    EmptyClientId,
    /// A CONNACK with a reserved bit set in its acknowledge flags (§3.2.2.1); the flags.
    ReservedConnAckFlags(u8),
    /// A CONNACK that refuses the connection and has a session present (§3.2.2.1.1); its code.
    SessionPresentOnError(u8),
    /// A reason code or return code that the standard does not allow in this packet (§2.4).
    ReasonCodeNotAllowed {
        /// The packet's type.
        packet_type: PacketType,
        /// The code.
        code: u8,
    },

    /// A property identifier that does not exist (§2.2.2.2).
    UnknownProperty(u32),
    /// A property that does not belong in this packet (§2.2.2.2).
    PropertyNotAllowed {
        /// The packet's type; CONNECT for the will's properties.
        packet_type: PacketType,
        /// The property.
        id: PropertyId,
    },
    /// A property that may appear once and appears again (§2.2.2.2).
    RepeatedProperty(PropertyId),
    /// A property whose value may be 0 or 1 and is neither.
    PropertyNotBoolean {
        /// The property.
        id: PropertyId,
        /// Its value.
        value: u8,
    },
    /// A receive maximum of zero (§3.1.2.11.3).
    ReceiveMaximumZero,
    /// A maximum packet size of zero (§3.1.2.11.4).
    MaximumPacketSizeZero,
    /// A topic alias of zero (§3.3.2.3.4).
    TopicAliasZero,
    /// A subscription identifier of zero (§3.8.2.1.2).
    SubscriptionIdentifierZero,
    /// A PUBLISH with neither topic name nor topic alias (§3.3.2.1).
    TopicNameAndAliasMissing,
    /// Authentication data without an authentication method (§3.1.2.11.10).
    AuthenticationDataWithoutMethod,
    /// An AUTH without an authentication method (§3.15.2.2.2).
    AuthenticationMethodMissing,

    /// A SUBSCRIBE, SUBACK, UNSUBSCRIBE or UNSUBACK without any entry (§3.8.3, §3.10.3).
    EmptyPayload(PacketType),
    /// Subscription options with QoS 3 (§3.8.3.1); the options.
    SubscriptionQos3(u8),
    /// Subscription options with retain handling 3 (§3.8.3.1); the options.
    RetainHandling3(u8),
    /// Subscription options with a reserved bit set (§3.8.3.1); the options.
    ReservedSubscriptionOptions(u8),
    /// No Local on a shared subscription (§3.8.3.1).
    NoLocalOnSharedSubscription,
}

impl DecodeError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ReservedPacketType(_) => "reserved_packet_type",
            Self::ReservedFlags { .. } => "reserved_flags",
            Self::PublishQos3 => "publish_qos_3",
            Self::DupWithQos0 => "dup_with_qos_0",
            Self::VariableByteIntegerTooLong => "variable_byte_integer_too_long",
            Self::VariableByteIntegerNotMinimal(_) => "variable_byte_integer_not_minimal",
            Self::PacketTooLarge { .. } => "packet_too_large",
            Self::UnexpectedPacketType(_) => "unexpected_packet_type",
            Self::Truncated { .. } => "truncated",
            Self::TrailingBytes(_) => "trailing_bytes",
            Self::PacketIdMissing(_) => "packet_id_missing",
            Self::PacketIdZero => "packet_id_zero",
            Self::InvalidUtf8 { .. } => "invalid_utf8",
            Self::NullCharacter => "null_character",
            Self::TopicName(error) => error.label(),
            Self::TopicFilter(error) => error.label(),
            Self::UnknownProtocolName => "unknown_protocol_name",
            Self::UnsupportedProtocolVersion(_) => "unsupported_protocol_version",
            Self::ReservedConnectFlag(_) => "reserved_connect_flag",
            Self::WillQos3(_) => "will_qos_3",
            Self::WillFlagsWithoutWill(_) => "will_flags_without_will",
            Self::PasswordWithoutUserName => "password_without_user_name",
            Self::EmptyClientId => "empty_client_id",
            Self::ReservedConnAckFlags(_) => "reserved_connack_flags",
            Self::SessionPresentOnError(_) => "session_present_on_error",
            Self::ReasonCodeNotAllowed { .. } => "reason_code_not_allowed",
            Self::UnknownProperty(_) => "unknown_property",
            Self::PropertyNotAllowed { .. } => "property_not_allowed",
            Self::RepeatedProperty(_) => "repeated_property",
            Self::PropertyNotBoolean { .. } => "property_not_boolean",
            Self::ReceiveMaximumZero => "receive_maximum_zero",
            Self::MaximumPacketSizeZero => "maximum_packet_size_zero",
            Self::TopicAliasZero => "topic_alias_zero",
            Self::SubscriptionIdentifierZero => "subscription_identifier_zero",
            Self::TopicNameAndAliasMissing => "topic_name_and_alias_missing",
            Self::AuthenticationDataWithoutMethod => "authentication_data_without_method",
            Self::AuthenticationMethodMissing => "authentication_method_missing",
            Self::EmptyPayload(_) => "empty_payload",
            Self::SubscriptionQos3(_) => "subscription_qos_3",
            Self::RetainHandling3(_) => "retain_handling_3",
            Self::ReservedSubscriptionOptions(_) => "reserved_subscription_options",
            Self::NoLocalOnSharedSubscription => "no_local_on_shared_subscription",
        }
    }

    /// The reason code that tells an MQTT 5.0 peer about it, in CONNACK or DISCONNECT (§4.13).
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            Self::UnknownProtocolName | Self::UnsupportedProtocolVersion(_) => {
                ReasonCode::UNSUPPORTED_PROTOCOL_VERSION
            }
            Self::EmptyClientId => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
            Self::PacketTooLarge { .. } => ReasonCode::PACKET_TOO_LARGE,
            Self::TopicName(_) => ReasonCode::TOPIC_NAME_INVALID,
            Self::TopicFilter(_) => ReasonCode::TOPIC_FILTER_INVALID,
            Self::TopicAliasZero => ReasonCode::TOPIC_ALIAS_INVALID,
            Self::UnexpectedPacketType(_)
            | Self::SessionPresentOnError(_)
            | Self::ReasonCodeNotAllowed { .. }
            | Self::RepeatedProperty(_)
            | Self::PropertyNotBoolean { .. }
            | Self::ReceiveMaximumZero
            | Self::MaximumPacketSizeZero
            | Self::SubscriptionIdentifierZero
            | Self::TopicNameAndAliasMissing
            | Self::AuthenticationDataWithoutMethod
            | Self::AuthenticationMethodMissing
            | Self::EmptyPayload(_)
            | Self::PacketIdZero
            | Self::SubscriptionQos3(_)
            | Self::RetainHandling3(_)
            | Self::NoLocalOnSharedSubscription => ReasonCode::PROTOCOL_ERROR,
            Self::ReservedPacketType(_)
            | Self::ReservedFlags { .. }
            | Self::PublishQos3
            | Self::DupWithQos0
            | Self::VariableByteIntegerTooLong
            | Self::VariableByteIntegerNotMinimal(_)
            | Self::Truncated { .. }
            | Self::TrailingBytes(_)
            | Self::PacketIdMissing(_)
            | Self::InvalidUtf8 { .. }
            | Self::NullCharacter
            | Self::ReservedConnectFlag(_)
            | Self::WillQos3(_)
            | Self::WillFlagsWithoutWill(_)
            | Self::PasswordWithoutUserName
            | Self::ReservedConnAckFlags(_)
            | Self::UnknownProperty(_)
            | Self::PropertyNotAllowed { .. }
            | Self::ReservedSubscriptionOptions(_) => ReasonCode::MALFORMED_PACKET,
        }
    }

    /// The return code that tells an MQTT 3.1.1 client about it in CONNACK; `None` where 3.1.1 has
    /// none and the server just closes the connection (3.1.1 §3.1.4, §4.8).
    pub const fn connect_return_code(self) -> Option<ConnectReturnCode> {
        match self {
            Self::UnsupportedProtocolVersion(_) => {
                Some(ConnectReturnCode::UNACCEPTABLE_PROTOCOL_VERSION)
            }
            Self::EmptyClientId => Some(ConnectReturnCode::IDENTIFIER_REJECTED),
            _ => None,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ReservedPacketType(number) => write!(f, "packet type {number} is reserved"),
            Self::ReservedFlags { packet_type, flags } => {
                write!(f, "{} with reserved flags {flags:#06b}", packet_type.label())
            }
            Self::PublishQos3 => f.write_str("publish with qos 3"),
            Self::DupWithQos0 => f.write_str("publish with dup at qos 0"),
            Self::VariableByteIntegerTooLong => {
                f.write_str("variable byte integer longer than four bytes")
            }
            Self::VariableByteIntegerNotMinimal(value) => {
                write!(f, "variable byte integer {value} in more bytes than it takes")
            }
            Self::PacketTooLarge { size, limit } => {
                write!(f, "packet of {size} bytes is above the limit of {limit}")
            }
            Self::UnexpectedPacketType(packet_type) => {
                write!(f, "{} packet where it is not allowed", packet_type.label())
            }
            Self::Truncated { needed, available } => {
                write!(f, "field of {needed} bytes with {available} left")
            }
            Self::TrailingBytes(count) => write!(f, "{count} bytes after the last field"),
            Self::PacketIdMissing(packet_type) => {
                write!(f, "{} without packet identifier", packet_type.label())
            }
            Self::PacketIdZero => f.write_str("packet identifier is zero"),
            Self::InvalidUtf8 { valid_up_to } => {
                write!(f, "string is not utf-8 at byte {valid_up_to}")
            }
            Self::NullCharacter => f.write_str("string contains the null character"),
            Self::TopicName(error) => error.fmt(f),
            Self::TopicFilter(error) => error.fmt(f),
            Self::UnknownProtocolName => f.write_str("protocol name is not mqtt"),
            Self::UnsupportedProtocolVersion(level) => {
                write!(f, "protocol version {level} is not supported")
            }
            Self::ReservedConnectFlag(flags) => {
                write!(f, "connect flags {flags:#010b} have the reserved bit set")
            }
            Self::WillQos3(flags) => write!(f, "connect flags {flags:#010b} have will qos 3"),
            Self::WillFlagsWithoutWill(flags) => {
                write!(f, "connect flags {flags:#010b} describe a will that is not there")
            }
            Self::PasswordWithoutUserName => f.write_str("password without user name"),
            Self::EmptyClientId => f.write_str("empty client identifier without clean session"),
            Self::ReservedConnAckFlags(flags) => {
                write!(f, "connack flags {flags:#010b} have a reserved bit set")
            }
            Self::SessionPresentOnError(code) => {
                write!(f, "connack with code {code:#04x} has a session present")
            }
            Self::ReasonCodeNotAllowed { packet_type, code } => {
                write!(f, "reason code {code:#04x} is not allowed in {}", packet_type.label())
            }
            Self::UnknownProperty(id) => write!(f, "property {id:#04x} does not exist"),
            Self::PropertyNotAllowed { packet_type, id } => {
                write!(f, "property {} is not allowed in {}", id.label(), packet_type.label())
            }
            Self::RepeatedProperty(id) => write!(f, "property {} is repeated", id.label()),
            Self::PropertyNotBoolean { id, value } => {
                write!(f, "property {} is {value}, neither 0 nor 1", id.label())
            }
            Self::ReceiveMaximumZero => f.write_str("receive maximum is zero"),
            Self::MaximumPacketSizeZero => f.write_str("maximum packet size is zero"),
            Self::TopicAliasZero => f.write_str("topic alias is zero"),
            Self::SubscriptionIdentifierZero => f.write_str("subscription identifier is zero"),
            Self::TopicNameAndAliasMissing => f.write_str("neither topic name nor topic alias"),
            Self::AuthenticationDataWithoutMethod => {
                f.write_str("authentication data without authentication method")
            }
            Self::AuthenticationMethodMissing => f.write_str("auth without authentication method"),
            Self::EmptyPayload(packet_type) => {
                write!(f, "{} without any entry", packet_type.label())
            }
            Self::SubscriptionQos3(options) => {
                write!(f, "subscription options {options:#010b} have qos 3")
            }
            Self::RetainHandling3(options) => {
                write!(f, "subscription options {options:#010b} have retain handling 3")
            }
            Self::ReservedSubscriptionOptions(options) => {
                write!(f, "subscription options {options:#010b} have a reserved bit set")
            }
            Self::NoLocalOnSharedSubscription => f.write_str("no local on a shared subscription"),
        }
    }
}

impl core::error::Error for DecodeError {}

impl From<TopicNameError> for DecodeError {
    #[inline]
    fn from(error: TopicNameError) -> Self {
        Self::TopicName(error)
    }
}

impl From<TopicFilterError> for DecodeError {
    #[inline]
    fn from(error: TopicFilterError) -> Self {
        Self::TopicFilter(error)
    }
}

/// Why a packet cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeError {
    /// The output is shorter than the packet.
    BufferTooSmall {
        /// The packet's size in bytes.
        needed: usize,
    },
    /// The remaining length does not fit a variable byte integer (§2.1.4).
    PacketTooLarge {
        /// The remaining length in bytes.
        remaining_len: usize,
    },
    /// A string or binary field of more than 65,535 bytes (§1.5.4, §1.5.6).
    FieldTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A value above 268,435,455 in a variable byte integer (§1.5.5).
    VariableByteIntegerTooLarge(u32),
    /// The packet holds something that this version of the protocol cannot express: properties,
    /// reason codes, subscription options or AUTH in MQTT 3.1.1, or the other version's CONNACK code.
    NotInVersion(Version),
    /// A PUBLISH at QoS 1 or 2 without packet identifier (§2.2.1).
    PacketIdMissing,
    /// A PUBLISH at QoS 0 with a packet identifier (§2.2.1).
    PacketIdAtQos0,
    /// The bytes would be refused by a receiver, for this reason.
    Refused(DecodeError),
}

impl EncodeError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BufferTooSmall { .. } => "buffer_too_small",
            Self::PacketTooLarge { .. } => "packet_too_large",
            Self::FieldTooLong { .. } => "field_too_long",
            Self::VariableByteIntegerTooLarge(_) => "variable_byte_integer_too_large",
            Self::NotInVersion(_) => "not_in_version",
            Self::PacketIdMissing => "packet_id_missing",
            Self::PacketIdAtQos0 => "packet_id_at_qos_0",
            Self::Refused(error) => error.label(),
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BufferTooSmall { needed } => write!(f, "packet takes {needed} bytes of buffer"),
            Self::PacketTooLarge { remaining_len } => {
                write!(f, "remaining length {remaining_len} is above 268435455")
            }
            Self::FieldTooLong { len } => write!(f, "field of {len} bytes is above 65535"),
            Self::VariableByteIntegerTooLarge(value) => {
                write!(f, "variable byte integer {value} is above 268435455")
            }
            Self::NotInVersion(version) => {
                write!(f, "packet cannot be expressed in mqtt {version}")
            }
            Self::PacketIdMissing => f.write_str("publish above qos 0 without packet identifier"),
            Self::PacketIdAtQos0 => f.write_str("publish at qos 0 with packet identifier"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }
}

impl From<DecodeError> for EncodeError {
    #[inline]
    fn from(error: DecodeError) -> Self {
        Self::Refused(error)
    }
}
