//! What has to stand around our filters, so that they can work: the tables of docs/mqtt.md, docs/coap.md and docs/dns.md.

use super::find::{Found, Next, OurFilter, PluginKind, is_type};
use super::finding::Findings;
use super::routes;
use super::settings::{Settings, seconds};
use crate::protocol::Protocol;
use crate::spot::Spot;

/// Checks what stands around one filter.
pub(crate) fn check(
    filter: &OurFilter,
    settings: &Settings,
    found: &Found,
    findings: &mut Findings,
) {
    match filter.kind {
        PluginKind::Envoy => failure_policy(filter, "failure_policy", findings),
        PluginKind::Istio => {
            failure_policy(filter, "failStrategy", findings);
            wasm_plugin(filter, findings);
        }
    }
    if let Some(listener) = &filter.listener {
        transport(filter, settings, listener, findings);
        servers(filter, settings, listener, found, findings);
    }
    if filter.protocol == Protocol::Mqtt {
        alpn(filter, findings);
    }
    let is_watching = settings.mode() == "observe";
    match &filter.next {
        Next::Unknown => {}
        Next::Nothing if is_watching => findings.error(
            &filter.plugin,
            "needs a filter after it: tcp_proxy, or for UDP an HTTP connection manager",
        ),
        Next::Nothing => findings.error(
            &filter.plugin,
            "needs an HTTP connection manager after it: it speaks HTTP/2 to the next filter",
        ),
        Next::Filter(next) if is_watching => watched(filter, settings, next, findings),
        Next::Filter(next) => bridged(filter, settings, next, found, findings),
    }
}

fn failure_policy(filter: &OurFilter, field: &str, findings: &mut Findings) {
    let policy = filter.plugin.field(field);
    match policy.as_ref().and_then(Spot::text) {
        Some("FAIL_RELOAD") => {}
        got => {
            let what = format!(
                "{field} should be FAIL_RELOAD (got {}): else after a trap every connection is refused until \
                 Envoy restarts, or octets pass unchecked",
                got.unwrap_or("none")
            );
            findings.warning(policy.as_ref().unwrap_or(&filter.plugin), what);
        }
    }
}

fn wasm_plugin(filter: &OurFilter, findings: &mut Findings) {
    let of = filter.plugin.field("type");
    if of.as_ref().and_then(Spot::text) != Some("NETWORK") {
        let what =
            "has to be type: NETWORK: the modules are network filters, and Istio's default is HTTP";
        findings.error(of.as_ref().unwrap_or(&filter.plugin), what);
    }
}

/// Whether the listener gives what the transport needs.
fn transport(filter: &OurFilter, settings: &Settings, listener: &Spot, findings: &mut Findings) {
    if is_udp(listener) {
        let what = "cannot be on a UDP listener: Envoy runs no network filters there. The datagrams come through udp_proxy \
                    with tunneling_config, and an internal listener, where the filter is";
        return findings.error(&filter.plugin, what);
    }
    let has_socket = listener.find(&["address", "socket_address"]).is_some();
    let over_udp = matches!(settings.transport(), "udp" | "dtls") && settings.mode() != "egress";
    if has_socket && over_udp && filter.protocol != Protocol::Mqtt {
        let place = settings.spot.field("transport").unwrap_or_else(|| settings.spot.clone());
        let what = format!(
            "transport: {} takes the tunnels of udp_proxy, but this is a TCP listener: its clients need transport: tcp",
            settings.transport()
        );
        findings.warning(&place, what);
    }
}

pub(crate) fn is_udp(listener: &Spot) -> bool {
    listener.text_at(&["address", "socket_address", "protocol"]) == Some("UDP")
}

/// The clusters that lead to the filter: to some transports they have to speak HTTP/2.
fn servers(
    filter: &OurFilter,
    settings: &Settings,
    listener: &Spot,
    found: &Found,
    findings: &mut Findings,
) {
    if settings.transport() != "https" && settings.mode() != "egress" {
        return;
    }
    let Some(name) = listener.text_at(&["name"]) else { return };
    for cluster in found
        .clusters
        .iter()
        .filter(|cluster| internal_targets(cluster).iter().any(|to| to == name))
    {
        if http2(cluster).is_none() {
            let what = format!(
                "needs http2_protocol_options (explicit_http_config of its HttpProtocolOptions): the {} filter that it \
                 leads to speaks HTTP/2 only",
                filter.protocol
            );
            findings.error(cluster, what);
        }
    }
}

/// MQTT over WebSocket is HTTP/1.1.
fn alpn(filter: &OurFilter, findings: &mut Findings) {
    let path = ["transport_socket", "typed_config", "common_tls_context", "alpn_protocols"];
    let Some(protocols) = filter.chain.as_ref().and_then(|chain| chain.find(&path)) else { return };
    for protocol in protocols.items() {
        if protocol.text() == Some("h2") {
            let what = "should not offer h2: the filter takes MQTT, and WebSockets over HTTP/1.1";
            findings.warning(&protocol, what);
        }
    }
}

/// The filter after one that speaks HTTP/2 to it.
fn bridged(
    filter: &OurFilter,
    settings: &Settings,
    next: &Spot,
    found: &Found,
    findings: &mut Findings,
) {
    let Some(manager) = manager(next) else {
        let what = format!(
            "has to be an HTTP connection manager: with mode: {} the {} filter before it speaks HTTP/2",
            settings.mode(),
            filter.protocol
        );
        return findings.error(next, what);
    };
    let codec = manager.field("codec_type");
    let both = filter.protocol == Protocol::Mqtt && settings.codec() == "auto";
    let got = codec.as_ref().and_then(Spot::text);
    if both && got.is_some_and(|got| got != "AUTO") {
        let what = "codec_type has to be AUTO: with codec: auto the filter before it speaks HTTP/1.1 and HTTP/2".to_owned();
        findings.error(codec.as_ref().unwrap_or(&manager), what);
    } else if !both && got != Some("HTTP2") {
        let got = got.unwrap_or("none, which is AUTO").to_owned();
        let what = format!(
            "codec_type has to be HTTP2, which is what the filter before it speaks (got {got})"
        );
        findings.error(codec.as_ref().unwrap_or(&manager), what);
    }
    idle(&manager, findings);
    if filter.protocol != Protocol::Mqtt
        && let Some(address) = manager.field("use_remote_address").filter(|it| it.node.is_true())
    {
        let what = "should be false: the filter says in x-forwarded-for who the client is, and the connection's address is \
                    another";
        if settings.transport() == "udp"
            || settings.transport() == "dtls"
            || settings.transport() == "https"
        {
            findings.warning(&address, what);
        }
    }
    streams(filter, settings, &manager, findings);
    routes::check(filter.protocol, settings, &manager, found, findings);
}

/// Sessions and flows may be silent.
fn idle(manager: &Spot, findings: &mut Findings) {
    let idle = manager.field("stream_idle_timeout");
    let text = idle.as_ref().and_then(Spot::text);
    if text.and_then(seconds) != Some(0.0) {
        let what = format!(
            "stream_idle_timeout should be 0s (got {}): it cuts sessions and flows that are merely silent",
            text.unwrap_or("none, which is 300s")
        );
        findings.warning(idle.as_ref().unwrap_or(manager), what);
    }
}

/// A session is one stream, and each message that waits for an answer one more.
fn streams(filter: &OurFilter, settings: &Settings, manager: &Spot, findings: &mut Findings) {
    if filter.protocol != Protocol::Mqtt || !settings.has("rules") {
        return;
    }
    let most = manager.find(&["http2_protocol_options", "max_concurrent_streams"]);
    let needed = settings.number("max_pending_messages", 64) + 1;
    if let Some(spot) = &most
        && let Some(most) = spot.text().and_then(|text| text.parse::<u64>().ok())
        && most < needed
    {
        let what = format!(
            "should be at least {needed}, max_pending_messages of the filter and one for the session (got {most})"
        );
        findings.warning(spot, what);
    }
}

/// The filter after one that only watches.
fn watched(filter: &OurFilter, settings: &Settings, next: &Spot, findings: &mut Findings) {
    if let Some(manager) = manager(next) {
        if filter.protocol == Protocol::Mqtt || settings.transport() != "udp" {
            let what = "should be tcp_proxy: with mode: observe the octets are those of the protocol, not HTTP";
            return findings.error(next, what);
        }
        return tunnel_end(&manager, findings);
    }
    let Some(typed) = next.field("typed_config").filter(|typed| is_type(typed, "TcpProxy")) else {
        return;
    };
    if filter.protocol != Protocol::Mqtt {
        return;
    }
    let idle = typed.field("idle_timeout");
    let text = idle.as_ref().and_then(Spot::text);
    if text.and_then(seconds) != Some(0.0) {
        let what = format!(
            "idle_timeout should be 0s (got {}): an MQTT session may be silent for as long as its keep alive allows",
            text.unwrap_or("none, which is 3600s")
        );
        findings.warning(idle.as_ref().unwrap_or(&typed), what);
    }
    if !settings.has("tcp_proxy_clusters") {
        return;
    }
    if typed.text_at(&["upstream_connect_mode"]) != Some("ON_DOWNSTREAM_DATA") {
        let what = "needs upstream_connect_mode: ON_DOWNSTREAM_DATA: with tcp_proxy_clusters the client's CONNECT decides \
                    about the cluster, and without it nothing is read before there is a connection to one";
        findings.error(&typed, what);
    }
    let early = typed.field("max_early_data_bytes");
    let needed = settings.number("max_connect_size", 65_536);
    let got =
        early.as_ref().and_then(Spot::text).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if got < needed {
        let what = format!(
            "max_early_data_bytes should be at least max_connect_size of the filter, {needed} (got {got})"
        );
        findings.warning(early.as_ref().unwrap_or(&typed), what);
    }
}

/// The connection manager behind a filter that watches tunnels ends them.
fn tunnel_end(manager: &Spot, findings: &mut Findings) {
    let codec = manager.field("codec_type");
    if codec.as_ref().and_then(Spot::text) != Some("HTTP2") {
        findings.error(
            codec.as_ref().unwrap_or(manager),
            "codec_type has to be HTTP2: the tunnels of udp_proxy are",
        );
    }
    idle(manager, findings);
    let options = manager.nearest(&["http2_protocol_options", "allow_connect"]);
    if !options.node.is_true() {
        findings.error(
            &options,
            "needs http2_protocol_options: {allow_connect: true}: tunnels are CONNECT requests",
        );
    }
    let upgrades = manager.items_of("upgrade_configs");
    if !upgrades.iter().any(|upgrade| upgrade.text_at(&["upgrade_type"]) == Some("CONNECT-UDP")) {
        findings.error(
            &manager.nearest(&["upgrade_configs"]),
            "needs upgrade_configs: [{upgrade_type: CONNECT-UDP}]",
        );
    }
}

/// The configuration of an HTTP connection manager.
fn manager(filter: &Spot) -> Option<Spot> {
    filter.field("typed_config").filter(|typed| is_type(typed, "HttpConnectionManager"))
}

/// The HTTP/2 options of a cluster, if it speaks nothing else.
pub(crate) fn http2(cluster: &Spot) -> Option<Spot> {
    let options =
        cluster.field("typed_extension_protocol_options").map(|options| options.children());
    let explicit =
        |options: &Spot| options.find(&["explicit_http_config", "http2_protocol_options"]);
    let explicit = options.unwrap_or_default().iter().find_map(explicit);
    explicit.or_else(|| cluster.field("http2_protocol_options"))
}

/// The internal listeners that a cluster leads to.
pub(crate) fn internal_targets(cluster: &Spot) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = vec![cluster.field("load_assignment")];
    while let Some(spot) = rest.pop() {
        let Some(spot) = spot else { continue };
        if let Some(name) = spot.text_at(&["envoy_internal_address", "server_listener_name"]) {
            names.push(name.to_owned());
        }
        rest.extend(spot.children().into_iter().map(Some));
    }
    names
}
