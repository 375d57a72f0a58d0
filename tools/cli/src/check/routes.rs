//! The routes of sessions and flows.

use super::around::http2;
use super::find::{Found, is_type};
use super::finding::Findings;
use super::settings::{Settings, seconds};
use crate::protocol::Protocol;
use crate::spot::Spot;

/// Checks the routes of a connection manager, as far as they stand in it.
pub(crate) fn check(
    protocol: Protocol,
    settings: &Settings,
    manager: &Spot,
    found: &Found,
    findings: &mut Findings,
) {
    let Some(config) = manager.field("route_config") else { return };
    let hosts = config.items_of("virtual_hosts");
    match protocol {
        Protocol::Mqtt => {
            // Each of them, for its mistakes.
            let with = hosts.iter().filter(|host| sessions(host, findings)).count();
            if !hosts.is_empty() && with == 0 {
                let what = "needs a route that takes POST /, which is what a session is";
                findings.error(&config, what);
            }
        }
        Protocol::Coap | Protocol::Dns => {
            for route in hosts.iter().flat_map(|host| host.items_of("routes")) {
                flow(protocol, settings, &route, found, findings);
            }
        }
    }
}

/// How a route's matcher takes some request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Never,
    /// By what is not known here, such as a header.
    Maybe,
    Always,
}

/// The routes of a virtual host that take MQTT sessions. Whether there are any.
fn sessions(host: &Spot, findings: &mut Findings) -> bool {
    let mut any = false;
    for route in host.items_of("routes") {
        let takes = takes_session(&route);
        if takes == Takes::Never {
            continue;
        }
        any = true;
        if let Some(action) = route.field("route") {
            carried_as_tcp(&action, "the session's octets reach no broker", findings);
        }
        if takes == Takes::Always {
            // Later ones never see a session.
            break;
        }
    }
    any
}

fn takes_session(route: &Spot) -> Takes {
    let Some(matcher) = route.field("match") else { return Takes::Never };
    let path = match (matcher.text_at(&["path"]), matcher.text_at(&["prefix"])) {
        (Some("/"), _) | (_, Some("/" | "")) => Takes::Always,
        (Some(_), _) | (_, Some(_)) => return Takes::Never,
        (None, None) if matcher.field("path_separated_prefix").is_some() => return Takes::Never,
        (None, None) if matcher.field("connect_matcher").is_some() => return Takes::Never,
        (None, None) => Takes::Maybe,
    };
    if carries(&matcher).is_some_and(|carry| carry != "flow") {
        return Takes::Never;
    }
    let is_plain = matcher.node.entries().len() == 1;
    if is_plain { path } else { Takes::Maybe }
}

/// The value of `x-carry` that a matcher wants.
fn carries(matcher: &Spot) -> Option<String> {
    header(matcher, "x-carry")
}

/// The exact value of a header that a matcher wants.
fn header(matcher: &Spot, name: &str) -> Option<String> {
    let headers = matcher.items_of("headers");
    let header = headers.iter().find(|header| header.text_at(&["name"]) == Some(name))?;
    if header.field("invert_match").is_some_and(|invert| invert.node.is_true()) {
        return None;
    }
    let exact =
        header.text_at(&["string_match", "exact"]).or_else(|| header.text_at(&["exact_match"]));
    exact.map(str::to_owned)
}

/// A route whose stream is to be a TCP connection.
fn carried_as_tcp(action: &Spot, else_what: &str, findings: &mut Findings) {
    let upgrades = action.items_of("upgrade_configs");
    let upgrade =
        upgrades.iter().find(|upgrade| upgrade.text_at(&["upgrade_type"]) == Some("CONNECT"));
    let allows = upgrade.map(|upgrade| upgrade.nearest(&["connect_config", "allow_post"]));
    if !allows.as_ref().is_some_and(|allows| allows.node.is_true()) {
        let what = format!(
            "needs upgrade_configs: [{{upgrade_type: CONNECT, connect_config: {{allow_post: true}}}}]: without it {else_what}"
        );
        findings.error(allows.as_ref().unwrap_or(action), what);
    }
    let timeout = action.field("timeout");
    let text = timeout.as_ref().and_then(Spot::text);
    if text.and_then(seconds) != Some(0.0) {
        let what = format!(
            "timeout should be 0s (got {}): what travels here has no end",
            text.unwrap_or("none, which is 15s")
        );
        findings.warning(timeout.as_ref().unwrap_or(action), what);
    }
}

/// A route that may take a flow of CoAP or DNS.
fn flow(
    protocol: Protocol,
    settings: &Settings,
    route: &Spot,
    found: &Found,
    findings: &mut Findings,
) {
    let (Some(matcher), Some(action)) = (route.field("match"), route.field("route")) else {
        return;
    };
    if carries(&matcher).is_some_and(|carry| carry != "flow") {
        return;
    }
    patience(&action, findings);
    let transport = header(&matcher, &format!("x-{protocol}-transport"));
    if transport.as_deref() == Some("tcp") {
        return carried_as_tcp(&action, "flows over TCP reach no server", findings);
    }
    for cluster in clusters(&action, found) {
        if !is_datagrams(&cluster) {
            continue;
        }
        if !has_udp_pool(&cluster) {
            // Over TCP, or for an HTTP service over QUIC, it may be meant.
            if settings.mode() != "observe" && http2(&cluster).is_none() && !is_http3(&cluster) {
                let what = "has endpoints over UDP, and needs upstream_config with \
                            envoy.extensions.upstreams.http.udp.v3.UdpConnectionPoolProto: else flows go there as HTTP";
                findings.error(&cluster, what);
            }
            continue;
        }
        let timeout = action.field("timeout");
        match timeout.as_ref().and_then(Spot::text).map(seconds) {
            Some(Some(0.0)) => findings.error(
                timeout.as_ref().unwrap_or(&action),
                "must not be 0s for flows over UDP: every flow would leave a stream and a socket behind. 0.25s is advised",
            ),
            None => findings.warning(
                &action,
                "timeout should be 0.25s for flows over UDP (got none, which is 15s): so long a socket stays after a flow",
            ),
            Some(_) => {}
        }
    }
}

/// A try must not be allowed to take longer than the whole.
fn patience(action: &Spot, findings: &mut Findings) {
    let time = |path: &[&str]| action.text_at(path).and_then(seconds);
    if let (Some(whole), Some(one)) =
        (time(&["timeout"]), time(&["retry_policy", "per_try_idle_timeout"]))
        && whole > 0.0
        && one >= whole
    {
        let what = format!(
            "should be shorter than the route's timeout, {whole}s (got {one}s): else it never passes"
        );
        findings.warning(&action.nearest(&["retry_policy", "per_try_idle_timeout"]), what);
    }
}

/// The clusters of a route that are in the document.
fn clusters(action: &Spot, found: &Found) -> Vec<Spot> {
    let weighted = action
        .find(&["weighted_clusters", "clusters"])
        .map(|list| list.items())
        .unwrap_or_default();
    let weighted =
        weighted.iter().filter_map(|cluster| cluster.text_at(&["name"]).map(str::to_owned));
    let names: Vec<_> =
        action.text_at(&["cluster"]).map(str::to_owned).into_iter().chain(weighted).collect();
    let is_named =
        |cluster: &&Spot| names.iter().any(|name| cluster.text_at(&["name"]) == Some(name));
    found.clusters.iter().filter(is_named).cloned().collect()
}

fn has_udp_pool(cluster: &Spot) -> bool {
    cluster
        .find(&["upstream_config", "typed_config"])
        .is_some_and(|typed| is_type(&typed, "UdpConnectionPoolProto"))
}

/// Whether any endpoint is reached over UDP, or is to be by the cluster's pool.
fn is_datagrams(cluster: &Spot) -> bool {
    if has_udp_pool(cluster) {
        return true;
    }
    let mut rest: Vec<_> = cluster.field("load_assignment").into_iter().collect();
    while let Some(spot) = rest.pop() {
        if spot.text_at(&["socket_address", "protocol"]) == Some("UDP") {
            return true;
        }
        rest.extend(spot.children());
    }
    false
}

fn is_http3(cluster: &Spot) -> bool {
    let options =
        cluster.field("typed_extension_protocol_options").map(|options| options.children());
    let has = |options: &Spot| {
        options.find(&["explicit_http_config", "http3_protocol_options"]).is_some()
    };
    options.unwrap_or_default().iter().any(has)
}
