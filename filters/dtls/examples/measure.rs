//! Measures the filter's side of DTLS: handshakes, records, and the memory of an association that is
//! idle. Natively, and with `scripts/cargo-wasm run` in wasm.
//!
//! ```text
//! cargo run --release -p dtls --example measure
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what cannot be measured needs no error"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Client, KEY, Session, Version, Worker, capsule, mutual, psk};

const NOW: Duration = Duration::from_secs(100);

/// Shakes hands, and adds the time that the server took.
fn handshake(worker: &Worker, mut client: Client, spent: &mut Duration) -> (Session, Client) {
    let mut session = worker.session("192.0.2.1:5684");
    let mut up = client.tick(NOW);
    while !up.is_empty() {
        for datagram in std::mem::take(&mut up) {
            let begun = Instant::now();
            let answers = session.receive(NOW, &datagram);
            *spent += begun.elapsed();
            for answer in answers {
                up.extend(client.receive(NOW, &answer));
            }
        }
    }
    assert!(client.connected);
    (session, client)
}

fn main() {
    let worker = Worker::new(&format!("{}, {}, \"max_handshakes\": 100000", psk(), mutual()));
    type Make = fn() -> Client;
    let clients: [(&str, u32, Make); 3] = [
        ("PSK, DTLS 1.2", 2000, || Client::with_psk("device-1", KEY, NOW)),
        ("certificates, DTLS 1.2", 100, || Client::with_certificate("client", Version::V12, NOW)),
        ("certificates, DTLS 1.3", 100, || Client::with_certificate("client", Version::V13, NOW)),
    ];
    let mut kept = Vec::new();
    for (name, rounds, client) in clients {
        let mut spent = Duration::ZERO;
        let before = memory();
        let sessions: Vec<_> =
            (0..rounds).map(|_| handshake(&worker, client(), &mut spent).0).collect();
        let bytes = memory().saturating_sub(before) / sessions.len();
        println!("{name}: {:?} a handshake, {bytes} octets an idle session", spent / rounds);
        // Or the next ones would take its place.
        kept.push(sessions);

        let (mut session, mut client) = handshake(&worker, client(), &mut spent);
        for len in [16, 100, 1000] {
            const RECORDS: u32 = 10_000;
            let payload = vec![7; len];
            let records: Vec<_> =
                (0..RECORDS).map(|_| capsule(&client.send(&payload).remove(0))).collect();
            let begun = Instant::now();
            for record in records {
                session.bridge.handle_native(NOW, record);
                drop(session.bridge.take_native());
            }
            println!("  a record of {len} octets in and out: {:?}", begun.elapsed() / RECORDS);
        }
    }
    let (mut client, mut session) = (Client::with_psk("device-1", KEY, NOW), worker.session("a"));
    let hello = client.tick(NOW).remove(0);
    const HELLOS: u32 = 10_000;
    let begun = Instant::now();
    for _ in 0..HELLOS {
        session.receive(NOW, &hello);
    }
    println!("a ClientHello without a cookie: {:?}", begun.elapsed() / HELLOS);
}

/// The memory in use, in octets: of pages, so that only the difference of many means something.
#[cfg(not(target_family = "wasm"))]
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096_usize
}

#[cfg(target_family = "wasm")]
fn memory() -> usize {
    core::arch::wasm32::memory_size(0) * 65_536
}
