//! Decoding and encoding, beside the crates that are fastest at it.
//!
//! Every contender starts from the bytes of one message (or from a message it built itself, for encoding)
//! and every option of what it decoded is looked at, the payload included. What the others are spared is to
//! their advantage: `coap-message-implementations` knows no header of UDP, so it gets code and token cut
//! off for it and looks at neither message type nor message ID; and it checks nothing of an option's value:
//! not its length, not whether it is text.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::hint::black_box;

use coap_message::{MessageOption as _, MinimalWritableMessage as _, ReadableMessage as _};
use coap_message_implementations::inmemory::{Message as LazyMessage, MessageMut};
use coap_message_implementations::option_iteration::{OptItem, OptPayloadReader};
use codec_coap as ours;
use codec_coap::{
    CoapOption, Code, ContentFormat, MessageType, OptionNumber, OptionValue, Options,
};
use criterion::{Criterion, criterion_group, criterion_main};

const TOKEN: [u8; 4] = [0xde, 0xad, 0xbe, 0xef];
const MESSAGE_ID: u16 = 0x3039;
const PAYLOAD: [u8; 64] =
    *b"{\"t\":21.5,\"h\":0.41,\"ts\":1759312345,\"unit\":\"C\",\"src\":\"sensor-42\"}";

fn get_options() -> [CoapOption<'static>; 7] {
    [
        CoapOption::new(OptionNumber::URI_HOST, "gw.eu-1.example.com"),
        CoapOption::new(OptionNumber::URI_PATH, "devices"),
        CoapOption::new(OptionNumber::URI_PATH, "0042"),
        CoapOption::new(OptionNumber::URI_PATH, "temperature"),
        CoapOption::new(OptionNumber::URI_QUERY, "unit=C"),
        CoapOption::new(OptionNumber::URI_QUERY, "last=10"),
        CoapOption::new(OptionNumber::ACCEPT, ContentFormat::CBOR),
    ]
}

fn content_options() -> [CoapOption<'static>; 3] {
    [
        CoapOption::new(OptionNumber::ETAG, [1, 2, 3, 4].as_slice()),
        CoapOption::new(OptionNumber::CONTENT_FORMAT, ContentFormat::JSON),
        CoapOption::new(OptionNumber::MAX_AGE, 300),
    ]
}

fn get<'a>(options: &'a [CoapOption<'a>]) -> ours::Message<'a> {
    ours::Message {
        message_type: MessageType::Confirmable,
        code: Code::GET,
        message_id: MESSAGE_ID,
        token: &TOKEN,
        options: Options::from(options),
        payload: &[],
    }
}

fn content<'a>(options: &'a [CoapOption<'a>]) -> ours::Message<'a> {
    ours::Message {
        message_type: MessageType::Acknowledgement,
        code: Code::CONTENT,
        payload: &PAYLOAD,
        ..get(options)
    }
}

fn encoded(message: &ours::Message<'_>, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; message.encoded_len().unwrap()];
    message.encode(&mut bytes).unwrap();
    assert_eq!(bytes.len(), len);
    bytes
}

// Looks are scalar by scalar: copying two neighbouring fields at once would stall on the stores that just
// wrote them, in whichever crate's struct they lie side by side.

fn look<T>(value: T) {
    black_box(value);
}

fn look_at(data: &[u8]) {
    black_box(data.as_ptr());
    black_box(data.len());
}

fn decode_ours(bytes: &[u8]) {
    match ours::decode(black_box(bytes)) {
        Ok(message) => {
            look(message.message_type);
            look(message.code);
            look(message.message_id);
            look_at(message.token);
            for option in message.options {
                look(option.number);
                match option.value {
                    OptionValue::Empty => {}
                    OptionValue::Uint(value) => look(value),
                    OptionValue::String(text) => look_at(text.as_bytes()),
                    OptionValue::Opaque(bytes) => look_at(bytes),
                }
            }
            look_at(message.payload);
        }
        Err(error) => panic!("{error}"),
    }
}

/// Code, token, and what is behind the token.
fn split(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (token, tail) = bytes[4..].split_at(usize::from(bytes[0] & 15));
    (bytes[1], token, tail)
}

fn decode_lazy(bytes: &[u8]) {
    let (code, token, tail) = split(black_box(bytes));
    let message = LazyMessage::new_from_slice(code, tail);
    look(message.code());
    look_at(token);
    for option in message.options() {
        look(option.number());
        look_at(option.value());
    }
    look_at(message.payload());
}

fn decode_reader(bytes: &[u8]) {
    let (code, token, tail) = split(black_box(bytes));
    look(code);
    look_at(token);
    for item in OptPayloadReader::new(tail) {
        match item {
            OptItem::Option { number, data } => {
                look(number);
                look_at(data);
            }
            OptItem::Payload(payload) => look_at(payload),
            OptItem::Error(error) => panic!("{error}"),
        }
    }
}

fn decode_lite(bytes: &[u8]) {
    let packet = coap_lite::Packet::from_bytes(black_box(bytes)).unwrap();
    look(packet.header.get_type());
    look(packet.header.code);
    look(packet.header.message_id);
    look_at(packet.get_token());
    for (number, values) in packet.options() {
        for value in values {
            look(*number);
            look_at(value);
        }
    }
    look_at(&packet.payload);
}

fn decode(c: &mut Criterion) {
    let get_bytes = encoded(&get(&get_options()), 71);
    let content_bytes = encoded(&content(&content_options()), 83);
    for (name, bytes) in [
        ("decode GET, 7 options, 71 B", get_bytes),
        ("decode 2.05, 3 options, 83 B", content_bytes),
    ] {
        let mut group = c.benchmark_group(name);
        group.bench_function("ours", |b| b.iter(|| decode_ours(&bytes)));
        group.bench_function("coap-message-impls", |b| b.iter(|| decode_lazy(&bytes)));
        group.bench_function("its-OptPayloadReader", |b| b.iter(|| decode_reader(&bytes)));
        group.bench_function("coap-lite", |b| b.iter(|| decode_lite(&bytes)));
        group.finish();
    }
}

fn encode_lazy(options: &[(u16, &[u8])], out: &mut [u8; 128]) -> usize {
    // The header and the token of UDP are the caller's.
    out[0] = 0x60 | TOKEN.len() as u8;
    out[2..4].copy_from_slice(&MESSAGE_ID.to_be_bytes());
    out[4..8].copy_from_slice(&TOKEN);
    let (head, tail) = out.split_at_mut(8);
    let mut message = MessageMut::new_in_slice(&mut head[1], tail);
    message.set_code(Code::CONTENT.0);
    for &(number, value) in options {
        message.add_option(number, value).unwrap();
    }
    message.set_payload(&PAYLOAD).unwrap();
    8 + message.finish().0
}

fn encode(c: &mut Criterion) {
    let options = content_options();
    let expected = encoded(&content(&options), 83);
    let mut group = c.benchmark_group("encode 2.05 with 64 B payload, 83 B");

    let mut out = [0; 128];
    let message = content(&options);
    let mut encode = || black_box(&message).encode(black_box(&mut out)).unwrap();
    assert_eq!(encode(), 83);
    group.bench_function("ours", |b| b.iter(&mut encode));
    assert_eq!(out[..83], *expected);

    let mut out = [0; 128];
    let decoded = ours::decode(&expected).unwrap();
    let values = decoded.options.iter().map(|option| match option.number {
        OptionNumber::ETAG => (option.number.0, &[1, 2, 3, 4][..]),
        OptionNumber::CONTENT_FORMAT => (option.number.0, &[50][..]),
        _ => (option.number.0, &[1, 44][..]),
    });
    let values: Vec<(u16, &[u8])> = values.collect();
    let mut encode = || encode_lazy(black_box(&values), black_box(&mut out));
    assert_eq!(encode(), 83);
    group.bench_function("coap-message-impls", |b| b.iter(&mut encode));
    assert_eq!(out[..83], *expected);

    let packet = coap_lite::Packet::from_bytes(&expected).unwrap();
    assert_eq!(packet.to_bytes().unwrap(), expected);
    group.bench_function("coap-lite", |b| b.iter(|| black_box(&packet).to_bytes().unwrap()));
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
