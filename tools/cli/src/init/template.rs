//! The parts of an Envoy configuration.

use std::fmt::Write as _;

use super::{Plan, Server};
use crate::protocol::Protocol;

/// A complete configuration.
pub(crate) fn write(plan: &Plan) -> String {
    let mut text = head(plan);
    if let Some(admin) = plan.admin {
        let _ = write!(
            text,
            "admin:\n  \
               # Stats, /stats/prometheus and the configuration dump. On loopback only: it can also stop Envoy.\n  \
               address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}\n\n"
        );
    }
    if plan.coap.is_some() || plan.dns.is_some() {
        text.push_str(INTERNAL);
    }
    text.push_str("static_resources:\n  listeners:");
    if plan.mqtt.is_some() {
        text.push_str(&mqtt_listeners(plan));
    }
    for datagrams in Datagrams::of(plan) {
        text.push_str(&datagrams.listeners(plan));
    }
    text.push_str("\n  clusters:\n");
    if let Some(broker) = &plan.mqtt {
        text.push_str(&tcp_cluster(
            "mqtt_broker",
            broker,
            "Each session is one connection and one request.",
        ));
    }
    for datagrams in Datagrams::of(plan) {
        text.push_str(&datagrams.clusters());
    }
    text.push_str(&stats(plan));
    text
}

fn head(plan: &Plan) -> String {
    let mut text = String::from("# ");
    let names: Vec<_> = plan.protocols().map(Protocol::title).collect();
    text.push_str(&names.join(", "));
    text.push_str(" through Envoy's HTTP connection manager. Written by `beyond-http init`; `beyond-http check` checks it.\n#\n");
    let modules: Vec<_> =
        plan.protocols().map(|protocol| format!("{}/{protocol}.wasm", plan.module_dir)).collect();
    let _ = writeln!(text, "#   {}: relative to Envoy's working directory", modules.join(", "));
    for (protocol, server) in plan.servers() {
        let what = match protocol {
            Protocol::Mqtt => "MQTT broker",
            Protocol::Coap => "CoAP server (UDP and TCP)",
            Protocol::Dns => "DNS server (UDP and TCP)",
        };
        let _ = writeln!(text, "#   {what}: {}:{}", server.host, server.port);
    }
    text.push('\n');
    text
}

const INTERNAL: &str = "\
bootstrap_extensions:
# Listeners that only Envoy itself connects to.
- name: envoy.bootstrap.internal_listener
  typed_config: {\"@type\": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener}

";

/// The filter, with its own configuration in `value`.
fn filter(plan: &Plan, protocol: Protocol, name: &str, value: &str) -> String {
    format!(
        "      \
              - name: {name}\n        \
                typed_config:\n          \
                  \"@type\": type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm\n          \
                  config:\n            \
                    name: {name}\n            \
                    root_id: {name}\n            \
                    # After a trap only the connections of that worker's VM are closed, and the VM starts again.\n            \
                    failure_policy: FAIL_RELOAD\n            \
                    vm_config:\n              \
                      # Listeners with the same vm_id, module and VM configuration share one VM per worker.\n              \
                      vm_id: {protocol}\n              \
                      runtime: envoy.wasm.runtime.v8\n              \
                      code: {{local: {{filename: \"{}/{protocol}.wasm\"}}}}\n            \
                    configuration:\n              \
                      \"@type\": type.googleapis.com/google.protobuf.Struct\n              \
                      # Every field: docs/reference/{protocol}.md.\n              \
                      value:\n{value}",
        plan.module_dir
    )
}

fn tls_socket(plan: &Plan, alpn: &str) -> String {
    let Some(tls) = &plan.tls else { return String::new() };
    format!(
        "    - transport_socket:\n        \
            name: envoy.transport_sockets.tls\n        \
            typed_config:\n          \
              \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n          \
              common_tls_context:\n            \
                tls_params: {{tls_minimum_protocol_version: TLSv1_2}}\n            \
                # The name registered for this protocol; clients that offer none are accepted.\n            \
                alpn_protocols: [{alpn}]\n            \
                tls_certificates:\n            \
                - certificate_chain: {{filename: \"{}\"}}\n              \
                  private_key: {{filename: \"{}\"}}\n      \
          filters: ",
        tls.certificate, tls.key
    )
}

/// An access log of these fields.
fn access_log(plan: &Plan, fields: &[(&str, &str)]) -> String {
    if !plan.access_log {
        return String::new();
    }
    let mut text = String::from(
        "          \
                  # One line for each stream, written at its end.\n          \
                  access_log:\n          \
                  - name: envoy.access_loggers.stdout\n            \
                    typed_config:\n              \
                      \"@type\": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n              \
                      log_format:\n                \
                        json_format:\n",
    );
    let common = [
        ("time", "%START_TIME%"),
        ("carry", "%REQ(x-carry)%"),
        ("path", "%REQ(:path)%"),
        ("authority", "%REQ(:authority)%"),
    ];
    let result = [
        ("code", "%RESPONSE_CODE%"),
        ("flags", "%RESPONSE_FLAGS%"),
        ("upstream", "%UPSTREAM_HOST%"),
        ("bytes_from_client", "%BYTES_RECEIVED%"),
        ("bytes_to_client", "%BYTES_SENT%"),
        ("duration_ms", "%DURATION%"),
    ];
    for (name, value) in common.iter().chain(fields).chain(&result) {
        let _ = writeln!(text, "                  {name}: \"{value}\"");
    }
    text
}

const ROUTER: &str = "          \
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              # x-envoy-* headers would reach no one.
              suppress_envoy_headers: true
";

fn mqtt_listeners(plan: &Plan) -> String {
    let mut value = String::from(
        "                \
                        # From the TCP connection's start to the complete CONNECT packet.\n                \
                        connect_timeout: 10s\n                \
                        # The largest CONNECT and the largest packet, in octets.\n                \
                        max_connect_size: 16384\n                \
                        max_packet_size: 16777216\n",
    );
    if plan.rate_limit {
        value.push_str(
            "                \
                            # Messages of each client; what exceeds them waits. Each worker counts for itself.\n                \
                            rate_limits: [{per: client_id, messages: {per_second: 100, burst: 500}}]\n",
        );
    }
    let limit = if plan.rate_limit { MQTT_CONNECTS } else { "" };
    let log = access_log(
        plan,
        &[
            ("client_id", "%REQ(x-mqtt-client-id)%"),
            ("username", "%REQ(x-mqtt-username)%"),
            ("version", "%REQ(x-mqtt-version)%"),
            ("client", "%DOWNSTREAM_REMOTE_ADDRESS%"),
        ],
    );
    let listener = |name: &str, port: u16, inspector: &str| {
        format!(
            "\n  - name: {name}\n    \
                address: {{socket_address: {{address: {}, port_value: {port}}}}}\n    \
                # How much Envoy holds for a client that does not read, and how long.\n    \
                per_connection_buffer_limit_bytes: 1048576\n    \
                per_connection_buffer_high_watermark_timeout: 300s\n\
                {inspector}    \
                filter_chains:\n",
            plan.address
        )
    };
    let mut text = listener("mqtt", plan.ports.mqtt, "");
    text.push_str("    - filters: &mqtt_filters\n");
    text.push_str(
        "      # The filter: it turns a session into an HTTP/2 stream for the filter after it.\n",
    );
    text.push_str(&filter(plan, Protocol::Mqtt, "mqtt", &value));
    let _ =
        write!(text, "{MQTT_MANAGER}{log}          http_filters:\n{limit}{ROUTER}{MQTT_ROUTES}");
    if plan.tls.is_some() {
        text.push_str("\n  # The same over TLS.");
        text.push_str(&listener("mqtt_tls", plan.ports.mqtt_tls, SNI));
        text.push_str(&tls_socket(plan, "mqtt"));
        text.push_str("*mqtt_filters\n");
    }
    text
}

const SNI: &str = "    \
    listener_filters:
    # Reads the SNI, which becomes :authority.
    - name: envoy.filters.listener.tls_inspector
      typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}
";

const MQTT_MANAGER: &str = "      \
      # Envoy's own HTTP connection manager: from here on it is all ordinary Envoy configuration.
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: mqtt
          # What the filter speaks.
          codec_type: HTTP2
          # A session may be silent for as long as it likes.
          stream_idle_timeout: 0s
          use_remote_address: true
          max_request_headers_kb: 96
          generate_request_id: false
          http2_protocol_options:
            # The session, and each message that waits for an answer.
            max_concurrent_streams: 100
            initial_stream_window_size: 1048576
            initial_connection_window_size: 1048576
";

const MQTT_CONNECTS: &str = "          \
          # Connection attempts: a CONNECT is one request. Refused with 429.
          - name: envoy.filters.http.local_ratelimit
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: mqtt_connect
              filter_enabled: {default_value: {numerator: 100, denominator: HUNDRED}}
              filter_enforced: {default_value: {numerator: 100, denominator: HUNDRED}}
              # All addresses together.
              token_bucket: {max_tokens: 1000, tokens_per_fill: 500, fill_interval: 1s}
              rate_limits:
              - actions: [{remote_address: {}}]
              # Each address.
              descriptors:
              - entries: [{key: remote_address}]
                token_bucket: {max_tokens: 50, tokens_per_fill: 10, fill_interval: 1s}
              max_dynamic_descriptors: 10000
";

const MQTT_ROUTES: &str = "          \
          route_config:
            name: mqtt
            virtual_hosts:
            - name: mqtt
              # By SNI.
              domains: [\"*\"]
              routes:
              # A CONNECT's path is \"/\".
              - match: {path: /}
                route:
                  cluster: mqtt_broker
                  # A session has no end that a timeout could know.
                  timeout: 0s
                  # The session's octets become a plain TCP connection to the broker.
                  upgrade_configs: [{upgrade_type: CONNECT, connect_config: {allow_post: true}}]
";

/// CoAP or DNS: what they have in common is that they come over UDP and TCP.
struct Datagrams<'a> {
    protocol: Protocol,
    server: &'a Server,
    port: u16,
    tls_port: u16,
    /// What the filter is configured with besides its transport, and with a rate limit.
    value: &'static str,
    limit: &'static str,
    tcp: &'static str,
    alpn: &'static str,
    buffer: &'static str,
    fields: &'static [(&'static str, &'static str)],
}

impl<'a> Datagrams<'a> {
    fn of(plan: &'a Plan) -> impl Iterator<Item = Self> {
        let coap = plan.coap.as_ref().map(|server| Self {
            protocol: Protocol::Coap,
            server,
            port: plan.ports.coap,
            tls_port: plan.ports.coap_tls,
            value: "                \
                # A session that waits for nothing.
                idle_timeout: 2s
                # A client that has not proved its address gets at most so many times what it sent (RFC 9175); 0 is off.
                amplification_factor: 3
",
            limit: "                \
                # Above that a request gets 4.29 \"Too Many Requests\". Each worker counts for itself.
                rate_limits: [{per: source_address, messages: {per_second: 200, burst: 1000}}]
",
            tcp: "                \
                # The server has one connection for all that a client sends.
                flow_key: session
",
            alpn: "coap",
            buffer: "{max_buffered_datagrams: 16, max_buffered_bytes: 16384}",
            fields: &[
                ("transport", "%REQ(x-coap-transport)%"),
                ("method", "%REQ(x-coap-method)%"),
                ("client", "%REQ(x-forwarded-for)%"),
            ],
        });
        let dns = plan.dns.as_ref().map(|server| Self {
            protocol: Protocol::Dns,
            server,
            port: plan.ports.dns,
            tls_port: plan.ports.dns_tls,
            value: "                \
                # As little as possible (RFC 8482).
                rules: [{types: [ANY], answer: minimal}]
                # Answers are kept for as long as they hold, by all listeners here together, on each worker.
                cache: {name: dns, max_size: 16777216}
",
            limit: "                \
                # Above that a query gets an empty answer that asks to come over TCP. Each worker counts for itself.
                rate_limits: [{per: address, queries: {per_second: 1000, burst: 5000}, exceeded: truncate}]
",
            tcp: "",
            alpn: "dot",
            buffer: "{max_buffered_datagrams: 256, max_buffered_bytes: 65536}",
            fields: &[
                ("transport", "%REQ(x-dns-transport)%"),
                ("qname", "%REQ(x-dns-qname)%"),
                ("qtype", "%REQ(x-dns-qtype)%"),
                ("client", "%REQ(x-forwarded-for)%"),
            ],
        });
        coap.into_iter().chain(dns)
    }

    fn settings(&self, plan: &Plan, transport: &str) -> String {
        let limit = if plan.rate_limit { self.limit } else { "" };
        // Over TCP clients have proved their address.
        let value: String = match transport {
            "udp" => self.value.to_owned(),
            _ if self.protocol == Protocol::Coap => self.tcp.to_owned(),
            _ => self.value.to_owned(),
        };
        format!("                transport: {transport}\n{value}{limit}")
    }

    fn listeners(&self, plan: &Plan) -> String {
        let Self { protocol, port, tls_port, buffer, .. } = self;
        let address = &plan.address;
        let mut text = format!(
            "\n  # Over UDP: Envoy has no filters of ours on a UDP listener, so udp_proxy hands each client's datagrams to the internal\n  \
               # listener below, over one HTTP/2 connection.\n  \
               - name: {protocol}\n    \
                 address: {{socket_address: {{protocol: UDP, address: {address}, port_value: {port}}}}}\n    \
                 listener_filters:\n    \
                 - name: envoy.filters.udp_listener.udp_proxy\n      \
                   typed_config:\n        \
                     \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig\n        \
                     stat_prefix: {protocol}\n        \
                     # The filter ends sessions itself, and before this.\n        \
                     idle_timeout: 300s\n        \
                     matcher:\n          \
                       on_no_match:\n            \
                         action:\n              \
                           name: route\n              \
                           typed_config:\n                \
                             \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route\n                \
                             cluster: {protocol}_udp\n        \
                     session_filters:\n        \
                     - name: envoy.filters.udp.session.http_capsule\n          \
                       typed_config:\n            \
                         \"@type\": type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.session.http_capsule.v3.FilterConfig\n        \
                     tunneling_config:\n          \
                       # Names for a request that stays inside Envoy: nothing resolves them.\n          \
                       proxy_host: {protocol}.internal\n          \
                       target_host: {protocol}.internal\n          \
                       default_target_port: {port}\n          \
                       headers_to_add:\n          \
                       # How the filter, and everything behind it, knows the client.\n          \
                       - header: {{key: x-forwarded-for, value: \"%DOWNSTREAM_REMOTE_ADDRESS%\"}}\n          \
                       # Datagrams that come before the tunnel is there: without this they are lost.\n          \
                       buffer_options: {buffer}\n\n  \
               - name: {protocol}_udp\n    \
                 internal_listener: {{}}\n    \
                 per_connection_buffer_limit_bytes: 1048576\n    \
                 filter_chains:\n    \
                 - filters:\n"
        );
        text.push_str(&filter(plan, *protocol, &protocol.to_string(), &self.settings(plan, "udp")));
        text.push_str(&self.manager(plan));
        let _ = write!(
            text,
            "\n  - name: {protocol}_tcp\n    \
                 address: {{socket_address: {{address: {address}, port_value: {port}}}}}\n    \
                 per_connection_buffer_limit_bytes: 1048576\n    \
                 per_connection_buffer_high_watermark_timeout: 300s\n    \
                 filter_chains:\n    \
                 - filters:\n"
        );
        let name = format!("{protocol}_tcp");
        text.push_str(&filter(plan, *protocol, &name, &self.settings(plan, "tcp")));
        let manager = format!(
            "      - name: envoy.filters.network.http_connection_manager\n        typed_config: *{protocol}_hcm\n"
        );
        text.push_str(&manager);
        if plan.tls.is_some() {
            let _ = write!(
                text,
                "\n  - name: {protocol}_tls\n    \
                     address: {{socket_address: {{address: {address}, port_value: {tls_port}}}}}\n    \
                     per_connection_buffer_limit_bytes: 1048576\n    \
                     per_connection_buffer_high_watermark_timeout: 300s\n\
                     {SNI}    \
                     filter_chains:\n"
            );
            text.push_str(tls_socket(plan, self.alpn).trim_end());
            text.push('\n');
            let transport = if *protocol == Protocol::Dns { "tls" } else { "tcp" };
            let name = format!("{protocol}_tls");
            text.push_str(&filter(plan, *protocol, &name, &self.settings(plan, transport)));
            text.push_str(&manager);
        }
        text
    }

    fn manager(&self, plan: &Plan) -> String {
        let protocol = self.protocol;
        let log = access_log(plan, self.fields);
        format!(
            "      # Envoy's own HTTP connection manager: from here on it is all ordinary Envoy configuration.\n      \
                   - name: envoy.filters.network.http_connection_manager\n        \
                     typed_config: &{protocol}_hcm\n          \
                       \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
                       stat_prefix: {protocol}\n          \
                       # What the filter speaks.\n          \
                       codec_type: HTTP2\n          \
                       # Flows may be silent; the filter ends them.\n          \
                       stream_idle_timeout: 0s\n          \
                       # The filter says who the client is in x-forwarded-for.\n          \
                       use_remote_address: false\n          \
                       generate_request_id: false\n          \
                       max_request_headers_kb: 96\n          \
                       http2_protocol_options:\n            \
                         # All clients of a worker share the connection over UDP.\n            \
                         max_concurrent_streams: 100000\n            \
                         initial_connection_window_size: 1073741824\n\
             {log}          http_filters:\n{ROUTER}          \
                       route_config:\n            \
                         name: {protocol}\n            \
                         virtual_hosts:\n            \
                         - name: {protocol}\n              \
                           domains: [\"*\"]\n              \
                           routes:\n              \
                           # A check (see `rules` in docs/{protocol}.md) is answered here: what no HTTP filter has refused may go on.\n              \
                           - match: {{prefix: /, headers: [{{name: x-carry, string_match: {{exact: check}}}}]}}\n                \
                             direct_response: {{status: 200}}\n              \
                           # Over TCP a flow is a TCP connection to the server …\n              \
                           - match: {{prefix: /, headers: [{{name: x-{protocol}-transport, string_match: {{exact: tcp}}}}]}}\n                \
                             route:\n                  \
                               cluster: {protocol}_server_tcp\n                  \
                               timeout: 0s\n                  \
                               upgrade_configs: [{{upgrade_type: CONNECT, connect_config: {{allow_post: true}}}}]\n              \
                           # … and over UDP it is a UDP socket. The timeout begins when the filter has ended its side, and\n              \
                           # closes the socket: UDP itself has no end.\n              \
                           - match: {{prefix: /}}\n                \
                             route: {{cluster: {protocol}_server, timeout: 0.25s}}\n"
        )
    }

    fn clusters(&self) -> String {
        let Self { protocol, server, .. } = self;
        let endpoint = format!("{{address: {}, port_value: {}}}", server.host, server.port);
        let of = cluster_type(server);
        let mut text = format!(
            "  # The tunnels of udp_proxy: HTTP/2 with extended CONNECT, to the internal listener.\n  \
               - name: {protocol}_udp\n    \
                 type: STATIC\n    \
                 # Each session is one request. Envoy's default of 1,024 would be the limit for all sessions.\n    \
                 circuit_breakers:\n      \
                   thresholds: [{{max_connections: 20000, max_pending_requests: 20000, max_requests: 20000}}]\n    \
                 typed_extension_protocol_options:\n      \
                   envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
                     \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
                     explicit_http_config: {{http2_protocol_options: {{allow_connect: true, max_concurrent_streams: 10000}}}}\n    \
                 load_assignment:\n      \
                   cluster_name: {protocol}_udp\n      \
                   endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{envoy_internal_address: {{server_listener_name: {protocol}_udp}}}}}}}}]}}]\n\n  \
               - name: {protocol}_server\n    \
                 type: {of}\n    \
                 # The body of a stream is datagrams, and each stream has a UDP socket of its own.\n    \
                 upstream_config:\n      \
                   name: envoy.filters.connection_pools.http.udp\n      \
                   typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.udp.v3.UdpConnectionPoolProto}}\n    \
                 circuit_breakers:\n      \
                   thresholds: [{{max_connections: 50000, max_pending_requests: 50000, max_requests: 50000}}]\n    \
                 load_assignment:\n      \
                   cluster_name: {protocol}_server\n      \
                   endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{protocol: UDP, {}}}}}}}}}]}}]\n\n",
            endpoint.trim_matches(['{', '}'])
        );
        text.push_str(&tcp_cluster(
            &format!("{protocol}_server_tcp"),
            server,
            "Each flow is one connection.",
        ));
        text
    }
}

/// Names have to be resolved.
fn cluster_type(server: &Server) -> &'static str {
    let is_address = server.host.trim_matches(['[', ']', '"']).parse::<std::net::IpAddr>().is_ok();
    if is_address { "STATIC" } else { "STRICT_DNS" }
}

fn tcp_cluster(name: &str, server: &Server, why: &str) -> String {
    format!(
        "\n  - name: {name}\n    \
            type: {}\n    \
            connect_timeout: 2s\n    \
            per_connection_buffer_limit_bytes: 1048576\n    \
            # {why} Envoy's default of 1,024 would be the limit for all.\n    \
            circuit_breakers:\n      \
              thresholds: [{{max_connections: 50000, max_pending_requests: 10000, max_requests: 50000}}]\n    \
            load_assignment:\n      \
              cluster_name: {name}\n      \
              endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]\n\n",
        cluster_type(server),
        server.host,
        server.port
    )
}

/// Labels of the filters' metrics, which are in their names.
fn stats(plan: &Plan) -> String {
    let mut labels: Vec<&str> = plan
        .protocols()
        .flat_map(|protocol| match protocol {
            Protocol::Mqtt => &[
                "mode",
                "version",
                "direction",
                "type",
                "qos",
                "source",
                "reason",
                "kind",
                "cause",
                "packet",
                "verdict",
                "outcome",
                "limit",
                "action",
            ][..],
            Protocol::Coap => &[
                "direction",
                "type",
                "method",
                "code",
                "kind",
                "limit",
                "action",
                "verdict",
                "source",
                "outcome",
                "carry",
                "result",
                "version",
                "cipher_suite",
                "reason",
            ],
            Protocol::Dns => &[
                "type",
                "transport",
                "zone",
                "rcode",
                "carry",
                "direction",
                "kind",
                "answer",
                "verdict",
                "source",
                "limit",
                "action",
                "result",
                "reason",
            ],
        })
        .copied()
        .collect();
    labels.sort_unstable();
    labels.dedup();
    let mut text = String::from(
        "# The filters' metrics carry their labels in their names, as `.label=value`; these rules make Prometheus labels of them.\n\
         stats_config:\n  \
           stats_tags:\n",
    );
    for label in labels {
        let _ = writeln!(
            text,
            "  - {{tag_name: {label}, regex: '^wasmcustom\\..*?(\\.{label}=([^.]*))'}}"
        );
    }
    text
}
