//! What most DNS tests start from: Envoy with `envoy-configs/dns.yaml`, and servers behind it that do what a test says.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use codec_dns::RecordType;

use super::authority::{Asked, Authority, Reply, Step};
use super::query::Query;
use super::{tcp, udp};
use crate::envoy::{Config, Envoy};
use crate::{raise_descriptor_limit, setup};

/// A port in the example configuration.
pub mod port {
    /// DNS over UDP and over TCP.
    pub const DNS: u16 = 1053;
    /// DNS over TLS.
    pub const TLS: u16 = 1853;
    /// DNS over HTTPS, with the path `/dns-query`.
    pub const HTTPS: u16 = 8053;
    /// The resolver, over UDP and TCP.
    pub const RESOLVER: u16 = 25_353;
    /// The server for `corp.example`, over UDP and TCP.
    pub const CORP: u16 = 25_453;
    /// The DoH server for `doh.example`.
    pub const DOH: u16 = 28_443;
}

/// The settings of all listeners' cache.
const CACHE: &str = "{name: dns, max_size: 33554432, stale: 3600s}";
/// Where they are, and where the other listeners refer to them.
const CACHES: [&str; 2] = [
    "                cache: &dns_cache {name: dns, max_size: 33554432, stale: 3600s}\n",
    "                cache: *dns_cache\n",
];
/// The limits of all listeners.
const RATE_LIMIT: &str =
    "{per: address, queries: {per_second: 1000, burst: 5000}, exceeded: truncate}";

/// `envoy-configs/dns.yaml`.
pub fn cached() -> Result<Config> {
    Config::from_file("envoy-configs/dns.yaml")
}

/// The same without a cache: each query goes to a server.
pub fn config() -> Result<Config> {
    CACHES.iter().try_fold(cached()?, |config, cache| config.replace(cache, ""))
}

/// The same with a cache of these settings; YAML of one line. There is one worker, so one cache.
pub fn cached_with(settings: &str) -> Result<Config> {
    Ok(cached()?.replace(CACHE, settings)?.concurrency(1))
}

/// A configuration with these rate limits instead of its own; YAML of one line each. There is one worker, so one count.
pub fn rate_limits(config: Config, limits: &[&str]) -> Result<Config> {
    let limits = limits.join("\n                - ");
    Ok(config.replace(RATE_LIMIT, &limits)?.concurrency(1))
}

/// A configuration with these settings of the filter over UDP in addition; YAML of one line.
pub fn udp_settings(config: Config, settings: &str) -> Result<Config> {
    with_settings(config, "udp", settings)
}

/// A configuration with these settings of the filter over TCP in addition; YAML of one line.
pub fn tcp_settings(config: Config, settings: &str) -> Result<Config> {
    with_settings(config, "tcp", settings)
}

/// A configuration with these settings of the filter over TLS in addition; YAML of one line.
pub fn tls_settings(config: Config, settings: &str) -> Result<Config> {
    with_settings(config, "tls", settings)
}

/// A configuration with these settings of the filter over HTTPS in addition; YAML of one line.
pub fn https_settings(config: Config, settings: &str) -> Result<Config> {
    with_settings(config, "https", settings)
}

fn with_settings(config: Config, transport: &str, settings: &str) -> Result<Config> {
    let line = format!("                transport: {transport}\n");
    config.replace(&line, &format!("{line}                {settings}\n"))
}

/// A configuration with this rule before all others; YAML of one line.
pub fn rule(config: Config, rule: &str) -> Result<Config> {
    const RULES: &str = "rules: &dns_rules\n";
    config.replace(RULES, &format!("{RULES}                - {rule}\n"))
}

/// A configuration with this virtual host before all others; YAML of one line.
pub fn virtual_host(config: Config, host: &str) -> Result<Config> {
    const HOSTS: &str = "            virtual_hosts:\n";
    config.replace(HOSTS, &format!("{HOSTS}            - {host}\n"))
}

/// The address that the server for `corp.example` gives.
pub const CORP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Envoy in front of a resolver and a server for `corp.example`.
#[derive(Debug)]
pub struct Setup {
    /// Envoy.
    pub envoy: Envoy,
    /// The server for what has none of its own.
    pub resolver: Authority,
    /// The server for `corp.example`: it has [`CORP`] for every name.
    pub corp: Authority,
}

impl Setup {
    /// With a resolver that gives each name the [`address`] that is its own.
    pub fn new() -> Result<Self> {
        Self::with(config()?, addresses)
    }

    /// With another configuration of the same ports, and a resolver that does this.
    pub fn with(
        config: Config,
        behaviour: impl Fn(&Asked) -> Result<Vec<Step>> + Send + Sync + 'static,
    ) -> Result<Self> {
        raise_descriptor_limit();
        let resolver = Authority::start(behaviour)?;
        let corp = Authority::with_address(CORP, 300)?;
        let config = config.port(port::RESOLVER, resolver.address().port());
        let envoy = config.port(port::CORP, corp.address().port()).start()?;
        Ok(Self { envoy, resolver, corp })
    }

    /// Where clients send to, over UDP and over TCP.
    pub fn address(&self) -> Result<SocketAddr> {
        self.envoy.address(port::DNS)
    }

    /// A source of its own.
    pub fn client(&self) -> Result<udp::Client> {
        udp::Client::connect(self.address()?)
    }

    /// A connection.
    pub fn tcp(&self) -> Result<tcp::Client> {
        tcp::Client::connect(self.address()?)
    }

    /// An error if Envoy or the filter in it went wrong, or if there is no answer any more.
    pub fn expect_healthy(&mut self) -> Result<()> {
        setup::expect_healthy(&mut self.envoy)?;
        let query = Query::new("healthy.corp.example", RecordType::A)?;
        ensure!(self.client()?.ask(&query)?.a()? == [CORP]);
        ensure!(self.tcp()?.ask(&query)?.a()? == [CORP]);
        setup::expect_healthy(&mut self.envoy)
    }
}

/// Gives each name the [`address`] that is its own.
pub fn addresses(asked: &Asked) -> Result<Vec<Step>> {
    let reply = Reply::to(asked)?;
    let reply = match asked.record_type {
        RecordType::A => reply.a(address(&asked.name)),
        _ => reply.soa(60),
    };
    Ok(vec![reply.send()?])
}

/// The address that a name has with [`addresses`], in presentation format and lower case with the dot at its end: another
/// one for another name, as far as a test is likely to notice.
#[must_use]
pub fn address(name: &str) -> Ipv4Addr {
    let mix = |sum: u32, octet: u8| (sum ^ u32::from(octet)).wrapping_mul(0x0100_0193);
    Ipv4Addr::from_bits(name.bytes().fold(0x811c_9dc5, mix) | 0xC000_0000)
}
