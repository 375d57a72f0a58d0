//! Answers made to do harm.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod common;

use std::time::{Duration, Instant};

use codec_dns::{Flags, Message, Opcode, Record, Section, decode};
use common::{Answer, Data, Query, get, put, seconds};
use dns_cache::{Asked, AskedFlags, Cache, Limits, Stored};
use proptest::prelude::*;

/// What a hit writes at this time.
fn hit(cache: &mut Cache, asked: &Asked<'_>, at: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    cache.get(asked, seconds(at))?.write(&mut out, 0);
    Some(out)
}

fn records<'a>(message: &Message<'a>) -> Vec<(Section, Record<'a>)> {
    let sections = [Section::Answer, Section::Authority, Section::Additional];
    let records = sections
        .into_iter()
        .flat_map(|section| message.records(section).map(move |record| (section, record)));
    records.collect()
}

#[test]
fn a_name_in_the_octets_of_a_ttl_does_not_change_with_it() {
    let query = Query::a();
    let mut octets = Answer::a(0x0161_0005).octets(&query);
    // Another address, of the name `a.`, which is in the TTL of the first.
    let ttl_at = octets.len() - 10;
    assert_eq!(octets[ttl_at..ttl_at + 3], *b"\x01a\0");
    octets[7] = 2;
    octets.extend([0xc0, ttl_at as u8]);
    octets.extend(b"\0\x01\0\x01\0\0\x02\x58\0\x04\xc0\0\x02\x02");
    let message = decode(&octets).unwrap();
    assert_eq!(message.answers().nth(1).unwrap().name.to_string(), "a.");
    let mut cache = Cache::new(Limits::default());
    assert_eq!(cache.put(&query.asked(), &message, seconds(0)), Stored::Yes);
    for at in [0, 1, 5, 300, 599] {
        let out = hit(&mut cache, &query.asked(), at).unwrap();
        let second = decode(&out).unwrap().answers().nth(1).unwrap();
        assert_eq!((second.name.to_string().as_str(), second.ttl), ("a.", 600 - at as u32));
    }
}

#[test]
fn an_answer_that_is_small_only_by_its_compression_is_refused_in_time() {
    let query = Query::a();
    let mut octets = Answer::new(codec_dns::Rcode::NOERROR).octets(&query);
    let mut last = 0;
    let fixed = b"\0\x01\0\x01\0\0\x01\0\0\x04\xc0\0\x02\x01";
    for n in 0..40 {
        last = octets.len();
        for label in 0..50 {
            octets.extend([4, b'a' + n as u8 % 26, b'0' + n as u8 / 26, label + 1, 1]);
        }
        octets.push(0);
        octets.extend(fixed);
    }
    let mut count = 40_u16;
    while octets.len() + 16 <= 65_535 {
        octets.extend((0xc000 | last as u16).to_be_bytes());
        octets.extend(fixed);
        count += 1;
    }
    octets[6..8].copy_from_slice(&count.to_be_bytes());
    let mut cache = Cache::new(Limits::default());
    let message = decode(&octets).unwrap();
    let start = Instant::now();
    assert_eq!(cache.put(&query.asked(), &message, seconds(0)), Stored::TooLarge);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(cache.is_empty());
}

#[test]
fn an_answer_larger_than_its_share_is_refused_with_all_that_is_kept_of_it() {
    let mut cache = Cache::new(Limits { max_size: 80_000, ..Limits::default() });
    let query = Query::a();
    let text =
        |octets| Answer::a(60).with(Section::Additional, ".", 60, Data::Txt(vec![1; octets]));
    assert_eq!(put(&mut cache, &query, &text(10_000), 0), Stored::TooLarge);
    assert_eq!(put(&mut cache, &query, &text(9_000), 0), Stored::Yes);
    let error = text(9_000).error(codec_dns::InfoCode::OTHER, &[b'x'; 1_000]);
    assert_eq!(put(&mut cache, &query, &error, 0), Stored::TooLarge);
    assert_eq!(get(&mut cache, &query, 0), None);
}

#[test]
fn the_longest_name_is_kept_and_found() {
    let label = "a".repeat(63);
    let name = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    let query = Query::new(&name, codec_dns::RecordType::A);
    assert_eq!(query.name.as_wire().len(), 255);
    let mut cache = Cache::new(Limits::default());
    assert_eq!(put(&mut cache, &query, &Answer::a(60), 0), Stored::Yes);
    let shouted = Query::new(&name.to_uppercase(), codec_dns::RecordType::A);
    assert!(get(&mut cache, &shouted, 0).is_some());
}

/// Answers of all kinds, with some octets that are others.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let soa = Answer::negative(codec_dns::Rcode::NXDOMAIN, 60, 60);
    let alias = Answer::a(60)
        .with(Section::Answer, "www.example.com", 60, Data::Cname("web.EXAMPLE.com"))
        .with(Section::Authority, "example.com", 60, Data::Ns("ns.example.com"))
        .with(Section::Additional, "ns.example.com", 60, Data::Txt(vec![7; 40]));
    let answers = [soa, alias, Answer::new(codec_dns::Rcode::SERVFAIL)];
    let octets = answers.map(|answer| answer.octets(&Query::a())).to_vec();
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(octets), damage).prop_map(|(mut octets, damage)| {
        for (at, octet) in damage {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        octets
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(target_family = "wasm") { 500 } else { 10_000 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_kept_says_the_same_as_the_answer(octets in damaged()) {
        let Ok(message) = decode(&octets) else { return Ok(()) };
        let Some(question) = message.question() else { return Ok(()) };
        let flags = AskedFlags::new(message.header.flags, codec_dns::EdnsFlags::NONE);
        let asked = Asked { question, flags, subnet: None };
        let mut cache = Cache::new(Limits::default());
        let stored = cache.put(&asked, &message, seconds(0));
        let out = hit(&mut cache, &asked, 0);
        prop_assert_eq!(out.is_some(), stored == Stored::Yes);
        let Some(out) = out else { return Ok(()) };
        let kept = decode(&out).unwrap();
        let flags = message.header.flags.without(Flags::AA.with(Flags::Z));
        prop_assert_eq!(kept.header.flags, flags);
        prop_assert_eq!(flags.opcode(), Opcode::QUERY);
        prop_assert_eq!(kept.question(), message.question());
        if kept.rcode() == codec_dns::Rcode::SERVFAIL {
            return Ok(());
        }
        let (kept, sent) = (records(&kept), records(&message));
        prop_assert_eq!(kept.len(), sent.len());
        for ((section, kept), (sent_section, mut sent)) in kept.into_iter().zip(sent) {
            prop_assert_eq!(section, sent_section);
            prop_assert!(kept.ttl > 0 && kept.ttl <= sent.ttl);
            sent.ttl = kept.ttl;
            prop_assert_eq!(kept, sent);
        }
    }
}
