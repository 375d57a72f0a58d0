//! Responses (RFC 8075 §7; RFC 7252 §10).
//!
//! From CoAP to HTTP, RFC 8075 table 2 with the codes of RFC 8132, RFC 8516 and RFC 8768:
//!
//! | CoAP | HTTP | |
//! |---|---|---|
//! | 2.01 | 201 | `location` from Location-Path and Location-Query |
//! | 2.02, 2.04 | 200, or 204 without a payload | |
//! | 2.03 | 304 | the client made the request conditional |
//! | 2.05, other 2.xx | 200 | |
//! | 4.00, 4.05, other 4.xx | 400 | 405 would have to say which methods are allowed (note 7) |
//! | 4.01, 4.03 | 403 | 401 would have to say how to authenticate (note 5) |
//! | 4.02 | 500 | what could not be understood was the gateway's (note 6) |
//! | 4.04, 4.06, 4.09, 4.12, 4.13, 4.15, 4.22 | 404, 406, 409, 412, 413, 415, 422 | |
//! | 4.29 | 429 | `retry-after` from Max-Age |
//! | 5.00, other 5.xx | 500 | |
//! | 5.01, 5.02, 5.04, 5.08 | 501, 502, 504, 508 | |
//! | 5.03 | 503 | `retry-after` from Max-Age |
//! | 2.31, 4.08, 5.05, anything else | 502 | they concern the gateway alone (notes 9, 10) |
//!
//! From HTTP to CoAP:
//!
//! | HTTP | CoAP | |
//! |---|---|---|
//! | 201 | 2.01 to POST, PUT, PATCH and iPATCH | Location-Path and Location-Query from `location` |
//! | other 2xx | 2.05, 2.04 or 2.02 by method | |
//! | 304 | 2.03 to GET and FETCH | |
//! | 1xx, other 3xx | 5.02 | |
//! | 400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422 | the same digits | |
//! | 407, 408 | 5.02, 5.04 | the client has no part in them |
//! | 410, 423, 428, 451 | 4.04, 4.09, 4.12, 4.03 | |
//! | 429 | 4.29 | Max-Age from `retry-after` |
//! | other 4xx | 4.00 | |
//! | 500, 501, 502, 504, 508 | the same digits | |
//! | 503 | 5.03 | Max-Age from `retry-after` |
//! | other 5xx | 5.00 | |

use codec_coap::{Code, ContentFormat, OptionNumber, Options};
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderName, LOCATION, RETRY_AFTER,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};

use crate::{OptionSet, etag, format, path, text};

/// How long a response without Max-Age is fresh, in seconds (RFC 7252 §5.10.5).
pub const DEFAULT_MAX_AGE: u32 = 60;

/// The longest location sent on, in bytes of options: a response with it is still one datagram.
const MAX_LOCATION_SIZE: usize = 512;

/// The HTTP status of a CoAP response; `has_payload` tells 200 and 204 apart.
#[must_use]
pub fn status(code: Code, has_payload: bool) -> StatusCode {
    match code {
        Code::CREATED => StatusCode::CREATED,
        Code::DELETED | Code::CHANGED if !has_payload => StatusCode::NO_CONTENT,
        Code::VALID => StatusCode::NOT_MODIFIED,
        Code::UNAUTHORIZED | Code::FORBIDDEN => StatusCode::FORBIDDEN,
        Code::BAD_OPTION => StatusCode::INTERNAL_SERVER_ERROR,
        Code::NOT_FOUND => StatusCode::NOT_FOUND,
        Code::NOT_ACCEPTABLE => StatusCode::NOT_ACCEPTABLE,
        Code::CONFLICT => StatusCode::CONFLICT,
        Code::PRECONDITION_FAILED => StatusCode::PRECONDITION_FAILED,
        Code::REQUEST_ENTITY_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UNSUPPORTED_CONTENT_FORMAT => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::UNPROCESSABLE_ENTITY => StatusCode::UNPROCESSABLE_ENTITY,
        Code::TOO_MANY_REQUESTS => StatusCode::TOO_MANY_REQUESTS,
        Code::NOT_IMPLEMENTED => StatusCode::NOT_IMPLEMENTED,
        Code::SERVICE_UNAVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        Code::GATEWAY_TIMEOUT => StatusCode::GATEWAY_TIMEOUT,
        Code::HOP_LIMIT_REACHED => StatusCode::LOOP_DETECTED,
        Code::CONTINUE
        | Code::REQUEST_ENTITY_INCOMPLETE
        | Code::BAD_GATEWAY
        | Code::PROXYING_NOT_SUPPORTED => StatusCode::BAD_GATEWAY,
        code => match code.class() {
            2 => StatusCode::OK,
            4 => StatusCode::BAD_REQUEST,
            5 => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        },
    }
}

/// The HTTP response that a CoAP response becomes: its header section. The content is the payload
/// as it is, but for a 304, which has none.
///
/// `cache-control` says how long a 200 to a GET or a 304 is fresh: 60 seconds where Max-Age is left
/// out. A diagnostic payload is `text/plain` (RFC 7252 §5.5.2); any other payload without a
/// Content-Format is `application/octet-stream`, so that nobody takes it for something else.
#[must_use]
pub fn to_http(code: Code, options: &Options<'_>, payload: &[u8]) -> Response<()> {
    let mut response = Response::new(());
    let status = status(code, !payload.is_empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status != StatusCode::NOT_MODIFIED {
        match options.content_format() {
            Some(format) => format::set(headers, format),
            None if payload.is_empty() => {}
            None if code.class() != 2 && str::from_utf8(payload).is_ok() => {
                format::set(headers, ContentFormat::TEXT_PLAIN);
            }
            None => format::set(headers, ContentFormat::OCTET_STREAM),
        }
    }
    if let Some(tag) = options.etags().next() {
        headers.insert(ETAG, etag::to_http(tag));
    }
    let max_age = options.max_age().unwrap_or(DEFAULT_MAX_AGE);
    match code {
        Code::CONTENT | Code::VALID => {
            if let Ok(value) = HeaderValue::try_from(format!("max-age={max_age}")) {
                headers.insert(CACHE_CONTROL, value);
            }
        }
        Code::SERVICE_UNAVAILABLE | Code::TOO_MANY_REQUESTS => {
            headers.insert(RETRY_AFTER, HeaderValue::from(max_age));
        }
        Code::CREATED => {
            if let Some(location) = location(options) {
                headers.insert(LOCATION, location);
            }
        }
        _ => {}
    }
    response
}

/// Where the created resource is, as a path of the same authority.
fn location(options: &Options<'_>) -> Option<HeaderValue> {
    let (path, query) = (options.location_path(), options.location_query());
    if path.clone().next().is_none() && query.clone().next().is_none() {
        return None;
    }
    // Two slashes in front would make the first segment an authority (RFC 3986 §4.2).
    let text = path::from_options(path, query);
    (!text.starts_with("//")).then(|| HeaderValue::try_from(text).ok()).flatten()
}

/// What the payload of a CoAP response is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// The content, as it is.
    Content,
    /// The content as a diagnostic text; see [`diagnostic`].
    Diagnostic,
    /// Nothing.
    None,
}

/// A CoAP response without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What the response is.
    pub code: Code,
    /// Its options.
    pub options: OptionSet,
    /// What its payload is made of.
    pub payload: Payload,
}

/// The code of the response to a request with this method, for an HTTP status.
#[must_use]
pub fn code(method: Code, status: StatusCode) -> Code {
    let is_read = matches!(method, Code::GET | Code::FETCH);
    match status.as_u16() {
        201 if !is_read && method != Code::DELETE => Code::CREATED,
        200..=299 if is_read => Code::CONTENT,
        200..=299 if method == Code::DELETE => Code::DELETED,
        200..=299 => Code::CHANGED,
        304 if is_read => Code::VALID,
        400 => Code::BAD_REQUEST,
        401 => Code::UNAUTHORIZED,
        403 | 451 => Code::FORBIDDEN,
        404 | 410 => Code::NOT_FOUND,
        405 => Code::METHOD_NOT_ALLOWED,
        406 => Code::NOT_ACCEPTABLE,
        408 => Code::GATEWAY_TIMEOUT,
        409 | 423 => Code::CONFLICT,
        412 | 428 => Code::PRECONDITION_FAILED,
        413 => Code::REQUEST_ENTITY_TOO_LARGE,
        415 => Code::UNSUPPORTED_CONTENT_FORMAT,
        422 => Code::UNPROCESSABLE_ENTITY,
        429 => Code::TOO_MANY_REQUESTS,
        0..=399 | 407 | 502 => Code::BAD_GATEWAY,
        402..=499 => Code::BAD_REQUEST,
        501 => Code::NOT_IMPLEMENTED,
        503 => Code::SERVICE_UNAVAILABLE,
        504 => Code::GATEWAY_TIMEOUT,
        508 => Code::HOP_LIMIT_REACHED,
        _ => Code::INTERNAL_SERVER_ERROR,
    }
}

/// The CoAP response that an HTTP response to a request with this method becomes, without its
/// payload.
///
/// Content of a media type without a Content-Format is sent on without that option. Of the location
/// of what was created, only one of the same `authority`, or one that is only a path, can be said
/// in CoAP.
#[must_use]
pub fn from_http(
    method: Code,
    status: StatusCode,
    headers: &HeaderMap,
    authority: Option<&Authority>,
) -> Head {
    let code = code(method, status);
    let mut options = OptionSet::new();
    let format = format::of(headers);
    let payload = match code.class() {
        2 if code == Code::VALID => Payload::None,
        2 => {
            if let Ok(Some(format)) = format {
                options.push(OptionNumber::CONTENT_FORMAT, format);
            }
            Payload::Content
        }
        // An error's own representation (RFC 9290 §2).
        _ if format == Ok(Some(ContentFormat::CONCISE_PROBLEM_DETAILS)) => {
            options.push(OptionNumber::CONTENT_FORMAT, ContentFormat::CONCISE_PROBLEM_DETAILS);
            Payload::Content
        }
        _ if is_plain_text(headers) => Payload::Diagnostic,
        _ => Payload::None,
    };
    if code.class() == 2
        && let Some(tag) = headers.get(ETAG).and_then(etag::from_http)
    {
        options.push(OptionNumber::ETAG, tag.as_bytes());
    }
    let max_age = match code {
        Code::CONTENT | Code::VALID => freshness(headers),
        Code::TOO_MANY_REQUESTS | Code::SERVICE_UNAVAILABLE => {
            first(headers, &RETRY_AFTER).and_then(text::seconds)
        }
        _ => None,
    };
    if let Some(max_age) = max_age.filter(|max_age| *max_age != DEFAULT_MAX_AGE) {
        options.push(OptionNumber::MAX_AGE, max_age);
    }
    if code == Code::CREATED
        && let Some(location) = headers.get(LOCATION)
    {
        push_location(location, authority, &mut options);
    }
    Head { code, options, payload }
}

/// Content that is text and not compressed.
fn is_plain_text(headers: &HeaderMap) -> bool {
    !headers.contains_key(http::header::CONTENT_ENCODING)
        && first(headers, &CONTENT_TYPE)
            .and_then(|media_type| media_type.get(..5))
            .is_some_and(|start| start.eq_ignore_ascii_case("text/"))
}

/// As much of an error's content as a diagnostic payload may have: UTF-8 text of at most `max`
/// bytes that ends with a whole character (RFC 7252 §5.5.2). Empty if the content is no such text.
#[must_use]
pub fn diagnostic(content: &[u8], max: usize) -> &[u8] {
    let cut = content.get(..max).unwrap_or(content);
    match str::from_utf8(cut) {
        Ok(_) => cut,
        // The last character was cut off, or had not arrived.
        Err(error) if error.error_len().is_none() => {
            cut.get(..error.valid_up_to()).unwrap_or_default()
        }
        Err(_) => &[],
    }
}

/// How many seconds a response is fresh for a cache that is shared (RFC 9111 §4.2.1); none if it
/// does not say.
fn freshness(headers: &HeaderMap) -> Option<u32> {
    let mut max_age = None;
    let mut s_maxage = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in text::split(value.to_str().unwrap_or("no-cache"), b',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let is = |known| name.trim().eq_ignore_ascii_case(known);
            // An unreadable number of seconds is none (RFC 9111 §4.2.1).
            let seconds = || Some(text::seconds(value.trim().trim_matches('"')).unwrap_or(0));
            if is("no-store") || is("no-cache") || is("private") {
                return Some(0);
            }
            if is("max-age") {
                max_age = max_age.min(seconds()).or_else(seconds);
            } else if is("s-maxage") {
                s_maxage = s_maxage.min(seconds()).or_else(seconds);
            }
        }
    }
    let age = first(headers, &AGE).and_then(text::seconds).unwrap_or(0);
    match s_maxage.or(max_age) {
        Some(lifetime) => Some(lifetime.saturating_sub(age)),
        // A date means nothing to who has no clock.
        None => headers.contains_key(EXPIRES).then_some(0),
    }
}

fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn push_location(location: &HeaderValue, authority: Option<&Authority>, options: &mut OptionSet) {
    let Some(uri) = location.to_str().ok().and_then(|text| {
        // `//name/path` names an authority, but does not parse as one.
        if text.starts_with("//") { None } else { text.parse::<Uri>().ok() }
    }) else {
        return;
    };
    let is_here = match uri.authority() {
        None => uri.path().starts_with('/'),
        Some(named) => uri.scheme().is_some() && authority == Some(named),
    };
    let numbers = (OptionNumber::LOCATION_PATH, OptionNumber::LOCATION_QUERY);
    let mut pushed = OptionSet::new();
    if is_here
        && path::to_options(uri.path(), uri.query(), numbers, &mut pushed).is_ok()
        && pushed.size() <= MAX_LOCATION_SIZE
    {
        for option in pushed.as_list() {
            options.push(option.number, option.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec_coap::{CoapOption, OptionValue};
    use proptest::prelude::*;

    type N = OptionNumber;

    fn option<'a>(number: N, value: impl Into<OptionValue<'a>>) -> CoapOption<'a> {
        CoapOption::new(number, value)
    }

    fn header<'a>(response: &'a Response<()>, name: &str) -> Option<&'a str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn a_code_becomes_the_status_of_the_table() {
        for (class, detail, status) in [
            (2, 1, 201),
            (2, 2, 204),
            (2, 3, 304),
            (2, 4, 204),
            (2, 5, 200),
            (2, 30, 200),
            (2, 31, 502),
            (4, 0, 400),
            (4, 1, 403),
            (4, 2, 500),
            (4, 3, 403),
            (4, 4, 404),
            (4, 5, 400),
            (4, 6, 406),
            (4, 8, 502),
            (4, 9, 409),
            (4, 12, 412),
            (4, 13, 413),
            (4, 15, 415),
            (4, 22, 422),
            (4, 29, 429),
            (4, 30, 400),
            (5, 0, 500),
            (5, 1, 501),
            (5, 2, 502),
            (5, 3, 503),
            (5, 4, 504),
            (5, 5, 502),
            (5, 8, 508),
            (5, 31, 500),
            (3, 0, 502),
            (0, 1, 502),
            (7, 1, 502),
        ] {
            assert_eq!(
                super::status(Code::new(class, detail), false),
                status,
                "{class}.{detail:02}"
            );
        }
        assert_eq!(status(Code::DELETED, true), 200);
        assert_eq!(status(Code::CHANGED, true), 200);
    }

    #[test]
    fn a_status_becomes_the_code_of_the_table() {
        for (status, class, detail) in [
            (100, 5, 2),
            (200, 2, 5),
            (201, 2, 5),
            (204, 2, 5),
            (206, 2, 5),
            (300, 5, 2),
            (301, 5, 2),
            (302, 5, 2),
            (304, 2, 3),
            (307, 5, 2),
            (400, 4, 0),
            (401, 4, 1),
            (402, 4, 0),
            (403, 4, 3),
            (404, 4, 4),
            (405, 4, 5),
            (406, 4, 6),
            (407, 5, 2),
            (408, 5, 4),
            (409, 4, 9),
            (410, 4, 4),
            (411, 4, 0),
            (412, 4, 12),
            (413, 4, 13),
            (414, 4, 0),
            (415, 4, 15),
            (416, 4, 0),
            (422, 4, 22),
            (423, 4, 9),
            (428, 4, 12),
            (429, 4, 29),
            (431, 4, 0),
            (451, 4, 3),
            (499, 4, 0),
            (500, 5, 0),
            (501, 5, 1),
            (502, 5, 2),
            (503, 5, 3),
            (504, 5, 4),
            (505, 5, 0),
            (508, 5, 8),
            (599, 5, 0),
            (999, 5, 0),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(code(Code::GET, status), Code::new(class, detail), "{status}");
        }
        for (method, status, expected) in [
            (Code::FETCH, 200, Code::CONTENT),
            (Code::FETCH, 304, Code::VALID),
            (Code::POST, 200, Code::CHANGED),
            (Code::POST, 201, Code::CREATED),
            (Code::PUT, 201, Code::CREATED),
            (Code::PUT, 204, Code::CHANGED),
            (Code::PATCH, 201, Code::CREATED),
            (Code::IPATCH, 200, Code::CHANGED),
            (Code::DELETE, 204, Code::DELETED),
            (Code::DELETE, 201, Code::DELETED),
            (Code::PUT, 304, Code::BAD_GATEWAY),
        ] {
            assert_eq!(code(method, StatusCode::from_u16(status).unwrap()), expected);
        }
    }

    #[test]
    fn options_of_a_response_become_headers() {
        let options = [
            option(N::ETAG, &b"\x0a"[..]),
            option(N::CONTENT_FORMAT, ContentFormat(11_050)),
            option(N::MAX_AGE, 5),
        ];
        let content = to_http(Code::CONTENT, &Options::from(&options), b"x");
        assert_eq!(content.status(), 200);
        assert_eq!(header(&content, "etag"), Some("\"0a\""));
        assert_eq!(header(&content, "content-type"), Some("application/json"));
        assert_eq!(header(&content, "content-encoding"), Some("deflate"));
        assert_eq!(header(&content, "cache-control"), Some("max-age=5"));
        let valid = to_http(Code::VALID, &Options::from(&options[..1]), b"");
        assert_eq!(header(&valid, "cache-control"), Some("max-age=60"));
        assert_eq!((valid.status().as_u16(), header(&valid, "etag")), (304, Some("\"0a\"")));
        for code in [Code::SERVICE_UNAVAILABLE, Code::TOO_MANY_REQUESTS] {
            let busy = to_http(code, &Options::from(&options[2..]), b"");
            assert_eq!(
                (header(&busy, "retry-after"), header(&busy, "cache-control")),
                (Some("5"), None)
            );
            assert_eq!(header(&to_http(code, &Options::EMPTY, b""), "retry-after"), Some("60"));
        }
    }

    #[test]
    fn a_payload_without_format_is_text_only_where_it_explains_an_error() {
        let media_type = |code, payload: &[u8]| {
            header(&to_http(code, &Options::EMPTY, payload), "content-type").map(str::to_owned)
        };
        assert_eq!(
            media_type(Code::NOT_FOUND, b"gone").as_deref(),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(
            media_type(Code::NOT_FOUND, b"\xff").as_deref(),
            Some("application/octet-stream")
        );
        assert_eq!(media_type(Code::CONTENT, b"<b>").as_deref(), Some("application/octet-stream"));
        assert_eq!(media_type(Code::CONTENT, b""), None);
    }

    #[test]
    fn a_created_resource_is_located_within_its_authority() {
        let created = |options: &[CoapOption<'_>]| {
            header(&to_http(Code::CREATED, &Options::from(options), b""), "location")
                .map(str::to_owned)
        };
        let path = |text| option(N::LOCATION_PATH, text);
        let query = option(N::LOCATION_QUERY, "a=b");
        assert_eq!(created(&[path("a b"), path("c"), query]).as_deref(), Some("/a%20b/c?a=b"));
        assert_eq!(created(&[query]).as_deref(), Some("/?a=b"));
        assert_eq!(created(&[path("\r\nx: y")]).as_deref(), Some("/%0D%0Ax:%20y"));
        assert_eq!(created(&[path(""), path("evil.example")]), None);
        assert_eq!(created(&[]), None);
    }

    fn head(method: Code, status: u16, list: &[(&'static str, &str)]) -> Head {
        let status = StatusCode::from_u16(status).unwrap();
        let headers = list
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        from_http(method, status, &headers, Some(&Authority::from_static("here:1")))
    }

    fn max_age(head: &Head) -> Option<u32> {
        Options::from(&*head.options.as_list()).max_age()
    }

    #[test]
    fn headers_of_a_response_become_options() {
        let head = head(
            Code::GET,
            200,
            &[
                ("content-type", "text/plain"),
                ("etag", "W/\"0a\""),
                ("cache-control", "max-age=10"),
            ],
        );
        let list = head.options.as_list();
        let options = Options::from(&*list);
        assert_eq!((head.code, head.payload), (Code::CONTENT, Payload::Content));
        assert_eq!(options.content_format(), Some(ContentFormat::TEXT_PLAIN));
        assert!(options.etags().eq([&[0x0a][..]]));
        assert_eq!(options.max_age(), Some(10));
    }

    #[test]
    fn freshness_is_what_is_left_of_it_for_a_shared_cache() {
        for (headers, expected) in [
            (&[][..], None),
            (&[("cache-control", "max-age=60")], None),
            (&[("cache-control", "public, Max-Age=\"70\"")], Some(70)),
            (&[("cache-control", "max-age=70, s-maxage=80"), ("age", "5")], Some(75)),
            (&[("cache-control", "max-age=70"), ("age", "100")], Some(0)),
            (&[("cache-control", "max-age=70, max-age=30")], Some(30)),
            (&[("cache-control", "max-age=9999999999")], Some(u32::MAX)),
            (&[("cache-control", "max-age=x")], Some(0)),
            (&[("cache-control", "max-age=70, no-store")], Some(0)),
            (&[("cache-control", "no-cache=\"a, b\"")], Some(0)),
            (&[("cache-control", "private")], Some(0)),
            (&[("expires", "Thu, 01 Dec 2033 16:00:00 GMT")], Some(0)),
        ] {
            assert_eq!(max_age(&head(Code::GET, 200, headers)), expected, "{headers:?}");
        }
        assert_eq!(max_age(&head(Code::PUT, 200, &[("cache-control", "max-age=5")])), None);
    }

    #[test]
    fn when_to_try_again_is_the_max_age_of_a_refusal() {
        for (status, value, expected) in [
            (429, "7", Some(7)),
            (503, "0", Some(0)),
            (503, "Fri, 31 Dec 1999 23:59:59 GMT", None),
            (404, "7", None),
        ] {
            assert_eq!(max_age(&head(Code::GET, status, &[("retry-after", value)])), expected);
        }
    }

    #[test]
    fn the_location_of_what_was_created_is_sent_on_if_it_is_here() {
        let location = |value: &str| {
            let head = head(Code::POST, 201, &[("location", value)]);
            let list = head.options.as_list();
            let options = Options::from(&*list);
            let path: Vec<_> =
                options.location_path().map(|text| text.as_str().to_owned()).collect();
            let query: Vec<_> =
                options.location_query().map(|text| text.as_str().to_owned()).collect();
            (path.join("/"), query.join("&"))
        };
        assert_eq!(location("/a%20b/c?d=e&f"), ("a b/c".into(), "d=e&f".into()));
        assert_eq!(location("http://here:1/a"), ("a".into(), String::new()));
        let long = format!("/{}", "a/".repeat(100));
        for elsewhere in ["http://there/a", "//there/a", "a", "here:1", "/../a", "", &long] {
            assert_eq!(location(elsewhere), Default::default(), "{elsewhere}");
        }
    }

    #[test]
    fn only_text_explains_an_error() {
        for (headers, expected) in [
            (&[("content-type", "text/plain")][..], Payload::Diagnostic),
            (&[("content-type", "TEXT/html; charset=utf-8")], Payload::Diagnostic),
            (&[("content-type", "text/plain"), ("content-encoding", "gzip")], Payload::None),
            (&[("content-type", "application/json")], Payload::None),
            (&[("content-type", "application/concise-problem-details+cbor")], Payload::Content),
            (&[], Payload::None),
        ] {
            assert_eq!(head(Code::GET, 404, headers).payload, expected, "{headers:?}");
        }
        assert_eq!(head(Code::GET, 304, &[("content-type", "text/plain")]).payload, Payload::None);
        assert_eq!(diagnostic("día".as_bytes(), 64), "día".as_bytes());
        assert_eq!(diagnostic("día".as_bytes(), 2), b"d");
        assert_eq!(diagnostic(b"a\xffb", 64), b"");
    }

    proptest! {
        #[test]
        fn any_datagram_gives_a_legal_response(datagram in proptest::collection::vec(any::<u8>(), 4..300)) {
            let mut datagram = datagram;
            datagram[0] = 0x40 | (datagram[0] & 0x33);
            datagram[1] = (2 + datagram[1] % 4) << 5 | (datagram[1] & 31);
            if let Ok(message) = codec_coap::decode(&datagram) {
                let response = to_http(message.code, &message.options, message.payload);
                prop_assert!(response.status().as_u16() >= 200);
                for (_, value) in response.headers() {
                    prop_assert!(value.to_str().is_ok_and(|value| value.bytes().all(|b| (32..127).contains(&b))));
                }
            }
        }

        #[test]
        fn any_headers_give_a_response_that_can_be_encoded(
            status in 100_u16..1000,
            method in 1_u8..8,
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 6),
        ) {
            let mut headers = HeaderMap::new();
            let names = ["content-type", "etag", "cache-control", "age", "retry-after", "location"];
            for (name, value) in names.into_iter().zip(&values) {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.insert(name, value);
                }
            }
            let head = from_http(Code(method), StatusCode::from_u16(status).unwrap(), &headers, None);
            let list = head.options.as_list();
            let message = codec_coap::Message {
                code: head.code,
                options: Options::from(&*list),
                ..codec_coap::Message::empty(codec_coap::MessageType::Acknowledgement, 1)
            };
            prop_assert!(message.encoded_len().is_ok());
        }
    }
}
