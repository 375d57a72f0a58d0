//! DNS messages to make, to look at and to compare. They are written and read here octet by octet, not with the
//! codec that the filter uses, so that a mistake in it is not made twice.

use std::fmt;

use codec_dns::{Flags, InfoCode, OptionCode, Rcode, RecordType};

/// A whole message.
#[derive(Clone, PartialEq, Eq)]
pub struct Msg {
    pub id: u16,
    /// With the lowest four bits of the response code.
    pub flags: Flags,
    /// The others.
    pub high_rcode: u8,
    pub questions: Vec<Question>,
    /// Answer, authority and additional section, OPT excepted.
    pub records: [Vec<Record>; 3],
    pub edns: Option<Edns>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Question {
    pub name: String,
    pub record_type: RecordType,
    pub class: u16,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub record_type: RecordType,
    pub class: u16,
    pub ttl: u32,
    /// RDATA without compression.
    pub data: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edns {
    pub size: u16,
    pub version: u8,
    pub flags: u16,
    pub options: Vec<(OptionCode, Vec<u8>)>,
}

/// A query with RD.
pub fn query(id: u16, name: &str, record_type: RecordType) -> Msg {
    let name = format!("{}.", name.trim_end_matches('.'));
    Msg {
        id,
        flags: Flags::RD,
        high_rcode: 0,
        questions: vec![Question { name, record_type, class: 1 }],
        records: Default::default(),
        edns: None,
    }
}

/// A query for an address.
pub fn a(id: u16, name: &str) -> Msg {
    query(id, name, RecordType::A)
}

pub fn record(name: &str, record_type: RecordType, ttl: u32, data: &[u8]) -> Record {
    let name = format!("{}.", name.trim_end_matches('.'));
    Record { name, record_type, class: 1, ttl, data: data.to_vec() }
}

/// The SOA record of a zone, which is what a negative answer needs.
pub fn soa(zone: &str, ttl: u32, minimum: u32) -> Record {
    let mut data = [wire("ns."), wire("admin.")].concat();
    for number in [1, 3600, 600, 86_400, minimum] {
        data.extend(number.to_be_bytes());
    }
    record(zone, RecordType::SOA, ttl, &data)
}

impl Msg {
    pub fn with_id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    pub fn set(mut self, flags: Flags) -> Self {
        self.flags = self.flags.with(flags);
        self
    }

    pub fn unset(mut self, flags: Flags) -> Self {
        self.flags = self.flags.without(flags);
        self
    }

    pub fn class(mut self, class: u16) -> Self {
        self.questions[0].class = class;
        self
    }

    /// With EDNS that says how much the sender takes over UDP.
    pub fn edns(mut self, size: u16) -> Self {
        self.edns = Some(Edns { size, version: 0, flags: 0, options: Vec::new() });
        self
    }

    /// With DO.
    pub fn dnssec(mut self) -> Self {
        self.edns.as_mut().expect("EDNS").flags |= 0x8000;
        self
    }

    /// With another EDNS option.
    pub fn opt(mut self, code: OptionCode, value: &[u8]) -> Self {
        let edns =
            self.edns.get_or_insert(Edns { size: 1232, version: 0, flags: 0, options: Vec::new() });
        edns.options.push((code, value.to_vec()));
        self
    }

    /// With the client subnet of an IPv4 address.
    pub fn subnet(self, [a, b, c]: [u8; 3], scope: u8) -> Self {
        self.opt(OptionCode::CLIENT_SUBNET, &[0, 1, 24, scope, a, b, c])
    }

    /// With an extended error.
    pub fn error(self, code: InfoCode, text: &str) -> Self {
        let value = [&code.0.to_be_bytes(), text.as_bytes()].concat();
        self.opt(OptionCode::EXTENDED_ERROR, &value)
    }

    /// What a server answers: with EDNS, if it was asked with it.
    pub fn reply(&self, rcode: Rcode) -> Self {
        let edns = self.edns.as_ref().map(|edns| Edns {
            size: 4096,
            version: 0,
            flags: edns.flags & 0x8000,
            options: Vec::new(),
        });
        Self {
            flags: Flags(self.flags.0 & 0x7910).with(Flags::QR.with(Flags::RA)),
            records: Default::default(),
            edns,
            ..self.clone()
        }
        .rcode_is(rcode)
    }

    pub fn rcode_is(mut self, rcode: Rcode) -> Self {
        self.flags = self.flags.with_low_rcode(rcode);
        self.high_rcode = (rcode.0 >> 4) as u8;
        self
    }

    /// What a server answers: this address.
    pub fn address(&self, ttl: u32, last: u8) -> Self {
        let name = self.name().to_owned();
        self.reply(Rcode::NOERROR).answer(record(&name, RecordType::A, ttl, &[192, 0, 2, last]))
    }

    /// What a server answers: text, so that the answer has so many octets.
    pub fn text_up_to(&self, len: usize) -> Self {
        let mut reply = self.reply(Rcode::NOERROR);
        while reply.octets().len() < len {
            // What the next record takes besides its text.
            let besides = wire(self.name()).len() + 11;
            let room = (len - reply.octets().len()).checked_sub(besides).expect("room for text");
            // As much as there is to say, or less so that another one has room.
            let text = if room <= 255 { room } else { room.saturating_sub(besides).min(200) };
            let data = [&[text as u8][..], &vec![b'x'; text]].concat();
            let name = self.name().to_owned();
            reply = reply.answer(record(&name, RecordType::TXT, 300, &data));
        }
        assert_eq!(reply.octets().len(), len);
        reply
    }

    pub fn answer(mut self, record: Record) -> Self {
        self.records[0].push(record);
        self
    }

    pub fn authority(mut self, record: Record) -> Self {
        self.records[1].push(record);
        self
    }

    pub fn additional(mut self, record: Record) -> Self {
        self.records[2].push(record);
        self
    }

    pub fn name(&self) -> &str {
        &self.questions[0].name
    }

    pub fn rcode(&self) -> Rcode {
        Rcode(u16::from(self.high_rcode) << 4 | u16::from(self.flags.low_rcode()))
    }

    pub fn has(&self, flags: Flags) -> bool {
        self.flags.has(flags)
    }

    /// The TTLs of the answer section.
    pub fn ttls(&self) -> Vec<u32> {
        self.records[0].iter().map(|record| record.ttl).collect()
    }

    /// The value of an EDNS option that is there once.
    pub fn option(&self, code: OptionCode) -> Option<&[u8]> {
        let options = self.edns.as_ref().map_or(&[][..], |edns| &edns.options);
        let mut found = options.iter().filter(|(other, _)| *other == code);
        let value = found.next().map(|(_, value)| &**value);
        assert!(found.next().is_none(), "{code:?} is there twice");
        value
    }

    /// The extended errors with their texts.
    pub fn errors(&self) -> Vec<(InfoCode, String)> {
        let options = self.edns.iter().flat_map(|edns| &edns.options);
        let errors = options.filter(|(code, _)| *code == OptionCode::EXTENDED_ERROR);
        let error = |(_, value): &(OptionCode, Vec<u8>)| {
            let (code, text) = value.split_first_chunk().expect("a code");
            (InfoCode(u16::from_be_bytes(*code)), String::from_utf8_lossy(text).into_owned())
        };
        errors.map(error).collect()
    }

    /// The only extended error.
    pub fn error_code(&self) -> InfoCode {
        let errors = self.errors();
        assert_eq!(errors.len(), 1, "{self:?}");
        errors[0].0
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut octets = self.id.to_be_bytes().to_vec();
        octets.extend(self.flags.0.to_be_bytes());
        let [answers, authorities, additionals] = self.records.each_ref().map(Vec::len);
        let additionals = additionals + usize::from(self.edns.is_some());
        for count in [self.questions.len(), answers, authorities, additionals] {
            octets.extend((count as u16).to_be_bytes());
        }
        for question in &self.questions {
            octets.extend(wire(&question.name));
            octets.extend(question.record_type.0.to_be_bytes());
            octets.extend(question.class.to_be_bytes());
        }
        for record in self.records.iter().flatten() {
            octets.extend(wire(&record.name));
            let class = record.class;
            put(&mut octets, record.record_type, class, record.ttl, &record.data);
        }
        if let Some(edns) = &self.edns {
            let mut data = Vec::new();
            for (code, value) in &edns.options {
                data.extend(code.0.to_be_bytes());
                data.extend((value.len() as u16).to_be_bytes());
                data.extend(value);
            }
            let [version, high] = [edns.version, self.high_rcode].map(u32::from);
            let ttl = high << 24 | version << 16 | u32::from(edns.flags);
            octets.push(0);
            put(&mut octets, RecordType::OPT, edns.size, ttl, &data);
        }
        octets
    }

    /// What is behind a length on a stream (RFC 7766 §8).
    pub fn framed(&self) -> Vec<u8> {
        framed(&self.octets())
    }

    /// Reads a message, which must be one.
    #[track_caller]
    pub fn decode(octets: &[u8]) -> Self {
        Self::try_decode(octets).unwrap_or_else(|| panic!("no message: {octets:02x?}"))
    }

    pub fn try_decode(octets: &[u8]) -> Option<Self> {
        let mut reader = Reader { octets, at: 0 };
        let (id, flags) = (reader.u16()?, Flags(reader.u16()?));
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let mut message = Self {
            id,
            flags,
            high_rcode: 0,
            questions: Vec::new(),
            records: Default::default(),
            edns: None,
        };
        for _ in 0..counts[0] {
            let name = reader.name()?;
            let (record_type, class) = (RecordType(reader.u16()?), reader.u16()?);
            message.questions.push(Question { name, record_type, class });
        }
        for section in 0..3 {
            for _ in 0..counts[section + 1] {
                let record = reader.record()?;
                if record.record_type != RecordType::OPT {
                    message.records[section].push(record);
                    continue;
                }
                let [high_rcode, version, flags @ ..] = record.ttl.to_be_bytes();
                message.high_rcode = high_rcode;
                let mut data = Reader { octets: &record.data, at: 0 };
                let mut options = Vec::new();
                while data.at < record.data.len() {
                    let (code, len) = (OptionCode(data.u16()?), data.u16()?);
                    options.push((code, data.take(usize::from(len))?.to_vec()));
                }
                let flags = u16::from_be_bytes(flags);
                if message.edns.is_some() || section != 2 {
                    return None;
                }
                message.edns = Some(Edns { size: record.class, version, flags, options });
            }
        }
        (reader.at == octets.len()).then_some(message)
    }
}

fn put(octets: &mut Vec<u8>, record_type: RecordType, class: u16, ttl: u32, data: &[u8]) {
    octets.extend(record_type.0.to_be_bytes());
    octets.extend(class.to_be_bytes());
    octets.extend(ttl.to_be_bytes());
    octets.extend((data.len() as u16).to_be_bytes());
    octets.extend(data);
}

/// A message with its length in front.
pub fn framed(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u16).to_be_bytes(), octets].concat()
}

/// A name's octets, without compression. Its labels have no dots.
pub fn wire(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        octets.push(label.len() as u8);
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.octets.get(self.at..self.at + len)?;
        self.at += len;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut back = None;
        for _ in 0..256 {
            match self.take(1)?[0] {
                0 => {
                    self.at = back.unwrap_or(self.at);
                    return Some(if name.is_empty() { ".".to_owned() } else { name });
                }
                high @ 0xc0.. => {
                    let low = self.take(1)?[0];
                    back.get_or_insert(self.at);
                    self.at = usize::from(high & 0x3f) << 8 | usize::from(low);
                }
                len => {
                    name.extend(self.take(usize::from(len))?.iter().copied().map(char::from));
                    name.push('.');
                }
            }
        }
        None
    }

    fn record(&mut self) -> Option<Record> {
        let name = self.name()?;
        let (record_type, class, ttl) = (RecordType(self.u16()?), self.u16()?, self.u32()?);
        let len = usize::from(self.u16()?);
        let end = self.at + len;
        let data = match record_type {
            RecordType::NS | RecordType::CNAME | RecordType::PTR => wire(&self.name()?),
            RecordType::SOA => {
                let names = [wire(&self.name()?), wire(&self.name()?)].concat();
                [&names, self.take(20)?].concat()
            }
            _ => self.take(len)?.to_vec(),
        };
        (self.at == end).then_some(Record { name, record_type, class, ttl, data })
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.class, self.record_type)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, record_type, class, ttl, data } = self;
        let (front, rest) = data.split_at(data.len().min(24));
        write!(f, "{name} {ttl} {class} {record_type} {}", front.escape_ascii())?;
        if rest.is_empty() { Ok(()) } else { write!(f, "… and {} more", rest.len()) }
    }
}

impl fmt::Debug for Msg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?} {:?}", self.id, self.flags, self.rcode(), self.questions)?;
        for records in self.records.iter().filter(|records| !records.is_empty()) {
            write!(f, " {records:?}")?;
        }
        if let Some(Edns { size, version, flags, options }) = &self.edns {
            write!(f, " edns({size} {version} {flags:#x}")?;
            for (code, value) in options {
                let front = &value[..value.len().min(40)];
                write!(f, " {}={}", code.label(), front.escape_ascii())?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}
