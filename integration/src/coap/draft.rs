//! Messages as bytes, right or wrong.
//!
//! Written apart from the project's codec on purpose, and it checks nothing: what a decent implementation refuses to send
//! has to be sent, too.

/// Confirmable (RFC 7252 §4.2).
pub const CON: u8 = 0;
/// Non-confirmable (RFC 7252 §4.3).
pub const NON: u8 = 1;
/// Acknowledgement.
pub const ACK: u8 = 2;
/// Reset.
pub const RST: u8 = 3;

/// A message in the making.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    kind: u8,
    code: u8,
    id: u16,
    token: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

impl Draft {
    /// A confirmable message with this code as `class.detail`: `(0, 1)` is GET.
    #[must_use]
    pub fn new(class: u8, detail: u8) -> Self {
        Self { code: class << 5 | detail, ..Self::default() }
    }

    /// GET.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new(0, 1).path(path)
    }

    /// POST.
    #[must_use]
    pub fn post(path: &str, payload: &[u8]) -> Self {
        Self::new(0, 2).path(path).payload(payload)
    }

    /// PUT.
    #[must_use]
    pub fn put(path: &str, payload: &[u8]) -> Self {
        Self::new(0, 3).path(path).payload(payload)
    }

    /// An empty message that answers the one with this message ID: [`ACK`] or [`RST`].
    #[must_use]
    pub fn empty(kind: u8, id: u16) -> Self {
        Self { kind, id, ..Self::default() }
    }

    /// Another type than [`CON`]; no message over TCP has one.
    #[must_use]
    pub fn kind(mut self, kind: u8) -> Self {
        self.kind = kind;
        self
    }

    /// With this message ID; no message over TCP has one.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// With this token. More than 12 bytes cannot be said.
    #[must_use]
    pub fn token(mut self, token: &[u8]) -> Self {
        self.token = token.to_vec();
        self
    }

    /// With one Uri-Path option per segment.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        segments.fold(self, |draft, segment| draft.option(11, segment.as_bytes()))
    }

    /// With a Uri-Query option.
    #[must_use]
    pub fn query(self, argument: &str) -> Self {
        self.option(15, argument.as_bytes())
    }

    /// With an option, in its place after those with a smaller number and those that were there.
    #[must_use]
    pub fn option(mut self, number: u16, value: &[u8]) -> Self {
        let at = self.options.partition_point(|(other, _)| *other <= number);
        self.options.insert(at, (number, value.to_vec()));
        self
    }

    /// With an option whose value is a number, in as few bytes as it takes (RFC 7252 §3.2).
    #[must_use]
    pub fn uint(self, number: u16, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        self.option(number, bytes.get(zeros..).unwrap_or_default())
    }

    /// With a payload.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// As a datagram (RFC 7252 §3).
    #[must_use]
    pub fn datagram(&self) -> Vec<u8> {
        let mut out = vec![0x40 | self.kind << 4 | self.token_len(), self.code];
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&self.token);
        out.extend(self.body());
        out
    }

    /// As it is over TCP (RFC 8323 §3.2).
    #[must_use]
    pub fn stream(&self) -> Vec<u8> {
        let body = self.body();
        let (nibble, extension) = match body.len() {
            length @ 0..13 => (length, Vec::new()),
            length @ 13..269 => (13, last(length - 13, 1)),
            length @ 269..65_805 => (14, last(length - 269, 2)),
            length => (15, last(length - 65_805, 4)),
        };
        let nibble = u8::try_from(nibble).unwrap_or_default();
        let mut out = vec![nibble << 4 | self.token_len()];
        out.extend(extension);
        out.push(self.code);
        out.extend_from_slice(&self.token);
        out.extend(body);
        out
    }

    fn token_len(&self) -> u8 {
        u8::try_from(self.token.len()).unwrap_or(15).min(15)
    }

    /// Options and payload.
    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut number = 0;
        for (next, value) in &self.options {
            let (delta, delta_extension) = extended(usize::from(next - number));
            let (length, length_extension) = extended(value.len());
            number = *next;
            out.push(delta << 4 | length);
            out.extend(delta_extension);
            out.extend(length_extension);
            out.extend_from_slice(value);
        }
        if !self.payload.is_empty() {
            out.push(0xFF);
            out.extend_from_slice(&self.payload);
        }
        out
    }
}

/// The four bits of an option's delta or length, and what follows for a larger one (RFC 7252 §3.1).
fn extended(value: usize) -> (u8, Vec<u8>) {
    match value {
        0..13 => (u8::try_from(value).unwrap_or_default(), Vec::new()),
        13..269 => (13, last(value - 13, 1)),
        _ => (14, last(value - 269, 2)),
    }
}

/// The last bytes of a number in network byte order.
fn last(value: usize, count: usize) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    bytes.get(bytes.len() - count..).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use codec_coap::{
        Code, ContentFormat, Decoded, MessageType, OptionNumber, OptionValue, decode, decode_tcp,
    };

    use super::*;

    #[test]
    fn the_codec_reads_the_datagram_that_was_meant() {
        let path = "segment-".repeat(30);
        let draft = Draft::post(&format!("a/{path}"), b"payload").id(258).token(b"tok");
        // Lengths and deltas of one and two bytes more.
        let draft = draft.option(2048, &[7; 300]);
        let bytes = draft.uint(17, 50).query("q=1").uint(12, 0).kind(NON).datagram();
        let message = decode(&bytes).unwrap();
        assert_eq!(message.message_type, MessageType::NonConfirmable);
        assert_eq!((message.code, message.message_id), (Code::POST, 258));
        assert_eq!((message.token, message.payload), (&b"tok"[..], &b"payload"[..]));
        let options = message.options;
        assert!(options.uri_path().map(|segment| segment.as_str()).eq(["a", &path]));
        assert!(options.uri_query().map(|argument| argument.as_str()).eq(["q=1"]));
        assert_eq!(options.content_format(), Some(ContentFormat(0)));
        assert_eq!(options.accept(), Some(ContentFormat::JSON));
        let elective = options.get(OptionNumber(2048));
        assert_eq!(elective, Some(OptionValue::Opaque(&[7; 300])));
    }

    #[test]
    fn the_codec_reads_the_messages_on_a_stream_that_were_meant() {
        for length in [0, 1, 12, 13, 268, 269, 65_804, 65_805, 70_000] {
            let payload = vec![7; length];
            let bytes = Draft::put("p", &payload).token(&[1; 8]).stream();
            let Decoded::Complete { message, consumed } = decode_tcp(&bytes).unwrap() else {
                unreachable!("{length} bytes are all there");
            };
            assert_eq!(consumed, bytes.len());
            assert_eq!((message.code, message.token), (Code::PUT, &[1; 8][..]));
            assert!(message.payload == payload);
        }
    }

    #[test]
    fn an_empty_message_is_four_bytes() {
        assert_eq!(Draft::empty(RST, 0x1234).datagram(), [0x70, 0, 0x12, 0x34]);
    }
}
