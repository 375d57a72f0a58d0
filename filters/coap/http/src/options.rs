//! Options that do not borrow from what they were made of.

use codec_coap::{CoapOption, OptionNumber, OptionValue, Utf8};

/// Options to be encoded, in the order of their numbers; those with the same number stay in the
/// order in which they were added (RFC 7252 §3.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionSet {
    entries: Vec<Entry>,
    /// The strings and opaque values, one after the other.
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    number: OptionNumber,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Empty,
    Uint(u32),
    String(usize, usize),
    Opaque(usize, usize),
}

impl OptionSet {
    /// No options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an option.
    pub fn push<'a>(&mut self, number: OptionNumber, value: impl Into<OptionValue<'a>>) {
        let kind = match value.into() {
            OptionValue::Empty => Kind::Empty,
            OptionValue::Uint(value) => Kind::Uint(value),
            OptionValue::String(text) => {
                let (start, end) = self.store(text.as_bytes());
                Kind::String(start, end)
            }
            OptionValue::Opaque(bytes) => {
                let (start, end) = self.store(bytes);
                Kind::Opaque(start, end)
            }
        };
        let at = self.entries.partition_point(|entry| entry.number <= number);
        self.entries.insert(at, Entry { number, kind });
    }

    fn store(&mut self, bytes: &[u8]) -> (usize, usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        (start, self.bytes.len())
    }

    /// Takes all options with this number out.
    pub fn remove(&mut self, number: OptionNumber) {
        self.entries.retain(|entry| entry.number != number);
    }

    /// The options, for a message: `Options::from(&*options.as_list())`.
    #[must_use]
    pub fn as_list(&self) -> Vec<CoapOption<'_>> {
        let slice = |start, end| self.bytes.get(start..end).unwrap_or_default();
        let value = |kind| match kind {
            Kind::Empty => OptionValue::Empty,
            Kind::Uint(value) => OptionValue::Uint(value),
            // It came in as a string.
            Kind::String(start, end) => OptionValue::String(Utf8::from(
                str::from_utf8(slice(start, end)).unwrap_or_default(),
            )),
            Kind::Opaque(start, end) => OptionValue::Opaque(slice(start, end)),
        };
        self.entries
            .iter()
            .map(|entry| CoapOption { number: entry.number, value: value(entry.kind) })
            .collect()
    }

    /// How many bytes the options take in a message, or somewhat more.
    #[must_use]
    pub fn size(&self) -> usize {
        // An option's header has up to 5 bytes, a uint up to 4.
        let most = |entry: &Entry| if matches!(entry.kind, Kind::Uint(_)) { 9 } else { 5 };
        self.bytes.len() + self.entries.iter().map(most).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec_coap::Options;

    #[test]
    fn options_are_sorted_and_keep_their_order_otherwise() {
        let mut set = OptionSet::new();
        set.push(OptionNumber::ACCEPT, 50);
        set.push(OptionNumber::URI_PATH, "b");
        set.push(OptionNumber::IF_NONE_MATCH, OptionValue::Empty);
        set.push(OptionNumber::URI_PATH, "a");
        set.push(OptionNumber::ETAG, &b"\x01"[..]);
        let list = set.as_list();
        let options = Options::from(&*list);
        assert!(options.iter().is_sorted_by_key(|option| option.number));
        assert!(options.uri_path().eq(["b", "a"]));
        assert!(options.if_none_match() && options.etags().eq([&[1][..]]));
        assert!(set.size() >= 3 + 5);
        set.remove(OptionNumber::URI_PATH);
        assert_eq!(set.as_list().len(), 3);
    }
}
