//! What real peers say: every message decodes, and built anew it says the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of the tests fail the test"
)]

mod common;

use std::collections::BTreeSet;

use codec_dns::{
    Builder, Decoded, Edns, EdnsOption, RecordData, RecordType, decode, frame_tcp, tcp_length,
};
use common::{SECTIONS, content, rebuild};

/// Transport, sender and octets of all lines of `peers.txt`.
fn recorded() -> impl Iterator<Item = (&'static str, &'static str, Vec<u8>)> {
    let lines = include_str!("peers.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let mut fields = line.split(' ');
        let (transport, sender) = (fields.next().unwrap(), fields.next().unwrap());
        let digits = fields.next().unwrap();
        let digit = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (transport, sender, (0..digits.len()).step_by(2).map(digit).collect())
    })
}

/// Sender and octets of all messages.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let mut messages = Vec::new();
    for (transport, sender, octets) in recorded() {
        if transport == "udp" {
            messages.push((sender, octets));
            continue;
        }
        let mut rest = &octets[..];
        while !rest.is_empty() {
            match frame_tcp(rest, u16::MAX).unwrap() {
                Decoded::Complete { message, consumed } => {
                    messages.push((sender, message.to_vec()));
                    rest = &rest[consumed..];
                }
                Decoded::Incomplete { needed } => panic!("{needed}"),
            }
        }
    }
    messages
}

#[test]
fn a_message_can_be_given_another_opt_record() {
    let messages = messages();
    let mut moved = 0;
    for (sender, octets) in &messages {
        let message = decode(octets).unwrap();
        let mut out = vec![0; octets.len() + 11];
        let Ok(mut again) = Builder::again(&mut out, &message) else {
            assert!(message.is_signed(), "{sender}: {message:?}");
            continue;
        };
        again.edns(Edns::new(1232), None).unwrap();
        let len = again.finish().unwrap();
        let again = decode(&out[..len]).unwrap();
        assert_eq!(again.edns(), Some(Edns::new(1232)));
        assert_eq!(again.rcode(), message.rcode());
        for section in SECTIONS {
            assert!(again.records(section).eq(message.records(section)), "{sender}: {message:?}");
        }
        assert!(again.questions().eq(message.questions()));
        assert_eq!(again.header.additionals as usize, message.additionals().count() + 1);
        moved += usize::from(again.octets()[12..].starts_with(&octets[12..octets.len().min(28)]));
        let mut out = vec![0; octets.len()];
        let without = Builder::again(&mut out, &message).unwrap();
        if message.rcode().0 < 16 {
            let len = without.finish().unwrap();
            assert_eq!(decode(&out[..len]).unwrap().edns(), None);
        }
    }
    assert!(moved > 100, "{moved}");
}

/// An OPT record in front of others, which point to names behind it.
#[test]
fn an_opt_record_that_is_not_the_last_can_be_replaced() {
    let octets = b"\0\x07\x81\x80\0\x01\0\0\0\0\0\x03\x01a\0\0\x01\0\x01\
        \0\0\x29\x04\xd0\0\0\0\0\0\0\
        \x01b\0\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04\
        \xc0\x1e\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x05";
    let message = decode(octets).unwrap();
    let mut out = [0; 100];
    let mut again = Builder::again(&mut out, &message).unwrap();
    again.edns(Edns::new(512), None).unwrap();
    let len = again.finish().unwrap();
    let again = decode(&out[..len]).unwrap();
    assert!(again.additionals().eq(message.additionals()));
    assert_eq!(again.edns(), Some(Edns::new(512)));
}

#[test]
fn every_message_decodes_and_built_anew_says_the_same() {
    let messages = messages();
    for (sender, octets) in &messages {
        let message = decode(octets).unwrap();
        let rebuilt = rebuild(&message).unwrap();
        let again = decode(&rebuilt).unwrap_or_else(|error| panic!("{error}: {message:?}"));
        assert_eq!(content(&again), content(&message), "{sender}");
        if !message.is_signed() {
            assert!(rebuilt.len() <= octets.len() + 16, "{sender}: {message:?}");
            // A query has one way to be written, but for what another version of EDNS has.
            let known = message.edns().is_none_or(|edns| edns.version == 0);
            if !message.header.flags.is_response() && known {
                assert_eq!(&rebuilt, octets);
            }
        }
    }
    assert_eq!(messages.len(), 164);
}

#[test]
fn the_recordings_have_what_is_decoded() {
    let mut types = BTreeSet::new();
    let mut options = BTreeSet::new();
    let (mut unknown, mut signed) = (0, 0);
    for (_, octets) in messages() {
        let message = decode(&octets).unwrap();
        signed += usize::from(message.is_signed());
        for record in SECTIONS.iter().flat_map(|&section| message.records(section)) {
            match record.data() {
                RecordData::Other { .. } => unknown += 1,
                data => drop(types.insert(data.record_type())),
            }
        }
        for option in message.edns().into_iter().flat_map(|edns| edns.options) {
            match option {
                EdnsOption::Other { .. } => unknown += 1,
                option => drop(options.insert(option.code().0)),
            }
        }
    }
    type T = RecordType;
    for record_type in [
        T::A,
        T::NS,
        T::CNAME,
        T::SOA,
        T::PTR,
        T::HINFO,
        T::MX,
        T::TXT,
        T::RP,
        T::AFSDB,
        T::AAAA,
        T::SRV,
        T::NAPTR,
        T::DNAME,
        T::DS,
        T::SSHFP,
        T::RRSIG,
        T::NSEC,
        T::DNSKEY,
        T::NSEC3PARAM,
        T::TLSA,
        T::SVCB,
        T::HTTPS,
        T::URI,
        T::CAA,
    ] {
        assert!(types.contains(&record_type), "{record_type}");
    }
    assert_eq!(options.into_iter().collect::<Vec<u16>>(), [3, 8, 9, 10, 11, 12, 14]);
    assert!(unknown > 0 && signed > 0);
}

#[test]
fn every_stream_is_taken_apart_however_it_is_split() {
    let mut count = 0;
    for (_, _, octets) in recorded().filter(|(transport, _, _)| *transport == "tcp") {
        let mut rest = &octets[..];
        while !rest.is_empty() {
            let whole = frame_tcp(rest, u16::MAX).unwrap();
            let Decoded::Complete { message, consumed } = whole else { panic!() };
            assert_eq!(rest[..2], tcp_length(message.len()).unwrap());
            for cut in 0..consumed {
                let Decoded::Incomplete { needed } = frame_tcp(&rest[..cut], u16::MAX).unwrap()
                else {
                    panic!()
                };
                assert!(cut < needed && needed <= consumed);
            }
            rest = &rest[consumed..];
            count += 1;
        }
    }
    assert_eq!(count, 18);
}
