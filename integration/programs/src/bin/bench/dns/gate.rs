//! The sides of the comparison: what stands between client and server.

use std::net::SocketAddr;

use anyhow::Result;
use integration::bench;
use integration::dns::dnsdist::{Dnsdist, Encrypted};
use integration::dns::unbound::Unbound;
use integration::envoy::Config;

use super::cores::Cores;

/// One side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Direct,
    UdpProxy,
    /// dnsdist without a cache.
    Dnsdist,
    /// dnsdist with its packet cache.
    DnsdistCache,
    /// unbound as a forwarder without a cache.
    Unbound,
    /// unbound as a forwarder with its caches.
    UnboundCache,
    /// The filter: messages as they are, in flows.
    Flow,
    /// The same, with the filter's cache.
    FlowCache,
    /// Envoy is asked about each query before it goes its way in a flow; it answers by itself.
    Check,
    /// Each query is a request to an HTTP service.
    Request,
}

impl bench::gate::Side for Side {
    const ALL: &'static [Self] = &[
        Self::Direct,
        Self::UdpProxy,
        Self::Dnsdist,
        Self::DnsdistCache,
        Self::Unbound,
        Self::UnboundCache,
        Self::Flow,
        Self::FlowCache,
        Self::Check,
        Self::Request,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::UdpProxy => "udp_proxy",
            Self::Dnsdist => "dnsdist",
            Self::DnsdistCache => "dnsdist-cache",
            Self::Unbound => "unbound",
            Self::UnboundCache => "unbound-cache",
            Self::Flow => "flow",
            Self::FlowCache => "flow-cache",
            Self::Check => "check",
            Self::Request => "request",
        }
    }

    fn is_ours(self) -> bool {
        matches!(self, Self::Flow | Self::FlowCache | Self::Check | Self::Request)
    }
}

/// What the sides have behind them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backends {
    /// The DNS server.
    pub(crate) server: SocketAddr,
    /// The HTTP service.
    pub(crate) service: SocketAddr,
}

/// A side in front of them.
pub(crate) type Gate = bench::gate::Gate<Side>;

/// All of them; sessions of the Envoys end after this time without a message.
pub(crate) fn start_all(
    sides: &[Side],
    backends: Backends,
    idle: &str,
    cores: Cores,
) -> Result<Vec<Gate>> {
    let gates: Vec<Gate> =
        sides.iter().map(|&side| start(side, backends, idle)).collect::<Result<_>>()?;
    for process in gates.iter().filter_map(Gate::process) {
        cores.pin_proxy(process)?;
    }
    Ok(gates)
}

fn start(side: Side, Backends { server, service }: Backends, idle: &str) -> Result<Gate> {
    Ok(match side {
        Side::Direct => Gate::direct(side, server),
        Side::UdpProxy | Side::Flow | Side::FlowCache | Side::Check | Side::Request => {
            let config = Config::from_text(yaml(side).replace("IDLE", idle));
            let config = config.port(SERVER, server.port()).port(SERVICE, service.port());
            // The other proxies have one thread as well.
            let envoy = config.concurrency(1).start()?;
            Gate::through(side, envoy.address(DNS)?, server, envoy)
        }
        Side::Dnsdist | Side::DnsdistCache => {
            let proxy = Dnsdist::start(server, side == Side::DnsdistCache, Encrypted::No)?;
            Gate::through(side, proxy.address(), server, proxy)
        }
        Side::Unbound | Side::UnboundCache => {
            let proxy = Unbound::forwarder(server, side == Side::UnboundCache)?;
            Gate::through(side, proxy.address(), server, proxy)
        }
    })
}

/// The ports in the configurations.
const DNS: u16 = 5353;
const SERVER: u16 = 25_353;
const SERVICE: u16 = 28_080;

fn yaml(side: Side) -> String {
    let settings = match side {
        Side::FlowCache => "cache: {max_size: 33554432}",
        Side::Check => "rules: [{carry: check}]",
        Side::Request => "rules: [{carry: request}]",
        _ => "rules: [{carry: flow}]",
    };
    match side {
        Side::UdpProxy => format!("{ADMIN}{UDP_PROXY}{SERVER_CLUSTER}"),
        _ => format!("{ADMIN}{}{SERVER_CLUSTER}{CLUSTERS}", FILTER.replace("SETTINGS", settings)),
    }
}

const ADMIN: &str = "
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
bootstrap_extensions:
- name: envoy.bootstrap.internal_listener
  typed_config: {\"@type\": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener}
static_resources:
";

// A session of Envoy's has a socket towards the server, and its port, until it has been idle for long enough; thousands of
// one-shot clients per second would use them up within a second or two.
const UDP_PROXY: &str = r#"
  listeners:
  - name: dns
    address: {socket_address: {protocol: UDP, address: 127.0.0.1, port_value: 5353}}
    listener_filters:
    - name: udp
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig
        stat_prefix: dns
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
"#;

const FILTER: &str = r#"
  listeners:
  - name: dns
    address: {socket_address: {protocol: UDP, address: 127.0.0.1, port_value: 5353}}
    listener_filters:
    - name: udp
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig
        stat_prefix: dns
        idle_timeout: 600s
        matcher:
          on_no_match:
            action:
              name: route
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route
                cluster: dns_udp
        session_filters:
        - name: capsules
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.session.http_capsule.v3.FilterConfig
        tunneling_config:
          proxy_host: dns.internal
          target_host: dns.internal
          default_target_port: 53
          headers_to_add: [{header: {key: x-forwarded-for, value: "%DOWNSTREAM_REMOTE_ADDRESS%"}}]
          buffer_options: {max_buffered_datagrams: 16, max_buffered_bytes: 16384}
  - name: dns_udp
    internal_listener: {}
    per_connection_buffer_limit_bytes: 1048576
    filter_chains:
    - filters:
      - name: dns
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm
          config:
            name: dns
            root_id: dns
            failure_policy: FAIL_RELOAD
            vm_config: {vm_id: dns, runtime: envoy.wasm.runtime.v8, code: {local: {filename: dist/dns.wasm}}}
            configuration:
              "@type": type.googleapis.com/google.protobuf.Struct
              value:
                transport: udp
                idle_timeout: IDLE
                linger: IDLE
                SETTINGS
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: dns
          codec_type: HTTP2
          stream_idle_timeout: 0s
          use_remote_address: false
          generate_request_id: false
          http2_protocol_options: {max_concurrent_streams: 100000, initial_connection_window_size: 1073741824}
          http_filters:
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
          route_config:
            virtual_hosts:
            - name: dns
              domains: ["*"]
              routes:
              - match: {prefix: /, headers: [{name: x-carry, string_match: {exact: check}}]}
                direct_response: {status: 200}
              - match: {prefix: /, headers: [{name: x-carry, string_match: {exact: request}}]}
                route: {cluster: service, timeout: 5s}
              - match: {prefix: /}
                route: {cluster: server, timeout: 0.25s}
  clusters:
  - name: dns_udp
    type: STATIC
    circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {allow_connect: true, max_concurrent_streams: 10000}}
    load_assignment:
      cluster_name: dns_udp
      endpoints: [{lb_endpoints: [{endpoint: {address: {envoy_internal_address: {server_listener_name: dns_udp}}}}]}]
  - name: server
    upstream_config:
      name: envoy.filters.connection_pools.http.udp
      typed_config: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.udp.v3.UdpConnectionPoolProto}
"#;

// The rest of the cluster `server`, and the others.
const SERVER_CLUSTER: &str = "    type: STATIC
    circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]}
    load_assignment:
      cluster_name: server
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {protocol: UDP, address: 127.0.0.1, port_value: 25353}}}}]}]
";

const CLUSTERS: &str = "  - name: service
    type: STATIC
    circuit_breakers: {thresholds: [{max_connections: 1024, max_pending_requests: 100000, max_requests: 100000}]}
    load_assignment:
      cluster_name: service
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 28080}}}}]}]
";
