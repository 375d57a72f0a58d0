//! The sides of the comparison: what stands between client and broker.

use std::net::SocketAddr;

use anyhow::Result;
use integration::bench;
use integration::bench::service::{self, Answer};
use integration::broker::HaProxy;
use integration::envoy::{Config, Envoy};
use integration::process::Process;

/// One side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Direct,
    TcpProxy,
    HaProxy,
    Observe,
    Bridge,
    /// `bridge` with `codec: auto`, which means HTTP/1.1 here.
    Http1,
    /// `bridge` with three rules that match nothing.
    Rules,
    /// Every message is checked, and Envoy's route answers at once.
    Check,
    /// The same, with an answer that holds for a minute.
    Cached,
    /// Every message is a request to an HTTP service.
    Request,
    /// `bridge` towards a second Envoy, over HTTP/2; that goes to the broker. Sessions share connections between the two, so
    /// the first one needs one file descriptor for each session instead of two.
    Http2,
}

impl bench::gate::Side for Side {
    const ALL: &'static [Self] = &[
        Self::Direct,
        Self::TcpProxy,
        Self::HaProxy,
        Self::Observe,
        Self::Bridge,
        Self::Http1,
        Self::Rules,
        Self::Check,
        Self::Cached,
        Self::Request,
        Self::Http2,
    ];
    const DEFAULT: &'static [Self] =
        &[Self::Direct, Self::TcpProxy, Self::HaProxy, Self::Observe, Self::Bridge, Self::Http1];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::TcpProxy => "tcp_proxy",
            Self::HaProxy => "haproxy",
            Self::Observe => "observe",
            Self::Bridge => "bridge",
            Self::Http1 => "bridge-http1",
            Self::Rules => "rules",
            Self::Check => "check",
            Self::Cached => "cached",
            Self::Request => "request",
            Self::Http2 => "bridge-http2",
        }
    }

    fn is_ours(self) -> bool {
        !matches!(self, Self::Direct | Self::TcpProxy | Self::HaProxy)
    }
}

impl Side {
    /// Those that differ in what they do with each message.
    pub(crate) const MESSAGES: [Self; 6] =
        [Self::TcpProxy, Self::Bridge, Self::Rules, Self::Cached, Self::Check, Self::Request];

    /// The filter's rules.
    fn rules(self) -> &'static str {
        match self {
            Self::Rules => {
                r#"[{topic_filters: ["other/#", "+/other"], carry: check},
                    {username_prefix: other, carry: check},
                    {topic_filters: ["bench/+/request"], qos: [2], carry: request}]"#
            }
            Self::Check => "[{carry: check}]",
            Self::Cached => "[{carry: check, verdict_cache: 60s}]",
            Self::Request => "[{packets: [publish], carry: request}]",
            _ => "[]",
        }
    }
}

/// A side in front of a broker.
pub(crate) type Gate = bench::gate::Gate<Side>;

pub(crate) fn start_all(sides: &[Side], broker: SocketAddr) -> Result<Vec<Gate>> {
    sides.iter().map(|&side| start(side, broker)).collect()
}

pub(crate) fn start(side: Side, broker: SocketAddr) -> Result<Gate> {
    let filters = match side {
        Side::Direct => return Ok(Gate::direct(side, broker)),
        Side::HaProxy => {
            let proxy = HaProxy::start(broker)?;
            return Ok(Gate::through(side, proxy.address(), broker, proxy));
        }
        Side::Http2 => return start_two(broker),
        Side::TcpProxy => TCP_PROXY.to_owned(),
        Side::Observe => {
            format!("{}{TCP_PROXY}", WASM.replace("MODE", "observe").replace("RULES", "[]"))
        }
        Side::Http1 => {
            let wasm = WASM.replace("MODE", "bridge, codec: auto").replace("RULES", "[]");
            format!("{wasm}{}", HCM.replace("codec_type: HTTP2", "codec_type: AUTO"))
        }
        side => format!("{}{HCM}", WASM.replace("MODE", "bridge").replace("RULES", side.rules())),
    };
    let service = if side == Side::Request { service::start(Answer::NoContent)?.port() } else { 0 };
    let envoy = Config::from_text(format!("{LISTENER}{filters}{CLUSTER}"))
        .port(21883, broker.port())
        .port(28080, service)
        // HAProxy has one thread as well.
        .concurrency(1)
        .start()?;
    Ok(Gate::through(side, envoy.address(1883)?, broker, envoy))
}

/// Two Envoys in a row.
#[derive(Debug)]
struct TwoEnvoys {
    /// The one with the filter, which is measured.
    first: Envoy,
    /// It ends with the other.
    _second: Envoy,
}

impl bench::gate::Proxy for TwoEnvoys {
    fn process(&self) -> &Process {
        &self.first.process
    }

    fn envoy(&self) -> Option<&Envoy> {
        Some(&self.first)
    }
}

fn start_two(broker: SocketAddr) -> Result<Gate> {
    let second = Config::from_text(format!("{LISTENER}{HCM}{CLUSTER}"));
    let second = second.port(21883, broker.port()).port(28080, 0).concurrency(1).start()?;
    let wasm = WASM.replace("MODE", "bridge").replace("RULES", "[]");
    let first = Config::from_text(format!("{LISTENER}{wasm}{HCM}{CLUSTER}"))
        // It is the second one that makes TCP of it.
        .replace(TO_TCP, "")?
        .replace("  - name: broker\n", &format!("  - name: broker\n{HTTP2}"))?
        .port(21883, second.port(1883)?)
        .port(28080, 0)
        .concurrency(1)
        .start()?;
    let address = first.address(1883)?;
    Ok(Gate::through(Side::Http2, address, broker, TwoEnvoys { first, _second: second }))
}

// The least that each side needs, with the buffers and windows of envoy-configs/mqtt.yaml: no access log, no rules, so
// that the difference between the sides is what carries the bytes.
const LISTENER: &str = r#"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  listeners:
  - name: mqtt
    address: {socket_address: {address: 127.0.0.1, port_value: 1883}}
    filter_chains:
    - filters:
"#;

const WASM: &str = r#"
      - name: mqtt
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm
          config:
            name: mqtt
            root_id: mqtt
            failure_policy: FAIL_RELOAD
            vm_config: {vm_id: mqtt, runtime: envoy.wasm.runtime.v8, code: {local: {filename: dist/mqtt.wasm}}}
            configuration:
              "@type": type.googleapis.com/google.protobuf.Struct
              value: {mode: MODE, rules: RULES}
"#;

const TCP_PROXY: &str = r#"
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: mqtt
          cluster: broker
"#;

const HCM: &str = r#"
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: mqtt
          codec_type: HTTP2
          stream_idle_timeout: 0s
          http2_protocol_options: {initial_stream_window_size: 1048576, initial_connection_window_size: 1048576}
          route_config:
            virtual_hosts:
            - name: mqtt
              domains: ["*"]
              routes:
              - match: {prefix: "/", headers: [{name: x-carry, string_match: {exact: check}}]}
                direct_response: {status: 200}
              - match: {prefix: "/", headers: [{name: x-carry, string_match: {exact: request}}]}
                route: {cluster: service}
              - match: {prefix: "/"}
                route:
                  cluster: broker
                  timeout: 0s
                  upgrade_configs: [{upgrade_type: CONNECT, connect_config: {allow_post: true}}]
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"#;

// In HCM.
const TO_TCP: &str = "
                  upgrade_configs: [{upgrade_type: CONNECT, connect_config: {allow_post: true}}]";

const HTTP2: &str = r#"
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
"#;

const CLUSTER: &str = r#"
  clusters:
  - name: broker
    type: STATIC
    circuit_breakers: {thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}]}
    load_assignment: {cluster_name: broker, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 21883}}}}]}]}
  - name: service
    type: STATIC
    load_assignment: {cluster_name: service, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 28080}}}}]}]}
"#;
