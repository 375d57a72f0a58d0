//! Three Envoys, one with each of `envoy-configs/mqtt.yaml`, `coap.yaml` and `dns.yaml`, and servers.
//!
//! One Envoy with all three modules would not start here: V8 reserves more addresses for them than
//! [`process`](crate::process) lets a child have.

use std::net::SocketAddr;

use anyhow::Result;

use crate::bench::service;
use crate::broker::Mosquitto;
use crate::dns::authority::Authority;
use crate::dns::setup::addresses;
use crate::envoy::{Config, Envoy};
use crate::{coap, dns, raise_descriptor_limit, setup};

/// The HTTP service, in the configuration for MQTT.
const SERVICE: u16 = 28_080;

/// A configuration for each protocol, with one worker and without the limits that clients of one address would reach; what is
/// published to `telemetry` is a request to an HTTP service, in MQTT as in CoAP.
pub fn configs() -> Result<[Config; 3]> {
    let mqtt = setup::bridge_config()?
        .replace(
            "                max_buffered_size: 65536\n",
            "                max_buffered_size: 65536
                rules: [{topic_filters: [telemetry/#], packets: [publish], carry: request, cloudevents: binary}]\n",
        )?
        .replace(
            "              - name: eu-by-certificate\n",
            "              - {name: telemetry, match: {path_separated_prefix: /telemetry}, route: {cluster: service, timeout: 10s}}
              - name: eu-by-certificate\n",
        )?
        .replace(
            "  clusters:\n",
            "  clusters:
  - name: service
    type: STATIC
    connect_timeout: 2s
    load_assignment:
      cluster_name: service
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 28080}}}}]}]\n",
        )?;
    Ok([mqtt, coap::setup::config()?, dns::setup::cached()?].map(|config| config.concurrency(1)))
}

/// Where the servers are.
#[derive(Debug, Clone, Copy)]
pub struct Servers {
    /// The broker.
    pub broker: SocketAddr,
    /// The broker of users named `eu-…`.
    pub broker_eu: SocketAddr,
    /// The CoAP server over UDP.
    pub coap_udp: SocketAddr,
    /// The same over TCP.
    pub coap_tcp: SocketAddr,
    /// The DNS server, over UDP and TCP.
    pub dns: SocketAddr,
    /// The one for `corp.example`.
    pub corp: SocketAddr,
    /// The HTTP service for telemetry.
    pub service: SocketAddr,
}

impl Servers {
    /// The configurations with these servers.
    pub fn in_configs(self, [mqtt, coap, dns]: [Config; 3]) -> Result<[Config; 3]> {
        use coap::setup::port as coap_port;
        use dns::setup::port as dns_port;
        use setup::port as mqtt_port;
        /// The CoAP server over TCP has a port of its own.
        const COAP_TCP: u16 = 25_684;
        let mqtt = mqtt
            .port(mqtt_port::BROKER, self.broker.port())
            .port(mqtt_port::BROKER_2, self.broker.port())
            .port(mqtt_port::BROKER_EU, self.broker_eu.port())
            .port(SERVICE, self.service.port());
        let coap = coap
            .replace(
                "{address: 127.0.0.1, port_value: 25683}",
                "{address: 127.0.0.1, port_value: 25684}",
            )?
            .port(COAP_TCP, self.coap_tcp.port())
            .port(coap_port::SERVER, self.coap_udp.port())
            .port(coap_port::FIRMWARE, self.coap_udp.port())
            .port(coap_port::WEB, self.service.port());
        let dns =
            dns.port(dns_port::RESOLVER, self.dns.port()).port(dns_port::CORP, self.corp.port());
        Ok([mqtt, coap, dns])
    }
}

/// The three Envoys, and where clients find them.
#[derive(Debug)]
pub struct Trio {
    /// For MQTT, CoAP and DNS.
    pub envoys: [Envoy; 3],
}

impl Trio {
    /// With variants of [`configs`].
    pub fn start(configs: [Config; 3], servers: Servers) -> Result<Self> {
        raise_descriptor_limit();
        Self::start_with_servers(servers.in_configs(configs)?)
    }

    /// With configurations that have servers already.
    pub fn start_with_servers([mqtt, coap, dns]: [Config; 3]) -> Result<Self> {
        Ok(Self { envoys: [mqtt.start()?, coap.start()?, dns.start()?] })
    }

    /// Where clients connect: MQTT; CoAP over UDP and TCP; DNS over UDP and TCP.
    pub fn addresses(&self) -> Result<[SocketAddr; 3]> {
        let [mqtt, coap, dns] = &self.envoys;
        Ok([
            mqtt.address(setup::port::MQTT)?,
            coap.address(coap::setup::port::COAP)?,
            dns.address(dns::setup::port::DNS)?,
        ])
    }

    /// An error if an Envoy or the filter in it went wrong in a way that clients may not have noticed.
    pub fn expect_healthy(&mut self) -> Result<()> {
        self.envoys.iter_mut().try_for_each(setup::expect_healthy)
    }
}

/// The servers of others, and ours where theirs would not do: what a load needs when nothing is to go wrong.
#[derive(Debug)]
pub struct Backends {
    /// The broker.
    pub broker: Mosquitto,
    /// The CoAP server.
    pub coap: coap::libcoap::Server,
    /// The DNS server, which gives each name the address that is its own.
    pub dns: Authority,
    service: SocketAddr,
}

impl Backends {
    /// Starts them.
    pub fn start() -> Result<Self> {
        Ok(Self {
            // Its log of each packet would be most of what it does.
            broker: Mosquitto::builder().setting("log_type none").start()?,
            coap: coap::libcoap::Server::start_with(coap::libcoap::Tls::None, &["-d", "1000"])?,
            dns: Authority::forgetful(addresses)?,
            service: service::start(service::Answer::Same)?,
        })
    }

    /// Where they are.
    #[must_use]
    pub fn addresses(&self) -> Servers {
        let (broker, coap, dns) = (self.broker.address(), self.coap.address(), self.dns.address());
        Servers {
            broker,
            broker_eu: broker,
            coap_udp: coap,
            coap_tcp: coap,
            dns,
            corp: dns,
            service: self.service,
        }
    }
}
