//! A client that keeps to nothing, and others that send in its name: its datagrams come changed, late,
//! twice and among any others. The input is a list of steps, each an octet and what it needs.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{Client, KEY, Version, Worker, mutual, psk};

thread_local! {
    static WORKER: Worker = Worker::new(&format!("{}, {}", psk(), mutual()));
}

struct Steps<'a>(&'a [u8]);

impl Steps<'_> {
    fn octet(&mut self) -> Option<u8> {
        let (octet, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*octet)
    }

    fn number(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_be_bytes([self.octet()?, self.octet()?])))
    }

    fn octets(&mut self) -> Option<Vec<u8>> {
        let len = usize::from(self.octet()?).min(self.0.len());
        let (octets, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(octets.to_vec())
    }
}

fn run(worker: &Worker, mut steps: Steps<'_>) -> Option<()> {
    let mut now = Duration::from_secs(100);
    let mut session = worker.session("192.0.2.1:5684");
    let mut client = match steps.octet()? % 3 {
        0 => Client::with_psk("device-1", KEY, now),
        1 => Client::with_certificate("client", Version::V12, now),
        _ => Client::with_certificate("client", Version::V13, now),
    };
    let mut queue = client.tick(now);
    // Changes that are made to each ClientHello, so that the cookie of the second one is valid.
    let mut sticky: Vec<(usize, u8)> = Vec::new();
    loop {
        let step = steps.octet()?;
        let mut datagram = match step % 8 {
            0..=4 if queue.is_empty() => {
                now += Duration::from_millis(100);
                queue = client.tick(now);
                if queue.is_empty() && client.connected && client.error.is_none() {
                    queue = client.send(b"hello");
                }
                continue;
            }
            0..=3 => queue.remove(0),
            4 => queue[0].clone(),
            5 => steps.octets()?,
            6 => {
                now += Duration::from_millis(100) * u32::from(steps.octet()?);
                if session.bridge.next_step().deadline.is_some_and(|at| at <= now) {
                    session.bridge.handle_timeout(now);
                }
                queue.extend(client.tick(now));
                for answer in session.take() {
                    queue.extend(client.receive(now, &answer));
                }
                continue;
            }
            _ => {
                sticky.push((steps.number()?, steps.octet()?));
                continue;
            }
        };
        if step % 8 == 2 {
            let (at, octet) = (steps.number()?, steps.octet()?);
            let len = datagram.len().max(1);
            if let Some(place) = datagram.get_mut(at % len) {
                *place = octet;
            }
        }
        if step % 8 == 3 {
            let (at, insert) = (steps.number()?, steps.octets()?);
            let at = at % (datagram.len() + 1);
            datagram.splice(at..at, insert);
        }
        if datagram.get(13) == Some(&1) {
            for (at, octet) in &sticky {
                // Behind the random and the session ID, which are the client's.
                if let Some(place) = datagram.get_mut(60 + at % 200) {
                    *place = *octet;
                }
            }
        }
        for answer in session.receive(now, &datagram) {
            queue.extend(client.receive(now, &answer));
        }
        if session.closed {
            return None;
        }
    }
}

fuzz_target!(|input: &[u8]| {
    WORKER.with(|worker| {
        run(worker, Steps(input));
        assert_eq!(worker.registry.gauge("dtls_handshakes_active", &[]).value(), 0);
        assert_eq!(worker.registry.gauge("dtls_associations_active", &[]).value(), 0);
    });
});
