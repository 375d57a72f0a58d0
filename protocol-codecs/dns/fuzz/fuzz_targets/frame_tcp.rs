#![no_main]

use codec_dns::{Decoded, decode, frame_tcp, tcp_length};
use libfuzzer_sys::fuzz_target;

// A stream is taken apart into messages, and every prefix of a frame asks for more, never for more than
// there is.
fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Decoded::Complete { message, consumed }) = frame_tcp(rest, 4096) {
        assert_eq!(rest[..2], tcp_length(message.len()).expect("is short"));
        assert_eq!(rest[2..consumed], *message);
        assert!(message.len() <= 4096);
        for cut in [0, 1, 2, consumed / 2, consumed - 1] {
            match frame_tcp(&rest[..cut], 4096) {
                Ok(Decoded::Incomplete { needed }) => assert!(cut < needed && needed <= consumed),
                other => panic!("{other:?}"),
            }
        }
        let _ = decode(message);
        rest = &rest[consumed..];
    }
});
