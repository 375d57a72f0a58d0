//! The sides of the comparison: what stands between client and server.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use integration::coap::draft::Draft;
use integration::coap::{aiocoap, libcoap};
use integration::envoy::{Config, Envoy};
use integration::process::Process;

/// One side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Direct,
    UdpProxy,
    /// libcoap's example server as a forward proxy.
    LibCoap,
    /// aiocoap's proxy, as a reverse one.
    AioCoap,
}

impl Side {
    pub(crate) const ALL: [Self; 4] = [Self::Direct, Self::UdpProxy, Self::LibCoap, Self::AioCoap];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::UdpProxy => "udp_proxy",
            Self::LibCoap => "libcoap",
            Self::AioCoap => "aiocoap",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self> {
        let side = Self::ALL.into_iter().find(|side| side.name() == name);
        side.with_context(|| format!("there is no side {name:?}"))
    }
}

/// A side in front of one server.
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
    pub(crate) fn start_all(sides: &[Side], server: SocketAddr) -> Result<Vec<Self>> {
        sides.iter().map(|&side| Self::start(side, server)).collect()
    }

    fn start(side: Side, server: SocketAddr) -> Result<Self> {
        let (address, proxy) = match side {
            Side::Direct => (server, Proxy::None),
            Side::UdpProxy => {
                let config = Config::from_text(UDP_PROXY).port(25683, server.port());
                // The other proxies have one thread as well.
                let envoy = config.concurrency(1).start()?;
                (envoy.address(5683)?, Proxy::Envoy(envoy))
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
        idle_timeout: 0.2s
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
