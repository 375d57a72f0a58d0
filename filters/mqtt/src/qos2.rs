//! QoS 2 messages that the filter takes itself: each is delivered once (MQTT 5.0 §4.3.3).

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::num::NonZeroU16;

use bridge::Shelf;

/// How far the handshake for a packet identifier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The message is on its way; PUBREC has not been sent.
    Underway,
    /// The message was taken and PUBREC sent; PUBREL has not come.
    Received,
}

/// The packet identifiers of one session's messages.
#[derive(Debug, Default)]
pub(crate) struct Qos2(BTreeMap<NonZeroU16, Stage>);

impl Qos2 {
    pub(crate) fn stage(&self, id: NonZeroU16) -> Option<Stage> {
        self.0.get(&id).copied()
    }

    pub(crate) fn set(&mut self, id: NonZeroU16, stage: Stage) {
        self.0.insert(id, stage);
    }

    /// The handshake is over. Whether there was one.
    pub(crate) fn remove(&mut self, id: NonZeroU16) -> bool {
        self.0.remove(&id).is_some()
    }

    /// The identifiers whose messages a client may send again although they were taken.
    fn received(&self) -> Vec<NonZeroU16> {
        let received = self.0.iter().filter(|(_, stage)| **stage == Stage::Received);
        received.map(|(id, _)| *id).collect()
    }
}

/// What remains of sessions whose clients are gone and may come back to them.
///
/// The shelf cannot be listed or swept, so there is a fixed number of slots, each for the clients
/// whose names share a hash. When a slot is full its oldest clients are forgotten.
#[derive(Debug)]
pub(crate) struct Left(Box<dyn Shelf>);

const SLOTS: u64 = 4096;
const MAX_SLOT: usize = 8 << 10;

/// One client in a slot: the length of its name and its number of packet identifiers, then both.
struct Remains<'a> {
    client_id: &'a [u8],
    ids: &'a [u8],
    octets: &'a [u8],
}

impl Left {
    pub(crate) fn new(shelf: Box<dyn Shelf>) -> Self {
        Self(shelf)
    }

    /// A connection ended.
    pub(crate) fn put(&self, client_id: &str, qos2: &Qos2) {
        let ids = qos2.received();
        let (Ok(name_len), Ok(count)) = (u16::try_from(client_id.len()), u16::try_from(ids.len()))
        else {
            return;
        };
        if ids.is_empty() || client_id.is_empty() {
            return;
        }
        let mut octets = [name_len.to_be_bytes(), count.to_be_bytes()].concat();
        octets.extend_from_slice(client_id.as_bytes());
        octets.extend(ids.iter().flat_map(|id| id.get().to_be_bytes()));
        self.change(client_id, |slot| {
            let others = remains(slot).filter(|other| other.client_id != client_id.as_bytes());
            let others: Vec<_> = others.map(|other| other.octets).collect();
            let mut kept = others.as_slice();
            while kept.iter().map(|octets| octets.len()).sum::<usize>() + octets.len() > MAX_SLOT {
                let Some((_, newer)) = kept.split_first() else { return Vec::new() };
                kept = newer;
            }
            [kept.concat(), octets.clone()].concat()
        });
    }

    /// A client connected: what remains of its session, if it goes on.
    pub(crate) fn take(&self, client_id: &str, goes_on: bool) -> Qos2 {
        let mut qos2 = Qos2::default();
        if client_id.is_empty() {
            return qos2;
        }
        let (slot, _) = self.0.load(&key(client_id));
        let Some(found) = remains(&slot).find(|one| one.client_id == client_id.as_bytes()) else {
            return qos2;
        };
        if goes_on {
            let ids = found.ids.as_chunks::<2>().0.iter();
            let ids = ids.filter_map(|id| NonZeroU16::new(u16::from_be_bytes(*id)));
            qos2.0.extend(ids.map(|id| (id, Stage::Received)));
        }
        self.change(client_id, |slot| {
            let others = remains(slot).filter(|other| other.client_id != client_id.as_bytes());
            others.map(|other| other.octets).collect::<Vec<_>>().concat()
        });
        qos2
    }

    /// Another worker may change the slot at the same time.
    fn change(&self, client_id: &str, change: impl Fn(&[u8]) -> Vec<u8>) {
        let key = key(client_id);
        for _ in 0..10 {
            let (slot, number) = self.0.load(&key);
            if self.0.store(&key, &change(&slot), number) {
                return;
            }
        }
    }
}

/// The same on every worker.
fn key(client_id: &str) -> String {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(client_id);
    format!("qos2 {}", hash % SLOTS)
}

fn remains(mut slot: &[u8]) -> impl Iterator<Item = Remains<'_>> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *slot.first_chunk()?;
        let name_end = 4 + usize::from(u16::from_be_bytes([a, b]));
        let end = name_end + 2 * usize::from(u16::from_be_bytes([c, d]));
        let (octets, rest) = slot.split_at_checked(end)?;
        slot = rest;
        Some(Remains { client_id: octets.get(4..name_end)?, ids: octets.get(name_end..)?, octets })
    })
}

#[cfg(test)]
mod tests {
    use bridge::OwnShelf;

    use super::*;

    fn id(n: u16) -> NonZeroU16 {
        NonZeroU16::new(n).expect("not 0")
    }

    fn left() -> Left {
        Left::new(Box::<OwnShelf>::default())
    }

    #[test]
    fn what_was_received_outlives_the_connection_and_what_was_underway_does_not() {
        let left = left();
        let mut qos2 = Qos2::default();
        qos2.set(id(1), Stage::Underway);
        qos2.set(id(2), Stage::Received);
        left.put("c", &qos2);
        assert!(left.take("other", true).0.is_empty());
        let back = left.take("c", true);
        assert_eq!((back.stage(id(1)), back.stage(id(2))), (None, Some(Stage::Received)));
        assert!(left.take("c", true).0.is_empty());
        left.put("c", &qos2);
        assert!(left.take("c", false).0.is_empty());
        assert!(left.take("c", true).0.is_empty());
    }

    #[test]
    fn clients_of_one_slot_keep_apart_and_the_oldest_is_forgotten_when_it_is_full() {
        let left = left();
        let mut qos2 = Qos2::default();
        for n in 1..=1000 {
            qos2.set(id(n), Stage::Received);
        }
        let slot = key("c");
        let names = (0..).map(|n: u32| n.to_string()).filter(|name| key(name) == slot);
        let names: Vec<String> = names.take(5).collect();
        for name in &names {
            left.put(name, &qos2);
        }
        let (octets, _) = left.0.load(&slot);
        assert!(octets.len() <= MAX_SLOT);
        assert!(left.take(&names[0], true).0.is_empty());
        for name in &names[1..] {
            assert_eq!(left.take(name, true).0.len(), 1000, "{name}");
        }
        assert!(left.0.load(&slot).0.is_empty());
    }
}
