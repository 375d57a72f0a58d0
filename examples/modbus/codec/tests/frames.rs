//! What the codec promises.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use codec_modbus::{
    DecodeError, Decoded, EncodeError, Exception, Frame, Function, MAX_DATA_LEN, MAX_FRAME_LEN,
    Span, decode,
};
use proptest::prelude::*;

fn complete(bytes: &[u8]) -> Frame<'_> {
    match decode(bytes) {
        Ok(Decoded::Complete { frame, consumed }) if consumed == bytes.len() => frame,
        other => panic!("{other:?}"),
    }
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame.encoded_len()];
    assert_eq!(frame.encode(&mut bytes), Ok(bytes.len()));
    bytes
}

/// The example of MBTCP §3.1.2: register 5 of unit 255.
const READ: [u8; 12] = [0x15, 0x01, 0, 0, 0, 6, 0xff, 3, 0, 4, 0, 1];

#[test]
fn a_request_of_the_standard_is_taken_apart_and_put_together_again() {
    let frame = complete(&READ);
    let function = Function::READ_HOLDING_REGISTERS;
    assert_eq!(frame, Frame { transaction: 0x1501, unit: 255, function, data: &[0, 4, 0, 1] });
    assert_eq!(encoded(&frame), READ);
}

#[test]
fn a_refusal_has_the_requests_transaction_and_unit() {
    let mut room = [0];
    let refusal = complete(&READ).refusal(Exception::ILLEGAL_FUNCTION, &mut room);
    assert_eq!(encoded(&refusal), [0x15, 0x01, 0, 0, 0, 3, 0xff, 0x83, 0x01]);
}

#[test]
fn a_header_that_cannot_be_one_is_refused_at_once() {
    let mut protocol = READ;
    protocol[3] = 1;
    assert_eq!(decode(&protocol[..8]), Err(DecodeError::Protocol(1)));
    for length in [0, 1, 255, 65_535_u16] {
        let mut bytes = READ;
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
        assert_eq!(decode(&bytes[..8]), Err(DecodeError::Length(length)));
    }
}

#[test]
fn the_longest_frame_is_the_longest() {
    let data = [7; MAX_DATA_LEN + 1];
    let mut frame = Frame { transaction: 1, unit: 2, function: Function(3), data: &data };
    let mut out = [0; MAX_FRAME_LEN + 1];
    assert_eq!(frame.encode(&mut out), Err(EncodeError::TooMuchData { len: 253 }));
    frame.data = &data[1..];
    assert_eq!(frame.encode(&mut out[..259]), Err(EncodeError::BufferTooSmall { needed: 260 }));
    assert_eq!(frame.encode(&mut out), Ok(MAX_FRAME_LEN));
    assert_eq!(complete(&out[..MAX_FRAME_LEN]), frame);
}

#[test]
fn a_span_ends_with_the_last_address() {
    let span = |function, data| Frame { transaction: 0, unit: 0, function, data }.span();
    let of = |first, last| Some(Span { first, last });
    assert_eq!(span(Function::READ_COILS, &[0, 10, 0, 5]), of(10, 14));
    assert_eq!(span(Function::WRITE_SINGLE_COIL, &[0, 10, 0xff, 0]), of(10, 10));
    let both = [0, 1, 0, 2, 0, 30, 0, 3, 6];
    assert_eq!(span(Function::READ_WRITE_MULTIPLE_REGISTERS, &both), of(30, 32));
    // None, beyond the last address, and not there.
    assert_eq!(span(Function::READ_COILS, &[0, 10, 0, 0]), None);
    assert_eq!(span(Function::READ_COILS, &[0xff, 0xff, 0, 2]), None);
    assert_eq!(span(Function::READ_COILS, &[0, 10, 0]), None);
    assert_eq!(span(Function(43), &[14, 1, 0, 0]), None);
}

#[test]
fn functions_have_names_or_numbers() {
    for function in Function::NAMED {
        assert_eq!(function.to_string().parse(), Ok(function));
    }
    assert_eq!(Function(43).to_string().parse(), Ok(Function(43)));
    for text in ["0", "128", "256", "other", ""] {
        assert_eq!(text.parse::<Function>(), Err(()), "{text:?}");
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(
        transaction: u16,
        unit: u8,
        function: u8,
        data in proptest::collection::vec(any::<u8>(), 0..=MAX_DATA_LEN),
    ) {
        let frame = Frame { transaction, unit, function: Function(function), data: &data };
        let bytes = encoded(&frame);
        prop_assert_eq!(complete(&bytes), frame);
        // Every beginning of it asks for more than there is, and never for more than the frame has.
        for len in 0..bytes.len() {
            match decode(&bytes[..len]) {
                Ok(Decoded::Incomplete { needed }) => prop_assert!(len < needed && needed <= bytes.len()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn whatever_decodes_encodes_to_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Decoded::Complete { frame, consumed }) = decode(&bytes) {
            prop_assert_eq!(encoded(&frame), &bytes[..consumed]);
            let _ = frame.span();
        }
    }
}
