//! Flows: streams that many clients' queries travel in, each with an ID of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::collections::HashSet;

use crate::support;
use crate::support::message::{a, query, wire};
use crate::support::native::capsule;
use crate::support::{ANNA, BERT, LIMITS, Worker, millis, seconds, tcp, udp};
use bridge::Ended;
use codec_dns::{InfoCode, Rcode, RecordType};

/// RST_STREAM with CANCEL.
const CANCELLED: Option<Ended> = Some(Ended::Reset(8));

#[test]
fn a_flow_says_what_it_is() {
    let mut bench = udp(r#"{"authority": "resolver.example:53"}"#);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    let stream = &bench.streams()[0];
    assert_eq!((&*stream.method, &*stream.path), ("POST", "/dns-query"));
    assert_eq!(stream.authority, "resolver.example:53");
    assert_eq!(
        stream.all_headers(),
        ["capsule-protocol: ?1", "x-carry: flow", "x-dns-transport: udp", "x-protocol: dns"]
    );
    assert_eq!(bench.gauge("dns_flows_active"), 1);
}

#[test]
fn a_flow_over_tcp_has_no_capsules() {
    let mut bench = udp(r#"{"upstream": "tcp"}"#);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    let stream = &bench.streams()[0];
    assert_eq!(stream.all_headers(), ["x-carry: flow", "x-dns-transport: tcp", "x-protocol: dns"]);
    let (flow, asked) = bench.asked_one();
    // In pieces, as a stream has them.
    for octet in asked.address(300, 7).framed() {
        bench.content(flow, &[octet]);
    }
    assert_eq!(bench.got_one(anna), a(1, "www.example").address(300, 7));
}

#[test]
fn clients_share_a_flow_and_each_gets_its_own_answer() {
    let mut bench = udp(r#"{"max_flows": 1}"#);
    let (anna, bert) = (bench.client(ANNA), bench.client(BERT));
    // The same ID and the same question.
    bench.ask(anna, &a(7, "www.example"));
    bench.ask(bert, &a(7, "www.example"));
    bench.ask(bert, &a(8, "other.example"));
    assert_eq!(bench.flows(), ["dns"]);
    let asked = bench.server_got(0);
    for (last, query) in asked.iter().enumerate().rev() {
        bench.server(0, &query.address(300, last as u8));
    }
    assert_eq!(bench.got(anna), [a(7, "www.example").address(300, 0)]);
    let to_bert = [a(8, "other.example").address(300, 2), a(7, "www.example").address(300, 1)];
    assert_eq!(bench.got(bert), to_bert);
    assert_eq!(bench.gauge("dns_outstanding"), 0);
}

#[test]
fn ids_are_other_ones_and_hard_to_guess() {
    let mut bench = udp(r#"{"max_flows": 1}"#);
    let anna = bench.client(ANNA);
    let queries: Vec<_> = (0..500).map(|id| a(id, "www.example")).collect();
    bench.ask_all(anna, &queries);
    let ids: Vec<u16> = bench.server_got(0).iter().map(|query| query.id).collect();
    assert_eq!(ids.len(), 500);
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 500, "an ID is used twice");
    let steps = ids.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect::<HashSet<_>>();
    assert!(steps.len() > 450, "the steps between IDs are few: {}", steps.len());
    // As many in each quarter as chance has it.
    for quarter in 0..4 {
        let count = ids.iter().filter(|id| *id >> 14 == quarter).count();
        assert!((70..180).contains(&count), "{count} in quarter {quarter}");
    }
}

#[test]
fn a_query_is_the_same_but_for_its_id() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let query = query(0x1234, "wWw.ExAmPlE", RecordType(65_280)).edns(1232).dnssec().class(3);
    bench.ask(anna, &query);
    let (flow, asked) = bench.asked_one();
    assert_eq!(asked.clone().with_id(0x1234), query);
    let answer = asked.reply(Rcode::NOERROR);
    bench.server(flow, &answer);
    assert_eq!(bench.got_one(anna), answer.with_id(0x1234));
}

#[test]
fn an_answer_may_have_its_question_in_another_case() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "wWw.ExAmPlE"));
    let (flow, asked) = bench.asked_one();
    assert_eq!(asked.name(), "wWw.ExAmPlE.");
    bench.server(flow, &a(asked.id, "www.example").address(300, 1));
    let got = bench.got_one(anna);
    assert_eq!((got.id, got.ttls()), (1, vec![300]));
}

#[test]
fn what_is_no_answer_to_the_query_is_ignored() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    let (flow, asked) = bench.asked_one();
    let answer = asked.address(300, 66);
    let forged = [
        answer.clone().with_id(asked.id.wrapping_add(1)),
        a(asked.id, "ww.example").address(300, 66),
        query(asked.id, "www.example", RecordType::AAAA).address(300, 66),
        a(asked.id, "www.example").class(3).address(300, 66),
        // No question, and yet no error.
        support::message::Msg { questions: Vec::new(), ..asked.reply(Rcode::NOERROR) },
        // A query.
        asked.clone(),
    ];
    for forged in &forged {
        bench.server(flow, forged);
        bench.got_nothing(anna);
    }
    assert_eq!(bench.counter("dns_unmatched_total", &[]), forged.len() as i64);
    bench.server(flow, &asked.address(300, 1));
    assert_eq!(bench.got_one(anna), a(1, "www.example").address(300, 1));
}

#[test]
fn an_answer_comes_from_the_flow_that_was_asked() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "a.example"));
    bench.ask(anna, &a(2, "b.example"));
    let asked = bench.servers_got();
    let [(first, one), (second, two)] = &asked[..] else { panic!("{asked:?}") };
    assert_ne!(first, second);
    bench.server(*second, &one.address(300, 66));
    bench.server(*first, &two.address(300, 66));
    bench.got_nothing(anna);
    bench.server(*first, &one.address(300, 1));
    assert_eq!(bench.got_one(anna).id, 1);
}

#[test]
fn a_second_answer_and_a_late_one_go_nowhere() {
    let mut bench = udp(r#"{"retry_after": "0s", "linger": "60s"}"#);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "a.example"));
    let (flow, asked) = bench.asked_one();
    bench.server(flow, &asked.address(300, 1));
    bench.server(flow, &asked.address(300, 2));
    assert_eq!(bench.got_one(anna), a(1, "a.example").address(300, 1));
    bench.ask(anna, &a(2, "b.example"));
    let (flow, asked) = bench.asked_one();
    bench.pass(seconds(5));
    assert_eq!(bench.got_one(anna).rcode(), Rcode::SERVFAIL);
    bench.server(flow, &asked.address(300, 1));
    bench.got_nothing(anna);
    assert_eq!(bench.counter("dns_unmatched_total", &[]), 2);
    assert_eq!(bench.counter("dns_timeouts_total", &[]), 1);
}

#[test]
fn an_error_may_come_without_a_question() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let got = bench.exchange(anna, &a(1, "www.example"), |asked| support::message::Msg {
        questions: Vec::new(),
        ..asked.reply(Rcode::FORMERR)
    });
    assert_eq!((got.id, got.rcode()), (1, Rcode::FORMERR));
}

#[test]
fn a_malformed_answer_is_not_passed_on() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example").edns(1232));
    let (flow, asked) = bench.asked_one();
    let mut octets = asked.address(300, 1).octets();
    octets.push(0);
    bench.server_octets(flow, &octets);
    assert_eq!(bench.server_errors("trailing_octets"), 1);
    bench.server_octets(flow, b"short");
    assert_eq!(bench.server_errors("header_truncated"), 1);
    // Anybody may have sent it: the answer itself may still come.
    bench.server(flow, &asked.address(300, 1));
    assert_eq!(bench.got_one(anna).rcode(), Rcode::NOERROR);
    // Other queries go on in the flow.
    let got = bench.exchange(anna, &a(2, "www.example"), |asked| asked.address(300, 1));
    assert_eq!(got.rcode(), Rcode::NOERROR);
    assert_eq!(bench.flows().len(), 1);
}

#[test]
fn over_tcp_a_malformed_answer_is_a_failure() {
    let mut bench = tcp("{}");
    bench.ask(&a(1, "www.example").edns(1232));
    let (flow, asked) = bench.asked_one();
    let mut octets = asked.address(300, 1).octets();
    octets.push(0);
    bench.server_octets(flow, &octets);
    let got = bench.got_one();
    assert_eq!(got.rcode(), Rcode::SERVFAIL);
    assert_eq!(got.errors(), [(InfoCode::NETWORK_ERROR, "malformed answer".to_owned())]);
}

// How many flows.

#[test]
fn there_are_so_many_flows_at_most_and_queries_are_spread_over_them() {
    let mut bench = udp(r#"{"max_flows": 3}"#);
    let anna = bench.client(ANNA);
    for id in 0..30 {
        bench.ask(anna, &a(id, "www.example"));
    }
    assert_eq!(bench.flows(), ["dns", "dns", "dns"]);
    for flow in 0..3 {
        let count = bench.server_got(flow).len();
        assert!((5..=15).contains(&count), "{count} of 30 in flow {flow}");
    }
    assert_eq!(bench.gauge("dns_flows_active"), 3);
}

#[test]
fn a_flow_that_waits_for_nothing_is_enough() {
    let mut bench = udp(r#"{"max_flows": 3}"#);
    let anna = bench.client(ANNA);
    for id in 0..30 {
        bench.exchange(anna, &a(id, "www.example"), |asked| asked.address(300, 1));
    }
    assert_eq!(bench.flows(), ["dns"]);
}

#[test]
fn with_the_client_as_key_flows_are_not_shared_and_say_whose_they_are() {
    let mut bench = udp(r#"{"flow_key": "client", "max_flows": 1}"#);
    let (anna, bert) = (bench.client(ANNA), bench.client("[2001:db8::7]:53"));
    let other_port = bench.client("192.0.2.1:9");
    bench.ask(anna, &a(1, "www.example"));
    bench.ask(bert, &a(1, "www.example"));
    bench.ask(other_port, &a(1, "www.example"));
    let clients: Vec<_> =
        bench.streams().iter().map(|stream| stream.header("x-forwarded-for")).collect();
    assert_eq!(clients, [Some("192.0.2.1"), Some("2001:db8::7")]);
    assert_eq!(bench.server_got(0).len(), 2);
}

#[test]
fn without_streams_a_query_is_answered() {
    let few = bridge::server::ServerLimits { max_streams: 1, ..LIMITS };
    let worker = Worker::new(r#"{"zones": [{"zone": "a.example"}, {"zone": "b.example"}]}"#);
    let mut bench = worker.connect_with::<support::native::Udp>(&few);
    let anna = bench.client(ANNA);
    bench.exchange(anna, &a(1, "a.example"), |asked| asked.address(300, 1));
    let got = bench.refused(anna, &a(2, "b.example").edns(1232));
    assert_eq!(got.rcode(), Rcode::SERVFAIL);
    assert_eq!(got.errors(), [(InfoCode::OTHER, "too many streams".to_owned())]);
}

#[test]
fn what_has_no_room_for_long_is_lost_as_datagrams_are() {
    let narrow = bridge::server::ServerLimits { stream_window: 100, ..LIMITS };
    let worker = Worker::new(r#"{"max_flows": 1, "retry_after": "0s"}"#);
    let mut bench = worker.connect_with::<support::native::Udp>(&narrow);
    // Nothing is read.
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(0, "www.example"));
    let id = bench.streams()[0].id;
    bench.manager.server.hold(id, true);
    let large = |id| a(id, "www.example").opt(codec_dns::OptionCode(65_001), &[7; 4000]);
    for id in 0..100 {
        bench.ask(anna, &large(id));
    }
    let lost = bench.limited("unsent", "drop");
    assert!((30..40).contains(&lost), "{lost} are lost");
    bench.manager.server.hold(id, false);
    bench.settle();
    assert_eq!(bench.server_got(0).len() as i64, 101 - lost);
    bench.pass(seconds(5));
    assert_eq!(bench.got(anna).len(), 101);
}

// For how long.

#[test]
fn an_old_flow_is_replaced_and_ends_when_nobody_waits_in_it() {
    let mut bench =
        udp(r#"{"flow_lifetime": "10s", "max_flows": 1, "retry_after": "0s", "linger": "60s"}"#);
    let anna = bench.client(ANNA);
    bench.exchange(anna, &a(1, "www.example"), |asked| asked.address(300, 1));
    bench.pass(seconds(8));
    bench.ask(anna, &a(2, "www.example"));
    let (old, waits) = bench.asked_one();
    bench.pass(seconds(3));
    bench.ask(anna, &a(3, "www.example"));
    let (new, _) = bench.asked_one();
    assert_ne!(old, new);
    assert!(!bench.streams()[old].is_over());
    bench.server(old, &waits.address(300, 1));
    assert_eq!(bench.got_one(anna).id, 2);
    assert_eq!(bench.streams()[old].ended, CANCELLED);
    assert_eq!(bench.gauge("dns_flows_active"), 1);
}

#[test]
fn a_flow_that_nobody_uses_ends() {
    let mut bench = udp(r#"{"flow_lifetime": "10s"}"#);
    let anna = bench.client(ANNA);
    bench.exchange(anna, &a(1, "www.example"), |asked| asked.address(300, 1));
    bench.pass(seconds(9));
    assert_eq!(bench.open_flows(), [0]);
    bench.pass(seconds(11));
    assert!(bench.open_flows().is_empty());
    assert_eq!(bench.gauge("dns_flows_active"), 0);
    // Nothing is left to wait for.
    assert_eq!(bench.bridge.next_step().deadline, None);
}

#[test]
fn a_flow_whose_server_answered_is_reset_and_a_silent_one_finished() {
    // Envoy takes what was finished and does not end for a failure of the server, and a reset for none.
    let mut bench = udp(
        r#"{"flow_lifetime": "20s", "retry_after": "0s", "max_flows": 1, "zones": [{"zone": "silent"}]}"#,
    );
    let anna = bench.client(ANNA);
    bench.exchange(anna, &a(1, "www.example"), |asked| asked.address(300, 1));
    for id in 0..3 {
        bench.ask(anna, &a(id, "silent"));
    }
    let silent = bench.servers_got()[0].0;
    bench.pass(seconds(45));
    assert_eq!(bench.streams()[0].ended, CANCELLED);
    assert_eq!(bench.streams()[silent].ended, Some(Ended::Complete));
}

#[test]
fn one_lost_answer_says_nothing_about_a_server() {
    let mut bench = udp(r#"{"flow_lifetime": "20s", "retry_after": "0s"}"#);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    bench.asked_one();
    bench.pass(seconds(45));
    assert_eq!(bench.streams()[0].ended, CANCELLED);
}

#[test]
fn a_flow_that_was_silent_is_tried_now_and_then() {
    let mut bench = udp(r#"{"max_flows": 2, "retry_after": "1s"}"#);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    let (silent, _) = bench.asked_one();
    bench.pass(seconds(1));
    let (good, again) = bench.asked_one();
    bench.server(good, &again.address(300, 1));
    bench.got_one(anna);
    let mut tried = 0;
    for id in 2..34 {
        bench.ask(anna, &a(id, "www.example"));
        let (flow, asked) = bench.asked_one();
        tried += usize::from(flow == silent && tried == 0);
        bench.server(flow, &asked.address(300, 1));
        bench.got_one(anna);
    }
    assert_eq!(tried, 1);
}

#[test]
fn a_silent_flow_is_tried_until_its_server_is_known_to_be_dead_however_few_ask() {
    let mut bench =
        udp(r#"{"max_flows": 2, "retry_after": "0.5s", "flow_lifetime": "1s", "linger": "60s"}"#);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(0, "www.example"));
    let (silent, _) = bench.asked_one();
    let mut asked = 1;
    while bench.streams()[silent].ended.is_none() {
        // What was lost in the silent flow is asked again in another.
        bench.pass(millis(600));
        for (flow, asked) in bench.servers_got() {
            if flow != silent {
                bench.server(flow, &asked.address(300, 1));
            }
        }
        assert_eq!(bench.got(anna).len(), 1);
        bench.pass(millis(1400));
        bench.ask(anna, &a(asked, "www.example"));
        asked += 1;
    }
    assert_eq!(bench.streams()[silent].ended, Some(Ended::Complete));
    assert_eq!(asked, 4);
}

#[test]
fn after_three_timeouts_in_a_row_another_flow_takes_over() {
    let mut bench = udp(r#"{"max_flows": 1, "retry_after": "0s", "response_timeout": "1s"}"#);
    let anna = bench.client(ANNA);
    for id in 0..3 {
        bench.ask(anna, &a(id, "www.example"));
        assert_eq!(bench.asked_one().0, 0);
        bench.pass(seconds(1));
    }
    assert_eq!(bench.streams()[0].ended, Some(Ended::Complete));
    bench.ask(anna, &a(4, "www.example"));
    assert_eq!(bench.asked_one().0, 1);
}

#[test]
fn an_answer_between_timeouts_keeps_a_flow() {
    let mut bench = udp(r#"{"max_flows": 1, "retry_after": "0s", "response_timeout": "1s"}"#);
    let anna = bench.client(ANNA);
    for id in 0..12 {
        bench.ask(anna, &a(id, "www.example"));
        let (flow, asked) = bench.asked_one();
        if id % 3 == 2 {
            bench.server(flow, &asked.address(300, 1));
        } else {
            bench.pass(seconds(1));
        }
        bench.got_one(anna);
    }
    assert_eq!(bench.flows().len(), 1);
}

// Retries.

#[test]
fn a_query_without_an_answer_is_sent_again_in_another_flow() {
    let mut bench = udp(r#"{"retry_after": "1s"}"#);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    let (first, asked) = bench.asked_one();
    bench.pass(millis(999));
    bench.asked_nothing();
    bench.pass(millis(1));
    let (second, again) = bench.asked_one();
    assert_ne!(first, second);
    assert_eq!(again.clone().with_id(asked.id), asked);
    assert_ne!(again.id, asked.id);
    bench.server(second, &again.address(300, 1));
    assert_eq!(bench.got_one(anna), a(1, "www.example").address(300, 1));
    bench.server(first, &asked.address(300, 1));
    bench.got_nothing(anna);
    assert_eq!(bench.counter("dns_retried_total", &[]), 1);
}

#[test]
fn a_query_is_sent_again_and_again_and_then_given_up() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example").edns(1232));
    bench.pass(millis(4999));
    assert_eq!(bench.servers_got().len(), 5);
    bench.got_nothing(anna);
    bench.pass(millis(1));
    let got = bench.got_one(anna);
    assert_eq!((got.id, got.rcode()), (1, Rcode::SERVFAIL));
    let text = "no answer in time".to_owned();
    assert_eq!(got.errors(), [(InfoCode::NO_REACHABLE_AUTHORITY, text)]);
    assert_eq!(bench.gauge("dns_outstanding"), 0);
}

#[test]
fn where_there_is_one_flow_a_query_is_sent_again_in_it() {
    let mut bench = udp(r#"{"max_flows": 1}"#);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    let (_, first) = bench.asked_one();
    bench.pass(seconds(1));
    let (flow, second) = bench.asked_one();
    assert_ne!(first.id, second.id);
    bench.server(flow, &second.address(300, 1));
    bench.got_one(anna);
}

#[test]
fn what_waits_in_a_flow_that_ends_is_sent_again_once() {
    for reset in [false, true] {
        let mut bench = udp(r#"{"max_flows": 1, "retry_after": "0s"}"#);
        let anna = bench.client(ANNA);
        bench.exchange(anna, &a(1, "www.example"), |asked| asked.address(300, 1));
        bench.ask(anna, &a(2, "www.example").edns(1232));
        let end = |bench: &mut support::Bench<_>, flow| match reset {
            true => bench.reset(flow),
            false => bench.finish(flow),
        };
        let (first, _) = bench.asked_one();
        end(&mut bench, first);
        let (second, _) = bench.asked_one();
        assert_ne!(first, second);
        bench.got_nothing(anna);
        end(&mut bench, second);
        let got = bench.got_one(anna);
        assert_eq!((got.id, got.rcode()), (2, Rcode::SERVFAIL));
        let text = "server unreachable".to_owned();
        assert_eq!(got.errors(), [(InfoCode::NO_REACHABLE_AUTHORITY, text)]);
        bench.asked_nothing();
        assert_eq!(bench.gauge("dns_flows_active"), 0);
    }
}

#[test]
fn a_capsule_that_is_too_long_ends_the_flow_and_not_the_connection() {
    let mut bench = udp(r#"{"max_flows": 1}"#);
    let anna = bench.client(ANNA);
    bench.ask(anna, &a(1, "www.example"));
    let (flow, _) = bench.asked_one();
    bench.content(flow, b"\x00\x80\x01\x00\x10");
    assert!(bench.streams()[flow].is_over() && !bench.is_closed());
    assert_eq!(bench.server_errors("capsule_too_long"), 1);
    bench.server_answers();
    assert_eq!(bench.got_one(anna).rcode(), Rcode::NOERROR);
}

#[test]
fn capsules_of_other_types_and_contexts_mean_nothing() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let others = [&b"\x17\x03abc"[..], b"\x00\x02\x02x", b"\x00\x00", b"\x40\x25\x00"].concat();
    let native = capsule(&a(1, "www.example").octets());
    bench.session_octets(anna, &[&*others, &native, &others].concat());
    let (flow, asked) = bench.asked_one();
    let reply = capsule(&asked.address(300, 1).octets());
    for octet in [&*others, &reply, &others].concat() {
        bench.content(flow, &[octet]);
    }
    assert_eq!(bench.got_one(anna), a(1, "www.example").address(300, 1));
}

#[test]
fn the_status_of_a_refused_flow_is_the_answer() {
    for (status, rcode, code) in [
        (400, Rcode::FORMERR, InfoCode::OTHER),
        (403, Rcode::REFUSED, InfoCode::PROHIBITED),
        (404, Rcode::NXDOMAIN, InfoCode::BLOCKED),
        (429, Rcode::REFUSED, InfoCode::PROHIBITED),
        (503, Rcode::SERVFAIL, InfoCode::NETWORK_ERROR),
        (504, Rcode::SERVFAIL, InfoCode::NO_REACHABLE_AUTHORITY),
        (302, Rcode::SERVFAIL, InfoCode::NETWORK_ERROR),
    ] {
        let mut bench = udp("{}");
        bench.manager.accepts = false;
        let anna = bench.client(ANNA);
        bench.ask_all(anna, &[a(1, "www.example").edns(1232), a(2, "www.example").edns(1232)]);
        assert_eq!(bench.flows().len(), 1);
        bench.respond_with(0, status, &[("location", "/x")], b"a page for browsers");
        let got = bench.got(anna);
        assert_eq!(got.len(), 2, "{got:?}");
        for got in got {
            assert_eq!(got.rcode(), rcode);
            assert_eq!(got.errors(), [(code, status.to_string())]);
        }
        assert_eq!(bench.gauge("dns_flows_active"), 0);
        // The next query tries again.
        bench.ask(anna, &a(3, "www.example"));
        assert_eq!(bench.flows().len(), 2);
    }
}

#[test]
fn names_of_any_octets_travel() {
    let mut bench = udp("{}");
    let anna = bench.client(ANNA);
    let mut octets = a(1, "x").octets();
    // \000\.\255 as one label.
    let label = b"\x04\x00.\xff=\x00";
    octets.splice(12..12 + wire("x").len(), label.iter().copied());
    bench.datagram(anna, &octets);
    let got = bench.server_got_octets(0);
    assert_eq!(got[0][2..], octets[2..]);
    let mut answer = got[0].clone();
    answer[2] |= 0x80;
    bench.server_octets(0, &answer);
    answer[..2].copy_from_slice(&[0, 1]);
    assert_eq!(bench.got_octets(anna), [answer]);
}

#[test]
fn answers_over_tcp_may_come_in_any_order() {
    let mut bench = tcp("{}");
    bench.ask_all(&[a(1, "a.example"), a(2, "b.example"), a(3, "c.example")]);
    let asked = bench.servers_got();
    assert!(asked.iter().all(|(flow, _)| bench.streams()[*flow].is_tcp()));
    for (flow, query) in asked.iter().rev() {
        bench.server(*flow, &query.address(300, 1));
    }
    let ids: Vec<u16> = bench.got().iter().map(|answer| answer.id).collect();
    assert_eq!(ids, [3, 2, 1]);
}
