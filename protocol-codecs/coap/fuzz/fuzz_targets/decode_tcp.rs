#![no_main]

use codec_coap::{Decoded, decode_tcp, frame_tcp};
use libfuzzer_sys::fuzz_target;

// Whatever decodes, encodes to an equal message in no more bytes; and every prefix of it asks for more,
// never for more than there is.
fuzz_target!(|bytes: &[u8]| {
    match decode_tcp(bytes) {
        Ok(Decoded::Complete { message, consumed }) => {
            let len = message.encoded_len().expect("what was decoded can be encoded");
            assert!(len <= consumed && consumed <= bytes.len());
            let mut again = vec![0; len];
            assert_eq!(message.encode(&mut again), Ok(len));
            assert_eq!(decode_tcp(&again), Ok(Decoded::Complete { message, consumed: len }));
            for cut in [0, 1, 2, 5, consumed / 2, consumed - 1] {
                if cut < consumed {
                    match decode_tcp(&bytes[..cut]) {
                        Ok(Decoded::Incomplete { needed }) => {
                            assert!(cut < needed && needed <= consumed);
                        }
                        other => panic!("{other:?}"),
                    }
                    match frame_tcp(&bytes[..cut], consumed as u32) {
                        Ok(Decoded::Complete { message, .. }) => {
                            assert_eq!(message.len(), consumed);
                        }
                        Ok(Decoded::Incomplete { needed }) => assert!(cut < needed),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        Ok(Decoded::Incomplete { needed }) => assert!(bytes.len() < needed),
        Err(error) => assert!(!error.label().is_empty()),
    }
});
