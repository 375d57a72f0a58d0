//! One client's session: its messages, and where each of them goes.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bridge::text::{encode, is_host_name};
use bridge::{
    Bytes, Direction, Ended, HeaderMap, HeaderName, HeaderValue, Input, Link, Peer, Protocol,
    Response, StreamId, Want,
};
use coap_http::OptionSet;
use codec_coap::{
    Answer, CoapOption, Code, DecodeError, Header, Message, MessageType, OptionNumber, Options,
    TcpMessage, header,
};
use hashbrown::HashMap;
use http::uri::Authority;
use policy::Verdicts;
use policy::limits::{self, Charge, Shared};

use crate::Common;
use crate::answers::{Confirmable, Origin};
use crate::asked::{Asked, Verdict};
use crate::blocks::Transfers;
use crate::config::{Exceeded, Per, Transport};
use crate::exchanges::{EXCHANGE_LIFETIME, Exchanges, NON_LIFETIME, Seen};
use crate::flows::{Flow, Outstanding, ToClient};
use crate::memory::Known;
use crate::rules::Carry;
use crate::wire::{self, Incoming, Malformed, Next, Token};

/// Longer text from a client does not become a header.
const MAX_VALUE: usize = 512;
/// How long a registration without a lifetime holds (LwM2M 1.2 §6.2.1), and the longest one that counts.
const REGISTRATION_LIFETIME: Duration = Duration::from_secs(86_400);

/// The LwM2M endpoint name.
const ENDPOINT: HeaderName = HeaderName::from_static("x-lwm2m-endpoint");

/// Who a client is.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// Its address, as far as it is known.
    pub address: Option<SocketAddr>,
    /// Headers for all of its requests: what is known of it besides.
    pub headers: HeaderMap,
}

/// A client's session: over UDP the messages from one address and port, over TCP one connection's.
#[derive(Debug)]
pub struct Session {
    pub(crate) common: Rc<Common>,
    pub(crate) client: Option<SocketAddr>,
    pub(crate) transport: Transport,
    pub(crate) authority: Authority,
    /// Those of every request.
    pub(crate) headers: HeaderMap,
    buckets: Vec<Shared>,
    /// The client is where it says it is.
    pub(crate) proven: bool,
    /// The octets that came from it, and those that went to it, while it had not proved that.
    pub(crate) received: usize,
    pub(crate) sent: usize,
    /// The LwM2M endpoint name it registered with, and how long that holds.
    pub(crate) endpoint: Option<(String, Duration)>,
    pub(crate) exchanges: Exchanges,
    pub(crate) flows: Vec<Flow>,
    /// Flows that end as soon as what was for them is sent.
    pub(crate) ending: Vec<Flow>,
    /// A message's flow key, to be compared.
    pub(crate) key: Vec<u8>,
    /// Requests that travel in a flow and have no response.
    pub(crate) outstanding: HashMap<Token, Outstanding>,
    /// Resources observed in a flow.
    pub(crate) observing: HashMap<Token, StreamId>,
    pub(crate) to_client: ToClient,
    /// The last few responses of servers, for the time after the session.
    pub(crate) recent: VecDeque<(u16, Bytes)>,
    /// Checks and requests under way.
    pub(crate) asked: HashMap<StreamId, Asked>,
    pub(crate) verdicts: Verdicts<Verdict>,
    pub(crate) transfers: Transfers,
    /// Until when a block-wise transfer in a flow is thought to go on.
    pub(crate) transfer_until: Option<Duration>,
    pub(crate) confirmables: Vec<Confirmable>,
    pub(crate) next_id: u16,
    /// The last message IDs of requests that travelled in flows.
    last_ids: VecDeque<u16>,
    last_active: Duration,
    /// The largest message a TCP client takes, and whether it takes blocks larger than 1024 octets.
    pub(crate) peer_max_message_size: u32,
    pub(crate) peer_takes_bert: bool,
    /// The TCP client has introduced itself.
    introduced: bool,
}

/// Where a message goes.
enum To {
    /// With those before it, as it is.
    Flow(StreamId),
    /// To a flow, in another form.
    Changed(StreamId, Bytes),
    /// Nowhere: it has been dealt with.
    Nowhere,
}

impl Session {
    pub(crate) fn new(common: Rc<Common>, link: &mut Link, client: Client) -> Self {
        let now = link.now();
        let settings = &common.settings;
        let transport = settings.transport;
        let Client { address, mut headers } = client;
        let source = address.map(|address| address.ip().to_canonical());
        headers.insert("x-protocol", HeaderValue::from_static("coap"));
        headers.insert("x-coap-transport", HeaderValue::from_static(transport.label()));
        if let Some(ip) = source
            && let Ok(value) = HeaderValue::try_from(ip.to_string())
        {
            headers.insert("x-forwarded-for", value);
        }
        let server_name = match transport {
            Transport::Tcp => link.surroundings().server_name(),
            Transport::Udp | Transport::Dtls => None,
        };
        let authority = server_name
            .filter(|name| is_host_name(name))
            .and_then(|name| Authority::try_from(name).ok())
            .unwrap_or_else(|| settings.authority.clone());
        let known = match (transport, address) {
            (Transport::Udp, Some(address)) => common.memory.borrow_mut().take(address, now),
            _ => None,
        };
        let known = known.unwrap_or_default();
        let proven =
            known.proven || transport != Transport::Udp || settings.amplification_factor.is_none();
        let mut session = Self {
            client: address,
            transport,
            authority,
            headers,
            buckets: buckets(&common, source, now),
            proven,
            received: 0,
            sent: 0,
            endpoint: None,
            exchanges: known.exchanges,
            flows: Vec::new(),
            ending: Vec::new(),
            key: Vec::new(),
            outstanding: HashMap::new(),
            observing: HashMap::new(),
            to_client: ToClient::default(),
            recent: VecDeque::new(),
            asked: HashMap::new(),
            verdicts: Verdicts::new(settings.max_cached_verdicts),
            transfers: Transfers::new(&common.budget, settings.max_transfers),
            transfer_until: None,
            confirmables: Vec::new(),
            next_id: common.unique_number(),
            last_ids: VecDeque::new(),
            last_active: now,
            peer_max_message_size: codec_coap::DEFAULT_MAX_MESSAGE_SIZE,
            peer_takes_bert: false,
            introduced: false,
            common,
        };
        if let Some((name, until)) = known.endpoint {
            session.set_endpoint(name, until);
        }
        match transport {
            Transport::Udp => link.set_deadline(Some(now + session.common.settings.idle_timeout)),
            // The association has a timeout of its own.
            Transport::Dtls => {}
            Transport::Tcp => {
                session.introduce(link);
                link.set_deadline(Some(now + session.common.settings.idle_timeout));
            }
        }
        session
    }

    /// Reads the messages that are there, and sends each of them where it goes.
    fn read(&mut self, link: &mut Link, input: &mut Input) {
        let octets = input.share();
        let mut at = 0;
        // Messages that go to the same stream go together.
        let mut run: Option<(StreamId, usize)> = None;
        loop {
            if link.is_closing() {
                return input.clear();
            }
            let rest = octets.get(at..).unwrap_or_default();
            let limit = self.common.settings.max_message_size;
            let (len, to) = match wire::next(self.transport, rest, limit) {
                Next::Incomplete => break,
                Next::Nothing(len) => (len, To::Nowhere),
                Next::Datagram { payload, len } => {
                    (len, self.datagram(link, payload, || octets.slice(at..at + len)))
                }
                Next::Frame(frame) => {
                    let len = frame.len();
                    let octets = octets.slice(at..at + len);
                    (len, self.frame(link, &octets))
                }
                Next::Malformed(malformed) => {
                    self.flush(link, input, run.take());
                    self.give_up(link, malformed);
                    return input.clear();
                }
            };
            match (to, &mut run) {
                (To::Flow(stream), Some((same, n))) if *same == stream => *n += len,
                (To::Flow(stream), run) => {
                    let before = run.replace((stream, len));
                    self.flush(link, input, before);
                }
                (to, run) => {
                    let before = run.take();
                    self.flush(link, input, before);
                    input.skip(len);
                    if let To::Changed(stream, octets) = to {
                        self.send_along(link, stream, octets);
                    }
                }
            }
            at += len;
        }
        self.flush(link, input, run);
    }

    /// Sends a run of messages at the front of the input.
    fn flush(&mut self, link: &mut Link, input: &mut Input, run: Option<(StreamId, usize)>) {
        let Some((stream, len)) = run else { return };
        let mut flows = self.flows.iter().chain(&self.ending);
        let blocked = flows.any(|flow| flow.stream == stream && !flow.backlog.is_empty());
        let sent = if blocked { 0 } else { link.send(stream, input, len) };
        if sent < len {
            let rest = input.take(len - sent);
            self.defer(stream, rest);
        }
    }

    /// A client that sends what is no message on a stream: nobody knows where the next one begins.
    fn give_up(&mut self, link: &mut Link, malformed: Malformed) {
        let stats = &self.common.stats;
        match malformed {
            Malformed::Capsule => stats.decode_error(Direction::FromClient, "capsule_too_long"),
            Malformed::Frame(error) => {
                stats.decode_error(Direction::FromClient, error.label());
                self.abort(link, &error);
            }
        }
        link.close();
    }

    fn datagram(&mut self, link: &mut Link, payload: &[u8], capsule: impl Fn() -> Bytes) -> To {
        self.last_active = link.now();
        self.received = self.received.saturating_add(payload.len());
        if payload.len() > self.common.settings.max_message_size as usize {
            self.too_large(link, payload);
            return To::Nowhere;
        }
        let message = match wire::udp(payload) {
            Ok(message) => message,
            Err(error) => {
                self.refuse(link, payload, error);
                return To::Nowhere;
            }
        };
        let message_type = message.udp.map(|(message_type, _)| message_type);
        self.common.stats.message(Direction::FromClient, message_type, payload.len());
        match message.udp {
            Some((MessageType::Acknowledgement | MessageType::Reset, id)) => {
                self.acknowledged(link, &message, id, payload)
            }
            Some((message_type, id)) if message.code == Code::EMPTY => {
                self.ping(link, message_type, id)
            }
            _ if message.code.is_request() => self.request(link, &message, capsule),
            Some((message_type, id)) => {
                let to = self.to_flow(self.to_client.by_token(message.token));
                if matches!(to, To::Nowhere) && message_type == MessageType::Confirmable {
                    // Nobody has asked for that response (RFC 7252 §4.2).
                    self.send(link, &Message::empty(MessageType::Reset, id));
                }
                to
            }
            None => To::Nowhere,
        }
    }

    /// To the flow that a message of a server came from; without one, to the only one there is.
    fn to_flow(&self, stream: Option<StreamId>) -> To {
        match (stream, &*self.flows) {
            (Some(stream), _) => To::Flow(stream),
            (None, [only]) => To::Flow(only.stream),
            _ => To::Nowhere,
        }
    }

    /// An acknowledgement or a reset message.
    fn acknowledged(
        &mut self,
        link: &mut Link,
        message: &Incoming<'_>,
        id: u16,
        datagram: &[u8],
    ) -> To {
        let is_reset = matches!(message.udp, Some((MessageType::Reset, _)));
        if self.heard(link, id, is_reset) {
            return To::Nowhere;
        }
        let Some(sent) = self.to_client.heard(id) else { return self.to_flow(None) };
        if is_reset && self.observing.remove(&sent.token).is_some() {
            self.common.stats.observations.add(-1);
        }
        match sent.stream {
            None => To::Nowhere,
            Some(stream) if sent.original == id => To::Flow(stream),
            Some(stream) => match wire::with_id(datagram, sent.original) {
                Some(capsule) => To::Changed(stream, capsule),
                None => To::Nowhere,
            },
        }
    }

    /// An empty confirmable message: with one server, that is who it is for.
    fn ping(&mut self, link: &mut Link, message_type: MessageType, id: u16) -> To {
        match &*self.flows {
            [only] => To::Flow(only.stream),
            _ => {
                if message_type == MessageType::Confirmable {
                    self.send(link, &Message::empty(MessageType::Reset, id));
                }
                To::Nowhere
            }
        }
    }

    /// A datagram that is no message, or one that may not be.
    fn refuse(&mut self, link: &mut Link, datagram: &[u8], error: DecodeError) {
        self.common.stats.decode_error(Direction::FromClient, error.label());
        let Ok(header) = header(datagram) else { return };
        match error.answer(header) {
            Answer::Reset => {
                self.send(link, &Message::empty(MessageType::Reset, header.message_id));
            }
            Answer::Response(code) => {
                let Some(origin) = Origin::of_header(header, datagram) else { return };
                self.explain(link, &origin, code, &error.to_string());
            }
            Answer::Ignore | Answer::Abort => {}
        }
    }

    /// A datagram above the limit: only what stands in front is looked at.
    fn too_large(&mut self, link: &mut Link, datagram: &[u8]) {
        self.common.stats.limited("max_message_size", "reject");
        if let Ok(header @ Header { code, .. }) = header(datagram)
            && code.is_request()
            && let Some(origin) = Origin::of_header(header, datagram)
        {
            let mut options = OptionSet::new();
            options.push(OptionNumber::SIZE1, self.common.settings.max_message_size);
            let text = b"message is too large";
            self.respond(link, &origin, Code::REQUEST_ENTITY_TOO_LARGE, &options, text);
        }
    }

    /// A whole message on a stream.
    fn frame(&mut self, link: &mut Link, octets: &Bytes) -> To {
        self.last_active = link.now();
        let message = match wire::tcp(octets) {
            Ok(message) => message,
            Err(error) => {
                self.refuse_frame(link, octets, error);
                return To::Nowhere;
            }
        };
        self.common.stats.message(Direction::FromClient, None, octets.len());
        if !self.introduced {
            if message.code != Code::CSM {
                // RFC 8323 §3.3
                self.common.stats.decode_error(Direction::FromClient, "csm_missing");
                self.send_abort(link, Options::EMPTY, b"CSM is missing");
                link.close();
                return To::Nowhere;
            }
            self.introduced = true;
        }
        if message.code.is_signaling() {
            self.signal(link, &message);
            return To::Nowhere;
        }
        if message.code == Code::EMPTY {
            return To::Nowhere;
        }
        let message = Incoming::of_tcp(message, octets.len());
        if message.code.is_request() {
            self.request(link, &message, || octets.clone())
        } else {
            self.to_flow(self.to_client.by_token(message.token))
        }
    }

    fn refuse_frame(&mut self, link: &mut Link, octets: &[u8], error: DecodeError) {
        self.common.stats.decode_error(Direction::FromClient, error.label());
        let limit = self.common.settings.max_message_size;
        let Next::Frame(frame) = wire::next(self.transport, octets, limit) else { return };
        match error.answer_tcp(frame.code) {
            Answer::Response(code) => {
                let token = octets.get(frame.header_len..).unwrap_or_default();
                let token = Token::new(token.get(..frame.token_len).unwrap_or_default());
                let origin = Origin::of_tcp(token, frame.code);
                self.explain(link, &origin, code, &error.to_string());
            }
            Answer::Abort | Answer::Reset => {
                self.abort(link, &error);
                link.close();
            }
            Answer::Ignore => {}
        }
    }

    fn request(
        &mut self,
        link: &mut Link,
        message: &Incoming<'_>,
        octets: impl Fn() -> Bytes,
    ) -> To {
        let now = link.now();
        let common = Rc::clone(&self.common);
        let (settings, stats) = (&common.settings, &common.stats);
        stats.code(message.code);
        let mut passed = false;
        if let Some((_, id)) = message.udp {
            match self.exchanges.get(id, now) {
                None if self.last_ids.contains(&id) => stats.retransmissions.increment(),
                None => {}
                Some(Seen::Passed) => {
                    stats.retransmissions.increment();
                    passed = true;
                }
                Some(seen) => {
                    stats.retransmissions.increment();
                    stats.deduplicated.increment();
                    if let Seen::Answered(capsule) = seen {
                        let capsule = capsule.clone();
                        link.reply(capsule);
                    }
                    return To::Nowhere;
                }
            }
        }
        let origin = Origin::of(message);
        if !passed {
            if let Some(exceeded) = self.charge(message.size, now) {
                self.limit(link, &origin, exceeded);
                return To::Nowhere;
            }
            if message.options.iter().nth(settings.max_options).is_some() {
                stats.limited("max_options", "reject");
                self.explain(link, &origin, Code::BAD_REQUEST, "too many options");
                return To::Nowhere;
            }
            if is_for_proxy(&message.options) {
                // It would get around every rule about paths, and no forward-proxy is here.
                let text = "no forward-proxy";
                self.explain(link, &origin, Code::PROXYING_NOT_SUPPORTED, text);
                return To::Nowhere;
            }
            self.prove(message, now);
            self.register(message, now);
        }
        let (carry, cache) = settings.carry(message.code, &message.options);
        if carry == Carry::Flow || passed {
            return self.forward(link, message, &origin);
        }
        if self.outstanding.len() + self.asked.len() >= settings.max_outstanding {
            stats.limited("max_outstanding", "reject");
            self.explain(link, &origin, Code::TOO_MANY_REQUESTS, "too many requests at once");
            return To::Nowhere;
        }
        if let Some((message_type, id)) = message.udp {
            let confirmable = message_type == MessageType::Confirmable;
            let lifetime = if confirmable { EXCHANGE_LIFETIME } else { NON_LIFETIME };
            self.exchanges.begin(id, now + lifetime);
        }
        if carry == Carry::Check {
            return match self.check(link, message, origin, cache, octets) {
                Some(stream) => To::Flow(stream),
                None => To::Nowhere,
            };
        }
        self.ask(link, message, origin);
        To::Nowhere
    }

    /// Sends a request along its flow, if there can be one.
    fn forward(&mut self, link: &mut Link, message: &Incoming<'_>, origin: &Origin) -> To {
        if self.needs_proof(message) {
            self.challenge(link, origin);
            return To::Nowhere;
        }
        match self.enter(link, message, origin) {
            Ok(stream) => {
                if let Some((_, id)) = message.udp {
                    self.last_ids.push_back(id);
                    if self.last_ids.len() > 8 {
                        self.last_ids.pop_front();
                    }
                }
                To::Flow(stream)
            }
            Err((code, why)) => {
                self.explain(link, origin, code, why);
                To::Nowhere
            }
        }
    }

    /// Whether a request asks to observe for a client that has not proved its address: each notification would
    /// be another answer to the same octets.
    pub(crate) fn needs_proof(&self, message: &Incoming<'_>) -> bool {
        !self.proven
            && matches!(message.code, Code::GET | Code::FETCH)
            && message.options.observe() == Some(0)
    }

    /// Charges the client's buckets for a request.
    fn charge(&self, octets: usize, now: Duration) -> Option<(Exceeded, Duration)> {
        let limits = &self.common.settings.rate_limits;
        match limits::charge(limits, &self.buckets, octets, now, |_| false) {
            Charge::Exceeded(exceeded, wait) => Some((exceeded, wait)),
            Charge::Paid | Charge::Wait(_) => None,
        }
    }

    fn limit(&mut self, link: &mut Link, origin: &Origin, (exceeded, wait): (Exceeded, Duration)) {
        self.common.stats.limited("rate", exceeded.label());
        if exceeded == Exceeded::Reject {
            let mut options = OptionSet::new();
            let seconds = wait.as_secs_f64().ceil() as u32;
            options.push(OptionNumber::MAX_AGE, seconds.max(1));
            self.respond(link, origin, Code::TOO_MANY_REQUESTS, &options, b"rate limit");
        }
    }

    /// Looks for an Echo option value of ours.
    fn prove(&mut self, message: &Incoming<'_>, now: Duration) {
        if !self.proven
            && let Some(value) = message.options.echo()
        {
            self.proven = self.common.echo.proves(value, self.client, now);
        }
    }

    /// Looks for an LwM2M registration, and for its end.
    fn register(&mut self, message: &Incoming<'_>, now: Duration) {
        if self.endpoint.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.forget_endpoint();
        }
        if let Some((_, until)) = &mut self.endpoint
            && deregisters(message)
        {
            // This request still is the endpoint's.
            *until = now;
        }
        if message.code != Code::POST {
            return;
        }
        if let Some(name) = endpoint_name(&message.options) {
            let name = name.to_owned();
            let lifetime = argument(&message.options, "lt").and_then(|text| text.parse().ok());
            let lifetime = lifetime.map_or(REGISTRATION_LIFETIME, Duration::from_secs);
            self.set_endpoint(name, now + lifetime.min(REGISTRATION_LIFETIME));
        }
    }

    fn forget_endpoint(&mut self) {
        self.headers.remove(ENDPOINT);
        self.endpoint = None;
    }

    fn set_endpoint(&mut self, name: String, until: Duration) {
        match HeaderValue::try_from(encode(&name)) {
            Ok(value) if value.len() <= MAX_VALUE => {
                self.headers.insert(ENDPOINT, value);
                self.endpoint = Some((name, until));
            }
            _ => self.forget_endpoint(),
        }
    }

    /// A signaling message (RFC 8323 §5).
    fn signal(&mut self, link: &mut Link, message: &TcpMessage<'_>) {
        match message.code {
            Code::CSM => {
                if let Some(number) = critical_unknown(message) {
                    let option =
                        [CoapOption::new(OptionNumber::BAD_CSM_OPTION, u32::from(number.0))];
                    self.send_abort(link, Options::from(&option), b"unknown option in CSM");
                    link.close();
                    return;
                }
                if let Some(size) = message.max_message_size() {
                    self.peer_max_message_size = size;
                }
                self.peer_takes_bert |= message.block_wise_transfer();
            }
            Code::PING => {
                let custody =
                    [CoapOption::new(OptionNumber::CUSTODY, codec_coap::OptionValue::Empty)];
                let options =
                    if message.custody() { Options::from(&custody) } else { Options::EMPTY };
                let pong =
                    TcpMessage { code: Code::PONG, token: message.token, options, payload: &[] };
                self.send_frame(link, &pong);
            }
            Code::RELEASE | Code::ABORT => link.close(),
            // A Pong, or something that is not known and may be ignored (RFC 8323 §5.1).
            _ => {}
        }
    }

    /// The capabilities and settings that begin a connection (RFC 8323 §5.3).
    fn introduce(&mut self, link: &mut Link) {
        if let Some(octets) =
            wire::frame(&capabilities(&csm(self.common.settings.max_message_size)))
        {
            link.reply(octets);
        }
    }

    fn abort(&mut self, link: &mut Link, error: &DecodeError) {
        self.send_abort(link, Options::EMPTY, error.to_string().as_bytes());
    }

    fn send_abort(&mut self, link: &mut Link, options: Options<'_>, text: &[u8]) {
        let abort = TcpMessage { code: Code::ABORT, token: &[], options, payload: text };
        self.send_frame(link, &abort);
    }

    /// Ends the connection in good order (RFC 8323 §5.5).
    pub(crate) fn release(&mut self, link: &mut Link) {
        let options = Options::EMPTY;
        let release = TcpMessage { code: Code::RELEASE, token: &[], options, payload: &[] };
        self.send_frame(link, &release);
        link.close();
    }

    /// Whether the session has a reason to go on.
    fn is_busy(&mut self, now: Duration) -> bool {
        let patience = self.common.settings.response_timeout;
        self.outstanding.retain(|_, outstanding| outstanding.since + patience > now);
        if self.transfer_until.is_some_and(|until| until <= now) {
            self.transfer_until = None;
        }
        let registered = self.endpoint.as_ref().is_some_and(|(_, until)| {
            // Over TCP the server can reach the device for as long as the connection lasts.
            let patience = self.common.settings.registration_timeout;
            *until > now && (self.transport == Transport::Tcp || self.last_active + patience > now)
        });
        registered
            || self.transfer_until.is_some()
            || !self.outstanding.is_empty()
            || self.to_client.waits(now, patience)
            || !self.observing.is_empty()
            || !self.asked.is_empty()
            || !self.confirmables.is_empty()
            || !self.transfers.is_empty()
    }

    /// Has [`Protocol::handle_timeout`] called at this time, or before it.
    pub(crate) fn wake_at(&self, link: &mut Link, time: Duration) {
        if link.deadline().is_none_or(|deadline| time < deadline) {
            link.set_deadline(Some(time));
        }
    }
}

/// Whether a request is for a forward-proxy (RFC 7252 §5.10.2).
fn is_for_proxy(options: &Options<'_>) -> bool {
    options
        .iter()
        .any(|option| matches!(option.number, OptionNumber::PROXY_URI | OptionNumber::PROXY_SCHEME))
}

/// Whether a request ends an LwM2M registration: DELETE of what is below `/rd` (LwM2M 1.2 §6.2.3).
fn deregisters(message: &Incoming<'_>) -> bool {
    let mut path = message.options.uri_path();
    message.code == Code::DELETE
        && path.next().is_some_and(|segment| segment == "rd")
        && path.next().is_some()
}

/// The endpoint name of an LwM2M registration: a POST to `/rd` with `ep` (LwM2M 1.2 §6.2.1).
pub(crate) fn endpoint_name<'a>(options: &Options<'a>) -> Option<&'a str> {
    if !options.uri_path().eq(["rd"]) {
        return None;
    }
    argument(options, "ep").filter(|name| !name.is_empty())
}

fn argument<'a>(options: &Options<'a>, name: &str) -> Option<&'a str> {
    let mut query = options.uri_query();
    query.find_map(|text| text.as_str().strip_prefix(name)?.strip_prefix('='))
}

/// The options of a CSM.
pub(crate) fn csm(max_message_size: u32) -> [CoapOption<'static>; 2] {
    [
        CoapOption::new(OptionNumber::MAX_MESSAGE_SIZE, max_message_size),
        CoapOption::new(OptionNumber::BLOCK_WISE_TRANSFER, codec_coap::OptionValue::Empty),
    ]
}

pub(crate) fn capabilities<'a>(options: &'a [CoapOption<'a>; 2]) -> TcpMessage<'a> {
    TcpMessage { code: Code::CSM, token: &[], options: Options::from(options), payload: &[] }
}

/// A critical option of a CSM that is not known (RFC 8323 §5.3).
fn critical_unknown(message: &TcpMessage<'_>) -> Option<OptionNumber> {
    message.options.iter().map(|option| option.number).find(|number| number.is_critical())
}

fn buckets(common: &Common, source: Option<IpAddr>, now: Duration) -> Vec<Shared> {
    let limits = &common.settings.rate_limits;
    if limits.is_empty() {
        return Vec::new();
    }
    // One network of 64 bits is one customer's (RFC 6177).
    let source = source.map_or_else(String::new, |source| match source {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("{:x}", ip.to_bits() >> 64),
    });
    let mut table = common.buckets.borrow_mut();
    let limits = limits.iter().enumerate();
    limits
        .map(|(index, limit)| {
            let key = match limit.per {
                Per::Connection => None,
                Per::SourceAddress => Some(&*source),
            };
            table.get((index, limit), key, now)
        })
        .collect()
}

impl Protocol for Session {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        if !self.flush_backlogs(link) {
            return Want::Room;
        }
        if !input.is_empty() {
            self.read(link, input);
        }
        if self.flush_backlogs(link) { Want::More } else { Want::Room }
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        link.close();
    }

    fn handle_response(&mut self, link: &mut Link, stream: StreamId, response: Response<()>) {
        if self.asked.contains_key(&stream) {
            self.asked_response(link, stream, response);
        } else {
            self.flow_response(link, stream, &response);
        }
    }

    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        self.last_active = link.now();
        if self.asked.contains_key(&stream) {
            self.asked_body(link, stream, &body);
        } else {
            self.flow_body(link, stream, body);
        }
    }

    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        if self.asked.contains_key(&stream) {
            self.asked_ended(link, stream, how);
        } else {
            self.flow_ended(link, stream);
        }
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        let now = link.now();
        self.retransmit(link);
        self.separate(link);
        let timeout = self.common.settings.transfer_timeout;
        let (uploads, stored) = self.transfers.expire(now, timeout);
        for (number, direction) in [(uploads, Direction::FromClient), (stored, Direction::ToClient)]
        {
            for _ in 0..number {
                self.common.stats.transfer(direction, "timeout");
            }
        }
        if let Some(used) = self.transfers.oldest() {
            self.wake_at(link, used + timeout);
        }
        if self.transport == Transport::Dtls {
            return;
        }
        let idle = self.common.settings.idle_timeout;
        let end = self.last_active + idle;
        let is_tcp = self.transport == Transport::Tcp;
        // Over TCP a response is waited for as long as it takes, so nothing is forgotten before.
        if !(is_tcp && end > now) && self.is_busy(now) {
            self.wake_at(link, now + idle);
        } else if end <= now {
            if is_tcp { self.release(link) } else { link.close() }
        } else {
            self.wake_at(link, end);
        }
    }

    fn handle_close(&mut self, _: Peer) {
        let stats = &self.common.stats;
        stats.flows.add(-i64::try_from(self.flows.len()).unwrap_or_default());
        let observed = self.observing.len() + self.observed_by_request();
        stats.observations.add(-i64::try_from(observed).unwrap_or_default());
        let Some(client) = self.client.filter(|_| self.transport == Transport::Udp) else { return };
        let mut exchanges = std::mem::take(&mut self.exchanges);
        for (id, capsule) in self.recent.drain(..) {
            exchanges.answered(id, self.last_active + EXCHANGE_LIFETIME, capsule);
        }
        let proven = self.proven && self.common.settings.amplification_factor.is_some();
        let known = Known { exchanges, proven, endpoint: self.endpoint.take() };
        self.common.memory.borrow_mut().keep(client, known, self.last_active);
    }
}
