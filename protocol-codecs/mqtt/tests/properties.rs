//! What holds for every packet and for every string of bytes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

use std::num::{NonZeroU16, NonZeroU32};

use codec_mqtt::{
    Auth, ConnAck, Connect, ConnectCode, ConnectReturnCode, Decoded, Disconnect, EncodeError,
    Packet, PacketType, PingReq, PingResp, Properties, Property, PropertyId, PubAck, PubComp,
    PubRec, PubRel, Publish, QoS, ReasonCode, ReasonCodes, RetainHandling, SubAck, Subscribe,
    Subscription, Subscriptions, TopicFilters, UnsubAck, Unsubscribe, Version, Will, decode,
    decode_connect, decode_publish_header, frame, topic,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

/// What a packet is made of, owned.
#[derive(Clone, Debug)]
struct Parts {
    packet_type: u8,
    version: Version,
    flags: u8,
    numbers: [u16; 2],
    code: Index,
    strings: [String; 3],
    data: [Vec<u8>; 2],
    properties: [Vec<PropertyParts>; 2],
    topics: Vec<String>,
}

#[derive(Clone, Debug)]
struct PropertyParts {
    id: u8,
    number: u32,
    strings: [String; 2],
}

/// The properties of each packet type, and as entry 0 those of the will (§2.2.2.2, table 2-4).
const PROPERTIES: [&[u8]; 16] = [
    &[1, 2, 3, 8, 9, 24],
    &[17, 21, 22, 23, 25, 33, 34, 39],
    &[17, 18, 19, 21, 22, 26, 28, 31, 33, 34, 36, 37, 39, 40, 41, 42],
    &[1, 2, 3, 8, 9, 11, 11, 35],
    &[31],
    &[31],
    &[31],
    &[31],
    &[11],
    &[31],
    &[],
    &[31],
    &[],
    &[],
    &[17, 28, 31],
    &[21, 22, 31],
];

fn string() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        8 => select("abc/$-0 ".chars().collect::<Vec<_>>()),
        1 => any::<char>().prop_filter("§1.5.4", |c| *c != '\0'),
    ];
    vec(character, 0..24).prop_map(|characters| characters.into_iter().collect())
}

/// A string that also holds what is forbidden somewhere.
fn wild_string() -> impl Strategy<Value = String> {
    vec(select("a/+#$\0".chars().collect::<Vec<_>>()), 0..6)
        .prop_map(|characters| characters.into_iter().collect())
}

fn topic_name() -> impl Strategy<Value = String> {
    string().prop_filter_map("§4.7", |name| topic::TopicName::new(&name).is_ok().then_some(name))
}

fn property(id: u8, wild: bool) -> impl Strategy<Value = PropertyParts> {
    let strings = match (wild, id) {
        (true, _) => [wild_string().boxed(), wild_string().boxed()],
        (false, 8) => [topic_name().boxed(), Just(String::new()).boxed()],
        (false, _) => [string().boxed(), string().boxed()],
    };
    (1..=268_435_455_u32, strings).prop_map(move |(number, strings)| PropertyParts {
        id,
        number,
        strings,
    })
}

fn properties(of: u8, wild: bool) -> impl Strategy<Value = Vec<PropertyParts>> {
    let ids: Vec<u8> = if wild {
        PROPERTIES.concat()
    } else {
        PROPERTIES[usize::from(of)].iter().copied().chain([38, 38, 38]).collect()
    };
    let most = ids.len().min(8);
    subsequence(ids, 0..=most)
        .prop_shuffle()
        .prop_flat_map(move |ids| ids.into_iter().map(|id| property(id, wild)).collect::<Vec<_>>())
}

fn parts(wild: bool) -> impl Strategy<Value = Parts> {
    (1..=15_u8).prop_flat_map(move |packet_type| {
        let name = if wild { wild_string().boxed() } else { topic_name().boxed() };
        let other = if wild { wild_string().boxed() } else { string().boxed() };
        let version = if packet_type == 15 && !wild {
            Just(Version::V5).boxed()
        } else {
            select(vec![Version::V311, Version::V5]).boxed()
        };
        (
            version,
            any::<(u8, [u16; 2], Index)>(),
            [name.clone(), other.clone(), other],
            [vec(any::<u8>(), 0..200), vec(any::<u8>(), 0..20)],
            [properties(packet_type, wild), properties(0, wild)],
            vec(name, if wild { 0 } else { 1 }..5),
        )
            .prop_map(
                move |(version, (flags, numbers, code), strings, data, properties, topics)| Parts {
                    packet_type,
                    version,
                    flags,
                    numbers,
                    code,
                    strings,
                    data,
                    properties,
                    topics,
                },
            )
    })
}

impl PropertyParts {
    fn property(&self) -> Property<'_> {
        let Self { id, number, strings: [string, other] } = self;
        let (number, short, flag) = (*number, *number as u16, number % 2 == 1);
        let data = other.as_bytes();
        let one = NonZeroU16::new(short).unwrap_or(NonZeroU16::MIN);
        let long_one = NonZeroU32::new(number).unwrap();
        match PropertyId(*id) {
            PropertyId::PAYLOAD_FORMAT_INDICATOR => Property::PayloadFormatIndicator(flag),
            PropertyId::MESSAGE_EXPIRY_INTERVAL => Property::MessageExpiryInterval(number),
            PropertyId::CONTENT_TYPE => Property::ContentType(string),
            PropertyId::RESPONSE_TOPIC => Property::ResponseTopic(string),
            PropertyId::CORRELATION_DATA => Property::CorrelationData(data),
            PropertyId::SUBSCRIPTION_IDENTIFIER => Property::SubscriptionIdentifier(long_one),
            PropertyId::SESSION_EXPIRY_INTERVAL => Property::SessionExpiryInterval(number),
            PropertyId::ASSIGNED_CLIENT_IDENTIFIER => Property::AssignedClientIdentifier(string),
            PropertyId::SERVER_KEEP_ALIVE => Property::ServerKeepAlive(short),
            PropertyId::AUTHENTICATION_METHOD => Property::AuthenticationMethod(string),
            PropertyId::AUTHENTICATION_DATA => Property::AuthenticationData(data),
            PropertyId::REQUEST_PROBLEM_INFORMATION => Property::RequestProblemInformation(flag),
            PropertyId::WILL_DELAY_INTERVAL => Property::WillDelayInterval(number),
            PropertyId::REQUEST_RESPONSE_INFORMATION => Property::RequestResponseInformation(flag),
            PropertyId::RESPONSE_INFORMATION => Property::ResponseInformation(string),
            PropertyId::SERVER_REFERENCE => Property::ServerReference(string),
            PropertyId::REASON_STRING => Property::ReasonString(string),
            PropertyId::RECEIVE_MAXIMUM => Property::ReceiveMaximum(one),
            PropertyId::TOPIC_ALIAS_MAXIMUM => Property::TopicAliasMaximum(short),
            PropertyId::TOPIC_ALIAS => Property::TopicAlias(one),
            PropertyId::MAXIMUM_QOS => {
                Property::MaximumQos(if flag { QoS::AtLeastOnce } else { QoS::AtMostOnce })
            }
            PropertyId::RETAIN_AVAILABLE => Property::RetainAvailable(flag),
            PropertyId::MAXIMUM_PACKET_SIZE => Property::MaximumPacketSize(long_one),
            PropertyId::WILDCARD_SUBSCRIPTION_AVAILABLE => {
                Property::WildcardSubscriptionAvailable(flag)
            }
            PropertyId::SUBSCRIPTION_IDENTIFIER_AVAILABLE => {
                Property::SubscriptionIdentifierAvailable(flag)
            }
            PropertyId::SHARED_SUBSCRIPTION_AVAILABLE => {
                Property::SharedSubscriptionAvailable(flag)
            }
            _ => Property::UserProperty(string, other),
        }
    }
}

impl Parts {
    /// Calls back with the packet that the parts make. Not wild, it is a valid one.
    fn with<R>(&self, wild: bool, check: impl FnOnce(Packet<'_>) -> R) -> R {
        let v5 = self.version == Version::V5;
        let lists: [Vec<Property<'_>>; 2] = [&self.properties[0], &self.properties[1]]
            .map(|list| list.iter().map(PropertyParts::property).collect());
        let with_method: Vec<_> = [Property::AuthenticationMethod("m")]
            .into_iter()
            .chain(
                lists[0]
                    .iter()
                    .copied()
                    .filter(|property| property.id() != PropertyId::AUTHENTICATION_METHOD),
            )
            .collect();
        let needs_method = self.packet_type == 15
            || lists[0].iter().any(|property| property.id() == PropertyId::AUTHENTICATION_DATA);
        let properties = match (v5 || wild, needs_method && !wild) {
            (true, true) => Properties::from(&with_method[..]),
            (true, false) => Properties::from(&lists[0][..]),
            _ => Properties::EMPTY,
        };
        let will_properties =
            if v5 || wild { Properties::from(&lists[1][..]) } else { Properties::EMPTY };
        let qos = QoS::from_u8(self.flags % 3).unwrap();
        let flag = |bit: u8| self.flags >> bit & 1 != 0;
        let packet_id = NonZeroU16::new(self.numbers[0]).unwrap_or(NonZeroU16::MIN);
        let code = |codes: &[u8]| if wild { self.flags } else { *self.code.get(codes) };
        let reason_code = |codes: &[u8]| ReasonCode(if v5 || wild { code(codes) } else { 0 });
        let [name, string, other] = &self.strings;
        let names: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let subscriptions: Vec<_> = names
            .iter()
            .zip(&self.data[0].iter().copied().chain([0; 5]).collect::<Vec<_>>())
            .map(|(filter, byte)| {
                let mut subscription = Subscription::new(filter, QoS::from_u8(byte % 3).unwrap());
                if v5 || wild {
                    subscription.no_local = byte & 4 != 0 && !filter.starts_with("$share/");
                    subscription.retain_as_published = byte & 8 != 0;
                    subscription.retain_handling = match byte >> 4 {
                        0..=4 => RetainHandling::Send,
                        5..=9 => RetainHandling::SendIfNew,
                        _ => RetainHandling::DoNotSend,
                    };
                }
                subscription
            })
            .collect();
        let codes: &[u8] = match (self.packet_type, self.version) {
            (9, Version::V311) => &[0, 1, 2, 0x80],
            (9, Version::V5) => &[0, 1, 2, 0x80, 0x87, 0x8f, 0xa2],
            (_, Version::V311) => &[],
            (_, Version::V5) => &[0, 0x11, 0x80, 0x91],
        };
        let reason_codes = ReasonCodes::new(if wild { &self.data[1] } else { codes });
        check(match PacketType(self.packet_type) {
            PacketType::CONNECT => Packet::Connect(Connect {
                version: self.version,
                clean_start: flag(2) || string.is_empty() && !wild,
                keep_alive: self.numbers[1],
                client_id: string,
                username: (flag(3) || !v5 && !wild).then_some(other),
                password: flag(4).then_some(&self.data[1]),
                will: flag(5).then_some(Will {
                    topic: name,
                    payload: &self.data[0],
                    qos,
                    retain: flag(6),
                    properties: will_properties,
                }),
                properties,
            }),
            PacketType::CONNACK => {
                let code = match self.version {
                    Version::V311 => {
                        ConnectCode::V311(ConnectReturnCode(code(&[0, 1, 2, 3, 4, 5])))
                    }
                    Version::V5 => ConnectCode::V5(ReasonCode(code(&[0, 0x80, 0x87, 0x9f]))),
                };
                let session_present = flag(2) && (code.is_accepted() || wild);
                Packet::ConnAck(ConnAck { session_present, code, properties })
            }
            PacketType::PUBLISH => Packet::Publish(Publish {
                dup: flag(2) && (qos != QoS::AtMostOnce || wild),
                qos,
                retain: flag(3),
                topic: if properties.topic_alias().is_some() && flag(4) { "" } else { name },
                packet_id: (qos != QoS::AtMostOnce || wild && flag(5)).then_some(packet_id),
                properties,
                payload: &self.data[0],
            }),
            PacketType::PUBACK => Packet::PubAck(PubAck {
                packet_id,
                reason_code: reason_code(&[0, 0x10, 0x80, 0x97]),
                properties,
            }),
            PacketType::PUBREC => Packet::PubRec(PubRec {
                packet_id,
                reason_code: reason_code(&[0, 0x10, 0x80, 0x97]),
                properties,
            }),
            PacketType::PUBREL => {
                let reason_code = reason_code(&[0, 0x92]);
                Packet::PubRel(PubRel { packet_id, reason_code, properties })
            }
            PacketType::PUBCOMP => {
                let reason_code = reason_code(&[0, 0x92]);
                Packet::PubComp(PubComp { packet_id, reason_code, properties })
            }
            PacketType::SUBSCRIBE => Packet::Subscribe(Subscribe {
                packet_id,
                properties,
                subscriptions: Subscriptions::from(&subscriptions[..]),
            }),
            PacketType::SUBACK => Packet::SubAck(SubAck { packet_id, properties, reason_codes }),
            PacketType::UNSUBSCRIBE => Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties,
                filters: TopicFilters::from(&names[..]),
            }),
            PacketType::UNSUBACK => {
                Packet::UnsubAck(UnsubAck { packet_id, properties, reason_codes })
            }
            PacketType::PINGREQ => Packet::PingReq(PingReq),
            PacketType::PINGRESP => Packet::PingResp(PingResp),
            PacketType::DISCONNECT => Packet::Disconnect(Disconnect {
                reason_code: reason_code(&[0, 4, 0x81, 0x8e]),
                properties,
            }),
            _ => Packet::Auth(Auth { reason_code: reason_code(&[0, 0x18, 0x19]), properties }),
        })
    }
}

fn encoded(packet: &Packet<'_>, version: Version) -> Result<Vec<u8>, EncodeError> {
    let mut out = vec![0; packet.encoded_len(version)?];
    assert_eq!(packet.encode(version, &mut out), Ok(out.len()));
    Ok(out)
}

/// `decode(encode(x)) == x`, and every way to say that the output is too small.
fn round_trip(packet: &Packet<'_>, bytes: &[u8], version: Version) {
    let decoded = decode(bytes, version);
    assert_eq!(decoded, Ok(Decoded::Complete { packet: *packet, consumed: bytes.len() }));
    // What was decoded encodes to the same bytes again.
    let again = decoded.unwrap().complete().unwrap();
    assert_eq!(encoded(&again, version).as_deref(), Ok(bytes));
    let mut out = vec![0; bytes.len() - 1];
    assert_eq!(
        packet.encode(version, &mut out),
        Err(EncodeError::BufferTooSmall { needed: bytes.len() })
    );
}

/// Every prefix asks for more, and never for more than there is.
fn prefixes(bytes: &[u8], version: Version) {
    let len = bytes.len();
    let incomplete = |part: &[u8], needed: usize| {
        assert!(part.len() < needed && needed <= len, "{} {needed} {len}", part.len());
    };
    let mut payload = None;
    for cut in 0..=len {
        let part = &bytes[..cut];
        match decode(part, version).unwrap() {
            Decoded::Incomplete { needed } => incomplete(part, needed),
            Decoded::Complete { consumed, .. } => assert_eq!((cut, consumed), (len, len)),
        }
        match frame(part, u32::MAX).unwrap() {
            Decoded::Incomplete { needed } => incomplete(part, needed),
            Decoded::Complete { packet, .. } => assert_eq!(packet.len(), len),
        }
        if bytes[0] >> 4 == 1 {
            match decode_connect(part).unwrap() {
                Decoded::Incomplete { needed } => incomplete(part, needed),
                Decoded::Complete { consumed, .. } => assert_eq!((cut, consumed), (len, len)),
            }
        }
        if bytes[0] >> 4 == 3 {
            match decode_publish_header(part, version).unwrap() {
                Decoded::Incomplete { needed } => {
                    incomplete(part, needed);
                    assert_eq!(payload, None, "complete once, complete for good");
                }
                Decoded::Complete { packet, consumed } => {
                    assert_eq!(consumed + packet.payload_len, len);
                    assert!(payload.is_none_or(|offset| offset == consumed));
                    payload = Some(consumed);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_packet_survives_the_round_trip(parts in parts(false)) {
        parts.with(false, |packet| {
            let bytes = encoded(&packet, parts.version).unwrap();
            round_trip(&packet, &bytes, parts.version);
        });
    }

    #[test]
    fn what_encode_accepts_decode_gives_back(parts in parts(true)) {
        parts.with(true, |packet| {
            if let Ok(bytes) = encoded(&packet, parts.version) {
                round_trip(&packet, &bytes, parts.version);
            }
        });
    }

    #[test]
    fn a_publish_can_be_written_in_pieces(parts in parts(false)) {
        parts.with(false, |packet| {
            let Packet::Publish(publish) = packet else { return };
            let bytes = encoded(&packet, parts.version).unwrap();
            let header = publish.header();
            let mut out = vec![0; header.encoded_len(parts.version).unwrap()];
            assert_eq!(header.encode(parts.version, &mut out), Ok(out.len()));
            let Decoded::Complete { packet: decoded, consumed } =
                decode_publish_header(&out, parts.version).unwrap() else { panic!() };
            assert_eq!((decoded, consumed), (header, out.len()));
            out.extend_from_slice(publish.payload);
            assert_eq!(out, bytes);
        });
    }

    #[test]
    fn any_split_of_a_stream_decodes_the_same(parts in parts(false)) {
        parts.with(false, |packet| {
            prefixes(&encoded(&packet, parts.version).unwrap(), parts.version);
        });
    }

    #[test]
    fn one_byte_changed_is_refused_or_another_packet(
        parts in parts(false),
        at in any::<Index>(),
        byte in any::<u8>(),
    ) {
        parts.with(false, |packet| {
            let mut bytes = encoded(&packet, parts.version).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            any_bytes(&bytes, parts.version);
        });
    }

    #[test]
    fn no_bytes_at_all_make_it_panic(
        first in any::<u8>(),
        body in vec(any::<u8>(), 0..100),
        v5 in any::<bool>(),
    ) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        any_bytes(&[&[first, body.len() as u8], &body[..]].concat(), version);
        any_bytes(&body, version);
    }
}

/// What decodes, encodes to an equal packet, in no more bytes.
fn any_bytes(bytes: &[u8], version: Version) {
    let _ = frame(bytes, 50);
    let _ = decode_connect(bytes);
    let header = decode_publish_header(bytes, version);
    if let Ok(Decoded::Complete { packet, consumed }) = decode(bytes, version) {
        let again = encoded(&packet, version).unwrap();
        assert!(again.len() <= consumed);
        assert_eq!(
            decode(&again, version),
            Ok(Decoded::Complete { packet, consumed: again.len() })
        );
        if let Packet::Publish(publish) = packet {
            assert_eq!(header.unwrap().complete(), Some(publish.header()));
        }
    }
}
