//! Random clients, servers and connection managers, and what holds whatever they do: nobody panics, tables are
//! bounded, a query has one answer, which is its own, nothing that was not let pass reaches a server, and when
//! there is nothing left to wait for, nothing is left.

use std::collections::{HashMap, HashSet};

use bridge::Peer;
use bridge::metrics::Registry;
use codec_dns::{Flags, Opcode, Rcode, RecordType};

use super::message::{Msg, query, record, soa};
use super::native::{Https, Native, Tcp, Udp, capsule};
use super::{Bench, LIMITS, Worker, millis, seconds};

/// Octets as choices.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of so many; the first one when there is nothing left to choose by.
    pub fn below(&mut self, most: usize) -> usize {
        let (first, rest) =
            self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        usize::from(first) % most
    }

    pub fn octets(&mut self, most: usize) -> &'a [u8] {
        let n = self.below(most + 1).min(self.0.len());
        let (now, later) = self.0.split_at(n);
        self.0 = later;
        now
    }

    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

const MAX_FLOWS: usize = 2;
const MAX_OUTSTANDING: usize = 8;
const MAX_PIPELINED: usize = 3;

/// Flows for each zone and one for the rest, over UDP and TCP, of each of three clients.
const MOST_FLOWS: usize = MAX_FLOWS * 2 * 2 * 3;

/// What the configuration has besides; whether it has queries end without an answer.
const MORE: [(&str, bool); 8] = [
    ("", false),
    (r#""cache": {"stale": "60s", "prefetch_percent": 50, "prefetch_hits": 1}"#, false),
    (
        r#""cache": {"max_size": 4096, "failure_ttl": "1s"}, "client_subnet": {"action": "replace"}"#,
        false,
    ),
    (r#""upstream": "tcp", "too_many_requests": "truncate""#, false),
    (r#""upstream": "udp", "too_many_requests": "drop", "max_udp_size": 512"#, true),
    (r#""flow_key": "client", "malformed": "drop", "max_query_size": 512"#, false),
    (r#""rate_limits": [{"queries": {"per_second": 3}, "exceeded": "drop"}], "cache": {}"#, true),
    (
        r#""rate_limits": [{"queries": {"per_second": 9}, "rcodes": ["NXDOMAIN"], "block": "3s"}]"#,
        false,
    ),
];

/// Names of queries: `c` is checked, `v` as well but not each time, `r` requested.
const NAMES: [&str; 12] = [
    "a.example.",
    "b.example.",
    "example.",
    ".",
    "one.test.",
    "two.test.",
    "x.c.",
    "y.c.",
    "x.v.",
    "x.r.",
    "y.r.",
    "no.answer.",
];

const ADDRESSES: [&str; 3] = ["192.0.2.1:7", "192.0.2.1:8", "198.51.100.2:7"];

const TYPES: [RecordType; 5] =
    [RecordType::A, RecordType::A, RecordType::TXT, RecordType(65_280), RecordType::ANY];

const STATUS: [u16; 8] = [200, 204, 304, 403, 404, 429, 500, 504];

/// Clients of one of the transports.
pub trait Clients: Native {
    const TRANSPORT: &'static str;
    /// One that asks on any of these places, to keep them few.
    const PLACES: usize;

    /// A new client. Where it asks.
    fn client(bench: &mut Bench<Self>, address: &'static str) -> usize;
    /// A client asks, if it may. Where the answer is to come.
    fn ask(bench: &mut Bench<Self>, place: usize, octets: &[u8]) -> Option<usize>;
    fn answers(bench: &mut Bench<Self>, place: usize) -> Vec<Vec<u8>>;
    /// Whether there is nobody any more.
    fn is_gone(bench: &Bench<Self>, place: usize) -> bool;
    fn leave(bench: &mut Bench<Self>, place: usize, how: usize);
    /// Any octets on the native side.
    fn garble(bench: &mut Bench<Self>, place: usize, octets: &[u8]);
}

impl Clients for Udp {
    const TRANSPORT: &'static str = "udp";
    const PLACES: usize = 4;

    fn client(bench: &mut Bench<Self>, address: &'static str) -> usize {
        bench.client(address)
    }

    fn ask(bench: &mut Bench<Self>, place: usize, octets: &[u8]) -> Option<usize> {
        bench.datagram(place, octets);
        Some(place)
    }

    fn answers(bench: &mut Bench<Self>, place: usize) -> Vec<Vec<u8>> {
        bench.got_octets(place)
    }

    fn is_gone(bench: &Bench<Self>, place: usize) -> bool {
        bench.is_over(place)
    }

    fn leave(bench: &mut Bench<Self>, place: usize, how: usize) {
        if how == 0 { bench.end_session(place) } else { bench.reset_session(place) }
    }

    fn garble(bench: &mut Bench<Self>, place: usize, octets: &[u8]) {
        bench.session_octets(place, octets);
    }
}

impl Clients for Tcp {
    const TRANSPORT: &'static str = "tcp";
    const PLACES: usize = 1;

    fn client(_: &mut Bench<Self>, _: &'static str) -> usize {
        0
    }

    fn ask(bench: &mut Bench<Self>, _: usize, octets: &[u8]) -> Option<usize> {
        bench.message(octets);
        Some(0)
    }

    fn answers(bench: &mut Bench<Self>, _: usize) -> Vec<Vec<u8>> {
        bench.got_octets()
    }

    fn is_gone(bench: &Bench<Self>, _: usize) -> bool {
        bench.is_closed()
    }

    fn leave(bench: &mut Bench<Self>, _: usize, _: usize) {
        bench.end();
    }

    fn garble(bench: &mut Bench<Self>, _: usize, octets: &[u8]) {
        bench.octets(octets);
    }
}

impl Clients for Https {
    const TRANSPORT: &'static str = "https";
    const PLACES: usize = usize::MAX;

    fn client(_: &mut Bench<Self>, _: &'static str) -> usize {
        0
    }

    fn ask(bench: &mut Bench<Self>, _: usize, octets: &[u8]) -> Option<usize> {
        let headers =
            [("content-type", "application/dns-message"), ("x-forwarded-for", "192.0.2.1")];
        bench.has_room().then(|| bench.request("POST", "/dns-query", &headers, octets))
    }

    fn answers(bench: &mut Bench<Self>, place: usize) -> Vec<Vec<u8>> {
        bench.take_content(place).into_iter().collect()
    }

    fn is_gone(_: &Bench<Self>, _: usize) -> bool {
        false
    }

    fn leave(bench: &mut Bench<Self>, place: usize, _: usize) {
        bench.cancel(place);
    }

    fn garble(bench: &mut Bench<Self>, _: usize, octets: &[u8]) {
        if bench.has_room() {
            bench.request("POST", "/", &[("content-type", "application/dns-message")], octets);
        }
    }
}

/// What was asked with one ID in one place, and what was answered.
#[derive(Debug, Default)]
struct Counts {
    asked: usize,
    answered: usize,
    /// How many have to have an answer.
    sure: usize,
    /// By question: asked, and answered with it.
    by_question: HashMap<Option<String>, (usize, usize)>,
}

pub struct Model<N: Clients> {
    worker: Worker,
    bench: Bench<N>,
    /// Where clients ask.
    places: Vec<usize>,
    /// By where a client asks and by ID.
    counts: HashMap<(usize, u16), Counts>,
    /// Some queries end without an answer.
    may_be_silent: bool,
    /// Names of queries whose checks have passed.
    passed: HashSet<String>,
    /// What the servers were asked and have not answered.
    asked: Vec<(usize, Msg)>,
    /// IDs that were seen in a flow.
    ids: HashSet<(usize, u16)>,
    /// A client has sent what ends a connection.
    is_garbled: bool,
}

/// Chooses the transport, and runs.
pub fn run(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    match choices.below(4) {
        0 => Model::<Tcp>::run(choices, "tcp"),
        1 => Model::<Tcp>::run(choices, "tls"),
        2 => Model::<Https>::run(choices, Https::TRANSPORT),
        _ => Model::<Udp>::run(choices, Udp::TRANSPORT),
    }
}

fn key_of(message: &Msg) -> Option<String> {
    let question = message.questions.first()?;
    let name = question.name.to_ascii_lowercase();
    Some(format!("{name} {} {}", question.record_type, question.class))
}

/// The address that belongs to a name.
fn address_of(name: &str) -> u8 {
    let found = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
    found.map_or(255, |index| index as u8)
}

impl<N: Clients> Model<N> {
    pub fn run(mut choices: Choices<'_>, transport: &str) {
        let (more, may_be_silent) = choices.one_of(&MORE);
        let comma = if more.is_empty() { "" } else { ", " };
        let worker = Worker::new(&format!(
            r#"{{"transport": "{transport}", "max_flows": {MAX_FLOWS}, "zones": [{{"zone": "test"}}],
            "max_outstanding": {MAX_OUTSTANDING}, "max_pipelined": {MAX_PIPELINED}, "retry_after": "0.3s",
            "response_timeout": "1s", "flow_lifetime": "3s", "idle_timeout": "2s", "rules": [
                {{"types": ["ANY"], "answer": "minimal"}},
                {{"zones": ["c"], "carry": "check"}},
                {{"zones": ["v"], "carry": "check", "verdict_cache": "2s"}},
                {{"zones": ["r"], "carry": "request"}},
                {{"zones": ["answer"], "answer": "drop"}}]{comma}{more}}}"#
        ));
        let bench = worker.connect::<N>();
        let mut model = Self {
            worker,
            bench,
            places: Vec::new(),
            counts: HashMap::new(),
            may_be_silent,
            passed: HashSet::new(),
            asked: Vec::new(),
            ids: HashSet::new(),
            is_garbled: false,
        };
        while !choices.is_empty() {
            model.step(&mut choices);
            model.check();
        }
        model.end();
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        if self.bench.is_closed() {
            self.again();
        }
        match choices.below(20) {
            0..=6 => self.query(choices),
            7 => {
                let octets = choices.octets(60).to_vec();
                self.ask(choices, &octets, false);
            }
            8..=11 if !self.asked.is_empty() => self.server(choices),
            12 if !self.bench.streams().is_empty() => {
                let stream = choices.below(self.bench.streams().len());
                let octets = choices.octets(40).to_vec();
                match choices.below(5) {
                    0 => self.bench.finish(stream),
                    1 => self.bench.reset(stream),
                    2 => self.bench.content(stream, &capsule(&octets)),
                    3 => self.bench.content(stream, &super::message::framed(&octets)),
                    _ => self.bench.content(stream, &octets),
                }
            }
            13..=15 => self.respond(choices),
            16 => self.bench.pass(millis(20 << choices.below(9))),
            17 => self.bench.manager.accepts = choices.below(3) > 0,
            18 if choices.below(3) == 0 && !self.places.is_empty() => {
                let place = self.places.swap_remove(choices.below(self.places.len()));
                self.is_garbled = true;
                match choices.below(3) {
                    2 => N::garble(&mut self.bench, place, choices.octets(20)),
                    how => N::leave(&mut self.bench, place, how),
                }
                // It may have asked something, and does not care about answers.
                self.look();
                self.places.retain(|other| *other != place);
                self.counts.retain(|(other, _), _| *other != place);
                if N::PLACES == 1 {
                    self.again();
                } else if !N::is_gone(&self.bench, place) {
                    N::leave(&mut self.bench, place, 0);
                }
            }
            19 if choices.below(6) == 0 => self.again(),
            _ => {}
        }
    }

    /// Where a client asks: an old place, or a new one.
    fn place(&mut self, choices: &mut Choices<'_>) -> usize {
        self.look();
        self.places.retain(|place| !N::is_gone(&self.bench, *place));
        let which = choices.below(N::PLACES.min(4));
        if let Some(place) = self.places.get(which) {
            return *place;
        }
        let place = N::client(&mut self.bench, choices.one_of(&ADDRESSES));
        self.places.push(place);
        place
    }

    fn ask(&mut self, choices: &mut Choices<'_>, octets: &[u8], has_answer: bool) {
        let place = self.place(choices);
        if N::is_gone(&self.bench, place) {
            return;
        }
        let Some(place) = N::ask(&mut self.bench, place, octets) else { return };
        if !self.places.contains(&place) {
            self.places.push(place);
        }
        // What has no header, or is too long, ends a connection over TCP.
        self.is_garbled |= !(12..=512).contains(&octets.len());
        let Some(id) = octets.first_chunk() else { return };
        let question = Msg::try_decode(octets).and_then(|message| key_of(&message));
        let counts = self.counts.entry((place, u16::from_be_bytes(*id))).or_default();
        counts.asked += 1;
        counts.sure += usize::from(has_answer && !self.may_be_silent);
        counts.by_question.entry(question).or_default().0 += 1;
    }

    fn query(&mut self, choices: &mut Choices<'_>) {
        let id = choices.below(6) as u16 * 0x1111;
        let name = choices.one_of(&NAMES);
        let name = if choices.below(3) == 0 { name.to_ascii_uppercase() } else { name.to_owned() };
        let mut question = query(id, &name, choices.one_of(&TYPES));
        let mut has_answer = !name.eq_ignore_ascii_case("no.answer.");
        match choices.below(16) {
            0..=3 => question = question.edns([0, 512, 1232, 4096][choices.below(4)]),
            4 => question = question.edns(1232).dnssec().opt(codec_dns::OptionCode::PADDING, &[0]),
            5 => question = question.edns(1232).subnet([192, 0, 2], 0),
            6 => question = question.opt(codec_dns::OptionCode::COOKIE, b"client-1"),
            7 => {
                question = question.edns(1232);
                question.edns.as_mut().unwrap().version = 1;
            }
            8 => {
                question.flags = question.flags.with_opcode(choices.one_of(&[
                    Opcode::NOTIFY,
                    Opcode::UPDATE,
                    Opcode(9),
                ]))
            }
            9 => {
                (question.flags, has_answer) = (question.flags.with(Flags::QR), false);
            }
            10 => question = question.opt(codec_dns::OptionCode::TCP_KEEPALIVE, b""),
            11 => question = question.class(3),
            12 => question.questions[0].record_type = RecordType::AXFR,
            13 => {
                // Too long for some.
                question = question.opt(codec_dns::OptionCode(65_001), &[7; 520]);
                has_answer = false;
            }
            _ => {}
        }
        self.ask(choices, &question.octets(), has_answer);
    }

    /// What a server says to a query.
    fn answer(choices: &mut Choices<'_>, query: &Msg) -> Msg {
        let name = query.name().to_owned();
        match choices.below(8) {
            0 => query.reply(Rcode::NXDOMAIN).authority(soa("example", 60, 60)),
            1 => query.reply(Rcode::SERVFAIL),
            2 => query.reply(Rcode::NOERROR).set(Flags::TC),
            3 => Msg { questions: Vec::new(), ..query.reply(Rcode::FORMERR) },
            4 => {
                let len = 100 + choices.below(256) * 40;
                let text = vec![b'x'; 200];
                let mut answer = query.reply(Rcode::NOERROR);
                while answer.octets().len() < len {
                    let data = [&[200][..], &text].concat();
                    answer = answer.answer(record(&name, RecordType::TXT, 60, &data));
                }
                answer
            }
            _ => query.address([0, 1, 60][choices.below(3)], address_of(&name)),
        }
    }

    /// A server answers, or says something else.
    fn server(&mut self, choices: &mut Choices<'_>) {
        let (flow, query) = self.asked.remove(choices.below(self.asked.len()));
        let answer = Self::answer(choices, &query);
        match choices.below(8) {
            0 => {
                // Another question.
                let evil = a_evil(query.id);
                self.bench.server(flow, &evil);
                self.asked.push((flow, query));
            }
            1 => {
                // Another ID.
                let unseen = |id: &u16| !self.ids.contains(&(flow, *id));
                if let Some(id) = (0..=u16::MAX).find(unseen) {
                    self.bench.server(flow, &query.address(60, 254).with_id(id));
                }
                self.asked.push((flow, query));
            }
            2 => {
                let mut octets = answer.octets();
                octets.truncate(choices.below(octets.len()));
                self.bench.server_octets(flow, &octets);
            }
            3 => {
                self.bench.server(flow, &answer);
                self.bench.server(flow, &answer);
            }
            _ => self.bench.server(flow, &answer),
        }
    }

    /// A check or request is answered, or a flow that waits for its status.
    fn respond(&mut self, choices: &mut Choices<'_>) {
        let streams = self.bench.streams();
        let is_open = |index: &usize| !streams[*index].answered && !streams[*index].is_reset();
        let open: Vec<_> = (0..streams.len()).filter(is_open).collect();
        if open.is_empty() {
            return;
        }
        let index = choices.one_of(&open);
        let stream = &self.bench.streams()[index];
        let status = choices.one_of(&STATUS);
        let carry = stream.carry().to_owned();
        let query = (carry == "request").then(|| Msg::try_decode(&stream.body)).flatten();
        if carry == "check" && (200..300).contains(&status) {
            let name = stream.header("x-dns-qname").expect("a name").to_owned();
            self.passed.insert(name);
        }
        let kind = ("content-type", choices.one_of(&["text/plain", "application/dns-message"]));
        let reply = query.map(|query| Self::answer(choices, &query));
        match (choices.below(5), reply) {
            (0, _) if carry != "flow" => {
                self.bench.respond(index, status, &[kind]);
                self.bench.content(index, choices.octets(30));
            }
            (1, Some(_)) => {
                self.bench.respond_with(index, 200, &[kind], &a_evil(0).octets());
            }
            (2.., Some(reply)) => {
                let headers = [kind, ("age", "3")];
                self.bench.respond_with(index, 200, &headers, &reply.octets());
            }
            (_, _) if carry == "flow" && status < 300 => self.bench.respond(index, 200, &[]),
            _ => self.bench.respond_with(index, status, &[kind], b"why"),
        }
    }

    /// The connection ends, and another one begins.
    fn again(&mut self) {
        self.look();
        if self.bench.is_closed() && !self.is_garbled {
            // It was not the client that went away: nothing has been forgotten.
            self.assert_answered();
        }
        self.is_garbled = false;
        self.bench.bridge.handle_close(Peer::Native);
        assert_idle(&self.worker.registry);
        self.bench = self.worker.connect_at::<N>(&LIMITS, self.bench.now);
        self.counts.clear();
        self.places.clear();
        self.asked.clear();
        self.ids.clear();
        // What was let pass may be in the cache, and in the memory of verdicts.
    }

    /// Looks at what the clients and the servers got.
    fn look(&mut self) {
        for place in self.places.clone() {
            for octets in N::answers(&mut self.bench, place) {
                self.answered(place, &octets);
            }
        }
        for (flow, message) in self.bench.servers_got() {
            let name = message.questions.first().map_or("", |question| &question.name);
            let name = name.to_ascii_lowercase();
            let plain = name.trim_end_matches('.');
            let is_checked = plain.ends_with(".c") || plain.ends_with(".v");
            assert!(!is_checked || self.passed.contains(plain), "{name} was not let pass");
            let is_asked = !(plain.ends_with(".r") || name == "no.answer.");
            assert!(is_asked, "{name} does not travel in flows");
            self.ids.insert((flow, message.id));
            if self.asked.len() < 40 {
                self.asked.push((flow, message));
            }
        }
    }

    /// A client got an answer.
    fn answered(&mut self, place: usize, octets: &[u8]) {
        let answer = Msg::decode(octets);
        assert!(answer.flags.is_response(), "{answer:?}");
        let Some(counts) = self.counts.get_mut(&(place, answer.id)) else {
            panic!("{answer:?} to nobody's question");
        };
        if answer.questions.first().is_some_and(|asked| asked.record_type == RecordType::AXFR) {
            // A transfer has as many messages as its server sends.
            counts.sure = counts.sure.saturating_sub(1);
            return;
        }
        counts.answered += 1;
        assert!(counts.answered <= counts.asked, "{answer:?} is one too many");
        // Some errors have nothing but a header.
        if let Some(question) = key_of(&answer) {
            let (asked, answered) = counts.by_question.entry(Some(question)).or_default();
            *answered += 1;
            assert!(answered <= asked, "{answer:?} to nobody's question, or twice");
        }
        for record in &answer.records[0] {
            if record.record_type == RecordType::A {
                let own = [192, 0, 2, address_of(&record.name)];
                assert_eq!(record.data, own, "{answer:?} is another name's");
            }
        }
        if N::TRANSPORT == "udp" {
            assert!(octets.len() <= 1232, "{} octets over UDP", octets.len());
        }
    }

    fn check(&mut self) {
        self.look();
        let flows = self.bench.gauge("dns_flows_active");
        assert!((0..=MOST_FLOWS as i64).contains(&flows), "{flows} flows");
        let outstanding = self.bench.gauge("dns_outstanding");
        assert!((0..=MAX_OUTSTANDING as i64).contains(&outstanding), "{outstanding} queries");
        if N::PLACES == 1 {
            assert!(outstanding <= MAX_PIPELINED as i64 + 5, "{outstanding} of one client");
        }
        let sessions = self.bench.gauge("udp_sessions_active");
        assert!((0..=60).contains(&sessions), "{sessions} sessions");
    }

    fn assert_answered(&self) {
        for (place, counts) in &self.counts {
            assert!(counts.answered >= counts.sure, "no answer: {place:?} {counts:?}");
        }
    }

    /// When all is answered or given up, there is nothing left but what the clients have.
    fn end(mut self) {
        for _ in 0..60 {
            if self.bench.is_closed() {
                self.again();
            }
            self.bench.pass(seconds(2));
            self.look();
        }
        assert_eq!(self.bench.gauge("dns_outstanding"), 0);
        assert_eq!(self.bench.gauge("udp_sessions_active"), 0);
        self.assert_answered();
        self.bench.bridge.handle_close(Peer::Native);
        assert_idle(&self.worker.registry);
    }
}

/// When all connections have ended, nothing is open.
pub fn assert_idle(registry: &Registry) {
    for gauge in ["dns_outstanding", "dns_flows_active", "udp_sessions_active"] {
        assert_eq!(registry.gauge(gauge, &[]).value(), 0, "{gauge}");
    }
}

/// An answer to what nobody asked.
fn a_evil(id: u16) -> Msg {
    query(id, "evil.example", RecordType::A).address(60, 254)
}
