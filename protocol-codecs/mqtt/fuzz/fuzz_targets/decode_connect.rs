#![no_main]

use codec_mqtt::{Decoded, Packet, Version, decode, decode_connect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match decode_connect(bytes) {
        Ok(Decoded::Complete { packet, consumed }) => {
            let whole = decode(bytes, Version::V311);
            assert_eq!(whole, Ok(Decoded::Complete { packet: Packet::Connect(packet), consumed }));
            let mut again = vec![0; packet.encoded_len().expect("what was decoded can be encoded")];
            assert_eq!(packet.encode(&mut again), Ok(again.len()));
            assert_eq!(again, bytes[..consumed]);
        }
        Ok(Decoded::Incomplete { needed }) => assert!(bytes.len() < needed),
        Err(_) => {}
    }
});
