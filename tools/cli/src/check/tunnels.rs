//! How datagrams get to a filter: `udp_proxy`, the cluster with its tunnels, and the internal listener.

use super::around::{http2, internal_targets, is_udp};
use super::find::{Found, OurFilter, is_type};
use super::finding::Findings;
use super::settings::{Settings, seconds};
use crate::protocol::Protocol;
use crate::spot::Spot;

/// Checks the way of datagrams to our filters in a document.
pub(crate) fn check(found: &Found, settings: &[Settings], findings: &mut Findings) {
    for listener in found.listeners.iter().filter(|listener| is_udp(listener)) {
        for proxy in listener.items_of("listener_filters") {
            let Some(typed) = proxy.field("typed_config") else { continue };
            if !is_type(&typed, "UdpProxyConfig") {
                continue;
            }
            for name in cluster_names(&typed) {
                let is_it = |cluster: &&Spot| cluster.text_at(&["name"]) == Some(&name);
                for cluster in found.clusters.iter().filter(is_it) {
                    tunnel(&typed, cluster, found, settings, findings);
                }
            }
        }
    }
    bootstrap(found, findings);
}

/// Internal listeners need an extension, where the whole bootstrap is here.
fn bootstrap(found: &Found, findings: &mut Findings) {
    let Some(internal) =
        found.listeners.iter().find_map(|listener| listener.field("internal_listener"))
    else {
        return;
    };
    for bootstrap in &found.bootstraps {
        let extensions = bootstrap.items_of("bootstrap_extensions");
        let has = extensions.iter().filter_map(|extension| extension.field("typed_config"));
        if bootstrap.field("static_resources").is_some()
            && !has.into_iter().any(|it| is_type(&it, "InternalListener"))
        {
            let what = "needs the bootstrap extension envoy.bootstrap.internal_listener (bootstrap_extensions), without \
                        which Envoy does not start";
            findings.error(&internal, what);
        }
    }
}

/// One `udp_proxy` and one cluster of its.
fn tunnel(
    proxy: &Spot,
    cluster: &Spot,
    found: &Found,
    settings: &[Settings],
    findings: &mut Findings,
) {
    let targets = internal_targets(cluster);
    for target in &targets {
        let is_it = |listener: &&Spot| listener.text_at(&["name"]) == Some(target);
        let Some(listener) = found.listeners.iter().find(is_it) else {
            findings.error(
                cluster,
                format!("leads to an internal listener that is not here: {target}"),
            );
            continue;
        };
        let filters = found.filters.iter().zip(settings);
        for (filter, settings) in filters {
            if filter.listener.as_ref().is_some_and(|of| of.path == listener.path) {
                leads_to(filter, settings, proxy, cluster, findings);
            }
        }
    }
}

fn leads_to(
    filter: &OurFilter,
    settings: &Settings,
    proxy: &Spot,
    cluster: &Spot,
    findings: &mut Findings,
) {
    if filter.protocol == Protocol::Mqtt {
        return findings.error(&filter.plugin, "takes no datagrams: MQTT is over TCP");
    }
    if !matches!(settings.transport(), "udp" | "dtls") {
        let place = settings.spot.nearest(&["transport"]);
        let what = format!(
            "has to be udp{}: datagrams of udp_proxy come here (got {})",
            if filter.protocol == Protocol::Coap { " or dtls" } else { "" },
            settings.transport()
        );
        findings.error(&place, what);
    }
    let is_bridge = settings.mode() == "bridge";
    sessions(filter, is_bridge, proxy, findings);
    if is_bridge {
        idle(filter, settings, proxy, findings);
    }
    match http2(cluster) {
        Some(options) if options.field("allow_connect").is_some_and(|allow| allow.node.is_true()) => {}
        options => findings.error(
            options.as_ref().unwrap_or(cluster),
            "needs http2_protocol_options: {allow_connect: true} (explicit_http_config of its HttpProtocolOptions): the \
             tunnels of udp_proxy are CONNECT requests of HTTP/2",
        ),
    }
    let thresholds = cluster
        .find(&["circuit_breakers", "thresholds"])
        .map(|list| list.items())
        .unwrap_or_default();
    for limit in ["max_connections", "max_pending_requests", "max_requests"] {
        if !thresholds.iter().any(|threshold| threshold.field(limit).is_some()) {
            let what = format!(
                "circuit_breakers should set {limit} to as many sessions as there may be: Envoy's default is 1024"
            );
            findings.warning(&cluster.nearest(&["circuit_breakers"]), what);
        }
    }
}

/// What `udp_proxy` has to do with a client's datagrams.
fn sessions(filter: &OurFilter, is_bridge: bool, proxy: &Spot, findings: &mut Findings) {
    let capsules = proxy.items_of("session_filters");
    let is_capsule = |filter: &Spot| {
        filter
            .field("typed_config")
            .is_some_and(|typed| is_type(&typed, "http_capsule.v3.FilterConfig"))
    };
    if !capsules.iter().any(is_capsule) {
        let what = "needs the session filter envoy.filters.udp.session.http_capsule (session_filters): the filter takes \
                    datagrams in capsules";
        findings.error(&proxy.nearest(&["session_filters"]), what);
    }
    let Some(tunneling) = proxy.field("tunneling_config") else {
        let what = "needs tunneling_config: without it the datagrams do not come to the filter as a stream";
        return findings.error(proxy, what);
    };
    if tunneling.field("buffer_options").is_none() {
        let what = "needs buffer_options, {} at least: without it the datagrams that come before the tunnel is there are \
                    lost, and so is every client's first";
        findings.error(&tunneling, what);
    }
    let headers = tunneling.items_of("headers_to_add");
    let is_forwarded = |header: &&Spot| {
        header
            .text_at(&["header", "key"])
            .is_some_and(|key| key.eq_ignore_ascii_case("x-forwarded-for"))
    };
    let forwarded = headers.iter().find(is_forwarded);
    let value = forwarded.and_then(|header| header.text_at(&["header", "value"]));
    // Who only watches does not look at it.
    let wanted: &[&str] = match (is_bridge, filter.protocol) {
        (false, _) => return,
        (true, Protocol::Coap) => &["%DOWNSTREAM_REMOTE_ADDRESS%"],
        (true, _) => &["%DOWNSTREAM_REMOTE_ADDRESS%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"],
    };
    if !value.is_some_and(|value| wanted.contains(&value)) {
        let what = format!(
            "headers_to_add should have x-forwarded-for: \"%DOWNSTREAM_REMOTE_ADDRESS%\" (got {}): it is how the filter \
             knows the client",
            value.unwrap_or("none")
        );
        findings.warning(forwarded.unwrap_or(&tunneling), what);
    }
}

/// `udp_proxy` must not end what the filter keeps.
fn idle(filter: &OurFilter, settings: &Settings, proxy: &Spot, findings: &mut Findings) {
    let own: &[(&[&str], f64)] = match (filter.protocol, settings.transport()) {
        (Protocol::Coap, "dtls") => &[(&["dtls", "idle_timeout"], 600.0)],
        (Protocol::Coap, _) => &[(&["idle_timeout"], 2.0), (&["registration_timeout"], 0.0)],
        (_, _) => &[(&["idle_timeout"], 10.0)],
    };
    let spot = proxy.field("idle_timeout");
    let text = spot.as_ref().and_then(Spot::text);
    let proxys = text.and_then(seconds).unwrap_or(60.0);
    for (path, default) in own {
        let filters = settings.seconds(path, *default);
        // 0s is for ever.
        if proxys > 0.0 && proxys <= filters {
            let what = format!(
                "idle_timeout of udp_proxy should be longer than {} of the filter, {filters}s (got {})",
                path.join("."),
                text.unwrap_or("none, which is 60s")
            );
            findings.warning(spot.as_ref().unwrap_or(proxy), what);
        }
    }
}

/// The clusters that a `udp_proxy` may choose.
fn cluster_names(proxy: &Spot) -> Vec<String> {
    let mut names: Vec<_> = proxy.text_at(&["cluster"]).map(str::to_owned).into_iter().collect();
    let mut rest: Vec<_> = proxy.field("matcher").into_iter().collect();
    while let Some(spot) = rest.pop() {
        if is_type(&spot, "udp_proxy.v3.Route") {
            names.extend(spot.text_at(&["cluster"]).map(str::to_owned));
        }
        rest.extend(spot.children());
    }
    names
}
