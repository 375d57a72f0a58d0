//! A connection in observe mode.

use std::rc::Rc;

use bridge::Direction;
use codec_dns::{Decoded, Flags, decode, frame_tcp};
use tunnels::datagram::{self, Next};
use tunnels::watch::Watcher;

use crate::Common;
use crate::config::Transport;

/// Watches one connection: over UDP the tunnels of `udp_proxy` in one HTTP/2 connection, over TCP one client's.
#[derive(Debug)]
pub struct Observer {
    common: Rc<Common>,
    watcher: Watcher<()>,
}

impl Observer {
    pub(crate) fn new(common: Rc<Common>) -> Self {
        let is_tunnelled = common.settings.transport == Transport::Udp;
        let watcher = Watcher::new(is_tunnelled, common.settings.max_sessions as usize);
        Self { common, watcher }
    }
}

/// Looks at the front of a session's octets: a message is counted.
fn look(
    common: &Common,
    direction: Direction,
    octets: &[u8],
) -> Result<Option<usize>, &'static str> {
    let (from, len) = match common.settings.transport {
        Transport::Udp => match datagram::next(octets) {
            Next::Incomplete => return Ok(None),
            Next::Nothing(len) => return Ok(Some(len)),
            Next::Datagram { from, len } => (from, len),
            Next::Malformed => return Err("capsule_too_long"),
        },
        _ => match frame_tcp(octets, u16::MAX) {
            Ok(Decoded::Complete { message, consumed }) => (consumed - message.len(), consumed),
            Ok(Decoded::Incomplete { .. }) => return Ok(None),
            Err(error) => return Err(error.label()),
        },
    };
    if from < len {
        note(common, direction, octets.get(from..len).unwrap_or_default());
    }
    Ok(Some(len))
}

/// Counts a message.
fn note(common: &Common, direction: Direction, octets: &[u8]) {
    let stats = &common.stats;
    match decode(octets) {
        Ok(message) if message.header.flags.is_response() => {
            if message.header.flags.has(Flags::TC) {
                stats.truncated.increment();
            }
            stats.answer(message.rcode(), octets.len());
        }
        Ok(message) => {
            if let Some(question) = message.question() {
                let zone = common.settings.zones.find(question.name);
                stats.query(zone, question.record_type, octets.len());
            }
        }
        Err(error) => stats.decode_error(direction, error.label()),
    }
}

impl bridge::Observer for Observer {
    fn see(&mut self, direction: Direction, octets: &[u8]) -> u64 {
        let Self { common, watcher } = self;
        let seen = watcher.see(direction, octets, |(), octets| look(common, direction, octets));
        seen.unwrap_or_else(|kind| {
            common.stats.decode_error(direction, kind);
            u64::MAX
        })
    }
}
