//! A session's messages, one by one: rules, limits and everything that follows from them.
//!
//! What the client sends goes to the broker through the outbox, in the order it came: a message that
//! waits for its verdict holds up those behind it, and no others. What is taken as a request of its
//! own leaves the order of the outbox; of one topic there is one such request at a time.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use bridge::{
    Bytes, Direction, Ended, Input, Link, OpenError, Request, Response, StatusCode, StreamId, Want,
};
use codec_mqtt::topic::TopicFilter;
use codec_mqtt::{
    ConnAck, Decoded, Frame, Packet, PacketType, Properties, Property, PropertyId, PubAck, PubComp,
    PubRec, PublishHeader, QoS, ReasonCode, SubAck, TopicFilters, Unsubscribe, Version, decode,
    decode_publish_header, frame,
};

use crate::check::Check;
use crate::cloudevents::Event;
use crate::config::{Failed, Refused, Settings};
use crate::exchange::{Exchange, Reply};
use crate::limits::{self, Charge, Exceeded};
use crate::message::{About, Identity, NoPath, Verdict};
use crate::packets::{Bounds, Fault, Item, Run, Then, encoded, validate};
use crate::prefix::Prefix;
use crate::qos2::{Qos2, Stage};
use crate::rules::{Carry, CloudEvents, PacketKind, Rule};
use crate::session::Client;
use crate::stats::Stats;
use crate::subscribe::{self, Pending, Place};
use crate::to_client::{Need, ToClient};
use crate::verdicts::Verdicts;

/// What the messages of a session need besides themselves.
pub(crate) struct Cx<'a> {
    pub(crate) link: &'a mut Link,
    /// The session's stream.
    pub(crate) stream: StreamId,
    pub(crate) client: Client,
    pub(crate) to_client: &'a mut ToClient,
    pub(crate) settings: &'a Settings,
    pub(crate) stats: &'a Stats,
}

impl Cx<'_> {
    fn version(&self) -> Version {
        self.client.version
    }

    /// Sends a packet of the filter's to the client, unless it is larger than the client accepts.
    fn reply(&mut self, packet: &Packet<'_>) -> bool {
        let Some(octets) = encoded(packet, self.version()) else { return false };
        self.reply_octets(packet.packet_type(), octets)
    }

    fn reply_octets(&mut self, packet_type: PacketType, octets: Vec<u8>) -> bool {
        let fits = octets.len() <= self.client.max_packet_size as usize;
        if fits {
            self.stats.packet(Direction::ToClient, packet_type, 0);
            self.stats.octets(Direction::ToClient, octets.len());
            self.to_client.reply(self.link, octets);
        }
        fits
    }
}

/// A PUBLISH that wants an answer, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publication {
    qos: QoS,
    packet_id: Option<NonZeroU16>,
}

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

/// Something on its way to the broker.
#[derive(Debug)]
enum Entry {
    Ready(Bytes),
    Publish { octets: Bytes, publication: Publication, check: Check },
    Subscribe(Pending),
}

/// Where the octets at the front of the input go.
#[derive(Debug)]
enum Passing {
    Nothing,
    /// So many, of which not all may have arrived, to the broker.
    ToBroker(u64),
    /// The rest of a request's content.
    ToExchange(StreamId, u64),
    /// A request's content that is not at the front of the input.
    Content(StreamId, Bytes),
    Discard(u64),
}

/// What happens next to the client's input.
#[derive(Debug)]
pub(crate) enum Advance {
    Want(Want),
    /// The client's DISCONNECT was passed on.
    Disconnected(ReasonCode),
    Fault(Fault),
}

/// How dealing with one packet went.
enum Handled {
    Done,
    /// Not done yet.
    Want(Want),
}

/// The broker's PUBLISH that waits for its verdict.
#[derive(Debug)]
struct Delivery {
    frame: Frame,
    header: Bytes,
    check: Check,
}

/// The messages of one session.
#[derive(Debug)]
pub(crate) struct Messages {
    identity: Identity,
    prefix: Prefix,
    publish_rules: Vec<u16>,
    subscribe_rules: Vec<u16>,
    delivery_rules: Vec<u16>,
    buckets: Vec<limits::Shared>,
    /// The broker has accepted the session.
    ready: bool,
    outbox: VecDeque<Entry>,
    outbox_octets: usize,
    passing: Passing,
    then: Then,
    /// The message in front has been charged for.
    charged: bool,
    /// The message in front is too large to wait in the outbox and waits where it is.
    gate: Option<Check>,
    exchanges: BTreeMap<StreamId, Exchange>,
    /// Also what a session that goes on has left from its last connection.
    pub(crate) qos2: Qos2,
    /// Packet identifiers of messages that nobody has acknowledged, where their number is limited.
    in_flight: BTreeSet<NonZeroU16>,
    in_flight_most: Option<u16>,
    /// What the client's topic aliases stand for.
    aliases: BTreeMap<NonZeroU16, Box<str>>,
    verdicts: Verdicts,
    /// SUBACKs of which the filter has some codes.
    subacks: BTreeMap<NonZeroU16, Vec<Option<ReasonCode>>>,
    subscriptions: BTreeSet<String>,
    delivery: Option<Delivery>,
    /// QoS 2 messages of the broker that were not delivered and whose handshake goes on.
    undelivered: BTreeSet<NonZeroU16>,
    /// The largest packet the broker accepts.
    broker_max_packet_size: usize,
    /// The client will send no more; the stream ends when all was sent.
    ending: bool,
    /// For the key of a verdict.
    key: Vec<u8>,
}

/// Whose messages they are.
pub(crate) struct Owner<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) username: Option<&'a str>,
}

impl Messages {
    /// The messages of a client; none if nothing looks at them one by one. `connect` are the octets
    /// of its CONNECT, as the broker gets them.
    pub(crate) fn new(
        settings: &Settings,
        owner: &Owner<'_>,
        session: &Request<()>,
        prefix: &Prefix,
        buckets: Vec<limits::Shared>,
    ) -> Option<Box<Self>> {
        let rules = |kind| settings.rules_for(kind, owner.client_id, owner.username);
        let publish_rules = rules(PacketKind::Publish);
        let subscribe_rules = rules(PacketKind::Subscribe);
        let delivery_rules = rules(PacketKind::Delivery);
        let needed = !publish_rules.is_empty()
            || !subscribe_rules.is_empty()
            || !delivery_rules.is_empty()
            || !buckets.is_empty()
            || !prefix.is_empty()
            || settings.limits_messages();
        needed.then(|| {
            Box::new(Self {
                identity: Identity::of(session),
                prefix: prefix.clone(),
                publish_rules,
                subscribe_rules,
                delivery_rules,
                buckets,
                ready: false,
                outbox: VecDeque::new(),
                outbox_octets: 0,
                passing: Passing::Nothing,
                then: Then::More,
                charged: false,
                gate: None,
                exchanges: BTreeMap::new(),
                qos2: Qos2::default(),
                in_flight: BTreeSet::new(),
                in_flight_most: settings.max_in_flight,
                aliases: BTreeMap::new(),
                verdicts: Verdicts::new(settings.max_cached_verdicts),
                subacks: BTreeMap::new(),
                subscriptions: BTreeSet::new(),
                delivery: None,
                undelivered: BTreeSet::new(),
                broker_max_packet_size: usize::MAX,
                ending: false,
                key: Vec::new(),
            })
        })
    }

    /// Whether the broker may use topic aliases: not where its messages are looked at.
    pub(crate) fn resolves_deliveries(&self) -> bool {
        !self.delivery_rules.is_empty()
    }

    /// Sends CONNECT before anything else.
    pub(crate) fn connect(&mut self, octets: Bytes) {
        self.push(Entry::Ready(octets));
    }

    /// Moves on with what the client sent.
    pub(crate) fn advance(&mut self, cx: &mut Cx<'_>, input: &mut Input) -> Advance {
        loop {
            if let Err(fault) = self.pump(cx) {
                return Advance::Fault(fault);
            }
            if let Some(want) = self.pass_on(cx, input) {
                return Advance::Want(want);
            }
            match std::mem::replace(&mut self.then, Then::More) {
                Then::More => {}
                Then::Packet => match self.handle(cx, input) {
                    Ok(Handled::Done) => {
                        self.charged = false;
                        continue;
                    }
                    Ok(Handled::Want(want)) => {
                        if self.then == Then::More {
                            self.then = Then::Packet;
                        }
                        return Advance::Want(want);
                    }
                    Err(fault) => return Advance::Fault(fault),
                },
                Then::Wait(until) if cx.link.now() < until => {
                    self.then = Then::Wait(until);
                    return Advance::Want(Want::Room);
                }
                Then::Wait(_) => {}
                Then::Disconnect(reason) => return Advance::Disconnected(reason),
                Then::Fault(fault) if self.outbox.is_empty() => return Advance::Fault(fault),
                Then::Fault(fault) => {
                    self.then = Then::Fault(fault);
                    return Advance::Want(Want::Room);
                }
            }
            if !self.ready || self.is_full(cx.settings) {
                return Advance::Want(Want::Room);
            }
            if input.is_empty() {
                return Advance::Want(Want::More);
            }
            let bounds = Bounds {
                max_packet_size: cx.settings.max_packet_size,
                max_buffered_size: cx.settings.max_buffered_size,
            };
            let version = cx.version();
            let judge = |frame, item: Item<'_>| self.judge(cx, frame, item);
            let Run { octets, then } = validate(input.as_slice(), version, bounds, judge);
            if octets > 0 {
                self.passing = Passing::ToBroker(octets);
            } else if then == Then::More {
                return Advance::Want(Want::More);
            }
            self.then = then;
        }
    }

    /// When [`advance`](Self::advance) wants to be called although nothing happened.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self.then {
            Then::Wait(until) => Some(until),
            _ => None,
        }
    }

    /// The client will send no more.
    pub(crate) fn end(&mut self, cx: &mut Cx<'_>) {
        self.ending = true;
        if self.outbox.is_empty() {
            cx.link.finish(cx.stream);
        }
    }

    fn is_full(&self, settings: &Settings) -> bool {
        self.outbox.len() + self.exchanges.len() >= settings.max_pending_messages
            || self.outbox_octets >= settings.max_pending_size
    }

    fn push(&mut self, entry: Entry) {
        self.outbox_octets += entry.len();
        self.outbox.push_back(entry);
    }

    /// Sends what is decided about, up to the first entry that is not.
    fn pump(&mut self, cx: &mut Cx<'_>) -> Result<(), Fault> {
        while let Some(entry) = self.outbox.front_mut() {
            let next = match entry {
                Entry::Ready(octets) => {
                    let sent = cx.link.send_octets(cx.stream, octets);
                    self.outbox_octets -= sent;
                    cx.stats.octets(Direction::FromClient, sent);
                    if !octets.is_empty() {
                        return Ok(());
                    }
                    None
                }
                Entry::Publish { octets, publication, check } => match check.verdict {
                    None => return Ok(()),
                    Some(Verdict::Allowed) => Some(Entry::Ready(std::mem::take(octets))),
                    Some(verdict) => {
                        let (publication, len) = (*publication, octets.len());
                        cx.stats.octets(Direction::FromClient, len);
                        self.outbox_octets -= len;
                        self.outbox.pop_front();
                        self.answer(cx, publication, verdict)?;
                        continue;
                    }
                },
                Entry::Subscribe(_) => match self.pump_subscribe(cx)? {
                    None => return Ok(()),
                    Some(to_broker) => to_broker.map(Entry::Ready),
                },
            };
            self.outbox.pop_front();
            if let Some(next) = next {
                self.outbox.push_front(next);
            }
        }
        if self.ending {
            cx.link.finish(cx.stream);
        }
        Ok(())
    }

    /// Passes on what is at the front of the input. Returns what it lacks, if anything.
    fn pass_on(&mut self, cx: &mut Cx<'_>, input: &mut Input) -> Option<Want> {
        let here =
            |left: u64, input: &Input| usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        match &mut self.passing {
            Passing::Nothing => return None,
            Passing::ToBroker(left) => {
                let here = here(*left, input);
                if !self.outbox.is_empty() {
                    // Behind what waits, if it is not too much.
                    let size = self.outbox_octets + here;
                    if here as u64 != *left || size > cx.settings.max_pending_size {
                        return Some(Want::Room);
                    }
                    self.passing = Passing::Nothing;
                    self.push(Entry::Ready(input.take(here)));
                    return None;
                }
                let sent = cx.link.send(cx.stream, input, here);
                cx.stats.octets(Direction::FromClient, sent);
                *left -= sent as u64;
                if sent < here {
                    return Some(Want::Room);
                }
                if *left > 0 {
                    return Some(Want::More);
                }
            }
            Passing::ToExchange(stream, left) => {
                let here = here(*left, input);
                let sent = cx.link.send(*stream, input, here);
                cx.stats.octets(Direction::FromClient, sent);
                *left -= sent as u64;
                if sent < here {
                    return Some(Want::Room);
                }
                if *left > 0 {
                    return Some(Want::More);
                }
                cx.link.finish(*stream);
            }
            Passing::Content(stream, octets) => {
                let _ = cx.link.send_octets(*stream, octets);
                if !octets.is_empty() {
                    return Some(Want::Room);
                }
                cx.link.finish(*stream);
            }
            Passing::Discard(left) => {
                let here = here(*left, input);
                input.skip(here);
                cx.stats.octets(Direction::FromClient, here);
                *left -= here as u64;
                if *left > 0 {
                    return Some(Want::More);
                }
            }
        }
        self.passing = Passing::Nothing;
        None
    }

    /// Whether a packet passes as it is. Everything on the path of a message that no rule is about.
    fn judge(&mut self, cx: &mut Cx<'_>, frame: Frame, item: Item<'_>) -> Then {
        let pass = match item {
            Item::Publish(header) => return self.judge_publish(cx, frame, header),
            Item::Other(Packet::Subscribe(_)) => {
                self.subscribe_rules.is_empty()
                    && self.prefix.is_empty()
                    && !cx.settings.limits_subscriptions()
            }
            Item::Other(Packet::Unsubscribe(_)) => {
                self.prefix.is_empty() && cx.settings.max_subscriptions.is_none()
            }
            Item::Other(Packet::PubRel(pubrel)) => self.qos2.stage(pubrel.packet_id).is_none(),
            Item::Other(Packet::Disconnect(_)) => {
                self.outbox.is_empty() && self.exchanges.is_empty()
            }
            Item::Other(_) => true,
        };
        if !pass {
            return Then::Packet;
        }
        cx.stats.packet(Direction::FromClient, frame.packet_type, frame.flags);
        Then::More
    }

    fn judge_publish(&mut self, cx: &mut Cx<'_>, frame: Frame, header: &PublishHeader<'_>) -> Then {
        if !self.prefix.is_empty()
            || header.properties.contains(PropertyId::TOPIC_ALIAS)
            || !is_topic_within(header.topic, cx.settings)
            || header.packet_id.is_some_and(|id| self.is_special(id))
        {
            return Then::Packet;
        }
        if let Some((index, rule)) = self.rule_for(cx.settings, header.topic, header) {
            match rule.carry {
                Carry::Flow => {}
                Carry::Request => return Then::Packet,
                Carry::Check => {
                    if rule.verdict_cache.is_zero() {
                        return Then::Packet;
                    }
                    let about = about(header.topic, header);
                    make_key(&mut self.key, PacketKind::Publish, index, about, rule);
                    if self.verdicts.get(&self.key, cx.link.now()) != Some(Verdict::Allowed) {
                        return Then::Packet;
                    }
                    cx.stats.verdict(PacketKind::Publish, Verdict::Allowed, true);
                }
            }
        }
        if !self.buckets.is_empty() {
            match self.charge(cx, frame) {
                Charge::Paid => {}
                Charge::Wait(time) => return Then::Wait(cx.link.now() + time),
                Charge::Exceeded(_) => return Then::Packet,
            }
        }
        if let Some(id) = header.packet_id
            && self.in_flight_most.is_some()
        {
            self.in_flight.insert(id);
        }
        cx.stats.packet(Direction::FromClient, frame.packet_type, frame.flags);
        Then::More
    }

    /// Whether a message with this packet identifier does not simply pass.
    fn is_special(&self, id: NonZeroU16) -> bool {
        self.qos2.stage(id).is_some() || self.is_one_too_many(id)
    }

    fn is_one_too_many(&self, id: NonZeroU16) -> bool {
        self.in_flight_most.is_some_and(|most| {
            self.in_flight.len() >= usize::from(most) && !self.in_flight.contains(&id)
        })
    }

    fn charge(&mut self, cx: &Cx<'_>, frame: Frame) -> Charge {
        limits::charge(&cx.settings.rate_limits, &self.buckets, frame.len(), cx.link.now())
    }

    fn rule_for<'s>(
        &self,
        settings: &'s Settings,
        topic: &str,
        header: &PublishHeader<'_>,
    ) -> Option<(u16, &'s Rule)> {
        first_match(settings, &self.publish_rules, |rule| {
            rule.matches(topic, header.qos, header.retain)
        })
    }

    /// Deals with the packet at the front of the input, which does not simply pass. May be called
    /// again for the same packet until it is done.
    fn handle(&mut self, cx: &mut Cx<'_>, input: &mut Input) -> Result<Handled, Fault> {
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
                let places =
                    subscriptions.map(|s| self.place(cx.settings, s.filter, s.qos, version));
                let places = places.collect();
                consume(cx, frame);
                self.push(Entry::Subscribe(Pending::new(input.take(frame.len()), places)));
            }
            Packet::Unsubscribe(packet) => {
                let filters: Vec<Cow<'_, str>> = packet
                    .filters
                    .iter()
                    .map(|filter| self.prefix.add_to_filter(filter, version))
                    .collect();
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
                Charge::Exceeded(exceeded) => {
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
        self.track(publication);
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
        if self.is_full(cx.settings) || self.exchanges.values().any(|other| &*other.topic == topic)
        {
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
        let is_empty = header.payload_len == 0 && content.is_none();
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
        self.track(publication);
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
        self.track(front.publication());
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
        let properties = self.prefixed(header.properties, &[PropertyId::TOPIC_ALIAS]);
        let properties = borrowed(&properties);
        let header =
            PublishHeader { topic: &topic, properties: Properties::from(&*properties), ..*header };
        let octets = encoded_header(&header, cx.version()).ok_or(TOO_LARGE)?;
        self.check_size(octets.len() + header.payload_len)?;
        Ok(Some(octets))
    }

    /// A message's properties, without some, and with the prefix before the Response Topic.
    fn prefixed<'p>(
        &self,
        properties: Properties<'p>,
        without: &[PropertyId],
    ) -> Vec<(Property<'p>, Option<String>)> {
        let kept = properties.iter().filter(|property| !without.contains(&property.id()));
        kept.map(|property| match property {
            Property::ResponseTopic(topic) if !self.prefix.is_empty() => {
                (property, Some(self.prefix.add(topic).into_owned()))
            }
            other => (other, None),
        })
        .collect()
    }

    fn check_size(&self, size: usize) -> Result<(), Fault> {
        if size > self.broker_max_packet_size { Err(TOO_LARGE) } else { Ok(()) }
    }

    fn track(&mut self, publication: Publication) {
        if let Some(id) = publication.packet_id
            && self.in_flight_most.is_some()
        {
            self.in_flight.insert(id);
        }
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
    fn answer(
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
                let code = ReasonCode::SERVER_UNAVAILABLE;
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

    /// What is to happen with one topic filter.
    fn place(&self, settings: &Settings, filter: &str, qos: QoS, version: Version) -> Place {
        let Ok(parsed) = TopicFilter::new(filter, version) else {
            return Place::Refused(ReasonCode::TOPIC_FILTER_INVALID);
        };
        if levels(parsed.filter()) > settings.max_topic_levels {
            return Place::Refused(ReasonCode::TOPIC_FILTER_INVALID);
        }
        let rule = first_match(settings, &self.subscribe_rules, |rule| {
            rule.matches_filter(parsed.filter(), qos)
        });
        match rule {
            Some((index, rule)) if rule.carry != Carry::Flow => Place::Unasked(index),
            _ => Place::Allowed,
        }
    }

    /// Asks about the topic filters of the SUBSCRIBE in front of the outbox. When all are decided
    /// about: what the broker gets, if anything.
    fn pump_subscribe(&mut self, cx: &mut Cx<'_>) -> Result<Option<Option<Bytes>>, Fault> {
        let version = cx.version();
        let Some(Entry::Subscribe(pending)) = self.outbox.front_mut() else { return Ok(None) };
        let size = pending.len();
        let mut places = std::mem::take(&mut pending.places);
        if let Some(packet) = pending.packet(version) {
            for (place, subscription) in places.iter_mut().zip(packet.subscriptions.iter()) {
                if let Place::Asked(Check { verdict: Some(verdict), .. }) = place {
                    *place = match verdict {
                        Verdict::Allowed => Place::Allowed,
                        verdict => Place::Refused(verdict.suback()),
                    };
                }
                let Place::Unasked(index) = place else { continue };
                let index = *index;
                let (Some(rule), Ok(filter)) =
                    (cx.settings.rule(index), TopicFilter::new(subscription.filter, version))
                else {
                    continue;
                };
                self.key.clear();
                if !rule.verdict_cache.is_zero() {
                    let about = About {
                        topic: subscription.filter,
                        qos: subscription.qos,
                        retain: false,
                        dup: false,
                        properties: packet.properties,
                    };
                    make_key(&mut self.key, PacketKind::Subscribe, index, about, rule);
                    if let Some(verdict) = self.verdicts.get(&self.key, cx.link.now()) {
                        cx.stats.verdict(PacketKind::Subscribe, verdict, true);
                        *place = match verdict {
                            Verdict::Allowed => Place::Allowed,
                            verdict => Place::Refused(verdict.suback()),
                        };
                        continue;
                    }
                }
                let request = self.identity.subscribe(
                    filter.filter(),
                    filter.share_name(),
                    subscription.qos,
                    packet.properties,
                    rule,
                );
                let Ok(request) = request else {
                    *place = Place::Refused(Verdict::from(NoPath).suback());
                    continue;
                };
                let (kind, key) = (PacketKind::Subscribe, self.key.clone());
                match Check::ask(cx.link, request, kind, key, rule.verdict_cache) {
                    Ok(check) => *place = Place::Asked(check),
                    // Again when one of those under way has ended.
                    Err(OpenError::TooManyStreams) => break,
                    Err(_) => return Err(UNAVAILABLE),
                }
            }
            if let Some(most) = cx.settings.max_subscriptions
                && places.iter().all(Place::is_decided)
            {
                for (place, subscription) in places.iter_mut().zip(packet.subscriptions.iter()) {
                    let filter = self.prefix.add_to_filter(subscription.filter, version);
                    if !matches!(place, Place::Allowed) || self.subscriptions.contains(&*filter) {
                    } else if self.subscriptions.len() < most {
                        self.subscriptions.insert(filter.into_owned());
                    } else {
                        cx.stats.limit("subscriptions", "reject");
                        *place = Place::Refused(ReasonCode::QUOTA_EXCEEDED);
                    }
                }
            }
        }
        pending.places = places;
        if !pending.is_decided() {
            return Ok(None);
        }
        let decided = pending.decide(version, &self.prefix).ok_or(TOO_LARGE)?;
        self.outbox_octets -= size;
        match &decided.to_broker {
            Some(octets) => {
                let len = octets.len();
                self.outbox_octets += len;
                self.check_size(len)?;
                if let Some(codes) = decided.codes {
                    self.subacks.insert(decided.packet_id, codes);
                }
            }
            None => {
                if let Some(suback) = subscribe::refusal(&decided, version) {
                    cx.reply_octets(PacketType::SUBACK, suback);
                }
            }
        }
        Ok(Some(decided.to_broker))
    }

    /// A response arrived. Returns false if its stream is not one of these.
    pub(crate) fn handle_response(
        &mut self,
        cx: &mut Cx<'_>,
        stream: StreamId,
        response: &Response<()>,
    ) -> Result<bool, Fault> {
        let status = response.status();
        if let Some(exchange) = self.exchanges.get_mut(&stream) {
            exchange.status = Some(status);
            if let Some(reply) = &mut exchange.reply
                && status.is_success()
            {
                reply.describe(response.headers());
            } else {
                self.settle(cx, stream, Some(status))?;
            }
            return Ok(true);
        }
        self.decide(cx, stream, Verdict::from_status(status))
    }

    /// Content of a response arrived.
    pub(crate) fn handle_body(&mut self, settings: &Settings, stream: StreamId, body: &[u8]) {
        if let Some(Exchange { reply: Some(reply), .. }) = self.exchanges.get_mut(&stream) {
            reply.extend(body, settings.max_buffered_size);
        }
    }

    /// A response ended, or there will be none. Returns false if its stream is not one of these.
    pub(crate) fn handle_ended(
        &mut self,
        cx: &mut Cx<'_>,
        stream: StreamId,
        how: Ended,
    ) -> Result<bool, Fault> {
        // Nothing more can be sent on it.
        match self.passing {
            Passing::ToExchange(to, left) if to == stream => self.passing = Passing::Discard(left),
            Passing::Content(to, _) if to == stream => self.passing = Passing::Nothing,
            _ => {}
        }
        // The next filter may end the stream before it has all of the content.
        cx.link.finish(stream);
        if let Some(exchange) = self.exchanges.get(&stream) {
            let status = exchange.status.filter(|_| how == Ended::Complete);
            self.settle(cx, stream, status)?;
            return Ok(true);
        }
        self.decide(cx, stream, Verdict::Failed)
    }

    /// An exchange came to its end.
    fn settle(
        &mut self,
        cx: &mut Cx<'_>,
        stream: StreamId,
        status: Option<StatusCode>,
    ) -> Result<(), Fault> {
        let Some(exchange) = self.exchanges.remove(&stream) else { return Ok(()) };
        let verdict = status.map_or(Verdict::Failed, Verdict::from_status);
        cx.stats.request(verdict, cx.link.now().saturating_sub(exchange.asked));
        self.answer(cx, exchange.publication, verdict)?;
        if verdict == Verdict::Allowed
            && let Some(reply) = exchange.reply
        {
            let sent = reply
                .publish(cx.version())
                .is_some_and(|octets| cx.reply_octets(PacketType::PUBLISH, octets));
            cx.stats.reply(sent);
        }
        Ok(())
    }

    /// A check was answered.
    fn decide(
        &mut self,
        cx: &mut Cx<'_>,
        stream: StreamId,
        verdict: Verdict,
    ) -> Result<bool, Fault> {
        let now = cx.link.now();
        let Some(check) = self.check(stream) else { return Ok(false) };
        if check.verdict.is_some() {
            return Ok(true);
        }
        check.verdict = Some(verdict);
        let (kind, asked, cache) = (check.kind, check.asked, check.cache);
        let key = std::mem::take(&mut check.key);
        cx.stats.verdict(kind, verdict, false);
        cx.stats.check_took(now.saturating_sub(asked));
        if !key.is_empty() {
            self.verdicts.put(&key, verdict, now + cache);
        }
        self.pump(cx)?;
        Ok(true)
    }

    fn check(&mut self, stream: StreamId) -> Option<&mut Check> {
        let gate = self.gate.iter_mut();
        let delivery = self.delivery.iter_mut().map(|delivery| &mut delivery.check);
        let outbox = self.outbox.iter_mut().flat_map(|entry| match entry {
            Entry::Ready(_) => Checks::None,
            Entry::Publish { check, .. } => Checks::One(Some(check)),
            Entry::Subscribe(pending) => Checks::Places(pending.places.iter_mut()),
        });
        gate.chain(delivery).chain(outbox).find(|check| check.stream == stream)
    }

    // Towards the client.

    /// What is to be seen of a packet of the broker's.
    pub(crate) fn need(&self, frame: &Frame) -> Need {
        let looked_at = match frame.packet_type {
            PacketType::PUBLISH => {
                return if self.delivery_rules.is_empty() && self.prefix.is_empty() {
                    Need::Header
                } else {
                    Need::PublishHeader
                };
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
        self.delivery.as_ref().is_some_and(|delivery| delivery.check.verdict.is_none())
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
                if !connack.session_present {
                    self.qos2 = Qos2::default();
                }
                Ok(self.connack(cx.settings, &connack, version).or(Some(octets)))
            }
            Packet::SubAck(suback) => Ok(match self.subacks.remove(&suback.packet_id) {
                Some(codes) => self.suback(&codes, &suback, version),
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
                self.tell_broker(&Packet::PubComp(PubComp::new(pubrel.packet_id)), version);
                self.pump(cx)?;
                Ok(None)
            }
            _ => Ok(Some(octets)),
        }
    }

    /// CONNACK with the limits that hold here, if they are not the broker's.
    fn connack(
        &mut self,
        settings: &Settings,
        connack: &ConnAck<'_>,
        version: Version,
    ) -> Option<Bytes> {
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
        let connack = ConnAck { properties: Properties::from(&*list), ..*connack };
        encoded(&Packet::ConnAck(connack), version).map(Bytes::from)
    }

    fn suback(
        &mut self,
        codes: &[Option<ReasonCode>],
        suback: &SubAck<'_>,
        version: Version,
    ) -> Option<Bytes> {
        subscribe::merge(codes, suback, version).map(Bytes::from)
    }

    fn tell_broker(&mut self, packet: &Packet<'_>, version: Version) {
        if let Some(octets) = encoded(packet, version) {
            self.push(Entry::Ready(octets.into()));
        }
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
        match Check::ask(cx.link, request, kind, key, rule.verdict_cache) {
            Ok(check) => {
                cx.link.hold(cx.stream, true);
                self.delivery = Some(Delivery { frame, header: octets, check });
                Ok(None)
            }
            // Not asking would let it through; not delivering it would lose it.
            Err(_) => Err(UNAVAILABLE),
        }
    }

    /// The broker's PUBLISH whose verdict has arrived, if there is one: what the client gets of it,
    /// and its frame.
    pub(crate) fn take_delivery(
        &mut self,
        cx: &mut Cx<'_>,
    ) -> Result<Option<(Frame, Option<Bytes>)>, Fault> {
        if self.holds_deliveries() {
            return Ok(None);
        }
        let Some(Delivery { frame, header, check }) = self.delivery.take() else { return Ok(None) };
        cx.link.hold(cx.stream, false);
        let octets = match check.verdict {
            Some(Verdict::Allowed) => self.deliver(cx, header)?,
            _ => self.undeliver(cx, &header)?,
        };
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
        let properties: Vec<_> = header
            .properties
            .iter()
            .map(|property| match property {
                Property::ResponseTopic(topic) => {
                    Property::ResponseTopic(self.prefix.strip(topic).unwrap_or(topic))
                }
                other => other,
            })
            .collect();
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
                self.tell_broker(&Packet::PubRec(PubRec::new(id)), version);
            } else {
                self.tell_broker(&Packet::PubAck(PubAck::new(id)), version);
            }
            self.pump(cx)?;
        }
        Ok(None)
    }
}

impl Entry {
    fn len(&self) -> usize {
        match self {
            Self::Ready(octets) | Self::Publish { octets, .. } => octets.len(),
            Self::Subscribe(pending) => pending.len(),
        }
    }
}

/// The checks of one entry.
enum Checks<'a> {
    None,
    One(Option<&'a mut Check>),
    Places(std::slice::IterMut<'a, Place>),
}

impl<'a> Iterator for Checks<'a> {
    type Item = &'a mut Check;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::None => None,
            Self::One(check) => check.take(),
            Self::Places(places) => places.find_map(|place| match place {
                Place::Asked(check) => Some(check),
                _ => None,
            }),
        }
    }
}

const TOO_LARGE: Fault = Fault::Broken(ReasonCode::PACKET_TOO_LARGE, "packet_too_large_for_broker");
const UNAVAILABLE: Fault = Fault::Broken(ReasonCode::SERVER_SHUTTING_DOWN, "no_more_streams");

/// Counts a packet that is done with.
fn consume(cx: &Cx<'_>, frame: Frame) {
    cx.stats.packet(Direction::FromClient, frame.packet_type, frame.flags);
}

fn about<'a>(topic: &'a str, header: &PublishHeader<'a>) -> About<'a> {
    let PublishHeader { qos, retain, dup, properties, .. } = *header;
    About { topic, qos, retain, dup, properties }
}

fn first_match<'s>(
    settings: &'s Settings,
    indices: &[u16],
    matches: impl Fn(&Rule) -> bool,
) -> Option<(u16, &'s Rule)> {
    let rules = indices.iter().filter_map(|&index| Some((index, settings.rule(index)?)));
    rules.into_iter().find(|(_, rule)| matches(rule))
}

fn levels(topic: &str) -> usize {
    1 + topic.bytes().filter(|&b| b == b'/').count()
}

fn is_topic_within(topic: &str, settings: &Settings) -> bool {
    topic.len() <= settings.max_topic_length
        && (settings.max_topic_levels > topic.len() || levels(topic) <= settings.max_topic_levels)
}

/// What an answer also holds for: everything that the request shows, but for DUP and the trace.
fn make_key(key: &mut Vec<u8>, kind: PacketKind, rule: u16, about: About<'_>, config: &Rule) {
    key.clear();
    key.extend([kind as u8, about.qos as u8 | u8::from(about.retain) << 2]);
    key.extend(rule.to_be_bytes());
    let mut field = |field: Option<&str>| {
        let len = field.map_or(u32::MAX, |field| u32::try_from(field.len()).unwrap_or_default());
        key.extend(len.to_be_bytes());
        key.extend(field.unwrap_or_default().as_bytes());
    };
    field(Some(about.topic));
    if !about.properties.is_empty() {
        field(about.properties.content_type());
        for (name, _) in &config.user_properties {
            field(about.properties.user_property(name));
        }
    }
}

fn encoded_header(header: &PublishHeader<'_>, version: Version) -> Option<Vec<u8>> {
    let mut octets = vec![0; header.encoded_len(version).ok()?];
    header.encode(version, &mut octets).ok()?;
    Some(octets)
}

fn borrowed<'a>(properties: &'a [(Property<'a>, Option<String>)]) -> Vec<Property<'a>> {
    let own = |(property, topic): &'a (Property<'a>, Option<String>)| match topic {
        Some(topic) => Property::ResponseTopic(topic),
        None => *property,
    };
    properties.iter().map(own).collect()
}
