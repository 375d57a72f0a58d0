#![no_main]

use codec_mqtt::{Decoded, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match frame(bytes, 1000) {
        Ok(Decoded::Complete { packet, consumed }) => {
            assert_eq!(packet.header_len, consumed);
            assert!(packet.len() <= 1000 && consumed <= bytes.len());
            for cut in 0..consumed {
                match frame(&bytes[..cut], 1000) {
                    Ok(Decoded::Incomplete { needed }) => {
                        assert!(cut < needed && needed <= consumed);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        Ok(Decoded::Incomplete { needed }) => assert!(bytes.len() < needed && needed <= 5),
        Err(_) => {}
    }
});
