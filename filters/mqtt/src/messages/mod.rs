//! A session's messages, one by one: rules, limits and everything that follows from them.
//!
//! What the client sends goes to the broker through the outbox, in the order it came: a message that
//! waits for its verdict holds up those behind it, and no others. What is taken as a request of its
//! own leaves the order of the outbox; of one topic there is one such request at a time.

mod answers;
mod deliveries;
mod publish;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::time::Duration;

use bridge::{Bytes, Direction, Input, Link, Request, StreamId, Want};
use codec_mqtt::{
    Decoded, Frame, Packet, PacketType, PropertyId, PublishHeader, QoS, ReasonCode, Version, frame,
};

use crate::check::Check;
use crate::config::Settings;
use crate::exchange::Exchange;
use crate::limits::{self, Charge};
use crate::message::{About, Identity, Verdict};
use crate::packets::{Fault, Item, Run, Then, encoded, validate};
use crate::prefix::Prefix;
use crate::qos2::Qos2;
use crate::rules::{Carry, PacketKind, Rule};
use crate::session::Client;
use crate::stats::Stats;
use crate::subscribe::Pending;
use crate::to_client::ToClient;

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
    /// None while no stream is free.
    check: Option<Check>,
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
    /// The filter's own packets for the broker, which wait for the end of one of the client's.
    own: Vec<u8>,
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
    verdicts: policy::Verdicts<Verdict>,
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
    /// The messages of a client; none if nothing looks at them one by one. `session` is the request
    /// that its session was opened with.
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
                own: Vec::new(),
                passing: Passing::Nothing,
                then: Then::More,
                charged: false,
                gate: None,
                exchanges: BTreeMap::new(),
                qos2: Qos2::default(),
                in_flight: BTreeSet::new(),
                in_flight_most: settings.max_in_flight,
                aliases: BTreeMap::new(),
                verdicts: policy::Verdicts::new(settings.max_cached_verdicts),
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

    /// Whether the topics of the broker's messages are looked at, so that it may not use aliases.
    pub(crate) fn looks_at_deliveries(&self) -> bool {
        !self.delivery_rules.is_empty() || !self.prefix.is_empty()
    }

    /// Sends CONNECT, as the broker gets it, before anything else.
    pub(crate) fn connect(&mut self, octets: Bytes) {
        self.push(Entry::Ready(octets));
    }

    /// Moves on with what the client sent.
    pub(crate) fn advance(&mut self, cx: &mut Cx<'_>, input: &mut Input) -> Advance {
        let advance = self.advance_input(cx, input);
        if !self.own.is_empty()
            && matches!(advance, Advance::Want(_))
            && let Err(fault) = self.pump(cx)
        {
            return Advance::Fault(fault);
        }
        advance
    }

    fn advance_input(&mut self, cx: &mut Cx<'_>, input: &mut Input) -> Advance {
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
            if self.is_full(cx) {
                return Advance::Want(Want::Room);
            }
            if input.is_empty() {
                return Advance::Want(Want::More);
            }
            let mut octets = input.as_slice();
            if !self.ready {
                // Before CONNACK a client may only authenticate (MQTT 5.0 §4.12).
                match frame(octets, cx.settings.max_packet_size) {
                    Ok(Decoded::Complete { packet, .. })
                        if packet.packet_type == PacketType::AUTH =>
                    {
                        octets = octets.get(..packet.len()).unwrap_or(octets);
                    }
                    Ok(Decoded::Incomplete { .. })
                        if octets.first().is_some_and(|first| first >> 4 == PacketType::AUTH.0) => {
                    }
                    _ => return Advance::Want(Want::Room),
                }
            }
            let bounds = cx.settings.bounds();
            let version = cx.version();
            let judge = |frame, item: Item<'_>| self.judge(cx, frame, item);
            let Run { octets: run, then } = validate(octets, version, bounds, judge);
            if run > 0 {
                self.passing = Passing::ToBroker(run);
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

    /// Whether enough waits: for verdicts, or for the end of a packet of the broker's.
    fn is_full(&self, cx: &Cx<'_>) -> bool {
        self.outbox.len() + self.exchanges.len() >= cx.settings.max_pending_messages
            || self.outbox_octets.max(cx.to_client.waiting()) >= cx.settings.max_pending_size
    }

    fn push(&mut self, entry: Entry) {
        self.outbox_octets += entry.len();
        self.outbox.push_back(entry);
    }

    /// Sends what is decided about, up to the first entry that is not.
    fn pump(&mut self, cx: &mut Cx<'_>) -> Result<(), Fault> {
        // The outbox ends with a whole packet, and so does what was sent when it is empty.
        if !self.own.is_empty() && !matches!(self.passing, Passing::ToBroker(_)) {
            let own = std::mem::take(&mut self.own);
            self.push(Entry::Ready(own.into()));
        }
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
        consume(cx, frame);
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
        let mut cached = false;
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
                    cached = true;
                }
            }
        }
        if !self.buckets.is_empty() {
            match self.charge(cx, frame) {
                Charge::Paid => {}
                Charge::Wait(time) => return Then::Wait(cx.link.now() + time),
                Charge::Exceeded(..) => return Then::Packet,
            }
        }
        if cached {
            cx.stats.verdict(PacketKind::Publish, Verdict::Allowed, true);
        }
        self.track(header.packet_id);
        consume(cx, frame);
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

    /// A message with this packet identifier, if any, waits for its acknowledgement.
    fn track(&mut self, packet_id: Option<NonZeroU16>) {
        if let Some(id) = packet_id
            && self.in_flight_most.is_some()
        {
            self.in_flight.insert(id);
        }
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
}

impl Entry {
    fn len(&self) -> usize {
        match self {
            Self::Ready(octets) | Self::Publish { octets, .. } => octets.len(),
            Self::Subscribe(pending) => pending.len(),
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
    let mut rules = indices.iter().filter_map(|&index| Some((index, settings.rule(index)?)));
    rules.find(|(_, rule)| matches(rule))
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
