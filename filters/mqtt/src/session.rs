//! A session in bridge mode.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use bridge::{
    Bytes, Direction, Ended, Input, Link, Peer, Protocol, Request, Response, StreamId, Want,
};
use codec_mqtt::{
    Connect, ConnectReturnCode, DecodeError, Decoded, Disconnect, Frame, Packet, PacketType,
    Properties, PropertyId, ReasonCode, Version, Will, decode, decode_connect, frame,
};

use crate::Common;
use crate::check::Check;
use crate::config::Codec;
use crate::http::{self, Refusal};
use crate::limits::Per;
use crate::message::{About, Identity, Verdict};
use crate::messages::{Advance, Cx, Messages, Owner};
use crate::packets::{Fault, Run, Then, encoded, validate};
use crate::prefix::{Prefix, with_response_topic};
use crate::qos2::Qos2;
use crate::rules::{Carry, PacketKind};
use crate::to_client::{Need, Step, ToClient};

/// How much of a refusal's content is read to tell the client why.
const MAX_EXPLANATION: usize = 256;

/// One client's connection: CONNECT becomes a request, the session's octets its content.
#[derive(Debug)]
pub struct Session {
    common: Rc<Common>,
    phase: Phase,
    /// Why the connection ends, once something decided that it does.
    cause: Option<&'static str>,
}

#[derive(Debug)]
enum Phase {
    /// CONNECT has not arrived completely.
    Connecting,
    /// CONNECT waits at the front of the input for what is said about its will message.
    Asking(Client, Check),
    Carried(Box<Carried>),
    /// The answer on this stream was not 2xx; what it says is read until its end.
    Refused {
        client: Client,
        stream: StreamId,
        refusal: Refusal,
        content: Vec<u8>,
    },
    /// Nothing is passed on any more.
    Ended,
}

/// What matters of the client for as long as it is connected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) version: Version,
    /// Maximum Packet Size (MQTT 5.0 §3.1.2.11.4).
    pub(crate) max_packet_size: u32,
}

impl Client {
    /// One that has not said what it accepts.
    fn unknown(version: Version) -> Self {
        Self { version, max_packet_size: u32::MAX }
    }
}

#[derive(Debug)]
struct Carried {
    client: Client,
    stream: StreamId,
    /// The answer was 2xx, and the session is counted as active.
    accepted: bool,
    /// Octets at the front of the input, and after it, that are validated and to be passed on.
    validated: u64,
    /// What follows them.
    then: Then,
    /// In place of the two above where messages are looked at one by one.
    messages: Option<Box<Messages>>,
    to_client: ToClient,
    /// The server's CONNACK has been passed on.
    connack_sent: bool,
    /// The client's DISCONNECT has been passed on.
    disconnected: bool,
    /// The server has ended the session; what it said before waits for a verdict.
    server_ended: bool,
    silence: Option<Silence>,
    /// For what remains of the session. Empty if nothing can.
    client_id: String,
}

/// How long a client may be silent.
#[derive(Debug)]
struct Silence {
    most: Duration,
    last_heard: Duration,
    /// What the client sends is left unread at the moment.
    deaf: bool,
}

impl Session {
    pub(crate) fn new(common: Rc<Common>, link: &mut Link) -> Self {
        link.set_deadline(Some(link.now() + common.settings.connect_timeout));
        Self { common, phase: Phase::Connecting, cause: None }
    }

    /// Ends the connection, for the first cause that is given.
    fn end(&mut self, link: &mut Link, cause: &'static str) {
        self.cause.get_or_insert(cause);
        if let Phase::Carried(carried) = &self.phase {
            link.finish(carried.stream);
        }
        self.leave();
        link.set_deadline(None);
        link.close();
    }

    /// Nothing happens after this.
    fn leave(&mut self) {
        if let Phase::Carried(carried) = std::mem::replace(&mut self.phase, Phase::Ended)
            && carried.accepted
        {
            self.common.stats.active.add(-1);
        }
    }

    fn refuse(&mut self, link: &mut Link, client: Client, refusal: &Refusal, cause: &'static str) {
        let stats = &self.common.stats;
        if let Some(connack) = refusal.connack(client.version, client.max_packet_size) {
            stats.octets(Direction::ToClient, connack.len());
            stats.packet(Direction::ToClient, PacketType::CONNACK, 0);
            link.reply(Bytes::from(connack));
        }
        stats.connack("filter", refusal.label(client.version));
        log::debug!("session refused: {}", refusal.reason);
        self.end(link, cause);
    }

    /// Looks for a complete CONNECT packet at the front of the input and opens its stream.
    fn connect(&mut self, link: &mut Link, input: &mut Input) {
        let octets = input.share();
        let settings = &self.common.settings;
        let fault = match frame(&octets, settings.max_packet_size) {
            Ok(Decoded::Incomplete { .. }) => return,
            Ok(Decoded::Complete { packet, .. }) if packet.packet_type != PacketType::CONNECT => {
                Fault::Unexpected
            }
            Ok(Decoded::Complete { packet, .. }) if packet.len() > settings.max_connect_size => {
                // Long enough to see in which version to say so.
                if octets.len() < packet.header_len + PROTOCOL_END {
                    return;
                }
                let after_header = octets.get(packet.header_len..).unwrap_or_default();
                let client = Client::unknown(claimed_version(after_header));
                let fault = Fault::TooLargeToHold;
                self.common.stats.decode_error(Direction::FromClient, fault.label());
                let refusal = Refusal::new(fault.reason_code(), None, "CONNECT is too large");
                return self.refuse(link, client, &refusal, "decode_error");
            }
            Ok(Decoded::Complete { packet: frame, .. }) => match decode_connect(&octets) {
                Ok(Decoded::Incomplete { .. }) => return,
                Ok(Decoded::Complete { packet: connect, .. }) => {
                    return self.decide(link, input, &connect, frame);
                }
                Err(error) => {
                    let after_header = octets.get(frame.header_len..).unwrap_or_default();
                    self.common.stats.decode_error(Direction::FromClient, error.label());
                    let client = Client::unknown(claimed_version(after_header));
                    let refusal =
                        Refusal::new(error.reason_code(), return_code(error), &error.to_string());
                    return self.refuse(link, client, &refusal, "decode_error");
                }
            },
            Err(error) => error.into(),
        };
        self.common.stats.decode_error(Direction::FromClient, fault.label());
        self.end(link, "decode_error");
    }

    /// Asks about the will message where a rule says so, and then opens the session's stream.
    fn decide(&mut self, link: &mut Link, input: &mut Input, connect: &Connect<'_>, frame: Frame) {
        link.set_deadline(None);
        let common = Rc::clone(&self.common);
        let settings = &common.settings;
        let client = client(connect);
        let server_name = link.surroundings().server_name();
        let request = http::request(connect, settings, server_name);
        let Some(prefix) = settings.topic_prefix.prefix(connect.client_id, connect.username) else {
            let refusal = Refusal::new(
                ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
                Some(ConnectReturnCode::IDENTIFIER_REJECTED),
                "the client's name cannot be a topic level",
            );
            common.stats.packet(Direction::FromClient, PacketType::CONNECT, 0);
            return self.refuse(link, client, &refusal, "refused");
        };
        if let Some(will) = &connect.will
            && matches!(self.phase, Phase::Connecting)
        {
            match self.ask_about_will(link, connect, will, &request) {
                Ok(None) => {}
                Ok(Some(check)) => {
                    self.phase = Phase::Asking(client, check);
                    return;
                }
                Err(refusal) => return self.refuse(link, client, &refusal, "refused"),
            }
        }
        common.stats.packet(Direction::FromClient, PacketType::CONNECT, 0);
        let owner = Owner { client_id: connect.client_id, username: connect.username };
        let buckets = self.buckets(link, &owner);
        let mut messages = Messages::new(settings, &owner, &request, &prefix, buckets);
        let alone = settings.codec == Codec::Auto && messages.is_none();
        let stream = if alone { link.open_alone(request) } else { link.open(request, false) };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                return self.refuse(link, client, &unavailable(&error.to_string()), "unavailable");
            }
        };
        let mut validated = frame.len() as u64;
        let mut client_id = String::new();
        if let Some(messages) = &mut messages {
            validated = 0;
            messages.connect(match rewritten(connect, &prefix, messages.looks_at_deliveries()) {
                None => input.take(frame.len()),
                Some(octets) => {
                    input.skip(frame.len());
                    octets
                }
            });
            connect.client_id.clone_into(&mut client_id);
        }
        let silence = (settings.enforce_keep_alive && connect.keep_alive > 0)
            .then(|| Silence::new(connect.keep_alive, link.now()));
        self.phase = Phase::Carried(Box::new(Carried {
            client,
            stream,
            accepted: false,
            validated,
            then: Then::More,
            messages,
            to_client: ToClient::default(),
            connack_sent: false,
            disconnected: false,
            server_ended: false,
            silence,
            client_id,
        }));
    }

    fn ask_about_will(
        &self,
        link: &mut Link,
        connect: &Connect<'_>,
        will: &Will<'_>,
        session: &Request<()>,
    ) -> Result<Option<Check>, Refusal> {
        let settings = &self.common.settings;
        let rules = settings.rules_for(PacketKind::Will, connect.client_id, connect.username);
        let mut rules = rules.into_iter().filter_map(|index| settings.rule(index));
        let rule = rules.find(|rule| rule.matches(will.topic, will.qos, will.retain));
        let Some(rule) = rule.filter(|rule| rule.carry != Carry::Flow) else { return Ok(None) };
        let about = About {
            topic: will.topic,
            qos: will.qos,
            retain: will.retain,
            dup: false,
            properties: will.properties,
        };
        let request = Identity::of(session).publish(about, rule, Carry::Check).map_err(|_| {
            Refusal::new(ReasonCode::TOPIC_NAME_INVALID, None, "the will topic cannot be a path")
        })?;
        Check::ask(link, request, PacketKind::Will, Vec::new(), Duration::ZERO)
            .map(Some)
            .map_err(|error| unavailable(&error.to_string()))
    }

    fn buckets(&self, link: &Link, owner: &Owner<'_>) -> Vec<crate::limits::Shared> {
        let limits = &self.common.settings.rate_limits;
        if limits.is_empty() {
            return Vec::new();
        }
        let address = link.surroundings().source_address().unwrap_or_default();
        let mut table = self.common.buckets.borrow_mut();
        let bucket = |(index, limit): (usize, &crate::limits::RateLimit)| {
            let key = match limit.per {
                Per::Connection => None,
                Per::ClientId => Some(owner.client_id),
                Per::Username => Some(owner.username.unwrap_or_default()),
                Per::SourceAddress => Some(&*address),
            };
            table.get((index, limit), key, link.now())
        };
        limits.iter().enumerate().map(bucket).collect()
    }

    /// Passes the client's packets on.
    fn carry(&mut self, link: &mut Link, input: &mut Input) -> Want {
        let Phase::Carried(carried) = &self.phase else { return Want::More };
        let before = input.len();
        let want = if carried.messages.is_some() {
            self.advance(link, input)
        } else {
            self.flow(link, input)
        };
        if let Phase::Carried(carried) = &mut self.phase {
            if let Some(silence) = &mut carried.silence {
                // Octets that complete nothing are no packet, which is what a client has to send.
                if input.len() < before || silence.deaf {
                    silence.last_heard = link.now();
                }
                silence.deaf = want == Want::Room;
            }
            link.set_deadline(carried.deadline());
        }
        want
    }

    /// Where nothing looks at messages one by one.
    fn flow(&mut self, link: &mut Link, input: &mut Input) -> Want {
        let Phase::Carried(carried) = &mut self.phase else { return Want::More };
        let Common { settings, stats, .. } = &*self.common;
        loop {
            if carried.disconnected {
                // The server closes next; a client must send nothing after DISCONNECT
                // (MQTT 5.0 §3.14.4).
                input.clear();
                return Want::More;
            }
            if carried.validated > 0 {
                let here =
                    usize::try_from(carried.validated).unwrap_or(usize::MAX).min(input.len());
                let sent = link.send(carried.stream, input, here);
                stats.octets(Direction::FromClient, sent);
                carried.validated -= sent as u64;
                if sent < here {
                    return Want::Room;
                }
                if carried.validated > 0 {
                    return Want::More;
                }
            }
            match carried.then {
                Then::Disconnect(reason) => {
                    stats.disconnect(Direction::FromClient, reason.label());
                    link.finish(carried.stream);
                    self.cause.get_or_insert("disconnect");
                    carried.disconnected = true;
                    carried.then = Then::More;
                }
                Then::Fault(fault) => {
                    self.fail(link, fault);
                    return Want::More;
                }
                // The others come from a judge with more to say than this one.
                Then::More | Then::Packet | Then::Wait(_) => {}
            }
            if input.is_empty() {
                return Want::More;
            }
            let Run { octets, then } = validate(
                input.as_slice(),
                carried.client.version,
                settings.bounds(),
                |frame, _| {
                    stats.packet(Direction::FromClient, frame.packet_type, frame.flags);
                    Then::More
                },
            );
            carried.validated = octets;
            carried.then = then;
            if octets == 0 && then == Then::More {
                return Want::More;
            }
        }
    }

    /// Where messages are looked at one by one.
    fn advance(&mut self, link: &mut Link, input: &mut Input) -> Want {
        let Phase::Carried(carried) = &mut self.phase else { return Want::More };
        if carried.disconnected {
            input.clear();
            return Want::More;
        }
        let common = Rc::clone(&self.common);
        let Some((mut cx, messages)) = carried.split(link, &common) else { return Want::More };
        match messages.advance(&mut cx, input) {
            Advance::Want(want) => want,
            Advance::Disconnected(reason) => {
                common.stats.disconnect(Direction::FromClient, reason.label());
                messages.end(&mut cx);
                self.cause.get_or_insert("disconnect");
                carried.disconnected = true;
                input.clear();
                Want::More
            }
            Advance::Fault(fault) => {
                self.fail(link, fault);
                Want::More
            }
        }
    }

    /// Ends a session whose client sent what it must not.
    fn fail(&mut self, link: &mut Link, fault: Fault) {
        let (cause, stats) = (fault.cause(), &self.common.stats);
        stats.decode_error(Direction::FromClient, fault.label());
        if let Phase::Carried(carried) = &mut self.phase
            && carried.client.version == Version::V5
        {
            let client = carried.client;
            if !carried.connack_sent {
                let refusal = Refusal::new(fault.reason_code(), None, fault.label());
                return self.refuse(link, client, &refusal, cause);
            }
            let reason_code = fault.reason_code();
            let packet =
                Packet::Disconnect(Disconnect { reason_code, properties: Properties::EMPTY });
            if let Some(octets) = encoded(&packet, Version::V5) {
                stats.packet(Direction::ToClient, PacketType::DISCONNECT, 0);
                stats.octets(Direction::ToClient, octets.len());
                stats.disconnect(Direction::ToClient, reason_code.label());
                // It stays away if the client is in the middle of a packet of the server's.
                carried.to_client.reply(link, octets);
            }
        }
        self.end(link, cause);
    }

    /// Passes the broker's packets on.
    fn deliver(&mut self, link: &mut Link) {
        let common = Rc::clone(&self.common);
        let stats = &common.stats;
        loop {
            let Phase::Carried(carried) = &mut self.phase else { return };
            let version = carried.client.version;
            if let Some((mut cx, messages)) = carried.split(link, &common) {
                match messages.take_delivery(&mut cx) {
                    Ok(None) => {}
                    Ok(Some((frame, octets))) => {
                        carried.hand_over(link, &common, frame, octets);
                        continue;
                    }
                    Err(fault) => return self.fail(link, fault),
                }
                if messages.holds_deliveries() {
                    return;
                }
            }
            carried.to_client.flush(link);
            let messages = carried.messages.as_deref();
            let need = |frame: &Frame| {
                let need = match (messages, frame.packet_type) {
                    (Some(messages), _) => messages.need(frame),
                    (None, PacketType::CONNACK | PacketType::DISCONNECT) => Need::Whole,
                    (None, _) => Need::Header,
                };
                if need == Need::Header {
                    stats.packet(Direction::ToClient, frame.packet_type, frame.flags);
                }
                need
            };
            match carried.to_client.next(version, common.settings.max_buffered_size, need) {
                None => {
                    carried.to_client.flush(link);
                    if carried.server_ended {
                        self.end(link, "server_closed");
                    }
                    return;
                }
                Some(Step::Pass(octets)) => {
                    stats.octets(Direction::ToClient, octets.len());
                    link.reply(octets);
                }
                Some(Step::Packet(frame, octets)) => {
                    if matches!(frame.packet_type, PacketType::CONNACK | PacketType::DISCONNECT) {
                        carried.notice(link, &octets, &common);
                    }
                    let octets = match carried.split(link, &common) {
                        None => Some(octets),
                        Some((mut cx, messages)) => {
                            match messages.handle_packet(&mut cx, frame, octets) {
                                Ok(None) if messages.holds_deliveries() => return,
                                Ok(octets) => octets,
                                Err(fault) => return self.fail(link, fault),
                            }
                        }
                    };
                    carried.hand_over(link, &common, frame, octets);
                }
                Some(Step::Error(error)) => {
                    stats.decode_error(Direction::ToClient, error.label());
                    log::warn!("the server's octets are not MQTT: {error}");
                    return self.end(link, "server_error");
                }
            }
        }
    }

    /// Has the messages deal with something that happened on a stream other than the session's.
    fn on_other_stream(
        &mut self,
        link: &mut Link,
        deal: impl FnOnce(&mut Messages, &mut Cx<'_>) -> Result<(), Fault>,
    ) {
        let common = Rc::clone(&self.common);
        let Phase::Carried(carried) = &mut self.phase else { return };
        let Some((mut cx, messages)) = carried.split(link, &common) else { return };
        match deal(messages, &mut cx) {
            Ok(()) => self.deliver(link),
            Err(fault) => self.fail(link, fault),
        }
    }
}

impl Carried {
    /// What its messages need, and they.
    fn split<'a>(
        &'a mut self,
        link: &'a mut Link,
        common: &'a Common,
    ) -> Option<(Cx<'a>, &'a mut Messages)> {
        let messages = self.messages.as_deref_mut()?;
        let cx = Cx {
            link,
            stream: self.stream,
            client: self.client,
            to_client: &mut self.to_client,
            settings: &common.settings,
            stats: &common.stats,
        };
        Some((cx, messages))
    }

    /// Gives the client what it is to have of a packet: these octets and what follows them, or
    /// nothing.
    fn hand_over(&mut self, link: &mut Link, common: &Common, frame: Frame, octets: Option<Bytes>) {
        match octets {
            Some(octets) => {
                common.stats.packet(Direction::ToClient, frame.packet_type, frame.flags);
                common.stats.octets(Direction::ToClient, octets.len());
                link.reply(octets);
                self.to_client.pass_rest();
            }
            None => self.to_client.skip_rest(),
        }
    }

    /// Takes note of what a CONNACK or DISCONNECT of the broker's says.
    fn notice(&mut self, link: &mut Link, octets: &[u8], common: &Common) {
        match decode(octets, self.client.version) {
            Ok(Decoded::Complete { packet: Packet::ConnAck(connack), .. }) => {
                self.connack_sent = true;
                let label = connack_label(self.client.version, connack.code.as_u8());
                common.stats.connack("broker", label);
                if let Some(messages) = &mut self.messages
                    && connack.code.is_accepted()
                {
                    if let Some(assigned) = connack.properties.assigned_client_identifier() {
                        assigned.clone_into(&mut self.client_id);
                    }
                    let goes_on = connack.session_present;
                    messages.qos2 = Qos2::new(&common.sessions, &self.client_id, goes_on);
                }
                if let Some(seconds) = connack.properties.server_keep_alive()
                    && common.settings.enforce_keep_alive
                {
                    self.silence = (seconds > 0).then(|| Silence::new(seconds, link.now()));
                    link.set_deadline(self.deadline());
                }
            }
            Ok(Decoded::Complete { packet: Packet::Disconnect(disconnect), .. }) => {
                common.stats.disconnect(Direction::ToClient, disconnect.reason_code.label());
            }
            _ => {}
        }
    }

    /// Whether a packet of the broker's waits for its verdict.
    fn waits(&self) -> bool {
        self.messages.as_ref().is_some_and(|messages| messages.holds_deliveries())
    }

    fn deadline(&self) -> Option<Duration> {
        let waiting = self.messages.as_ref().and_then(|messages| messages.deadline());
        let silent = self.silence.as_ref().map(Silence::deadline);
        waiting.into_iter().chain(silent).min()
    }
}

impl Silence {
    /// One and a half times the Keep Alive (MQTT 5.0 §3.1.2.10).
    fn new(keep_alive: u16, now: Duration) -> Self {
        let most = Duration::from_millis(1500) * u32::from(keep_alive);
        Self { most, last_heard: now, deaf: false }
    }

    fn deadline(&self) -> Duration {
        self.last_heard + self.most
    }
}

impl Protocol for Session {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        match &self.phase {
            Phase::Asking(_, check) if check.verdict.is_none() => return Want::Room,
            Phase::Connecting | Phase::Asking(..) => self.connect(link, input),
            _ => {}
        }
        match &self.phase {
            Phase::Connecting => Want::More,
            Phase::Asking(..) => Want::Room,
            Phase::Carried(_) => self.carry(link, input),
            Phase::Refused { .. } | Phase::Ended => {
                input.clear();
                Want::More
            }
        }
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        let common = Rc::clone(&self.common);
        match &mut self.phase {
            Phase::Carried(carried) => match carried.split(link, &common) {
                Some((mut cx, messages)) => messages.end(&mut cx),
                None => link.finish(carried.stream),
            },
            _ => self.end(link, "client_closed"),
        }
    }

    fn handle_response(&mut self, link: &mut Link, stream: StreamId, response: Response<()>) {
        let refused = |client, response: Response<()>| {
            let refusal = Refusal::from_status(response.status(), response.headers());
            Phase::Refused { client, stream, refusal, content: Vec::new() }
        };
        match &mut self.phase {
            Phase::Asking(client, check) if check.stream == stream => {
                let verdict = Verdict::from_status(response.status());
                self.common.stats.verdict(PacketKind::Will, verdict, false);
                if verdict == Verdict::Allowed {
                    check.verdict = Some(verdict);
                } else {
                    self.common.stats.packet(Direction::FromClient, PacketType::CONNECT, 0);
                    self.phase = refused(*client, response);
                }
            }
            Phase::Carried(carried) if carried.stream == stream => {
                if response.status().is_success() {
                    carried.accepted = true;
                    self.common.stats.session(carried.client.version);
                } else {
                    link.finish(carried.stream);
                    self.phase = refused(carried.client, response);
                }
            }
            Phase::Carried(_) => self.on_other_stream(link, |messages, cx| {
                messages.handle_response(cx, stream, &response)
            }),
            _ => {}
        }
    }

    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        match &mut self.phase {
            Phase::Carried(carried) if carried.stream == stream => {
                carried.to_client.push(body);
                self.deliver(link);
            }
            Phase::Carried(carried) => {
                if let Some(messages) = &mut carried.messages {
                    messages.handle_body(&self.common.settings, stream, &body);
                }
            }
            Phase::Refused { stream: refused, content, .. } if *refused == stream => {
                let room = MAX_EXPLANATION - content.len();
                content.extend(body.iter().take(room));
            }
            _ => {}
        }
    }

    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Refused { client, stream: refused, mut refusal, content }
                if refused == stream =>
            {
                refusal.explain(&content);
                self.refuse(link, client, &refusal, "refused");
            }
            Phase::Carried(mut carried)
                if carried.stream == stream && how == Ended::Complete && carried.waits() =>
            {
                carried.server_ended = true;
                self.phase = Phase::Carried(carried);
            }
            Phase::Carried(carried) if carried.stream == stream => {
                let (accepted, client) = (carried.accepted, carried.client);
                self.phase = Phase::Carried(carried);
                if accepted {
                    let complete = how == Ended::Complete;
                    self.end(link, if complete { "server_closed" } else { "server_reset" });
                } else {
                    let refusal = unavailable("the next filter gave no answer");
                    self.refuse(link, client, &refusal, "unavailable");
                }
            }
            Phase::Asking(client, check) if check.stream == stream && check.verdict.is_none() => {
                self.common.stats.verdict(PacketKind::Will, Verdict::Failed, false);
                self.common.stats.packet(Direction::FromClient, PacketType::CONNECT, 0);
                let refusal = unavailable("nobody could say whether the will message is allowed");
                self.refuse(link, client, &refusal, "unavailable");
            }
            phase => {
                self.phase = phase;
                self.on_other_stream(link, |messages, cx| messages.handle_ended(cx, stream, how));
            }
        }
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        let Phase::Carried(carried) = &mut self.phase else {
            self.common.stats.decode_error(Direction::FromClient, "connect_timeout");
            return self.end(link, "connect_timeout");
        };
        let now = link.now();
        if let Some(silence) = &mut carried.silence
            && silence.deadline() <= now
        {
            if !silence.deaf {
                let fault = Fault::Broken(ReasonCode::KEEP_ALIVE_TIMEOUT, "keep_alive_timeout");
                return self.fail(link, fault);
            }
            silence.last_heard = now;
        }
        link.set_deadline(carried.deadline());
    }

    fn handle_close(&mut self, by: Peer) {
        let cause = match by {
            Peer::Native => "client_closed",
            Peer::Next => "envoy_closed",
        };
        self.leave();
        self.common.stats.closed(self.cause.unwrap_or(cause));
    }
}

fn client(connect: &Connect<'_>) -> Client {
    let max_packet_size = connect.properties.maximum_packet_size();
    Client {
        version: connect.version,
        max_packet_size: max_packet_size.map_or(u32::MAX, NonZeroU32::get),
    }
}

fn unavailable(reason: &str) -> Refusal {
    Refusal::new(
        ReasonCode::SERVER_UNAVAILABLE,
        Some(ConnectReturnCode::SERVER_UNAVAILABLE),
        reason,
    )
}

/// CONNECT as the broker gets it, if not as the client sent it: with the prefix before the will's
/// topics, and without topic aliases from the broker where its messages are looked at.
fn rewritten(connect: &Connect<'_>, prefix: &Prefix, looks_at_deliveries: bool) -> Option<Bytes> {
    let aliases =
        looks_at_deliveries && connect.properties.contains(PropertyId::TOPIC_ALIAS_MAXIMUM);
    if !aliases && (connect.will.is_none() || prefix.is_empty()) {
        return None;
    }
    let properties: Vec<_> = connect
        .properties
        .iter()
        .filter(|property| !aliases || property.id() != PropertyId::TOPIC_ALIAS_MAXIMUM)
        .collect();
    let topics = connect.will.as_ref().map(|will| {
        let response_topic = will.properties.response_topic();
        (prefix.add(will.topic), response_topic.map(|topic| prefix.add(topic)))
    });
    let response_topic = topics.as_ref().and_then(|(_, topic)| topic.as_deref());
    let will_properties = connect.will.as_ref().map_or(Properties::EMPTY, |will| will.properties);
    let will_properties: Vec<_> = with_response_topic(will_properties, response_topic).collect();
    let will = connect.will.as_ref().zip(topics.as_ref()).map(|(will, (topic, _))| Will {
        topic,
        properties: Properties::from(&*will_properties),
        ..*will
    });
    let connect = Connect { properties: Properties::from(&*properties), will, ..*connect };
    encoded(&Packet::Connect(connect), connect.version).map(Bytes::from)
}

/// Where Protocol Name and Protocol Level end in CONNECT's variable header.
const PROTOCOL_END: usize = 7;

/// The version to answer in a CONNECT that is refused: 5.0 if it claims that or a later one.
fn claimed_version(variable_header: &[u8]) -> Version {
    match variable_header {
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] if *level >= 5 => Version::V5,
        _ => Version::V311,
    }
}

/// What an MQTT 3.1.1 CONNACK can say of a CONNECT that is not valid.
fn return_code(error: DecodeError) -> Option<ConnectReturnCode> {
    match error.reason_code() {
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => {
            Some(ConnectReturnCode::UNACCEPTABLE_PROTOCOL_VERSION)
        }
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => Some(ConnectReturnCode::IDENTIFIER_REJECTED),
        _ => None,
    }
}

/// The name of a CONNACK's code.
pub(crate) fn connack_label(version: Version, code: u8) -> &'static str {
    match version {
        Version::V5 => ReasonCode(code).label(),
        Version::V311 => ConnectReturnCode(code).label(),
    }
}
