//! Building messages.

use core::num::NonZeroU16;

use crate::edns::Edns;
use crate::error::EncodeError;
use crate::message::{
    Flags, HEADER_LEN, Header, MAX_MESSAGE_LEN, Message, Question, Record, Section,
};
use crate::name::Name;
use crate::number::{Class, Rcode, RecordType};
use crate::rdata::RecordData;
use crate::write::{Mark, Refused, Writer};

/// Octets of an OPT record without options: name, type, class, TTL and RDLENGTH (RFC 6891 §6.1.2).
const OPT_LEN: usize = 11;
/// Octets of an option without a value: code and length (RFC 6891 §6.1.2).
const OPTION_LEN: usize = 4;

/// Writes a message: header, question, records in the order of their sections, and at last the OPT record.
///
/// Names are compressed, and keep their case: a name is pointed to by those that are the same to the
/// letter. Whatever does not fit is refused as a whole, and what is there stays: the caller goes on
/// without, or cuts the message short with [`truncate`](Self::truncate).
///
/// ```
/// use codec_dns::{Builder, Class, Edns, Rcode, RecordData, Section, decode};
///
/// let octets = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07eXample\x03com\0\0\x01\0\x01";
/// let query = decode(octets)?;
/// let mut out = [0; 512];
/// let mut response = Builder::response(&mut out, &query, Rcode::NOERROR)?;
/// let name = query.question().unwrap().name;
/// let address = RecordData::A([192, 0, 2, 1].into());
/// response.record(Section::Answer, name, Class::IN, 300, &address)?;
/// let len = response.finish()?;
/// assert_eq!(len, octets.len() + 16);
/// let response = decode(&out[..len])?;
/// assert_eq!(response.header.id, 0x1234);
/// assert_eq!(response.answers().next().unwrap().data(), address);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub struct Builder<'a> {
    writer: Writer<'a>,
    header: Header,
    rcode: Rcode,
    section: Section,
    /// The end of the questions.
    questions: Mark,
    edns: Option<(Edns<'a>, Option<NonZeroU16>)>,
}

impl<'a> Builder<'a> {
    /// A message with this ID and these flags, the response code included. It gets no longer than `out`,
    /// nor than 65,535 octets: over UDP, `out` is cut to what the peer takes
    /// ([`Message::udp_limit`]).
    ///
    /// # Errors
    ///
    /// No room for a header.
    // Inlined, so that what is built need not be moved.
    #[inline(always)]
    pub fn new(out: &'a mut [u8], id: u16, flags: Flags) -> Result<Self, EncodeError> {
        let len = out.len().min(MAX_MESSAGE_LEN);
        if len < HEADER_LEN {
            return Err(EncodeError::Full);
        }
        let writer = Writer::new(out.get_mut(..len).unwrap_or_default());
        let questions = writer.mark();
        let rcode = Rcode(u16::from(flags.low_rcode()));
        let header = Header::new(id, flags);
        Ok(Self { writer, header, rcode, section: Section::Question, questions, edns: None })
    }

    /// A response with the ID, opcode, RD and CD of the query ([`Header::response`]) and its questions.
    ///
    /// # Errors
    ///
    /// No room for that.
    #[inline(always)]
    pub fn response(
        out: &'a mut [u8],
        query: &Message<'_>,
        rcode: Rcode,
    ) -> Result<Self, EncodeError> {
        let header = query.header.response(rcode);
        let mut response = Self::new(out, header.id, header.flags)?;
        response.rcode = rcode;
        for question in query.questions() {
            response.question(&question)?;
        }
        Ok(response)
    }

    /// The message again without its OPT record, for [`edns`](Self::edns) to add another. Where that is the
    /// last record, as almost always, the octets are taken over as they are, and what is added is not
    /// compressed by pointing to them; else every record is written anew.
    ///
    /// # Errors
    ///
    /// No room for that, or a TSIG, whose signature covers the whole message (RFC 8945 §4.3.1).
    pub fn again(out: &'a mut [u8], message: &Message<'_>) -> Result<Self, EncodeError> {
        if message.is_signed() {
            return Err(EncodeError::MetaRecord(RecordType::TSIG));
        }
        let mut again = Self::new(out, message.header.id, message.header.flags)?;
        again.rcode = message.rcode();
        let Some(body) = message.before_opt() else {
            for question in message.questions() {
                again.question(&question)?;
            }
            for section in [Section::Answer, Section::Authority, Section::Additional] {
                for record in message.records(section) {
                    again.copy(section, &record)?;
                }
            }
            return Ok(again);
        };
        let (questions, records) =
            body.split_at_checked(message.questions_end()).unwrap_or_default();
        let full = |_| EncodeError::Full;
        let questions = questions.get(HEADER_LEN..).unwrap_or_default();
        again.writer.bytes(questions).map_err(full)?;
        again.questions = again.writer.mark();
        again.writer.bytes(records).map_err(full)?;
        again.header = message.header;
        if message.edns().is_some() {
            again.header.additionals -= 1;
        }
        again.section = Section::Additional;
        Ok(again)
    }

    /// Sets these flags besides those that are.
    #[inline]
    pub fn set_flags(&mut self, flags: Flags) {
        self.header.flags = self.header.flags.with(flags).with_low_rcode(self.rcode);
    }

    /// Gives the message another response code. What is above 15 needs EDNS (RFC 6891 §6.1.3).
    #[inline]
    pub fn set_rcode(&mut self, rcode: Rcode) {
        self.rcode = rcode;
        self.header.flags = self.header.flags.with_low_rcode(rcode);
    }

    /// How many octets the message has so far, without the OPT record.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "there is a header")]
    pub fn len(&self) -> usize {
        self.writer.len()
    }

    /// Adds a question.
    ///
    /// # Errors
    ///
    /// No room, or a record in front of it.
    #[inline]
    pub fn question(&mut self, question: &Question<'_>) -> Result<(), EncodeError> {
        if self.section != Section::Question {
            return Err(EncodeError::SectionOrder(Section::Question));
        }
        let count = next(self.header.questions, Section::Question)?;
        let start = self.writer.mark();
        let Question { name, record_type, class } = *question;
        let w = &mut self.writer;
        if w.name(name, true).is_err() || w.array(pair(record_type.0, class.0)).is_err() {
            w.rewind(start);
            return Err(EncodeError::Full);
        }
        self.header.questions = count;
        self.questions = self.writer.mark();
        Ok(())
    }

    /// Adds a record.
    ///
    /// # Errors
    ///
    /// No room, a section that is over, or a value that the record cannot have. Then it is as if nothing
    /// had been added.
    #[inline]
    pub fn record(
        &mut self,
        section: Section,
        name: Name<'_>,
        class: Class,
        ttl: u32,
        data: &RecordData<'_>,
    ) -> Result<(), EncodeError> {
        let record_type = data.record_type();
        let count = self.next_count(section, record_type)?;
        let start = self.writer.mark();
        let w = &mut self.writer;
        let mut write = || {
            w.name(name, true)?;
            w.array(pair(record_type.0, class.0))?;
            w.u32(ttl)?;
            let length = w.length()?;
            data.write(class, w)?;
            w.fill_length(length)
        };
        let written = write();
        match written {
            Ok(()) => {
                self.section = section;
                match section {
                    Section::Question | Section::Answer => self.header.answers = count,
                    Section::Authority => self.header.authorities = count,
                    Section::Additional => self.header.additionals = count,
                }
                Ok(())
            }
            Err(refused) => {
                self.writer.rewind(start);
                Err(match refused {
                    Refused::Full => EncodeError::Full,
                    Refused::Value => EncodeError::Rdata(record_type),
                })
            }
        }
    }

    /// Adds a record of another message, with the TTL that it has there.
    ///
    /// # Errors
    ///
    /// As [`record`](Self::record).
    #[inline]
    pub fn copy(&mut self, section: Section, record: &Record<'_>) -> Result<(), EncodeError> {
        self.record(section, record.name, record.class, record.ttl, &record.data())
    }

    /// How many records the section has with one more.
    #[inline(always)]
    fn next_count(&self, section: Section, record_type: RecordType) -> Result<u16, EncodeError> {
        if matches!(record_type, RecordType::OPT | RecordType::TSIG) {
            return Err(EncodeError::MetaRecord(record_type));
        }
        if section < self.section {
            return Err(EncodeError::SectionOrder(section));
        }
        match section {
            Section::Question => Err(EncodeError::SectionOrder(section)),
            Section::Answer => next(self.header.answers, section),
            Section::Authority => next(self.header.authorities, section),
            // One is kept for the OPT record.
            Section::Additional => match next(self.header.additionals, section)? {
                u16::MAX => Err(EncodeError::TooManyEntries(section)),
                count => Ok(count),
            },
        }
    }

    /// Has an OPT record at the end, and keeps room for it from now on. With a `block`, padding fills the
    /// message up to a multiple of so many octets (RFC 8467 §4.1), or up to the end of the room: 128 for
    /// queries, 468 for responses. It belongs on encrypted connections only (RFC 7830 §6).
    ///
    /// # Errors
    ///
    /// No room, or an option that does not keep to its definition.
    pub fn edns(&mut self, edns: Edns<'a>, block: Option<NonZeroU16>) -> Result<(), EncodeError> {
        let whole = self.writer.out_len();
        let before = (self.writer.mark(), self.writer.end());
        self.writer.set_end(whole);
        // To know how long the options are, and that they are in order.
        let written = self.write_opt(&edns);
        let len = self.writer.len();
        self.writer.rewind(before.0);
        match written {
            Ok(()) => {
                self.writer.set_end(whole - (len - self.writer.len()));
                self.edns = Some((edns, block));
                Ok(())
            }
            Err(error) => {
                self.writer.set_end(before.1);
                Err(error)
            }
        }
    }

    fn write_opt(&mut self, edns: &Edns<'_>) -> Result<(), EncodeError> {
        let full = |_| EncodeError::Full;
        let w = &mut self.writer;
        let [a, b, c, d] = edns.ttl((self.rcode.0 >> 4) as u8).to_be_bytes();
        let [t, y] = RecordType::OPT.0.to_be_bytes();
        let [p, s] = edns.payload_size.to_be_bytes();
        w.array([0, t, y, p, s, a, b, c, d]).map_err(full)?;
        let length = w.length().map_err(full)?;
        edns.options.write(w)?;
        w.fill_length(length).map_err(full)
    }

    /// Takes all records out again and sets TC, which asks the peer to use TCP (RFC 2181 §9). Questions
    /// and OPT record stay.
    pub fn truncate(&mut self) {
        self.writer.rewind(self.questions);
        self.section = Section::Question;
        let Header { id, flags, questions, .. } = self.header;
        self.header = Header { questions, ..Header::new(id, flags.with(Flags::TC)) };
    }

    /// Writes OPT record and header, and says how many octets the message has.
    ///
    /// # Errors
    ///
    /// A response code above 15 without EDNS.
    #[inline]
    pub fn finish(mut self) -> Result<usize, EncodeError> {
        match self.edns.take() {
            Some((edns, block)) => self.finish_edns(&edns, block)?,
            None if self.rcode.0 > 15 => return Err(EncodeError::RcodeNeedsEdns(self.rcode)),
            None => {}
        }
        let len = self.writer.len();
        if let Some(place) = self.writer.written().first_chunk_mut() {
            *place = self.header.to_octets();
        }
        Ok(len)
    }

    fn finish_edns(
        &mut self,
        edns: &Edns<'_>,
        block: Option<NonZeroU16>,
    ) -> Result<(), EncodeError> {
        let start = self.writer.len();
        let whole = self.writer.out_len();
        self.writer.set_end(whole);
        self.write_opt(edns)?;
        self.header.additionals += 1;
        let Some(block) = block else { return Ok(()) };
        let len = self.writer.len() + OPTION_LEN;
        let padded = len.next_multiple_of(usize::from(block.get())).min(whole);
        let Some(padding) = padded.checked_sub(len) else { return Ok(()) };
        let full = |_| EncodeError::Full;
        let code = crate::OptionCode::PADDING.0;
        self.writer.array(pair(code, padding as u16)).map_err(full)?;
        self.writer.zeros(padding).map_err(full)?;
        let rdata_len = (self.writer.len() - start - OPT_LEN) as u16;
        let opt = self.writer.written().get_mut(start + OPT_LEN - 2..);
        if let Some(place) = opt.and_then(|opt| opt.first_chunk_mut()) {
            *place = rdata_len.to_be_bytes();
        }
        Ok(())
    }
}

#[inline(always)]
fn next(count: u16, section: Section) -> Result<u16, EncodeError> {
    count.checked_add(1).ok_or(EncodeError::TooManyEntries(section))
}

#[inline(always)]
const fn pair(one: u16, other: u16) -> [u8; 4] {
    let [a, b] = one.to_be_bytes();
    let [c, d] = other.to_be_bytes();
    [a, b, c, d]
}
