//! The service behind the HTTP server.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{
    Bytes, Ended, HeaderMap, HeaderName, HeaderValue, Link, OpenError, Peer, Request, Response,
    StatusCode, StreamId,
};
use coap_http::request::FromHttpError;
use coap_http::response::{DEFAULT_MAX_AGE, diagnostic};
use codec_coap::{Code, Message, MessageType, OptionNumber, decode, header};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http_server::{Clients, RequestId, Service};

use crate::config::Settings;
use crate::event;
use crate::exchange::{Exchange, Observation, Observe, Phase, Step, Target, Upload};
use crate::flow::{self, Flow, Key, Token};
use crate::random::Random;
use crate::stats::{self, Stats};

const COAP_TYPE: HeaderName = HeaderName::from_static("x-coap-type");
const COAP_HOP_LIMIT: HeaderName = HeaderName::from_static("x-coap-hop-limit");
const COAP_CONTENT_TYPE: HeaderName = HeaderName::from_static("x-coap-content-type");
const EVENT_STREAM: &str = "text/event-stream";
/// As much of a diagnostic payload as an event or a log line gets, in bytes.
const MAX_DIAGNOSTIC: usize = 256;
/// How much longer than Max-Age a silent server is waited for, at least (RFC 7641 §3.3.1).
const REFRESH_DELAY: Duration = Duration::from_secs(5);

/// Answers HTTP requests with what CoAP servers say.
#[derive(Debug)]
pub struct Egress {
    settings: Rc<Settings>,
    stats: Stats,
    random: Random,
    flows: BTreeMap<StreamId, Flow>,
    /// The flows that other requests may use.
    keys: BTreeMap<Key, StreamId>,
    exchanges: BTreeMap<RequestId, Exchange>,
    timers: BTreeSet<(Duration, Timer)>,
    /// Flows with datagrams that wait for room.
    blocked: BTreeSet<StreamId>,
    /// Observations with an event that waits for room.
    slow: BTreeSet<RequestId>,
    /// Bytes of incomplete responses.
    held: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Exchange(RequestId),
    Flow(StreamId),
}

/// Why a request is answered by the gateway itself.
#[derive(Debug, Clone, Copy)]
struct Failure {
    status: StatusCode,
    /// For metrics.
    label: &'static str,
    reason: &'static str,
}

impl Failure {
    const fn new(status: StatusCode, label: &'static str, reason: &'static str) -> Self {
        Self { status, label, reason }
    }

    const fn busy(reason: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", reason)
    }

    const fn broken(reason: &'static str) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "bad_response", reason)
    }

    const TIMEOUT: Self =
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "the CoAP server did not answer in time");
    const RESET: Self =
        Self::new(StatusCode::BAD_GATEWAY, "reset", "the CoAP server rejected the request");
    const LOST: Self =
        Self::new(StatusCode::BAD_GATEWAY, "lost", "the way to the CoAP server was lost");
}

impl From<FromHttpError> for Failure {
    fn from(error: FromHttpError) -> Self {
        Self::new(error.status(), "not_coap", error.reason())
    }
}

impl Egress {
    /// A service for one connection. The `seed` is not to be known to those who could send
    /// datagrams with forged addresses: tokens and message IDs come from it.
    #[must_use]
    pub fn new(settings: Rc<Settings>, metrics: &Registry, seed: u64) -> Self {
        Self {
            settings,
            stats: Stats::new(metrics),
            random: Random::new(seed),
            flows: BTreeMap::new(),
            keys: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            timers: BTreeSet::new(),
            blocked: BTreeSet::new(),
            slow: BTreeSet::new(),
            held: 0,
        }
    }

    /// Turns an HTTP request into an exchange.
    fn begin(
        &mut self,
        link: &mut Link,
        id: RequestId,
        mut head: Parts,
        mut body: Bytes,
    ) -> Result<(), Failure> {
        let observe = head.method == http::Method::GET && take_event_stream(&mut head.headers);
        if body.is_empty() {
            head.headers.remove(CONTENT_TYPE);
        }
        let (code, mut options) = coap_http::request::from_http(&head)?;
        if observe {
            // An event has content in any case.
            options.remove(OptionNumber::ETAG);
        }
        if let Some(limit) = self.hop_limit(&head.headers)? {
            options.push(OptionNumber::HOP_LIMIT, u32::from(limit));
        }
        if matches!(code, Code::GET | Code::DELETE) {
            // Theirs has no meaning (RFC 9110 §9.3.1, §9.3.5).
            body = Bytes::new();
        }
        let szx = self.settings.szx;
        let upload = (body.len() > 16 << szx).then_some(Upload { offset: 0, szx, done: false });
        let target = self.target(&head)?;
        let flow = self.flow_to(link, &target, upload.is_some())?;
        let mut exchange = Exchange::new(target, flow, code, link.now());
        exchange.is_head = head.method == http::Method::HEAD;
        exchange.options = options;
        exchange.body = body;
        exchange.is_confirmable = head
            .headers
            .get(COAP_TYPE)
            .is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"non"));
        exchange.upload = upload;
        if observe {
            exchange.observe = Observe::Wanted;
        }
        self.exchanges.insert(id, exchange);
        self.join(flow, id);
        self.next(link, id, false);
        Ok(())
    }

    fn hop_limit(&self, headers: &HeaderMap) -> Result<Option<u8>, Failure> {
        let received =
            headers.get(COAP_HOP_LIMIT).and_then(|value| value.to_str().ok()?.parse::<u8>().ok());
        match received {
            Some(0 | 1) => Err(Failure::new(
                StatusCode::LOOP_DETECTED,
                "hop_limit",
                "the Hop-Limit is used up",
            )),
            Some(limit) => Ok(Some(limit - 1)),
            None => Ok(self.settings.hop_limit),
        }
    }

    fn target(&self, head: &Parts) -> Result<Target, Failure> {
        let invalid =
            Failure::new(StatusCode::BAD_REQUEST, "not_coap", "the request has no authority");
        let authority = head.uri.authority().ok_or(invalid)?.as_str().to_ascii_lowercase();
        let segments = head.uri.path().split('/').skip(1).take(self.settings.flow_path_segments);
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            path.push_str(segment);
        }
        if path.is_empty() {
            path.push('/');
        }
        Ok(Target { authority, path })
    }

    /// The flow for a request with this target; an exclusive one is without requests.
    fn flow_to(
        &mut self,
        link: &mut Link,
        target: &Target,
        is_exclusive: bool,
    ) -> Result<StreamId, Failure> {
        let key = Key { target: format!("{}{}", target.authority, target.path), is_exclusive };
        if let Some(stream) = self.keys.get(&key).copied()
            && let Some(flow) = self.flows.get_mut(&stream)
        {
            if is_exclusive {
                // Until its transfer is over.
                self.keys.remove(&key);
            }
            if !flow.is_used_up() {
                if flow.queue.len() >= self.settings.max_queued_requests
                    && flow.active.len() >= self.settings.nstart
                {
                    return Err(Failure::busy("too many requests wait for the CoAP server"));
                }
                return Ok(stream);
            }
            self.keys.remove(&key);
            flow.key = None;
            if flow.members.is_empty() {
                self.close(link, stream);
            }
        }
        if self.flows.len() >= self.settings.max_flows {
            return Err(Failure::busy("too many flows to CoAP servers"));
        }
        let uri = http::Uri::builder()
            .scheme("http")
            .authority(target.authority.as_str())
            .path_and_query(target.path.as_str())
            .build()
            .map_err(|_| Failure::from(FromHttpError::InvalidPath))?;
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert("x-protocol", HeaderValue::from_static("coap"));
        headers.insert("x-carry", HeaderValue::from_static("flow"));
        headers.insert("capsule-protocol", HeaderValue::from_static("?1"));
        let stream = link.open(request, false).map_err(|error| match error {
            OpenError::TooManyStreams => Failure::busy("too many flows to CoAP servers"),
            OpenError::InvalidRequest => FromHttpError::InvalidPath.into(),
            _ => Failure::LOST,
        })?;
        if !is_exclusive {
            self.keys.insert(key.clone(), stream);
        }
        self.flows.insert(stream, Flow::new(stream, Some(key), &mut self.random));
        self.stats.flows.increment();
        Ok(stream)
    }

    fn join(&mut self, stream: StreamId, id: RequestId) {
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.members.insert(id);
            if let Some(at) = flow.idle.take() {
                self.timers.remove(&(at, Timer::Flow(stream)));
            }
        }
    }

    /// Sends the next message of a request as soon as it may be; `first` before others that wait.
    fn next(&mut self, link: &mut Link, id: RequestId, first: bool) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let Some(flow) = self.flows.get_mut(&exchange.flow) else { return };
        if matches!(exchange.phase, Phase::Queued) {
            flow.queue.retain(|waiting| *waiting != id);
        }
        if flow.active.contains(&id) || flow.active.len() < self.settings.nstart {
            flow.active.insert(id);
            self.transmit(link, id);
        } else {
            exchange.phase = Phase::Queued;
            if first {
                flow.queue.push_front(id);
            } else {
                flow.queue.push_back(id);
            }
        }
    }

    /// A request needs no acknowledgement and no response for now: others may go on (RFC 7252
    /// §4.7).
    fn release(&mut self, link: &mut Link, stream: StreamId, id: RequestId) {
        let nstart = self.settings.nstart;
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        flow.active.remove(&id);
        while let Some(flow) = self.flows.get_mut(&stream)
            && flow.active.len() < nstart
            && let Some(next) = flow.queue.pop_front()
        {
            flow.active.insert(next);
            self.transmit(link, next);
        }
    }

    /// Sends the next message of a request for the first time.
    fn transmit(&mut self, link: &mut Link, id: RequestId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let Some(flow) = self.flows.get_mut(&exchange.flow) else { return };
        forget_messages(flow, exchange);
        let token = match &exchange.observe {
            Observe::Active(observation) if exchange.download.is_none() => observation.token,
            _ => {
                let token = flow.new_token(id, &mut self.random);
                exchange.token = Some(token);
                token
            }
        };
        let message_id = flow.new_message_id(id);
        let Some(capsule) = exchange.next_message(message_id, &token) else {
            // The options of any request can be encoded, as `coap-http` promises.
            return;
        };
        if !flow.send(link, &capsule) {
            self.stats.dropped.increment();
        }
        if flow.is_blocked() {
            self.blocked.insert(exchange.flow);
        }
        let wait = if exchange.is_confirmable {
            let most = self.settings.ack_random_factor - 1.0;
            let timeout = self.settings.ack_timeout.mul_f64(1.0 + most * self.random.fraction());
            exchange.phase = Phase::Sent { message_id, capsule, timeout, retransmissions: 0 };
            timeout
        } else {
            exchange.phase = Phase::Accepted { message_id: Some(message_id) };
            self.settings.response_timeout
        };
        set_timer(&mut self.timers, exchange, id, Some(link.now() + wait));
    }

    /// The timer of a request has run out.
    fn expire(&mut self, link: &mut Link, clients: &mut Clients, id: RequestId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let stream = exchange.flow;
        match &mut exchange.phase {
            Phase::Sent { capsule, timeout, retransmissions, .. }
                if *retransmissions < self.settings.max_retransmit =>
            {
                *retransmissions += 1;
                *timeout *= 2;
                let at = link.now() + *timeout;
                self.stats.retransmissions.increment();
                if let Some(flow) = self.flows.get_mut(&stream) {
                    if !flow.send(link, capsule) {
                        self.stats.dropped.increment();
                    }
                    if flow.is_blocked() {
                        self.blocked.insert(stream);
                    }
                }
                set_timer(&mut self.timers, exchange, id, Some(at));
            }
            Phase::Idle => self.next(link, id, false),
            Phase::Queued => {}
            Phase::Sent { .. } | Phase::Accepted { .. } => {
                self.stats.timeouts.increment();
                self.fail(link, clients, id, Failure::TIMEOUT);
            }
        }
    }

    /// A datagram arrived in a flow.
    fn receive(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        datagram: &[u8],
    ) {
        let message = match decode(datagram) {
            Ok(message) => message,
            Err(error) => {
                self.stats.ignored(error.label());
                let Ok(header) = header(datagram) else { return };
                if header.message_type == MessageType::Confirmable {
                    self.answer(link, stream, MessageType::Reset, header.message_id);
                }
                let Some(flow) = self.flows.get(&stream) else { return };
                // Only a critical option stands for a message that was understood otherwise (RFC
                // 7252 §5.4.1).
                if header.code.is_response()
                    && error.response_code().is_some()
                    && let Some(id) = header.token(datagram).and_then(|token| flow.by_token(token))
                {
                    self.fail(
                        link,
                        clients,
                        id,
                        Failure::broken("the response has a malformed option"),
                    );
                }
                return;
            }
        };
        match message.message_type {
            MessageType::Acknowledgement => self.acknowledged(link, clients, stream, &message),
            MessageType::Reset => {
                let id =
                    self.flows.get(&stream).and_then(|flow| flow.by_message_id(message.message_id));
                match id {
                    Some(id) => self.fail(link, clients, id, Failure::RESET),
                    None => self.stats.ignored("unexpected_reset"),
                }
            }
            MessageType::Confirmable | MessageType::NonConfirmable => {
                self.sent_by_server(link, clients, stream, &message);
            }
        }
    }

    fn acknowledged(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        message: &Message<'_>,
    ) {
        let found = self.flows.get(&stream).and_then(|flow| flow.by_message_id(message.message_id));
        let exchange = found.and_then(|id| Some((id, self.exchanges.get_mut(&id)?)));
        let Some((id, exchange)) =
            exchange.filter(|(_, exchange)| matches!(exchange.phase, Phase::Sent { .. }))
        else {
            return self.stats.ignored("unexpected_acknowledgement");
        };
        if message.code == Code::EMPTY {
            exchange.phase = Phase::Accepted { message_id: None };
            let at = link.now() + self.settings.response_timeout;
            set_timer(&mut self.timers, exchange, id, Some(at));
            if let Some(flow) = self.flows.get_mut(&stream) {
                flow.forget_message_id(message.message_id);
            }
            self.release(link, stream, id);
            return;
        }
        let by_token = self.flows.get(&stream).and_then(|flow| flow.by_token(message.token));
        if by_token != Some(id) {
            return self.stats.ignored("unknown_token");
        }
        if has_unknown_critical(message) {
            return self.fail(
                link,
                clients,
                id,
                Failure::broken("the response has an unknown option"),
            );
        }
        self.respond(link, clients, id, message);
    }

    /// A message of the server that acknowledges nothing: a separate response, a notification, or
    /// what does not belong here.
    fn sent_by_server(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        message: &Message<'_>,
    ) {
        let is_confirmable = message.message_type == MessageType::Confirmable;
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        if let Some(answer) = flow.remembered(message.message_id) {
            self.stats.ignored("duplicate");
            if is_confirmable {
                self.answer(link, stream, answer, message.message_id);
            }
            return;
        }
        let found = message.code.is_response().then(|| flow.by_token(message.token)).flatten();
        let is_understood = !has_unknown_critical(message);
        let answer = match found {
            Some(_) if is_understood => MessageType::Acknowledgement,
            _ => MessageType::Reset,
        };
        flow.remember(message.message_id, answer);
        // A notification that nobody wants is to be rejected even if it is not confirmable (RFC
        // 7641 §3.6).
        let is_stray = found.is_none() && message.options.observe().is_some();
        if is_confirmable || is_stray || !is_understood {
            self.answer(link, stream, answer, message.message_id);
        }
        match found {
            Some(id) if is_understood => self.respond(link, clients, id, message),
            Some(id) => {
                self.fail(link, clients, id, Failure::broken("the response has an unknown option"));
            }
            None if message.code.is_request() => self.stats.ignored("request"),
            None if message.code == Code::EMPTY => self.stats.ignored("ping"),
            None => self.stats.ignored("unknown_token"),
        }
    }

    /// Acknowledges or resets a message of the server.
    fn answer(&mut self, link: &mut Link, stream: StreamId, answer: MessageType, message_id: u16) {
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        if let Some(capsule) = flow::capsule(&Message::empty(answer, message_id)) {
            if !flow.send(link, &capsule) {
                self.stats.dropped.increment();
            }
            if flow.is_blocked() {
                self.blocked.insert(stream);
            }
        }
    }

    /// A response to a request arrived.
    fn respond(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        message: &Message<'_>,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        if let Observe::Active(observation) = &exchange.observe
            && observation.token == message.token
        {
            return self.notified(link, clients, id, message);
        }
        if exchange.token.as_ref().map(|token| &token[..]) != Some(message.token) {
            return;
        }
        let Some(flow) = self.flows.get_mut(&exchange.flow) else { return };
        let is_registered = matches!(exchange.observe, Observe::Wanted)
            && message.code.class() == 2
            && message.options.observe().is_some();
        if is_registered {
            // Notifications have the token of this request.
            exchange.token = None;
        }
        forget_messages(flow, exchange);
        set_timer(&mut self.timers, exchange, id, None);
        if is_registered {
            return self.observing(link, clients, id, message);
        }
        exchange.phase = Phase::Idle;
        if message.code == Code::UNAUTHORIZED
            && let Some(echo) = message.options.echo()
            && !std::mem::replace(&mut exchange.is_echoed, true)
        {
            // The server wants to see that the request is fresh (RFC 9175 §2.3).
            exchange.options.push(OptionNumber::ECHO, echo);
            exchange.begin_again();
            return self.next(link, id, true);
        }
        match exchange.uploaded(message) {
            Step::Continue => self.next(link, id, true),
            Step::Elsewhere => self.move_to_own_flow(link, clients, id),
            Step::Broken(reason) => self.fail(link, clients, id, Failure::broken(reason)),
            Step::Final | Step::Whole(_) => self.download(link, clients, id, message),
        }
    }

    /// Goes on with a response that may be one block of a longer one.
    fn download(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        message: &Message<'_>,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let before = held(exchange);
        let step = exchange.downloaded(message, self.settings.max_response_size);
        self.held = self.held + held(exchange) - before;
        let is_observing = exchange.is_observing();
        match step {
            Step::Continue if self.held > self.settings.max_held_size => {
                self.fail(link, clients, id, Failure::busy("too many responses are incomplete"));
            }
            Step::Continue | Step::Elsewhere => self.next(link, id, true),
            Step::Whole(whole) if is_observing => self.event(link, clients, id, &whole.content),
            Step::Whole(whole) => {
                self.finish(link, clients, id, whole.code, whole.head, whole.content.freeze());
            }
            Step::Final | Step::Broken(_) if is_observing => {
                // What is missed is followed by another notification, if it has changed.
                self.stats.skipped.increment();
                self.discard(id);
                self.rest(link, id);
            }
            Step::Final => {
                let head =
                    coap_http::response::to_http(message.code, &message.options, message.payload);
                let content = Bytes::copy_from_slice(message.payload);
                self.finish(link, clients, id, message.code, head, content);
            }
            Step::Broken(reason) => self.fail(link, clients, id, Failure::broken(reason)),
        }
    }

    /// Answers a request with the server's response.
    fn finish(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        code: Code,
        head: Response<()>,
        content: Bytes,
    ) {
        let Some(exchange) = self.exchanges.get(&id) else { return };
        if exchange.is_head || head.status() == StatusCode::NOT_MODIFIED {
            clients.respond(id, head, true);
        } else {
            clients.respond_with(id, head, content);
        }
        let took = link.now().saturating_sub(exchange.started);
        self.stats.microseconds.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.end(link, id, code.label());
    }

    /// The server wants smaller blocks than a request that had been sent as a whole.
    fn move_to_own_flow(&mut self, link: &mut Link, clients: &mut Clients, id: RequestId) {
        let Some(exchange) = self.exchanges.get(&id) else { return };
        let (target, old) = (exchange.target.clone(), exchange.flow);
        match self.flow_to(link, &target, true) {
            Ok(flow) => {
                self.leave(link, old, id);
                if let Some(exchange) = self.exchanges.get_mut(&id) {
                    exchange.flow = flow;
                }
                self.join(flow, id);
                self.next(link, id, false);
            }
            Err(failure) => self.fail(link, clients, id, failure),
        }
    }

    /// The server has accepted an observation: the answer begins.
    fn observing(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        message: &Message<'_>,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let (Some(sequence), Ok(token)) =
            (message.options.observe(), Token::try_from(message.token))
        else {
            return;
        };
        let mut observation = Observation::new(token, sequence, link.now());
        observation.format = message.options.content_format();
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let described =
            coap_http::response::to_http(message.code, &message.options, message.payload);
        if let Some(media_type) = described.headers().get(CONTENT_TYPE) {
            headers.insert(COAP_CONTENT_TYPE, media_type.clone());
        }
        clients.respond(id, response, false);
        exchange.observe = Observe::Active(Box::new(observation));
        self.stats.observations.increment();
        self.notification(link, clients, id, message);
    }

    /// A message with the token of an observation arrived.
    fn notified(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        message: &Message<'_>,
    ) {
        let now = link.now();
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let Observe::Active(observation) = &mut exchange.observe else { return };
        match message.options.observe() {
            Some(sequence) if message.code.class() == 2 => {
                if !observation.is_newer(sequence, now) {
                    self.stats.ignored("old_notification");
                    // Nevertheless the answer, if the server was asked again.
                    return if exchange.download.is_none() {
                        self.rest(link, id)
                    };
                }
                self.discard(id);
                self.notification(link, clients, id, message);
            }
            // The server has removed the client from its list (RFC 7641 §3.2).
            _ if message.code.class() == 2 => {
                let event =
                    event::notification(None, message.options.content_format(), message.payload);
                clients.send(id, event);
                clients.finish(id);
                self.end(link, id, "observed");
            }
            _ => {
                let text =
                    str::from_utf8(diagnostic(message.payload, MAX_DIAGNOSTIC)).unwrap_or_default();
                clients.send(id, event::error(format!("{} {text}", message.code).trim_end()));
                clients.finish(id);
                self.end(link, id, message.code.label());
            }
        }
    }

    /// Passes a notification on, or asks for the rest of it.
    fn notification(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        message: &Message<'_>,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let Observe::Active(observation) = &mut exchange.observe else { return };
        let max_age = message.options.max_age().unwrap_or(DEFAULT_MAX_AGE);
        let jitter = Duration::from_millis(self.random.next() % 10_000);
        observation.refresh =
            link.now() + Duration::from_secs(max_age.into()) + REFRESH_DELAY + jitter;
        observation.format = message.options.content_format();
        if message.options.block2().is_some_and(|block| block.more) {
            self.download(link, clients, id, message);
        } else {
            self.event(link, clients, id, message.payload);
        }
    }

    /// Sends an event, or keeps it while the client has no room.
    fn event(&mut self, link: &mut Link, clients: &mut Clients, id: RequestId, payload: &[u8]) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let Observe::Active(observation) = &mut exchange.observe else { return };
        let event = event::notification(Some(observation.sequence()), observation.format, payload);
        if clients.held(id) > self.settings.max_held_events {
            if observation.waiting.replace(event).is_some() {
                self.stats.skipped.increment();
            }
            self.slow.insert(id);
        } else {
            clients.send(id, event);
        }
        self.rest(link, id);
    }

    /// Nothing is to be sent for an observation until it has to be refreshed.
    fn rest(&mut self, link: &mut Link, id: RequestId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let Observe::Active(observation) = &exchange.observe else { return };
        let refresh = observation.refresh.max(link.now() + REFRESH_DELAY);
        let stream = exchange.flow;
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.queue.retain(|waiting| *waiting != id);
            forget_messages(flow, exchange);
        }
        exchange.phase = Phase::Idle;
        set_timer(&mut self.timers, exchange, id, Some(refresh));
        self.release(link, stream, id);
    }

    /// Forgets the blocks of a response.
    fn discard(&mut self, id: RequestId) {
        if let Some(exchange) = self.exchanges.get_mut(&id) {
            self.held -= held(exchange);
            exchange.download = None;
        }
    }

    /// Answers a request with a failure, or ends its events with it.
    fn fail(&mut self, link: &mut Link, clients: &mut Clients, id: RequestId, failure: Failure) {
        match self.exchanges.get(&id) {
            Some(exchange) if exchange.is_observing() => {
                clients.send(id, event::error(failure.reason));
                clients.finish(id);
            }
            _ => answer_with(clients, id, failure),
        }
        self.end(link, id, failure.label);
    }

    /// Forgets a request that was answered, or that nobody waits for.
    fn end(&mut self, link: &mut Link, id: RequestId, label: &'static str) {
        self.discard(id);
        let Some(mut exchange) = self.exchanges.remove(&id) else { return };
        set_timer(&mut self.timers, &mut exchange, id, None);
        self.stats.request(exchange.code.label(), label);
        if let Some(flow) = self.flows.get_mut(&exchange.flow) {
            forget_messages(flow, &mut exchange);
            if let Observe::Active(observation) = &exchange.observe {
                flow.forget_token(&observation.token);
            }
        }
        if exchange.is_observing() {
            self.stats.observations.add(-1);
        }
        self.leave(link, exchange.flow, id);
    }

    /// A request has left its flow: others go on, and without any it ends sooner or later.
    fn leave(&mut self, link: &mut Link, stream: StreamId, id: RequestId) {
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        flow.members.remove(&id);
        flow.queue.retain(|waiting| *waiting != id);
        self.release(link, stream, id);
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        if !flow.members.is_empty() {
            return;
        }
        let Some(key) = flow.key.clone() else { return self.close(link, stream) };
        // Of flows for one transfer after the other, one at a time is kept.
        if *self.keys.entry(key).or_insert(stream) != stream {
            return self.close(link, stream);
        }
        let at = link.now() + self.settings.flow_idle_timeout;
        flow.idle = Some(at);
        self.timers.insert((at, Timer::Flow(stream)));
    }

    /// Ends a flow without requests.
    fn close(&mut self, link: &mut Link, stream: StreamId) {
        if self.remove_flow(stream).is_some() {
            link.finish(stream);
        }
    }

    fn remove_flow(&mut self, stream: StreamId) -> Option<Flow> {
        let flow = self.flows.remove(&stream)?;
        self.blocked.remove(&stream);
        if let Some(key) = &flow.key
            && self.keys.get(key) == Some(&stream)
        {
            self.keys.remove(key);
        }
        if let Some(at) = flow.idle {
            self.timers.remove(&(at, Timer::Flow(stream)));
        }
        self.stats.flows.add(-1);
        Some(flow)
    }

    /// A flow has failed, and with it all requests in it.
    fn lose(&mut self, link: &mut Link, clients: &mut Clients, stream: StreamId, failure: Failure) {
        if let Some(flow) = self.remove_flow(stream) {
            for id in flow.members {
                self.fail(link, clients, id, failure);
            }
        }
    }

    fn arm(&self, link: &mut Link) {
        link.set_deadline(self.timers.first().map(|(at, _)| *at));
    }
}

impl Service for Egress {
    fn handle_request(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        id: RequestId,
        request: Request<Bytes>,
    ) {
        let (head, body) = request.into_parts();
        let code = coap_http::request::code(&head.method);
        if let Err(failure) = self.begin(link, id, head, body) {
            self.stats.request(stats::method(code), failure.label);
            answer_with(clients, id, failure);
        }
        self.arm(link);
    }

    fn handle_gone(&mut self, link: &mut Link, _clients: &mut Clients, id: RequestId) {
        if let Some(exchange) = self.exchanges.get(&id)
            && let Observe::Active(observation) = &exchange.observe
            && let Some(flow) = self.flows.get_mut(&exchange.flow)
        {
            let message_id = flow.unassigned_message_id();
            if let Some(capsule) = exchange.deregistration(message_id, &observation.token) {
                flow.send(link, &capsule);
            }
        }
        self.end(link, id, "gone");
        self.arm(link);
    }

    fn handle_room(&mut self, link: &mut Link, clients: &mut Clients) {
        let flows = &mut self.flows;
        self.blocked.retain(|stream| flows.get_mut(stream).is_some_and(|flow| !flow.flush(link)));
        let (exchanges, most) = (&mut self.exchanges, self.settings.max_held_events);
        self.slow.retain(|id| {
            if clients.held(*id) > most {
                return true;
            }
            if let Some(Observe::Active(observation)) =
                exchanges.get_mut(id).map(|exchange| &mut exchange.observe)
                && let Some(event) = observation.waiting.take()
            {
                clients.send(*id, event);
            }
            false
        });
    }

    fn handle_response(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        response: Response<()>,
    ) {
        let status = response.status();
        if let Some(flow) = self.flows.get_mut(&stream) {
            if status.is_success() {
                flow.accepted = true;
            } else {
                // A redirection is of no use to a client that did not ask for the flow.
                let status = if status.as_u16() < 400 { StatusCode::BAD_GATEWAY } else { status };
                let reason = "the way to the CoAP server was refused";
                link.finish(stream);
                self.lose(link, clients, stream, Failure::new(status, "refused", reason));
            }
        }
        self.arm(link);
    }

    fn handle_body(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        body: Bytes,
    ) {
        let mut input = &*body;
        while let Some(flow) = self.flows.get_mut(&stream).filter(|flow| flow.accepted)
            && let Some(datagram) = flow.next_datagram(&mut input)
        {
            self.receive(link, clients, stream, &datagram);
        }
        self.arm(link);
    }

    fn handle_ended(
        &mut self,
        link: &mut Link,
        clients: &mut Clients,
        stream: StreamId,
        _how: Ended,
    ) {
        if self.flows.contains_key(&stream) {
            link.finish(stream);
            self.lose(link, clients, stream, Failure::LOST);
        }
        self.arm(link);
    }

    fn handle_timeout(&mut self, link: &mut Link, clients: &mut Clients) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= link.now()
        {
            self.timers.pop_first();
            match timer {
                Timer::Exchange(id) => {
                    if let Some(exchange) = self.exchanges.get_mut(&id) {
                        exchange.timer = None;
                    }
                    self.expire(link, clients, id);
                }
                Timer::Flow(stream) => self.close(link, stream),
            }
        }
        self.arm(link);
    }

    fn handle_close(&mut self, _by: Peer) {
        for exchange in std::mem::take(&mut self.exchanges).into_values() {
            self.stats.request(exchange.code.label(), "gone");
            if exchange.is_observing() {
                self.stats.observations.add(-1);
            }
        }
        for _ in std::mem::take(&mut self.flows) {
            self.stats.flows.add(-1);
        }
    }
}

fn answer_with(clients: &mut Clients, id: RequestId, failure: Failure) {
    let mut response = Response::new(());
    *response.status_mut() = failure.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if failure.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from(1));
    }
    clients.respond_with(id, response, Bytes::from(failure.reason));
}

/// Nothing more is expected with the token and the message ID of the message sent last.
fn forget_messages(flow: &mut Flow, exchange: &mut Exchange) {
    if let Some(token) = exchange.token.take() {
        flow.forget_token(&token);
    }
    if let Phase::Sent { message_id, .. } | Phase::Accepted { message_id: Some(message_id) } =
        exchange.phase
    {
        flow.forget_message_id(message_id);
    }
}

fn set_timer(
    timers: &mut BTreeSet<(Duration, Timer)>,
    exchange: &mut Exchange,
    id: RequestId,
    at: Option<Duration>,
) {
    if let Some(before) = std::mem::replace(&mut exchange.timer, at) {
        timers.remove(&(before, Timer::Exchange(id)));
    }
    if let Some(at) = at {
        timers.insert((at, Timer::Exchange(id)));
    }
}

fn held(exchange: &Exchange) -> usize {
    exchange.download.as_ref().map_or(0, |download| download.content.len())
}

/// Options that must be understood, and are not (RFC 7252 §5.4.1).
fn has_unknown_critical(message: &Message<'_>) -> bool {
    message.options.iter().any(|option| {
        option.number.is_critical()
            && !matches!(option.number, OptionNumber::BLOCK1 | OptionNumber::BLOCK2)
    })
}

/// Takes `text/event-stream` out of what is accepted; returns whether it was there.
fn take_event_stream(headers: &mut HeaderMap) -> bool {
    let is_events = |range: &str| {
        range.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(EVENT_STREAM))
    };
    let text: Vec<&str> =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    // A quoted comma would tear a range in two; of events there is none with parameters.
    let ranges = || text.iter().flat_map(|list| list.split(','));
    if !ranges().any(is_events) {
        return false;
    }
    let rest: Vec<&str> = ranges().filter(|range| !is_events(range)).collect();
    let rest = HeaderValue::try_from(rest.join(",")).ok();
    headers.remove(ACCEPT);
    if let Some(rest) = rest.filter(|rest| !rest.as_bytes().trim_ascii().is_empty()) {
        headers.insert(ACCEPT, rest);
    }
    true
}
