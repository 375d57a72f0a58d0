//! What most tests start from: brokers, and Envoy with one of the example configurations.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use crate::broker::Mosquitto;
use crate::envoy::{Config, Envoy};
use crate::raise_descriptor_limit;

/// A port in the example configurations.
pub mod port {
    /// MQTT.
    pub const MQTT: u16 = 1883;
    /// MQTT over TLS.
    pub const TLS: u16 = 8883;
    /// Envoy's admin interface.
    pub const ADMIN: u16 = 9901;
    /// The broker for everybody.
    pub const BROKER: u16 = 21_883;
    /// The second one for everybody.
    pub const BROKER_2: u16 = 21_885;
    /// The broker for Europe.
    pub const BROKER_EU: u16 = 21_884;
}

/// The limit of connections per client address in `envoy-configs/mqtt.yaml`.
const RATE_LIMIT: &str = "token_bucket: {max_tokens: 50, tokens_per_fill: 10, fill_interval: 1s}";
/// The limit of connections over all.
const TOTAL_LIMIT: &str =
    "token_bucket: {max_tokens: 1000, tokens_per_fill: 500, fill_interval: 1s}";

/// Envoy in front of two mosquittos.
#[derive(Debug)]
pub struct Setup {
    /// Envoy.
    pub envoy: Envoy,
    /// Where everybody goes. It stands in for both endpoints of the cluster, so that all clients meet.
    pub broker: Mosquitto,
    /// Where Europe goes.
    pub eu: Mosquitto,
}

impl Setup {
    /// `envoy-configs/mqtt.yaml`, with a rate limit that no test reaches by accident.
    pub fn bridge() -> Result<Self> {
        Self::start(bridge_config()?)
    }

    /// `envoy-configs/mqtt-observe.yaml`.
    pub fn observe() -> Result<Self> {
        Self::start(Config::from_file("envoy-configs/mqtt-observe.yaml")?)
    }

    /// Another configuration with the same ports.
    pub fn start(config: Config) -> Result<Self> {
        raise_descriptor_limit();
        let (broker, eu) = (Mosquitto::start()?, Mosquitto::start()?);
        let config = config
            .port(port::BROKER, broker.port())
            .port(port::BROKER_2, broker.port())
            .port(port::BROKER_EU, eu.port());
        Ok(Self { envoy: config.start()?, broker, eu })
    }

    /// Where clients connect.
    pub fn mqtt(&self) -> Result<SocketAddr> {
        self.envoy.address(port::MQTT)
    }

    /// An error if Envoy or the filter in it went wrong in a way that clients may not have noticed.
    pub fn expect_healthy(&mut self) -> Result<()> {
        expect_healthy(&mut self.envoy)
    }
}

/// `envoy-configs/mqtt.yaml`, with a rate limit that no test reaches by accident.
pub fn bridge_config() -> Result<Config> {
    limited_config("token_bucket: {max_tokens: 100000, tokens_per_fill: 100000, fill_interval: 1s}")
}

/// The same with HTTP/1.1 between the filter and the connection manager, for sessions whose messages nothing looks at.
pub fn auto_config() -> Result<Config> {
    bridge_config()?
        .replace("mode: bridge\n", "mode: bridge\n                codec: auto\n")?
        .replace("codec_type: HTTP2", "codec_type: AUTO")
}

/// `envoy-configs/mqtt.yaml` with this limit of connections per client address.
pub fn limited_config(token_bucket: &str) -> Result<Config> {
    Config::from_file("envoy-configs/mqtt.yaml")?.replace(RATE_LIMIT, token_bucket)?.replace(
        TOTAL_LIMIT,
        "token_bucket: {max_tokens: 100000, tokens_per_fill: 100000, fill_interval: 1s}",
    )
}

/// See [`Setup::expect_healthy`].
pub fn expect_healthy(envoy: &mut Envoy) -> Result<()> {
    envoy.process.expect_running()?;
    let log = envoy.process.stderr();
    // What Envoy logs when a call into the module traps, and what Rust logs when it panics there.
    for sign in ["[critical]", "Proxy-Wasm plugin in-VM backtrace", "Uncaught", "panicked at"] {
        let line = log.lines().find(|line| line.contains(sign));
        ensure!(line.is_none(), "Envoy's log has: {}", line.unwrap_or_default());
    }
    Ok(())
}
