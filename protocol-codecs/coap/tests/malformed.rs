//! Everything that the standards want rejected has an error of its own, and the answer they want.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

use std::collections::BTreeSet;

use codec_coap::Answer::{self, Abort, Ignore, Response};
use codec_coap::DecodeError::{self, *};
use codec_coap::MessageType::{Acknowledgement, Confirmable};
use codec_coap::{
    CoapOption, Code, Decoded, EncodeError, Message, OptionList, OptionNumber as N, OptionValue,
    Options, TcpMessage, decode, decode_tcp, frame_tcp, header,
};

const BAD_OPTION: Answer = Response(Code::BAD_OPTION);
const BAD_REQUEST: Answer = Response(Code::BAD_REQUEST);

fn length(number: N, len: u16) -> DecodeError {
    OptionLength { number, len }
}

fn truncated(needed: u32, available: u32) -> DecodeError {
    Truncated { needed, available }
}

/// The bytes behind the header of a confirmable GET without token, the error, and the answer to it.
fn requests() -> Vec<(Vec<u8>, DecodeError, Answer)> {
    let reset = Answer::Reset;
    let mut cases: Vec<(&[u8], DecodeError, Answer)> = vec![
        (b"\xb2a", truncated(2, 1), reset),
        (b"\xd0", truncated(1, 0), reset),
        (b"\xe0\x01", truncated(2, 1), reset),
        (b"\x0d", truncated(1, 0), reset),
        (b"\x0e\x01", truncated(2, 1), reset),
        (b"\x0d\x00", truncated(13, 0), reset),
        (b"\xf0", ReservedOptionNibble(0xf0), reset),
        (b"\xbf", ReservedOptionNibble(0xbf), reset),
        (b"\xe0\xff\xff", OptionNumberTooLarge(65_804), reset),
        (b"\xe0\xfe\xf2\x10", OptionNumberTooLarge(65_536), reset),
        (b"\xff", PayloadMarkerWithoutPayload, reset),
        (b"\xb1a\xff", PayloadMarkerWithoutPayload, reset),
        (b"\x19123456789", length(N::IF_MATCH, 9), BAD_OPTION),
        (b"\x30", length(N::URI_HOST, 0), BAD_OPTION),
        (b"\x51x", length(N::IF_NONE_MATCH, 1), BAD_OPTION),
        (b"\x73\0\0\0", length(N::URI_PORT, 3), BAD_OPTION),
        (b"\xd3\x04\0\0\0", length(N::ACCEPT, 3), BAD_OPTION),
        (b"\xd4\x0a\0\0\0\0", length(N::BLOCK2, 4), BAD_OPTION),
        (b"\xd0\x16", length(N::PROXY_URI, 0), BAD_OPTION),
        (b"\x31a\x01b", RepeatedOption(N::URI_HOST), BAD_OPTION),
        (b"\x50\x00", RepeatedOption(N::IF_NONE_MATCH), BAD_OPTION),
        (b"\x90\x00", RepeatedOption(N::OSCORE), BAD_OPTION),
        (b"\x32a\xff", InvalidUtf8 { number: N::URI_HOST, valid_up_to: 1 }, BAD_OPTION),
        (
            b"\xb2ab\x03\xc3\xa9\xc3",
            InvalidUtf8 { number: N::URI_PATH, valid_up_to: 2 },
            BAD_OPTION,
        ),
        (b"\xb3\xed\xa0\x80", InvalidUtf8 { number: N::URI_PATH, valid_up_to: 0 }, BAD_OPTION),
        (b"\xd1\x02\x80", InvalidUtf8 { number: N::URI_QUERY, valid_up_to: 0 }, BAD_OPTION),
        (b"\xb1.", DotSegment(N::URI_PATH), BAD_OPTION),
        (b"\xb1a\x02..", DotSegment(N::URI_PATH), BAD_OPTION),
        (b"\xd1\x0a\x07", ReservedBlockSize(N::BLOCK2), BAD_REQUEST),
        (b"\xd1\x06\x0f", ReservedBlockSize(N::Q_BLOCK1), BAD_REQUEST),
        (b"\xd1\x03\x00", HopLimitZero, BAD_REQUEST),
    ];
    let path = [b"\xbd\xf3".as_slice(), &[b'a'; 256]].concat();
    cases.push((&path, length(N::URI_PATH, 256), BAD_OPTION));
    cases.into_iter().map(|(rest, error, answer)| (rest.to_vec(), error, answer)).collect()
}

/// Whole datagrams.
fn datagrams() -> Vec<(&'static [u8], DecodeError, Answer)> {
    let reset = Answer::Reset;
    vec![
        (b"", HeaderTruncated(0), Ignore),
        (b"\x40\x01\x00", HeaderTruncated(3), Ignore),
        (b"\x80\x01\x00\x00", UnknownVersion(2), Ignore),
        (b"\x49\x01\x00\x00123456789", ReservedTokenLength(9), reset),
        (b"\x5f\x01\x00\x00", ReservedTokenLength(15), Ignore),
        (b"\x42\x01\x00\x00a", truncated(2, 1), reset),
        (b"\x40\x20\x00\x00", ReservedCodeClass(Code::new(1, 0)), reset),
        (b"\x50\xc1\x00\x00", ReservedCodeClass(Code::new(6, 1)), Ignore),
        (b"\x40\xe1\x00\x00", ReservedCodeClass(Code::CSM), reset),
        (b"\x41\x00\x00\x00a", EmptyMessageWithContent, reset),
        (b"\x40\x00\x00\x00\xff", EmptyMessageWithContent, reset),
        (b"\x60\x00\x00\x00\x00", EmptyMessageWithContent, Ignore),
        (b"\x50\x00\x00\x00", EmptyNonConfirmable, Ignore),
        (b"\x60\x01\x00\x00", RequestInAcknowledgement(Code::GET), Ignore),
        (b"\x70\x45\x00\x00", ResetNotEmpty(Code::CONTENT), Ignore),
        // The same option in a request and in responses of all types.
        (b"\x50\x01\x00\x00\x30", length(N::URI_HOST, 0), Ignore),
        (b"\x50\x01\x00\x00\xd1\x0a\x07", ReservedBlockSize(N::BLOCK2), BAD_REQUEST),
        (b"\x40\x45\x00\x00\x30", length(N::URI_HOST, 0), reset),
        (b"\x50\x45\x00\x00\x30", length(N::URI_HOST, 0), Ignore),
        (b"\x60\x45\x00\x00\x30", length(N::URI_HOST, 0), Ignore),
    ]
}

/// TCP messages.
fn tcp() -> Vec<(&'static [u8], DecodeError, Answer)> {
    vec![
        (b"\x09", ReservedTokenLength(9), Abort),
        (b"\x00\x20", ReservedCodeClass(Code::new(1, 0)), Abort),
        (b"\x01\x00", EmptyMessageWithContent, Abort),
        (b"\x10\x01\xff", PayloadMarkerWithoutPayload, Abort),
        (b"\x20\x01\xb2a", truncated(2, 1), Abort),
        (b"\x10\x01\x30", length(N::URI_HOST, 0), BAD_OPTION),
        (b"\x10\x45\x30", length(N::URI_HOST, 0), Ignore),
        (
            b"\xf0\xff\xff\xff\xff\x45",
            MessageTooLarge { size: 65_805 + 0xffff_ffff + 6, limit: u32::MAX },
            Abort,
        ),
    ]
}

#[test]
fn every_offence_has_an_error_and_an_answer() {
    let mut labels = BTreeSet::new();
    let mut check = |bytes: &[u8], error: DecodeError, answer| {
        assert_eq!(decode(bytes), Err(error), "{bytes:x?}");
        assert_eq!(
            header(bytes).map_or(Ignore, |header| error.answer(header)),
            answer,
            "{bytes:x?}"
        );
        assert!(!error.to_string().is_empty() && !error.to_string().ends_with('.'));
        labels.insert(error.label());
    };
    for (rest, error, answer) in requests() {
        check(&[b"\x40\x01\x30\x39", &rest[..]].concat(), error, answer);
    }
    for (bytes, error, answer) in datagrams() {
        check(bytes, error, answer);
    }
    for (bytes, error, answer) in tcp() {
        assert_eq!(decode_tcp(bytes), Err(error), "{bytes:x?}");
        assert_eq!(
            error.answer_tcp(Code(bytes.get(1).copied().unwrap_or(1))),
            answer,
            "{bytes:x?}"
        );
        labels.insert(error.label());
    }
    assert_eq!(labels.len(), 19);
}

/// The token of the answer is there even if the message is refused.
#[test]
fn a_refused_request_can_be_answered() {
    let bytes = b"\x42\x01\x30\x39\xbe\xef\x30";
    let found = header(bytes).unwrap();
    assert_eq!(found.token(bytes), Some(&b"\xbe\xef"[..]));
    assert_eq!(found.message_id, 0x3039);
    assert_eq!(header(b"\x49\x01\x30\x39123456789").unwrap().token(bytes), None);
}

/// §5.4.1, §5.4.3, §5.4.5: an elective option that does not keep to its definition is ignored, and can be
/// passed on.
#[test]
fn a_malformed_elective_option_is_not_taken_for_what_it_is_not() {
    let cases: [(&[u8], N, &[u8]); 7] = [
        (b"\x64\0\0\0\0", N::OBSERVE, b"\0\0\0\0"),
        (b"\xc3\0\0\0", N::CONTENT_FORMAT, b"\0\0\0"),
        (b"\xd5\x01\0\0\0\0\x01", N::MAX_AGE, b"\0\0\0\0\x01"),
        (b"\x82a\xff", N::LOCATION_PATH, b"a\xff"),
        (b"\x82..", N::LOCATION_PATH, b".."),
        (b"\xd0\x03", N::HOP_LIMIT, b""),
        (b"\xe0\x00\x15\x00", N(290), b""),
    ];
    for (rest, number, value) in cases {
        let bytes = [b"\x40\x01\x00\x00", rest].concat();
        let options = decode(&bytes).unwrap().options;
        assert_eq!(options.get(number), Some(OptionValue::Opaque(value)), "{rest:x?}");
        assert_eq!((options.observe(), options.content_format()), (None, None));
        assert_eq!((options.max_age(), options.hop_limit()), (None, None));
        assert_eq!(options.location_path().count(), 0);
        let list = [CoapOption::new(number, value)];
        if number != N(290) {
            let message = Message { options: Options::from(&list), ..decode(&bytes).unwrap() };
            let mut out = vec![0; bytes.len()];
            assert_eq!(message.encode(&mut out), Ok(bytes.len()), "{rest:x?}");
            assert_eq!(out, bytes);
        }
    }
    // Only the first of those that may not repeat counts.
    let options = decode(b"\x40\x45\x00\x00\xd1\x01\x05\x01\x06").unwrap().options;
    assert_eq!(options.max_age(), Some(5));
    assert_eq!(options.get_all(N::MAX_AGE).last(), Some(OptionValue::Opaque(b"\x06")));
}

#[test]
fn bert_is_for_tcp_and_hop_limits_are_for_requests() {
    let Decoded::Complete { message, .. } = decode_tcp(b"\x30\x01\xd1\x0a\x07").unwrap() else {
        panic!()
    };
    assert_eq!(message.options.block2().unwrap().szx, 7);
    // What was received over TCP is looked at again before it is sent over UDP.
    let udp =
        Message { options: message.options, code: Code::GET, ..Message::empty(Confirmable, 1) };
    assert_eq!(udp.encoded_len(), Err(EncodeError::Refused(ReservedBlockSize(N::BLOCK2))));
    let response = decode(b"\x60\x45\x00\x00\xd1\x03\x00").unwrap();
    assert_eq!(response.options.get(N::HOP_LIMIT), Some(OptionValue::Opaque(&[0])));
    assert_eq!(response.options.hop_limit(), None);
    let request = Message { message_type: Confirmable, code: Code::GET, ..response };
    assert_eq!(request.encoded_len(), Err(EncodeError::Refused(HopLimitZero)));
}

#[test]
fn a_tcp_message_above_the_limit_is_refused_by_its_header_alone() {
    let error = MessageTooLarge { size: 1153, limit: 1152 };
    assert_eq!(frame_tcp(b"\xe0\x03\x70", 1152), Err(error));
    let frame = frame_tcp(b"\xe0\x03\x70\x45", 1153).unwrap().complete().unwrap();
    assert_eq!((frame.len(), frame.body_len, frame.code), (1153, 1149, Code::CONTENT));
    assert_eq!(error.answer_tcp(Code::GET), Abort);
}

#[test]
fn what_would_be_refused_is_not_encoded() {
    let option = |number, value| CoapOption { number, value };
    let too_long = vec![0; 65_805];
    let path = |text: &'static str| option(N::URI_PATH, OptionValue::from(text));
    let cases: Vec<(Vec<CoapOption<'_>>, EncodeError)> = vec![
        (
            vec![path("a"), option(N::URI_HOST, "h".into())],
            EncodeError::OptionsNotSorted { number: N::URI_HOST, after: N::URI_PATH },
        ),
        (
            vec![option(N(2048), OptionValue::Opaque(&too_long))],
            EncodeError::OptionTooLong { number: N(2048), len: 65_805 },
        ),
        (vec![path(".")], EncodeError::Refused(DotSegment(N::URI_PATH))),
        (vec![option(N::URI_PATH, OptionValue::Uint(1))], EncodeError::OptionFormat(N::URI_PATH)),
        (vec![option(N::URI_HOST, "".into())], EncodeError::OptionFormat(N::URI_HOST)),
        (vec![option(N::ACCEPT, OptionValue::Opaque(b"0"))], EncodeError::OptionFormat(N::ACCEPT)),
        // Would be received as a uint.
        (
            vec![option(N::MAX_AGE, OptionValue::Opaque(b"0"))],
            EncodeError::OptionFormat(N::MAX_AGE),
        ),
        (vec![option(N::HOP_LIMIT, OptionValue::Opaque(&[0]))], EncodeError::Refused(HopLimitZero)),
        (vec![option(N::MAX_AGE, 1.into()); 2], EncodeError::OptionFormat(N::MAX_AGE)),
        (vec![option(N::BLOCK1, (1 << 24).into())], EncodeError::OptionFormat(N::BLOCK1)),
        (vec![option(N::BLOCK1, 7.into())], EncodeError::Refused(ReservedBlockSize(N::BLOCK1))),
    ];
    let bare = Message { code: Code::GET, ..Message::empty(Confirmable, 1) };
    let mut out = [0; 8];
    for (list, error) in cases {
        let message = Message { options: Options::from(&list[..]), ..bare };
        assert_eq!(message.encoded_len(), Err(error));
        assert_eq!(message.encode(&mut out), Err(error));
        assert!(!error.label().is_empty() && !error.to_string().is_empty());
    }
    let with_token = Message { token: &[0; 9], ..bare };
    assert_eq!(with_token.encode(&mut out), Err(EncodeError::TokenTooLong(9)));
    let acknowledgement = Message { message_type: Acknowledgement, ..bare };
    let error = EncodeError::Refused(RequestInAcknowledgement(Code::GET));
    assert_eq!(acknowledgement.encode(&mut out), Err(error));
    let with_payload = Message { payload: b"12345", ..bare };
    assert_eq!(with_payload.encode(&mut out), Err(EncodeError::BufferTooSmall { needed: 10 }));
    assert_eq!(out, [0; 8], "nothing is written");
    let ping = Message { payload: b"x", ..Message::empty(Confirmable, 1) };
    assert_eq!(ping.encode(&mut out), Err(EncodeError::Refused(EmptyMessageWithContent)));
    let (token, options, payload) = (&[][..], Options::EMPTY, &[][..]);
    let reserved = TcpMessage { code: Code::new(6, 0), token, options, payload };
    let error = EncodeError::Refused(ReservedCodeClass(Code::new(6, 0)));
    assert_eq!(reserved.encode(&mut out), Err(error));
}

#[test]
fn an_option_list_sorts_and_has_an_end() {
    let mut list = OptionList::<4>::new();
    assert!(list.options().is_empty());
    for (number, text) in
        [(N::URI_QUERY, "q"), (N::URI_PATH, "a"), (N::URI_HOST, "h"), (N::URI_PATH, "b")]
    {
        list.push(CoapOption::new(number, text)).unwrap();
    }
    let numbers: Vec<u16> = list.options().iter().map(|option| option.number.0).collect();
    assert_eq!(numbers, [3, 11, 11, 15]);
    assert!(list.options().uri_path().eq(["a", "b"]));
    let error = list.push(CoapOption::new(N::URI_PATH, "c"));
    assert_eq!(error, Err(EncodeError::TooManyOptions(4)));
}
