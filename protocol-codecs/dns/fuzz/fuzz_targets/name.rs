#![no_main]

use codec_dns::{MAX_NAME_TEXT_LEN, Name, NameBuf};
use libfuzzer_sys::fuzz_target;

// Text that is a name, and octets that are one, are the same written and read again.
fuzz_target!(|octets: &[u8]| {
    let check = |name: Name<'_>| {
        let mut out = [0; MAX_NAME_TEXT_LEN];
        let text = name.to_text(&mut out);
        assert!(text.ends_with('.') && text.bytes().all(|octet| octet.is_ascii_graphic()));
        let again = NameBuf::from_text(text).expect("what was written can be read");
        assert!(again.as_name().eq_exact(name) && again == NameBuf::from(name));
        assert_eq!(again.as_wire().len(), name.len());
        assert!(
            core::iter::successors(Some(name), |name| name.parent()).all(|zone| name.is_in(zone))
        );
    };
    if let Ok(name) = Name::from_wire(octets) {
        check(name);
    }
    if let Ok(Ok(name)) = str::from_utf8(octets).map(NameBuf::from_text) {
        check(name.as_name());
    }
});
