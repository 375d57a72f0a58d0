//! Everything that the standards call malformed or a protocol error has an error of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

use std::collections::BTreeSet;

use codec_mqtt::DecodeError::{self, *};
use codec_mqtt::topic::{TopicFilterError, TopicNameError};
use codec_mqtt::{
    ConnectReturnCode, PacketType, PropertyId, ReasonCode, Version, decode, decode_connect,
    decode_publish_header, frame,
};

const BOTH: &[Version] = &[Version::V311, Version::V5];
const V311: &[Version] = &[Version::V311];
const V5: &[Version] = &[Version::V5];

struct Case {
    versions: &'static [Version],
    bytes: Vec<u8>,
    error: DecodeError,
    reason_code: u8,
}

/// A packet of less than 128 bytes of body, whose remaining length is filled in.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, u8::try_from(body.len()).unwrap()][..], body].concat()
}

fn case(
    versions: &'static [Version],
    first: u8,
    body: impl AsRef<[u8]>,
    error: DecodeError,
    reason_code: u8,
) -> Case {
    Case { versions, bytes: packet(first, body.as_ref()), error, reason_code }
}

fn raw(bytes: &[u8], error: DecodeError, reason_code: u8) -> Case {
    Case { versions: BOTH, bytes: bytes.to_vec(), error, reason_code }
}

/// A CONNECT: protocol name, level, flags, keep alive, and then `rest`.
fn connect(level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    [&b"\x00\x04MQTT"[..], &[level, flags, 0, 60], rest].concat()
}

/// An MQTT 5.0 CONNECT with these properties and an empty client identifier.
fn connect_with(properties: &[u8]) -> Vec<u8> {
    connect(5, 2, &[&[properties.len() as u8][..], properties, b"\x00\x00"].concat())
}

/// An MQTT 5.0 CONNACK, success, with these properties.
fn connack_with(properties: &[u8]) -> Vec<u8> {
    [&[0, 0, properties.len() as u8][..], properties].concat()
}

/// An MQTT 5.0 PUBLISH at QoS 0 on topic `t` with these properties.
fn publish_with(properties: &[u8]) -> Vec<u8> {
    [&b"\x00\x01t"[..], &[properties.len() as u8], properties].concat()
}

fn not_boolean(id: PropertyId, value: u8) -> DecodeError {
    PropertyNotBoolean { id, value }
}

fn not_allowed(packet_type: PacketType, id: PropertyId) -> DecodeError {
    PropertyNotAllowed { packet_type, id }
}

fn code(packet_type: PacketType, code: u8) -> DecodeError {
    ReasonCodeNotAllowed { packet_type, code }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        // Fixed header.
        raw(b"\x00\x00", ReservedPacketType(0), 0x81),
        case(V311, 0xf0, b"", ReservedPacketType(15), 0x81),
        raw(b"\x36\x00", PublishQos3, 0x81),
        raw(b"\x3e\x00", PublishQos3, 0x81),
        raw(b"\x38\x00", DupWithQos0, 0x81),
        raw(b"\x30\x80\x80\x80\x80\x01", VariableByteIntegerTooLong, 0x81),
        raw(b"\x30\xff\xff\xff\xff", VariableByteIntegerTooLong, 0x81),
        raw(b"\xc0\x80\x00", VariableByteIntegerNotMinimal(0), 0x81),
        raw(b"\x30\x83\x80\x00", VariableByteIntegerNotMinimal(3), 0x81),
        raw(b"\xc0\x01\x00", TrailingBytes(1), 0x81),
        raw(b"\xd0\x02\x00\x00", TrailingBytes(2), 0x81),
        // CONNECT.
        case(BOTH, 0x10, b"", Truncated { needed: 7, available: 0 }, 0x81),
        case(BOTH, 0x10, b"\x00\x04MQTT", Truncated { needed: 7, available: 6 }, 0x81),
        case(BOTH, 0x10, b"\x00\x04MQTT\x05\x02", Truncated { needed: 10, available: 8 }, 0x81),
        case(BOTH, 0x10, b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00", UnknownProtocolName, 0x84),
        case(BOTH, 0x10, b"\x00\x04mqtt\x05\x02\x00\x3c\x00\x00\x00", UnknownProtocolName, 0x84),
        case(BOTH, 0x10, connect(3, 2, b"\x00\x00"), UnsupportedProtocolVersion(3), 0x84),
        case(BOTH, 0x10, connect(6, 2, b"\x00\x00"), UnsupportedProtocolVersion(6), 0x84),
        case(BOTH, 0x10, connect(4, 3, b"\x00\x00"), ReservedConnectFlag(3), 0x81),
        case(BOTH, 0x10, connect(4, 0x0a, b"\x00\x00"), WillFlagsWithoutWill(0x0a), 0x81),
        case(BOTH, 0x10, connect(5, 0x22, b"\x00\x00\x00"), WillFlagsWithoutWill(0x22), 0x81),
        case(BOTH, 0x10, connect(4, 0x1e, b"\x00\x00\x00\x01w\x00\x00"), WillQos3(0x1e), 0x81),
        case(BOTH, 0x10, connect(4, 0x42, b"\x00\x00\x00\x00"), PasswordWithoutUserName, 0x81),
        case(BOTH, 0x10, connect(4, 0, b"\x00\x00"), EmptyClientId, 0x85),
        case(BOTH, 0x10, connect(4, 2, b"\x00\x00\x00"), TrailingBytes(1), 0x81),
        case(BOTH, 0x10, connect(4, 2, b"\x00"), Truncated { needed: 2, available: 1 }, 0x81),
        case(BOTH, 0x10, connect(4, 2, b"\x00\x02a"), Truncated { needed: 2, available: 1 }, 0x81),
        case(BOTH, 0x10, connect(4, 2, b"\x00\x02a\xff"), InvalidUtf8 { valid_up_to: 1 }, 0x81),
        case(BOTH, 0x10, connect(4, 2, b"\x00\x02a\x00"), NullCharacter, 0x81),
        case(BOTH, 0x10, connect(4, 0x82, b"\x00\x00\x00\x01\x00"), NullCharacter, 0x81),
        case(
            BOTH,
            0x10,
            connect(4, 6, b"\x00\x00\x00\x00\x00\x00"),
            TopicName(TopicNameError::Empty),
            0x90,
        ),
        case(
            BOTH,
            0x10,
            connect(5, 6, b"\x00\x00\x00\x00\x00\x03a/+\x00\x00"),
            TopicName(TopicNameError::Wildcard('+')),
            0x90,
        ),
        case(BOTH, 0x10, connect_with(b"\x16\x00\x01x"), AuthenticationDataWithoutMethod, 0x82),
        case(BOTH, 0x10, connect_with(b"\x21\x00\x00"), ReceiveMaximumZero, 0x82),
        case(BOTH, 0x10, connect_with(b"\x27\x00\x00\x00\x00"), MaximumPacketSizeZero, 0x82),
        case(
            BOTH,
            0x10,
            connect_with(b"\x17\x02"),
            not_boolean(PropertyId::REQUEST_PROBLEM_INFORMATION, 2),
            0x82,
        ),
        case(
            BOTH,
            0x10,
            connect_with(b"\x19\xff"),
            not_boolean(PropertyId::REQUEST_RESPONSE_INFORMATION, 255),
            0x82,
        ),
        case(
            BOTH,
            0x10,
            connect_with(b"\x11\x00\x00\x00\x00\x11\x00\x00\x00\x00"),
            RepeatedProperty(PropertyId::SESSION_EXPIRY_INTERVAL),
            0x82,
        ),
        case(
            BOTH,
            0x10,
            connect_with(b"\x18\x00\x00\x00\x00"),
            not_allowed(PacketType::CONNECT, PropertyId::WILL_DELAY_INTERVAL),
            0x81,
        ),
        // CONNACK.
        case(BOTH, 0x20, b"\x02\x00", ReservedConnAckFlags(2), 0x81),
        case(BOTH, 0x20, b"\x00", Truncated { needed: 2, available: 1 }, 0x81),
        case(V311, 0x20, b"\x01\x05", SessionPresentOnError(5), 0x82),
        case(V311, 0x20, b"\x00\x06", code(PacketType::CONNACK, 6), 0x82),
        case(V311, 0x20, b"\x00\x00\x00", TrailingBytes(1), 0x81),
        case(V5, 0x20, b"\x00\x00", Truncated { needed: 1, available: 0 }, 0x81),
        case(V5, 0x20, b"\x01\x87\x00", SessionPresentOnError(0x87), 0x82),
        case(V5, 0x20, b"\x00\x05\x00", code(PacketType::CONNACK, 5), 0x82),
        case(V5, 0x20, connack_with(b"\x24\x02"), not_boolean(PropertyId::MAXIMUM_QOS, 2), 0x82),
        case(
            V5,
            0x20,
            connack_with(b"\x25\x02"),
            not_boolean(PropertyId::RETAIN_AVAILABLE, 2),
            0x82,
        ),
        // PUBLISH.
        case(BOTH, 0x30, b"\x00", Truncated { needed: 2, available: 1 }, 0x81),
        case(BOTH, 0x30, b"\x00\x03ab", Truncated { needed: 3, available: 2 }, 0x81),
        case(BOTH, 0x30, b"\x00\x02\xc3\x28\x00", InvalidUtf8 { valid_up_to: 0 }, 0x81),
        // A surrogate, U+D800 (§1.5.4).
        case(BOTH, 0x30, b"\x00\x03\xed\xa0\x80\x00", InvalidUtf8 { valid_up_to: 0 }, 0x81),
        // An overlong "/" (§1.5.4 refers to the Unicode standard).
        case(BOTH, 0x30, b"\x00\x02\xc0\xaf\x00", InvalidUtf8 { valid_up_to: 0 }, 0x81),
        case(BOTH, 0x30, b"\x00\x01\x00\x00", TopicName(TopicNameError::NullCharacter), 0x90),
        case(BOTH, 0x30, b"\x00\x03a/+\x00", TopicName(TopicNameError::Wildcard('+')), 0x90),
        case(BOTH, 0x30, b"\x00\x01#\x00", TopicName(TopicNameError::Wildcard('#')), 0x90),
        case(V311, 0x30, b"\x00\x00", TopicName(TopicNameError::Empty), 0x90),
        case(V5, 0x30, b"\x00\x00\x00", TopicNameAndAliasMissing, 0x82),
        case(BOTH, 0x32, b"\x00\x01t", PacketIdMissing(PacketType::PUBLISH), 0x81),
        case(BOTH, 0x32, b"\x00\x01t\x01", PacketIdMissing(PacketType::PUBLISH), 0x81),
        case(BOTH, 0x34, b"\x00\x01t\x00\x00\x00", PacketIdZero, 0x82),
        case(V5, 0x30, b"\x00\x01t", Truncated { needed: 1, available: 0 }, 0x81),
        case(V5, 0x30, b"\x00\x01t\x05", Truncated { needed: 5, available: 0 }, 0x81),
        case(V5, 0x30, b"\x00\x01t\x81\x00", VariableByteIntegerNotMinimal(1), 0x81),
        case(V5, 0x30, b"\x00\x01t\xff\xff\xff\xff\x01", VariableByteIntegerTooLong, 0x81),
        case(V5, 0x30, publish_with(b"\x23\x00\x00"), TopicAliasZero, 0x94),
        case(V5, 0x30, publish_with(b"\x0b\x00"), SubscriptionIdentifierZero, 0x82),
        case(
            V5,
            0x30,
            publish_with(b"\x01\x02"),
            not_boolean(PropertyId::PAYLOAD_FORMAT_INDICATOR, 2),
            0x82,
        ),
        case(
            V5,
            0x30,
            publish_with(b"\x08\x00\x01#"),
            TopicName(TopicNameError::Wildcard('#')),
            0x90,
        ),
        case(V5, 0x30, publish_with(b"\x08\x00\x00"), TopicName(TopicNameError::Empty), 0x90),
        case(V5, 0x30, publish_with(b"\x03\x00\x01\x00"), NullCharacter, 0x81),
        case(
            V5,
            0x30,
            publish_with(b"\x26\x00\x01a\x00\x01\xff"),
            InvalidUtf8 { valid_up_to: 0 },
            0x81,
        ),
        case(V5, 0x30, publish_with(b"\x26\x00\x01\x00\x00\x00"), NullCharacter, 0x81),
        // A property that reaches into the payload.
        case(
            V5,
            0x30,
            [&publish_with(b"\x03\x00\x02a")[..], b"payload"].concat(),
            Truncated { needed: 2, available: 1 },
            0x81,
        ),
        case(V5, 0x30, publish_with(b"\x04"), UnknownProperty(4), 0x81),
        case(V5, 0x30, publish_with(b"\x7f\x00"), UnknownProperty(127), 0x81),
        case(V5, 0x30, publish_with(b"\xa6\x01"), UnknownProperty(166), 0x81),
        case(V5, 0x30, publish_with(b"\xa6"), Truncated { needed: 2, available: 1 }, 0x81),
        case(V5, 0x30, publish_with(b"\xa6\x00"), VariableByteIntegerNotMinimal(38), 0x81),
        // Acknowledgements.
        case(BOTH, 0x40, b"\x00", PacketIdMissing(PacketType::PUBACK), 0x81),
        case(BOTH, 0x50, b"\x00\x00", PacketIdZero, 0x82),
        case(V311, 0x62, b"\x00\x01\x00", TrailingBytes(1), 0x81),
        case(V5, 0x40, b"\x00\x01\x92", code(PacketType::PUBACK, 0x92), 0x82),
        case(V5, 0x70, b"\x00\x01\x00\x00\x00", TrailingBytes(1), 0x81),
        case(
            V5,
            0x40,
            b"\x00\x01\x00\x02\x01\x00",
            not_allowed(PacketType::PUBACK, PropertyId::PAYLOAD_FORMAT_INDICATOR),
            0x81,
        ),
        // SUBSCRIBE.
        case(BOTH, 0x82, b"", PacketIdMissing(PacketType::SUBSCRIBE), 0x81),
        case(V311, 0x82, b"\x00\x01", EmptyPayload(PacketType::SUBSCRIBE), 0x82),
        case(V5, 0x82, b"\x00\x01\x00", EmptyPayload(PacketType::SUBSCRIBE), 0x82),
        case(V311, 0x82, b"\x00\x01\x00\x01a", Truncated { needed: 1, available: 0 }, 0x81),
        case(V311, 0x82, b"\x00\x01\x00\x01a\x03", SubscriptionQos3(3), 0x82),
        case(V311, 0x82, b"\x00\x01\x00\x01a\x04", ReservedSubscriptionOptions(4), 0x81),
        case(V311, 0x82, b"\x00\x01\x00\x01a\x80", ReservedSubscriptionOptions(0x80), 0x81),
        case(V5, 0x82, b"\x00\x01\x00\x00\x01a\x40", ReservedSubscriptionOptions(0x40), 0x81),
        case(V5, 0x82, b"\x00\x01\x00\x00\x01a\x30", RetainHandling3(0x30), 0x82),
        case(V5, 0x82, b"\x00\x01\x00\x00\x01a\x03", SubscriptionQos3(3), 0x82),
        case(V5, 0x82, b"\x00\x01\x00\x00\x0a$share/g/a\x04", NoLocalOnSharedSubscription, 0x82),
        case(
            V5,
            0x82,
            b"\x00\x01\x04\x0b\x01\x0b\x01\x00\x01a\x00",
            RepeatedProperty(PropertyId::SUBSCRIPTION_IDENTIFIER),
            0x82,
        ),
        // SUBACK, UNSUBSCRIBE, UNSUBACK.
        case(V311, 0x90, b"\x00\x01", EmptyPayload(PacketType::SUBACK), 0x82),
        case(V311, 0x90, b"\x00\x01\x03", code(PacketType::SUBACK, 3), 0x82),
        case(V5, 0x90, b"\x00\x01\x00\x00\x11", code(PacketType::SUBACK, 0x11), 0x82),
        case(V311, 0xa2, b"\x00\x01", EmptyPayload(PacketType::UNSUBSCRIBE), 0x82),
        case(V5, 0xa2, b"\x00\x01\x00", EmptyPayload(PacketType::UNSUBSCRIBE), 0x82),
        case(V311, 0xb0, b"\x00\x01\x00", TrailingBytes(1), 0x81),
        case(V5, 0xb0, b"\x00\x01\x00", EmptyPayload(PacketType::UNSUBACK), 0x82),
        case(V5, 0xb0, b"\x00\x01\x00\x01", code(PacketType::UNSUBACK, 1), 0x82),
        // DISCONNECT, AUTH.
        case(V311, 0xe0, b"\x00", TrailingBytes(1), 0x81),
        case(V5, 0xe0, b"\x01", code(PacketType::DISCONNECT, 1), 0x82),
        case(V5, 0xf0, b"\x04\x00", code(PacketType::AUTH, 4), 0x82),
        case(V5, 0xf0, b"\x18", Truncated { needed: 1, available: 0 }, 0x81),
        case(V5, 0xf0, b"\x18\x00", AuthenticationMethodMissing, 0x82),
        case(V5, 0xf0, b"\x00\x04\x16\x00\x01x", AuthenticationMethodMissing, 0x82),
    ];
    for first in 0x10..=0xff_u8 {
        let (packet_type, flags) = (PacketType(first >> 4), first & 15);
        let allowed = match packet_type {
            PacketType::PUBLISH => continue,
            PacketType::PUBREL | PacketType::SUBSCRIBE | PacketType::UNSUBSCRIBE => 2,
            _ => 0,
        };
        if flags != allowed {
            cases.push(raw(&[first, 0], ReservedFlags { packet_type, flags }, 0x81));
        }
    }
    for (filter, error) in [
        (&b""[..], TopicFilterError::Empty),
        (b"a#", TopicFilterError::MultiLevelWildcard),
        (b"#/a", TopicFilterError::MultiLevelWildcard),
        (b"a+/b", TopicFilterError::SingleLevelWildcard),
        (b"a\0", TopicFilterError::NullCharacter),
    ] {
        cases.extend(with_filter(V311, b"", filter, error));
        cases.extend(with_filter(V5, b"\x00", filter, error));
    }
    for (filter, error) in [
        (&b"$share//a"[..], TopicFilterError::ShareNameEmpty),
        (b"$share/+/a", TopicFilterError::ShareNameWildcard),
        (b"$share/g", TopicFilterError::SharedFilterMissing),
        (b"$share/g/", TopicFilterError::SharedFilterMissing),
    ] {
        cases.extend(with_filter(V5, b"\x00", filter, error));
    }
    cases
}

/// The filter in a SUBSCRIBE and in an UNSUBSCRIBE.
fn with_filter(
    versions: &'static [Version],
    properties: &[u8],
    filter: &[u8],
    error: TopicFilterError,
) -> [Case; 2] {
    let body = [&b"\x00\x01"[..], properties, &[0, filter.len() as u8], filter].concat();
    [
        case(versions, 0x82, [&body[..], b"\x00"].concat(), TopicFilter(error), 0x8f),
        case(versions, 0xa2, body, TopicFilter(error), 0x8f),
    ]
}

#[test]
fn every_offence_has_its_own_error() {
    for case in cases() {
        for &version in case.versions {
            let bytes = &case.bytes;
            assert_eq!(decode(bytes, version), Err(case.error), "{version} {bytes:x?}");
            let first = PacketType(bytes[0] >> 4);
            if first == PacketType::CONNECT {
                assert_eq!(decode_connect(bytes), Err(case.error), "{bytes:x?}");
            }
            if first == PacketType::PUBLISH {
                // Which of the two is short of bytes first depends on how far they look ahead.
                let header = decode_publish_header(bytes, version).unwrap_err();
                let truncated = |error| matches!(error, Truncated { .. } | PacketIdMissing(_));
                assert!(
                    header == case.error || truncated(header) && truncated(case.error),
                    "{version} {bytes:x?} {header:?}"
                );
            }
        }
        assert_eq!(case.error.reason_code(), ReasonCode(case.reason_code), "{:?}", case.error);
    }
}

#[test]
fn errors_of_the_fixed_header_need_no_body() {
    for case in cases() {
        let header = &case.bytes[..1];
        if let Err(error) = frame(header, u32::MAX) {
            assert_eq!(error, case.error);
        }
    }
    assert_eq!(decode(b"\xf0", Version::V311), Ok(codec_mqtt::Decoded::Incomplete { needed: 2 }));
    assert_eq!(decode(b"\xf0\x7f", Version::V311), Err(ReservedPacketType(15)));
    assert_eq!(decode_connect(b"GET / HTTP/1.1"), Err(UnexpectedPacketType(PacketType::PUBACK)));
    assert_eq!(decode_connect(b"\x30"), Err(UnexpectedPacketType(PacketType::PUBLISH)));
    assert_eq!(
        decode_publish_header(b"\x10", Version::V5),
        Err(UnexpectedPacketType(PacketType::CONNECT))
    );
    assert_eq!(UnexpectedPacketType(PacketType::PUBLISH).reason_code(), ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn a_connect_for_another_protocol_is_refused_before_it_is_complete() {
    // A TLS ClientHello.
    assert!(decode_connect(b"\x16\x03\x01").is_err());
    assert_eq!(decode_connect(b"\x10\x7f\x00\x06MQIsdp"), Err(UnknownProtocolName));
    assert_eq!(decode_connect(b"\x10\x7f\x00\x05"), Err(UnknownProtocolName));
    assert_eq!(decode_connect(b"\x10\x7f\x00\x04MQTT\x03"), Err(UnsupportedProtocolVersion(3)));
}

#[test]
fn every_error_appears_above() {
    let mut labels: BTreeSet<_> = cases().iter().map(|case| case.error.label()).collect();
    labels.insert(UnexpectedPacketType(PacketType::PUBLISH).label());
    labels.insert(PacketTooLarge { size: 1, limit: 0 }.label());
    // What only `topic` can say: on the wire no string is longer than 65,535 bytes.
    assert!(!labels.contains("topic_name_too_long"));
    assert_eq!(labels.len(), 50, "{labels:#?}");
}

#[test]
fn labels_and_messages_are_fit_for_metrics_and_logs() {
    for case in cases() {
        let label = case.error.label();
        assert!(
            label
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
        );
        let message = case.error.to_string();
        assert!(!message.ends_with('.') && !message.starts_with(char::is_uppercase), "{message}");
    }
}

#[test]
fn mqtt_3_1_1_has_return_codes_for_two_of_them() {
    assert_eq!(
        UnsupportedProtocolVersion(3).connect_return_code(),
        Some(ConnectReturnCode::UNACCEPTABLE_PROTOCOL_VERSION)
    );
    assert_eq!(EmptyClientId.connect_return_code(), Some(ConnectReturnCode::IDENTIFIER_REJECTED));
    assert_eq!(NullCharacter.connect_return_code(), None);
}

#[test]
fn what_the_standards_leave_open_is_accepted() {
    for (version, bytes) in [
        // Control characters, noncharacters and the byte order mark in strings (§1.5.4).
        (Version::V5, packet(0x30, b"\x00\x04\x01\x7f\xc2\x80\x00")),
        (Version::V5, packet(0x30, b"\x00\x06\xef\xbf\xbf\xef\xbb\xbf\x00")),
        // A password without user name in MQTT 5.0 (§3.1.2.9).
        (Version::V5, packet(0x10, &connect(5, 0x42, b"\x00\x00\x00\x00\x01p"))),
        // An empty client identifier without clean start in MQTT 5.0 (§3.1.3.1).
        (Version::V5, packet(0x10, &connect(5, 0, b"\x00\x00\x00"))),
        // `$share/…` is a filter like any other in MQTT 3.1.1.
        (Version::V311, packet(0x82, b"\x00\x01\x00\x08$share/g\x00")),
        // An empty payload (§3.3.3).
        (Version::V311, packet(0x30, b"\x00\x01t")),
    ] {
        assert!(decode(&bytes, version).unwrap().complete().is_some(), "{bytes:x?}");
    }
}
