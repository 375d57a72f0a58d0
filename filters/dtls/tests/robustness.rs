//! Whatever a client sends, and whoever else sends in its name, nothing panics, and an association that
//! is established lives on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod common;

use std::sync::OnceLock;
use std::time::Duration;

use common::{Client, KEY, Version, Way, Worker, World, mutual, psk};
use proptest::prelude::*;

const CLIENTS: [fn(Duration) -> Client; 3] = [
    |now| Client::with_psk("device-1", KEY, now),
    |now| Client::with_certificate("client", Version::V12, now),
    |now| Client::with_certificate("client", Version::V13, now),
];

fn worker() -> Worker {
    Worker::new(&format!("{}, {}", psk(), mutual()))
}

/// What clients of each kind send in a good session.
fn recorded() -> &'static Vec<Vec<u8>> {
    static RECORDED: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let worker = worker();
        let mut recorded = Vec::new();
        for client in CLIENTS {
            let mut world = World::new(&worker, client);
            world.connect();
            world.exchange(b"hello");
            let sent = world.client.close();
            world.run(Duration::ZERO, sent);
            let up = world.seen.into_iter().filter(|(way, _)| *way == Way::Up);
            recorded.extend(up.map(|(_, datagram)| datagram));
        }
        recorded
    })
}

/// A change to a datagram.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    /// Two octets, which often are a length.
    Number(prop::sample::Index, u16),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    /// Another recorded datagram behind it.
    Append(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, octet)| Change::Set(at, octet)),
        2 => (at(), prop_oneof![0..40_u16, any::<u16>()])
            .prop_map(|(at, number)| Change::Number(at, number)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, octets)| Change::Insert(at, octets)),
        1 => (at(), 1..20_usize).prop_map(|(at, n)| Change::Remove(at, n)),
        1 => at().prop_map(Change::Append),
    ]
}

fn apply(change: &Change, datagram: &mut Vec<u8>) {
    let len = datagram.len();
    if len == 0 {
        return;
    }
    match change {
        Change::Set(at, octet) => datagram[at.index(len)] = *octet,
        Change::Number(at, number) => {
            let at = at.index(len);
            for (place, octet) in datagram[at..].iter_mut().zip(number.to_be_bytes()) {
                *place = octet;
            }
        }
        Change::Cut(at) => datagram.truncate(at.index(len)),
        Change::Insert(at, octets) => {
            let at = at.index(len);
            datagram.splice(at..at, octets.iter().copied());
        }
        Change::Remove(at, n) => {
            let at = at.index(len);
            datagram.drain(at..(at + n).min(len));
        }
        Change::Append(other) => datagram.extend(other.get::<Vec<u8>>(recorded()).iter()),
    }
}

/// Handshakes take long without optimization: so few unless PROPTEST_CASES asks for more.
fn config() -> ProptestConfig {
    // The seed of a failure is printed; a file of them would be written beside this one.
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 48, ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    /// Every datagram of a client goes wrong in some way with some probability.
    #[test]
    fn a_client_that_goes_wrong_does_no_harm(
        client in 0..CLIENTS.len(),
        changes in prop::collection::vec(
            prop::option::weighted(0.4, prop::collection::vec(change(), 1..3)),
            0..12,
        ),
    ) {
        let worker = worker();
        let mut world = World::new(&worker, CLIENTS[client]);
        let mut changes = changes.into_iter();
        // Long enough for a handshake that begins when the client is about to give up.
        world.run_through(Duration::from_secs(80), Vec::new(), &mut |way, mut datagram| {
            if way == Way::Up
                && let Some(Some(changes)) = changes.next()
            {
                for change in &changes {
                    apply(change, &mut datagram);
                }
            }
            vec![datagram]
        });
        let closed = world.session.closed;
        prop_assert!(closed || world.client.connected || world.client.error.is_some());
        prop_assert_eq!(worker.registry.gauge("dtls_handshakes_active", &[]).value(), 0);
    }

    /// Whoever does not have the keys cannot end an association, or say anything in it.
    #[test]
    fn an_association_survives_whatever_comes_from_others(
        client in 0..CLIENTS.len(),
        forged in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec(change(), 0..4)),
            1..12,
        ),
    ) {
        let worker = worker();
        let mut world = World::new(&worker, CLIENTS[client]);
        world.connect();
        prop_assert_eq!(world.exchange(b"before"), [b"before"]);
        let own: Vec<Vec<u8>> = world
            .seen
            .iter()
            .filter(|(way, _)| *way == Way::Up)
            .map(|(_, datagram)| datagram.clone())
            .chain(recorded().iter().cloned())
            .collect();
        for (datagram, changes) in forged {
            let mut datagram = datagram.get(&own).clone();
            for change in &changes {
                apply(change, &mut datagram);
            }
            world.session.receive(world.now, &datagram);
        }
        prop_assert!(!world.session.closed);
        prop_assert_eq!(&world.session.log.borrow().received, &[b"before"]);
        prop_assert_eq!(world.exchange(b"after"), [b"after"]);
    }

    #[test]
    fn any_octets_are_taken(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let worker = worker();
        let mut session = worker.session("a");
        session.receive(Duration::ZERO, &octets);
        session.bridge.handle_native(Duration::ZERO, bridge::Bytes::from(octets));
    }
}
