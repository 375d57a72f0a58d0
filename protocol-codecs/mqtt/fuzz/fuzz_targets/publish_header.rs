#![no_main]

use codec_mqtt::{Decoded, Packet, Version, decode, decode_publish_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (v5, bytes) = input;
    let version = if v5 { Version::V5 } else { Version::V311 };
    match decode_publish_header(bytes, version) {
        Ok(Decoded::Complete { packet, consumed }) => {
            // The same bytes with a payload to match are a whole PUBLISH with that header.
            let mut whole = bytes[..consumed].to_vec();
            if packet.payload_len > 1 << 16 {
                return;
            }
            whole.resize(consumed + packet.payload_len, 0xff);
            match decode(&whole, version) {
                Ok(Decoded::Complete { packet: Packet::Publish(publish), .. }) => {
                    assert_eq!(publish.header(), packet);
                }
                other => panic!("{other:?}"),
            }
            for cut in 0..consumed {
                match decode_publish_header(&bytes[..cut], version) {
                    Ok(Decoded::Incomplete { needed }) => {
                        assert!(cut < needed && needed <= consumed);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        Ok(Decoded::Incomplete { needed }) => assert!(bytes.len() < needed),
        Err(_) => {}
    }
});
