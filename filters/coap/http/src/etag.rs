//! Entity tags (RFC 7252 §5.10.6, RFC 9110 §8.8.3).
//!
//! CoAP's are 1 to 8 bytes and become their hexadecimal digits: `0a1b` is `"0a1b"`. So an entity
//! tag that came from CoAP is the same again when it returns. Any other is longer than CoAP allows,
//! or could be mistaken for one of those: it becomes a hash of 8 bytes that is the same wherever
//! and whenever it is computed. A server that is asked with the hash does not know it, so its
//! response comes as a whole; [`is_among`] then tells whether that is what the client already has.

use std::fmt::Write;

use codec_coap::Options;
use http::{HeaderMap, HeaderValue};

use crate::text;

/// The entity tags looked at in one header; more are not sent on.
pub const MAX_ETAGS: usize = 8;

/// An entity tag of CoAP (RFC 7252 §5.10.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ETag {
    bytes: [u8; 8],
    len: u8,
}

impl ETag {
    /// An entity tag of these bytes; none if there are not 1 to 8.
    #[must_use]
    pub fn new(tag: &[u8]) -> Option<Self> {
        let mut bytes = [0; 8];
        bytes.get_mut(..tag.len()).filter(|place| !place.is_empty())?.copy_from_slice(tag);
        Some(Self { bytes, len: tag.len() as u8 })
    }

    /// The value of the option.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The entity tag with its quotes, always strong.
#[must_use]
pub fn to_http(tag: &[u8]) -> HeaderValue {
    header(&quoted(tag))
}

/// A list of entity tags, of which [`MAX_ETAGS`] are taken.
pub(crate) fn list<'a>(tags: impl Iterator<Item = &'a [u8]>) -> Option<HeaderValue> {
    let tags: Vec<String> = tags.take(MAX_ETAGS).map(quoted).collect();
    (!tags.is_empty()).then(|| header(&tags.join(", ")))
}

fn quoted(tag: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * tag.len());
    text.push('"');
    for byte in tag {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('"');
    text
}

fn header(text: &str) -> HeaderValue {
    // Digits, quotes and commas are always legal.
    HeaderValue::try_from(text).unwrap_or(const { HeaderValue::from_static("\"\"") })
}

/// The entity tag of an `etag` header; none if that is malformed. A weak one loses its mark.
#[must_use]
pub fn from_http(tag: &HeaderValue) -> Option<ETag> {
    let text = opaque(tag.to_str().ok()?.trim())?.1;
    from_hex(text).or_else(|| ETag::new(&hash(text.as_bytes()).to_be_bytes()))
}

/// Whether the response with these headers has an entity tag that the request with these options
/// named: then it is what the client already has, and 2.03 (Valid) says so.
#[must_use]
pub fn is_among(request: &Options<'_>, response: &HeaderMap) -> bool {
    let Some(tag) = response.get(http::header::ETAG).and_then(from_http) else { return false };
    request.etags().any(|known| known == tag.as_bytes())
}

/// The entity tags in a list that came from CoAP; others cannot be known to a CoAP server. `strong`
/// leaves out those that are marked as weak, which match nothing in a strong comparison (RFC 9110
/// §8.8.3.2).
pub(crate) fn ours(list: &str, strong: bool) -> impl Iterator<Item = ETag> {
    text::split(list, b',')
        .filter_map(opaque)
        .filter(move |(is_weak, _)| !(strong && *is_weak))
        .filter_map(|(_, text)| from_hex(text))
        .take(MAX_ETAGS)
}

/// What is between the quotes, and whether a mark before them says that it is weak.
fn opaque(tag: &str) -> Option<(bool, &str)> {
    let strong = tag.strip_prefix("W/");
    let text = strong.unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('"')).then_some((strong.is_some(), text))
}

/// 2 to 16 lower-case digits, an even number.
fn from_hex(text: &str) -> Option<ETag> {
    if text.bytes().any(|digit| !matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > 8 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    let mut bytes = [0; 8];
    for (place, [high, low]) in bytes.iter_mut().zip(pairs) {
        *place = digit(*high) << 4 | digit(*low);
    }
    ETag::new(bytes.get(..pairs.len())?)
}

/// FNV-1a of 64 bits: it has to be stable, and no more; who makes two entity tags collide deceives
/// himself.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> HeaderValue {
        text.parse().unwrap()
    }

    #[test]
    fn entity_tags_are_hexadecimal_in_http() {
        assert_eq!(to_http(&[0x0a, 0x1b]), "\"0a1b\"");
        assert_eq!(to_http(&[0xff; 8]), "\"ffffffffffffffff\"");
        assert_eq!(from_http(&value("W/\"0a1b\"")).unwrap().as_bytes(), [0x0a, 0x1b]);
    }

    #[test]
    fn a_foreign_entity_tag_becomes_a_stable_hash() {
        // FNV-1a's own test vector.
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(
            from_http(&value("\"foobar\"")).unwrap().as_bytes(),
            hash(b"foobar").to_be_bytes()
        );
        for text in
            ["\"0A1B\"", "\"0a1\"", "\"\"", "\"00112233445566778\"", "\"001122334455667788\""]
        {
            assert_eq!(from_http(&value(text)).unwrap().as_bytes().len(), 8, "{text}");
        }
        for text in ["", "0a1b", "\"", "\"0a1b", "w/\"0a1b\"", "\"a\"b\""] {
            assert_eq!(from_http(&value(text)), None, "{text}");
        }
    }

    #[test]
    fn a_list_gives_the_entity_tags_that_came_from_coap() {
        let list = "\"0a\", W/\"0b\" ,\"x,y\",\"foreign\", 0c, \"0d\"";
        let tags = |strong| ours(list, strong).map(|tag| tag.as_bytes()[0]).collect::<Vec<_>>();
        assert_eq!(tags(false), [0x0a, 0x0b, 0x0d]);
        assert_eq!(tags(true), [0x0a, 0x0d]);
        assert_eq!(ours(&"\"0a\",".repeat(100), false).count(), MAX_ETAGS);
    }

    proptest! {
        #[test]
        fn an_entity_tag_survives_the_way_to_http_and_back(tag in proptest::collection::vec(any::<u8>(), 1..=8)) {
            let there = to_http(&tag);
            let back = from_http(&there).unwrap();
            prop_assert_eq!(back.as_bytes(), &tag[..]);
        }

        #[test]
        fn any_header_value_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let tag = from_http(&value);
                prop_assert!(tag.is_none_or(|tag| (1..=8).contains(&tag.as_bytes().len())));
            }
        }
    }
}
