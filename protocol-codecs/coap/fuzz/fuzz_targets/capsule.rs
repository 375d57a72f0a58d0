#![no_main]

use codec_capsule::{Datagram, Decoded, Decoder, Event, decode};
use libfuzzer_sys::fuzz_target;

// A stream of capsules in pieces holds the same capsules as the whole.
fuzz_target!(|input: (u8, &[u8])| {
    let (piece_len, stream) = input;
    let mut decoder = Decoder::new();
    let mut found: Vec<(u64, Vec<u8>, bool)> = Vec::new();
    for mut piece in stream.chunks(usize::from(piece_len).max(1)) {
        while let Some(event) = decoder.next(&mut piece) {
            match event {
                Event::Begin(header) => found.push((header.capsule_type.0, Vec::new(), false)),
                Event::Value(value) => found.last_mut().expect("begun").1.extend_from_slice(value),
                Event::End => found.last_mut().expect("begun").2 = true,
            }
        }
        assert!(piece.is_empty());
    }
    let mut found = found.into_iter();
    let mut rest = stream;
    while let Ok(Decoded::Complete { value, consumed }) = decode(rest, u32::MAX) {
        let expected = (value.capsule_type.0, value.value.to_vec());
        let (number, bytes, _) = found.next().expect("the whole has it");
        assert_eq!((number, bytes), expected);
        let mut out = vec![0; consumed];
        let len = value.encode(&mut out).expect("what was decoded can be encoded");
        assert!(len <= consumed);
        if let Ok(datagram) = Datagram::decode(value.value) {
            assert!(datagram.encoded_len().is_ok());
        }
        rest = &rest[consumed..];
    }
    assert!(found.next().is_none_or(|(_, _, ended)| !ended));
});
