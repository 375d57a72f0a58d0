//! What the client's side promises.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the helpers fail the test")]

use codec_dns::{DecodeError, decode};
use dns_doh::MEDIA_TYPE;
use dns_doh::client::{Unusable, request, response};
use http::response::Parts;
use http::{Method, Response, StatusCode};
use proptest::prelude::*;

/// Of RFC 8484 §4.2.2, with the TTL of the example in §5.1.
const ANSWER: &[u8] = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\x03www\x07example\x03com\0\0\x1c\0\x01\
                        \xc0\x0c\0\x1c\0\x01\0\0\x02\x58\0\x10\
                        \x20\x01\x0d\xb8\xab\xcd\0\x12\0\x01\0\x02\0\x03\0\x04";

fn parts(status: u16, headers: &[(&str, &str)]) -> Parts {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap().into_parts().0
}

fn ttl(headers: &[(&str, &str)]) -> u32 {
    let mut answer = ANSWER.to_vec();
    let headers = [&[("content-type", MEDIA_TYPE)], headers].concat();
    response(&parts(200, &headers), &mut answer).unwrap();
    decode(&answer).unwrap().answers().next().unwrap().ttl
}

#[test]
fn a_request_is_a_post_of_a_message_for_a_message() {
    let request = request("https://dnsserver.example.net/dns-query".parse().unwrap());
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), "https://dnsserver.example.net/dns-query");
    assert_eq!(request.headers()["content-type"], MEDIA_TYPE);
    assert_eq!(request.headers()["accept"], MEDIA_TYPE);
}

#[test]
fn the_age_of_a_response_is_taken_off_its_ttls() {
    assert_eq!(ttl(&[]), 600);
    assert_eq!(ttl(&[("age", "250")]), 350);
    assert_eq!(ttl(&[("age", " 600 ")]), 0);
    assert_eq!(ttl(&[("age", "99999999999999999999")]), 0);
    assert_eq!(ttl(&[("age", "100, 200")]), 500);
    assert_eq!(ttl(&[("age", "100"), ("age", "200")]), 500);
    for no_number in ["", "-1", "+1", "1.5", "a", "0", "\u{e9}"] {
        assert_eq!(ttl(&[("age", no_number)]), 600, "{no_number}");
    }
}

#[test]
fn every_successful_status_has_an_answer() {
    for status in [200, 203, 299] {
        let headers = [("content-type", "application/DNS-message; x=y")];
        assert_eq!(response(&parts(status, &headers), &mut ANSWER.to_vec()), Ok(()));
    }
}

#[test]
fn what_is_no_answer_is_told_apart() {
    let message = ("content-type", MEDIA_TYPE);
    let status = |status| Unusable::Status(StatusCode::from_u16(status).unwrap());
    for (parts, content, unusable) in [
        (parts(404, &[message]), ANSWER, status(404)),
        (parts(302, &[message]), ANSWER, status(302)),
        (parts(503, &[]), b"", status(503)),
        (parts(200, &[]), ANSWER, Unusable::MediaType),
        (parts(200, &[("content-type", "text/html")]), ANSWER, Unusable::MediaType),
        (parts(200, &[message, ("content-encoding", "br")]), ANSWER, Unusable::Encoding),
        (
            parts(200, &[message, ("age", "1")]),
            &ANSWER[..11],
            Unusable::Message(DecodeError::HeaderTruncated(11)),
        ),
    ] {
        assert_eq!(response(&parts, &mut content.to_vec()), Err(unusable));
        assert!(!unusable.label().is_empty() && !unusable.to_string().is_empty());
    }
}

proptest! {
    #[test]
    fn whatever_a_server_sends_is_looked_at(
        status in 100..600_u16,
        media_type in "application/dns-message[ -~]{0,5}|[ -~]{0,9}",
        age in "[0-9]{1,12}|[ -~]{0,9}",
        mut content in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let headers = [("content-type", &*media_type), ("age", &*age)];
        let before = content.clone();
        if response(&parts(status, &headers), &mut content).is_err() {
            prop_assert_eq!(content, before);
        }
    }
}
