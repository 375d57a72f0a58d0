//! Istio's WasmPlugin and TrafficExtension with a network filter, as istiod and its agent treat them: a filter in front of the last
//! one of each filter chain for the ports it matches. (In front of istio.stats, where a chain has that.)

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::manifest::Manifest;
use crate::proxy::{Proxy, destination_port, filter_chains, port};

/// Whose filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    /// A gateway's listeners, and outbound ones.
    Client,
    /// Inbound listeners.
    Server,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Plugin {
    selector: Selector,
    #[serde(rename = "match")]
    conditions: Vec<Condition>,
    url: String,
    #[serde(rename = "type")]
    _network: Type,
    fail_strategy: String,
    plugin_name: String,
    plugin_config: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    mode: Mode,
    ports: Vec<Port>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Port {
    number: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Type {
    Network,
}

/// Puts the filters in. The agent has fetched each module to `/var/local/wasm/<last part of the image's name>/plugin.wasm`.
pub fn apply(proxy: &mut Proxy, mode: Mode, plugins: &[Manifest]) -> Result<()> {
    for manifest in plugins {
        let plugin = Plugin::read(manifest)?;
        for (label, value) in &plugin.selector.match_labels {
            ensure!(proxy.labels.get(label) == Some(value), "{} is for others", manifest.title());
        }
        let mut applied = false;
        for listener in &mut proxy.listeners {
            let port = port(listener);
            for chain in filter_chains(listener) {
                let port = port.or_else(|| destination_port(chain));
                let Some(filters) = chain.get_mut("filters").and_then(Value::as_array_mut) else {
                    continue;
                };
                if plugin.matches(mode, port) {
                    filters
                        .insert(filters.len().saturating_sub(1), plugin.filter(&manifest.title())?);
                    applied = true;
                }
            }
        }
        ensure!(applied, "{} applies to nothing", manifest.title());
    }
    Ok(())
}

impl Plugin {
    fn read(manifest: &Manifest) -> Result<Self> {
        let mut spec: Map<String, Value> = manifest.spec()?;
        match manifest.kind() {
            "WasmPlugin" => {}
            "TrafficExtension" => {
                let wasm = spec.remove("wasm");
                let wasm = wasm.as_ref().and_then(Value::as_object);
                spec.extend(wasm.context("no wasm")?.clone());
            }
            _ => bail!("{} is no plugin", manifest.title()),
        }
        Self::deserialize(Value::Object(spec)).with_context(|| manifest.title())
    }

    fn matches(&self, mode: Mode, port: Option<u64>) -> bool {
        self.conditions.iter().any(|condition| {
            condition.mode == mode
                && condition.ports.iter().any(|wanted| Some(wanted.number) == port)
        })
    }

    fn filter(&self, name: &str) -> Result<Value> {
        let image = self.url.strip_prefix("oci://").context("a url that is not oci://")?;
        let image = image.rsplit('/').next().unwrap_or_default();
        let image = image.split(':').next().unwrap_or_default();
        // Not a Struct: istiod gives the configuration as text.
        let configuration = serde_json::to_string(&self.plugin_config)?;
        Ok(json!({
            "name": name,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
                "config": {
                    "name": name,
                    "root_id": self.plugin_name,
                    "failure_policy": self.fail_strategy,
                    "vm_config": {
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": {"local": {"filename": format!("/var/local/wasm/{image}/plugin.wasm")}},
                    },
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": configuration,
                    },
                },
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(mode: Mode, spec: Value, kind: &str) -> Result<Value> {
        let mut proxy = Proxy::from_yaml(
            "labels: {a: b}
bootstrap: {}
listeners:
- {name: x, address: {socket_address: {port_value: 1}}, filter_chains: [{filters: [{name: first}, {name: last}]}]}
- {name: z, address: {socket_address: {port_value: 2}}, filter_chains: [{filters: [{name: last}]}]}
",
        )?;
        let manifest =
            json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "m"}, "spec": spec});
        apply(&mut proxy, mode, &Manifest::read_all(&manifest.to_string())?)?;
        assert_eq!(proxy.listeners[1]["filter_chains"][0]["filters"], json!([{"name": "last"}]));
        Ok(proxy.listeners[0]["filter_chains"][0]["filters"].clone())
    }

    fn spec(port: u16) -> Value {
        json!({
            "selector": {"matchLabels": {"a": "b"}}, "match": [{"mode": "CLIENT", "ports": [{"number": port}]}],
            "url": "oci://registry.example/x/mqtt:1", "type": "NETWORK", "failStrategy": "FAIL_RELOAD",
            "pluginName": "p", "pluginConfig": {"mode": "observe"},
        })
    }

    #[test]
    fn the_filter_stands_before_the_last_one() {
        let filters = applied(Mode::Client, spec(1), "WasmPlugin").unwrap();
        assert_eq!((&filters[0]["name"], &filters[2]["name"]), (&json!("first"), &json!("last")));
        let config = &filters[1]["typed_config"]["config"];
        assert_eq!(config["configuration"]["value"], r#"{"mode":"observe"}"#);
        assert_eq!(
            config["vm_config"]["code"]["local"]["filename"],
            "/var/local/wasm/mqtt/plugin.wasm"
        );
    }

    #[test]
    fn a_traffic_extension_says_the_same_in_another_way() {
        let fields = spec(1);
        let mut wasm = fields.as_object().unwrap().clone();
        let extension = json!({"selector": wasm.remove("selector"), "match": wasm.remove("match"), "wasm": wasm});
        let extension = applied(Mode::Client, extension, "TrafficExtension").unwrap();
        let plugin = applied(Mode::Client, fields, "WasmPlugin").unwrap();
        for field in ["root_id", "configuration", "vm_config", "failure_policy"] {
            let of = |filters: &Value| filters[1]["typed_config"]["config"][field].clone();
            assert_eq!(of(&extension), of(&plugin), "{field}");
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(applied(Mode::Client, spec(3), "WasmPlugin").is_err());
        assert!(applied(Mode::Server, spec(1), "WasmPlugin").is_err());
        assert!(applied(Mode::Client, spec(1), "EnvoyFilter").is_err());
        for (field, value) in [
            ("selector", json!({"matchLabels": {"a": "c"}})),
            ("type", json!("HTTP")),
            ("url", json!("https://example.com/mqtt.wasm")),
            ("phase", json!("AUTHN")),
        ] {
            let mut spec = spec(1);
            spec[field] = value;
            assert!(applied(Mode::Client, spec, "WasmPlugin").is_err(), "{field}");
        }
    }
}
