//! Messages as they stand among a client's octets: capsules with one datagram each, or a stream of frames.

use bridge::Bytes;
use codec_capsule::MAX_UDP_PAYLOAD_LEN;
use codec_coap::{
    Code, DecodeError, Decoded, Frame, MAX_TOKEN_LEN, Message, MessageType, Options, TcpMessage,
    decode, decode_tcp, frame_tcp,
};

use tunnels::datagram;

use crate::config::Transport;

/// A token that does not borrow: at most eight octets (RFC 7252 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Token {
    octets: [u8; MAX_TOKEN_LEN],
    len: u8,
}

impl Token {
    pub(crate) fn new(token: &[u8]) -> Self {
        let mut octets = [0; MAX_TOKEN_LEN];
        let mut len = 0;
        for (place, octet) in octets.iter_mut().zip(token) {
            *place = *octet;
            len += 1;
        }
        Self { octets, len }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// A message of either transport.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    /// The type and the message ID, over UDP.
    pub(crate) udp: Option<(MessageType, u16)>,
    pub(crate) code: Code,
    pub(crate) token: &'a [u8],
    pub(crate) options: Options<'a>,
    pub(crate) payload: &'a [u8],
    /// The octets of the message.
    pub(crate) size: usize,
}

/// What is at the front of a client's, or a server's, octets.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// Too little to tell.
    Incomplete,
    /// So many octets that mean nothing.
    Nothing(usize),
    /// A datagram.
    Datagram {
        /// Its payload.
        payload: &'a [u8],
        /// The octets of its capsule.
        len: usize,
    },
    /// A message on a stream.
    Frame(Frame),
    /// A message on a stream that cannot be skipped, or octets that are none.
    Malformed(Malformed),
}

/// Why a stream of octets cannot go on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Malformed {
    /// A capsule that is too long to be a datagram.
    Capsule,
    /// A frame of TCP.
    Frame(DecodeError),
}

/// Looks at the front of `octets`. A message on a stream may have up to `max_message_size` octets.
pub(crate) fn next(transport: Transport, octets: &[u8], max_message_size: u32) -> Next<'_> {
    if octets.is_empty() {
        return Next::Incomplete;
    }
    match transport {
        Transport::Udp | Transport::Dtls => datagram(octets),
        Transport::Tcp => match frame_tcp(octets, max_message_size) {
            Ok(Decoded::Complete { message, .. }) if octets.len() >= message.len() => {
                Next::Frame(message)
            }
            Ok(_) => Next::Incomplete,
            Err(error) => Next::Malformed(Malformed::Frame(error)),
        },
    }
}

fn datagram(octets: &[u8]) -> Next<'_> {
    match datagram::next(octets) {
        datagram::Next::Incomplete => Next::Incomplete,
        datagram::Next::Nothing(len) => Next::Nothing(len),
        datagram::Next::Datagram { from, len } => {
            Next::Datagram { payload: octets.get(from..len).unwrap_or_default(), len }
        }
        datagram::Next::Malformed => Next::Malformed(Malformed::Capsule),
    }
}

/// A datagram as a message.
pub(crate) fn udp(datagram: &[u8]) -> Result<Incoming<'_>, DecodeError> {
    let message = decode(datagram)?;
    Ok(Incoming {
        udp: Some((message.message_type, message.message_id)),
        code: message.code,
        token: message.token,
        options: message.options,
        payload: message.payload,
        size: datagram.len(),
    })
}

/// A whole frame as a message.
pub(crate) fn tcp(frame: &[u8]) -> Result<TcpMessage<'_>, DecodeError> {
    match decode_tcp(frame)? {
        Decoded::Complete { message, .. } => Ok(message),
        // The frame is whole.
        Decoded::Incomplete { needed } => Err(DecodeError::Truncated {
            needed: u32::try_from(needed).unwrap_or(u32::MAX),
            available: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        }),
    }
}

impl<'a> Incoming<'a> {
    pub(crate) fn of_tcp(message: TcpMessage<'a>, size: usize) -> Self {
        Self {
            udp: None,
            code: message.code,
            token: message.token,
            options: message.options,
            payload: message.payload,
            size,
        }
    }
}

/// A datagram's message in its capsule; nothing if there can be no such message.
pub(crate) fn capsule(message: &Message<'_>) -> Option<Bytes> {
    let len = message.encoded_len().ok().filter(|len| *len <= MAX_UDP_PAYLOAD_LEN)?;
    let mut octets = Vec::new();
    let written = datagram::write(&mut octets, len, |octets| {
        let at = octets.len();
        octets.resize(at + len, 0);
        octets.get_mut(at..).is_some_and(|place| message.encode(place).is_ok())
    });
    written.then(|| Bytes::from(octets))
}

/// A datagram in its capsule, with another message ID.
pub(crate) fn with_id(datagram: &[u8], id: u16) -> Option<Bytes> {
    let ([first, code, _, _], rest) = datagram.split_first_chunk()?;
    let [a, b] = id.to_be_bytes();
    let mut octets = Vec::new();
    let written = datagram::write(&mut octets, datagram.len(), |octets| {
        octets.extend_from_slice(&[*first, *code, a, b]);
        octets.extend_from_slice(rest);
        true
    });
    written.then(|| Bytes::from(octets))
}

/// A message of a stream; nothing if there can be no such message.
pub(crate) fn frame(message: &TcpMessage<'_>) -> Option<Bytes> {
    let mut octets = vec![0; message.encoded_len().ok()?];
    message.encode(&mut octets).ok()?;
    Some(Bytes::from(octets))
}
