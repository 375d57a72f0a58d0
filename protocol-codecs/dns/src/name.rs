//! Domain names (RFC 1035 §3.1, §4.1.4, §5.1; RFC 4343).

use core::fmt;
use core::hash::{Hash, Hasher};

use crate::error::{DecodeError, NameError};
use crate::message::HEADER_LEN;

/// The longest label in octets, without its length octet (RFC 1035 §2.3.4).
pub const MAX_LABEL_LEN: usize = 63;
/// The longest name in octets, its length octets and the root label included (RFC 1035 §2.3.4).
pub const MAX_NAME_LEN: usize = 255;
/// The longest name in presentation format, every octet of it escaped, in octets.
pub const MAX_NAME_TEXT_LEN: usize = 1004;

/// More pointers than a name can have labels serve nothing but to keep the reader busy.
const MAX_POINTERS: u8 = 127;
/// The bits that tell a pointer (RFC 1035 §4.1.4).
pub(crate) const POINTER: u8 = 0xc0;

/// A domain name, maybe compressed, in the octets where it was found.
///
/// Names are equal, and have equal hashes, whatever the case of their ASCII letters (RFC 4343 §3);
/// [`eq_exact`](Self::eq_exact) tells them apart. All that reads a name gives its octets in the case they
/// are in.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    octets: &'a [u8],
    /// Where in `octets` it begins. From there on it has been checked.
    at: usize,
}

impl<'a> Name<'a> {
    /// The root.
    pub const ROOT: Self = Self { octets: &[0], at: 0 };

    /// A name in octets that [`Checker::check`] accepted there.
    #[inline(always)]
    pub(crate) const fn checked(octets: &'a [u8], at: usize) -> Self {
        Self { octets, at }
    }

    /// The name that these octets are: the whole of them, without compression.
    ///
    /// # Errors
    ///
    /// What is wrong with the name, or octets behind it.
    pub fn from_wire(octets: &'a [u8]) -> Result<Self, DecodeError> {
        match Checker::new().check(octets, 0, false)? {
            end if end == octets.len() => Ok(Self { octets, at: 0 }),
            end => Err(DecodeError::TrailingOctets((octets.len() - end) as u32)),
        }
    }

    /// The labels, the root's empty one excepted.
    #[inline(always)]
    pub fn labels(self) -> Labels<'a> {
        Labels { octets: self.octets, rest: self.octets.get(self.at..).unwrap_or_default() }
    }

    /// Whether this is the root.
    #[inline]
    pub fn is_root(self) -> bool {
        self.labels().next().is_none()
    }

    /// How many octets the name takes without compression: 1 to 255.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "a name has at least the root's octet")]
    pub fn len(self) -> usize {
        self.labels().fold(1, |len, label| len + 1 + label.len())
    }

    /// The name without its first label; of the root there is none.
    #[inline]
    pub fn parent(self) -> Option<Self> {
        let mut labels = self.labels();
        labels.next()?;
        Some(labels.rest())
    }

    /// Whether the name is `zone` or below it: ends in all of its labels.
    #[inline]
    pub fn is_in(self, zone: Name<'_>) -> bool {
        let mut labels = self.labels();
        let Some(below) = self.labels().count().checked_sub(zone.labels().count()) else {
            return false;
        };
        for _ in 0..below {
            labels.next();
        }
        labels.rest() == zone
    }

    /// Whether the names are the same to the letter, upper and lower case told apart.
    #[inline]
    pub fn eq_exact(self, other: Name<'_>) -> bool {
        self.eq_by(other, |one, other| one == other)
    }

    #[inline(always)]
    fn eq_by(self, other: Name<'_>, same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        let (mut these, mut those) = (self.labels(), other.labels());
        loop {
            match (these.next(), those.next()) {
                (Some(one), Some(other)) if same(one, other) => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }

    /// Writes the name to `out` without compression, in the case it is in, and returns it.
    pub fn to_wire(self, out: &mut [u8; MAX_NAME_LEN]) -> &[u8] {
        let mut len = 0;
        for label in self.labels() {
            // Checked to be no longer than 255 octets: there is room.
            if let Some((first, rest)) = out.get_mut(len..).and_then(<[u8]>::split_first_mut)
                && let Some(place) = rest.get_mut(..label.len())
            {
                *first = label.len() as u8;
                place.copy_from_slice(label);
                len += 1 + label.len();
            }
        }
        if let Some(last) = out.get_mut(len) {
            *last = 0;
        }
        out.get(..=len).unwrap_or_default()
    }

    /// Writes the name to `out` in presentation format, in the case it is in, and returns it.
    ///
    /// It ends in a dot, as an absolute name does (RFC 1035 §5.1). It is ASCII without controls and blanks:
    /// what else there is in a label is written as `\DDD`, and `.`, `\`, `"`, `(`, `)`, `;`, `@` and `$` with
    /// a backslash (RFC 4343 §2.1).
    pub fn to_text(self, out: &mut [u8; MAX_NAME_TEXT_LEN]) -> &str {
        let mut text = Text { out, len: 0 };
        // Checked to be no longer than 255 octets, whose text has room.
        let _ = self.write_text(&mut text);
        let Text { out, len } = text;
        core::str::from_utf8(out.get(..len).unwrap_or_default()).unwrap_or_default()
    }

    fn write_text(self, out: &mut impl fmt::Write) -> fmt::Result {
        if self.is_root() {
            return out.write_char('.');
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                        out.write_char('\\')?;
                        out.write_char(char::from(octet))?;
                    }
                    0x21..=0x7e => out.write_char(char::from(octet))?,
                    _ => write!(out, "\\{octet:03}")?,
                }
            }
            out.write_char('.')?;
        }
        Ok(())
    }
}

#[inline(always)]
const fn target(high: u8, low: u8) -> usize {
    u16::from_be_bytes([high & !POINTER, low]) as usize
}

impl PartialEq<Name<'_>> for Name<'_> {
    #[inline]
    fn eq(&self, other: &Name<'_>) -> bool {
        self.eq_by(*other, <[u8]>::eq_ignore_ascii_case)
    }
}

impl Eq for Name<'_> {}

impl Hash for Name<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut wire = [0; MAX_NAME_LEN];
        let len = self.to_wire(&mut wire).len();
        if let Some(wire) = wire.get_mut(..len) {
            // A length octet is below any letter.
            wire.make_ascii_lowercase();
            state.write(wire);
        }
    }
}

/// Presentation format, as [`Name::to_text`].
impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_text(&mut [0; MAX_NAME_TEXT_LEN]))
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl<'a> IntoIterator for Name<'a> {
    type Item = &'a [u8];
    type IntoIter = Labels<'a>;

    #[inline]
    fn into_iter(self) -> Labels<'a> {
        self.labels()
    }
}

/// A name's labels from the first to the one below the root: 1 to 63 octets each, at most 127 of them.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    octets: &'a [u8],
    /// The octets from the next label on.
    rest: &'a [u8],
}

impl<'a> Labels<'a> {
    /// The name that the labels to come make up.
    #[inline(always)]
    pub(crate) const fn rest(&self) -> Name<'a> {
        Name { octets: self.octets, at: self.octets.len() - self.rest.len() }
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    #[inline(always)]
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let (&first, after) = self.rest.split_first()?;
            if first < POINTER {
                let (label, rest) = after.split_at_checked(usize::from(first))?;
                if label.is_empty() {
                    return None;
                }
                self.rest = rest;
                return Some(label);
            }
            // Pointers were checked to lead backwards.
            self.rest = self.octets.get(target(first, *after.first()?)..)?;
        }
    }
}

impl core::iter::FusedIterator for Labels<'_> {}

struct Text<'a> {
    out: &'a mut [u8; MAX_NAME_TEXT_LEN],
    len: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.out.get_mut(self.len..).and_then(|rest| rest.get_mut(..text.len()));
        place.ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// A name with room of its own: 256 octets.
#[derive(Clone, Copy)]
pub struct NameBuf {
    len: u8,
    octets: [u8; MAX_NAME_LEN],
}

impl NameBuf {
    /// Reads presentation format (RFC 1035 §5.1). Whether it ends in a dot or not, the name is absolute.
    ///
    /// # Errors
    ///
    /// A name or label that is too long, an empty label, an escape that is none, or a character that has to
    /// be escaped because it is a control, a blank or not ASCII.
    pub fn from_text(text: &str) -> Result<Self, NameError> {
        let mut name = Self { len: 0, octets: [0; MAX_NAME_LEN] };
        if text == "." {
            name.len = 1;
            return Ok(name);
        }
        let mut octets = text.bytes();
        // The place of the length octet of the label that is being read.
        let mut length_at = 0;
        let mut label_len = 0;
        name.push(0)?;
        while let Some(octet) = octets.next() {
            let octet = match octet {
                b'.' => {
                    name.finish_label(length_at, label_len)?;
                    length_at += 1 + label_len;
                    label_len = 0;
                    name.push(0)?;
                    continue;
                }
                b'\\' => unescape(&mut octets)?,
                0x21..=0x7e => octet,
                _ => return Err(NameError::Character(octet)),
            };
            name.push(octet)?;
            label_len += 1;
        }
        if label_len > 0 {
            name.finish_label(length_at, label_len)?;
            name.push(0)?;
        } else if length_at == 0 {
            return Err(NameError::EmptyLabel);
        }
        Ok(name)
    }

    fn push(&mut self, octet: u8) -> Result<(), NameError> {
        *self.octets.get_mut(usize::from(self.len)).ok_or(NameError::NameTooLong)? = octet;
        // No more than 255 have been written.
        self.len += 1;
        Ok(())
    }

    fn finish_label(&mut self, length_at: usize, len: usize) -> Result<(), NameError> {
        match (len, self.octets.get_mut(length_at)) {
            (0, _) => Err(NameError::EmptyLabel),
            (1..=MAX_LABEL_LEN, Some(place)) => {
                *place = len as u8;
                Ok(())
            }
            _ => Err(NameError::LabelTooLong(len as u16)),
        }
    }

    /// The name.
    #[inline]
    pub fn as_name(&self) -> Name<'_> {
        Name { octets: self.as_wire(), at: 0 }
    }

    /// The name's octets, without compression.
    #[inline]
    pub fn as_wire(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The octet that what follows a backslash stands for: three digits, or any other character itself.
fn unescape(octets: &mut core::str::Bytes<'_>) -> Result<u8, NameError> {
    let mut value = match octets.next() {
        Some(digit @ b'0'..=b'9') => u16::from(digit - b'0'),
        Some(octet @ 0x21..=0x7e) => return Ok(octet),
        _ => return Err(NameError::Escape),
    };
    for _ in 0..2 {
        match octets.next() {
            Some(digit @ b'0'..=b'9') => value = value * 10 + u16::from(digit - b'0'),
            _ => return Err(NameError::Escape),
        }
    }
    u8::try_from(value).map_err(|_| NameError::Escape)
}

impl From<Name<'_>> for NameBuf {
    fn from(name: Name<'_>) -> Self {
        let mut octets = [0; MAX_NAME_LEN];
        let len = name.to_wire(&mut octets).len() as u8;
        Self { len, octets }
    }
}

impl core::str::FromStr for NameBuf {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::from_text(text)
    }
}

impl PartialEq for NameBuf {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_wire().eq_ignore_ascii_case(other.as_wire())
    }
}

impl Eq for NameBuf {}

impl Hash for NameBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_name().hash(state);
    }
}

impl fmt::Display for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NameBuf({self})")
    }
}

/// What finds out where a name ends.
pub(crate) trait Names {
    /// The end of the name at `at`, which has to be in front of the end of `area`.
    fn end(&mut self, area: &[u8], at: usize, compression: bool) -> Result<usize, DecodeError>;
}

/// For names that were checked before.
pub(crate) struct Skipper;

impl Names for Skipper {
    #[inline(always)]
    fn end(&mut self, area: &[u8], at: usize, _: bool) -> Result<usize, DecodeError> {
        Ok(skip(area, at))
    }
}

/// Where a name ends that was checked before.
#[inline(always)]
pub(crate) fn skip(area: &[u8], mut at: usize) -> usize {
    loop {
        match area.get(at) {
            Some(&len) if len >= POINTER => return at + 2,
            Some(0) | None => return at + 1,
            Some(&len) => at += 1 + usize::from(len),
        }
    }
}

/// What is known of a name that a pointer led to.
#[derive(Clone, Copy)]
struct Known {
    at: u16,
    /// Without compression.
    len: u8,
    /// How many pointers there are in it.
    pointers: u8,
}

/// Checks the names of one message. It remembers two of those that pointers led to, because most pointers
/// of a message lead to the same.
pub(crate) struct Checker {
    /// The length of the first question's name, which is behind the header; 0 before it has been checked.
    question_len: u8,
    last: Known,
    /// How many pointers there were in all that pointers led to.
    nested: u16,
}

impl Names for Checker {
    #[inline(always)]
    fn end(&mut self, area: &[u8], at: usize, compression: bool) -> Result<usize, DecodeError> {
        self.check(area, at, compression)
    }
}

impl Checker {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        // No pointer leads there: it has 14 bits.
        let nothing = Known { at: u16::MAX, len: 0, pointers: 0 };
        Self { question_len: 0, last: nothing, nested: 0 }
    }

    /// Remembers the name that has just been checked: of the first question, from the header to `end`.
    #[inline(always)]
    pub(crate) const fn remember_question(&mut self, end: usize) {
        // There is nothing in front of it to point to.
        self.question_len = (end - HEADER_LEN) as u8;
    }

    /// Checks the name at `at` and says where it ends, which is in front of the end of `area`.
    #[inline(always)]
    pub(crate) fn check(
        &mut self,
        area: &[u8],
        at: usize,
        compression: bool,
    ) -> Result<usize, DecodeError> {
        let mut end = at;
        loop {
            match area.get(end) {
                Some(0) if end - at < MAX_NAME_LEN => return Ok(end + 1),
                Some(&len) if (1..=MAX_LABEL_LEN as u8).contains(&len) => {
                    end += 1 + usize::from(len)
                }
                Some(&high) if high >= POINTER && compression => {
                    let Some(&low) = area.get(end + 1) else {
                        return Err(DecodeError::NameTruncated(end as u16));
                    };
                    self.follow(area, at, end, target(high, low))?;
                    return Ok(end + 2);
                }
                other => return Err(refused(other, at, end)),
            }
        }
    }

    /// Checks where the pointer at `pointer_at` leads, which belongs to the name at `at`.
    #[inline(always)]
    fn follow(
        &mut self,
        area: &[u8],
        at: usize,
        pointer_at: usize,
        to: usize,
    ) -> Result<(), DecodeError> {
        // Whatever is checked after the question is behind it.
        let len = if to == HEADER_LEN && self.question_len > 0 {
            self.question_len
        } else {
            if usize::from(self.last.at) != to || to >= at {
                self.last = walk(area, at, pointer_at, to)?;
            }
            // Known or not, whoever reads the name follows them. The limit is what is in front of the name, so
            // that the length of the message need not be carried along.
            self.nested = self.nested.saturating_add(self.last.pointers.into());
            if usize::from(self.nested) > at {
                return Err(DecodeError::TooManyNestedPointers(at as u16));
            }
            self.last.len
        };
        if pointer_at - at + usize::from(len) > MAX_NAME_LEN {
            return Err(DecodeError::NameTooLong(at as u16));
        }
        Ok(())
    }
}

#[cold]
fn refused(octet: Option<&u8>, name_at: usize, at: usize) -> DecodeError {
    match octet {
        None => DecodeError::NameTruncated(at as u16),
        Some(0) => DecodeError::NameTooLong(name_at as u16),
        Some(&octet) if octet >= POINTER => DecodeError::PointerNotAllowed(at as u16),
        Some(&octet) => DecodeError::LabelType { at: at as u16, octet },
    }
}

/// Reads the name that the pointer at `pointer_at` leads to. Whatever there is, a name goes backwards only:
/// each part of it ends in front of the part that led there, so there is an end (RFC 1035 §4.1.4).
#[inline(never)]
fn walk(area: &[u8], at: usize, pointer_at: usize, to: usize) -> Result<Known, DecodeError> {
    // What is in front of the part that led to the one that is being read.
    let mut before = area.get(..at).unwrap_or_default();
    let mut pointer_at = pointer_at;
    let mut part_at = to;
    let mut len = 0;
    let mut pointers = 1;
    loop {
        let not_backwards =
            DecodeError::PointerNotBackwards { at: pointer_at as u16, to: part_at as u16 };
        if part_at < HEADER_LEN {
            return Err(not_backwards);
        }
        let mut end = part_at;
        let pointer = loop {
            match before.get(end) {
                Some(0) => break None,
                Some(&label) if label <= MAX_LABEL_LEN as u8 => end += 1 + usize::from(label),
                Some(&high) if high >= POINTER => match before.get(end + 1) {
                    Some(&low) => break Some(target(high, low)),
                    None => return Err(not_backwards),
                },
                Some(&octet) => return Err(DecodeError::LabelType { at: end as u16, octet }),
                None => return Err(not_backwards),
            }
            if len + (end - part_at) >= MAX_NAME_LEN {
                return Err(DecodeError::NameTooLong(at as u16));
            }
        };
        len += end - part_at;
        match pointer {
            // Shorter than 255 octets in front of the root.
            None => {
                return Ok(Known { at: to as u16, len: len as u8 + 1, pointers: pointers - 1 });
            }
            Some(_) if pointers == MAX_POINTERS => {
                return Err(DecodeError::TooManyPointers(at as u16));
            }
            Some(to) => {
                before = before.get(..part_at).unwrap_or_default();
                pointers += 1;
                pointer_at = end;
                part_at = to;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::BuildHasher;
    use std::collections::hash_map::RandomState;
    use std::string::{String, ToString};
    use std::vec;

    fn name(text: &str) -> NameBuf {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_the_same_in_any_case() {
        let hasher = RandomState::new();
        let (lower, mixed) = (name("www.example.com"), name("wWw.EXAMPLE.cOm."));
        assert_eq!(lower, mixed);
        assert_eq!(lower.as_name(), mixed.as_name());
        assert!(!lower.as_name().eq_exact(mixed.as_name()));
        assert_eq!(hasher.hash_one(lower), hasher.hash_one(mixed));
        assert_eq!(hasher.hash_one(lower.as_name()), hasher.hash_one(mixed));
        // Letters alone have a case: RFC 4343 §3.
        assert_ne!(name("a[b"), name("a{b"));
        assert_ne!(name("\\193"), name("\\225"));
        // Where labels end makes a difference.
        assert_ne!(name("a\\.b"), name("a.b"));
        assert_ne!(name("a.b"), name("a.b.c"));
        assert_ne!(name("a.b.c"), name("a.b"));
    }

    #[test]
    fn a_name_is_in_every_zone_above_it_and_in_no_other() {
        let www = name("www.Example.com");
        for zone in [".", "com", "example.COM", "www.example.com"] {
            assert!(www.as_name().is_in(name(zone).as_name()), "{zone}");
        }
        for zone in ["xample.com", "ww.example.com", "a.www.example.com", "org", "example"] {
            assert!(!www.as_name().is_in(name(zone).as_name()), "{zone}");
        }
        assert!(Name::ROOT.is_in(Name::ROOT));
        let parents: vec::Vec<String> =
            core::iter::successors(Some(www.as_name()), |name| name.parent())
                .map(|name| name.to_string())
                .collect();
        assert_eq!(parents, ["www.Example.com.", "Example.com.", "com.", "."]);
    }

    #[test]
    fn presentation_format_is_escaped_and_read_back() {
        for (wire, text) in [
            (&b"\0"[..], "."),
            (b"\x01a\0", "a."),
            (b"\x03a.b\x01c\0", "a\\.b.c."),
            (b"\x09\\\"();@$ \x7f\0", "\\\\\\\"\\(\\)\\;\\@\\$\\032\\127."),
            (b"\x02\0\xff\x05_http\0", "\\000\\255._http."),
            (b"\x01*\x07example\0", "*.example."),
        ] {
            let name = Name::from_wire(wire).unwrap();
            assert_eq!(name.to_string(), text);
            let read = NameBuf::from_text(text).unwrap();
            assert_eq!(read.as_wire(), wire);
            assert_eq!(read.as_name().len(), wire.len());
            assert!(NameBuf::from(name).as_name().eq_exact(name));
            assert_eq!(NameBuf::from_text(text.trim_end_matches('.')).is_ok(), text != ".");
        }
        assert_eq!(name("\\097\\B.c").to_string(), "aB.c.");
    }

    #[test]
    fn text_that_is_no_name_is_refused() {
        use NameError::*;
        for (text, error) in [
            ("", EmptyLabel),
            ("..", EmptyLabel),
            (".a", EmptyLabel),
            ("a..b", EmptyLabel),
            ("a..", EmptyLabel),
            ("a\\", Escape),
            ("a\\25", Escape),
            ("a\\256", Escape),
            ("a\\2x6", Escape),
            ("a\\\u{e9}", Escape),
            ("a b", Character(b' ')),
            ("\u{e9}", Character(0xc3)),
            ("a\n", Character(b'\n')),
        ] {
            assert_eq!(NameBuf::from_text(text), Err(error), "{text}");
            assert!(!error.label().is_empty() && !error.to_string().is_empty());
        }
    }

    /// 63 octets in a label, 255 in a name, 127 labels; and 1004 characters of text.
    #[test]
    fn the_limits_are_those_of_the_standard() {
        let label = "a".repeat(63);
        assert_eq!(name(&label).as_name().len(), 65);
        assert_eq!(NameBuf::from_text(&"a".repeat(64)), Err(NameError::LabelTooLong(64)));
        let longest = [&label[..], &label, &label, &label[..61]].join(".");
        assert_eq!(name(&longest).as_name().len(), 255);
        assert_eq!(NameBuf::from_text(&std::format!("{longest}a")), Err(NameError::NameTooLong));
        let many = "a.".repeat(127);
        assert_eq!(name(&many).as_name().labels().count(), 127);
        assert_eq!(NameBuf::from_text(&"a.".repeat(128)), Err(NameError::NameTooLong));
        let escaped = name(&longest.replace('a', "\\000"));
        assert_eq!(escaped.to_string().len(), MAX_NAME_TEXT_LEN);
        assert_eq!(name(&escaped.to_string()), escaped);

        let mut wire = vec![63; 256];
        wire[255] = 0;
        assert_eq!(Name::from_wire(&wire[1..]).unwrap_err().label(), "name_truncated");
        assert_eq!(Name::from_wire(name(&longest).as_wire()).unwrap(), name(&longest).as_name());
        let too_long = [&b"\x01a"[..], name(&longest).as_wire()].concat();
        assert_eq!(Name::from_wire(&too_long), Err(DecodeError::NameTooLong(0)));
        assert_eq!(Name::from_wire(b"\x01a\0\0"), Err(DecodeError::TrailingOctets(1)));
        assert_eq!(Name::from_wire(b"\xc0\0"), Err(DecodeError::PointerNotAllowed(0)));
    }
}
