//! A message as `domain` and `hickory-proto` read it, and why they may read it otherwise. The test and the fuzz target
//! `differential` share it.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

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

/// Calls another crate: some panic for what is malformed.
fn quietly<T>(read: impl FnOnce() -> Option<T>) -> Option<T> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(read));
    set_hook(hook);
    result.ok().flatten()
}

/// Why another may refuse what is taken here: all of it is passed through without being looked into.
pub(crate) fn why_taken(message: &Message<'_>) -> Option<&'static str> {
    if let Some(edns) = message.edns() {
        if edns.version != 0 {
            return Some(
                "another version of EDNS, which is answered with BADVERS (RFC 6891 §6.1.3)",
            );
        }
        let is_subnet =
            |option| matches!(option, EdnsOption::Other { code: OptionCode::CLIENT_SUBNET, .. });
        if edns.options.iter().any(is_subnet) {
            return Some("a subnet of another address family (RFC 7871 §6)");
        }
    }
    let mut records = SECTIONS.into_iter().flat_map(|section| message.records(section));
    records.find_map(|record| match record.data() {
        RecordData::Other { .. } => {
            Some("RDATA of a type or class that is passed through (RFC 3597 §3, RFC 2136 §2.4)")
        }
        RecordData::Svcb(svcb) | RecordData::Https(svcb)
            if svcb.params.alpn().any(|id| str::from_utf8(id).is_err()) =>
        {
            Some("a protocol of ALPN that is no text (RFC 9460 §7.1.1: any octets)")
        }
        _ => None,
    })
}

/// Why another may take what is refused here. Each has the section of the standard that says so.
pub(crate) fn why_refused(error: DecodeError) -> Option<&'static str> {
    Some(match error {
        DecodeError::TrailingOctets(_) => "they do not look behind the last record (RFC 1035 §4.1)",
        DecodeError::Stateful => "they do not look at the opcode (RFC 8490 §5.4)",
        DecodeError::Rdata(_)
        | DecodeError::LabelType { .. }
        | DecodeError::NameTruncated(_)
        | DecodeError::PointerNotAllowed(_) => {
            "they do not look into all types, and let names go on behind their RDATA (RFC 1035 §3.3, RFC 3597 §4)"
        }
        DecodeError::PointerNotBackwards { .. } => {
            "they let pointers lead into the header, and names overlap (RFC 1035 §4.1.4: a prior occurrence)"
        }
        DecodeError::OptionTruncated | DecodeError::OptionFormat(_) | DecodeError::OptName => {
            "they look at options when asked for them (RFC 6891 §6.1.2)"
        }
        DecodeError::TooManyQuestions(_) => "they take several questions (RFC 9619 §4)",
        DecodeError::TooManyPointers(_) | DecodeError::TooManyNestedPointers(_) => {
            "they follow as many pointers as there are; we bound the work that few octets can make (RFC 9267 §2)"
        }
        DecodeError::OptMisplaced(_) | DecodeError::OptRepeated | DecodeError::TsigMisplaced => {
            "they take OPT and TSIG records anywhere, and several (RFC 6891 §6.1.1, RFC 8945 §5.1)"
        }
        // How a message is put together all have to see alike.
        _ => return None,
    })
}

/// What became of one input.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// So many of the others took what we took, and read the same.
    pub(crate) same: usize,
    /// So many refused what we refused.
    pub(crate) refused: usize,
    /// The reason for what is not the same.
    pub(crate) why: Option<&'static str>,
}

/// Compares what all say to one message. It is a difference if one of the others takes what is refused here, or reads something
/// else, or if both refuse what is taken: one alone may be stricter than it should (hickory wants letters and digits for the flags
/// of NAPTR, say).
///
/// # Panics
/// Where nothing explains a difference.
pub(crate) fn compare(octets: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let decoded = decode(octets);
    let said = [("domain", quietly(|| domains(octets))), ("hickory", quietly(|| hickorys(octets)))];
    for (who, theirs) in said {
        match (&decoded, theirs) {
            (Ok(message), Some(theirs)) => {
                assert_eq!(ours(message), theirs, "{who}: {}", octets.escape_ascii());
                outcome.same += 1;
            }
            (Ok(_), None) => {}
            (Err(error), Some(_)) => {
                outcome.why = why_refused(*error);
                assert!(outcome.why.is_some(), "{who}: {error}: {}", octets.escape_ascii());
            }
            (Err(_), None) => outcome.refused += 1,
        }
    }
    if let Ok(message) = &decoded
        && outcome.same == 0
    {
        outcome.why = why_taken(message);
        assert!(outcome.why.is_some(), "only we take {message:?}");
    }
    outcome
}
