//! What holds for every message and for every string of bytes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

use codec_coap::{
    CoapOption, Code, Decoded, EncodeError, Message, MessageType, OptionList, OptionNumber,
    OptionValue, Options, TcpMessage, decode, decode_tcp, frame_tcp, header,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What an option is made of, owned.
#[derive(Clone, Debug)]
enum Value {
    Empty,
    Uint(u32),
    String(String),
    Opaque(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Parts {
    message_type: u8,
    code: Code,
    message_id: u16,
    token: Vec<u8>,
    options: Vec<(u16, Value)>,
    payload: Vec<u8>,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Empty),
        (0..32_u32, any::<u32>()).prop_map(|(shift, value)| Value::Uint(value >> shift)),
        vec(prop_oneof![4 => select(vec!['a', '.', '/']), 1 => any::<char>()], 0..20)
            .prop_map(|text| Value::String(text.into_iter().collect())),
        vec(any::<u8>(), 0..20).prop_map(Value::Opaque),
        vec(any::<u8>(), 250..300).prop_map(Value::Opaque),
    ]
}

fn number() -> impl Strategy<Value = u16> {
    prop_oneof![
        8 => 0..40_u16,
        1 => select(vec![60, 252, 258, 292]),
        1 => any::<u16>(),
    ]
}

fn parts() -> impl Strategy<Value = Parts> {
    let code = prop_oneof![4 => 0..8_u8, 4 => 64..=191_u8, 1 => 225..=229_u8, 1 => any::<u8>()];
    (
        0..4_u8,
        code.prop_map(Code),
        any::<u16>(),
        vec(any::<u8>(), 0..=8),
        vec((number(), value()), 0..6),
        vec(any::<u8>(), 0..300),
    )
        .prop_map(|(message_type, code, message_id, token, options, payload)| Parts {
            message_type,
            code,
            message_id,
            token,
            options,
            payload,
        })
}

impl Parts {
    fn options(&self) -> Vec<CoapOption<'_>> {
        fn option((number, value): &(u16, Value)) -> CoapOption<'_> {
            CoapOption {
                number: OptionNumber(*number),
                value: match value {
                    Value::Empty => OptionValue::Empty,
                    Value::Uint(value) => OptionValue::Uint(*value),
                    Value::String(text) => OptionValue::from(text.as_str()),
                    Value::Opaque(bytes) => OptionValue::Opaque(bytes),
                },
            }
        }
        self.options.iter().map(option).collect()
    }

    /// Those options that can be encoded together.
    fn sound(&self) -> Vec<CoapOption<'_>> {
        let mut sound: Vec<CoapOption<'_>> = Vec::new();
        for option in self.options() {
            let mut with = sound.clone();
            with.push(option);
            with.sort_by_key(|option| option.number);
            let message = Message {
                code: Code::GET,
                options: Options::from(&with[..]),
                ..Message::empty(MessageType::Confirmable, 0)
            };
            if message.encoded_len().is_ok() {
                sound = with;
            }
        }
        sound
    }

    fn message<'a>(&'a self, list: &'a [CoapOption<'a>]) -> Message<'a> {
        Message {
            message_type: MessageType::from_bits(self.message_type),
            code: self.code,
            message_id: self.message_id,
            token: &self.token,
            options: Options::from(list),
            payload: &self.payload,
        }
    }
}

/// What encodes, decodes to the same; what does not encode would not decode.
fn check(message: Message<'_>) -> Result<(), TestCaseError> {
    let mut out = vec![0; 2048];
    match message.encode(&mut out) {
        Ok(len) => {
            prop_assert_eq!(message.encoded_len(), Ok(len));
            prop_assert_eq!(decode(&out[..len]), Ok(message));
            let mut again = vec![0; len];
            prop_assert_eq!(decode(&out[..len]).unwrap().encode(&mut again), Ok(len));
            prop_assert_eq!(&again, &out[..len]);
            prop_assert!(message.encode(&mut again[..len - 1]).is_err());
        }
        Err(EncodeError::BufferTooSmall { .. }) => panic!(),
        Err(error) => prop_assert!(!error.label().is_empty()),
    }
    let Message { code, token, options, payload, .. } = message;
    let message = TcpMessage { code, token, options, payload };
    if let Ok(len) = message.encode(&mut out) {
        prop_assert_eq!(message.encoded_len(), Ok(len));
        let whole = Decoded::Complete { message, consumed: len };
        prop_assert_eq!(decode_tcp(&out[..len]), Ok(whole));
        prop_assert_eq!(decode_tcp(&out), Ok(whole));
        for cut in 0..len {
            let Ok(Decoded::Incomplete { needed }) = decode_tcp(&out[..cut]) else { panic!() };
            prop_assert!(cut < needed && needed <= len);
            match frame_tcp(&out[..cut], 2048).unwrap() {
                Decoded::Complete { message, .. } => prop_assert_eq!(message.len(), len),
                Decoded::Incomplete { needed } => prop_assert!(cut < needed && needed <= len),
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn sound_messages_survive(parts in parts()) {
        let list = parts.sound();
        check(parts.message(&list))?;
    }

    #[test]
    fn wild_messages_survive_or_are_refused(parts in parts()) {
        check(parts.message(&parts.options()))?;
        let mut list = parts.options();
        list.sort_by_key(|option| option.number);
        check(parts.message(&list))?;
    }

    #[test]
    fn a_list_keeps_the_order_of_numbers_and_of_arrival(parts in parts()) {
        let mut list = OptionList::<8>::new();
        for option in parts.options() {
            list.push(option).unwrap();
        }
        let mut sorted = parts.options();
        sorted.sort_by_key(|option| option.number);
        prop_assert!(list.options().iter().eq(sorted));
    }

    /// Bytes that look like a message: whatever decodes, encodes to the same bytes.
    #[test]
    fn what_decodes_encodes_to_the_same(
        first in select(vec![0x40_u8, 0x41, 0x50, 0x60, 0x48]),
        code in select(vec![0_u8, 1, 2, 69, 95, 132]),
        rest in vec(prop_oneof![
            3 => select(vec![0x00_u8, 0x10, 0x11, 0x31, 0x41, 0xb1, 0xd1, 0x61, 0xff]),
            2 => any::<u8>(),
        ], 2..40),
    ) {
        let bytes = [&[first, code][..], &rest].concat();
        match decode(&bytes) {
            Ok(message) => {
                let mut out = vec![0; bytes.len()];
                prop_assert_eq!(message.encode(&mut out), Ok(bytes.len()));
                prop_assert_eq!(&out, &bytes);
                let mut last = OptionNumber(0);
                for option in message.options {
                    prop_assert!(last <= option.number);
                    last = option.number;
                }
            }
            Err(error) => {
                if let Ok(header) = header(&bytes) {
                    let _ = error.answer(header);
                }
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
