//! The same as buckets that know how many tokens they have, one for everybody, as long as nobody has to be
//! forgotten; and what a flood costs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers fail the test")]

mod common;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use codec_dns::{Name, Rcode, RecordType as T};
use common::{limits, number};
use dns_limits::{Answer, Client, Exceeded, Excess, Kind, Sending, Transport, Verdict};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Limit {
    is_network: bool,
    per_second: u64,
    burst: u64,
    any_only: bool,
    nxdomain: bool,
    block_s: u64,
}

/// Tokens are counted in nanoseconds that they take to be added.
#[derive(Debug)]
struct Bucket {
    tokens: u64,
    at: u64,
    blocked_until: u64,
}

#[derive(Debug, Default)]
struct Model {
    buckets: HashMap<(usize, u32, bool), Bucket>,
}

impl Model {
    fn bucket(&mut self, index: usize, limit: &Limit, client: &Client, now: u64) -> &mut Bucket {
        let Some(IpAddr::V4(source)) = client.source else { panic!("IPv4 only") };
        let network = source.to_bits() >> if limit.is_network { 8 } else { 0 };
        let token = 1_000_000_000 / limit.per_second;
        let full = token * limit.burst;
        let key = (index, network, client.transport == Transport::Udp);
        let bucket =
            self.buckets.entry(key).or_insert(Bucket { tokens: full, at: now, blocked_until: 0 });
        if bucket.blocked_until > bucket.at && now >= bucket.blocked_until {
            bucket.tokens = full;
        }
        bucket.tokens = (bucket.tokens + now - bucket.at).min(full);
        bucket.at = now;
        bucket
    }

    fn query(&mut self, limits: &[Limit], client: &Client, any: bool, now: u64) -> Verdict {
        for (index, limit) in limits.iter().enumerate() {
            let is_counted = any || !limit.any_only;
            let bucket = self.bucket(index, limit, client, now);
            let is_blocked = now < bucket.blocked_until;
            if is_blocked || is_counted && bucket.tokens < 1_000_000_000 / limit.per_second {
                let begins_block = !is_blocked && limit.block_s > 0;
                if begins_block {
                    bucket.blocked_until = now + limit.block_s * 1_000_000_000;
                }
                let action = Exceeded::Refuse;
                return Verdict::Exceeded(Excess { limit: index, action, begins_block });
            }
        }
        for (index, limit) in limits.iter().enumerate() {
            if !limit.nxdomain && (any || !limit.any_only) {
                self.bucket(index, limit, client, now).tokens -= 1_000_000_000 / limit.per_second;
            }
        }
        Verdict::Pass
    }

    fn nxdomain(&mut self, limits: &[Limit], client: &Client, any: bool, now: u64) {
        for (index, limit) in limits.iter().enumerate() {
            if limit.nxdomain && (any || !limit.any_only) {
                let bucket = self.bucket(index, limit, client, now);
                if now >= bucket.blocked_until {
                    let token = 1_000_000_000 / limit.per_second;
                    bucket.tokens = bucket.tokens.saturating_sub(token);
                }
            }
        }
    }
}

fn limit() -> impl Strategy<Value = Limit> {
    let rate = proptest::sample::select(vec![1, 2, 3, 7, 10, 1000]);
    let block = proptest::sample::select(vec![0, 0, 1, 5]);
    (any::<bool>(), rate, 1..20_u64, any::<bool>(), any::<bool>(), block).prop_map(
        |(is_network, per_second, burst, any_only, nxdomain, block_s)| Limit {
            is_network,
            per_second,
            burst,
            any_only,
            nxdomain,
            block_s,
        },
    )
}

fn json(list: &[Limit]) -> String {
    let limits: Vec<_> = list
        .iter()
        .map(|limit| {
            serde_json::json!({
                "per": if limit.is_network { "network" } else { "address" },
                "queries": {"per_second": limit.per_second, "burst": limit.burst},
                "types": if limit.any_only { vec!["ANY"] } else { vec![] },
                "rcodes": if limit.nxdomain { vec!["NXDOMAIN"] } else { vec![] },
                "block": format!("{}s", limit.block_s),
            })
        })
        .collect();
    serde_json::json!({"rate_limits": limits, "max_rate_limit_keys": 4096}).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(target_family = "wasm") { 32 } else { 256 }))]

    #[test]
    fn verdicts_are_those_of_plain_token_buckets(
        list in proptest::collection::vec(limit(), 1..4),
        // Which client, over UDP or not, asking ANY or not, whose answer is NXDOMAIN or not, after how long.
        queries in proptest::collection::vec(
            (0..6_u32, any::<bool>(), any::<bool>(), any::<bool>(), 0..300_000_000_u64),
            1..400,
        ),
    ) {
        let mut limits = limits(&json(&list));
        let mut model = Model::default();
        let mut now = 0;
        for (who, is_udp, any, is_nxdomain, passed) in queries {
            // Most queries come at once.
            now += if passed > 100_000_000 { 0 } else { passed };
            let time = Duration::from_nanos(now);
            let transport = if is_udp { Transport::Udp } else { Transport::Stream };
            let client = Client { transport, ..number(0x0a00_0000 + ((who / 3) << 8) + who % 3) };
            let record_type = if any { T::ANY } else { T::A };
            let expected = model.query(&list, &client, any, now);
            prop_assert_eq!(limits.query(&client, record_type, time), expected);
            if is_nxdomain && expected == Verdict::Pass {
                model.nxdomain(&list, &client, any, now);
                let answer = Answer {
                    name: Name::ROOT,
                    record_type,
                    rcode: Rcode::NXDOMAIN,
                    kind: Kind::NxDomain(Name::ROOT),
                };
                prop_assert_eq!(limits.answer(&client, &answer, time), Sending::Send);
            }
        }
        prop_assert_eq!(limits.forgotten(), 0);
    }
}

/// `cargo test --release -p dns-limits --test model -- --nocapture` shows nanoseconds per query, the first
/// row before the flood.
#[test]
fn a_flood_from_a_million_sources_is_within_the_same_memory() {
    let mut limits = limits(
        r#"{"rate_limits": [
                {"queries": {"per_second": 100}},
                {"per": "network", "queries": {"per_second": 1000}, "block": "60s"}
            ], "response_rate_limit": {"per_second": 20}, "max_rate_limit_keys": 65536}"#,
    );
    let data =
        Answer { name: Name::ROOT, record_type: T::A, rcode: Rcode::NOERROR, kind: Kind::Data };
    let mut step = |from: u32, count: u32| {
        let began = Instant::now();
        for n in from..from + count {
            let client = number(Ipv4Addr::new(10, 0, 0, 0).to_bits() + n);
            let now = Duration::from_nanos(u64::from(n) * 1000);
            limits.query(&client, T::A, now);
            limits.answer(&client, &data, now);
        }
        let each = began.elapsed().as_nanos() / u128::from(count);
        println!("{from:>8}: {each} ns, {} octets", limits.memory());
        assert!(limits.memory() <= 3 * 65_536 * 24);
    };
    step(0, 1000);
    for from in (1000..1_001_000).step_by(100_000) {
        step(from, 100_000);
    }
}
