//! A connection in observe mode.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bridge::text::encode;
use bridge::{Bytes, Direction, Input, Peer};
use codec_coap::{Code, MessageType};
use hashbrown::HashMap;

use crate::Common;
use crate::config::Transport;
use crate::session::endpoint_name;
use crate::wire::{self, Incoming, Malformed, Next};

/// How many of a client's last message IDs are kept, to know retransmissions.
const LAST_IDS: usize = 16;
/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// The octets of a frame's header (RFC 9113 §4.1).
const FRAME_HEADER: usize = 9;
/// The largest frame: Envoy takes no larger ones.
const MAX_FRAME: usize = 1 << 14;
/// The largest message over TCP that is looked at. What the server and the client agree on is their
/// business, but not all memory.
const MAX_MESSAGE: u32 = 16 << 20;

/// Watches one connection: over UDP the tunnels of `udp_proxy` in one HTTP/2 connection, over TCP one
/// client's.
#[derive(Debug)]
pub struct Observer {
    common: Rc<Common>,
    from_client: Way,
    to_client: Way,
    /// The sessions in the connection, by HTTP/2 stream; over TCP there is one, with number 0.
    sessions: HashMap<u32, Seen>,
    /// The LwM2M endpoint name, until it was told.
    endpoint: Option<String>,
}

/// Octets in one direction.
#[derive(Debug, Default)]
struct Way {
    /// What was not understood yet.
    input: Input,
    /// The connection preface has passed.
    begun: bool,
    /// Nothing that follows can be understood.
    lost: bool,
}

/// What was seen of a session.
#[derive(Debug, Default)]
struct Seen {
    /// The beginnings of messages.
    from_client: Input,
    to_client: Input,
    /// The message IDs of the client's last requests.
    last_ids: VecDeque<u16>,
}

impl Seen {
    fn partial(&mut self, direction: Direction) -> &mut Input {
        match direction {
            Direction::FromClient => &mut self.from_client,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

impl Observer {
    fn way(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::FromClient => &mut self.from_client,
            Direction::ToClient => &mut self.to_client,
        }
    }

    pub(crate) fn new(common: Rc<Common>) -> Self {
        Self {
            common,
            from_client: Way::default(),
            to_client: Way::default(),
            sessions: HashMap::new(),
            endpoint: None,
        }
    }

    /// Reads the HTTP/2 frames that are there (RFC 9113 §4.1, §6.1). An error means that those that follow
    /// cannot be understood.
    fn read_frames(
        &mut self,
        direction: Direction,
        mut input: Input,
    ) -> Result<Input, &'static str> {
        const DATA: u8 = 0;
        const RST_STREAM: u8 = 3;
        const END_STREAM: u8 = 1;
        const PADDED: u8 = 8;
        let way = self.way(direction);
        if direction == Direction::FromClient && !way.begun {
            if input.len() < PREFACE {
                return Ok(input);
            }
            way.begun = true;
            input.skip(PREFACE);
        }
        loop {
            let Some(&[a, b, c, frame_type, flags, d, e, f, g]) = input.as_slice().first_chunk()
            else {
                return Ok(input);
            };
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if len > MAX_FRAME {
                return Err("frame_too_long");
            }
            if input.len() < FRAME_HEADER + len {
                return Ok(input);
            }
            input.skip(FRAME_HEADER);
            let mut payload = input.take(len);
            let stream = u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff;
            if frame_type == DATA {
                if flags & PADDED != 0 && !payload.is_empty() {
                    let padding = usize::from(payload.split_to(1).first().copied().unwrap_or(0));
                    payload.truncate(payload.len().saturating_sub(padding));
                }
                self.read(direction, stream, payload)?;
            }
            // The first side that ends a tunnel ends it.
            if frame_type == RST_STREAM || frame_type == DATA && flags & END_STREAM != 0 {
                self.sessions.remove(&stream);
            }
        }
    }

    /// Reads the messages that are there. An error means that those that follow cannot be understood.
    fn read(
        &mut self,
        direction: Direction,
        stream: u32,
        octets: Bytes,
    ) -> Result<(), &'static str> {
        let common = Rc::clone(&self.common);
        let transport = common.settings.transport;
        let most = common.settings.max_sessions as usize;
        if self.sessions.len() >= most && !self.sessions.contains_key(&stream) {
            return Ok(());
        }
        let seen = self.sessions.entry(stream).or_default();
        let mut partial = std::mem::take(seen.partial(direction));
        partial.push(octets);
        loop {
            let (len, message) = match wire::next(transport, partial.as_slice(), MAX_MESSAGE) {
                Next::Incomplete => break,
                Next::Nothing(len) => (len, None),
                Next::Datagram { payload, len } => (len, Some(wire::udp(payload))),
                Next::Frame(frame) => {
                    let len = frame.len();
                    let octets = partial.as_slice().get(..len).unwrap_or_default();
                    let message = wire::tcp(octets);
                    (len, Some(message.map(|message| Incoming::of_tcp(message, len))))
                }
                Next::Malformed(Malformed::Capsule) => return Err("capsule_too_long"),
                Next::Malformed(Malformed::Frame(error)) => return Err(error.label()),
            };
            match message {
                Some(Ok(message)) => {
                    note(&common, direction, &message, &mut seen.last_ids);
                    if let Some(name) = registered(direction, &message) {
                        self.endpoint = Some(encode(name));
                    }
                }
                Some(Err(error)) => common.stats.decode_error(direction, error.label()),
                None => {}
            }
            partial.skip(len);
        }
        *seen.partial(direction) = partial;
        Ok(())
    }
}

/// Counts a message.
fn note(
    common: &Common,
    direction: Direction,
    message: &Incoming<'_>,
    last_ids: &mut VecDeque<u16>,
) {
    let stats = &common.stats;
    let message_type = message.udp.map(|(message_type, _)| message_type);
    stats.message(direction, message_type, message.size);
    if message.code.is_request() || message.code.is_response() {
        stats.code(message.code);
    }
    if direction == Direction::FromClient
        && message.code.is_request()
        && let Some((MessageType::Confirmable, id)) = message.udp
    {
        if last_ids.contains(&id) {
            stats.retransmissions.increment();
        } else {
            if last_ids.len() >= LAST_IDS {
                last_ids.pop_front();
            }
            last_ids.push_back(id);
        }
    }
}

/// The endpoint name of a client that registers.
fn registered<'a>(direction: Direction, message: &Incoming<'a>) -> Option<&'a str> {
    let registers = direction == Direction::FromClient && message.code == Code::POST;
    endpoint_name(&message.options).filter(|_| registers)
}

impl bridge::Observer for Observer {
    fn see(&mut self, direction: Direction, octets: &[u8]) -> u64 {
        let transport = self.common.settings.transport;
        let way = self.way(direction);
        if way.lost {
            return u64::MAX;
        }
        let octets = Bytes::copy_from_slice(octets);
        let rest = match transport {
            Transport::Tcp => self.read(direction, 0, octets).map(|()| Input::default()),
            Transport::Udp | Transport::Dtls => {
                let mut input = std::mem::take(&mut way.input);
                input.push(octets);
                self.read_frames(direction, input)
            }
        };
        let way = self.way(direction);
        match rest {
            Ok(rest) => {
                way.input = rest;
                0
            }
            Err(kind) => {
                way.lost = true;
                self.sessions.clear();
                self.common.stats.decode_error(direction, kind);
                u64::MAX
            }
        }
    }

    fn passed(&mut self, _: Direction, _: usize) {}

    fn may_proceed(&self) -> bool {
        true
    }

    fn deadline(&self) -> Option<Duration> {
        None
    }

    fn handle_timeout(&mut self) -> bool {
        false
    }

    fn attributes(&mut self, set: &mut dyn FnMut(&str, &str)) {
        // Over UDP the connection is that of many clients.
        if let Some(name) =
            self.endpoint.take().filter(|_| self.common.settings.transport == Transport::Tcp)
        {
            set("coap.lwm2m_endpoint", &name);
        }
    }

    fn handle_close(&mut self, _: Peer) {}
}

#[cfg(test)]
mod tests {
    use bridge::Observer as _;
    use bridge::metrics::Registry;

    use crate::Filter;

    use super::*;

    fn counts(json: &str, pieces: &[(Direction, &[u8])]) -> (Vec<String>, Option<String>) {
        let registry = Registry::default();
        let filter = Filter::new(json.as_bytes(), &registry).expect("valid");
        let mut observer = filter.watch();
        let mut endpoint = None;
        for (direction, octets) in pieces {
            observer.see(*direction, octets);
            observer.attributes(&mut |_, value| endpoint = Some(value.to_owned()));
        }
        let mut seen = Vec::new();
        registry.changes(|change| {
            if change.by != 0 && !change.name().contains("bytes") {
                seen.push(format!("{} {}", change.name(), change.by));
            }
        });
        (seen, endpoint)
    }

    const GET: &[u8] = b"\x00\x07\x00\x40\x01\x00\x07\xb1a";
    const CONTENT: &[u8] = b"\x00\x07\x00\x60\x45\x00\x07\xffx";

    fn frame(frame_type: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(payload.len()).expect("short");
        [&[0, 0, len, frame_type, flags, 0, 0, 0, stream][..], payload].concat()
    }

    #[test]
    fn the_messages_of_tunnels_are_counted_however_they_are_split() {
        let from = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[]),
            frame(1, 4, 1, b"headers"),
            frame(0, 0, 1, &GET[..5]),
            frame(0, 0, 3, GET),
            frame(0, 8, 1, &[&[2], &GET[5..], GET, b"pp"].concat()),
            frame(0, 0, 1, b"\x00\x03\x00\xc0\x01"),
            frame(3, 0, 3, &[0; 4]),
            frame(0, 1, 1, b""),
        ]
        .concat();
        let to = [frame(4, 0, 0, &[]), frame(0, 0, 1, CONTENT)].concat();
        let expected = [
            "coap_decode_errors_total.direction=from_client.kind=header_truncated 1",
            "coap_messages_total.direction=from_client.type=con 3",
            "coap_messages_total.direction=to_client.type=ack 1",
            "coap_requests_total.method=get 3",
            "coap_responses_total.code=content 1",
            "coap_retransmissions_total 1",
        ];
        let json = r#"{"mode": "observe"}"#;
        let whole = [(Direction::FromClient, &*from), (Direction::ToClient, &*to)];
        assert_eq!(counts(json, &whole).0, expected);
        let split: Vec<_> = from
            .chunks(1)
            .map(|octets| (Direction::FromClient, octets))
            .chain(to.chunks(1).map(|octets| (Direction::ToClient, octets)))
            .collect();
        assert_eq!(counts(json, &split).0, expected);
    }

    #[test]
    fn a_registration_is_known_by_its_endpoint_name() {
        let octets = b"\xa1\x02\xaa\xb2rd\x46ep=a%b";
        let json = r#"{"mode": "observe", "transport": "tcp"}"#;
        let (_, endpoint) = counts(json, &[(Direction::FromClient, octets)]);
        assert_eq!(endpoint.as_deref(), Some("a%25b"));
    }

    #[test]
    fn what_cannot_be_understood_is_counted_once_and_passes() {
        let json = r#"{"mode": "observe", "transport": "tcp"}"#;
        let garbage = (Direction::FromClient, &[0xff; 100][..]);
        let (seen, _) = counts(json, &[garbage, garbage]);
        let expected =
            "coap_decode_errors_total.direction=from_client.kind=reserved_token_length 1";
        assert_eq!(seen, [expected]);
    }
}
