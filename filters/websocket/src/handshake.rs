//! The opening handshake (RFC 6455 §4.2).

use bridge::{Bytes, HeaderMap, HeaderName, HeaderValue, Input, Response, StatusCode};
use tungstenite::Error;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};

/// The longest request, in octets, with its request line and all header fields.
pub(crate) const MAX_REQUEST: usize = 8192;
/// The most header fields of a request.
pub(crate) const MAX_FIELDS: usize = 64;

const END: &[u8] = b"\r\n\r\n";
/// The only version (RFC 6455 §4.1).
const VERSION: &str = "13";
const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const HOST: HeaderName = HeaderName::from_static("host");
const PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");

/// Why a request does not open a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not an HTTP/1.1 request.
    Malformed,
    /// The request line alone is longer than [`MAX_REQUEST`].
    TargetTooLong,
    /// Longer than [`MAX_REQUEST`], or more than [`MAX_FIELDS`] header fields.
    FieldsTooLarge,
    /// Not exactly one Host header field (RFC 9112 §3.2).
    Host,
    /// A request, but not for a WebSocket of version 13.
    NoUpgrade,
    /// Not exactly one valid Sec-WebSocket-Key header field.
    Key,
    /// The subprotocol is not offered.
    Subprotocol,
}

impl Refusal {
    /// Its name in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TargetTooLong => "target_too_long",
            Self::FieldsTooLarge => "fields_too_large",
            Self::Host => "host",
            Self::NoUpgrade => "no_upgrade",
            Self::Key => "key",
            Self::Subprotocol => "subprotocol",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::Host | Self::Key | Self::Subprotocol => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::FieldsTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::NoUpgrade => StatusCode::UPGRADE_REQUIRED,
        }
    }

    /// The HTTP response that says so.
    pub(crate) fn response(self, subprotocol: &str) -> Bytes {
        let content = match self {
            Self::Malformed => "the request is malformed or not HTTP/1.1\n".to_owned(),
            Self::TargetTooLong => format!("the request line exceeds {MAX_REQUEST} octets\n"),
            Self::FieldsTooLarge => {
                format!("the request exceeds {MAX_REQUEST} octets or {MAX_FIELDS} header fields\n")
            }
            Self::Host => "the Host header field is missing or repeated\n".to_owned(),
            Self::NoUpgrade => format!("only a WebSocket of version {VERSION} is served here\n"),
            Self::Key => "the Sec-WebSocket-Key header field is not valid\n".to_owned(),
            Self::Subprotocol => format!("the subprotocol {subprotocol} must be offered\n"),
        };
        let mut response = Response::new(());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let mut set = |name, value| {
            headers.append(HeaderName::from_static(name), value);
        };
        if self == Self::NoUpgrade {
            // RFC 9110 §15.5.22, RFC 6455 §4.4.
            set("connection", HeaderValue::from_static("upgrade"));
            set("upgrade", HeaderValue::from_static("websocket"));
            set("sec-websocket-version", HeaderValue::from_static(VERSION));
        }
        set("connection", HeaderValue::from_static("close"));
        set("content-type", HeaderValue::from_static("text/plain"));
        set("content-length", HeaderValue::from(content.len()));
        let mut octets = Vec::new();
        // Writing to memory does not fail, and all values are visible ASCII.
        let _ = write_response(&mut octets, &response);
        octets.extend_from_slice(content.as_bytes());
        Bytes::from(octets)
    }
}

/// Looks for a complete request at the front of the input. One that opens a WebSocket is consumed
/// and its response returned. `scanned` is how far the input was searched for the request's end,
/// because a client may send it octet by octet.
pub(crate) fn accept(
    input: &mut Input,
    scanned: &mut usize,
    subprotocol: &str,
) -> Option<Result<Bytes, Refusal>> {
    let octets = input.as_slice();
    let octets = octets.get(..MAX_REQUEST).unwrap_or(octets);
    let from = scanned.saturating_sub(END.len() - 1);
    *scanned = octets.len();
    let unseen = octets.get(from..).unwrap_or_default();
    let Some(at) = unseen.windows(END.len()).position(|octets| octets == END) else {
        return (octets.len() == MAX_REQUEST).then_some(Err(if octets.contains(&b'\n') {
            Refusal::FieldsTooLarge
        } else {
            Refusal::TargetTooLong
        }));
    };
    let len = from + at + END.len();
    let response = check(octets.get(..len).unwrap_or_default(), subprotocol);
    if response.is_ok() {
        input.skip(len);
    }
    Some(response)
}

/// The response to a request that opens a WebSocket.
fn check(octets: &[u8], subprotocol: &str) -> Result<Bytes, Refusal> {
    let request = match Request::try_parse(octets) {
        // A part of it being a whole request means line ends that others read differently.
        Ok(Some((len, request))) if len == octets.len() => request,
        Err(Error::Capacity(CapacityError::TooManyHeaders)) => {
            return Err(Refusal::FieldsTooLarge);
        }
        _ => return Err(Refusal::Malformed),
    };
    let headers = request.headers();
    if headers.len() > MAX_FIELDS {
        return Err(Refusal::FieldsTooLarge);
    }
    if headers.get_all(HOST).iter().count() != 1 {
        return Err(Refusal::Host);
    }
    let mut response = create_response(&request).map_err(|error| match error {
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => Refusal::NoUpgrade,
        Error::Protocol(
            ProtocolError::MissingSecWebSocketKey | ProtocolError::InvalidSecWebSocketKey,
        ) => Refusal::Key,
        _ => Refusal::Malformed,
    })?;
    if headers.get_all(KEY).iter().count() != 1 {
        return Err(Refusal::Key);
    }
    if !offers(headers, subprotocol) {
        return Err(Refusal::Subprotocol);
    }
    let selected = HeaderValue::from_str(subprotocol).map_err(|_| Refusal::Subprotocol)?;
    response.headers_mut().insert(PROTOCOL, selected);
    let mut octets = Vec::new();
    write_response(&mut octets, &response).map_err(|_| Refusal::Malformed)?;
    Ok(Bytes::from(octets))
}

/// Whether a subprotocol is among those that the client offers, in one header field or several
/// (RFC 6455 §11.3.4).
fn offers(headers: &HeaderMap, subprotocol: &str) -> bool {
    let lists = headers.get_all(PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|offered| offered.trim() == subprotocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn answer(request: &str) -> Option<Result<Bytes, Refusal>> {
        let mut input = Input::default();
        input.push(Bytes::copy_from_slice(request.as_bytes()));
        accept(&mut input, &mut 0, "mqtt")
    }

    fn refusal(request: &str) -> Option<Refusal> {
        answer(request)?.err()
    }

    #[test]
    fn the_standards_key_gets_the_standards_answer() {
        // RFC 6455 §1.3.
        let response = answer(GOOD).expect("complete").expect("accepted");
        assert_eq!(
            response,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             sec-websocket-protocol: mqtt\r\n\r\n"
        );
    }

    #[test]
    fn a_request_is_accepted_whenever_its_last_octet_arrives_and_no_sooner() {
        let mut input = Input::default();
        let mut scanned = 0;
        for octet in GOOD.as_bytes() {
            assert_eq!(accept(&mut input, &mut scanned, "mqtt"), None);
            input.push(Bytes::copy_from_slice(&[*octet]));
        }
        input.push(Bytes::from_static(b"frames"));
        assert!(accept(&mut input, &mut scanned, "mqtt").expect("complete").is_ok());
        assert_eq!(input.as_slice(), b"frames");
    }

    #[test]
    fn names_and_lists_are_read_as_http_has_them() {
        for (from, to) in [
            ("Upgrade: websocket", "uPGRADE: WebSocket"),
            ("Connection: Upgrade", "Connection: keep-alive, upgrade"),
            ("Protocol: mqtt", "Protocol: mqttv3.1,mqtt"),
            ("Protocol: mqtt", "Protocol: amqp\r\nSec-WebSocket-Protocol: mqtt"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        ] {
            assert!(GOOD.contains(from));
            assert!(matches!(answer(&GOOD.replacen(from, to, 1)), Some(Ok(_))), "{to}");
        }
    }

    #[test]
    fn what_is_not_a_good_request_is_refused_with_the_reason() {
        for (from, to, expected) in [
            ("HTTP/1.1", "HTTP/1.0", Refusal::Malformed),
            ("HTTP/1.1", "HTTP/2.0", Refusal::Malformed),
            ("GET", "GET ", Refusal::Malformed),
            ("Host: broker", "Host broker", Refusal::Malformed),
            ("Host: broker\r\n", "Host: broker\n\n", Refusal::Malformed),
            ("Host: broker\r\n", "", Refusal::Host),
            ("Host: broker", "Host: broker\r\nHost: other", Refusal::Host),
            ("Upgrade: websocket\r\n", "", Refusal::NoUpgrade),
            ("Upgrade: websocket", "Upgrade: h2c", Refusal::NoUpgrade),
            ("Connection: Upgrade", "Connection: close", Refusal::NoUpgrade),
            ("Version: 13", "Version: 8", Refusal::NoUpgrade),
            ("Sec-WebSocket-Version: 13\r\n", "", Refusal::NoUpgrade),
            ("Key: d", "Key: ", Refusal::Key),
            ("Sec-WebSocket-Key", "X", Refusal::Key),
            (
                "Upgrade: websocket",
                "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                Refusal::Key,
            ),
            ("Protocol: mqtt", "Protocol: mqttv3.1", Refusal::Subprotocol),
            ("Protocol: mqtt", "Protocol: MQTT", Refusal::Subprotocol),
            ("Sec-WebSocket-Protocol: mqtt\r\n", "", Refusal::Subprotocol),
        ] {
            assert!(GOOD.contains(from));
            assert_eq!(refusal(&GOOD.replacen(from, to, 1)), Some(expected), "{to}");
        }
    }

    #[test]
    fn a_request_is_bounded_in_octets_and_in_fields() {
        let with = |fields: &str| GOOD.replace("\r\n\r\n", &format!("\r\n{fields}\r\n"));
        assert!(matches!(answer(&with(&"a: b\r\n".repeat(MAX_FIELDS - 6))), Some(Ok(_))));
        for too_many in [MAX_FIELDS - 5, 200] {
            assert_eq!(refusal(&with(&"a: b\r\n".repeat(too_many))), Some(Refusal::FieldsTooLarge));
        }
        let padded = |len: usize| with(&format!("a: {}\r\n", "b".repeat(len)));
        let longest = MAX_REQUEST - padded(0).len();
        assert!(matches!(answer(&padded(longest)), Some(Ok(_))));
        assert_eq!(refusal(&padded(longest + 1)), Some(Refusal::FieldsTooLarge));
        let target = format!("GET /{}", "a".repeat(MAX_REQUEST));
        assert_eq!(refusal(&target), Some(Refusal::TargetTooLong));
    }

    #[test]
    fn a_refusal_is_a_complete_http_response() {
        let response = Refusal::NoUpgrade.response("mqtt");
        assert_eq!(
            response,
            "HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nconnection: close\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\ncontent-type: text/plain\r\n\
             content-length: 46\r\n\r\nonly a WebSocket of version 13 is served here\n"
        );
    }
}
