//! What a query costs: one worker's share of an attack is a million of them a second, or more.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use codec_dns::{NameBuf, Rcode, RecordType};
use criterion::{Criterion, criterion_group, criterion_main};
use dns_limits::{
    Answer, Client, Config, Kind, Limits, RateLimitConfig, ResponseRateLimitConfig, Settings,
    Transport,
};
use filter_config::{Mistakes, Whole};

const LIMITS: &str = r#"[
    {"queries": {"per_second": 100, "burst": 200}},
    {"per": "network", "queries": {"per_second": 1000}, "types": ["ANY", "A"], "block": "60s"},
    {"rcodes": ["NXDOMAIN"], "queries": {"per_second": 10}}
]"#;

fn limits(count: usize) -> Limits {
    let list: Vec<RateLimitConfig> = serde_json::from_str(LIMITS).unwrap();
    let response: ResponseRateLimitConfig = serde_json::from_str(r#"{"per_second": 20}"#).unwrap();
    let config = Config {
        rate_limits: list.get(..count).unwrap(),
        response_rate_limit: Some(&response),
        rate_limit_exempt: &["127.0.0.0/8".to_owned()],
        max_rate_limit_keys: Whole(65_536),
    };
    let mut mistakes = Mistakes::default();
    let settings = Settings::compile(&config, &mut mistakes);
    assert!(mistakes.is_empty());
    Limits::new(Rc::new(settings))
}

/// So many sources in turn, one query each microsecond.
fn run(sources: u32) -> impl FnMut() -> (Client, Duration) {
    let mut n = 0_u32;
    move || {
        n = n.wrapping_add(1);
        let address = IpAddr::from((0x0a00_0000 + n % sources).to_be_bytes());
        let client = Client { source: Some(address), transport: Transport::Udp };
        (client, Duration::from_micros(n.into()))
    }
}

fn query(criterion: &mut Criterion) {
    for (from, sources) in [("1000 clients", 1000), ("a flood", 1 << 24)] {
        let mut group = criterion.benchmark_group(format!("query from {from}"));
        for count in [0, 1, 3] {
            let (mut limits, mut next) = (limits(count), run(sources));
            group.bench_function(format!("{count} limits"), |bencher| {
                bencher.iter(|| {
                    let (client, now) = next();
                    limits.query(black_box(&client), RecordType::A, now)
                });
            });
        }
        group.finish();
        let (mut limits, mut next) = (limits(0), run(sources));
        let name: NameBuf = "www.example.com".parse().unwrap();
        let answer = Answer {
            name: name.as_name(),
            record_type: RecordType::A,
            rcode: Rcode::NOERROR,
            kind: Kind::Data,
        };
        criterion.bench_function(&format!("answer to {from}"), |bencher| {
            bencher.iter(|| {
                let (client, now) = next();
                limits.answer(black_box(&client), black_box(&answer), now)
            });
        });
    }
}

criterion_group!(benches, query);
criterion_main!(benches);
