//! MQTT packets as octets, and octets as text to compare with.

use std::num::{NonZeroU16, NonZeroU32};

use codec_mqtt::{
    ConnAck, Connect, ConnectCode, ConnectReturnCode, Decoded, Disconnect, Packet, PingReq,
    Properties, Property, PubAck, PubComp, PubRec, PubRel, Publish, QoS, ReasonCode, ReasonCodes,
    SubAck, Subscribe, Subscription, Subscriptions, TopicFilters, Unsubscribe, Version, Will,
    decode, decode_connect,
};

pub const BOTH: [Version; 2] = [Version::V311, Version::V5];

pub fn id(id: u16) -> NonZeroU16 {
    NonZeroU16::new(id).expect("not 0")
}

pub fn size(size: u32) -> NonZeroU32 {
    NonZeroU32::new(size).expect("not 0")
}

pub fn octets(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut octets = vec![0; packet.encoded_len(version).expect("a valid packet")];
    packet.encode(version, &mut octets).expect("a valid packet");
    octets
}

pub fn qos(qos: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)]
}

pub fn connect(version: Version, client_id: &str) -> Vec<u8> {
    connect_with(version, client_id, true, 60, None, &[])
}

pub fn connect_with(
    version: Version,
    client_id: &str,
    clean_start: bool,
    keep_alive: u16,
    will: Option<Will<'_>>,
    properties: &[Property<'_>],
) -> Vec<u8> {
    let connect = Connect {
        version,
        clean_start,
        keep_alive,
        client_id,
        username: Some("u1"),
        password: Some(b"secret"),
        will,
        properties: Properties::from(properties),
    };
    octets(&Packet::Connect(connect), version)
}

/// Goes on with a session.
pub fn reconnect(version: Version, client_id: &str) -> Vec<u8> {
    let expiry = [Property::SessionExpiryInterval(1000)];
    let properties = if version == Version::V5 { &expiry[..] } else { &[] };
    connect_with(version, client_id, false, 60, None, properties)
}

pub fn connack(version: Version, session_present: bool) -> Vec<u8> {
    connack_with(version, session_present, &[])
}

pub fn connack_with(
    version: Version,
    session_present: bool,
    properties: &[Property<'_>],
) -> Vec<u8> {
    let code = match version {
        Version::V5 => ConnectCode::V5(ReasonCode::SUCCESS),
        Version::V311 => ConnectCode::V311(ConnectReturnCode::ACCEPTED),
    };
    let properties = Properties::from(properties);
    octets(&Packet::ConnAck(ConnAck { session_present, code, properties }), version)
}

/// A message of the client's or the broker's.
#[derive(Clone, Copy)]
pub struct Msg<'a> {
    pub qos: u8,
    pub id: u16,
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub dup: bool,
    pub retain: bool,
    pub properties: &'a [Property<'a>],
}

/// QoS 0 has identifier 0.
pub fn msg<'a>(qos: u8, id: u16, topic: &'a str, payload: &'a str) -> Msg<'a> {
    let payload = payload.as_bytes();
    Msg { qos, id, topic, payload, dup: false, retain: false, properties: &[] }
}

impl<'a> Msg<'a> {
    pub fn dup(self) -> Self {
        Self { dup: true, ..self }
    }

    pub fn with(self, properties: &'a [Property<'a>]) -> Self {
        Self { properties, ..self }
    }

    pub fn octets(self, version: Version) -> Vec<u8> {
        let publish = Publish {
            dup: self.dup,
            qos: qos(self.qos),
            retain: self.retain,
            topic: self.topic,
            packet_id: NonZeroU16::new(self.id),
            properties: Properties::from(self.properties),
            payload: self.payload,
        };
        octets(&Packet::Publish(publish), version)
    }
}

pub fn publish(version: Version, qos: u8, id: u16, topic: &str, payload: &str) -> Vec<u8> {
    msg(qos, id, topic, payload).octets(version)
}

pub fn puback(version: Version, n: u16) -> Vec<u8> {
    octets(&Packet::PubAck(PubAck::new(id(n))), version)
}

pub fn pubrec(version: Version, n: u16) -> Vec<u8> {
    octets(&Packet::PubRec(PubRec::new(id(n))), version)
}

pub fn pubrel(version: Version, n: u16) -> Vec<u8> {
    octets(&Packet::PubRel(PubRel::new(id(n))), version)
}

pub fn pubcomp(version: Version, n: u16) -> Vec<u8> {
    octets(&Packet::PubComp(PubComp::new(id(n))), version)
}

pub fn subscribe(version: Version, n: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let list: Vec<_> =
        filters.iter().map(|(filter, level)| Subscription::new(filter, qos(*level))).collect();
    let subscriptions = Subscriptions::from(&*list);
    let packet = Subscribe { packet_id: id(n), properties: Properties::EMPTY, subscriptions };
    octets(&Packet::Subscribe(packet), version)
}

pub fn unsubscribe(version: Version, n: u16, filters: &[&str]) -> Vec<u8> {
    let filters = TopicFilters::from(filters);
    let packet = Unsubscribe { packet_id: id(n), properties: Properties::EMPTY, filters };
    octets(&Packet::Unsubscribe(packet), version)
}

pub fn suback(version: Version, n: u16, codes: &[u8]) -> Vec<u8> {
    let reason_codes = ReasonCodes::new(codes);
    let packet = SubAck { packet_id: id(n), properties: Properties::EMPTY, reason_codes };
    octets(&Packet::SubAck(packet), version)
}

pub fn pingreq() -> Vec<u8> {
    octets(&Packet::PingReq(PingReq), Version::V5)
}

pub fn disconnect(version: Version) -> Vec<u8> {
    let reason_code = ReasonCode::NORMAL_DISCONNECTION;
    octets(&Packet::Disconnect(Disconnect { reason_code, properties: Properties::EMPTY }), version)
}

/// The packets in these octets, one line each; a rest that is no whole packet is a line `…`.
pub fn show(mut octets: &[u8], version: Version) -> Vec<String> {
    let mut lines = Vec::new();
    while !octets.is_empty() {
        if octets[0] == 0x10 {
            match decode_connect(octets).expect("a valid CONNECT") {
                Decoded::Complete { packet, consumed } => {
                    lines.push(line(&Packet::Connect(packet)));
                    octets = &octets[consumed..];
                }
                Decoded::Incomplete { .. } => break,
            }
            continue;
        }
        match decode(octets, version).expect("valid packets") {
            Decoded::Complete { packet, consumed } => {
                lines.push(line(&packet));
                octets = &octets[consumed..];
            }
            Decoded::Incomplete { .. } => {
                lines.push("…".to_owned());
                break;
            }
        }
    }
    lines
}

fn properties(properties: Properties<'_>) -> String {
    properties.iter().map(|property| format!(" {property:?}")).collect()
}

pub fn line(packet: &Packet<'_>) -> String {
    let ack = |name: &str, id: NonZeroU16, code: ReasonCode, more: Properties<'_>| {
        let code = if code.0 == 0 { String::new() } else { format!(" {:02x}", code.0) };
        format!("{name} {id}{code}{}", properties(more))
    };
    match packet {
        Packet::Connect(p) => {
            let will = p.will.as_ref().map(|w| format!(" will {}", w.topic)).unwrap_or_default();
            format!("CONNECT {}{will}{}", p.client_id, properties(p.properties))
        }
        Packet::ConnAck(p) => {
            let present = if p.session_present { " present" } else { "" };
            format!("CONNACK {:02x}{present}{}", p.code.as_u8(), properties(p.properties))
        }
        Packet::Publish(p) => {
            let id = p.packet_id.map(|id| format!(" {id}")).unwrap_or_default();
            let dup = if p.dup { " dup" } else { "" };
            let retain = if p.retain { " retain" } else { "" };
            let payload = String::from_utf8_lossy(p.payload);
            let more = properties(p.properties);
            format!("PUBLISH{id} q{}{dup}{retain} {} {payload}{more}", p.qos as u8, p.topic)
        }
        Packet::PubAck(p) => ack("PUBACK", p.packet_id, p.reason_code, p.properties),
        Packet::PubRec(p) => ack("PUBREC", p.packet_id, p.reason_code, p.properties),
        Packet::PubRel(p) => ack("PUBREL", p.packet_id, p.reason_code, p.properties),
        Packet::PubComp(p) => ack("PUBCOMP", p.packet_id, p.reason_code, p.properties),
        Packet::Subscribe(p) => {
            let filters: String =
                p.subscriptions.iter().map(|s| format!(" {}:{}", s.filter, s.qos as u8)).collect();
            format!("SUBSCRIBE {}{filters}", p.packet_id)
        }
        Packet::SubAck(p) => {
            let codes: String = p.reason_codes.iter().map(|c| format!(" {:02x}", c.0)).collect();
            format!("SUBACK {}{codes}{}", p.packet_id, properties(p.properties))
        }
        Packet::Unsubscribe(p) => {
            let filters: String = p.filters.iter().map(|filter| format!(" {filter}")).collect();
            format!("UNSUBSCRIBE {}{filters}", p.packet_id)
        }
        Packet::UnsubAck(p) => format!("UNSUBACK {}", p.packet_id),
        Packet::PingReq(_) => "PINGREQ".to_owned(),
        Packet::PingResp(_) => "PINGRESP".to_owned(),
        Packet::Disconnect(p) => format!("DISCONNECT {:02x}", p.reason_code.0),
        Packet::Auth(p) => format!("AUTH {:02x}", p.reason_code.0),
    }
}
