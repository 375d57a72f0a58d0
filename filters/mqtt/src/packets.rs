//! Packets in a stream of octets: validated whole, or just watched.

use codec_mqtt::{
    DecodeError, Decoded, Frame, MAX_PACKET_SIZE, Packet, PacketType, ReasonCode, Version, decode,
    decode_publish_header, frame,
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
}

impl Fault {
    /// A stable name for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Decode(error) => error.label(),
            Self::Unexpected => "unexpected_packet",
            Self::TooLargeToHold => "packet_too_large",
        }
    }

    /// What to tell the client (MQTT 5.0 §4.13).
    pub(crate) fn reason_code(self) -> ReasonCode {
        match self {
            Self::Decode(error) => error.reason_code(),
            Self::Unexpected => ReasonCode::PROTOCOL_ERROR,
            Self::TooLargeToHold => ReasonCode::PACKET_TOO_LARGE,
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
}

/// Validated packets at the front of a client's octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Their octets. More than were there if the payload of the last one, a PUBLISH, has not
    /// arrived completely; it needs no validation.
    pub(crate) octets: u64,
    pub(crate) then: Then,
}

/// Validates packets of a client, calling `count` for each.
pub(crate) fn validate(
    octets: &[u8],
    version: Version,
    bounds: Bounds,
    mut count: impl FnMut(Frame),
) -> Run {
    let mut run = Run { octets: 0, then: Then::More };
    let mut rest = octets;
    while !rest.is_empty() && run.then == Then::More {
        let packet = match next(rest, version, bounds) {
            Ok(Some(packet)) => packet,
            Ok(None) => return run,
            Err(fault) => {
                run.then = Then::Fault(fault);
                return run;
            }
        };
        count(packet.frame);
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

fn next(octets: &[u8], version: Version, bounds: Bounds) -> Result<Option<Validated>, Fault> {
    let frame = match frame(octets, bounds.max_packet_size)? {
        Decoded::Complete { packet, .. } => packet,
        Decoded::Incomplete { .. } => return Ok(None),
    };
    match frame.packet_type {
        PacketType::PUBLISH => {
            return match decode_publish_header(octets, version)? {
                Decoded::Complete { .. } => Ok(Some(Validated { frame, then: Then::More })),
                Decoded::Incomplete { .. } if octets.len() > bounds.max_buffered_size => {
                    Err(Fault::TooLargeToHold)
                }
                Decoded::Incomplete { .. } => Ok(None),
            };
        }
        PacketType::CONNECT
        | PacketType::CONNACK
        | PacketType::SUBACK
        | PacketType::UNSUBACK
        | PacketType::PINGRESP => return Err(Fault::Unexpected),
        _ if frame.len() > bounds.max_buffered_size => return Err(Fault::TooLargeToHold),
        _ => {}
    }
    match decode(octets, version)? {
        Decoded::Complete { packet: Packet::Disconnect(disconnect), .. } => {
            Ok(Some(Validated { frame, then: Then::Disconnect(disconnect.reason_code) }))
        }
        Decoded::Complete { .. } => Ok(Some(Validated { frame, then: Then::More })),
        Decoded::Incomplete { .. } => Ok(None),
    }
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

    /// Whether no packet has begun whose first octets are incomplete.
    pub(crate) fn is_between_packets(&self) -> bool {
        self.begun.is_empty()
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
