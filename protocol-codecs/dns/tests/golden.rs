//! Messages, records and options, octet for octet, in both directions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use codec_dns::{
    Builder, Caa, CharStrings, Class, ClientSubnet, Cookie, Dnskey, Ds, Edns, EdnsFlags,
    EdnsOption, EdnsOptions, EncodeError, ExtendedError, Flags, Header, InfoCode, KeyTags, Mx,
    Name, NameBuf, Naptr, Nsec, Nsec3, Nsec3Param, Opcode, OptionCode, Question, Rcode, RecordData,
    RecordType as T, Rrsig, Section, Soa, Srv, Sshfp, SvcParamKey, SvcParams, Svcb, Tlsa,
    TypeBitmap, Uri, decode, header, patch,
};
use common::{content, message, rebuild, record, wire};

const IN: u16 = 1;

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

/// The names of RFC 1035 §4.1.4, as the questions of an opcode that may have several.
#[test]
fn the_names_of_rfc_1035_are_decompressed_and_compressed() {
    let octets = message(
        0x1000,
        [4, 0, 0, 0],
        &[
            b"\x01F\x03ISI\x04ARPA\0\0\x01\0\x01",
            b"\x03FOO\xc0\x0c\0\x01\0\x01",
            b"\xc0\x12\0\x01\0\x01",
            b"\0\0\x01\0\x01",
        ],
    );
    let decoded = decode(&octets).unwrap();
    let names: Vec<String> =
        decoded.questions().map(|question| question.name.to_string()).collect();
    assert_eq!(names, ["F.ISI.ARPA.", "FOO.F.ISI.ARPA.", "ARPA.", "."]);
    let lens = decoded.questions().map(|question| question.name.len());
    assert!(lens.eq([12, 16, 6, 1]));
    assert_eq!(rebuild(&decoded).unwrap(), octets);
}

#[test]
fn a_query_is_read_and_written() {
    let octets = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x03wWw\x07example\x03com\0\0\x1c\0\x01\
        \0\0\x29\x04\xd0\0\0\x80\0\0\x0c\0\x0a\0\x08\x01\x02\x03\x04\x05\x06\x07\x08";
    let query = decode(octets).unwrap();
    let Header { id, flags, questions, answers, authorities, additionals } = query.header;
    assert_eq!((id, flags), (0x1234, Flags::RD.with(Flags::AD)));
    assert_eq!((questions, answers, authorities, additionals), (1, 0, 0, 1));
    assert_eq!((flags.opcode(), query.rcode()), (Opcode::QUERY, Rcode::NOERROR));
    let question = query.question().unwrap();
    assert_eq!(question.name.to_string(), "wWw.example.com.");
    assert_eq!((question.record_type, question.class), (T::AAAA, Class::IN));
    assert_eq!(query.additionals().count(), 0);
    assert_eq!(query.udp_limit(), 1232);
    let edns = query.edns().unwrap();
    assert_eq!((edns.payload_size, edns.version, edns.flags), (1232, 0, EdnsFlags::DO));
    let cookie = Cookie { client: [1, 2, 3, 4, 5, 6, 7, 8], server: &[] };
    assert!(edns.options.iter().eq([EdnsOption::Cookie(cookie)]));
    assert_eq!(query.octets(), octets);

    let mut out = [0xaa; 80];
    let mut builder = Builder::new(&mut out, 0x1234, flags).unwrap();
    builder.question(&question).unwrap();
    let options = [EdnsOption::Cookie(cookie)];
    let edns =
        Edns { flags: EdnsFlags::DO, options: EdnsOptions::from(&options[..]), ..Edns::new(1232) };
    builder.edns(edns, None).unwrap();
    assert_eq!(builder.finish(), Ok(octets.len()));
    assert_eq!(out[..octets.len()], octets[..]);
    assert_eq!(out[octets.len()..], [0xaa; 80 - 56], "nothing is written behind the message");
}

/// The RDATA, what it is read as, and the same RDATA written from that.
#[test]
fn every_format_is_read_and_written() {
    let (host, other) = (name("host.example"), name("other.example"));
    let (host, other) = (host.as_name(), other.as_name());
    let (h, o) = (&wire(host)[..], &wire(other)[..]);
    let v4 = Ipv4Addr::new(192, 0, 2, 1);
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let bitmap = b"\0\x06\x40\x01\0\0\0\x03";
    let types = TypeBitmap::new(bitmap).unwrap();
    let param = Nsec3Param { hash_algorithm: 1, flags: 1, iterations: 12, salt: b"\xaa\xbb" };
    let ds = Ds { key_tag: 60_485, algorithm: 5, digest_type: 1, digest: b"\x2b\xb1" };
    let key = Dnskey { flags: 257, protocol: 3, algorithm: 13, public_key: b"key" };
    let tlsa = Tlsa { usage: 3, selector: 1, matching_type: 1, data: b"\x0c\x72" };
    let params = b"\0\x01\0\x03\x02h2\0\x03\0\x02\0\x35";
    let svcb = Svcb { priority: 1, target: host, params: SvcParams::new(params).unwrap() };
    let soa = Soa {
        mname: host,
        rname: other,
        serial: 1,
        refresh: 0x0102_0304,
        retry: 3,
        expire: 4,
        minimum: 0xffff_ffff,
    };
    let naptr = Naptr {
        order: 100,
        preference: 10,
        flags: b"u",
        services: b"E2U+sip",
        regexp: b"",
        replacement: host,
    };
    let rrsig = Rrsig {
        type_covered: T::A,
        algorithm: 5,
        labels: 3,
        original_ttl: 86_400,
        expiration: 1_048_354_263,
        inception: 1_045_762_263,
        key_tag: 2642,
        signer: other,
        signature: b"signature",
    };
    let cases: Vec<(Vec<u8>, RecordData<'_>)> = vec![
        (vec![192, 0, 2, 1], RecordData::A(v4)),
        (v6.octets().to_vec(), RecordData::Aaaa(v6)),
        (h.to_vec(), RecordData::Ns(host)),
        (h.to_vec(), RecordData::Cname(host)),
        (h.to_vec(), RecordData::Ptr(host)),
        (h.to_vec(), RecordData::Dname(host)),
        (
            [h, o, b"\0\0\0\x01\x01\x02\x03\x04\0\0\0\x03\0\0\0\x04\xff\xff\xff\xff"].concat(),
            RecordData::Soa(soa),
        ),
        ([b"\0\x0a", h].concat(), RecordData::Mx(Mx { preference: 10, exchange: host })),
        (b"\x03abc\0\x01d".to_vec(), RecordData::Txt(CharStrings::new(b"\x03abc\0\x01d").unwrap())),
        (b"\x03cpu\x02os".to_vec(), RecordData::Hinfo { cpu: b"cpu", os: b"os" }),
        (
            [b"\0\x01\0\x02\x13\xc4", h].concat(),
            RecordData::Srv(Srv { priority: 1, weight: 2, port: 5060, target: host }),
        ),
        ([b"\0\x64\0\x0a\x01u\x07E2U+sip\0", h].concat(), RecordData::Naptr(naptr)),
        (
            b"\x80\x05issueca.example".to_vec(),
            RecordData::Caa(Caa { flags: 128, tag: b"issue", value: b"ca.example" }),
        ),
        (b"\xec\x45\x05\x01\x2b\xb1".to_vec(), RecordData::Ds(ds)),
        (b"\xec\x45\x05\x01\x2b\xb1".to_vec(), RecordData::Cds(ds)),
        (b"\x01\x01\x03\x0dkey".to_vec(), RecordData::Dnskey(key)),
        (b"\x01\x01\x03\x0dkey".to_vec(), RecordData::Cdnskey(key)),
        (
            [
                b"\0\x01\x05\x03\0\x01\x51\x80\x3e\x7c\x9d\xd7\x3e\x55\x10\xd7\x0a\x52",
                o,
                b"signature",
            ]
            .concat(),
            RecordData::Rrsig(rrsig),
        ),
        ([h, bitmap].concat(), RecordData::Nsec(Nsec { next: host, types })),
        (
            [&b"\x01\x01\0\x0c\x02\xaa\xbb\x03abc"[..], bitmap].concat(),
            RecordData::Nsec3(Nsec3 { param, next_hashed: b"abc", types }),
        ),
        (b"\x01\x01\0\x0c\x02\xaa\xbb".to_vec(), RecordData::Nsec3Param(param)),
        (b"\x03\x01\x01\x0c\x72".to_vec(), RecordData::Tlsa(tlsa)),
        (b"\x03\x01\x01\x0c\x72".to_vec(), RecordData::Smimea(tlsa)),
        (
            b"\x04\x02\x12\x34".to_vec(),
            RecordData::Sshfp(Sshfp {
                algorithm: 4,
                fingerprint_type: 2,
                fingerprint: b"\x12\x34",
            }),
        ),
        (
            b"\0\x0a\0\x01https://a/".to_vec(),
            RecordData::Uri(Uri { priority: 10, weight: 1, target: b"https://a/" }),
        ),
        ([b"\0\x01", h, params].concat(), RecordData::Svcb(svcb)),
        ([b"\0\x01", h, params].concat(), RecordData::Https(svcb)),
        (b"any".to_vec(), RecordData::Other { record_type: T(65_280), octets: b"any" }),
        (vec![], RecordData::Other { record_type: T::NULL, octets: b"" }),
    ];
    for (rdata, data) in cases {
        let record_type = data.record_type();
        let octets =
            message(0x8400, [0, 1, 0, 0], &[&record(b"\x05owner\0", record_type, IN, 300, &rdata)]);
        let decoded = decode(&octets).unwrap_or_else(|error| panic!("{error}"));
        let read = decoded.answers().next().unwrap();
        assert_eq!(read.data(), data, "{record_type}");
        assert_eq!((read.rdata(), read.ttl, read.class), (&rdata[..], 300, Class::IN));

        let mut out = vec![0xaa; octets.len() + 1];
        let mut builder = Builder::new(&mut out, 0x1234, Flags(0x8400)).unwrap();
        let owner = name("owner");
        builder.record(Section::Answer, owner.as_name(), Class::IN, 300, &data).unwrap();
        // Names within the RDATA that have an ending in common are the exception.
        if record_type != T::SOA {
            assert_eq!(builder.finish(), Ok(octets.len()), "{record_type}");
            assert_eq!(out[..octets.len()], octets);
            assert_eq!(out[octets.len()], 0xaa);
        } else {
            let len = builder.finish().unwrap();
            assert_eq!(len, octets.len() - 7);
            assert_eq!(content(&decode(&out[..len]).unwrap()), content(&decoded));
        }
    }
}

/// Types that RFC 3597 §4 lets be compressed, and no record of today: all their names are found again.
#[test]
fn older_types_are_decompressed_to_be_passed_on() {
    let question = b"\x04host\x07example\0\0\xff\0\x01";
    for (record_type, rdata, len) in [
        (T::MB, b"\xc0\x0c".to_vec(), 0),
        (T::MD, b"\xc0\x0c".to_vec(), 0),
        (T::MF, b"\xc0\x0c".to_vec(), 0),
        (T::MG, b"\xc0\x0c".to_vec(), 0),
        (T::MR, b"\xc0\x0c".to_vec(), 0),
        (T::MINFO, b"\xc0\x0c\xc0\x11".to_vec(), 0),
        (T::RP, b"\xc0\x0c\xc0\x11".to_vec(), 12 + 7),
        (T::AFSDB, b"\0\x01\xc0\x0c".to_vec(), 12),
        (T::RT, b"\0\x01\xc0\x0c".to_vec(), 12),
        (T::PX, b"\0\x01\xc0\x0c\xc0\x11".to_vec(), 12 + 7),
        (T::SIG, [&[7; 18][..], b"\xc0\x0csignature"].concat(), 12),
        (T::NXT, b"\xc0\x0c\x62".to_vec(), 12),
        (T::NAPTR, b"\0\0\0\0\0\0\0\xc0\x0c".to_vec(), 12),
        (T::SRV, b"\0\0\0\0\0\0\xc0\x0c".to_vec(), 12),
    ] {
        let answer = record(b"\xc0\x0c", record_type, IN, 60, &rdata);
        let octets = message(0x8400, [1, 1, 0, 0], &[question, &answer]);
        let decoded = decode(&octets).unwrap();
        let rebuilt = rebuild(&decoded).unwrap();
        // Each pointer of two octets is a name again, of 14 or 9 octets; except in types of RFC 1035.
        assert_eq!(rebuilt.len(), octets.len() + len, "{record_type}");
        let again = decode(&rebuilt).unwrap();
        assert_eq!(content(&again), content(&decoded));
        if let RecordData::Legacy(legacy) = again.answers().next().unwrap().data() {
            assert_eq!(legacy.first().to_string(), "host.example.");
            let second = matches!(record_type, T::MINFO | T::RP | T::PX);
            assert_eq!(legacy.second().map(|name| name.to_string()).is_some(), second);
            assert_eq!(
                legacy.prefix().len() + legacy.rest().len(),
                match record_type {
                    T::SIG => 27,
                    T::AFSDB | T::RT | T::PX => 2,
                    T::NXT => 1,
                    _ => 0,
                }
            );
        }
    }
}

/// RFC 4034 §4.3.
#[test]
fn the_nsec_of_rfc_4034_4_3() {
    let mut rdata = b"\x04host\x07example\x03com\0\0\x06\x40\x01\0\0\0\x03\x04\x1b".to_vec();
    rdata.extend([0; 26]);
    rdata.push(0x20);
    let owner = b"\x04alfa\x07example\x03com\0";
    let octets = message(0x8400, [0, 1, 0, 0], &[&record(owner, T::NSEC, IN, 86_400, &rdata)]);
    let decoded = decode(&octets).unwrap();
    let RecordData::Nsec(nsec) = decoded.answers().next().unwrap().data() else { panic!() };
    assert_eq!(nsec.next.to_string(), "host.example.com.");
    assert!(nsec.types.iter().eq([T::A, T::MX, T::RRSIG, T::NSEC, T(1234)]));
    assert!(nsec.types.contains(T(1234)) && !nsec.types.contains(T::NS));
    assert_eq!(TypeBitmap::new(b"").unwrap().iter().count(), 0);
}

/// RFC 9460 appendix D.
#[test]
fn the_test_vectors_of_rfc_9460() {
    let target = b"\x03foo\x07example\x03com\0".as_slice();
    let org = b"\x03foo\x07example\x03org\0".as_slice();
    type Check = fn(SvcParams<'_>);
    let alpn = b"\0\x01\0\x09\x02h2\x05h3-19\0\x04\0\x04\xc0\0\x02\x01".as_slice();
    let escaped = b"\0\x01\0\x0c\x08f\\oo,bar\x02h2".as_slice();
    let hint = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";
    let hint2 = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\x53\0\x01";
    let v6 = [&b"\0\x06\0\x20"[..], hint, hint2].concat();
    let cases: Vec<(u16, &[u8], Vec<u8>, Check)> = vec![
        (0, target, vec![], |params| assert_eq!(params.iter().count(), 0)),
        (1, b"\0", vec![], |params| assert_eq!(params, SvcParams::EMPTY)),
        (16, target, b"\0\x03\0\x02\0\x35".to_vec(), |params| assert_eq!(params.port(), Some(53))),
        (1, target, b"\x02\x9b\0\x05hello".to_vec(), |params| {
            assert_eq!(params.get(SvcParamKey(667)), Some(&b"hello"[..]));
            assert_eq!(params.get(SvcParamKey::PORT), None);
        }),
        (1, target, b"\x02\x9b\0\x09hello\xd2qoo".to_vec(), |params| {
            assert_eq!(params.get(SvcParamKey(667)), Some(&b"hello\xd2qoo"[..]));
        }),
        (1, target, v6, |params| {
            let hints: Vec<String> = params.ipv6_hints().map(|hint| hint.to_string()).collect();
            assert_eq!(hints, ["2001:db8::1", "2001:db8::53:1"]);
        }),
        (16, org, [b"\0\0\0\x04\0\x01\0\x04", alpn].concat(), |params| {
            assert!(params.mandatory().eq([SvcParamKey::ALPN, SvcParamKey::IPV4HINT]));
            assert!(params.alpn().eq([&b"h2"[..], b"h3-19"]));
            assert!(params.ipv4_hints().eq([Ipv4Addr::new(192, 0, 2, 1)]));
        }),
        (16, org, escaped.to_vec(), |params| {
            assert!(params.alpn().eq([&b"f\\oo,bar"[..], b"h2"]));
        }),
    ];
    for (priority, target, params, check) in cases {
        let rdata = [&priority.to_be_bytes()[..], target, &params].concat();
        let octets = message(0x8400, [0, 1, 0, 0], &[&record(b"\0", T::HTTPS, IN, 7200, &rdata)]);
        let decoded = decode(&octets).unwrap();
        let RecordData::Https(svcb) = decoded.answers().next().unwrap().data() else { panic!() };
        assert_eq!((svcb.priority, wire(svcb.target)), (priority, target.to_vec()));
        check(svcb.params);
        assert_eq!(rebuild(&decoded).unwrap(), octets);
    }
}

/// The options, what they are read as, and the same octets written from that.
#[test]
fn every_option_is_read_and_written() {
    let subnet = |address: &str, source, scope| {
        let subnet = ClientSubnet::new(address.parse().unwrap(), source, scope).unwrap();
        EdnsOption::ClientSubnet(subnet)
    };
    let cookie = |server| EdnsOption::Cookie(Cookie { client: *b"12345678", server });
    let zone = name("example.com");
    let error = |extra_text| {
        EdnsOption::ExtendedError(ExtendedError { info_code: InfoCode::BLOCKED, extra_text })
    };
    let other = |code, octets| EdnsOption::Other { code: OptionCode(code), octets };
    for (octets, option) in [
        (&b"\0\x03\0\0"[..], EdnsOption::Nsid(b"")),
        (b"\0\x03\0\x02ab", EdnsOption::Nsid(b"ab")),
        (b"\0\x05\0\x02\x08\x0d", EdnsOption::Dau(&[8, 13])),
        (b"\0\x06\0\x01\x02", EdnsOption::Dhu(&[2])),
        (b"\0\x07\0\x01\x01", EdnsOption::N3u(&[1])),
        (b"\0\x08\0\x07\0\x01\x18\0\xc0\0\x02", subnet("192.0.2.99", 24, 0)),
        (b"\0\x08\0\x07\0\x01\x17\x10\xc0\0\x02", subnet("192.0.3.99", 23, 16)),
        (b"\0\x08\0\x04\0\x01\0\0", subnet("192.0.2.99", 0, 0)),
        (b"\0\x08\0\x08\0\x01\x20\x20\xc0\0\x02\x63", subnet("192.0.2.99", 32, 32)),
        (b"\0\x08\0\x08\0\x02\x20\0\x20\x01\x0d\xb8", subnet("2001:db8::1", 32, 0)),
        (b"\0\x08\0\x04\0\x02\0\0", subnet("::1", 0, 0)),
        (b"\0\x08\0\x04\0\0\0\0", other(8, b"\0\0\0\0")),
        (b"\0\x09\0\0", EdnsOption::Expire(None)),
        (b"\0\x09\0\x04\0\x12\x75\0", EdnsOption::Expire(Some(1_209_600))),
        (b"\0\x0a\0\x0812345678", cookie(b"")),
        (b"\0\x0a\0\x1012345678abcdefgh", cookie(b"abcdefgh")),
        (b"\0\x0b\0\0", EdnsOption::TcpKeepalive(None)),
        (b"\0\x0b\0\x02\x01\x2c", EdnsOption::TcpKeepalive(Some(300))),
        (b"\0\x0c\0\x03\0\0\0", EdnsOption::Padding(&[0; 3])),
        (b"\0\x0d\0\x0d\x07example\x03com\0", EdnsOption::Chain(zone.as_name())),
        (b"\0\x0e\0\x04\x4f\x66\0\x01", {
            EdnsOption::KeyTag(KeyTags::new(&[[0x4f, 0x66], [0, 1]]).unwrap())
        }),
        (b"\0\x0f\0\x02\0\x0f", error(b"")),
        (b"\0\x0f\0\x06\0\x0fsaid", error(b"said")),
        (b"\xfd\xe9\0\x01x", other(65_001, b"x")),
    ] {
        let opt = record(b"\0", T::OPT, 1400, 0x0000_8000, octets);
        let octets = message(0x0100, [0, 0, 0, 1], &[&opt]);
        let decoded = decode(&octets).unwrap_or_else(|error| panic!("{error}: {option:?}"));
        let edns = decoded.edns().unwrap();
        assert!(edns.options.iter().eq([option]), "{edns:?}");
        let list = [option];
        let listed = Edns { options: EdnsOptions::from(&list[..]), ..edns };
        assert_eq!(listed, edns);
        for edns in [edns, listed] {
            let mut out = vec![0xaa; octets.len()];
            let mut builder = Builder::new(&mut out, 0x1234, Flags::RD).unwrap();
            builder.edns(edns, None).unwrap();
            assert_eq!(builder.finish(), Ok(octets.len()));
            assert_eq!(out, octets);
        }
    }
    let of = |edns: Edns<'_>| (edns.options.cookie().is_some(), edns.options.client_subnet());
    let list = [cookie(b""), subnet("10.1.2.3", 8, 0)];
    let subnet = ClientSubnet::new("10.0.0.0".parse().unwrap(), 8, 0);
    assert_eq!(
        of(Edns { options: EdnsOptions::from(&list[..]), ..Edns::new(512) }),
        (true, subnet)
    );
    assert_eq!(of(Edns::new(512)), (false, None));
    assert_eq!(subnet.map(|subnet| (subnet.source_prefix(), subnet.scope_prefix())), Some((8, 0)));
    assert_eq!(ClientSubnet::new("10.0.0.0".parse().unwrap(), 33, 0), None);
    assert_eq!(ClientSubnet::new("::".parse().unwrap(), 0, 129), None);
    assert_eq!(KeyTags::new(&[]), None);
}

#[test]
fn a_response_code_above_15_is_split_between_header_and_opt() {
    let mut out = [0; 64];
    let mut builder = Builder::new(&mut out, 1, Flags::QR).unwrap();
    builder.set_rcode(Rcode::BADVERS);
    assert_eq!(builder.finish(), Err(EncodeError::RcodeNeedsEdns(Rcode::BADVERS)));

    let mut builder = Builder::new(&mut out, 1, Flags::QR).unwrap();
    builder.edns(Edns::new(1232), None).unwrap();
    builder.set_rcode(Rcode::BADCOOKIE);
    let len = builder.finish().unwrap();
    assert_eq!(out[..len], *b"\0\x01\x80\x07\0\0\0\0\0\0\0\x01\0\0\x29\x04\xd0\x01\0\0\0\0\0");
    let message = decode(&out[..len]).unwrap();
    assert_eq!(message.rcode(), Rcode::BADCOOKIE);
    assert_eq!(message.header.flags.low_rcode(), 7);
}

/// RFC 2136 §2.4 and §2.5: prerequisites and deletions without RDATA, and one by its RDATA.
#[test]
fn an_update_has_records_without_data() {
    let name = b"\xc0\x0c";
    let octets = message(
        0x2800,
        [1, 3, 2, 0],
        &[
            b"\x07example\0\0\x06\0\x01",
            &record(name, T::ANY, 255, 0, b""),
            &record(name, T::A, 254, 0, b""),
            &record(name, T::MX, 255, 0, b""),
            &record(name, T::A, 254, 0, &[192, 0, 2, 1]),
            &record(name, T::SOA, 255, 0, b""),
        ],
    );
    let update = decode(&octets).unwrap();
    assert_eq!(update.header.flags.opcode(), Opcode::UPDATE);
    let empty = |record_type| RecordData::Other { record_type, octets: &[] };
    assert!(update.answers().map(|record| record.data()).eq([T::ANY, T::A, T::MX].map(empty)));
    let address = RecordData::A(Ipv4Addr::new(192, 0, 2, 1));
    assert!(update.authorities().map(|record| record.data()).eq([address, empty(T::SOA)]));
    assert_eq!(rebuild(&update).unwrap(), octets);
}

/// An address of Chaosnet is none of the Internet (RFC 1035 §3.4.1).
#[test]
fn an_address_is_one_in_the_class_of_the_internet_only() {
    let octets = message(0x8400, [0, 1, 0, 0], &[&record(b"\0", T::A, 3, 0, b"\0\x01\x02")]);
    let decoded = decode(&octets).unwrap();
    let data = decoded.answers().next().unwrap().data();
    assert_eq!(data, RecordData::Other { record_type: T::A, octets: b"\0\x01\x02" });
    assert_eq!(rebuild(&decoded).unwrap(), octets);
}

#[test]
fn a_response_echoes_what_it_has_to() {
    let octets = message(0x2930, [1, 0, 0, 0], &[b"\x03wWw\0\0\x01\0\x01"]);
    let query = decode(&octets).unwrap();
    let mut out = [0; 64];
    let len = Builder::response(&mut out, &query, Rcode::REFUSED).unwrap().finish().unwrap();
    // QR, the opcode, RD and CD; not AD.
    let expected = message(0xa915, [1, 0, 0, 0], &[b"\x03wWw\0\0\x01\0\x01"]);
    assert_eq!(out[..len], expected);
    let alone = header(&octets).unwrap().response(Rcode::FORMERR);
    assert_eq!(alone.to_octets(), message(0xa911, [0; 4], &[])[..]);
    assert_eq!(decode(&alone.to_octets()).unwrap().header, alone);
}

#[test]
fn a_name_does_not_point_into_itself() {
    let repeated = name("com.com.com");
    let mut out = [0; 64];
    let mut builder = Builder::new(&mut out, 1, Flags::QR).unwrap();
    let data = RecordData::Ns(repeated.as_name());
    builder.record(Section::Answer, repeated.as_name(), Class::IN, 1, &data).unwrap();
    let len = builder.finish().unwrap();
    assert_eq!(out[12..25], *b"\x03com\x03com\x03com\0");
    assert_eq!(out[len - 2..len], [0xc0, 12]);
}

#[test]
fn names_are_pointed_to_in_the_same_case_only() {
    let names: Vec<NameBuf> =
        ["a.eXample", "a.example", "b.eXample", "a.eXample", "."].map(name).into();
    let mut out = [0; 256];
    let mut builder = Builder::new(&mut out, 1, Flags::QR).unwrap();
    for owner in &names {
        let data = RecordData::Ns(owner.as_name());
        builder.record(Section::Authority, owner.as_name(), Class::IN, 1, &data).unwrap();
    }
    let len = builder.finish().unwrap();
    let decoded = decode(&out[..len]).unwrap();
    for (record, owner) in decoded.authorities().zip(&names) {
        assert!(record.name.eq_exact(owner.as_name()));
        let RecordData::Ns(target) = record.data() else { panic!() };
        assert!(target.eq_exact(owner.as_name()));
    }
    // Two names in full, one label and a pointer, and pointers.
    assert_eq!(len, 12 + 5 * 10 + (11 + 2) + (11 + 2) + (4 + 2) + (2 + 2) + (1 + 1));
}

/// A pointer has 14 bits: names behind them are written in full, and may point to those in front.
#[test]
fn nothing_points_behind_octet_16383() {
    let mut out = vec![0; 40_000];
    let mut builder = Builder::new(&mut out, 1, Flags::QR).unwrap();
    let filler = vec![7; 16_360];
    let (early, late) = (name("early.example"), name("late.test"));
    let data = RecordData::Other { record_type: T::NULL, octets: &filler };
    builder.record(Section::Answer, early.as_name(), Class::IN, 1, &data).unwrap();
    assert!(builder.len() > 0x3fff);
    let mut lens = vec![builder.len()];
    for owner in [&late, &late, &early] {
        let data = RecordData::A(Ipv4Addr::LOCALHOST);
        builder.record(Section::Answer, owner.as_name(), Class::IN, 1, &data).unwrap();
        lens.push(builder.len());
    }
    let grown: Vec<usize> = lens.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(grown, [11 + 14, 11 + 14, 2 + 14]);
    let len = builder.finish().unwrap();
    let decoded = decode(&out[..len]).unwrap();
    let owners = decoded.answers().map(|record| NameBuf::from(record.name));
    assert!(owners.eq([early, late, late, early]));
}

#[test]
fn what_does_not_fit_changes_nothing_and_truncation_keeps_question_and_opt() {
    let owner = name("www.example");
    let question = Question { name: owner.as_name(), record_type: T::TXT, class: Class::IN };
    let text = [&[200][..], &[b'x'; 200]].concat();
    let data = RecordData::Txt(CharStrings::new(&text).unwrap());
    let mut out = vec![0; 512];
    let mut builder = Builder::new(&mut out, 7, Flags::QR.with(Flags::AA)).unwrap();
    builder.edns(Edns::new(1232), None).unwrap();
    builder.question(&question).unwrap();
    let add = |builder: &mut Builder<'_>, section| {
        builder.record(section, owner.as_name(), Class::IN, 1, &data)
    };
    assert_eq!(add(&mut builder, Section::Answer), Ok(()));
    assert_eq!(add(&mut builder, Section::Answer), Ok(()));
    let len = builder.len();
    assert_eq!(add(&mut builder, Section::Additional), Err(EncodeError::Full));
    assert_eq!(builder.len(), len);
    // The section is not over because of what did not get into the next.
    let small = RecordData::A(Ipv4Addr::LOCALHOST);
    builder.record(Section::Answer, owner.as_name(), Class::IN, 1, &small).unwrap();
    builder.record(Section::Additional, Name::ROOT, Class::IN, 1, &small).unwrap();
    let late = builder.record(Section::Authority, Name::ROOT, Class::IN, 1, &small);
    assert_eq!(late, Err(EncodeError::SectionOrder(Section::Authority)));
    assert_eq!(builder.question(&question), Err(EncodeError::SectionOrder(Section::Question)));
    builder.truncate();
    let len = builder.finish().unwrap();
    let decoded = decode(&out[..len]).unwrap();
    assert_eq!(decoded.header.flags, Flags::QR.with(Flags::AA).with(Flags::TC));
    assert_eq!(decoded.question(), Some(question));
    assert_eq!(decoded.edns(), Some(Edns::new(1232)));
    assert_eq!(len, 12 + 17 + 11);
}

#[test]
fn a_truncated_message_can_be_filled_again() {
    let owner = name("www.example");
    let small = RecordData::A(Ipv4Addr::LOCALHOST);
    let mut out = [0; 100];
    let mut builder = Builder::new(&mut out, 7, Flags::QR).unwrap();
    builder.record(Section::Answer, owner.as_name(), Class::IN, 1, &small).unwrap();
    builder.truncate();
    // What was taken out is not pointed to.
    builder.record(Section::Answer, owner.as_name(), Class::IN, 1, &small).unwrap();
    let len = builder.finish().unwrap();
    let decoded = decode(&out[..len]).unwrap();
    assert!(decoded.answers().map(|record| record.name).eq([owner.as_name()]));
}

#[test]
fn room_for_the_opt_record_is_kept_and_padding_fills_blocks() {
    let owner = name("www.example");
    let question = Question { name: owner.as_name(), record_type: T::A, class: Class::IN };
    for (room, block, expected) in
        [(512, 128, 128), (512, 468, 468), (100, 128, 100), (43, 128, 40), (44, 128, 44)]
    {
        let mut out = vec![0xaa; room];
        let mut builder = Builder::new(&mut out, 7, Flags::RD).unwrap();
        builder.edns(Edns::new(1232), NonZeroU16::new(block)).unwrap();
        builder.question(&question).unwrap();
        assert_eq!(builder.finish(), Ok(expected));
        let decoded = decode(&out[..expected]).unwrap();
        let padding = decoded.edns().unwrap().options.iter().next();
        let zeros = vec![0; expected.saturating_sub(44)];
        assert_eq!(padding, (expected != 40).then_some(EdnsOption::Padding(&zeros)));
    }
    let mut out = [0; 39];
    let mut builder = Builder::new(&mut out, 7, Flags::RD).unwrap();
    builder.edns(Edns::new(1232), None).unwrap();
    assert_eq!(builder.question(&question), Err(EncodeError::Full));
    assert_eq!(builder.finish(), Ok(23));
    let mut builder = Builder::new(&mut out[..22], 7, Flags::RD).unwrap();
    assert_eq!(builder.edns(Edns::new(1232), None), Err(EncodeError::Full));
    assert_eq!(builder.finish(), Ok(12));
    assert_eq!(Builder::new(&mut out[..11], 7, Flags::RD).err(), Some(EncodeError::Full));
}

#[test]
fn what_would_be_refused_is_not_written() {
    let long = [0; 256];
    let other = |record_type, octets| RecordData::Other { record_type, octets };
    let caa = |tag| RecordData::Caa(Caa { flags: 0, tag, value: b"" });
    let param = Nsec3Param { hash_algorithm: 1, flags: 0, iterations: 0, salt: &long };
    let types = TypeBitmap::new(b"").unwrap();
    let nsec3 = Nsec3 { param: Nsec3Param { salt: b"", ..param }, next_hashed: b"", types };
    let mut out = [0; 600];
    let mut builder = Builder::new(&mut out, 7, Flags::QR).unwrap();
    for (data, error) in [
        (other(T::OPT, b""), EncodeError::MetaRecord(T::OPT)),
        (other(T::TSIG, b""), EncodeError::MetaRecord(T::TSIG)),
        (other(T::A, b"123"), EncodeError::Rdata(T::A)),
        (other(T::NS, b"\xc0\x0c"), EncodeError::Rdata(T::NS)),
        (other(T::AAAA, b""), EncodeError::Rdata(T::AAAA)),
        (caa(b""), EncodeError::Rdata(T::CAA)),
        (caa(&long), EncodeError::Rdata(T::CAA)),
        (caa(b"a-"), EncodeError::Rdata(T::CAA)),
        (RecordData::Hinfo { cpu: &long, os: b"" }, EncodeError::Rdata(T::HINFO)),
        (RecordData::Nsec3Param(param), EncodeError::Rdata(T::NSEC3PARAM)),
        (RecordData::Nsec3(nsec3), EncodeError::Rdata(T::NSEC3)),
        (RecordData::Uri(Uri { priority: 0, weight: 0, target: b"" }), EncodeError::Rdata(T::URI)),
    ] {
        let added = builder.record(Section::Answer, Name::ROOT, Class::IN, 0, &data);
        assert_eq!(added, Err(error));
        assert!(!error.label().is_empty() && !error.to_string().is_empty());
    }
    let cookie = |server| EdnsOption::Cookie(Cookie { client: [0; 8], server });
    let options = [
        cookie(&long[..7]),
        cookie(&long[..33]),
        EdnsOption::Other { code: OptionCode::EXPIRE, octets: b"1" },
    ];
    for option in options.chunks(1) {
        let edns = Edns { options: EdnsOptions::from(option), ..Edns::new(512) };
        assert_eq!(builder.edns(edns, None), Err(EncodeError::Option(option[0].code())));
    }
    assert_eq!(builder.len(), 12);
    assert_eq!(builder.finish(), Ok(12));
    assert_eq!(CharStrings::new(b""), None);
    assert_eq!(CharStrings::new(b"\x02a"), None);
    assert_eq!(TypeBitmap::new(b"\0\0"), None);
    assert_eq!(SvcParams::new(b"\0\x03\0\x01\0"), None);
}

#[test]
fn a_message_is_changed_where_it_is() {
    let opt = record(b"\0", T::OPT, 1232, 0x0000_8000, b"");
    let tsig = record(b"\0", T::TSIG, 255, 0x0102_0304, b"");
    let answer = |ttl| record(b"\xc0\x0c", T::A, IN, ttl, &[192, 0, 2, 1]);
    let authority = |ttl| record(b"\xc0\x10", T::NS, IN, ttl, b"\xc0\x0c");
    let question = b"\x03wWw\x07eXample\0\0\x01\0\x01";
    let build = |flags, question: &[u8], ttls: [u32; 4]| {
        let [a, b, c, d] = ttls;
        let parts = [&answer(a)[..], &authority(b), &answer(c), &opt, &answer(d), &tsig];
        message(flags, [1, 1, 1, 4], &[question, &parts.concat()])
    };
    let mut octets = build(0x8180, question, [300, 10, 0xffff_ffff, 0x7fff_ffff]);
    let offsets: Vec<usize> = decode(&octets).unwrap().ttl_offsets().collect();
    let ttls: Vec<u8> = offsets.iter().map(|&at| octets[at + 3]).collect();
    assert_eq!(ttls, [44, 10, 255, 255]);
    patch::age(&mut octets, 11).unwrap();
    assert_eq!(octets, build(0x8180, question, [289, 0, 0, 0x7fff_fff4]));
    patch::set_flags(&mut octets, Flags(0x8583)).unwrap();
    let other = name("WWW.example");
    patch::set_question_case(&mut octets, other.as_name()).unwrap();
    let question = b"\x03WWW\x07example\0\0\x01\0\x01";
    assert_eq!(octets, build(0x8583, question, [289, 0, 0, 0x7fff_fff4]));
    assert!(decode(&octets).unwrap().answers().all(|record| record.name == other.as_name()));
    patch::set_id(&mut octets, 0xbeef).unwrap();
    assert_eq!(octets[..4], [0xbe, 0xef, 0x85, 0x83]);
    assert!(decode(&octets).unwrap().is_signed());

    let before = octets.clone();
    for other in ["www.example.com", "example", "www-example"] {
        let changed = patch::set_question_case(&mut octets, name(other).as_name());
        assert_eq!(changed, Err(EncodeError::OtherName));
    }
    octets.push(0);
    assert!(patch::age(&mut octets, 1).is_err());
    octets.pop();
    assert_eq!(octets, before);
    assert!(patch::set_id(&mut octets[..11], 1).is_err());
    assert!(patch::set_flags(&mut [], Flags(0)).is_err());
}
