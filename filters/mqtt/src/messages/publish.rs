//! The packets of the client that do not simply pass.

use std::borrow::Cow;
use std::num::NonZeroU16;

use bridge::{Direction, Input, OpenError, Want};
use codec_mqtt::{
    Decoded, Frame, Packet, PacketType, Properties, PropertyId, PubAck, PubComp, PubRec,
    PublishHeader, QoS, ReasonCode, TopicFilters, Unsubscribe, Version, decode,
    decode_publish_header, frame,
};

use super::{
    Cx, Entry, Handled, Messages, Passing, Publication, TOO_LARGE, UNAVAILABLE, about, consume,
    encoded_header, is_topic_within, make_key,
};
use crate::check::Check;
use crate::cloudevents::Event;
use crate::config::{Failed, Refused, Settings};
use crate::exchange::{Exchange, Reply};
use crate::limits::{Charge, Exceeded};
use crate::message::{NoPath, Verdict};
use crate::packets::{Fault, Then, encoded};
use crate::prefix::with_response_topic;
use crate::qos2::Stage;
use crate::rules::{Carry, CloudEvents, PacketKind, Rule};
use crate::subscribe::Pending;

/// The PUBLISH at the front of the input.
struct Front<'a> {
    octets: &'a [u8],
    frame: Frame,
    header_len: usize,
    /// What the topic alias stands for, if there is one.
    topic: &'a str,
    header: PublishHeader<'a>,
}

impl Front<'_> {
    fn publication(&self) -> Publication {
        Publication { qos: self.header.qos, packet_id: self.header.packet_id }
    }
}

impl Messages {
    /// Deals with the packet at the front of the input, which does not simply pass. May be called
    /// again for the same packet until it is done.
    pub(super) fn handle(&mut self, cx: &mut Cx<'_>, input: &mut Input) -> Result<Handled, Fault> {
        let octets = input.share();
        let Decoded::Complete { packet: frame, .. } = frame(&octets, u32::MAX)? else {
            return Ok(Handled::Want(Want::More));
        };
        if frame.packet_type == PacketType::PUBLISH {
            return self.handle_publish(cx, input, &octets, frame);
        }
        let version = cx.version();
        let packet = match decode(&octets, version)? {
            Decoded::Complete { packet, .. } => packet,
            Decoded::Incomplete { .. } => return Ok(Handled::Want(Want::More)),
        };
        match packet {
            Packet::Subscribe(packet) => {
                if self.subacks.len() >= cx.settings.max_pending_messages {
                    return Ok(Handled::Want(Want::Room));
                }
                let subscriptions = packet.subscriptions.iter();
                let places = subscriptions.map(|s| self.place(cx.settings, s.filter, s.qos));
                let places = places.collect();
                consume(cx, frame);
                self.push(Entry::Subscribe(Pending::new(input.take(frame.len()), places)));
            }
            Packet::Unsubscribe(packet) => {
                let filters: Vec<Cow<'_, str>> =
                    packet.filters.iter().map(|filter| self.prefix.add_to_filter(filter)).collect();
                let filters: Vec<&str> = filters.iter().map(AsRef::as_ref).collect();
                for filter in &filters {
                    self.subscriptions.remove(*filter);
                }
                let packet = Packet::Unsubscribe(Unsubscribe {
                    filters: TopicFilters::from(&*filters),
                    ..packet
                });
                let octets = encoded(&packet, version).ok_or(TOO_LARGE)?;
                self.check_size(octets.len())?;
                consume(cx, frame);
                input.skip(frame.len());
                self.push(Entry::Ready(octets.into()));
            }
            Packet::PubRel(packet) => {
                let id = packet.packet_id;
                if self.qos2.stage(id) == Some(Stage::Underway) {
                    return Err(Fault::Broken(ReasonCode::PROTOCOL_ERROR, "pubrel_before_pubrec"));
                }
                self.qos2.remove(id);
                self.in_flight.remove(&id);
                consume(cx, frame);
                self.passing = Passing::Discard(frame.len() as u64);
                cx.reply(&Packet::PubComp(PubComp::new(id)));
            }
            Packet::Disconnect(packet) => {
                // What the client sent before it is dealt with first.
                if !self.outbox.is_empty() || !self.exchanges.is_empty() {
                    return Ok(Handled::Want(Want::Room));
                }
                consume(cx, frame);
                self.then = Then::Disconnect(packet.reason_code);
                self.passing = Passing::ToBroker(frame.len() as u64);
            }
            _ => self.passing = Passing::ToBroker(frame.len() as u64),
        }
        Ok(Handled::Done)
    }

    fn handle_publish(
        &mut self,
        cx: &mut Cx<'_>,
        input: &mut Input,
        octets: &[u8],
        frame: Frame,
    ) -> Result<Handled, Fault> {
        let Decoded::Complete { packet: header, consumed: header_len } =
            decode_publish_header(octets, cx.version())?
        else {
            return Ok(Handled::Want(Want::More));
        };
        let known: Box<str>;
        let topic = match header.properties.topic_alias() {
            None => header.topic,
            Some(alias) => {
                known = self.resolve(cx.settings, alias, header.topic)?;
                &*known
            }
        };
        let front = Front { octets, frame, header_len, topic, header };
        let publication = front.publication();
        if let Some(id) = header.packet_id {
            match (self.qos2.stage(id), header.qos) {
                (None, _) => {}
                // Sent again, and taken already.
                (Some(Stage::Received), QoS::ExactlyOnce) => {
                    cx.reply(&Packet::PubRec(PubRec::new(id)));
                    return Ok(self.discard(cx, frame));
                }
                (Some(Stage::Underway), QoS::ExactlyOnce) => return Ok(self.discard(cx, frame)),
                (Some(_), _) => {
                    let code = ReasonCode::PROTOCOL_ERROR;
                    return Err(Fault::Broken(code, "packet_identifier_in_use"));
                }
            }
            if self.is_one_too_many(id) {
                let code = ReasonCode::RECEIVE_MAXIMUM_EXCEEDED;
                return Err(Fault::Broken(code, "receive_maximum_exceeded"));
            }
        }
        if !is_topic_within(topic, cx.settings) {
            cx.stats.limit("topic", "reject");
            return self.refuse(cx, &front, Verdict::Refused(ReasonCode::TOPIC_NAME_INVALID));
        }
        if !self.charged && !self.buckets.is_empty() {
            match self.charge(cx, frame) {
                Charge::Paid => self.charged = true,
                Charge::Wait(time) => {
                    self.then = Then::Wait(cx.link.now() + time);
                    return Ok(Handled::Want(Want::Room));
                }
                Charge::Exceeded(exceeded, _) => {
                    self.exceed(cx, publication, exceeded)?;
                    return Ok(self.discard(cx, frame));
                }
            }
        }
        match self.rule_for(cx.settings, topic, &header) {
            Some((index, rule)) if rule.carry == Carry::Check => {
                self.check_publish(cx, input, &front, index, rule)
            }
            Some((_, rule)) if rule.carry == Carry::Request => {
                self.exchange(cx, input, &front, rule)
            }
            _ => self.forward(cx, input, &front),
        }
    }

    /// What a topic alias stands for (MQTT 5.0 §3.3.2.3.4).
    fn resolve(
        &mut self,
        settings: &Settings,
        alias: NonZeroU16,
        topic: &str,
    ) -> Result<Box<str>, Fault> {
        if alias.get() > settings.max_topic_aliases {
            return Err(Fault::Broken(ReasonCode::TOPIC_ALIAS_INVALID, "topic_alias_invalid"));
        }
        if topic.is_empty() {
            let known = self.aliases.get(&alias).cloned();
            return known.ok_or(Fault::Broken(ReasonCode::PROTOCOL_ERROR, "topic_alias_unknown"));
        }
        self.aliases.insert(alias, topic.into());
        Ok(topic.into())
    }

    /// Lets a message wait for its verdict: in the outbox, or, if it is too large for that, where it
    /// is.
    fn check_publish(
        &mut self,
        cx: &mut Cx<'_>,
        input: &mut Input,
        front: &Front<'_>,
        index: u16,
        rule: &Rule,
    ) -> Result<Handled, Fault> {
        if let Some(gate) = &self.gate {
            let Some(verdict) = gate.verdict else { return Ok(Handled::Want(Want::Room)) };
            self.gate = None;
            return self.act(cx, input, front, verdict);
        }
        let about = about(front.topic, &front.header);
        self.key.clear();
        if !rule.verdict_cache.is_zero() {
            make_key(&mut self.key, PacketKind::Publish, index, about, rule);
            if let Some(verdict) = self.verdicts.get(&self.key, cx.link.now()) {
                cx.stats.verdict(PacketKind::Publish, verdict, true);
                return self.act(cx, input, front, verdict);
            }
        }
        let len = front.frame.len();
        let fits = len <= cx.settings.max_buffered_size.min(cx.settings.max_pending_size);
        let payload = front.octets.get(front.header_len..len);
        if fits && payload.is_none() {
            return Ok(Handled::Want(Want::More));
        }
        let rewritten = self.rewritten(cx, front)?;
        let Ok(request) = self.identity.publish(about, rule, Carry::Check) else {
            return self.refuse(cx, front, NoPath.into());
        };
        let (kind, key) = (PacketKind::Publish, self.key.clone());
        let check = match Check::ask(cx.link, request, kind, key, rule.verdict_cache) {
            Ok(check) => check,
            Err(OpenError::TooManyStreams) => return Ok(Handled::Want(Want::Room)),
            Err(_) => return Err(UNAVAILABLE),
        };
        if !fits {
            self.gate = Some(check);
            return Ok(Handled::Want(Want::Room));
        }
        consume(cx, front.frame);
        let octets = input.take(len);
        let octets = match rewritten {
            None => octets,
            Some(mut header) => {
                header.extend_from_slice(payload.unwrap_or_default());
                header.into()
            }
        };
        let publication = front.publication();
        self.track(publication.packet_id);
        self.push(Entry::Publish { octets, publication, check });
        Ok(Handled::Done)
    }

    /// Takes a message as a request of its own.
    fn exchange(
        &mut self,
        cx: &mut Cx<'_>,
        input: &mut Input,
        front: &Front<'_>,
        rule: &Rule,
    ) -> Result<Handled, Fault> {
        let Front { octets, frame, header_len, topic, ref header } = *front;
        if header.dup
            && header.qos == QoS::ExactlyOnce
            && let Some(id) = header.packet_id
            && self.qos2.was_received_elsewhere(id)
        {
            cx.reply(&Packet::PubRec(PubRec::new(id)));
            return Ok(self.discard(cx, frame));
        }
        if self.is_full(cx) || self.exchanges.values().any(|other| &*other.topic == topic) {
            return Ok(Handled::Want(Want::Room));
        }
        let about = about(topic, header);
        let Ok(mut request) = self.identity.publish(about, rule, Carry::Request) else {
            return self.refuse(cx, front, NoPath.into());
        };
        let mut content = None;
        if let Some(format) = rule.cloudevents {
            let event = Event { id: cx.stats.unique_id(), source: self.identity.source(), about };
            if event.is_one_already() {
                event.pass_on(request.headers_mut());
            } else if format == CloudEvents::Binary {
                event.binary(request.headers_mut());
            } else {
                if frame.len() > cx.settings.max_buffered_size {
                    cx.stats.limit("event_size", "reject");
                    return self.refuse(cx, front, Verdict::Refused(ReasonCode::QUOTA_EXCEEDED));
                }
                let Some(payload) = octets.get(header_len..frame.len()) else {
                    return Ok(Handled::Want(Want::More));
                };
                content = Some(event.structured(format, payload, request.headers_mut()));
            }
        }
        let content_len = content.as_ref().map_or(header.payload_len, Vec::len);
        let is_empty = content_len == 0;
        request.headers_mut().insert("content-length", content_len.into());
        let stream = match cx.link.open(request, is_empty) {
            Ok(stream) => stream,
            Err(OpenError::TooManyStreams) => return Ok(Handled::Want(Want::Room)),
            Err(_) => return Err(UNAVAILABLE),
        };
        let publication = front.publication();
        let reply = if rule.publish_reply { Reply::to(header.properties) } else { None };
        let asked = cx.link.now();
        self.exchanges.insert(
            stream,
            Exchange { publication, topic: topic.into(), asked, status: None, reply },
        );
        self.track(publication.packet_id);
        if let (QoS::ExactlyOnce, Some(id)) = (publication.qos, publication.packet_id) {
            self.qos2.set(id, Stage::Underway);
        }
        consume(cx, frame);
        input.skip(header_len);
        cx.stats.octets(Direction::FromClient, header_len);
        if let Some(content) = content {
            input.skip(header.payload_len);
            cx.stats.octets(Direction::FromClient, header.payload_len);
            self.passing = Passing::Content(stream, content.into());
        } else if !is_empty {
            self.passing = Passing::ToExchange(stream, header.payload_len as u64);
        }
        Ok(Handled::Done)
    }

    /// Does with the message in front what was decided.
    fn act(
        &mut self,
        cx: &mut Cx<'_>,
        input: &mut Input,
        front: &Front<'_>,
        verdict: Verdict,
    ) -> Result<Handled, Fault> {
        match verdict {
            Verdict::Allowed => self.forward(cx, input, front),
            _ => self.refuse(cx, front, verdict),
        }
    }

    /// Keeps the message in front from the broker.
    fn refuse(
        &mut self,
        cx: &mut Cx<'_>,
        front: &Front<'_>,
        verdict: Verdict,
    ) -> Result<Handled, Fault> {
        self.answer(cx, front.publication(), verdict)?;
        Ok(self.discard(cx, front.frame))
    }

    /// Passes the message in front on to the broker.
    fn forward(
        &mut self,
        cx: &mut Cx<'_>,
        input: &mut Input,
        front: &Front<'_>,
    ) -> Result<Handled, Fault> {
        let rewritten = self.rewritten(cx, front)?;
        self.track(front.header.packet_id);
        consume(cx, front.frame);
        let len = match rewritten {
            None => front.frame.len(),
            Some(header) => {
                input.skip(front.header_len);
                self.push(Entry::Ready(header.into()));
                front.header.payload_len
            }
        };
        if len > 0 {
            self.passing = Passing::ToBroker(len as u64);
        }
        Ok(Handled::Done)
    }

    /// The header that the broker gets of a message, if not the client's own: with the prefix, and
    /// with the topic in place of an alias.
    fn rewritten(
        &self,
        cx: &Cx<'_>,
        Front { header, topic, .. }: &Front<'_>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let aliased = header.properties.contains(PropertyId::TOPIC_ALIAS);
        if !aliased && self.prefix.is_empty() {
            return Ok(None);
        }
        let topic = self.prefix.add(topic);
        let response_topic = header.properties.response_topic().map(|topic| self.prefix.add(topic));
        let properties: Vec<_> = with_response_topic(header.properties, response_topic.as_deref())
            .filter(|property| property.id() != PropertyId::TOPIC_ALIAS)
            .collect();
        let header =
            PublishHeader { topic: &topic, properties: Properties::from(&*properties), ..*header };
        let octets = encoded_header(&header, cx.version()).ok_or(TOO_LARGE)?;
        self.check_size(octets.len() + header.payload_len)?;
        Ok(Some(octets))
    }

    pub(super) fn check_size(&self, size: usize) -> Result<(), Fault> {
        if size > self.broker_max_packet_size { Err(TOO_LARGE) } else { Ok(()) }
    }

    /// Drops the message in front.
    fn discard(&mut self, cx: &Cx<'_>, frame: Frame) -> Handled {
        consume(cx, frame);
        self.passing = Passing::Discard(frame.len() as u64);
        Handled::Done
    }

    fn exceed(
        &mut self,
        cx: &mut Cx<'_>,
        publication: Publication,
        exceeded: Exceeded,
    ) -> Result<(), Fault> {
        cx.stats.limit("rate", exceeded.label());
        match exceeded {
            Exceeded::Reject => {
                self.answer(cx, publication, Verdict::Refused(ReasonCode::QUOTA_EXCEEDED))
            }
            Exceeded::Disconnect => {
                let code = ReasonCode::MESSAGE_RATE_TOO_HIGH;
                Err(Fault::Broken(code, "message_rate_too_high"))
            }
            Exceeded::Drop | Exceeded::Delay => Ok(()),
        }
    }

    /// Tells the client what became of a message that the broker does not get.
    pub(super) fn answer(
        &mut self,
        cx: &mut Cx<'_>,
        Publication { qos, packet_id }: Publication,
        verdict: Verdict,
    ) -> Result<(), Fault> {
        let Some(packet_id) = packet_id else { return Ok(()) };
        let version = cx.version();
        let reason_code = match (verdict, version) {
            (Verdict::Allowed, _) => Some(ReasonCode::SUCCESS),
            (Verdict::Refused(code), Version::V5) => Some(code),
            (Verdict::Refused(code), Version::V311) => match cx.settings.refused_in_3_1_1 {
                Refused::Acknowledge => Some(ReasonCode::SUCCESS),
                Refused::Disconnect => return Err(Fault::Broken(code, "message_refused")),
            },
            (Verdict::Failed, _) if cx.settings.failed == Failed::Disconnect => {
                let code = ReasonCode::SERVER_BUSY;
                return Err(Fault::Broken(code, "message_failed"));
            }
            (Verdict::Failed, Version::V5) => Some(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR),
            (Verdict::Failed, Version::V311) => None,
        };
        let success = reason_code == Some(ReasonCode::SUCCESS);
        if qos == QoS::ExactlyOnce {
            if success {
                self.qos2.set(packet_id, Stage::Received);
            } else {
                self.qos2.remove(packet_id);
            }
        }
        if qos == QoS::AtLeastOnce || !success {
            self.in_flight.remove(&packet_id);
        }
        if let Some(reason_code) = reason_code {
            let properties = Properties::EMPTY;
            cx.reply(&match qos {
                QoS::ExactlyOnce => Packet::PubRec(PubRec { packet_id, reason_code, properties }),
                _ => Packet::PubAck(PubAck { packet_id, reason_code, properties }),
            });
        }
        Ok(())
    }
}
