//! What a session promises whose messages are looked at one by one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::time::Duration;

use codec_mqtt::{Connect, Packet, Properties, Property, QoS, ReasonCode, SubAck, Version, Will};
use support::wire::{
    BOTH, connack, connack_with, connect, connect_with, disconnect, id, msg, octets, pingreq,
    puback, pubcomp, publish, pubrec, pubrel, reconnect, size, suback, subscribe, unsubscribe,
};
use support::{Bench, Stream, Worker};

const V5: Version = Version::V5;
const V311: Version = Version::V311;

/// `c/…` is checked, `r/…` requested, the rest forwarded.
const RULES: &str = r#""rules": [
    {"topic_filters": ["c/#"], "carry": "check"},
    {"topic_filters": ["r/#"], "carry": "request"},
    {"packets": ["subscribe"], "topic_filters": ["s/#"], "carry": "check"},
    {"packets": ["delivery"], "topic_filters": ["d/#"], "carry": "check"}]"#;

fn rules(more: &str) -> String {
    format!("{{{RULES}{}{more}}}", if more.is_empty() { "" } else { ", " })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn concat(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

// Order.

#[test]
fn messages_keep_their_order_while_verdicts_are_pending() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        bench.client(&concat(&[
            publish(version, 0, 0, "f/1", "1"),
            publish(version, 1, 1, "c/2", "2"),
            publish(version, 0, 0, "f/3", "3"),
            publish(version, 2, 4, "c/4", "4"),
            subscribe(version, 5, &[("f/#", 1)]),
            pingreq(),
        ]));
        assert_eq!(bench.broker_got(), ["PUBLISH q0 f/1 1"]);
        assert_eq!(bench.asked(), ["POST /c/2", "POST /c/4"]);
        bench.answer_path("/c/4", 200);
        assert_eq!(bench.broker_got(), [""; 0]);
        bench.answer_path("/c/2", 204);
        assert_eq!(
            bench.broker_got(),
            [
                "PUBLISH 1 q1 c/2 2",
                "PUBLISH q0 f/3 3",
                "PUBLISH 4 q2 c/4 4",
                "SUBSCRIBE 5 f/#:1",
                "PINGREQ"
            ]
        );
    }
}

#[test]
fn requests_about_one_topic_are_made_one_after_the_other() {
    let mut bench = Bench::new(&rules(""), V5);
    for n in 1..=3 {
        bench.client(&publish(V5, 1, n, "r/a", &n.to_string()));
    }
    bench.client(&publish(V5, 1, 4, "r/b", "4"));
    for n in 1..=3_u8 {
        assert_eq!(bench.asked()[0], "POST /r/a");
        assert_eq!(bench.streams[bench.open()[0]].body, n.to_string().into_bytes());
        bench.answer_path("/r/a", 200);
        assert_eq!(bench.client_got(), [format!("PUBACK {n}")]);
    }
    assert_eq!(bench.asked(), ["POST /r/b"]);
}

#[test]
fn what_waits_is_bounded_in_number_and_then_the_client_is_slowed() {
    for (carry, more) in [("c", 0), ("r", 0), ("c", 1), ("r", 1)] {
        let mut bench = Bench::new(&rules(r#""max_pending_messages": 3"#), V5);
        for n in 1..=10 {
            bench.client(&publish(V5, 1, n, &format!("{carry}/{n}"), &"x".repeat(100)));
            if more == 1 {
                bench.client(&publish(V5, 0, 0, "f", "x"));
            }
        }
        assert!(bench.open().len() <= 3);
        assert!(!bench.bridge.accepts_native());
        assert!(!bench.socket.is_empty(), "the rest stays in the socket");
        for _ in 0..10 {
            let open = bench.open();
            bench.answer(open[0], 200);
        }
        assert!(bench.open().is_empty() && bench.socket.is_empty());
        assert!(bench.bridge.accepts_native());
    }
}

#[test]
fn what_waits_is_bounded_in_size() {
    let config = rules(r#""max_pending_size": 5000, "max_buffered_size": 2000"#);
    let mut bench = Bench::new(&config, V5);
    bench.client(&publish(V5, 1, 1, "c/1", "x"));
    for _ in 0..20 {
        bench.client(&publish(V5, 0, 0, "f/1", &"x".repeat(1000)));
    }
    assert!(!bench.bridge.accepts_native());
    assert!(bench.socket.len() > 14_000, "{} octets left in the socket", bench.socket.len());
    bench.answer_only(200);
    assert_eq!(bench.broker_got().len(), 21);
    assert!(bench.socket.is_empty());
}

#[test]
fn a_message_too_large_to_wait_is_not_held_and_still_keeps_its_place() {
    for (status, version) in [(200, V5), (403, V5), (200, V311), (500, V311)] {
        let config = rules(r#""max_buffered_size": 1024, "max_pending_size": 2048"#);
        let mut bench = Bench::new(&config, version);
        bench.piece = 700;
        let payload = "x".repeat(50_000);
        bench.client(&publish(version, 0, 0, "f", "before"));
        bench.client(&publish(version, 1, 1, "c/1", &payload));
        bench.client(&publish(version, 0, 0, "f", "after"));
        assert_eq!(bench.broker_got(), ["PUBLISH q0 f before"]);
        assert!(bench.socket.len() > 48_000, "{} octets left in the socket", bench.socket.len());
        bench.answer_only(status);
        let got = bench.broker_got();
        if status == 200 {
            assert_eq!(got.len(), 2);
            assert_eq!(got[0], format!("PUBLISH 1 q1 c/1 {payload}"));
        }
        assert_eq!(got.last().unwrap(), "PUBLISH q0 f after");
        let expected: &[&str] = if status == 403 { &["PUBACK 1 87"] } else { &[] };
        assert_eq!(bench.client_got(), expected);
    }
}

#[test]
fn the_same_packets_arrive_whatever_the_pieces() {
    for version in BOTH {
        let stream = concat(&[
            publish(version, 1, 1, "c/1", "one"),
            publish(version, 2, 2, "r/2", "two"),
            subscribe(version, 3, &[("s/a", 1), ("f", 0), ("s/b", 2)]),
            publish(version, 0, 0, "f", &"x".repeat(300)),
            pubrel(version, 2),
            pingreq(),
        ]);
        let mut outcomes = Vec::new();
        for piece in [1, 2, 3, 7, 50, 1000] {
            let mut bench = Bench::new(&rules(""), version);
            bench.piece = piece;
            bench.client(&stream[..stream.len() - 6]);
            bench.answer_path("/c/1", 200);
            bench.answer_path("/r/2", 200);
            bench.client(&stream[stream.len() - 6..]);
            bench.answer_path("/s/b", 200);
            bench.answer_path("/s/a", 403);
            bench.broker(&suback(version, 3, &[0, 2]));
            outcomes.push((bench.broker_got(), bench.client_got()));
        }
        let refused = if version == V5 { "87" } else { "80" };
        assert_eq!(
            outcomes[0].1,
            ["PUBREC 2".into(), "PUBCOMP 2".into(), format!("SUBACK 3 {refused} 00 02")]
        );
        assert_eq!(
            outcomes[0].0,
            [
                "PUBLISH 1 q1 c/1 one".to_owned(),
                "SUBSCRIBE 3 f:0 s/b:2".to_owned(),
                format!("PUBLISH q0 f {}", "x".repeat(300)),
                "PINGREQ".to_owned()
            ]
        );
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:#?}");
    }
}

// QoS.

#[test]
fn a_requested_message_is_acknowledged_only_after_the_answer() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        bench.client(&publish(version, 1, 1, "r/1", "one"));
        bench.client(&publish(version, 2, 2, "r/2", "two"));
        bench.client(&publish(version, 0, 0, "r/0", "zero"));
        assert_eq!(bench.asked(), ["POST /r/1", "POST /r/2", "POST /r/0"]);
        assert_eq!(bench.client_got(), [""; 0]);
        let stream = bench.find("/r/2");
        assert_eq!(
            (&*bench.streams[stream].body, bench.streams[stream].ended),
            (&b"two"[..], Some(true))
        );
        assert_eq!(bench.streams[stream].header("x-mqtt-qos"), Some("2"));
        bench.answer(stream, 200);
        assert_eq!(bench.client_got(), ["PUBREC 2"]);
        bench.client(&pubrel(version, 2));
        assert_eq!(bench.client_got(), ["PUBCOMP 2"]);
        bench.answer_path("/r/1", 204);
        assert_eq!(bench.client_got(), ["PUBACK 1"]);
        bench.answer_path("/r/0", 200);
        assert_eq!((bench.client_got(), bench.broker_got()), (vec![], vec![]));
    }
}

#[test]
fn the_status_decides_what_the_client_of_a_requested_message_is_told() {
    for version in BOTH {
        for qos in [1, 2] {
            for (status, code) in [
                (200, Some("")),
                (299, Some("")),
                (400, Some(" 83")),
                (401, Some(" 87")),
                (403, Some(" 87")),
                (404, Some(" 90")),
                (409, Some(" 80")),
                (413, Some(" 97")),
                (429, Some(" 97")),
                (302, None),
                (500, None),
                (503, None),
            ] {
                let mut bench = Bench::new(&rules(""), version);
                bench.client(&publish(version, qos, 7, "r/x", "m"));
                bench.answer_only(status);
                let ack = if qos == 1 { "PUBACK 7" } else { "PUBREC 7" };
                let expected = match (version, code) {
                    (Version::V5, Some(code)) => vec![format!("{ack}{code}")],
                    (Version::V5, None) => vec![format!("{ack} 83")],
                    (Version::V311, Some(_)) => vec![ack.to_owned()],
                    (Version::V311, None) => vec![],
                };
                assert_eq!(bench.client_got(), expected, "{version:?} QoS {qos} {status}");
                assert_eq!(bench.broker_got(), [""; 0]);
                assert!(!bench.is_closed());
            }
        }
    }
}

#[test]
fn a_reset_is_a_failure() {
    for version in BOTH {
        for path in ["c/x", "r/x"] {
            let mut bench = Bench::new(&rules(""), version);
            bench.client(&publish(version, 1, 7, path, "m"));
            bench.client(&publish(version, 0, 0, "f", "next"));
            let open = bench.open();
            bench.reset(open[0]);
            let expected: &[&str] = if version == V5 { &["PUBACK 7 83"] } else { &[] };
            assert_eq!(bench.client_got(), expected);
            assert_eq!(bench.broker_got(), ["PUBLISH q0 f next"]);
        }
    }
}

#[test]
fn a_refused_check_is_answered_and_does_not_reach_the_broker() {
    for version in BOTH {
        for qos in [0, 1, 2] {
            let mut bench = Bench::new(&rules(""), version);
            bench.client(&publish(version, qos, u16::from(qos), "c/x", "m"));
            bench.client(&publish(version, 0, 0, "f", "next"));
            bench.answer_only(403);
            let code = if version == V5 { " 87" } else { "" };
            let expected = match qos {
                0 => vec![],
                1 => vec![format!("PUBACK 1{code}")],
                _ => vec![format!("PUBREC 2{code}")],
            };
            assert_eq!(bench.client_got(), expected);
            assert_eq!(bench.broker_got(), ["PUBLISH q0 f next"]);
            if qos == 2 && version == V311 {
                // The handshake goes on without the broker.
                bench.client(&publish(version, 2, 2, "c/x", "m"));
                bench.client(&pubrel(version, 2));
                assert_eq!(bench.client_got(), ["PUBREC 2", "PUBCOMP 2"]);
                assert_eq!((bench.broker_got(), bench.asked()), (vec![], vec![]));
            }
        }
    }
}

#[test]
fn a_refusal_can_close_the_connection_of_a_3_1_1_client() {
    for path in ["c/x", "r/x"] {
        let config = rules(r#""refused_in_3_1_1": "disconnect""#);
        let mut bench = Bench::new(&config, V311);
        bench.client(&publish(V311, 1, 7, path, "m"));
        bench.answer_only(403);
        assert_eq!((bench.client_got(), bench.broker_got()), (vec![], vec![]));
        assert!(bench.is_closed());
        let mut bench = Bench::new(&config, V5);
        bench.client(&publish(V5, 1, 7, path, "m"));
        bench.answer_only(403);
        assert_eq!(bench.client_got(), ["PUBACK 7 87"]);
        assert!(!bench.is_closed());
    }
}

#[test]
fn a_failure_can_close_the_connection_without_an_acknowledgement() {
    for version in BOTH {
        for path in ["c/x", "r/x"] {
            let mut bench = Bench::new(&rules(r#""failed": "disconnect""#), version);
            bench.client(&publish(version, 1, 7, path, "m"));
            bench.answer_only(503);
            let expected: &[&str] = if version == V5 { &["DISCONNECT 89"] } else { &[] };
            assert_eq!(
                (bench.client_got(), bench.broker_got()),
                (expected.iter().map(ToString::to_string).collect(), vec![])
            );
            assert!(bench.is_closed());
        }
    }
}

#[test]
fn a_message_sent_again_is_not_requested_again_before_pubrel() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        let message = msg(2, 9, "r/x", "m");
        bench.client(&message.octets(version));
        bench.client(&message.dup().octets(version));
        assert_eq!(bench.asked(), ["POST /r/x"]);
        bench.answer_only(200);
        assert_eq!(bench.client_got(), ["PUBREC 9"]);
        bench.client(&message.dup().octets(version));
        assert_eq!((bench.asked(), bench.client_got()), (vec![], vec!["PUBREC 9".to_owned()]));
        bench.client(&pubrel(version, 9));
        bench.client(&message.octets(version));
        assert_eq!(bench.client_got(), ["PUBCOMP 9"]);
        assert_eq!(bench.asked(), ["POST /r/x"], "the identifier is free again");
    }
}

#[test]
fn a_failed_message_is_requested_again_when_it_is_sent_again() {
    let mut bench = Bench::new(&rules(""), V311);
    for qos in [1, 2] {
        bench.client(&publish(V311, qos, 9, "r/x", "m"));
        bench.answer_only(500);
        bench.client(&msg(qos, 9, "r/x", "m").dup().octets(V311));
        bench.answer_only(200);
    }
    assert_eq!(bench.client_got(), ["PUBACK 9", "PUBREC 9"]);
}

#[test]
fn what_was_taken_is_not_delivered_twice_when_the_session_goes_on() {
    for version in BOTH {
        let worker = Worker::new(&rules(""));
        let mut bench = worker.session_with(&reconnect(version, "c1"), version, false);
        bench.client(&publish(version, 2, 9, "r/x", "m"));
        bench.answer_only(200);
        bench.hang_up();

        let mut bench = worker.session_with(&reconnect(version, "c1"), version, true);
        bench.client(&msg(2, 9, "r/x", "m").dup().octets(version));
        assert_eq!((bench.asked(), bench.client_got()), (vec![], vec!["PUBREC 9".to_owned()]));
        bench.hang_up();

        let mut bench = worker.session_with(&reconnect(version, "c1"), version, true);
        bench.client(&pubrel(version, 9));
        assert_eq!(
            (bench.broker_got(), bench.client_got()),
            (vec![], vec!["PUBCOMP 9".to_owned()])
        );
        bench.client(&publish(version, 2, 9, "r/x", "new"));
        assert_eq!(bench.asked(), ["POST /r/x"]);
    }
}

#[test]
fn what_was_taken_is_forgotten_with_the_session() {
    for version in BOTH {
        for clean_start in [true, false] {
            let worker = Worker::new(&rules(""));
            let mut bench = worker.session_with(&reconnect(version, "c1"), version, false);
            bench.client(&publish(version, 2, 9, "r/x", "m"));
            bench.answer_only(200);
            bench.hang_up();
            // Either the client starts anew, or the broker has forgotten the session.
            let connect =
                if clean_start { connect(version, "c1") } else { reconnect(version, "c1") };
            let mut bench = worker.session_with(&connect, version, false);
            bench.client(&publish(version, 2, 9, "r/x", "new"));
            assert_eq!(bench.asked(), ["POST /r/x"]);
        }
    }
}

#[test]
fn what_was_taken_is_remembered_while_the_broker_is_away() {
    for version in BOTH {
        let worker = Worker::new(&rules(""));
        let mut bench = worker.session_with(&reconnect(version, "c1"), version, false);
        bench.client(&publish(version, 2, 9, "r/x", "m"));
        bench.answer_only(200);
        bench.hang_up();

        let mut bench = worker.connect();
        bench.version = version;
        bench.client(&reconnect(version, "c1"));
        bench.answer(0, 503);
        assert!(bench.is_closed());
        bench.hang_up();
        let mut bench = worker.connect();
        bench.client(&reconnect(version, "c1"));
        bench.reset(0);
        bench.hang_up();

        let mut bench = worker.session_with(&reconnect(version, "c1"), version, true);
        bench.client(&msg(2, 9, "r/x", "m").dup().octets(version));
        assert_eq!((bench.asked(), bench.client_got()), (vec![], vec!["PUBREC 9".to_owned()]));
    }
}

#[test]
fn a_session_taken_over_by_a_new_connection_neither_loses_nor_repeats() {
    for version in BOTH {
        let worker = Worker::new(&rules(""));
        let mut old = worker.session_with(&reconnect(version, "c1"), version, false);
        old.client(&publish(version, 2, 9, "r/x", "m"));
        old.answer_only(200);
        // The client has lost its connection; Envoy and the broker do not know that yet.
        let mut new = worker.session_with(&reconnect(version, "c1"), version, true);
        new.client(&msg(2, 9, "r/x", "m").dup().octets(version));
        assert_eq!((new.asked(), new.client_got()), (vec![], vec!["PUBREC 9".to_owned()]));
        new.client(&pubrel(version, 9));
        assert_eq!(new.client_got(), ["PUBCOMP 9"]);
        old.hang_up();
        new.hang_up();

        let mut again = worker.session_with(&reconnect(version, "c1"), version, true);
        again.client(&publish(version, 2, 9, "r/x", "another"));
        assert_eq!(again.asked(), ["POST /r/x"], "what is new is not taken for old");
    }
}

#[test]
fn a_message_underway_when_the_connection_ends_is_asked_about_again() {
    for version in BOTH {
        let worker = Worker::new(&rules(""));
        let mut bench = worker.session_with(&reconnect(version, "c1"), version, false);
        bench.client(&publish(version, 2, 9, "r/x", "m"));
        bench.hang_up();
        let mut bench = worker.session_with(&reconnect(version, "c1"), version, true);
        bench.client(&msg(2, 9, "r/x", "m").dup().octets(version));
        bench.answer_only(200);
        assert_eq!(bench.client_got(), ["PUBREC 9"]);
    }
}

#[test]
fn the_brokers_handshake_is_left_alone() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        bench.client(&publish(version, 2, 3, "c/x", "m"));
        bench.answer_only(200);
        bench.broker(&pubrec(version, 3));
        bench.client(&pubrel(version, 3));
        bench.broker(&pubcomp(version, 3));
        assert_eq!(bench.client_got(), ["PUBREC 3", "PUBCOMP 3"]);
        assert_eq!(bench.broker_got(), ["PUBLISH 3 q2 c/x m", "PUBREL 3"]);
    }
}

#[test]
fn pubrel_before_the_answer_is_a_protocol_error() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        bench.client(&publish(version, 2, 3, "r/x", "m"));
        bench.client(&pubrel(version, 3));
        assert!(bench.is_closed());
        let expected: &[&str] = if version == V5 { &["DISCONNECT 82"] } else { &[] };
        assert_eq!(
            (bench.client_got(), bench.broker_got()),
            (expected.iter().map(ToString::to_string).collect(), vec![])
        );
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_request_leaves_no_complete_one() {
    let mut bench = Bench::new(&rules(""), V5);
    let message = publish(V5, 1, 1, "r/x", &"x".repeat(1000));
    bench.client(&message[..500]);
    assert_eq!(bench.asked(), ["POST /r/x"]);
    let open = bench.open()[0];
    bench.bridge.handle_native_end(bench.now);
    bench.settle();
    assert!(bench.streams[open].body.len() < 1000);
    assert_ne!(bench.streams[open].ended, Some(true), "truncated, and not ended as if complete");
}

#[test]
fn disconnect_waits_for_what_came_before_it() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        bench.client(&concat(&[
            publish(version, 0, 0, "c/1", "1"),
            publish(version, 1, 2, "r/2", "2"),
            disconnect(version),
        ]));
        bench.answer_path("/c/1", 200);
        assert_eq!(bench.broker_got(), ["PUBLISH q0 c/1 1"]);
        bench.answer_path("/r/2", 200);
        assert_eq!(bench.client_got(), ["PUBACK 2"]);
        assert_eq!(bench.broker_got(), ["DISCONNECT 00"]);
        assert_eq!(bench.session_stream().ended, Some(true));
    }
}

#[test]
fn what_precedes_a_bad_packet_still_reaches_the_broker() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        bench.client(&publish(version, 1, 1, "c/1", "1"));
        bench.client(&[0x00, 0x00]);
        assert!(!bench.is_closed());
        bench.answer_only(200);
        assert_eq!(bench.broker_got(), ["PUBLISH 1 q1 c/1 1"]);
        assert!(bench.is_closed());
        assert_eq!(bench.session_stream().ended, Some(true));
    }
}

// Early answers, and streams that end late.

#[test]
fn an_answer_before_the_whole_content_is_an_answer() {
    for max_pending in [1, 64] {
        for status in [200, 413] {
            let config = rules(&format!(r#""max_pending_messages": {max_pending}"#));
            let mut bench = Bench::new(&config, V5);
            let message = publish(V5, 1, 1, "r/x", &"x".repeat(1000));
            bench.client(&message[..500]);
            bench.answer_only(status);
            let expected = if status == 200 { "PUBACK 1" } else { "PUBACK 1 97" };
            assert_eq!(bench.client_got(), [expected]);
            bench.client(&message[500..]);
            bench.client(&publish(V5, 1, 2, "r/x", "next"));
            bench.client(&publish(V5, 1, 3, "r/x", "next but one"));
            assert_eq!(bench.asked(), ["POST /r/x"]);
            bench.answer_only(200);
            bench.answer_only(200);
            assert_eq!(bench.client_got(), ["PUBACK 2", "PUBACK 3"]);
        }
    }
}

#[test]
fn a_reset_before_the_whole_content_does_not_stop_the_session() {
    for max_pending in [1, 64] {
        let config = rules(&format!(r#""max_pending_messages": {max_pending}"#));
        let mut bench = Bench::new(&config, V5);
        let message = publish(V5, 1, 1, "r/x", &"x".repeat(1000));
        bench.client(&concat(&[message[..500].to_vec()]));
        let open = bench.open()[0];
        bench.reset(open);
        bench.client(&message[500..]);
        bench.client(&publish(V5, 1, 2, "c/x", "next"));
        bench.answer_only(200);
        assert_eq!(bench.client_got(), ["PUBACK 1 83"]);
        assert_eq!(bench.broker_got(), ["PUBLISH 2 q1 c/x next"]);
    }
}

#[test]
fn a_backend_that_does_not_read_slows_the_client_and_the_others_go_on_afterwards() {
    let mut bench = Bench::new(&rules(""), V5);
    let payload = "x".repeat(300_000);
    let message = publish(V5, 1, 1, "r/x", &payload);
    bench.client(&message[..100]);
    let open = bench.open()[0];
    bench.streams[open].unread = true;
    bench.client(&message[100..]);
    bench.client(&publish(V5, 0, 0, "f", "next"));
    assert!(!bench.bridge.accepts_native());
    bench.streams[open].unread = false;
    bench.settle();
    assert_eq!(bench.streams[open].body.len(), 300_000);
    assert_eq!(bench.broker_got(), ["PUBLISH q0 f next"]);
    bench.answer(open, 200);
    assert_eq!(bench.client_got(), ["PUBACK 1"]);
}

#[test]
fn every_topic_filter_is_asked_about_however_few_streams_there_are() {
    // The answers' ends come after their header sections, all at once.
    let filters: Vec<String> = (0..9).map(|n| format!("s/{n}")).collect();
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (&**filter, 1)).collect();
    for max_pending in [1, 2, 3, 4, 8] {
        let config = rules(&format!(r#""max_pending_messages": {max_pending}"#));
        let mut bench = Bench::new(&config, V5);
        bench.client(&subscribe(V5, 1, &filters));
        for _ in 0..20 {
            let open = bench.open();
            for &stream in &open {
                bench.respond(stream, 200);
            }
            for stream in open {
                bench.finish(stream);
            }
        }
        let got = bench.broker_got();
        assert_eq!(
            got.len(),
            1,
            "with {max_pending} pending messages: {got:?} {:?}",
            bench.asked()
        );
    }
}

#[test]
fn a_subscription_goes_on_when_a_request_has_made_room_for_its_check() {
    let mut server = h2::server::Builder::new();
    server.max_concurrent_streams(2);
    let mut bench = Worker::new(&rules("")).connect_to(&server, Duration::ZERO).establish(
        &connect(V5, "c1"),
        V5,
        &connack(V5, false),
    );
    bench.client(&publish(V5, 1, 1, "r/x", "m"));
    bench.client(&subscribe(V5, 2, &[("s/1", 0)]));
    assert_eq!(bench.asked(), ["POST /r/x"]);
    bench.answer_only(200);
    assert_eq!(bench.asked(), ["GET /s/1"]);
}

// Topic aliases, sizes and Receive Maximum.

#[test]
fn topic_aliases_are_resolved_and_the_broker_sees_none() {
    let mut bench = Bench::new(&rules(""), V5);
    let alias = |n| [Property::TopicAlias(id(n))];
    bench.client(&concat(&[
        msg(1, 1, "r/x", "a").with(&alias(1)).octets(V5),
        msg(1, 2, "f/y", "b").with(&alias(2)).octets(V5),
        msg(1, 3, "", "c").with(&alias(2)).octets(V5),
        msg(1, 4, "c/z", "d").with(&alias(3)).octets(V5),
        msg(1, 5, "", "e").with(&alias(3)).octets(V5),
        msg(1, 6, "f/new", "f").with(&alias(3)).octets(V5),
        msg(1, 7, "", "g").with(&alias(3)).octets(V5),
        msg(1, 8, "", "h").with(&alias(1)).octets(V5),
    ]));
    bench.answer_path("/r/x", 200);
    assert_eq!(bench.broker_got(), ["PUBLISH 2 q1 f/y b", "PUBLISH 3 q1 f/y c"]);
    bench.answer_path("/c/z", 403);
    bench.answer_path("/c/z", 200);
    assert_eq!(
        bench.broker_got(),
        ["PUBLISH 5 q1 c/z e", "PUBLISH 6 q1 f/new f", "PUBLISH 7 q1 f/new g"]
    );
    assert_eq!(bench.streams[bench.find("/r/x")].body, b"h");
    bench.answer_path("/r/x", 200);
    assert_eq!(bench.client_got(), ["PUBACK 1", "PUBACK 4 87", "PUBACK 8"]);
}

#[test]
fn an_alias_that_is_unknown_or_too_large_ends_the_session() {
    for (alias, code) in [(5, "82"), (17, "94")] {
        let mut bench = Bench::new(&rules(""), V5);
        bench.client(&msg(0, 0, "", "a").with(&[Property::TopicAlias(id(alias))]).octets(V5));
        assert_eq!(bench.client_got(), [format!("DISCONNECT {code}")]);
        assert!(bench.is_closed() && bench.broker_got().is_empty());
    }
}

#[test]
fn connack_tells_the_limits_that_hold() {
    let worker = Worker::new(&rules(
        r#""max_in_flight": 10, "max_packet_size": 5000, "max_topic_aliases": 4"#,
    ));
    let broker = |receive, aliases, packet| {
        connack_with(
            V5,
            false,
            &[
                Property::TopicAliasMaximum(aliases),
                Property::ReceiveMaximum(id(receive)),
                Property::MaximumPacketSize(size(packet)),
                Property::ReasonString("hi"),
            ],
        )
    };
    for (octets, expected) in [
        (broker(20, 9, 9000), (4, 10, 5000)),
        (broker(3, 0, 100), (4, 3, 100)),
        (connack(V5, false), (4, 10, 5000)),
    ] {
        let mut bench = worker.connect();
        bench.client(&connect(V5, "c1"));
        bench.respond(0, 200);
        bench.broker(&octets);
        let got = bench.client_got().remove(0);
        let (aliases, receive, packet) = expected;
        for property in [
            format!("TopicAliasMaximum({aliases})"),
            format!("ReceiveMaximum({receive})"),
            format!("MaximumPacketSize({packet})"),
        ] {
            assert_eq!(got.matches(&property).count(), 1, "{got}");
        }
        assert_eq!(got.matches("Maximum").count(), 3, "{got}");
    }
}

#[test]
fn receive_maximum_counts_what_is_not_acknowledged_whoever_acknowledges() {
    let config = rules(r#""max_in_flight": 2"#);
    let run = |bench: &mut Bench| {
        for round in 0..5 {
            // Requested, QoS 1 and 2.
            bench.client(&publish(V5, 1, 1, "r/1", "m"));
            bench.client(&publish(V5, 2, 2, "r/2", "m"));
            bench.answer_path("/r/1", 200);
            bench.answer_path("/r/2", 200);
            bench.client(&pubrel(V5, 2));
            assert_eq!(bench.client_got(), ["PUBACK 1", "PUBREC 2", "PUBCOMP 2"], "{round}");
            // Forwarded.
            bench.client(&publish(V5, 1, 3, "f", "m"));
            bench.client(&publish(V5, 2, 4, "f", "m"));
            bench.broker(&puback(V5, 3));
            bench.broker(&pubrec(V5, 4));
            bench.client(&pubrel(V5, 4));
            bench.broker(&pubcomp(V5, 4));
            // Refused and failed.
            bench.client(&publish(V5, 2, 5, "c/x", "m"));
            bench.client(&publish(V5, 1, 6, "r/x", "m"));
            bench.answer_path("/c/x", 403);
            bench.answer_path("/r/x", 500);
            assert_eq!(
                bench.client_got(),
                ["PUBACK 3", "PUBREC 4", "PUBCOMP 4", "PUBREC 5 87", "PUBACK 6 83"]
            );
        }
    };
    let mut bench = Bench::new(&config, V5);
    run(&mut bench);
    bench.client(&publish(V5, 1, 1, "r/1", "m"));
    bench.client(&publish(V5, 2, 2, "r/2", "m"));
    assert!(!bench.is_closed());
    bench.client(&publish(V5, 1, 3, "f", "m"));
    assert_eq!(bench.client_got(), ["DISCONNECT 93"]);
    assert!(bench.is_closed());
}

#[test]
fn a_handshake_from_the_last_connection_does_not_count_against_this_one() {
    let worker = Worker::new(&rules(r#""max_in_flight": 1"#));
    let mut bench = worker.session_with(&reconnect(V5, "c1"), V5, false);
    bench.client(&publish(V5, 2, 9, "r/x", "m"));
    bench.answer_only(200);
    bench.hang_up();
    let mut bench = worker.session_with(&reconnect(V5, "c1"), V5, true);
    bench.client(&msg(2, 9, "r/x", "m").dup().octets(V5));
    bench.client(&pubrel(V5, 9));
    bench.client(&publish(V5, 1, 1, "r/x", "m"));
    bench.answer_only(200);
    assert_eq!(bench.client_got(), ["PUBREC 9", "PUBCOMP 9", "PUBACK 1"]);
}

#[test]
fn the_client_is_sent_nothing_larger_than_it_accepts() {
    let config = r#"{"rules": [
        {"packets": ["subscribe"], "topic_filters": ["s/#"], "carry": "check"},
        {"carry": "request", "publish_reply": true}]}"#;
    let worker = Worker::new(config);
    let small = [Property::MaximumPacketSize(size(30))];
    let connect = connect_with(V5, "c1", true, 60, None, &small);
    let mut bench = worker.connect();
    bench.client(&connect);
    bench.respond(0, 200);
    // 30 octets, and the filter has more to say.
    bench.broker(&connack_with(V5, false, &[Property::ReasonString("a broker's reason st")]));
    assert!(bench.got.len() <= 30, "{} octets of CONNACK", bench.got.len());
    assert!(bench.client_got()[0].starts_with("CONNACK 00"));

    let filters: Vec<(String, u8)> = (0..10).map(|n| (format!("s/{n}"), 0)).collect();
    let mut filters: Vec<(&str, u8)> = filters.iter().map(|(f, q)| (&**f, *q)).collect();
    filters.push(("f", 0));
    bench.client(&subscribe(V5, 1, &filters));
    for _ in 0..10 {
        let open = bench.open();
        bench.answer(open[0], 403);
    }
    let before = bench.got.len();
    let reason = [Property::ReasonString("a broker's reason")];
    let properties = Properties::from(&reason[..]);
    let codes = codec_mqtt::ReasonCodes::new(&[0]);
    let packet = SubAck { packet_id: id(1), properties, reason_codes: codes };
    bench.broker(&octets(&Packet::SubAck(packet), V5));
    assert!(bench.got.len() - before <= 30, "{:?}", bench.client_got());
    let expected = format!("SUBACK 1{} 00", " 87".repeat(10));
    assert_eq!(bench.client_got(), [expected]);

    let reply = [Property::ResponseTopic("reply")];
    bench.client(&msg(1, 2, "x", "").with(&reply).octets(V5));
    let open = bench.open()[0];
    bench.respond(open, 200);
    bench.content(open, &[b'x'; 100]);
    bench.finish(open);
    assert_eq!(bench.client_got(), ["PUBACK 2"]);
}

#[test]
fn the_broker_is_sent_nothing_larger_than_it_accepts() {
    let worker = Worker::new(r#"{"topic_prefix": "tenants/{username}/"}"#);
    let limits = connack_with(V5, false, &[Property::MaximumPacketSize(size(100))]);
    let mut bench = worker.connect().establish(&connect(V5, "c1"), V5, &limits);
    let told = support::wire::show(&bench.got, V5).remove(0);
    let told: usize =
        told.split("MaximumPacketSize(").nth(1).unwrap().trim_end_matches(')').parse().unwrap();
    assert!(told < 100);
    for length in 0..100 {
        let response_topic = [Property::ResponseTopic("r")];
        let octets = msg(0, 0, "t", &"x".repeat(length)).with(&response_topic).octets(V5);
        if octets.len() > told {
            break;
        }
        bench.client(&octets);
        assert!(!bench.is_closed(), "a packet of {} octets, {told} are allowed", octets.len());
    }
    let sent = &bench.session_stream().body;
    let longest = support::wire::show(sent, V5).len();
    assert!(longest > 1);
}

// SUBSCRIBE.

#[test]
fn the_broker_gets_the_allowed_filters_and_the_client_one_suback() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        bench.client(&subscribe(
            version,
            7,
            &[("s/a", 0), ("free/#", 1), ("s/b", 2), ("#", 1), ("s/c", 1), ("s/d", 0)],
        ));
        assert_eq!(bench.asked(), ["GET /s/a", "GET /s/b", "GET /%23", "GET /s/c", "GET /s/d"]);
        assert_eq!(bench.broker_got(), [""; 0]);
        bench.answer_path("/s/d", 404);
        bench.answer_path("/s/a", 403);
        bench.answer_path("/%23", 429);
        bench.answer_path("/s/b", 200);
        assert_eq!(bench.broker_got(), [""; 0]);
        bench.answer_path("/s/c", 500);
        assert_eq!(bench.broker_got(), ["SUBSCRIBE 7 free/#:1 s/b:2"]);
        assert_eq!(bench.client_got(), [""; 0]);
        bench.broker(&suback(version, 7, &[1, 0x80]));
        let expected = match version {
            Version::V5 => "SUBACK 7 87 01 80 97 83 8f",
            Version::V311 => "SUBACK 7 80 01 80 80 80 80",
        };
        assert_eq!(bench.client_got(), [expected]);
    }
}

#[test]
fn a_subscribe_of_which_nothing_is_allowed_is_answered_without_the_broker() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        bench.client(&subscribe(version, 7, &[("s/a", 0), ("s/b", 1)]));
        bench.answer_path("/s/b", 403);
        let open = bench.open()[0];
        bench.reset(open);
        assert_eq!(bench.broker_got(), [""; 0]);
        let expected = if version == V5 { "SUBACK 7 83 87" } else { "SUBACK 7 80 80" };
        assert_eq!(bench.client_got(), [expected]);
    }
}

#[test]
fn a_subscribe_that_is_allowed_passes_as_it_is() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        let packet = subscribe(version, 7, &[("s/a", 0), ("s/b", 1)]);
        bench.client(&packet);
        bench.answer_path("/s/b", 200);
        bench.answer_path("/s/a", 200);
        assert!(bench.session_stream().body.ends_with(&packet));
        bench.broker(&suback(version, 7, &[0, 1]));
        assert_eq!(bench.client_got(), ["SUBACK 7 00 01"]);
    }
}

#[test]
fn no_more_subscriptions_than_are_allowed() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(r#""max_subscriptions": 2"#), version);
        bench.client(&subscribe(version, 1, &[("a", 0), ("b", 0), ("c", 0)]));
        assert_eq!(bench.broker_got(), ["SUBSCRIBE 1 a:0 b:0"]);
        bench.broker(&suback(version, 1, &[0, 0]));
        bench.client(&subscribe(version, 2, &[("a", 1)]));
        assert_eq!(bench.broker_got(), ["SUBSCRIBE 2 a:1"], "not one more");
        bench.broker(&suback(version, 2, &[1]));
        bench.client(&subscribe(version, 3, &[("d", 0)]));
        let code = if version == V5 { "97" } else { "80" };
        assert_eq!(
            bench.client_got(),
            [
                format!("SUBACK 1 00 00 {code}"),
                "SUBACK 2 01".to_owned(),
                format!("SUBACK 3 {code}")
            ]
        );
        bench.client(&unsubscribe(version, 4, &["a"]));
        bench.client(&subscribe(version, 5, &[("d", 0)]));
        assert_eq!(bench.broker_got(), ["UNSUBSCRIBE 4 a", "SUBSCRIBE 5 d:0"]);
    }
}

// Deliveries.

#[test]
fn a_refused_delivery_is_acknowledged_in_the_clients_place() {
    for version in BOTH {
        for status in [403, 500] {
            let mut bench = Bench::new(&rules(""), version);
            bench.broker(&concat(&[
                publish(version, 0, 0, "d/0", "0"),
                publish(version, 1, 1, "d/1", "1"),
                publish(version, 2, 2, "d/2", "2"),
                publish(version, 1, 3, "x", "3"),
            ]));
            for path in ["/d/0", "/d/1", "/d/2"] {
                assert_eq!(bench.asked(), [format!("GET {path}")]);
                let stream = &bench.streams[bench.open()[0]];
                assert_eq!(stream.header("x-mqtt-direction"), Some("to-client"));
                bench.answer_only(status);
            }
            assert_eq!(bench.client_got(), ["PUBLISH 3 q1 x 3"]);
            assert_eq!(bench.broker_got(), ["PUBACK 1", "PUBREC 2"]);
            bench.broker(&pubrel(version, 2));
            assert_eq!(bench.broker_got(), ["PUBCOMP 2"]);
            assert_eq!(bench.client_got(), [""; 0]);
            bench.broker(&publish(version, 2, 2, "x", "another"));
            bench.client(&pubrec(version, 2));
            bench.broker(&pubrel(version, 2));
            bench.client(&pubcomp(version, 2));
            assert_eq!(bench.client_got(), ["PUBLISH 2 q2 x another", "PUBREL 2"]);
            assert_eq!(bench.broker_got(), ["PUBREC 2", "PUBCOMP 2"]);
        }
    }
}

#[test]
fn deliveries_keep_their_order_and_their_payload() {
    for version in BOTH {
        for piece in [3, 100, 100_000] {
            let mut bench = Bench::new(&rules(""), version);
            bench.piece = piece;
            let payload = "x".repeat(5000);
            bench.broker(&concat(&[
                publish(version, 0, 0, "d/0", &payload),
                publish(version, 0, 0, "x", "1"),
                publish(version, 0, 0, "d/2", &payload),
                publish(version, 0, 0, "d/3", &payload),
                suback(version, 1, &[0]),
            ]));
            assert_eq!(bench.client_got(), [""; 0]);
            bench.answer_only(200);
            assert_eq!(
                bench.client_got(),
                [format!("PUBLISH q0 d/0 {payload}"), "PUBLISH q0 x 1".to_owned()]
            );
            bench.answer_only(403);
            assert_eq!(bench.client_got(), [""; 0]);
            bench.answer_only(200);
            assert_eq!(
                bench.client_got(),
                [format!("PUBLISH q0 d/3 {payload}"), "SUBACK 1 00".to_owned()]
            );
        }
    }
}

#[test]
fn a_delivery_that_waits_holds_the_broker_back_and_not_the_client() {
    let mut bench = Bench::new(&rules(""), V5);
    bench.broker(&publish(V5, 0, 0, "d/0", "0"));
    for _ in 0..40 {
        bench.broker(&publish(V5, 0, 0, "x", &"x".repeat(100_000)));
    }
    bench.client(&publish(V5, 1, 1, "r/x", "m"));
    bench.answer_path("/r/x", 200);
    assert_eq!(bench.client_got(), ["PUBACK 1"]);
    let session = bench.session_index().unwrap();
    let waiting: usize = bench.streams[session].unsent_octets();
    assert!(waiting > 2_800_000, "{waiting} octets wait at the broker");
    bench.answer_only(200);
    assert_eq!(bench.client_got().len(), 41);
}

#[test]
fn a_delivery_is_asked_about_however_few_streams_there_are() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(r#""max_pending_messages": 1"#), version);
        bench.client(&publish(version, 1, 1, "c/x", "m"));
        bench.broker(&publish(version, 1, 2, "d/x", "m"));
        assert!(!bench.is_closed());
        bench.answer_path("/c/x", 200);
        bench.answer_path("/d/x", 200);
        assert_eq!(bench.client_got(), ["PUBLISH 2 q1 d/x m"]);
        assert_eq!(bench.broker_got(), ["PUBLISH 1 q1 c/x m"]);
    }
    let mut server = h2::server::Builder::new();
    server.max_concurrent_streams(2);
    let mut bench = Worker::new(&rules("")).connect_to(&server, Duration::ZERO).establish(
        &connect(V5, "c1"),
        V5,
        &connack(V5, false),
    );
    bench.client(&publish(V5, 1, 1, "r/x", "m"));
    bench.broker(&publish(V5, 1, 2, "d/x", "m"));
    assert_eq!(bench.asked(), ["POST /r/x"]);
    bench.answer_only(200);
    bench.answer_only(200);
    assert_eq!(bench.client_got(), ["PUBACK 1", "PUBLISH 2 q1 d/x m"]);
}

#[test]
fn what_the_broker_said_last_is_delivered_before_the_connection_ends() {
    let mut bench = Bench::new(&rules(""), V5);
    let session = bench.session_index().unwrap();
    bench.streams[session].end_with(&concat(&[
        publish(V5, 0, 0, "d/x", "m"),
        publish(V5, 0, 0, "x", "last"),
        vec![0xE0, 1, 0x8B],
    ]));
    bench.settle();
    bench.answer_path("/d/x", 200);
    assert_eq!(bench.client_got(), ["PUBLISH q0 d/x m", "PUBLISH q0 x last", "DISCONNECT 8b"]);
    assert!(bench.is_closed());
}

#[test]
fn acknowledgements_do_not_land_inside_a_packet_of_the_brokers() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        let packet = publish(version, 0, 0, "x", &"x".repeat(1000));
        bench.broker(&packet[..500]);
        bench.client(&publish(version, 1, 1, "r/x", "m"));
        bench.answer_only(200);
        bench.broker(&packet[500..]);
        let got = bench.client_got();
        assert_eq!((got.len(), &*got[1]), (2, "PUBACK 1"));
    }
}

#[test]
fn acknowledgements_do_not_land_inside_a_packet_of_the_clients() {
    for (config, topic) in [(rules(""), "d/x"), (rules(PREFIX), "t/u1/d/x")] {
        for version in BOTH {
            for pending in [false, true] {
                let mut bench = Bench::new(&config, version);
                let payload = "x".repeat(1000);
                if pending {
                    bench.client(&publish(version, 1, 1, "c/x", "before"));
                }
                let packet = publish(version, 1, 2, "f", &payload);
                bench.client(&packet[..500]);
                bench.broker(&concat(&[
                    publish(version, 1, 5, topic, ""),
                    publish(version, 2, 6, topic, ""),
                    pubrel(version, 6),
                ]));
                bench.answer_path("/d/x", 403);
                bench.answer_path("/d/x", 403);
                if pending {
                    bench.answer_path("/c/x", 200);
                }
                bench.client(&packet[500..]);
                let got = bench.broker_got();
                let (acks, messages): (Vec<_>, Vec<_>) =
                    got.into_iter().partition(|line| !line.starts_with("PUBLISH"));
                assert_eq!(messages.len(), 1 + usize::from(pending));
                assert!(messages[messages.len() - 1].ends_with(&payload));
                assert_eq!(acks, ["PUBACK 5", "PUBREC 6", "PUBCOMP 6"]);
            }
        }
    }
}

#[test]
fn replies_that_wait_for_the_end_of_a_packet_are_bounded() {
    let config = r#"{"rules": [{"carry": "request", "publish_reply": true}],
        "max_pending_size": 100000}"#;
    let mut bench = Bench::new(config, V5);
    let packet = publish(V5, 0, 0, "x", "xxxxx");
    bench.broker(&packet[..6]);
    let reply = [Property::ResponseTopic("reply")];
    let mut answered = 0;
    for n in 0..1000 {
        bench.client(&msg(1, n + 1, "x", "").with(&reply).octets(V5));
        let Some(&open) = bench.open().first() else { break };
        bench.respond(open, 200);
        bench.content(open, &[b'x'; 10_000]);
        bench.finish(open);
        answered += 1;
    }
    assert!(answered < 100, "{answered} replies wait");
    assert!(!bench.bridge.accepts_native());
    bench.broker(&packet[6..]);
    assert!(bench.bridge.accepts_native());
    assert!(bench.client_got().len() > answered);
}

// Token buckets.

fn limited(exceeded: &str) -> String {
    rules(&format!(
        r#""rate_limits": [{{"messages": {{"per_second": 1, "burst": 2}}, "exceeded": "{exceeded}"}}]"#
    ))
}

#[test]
fn a_message_above_the_rate_is_delayed_with_all_behind_it() {
    for version in BOTH {
        for path in ["f", "c/1", "r/1"] {
            let mut bench = Bench::new(&limited("delay"), version);
            for n in 1..=4 {
                bench.client(&publish(version, 1, n, path, "m"));
            }
            bench.client(&pingreq());
            let mut asked = 0;
            let mut answer = |bench: &mut Bench| {
                while let Some(&open) = bench.open().first() {
                    bench.answer(open, 200);
                    asked += 1;
                }
                asked
            };
            for expected in [2, 3, 4] {
                answer(&mut bench);
                let at_broker = bench.session_stream().body.len();
                let done = answer(&mut bench);
                if path != "f" {
                    assert_eq!(done, expected, "{path}");
                }
                bench.pass(Duration::from_millis(500));
                answer(&mut bench);
                assert_eq!(bench.session_stream().body.len(), at_broker, "{path}");
                bench.pass(Duration::from_millis(501));
            }
            answer(&mut bench);
            let got = bench.broker_got();
            assert_eq!(got.last().map(|line| &**line), Some("PINGREQ"));
            assert_eq!(got.len(), if path == "r/1" { 1 } else { 5 });
        }
    }
}

#[test]
fn a_message_above_the_rate_is_dropped_rejected_or_the_end() {
    for version in BOTH {
        for path in ["f", "c/1", "r/1"] {
            let run = |exceeded: &str| {
                let mut bench = Bench::new(&limited(exceeded), version);
                for n in 1..=3 {
                    bench.client(&publish(version, 1, n, path, "m"));
                }
                bench.client(&pingreq());
                while let Some(&open) = bench.open().first() {
                    bench.answer(open, 200);
                }
                bench
            };
            let mut bench = run("drop");
            let own = if path == "r/1" { 2 } else { 0 };
            assert_eq!(bench.client_got().len(), own);
            assert_eq!(bench.broker_got().len(), 3 - own);
            let mut bench = run("reject");
            let code = if version == V5 { "PUBACK 3 97" } else { "PUBACK 3" };
            assert!(bench.client_got().contains(&code.to_owned()));
            assert_eq!(bench.broker_got().len(), 3 - own);
            let mut bench = run("disconnect");
            assert!(bench.is_closed());
            let got = bench.client_got();
            assert_eq!(got.contains(&"DISCONNECT 96".to_owned()), version == V5, "{got:?}");
            assert!(!bench.broker_got().contains(&"PINGREQ".to_owned()));
        }
    }
}

#[test]
fn connections_of_one_user_share_a_bucket() {
    let worker = Worker::new(
        r#"{"rate_limits": [{"per": "username", "messages": {"per_second": 1, "burst": 2},
            "exceeded": "reject"}]}"#,
    );
    let mut a = worker.session_with(&connect(V5, "a"), V5, false);
    let mut b = worker.session_with(&connect(V5, "b"), V5, false);
    a.client(&publish(V5, 1, 1, "f", "m"));
    b.client(&publish(V5, 1, 1, "f", "m"));
    b.client(&publish(V5, 1, 2, "f", "m"));
    assert_eq!(b.client_got(), ["PUBACK 2 97"]);
}

// Limits.

#[test]
fn a_topic_that_is_too_long_or_too_deep_is_refused() {
    for version in BOTH {
        let config = rules(r#""max_topic_length": 10, "max_topic_levels": 3"#);
        let mut bench = Bench::new(&config, version);
        for (n, topic) in [(1, "abcdefghijk"), (2, "a/b/c/d"), (3, "a/b/c")] {
            bench.client(&publish(version, 1, n, topic, "m"));
        }
        let code = if version == V5 { " 90" } else { "" };
        assert_eq!(bench.client_got(), [format!("PUBACK 1{code}"), format!("PUBACK 2{code}")]);
        assert_eq!(bench.broker_got(), ["PUBLISH 3 q1 a/b/c m"]);
        bench.client(&subscribe(version, 4, &[("a/b/c/+", 0), ("a/#", 0)]));
        assert_eq!(bench.broker_got(), ["SUBSCRIBE 4 a/#:0"]);
        bench.broker(&suback(version, 4, &[0]));
        let code = if version == V5 { "8f" } else { "80" };
        assert_eq!(bench.client_got(), [format!("SUBACK 4 {code} 00")]);
    }
}

#[test]
fn a_topic_that_is_no_path_is_refused_where_it_would_be_one() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(""), version);
        bench.client(&publish(version, 1, 1, "c/../secret", "m"));
        bench.client(&publish(version, 1, 2, "r/./x", "m"));
        bench.client(&publish(version, 1, 3, "f/../x", "m"));
        let code = if version == V5 { " 90" } else { "" };
        assert_eq!(bench.client_got(), [format!("PUBACK 1{code}"), format!("PUBACK 2{code}")]);
        assert_eq!(bench.asked(), [""; 0]);
        assert_eq!(bench.broker_got(), ["PUBLISH 3 q1 f/../x m"]);
    }
}

#[test]
fn no_header_is_forged() {
    let config = r#"{"rules": [{"carry": "check", "user_properties": ["k"]}]}"#;
    let nasty = "v\r\nx-carry: flow\r\n\u{7f}\u{fffd} ,%";
    let properties = [
        Property::UserProperty("k", nasty),
        Property::UserProperty("x-carry", "flow"),
        Property::UserProperty("traceparent", nasty),
        Property::ContentType(nasty),
    ];
    let topic = "a b\r\nx: y?q;f%2f";
    let mut bench = Bench::new(config, V5);
    bench.client(&msg(1, 1, topic, "m").with(&properties).octets(V5));
    let stream = &bench.streams[bench.open()[0]];
    assert_eq!(stream.path, "/a%20b%0D%0Ax%3A%20y%3Fq%3Bf%252f");
    assert_eq!(stream.header("x-carry"), Some("check"));
    assert_eq!(stream.header("content-type"), Some("application/octet-stream"));
    let value = stream.header("x-mqtt-user-property-k").unwrap();
    assert!(value.starts_with("v%0D%0Ax-carry:%20flow%0D%0A"), "{value}");
    assert!(stream.header("traceparent").is_none() && stream.header("x").is_none());
}

/// What would be more than one header value, or another path, to somebody who reads it carelessly.
fn nasty() -> Vec<String> {
    let mut nasty = vec!["x".repeat(60_000), "\u{e9}".repeat(20_000), "/".repeat(40_000)];
    for text in [
        "v\r\nx-evil: 1\r\n\r\nGET / HTTP/1.1",
        "\r",
        "\n",
        "\t",
        "\u{1}\u{7f}\u{80}",
        "\u{e9}\u{10ffff}",
        " ",
        " x ",
        ",",
        "a, b",
        ":",
        "u:p",
        "%0d%0a",
        "%2e%2e/%2f",
        "..",
        "../x",
        "a/../b",
        "a/./b",
        "a//b",
        "//host/b",
        "a/",
        "\\..\\",
        "..;/x",
        "a?b&c=d;e",
        "\"'<>",
        "http://x/",
        "x-carry: flow",
        "",
    ] {
        nasty.push(text.to_owned());
    }
    nasty
}

/// Nothing but what the documentation lists, each a single value of visible ASCII; and a path that everybody reads alike.
#[track_caller]
fn assert_harmless(stream: &Stream) {
    for (name, value) in &stream.headers {
        let text = value.to_str().expect("visible ASCII");
        assert_eq!(text.trim(), text, "{name}: white space around it");
        assert!(!text.contains(['\t', '\r', '\n']));
        let is_known = ["x-mqtt-", "ce-"].iter().any(|prefix| name.as_str().starts_with(prefix))
            || matches!(
                name.as_str(),
                "x-protocol"
                    | "x-carry"
                    | "authorization"
                    | "content-type"
                    | "content-length"
                    | "traceparent"
                    | "tracestate"
            );
        assert!(is_known, "{name}: {text}");
        assert_eq!(stream.headers.get_all(name).iter().count(), 1, "{name}");
    }
    assert!(stream.path.starts_with('/'));
    assert!(stream.path.len() <= 33_000);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%/".contains(&byte);
    assert!(stream.path.bytes().all(is_plain), "{}", stream.path);
    for segment in stream.path.split('/') {
        let decoded = segment.to_ascii_lowercase().replace("%2e", ".");
        assert!(!matches!(&*decoded, "." | ".."), "{}", stream.path);
        assert!(!segment.contains("%2F") && !segment.contains("%00"));
    }
}

#[test]
fn no_text_in_any_field_forges_a_header_or_a_path() {
    let configs = [
        r#"{"authorization": "basic", "rules": [{"carry": "check", "user_properties": ["k"],
            "packets": ["publish", "will", "subscribe", "delivery"]}]}"#,
        r#"{"authorization": "bearer", "rules": [{"carry": "request", "user_properties": ["k"],
            "packets": ["publish"], "cloudevents": "binary"}]}"#,
        r#"{"authorization": "none", "topic_prefix": "t/{username}/", "rules": [
            {"carry": "request", "packets": ["publish"], "cloudevents": "structured"}]}"#,
    ];
    let (mut sessions, mut messages) = (0, 0);
    for nasty in &nasty() {
        for config in configs {
            let is_topic = !nasty.is_empty();
            let connect = Connect {
                version: V5,
                clean_start: true,
                keep_alive: 60,
                client_id: nasty,
                username: Some(nasty),
                password: Some(nasty.as_bytes()),
                will: is_topic.then_some(Will {
                    topic: nasty,
                    payload: b"",
                    qos: QoS::AtMostOnce,
                    retain: false,
                    properties: Properties::EMPTY,
                }),
                properties: Properties::EMPTY,
            };
            let worker = Worker::new(config);
            let mut bench = worker.connect();
            bench.client(&octets(&Packet::Connect(connect), V5));
            for check in bench.open() {
                bench.answer(check, 200);
            }
            // Refused for what the text is as a topic or a user name, or because all of it is too long.
            let Some(session) = bench.session_index() else {
                assert!(bench.is_closed());
                bench.streams.iter().for_each(assert_harmless);
                continue;
            };
            sessions += 1;
            bench.respond(session, 200);
            bench.broker(&connack(V5, false));
            let properties = [
                Property::UserProperty("k", nasty),
                Property::UserProperty("x-carry", nasty),
                Property::UserProperty(nasty, nasty),
                Property::UserProperty(
                    "traceparent",
                    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                ),
                Property::UserProperty("tracestate", nasty),
                Property::ContentType(nasty),
            ];
            let event = [&properties[..], &[Property::UserProperty("specversion", "1.0")]].concat();
            for properties in [&properties[..], &event] {
                bench.client(&msg(0, 0, "a", "m").with(properties).octets(V5));
                if is_topic {
                    bench.client(&msg(0, 0, nasty, "m").with(properties).octets(V5));
                    bench.broker(&msg(0, 0, nasty, "m").with(properties).octets(V5));
                }
                for open in bench.open() {
                    bench.answer(open, 200);
                }
            }
            if is_topic {
                bench.client(&subscribe(V5, 7, &[(nasty, 0)]));
                bench.client(&subscribe(
                    V5,
                    8,
                    &[(&format!("$share/{}/x", nasty.replace('/', "-")), 0)],
                ));
            }
            messages += bench.streams.len() - 1;
            bench.streams.iter().for_each(assert_harmless);
        }
    }
    assert!(sessions > 40 && messages > 200, "{sessions} {messages}");
}

#[test]
fn a_silent_client_is_disconnected_after_one_and_a_half_keep_alives() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(r#""enforce_keep_alive": true"#), version);
        bench.pass(seconds(80));
        bench.client(&pingreq());
        bench.pass(seconds(89));
        assert!(!bench.is_closed());
        bench.pass(seconds(2));
        assert!(bench.is_closed());
        let expected: &[&str] = if version == V5 { &["DISCONNECT 8d"] } else { &[] };
        assert_eq!(bench.client_got(), expected);
    }
}

#[test]
fn octets_that_complete_no_packet_are_silence() {
    for version in BOTH {
        for config in [r#"{"enforce_keep_alive": true}"#, &rules(r#""enforce_keep_alive": true"#)] {
            let mut bench = Bench::new(config, version);
            for octet in &subscribe(version, 5, &[("a/long/topic/filter", 1)])[..12] {
                bench.client(&[*octet]);
                bench.pass(seconds(10));
            }
            assert!(bench.is_closed());
        }
    }
}

#[test]
fn a_client_that_nobody_listens_to_is_not_silent() {
    let config = rules(r#""enforce_keep_alive": true, "max_pending_messages": 1"#);
    let mut bench = Bench::new(&config, V5);
    bench.client(&publish(V5, 1, 1, "c/x", "m"));
    bench.client(&pingreq());
    bench.pass(seconds(1000));
    assert!(!bench.is_closed());
    bench.answer_only(200);
    bench.pass(seconds(80));
    assert!(!bench.is_closed());
    bench.pass(seconds(20));
    assert!(bench.is_closed());
}

#[test]
fn the_brokers_keep_alive_replaces_the_clients() {
    for own in [0, 3600] {
        for config in
            [r#"{"enforce_keep_alive": true}"#.to_owned(), rules(r#""enforce_keep_alive": true"#)]
        {
            let worker = Worker::new(&config);
            let connect = connect_with(V5, "c1", true, own, None, &[]);
            let broker = connack_with(V5, false, &[Property::ServerKeepAlive(10)]);
            let server = h2::server::Builder::new();
            let mut bench =
                worker.connect_to(&server, seconds(500)).establish(&connect, V5, &broker);
            bench.pass(seconds(14));
            assert!(!bench.is_closed());
            bench.pass(seconds(2));
            assert!(bench.is_closed(), "own keep alive {own}, {config}");
        }
    }
}

// Will messages and authentication.

fn with_will(version: Version) -> Vec<u8> {
    let will = Will {
        topic: "c/will",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::EMPTY,
    };
    connect_with(version, "c1", true, 60, Some(will), &[])
}

#[test]
fn a_will_message_is_checked_before_the_session_begins() {
    for version in BOTH {
        for status in [200, 403, 404, 500] {
            let worker = Worker::new(&rules(""));
            let mut bench = worker.connect();
            bench.version = version;
            bench.client(&with_will(version));
            assert_eq!(bench.asked(), ["POST /c/will"]);
            assert_eq!(bench.session_index(), None);
            bench.answer_only(status);
            assert_eq!(bench.asked(), [""; 0], "asked once");
            if status == 200 {
                assert!(bench.session_index().is_some());
                assert!(!bench.is_closed());
            } else {
                assert_eq!(bench.session_index(), None);
                assert!(bench.is_closed());
                let got = bench.client_got();
                let code = match (version, status) {
                    (Version::V5, 403) => "CONNACK 87",
                    (Version::V5, 404) => "CONNACK 90",
                    (Version::V5, _) => "CONNACK 88",
                    (Version::V311, 403) => "CONNACK 05",
                    (Version::V311, 404) => "",
                    (Version::V311, _) => "CONNACK 03",
                };
                assert!(got.concat().starts_with(code), "{got:?} for {status}");
            }
        }
    }
}

#[test]
fn a_will_message_nobody_answers_about_is_unavailable() {
    for version in BOTH {
        let mut bench = Worker::new(&rules("")).connect();
        bench.version = version;
        bench.client(&with_will(version));
        let open = bench.open()[0];
        bench.reset(open);
        assert_eq!(bench.asked(), [""; 0]);
        assert!(bench.is_closed());
        let code = if version == V5 { "CONNACK 88" } else { "CONNACK 03" };
        assert!(bench.client_got().concat().starts_with(code));
    }
}

#[test]
fn enhanced_authentication_passes_before_connack() {
    let method = [Property::AuthenticationMethod("m")];
    let auth = |data| {
        let properties = [Property::AuthenticationMethod("m"), Property::AuthenticationData(data)];
        let packet = codec_mqtt::Auth {
            reason_code: ReasonCode::CONTINUE_AUTHENTICATION,
            properties: Properties::from(&properties),
        };
        octets(&Packet::Auth(packet), V5)
    };
    let mut bench = Worker::new(&rules("")).connect();
    bench.piece = 1;
    bench.client(&connect_with(V5, "c1", true, 60, None, &method));
    bench.respond(0, 200);
    bench.broker(&auth(b"challenge"));
    assert_eq!(bench.client_got(), ["AUTH 18"]);
    bench.client(&concat(&[auth(b"response"), publish(V5, 1, 1, "c/x", "early")]));
    assert_eq!(bench.broker_got()[1..], ["AUTH 18"]);
    assert_eq!(bench.asked(), [""; 0], "nothing else before the broker has accepted the session");
    bench.broker(&connack_with(V5, false, &method));
    assert_eq!(bench.asked(), ["POST /c/x"]);
}

// Topic prefixes.

const PREFIX: &str = r#""topic_prefix": "t/{username}/""#;

#[test]
fn topics_have_the_prefix_at_the_broker_only() {
    for version in BOTH {
        let mut bench = Bench::new(&rules(PREFIX), version);
        bench.client(&concat(&[
            publish(version, 1, 1, "f", "1"),
            publish(version, 1, 2, "c/x", "2"),
            publish(version, 1, 3, "r/x", "3"),
            subscribe(version, 4, &[("#", 1), ("f", 0)]),
            unsubscribe(version, 5, &["f"]),
        ]));
        assert_eq!(bench.asked(), ["POST /c/x", "POST /r/x"]);
        bench.answer_path("/c/x", 200);
        bench.answer_path("/r/x", 200);
        bench.answer_path("/%23", 200);
        assert_eq!(
            bench.broker_got(),
            [
                "PUBLISH 1 q1 t/u1/f 1",
                "PUBLISH 2 q1 t/u1/c/x 2",
                "SUBSCRIBE 4 t/u1/#:1 t/u1/f:0",
                "UNSUBSCRIBE 5 t/u1/f"
            ]
        );
        bench.broker(&concat(&[
            publish(version, 1, 1, "t/u1/f", "1"),
            publish(version, 1, 2, "t/other/f", "2"),
            publish(version, 2, 3, "t/u1/d/x", "3"),
        ]));
        bench.answer_path("/d/x", 200);
        assert_eq!(bench.client_got(), ["PUBACK 3", "PUBLISH 1 q1 f 1", "PUBLISH 3 q2 d/x 3"]);
        assert_eq!(bench.broker_got(), ["PUBACK 2"]);
    }
}

#[test]
fn the_wills_and_the_response_topics_have_the_prefix_too() {
    let worker = Worker::new(&format!("{{{PREFIX}}}"));
    let mut bench = worker.connect();
    bench.client(&with_will(V5));
    bench.respond(0, 200);
    assert_eq!(bench.broker_got(), ["CONNECT c1 will t/u1/c/will"]);
    bench.broker(&connack(V5, false));
    bench.client_got();
    bench.client(&msg(0, 0, "f", "m").with(&[Property::ResponseTopic("r")]).octets(V5));
    assert_eq!(bench.broker_got(), [r#"PUBLISH q0 t/u1/f m ResponseTopic("t/u1/r")"#]);
    bench.broker(&msg(0, 0, "t/u1/f", "m").with(&[Property::ResponseTopic("t/u1/r")]).octets(V5));
    assert_eq!(bench.client_got(), [r#"PUBLISH q0 f m ResponseTopic("r")"#]);
}

#[test]
fn the_broker_uses_no_aliases_where_its_topics_are_read() {
    for config in [format!("{{{PREFIX}}}"), rules("")] {
        let mut bench = Worker::new(&config).connect();
        let aliases = [Property::TopicAliasMaximum(10), Property::ReceiveMaximum(id(5))];
        bench.client(&connect_with(V5, "c1", true, 60, None, &aliases));
        bench.respond(0, 200);
        assert_eq!(bench.broker_got(), ["CONNECT c1 ReceiveMaximum(5)"], "{config}");
    }
    // Nobody reads them here.
    let mut bench =
        Worker::new(r#"{"rules": [{"topic_filters": ["c/#"], "carry": "check"}]}"#).connect();
    bench.client(&connect_with(V5, "c1", true, 60, None, &[Property::TopicAliasMaximum(10)]));
    bench.respond(0, 200);
    assert_eq!(bench.broker_got(), ["CONNECT c1 TopicAliasMaximum(10)"]);
}

// Replies and cached verdicts.

#[test]
fn a_response_is_published_to_the_response_topic() {
    let config = r#"{"rules": [{"carry": "request", "publish_reply": true}]}"#;
    let properties = [Property::ResponseTopic("reply/here"), Property::CorrelationData(b"7")];
    let mut bench = Bench::new(config, V5);
    bench.client(&msg(1, 1, "x", "m").with(&properties).octets(V5));
    let open = bench.open()[0];
    bench.respond_with(open, 200, &[("content-type", "text/plain")]);
    bench.content(open, b"hel");
    bench.content(open, b"lo");
    assert_eq!(bench.client_got(), [""; 0]);
    bench.finish(open);
    assert_eq!(
        bench.client_got(),
        [
            "PUBACK 1".to_owned(),
            r#"PUBLISH q0 reply/here hello CorrelationData([55]) ContentType("text/plain")"#
                .to_owned()
        ]
    );
}

#[test]
fn an_answer_that_is_remembered_is_not_asked_for_again() {
    let config = r#"{"rules": [{"carry": "check", "verdict_cache": "10s"}]}"#;
    for version in BOTH {
        for (status, again) in [(200, 0), (403, 0), (500, 1)] {
            let mut bench = Bench::new(config, version);
            bench.client(&publish(version, 0, 0, "x", "1"));
            bench.answer_only(status);
            bench.client(&publish(version, 0, 0, "x", "2"));
            assert_eq!(bench.open().len(), again, "{status}");
            bench.client(&publish(version, 0, 0, "y", "3"));
            assert_eq!(bench.open().len(), again + 1);
            while let Some(&open) = bench.open().first() {
                bench.answer(open, 200);
            }
            bench.pass(seconds(11));
            bench.client(&publish(version, 0, 0, "x", "4"));
            assert_eq!(bench.open().len(), 1);
        }
    }
}
