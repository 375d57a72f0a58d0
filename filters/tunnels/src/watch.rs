//! Messages seen from outside: those of one client's connection, or those in the tunnels of a connection of
//! `udp_proxy`, which is HTTP/2 between two others.

use bridge::{Bytes, Direction, Input};
use hashbrown::HashMap;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// The octets of a frame's header (RFC 9113 §4.1).
const FRAME_HEADER: usize = 9;
/// The largest frame: Envoy takes no larger ones.
const MAX_FRAME: usize = 1 << 14;

/// Watches one connection, and keeps an `S` for each session in it.
#[derive(Debug)]
pub struct Watcher<S> {
    is_tunnelled: bool,
    max_sessions: usize,
    from_client: Way,
    to_client: Way,
    /// By HTTP/2 stream; without tunnels there is one, with number 0.
    sessions: HashMap<u32, Session<S>>,
}

/// Octets in one direction.
#[derive(Debug, Default)]
struct Way {
    frames: Frames,
    /// Nothing that follows can be understood.
    lost: bool,
}

#[derive(Debug, Default)]
struct Session<S> {
    /// The beginnings of messages.
    from_client: Input,
    to_client: Input,
    state: S,
}

impl<S: Default> Watcher<S> {
    /// A connection with tunnels, of which so many are looked into at once, or one without.
    #[must_use]
    pub fn new(is_tunnelled: bool, max_sessions: usize) -> Self {
        let from_client = Way { frames: Frames::of_client(), lost: false };
        let sessions = HashMap::new();
        Self { is_tunnelled, max_sessions, from_client, to_client: Way::default(), sessions }
    }

    /// Octets pass by. `look` is shown the front of a session's octets and says how many of them it has
    /// understood, or that it needs more. Returns how many octets after these need not be seen.
    ///
    /// # Errors
    /// Nothing that follows in this direction can be understood; a label says why. Said once.
    pub fn see(
        &mut self,
        direction: Direction,
        octets: &[u8],
        mut look: impl FnMut(&mut S, &[u8]) -> Result<Option<usize>, &'static str>,
    ) -> Result<u64, &'static str> {
        let way = match direction {
            Direction::FromClient => &mut self.from_client,
            Direction::ToClient => &mut self.to_client,
        };
        if way.lost {
            return Ok(u64::MAX);
        }
        let (sessions, most) = (&mut self.sessions, self.max_sessions);
        let mut note = |seen| {
            let (stream, octets) = match seen {
                Seen::Data(stream, octets) => (stream, octets),
                Seen::Ended(stream) => {
                    sessions.remove(&stream);
                    return Ok(());
                }
            };
            if sessions.len() >= most && !sessions.contains_key(&stream) {
                return Ok(());
            }
            let Session { from_client, to_client, state } = sessions.entry(stream).or_default();
            let input = match direction {
                Direction::FromClient => from_client,
                Direction::ToClient => to_client,
            };
            input.push(octets);
            while let Some(len) = look(state, input.as_slice())? {
                input.skip(len);
            }
            Ok(())
        };
        let octets = Bytes::copy_from_slice(octets);
        let understood = if self.is_tunnelled {
            way.frames.read(octets, note)
        } else {
            note(Seen::Data(0, octets))
        };
        if understood.is_err() {
            way.lost = true;
            self.sessions.clear();
        }
        understood.map(|()| 0)
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Frames {
    /// What was not understood yet.
    input: Input,
    /// The connection preface is still to pass.
    preface: bool,
}

/// What passed by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// Content of the stream with this number.
    Data(u32, Bytes),
    /// One side of the stream with this number has ended, and so the tunnel.
    Ended(u32),
}

impl Frames {
    /// What the client sends.
    fn of_client() -> Self {
        Self { input: Input::default(), preface: true }
    }

    /// Reads the frames that are there (RFC 9113 §4.1, §6.1).
    ///
    /// # Errors
    /// What follows cannot be understood; a label says why.
    fn read(
        &mut self,
        octets: Bytes,
        mut see: impl FnMut(Seen) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        const DATA: u8 = 0;
        const RST_STREAM: u8 = 3;
        const END_STREAM: u8 = 1;
        const PADDED: u8 = 8;
        let input = &mut self.input;
        input.push(octets);
        if self.preface {
            if input.len() < PREFACE {
                return Ok(());
            }
            self.preface = false;
            input.skip(PREFACE);
        }
        loop {
            let Some(&[a, b, c, frame_type, flags, d, e, f, g]) = input.as_slice().first_chunk()
            else {
                return Ok(());
            };
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if len > MAX_FRAME {
                return Err("frame_too_long");
            }
            if input.len() < FRAME_HEADER + len {
                return Ok(());
            }
            input.skip(FRAME_HEADER);
            let mut payload = input.take(len);
            let stream = u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff;
            if frame_type == DATA {
                if flags & PADDED != 0 && !payload.is_empty() {
                    let padding = usize::from(payload.split_to(1).first().copied().unwrap_or(0));
                    payload.truncate(payload.len().saturating_sub(padding));
                }
                see(Seen::Data(stream, payload))?;
            }
            if frame_type == RST_STREAM || frame_type == DATA && flags & END_STREAM != 0 {
                see(Seen::Ended(stream))?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(frame_type: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(payload.len()).expect("short");
        [&[0, 0, len, frame_type, flags, 0, 0, 0, stream][..], payload].concat()
    }

    fn read(mut frames: Frames, octets: &[u8], piece: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        for octets in octets.chunks(piece) {
            let all = frames.read(Bytes::copy_from_slice(octets), |event| {
                seen.push(event);
                Ok(())
            });
            assert_eq!(all, Ok(()));
        }
        seen
    }

    #[test]
    fn content_is_seen_however_it_is_split() {
        let octets = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[]),
            frame(1, 4, 1, b"headers"),
            frame(0, 8, 1, b"\x02abpp"),
            frame(3, 0, 3, &[0; 4]),
            frame(0, 1, 1, b""),
        ]
        .concat();
        let data = |octets: &'static [u8]| Seen::Data(1, Bytes::from_static(octets));
        let expected = [data(b"ab"), Seen::Ended(3), data(b""), Seen::Ended(1)];
        for piece in [1, 7, octets.len()] {
            assert_eq!(read(Frames::of_client(), &octets, piece), expected);
        }
        assert_eq!(read(Frames::default(), &frame(0, 0, 1, b"x"), 99), [data(b"x")]);
    }

    #[test]
    fn a_frame_that_no_peer_takes_ends_it() {
        let long = Bytes::from_static(b"\x00\x40\x01\x00\x00\x00\x00\x00\x01");
        assert_eq!(Frames::default().read(long, |_| Ok(())), Err("frame_too_long"));
    }
}
