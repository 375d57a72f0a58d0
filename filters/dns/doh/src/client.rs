//! The client's side: queries to a DoH server, and what it answers.

use std::fmt;

use codec_dns::{DecodeError, patch};
use http::header::{ACCEPT, AGE, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};

use crate::{MEDIA_TYPE, header};

/// The header section of a request whose content is a query (RFC 8484 §4.1).
#[must_use]
pub fn request(uri: Uri) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    for name in [CONTENT_TYPE, ACCEPT] {
        request.headers_mut().insert(name, HeaderValue::from_static(MEDIA_TYPE));
    }
    request
}

/// Looks at a response whose content this is: after that it is the answer, which has not been decoded. The
/// time that the response has spent in caches is taken off the TTLs (RFC 8484 §5.1).
///
/// # Errors
///
/// Why the content is no answer.
pub fn response(parts: &Parts, content: &mut [u8]) -> Result<(), Unusable> {
    if !parts.status.is_success() {
        return Err(Unusable::Status(parts.status));
    }
    if !header::is_dns_message(&parts.headers) {
        return Err(Unusable::MediaType);
    }
    if header::is_encoded(&parts.headers) {
        return Err(Unusable::Encoding);
    }
    match age(&parts.headers) {
        0 => Ok(()),
        seconds => patch::age(content, seconds).map_err(Unusable::Message),
    }
}

/// How long ago the response was made, in seconds. What is no number says nothing, and of several the first
/// counts (RFC 9111 §5.1).
fn age(headers: &HeaderMap) -> u32 {
    let value = headers.get(AGE).map(|value| value.as_bytes().trim_ascii()).unwrap_or_default();
    let digits = value.split(|octet| *octet == b',').next().unwrap_or_default().trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    // One that is too large is the largest (RFC 9111 §1.2.2).
    let text = str::from_utf8(digits).unwrap_or_default();
    text.parse().unwrap_or(u32::MAX)
}

/// Why a response has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unusable {
    /// A status other than 2xx (RFC 8484 §4.2.1).
    Status(StatusCode),
    /// Another media type than a DNS message's, or none.
    MediaType,
    /// Content that is coded, which nobody asked for (RFC 9110 §8.4).
    Encoding,
    /// Content that is no DNS message, and has been in a cache.
    Message(DecodeError),
}

impl Unusable {
    /// A lower-case, stable name for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::MediaType => "media_type",
            Self::Encoding => "encoding",
            Self::Message(error) => error.label(),
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status is {}", status.as_u16()),
            Self::MediaType => write!(f, "content-type is not {MEDIA_TYPE}"),
            Self::Encoding => f.write_str("content is coded"),
            Self::Message(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unusable {}
