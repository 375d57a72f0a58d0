//! Counting.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use codec_dns::RecordType;

use crate::answer::{Answer, Kind};
use crate::config::{Exceeded, Limit, Response, Settings};
use crate::source::{Client, Transport};
use crate::table::{Entry, Table};

/// The note of the entry of a client that is blocked.
const BLOCKED: u8 = 1;
const SECOND: u64 = 1_000_000_000;

/// A token bucket, for which one number says what is left in it: when it is full again. All in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// What one token takes to be added.
    interval: u64,
    /// What an empty bucket takes to be full.
    size: u64,
    /// The same for one from which as much as possible was taken.
    most: u64,
}

impl Rate {
    pub(crate) fn new(per_second: u64, burst: u64) -> Self {
        let interval = SECOND / per_second.clamp(1, SECOND);
        let size = interval.saturating_mul(burst);
        Self { interval, size, most: size }
    }

    /// A bucket that owes tokens, as many as so much time brings.
    pub(crate) fn with_debt(self, debt: u64) -> Self {
        Self { most: self.size.saturating_add(debt), ..self }
    }

    fn has_token(&self, full_at: u64, now: u64) -> bool {
        full_at.max(now).saturating_add(self.interval) <= now.saturating_add(self.size)
    }

    /// When the bucket is full again after another token was taken, as far as it can owe one.
    fn take(&self, full_at: u64, now: u64) -> u64 {
        full_at.max(now).saturating_add(self.interval).min(now.saturating_add(self.most))
    }
}

/// What is to become of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is within all limits, and counted.
    Pass,
    /// It is above a limit, and not counted.
    Exceeded(Excess),
}

/// A query above a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Which limit it is, the first being 0; [`Settings::label`] is its name.
    pub limit: usize,
    /// What is to be done.
    pub action: Exceeded,
    /// Whether the client is blocked from now on.
    pub begins_block: bool,
}

/// What is to become of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// It is sent.
    Send,
    /// It is sent without records and marked as truncated.
    Truncate,
    /// It is not sent.
    Drop,
}

/// What one worker knows of who asks too much.
#[derive(Debug)]
pub struct Limits<S = RandomState> {
    settings: Rc<Settings>,
    hasher: S,
    buckets: Vec<Buckets>,
    alike: Table,
}

/// The buckets of one limit.
#[derive(Debug)]
struct Buckets {
    table: Table,
    /// Whose query is being looked at.
    key: u64,
}

impl Limits {
    /// Nobody has asked anything yet.
    #[must_use]
    pub fn new(settings: Rc<Settings>) -> Self {
        Self::with_hasher(settings, RandomState::new())
    }
}

impl<S: BuildHasher> Limits<S> {
    /// As [`new`](Limits::new), with hashes that whoever asks must not be able to guess.
    #[must_use]
    pub fn with_hasher(settings: Rc<Settings>, hasher: S) -> Self {
        let table = || Table::new(settings.places);
        let buckets = settings.limits.iter().map(|_| Buckets { table: table(), key: 0 }).collect();
        let alike = table();
        Self { settings, hasher, buckets, alike }
    }

    /// What is to become of a query, which is counted by all limits or by none.
    pub fn query(&mut self, client: &Client, record_type: RecordType, now: Duration) -> Verdict {
        if self.is_exempt(client) {
            return Verdict::Pass;
        }
        let now = nanoseconds(now);
        for (index, (limit, buckets)) in
            self.settings.limits.iter().zip(&mut self.buckets).enumerate()
        {
            let is_counted = limit.counts_type(record_type);
            if !is_counted && limit.block == 0 {
                continue;
            }
            buckets.key = self.hasher.hash_one(who(limit, client));
            let Some(entry) = buckets.table.find(buckets.key, now) else {
                continue;
            };
            let is_blocked = entry.note == BLOCKED;
            if !is_blocked && (!is_counted || limit.rate.has_token(entry.until, now)) {
                continue;
            }
            let begins_block = !is_blocked && limit.block > 0;
            if begins_block {
                entry.until = now.saturating_add(limit.block);
                entry.note = BLOCKED;
            }
            let action = action(limit.exceeded, client.transport);
            return Verdict::Exceeded(Excess { limit: index, action, begins_block });
        }
        for (limit, buckets) in self.settings.limits.iter().zip(&mut self.buckets) {
            if limit.counts_queries() && limit.counts_type(record_type) {
                buckets.table.change(buckets.key, now, |bucket| {
                    bucket.until = limit.rate.take(bucket.until, now);
                });
            }
        }
        Verdict::Pass
    }

    /// Counts an answer, and says what is to become of it. It is asked about every answer but those that a
    /// limit makes out of a query.
    pub fn answer(&mut self, client: &Client, answer: &Answer<'_>, now: Duration) -> Sending {
        if self.is_exempt(client) {
            return Sending::Send;
        }
        let now = nanoseconds(now);
        for (limit, buckets) in self.settings.limits.iter().zip(&mut self.buckets) {
            if limit.counts_rcode(answer.rcode) && limit.counts_type(answer.record_type) {
                let key = self.hasher.hash_one(who(limit, client));
                buckets.table.change(key, now, |bucket| {
                    if bucket.note != BLOCKED {
                        bucket.until = limit.rate.take(bucket.until, now);
                    }
                });
            }
        }
        let Some(limit) = &self.settings.response else {
            return Sending::Send;
        };
        if client.transport.is_proof()
            || client.source.is_some_and(|source| limit.exempt.contains(source))
        {
            return Sending::Send;
        }
        let key = self.hasher.hash_one(Alike(limit.prefixes.network(client.source), answer));
        let sending = self.alike.change(key, now, |entry| respond(limit, entry, now));
        sending.unwrap_or(Sending::Send)
    }

    /// How many clients and kinds of answers that had used some of what they are allowed were forgotten,
    /// because there was no room for others.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        let tables = self.buckets.iter().map(|buckets| &buckets.table).chain([&self.alike]);
        tables.map(Table::forgotten).sum()
    }

    /// How many octets the tables take. They come with the first that is counted, and are never more.
    #[must_use]
    pub fn memory(&self) -> usize {
        let tables = self.buckets.iter().map(|buckets| &buckets.table).chain([&self.alike]);
        tables.map(Table::memory).sum()
    }

    /// The configuration.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn is_exempt(&self, client: &Client) -> bool {
        client.source.is_some_and(|source| self.settings.exempt.contains(source))
    }
}

fn nanoseconds(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Whose bucket of a limit it is.
fn who(limit: &Limit, client: &Client) -> (u128, bool) {
    (limit.prefixes.network(client.source), client.transport.is_proof())
}

fn action(exceeded: Exceeded, transport: Transport) -> Exceeded {
    match exceeded {
        Exceeded::Truncate if transport.is_proof() => Exceeded::Refuse,
        exceeded => exceeded,
    }
}

/// An answer to a network: answers that are alike have the same hash.
struct Alike<'a>(u128, &'a Answer<'a>);

impl Hash for Alike<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self(network, answer) = self;
        network.hash(state);
        match answer.kind {
            Kind::Data => (0_u8, answer.name, answer.record_type).hash(state),
            Kind::NoData => (1_u8, answer.name).hash(state),
            Kind::Referral(zone) => (2_u8, zone).hash(state),
            Kind::NxDomain(zone) => (3_u8, zone).hash(state),
            Kind::Error => 4_u8.hash(state),
        }
    }
}

/// Counts an answer, sent or not.
fn respond(limit: &Response, entry: &mut Entry, now: u64) -> Sending {
    let is_within = limit.rate.has_token(entry.until, now);
    entry.until = limit.rate.take(entry.until, now);
    if is_within {
        return Sending::Send;
    }
    match entry.note + 1 {
        _ if limit.slip == 0 => Sending::Drop,
        nth if nth < limit.slip => {
            entry.note = nth;
            Sending::Drop
        }
        _ => {
            entry.note = 0;
            Sending::Truncate
        }
    }
}
