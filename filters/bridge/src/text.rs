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

/// Whether a TLS server name is a host's name without a dot at its end (RFC 6066 §3): letters, digits, hyphens and underscores in labels.
///
/// What is not must not become an authority. `eu.example:443`, `eu.example.` and `x@eu.example` do not match a filter chain for
/// `eu.example`, and yet mean that host to whoever routes by what is left of them.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_hosts_name_is_one() {
        for name in ["localhost", "eu.Example", "a-b._x.1", "192.0.2.1"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in [
            "", ".", "a.", ".a", "a..b", "a:80", "u@a", "u:p@a", "[::1]", "a/b", "a b", "a%2e",
            "\u{e9}", "a\r\nb", "a,b", "*",
        ] {
            assert!(!is_host_name(name), "{name}");
        }
    }
}
