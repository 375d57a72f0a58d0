//! A session in bridge mode.

use std::num::NonZeroU32;
use std::rc::Rc;

use bridge::{Bytes, Direction, Ended, Input, Link, Peer, Protocol, Response, StreamId, Want};
use codec_mqtt::{
    Connect, ConnectReturnCode, DecodeError, Decoded, Disconnect, PacketType, Properties,
    ReasonCode, Version, decode_connect, frame,
};

use crate::config::Settings;
use crate::http::{self, Refusal};
use crate::packets::{Bounds, Fault, Run, Seen, Then, Watcher, validate};
use crate::stats::Stats;

/// How much of a refusal's content is read to tell the client why.
const MAX_EXPLANATION: usize = 256;

/// One client's connection: CONNECT becomes a request, the session's octets its content.
#[derive(Debug)]
pub struct Session {
    settings: Rc<Settings>,
    stats: Rc<Stats>,
    phase: Phase,
    /// Why the connection ends, once something decided that it does.
    cause: Option<&'static str>,
}

#[derive(Debug)]
enum Phase {
    /// CONNECT has not arrived completely.
    Connecting,
    Carried(Box<Carried>),
    /// The answer was not 2xx; what it says is read until its end.
    Refused {
        client: Client,
        refusal: Refusal,
        content: Vec<u8>,
    },
    /// Nothing is passed on any more.
    Ended,
}

/// What matters of the client for as long as it is connected.
#[derive(Debug, Clone, Copy)]
struct Client {
    version: Version,
    /// Maximum Packet Size (MQTT 5.0 §3.1.2.11.4).
    max_packet_size: u32,
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
    server: Watcher,
    /// Octets of the server's current packet that are still to come.
    server_skip: u64,
    /// The server's CONNACK has been passed on.
    connack_sent: bool,
    /// The client's DISCONNECT has been passed on.
    disconnected: bool,
}

impl Session {
    pub(crate) fn new(settings: Rc<Settings>, stats: Rc<Stats>, link: &mut Link) -> Self {
        link.set_deadline(Some(link.now() + settings.connect_timeout));
        Self { settings, stats, phase: Phase::Connecting, cause: None }
    }

    /// Ends the connection, for the first cause that is given.
    fn end(&mut self, link: &mut Link, cause: &'static str) {
        self.cause.get_or_insert(cause);
        if let Phase::Carried(carried) = &self.phase {
            link.finish(carried.stream);
            if carried.accepted {
                self.stats.active.add(-1);
            }
        }
        self.phase = Phase::Ended;
        link.set_deadline(None);
        link.close();
    }

    fn refuse(&mut self, link: &mut Link, client: Client, refusal: &Refusal, cause: &'static str) {
        if let Some(connack) = refusal.connack(client.version, client.max_packet_size) {
            self.stats.octets(Direction::ToClient, connack.len());
            self.stats.packet(Direction::ToClient, PacketType::CONNACK, 0);
            link.reply(Bytes::from(connack));
        }
        self.stats.connack("filter", refusal.label(client.version));
        log::debug!("session refused: {}", refusal.reason);
        self.end(link, cause);
    }

    /// Looks for a complete CONNECT packet at the front of the input and opens its stream.
    fn connect(&mut self, link: &mut Link, input: &Input) {
        let octets = input.as_slice();
        let fault = match frame(octets, self.settings.max_packet_size) {
            Ok(Decoded::Incomplete { .. }) => return,
            Ok(Decoded::Complete { packet, .. }) if packet.packet_type != PacketType::CONNECT => {
                Fault::Unexpected
            }
            Ok(Decoded::Complete { packet, .. })
                if packet.len() > self.settings.max_connect_size =>
            {
                // Long enough to see in which version to say so.
                if octets.len() < packet.header_len + PROTOCOL_END {
                    return;
                }
                let client = Client {
                    version: claimed_version(octets.get(packet.header_len..).unwrap_or_default()),
                    max_packet_size: u32::MAX,
                };
                let fault = Fault::TooLargeToHold;
                self.stats.decode_error(Direction::FromClient, fault.label());
                let refusal = Refusal::new(fault.reason_code(), None, "CONNECT is too large");
                return self.refuse(link, client, &refusal, "decode_error");
            }
            Ok(Decoded::Complete { packet: frame, .. }) => match decode_connect(octets) {
                Ok(Decoded::Incomplete { .. }) => return,
                Ok(Decoded::Complete { packet: connect, .. }) => {
                    self.stats.packet(Direction::FromClient, PacketType::CONNECT, 0);
                    return self.open(link, &connect, frame.len());
                }
                Err(error) => {
                    let after_header = octets.get(frame.header_len..).unwrap_or_default();
                    self.stats.decode_error(Direction::FromClient, error.label());
                    let client = Client {
                        version: claimed_version(after_header),
                        max_packet_size: u32::MAX,
                    };
                    let refusal =
                        Refusal::new(error.reason_code(), return_code(error), &error.to_string());
                    return self.refuse(link, client, &refusal, "decode_error");
                }
            },
            Err(error) => error.into(),
        };
        self.stats.decode_error(Direction::FromClient, fault.label());
        self.end(link, "decode_error");
    }

    fn open(&mut self, link: &mut Link, connect: &Connect<'_>, len: usize) {
        link.set_deadline(None);
        let server_name = link.surroundings().server_name();
        let request = http::request(connect, &self.settings, server_name);
        let client = Client {
            version: connect.version,
            max_packet_size: connect
                .properties
                .maximum_packet_size()
                .map_or(u32::MAX, NonZeroU32::get),
        };
        match link.open(request, false) {
            Ok(stream) => {
                self.phase = Phase::Carried(Box::new(Carried {
                    client,
                    stream,
                    accepted: false,
                    validated: len as u64,
                    then: Then::More,
                    server: Watcher::default(),
                    server_skip: 0,
                    connack_sent: false,
                    disconnected: false,
                }));
            }
            Err(error) => self.refuse(
                link,
                client,
                &Refusal::new(
                    ReasonCode::SERVER_UNAVAILABLE,
                    Some(ConnectReturnCode::SERVER_UNAVAILABLE),
                    &error.to_string(),
                ),
                "unavailable",
            ),
        }
    }

    /// Passes the client's packets on.
    fn carry(&mut self, link: &mut Link, input: &mut Input) -> Want {
        let Phase::Carried(carried) = &mut self.phase else { return Want::More };
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
                self.stats.octets(Direction::FromClient, sent);
                carried.validated -= sent as u64;
                if sent < here {
                    return Want::Room;
                }
                if carried.validated > 0 {
                    return Want::More;
                }
            }
            match carried.then {
                Then::More => {}
                Then::Disconnect(reason) => {
                    self.stats.disconnect(Direction::FromClient, reason.label());
                    link.finish(carried.stream);
                    self.cause.get_or_insert("disconnect");
                    carried.disconnected = true;
                    carried.then = Then::More;
                }
                Then::Fault(fault) => {
                    self.fail(link, fault);
                    return Want::More;
                }
            }
            if input.is_empty() {
                return Want::More;
            }
            let bounds = Bounds {
                max_packet_size: self.settings.max_packet_size,
                max_buffered_size: self.settings.max_buffered_size,
            };
            let count = |frame: codec_mqtt::Frame| {
                self.stats.packet(Direction::FromClient, frame.packet_type, frame.flags);
            };
            let Run { octets, then } =
                validate(input.as_slice(), carried.client.version, bounds, count);
            carried.validated = octets;
            carried.then = then;
            if octets == 0 && then == Then::More {
                return Want::More;
            }
        }
    }

    /// Ends a session whose client sent what it must not.
    fn fail(&mut self, link: &mut Link, fault: Fault) {
        self.stats.decode_error(Direction::FromClient, fault.label());
        if let Phase::Carried(carried) = &self.phase
            && carried.client.version == Version::V5
        {
            let client = carried.client;
            if !carried.connack_sent {
                let refusal = Refusal::new(fault.reason_code(), None, fault.label());
                return self.refuse(link, client, &refusal, "decode_error");
            }
            // Not into the middle of a packet of the server's.
            if carried.server_skip == 0 && carried.server.is_between_packets() {
                self.disconnect(link, fault.reason_code());
            }
        }
        self.end(link, "decode_error");
    }

    fn disconnect(&self, link: &mut Link, reason_code: ReasonCode) {
        let disconnect = Disconnect { reason_code, properties: Properties::EMPTY };
        let mut octets = vec![0; disconnect.encoded_len(Version::V5).unwrap_or_default()];
        if disconnect.encode(Version::V5, &mut octets).is_ok() {
            self.stats.packet(Direction::ToClient, PacketType::DISCONNECT, 0);
            self.stats.octets(Direction::ToClient, octets.len());
            self.stats.disconnect(Direction::ToClient, reason_code.label());
            link.reply(Bytes::from(octets));
        }
    }
}

impl Protocol for Session {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        if matches!(self.phase, Phase::Connecting) {
            self.connect(link, input);
        }
        match &self.phase {
            Phase::Connecting => Want::More,
            Phase::Carried(_) => self.carry(link, input),
            Phase::Refused { .. } | Phase::Ended => {
                input.clear();
                Want::More
            }
        }
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        match &self.phase {
            Phase::Carried(carried) => link.finish(carried.stream),
            _ => self.end(link, "client_closed"),
        }
    }

    fn handle_response(&mut self, link: &mut Link, _: StreamId, response: Response<()>) {
        let Phase::Carried(carried) = &mut self.phase else { return };
        if response.status().is_success() {
            carried.accepted = true;
            self.stats.session(carried.client.version);
        } else {
            let client = carried.client;
            link.finish(carried.stream);
            let refusal = Refusal::from_status(response.status(), response.headers());
            self.phase = Phase::Refused { client, refusal, content: Vec::new() };
        }
    }

    fn handle_body(&mut self, link: &mut Link, _: StreamId, body: Bytes) {
        match &mut self.phase {
            Phase::Carried(carried) => {
                let stats = &self.stats;
                stats.octets(Direction::ToClient, body.len());
                let skipped = usize::try_from(carried.server_skip).unwrap_or(usize::MAX);
                let skipped = skipped.min(body.len());
                carried.server_skip -= skipped as u64;
                let version = carried.client.version;
                let mut error = None;
                let connack_sent = &mut carried.connack_sent;
                let unseen = body.get(skipped..).unwrap_or_default();
                if !unseen.is_empty() {
                    carried.server_skip = carried.server.see(unseen, |seen| match seen {
                        Seen::Packet(frame) => {
                            stats.packet(Direction::ToClient, frame.packet_type, frame.flags);
                        }
                        Seen::ConnAck(code) => {
                            *connack_sent = true;
                            stats.connack("broker", connack_label(version, code));
                        }
                        Seen::Disconnect(reason) => {
                            stats.disconnect(Direction::ToClient, reason.label());
                        }
                        Seen::Connect(_) => {}
                        Seen::Error(decode_error) => error = Some(decode_error),
                    });
                }
                if let Some(error) = error {
                    stats.decode_error(Direction::ToClient, error.label());
                    log::warn!("the server's octets are not MQTT: {error}");
                    self.end(link, "server_error");
                } else {
                    link.reply(body);
                }
            }
            Phase::Refused { content, .. } => {
                let room = MAX_EXPLANATION - content.len();
                content.extend(body.iter().take(room));
            }
            Phase::Connecting | Phase::Ended => {}
        }
    }

    fn handle_ended(&mut self, link: &mut Link, _: StreamId, how: Ended) {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Refused { client, mut refusal, content } => {
                refusal.explain(&content);
                self.refuse(link, client, &refusal, "refused");
            }
            Phase::Carried(carried) if !carried.accepted => {
                let refusal = Refusal::new(
                    ReasonCode::SERVER_UNAVAILABLE,
                    Some(ConnectReturnCode::SERVER_UNAVAILABLE),
                    "the next filter gave no answer",
                );
                let client = carried.client;
                self.phase = Phase::Carried(carried);
                self.refuse(link, client, &refusal, "unavailable");
            }
            phase => {
                self.phase = phase;
                self.end(
                    link,
                    if how == Ended::Complete { "server_closed" } else { "server_reset" },
                );
            }
        }
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        self.stats.decode_error(Direction::FromClient, "connect_timeout");
        self.end(link, "connect_timeout");
    }

    fn handle_close(&mut self, by: Peer) {
        let cause = match by {
            Peer::Native => "client_closed",
            Peer::Next => "envoy_closed",
        };
        if let Phase::Carried(carried) = &self.phase
            && carried.accepted
        {
            self.stats.active.add(-1);
        }
        self.phase = Phase::Ended;
        self.stats.closed(self.cause.unwrap_or(cause));
    }
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
