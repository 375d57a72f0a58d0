//! Istio's EnvoyFilter, applied as istiod applies it.
//!
//! The order is istiod's: for each listener its own patches, then those of each filter chain's network filters, of which
//! merges come last, then those of the HTTP filters in a connection manager; listeners that are added are not patched.

use std::cell::Cell;
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::manifest::Manifest;
use crate::merge::{merge, merge_any};
use crate::proxy::{Proxy, destination_port, filter_chains, name, port};

const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// What a proxy's resources are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PatchContext {
    /// All of them; only in patches.
    #[default]
    Any,
    /// What a sidecar's workload gets.
    SidecarInbound,
    /// What a sidecar's workload sends.
    SidecarOutbound,
    /// A gateway.
    Gateway,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    workload_selector: Option<WorkloadSelector>,
    config_patches: Vec<ConfigPatch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadSelector {
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ConfigPatch {
    apply_to: ApplyTo,
    #[serde(default, rename = "match")]
    condition: Match,
    patch: Patch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ApplyTo {
    Listener,
    NetworkFilter,
    HttpFilter,
    HttpRoute,
    Cluster,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    operation: Operation,
    #[serde(default)]
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Operation {
    Merge,
    Add,
    Remove,
    InsertBefore,
    InsertAfter,
    InsertFirst,
    Replace,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Match {
    context: PatchContext,
    listener: Option<ListenerMatch>,
    route_configuration: Option<RouteConfigurationMatch>,
    cluster: Option<ClusterMatch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct ListenerMatch {
    name: Option<String>,
    port_number: Option<u64>,
    filter_chain: Option<FilterChainMatch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct FilterChainMatch {
    destination_port: Option<u64>,
    filter: Option<FilterMatch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FilterMatch {
    name: String,
    sub_filter: Option<Named>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RouteConfigurationMatch {
    name: Option<String>,
    vhost: Option<VirtualHostMatch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct VirtualHostMatch {
    name: Option<String>,
    route: Option<RouteMatch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RouteMatch {
    name: Option<String>,
    action: Option<RouteAction>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum RouteAction {
    Route,
    DirectResponse,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterMatch {
    name: String,
}

/// A patch, and how often something matched it.
struct Counted {
    title: String,
    patch: ConfigPatch,
    applied: Cell<usize>,
}

/// Applies all patches of these EnvoyFilters, in the order given; istiod's is that of `priority`, then of creation.
pub fn apply(proxy: &mut Proxy, context: PatchContext, filters: &[Manifest]) -> Result<()> {
    let mut patches = Vec::new();
    for filter in filters {
        ensure!(filter.kind() == "EnvoyFilter", "{} is no EnvoyFilter", filter.title());
        let spec: Spec = filter.spec()?;
        for (label, value) in spec.workload_selector.iter().flat_map(|selector| &selector.labels) {
            ensure!(
                proxy.labels.get(label) == Some(value),
                "{} selects {label}={value}, the proxy has {:?}",
                filter.title(),
                proxy.labels
            );
        }
        for (number, patch) in spec.config_patches.into_iter().enumerate() {
            let title = format!("{}, patch {}", filter.title(), number + 1);
            let wanted = patch.condition.context;
            ensure!(wanted == context || wanted == PatchContext::Any, "{title} is for {wanted:?}");
            patches.push(Counted { title, patch, applied: Cell::new(0) });
        }
    }
    let patches = Patches(patches);
    patches.listeners(&mut proxy.listeners)?;
    patches.clusters(&mut proxy.clusters)?;
    proxy.routes.iter_mut().try_for_each(|routes| patches.routes(routes))?;
    match patches.0.iter().find(|counted| counted.applied.get() == 0) {
        Some(counted) => bail!("{} applies to nothing", counted.title),
        None => Ok(()),
    }
}

struct Patches(Vec<Counted>);

impl Patches {
    fn of(&self, apply_to: ApplyTo) -> impl Iterator<Item = &Counted> {
        self.0.iter().filter(move |counted| counted.patch.apply_to == apply_to)
    }

    fn listeners(&self, listeners: &mut Vec<Value>) -> Result<()> {
        for listener in listeners.iter_mut() {
            for counted in self.of(ApplyTo::Listener) {
                let condition = counted.patch.condition.listener.as_ref();
                if counted.operation() == Operation::Merge
                    && condition.is_none_or(|wanted| wanted.matches_listener(listener))
                {
                    counted.merge(listener)?;
                }
            }
            self.filter_chains(listener)?;
        }
        for counted in self.of(ApplyTo::Listener) {
            match counted.operation() {
                Operation::Merge => {}
                Operation::Add => listeners.push(counted.value()?),
                other => bail!("{}: {other:?} of a listener is not supported", counted.title),
            }
        }
        Ok(())
    }

    fn filter_chains(&self, listener: &mut Value) -> Result<()> {
        // What a match asks of it, without its chains.
        let head = Head::of(listener);
        filter_chains(listener).into_iter().try_for_each(|chain| self.network_filters(&head, chain))
    }

    fn network_filters(&self, listener: &Head, chain: &mut Value) -> Result<()> {
        let port = destination_port(chain);
        let here = |counted: &&Counted| {
            let wanted = counted.patch.condition.listener.as_ref();
            wanted.is_none_or(|wanted| listener.matches(wanted, port))
        };
        let Some(filters) = chain.get_mut("filters").and_then(Value::as_array_mut) else {
            return Ok(());
        };
        for counted in self.of(ApplyTo::NetworkFilter).filter(here) {
            counted.edit(filters, counted.patch.filter_name())?;
        }
        for filter in filters {
            for counted in self.of(ApplyTo::NetworkFilter).filter(here) {
                counted.merge_filter(filter, counted.patch.filter_name())?;
            }
            if name(filter) != HTTP_CONNECTION_MANAGER {
                continue;
            }
            let http_filters = filter.pointer_mut("/typed_config/http_filters");
            let Some(http_filters) = http_filters.and_then(Value::as_array_mut) else { continue };
            for counted in self.of(ApplyTo::HttpFilter).filter(here) {
                counted.edit(http_filters, counted.patch.http_filter_name())?;
                for http_filter in http_filters.iter_mut() {
                    counted.merge_filter(http_filter, counted.patch.http_filter_name())?;
                }
            }
        }
        Ok(())
    }

    fn clusters(&self, clusters: &mut Vec<Value>) -> Result<()> {
        for counted in self.of(ApplyTo::Cluster) {
            let wanted =
                counted.patch.condition.cluster.as_ref().map(|wanted| wanted.name.as_str());
            match counted.operation() {
                Operation::Add => clusters.push(counted.value()?),
                Operation::Merge => {
                    for cluster in clusters.iter_mut().filter(|cluster| is_named(cluster, wanted)) {
                        counted.merge(cluster)?;
                    }
                }
                other => bail!("{}: {other:?} of a cluster is not supported", counted.title),
            }
        }
        Ok(())
    }

    fn routes(&self, configuration: &mut Value) -> Result<()> {
        for counted in self.of(ApplyTo::HttpRoute) {
            ensure!(
                counted.operation() == Operation::Merge,
                "{}: of a route only a merge is supported",
                counted.title
            );
            let any = RouteConfigurationMatch::default();
            let wanted = counted.patch.condition.route_configuration.as_ref().unwrap_or(&any);
            if !is_named(configuration, wanted.name.as_deref()) {
                continue;
            }
            let any = VirtualHostMatch::default();
            let host = wanted.vhost.as_ref().unwrap_or(&any);
            let hosts = configuration.get_mut("virtual_hosts").and_then(Value::as_array_mut);
            for virtual_host in hosts.into_iter().flatten() {
                if !is_named(virtual_host, host.name.as_deref()) {
                    continue;
                }
                let routes = virtual_host.get_mut("routes").and_then(Value::as_array_mut);
                for route in routes.into_iter().flatten() {
                    if host.route.as_ref().is_none_or(|wanted| wanted.matches(route)) {
                        counted.merge(route)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Counted {
    fn operation(&self) -> Operation {
        self.patch.patch.operation
    }

    /// The value to add; counted.
    fn value(&self) -> Result<Value> {
        let value = &self.patch.patch.value;
        ensure!(value.is_object(), "{} has no value", self.title);
        self.applied.set(self.applied.get() + 1);
        Ok(value.clone())
    }

    fn merge(&self, into: &mut Value) -> Result<()> {
        merge(into, &self.value()?).with_context(|| self.title.clone())
    }

    /// All operations on a list of filters but the merge. `wanted` is the filter's name in the match.
    fn edit(&self, filters: &mut Vec<Value>, wanted: Option<&str>) -> Result<()> {
        let found = filters.iter().position(|filter| is_named(filter, wanted));
        let place = match (self.operation(), wanted, found) {
            (Operation::Merge, ..) => return Ok(()),
            (Operation::Add, ..) | (Operation::InsertAfter, None, _) => filters.len(),
            (Operation::InsertFirst, ..) | (Operation::InsertBefore, None, _) => 0,
            (Operation::InsertBefore, Some(_), Some(found)) => found,
            (Operation::InsertAfter, Some(_), Some(found)) => found + 1,
            (Operation::Replace, Some(_), Some(found)) => {
                filters.remove(found);
                found
            }
            (Operation::Remove, Some(_), Some(_)) => {
                filters.retain(|filter| !is_named(filter, wanted));
                self.applied.set(self.applied.get() + 1);
                return Ok(());
            }
            (_, Some(_), None) | (Operation::Replace | Operation::Remove, None, _) => return Ok(()),
        };
        filters.insert(place, self.value()?);
        Ok(())
    }

    /// Merges into a filter whose name is wanted: the configurations, and the name if there is one.
    fn merge_filter(&self, filter: &mut Value, wanted: Option<&str>) -> Result<()> {
        if self.operation() != Operation::Merge || !is_named(filter, wanted) {
            return Ok(());
        }
        let value = self.value()?;
        let fields = value.as_object().into_iter().flatten();
        for (key, value) in fields {
            match (key.as_str(), filter.get_mut(key)) {
                ("typed_config", Some(existing)) => {
                    merge_any(existing, value).with_context(|| self.title.clone())?;
                }
                ("name", Some(existing)) => *existing = value.clone(),
                _ => bail!("{}: a merge does not set {key} of a filter", self.title),
            }
        }
        Ok(())
    }
}

impl ConfigPatch {
    fn filter(&self) -> Option<&FilterMatch> {
        self.condition.listener.as_ref()?.filter_chain.as_ref()?.filter.as_ref()
    }

    fn filter_name(&self) -> Option<&str> {
        self.filter().map(|filter| filter.name.as_str())
    }

    fn http_filter_name(&self) -> Option<&str> {
        self.filter()?.sub_filter.as_ref().map(|filter| filter.name.as_str())
    }
}

/// What matches ask of a listener.
struct Head {
    name: String,
    port: Option<u64>,
}

impl Head {
    fn of(listener: &Value) -> Self {
        Self { name: name(listener).to_owned(), port: port(listener) }
    }

    /// Whether a patch of what is in a filter chain for this destination port is meant.
    fn matches(&self, wanted: &ListenerMatch, destination_port: Option<u64>) -> bool {
        let port = self.port.or(destination_port);
        let chain = wanted.filter_chain.as_ref().and_then(|chain| chain.destination_port);
        wanted.name.as_ref().is_none_or(|name| *name == self.name)
            && wanted.port_number.is_none_or(|number| port == Some(number))
            && chain.is_none_or(|number| destination_port == Some(number))
    }
}

impl ListenerMatch {
    fn matches_listener(&self, listener: &Value) -> bool {
        let head = Head::of(listener);
        self.name.as_ref().is_none_or(|name| *name == head.name)
            && self.port_number.is_none_or(|number| head.port == Some(number))
    }
}

impl RouteMatch {
    fn matches(&self, route: &Value) -> bool {
        let action = match self.action {
            Some(RouteAction::Route) => "route",
            Some(RouteAction::DirectResponse) => "direct_response",
            None => return is_named(route, self.name.as_deref()),
        };
        is_named(route, self.name.as_deref()) && route.get(action).is_some()
    }
}

fn is_named(resource: &Value, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| name(resource) == wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HCM: &str = HTTP_CONNECTION_MANAGER;

    fn gateway() -> Proxy {
        Proxy::from_yaml(
            "labels: {istio: ingressgateway}
bootstrap: {}
listeners:
- name: 0.0.0.0_1883
  address: {socket_address: {address: 0.0.0.0, port_value: 1883}}
  filter_chains:
  - filters:
    - name: first
    - name: envoy.filters.network.http_connection_manager
      typed_config: {'@type': hcm, list: [a], http_filters: [{name: rbac, typed_config: {'@type': rbac}}, {name: router}]}
- name: 0.0.0.0_80
  address: {socket_address: {address: 0.0.0.0, port_value: 80}}
  default_filter_chain: {filters: [{name: first}, {name: envoy.filters.network.http_connection_manager}]}
routes:
- name: http.1883
  virtual_hosts:
  - name: '*:1883'
    routes: [{name: a, route: {cluster: x}}, {name: b, direct_response: {status: 200}}]
clusters: [{name: first}, {name: second}]
",
        )
        .unwrap()
    }

    fn patched(patch: Value) -> Result<Proxy> {
        let mut proxy = gateway();
        apply(&mut proxy, PatchContext::Gateway, &[filter(json!([patch]))])?;
        Ok(proxy)
    }

    fn filter(patches: Value) -> Manifest {
        let manifest = json!({
            "apiVersion": "v1", "kind": "EnvoyFilter", "metadata": {"name": "test"},
            "spec": {"workloadSelector": {"labels": {"istio": "ingressgateway"}}, "configPatches": patches},
        });
        Manifest::read_all(&manifest.to_string()).unwrap().remove(0)
    }

    /// Of network filters of the listener on 1883.
    fn network_filters(operation: &str, filter: Option<&str>) -> Result<Vec<String>> {
        let filter = filter.map(|name| json!({"name": name}));
        let proxy = patched(json!({
            "applyTo": "NETWORK_FILTER",
            "match": {"listener": {"portNumber": 1883, "filterChain": {"filter": filter}}},
            "patch": {"operation": operation, "value": {"name": "new"}},
        }))?;
        let other = &proxy.listeners[1]["default_filter_chain"]["filters"];
        assert_eq!(names(other), ["first", HCM], "another listener is patched");
        Ok(names(&proxy.listeners[0]["filter_chains"][0]["filters"]))
    }

    fn names(list: &Value) -> Vec<String> {
        list.as_array().unwrap().iter().map(|item| name(item).to_owned()).collect()
    }

    #[test]
    fn a_filter_is_put_where_the_operation_says() {
        let of = |operation, filter| network_filters(operation, filter).unwrap();
        assert_eq!(of("INSERT_BEFORE", Some(HCM)), ["first", "new", HCM]);
        assert_eq!(of("INSERT_BEFORE", None), ["new", "first", HCM]);
        assert_eq!(of("INSERT_AFTER", Some("first")), ["first", "new", HCM]);
        assert_eq!(of("INSERT_AFTER", None), ["first", HCM, "new"]);
        assert_eq!(of("INSERT_FIRST", Some(HCM)), ["new", "first", HCM]);
        assert_eq!(of("ADD", None), ["first", HCM, "new"]);
        assert_eq!(of("REPLACE", Some("first")), ["new", HCM]);
        assert_eq!(of("REMOVE", Some("first")), [HCM]);
    }

    #[test]
    fn a_filter_that_is_not_there_is_an_error() {
        for operation in ["INSERT_BEFORE", "INSERT_AFTER", "REPLACE", "REMOVE", "MERGE"] {
            let error = network_filters(operation, Some("missing")).unwrap_err().to_string();
            assert!(error.contains("EnvoyFilter test, patch 1 applies to nothing"), "{error}");
        }
        for operation in ["REPLACE", "REMOVE"] {
            assert!(network_filters(operation, None).is_err());
        }
    }

    #[test]
    fn every_filter_chain_of_a_matching_listener_is_patched() {
        let proxy = patched(json!({
            "applyTo": "NETWORK_FILTER",
            "match": {"listener": {"filterChain": {"filter": {"name": HCM}}}},
            "patch": {"operation": "INSERT_BEFORE", "value": {"name": "new"}},
        }))
        .unwrap();
        let other = &proxy.listeners[1]["default_filter_chain"]["filters"];
        assert_eq!(names(other), ["first", "new", HCM]);
    }

    #[test]
    fn a_merge_goes_into_the_filter_s_configuration() {
        let merge = |typed_config: Value| {
            patched(json!({
                "applyTo": "NETWORK_FILTER",
                "match": {"listener": {"name": "0.0.0.0_1883", "filterChain": {"filter": {"name": HCM}}}},
                "patch": {"operation": "MERGE", "value": {"name": HCM, "typed_config": typed_config}},
            }))
        };
        let proxy = merge(json!({"@type": "hcm", "codec_type": "HTTP2", "list": ["b"]})).unwrap();
        let config = &proxy.listeners[0]["filter_chains"][0]["filters"][1]["typed_config"];
        assert_eq!(config["codec_type"], "HTTP2");
        assert_eq!(config["list"], json!(["a", "b"]));
        assert_eq!(names(&config["http_filters"]), ["rbac", "router"]);
        assert!(merge(json!({"@type": "other"})).is_err());
    }

    #[test]
    fn http_filters_are_patched_by_their_names() {
        let patch = |operation: &str, sub_filter: &str, value: Value| {
            let proxy = patched(json!({
                "applyTo": "HTTP_FILTER",
                "match": {"listener": {"filterChain": {"filter": {"name": HCM, "subFilter": {"name": sub_filter}}}}},
                "patch": {"operation": operation, "value": value},
            }))?;
            let filters = &proxy.listeners[0]["filter_chains"][0]["filters"][1]["typed_config"]["http_filters"];
            anyhow::Ok(filters.clone())
        };
        let filters = patch("INSERT_BEFORE", "router", json!({"name": "new"})).unwrap();
        assert_eq!(names(&filters), ["rbac", "new", "router"]);
        let merged = json!({"name": "rbac", "typed_config": {"@type": "rbac", "rules": {}}});
        assert_eq!(patch("MERGE", "rbac", merged.clone()).unwrap()[0], merged);
        assert!(patch("INSERT_BEFORE", "missing", json!({"name": "new"})).is_err());
    }

    #[test]
    fn in_a_virtual_listener_the_port_is_the_filter_chain_s() {
        let virtual_inbound = |port: u16| {
            let mut proxy = gateway();
            proxy.listeners = vec![json!({
                "name": "virtualInbound",
                "address": {"socket_address": {"port_value": 15006}},
                "filter_chains": [
                    {"filter_chain_match": {"destination_port": 1883}, "filters": [{"name": "tcp"}]},
                    {"filters": [{"name": "tcp"}]},
                ],
            })];
            let patch = json!([{
                "applyTo": "NETWORK_FILTER",
                "match": {
                    "context": "SIDECAR_INBOUND",
                    "listener": {"portNumber": port, "filterChain": {"filter": {"name": "tcp"}}},
                },
                "patch": {"operation": "INSERT_BEFORE", "value": {"name": "new"}},
            }]);
            apply(&mut proxy, PatchContext::SidecarInbound, &[filter(patch)])?;
            let chains = &proxy.listeners[0]["filter_chains"];
            anyhow::Ok((names(&chains[0]["filters"]), names(&chains[1]["filters"])))
        };
        let (matching, other) = virtual_inbound(1883).unwrap();
        assert_eq!((matching, other), (vec!["new".into(), "tcp".into()], vec!["tcp".into()]));
        assert!(virtual_inbound(15006).is_err());
    }

    #[test]
    fn listeners_and_clusters_are_added_and_merged() {
        let proxy = patched(json!({
            "applyTo": "LISTENER", "patch": {"operation": "ADD", "value": {"name": "udp"}},
        }))
        .unwrap();
        assert_eq!(names(&json!(proxy.listeners)), ["0.0.0.0_1883", "0.0.0.0_80", "udp"]);
        let proxy = patched(json!({
            "applyTo": "LISTENER",
            "match": {"listener": {"portNumber": 80}},
            "patch": {"operation": "MERGE", "value": {"a": 1}},
        }))
        .unwrap();
        assert_eq!((proxy.listeners[0].get("a"), &proxy.listeners[1]["a"]), (None, &json!(1)));
        let proxy = patched(json!({
            "applyTo": "CLUSTER", "patch": {"operation": "ADD", "value": {"name": "third"}},
        }))
        .unwrap();
        assert_eq!(names(&json!(proxy.clusters)), ["first", "second", "third"]);
        let proxy = patched(json!({
            "applyTo": "CLUSTER",
            "match": {"cluster": {"name": "second"}},
            "patch": {"operation": "MERGE", "value": {"a": 1}},
        }))
        .unwrap();
        assert_eq!(proxy.clusters, [json!({"name": "first"}), json!({"name": "second", "a": 1})]);
    }

    #[test]
    fn routes_are_merged_by_action_and_name() {
        let merged = |condition: Value| {
            let proxy = patched(json!({
                "applyTo": "HTTP_ROUTE",
                "match": {"routeConfiguration": condition},
                "patch": {"operation": "MERGE", "value": {"a": 1}},
            }))?;
            let routes = proxy.routes[0]["virtual_hosts"][0]["routes"].clone();
            let merged = routes.as_array().unwrap().iter().filter(|route| route.get("a").is_some());
            anyhow::Ok(merged.map(|route| name(route).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(merged(json!({"name": "http.1883"})).unwrap(), ["a", "b"]);
        assert_eq!(merged(json!({"vhost": {"route": {"action": "ROUTE"}}})).unwrap(), ["a"]);
        assert_eq!(
            merged(json!({"vhost": {"name": "*:1883", "route": {"name": "b"}}})).unwrap(),
            ["b"]
        );
        assert!(merged(json!({"name": "http.80"})).is_err());
        assert!(merged(json!({"vhost": {"name": "other"}})).is_err());
        assert!(
            merged(json!({"vhost": {"route": {"name": "a", "action": "DIRECT_RESPONSE"}}}))
                .is_err()
        );
    }

    #[test]
    fn what_is_not_supported_is_an_error() {
        for patch in [
            json!({"applyTo": "BOOTSTRAP", "patch": {"operation": "MERGE", "value": {}}}),
            json!({"applyTo": "LISTENER", "patch": {"operation": "REMOVE"}}),
            json!({"applyTo": "CLUSTER", "patch": {"operation": "REMOVE"}}),
            json!({"applyTo": "HTTP_ROUTE", "patch": {"operation": "ADD", "value": {}}}),
            json!({"applyTo": "LISTENER", "patch": {"operation": "ADD"}}),
            json!({"applyTo": "LISTENER", "patch": {"operation": "ADD", "value": {}, "filterClass": "AUTHN"}}),
            json!({"applyTo": "LISTENER", "match": {"proxy": {}}, "patch": {"operation": "ADD", "value": {}}}),
            json!({"applyTo": "LISTENER", "match": {"context": "SIDECAR_INBOUND"}, "patch": {"operation": "ADD", "value": {}}}),
        ] {
            assert!(patched(patch.clone()).is_err(), "{patch}");
        }
    }

    #[test]
    fn another_workload_s_filter_is_an_error() {
        let mut proxy = gateway();
        proxy.labels.clear();
        let add = json!([{"applyTo": "LISTENER", "patch": {"operation": "ADD", "value": {}}}]);
        assert!(apply(&mut proxy, PatchContext::Gateway, &[filter(add)]).is_err());
    }
}
