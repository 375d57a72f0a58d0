//! Decoding and encoding, beside the crates that are fastest at it.
//!
//! Every contender starts from the octets of one message (or from names and addresses, for encoding), and
//! everything it decoded is looked at. What the others are spared is to their advantage: `dns-parser` has no
//! way to go through the labels of a name but to format it, so it does not; nor does it know EDNS options.
//! `domain` is there three times: with the API that it has (`domain-base`), with the one that is to come
//! (`domain-new`), which copies every name, and with that as far as it can be had without: then it does not
//! look where compressed names lead, which is half of the work (`domain-unparsed`).

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::hint::black_box;
use std::net::Ipv4Addr;

use codec_dns as ours;
use codec_dns::{Builder, Class, EdnsOption, Flags, NameBuf, Question, Rcode, RecordData, Section};
use criterion::{Criterion, criterion_group, criterion_main};
use domain::base as old;
use domain::base::name::ToLabelIter as _;
use domain::new::base as new;
use domain::new::base::build::{AsBytes as _, MessageBuilder, NameCompressor};
use domain::new::base::name::{RevNameBuf, UnparsedName};
use domain::new::base::parse::{MessageParser, SplitMessageBytes as _};
use domain::new::base::wire::{ParseBytes as _, U16};
use domain::new::{edns, rdata};
use hickory_proto::op as hickory;
use hickory_proto::rr as hickory_rr;
use simple_dns as simple;

const ID: u16 = 0x3039;
const NAME: &str = "www.example.com";
const TARGET: &str = "www-production-eu-1.example.com";
const ADDRESSES: [[u8; 4]; 3] = [[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]];

/// A query with a client's cookie.
fn query() -> Vec<u8> {
    let mut bytes = b"\x30\x39\x01\x20\0\x01\0\0\0\0\0\x01".to_vec();
    bytes.extend(b"\x03www\x07example\x03com\0\0\x01\0\x01");
    bytes.extend(b"\0\0\x29\x04\xd0\0\0\x80\0\0\x0c\0\x0a\0\x08\x11\x22\x33\x44\x55\x66\x77\x88");
    assert_eq!(bytes.len(), 56);
    bytes
}

/// An alias and three addresses.
fn response() -> Vec<u8> {
    let mut out = [0; 512];
    let len = encode_ours(&mut out, &names());
    assert_eq!(len, 115);
    out[..len].to_vec()
}

// Looks are scalar by scalar: copying two neighbouring fields at once would stall on the stores that just
// wrote them, in whichever crate's struct they lie side by side.

fn look<T>(value: T) {
    black_box(value);
}

fn look_at(data: &[u8]) {
    black_box(data.as_ptr());
    black_box(data.len());
}

fn decode_ours(bytes: &[u8]) {
    let message = match ours::decode(black_box(bytes)) {
        Ok(message) => message,
        Err(error) => panic!("{error}"),
    };
    look(message.header.id);
    look(message.header.flags);
    for question in message.questions() {
        question.name.labels().for_each(look_at);
        look(question.record_type);
        look(question.class);
    }
    for record in message.answers() {
        record.name.labels().for_each(look_at);
        look(record.record_type);
        look(record.class);
        look(record.ttl);
        match record.data() {
            RecordData::A(address) => look(address),
            RecordData::Cname(name) => name.labels().for_each(look_at),
            other => panic!("{other:?}"),
        }
    }
    for record in message.authorities().chain(message.additionals()) {
        look(record.record_type);
    }
    if let Some(edns) = message.edns() {
        look(edns.payload_size);
        look(edns.version);
        look(edns.flags);
        for option in edns.options {
            match option {
                EdnsOption::Cookie(cookie) => {
                    look(u64::from_ne_bytes(cookie.client));
                    look_at(cookie.server);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn look_at_edns(edns: &edns::EdnsRecord<&rdata::Opt>) {
    look(edns.max_udp_payload.get());
    look(edns.version);
    look(edns.flags.is_dnssec_ok());
    for option in edns.data.options() {
        match option {
            Ok(edns::EdnsOption::ClientCookie(cookie)) => look(u64::from_ne_bytes(cookie.octets)),
            other => panic!("{other:?}"),
        }
    }
}

fn look_at_record<N>(
    record: &new::Record<RevNameBuf, rdata::RecordData<'_, N>>,
    name: impl Fn(&N),
) {
    record.rname.labels().for_each(|label| look_at(label.as_bytes()));
    look(record.rtype);
    look(record.rclass);
    look(record.ttl.value.get());
    match &record.rdata {
        rdata::RecordData::A(a) => look(u32::from_ne_bytes(a.octets)),
        rdata::RecordData::CName(cname) => name(&cname.name),
        _ => panic!(),
    }
}

fn decode_new(bytes: &[u8]) {
    let parser = MessageParser::new(black_box(bytes)).unwrap();
    look(parser.header().id.get());
    look(parser.header().flags);
    for item in parser {
        match item {
            Ok(new::MessageItem::Question(question)) => {
                question.qname.labels().for_each(|label| look_at(label.as_bytes()));
                look(question.qtype);
                look(question.qclass);
            }
            Ok(new::MessageItem::Answer(record)) => look_at_record(&record, |name| {
                name.labels().for_each(|label| look_at(label.as_bytes()));
            }),
            Ok(new::MessageItem::Edns(edns)) => look_at_edns(&edns),
            _ => panic!(),
        }
    }
}

fn decode_unparsed(bytes: &[u8]) {
    let message = <&new::Message>::parse_bytes(black_box(bytes)).unwrap();
    look(message.header.id.get());
    look(message.header.flags);
    let contents = &message.contents;
    let mut at = 0;
    for _ in 0..message.header.counts.questions.get() {
        let (question, end) =
            new::Question::<&UnparsedName>::split_message_bytes(contents, at).unwrap();
        look_at(question.qname.as_bytes());
        look(question.qtype);
        look(question.qclass);
        at = end;
    }
    for _ in 0..message.header.counts.answers.get() {
        type Record<'a> = new::Record<&'a UnparsedName, rdata::RecordData<'a, &'a UnparsedName>>;
        let (record, end) = Record::split_message_bytes(contents, at).unwrap();
        look_at(record.rname.as_bytes());
        look(record.rtype);
        look(record.rclass);
        look(record.ttl.value.get());
        match &record.rdata {
            rdata::RecordData::A(a) => look(u32::from_ne_bytes(a.octets)),
            rdata::RecordData::CName(cname) => look_at(cname.name.as_bytes()),
            _ => panic!(),
        }
        at = end;
    }
    for _ in 0..message.header.counts.additionals.get() {
        let (edns, end) =
            edns::EdnsRecord::<&rdata::Opt>::split_message_bytes(contents, at).unwrap();
        look_at_edns(&edns);
        at = end;
    }
    assert_eq!(at, contents.len());
}

fn decode_old(bytes: &[u8]) {
    use domain::base::ParsedName;
    use domain::base::iana::Rtype;
    use domain::base::opt::{AllOptData, Opt};
    use domain::rdata::AllRecordData;
    let message = old::Message::from_octets(black_box(bytes)).unwrap();
    look(message.header().id());
    look(message.header().flags());
    for question in message.question() {
        let question = question.unwrap();
        question.qname().iter_labels().for_each(|label| look_at(label.as_slice()));
        look(question.qtype());
        look(question.qclass());
    }
    for record in message.answer().unwrap() {
        let record = record.unwrap();
        let record =
            record.into_record::<AllRecordData<&[u8], ParsedName<&[u8]>>>().unwrap().unwrap();
        record.owner().iter_labels().for_each(|label| look_at(label.as_slice()));
        look(record.rtype());
        look(record.class());
        look(record.ttl());
        match record.data() {
            AllRecordData::A(a) => look(a.addr()),
            AllRecordData::Cname(name) => {
                name.cname().iter_labels().for_each(|label| look_at(label.as_slice()));
            }
            _ => panic!(),
        }
    }
    for record in message.additional().unwrap() {
        let record = record.unwrap();
        assert_eq!(record.rtype(), Rtype::OPT);
        let record =
            old::opt::OptRecord::from(record.into_record::<Opt<&[u8]>>().unwrap().unwrap());
        look(record.udp_payload_size());
        look(record.version());
        look(record.dnssec_ok());
        for option in record.opt().iter::<AllOptData<_, _>>() {
            match option.unwrap() {
                AllOptData::Cookie(cookie) => {
                    look(u64::from_ne_bytes(cookie.client().into_octets()))
                }
                _ => panic!(),
            }
        }
    }
}

fn decode_parser(bytes: &[u8]) {
    use dns_parser::RData;
    let packet = dns_parser::Packet::parse(black_box(bytes)).unwrap();
    look(packet.header.id);
    look(packet.header.opcode);
    look(packet.header.recursion_desired);
    look(packet.header.response_code);
    for question in &packet.questions {
        look(&raw const question.qname);
        look(question.qtype);
        look(question.qclass);
    }
    for record in &packet.answers {
        look(&raw const record.name);
        look(record.cls);
        look(record.ttl);
        match &record.data {
            RData::A(a) => look(a.0),
            RData::CNAME(name) => look(&raw const name.0),
            _ => panic!(),
        }
    }
    if let Some(opt) = &packet.opt {
        look(opt.udp);
        look(opt.version);
        look(opt.flags);
        match opt.data {
            RData::Unknown(options) => look_at(options),
            _ => panic!(),
        }
    }
}

fn decode_hickory(bytes: &[u8]) {
    let message = hickory::Message::from_vec(black_box(bytes)).unwrap();
    look(message.metadata.id);
    look(message.metadata.op_code);
    look(message.metadata.response_code);
    for query in &message.queries {
        query.name.iter().for_each(look_at);
        look(query.query_type);
        look(query.query_class);
    }
    for record in &message.answers {
        record.name.iter().for_each(look_at);
        look(record.dns_class);
        look(record.ttl);
        match &record.data {
            hickory_rr::RData::A(a) => look(a.0),
            hickory_rr::RData::CNAME(name) => name.0.iter().for_each(look_at),
            _ => panic!(),
        }
    }
    if let Some(edns) = &message.edns {
        look(edns.max_payload());
        look(edns.version());
        look(edns.flags().dnssec_ok);
        for (_, option) in edns.options().as_ref() {
            match option {
                hickory_rr::rdata::opt::EdnsOption::Unknown(_, value) => look_at(value),
                _ => panic!(),
            }
        }
    }
}

fn decode_simple(bytes: &[u8]) {
    use simple::rdata::{OPTCode, RData};
    let packet = simple::Packet::parse(black_box(bytes)).unwrap();
    look(packet.id());
    look(packet.opcode());
    look(packet.rcode());
    for question in &packet.questions {
        question.qname.as_bytes().for_each(look_at);
        look(question.qtype);
        look(question.qclass);
    }
    for record in &packet.answers {
        record.name.as_bytes().for_each(look_at);
        look(record.class);
        look(record.ttl);
        match &record.rdata {
            RData::A(a) => look(a.address),
            RData::CNAME(name) => name.0.as_bytes().for_each(look_at),
            _ => panic!(),
        }
    }
    if let Some(opt) = packet.opt() {
        look(opt.udp_packet_size);
        look(opt.version);
        for OPTCode { code, data } in &opt.opt_codes {
            look(*code);
            look_at(data);
        }
    }
}

fn decode(c: &mut Criterion) {
    for (name, bytes) in [
        ("decode query with EDNS cookie, 56 B", query()),
        ("decode response, 4 answers, 115 B", response()),
    ] {
        let mut group = c.benchmark_group(name);
        group.bench_function("ours", |b| b.iter(|| decode_ours(&bytes)));
        group.bench_function("domain-new", |b| b.iter(|| decode_new(&bytes)));
        group.bench_function("domain-unparsed", |b| b.iter(|| decode_unparsed(&bytes)));
        group.bench_function("domain-base", |b| b.iter(|| decode_old(&bytes)));
        group.bench_function("dns-parser", |b| b.iter(|| decode_parser(&bytes)));
        group.bench_function("hickory-proto", |b| b.iter(|| decode_hickory(&bytes)));
        group.bench_function("simple-dns", |b| b.iter(|| decode_simple(&bytes)));
        group.finish();
    }
}

fn names() -> (NameBuf, NameBuf) {
    (NAME.parse().unwrap(), TARGET.parse().unwrap())
}

fn encode_ours(out: &mut [u8], (name, target): &(NameBuf, NameBuf)) -> usize {
    let (name, target) = (name.as_name(), target.as_name());
    let mut message = Builder::new(out, ID, Flags(0x8180)).unwrap();
    let question = Question { name, record_type: ours::RecordType::A, class: Class::IN };
    message.question(&question).unwrap();
    let section = Section::Answer;
    message.record(section, name, Class::IN, 300, &RecordData::Cname(target)).unwrap();
    for address in ADDRESSES {
        let data = RecordData::A(Ipv4Addr::from_octets(address));
        message.record(section, target, Class::IN, 60, &data).unwrap();
    }
    message.finish().unwrap()
}

fn encode_new(out: &mut [u8], (name, target): &(new::name::NameBuf, new::name::NameBuf)) -> usize {
    let (name, target): (&new::name::Name, &new::name::Name) = (name, target);
    use domain::new::base::{HeaderFlags, QClass, QType, RClass, RType, Record};
    let mut compressor = NameCompressor::default();
    let mut flags = HeaderFlags::default();
    flags.set_qr(true).set_rd(true).set_ra(true);
    let mut message = MessageBuilder::new(out, &mut compressor, U16::new(ID), flags);
    message
        .push_question(&new::Question { qname: name, qtype: QType::A, qclass: QClass::IN })
        .unwrap();
    message
        .push_answer(&Record {
            rname: name,
            rtype: RType::CNAME,
            rclass: RClass::IN,
            ttl: 300.into(),
            rdata: rdata::CName { name: target },
        })
        .unwrap();
    for octets in ADDRESSES {
        message
            .push_answer(&Record {
                rname: target,
                rtype: RType::A,
                rclass: RClass::IN,
                ttl: 60.into(),
                rdata: rdata::A { octets },
            })
            .unwrap();
    }
    12 + message.finish().contents.len()
}

type OldName = old::Name<Vec<u8>>;

fn encode_old((name, target): &(OldName, OldName)) -> Vec<u8> {
    use domain::base::iana::{Class, Rtype};
    use domain::base::message_builder::StaticCompressor;
    use domain::base::{MessageBuilder, Ttl};
    let mut message =
        MessageBuilder::from_target(StaticCompressor::new(Vec::with_capacity(512))).unwrap();
    let header = message.header_mut();
    header.set_id(ID);
    header.set_qr(true);
    header.set_rd(true);
    header.set_ra(true);
    let mut message = message.question();
    message.push((name, Rtype::A)).unwrap();
    let mut message = message.answer();
    let cname = domain::rdata::Cname::new(target);
    message.push((name, Class::IN, Ttl::from_secs(300), cname)).unwrap();
    for [a, b, c, d] in ADDRESSES {
        let data = domain::rdata::A::from_octets(a, b, c, d);
        message.push((target, Class::IN, Ttl::from_secs(60), data)).unwrap();
    }
    message.finish().into_target()
}

fn encode_hickory((name, target): &(hickory_rr::Name, hickory_rr::Name)) -> Vec<u8> {
    use hickory_rr::rdata::{A, CNAME};
    use hickory_rr::{RData, Record, RecordType};
    let mut message = hickory::Message::response(ID, hickory::OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_query(hickory::Query::query(name.clone(), RecordType::A));
    let cname = RData::CNAME(CNAME(target.clone()));
    message.add_answer(Record::from_rdata(name.clone(), 300, cname));
    for address in ADDRESSES {
        let data = RData::A(A(Ipv4Addr::from_octets(address)));
        message.add_answer(Record::from_rdata(target.clone(), 60, data));
    }
    message.to_vec().unwrap()
}

fn encode_simple((name, target): &(simple::Name<'_>, simple::Name<'_>)) -> Vec<u8> {
    use simple::rdata::{A, CNAME, RData};
    use simple::{CLASS, Packet, PacketFlag, Question, ResourceRecord, TYPE};
    let mut packet = Packet::new_reply(ID);
    packet.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
    packet.questions.push(Question::new(name.clone(), TYPE::A.into(), CLASS::IN.into(), false));
    let cname = RData::CNAME(CNAME(target.clone()));
    packet.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, 300, cname));
    for address in ADDRESSES {
        let data = RData::A(A { address: u32::from_be_bytes(address) });
        packet.answers.push(ResourceRecord::new(target.clone(), CLASS::IN, 60, data));
    }
    packet.build_bytes_vec_compressed().unwrap()
}

fn encode(c: &mut Criterion) {
    let expected = response();
    let mut group = c.benchmark_group("encode response, 4 answers, 115 B");

    let mut out = [0; 512];
    let owned = names();
    let mut encode = || encode_ours(black_box(&mut out), black_box(&owned));
    assert_eq!(encode(), expected.len());
    group.bench_function("ours", |b| b.iter(&mut encode));

    // With names in the order of the wire, which it compresses better than reversed ones.
    let in_order = |name: &NameBuf| new::name::NameBuf::parse_bytes(name.as_wire()).unwrap();
    let owned = (in_order(&owned.0), in_order(&owned.1));
    let mut encode = || encode_new(black_box(&mut out), black_box(&owned));
    assert_eq!(encode(), expected.len());
    group.bench_function("domain-new", |b| b.iter(&mut encode));
    assert_eq!(out[..expected.len()], expected);

    let owned: (OldName, OldName) = (NAME.parse().unwrap(), TARGET.parse().unwrap());
    let encode = || encode_old(black_box(&owned));
    assert_eq!(encode(), expected);
    group.bench_function("domain-base", |b| b.iter(encode));

    let name = |text: &str| {
        let mut name = hickory_rr::Name::from_ascii(text).unwrap();
        name.set_fqdn(true);
        name
    };
    let owned = (name(NAME), name(TARGET));
    let encode = || encode_hickory(black_box(&owned));
    assert_eq!(encode(), expected);
    group.bench_function("hickory-proto", |b| b.iter(encode));

    let owned = (simple::Name::new(NAME).unwrap(), simple::Name::new(TARGET).unwrap());
    let encode = || encode_simple(black_box(&owned));
    assert_eq!(encode().len(), expected.len());
    group.bench_function("simple-dns", |b| b.iter(encode));
    group.finish();
}

/// An answer made of the records of another, as a cache makes it.
fn answer(c: &mut Criterion) {
    let (query, cached) = (query(), response());
    let mut group = c.benchmark_group("answer query from response, 115 B");
    let mut out = [0; 512];
    group.bench_function("ours", |b| {
        b.iter(|| {
            let query = ours::decode(black_box(&query)).unwrap();
            let cached = ours::decode(black_box(&cached)).unwrap();
            let mut message = Builder::response(&mut out, &query, Rcode::NOERROR).unwrap();
            for record in cached.answers() {
                message.copy(Section::Answer, &record).unwrap();
            }
            message.finish().unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode, answer);
criterion_main!(benches);
