//! Frames (RFC 6455 §5): the client's, whose payload streams, and ours.

use std::io::Cursor;

use bridge::{Bytes, Input};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// The longest payload of a control frame, in octets (RFC 6455 §5.5).
const MAX_CONTROL_PAYLOAD: u64 = 125;

/// What a client did that ends its WebSocket connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What is not a frame, a frame that is not masked, or one where it must not be (RFC 6455 §5).
    Protocol,
    /// A text message, of which the carried protocol has none.
    Text,
    /// A Close frame whose reason is not UTF-8 (RFC 6455 §8.1).
    NotUtf8,
    /// More Ping frames than are answered.
    TooManyPings,
}

impl Fault {
    /// The status code that tells the client (RFC 6455 §7.4.1).
    pub(crate) fn code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::Protocol,
            Self::Text => CloseCode::Unsupported,
            Self::NotUtf8 => CloseCode::Invalid,
            Self::TooManyPings => CloseCode::Policy,
        }
    }

    /// Its name in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Protocol => "protocol_error",
            Self::Text => "text_message",
            Self::NotUtf8 => "not_utf8",
            Self::TooManyPings => "too_many_pings",
        }
    }
}

/// Why reading frames stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// All of the input was read, but for the beginning of a header or a control frame: at most
    /// 131 octets.
    All,
    /// There is more, and no room for its payload.
    Full,
    /// A Ping frame, with what its Pong is to carry.
    Ping(Vec<u8>),
    /// A Close frame, with its status code if it has one. Nothing is to be read after it.
    Close(Option<u16>),
}

/// Reads the client's frames. It holds nothing of them: the payload of data frames goes on as it
/// comes, so frames and messages may have any length.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The last data frame was not its message's final one.
    fragmented: bool,
    /// The data frame whose payload comes next: its masking key, rotated to the next octet, and
    /// the octets to come.
    data: Option<([u8; 4], u64)>,
}

impl Reader {
    /// Reads on until there is something to say. The payload of data frames is appended to
    /// `payload`, as long as that has room up to `limit` octets.
    pub(crate) fn read(
        &mut self,
        input: &mut Input,
        payload: &mut Vec<u8>,
        limit: usize,
    ) -> Result<Read, Fault> {
        loop {
            if let Some((mut mask, left)) = self.data.take() {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let n = here.min(limit.saturating_sub(payload.len()));
                append_unmasked(payload, input.as_slice().get(..n).unwrap_or_default(), mask);
                input.skip(n);
                if n as u64 != left {
                    mask.rotate_left(n % 4);
                    self.data = Some((mask, left - n as u64));
                    return Ok(if n < here { Read::Full } else { Read::All });
                }
            }
            if let Some(read) = self.header(input)? {
                return Ok(read);
            }
        }
    }

    /// Reads a data frame's header, or a control frame.
    fn header(&mut self, input: &mut Input) -> Result<Option<Read>, Fault> {
        let mut cursor = Cursor::new(input.as_slice());
        let Some((header, len)) = FrameHeader::parse(&mut cursor).map_err(|_| Fault::Protocol)?
        else {
            return Ok(Some(Read::All));
        };
        let header_len = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        // No extension gives the reserved bits a meaning; the length is written in the shortest
        // way and has no more than 63 bits (RFC 6455 §5.2).
        let reserved = header.rsv1 || header.rsv2 || header.rsv3;
        if reserved || header.len(len) != header_len || len > u64::MAX >> 1 {
            return Err(Fault::Protocol);
        }
        // A client's frames are masked (RFC 6455 §5.1).
        let mask = header.mask.ok_or(Fault::Protocol)?;
        match header.opcode {
            OpCode::Data(data) => {
                match data {
                    Data::Text => return Err(Fault::Text),
                    Data::Binary if !self.fragmented => {}
                    Data::Continue if self.fragmented => {}
                    _ => return Err(Fault::Protocol),
                }
                self.fragmented = !header.is_final;
                self.data = Some((mask, len));
                input.skip(header_len);
                Ok(None)
            }
            OpCode::Control(_) if !header.is_final || len > MAX_CONTROL_PAYLOAD => {
                Err(Fault::Protocol)
            }
            OpCode::Control(control) => {
                let end = usize::try_from(len).unwrap_or(usize::MAX).saturating_add(header_len);
                let Some(masked) = input.as_slice().get(header_len..end) else {
                    return Ok(Some(Read::All));
                };
                let mut payload = Vec::with_capacity(masked.len());
                append_unmasked(&mut payload, masked, mask);
                input.skip(end);
                match control {
                    Control::Ping => Ok(Some(Read::Ping(payload))),
                    // An unsolicited one is allowed, and we solicit none (RFC 6455 §5.5.3).
                    Control::Pong => Ok(None),
                    Control::Close => close_code(&payload).map(|code| Some(Read::Close(code))),
                    Control::Reserved(_) => Err(Fault::Protocol),
                }
            }
        }
    }
}

/// Appends what a client masked (RFC 6455 §5.3).
fn append_unmasked(to: &mut Vec<u8>, masked: &[u8], [a, b, c, d]: [u8; 4]) {
    let start = to.len();
    to.extend_from_slice(masked);
    let Some(octets) = to.get_mut(start..) else { return };
    let mask = [a, b, c, d, a, b, c, d];
    let (words, rest) = octets.as_chunks_mut();
    for word in words {
        // Eight at a time: four times as fast as one by one.
        *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (octet, mask) in rest.iter_mut().zip(mask) {
        *octet ^= mask;
    }
}

/// A Close frame's status code (RFC 6455 §5.5.1, §7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    match payload.split_first_chunk() {
        None if payload.is_empty() => Ok(None),
        None => Err(Fault::Protocol),
        Some((&code, reason)) => {
            let code = u16::from_be_bytes(code);
            if !CloseCode::from(code).is_allowed() {
                Err(Fault::Protocol)
            } else if std::str::from_utf8(reason).is_err() {
                Err(Fault::NotUtf8)
            } else {
                Ok(Some(code))
            }
        }
    }
}

/// A frame of ours: final, and not masked.
fn frame(opcode: OpCode, pieces: [&[u8]; 2]) -> Bytes {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let [first, second] = pieces;
    let len = first.len() + second.len();
    let mut octets = Vec::with_capacity(header.len(len as u64) + len);
    // Writing to memory does not fail.
    let _ = header.format(len as u64, &mut octets);
    octets.extend_from_slice(first);
    octets.extend_from_slice(second);
    Bytes::from(octets)
}

/// A binary message in one frame.
pub(crate) fn binary(pieces: [&[u8]; 2]) -> Bytes {
    frame(OpCode::Data(Data::Binary), pieces)
}

/// The answer to a Ping frame.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    frame(OpCode::Control(Control::Pong), [payload, &[]])
}

/// A Close frame.
pub(crate) fn close(code: Option<u16>) -> Bytes {
    let code = code.map(u16::to_be_bytes);
    frame(OpCode::Control(Control::Close), [code.as_ref().map_or(&[], |code| code), &[]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame with a first octet as given and the shortest length.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(0x80 | len as u8),
            len @ 126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(octet, mask)| octet ^ mask));
        frame
    }

    fn read(octets: &[u8]) -> (Vec<u8>, Result<Read, Fault>) {
        let mut input = Input::default();
        input.push(Bytes::copy_from_slice(octets));
        let mut payload = Vec::new();
        let read = Reader::default().read(&mut input, &mut payload, usize::MAX);
        (payload, read)
    }

    #[test]
    fn the_standards_masked_hello_is_read() {
        // RFC 6455 §5.7, as a binary message.
        let octets = [0x82, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
        assert_eq!(read(&octets), (b"Hello".to_vec(), Ok(Read::All)));
    }

    #[test]
    fn fragments_and_messages_are_one_stream_of_octets() {
        let octets = [
            masked(0x02, b"one "),
            masked(0x00, b""),
            masked(0x8A, b"a Pong in between"),
            masked(0x80, b"message"),
            masked(0x82, &[b'.'; 126]),
            masked(0x82, &[b'!'; 65_536]),
        ]
        .concat();
        let (payload, read) = read(&octets);
        assert_eq!(read, Ok(Read::All));
        assert_eq!(payload, [&b"one message"[..], &[b'.'; 126], &[b'!'; 65_536]].concat());
    }

    #[test]
    fn no_more_payload_is_taken_than_there_is_room_for() {
        let mut input = Input::default();
        input.push(Bytes::from(masked(0x82, b"abcdefgh")));
        let mut reader = Reader::default();
        let mut all = Vec::new();
        loop {
            let mut payload = Vec::new();
            let read = reader.read(&mut input, &mut payload, 3);
            assert!(payload.len() <= 3);
            all.extend(payload);
            match read {
                Ok(Read::Full) => {}
                Ok(Read::All) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(all, b"abcdefgh");
    }

    #[test]
    fn a_frame_of_any_length_is_read_as_it_comes() {
        let mut octets = vec![0x82, 0xFF];
        octets.extend_from_slice(&(u64::MAX >> 1).to_be_bytes());
        octets.extend_from_slice(&[0; 4]);
        octets.extend_from_slice(b"beginning");
        assert_eq!(read(&octets), (b"beginning".to_vec(), Ok(Read::All)));
    }

    #[test]
    fn what_the_standard_forbids_is_a_protocol_error() {
        let cases: [(&str, Vec<u8>); 14] = [
            ("not masked", vec![0x82, 1, b'x']),
            ("first reserved bit", masked(0xC2, b"x")),
            ("third reserved bit", masked(0x92, b"x")),
            ("reserved data opcode", masked(0x83, b"x")),
            ("reserved control opcode", masked(0x8B, b"x")),
            ("continuation of nothing", masked(0x80, b"x")),
            ("a message inside another", [masked(0x02, b"x"), masked(0x82, b"y")].concat()),
            ("fragmented Ping", masked(0x09, b"x")),
            ("long Ping", masked(0x89, &[0; 126])),
            ("16-bit length of 5", vec![0x82, 0xFE, 0, 5, 0, 0, 0, 0]),
            ("64-bit length of 5", vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0]),
            ("64-bit length of 2^63", vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("Close with one octet", masked(0x88, b"x")),
            ("Close with a code that is never sent", masked(0x88, &1005_u16.to_be_bytes())),
        ];
        for (name, octets) in cases {
            assert_eq!(read(&octets).1, Err(Fault::Protocol), "{name}");
        }
    }

    #[test]
    fn text_and_broken_reasons_have_faults_of_their_own() {
        assert_eq!(read(&masked(0x81, b"x")).1, Err(Fault::Text));
        assert_eq!(read(&masked(0x01, b"x")).1, Err(Fault::Text));
        assert_eq!(read(&masked(0x88, b"\x03\xE8\xFF")).1, Err(Fault::NotUtf8));
    }

    #[test]
    fn control_frames_are_reported_when_they_are_complete() {
        assert_eq!(
            read(&masked(0x89, b"are you there")).1,
            Ok(Read::Ping(b"are you there".into()))
        );
        assert_eq!(read(&masked(0x88, b"")).1, Ok(Read::Close(None)));
        assert_eq!(read(&masked(0x88, b"\x03\xE9bye")).1, Ok(Read::Close(Some(1001))));
        let ping = masked(0x89, b"are you there");
        for n in 0..ping.len() {
            assert_eq!(read(&ping[..n]).1, Ok(Read::All));
        }
    }

    #[test]
    fn our_frames_have_the_shortest_length_and_no_mask() {
        assert_eq!(binary([b"He", b"llo"]), &b"\x82\x05Hello"[..]);
        assert_eq!(binary([&[7; 126], b""])[..5], [0x82, 126, 0, 126, 7]);
        assert_eq!(binary([&[7; 65_536], b""])[..11], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0, 7]);
        assert_eq!(pong(b"x"), &b"\x8A\x01x"[..]);
        assert_eq!(close(None), &b"\x88\x00"[..]);
        assert_eq!(close(Some(1002)), &b"\x88\x02\x03\xEA"[..]);
    }
}
