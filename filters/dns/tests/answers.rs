//! What the filter answers by itself: by rules, by its bounds, and to what is no query.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support::message::{Msg, a, framed, query, record, wire};
use crate::support::{ANNA, https, millis, seconds, tcp, udp};
use codec_dns::{Flags, InfoCode, Opcode, OptionCode, Rcode, RecordType, decode};

fn with_opcode(message: Msg, opcode: Opcode) -> Msg {
    Msg { flags: message.flags.with_opcode(opcode), ..message }
}

#[test]
fn each_answer_is_what_it_says() {
    for (answer, rcode, code) in [
        ("refuse", Rcode::REFUSED, Some(InfoCode::PROHIBITED)),
        ("notimp", Rcode::NOTIMP, None),
        ("nxdomain", Rcode::NXDOMAIN, Some(InfoCode::BLOCKED)),
    ] {
        let mut bench = udp(&format!(r#"{{"rules": [{{"answer": "{answer}"}}]}}"#));
        let anna = bench.client(ANNA);
        let question = a(7, "wWw.example").edns(1232);
        let got = bench.refused(anna, &question);
        assert_eq!((got.id, got.rcode(), got.name()), (7, rcode, "wWw.example."));
        assert!(got.has(Flags::QR.with(Flags::RD).with(Flags::RA)));
        assert_eq!(got.errors().first().map(|(code, _)| *code), code);
        let plain = bench.refused(anna, &a(8, "www.example"));
        assert_eq!(plain, a(8, "www.example").reply(rcode));
        assert_eq!(bench.counter("dns_ruled_total", &[("answer", answer)]), 2);
        assert_eq!(bench.counter("dns_answers_total", &[("rcode", rcode.label())]), 2);
        assert!(bench.streams().is_empty());
    }
}

#[test]
fn a_dropped_query_gets_no_answer() {
    let mut bench = udp(r#"{"rules": [{"answer": "drop"}]}"#);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(7, "www.example"));
    bench.pass(seconds(10));
    bench.got_nothing(anna);
    assert!(bench.streams().is_empty());
}

#[test]
fn truncate_sends_a_client_to_tcp_where_it_is_answered() {
    const JSON: &str = r#"{"rules": [{"types": ["ANY"], "answer": "truncate"}]}"#;
    let question = query(7, "www.example", RecordType::ANY);
    let mut bench = udp(JSON);
    let anna = bench.client(ANNA);
    let got = bench.refused(anna, &question);
    assert!(got.has(Flags::TC) && got.rcode() == Rcode::NOERROR && got.records[0].is_empty());
    let mut bench = tcp(JSON);
    assert_eq!(bench.exchange(&question, |asked| asked.address(300, 1)).ttls(), [300]);
    let mut bench = https(JSON);
    assert_eq!(bench.exchange(&question, |asked| asked.address(300, 1)).ttls(), [300]);
}

#[test]
fn a_minimal_answer_to_any_says_as_little_as_possible() {
    let mut bench = udp(r#"{"rules": [{"types": ["ANY"], "answer": "minimal"}]}"#);
    let anna = bench.client(ANNA);
    let question = query(7, "www.example", RecordType::ANY);
    let got = bench.refused(anna, &question);
    let hinfo = record("www.example", RecordType::HINFO, 3600, b"\x07RFC8482\x00");
    assert_eq!(got, question.reply(Rcode::NOERROR).answer(hinfo));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let mut bench = udp(r#"{"rules": [
            {"zones": ["a.example"], "types": ["A", "TYPE65280"], "answer": "notimp"},
            {"zones": ["example", "test"], "classes": ["CH"], "answer": "refuse"},
            {"zones": ["a.example"], "carry": "flow"},
            {"zones": ["example"], "answer": "nxdomain"}]}"#);
    let anna = bench.client(ANNA);
    for (question, rcode) in [
        (a(1, "x.A.example"), Rcode::NOTIMP),
        (query(1, "a.example", RecordType(65_280)), Rcode::NOTIMP),
        (query(1, "a.example", RecordType::MX).class(3), Rcode::REFUSED),
        (a(1, "b.test").class(3), Rcode::REFUSED),
        (a(1, "b.example"), Rcode::NXDOMAIN),
    ] {
        assert_eq!(bench.refused(anna, &question).rcode(), rcode, "{question:?}");
    }
    for question in [query(1, "a.example", RecordType::MX), a(1, "b.test"), a(1, "aexample")] {
        let got = bench.exchange(anna, &question, |asked| asked.reply(Rcode::NOERROR));
        assert_eq!(got.rcode(), Rcode::NOERROR);
    }
}

#[test]
fn only_queries_travel_unless_a_rule_says_otherwise() {
    let mut bench = udp(r#"{"rules": [{"opcodes": ["update", "9"], "carry": "flow"}]}"#);
    let anna = bench.client(ANNA);
    for opcode in [Opcode::IQUERY, Opcode::STATUS, Opcode::NOTIFY, Opcode(3), Opcode(15)] {
        let question = with_opcode(a(1, "www.example"), opcode);
        let got = bench.refused(anna, &question);
        assert_eq!((got.rcode(), got.flags.opcode()), (Rcode::NOTIMP, opcode));
    }
    for opcode in [Opcode::UPDATE, Opcode(9)] {
        let question = with_opcode(query(1, "example", RecordType::SOA), opcode);
        let got = bench.exchange(anna, &question, |asked| asked.reply(Rcode::NOERROR));
        assert_eq!((got.rcode(), got.flags.opcode()), (Rcode::NOERROR, opcode));
    }
}

#[test]
fn what_comes_above_the_bound_is_answered_at_once() {
    let mut bench = udp(r#"{"max_outstanding": 3}"#);
    let anna = bench.client(ANNA);
    let queries: Vec<_> = (0..5).map(|id| a(id, "www.example").edns(1232)).collect();
    bench.ask_all(anna, &queries);
    let asked = bench.servers_got();
    assert_eq!(asked.len(), 3);
    let got = bench.got(anna);
    assert_eq!(got.len(), 2);
    let text = "too many queries at once".to_owned();
    for got in got {
        assert_eq!(got.rcode(), Rcode::SERVFAIL);
        assert_eq!(got.errors(), [(InfoCode::OTHER, text.clone())]);
    }
    assert_eq!(bench.limited("max_outstanding", "servfail"), 2);
    let (flow, query) = &asked[0];
    bench.server(*flow, &query.address(300, 1));
    bench.ask(anna, &a(9, "www.example"));
    assert_eq!(bench.gauge("dns_outstanding"), 3);
    assert_eq!(bench.servers_got().len(), 1);
}

// What is no query.

/// A message with these counts, and these octets behind its header.
fn raw(flags: u16, counts: [u16; 4], body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0x12, 0x34];
    octets.extend(flags.to_be_bytes());
    octets.extend(counts.map(u16::to_be_bytes).as_flattened());
    octets.extend(body);
    octets
}

/// A query with a record whose RDATA is a chain of pointers, each to the one before, and others whose names
/// are the links with these indices.
fn chain(links: u16, names: &[u16]) -> Vec<u8> {
    let pointer = |to: u16| (0xc000 | to).to_be_bytes();
    let link = |index| if index == 0 { pointer(12) } else { pointer(28 + 2 * (index - 1)) };
    let mut body = b"\x00\x00\x01\x00\x01\x00\x00\x0a\x00\x01\x00\x00\x00\x00".to_vec();
    body.extend((2 * links).to_be_bytes());
    body.extend((0..links).flat_map(link));
    for index in names {
        body.extend(pointer(28 + 2 * index));
        body.extend(b"\x00\x01\x00\x01\x00\x00\x00\x00\x00\x041234");
    }
    raw(0x0100, [1, 1 + names.len() as u16, 0, 0], &body)
}

/// Messages that are none, by what is wrong with them.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let question = b"\x01a\x00\x00\x01\x00\x01".to_vec();
    let one = [1, 0, 0, 0];
    let with = |record: &[u8], counts| raw(0x0100, counts, &[&*question, record].concat());
    let opt = |class: &[u8], rdata: &[u8]| {
        let len = (rdata.len() as u16).to_be_bytes();
        [b"\x00\x00\x29", class, &[0, 0, 0, 0], &len, rdata].concat()
    };
    let in_additional = [1, 0, 0, 1];
    let long_name = [vec![63; 1], vec![b'x'; 63]].concat().repeat(4);
    let tsig = b"\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x00".to_vec();
    vec![
        ("stateful", raw(0x3000, [0; 4], b"")),
        ("too_many_questions", raw(0x0100, [2, 0, 0, 0], &question.repeat(2))),
        ("section_truncated", raw(0x0100, one, b"")),
        ("section_truncated", raw(0x0100, one, b"\x01a\x00\x00\x01\x00")),
        ("section_truncated", with(b"", in_additional)),
        ("trailing_octets", with(b"x", one)),
        ("name_truncated", raw(0x0100, one, b"\x05ab")),
        ("name_too_long", raw(0x0100, one, &[&*long_name, b"\x00\x00\x01\x00\x01"].concat())),
        ("label_type", raw(0x0100, one, b"\x41a\x00\x00\x01\x00\x01")),
        ("pointer_not_backwards", raw(0x0100, one, b"\xc0\x0c\x00\x01\x00\x01")),
        ("too_many_pointers", chain(127, &[126])),
        ("too_many_nested_pointers", chain(127, &[125, 125, 62])),
        ("rdata", with(b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x03abc", in_additional)),
        ("opt_misplaced", with(&opt(b"\x04\xd0", b""), [1, 1, 0, 0])),
        ("opt_repeated", with(&opt(b"\x04\xd0", b"").repeat(2), [1, 0, 0, 2])),
        ("opt_name", with(&[b"\x01a", &*opt(b"\x04\xd0", b"")].concat(), in_additional)),
        ("option_truncated", with(&opt(b"\x04\xd0", b"\x00\x0a\x00\x09xx"), in_additional)),
        ("option_format", with(&opt(b"\x04\xd0", b"\x00\x0a\x00\x03abc"), in_additional)),
        ("tsig_misplaced", with(&[&*tsig, &opt(b"\x04\xd0", b"")].concat(), [1, 0, 0, 2])),
        (
            "pointer_not_allowed",
            with(b"\x00\x00\x40\x00\x01\x00\x00\x00\x00\x00\x04\x00\x01\xc0\x0c", in_additional),
        ),
    ]
}

#[test]
fn what_is_malformed_gets_formerr_or_notimp_and_is_never_forwarded() {
    for (kind, octets) in malformed() {
        assert_eq!(decode(&octets).map(|_| ()).map_err(|error| error.label()), Err(kind));
        let mut bench = udp("{}");
        let anna = bench.client(ANNA);
        bench.datagram(anna, &octets);
        let got = bench.got_one(anna);
        let rcode = if kind == "stateful" { Rcode::NOTIMP } else { Rcode::FORMERR };
        // Nothing but a header.
        assert_eq!((got.id, got.rcode(), got.octets().len()), (0x1234, rcode, 12), "{kind}");
        assert_eq!(bench.decode_errors(kind), 1);
        assert!(bench.streams().is_empty());

        let mut bench = tcp("{}");
        bench.message(&octets);
        assert_eq!(bench.got_one().rcode(), rcode, "{kind}");
        assert!(!bench.is_closed());

        let mut bench = udp(r#"{"malformed": "drop"}"#);
        let anna = bench.client(ANNA);
        bench.datagram(anna, &octets);
        bench.got_nothing(anna);
        assert_eq!(bench.decode_errors(kind), 1);
    }
}

#[test]
fn what_is_malformed_with_another_opcode_gets_notimp() {
    for (opcode, rcode) in [
        (Opcode::QUERY, Rcode::FORMERR),
        (Opcode::NOTIFY, Rcode::FORMERR),
        (Opcode::UPDATE, Rcode::FORMERR),
        (Opcode::STATUS, Rcode::NOTIMP),
        (Opcode(15), Rcode::NOTIMP),
    ] {
        let mut bench = udp("{}");
        let anna = bench.client(ANNA);
        let mut octets = with_opcode(a(7, "www.example"), opcode).octets();
        octets.push(0);
        bench.datagram(anna, &octets);
        assert_eq!(bench.got_one(anna).rcode(), rcode);
    }
}

#[test]
fn what_has_no_header_and_what_is_a_response_gets_silence() {
    let mut response = a(1, "www.example").address(300, 1).octets();
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    for octets in [&b""[..], b"x", &response[..11], &response] {
        bench.datagram(anna, octets);
    }
    // A malformed one, too: two servers must not answer each other's errors.
    response.push(0);
    bench.datagram(anna, &response);
    bench.got_nothing(anna);
    assert!(bench.streams().is_empty());
    assert_eq!(bench.decode_errors("header_truncated"), 3);
    assert_eq!(bench.decode_errors("response"), 1);
    assert_eq!(bench.decode_errors("trailing_octets"), 1);
    let mut bench = tcp("{}");
    bench.octets(&[framed(&response), a(2, "www.example").framed()].concat());
    bench.server_answers();
    assert_eq!(bench.got_one().id, 2);
    // Who says that a message has no header knows not what a message is.
    bench.octets(&framed(b""));
    assert!(bench.is_closed());
}

#[test]
fn a_query_without_a_question_gets_formerr() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    for (opcode, rcode) in [(Opcode::QUERY, Rcode::FORMERR), (Opcode::STATUS, Rcode::NOTIMP)] {
        let question = with_opcode(Msg { questions: Vec::new(), ..a(1, "x") }, opcode);
        assert_eq!(bench.refused(anna, &question).rcode(), rcode);
    }
    assert_eq!(bench.decode_errors("no_question"), 2);
}

#[test]
fn a_query_with_records_is_a_query() {
    // An IXFR has an SOA record, and who knows what else there is.
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let question = a(1, "www.example")
        .answer(record("x", RecordType::A, 1, &[1, 2, 3, 4]))
        .authority(record("y", RecordType(65_280), 1, &wire("z")));
    bench.ask(anna, &question);
    let (_, asked) = bench.asked_one();
    assert_eq!(asked.with_id(1), question);
}

#[test]
fn octets_and_answers_are_counted() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let question = a(1, "www.example").opt(OptionCode(65_001), b"x");
    bench.ask(anna, &question);
    bench.pass(millis(250));
    let (flow, asked) = bench.asked_one();
    let answer = asked.address(300, 1);
    bench.server(flow, &answer);
    let bytes = |direction| bench.counter("dns_bytes_total", &[("direction", direction)]);
    assert_eq!(bytes("from_client"), question.octets().len() as i64);
    assert_eq!(bytes("to_client"), answer.octets().len() as i64);
    assert_eq!(bench.counter("dns_answers_total", &[("rcode", "noerror")]), 1);
    let mut took = Vec::new();
    bench.registry.changes(|change| {
        if change.name() == "dns_answer_microseconds.carry=flow" {
            took = change.take_values();
        }
    });
    assert_eq!(took, [250_000]);
}
