//! Beside `domain` and `hickory-proto`: what all take for a message is the same to all of them, and where
//! one takes what another refuses, there is a reason.
//!
//! The messages are those of `../../tests/peers.txt`, most of them with some octets changed.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use codec_dns::{DecodeError, EdnsOption, Message, Name, OptionCode, RecordData, Section, decode};
use domain::base as old;
use domain::base::name::{ParsedName, ToLabelIter as _};
use domain::rdata::AllRecordData;
use hickory_proto::op as hickory;
use hickory_proto::rr as hickory_rr;

/// A message as a list: of each question and record, name, type, class, TTL, and of some types the RDATA.
type Entry = (Vec<Vec<u8>>, u16, u16, u32, Vec<Vec<u8>>);

const OPT: u16 = 41;

const SECTIONS: [Section; 3] = [Section::Answer, Section::Authority, Section::Additional];

fn labels(name: Name<'_>) -> Vec<Vec<u8>> {
    name.labels().map(<[u8]>::to_vec).collect()
}

fn ours(message: &Message<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = message
        .questions()
        .map(|question| {
            (labels(question.name), question.record_type.0, question.class.0, 0, vec![])
        })
        .collect();
    for section in SECTIONS {
        for record in message.records(section) {
            let data = match record.data() {
                // The others read an address in any class.
                _ if (record.record_type.0, record.rdata().len()) == (1, 4) => {
                    vec![record.rdata().to_vec()]
                }
                RecordData::Aaaa(address) => vec![address.octets().to_vec()],
                RecordData::Ns(name) | RecordData::Cname(name) | RecordData::Ptr(name) => {
                    labels(name)
                }
                RecordData::Mx(mx) => labels(mx.exchange),
                RecordData::Srv(srv) => labels(srv.target),
                RecordData::Soa(soa) => {
                    let mut data = labels(soa.mname);
                    data.extend(labels(soa.rname));
                    data.push(soa.minimum.to_be_bytes().to_vec());
                    data
                }
                _ => vec![],
            };
            entries.push((
                labels(record.name),
                record.record_type.0,
                record.class.0,
                record.ttl,
                data,
            ));
        }
    }
    entries
}

fn domains(octets: &[u8]) -> Option<Vec<Entry>> {
    type Data<'a> = AllRecordData<&'a [u8], ParsedName<&'a [u8]>>;
    let labels = |name: &ParsedName<&[u8]>| -> Vec<Vec<u8>> {
        let labels = name.iter_labels().map(|label| label.as_slice().to_vec());
        labels.filter(|label| !label.is_empty()).collect()
    };
    let message = old::Message::from_octets(octets).ok()?;
    let mut entries = Vec::new();
    let mut questions = message.question();
    for question in &mut questions {
        let question = question.ok()?;
        let name = labels(question.qname());
        entries.push((name, question.qtype().to_int(), question.qclass().to_int(), 0, vec![]));
    }
    let mut section = Some(questions.next_section().ok()?);
    while let Some(mut records) = section {
        for record in &mut records {
            let record = record.ok()?;
            let record = record.into_record::<Data<'_>>().ok()??;
            let data = match record.data() {
                AllRecordData::A(a) => vec![a.addr().octets().to_vec()],
                AllRecordData::Aaaa(a) => vec![a.addr().octets().to_vec()],
                AllRecordData::Ns(name) => labels(name.nsdname()),
                AllRecordData::Cname(name) => labels(name.cname()),
                AllRecordData::Ptr(name) => labels(name.ptrdname()),
                AllRecordData::Mx(mx) => labels(mx.exchange()),
                AllRecordData::Srv(srv) => labels(srv.target()),
                AllRecordData::Soa(soa) => {
                    let mut data = labels(soa.mname());
                    data.extend(labels(soa.rname()));
                    data.push(soa.minimum().as_secs().to_be_bytes().to_vec());
                    data
                }
                _ => vec![],
            };
            let ttl = record.ttl().as_secs();
            let (record_type, class) = (record.rtype().to_int(), record.class().to_int());
            if record_type != OPT {
                entries.push((labels(record.owner()), record_type, class, ttl, data));
            }
        }
        section = records.next_section().ok()?;
    }
    Some(entries)
}

fn hickorys(octets: &[u8]) -> Option<Vec<Entry>> {
    let labels = |name: &hickory_rr::Name| name.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let message = hickory::Message::from_vec(octets).ok()?;
    let mut entries = Vec::new();
    for query in &message.queries {
        let (record_type, class) = (query.query_type().into(), query.query_class().into());
        entries.push((labels(query.name()), record_type, class, 0, vec![]));
    }
    for record in message.all_sections() {
        let data = match &record.data {
            hickory_rr::RData::A(a) => vec![a.0.octets().to_vec()],
            hickory_rr::RData::AAAA(a) => vec![a.0.octets().to_vec()],
            hickory_rr::RData::NS(name) => labels(&name.0),
            hickory_rr::RData::CNAME(name) => labels(&name.0),
            hickory_rr::RData::PTR(name) => labels(&name.0),
            hickory_rr::RData::MX(mx) => labels(&mx.exchange),
            hickory_rr::RData::SRV(srv) => labels(&srv.target),
            hickory_rr::RData::SOA(soa) => {
                let mut data = labels(&soa.mname);
                data.extend(labels(&soa.rname));
                data.push(soa.minimum.to_be_bytes().to_vec());
                data
            }
            _ => vec![],
        };
        let (record_type, class) = (record.record_type().into(), record.dns_class.into());
        entries.push((labels(&record.name), record_type, class, record.ttl, data));
    }
    Some(entries)
}

struct Random(u64);

impl Random {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}

fn recorded() -> Vec<Vec<u8>> {
    let lines = include_str!("../../tests/peers.txt").lines();
    let messages = lines.filter(|line| !line.starts_with('#')).map(|line| {
        let digits = line.rsplit(' ').next().unwrap();
        let digit = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let octets: Vec<u8> = (0..digits.len()).step_by(2).map(digit).collect();
        if line.starts_with("tcp") { octets[2..].to_vec() } else { octets }
    });
    messages.collect()
}

/// Whether something is in the message that is not looked into here, and that the others may refuse:
/// another version of EDNS, subnets of other address families, and RDATA that is passed through (of types
/// that are not known, of addresses outside of the Internet, and none at all in class NONE or ANY). Hickory
/// takes the protocols of ALPN for UTF-8.
fn is_passed_through(message: &Message<'_>) -> bool {
    let in_edns = message.edns().is_some_and(|edns| {
        edns.version != 0
            || edns.options.iter().any(|option| {
                matches!(option, EdnsOption::Other { code: OptionCode::CLIENT_SUBNET, .. })
            })
    });
    let mut records = SECTIONS.into_iter().flat_map(|section| message.records(section));
    in_edns
        || records.any(|record| match record.data() {
            RecordData::Other { .. } => true,
            RecordData::Svcb(svcb) | RecordData::Https(svcb) => {
                svcb.params.alpn().any(|id| str::from_utf8(id).is_err())
            }
            _ => false,
        })
}

/// Whether another may take what is refused with this error.
fn is_stricter(error: DecodeError) -> bool {
    match error {
        // Neither looks at what is behind the last record, nor at the opcode.
        DecodeError::TrailingOctets(_) | DecodeError::Stateful => true,
        // Neither looks into all the types that are looked into here: names in older ones, keys of SVCB,
        // windows of NSEC. And hickory lets names go on behind their RDATA.
        DecodeError::Rdata(_)
        | DecodeError::LabelType { .. }
        | DecodeError::NameTruncated(_)
        | DecodeError::PointerNotAllowed(_) => true,
        // Both let pointers lead into the header, and names overlap.
        DecodeError::PointerNotBackwards { .. } => true,
        // `domain` looks at options only when asked for them, hickory at a few.
        DecodeError::OptionTruncated | DecodeError::OptionFormat(_) | DecodeError::OptName => true,
        _ => false,
    }
}

#[test]
fn what_others_read_is_what_is_read() {
    let messages = recorded();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut same, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut octets = messages[round % messages.len()].clone();
        if round >= messages.len() {
            for _ in 0..=random.below(3) {
                let at = random.below(octets.len());
                octets[at] = match random.below(4) {
                    0 => 0xc0,
                    1 => random.below(256) as u8,
                    2 => octets[at] ^ 1 << random.below(8),
                    _ => random.below(20) as u8,
                };
            }
        }
        let decoded = decode(&octets);
        for (who, theirs) in [("domain", domains(&octets)), ("hickory", hickorys(&octets))] {
            match (&decoded, theirs) {
                (Ok(message), Some(theirs)) => {
                    assert_eq!(ours(message), theirs, "{who}: {}", octets.escape_ascii());
                    same += 1;
                }
                (Ok(message), None) => assert!(is_passed_through(message), "{who}: {message:?}"),
                (Err(error), Some(_)) => {
                    assert!(is_stricter(*error), "{who}: {error}: {}", octets.escape_ascii());
                }
                (Err(_), None) => refused += 1,
            }
        }
    }
    // Most of what is random is the same to all.
    assert!(same > 15_000 && refused > 15_000, "{same} {refused}");
}
