//! Flows: streams with a DNS server at their other end, that many queries travel in.

use std::net::IpAddr;
use std::time::Duration;

use bridge::{
    Bytes, HeaderMap, HeaderValue, Input, Link, Method, OpenError, Request, StreamId, Uri,
};
use codec_dns::{Decoded, frame_tcp, tcp_length};
use hashbrown::HashMap;
use tunnels::datagram::{self, Next};

use crate::Common;
use crate::pending::Seq;
use crate::rules::Carry;
use crate::zones::Zone;

/// The path of everything (RFC 8484 §4.1 uses it in its examples, and everybody followed).
pub(crate) const PATH: &str = "/dns-query";
/// Queries that wait for room take no more octets than that. More are lost over UDP, as datagrams are, and
/// refused over TCP.
const MAX_UNSENT: usize = 256 << 10;
/// A flow has that many queries without an answer at most, so that a free ID is found at once.
const MAX_IDS: usize = 30_000;
/// After so many timeouts in a row another flow takes its place: its server is gone, or never was there.
const MAX_SILENT: u32 = 3;

/// One of so many queries is for a flow that has lately been silent.
const PROBE: u64 = 16;
/// So is the first query after so long, if none waits in the flow: where queries are few a dead server is found out as well.
const PROBE_AFTER: Duration = Duration::from_secs(1);
/// A silent flow is kept so much longer than others: what its server is worth is to be known before it ends.
const DOUBT: Duration = Duration::from_secs(10);

/// How messages stand in a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Framing {
    /// One in each DATAGRAM capsule.
    Udp,
    /// Each with its length in front.
    Tcp,
}

impl Framing {
    const fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// What queries in the same flows have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) zone: usize,
    pub(crate) framing: Framing,
    /// With flows by client.
    pub(crate) client: Option<IpAddr>,
}

#[derive(Debug)]
struct Flow {
    target: Target,
    /// The queries that wait for an answer, by the ID that they have here.
    ids: HashMap<u16, Seq>,
    /// What is to be sent.
    unsent: Vec<u8>,
    is_listed: bool,
    /// The beginning of an answer.
    reading: Input,
    opened: Duration,
    /// When a query was last sent in it.
    tried: Duration,
    /// Timeouts since the last answer.
    silent: u32,
}

impl Flow {
    fn is_spent(&self, now: Duration, lifetime: Duration) -> bool {
        let lifetime = if self.silent > 0 { lifetime.saturating_add(DOUBT) } else { lifetime };
        self.silent >= MAX_SILENT
            || self.ids.len() >= MAX_IDS
            || now.saturating_sub(self.opened) >= lifetime
    }

    /// Nobody has tried it for a while.
    fn is_forgotten(&self, now: Duration) -> bool {
        self.ids.is_empty() && now.saturating_sub(self.tried) >= PROBE_AFTER
    }
}

/// The flows for one target.
#[derive(Debug, Default)]
struct Group {
    streams: Vec<StreamId>,
    /// Which one is the next to be used.
    next: usize,
}

/// All flows of a connection to the next filter.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    flows: HashMap<StreamId, Flow>,
    groups: HashMap<Target, Group>,
    /// Flows with something to send.
    ready: Vec<StreamId>,
    /// How many queries have been sent.
    sent: u64,
}

impl Flows {
    /// Sends a query, in another flow than `not` where there is one.
    pub(crate) fn send(
        &mut self,
        link: &mut Link,
        common: &Common,
        target: Target,
        query: &[u8],
        seq: Seq,
        not: Option<StreamId>,
    ) -> Result<(StreamId, u16), OpenError> {
        self.sent = self.sent.wrapping_add(1);
        let stream = self.choose(link, common, target, not)?;
        let Some(flow) = self.flows.get_mut(&stream) else { return Err(OpenError::Closed) };
        let id = loop {
            let id = common.unique_number();
            if !flow.ids.contains_key(&id) {
                break id;
            }
        };
        let Some(body) = query.get(2..) else { return Err(OpenError::InvalidRequest) };
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(body);
            true
        };
        match target.framing {
            Framing::Udp if flow.unsent.len() < MAX_UNSENT => {
                datagram::write(&mut flow.unsent, query.len(), write);
            }
            // As lost as any other datagram.
            Framing::Udp => common.stats.limited("unsent", "drop"),
            Framing::Tcp if flow.unsent.len() >= MAX_UNSENT => {
                return Err(OpenError::TooManyStreams);
            }
            Framing::Tcp => {
                let length = tcp_length(query.len()).map_err(|_| OpenError::InvalidRequest)?;
                flow.unsent.extend_from_slice(&length);
                write(&mut flow.unsent);
            }
        }
        flow.ids.insert(id, seq);
        flow.tried = link.now();
        if !std::mem::replace(&mut flow.is_listed, true) {
            self.ready.push(stream);
        }
        Ok((stream, id))
    }

    fn choose(
        &mut self,
        link: &mut Link,
        common: &Common,
        target: Target,
        not: Option<StreamId>,
    ) -> Result<StreamId, OpenError> {
        let settings = &common.settings;
        let now = link.now();
        let streams = self.groups.get(&target).map(|group| &*group.streams).unwrap_or_default();
        let is_spent = |stream: &&StreamId| {
            let flow = self.flows.get(*stream);
            flow.is_none_or(|flow| flow.is_spent(now, settings.flow_lifetime))
        };
        if let Some(spent) = streams.iter().find(is_spent).copied() {
            self.retire(link, common, target, spent);
            return self.choose(link, common, target, not);
        }
        let none = Group::default();
        let group = self.groups.get(&target).unwrap_or(&none);
        let flow = |stream: &StreamId| self.flows.get(stream);
        let is_busy = |stream: &StreamId| {
            flow(stream).is_none_or(|flow| !flow.ids.is_empty() && !flow.is_listed)
        };
        // One whose server has answered last; else any other.
        let answers = |stream: &&StreamId| {
            Some(**stream) != not && flow(stream).is_some_and(|flow| flow.silent == 0)
        };
        let is_other = |stream: &&StreamId| Some(**stream) != not;
        // Now and then a silent one is tried: it answers, or is known to be dead.
        let is_turn = self.sent.is_multiple_of(PROBE);
        let to_try = |stream: &&StreamId| {
            let is_silent = |flow: &Flow| flow.silent > 0 && (is_turn || flow.is_forgotten(now));
            is_other(stream) && flow(stream).is_some_and(is_silent)
        };
        if let Some(silent) = group.streams.iter().find(to_try) {
            return Ok(*silent);
        }
        let may_open = group.streams.len() < settings.max_flows;
        let good = group.streams.iter().filter(answers).count();
        if good > 0 && !(may_open && group.streams.iter().all(is_busy)) {
            let mut good = group.streams.iter().filter(answers).skip(group.next % good);
            if let Some(stream) = good.next() {
                return Ok(*stream);
            }
        }
        if !may_open {
            let other = group.streams.iter().find(is_other).or(group.streams.first());
            return other.copied().ok_or(OpenError::TooManyStreams);
        }
        let zone = settings.zones.get(target.zone).ok_or(OpenError::InvalidRequest)?;
        let stream = link.open(request(zone, target)?, false)?;
        common.stats.flows.increment();
        let flow = Flow {
            target,
            ids: HashMap::new(),
            unsent: Vec::new(),
            is_listed: false,
            reading: Input::default(),
            opened: now,
            tried: now,
            silent: 0,
        };
        self.flows.insert(stream, flow);
        self.groups.entry(target).or_default().streams.push(stream);
        Ok(stream)
    }

    /// Has no more queries travel in a flow; it ends as soon as none waits in it.
    fn retire(&mut self, link: &mut Link, common: &Common, target: Target, stream: StreamId) {
        if let Some(group) = self.groups.get_mut(&target) {
            group.streams.retain(|other| *other != stream);
            if group.streams.is_empty() {
                self.groups.remove(&target);
            }
        }
        if self.flows.get(&stream).is_some_and(|flow| flow.ids.is_empty()) {
            self.end(link, common, stream);
        }
    }

    /// Hands what was gathered to the streams; the next queries travel in other flows.
    pub(crate) fn flush(&mut self, link: &mut Link) {
        for stream in std::mem::take(&mut self.ready) {
            self.flush_one(link, stream);
        }
    }

    /// As [`flush`](Self::flush), for one flow.
    pub(crate) fn flush_one(&mut self, link: &mut Link, stream: StreamId) {
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        flow.is_listed = false;
        let mut octets = Bytes::from(std::mem::take(&mut flow.unsent));
        link.send_octets(stream, &mut octets);
        if !octets.is_empty() {
            flow.unsent = octets.into();
        }
        if let Some(group) = self.groups.get_mut(&flow.target) {
            group.next = group.next.wrapping_add(1);
        }
    }

    /// Whether the stream is a flow.
    pub(crate) fn has(&self, stream: StreamId) -> bool {
        self.flows.contains_key(&stream)
    }

    pub(crate) fn framing(&self, stream: StreamId) -> Option<Framing> {
        self.flows.get(&stream).map(|flow| flow.target.framing)
    }

    /// Octets of a server's answers arrived: those that are complete.
    pub(crate) fn receive(&mut self, stream: StreamId, octets: Bytes) -> Answers {
        let Some(flow) = self.flows.get_mut(&stream) else { return Answers::default() };
        flow.reading.push(octets);
        let octets = flow.reading.take(usize::MAX);
        Answers { framing: flow.target.framing, octets, at: 0 }
    }

    /// Keeps what is left of those octets for later.
    pub(crate) fn put_back(&mut self, stream: StreamId, answers: Answers) {
        let Answers { octets, at, .. } = answers;
        if at < octets.len()
            && let Some(flow) = self.flows.get_mut(&stream)
        {
            flow.reading.push(octets.slice(at..));
        }
    }

    /// The query that an answer with this ID may be for.
    pub(crate) fn waiting(&self, stream: StreamId, id: u16) -> Option<Seq> {
        self.flows.get(&stream)?.ids.get(&id).copied()
    }

    /// A query does not wait for an answer in this flow any more: it has it, or it does not come.
    pub(crate) fn forget(
        &mut self,
        link: &mut Link,
        common: &Common,
        (stream, id): (StreamId, u16),
        answered: bool,
    ) {
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        flow.ids.remove(&id);
        flow.silent = if answered { 0 } else { flow.silent.saturating_add(1) };
        // One that is not used any more.
        if flow.ids.is_empty() {
            let group = self.groups.get(&flow.target);
            let is_retired = group.is_none_or(|group| !group.streams.contains(&stream));
            if is_retired || flow.silent >= MAX_SILENT {
                self.end(link, common, stream);
            }
        }
    }

    /// Ends a flow; the queries that wait in it are returned.
    pub(crate) fn end(&mut self, link: &mut Link, common: &Common, stream: StreamId) -> Vec<Seq> {
        let Some(flow) = self.flows.remove(&stream) else { return Vec::new() };
        if let Some(group) = self.groups.get_mut(&flow.target) {
            group.streams.retain(|other| *other != stream);
            if group.streams.is_empty() {
                self.groups.remove(&flow.target);
            }
        }
        common.stats.flows.add(-1);
        end(link, stream, flow.silent);
        flow.ids.into_values().collect()
    }

    /// Ends the flows that are old and in which nobody waits.
    pub(crate) fn end_idle(&mut self, link: &mut Link, common: &Common) {
        let (now, lifetime) = (link.now(), common.settings.flow_lifetime);
        let is_idle = |flow: &Flow| flow.ids.is_empty() && flow.is_spent(now, lifetime);
        let idle = self.flows.iter().filter(|(_, flow)| is_idle(flow));
        let idle: Vec<_> = idle.map(|(stream, _)| *stream).collect();
        for stream in idle {
            self.end(link, common, stream);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }
}

/// Ends a stream so that Envoy knows what to think of the server: one that was reset means nothing, and one whose
/// other side stays open after ours has ended is a failure of the server where the route's `per_try_idle_timeout`
/// says so. A single answer that was lost is none.
fn end(link: &mut Link, stream: StreamId, silent: u32) {
    if silent >= MAX_SILENT {
        link.finish(stream);
    } else {
        link.reset(stream);
    }
}

/// A server's answers, one after the other.
#[derive(Debug)]
pub(crate) struct Answers {
    framing: Framing,
    octets: Bytes,
    at: usize,
}

impl Default for Answers {
    fn default() -> Self {
        Self { framing: Framing::Udp, octets: Bytes::new(), at: 0 }
    }
}

impl Answers {
    /// The next answer; an error if nobody knows where it begins.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, &'static str> {
        loop {
            let rest = self.octets.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(None);
            }
            match self.framing {
                Framing::Udp => match datagram::next(rest) {
                    Next::Incomplete => return Ok(None),
                    Next::Nothing(len) => self.at += len,
                    Next::Datagram { from, len } => {
                        let answer = self.octets.slice(self.at + from..self.at + len);
                        self.at += len;
                        return Ok(Some(answer));
                    }
                    Next::Malformed => return Err("capsule_too_long"),
                },
                Framing::Tcp => match frame_tcp(rest, u16::MAX) {
                    Ok(Decoded::Complete { message, consumed }) => {
                        let end = self.at + consumed;
                        let answer = self.octets.slice(end - message.len()..end);
                        self.at = end;
                        return Ok(Some(answer));
                    }
                    Ok(Decoded::Incomplete { .. }) => return Ok(None),
                    Err(error) => return Err(error.label()),
                },
            }
        }
    }
}

fn request(zone: &Zone, target: Target) -> Result<Request<()>, OpenError> {
    let uri = Uri::builder()
        .scheme("http")
        .authority(zone.authority.clone())
        .path_and_query(PATH)
        .build()
        .map_err(|_| OpenError::InvalidRequest)?;
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    common_headers(headers, Carry::Flow, target.framing.label(), target.client);
    if target.framing == Framing::Udp {
        headers.insert("capsule-protocol", HeaderValue::from_static("?1"));
    }
    Ok(request)
}

/// The headers that every request has.
pub(crate) fn common_headers(
    headers: &mut HeaderMap,
    carry: Carry,
    transport: &'static str,
    client: Option<IpAddr>,
) {
    headers.insert("x-protocol", HeaderValue::from_static("dns"));
    headers.insert("x-carry", HeaderValue::from_static(carry.label()));
    headers.insert("x-dns-transport", HeaderValue::from_static(transport));
    if let Some(client) = client
        && let Ok(value) = HeaderValue::try_from(client.to_string())
    {
        headers.insert("x-forwarded-for", value);
    }
}
