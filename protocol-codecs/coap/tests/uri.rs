//! URIs and options (RFC 7252 §6.4, §6.5), with the examples of the standard.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

use std::net::IpAddr;

use codec_coap::uri::{Host, Scheme, Uri, UriError, compose, path_and_query};
use codec_coap::{CoapOption, Code, Message, MessageType, OptionNumber as N, Options, decode};
use proptest::prelude::*;

const SOMEWHERE: &str = "192.0.2.7";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The options as host, port, path, query.
type Parts<'a> = (Option<&'a str>, Option<u16>, Vec<&'a str>, Vec<&'a str>);

fn parts<'a>(options: Options<'a>) -> Parts<'a> {
    (
        options.uri_host().map(|host| host.as_str()),
        options.uri_port(),
        options.uri_path().map(|text| text.as_str()).collect(),
        options.uri_query().map(|text| text.as_str()).collect(),
    )
}

/// RFC 7252 appendix B, and RFC 8323 §8.
#[test]
fn uris_become_options_and_options_uris() {
    let cases: [(&str, &str, u16, Parts<'_>); 8] = [
        ("coap://example.net/", SOMEWHERE, 5683, (Some("example.net"), None, vec![], vec![])),
        (
            "coap://example.net/.well-known/core",
            SOMEWHERE,
            5683,
            (Some("example.net"), None, vec![".well-known", "core"], vec![]),
        ),
        (
            "coap://xn--18j4d.example/%E3%81%93%E3%82%93%E3%81%AB%E3%81%A1%E3%81%AF",
            SOMEWHERE,
            5683,
            (Some("xn--18j4d.example"), None, vec!["こんにちは"], vec![]),
        ),
        (
            "coap://198.51.100.1:61616//%2F//?%2F%2F&?%26",
            "198.51.100.1",
            61_616,
            (None, None, vec!["", "/", "", ""], vec!["//", "?&"]),
        ),
        ("coap://[2001:db8::2:1]/", "2001:db8::2:1", 5683, (None, None, vec![], vec![])),
        ("coaps://a/b?c", SOMEWHERE, 5684, (Some("a"), None, vec!["b"], vec!["c"])),
        ("coap+tcp://a/b?", SOMEWHERE, 5683, (Some("a"), None, vec!["b"], vec![""])),
        ("coaps+ws://a/b//", SOMEWHERE, 443, (Some("a"), None, vec!["b", "", ""], vec![])),
    ];
    for (text, destination, port, expected) in cases {
        let destination = (ip(destination), port);
        let uri = Uri::parse(text).unwrap();
        assert_eq!(uri.port, port);
        for known in [None, Some(destination)] {
            let mut out = [0; 128];
            let options = uri.options(known, &mut out).unwrap();
            assert_eq!(parts(options), expected, "{text}");
            let mut out = [0; 128];
            let again = compose(uri.scheme, destination, &options, &mut out).unwrap();
            // The standard's own example has a question mark that need not be encoded.
            let canonical = text.replace("?%2F%2F&?%26", "?//&?%26");
            assert_eq!(again, canonical);
        }
    }
}

#[test]
fn what_the_destination_does_not_say_becomes_an_option() {
    let mut out = [0; 64];
    let uri = Uri::parse("COAP://[2001:DB8::1]:0061616?q").unwrap();
    assert_eq!(uri.host, Host::Ip(ip("2001:db8::1")));
    let options = uri.options(Some((ip(SOMEWHERE), 5683)), &mut out).unwrap();
    assert_eq!(parts(options), (Some("[2001:db8::1]"), Some(61_616), vec![], vec!["q"]));
    let mut out = [0; 64];
    let again = compose(Scheme::Coap, (ip(SOMEWHERE), 5683), &options, &mut out);
    assert_eq!(again, Ok("coap://[2001:db8::1]:61616/?q"));

    let mut out = [0; 64];
    let options = Uri::parse("coap://Ex%41MPLE%c3%a9?a").unwrap();
    let options = options.options(None, &mut out).unwrap();
    assert_eq!(parts(options), (Some("exampleé"), None, vec![], vec!["a"]));
}

#[test]
fn the_options_of_a_uri_can_be_sent() {
    let mut out = [0; 64];
    let options = Uri::parse("coap://h/a%20b?c").unwrap().options(None, &mut out).unwrap();
    let message =
        Message { code: Code::GET, options, ..Message::empty(MessageType::Confirmable, 1) };
    let mut bytes = [0; 64];
    let len = message.encode(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"\x40\x01\x00\x01\x31h\x83a b\x41c");
    assert_eq!(decode(&bytes[..len]), Ok(message));
    // The query alone is far enough from 0 for an extended delta.
    let mut out = [0; 64];
    let options = Uri::parse("coap://[::1]?c").unwrap().options(None, &mut out).unwrap();
    assert_eq!(parts(options), (None, None, vec![], vec!["c"]));
}

#[test]
fn the_path_as_http_writes_it() {
    let list = [
        CoapOption::new(N::URI_PATH, "a/b"),
        CoapOption::new(N::URI_PATH, "ü:@"),
        CoapOption::new(N::URI_QUERY, "x=1&2"),
        CoapOption::new(N::URI_QUERY, "\r\n"),
    ];
    let mut out = [0; 40];
    let path = path_and_query(&Options::from(&list), &mut out);
    assert_eq!(path, Ok("/a%2Fb/%C3%BC:@?x=1%262&%0D%0A"));
    assert_eq!(path_and_query(&Options::EMPTY, &mut out), Ok("/"));
    assert_eq!(path_and_query(&Options::EMPTY, &mut []), Err(UriError::BufferTooSmall));
}

#[test]
fn what_is_no_coap_uri_is_refused() {
    let long = format!("coap://h/{}", "a".repeat(256));
    for (text, error) in [
        ("http://h/", UriError::UnknownScheme),
        ("coap:h", UriError::UnknownScheme),
        ("coap:///a", UriError::InvalidHost),
        ("coap://[::1", UriError::InvalidHost),
        ("coap://[::1]x", UriError::InvalidHost),
        ("coap://[v1.x]/", UriError::InvalidHost),
        ("coap://user@h/", UriError::InvalidHost),
        ("coap://h:65536/", UriError::InvalidPort),
        ("coap://h:+1/", UriError::InvalidPort),
        ("coap://h/a#b", UriError::Fragment),
        ("coap://h/a b", UriError::InvalidCharacter(b' ')),
        ("coap://h/?é", UriError::InvalidCharacter(0xc3)),
        ("coap://h/%4", UriError::InvalidPercentEncoding),
        ("coap://h/%4g", UriError::InvalidPercentEncoding),
        ("coap://h/a/../b", UriError::DotSegment),
        ("coap://h/%2e", UriError::DotSegment),
        ("coap://h/%ff", UriError::InvalidUtf8),
        (&long, UriError::TooLong(N::URI_PATH)),
    ] {
        let mut out = [0; 512];
        let found = Uri::parse(text).and_then(|uri| uri.options(None, &mut out).map(|_| ()));
        assert_eq!(found, Err(error), "{text}");
        assert!(!error.label().is_empty() && !error.to_string().is_empty());
    }
    let uri = Uri::parse("coap://host/").unwrap();
    assert_eq!(uri.options(None, &mut [0; 4]), Err(UriError::BufferTooSmall));
}

fn text(most: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..most)
        .prop_map(|characters| characters.into_iter().collect())
}

proptest! {
    /// §6.5: composing and decomposing gives the same options, whatever is in them.
    #[test]
    fn options_survive_as_a_uri(
        host in "[a-z0-9.-]{1,20}",
        path in proptest::collection::vec(text(20), 0..5),
        query in proptest::collection::vec(text(20), 0..5),
    ) {
        prop_assume!(path != [""]);
        prop_assume!(!path.iter().any(|segment| segment == "." || segment == ".."));
        prop_assume!(host.parse::<IpAddr>().is_err());
        let mut list = vec![CoapOption::new(N::URI_HOST, host.as_str())];
        list.extend(path.iter().map(|segment| CoapOption::new(N::URI_PATH, segment.as_str())));
        list.extend(query.iter().map(|argument| CoapOption::new(N::URI_QUERY, argument.as_str())));
        let options = Options::from(&list[..]);
        let mut out = [0; 4096];
        let uri = compose(Scheme::Coap, (ip(SOMEWHERE), 5683), &options, &mut out).unwrap();
        let mut out = [0; 4096];
        let uri = Uri::parse(uri).unwrap();
        prop_assert_eq!(uri.options(None, &mut out).unwrap(), options);
    }

    #[test]
    fn no_text_makes_it_panic(text in "coap://[a-z%:/?&#.0-9\\[\\]]{0,30}") {
        let mut out = [0; 64];
        if let Ok(uri) = Uri::parse(&text) {
            let _ = uri.options(Some((ip(SOMEWHERE), 1)), &mut out);
        }
    }
}
