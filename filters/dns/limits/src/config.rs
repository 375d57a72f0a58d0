//! What the user writes, and what it compiles to.

use std::ops::RangeInclusive;
use std::time::Duration;

use codec_dns::{Rcode, RecordType};
use filter_config::{Mistake, Mistakes, Seconds, Whole};
use serde::Deserialize;

use crate::limits::Rate;
use crate::source::{Prefixes, SourceSet};

/// Whose queries a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Those from one IPv4 address, or from one IPv6 network of 64 bits: all of its addresses are at the
    /// hands of one client (RFC 7934).
    #[default]
    Address,
    /// Those from one network.
    Network,
}

impl Per {
    fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Network => "network",
        }
    }
}

/// What happens to a query above a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Exceeded {
    /// It is answered with REFUSED.
    #[default]
    Refuse,
    /// It gets an answer without records that is marked as truncated, so that a client that is really at
    /// its address comes back over TCP. A client that has proved its address, over TCP or with a cookie, is
    /// refused instead.
    Truncate,
    /// It gets no answer.
    Drop,
}

impl Exceeded {
    /// A stable name for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Truncate => "truncate",
            Self::Drop => "drop",
        }
    }
}

/// A token bucket.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueriesConfig {
    /// How many tokens are added each second: 1 to 1000000.
    pub per_second: Whole,
    /// How many it holds, and has in the beginning: 1 to 1000000000. Default: `per_second`.
    #[serde(default)]
    pub burst: Option<Whole>,
}

/// A limit on what clients ask. Every limit that counts a query must have a token for it; each worker of Envoy
/// counts for itself. What is asked over UDP without a valid cookie, where anybody can ask in another's name, is
/// counted apart from the rest.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// What metrics call it: 1 to 64 letters, digits, `_` and `-`. Default: as `per`.
    #[serde(default)]
    pub name: Option<String>,
    /// Whose queries are counted together: `address` (default; one IPv4 address, or 64 bits of IPv6) or
    /// `network`.
    #[serde(default)]
    pub per: Per,
    /// How many bits make an IPv4 network: 0 to 32. Default 24. `per: network` only.
    #[serde(default)]
    pub ipv4_prefix: Option<Whole>,
    /// How many bits make an IPv6 network: 0 to 128. Default 56. `per: network` only.
    #[serde(default)]
    pub ipv6_prefix: Option<Whole>,
    /// A token is a query.
    pub queries: QueriesConfig,
    /// The QTYPEs that are counted, such as `ANY` or `TYPE65280`. Default: all.
    #[serde(default)]
    pub types: Vec<String>,
    /// With these, a token is not a query but an answer with one of these RCODEs, such as `NXDOMAIN`; who
    /// has used up the bucket is above the limit with its next query. Default none.
    #[serde(default)]
    pub rcodes: Vec<String>,
    /// What happens to a query above the limit: `refuse` (default), `truncate` or `drop`.
    #[serde(default)]
    pub exceeded: Exceeded,
    /// Who gets above the limit is blocked for so long: all of its queries, whatever their type, are above the
    /// limit, and after that the bucket is full. Up to `86400s`. Default `0s`: nobody is blocked.
    #[serde(default)]
    pub block: Option<Seconds>,
}

/// Response rate limiting: a limit on answers over UDP that say the same to the same network, so that nobody
/// gets answers sent to another by asking in its name. Clients with a valid cookie are not limited.
///
/// Alike are answers with data for the same name and type, those without data for the same name, referrals to the
/// same zone, NXDOMAIN from the same zone, and errors.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResponseRateLimitConfig {
    /// How many answers that are alike a network gets each second: 1 to 1000000.
    pub per_second: Whole,
    /// What is asked for above that counts too, and is made up for by asking less: at most by asking nothing for
    /// so long. `1s` to `3600s`. Default `15s`.
    #[serde(default)]
    pub window: Option<Seconds>,
    /// Of the answers above the limit every how manyth is sent as truncated instead of dropped, so that a
    /// client that is really there comes back over TCP: 1 to 10, or 0 for none. Default 2.
    #[serde(default)]
    pub slip: Option<Whole>,
    /// How many bits make an IPv4 network: 0 to 32. Default 24.
    #[serde(default)]
    pub ipv4_prefix: Option<Whole>,
    /// How many bits make an IPv6 network: 0 to 128. Default 56.
    #[serde(default)]
    pub ipv6_prefix: Option<Whole>,
    /// Networks and addresses whose answers are not limited, such as `10.0.0.0/8`. Default none.
    #[serde(default)]
    pub exempt: Vec<String>,
}

/// What a filter's configuration has about limits, in fields of these names.
#[derive(Debug, Clone, Copy)]
pub struct Config<'a> {
    /// Limits on what clients ask.
    pub rate_limits: &'a [RateLimitConfig],
    /// Response rate limiting.
    pub response_rate_limit: Option<&'a ResponseRateLimitConfig>,
    /// Networks and addresses to which no limit applies.
    pub rate_limit_exempt: &'a [String],
    /// How many addresses, networks or kinds of answers each limit knows at once, on each worker: 8 to
    /// 16777216, of 24 octets each.
    pub max_rate_limit_keys: Whole,
}

/// Limits as they are used.
#[derive(Debug)]
pub struct Settings {
    pub(crate) limits: Vec<Limit>,
    pub(crate) response: Option<Response>,
    pub(crate) exempt: SourceSet,
    pub(crate) places: usize,
}

#[derive(Debug)]
pub(crate) struct Limit {
    label: Box<str>,
    pub(crate) prefixes: Prefixes,
    pub(crate) rate: Rate,
    /// Empty: all.
    types: Vec<RecordType>,
    /// A bit for each of the first 32. Zero: queries are counted.
    rcodes: u32,
    pub(crate) exceeded: Exceeded,
    pub(crate) block: u64,
}

impl Limit {
    pub(crate) fn counts_type(&self, record_type: RecordType) -> bool {
        self.types.is_empty() || self.types.contains(&record_type)
    }

    pub(crate) fn counts_queries(&self) -> bool {
        self.rcodes == 0
    }

    pub(crate) fn counts_rcode(&self, rcode: Rcode) -> bool {
        1_u32.checked_shl(rcode.0.into()).is_some_and(|bit| self.rcodes & bit != 0)
    }
}

/// Response rate limiting as it is used.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) prefixes: Prefixes,
    pub(crate) rate: Rate,
    pub(crate) slip: u8,
    pub(crate) exempt: SourceSet,
}

impl Settings {
    /// Checks the configuration; mistakes have the paths of the fields of [`Config`].
    pub fn compile(config: &Config<'_>, mistakes: &mut Mistakes) -> Self {
        let exempt = SourceSet::compile(config.rate_limit_exempt, "rate_limit_exempt", mistakes);
        let mut check = Check(mistakes);
        let limits = config.rate_limits.iter().enumerate();
        let limits =
            limits.map(|(index, limit)| check.limit(limit, &format!("rate_limits[{index}]")));
        let limits = limits.collect();
        let response =
            config.response_rate_limit.map(|limit| check.response(limit, "response_rate_limit"));
        let places = check.whole("max_rate_limit_keys", config.max_rate_limit_keys, 8..=1 << 24);
        Self { limits, response, exempt, places: places as usize }
    }

    /// What metrics call the limit of this index, which a [`Verdict`](crate::Verdict) names.
    #[must_use]
    pub fn label(&self, limit: usize) -> &str {
        self.limits.get(limit).map_or("", |limit| &limit.label)
    }

    /// How many limits there are on what clients ask.
    #[must_use]
    pub fn limits(&self) -> usize {
        self.limits.len()
    }

    /// Whether there is any limit at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.response.is_none()
    }
}

struct Check<'a>(&'a mut Mistakes);

impl Check<'_> {
    fn mistake(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.0.push(Mistake::new(path, what));
    }

    fn whole(&mut self, path: &str, n: Whole, range: RangeInclusive<u64>) -> u64 {
        self.0.whole(path, n, range)
    }

    fn time(&mut self, path: &str, time: Seconds, range: RangeInclusive<u64>) -> u64 {
        let (least, most) = range.into_inner();
        let range = Duration::from_secs(least)..=Duration::from_secs(most);
        u64::try_from(self.0.time(path, time, range).as_nanos()).unwrap_or(u64::MAX)
    }

    fn prefixes(&mut self, ipv4: Option<Whole>, ipv6: Option<Whole>, path: &str) -> Prefixes {
        let ipv4 = self.whole(&format!("{path}.ipv4_prefix"), ipv4.unwrap_or(Whole(24)), 0..=32);
        let ipv6 = self.whole(&format!("{path}.ipv6_prefix"), ipv6.unwrap_or(Whole(56)), 0..=128);
        Prefixes { ipv4: ipv4 as u8, ipv6: ipv6 as u8 }
    }

    fn limit(&mut self, config: &RateLimitConfig, path: &str) -> Limit {
        let label = config.name.as_deref().unwrap_or(config.per.label());
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !(1..=64).contains(&label.len()) || !label.bytes().all(is_plain) {
            let what = format!("must be 1 to 64 letters, digits, '_' and '-' (got {label:?})");
            self.mistake(format!("{path}.name"), what);
        }
        let (ipv4, ipv6) = (config.ipv4_prefix, config.ipv6_prefix);
        let prefixes = match config.per {
            Per::Network => self.prefixes(ipv4, ipv6, path),
            Per::Address => {
                for (name, prefix) in [("ipv4_prefix", ipv4), ("ipv6_prefix", ipv6)] {
                    if prefix.is_some() {
                        self.mistake(
                            format!("{path}.{name}"),
                            "has a meaning only with per: network",
                        );
                    }
                }
                Prefixes { ipv4: 32, ipv6: 64 }
            }
        };
        let QueriesConfig { per_second, burst } = config.queries;
        let per_second =
            self.whole(&format!("{path}.queries.per_second"), per_second, 1..=1_000_000);
        let burst = burst.map_or(per_second, |burst| {
            self.whole(&format!("{path}.queries.burst"), burst, 1..=1_000_000_000)
        });
        let types = self.list(&config.types, &format!("{path}.types"), |text| text.parse().ok());
        let rcodes = self.list(&config.rcodes, &format!("{path}.rcodes"), rcode);
        let block = config.block.unwrap_or(Seconds(Duration::ZERO));
        Limit {
            label: label.into(),
            prefixes,
            rate: Rate::new(per_second, burst),
            types,
            rcodes: rcodes.into_iter().fold(0, |bits, rcode| bits | 1 << rcode),
            exceeded: config.exceeded,
            block: self.time(&format!("{path}.block"), block, 0..=86_400),
        }
    }

    fn list<T>(&mut self, list: &[String], path: &str, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let mut values = Vec::new();
        for (index, text) in list.iter().enumerate() {
            match read(text) {
                Some(value) => values.push(value),
                None => {
                    self.mistake(format!("{path}[{index}]"), format!("is unknown (got {text:?})"))
                }
            }
        }
        values
    }

    fn response(&mut self, config: &ResponseRateLimitConfig, path: &str) -> Response {
        let per_second =
            self.whole(&format!("{path}.per_second"), config.per_second, 1..=1_000_000);
        let window = config.window.unwrap_or(Seconds(Duration::from_secs(15)));
        let window = self.time(&format!("{path}.window"), window, 1..=3600);
        let slip = config.slip.unwrap_or(Whole(2));
        Response {
            prefixes: self.prefixes(config.ipv4_prefix, config.ipv6_prefix, path),
            rate: Rate::new(per_second, per_second).with_debt(window),
            slip: self.whole(&format!("{path}.slip"), slip, 0..=10) as u8,
            exempt: SourceSet::compile(&config.exempt, &format!("{path}.exempt"), self.0),
        }
    }
}

/// One of the RCODEs below 32 by its name, in any case.
fn rcode(text: &str) -> Option<u16> {
    let named = (0..32).filter(|number| Rcode(*number).label() != "other");
    named.into_iter().find(|number| Rcode(*number).label().eq_ignore_ascii_case(text))
}
