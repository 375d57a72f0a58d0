//! Requests (RFC 8075 §5, §6; RFC 7252 §10).
//!
//! | CoAP | HTTP |
//! |---|---|
//! | 0.01 to 0.04 | `GET`, `POST`, `PUT`, `DELETE` |
//! | 0.06 PATCH | `PATCH` |
//! | 0.05 FETCH, 0.07 iPATCH | `FETCH`, `iPATCH` |
//! | Uri-Host, Uri-Port | the authority |
//! | Uri-Path, Uri-Query | the path and the query |
//! | Content-Format, Accept | `content-type` and `content-encoding`, `accept` |
//! | ETag | `if-none-match`, in `GET` and `FETCH` |
//! | If-Match, If-None-Match | `if-match`, `if-none-match: *` |
//!
//! HTTP has no FETCH and no iPATCH (RFC 8132). They keep their names, as methods of their own:
//! `POST` for both would lose that one is safe and the other idempotent, and routes and policies
//! could not tell them from a POST.

use codec_coap::{Code, OptionNumber, OptionValue, Options};
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};

use crate::format::{self, Accept};
use crate::path::{self, PathError};
use crate::{OptionSet, etag};

/// CoAP's port, which an authority need not name (RFC 7252 §6.1).
const COAP_PORT: u16 = 5683;

/// The most bytes that the options of one request may take: no more than a block of its content
/// does. More are refused with 414.
pub const MAX_OPTIONS_SIZE: usize = 1024;

/// What one [`to_http`] does not map because it is a matter of the hop, and must not be refused
/// either.
const HOP: [OptionNumber; 2] = [OptionNumber::BLOCK1, OptionNumber::BLOCK2];

/// Why a CoAP request has no HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToHttpError {
    /// A method that is none of RFC 7252 and RFC 8132.
    UnknownMethod(Code),
    /// Proxy-Uri or Proxy-Scheme: it is for a forward-proxy (RFC 7252 §5.10.2).
    ForwardProxy,
    /// A critical option that HTTP cannot express (RFC 7252 §5.4.1).
    BadOption(OptionNumber),
    /// A Uri-Host that is neither a plain host name nor an IP address.
    InvalidHost,
    /// A path and query of more than 65,534 bytes.
    PathTooLong,
}

impl ToHttpError {
    /// The response code that the request deserves.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::UnknownMethod(_) => Code::METHOD_NOT_ALLOWED,
            Self::ForwardProxy => Code::PROXYING_NOT_SUPPORTED,
            Self::BadOption(_) => Code::BAD_OPTION,
            Self::InvalidHost | Self::PathTooLong => Code::BAD_REQUEST,
        }
    }

    /// A lower-case, stable name for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownMethod(_) => "unknown_method",
            Self::ForwardProxy => "forward_proxy",
            Self::BadOption(_) => "bad_option",
            Self::InvalidHost => "invalid_host",
            Self::PathTooLong => "path_too_long",
        }
    }
}

impl std::fmt::Display for ToHttpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownMethod(code) => write!(f, "method {code} is unknown"),
            Self::ForwardProxy => f.write_str("request is for a forward-proxy"),
            Self::BadOption(number) => write!(f, "option {number} cannot be sent on"),
            Self::InvalidHost => f.write_str("Uri-Host is not a host name"),
            Self::PathTooLong => f.write_str("path is too long"),
        }
    }
}

impl std::error::Error for ToHttpError {}

/// The method of HTTP; none for a code that is no method this crate knows.
#[must_use]
pub fn method(code: Code) -> Option<Method> {
    Some(match code {
        Code::GET => Method::GET,
        Code::POST => Method::POST,
        Code::PUT => Method::PUT,
        Code::DELETE => Method::DELETE,
        Code::PATCH => Method::PATCH,
        Code::FETCH => Method::from_bytes(b"FETCH").ok()?,
        Code::IPATCH => Method::from_bytes(b"iPATCH").ok()?,
        _ => return None,
    })
}

/// The HTTP request that a CoAP request becomes: its header section.
///
/// A request without Uri-Host is for `default_authority`; a port is part of the authority where
/// Uri-Port names another than 5683. An ETag counts in GET and FETCH only, which it makes
/// conditional (RFC 7252 §5.10.6.2).
///
/// # Errors
/// [`ToHttpError`]
pub fn to_http(
    code: Code,
    options: &Options<'_>,
    default_authority: &Authority,
) -> Result<Request<()>, ToHttpError> {
    check_options(options)?;
    describe(code, options, default_authority)
}

/// As [`to_http`], for a request that goes on as it is and is only asked about: options that HTTP cannot express are
/// left out.
///
/// # Errors
/// [`ToHttpError`], but none for an option.
pub fn describe(
    code: Code,
    options: &Options<'_>,
    default_authority: &Authority,
) -> Result<Request<()>, ToHttpError> {
    let method = method(code).ok_or(ToHttpError::UnknownMethod(code))?;
    let path = path::from_options(options.uri_path(), options.uri_query());
    let uri = Uri::builder()
        .scheme("http")
        .authority(authority(options, default_authority)?)
        .path_and_query(path)
        .build()
        .map_err(|_| ToHttpError::PathTooLong)?;
    let mut request = Request::new(());
    let headers = request.headers_mut();
    if let Some(format) = options.content_format() {
        format::set(headers, format);
    }
    if let Some(format) = options.accept() {
        format::set_accept(headers, format);
    }
    if options.if_none_match() {
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
    } else if matches!(code, Code::GET | Code::FETCH)
        && let Some(tags) = etag::list(options.etags())
    {
        headers.insert(IF_NONE_MATCH, tags);
    }
    if options.if_match().any(<[u8]>::is_empty) {
        headers.insert(IF_MATCH, HeaderValue::from_static("*"));
    } else if let Some(tags) = etag::list(options.if_match()) {
        headers.insert(IF_MATCH, tags);
    }
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    Ok(request)
}

fn check_options(options: &Options<'_>) -> Result<(), ToHttpError> {
    for option in options.iter().filter(|option| option.number.is_critical()) {
        match option.number {
            OptionNumber::PROXY_URI | OptionNumber::PROXY_SCHEME => {
                return Err(ToHttpError::ForwardProxy);
            }
            OptionNumber::URI_HOST
            | OptionNumber::URI_PORT
            | OptionNumber::URI_PATH
            | OptionNumber::URI_QUERY
            | OptionNumber::IF_MATCH
            | OptionNumber::IF_NONE_MATCH
            | OptionNumber::ACCEPT => {}
            number if HOP.contains(&number) => {}
            number => return Err(ToHttpError::BadOption(number)),
        }
    }
    Ok(())
}

/// The authority that the options name, or the default. Nothing but a plain name or an IP address
/// may become one: `@`, `/` and the like would make it something else to whoever routes by it.
///
/// # Errors
/// [`ToHttpError::InvalidHost`]
pub fn authority(options: &Options<'_>, default: &Authority) -> Result<Authority, ToHttpError> {
    let Some(host) = options.uri_host() else { return Ok(default.clone()) };
    let mut text = host.as_str().to_ascii_lowercase();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text);
    if bare.parse::<std::net::Ipv6Addr>().is_ok() {
        text = format!("[{bare}]");
    } else if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
        return Err(ToHttpError::InvalidHost);
    }
    if let Some(port) = options.uri_port().filter(|port| *port != COAP_PORT) {
        text.push_str(&format!(":{port}"));
    }
    Authority::try_from(text).map_err(|_| ToHttpError::InvalidHost)
}

/// Why an HTTP request has no CoAP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FromHttpError {
    /// A method that CoAP does not have.
    UnknownMethod,
    /// A path or a query that is not percent-encoded UTF-8, or has a dot segment (RFC 7252
    /// §5.10.1).
    InvalidPath,
    /// A segment or an argument of more than 255 bytes, or more of all of it than
    /// [`MAX_OPTIONS_SIZE`].
    PathTooLong,
    /// A `content-type` or `content-encoding` without a Content-Format.
    UnsupportedContent,
    /// An `accept` that nothing with a Content-Format satisfies.
    NotAcceptable,
    /// An `if-match` with entity tags that no CoAP server has given out.
    NeverMatches,
    /// An `if-none-match` with entity tags on another method than GET, HEAD and FETCH: CoAP has no
    /// word for it.
    UnsupportedCondition,
}

impl FromHttpError {
    /// The status that the request deserves.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::UnknownMethod | Self::UnsupportedCondition => StatusCode::NOT_IMPLEMENTED,
            Self::InvalidPath => StatusCode::BAD_REQUEST,
            Self::PathTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedContent => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::NeverMatches => StatusCode::PRECONDITION_FAILED,
        }
    }

    /// What to tell a human.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::UnknownMethod => "CoAP has no such method",
            Self::InvalidPath => "the path or query cannot be sent over CoAP",
            Self::PathTooLong => "the path or query is too long for CoAP",
            Self::UnsupportedContent => "the content has no CoAP Content-Format",
            Self::NotAcceptable => "nothing acceptable has a CoAP Content-Format",
            Self::NeverMatches => "no entity tag in if-match is one of CoAP's",
            Self::UnsupportedCondition => "CoAP cannot make this method conditional on entity tags",
        }
    }
}

impl std::fmt::Display for FromHttpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for FromHttpError {}

/// The method of CoAP. HEAD is a GET of which the payload is not sent on (RFC 8075 §5).
#[must_use]
pub fn code(method: &Method) -> Option<Code> {
    Some(match method.as_str() {
        "GET" | "HEAD" => Code::GET,
        "POST" => Code::POST,
        "PUT" => Code::PUT,
        "DELETE" => Code::DELETE,
        "PATCH" => Code::PATCH,
        "FETCH" => Code::FETCH,
        "iPATCH" => Code::IPATCH,
        _ => return None,
    })
}

/// The CoAP request that an HTTP request becomes: its code and options, without Uri-Host and
/// Uri-Port, because to the CoAP server the request is for the address that it is sent to.
///
/// Headers that CoAP has no option for have no effect (RFC 8075 §5).
///
/// # Errors
/// [`FromHttpError`]
pub fn from_http(request: &Parts) -> Result<(Code, OptionSet), FromHttpError> {
    let code = code(&request.method).ok_or(FromHttpError::UnknownMethod)?;
    let mut options = OptionSet::new();
    let numbers = (OptionNumber::URI_PATH, OptionNumber::URI_QUERY);
    path::to_options(request.uri.path(), request.uri.query(), numbers, &mut options).map_err(
        |error| match error {
            PathError::Malformed => FromHttpError::InvalidPath,
            PathError::TooLong => FromHttpError::PathTooLong,
        },
    )?;
    let headers = &request.headers;
    if let Some(format) = format::of(headers).map_err(|_| FromHttpError::UnsupportedContent)? {
        options.push(OptionNumber::CONTENT_FORMAT, format);
    }
    match format::accept(headers) {
        Accept::Any => {}
        Accept::Format(format) => options.push(OptionNumber::ACCEPT, format),
        Accept::Nothing => return Err(FromHttpError::NotAcceptable),
    }
    conditions(code, headers, &mut options)?;
    if options.size() > MAX_OPTIONS_SIZE {
        return Err(FromHttpError::PathTooLong);
    }
    Ok((code, options))
}

fn conditions(
    code: Code,
    headers: &HeaderMap,
    options: &mut OptionSet,
) -> Result<(), FromHttpError> {
    if headers.contains_key(IF_MATCH) {
        if is_any(headers, &IF_MATCH) {
            options.push(OptionNumber::IF_MATCH, &b""[..]);
        } else {
            let mut known = false;
            for tag in values(headers, &IF_MATCH).flat_map(|list| etag::ours(list, true)) {
                options.push(OptionNumber::IF_MATCH, tag.as_bytes());
                known = true;
            }
            if !known {
                return Err(FromHttpError::NeverMatches);
            }
        }
    }
    if headers.contains_key(IF_NONE_MATCH) {
        let is_read = matches!(code, Code::GET | Code::FETCH);
        match (is_any(headers, &IF_NONE_MATCH), is_read) {
            (true, false) => options.push(OptionNumber::IF_NONE_MATCH, OptionValue::Empty),
            // "Nothing if it exists": there is no harm in getting it.
            (true, true) => {}
            (false, true) => {
                for tag in values(headers, &IF_NONE_MATCH).flat_map(|list| etag::ours(list, false))
                {
                    options.push(OptionNumber::ETAG, tag.as_bytes());
                }
            }
            (false, false) => return Err(FromHttpError::UnsupportedCondition),
        }
    }
    Ok(())
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

fn is_any(headers: &HeaderMap, name: &HeaderName) -> bool {
    values(headers, name).any(|value| value.trim() == "*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec_coap::{CoapOption, ContentFormat};
    use proptest::prelude::*;

    type N = OptionNumber;

    fn option<'a>(number: N, value: impl Into<OptionValue<'a>>) -> CoapOption<'a> {
        CoapOption::new(number, value)
    }

    fn http(code: Code, options: &[CoapOption<'_>]) -> Result<Request<()>, ToHttpError> {
        to_http(code, &Options::from(options), &Authority::from_static("coap"))
    }

    fn uri(options: &[CoapOption<'_>]) -> Result<String, ToHttpError> {
        http(Code::GET, options).map(|request| request.uri().to_string())
    }

    fn header<'a>(request: &'a Request<()>, name: &str) -> Option<&'a str> {
        request.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn methods_correspond() {
        for (number, name) in [
            (1, "GET"),
            (2, "POST"),
            (3, "PUT"),
            (4, "DELETE"),
            (5, "FETCH"),
            (6, "PATCH"),
            (7, "iPATCH"),
        ] {
            let request = http(Code(number), &[]).unwrap();
            assert_eq!(request.method().as_str(), name);
            assert_eq!(code(request.method()), Some(Code(number)));
        }
        assert_eq!(code(&Method::HEAD), Some(Code::GET));
        for method in ["OPTIONS", "TRACE", "CONNECT", "get", "IPATCH"] {
            assert_eq!(code(&method.parse().unwrap()), None, "{method}");
        }
        let error = http(Code(8), &[]).unwrap_err();
        assert_eq!(
            (error, error.code()),
            (ToHttpError::UnknownMethod(Code(8)), Code::METHOD_NOT_ALLOWED)
        );
    }

    #[test]
    fn the_options_of_the_uri_become_authority_path_and_query() {
        assert_eq!(uri(&[]).unwrap(), "http://coap/");
        let options = [
            option(N::URI_HOST, "Lamps.Example"),
            option(N::URI_PORT, 5684),
            option(N::URI_PATH, "a/b"),
            option(N::URI_PATH, "é"),
            option(N::URI_QUERY, "x=1&2"),
            option(N::URI_QUERY, "y"),
        ];
        assert_eq!(uri(&options).unwrap(), "http://lamps.example:5684/a%2Fb/%C3%A9?x=1%262&y");
        assert_eq!(uri(&[option(N::URI_PORT, 1)]).unwrap(), "http://coap/");
        let default_port = [option(N::URI_HOST, "::1"), option(N::URI_PORT, 5683)];
        assert_eq!(uri(&default_port).unwrap(), "http://[::1]/");
    }

    #[test]
    fn a_host_cannot_become_anything_but_a_host() {
        for host in
            ["a@b", "a:1", "a/b", "a b", "a?b", "a#b", "a%2eb", "a,b", "é", "[::1", "a\r\nb"]
        {
            assert_eq!(uri(&[option(N::URI_HOST, host)]), Err(ToHttpError::InvalidHost), "{host}");
        }
    }

    #[test]
    fn formats_and_conditions_become_headers() {
        let request = http(
            Code::PUT,
            &[
                option(N::IF_MATCH, &b"\x01"[..]),
                option(N::IF_MATCH, &b"\xab\xcd"[..]),
                option(N::ETAG, &b"\x02"[..]),
                option(N::CONTENT_FORMAT, ContentFormat::JSON),
                option(N::ACCEPT, ContentFormat(11_060)),
            ],
        )
        .unwrap();
        assert_eq!(header(&request, "if-match"), Some("\"01\", \"abcd\""));
        assert_eq!(header(&request, "if-none-match"), None);
        assert_eq!(header(&request, "content-type"), Some("application/json"));
        assert_eq!(header(&request, "accept"), Some("application/cbor"));
        assert_eq!(header(&request, "accept-encoding"), Some("deflate"));
        let get = http(Code::GET, &[option(N::ETAG, &b"\x02"[..]), option(N::ETAG, &b"\x03"[..])])
            .unwrap();
        assert_eq!(header(&get, "if-none-match"), Some("\"02\", \"03\""));
        let any = [option(N::IF_MATCH, &b""[..]), option(N::IF_NONE_MATCH, OptionValue::Empty)];
        let any = http(Code::PUT, &any).unwrap();
        assert_eq!(
            (header(&any, "if-match"), header(&any, "if-none-match")),
            (Some("*"), Some("*"))
        );
    }

    #[test]
    fn what_http_cannot_express_is_refused() {
        for (refused, code) in [
            (option(N::PROXY_URI, "coap://a"), Code::PROXYING_NOT_SUPPORTED),
            (option(N::PROXY_SCHEME, "http"), Code::PROXYING_NOT_SUPPORTED),
            (option(N::OSCORE, &b""[..]), Code::BAD_OPTION),
            (option(OptionNumber(65_001), &b""[..]), Code::BAD_OPTION),
        ] {
            assert_eq!(http(Code::GET, &[refused]).unwrap_err().code(), code);
        }
        let hop = [
            option(N::OBSERVE, 0),
            option(N::BLOCK2, 6),
            option(N::SIZE2, 0),
            option(OptionNumber(65_000), 1),
        ];
        assert_eq!(http(Code::GET, &hop).unwrap().headers().len(), 0);
        let segment = "é".repeat(127);
        let long: Vec<_> = (0..100).map(|_| option(N::URI_PATH, &*segment)).collect();
        assert_eq!(http(Code::GET, &long).unwrap_err(), ToHttpError::PathTooLong);
    }

    fn coap(
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Result<(Code, Vec<(u16, String)>), FromHttpError> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (code, options) = from_http(&request.body(()).unwrap().into_parts().0)?;
        let show = |value| match value {
            OptionValue::Empty => String::new(),
            OptionValue::Uint(value) => value.to_string(),
            OptionValue::String(text) => text.as_str().to_owned(),
            OptionValue::Opaque(bytes) => format!("{bytes:02x?}"),
        };
        let list = options.as_list();
        Ok((code, list.iter().map(|option| (option.number.0, show(option.value))).collect()))
    }

    #[test]
    fn an_http_request_becomes_a_coap_request() {
        let (code, options) = coap(
            "PUT",
            "http://device/a%20b/c?d=1&e",
            &[
                ("content-type", "application/cbor"),
                ("accept", "application/json"),
                ("if-none-match", "*"),
            ],
        )
        .unwrap();
        assert_eq!(code, Code::PUT);
        let expected =
            [(5, ""), (11, "a b"), (11, "c"), (12, "60"), (15, "d=1"), (15, "e"), (17, "50")];
        assert!(
            options.iter().map(|(number, value)| (*number, &**value)).eq(expected),
            "{options:?}"
        );
        let (_, options) =
            coap("HEAD", "/", &[("if-none-match", "\"01\", W/\"02\", \"zz\""), ("x-other", "y")])
                .unwrap();
        assert_eq!(options, [(4, "[01]".into()), (4, "[02]".into())]);
        let (_, options) = coap("POST", "/", &[("if-match", "\"01\", W/\"02\"")]).unwrap();
        assert_eq!(options, [(1, "[01]".into())]);
        let (_, options) = coap("DELETE", "/", &[("if-match", "*")]).unwrap();
        assert_eq!(options, [(1, "[]".into())]);
        assert_eq!(coap("GET", "/", &[("if-none-match", "*")]).unwrap().1, []);
    }

    #[test]
    fn what_coap_cannot_express_is_refused() {
        type E = FromHttpError;
        let long = format!("/{}", "a".repeat(256));
        let many = format!("/{}", "a/".repeat(200));
        for (method, uri, headers, error, status) in [
            ("OPTIONS", "/", &[][..], E::UnknownMethod, 501),
            ("GET", "/a/../b", &[], E::InvalidPath, 400),
            ("GET", "/%ff", &[], E::InvalidPath, 400),
            ("GET", &long, &[], E::PathTooLong, 414),
            ("GET", &many, &[], E::PathTooLong, 414),
            ("POST", "/", &[("content-type", "text/html")], E::UnsupportedContent, 415),
            (
                "POST",
                "/",
                &[("content-type", "application/json"), ("content-encoding", "br")],
                E::UnsupportedContent,
                415,
            ),
            ("GET", "/", &[("accept", "text/html")], E::NotAcceptable, 406),
            ("PUT", "/", &[("if-match", "\"foreign\"")], E::NeverMatches, 412),
            ("PUT", "/", &[("if-none-match", "\"01\"")], E::UnsupportedCondition, 501),
        ] {
            let refused = coap(method, uri, headers).unwrap_err();
            assert_eq!((refused, refused.status().as_u16()), (error, status));
        }
    }

    proptest! {
        #[test]
        fn any_datagram_gives_legal_requests_or_none(datagram in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut datagram = datagram;
            if let [first, code, ..] = &mut *datagram {
                *first = 0x40 | (*first & 0x33);
                *code &= 7;
            }
            if let Ok(message) = codec_coap::decode(&datagram)
                && let Ok(request) = to_http(message.code, &message.options, &Authority::from_static("coap"))
            {
                for (_, value) in request.headers() {
                    prop_assert!(value.to_str().is_ok_and(|value| value.bytes().all(|b| (32..127).contains(&b))));
                }
                let path = request.uri().path_and_query().unwrap().as_str();
                prop_assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(!path.contains("/../") && !path.contains('#'));
            }
        }

        #[test]
        fn any_header_values_give_options_that_can_be_encoded(
            path in "/[!-~]{0,40}",
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 5),
        ) {
            let mut request = Request::new(());
            if let Ok(uri) = path.parse() {
                *request.uri_mut() = uri;
            }
            let names = ["accept", "content-type", "content-encoding", "if-match", "if-none-match"];
            for (name, value) in names.into_iter().zip(&values) {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    request.headers_mut().insert(name, value);
                }
            }
            if let Ok((code, options)) = from_http(&request.into_parts().0) {
                let list = options.as_list();
                let message = codec_coap::Message {
                    code,
                    options: Options::from(&*list),
                    ..codec_coap::Message::empty(codec_coap::MessageType::Confirmable, 1)
                };
                let len = message.encoded_len();
                prop_assert!(len.is_ok_and(|len| len <= 4 + options.size()), "{:?}", len);
            }
        }
    }
}
