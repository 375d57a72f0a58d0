//! Packets that the standards print, byte for byte, in both directions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

use std::num::{NonZeroU16, NonZeroU32};

use codec_mqtt::{
    Auth, ConnAck, Connect, ConnectCode, ConnectReturnCode, Decoded, Disconnect, Packet, PingReq,
    PingResp, Properties, Property, PubAck, PubComp, PubRec, PubRel, Publish, QoS, ReasonCode,
    ReasonCodes, RetainHandling, SubAck, Subscribe, Subscription, Subscriptions, TopicFilters,
    UnsubAck, Unsubscribe, Version, Will, decode, decode_connect,
};

fn id(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

/// A packet with a body of less than 128 bytes.
fn whole(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, body.len() as u8], body].concat()
}

/// The bytes decode to the packet, and the packet encodes to the bytes.
#[track_caller]
fn both_ways(version: Version, first: u8, body: &[u8], packet: Packet<'_>) {
    let bytes = whole(first, body);
    assert_eq!(decode(&bytes, version), Ok(Decoded::Complete { packet, consumed: bytes.len() }));
    assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
    let mut out = vec![0xaa; bytes.len() + 3];
    assert_eq!(packet.encode(version, &mut out), Ok(bytes.len()));
    assert_eq!(out[..bytes.len()], *bytes);
    assert_eq!(out[bytes.len()..], [0xaa; 3], "nothing is written beyond the packet");
}

#[test]
fn connect_3_1_1() {
    // The flags and keep alive of 3.1.1 figure 3.6.
    let body = b"\x00\x04MQTT\x04\xce\x00\x0a\x00\x02id\x00\x01t\x00\x04gone\x00\x05alice\x00\x03\xff\x00s";
    let connect = Connect {
        version: Version::V311,
        clean_start: true,
        keep_alive: 10,
        client_id: "id",
        username: Some("alice"),
        password: Some(b"\xff\x00s"),
        will: Some(Will {
            topic: "t",
            payload: b"gone",
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: Properties::EMPTY,
        }),
        properties: Properties::EMPTY,
    };
    both_ways(Version::V311, 0x10, body, Packet::Connect(connect));
    both_ways(Version::V5, 0x10, body, Packet::Connect(connect));
    let bytes = whole(0x10, body);
    assert_eq!(
        decode_connect(&bytes),
        Ok(Decoded::Complete { packet: connect, consumed: bytes.len() })
    );
}

#[test]
fn connect_5() {
    // The variable header of §3.1.2.12, figure 3-6: session expiry interval 10.
    let body = b"\x00\x04MQTT\x05\xc2\x00\x0a\x05\x11\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00";
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 10,
        client_id: "",
        username: Some(""),
        password: Some(b""),
        will: None,
        properties: Properties::from(&[Property::SessionExpiryInterval(10)]),
    };
    both_ways(Version::V5, 0x10, body, Packet::Connect(connect));
}

#[test]
fn connack() {
    both_ways(
        Version::V311,
        0x20,
        b"\x01\x00",
        Packet::ConnAck(ConnAck {
            session_present: true,
            code: ConnectCode::V311(ConnectReturnCode::ACCEPTED),
            properties: Properties::EMPTY,
        }),
    );
    both_ways(
        Version::V5,
        0x20,
        b"\x00\x9c\x08\x1c\x00\x05b:883",
        Packet::ConnAck(ConnAck {
            session_present: false,
            code: ConnectCode::V5(ReasonCode::USE_ANOTHER_SERVER),
            properties: Properties::from(&[Property::ServerReference("b:883")]),
        }),
    );
}

#[test]
fn publish() {
    // 3.1.1 figure 3.11 and §3.3.2: topic name "a/b", packet identifier 10.
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "a/b",
        packet_id: Some(id(10)),
        properties: Properties::EMPTY,
        payload: b"",
    };
    both_ways(Version::V311, 0x32, b"\x00\x03a/b\x00\x0a", Packet::Publish(publish));
    both_ways(Version::V5, 0x32, b"\x00\x03a/b\x00\x0a\x00", Packet::Publish(publish));
    // §1.5.4.1: "A" followed by U+2A6D4.
    both_ways(
        Version::V5,
        0x3d,
        b"\x00\x05\x41\xf0\xaa\x9b\x94\xff\xff\x05\x0b\x80\x01\x0b\x05hi",
        Packet::Publish(Publish {
            dup: true,
            qos: QoS::ExactlyOnce,
            retain: true,
            topic: "A\u{2a6d4}",
            packet_id: Some(id(65_535)),
            properties: Properties::from(&[
                Property::SubscriptionIdentifier(NonZeroU32::new(128).unwrap()),
                Property::SubscriptionIdentifier(NonZeroU32::new(5).unwrap()),
            ]),
            payload: b"hi",
        }),
    );
}

#[test]
fn acknowledgements() {
    let versions = [Version::V311, Version::V5];
    for version in versions {
        both_ways(version, 0x40, b"\x00\x0a", Packet::PubAck(PubAck::new(id(10))));
        both_ways(version, 0x50, b"\x00\x0a", Packet::PubRec(PubRec::new(id(10))));
        both_ways(version, 0x62, b"\x00\x0a", Packet::PubRel(PubRel::new(id(10))));
        both_ways(version, 0x70, b"\x00\x0a", Packet::PubComp(PubComp::new(id(10))));
        both_ways(version, 0xc0, b"", Packet::PingReq(PingReq));
        both_ways(version, 0xd0, b"", Packet::PingResp(PingResp));
        both_ways(version, 0xe0, b"", Packet::Disconnect(Disconnect::NORMAL));
    }
    both_ways(
        Version::V5,
        0x40,
        b"\x00\x0a\x10",
        Packet::PubAck(PubAck {
            reason_code: ReasonCode::NO_MATCHING_SUBSCRIBERS,
            ..PubAck::new(id(10))
        }),
    );
    both_ways(
        Version::V5,
        0x62,
        b"\x00\x0a\x92\x05\x1f\x00\x02no",
        Packet::PubRel(PubRel {
            packet_id: id(10),
            reason_code: ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
            properties: Properties::from(&[Property::ReasonString("no")]),
        }),
    );
    both_ways(
        Version::V5,
        0xe0,
        b"\x04",
        Packet::Disconnect(Disconnect {
            reason_code: ReasonCode::DISCONNECT_WITH_WILL,
            properties: Properties::EMPTY,
        }),
    );
}

#[test]
fn what_may_be_left_out_may_also_be_there() {
    // §3.4.2.1, §3.14.2.1: success and an empty property length, written out.
    for (bytes, packet) in [
        (&b"\x40\x03\x00\x0a\x00"[..], Packet::PubAck(PubAck::new(id(10)))),
        (b"\x40\x04\x00\x0a\x00\x00", Packet::PubAck(PubAck::new(id(10)))),
        (b"\xe0\x01\x00", Packet::Disconnect(Disconnect::NORMAL)),
        (b"\xe0\x02\x00\x00", Packet::Disconnect(Disconnect::NORMAL)),
        (
            b"\xf0\x02\x00\x00",
            Packet::Auth(Auth { reason_code: ReasonCode::SUCCESS, properties: Properties::EMPTY }),
        ),
    ] {
        assert_eq!(
            decode(bytes, Version::V5),
            Ok(Decoded::Complete { packet, consumed: bytes.len() })
        );
    }
}

#[test]
fn subscribe() {
    // 3.1.1 figure 3.23: "a/b" at QoS 1, "c/d" at QoS 2.
    both_ways(
        Version::V311,
        0x82,
        b"\x00\x0a\x00\x03a/b\x01\x00\x03c/d\x02",
        Packet::Subscribe(Subscribe {
            packet_id: id(10),
            properties: Properties::EMPTY,
            subscriptions: Subscriptions::from(&[
                Subscription::new("a/b", QoS::AtLeastOnce),
                Subscription::new("c/d", QoS::ExactlyOnce),
            ]),
        }),
    );
    both_ways(
        Version::V5,
        0x82,
        b"\x00\x0a\x02\x0b\x01\x00\x01+\x2c\x00\x0a$share/g/#\x12",
        Packet::Subscribe(Subscribe {
            packet_id: id(10),
            properties: Properties::from(&[Property::SubscriptionIdentifier(NonZeroU32::MIN)]),
            subscriptions: Subscriptions::from(&[
                Subscription {
                    no_local: true,
                    retain_as_published: true,
                    retain_handling: RetainHandling::DoNotSend,
                    ..Subscription::new("+", QoS::AtMostOnce)
                },
                Subscription {
                    retain_handling: RetainHandling::SendIfNew,
                    ..Subscription::new("$share/g/#", QoS::ExactlyOnce)
                },
            ]),
        }),
    );
    // 3.1.1 figure 3.26.
    let codes = ReasonCodes::new(&[0, 2, 0x80]);
    both_ways(
        Version::V311,
        0x90,
        b"\x00\x0a\x00\x02\x80",
        Packet::SubAck(SubAck {
            packet_id: id(10),
            properties: Properties::EMPTY,
            reason_codes: codes,
        }),
    );
    assert!(codes.iter().eq([
        ReasonCode::GRANTED_QOS_0,
        ReasonCode::GRANTED_QOS_2,
        ReasonCode::UNSPECIFIED_ERROR
    ]));
}

#[test]
fn unsubscribe() {
    // 3.1.1 figure 3.30.
    let unsubscribe = Unsubscribe {
        packet_id: id(10),
        properties: Properties::EMPTY,
        filters: TopicFilters::from(&["a/b", "c/d"]),
    };
    both_ways(
        Version::V311,
        0xa2,
        b"\x00\x0a\x00\x03a/b\x00\x03c/d",
        Packet::Unsubscribe(unsubscribe),
    );
    both_ways(
        Version::V5,
        0xa2,
        b"\x00\x0a\x00\x00\x03a/b\x00\x03c/d",
        Packet::Unsubscribe(unsubscribe),
    );
    let unsuback = UnsubAck {
        packet_id: id(10),
        properties: Properties::EMPTY,
        reason_codes: ReasonCodes::default(),
    };
    both_ways(Version::V311, 0xb0, b"\x00\x0a", Packet::UnsubAck(unsuback));
    both_ways(
        Version::V5,
        0xb0,
        b"\x00\x0a\x00\x00\x11",
        Packet::UnsubAck(UnsubAck { reason_codes: ReasonCodes::new(&[0, 0x11]), ..unsuback }),
    );
}

#[test]
fn auth() {
    both_ways(
        Version::V5,
        0xf0,
        b"",
        Packet::Auth(Auth { reason_code: ReasonCode::SUCCESS, properties: Properties::EMPTY }),
    );
    both_ways(
        Version::V5,
        0xf0,
        b"\x18\x0b\x15\x00\x02K5\x16\x00\x03\x00\xff\x01",
        Packet::Auth(Auth {
            reason_code: ReasonCode::CONTINUE_AUTHENTICATION,
            properties: Properties::from(&[
                Property::AuthenticationMethod("K5"),
                Property::AuthenticationData(b"\x00\xff\x01"),
            ]),
        }),
    );
}

#[test]
fn every_property_both_ways() {
    let one = NonZeroU16::MIN;
    let connack: &[Property<'_>] = &[
        Property::SessionExpiryInterval(u32::MAX),
        Property::AssignedClientIdentifier("c"),
        Property::ServerKeepAlive(0),
        Property::AuthenticationMethod("m"),
        Property::AuthenticationData(b""),
        Property::ResponseInformation("i"),
        Property::ServerReference("r"),
        Property::ReasonString("s"),
        Property::ReceiveMaximum(one),
        Property::TopicAliasMaximum(0),
        Property::MaximumQos(QoS::AtLeastOnce),
        Property::RetainAvailable(false),
        Property::UserProperty("", ""),
        Property::MaximumPacketSize(NonZeroU32::MAX),
        Property::WildcardSubscriptionAvailable(false),
        Property::SubscriptionIdentifierAvailable(true),
        Property::SharedSubscriptionAvailable(false),
        Property::UserProperty("", ""),
    ];
    both_ways(
        Version::V5,
        0x20,
        b"\x00\x00\x3e\x11\xff\xff\xff\xff\x12\x00\x01c\x13\x00\x00\x15\x00\x01m\x16\x00\x00\
          \x1a\x00\x01i\x1c\x00\x01r\x1f\x00\x01s\x21\x00\x01\x22\x00\x00\x24\x01\x25\x00\
          \x26\x00\x00\x00\x00\x27\xff\xff\xff\xff\x28\x00\x29\x01\x2a\x00\x26\x00\x00\x00\x00",
        Packet::ConnAck(ConnAck {
            session_present: false,
            code: ConnectCode::V5(ReasonCode::SUCCESS),
            properties: Properties::from(connack),
        }),
    );
    let will: &[Property<'_>] = &[
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(0),
        Property::ContentType("t"),
        Property::ResponseTopic("r"),
        Property::CorrelationData(b"\xff"),
        Property::WillDelayInterval(1),
    ];
    let connect: &[Property<'_>] =
        &[Property::RequestProblemInformation(false), Property::RequestResponseInformation(true)];
    both_ways(
        Version::V5,
        0x10,
        b"\x00\x04MQTT\x05\x06\x00\x00\x04\x17\x00\x19\x01\x00\x00\x18\x01\x01\x02\x00\x00\x00\x00\
          \x03\x00\x01t\x08\x00\x01r\x09\x00\x01\xff\x18\x00\x00\x00\x01\x00\x01w\x00\x00",
        Packet::Connect(Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: "",
            username: None,
            password: None,
            will: Some(Will {
                topic: "w",
                payload: b"",
                qos: QoS::AtMostOnce,
                retain: false,
                properties: Properties::from(will),
            }),
            properties: Properties::from(connect),
        }),
    );
    both_ways(
        Version::V5,
        0x30,
        b"\x00\x00\x03\x23\x00\x01",
        Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "",
            packet_id: None,
            properties: Properties::from(&[Property::TopicAlias(one)]),
            payload: b"",
        }),
    );
}

#[test]
fn accessors_find_their_property() {
    let list = [
        Property::UserProperty("a", "1"),
        Property::ContentType("text/plain"),
        Property::TopicAlias(id(7)),
        Property::UserProperty("b", "2"),
        Property::UserProperty("a", "3"),
        Property::SubscriptionIdentifier(NonZeroU32::MIN),
    ];
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "t",
        packet_id: None,
        properties: Properties::from(&list),
        payload: b"",
    };
    let mut out = [0; 100];
    let len = publish.encode(Version::V5, &mut out).unwrap();
    let decoded = decode(&out[..len], Version::V5).unwrap().complete().unwrap();
    let Packet::Publish(decoded) = decoded else { panic!("{decoded:?}") };
    for properties in [publish.properties, decoded.properties] {
        assert_eq!(properties.content_type(), Some("text/plain"));
        assert_eq!(properties.topic_alias(), Some(id(7)));
        assert_eq!(properties.message_expiry_interval(), None);
        assert_eq!(properties.user_property("a"), Some("1"));
        assert_eq!(properties.user_property("c"), None);
        assert!(properties.user_properties().eq([("a", "1"), ("b", "2"), ("a", "3")]));
        assert!(properties.subscription_identifiers().eq([NonZeroU32::MIN]));
        assert_eq!(properties.iter().count(), 6);
    }
}

#[test]
fn a_decoded_packet_can_be_sent_on_as_another() {
    // What was decoded from one packet is checked again when it goes into a packet of another type.
    let bytes = whole(0x30, b"\x00\x01t\x09\x0b\x01\x0b\x02\x26\x00\x00\x00\x00");
    let Ok(Decoded::Complete { packet: Packet::Publish(publish), .. }) =
        decode(&bytes, Version::V5)
    else {
        panic!()
    };
    let filters = [Subscription::new("a", QoS::AtMostOnce)];
    let subscribe = Subscribe {
        packet_id: id(1),
        properties: publish.properties,
        subscriptions: Subscriptions::from(&filters),
    };
    assert!(subscribe.encoded_len(Version::V5).is_err(), "two subscription identifiers");
    let puback = PubAck { properties: publish.properties, ..PubAck::new(id(1)) };
    assert!(puback.encoded_len(Version::V5).is_err(), "no subscription identifiers");
}
