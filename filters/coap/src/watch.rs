//! A connection in observe mode.

use std::collections::VecDeque;
use std::rc::Rc;

use bridge::Direction;
use bridge::text::encode;
use codec_coap::{Code, MessageType};
use tunnels::watch::Watcher;

use crate::Common;
use crate::config::Transport;
use crate::session::endpoint_name;
use crate::wire::{self, Incoming, Malformed, Next};

/// How many of a client's last message IDs are kept, to know retransmissions.
const LAST_IDS: usize = 16;
/// The largest message over TCP that is looked at. What the server and the client agree on is their
/// business, but not all memory.
const MAX_MESSAGE: u32 = 16 << 20;

/// Watches one connection: over UDP the tunnels of `udp_proxy` in one HTTP/2 connection, over TCP one
/// client's.
#[derive(Debug)]
pub struct Observer {
    common: Rc<Common>,
    /// For each session the message IDs of the client's last requests.
    watcher: Watcher<VecDeque<u16>>,
    /// The LwM2M endpoint name, until it was told.
    endpoint: Option<String>,
}

impl Observer {
    pub(crate) fn new(common: Rc<Common>) -> Self {
        let is_tunnelled = common.settings.transport != Transport::Tcp;
        let watcher = Watcher::new(is_tunnelled, common.settings.max_sessions as usize);
        Self { common, watcher, endpoint: None }
    }
}

/// Looks at the front of a session's octets: a message is counted, and the name of an endpoint kept.
fn look(
    common: &Common,
    direction: Direction,
    last_ids: &mut VecDeque<u16>,
    endpoint: &mut Option<String>,
    octets: &[u8],
) -> Result<Option<usize>, &'static str> {
    let (len, message) = match wire::next(common.settings.transport, octets, MAX_MESSAGE) {
        Next::Incomplete => return Ok(None),
        Next::Nothing(len) => return Ok(Some(len)),
        Next::Datagram { payload, len } => (len, wire::udp(payload)),
        Next::Frame(frame) => {
            let len = frame.len();
            let message = wire::tcp(octets.get(..len).unwrap_or_default());
            (len, message.map(|message| Incoming::of_tcp(message, len)))
        }
        Next::Malformed(Malformed::Capsule) => return Err("capsule_too_long"),
        Next::Malformed(Malformed::Frame(error)) => return Err(error.label()),
    };
    match message {
        Ok(message) => {
            note(common, direction, &message, last_ids);
            if let Some(name) = registered(direction, &message) {
                *endpoint = Some(encode(name));
            }
        }
        Err(error) => common.stats.decode_error(direction, error.label()),
    }
    Ok(Some(len))
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
        let Self { common, watcher, endpoint } = self;
        let seen = watcher.see(direction, octets, |last_ids, octets| {
            look(common, direction, last_ids, endpoint, octets)
        });
        seen.unwrap_or_else(|kind| {
            common.stats.decode_error(direction, kind);
            u64::MAX
        })
    }

    fn attributes(&mut self, set: &mut dyn FnMut(&str, &str)) {
        // Over UDP the connection is that of many clients.
        if let Some(name) =
            self.endpoint.take().filter(|_| self.common.settings.transport == Transport::Tcp)
        {
            set("coap.lwm2m_endpoint", &name);
        }
    }
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
