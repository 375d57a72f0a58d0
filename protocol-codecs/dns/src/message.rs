//! Messages (RFC 1035 §4.1).

use core::fmt;

use crate::edns::{self, Edns};
use crate::error::DecodeError;
use crate::name::{Checker, Name, skip};
use crate::number::{Class, Opcode, Rcode, RecordType};
use crate::rdata::{self, RecordData};

/// The length of a header in octets (RFC 1035 §4.1.1).
pub const HEADER_LEN: usize = 12;
/// The longest message in octets: what the length of one on a stream can say (RFC 1035 §4.2.2).
pub const MAX_MESSAGE_LEN: usize = 65_535;
/// The longest message over UDP to who has not said otherwise, in octets (RFC 1035 §4.2.1).
pub const MIN_UDP_LEN: u16 = 512;

/// A message's parts (RFC 1035 §4.1). In an UPDATE they are called zone, prerequisite, update and
/// additional data section (RFC 2136 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// What is asked.
    Question,
    /// Records that answer it.
    Answer,
    /// Records that point to an authority.
    Authority,
    /// Records with additional information.
    Additional,
}

impl Section {
    /// A lower-case, stable name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Answer => "answer",
            Self::Authority => "authority",
            Self::Additional => "additional",
        }
    }
}

/// The second pair of octets of a header: flags, opcode and response code (RFC 1035 §4.1.1, RFC 2535
/// §6.1). In an UPDATE only QR has a meaning besides them (RFC 2136 §2.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags(pub u16);

impl Flags {
    /// Response.
    pub const QR: Self = Self(0x8000);
    /// Authoritative answer.
    pub const AA: Self = Self(0x0400);
    /// Truncation.
    pub const TC: Self = Self(0x0200);
    /// Recursion desired.
    pub const RD: Self = Self(0x0100);
    /// Recursion available.
    pub const RA: Self = Self(0x0080);
    /// Reserved.
    pub const Z: Self = Self(0x0040);
    /// Authentic data (RFC 4035 §3.2.3).
    pub const AD: Self = Self(0x0020);
    /// Checking disabled (RFC 4035 §3.2.2).
    pub const CD: Self = Self(0x0010);

    /// Whether all of these are set.
    #[inline]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These, and those.
    #[inline]
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// These without those.
    #[inline]
    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }

    /// Whether the message is a response.
    #[inline]
    pub const fn is_response(self) -> bool {
        self.has(Self::QR)
    }

    /// The kind of query.
    #[inline]
    pub const fn opcode(self) -> Opcode {
        Opcode((self.0 >> 11) as u8 & 15)
    }

    /// The same with another kind of query, of which the lowest four bits count.
    #[inline]
    #[must_use]
    pub const fn with_opcode(self, opcode: Opcode) -> Self {
        Self(self.0 & 0x87ff | (opcode.0 as u16 & 15) << 11)
    }

    /// The lowest four bits of the response code; [`Message::rcode`] knows all twelve.
    #[inline]
    pub const fn low_rcode(self) -> u8 {
        self.0 as u8 & 15
    }

    /// The same with the lowest four bits of another response code.
    #[inline]
    #[must_use]
    pub const fn with_low_rcode(self, rcode: Rcode) -> Self {
        Self(self.0 & 0xfff0 | rcode.0 & 15)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({} {}", self.opcode().label(), self.low_rcode())?;
        for (flag, name) in [
            (Self::QR, " qr"),
            (Self::AA, " aa"),
            (Self::TC, " tc"),
            (Self::RD, " rd"),
            (Self::RA, " ra"),
            (Self::Z, " z"),
            (Self::AD, " ad"),
            (Self::CD, " cd"),
        ] {
            if self.has(flag) {
                f.write_str(name)?;
            }
        }
        f.write_str(")")
    }
}

/// A message's first twelve octets (RFC 1035 §4.1.1), which tell what to do about one that cannot be
/// decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Which query a response belongs to.
    pub id: u16,
    /// Flags, opcode and response code.
    pub flags: Flags,
    /// QDCOUNT: how many questions there are; in an UPDATE, zones.
    pub questions: u16,
    /// ANCOUNT: how many records the answer section has; in an UPDATE, prerequisites.
    pub answers: u16,
    /// NSCOUNT: how many records the authority section has; in an UPDATE, updates.
    pub authorities: u16,
    /// ARCOUNT: how many records the additional section has, OPT and TSIG included.
    pub additionals: u16,
}

impl Header {
    /// The header of a message without questions and records.
    #[inline]
    pub const fn new(id: u16, flags: Flags) -> Self {
        Self { id, flags, questions: 0, answers: 0, authorities: 0, additionals: 0 }
    }

    /// The header of a response without questions and records, which is itself a complete message. ID,
    /// opcode, RD and CD are those of the query (RFC 1035 §4.1.1, RFC 4035 §3.2.2). Of the response code
    /// the lowest four bits count.
    #[inline]
    #[must_use]
    pub const fn response(self, rcode: Rcode) -> Self {
        const KEPT: u16 = Flags::RD.0 | Flags::CD.0 | 15 << 11;
        let flags = Flags(self.flags.0 & KEPT).with(Flags::QR).with_low_rcode(rcode);
        Self::new(self.id, flags)
    }

    /// The header's octets.
    #[inline]
    pub const fn to_octets(self) -> [u8; HEADER_LEN] {
        let [i, d] = self.id.to_be_bytes();
        let [f, g] = self.flags.0.to_be_bytes();
        let [q, u] = self.questions.to_be_bytes();
        let [a, n] = self.answers.to_be_bytes();
        let [s, t] = self.authorities.to_be_bytes();
        let [r, e] = self.additionals.to_be_bytes();
        [i, d, f, g, q, u, a, n, s, t, r, e]
    }

    #[inline(always)]
    const fn from_octets(octets: [u8; HEADER_LEN]) -> Self {
        let [i, d, f, g, q, u, a, n, s, t, r, e] = octets;
        Self {
            id: u16::from_be_bytes([i, d]),
            flags: Flags(u16::from_be_bytes([f, g])),
            questions: u16::from_be_bytes([q, u]),
            answers: u16::from_be_bytes([a, n]),
            authorities: u16::from_be_bytes([s, t]),
            additionals: u16::from_be_bytes([r, e]),
        }
    }
}

/// Reads a message's first twelve octets.
///
/// # Errors
///
/// A message that is shorter. It has no answer.
#[inline]
pub fn header(message: &[u8]) -> Result<Header, DecodeError> {
    match message.first_chunk() {
        Some(&octets) => Ok(Header::from_octets(octets)),
        None => Err(DecodeError::HeaderTruncated(message.len() as u8)),
    }
}

/// One message, borrowing from the octets it was decoded from.
///
/// All of it has been checked: reading cannot fail.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    octets: &'a [u8],
    /// The header.
    pub header: Header,
    // Offsets, none of which is above 65,535.
    answers_at: u32,
    authorities_at: u32,
    additionals_at: u32,
    /// Where the OPT record is; without one, zero.
    opt_at: u32,
    is_signed: bool,
}

/// Decodes a message.
///
/// The octets are the whole message and nothing but it.
///
/// # Errors
///
/// Whatever the message alone shows to be wrong with it; [`DecodeError::rcode`] says how to answer it.
/// EDNS options are looked at in version 0 only: who does not know another answers BADVERS (RFC 6891
/// §6.1.3).
// Inlined, so that a message that is looked at where it is decoded need not go through memory.
#[inline(always)]
pub fn decode(octets: &[u8]) -> Result<Message<'_>, DecodeError> {
    let header = header(octets)?;
    check_header(&header, octets.len())?;
    let mut reader =
        Reader { octets, at: HEADER_LEN, names: Checker::new(), opt_at: 0, is_signed: false };
    reader.questions(header.questions)?;
    let answers_at = reader.at as u32;
    reader.records(Section::Answer, header.answers)?;
    let authorities_at = reader.at as u32;
    reader.records(Section::Authority, header.authorities)?;
    let additionals_at = reader.at as u32;
    reader.records(Section::Additional, header.additionals)?;
    let Reader { at, opt_at, is_signed, .. } = reader;
    if at != octets.len() {
        return Err(DecodeError::TrailingOctets((octets.len() - at) as u32));
    }
    let opt_at = opt_at as u32;
    Ok(Message { octets, header, answers_at, authorities_at, additionals_at, opt_at, is_signed })
}

#[inline(always)]
fn check_header(header: &Header, len: usize) -> Result<(), DecodeError> {
    if len > MAX_MESSAGE_LEN {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        return Err(DecodeError::MessageTooLong { len, limit: MAX_MESSAGE_LEN as u32 });
    }
    match header.flags.opcode() {
        Opcode::QUERY if header.questions > 1 => {
            Err(DecodeError::TooManyQuestions(header.questions))
        }
        Opcode::DSO => Err(DecodeError::Stateful),
        _ => Ok(()),
    }
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
    names: Checker,
    opt_at: usize,
    is_signed: bool,
}

impl Reader<'_> {
    #[inline(always)]
    fn questions(&mut self, count: u16) -> Result<(), DecodeError> {
        for index in 0..count {
            let truncated = DecodeError::SectionTruncated { section: Section::Question, index };
            if self.at == self.octets.len() {
                return Err(truncated);
            }
            let end = self.names.check(self.octets, self.at, true)?;
            if self.at == HEADER_LEN {
                self.names.remember_question(end);
            }
            self.at = end + 4;
            if self.at > self.octets.len() {
                return Err(truncated);
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn records(&mut self, section: Section, count: u16) -> Result<(), DecodeError> {
        for index in 0..count {
            let truncated = DecodeError::SectionTruncated { section, index };
            if self.at == self.octets.len() {
                return Err(truncated);
            }
            let end = self.names.check(self.octets, self.at, true)?;
            let Some(fixed) = Fixed::read(self.octets, end) else {
                return Err(truncated);
            };
            let Some(area) = self.octets.get(..fixed.rdata_end) else {
                return Err(truncated);
            };
            if section == Section::Additional && self.is_signed {
                return Err(DecodeError::TsigMisplaced);
            }
            match fixed.record_type {
                RecordType::OPT => self.opt(section, area, &fixed)?,
                RecordType::TSIG => self.tsig(section)?,
                _ => rdata::check(&fixed, area, &mut self.names)?,
            }
            self.at = fixed.rdata_end;
        }
        Ok(())
    }

    #[inline(always)]
    fn opt(&mut self, section: Section, area: &[u8], fixed: &Fixed) -> Result<(), DecodeError> {
        if section != Section::Additional {
            return Err(DecodeError::OptMisplaced(section));
        }
        if self.opt_at != 0 {
            return Err(DecodeError::OptRepeated);
        }
        if area.get(self.at) != Some(&0) {
            return Err(DecodeError::OptName);
        }
        self.opt_at = self.at;
        if edns::version(fixed.ttl) == 0 {
            edns::check(area.get(fixed.rdata_at..).unwrap_or_default())?;
        }
        Ok(())
    }

    #[inline(always)]
    fn tsig(&mut self, section: Section) -> Result<(), DecodeError> {
        if section != Section::Additional {
            return Err(DecodeError::TsigMisplaced);
        }
        self.is_signed = true;
        Ok(())
    }
}

/// What a record has behind its name (RFC 1035 §4.1.3).
#[derive(Clone, Copy)]
pub(crate) struct Fixed {
    pub(crate) record_type: RecordType,
    pub(crate) class: Class,
    pub(crate) ttl: u32,
    pub(crate) rdata_at: usize,
    pub(crate) rdata_end: usize,
}

impl Fixed {
    #[inline(always)]
    pub(crate) fn read(octets: &[u8], at: usize) -> Option<Self> {
        let &[t, y, c, l, i, j, k, m, r, d] = octets.get(at..)?.first_chunk()?;
        let rdata_at = at + 10;
        Some(Self {
            record_type: RecordType(u16::from_be_bytes([t, y])),
            class: Class(u16::from_be_bytes([c, l])),
            ttl: u32::from_be_bytes([i, j, k, m]),
            rdata_at,
            rdata_end: rdata_at + usize::from(u16::from_be_bytes([r, d])),
        })
    }

    /// Whether the record tells about the message and not about a name, so that its TTL is none.
    pub(crate) fn is_meta(&self) -> bool {
        matches!(self.record_type, RecordType::OPT | RecordType::TSIG)
    }
}

impl<'a> Message<'a> {
    /// The octets that were decoded.
    #[inline]
    pub const fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// The response code: twelve bits with EDNS, else four (RFC 6891 §6.1.3).
    #[inline]
    pub fn rcode(&self) -> Rcode {
        let high = self.opt().map_or(0, |opt| edns::high_rcode(opt.ttl));
        Rcode(u16::from(high) << 4 | u16::from(self.header.flags.low_rcode()))
    }

    /// The first question, which is all there are where the opcode is QUERY (RFC 9619 §4).
    #[inline]
    pub fn question(&self) -> Option<Question<'a>> {
        self.questions().next()
    }

    /// The questions; in an UPDATE, the zone.
    #[inline]
    pub const fn questions(&self) -> Questions<'a> {
        let Self { octets, answers_at, .. } = *self;
        Questions { octets, at: HEADER_LEN, left: self.header.questions, end: answers_at as usize }
    }

    /// The records of the answer section.
    #[inline]
    pub const fn answers(&self) -> Records<'a> {
        self.section(self.answers_at, self.header.answers)
    }

    /// The records of the authority section.
    #[inline]
    pub const fn authorities(&self) -> Records<'a> {
        self.section(self.authorities_at, self.header.authorities)
    }

    /// The records of the additional section but OPT, which is [`edns`](Self::edns).
    #[inline]
    pub const fn additionals(&self) -> Records<'a> {
        self.section(self.additionals_at, self.header.additionals)
    }

    /// The records of any section; of the question section none.
    #[inline]
    pub const fn records(&self, section: Section) -> Records<'a> {
        match section {
            Section::Question => self.section(HEADER_LEN as u32, 0),
            Section::Answer => self.answers(),
            Section::Authority => self.authorities(),
            Section::Additional => self.additionals(),
        }
    }

    #[inline(always)]
    const fn section(&self, at: u32, left: u16) -> Records<'a> {
        Records { octets: self.octets, at: at as usize, left: left as u32 }
    }

    /// What the OPT record says; without one, the peer does not speak EDNS (RFC 6891 §6.1.1).
    #[inline]
    pub fn edns(&self) -> Option<Edns<'a>> {
        let opt = self.opt()?;
        let options = self.octets.get(opt.rdata_at..opt.rdata_end)?;
        Some(Edns::from_record(opt.class, opt.ttl, options))
    }

    #[inline(always)]
    fn opt(&self) -> Option<Fixed> {
        match self.opt_at {
            0 => None,
            at => Fixed::read(self.octets, at as usize + 1),
        }
    }

    /// The octets in front of the OPT record if that is the last one, and all if there is none. The header
    /// among them counts it.
    pub(crate) fn before_opt(&self) -> Option<&'a [u8]> {
        match self.opt() {
            None => Some(self.octets),
            Some(opt) if opt.rdata_end == self.octets.len() => {
                self.octets.get(..self.opt_at as usize)
            }
            Some(_) => None,
        }
    }

    /// The offset behind the questions.
    pub(crate) const fn questions_end(&self) -> usize {
        self.answers_at as usize
    }

    /// The longest response that the sender of this query takes over UDP, in octets: 512 without EDNS,
    /// never less with it (RFC 6891 §6.2.3).
    #[inline]
    pub fn udp_limit(&self) -> u16 {
        self.opt().map_or(MIN_UDP_LEN, |opt| opt.class.0.max(MIN_UDP_LEN))
    }

    /// Whether there is a TSIG record: the last of the additional section, whose signature covers the whole
    /// message but its ID (RFC 8945 §4.3.1).
    #[inline]
    pub const fn is_signed(&self) -> bool {
        self.is_signed
    }

    /// Where the TTLs of all records are, as offsets in octets from the start of the message; those of OPT
    /// and TSIG, which are none, excepted.
    #[inline]
    pub fn ttl_offsets(&self) -> TtlOffsets<'a> {
        TtlOffsets { octets: self.octets, walk: self.walk() }
    }

    pub(crate) fn walk(&self) -> Walk {
        let Header { answers, authorities, additionals, .. } = self.header;
        let left = u32::from(answers) + u32::from(authorities) + u32::from(additionals);
        Walk { at: self.answers_at as usize, left }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct List<I>(I);
        impl<I: Iterator<Item: fmt::Debug> + Clone> fmt::Debug for List<I> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.0.clone()).finish()
            }
        }
        f.debug_struct("Message")
            .field("id", &self.header.id)
            .field("flags", &self.header.flags)
            .field("rcode", &self.rcode())
            .field("questions", &List(self.questions()))
            .field("answers", &List(self.answers()))
            .field("authorities", &List(self.authorities()))
            .field("additionals", &List(self.additionals()))
            .field("edns", &self.edns())
            .finish()
    }
}

/// What is asked (RFC 1035 §4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question<'a> {
    /// QNAME.
    pub name: Name<'a>,
    /// QTYPE.
    pub record_type: RecordType,
    /// QCLASS.
    pub class: Class,
}

/// A message's questions.
#[derive(Clone, Debug)]
pub struct Questions<'a> {
    octets: &'a [u8],
    at: usize,
    left: u16,
    /// The end of the section.
    end: usize,
}

impl<'a> Iterator for Questions<'a> {
    type Item = Question<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Question<'a>> {
        self.left = self.left.checked_sub(1)?;
        let name = Name::checked(self.octets, self.at);
        // The name need not be looked through for where the last one ends.
        let end = if self.left == 0 { self.end - 4 } else { skip(self.octets, self.at) };
        let &[t, y, c, l] = self.octets.get(end..)?.first_chunk()?;
        self.at = end + 4;
        let record_type = RecordType(u16::from_be_bytes([t, y]));
        Some(Question { name, record_type, class: Class(u16::from_be_bytes([c, l])) })
    }
}

/// One record (RFC 1035 §4.1.3).
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Whom it is about.
    pub name: Name<'a>,
    /// TYPE.
    pub record_type: RecordType,
    /// CLASS.
    pub class: Class,
    /// TTL in seconds, as it was sent. Above 2,147,483,647 it is zero to most (RFC 2181 §8), and a very
    /// long time to others (RFC 8767 §4).
    pub ttl: u32,
    /// The message up to the end of the RDATA.
    area: &'a [u8],
    rdata_at: usize,
}

impl<'a> Record<'a> {
    /// RDATA, in the format of its type.
    #[inline]
    pub fn data(&self) -> RecordData<'a> {
        rdata::read(self.record_type, self.class, self.area, self.rdata_at)
    }

    /// RDATA as it was sent. Names in it may be compressed, and mean nothing outside of the message.
    #[inline]
    pub fn rdata(&self) -> &'a [u8] {
        self.area.get(self.rdata_at..).unwrap_or_default()
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("name", &self.name)
            .field("record_type", &self.record_type)
            .field("class", &self.class)
            .field("ttl", &self.ttl)
            .field("data", &self.data())
            .finish()
    }
}

/// Equal in what it says: the case of names and their compression make no difference.
impl PartialEq for Record<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.record_type == other.record_type
            && self.class == other.class
            && self.ttl == other.ttl
            && self.data() == other.data()
    }
}

impl Eq for Record<'_> {}

/// The records of a section.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    octets: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            self.left = self.left.checked_sub(1)?;
            let name = Name::checked(self.octets, self.at);
            let Fixed { record_type, class, ttl, rdata_at, rdata_end } =
                Fixed::read(self.octets, skip(self.octets, self.at))?;
            self.at = rdata_end;
            if record_type != RecordType::OPT {
                let area = self.octets.get(..rdata_end)?;
                return Some(Record { name, record_type, class, ttl, area, rdata_at });
            }
        }
    }
}

/// Goes from record to record of all sections.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    at: usize,
    left: u32,
}

impl Walk {
    /// Where the next TTL is.
    pub(crate) fn next_ttl(&mut self, octets: &[u8]) -> Option<usize> {
        loop {
            self.left = self.left.checked_sub(1)?;
            let fixed = Fixed::read(octets, skip(octets, self.at))?;
            self.at = fixed.rdata_end;
            if !fixed.is_meta() {
                // TTL and RDLENGTH are in front of the RDATA.
                return Some(fixed.rdata_at - 6);
            }
        }
    }
}

/// Where the TTLs of a message are; see [`Message::ttl_offsets`].
#[derive(Clone, Debug)]
pub struct TtlOffsets<'a> {
    octets: &'a [u8],
    walk: Walk,
}

impl Iterator for TtlOffsets<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        self.walk.next_ttl(self.octets)
    }
}
