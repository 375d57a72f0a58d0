//! What response rate limiting promises.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the helpers fail the test")]

mod common;

use codec_dns::{
    Builder, Class, Flags, Message, Name, NameBuf, Question, Rcode, RecordData, RecordType as T,
    Section, Soa, decode,
};
use common::{at, limits, over, udp};
use dns_limits::{Answer, Kind, Sending, Transport};

fn name(text: &str) -> NameBuf {
    text.parse().unwrap()
}

fn answer<'a>(name: &'a NameBuf, record_type: T, rcode: Rcode, kind: Kind<'a>) -> Answer<'a> {
    Answer { name: name.as_name(), record_type, rcode, kind }
}

/// Ten a second, made up for within three seconds at most.
const TEN: &str = r#"{"response_rate_limit": {"per_second": 10, "window": "3s"}}"#;

#[test]
fn above_the_limit_every_second_answer_is_truncated_and_the_others_are_dropped() {
    let mut limits = limits(TEN);
    let www = name("www.example");
    let data = answer(&www, T::A, Rcode::NOERROR, Kind::Data);
    let mut send = |ms| limits.answer(&udp("192.0.2.1"), &data, at(ms));
    for _ in 0..10 {
        assert_eq!(send(0), Sending::Send);
    }
    for _ in 0..3 {
        assert_eq!([send(0), send(0)], [Sending::Drop, Sending::Truncate]);
    }
}

#[test]
fn slip_says_which_are_truncated() {
    for (slip, expected) in [
        (0, [Sending::Drop; 4]),
        (1, [Sending::Truncate; 4]),
        (3, [Sending::Drop, Sending::Drop, Sending::Truncate, Sending::Drop]),
    ] {
        let mut limits =
            limits(&format!(r#"{{"response_rate_limit": {{"per_second": 1, "slip": {slip}}}}}"#));
        let www = name("www.example");
        let data = answer(&www, T::A, Rcode::NOERROR, Kind::Data);
        let mut send = || limits.answer(&udp("192.0.2.1"), &data, at(0));
        assert_eq!(send(), Sending::Send);
        assert_eq!([(); 4].map(|()| send()), expected);
    }
}

#[test]
fn who_goes_on_asking_gets_nothing_until_it_has_been_quiet_for_the_window_at_most() {
    let mut limits = limits(TEN);
    let www = name("www.example");
    let data = answer(&www, T::A, Rcode::NOERROR, Kind::Data);
    let mut send = |ms| limits.answer(&udp("192.0.2.1"), &data, at(ms));
    // Twice the rate: after a while nothing is sent as it is.
    let sent: Vec<_> = (0..10_000).step_by(50).filter(|ms| send(*ms) == Sending::Send).collect();
    assert!(sent.iter().all(|ms| *ms < 1000), "{sent:?}");
    assert_ne!(send(10_000 + 2900), Sending::Send);
    assert_eq!(send(10_000 + 2900 + 3100), Sending::Send);
}

#[test]
fn only_answers_that_are_alike_to_the_same_network_are_counted_together() {
    let (a, b, capitals) = (name("a.example"), name("b.example"), name("A.Example"));
    let (zone, other_zone) = (name("example"), name("net"));
    let data = |name, record_type| answer(name, record_type, Rcode::NOERROR, Kind::Data);
    let no_data = |record_type| answer(&a, record_type, Rcode::NOERROR, Kind::NoData);
    let referral = |name| answer(name, T::A, Rcode::NOERROR, Kind::Referral(zone.as_name()));
    let nxdomain =
        |name, zone| answer(name, T::A, Rcode::NXDOMAIN, Kind::NxDomain(NameBuf::as_name(zone)));
    let alike: &[&[Answer<'_>]] = &[
        &[data(&a, T::A), data(&capitals, T::A)],
        &[data(&a, T::AAAA)],
        &[data(&b, T::A)],
        &[no_data(T::A), no_data(T::MX)],
        &[referral(&a), referral(&b)],
        &[nxdomain(&a, &zone), nxdomain(&b, &zone)],
        &[nxdomain(&a, &other_zone)],
        &[
            answer(&a, T::A, Rcode::SERVFAIL, Kind::Error),
            answer(&b, T::AAAA, Rcode::REFUSED, Kind::Error),
        ],
    ];
    let mut limits = limits(TEN);
    for network in ["192.0.2.", "192.0.3.", "2001:db8::", "2001:db8:0:100::"] {
        for answers in alike {
            for n in 0..10 {
                let client = udp(&format!("{network}{n}"));
                assert_eq!(
                    limits.answer(&client, &answers[n % answers.len()], at(0)),
                    Sending::Send
                );
            }
            for (n, answer) in answers.iter().enumerate() {
                let client = udp(&format!("{network}{}", 20 + n));
                assert_ne!(limits.answer(&client, answer, at(0)), Sending::Send, "{answer:?}");
            }
        }
    }
}

#[test]
fn who_has_proved_its_address_or_is_exempt_gets_every_answer() {
    let mut limits =
        limits(r#"{"response_rate_limit": {"per_second": 1, "exempt": ["10.0.0.0/8"]}}"#);
    let www = name("www.example");
    let data = answer(&www, T::A, Rcode::NOERROR, Kind::Data);
    for client in [
        over(Transport::Stream, "192.0.2.1"),
        over(Transport::UdpWithCookie, "192.0.2.1"),
        udp("10.0.0.1"),
    ] {
        for _ in 0..100 {
            assert_eq!(limits.answer(&client, &data, at(0)), Sending::Send);
        }
    }
    assert_eq!(limits.answer(&udp("192.0.2.1"), &data, at(0)), Sending::Send);
    assert_eq!(limits.answer(&udp("192.0.2.1"), &data, at(0)), Sending::Drop);
}

/// A response to `a.b.example`, type A, with a CNAME or not, and a record in the authority section.
fn response(rcode: Rcode, has_answer: bool, authority: Option<(&str, RecordData<'_>)>) -> Vec<u8> {
    let mut out = [0; 512];
    let mut builder = Builder::new(&mut out, 1, Flags::QR).unwrap();
    builder.set_rcode(rcode);
    let asked = name("a.b.example");
    let question = Question { name: asked.as_name(), record_type: T::A, class: Class::IN };
    builder.question(&question).unwrap();
    if has_answer {
        let data = RecordData::A([192, 0, 2, 1].into());
        builder.record(Section::Answer, asked.as_name(), Class::IN, 60, &data).unwrap();
    }
    if let Some((owner, data)) = authority {
        let owner = name(owner);
        builder.record(Section::Authority, owner.as_name(), Class::IN, 60, &data).unwrap();
    }
    let len = builder.finish().unwrap();
    out[..len].to_vec()
}

#[test]
fn a_message_says_what_kind_of_answer_it_is() {
    let zone = name("example");
    let soa = RecordData::Soa(Soa {
        mname: Name::ROOT,
        rname: Name::ROOT,
        serial: 1,
        refresh: 1,
        retry: 1,
        expire: 1,
        minimum: 1,
    });
    let ns = RecordData::Ns(Name::ROOT);
    let nearest = name("b.example");
    for (octets, rcode, kind) in [
        (response(Rcode::NOERROR, true, None), Rcode::NOERROR, Kind::Data),
        (response(Rcode::NOERROR, true, Some(("example", ns))), Rcode::NOERROR, Kind::Data),
        (response(Rcode::NOERROR, false, None), Rcode::NOERROR, Kind::NoData),
        (response(Rcode::NOERROR, false, Some(("example", soa))), Rcode::NOERROR, Kind::NoData),
        (
            response(Rcode::NOERROR, false, Some(("example", ns))),
            Rcode::NOERROR,
            Kind::Referral(zone.as_name()),
        ),
        (
            response(Rcode::NXDOMAIN, false, Some(("example", soa))),
            Rcode::NXDOMAIN,
            Kind::NxDomain(zone.as_name()),
        ),
        (
            response(Rcode::NXDOMAIN, false, None),
            Rcode::NXDOMAIN,
            Kind::NxDomain(nearest.as_name()),
        ),
        (response(Rcode::SERVFAIL, false, None), Rcode::SERVFAIL, Kind::Error),
    ] {
        let message: Message<'_> = decode(&octets).unwrap();
        let asked = name("a.b.example");
        assert_eq!(Answer::of(&message), answer(&asked, T::A, rcode, kind));
    }
    // Without a question: a header alone, FORMERR.
    let message = decode(b"\0\x01\x80\x01\0\0\0\0\0\0\0\0").unwrap();
    assert_eq!(Answer::of(&message), answer(&name("."), T(0), Rcode::FORMERR, Kind::Error));
}
