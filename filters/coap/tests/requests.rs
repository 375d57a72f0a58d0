//! What happens to messages that are HTTP requests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::time::Duration;

use crate::support::message::{Msg, con, get, post, put};
use crate::support::{ANNA, Bench, Worker, millis, rules, seconds};
use codec_coap::{Code, ContentFormat, MessageType, OptionNumber};

const ACK: MessageType = MessageType::Acknowledgement;
const CON: MessageType = MessageType::Confirmable;
const NON: MessageType = MessageType::NonConfirmable;

#[test]
fn a_request_is_the_http_request_of_rfc_8075() {
    let mut bench = Bench::new(&rules(""));
    bench.client(
        &put(1, "r/a b", r#"{"on":1}"#)
            .opt(OptionNumber::URI_HOST, "lamp.example")
            .opt(OptionNumber::URI_PORT, 7000)
            .opt(OptionNumber::URI_QUERY, "k=v&w")
            .opt(OptionNumber::CONTENT_FORMAT, ContentFormat::JSON)
            .opt(OptionNumber::ACCEPT, ContentFormat::CBOR)
            .opt(OptionNumber::IF_MATCH, &b"\x01\xff"[..]),
    );
    let stream = &bench.streams[bench.asked_one()];
    assert_eq!((&*stream.method, &*stream.path), ("PUT", "/r/a%20b?k=v%26w"));
    assert_eq!(stream.authority, "lamp.example:7000");
    assert_eq!(
        stream.own_headers(),
        [
            "accept: application/cbor",
            "content-length: 8",
            "content-type: application/json",
            "if-match: \"01ff\"",
            "x-carry: request",
            "x-coap-method: put",
            "x-coap-type: con",
        ]
    );
    assert_eq!(stream.header("x-forwarded-for"), Some("192.0.2.1"));
    assert_eq!(stream.body, br#"{"on":1}"#);
    assert!(stream.is_over() && !stream.is_reset());
}

#[test]
fn a_read_has_no_content_and_a_write_has_some_even_if_none() {
    let mut bench = Bench::new(&rules(""));
    for (code, length) in [
        (Code::GET, None),
        (Code::DELETE, None),
        (Code::POST, Some("0")),
        (Code::PUT, Some("0")),
        (Code::PATCH, Some("0")),
        (Code::IPATCH, Some("0")),
    ] {
        bench.client(&con(code, u16::from(code.0)).path("r").token(&[code.0]));
        let stream = bench.streams.last().unwrap();
        assert_eq!(stream.header("content-length"), length, "{code}");
        assert!(stream.is_over() && stream.body.is_empty());
    }
    bench.client(&con(Code::FETCH, 100).path("r").payload("query"));
    let stream = bench.streams.last().unwrap();
    assert_eq!((&*stream.method, &*stream.body), ("FETCH", &b"query"[..]));
}

#[test]
fn text_of_the_client_forges_no_header_and_no_path() {
    let mut bench = Bench::new(&rules(""));
    let path = "x\r\nhost: evil";
    bench.client(&get(1, "r").path(path).opt(OptionNumber::URI_QUERY, "a b\n#\"é"));
    let stream = &bench.streams[0];
    assert_eq!(stream.path, "/r/x%0D%0Ahost%3A%20evil?a%20b%0A%23%22%C3%A9".replace("%3A", ":"));
    assert_eq!(
        stream.own_headers(),
        ["x-carry: request", "x-coap-method: get", "x-coap-type: con"]
    );
}

/// What would be another path, or more than one header value, to somebody who reads it carelessly.
const NASTY: [&[u8]; 22] = [
    b"\r\nx-evil: 1",
    b"\0",
    b"\x01\x7f",
    b"\xc3\xa9\xf4\x8f\xbf\xbf",
    b"\xff",
    b"..",
    b".",
    b"..;",
    b"%2e%2e",
    b"%2F",
    b"a/b",
    b"/",
    b"",
    b" ",
    b"//host/x",
    b"http://x/",
    b"a?b#c",
    b"a&b=c",
    b"u@h:80",
    b"[::1",
    b"\"'<>\\,",
    &[b'x'; 255],
];

/// A confirmable request with options that our encoder would refuse.
fn raw(code: Code, id: u16, mut options: Vec<(OptionNumber, &[u8])>) -> Vec<u8> {
    options.sort_by_key(|(number, _)| number.0);
    let mut octets = [&[0x40, code.0], &id.to_be_bytes()[..]].concat();
    let mut last = 0;
    for (OptionNumber(number), value) in options {
        let len = u8::try_from(value.len()).unwrap();
        let nibble = (number - last) << 4;
        match len {
            0..13 => octets.push(nibble as u8 | len),
            len => octets.extend([nibble as u8 | 13, len - 13]),
        }
        octets.extend(value);
        last = number;
    }
    octets
}

#[test]
fn no_option_forges_a_header_or_a_path() {
    type N = OptionNumber;
    let options = [
        N::URI_HOST,
        N::URI_PATH,
        N::URI_QUERY,
        N::ETAG,
        N::IF_MATCH,
        N::CONTENT_FORMAT,
        N::ACCEPT,
    ];
    let mut streams = 0;
    for carry in ["a", "c", "r"] {
        for nasty in NASTY {
            for number in options {
                let mut bench = Bench::new(&rules(""));
                let path = (N::URI_PATH, carry.as_bytes());
                bench.datagram(&raw(Code::GET, 1, vec![path, (number, nasty)]));
                let name = [b"ep=", &nasty[..nasty.len().min(250)]].concat();
                let register = vec![(N::URI_PATH, &b"rd"[..]), (N::URI_QUERY, &name)];
                bench.datagram(&raw(Code::POST, 2, register));
                bench.datagram(&raw(Code::GET, 3, vec![path]));
                streams += bench.streams.len();
                for stream in &bench.streams {
                    for (name, value) in &stream.headers {
                        let value = value.to_str().expect("visible ASCII");
                        assert_eq!(value.trim(), value, "{name}");
                        assert_ne!(name, "x-evil");
                        assert_eq!(stream.headers.get_all(name).iter().count(), 1, "{name}");
                    }
                    let is_host =
                        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
                    assert!(stream.authority.bytes().all(is_host), "{}", stream.authority);
                    assert!(stream.path.starts_with('/') && stream.path.is_ascii());
                    assert!(!stream.path.contains(['\r', '\n', ' ', '\0', '#', '\\']));
                    let path = stream.path.split('?').next().unwrap().to_ascii_lowercase();
                    let dots = |segment: &str| matches!(&*segment.replace("%2e", "."), "." | "..");
                    assert!(!path.split('/').any(dots), "{path}");
                }
            }
        }
    }
    assert!(streams > 500, "{streams}");
}

#[test]
fn a_response_in_time_is_the_acknowledgement() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(7, "r").token(b"tok"));
    let headers = [
        ("content-type", "application/json"),
        ("etag", "\"01ff\""),
        ("cache-control", "max-age=17"),
        ("x-other", "y"),
    ];
    bench.pass(millis(499));
    bench.answer_one(200, &headers, b"{}");
    let got = bench.got_one();
    assert_eq!(
        got.to_string().replace("01ff", "TAG"),
        format!(
            "ACK 2.05 #7 [746f6b] {}=TAG {}=50 {}=17 \"{{}}\"",
            OptionNumber::ETAG,
            OptionNumber::CONTENT_FORMAT,
            OptionNumber::MAX_AGE
        )
    );
    bench.pass(seconds(60));
    bench.got_nothing();
}

#[test]
fn a_status_is_the_code_of_rfc_8075() {
    for (code, status, expected) in [
        (Code::GET, 200, Code::CONTENT),
        (Code::POST, 200, Code::CHANGED),
        (Code::POST, 201, Code::CREATED),
        (Code::PUT, 204, Code::CHANGED),
        (Code::DELETE, 200, Code::DELETED),
        (Code::GET, 304, Code::VALID),
        (Code::GET, 400, Code::BAD_REQUEST),
        (Code::GET, 404, Code::NOT_FOUND),
        (Code::GET, 405, Code::METHOD_NOT_ALLOWED),
        (Code::GET, 415, Code::UNSUPPORTED_CONTENT_FORMAT),
        (Code::GET, 429, Code::TOO_MANY_REQUESTS),
        (Code::GET, 500, Code::INTERNAL_SERVER_ERROR),
        (Code::GET, 504, Code::GATEWAY_TIMEOUT),
        (Code::GET, 307, Code::BAD_GATEWAY),
    ] {
        let mut bench = Bench::new(&rules(""));
        bench.client(&con(code, 1).path("r"));
        bench.answer_one(status, &[], b"");
        assert_eq!(bench.got_one().code, expected, "{code} {status}");
    }
}

#[test]
fn the_text_of_an_error_is_the_diagnostic_payload() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(1, "r"));
    bench.answer_one(
        503,
        &[("content-type", "text/plain"), ("retry-after", "3")],
        "né".repeat(200).as_bytes(),
    );
    let got = bench.got_one();
    assert_eq!((got.code, got.uint(OptionNumber::MAX_AGE)), (Code::SERVICE_UNAVAILABLE, Some(3)));
    assert!(got.text().starts_with("néné") && got.payload.len() <= 256);
    bench.client(&get(2, "r"));
    bench.answer_one(404, &[("content-type", "application/octet-stream")], b"\x00\xff");
    let got = bench.got_one();
    assert_eq!((got.code, &*got.payload), (Code::NOT_FOUND, &b""[..]));
}

#[test]
fn a_response_that_is_cut_off_is_none() {
    for after_head in [true, false] {
        let mut bench = Bench::new(&rules(""));
        bench.client(&get(1, "r"));
        if after_head {
            bench.respond(0, 200, &[]);
            bench.content(0, b"half");
        }
        bench.got_nothing();
        bench.reset(0);
        let got = bench.got_one();
        assert_eq!((got.code, got.text()), (Code::BAD_GATEWAY, "response is cut off"));
    }
}

#[test]
fn a_response_above_the_limit_is_none() {
    let mut bench = Bench::new(&rules(r#""max_body_size": 100"#));
    bench.client(&get(1, "r"));
    bench.answer_one(200, &[], &[7; 100]);
    assert_eq!(bench.got_one().payload, [7; 100]);
    bench.client(&get(2, "r"));
    bench.respond(1, 200, &[]);
    bench.content(1, &[7; 101]);
    let got = bench.got_one();
    assert_eq!((got.code, got.text()), (Code::BAD_GATEWAY, "response is too large"));
    assert!(bench.streams[1].is_reset());
}

#[test]
fn a_body_above_the_limit_is_refused() {
    let mut bench = Bench::new(&rules(r#""max_body_size": 100"#));
    bench.client(&post(1, "r", [7; 100]));
    assert_eq!(bench.streams.len(), 1);
    bench.client(&post(2, "r", [7; 101]));
    bench.client(&post(3, "r", "x").block1(0, true, 0).opt(OptionNumber::SIZE1, 101));
    for got in bench.got() {
        assert_eq!(got.code, Code::REQUEST_ENTITY_TOO_LARGE);
        assert_eq!(got.uint(OptionNumber::SIZE1), Some(100));
    }
    assert_eq!(bench.streams.len(), 1);
}

#[test]
fn what_http_cannot_express_is_refused() {
    let mut bench = Bench::new(&rules(""));
    for (id, number, code) in
        [(1, OptionNumber::OSCORE, Code::BAD_OPTION), (2, OptionNumber(65_001), Code::BAD_OPTION)]
    {
        let request = get(id, "r").opt(number, &b"x"[..]);
        bench.client(&request);
        assert_eq!(bench.got_one().code, code);
        // A non-confirmable request with a critical option nobody knows is ignored (RFC 7252 §5.4.1).
        bench.client(&request.non().with_id(id + 10));
        bench.got_nothing();
    }
    for (id, number) in [(5, OptionNumber::PROXY_URI), (6, OptionNumber::PROXY_SCHEME)] {
        bench.client(&get(id, "r").opt(number, "http://x"));
        assert_eq!(bench.got_one().code, Code::PROXYING_NOT_SUPPORTED);
    }
    assert!(bench.streams.is_empty());
}

// Separate responses (RFC 7252 §5.2.2).

#[test]
fn a_late_response_comes_separately() {
    let mut bench = Bench::new(&rules(r#""separate_after": "1s""#));
    let request = get(7, "r").token(b"tok");
    bench.client(&request);
    bench.pass(millis(999));
    bench.got_nothing();
    bench.pass(millis(1));
    assert_eq!(bench.got_octets(), [request.acknowledge().octets()]);
    // Who has not heard that hears it again, and nobody is asked again.
    bench.client(&request);
    assert_eq!(bench.got_octets(), [request.acknowledge().octets()]);
    bench.pass(seconds(20));
    bench.got_nothing();
    assert!(!bench.is_closed());
    bench.answer_one(200, &[], b"late");
    let got = bench.got_one();
    assert_eq!((got.message_type(), got.code, got.text()), (CON, Code::CONTENT, "late"));
    assert_eq!(got.token, b"tok");
    bench.client(&got.acknowledge());
    bench.pass(seconds(200));
    bench.got_nothing();
    assert_eq!(bench.streams.len(), 1);
    assert_eq!(bench.counter("coap_confirmable_total", &[("outcome", "acknowledged")]), 1);
}

#[test]
fn a_separate_response_is_sent_again_until_it_is_acknowledged() {
    let mut bench = Bench::new(&rules(r#""ack_timeout": "2s", "max_retransmit": 4"#));
    bench.client(&get(7, "r"));
    bench.pass(seconds(1));
    bench.got_one();
    bench.answer_one(200, &[], b"late");
    let first = bench.got_octets();
    assert_eq!(first.len(), 1);
    let since = bench.now;
    let mut times = Vec::new();
    while bench.now - since < seconds(120) {
        bench.pass(millis(10));
        let got = bench.got_octets();
        if !got.is_empty() {
            assert_eq!(got, first);
            times.push(bench.now - since);
        }
    }
    // RFC 7252 §4.2: at ACK_TIMEOUT × 1 to 1.5, each timeout twice the one before.
    assert_eq!(times.len(), 4);
    let timeout = times[0];
    assert!((seconds(2)..=millis(3010)).contains(&timeout), "{timeout:?}");
    for (n, time) in (1..).zip(&times) {
        let expected = timeout * ((1 << n) - 1);
        // The clock of this test ticks every 10 ms.
        assert!(time.abs_diff(expected) <= millis(10) * (1 << n), "{times:?}");
    }
    assert!(bench.is_closed());
    assert_eq!(bench.counter("coap_confirmable_total", &[("outcome", "given_up")]), 1);
}

#[test]
fn an_acknowledgement_or_a_reset_stops_the_retransmission() {
    for reset in [false, true] {
        let mut bench = Bench::new(&rules(""));
        bench.client(&get(7, "r"));
        bench.pass(seconds(1));
        bench.got_one();
        bench.answer_one(200, &[], b"late");
        let got = bench.got_one();
        bench.pass(seconds(4));
        assert_eq!(bench.got().len(), 1);
        bench.client(&if reset { got.reject() } else { got.acknowledge() });
        // Somebody else's message ID would not have.
        bench.pass(seconds(300));
        bench.got_nothing();
    }
}

#[test]
fn an_acknowledgement_of_another_message_stops_nothing() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(7, "r"));
    bench.pass(seconds(1));
    bench.got_one();
    bench.answer_one(200, &[], b"late");
    let got = bench.got_one();
    bench.client(&got.acknowledge().with_id(got.id().wrapping_add(1)));
    bench.client(&got.reject().with_id(got.id().wrapping_sub(1)));
    bench.pass(seconds(4));
    assert_eq!(bench.got().len(), 1);
}

#[test]
fn a_retransmission_of_an_answered_request_gets_the_same_answer() {
    let worker = Worker::new(&rules(""));
    for (id, request) in [(1, post(1, "r", "x")), (2, post(2, "r", "x").non())] {
        let mut bench = worker.session(ANNA, seconds(id * 1000));
        bench.client(&request);
        bench.client(&request);
        assert_eq!(bench.streams.len(), 1);
        bench.answer_one(201, &[("location", "/r/1")], b"made");
        let first = bench.got_octets();
        assert_eq!(first.len(), 1);
        bench.client(&request);
        assert_eq!(bench.got_octets(), first);
        assert_eq!(bench.streams.len(), 1);
        bench.hang_up();
        let mut bench = worker.session(ANNA, seconds(id * 1000 + 100));
        bench.client(&request);
        assert_eq!(bench.got_octets(), first);
        assert!(bench.streams.is_empty());
        bench.hang_up();
        let mut bench = worker.session(ANNA, seconds(id * 1000 + 247));
        bench.client(&request);
        assert_eq!(bench.streams.len(), 1, "a new request with an old message ID");
    }
}

#[test]
fn a_non_confirmable_request_gets_a_non_confirmable_response_however_late() {
    let mut bench = Bench::new(&rules(""));
    bench.client(&get(7, "r").non().token(b"tok"));
    bench.pass(seconds(20));
    bench.got_nothing();
    bench.answer_one(200, &[], b"late");
    let got = bench.got_one();
    assert_eq!((got.message_type(), &*got.token), (NON, &b"tok"[..]));
    bench.pass(seconds(100));
    bench.got_nothing();
}

#[test]
fn responses_that_the_client_wants_none_of_are_not_sent() {
    for (no_response, status, is_sent) in [
        (2, 200, false),
        (2, 404, true),
        (8, 404, false),
        (8, 500, true),
        (16, 500, false),
        (26, 200, false),
        (0, 200, true),
    ] {
        let mut bench = Bench::new(&rules(""));
        let request = get(1, "r").opt(OptionNumber::NO_RESPONSE, no_response);
        bench.client(&request.clone().non());
        bench.answer_one(status, &[], b"");
        assert_eq!(bench.got().len(), usize::from(is_sent), "{no_response} {status}");
        // What is confirmable is acknowledged all the same (RFC 7967 §2.1).
        let request = request.with_id(2);
        bench.client(&request);
        bench.answer_one(status, &[], b"");
        let got = bench.got_one();
        assert_eq!((got.message_type(), got.code == Code::EMPTY), (ACK, !is_sent));
    }
}

#[test]
fn many_requests_at_once_are_answered_each_with_its_own() {
    let mut bench = Bench::new(&rules(""));
    let requests: Vec<Msg> = (0..60).map(|id| get(id, &format!("r/{id}"))).collect();
    bench.client_all(&requests);
    for stream in bench.open().into_iter().rev() {
        let path = bench.streams[stream].path.clone();
        bench.answer(stream, 200, &[], path.as_bytes());
    }
    let got = bench.got();
    assert_eq!(got.len(), 60);
    for got in got {
        assert_eq!(got.text(), format!("/r/{}", got.id()));
        assert_eq!(got.token, got.id().to_be_bytes());
    }
}

#[test]
fn a_session_that_closes_takes_its_answers_along_but_not_the_worker() {
    let worker = Worker::new(&rules(""));
    let mut bench = worker.session(ANNA, Duration::ZERO);
    bench.client(&get(1, "r"));
    bench.hang_up();
    let mut bench = worker.session(ANNA, seconds(1));
    bench.client(&get(1, "r"));
    assert_eq!(bench.asked(), ["request GET /r"]);
}
