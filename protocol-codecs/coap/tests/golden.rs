//! Messages after the examples of the standards, byte for byte, in both directions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

use codec_coap::MessageType::{self, Acknowledgement, Confirmable, NonConfirmable, Reset};
use codec_coap::{
    Block, CoapOption, Code, ContentFormat, Decoded, Message, OptionNumber as N, OptionValue,
    Options, TcpMessage, decode, decode_tcp,
};

fn option<'a>(number: N, value: impl Into<OptionValue<'a>>) -> CoapOption<'a> {
    CoapOption::new(number, value)
}

/// A message from its bytes, and the same bytes from the message made of these parts.
#[track_caller]
fn both_ways<'a>(
    bytes: &'a [u8],
    message_type: MessageType,
    code: Code,
    message_id: u16,
    token: &'a [u8],
    list: &[CoapOption<'_>],
    payload: &'a [u8],
) -> Message<'a> {
    let options = Options::from(list);
    let message = Message { message_type, code, message_id, token, options, payload };
    let decoded = decode(bytes).unwrap();
    assert_eq!(decoded, message);
    for message in [message, decoded] {
        assert_eq!(message.encoded_len(), Ok(bytes.len()));
        let mut out = vec![0xaa; bytes.len() + 3];
        assert_eq!(message.encode(&mut out), Ok(bytes.len()));
        assert_eq!(out[..bytes.len()], *bytes);
        assert_eq!(out[bytes.len()..], [0xaa; 3], "nothing is written beyond the message");
    }
    decoded
}

#[track_caller]
fn both_ways_tcp<'a>(
    bytes: &'a [u8],
    code: Code,
    token: &'a [u8],
    list: &[CoapOption<'_>],
    payload: &'a [u8],
) -> TcpMessage<'a> {
    let message = TcpMessage { code, token, options: Options::from(list), payload };
    let decoded = decode_tcp(bytes).unwrap();
    assert_eq!(decoded, Decoded::Complete { message, consumed: bytes.len() });
    for message in [message, decoded.complete().unwrap()] {
        assert_eq!(message.encoded_len(), Ok(bytes.len()));
        let mut out = vec![0xaa; bytes.len() + 3];
        assert_eq!(message.encode(&mut out), Ok(bytes.len()));
        assert_eq!(out[..bytes.len()], *bytes);
        assert_eq!(out[bytes.len()..], [0xaa; 3], "nothing is written beyond the message");
    }
    decoded.complete().unwrap()
}

/// RFC 7252 appendix A, figures 16, 17, 20, 21 and 22.
#[test]
fn rfc_7252_appendix_a() {
    let path = [option(N::URI_PATH, "temperature")];
    let get = b"\x40\x01\x7d\x34\xbbtemperature";
    let message = both_ways(get, Confirmable, Code::GET, 0x7d34, b"", &path, b"");
    assert!(message.options.uri_path().eq(["temperature"]));
    let content = b"\x60\x45\x7d\x34\xff22.3 C";
    both_ways(content, Acknowledgement, Code::CONTENT, 0x7d34, b"", &[], b"22.3 C");
    let get = b"\x41\x01\x7d\x35\x20\xbbtemperature";
    both_ways(get, Confirmable, Code::GET, 0x7d35, b"\x20", &path, b"");
    let content = b"\x61\x45\x7d\x35\x20\xff22.3 C";
    both_ways(content, Acknowledgement, Code::CONTENT, 0x7d35, b"\x20", &[], b"22.3 C");

    let separate = b"\x41\x45\xad\x7b\x53\xff22.3 C";
    both_ways(separate, Confirmable, Code::CONTENT, 0xad7b, b"\x53", &[], b"22.3 C");
    let acknowledgement = b"\x60\x00\xad\x7b";
    let message = both_ways(acknowledgement, Acknowledgement, Code::EMPTY, 0xad7b, b"", &[], b"");
    assert_eq!(message, Message::empty(Acknowledgement, 0xad7b));
    both_ways(b"\x70\x00\xad\x7c", Reset, Code::EMPTY, 0xad7c, b"", &[], b"");
    // No figure has a ping (§4.3).
    let ping = b"\x40\x00\x00\x01";
    both_ways(ping, Confirmable, Code::EMPTY, 1, b"", &[], b"");

    let get = b"\x51\x01\x7d\x40\x75\xbbtemperature";
    both_ways(get, NonConfirmable, Code::GET, 0x7d40, b"\x75", &path, b"");
    let content = b"\x51\x45\xad\x7d\x75\xff22.3 C";
    both_ways(content, NonConfirmable, Code::CONTENT, 0xad7d, b"\x75", &[], b"22.3 C");
}

/// RFC 7641 appendix A.1, figures 3 and 4.
#[test]
fn rfc_7641() {
    let register = b"\x41\x01\x16\x33\x4a\x60\x5btemperature";
    let options = [option(N::OBSERVE, 0), option(N::URI_PATH, "temperature")];
    let message = both_ways(register, Confirmable, Code::GET, 0x1633, b"\x4a", &options, b"");
    assert_eq!(message.options.observe(), Some(0));
    let notification = b"\x51\x45\x7b\x51\x4a\x61\x19\x81\x0f\xff19.7 Cel";
    let options = [option(N::OBSERVE, 25), option(N::MAX_AGE, 15)];
    let message = both_ways(
        notification,
        NonConfirmable,
        Code::CONTENT,
        0x7b51,
        b"\x4a",
        &options,
        b"19.7 Cel",
    );
    assert_eq!((message.options.observe(), message.options.max_age()), (Some(25), Some(15)));
    let again = b"\x61\x45\x16\x34\xb2\x45xyzzy\x21\x2c\x81\x0f\xff19.7 Cel";
    let options =
        [option(N::ETAG, b"xyzzy".as_slice()), option(N::OBSERVE, 44), option(N::MAX_AGE, 15)];
    both_ways(again, Acknowledgement, Code::CONTENT, 0x1634, b"\xb2", &options, b"19.7 Cel");
}

/// RFC 7959 §3, figures 3, 2, 7 and 7, with the sizes of §4 added. The figures do not say in which base their
/// message IDs are.
#[test]
fn rfc_7959() {
    let block = |num, more, szx| Block { num, more, szx };
    let get = b"\x40\x01\x12\x35\xb6status\xc1\x12";
    let options = [option(N::URI_PATH, "status"), option(N::BLOCK2, block(1, false, 2))];
    let message = both_ways(get, Confirmable, Code::GET, 0x1235, b"", &options, b"");
    assert_eq!(message.options.block2(), Some(block(1, false, 2)));
    let first = b"\x60\x45\x12\x34\xd1\x0a\x0b\x51\xc8\xffx";
    let options = [option(N::BLOCK2, block(0, true, 3)), option(N::SIZE2, 200)];
    let message = both_ways(first, Acknowledgement, Code::CONTENT, 0x1234, b"", &options, b"x");
    assert_eq!(message.options.block2().unwrap().size(), 128);
    assert_eq!(message.options.size2(), Some(200));
    let put = b"\x40\x03\x12\x34\xb7options\xd1\x03\x0b\xd1\x14\xc8\xffx";
    let options = [
        option(N::URI_PATH, "options"),
        option(N::BLOCK1, block(0, true, 3)),
        option(N::SIZE1, 200),
    ];
    let message = both_ways(put, Confirmable, Code::PUT, 0x1234, b"", &options, b"x");
    assert_eq!(
        (message.options.block1(), message.options.size1()),
        (Some(block(0, true, 3)), Some(200))
    );
    let next = b"\x60\x5f\x12\x34\xd1\x0e\x0b";
    let options = [option(N::BLOCK1, block(0, true, 3))];
    both_ways(next, Acknowledgement, Code::CONTINUE, 0x1234, b"", &options, b"");
}

/// RFC 9177 §10: the first message of §10.1.1, the second response of §10.2.1, and the request for what is
/// missing in §10.2.3.
#[test]
fn rfc_9177() {
    let block = |num, more| Block { num, more, szx: 6 };
    let options = [
        option(N::URI_PATH, "path"),
        option(N::Q_BLOCK1, block(0, true)),
        option(N::REQUEST_TAG, [9].as_slice()),
    ];
    let put = b"\x51\x03\x00\x81\xc0\xb4path\x81\x0e\xe1\x00\x04\x09\xffx";
    let message = both_ways(put, NonConfirmable, Code::PUT, 0x81, b"\xc0", &options, b"x");
    assert_eq!(message.options.q_block1().unwrap().size(), 1024);
    assert!(message.options.request_tags().eq([&[9][..]]));
    let options = [
        option(N::ETAG, [19].as_slice()),
        option(N::OBSERVE, 1220),
        option(N::Q_BLOCK2, block(1, true)),
    ];
    let content = b"\x51\x45\x00\xf2\xc0\x41\x13\x22\x04\xc4\xd1\x0c\x1e\xffx";
    both_ways(content, NonConfirmable, Code::CONTENT, 0xf2, b"\xc0", &options, b"x");
    let options = [
        option(N::URI_PATH, "path"),
        option(N::Q_BLOCK2, block(1, false)),
        option(N::Q_BLOCK2, block(9, false)),
    ];
    let get = b"\x51\x01\x00\x04\xf3\xb4path\xd1\x07\x16\x01\x96";
    let message = both_ways(get, NonConfirmable, Code::GET, 0x04, b"\xf3", &options, b"");
    assert!(message.options.q_block2().map(|block| block.num).eq([1, 9]));
}

#[test]
fn every_option_keeps_its_value() {
    let name = "n".repeat(300);
    let list = [
        option(N::IF_MATCH, [].as_slice()),
        option(N::URI_HOST, "example.com"),
        option(N::ETAG, b"tag".as_slice()),
        option(N::IF_NONE_MATCH, OptionValue::Empty),
        option(N::OBSERVE, 1 << 20),
        option(N::URI_PORT, 61_616),
        option(N::OSCORE, b"\x09\x14".as_slice()),
        option(N::URI_PATH, ""),
        option(N::URI_PATH, "çé"),
        option(N::CONTENT_FORMAT, ContentFormat(11_543)),
        option(N::MAX_AGE, u32::MAX),
        option(N::URI_QUERY, "a=b"),
        option(N::HOP_LIMIT, 16),
        option(N::ACCEPT, 0),
        option(N::PROXY_URI, name.as_str()),
        option(N::PROXY_SCHEME, "coaps"),
        option(N::SIZE1, 70_000),
        option(N::ECHO, [7; 40].as_slice()),
        option(N::NO_RESPONSE, 26),
        option(N::REQUEST_TAG, [].as_slice()),
        option(N(2048), [0; 400].as_slice()),
        option(N(65_535), [].as_slice()),
    ];
    let message = Message {
        message_type: Confirmable,
        code: Code::POST,
        message_id: 7,
        token: b"12345678",
        options: Options::from(&list),
        payload: b"\xff",
    };
    let mut out = vec![0; message.encoded_len().unwrap()];
    assert_eq!(message.encode(&mut out), Ok(out.len()));
    let options = decode(&out).unwrap().options;
    assert_eq!(decode(&out), Ok(message));
    assert!(options.if_match().eq([&[][..]]) && options.if_none_match());
    assert_eq!(options.uri_host().unwrap(), "example.com");
    assert!(options.etags().eq([&b"tag"[..]]));
    assert_eq!((options.observe(), options.uri_port()), (Some(1 << 20), Some(61_616)));
    assert_eq!(options.oscore(), Some(&b"\x09\x14"[..]));
    assert!(options.uri_path().eq(["", "çé"]) && options.uri_query().eq(["a=b"]));
    assert_eq!(options.content_format(), Some(ContentFormat::LWM2M_JSON));
    assert_eq!((options.max_age(), options.hop_limit()), (Some(u32::MAX), Some(16)));
    assert_eq!(options.accept(), Some(ContentFormat::TEXT_PLAIN));
    assert_eq!(options.proxy_uri().unwrap().as_str(), name);
    assert_eq!(options.proxy_scheme().unwrap().to_string(), "coaps");
    assert_eq!((options.size1(), options.no_response()), (Some(70_000), Some(26)));
    assert_eq!(options.echo(), Some(&[7; 40][..]));
    assert!(options.request_tags().eq([&[][..]]));
    assert_eq!(options.get(N(2048)), Some(OptionValue::Opaque(&[0; 400])));
    assert_eq!(options.get(N::BLOCK1), None);
}

/// RFC 8323 figure 5, the shortest message, and each length of the length field (§3.2).
#[test]
fn rfc_8323_messages() {
    both_ways_tcp(b"\x01\x43\x7f", Code::VALID, b"\x7f", &[], b"");
    both_ways_tcp(b"\x00\x00", Code::EMPTY, b"", &[], b"");
    for (header, len) in [
        (&b"\xc0\x45"[..], 12),
        (b"\xd0\x00\x45", 13),
        (b"\xd0\xff\x45", 268),
        (b"\xe0\x00\x00\x45", 269),
        (b"\xe0\xff\xff\x45", 65_804),
        (b"\xf0\x00\x00\x00\x00\x45", 65_805),
    ] {
        let payload = vec![7; len - 1];
        let bytes = [header, b"\xff", &payload].concat();
        both_ways_tcp(&bytes, Code::CONTENT, b"", &[], &payload);
    }
}

/// RFC 8323 §5.7, figures 11 and 12, and the other signaling messages of §5.
#[test]
fn rfc_8323_signaling() {
    let options = [
        option(N::MAX_MESSAGE_SIZE, 8_388_864),
        option(N::BLOCK_WISE_TRANSFER, OptionValue::Empty),
    ];
    let csm = both_ways_tcp(b"\x50\xe1\x23\x80\x01\x00\x20", Code::CSM, b"", &options, b"");
    assert_eq!(csm.max_message_size(), Some(8_388_864));
    assert!(csm.block_wise_transfer() && !csm.custody());
    assert_eq!((csm.hold_off(), csm.bad_csm_option()), (None, None));
    both_ways_tcp(b"\x01\xe2\x42", Code::PING, b"\x42", &[], b"");
    both_ways_tcp(b"\x01\xe3\x42", Code::PONG, b"\x42", &[], b"");
    let custody = [option(N::CUSTODY, OptionValue::Empty)];
    assert!(both_ways_tcp(b"\x11\xe3\x42\x20", Code::PONG, b"\x42", &custody, b"").custody());
    let options = [option(N::ALTERNATIVE_ADDRESS, "[::1]:5683"), option(N::HOLD_OFF, 10)];
    let release =
        both_ways_tcp(b"\xd0\x00\xe4\x2a[::1]:5683\x21\x0a", Code::RELEASE, b"", &options, b"");
    assert_eq!(release.hold_off(), Some(10));
    let options = [option(N::BAD_CSM_OPTION, 9)];
    let abort = both_ways_tcp(b"\x60\xe5\x21\x09\xffbad", Code::ABORT, b"", &options, b"bad");
    assert_eq!(abort.bad_csm_option(), Some(N(9)));
}

/// Leading zeros of a uint (§3.2) are understood, and kept when the message is passed on.
#[test]
fn a_uint_may_have_leading_zeros() {
    let bytes = b"\x40\x01\x00\x01\xc2\x00\x3c\x24\x00\x00\x01\x2c";
    let message = decode(bytes).unwrap();
    assert_eq!(message.options.content_format(), Some(ContentFormat::CBOR));
    assert_eq!(message.options.max_age(), Some(300));
    let mut out = [0; 12];
    assert_eq!(message.encode(&mut out), Ok(12));
    assert_eq!(out, *bytes);
}
