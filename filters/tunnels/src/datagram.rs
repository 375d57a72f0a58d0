//! Datagrams as they stand in a stream: one in each DATAGRAM capsule (RFC 9297 §3.5, RFC 9298 §5).

use codec_capsule::{
    CapsuleType, Datagram, Decoded, Header, MAX_UDP_PAYLOAD_LEN, UDP_PAYLOAD, header,
};

/// The longest value of a DATAGRAM capsule: a context ID and a UDP payload.
const MAX_DATAGRAM: u64 = MAX_UDP_PAYLOAD_LEN as u64 + 8;
/// Values of other capsules, which mean nothing here, are skipped up to this length.
const MAX_UNKNOWN: u64 = 1 << 16;
/// No capsule's header takes more octets.
const MAX_HEADER: usize = 16;

/// What is at the front of a stream's octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Too little to tell.
    Incomplete,
    /// So many octets that mean nothing.
    Nothing(usize),
    /// A capsule of `len` octets, of which those after the first `from` are a datagram.
    Datagram {
        /// Where the datagram begins.
        from: usize,
        /// Where the capsule ends, and the datagram.
        len: usize,
    },
    /// A capsule that is too long: nobody knows where the next one begins.
    Malformed,
}

/// Looks at the front of a stream's octets.
#[must_use]
pub fn next(octets: &[u8]) -> Next {
    let Decoded::Complete { value: header, consumed } = header(octets) else {
        return Next::Incomplete;
    };
    let is_datagram = header.capsule_type == CapsuleType::DATAGRAM;
    if header.check(if is_datagram { MAX_DATAGRAM } else { MAX_UNKNOWN }).is_err() {
        return Next::Malformed;
    }
    // Not above the limit.
    let len = consumed + header.len as usize;
    let Some(value) = octets.get(consumed..len) else { return Next::Incomplete };
    match Datagram::decode(value) {
        Ok(datagram) if is_datagram && datagram.context_id == UDP_PAYLOAD => {
            Next::Datagram { from: len - datagram.payload.len(), len }
        }
        _ => Next::Nothing(len),
    }
}

/// Has a datagram of `len` octets written to a stream by `write`, which returns whether it did so; else
/// nothing is. Whether it was.
pub fn write(stream: &mut Vec<u8>, len: usize, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    let start = stream.len();
    let mut head = [0; MAX_HEADER];
    let header = Header { capsule_type: CapsuleType::DATAGRAM, len: len as u64 + 1 };
    let Some(head) = header.encode(&mut head).ok().and_then(|n| head.get(..n)) else {
        return false;
    };
    stream.reserve(head.len() + 1 + len);
    stream.extend_from_slice(head);
    stream.push(UDP_PAYLOAD as u8);
    let body = stream.len();
    let written = len <= MAX_UDP_PAYLOAD_LEN && write(stream) && stream.len() == body + len;
    if !written {
        stream.truncate(start);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut stream = b"x".to_vec();
        for len in [0, 1, 61, 62, 63, 300, 20_000] {
            let from = stream.len();
            let put = |stream: &mut Vec<u8>| {
                stream.extend_from_slice(&vec![7; len]);
                true
            };
            assert!(write(&mut stream, len, put));
            let octets = &stream[from..];
            assert_eq!(
                next(octets),
                Next::Datagram { from: octets.len() - len, len: octets.len() }
            );
            assert_eq!(next(&octets[..octets.len() - 1]), Next::Incomplete);
        }
    }

    #[test]
    fn what_is_not_written_leaves_nothing() {
        let mut stream = b"x".to_vec();
        assert!(!write(&mut stream, 3, |_| false));
        assert!(!write(&mut stream, 3, |_| true));
        assert!(!write(&mut stream, 70_000, |stream| {
            stream.resize(stream.len() + 70_000, 0);
            true
        }));
        assert_eq!(stream, b"x");
    }

    #[test]
    fn other_capsules_and_contexts_are_skipped_and_long_ones_end_it() {
        assert_eq!(next(b"\x00\x03\x01ab"), Next::Nothing(5));
        assert_eq!(next(b"\x05\x02ab"), Next::Nothing(4));
        assert_eq!(next(b"\x00\x80\x01\x00\x10"), Next::Malformed);
        assert_eq!(next(b"\x05\x80\x02\x00\x00"), Next::Malformed);
    }
}
