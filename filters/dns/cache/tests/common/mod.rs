//! What several tests need.

#![allow(dead_code, reason = "not every test needs all of it")]

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use codec_dns::{
    Builder, Class, ClientSubnet, Edns, EdnsFlags, EdnsOption, ExtendedError, Flags, InfoCode,
    NameBuf, Question, Rcode, RecordData, RecordType, Section, Soa, decode,
};
use dns_cache::{Asked, AskedFlags, Cache, State, Stored};

pub(crate) fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn subnet(address: &str, source: u8, scope: u8) -> ClientSubnet {
    let address: IpAddr = address.parse().unwrap();
    ClientSubnet::new(address, source, scope).unwrap()
}

/// A question with what else is asked, and room for its name.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) name: NameBuf,
    pub(crate) record_type: RecordType,
    pub(crate) class: Class,
    pub(crate) flags: AskedFlags,
    pub(crate) subnet: Option<ClientSubnet>,
}

impl Query {
    pub(crate) fn new(text: &str, record_type: RecordType) -> Self {
        let flags = AskedFlags::new(Flags::RD, EdnsFlags::NONE);
        Self { name: name(text), record_type, class: Class::IN, flags, subnet: None }
    }

    pub(crate) fn a() -> Self {
        Self::new("www.example.com", RecordType::A)
    }

    pub(crate) fn from(&self, subnet: ClientSubnet) -> Self {
        Self { subnet: Some(subnet), ..self.clone() }
    }

    pub(crate) fn asked(&self) -> Asked<'_> {
        let Self { ref name, record_type, class, flags, subnet } = *self;
        let question = Question { name: name.as_name(), record_type, class };
        Asked { question, flags, subnet }
    }
}

/// RDATA that owns its names.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    A(u8),
    Cname(&'static str),
    Ns(&'static str),
    /// With this MINIMUM.
    Soa(u32),
    Txt(Vec<u8>),
}

/// An answer to build.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) flags: Flags,
    pub(crate) rcode: Rcode,
    pub(crate) records: Vec<(Section, String, u32, Data)>,
    pub(crate) subnet: Option<ClientSubnet>,
    pub(crate) errors: Vec<(u16, Vec<u8>)>,
}

impl Answer {
    pub(crate) fn new(rcode: Rcode) -> Self {
        let flags = Flags::QR.with(Flags::RD).with(Flags::RA);
        Self { flags, rcode, records: Vec::new(), subnet: None, errors: Vec::new() }
    }

    /// One address of `www.example.com`.
    pub(crate) fn a(ttl: u32) -> Self {
        Self::new(Rcode::NOERROR).with(Section::Answer, "www.example.com", ttl, Data::A(1))
    }

    pub(crate) fn negative(rcode: Rcode, ttl: u32, minimum: u32) -> Self {
        Self::new(rcode).with(Section::Authority, "example.com", ttl, Data::Soa(minimum))
    }

    pub(crate) fn with(mut self, section: Section, name: &str, ttl: u32, data: Data) -> Self {
        self.records.push((section, name.into(), ttl, data));
        self
    }

    pub(crate) fn flagged(mut self, flags: Flags) -> Self {
        self.flags = self.flags.with(flags);
        self
    }

    pub(crate) fn scoped(self, subnet: ClientSubnet) -> Self {
        Self { subnet: Some(subnet), ..self }
    }

    pub(crate) fn error(mut self, code: InfoCode, text: &[u8]) -> Self {
        self.errors.push((code.0, text.to_vec()));
        self
    }

    /// The message that answers the query.
    pub(crate) fn octets(&self, query: &Query) -> Vec<u8> {
        let mut out = vec![0; 65_535];
        let mut options: Vec<_> = self.subnet.map(EdnsOption::ClientSubnet).into_iter().collect();
        options.extend(self.errors.iter().map(|(code, extra_text)| {
            let info_code = InfoCode(*code);
            EdnsOption::ExtendedError(ExtendedError { info_code, extra_text })
        }));
        let mut builder = Builder::new(&mut out, 0x1234, self.flags).unwrap();
        builder.set_rcode(self.rcode);
        builder.question(&query.asked().question).unwrap();
        if !options.is_empty() || self.rcode.0 > 15 {
            builder.edns(Edns { options: options[..].into(), ..Edns::new(1232) }, None).unwrap();
        }
        for (section, owner, ttl, data) in &self.records {
            let mut strings = Vec::new();
            let target;
            let data = match data {
                Data::A(n) => RecordData::A([192, 0, 2, *n].into()),
                Data::Cname(text) => {
                    target = name(text);
                    RecordData::Cname(target.as_name())
                }
                Data::Ns(text) => {
                    target = name(text);
                    RecordData::Ns(target.as_name())
                }
                Data::Soa(minimum) => {
                    target = name("ns.example.com");
                    let (mname, rname) = (target.as_name(), target.as_name());
                    let (serial, refresh, retry, expire) = (1, 2, 3, 4);
                    let minimum = *minimum;
                    RecordData::Soa(Soa { mname, rname, serial, refresh, retry, expire, minimum })
                }
                Data::Txt(octets) => {
                    for string in octets.chunks(255) {
                        strings.push(string.len() as u8);
                        strings.extend(string);
                    }
                    RecordData::Other { record_type: RecordType::SPF, octets: &strings }
                }
            };
            let owner = name(owner);
            builder.record(*section, owner.as_name(), Class::IN, *ttl, &data).unwrap();
        }
        let len = builder.finish().unwrap();
        out.truncate(len);
        out
    }
}

pub(crate) fn put(cache: &mut Cache, query: &Query, answer: &Answer, at: u64) -> Stored {
    let octets = answer.octets(query);
    cache.put(&query.asked(), &decode(&octets).unwrap(), seconds(at))
}

/// What a hit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) state: State,
    pub(crate) rcode: Rcode,
    pub(crate) flags: Flags,
    pub(crate) scope: u8,
    /// Of all records, in their order.
    pub(crate) ttls: Vec<u32>,
    /// The last octets of the addresses.
    pub(crate) addresses: Vec<u8>,
    pub(crate) errors: Vec<(u16, Vec<u8>)>,
}

pub(crate) fn get(cache: &mut Cache, query: &Query, at: u64) -> Option<Found> {
    get_at(cache, query, seconds(at))
}

pub(crate) fn get_at(
    cache: &mut Cache<impl BuildHasher>,
    query: &Query,
    at: Duration,
) -> Option<Found> {
    let asked = query.asked();
    let hit = cache.get(&asked, at)?;
    let mut out = b"before".to_vec();
    hit.write(&mut out, 0xabcd);
    let octets = out.strip_prefix(b"before").unwrap();
    assert_eq!(octets.len(), hit.len());
    let message = decode(octets).unwrap();
    assert_eq!((message.header.id, message.rcode()), (0xabcd, hit.rcode()));
    assert!(message.edns().is_none());
    let question = message.question().unwrap();
    assert_eq!(question, asked.question);
    assert!(question.name.eq_exact(asked.question.name));
    let records = || {
        [Section::Answer, Section::Authority, Section::Additional]
            .into_iter()
            .flat_map(|section| message.records(section))
    };
    let addresses = records().filter_map(|record| match record.data() {
        RecordData::A(address) => Some(address.octets()[3]),
        _ => None,
    });
    let errors = hit.extended_errors();
    Some(Found {
        state: hit.state(),
        rcode: hit.rcode(),
        flags: message.header.flags,
        scope: hit.scope_prefix(),
        ttls: records().map(|record| record.ttl).collect(),
        addresses: addresses.collect(),
        errors: errors.map(|error| (error.info_code.0, error.extra_text.to_vec())).collect(),
    })
}

/// The TTLs of a hit.
pub(crate) fn ttls(cache: &mut Cache, query: &Query, at: u64) -> Option<Vec<u32>> {
    get(cache, query, at).map(|found| found.ttls)
}
