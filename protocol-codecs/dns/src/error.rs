//! What can be wrong with a message.

use core::fmt;

use crate::message::{Header, Section};
use crate::number::{Opcode, OptionCode, Rcode, RecordType};

/// Why the received octets are no message that may be processed.
///
/// Places are offsets in octets from the start of the message. [`rcode`](Self::rcode) is the one table of
/// what the sender gets to know about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer octets than a header has (RFC 1035 §4.1.1); how many.
    HeaderTruncated(u8),
    /// More octets than a message can have, or than the caller allows (RFC 1035 §4.2.2).
    MessageTooLong {
        /// The length of the message in octets.
        len: u32,
        /// The limit in octets.
        limit: u32,
    },
    /// A DNS Stateful Operations message, which has no sections but data of its own (RFC 8490 §5.4).
    Stateful,
    /// More than one question with opcode QUERY (RFC 9619 §4); how many.
    TooManyQuestions(u16),
    /// The message ends within an entry that the header announces (RFC 1035 §4.1.1).
    SectionTruncated {
        /// The section.
        section: Section,
        /// Which entry of it, the first being 0.
        index: u16,
    },
    /// Octets behind the last record; how many.
    TrailingOctets(u32),

    /// The message or the RDATA ends within a name (RFC 1035 §3.1); where.
    NameTruncated(u16),
    /// A name of more than 255 octets (RFC 1035 §2.3.4); where it begins.
    NameTooLong(u16),
    /// A label type that is reserved or obsolete: 01 or 10 in the first two bits (RFC 6891 §5).
    LabelType {
        /// Where the label begins.
        at: u16,
        /// Its first octet.
        octet: u8,
    },
    /// A pointer that does not lead to labels that end in front of those that led to it, and begin behind
    /// the header: what loops are made of (RFC 1035 §4.1.4).
    PointerNotBackwards {
        /// Where the pointer is.
        at: u16,
        /// Where it leads.
        to: u16,
    },
    /// More pointers in a name than it can have labels; where it begins.
    TooManyPointers(u16),
    /// More pointers in what pointers lead to, in this name and all in front of it, than there are octets in
    /// front of it: with few octets they would keep every reader busy. Where the name begins.
    TooManyNestedPointers(u16),
    /// A pointer where names are not compressed (RFC 3597 §4); where.
    PointerNotAllowed(u16),

    /// RDATA that is not in the format of its type.
    Rdata(RecordType),
    /// An OPT record in another section than the additional one (RFC 6891 §6.1.1).
    OptMisplaced(Section),
    /// A second OPT record (RFC 6891 §6.1.1).
    OptRepeated,
    /// An OPT record with another name than the root (RFC 6891 §6.1.2).
    OptName,
    /// An EDNS option that ends behind the OPT record's RDATA, or a header without room (RFC 6891 §6.1.2).
    OptionTruncated,
    /// An EDNS option that does not keep to its definition.
    OptionFormat(OptionCode),
    /// A TSIG record that is not the last of the additional section (RFC 8945 §5.1).
    TsigMisplaced,
}

impl DecodeError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::HeaderTruncated(_) => "header_truncated",
            Self::MessageTooLong { .. } => "message_too_long",
            Self::Stateful => "stateful",
            Self::TooManyQuestions(_) => "too_many_questions",
            Self::SectionTruncated { .. } => "section_truncated",
            Self::TrailingOctets(_) => "trailing_octets",
            Self::NameTruncated(_) => "name_truncated",
            Self::NameTooLong(_) => "name_too_long",
            Self::LabelType { .. } => "label_type",
            Self::PointerNotBackwards { .. } => "pointer_not_backwards",
            Self::TooManyPointers(_) => "too_many_pointers",
            Self::TooManyNestedPointers(_) => "too_many_nested_pointers",
            Self::PointerNotAllowed(_) => "pointer_not_allowed",
            Self::Rdata(_) => "rdata",
            Self::OptMisplaced(_) => "opt_misplaced",
            Self::OptRepeated => "opt_repeated",
            Self::OptName => "opt_name",
            Self::OptionTruncated => "option_truncated",
            Self::OptionFormat(_) => "option_format",
            Self::TsigMisplaced => "tsig_misplaced",
        }
    }

    /// What the sender of the message is answered, by a [`Header::response`]; `header` is
    /// [`header`](crate::header) of the message. `None`: nothing, because it is itself a response, or has
    /// no header.
    ///
    /// What has an opcode that this crate has no format for gets NOTIMP (RFC 1035 §4.1.1, RFC 8490 §5.1),
    /// anything else FORMERR.
    pub const fn rcode(self, header: Header) -> Option<Rcode> {
        if header.flags.is_response() {
            return None;
        }
        match (self, header.flags.opcode()) {
            (Self::HeaderTruncated(_), _) => None,
            (_, Opcode::QUERY | Opcode::NOTIFY | Opcode::UPDATE) => Some(Rcode::FORMERR),
            _ => Some(Rcode::NOTIMP),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::HeaderTruncated(len) => write!(f, "message of {len} octets has no header"),
            Self::MessageTooLong { len, limit } => {
                write!(f, "message of {len} octets is above the limit of {limit}")
            }
            Self::Stateful => f.write_str("stateful operations are not supported"),
            Self::TooManyQuestions(count) => write!(f, "query with {count} questions"),
            Self::SectionTruncated { section, index } => {
                write!(f, "message ends within entry {index} of the {} section", section.label())
            }
            Self::TrailingOctets(count) => write!(f, "{count} octets behind the end"),
            Self::NameTruncated(at) => write!(f, "name ends early at octet {at}"),
            Self::NameTooLong(at) => write!(f, "name at octet {at} is above 255 octets"),
            Self::LabelType { at, octet } => {
                write!(f, "label type of {octet:#04x} at octet {at} is unknown")
            }
            Self::PointerNotBackwards { at, to } => {
                write!(f, "pointer at octet {at} leads to octet {to}")
            }
            Self::TooManyPointers(at) => write!(f, "name at octet {at} has more than 127 pointers"),
            Self::TooManyNestedPointers(at) => {
                write!(f, "names up to octet {at} lead to more pointers than octets")
            }
            Self::PointerNotAllowed(at) => write!(f, "pointer at octet {at} is not allowed there"),
            Self::Rdata(record_type) => write!(f, "rdata is not in the format of {record_type}"),
            Self::OptMisplaced(section) => {
                write!(f, "opt record in the {} section", section.label())
            }
            Self::OptRepeated => f.write_str("second opt record"),
            Self::OptName => f.write_str("opt record with a name"),
            Self::OptionTruncated => f.write_str("edns option ends early"),
            Self::OptionFormat(code) => {
                write!(f, "edns option {} ({}) is not in its format", code.0, code.label())
            }
            Self::TsigMisplaced => f.write_str("tsig is not the last record"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Why a message cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncodeError {
    /// There is no room for it within the limit: what is in the message stays as it was.
    Full,
    /// More than 65,535 octets (RFC 1035 §4.2.2); how many.
    MessageTooLong(usize),
    /// An entry for a section that others have followed.
    SectionOrder(Section),
    /// More than 65,535 entries (RFC 1035 §4.1.1).
    TooManyEntries(Section),
    /// A response code above 15 in a message without EDNS (RFC 6891 §6.1.3).
    RcodeNeedsEdns(Rcode),
    /// A record that speaks about its message and cannot be put into another: OPT, which
    /// [`Builder::edns`](crate::Builder::edns) writes, or TSIG (RFC 8945 §5.1).
    MetaRecord(RecordType),
    /// A value that its field cannot hold, or RDATA that is not in the format of its type.
    Rdata(RecordType),
    /// An EDNS option that does not keep to its definition.
    Option(OptionCode),
    /// The other name is not the same, or not in the same place.
    OtherName,
}

impl EncodeError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::MessageTooLong(_) => "message_too_long",
            Self::SectionOrder(_) => "section_order",
            Self::TooManyEntries(_) => "too_many_entries",
            Self::RcodeNeedsEdns(_) => "rcode_needs_edns",
            Self::MetaRecord(_) => "meta_record",
            Self::Rdata(_) => "rdata",
            Self::Option(_) => "option",
            Self::OtherName => "other_name",
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Full => f.write_str("no room in the message"),
            Self::MessageTooLong(len) => write!(f, "message of {len} octets is above 65535"),
            Self::SectionOrder(section) => {
                write!(f, "entry of the {} section comes too late", section.label())
            }
            Self::TooManyEntries(section) => {
                write!(f, "more than 65535 entries in the {} section", section.label())
            }
            Self::RcodeNeedsEdns(rcode) => write!(f, "rcode {} needs edns", rcode.0),
            Self::MetaRecord(record_type) => write!(f, "{record_type} cannot be added as a record"),
            Self::Rdata(record_type) => write!(f, "value does not fit the format of {record_type}"),
            Self::Option(code) => {
                write!(f, "edns option {} ({}) is not in its format", code.0, code.label())
            }
            Self::OtherName => f.write_str("names differ"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why text is no domain name (RFC 1035 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NameError {
    /// A label without octets, which only the root is.
    EmptyLabel,
    /// A label of more than 63 octets; how many.
    LabelTooLong(u16),
    /// More than 255 octets.
    NameTooLong,
    /// A backslash without a character or three digits up to 255 behind it.
    Escape,
    /// A control, a blank or an octet of a character that is not ASCII, not escaped. Internationalized
    /// names are written with A-labels (RFC 5890 §2.3.2.1).
    Character(u8),
}

impl NameError {
    /// A lower-case, stable name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::EmptyLabel => "empty_label",
            Self::LabelTooLong(_) => "label_too_long",
            Self::NameTooLong => "name_too_long",
            Self::Escape => "escape",
            Self::Character(_) => "character",
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EmptyLabel => f.write_str("label is empty"),
            Self::LabelTooLong(len) => write!(f, "label of {len} octets is above 63"),
            Self::NameTooLong => f.write_str("name is above 255 octets"),
            Self::Escape => f.write_str("backslash is not followed by a character or three digits"),
            Self::Character(octet) => write!(f, "octet {octet:#04x} has to be escaped"),
        }
    }
}

impl core::error::Error for NameError {}
