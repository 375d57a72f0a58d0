//! EDNS (RFC 6891): whose OPT record is whose, cookies, and client subnets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use crate::support::message::{Edns, Msg, a, query};
use crate::support::{ANNA, BERT, https, seconds, tcp, udp};
use codec_dns::{Flags, InfoCode, OptionCode, Rcode, RecordType};

const NSID: OptionCode = OptionCode::NSID;
const COOKIE: OptionCode = OptionCode::COOKIE;
const SUBNET: OptionCode = OptionCode::CLIENT_SUBNET;

#[test]
fn who_sends_no_opt_record_gets_none() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let got = bench.exchange(anna, &a(1, "www.example"), |asked| {
        assert_eq!(asked.edns, None);
        asked.address(300, 1).edns(4096).opt(NSID, b"server")
    });
    assert_eq!(got, a(1, "www.example").address(300, 1));
    // There is no place for the upper bits of a response code then.
    let got = bench.exchange(anna, &a(2, "www.example"), |asked| {
        asked.reply(Rcode::NOERROR).edns(4096).rcode_is(Rcode::BADCOOKIE)
    });
    assert_eq!(got, a(2, "www.example").reply(Rcode::SERVFAIL));
}

#[test]
fn who_sends_an_opt_record_gets_one() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let question = a(1, "www.example").edns(4096).dnssec();
    let got = bench.exchange(anna, &question, |asked| Msg { edns: None, ..asked.address(300, 1) });
    let edns = Edns { size: 1232, version: 0, flags: 0x8000, options: Vec::new() };
    assert_eq!(got.edns, Some(edns));
    assert_eq!(got.records, question.address(300, 1).records);
}

#[test]
fn options_pass_both_ways_but_for_those_about_one_connection() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let unknown = OptionCode(65_001);
    let question = a(1, "www.example").edns(1232).dnssec().opt(NSID, b"").opt(unknown, b"x");
    let hop = |message: Msg| {
        message.opt(OptionCode::PADDING, &[0; 10]).opt(OptionCode::TCP_KEEPALIVE, b"")
    };
    let got = bench.exchange(anna, &hop(question.clone()), |asked| {
        assert_eq!(asked.edns, question.edns);
        let answer = asked.address(300, 1).error(InfoCode::DNSSEC_BOGUS, "oh").opt(unknown, b"y");
        answer.opt(OptionCode::PADDING, &[0; 10]).opt(OptionCode::TCP_KEEPALIVE, &[1, 0])
    });
    let codes: Vec<_> = got.edns.as_ref().unwrap().options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [OptionCode::EXTENDED_ERROR, unknown]);
    assert_eq!(got.errors(), [(InfoCode::DNSSEC_BOGUS, "oh".to_owned())]);
    assert_eq!(got.edns.as_ref().unwrap().flags, 0x8000);
}

#[test]
fn do_passes_both_ways() {
    for is_do in [false, true] {
        let mut bench = udp("{}");
        let anna = bench.client(ANNA);
        let question = a(1, "www.example").edns(1232);
        let question = if is_do { question.dnssec() } else { question };
        let got = bench.exchange(anna, &question, |asked| {
            assert_eq!(asked.edns.as_ref().unwrap().flags, question.edns.as_ref().unwrap().flags);
            asked.address(300, 1)
        });
        assert_eq!(got.edns.unwrap().flags & 0x8000 != 0, is_do);
    }
}

#[test]
fn another_version_of_edns_gets_badvers() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let mut question = a(1, "www.example").edns(4096);
    question.edns.as_mut().unwrap().version = 1;
    let got = bench.refused(anna, &question);
    assert_eq!((got.rcode(), got.name()), (Rcode::BADVERS, "www.example."));
    let edns = got.edns.unwrap();
    assert_eq!((edns.version, edns.size), (0, 1232));
}

#[test]
fn many_options_do_no_harm() {
    let mut bench = udp(r#"{"client_subnet": {"action": "replace"}}"#);
    let anna = bench.client(ANNA);
    let many = |message: Msg| (0..100).fold(message, |to, n| to.opt(OptionCode(60_000 + n), b"x"));
    let got = bench.exchange(anna, &many(a(1, "www.example").edns(1232)), |asked| {
        assert_eq!(asked.option(SUBNET), Some(&[0, 1, 24, 0, 192, 0, 2][..]));
        many(asked.address(300, 1))
    });
    assert_eq!(got.ttls(), [300]);
}

// Cookies (RFC 7873).

const COOKIES: &str =
    r#"{"linger": "60s", "cookies": {"secrets": ["e5e973e5a6b2a43f48e7dc849e37bfcf"]}}"#;
const REQUIRED: &str = r#"{"linger": "60s", "cookies": {"require": true}}"#;
const MINE: &[u8] = b"client-1";

#[test]
fn cookies_are_between_clients_and_servers_unless_configured() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let got = bench.exchange(anna, &a(1, "www.example").opt(COOKIE, MINE), |asked| {
        assert_eq!(asked.option(COOKIE), Some(MINE));
        asked.address(300, 1).opt(COOKIE, b"client-1server-1")
    });
    assert_eq!(got.option(COOKIE), Some(&b"client-1server-1"[..]));
}

#[test]
fn a_client_gets_a_cookie_of_the_filter_and_servers_see_none() {
    let mut bench = udp(COOKIES);
    let anna = bench.client(ANNA);
    let answer = |asked: &Msg| {
        assert_eq!(asked.option(COOKIE), None);
        asked.address(300, 1).opt(COOKIE, b"client-1of a server")
    };
    let got = bench.exchange(anna, &a(1, "www.example").opt(COOKIE, MINE), answer);
    let cookie = got.option(COOKIE).unwrap().to_vec();
    assert_eq!((&cookie[..8], cookie.len()), (MINE, 24));
    // It stays the same as long as it is good.
    let got = bench.exchange(anna, &a(2, "www.example").opt(COOKIE, &cookie), answer);
    assert_eq!(got.option(COOKIE), Some(&*cookie));
    // It is for this address.
    let bert = bench.client(BERT);
    let got = bench.exchange(bert, &a(3, "www.example").opt(COOKIE, &cookie), answer);
    assert_ne!(got.option(COOKIE), Some(&*cookie));
    assert_eq!(got.option(COOKIE).map(<[u8]>::len), Some(24));
    // And who sends none gets none.
    let got = bench.exchange(anna, &a(4, "www.example").edns(1232), answer);
    assert_eq!(got.option(COOKIE), None);
    let count = |verdict| bench.counter("dns_cookies_total", &[("verdict", verdict)]);
    assert_eq!((count("client_only"), count("valid"), count("invalid")), (1, 1, 1));
}

#[test]
fn a_cookie_that_is_old_is_replaced() {
    let mut bench = udp(COOKIES);
    let anna = bench.client(ANNA);
    let answer = |asked: &Msg| asked.address(300, 1);
    let got = bench.exchange(anna, &a(1, "www.example").opt(COOKIE, MINE), answer);
    let cookie = got.option(COOKIE).unwrap().to_vec();
    bench.pass(seconds(1900));
    let anna = bench.client(ANNA);
    let got = bench.exchange(anna, &a(2, "www.example").opt(COOKIE, &cookie), answer);
    let newer = got.option(COOKIE).unwrap().to_vec();
    assert_ne!(newer, cookie);
    bench.pass(seconds(1801));
    let anna = bench.client(ANNA);
    bench.exchange(anna, &a(3, "www.example").opt(COOKIE, &cookie), answer);
    let count = |verdict| bench.counter("dns_cookies_total", &[("verdict", verdict)]);
    assert_eq!((count("renew"), count("invalid")), (1, 1));
}

#[test]
fn what_the_filter_says_itself_has_the_cookie_too() {
    let mut bench = udp(COOKIES);
    let anna = bench.client(ANNA);
    let got = bench.refused(anna, &query(1, "x", RecordType::AXFR).opt(COOKIE, MINE));
    assert_eq!(got.rcode(), Rcode::REFUSED);
    assert_eq!(got.option(COOKIE).map(|cookie| (&cookie[..8], cookie.len())), Some((MINE, 24)));
    // A question for a cookie alone (RFC 7873 §5.4).
    let empty = Msg { questions: Vec::new(), ..a(2, "x").opt(COOKIE, MINE) };
    let got = bench.refused(anna, &empty);
    assert_eq!((got.rcode(), got.option(COOKIE).map(<[u8]>::len)), (Rcode::NOERROR, Some(24)));
}

#[test]
fn where_cookies_are_required_a_query_without_a_valid_one_is_never_forwarded() {
    let mut bench = udp(REQUIRED);
    let anna = bench.client(ANNA);
    let got = bench.refused(anna, &a(1, "www.example"));
    assert!(got.has(Flags::TC) && got.rcode() == Rcode::NOERROR);
    let got = bench.refused(anna, &a(2, "www.example").edns(1232));
    assert!(got.has(Flags::TC));
    let got = bench.refused(anna, &a(3, "www.example").opt(COOKIE, MINE));
    assert_eq!(got.rcode(), Rcode::BADCOOKIE);
    let cookie = got.option(COOKIE).unwrap().to_vec();
    let mut forged = cookie.clone();
    forged[20] ^= 1;
    let got = bench.refused(anna, &a(4, "www.example").opt(COOKIE, &forged));
    assert_eq!(got.rcode(), Rcode::BADCOOKIE);
    let question = a(5, "www.example").opt(COOKIE, &cookie);
    let got = bench.exchange(anna, &question, |asked| asked.address(300, 1));
    assert_eq!((got.rcode(), got.ttls()), (Rcode::NOERROR, vec![300]));
}

#[test]
fn over_tcp_no_cookie_is_required() {
    let mut bench = tcp(r#"{"cookies": {"require": true}}"#);
    let got = bench.exchange(&a(1, "www.example"), |asked| asked.address(300, 1));
    assert_eq!(got, a(1, "www.example").address(300, 1));
    let got = bench.exchange(&a(1, "www.example").opt(COOKIE, MINE), |asked| asked.address(300, 1));
    assert_eq!(got.option(COOKIE).map(<[u8]>::len), Some(24));
}

// Client subnets (RFC 7871).

fn subnets(action: &str) -> String {
    format!(r#"{{"linger": "60s", "client_subnet": {{"action": "{action}"}}}}"#)
}

/// What the server gets of a client's subnet, and the client of the server's answer to it.
fn subnet(json: &str, address: &str, sent: Option<[u8; 3]>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let mut bench = udp(json);
    let anna = bench.client(address);
    let question = a(1, "www.example").edns(1232);
    let question = match sent {
        Some(sent) => question.subnet(sent, 0),
        None => question,
    };
    bench.ask(anna, &question);
    let (flow, asked) = bench.asked_one();
    let told = asked.option(SUBNET).map(<[u8]>::to_vec);
    let answer = asked.address(300, 1);
    let answer = match &told {
        Some(told) => {
            let mut scoped = told.clone();
            scoped[3] = 20;
            answer.opt(SUBNET, &scoped)
        }
        None => answer,
    };
    bench.server(flow, &answer);
    (told, bench.got_one(anna).option(SUBNET).map(<[u8]>::to_vec))
}

#[test]
fn a_client_subnet_passes_both_ways() {
    let json = subnets("pass");
    assert_eq!(subnet(&json, ANNA, None), (None, None));
    let (told, got) = subnet(&json, ANNA, Some([10, 1, 2]));
    assert_eq!(told.as_deref(), Some(&[0, 1, 24, 0, 10, 1, 2][..]));
    assert_eq!(got.as_deref(), Some(&[0, 1, 24, 20, 10, 1, 2][..]));
}

#[test]
fn a_client_subnet_is_taken_out() {
    let json = subnets("strip");
    assert_eq!(subnet(&json, ANNA, None), (None, None));
    assert_eq!(subnet(&json, ANNA, Some([10, 1, 2])), (None, None));
}

#[test]
fn the_network_of_the_client_is_put_in_its_place() {
    let json = subnets("replace");
    let own = Some(vec![0, 1, 24, 0, 192, 0, 2]);
    assert_eq!(subnet(&json, ANNA, None), (own.clone(), None));
    assert_eq!(subnet(&json, ANNA, Some([10, 1, 2])), (own, None));
    let own = Some(vec![0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 1, 0]);
    assert_eq!(subnet(&json, "[2001:db8:1:ff::7]:53", None), (own, None));
    // Nobody knows where it comes from: nothing is told.
    assert_eq!(subnet(&json, "somewhere", Some([10, 1, 2])), (None, None));
    let json = r#"{"client_subnet": {"action": "replace", "ipv4_prefix": 16}}"#;
    assert_eq!(subnet(json, ANNA, None), (Some(vec![0, 1, 16, 0, 192, 0]), None));
}

#[test]
fn the_network_of_the_client_is_added_where_there_is_none() {
    let json = subnets("add");
    let own = Some(vec![0, 1, 24, 0, 192, 0, 2]);
    assert_eq!(subnet(&json, ANNA, None), (own, None));
    // One that it sends itself stays.
    let (told, _) = subnet(&json, ANNA, Some([10, 1, 2]));
    assert_eq!(told.as_deref(), Some(&[0, 1, 24, 0, 10, 1, 2][..]));
}

#[test]
fn a_subnet_that_a_client_sends_is_between_client_and_server() {
    let json = subnets("add");
    let (told, got) = subnet(&json, ANNA, Some([10, 1, 2]));
    assert_eq!(told.as_deref(), Some(&[0, 1, 24, 0, 10, 1, 2][..]));
    assert_eq!(got.as_deref(), Some(&[0, 1, 24, 20, 10, 1, 2][..]));
}

#[test]
fn a_subnet_is_added_to_who_speaks_no_edns_and_gets_none() {
    let mut bench = udp(&subnets("add"));
    let anna = bench.client(ANNA);
    let got = bench.exchange(anna, &a(1, "www.example"), |asked| {
        assert_eq!(asked.edns.as_ref().unwrap().size, 1232);
        assert_eq!(asked.option(SUBNET), Some(&[0, 1, 24, 0, 192, 0, 2][..]));
        asked.address(300, 1).opt(SUBNET, &[0, 1, 24, 24, 192, 0, 2])
    });
    assert_eq!(got, a(1, "www.example").address(300, 1));
}

#[test]
fn an_answer_with_edns_is_truncated_for_who_speaks_none_only_if_it_does_not_fit_without() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let question = query(1, "www.example", RecordType::TXT);
    let got = bench.exchange(anna, &question, |asked| asked.text_up_to(512).edns(1232));
    assert_eq!(got, question.text_up_to(512));
}

#[test]
fn over_https_the_subnet_is_that_of_the_client() {
    let mut bench = https(&subnets("replace"));
    bench.post(&a(1, "www.example"));
    let (_, asked) = bench.asked_one();
    assert_eq!(asked.option(SUBNET), Some(&[0, 1, 24, 0, 192, 0, 2][..]));
}
