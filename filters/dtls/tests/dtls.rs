//! What the decorator promises, shown with a client on the other side of a network that the test
//! controls.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod common;

use std::time::Duration;

use bridge::Peer;
use common::{
    Client, KEY, UNIX_TIME, Version, Way, Worker, World, capsule, mutual, psk, server_certificate,
};
use dtls::Identity;

const SECOND: Duration = Duration::from_secs(1);

fn psk_client(now: Duration) -> Client {
    Client::with_psk("device-1", KEY, now)
}

fn certificate_12(now: Duration) -> Client {
    Client::with_certificate("client", Version::V12, now)
}

fn certificate_13(now: Duration) -> Client {
    Client::with_certificate("client", Version::V13, now)
}

/// Makes a client.
type Make = fn(Duration) -> Client;

fn certificate_client(version: Version) -> impl Fn(Duration) -> Client {
    move |now| Client::with_certificate("client", version, now)
}

#[test]
fn a_client_with_a_pre_shared_key_is_known_by_its_identity() {
    let worker = Worker::new(&psk());
    let mut world = World::new(&worker, psk_client);
    world.connect();
    assert_eq!(world.identities(), [Identity::Psk("device-1".into())]);
    assert_eq!(world.exchange(b"hello"), [b"hello"]);
    let labels = [("version", "1.2"), ("cipher_suite", "TLS_PSK_WITH_AES_128_CCM_8")];
    assert_eq!(worker.count("dtls_negotiated_total", &labels), 1);
    assert_eq!(worker.handshakes("completed"), 1);
    assert_eq!(worker.registry.gauge("dtls_handshakes_active", &[]).value(), 0);
    assert_eq!(worker.registry.gauge("dtls_associations_active", &[]).value(), 1);
    drop(world);
    assert_eq!(worker.registry.gauge("dtls_associations_active", &[]).value(), 0);
}

#[test]
fn a_client_with_a_certificate_is_known_by_what_it_says() {
    for version in [Version::V12, Version::V13, Version::Auto] {
        let worker = Worker::new(&mutual());
        let mut world = World::new(&worker, certificate_client(version));
        world.connect();
        let identities = world.identities();
        let [Identity::Certificate(identity)] = identities.as_slice() else {
            panic!("{version:?}: {identities:?}");
        };
        assert_eq!(identity.subject, "CN=device-1,O=Devices");
        assert_eq!(identity.uris, ["urn:dev:1"]);
        assert_eq!(identity.dns_names, ["device-1.example"]);
        assert_eq!(world.exchange(b"hello"), [b"hello"]);
        let (version, suite) = match version {
            Version::V12 => ("1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
            _ => ("1.3", "TLS_AES_128_GCM_SHA256"),
        };
        let labels = [("version", version), ("cipher_suite", suite)];
        assert_eq!(worker.count("dtls_negotiated_total", &labels), 1, "{labels:?}");
    }
}

#[test]
fn without_client_certificates_a_client_is_anonymous() {
    for version in [Version::V12, Version::V13] {
        let worker = Worker::new(&server_certificate());
        let mut world = World::new(&worker, certificate_client(version));
        world.connect();
        assert_eq!(world.identities(), [Identity::Anonymous]);
        assert_eq!(world.exchange(b"hello"), [b"hello"]);
    }
}

#[test]
fn keys_and_certificates_work_on_one_port() {
    let worker = Worker::new(&format!("{}, {}", psk(), mutual()));
    let mut world = World::new(&worker, psk_client);
    world.connect();
    assert_eq!(world.identities(), [Identity::Psk("device-1".into())]);
    for version in [Version::V12, Version::V13, Version::Auto] {
        let mut world = World::new(&worker, certificate_client(version));
        world.connect();
        assert!(matches!(world.identities()[..], [Identity::Certificate(_)]));
    }
}

/// Runs a handshake that must fail, and returns the alert that the client got, if any.
fn fails(worker: &Worker, client: impl FnOnce(Duration) -> Client, result: &str) -> Option<u8> {
    let mut world = World::new(worker, client);
    world.run(60 * SECOND, Vec::new());
    assert!(world.identities().is_empty());
    assert_eq!(worker.handshakes("completed"), 0);
    assert_eq!(worker.handshakes(result), 1, "not {result}");
    assert!(world.session.closed);
    assert_eq!(worker.registry.gauge("dtls_handshakes_active", &[]).value(), 0);
    let mut alerts = world.seen.iter().filter_map(|(way, datagram)| match datagram[..] {
        [21, .., 2, description] if *way == Way::Down => Some(description),
        _ => None,
    });
    alerts.next_back()
}

#[test]
fn a_wrong_key_and_an_unknown_identity_look_the_same_to_the_client() {
    let wrong = |now| Client::with_psk("device-1", "000102", now);
    let unknown = |now| Client::with_psk("device-2", KEY, now);
    assert_eq!(fails(&Worker::new(&psk()), wrong, "bad_psk"), Some(51));
    assert_eq!(fails(&Worker::new(&psk()), unknown, "unknown_psk_identity"), Some(51));
}

#[test]
fn a_certificate_that_nobody_trusted_signed_is_refused() {
    for version in [Version::V12, Version::V13] {
        let stranger = |now| Client::with_certificate("stranger", version, now);
        let alert = fails(&Worker::new(&mutual()), stranger, "certificate_unknown_ca");
        assert_eq!(alert, Some(48));
    }
}

#[test]
fn a_certificate_for_servers_is_refused() {
    let client = |now| Client::with_certificate("server-only", Version::V12, now);
    assert_eq!(fails(&Worker::new(&mutual()), client, "certificate_usage"), Some(43));
}

#[test]
fn a_certificate_is_refused_outside_its_time() {
    let client = certificate_client(Version::V12);
    let late = Worker::at(&mutual(), || UNIX_TIME * 3);
    assert_eq!(fails(&late, &client, "certificate_expired"), Some(45));
    let early = Worker::at(&mutual(), || SECOND);
    assert_eq!(fails(&early, &client, "certificate_not_yet_valid"), Some(45));
}

#[test]
fn a_client_without_a_common_cipher_suite_is_told_so() {
    let worker = Worker::new(&psk());
    let mut world = World::new(&worker, certificate_client(Version::V12));
    world.run(SECOND, Vec::new());
    assert_eq!(worker.handshakes("no_common_cipher_suite"), 1);
    assert!(matches!(
        world.client.error,
        Some(dimpl::Error::SecurityError(dimpl::SecurityError::FatalAlert { description: 40 }))
    ));
}

/// A network that is bad in a way that is the same every time.
fn bad_network(mut seed: u32) -> impl FnMut(Way, Vec<u8>) -> Vec<Vec<u8>> {
    let mut held: Option<(Way, Vec<u8>)> = None;
    move |way, datagram| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match seed >> 29 {
            // Lost.
            0 => vec![],
            // Twice.
            1 | 2 => vec![datagram.clone(), datagram],
            // After the next one that goes the same way.
            3 => {
                held = Some((way, datagram));
                vec![]
            }
            _ => match held.take() {
                Some((other, late)) if other == way => vec![datagram, late],
                _ => vec![datagram],
            },
        }
    }
}

#[test]
fn a_handshake_survives_loss_duplication_and_reordering() {
    let clients: [(&str, Make); 3] =
        [("psk", psk_client), ("1.2", certificate_12), ("1.3", certificate_13)];
    let retry = r#""retransmit_timeout": "0.5s""#;
    for (name, client) in clients {
        let mut completed = 0;
        for seed in 0..20 {
            let worker = Worker::new(&format!("{}, {}, {retry}", psk(), mutual()));
            let mut world = World::new(&worker, client);
            world.run_through(80 * SECOND, Vec::new(), &mut bad_network(seed));
            if world.client.connected && world.client.error.is_none() {
                completed += 1;
                assert_eq!(world.exchange(b"hello"), [b"hello"]);
            } else {
                // Either side may have given up, but neither may wait for ever.
                assert_eq!(worker.registry.gauge("dtls_handshakes_active", &[]).value(), 0);
            }
        }
        assert!(completed >= 10, "{name}: {completed} of 20");
    }
}

#[test]
fn nothing_is_kept_for_a_client_until_its_cookie_came_back() {
    for client in [psk_client as Make, certificate_12, certificate_13] {
        let worker = Worker::new(&format!("{}, {}", psk(), mutual()));
        let mut world = World::new(&worker, client);
        let hello = world.client.tick(world.now).remove(0);
        let answer = world.session.receive(world.now, &hello);
        assert_eq!(answer.len(), 1);
        assert!(answer[0].len() < hello.len(), "no amplification");
        assert_eq!(worker.registry.gauge("dtls_handshakes_active", &[]).value(), 0);
        let second = world.client.receive(world.now, &answer[0]).remove(0);

        // From another address the cookie is worth nothing.
        let mut other = worker.session("192.0.2.1:5685");
        other.receive(world.now, &second);
        assert_eq!(worker.registry.gauge("dtls_handshakes_active", &[]).value(), 0);
        assert_eq!(worker.dropped("cookie"), 1);

        // Another session of the same address takes it, because the first one kept nothing.
        let mut same = worker.session("192.0.2.1:5684");
        same.receive(world.now, &second);
        assert_eq!(worker.registry.gauge("dtls_handshakes_active", &[]).value(), 1);
    }
}

#[test]
fn a_cookie_that_is_too_old_is_replaced() {
    let worker = Worker::new(&psk());
    let mut world = World::new(&worker, psk_client);
    let hello = world.client.tick(world.now).remove(0);
    let answer = world.session.receive(world.now, &hello).remove(0);
    let second = world.client.receive(world.now, &answer);
    world.now += 150 * SECOND;
    // The session itself has no patience for so long.
    world.session = worker.session("192.0.2.1:5684");
    let mut late = Vec::new();
    for datagram in second {
        late.extend(world.session.receive(world.now, &datagram));
    }
    assert_eq!(worker.dropped("cookie"), 1);
    assert_eq!(late[0][13], 3, "another HelloVerifyRequest");
    assert_eq!(worker.registry.gauge("dtls_handshakes_active", &[]).value(), 0);
}

#[test]
fn record_sequence_numbers_go_on_from_the_clients() {
    for client in [psk_client as Make, certificate_13] {
        let worker = Worker::new(&format!("{}, {}", psk(), mutual()));
        let mut world = World::new(&worker, client);
        // The first three answers are lost.
        let mut lost = 0;
        world.run_through(60 * SECOND, Vec::new(), &mut |way, datagram| {
            lost += usize::from(way == Way::Down);
            if way == Way::Down && lost <= 3 { vec![] } else { vec![datagram] }
        });
        assert!(world.client.connected);
        let mut numbers = Vec::new();
        for (_, datagram) in world.seen.iter().filter(|(way, _)| *way == Way::Down) {
            let mut rest = datagram.as_slice();
            while let [20..=23, _, _, 0, 0, .., high, low] = rest[..rest.len().min(13)] {
                numbers.push(rest[10]);
                rest = &rest[13 + usize::from(u16::from_be_bytes([high, low]))..];
            }
        }
        // Four that ask for a cookie, with the number of the ClientHello that each answers, and the
        // first flight, with that of the fifth.
        assert_eq!(numbers[..5], [0, 1, 2, 3, 4], "{numbers:?}");
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
}

#[test]
fn a_hello_in_fragments_is_refused_without_state() {
    let worker = Worker::new(&psk());
    let mut session = worker.session("a");
    let mut hello = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12 + 10];
    hello.extend([1, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 10]);
    hello.extend([0xfe; 10]);
    let answer = session.receive(SECOND, &hello);
    assert_eq!(answer, [[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40]]);
    assert_eq!(worker.dropped("fragmented_hello"), 1);
}

#[test]
fn no_more_handshakes_begin_than_may_be_in_progress() {
    let worker = Worker::new(&format!(r#"{}, "max_handshakes": 1"#, psk()));
    let begin = |source: &str| {
        let now = 100 * SECOND;
        let (mut session, mut client) = (worker.session(source), psk_client(now));
        let hello = client.tick(now).remove(0);
        let answer = session.receive(now, &hello).remove(0);
        let second = client.receive(now, &answer).remove(0);
        let answers = session.receive(now, &second).len();
        (session, answers)
    };
    let (first, answers) = begin("a");
    assert!(answers > 0);
    let (_second, answers) = begin("b");
    assert_eq!(answers, 0);
    assert_eq!(worker.handshakes("too_many"), 1);
    drop(first);
    assert_eq!(worker.handshakes("abandoned"), 1);
    assert!(begin("c").1 > 0);
}

#[test]
fn garbage_replay_and_forgery_change_nothing_but_a_counter() {
    for client in [psk_client as Make, certificate_12, certificate_13] {
        let worker = Worker::new(&format!("{}, {}", psk(), mutual()));
        let mut world = World::new(&worker, client);
        world.connect();
        assert_eq!(world.exchange(b"hello"), [b"hello"]);
        let (_, record) = world.seen.iter().rfind(|(way, _)| *way == Way::Up).unwrap().clone();

        // The same record again.
        assert!(world.session.receive(world.now, &record).is_empty());
        assert_eq!(worker.dropped("rejected"), 1);
        // With each octet changed in turn, alone and in front of a plain handshake message.
        for at in 0..record.len() {
            let mut forged = record.clone();
            forged[at] ^= 1;
            world.session.receive(world.now, &forged);
            forged.extend([22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 16]);
            forged.extend([1, 0, 0, 4, 0, 9, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]);
            world.session.receive(world.now, &forged);
        }
        // What needs no protection: alerts, data, messages of a handshake.
        for (kind, fragment) in [(21, &b"\x02\x28"[..]), (23, b"data"), (20, b"\x01")] {
            let mut plain = vec![kind, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, fragment.len() as u8];
            plain.extend_from_slice(fragment);
            world.session.receive(world.now, &plain);
        }
        for kind in 0..=255 {
            let mut message = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 16];
            message.extend([kind, 0, 0, 4, 0, 9, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]);
            world.session.receive(world.now, &message);
        }
        let seen = world.seen.clone();
        for (_, datagram) in &seen {
            world.session.receive(world.now, datagram);
        }
        assert!(!world.session.closed);
        assert_eq!(world.session.log.borrow().received, [b"hello"]);
        assert_eq!(world.exchange(b"again"), [b"again"]);
        assert_eq!(worker.count("dtls_associations_closed_total", &[("reason", "error")]), 0);
    }
}

#[test]
fn a_record_without_an_association_is_counted() {
    let worker = Worker::new(&psk());
    let mut world = World::new(&worker, psk_client);
    world.connect();
    let record = world.client.send(b"hello").remove(0);
    let mut other = worker.session("b");
    assert!(other.receive(world.now, &record).is_empty());
    assert_eq!(worker.dropped("no_association"), 1);
    assert!(other.receive(world.now, b"").is_empty());
    assert!(other.receive(world.now, b"\x40\x01\x00\x00").is_empty());
    assert_eq!(worker.dropped("malformed"), 2);
}

#[test]
fn a_client_that_closes_is_answered_and_the_carried_protocol_told() {
    for (client, version) in [(psk_client as Make, Version::V12), (certificate_13, Version::V13)] {
        let worker = Worker::new(&format!("{}, {}", psk(), mutual()));
        let mut world = World::new(&worker, client);
        world.connect();
        // Data right before it is not lost.
        let mut sent = world.client.send(b"last");
        sent.extend(world.client.close());
        world.run(Duration::ZERO, sent);
        assert_eq!(world.session.log.borrow().received, [b"last"]);
        assert!(world.session.log.borrow().ended);
        assert!(world.session.closed);
        assert!(world.client.close_notify, "{version:?}");
        let reason = [("reason", "closed")];
        assert_eq!(worker.count("dtls_associations_closed_total", &reason), 1);
    }
}

#[test]
fn when_the_carried_protocol_closes_the_client_is_told() {
    for client in [psk_client as Make, certificate_13] {
        let worker = Worker::new(&format!("{}, {}", psk(), mutual()));
        let mut world = World::new(&worker, client);
        world.connect();
        assert_eq!(world.exchange(b"bye"), [b"bye"]);
        assert!(world.client.close_notify);
        assert!(world.session.closed);
    }
}

#[test]
fn an_idle_association_is_closed() {
    let worker = Worker::new(&format!(r#"{}, "idle_timeout": "60s""#, psk()));
    let mut world = World::new(&worker, psk_client);
    world.connect();
    world.run(50 * SECOND, Vec::new());
    assert_eq!(world.exchange(b"hello"), [b"hello"]);
    world.run(59 * SECOND, Vec::new());
    assert!(!world.session.closed);
    world.run(2 * SECOND, Vec::new());
    assert!(world.session.closed);
    assert!(world.client.close_notify);
    assert_eq!(worker.count("dtls_associations_closed_total", &[("reason", "idle")]), 1);
}

#[test]
fn a_session_without_a_handshake_does_not_last() {
    let worker = Worker::new(&psk());
    let mut world = World::new(&worker, psk_client);
    let hello = world.client.tick(world.now).remove(0);
    world.session.receive(world.now, &hello);
    let deadline = world.session.bridge.next_step().deadline.unwrap();
    assert_eq!(deadline, world.now + 30 * SECOND);
    world.session.bridge.handle_timeout(deadline);
    world.session.take();
    assert!(world.session.closed);
}

#[test]
fn a_handshake_that_does_not_end_is_ended() {
    let worker = Worker::new(&format!(r#"{}, "handshake_timeout": "5s""#, psk()));
    let mut world = World::new(&worker, psk_client);
    let hello = world.client.tick(world.now).remove(0);
    let answer = world.session.receive(world.now, &hello).remove(0);
    let second = world.client.receive(world.now, &answer).remove(0);
    let flight = world.session.receive(world.now, &second);
    assert!(!flight.is_empty());
    let (mut sent, end) = (0, world.now + 20 * SECOND);
    while let Some(at) = world.session.bridge.next_step().deadline.filter(|at| *at < end) {
        world.session.bridge.handle_timeout(at);
        sent += world.session.take().len();
    }
    // After about 1 s and 3 s.
    assert!((1..=3).contains(&sent), "{sent}");
    assert_eq!(worker.handshakes("timeout"), 1);
    assert!(world.session.closed);
}

#[test]
fn the_carried_protocols_deadline_is_kept() {
    let worker = Worker::new(&psk());
    let mut world = World::new(&worker, psk_client);
    world.connect();
    world.exchange(b"later");
    let due = world.now + 10 * SECOND;
    world.run(5 * SECOND, Vec::new());
    assert_eq!(world.exchange(b"in between"), [b"in between"]);
    world.run(30 * SECOND, Vec::new());
    assert_eq!(world.session.log.borrow().timeouts, [due]);
}

#[test]
fn while_the_carried_protocol_waits_for_room_nothing_more_is_read() {
    let worker = Worker::new(&psk());
    let mut world = World::new(&worker, psk_client);
    world.connect();
    world.session.log.borrow_mut().wait = true;
    let first = world.client.send(b"one").remove(0);
    let second = world.client.send(b"two").remove(0);
    assert!(world.session.receive(world.now, &first).is_empty());
    assert!(!world.session.bridge.accepts_native());
    assert!(world.session.receive(world.now, &second).is_empty());
    assert!(world.session.log.borrow().received.is_empty());
    world.session.log.borrow_mut().wait = false;
    world.session.bridge.handle_native(world.now, bridge::Bytes::new());
    assert!(world.session.bridge.accepts_native());
    assert_eq!(world.session.log.borrow().received, [b"one", b"two"]);
    assert_eq!(world.session.take().len(), 2);
}

#[test]
fn many_datagrams_at_once_are_answered_one_by_one() {
    let worker = Worker::new(&psk());
    let mut world = World::new(&worker, psk_client);
    world.connect();
    let payloads: Vec<Vec<u8>> = (0..100).map(|n| vec![n; 1 + 10 * usize::from(n)]).collect();
    let mut capsules = Vec::new();
    for payload in &payloads {
        for datagram in world.client.send(payload) {
            capsules.extend_from_slice(&capsule(&datagram));
        }
    }
    // However the stream is cut.
    let (mut records, mut at) = (Vec::new(), 0);
    for piece in [1, 7, 1000, 3, capsules.len()] {
        let end = (at + piece).min(capsules.len());
        world
            .session
            .bridge
            .handle_native(world.now, bridge::Bytes::copy_from_slice(&capsules[at..end]));
        records.extend(world.session.take());
        at = end;
    }
    assert_eq!(records.len(), 100);
    for record in records {
        world.client.receive(world.now, &record);
    }
    assert_eq!(world.client.received, payloads);
}

#[test]
fn a_device_that_begins_again_replaces_its_association_when_its_handshake_is_complete() {
    for client in [psk_client as Make, certificate_12, certificate_13] {
        let worker = Worker::new(&format!("{}, {}", psk(), mutual()));
        let mut world = World::new(&worker, client);
        world.connect();
        assert_eq!(world.exchange(b"before"), [b"before"]);

        // A handshake that does not get far leaves the old association as it was.
        let mut old = std::mem::replace(&mut world.client, client(world.now));
        let hello = world.client.tick(world.now).remove(0);
        let answer = world.session.receive(world.now, &hello).remove(0);
        let second = world.client.receive(world.now, &answer).remove(0);
        assert!(!world.session.receive(world.now, &second).is_empty());
        let record = old.send(b"still here").remove(0);
        let answer = world.session.receive(world.now, &record).remove(0);
        old.receive(world.now, &answer);
        assert_eq!(old.received, [b"still here"]);

        world.client = client(world.now);
        world.connect();
        assert_eq!(world.exchange(b"after"), [b"after"]);
        assert_eq!(world.identities().len(), 1, "the carried protocol goes on");
        assert_eq!(world.session.log.borrow().received.len(), 3);
        assert_eq!(worker.registry.gauge("dtls_associations_active", &[]).value(), 1);
        let reason = [("reason", "replaced")];
        assert_eq!(worker.count("dtls_associations_closed_total", &reason), 1);
    }
}

#[test]
fn another_identity_does_not_take_over_a_session() {
    let two = format!(
        r#""psk": [{{"identity": "device-1", "key": "{KEY}"}}, {{"identity": "device-2", "key": "{KEY}"}}]"#
    );
    let worker = Worker::new(&two);
    let mut world = World::new(&worker, psk_client);
    world.connect();
    world.client = Client::with_psk("device-2", KEY, world.now);
    world.run(SECOND, Vec::new());
    assert!(world.session.closed);
    assert!(world.client.close_notify);
    assert_eq!(world.identities(), [Identity::Psk("device-1".into())]);
    let reason = [("reason", "identity_changed")];
    assert_eq!(worker.count("dtls_associations_closed_total", &reason), 1);
}

#[test]
fn the_carried_protocol_is_told_that_the_session_is_gone() {
    let worker = Worker::new(&psk());
    let mut world = World::new(&worker, psk_client);
    world.connect();
    world.session.bridge.handle_native_end(world.now);
    assert!(world.session.log.borrow().ended);
    world.session.bridge.handle_close(Peer::Native);
    assert_eq!(world.session.log.borrow().gone, Some(Peer::Native));
}

#[test]
fn a_datagram_that_no_record_can_hold_is_dropped() {
    let worker = Worker::new(&psk());
    let mut world = World::new(&worker, psk_client);
    world.connect();
    // The client's record is as long as one can be; ours is not longer.
    let longest = vec![7; 16_384];
    assert_eq!(world.exchange(&longest), [longest]);
    assert_eq!(worker.dropped("too_long"), 0);
}

#[test]
fn a_handshakes_datagrams_are_bounded() {
    let worker = Worker::new(&psk());
    let mut session = worker.session("a");
    let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0];
    datagram.resize(13 + 4096, 0);
    assert!(session.receive(SECOND, &datagram).is_empty());
    assert_eq!(worker.dropped("too_long"), 1);
}
