//! ClientHello, and the answers that need no state: HelloVerifyRequest (RFC 6347 §4.2.1) and
//! HelloRetryRequest (RFC 9147 §5.1).

use std::ops::Range;

use crate::record::{self, HANDSHAKE};

const MESSAGE_HEADER_LEN: usize = 12;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;

const DTLS_1_0: [u8; 2] = [0xfe, 0xff];
const DTLS_1_2: [u8; 2] = [0xfe, 0xfd];
const DTLS_1_3: [u8; 2] = [0xfe, 0xfc];

const SUPPORTED_GROUPS: u16 = 10;
const PADDING: u16 = 21;
const EXTENDED_MASTER_SECRET: u16 = 23;
const SUPPORTED_VERSIONS: u16 = 43;
const COOKIE: u16 = 44;
const KEY_SHARE: u16 = 51;

/// secp256r1, secp384r1 and x25519.
const GROUPS: [u16; 3] = [23, 24, 29];

/// The random of a ServerHello that is a HelloRetryRequest (RFC 8446 §4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// A cookie: two octets of [`ClientHello::padding`], and a MAC that [`cookie`](crate::cookie) makes.
pub(crate) type Cookie = [u8; 32];

/// What a datagram that begins with a handshake record is.
#[derive(Debug)]
pub(crate) enum Hello<'a> {
    /// The first message is no ClientHello.
    None,
    /// A part of a ClientHello.
    Fragment,
    /// A ClientHello that cannot be read.
    Malformed,
    Whole(ClientHello<'a>),
}

/// A ClientHello (RFC 5246 §7.4.1.2, RFC 6347 §4.2.1, RFC 8446 §4.1.2).
#[derive(Debug)]
pub(crate) struct ClientHello<'a> {
    pub(crate) record_sequence: u64,
    pub(crate) message_seq: u16,
    body: &'a [u8],
    /// Where in the body the cookie is, without its length.
    cookie: Range<usize>,
    suites: &'a [u8],
    /// Where the extensions' length is; the end of the body where there are none.
    extensions: usize,
    pub(crate) extended_master_secret: bool,
    offers_1_2: bool,
    offers_1_3: bool,
    /// Whether there is a key share of a group that can be used.
    has_key_share: bool,
    has_group: bool,
    /// Where the extension with the cookie of DTLS 1.3 is, with its header.
    cookie_extension: Option<Range<usize>>,
    /// Where the one that only takes space is (RFC 7685).
    padding_extension: Option<Range<usize>>,
}

/// Which handshake a ClientHello leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Psk12,
    Certificate12,
    /// With the cipher suite.
    Certificate13(u16),
}

/// Why a ClientHello leads to none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoChoice {
    CipherSuite,
    Group,
    ExtendedMasterSecret,
    Version,
}

impl NoChoice {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::CipherSuite => "no_common_cipher_suite",
            Self::Group => "no_common_group",
            Self::ExtendedMasterSecret => "no_extended_master_secret",
            Self::Version => "unsupported_version",
        }
    }

    /// The alert's description (RFC 5246 §7.2).
    pub(crate) fn alert(self) -> u8 {
        match self {
            Self::CipherSuite | Self::Group | Self::ExtendedMasterSecret => 40,
            Self::Version => 70,
        }
    }
}

/// Octets that are taken off the front.
struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(n)?;
        let taken = self.octets.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn number(&mut self, octets: usize) -> Option<usize> {
        Some(self.take(octets)?.iter().fold(0, |n, octet| n << 8 | usize::from(*octet)))
    }

    /// What follows a length of so many octets.
    fn vector(&mut self, octets: usize) -> Option<&'a [u8]> {
        let len = self.number(octets)?;
        self.take(len)
    }

    fn is_empty(&self) -> bool {
        self.at >= self.octets.len()
    }
}

/// Looks at a datagram whose first record is a handshake record in epoch 0.
pub(crate) fn read(datagram: &[u8]) -> Hello<'_> {
    let mut reader = Reader { octets: datagram, at: 5 };
    let (Some(sequence), Some(fragment)) = (reader.number(6), reader.vector(2)) else {
        return Hello::Malformed;
    };
    let mut reader = Reader { octets: fragment, at: 0 };
    match reader.number(1) {
        Some(kind) if kind == usize::from(CLIENT_HELLO) => {}
        Some(_) => return Hello::None,
        None => return Hello::Malformed,
    }
    let header = (reader.number(3), reader.number(2), reader.number(3), reader.number(3));
    let (Some(len), Some(message_seq), Some(offset), Some(fragment_len)) = header else {
        return Hello::Malformed;
    };
    if offset != 0 || fragment_len != len {
        return Hello::Fragment;
    }
    let Some(body) = reader.take(len).filter(|_| reader.is_empty()) else {
        return Hello::Malformed;
    };
    let numbers = (u64::try_from(sequence), u16::try_from(message_seq));
    match (numbers, ClientHello::read(body)) {
        ((Ok(record_sequence), Ok(message_seq)), Some(hello)) => {
            Hello::Whole(ClientHello { record_sequence, message_seq, ..hello })
        }
        _ => Hello::Malformed,
    }
}

impl<'a> ClientHello<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { octets: body, at: 0 };
        let version = reader.take(2)?;
        reader.take(32)?;
        reader.vector(1).filter(|session_id| session_id.len() <= 32)?;
        let cookie_len = reader.number(1)?;
        let cookie = reader.at..reader.at + cookie_len;
        reader.take(cookie_len)?;
        let suites = reader.vector(2).filter(|suites| suites.len() >= 2)?;
        if !suites.len().is_multiple_of(2) || !reader.vector(1)?.contains(&0) {
            return None;
        }
        let mut hello = Self {
            record_sequence: 0,
            message_seq: 0,
            body,
            cookie,
            suites,
            extensions: reader.at,
            extended_master_secret: false,
            // Replaced by supported_versions (RFC 8446 §4.2.1).
            offers_1_2: version == DTLS_1_2,
            offers_1_3: false,
            has_key_share: false,
            has_group: false,
            cookie_extension: None,
            padding_extension: None,
        };
        if reader.is_empty() {
            return Some(hello);
        }
        let extensions = reader.number(2)?;
        if extensions != body.len() - reader.at {
            return None;
        }
        while !reader.is_empty() {
            let start = reader.at;
            let kind = u16::try_from(reader.number(2)?).ok()?;
            let data = reader.vector(2)?;
            hello.extension(kind, data, start..reader.at)?;
        }
        Some(hello)
    }

    fn extension(&mut self, kind: u16, data: &[u8], place: Range<usize>) -> Option<()> {
        let before = match kind {
            COOKIE => self.cookie_extension.replace(place),
            PADDING => self.padding_extension.replace(place),
            _ => None,
        };
        if before.is_some() {
            // Twice is not allowed (RFC 8446 §4.2).
            return None;
        }
        let mut data = Reader { octets: data, at: 0 };
        match kind {
            EXTENDED_MASTER_SECRET => self.extended_master_secret = true,
            SUPPORTED_GROUPS => {
                let groups = data.vector(2)?;
                self.has_group = numbers(groups).any(|group| GROUPS.contains(&group));
            }
            SUPPORTED_VERSIONS => {
                let versions = data.vector(1)?;
                let offers = |wanted: [u8; 2]| {
                    numbers(versions).any(|version| version.to_be_bytes() == wanted)
                };
                self.offers_1_2 = offers(DTLS_1_2);
                self.offers_1_3 = offers(DTLS_1_3);
            }
            KEY_SHARE => {
                let shares = data.vector(2)?;
                let mut shares = Reader { octets: shares, at: 0 };
                while !shares.is_empty() {
                    let group = shares.number(2)?;
                    shares.vector(2)?;
                    self.has_key_share |= GROUPS.iter().any(|known| usize::from(*known) == group);
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Chooses as dimpl will, when it is given this ClientHello.
    pub(crate) fn choose(&self, psk: bool, certificate: bool) -> Result<Choice, NoChoice> {
        let mut refused = NoChoice::Version;
        if self.offers_1_3 && certificate {
            match numbers(self.suites).find(|suite| (0x1301..=0x1303).contains(suite)) {
                Some(suite) if self.has_key_share => return Ok(Choice::Certificate13(suite)),
                // Another HelloRetryRequest would ask for a share of a common group, but what the
                // client says after that cannot be traced back to what it said before.
                Some(_) => refused = NoChoice::Group,
                None => refused = NoChoice::CipherSuite,
            }
        }
        if !self.offers_1_2 {
            return Err(refused);
        }
        let choice = numbers(self.suites).find_map(|suite| match suite {
            0xc0a8 if psk => Some(Choice::Psk12),
            0xc02b | 0xc02c | 0xcca9 if certificate => Some(Choice::Certificate12),
            _ => None,
        });
        let choice = choice.ok_or(NoChoice::CipherSuite)?;
        if !self.extended_master_secret {
            return Err(NoChoice::ExtendedMasterSecret);
        }
        if choice == Choice::Certificate12 && !self.has_group {
            return Err(NoChoice::Group);
        }
        Ok(choice)
    }

    /// The cookie that came with it; `None` if there is none, or none of ours.
    pub(crate) fn cookie(&self, choice: Choice) -> Option<&Cookie> {
        let cookie = match (choice, &self.cookie_extension) {
            (Choice::Certificate13(_), Some(place)) => {
                let header = 6;
                self.body.get(place.start + header..place.end)?
            }
            (Choice::Certificate13(_), None) => return None,
            _ => self.body.get(self.cookie.clone())?,
        };
        cookie.try_into().ok()
    }

    /// Whether there is a cookie, of whatever kind.
    pub(crate) fn has_cookie(&self) -> bool {
        !self.cookie.is_empty() || self.cookie_extension.is_some()
    }

    /// How much padding there is: 0 for none, else one more than its length.
    pub(crate) fn padding(&self) -> u16 {
        let place = self.padding_extension.as_ref();
        place.map_or(0, |place| u16::try_from(place.len().saturating_sub(3)).unwrap_or(u16::MAX))
    }

    /// The body of the ClientHello that came, or would have come, before this one without a cookie.
    ///
    /// In DTLS 1.2 only some parameters are the same in both (RFC 6347 §4.2.1), but the first one is not
    /// part of the transcript. In DTLS 1.3 it is, and they are the same but for the cookie and the
    /// `padding` (RFC 8446 §4.1.2), because no other key share was asked for.
    pub(crate) fn before(&self, choice: Choice, padding: u16) -> Vec<u8> {
        let part = |range: Range<usize>| self.body.get(range).unwrap_or_default();
        let end = self.body.len();
        let mut body = Vec::with_capacity(end);
        if !matches!(choice, Choice::Certificate13(_)) {
            body.extend_from_slice(part(0..self.cookie.start.saturating_sub(1)));
            body.push(0);
            body.extend_from_slice(part(self.cookie.end..end));
            return body;
        }
        body.extend_from_slice(part(0..self.extensions));
        let mut rest = self.extensions + 2;
        let mut extensions = Vec::with_capacity(end - self.extensions);
        let mut places = [&self.cookie_extension, &self.padding_extension];
        places.sort_unstable_by_key(|place| place.as_ref().map(|place| place.start));
        let mut padded = false;
        for place in places.into_iter().flatten() {
            extensions.extend_from_slice(part(rest..place.start));
            rest = place.end;
            if Some(place) == self.padding_extension.as_ref() {
                pad(&mut extensions, padding);
                padded = true;
            }
        }
        extensions.extend_from_slice(part(rest..end));
        if !padded {
            pad(&mut extensions, padding);
        }
        // Not longer than a datagram with as much padding as one can have.
        body.extend_from_slice(&u16::try_from(extensions.len()).unwrap_or(u16::MAX).to_be_bytes());
        body.extend_from_slice(&extensions);
        body
    }

    /// What the cookie is made of, besides the client's address.
    pub(crate) fn parameters(&self, choice: Choice, padding: u16) -> Vec<u8> {
        let mut parameters = self.before(choice, padding);
        if !matches!(choice, Choice::Certificate13(_)) {
            parameters.truncate(self.extensions.saturating_sub(self.cookie.len()));
        }
        parameters
    }
}

/// Adds the padding that [`ClientHello::padding`] told.
fn pad(extensions: &mut Vec<u8>, padding: u16) {
    let Some(len) = padding.checked_sub(1) else { return };
    extensions.extend_from_slice(&PADDING.to_be_bytes());
    extensions.extend_from_slice(&len.to_be_bytes());
    extensions.resize(extensions.len() + usize::from(len), 0);
}

fn numbers(octets: &[u8]) -> impl Iterator<Item = u16> {
    octets.chunks_exact(2).map(|pair| match pair {
        [high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    })
}

/// A ClientHello of this body as a datagram.
pub(crate) fn client_hello(message_seq: u16, body: &[u8]) -> Vec<u8> {
    let message = message(CLIENT_HELLO, message_seq, body);
    record::plain(HANDSHAKE, DTLS_1_2, message_seq.into(), &message)
}

/// The answer to a ClientHello without a valid cookie, as a datagram. It has the sequence numbers of the
/// ClientHello, so that it needs none of its own (RFC 6347 §4.2.1).
pub(crate) fn request_cookie(hello: &ClientHello<'_>, choice: Choice, cookie: &Cookie) -> Vec<u8> {
    let (kind, version, body) = match choice {
        Choice::Certificate13(suite) => (SERVER_HELLO, DTLS_1_2, retry(suite, cookie)),
        Choice::Psk12 | Choice::Certificate12 => {
            let mut body = Vec::with_capacity(3 + cookie.len());
            body.extend_from_slice(&DTLS_1_0);
            body.push(32);
            body.extend_from_slice(cookie);
            (HELLO_VERIFY_REQUEST, DTLS_1_0, body)
        }
    };
    let message = message(kind, hello.message_seq, &body);
    record::plain(HANDSHAKE, version, hello.record_sequence, &message)
}

/// HelloRetryRequest, octet for octet as dimpl makes it: it is part of the transcript.
fn retry(suite: u16, cookie: &Cookie) -> Vec<u8> {
    let mut body = Vec::with_capacity(88);
    body.extend_from_slice(&DTLS_1_2);
    body.extend_from_slice(&RETRY);
    // No session ID (RFC 9147 §5.3).
    body.push(0);
    body.extend_from_slice(&suite.to_be_bytes());
    body.push(0);
    body.extend_from_slice(&[0, 44]);
    body.extend_from_slice(&SUPPORTED_VERSIONS.to_be_bytes());
    body.extend_from_slice(&[0, 2]);
    body.extend_from_slice(&DTLS_1_3);
    body.extend_from_slice(&COOKIE.to_be_bytes());
    body.extend_from_slice(&[0, 34, 0, 32]);
    body.extend_from_slice(cookie);
    body
}

fn message(kind: u8, message_seq: u16, body: &[u8]) -> Vec<u8> {
    let [_, len @ ..] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut message = Vec::with_capacity(MESSAGE_HEADER_LEN + body.len());
    message.push(kind);
    message.extend_from_slice(&len);
    message.extend_from_slice(&message_seq.to_be_bytes());
    message.extend_from_slice(&[0, 0, 0]);
    message.extend_from_slice(&len);
    message.extend_from_slice(body);
    message
}

/// The cipher suite of a ServerHello that is not a HelloRetryRequest, in a handshake record
/// of ours.
pub(crate) fn negotiated(fragment: &[u8]) -> Option<u16> {
    let mut reader = Reader { octets: fragment, at: 0 };
    if reader.number(1)? != usize::from(SERVER_HELLO) {
        return None;
    }
    reader.at = MESSAGE_HEADER_LEN + 2;
    if reader.take(32)? == RETRY {
        return None;
    }
    reader.vector(1)?;
    let suite = u16::try_from(reader.number(2)?).ok()?;
    Some(suite)
}
