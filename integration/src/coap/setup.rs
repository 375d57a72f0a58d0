//! What most CoAP tests start from: Envoy with `envoy-configs/coap.yaml`, an aiocoap server behind it, and a place for an
//! HTTP service.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use super::aiocoap::Server;
use super::draft::Draft;
use super::udp::Client;
use super::{local, tcp};
use crate::envoy::{Config, Envoy};
use crate::ports::free_port;
use crate::{eventually, raise_descriptor_limit, setup};

/// A port in the example configuration.
pub mod port {
    /// CoAP over UDP and over TCP.
    pub const COAP: u16 = 5683;
    /// CoAP over TLS.
    pub const TLS: u16 = 5684;
    /// The CoAP server.
    pub const SERVER: u16 = 25_683;
    /// The one for `/fw`.
    pub const FIRMWARE: u16 = 25_783;
    /// The HTTP service, for `/telemetry`.
    pub const WEB: u16 = 28_080;
}

/// The limit of requests per client address.
const RATE: &str = "{per_second: 200, burst: 1000}";

/// The route to the HTTP service.
const WEB: &str = "                match: {path_separated_prefix: /telemetry}
                route: {cluster: telemetry, timeout: 30s}";
const WEB_AT_ROOT: &str = "                match: {prefix: /telemetry/}
                route: {cluster: telemetry, timeout: 30s, prefix_rewrite: /}";

/// The first route.
const FIRST_ROUTE: &str = "              # A check is answered here";

/// `envoy-configs/coap.yaml`, with a rate limit that no test reaches by accident; `/telemetry/x` is `/x` at the HTTP
/// service.
pub fn config() -> Result<Config> {
    limited("{per_second: 1000000, burst: 1000000}")
}

/// The same with this limit of requests per client address.
pub fn limited(bucket: &str) -> Result<Config> {
    Config::from_file("envoy-configs/coap.yaml")?.replace(RATE, bucket)?.replace(WEB, WEB_AT_ROOT)
}

/// A configuration with these settings of the filter over UDP in addition; YAML of one line.
pub fn udp_settings(config: Config, settings: &str) -> Result<Config> {
    const UDP: &str = "                transport: udp\n";
    config.replace(UDP, &format!("{UDP}                {settings}\n"))
}

/// A configuration with this rule before all others; YAML of one line.
pub fn rule(config: Config, rule: &str) -> Result<Config> {
    const RULES: &str = "rules: &coap_rules\n";
    config.replace(RULES, &format!("{RULES}                - {rule}\n"))
}

/// A configuration with this route before all others; YAML of one line.
pub fn route(config: Config, route: &str) -> Result<Config> {
    config.replace(FIRST_ROUTE, &format!("              - {route}\n{FIRST_ROUTE}"))
}

/// Envoy in front of a CoAP server, which is also the one for firmware.
#[derive(Debug)]
pub struct Setup {
    /// Envoy.
    pub envoy: Envoy,
    /// The server.
    pub server: Server,
    /// Where the HTTP service is to be.
    pub web: u16,
}

impl Setup {
    /// With [`config`].
    pub fn new() -> Result<Self> {
        Self::start(config()?)
    }

    /// With another configuration of the same ports.
    pub fn start(config: Config) -> Result<Self> {
        raise_descriptor_limit();
        let (server, web) = (Server::start()?, free_port()?);
        let config = config.port(port::SERVER, server.address().port());
        let config = config.port(port::FIRMWARE, server.address().port());
        Ok(Self { envoy: config.port(port::WEB, web).start()?, server, web })
    }

    /// Where clients send to, over UDP and over TCP.
    pub fn address(&self) -> Result<SocketAddr> {
        self.envoy.address(port::COAP)
    }

    /// A source of its own.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.address()?)
    }

    /// A connection over TCP.
    pub fn tcp(&self) -> Result<tcp::Client> {
        Ok(tcp::Client::connect(self.address()?, 1 << 24)?.0)
    }

    /// `coap` or `coap+tcp`, and a path without the slash in front.
    pub fn uri(&self, scheme: &str, path: &str) -> Result<String> {
        Ok(format!("{scheme}://{}/{path}", self.address()?))
    }

    /// An error if Envoy or the filter in it went wrong, or if there is no answer any more.
    pub fn expect_healthy(&mut self) -> Result<()> {
        setup::expect_healthy(&mut self.envoy)?;
        let answer = self.client()?.request(&Draft::get("small").id(1).token(b"healthy"))?;
        ensure!(answer.code()? == "2.05" && answer.text()? == "small", "{answer:?}");
        setup::expect_healthy(&mut self.envoy)
    }

    /// Waits until no session and no flow is left.
    pub fn expect_no_sessions(&mut self) -> Result<()> {
        expect_no_sessions(&mut self.envoy)
    }
}

/// See [`Setup::expect_no_sessions`].
pub fn expect_no_sessions(envoy: &mut Envoy) -> Result<()> {
    eventually("all sessions to end", || {
        envoy.process.expect_running()?;
        let sessions = envoy.stat("udp.coap.downstream_sess_active")?;
        // None was ever counted.
        let flows = envoy.metric("coap_flows_active", &[])?.unwrap_or(0.0);
        Ok((sessions == 0 && flows == 0.0).then_some(()))
    })
}

/// The address of a port in the configuration that a test serves by itself.
#[must_use]
pub fn own(port: u16) -> SocketAddr {
    local(port)
}
