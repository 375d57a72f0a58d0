//! What holds for every message and for every string of octets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

mod common;

use codec_dns::{
    Builder, Caa, CharStrings, Class, ClientSubnet, Cookie, Edns, EdnsFlags, EdnsOption,
    EdnsOptions, EncodeError, Flags, MAX_NAME_TEXT_LEN, Message, Mx, Name, NameBuf, Naptr, Nsec,
    Question, Rcode, RecordData, RecordType, Rrsig, Section, Soa, Srv, SvcParams, Svcb, TypeBitmap,
    decode, header, patch,
};
use common::{SECTIONS, content, rebuild, wire};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What RDATA is made of, owned.
#[derive(Clone, Debug)]
enum Data {
    A([u8; 4]),
    Aaaa([u8; 16]),
    Name(u8, NameBuf),
    Soa(NameBuf, NameBuf, [u32; 5]),
    Mx(u16, NameBuf),
    Txt(Vec<Vec<u8>>),
    Srv([u16; 3], NameBuf),
    Naptr([u16; 2], [Vec<u8>; 3], NameBuf),
    Caa(u8, Vec<u8>, Vec<u8>),
    Rrsig(u32, NameBuf, Vec<u8>),
    Nsec(NameBuf, Vec<u8>),
    Svcb(u16, NameBuf, Vec<u8>),
    Other(u16, Vec<u8>),
}

#[derive(Clone, Debug)]
struct Parts {
    id: u16,
    flags: u16,
    rcode: u16,
    question: Option<(NameBuf, u16, u16)>,
    records: Vec<(u8, NameBuf, u32, Data)>,
    edns: Option<(u16, u16, Vec<Opt>)>,
}

#[derive(Clone, Debug)]
enum Opt {
    Cookie([u8; 8], Vec<u8>),
    Subnet([u8; 16], bool, u8),
    Keepalive(Option<u16>),
    Padding(usize),
    Other(u16, Vec<u8>),
}

fn name() -> impl Strategy<Value = NameBuf> {
    // Few labels, so that many names have endings in common; some in another case, some with anything.
    let label = prop_oneof![
        8 => select(vec!["www", "a", "b", "example", "eXample", "com", "Com", "net", "1"])
            .prop_map(|label| label.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..=63),
    ];
    vec(label, 0..6).prop_filter_map("too long", |labels| {
        let mut octets: Vec<u8> =
            labels.iter().flat_map(|label| [&[label.len() as u8][..], label].concat()).collect();
        octets.push(0);
        Name::from_wire(&octets).ok().map(NameBuf::from)
    })
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..30)
}

fn data() -> impl Strategy<Value = Data> {
    let bitmap = select(vec![
        b"".to_vec(),
        b"\0\x01\x40".to_vec(),
        b"\0\x06\x40\x01\0\0\0\x03\x04\x01\x20".to_vec(),
    ]);
    let params = select(vec![
        b"".to_vec(),
        b"\0\x01\0\x03\x02h2".to_vec(),
        b"\0\x03\0\x02\0\x35\x02\x9b\0\0".to_vec(),
    ]);
    prop_oneof![
        4 => any::<[u8; 4]>().prop_map(Data::A),
        2 => any::<[u8; 16]>().prop_map(Data::Aaaa),
        4 => (0..4_u8, name()).prop_map(|(which, name)| Data::Name(which, name)),
        1 => (name(), name(), any::<[u32; 5]>()).prop_map(|(m, r, numbers)| Data::Soa(m, r, numbers)),
        1 => (any::<u16>(), name()).prop_map(|(preference, name)| Data::Mx(preference, name)),
        1 => vec(octets(), 1..4).prop_map(Data::Txt),
        1 => (any::<[u16; 3]>(), name()).prop_map(|(numbers, name)| Data::Srv(numbers, name)),
        1 => (any::<[u16; 2]>(), [octets(), octets(), octets()], name())
            .prop_map(|(numbers, strings, name)| Data::Naptr(numbers, strings, name)),
        1 => (any::<u8>(), vec(b'a'..=b'z', 1..9), octets())
            .prop_map(|(flags, tag, value)| Data::Caa(flags, tag, value)),
        1 => (any::<u32>(), name(), octets())
            .prop_map(|(number, signer, signature)| Data::Rrsig(number, signer, signature)),
        1 => (name(), bitmap).prop_map(|(next, types)| Data::Nsec(next, types)),
        1 => (any::<u16>(), name(), params)
            .prop_map(|(priority, target, params)| Data::Svcb(priority, target, params)),
        1 => (select(vec![10_u16, 99, 29, 257 + 8, 65_280]), octets())
            .prop_map(|(number, octets)| Data::Other(number, octets)),
    ]
}

fn option() -> impl Strategy<Value = Opt> {
    prop_oneof![
        (any::<[u8; 8]>(), prop_oneof![Just(vec![]), vec(any::<u8>(), 8..=32)])
            .prop_map(|(client, server)| Opt::Cookie(client, server)),
        (any::<[u8; 16]>(), any::<bool>(), 0..=32_u8)
            .prop_map(|(address, v6, prefix)| Opt::Subnet(address, v6, prefix)),
        any::<Option<u16>>().prop_map(Opt::Keepalive),
        (0..40_usize).prop_map(Opt::Padding),
        (select(vec![1_u16, 2, 3, 5, 17, 65_001]), octets())
            .prop_map(|(code, octets)| Opt::Other(code, octets)),
    ]
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        any::<u16>(),
        any::<u16>().prop_map(|flags| flags & 0x87ff),
        0..4096_u16,
        proptest::option::of((name(), any::<u16>(), any::<u16>())),
        vec((0..3_u8, name(), any::<u32>(), data()), 0..12),
        proptest::option::of((any::<u16>(), any::<u16>(), vec(option(), 0..4))),
    )
        .prop_map(|(id, flags, rcode, question, mut records, edns)| {
            records.sort_by_key(|record| record.0);
            Parts { id, flags, rcode, question, records, edns }
        })
}

impl Data {
    /// Calls `with` with the value that this is made of.
    fn value<T>(&self, with: impl FnOnce(&RecordData<'_>) -> T) -> T {
        let strings: Vec<u8>;
        let data = match self {
            Self::A(octets) => RecordData::A((*octets).into()),
            Self::Aaaa(octets) => RecordData::Aaaa((*octets).into()),
            Self::Name(0, name) => RecordData::Ns(name.as_name()),
            Self::Name(1, name) => RecordData::Cname(name.as_name()),
            Self::Name(2, name) => RecordData::Ptr(name.as_name()),
            Self::Name(_, name) => RecordData::Dname(name.as_name()),
            Self::Soa(mname, rname, [serial, refresh, retry, expire, minimum]) => {
                RecordData::Soa(Soa {
                    mname: mname.as_name(),
                    rname: rname.as_name(),
                    serial: *serial,
                    refresh: *refresh,
                    retry: *retry,
                    expire: *expire,
                    minimum: *minimum,
                })
            }
            Self::Mx(preference, name) => {
                RecordData::Mx(Mx { preference: *preference, exchange: name.as_name() })
            }
            Self::Txt(texts) => {
                strings = texts
                    .iter()
                    .flat_map(|text| [&[text.len() as u8], &text[..]].concat())
                    .collect();
                RecordData::Txt(CharStrings::new(&strings).unwrap())
            }
            Self::Srv([priority, weight, port], name) => RecordData::Srv(Srv {
                priority: *priority,
                weight: *weight,
                port: *port,
                target: name.as_name(),
            }),
            Self::Naptr([order, preference], [flags, services, regexp], name) => {
                RecordData::Naptr(Naptr {
                    order: *order,
                    preference: *preference,
                    flags,
                    services,
                    regexp,
                    replacement: name.as_name(),
                })
            }
            Self::Caa(flags, tag, value) => RecordData::Caa(Caa { flags: *flags, tag, value }),
            Self::Rrsig(number, signer, signature) => RecordData::Rrsig(Rrsig {
                type_covered: RecordType(*number as u16),
                algorithm: 8,
                labels: 2,
                original_ttl: *number,
                expiration: number.wrapping_add(1),
                inception: number.wrapping_sub(1),
                key_tag: 7,
                signer: signer.as_name(),
                signature,
            }),
            Self::Nsec(next, types) => RecordData::Nsec(Nsec {
                next: next.as_name(),
                types: TypeBitmap::new(types).unwrap(),
            }),
            Self::Svcb(priority, target, params) => RecordData::Https(Svcb {
                priority: *priority,
                target: target.as_name(),
                params: SvcParams::new(params).unwrap(),
            }),
            Self::Other(number, octets) => {
                RecordData::Other { record_type: RecordType(*number), octets }
            }
        };
        with(&data)
    }
}

const ZEROS: [u8; 64] = [0; 64];

impl Parts {
    fn options(&self) -> Vec<EdnsOption<'_>> {
        fn option(option: &Opt) -> EdnsOption<'_> {
            match option {
                Opt::Cookie(client, server) => {
                    EdnsOption::Cookie(Cookie { client: *client, server })
                }
                Opt::Subnet(octets, true, prefix) => EdnsOption::ClientSubnet(
                    ClientSubnet::new((*octets).into(), prefix * 4, 0).unwrap(),
                ),
                Opt::Subnet(octets, false, prefix) => EdnsOption::ClientSubnet(
                    ClientSubnet::new(
                        octets[..4].as_array::<4>().copied().unwrap().into(),
                        *prefix,
                        1,
                    )
                    .unwrap(),
                ),
                Opt::Keepalive(timeout) => EdnsOption::TcpKeepalive(*timeout),
                Opt::Padding(len) => EdnsOption::Padding(&ZEROS[..*len]),
                Opt::Other(3, octets) => EdnsOption::Nsid(octets),
                Opt::Other(5, octets) => EdnsOption::Dau(octets),
                Opt::Other(code, octets) => {
                    EdnsOption::Other { code: codec_dns::OptionCode(*code), octets }
                }
            }
        }
        self.edns.iter().flat_map(|(_, _, options)| options).map(option).collect()
    }

    fn build(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let options = self.options();
        let mut builder = Builder::new(out, self.id, Flags(self.flags))?;
        if let Some((payload_size, flags, _)) = self.edns {
            let options = EdnsOptions::from(&options[..]);
            let flags = EdnsFlags(flags);
            builder.edns(Edns { flags, options, ..Edns::new(payload_size) }, None)?;
            builder.set_rcode(Rcode(self.rcode));
        }
        if let Some((name, record_type, class)) = &self.question {
            builder.question(&Question {
                name: name.as_name(),
                record_type: RecordType(*record_type),
                class: Class(*class),
            })?;
        }
        for (section, name, ttl, data) in &self.records {
            let section = SECTIONS[usize::from(*section)];
            data.value(|data| builder.record(section, name.as_name(), Class::IN, *ttl, data))?;
        }
        builder.finish()
    }

    fn check(&self, message: &Message<'_>) -> Result<(), TestCaseError> {
        prop_assert_eq!(message.header.id, self.id);
        match &self.edns {
            Some((payload_size, flags, _)) => {
                let edns = message.edns().unwrap();
                prop_assert_eq!((edns.payload_size, edns.flags.0), (*payload_size, *flags));
                prop_assert!(edns.options.iter().eq(self.options()));
                prop_assert_eq!(message.rcode(), Rcode(self.rcode));
            }
            None => {
                prop_assert_eq!(message.edns(), None);
                prop_assert_eq!(message.header.flags, Flags(self.flags));
            }
        }
        let question = message.question();
        prop_assert_eq!(question.is_some(), self.question.is_some());
        if let (Some(question), Some((name, record_type, class))) = (question, &self.question) {
            prop_assert!(question.name.eq_exact(name.as_name()));
            prop_assert_eq!((question.record_type.0, question.class.0), (*record_type, *class));
        }
        for (index, section) in SECTIONS.into_iter().enumerate() {
            let expected = self.records.iter().filter(|record| usize::from(record.0) == index);
            let found: Vec<_> = message.records(section).collect();
            prop_assert_eq!(found.len(), expected.clone().count());
            for (found, (_, name, ttl, data)) in found.iter().zip(expected) {
                prop_assert!(found.name.eq_exact(name.as_name()));
                prop_assert_eq!((found.class, found.ttl), (Class::IN, *ttl));
                // To the letter, names in RDATA included.
                let expected = data.value(|data| format!("{data:?}"));
                prop_assert_eq!(format!("{:?}", found.data()), expected);
            }
        }
        Ok(())
    }
}

/// A reader that takes nothing for granted, and is as plain as it can be: the name at `at`, and its end.
fn plain_name(octets: &[u8], at: usize) -> (Vec<Vec<u8>>, usize) {
    match octets[at] {
        0 => (vec![], at + 1),
        len if len < 64 => {
            let label = octets[at + 1..][..usize::from(len)].to_vec();
            let (mut labels, end) = plain_name(octets, at + 1 + usize::from(len));
            labels.insert(0, label);
            (labels, end)
        }
        high => {
            let to = usize::from(high & 0x3f) * 256 + usize::from(octets[at + 1]);
            (plain_name(octets, to).0, at + 2)
        }
    }
}

/// Checks that a decoded message has the entries that the plain reader finds.
fn check_plainly(message: &Message<'_>) {
    let octets = message.octets();
    let number = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
    let labels = |name: Name<'_>| name.labels().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut at = 12;
    let mut questions = message.questions();
    for _ in 0..number(4) {
        let (name, end) = plain_name(octets, at);
        let question = questions.next().unwrap();
        assert_eq!(labels(question.name), name);
        assert_eq!((question.record_type.0, question.class.0), (number(end), number(end + 2)));
        at = end + 4;
    }
    assert_eq!(questions.next(), None);
    let mut ttls = message.ttl_offsets();
    for (section, count) in SECTIONS.into_iter().zip([6, 8, 10]) {
        let mut records = message.records(section);
        for _ in 0..number(count) {
            let (name, end) = plain_name(octets, at);
            let rdata = &octets[end + 10..][..usize::from(number(end + 8))];
            at = end + 10 + rdata.len();
            if number(end) == 41 {
                let edns = message.edns().unwrap();
                assert_eq!((edns.payload_size, edns.version), (number(end + 2), octets[end + 5]));
                continue;
            }
            let record = records.next().unwrap();
            assert_eq!(labels(record.name), name);
            assert!(record.name.len() <= 255);
            assert_eq!((record.record_type.0, record.class.0), (number(end), number(end + 2)));
            assert_eq!(record.ttl, u32::from(number(end + 4)) << 16 | u32::from(number(end + 6)));
            assert_eq!(record.rdata(), rdata);
            if number(end) != 250 {
                assert_eq!(ttls.next(), Some(end + 4));
            }
            if let RecordData::Ns(name) | RecordData::Cname(name) = record.data() {
                assert_eq!(labels(name), plain_name(octets, end + 10).0);
            }
        }
        assert_eq!(records.next(), None);
    }
    assert_eq!(ttls.next(), None);
    assert_eq!(at, octets.len());
}

/// Whatever decodes is what the plain reader reads, and built anew says the same.
fn check_any(octets: &[u8]) {
    match decode(octets) {
        Ok(message) => {
            check_plainly(&message);
            let rebuilt = rebuild(&message).unwrap_or_else(|error| panic!("{error}: {message:?}"));
            if message.edns().is_none_or(|edns| edns.version == 0) {
                assert_eq!(content(&decode(&rebuilt).unwrap()), content(&message));
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            if let Ok(header) = header(octets) {
                let _ = error.rcode(header);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_built_decodes_to_the_same(parts in parts()) {
        let mut out = vec![0; 16_384];
        let len = parts.build(&mut out).unwrap();
        let message = decode(&out[..len]).unwrap();
        parts.check(&message)?;
        check_plainly(&message);
        let rebuilt = rebuild(&message).unwrap();
        prop_assert_eq!(&rebuilt[..], &out[..len]);
    }

    #[test]
    fn what_does_not_fit_is_never_written_behind_the_end(parts in parts(), room in 0..400_usize) {
        let mut out = vec![0xaa; room + 8];
        match parts.build(&mut out[..room]) {
            Ok(len) => parts.check(&decode(&out[..len]).unwrap())?,
            Err(error) => prop_assert_eq!(error, EncodeError::Full),
        }
        prop_assert_eq!(&out[room..], &[0xaa; 8]);
    }

    /// A message of which some octets were changed, or cut off.
    #[test]
    fn what_decodes_is_what_is_there(
        parts in parts(),
        changes in vec((any::<Index>(), prop_oneof![any::<u8>(), Just(0xc0), 0..16_u8]), 0..4),
        cut in proptest::option::weighted(0.1, any::<Index>()),
    ) {
        let mut octets = vec![0; 16_384];
        let len = parts.build(&mut octets).unwrap();
        octets.truncate(len);
        for (index, value) in changes {
            let at = index.index(octets.len());
            octets[at] = value;
        }
        if let Some(cut) = cut {
            octets.truncate(cut.index(len));
        }
        check_any(&octets);
    }

    #[test]
    fn any_octets_decode_or_are_refused(
        header in vec(prop_oneof![4 => 0..3_u8, 1 => any::<u8>()], 12),
        rest in vec(prop_oneof![
            3 => select(vec![0_u8, 1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 46, 47, 64, 65, 0xc0, 0xff]),
            1 => any::<u8>(),
        ], 0..60),
    ) {
        check_any(&[header, rest].concat());
    }

    #[test]
    fn text_and_wire_are_the_same_name(name in name(), zone in name()) {
        let name = name.as_name();
        let text = name.to_text(&mut [0; MAX_NAME_TEXT_LEN]).to_owned();
        let read: NameBuf = text.parse().unwrap();
        prop_assert!(read.as_name().eq_exact(name));
        prop_assert!(text.bytes().all(|octet| (0x21..0x7f).contains(&octet)));
        let octets = wire(name);
        prop_assert_eq!(octets.len(), name.len());
        prop_assert!(Name::from_wire(&octets).unwrap().eq_exact(name));
        let labels = |name: Name<'_>| -> Vec<Vec<u8>> {
            name.labels().map(<[u8]>::to_ascii_lowercase).collect()
        };
        let ends = labels(name).ends_with(&labels(zone.as_name()));
        prop_assert_eq!(name.is_in(zone.as_name()), ends);
        prop_assert_eq!(name == zone.as_name(), labels(name) == labels(zone.as_name()));
    }

    #[test]
    fn ageing_takes_off_all_ttls_and_nothing_else(parts in parts(), seconds in any::<u32>()) {
        let mut out = vec![0; 16_384];
        let len = parts.build(&mut out).unwrap();
        patch::age(&mut out[..len], seconds).unwrap();
        let mut aged = parts;
        for record in &mut aged.records {
            record.2 = if record.2 > i32::MAX as u32 { 0 } else { record.2.saturating_sub(seconds) };
        }
        let section = decode(&out[..len]).unwrap().records(Section::Question).count();
        prop_assert_eq!(section, 0);
        aged.check(&decode(&out[..len]).unwrap())?;
    }
}
