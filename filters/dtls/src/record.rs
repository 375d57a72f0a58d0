//! Just enough of the record layer to tell records apart before dimpl sees them.

/// The length of the header of a record that is not protected, and of every one in DTLS 1.2 (RFC 6347
/// §4.1).
pub(crate) const HEADER_LEN: usize = 13;
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;
const APPLICATION_DATA: u8 = 23;
const FATAL: u8 = 2;

/// What the first record of a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// A handshake message, not protected.
    Handshake,
    /// Another record of epoch 0: an alert, or ChangeCipherSpec.
    Plain,
    /// Protected.
    Protected,
    /// Not a record.
    Nothing,
}

pub(crate) fn first(datagram: &[u8]) -> First {
    match *datagram {
        // The unified header of DTLS 1.3 (RFC 9147 §4), without a Connection ID.
        [octet, ..] if octet & 0b1110_0000 == 0b0010_0000 => First::Protected,
        [kind @ CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 0xfe, 0xff | 0xfd, high, low, ..]
            if datagram.len() >= HEADER_LEN =>
        {
            match (kind, high | low) {
                (HANDSHAKE, 0) => First::Handshake,
                (APPLICATION_DATA, 0) => First::Nothing,
                (_, 0) => First::Plain,
                (..) => First::Protected,
            }
        }
        _ => First::Nothing,
    }
}

/// The protected records at the front of a datagram.
pub(crate) fn protected(datagram: &[u8]) -> &[u8] {
    let mut end = 0;
    loop {
        let rest = datagram.get(end..).unwrap_or_default();
        if first(rest) != First::Protected {
            return datagram.get(..end).unwrap_or_default();
        }
        end = end.saturating_add(len(rest)).min(datagram.len());
    }
}

/// The length of the record at the front; of the rest if it has none of its own.
fn len(datagram: &[u8]) -> usize {
    let (header, length) = match *datagram {
        // With a Connection ID, or without a length (RFC 9147 §4).
        [flags @ 0b0010_0000..=0b0011_1111, ..] if flags & 0b1_0100 != 0b0_0100 => {
            return datagram.len();
        }
        [flags @ 0b0010_0000..=0b0011_1111, ..] => {
            let header = if flags & 0b1000 == 0 { 4 } else { 5 };
            (header, datagram.get(header - 2..header))
        }
        _ => (HEADER_LEN, datagram.get(HEADER_LEN - 2..HEADER_LEN)),
    };
    match length {
        Some([high, low]) => header + usize::from(u16::from_be_bytes([*high, *low])),
        _ => datagram.len(),
    }
}

/// A record of epoch 0.
pub(crate) fn plain(kind: u8, version: [u8; 2], sequence: u64, fragment: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_LEN + fragment.len());
    record.push(kind);
    record.extend_from_slice(&version);
    // The epoch, which is 0, and 48 bits of sequence number.
    record.extend_from_slice(&(sequence & MAX_SEQUENCE).to_be_bytes());
    // Callers make no fragment that is longer.
    record.extend_from_slice(&u16::try_from(fragment.len()).unwrap_or(u16::MAX).to_be_bytes());
    record.extend_from_slice(fragment);
    record
}

/// A fatal alert in epoch 0 (RFC 5246 §7.2).
pub(crate) fn fatal_alert(sequence: u64, description: u8) -> Vec<u8> {
    plain(ALERT, [0xfe, 0xfd], sequence, &[FATAL, description])
}

pub(crate) const MAX_SEQUENCE: u64 = (1 << 48) - 1;

/// Calls `each` with the header of every record of epoch 0 at the front of a datagram of ours.
pub(crate) fn for_each_plain(mut datagram: &mut [u8], mut each: impl FnMut(&mut Header)) {
    while let Some((header, rest)) = datagram.split_first_chunk_mut::<HEADER_LEN>() {
        let [kind, _, _, epoch @ 0, 0, a, b, c, d, e, f, high, low] = header else { return };
        let _ = epoch;
        if !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(kind) {
            return;
        }
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((fragment, rest)) = rest.split_at_mut_checked(len) else { return };
        let sequence = u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f]);
        let mut plain = Header { kind: *kind, sequence, fragment };
        each(&mut plain);
        [_, _, *a, *b, *c, *d, *e, *f] = (plain.sequence & MAX_SEQUENCE).to_be_bytes();
        datagram = rest;
    }
}

/// What is known of a record of epoch 0.
pub(crate) struct Header<'a> {
    pub(crate) kind: u8,
    /// May be changed.
    pub(crate) sequence: u64,
    pub(crate) fragment: &'a [u8],
}
