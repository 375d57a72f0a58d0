//! The cache beside a list of all that was put, which is looked through from end to end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod common;

use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use codec_dns::{ClientSubnet, EdnsFlags, Flags, Rcode, RecordType, Section, decode};
use common::{Answer, Data, Found, Query, get_at};
use dns_cache::{AskedFlags, Cache, Limits, Prefetch, State, Stored};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Kept {
    query: Query,
    answer: Answer,
    put_at: u64,
    ttls: Vec<u32>,
    quiet_until: u64,
    hits: u32,
}

/// Whom an answer is for: everybody, who says nothing, who asks from a network, who asks from exactly it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Whom {
    All,
    Unnamed,
    Around(ClientSubnet),
    Exactly(ClientSubnet),
}

struct Model {
    limits: Limits,
    kept: Vec<Kept>,
}

fn has_type(answer: &Answer, section: Section, query: &Query) -> bool {
    answer.records.iter().any(|(in_section, _, _, data)| {
        let record_type = match data {
            Data::A(_) => RecordType::A,
            Data::Cname(_) => RecordType::CNAME,
            Data::Ns(_) => RecordType::NS,
            Data::Soa(_) => RecordType::SOA,
            Data::Txt(_) => RecordType::SPF,
        };
        *in_section == section && record_type == query.record_type
    })
}

fn minimum(answer: &Answer) -> Option<u32> {
    let in_authority = answer.records.iter().filter(|record| record.0 == Section::Authority);
    in_authority
        .filter_map(|r| if let Data::Soa(minimum) = r.3 { Some(minimum) } else { None })
        .min()
}

fn whom(kept: &Kept) -> Whom {
    let Some(asked) = kept.query.subnet.filter(|subnet| subnet.source_prefix() > 0) else {
        return Whom::Unnamed;
    };
    let shorter = |prefix| ClientSubnet::new(asked.address(), prefix, 0).unwrap();
    match kept.answer.subnet.map_or(0, |subnet| subnet.scope_prefix()) {
        _ if kept.answer.rcode == Rcode::SERVFAIL => Whom::Exactly(shorter(asked.source_prefix())),
        0 => Whom::All,
        scope if scope <= asked.source_prefix() => Whom::Around(shorter(scope)),
        _ => Whom::Exactly(shorter(asked.source_prefix())),
    }
}

fn is_same_question(one: &Query, other: &Query) -> bool {
    one.name == other.name
        && one.record_type == other.record_type
        && one.class == other.class
        && one.flags == other.flags
}

/// Everybody and who says nothing have one place.
fn is_same_place(one: Whom, other: Whom) -> bool {
    let shared = |whom| matches!(whom, Whom::All | Whom::Unnamed);
    one == other || shared(one) && shared(other)
}

impl Model {
    fn lifetime(kept: &Kept, limits: &Limits) -> u64 {
        let failure = limits.failure_ttl.as_secs();
        kept.ttls.iter().min().map_or(failure, |ttl| u64::from(*ttl)) * 1_000
    }

    /// From 3, the best, to 1; zero: gone.
    fn rank(kept: &Kept, limits: &Limits, now: u64) -> u8 {
        let end = kept.put_at + Self::lifetime(kept, limits);
        match kept.answer.rcode == Rcode::SERVFAIL {
            true => u8::from(now < end),
            false if now < end => 3,
            false if now < end + limits.stale.as_millis() as u64 => 2,
            false => 0,
        }
    }

    fn find(&self, query: &Query, now: u64) -> Option<usize> {
        let subnet = query.subnet.filter(|subnet| subnet.source_prefix() > 0);
        let length = |whom| match (whom, subnet) {
            (Whom::All, _) | (Whom::Unnamed, None) => Some(0),
            (Whom::Exactly(net), Some(subnet)) => (net.address() == subnet.address()
                && net.source_prefix() == subnet.source_prefix())
            .then_some(1_000),
            (Whom::Around(net), Some(subnet)) => {
                let cut = ClientSubnet::new(subnet.address(), net.source_prefix(), 0);
                (cut == Some(net) && net.source_prefix() <= subnet.source_prefix())
                    .then_some(u32::from(net.source_prefix()))
            }
            _ => None,
        };
        let fitting = self.kept.iter().enumerate().filter_map(|(index, kept)| {
            let rank = Self::rank(kept, &self.limits, now);
            let length = length(whom(kept))?;
            (rank > 0 && is_same_question(&kept.query, query)).then_some((rank, length, index))
        });
        fitting.max().map(|(_, _, index)| index)
    }

    fn put(&mut self, query: &Query, answer: &Answer, now: u64) -> Stored {
        if answer.flags.has(Flags::TC) {
            return Stored::Truncated;
        }
        let said = answer.subnet.map(|said| (said.address(), said.source_prefix()));
        let asked = query.subnet.map(|asked| (asked.address(), asked.source_prefix()));
        let is_failure = answer.rcode == Rcode::SERVFAIL;
        let is_positive =
            answer.rcode == Rcode::NOERROR && has_type(answer, Section::Answer, query);
        match answer.rcode {
            Rcode::NOERROR | Rcode::NXDOMAIN | Rcode::SERVFAIL => {}
            other => return Stored::OtherRcode(other),
        }
        let minimum = minimum(answer);
        let in_section = |section| answer.records.iter().filter(move |r| r.0 == section);
        if answer.rcode == Rcode::NOERROR
            && in_section(Section::Answer).count() == 0
            && minimum.is_none()
            && in_section(Section::Authority).any(|record| matches!(record.3, Data::Ns(_)))
        {
            return Stored::Referral;
        }
        if said.is_some() && said != asked {
            return Stored::OtherSubnet;
        }
        let limits = self.limits;
        if is_failure
            && let Some(index) = self.find(query, now)
            && Self::rank(&self.kept[index], &limits, now) >= 2
        {
            self.kept[index].quiet_until = now + limits.stale_ttl.as_millis() as u64;
            return Stored::FailureWithAnswer;
        }
        if is_failure && limits.failure_ttl.is_zero() {
            return Stored::Failure;
        }
        let mut kept = Kept {
            query: query.clone(),
            answer: answer.clone(),
            put_at: now,
            ttls: Vec::new(),
            quiet_until: 0,
            hits: 0,
        };
        let place = whom(&kept);
        self.kept
            .retain(|old| !is_same_question(&old.query, query) || !is_same_place(whom(old), place));
        if !is_positive && !is_failure && minimum.is_none() {
            return Stored::NoSoa;
        }
        for (section, _, ttl, _) in &answer.records {
            let mut ttl = if *ttl > 0x7fff_ffff { 0 } else { u64::from(*ttl) };
            let mut max = limits.max_ttl.as_secs();
            if !is_positive && *section == Section::Authority {
                ttl = ttl.min(u64::from(minimum.unwrap_or(u32::MAX)));
                max = max.min(limits.max_negative_ttl.as_secs());
            }
            if ttl > 0 {
                ttl = ttl.max(limits.min_ttl.as_secs()).min(max);
            }
            kept.ttls.push(ttl as u32);
        }
        if is_failure {
            kept.ttls.clear();
        }
        if kept.ttls.contains(&0) {
            return Stored::ZeroTtl;
        }
        self.kept.push(kept);
        Stored::Yes
    }

    fn get(&mut self, query: &Query, now: u64) -> Option<Found> {
        let index = self.find(query, now)?;
        let limits = self.limits;
        let kept = &mut self.kept[index];
        kept.hits += 1;
        let rank = Self::rank(kept, &limits, now);
        let left = (kept.put_at + Self::lifetime(kept, &limits)).saturating_sub(now);
        let is_quiet = now < kept.quiet_until;
        let state = match (rank, limits.prefetch) {
            (2, _) if is_quiet => State::StaleAndFailing,
            (2, _) => State::Stale,
            (3, Some(Prefetch { percent, hits }))
                if !is_quiet
                    && kept.hits >= hits
                    && left * 100 < Self::lifetime(kept, &limits) * u64::from(percent) =>
            {
                kept.quiet_until = now + 5_000;
                State::Prefetch
            }
            _ => State::Fresh,
        };
        let is_failure = kept.answer.rcode == Rcode::SERVFAIL;
        let passed = ((now - kept.put_at) / 1_000) as u32;
        let stale_ttl = limits.stale_ttl.as_secs() as u32;
        let ttl = |ttl: &u32| if rank == 2 { stale_ttl } else { ttl - passed };
        let addresses = kept.answer.records.iter().filter_map(|record| match record.3 {
            Data::A(n) => Some(n),
            _ => None,
        });
        let flags = Flags::QR.with(Flags::RA).with_low_rcode(kept.answer.rcode);
        let rd = kept.query.flags == AskedFlags::new(Flags::RD, EdnsFlags::NONE);
        Some(Found {
            state,
            rcode: kept.answer.rcode,
            flags: if rd { flags.with(Flags::RD) } else { flags },
            scope: match whom(kept) {
                _ if is_failure => 0,
                Whom::All | Whom::Unnamed => 0,
                _ => kept.answer.subnet.map_or(0, |subnet| subnet.scope_prefix()),
            },
            ttls: kept.ttls.iter().map(ttl).collect(),
            addresses: if is_failure { Vec::new() } else { addresses.collect() },
            errors: kept.answer.errors.clone(),
        })
    }
}

fn subnets() -> impl Strategy<Value = Option<ClientSubnet>> {
    let address = prop::sample::select(vec!["198.51.100.0", "198.51.101.0", "2001:db8::"]);
    let prefix = prop::sample::select(vec![0_u8, 16, 23, 24, 24]);
    let subnet = (address, prefix).prop_map(|(address, prefix)| common::subnet(address, prefix, 0));
    prop_oneof![2 => Just(None), 3 => subnet.prop_map(Some)]
}

fn queries() -> impl Strategy<Value = Query> {
    let names = ["www.example.com", "www.example.com", "WWW.example.COM", "."];
    let types = [RecordType::A, RecordType::A, RecordType::A, RecordType::CNAME];
    let name = prop::sample::select(names.to_vec());
    let record_type = prop::sample::select(types.to_vec());
    (name, record_type, prop::bool::weighted(0.9), subnets()).prop_map(
        |(name, record_type, rd, subnet)| {
            let flags = AskedFlags::new(if rd { Flags::RD } else { Flags(0) }, EdnsFlags::NONE);
            Query { flags, subnet, ..Query::new(name, record_type) }
        },
    )
}

fn answers() -> impl Strategy<Value = Answer> {
    let rcodes = [0, 0, 0, 0, 2, 2, 3, 3, 5].map(Rcode);
    let ttl = || prop_oneof![8 => 1_u32..100, 1 => Just(0), 1 => Just(0x8000_0001)];
    let data = prop_oneof![
        4 => any::<u8>().prop_map(Data::A),
        1 => Just(Data::Cname("www.EXAMPLE.com")),
        1 => Just(Data::Ns("ns.example.com")),
        2 => (0_u32..90).prop_map(Data::Soa),
        1 => prop::collection::vec(any::<u8>(), 0..600).prop_map(Data::Txt),
    ];
    let sections = [Section::Answer, Section::Answer, Section::Authority, Section::Additional];
    let section = prop::sample::select(sections.to_vec());
    let owners = ["www.example.com", "example.com", "Www.Example.Com", "."];
    let owner = prop::sample::select(owners.map(String::from).to_vec());
    let records = prop::collection::vec((section, owner, ttl(), data), 0..5);
    let errors = prop::collection::vec((any::<u16>(), Just(b"why".to_vec())), 0..3);
    let rcode = prop::sample::select(rcodes.to_vec());
    (rcode, records, prop::bool::weighted(0.05), errors).prop_map(
        |(rcode, mut records, tc, errors)| {
            records.sort_by_key(|record| record.0);
            let answer = Answer { records, errors, ..Answer::new(rcode) };
            if tc { answer.flagged(Flags::TC) } else { answer }
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    /// With the scope that the answer has, or without; sometimes for another subnet.
    Put(Query, Answer, Option<u8>, Option<ClientSubnet>),
    Get(Query),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let scope = prop::option::of(prop::sample::select(vec![0_u8, 8, 16, 23, 24, 32]));
    let other = prop_oneof![15 => Just(None), 1 => subnets()];
    let step = prop_oneof![
        3 => (queries(), answers(), scope, other)
            .prop_map(|(query, answer, scope, other)| Step::Put(query, answer, scope, other)),
        4 => queries().prop_map(Step::Get),
        2 => prop_oneof![0_u64..3_000, 3_000_u64..60_000].prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..80)
}

fn limits() -> impl Strategy<Value = Limits> {
    let seconds = |choices: &[u64]| {
        let choices = choices.iter().map(|n| Duration::from_secs(*n)).collect::<Vec<_>>();
        prop::sample::select(choices)
    };
    let prefetch = prop::option::of((0_u8..=100, 0_u32..4));
    let times = (seconds(&[0, 0, 20]), seconds(&[86_400, 50]), seconds(&[3_600, 30]));
    (times, seconds(&[0, 5, 30]), seconds(&[0, 60]), prefetch).prop_map(
        |((min_ttl, max_ttl, max_negative_ttl), failure_ttl, stale, prefetch)| Limits {
            min_ttl,
            max_ttl,
            max_negative_ttl,
            failure_ttl,
            stale,
            prefetch: prefetch.map(|(percent, hits)| Prefetch { percent, hits }),
            ..Limits::default()
        },
    )
}

/// The subnet that an answer says it is for.
fn said(query: &Query, scope: Option<u8>, other: Option<ClientSubnet>) -> Option<ClientSubnet> {
    let of = other.or(query.subnet)?;
    ClientSubnet::new(of.address(), of.source_prefix(), scope?)
}

/// All hashes are the same.
#[derive(Default)]
struct Same;

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        7
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(target_family = "wasm") { 64 } else { 1_000 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_cache_answers_as_a_list_of_all_answers_would(limits in limits(), steps in steps()) {
        let mut cache = Cache::new(limits);
        let mut colliding = Cache::with_hasher(limits, BuildHasherDefault::<Same>::default());
        let mut model = Model { limits, kept: Vec::new() };
        let mut now = 1_000;
        for step in steps {
            let at = Duration::from_millis(now);
            match step {
                Step::Put(query, answer, scope, other) => {
                    let answer = Answer { subnet: said(&query, scope, other), ..answer };
                    let octets = answer.octets(&query);
                    let message = decode(&octets).unwrap();
                    let expected = model.put(&query, &answer, now);
                    prop_assert_eq!(cache.put(&query.asked(), &message, at), expected);
                    prop_assert_eq!(colliding.put(&query.asked(), &message, at), expected);
                }
                Step::Get(query) => {
                    let expected = model.get(&query, now);
                    prop_assert_eq!(get_at(&mut cache, &query, at), expected.clone());
                    prop_assert_eq!(get_at(&mut colliding, &query, at), expected);
                }
                Step::Pass(time) => now += time,
            }
        }
        prop_assert_eq!(cache.evictions(), 0);
    }

    #[test]
    fn a_small_cache_forgets_but_never_says_anything_else(steps in steps()) {
        let limits = Limits { max_size: 5_000, ..Limits::default() };
        let mut cache = Cache::new(limits);
        let mut model = Model { limits, kept: Vec::new() };
        let mut now = 1_000;
        for step in steps {
            match step {
                // Without failures, which are kept where an answer was forgotten.
                Step::Put(_, Answer { rcode: Rcode::SERVFAIL, .. }, ..) => {}
                // Without subnets, where a better answer may be forgotten and a worse one used.
                Step::Put(query, answer, ..) => {
                    let query = Query { subnet: None, ..query };
                    let octets = answer.octets(&query);
                    let message = decode(&octets).unwrap();
                    cache.put(&query.asked(), &message, Duration::from_millis(now));
                    model.put(&query, &answer, now);
                    prop_assert!(cache.size() <= limits.max_size);
                }
                Step::Get(query) => {
                    let query = Query { subnet: None, ..query };
                    let found = get_at(&mut cache, &query, Duration::from_millis(now));
                    prop_assert!(found.is_none() || found == model.get(&query, now));
                }
                Step::Pass(time) => now += time,
            }
        }
    }
}
