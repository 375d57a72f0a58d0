//! Everything that is refused has an error of its own, and the answer that the standards want.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use codec_dns::DecodeError::{self, *};
use codec_dns::{
    Decoded, EncodeError, Flags, Opcode, OptionCode, Rcode, RecordType as T, Section, decode,
    frame_tcp, header, tcp_length,
};
use common::{message, record};

const IN: u16 = 1;
/// A question of 17 octets, up to octet 29: `www.example`, type A.
const QUESTION: &[u8] = b"\x03www\x07example\0\0\x01\0\x01";

fn truncated(section: Section, index: u16) -> DecodeError {
    SectionTruncated { section, index }
}

/// A query whose question has this name.
fn asking(name: &[u8]) -> Vec<u8> {
    message(0x0100, [1, 0, 0, 0], &[name, b"\0\x01\0\x01"])
}

/// Whole messages.
fn messages() -> Vec<(Vec<u8>, DecodeError)> {
    let a = record(b"\xc0\x0c", T::A, IN, 1, &[192, 0, 2, 1]);
    let opt = record(b"\0", T::OPT, 1232, 0, b"");
    let tsig = record(b"\0", T::TSIG, 255, 0, b"");
    let with = |counts, parts: &[&[u8]]| message(0x8180, counts, &[QUESTION, &parts.concat()]);
    let long_label = [&[63][..], &[b'a'; 63]].concat();
    let too_long = [&long_label.repeat(3)[..], &[62], &[b'a'; 62], &[0]].concat();
    let pointed = [&long_label.repeat(3)[..], &[61], &[b'a'; 61], &[0, 0, 1, 0, 1]].concat();
    vec![
        (vec![], HeaderTruncated(0)),
        (vec![0; 11], HeaderTruncated(11)),
        (vec![0; 65_536], MessageTooLong { len: 65_536, limit: 65_535 }),
        (message(0x3000, [0; 4], &[b"\0\x01\0\0"]), Stateful),
        (message(0x0100, [2, 0, 0, 0], &[QUESTION, QUESTION]), TooManyQuestions(2)),
        // Counts that lie.
        (message(0x0100, [1, 0, 0, 0], &[]), truncated(Section::Question, 0)),
        (asking(b"\0")[..16].to_vec(), truncated(Section::Question, 0)),
        (with([1, 1, 0, 0], &[]), truncated(Section::Answer, 0)),
        (with([1, 2, 0, 0], &[&a]), truncated(Section::Answer, 1)),
        (with([1, 1, 1, 0], &[&a]), truncated(Section::Authority, 0)),
        (with([1, 1, 0, 65_535], &[&a]), truncated(Section::Additional, 0)),
        (with([1, 1, 0, 0], &[&a[..11]]), truncated(Section::Answer, 0)),
        (with([1, 1, 0, 0], &[&a[..15]]), truncated(Section::Answer, 0)),
        (with([1, 0, 0, 0], &[&a]), TrailingOctets(16)),
        (with([1, 1, 0, 0], &[&a, b"\0"]), TrailingOctets(1)),
        (message(0x0100, [0; 4], &[QUESTION]), TrailingOctets(17)),
        // Names.
        (message(0x0100, [1, 0, 0, 0], &[b"\x03ww"]), NameTruncated(16)),
        (message(0x0100, [1, 0, 0, 0], &[b"\x03www"]), NameTruncated(16)),
        (message(0x0100, [1, 0, 0, 0], &[b"\x03www\xc0"]), NameTruncated(16)),
        (asking(&too_long), NameTooLong(12)),
        (asking(b"\x01a\x40"), LabelType { at: 14, octet: 0x40 }),
        (asking(b"\x01a\x7f"), LabelType { at: 14, octet: 0x7f }),
        (asking(b"\x80"), LabelType { at: 12, octet: 0x80 }),
        (asking(b"\xbf\x0c"), LabelType { at: 12, octet: 0xbf }),
        // To itself, to its own beginning, forwards, behind the end, into the header.
        (asking(b"\xc0\x0c"), PointerNotBackwards { at: 12, to: 12 }),
        (asking(b"\x01a\xc0\x0c"), PointerNotBackwards { at: 14, to: 12 }),
        (asking(b"\x01a\xc0\x0e"), PointerNotBackwards { at: 14, to: 14 }),
        (asking(b"\xc0\x0e\0"), PointerNotBackwards { at: 12, to: 14 }),
        (asking(b"\xff\xff"), PointerNotBackwards { at: 12, to: 0x3fff }),
        (asking(b"\xc0\0"), PointerNotBackwards { at: 12, to: 0 }),
        (
            with([1, 1, 0, 0], &[&record(b"\xc0\x0b", T::A, IN, 1, b"1234")]),
            PointerNotBackwards { at: 29, to: 11 },
        ),
        // Two that lead to each other: the first goes forwards.
        (
            message(0x1000, [2, 0, 0, 0], &[b"\xc0\x12\0\x01\0\x01", b"\xc0\x0c\0\x01\0\x01"]),
            PointerNotBackwards { at: 12, to: 18 },
        ),
        // Into what goes on where it came from: a label, and a pointer, that reach into the name itself.
        (
            message(0x1000, [2, 0, 0, 0], &[b"\0\0\x01\0\x03", b"\x01a\xc0\x10\0\0\x01\0\x01"]),
            PointerNotBackwards { at: 19, to: 16 },
        ),
        (
            message(
                0x1000,
                [2, 0, 0, 0],
                &[b"\0\0\x01\0\xc0", b"\x0caaaaaaaaaaaa\xc0\x10\0\x01\0\x01"],
            ),
            PointerNotBackwards { at: 30, to: 16 },
        ),
        // Into the middle of a label, whose octets are read as a length and as a pointer.
        (
            with([1, 1, 0, 0], &[&record(b"\xc0\x0d", T::A, IN, 1, b"1234")]),
            LabelType { at: 13, octet: b'w' },
        ),
        (
            message(
                0x1000,
                [2, 0, 0, 0],
                &[b"\x04a\xc0\x10b\0\0\x01\0\x01", b"\xc0\x0e\0\x01\0\x01"],
            ),
            PointerNotBackwards { at: 14, to: 16 },
        ),
        // Too long with what a pointer leads to, known from the question or from a pointer before.
        (
            message(0x1000, [2, 0, 0, 0], &[&pointed, b"\x01a\xc0\x0c\0\x01\0\x01"]),
            NameTooLong(271),
        ),
        (
            message(
                0x1000,
                [3, 0, 0, 0],
                &[
                    &pointed,
                    b"\xc0\x4c\0\x01\0\x01",
                    &[&long_label[..], b"\x01a\xc0\x4c\0\x01\0\x01"].concat(),
                ],
            ),
            NameTooLong(277),
        ),
        (chain(127, &[126]), TooManyPointers(282)),
        (chain(127, &[125, 125, 62]), TooManyNestedPointers(314)),
        // OPT and TSIG.
        (with([1, 1, 0, 0], &[&opt]), OptMisplaced(Section::Answer)),
        (with([1, 0, 1, 0], &[&opt]), OptMisplaced(Section::Authority)),
        (with([1, 0, 0, 2], &[&opt, &opt]), OptRepeated),
        (with([1, 0, 0, 1], &[&record(b"\x01a\0", T::OPT, 1232, 0, b"")]), OptName),
        (with([1, 0, 0, 1], &[&record(b"\xc0\x18", T::OPT, 1232, 0, b"")]), OptName),
        (with([1, 0, 0, 2], &[&tsig, &opt]), TsigMisplaced),
        (with([1, 0, 0, 2], &[&tsig, &tsig]), TsigMisplaced),
        (with([1, 1, 0, 0], &[&tsig]), TsigMisplaced),
        (with([1, 0, 1, 0], &[&tsig]), TsigMisplaced),
    ]
}

/// A chain of pointers in the RDATA of a record that is not looked into, from octet 28 on: each leads to the
/// one before, the first to the root; and records whose names are pointers to the links with these indices.
fn chain(links: usize, names: &[usize]) -> Vec<u8> {
    let pointer = |to: usize| (0xc000 | to as u16).to_be_bytes();
    let link = |index| pointer(if index == 0 { 12 } else { 28 + 2 * (index - 1) });
    let rdata: Vec<u8> = (0..links).flat_map(link).collect();
    let mut parts = record(b"\0", T::NULL, IN, 0, &rdata);
    for &index in names {
        parts.extend(record(&pointer(28 + 2 * index), T::A, IN, 0, b"1234"));
    }
    message(0x8180, [1, 1 + names.len() as u16, 0, 0], &[b"\0\0\x01\0\x01", &parts])
}

/// RDATA that is not in the format of its type. It follows [`QUESTION`], from octet 41 on.
fn rdata() -> Vec<(T, Vec<u8>, DecodeError)> {
    let cases: &[(T, &[u8])] = &[
        (T::A, b"123"),
        (T::A, b"12345"),
        (T::A, b""),
        (T::AAAA, b"123456789012345"),
        (T::AAAA, b"12345678901234567"),
        (T::NS, b"\xc0\x0c\0"),
        (T::CNAME, b"\0\0"),
        (T::SOA, b"\0\0"),
        (T::SOA, b"\xc0\x0c\xc0\x0c1234123412341234123"),
        (T::SOA, b"\xc0\x0c\xc0\x0c123412341234123412345"),
        (T::MX, b"\0"),
        (T::TXT, b""),
        (T::TXT, b"\x02a"),
        (T::TXT, b"\x01a\x01"),
        (T::HINFO, b"\x01a"),
        (T::HINFO, b"\x01a\x01b\0"),
        (T::SRV, b"\0\0\0\0\0"),
        (T::NAPTR, b"\0\0\0\0\x01a\0"),
        (T::CAA, b"\0"),
        (T::CAA, b"\0\0value"),
        (T::CAA, b"\0\x05abc"),
        (T::CAA, b"\0\x02a-"),
        (T::DS, b"\0\0\0"),
        (T::CDS, b"\0\0\0"),
        (T::DNSKEY, b"\0\0\0"),
        (T::CDNSKEY, b"\0\0\0"),
        (T::RRSIG, b"12345678901234567"),
        (T::NSEC, b"\0\0\0"),
        (T::NSEC, b"\0\0\x21123456789012345678901234567890123"),
        (T::NSEC, b"\0\0\x02\x40"),
        (T::NSEC, b"\0\x01\x01\x40\x01\x01\x40"),
        (T::NSEC, b"\0\x01\x01\x40\0\x01\x40"),
        (T::NSEC3, b"\x01\0\0\0\0\0"),
        (T::NSEC3, b"\x01\0\0\0\0"),
        (T::NSEC3, b"\x01\0\0\0\0\x01a\0"),
        (T::NSEC3PARAM, b"\x01\0\0\0\x01"),
        (T::NSEC3PARAM, b"\x01\0\0\0\0\0"),
        (T::TLSA, b"\0\0"),
        (T::SMIMEA, b"\0\0"),
        (T::SSHFP, b"\0"),
        (T::URI, b"\0\0\0\0"),
        (T::AFSDB, b"\0"),
        (T::MINFO, b"\xc0\x0c\xc0\x0c\0"),
        (T::SIG, b"12345678901234567"),
        (T::SVCB, b"\0"),
        (T::HTTPS, b"\0\x01\0\0\x01"),
        (T::HTTPS, b"\0\x01\0\x02\x9b\0\x05hell"),
        // Keys twice, and in another order.
        (T::HTTPS, b"\0\x01\0\x02\x9b\0\0\x02\x9b\0\0"),
        (T::HTTPS, b"\0\x01\0\x02\x9b\0\0\x02\x9a\0\0"),
        (T::HTTPS, b"\0\x01\0\0\0\0\0"),
        (T::HTTPS, b"\0\x01\0\0\0\0\x01\0"),
        (T::HTTPS, b"\0\x01\0\0\0\0\x02\0\0"),
        (T::HTTPS, b"\0\x01\0\0\0\0\x04\0\x04\0\x01"),
        (T::HTTPS, b"\0\x01\0\0\0\0\x04\0\x04\0\x04"),
        (T::HTTPS, b"\0\x01\0\0\x01\0\0"),
        (T::HTTPS, b"\0\x01\0\0\x01\0\x01\0"),
        (T::HTTPS, b"\0\x01\0\0\x01\0\x02\x02h"),
        (T::HTTPS, b"\0\x01\0\0\x02\0\x01\0"),
        (T::HTTPS, b"\0\x01\0\0\x03\0\x01\0"),
        (T::HTTPS, b"\0\x01\0\0\x04\0\0"),
        (T::HTTPS, b"\0\x01\0\0\x04\0\x05\0\0\0\0\0"),
        (T::HTTPS, b"\0\x01\0\0\x06\0\x04\0\0\0\0"),
    ];
    let refused =
        |&(record_type, rdata): &(T, &[u8])| (record_type, rdata.to_vec(), Rdata(record_type));
    let mut cases: Vec<(T, Vec<u8>, DecodeError)> = cases.iter().map(refused).collect();
    // Names in RDATA end in it, and are compressed where RFC 3597 §4 lets them be only.
    for (record_type, rdata, error) in [
        (T::NS, &b""[..], NameTruncated(41)),
        (T::NS, b"\x01a", NameTruncated(43)),
        (T::NS, b"\xc0", NameTruncated(41)),
        (T::MX, b"\0\x01", NameTruncated(43)),
        (T::SOA, b"\0", NameTruncated(42)),
        (T::NS, b"\xc0\x29", PointerNotBackwards { at: 41, to: 41 }),
        (T::NS, b"\x41", LabelType { at: 41, octet: 0x41 }),
        (T::DNAME, b"\xc0\x0c", PointerNotAllowed(41)),
        (T::DNAME, b"\x01a\xc0\x0c", PointerNotAllowed(43)),
        (T::RRSIG, b"123456789012345678\xc0\x0c", PointerNotAllowed(59)),
        (T::NSEC, b"\xc0\x0c", PointerNotAllowed(41)),
        (T::SVCB, b"\0\x01\xc0\x0c", PointerNotAllowed(43)),
        (T::HTTPS, b"\0\x01\xc0\x0c", PointerNotAllowed(43)),
    ] {
        cases.push((record_type, rdata.to_vec(), error));
    }
    cases
}

fn options() -> Vec<(&'static [u8], DecodeError)> {
    let format = |code| OptionFormat(OptionCode(code));
    vec![
        (b"\0", OptionTruncated),
        (b"\0\x03\0", OptionTruncated),
        (b"\0\x03\0\x01", OptionTruncated),
        (b"\0\x03\0\0\0\x03\0\x02a", OptionTruncated),
        (b"\0\x08\0\x03\0\x01\0", format(8)),
        // Too few octets, too many, bits behind the prefix, prefixes beyond an address.
        (b"\0\x08\0\x06\0\x01\x18\0\xc0\0", format(8)),
        (b"\0\x08\0\x08\0\x01\x18\0\xc0\0\x02\0", format(8)),
        (b"\0\x08\0\x07\0\x01\x17\0\xc0\0\x03", format(8)),
        (b"\0\x08\0\x09\0\x01\x21\0\xc0\0\x02\0\0", format(8)),
        (b"\0\x08\0\x04\0\x01\0\x21", format(8)),
        (b"\0\x08\0\x04\0\x02\0\x81", format(8)),
        (b"\0\x08\0\x05\0\x09\0\0a", format(8)),
        (b"\0\x09\0\x03123", format(9)),
        (b"\0\x0a\0\x071234567", format(10)),
        (b"\0\x0a\0\x09123456789", format(10)),
        (b"\0\x0a\0\x0f123456781234567", format(10)),
        (b"\0\x0a\0\x2912345678123456781234567812345678123456789", format(10)),
        (b"\0\x0b\0\x011", format(11)),
        (b"\0\x0d\0\0", format(13)),
        (b"\0\x0d\0\x02\0\0", format(13)),
        (b"\0\x0d\0\x02\xc0\x0c", format(13)),
        (b"\0\x0e\0\0", format(14)),
        (b"\0\x0e\0\x03123", format(14)),
        (b"\0\x0f\0\x011", format(15)),
    ]
}

#[test]
fn every_fault_has_its_error_and_none_is_left_out() {
    let mut cases = messages();
    for (record_type, rdata, error) in rdata() {
        let answer = record(b"\xc0\x0c", record_type, IN, 1, &rdata);
        cases.push((message(0x8180, [1, 1, 0, 0], &[QUESTION, &answer]), error));
    }
    for (options, error) in options() {
        let opt = record(b"\0", T::OPT, 1232, 0, options);
        cases.push((message(0x0100, [1, 0, 0, 1], &[QUESTION, &opt]), error));
        // Another version of EDNS may have options of another format: its answer is BADVERS.
        let opt = record(b"\0", T::OPT, 1232, 0x0001_0000, options);
        let other = message(0x0100, [1, 0, 0, 1], &[QUESTION, &opt]);
        let edns = decode(&other).unwrap().edns().unwrap();
        assert_eq!((edns.version, edns.options.iter().count()), (1, 0));
    }
    let mut labels = BTreeSet::new();
    for (octets, error) in &cases {
        let outcome = decode(octets).map(drop);
        assert_eq!(outcome, Err(*error), "{}", octets[..octets.len().min(300)].escape_ascii());
        assert!(!error.to_string().is_empty());
        labels.insert(error.label());
    }
    assert_eq!(labels.len(), 20, "{labels:?}");
}

/// 127, whether they are gone through or known from a name before.
#[test]
fn as_many_pointers_as_labels_are_followed() {
    assert_eq!(decode(&chain(127, &[125])).map(drop), Ok(()));
    assert_eq!(decode(&chain(127, &[125, 125])).map(drop), Ok(()));
    assert_eq!(decode(&chain(127, &[126])).map(drop), Err(TooManyPointers(282)));
    let last = decode(&chain(128, &[125, 126])).map(drop);
    assert_eq!(last, Err(TooManyPointers(284 + 16)));
}

/// Gone through or known from a name before, they count alike: 126, 126 and 62 in front of octet 314.
#[test]
fn as_many_pointers_are_led_to_as_there_are_octets() {
    assert_eq!(decode(&chain(127, &[125, 125, 61])).map(drop), Ok(()));
    let one_more = decode(&chain(127, &[125, 125, 62])).map(drop);
    assert_eq!(one_more, Err(TooManyNestedPointers(314)));
    // Sixteen octets for each name are enough for sixteen pointers.
    assert_eq!(decode(&chain(16, &[15; 4000])).map(drop), Ok(()));
}

/// As many names as fit, each with as many pointers as a name may have: without the limit on all of
/// them it would be half a million.
#[test]
fn the_longest_message_keeps_nobody_busy() {
    for links in [[125, 125, 125], [125, 124, 123]] {
        let names = (65_535 - 282) / 16;
        let octets = chain(127, &links.repeat(names / 3));
        let Err(error @ TooManyNestedPointers(at)) = decode(&octets).map(drop) else {
            panic!("{} octets are decoded", octets.len());
        };
        // All names in front of this one have been followed.
        let followed: usize = links.iter().cycle().take((usize::from(at) - 282) / 16).sum();
        assert!(followed <= octets.len(), "{followed} pointers");
        assert_eq!(error.rcode(header(&octets).unwrap()), None);
        assert_eq!(error.rcode(header(&asking(b"\0")).unwrap()), Some(Rcode::FORMERR));
    }
}

/// The longest names there are in practice, those of IPv6 addresses (RFC 3596 §2.5), each written as its labels
/// up to the longest ending that was written before.
#[test]
fn a_zone_compressed_as_far_as_it_can_be_is_decoded() {
    let mut octets = message(0x8180, [0, 1, 0, 0], &[]);
    let mut written = BTreeMap::new();
    let mut records = 0_u16;
    for n in 0_u64.. {
        // Every second digit is any, so that endings are shared at many places.
        let any = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0x3333_3333_3333_3333;
        let mut name: Vec<u8> = (0..16)
            .flat_map(|digit| [1, b"0123456789abcdef"[(any >> (4 * digit)) as usize & 15]])
            .collect();
        name.extend(b"\x01d\x01b\x01d\x03ip6\x04arpa\0");
        let mut rest = &name[..];
        let mut encoded = vec![];
        while rest != b"\0" {
            if let Some(to) = written.get(rest) {
                encoded.extend(0xc000_u16.wrapping_add(*to).to_be_bytes());
                break;
            }
            let at = octets.len() + encoded.len();
            if at < 0x4000 {
                written.insert(rest.to_vec(), at as u16);
            }
            let (label, after) = rest.split_at(1 + usize::from(rest[0]));
            encoded.extend(label);
            rest = after;
        }
        if rest == b"\0" {
            encoded.push(0);
        }
        let record = record(&encoded, T::TXT, IN, 0, b"\0");
        if octets.len() + record.len() > 65_535 {
            break;
        }
        octets.extend(record);
        records += 1;
    }
    octets[6..8].copy_from_slice(&records.to_be_bytes());
    assert_eq!(decode(&octets).map(|message| message.answers().count()), Ok(records.into()));
}

#[test]
fn a_query_is_answered_and_a_response_never() {
    let query = |flags: u16| header(&message(flags, [0; 4], &[])).unwrap();
    let error = TrailingOctets(1);
    assert_eq!(error.rcode(query(0x0100)), Some(Rcode::FORMERR));
    assert_eq!(error.rcode(query(0x2000)), Some(Rcode::FORMERR));
    assert_eq!(error.rcode(query(0x2800)), Some(Rcode::FORMERR));
    assert_eq!(Stateful.rcode(query(0x3000)), Some(Rcode::NOTIMP));
    assert_eq!(error.rcode(query(0x7800)), Some(Rcode::NOTIMP));
    assert_eq!(error.rcode(query(0x8100)), None);
    assert_eq!(HeaderTruncated(3).rcode(query(0x0100)), None);
    assert_eq!(header(&[0; 11]), Err(HeaderTruncated(11)));
    let flags = Flags(0).with_opcode(Opcode(15));
    assert_eq!((flags.opcode(), flags.is_response()), (Opcode(15), false));
}

#[test]
fn a_message_on_a_stream_is_refused_by_its_length_alone() {
    assert_eq!(frame_tcp(b"", 512), Ok(Decoded::Incomplete { needed: 2 }));
    assert_eq!(frame_tcp(b"\x02", 512), Ok(Decoded::Incomplete { needed: 2 }));
    assert_eq!(frame_tcp(b"\x02\0", 512), Ok(Decoded::Incomplete { needed: 514 }));
    let error = MessageTooLong { len: 513, limit: 512 };
    assert_eq!(frame_tcp(b"\x02\x01", 512), Err(error));
    assert_eq!(frame_tcp(b"\0\x0b", 512), Err(HeaderTruncated(11)));
    let octets = [&b"\0\x0c"[..], &[7; 13]].concat();
    let whole = Decoded::Complete { message: &octets[2..14], consumed: 14 };
    assert_eq!(frame_tcp(&octets, 512), Ok(whole));
    assert_eq!(tcp_length(0x1234), Ok([0x12, 0x34]));
    assert_eq!(tcp_length(65_536), Err(EncodeError::MessageTooLong(65_536)));
}
