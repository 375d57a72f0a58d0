//! Documents of YAML files.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A Kubernetes object.
#[derive(Debug, Clone)]
pub struct Manifest(Value);

impl Manifest {
    /// Those of a file, in its order; an error if a document has no `apiVersion`, `kind` or name.
    pub fn read_all(yaml: &str) -> Result<Vec<Self>> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
        let manifests: Vec<Self> =
            documents.into_iter().filter(|document| !document.is_null()).map(Self).collect();
        for manifest in &manifests {
            for pointer in ["/apiVersion", "/kind", "/metadata/name"] {
                manifest.text(pointer).with_context(|| format!("{:?}", manifest.0))?;
            }
        }
        Ok(manifests)
    }

    /// `EnvoyFilter`, for example.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("/kind").unwrap_or_default()
    }

    /// `networking.istio.io/v1alpha3`, for example.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.text("/apiVersion").unwrap_or_default()
    }

    /// Kind and name, for messages.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.kind(), self.text("/metadata/name").unwrap_or_default())
    }

    /// The whole object.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Its `spec`, every field of which `T` has to know.
    pub fn spec<T: DeserializeOwned>(&self) -> Result<T> {
        let spec = self.0.get("spec").with_context(|| format!("{} has no spec", self.title()))?;
        T::deserialize(spec).with_context(|| self.title())
    }

    fn text(&self, pointer: &str) -> Result<&str> {
        self.0.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "apiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n# A comment.\n---\napiVersion: v1\nkind: B\n\
        metadata: {name: b}\nspec: {x: 1}\n";

    #[test]
    fn all_documents_of_a_file_are_read() {
        let titles: Vec<String> =
            Manifest::read_all(TWO).unwrap().iter().map(Manifest::title).collect();
        assert_eq!(titles, ["A a", "B b"]);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert!(Manifest::read_all("kind: A\nmetadata: {name: a}\n").is_err());
        assert!(Manifest::read_all("apiVersion: v1\nkind: A\n").is_err());
        assert!(
            Manifest::read_all("apiVersion: v1\nkind: A\nkind: B\nmetadata: {name: a}\n").is_err()
        );
    }
}
