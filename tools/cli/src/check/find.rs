//! Finds our filters in a document, wherever they are, and what stands around them.

use std::rc::Rc;

use crate::protocol::Protocol;
use crate::spot::Spot;
use crate::yaml::{Dialect, Node, Place, Style, documents_at};

/// What one document holds. The text of a ConfigMap, say, is a document of its own.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) filters: Vec<OurFilter>,
    /// HTTP filters with one of our modules.
    pub(crate) http_filters: Vec<Spot>,
    pub(crate) listeners: Vec<Spot>,
    pub(crate) clusters: Vec<Spot>,
    pub(crate) bootstraps: Vec<Spot>,
    pub(crate) inner: Vec<Inner>,
}

/// A document in a text.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) found: Found,
    pub(crate) merges: Vec<Place>,
}

/// One of our filters.
#[derive(Debug)]
pub(crate) struct OurFilter {
    pub(crate) protocol: Protocol,
    /// What told which one it is.
    pub(crate) told_by: String,
    /// Where it is: an Envoy `PluginConfig` or what Istio's objects have for one.
    pub(crate) plugin: Spot,
    pub(crate) kind: PluginKind,
    pub(crate) next: Next,
    pub(crate) listener: Option<Spot>,
    pub(crate) chain: Option<Spot>,
    pub(crate) dialect: Dialect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PluginKind {
    /// `envoy.extensions.wasm.v3.PluginConfig`.
    Envoy,
    /// `extensions.istio.io`, WasmPlugin or TrafficExtension.
    Istio,
}

/// What comes after a filter.
#[derive(Debug, Clone)]
pub(crate) enum Next {
    /// The filter stands alone, as in a patch.
    Unknown,
    Nothing,
    Filter(Spot),
}

/// The end of the name of a type.
pub(crate) fn is_type(spot: &Spot, name: &str) -> bool {
    spot.text_at(&["@type"])
        .is_some_and(|of| of.rsplit_once('/').is_some_and(|(_, of)| of.ends_with(name)))
}

/// What [`find`] needs to know on its way down.
#[derive(Debug, Clone)]
struct Around {
    listener: Option<Spot>,
    chain: Option<Spot>,
    next: Next,
}

/// Looks for our filters in a document; `only` says which one all wasm filters are.
pub(crate) fn find(root: &Spot, dialect: Dialect, only: Option<Protocol>, lines: &[&str]) -> Found {
    let mut finder = Finder { found: Found::default(), dialect, only, lines };
    let around = Around { listener: None, chain: None, next: Next::Unknown };
    finder.visit(root, &around);
    finder.found
}

struct Finder<'a> {
    found: Found,
    dialect: Dialect,
    only: Option<Protocol>,
    lines: &'a [&'a str],
}

impl Finder<'_> {
    fn visit(&mut self, spot: &Spot, around: &Around) {
        if spot.node.text().is_some() {
            return self.text(spot);
        }
        let mut around = around.clone();
        if spot.node.is_map() {
            self.map(spot, &mut around);
        }
        let filters =
            spot.field("filters").filter(|_| !spot.node.items().is_empty() || spot.node.is_map());
        for child in spot.children() {
            let is_filters = filters.as_ref().is_some_and(|filters| filters.path == child.path);
            if is_filters {
                self.filters(&child, &around);
            } else {
                let next = Next::Unknown;
                self.visit(&child, &Around { next, ..around.clone() });
            }
        }
    }

    /// The filters of a chain, in their order.
    fn filters(&mut self, list: &Spot, around: &Around) {
        let items = list.items();
        for (index, item) in items.iter().enumerate() {
            let next =
                items.get(index + 1).map_or(Next::Nothing, |next| Next::Filter(next.clone()));
            self.visit(item, &Around { next, ..around.clone() });
        }
    }

    fn map(&mut self, spot: &Spot, around: &mut Around) {
        let has = |name: &str| spot.node.field(name).is_some();
        if has("static_resources") || has("bootstrap_extensions") {
            self.found.bootstraps.push(spot.clone());
        }
        let is_listener =
            has("internal_listener") || has("filter_chains") || has("listener_filters");
        if is_listener && (has("address") || has("internal_listener") || has("name")) {
            self.found.listeners.push(spot.clone());
            around.listener = Some(spot.clone());
        }
        let is_cluster =
            ["load_assignment", "upstream_config", "typed_extension_protocol_options", "lb_policy"];
        if has("name") && (is_cluster.into_iter().any(has) || is_type(spot, "cluster.v3.Cluster")) {
            self.found.clusters.push(spot.clone());
        }
        if has("filters") && around.listener.is_some() {
            around.chain = Some(spot.clone());
        }
        if let Some(typed) = spot.field("typed_config") {
            self.filter(spot, &typed, around);
        }
        // Two of Istio's objects have the same fields, one of them a level deeper.
        let plugin = match spot.text_at(&["kind"]) {
            Some("WasmPlugin") => spot.find(&["spec"]),
            Some("TrafficExtension") => spot.find(&["spec", "wasm"]),
            _ => None,
        };
        if let Some(plugin) = plugin {
            self.wasm_plugin(spot, plugin);
        }
    }

    fn filter(&mut self, filter: &Spot, typed: &Spot, around: &Around) {
        let (of, config) =
            if is_type(typed, "type.v1.TypedStruct") || is_type(typed, "type.v3.TypedStruct") {
                (typed.text_at(&["type_url"]), typed.find(&["value", "config"]))
            } else {
                (typed.text_at(&["@type"]), typed.field("config"))
            };
        let (Some(of), Some(plugin)) = (of, config) else { return };
        let Some((protocol, told_by)) = self.only.map(given).or_else(|| told(filter, &plugin))
        else {
            return;
        };
        if of.ends_with("filters.http.wasm.v3.Wasm") {
            // Anybody may have a module about DNS: this one has the name of ours.
            if code(&plugin).is_some_and(|code| is_module(code.1, protocol)) {
                self.found.http_filters.push(filter.clone());
            }
        } else if of.ends_with("filters.network.wasm.v3.Wasm") {
            self.found.filters.push(OurFilter {
                protocol,
                told_by,
                plugin,
                kind: PluginKind::Envoy,
                next: around.next.clone(),
                listener: around.listener.clone(),
                chain: around.chain.clone(),
                dialect: self.dialect,
            });
        }
    }

    fn wasm_plugin(&mut self, object: &Spot, plugin: Spot) {
        let named = |of: &Spot, path: &[&str]| {
            let text = of.text_at(path)?;
            Some((Protocol::named_in(text)?, format!("{} \"{text}\"", path.join("."))))
        };
        let told = || {
            let own = named(&plugin, &["url"]).or_else(|| named(&plugin, &["plugin_name"]));
            own.or_else(|| named(object, &["metadata", "name"]))
        };
        let told = self.only.map(given).or_else(told);
        let Some((protocol, told_by)) = told else { return };
        self.found.filters.push(OurFilter {
            protocol,
            told_by,
            plugin,
            kind: PluginKind::Istio,
            next: Next::Unknown,
            listener: None,
            chain: None,
            dialect: self.dialect,
        });
    }

    /// A text may be a document: an `envoy.yaml` in a ConfigMap, JSON in a patch.
    fn text(&mut self, spot: &Spot) {
        let Some(text) = spot.text() else { return };
        let is_candidate = text.contains("wasm") && text.contains("typed") && text.contains('\n')
            || text.starts_with('{') && text.contains("wasm");
        if !is_candidate {
            return;
        }
        let Ok(file) = within(spot, self.lines) else { return };
        for document in &file.documents {
            let root = spot.inside(document);
            let dialect =
                if text.trim_start().starts_with('{') { Dialect::Exact } else { Dialect::Envoy };
            let found = find(&root, dialect, self.only, self.lines);
            let merges = if dialect == Dialect::Envoy { file.merges.clone() } else { Vec::new() };
            self.found.inner.push(Inner { found, merges });
        }
    }
}

/// The documents in a text, with their places in the file as far as the way it is written tells.
pub(crate) fn within(
    spot: &Spot,
    lines: &[&str],
) -> Result<crate::yaml::File, crate::yaml::Malformed> {
    let node: &Rc<Node> = &spot.node;
    let text = node.text().unwrap_or_default();
    let at = node.at;
    let origin = (node.style() == Some(Style::Literal)).then(|| origin(text, at, lines)).flatten();
    documents_at(text, &|place| match origin {
        Some(origin) => {
            Place { line: origin.line + place.line, column: origin.column + place.column }
        }
        None => at,
    })
}

/// What to add to a place in a literal text to have its place in the file.
fn origin(text: &str, at: Place, lines: &[&str]) -> Option<Place> {
    let (first, line) = text.lines().enumerate().find(|(_, line)| !line.trim().is_empty())?;
    // The parser says where the text is, but not whether that is its first line or the indicator before it.
    let around = at.line.saturating_sub(1)..=at.line + first + 1;
    let written = around.into_iter().find(|index| {
        let written = lines.get(*index).copied().unwrap_or_default();
        written.trim_end() != "" && written.trim() == line.trim()
    })?;
    let leading = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let column = leading(lines.get(written)?).checked_sub(leading(line))?;
    Some(Place { line: written.checked_sub(first)?, column })
}

fn given(protocol: Protocol) -> (Protocol, String) {
    (protocol, "--filter".to_owned())
}

/// Which of our filters it is, and what told so.
fn told(filter: &Spot, plugin: &Spot) -> Option<(Protocol, String)> {
    if let Some((field, code)) = code(plugin)
        && let Some(protocol) = Protocol::named_in(code)
    {
        return Some((protocol, format!("{field} \"{code}\"")));
    }
    let named = |spot: &Spot, path: &[&str]| {
        let text = spot.text_at(path)?;
        Some((Protocol::named_in(text)?, format!("{} \"{text}\"", path.join("."))))
    };
    let paths: [&[&str]; 3] = [&["root_id"], &["name"], &["vm_config", "vm_id"]];
    paths.into_iter().find_map(|path| named(plugin, path)).or_else(|| named(filter, &["name"]))
}

/// The last part of the name of the module, and the field that has it.
fn code(plugin: &Spot) -> Option<(&'static str, &str)> {
    let code = plugin.node.at(&["vm_config", "code"])?;
    let filename = code.text_at(&["local", "filename"]).map(|name| ("filename", name));
    let uri = || code.text_at(&["remote", "http_uri", "uri"]).map(|uri| ("uri", uri));
    let (field, name) = filename.or_else(uri)?;
    Some((field, name.rsplit('/').next().unwrap_or(name)))
}

fn is_module(code: &str, protocol: Protocol) -> bool {
    code == format!("{protocol}.wasm")
}
