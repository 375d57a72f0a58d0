//! Token buckets: how many messages and octets clients may publish.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::time::Duration;

use filter_config::{Mistake, Mistakes, Whole};
use hashbrown::HashMap;
use serde::Deserialize;

/// Whose messages a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One connection's.
    #[default]
    Connection,
    /// Those of all connections with one Client Identifier.
    ClientId,
    /// Those of all connections with one User Name; those without one together.
    Username,
    /// Those of all connections from one address.
    SourceAddress,
}

/// What happens to a message for which a bucket has too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Exceeded {
    /// It waits, and with it all that the client sends after it: nothing more is read from the
    /// connection.
    #[default]
    Delay,
    /// It is dropped without an answer. At QoS 1 and 2 a client sends it again when it reconnects.
    Drop,
    /// It is refused with reason code 0x97, Quota exceeded (MQTT 3.1.1: as `refused_in_3_1_1` says);
    /// at QoS 0 dropped.
    Reject,
    /// The connection ends; an MQTT 5.0 client is told 0x96, Message rate too high.
    Disconnect,
}

impl Exceeded {
    /// A stable name for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Disconnect => "disconnect",
        }
    }
}

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

/// A limit on what clients publish. A message must find enough in every bucket; each worker of Envoy
/// counts for itself.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Whose messages are counted together: `connection` (default), `client_id`, `username` or
    /// `source_address`.
    #[serde(default)]
    pub per: Per,
    /// A token is a PUBLISH packet.
    #[serde(default)]
    pub messages: Option<BucketConfig>,
    /// A token is an octet of a PUBLISH packet, its header included. A packet larger than `burst`
    /// needs a full bucket and leaves a debt.
    #[serde(default)]
    pub octets: Option<BucketConfig>,
    /// What happens to a message above the limit: `delay` (default), `drop`, `reject` or
    /// `disconnect`.
    #[serde(default)]
    pub exceeded: Exceeded,
}

/// A limit as the filter uses it.
#[derive(Debug)]
pub(crate) struct RateLimit {
    pub(crate) per: Per,
    pub(crate) exceeded: Exceeded,
    messages: Option<Rate>,
    octets: Option<Rate>,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

impl RateLimit {
    pub(crate) fn compile(config: &RateLimitConfig, path: &str, mistakes: &mut Mistakes) -> Self {
        let mut rate = |name: &str, config: &Option<BucketConfig>| {
            let config = config.as_ref()?;
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
        let messages = rate("messages", &config.messages);
        let octets = rate("octets", &config.octets);
        if config.messages.is_none() && config.octets.is_none() {
            mistakes.push(Mistake::new(path, "needs messages, octets or both"));
        }
        Self { per: config.per, exceeded: config.exceeded, messages, octets }
    }
}

/// What is left for one key of one limit.
#[derive(Debug)]
pub(crate) struct Bucket {
    messages: f64,
    octets: f64,
    at: Duration,
}

impl Bucket {
    fn full(limit: &RateLimit, now: Duration) -> Self {
        let burst = |rate: &Option<Rate>| rate.map_or(0.0, |rate| rate.burst);
        Self { messages: burst(&limit.messages), octets: burst(&limit.octets), at: now }
    }

    fn fill(&mut self, limit: &RateLimit, now: Duration) {
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
    fn wait(&self, limit: &RateLimit, octets: usize) -> Duration {
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
pub(crate) type Shared = Rc<RefCell<Bucket>>;

/// The buckets that connections share, on one worker.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// By the limit's index and the key's hash: two keys with the same 64 bits share a bucket.
    by_key: HashMap<(usize, u64), Shared>,
    hasher: RandomState,
    most: usize,
}

impl Buckets {
    pub(crate) fn new(most: usize) -> Self {
        Self { by_key: HashMap::new(), hasher: RandomState::new(), most }
    }

    /// The bucket of this limit for this key.
    pub(crate) fn get(
        &mut self,
        (index, limit): (usize, &RateLimit),
        key: &str,
        now: Duration,
    ) -> Shared {
        if limit.per == Per::Connection {
            return Rc::new(RefCell::new(Bucket::full(limit, now)));
        }
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
pub(crate) enum Charge {
    /// Yes; it is paid for.
    Paid,
    /// Not before so much time has passed.
    Wait(Duration),
    /// No, and this is what happens to it.
    Exceeded(Exceeded),
}

/// Charges every bucket for a message, or none.
pub(crate) fn charge(
    limits: &[RateLimit],
    buckets: &[Shared],
    octets: usize,
    now: Duration,
) -> Charge {
    let mut longest = Duration::ZERO;
    for (limit, bucket) in limits.iter().zip(buckets) {
        let mut bucket = bucket.borrow_mut();
        bucket.fill(limit, now);
        let wait = bucket.wait(limit, octets);
        if !wait.is_zero() && limit.exceeded != Exceeded::Delay {
            return Charge::Exceeded(limit.exceeded);
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

    fn limit(json: &str) -> RateLimit {
        let (config, mut mistakes) = filter_config::read::<crate::config::Config>(
            format!(r#"{{"rate_limits": [{json}]}}"#).as_bytes(),
        );
        let limit = RateLimit::compile(&config.rate_limits[0], "rate_limits[0]", &mut mistakes);
        assert_eq!(mistakes.into_list(), []);
        limit
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limits = [limit(r#"{"messages": {"per_second": 10, "burst": 3}}"#)];
        let buckets = [Buckets::new(9).get((0, &limits[0]), "", at(0))];
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
        let limits = [limit(r#"{"octets": {"per_second": 100, "burst": 100}}"#)];
        let buckets = [Buckets::new(9).get((0, &limits[0]), "", at(0))];
        assert_eq!(charge(&limits, &buckets, 300, at(0)), Charge::Paid);
        assert_eq!(charge(&limits, &buckets, 1, at(0)), Charge::Wait(at(2010)));
        assert_eq!(charge(&limits, &buckets, 1, at(2010)), Charge::Paid);
    }

    #[test]
    fn one_bucket_that_refuses_leaves_the_others_untouched() {
        let limits = [
            limit(r#"{"messages": {"per_second": 1, "burst": 5}, "exceeded": "reject"}"#),
            limit(r#"{"messages": {"per_second": 1, "burst": 2}, "exceeded": "drop"}"#),
        ];
        let mut table = Buckets::new(9);
        let buckets = [0, 1].map(|n| table.get((n, &limits[n]), "", at(0)));
        let charges: Vec<_> = (0..4).map(|_| charge(&limits, &buckets, 1, at(0))).collect();
        let exceeded = Charge::Exceeded(Exceeded::Drop);
        assert_eq!(charges, [Charge::Paid, Charge::Paid, exceeded, exceeded]);
        assert!((buckets[0].borrow().messages - 3.0).abs() < 1e-9);
    }

    #[test]
    fn connections_share_by_key_and_the_table_is_bounded() {
        let limit = limit(r#"{"per": "username", "messages": {"per_second": 1}}"#);
        let mut table = Buckets::new(3);
        let anna = table.get((0, &limit), "anna", at(0));
        assert!(Rc::ptr_eq(&anna, &table.get((0, &limit), "anna", at(0))));
        assert!(!Rc::ptr_eq(&anna, &table.get((0, &limit), "bob", at(0))));
        assert!(!Rc::ptr_eq(&anna, &table.get((1, &limit), "anna", at(0))));
        for n in 0..1000 {
            let _ = table.get((0, &limit), &n.to_string(), at(n));
            assert!(table.by_key.len() <= 3);
        }
        assert!(Rc::ptr_eq(&anna, &table.get((0, &limit), "anna", at(0))), "in use: not forgotten");
    }
}
