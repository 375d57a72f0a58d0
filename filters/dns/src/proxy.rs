//! What becomes of queries, whatever they came over.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bridge::{Bytes, Direction, Ended, Link, OpenError, Response, StreamId};
use codec_dns::{
    ClientSubnet, DecodeError, Flags, InfoCode, Message, Name, Opcode, Rcode, RecordType, decode,
    header,
};
use dns_cache::{State, Stored};
use dns_cookies::Verdict;
use dns_limits::{Answer as Answered, Client as Who, Exceeded, Kind, Sending, Transport as Trust};
use hashbrown::HashMap;

use crate::Common;
use crate::answer::{Outgoing, Reason, Relayed, Shape, Subnet};
use crate::asked::{Asked, Outcome};
use crate::config::{FlowKey, Malformed, Transport, Upstream};
use crate::flows::{Flows, Framing, Target};
use crate::pending::{Pending, Place, Seq, Waiting};
use crate::rules::{Answer, Carry, Fate};
use crate::transfer::Transfer;

/// Takes what is said to clients.
pub(crate) trait Outlet {
    /// Tells clients apart.
    type Client: Copy;

    /// Sends a client an answer with this ID.
    fn answer(&mut self, client: Self::Client, id: u16, message: &[u8]);

    /// A query of a client is over, with or without an answer.
    fn done(&mut self, client: Self::Client);
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<C> {
    pub(crate) client: C,
    /// Its address, and whether it is known to be there.
    pub(crate) who: Who,
}

/// Carries queries to the next filter and answers back, for all clients of a connection.
#[derive(Debug)]
pub(crate) struct Proxy<C> {
    common: Rc<Common>,
    flows: Flows,
    asked: HashMap<StreamId, Asked>,
    waiting: Waiting<C>,
    /// What is being written.
    scratch: Vec<u8>,
    /// What was in the cache.
    cached: Vec<u8>,
    /// When idle flows are looked for.
    sweep: Option<Duration>,
}

/// What the cache had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cached {
    /// The answer.
    Answered,
    /// The answer, which should be fetched again.
    AnsweredAndOld,
    /// An answer that has expired, which was not given.
    Expired,
    /// Nothing.
    Nothing,
}

impl<C: Copy + std::fmt::Debug> Proxy<C> {
    pub(crate) fn new(common: Rc<Common>) -> Self {
        Self {
            common,
            flows: Flows::default(),
            asked: HashMap::new(),
            waiting: Waiting::new(),
            scratch: Vec::new(),
            cached: Vec::new(),
            sweep: None,
        }
    }

    pub(crate) fn common(&self) -> &Rc<Common> {
        &self.common
    }

    /// A message of a client was too long to be looked at.
    pub(crate) fn too_long(&self) {
        self.common.stats.decode_error(Direction::FromClient, "message_too_long");
    }

    /// A message of a client.
    pub(crate) fn query(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        client: C,
        source: Option<IpAddr>,
        octets: Bytes,
    ) {
        let transport = match self.common.settings.transport {
            Transport::Udp => Trust::Udp,
            _ => Trust::Stream,
        };
        let asker = Asker { client, who: Who { source, transport } };
        if !self.take(link, outlet, asker, octets) {
            outlet.done(client);
        }
    }

    /// As [`query`](Self::query). Whether the query now waits for something.
    fn take(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        mut asker: Asker<C>,
        octets: Bytes,
    ) -> bool {
        let common = Rc::clone(&self.common);
        let (settings, stats) = (&common.settings, &common.stats);
        let now = link.now();
        let query = match decode(&octets) {
            Ok(query) if query.header.flags.is_response() => {
                stats.decode_error(Direction::FromClient, "response");
                return false;
            }
            Ok(query) => query,
            Err(error) => {
                self.malformed(outlet, asker, &octets, error, now);
                return false;
            }
        };
        let opcode = query.header.flags.opcode();
        let question = query.question();
        let record_type = question.map_or(RecordType(0), |question| question.record_type);
        let zone = question.map_or(0, |question| settings.zones.find(question.name));
        if question.is_some() {
            stats.query(zone, record_type, octets.len());
        }
        let cookie = common.cookie(&query, asker.who.source, now);
        let is_proven = matches!(cookie, Some(Verdict::Valid | Verdict::Renew));
        if let Some(verdict) = cookie {
            stats.cookie(verdict.label());
        }
        if is_proven && asker.who.transport == Trust::Udp {
            asker.who.transport = Trust::UdpWithCookie;
        }
        if let Some(excess) = common.exceeded(&asker.who, record_type, now) {
            self.excessive(outlet, asker, &query, excess, now);
            return false;
        }
        if query.edns().is_some_and(|edns| edns.version != 0) {
            self.say(outlet, asker, &query, Rcode::BADVERS, None, now);
            return false;
        }
        if asker.who.transport == Trust::Udp
            && settings.cookies.as_ref().is_some_and(|cookies| cookies.require)
        {
            match cookie {
                Some(_) => self.say(outlet, asker, &query, Rcode::BADCOOKIE, None, now),
                None => self.say_truncated(outlet, asker, &query, now),
            }
            return false;
        }
        let Some(question) = question else {
            stats.decode_error(Direction::FromClient, "no_question");
            // With a cookie it is a question for a cookie (RFC 7873 §5.4).
            let rcode = match opcode {
                Opcode::QUERY if cookie.is_some() => Rcode::NOERROR,
                Opcode::QUERY => Rcode::FORMERR,
                _ => Rcode::NOTIMP,
            };
            self.say(outlet, asker, &query, rcode, None, now);
            return false;
        };
        let (name, class) = (question.name, question.class);
        let (carry, holds) = match settings.fate(opcode, name, record_type, class) {
            Fate::Carry(carry, holds) => (carry, holds),
            Fate::Answer(Answer::Truncate) if asker.who.transport != Trust::Udp => {
                (Carry::Flow, Duration::ZERO)
            }
            Fate::Answer(answer) => {
                stats.ruled(answer.label());
                self.ruled(outlet, asker, &query, answer, now);
                return false;
            }
        };
        let has_many = matches!(record_type, RecordType::AXFR | RecordType::IXFR);
        if has_many && !matches!(settings.transport, Transport::Tcp | Transport::Tls) {
            // Only there an answer can have several messages (RFC 5936 §4.2).
            self.say(outlet, asker, &query, Rcode::REFUSED, None, now);
            return false;
        }
        let outgoing = Outgoing {
            payload_size: settings.max_udp_size,
            owns_cookies: settings.cookies.is_some(),
            subnet: settings.client_subnet.of(query.edns().as_ref(), asker.who.source),
        };
        let rewritten = outgoing.write(&query).map(Bytes::from);
        let sent = rewritten.as_ref().and_then(|octets| decode(octets).ok()).unwrap_or(query);
        let mut is_refresh = false;
        let mut has_expired = false;
        if carry != Carry::Check {
            match self.answer_from_cache(outlet, asker, (&query, &sent), zone, now, false) {
                Cached::Answered => return false,
                Cached::AnsweredAndOld => is_refresh = true,
                Cached::Expired => has_expired = true,
                Cached::Nothing => {}
            }
        }
        if self.waiting.len() >= settings.max_outstanding {
            stats.limited("max_outstanding", "servfail");
            if !is_refresh {
                let reason = (InfoCode::OTHER, &b"too many queries at once"[..]);
                self.say(outlet, asker, &query, Rcode::SERVFAIL, Some(reason), now);
            }
            return false;
        }
        let upstream = settings.zones.get(zone).map_or(Upstream::Same, |zone| zone.upstream);
        let framing = match (upstream, settings.transport) {
            (Upstream::Same, Transport::Udp) | (Upstream::Udp, _) if !has_many => Framing::Udp,
            _ => Framing::Tcp,
        };
        let by_client = settings.flow_key == FlowKey::Client;
        let pending = Pending {
            asker: (!is_refresh).then_some(asker),
            source: asker.who.source,
            query: octets.clone(),
            sent: rewritten.clone().unwrap_or_else(|| octets.clone()),
            target: Target { zone, framing, client: asker.who.source.filter(|_| by_client) },
            carry,
            since: now,
            until: now + settings.response_timeout,
            place: Place::Nowhere,
            is_passed: carry != Carry::Check,
            retried: false,
            transfer: Transfer::of(record_type),
            begun: false,
        };
        let seq = self.waiting.number();
        // Over TCP nothing is lost on the way.
        let is_lossy = carry != Carry::Request && framing == Framing::Udp;
        let again = settings.retry_after.filter(|_| is_lossy);
        self.waiting.add(seq, pending, again.map(|after| now + after));
        stats.outstanding.increment();
        if has_expired && let Some(cache) = &settings.cache {
            self.waiting.add_expired(seq, now + cache.stale_after);
        }
        match carry {
            Carry::Flow => self.enter_flow(link, outlet, seq, None),
            Carry::Check => {
                let key = common.verdict_key(asker.who.source, opcode, &question, holds);
                match common.known_verdict(&key, now) {
                    Some(known) => {
                        stats.verdict(known.outcome.label(), true);
                        self.judged(link, outlet, seq, known.outcome, &known.text);
                    }
                    None => self.ask(link, outlet, seq, carry, holds),
                }
            }
            Carry::Request => self.ask(link, outlet, seq, carry, holds),
        }
        !is_refresh
    }

    /// A message that is none.
    fn malformed(
        &mut self,
        outlet: &mut impl Outlet<Client = C>,
        asker: Asker<C>,
        octets: &[u8],
        error: DecodeError,
        now: Duration,
    ) {
        let stats = &self.common.stats;
        stats.decode_error(Direction::FromClient, error.label());
        let is_exceeded = self.common.exceeded(&asker.who, RecordType(0), now).is_some();
        if self.common.settings.malformed == Malformed::Drop || is_exceeded {
            return;
        }
        if let Ok(header) = header(octets)
            && let Some(rcode) = error.rcode(header)
        {
            // Nothing but a header.
            let answer = header.response(rcode).to_octets();
            let answered =
                Answered { name: Name::ROOT, record_type: RecordType(0), rcode, kind: Kind::Error };
            if self.common.sending(&asker.who, || answered, now) == Sending::Send {
                stats.answer(rcode, answer.len());
                outlet.answer(asker.client, header.id, &answer);
            }
        }
    }

    /// A query above a limit.
    fn excessive(
        &mut self,
        outlet: &mut impl Outlet<Client = C>,
        asker: Asker<C>,
        query: &Message<'_>,
        action: Exceeded,
        now: Duration,
    ) {
        match action {
            Exceeded::Drop => {}
            Exceeded::Truncate => self.say_truncated(outlet, asker, query, now),
            Exceeded::Refuse => {
                let mut out = std::mem::take(&mut self.scratch);
                let reason = Some((InfoCode::PROHIBITED, &b"rate limit"[..]));
                let shape = Shape { reason, ..self.shape(query, asker, now) };
                if shape.error(Rcode::REFUSED, &mut out).is_ok() {
                    self.common.log(asker.who.source, query, Rcode::REFUSED, "limit", now, now);
                    self.common.stats.answer(Rcode::REFUSED, out.len());
                    outlet.answer(asker.client, query.header.id, &out);
                }
                self.scratch = out;
            }
        }
    }

    /// Answers by a rule.
    fn ruled(
        &mut self,
        outlet: &mut impl Outlet<Client = C>,
        asker: Asker<C>,
        query: &Message<'_>,
        answer: Answer,
        now: Duration,
    ) {
        let reason = Some((InfoCode::PROHIBITED, &b""[..]));
        match answer {
            Answer::Drop => {}
            Answer::Refuse => self.say(outlet, asker, query, Rcode::REFUSED, reason, now),
            Answer::Notimp => self.say(outlet, asker, query, Rcode::NOTIMP, None, now),
            Answer::Nxdomain => {
                let reason = Some((InfoCode::BLOCKED, &b""[..]));
                self.say(outlet, asker, query, Rcode::NXDOMAIN, reason, now);
            }
            Answer::Truncate => self.say_truncated(outlet, asker, query, now),
            Answer::Minimal => {
                let mut out = std::mem::take(&mut self.scratch);
                if self.shape(query, asker, now).minimal_any(&mut out).is_ok()
                    && let Ok(answer) = decode(&out)
                {
                    self.send(outlet, asker, query, &answer, "filter", (now, now));
                }
                self.scratch = out;
            }
        }
    }

    /// What there is to say to a client besides an answer.
    fn shape<'a>(&self, query: &'a Message<'a>, asker: Asker<C>, now: Duration) -> Shape<'a> {
        let settings = &self.common.settings;
        let limit = match settings.transport {
            Transport::Udp => query.udp_limit().min(settings.max_udp_size),
            _ => u16::MAX,
        };
        let mut shape = Shape::new(query, usize::from(limit), settings.max_udp_size);
        shape.is_encrypted = settings.transport.is_encrypted();
        shape.owns_cookies = settings.cookies.is_some();
        shape.cookie = self.common.own_cookie(query, asker.who.source, now);
        let subnet = settings.client_subnet.of(query.edns().as_ref(), asker.who.source);
        shape.owns_subnet = subnet != Subnet::Pass;
        if matches!(settings.transport, Transport::Tcp | Transport::Tls) {
            let asks = query.edns().is_some_and(|edns| {
                let mut options = edns.options.iter();
                options.any(|option| option.code() == codec_dns::OptionCode::TCP_KEEPALIVE)
            });
            let timeout = settings.idle_timeout.as_millis() / 100;
            shape.keepalive = asks.then_some(u16::try_from(timeout).unwrap_or(u16::MAX));
        }
        shape
    }

    /// Answers with nothing but a response code.
    fn say(
        &mut self,
        outlet: &mut impl Outlet<Client = C>,
        asker: Asker<C>,
        query: &Message<'_>,
        rcode: Rcode,
        reason: Option<Reason<'_>>,
        now: Duration,
    ) {
        let mut out = std::mem::take(&mut self.scratch);
        let shape = Shape { reason, ..self.shape(query, asker, now) };
        if shape.error(rcode, &mut out).is_ok()
            && let Ok(answer) = decode(&out)
        {
            self.send(outlet, asker, query, &answer, "filter", (now, now));
        }
        self.scratch = out;
    }

    /// Answers that the client should come over TCP.
    fn say_truncated(
        &mut self,
        outlet: &mut impl Outlet<Client = C>,
        asker: Asker<C>,
        query: &Message<'_>,
        now: Duration,
    ) {
        let mut out = std::mem::take(&mut self.scratch);
        let flags = query.header.response(Rcode::NOERROR).flags;
        if self.shape(query, asker, now).truncate(flags, &mut out).is_ok() {
            self.common.stats.truncated.increment();
            self.common.stats.answer(Rcode::NOERROR, out.len());
            outlet.answer(asker.client, query.header.id, &out);
        }
        self.scratch = out;
    }

    /// Sends an answer, as far as response rate limiting lets it.
    fn send(
        &mut self,
        outlet: &mut impl Outlet<Client = C>,
        asker: Asker<C>,
        query: &Message<'_>,
        answer: &Message<'_>,
        from: &'static str,
        (since, now): (Duration, Duration),
    ) {
        let common = &self.common;
        match common.sending(&asker.who, || Answered::of(answer), now) {
            Sending::Send => {
                let (rcode, octets) = (answer.rcode(), answer.octets());
                common.log(asker.who.source, query, rcode, from, since, now);
                common.stats.answer(rcode, octets.len());
                outlet.answer(asker.client, query.header.id, octets);
            }
            Sending::Truncate => {
                common.stats.limited("response_rate_limit", "truncate");
                self.say_truncated(outlet, asker, query, now);
            }
            Sending::Drop => common.stats.limited("response_rate_limit", "drop"),
        }
    }

    /// Answers from the cache, if it can; with what has expired only if `may_be_stale`.
    fn answer_from_cache(
        &mut self,
        outlet: &mut impl Outlet<Client = C>,
        asker: Asker<C>,
        (query, sent): (&Message<'_>, &Message<'_>),
        zone: usize,
        now: Duration,
        may_be_stale: bool,
    ) -> Cached {
        let common = Rc::clone(&self.common);
        let Some(cache) = common.cache_of(zone) else { return Cached::Nothing };
        let Some(asked) = dns_cache::Asked::of(sent).filter(|_| !sent.is_signed()) else {
            return Cached::Nothing;
        };
        let mut cache = cache.answers.borrow_mut();
        let Some(hit) = cache.get(&asked, common.cache_time(now)) else {
            common.stats.cache_misses.add(i64::from(!may_be_stale));
            return Cached::Nothing;
        };
        let state = hit.state();
        if state == State::Stale && !may_be_stale {
            common.stats.cache_misses.increment();
            return Cached::Expired;
        }
        let is_stale = matches!(state, State::Stale | State::StaleAndFailing);
        // What is wanted then is something better.
        if may_be_stale && !is_stale && hit.rcode() == Rcode::SERVFAIL {
            return Cached::Nothing;
        }
        let counter = if is_stale { &common.stats.cache_stale } else { &common.stats.cache_hits };
        counter.increment();
        let mut octets = std::mem::take(&mut self.cached);
        octets.clear();
        hit.write(&mut octets, query.header.id);
        let mut shape = self.shape(query, asker, now);
        shape.reason = match hit.rcode() {
            Rcode::NXDOMAIN if is_stale => Some((InfoCode::STALE_NXDOMAIN_ANSWER, b"")),
            _ if is_stale => Some((InfoCode::STALE_ANSWER, b"")),
            Rcode::SERVFAIL => Some((InfoCode::CACHED_ERROR, b"")),
            _ => None,
        };
        shape.errors = Some(hit.extended_errors());
        let subnet = query.edns().and_then(|edns| edns.options.client_subnet());
        shape.subnet = subnet.filter(|_| !shape.owns_subnet).and_then(|subnet| {
            ClientSubnet::new(subnet.address(), subnet.source_prefix(), hit.scope_prefix())
        });
        if let Ok(answer) = decode(&octets) {
            let from = if is_stale { "stale" } else { "cache" };
            self.relay(outlet, asker, &shape, &answer, from, (now, now));
        }
        self.cached = octets;
        if state == State::Prefetch { Cached::AnsweredAndOld } else { Cached::Answered }
    }

    /// Answers with what has expired, if there is such an answer.
    fn answer_stale(
        &mut self,
        outlet: &mut impl Outlet<Client = C>,
        asker: Asker<C>,
        (query, sent): (&Message<'_>, &[u8]),
        zone: usize,
        now: Duration,
    ) -> bool {
        decode(sent).is_ok_and(|sent| {
            self.answer_from_cache(outlet, asker, (query, &sent), zone, now, true)
                != Cached::Nothing
        })
    }

    /// Sends a query along a flow.
    fn enter_flow(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        seq: Seq,
        not: Option<StreamId>,
    ) {
        let Some(pending) = self.waiting.get_mut(seq) else { return };
        let (target, common) = (pending.target, &self.common);
        match self.flows.send(link, common, target, &pending.sent, seq, not) {
            Ok((stream, id)) => {
                pending.place = Place::Flow(stream, id);
                if self.sweep.is_none() {
                    self.sweep = Some(link.now() + common.settings.flow_lifetime);
                }
            }
            Err(error) => self.not_opened(link, outlet, seq, error),
        }
    }

    /// Asks the next filter about a query, or for its answer.
    fn ask(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        seq: Seq,
        carry: Carry,
        holds: Duration,
    ) {
        let Some(pending) = self.waiting.get_mut(seq) else { return };
        let transport = self.common.settings.transport;
        match Asked::open(link, pending, seq, carry, transport, holds) {
            Ok((stream, asked)) => {
                pending.place = Place::Asked(stream);
                self.asked.insert(stream, asked);
            }
            Err(error) => self.not_opened(link, outlet, seq, error),
        }
    }

    /// There is no stream for a query.
    fn not_opened(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        seq: Seq,
        error: OpenError,
    ) {
        let text: &[u8] = match error {
            OpenError::TooManyStreams => b"too many streams",
            _ => b"unavailable",
        };
        self.fail(link, outlet, seq, Rcode::SERVFAIL, (InfoCode::OTHER, text));
    }

    /// A query is over without an answer of a server.
    fn fail(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        seq: Seq,
        rcode: Rcode,
        reason: Reason<'_>,
    ) {
        let Some(pending) = self.leave(link, seq, false) else { return };
        let now = link.now();
        // A check that failed says nothing about the server, and lets nobody have what others were given.
        if pending.is_passed
            && matches!(reason.0, InfoCode::NO_REACHABLE_AUTHORITY | InfoCode::NETWORK_ERROR)
        {
            self.keep_failure(&pending, now);
        }
        let Some(asker) = pending.asker else { return };
        let zone = pending.target.zone;
        if !pending.begun
            && let Ok(query) = decode(&pending.query)
        {
            // What has expired is better than nothing (RFC 8767 §5).
            let is_answered = pending.is_passed
                && rcode == Rcode::SERVFAIL
                && self.answer_stale(outlet, asker, (&query, &pending.sent), zone, now);
            if !is_answered {
                self.say(outlet, asker, &query, rcode, Some(reason), now);
            }
        }
        outlet.done(asker.client);
    }

    /// A query waits no more.
    fn leave(&mut self, link: &mut Link, seq: Seq, answered: bool) -> Option<Pending<C>> {
        let pending = self.waiting.remove(seq)?;
        self.common.stats.outstanding.add(-1);
        match pending.place {
            Place::Flow(stream, id) => {
                self.flows.forget(link, &self.common, (stream, id), answered);
            }
            Place::Asked(stream) => {
                if self.asked.remove(&stream).is_some() {
                    link.abandon(stream);
                }
            }
            Place::Nowhere => {}
        }
        Some(pending)
    }

    /// What a check, or a request that has no answer, was answered with.
    fn judged(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        seq: Seq,
        outcome: Outcome,
        text: &[u8],
    ) {
        match outcome {
            Outcome::Pass => self.passed(link, outlet, seq),
            Outcome::Refuse(rcode, info) => self.fail(link, outlet, seq, rcode, (info, text)),
            Outcome::Truncate => {
                let Some(pending) = self.leave(link, seq, false) else { return };
                let Some(asker) = pending.asker else { return };
                if let Ok(query) = decode(&pending.query) {
                    if asker.who.transport == Trust::Udp {
                        self.say_truncated(outlet, asker, &query, link.now());
                    } else {
                        let reason = Some((InfoCode::PROHIBITED, text));
                        self.say(outlet, asker, &query, Rcode::REFUSED, reason, link.now());
                    }
                }
                outlet.done(asker.client);
            }
            Outcome::Drop => {
                if let Some(asker) = self.leave(link, seq, false).and_then(|pending| pending.asker)
                {
                    outlet.done(asker.client);
                }
            }
        }
    }

    /// Envoy has nothing against a query: it is answered from the cache, or goes on in its flow.
    fn passed(&mut self, link: &mut Link, outlet: &mut impl Outlet<Client = C>, seq: Seq) {
        let now = link.now();
        let Some(pending) = self.waiting.get_mut(seq) else { return };
        pending.place = Place::Nowhere;
        pending.is_passed = true;
        let Some(asker) = pending.asker else { return };
        let (query, sent, zone) =
            (pending.query.clone(), pending.sent.clone(), pending.target.zone);
        if let (Ok(query), Ok(sent)) = (decode(&query), decode(&sent)) {
            match self.answer_from_cache(outlet, asker, (&query, &sent), zone, now, false) {
                Cached::Answered => {
                    self.leave(link, seq, false);
                    return outlet.done(asker.client);
                }
                Cached::AnsweredAndOld => {
                    if let Some(pending) = self.waiting.get_mut(seq) {
                        pending.asker = None;
                    }
                    outlet.done(asker.client);
                }
                Cached::Expired => {
                    if let Some(cache) = &self.common.settings.cache {
                        self.waiting.add_expired(seq, now + cache.stale_after);
                    }
                }
                Cached::Nothing => {}
            }
        }
        self.enter_flow(link, outlet, seq, None);
    }

    /// As [`bridge::Protocol::handle_response`].
    pub(crate) fn handle_response(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        stream: StreamId,
        response: Response<()>,
    ) {
        if let Some(asked) = self.asked.get_mut(&stream) {
            asked.begin(response);
            if asked.is_passed() {
                let (seq, holds) = (asked.seq(), asked.holds());
                // Its end comes by itself; nothing is to be told about it.
                self.asked.remove(&stream);
                self.verdict(link, outlet, seq, Outcome::Pass, holds, &[]);
            }
            return;
        }
        let status = response.status();
        if self.flows.has(stream) && !status.is_success() {
            let outcome = Outcome::of_status(status, self.common.settings.too_many_requests);
            let text = status.as_str().as_bytes();
            for seq in self.flows.end(link, &self.common, stream) {
                if let Some(pending) = self.waiting.get_mut(seq) {
                    pending.place = Place::Nowhere;
                }
                self.judged(link, outlet, seq, outcome, text);
            }
        }
    }

    /// Envoy has decided about a query.
    fn verdict(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        seq: Seq,
        outcome: Outcome,
        holds: Duration,
        text: &[u8],
    ) {
        let Some(pending) = self.waiting.get(seq) else { return };
        let common = Rc::clone(&self.common);
        common.stats.verdict(outcome.label(), false);
        common.stats.took(Carry::Check, link.now().saturating_sub(pending.since));
        if let Ok(query) = decode(&pending.query)
            && let Some(question) = query.question()
        {
            let opcode = query.header.flags.opcode();
            let key = common.verdict_key(pending.source, opcode, &question, holds);
            common.remember_verdict(&key, outcome, text, link.now() + holds);
        }
        self.judged(link, outlet, seq, outcome, text);
    }

    /// As [`bridge::Protocol::handle_body`].
    pub(crate) fn handle_body(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        stream: StreamId,
        body: Bytes,
    ) {
        if let Some(asked) = self.asked.get_mut(&stream) {
            return asked.body(&body);
        }
        let mut answers = self.flows.receive(stream, body);
        loop {
            match answers.next() {
                Ok(Some(answer)) => self.flow_answer(link, outlet, stream, &answer),
                Ok(None) => break,
                Err(kind) => {
                    self.common.stats.decode_error(Direction::ToClient, kind);
                    return self.flow_ended(link, outlet, stream);
                }
            }
        }
        self.flows.put_back(stream, answers);
    }

    /// A server's answer came along a flow.
    fn flow_answer(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        stream: StreamId,
        octets: &[u8],
    ) {
        let stats = &self.common.stats;
        let Ok(header) = header(octets) else {
            return stats.decode_error(Direction::ToClient, "header_truncated");
        };
        let waiting = self.flows.waiting(stream, header.id).filter(|_| header.flags.is_response());
        let Some(seq) = waiting else { return stats.unmatched.increment() };
        let Some(pending) = self.waiting.get(seq) else { return };
        match decode(octets) {
            Ok(answer) => {
                if !answers(&answer, &pending.sent) {
                    return stats.unmatched.increment();
                }
                let over_udp = self.flows.framing(stream) == Some(Framing::Udp);
                let comes_from_udp = self.common.settings.transport == Transport::Udp;
                if header.flags.has(Flags::TC) && over_udp && !comes_from_udp {
                    return self.over_tcp(link, outlet, seq);
                }
                if let Some(pending) = self.waiting.get_mut(seq)
                    && let Some(transfer) = &mut pending.transfer
                    && answer.rcode() == Rcode::NOERROR
                    && !transfer.add(&answer)
                {
                    return self.part(link, outlet, seq, &answer);
                }
                self.answered(link, outlet, seq, &answer);
            }
            Err(error) => {
                stats.decode_error(Direction::ToClient, error.label());
                // Anybody may have sent it, and the answer may still come (RFC 5452 §9.1).
                if self.flows.framing(stream) == Some(Framing::Udp) {
                    return;
                }
                let text = &b"malformed answer"[..];
                self.fail(link, outlet, seq, Rcode::SERVFAIL, (InfoCode::NETWORK_ERROR, text));
            }
        }
    }

    /// Asks over TCP what was truncated over UDP.
    fn over_tcp(&mut self, link: &mut Link, outlet: &mut impl Outlet<Client = C>, seq: Seq) {
        let Some(pending) = self.waiting.get_mut(seq) else { return };
        pending.retried = true;
        pending.target.framing = Framing::Tcp;
        if let Place::Flow(stream, id) = std::mem::replace(&mut pending.place, Place::Nowhere) {
            self.flows.forget(link, &self.common, (stream, id), true);
        }
        self.enter_flow(link, outlet, seq, None);
    }

    /// One of several messages of an answer (RFC 5936 §2.2).
    fn part(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        seq: Seq,
        answer: &Message<'_>,
    ) {
        let now = link.now();
        let Some(pending) = self.waiting.get_mut(seq) else { return };
        pending.begun = true;
        pending.until = now + self.common.settings.response_timeout;
        let (asker, query, since) = (pending.asker, pending.query.clone(), pending.since);
        if let Some(asker) = asker
            && let Ok(query) = decode(&query)
        {
            let shape = self.shape(&query, asker, now);
            self.relay(outlet, asker, &shape, answer, "server", (since, now));
        }
    }

    /// A query has its answer.
    fn answered(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        seq: Seq,
        answer: &Message<'_>,
    ) {
        let Some(pending) = self.leave(link, seq, true) else { return };
        let now = link.now();
        self.common.stats.took(pending.carry, now.saturating_sub(pending.since));
        let kept = self.keep(&pending, answer, now);
        let Some(asker) = pending.asker else { return };
        if let Ok(query) = decode(&pending.query) {
            let zone = pending.target.zone;
            let is_stale_better = kept == Some(Stored::FailureWithAnswer)
                && self.answer_stale(outlet, asker, (&query, &pending.sent), zone, now);
            if !is_stale_better {
                let shape = self.shape(&query, asker, now);
                self.relay(outlet, asker, &shape, answer, "server", (pending.since, now));
            }
        }
        outlet.done(asker.client);
    }

    /// Keeps in the cache that a server cannot be reached (RFC 9520 §3.2).
    fn keep_failure(&mut self, pending: &Pending<C>, now: Duration) {
        if self.common.cache_of(pending.target.zone).is_none() {
            return;
        }
        let mut out = std::mem::take(&mut self.scratch);
        if let Ok(query) = decode(&pending.sent)
            && Shape::new(&query, usize::from(u16::MAX), 0).error(Rcode::SERVFAIL, &mut out).is_ok()
            && let Ok(failure) = decode(&out)
        {
            self.keep(pending, &failure, now);
        }
        self.scratch = out;
    }

    /// Keeps an answer in the cache, if it can be kept.
    fn keep(
        &mut self,
        pending: &Pending<C>,
        answer: &Message<'_>,
        now: Duration,
    ) -> Option<Stored> {
        let cache = self.common.cache_of(pending.target.zone)?;
        let sent = decode(&pending.sent).ok()?;
        let asked = dns_cache::Asked::of(&sent).filter(|_| !sent.is_signed())?;
        let stored = cache.answers.borrow_mut().put(&asked, answer, self.common.cache_time(now));
        self.common.stats.cache(cache);
        Some(stored)
    }

    /// Passes an answer on.
    fn relay(
        &mut self,
        outlet: &mut impl Outlet<Client = C>,
        asker: Asker<C>,
        shape: &Shape<'_>,
        answer: &Message<'_>,
        from: &'static str,
        times: (Duration, Duration),
    ) {
        let mut out = std::mem::take(&mut self.scratch);
        let relayed = shape.relay(answer, &mut out);
        if relayed == Relayed::Truncated || answer.header.flags.has(Flags::TC) {
            self.common.stats.truncated.increment();
        }
        match relayed {
            Relayed::AsItIs => self.send(outlet, asker, shape.query, answer, from, times),
            Relayed::Written | Relayed::Truncated => {
                if let Ok(answer) = decode(&out) {
                    self.send(outlet, asker, shape.query, &answer, from, times);
                }
            }
            Relayed::Impossible => {}
        }
        self.scratch = out;
    }

    /// As [`bridge::Protocol::handle_ended`].
    pub(crate) fn handle_ended(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        stream: StreamId,
        how: Ended,
    ) {
        let Some(mut asked) = self.asked.remove(&stream) else {
            if self.flows.has(stream) {
                self.flow_ended(link, outlet, stream);
            }
            return;
        };
        link.abandon(stream);
        let seq = asked.seq();
        let Some(pending) = self.waiting.get(seq) else { return };
        let settings = &self.common.settings;
        if let Some(message) = asked.message(how)
            && let Ok(answer) = decode(message)
            && answer.header.flags.is_response()
            && answers(&answer, &pending.sent)
        {
            return self.answered(link, outlet, seq, &answer);
        }
        let outcome = asked.outcome(settings.too_many_requests);
        let text = asked.text();
        if asked.carry() == Carry::Check {
            return self.verdict(link, outlet, seq, outcome, asked.holds(), text);
        }
        // There is nothing to pass: a response without an answer is none.
        match outcome {
            Outcome::Pass => {
                let reason = (InfoCode::NETWORK_ERROR, &b"no DNS message in the response"[..]);
                self.fail(link, outlet, seq, Rcode::SERVFAIL, reason);
            }
            outcome => self.judged(link, outlet, seq, outcome, text),
        }
    }

    /// The next filter has ended a flow, or it cannot go on.
    fn flow_ended(
        &mut self,
        link: &mut Link,
        outlet: &mut impl Outlet<Client = C>,
        stream: StreamId,
    ) {
        for seq in self.flows.end(link, &self.common, stream) {
            let Some(pending) = self.waiting.get_mut(seq) else { continue };
            pending.place = Place::Nowhere;
            if pending.begun || std::mem::replace(&mut pending.retried, true) {
                let reason = (InfoCode::NO_REACHABLE_AUTHORITY, &b"server unreachable"[..]);
                self.fail(link, outlet, seq, Rcode::SERVFAIL, reason);
            } else {
                self.common.stats.retried.increment();
                self.enter_flow(link, outlet, seq, None);
            }
        }
    }

    /// As [`bridge::Protocol::handle_writable`].
    pub(crate) fn handle_writable(&mut self, link: &mut Link, stream: StreamId) {
        self.flows.flush_one(link, stream);
    }

    /// Sends what was gathered.
    pub(crate) fn settle(&mut self, link: &mut Link) {
        self.flows.flush(link);
    }

    /// As [`bridge::Protocol::handle_timeout`].
    pub(crate) fn handle_timeout(&mut self, link: &mut Link, outlet: &mut impl Outlet<Client = C>) {
        let now = link.now();
        while let Some(seq) = self.waiting.due_again(now) {
            let Some(pending) = self.waiting.get_mut(seq) else { continue };
            if pending.target.framing != Framing::Udp || pending.until <= now {
                continue;
            }
            if let Place::Flow(stream, id) = pending.place {
                pending.place = Place::Nowhere;
                self.common.stats.retried.increment();
                self.flows.forget(link, &self.common, (stream, id), false);
                self.enter_flow(link, outlet, seq, Some(stream));
            }
            if let Some(after) = self.common.settings.retry_after {
                self.waiting.add_again(seq, now + after);
            }
        }
        while let Some(seq) = self.waiting.due_expired(now) {
            let Some(pending) = self.waiting.get_mut(seq) else { continue };
            let Some(asker) = pending.asker else { continue };
            let (query, sent) = (pending.query.clone(), pending.sent.clone());
            let zone = pending.target.zone;
            if let Ok(query) = decode(&query)
                && self.answer_stale(outlet, asker, (&query, &sent), zone, now)
            {
                // What comes now is for the cache.
                if let Some(pending) = self.waiting.get_mut(seq) {
                    pending.asker = None;
                }
                outlet.done(asker.client);
            }
        }
        while let Some(seq) = self.waiting.due_give_up(now) {
            // A transfer of which nobody can tell that it is over.
            if self.waiting.get(seq).is_some_and(|pending| pending.begun) {
                if let Some(asker) = self.leave(link, seq, true).and_then(|pending| pending.asker) {
                    outlet.done(asker.client);
                }
                continue;
            }
            self.common.stats.timeouts.increment();
            let reason = (InfoCode::NO_REACHABLE_AUTHORITY, &b"no answer in time"[..]);
            self.fail(link, outlet, seq, Rcode::SERVFAIL, reason);
        }
        if self.sweep.is_some_and(|sweep| sweep <= now) {
            self.flows.end_idle(link, &self.common);
            let next = now + self.common.settings.flow_lifetime;
            self.sweep = (self.flows.len() > 0).then_some(next);
        }
    }

    /// When [`Proxy::handle_timeout`] is to be called.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        [self.waiting.deadline(), self.sweep].into_iter().flatten().min()
    }

    /// As [`bridge::Protocol::handle_close`].
    pub(crate) fn handle_close(&mut self) {
        let waiting = i64::try_from(self.waiting.drain()).unwrap_or_default();
        self.common.stats.outstanding.add(-waiting);
        let flows = i64::try_from(self.flows.len()).unwrap_or_default();
        self.common.stats.flows.add(-flows);
    }
}

/// Whether an answer is one to this query. Without a question it can be an error (RFC 1035 §4.1.1), or the answer
/// to something else than a question (RFC 2136 §3.8).
fn answers(answer: &Message<'_>, query: &[u8]) -> bool {
    let Ok(query) = decode(query) else { return false };
    let opcode = query.header.flags.opcode();
    if answer.header.flags.opcode() != opcode {
        return false;
    }
    match answer.question() {
        None => answer.rcode() != Rcode::NOERROR || opcode != Opcode::QUERY,
        question => question == query.question(),
    }
}
