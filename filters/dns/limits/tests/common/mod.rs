//! What several tests need.

#![allow(dead_code, clippy::unwrap_used, reason = "not every test needs all of it")]

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use dns_limits::{
    Client, Config, Limits, RateLimitConfig, ResponseRateLimitConfig, Settings, Transport,
};
use filter_config::{Mistakes, Whole};
use serde::Deserialize;

/// Hashes without a secret, so that the same happens every time.
pub(crate) type Hasher = BuildHasherDefault<DefaultHasher>;

/// The fields of a filter's configuration that are about limits.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fields {
    rate_limits: Vec<RateLimitConfig>,
    response_rate_limit: Option<ResponseRateLimitConfig>,
    rate_limit_exempt: Vec<String>,
    max_rate_limit_keys: Whole,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            rate_limits: Vec::new(),
            response_rate_limit: None,
            rate_limit_exempt: Vec::new(),
            max_rate_limit_keys: Whole(1024),
        }
    }
}

pub(crate) fn compile(json: &str) -> (Settings, Mistakes) {
    let (fields, mut mistakes) = filter_config::read::<Fields>(json.as_bytes());
    let config = Config {
        rate_limits: &fields.rate_limits,
        response_rate_limit: fields.response_rate_limit.as_ref(),
        rate_limit_exempt: &fields.rate_limit_exempt,
        max_rate_limit_keys: fields.max_rate_limit_keys,
    };
    let settings = Settings::compile(&config, &mut mistakes);
    (settings, mistakes)
}

pub(crate) fn limits(json: &str) -> Limits<Hasher> {
    let (settings, mistakes) = compile(json);
    assert_eq!(mistakes.into_list(), []);
    Limits::with_hasher(Rc::new(settings), Hasher::default())
}

pub(crate) fn over(transport: Transport, source: &str) -> Client {
    Client { source: Some(source.parse().unwrap()), transport }
}

pub(crate) fn udp(source: &str) -> Client {
    over(Transport::Udp, source)
}

pub(crate) fn number(n: u32) -> Client {
    Client { source: Some(IpAddr::from(n.to_be_bytes())), transport: Transport::Udp }
}

pub(crate) fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
