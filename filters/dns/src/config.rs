//! The filter's configuration: what the user writes, and what it compiles to.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use codec_dns::{Class, Edns, Name, NameBuf, Opcode, RecordType};
use dns_cache::Prefetch;
use dns_cookies::Secrets;
use dns_limits::{RateLimitConfig, ResponseRateLimitConfig};
use filter_config::{Mistake, Mistakes, Seconds, Whole};
use http::uri::Authority;
use serde::Deserialize;

use crate::answer::Subnet;
use crate::rules::{Answer, Carry, Fate, Rule, RuleConfig};
use crate::zones::{Zone, ZoneConfig, Zones};

/// What the filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Carries clients' queries to an HTTP connection manager.
    #[default]
    Bridge,
    /// Watches messages on their way to the next filter.
    Observe,
}

/// How clients' queries come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Over UDP, through Envoy's `udp_proxy` with `tunneling_config` and an internal listener.
    #[default]
    Udp,
    /// Over TCP (RFC 7766).
    Tcp,
    /// Over TLS that the listener has terminated (RFC 7858).
    Tls,
    /// Over HTTPS (RFC 8484): as HTTP/2 requests of an Envoy cluster whose endpoint is this listener.
    Https,
}

impl Transport {
    /// A stable name, for the header `x-dns-transport` and for metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
        }
    }

    /// Whether nobody on the way sees the messages, so that padding them has a use (RFC 8467).
    pub(crate) const fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
    }
}

/// How a zone's servers are asked in a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Upstream {
    /// As the client asks: over UDP what comes over UDP, else over TCP.
    #[default]
    Same,
    /// Over UDP, and over TCP again what was truncated for a client that does not use UDP.
    Udp,
    /// Over TCP; also where the cluster makes TLS of it.
    Tcp,
}

/// Which queries for a zone travel in the same flows, and so come from the same ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FlowKey {
    /// Those of all clients of a connection: over UDP, all of a worker's.
    #[default]
    Zone,
    /// Those of one client address, which the flow's `x-forwarded-for` names: Envoy can route by it. Not with a
    /// `cache`.
    Client,
}

/// What happens to what is no query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Malformed {
    /// It is answered with FORMERR, or NOTIMP where its opcode is unknown.
    #[default]
    Answer,
    /// It is dropped.
    Drop,
}

/// What an answer of 429 to a check or a request means to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TooMany {
    /// REFUSED.
    #[default]
    Refuse,
    /// Over UDP an empty answer with TC, on which a client comes again over TCP; else REFUSED.
    Truncate,
    /// None.
    Drop,
}

/// What becomes of the client subnet of queries (RFC 7871).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SubnetAction {
    /// It goes on as it is.
    #[default]
    Pass,
    /// It is taken out.
    Strip,
    /// Where there is none, the network of the client's address is put in.
    Add,
    /// The network of the client's address is put in, whatever was there.
    Replace,
}

/// What servers get to know about clients' addresses.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SubnetConfig {
    /// `pass` (default), `strip`, `add` or `replace`.
    pub action: SubnetAction,
    /// How many bits of an IPv4 address are told: 0 to 32. Default 24.
    pub ipv4_prefix: Whole,
    /// How many bits of an IPv6 address are told: 0 to 128. Default 56.
    pub ipv6_prefix: Whole,
}

impl Default for SubnetConfig {
    fn default() -> Self {
        let action = SubnetAction::default();
        Self { action, ipv4_prefix: Whole(24), ipv6_prefix: Whole(56) }
    }
}

/// The cache: each worker of Envoy has its own.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Filters in the same VM (`vm_id`) whose caches have the same name share one, such as those for UDP and for TLS;
    /// all else has to be the same, or they do not. Default: none, and the cache is this filter's own.
    pub name: Option<String>,
    /// How many octets the answers take, with all that belongs to them. Default 16777216.
    pub max_size: Whole,
    /// TTLs below are raised to it, but for those of zero. Default `0s`.
    pub min_ttl: Seconds,
    /// TTLs above are lowered to it. Default `86400s`.
    pub max_ttl: Seconds,
    /// For how long an answer without data is kept at most (RFC 2308 §5). Default `3600s`.
    pub max_negative_ttl: Seconds,
    /// For how long SERVFAIL is kept (RFC 9520 §3.2), up to `300s`. `0s`: it is not. Default `5s`.
    pub failure_ttl: Seconds,
    /// For how long an answer that has expired is used where there is no other (RFC 8767). Default `0s`: it
    /// is not.
    pub stale: Seconds,
    /// After what time without an answer of a server one that has expired is used (RFC 8767 §5). Default `1.8s`.
    pub stale_after: Seconds,
    /// The TTL that it is given (RFC 8767 §4). Default `30s`.
    pub stale_ttl: Seconds,
    /// An answer that is asked for when so many hundredths of its time are left is fetched again: 0 to 90. Default
    /// 0: none is.
    pub prefetch_percent: Whole,
    /// How often it must have been asked for before. Default 2.
    pub prefetch_hits: Whole,
}

impl Default for CacheConfig {
    fn default() -> Self {
        let seconds = |seconds| Seconds(Duration::from_secs(seconds));
        Self {
            name: None,
            max_size: Whole(16 << 20),
            min_ttl: seconds(0),
            max_ttl: seconds(86_400),
            max_negative_ttl: seconds(3600),
            failure_ttl: seconds(5),
            stale: seconds(0),
            stale_after: Seconds(Duration::from_millis(1800)),
            stale_ttl: seconds(30),
            prefetch_percent: Whole(0),
            prefetch_hits: Whole(2),
        }
    }
}

/// DNS cookies (RFC 7873, RFC 9018). The filter answers for its clients' cookies, and servers see none of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct CookiesConfig {
    /// Secrets of 32 hexadecimal digits: the first makes cookies, all are accepted, so that one can be replaced in
    /// steps. Envoys behind one address need the same ones. Default: a random one for each worker.
    pub secrets: Vec<String>,
    /// Whether a query over UDP needs a cookie that is valid for its address: with another one it gets BADCOOKIE and
    /// the right one, and without any it is asked to come over TCP. Default false: a valid cookie only exempts from
    /// response rate limiting.
    pub require: bool,
}

/// Lines in Envoy's log, one JSON object each, about some of the queries.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QueryLogConfig {
    /// One of so many queries is logged, chosen by chance. At least 1.
    pub one_in: Whole,
}

/// The configuration as the user writes it.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `bridge` (default) or `observe`.
    pub mode: Mode,
    /// `udp` (default), `tcp`, `tls` or `https`.
    pub transport: Transport,
    /// Zones that are routed by themselves: the longest that a query name is in becomes the `:authority` of its
    /// flow. Default none.
    pub zones: Vec<ZoneConfig>,
    /// The `:authority` of flows with queries that are in none of the zones. Default `dns`.
    pub authority: String,
    /// How the servers of what is in none of the zones are asked: `same` (default), `udp` or `tcp`.
    pub upstream: Upstream,
    /// Which queries for a zone share flows: `zone` (default) or `client`.
    pub flow_key: FlowKey,
    /// How many flows one connection to the next filter (over UDP: a worker) has for the same zone, transport and key
    /// at once, for Envoy to spread over a cluster's hosts. Default 2.
    pub max_flows: Whole,
    /// After what time a flow is replaced, so that it gets another port, and maybe another host; one whose server has not
    /// answered lately up to 10 s later, so that it is known whether it answers again. Default `60s`.
    pub flow_lifetime: Seconds,
    /// How queries travel, or are answered; the first rule that matches wins, and where none does, a query travels
    /// in a flow. Default none.
    pub rules: Vec<RuleConfig>,
    /// The longest query, in octets. A longer one is dropped over UDP, ends a connection over TCP and TLS, and gets
    /// 413 or 414 over HTTPS. Default 4096.
    pub max_query_size: Whole,
    /// The longest answer over UDP, in octets, whatever the client would take. A longer one is truncated. Default
    /// 1232, which fits where IPv6 does (DNS Flag Day 2020).
    pub max_udp_size: Whole,
    /// The most queries of one connection to the next filter (over UDP: of a worker) without an answer; one more
    /// gets SERVFAIL. Default 20000.
    pub max_outstanding: Whole,
    /// The most queries of one client's connection without an answer; more are not read before others are
    /// answered. `transport: tcp` and `tls` only. Default 100.
    pub max_pipelined: Whole,
    /// After what time without an answer a client gets SERVFAIL. Default `5s`.
    pub response_timeout: Seconds,
    /// After what time without an answer a query is sent again, in another flow, and so on until `response_timeout`.
    /// Over UDP only. `0s`: never. Default `1s`. Not with
    /// `carry: request`, which is for Envoy to try again.
    pub retry_after: Seconds,
    /// How long a session whose client has asked once, and been answered, lives on. Default `0.1s`.
    /// `transport: udp` only.
    pub linger: Seconds,
    /// How long a session whose client has asked again, or a connection, lives on without a query that waits for
    /// an answer. Default `10s`.
    pub idle_timeout: Seconds,
    /// What happens to what is no query: `answer` (default; FORMERR) or `drop`. A response is always dropped.
    pub malformed: Malformed,
    /// The cache. What is in it is answered without asking Envoy, but for the `check` of a query. Default: none.
    pub cache: Option<CacheConfig>,
    /// Limits on what clients ask. Default none.
    pub rate_limits: Vec<RateLimitConfig>,
    /// Response rate limiting: a limit on answers over UDP that say the same to the same network. Default none.
    /// `transport: udp` only.
    pub response_rate_limit: Option<ResponseRateLimitConfig>,
    /// Networks and addresses to which no limit applies, such as `10.0.0.0/8`. Default none.
    pub rate_limit_exempt: Vec<String>,
    /// How many addresses, networks or kinds of answers each limit knows at once, on each worker: 8 to
    /// 16777216, of 24 octets each. Default 100000.
    pub max_rate_limit_keys: Whole,
    /// What servers get to know about clients' addresses. Default: what the clients tell.
    pub client_subnet: SubnetConfig,
    /// DNS cookies. Default: they are between clients and servers. Not over HTTPS.
    pub cookies: Option<CookiesConfig>,
    /// Lines in Envoy's log about some of the queries. Default: none.
    pub query_log: Option<QueryLogConfig>,
    /// What an answer of 429 by Envoy means to the client: `refuse` (default), `truncate` or `drop`.
    pub too_many_requests: TooMany,
    /// How many answers to checks each worker keeps, where a rule has a `verdict_cache`. Default 10000.
    pub max_cached_verdicts: Whole,
    /// The most sessions on one connection of `udp_proxy`'s cluster, which opens another one for more;
    /// the cluster's circuit breakers bound them all. Default 10000. `transport: udp` only.
    pub max_sessions: Whole,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = |seconds| Seconds(Duration::from_secs(seconds));
        Self {
            mode: Mode::default(),
            transport: Transport::default(),
            zones: Vec::new(),
            authority: "dns".to_owned(),
            upstream: Upstream::default(),
            flow_key: FlowKey::default(),
            max_flows: Whole(2),
            flow_lifetime: seconds(60),
            rules: Vec::new(),
            max_query_size: Whole(4096),
            max_udp_size: Whole(1232),
            max_outstanding: Whole(20_000),
            max_pipelined: Whole(100),
            response_timeout: seconds(5),
            retry_after: seconds(1),
            linger: Seconds(Duration::from_millis(100)),
            idle_timeout: seconds(10),
            malformed: Malformed::default(),
            cache: None,
            rate_limits: Vec::new(),
            response_rate_limit: None,
            rate_limit_exempt: Vec::new(),
            max_rate_limit_keys: Whole(100_000),
            client_subnet: SubnetConfig::default(),
            cookies: None,
            query_log: None,
            too_many_requests: TooMany::default(),
            max_cached_verdicts: Whole(10_000),
            max_sessions: Whole(10_000),
        }
    }
}

/// The configuration as the filter uses it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) transport: Transport,
    pub(crate) zones: Zones,
    pub(crate) flow_key: FlowKey,
    pub(crate) max_flows: usize,
    pub(crate) flow_lifetime: Duration,
    pub(crate) rules: Vec<Rule>,
    pub(crate) max_query_size: u16,
    pub(crate) max_udp_size: u16,
    pub(crate) max_outstanding: usize,
    pub(crate) max_pipelined: usize,
    pub(crate) response_timeout: Duration,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) linger: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) malformed: Malformed,
    pub(crate) cache: Option<Cache>,
    pub(crate) limits: Rc<dns_limits::Settings>,
    pub(crate) client_subnet: ClientSubnet,
    pub(crate) cookies: Option<Cookies>,
    pub(crate) query_log: Option<u64>,
    pub(crate) too_many_requests: TooMany,
    pub(crate) max_cached_verdicts: usize,
    pub(crate) max_sessions: u32,
}

/// The cache's part of it.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    pub(crate) name: Option<String>,
    pub(crate) limits: dns_cache::Limits,
    pub(crate) stale_after: Duration,
}

/// Cookies, where they are the filter's business.
#[derive(Debug)]
pub(crate) struct Cookies {
    pub(crate) secrets: Secrets,
    pub(crate) require: bool,
}

/// What servers get to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientSubnet {
    action: SubnetAction,
    prefixes: (u8, u8),
}

impl ClientSubnet {
    /// Whether it is not the clients' any more.
    pub(crate) fn is_own(&self) -> bool {
        self.action != SubnetAction::Pass
    }

    /// What becomes of a query's client subnet.
    pub(crate) fn of(&self, query: Option<&Edns<'_>>, source: Option<IpAddr>) -> Subnet {
        let sent = || query.is_some_and(|edns| edns.options.client_subnet().is_some());
        let own = || {
            let source = source?;
            let prefix = if source.is_ipv4() { self.prefixes.0 } else { self.prefixes.1 };
            codec_dns::ClientSubnet::new(source, prefix, 0)
        };
        match self.action {
            SubnetAction::Pass => Subnet::Pass,
            SubnetAction::Strip => Subnet::Strip,
            SubnetAction::Add if sent() => Subnet::Pass,
            SubnetAction::Add | SubnetAction::Replace => own().map_or(Subnet::Strip, Subnet::Set),
        }
    }
}

impl Settings {
    pub(crate) fn read(json: &[u8]) -> Result<Self, Vec<Mistake>> {
        let (config, mut mistakes) = filter_config::read::<Config>(json);
        let settings = Self::compile(config, &mut mistakes);
        if mistakes.is_empty() { Ok(settings) } else { Err(mistakes.into_list()) }
    }

    fn compile(config: Config, mistakes: &mut Mistakes) -> Self {
        let authority = Authority::try_from(config.authority.as_str()).unwrap_or_else(|_| {
            let what = format!("must be a host with an optional port (got {:?})", config.authority);
            mistakes.push(Mistake::new("authority", what));
            Authority::from_static("dns")
        });
        let max_flows = mistakes.whole("max_flows", config.max_flows, 1..=1000) as usize;
        let max_query_size =
            mistakes.whole("max_query_size", config.max_query_size, 512..=65_535) as u16;
        let max_udp_size = mistakes.whole("max_udp_size", config.max_udp_size, 512..=65_507) as u16;
        let max_outstanding =
            mistakes.whole("max_outstanding", config.max_outstanding, 1..=1_000_000) as usize;
        let max_pipelined =
            mistakes.whole("max_pipelined", config.max_pipelined, 1..=10_000) as usize;
        let max_cached_verdicts =
            mistakes.whole("max_cached_verdicts", config.max_cached_verdicts, 1..=1_000_000)
                as usize;
        let max_sessions =
            mistakes.whole("max_sessions", config.max_sessions, 1..=1_000_000) as u32;
        let subnet = &config.client_subnet;
        let client_subnet = ClientSubnet {
            action: subnet.action,
            prefixes: (
                mistakes.whole("client_subnet.ipv4_prefix", subnet.ipv4_prefix, 0..=32) as u8,
                mistakes.whole("client_subnet.ipv6_prefix", subnet.ipv6_prefix, 0..=128) as u8,
            ),
        };
        let query_log = config
            .query_log
            .as_ref()
            .map(|log| mistakes.whole("query_log.one_in", log.one_in, 1..=1_000_000_000));
        let cache = config.cache.as_ref().map(|cache| {
            let max_size =
                mistakes.whole("cache.max_size", cache.max_size, 4096..=2 << 30) as usize;
            let percent =
                mistakes.whole("cache.prefetch_percent", cache.prefetch_percent, 0..=90) as u8;
            let hits =
                mistakes.whole("cache.prefetch_hits", cache.prefetch_hits, 1..=1_000_000) as u32;
            (max_size, (percent > 0).then_some(Prefetch { percent, hits }))
        });
        let day = Duration::from_secs(86_400);
        let (some, any) = (Duration::from_millis(100)..=day, Duration::ZERO..=day);
        let flow_lifetime = mistakes.time("flow_lifetime", config.flow_lifetime, some.clone());
        let response_timeout =
            mistakes.time("response_timeout", config.response_timeout, some.clone());
        let retry_after = mistakes.time("retry_after", config.retry_after, any.clone());
        let linger = mistakes.time("linger", config.linger, any.clone());
        let idle_timeout = mistakes.time("idle_timeout", config.idle_timeout, some.clone());
        let cache = config.cache.as_ref().zip(cache).map(|(cache, (max_size, prefetch))| {
            let mut time = |path: &str, Seconds(time): Seconds, most: u64| {
                let most = Duration::from_secs(most);
                if time > most {
                    let what = format!("must be at most {most:?} (got {time:?})");
                    mistakes.push(Mistake::new(format!("cache.{path}"), what));
                }
                time
            };
            const WEEK: u64 = 7 * 86_400;
            let limits = dns_cache::Limits {
                max_size,
                min_ttl: time("min_ttl", cache.min_ttl, WEEK),
                max_ttl: time("max_ttl", cache.max_ttl, WEEK),
                max_negative_ttl: time("max_negative_ttl", cache.max_negative_ttl, WEEK),
                failure_ttl: time("failure_ttl", cache.failure_ttl, 300),
                stale: time("stale", cache.stale, WEEK),
                stale_ttl: time("stale_ttl", cache.stale_ttl, 3600),
                prefetch,
            };
            let stale_after = time("stale_after", cache.stale_after, 60);
            if limits.min_ttl > limits.max_ttl {
                let (least, most) = (limits.min_ttl, limits.max_ttl);
                let what = format!("must not be above max_ttl (got {least:?}, above {most:?})");
                mistakes.push(Mistake::new("cache.min_ttl", what));
            }
            Cache { name: cache.name.clone(), limits, stale_after }
        });
        let cookies = config.cookies.as_ref().and_then(|cookies| {
            if config.transport == Transport::Https {
                let what = "has no meaning with transport: https: HTTP has connections";
                mistakes.push(Mistake::new("cookies", what));
            }
            match Secrets::compile(&cookies.secrets, "cookies.secrets", mistakes) {
                Ok(secrets) => Some(Cookies { secrets, require: cookies.require }),
                Err(error) => {
                    let what = format!("there is no randomness: {error}");
                    mistakes.push(Mistake::new("cookies", what));
                    None
                }
            }
        });
        if config.flow_key == FlowKey::Client && config.cache.is_some() {
            let what =
                "cannot go with flow_key: client: the answers of one client are not for others";
            mistakes.push(Mistake::new("cache", what));
        }
        let limits = dns_limits::Config {
            rate_limits: &config.rate_limits,
            response_rate_limit: config.response_rate_limit.as_ref(),
            rate_limit_exempt: &config.rate_limit_exempt,
            max_rate_limit_keys: config.max_rate_limit_keys,
        };
        let limits = dns_limits::Settings::compile(&limits, mistakes);
        if config.transport != Transport::Udp && config.response_rate_limit.is_some() {
            let what = "has a meaning only with transport: udp";
            mistakes.push(Mistake::new("response_rate_limit", what));
        }
        let rest = Zone::rest(authority, config.upstream);
        let zones = Zones::compile(&config.zones, rest, mistakes);
        let rules = config.rules.into_iter().enumerate();
        let rules: Vec<_> = rules
            .map(|(index, rule)| Rule::compile(rule, &format!("rules[{index}]"), mistakes))
            .collect();
        if config.mode == Mode::Observe {
            if !rules.is_empty() {
                mistakes.push(Mistake::new("rules", "has a meaning only with mode: bridge"));
            }
            if matches!(config.transport, Transport::Https) {
                let what = "cannot be https with mode: observe: HTTP is what Envoy sees by itself";
                mistakes.push(Mistake::new("transport", what));
            }
        }
        Self {
            mode: config.mode,
            transport: config.transport,
            zones,
            flow_key: config.flow_key,
            max_flows,
            flow_lifetime,
            rules,
            max_query_size,
            max_udp_size,
            max_outstanding,
            max_pipelined,
            response_timeout,
            retry_after: (!retry_after.is_zero() && retry_after < response_timeout)
                .then_some(retry_after),
            linger,
            idle_timeout,
            malformed: config.malformed,
            cache,
            limits: Rc::new(limits),
            client_subnet,
            cookies,
            query_log,
            too_many_requests: config.too_many_requests,
            max_cached_verdicts,
            max_sessions,
        }
    }

    /// What becomes of a query: by the first rule that matches.
    pub(crate) fn fate(
        &self,
        opcode: Opcode,
        name: Name<'_>,
        record_type: RecordType,
        class: Class,
    ) -> Fate {
        let mut rules = self.rules.iter();
        if let Some(rule) = rules.find(|rule| rule.matches(opcode, name, record_type, class)) {
            return rule.fate;
        }
        match (opcode, record_type) {
            // Whole zones are for those that somebody names.
            (Opcode::QUERY, RecordType::AXFR | RecordType::IXFR) => Fate::Answer(Answer::Refuse),
            (Opcode::QUERY, _) => Fate::Carry(Carry::Flow, Duration::ZERO),
            _ => Fate::Answer(Answer::Notimp),
        }
    }
}

/// A zone's name in a configuration.
pub(crate) fn zone_name(text: &str, path: &str, mistakes: &mut Mistakes) -> Option<NameBuf> {
    match NameBuf::from_text(text) {
        Ok(name) => Some(name),
        Err(error) => {
            mistakes
                .push(Mistake::new(path, format!("is not a domain name: {error} (got {text:?})")));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(json: &str) -> Vec<String> {
        let mistakes = Settings::read(json.as_bytes()).err().unwrap_or_default();
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_configuration_means_the_defaults() {
        let settings = Settings::read(b"").expect("the defaults are valid");
        assert_eq!((settings.mode, settings.transport), (Mode::Bridge, Transport::Udp));
        assert_eq!((settings.max_udp_size, settings.max_query_size), (1232, 4096));
        assert_eq!(settings.retry_after, Some(Duration::from_secs(1)));
    }

    #[test]
    fn mistakes_of_form_and_of_meaning_are_reported_together() {
        assert_eq!(
            mistakes(
                r#"{"mode": "observe", "max_udp_size": 100, "linger": "2d", "authority": "a b",
                    "zones": [{"zone": "a..b"}, {"zone": "b.example"}, {"zone": "B.example."}, {"zone": "."}],
                    "rules": [{"carry": "flow", "verdict_cache": "1s", "types": ["NOPE"]}, {}]}"#
            ),
            [
                "linger: is not a duration such as 10s or 0.25s (got \"2d\")",
                "authority: must be a host with an optional port (got \"a b\")",
                "max_udp_size: must be from 512 to 65507 (got 100)",
                "zones[0].zone: is not a domain name: label is empty (got \"a..b\")",
                "zones[2].zone: is there twice (got \"b.example\")",
                "zones[3].zone: is the root: what is in no zone has `authority` and `upstream`",
                "rules[0].types[0]: is no type that has a name, nor TYPE and a number (got \"NOPE\")",
                "rules[0].verdict_cache: has a meaning only with carry: check",
                "rules[1]: needs carry or answer",
                "rules: has a meaning only with mode: bridge",
            ]
        );
    }
}
