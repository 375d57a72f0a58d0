//! What real peers say: every message decodes, and encodes to the same bytes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

use codec_coap::{
    CoapOption, Code, Decoded, Message, MessageType, OptionNumber, Options, TcpMessage, decode,
    decode_tcp, frame_tcp,
};

/// The lines of `libcoap.txt` that begin like this.
fn recorded(kind: &str) -> impl Iterator<Item = Vec<u8>> {
    include_str!("libcoap.txt").lines().filter_map(move |line| {
        let digits = line.strip_prefix(kind)?.rsplit(' ').next()?;
        let digit = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        Some((0..digits.len()).step_by(2).map(digit).collect())
    })
}

#[test]
fn every_datagram_decodes_and_encodes_to_the_same_bytes() {
    let mut count = 0;
    for bytes in recorded("udp ") {
        let message = decode(&bytes).unwrap();
        let list: Vec<CoapOption<'_>> = message.options.iter().collect();
        let again = Message { options: Options::from(&list[..]), ..message };
        for message in [message, again] {
            let mut out = vec![0; bytes.len()];
            assert_eq!(message.encode(&mut out), Ok(bytes.len()), "{message:?}");
            assert_eq!(out, bytes, "{message:?}");
        }
        count += 1;
    }
    assert_eq!(count, 36);
}

/// Splits a stream at every place: what is decoded does not depend on it, and `needed` keeps its word.
#[test]
fn every_tcp_message_decodes_however_it_is_split() {
    let mut codes = Vec::new();
    for stream in recorded("tcp ") {
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let Ok(Decoded::Complete { message, consumed }) = decode_tcp(rest) else {
                panic!("{:?} of {rest:x?}", decode_tcp(rest));
            };
            let list: Vec<CoapOption<'_>> = message.options.iter().collect();
            let again = TcpMessage { options: Options::from(&list[..]), ..message };
            for message in [message, again] {
                let mut out = vec![0; consumed];
                assert_eq!(message.encode(&mut out), Ok(consumed), "{message:?}");
                assert_eq!(out, rest[..consumed], "{message:?}");
            }
            for cut in 0..consumed {
                let Ok(Decoded::Incomplete { needed }) = decode_tcp(&rest[..cut]) else { panic!() };
                assert!(cut < needed && needed <= consumed);
                match frame_tcp(&rest[..cut], 8_388_864).unwrap() {
                    Decoded::Complete { message, .. } => assert_eq!(message.len(), consumed),
                    Decoded::Incomplete { needed } => assert!(cut < needed && needed <= consumed),
                }
            }
            codes.push(message.code);
            rest = &rest[consumed..];
        }
    }
    for code in [Code::CSM, Code::GET, Code::PUT, Code::CONTENT, Code::CHANGED] {
        assert!(codes.contains(&code), "no {code}");
    }
}

#[test]
fn what_the_peers_said() {
    let datagrams: Vec<Vec<u8>> = recorded("udp ").collect();
    let messages: Vec<Message<'_>> = datagrams.iter().map(|bytes| decode(bytes).unwrap()).collect();
    let with = |code| messages.iter().filter(move |message| message.code == code);

    let blocks: Vec<u32> =
        with(Code::PUT).filter_map(|put| Some(put.options.block1()?.num)).collect();
    assert_eq!(blocks, [0, 1, 2, 3, 4]);
    let put = with(Code::PUT).next_back().unwrap();
    assert!(put.options.uri_path().eq(["dyn amic", "resé"]));
    assert!(put.options.uri_query().eq(["x=1", "y=a&b"]));
    assert_eq!(put.options.size1(), Some(320));

    let notified = with(Code::CONTENT).filter_map(|content| content.options.observe());
    assert!(notified.eq([2, 3, 4]));
    let refused = with(Code::BAD_OPTION).next().unwrap();
    assert_eq!(refused.message_type, MessageType::Acknowledgement);
    assert_eq!(refused.payload, b"Bad Option");
    let unknown = refused.options.iter().next().unwrap().number;
    assert_eq!(unknown, OptionNumber(2049));
    assert!(unknown.is_critical());
    assert!(with(Code::GET).any(|get| get.token == b"token124"));
    assert!(with(Code::FETCH).all(|fetch| fetch.payload == b"{}"));
}
