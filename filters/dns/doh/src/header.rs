//! Header fields of requests and responses alike.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::MEDIA_TYPE;

/// Whether the content is a DNS message by its one media type, whatever the parameters (RFC 9110 §8.3.1).
pub(crate) fn is_dns_message(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let media_type = value.as_bytes().split(|octet| *octet == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())
}

/// Whether the content is coded, compressed for example (RFC 9110 §8.4).
pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    values.any(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}
