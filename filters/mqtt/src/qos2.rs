//! QoS 2 messages that the filter takes itself: each is delivered once (MQTT 5.0 §4.3.3).

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::rc::Rc;

use hashbrown::HashMap;

/// How far the handshake for a packet identifier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The message is on its way; PUBREC has not been sent.
    Underway,
    /// The message was taken and PUBREC sent; PUBREL has not come.
    Received,
}

/// Packet identifiers of messages that were taken and whose PUBREL has not come. A new connection of
/// a session shares them with the old one, which may not be known to be gone.
type Received = Rc<RefCell<BTreeSet<NonZeroU16>>>;

/// The packet identifiers of one connection's messages.
#[derive(Debug, Default)]
pub(crate) struct Qos2 {
    underway: BTreeSet<NonZeroU16>,
    received: Received,
}

impl Qos2 {
    pub(crate) fn stage(&self, id: NonZeroU16) -> Option<Stage> {
        if self.underway.contains(&id) {
            Some(Stage::Underway)
        } else {
            self.received.borrow().contains(&id).then_some(Stage::Received)
        }
    }

    pub(crate) fn set(&mut self, id: NonZeroU16, stage: Stage) {
        self.remove(id);
        match stage {
            Stage::Underway => self.underway.insert(id),
            Stage::Received => self.received.borrow_mut().insert(id),
        };
    }

    /// The handshake is over.
    pub(crate) fn remove(&mut self, id: NonZeroU16) {
        self.underway.remove(&id);
        self.received.borrow_mut().remove(&id);
    }
}

/// What was received in the sessions of one worker: in those with a connection, and in those whose
/// clients are gone and may come back.
#[derive(Debug)]
pub(crate) struct Left {
    by_client: HashMap<String, Received>,
    /// Those without a connection, the oldest first.
    in_order: VecDeque<String>,
    most: usize,
}

impl Left {
    /// At most so many sessions without a connection; when there are more, the oldest are forgotten.
    pub(crate) fn new(most: usize) -> Self {
        Self { by_client: HashMap::new(), in_order: VecDeque::new(), most }
    }

    /// A connection ended.
    pub(crate) fn put(&mut self, client_id: &str, qos2: &Qos2) {
        let Some(known) = self.by_client.get(client_id) else { return };
        // Not if another connection goes on with the session, or has started another one.
        if !Rc::ptr_eq(known, &qos2.received) || Rc::strong_count(known) > 2 {
            return;
        }
        if known.borrow().is_empty() || self.most == 0 {
            self.by_client.remove(client_id);
            return;
        }
        if self.in_order.len() >= self.most
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.by_client.remove(&oldest);
        }
        self.in_order.push_back(client_id.to_owned());
    }

    /// The broker has accepted a connection: what remains of its session, if it goes on.
    pub(crate) fn take(&mut self, client_id: &str, goes_on: bool) -> Qos2 {
        // One without a name has nothing to come back to.
        if client_id.is_empty() {
            return Qos2::default();
        }
        if let Some(known) = self.by_client.get(client_id) {
            if Rc::strong_count(known) == 1 {
                self.in_order.retain(|left| left != client_id);
            }
            if goes_on {
                return Qos2 { underway: BTreeSet::new(), received: Rc::clone(known) };
            }
        }
        let new = Qos2::default();
        self.by_client.insert(client_id.to_owned(), Rc::clone(&new.received));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u16) -> NonZeroU16 {
        NonZeroU16::new(n).expect("not 0")
    }

    #[test]
    fn what_was_received_outlives_the_connection_and_what_was_underway_does_not() {
        let mut left = Left::new(2);
        let mut qos2 = left.take("c", true);
        qos2.set(id(1), Stage::Underway);
        qos2.set(id(2), Stage::Received);
        left.put("c", &qos2);
        drop(qos2);
        let back = left.take("c", true);
        assert_eq!((back.stage(id(1)), back.stage(id(2))), (None, Some(Stage::Received)));
        left.put("c", &back);
        drop(back);
        assert_eq!(left.take("c", false).stage(id(2)), None);
    }

    #[test]
    fn only_so_many_sessions_are_remembered() {
        let mut left = Left::new(2);
        for client in ["a", "b", "b", "c"] {
            let mut qos2 = left.take(client, true);
            qos2.set(id(2), Stage::Received);
            left.put(client, &qos2);
        }
        assert_eq!((left.by_client.len(), left.in_order.len()), (2, 2));
        assert_eq!(left.take("a", true).stage(id(2)), None);
        assert_eq!(left.take("b", true).stage(id(2)), Some(Stage::Received));
    }

    #[test]
    fn a_session_with_nothing_to_remember_is_forgotten() {
        let mut left = Left::new(2);
        let mut qos2 = left.take("c", true);
        qos2.set(id(2), Stage::Received);
        qos2.remove(id(2));
        left.put("c", &qos2);
        assert_eq!((left.by_client.len(), left.in_order.len()), (0, 0));
    }

    #[test]
    fn connections_of_one_session_share_what_was_received() {
        let mut left = Left::new(2);
        let mut old = left.take("c", true);
        let mut new = left.take("c", true);
        old.set(id(1), Stage::Received);
        assert_eq!(new.stage(id(1)), Some(Stage::Received));
        new.remove(id(1));
        new.set(id(2), Stage::Received);
        left.put("c", &old);
        drop(old);
        left.put("c", &new);
        drop(new);
        let again = left.take("c", true);
        assert_eq!((again.stage(id(1)), again.stage(id(2))), (None, Some(Stage::Received)));
        // A session that begins anew has nothing from the one before it.
        let anew = left.take("c", false);
        left.put("c", &again);
        drop(again);
        left.put("c", &anew);
        assert_eq!((left.by_client.len(), left.in_order.len()), (0, 0));
    }
}
