//! Queries that wait for their answers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use bridge::{Bytes, StreamId};
use hashbrown::HashMap;

use crate::flows::Target;
use crate::proxy::Asker;
use crate::rules::Carry;
use crate::transfer::Transfer;

/// Tells queries apart. Never reused.
pub(crate) type Seq = u64;

/// So many entries of queries that have their answers do no harm.
const MANY: usize = 1000;

/// A query that waits for its answer.
#[derive(Debug)]
pub(crate) struct Pending<C> {
    /// Who waits for the answer; nobody, if it is for the cache.
    pub(crate) asker: Option<Asker<C>>,
    pub(crate) source: Option<IpAddr>,
    /// As the client sent it.
    pub(crate) query: Bytes,
    /// As it is forwarded.
    pub(crate) sent: Bytes,
    pub(crate) target: Target,
    pub(crate) carry: Carry,
    pub(crate) since: Duration,
    /// When it is given up.
    pub(crate) until: Duration,
    pub(crate) place: Place,
    /// Nobody has to let it pass any more.
    pub(crate) is_passed: bool,
    /// The flow it was in has ended, or was over UDP and the answer too long for that.
    pub(crate) retried: bool,
    /// Its answer may have more than one message (RFC 5936 §2.2); part of it has come.
    pub(crate) transfer: Option<Transfer>,
    pub(crate) begun: bool,
}

/// Where the answer is to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a flow, with this ID.
    Flow(StreamId, u16),
    /// As the response to a request of its own.
    Asked(StreamId),
    /// Nowhere yet.
    Nowhere,
}

/// All queries that wait, and until when.
#[derive(Debug)]
pub(crate) struct Waiting<C> {
    queries: HashMap<Seq, Pending<C>>,
    next: Seq,
    /// When to send them again, and when to give them up, in the order of time.
    again: VecDeque<(Duration, Seq)>,
    give_up: VecDeque<(Duration, Seq)>,
    /// When to answer with what has expired.
    expired: VecDeque<(Duration, Seq)>,
}

impl<C> Waiting<C> {
    pub(crate) fn new() -> Self {
        let (again, give_up, expired) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { queries: HashMap::new(), next: 0, again, give_up, expired }
    }

    pub(crate) fn len(&self) -> usize {
        self.queries.len()
    }

    /// The number of the next query.
    pub(crate) fn number(&mut self) -> Seq {
        self.next += 1;
        self.next
    }

    /// Has a query wait from now on.
    pub(crate) fn add(&mut self, seq: Seq, pending: Pending<C>, again: Option<Duration>) {
        self.give_up.push_back((pending.until, seq));
        self.queries.insert(seq, pending);
        if let Some(again) = again {
            self.again.push_back((again, seq));
        }
    }

    /// Has it noted when a query is to be sent again.
    pub(crate) fn add_again(&mut self, seq: Seq, at: Duration) {
        self.again.push_back((at, seq));
    }

    /// Has it noted when a query is answered with what has expired.
    pub(crate) fn add_expired(&mut self, seq: Seq, at: Duration) {
        self.expired.push_back((at, seq));
    }

    pub(crate) fn get(&self, seq: Seq) -> Option<&Pending<C>> {
        self.queries.get(&seq)
    }

    pub(crate) fn get_mut(&mut self, seq: Seq) -> Option<&mut Pending<C>> {
        self.queries.get_mut(&seq)
    }

    /// Has a query wait no more.
    pub(crate) fn remove(&mut self, seq: Seq) -> Option<Pending<C>> {
        let pending = self.queries.remove(&seq);
        // Answers come more or less in the order of the queries, so this keeps the lists short.
        for list in [&mut self.again, &mut self.give_up, &mut self.expired] {
            while list.front().is_some_and(|(_, seq)| !self.queries.contains_key(seq)) {
                list.pop_front();
            }
            // One that gets no answer must not keep the rest.
            if list.len() > 2 * self.queries.len() + MANY {
                list.retain(|(_, seq)| self.queries.contains_key(seq));
            }
        }
        pending
    }

    /// A query that is to be sent again by now.
    pub(crate) fn due_again(&mut self, now: Duration) -> Option<Seq> {
        due(&mut self.again, now)
    }

    /// A query that is to be answered with what has expired.
    pub(crate) fn due_expired(&mut self, now: Duration) -> Option<Seq> {
        due(&mut self.expired, now)
    }

    /// A query that is to be given up by now.
    pub(crate) fn due_give_up(&mut self, now: Duration) -> Option<Seq> {
        loop {
            let seq = due(&mut self.give_up, now)?;
            let Some(pending) = self.queries.get(&seq) else { continue };
            if pending.until <= now {
                return Some(seq);
            }
            // Put off: all are for the same time, so this one comes after all others.
            self.give_up.push_back((pending.until, seq));
        }
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let first = |list: &VecDeque<(Duration, Seq)>| list.front().map(|(at, _)| *at);
        [first(&self.again), first(&self.give_up), first(&self.expired)].into_iter().flatten().min()
    }

    pub(crate) fn drain(&mut self) -> usize {
        let waiting = self.queries.len();
        self.queries.clear();
        waiting
    }
}

fn due(list: &mut VecDeque<(Duration, Seq)>, now: Duration) -> Option<Seq> {
    let (at, seq) = *list.front()?;
    if at > now {
        return None;
    }
    list.pop_front();
    Some(seq)
}
