//! What limits on queries promise.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "the helpers fail the test")]

mod common;

use codec_dns::{Name, Rcode, RecordType as T};
use common::{at, compile, limits, number, over, udp};
use dns_limits::{Answer, Client, Exceeded, Excess, Kind, Sending, Transport, Verdict};

fn exceeded(limit: usize, action: Exceeded) -> Verdict {
    Verdict::Exceeded(Excess { limit, action, begins_block: false })
}

fn begins_block(limit: usize, action: Exceeded) -> Verdict {
    Verdict::Exceeded(Excess { limit, action, begins_block: true })
}

fn answer(rcode: Rcode) -> Answer<'static> {
    let kind = if rcode == Rcode::NOERROR { Kind::Data } else { Kind::Error };
    Answer { name: Name::ROOT, record_type: T::A, rcode, kind }
}

#[test]
fn a_burst_passes_and_then_the_rate() {
    let mut limits = limits(r#"{"rate_limits": [{"queries": {"per_second": 10, "burst": 3}}]}"#);
    let client = udp("192.0.2.1");
    let mut query = |ms| limits.query(&client, T::A, at(ms));
    for _ in 0..3 {
        assert_eq!(query(1000), Verdict::Pass);
    }
    for ms in [1000, 1099] {
        assert_eq!(query(ms), exceeded(0, Exceeded::Refuse));
    }
    assert_eq!(query(1100), Verdict::Pass);
    assert_eq!(query(1100), exceeded(0, Exceeded::Refuse));
    for _ in 0..3 {
        assert_eq!(query(60_000), Verdict::Pass);
    }
    assert_eq!(query(60_000), exceeded(0, Exceeded::Refuse));
}

#[test]
fn addresses_and_networks_are_counted_together_as_configured() {
    let mut limits = limits(
        r#"{"rate_limits": [
            {"per": "address", "queries": {"per_second": 1}},
            {"per": "network", "queries": {"per_second": 2}, "exceeded": "drop"}
        ]}"#,
    );
    let mut query = |source| limits.query(&udp(source), T::A, at(0));
    assert_eq!(query("192.0.2.1"), Verdict::Pass);
    assert_eq!(query("192.0.2.1"), exceeded(0, Exceeded::Refuse));
    assert_eq!(query("::ffff:192.0.2.1"), exceeded(0, Exceeded::Refuse));
    assert_eq!(query("192.0.2.2"), Verdict::Pass);
    assert_eq!(query("192.0.2.3"), exceeded(1, Exceeded::Drop));
    assert_eq!(query("192.0.3.1"), Verdict::Pass);
    // 64 bits are one address, 56 one network.
    assert_eq!(query("2001:db8::1"), Verdict::Pass);
    assert_eq!(query("2001:db8::ffff:1"), exceeded(0, Exceeded::Refuse));
    assert_eq!(query("2001:db8:0:1::1"), Verdict::Pass);
    assert_eq!(query("2001:db8:0:2::1"), exceeded(1, Exceeded::Drop));
    assert_eq!(query("2001:db8:0:100::1"), Verdict::Pass);
}

#[test]
fn prefixes_are_those_of_the_limit() {
    let mut limits = limits(
        r#"{"rate_limits": [{
            "per": "network", "ipv4_prefix": 8, "ipv6_prefix": 128, "queries": {"per_second": 1}
        }]}"#,
    );
    let mut query = |source| limits.query(&udp(source), T::A, at(0));
    assert_eq!(query("10.0.0.1"), Verdict::Pass);
    assert_eq!(query("10.255.0.1"), exceeded(0, Exceeded::Refuse));
    assert_eq!(query("2001:db8::1"), Verdict::Pass);
    assert_eq!(query("2001:db8::2"), Verdict::Pass);
}

#[test]
fn a_query_above_one_limit_is_not_counted_by_the_others() {
    let mut limits = limits(
        r#"{"rate_limits": [
            {"per": "network", "queries": {"per_second": 2}},
            {"per": "address", "queries": {"per_second": 1}}
        ]}"#,
    );
    let mut query = |source| limits.query(&udp(source), T::A, at(0));
    assert_eq!(query("192.0.2.1"), Verdict::Pass);
    for _ in 0..1000 {
        assert_eq!(query("192.0.2.1"), exceeded(1, Exceeded::Refuse));
    }
    assert_eq!(query("192.0.2.2"), Verdict::Pass, "a neighbour that asks too much costs nothing");
}

#[test]
fn only_the_types_of_a_limit_are_counted() {
    let mut limits = limits(
        r#"{"rate_limits": [{"types": ["any", "TYPE65280"], "queries": {"per_second": 1}}]}"#,
    );
    let client = udp("192.0.2.1");
    let mut query = |record_type| limits.query(&client, record_type, at(0));
    assert_eq!(query(T::A), Verdict::Pass);
    assert_eq!(query(T::ANY), Verdict::Pass);
    for record_type in [T::ANY, T(65_280)] {
        assert_eq!(query(record_type), exceeded(0, Exceeded::Refuse));
    }
    for _ in 0..100 {
        assert_eq!(query(T::A), Verdict::Pass);
    }
}

#[test]
fn who_has_used_up_the_answers_of_a_limit_is_above_it_with_the_next_query() {
    let mut limits = limits(
        r#"{"rate_limits": [{"rcodes": ["NXDOMAIN", "ServFail"], "queries": {"per_second": 2}}]}"#,
    );
    let client = udp("192.0.2.1");
    for rcode in [Rcode::NOERROR, Rcode::REFUSED, Rcode::BADCOOKIE, Rcode(4095)].repeat(9) {
        assert_eq!(limits.query(&client, T::A, at(0)), Verdict::Pass);
        assert_eq!(limits.answer(&client, &answer(rcode), at(0)), Sending::Send);
    }
    for rcode in [Rcode::NXDOMAIN, Rcode::SERVFAIL] {
        assert_eq!(limits.query(&client, T::A, at(0)), Verdict::Pass);
        assert_eq!(limits.answer(&client, &answer(rcode), at(0)), Sending::Send);
    }
    assert_eq!(limits.query(&client, T::A, at(0)), exceeded(0, Exceeded::Refuse));
    // Those that were under way owe nothing beyond the bucket.
    for _ in 0..1000 {
        assert_eq!(limits.answer(&client, &answer(Rcode::NXDOMAIN), at(0)), Sending::Send);
    }
    assert_eq!(limits.query(&client, T::A, at(499)), exceeded(0, Exceeded::Refuse));
    assert_eq!(limits.query(&client, T::A, at(500)), Verdict::Pass);
}

#[test]
fn who_is_blocked_has_all_its_queries_stopped_for_so_long_and_then_a_full_bucket() {
    let mut limits = limits(
        r#"{"rate_limits": [{
            "types": ["ANY"], "queries": {"per_second": 1, "burst": 2}, "exceeded": "drop", "block": "60s"
        }]}"#,
    );
    let client = udp("192.0.2.1");
    let mut query = |record_type, ms| limits.query(&client, record_type, at(ms));
    assert_eq!(query(T::ANY, 0), Verdict::Pass);
    assert_eq!(query(T::ANY, 0), Verdict::Pass);
    assert_eq!(query(T::A, 0), Verdict::Pass);
    assert_eq!(query(T::ANY, 0), begins_block(0, Exceeded::Drop));
    for ms in [0, 30_000, 59_999] {
        assert_eq!(query(T::A, ms), exceeded(0, Exceeded::Drop));
        assert_eq!(query(T::ANY, ms), exceeded(0, Exceeded::Drop));
    }
    assert_eq!(query(T::ANY, 60_000), Verdict::Pass);
    assert_eq!(query(T::ANY, 60_000), Verdict::Pass);
    assert_eq!(query(T::ANY, 60_000), begins_block(0, Exceeded::Drop));
}

#[test]
fn answers_neither_begin_nor_end_a_block() {
    let mut limits = limits(
        r#"{"rate_limits": [{"rcodes": ["NXDOMAIN"], "queries": {"per_second": 1}, "block": "60s"}]}"#,
    );
    let client = udp("192.0.2.1");
    limits.answer(&client, &answer(Rcode::NXDOMAIN), at(0));
    assert_eq!(limits.query(&client, T::A, at(0)), begins_block(0, Exceeded::Refuse));
    for ms in [1, 59_000] {
        limits.answer(&client, &answer(Rcode::NXDOMAIN), at(ms));
    }
    assert_eq!(limits.query(&client, T::A, at(59_999)), exceeded(0, Exceeded::Refuse));
    assert_eq!(limits.query(&client, T::A, at(60_000)), Verdict::Pass);
}

#[test]
fn a_client_that_comes_back_over_tcp_has_a_bucket_that_nobody_else_can_use_up() {
    let mut limits = limits(
        r#"{"rate_limits": [{"queries": {"per_second": 1}, "exceeded": "truncate", "block": "60s"}]}"#,
    );
    let mut query = |transport| limits.query(&over(transport, "192.0.2.1"), T::A, at(0));
    assert_eq!(query(Transport::Udp), Verdict::Pass);
    assert_eq!(query(Transport::Udp), begins_block(0, Exceeded::Truncate));
    for _ in 0..1000 {
        assert_eq!(query(Transport::Udp), exceeded(0, Exceeded::Truncate));
    }
    assert_eq!(query(Transport::Stream), Verdict::Pass);
    // Truncation tells those nothing who have proved where they are.
    assert_eq!(query(Transport::UdpWithCookie), begins_block(0, Exceeded::Refuse));
    assert_eq!(query(Transport::Stream), exceeded(0, Exceeded::Refuse));
}

#[test]
fn exempt_networks_have_no_limit() {
    let mut limits = limits(
        r#"{"rate_limits": [{"queries": {"per_second": 1}}], "response_rate_limit": {"per_second": 1},
            "rate_limit_exempt": ["10.0.0.0/8"]}"#,
    );
    for _ in 0..100 {
        assert_eq!(limits.query(&udp("10.1.2.3"), T::A, at(0)), Verdict::Pass);
        let sending = limits.answer(&udp("10.1.2.3"), &answer(Rcode::NOERROR), at(0));
        assert_eq!(sending, Sending::Send);
    }
    assert_eq!(limits.query(&udp("11.1.2.3"), T::A, at(0)), Verdict::Pass);
    assert_eq!(limits.query(&udp("11.1.2.3"), T::A, at(0)), exceeded(0, Exceeded::Refuse));
}

#[test]
fn clients_whose_address_is_unknown_are_limited_as_one() {
    let mut limits = limits(r#"{"rate_limits": [{"queries": {"per_second": 1}}]}"#);
    let client = Client { source: None, transport: Transport::Stream };
    assert_eq!(limits.query(&client, T::A, at(0)), Verdict::Pass);
    assert_eq!(limits.query(&client, T::A, at(0)), exceeded(0, Exceeded::Refuse));
}

#[test]
fn without_limits_everything_passes() {
    let mut limits = limits("{}");
    assert!(limits.settings().is_empty());
    for _ in 0..100 {
        assert_eq!(limits.query(&udp("192.0.2.1"), T::ANY, at(0)), Verdict::Pass);
        let sending = limits.answer(&udp("192.0.2.1"), &answer(Rcode::NXDOMAIN), at(0));
        assert_eq!(sending, Sending::Send);
    }
}

/// Spoofed sources, 1,000 for each place in the table, while others are above the limit and blocked.
#[test]
fn a_flood_resets_nobody_who_asks_more_than_its_sources_and_refuses_no_other() {
    let mut limits = limits(
        r#"{"rate_limits": [
            {"queries": {"per_second": 1, "burst": 10}},
            {"types": ["ANY"], "queries": {"per_second": 1}, "block": "3600s"}
        ]}"#,
    );
    let (greedy, blocked) = (udp("192.0.2.1"), udp("192.0.2.2"));
    for _ in 0..10 {
        assert_eq!(limits.query(&greedy, T::A, at(0)), Verdict::Pass);
    }
    assert_eq!(limits.query(&blocked, T::ANY, at(0)), Verdict::Pass);
    assert_eq!(limits.query(&blocked, T::ANY, at(0)), begins_block(1, Exceeded::Refuse));
    for n in 0..1_024_000 {
        // Two queries of each: less than what the greedy one has taken.
        let spoofed = number(0x0a00_0000 + n / 2);
        let verdict = limits.query(&spoofed, T::A, at(u64::from(n) / 2000));
        assert_eq!(verdict, Verdict::Pass, "nobody is locked out");
    }
    assert!(limits.forgotten() > 500_000);
    assert_eq!(limits.query(&greedy, T::A, at(512)), exceeded(0, Exceeded::Refuse));
    assert_eq!(limits.query(&blocked, T::A, at(512)), exceeded(1, Exceeded::Refuse));
    // A client that keeps to the limit is forgotten, to its advantage.
    let innocent = udp("198.51.100.1");
    for ms in (1000..100_000).step_by(1000) {
        assert_eq!(limits.query(&innocent, T::A, at(ms)), Verdict::Pass);
    }
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    let json = r#"{
        "rate_limits": [
            {"queries": {"per_second": 0, "burst": 0}, "ipv4_prefix": 24, "block": "86401s"},
            {"per": "network", "ipv4_prefix": 33, "ipv6_prefix": 129, "queries": {"per_second": 1e7}},
            {"queries": {"per_second": 5}, "types": ["A", "AAA"], "rcodes": ["nxdomain", "OTHER", "3"]},
            {"queries": {"per_second": 5}, "name": "a.b"},
            {"per": "zone", "query": {}}
        ],
        "response_rate_limit": {
            "per_second": 0, "window": "0.5s", "slip": 11, "ipv4_prefix": 40, "exempt": ["10.0.0.1/8"]
        },
        "rate_limit_exempt": ["::/0", "all"],
        "max_rate_limit_keys": 1
    }"#;
    let mistakes: Vec<_> = compile(json).1.into_list().iter().map(ToString::to_string).collect();
    let expected = [
        "rate_limits[4].per: unknown variant `zone`",
        "rate_limits[4].query: unknown field `query`",
        "rate_limits[4]: missing field `queries`",
        "rate_limit_exempt[1]: is no network",
        "rate_limits[0].ipv4_prefix: has a meaning only with per: network",
        "rate_limits[0].queries.per_second: must be from 1 to 1000000 (got 0)",
        "rate_limits[0].queries.burst: must be from 1 to 1000000000 (got 0)",
        "rate_limits[0].block: must be from 0s to 86400s (got 86401s)",
        "rate_limits[1].ipv4_prefix: must be from 0 to 32 (got 33)",
        "rate_limits[1].ipv6_prefix: must be from 0 to 128 (got 129)",
        "rate_limits[1].queries.per_second: must be from 1 to 1000000 (got 10000000)",
        "rate_limits[2].types[1]: is unknown (got \"AAA\")",
        "rate_limits[2].rcodes[1]: is unknown (got \"OTHER\")",
        "rate_limits[2].rcodes[2]: is unknown (got \"3\")",
        "rate_limits[3].name: must be 1 to 64 letters, digits, '_' and '-' (got \"a.b\")",
        "response_rate_limit.per_second: must be from 1 to 1000000 (got 0)",
        "response_rate_limit.window: must be from 1s to 3600s (got 500ms)",
        "response_rate_limit.ipv4_prefix: must be from 0 to 32 (got 40)",
        "response_rate_limit.slip: must be from 0 to 10 (got 11)",
        "response_rate_limit.exempt[0]: has an address with more bits than the 8 of its prefix",
        "max_rate_limit_keys: must be from 8 to 16777216 (got 1)",
    ];
    for (mistake, expected) in mistakes.iter().zip(expected) {
        assert!(mistake.starts_with(expected), "{mistake}\n{expected}");
    }
    assert_eq!(mistakes.len(), expected.len());
}

#[test]
fn metrics_call_a_limit_by_its_name() {
    let (settings, _) = compile(
        r#"{"rate_limits": [
            {"queries": {"per_second": 1}},
            {"per": "network", "queries": {"per_second": 1}},
            {"name": "any_flood", "queries": {"per_second": 1}}
        ]}"#,
    );
    let labels: Vec<_> = (0..settings.limits()).map(|limit| settings.label(limit)).collect();
    assert_eq!(labels, ["address", "network", "any_flood"]);
    let actions = [Exceeded::Refuse, Exceeded::Truncate, Exceeded::Drop].map(Exceeded::label);
    assert_eq!(actions, ["refuse", "truncate", "drop"]);
}
