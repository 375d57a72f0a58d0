//! Malformed and hostile datagrams: answered as RFC 7252 says, and never forwarded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support::Bench;
use crate::support::message::{Msg, capsule, con, get};
use codec_coap::{Code, MessageType};
use proptest::prelude::*;

/// What a client gets for a datagram.
#[derive(Debug, PartialEq)]
enum Gets {
    Nothing,
    Reset,
    Code(u8, u8),
}

/// Datagrams that are no message, or may not be, and what a client gets for each.
const MALFORMED: &[(&str, &[u8], Gets)] = &[
    // RFC 7252 §3: too short for a header, or of another version: silently ignored.
    ("nothing", b"", Gets::Nothing),
    ("one octet", b"\x40", Gets::Nothing),
    ("three octets", b"\x40\x01\x00", Gets::Nothing),
    ("version 0", b"\x00\x01\x00\x01", Gets::Nothing),
    ("version 2", b"\x80\x01\x00\x01", Gets::Nothing),
    ("version 3", b"\xc0\x01\x00\x01", Gets::Nothing),
    // §4.2: a confirmable message with a format error is rejected; §4.3: a non-confirmable one ignored.
    ("con with token length 9", b"\x49\x01\x00\x01123456789", Gets::Reset),
    ("con with token length 15", b"\x4f\x01\x00\x01123456789abcdef", Gets::Reset),
    ("non with token length 9", b"\x59\x01\x00\x01123456789", Gets::Nothing),
    ("ack with token length 9", b"\x69\x45\x00\x01123456789", Gets::Nothing),
    ("con with a token cut off", b"\x44\x01\x00\x01ab", Gets::Reset),
    ("non with a token cut off", b"\x54\x01\x00\x01ab", Gets::Nothing),
    ("con with class 1", b"\x40\x21\x00\x01", Gets::Reset),
    ("con with class 6", b"\x40\xc1\x00\x01", Gets::Reset),
    ("con with class 7", b"\x40\xe1\x00\x01", Gets::Reset),
    ("non with class 1", b"\x50\x21\x00\x01", Gets::Nothing),
    // §4.1: an empty message is four octets.
    ("empty con with a token", b"\x41\x00\x00\x01a", Gets::Reset),
    ("empty con with a payload", b"\x40\x00\x00\x01\xffa", Gets::Reset),
    ("empty ack with a token", b"\x61\x00\x00\x01a", Gets::Nothing),
    ("empty non", b"\x50\x00\x00\x01", Gets::Nothing),
    // §4.2: an acknowledgement has no request, a reset message is empty; neither is answered.
    ("ack with a request", b"\x60\x01\x00\x01", Gets::Nothing),
    ("rst with a request", b"\x70\x01\x00\x01", Gets::Nothing),
    ("rst with a response", b"\x70\x45\x00\x01", Gets::Nothing),
    ("rst with a token", b"\x71\x00\x00\x01a", Gets::Nothing),
    // §3.1: options and payload.
    ("con with option delta 15", b"\x40\x01\x00\x01\xf0", Gets::Reset),
    ("con with option length 15", b"\x40\x01\x00\x01\x0f", Gets::Reset),
    ("con with an option cut off", b"\x40\x01\x00\x01\xb4ab", Gets::Reset),
    ("con with an option length cut off", b"\x40\x01\x00\x01\xbd", Gets::Reset),
    ("con with an option number above 65535", b"\x40\x01\x00\x01\xe0\xff\xff", Gets::Reset),
    ("con with a marker and no payload", b"\x40\x01\x00\x01\xff", Gets::Reset),
    ("non with a marker and no payload", b"\x50\x01\x00\x01\xff", Gets::Nothing),
    ("con response with a marker and no payload", b"\x40\x45\x00\x01\xff", Gets::Reset),
    // §5.4.1, §5.4.3, §5.4.5: critical options that do not keep to their definition.
    ("con with an empty Uri-Host", b"\x40\x01\x00\x01\x30", Gets::Code(4, 2)),
    ("non with an empty Uri-Host", b"\x50\x01\x00\x01\x30", Gets::Nothing),
    (
        "con response with a repeated critical option",
        b"\x40\x45\x00\x01\x71\x01\x01\x01",
        Gets::Reset,
    ),
    ("con with two Uri-Hosts", b"\x40\x01\x00\x01\x31a\x01b", Gets::Code(4, 2)),
    ("con with Uri-Path that is no UTF-8", b"\x40\x01\x00\x01\xb1\xff", Gets::Code(4, 2)),
    ("con with a dot segment", b"\x40\x01\x00\x01\xb1.", Gets::Code(4, 2)),
    ("con with two dots", b"\x40\x01\x00\x01\xb2..", Gets::Code(4, 2)),
    ("con with a reserved block size", b"\x40\x01\x00\x01\xd1\x0a\x07", Gets::Code(4, 0)),
    ("non with a reserved block size", b"\x50\x01\x00\x01\xd1\x0a\x07", Gets::Code(4, 0)),
];

/// No question of amplification: its answers are shown elsewhere.
fn bench() -> Bench {
    Bench::new(r#"{"amplification_factor": 0}"#)
}

#[test]
fn malformed_datagrams_are_answered_as_the_standard_says_and_reach_nobody() {
    for with_flow in [false, true] {
        for (name, datagram, gets) in MALFORMED {
            let mut bench = bench();
            if with_flow {
                bench.client(&get(500, "a"));
                bench.server_got(0);
            }
            bench.datagram(datagram);
            let got = bench.got();
            match got.first() {
                None => assert_eq!(*gets, Gets::Nothing, "{name}"),
                Some(got) if got.code == Code::EMPTY => {
                    assert_eq!(*gets, Gets::Reset, "{name}");
                    assert_eq!(got.octets(), con(Code::EMPTY, 1).reject().octets(), "{name}");
                }
                Some(got) => {
                    let code = got.code;
                    assert_eq!(*gets, Gets::Code(code.class(), code.detail()), "{name}: {got}");
                    let is_con = datagram[0] & 0x30 == 0;
                    let ack = Some((MessageType::Acknowledgement, 1));
                    assert_eq!(got.udp == ack, is_con, "{name}: {got}");
                }
            }
            assert!(got.len() <= 1, "{name}: {got:?}");
            assert_eq!(bench.streams.len(), usize::from(with_flow), "{name}");
            if with_flow {
                assert!(bench.server_got(0).is_empty(), "{name}");
            }
            assert!(!bench.is_closed(), "{name}");
            // What comes after it is served.
            let request = get(501, "a");
            bench.client(&request);
            assert_eq!(bench.server_got_octets(0), [request.octets()], "{name}");
        }
    }
}

#[test]
fn an_elective_option_that_does_not_keep_to_its_definition_goes_on() {
    let mut bench = bench();
    // Max-Age of five octets, ETag of none: elective, so ignored (§5.4.1, §5.4.3).
    let datagram = b"\x40\x01\x00\x01\x40\x71a\x3512345";
    bench.datagram(datagram);
    assert_eq!(bench.server_got_octets(0), [datagram.to_vec()]);
    bench.got_nothing();
}

#[test]
fn an_error_echoes_the_token_of_what_it_is_about() {
    let mut bench = bench();
    bench.datagram(b"\x48\x01\x12\x34tokentok\x30");
    let got = bench.got_one();
    assert_eq!((got.id(), &*got.token, got.code), (0x1234, &b"tokentok"[..], Code::BAD_OPTION));
}

#[test]
fn what_is_malformed_between_good_messages_is_left_out_alone() {
    let mut bench = bench();
    let good: Vec<_> = (1..=40).map(|id| get(id, "a")).collect();
    let mut octets = Vec::new();
    for (good, (_, bad, _)) in good.iter().zip(MALFORMED) {
        octets.extend(good.native());
        octets.extend(capsule(bad));
    }
    bench.octets(&octets);
    assert_eq!(bench.server_got_octets(0), good.iter().map(Msg::octets).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    })]

    #[test]
    fn no_datagrams_make_it_panic_and_only_messages_reach_a_server(
        datagrams in proptest::collection::vec(
            (any::<[u8; 2]>(), proptest::collection::vec(any::<u8>(), 0..40)),
            0..40,
        ),
    ) {
        let mut bench = bench();
        for ([first, code], mut octets) in datagrams {
            // Most of them begin as messages do.
            if let [a, b, ..] = &mut *octets
                && first % 8 > 0
            {
                *a = 0x40 | first & 0x33;
                *b = code % 8;
            }
            bench.datagram(&octets);
        }
        for stream in 0..bench.streams.len() {
            // Decoding panics where something is no message.
            bench.server_got(stream);
        }
        bench.got();
    }
}
