//! What the fuzz targets check in common.

use codec_mqtt::{Decoded, Packet, Version, decode};

/// Whatever decodes, encodes to an equal packet in no more bytes; and every prefix of it asks for
/// more, never for more than there is.
pub fn check_decode(bytes: &[u8], version: Version) {
    match decode(bytes, version) {
        Ok(Decoded::Complete { packet, consumed }) => {
            assert!(consumed <= bytes.len());
            check_encode(packet, consumed, version);
            for cut in [0, 1, 2, 5, consumed / 2, consumed - 1] {
                if cut < consumed {
                    match decode(&bytes[..cut], version) {
                        Ok(Decoded::Incomplete { needed }) => {
                            assert!(cut < needed && needed <= consumed);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        Ok(Decoded::Incomplete { needed }) => assert!(bytes.len() < needed),
        Err(error) => {
            assert!(!error.label().is_empty() && error.reason_code().is_error());
        }
    }
}

fn check_encode(packet: Packet<'_>, consumed: usize, version: Version) {
    let len = packet.encoded_len(version).expect("what was decoded can be encoded");
    assert!(len <= consumed);
    let mut again = vec![0; len];
    assert_eq!(packet.encode(version, &mut again), Ok(len));
    assert_eq!(decode(&again, version), Ok(Decoded::Complete { packet, consumed: len }));
}
