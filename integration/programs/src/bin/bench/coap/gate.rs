//! The sides of the comparison: what stands between client and server.

use std::net::SocketAddr;

use anyhow::Result;
use integration::bench;
use integration::bench::gate::Side as _;
use integration::coap::draft::Draft;
use integration::coap::setup::{self, port};
use integration::coap::{aiocoap, libcoap};
use integration::envoy::Config;

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

impl bench::gate::Side for Side {
    const ALL: &'static [Self] = &[
        Self::Direct,
        Self::UdpProxy,
        Self::Flow,
        Self::Check,
        Self::Request,
        Self::LibCoap,
        Self::AioCoap,
    ];

    fn name(self) -> &'static str {
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

    fn is_ours(self) -> bool {
        matches!(self, Self::Flow | Self::Check | Self::Request)
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
pub(crate) type Gate = bench::gate::Gate<Side>;

/// All of them; sessions of the Envoys end after this time without a message.
pub(crate) fn start_all(sides: &[Side], backends: Backends, idle: &str) -> Result<Vec<Gate>> {
    sides.iter().map(|&side| start(side, backends, idle)).collect()
}

fn start(side: Side, Backends { server, service }: Backends, idle: &str) -> Result<Gate> {
    Ok(match side {
        Side::Direct => Gate::direct(side, server),
        Side::UdpProxy => {
            let config = Config::from_text(UDP_PROXY.replace("IDLE", idle));
            // The other proxies have one thread as well.
            let envoy = config.port(25683, server.port()).concurrency(1).start()?;
            Gate::through(side, envoy.address(5683)?, server, envoy)
        }
        Side::Flow | Side::Check | Side::Request => {
            let config = filter(side, idle)?.port(port::SERVER, server.port());
            let envoy = config.port(port::WEB, service.port()).concurrency(1).start()?;
            Gate::through(side, envoy.address(port::COAP)?, server, envoy)
        }
        Side::LibCoap => {
            let proxy = libcoap::Server::start_proxy()?;
            Gate::through(side, proxy.address(), server, proxy)
        }
        Side::AioCoap => {
            let proxy = aiocoap::Proxy::start(server)?;
            Gate::through(side, proxy.address(), server, proxy)
        }
    })
}

/// Says in a request what a side has to know of where it goes.
pub(crate) fn addressed(gate: &Gate, request: Draft) -> Draft {
    const PROXY_URI: u16 = 35;
    match gate.side {
        Side::LibCoap => {
            let uri = format!("coap://{}/bench", gate.server);
            request.option(PROXY_URI, uri.as_bytes())
        }
        _ => request.path("bench"),
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
