//! The sides of the comparison: what stands between client and broker.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use integration::bench::service::{self, Answer};
use integration::broker::HaProxy;
use integration::envoy::{Config, Envoy};
use integration::process::Process;

/// One side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Side {
    Direct,
    TcpProxy,
    HaProxy,
    Observe,
    Bridge,
    /// `bridge` with three rules that match nothing.
    Rules,
    /// Every message is checked, and Envoy's route answers at once.
    Check,
    /// The same, with an answer that holds for a minute.
    Cached,
    /// Every message is a request to an HTTP service.
    Request,
}

impl Side {
    pub(crate) const ALL: [Self; 5] =
        [Self::Direct, Self::TcpProxy, Self::HaProxy, Self::Observe, Self::Bridge];
    /// Those that differ in what they do with each message.
    pub(crate) const MESSAGES: [Self; 6] =
        [Self::TcpProxy, Self::Bridge, Self::Rules, Self::Cached, Self::Check, Self::Request];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::TcpProxy => "tcp_proxy",
            Self::HaProxy => "haproxy",
            Self::Observe => "observe",
            Self::Bridge => "bridge",
            Self::Rules => "rules",
            Self::Check => "check",
            Self::Cached => "cached",
            Self::Request => "request",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self> {
        let side = Self::ALL.into_iter().chain(Self::MESSAGES).find(|side| side.name() == name);
        side.with_context(|| format!("there is no side {name:?}"))
    }

    pub(crate) fn needs_filter(self) -> bool {
        !matches!(self, Self::Direct | Self::TcpProxy | Self::HaProxy)
    }

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

/// A side in front of one broker.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) side: Side,
    pub(crate) address: SocketAddr,
    proxy: Proxy,
}

#[derive(Debug)]
enum Proxy {
    None,
    Envoy(Envoy),
    HaProxy(HaProxy),
}

impl Gate {
    pub(crate) fn start_all(sides: &[Side], broker: SocketAddr) -> Result<Vec<Self>> {
        sides.iter().map(|&side| Self::start(side, broker)).collect()
    }

    pub(crate) fn start(side: Side, broker: SocketAddr) -> Result<Self> {
        let filters = match side {
            Side::Direct => return Ok(Self { side, address: broker, proxy: Proxy::None }),
            Side::HaProxy => {
                let proxy = HaProxy::start(broker)?;
                return Ok(Self { side, address: proxy.address(), proxy: Proxy::HaProxy(proxy) });
            }
            Side::TcpProxy => TCP_PROXY.to_owned(),
            Side::Observe => {
                format!("{}{TCP_PROXY}", WASM.replace("MODE", "observe").replace("RULES", "[]"))
            }
            side => {
                format!("{}{HCM}", WASM.replace("MODE", "bridge").replace("RULES", side.rules()))
            }
        };
        let service =
            if side == Side::Request { service::start(Answer::NoContent)?.port() } else { 0 };
        let envoy = Config::from_text(format!("{LISTENER}{filters}{CLUSTER}"))
            .port(21883, broker.port())
            .port(28080, service)
            // HAProxy has one thread as well.
            .concurrency(1)
            .start()?;
        Ok(Self { side, address: envoy.address(1883)?, proxy: Proxy::Envoy(envoy) })
    }

    pub(crate) fn process(&self) -> Option<&Process> {
        match &self.proxy {
            Proxy::None => None,
            Proxy::Envoy(envoy) => Some(&envoy.process),
            Proxy::HaProxy(haproxy) => Some(&haproxy.process),
        }
    }

    pub(crate) fn envoy(&self) -> Option<&Envoy> {
        match &self.proxy {
            Proxy::Envoy(envoy) => Some(envoy),
            _ => None,
        }
    }
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
