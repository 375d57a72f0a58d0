//! The sides of the comparison: what stands between client and server.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use integration::coap::draft::Draft;
use integration::coap::setup::{self, port};
use integration::coap::{aiocoap, libcoap};
use integration::envoy::{Config, Envoy};
use integration::process::Process;

/// One side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Direct,
    UdpProxy,
    /// The filter: messages as they are, in flows.
    Flow,
    /// Envoy is asked about each before it goes its way in a flow; it answers by itself.
    Check,
    /// Each is a request to an HTTP service.
    Request,
    /// libcoap's example server as a forward proxy.
    LibCoap,
    /// aiocoap's proxy, as a reverse one.
    AioCoap,
}

impl Side {
    pub(crate) const ALL: [Self; 7] = [
        Self::Direct,
        Self::UdpProxy,
        Self::Flow,
        Self::Check,
        Self::Request,
        Self::LibCoap,
        Self::AioCoap,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::UdpProxy => "udp_proxy",
            Self::Flow => "flow",
            Self::Check => "check",
            Self::Request => "request",
            Self::LibCoap => "libcoap",
            Self::AioCoap => "aiocoap",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self> {
        let side = Self::ALL.into_iter().find(|side| side.name() == name);
        side.with_context(|| format!("there is no side {name:?}"))
    }
}

/// What the sides have behind them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backends {
    /// The CoAP server.
    pub(crate) server: SocketAddr,
    /// The HTTP service.
    pub(crate) service: SocketAddr,
}

/// A side in front of them.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) side: Side,
    pub(crate) address: SocketAddr,
    server: SocketAddr,
    proxy: Proxy,
}

#[derive(Debug)]
enum Proxy {
    None,
    Envoy(Envoy),
    LibCoap(libcoap::Server),
    AioCoap(aiocoap::Proxy),
}

impl Gate {
    /// All of them; sessions of the Envoys end after this time without a message.
    pub(crate) fn start_all(sides: &[Side], backends: Backends, idle: &str) -> Result<Vec<Self>> {
        sides.iter().map(|&side| Self::start(side, backends, idle)).collect()
    }

    fn start(side: Side, Backends { server, service }: Backends, idle: &str) -> Result<Self> {
        let (address, proxy) = match side {
            Side::Direct => (server, Proxy::None),
            Side::UdpProxy => {
                let config = Config::from_text(UDP_PROXY.replace("IDLE", idle));
                // The other proxies have one thread as well.
                let envoy = config.port(25683, server.port()).concurrency(1).start()?;
                (envoy.address(5683)?, Proxy::Envoy(envoy))
            }
            Side::Flow | Side::Check | Side::Request => {
                let config = filter(side, idle)?.port(port::SERVER, server.port());
                let envoy = config.port(port::WEB, service.port()).concurrency(1).start()?;
                (envoy.address(port::COAP)?, Proxy::Envoy(envoy))
            }
            Side::LibCoap => {
                let proxy = libcoap::Server::start_proxy()?;
                (proxy.address(), Proxy::LibCoap(proxy))
            }
            Side::AioCoap => {
                let proxy = aiocoap::Proxy::start(server)?;
                (proxy.address(), Proxy::AioCoap(proxy))
            }
        };
        Ok(Self { side, address, server, proxy })
    }

    /// Says in a request what this side has to know of where it goes.
    pub(crate) fn addressed(&self, request: Draft) -> Draft {
        const PROXY_URI: u16 = 35;
        match self.side {
            Side::LibCoap => {
                let uri = format!("coap://{}/bench", self.server);
                request.option(PROXY_URI, uri.as_bytes())
            }
            _ => request.path("bench"),
        }
    }

    pub(crate) fn process(&self) -> Option<&Process> {
        match &self.proxy {
            Proxy::None => None,
            Proxy::Envoy(envoy) => Some(&envoy.process),
            Proxy::LibCoap(server) => Some(&server.process),
            Proxy::AioCoap(proxy) => Some(&proxy.process),
        }
    }
}

/// The example configuration, with all requests carried one way, and without an access log, which the other sides have not
/// either.
fn filter(side: Side, idle: &str) -> Result<Config> {
    const LOGGER: &str = "          - name: envoy.access_loggers.stdout\n";
    const NEVER: &str = "            filter: {status_code_filter: {comparison: {op: GE, value: {default_value: 1000, runtime_key: none}}}}\n";
    let config = setup::rule(setup::config()?, &format!("{{carry: {}}}", side.name()))?;
    let to_service = "{match: {prefix: /, headers: [{name: x-carry, string_match: {exact: request}}]}, route: {cluster: telemetry}}";
    let config = setup::route(config, to_service)?;
    config
        .replace("idle_timeout: 2s", &format!("idle_timeout: {idle}"))?
        .replace(LOGGER, &format!("{LOGGER}{NEVER}"))
}

// A session of Envoy's has a socket towards the server, and its port, until it has been idle for long enough; thousands of
// one-shot clients per second would use them up within a second or two.
const UDP_PROXY: &str = r#"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  listeners:
  - name: coap
    address: {socket_address: {protocol: UDP, address: 127.0.0.1, port_value: 5683}}
    listener_filters:
    - name: udp
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig
        stat_prefix: coap
        idle_timeout: IDLE
        matcher:
          on_no_match:
            action:
              name: route
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route
                cluster: server
  clusters:
  - name: server
    type: STATIC
    circuit_breakers: {thresholds: [{max_connections: 100000}]}
    load_assignment: {cluster_name: server, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {protocol: UDP, address: 127.0.0.1, port_value: 25683}}}}]}]}
"#;
