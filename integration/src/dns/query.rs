//! Queries as a test wants them, and answers as they came.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};
use codec_dns::{
    Builder, Class, Edns, EdnsFlags, EdnsOption, EdnsOptions, Flags, InfoCode, Message, NameBuf,
    OptionCode, Question, Rcode, RecordData, RecordType, decode,
};

/// A query about to be sent: RD set, class IN, without EDNS, unless something else is said.
#[derive(Debug, Clone)]
pub struct Query {
    id: u16,
    flags: Flags,
    name: NameBuf,
    record_type: RecordType,
    class: Class,
    edns: Option<Opt>,
}

#[derive(Debug, Clone)]
struct Opt {
    payload_size: u16,
    flags: EdnsFlags,
    options: Vec<(OptionCode, Vec<u8>)>,
}

impl Query {
    /// One for this name, in presentation format, with an ID that the last 65,535 did not have.
    pub fn new(name: &str, record_type: RecordType) -> Result<Self> {
        static ID: AtomicU16 = AtomicU16::new(1);
        let name = NameBuf::from_text(name).with_context(|| format!("name {name:?}"))?;
        let id = ID.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, flags: Flags::RD, name, record_type, class: Class::IN, edns: None })
    }

    /// With this ID.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// With these flags, and the opcode in them, instead of RD.
    #[must_use]
    pub fn flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    /// In this class.
    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// With EDNS, and this much room for the answer over UDP.
    #[must_use]
    pub fn edns(mut self, payload_size: u16) -> Self {
        let Opt { flags, options, .. } = self.edns.take().unwrap_or_default();
        self.edns = Some(Opt { payload_size, flags, options });
        self
    }

    /// With DO; and with EDNS.
    #[must_use]
    pub fn dnssec_ok(mut self) -> Self {
        self.edns.get_or_insert_default().flags = EdnsFlags::DO;
        self
    }

    /// With one more EDNS option; and with EDNS.
    #[must_use]
    pub fn option(mut self, code: OptionCode, value: &[u8]) -> Self {
        self.edns.get_or_insert_default().options.push((code, value.to_vec()));
        self
    }

    /// The message.
    pub fn octets(&self) -> Result<Vec<u8>> {
        let mut out = vec![0; 65_535];
        let mut message = Builder::new(&mut out, self.id, self.flags)?;
        let Self { record_type, class, .. } = *self;
        message.question(&Question { name: self.name.as_name(), record_type, class })?;
        let options: Vec<EdnsOption<'_>> = self
            .edns
            .iter()
            .flat_map(|edns| &edns.options)
            .map(|(code, octets)| EdnsOption::Other { code: *code, octets })
            .collect();
        if let Some(edns) = &self.edns {
            let options = EdnsOptions::from(options.as_slice());
            let payload_size = edns.payload_size;
            message.edns(Edns { payload_size, version: 0, flags: edns.flags, options }, None)?;
        }
        let length = message.finish()?;
        out.truncate(length);
        Ok(out)
    }

    /// Whether this is an answer to it: a response with its ID and its question.
    pub fn is_answered_by(&self, answer: &Answer) -> Result<bool> {
        let message = answer.message()?;
        let question = message.question();
        Ok(message.header.flags.is_response()
            && message.header.id == self.id
            && question.is_some_and(|question| {
                question.name == self.name.as_name()
                    && question.record_type == self.record_type
                    && question.class == self.class
            }))
    }
}

impl Default for Opt {
    fn default() -> Self {
        Self { payload_size: 1232, flags: EdnsFlags::NONE, options: Vec::new() }
    }
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer(pub Vec<u8>);

impl From<Vec<u8>> for Answer {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets)
    }
}

impl Answer {
    /// What it says; an error if that is no DNS.
    pub fn message(&self) -> Result<Message<'_>> {
        decode(&self.0).with_context(|| format!("received {:02x?}", self.0))
    }

    /// Its ID.
    pub fn id(&self) -> Result<u16> {
        Ok(self.message()?.header.id)
    }

    /// Its response code, with the upper bits from EDNS.
    pub fn rcode(&self) -> Result<Rcode> {
        Ok(self.message()?.rcode())
    }

    /// Whether it was cut short.
    pub fn is_truncated(&self) -> Result<bool> {
        Ok(self.message()?.header.flags.has(Flags::TC))
    }

    /// The IPv4 addresses in the answer section, of a response with NOERROR.
    pub fn a(&self) -> Result<Vec<Ipv4Addr>> {
        self.data(|data| if let RecordData::A(address) = data { Some(address) } else { None })
    }

    /// The IPv6 addresses in the answer section, of a response with NOERROR.
    pub fn aaaa(&self) -> Result<Vec<Ipv6Addr>> {
        self.data(|data| if let RecordData::Aaaa(address) = data { Some(address) } else { None })
    }

    /// The texts in the answer section, of a response with NOERROR, each put together.
    pub fn texts(&self) -> Result<Vec<String>> {
        self.data(|data| match data {
            RecordData::Txt(strings) => {
                let octets = strings.iter().collect::<Vec<_>>().concat();
                Some(String::from_utf8_lossy(&octets).into_owned())
            }
            _ => None,
        })
    }

    fn data<T>(&self, wanted: impl Fn(RecordData<'_>) -> Option<T>) -> Result<Vec<T>> {
        let message = self.message()?;
        ensure!(message.rcode() == Rcode::NOERROR, "the answer is {message:?}");
        Ok(message.answers().filter_map(|record| wanted(record.data())).collect())
    }

    /// The TTLs of the answer section.
    pub fn ttls(&self) -> Result<Vec<u32>> {
        Ok(self.message()?.answers().map(|record| record.ttl).collect())
    }

    /// The extended errors (RFC 8914), each with its text.
    pub fn extended_errors(&self) -> Result<Vec<(InfoCode, String)>> {
        let message = self.message()?;
        let options = message.edns().map_or(EdnsOptions::EMPTY, |edns| edns.options);
        let errors = options.iter().filter_map(|option| match option {
            EdnsOption::ExtendedError(error) => {
                Some((error.info_code, String::from_utf8_lossy(error.extra_text).into_owned()))
            }
            _ => None,
        });
        Ok(errors.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_it_was_told_to() {
        let query = Query::new("Www.Example", RecordType::AAAA).unwrap().id(7);
        let octets = query.dnssec_ok().edns(4096).option(OptionCode(65_001), b"x").octets();
        let octets = octets.unwrap();
        let message = decode(&octets).unwrap();
        assert_eq!((message.header.id, message.header.flags), (7, Flags::RD));
        assert_eq!(message.question().unwrap().name.to_string(), "Www.Example.");
        let edns = message.edns().unwrap();
        assert_eq!((edns.payload_size, edns.flags), (4096, EdnsFlags::DO));
        let code = OptionCode(65_001);
        assert!(edns.options.iter().eq([EdnsOption::Other { code, octets: b"x" }]));
    }
}
