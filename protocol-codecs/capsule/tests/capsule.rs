//! What holds for capsules, byte for byte and in any pieces.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

use codec_capsule::{
    Capsule, CapsuleType, Datagram, DecodeError, Decoded, Decoder, EncodeError, Event, Header,
    MAX_UDP_PAYLOAD_LEN, UDP_PAYLOAD, decode, header, varint,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// RFC 9000 §A.1.
#[test]
fn the_integers_that_the_standard_prints() {
    for (bytes, value) in [
        (&b"\xc2\x19\x7c\x5e\xff\x14\xe8\x8c"[..], 151_288_809_941_952_652),
        (b"\x9d\x7f\x3e\x7d", 494_878_333),
        (b"\x7b\xbd", 15_293),
        (b"\x25", 37),
    ] {
        assert_eq!(varint::decode(bytes), Decoded::Complete { value, consumed: bytes.len() });
        let mut out = [0xaa; 9];
        assert_eq!(varint::encode(value, &mut out), Ok(bytes.len()));
        assert_eq!(out[..bytes.len()], *bytes);
        assert_eq!(out[bytes.len()], 0xaa);
    }
    // The same 37 in two bytes.
    assert_eq!(varint::decode(b"\x40\x25"), Decoded::Complete { value: 37, consumed: 2 });
    assert_eq!(varint::len(varint::MAX), Ok(8));
    assert_eq!(varint::len(varint::MAX + 1), Err(EncodeError::IntegerTooLarge(varint::MAX + 1)));
}

#[test]
fn a_udp_payload_travels_in_a_datagram_capsule() {
    let datagram = Datagram { context_id: UDP_PAYLOAD, payload: b"\x40\x01\x12\x34" };
    let mut out = [0; 16];
    assert_eq!(datagram.encoded_len(), Ok(7));
    assert_eq!(datagram.encode(&mut out), Ok(7));
    assert_eq!(&out[..7], b"\x00\x05\x00\x40\x01\x12\x34");
    let capsule = Capsule { capsule_type: CapsuleType::DATAGRAM, value: &out[2..7] };
    assert_eq!(decode(&out[..7], 5), Ok(Decoded::Complete { value: capsule, consumed: 7 }));
    assert_eq!(Datagram::decode(capsule.value), Ok(datagram));
    assert_eq!(datagram.encode(&mut out[..6]), Err(EncodeError::BufferTooSmall { needed: 7 }));
}

#[test]
fn a_capsule_above_the_limit_is_refused_by_its_header_alone() {
    let capsule_type = CapsuleType::DATAGRAM;
    let error = DecodeError::CapsuleTooLong { capsule_type, len: 1501, limit: 1500 };
    assert_eq!(decode(b"\x00\x45\xdd", 1500), Err(error));
    assert_eq!(decode(b"\x00\x45\xdd", 1501), Ok(Decoded::Incomplete { needed: 1504 }));
    assert_eq!(error.label(), "capsule_too_long");
    assert_eq!(error.to_string(), "capsule of type 0x0 with 1501 bytes is above the limit of 1500");
}

#[test]
fn a_datagram_without_a_whole_context_id_is_refused() {
    for value in [&b""[..], b"\x40", b"\xc0\0\0\0\0\0\0"] {
        let error = DecodeError::ContextIdTruncated { len: value.len() };
        assert_eq!(Datagram::decode(value), Err(error));
    }
}

#[test]
fn a_udp_payload_has_a_limit_and_other_contexts_have_none() {
    let mut value = vec![0; 1 + MAX_UDP_PAYLOAD_LEN];
    assert!(Datagram::decode(&value).is_ok());
    value.push(0);
    let error = DecodeError::UdpPayloadTooLong { len: MAX_UDP_PAYLOAD_LEN + 1 };
    assert_eq!(Datagram::decode(&value), Err(error));
    let datagram = Datagram { context_id: 0, payload: &value[1..] };
    assert_eq!(datagram.encoded_len(), Err(EncodeError::Refused(error)));
    value[0] = 2;
    let datagram = Datagram::decode(&value).unwrap();
    assert_eq!((datagram.context_id, datagram.payload.len()), (2, MAX_UDP_PAYLOAD_LEN + 1));
    assert_eq!(datagram.encoded_len(), Ok(1 + 4 + value.len()));
}

#[test]
fn types_that_only_exercise_extensibility_are_known() {
    // RFC 9297 §5.4: 0x29 * N + 0x17.
    assert!(CapsuleType(0x17).is_reserved() && CapsuleType(0x40).is_reserved());
    assert!(!CapsuleType(0).is_reserved() && !CapsuleType(0x18).is_reserved());
}

fn integer() -> impl Strategy<Value = u64> {
    (0..62_u32, 0..=varint::MAX).prop_map(|(shift, value)| value >> shift)
}

proptest! {
    #[test]
    fn integers_survive(value in integer()) {
        let mut out = [0; 8];
        let len = varint::encode(value, &mut out).unwrap();
        prop_assert_eq!(varint::len(value), Ok(len));
        prop_assert_eq!(varint::decode(&out), Decoded::Complete { value, consumed: len });
        for cut in 0..len {
            let Decoded::Incomplete { needed } = varint::decode(&out[..cut]) else { panic!() };
            prop_assert!(cut < needed && needed <= len);
        }
    }

    #[test]
    fn capsules_survive(number in integer(), value in vec(any::<u8>(), 0..300)) {
        let capsule = Capsule { capsule_type: CapsuleType(number), value: &value };
        let mut out = vec![0; capsule.encoded_len().unwrap() + 1];
        let len = capsule.encode(&mut out).unwrap();
        prop_assert_eq!(len, out.len() - 1);
        prop_assert_eq!(decode(&out, 300), Ok(Decoded::Complete { value: capsule, consumed: len }));
        for cut in 0..len {
            let Ok(Decoded::Incomplete { needed }) = decode(&out[..cut], 300) else { panic!() };
            prop_assert!(cut < needed && needed <= len);
        }
        let expected = Header { capsule_type: capsule.capsule_type, len: value.len() as u64 };
        let Decoded::Complete { value: found, .. } = header(&out) else { panic!() };
        prop_assert_eq!(found, expected);
    }

    /// Any split of a stream decodes the same.
    #[test]
    fn a_stream_may_come_in_any_pieces(
        capsules in vec((integer(), vec(any::<u8>(), 0..100)), 0..5),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let mut stream = Vec::new();
        for (number, value) in &capsules {
            let capsule = Capsule { capsule_type: CapsuleType(*number), value };
            let mut out = vec![0; capsule.encoded_len().unwrap()];
            capsule.encode(&mut out).unwrap();
            stream.append(&mut out);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();

        let mut decoder = Decoder::new();
        let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut ended = 0;
        for piece in cuts.windows(2) {
            let mut piece = &stream[piece[0]..piece[1]];
            while let Some(event) = decoder.next(&mut piece) {
                match event {
                    Event::Begin(header) => found.push((header.capsule_type.0, Vec::new())),
                    Event::Value(bytes) => {
                        prop_assert!(!bytes.is_empty());
                        found.last_mut().unwrap().1.extend_from_slice(bytes);
                    }
                    Event::End => ended += 1,
                }
            }
            prop_assert!(piece.is_empty());
        }
        prop_assert_eq!(&found, &capsules);
        prop_assert_eq!(ended, capsules.len());
        prop_assert!(decoder.is_between_capsules());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..64)) {
        let _ = (header(&bytes), decode(&bytes, 40), Datagram::decode(&bytes));
        let mut decoder = Decoder::new();
        let mut rest = &bytes[..];
        while decoder.next(&mut rest).is_some() {}
        prop_assert!(rest.is_empty());
    }
}
