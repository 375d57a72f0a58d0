//! The configuration of a proxy, as a control plane delivers it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// The listeners of a sidecar that stand for those of all ports.
const VIRTUAL_LISTENERS: [&str; 2] = ["virtualInbound", "virtualOutbound"];

/// What a proxy gets: its bootstrap, and its resources by type.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// The labels of its pod, by which `workloadSelector` finds it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it starts with.
    pub bootstrap: Value,
    /// The listeners.
    pub listeners: Vec<Value>,
    /// The route configurations.
    #[serde(default)]
    pub routes: Vec<Value>,
    /// The clusters.
    #[serde(default)]
    pub clusters: Vec<Value>,
}

impl Proxy {
    /// Reads one.
    pub fn from_yaml(yaml: &str) -> Result<Self> {
        Ok(serde_saphyr::from_str(yaml)?)
    }

    /// One configuration file for an Envoy without a control plane, on loopback: resources are static, and route
    /// configurations stand where they are named.
    pub fn into_static(mut self) -> Result<Value> {
        for listener in &mut self.listeners {
            inline(listener, &self.routes)?;
        }
        let bootstrap = self.bootstrap.as_object_mut().context("the bootstrap is no object")?;
        ensure!(!bootstrap.contains_key("static_resources"), "the bootstrap has resources");
        let resources = json!({"listeners": self.listeners, "clusters": self.clusters});
        bootstrap.insert("static_resources".to_owned(), resources);
        Ok(self.bootstrap)
    }
}

/// A resource's name; empty if it has none.
pub(crate) fn name(resource: &Value) -> &str {
    resource.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The port that a listener is for; none for a sidecar's virtual listeners, whose filter chains have one each.
pub(crate) fn port(listener: &Value) -> Option<u64> {
    let port = listener.pointer("/address/socket_address/port_value").and_then(Value::as_u64);
    port.filter(|_| !VIRTUAL_LISTENERS.contains(&name(listener)))
}

/// The port that a filter chain says it is for.
pub(crate) fn destination_port(chain: &Value) -> Option<u64> {
    chain.pointer("/filter_chain_match/destination_port").and_then(Value::as_u64)
}

/// The filter chains of a listener, the default one last.
pub(crate) fn filter_chains(listener: &mut Value) -> Vec<&mut Value> {
    let (mut chains, mut default) = (Vec::new(), None);
    for (key, value) in listener.as_object_mut().into_iter().flatten() {
        match (key.as_str(), value) {
            ("filter_chains", Value::Array(items)) => chains.extend(items),
            ("default_filter_chain", chain) => default = Some(chain),
            _ => {}
        }
    }
    chains.extend(default);
    chains
}

/// Puts route configurations where they are named, and wildcard addresses on loopback.
fn inline(value: &mut Value, routes: &[Value]) -> Result<()> {
    match value {
        Value::Object(fields) => {
            if let Some(rds) = fields.remove("rds") {
                let wanted = rds.get("route_config_name").and_then(Value::as_str);
                let wanted = wanted.context("rds without route_config_name")?;
                let found = routes.iter().find(|route| name(route) == wanted);
                let found = found.with_context(|| format!("no route configuration {wanted}"))?;
                fields.insert("route_config".to_owned(), found.clone());
            }
            if let Some(address) =
                fields.get_mut("socket_address").and_then(|a| a.get_mut("address"))
                && matches!(address.as_str(), Some("0.0.0.0" | "::"))
            {
                *address = json!("127.0.0.1");
            }
            fields.values_mut().try_for_each(|value| inline(value, routes))
        }
        Value::Array(values) => values.iter_mut().try_for_each(|value| inline(value, routes)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> Proxy {
        Proxy::from_yaml(
            "bootstrap: {admin: {}}\n\
             listeners:\n\
             - {name: a, address: {socket_address: {address: 0.0.0.0}}, hcm: {rds: {route_config_name: r}}}\n\
             - {name: b, hcm: {rds: {route_config_name: missing}}}\n\
             routes: [{name: r, virtual_hosts: []}]\n\
             clusters: [{name: c}]\n",
        )
        .unwrap()
    }

    #[test]
    fn resources_become_static() {
        let mut proxy = proxy();
        proxy.listeners.truncate(1);
        let expected = json!({
            "admin": {},
            "static_resources": {
                "listeners": [{
                    "name": "a",
                    "address": {"socket_address": {"address": "127.0.0.1"}},
                    "hcm": {"route_config": {"name": "r", "virtual_hosts": []}},
                }],
                "clusters": [{"name": "c"}],
            },
        });
        assert_eq!(proxy.into_static().unwrap(), expected);
    }

    #[test]
    fn a_name_that_nothing_has_is_an_error() {
        assert!(proxy().into_static().is_err());
        assert!(Proxy::from_yaml("bootstrap: {}\nlisteners: []\nlistener: []\n").is_err());
    }
}
