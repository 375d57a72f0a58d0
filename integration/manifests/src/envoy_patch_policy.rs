//! Envoy Gateway's EnvoyPatchPolicy, applied as Envoy Gateway applies it.

use anyhow::{Context, Result, bail, ensure};
use json_patch::{Patch, PatchOperation};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::manifest::Manifest;
use crate::proxy::{Proxy, name};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(rename = "targetRef")]
    _target: Value,
    json_patches: Vec<JsonPatch>,
}

#[derive(Debug, Deserialize)]
enum Kind {
    #[serde(rename = "JSONPatch")]
    JsonPatch,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPatch {
    #[serde(rename = "type")]
    resource_type: ResourceType,
    name: String,
    operation: Operation,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum ResourceType {
    #[serde(rename = "type.googleapis.com/envoy.config.listener.v3.Listener")]
    Listener,
    #[serde(rename = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration")]
    RouteConfiguration,
    #[serde(rename = "type.googleapis.com/envoy.config.cluster.v3.Cluster")]
    Cluster,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Operation {
    op: String,
    path: Option<String>,
    json_path: Option<String>,
    value: Option<Value>,
}

/// Applies the patches of these policies in the order given.
pub fn apply(proxy: &mut Proxy, policies: &[Manifest]) -> Result<()> {
    for policy in policies {
        ensure!(policy.kind() == "EnvoyPatchPolicy", "{} is no EnvoyPatchPolicy", policy.title());
        let Spec { kind: Kind::JsonPatch, json_patches, .. } = policy.spec()?;
        for (number, patch) in json_patches.iter().enumerate() {
            patch
                .apply(proxy)
                .with_context(|| format!("{}, patch {}", policy.title(), number + 1))?;
        }
    }
    Ok(())
}

impl JsonPatch {
    fn apply(&self, proxy: &mut Proxy) -> Result<()> {
        let resources = match self.resource_type {
            ResourceType::Listener => &mut proxy.listeners,
            ResourceType::RouteConfiguration => &mut proxy.routes,
            ResourceType::Cluster => &mut proxy.clusters,
        };
        let Operation { op, path, json_path, value } = &self.operation;
        if op == "add" && path.as_deref().is_none_or(str::is_empty) && json_path.is_none() {
            let value = value.clone().context("no value to add")?;
            ensure!(name(&value) == self.name, "the value is not named {}", self.name);
            resources.push(value);
            return Ok(());
        }
        let resource = resources.iter_mut().find(|resource| name(resource) == self.name);
        let resource = resource.with_context(|| format!("there is no {}", self.name))?;
        for pointer in self.operation.pointers(resource)? {
            let mut operation = json!({"op": op, "path": pointer});
            if let (Some(value), Some(fields)) = (value, operation.as_object_mut()) {
                fields.insert("value".to_owned(), value.clone());
            }
            let operation: PatchOperation = serde_json::from_value(operation)?;
            ensure_parent(resource, &operation)?;
            json_patch::patch(resource, &Patch(vec![operation]))
                .with_context(|| format!("{op} {pointer}"))?;
        }
        Ok(())
    }
}

impl Operation {
    /// Where it applies: at `path`, or at `path` below each place that `jsonPath` finds.
    fn pointers(&self, resource: &Value) -> Result<Vec<String>> {
        let path = self.path.as_deref().unwrap_or_default();
        let Some(json_path) = &self.json_path else {
            return Ok(vec![path.to_owned()]);
        };
        let below = path.trim_start_matches('/');
        let pointers: Vec<String> = find(json_path, resource)?
            .into_iter()
            .map(|place| if below.is_empty() { place } else { format!("{place}/{below}") })
            .collect();
        if pointers.is_empty() {
            bail!("{json_path} finds nothing");
        }
        Ok(pointers)
    }
}

/// The places that a JSONPath finds, as JSON pointers. Of its syntax this is `$`, `.name` and `[*]`.
fn find(json_path: &str, resource: &Value) -> Result<Vec<String>> {
    let steps = json_path.strip_prefix("$.").context("a jsonPath begins with `$.`")?;
    let mut found = vec![(String::new(), resource)];
    for step in steps.split('.') {
        let (name, each) = step.strip_suffix("[*]").map_or((step, false), |name| (name, true));
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        ensure!(
            !name.is_empty() && name.chars().all(is_name),
            "{step:?} in a jsonPath is not supported"
        );
        let mut next = Vec::new();
        for (place, value) in found {
            let Some(value) = value.get(name) else { continue };
            let place = format!("{place}/{name}");
            match value {
                Value::Array(items) if each => {
                    next.extend(
                        items
                            .iter()
                            .enumerate()
                            .map(|(number, item)| (format!("{place}/{number}"), item)),
                    );
                }
                value if !each => next.push((place, value)),
                _ => {}
            }
        }
        found = next;
    }
    Ok(found.into_iter().map(|(place, _)| place).collect())
}

/// Envoy Gateway makes the objects above what is added.
fn ensure_parent(resource: &mut Value, operation: &PatchOperation) -> Result<()> {
    let PatchOperation::Add(add) = operation else { return Ok(()) };
    let mut place = resource;
    let mut tokens: Vec<String> =
        add.path.tokens().map(|token| token.decoded().into_owned()).collect();
    tokens.pop();
    for token in tokens {
        place = match place {
            Value::Object(fields) => fields.entry(token).or_insert_with(|| json!({})),
            Value::Array(items) => {
                let item = token.parse().ok().and_then(|number: usize| items.get_mut(number));
                item.with_context(|| format!("no item {token}"))?
            }
            _ => bail!("nothing can be below {token}"),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

    fn patched(patch: Value) -> Result<Proxy> {
        let mut proxy = Proxy::from_yaml(
            "bootstrap: {}
listeners: [{name: a, filters: [{name: hcm}]}]
routes: [{name: r, routes: [{route: {cluster: x}}, {direct_response: {}}, {route: {cluster: z}}]}]
",
        )?;
        let policy = json!({
            "apiVersion": "v1", "kind": "EnvoyPatchPolicy", "metadata": {"name": "test"},
            "spec": {"type": "JSONPatch", "targetRef": {}, "jsonPatches": [patch]},
        });
        apply(&mut proxy, &Manifest::read_all(&policy.to_string())?)?;
        Ok(proxy)
    }

    fn operation(resource: &str, name: &str, operation: Value) -> Result<Proxy> {
        patched(json!({"type": resource, "name": name, "operation": operation}))
    }

    #[test]
    fn an_item_is_added_at_its_place() {
        let add = json!({"op": "add", "path": "/filters/0", "value": {"name": "new"}});
        let proxy = operation(LISTENER, "a", add).unwrap();
        assert_eq!(proxy.listeners[0]["filters"], json!([{"name": "new"}, {"name": "hcm"}]));
    }

    #[test]
    fn what_is_above_an_added_value_is_made() {
        let add = json!({"op": "add", "path": "/b/c", "value": 1});
        assert_eq!(operation(LISTENER, "a", add).unwrap().listeners[0]["b"], json!({"c": 1}));
        let add = json!({"op": "add", "path": "/filters/1/c", "value": 1});
        assert!(operation(LISTENER, "a", add).is_err());
    }

    #[test]
    fn a_json_path_applies_to_all_it_finds() {
        let add =
            json!({"op": "add", "jsonPath": "$.routes[*].route", "path": "timeout", "value": "0s"});
        let proxy = operation(ROUTES, "r", add).unwrap();
        let expected = json!([
            {"route": {"cluster": "x", "timeout": "0s"}},
            {"direct_response": {}},
            {"route": {"cluster": "z", "timeout": "0s"}},
        ]);
        assert_eq!(proxy.routes[0]["routes"], expected);
        for nowhere in ["$.x[*]", "$.name[*]", "$.routes[0]", "$..route", "routes"] {
            let add = json!({"op": "add", "jsonPath": nowhere, "path": "timeout", "value": "0s"});
            assert!(operation(ROUTES, "r", add).is_err(), "{nowhere}");
        }
    }

    #[test]
    fn a_whole_resource_is_added() {
        let add = json!({"op": "add", "path": "", "value": {"name": "c"}});
        assert_eq!(operation(CLUSTER, "c", add.clone()).unwrap().clusters, [json!({"name": "c"})]);
        assert!(operation(CLUSTER, "d", add).is_err());
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let replace = json!({"op": "replace", "path": "/address", "value": 1});
        assert!(operation(LISTENER, "a", replace.clone()).is_err());
        assert!(operation(LISTENER, "b", replace.clone()).is_err());
        assert!(operation("type.googleapis.com/other", "a", replace).is_err());
        assert!(operation(LISTENER, "a", json!({"op": "remove", "path": "/filters/1"})).is_err());
        assert!(
            operation(LISTENER, "a", json!({"op": "test", "path": "/name", "value": "b"})).is_err()
        );
    }
}
