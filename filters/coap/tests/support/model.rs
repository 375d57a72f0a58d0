//! Random sessions over UDP, and what holds in all of them: nobody panics, tables are bounded, nothing
//! malformed reaches a server, a request has one answer, and when nothing is left to wait for, the session
//! ends.

use std::collections::{HashMap, HashSet};

use codec_coap::{Code, MessageType, OptionNumber};

use super::message::{Msg, con, non};
use super::{ANNA, Bench, Worker, millis, rules, seconds};

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
}

const MAX_FLOWS: usize = 2;
const MAX_OUTSTANDING: usize = 6;
const MAX_OBSERVATIONS: usize = 2;

const MORE: [&str; 5] = [
    "",
    r#""amplification_factor": 3"#,
    r#""max_transfers": 1, "max_transfer_memory": 2000, "block_size": 16"#,
    r#""flow_key": "session", "max_remembered_size": 100"#,
    r#""rate_limits": [{"messages": {"per_second": 3}}], "max_message_size": 200"#,
];

const PATHS: [&str; 8] = ["a", "b/x", "d", "c/1", "v/1", "r/1", "r/2", "rd"];

const STATUS: [u16; 8] = [200, 204, 304, 403, 404, 429, 500, 503];

pub struct Model {
    worker: Worker,
    /// Answers are too large to be remembered after the session.
    forgets: bool,
    bench: Bench,
    next: u16,
    /// All datagrams that the client sent.
    sent: HashSet<Vec<u8>>,
    /// The last requests.
    requests: Vec<Msg>,
    /// The requests, by token, that may have one answer.
    once: HashSet<Vec<u8>>,
    /// What the client got by token.
    answers: HashMap<Vec<u8>, HashSet<Vec<u8>>>,
    /// What the servers were asked and have not answered, by stream.
    asked: Vec<(usize, Msg)>,
    /// What the client may acknowledge.
    to_acknowledge: Vec<Msg>,
    server_id: u16,
    /// A server has sent what may be no message.
    is_garbled: bool,
}

impl Model {
    pub fn run(octets: &[u8]) {
        let mut choices = Choices::new(octets);
        let more = MORE[choices.below(MORE.len())];
        let comma = if more.is_empty() { "" } else { ", " };
        let worker = Worker::new(&rules(&format!(
            r#"{more}{comma}"max_flows": {MAX_FLOWS}, "max_outstanding": {MAX_OUTSTANDING},
            "max_observations": {MAX_OBSERVATIONS}"#
        )));
        let bench = worker.session(ANNA, seconds(0));
        let mut model = Self {
            worker,
            forgets: more.contains("max_remembered_size"),
            bench,
            next: 0,
            sent: HashSet::new(),
            requests: Vec::new(),
            once: HashSet::new(),
            answers: HashMap::new(),
            asked: Vec::new(),
            to_acknowledge: Vec::new(),
            server_id: 40_000,
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
            0..=5 => self.request(choices),
            6 if !self.requests.is_empty() => {
                // A duplicate, or an old one that was late.
                let request = self.requests[choices.below(self.requests.len())].clone();
                // What a server answers twice is its own business, and refusals that cost nothing are
                // not remembered.
                let refusals = [Code::TOO_MANY_REQUESTS, Code::REQUEST_ENTITY_TOO_LARGE];
                let is_refused = self.answers.get(&request.token).is_some_and(|answers| {
                    answers.iter().any(|it| refusals.contains(&Msg::decode(it, false).code))
                });
                if is_refused || !is_http(&request) {
                    self.once.remove(&request.token);
                }
                self.bench.client(&request);
            }
            7 => {
                let octets = choices.octets(40).to_vec();
                self.bench.datagram(&octets);
                // It may have been a request, or an acknowledgement, of any token.
                self.once.clear();
                self.sent.insert(octets);
            }
            8 | 9 if !self.to_acknowledge.is_empty() => {
                let message = self.to_acknowledge.remove(choices.below(self.to_acknowledge.len()));
                let answer =
                    if choices.below(4) == 0 { message.reject() } else { message.acknowledge() };
                self.send(&answer);
            }
            10..=12 if !self.asked.is_empty() => self.server(choices),
            13 if !self.bench.streams.is_empty() => {
                let stream = choices.below(self.bench.streams.len());
                if self.bench.streams[stream].is_flow() {
                    // Nobody knows what such a server answers.
                    self.once.clear();
                    self.is_garbled = true;
                    let octets = choices.octets(40).to_vec();
                    match choices.below(4) {
                        0 => self.bench.finish(stream),
                        1 => self.bench.reset(stream),
                        2 => self.bench.content(stream, &super::message::capsule(&octets)),
                        _ => self.bench.content(stream, &octets),
                    }
                } else {
                    match choices.below(3) {
                        0 if self.bench.streams[stream].answered => self.bench.finish(stream),
                        0 | 1 => self.bench.reset(stream),
                        _ => self.bench.content(stream, b"data: more\n\n"),
                    }
                }
            }
            14..=16 => self.answer(choices),
            17 => self.bench.pass(millis(50 << choices.below(10))),
            18 => self.bench.piece = [usize::MAX, 1, 5, 40][choices.below(4)],
            19 if choices.below(4) == 0 => self.again(),
            _ => {}
        }
    }

    fn send(&mut self, message: &Msg) {
        self.sent.insert(message.octets());
        self.bench.client(message);
    }

    fn request(&mut self, choices: &mut Choices<'_>) {
        self.next += 1;
        let code = [Code::GET, Code::POST, Code::PUT, Code::FETCH][choices.below(4)];
        let path = PATHS[choices.below(PATHS.len())];
        let mut request = con(code, self.next).token(&self.next.to_be_bytes()).path(path);
        if choices.below(4) == 0 {
            request = request.non();
        }
        let kind = choices.below(12);
        request = match kind {
            0 => request.observe(u32::from(choices.below(4) == 0)),
            1 => {
                let (num, more) = (choices.below(4), choices.below(3) > 0);
                let len = if more { 16 } else { choices.below(17) };
                request.block1(u32::try_from(num).unwrap(), more, 0).payload(vec![1; len])
            }
            2 => request.block2(u32::try_from(choices.below(4)).unwrap(), false, 0),
            3 => request.opt(OptionNumber::NO_RESPONSE, 1 << choices.below(5)),
            4 => request.opt(OptionNumber(65_001), &b"critical"[..]),
            5 => request
                .opt(OptionNumber::URI_QUERY, "ep=name")
                .opt(OptionNumber::URI_QUERY, "lt=60"),
            6 => request.payload(vec![7; choices.below(256)]),
            _ => request,
        };
        if kind != 0 {
            self.once.insert(request.token.clone());
        }
        if self.requests.len() >= 8 {
            self.requests.remove(0);
        }
        self.requests.push(request.clone());
        self.send(&request);
    }

    /// A server answers, or says something else.
    fn server(&mut self, choices: &mut Choices<'_>) {
        let (stream, request) = self.asked.remove(choices.below(self.asked.len()));
        self.server_id += 1;
        let id = self.server_id;
        let answer = match choices.below(6) {
            0 => con(Code::CONTENT, id).token(&request.token),
            1 => non(Code::NOT_FOUND, id).token(&request.token),
            2 => {
                self.bench.server(stream, &con(Code::EMPTY, request.id()).acknowledge());
                self.asked.push((stream, request));
                return;
            }
            3 => {
                self.bench.server(stream, &con(Code::GET, id % 4).token(&[id as u8]).path("x"));
                return;
            }
            _ if request.message_type() == MessageType::NonConfirmable => {
                non(Code::CONTENT, id).token(&request.token)
            }
            _ => request.reply(Code::CONTENT),
        };
        let answer = if choices.below(3) == 0 { answer.payload([7; 150]) } else { answer };
        self.bench.server(stream, &answer);
        if choices.below(4) == 0 {
            // What was cut for want of proof may come as a whole the second time.
            self.once.remove(&request.token);
            self.bench.server(stream, &answer);
        }
    }

    fn answer(&mut self, choices: &mut Choices<'_>) {
        let open = self.bench.open();
        if open.is_empty() {
            return;
        }
        let stream = open[choices.below(open.len())];
        let status = STATUS[choices.below(STATUS.len())];
        match choices.below(5) {
            0 => {
                self.bench.respond(stream, 200, &[("content-type", "text/event-stream")]);
                self.bench.content(stream, b"data: 1\n\ndata: 2\n\n");
            }
            1 => {
                self.bench.respond(stream, status, &[]);
                self.bench.content(stream, &[7; 30]);
            }
            2 => self.bench.answer(stream, status, &[("retry-after", "3")], b""),
            _ => {
                let body = vec![7; choices.below(256) * 10];
                self.bench.answer(stream, status, &[("content-type", "text/plain")], &body);
            }
        }
    }

    /// The session ends, and another one from the same address begins.
    fn again(&mut self) {
        self.look();
        self.bench.bridge.handle_close(bridge::Peer::Native);
        self.bench = self.worker.session(ANNA, self.bench.now);
        self.asked.clear();
        self.to_acknowledge.clear();
        // What went on in flows is another server's now.
        let requests = self.requests.iter().filter(|request| is_http(request));
        let requests: HashSet<_> = requests.map(|request| request.token.clone()).collect();
        self.once.retain(|token| !self.forgets && requests.contains(token));
    }

    /// Looks at what the client and the servers got.
    fn look(&mut self) {
        for octets in self.bench.got_octets() {
            // Of a server's message only the header is looked at.
            if self.is_garbled && codec_coap::decode(&octets).is_err() {
                continue;
            }
            let message = Msg::decode(&octets, false);
            if matches!(
                message.message_type(),
                MessageType::Confirmable | MessageType::NonConfirmable
            ) && self.to_acknowledge.len() < 8
            {
                self.to_acknowledge.push(message.clone());
            }
            if message.code.is_response() {
                self.answers.entry(message.token).or_default().insert(octets);
            }
        }
        for stream in 0..self.bench.streams.len() {
            if !self.bench.streams[stream].is_flow() {
                continue;
            }
            for octets in self.bench.server_got_octets(stream) {
                let message = Msg::decode(&octets, false);
                let is_known = self.sent.contains(&octets)
                    // With a message ID that the server knows.
                    || matches!(
                        message.message_type(),
                        MessageType::Acknowledgement | MessageType::Reset
                    );
                assert!(is_known, "nobody sent {message}");
                if message.code.is_request() && self.asked.len() < 32 {
                    self.asked.push((stream, message));
                }
            }
        }
    }

    fn check(&mut self) {
        self.look();
        let flows = self.bench.gauge("coap_flows_active");
        assert!((0..=MAX_FLOWS as i64).contains(&flows), "{flows} flows");
        let waits = |stream: &&super::Stream| match stream.carry() {
            "check" => !stream.answered,
            "request" => !stream.finished && !stream.is_reset(),
            _ => false,
        };
        let open = self.bench.streams.iter().filter(waits).count();
        assert!(open <= MAX_OUTSTANDING, "{open} checks and requests");
        let observed = self.bench.gauge("coap_observations_active");
        let most = (MAX_OUTSTANDING + MAX_OBSERVATIONS) as i64;
        assert!((0..=most).contains(&observed), "{observed} observations");
        for (token, answers) in &self.answers {
            if self.once.contains(token) {
                let show: Vec<_> =
                    answers.iter().map(|octets| Msg::decode(octets, false)).collect();
                assert!(answers.len() <= 1, "{show:?} to one request");
            }
        }
    }

    /// When all that is waited for has come, the session ends by itself.
    fn end(mut self) {
        self.bench.piece = usize::MAX;
        for stream in 0..self.bench.streams.len() {
            if !self.bench.streams[stream].finished {
                self.bench.reset(stream);
            }
        }
        // MAX_TRANSMIT_WAIT, and some more for what is looked at now and then.
        self.bench.pass(seconds(120));
        self.look();
        assert!(self.bench.is_closed(), "there is nothing left to wait for");
        self.bench.hang_up();
        for gauge in ["coap_flows_active", "coap_observations_active"] {
            assert_eq!(self.worker.registry.gauge(gauge, &[]).value(), 0, "{gauge}");
        }
    }
}

/// Whether it is an HTTP request.
fn is_http(request: &Msg) -> bool {
    request.options.as_list().iter().any(|option| option.value == "r".into())
}
