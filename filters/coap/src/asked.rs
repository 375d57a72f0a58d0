//! Requests that Envoy is asked about, and requests that are HTTP requests.

use std::rc::Rc;
use std::time::Duration;

use bridge::{
    Bytes, Direction, Ended, HeaderMap, HeaderValue, Link, Request, Response, StatusCode, StreamId,
};
use coap_http::OptionSet;
use coap_http::response::{Head, Payload};
use codec_coap::{Block, Code, MessageType, OptionNumber};

use crate::answers::Origin;
use crate::blocks::{Budget, Key, Received, Share, part};
use crate::config::Transport;
use crate::exchanges::Seen;
use crate::rules::Carry;
use crate::session::Session;
use crate::sse::Events;
use crate::wire::{self, Incoming, Next, Token};

/// The longest diagnostic payload.
const MAX_DIAGNOSTIC: usize = 256;
/// Space for the header, the token and the options of a response besides its payload.
const OVERHEAD: usize = 256;
/// The longest event, in octets; longer ones are left out.
const MAX_EVENT: usize = 65_536;
/// So many notifications in a row may be non-confirmable: the next one finds out whether the client is still
/// there (RFC 7641 §4.5).
const NON_CONFIRMABLE_RUN: u32 = 5;

/// What Envoy said about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// Refused, with this status and this many seconds of Max-Age if it said so.
    Refused(StatusCode, Option<u32>),
}

/// A request under way on a stream of its own.
#[derive(Debug)]
pub(crate) struct Asked {
    kind: Kind,
    pub(crate) origin: Origin,
    pub(crate) since: Duration,
    head: Option<(StatusCode, HeaderMap)>,
    body: Vec<u8>,
    /// What the bodies take of what all sessions may keep.
    share: Share,
    /// Content of the request that there was no room for.
    unsent: Option<Bytes>,
}

#[derive(Debug)]
enum Kind {
    Check {
        /// The message, which goes on if it may.
        octets: Bytes,
        key: Option<(Vec<u8>, Duration)>,
    },
    Request {
        key: Key,
        /// The block of the response that is wanted.
        block2: Option<Block>,
        /// The last block of the request.
        block1: Option<Block>,
        observes: bool,
    },
    Events(Box<Observation>),
}

/// A resource that a client observes by a stream of server-sent events.
#[derive(Debug)]
struct Observation {
    token: Token,
    key: Key,
    events: Events,
    format: OptionSet,
    /// The number of the next notification (RFC 7641 §3.4).
    sequence: u32,
    /// Notifications since the last confirmable one.
    run: u32,
    /// A confirmable one was not heard yet, and this is the newest that waits for it.
    waits: bool,
    newest: Option<Vec<u8>>,
    /// The message ID of the last one, if it can be rejected.
    last_id: Option<u16>,
    /// The request itself was answered.
    answered: bool,
    block2: Option<Block>,
}

impl Asked {
    fn new(kind: Kind, origin: Origin, since: Duration, budget: &Rc<Budget>) -> Self {
        let share = Share::new(budget);
        Self { kind, origin, since, head: None, body: Vec::new(), share, unsent: None }
    }

    /// The request, if it waits for an acknowledgement that need not wait for the response.
    pub(crate) fn origin_to_acknowledge(&self) -> Option<&Origin> {
        let waits = match &self.kind {
            // What a server acknowledges is not acknowledged before it.
            Kind::Check { .. } => false,
            Kind::Request { .. } => true,
            Kind::Events(observation) => !observation.answered,
        };
        (waits && self.origin.waits()).then_some(&self.origin)
    }
}

impl Session {
    fn add_headers(
        &self,
        request: &mut Request<()>,
        message: &Incoming<'_>,
        carry: Carry,
        observe: Option<u32>,
    ) {
        let headers = request.headers_mut();
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        headers.insert("x-carry", HeaderValue::from_static(carry.label()));
        headers.insert("x-coap-method", HeaderValue::from_static(message.code.label()));
        if let Some((message_type, _)) = message.udp {
            headers.insert("x-coap-type", HeaderValue::from_static(message_type.label()));
        }
        if let Some(observe) = observe {
            headers.insert("x-coap-observe", HeaderValue::from(observe));
        }
    }

    /// Asks Envoy about a request. The stream it goes to, if the answer is known.
    pub(crate) fn check(
        &mut self,
        link: &mut Link,
        message: &Incoming<'_>,
        origin: Origin,
        cache: Duration,
        octets: impl Fn() -> Bytes,
    ) -> Option<StreamId> {
        let now = link.now();
        let describe = coap_http::request::describe;
        let mut request = match describe(message.code, &message.options, &self.authority) {
            Ok(request) => request,
            Err(error) => {
                self.explain(link, &origin, error.code(), &error.to_string());
                return None;
            }
        };
        let key = (!cache.is_zero()).then(|| {
            let uri = request.uri();
            let mut key = vec![message.code.0];
            if let Some(endpoint) = &self.endpoint {
                key.extend_from_slice(endpoint.0.as_bytes());
            }
            key.push(0);
            key.extend_from_slice(uri.to_string().as_bytes());
            key
        });
        if let Some(key) = &key
            && let Some(verdict) = self.verdicts.get(key, now)
        {
            return self.decide(link, message, &origin, verdict, true);
        }
        self.add_headers(&mut request, message, Carry::Check, message.options.observe());
        match link.open(request, true) {
            Ok(stream) => {
                let octets = octets();
                // A message may be a small part of many octets that came at once.
                let octets = Bytes::copy_from_slice(&octets);
                let kind = Kind::Check { octets, key: key.map(|key| (key, cache)) };
                self.asked.insert(stream, Asked::new(kind, origin, now, &self.common.budget));
            }
            Err(error) => {
                let text = error.to_string();
                self.explain(link, &origin, Code::SERVICE_UNAVAILABLE, &text);
            }
        }
        None
    }

    /// Does what was decided. The stream that the message goes to, if it may.
    fn decide(
        &mut self,
        link: &mut Link,
        message: &Incoming<'_>,
        origin: &Origin,
        verdict: Verdict,
        cached: bool,
    ) -> Option<StreamId> {
        match verdict {
            Verdict::Allowed => {
                self.common.stats.verdict("allowed", cached);
                if self.needs_proof(message) {
                    self.challenge(link, origin);
                    return None;
                }
                match self.enter(link, message, origin) {
                    Ok(stream) => {
                        if let Some((_, id)) = message.udp {
                            self.exchanges.set(id, Seen::Passed);
                        }
                        Some(stream)
                    }
                    Err((code, why)) => {
                        self.explain(link, origin, code, why);
                        None
                    }
                }
            }
            Verdict::Refused(status, max_age) => {
                self.common.stats.verdict("refused", cached);
                let mut options = OptionSet::new();
                if let Some(max_age) = max_age {
                    options.push(OptionNumber::MAX_AGE, max_age);
                }
                let code = refusal(coap_http::response::code(origin.method, status));
                let text = status.canonical_reason().unwrap_or_default();
                self.respond(link, origin, code, &options, text.as_bytes());
                None
            }
        }
    }

    /// Makes a request an HTTP request, once all of it has come.
    pub(crate) fn ask(&mut self, link: &mut Link, message: &Incoming<'_>, origin: Origin) {
        let now = link.now();
        let to_http = coap_http::request::to_http;
        let mut request = match to_http(message.code, &message.options, &self.authority) {
            Ok(request) => request,
            Err(error) => {
                if is_ignored(message, &error) {
                    self.common.stats.decode_error(Direction::FromClient, error.label());
                } else {
                    self.explain(link, &origin, error.code(), &error.to_string());
                }
                return;
            }
        };
        let key = Key::of(&self.common.hashes, message.code, &message.options);
        let block2 = message.options.block2();
        let block1 = message.options.block1();
        if let Some(block) = block2.filter(|block| block.num > 0)
            && block1.is_none_or(|block| !block.more)
        {
            if self.serve_stored(link, &origin, key, block) {
                return;
            }
            if !matches!(message.code, Code::GET | Code::FETCH) {
                // What the request did, it must not do twice.
                let text = "no such response any more";
                return self.explain(link, &origin, Code::REQUEST_ENTITY_INCOMPLETE, text);
            }
        }
        let max_body_size = self.common.settings.max_body_size;
        let too_large = message.options.size1().is_some_and(|size| size as usize > max_body_size);
        let body = match block1 {
            _ if too_large || message.payload.len() > max_body_size => Received::TooLarge,
            None => Received::Body(message.payload.to_vec()),
            Some(block) => self.transfers.receive(key, block, message.payload, max_body_size, now),
        };
        let body = match body {
            Received::Body(body) => {
                if block1.is_some() {
                    self.common.stats.transfer(Direction::FromClient, "complete");
                }
                body
            }
            other => return self.block_answer(link, &origin, block1, &other),
        };
        let is_read = matches!(message.code, Code::GET | Code::FETCH);
        let observe = message.options.observe().filter(|_| is_read);
        if observe.is_some() {
            self.stop_observing_token(link, origin.token);
            if self.needs_proof(message) {
                return self.challenge(link, &origin);
            }
        }
        let room = self.observed_by_request() < self.common.settings.max_observations;
        let observes = observe == Some(0) && room;
        self.add_headers(&mut request, message, Carry::Request, observe);
        if observes {
            let headers = request.headers_mut();
            let accept = headers.get("accept").and_then(|accept| accept.to_str().ok());
            let accept = format!("text/event-stream, {};q=0.9", accept.unwrap_or("*/*"));
            if let Ok(accept) = HeaderValue::try_from(accept) {
                headers.insert("accept", accept);
            }
        }
        let has_body = !body.is_empty() || !is_read && message.code != Code::DELETE;
        if has_body {
            request.headers_mut().insert("content-length", HeaderValue::from(body.len()));
        }
        let mut share = Share::new(&self.common.budget);
        if !share.grow(body.len()) {
            return self.block_answer(link, &origin, block1, &Received::NoRoom);
        }
        match link.open(request, !has_body) {
            Ok(stream) => {
                let kind = Kind::Request { key, block2, block1, observes };
                let waits = origin.waits();
                let mut asked = Asked::new(kind, origin, now, &self.common.budget);
                asked.share = share;
                asked.unsent = has_body.then(|| Bytes::from(body));
                self.asked.insert(stream, asked);
                self.flush_requests(link);
                if waits {
                    self.wake_at(link, now + self.common.settings.separate_after);
                }
            }
            Err(error) => {
                let text = error.to_string();
                self.explain(link, &origin, Code::SERVICE_UNAVAILABLE, &text);
            }
        }
    }

    /// Answers a block of a request that does not complete it.
    fn block_answer(
        &mut self,
        link: &mut Link,
        origin: &Origin,
        block: Option<Block>,
        received: &Received,
    ) {
        let (code, outcome, text) = match received {
            Received::Continue => (Code::CONTINUE, None, ""),
            Received::Body(_) => return,
            Received::Incomplete => {
                (Code::REQUEST_ENTITY_INCOMPLETE, Some("incomplete"), "a block is missing")
            }
            Received::TooLarge => {
                (Code::REQUEST_ENTITY_TOO_LARGE, Some("too_large"), "body is too large")
            }
            Received::NoRoom => (Code::SERVICE_UNAVAILABLE, Some("no_room"), "no room for bodies"),
            Received::Malformed => {
                (Code::BAD_REQUEST, Some("malformed"), "block is not as long as it says")
            }
        };
        let mut options = OptionSet::new();
        if let Some(block) = block {
            options.push(OptionNumber::BLOCK1, block);
        }
        if *received == Received::TooLarge {
            let most = u32::try_from(self.common.settings.max_body_size).unwrap_or(u32::MAX);
            options.push(OptionNumber::SIZE1, most);
        }
        if let Some(outcome) = outcome {
            self.common.stats.transfer(Direction::FromClient, outcome);
        } else {
            self.wake_at(link, link.now() + self.common.settings.transfer_timeout);
        }
        self.respond(link, origin, code, &options, text.as_bytes());
    }

    /// Answers with a block of a response that is kept. Whether there is one.
    fn serve_stored(&mut self, link: &mut Link, origin: &Origin, key: Key, block: Block) -> bool {
        let most = self.max_payload();
        let Some(stored) = self.transfers.stored(key, link.now()) else { return false };
        let Some((range, more)) = part(stored.body.len(), block, most) else {
            self.explain(link, origin, Code::BAD_OPTION, "no such block");
            return true;
        };
        let mut options = stored.options.clone();
        let code = stored.code;
        let payload = stored.body.slice(range);
        options.push(OptionNumber::BLOCK2, Block { more, ..block });
        if !more {
            self.transfers.forget(key);
            self.common.stats.transfer(Direction::ToClient, "complete");
        }
        self.respond(link, origin, code, &options, &payload);
        true
    }

    /// The longest payload that a message to the client may have.
    fn max_payload(&self) -> usize {
        let most = match self.transport {
            Transport::Udp | Transport::Dtls => self.common.settings.max_message_size,
            Transport::Tcp => self.peer_max_message_size.min(self.common.settings.max_message_size),
        };
        (most as usize).saturating_sub(OVERHEAD)
    }

    /// The block in which a response begins: as the client wants it, as far as it fits. None if the response
    /// goes as a whole.
    fn first_block(&self, wanted: Option<Block>, len: usize) -> Option<Block> {
        let szx = self.common.settings.szx;
        let most = self.max_payload();
        let whole = match self.transport {
            Transport::Udp | Transport::Dtls => len <= 16 << szx && len <= most,
            Transport::Tcp => len <= most,
        };
        let default = match self.transport {
            Transport::Tcp if self.peer_takes_bert && most >= 1024 => Block::BERT,
            _ => szx,
        };
        match wanted {
            None if whole => None,
            None => Some(Block { num: 0, more: false, szx: default }),
            Some(wanted) => {
                let szx = if wanted.szx == Block::BERT { default } else { wanted.szx.min(szx) };
                Some(Block { num: 0, more: false, szx })
            }
        }
    }

    /// Sends content of requests that there was no room for. Whether nothing of it is left.
    pub(crate) fn flush_requests(&mut self, link: &mut Link) -> bool {
        let mut done = true;
        for (stream, asked) in &mut self.asked {
            if let Some(unsent) = &mut asked.unsent {
                link.send_octets(*stream, unsent);
                if unsent.is_empty() {
                    link.finish(*stream);
                    asked.unsent = None;
                    asked.share.grow(asked.body.len());
                } else {
                    done = false;
                }
            }
        }
        done
    }

    pub(crate) fn asked_response(
        &mut self,
        link: &mut Link,
        stream: StreamId,
        response: Response<()>,
    ) {
        let (parts, ()) = response.into_parts();
        let Some(asked) = self.asked.get_mut(&stream) else { return };
        let is_events = parts.status == StatusCode::OK
            && parts.headers.get("content-type").is_some_and(|content| {
                content
                    .as_bytes()
                    .get(..17)
                    .is_some_and(|content| content.eq_ignore_ascii_case(b"text/event-stream"))
            });
        if let Kind::Request { key, block2, observes: true, .. } = asked.kind
            && is_events
        {
            let mut format = OptionSet::new();
            format.push(OptionNumber::CONTENT_FORMAT, codec_coap::ContentFormat::TEXT_PLAIN);
            let observation = Observation {
                token: asked.origin.token,
                key,
                events: Events::new(self.common.settings.max_body_size.min(MAX_EVENT)),
                format,
                sequence: 1,
                run: 0,
                waits: false,
                newest: None,
                last_id: None,
                answered: false,
                block2,
            };
            asked.kind = Kind::Events(Box::new(observation));
            self.common.stats.observations.increment();
        } else if let Kind::Check { .. } = asked.kind {
            self.checked(link, stream, parts.status, &parts.headers);
        } else {
            asked.head = Some((parts.status, parts.headers));
        }
    }

    /// Envoy has answered a check.
    fn checked(
        &mut self,
        link: &mut Link,
        stream: StreamId,
        status: StatusCode,
        headers: &HeaderMap,
    ) {
        let Some(asked) = self.asked.remove(&stream) else { return };
        link.finish(stream);
        let Kind::Check { octets, key } = asked.kind else { return };
        let now = link.now();
        self.common.stats.took(Carry::Check, now.saturating_sub(asked.since));
        let verdict = if status.is_success() {
            Verdict::Allowed
        } else {
            let method = asked.origin.method;
            let head = coap_http::response::from_http(method, status, headers, None);
            let max_age =
                head.options.as_list().into_iter().find_map(|option| match option.value {
                    codec_coap::OptionValue::Uint(seconds)
                        if option.number == OptionNumber::MAX_AGE =>
                    {
                        Some(seconds)
                    }
                    _ => None,
                });
            Verdict::Refused(status, max_age)
        };
        if let Some((key, cache)) = key
            && !status.is_server_error()
        {
            self.verdicts.put(&key, verdict, now + cache);
        }
        let limit = self.common.settings.max_message_size;
        let message = match wire::next(self.transport, &octets, limit) {
            Next::Datagram { payload, .. } => wire::udp(payload).ok(),
            Next::Frame(_) => {
                wire::tcp(&octets).ok().map(|message| Incoming::of_tcp(message, octets.len()))
            }
            _ => None,
        };
        // It was one when it came.
        let Some(message) = message else { return };
        if let Some(flow) = self.decide(link, &message, &asked.origin, verdict, false) {
            self.send_along(link, flow, octets);
        }
    }

    pub(crate) fn asked_body(&mut self, link: &mut Link, stream: StreamId, body: &[u8]) {
        let most = self.common.settings.max_body_size;
        let Some(asked) = self.asked.get_mut(&stream) else { return };
        if let Kind::Events(observation) = &mut asked.kind {
            let mut events = Vec::new();
            observation.events.read(body, |event| events.push(event));
            for event in events {
                self.event(link, stream, event);
            }
            return;
        }
        let len = asked.body.len() + body.len();
        let (code, outcome, text) = if len > most {
            (Code::BAD_GATEWAY, "too_large", "response is too large")
        } else if asked.share.grow(len + asked.unsent.as_ref().map_or(0, Bytes::len)) {
            asked.body.extend_from_slice(body);
            return;
        } else {
            (Code::SERVICE_UNAVAILABLE, "no_room", "no room for bodies")
        };
        let Some(asked) = self.asked.remove(&stream) else { return };
        link.reset(stream);
        self.common.stats.transfer(Direction::ToClient, outcome);
        self.explain(link, &asked.origin, code, text);
    }

    pub(crate) fn asked_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        let Some(asked) = self.asked.remove(&stream) else { return };
        link.abandon(stream);
        if let Kind::Events(observation) = asked.kind {
            self.common.stats.observations.add(-1);
            return self.end_observation(link, &asked.origin, stream, &observation);
        }
        match (asked.head, how) {
            (Some((status, headers)), Ended::Complete) => {
                let took = link.now().saturating_sub(asked.since);
                self.common.stats.took(Carry::Request, took);
                self.answer_with(link, &asked.origin, &asked.kind, status, &headers, asked.body);
            }
            _ => self.explain(link, &asked.origin, Code::BAD_GATEWAY, "response is cut off"),
        }
    }

    /// Answers with an HTTP response.
    fn answer_with(
        &mut self,
        link: &mut Link,
        origin: &Origin,
        kind: &Kind,
        status: StatusCode,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) {
        let &Kind::Request { key, block1, block2, .. } = kind else { return };
        let authority = Some(&self.authority);
        let Head { code, mut options, payload } =
            coap_http::response::from_http(origin.method, status, headers, authority);
        if let Some(block1) = block1 {
            options.push(OptionNumber::BLOCK1, block1);
        }
        match payload {
            Payload::None => self.respond(link, origin, code, &options, &[]),
            Payload::Diagnostic => {
                let text = coap_http::response::diagnostic(&body, MAX_DIAGNOSTIC);
                self.respond(link, origin, code, &options, text);
            }
            Payload::Content => {
                let body = Bytes::from(body);
                self.respond_in_blocks(link, origin, (key, block2), code, options, body);
            }
        }
    }

    /// Answers with a body that may have to be cut into blocks.
    fn respond_in_blocks(
        &mut self,
        link: &mut Link,
        origin: &Origin,
        (key, wanted): (Key, Option<Block>),
        code: Code,
        mut options: OptionSet,
        body: Bytes,
    ) {
        let Some(first) = self.first_block(wanted, body.len()) else {
            return self.respond(link, origin, code, &options, &body);
        };
        // A GET for a later block of what is not kept any more has fetched it anew.
        let num = wanted.map_or(0, |wanted| wanted.num);
        let block = match wanted {
            Some(wanted) if num > 0 && first.szx < wanted.szx => {
                Block { num: num << (wanted.szx - first.szx), ..first }
            }
            _ => Block { num, ..first },
        };
        if options.as_list().iter().all(|option| option.number != OptionNumber::ETAG) {
            // So that the client notices when it gets blocks of another body (RFC 7959 §2.4).
            let tag = std::hash::BuildHasher::hash_one(&self.common.hashes, &body);
            options.push(OptionNumber::ETAG, &tag.to_be_bytes()[..]);
        }
        let Some((range, more)) = part(body.len(), block, self.max_payload()) else {
            return self.explain(link, origin, Code::BAD_OPTION, "no such block");
        };
        let mut head = options.clone();
        head.push(OptionNumber::BLOCK2, Block { more, ..block });
        if num == 0 && more {
            head.push(OptionNumber::SIZE2, u32::try_from(body.len()).unwrap_or(u32::MAX));
        }
        let payload = body.slice(range);
        if more {
            // The acknowledgement of the request's own blocks is in the first response only.
            options.remove(OptionNumber::BLOCK1);
            let now = link.now();
            if !self.transfers.store(key, code, options, body, now) {
                self.common.stats.transfer(Direction::ToClient, "no_room");
                let text = "no room for bodies";
                return self.explain(link, origin, Code::SERVICE_UNAVAILABLE, text);
            }
            self.wake_at(link, now + self.common.settings.transfer_timeout);
        }
        self.respond(link, origin, code, &head, &payload);
    }

    /// An event is the resource's new state: a notification, or the response itself.
    fn event(&mut self, link: &mut Link, stream: StreamId, data: Vec<u8>) {
        let Some(asked) = self.asked.get_mut(&stream) else { return };
        let Kind::Events(observation) = &mut asked.kind else { return };
        if observation.waits {
            // Of what waits only the newest matters (RFC 7641 §4.5.2).
            observation.newest = Some(data);
            return;
        }
        let first = !std::mem::replace(&mut observation.answered, true);
        let sequence = observation.sequence;
        observation.sequence = (sequence + 1) & 0xff_ffff;
        let confirmable =
            !first && observation.run >= NON_CONFIRMABLE_RUN && self.transport != Transport::Tcp;
        observation.run = if confirmable { 0 } else { observation.run + 1 };
        observation.waits = confirmable;
        let (token, key, wanted) = (observation.token, observation.key, observation.block2);
        let mut options = observation.format.clone();
        let origin = asked.origin.clone();
        let body = Bytes::from(data);
        let block = self.first_block(wanted, body.len());
        let mut payload = body.clone();
        if let Some(block) = block
            && let Some((range, more)) = part(body.len(), block, self.max_payload())
        {
            let tag = std::hash::BuildHasher::hash_one(&self.common.hashes, &body);
            options.push(OptionNumber::ETAG, &tag.to_be_bytes()[..]);
            if more {
                // Without room the client learns of the later blocks that they are gone.
                let now = link.now();
                self.transfers.store(key, Code::CONTENT, options.clone(), body.clone(), now);
                self.wake_at(link, now + self.common.settings.transfer_timeout);
            }
            options.push(OptionNumber::BLOCK2, Block { more, ..block });
            payload = body.slice(range);
        }
        options.push(OptionNumber::OBSERVE, sequence);
        let content = (Code::CONTENT, &options, &*payload);
        let sent = if first {
            self.respond_to_observer(link, &origin, content, Some(stream))
        } else {
            self.notify(link, token, confirmable, content, stream)
        };
        if let Some(Asked { kind: Kind::Events(observation), .. }) = self.asked.get_mut(&stream) {
            let rejectable = sent.filter(|(kind, _)| *kind != MessageType::Acknowledgement);
            observation.last_id = rejectable.map(|(_, id)| id);
            observation.waits = sent.is_some_and(|(kind, _)| kind == MessageType::Confirmable);
        }
    }

    /// The service has ended the events: the client is told that there are no more (RFC 7641 §4.2).
    fn end_observation(
        &mut self,
        link: &mut Link,
        origin: &Origin,
        stream: StreamId,
        observation: &Observation,
    ) {
        let text = "the events have ended";
        if observation.answered {
            let content = (Code::SERVICE_UNAVAILABLE, &OptionSet::new(), text.as_bytes());
            self.confirmables_of(stream);
            let confirmable = self.transport != Transport::Tcp;
            self.notify(link, observation.token, confirmable, content, stream);
        } else {
            self.explain(link, origin, Code::SERVICE_UNAVAILABLE, text);
        }
    }

    /// Forgets notifications that wait to be heard: there is something newer to say.
    fn confirmables_of(&mut self, stream: StreamId) {
        self.confirmables.retain(|confirmable| !confirmable.is_of(stream));
    }

    /// How many resources are observed by streams of events.
    pub(crate) fn observed_by_request(&self) -> usize {
        self.asked.values().filter(|asked| matches!(asked.kind, Kind::Events(_))).count()
    }

    /// The observation whose last notification had this message ID.
    pub(crate) fn notified_with(&self, id: u16) -> Option<StreamId> {
        let mut asked = self.asked.iter();
        let with_id = |asked: &Asked| match &asked.kind {
            Kind::Events(observation) => observation.last_id == Some(id),
            _ => false,
        };
        asked.find(|(_, asked)| with_id(asked)).map(|(stream, _)| *stream)
    }

    /// The client has heard a confirmable notification.
    pub(crate) fn notification_heard(&mut self, link: &mut Link, stream: StreamId) {
        if let Some(Asked { kind: Kind::Events(observation), .. }) = self.asked.get_mut(&stream) {
            observation.waits = false;
            if let Some(newest) = observation.newest.take() {
                self.event(link, stream, newest);
            }
        }
    }

    /// The client does not observe any more.
    pub(crate) fn stop_observing(&mut self, link: &mut Link, stream: StreamId) {
        if self.asked.remove(&stream).is_some() {
            self.common.stats.observations.add(-1);
            self.confirmables_of(stream);
            link.reset(stream);
        }
    }

    /// As [`stop_observing`](Self::stop_observing), by the token of the request.
    fn stop_observing_token(&mut self, link: &mut Link, token: Token) {
        let of_token = |asked: &Asked| match &asked.kind {
            Kind::Events(observation) => observation.token == token,
            _ => false,
        };
        let stream = self.asked.iter().find(|(_, asked)| of_token(asked)).map(|(id, _)| *id);
        if let Some(stream) = stream {
            self.stop_observing(link, stream);
        }
    }
}

/// The code of a refusal: a 304 must not tell the client that what it has is valid.
pub(crate) fn refusal(code: Code) -> Code {
    if code.class() == 2 { Code::BAD_GATEWAY } else { code }
}

/// A non-confirmable request with a critical option that is not understood is ignored (RFC 7252 §5.4.1).
fn is_ignored(message: &Incoming<'_>, error: &coap_http::request::ToHttpError) -> bool {
    matches!(message.udp, Some((MessageType::NonConfirmable, _)))
        && error.code() == Code::BAD_OPTION
}
