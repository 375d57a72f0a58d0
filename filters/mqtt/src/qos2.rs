//! QoS 2 messages that the filter takes itself: each is delivered once (MQTT 5.0 §4.3.3).

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;

use hashbrown::HashMap;

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

/// What remains of sessions whose clients are gone and may come back to them, on one worker.
#[derive(Debug)]
pub(crate) struct Left {
    by_client: HashMap<String, Vec<NonZeroU16>>,
    in_order: VecDeque<String>,
    most: usize,
}

impl Left {
    /// At most so many sessions; when there are more, the oldest are forgotten.
    pub(crate) fn new(most: usize) -> Self {
        Self { by_client: HashMap::new(), in_order: VecDeque::new(), most }
    }

    /// A connection ended.
    pub(crate) fn put(&mut self, client_id: &str, qos2: &Qos2) {
        let ids = qos2.received();
        if ids.is_empty() || client_id.is_empty() || self.most == 0 {
            return;
        }
        if self.by_client.insert(client_id.to_owned(), ids).is_none() {
            if self.in_order.len() >= self.most
                && let Some(oldest) = self.in_order.pop_front()
            {
                self.by_client.remove(&oldest);
            }
            self.in_order.push_back(client_id.to_owned());
        }
    }

    /// A client connected: what remains of its session, if it goes on.
    pub(crate) fn take(&mut self, client_id: &str, goes_on: bool) -> Qos2 {
        let Some(ids) = self.by_client.remove(client_id) else { return Qos2::default() };
        self.in_order.retain(|known| known != client_id);
        if !goes_on {
            return Qos2::default();
        }
        Qos2(ids.into_iter().map(|id| (id, Stage::Received)).collect())
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
        let mut qos2 = Qos2::default();
        qos2.set(id(1), Stage::Underway);
        qos2.set(id(2), Stage::Received);
        left.put("c", &qos2);
        let back = left.take("c", true);
        assert_eq!((back.stage(id(1)), back.stage(id(2))), (None, Some(Stage::Received)));
        assert_eq!(left.take("c", true).0.len(), 0);
        left.put("c", &qos2);
        assert_eq!(left.take("c", false).0.len(), 0);
    }

    #[test]
    fn only_so_many_sessions_are_remembered() {
        let mut left = Left::new(2);
        let mut qos2 = Qos2::default();
        qos2.set(id(2), Stage::Received);
        for client in ["a", "b", "b", "c"] {
            left.put(client, &qos2);
        }
        assert_eq!(left.take("a", true).0.len(), 0);
        assert_eq!(left.take("b", true).0.len(), 1);
        assert_eq!((left.by_client.len(), left.in_order.len()), (1, 1));
    }
}
