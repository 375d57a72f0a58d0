//! A filter's own configuration: the same parsers as in Envoy, with places.

use serde_json::Value;

use super::find::{OurFilter, PluginKind, is_type, within};
use super::finding::Findings;
use crate::protocol::Protocol;
use crate::spot::Spot;
use crate::yaml::Dialect;

/// What a filter is configured with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) json: Value,
    /// Where it is.
    pub(crate) spot: Spot,
}

impl Settings {
    /// A text field, or its default.
    pub(crate) fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.json.get(name).and_then(Value::as_str).unwrap_or(default)
    }

    pub(crate) fn number(&self, name: &str, default: u64) -> u64 {
        self.json.get(name).and_then(Value::as_u64).unwrap_or(default)
    }

    pub(crate) fn seconds(&self, path: &[&str], default: f64) -> f64 {
        let value = path.iter().try_fold(&self.json, |value, name| value.get(name));
        value.and_then(Value::as_str).and_then(seconds).unwrap_or(default)
    }

    /// Whether a list has anything in it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.json.get(name).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    }

    pub(crate) fn mode(&self) -> &str {
        self.text("mode", "bridge")
    }

    pub(crate) fn codec(&self) -> &str {
        self.text("codec", "http2")
    }

    pub(crate) fn transport(&self) -> &str {
        self.text("transport", "udp")
    }
}

/// A length of time as Envoy writes it.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    text.strip_suffix('s')?.parse().ok()
}

/// Reads the configuration of a filter that was found, and reports its mistakes.
pub(crate) fn read(filter: &OurFilter, lines: &[&str], findings: &mut Findings) -> Settings {
    let (field, is_any) = match filter.kind {
        PluginKind::Envoy => ("configuration", true),
        PluginKind::Istio => ("plugin_config", false),
    };
    let Some(configuration) = filter.plugin.field(field) else {
        // The defaults.
        let none = Value::Object(serde_json::Map::new());
        return report(filter.protocol, filter.plugin.clone(), none, b"", findings);
    };
    if !is_any {
        return of(filter.protocol, configuration, filter.dialect, findings);
    }
    let value = configuration.field("value");
    if is_type(&configuration, "google.protobuf.Struct") {
        let spot = value.unwrap_or(configuration);
        return of(filter.protocol, spot, filter.dialect, findings);
    }
    if is_type(&configuration, "google.protobuf.StringValue") {
        let spot = value.unwrap_or(configuration);
        let text = spot.text().unwrap_or_default().to_owned();
        // JSON is YAML, with places.
        let inner = within(&spot, lines).ok().and_then(|file| file.documents.into_iter().next());
        let json = serde_json::from_str(&text).unwrap_or_default();
        let spot = inner.map_or(spot.clone(), |node| spot.inside(&node));
        return report(filter.protocol, spot, json, text.as_bytes(), findings);
    }
    findings.error(
        &configuration.field("@type").unwrap_or_else(|| configuration.clone()),
        match configuration.text_at(&["@type"]) {
            Some(of) => format!(
                "has to be a google.protobuf.Struct or a google.protobuf.StringValue with JSON in it (got {of})"
            ),
            None => "needs \"@type\": type.googleapis.com/google.protobuf.Struct, and the filter's configuration as \
                     its `value`"
                .to_owned(),
        },
    );
    Settings { json: Value::Null, spot: configuration }
}

/// Reads a configuration that is written as YAML or JSON.
pub(crate) fn of(
    protocol: Protocol,
    spot: Spot,
    dialect: Dialect,
    findings: &mut Findings,
) -> Settings {
    let json = spot.node.json(dialect);
    let text = if json.is_null() { String::new() } else { json.to_string() };
    report(protocol, spot, json, text.as_bytes(), findings)
}

fn report(
    protocol: Protocol,
    spot: Spot,
    json: Value,
    text: &[u8],
    findings: &mut Findings,
) -> Settings {
    for mistake in protocol.mistakes(text) {
        let place = spot.resolve(&mistake.path);
        // Of something that is not there, the path leads to what it would be in.
        let there = place.path.strip_prefix(&spot.path).unwrap_or_default();
        let missing = mistake.path.strip_prefix(there.trim_start_matches('.')).unwrap_or_default();
        match missing.trim_start_matches('.') {
            "" => findings.error(&place, mistake.what),
            missing => findings.error(&place, format!("{missing} {}", mistake.what)),
        }
    }
    Settings { json, spot }
}
