//! The numbers that appear on the wire.

use core::fmt;

/// The protocol version of a connection, chosen by its CONNECT packet (§3.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol version 5.
    V5,
}

impl Version {
    /// The byte that stands for this version in CONNECT.
    #[inline]
    pub const fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    /// The version a CONNECT's protocol level stands for, if it is one this crate speaks.
    #[inline]
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            4 => Some(Self::V311),
            5 => Some(Self::V5),
            _ => None,
        }
    }

    /// `3.1.1` or `5.0`: stable, for metrics and headers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Quality of service (§4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: no acknowledgement.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: acknowledged with PUBACK.
    AtLeastOnce = 1,
    /// QoS 2: PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS with this number; `None` from 3 upwards.
    #[inline]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// `0`, `1` or `2`: stable, for metrics and headers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AtMostOnce => "0",
            Self::AtLeastOnce => "1",
            Self::ExactlyOnce => "2",
        }
    }
}

impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// An open newtype over a byte: constants for the numbers the standards name, and any other number
/// survives a round trip.
macro_rules! open_number {
    (
        $(#[$meta:meta])*
        $name:ident {
            $($(#[$doc:meta])* $constant:ident = $value:literal, $label:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u8);

        impl $name {
            $($(#[$doc])* pub const $constant: Self = Self($value);)*

            /// A lower-case, stable name for metrics; `unknown` for a number without one.
            pub const fn label(self) -> &'static str {
                match self.0 {
                    $($value => $label,)*
                    _ => "unknown",
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#04x} {})"), self.0, self.label())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} ({:#04x})", self.label(), self.0)
            }
        }
    };
}

open_number! {
    /// The type of a control packet: the upper four bits of its first byte (§2.1.2).
    PacketType {
        /// Client to server: connection request.
        CONNECT = 1, "connect";
        /// Server to client: connect acknowledgement.
        CONNACK = 2, "connack";
        /// Publish message.
        PUBLISH = 3, "publish";
        /// Publish acknowledgement (QoS 1).
        PUBACK = 4, "puback";
        /// Publish received (QoS 2, first answer).
        PUBREC = 5, "pubrec";
        /// Publish release (QoS 2, second request).
        PUBREL = 6, "pubrel";
        /// Publish complete (QoS 2, second answer).
        PUBCOMP = 7, "pubcomp";
        /// Subscribe request.
        SUBSCRIBE = 8, "subscribe";
        /// Subscribe acknowledgement.
        SUBACK = 9, "suback";
        /// Unsubscribe request.
        UNSUBSCRIBE = 10, "unsubscribe";
        /// Unsubscribe acknowledgement.
        UNSUBACK = 11, "unsuback";
        /// Ping request.
        PINGREQ = 12, "pingreq";
        /// Ping response.
        PINGRESP = 13, "pingresp";
        /// Disconnect notification.
        DISCONNECT = 14, "disconnect";
        /// Authentication exchange; MQTT 5.0 only.
        AUTH = 15, "auth";
    }
}

open_number! {
    /// The return code of an MQTT 3.1.1 CONNACK (3.1.1 §3.2.2.3).
    ConnectReturnCode {
        /// Connection accepted.
        ACCEPTED = 0, "accepted";
        /// The server does not support the level of the MQTT protocol requested.
        UNACCEPTABLE_PROTOCOL_VERSION = 1, "unacceptable_protocol_version";
        /// The client identifier is correct UTF-8 but not allowed by the server.
        IDENTIFIER_REJECTED = 2, "identifier_rejected";
        /// The network connection has been made but the MQTT service is unavailable.
        SERVER_UNAVAILABLE = 3, "server_unavailable";
        /// The data in the user name or password is malformed.
        BAD_USER_NAME_OR_PASSWORD = 4, "bad_user_name_or_password";
        /// The client is not authorized to connect.
        NOT_AUTHORIZED = 5, "not_authorized";
    }
}

open_number! {
    /// The result of an operation, MQTT 5.0 (§2.4). 0x80 and above are failures.
    ReasonCode {
        /// Success. The same number also means *normal disconnection* and *granted QoS 0*.
        SUCCESS = 0x00, "success";
        /// The subscription is accepted and the maximum QoS sent will be QoS 1.
        GRANTED_QOS_1 = 0x01, "granted_qos_1";
        /// The subscription is accepted and the maximum QoS sent will be QoS 2.
        GRANTED_QOS_2 = 0x02, "granted_qos_2";
        /// The client disconnects but wants the server to publish its will message.
        DISCONNECT_WITH_WILL = 0x04, "disconnect_with_will";
        /// The message is accepted but there are no subscribers.
        NO_MATCHING_SUBSCRIBERS = 0x10, "no_matching_subscribers";
        /// No subscription to delete.
        NO_SUBSCRIPTION_EXISTED = 0x11, "no_subscription_existed";
        /// Continue the authentication with another step.
        CONTINUE_AUTHENTICATION = 0x18, "continue_authentication";
        /// Initiate a re-authentication.
        RE_AUTHENTICATE = 0x19, "re_authenticate";
        /// The sender does not wish to reveal the reason, or no other code applies.
        UNSPECIFIED_ERROR = 0x80, "unspecified_error";
        /// A packet could not be parsed according to the standard.
        MALFORMED_PACKET = 0x81, "malformed_packet";
        /// An unexpected or out of order packet, or data the protocol does not allow.
        PROTOCOL_ERROR = 0x82, "protocol_error";
        /// The packet is valid but the receiver is not willing to accept it.
        IMPLEMENTATION_SPECIFIC_ERROR = 0x83, "implementation_specific_error";
        /// The server does not support the requested version of MQTT.
        UNSUPPORTED_PROTOCOL_VERSION = 0x84, "unsupported_protocol_version";
        /// The client identifier is valid but not allowed by the server.
        CLIENT_IDENTIFIER_NOT_VALID = 0x85, "client_identifier_not_valid";
        /// The server does not accept the user name or password.
        BAD_USER_NAME_OR_PASSWORD = 0x86, "bad_user_name_or_password";
        /// Not authorized.
        NOT_AUTHORIZED = 0x87, "not_authorized";
        /// The server is not available.
        SERVER_UNAVAILABLE = 0x88, "server_unavailable";
        /// The server is busy; try again later.
        SERVER_BUSY = 0x89, "server_busy";
        /// This client has been banned by administrative action.
        BANNED = 0x8a, "banned";
        /// The server is shutting down.
        SERVER_SHUTTING_DOWN = 0x8b, "server_shutting_down";
        /// The authentication method is not supported, or not the one in use.
        BAD_AUTHENTICATION_METHOD = 0x8c, "bad_authentication_method";
        /// No packet for one and a half times the keep alive time.
        KEEP_ALIVE_TIMEOUT = 0x8d, "keep_alive_timeout";
        /// Another connection using the same client identifier has connected.
        SESSION_TAKEN_OVER = 0x8e, "session_taken_over";
        /// The topic filter is correctly formed but not accepted.
        TOPIC_FILTER_INVALID = 0x8f, "topic_filter_invalid";
        /// The topic name is correctly formed but not accepted.
        TOPIC_NAME_INVALID = 0x90, "topic_name_invalid";
        /// The packet identifier is already in use.
        PACKET_IDENTIFIER_IN_USE = 0x91, "packet_identifier_in_use";
        /// The packet identifier is not known.
        PACKET_IDENTIFIER_NOT_FOUND = 0x92, "packet_identifier_not_found";
        /// More publications than the receive maximum allows.
        RECEIVE_MAXIMUM_EXCEEDED = 0x93, "receive_maximum_exceeded";
        /// A topic alias of zero, or above the topic alias maximum.
        TOPIC_ALIAS_INVALID = 0x94, "topic_alias_invalid";
        /// The packet is larger than the receiver's maximum packet size.
        PACKET_TOO_LARGE = 0x95, "packet_too_large";
        /// The received data rate is too high.
        MESSAGE_RATE_TOO_HIGH = 0x96, "message_rate_too_high";
        /// An implementation or administrative limit has been exceeded.
        QUOTA_EXCEEDED = 0x97, "quota_exceeded";
        /// The connection is closed due to an administrative action.
        ADMINISTRATIVE_ACTION = 0x98, "administrative_action";
        /// The payload does not match the payload format indicator.
        PAYLOAD_FORMAT_INVALID = 0x99, "payload_format_invalid";
        /// The server does not support retained messages.
        RETAIN_NOT_SUPPORTED = 0x9a, "retain_not_supported";
        /// The QoS is greater than the maximum QoS of CONNACK.
        QOS_NOT_SUPPORTED = 0x9b, "qos_not_supported";
        /// The client should temporarily use another server.
        USE_ANOTHER_SERVER = 0x9c, "use_another_server";
        /// The client should permanently use another server.
        SERVER_MOVED = 0x9d, "server_moved";
        /// The server does not support shared subscriptions.
        SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9e, "shared_subscriptions_not_supported";
        /// The connection rate limit has been exceeded.
        CONNECTION_RATE_EXCEEDED = 0x9f, "connection_rate_exceeded";
        /// The maximum connection time authorized for this connection is exceeded.
        MAXIMUM_CONNECT_TIME = 0xa0, "maximum_connect_time";
        /// The server does not support subscription identifiers.
        SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xa1, "subscription_identifiers_not_supported";
        /// The server does not support wildcard subscriptions.
        WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xa2, "wildcard_subscriptions_not_supported";
    }
}

impl ReasonCode {
    /// In DISCONNECT: close the connection normally, without publishing the will message.
    pub const NORMAL_DISCONNECTION: Self = Self::SUCCESS;
    /// In SUBACK: the subscription is accepted and the maximum QoS sent will be QoS 0.
    pub const GRANTED_QOS_0: Self = Self::SUCCESS;

    /// Whether the code stands for a failure: 0x80 and above (§2.4).
    #[inline]
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// Whether the standard lists this code for packets of that type (§2.4, table 2-6; for AUTH §3.15.2.1).
    pub(crate) const fn allowed_in(self, packet_type: PacketType) -> bool {
        let code = self.0;
        match packet_type {
            PacketType::CONNACK => {
                matches!(code, 0 | 0x80..=0x8a | 0x8c | 0x90 | 0x95 | 0x97 | 0x99..=0x9d | 0x9f)
            }
            PacketType::PUBACK | PacketType::PUBREC => {
                matches!(code, 0 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            PacketType::PUBREL | PacketType::PUBCOMP => matches!(code, 0 | 0x92),
            PacketType::SUBACK => {
                matches!(code, 0..=2 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91 | 0x97 | 0x9e | 0xa1 | 0xa2)
            }
            PacketType::UNSUBACK => {
                matches!(code, 0 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91)
            }
            // Table 2-6 lists 0x8C for DISCONNECT and §3.14.2.1 does not; the wider one is taken.
            PacketType::DISCONNECT => matches!(
                code,
                0 | 4 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b..=0x90 | 0x93..=0xa2
            ),
            PacketType::AUTH => matches!(code, 0 | 0x18 | 0x19),
            _ => false,
        }
    }
}

open_number! {
    /// The identifier of a property, MQTT 5.0 (§2.2.2.2). On the wire a variable byte integer; all
    /// that exist fit one byte.
    PropertyId {
        /// Payload Format Indicator: PUBLISH, will.
        PAYLOAD_FORMAT_INDICATOR = 0x01, "payload_format_indicator";
        /// Message Expiry Interval: PUBLISH, will.
        MESSAGE_EXPIRY_INTERVAL = 0x02, "message_expiry_interval";
        /// Content Type: PUBLISH, will.
        CONTENT_TYPE = 0x03, "content_type";
        /// Response Topic: PUBLISH, will.
        RESPONSE_TOPIC = 0x08, "response_topic";
        /// Correlation Data: PUBLISH, will.
        CORRELATION_DATA = 0x09, "correlation_data";
        /// Subscription Identifier: PUBLISH, SUBSCRIBE.
        SUBSCRIPTION_IDENTIFIER = 0x0b, "subscription_identifier";
        /// Session Expiry Interval: CONNECT, CONNACK, DISCONNECT.
        SESSION_EXPIRY_INTERVAL = 0x11, "session_expiry_interval";
        /// Assigned Client Identifier: CONNACK.
        ASSIGNED_CLIENT_IDENTIFIER = 0x12, "assigned_client_identifier";
        /// Server Keep Alive: CONNACK.
        SERVER_KEEP_ALIVE = 0x13, "server_keep_alive";
        /// Authentication Method: CONNECT, CONNACK, AUTH.
        AUTHENTICATION_METHOD = 0x15, "authentication_method";
        /// Authentication Data: CONNECT, CONNACK, AUTH.
        AUTHENTICATION_DATA = 0x16, "authentication_data";
        /// Request Problem Information: CONNECT.
        REQUEST_PROBLEM_INFORMATION = 0x17, "request_problem_information";
        /// Will Delay Interval: will.
        WILL_DELAY_INTERVAL = 0x18, "will_delay_interval";
        /// Request Response Information: CONNECT.
        REQUEST_RESPONSE_INFORMATION = 0x19, "request_response_information";
        /// Response Information: CONNACK.
        RESPONSE_INFORMATION = 0x1a, "response_information";
        /// Server Reference: CONNACK, DISCONNECT.
        SERVER_REFERENCE = 0x1c, "server_reference";
        /// Reason String: CONNACK, every acknowledgement, DISCONNECT, AUTH.
        REASON_STRING = 0x1f, "reason_string";
        /// Receive Maximum: CONNECT, CONNACK.
        RECEIVE_MAXIMUM = 0x21, "receive_maximum";
        /// Topic Alias Maximum: CONNECT, CONNACK.
        TOPIC_ALIAS_MAXIMUM = 0x22, "topic_alias_maximum";
        /// Topic Alias: PUBLISH.
        TOPIC_ALIAS = 0x23, "topic_alias";
        /// Maximum QoS: CONNACK.
        MAXIMUM_QOS = 0x24, "maximum_qos";
        /// Retain Available: CONNACK.
        RETAIN_AVAILABLE = 0x25, "retain_available";
        /// User Property: every packet with properties, and the will.
        USER_PROPERTY = 0x26, "user_property";
        /// Maximum Packet Size: CONNECT, CONNACK.
        MAXIMUM_PACKET_SIZE = 0x27, "maximum_packet_size";
        /// Wildcard Subscription Available: CONNACK.
        WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28, "wildcard_subscription_available";
        /// Subscription Identifier Available: CONNACK.
        SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29, "subscription_identifier_available";
        /// Shared Subscription Available: CONNACK.
        SHARED_SUBSCRIPTION_AVAILABLE = 0x2a, "shared_subscription_available";
    }
}
