//! DNS over HTTPS, both sides: any request a client can make, any response a server can, and header values of any octets.
#![no_main]

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use codec_dns::{decode, header};
use dns_doh::client;
use dns_doh::server::{self, Audience, Endpoint};
use entry_points_fuzz::Choices;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use libfuzzer_sys::fuzz_target;

const METHODS: [Method; 5] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::CONNECT];

const NAMES: [HeaderName; 5] = [
    http::header::CONTENT_TYPE,
    http::header::CONTENT_ENCODING,
    http::header::AGE,
    http::header::ACCEPT,
    http::header::CACHE_CONTROL,
];

const VALUES: [&[u8]; 10] = [
    b"application/dns-message",
    b"Application/DNS-Message ; x=\"y\"",
    b"application/dns-messageX",
    b"identity",
    b"gzip",
    b"3600",
    b"99999999999999999999",
    b" 7 , 8",
    b"-1",
    b"\xff\t",
];

fn value(choices: &mut Choices<'_>) -> Option<HeaderValue> {
    let octets = match choices.below(12) {
        10.. => choices.octets(40),
        n => VALUES[n],
    };
    HeaderValue::from_bytes(octets).ok()
}

fuzz_target!(|octets: &[u8]| {
    let mut choices = Choices::new(octets);
    let method = METHODS[choices.below(METHODS.len())].clone();
    let mut headers = Vec::new();
    for _ in 0..choices.below(4) {
        let name = NAMES[choices.below(NAMES.len())].clone();
        headers.extend(value(&mut choices).map(|value| (name, value)));
    }
    let limit = choices.one_of(&[12, 40, 512, 4096]);
    let endpoint = Endpoint { path: Some("/dns-query"), max_message_size: limit };
    let form = choices.below(6);
    let content = choices.rest();
    let encoded = BASE64_URL_SAFE_NO_PAD.encode(content);
    let text = String::from_utf8_lossy(content);
    let uri = match form {
        0 => "http://x/dns-query".to_owned(),
        1 => format!("http://x/dns-query?dns={encoded}"),
        2 => format!("http://x/dns-query?a&dns={encoded}&dns="),
        3 => format!("http://x/dns-query?{text}"),
        4 => format!("http://x{text}"),
        _ => format!("/dns-query?dns={encoded}="),
    };
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in &headers {
        request = request.header(name, value);
    }
    if let Ok(request) = request.body(()) {
        let (parts, ()) = request.into_parts();
        match server::request(&parts, content, &endpoint) {
            Ok(query) => {
                assert!(query.len() <= limit && parts.uri.path() == "/dns-query");
                assert!(!header(&query).expect("a header").flags.is_response());
                if parts.method == Method::POST {
                    assert_eq!(*query, *content);
                } else if form == 1 {
                    assert_eq!(*query, *content, "base64url there and back");
                }
            }
            Err(failure) => {
                let response = failure.response();
                assert!(response.status().is_client_error() && !response.body().is_empty());
                assert!(!failure.label().is_empty());
            }
        }
    }

    let mut response = Response::builder().status([200, 204, 302, 404, 500][form % 5]);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let (parts, ()) = response.body(()).expect("valid").into_parts();
    let mut answer = content.to_vec();
    let before = decode(content).is_ok();
    match client::response(&parts, &mut answer) {
        Ok(()) => {
            assert!(parts.status.is_success() && answer.len() == content.len());
            assert_eq!(decode(&answer).is_ok(), before, "ageing changes TTLs only");
        }
        Err(unusable) => assert!(!unusable.label().is_empty() && !unusable.to_string().is_empty()),
    }
    if let Ok(message) = decode(content) {
        for audience in [Audience::All, Audience::One] {
            let response = server::response(&message, audience);
            assert!(response.headers().contains_key("cache-control"));
        }
    }
});
