//! Token buckets: how many messages and octets clients may send.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::time::Duration;

use filter_config::{Mistake, Mistakes, Whole};
use hashbrown::HashMap;
use serde::Deserialize;

/// A token bucket.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// How many tokens are added each second. At least 1.
    pub per_second: Whole,
    /// How many it holds, and has in the beginning. At least a tenth of `per_second`, because that is
    /// how often waiting messages are looked at. Default: `per_second`.
    #[serde(default)]
    pub burst: Option<Whole>,
}

/// A limit as a filter uses it: whose messages it counts together, and what happens to those above it.
#[derive(Debug)]
pub struct Limit<P, E> {
    /// Whose messages are counted together.
    pub per: P,
    /// What happens to a message above the limit.
    pub exceeded: E,
    messages: Option<Rate>,
    octets: Option<Rate>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

impl<P, E> Limit<P, E> {
    /// Checks a limit of the configuration, which is at `path` there.
    pub fn compile(
        (per, exceeded): (P, E),
        (messages, octets): (Option<&BucketConfig>, Option<&BucketConfig>),
        path: &str,
        mistakes: &mut Mistakes,
    ) -> Self {
        let mut rate = |name: &str, config: Option<&BucketConfig>| {
            let config = config?;
            let Whole(per_second) = config.per_second;
            let Whole(burst) = config.burst.unwrap_or(config.per_second);
            let most = 1 << 40;
            if !(1..=most).contains(&per_second) {
                mistakes.push(Mistake::new(
                    format!("{path}.{name}.per_second"),
                    format!("must be from 1 to {most} (got {per_second})"),
                ));
            } else if burst < per_second.div_ceil(10) || burst > most {
                mistakes.push(Mistake::new(
                    format!("{path}.{name}.burst"),
                    format!("must be from a tenth of per_second to {most} (got {burst})"),
                ));
            }
            Some(Rate { per_second: per_second as f64, burst: burst as f64 })
        };
        let compiled = (rate("messages", messages), rate("octets", octets));
        if messages.is_none() && octets.is_none() {
            mistakes.push(Mistake::new(path, "needs messages, octets or both"));
        }
        Self { per, exceeded, messages: compiled.0, octets: compiled.1 }
    }
}

/// What is left for one key of one limit.
#[derive(Debug)]
pub struct Bucket {
    messages: f64,
    octets: f64,
    at: Duration,
}

impl Bucket {
    fn full<P, E>(limit: &Limit<P, E>, now: Duration) -> Self {
        let burst = |rate: &Option<Rate>| rate.map_or(0.0, |rate| rate.burst);
        Self { messages: burst(&limit.messages), octets: burst(&limit.octets), at: now }
    }

    fn fill<P, E>(&mut self, limit: &Limit<P, E>, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        for (rate, tokens) in
            [(&limit.messages, &mut self.messages), (&limit.octets, &mut self.octets)]
        {
            if let Some(Rate { per_second, burst }) = rate {
                *tokens = (*tokens + passed * per_second).min(*burst);
            }
        }
    }

    /// How long until there is enough for a message of so many octets; zero if there is.
    fn wait<P, E>(&self, limit: &Limit<P, E>, octets: usize) -> Duration {
        let wait = |rate: &Option<Rate>, tokens: f64, needed: f64| match rate {
            Some(Rate { per_second, burst }) => (needed.min(*burst) - tokens) / per_second,
            None => 0.0,
        };
        let messages = wait(&limit.messages, self.messages, 1.0);
        let octets = wait(&limit.octets, self.octets, octets as f64);
        // Rounding must not end in a wait of nothing.
        let seconds = messages.max(octets);
        if seconds > 1e-9 { Duration::from_secs_f64(seconds.max(1e-3)) } else { Duration::ZERO }
    }
}

/// A bucket that other connections may share.
pub type Shared = Rc<RefCell<Bucket>>;

/// The buckets that connections share, on one worker.
#[derive(Debug)]
pub struct Buckets {
    /// By the limit's index and the key's hash: two keys with the same 64 bits share a bucket.
    by_key: HashMap<(usize, u64), Shared>,
    hasher: RandomState,
    most: usize,
}

impl Buckets {
    /// A table of at most about so many buckets: those in use are never forgotten.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { by_key: HashMap::new(), hasher: RandomState::new(), most }
    }

    /// The bucket of this limit for this key; one of its own without a key.
    pub fn get<P, E>(
        &mut self,
        (index, limit): (usize, &Limit<P, E>),
        key: Option<&str>,
        now: Duration,
    ) -> Shared {
        let Some(key) = key else {
            return Rc::new(RefCell::new(Bucket::full(limit, now)));
        };
        let key = (index, self.hasher.hash_one(key));
        if self.by_key.len() >= self.most && !self.by_key.contains_key(&key) {
            self.forget(now);
        }
        let bucket = self.by_key.entry(key);
        Rc::clone(bucket.or_insert_with(|| Rc::new(RefCell::new(Bucket::full(limit, now)))))
    }

    /// Makes room: buckets that no connection uses any more and that nobody used for a minute go
    /// first, then all that no connection uses.
    fn forget(&mut self, now: Duration) {
        const RECENT: Duration = Duration::from_secs(60);
        let used = |bucket: &Shared| Rc::strong_count(bucket) > 1;
        self.by_key
            .retain(|_, bucket| used(bucket) || now.saturating_sub(bucket.borrow().at) < RECENT);
        if self.by_key.len() >= self.most {
            self.by_key.retain(|_, bucket| used(bucket));
        }
    }
}

/// Whether a message may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge<E> {
    /// Yes; it is paid for.
    Paid,
    /// Not before so much time has passed, where a message above a limit waits.
    Wait(Duration),
    /// No. What happens to it, and after what time there would be enough.
    Exceeded(E, Duration),
}

/// Charges every bucket for a message, or none. `waits` are the limits above which a message waits.
pub fn charge<P, E: Copy>(
    limits: &[Limit<P, E>],
    buckets: &[Shared],
    octets: usize,
    now: Duration,
    waits: impl Fn(E) -> bool,
) -> Charge<E> {
    let mut longest = Duration::ZERO;
    for (limit, bucket) in limits.iter().zip(buckets) {
        let mut bucket = bucket.borrow_mut();
        bucket.fill(limit, now);
        let wait = bucket.wait(limit, octets);
        if !wait.is_zero() && !waits(limit.exceeded) {
            return Charge::Exceeded(limit.exceeded, wait);
        }
        longest = longest.max(wait);
    }
    if !longest.is_zero() {
        return Charge::Wait(longest);
    }
    for bucket in buckets {
        let mut bucket = bucket.borrow_mut();
        bucket.messages -= 1.0;
        bucket.octets -= octets as f64;
    }
    Charge::Paid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Exceeded {
        Delay,
        Drop,
        Reject,
    }

    fn limit(
        messages: Option<(u64, u64)>,
        octets: Option<(u64, u64)>,
        exceeded: Exceeded,
    ) -> Limit<(), Exceeded> {
        let config = |rate: Option<(u64, u64)>| {
            rate.map(|(per_second, burst)| BucketConfig {
                per_second: Whole(per_second),
                burst: Some(Whole(burst)),
            })
        };
        let (messages, octets) = (config(messages), config(octets));
        let mut mistakes = Mistakes::default();
        let rates = (messages.as_ref(), octets.as_ref());
        let limit = Limit::compile(((), exceeded), rates, "rate_limits[0]", &mut mistakes);
        assert_eq!(mistakes.into_list(), []);
        limit
    }

    fn charge(
        limits: &[Limit<(), Exceeded>],
        buckets: &[Shared],
        octets: usize,
        now: Duration,
    ) -> Charge<Exceeded> {
        super::charge(limits, buckets, octets, now, |exceeded| exceeded == Exceeded::Delay)
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limits = [limit(Some((10, 3)), None, Exceeded::Delay)];
        let buckets = [Buckets::new(9).get((0, &limits[0]), None, at(0))];
        let charge = |ms| charge(&limits, &buckets, 100, at(ms));
        for _ in 0..3 {
            assert_eq!(charge(0), Charge::Paid);
        }
        assert_eq!(charge(0), Charge::Wait(at(100)));
        assert_eq!(charge(40), Charge::Wait(at(60)));
        assert_eq!(charge(100), Charge::Paid);
        assert!(matches!(charge(101), Charge::Wait(_)));
        for _ in 0..3 {
            assert_eq!(charge(60_000), Charge::Paid);
        }
        assert!(matches!(charge(60_000), Charge::Wait(_)));
    }

    #[test]
    fn a_message_larger_than_the_bucket_waits_for_a_full_one_and_leaves_a_debt() {
        let limits = [limit(None, Some((100, 100)), Exceeded::Delay)];
        let buckets = [Buckets::new(9).get((0, &limits[0]), None, at(0))];
        assert_eq!(charge(&limits, &buckets, 300, at(0)), Charge::Paid);
        assert_eq!(charge(&limits, &buckets, 1, at(0)), Charge::Wait(at(2010)));
        assert_eq!(charge(&limits, &buckets, 1, at(2010)), Charge::Paid);
    }

    #[test]
    fn one_bucket_that_refuses_leaves_the_others_untouched() {
        let limits = [
            limit(Some((1, 5)), None, Exceeded::Reject),
            limit(Some((1, 2)), None, Exceeded::Drop),
        ];
        let mut table = Buckets::new(9);
        let buckets = [0, 1].map(|n| table.get((n, &limits[n]), None, at(0)));
        let charges: Vec<_> = (0..4).map(|_| charge(&limits, &buckets, 1, at(0))).collect();
        let exceeded = Charge::Exceeded(Exceeded::Drop, at(1000));
        assert_eq!(charges, [Charge::Paid, Charge::Paid, exceeded, exceeded]);
        assert!((buckets[0].borrow().messages - 3.0).abs() < 1e-9);
    }

    #[test]
    fn connections_share_by_key_and_the_table_is_bounded() {
        let limit = limit(Some((1, 1)), None, Exceeded::Delay);
        let mut table = Buckets::new(3);
        let anna = table.get((0, &limit), Some("anna"), at(0));
        assert!(Rc::ptr_eq(&anna, &table.get((0, &limit), Some("anna"), at(0))));
        assert!(!Rc::ptr_eq(&anna, &table.get((0, &limit), Some("bob"), at(0))));
        assert!(!Rc::ptr_eq(&anna, &table.get((1, &limit), Some("anna"), at(0))));
        for n in 0..1000 {
            let _ = table.get((0, &limit), Some(&n.to_string()), at(n));
            assert!(table.by_key.len() <= 3);
        }
        assert!(
            Rc::ptr_eq(&anna, &table.get((0, &limit), Some("anna"), at(0))),
            "in use: not forgotten"
        );
    }
}
