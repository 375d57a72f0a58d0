//! QoS 2 messages that the filter takes itself: each is delivered once (MQTT 5.0 §4.3.3).

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::num::NonZeroU16;
use std::rc::Rc;

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
pub(crate) struct Qos2 {
    /// On this connection.
    underway: BTreeSet<NonZeroU16>,
    /// In the session, as far as this connection has seen; the shelf has the same.
    received: BTreeSet<NonZeroU16>,
    /// None for a session that nobody can come back to.
    session: Option<(Rc<Sessions>, String)>,
}

impl Qos2 {
    /// Those of a session that the broker has accepted; `goes_on` says that it is not a new one.
    pub(crate) fn new(sessions: &Rc<Sessions>, client_id: &str, goes_on: bool) -> Self {
        if client_id.is_empty() {
            return Self::default();
        }
        let received = sessions.received(client_id);
        let session = Some((Rc::clone(sessions), client_id.to_owned()));
        if goes_on {
            return Self { underway: BTreeSet::new(), received, session };
        }
        if !received.is_empty() {
            sessions.change(client_id, BTreeSet::clear);
        }
        Self { session, ..Self::default() }
    }

    pub(crate) fn stage(&self, id: NonZeroU16) -> Option<Stage> {
        if self.received.contains(&id) {
            return Some(Stage::Received);
        }
        self.underway.contains(&id).then_some(Stage::Underway)
    }

    /// Whether another connection of the session, one that this one has taken over from, has received
    /// the message. Asks the shelf.
    pub(crate) fn was_received_elsewhere(&mut self, id: NonZeroU16) -> bool {
        let Some((sessions, client_id)) = &self.session else { return false };
        let received = sessions.received(client_id).contains(&id);
        if received {
            self.received.insert(id);
        }
        received
    }

    pub(crate) fn set(&mut self, id: NonZeroU16, stage: Stage) {
        match stage {
            Stage::Underway => {
                self.underway.insert(id);
            }
            Stage::Received => {
                self.underway.remove(&id);
                self.received.insert(id);
                if let Some((sessions, client_id)) = &self.session {
                    sessions.change(client_id, |ids| {
                        ids.insert(id);
                    });
                }
            }
        }
    }

    /// The handshake is over.
    pub(crate) fn remove(&mut self, id: NonZeroU16) {
        self.underway.remove(&id);
        if self.received.remove(&id)
            && let Some((sessions, client_id)) = &self.session
        {
            sessions.change(client_id, |ids| {
                ids.remove(&id);
            });
        }
    }
}

/// What was received in sessions, on all workers, also in those whose clients are gone.
///
/// The shelf cannot be listed or swept, so there is a fixed number of slots, each for the clients
/// whose names share a hash. When a slot is full, the clients that were longest without a change are
/// forgotten.
#[derive(Debug)]
pub(crate) struct Sessions(Box<dyn Shelf>);

const SLOTS: u64 = 4096;
const MAX_SLOT: usize = 8 << 10;

/// One client in a slot: the length of its name and its number of packet identifiers, then both.
struct Entry<'a> {
    client_id: &'a [u8],
    ids: &'a [u8],
    octets: &'a [u8],
}

impl Sessions {
    pub(crate) fn new(shelf: Box<dyn Shelf>) -> Self {
        Self(shelf)
    }

    fn received(&self, client_id: &str) -> BTreeSet<NonZeroU16> {
        let (slot, _) = self.0.load(&key(client_id));
        ids(&slot, client_id)
    }

    fn change(&self, client_id: &str, change: impl Fn(&mut BTreeSet<NonZeroU16>)) {
        let key = key(client_id);
        // Another worker may change the slot at the same time.
        for _ in 0..10 {
            let (slot, number) = self.0.load(&key);
            let mut changed = ids(&slot, client_id);
            change(&mut changed);
            let entry = encoded(client_id, &changed);
            let others = entries(&slot).filter(|other| other.client_id != client_id.as_bytes());
            let others: Vec<_> = others.map(|other| other.octets).collect();
            let mut kept = others.as_slice();
            while let Some((_, newer)) = kept.split_first()
                && kept.iter().map(|octets| octets.len()).sum::<usize>() + entry.len() > MAX_SLOT
            {
                kept = newer;
            }
            if self.0.store(&key, &[&kept.concat()[..], &entry].concat(), number) {
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

/// Empty where there is nothing to remember, or too much.
fn encoded(client_id: &str, ids: &BTreeSet<NonZeroU16>) -> Vec<u8> {
    let (Ok(name_len), Ok(count)) = (u16::try_from(client_id.len()), u16::try_from(ids.len()))
    else {
        return Vec::new();
    };
    let len = 4 + client_id.len() + 2 * ids.len();
    if ids.is_empty() || len > MAX_SLOT {
        return Vec::new();
    }
    let mut octets = Vec::with_capacity(len);
    octets.extend([name_len.to_be_bytes(), count.to_be_bytes()].concat());
    octets.extend_from_slice(client_id.as_bytes());
    octets.extend(ids.iter().flat_map(|id| id.get().to_be_bytes()));
    octets
}

fn ids(slot: &[u8], client_id: &str) -> BTreeSet<NonZeroU16> {
    let entry = entries(slot).find(|entry| entry.client_id == client_id.as_bytes());
    let octets = entry.map(|entry| entry.ids).unwrap_or_default();
    let ids = octets.as_chunks::<2>().0.iter();
    ids.filter_map(|id| NonZeroU16::new(u16::from_be_bytes(*id))).collect()
}

fn entries(mut slot: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *slot.first_chunk()?;
        let name_end = 4 + usize::from(u16::from_be_bytes([a, b]));
        let end = name_end + 2 * usize::from(u16::from_be_bytes([c, d]));
        let (octets, rest) = slot.split_at_checked(end)?;
        slot = rest;
        Some(Entry { client_id: octets.get(4..name_end)?, ids: octets.get(name_end..)?, octets })
    })
}

#[cfg(test)]
mod tests {
    use bridge::OwnShelf;

    use super::*;

    fn id(n: u16) -> NonZeroU16 {
        NonZeroU16::new(n).expect("not 0")
    }

    fn sessions() -> Rc<Sessions> {
        Rc::new(Sessions::new(Box::<OwnShelf>::default()))
    }

    #[test]
    fn what_was_received_outlives_the_connection_and_what_was_underway_does_not() {
        let sessions = sessions();
        let mut qos2 = Qos2::new(&sessions, "c", false);
        qos2.set(id(1), Stage::Underway);
        qos2.set(id(2), Stage::Received);
        drop(qos2);
        assert_eq!(Qos2::new(&sessions, "other", true).stage(id(2)), None);
        let mut back = Qos2::new(&sessions, "c", true);
        assert_eq!((back.stage(id(1)), back.stage(id(2))), (None, Some(Stage::Received)));
        back.remove(id(2));
        assert_eq!(Qos2::new(&sessions, "c", true).stage(id(2)), None);
        back.set(id(3), Stage::Received);
        assert_eq!(Qos2::new(&sessions, "c", false).stage(id(3)), None);
        assert_eq!(Qos2::new(&sessions, "c", true).stage(id(3)), None);
    }

    #[test]
    fn a_connection_that_takes_over_knows_what_the_other_one_received_last() {
        let sessions = sessions();
        let mut old = Qos2::new(&sessions, "c", false);
        let mut new = Qos2::new(&sessions, "c", true);
        old.set(id(1), Stage::Received);
        assert_eq!(new.stage(id(1)), None);
        assert!(new.was_received_elsewhere(id(1)));
        assert_eq!(new.stage(id(1)), Some(Stage::Received));
        assert!(!new.was_received_elsewhere(id(2)));
    }

    #[test]
    fn clients_of_one_slot_keep_apart_and_the_oldest_is_forgotten_when_it_is_full() {
        let sessions = sessions();
        let slot = key("c");
        let names = (0..).map(|n: u32| n.to_string()).filter(|name| key(name) == slot);
        let names: Vec<String> = names.take(5).collect();
        for name in &names {
            sessions.change(name, |ids| ids.extend((1..=1000).map(id)));
        }
        let (octets, _) = sessions.0.load(&slot);
        assert!(octets.len() <= MAX_SLOT);
        assert!(sessions.received(&names[0]).is_empty());
        for name in &names[1..] {
            assert_eq!(sessions.received(name).len(), 1000, "{name}");
            sessions.change(name, BTreeSet::clear);
        }
        assert!(sessions.0.load(&slot).0.is_empty());
    }
}
