//! What the standards say about kept answers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod common;

use codec_dns::{Class, EdnsFlags, Flags, InfoCode, Rcode, RecordType, Section, decode};
use common::{Answer, Data, Found, Query, get, get_at, put, seconds, subnet, ttls};
use dns_cache::{Asked, AskedFlags, Cache, Limits, Prefetch, State, Stored};

fn cache() -> Cache {
    Cache::new(Limits::default())
}

fn cache_with(change: impl FnOnce(&mut Limits)) -> Cache {
    let mut limits = Limits::default();
    change(&mut limits);
    Cache::new(limits)
}

/// Two other records, with other TTLs.
fn three_ttls() -> Answer {
    Answer::a(300).with(Section::Authority, "example.com", 200, Data::Ns("ns.example.com")).with(
        Section::Additional,
        "ns.example.com",
        100,
        Data::A(2),
    )
}

#[test]
fn ttls_count_down_in_whole_seconds_until_the_smallest_has_passed() {
    let mut cache = cache();
    let query = Query::a();
    assert_eq!(put(&mut cache, &query, &three_ttls(), 1_000), Stored::Yes);
    assert_eq!(ttls(&mut cache, &query, 1_000), Some(vec![300, 200, 100]));
    let almost = get_at(&mut cache, &query, std::time::Duration::from_millis(1_000_999));
    assert_eq!(almost.unwrap().ttls, [300, 200, 100]);
    assert_eq!(ttls(&mut cache, &query, 1_001), Some(vec![299, 199, 99]));
    assert_eq!(ttls(&mut cache, &query, 1_099), Some(vec![201, 101, 1]));
    assert_eq!(ttls(&mut cache, &query, 1_100), None);
    // A clock that goes back.
    assert_eq!(ttls(&mut cache, &query, 900), Some(vec![300, 200, 100]));
}

#[test]
fn ttls_are_raised_and_lowered_to_the_limits() {
    let mut cache = cache_with(|limits| {
        limits.min_ttl = seconds(150);
        limits.max_ttl = seconds(250);
    });
    let query = Query::a();
    put(&mut cache, &query, &three_ttls(), 0);
    assert_eq!(ttls(&mut cache, &query, 10), Some(vec![240, 190, 140]));
    assert_eq!(ttls(&mut cache, &query, 150), None);
}

#[test]
fn a_ttl_of_zero_or_above_31_bits_is_not_kept_whatever_the_limits_say() {
    let mut cache = cache_with(|limits| limits.min_ttl = seconds(60));
    let query = Query::a();
    for ttl in [0, 0x8000_0000, u32::MAX] {
        assert_eq!(put(&mut cache, &query, &Answer::a(ttl), 0), Stored::ZeroTtl);
        let additional = Answer::a(300).with(Section::Additional, "x", ttl, Data::A(2));
        assert_eq!(put(&mut cache, &query, &additional, 0), Stored::ZeroTtl);
    }
    assert!(cache.is_empty());
    assert_eq!(put(&mut cache, &query, &Answer::a(i32::MAX as u32), 0), Stored::Yes);
    assert_eq!(ttls(&mut cache, &query, 0), Some(vec![86_400]));
}

#[test]
fn names_are_found_in_any_case_and_answered_in_the_case_they_are_asked_in() {
    let mut cache = cache();
    put(&mut cache, &Query::new("wWw.ExAmPlE.cOm", RecordType::A), &Answer::a(300), 0);
    for name in ["www.example.com", "WWW.EXAMPLE.COM", "wwW.exaMple.Com"] {
        assert!(get(&mut cache, &Query::new(name, RecordType::A), 0).is_some(), "{name}");
    }
    for name in ["www.example.co", "ww.example.com", "example.com", ".", "xwww.example.com"] {
        assert!(get(&mut cache, &Query::new(name, RecordType::A), 0).is_none(), "{name}");
    }
}

#[test]
fn letters_beyond_ascii_have_no_case() {
    let mut cache = cache();
    put(&mut cache, &Query::new(r"\195\132[`.example", RecordType::A), &Answer::a(300), 0);
    for name in [r"\195\164[`.example", r"\195\132{`.example", r"\195\132[@.example"] {
        assert!(get(&mut cache, &Query::new(name, RecordType::A), 0).is_none(), "{name}");
    }
}

#[test]
fn another_type_class_or_flag_is_another_question() {
    let mut cache = cache();
    let query = Query::a();
    put(&mut cache, &query, &Answer::a(300), 0);
    let flags = |header, edns| AskedFlags::new(header, edns);
    let rd = Flags::RD;
    for other in [
        Query { record_type: RecordType::AAAA, ..query.clone() },
        Query { class: Class::CH, ..query.clone() },
        Query { flags: flags(Flags(0), EdnsFlags::NONE), ..query.clone() },
        Query { flags: flags(rd.with(Flags::CD), EdnsFlags::NONE), ..query.clone() },
        Query { flags: flags(rd.with(Flags::AD), EdnsFlags::NONE), ..query.clone() },
        Query { flags: flags(rd, EdnsFlags::DO), ..query.clone() },
        Query { flags: flags(rd, EdnsFlags::CO), ..query.clone() },
    ] {
        assert_eq!(get(&mut cache, &other, 0), None, "{other:?}");
    }
    // What else is in a header makes no difference.
    let same = flags(rd.with(Flags::Z).with(Flags::RA), EdnsFlags(0x2fff));
    assert!(get(&mut cache, &Query { flags: same, ..query }, 0).is_some());
}

#[test]
fn what_is_asked_is_read_from_a_query() {
    let octets = b"\x12\x34\x01\x30\0\x01\0\0\0\0\0\x01\x03www\x07example\x03com\0\0\x1c\0\x01\
        \0\0\x29\x04\xd0\0\0\x80\0\0\x0b\0\x08\0\x07\0\x01\x18\0\xc6\x33\x64";
    let query = decode(octets).unwrap();
    let asked = Asked::of(&query).unwrap();
    assert_eq!(asked.question, query.question().unwrap());
    let flags = Flags::RD.with(Flags::AD).with(Flags::CD);
    assert_eq!(asked.flags, AskedFlags::new(flags, EdnsFlags::DO));
    assert_eq!(asked.subnet, Some(subnet("198.51.100.0", 24, 0)));
    for other in [0x81, 0x29] {
        let mut octets = *octets;
        octets[2] = other;
        assert!(Asked::of(&decode(&octets).unwrap()).is_none());
    }
    assert!(Asked::of(&decode(&[0; 12]).unwrap()).is_none());
}

#[test]
fn the_flags_are_those_of_the_answer_but_rd_and_cd_of_the_query_and_no_aa() {
    let mut cache = cache();
    let flags = AskedFlags::new(Flags::CD.with(Flags::AD), EdnsFlags::NONE);
    let query = Query { flags, ..Query::a() };
    let answer = Answer::a(300).flagged(Flags::AA.with(Flags::AD).with(Flags::Z));
    put(&mut cache, &query, &answer, 0);
    let expected = Flags::QR.with(Flags::RA).with(Flags::AD).with(Flags::CD);
    assert_eq!(get(&mut cache, &query, 0).unwrap().flags, expected);
}

#[test]
fn what_is_no_complete_answer_to_the_question_is_not_kept() {
    let mut cache = cache();
    let query = Query::a();
    let answer = Answer::a(300);
    let mut check = |query: &Query, octets: &[u8], why| {
        let put = cache.put(&query.asked(), &decode(octets).unwrap(), seconds(0));
        assert_eq!(put, why);
        assert!(cache.is_empty());
    };
    let octets = |answer: &Answer| answer.octets(&query);
    check(&query, &octets(&answer.clone().flagged(Flags::TC)), Stored::Truncated);
    let mut query_back = octets(&answer);
    query_back[2] &= 0x7f;
    check(&query, &query_back, Stored::NotAnAnswer);
    let mut notify = octets(&answer);
    notify[2] |= 4 << 3;
    check(&query, &notify, Stored::NotAnAnswer);
    check(&query, b"\0\0\x80\0\0\0\0\0\0\0\0\0", Stored::OtherQuestion);
    let other = Query::new("www.example.net", RecordType::A);
    check(&query, &answer.octets(&other), Stored::OtherQuestion);
    let other = Query { record_type: RecordType::AAAA, ..query.clone() };
    check(&query, &answer.octets(&other), Stored::OtherQuestion);
    let other = Query { class: Class::CH, ..query.clone() };
    check(&query, &answer.octets(&other), Stored::OtherQuestion);
    for rcode in [Rcode::FORMERR, Rcode::NOTIMP, Rcode::REFUSED, Rcode::BADCOOKIE] {
        let refused = Answer { rcode, ..answer.clone() };
        check(&query, &octets(&refused), Stored::OtherRcode(rcode));
    }
    for record_type in [0, 41, 128, 249, 250, 251, 252, 253, 254, 255] {
        let meta = Query { record_type: RecordType(record_type), ..query.clone() };
        check(&meta, &answer.octets(&meta), Stored::MetaType);
    }
    for class in [Class(0), Class::NONE, Class::ANY] {
        let meta = Query { class, ..query.clone() };
        check(&meta, &answer.octets(&meta), Stored::MetaType);
    }
}

#[test]
fn a_signed_answer_is_not_kept() {
    let mut cache = cache();
    let query = Query::a();
    for record_type in [RecordType::TSIG, RecordType::SIG] {
        let mut octets = Answer::a(300).octets(&query);
        octets[11] = 1;
        octets.push(0);
        octets.extend(record_type.0.to_be_bytes());
        octets.extend([0, 255, 0, 0, 1, 0, 0, 19]);
        octets.extend([0; 19]);
        let message = decode(&octets).unwrap();
        assert_eq!(cache.put(&query.asked(), &message, seconds(0)), Stored::Signed);
    }
}

// RFC 2308.

#[test]
fn a_negative_answer_holds_for_the_ttl_of_its_soa_or_its_minimum() {
    let query = Query::a();
    for rcode in [Rcode::NXDOMAIN, Rcode::NOERROR] {
        for (ttl, minimum) in [(900, 60), (60, 900)] {
            let mut cache = cache();
            put(&mut cache, &query, &Answer::negative(rcode, ttl, minimum), 0);
            let found = get(&mut cache, &query, 10).unwrap();
            assert_eq!((found.rcode, found.ttls), (rcode, vec![50]));
            assert_eq!(get(&mut cache, &query, 60), None);
        }
    }
}

#[test]
fn a_negative_answer_is_kept_no_longer_than_its_own_limit() {
    let mut cache = cache_with(|limits| limits.max_negative_ttl = seconds(30));
    let query = Query::a();
    put(&mut cache, &query, &Answer::negative(Rcode::NXDOMAIN, 900, 900), 0);
    assert_eq!(ttls(&mut cache, &query, 29), Some(vec![1]));
    assert_eq!(ttls(&mut cache, &query, 30), None);
}

#[test]
fn a_negative_answer_without_soa_is_not_kept() {
    let mut cache = cache();
    let query = Query::a();
    for rcode in [Rcode::NXDOMAIN, Rcode::NOERROR] {
        assert_eq!(put(&mut cache, &query, &Answer::new(rcode), 0), Stored::NoSoa);
        // In the wrong section it says nothing.
        let soa = Answer::new(rcode).with(Section::Additional, "example.com", 60, Data::Soa(60));
        assert_eq!(put(&mut cache, &query, &soa, 0), Stored::NoSoa);
    }
    let soa = Answer::negative(Rcode::NXDOMAIN, 60, 0);
    assert_eq!(put(&mut cache, &query, &soa, 0), Stored::ZeroTtl);
}

#[test]
fn a_referral_is_not_kept() {
    let mut cache = cache();
    let referral = Answer::new(Rcode::NOERROR).with(
        Section::Authority,
        "example.com",
        900,
        Data::Ns("ns.example.com"),
    );
    assert_eq!(put(&mut cache, &Query::a(), &referral, 0), Stored::Referral);
}

#[test]
fn an_alias_of_nothing_is_a_negative_answer() {
    let query = Query::a();
    let alias = Data::Cname("gone.example.com");
    for rcode in [Rcode::NXDOMAIN, Rcode::NOERROR] {
        let mut cache = cache();
        let answer =
            Answer::new(rcode).with(Section::Answer, "www.example.com", 500, alias.clone());
        assert_eq!(put(&mut cache, &query, &answer, 0), Stored::NoSoa);
        let answer = answer.with(Section::Authority, "example.com", 900, Data::Soa(60));
        assert_eq!(put(&mut cache, &query, &answer, 0), Stored::Yes);
        assert_eq!(ttls(&mut cache, &query, 10), Some(vec![490, 50]));
        assert_eq!(ttls(&mut cache, &query, 60), None);
    }
}

#[test]
fn a_failure_is_kept_for_its_own_time_and_without_records() {
    let mut cache = cache();
    let query = Query::a();
    let failure = Answer { rcode: Rcode::SERVFAIL, ..Answer::a(0) };
    assert_eq!(put(&mut cache, &query, &failure, 0), Stored::Yes);
    let found = get(&mut cache, &query, 4).unwrap();
    assert_eq!((found.state, found.rcode), (State::Fresh, Rcode::SERVFAIL));
    assert_eq!(found.ttls, []);
    assert_eq!(get(&mut cache, &query, 5), None);
    put(&mut cache, &query, &failure, 10);
    put(&mut cache, &query, &Answer::a(300), 11);
    assert_eq!(get(&mut cache, &query, 11).unwrap().rcode, Rcode::NOERROR);

    let mut cache = cache_with(|limits| limits.failure_ttl = seconds(0));
    assert_eq!(put(&mut cache, &query, &failure, 0), Stored::Failure);
}

// RFC 8767.

fn stale_cache() -> Cache {
    cache_with(|limits| limits.stale = seconds(3_600))
}

fn failure() -> Answer {
    Answer::new(Rcode::SERVFAIL)
}

#[test]
fn an_expired_answer_is_used_for_as_long_as_is_allowed_with_a_ttl_of_its_own() {
    let mut cache = stale_cache();
    let query = Query::a();
    put(&mut cache, &query, &three_ttls(), 0);
    assert_eq!(get(&mut cache, &query, 99).unwrap().state, State::Fresh);
    for at in [100, 250, 3_699] {
        let found = get(&mut cache, &query, at).unwrap();
        assert_eq!((found.state, found.ttls), (State::Stale, vec![30, 30, 30]));
    }
    assert_eq!(get(&mut cache, &query, 3_700), None);
}

#[test]
fn a_failure_does_not_replace_an_answer_and_the_server_is_left_alone_for_a_while() {
    let mut cache = stale_cache();
    let query = Query::a();
    put(&mut cache, &query, &Answer::a(100), 0);
    assert_eq!(put(&mut cache, &query, &failure(), 50), Stored::FailureWithAnswer);
    assert_eq!(get(&mut cache, &query, 50).unwrap().state, State::Fresh);
    assert_eq!(put(&mut cache, &query, &failure(), 200), Stored::FailureWithAnswer);
    let state = |cache: &mut Cache, at| get(cache, &query, at).unwrap().state;
    assert_eq!(state(&mut cache, 200), State::StaleAndFailing);
    assert_eq!(state(&mut cache, 229), State::StaleAndFailing);
    assert_eq!(state(&mut cache, 230), State::Stale);
    put(&mut cache, &query, &Answer::a(100), 231);
    assert_eq!(state(&mut cache, 231), State::Fresh);
    // Too old to be used: a failure is all there is.
    assert_eq!(put(&mut cache, &query, &failure(), 4_000), Stored::Yes);
    assert_eq!(get(&mut cache, &query, 4_000).unwrap().rcode, Rcode::SERVFAIL);
}

#[test]
fn refusals_truncation_and_referrals_leave_an_expired_answer_in_its_place() {
    let mut cache = stale_cache();
    let query = Query::a();
    put(&mut cache, &query, &Answer::a(100), 0);
    put(&mut cache, &query, &Answer::new(Rcode::REFUSED), 150);
    put(&mut cache, &query, &Answer::a(100).flagged(Flags::TC), 150);
    let ns = Data::Ns("ns.example.com");
    let referral = Answer::new(Rcode::NOERROR).with(Section::Authority, "example.com", 9, ns);
    put(&mut cache, &query, &referral, 150);
    assert_eq!(get(&mut cache, &query, 150).unwrap().state, State::Stale);
}

#[test]
fn an_expired_answer_goes_when_a_newer_one_is_there_even_if_that_cannot_be_kept() {
    let query = Query::a();
    for (newer, why) in [
        (Answer::a(0), Stored::ZeroTtl),
        (Answer::new(Rcode::NXDOMAIN), Stored::NoSoa),
        (
            Answer::a(9).with(Section::Additional, "x", 9, Data::Txt(vec![0; 60_000])),
            Stored::TooLarge,
        ),
    ] {
        let mut cache = cache_with(|limits| {
            limits.stale = seconds(3_600);
            limits.max_size = 100_000;
        });
        put(&mut cache, &query, &Answer::a(100), 0);
        assert_eq!(put(&mut cache, &query, &newer, 150), why);
        assert_eq!(get(&mut cache, &query, 150), None);
        assert!(cache.is_empty());
    }
    let mut cache = stale_cache();
    put(&mut cache, &query, &Answer::a(100), 0);
    put(&mut cache, &query, &Answer::negative(Rcode::NXDOMAIN, 60, 60), 150);
    assert_eq!(get(&mut cache, &query, 150).unwrap().rcode, Rcode::NXDOMAIN);
}

#[test]
fn negative_answers_are_used_when_expired_and_failures_are_not() {
    let mut cache = stale_cache();
    let query = Query::a();
    put(&mut cache, &query, &Answer::negative(Rcode::NXDOMAIN, 60, 60), 0);
    let found = get(&mut cache, &query, 60).unwrap();
    assert_eq!((found.state, found.rcode), (State::Stale, Rcode::NXDOMAIN));
    let other = Query::new("other.example.com", RecordType::A);
    put(&mut cache, &other, &failure(), 0);
    assert_eq!(get(&mut cache, &other, 5), None);
}

// RFC 7871.

fn addresses(found: Option<Found>) -> Option<(Vec<u8>, u8)> {
    found.map(|found| (found.addresses, found.scope))
}

fn address(n: u8) -> Answer {
    Answer::new(Rcode::NOERROR).with(Section::Answer, "www.example.com", 300, Data::A(n))
}

#[test]
fn an_answer_with_a_scope_is_for_the_network_around_the_subnet() {
    let mut cache = cache();
    let query = Query::a();
    let asked = query.from(subnet("198.51.100.0", 24, 0));
    put(&mut cache, &asked, &address(1).scoped(subnet("198.51.100.0", 24, 16)), 0);
    for (from, found) in [
        (subnet("198.51.100.0", 24, 0), true),
        (subnet("198.51.7.0", 24, 0), true),
        (subnet("198.51.7.8", 32, 0), true),
        (subnet("198.51.0.0", 16, 0), true),
        (subnet("198.52.100.0", 24, 0), false),
        (subnet("198.50.0.0", 15, 0), false),
        (subnet("0.0.0.0", 0, 0), false),
        (subnet("c633::", 16, 0), false),
        (subnet("::", 0, 0), false),
    ] {
        let expected = found.then(|| (vec![1], 16));
        assert_eq!(addresses(get(&mut cache, &query.from(from), 0)), expected, "{from:?}");
    }
    assert_eq!(get(&mut cache, &query, 0), None, "asked without a subnet");
}

#[test]
fn an_answer_with_a_scope_longer_than_the_source_is_for_the_same_source_alone() {
    let mut cache = cache();
    let query = Query::a();
    let asked = query.from(subnet("2001:db8::", 32, 0));
    put(&mut cache, &asked, &address(1).scoped(subnet("2001:db8::", 32, 56)), 0);
    assert_eq!(addresses(get(&mut cache, &asked, 0)), Some((vec![1], 56)));
    for from in [subnet("2001:db8::", 33, 0), subnet("2001:db8::", 31, 0), subnet("::", 0, 0)] {
        assert_eq!(get(&mut cache, &query.from(from), 0), None, "{from:?}");
    }
}

#[test]
fn an_answer_for_everybody_is_found_from_every_subnet_and_without() {
    let query = Query::a();
    let from = subnet("198.51.100.0", 24, 0);
    for answer in [address(1), address(1).scoped(from)] {
        let mut cache = cache();
        put(&mut cache, &query.from(from), &answer, 0);
        assert_eq!(addresses(get(&mut cache, &query, 0)), Some((vec![1], 0)));
        for from in [from, subnet("2001:db8::", 32, 0), subnet("0.0.0.0", 0, 0)] {
            assert_eq!(addresses(get(&mut cache, &query.from(from), 0)), Some((vec![1], 0)));
        }
    }
}

#[test]
fn an_answer_to_who_sent_no_subnet_is_not_given_to_who_did() {
    let query = Query::a();
    let from = query.from(subnet("198.51.100.0", 24, 0));
    let nothing = query.from(subnet("0.0.0.0", 0, 0));
    for asked in [&query, &nothing] {
        let mut cache = cache();
        put(&mut cache, asked, &address(1), 0);
        assert!(get(&mut cache, &query, 0).is_some());
        assert!(get(&mut cache, &nothing, 0).is_some());
        assert_eq!(get(&mut cache, &from, 0), None);
    }
}

#[test]
fn the_answer_for_the_smallest_network_wins_unless_it_has_expired() {
    let mut cache = stale_cache();
    let query = Query::a();
    let from = |text: &str, prefix| query.from(subnet(text, prefix, 0));
    let mut put = |source: &str, scope, n, ttl| {
        let answer = Answer::new(Rcode::NOERROR).with(Section::Answer, "a", ttl, Data::A(n));
        let answer = answer.scoped(subnet(source, 24, scope));
        assert_eq!(put(&mut cache, &from(source, 24), &answer, 0), Stored::Yes);
    };
    put("198.51.200.0", 0, 0, 900);
    put("198.51.100.0", 24, 24, 100);
    put("198.51.0.0", 16, 16, 200);
    put("198.0.0.0", 8, 8, 300);
    let mut found = |text, prefix, at| {
        let found = get(&mut cache, &from(text, prefix), at).unwrap();
        (found.addresses[0], found.state)
    };
    assert_eq!(found("198.51.100.0", 24, 0), (24, State::Fresh));
    assert_eq!(found("198.51.100.0", 20, 0), (16, State::Fresh));
    assert_eq!(found("198.99.0.0", 20, 0), (8, State::Fresh));
    assert_eq!(found("199.99.0.0", 20, 0), (0, State::Fresh));
    assert_eq!(found("198.51.100.0", 24, 100), (16, State::Fresh));
    assert_eq!(found("198.51.100.0", 24, 250), (8, State::Fresh));
    assert_eq!(found("198.51.100.0", 24, 950), (24, State::Stale));
}

#[test]
fn an_answer_for_another_subnet_than_asked_is_not_kept() {
    let mut cache = cache();
    let query = Query::a();
    let asked = query.from(subnet("198.51.100.0", 24, 0));
    for other in [
        subnet("198.51.101.0", 24, 24),
        subnet("198.51.100.0", 23, 16),
        subnet("198.51.100.0", 25, 0),
        subnet("c633:6400::", 24, 24),
    ] {
        let answer = address(1).scoped(other);
        assert_eq!(put(&mut cache, &asked, &answer, 0), Stored::OtherSubnet);
        assert_eq!(put(&mut cache, &query, &answer, 0), Stored::OtherSubnet);
    }
    assert!(cache.is_empty());
}

#[test]
fn a_failure_for_one_subnet_is_none_for_another_and_hides_no_answer() {
    let mut cache = stale_cache();
    let query = Query::a();
    let one = query.from(subnet("198.51.100.0", 24, 0));
    let other = query.from(subnet("203.0.113.0", 24, 0));
    assert_eq!(put(&mut cache, &one, &failure(), 0), Stored::Yes);
    assert_eq!(get(&mut cache, &one, 0).unwrap().rcode, Rcode::SERVFAIL);
    assert_eq!(get(&mut cache, &other, 0), None);
    assert_eq!(get(&mut cache, &query, 0), None);
    put(&mut cache, &other, &address(1).scoped(subnet("203.0.113.0", 24, 0)), 1);
    assert_eq!(get(&mut cache, &one, 1).unwrap().rcode, Rcode::NOERROR);
}

// RFC 8914.

#[test]
fn extended_errors_are_kept_and_other_options_are_not() {
    let mut cache = cache();
    let query = Query::a();
    let answer = Answer::negative(Rcode::NXDOMAIN, 60, 60)
        .error(InfoCode::BLOCKED, b"malware")
        .error(InfoCode(4_000), b"");
    put(&mut cache, &query, &answer, 0);
    let found = get(&mut cache, &query, 0).unwrap();
    assert_eq!(found.errors, [(15, b"malware".to_vec()), (4_000, Vec::new())]);
    put(&mut cache, &query, &Answer::a(60), 1);
    assert_eq!(get(&mut cache, &query, 1).unwrap().errors, []);
}

// Fetching early.

#[test]
fn a_hit_shortly_before_the_end_asks_once_for_the_answer_to_be_fetched_again() {
    let mut cache = cache_with(|limits| limits.prefetch = Some(Prefetch { percent: 10, hits: 3 }));
    let query = Query::a();
    let state = |cache: &mut Cache, at| get(cache, &query, at).unwrap().state;
    put(&mut cache, &query, &Answer::a(100), 0);
    assert_eq!(state(&mut cache, 91), State::Fresh, "the first hit");
    assert_eq!(state(&mut cache, 90), State::Fresh, "a tenth is left");
    assert_eq!(state(&mut cache, 91), State::Prefetch);
    assert_eq!(state(&mut cache, 91), State::Fresh, "said already");
    assert_eq!(state(&mut cache, 95), State::Fresh);
    assert_eq!(state(&mut cache, 96), State::Prefetch, "nothing came");
    put(&mut cache, &query, &failure(), 97);
    assert_eq!(state(&mut cache, 99), State::Fresh, "it fails");
    put(&mut cache, &query, &Answer::a(100), 100);
    for _ in 0..9 {
        assert_eq!(state(&mut cache, 189), State::Fresh);
    }
    assert_eq!(state(&mut cache, 199), State::Prefetch);
}
