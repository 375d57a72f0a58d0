//! Packets in a stream of octets: validated whole, or just watched.

use std::time::Duration;

use codec_mqtt::{
    DecodeError, Decoded, Frame, MAX_PACKET_SIZE, Packet, PacketType, PublishHeader, ReasonCode,
    Version, decode, decode_publish_header, frame,
};

/// What is wrong with a client's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is malformed, or a protocol error on its own.
    Decode(DecodeError),
    /// A client must not send it, or not now.
    Unexpected,
    /// It would have to be held until it is complete, and is larger than may be held.
    TooLargeToHold,
    /// It breaks a rule of this connection: what to tell the client, and a stable name for metrics.
    Broken(ReasonCode, &'static str),
}

impl Fault {
    /// A stable name for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Decode(error) => error.label(),
            Self::Unexpected => "unexpected_packet",
            Self::TooLargeToHold => "packet_too_large",
            Self::Broken(_, label) => label,
        }
    }

    /// What it makes the connection end for, in metrics.
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Self::Decode(_) | Self::Unexpected | Self::TooLargeToHold => "decode_error",
            Self::Broken(..) => "policy",
        }
    }

    /// What to tell the client (MQTT 5.0 §4.13).
    pub(crate) fn reason_code(self) -> ReasonCode {
        match self {
            Self::Decode(error) => error.reason_code(),
            Self::Unexpected => ReasonCode::PROTOCOL_ERROR,
            Self::TooLargeToHold => ReasonCode::PACKET_TOO_LARGE,
            Self::Broken(reason_code, _) => reason_code,
        }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

/// Limits on what a client sends after CONNECT.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) max_packet_size: u32,
    pub(crate) max_buffered_size: usize,
}

/// What follows the packets of a [`Run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing yet, or an incomplete packet.
    More,
    /// Nothing: the last packet is a DISCONNECT with this reason code.
    Disconnect(ReasonCode),
    /// Something that must not be passed on.
    Fault(Fault),
    /// A packet that is not simply passed on.
    Packet,
    /// A packet that may pass later, not before this time.
    Wait(Duration),
}

/// A validated packet.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    /// A PUBLISH, of whose payload not all may be there.
    Publish(&'a PublishHeader<'a>),
    Other(&'a Packet<'a>),
}

/// Validated packets at the front of a client's octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Their octets. More than were there if the payload of the last one, a PUBLISH, has not
    /// arrived completely; it needs no validation.
    pub(crate) octets: u64,
    pub(crate) then: Then,
}

/// Validates packets of a client. `judge` is called for each and says what follows the run if the
/// packet does not belong to it: anything but [`Then::More`] ends it before that packet.
pub(crate) fn validate(
    octets: &[u8],
    version: Version,
    bounds: Bounds,
    mut judge: impl FnMut(Frame, Item<'_>) -> Then,
) -> Run {
    let mut run = Run { octets: 0, then: Then::More };
    let mut rest = octets;
    while !rest.is_empty() && run.then == Then::More {
        let packet = match next(rest, version, bounds, &mut judge) {
            Ok(Some(packet)) => packet,
            Ok(None) => return run,
            Err(then) => {
                run.then = then;
                return run;
            }
        };
        run.octets += packet.frame.len() as u64;
        run.then = packet.then;
        rest = rest.get(packet.frame.len()..).unwrap_or_default();
    }
    run
}

struct Validated {
    frame: Frame,
    then: Then,
}

impl From<DecodeError> for Then {
    fn from(error: DecodeError) -> Self {
        Self::Fault(error.into())
    }
}

fn next(
    octets: &[u8],
    version: Version,
    bounds: Bounds,
    judge: &mut impl FnMut(Frame, Item<'_>) -> Then,
) -> Result<Option<Validated>, Then> {
    let frame = match frame(octets, bounds.max_packet_size)? {
        Decoded::Complete { packet, .. } => packet,
        Decoded::Incomplete { .. } => return Ok(None),
    };
    let mut judged = |item: Item<'_>, then: Then| match judge(frame, item) {
        Then::More => Ok(Some(Validated { frame, then })),
        other => Err(other),
    };
    match frame.packet_type {
        PacketType::PUBLISH => {
            return match decode_publish_header(octets, version)? {
                Decoded::Complete { packet, .. } => judged(Item::Publish(&packet), Then::More),
                Decoded::Incomplete { .. } if octets.len() > bounds.max_buffered_size => {
                    Err(Then::Fault(Fault::TooLargeToHold))
                }
                Decoded::Incomplete { .. } => Ok(None),
            };
        }
        PacketType::CONNECT
        | PacketType::CONNACK
        | PacketType::SUBACK
        | PacketType::UNSUBACK
        | PacketType::PINGRESP => return Err(Then::Fault(Fault::Unexpected)),
        _ if frame.len() > bounds.max_buffered_size => {
            return Err(Then::Fault(Fault::TooLargeToHold));
        }
        _ => {}
    }
    match decode(octets, version)? {
        Decoded::Complete { packet, .. } => {
            let then = match &packet {
                Packet::Disconnect(disconnect) => Then::Disconnect(disconnect.reason_code),
                _ => Then::More,
            };
            judged(Item::Other(&packet), then)
        }
        Decoded::Incomplete { .. } => Ok(None),
    }
}

/// A packet's octets; none if the version cannot express it.
pub(crate) fn encoded(packet: &Packet<'_>, version: Version) -> Option<Vec<u8>> {
    let mut octets = vec![0; packet.encoded_len(version).ok()?];
    packet.encode(version, &mut octets).ok()?;
    Some(octets)
}

/// What a [`Watcher`] saw.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen<'a> {
    /// A packet of any type.
    Packet(Frame),
    /// A CONNACK's code, after its packet. Its meaning depends on the version.
    ConnAck(u8),
    /// A DISCONNECT's reason code, after its packet.
    Disconnect(ReasonCode),
    /// A complete CONNECT packet, after it was seen as a packet.
    Connect(&'a [u8]),
    /// Octets that are not MQTT; nothing after them is watched.
    Error(DecodeError),
}

/// Follows the packets of a stream without holding or validating them.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    /// The beginning of a packet whose first octets came in pieces.
    begun: Vec<u8>,
    /// How many octets of the packet must be there to go on.
    needed: usize,
    /// CONNECT packets up to this size are shown.
    show_connect: usize,
    broken: bool,
}

/// How much of a CONNACK and a DISCONNECT must be there, after the fixed header, to see the code.
const CONNACK_CODE_END: usize = 2;
const DISCONNECT_CODE_END: usize = 1;

impl Watcher {
    /// A watcher that shows CONNECT packets of up to so many octets.
    pub(crate) fn showing_connect(size: usize) -> Self {
        Self { show_connect: size, ..Self::default() }
    }

    /// Looks at the next octets. Returns how many after them belong to the same packet and need
    /// not be shown.
    pub(crate) fn see(&mut self, mut octets: &[u8], mut report: impl FnMut(Seen<'_>)) -> u64 {
        while !self.broken && !octets.is_empty() {
            if !self.begun.is_empty() {
                let missing = self.needed.saturating_sub(self.begun.len()).max(1);
                let (more, rest) = octets.split_at(missing.min(octets.len()));
                self.begun.extend_from_slice(more);
                octets = rest;
            }
            let (at_hand, in_pieces) =
                if self.begun.is_empty() { (octets, false) } else { (&*self.begun, true) };
            match look(at_hand, self.show_connect, &mut report) {
                Ok(Look::Whole(frame)) => {
                    let shown = if in_pieces { at_hand.len() } else { 0 };
                    let left = frame.len() - shown.min(frame.len());
                    let passed = left.min(octets.len());
                    octets = octets.get(passed..).unwrap_or_default();
                    self.begun = Vec::new();
                    if octets.is_empty() {
                        return (left - passed) as u64;
                    }
                }
                Ok(Look::Needs(needed)) => {
                    self.needed = needed;
                    if !in_pieces {
                        self.begun.extend_from_slice(octets);
                        return 0;
                    }
                }
                Err(error) => {
                    self.broken = true;
                    self.begun = Vec::new();
                    report(Seen::Error(error));
                }
            }
        }
        if self.broken { u64::MAX } else { 0 }
    }
}

enum Look {
    /// All that matters of the packet was there.
    Whole(Frame),
    /// So many of its octets must be.
    Needs(usize),
}

fn look(
    octets: &[u8],
    show_connect: usize,
    report: &mut impl FnMut(Seen<'_>),
) -> Result<Look, DecodeError> {
    let frame = match frame(octets, MAX_PACKET_SIZE)? {
        Decoded::Complete { packet, .. } => packet,
        Decoded::Incomplete { needed } => return Ok(Look::Needs(needed)),
    };
    let needed = match frame.packet_type {
        PacketType::CONNECT if frame.len() <= show_connect => frame.len(),
        PacketType::CONNACK => frame.len().min(frame.header_len + CONNACK_CODE_END),
        PacketType::DISCONNECT => frame.len().min(frame.header_len + DISCONNECT_CODE_END),
        _ => frame.header_len,
    };
    let Some(shown) = octets.get(..needed) else { return Ok(Look::Needs(needed)) };
    report(Seen::Packet(frame));
    let last = shown.last().copied().unwrap_or_default();
    match frame.packet_type {
        PacketType::CONNECT if frame.len() <= show_connect => report(Seen::Connect(shown)),
        PacketType::CONNACK => report(Seen::ConnAck(last)),
        PacketType::DISCONNECT if frame.remaining_len > 0 => {
            report(Seen::Disconnect(ReasonCode(last)));
        }
        PacketType::DISCONNECT => report(Seen::Disconnect(ReasonCode::NORMAL_DISCONNECTION)),
        _ => {}
    }
    Ok(Look::Whole(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { max_packet_size: 1000, max_buffered_size: 100 };

    fn run(octets: &[u8]) -> (u64, Then, usize) {
        let mut packets = 0;
        let run = validate(octets, Version::V311, BOUNDS, |_, _| {
            packets += 1;
            Then::More
        });
        (run.octets, run.then, packets)
    }

    /// PUBLISH, QoS 0, topic `t`, with so many octets of payload.
    fn publish(payload: u8) -> Vec<u8> {
        let mut octets = vec![0x30, 3 + payload, 0, 1, b't'];
        octets.resize(5 + usize::from(payload), b'x');
        octets
    }

    #[test]
    fn whole_packets_form_one_run() {
        let octets = [publish(3), vec![0xC0, 0], publish(0)].concat();
        assert_eq!(run(&octets), (octets.len() as u64, Then::More, 3));
        assert_eq!(run(b""), (0, Then::More, 0));
    }

    #[test]
    fn a_publish_counts_whole_once_its_header_is_there() {
        let octets = publish(90);
        assert_eq!(run(&octets[..4]), (0, Then::More, 0));
        assert_eq!(run(&octets[..5]), (95, Then::More, 1));
    }

    #[test]
    fn a_packet_that_is_not_simply_passed_on_ends_the_run_before_it() {
        let octets = [publish(3), vec![0xC0, 0], publish(0)].concat();
        let judge = |frame: Frame, _: Item<'_>| match frame.packet_type {
            PacketType::PINGREQ => Then::Packet,
            _ => Then::More,
        };
        let run = validate(&octets, Version::V311, BOUNDS, judge);
        assert_eq!((run.octets, run.then), (8, Then::Packet));
    }

    #[test]
    fn nothing_after_a_fault_or_a_disconnect_belongs_to_the_run() {
        let bad = [publish(1), vec![0xC1, 0], publish(1)].concat();
        let (octets, then, packets) = run(&bad);
        assert_eq!((octets, packets), (6, 1));
        assert!(matches!(then, Then::Fault(Fault::Decode(DecodeError::ReservedFlags { .. }))));

        let bye = [publish(1), vec![0xE0, 0], publish(1)].concat();
        let disconnect = Then::Disconnect(ReasonCode::NORMAL_DISCONNECTION);
        assert_eq!(run(&bye), (8, disconnect, 2));
    }

    #[test]
    fn what_only_a_server_sends_is_unexpected_and_so_is_a_second_connect() {
        for first in [0x10, 0x20, 0x90, 0xB0, 0xD0] {
            assert_eq!(run(&[first, 0]), (0, Then::Fault(Fault::Unexpected), 0), "{first:#x}");
        }
    }

    #[test]
    fn what_would_have_to_be_held_is_bounded_before_it_arrives() {
        // SUBSCRIBE with a remaining length of 200.
        assert_eq!(run(&[0x82, 0xC8, 1]).1, Then::Fault(Fault::TooLargeToHold));
        // PUBLISH whose topic alone is longer than what may be held.
        let mut octets = vec![0x30, 0xAC, 2, 0, 200];
        octets.resize(90, b't');
        assert_eq!(run(&octets).1, Then::More);
        octets.resize(101, b't');
        assert_eq!(run(&octets).1, Then::Fault(Fault::TooLargeToHold));
        // Any packet above the maximum, by its length alone.
        assert!(matches!(
            run(&[0x30, 0xFF, 0x7F]).1,
            Then::Fault(Fault::Decode(DecodeError::PacketTooLarge { .. }))
        ));
    }

    #[test]
    fn a_watcher_sees_the_same_in_any_pieces() {
        let stream = [
            vec![0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0],
            vec![0x20, 2, 0, 5],
            publish(100),
            vec![0xE0, 2, 0x8E, 0],
            vec![0xE0, 0],
            vec![0x00, 0],
        ]
        .concat();
        let watch = |piece: usize| {
            let mut watcher = Watcher::showing_connect(100);
            let mut seen = Vec::new();
            let mut skip = 0_u64;
            for octets in stream.chunks(piece) {
                let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(octets.len());
                skip -= skipped as u64;
                if skipped < octets.len() {
                    skip = watcher.see(&octets[skipped..], |s| seen.push(format!("{s:?}")));
                }
            }
            seen
        };
        let whole = watch(stream.len());
        assert_eq!(whole.len(), 10, "{whole:#?}");
        for piece in 1..stream.len() {
            assert_eq!(watch(piece), whole, "in pieces of {piece}");
        }
    }
}
