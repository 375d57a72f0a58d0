//! The broker's octets on their way to the client, and the filter's own packets between them.

use std::collections::VecDeque;

use bridge::{Bytes, Link};
use codec_mqtt::{
    DecodeError, Decoded, Frame, MAX_PACKET_SIZE, Version, decode_publish_header, frame,
};

/// How much of a broker's packet must be there before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing beyond the fixed header: the packet passes as it is.
    Header,
    /// All of it.
    Whole,
    /// All but the payload of this PUBLISH.
    PublishHeader,
}

/// The next thing on the way to the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Octets that go to the client as they are.
    Pass(Bytes),
    /// What was needed of a packet. The rest of it, if any, follows with [`Step::Pass`] unless it
    /// is skipped.
    Packet(Frame, Bytes),
    /// Octets that are not MQTT; nothing after them is looked at.
    Error(DecodeError),
}

/// Takes the broker's octets apart.
#[derive(Debug, Default)]
pub(crate) struct ToClient {
    octets: Bytes,
    /// What came behind them. While a verdict is awaited that can be much.
    later: VecDeque<Bytes>,
    /// Octets of the packet in front that are still to come or to be taken.
    rest: u64,
    /// They do not go to the client.
    skipping: bool,
    /// Nothing of the packet last returned has gone to the client.
    undecided: bool,
    /// Packets of the filter that wait for the end of the packet under way.
    waiting: Vec<u8>,
    broken: bool,
}

impl ToClient {
    /// More octets arrived.
    pub(crate) fn push(&mut self, more: Bytes) {
        self.later.push_back(more);
    }

    /// Whether the client has whole packets only, so that another one can follow.
    fn is_between_packets(&self) -> bool {
        self.rest == 0 || self.skipping || self.undecided
    }

    /// The rest of the packet last returned goes to the client, after what was returned of it.
    pub(crate) fn pass_rest(&mut self) {
        self.undecided = false;
    }

    /// Keeps the rest of the packet last returned from the client.
    pub(crate) fn skip_rest(&mut self) {
        self.undecided = false;
        self.skipping = self.rest > 0;
    }

    /// Sends a packet of the filter's to the client, at once or after the broker's packet that is
    /// under way.
    pub(crate) fn reply(&mut self, link: &mut Link, packet: Vec<u8>) {
        if self.is_between_packets() && self.waiting.is_empty() {
            link.reply(packet.into());
        } else {
            self.waiting.extend_from_slice(&packet);
        }
    }

    /// How many octets wait for the end of a packet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sends what waited for the end of a packet, if it has come.
    pub(crate) fn flush(&mut self, link: &mut Link) {
        if !self.waiting.is_empty() && self.is_between_packets() {
            link.reply(std::mem::take(&mut self.waiting).into());
        }
    }

    /// The next step; none before more octets arrive, or before [`flush`](Self::flush). `need` is
    /// asked for each packet whose fixed header is complete, again while not all is there that it
    /// needs; `most` octets are held for that.
    pub(crate) fn next(
        &mut self,
        version: Version,
        most: usize,
        mut need: impl FnMut(&Frame) -> Need,
    ) -> Option<Step> {
        loop {
            let step = self.step(version, most, &mut need);
            if step.is_some() || self.broken {
                return step;
            }
            let more = self.later.pop_front()?;
            self.octets = if self.octets.is_empty() {
                more
            } else {
                // The beginning of a packet that is not complete.
                [&self.octets[..], &more[..]].concat().into()
            };
        }
    }

    /// The next step in what is at hand.
    fn step(
        &mut self,
        version: Version,
        most: usize,
        need: &mut impl FnMut(&Frame) -> Need,
    ) -> Option<Step> {
        let mut passed = 0;
        let step = loop {
            let ahead = self.octets.get(passed..).unwrap_or_default();
            if self.broken || ahead.is_empty() {
                break None;
            }
            if self.rest > 0 {
                let here = usize::try_from(self.rest).unwrap_or(usize::MAX).min(ahead.len());
                if self.skipping {
                    // Only the packet last returned is skipped, so nothing has passed before it.
                    let _ = self.octets.split_to(here);
                } else {
                    passed += here;
                }
                self.rest -= here as u64;
                if self.rest == 0 && !std::mem::take(&mut self.skipping) && !self.waiting.is_empty()
                {
                    break None;
                }
                continue;
            }
            let (frame, needed) = match measure(ahead, version, most, need) {
                Ok(Some((frame, 0))) => {
                    self.rest = frame.len() as u64;
                    continue;
                }
                Ok(Some(of_packet)) => of_packet,
                Ok(None) => break None,
                Err(error) if passed == 0 => {
                    self.broken = true;
                    break Some(Step::Error(error));
                }
                Err(_) => break None,
            };
            // What comes before it goes first.
            if passed > 0 {
                break None;
            }
            self.rest = (frame.len() - needed) as u64;
            self.undecided = true;
            break Some(Step::Packet(frame, self.octets.split_to(needed)));
        };
        if passed > 0 { Some(Step::Pass(self.octets.split_to(passed))) } else { step }
    }
}

/// The packet in front and how many of its octets are needed, if they are there.
fn measure(
    octets: &[u8],
    version: Version,
    most: usize,
    need: &mut impl FnMut(&Frame) -> Need,
) -> Result<Option<(Frame, usize)>, DecodeError> {
    let Decoded::Complete { packet: frame, .. } = frame(octets, MAX_PACKET_SIZE)? else {
        return Ok(None);
    };
    let needed = match need(&frame) {
        Need::Header => 0,
        Need::Whole => frame.len(),
        Need::PublishHeader => match decode_publish_header(octets, version)? {
            Decoded::Complete { consumed, .. } => consumed,
            Decoded::Incomplete { needed } => needed,
        },
    };
    if needed > most {
        let size = u32::try_from(needed).unwrap_or(u32::MAX);
        let limit = u32::try_from(most).unwrap_or(u32::MAX);
        return Err(DecodeError::PacketTooLarge { size, limit });
    }
    Ok((needed <= octets.len()).then_some((frame, needed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PUBLISH to `t`, SUBACK, PUBLISH to `u`, PINGRESP.
    const STREAM: &[u8] = b"\x30\x05\0\x01txy\x90\x03\0\x07\x00\x30\x04\0\x01uz\xd0\0";

    fn steps(piece: usize, skip: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut to_client = ToClient::default();
        let (mut passed, mut packets) = (Vec::new(), Vec::new());
        for octets in STREAM.chunks(piece) {
            to_client.push(Bytes::copy_from_slice(octets));
            while let Some(step) =
                to_client.next(Version::V311, 100, |frame| match frame.packet_type.0 {
                    3 => Need::PublishHeader,
                    9 => Need::Whole,
                    _ => Need::Header,
                })
            {
                match step {
                    Step::Pass(octets) => passed.extend_from_slice(&octets),
                    Step::Packet(_, octets) => {
                        if octets.ends_with(skip.as_bytes()) {
                            to_client.skip_rest();
                        } else {
                            to_client.pass_rest();
                        }
                        packets.push(octets.to_vec());
                    }
                    Step::Error(error) => panic!("{error}"),
                }
            }
        }
        assert_eq!(to_client.octets.len(), 0);
        (passed, packets)
    }

    #[test]
    fn packets_are_the_same_in_any_pieces() {
        for piece in 1..=STREAM.len() {
            let (passed, packets) = steps(piece, "-");
            assert_eq!(passed, b"xyz\xd0\0", "in pieces of {piece}");
            let expected: [&[u8]; 3] =
                [b"\x30\x05\0\x01t", b"\x90\x03\0\x07\x00", b"\x30\x04\0\x01u"];
            assert_eq!(packets, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_skipped_payload_does_not_reach_the_client() {
        for piece in 1..=STREAM.len() {
            assert_eq!(steps(piece, "t").0, b"z\xd0\0", "in pieces of {piece}");
            assert_eq!(steps(piece, "u").0, b"xy\xd0\0", "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut to_client = ToClient::default();
        to_client.push(Bytes::from_static(b"\x90\x7f"));
        let step = to_client.next(Version::V311, 100, |_| Need::Whole);
        let error = DecodeError::PacketTooLarge { size: 129, limit: 100 };
        assert_eq!(step, Some(Step::Error(error)));
        assert_eq!(to_client.next(Version::V311, 100, |_| Need::Whole), None);
    }
}
