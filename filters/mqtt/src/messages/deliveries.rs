//! The broker's packets that do not simply pass.

use std::num::{NonZeroU16, NonZeroU32};

use bridge::{Bytes, OpenError};
use codec_mqtt::{
    ConnAck, Decoded, Frame, Packet, PacketType, Properties, Property, PropertyId, PubAck, PubComp,
    PubRec, PublishHeader, QoS, ReasonCode, SubAck, Version, decode, decode_publish_header,
};

use super::{Cx, Delivery, Messages, UNAVAILABLE, about, encoded_header, first_match, make_key};
use crate::check::Check;
use crate::message::Verdict;
use crate::packets::{Fault, encoded};
use crate::prefix::with_response_topic;
use crate::rules::{Carry, PacketKind};
use crate::subscribe;
use crate::to_client::Need;

impl Messages {
    /// What is to be seen of a packet of the broker's.
    pub(crate) fn need(&self, frame: &Frame) -> Need {
        let looked_at = match frame.packet_type {
            PacketType::PUBLISH => {
                return if self.looks_at_deliveries() { Need::PublishHeader } else { Need::Header };
            }
            PacketType::CONNACK | PacketType::DISCONNECT => true,
            PacketType::SUBACK => !self.subacks.is_empty(),
            PacketType::PUBREL => !self.undelivered.is_empty(),
            PacketType::PUBACK | PacketType::PUBREC | PacketType::PUBCOMP => {
                self.in_flight_most.is_some()
            }
            _ => false,
        };
        if looked_at { Need::Whole } else { Need::Header }
    }

    /// Whether the broker's packets wait for a verdict.
    pub(crate) fn holds_deliveries(&self) -> bool {
        self.delivery.as_ref().is_some_and(|delivery| delivery.verdict().is_none())
    }

    /// The octets to send in place of the broker's packet; none if the client gets nothing of it.
    pub(crate) fn handle_packet(
        &mut self,
        cx: &mut Cx<'_>,
        frame: Frame,
        octets: Bytes,
    ) -> Result<Option<Bytes>, Fault> {
        let version = cx.version();
        if frame.packet_type == PacketType::PUBLISH {
            return self.handle_delivery(cx, frame, octets);
        }
        let Decoded::Complete { packet, .. } = decode(&octets, version)? else {
            return Ok(Some(octets));
        };
        match packet {
            Packet::ConnAck(connack) if connack.code.is_accepted() => {
                self.ready = true;
                Ok(self.connack(cx, &connack).or(Some(octets)))
            }
            Packet::SubAck(suback) => Ok(match self.subacks.remove(&suback.packet_id) {
                Some(codes) => suback_in_full(cx, &codes, suback),
                None => Some(octets),
            }),
            Packet::PubAck(PubAck { packet_id, .. })
            | Packet::PubComp(PubComp { packet_id, .. }) => {
                self.in_flight.remove(&packet_id);
                Ok(Some(octets))
            }
            Packet::PubRec(pubrec) => {
                if pubrec.reason_code.is_error() {
                    self.in_flight.remove(&pubrec.packet_id);
                }
                Ok(Some(octets))
            }
            Packet::PubRel(pubrel) if self.undelivered.remove(&pubrel.packet_id) => {
                self.tell_broker(cx, &Packet::PubComp(PubComp::new(pubrel.packet_id)))?;
                Ok(None)
            }
            _ => Ok(Some(octets)),
        }
    }

    /// CONNACK with the limits that hold here, if they are not the broker's.
    fn connack(&mut self, cx: &Cx<'_>, connack: &ConnAck<'_>) -> Option<Bytes> {
        let (settings, version) = (cx.settings, cx.version());
        let properties = connack.properties;
        if let Some(size) = properties.maximum_packet_size() {
            self.broker_max_packet_size = size.get() as usize;
        }
        if version == Version::V311 {
            return None;
        }
        const OURS: [PropertyId; 3] = [
            PropertyId::TOPIC_ALIAS_MAXIMUM,
            PropertyId::RECEIVE_MAXIMUM,
            PropertyId::MAXIMUM_PACKET_SIZE,
        ];
        let mut list: Vec<_> =
            properties.iter().filter(|property| !OURS.contains(&property.id())).collect();
        if settings.max_topic_aliases > 0 {
            list.push(Property::TopicAliasMaximum(settings.max_topic_aliases));
        }
        let receive_maximum = properties.receive_maximum().map_or(u16::MAX, NonZeroU16::get);
        let receive_maximum = receive_maximum.min(settings.max_in_flight.unwrap_or(u16::MAX));
        if let Some(ours) = &mut self.in_flight_most {
            *ours = receive_maximum;
        }
        if let Some(maximum) = NonZeroU16::new(receive_maximum)
            && receive_maximum < u16::MAX
        {
            list.push(Property::ReceiveMaximum(maximum));
        }
        // Smaller by what the filter may add to a packet.
        let added = u32::try_from(self.prefix.len()).unwrap_or(u32::MAX).saturating_mul(2);
        let broker = properties.maximum_packet_size().map(|size| size.get().saturating_sub(added));
        let most = broker.unwrap_or(u32::MAX).min(settings.max_packet_size);
        if let Some(most) = NonZeroU32::new(most)
            && most.get() < codec_mqtt::MAX_PACKET_SIZE
        {
            list.push(Property::MaximumPacketSize(most));
        }
        let properties = Properties::from(&*list);
        let octets = encoded(&Packet::ConnAck(ConnAck { properties, ..*connack }), version)?;
        if octets.len() <= cx.client.max_packet_size as usize {
            return Some(octets.into());
        }
        // What is for a human makes room (MQTT 5.0 §3.2.2.3.9).
        list.retain(|property| !FOR_HUMANS.contains(&property.id()));
        let properties = Properties::from(&*list);
        encoded(&Packet::ConnAck(ConnAck { properties, ..*connack }), version).map(Bytes::from)
    }

    /// Sends a packet of the filter's to the broker, at once or after the client's packet that is
    /// under way.
    fn tell_broker(&mut self, cx: &mut Cx<'_>, packet: &Packet<'_>) -> Result<(), Fault> {
        // A broker that keeps to Receive Maximum cannot make it so many.
        if self.own.len() > MAX_OWN {
            return Err(UNAVAILABLE);
        }
        self.own.extend(encoded(packet, cx.version()).unwrap_or_default());
        self.pump(cx)
    }

    fn handle_delivery(
        &mut self,
        cx: &mut Cx<'_>,
        frame: Frame,
        octets: Bytes,
    ) -> Result<Option<Bytes>, Fault> {
        let Decoded::Complete { packet: header, .. } =
            decode_publish_header(&octets, cx.version())?
        else {
            return Ok(Some(octets));
        };
        // A topic that is not the client's is not delivered.
        let Some(topic) = self.prefix.strip(header.topic) else {
            return self.undeliver(cx, &octets);
        };
        let rule = first_match(cx.settings, &self.delivery_rules, |rule| {
            rule.matches(topic, header.qos, header.retain)
        });
        let Some((index, rule)) = rule.filter(|(_, rule)| rule.carry != Carry::Flow) else {
            return self.deliver(cx, octets);
        };
        let about = about(topic, &header);
        self.key.clear();
        if !rule.verdict_cache.is_zero() {
            make_key(&mut self.key, PacketKind::Delivery, index, about, rule);
            if let Some(verdict) = self.verdicts.get(&self.key, cx.link.now()) {
                cx.stats.verdict(PacketKind::Delivery, verdict, true);
                return match verdict {
                    Verdict::Allowed => self.deliver(cx, octets),
                    _ => self.undeliver(cx, &octets),
                };
            }
        }
        let Ok(request) = self.identity.delivery(about, rule) else {
            return self.undeliver(cx, &octets);
        };
        let (kind, key) = (PacketKind::Delivery, self.key.clone());
        let check = match Check::ask(cx.link, request, kind, key, rule.verdict_cache) {
            Ok(check) => Some(check),
            Err(OpenError::TooManyStreams) => None,
            // Not asking would let it through; not delivering it would lose it.
            Err(_) => return Err(UNAVAILABLE),
        };
        cx.link.hold(cx.stream, true);
        self.delivery = Some(Delivery { frame, header: octets, check });
        Ok(None)
    }

    /// The broker's PUBLISH whose verdict has arrived, if there is one: what the client gets of it,
    /// and its frame.
    pub(crate) fn take_delivery(
        &mut self,
        cx: &mut Cx<'_>,
    ) -> Result<Option<(Frame, Option<Bytes>)>, Fault> {
        if self.delivery.as_ref().is_some_and(Delivery::is_asked) {
            return Ok(None);
        }
        let Some(delivery) = self.delivery.take() else { return Ok(None) };
        let verdict = delivery.verdict();
        let Delivery { frame, header, .. } = delivery;
        let octets = match verdict {
            Some(Verdict::Allowed) => self.deliver(cx, header)?,
            Some(_) => self.undeliver(cx, &header)?,
            None => {
                let octets = self.handle_delivery(cx, frame, header)?;
                if self.delivery.is_some() {
                    return Ok(None);
                }
                octets
            }
        };
        cx.link.hold(cx.stream, false);
        Ok(Some((frame, octets)))
    }

    /// The client's view of a PUBLISH of the broker's.
    fn deliver(&self, cx: &Cx<'_>, octets: Bytes) -> Result<Option<Bytes>, Fault> {
        if self.prefix.is_empty() {
            return Ok(Some(octets));
        }
        let Decoded::Complete { packet: header, .. } =
            decode_publish_header(&octets, cx.version())?
        else {
            return Ok(Some(octets));
        };
        let topic = self.prefix.strip(header.topic).unwrap_or(header.topic);
        let response_topic = header.properties.response_topic();
        let response_topic = response_topic.and_then(|topic| self.prefix.strip(topic));
        let properties: Vec<_> = with_response_topic(header.properties, response_topic).collect();
        let properties = Properties::from(&*properties);
        let header = PublishHeader { topic, properties, ..header };
        Ok(encoded_header(&header, cx.version()).map(Bytes::from))
    }

    /// Answers a PUBLISH of the broker's that the client does not get in the client's place.
    fn undeliver(&mut self, cx: &mut Cx<'_>, octets: &[u8]) -> Result<Option<Bytes>, Fault> {
        let version = cx.version();
        let Decoded::Complete { packet: header, .. } = decode_publish_header(octets, version)?
        else {
            return Ok(None);
        };
        if let Some(id) = header.packet_id {
            if header.qos == QoS::ExactlyOnce {
                self.undelivered.insert(id);
                self.tell_broker(cx, &Packet::PubRec(PubRec::new(id)))?;
            } else {
                self.tell_broker(cx, &Packet::PubAck(PubAck::new(id)))?;
            }
        }
        Ok(None)
    }
}

/// How many octets of the filter's own packets may wait.
const MAX_OWN: usize = 1 << 20;

/// What a server leaves out where the packet would be larger than its client accepts.
const FOR_HUMANS: [PropertyId; 2] = [PropertyId::REASON_STRING, PropertyId::USER_PROPERTY];

/// The client's SUBACK, with the broker's codes in the gaps.
fn suback_in_full(cx: &Cx<'_>, codes: &[Option<ReasonCode>], suback: SubAck<'_>) -> Option<Bytes> {
    let merge = |suback: &SubAck<'_>| subscribe::merge(codes, suback, cx.version());
    let octets = merge(&suback)?;
    let fits = octets.len() <= cx.client.max_packet_size as usize;
    let octets =
        if fits { octets } else { merge(&SubAck { properties: Properties::EMPTY, ..suback })? };
    Some(octets.into())
}

impl Delivery {
    fn verdict(&self) -> Option<Verdict> {
        self.check.as_ref().and_then(|check| check.verdict)
    }

    /// Whether an answer is to come.
    fn is_asked(&self) -> bool {
        self.check.as_ref().is_some_and(|check| check.verdict.is_none())
    }
}
