//! Options (§3.1, §5.4, §5.10).

use core::fmt;

use crate::block::Block;
use crate::error::{DecodeError, EncodeError};
use crate::number::{Code, ContentFormat, OptionNumber};
use crate::scan::{extension, is_ascii, scan};
use crate::write::{self, Overrun, Writer};

/// Text that was found to be UTF-8 when its message was decoded.
///
/// It is kept as bytes, which is what comparing, hashing and percent-encoding need and what costs nothing;
/// [`as_str`](Self::as_str) has to look at them again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Utf8<'a>(&'a [u8]);

impl<'a> Utf8<'a> {
    /// The text's bytes.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text, checked once more.
    #[inline]
    pub fn as_str(self) -> &'a str {
        // Made from UTF-8 only: does not fail.
        core::str::from_utf8(self.0).unwrap_or_default()
    }
}

impl<'a> From<&'a str> for Utf8<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl PartialEq<str> for Utf8<'_> {
    #[inline]
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Utf8<'_> {
    #[inline]
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for Utf8<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Utf8<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An option's value, in the format that the option is defined with (§3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionValue<'a> {
    /// A zero-length sequence of bytes.
    Empty,
    /// A non-negative integer.
    Uint(u32),
    /// Text.
    String(Utf8<'a>),
    /// Any bytes: of an opaque option, of one that this crate has no definition of, or of an elective one
    /// that must be ignored because it does not keep to its definition (§5.4.1, §5.4.3, §5.4.5).
    Opaque(&'a [u8]),
}

impl OptionValue<'_> {
    /// How many bytes the value takes.
    #[inline(always)]
    fn encoded_len(&self) -> usize {
        match *self {
            Self::Empty => 0,
            Self::Uint(value) => uint_len(value),
            Self::String(text) => text.0.len(),
            Self::Opaque(bytes) => bytes.len(),
        }
    }
}

impl From<u32> for OptionValue<'_> {
    #[inline]
    fn from(value: u32) -> Self {
        Self::Uint(value)
    }
}

impl From<Block> for OptionValue<'_> {
    #[inline]
    fn from(block: Block) -> Self {
        Self::Uint(block.to_uint())
    }
}

impl From<ContentFormat> for OptionValue<'_> {
    #[inline]
    fn from(format: ContentFormat) -> Self {
        Self::Uint(u32::from(format.0))
    }
}

impl<'a> From<&'a str> for OptionValue<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self::String(Utf8::from(text))
    }
}

impl<'a> From<&'a [u8]> for OptionValue<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Self::Opaque(bytes)
    }
}

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoapOption<'a> {
    /// Which option it is.
    pub number: OptionNumber,
    /// Its value.
    pub value: OptionValue<'a>,
}

impl<'a> CoapOption<'a> {
    /// An option with this value, which may be an integer, a string, bytes or any other
    /// [`OptionValue`].
    #[inline]
    pub fn new(number: OptionNumber, value: impl Into<OptionValue<'a>>) -> Self {
        Self { number, value: value.into() }
    }
}

/// The formats of §3.2, and the formats with more rules than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Format {
    Opaque,
    Empty,
    Uint,
    /// A uint that is not zero (RFC 8768 §3).
    HopLimit,
    /// A uint that is a [`Block`] (RFC 7959 §2.2).
    Block,
    String,
    /// A string that is neither `.` nor `..` (§5.10.1, §5.10.7).
    Segment,
}

/// What is known of an option (§5.10, table 4).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Definition {
    pub(crate) format: Format,
    repeatable: bool,
    /// The length of the shortest value, in bytes.
    min: u16,
    /// By how much the longest value is longer.
    span: u32,
}

impl Definition {
    const UNKNOWN: Self = Self { format: Format::Opaque, repeatable: true, min: 0, span: u32::MAX };

    const fn new(format: Format, min: u16, max: u16, repeatable: bool) -> Self {
        Self { format, repeatable, min, span: (max - min) as u32 }
    }

    #[inline(always)]
    pub(crate) const fn is_string(self) -> bool {
        matches!(self.format, Format::String | Format::Segment)
    }

    #[inline(always)]
    pub(crate) const fn allows_len(self, len: usize) -> bool {
        // A value is shorter than 2^17 bytes.
        (len as u32).wrapping_sub(self.min as u32) <= self.span
    }

    #[inline(always)]
    pub(crate) const fn allows(self, len: usize, repeated: bool) -> bool {
        // One branch instead of two.
        self.allows_len(len) & (self.repeatable | !repeated)
    }
}

/// The definition of an option of requests and responses.
pub(crate) const fn of(number: OptionNumber) -> Definition {
    use Format::{Block, Empty, HopLimit, Opaque, Segment, String, Uint};
    const ONCE: bool = false;
    const REPEATABLE: bool = true;
    match number {
        OptionNumber::IF_MATCH => Definition::new(Opaque, 0, 8, REPEATABLE),
        OptionNumber::URI_HOST => Definition::new(String, 1, 255, ONCE),
        OptionNumber::ETAG => Definition::new(Opaque, 1, 8, REPEATABLE),
        OptionNumber::IF_NONE_MATCH => Definition::new(Empty, 0, 0, ONCE),
        OptionNumber::OBSERVE => Definition::new(Uint, 0, 3, ONCE),
        OptionNumber::URI_PORT => Definition::new(Uint, 0, 2, ONCE),
        OptionNumber::LOCATION_PATH => Definition::new(Segment, 0, 255, REPEATABLE),
        OptionNumber::OSCORE => Definition::new(Opaque, 0, 255, ONCE),
        OptionNumber::URI_PATH => Definition::new(Segment, 0, 255, REPEATABLE),
        OptionNumber::CONTENT_FORMAT => Definition::new(Uint, 0, 2, ONCE),
        OptionNumber::MAX_AGE => Definition::new(Uint, 0, 4, ONCE),
        OptionNumber::URI_QUERY => Definition::new(String, 0, 255, REPEATABLE),
        OptionNumber::HOP_LIMIT => Definition::new(HopLimit, 1, 1, ONCE),
        OptionNumber::ACCEPT => Definition::new(Uint, 0, 2, ONCE),
        OptionNumber::Q_BLOCK1 => Definition::new(Block, 0, 3, ONCE),
        OptionNumber::LOCATION_QUERY => Definition::new(String, 0, 255, REPEATABLE),
        OptionNumber::BLOCK2 => Definition::new(Block, 0, 3, ONCE),
        OptionNumber::BLOCK1 => Definition::new(Block, 0, 3, ONCE),
        OptionNumber::SIZE2 => Definition::new(Uint, 0, 4, ONCE),
        OptionNumber::Q_BLOCK2 => Definition::new(Block, 0, 3, REPEATABLE),
        OptionNumber::PROXY_URI => Definition::new(String, 1, 1034, ONCE),
        OptionNumber::PROXY_SCHEME => Definition::new(String, 1, 255, ONCE),
        OptionNumber::SIZE1 => Definition::new(Uint, 0, 4, ONCE),
        OptionNumber::ECHO => Definition::new(Opaque, 1, 40, ONCE),
        OptionNumber::NO_RESPONSE => Definition::new(Uint, 0, 1, ONCE),
        OptionNumber::REQUEST_TAG => Definition::new(Opaque, 0, 8, REPEATABLE),
        _ => Definition::UNKNOWN,
    }
}

/// The definition of an option of a signaling message (RFC 8323 §5.3 to §5.6).
const fn of_signal(code: Code, number: OptionNumber) -> Definition {
    use Format::{Empty, String, Uint};
    match (code, number) {
        (Code::CSM, OptionNumber::MAX_MESSAGE_SIZE) => Definition::new(Uint, 0, 4, false),
        (Code::CSM, OptionNumber::BLOCK_WISE_TRANSFER) => Definition::new(Empty, 0, 0, false),
        (Code::CSM, OptionNumber::EXTENDED_TOKEN_LENGTH) => Definition::new(Uint, 0, 3, false),
        (Code::PING | Code::PONG, OptionNumber::CUSTODY) => Definition::new(Empty, 0, 0, false),
        (Code::RELEASE, OptionNumber::ALTERNATIVE_ADDRESS) => Definition::new(String, 1, 255, true),
        (Code::RELEASE, OptionNumber::HOLD_OFF) => Definition::new(Uint, 0, 3, false),
        (Code::ABORT, OptionNumber::BAD_CSM_OPTION) => Definition::new(Uint, 0, 2, false),
        _ => Definition::UNKNOWN,
    }
}

/// The numbers below this are most of what is sent.
pub(crate) const SMALL: u32 = 64;

/// The definitions of the small numbers.
static DEFINITIONS: [Definition; SMALL as usize] = {
    let mut table = [Definition::UNKNOWN; SMALL as usize];
    let mut rest = table.as_mut_slice();
    let mut number = 0;
    while let Some((first, others)) = rest.split_first_mut() {
        *first = of(OptionNumber(number));
        number += 1;
        rest = others;
    }
    table
};

/// As [`of`], sooner for a small number.
#[inline(always)]
pub(crate) fn definition(number: OptionNumber) -> Definition {
    match DEFINITIONS.get(usize::from(number.0)) {
        Some(definition) => *definition,
        None => of(number),
    }
}

/// The small numbers whose options are strings, by bit.
const STRINGS: u64 = {
    let mut strings = 0;
    let mut number = 0;
    while number < SMALL {
        strings |= (of(OptionNumber(number as u16)).is_string() as u64) << number;
        number += 1;
    }
    strings
};

/// What messages an option is read in; what is allowed in one may not be in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope(u8);

impl Scope {
    const REQUEST: u8 = 1;
    const TCP: u8 = 2;

    #[inline(always)]
    pub(crate) const fn udp(code: Code) -> Self {
        Self(code.is_request() as u8)
    }

    /// Signaling messages have one scope for each code.
    #[inline(always)]
    pub(crate) const fn tcp(code: Code) -> Self {
        if code.is_signaling() { Self(code.0) } else { Self(code.is_request() as u8 | Self::TCP) }
    }

    pub(crate) const fn signal(self) -> Option<Code> {
        let code = Code(self.0);
        if code.is_signaling() { Some(code) } else { None }
    }

    const fn is_request(self) -> bool {
        self.signal().is_none() && self.0 & Self::REQUEST != 0
    }

    pub(crate) const fn is_udp(self) -> bool {
        self.signal().is_none() && self.0 & Self::TCP == 0
    }

    #[inline(always)]
    fn definition(self, number: u32) -> Definition {
        match DEFINITIONS.get(number as usize) {
            Some(definition) if self.signal().is_none() => *definition,
            _ => self.other(number),
        }
    }

    #[inline(never)]
    fn other(self, number: u32) -> Definition {
        // Numbers above 65,535 are refused elsewhere.
        let number = OptionNumber(number as u16);
        self.signal().map_or(of(number), |code| of_signal(code, number))
    }

    /// Checks a value for what its definition alone does not say; whether it keeps to that.
    #[inline(never)]
    fn check_uint(self, number: u32, format: Format, value: u32) -> Result<bool, DecodeError> {
        if format == Format::HopLimit && value == 0 {
            return if self.is_request() { Err(DecodeError::HopLimitZero) } else { Ok(false) };
        }
        if format == Format::Block && value & 7 == 7 && self.is_udp() {
            return Err(DecodeError::ReservedBlockSize(OptionNumber(number as u16)));
        }
        Ok(true)
    }
}

/// Whether the value is `.` or `..`.
#[inline(always)]
pub(crate) fn is_dot_segment(value: &[u8]) -> bool {
    matches!(value, [b'.'] | [b'.', b'.'])
}

#[inline(always)]
const fn uint_len(value: u32) -> usize {
    (32 - value.leading_zeros()).div_ceil(8) as usize
}

/// The integer that at most four bytes stand for; leading zeros are allowed (§3.2).
#[inline(always)]
fn uint(value: &[u8]) -> u32 {
    match *value {
        [a] => u32::from(a),
        [a, b] => u32::from(u16::from_be_bytes([a, b])),
        [a, b, c] => u32::from_be_bytes([0, a, b, c]),
        [a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    }
}

/// What is in front of the rest of the options.
enum Front<'a> {
    Option { delta: u32, value: &'a [u8], rest: &'a [u8] },
    Payload(&'a [u8]),
    End,
}

/// Takes one option (§3.1).
#[inline(always)]
fn front(bytes: &[u8]) -> Result<Front<'_>, DecodeError> {
    let Some((&first, after)) = bytes.split_first() else { return Ok(Front::End) };
    let (delta, len) = (first >> 4, first & 15);
    if delta < 13 && len < 13 {
        return match after.split_at_checked(usize::from(len)) {
            Some((value, rest)) => Ok(Front::Option { delta: u32::from(delta), value, rest }),
            None => Err(truncated(usize::from(len), after)),
        };
    }
    if first == PAYLOAD_MARKER {
        return Ok(Front::Payload(after));
    }
    let (delta, after) = extended(first, delta, after)?;
    let (len, after) = extended(first, len, after)?;
    match after.split_at_checked(len as usize) {
        Some((value, rest)) => Ok(Front::Option { delta, value, rest }),
        None => Err(truncated(len as usize, after)),
    }
}

/// The number that a nibble and its extension stand for: at most 65,804 (§3.1).
#[inline(always)]
fn extended(first: u8, nibble: u8, after: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    match (nibble, after) {
        (0..13, _) => Ok((u32::from(nibble), after)),
        (13, [a, rest @ ..]) => Ok((13 + u32::from(*a), rest)),
        (14, [a, b, rest @ ..]) => Ok((269 + u32::from(u16::from_be_bytes([*a, *b])), rest)),
        (13 | 14, _) => Err(truncated(usize::from(nibble) - 12, after)),
        _ => Err(DecodeError::ReservedOptionNibble(first)),
    }
}

/// Ends the options, if a payload follows (§3).
pub(crate) const PAYLOAD_MARKER: u8 = 0xff;

#[cold]
pub(crate) fn truncated(needed: usize, rest: &[u8]) -> DecodeError {
    let saturate = |len| u32::try_from(len).unwrap_or(u32::MAX);
    DecodeError::Truncated { needed: saturate(needed), available: saturate(rest.len()) }
}

/// Reads and checks the options; also returns the payload.
#[inline(always)]
pub(crate) fn read(bytes: &[u8], scope: Scope) -> Result<(Options<'_>, &[u8]), DecodeError> {
    let ((mut end, is_ascii), mut small) = (scan(bytes, scope), SMALL);
    if end > bytes.len() {
        (end, small) = examine(bytes, scope)?;
    } else if !is_ascii && !check_strings(bytes, scope)? {
        small = 0;
    }
    // Behind the options is a payload marker or nothing.
    let (bytes, rest) = bytes.split_at_checked(end).unwrap_or_default();
    let payload = rest.split_first().map_or(rest, |(_, payload)| payload);
    Ok((Options { bytes, list: &[], scope, small }, payload))
}

/// Checks the options: finds where they end, and below which number all of them keep to the definitions of
/// the small numbers.
#[inline(never)]
pub(crate) fn examine(bytes: &[u8], scope: Scope) -> Result<(usize, u32), DecodeError> {
    let mut rest = bytes;
    let mut number = 0_u32;
    let mut sound = true;
    // The stretch from the first to the last string, which has only few other bytes in it: how many bytes
    // are left at its ends. A Uri-Host is looked at by itself, because most often an option header follows
    // that is not ASCII.
    let (mut text_from, mut text_to) = (0, 0);
    let len = loop {
        match front(rest)? {
            Front::Option { delta, value, rest: next } => {
                number += delta;
                let definition = scope.definition(number);
                if !definition.allows(value.len(), delta == 0) || number > 0xffff {
                    not_allowed(number, definition, value.len())?;
                    sound = false;
                } else if definition.format >= Format::String {
                    if number == u32::from(OptionNumber::URI_HOST.0) {
                        if !is_ascii(value) {
                            check_utf8(number, value)?;
                        }
                    } else {
                        if text_from == 0 {
                            text_from = next.len() + value.len();
                        }
                        text_to = next.len();
                        if definition.format == Format::Segment && is_dot_segment(value) {
                            dot_segment(number)?;
                            sound = false;
                        }
                    }
                } else if definition.format >= Format::HopLimit {
                    sound &= scope.check_uint(number, definition.format, uint(value))?;
                }
                rest = next;
            }
            Front::Payload(payload) => {
                if payload.is_empty() {
                    return Err(DecodeError::PayloadMarkerWithoutPayload);
                }
                break bytes.len() - rest.len();
            }
            Front::End => break bytes.len(),
        }
    };
    let bytes_of = |from: usize, to| bytes.get(bytes.len() - from..bytes.len() - to);
    if text_from != 0 && !bytes_of(text_from, text_to).is_some_and(is_ascii) {
        sound &= check_strings(bytes, scope)?;
    }
    Ok((len, if sound && scope.signal().is_none() { SMALL } else { 0 }))
}

/// Refuses a critical option whose length or repetition is not allowed; an elective one is to be ignored.
#[cold]
fn not_allowed(number: u32, definition: Definition, len: usize) -> Result<(), DecodeError> {
    let Ok(number) = u16::try_from(number).map(OptionNumber) else {
        return Err(DecodeError::OptionNumberTooLarge(number));
    };
    if !number.is_critical() {
        return Ok(());
    }
    Err(if definition.allows_len(len) {
        DecodeError::RepeatedOption(number)
    } else {
        DecodeError::OptionLength { number, len: u16::try_from(len).unwrap_or(u16::MAX) }
    })
}

#[cold]
fn dot_segment(number: u32) -> Result<(), DecodeError> {
    let number = OptionNumber(number as u16);
    if number.is_critical() { Err(DecodeError::DotSegment(number)) } else { Ok(()) }
}

/// Whether a string is UTF-8; an error if it is critical and is not.
#[inline(never)]
fn check_utf8(number: u32, value: &[u8]) -> Result<bool, DecodeError> {
    let number = OptionNumber(number as u16);
    match core::str::from_utf8(value) {
        Ok(_) => Ok(true),
        Err(_) if !number.is_critical() => Ok(false),
        Err(error) => {
            let valid_up_to = u16::try_from(error.valid_up_to()).unwrap_or(u16::MAX);
            Err(DecodeError::InvalidUtf8 { number, valid_up_to })
        }
    }
}

/// As [`check_utf8`], of every string.
#[inline(never)]
fn check_strings(bytes: &[u8], scope: Scope) -> Result<bool, DecodeError> {
    let mut sound = true;
    let (mut rest, mut number) = (bytes, 0);
    while let Ok(Front::Option { delta, value, rest: next }) = front(rest) {
        number += delta;
        let definition = scope.definition(number);
        if definition.format >= Format::String && definition.allows(value.len(), delta == 0) {
            sound &= check_utf8(number, value)?;
        }
        rest = next;
    }
    Ok(sound)
}

/// The options of a message, in the order of their numbers (§3.1).
///
/// Decoded ones are a view of the message's bytes, validated as a whole. For encoding, make them from a
/// sorted slice, `Options::from(&[CoapOption::new(OptionNumber::URI_PATH, "lamp")])`, or from an
/// [`OptionList`], which sorts. Two are equal if they hold the same options in the same order.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Options as they are on the wire.
    bytes: &'a [u8],
    /// Empty if there are `bytes`; validated when written.
    list: &'a [CoapOption<'a>],
    /// What `bytes` were validated for.
    scope: Scope,
    /// Those in `bytes` whose number is below this keep to its definition in [`DEFINITIONS`].
    small: u32,
}

impl<'a> Options<'a> {
    /// No options.
    pub const EMPTY: Self = Self { bytes: &[], list: &[], scope: Scope(0), small: SMALL };

    /// Options that were written in the order of their numbers, each as it is defined.
    pub(crate) const fn written(bytes: &'a [u8]) -> Self {
        Self { bytes, list: &[], scope: Scope::udp(Code::GET), small: SMALL }
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.list.is_empty()
    }

    /// The options, in their order.
    #[inline]
    pub const fn iter(&self) -> OptionIter<'a> {
        OptionIter {
            bytes: self.bytes,
            at: 0,
            list: self.list,
            number: 0,
            scope: self.scope,
            small: self.small,
        }
    }

    /// The value of the first option with this number.
    #[inline]
    pub fn get(&self, number: OptionNumber) -> Option<OptionValue<'a>> {
        self.get_all(number).next()
    }

    /// The values of all options with this number, in their order.
    #[inline]
    pub fn get_all(
        &self,
        number: OptionNumber,
    ) -> impl Iterator<Item = OptionValue<'a>> + Clone + use<'a> {
        self.iter().filter_map(move |option| (option.number == number).then_some(option.value))
    }

    /// Whether an option with this number is there and keeps to its definition.
    #[inline]
    fn is_set(&self, number: OptionNumber) -> bool {
        matches!(self.get(number), Some(OptionValue::Empty))
    }

    #[inline]
    fn uint(&self, number: OptionNumber) -> Option<u32> {
        match self.get(number) {
            Some(OptionValue::Uint(value)) => Some(value),
            _ => None,
        }
    }

    #[inline]
    fn string(&self, number: OptionNumber) -> Option<Utf8<'a>> {
        self.strings(number).next()
    }

    #[inline]
    fn strings(&self, number: OptionNumber) -> impl Iterator<Item = Utf8<'a>> + Clone + use<'a> {
        self.get_all(number).filter_map(|value| match value {
            OptionValue::String(text) => Some(text),
            _ => None,
        })
    }

    /// Those that are as long as the option is defined.
    #[inline]
    fn opaques(&self, number: OptionNumber) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.get_all(number).filter_map(move |value| match value {
            OptionValue::Opaque(bytes) if of(number).allows_len(bytes.len()) => Some(bytes),
            _ => None,
        })
    }

    /// How many bytes the options take in a message of this scope; an error if they must not be sent.
    #[inline(always)]
    pub(crate) fn measure(&self, scope: Scope) -> Result<usize, EncodeError> {
        if !self.bytes.is_empty() {
            if self.scope != scope {
                examine(self.bytes, scope)?;
            }
            return Ok(self.bytes.len());
        }
        measure(self.list, scope)
    }

    /// Writes the options, which were measured.
    #[inline(always)]
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Overrun> {
        if !self.bytes.is_empty() {
            return writer.bytes(self.bytes);
        }
        let mut last = 0;
        for option in self.list {
            let number = option.number.0;
            write_header(u32::from(number - last), option.value.encoded_len(), writer)?;
            last = number;
            match option.value {
                OptionValue::Empty => {}
                OptionValue::Uint(value) => write_uint(value, writer)?,
                OptionValue::String(Utf8(bytes)) | OptionValue::Opaque(bytes) => {
                    writer.bytes(bytes)?;
                }
            }
        }
        Ok(())
    }
}

/// Where an option's header has its extensions (§3.1).
#[inline(always)]
const fn nibble(number: u32) -> (u8, usize) {
    match number {
        0..13 => (number as u8, 0),
        13..269 => (13, 1),
        _ => (14, 2),
    }
}

#[inline(always)]
pub(crate) fn write_header(delta: u32, len: usize, writer: &mut Writer<'_>) -> Result<(), Overrun> {
    // Measured before: fits.
    let len = len as u32;
    if delta < 13 && len < 13 {
        return writer.u8((delta << 4 | len) as u8);
    }
    let ((high, _), (low, _)) = (nibble(delta), nibble(len));
    writer.u8(high << 4 | low)?;
    for (number, nibble) in [(delta, high), (len, low)] {
        match nibble {
            13 => writer.u8((number - 13) as u8)?,
            14 => writer.array(((number - 269) as u16).to_be_bytes())?,
            _ => {}
        }
    }
    Ok(())
}

#[inline(always)]
fn write_uint(value: u32, writer: &mut Writer<'_>) -> Result<(), Overrun> {
    let [a, b, c, d] = value.to_be_bytes();
    match uint_len(value) {
        0 => Ok(()),
        1 => writer.u8(d),
        2 => writer.array([c, d]),
        3 => writer.array([b, c, d]),
        _ => writer.array([a, b, c, d]),
    }
}

fn measure(list: &[CoapOption<'_>], scope: Scope) -> Result<usize, EncodeError> {
    let mut last = 0;
    let mut total = 0_usize;
    for (index, &CoapOption { number, value }) in list.iter().enumerate() {
        let Some(delta) = number.0.checked_sub(last) else {
            return Err(EncodeError::OptionsNotSorted { number, after: OptionNumber(last) });
        };
        last = number.0;
        let len = value.encoded_len();
        let definition = scope.definition(u32::from(number.0));
        let repeated = delta == 0 && index != 0;
        let format = definition.format;
        let fits = definition.allows(len, repeated)
            && match value {
                OptionValue::String(text) => {
                    format >= Format::String
                        && !(format == Format::Segment && is_dot_segment(text.0))
                }
                OptionValue::Uint(value) => {
                    if matches!(format, Format::HopLimit | Format::Block) {
                        scope.check_uint(u32::from(number.0), format, value)?;
                    }
                    matches!(format, Format::Uint | Format::HopLimit | Format::Block)
                }
                OptionValue::Opaque(_) => format == Format::Opaque,
                OptionValue::Empty => format == Format::Empty,
            };
        if !fits || len > write::MAX_OPTION_LEN {
            misfit(number, value, repeated, scope)?;
        }
        total = total
            .saturating_add(1 + nibble(u32::from(delta)).1 + nibble(len as u32).1)
            .saturating_add(len);
    }
    Ok(total)
}

/// Why the value is not one of the option; none if it is elective, and received as what it is.
#[cold]
fn misfit(
    number: OptionNumber,
    value: OptionValue<'_>,
    repeated: bool,
    scope: Scope,
) -> Result<(), EncodeError> {
    if value.encoded_len() > write::MAX_OPTION_LEN {
        return Err(EncodeError::OptionTooLong { number, len: value.encoded_len() });
    }
    let definition = scope.definition(u32::from(number.0));
    match value {
        OptionValue::Opaque([0])
            if definition.format == Format::HopLimit && !repeated && scope.is_request() =>
        {
            Err(DecodeError::HopLimitZero.into())
        }
        OptionValue::Opaque(bytes)
            if !number.is_critical()
                && careful(number, bytes, repeated, scope) == Format::Opaque =>
        {
            Ok(())
        }
        OptionValue::String(Utf8(bytes))
            if number.is_critical()
                && is_dot_segment(bytes)
                && definition.format == Format::Segment =>
        {
            Err(DecodeError::DotSegment(number).into())
        }
        _ => Err(EncodeError::OptionFormat(number)),
    }
}

/// The format of the value of an option that may not keep to its definition.
#[cold]
fn careful(number: OptionNumber, value: &[u8], repeated: bool, scope: Scope) -> Format {
    let definition = scope.definition(u32::from(number.0));
    if !definition.allows(value.len(), repeated)
        || definition.format >= Format::String && core::str::from_utf8(value).is_err()
        || definition.format == Format::Segment && is_dot_segment(value)
        || definition.format == Format::HopLimit && uint(value) == 0
    {
        return Format::Opaque;
    }
    definition.format
}

/// A chain of branches, the most frequent format first: they are easier to foresee than the jump by number
/// that a `match` becomes.
#[inline(always)]
fn in_format(format: Format, value: &[u8]) -> OptionValue<'_> {
    if format >= Format::String {
        OptionValue::String(Utf8(value))
    } else if format >= Format::Uint {
        OptionValue::Uint(uint(value))
    } else if format == Format::Opaque {
        OptionValue::Opaque(value)
    } else {
        OptionValue::Empty
    }
}

/// One accessor per option.
macro_rules! accessors {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $number:ident, |$options:ident, $n:ident| $get:expr;)*) => {
        impl<'a> Options<'a> {
            $(
                $(#[$doc])*
                #[inline]
                pub fn $name(&self) -> $type {
                    let ($options, $n) = (self, OptionNumber::$number);
                    $get
                }
            )*
        }
    };
}

accessors! {
    /// The entity tags that a request is made conditional on; empty for any (§5.10.8.1).
    if_match: impl Iterator<Item = &'a [u8]> + Clone + use<'a> = IF_MATCH, |o, n| o.opaques(n);
    /// The host of the requested resource (§5.10.1).
    uri_host: Option<Utf8<'a>> = URI_HOST, |o, n| o.string(n);
    /// The entity tags, of which a response has one (§5.10.6).
    etags: impl Iterator<Item = &'a [u8]> + Clone + use<'a> = ETAG, |o, n| o.opaques(n);
    /// Whether the request is conditional on the resource not existing (§5.10.8.2).
    if_none_match: bool = IF_NONE_MATCH, |o, n| o.is_set(n);
    /// 0 registers and 1 deregisters an observation; in a notification it is a sequence number of 24 bits
    /// (RFC 7641 §2).
    observe: Option<u32> = OBSERVE, |o, n| o.uint(n);
    /// The port of the requested resource (§5.10.1).
    uri_port: Option<u16> = URI_PORT, |o, n| o.uint(n).map(|port| port as u16);
    /// The segments of the path of what was created (§5.10.7).
    location_path: impl Iterator<Item = Utf8<'a>> + Clone + use<'a> = LOCATION_PATH,
        |o, n| o.strings(n);
    /// What protects the message; untouched (RFC 8613 §2).
    oscore: Option<&'a [u8]> = OSCORE, |o, n| o.opaques(n).next();
    /// The segments of the path of the requested resource (§5.10.1).
    uri_path: impl Iterator<Item = Utf8<'a>> + Clone + use<'a> = URI_PATH, |o, n| o.strings(n);
    /// The format of the payload (§5.10.3).
    content_format: Option<ContentFormat> = CONTENT_FORMAT,
        |o, n| o.uint(n).map(|number| ContentFormat(number as u16));
    /// How many seconds the response may be cached; 60 if there is none (§5.10.5).
    max_age: Option<u32> = MAX_AGE, |o, n| o.uint(n);
    /// The arguments of the query of the requested resource (§5.10.1).
    uri_query: impl Iterator<Item = Utf8<'a>> + Clone + use<'a> = URI_QUERY, |o, n| o.strings(n);
    /// How many more proxies may forward the request: 1 to 255 (RFC 8768 §3).
    hop_limit: Option<u8> = HOP_LIMIT, |o, n| o.uint(n).map(|limit| limit as u8);
    /// The format that the client accepts (§5.10.4).
    accept: Option<ContentFormat> = ACCEPT,
        |o, n| o.uint(n).map(|number| ContentFormat(number as u16));
    /// RFC 9177 §4.1
    q_block1: Option<Block> = Q_BLOCK1, |o, n| o.uint(n).map(Block::from_uint);
    /// The arguments of the query of what was created (§5.10.7).
    location_query: impl Iterator<Item = Utf8<'a>> + Clone + use<'a> = LOCATION_QUERY,
        |o, n| o.strings(n);
    /// Which block of the response is asked for or here (RFC 7959 §2.1).
    block2: Option<Block> = BLOCK2, |o, n| o.uint(n).map(Block::from_uint);
    /// Which block of the request is here or acknowledged (RFC 7959 §2.1).
    block1: Option<Block> = BLOCK1, |o, n| o.uint(n).map(Block::from_uint);
    /// The size of the response's representation in bytes (RFC 7959 §4).
    size2: Option<u32> = SIZE2, |o, n| o.uint(n);
    /// RFC 9177 §4.1
    q_block2: impl Iterator<Item = Block> + Clone + use<'a> = Q_BLOCK2,
        |o, n| o.get_all(n).filter_map(|value| match value {
            OptionValue::Uint(value) => Some(Block::from_uint(value)),
            _ => None,
        });
    /// The URI that a forward-proxy is to request (§5.10.2).
    proxy_uri: Option<Utf8<'a>> = PROXY_URI, |o, n| o.string(n);
    /// The scheme of the URI that a forward-proxy is to request (§5.10.2).
    proxy_scheme: Option<Utf8<'a>> = PROXY_SCHEME, |o, n| o.string(n);
    /// The size of the request's representation in bytes, or how large it may be (§5.10.9, RFC 7959 §4).
    size1: Option<u32> = SIZE1, |o, n| o.uint(n);
    /// Shows that a request is fresh (RFC 9175 §2.2).
    echo: Option<&'a [u8]> = ECHO, |o, n| o.opaques(n).next();
    /// Which classes of responses are of no interest: bit *n* - 1 is class *n* (RFC 7967 §2).
    no_response: Option<u8> = NO_RESPONSE, |o, n| o.uint(n).map(|classes| classes as u8);
    /// Tells block-wise transfers apart (RFC 9175 §3.2).
    request_tags: impl Iterator<Item = &'a [u8]> + Clone + use<'a> = REQUEST_TAG, |o, n| o.opaques(n);
}

impl Default for Options<'_> {
    #[inline]
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<'a> From<&'a [CoapOption<'a>]> for Options<'a> {
    #[inline]
    fn from(list: &'a [CoapOption<'a>]) -> Self {
        Self { list, ..Self::EMPTY }
    }
}

impl<'a, const N: usize> From<&'a [CoapOption<'a>; N]> for Options<'a> {
    #[inline]
    fn from(list: &'a [CoapOption<'a>; N]) -> Self {
        Self::from(list.as_slice())
    }
}

impl PartialEq for Options<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Options<'_> {}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Options<'a> {
    type Item = CoapOption<'a>;
    type IntoIter = OptionIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &Options<'a> {
    type Item = CoapOption<'a>;
    type IntoIter = OptionIter<'a>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterates over [`Options`].
#[derive(Clone, Debug)]
pub struct OptionIter<'a> {
    bytes: &'a [u8],
    /// Where the next option in `bytes` begins.
    at: usize,
    list: &'a [CoapOption<'a>],
    /// Of the last option.
    number: u32,
    scope: Scope,
    /// As of [`Options`].
    small: u32,
}

impl<'a> Iterator for OptionIter<'a> {
    type Item = CoapOption<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<CoapOption<'a>> {
        // Validated before: neither fails nor holds a payload.
        if let Some(&first) = self.bytes.get(self.at) {
            let (delta, from) = extension(self.bytes, first >> 4, self.at + 1)?;
            let (len, from) = extension(self.bytes, first & 15, from)?;
            let value = self.bytes.get(from..from + len)?;
            self.at = from + len;
            self.number += delta as u32;
            let number = OptionNumber(self.number as u16);
            if self.number < self.small && STRINGS >> (self.number % SMALL) & 1 != 0 {
                return Some(CoapOption { number, value: OptionValue::String(Utf8(value)) });
            }
            let format = match DEFINITIONS.get(self.number as usize) {
                Some(definition) if self.number < self.small => definition.format,
                _ => careful(number, value, delta == 0, self.scope),
            };
            let value = in_format(format, value);
            return Some(CoapOption { number, value });
        }
        let (first, rest) = self.list.split_first()?;
        self.list = rest;
        Some(*first)
    }
}

/// A list of at most `N` options that keeps itself in the order of their numbers; those with the same
/// number stay in the order in which they came.
#[derive(Clone, Debug)]
pub struct OptionList<'a, const N: usize> {
    options: [CoapOption<'a>; N],
    len: usize,
}

impl<'a, const N: usize> OptionList<'a, N> {
    /// An empty list.
    #[inline]
    pub const fn new() -> Self {
        let none = CoapOption { number: OptionNumber(0), value: OptionValue::Empty };
        Self { options: [none; N], len: 0 }
    }

    /// Adds an option.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooManyOptions`] if the list is full.
    pub fn push(&mut self, option: CoapOption<'a>) -> Result<(), EncodeError> {
        let Some(place) = self.options.get_mut(self.len) else {
            return Err(EncodeError::TooManyOptions(N));
        };
        *place = option;
        self.len += 1;
        let options = self.options.get_mut(..self.len).unwrap_or_default();
        let at = options
            .split_last()
            .map_or(0, |(_, before)| before.partition_point(|other| other.number <= option.number));
        if let Some(tail) = options.get_mut(at..) {
            tail.rotate_right(1);
        }
        Ok(())
    }

    /// The options.
    #[inline]
    pub fn options(&self) -> Options<'_> {
        Options::from(self.options.get(..self.len).unwrap_or_default())
    }
}

impl<const N: usize> Default for OptionList<'_, N> {
    fn default() -> Self {
        Self::new()
    }
}
