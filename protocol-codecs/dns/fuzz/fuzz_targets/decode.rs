#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

use codec_dns::{Builder, EncodeError, Rcode, Section, decode, header, patch};
use common::{content, rebuild};
use libfuzzer_sys::fuzz_target;

// Whatever decodes, built anew says the same; and ageing changes TTLs only.
fuzz_target!(|octets: &[u8]| {
    let message = match decode(octets) {
        Ok(message) => message,
        Err(error) => {
            assert!(!error.label().is_empty() && !error.to_string().is_empty());
            if let Ok(header) = header(octets) {
                let _ = error.rcode(header);
            }
            return;
        }
    };
    match rebuild(&message) {
        Ok(rebuilt) if message.edns().is_none_or(|edns| edns.version == 0) => {
            let again = decode(&rebuilt).expect("what was built decodes");
            assert_eq!(content(&again), content(&message));
            assert_eq!(rebuild(&again).as_ref(), Ok(&rebuilt));
        }
        Ok(_) => {}
        // A message can get longer, because the names of fewer types are compressed.
        Err(error) => assert_eq!(error, EncodeError::Full),
    }

    let mut aged = octets.to_vec();
    patch::age(&mut aged, 1).expect("what was decoded ages");
    for at in message.ttl_offsets() {
        let ttl = |octets: &[u8]| {
            octets[at..at + 4].iter().fold(0, |ttl, &octet| ttl << 8 | u32::from(octet))
        };
        let before = ttl(octets);
        let after = if before > i32::MAX as u32 { 0 } else { before.saturating_sub(1) };
        assert_eq!(ttl(&aged), after);
        aged[at..at + 4].copy_from_slice(&octets[at..at + 4]);
    }
    assert_eq!(aged, octets);

    let mut out = [0xaa; 300];
    if let Ok(mut response) = Builder::response(&mut out[..200], &message, Rcode::NOERROR) {
        for record in message.answers() {
            if response.copy(Section::Answer, &record).is_err() {
                response.truncate();
                break;
            }
        }
        let len = response.finish().expect("there is room for a header");
        let response = decode(&out[..len]).expect("what was built decodes");
        assert_eq!(response.question(), message.question());
    }
    assert_eq!(out[200..], [0xaa; 100]);
});
