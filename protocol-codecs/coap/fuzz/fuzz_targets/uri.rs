#![no_main]

use codec_coap::uri::{Host, Uri, compose};
use libfuzzer_sys::fuzz_target;

// The options of a URI, put together again, are a URI with the same options.
fuzz_target!(|text: &str| {
    let Ok(uri) = Uri::parse(text) else { return };
    let mut out = vec![0; 4 * text.len() + 16];
    let Ok(options) = uri.options(None, &mut out) else { return };
    let ip = match uri.host {
        Host::Ip(ip) => ip,
        Host::Name(_) => [192, 0, 2, 7].into(),
    };
    let mut composed = vec![0; 4 * text.len() + 64];
    let again = compose(uri.scheme, (ip, uri.port), &options, &mut composed).expect("fits");
    let again = Uri::parse(again).expect("what was put together can be taken apart");
    let mut out = vec![0; 4 * text.len() + 16];
    // A name that decodes to an address is one from then on.
    if matches!((uri.host, again.host), (Host::Name(_), Host::Name(_)) | (Host::Ip(_), _)) {
        assert_eq!(again.options(None, &mut out), Ok(options));
    }
});
