//! Flows: streams with a CoAP server at their other end, that messages travel in as they are.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bridge::{
    Bytes, Direction, HeaderValue, Input, Link, Method, OpenError, Request, Response, StreamId, Uri,
};
use coap_http::OptionSet;
use codec_coap::{
    CoapOption, Code, Header, Message, MessageType, OptionNumber, Options, TcpMessage, header,
};

use crate::answers::Origin;
use crate::asked::refusal;
use crate::config::{FlowKey, Transport};
use crate::rules::Carry;
use crate::session::{Session, capabilities, csm};
use crate::wire::{self, Incoming, Next, Token};

/// How many responses are kept for the time after the session, and the longest that is.
const RECENT: usize = 4;
const MAX_RECENT: usize = 2048;
/// How many messages to the client are kept in mind, so that its answers find their way.
const TO_CLIENT: usize = 64;
/// The largest message of a server over TCP.
const MAX_SERVER_MESSAGE: u32 = 16 << 20;

/// A stream that messages with the same flow key travel in.
#[derive(Debug)]
pub(crate) struct Flow {
    key: Box<[u8]>,
    pub(crate) stream: StreamId,
    /// Its server takes no more requests (RFC 8323 §5.5).
    released: bool,
    /// The next filter has said that there is a server.
    open: bool,
    /// Octets for the server that there was no room for.
    pub(crate) backlog: Bytes,
    /// The beginning of a message of the server.
    reading: Input,
    used: Duration,
}

/// A request that travels in a flow and has no response.
#[derive(Debug)]
pub(crate) struct Outstanding {
    stream: StreamId,
    origin: Origin,
    pub(crate) since: Duration,
    /// It asks to observe.
    observes: bool,
    /// It is part of a block-wise transfer.
    block: bool,
}

/// The last messages that the client may acknowledge, reject or answer, of servers and of the filter itself.
///
/// To the client all of them come from one endpoint, where a message ID is used once in a while (RFC 7252 §4.4).
/// A server's that another's message has already is replaced on the way.
#[derive(Debug, Default)]
pub(crate) struct ToClient(VecDeque<Sent>);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// The message ID that the client knows.
    id: u16,
    /// The one that the server knows.
    pub(crate) original: u16,
    pub(crate) token: Token,
    /// The flow it came from; none if it is the filter's own.
    pub(crate) stream: Option<StreamId>,
    /// Since when it waits for an acknowledgement.
    waits: Option<Duration>,
}

impl ToClient {
    fn push(&mut self, sent: Sent) {
        if self.0.len() >= TO_CLIENT {
            self.0.pop_front();
        }
        self.0.push_back(sent);
    }

    /// Notes a message of the filter itself.
    pub(crate) fn own(&mut self, id: u16, token: Token) {
        self.push(Sent { id, original: id, token, stream: None, waits: None });
    }

    pub(crate) fn has(&self, id: u16) -> bool {
        self.0.iter().any(|sent| sent.id == id)
    }

    /// The message with this ID, which the client has acknowledged or rejected.
    pub(crate) fn heard(&mut self, id: u16) -> Option<Sent> {
        let sent = self.0.iter_mut().rev().find(|sent| sent.id == id)?;
        sent.waits = None;
        Some(*sent)
    }

    /// The flow of the newest message of a server with this token.
    pub(crate) fn by_token(&self, token: &[u8]) -> Option<StreamId> {
        let mut sent = self.0.iter().rev();
        sent.find(|sent| sent.token.as_slice() == token).and_then(|sent| sent.stream)
    }

    /// Whether a message came so lately that the client may still acknowledge it.
    pub(crate) fn waits(&self, now: Duration, patience: Duration) -> bool {
        self.0.iter().any(|sent| sent.waits.is_some_and(|since| since + patience > now))
    }

    fn forget(&mut self, stream: StreamId) {
        self.0.retain(|sent| sent.stream != Some(stream));
    }
}

impl Session {
    pub(crate) fn flow(&self, stream: StreamId) -> Option<&Flow> {
        self.flows.iter().find(|flow| flow.stream == stream)
    }

    fn flow_mut(&mut self, stream: StreamId) -> Option<&mut Flow> {
        self.flows.iter_mut().find(|flow| flow.stream == stream)
    }

    /// The flow that a request travels in, opened if need be; the request is outstanding from now on.
    pub(crate) fn enter(
        &mut self,
        link: &mut Link,
        message: &Incoming<'_>,
        origin: &Origin,
    ) -> Result<StreamId, (Code, &'static str)> {
        let now = link.now();
        let max_outstanding = self.common.settings.max_outstanding;
        if self.outstanding.len() + self.asked.len() >= max_outstanding
            && !self.outstanding.contains_key(&origin.token)
        {
            let patience = self.common.settings.response_timeout;
            self.outstanding.retain(|_, outstanding| outstanding.since + patience > now);
            if self.outstanding.len() + self.asked.len() >= max_outstanding {
                self.common.stats.limited("max_outstanding", "reject");
                return Err((Code::TOO_MANY_REQUESTS, "too many requests at once"));
            }
        }
        self.flow_key(&message.options);
        let known = self.flows.iter_mut().find(|flow| *flow.key == *self.key && !flow.released);
        let stream = match known {
            Some(flow) => {
                flow.used = now;
                flow.stream
            }
            None => self.open_flow(link, message)?,
        };
        let is_read = matches!(message.code, Code::GET | Code::FETCH);
        let observe = message.options.observe().filter(|_| is_read);
        if observe == Some(1) && self.observing.remove(&origin.token).is_some() {
            self.common.stats.observations.add(-1);
        }
        let block = message.options.block1().is_some() || message.options.block2().is_some();
        // Without a response to wait for, there is nothing outstanding (RFC 7967 §2).
        if origin.no_response & 0b11010 != 0b11010 {
            let outstanding = Outstanding {
                stream,
                origin: origin.clone(),
                since: now,
                observes: observe == Some(0),
                block,
            };
            self.outstanding.insert(origin.token, outstanding);
        }
        Ok(stream)
    }

    /// Writes the key of the flow that a request with these options travels in.
    fn flow_key(&mut self, options: &Options<'_>) {
        self.key.clear();
        match self.common.settings.flow_key {
            FlowKey::Session => {}
            FlowKey::Lwm2mEndpoint => {
                if let Some((name, _)) = &self.endpoint {
                    self.key.extend_from_slice(name.as_bytes());
                }
            }
            FlowKey::Path => {
                if let Some(host) = options.uri_host() {
                    self.key.extend(host.as_bytes().iter().map(u8::to_ascii_lowercase));
                }
                self.key.push(0);
                if let Some(port) = options.uri_port() {
                    self.key.extend_from_slice(&port.to_be_bytes());
                }
                self.key.push(0);
                if let Some(segment) = options.uri_path().next() {
                    self.key.push(b'/');
                    self.key.extend_from_slice(segment.as_bytes());
                }
            }
        }
    }

    fn open_flow(
        &mut self,
        link: &mut Link,
        message: &Incoming<'_>,
    ) -> Result<StreamId, (Code, &'static str)> {
        let options = &message.options;
        let invalid = (Code::BAD_REQUEST, "Uri-Host is not a host name");
        let authority =
            coap_http::request::authority(options, &self.authority).map_err(|_| invalid)?;
        let segment = match self.common.settings.flow_key {
            FlowKey::Path => options.uri_path().next(),
            FlowKey::Session | FlowKey::Lwm2mEndpoint => None,
        };
        let uri = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query(segment_path(segment.map_or(&[], |segment| segment.as_bytes())))
            .build()
            .map_err(|_| invalid)?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        let carry = HeaderValue::from_static(Carry::Flow.label());
        request.headers_mut().insert("x-carry", carry);
        if self.flows.len() >= self.common.settings.max_flows {
            self.common.stats.limited("max_flows", "close");
            self.end_oldest(link);
        }
        let stream = link.open(request, false).map_err(|error| match error {
            OpenError::TooManyStreams => (Code::SERVICE_UNAVAILABLE, "too many streams"),
            _ => (Code::SERVICE_UNAVAILABLE, "unavailable"),
        })?;
        self.common.stats.flows.increment();
        let mut backlog = Bytes::new();
        if self.transport == Transport::Tcp {
            let csm = csm(self.common.settings.max_message_size);
            backlog = wire::frame(&capabilities(&csm)).unwrap_or_default();
            link.send_octets(stream, &mut backlog);
        }
        self.flows.push(Flow {
            key: Box::from(&*self.key),
            stream,
            released: false,
            open: false,
            backlog,
            reading: Input::default(),
            used: link.now(),
        });
        Ok(stream)
    }

    /// Ends the flow that was used least recently, those with nothing under way first. What was read for it
    /// may not be sent yet.
    fn end_oldest(&mut self, link: &mut Link) {
        let busy = |stream| self.outstanding.values().any(|other| other.stream == stream);
        let flows = self.flows.iter().enumerate();
        let oldest = flows.min_by_key(|(_, flow)| (busy(flow.stream), flow.used));
        let Some(at) = oldest.map(|(at, _)| at) else { return };
        let flow = self.flows.swap_remove(at);
        self.common.stats.flows.add(-1);
        let dropped = self.drop_flow(flow.stream);
        self.ending.push(flow);
        for outstanding in dropped {
            self.explain(link, &outstanding.origin, Code::SERVICE_UNAVAILABLE, "too many flows");
        }
    }

    /// Forgets a flow, and what was under way in it; the requests are returned.
    fn drop_flow(&mut self, stream: StreamId) -> Vec<Outstanding> {
        let before = self.flows.len();
        self.flows.retain(|flow| flow.stream != stream);
        if self.flows.len() < before {
            self.common.stats.flows.add(-1);
        }
        self.to_client.forget(stream);
        let observed = self.observing.len();
        self.observing.retain(|_, other| *other != stream);
        let ended = observed - self.observing.len();
        self.common.stats.observations.add(-i64::try_from(ended).unwrap_or_default());
        let of_stream = |_: &Token, outstanding: &mut Outstanding| outstanding.stream == stream;
        self.outstanding.extract_if(of_stream).map(|(_, outstanding)| outstanding).collect()
    }

    /// Keeps octets for which a stream has no room.
    pub(crate) fn defer(&mut self, stream: StreamId, octets: Bytes) {
        let mut flows = self.flows.iter_mut().chain(&mut self.ending);
        if let Some(flow) = flows.find(|flow| flow.stream == stream) {
            if flow.backlog.is_empty() {
                flow.backlog = octets;
            } else {
                flow.backlog = Bytes::from([&*flow.backlog, &*octets].concat());
            }
        }
    }

    /// Sends what there was no room for. Whether nothing of it is left.
    pub(crate) fn flush_backlogs(&mut self, link: &mut Link) -> bool {
        let mut done = self.flush_requests(link);
        for flow in self.flows.iter_mut().chain(&mut self.ending) {
            if !flow.backlog.is_empty() {
                link.send_octets(flow.stream, &mut flow.backlog);
                done &= flow.backlog.is_empty();
            }
        }
        self.ending.retain(|flow| {
            let ends = flow.backlog.is_empty();
            if ends {
                link.abandon(flow.stream);
            }
            !ends
        });
        done
    }

    /// Sends a message along a flow by itself.
    pub(crate) fn send_along(&mut self, link: &mut Link, stream: StreamId, mut octets: Bytes) {
        if self.flow(stream).is_some_and(|flow| flow.backlog.is_empty()) {
            link.send_octets(stream, &mut octets);
        }
        if !octets.is_empty() {
            self.defer(stream, octets);
        }
    }

    pub(crate) fn flow_response(
        &mut self,
        link: &mut Link,
        stream: StreamId,
        response: &Response<()>,
    ) {
        let Some(flow) = self.flow_mut(stream) else { return };
        let status = response.status();
        if status.is_success() {
            flow.open = true;
            return;
        }
        link.abandon(stream);
        let text = status.canonical_reason().unwrap_or_default();
        let text = format!("{} {text}", status.as_str());
        for outstanding in self.drop_flow(stream) {
            let origin = &outstanding.origin;
            let head = coap_http::response::from_http(
                origin.method,
                status,
                response.headers(),
                Some(&self.authority),
            );
            let code = refusal(head.code);
            self.respond(link, origin, code, &head.options, text.trim_end().as_bytes());
        }
    }

    /// The next filter has ended a flow.
    pub(crate) fn flow_ended(&mut self, link: &mut Link, stream: StreamId) {
        let Some(flow) = self.flow(stream) else { return };
        let was_open = flow.open;
        let observed = self.observing.values().any(|other| *other == stream);
        link.abandon(stream);
        let outstanding = self.drop_flow(stream);
        if self.transport == Transport::Tcp && observed {
            // Nobody else would tell the client that there are no notifications any more.
            return self.release(link);
        }
        for outstanding in outstanding {
            let text = if was_open { "server closed the connection" } else { "server unreachable" };
            self.explain(link, &outstanding.origin, Code::BAD_GATEWAY, text);
        }
    }

    /// Messages of a server.
    pub(crate) fn flow_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        let Some(flow) = self.flow_mut(stream) else { return };
        let mut reading = std::mem::take(&mut flow.reading);
        reading.push(body);
        let octets = reading.share();
        let (mut at, mut from) = (0, 0);
        loop {
            let rest = octets.get(at..).unwrap_or_default();
            let (len, passes) = match wire::next(self.transport, rest, MAX_SERVER_MESSAGE) {
                Next::Incomplete => break,
                Next::Nothing(len) => (len, false),
                Next::Datagram { payload, len } => (
                    len,
                    self.server_datagram(link, stream, payload, || octets.slice(at..at + len)),
                ),
                Next::Frame(frame) => {
                    let len = frame.len();
                    (len, self.server_frame(link, stream, rest.get(..len).unwrap_or_default()))
                }
                Next::Malformed(_) => {
                    self.common.stats.decode_error(Direction::ToClient, "malformed");
                    link.reply(octets.slice(from..at));
                    link.abandon(stream);
                    self.flow_ended(link, stream);
                    return;
                }
            };
            if !passes {
                link.reply(octets.slice(from..at));
                from = at + len;
            }
            at += len;
            if self.flow(stream).is_none() {
                break;
            }
        }
        // Octets of whole messages go on without a copy.
        link.reply(octets.slice(from..at));
        drop(octets);
        reading.skip(at);
        if let Some(flow) = self.flow_mut(stream) {
            flow.reading = reading;
        }
    }

    /// A datagram of a server. Whether it goes on to the client as it is.
    fn server_datagram(
        &mut self,
        link: &mut Link,
        stream: StreamId,
        datagram: &[u8],
        capsule: impl Fn() -> Bytes,
    ) -> bool {
        let common = Rc::clone(&self.common);
        let stats = &common.stats;
        let Ok(head) = header(datagram) else {
            stats.decode_error(Direction::ToClient, "header");
            return false;
        };
        let Some(token) = head.token(datagram).map(Token::new) else {
            stats.decode_error(Direction::ToClient, "token");
            return false;
        };
        let (message_type, code, id) = (head.message_type, head.code, head.message_id);
        let may_be_answered =
            matches!(message_type, MessageType::Confirmable | MessageType::NonConfirmable);
        if !code.is_response() {
            if message_type == MessageType::Acknowledgement {
                for outstanding in self.outstanding.values_mut() {
                    outstanding.origin.acknowledged(id);
                }
            }
            if !self.may_get(datagram.len()) {
                stats.limited("amplification_factor", "drop");
                return false;
            }
            if code.is_request() {
                stats.code(code);
            }
            self.sent = self.sent.saturating_add(datagram.len());
            stats.message(Direction::ToClient, Some(message_type), datagram.len());
            return !may_be_answered || self.sends(link, stream, datagram, head, token);
        }
        if !self.answered(link, token, code, datagram) {
            return false;
        }
        self.sent = self.sent.saturating_add(datagram.len());
        stats.code(code);
        stats.message(Direction::ToClient, Some(message_type), datagram.len());
        if message_type == MessageType::Acknowledgement && datagram.len() <= MAX_RECENT {
            if self.recent.len() >= RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((id, capsule()));
        }
        !may_be_answered || self.sends(link, stream, datagram, head, token)
    }

    /// Notes a message of a server that the client may acknowledge or reject. Whether it goes on as it is:
    /// with a message ID that is taken it goes on with another one.
    fn sends(
        &mut self,
        link: &mut Link,
        stream: StreamId,
        datagram: &[u8],
        head: Header,
        token: Token,
    ) -> bool {
        let original = head.message_id;
        let waits = (head.message_type == MessageType::Confirmable).then(|| link.now());
        let of_server = |sent: &&mut Sent| sent.stream == Some(stream) && sent.original == original;
        let id = if let Some(known) = self.to_client.0.iter_mut().rev().find(of_server) {
            known.waits = waits;
            known.token = token;
            known.id
        } else {
            let id = if self.to_client.has(original) { self.new_id() } else { original };
            self.to_client.push(Sent { id, original, token, stream: Some(stream), waits });
            id
        };
        if id == original {
            return true;
        }
        if let Some(capsule) = wire::with_id(datagram, id) {
            link.reply(capsule);
        }
        false
    }

    /// A response of a server. Whether the client may have it.
    fn answered(&mut self, link: &mut Link, token: Token, code: Code, datagram: &[u8]) -> bool {
        let now = link.now();
        let Some(outstanding) = self.outstanding.remove(&token) else {
            if code.class() != 2 && self.observing.remove(&token).is_some() {
                self.common.stats.observations.add(-1);
            }
            let may = self.may_get(datagram.len());
            if !may {
                self.common.stats.limited("amplification_factor", "drop");
            }
            return may;
        };
        self.common.stats.took(Carry::Flow, now.saturating_sub(outstanding.since));
        if !self.proven && self.exceeds(&outstanding.origin, datagram.len()) {
            self.instead(link, &outstanding, code, datagram);
            return false;
        }
        if (outstanding.observes || outstanding.block)
            && let Ok(message) = wire::udp(datagram)
        {
            self.noted(&outstanding, token, code, &message.options, now);
        }
        true
    }

    /// What a response says about observation and block-wise transfer.
    fn noted(
        &mut self,
        outstanding: &Outstanding,
        token: Token,
        code: Code,
        options: &Options<'_>,
        now: Duration,
    ) {
        if outstanding.observes {
            let observed = code.class() == 2 && options.observe().is_some();
            let room = self.observing.len() < self.common.settings.max_outstanding;
            if observed && room {
                if self.observing.insert(token, outstanding.stream).is_none() {
                    self.common.stats.observations.increment();
                }
            } else if self.observing.remove(&token).is_some() {
                self.common.stats.observations.add(-1);
            }
        }
        if outstanding.block {
            let more = code == Code::CONTINUE || options.block2().is_some_and(|block| block.more);
            self.transfer_until = more.then(|| now + self.common.settings.transfer_timeout);
        }
    }

    /// A frame of a server. Whether it goes on to the client as it is.
    fn server_frame(&mut self, link: &mut Link, stream: StreamId, frame: &[u8]) -> bool {
        let common = Rc::clone(&self.common);
        let stats = &common.stats;
        let message = match wire::tcp(frame) {
            Ok(message) => message,
            Err(error) => {
                stats.decode_error(Direction::ToClient, error.label());
                return false;
            }
        };
        let token = Token::new(message.token);
        match message.code {
            // Signaling is between neighbours (RFC 8323 §5).
            Code::PING => {
                let options = Options::EMPTY;
                let pong =
                    TcpMessage { code: Code::PONG, token: message.token, options, payload: &[] };
                // For a server that does not read they must not add up.
                if self.flow(stream).is_some_and(|flow| flow.backlog.is_empty())
                    && let Some(pong) = wire::frame(&pong)
                {
                    self.send_along(link, stream, pong);
                }
                return false;
            }
            Code::RELEASE => {
                // What it was asked before it still answers.
                if let Some(flow) = self.flow_mut(stream) {
                    flow.released = true;
                }
                return false;
            }
            Code::ABORT => {
                self.flow_ended(link, stream);
                return false;
            }
            code if code.is_signaling() || code == Code::EMPTY => return false,
            code if code.is_request() => {
                let stream = Some(stream);
                let sent = Sent { id: 0, original: 0, token, stream, waits: None };
                self.to_client.push(sent);
            }
            code => {
                if let Some(outstanding) = self.outstanding.remove(&token) {
                    let now = link.now();
                    stats.took(Carry::Flow, now.saturating_sub(outstanding.since));
                    self.noted(&outstanding, token, code, &message.options, now);
                } else if code.class() != 2 && self.observing.remove(&token).is_some() {
                    stats.observations.add(-1);
                }
            }
        }
        stats.code(message.code);
        stats.message(Direction::ToClient, None, frame.len());
        true
    }

    /// Answers in place of a server whose response is too large for a client that has not proved its
    /// address: as [`respond`](Self::respond) does, but in a separate response's own message, so that the
    /// client's acknowledgement is the server's.
    fn instead(&mut self, link: &mut Link, outstanding: &Outstanding, code: Code, datagram: &[u8]) {
        let origin = &outstanding.origin;
        let separate =
            header(datagram).ok().filter(|head| head.message_type == MessageType::Confirmable);
        let is_read = code.class() == 2 && origin.is_safe();
        let Some(head) = separate else {
            return if is_read {
                self.challenge(link, origin);
            } else {
                self.respond(link, origin, code, &OptionSet::new(), &[]);
            };
        };
        let value = self.common.echo.value(self.client, link.now());
        let echo = [CoapOption::new(OptionNumber::ECHO, &value[..])];
        let (code, options, action) = if is_read {
            (Code::UNAUTHORIZED, Options::from(&echo), "challenge")
        } else {
            (code, Options::EMPTY, "cut")
        };
        self.common.stats.limited("amplification_factor", action);
        let message = Message {
            message_type: head.message_type,
            code,
            message_id: head.message_id,
            token: origin.token.as_slice(),
            options,
            payload: &[],
        };
        let mut octets = vec![0; message.encoded_len().unwrap_or_default()];
        if message.encode(&mut octets).is_ok() && self.may_get(octets.len()) {
            self.sent = self.sent.saturating_add(octets.len());
            if self.sends(link, outstanding.stream, &octets, head, origin.token)
                && let Some(capsule) = wire::with_id(&octets, head.message_id)
            {
                link.reply(capsule);
            }
        }
    }
}

/// The path of a flow: a slash, and a segment of which all but the unreserved characters of RFC 3986 §2.3
/// are percent-encoded.
fn segment_path(segment: &[u8]) -> String {
    let mut path = String::with_capacity(1 + segment.len());
    path.push('/');
    for &byte in segment {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}
