#![no_main]

use codec_coap::{CoapOption, Message, OptionNumber, Options, decode, header};
use libfuzzer_sys::fuzz_target;

// Whatever decodes, encodes to the same bytes, and its options to an equal message.
fuzz_target!(|bytes: &[u8]| {
    match decode(bytes) {
        Ok(message) => {
            let mut again = vec![0; bytes.len()];
            assert_eq!(message.encode(&mut again), Ok(bytes.len()));
            assert_eq!(again, bytes);
            let list: Vec<CoapOption<'_>> = message.options.iter().collect();
            assert!(list.is_sorted_by_key(|option| option.number));
            let listed = Message { options: Options::from(&list[..]), ..message };
            let len = match listed.encode(&mut again) {
                Ok(len) => len,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(decode(&again[..len]), Ok(message));
            let options = message.options;
            assert!(options.uri_host().is_none_or(|host| host.as_str().len() <= 255));
            assert!(options.uri_path().all(|segment| segment.as_str() != ".."));
            assert_eq!(options.get(OptionNumber(1)).is_some(), options.if_match().next().is_some());
        }
        Err(error) => {
            assert!(!error.label().is_empty() && !error.to_string().is_empty());
            if let Ok(header) = header(bytes) {
                let _ = error.answer(header);
            }
        }
    }
});
