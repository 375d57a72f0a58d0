//! A session between a client and a broker that keep to the standard, and a connection manager that
//! answers as it likes, beside what they may expect of the filter. Every choice comes from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use codec_mqtt::{Decoded, Packet, Property, ReasonCode, Version, decode};

use super::wire::{
    connack, id, msg, pingreq, puback, pubcomp, publish, pubrec, pubrel, reconnect, suback,
    subscribe,
};
use super::{Bench, Worker};

/// What happens, one octet after the other; 0 where nothing is left.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first) % n
    }

    pub fn rest(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

struct Setting {
    json: &'static str,
    prefix: &'static str,
    max_pending: usize,
    /// The client's own bound on what is not acknowledged.
    in_flight: usize,
    streams: Option<u32>,
}

const RULES: &str = r#""rules": [
    {"topic_filters": ["c/#"], "carry": "check"},
    {"topic_filters": ["r/#"], "carry": "request"},
    {"packets": ["subscribe"], "topic_filters": ["s/#"], "carry": "check"},
    {"packets": ["delivery"], "topic_filters": ["d/#"], "carry": "check"}]"#;

const SETTINGS: [Setting; 6] = [
    Setting { json: "", prefix: "", max_pending: 64, in_flight: 200, streams: None },
    Setting {
        json: r#", "max_pending_messages": 2, "max_pending_size": 1024, "max_buffered_size": 512"#,
        prefix: "",
        max_pending: 2,
        in_flight: 200,
        streams: None,
    },
    Setting {
        json: r#", "max_in_flight": 5, "topic_prefix": "t/{username}/""#,
        prefix: "t/u1/",
        max_pending: 64,
        in_flight: 5,
        streams: None,
    },
    Setting {
        json: r#", "max_pending_messages": 5, "rate_limits": [
            {"messages": {"per_second": 10, "burst": 3}},
            {"octets": {"per_second": 2000, "burst": 300}, "per": "client_id"}]"#,
        prefix: "",
        max_pending: 5,
        in_flight: 200,
        streams: None,
    },
    Setting { json: "", prefix: "", max_pending: 64, in_flight: 200, streams: Some(2) },
    Setting {
        json: r#", "max_pending_messages": 1, "max_topic_aliases": 3, "max_pending_size": 1024,
            "max_buffered_size": 300, "max_in_flight": 9"#,
        prefix: "",
        max_pending: 1,
        in_flight: 9,
        streams: None,
    },
];

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Status(u16),
    Reset,
}

impl Outcome {
    fn is_allowed(self) -> bool {
        matches!(self, Self::Status(200..=299))
    }

    fn is_failed(self) -> bool {
        matches!(self, Self::Reset | Self::Status(500..=599))
    }

    fn ack(self) -> u8 {
        match self {
            Self::Status(200..=299) => 0,
            Self::Status(403) => 0x87,
            Self::Status(404) => 0x90,
            Self::Status(429) => 0x97,
            _ => 0x83,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carry {
    Flow,
    Check,
    Request,
}

/// A message of the client's.
#[derive(Clone, Debug)]
struct Message {
    qos: u8,
    id: u16,
    topic: String,
    payload: String,
    carry: Carry,
    /// What it was answered when it was checked: the same again.
    verdict: Option<Outcome>,
    /// A request for it was answered with 2xx.
    taken: bool,
}

/// Something the client sent on this connection, in its order.
#[derive(Debug)]
enum Sent {
    Line(String),
    Checked { path: String, line: String },
    Subscribe { id: u16, filters: Vec<(String, u8)> },
}

/// A message of the broker's on this connection.
#[derive(Debug)]
struct Delivered {
    qos: u8,
    id: u16,
    line: String,
    /// None if it is not checked.
    path: Option<String>,
}

/// How far the client is with an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Published,
    Released,
}

pub struct Model {
    worker: Worker,
    setting: &'static Setting,
    version: Version,
    bench: Bench,
    serial: usize,
    messages: Vec<Message>,
    /// By packet identifier: the message's index.
    in_flight: BTreeMap<u16, (usize, Stage)>,
    next_id: u16,
    /// Octets of the client's that are not sent yet.
    out: Vec<u8>,
    aliases: usize,

    // Of this connection.
    sent: Vec<Sent>,
    outcomes: BTreeMap<String, Outcome>,
    /// Streams with a response's header section and not its end.
    unfinished: Vec<usize>,
    at_broker: Vec<String>,
    at_client: Vec<String>,
    deliveries: Vec<Delivered>,
    /// Acknowledgements of deliveries that the broker got.
    delivery_acks: BTreeMap<(u8, u16), usize>,
    broker_read: usize,
    client_read: usize,
    /// Answers the broker owes.
    broker_owes: Vec<Vec<u8>>,
    /// QoS 2 identifiers the broker has; they outlive the connection.
    broker_has: BTreeSet<u16>,
    /// Acknowledgements the broker sent on this connection.
    broker_acked: BTreeSet<(u8, u16)>,
    /// Acknowledged messages by identifier on this connection.
    acked: BTreeSet<(u8, u16)>,
    subacks: BTreeMap<u16, Vec<u8>>,
    trace: bool,
    reconnects: usize,
    pub acknowledged: usize,
    pub asked: usize,
}

impl Model {
    pub fn run(octets: &[u8]) -> Self {
        let mut choices = Choices::new(octets);
        let mut model = Self::new(&mut choices);
        let mut steps = 0_usize;
        while !choices.is_empty() {
            model.step(&mut choices);
            steps += 1;
            if steps.is_multiple_of(8) {
                model.check(false);
            }
        }
        model.drain();
        model.check(true);
        model
    }

    fn new(choices: &mut Choices<'_>) -> Self {
        let setting = &SETTINGS[choices.below(SETTINGS.len())];
        let version = if choices.below(2) == 0 { Version::V311 } else { Version::V5 };
        let worker = Worker::new(&format!("{{{RULES}{}}}", setting.json));
        let bench = connection(&worker, setting, version, Duration::ZERO, false);
        let mut model = Self {
            worker,
            setting,
            version,
            bench,
            serial: 0,
            messages: Vec::new(),
            in_flight: BTreeMap::new(),
            next_id: 0,
            out: Vec::new(),
            aliases: 0,
            sent: Vec::new(),
            outcomes: BTreeMap::new(),
            unfinished: Vec::new(),
            at_broker: Vec::new(),
            at_client: Vec::new(),
            deliveries: Vec::new(),
            delivery_acks: BTreeMap::new(),
            broker_read: 0,
            client_read: 0,
            broker_owes: Vec::new(),
            broker_has: BTreeSet::new(),
            broker_acked: BTreeSet::new(),
            acked: BTreeSet::new(),
            subacks: BTreeMap::new(),
            trace: std::env::var_os("TRACE").is_some(),
            reconnects: 0,
            acknowledged: 0,
            asked: 0,
        };
        model.begin();
        model
    }

    fn begin(&mut self) {
        self.client_read = self.bench.got.len();
        self.broker_read = self.bench.session_stream().body.len();
    }

    /// Says what happens, where somebody wants to know.
    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{}", what());
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0..=4 => self.publish(choices),
            5 => self.subscribe(choices),
            6 => {
                self.out.extend(pingreq());
                self.sent.push(Sent::Line("PINGREQ".to_owned()));
            }
            7 | 8 => self.deliver(choices),
            9..=11 => self.answer(choices),
            12 if !self.broker_owes.is_empty() => {
                let owed = self.broker_owes.remove(choices.below(self.broker_owes.len()));
                self.broker_sends(&owed);
            }
            13 => self.bench.piece = [usize::MAX, 1, 7, 50, 300][choices.below(5)],
            14 => match choices.below(8) {
                0 => self.reconnect(),
                n => self.bench.pass(Duration::from_millis(20 * n as u64)),
            },
            15 if !self.unfinished.is_empty() => {
                let index = choices.below(self.unfinished.len());
                let stream = self.unfinished.remove(index);
                self.bench.finish(stream);
            }
            _ => {}
        }
        // Anything from nothing to all that the client has to say.
        let n = match choices.below(8) {
            0 => 0,
            1 => self.out.len().min(1),
            2 => self.out.len() / 2,
            _ => self.out.len(),
        };
        let rest = self.out.split_off(n);
        let now = std::mem::replace(&mut self.out, rest);
        self.note(|| format!("client sends {} octets", now.len()));
        self.bench.client(&now);
        self.hear();
    }

    fn prefixed(&self, topic: &str) -> String {
        format!("{}{topic}", self.setting.prefix)
    }

    fn free_id(&mut self) -> u16 {
        loop {
            // Few, so that they are used again.
            self.next_id = self.next_id % 300 + 1;
            if !self.in_flight.contains_key(&self.next_id)
                && !self.subacks.contains_key(&self.next_id)
            {
                return self.next_id;
            }
        }
    }

    fn publish(&mut self, choices: &mut Choices<'_>) {
        let qos = u8::try_from(choices.below(3)).expect("small");
        if qos > 0 && self.in_flight.len() >= self.setting.in_flight {
            return;
        }
        self.serial += 1;
        let serial = self.serial;
        let (topic, carry) = match choices.below(6) {
            0 | 1 => (format!("f/{serial}"), Carry::Flow),
            // A verdict is about a topic, so that the test can tell which message it was about.
            2 | 3 => (format!("c/{serial}"), Carry::Check),
            n => (format!("r/{n}"), Carry::Request),
        };
        let length = [0, 0, 0, 10, 200, 700, 3000][choices.below(7)];
        let payload = format!("{serial}:{}", "x".repeat(length));
        let id = if qos > 0 { self.free_id() } else { 0 };
        let message = Message { qos, id, topic, payload, carry, verdict: None, taken: false };
        let alias = if self.version == Version::V5 { choices.below(4) } else { 0 };
        let index = self.messages.len();
        if qos > 0 {
            self.in_flight.insert(id, (index, Stage::Published));
        }
        self.messages.push(message);
        self.send(index, false, alias);
    }

    fn send(&mut self, index: usize, dup: bool, alias: usize) {
        let message = self.messages[index].clone();
        let Message { qos, id: packet_id, topic, payload, .. } = &message;
        self.note(|| format!("client publishes {packet_id} q{qos} {topic} dup {dup}"));
        let mut packet = msg(*qos, *packet_id, topic, payload);
        packet.dup = dup;
        let property;
        match u16::try_from(alias).expect("small") {
            0 => self.out.extend(packet.octets(self.version)),
            n => {
                property = [Property::TopicAlias(id(n.min(3)))];
                // Once with the topic; a topic of its own needs the alias to be told anew.
                self.out.extend(packet.with(&property).octets(self.version));
                self.aliases += 1;
            }
        }
        let id = if *qos > 0 { format!(" {packet_id}") } else { String::new() };
        let dup = if dup { " dup" } else { "" };
        let line = format!("PUBLISH{id} q{qos}{dup} {} {payload}", self.prefixed(topic));
        match message.carry {
            Carry::Flow => self.sent.push(Sent::Line(line)),
            Carry::Check => {
                let path = format!("POST /{topic}");
                self.sent.push(Sent::Checked { path, line });
            }
            Carry::Request => {}
        }
    }

    fn subscribe(&mut self, choices: &mut Choices<'_>) {
        self.serial += 1;
        let id = self.free_id();
        let filters: Vec<(String, u8)> = (0..=choices.below(4))
            .map(|n| {
                let level = u8::try_from(choices.below(3)).expect("small");
                let tree = if choices.below(3) == 0 { "f" } else { "s" };
                (format!("{tree}/{}/{n}", self.serial), level)
            })
            .collect();
        let borrowed: Vec<_> = filters.iter().map(|(filter, level)| (&**filter, *level)).collect();
        self.out.extend(subscribe(self.version, id, &borrowed));
        self.subacks.insert(id, Vec::new());
        self.sent.push(Sent::Subscribe { id, filters });
    }

    /// The broker publishes.
    fn deliver(&mut self, choices: &mut Choices<'_>) {
        self.serial += 1;
        let serial = self.serial;
        let qos = u8::try_from(choices.below(3)).expect("small");
        let id = if qos > 0 { u16::try_from(serial).expect("short") } else { 0 };
        let checked = choices.below(2) == 1;
        let topic = format!("{}/{serial}", if checked { "d" } else { "x" });
        let payload = "y".repeat([0, 5, 1000][choices.below(3)]);
        let shown = if qos > 0 { format!(" {id}") } else { String::new() };
        self.deliveries.push(Delivered {
            qos,
            id,
            line: format!("PUBLISH{shown} q{qos} {topic} {payload}"),
            path: checked.then(|| format!("GET /{topic}")),
        });
        let packet = publish(self.version, qos, id, &self.prefixed(&topic), &payload);
        self.broker_sends(&packet);
    }

    fn broker_sends(&mut self, octets: &[u8]) {
        self.note(|| format!("broker sends {:?}", super::wire::show(octets, self.version)));
        self.bench.broker(octets);
        self.hear();
    }

    fn answer(&mut self, choices: &mut Choices<'_>) {
        let open = self.bench.open();
        let Some(&stream) = open.get(choices.below(open.len().max(1))) else { return };
        let outcome = match choices.below(8) {
            0..=3 => Outcome::Status(200),
            4 => Outcome::Status(403),
            5 => Outcome::Status(404),
            6 => Outcome::Status(503),
            _ => Outcome::Reset,
        };
        self.answer_with(stream, outcome, choices.below(3) == 0);
    }

    fn answer_with(&mut self, stream: usize, outcome: Outcome, in_two: bool) {
        let Self { bench, messages, .. } = self;
        let exchange = &bench.streams[stream];
        let mut outcome = outcome;
        let mut path = format!("{} {}", exchange.method, exchange.path);
        if exchange.header("x-carry") == Some("request") {
            // Which of those with this topic can only be told by the content, once it is there.
            let Some(serial) = String::from_utf8_lossy(&exchange.body)
                .split_once(':')
                .and_then(|(serial, _)| serial.parse::<usize>().ok())
            else {
                return;
            };
            path = format!("request {serial}");
            let message = messages
                .iter_mut()
                .find(|message| message.payload.starts_with(&format!("{serial}:")))
                .expect("sent");
            assert!(!message.taken || message.qos < 2, "requested again after 2xx: {message:?}");
            message.taken |= outcome.is_allowed();
        } else if let Some(message) =
            messages.iter_mut().find(|message| format!("POST /{}", message.topic) == path)
        {
            if message.verdict.is_some_and(|verdict| !verdict.is_failed()) {
                outcome = message.verdict.unwrap_or(outcome);
            }
            message.verdict = Some(outcome);
        }
        self.note(|| format!("{path} is answered {outcome:?}"));
        let before = self.outcomes.insert(path, outcome);
        assert_eq!(before, None, "asked twice");
        self.asked += 1;
        match outcome {
            Outcome::Reset => self.bench.reset(stream),
            Outcome::Status(status) if in_two => {
                self.unfinished.push(stream);
                self.bench.respond(stream, status);
            }
            Outcome::Status(status) => self.bench.answer(stream, status),
        }
        self.hear();
    }

    /// The client loses its connection and goes on with its session.
    fn reconnect(&mut self) {
        let new = connection(&self.worker, self.setting, self.version, self.bench.now, true);
        self.note(|| "the client reconnects".to_owned());
        self.reconnects += 1;
        let old = std::mem::replace(&mut self.bench, new);
        old.hang_up();
        self.out.clear();
        self.sent.clear();
        self.outcomes.clear();
        self.unfinished.clear();
        self.at_broker.clear();
        self.at_client.clear();
        self.deliveries.clear();
        self.delivery_acks.clear();
        self.broker_owes.clear();
        self.broker_acked.clear();
        self.acked.clear();
        self.subacks.clear();
        self.begin();
        let mut again: Vec<_> = self.in_flight.values().copied().collect();
        again.sort_unstable_by_key(|(index, _)| *index);
        for (index, stage) in again {
            match stage {
                Stage::Published => self.send(index, true, 0),
                Stage::Released => self.release(index),
            }
        }
    }

    /// The client sends PUBREL.
    fn release(&mut self, index: usize) {
        let id = self.messages[index].id;
        self.in_flight.insert(id, (index, Stage::Released));
        self.out.extend(pubrel(self.version, id));
        if self.broker_has.contains(&id) {
            self.sent.push(Sent::Line(format!("PUBREL {id}")));
        }
    }

    /// Both sides read what has arrived and act on it.
    fn hear(&mut self) {
        loop {
            let before = (self.client_read, self.broker_read);
            self.client_hears();
            self.broker_hears();
            if before == (self.client_read, self.broker_read) {
                break;
            }
        }
        assert!(!self.bench.is_closed(), "the client kept to the standard");
        let open = self.bench.open().len();
        assert!(open <= self.setting.max_pending + 2, "{open} streams are open");
    }

    fn client_hears(&mut self) {
        let octets = self.bench.got[self.client_read..].to_vec();
        let (version, mut read) = (self.version, 0);
        while let Decoded::Complete { packet, consumed } =
            decode(&octets[read..], version).expect("the client gets MQTT")
        {
            read += consumed;
            self.note(|| format!("client gets {}", super::wire::line(&packet)));
            match packet {
                Packet::Publish(p) => {
                    self.at_client.push(super::wire::line(&packet));
                    match (p.packet_id, p.qos as u8) {
                        (Some(id), 1) => self.out.extend(puback(version, id.get())),
                        (Some(id), _) => self.out.extend(pubrec(version, id.get())),
                        (None, _) => {}
                    }
                }
                Packet::PubRel(p) => self.out.extend(pubcomp(version, p.packet_id.get())),
                Packet::PubAck(p) => self.acknowledge(1, p.packet_id.get(), p.reason_code),
                Packet::PubRec(p) => self.acknowledge(2, p.packet_id.get(), p.reason_code),
                Packet::PubComp(p) => {
                    let id = p.packet_id.get();
                    let stage = self.in_flight.remove(&id).map(|(_, stage)| stage);
                    assert_eq!(stage, Some(Stage::Released), "PUBCOMP {id}");
                }
                Packet::SubAck(p) => {
                    let codes: Vec<u8> = p.reason_codes.iter().map(|code| code.0).collect();
                    let known = self.subacks.insert(p.packet_id.get(), codes);
                    assert_eq!(known, Some(vec![]), "one SUBACK for each SUBSCRIBE");
                }
                other => panic!("the client got {other:?}"),
            }
        }
        self.client_read += read;
    }

    /// The client gets PUBACK or PUBREC.
    fn acknowledge(&mut self, qos: u8, id: u16, code: ReasonCode) {
        let (index, stage) = *self.in_flight.get(&id).expect("for a message in flight");
        assert_eq!(stage, Stage::Published);
        let message = &self.messages[index];
        assert_eq!(message.qos, qos);
        assert!(self.acked.insert((qos, id)) || message.taken, "acknowledged twice: {message:?}");
        let outcome = match message.carry {
            Carry::Flow => None,
            Carry::Check => self
                .outcomes
                .get(&format!("POST /{}", message.topic))
                .copied()
                .or(message.verdict.filter(|_| qos == 2)),
            Carry::Request => {
                let serial = message.payload.split(':').next().expect("a serial");
                let outcome = self.outcomes.get(&format!("request {serial}")).copied();
                let before = Some(Outcome::Status(200)).filter(|_| message.taken && qos == 2);
                // 3.1.1 is told of a refusal as of a success, also once more.
                Some(outcome.or(before).or(message.verdict).expect("an answer before the ack"))
            }
        };
        let outcome =
            outcome.filter(|outcome| message.carry == Carry::Request || !outcome.is_allowed());
        match outcome {
            Some(outcome) if self.version == Version::V5 => {
                assert_eq!(code.0, outcome.ack(), "{message:?}");
            }
            Some(outcome) => assert!(!outcome.is_failed(), "a failure acknowledged: {message:?}"),
            None => assert!(self.broker_acked.contains(&(qos, id)), "unasked: {message:?}"),
        }
        if let (Carry::Request, Some(outcome)) = (message.carry, outcome) {
            self.messages[index].verdict = Some(outcome);
        }
        self.acknowledged += 1;
        // A free identifier begins anew.
        if qos == 1 || code.is_error() {
            self.in_flight.remove(&id);
            self.acked.remove(&(qos, id));
        } else {
            self.release(index);
            self.acked.remove(&(qos, id));
        }
    }

    fn broker_hears(&mut self) {
        let octets = self.bench.session_stream().body[self.broker_read..].to_vec();
        let (version, mut read) = (self.version, 0);
        while let Decoded::Complete { packet, consumed } =
            decode(&octets[read..], version).expect("the broker gets MQTT")
        {
            read += consumed;
            self.note(|| format!("broker gets {}", super::wire::line(&packet)));
            match packet {
                Packet::PubAck(p) => self.count_delivery_ack(4, p.packet_id.get()),
                Packet::PubRec(p) => {
                    self.count_delivery_ack(5, p.packet_id.get());
                    self.broker_owes.push(pubrel(version, p.packet_id.get()));
                }
                Packet::PubComp(p) => self.count_delivery_ack(7, p.packet_id.get()),
                // Its PUBCOMP was lost with a connection.
                Packet::PubRel(p) if !self.broker_has.contains(&p.packet_id.get()) => {
                    assert!(self.reconnects > 0, "{packet:?} of a handshake it has not");
                }
                _ => self.at_broker.push(super::wire::line(&packet)),
            }
            match packet {
                Packet::Publish(p) => match (p.packet_id, p.qos as u8) {
                    (Some(id), 1) => self.owe(1, id.get(), puback(version, id.get())),
                    (Some(id), _) => {
                        self.broker_has.insert(id.get());
                        self.owe(2, id.get(), pubrec(version, id.get()));
                    }
                    (None, _) => {}
                },
                Packet::PubRel(p) => {
                    let id = p.packet_id.get();
                    self.broker_has.remove(&id);
                    self.broker_owes.push(pubcomp(version, id));
                }
                Packet::Subscribe(p) => {
                    let codes: Vec<u8> = p.subscriptions.iter().map(|s| s.qos as u8).collect();
                    self.broker_owes.push(suback(version, p.packet_id.get(), &codes));
                }
                _ => {}
            }
        }
        self.broker_read += read;
    }

    fn owe(&mut self, qos: u8, id: u16, octets: Vec<u8>) {
        self.broker_acked.insert((qos, id));
        self.broker_owes.push(octets);
    }

    fn count_delivery_ack(&mut self, packet_type: u8, id: u16) {
        *self.delivery_acks.entry((packet_type, id)).or_default() += 1;
    }

    /// What the broker is to get of what the client sent, as far as it is decided.
    fn expected_at_broker(&self) -> Vec<String> {
        let mut expected = Vec::new();
        for sent in &self.sent {
            match sent {
                Sent::Line(line) => expected.push(line.clone()),
                Sent::Checked { path, line } => match self.outcome(path, line) {
                    None => break,
                    Some(outcome) if outcome.is_allowed() => expected.push(line.clone()),
                    Some(_) => {}
                },
                Sent::Subscribe { id, filters } => {
                    let verdicts: Option<Vec<bool>> = filters
                        .iter()
                        .map(|(filter, _)| self.place(filter).map(|code| code.is_none()))
                        .collect();
                    let Some(verdicts) = verdicts else { break };
                    let allowed: String = filters
                        .iter()
                        .zip(&verdicts)
                        .filter(|(_, allowed)| **allowed)
                        .map(|((filter, level), _)| format!(" {}:{level}", self.prefixed(filter)))
                        .collect();
                    if !allowed.is_empty() {
                        expected.push(format!("SUBSCRIBE {id}{allowed}"));
                    }
                }
            }
        }
        expected
    }

    /// What was said about a checked message of the client's.
    fn outcome(&self, path: &str, line: &str) -> Option<Outcome> {
        let now = self.outcomes.get(path).copied();
        // At QoS 2 a message that MQTT 3.1.1 was told is taken is not asked about again.
        let resent = line.contains(" q2 dup ") && self.version == Version::V311;
        let before = self.messages.iter().find(|m| format!("POST /{}", m.topic) == path);
        now.or_else(|| {
            before.and_then(|m| m.verdict).filter(|v| resent && !v.is_allowed() && !v.is_failed())
        })
    }

    /// A topic filter's code, if it is decided about; `Some(None)` is the broker's.
    fn place(&self, filter: &str) -> Option<Option<u8>> {
        if filter.starts_with("f/") {
            return Some(None);
        }
        let outcome = *self.outcomes.get(&format!("GET /{filter}"))?;
        Some(match outcome {
            _ if outcome.is_allowed() => None,
            _ if self.version == Version::V311 => Some(0x80),
            Outcome::Status(404) => Some(0x8F),
            _ => Some(outcome.ack()),
        })
    }

    fn check(&self, finally: bool) {
        let expected = self.expected_at_broker();
        if finally {
            assert_eq!(self.at_broker, expected);
        } else {
            assert!(
                expected.starts_with(&self.at_broker),
                "at the broker {:#?}, expected {expected:#?}",
                self.at_broker
            );
        }
        let mut to_client = Vec::new();
        for delivery in &self.deliveries {
            let outcome = delivery.path.as_ref().map(|path| self.outcomes.get(path));
            match outcome {
                None => to_client.push(delivery.line.clone()),
                Some(None) => break,
                Some(Some(outcome)) if outcome.is_allowed() => {
                    to_client.push(delivery.line.clone())
                }
                Some(Some(_)) => {}
            }
        }
        if finally {
            assert_eq!(self.at_client, to_client);
        } else {
            assert!(to_client.starts_with(&self.at_client));
        }
        assert!(self.delivery_acks.values().all(|n| *n == 1), "{:?}", self.delivery_acks);
        if finally {
            self.check_ends();
        }
    }

    fn check_ends(&self) {
        for delivery in &self.deliveries {
            let types: &[u8] = match delivery.qos {
                0 => &[],
                1 => &[4],
                _ => &[5, 7],
            };
            for packet_type in types {
                let acks = self.delivery_acks.get(&(*packet_type, delivery.id));
                assert_eq!(acks, Some(&1), "{packet_type} for {delivery:?}");
            }
        }
        for sent in &self.sent {
            if let Sent::Subscribe { id, filters } = sent {
                let codes: Vec<u8> = filters
                    .iter()
                    .map(|(filter, level)| self.place(filter).expect("decided").unwrap_or(*level))
                    .collect();
                assert_eq!(self.subacks.get(id), Some(&codes));
            }
        }
        for (index, _) in self.in_flight.values() {
            let message = &self.messages[*index];
            let failed = message.carry != Carry::Flow && self.version == Version::V311;
            assert!(failed, "never acknowledged: {message:?}");
        }
        assert!(self.bench.socket.is_empty() && self.bench.bridge.accepts_native());
        assert_eq!(self.bench.open(), [0; 0]);
    }

    /// Everybody says what they have to say.
    fn drain(&mut self) {
        for round in 0..100_000 {
            let out = std::mem::take(&mut self.out);
            self.bench.client(&out);
            self.hear();
            let mut idle = self.out.is_empty();
            for stream in std::mem::take(&mut self.unfinished) {
                self.bench.finish(stream);
                self.hear();
                idle = false;
            }
            for owed in std::mem::take(&mut self.broker_owes) {
                self.broker_sends(&owed);
                idle = false;
            }
            for stream in self.bench.open() {
                let before = self.asked;
                let outcome = match round % 5 {
                    1 => Outcome::Status(403),
                    _ => Outcome::Status(200),
                };
                self.answer_with(stream, outcome, false);
                idle &= before == self.asked;
            }
            if idle && self.bench.bridge.next_step().deadline.is_some() {
                self.bench.pass(Duration::from_millis(100));
                idle = false;
            }
            if idle {
                return;
            }
        }
        panic!("the session does not come to rest");
    }
}

fn connection(
    worker: &Worker,
    setting: &Setting,
    version: Version,
    now: Duration,
    present: bool,
) -> Bench {
    let mut server = h2::server::Builder::new();
    if let Some(streams) = setting.streams {
        server.max_concurrent_streams(streams);
    }
    let bench = worker.connect_to(&server, now);
    bench.establish(&reconnect(version, "c1"), version, &connack(version, present))
}
