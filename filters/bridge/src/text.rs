//! Text from a native peer as the value of a header.

use std::fmt::Write;

/// Percent-encodes what would not be part of one plain header value: all but the visible ASCII characters
/// other than `%` and `,`. Whatever the text is, it is one legal value, and no other.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' && byte != b',' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
