//! The server's side: queries in requests, answers in responses.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use codec_dns::{Flags, Message, Rcode, RecordData, RecordType};
use http::header::{ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use crate::{MEDIA_TYPE, header};

/// What requests are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// The path, as it stands in requests; `None`: any.
    pub path: Option<&'a str>,
    /// The longest query, in octets.
    pub max_message_size: usize,
}

/// The query in a request with this content: at least the header of a message that is no response. What is
/// wrong with the rest of it the DNS has an answer for.
///
/// HEAD is as GET (RFC 9110 §9.3.2); the content of either has no meaning (RFC 9110 §9.3.1). Other parameters
/// of the URI than `dns`, and what the client says it accepts, make no difference: there is no other
/// media type to choose from.
///
/// # Errors
///
/// Why there is no query; [`Failure::response`] says so to the client.
pub fn request<'a>(
    parts: &Parts,
    content: &'a [u8],
    endpoint: &Endpoint<'_>,
) -> Result<Cow<'a, [u8]>, Failure> {
    if endpoint.path.is_some_and(|path| path != parts.uri.path()) {
        return Err(Failure::Path);
    }
    let limit = endpoint.max_message_size;
    let message = match parts.method {
        Method::GET | Method::HEAD => Cow::Owned(parameter(parts.uri.query(), limit)?),
        Method::POST if !header::is_dns_message(&parts.headers) => return Err(Failure::MediaType),
        Method::POST if header::is_encoded(&parts.headers) => return Err(Failure::Encoding),
        Method::POST if content.len() > limit => {
            return Err(Failure::TooLarge { len: content.len(), limit });
        }
        Method::POST => Cow::Borrowed(content),
        _ => return Err(Failure::Method),
    };
    match codec_dns::header(&message) {
        Ok(header) if header.flags.is_response() => Err(Failure::IsResponse),
        Ok(_) => Ok(message),
        Err(_) => Err(Failure::TooShort(message.len())),
    }
}

/// The message in the parameter `dns` of the URI's query (RFC 8484 §4.1, §6).
fn parameter(query: Option<&str>, limit: usize) -> Result<Vec<u8>, Failure> {
    let parameters = query.unwrap_or_default().split('&');
    let mut values = parameters.filter_map(|parameter| parameter.strip_prefix("dns="));
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(Failure::Repeated),
        (None, _) => return Err(Failure::Missing),
    };
    // Four characters for three octets, less where the last ones are fewer.
    if value.len() / 4 * 3 + (value.len() % 4).saturating_sub(1) > limit {
        return Err(Failure::UriTooLong { limit });
    }
    BASE64URL.decode(value).map_err(|_| Failure::Base64)
}

/// Why a request has no query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// Another path.
    Path,
    /// Another method than GET, HEAD and POST.
    Method,
    /// A GET without the parameter `dns` (RFC 8484 §4.1).
    Missing,
    /// A GET with more than one.
    Repeated,
    /// Its value is not base64url without padding (RFC 8484 §6).
    Base64,
    /// Its value is longer than a query may be.
    UriTooLong {
        /// The limit in octets of the message.
        limit: usize,
    },
    /// A POST with another media type, or without one.
    MediaType,
    /// A POST whose content is coded (RFC 9110 §8.4).
    Encoding,
    /// A POST with more content than a query may have.
    TooLarge {
        /// The length of the content in octets.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// Fewer octets than a DNS header has (RFC 1035 §4.1.1); how many.
    TooShort(usize),
    /// A DNS message that is no query.
    IsResponse,
}

impl Failure {
    /// The status of the response.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UriTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::MediaType | Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Missing
            | Self::Repeated
            | Self::Base64
            | Self::TooShort(_)
            | Self::IsResponse => StatusCode::BAD_REQUEST,
        }
    }

    /// A lower-case, stable name for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Method => "method",
            Self::Missing => "missing",
            Self::Repeated => "repeated",
            Self::Base64 => "base64",
            Self::UriTooLong { .. } => "uri_too_long",
            Self::MediaType => "media_type",
            Self::Encoding => "encoding",
            Self::TooLarge { .. } => "too_large",
            Self::TooShort(_) => "too_short",
            Self::IsResponse => "is_response",
        }
    }

    /// The header section of the response: the status, and what would be right where HTTP has a field for
    /// it. Its content is the reason, as text.
    #[must_use]
    pub fn response(self) -> Response<String> {
        let mut response = Response::new(self.to_string());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let right = match self {
            Self::Method => Some((ALLOW, "GET, HEAD, POST")),
            Self::MediaType => Some((ACCEPT, MEDIA_TYPE)),
            Self::Encoding => Some((ACCEPT_ENCODING, "identity")),
            _ => None,
        };
        if let Some((name, value)) = right {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("nothing is at this path"),
            Self::Method => f.write_str("method is not GET, HEAD or POST"),
            Self::Missing => f.write_str("parameter dns is missing"),
            Self::Repeated => f.write_str("parameter dns is there more than once"),
            Self::Base64 => f.write_str("parameter dns is not base64url without padding"),
            Self::UriTooLong { limit } => write!(f, "message is above the limit of {limit} octets"),
            Self::MediaType => write!(f, "content-type is not {MEDIA_TYPE}"),
            Self::Encoding => f.write_str("content-encoding is not supported"),
            Self::TooLarge { len, limit } => {
                write!(f, "message of {len} octets is above the limit of {limit}")
            }
            Self::TooShort(len) => write!(f, "message of {len} octets has no header"),
            Self::IsResponse => f.write_str("message is a response"),
        }
    }
}

impl std::error::Error for Failure {}

/// Who may be given the same answer to the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    All,
    /// This client: the answer depends on more than the request, such as where it comes from. Shared caches
    /// do not keep it (RFC 9111 §5.2.2.7).
    One,
}

/// The header section of the response whose content is this message. The length of the content is
/// for whoever sends it.
#[must_use]
pub fn response(message: &Message<'_>, audience: Audience) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    let cache_control = match (freshness(message), audience) {
        (None, _) => Ok(HeaderValue::from_static("no-store")),
        (Some(seconds), Audience::All) => HeaderValue::try_from(format!("max-age={seconds}")),
        (Some(seconds), Audience::One) => {
            HeaderValue::try_from(format!("private, max-age={seconds}"))
        }
    };
    if let Ok(cache_control) = cache_control {
        headers.insert(CACHE_CONTROL, cache_control);
    }
    response
}

/// For how many seconds HTTP caches may use a response with this message: the smallest TTL in the answer
/// section (RFC 8484 §5.1), or as long as an answer without data holds, which is what the SOA record in
/// the authority section says (RFC 2308 §5). Where an alias leads to no data, it is the smaller one.
///
/// `None`: they must not. Failures and truncated answers are no data of the DNS.
#[must_use]
pub fn freshness(message: &Message<'_>) -> Option<u32> {
    let is_truncated = message.header.flags.has(Flags::TC);
    if is_truncated || !matches!(message.rcode(), Rcode::NOERROR | Rcode::NXDOMAIN) {
        return None;
    }
    // RFC 2181 §8.
    let ttl = |ttl: u32| if ttl > i32::MAX as u32 { 0 } else { ttl };
    let answers = message.answers().map(|record| ttl(record.ttl));
    let negative = message
        .authorities()
        .filter(|record| record.record_type == RecordType::SOA)
        .filter_map(|record| match record.data() {
            RecordData::Soa(soa) => Some(ttl(record.ttl).min(ttl(soa.minimum))),
            _ => None,
        });
    answers.chain(negative).min()
}
