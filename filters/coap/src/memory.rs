//! What is known of clients whose session has ended.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bridge::Bytes;
use hashbrown::HashMap;

use crate::exchanges::Exchanges;

/// What is known of one client.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// What its retransmissions get.
    pub(crate) exchanges: Exchanges,
    /// It has proved its address.
    pub(crate) proven: bool,
    /// The LwM2M endpoint name it registered with, and until when.
    pub(crate) endpoint: Option<(String, Duration)>,
}

#[derive(Debug)]
struct Kept {
    known: Known,
    proven_until: Duration,
    size: usize,
    number: u64,
}

/// The clients one worker remembers. When full, the one whose session ended first is forgotten first.
#[derive(Debug)]
pub(crate) struct Memory {
    by_address: HashMap<SocketAddr, Kept>,
    in_order: VecDeque<(SocketAddr, u64, Duration)>,
    most: usize,
    most_octets: usize,
    octets: usize,
    number: u64,
}

/// How long a client that proved its address need not do so again.
const PROVEN: Duration = Duration::from_secs(600);

impl Memory {
    pub(crate) fn new(most: usize, most_octets: usize) -> Self {
        let (by_address, in_order) = (HashMap::new(), VecDeque::new());
        Self { by_address, in_order, most, most_octets, octets: 0, number: 0 }
    }

    /// Takes what is known of a client whose session begins.
    pub(crate) fn take(&mut self, client: SocketAddr, now: Duration) -> Option<Known> {
        if self.by_address.is_empty() {
            return None;
        }
        let kept = self.by_address.remove(&client)?;
        self.octets -= kept.size;
        self.expire(now);
        let Known { exchanges, proven, endpoint } = kept.known;
        Some(Known {
            exchanges,
            proven: proven && now < kept.proven_until,
            endpoint: endpoint.filter(|(_, until)| *until > now),
        })
    }

    /// Keeps what is known of a client whose session has ended.
    pub(crate) fn keep(&mut self, client: SocketAddr, known: Known, now: Duration) {
        let Known { exchanges, proven, endpoint } = known;
        let endpoint = endpoint.filter(|(_, until)| *until > now);
        let mut exchanges_kept = Exchanges::default();
        let mut until = if proven { now + PROVEN } else { now };
        until = until.max(endpoint.as_ref().map_or(now, |(_, until)| *until));
        let mut size = endpoint.as_ref().map_or(0, |(name, _)| name.len());
        for (id, expires, capsule) in exchanges.into_answers(now) {
            until = until.max(expires);
            size += capsule.len();
            // A capsule may be a small part of many octets that came at once.
            exchanges_kept.answered(id, expires, Bytes::copy_from_slice(&capsule));
        }
        self.expire(now);
        if until <= now || size > self.most_octets || self.most == 0 {
            return;
        }
        while self.by_address.len() >= self.most || self.octets + size > self.most_octets {
            let Some((oldest, number, _)) = self.in_order.pop_front() else { break };
            self.forget(oldest, number);
        }
        self.number += 1;
        self.octets += size;
        self.in_order.push_back((client, self.number, until));
        let known = Known { exchanges: exchanges_kept, proven, endpoint };
        let proven_until = now + PROVEN;
        let kept = Kept { known, proven_until, size, number: self.number };
        if let Some(before) = self.by_address.insert(client, kept) {
            self.octets -= before.size;
        }
    }

    fn forget(&mut self, client: SocketAddr, number: u64) {
        if self.by_address.get(&client).is_some_and(|kept| kept.number == number)
            && let Some(kept) = self.by_address.remove(&client)
        {
            self.octets -= kept.size;
        }
    }

    /// Forgets those in front who need not be known any more, and what was taken.
    fn expire(&mut self, now: Duration) {
        while let Some(&(client, number, until)) = self.in_order.front() {
            let taken = self.by_address.get(&client).is_none_or(|kept| kept.number != number);
            if !taken && until > now {
                break;
            }
            self.in_order.pop_front();
            self.forget(client, number);
        }
        // Taken ones behind one that is kept for long would add up.
        if self.in_order.len() > 2 * self.by_address.len() + 16 {
            let known = &self.by_address;
            self.in_order.retain(|(client, number, _)| {
                known.get(client).is_some_and(|kept| kept.number == *number)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn client(n: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], n))
    }

    fn known(answer: &'static [u8], until: u64) -> Known {
        let mut exchanges = Exchanges::default();
        exchanges.answered(1, at(until), Bytes::from_static(answer));
        Known { exchanges, ..Known::default() }
    }

    #[test]
    fn a_client_is_known_until_there_is_nothing_left_to_know() {
        let mut memory = Memory::new(10, 1000);
        memory.keep(client(1), known(b"answer", 100), at(0));
        memory.keep(client(2), Known::default(), at(0));
        assert!(memory.take(client(2), at(1)).is_none());
        let known = memory.take(client(1), at(1)).expect("known");
        assert!(known.exchanges.get(1, at(1)).is_some());
        assert!(memory.take(client(1), at(1)).is_none());
        assert_eq!(memory.octets, 0);
    }

    #[test]
    fn each_thing_is_known_for_its_own_time() {
        let mut memory = Memory::new(10, 1000);
        let endpoint = Some(("name".to_owned(), at(2000)));
        let known = || Known { proven: true, endpoint: endpoint.clone(), ..Known::default() };
        memory.keep(client(1), known(), at(0));
        let taken = memory.take(client(1), at(601)).expect("known");
        assert!(!taken.proven && taken.endpoint.is_some());
        memory.keep(client(1), known(), at(1900));
        let taken = memory.take(client(1), at(2000)).expect("known");
        assert!(taken.proven && taken.endpoint.is_none());
    }

    #[test]
    fn clients_and_octets_are_bounded_and_the_oldest_goes_first() {
        let mut memory = Memory::new(10, 1000);
        for n in 0..10_000 {
            memory.keep(client(n), known(&[0; 150], 100), at(0));
            assert!(memory.by_address.len() <= 6 && memory.octets <= 1000);
            if n % 3 == 0 {
                assert!(memory.take(client(n), at(0)).is_some());
            }
            assert!(memory.in_order.len() <= 40);
        }
        assert!(memory.take(client(1), at(0)).is_none());
        assert!(memory.take(client(9998), at(0)).is_some());
        memory.keep(client(1), known(&[0; 1001], 100), at(0));
        assert!(memory.take(client(1), at(0)).is_none());
    }

    #[test]
    fn what_has_expired_makes_room() {
        let mut memory = Memory::new(10, 1000);
        memory.keep(client(1), known(b"a", 10), at(0));
        memory.keep(client(2), known(b"b", 30), at(20));
        assert_eq!((memory.by_address.len(), memory.octets), (1, 1));
    }
}
