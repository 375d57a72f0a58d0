//! What the server's side promises.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the helpers fail the test")]

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use codec_dns::{
    Builder, Class, Flags, Name, NameBuf, Question, Rcode, RecordData, RecordType, Section, Soa,
    decode,
};
use dns_doh::server::{Audience, Endpoint, Failure, freshness, request, response};
use dns_doh::{DEFAULT_PATH, MEDIA_TYPE};
use http::header::{ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use proptest::prelude::*;

const ENDPOINT: Endpoint<'static> = Endpoint { path: Some(DEFAULT_PATH), max_message_size: 512 };

/// `www.example.com`, type A, of RFC 8484 §4.1.1.
const QUERY: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
const QUERY_TEXT: &str = "AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";

fn parts(method: &Method, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn get(target: &str) -> Result<Vec<u8>, Failure> {
    request(&parts(&Method::GET, target, &[]), b"", &ENDPOINT).map(Cow::into_owned)
}

fn post(media_type: &str, content: &[u8]) -> Result<Vec<u8>, Failure> {
    let parts = parts(&Method::POST, DEFAULT_PATH, &[("content-type", media_type)]);
    request(&parts, content, &ENDPOINT).map(Cow::into_owned)
}

#[test]
fn the_requests_of_the_standard_are_read() {
    let accept = [("accept", MEDIA_TYPE)];
    let target = format!("https://dnsserver.example.net/dns-query?dns={QUERY_TEXT}");
    let query = request(&parts(&Method::GET, &target, &accept), b"", &ENDPOINT);
    assert_eq!(query.unwrap(), QUERY);
    assert_eq!(post(MEDIA_TYPE, QUERY).unwrap(), QUERY);
    let long = get("/dns-query?dns=AAABAAABAAAAAAAAAWE-NjJjaGFyYWN0ZXJsYWJl\
         bC1tYWtlcy1iYXNlNjR1cmwtZGlzdGluY3QtZnJvbS1z\
         dGFuZGFyZC1iYXNlNjQHZXhhbXBsZQNjb20AAAEAAQ")
    .unwrap();
    assert_eq!(long.len(), 94);
    assert_eq!(
        decode(&long).unwrap().question().unwrap().name.to_string(),
        "a.62characterlabel-makes-base64url-distinct-from-standard-base64.example.com."
    );
}

#[test]
fn head_is_as_get() {
    let parts = parts(&Method::HEAD, &format!("/dns-query?dns={QUERY_TEXT}"), &[]);
    assert_eq!(request(&parts, b"", &ENDPOINT).unwrap(), QUERY);
}

#[test]
fn other_parameters_and_the_content_of_a_get_make_no_difference() {
    for target in [
        format!("/dns-query?dns={QUERY_TEXT}&ct=application/dns-json"),
        format!("/dns-query?a&&xdns=1&DNS=2&dns={QUERY_TEXT}&"),
    ] {
        let parts = parts(&Method::GET, &target, &[("content-type", "text/plain")]);
        assert_eq!(request(&parts, b"content", &ENDPOINT).unwrap(), QUERY, "{target}");
    }
}

#[test]
fn a_media_type_has_any_case_and_any_parameters() {
    for media_type in ["Application/DNS-Message", "application/dns-message ; charset=\"a;b\"; x"] {
        assert_eq!(post(media_type, QUERY).unwrap(), QUERY);
    }
    let endpoint = Endpoint { path: None, ..ENDPOINT };
    let headers = [("content-type", MEDIA_TYPE), ("content-encoding", "Identity")];
    let parts = parts(&Method::POST, "/any?dns=no", &headers);
    assert_eq!(request(&parts, QUERY, &endpoint).unwrap(), QUERY);
}

#[test]
fn what_is_no_query_is_refused_with_the_status_that_says_why() {
    let mut answer = QUERY.to_vec();
    answer[2] |= 0x80;
    let answer_text = BASE64URL.encode(&answer);
    let too_long = BASE64URL.encode([0; 513]);
    let method = |name: &[u8]| {
        let method = Method::from_bytes(name).unwrap();
        let parts = parts(&method, "/dns-query", &[("content-type", MEDIA_TYPE)]);
        request(&parts, QUERY, &ENDPOINT).map(Cow::into_owned)
    };
    let encoded = {
        let headers = [("content-type", MEDIA_TYPE), ("content-encoding", "gzip")];
        request(&parts(&Method::POST, "/dns-query", &headers), QUERY, &ENDPOINT)
            .map(Cow::into_owned)
    };
    let twice = {
        let headers = [("content-type", MEDIA_TYPE), ("content-type", MEDIA_TYPE)];
        request(&parts(&Method::POST, "/dns-query", &headers), QUERY, &ENDPOINT)
            .map(Cow::into_owned)
    };
    let untyped =
        request(&parts(&Method::POST, "/dns-query", &[]), QUERY, &ENDPOINT).map(Cow::into_owned);
    for (result, failure, status) in [
        (get("/"), Failure::Path, 404),
        (get(&format!("/dns-query/?dns={QUERY_TEXT}")), Failure::Path, 404),
        (method(b"PUT"), Failure::Method, 405),
        (method(b"get"), Failure::Method, 405),
        (method(b"OPTIONS"), Failure::Method, 405),
        (get("/dns-query"), Failure::Missing, 400),
        (get("/dns-query?"), Failure::Missing, 400),
        (get("/dns-query?dns"), Failure::Missing, 400),
        (get("/dns-query?name=example.com&type=A"), Failure::Missing, 400),
        (get(&format!("/dns-query?dns={QUERY_TEXT}&dns={QUERY_TEXT}")), Failure::Repeated, 400),
        (get("/dns-query?dns=AAAB="), Failure::Base64, 400),
        (get("/dns-query?dns=AA%41B"), Failure::Base64, 400),
        (get("/dns-query?dns=AA+/"), Failure::Base64, 400),
        (get("/dns-query?dns=AAB"), Failure::Base64, 400),
        (get("/dns-query?dns="), Failure::TooShort(0), 400),
        (get("/dns-query?dns=AAAB"), Failure::TooShort(3), 400),
        (get(&format!("/dns-query?dns={answer_text}")), Failure::IsResponse, 400),
        (get(&format!("/dns-query?dns={too_long}")), Failure::UriTooLong { limit: 512 }, 414),
        (post("application/dns-json", QUERY), Failure::MediaType, 415),
        (post("application/dns-message2", QUERY), Failure::MediaType, 415),
        (post("", QUERY), Failure::MediaType, 415),
        (untyped, Failure::MediaType, 415),
        (twice, Failure::MediaType, 415),
        (encoded, Failure::Encoding, 415),
        (post(MEDIA_TYPE, &[0; 513]), Failure::TooLarge { len: 513, limit: 512 }, 413),
        (post(MEDIA_TYPE, &QUERY[..11]), Failure::TooShort(11), 400),
        (post(MEDIA_TYPE, &answer), Failure::IsResponse, 400),
    ] {
        assert_eq!(result, Err(failure));
        assert_eq!(failure.status().as_u16(), status, "{failure}");
        assert!(!failure.label().is_empty());
        let response = failure.response();
        assert_eq!(response.status(), failure.status());
        assert_eq!(*response.body(), failure.to_string());
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
    }
    assert_eq!(Failure::Method.response().headers()[ALLOW], "GET, HEAD, POST");
    assert_eq!(Failure::MediaType.response().headers()[ACCEPT], MEDIA_TYPE);
    assert_eq!(Failure::Encoding.response().headers()[ACCEPT_ENCODING], "identity");
}

#[test]
fn a_query_of_just_the_limit_is_read() {
    let query = [QUERY, &[0; 512 - QUERY.len()]].concat();
    assert_eq!(post(MEDIA_TYPE, &query).unwrap(), query);
    assert_eq!(get(&format!("/dns-query?dns={}", BASE64URL.encode(&query))).unwrap(), query);
    for limit in 12..40 {
        let text = BASE64URL.encode(vec![0; limit]);
        let parts = parts(&Method::GET, &format!("/?dns={text}"), &[]);
        let within = Endpoint { path: None, max_message_size: limit };
        assert!(request(&parts, b"", &within).is_ok());
        let limit = limit - 1;
        let above = Endpoint { path: None, max_message_size: limit };
        assert_eq!(request(&parts, b"", &above), Err(Failure::UriTooLong { limit }));
    }
}

#[test]
fn the_response_of_the_standard_is_made() {
    let message = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\x03www\x07example\x03com\0\0\x1c\0\x01\
                    \xc0\x0c\0\x1c\0\x01\0\0\x0e\x7d\0\x10\
                    \x20\x01\x0d\xb8\xab\xcd\0\x12\0\x01\0\x02\0\x03\0\x04";
    assert_eq!(message.len(), 61);
    let message = decode(message).unwrap();
    let response_ = response(&message, Audience::All);
    assert_eq!(response_.status(), StatusCode::OK);
    assert_eq!(response_.headers()[CONTENT_TYPE], MEDIA_TYPE);
    assert_eq!(response_.headers()[CACHE_CONTROL], "max-age=3709");
    assert!(!response_.headers().contains_key(CONTENT_ENCODING));
    let private = response(&message, Audience::One);
    assert_eq!(private.headers()[CACHE_CONTROL], "private, max-age=3709");
}

/// A response with addresses of these TTLs, and an SOA record of this TTL and MINIMUM.
fn answer(rcode: Rcode, flags: Flags, ttls: &[u32], soa: Option<(u32, u32)>) -> Vec<u8> {
    let mut out = [0; 512];
    let mut builder = Builder::new(&mut out, 0, flags.with(Flags::QR)).unwrap();
    builder.set_rcode(rcode);
    let name: NameBuf = "www.example".parse().unwrap();
    let name = name.as_name();
    let question = Question { name, record_type: RecordType::A, class: Class::IN };
    builder.question(&question).unwrap();
    for ttl in ttls {
        let data = RecordData::A([192, 0, 2, 1].into());
        builder.record(Section::Answer, name, Class::IN, *ttl, &data).unwrap();
    }
    if let Some((ttl, minimum)) = soa {
        let (serial, refresh, retry, expire) = (1, 1, 1, 1);
        let (mname, rname) = (Name::ROOT, Name::ROOT);
        let soa = RecordData::Soa(Soa { mname, rname, serial, refresh, retry, expire, minimum });
        builder.record(Section::Authority, name, Class::IN, ttl, &soa).unwrap();
    }
    // Not of the answer section.
    let data = RecordData::A([192, 0, 2, 2].into());
    builder.record(Section::Additional, name, Class::IN, 1, &data).unwrap();
    let len = builder.finish().unwrap();
    out[..len].to_vec()
}

#[test]
fn a_response_is_fresh_as_long_as_its_answer() {
    let none = Flags(0);
    let (ok, nxdomain) = (Rcode::NOERROR, Rcode::NXDOMAIN);
    for (message, seconds) in [
        // The example of RFC 8484 §5.1.
        (answer(ok, none, &[30, 600, 300], None), Some(30)),
        (answer(ok, none, &[0, 600], None), Some(0)),
        // RFC 2181 §8.
        (answer(ok, none, &[600, 0x8000_0000], None), Some(0)),
        (answer(ok, none, &[0x7fff_ffff], None), Some(0x7fff_ffff)),
        // RFC 2308 §5.
        (answer(ok, none, &[], Some((3600, 60))), Some(60)),
        (answer(nxdomain, none, &[], Some((60, 3600))), Some(60)),
        (answer(nxdomain, none, &[], Some((u32::MAX, 3600))), Some(0)),
        (answer(nxdomain, none, &[300], Some((3600, 60))), Some(60)),
        (answer(nxdomain, none, &[30], Some((3600, 60))), Some(30)),
        // Nothing says how long.
        (answer(ok, none, &[], None), None),
        (answer(nxdomain, none, &[], None), None),
        // Not data of the DNS.
        (answer(ok, Flags::TC, &[30], None), None),
        (answer(Rcode::SERVFAIL, none, &[30], Some((60, 60))), None),
        (answer(Rcode::REFUSED, none, &[], None), None),
    ] {
        let message = decode(&message).unwrap();
        assert_eq!(freshness(&message), seconds, "{message:?}");
        let cache_control = match seconds {
            Some(seconds) => format!("max-age={seconds}"),
            None => "no-store".to_owned(),
        };
        let response = response(&message, Audience::All);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CACHE_CONTROL], cache_control);
    }
}

fn method() -> impl Strategy<Value = Method> {
    let methods = vec![Method::GET, Method::HEAD, Method::POST, Method::PUT];
    proptest::sample::select(methods)
}

proptest! {
    #[test]
    fn whatever_a_client_sends_is_a_query_or_a_failure(
        method in method(),
        target in "/[!-\"$-;=?-z&]{0,9}(dns-query)?([?]([&=%-]|dns=|[A-Za-z0-9_-]){0,40})?",
        media_type in "[ -~]{0,30}|application/dns-message[ -~]{0,5}",
        content in proptest::collection::vec(any::<u8>(), 0..40),
        max_message_size in 0..40_usize,
    ) {
        let parts = Request::builder().method(method).uri(target).header("content-type", media_type);
        if let Ok(request_) = parts.body(()) {
            let endpoint = Endpoint { path: None, max_message_size };
            match request(&request_.into_parts().0, &content, &endpoint) {
                Ok(query) => prop_assert!((12..=max_message_size).contains(&query.len())),
                Err(failure) => prop_assert!(failure.status().is_client_error()),
            }
        }
    }

    #[test]
    fn what_a_client_asks_by_get_is_what_it_asks_by_post(
        mut message in proptest::collection::vec(any::<u8>(), 12..512),
    ) {
        message[2] &= 0x7f;
        let got = get(&format!("/dns-query?dns={}", BASE64URL.encode(&message)));
        prop_assert_eq!(got.as_ref(), Ok(&message));
        prop_assert_eq!(post(MEDIA_TYPE, &message), got);
    }
}
