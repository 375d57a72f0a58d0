//! MQTT packets: typed by hand, told from octets, and sent through the filter.

use std::io;
use std::num::NonZeroU16;

use bridge::metrics::Registry;
use clap::Args;
use codec_mqtt::{
    ConnAck, Connect, ConnectCode, ConnectReturnCode, Decoded, Disconnect, MAX_PACKET_SIZE, Packet,
    Properties, Property, Publish, QoS, ReasonCode, Subscribe, Subscription, Subscriptions,
    TopicFilters, Unsubscribe, Version, Will, decode, decode_connect, frame,
};
use filter_mqtt::Filter;
use filter_mqtt::config::Mode;

use super::capture::Talk;
use super::drive::{Answer, Drive};
use super::{Common, hex, show};
use crate::terminal::Io;

/// An MQTT packet
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    beyond-http explain mqtt connect --client-id dev1 --username u --password p\n  \
    beyond-http explain mqtt publish telemetry/room1/temp --qos 1 --payload 21.5 --config envoy.yaml --status 403\n  \
    beyond-http explain mqtt subscribe 'alerts/#' 'news/+' --v3\n  \
    beyond-http explain mqtt --hex '30 06 00 01 74 00 32 31'\n  \
    beyond-http explain mqtt --pcap session.pcap --port 1883")]
pub(crate) struct MqttArgs {
    /// connect, publish TOPIC, subscribe FILTER…, unsubscribe FILTER… or disconnect
    #[arg(value_name = "PACKET", conflicts_with_all = ["hex", "pcap"])]
    words: Vec<String>,
    /// Quality of service: 0, 1 or 2
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Set the RETAIN flag
    #[arg(long)]
    retain: bool,
    /// Content of the message
    #[arg(long, default_value = "")]
    payload: String,
    /// A user property of the packet (5.0), as NAME=VALUE; may be repeated
    #[arg(long = "user-property", value_name = "NAME=VALUE")]
    user_properties: Vec<String>,
    /// Client identifier of the CONNECT
    #[arg(long, default_value = "client-1")]
    client_id: String,
    /// User name of the CONNECT
    #[arg(long)]
    username: Option<String>,
    /// Password of the CONNECT
    #[arg(long)]
    password: Option<String>,
    /// Topic of a will message in the CONNECT
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// Content of the will message
    #[arg(long, default_value = "", value_name = "PAYLOAD")]
    will_payload: String,
    /// MQTT 3.1.1 instead of 5.0
    #[arg(long)]
    v3: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

impl MqttArgs {
    const fn version(&self) -> Version {
        if self.v3 { Version::V311 } else { Version::V5 }
    }

    fn connect(&self) -> Result<Vec<u8>, String> {
        let will = self.will_topic.as_ref().map(|topic| Will {
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            payload: self.will_payload.as_bytes(),
            properties: Properties::EMPTY,
        });
        let connect = Connect {
            version: self.version(),
            clean_start: true,
            keep_alive: 60,
            client_id: &self.client_id,
            username: self.username.as_deref(),
            password: self.password.as_deref().map(str::as_bytes),
            will,
            properties: Properties::EMPTY,
        };
        octets(&Packet::Connect(connect), self.version())
    }

    /// What the words say.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub(crate) fn typed(&self) -> Result<Vec<u8>, String> {
        let version = self.version();
        let properties: Vec<Property<'_>> = self
            .user_properties
            .iter()
            .map(|property| {
                let (name, value) =
                    property.split_once('=').ok_or("--user-property needs NAME=VALUE")?;
                Ok(Property::UserProperty(name, value))
            })
            .collect::<Result<_, &str>>()?;
        let properties = Properties::from(&*properties);
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let qos = QoS::from_u8(self.qos).unwrap_or(QoS::AtMostOnce);
        let packet = match *words {
            ["connect"] => return self.connect(),
            ["publish", topic] => Packet::Publish(Publish {
                dup: false,
                qos,
                retain: self.retain,
                topic,
                packet_id: (self.qos > 0).then_some(NonZeroU16::MIN),
                properties,
                payload: self.payload.as_bytes(),
            }),
            ["subscribe", _, ..] => {
                let filters: Vec<_> =
                    words.iter().skip(1).map(|filter| Subscription::new(filter, qos)).collect();
                let subscriptions = Subscriptions::from(&*filters);
                let packet = Packet::Subscribe(Subscribe {
                    packet_id: NonZeroU16::MIN,
                    properties,
                    subscriptions,
                });
                return octets(&packet, version);
            }
            ["unsubscribe", _, ..] => {
                let filters = words.get(1..).unwrap_or_default();
                let filters = TopicFilters::from(filters);
                let packet = Packet::Unsubscribe(Unsubscribe {
                    packet_id: NonZeroU16::MIN,
                    properties,
                    filters,
                });
                return octets(&packet, version);
            }
            ["disconnect"] => Packet::Disconnect(Disconnect {
                reason_code: ReasonCode::NORMAL_DISCONNECTION,
                properties,
            }),
            _ => {
                return Err("wants connect, publish TOPIC, subscribe FILTER…, unsubscribe FILTER… or disconnect; or \
                            --hex or --pcap"
                    .to_owned());
            }
        };
        octets(&packet, version)
    }
}

fn octets(packet: &Packet<'_>, version: Version) -> Result<Vec<u8>, String> {
    let mut octets = vec![0; packet.encoded_len(version).map_err(|error| error.to_string())?];
    packet.encode(version, &mut octets).map_err(|error| error.to_string())?;
    Ok(octets)
}

/// Sends what a client sends through the filter.
pub(crate) fn explain(
    args: &MqttArgs,
    json: &[u8],
    talk: &Talk,
    io: &mut Io<'_>,
) -> io::Result<()> {
    let filter = match Filter::new(json, &Registry::default()) {
        Ok(filter) => filter,
        // They were reported before.
        Err(_) => return Ok(()),
    };
    if filter.mode() == Mode::Observe {
        return writeln!(
            io.out,
            "mode: observe changes no octet and makes no request: Envoy's tcp_proxy sees the connection only"
        );
    }
    let mut packets = split(&talk.pieces.concat());
    let first = packets.first().map(Vec::as_slice).unwrap_or_default();
    let version = match decode_connect(first) {
        Ok(Decoded::Complete { packet, .. }) => packet.version,
        _ => args.version(),
    };
    let is_made_up = first.first() != Some(&CONNECT);
    if is_made_up {
        match args.connect() {
            Ok(connect) => packets.insert(0, connect),
            Err(error) => return io.complain(&error),
        }
        writeln!(io.out, "(in a session of the client {:?}, which was accepted)", args.client_id)?;
    }
    let drive = Drive::new(filter.limits(), args.common.client(talk), |link| filter.carry(link));
    let mut session = Session { drive, version, stream: None, answer: args.common.answer() };
    let count = packets.len();
    for (index, packet) in packets.iter().enumerate() {
        let is_setup = index == 0 && count > 1;
        let is_quiet = index == 0 && is_made_up;
        if !is_quiet {
            show::message(io, "the client sends", &describe(packet, version), packet)?;
        }
        session.drive.send(packet);
        session.answers(is_setup, is_quiet, io)?;
        session.results(is_quiet, io)?;
        if session.drive.is_closed() {
            writeln!(io.out, "the connection is closed")?;
            break;
        }
    }
    Ok(())
}

const CONNECT: u8 = 0x10;

struct Session<P> {
    drive: Drive<P>,
    version: Version,
    /// The session's own stream, once it is accepted.
    stream: Option<usize>,
    answer: Answer,
}

impl<P: bridge::Protocol> Session<P> {
    /// Shows what Envoy is asked, and answers.
    fn answers(&mut self, is_setup: bool, is_quiet: bool, io: &mut Io<'_>) -> io::Result<()> {
        while let Some(index) = self.drive.exchanges.iter().position(|exchange| !exchange.answered)
        {
            let Some(exchange) = self.drive.exchanges.get_mut(index) else { return Ok(()) };
            let is_session = exchange.is_flow();
            exchange.shown = exchange.content.len();
            if !is_quiet {
                show::request(io, exchange)?;
                if is_session {
                    writeln!(
                        io.out,
                        "    content: the session's octets, {} so far",
                        exchange.content.len()
                    )?;
                } else {
                    show::content(io, &exchange.content)?;
                }
            }
            let answer = if is_setup { Answer::ok() } else { self.answer.clone() };
            let is_accepted = is_session && (200..300).contains(&answer.status);
            if !is_quiet {
                show::answer(io, &answer)?;
            }
            if is_accepted {
                self.drive.answer(index, &Answer { body: Vec::new(), ..answer }, true);
                self.stream = Some(index);
                if !is_quiet {
                    writeln!(
                        io.out,
                        "the broker gets the session, and says: CONNACK (made up here)"
                    )?;
                }
                let connack = connack(self.version).unwrap_or_default();
                self.drive.content(index, &connack);
            } else {
                self.drive.answer(index, &answer, false);
            }
        }
        Ok(())
    }

    /// Shows what the broker and the client get.
    fn results(&mut self, is_quiet: bool, io: &mut Io<'_>) -> io::Result<()> {
        let exchange = self.stream.and_then(|index| self.drive.exchanges.get_mut(index));
        let to_broker = exchange.map(|exchange| {
            let new = exchange.content.get(exchange.shown..).unwrap_or_default().to_vec();
            exchange.shown = exchange.content.len();
            new
        });
        let to_client = self.drive.take_got();
        if is_quiet {
            return Ok(());
        }
        for packet in split(&to_broker.unwrap_or_default()) {
            show::message(io, "the broker gets", &describe(&packet, self.version), &packet)?;
        }
        for packet in split(&to_client) {
            show::message(io, "the client gets", &describe(&packet, self.version), &packet)?;
        }
        Ok(())
    }
}

fn connack(version: Version) -> Result<Vec<u8>, String> {
    let code = match version {
        Version::V5 => ConnectCode::V5(ReasonCode::SUCCESS),
        Version::V311 => ConnectCode::V311(ConnectReturnCode::ACCEPTED),
    };
    octets(
        &Packet::ConnAck(ConnAck { session_present: false, code, properties: Properties::EMPTY }),
        version,
    )
}

/// The packets of a stream; what is none, or not complete, is the last one.
fn split(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let len = match frame(rest, MAX_PACKET_SIZE) {
            Ok(Decoded::Complete { packet, .. }) => packet.len().min(rest.len()),
            _ => rest.len(),
        };
        let (packet, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        packets.push(packet.to_vec());
        rest = after;
    }
    packets
}

/// A packet in words.
fn describe(octets: &[u8], version: Version) -> String {
    let packet = match octets.first() {
        Some(&CONNECT) => decode_connect(octets).map(|connect| connect.map(Packet::Connect)),
        _ => decode(octets, version),
    };
    match packet {
        Ok(Decoded::Complete { packet, .. }) => line(&packet),
        Ok(Decoded::Incomplete { needed }) => {
            format!("the beginning of a packet of at least {needed} octets")
        }
        Err(error) => format!("no MQTT: {error}"),
    }
}

fn line(packet: &Packet<'_>) -> String {
    let ack = |name: &str, id: NonZeroU16, code: ReasonCode, properties: Properties<'_>| {
        format!(
            "{name} of packet {id}, 0x{:02x} {}{}",
            code.0,
            words(code.label()),
            more(properties)
        )
    };
    match packet {
        Packet::Connect(p) => {
            let username =
                p.username.map(|name| format!(", user name {name:?}")).unwrap_or_default();
            let will = p
                .will
                .as_ref()
                .map(|will| format!(", will to {:?}", will.topic))
                .unwrap_or_default();
            format!(
                "CONNECT {} of {:?}{username}{will}{}",
                p.version,
                p.client_id,
                more(p.properties)
            )
        }
        Packet::ConnAck(p) => {
            format!(
                "CONNACK 0x{:02x} {}{}",
                p.code.as_u8(),
                words(p.code.label()),
                more(p.properties)
            )
        }
        Packet::Publish(p) => {
            let id = p.packet_id.map(|id| format!(", packet {id}")).unwrap_or_default();
            let flags = format!(
                "{}{}",
                if p.retain { ", RETAIN" } else { "" },
                if p.dup { ", DUP" } else { "" }
            );
            let text = hex::readable(p.payload).map(|text| format!(": {text}")).unwrap_or_default();
            let size = show::count(p.payload.len());
            format!(
                "PUBLISH to {:?}, QoS {}{id}{flags}{}, {size}{text}",
                p.topic,
                p.qos as u8,
                more(p.properties)
            )
        }
        Packet::PubAck(p) => ack("PUBACK", p.packet_id, p.reason_code, p.properties),
        Packet::PubRec(p) => ack("PUBREC", p.packet_id, p.reason_code, p.properties),
        Packet::PubRel(p) => ack("PUBREL", p.packet_id, p.reason_code, p.properties),
        Packet::PubComp(p) => ack("PUBCOMP", p.packet_id, p.reason_code, p.properties),
        Packet::Subscribe(p) => {
            let filters =
                p.subscriptions.iter().map(|s| format!(" {:?} at QoS {}", s.filter, s.qos as u8));
            format!(
                "SUBSCRIBE, packet {}, to{}",
                p.packet_id,
                filters.collect::<Vec<_>>().join(",")
            )
        }
        Packet::SubAck(p) => {
            let codes = p
                .reason_codes
                .iter()
                .map(|code| format!(" 0x{:02x} {}", code.0, words(code.label())));
            format!(
                "SUBACK of packet {},{}{}",
                p.packet_id,
                codes.collect::<Vec<_>>().join(","),
                more(p.properties)
            )
        }
        Packet::Unsubscribe(p) => {
            let filters = p.filters.iter().map(|filter| format!(" {filter:?}"));
            format!(
                "UNSUBSCRIBE, packet {}, from{}",
                p.packet_id,
                filters.collect::<Vec<_>>().join(",")
            )
        }
        Packet::UnsubAck(p) => format!("UNSUBACK of packet {}", p.packet_id),
        Packet::PingReq(_) => "PINGREQ".to_owned(),
        Packet::PingResp(_) => "PINGRESP".to_owned(),
        Packet::Disconnect(p) => {
            format!(
                "DISCONNECT 0x{:02x} {}{}",
                p.reason_code.0,
                p.reason_code.label(),
                more(p.properties)
            )
        }
        Packet::Auth(p) => {
            format!("AUTH 0x{:02x} {}", p.reason_code.0, words(p.reason_code.label()))
        }
    }
}

/// A label for metrics, to read.
fn words(label: &str) -> String {
    label.replace('_', " ")
}

fn more(properties: Properties<'_>) -> String {
    properties.iter().map(|property| format!(", {property:?}")).collect()
}
