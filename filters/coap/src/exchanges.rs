//! Requests that the filter has seen, by message ID, so that a retransmission is known (RFC 7252 §4.5).

use std::collections::VecDeque;
use std::time::Duration;

use bridge::Bytes;
use hashbrown::HashMap;

/// How long a message ID may mean the same confirmable message: EXCHANGE_LIFETIME (RFC 7252 §4.8.2).
pub(crate) const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);
/// The same of a non-confirmable one: NON_LIFETIME.
pub(crate) const NON_LIFETIME: Duration = Duration::from_secs(145);

/// What became of a request.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// It has no answer yet.
    Pending,
    /// It may go on to the server, which knows its retransmissions by itself.
    Passed,
    /// It was answered with this capsule: the response, or the empty acknowledgement of a separate one.
    Answered(Bytes),
}

/// The requests of one client. When full, the oldest is forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    by_id: HashMap<u16, (Seen, Duration)>,
    in_order: VecDeque<(u16, Duration)>,
}

/// How many requests of a client are known.
const MOST: usize = 256;

impl Exchanges {
    /// What became of the request with this message ID.
    pub(crate) fn get(&self, id: u16, now: Duration) -> Option<&Seen> {
        let (seen, until) = self.by_id.get(&id)?;
        (now < *until).then_some(seen)
    }

    /// Remembers a request.
    pub(crate) fn begin(&mut self, id: u16, until: Duration) {
        if self.in_order.len() >= MOST
            && let Some((oldest, until)) = self.in_order.pop_front()
            && self.by_id.get(&oldest).is_some_and(|(_, known)| *known == until)
        {
            self.by_id.remove(&oldest);
        }
        self.by_id.insert(id, (Seen::Pending, until));
        self.in_order.push_back((id, until));
    }

    /// Remembers what became of a request, unless it was forgotten.
    pub(crate) fn set(&mut self, id: u16, seen: Seen) {
        if let Some((known, _)) = self.by_id.get_mut(&id) {
            *known = seen;
        }
    }

    /// Remembers an answer that somebody else gave.
    pub(crate) fn answered(&mut self, id: u16, until: Duration, capsule: Bytes) {
        self.begin(id, until);
        self.set(id, Seen::Answered(capsule));
    }

    /// The answers still to be known, those first that are forgotten first.
    pub(crate) fn into_answers(self, now: Duration) -> Vec<(u16, Duration, Bytes)> {
        let known = self.by_id.into_iter().filter(|(_, (_, until))| *until > now);
        let mut answers: Vec<_> = known
            .filter_map(|(id, (seen, until))| match seen {
                Seen::Answered(capsule) => Some((id, until, capsule)),
                Seen::Pending | Seen::Passed => None,
            })
            .collect();
        answers.sort_unstable_by_key(|(_, until, _)| *until);
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_request_is_known_for_its_lifetime() {
        let mut exchanges = Exchanges::default();
        exchanges.begin(7, at(10));
        assert!(matches!(exchanges.get(7, at(9)), Some(Seen::Pending)));
        exchanges.set(7, Seen::Answered(Bytes::from_static(b"x")));
        assert!(matches!(exchanges.get(7, at(9)), Some(Seen::Answered(_))));
        assert!(exchanges.get(7, at(10)).is_none());
        assert!(exchanges.get(8, at(0)).is_none());
    }

    #[test]
    fn only_so_many_are_known_and_the_oldest_goes_first() {
        let mut exchanges = Exchanges::default();
        for id in 0..1000 {
            exchanges.answered(id, at(10), Bytes::new());
        }
        // Again, as after a wrap: the older entry must not take the newer one along.
        exchanges.answered(999, at(20), Bytes::new());
        for id in 1000..1255 {
            exchanges.answered(id, at(20), Bytes::new());
        }
        assert_eq!(exchanges.by_id.len(), MOST);
        assert!(exchanges.get(743, at(0)).is_none());
        assert!(exchanges.get(999, at(0)).is_some());
        assert_eq!(exchanges.into_answers(at(0)).len(), MOST);
    }

    #[test]
    fn an_answer_that_somebody_else_gave_to_a_known_request_is_kept() {
        let mut exchanges = Exchanges::default();
        exchanges.begin(7, at(10));
        exchanges.set(7, Seen::Passed);
        exchanges.answered(7, at(12), Bytes::from_static(b"x"));
        assert_eq!(exchanges.into_answers(at(0)), [(7, at(12), Bytes::from_static(b"x"))]);
    }
}
