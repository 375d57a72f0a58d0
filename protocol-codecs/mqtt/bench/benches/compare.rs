//! Decoding and encoding, beside the crates that are fastest at it.
//!
//! Every contender starts from the bytes of one packet (or from a packet it built itself, for encoding)
//! and every field of what it decoded is looked at, each property and string included. What the others
//! are spared is to their advantage: `mqtt-protocol-core` gets the body without framing and its `Arc`
//! for free, `mqttbytes` the copy into its `BytesMut`.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::hint::black_box;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::BytesMut;
use codec_mqtt as ours;
use codec_mqtt::{Decoded, Packet, Properties, Property, QoS, Version};
use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use mqtt_protocol_core::mqtt::packet as core_packet;

const TOPIC: &str = "devices/eu-1/42/temperature";
const PAYLOAD: [u8; 64] =
    *b"{\"t\":21.5,\"h\":0.41,\"ts\":1759312345,\"unit\":\"C\",\"src\":\"sensor-42\"}";
const CLIENT_ID: &str = "device-eu-1-0000042";
const USERNAME: &str = "eu-device";
const PASSWORD: &[u8] = b"correct horse battery";
const WILL_TOPIC: &str = "devices/eu-1/42/status";
const WILL_PAYLOAD: &[u8] = b"offline";

const USER_PROPERTIES: [Property<'static>; 3] = [
    Property::UserProperty("tenant", "acme-1"),
    Property::UserProperty("trace", "4bf92f3577b34da6a3ce929d"),
    Property::UserProperty("content", "telemetry/json"),
];
const CONNECT_PROPERTIES: [Property<'static>; 3] = [
    Property::SessionExpiryInterval(3600),
    Property::ReceiveMaximum(NonZeroU16::MAX),
    Property::MaximumPacketSize(NonZeroU32::new(1 << 20).unwrap()),
];
const WILL_PROPERTIES: [Property<'static>; 2] =
    [Property::WillDelayInterval(30), Property::ContentType("text/plain")];

fn publish(version: Version) -> ours::Publish<'static> {
    ours::Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: TOPIC,
        packet_id: NonZeroU16::new(10),
        properties: match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::from(&USER_PROPERTIES),
        },
        payload: &PAYLOAD,
    }
}

fn connect(version: Version) -> ours::Connect<'static> {
    let v5 = version == Version::V5;
    ours::Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: CLIENT_ID,
        username: Some(USERNAME),
        password: Some(PASSWORD),
        will: Some(ours::Will {
            topic: WILL_TOPIC,
            payload: WILL_PAYLOAD,
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: if v5 { Properties::from(&WILL_PROPERTIES) } else { Properties::EMPTY },
        }),
        properties: if v5 { Properties::from(&CONNECT_PROPERTIES) } else { Properties::EMPTY },
    }
}

fn encoded(packet: Packet<'_>, version: Version, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; packet.encoded_len(version).unwrap()];
    packet.encode(version, &mut bytes).unwrap();
    assert_eq!(bytes.len(), len);
    bytes
}

/// The body without the fixed header, which is what `mqtt-protocol-core` starts from.
fn body(bytes: &[u8]) -> &[u8] {
    let Ok(Decoded::Complete { consumed, .. }) = ours::frame(bytes, u32::MAX) else { panic!() };
    &bytes[consumed..]
}

// Looks are scalar by scalar: copying two neighbouring fields at once would stall on the stores that
// just wrote them, in whichever crate's struct they lie side by side.

fn look<T>(value: T) {
    black_box(value);
}

fn look_at(data: impl AsRef<[u8]>) {
    let data = data.as_ref();
    black_box(data.as_ptr());
    black_box(data.len());
}

fn look_at_any(data: Option<impl AsRef<[u8]>>) {
    if let Some(data) = data {
        look_at(data);
    }
}

fn decode_ours(bytes: &[u8], version: Version) {
    match &ours::decode(black_box(bytes), version) {
        Ok(Decoded::Complete { packet: Packet::Publish(publish), consumed }) => {
            look(publish.dup);
            look(publish.qos);
            look(publish.retain);
            look(publish.packet_id);
            look(*consumed);
            look_at(publish.topic);
            look_at(publish.payload);
            // MQTT 3.1.1 has none, and neither have its other contenders.
            if version == Version::V5 {
                touch(&publish.properties);
            }
        }
        Ok(Decoded::Complete { packet: Packet::Connect(connect), consumed }) => {
            look(connect.version);
            look(connect.clean_start);
            look(connect.keep_alive);
            look(*consumed);
            look_at(connect.client_id);
            look_at_any(connect.username);
            look_at_any(connect.password);
            if version == Version::V5 {
                touch(&connect.properties);
            }
            if let Some(will) = &connect.will {
                look(will.qos);
                look(will.retain);
                look_at(will.topic);
                look_at(will.payload);
                if version == Version::V5 {
                    touch(&will.properties);
                }
            }
        }
        other => panic!("{other:?}"),
    }
}

#[inline(always)]
fn touch(properties: &Properties<'_>) {
    for property in properties {
        match property {
            Property::UserProperty(name, value) => {
                look_at(name);
                look_at(value);
            }
            Property::ContentType(string) => {
                look_at(string);
            }
            Property::SessionExpiryInterval(value) | Property::WillDelayInterval(value) => {
                look(value);
            }
            Property::ReceiveMaximum(value) => {
                look(value);
            }
            Property::MaximumPacketSize(value) => {
                look(value);
            }
            other => {
                look(other);
            }
        }
    }
}

fn touch_core(properties: &[core_packet::Property]) {
    use core_packet::Property;
    for property in properties {
        match property {
            Property::UserProperty(property) => {
                look_at(property.key());
                look_at(property.val());
            }
            Property::ContentType(property) => {
                look_at(property.val());
            }
            Property::SessionExpiryInterval(property) => {
                look(property.val());
            }
            Property::WillDelayInterval(property) => {
                look(property.val());
            }
            Property::ReceiveMaximum(property) => {
                look(property.val());
            }
            Property::MaximumPacketSize(property) => {
                look(property.val());
            }
            other => {
                look(other);
            }
        }
    }
}

fn decode_core_publish_v5(flags: u8, body: &Arc<[u8]>) {
    let (publish, consumed) =
        core_packet::v5_0::Publish::parse(flags, Arc::clone(black_box(body))).unwrap();
    look(publish.dup());
    look(publish.qos());
    look(publish.retain());
    look(publish.packet_id());
    look(consumed);
    look_at(publish.topic_name());
    look_at(publish.payload().as_slice());
    touch_core(publish.props());
}

fn decode_core_publish_v311(flags: u8, body: &Arc<[u8]>) {
    let (publish, consumed) =
        core_packet::v3_1_1::Publish::parse(flags, Arc::clone(black_box(body))).unwrap();
    look(publish.dup());
    look(publish.qos());
    look(publish.retain());
    look(publish.packet_id());
    look(consumed);
    look_at(publish.topic_name());
    look_at(publish.payload().as_slice());
}

macro_rules! decode_core_connect {
    ($name:ident, $version:ident, |$connect:ident| $more:expr) => {
        fn $name(body: &[u8]) {
            let ($connect, consumed) =
                core_packet::$version::Connect::parse(black_box(body)).unwrap();
            look($connect.protocol_version());
            look($connect.keep_alive());
            look(consumed);
            look_at($connect.client_id());
            look_at_any($connect.user_name());
            look_at_any($connect.password());
            look($connect.will_qos());
            look($connect.will_retain());
            look_at_any($connect.will_topic());
            look_at_any($connect.will_payload());
            $more;
        }
    };
}

decode_core_connect!(decode_core_connect_v5, v5_0, |connect| {
    look(connect.clean_start());
    touch_core(connect.props());
    touch_core(connect.will_props());
});
decode_core_connect!(decode_core_connect_v311, v3_1_1, |connect| black_box(
    connect.clean_session()
));

fn decode_mqttrs(bytes: &[u8]) {
    match mqttrs::decode_slice(black_box(bytes)) {
        Ok(Some(mqttrs::Packet::Publish(publish))) => {
            look(publish.dup);
            match publish.qospid {
                mqttrs::QosPid::AtMostOnce => look(mqttrs::QoS::AtMostOnce),
                mqttrs::QosPid::AtLeastOnce(pid) => {
                    look(mqttrs::QoS::AtLeastOnce);
                    look(pid.get());
                }
                mqttrs::QosPid::ExactlyOnce(pid) => {
                    look(mqttrs::QoS::ExactlyOnce);
                    look(pid.get());
                }
            }
            look(publish.retain);
            look_at(publish.topic_name);
            look_at(publish.payload);
        }
        Ok(Some(mqttrs::Packet::Connect(connect))) => {
            look(connect.protocol);
            look(connect.clean_session);
            look(connect.keep_alive);
            look_at(connect.client_id);
            look_at_any(connect.username);
            look_at_any(connect.password);
            if let Some(will) = &connect.last_will {
                look(will.qos);
                look(will.retain);
                look_at(will.topic);
                look_at(will.message);
            }
        }
        other => panic!("{other:?}"),
    }
}

macro_rules! decode_mqttbytes {
    ($name:ident, $version:ident, |$publish:ident| $publish_more:expr, |$connect:ident| $connect_more:expr) => {
        fn $name(stream: &mut BytesMut) {
            match mqttbytes::$version::read(black_box(stream), 1 << 20).unwrap() {
                mqttbytes::$version::Packet::Publish($publish) => {
                    look($publish.dup);
                    look($publish.qos);
                    look($publish.retain);
                    look($publish.pkid);
                    look_at($publish.topic.as_str());
                    look_at(&$publish.payload[..]);
                    $publish_more;
                }
                mqttbytes::$version::Packet::Connect($connect) => {
                    look($connect.protocol);
                    look($connect.clean_session);
                    look($connect.keep_alive);
                    look_at($connect.client_id.as_str());
                    if let Some(login) = &$connect.login {
                        look_at(login.username.as_str());
                        look_at(login.password.as_str());
                    }
                    $connect_more;
                }
                other => panic!("{other:?}"),
            }
        }
    };
}

decode_mqttbytes!(decode_mqttbytes_v4, v4, |publish| drop(publish), |connect| if let Some(will) =
    &connect.last_will
{
    look(will.qos);
    look(will.retain);
    look_at(will.topic.as_str());
    look_at(&will.message[..]);
});
decode_mqttbytes!(
    decode_mqttbytes_v5,
    v5,
    |publish| for (name, value) in publish.properties.iter().flat_map(|all| &all.user_properties) {
        look_at(name.as_str());
        look_at(value.as_str());
    },
    |connect| {
        if let Some(properties) = &connect.properties {
            look(properties.session_expiry_interval);
            look(properties.receive_maximum);
            look(properties.max_packet_size);
        }
        if let Some(will) = &connect.last_will {
            look(will.qos);
            look(will.retain);
            look_at(will.topic.as_str());
            look_at(&will.message[..]);
            if let Some(properties) = &will.properties {
                look(properties.delay_interval);
                look_at_any(properties.content_type.as_deref());
            }
        }
    }
);

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn from_stream(group: &mut Group<'_>, bytes: &[u8], decode: fn(&mut BytesMut)) {
    group.bench_function("mqttbytes", |b| {
        b.iter_batched_ref(|| BytesMut::from(bytes), decode, BatchSize::SmallInput);
    });
}

fn decode(c: &mut Criterion) {
    let bytes = encoded(Packet::Publish(publish(Version::V5)), Version::V5, 176);
    let mut group = c.benchmark_group("decode 5.0 PUBLISH 176 B");
    group.bench_function("ours", |b| b.iter(|| decode_ours(&bytes, Version::V5)));
    let arc: Arc<[u8]> = body(&bytes).into();
    group.bench_function("mqtt-protocol-core", |b| {
        b.iter(|| decode_core_publish_v5(bytes[0] & 15, &arc))
    });
    from_stream(&mut group, &bytes, decode_mqttbytes_v5);
    group.finish();

    let bytes = encoded(Packet::Publish(publish(Version::V311)), Version::V311, 97);
    let mut group = c.benchmark_group("decode 3.1.1 PUBLISH 97 B");
    group.bench_function("ours", |b| b.iter(|| decode_ours(&bytes, Version::V311)));
    group.bench_function("mqttrs", |b| b.iter(|| decode_mqttrs(&bytes)));
    let arc: Arc<[u8]> = body(&bytes).into();
    group.bench_function("mqtt-protocol-core", |b| {
        b.iter(|| decode_core_publish_v311(bytes[0] & 15, &arc))
    });
    from_stream(&mut group, &bytes, decode_mqttbytes_v4);
    group.finish();

    let bytes = encoded(Packet::Connect(connect(Version::V5)), Version::V5, 134);
    let mut group = c.benchmark_group("decode 5.0 CONNECT 134 B");
    group.bench_function("ours", |b| b.iter(|| decode_ours(&bytes, Version::V5)));
    group.bench_function("mqtt-protocol-core", |b| b.iter(|| decode_core_connect_v5(body(&bytes))));
    from_stream(&mut group, &bytes, decode_mqttbytes_v5);
    group.finish();

    let bytes = encoded(Packet::Connect(connect(Version::V311)), Version::V311, 100);
    let mut group = c.benchmark_group("decode 3.1.1 CONNECT 100 B");
    group.bench_function("ours", |b| b.iter(|| decode_ours(&bytes, Version::V311)));
    group.bench_function("mqttrs", |b| b.iter(|| decode_mqttrs(&bytes)));
    group.bench_function("mqtt-protocol-core", |b| {
        b.iter(|| decode_core_connect_v311(body(&bytes)))
    });
    from_stream(&mut group, &bytes, decode_mqttbytes_v4);
    group.finish();
}

fn encode_ours(
    group: &mut Group<'_>,
    packet: ours::Publish<'_>,
    version: Version,
    expected: &[u8],
) {
    let mut out = [0; 256];
    let mut encode = || black_box(&packet).encode(version, black_box(&mut out)).unwrap();
    assert_eq!(encode(), expected.len());
    group.bench_function("ours", |b| b.iter(&mut encode));
    assert_eq!(&out[..expected.len()], expected);
}

fn encode_mqttbytes<P>(
    group: &mut Group<'_>,
    packet: &P,
    write: fn(&P, &mut BytesMut) -> Result<usize, mqttbytes::Error>,
    expected: &[u8],
) {
    let mut out = BytesMut::with_capacity(256);
    let mut encode = || {
        out.clear();
        write(black_box(packet), black_box(&mut out)).unwrap()
    };
    encode();
    group.bench_function("mqttbytes", |b| b.iter(&mut encode));
    assert_eq!(out, expected);
}

fn encode(c: &mut Criterion) {
    let expected = encoded(Packet::Publish(publish(Version::V311)), Version::V311, 97);
    let mut group = c.benchmark_group("encode 3.1.1 PUBLISH 97 B");
    encode_ours(&mut group, publish(Version::V311), Version::V311, &expected);

    let mut packet =
        mqttbytes::v4::Publish::new(TOPIC, mqttbytes::QoS::AtLeastOnce, PAYLOAD.as_slice());
    packet.pkid = 10;
    encode_mqttbytes(&mut group, &packet, mqttbytes::v4::Publish::write, &expected);

    let packet = mqttrs::Packet::Publish(mqttrs::Publish {
        dup: false,
        qospid: mqttrs::QosPid::AtLeastOnce(mqttrs::Pid::try_from(10).unwrap()),
        retain: false,
        topic_name: TOPIC,
        payload: &PAYLOAD,
    });
    let mut out = [0; 256];
    let mut encode = || mqttrs::encode_slice(black_box(&packet), black_box(&mut out)).unwrap();
    assert_eq!(encode(), expected.len());
    group.bench_function("mqttrs", |b| b.iter(&mut encode));
    assert_eq!(&out[..expected.len()], expected);
    group.finish();

    let expected = encoded(Packet::Publish(publish(Version::V5)), Version::V5, 176);
    let mut group = c.benchmark_group("encode 5.0 PUBLISH 176 B");
    encode_ours(&mut group, publish(Version::V5), Version::V5, &expected);

    let mut packet =
        mqttbytes::v5::Publish::new(TOPIC, mqttbytes::QoS::AtLeastOnce, PAYLOAD.as_slice());
    packet.pkid = 10;
    let user_properties = USER_PROPERTIES.iter().filter_map(|property| match *property {
        Property::UserProperty(name, value) => Some((name.to_string(), value.to_string())),
        _ => None,
    });
    packet.properties = Some(mqttbytes::v5::PublishProperties {
        payload_format_indicator: None,
        message_expiry_interval: None,
        topic_alias: None,
        response_topic: None,
        correlation_data: None,
        user_properties: user_properties.collect(),
        subscription_identifiers: Vec::new(),
        content_type: None,
    });
    encode_mqttbytes(&mut group, &packet, mqttbytes::v5::Publish::write, &expected);
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
