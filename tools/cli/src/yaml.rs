//! YAML, and so JSON, with the place of every value.
//!
//! Anchors are resolved: an alias is the very node that was anchored, with the place where it is written. Merge keys
//! (`<<`) are applied. Plain scalars become what those who load such files make of them, see [`Dialect`].

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Number, Value};

/// Deeper structures are refused. Envoy's own are at most some thirty levels deep.
const MAX_DEPTH: usize = 128;

/// So many nodes may come of one document, where aliases count as often as they are used.
const MAX_NODES: usize = 1_000_000;

/// A place in a file. Lines and columns count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Who loads the file, and so what a plain scalar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A number is a number: Kubernetes, JSON, and whoever hands a configuration on as it is.
    Exact,
    /// Envoy's own YAML: in a `google.protobuf.Struct` a fraction, or a whole number that does not fit into 32 bits, is
    /// text. (Tried with Envoy 1.40.)
    Envoy,
}

/// A value and where it is.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Scalar { text: String, style: Style },
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Quoted,
    /// `|`: each line is one line of the text.
    Literal,
    Folded,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Place,
    pub(crate) value: Rc<Node>,
}

/// What is no YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) at: Place,
    pub(crate) what: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// Its documents. Empty ones are left out.
    pub(crate) documents: Vec<Rc<Node>>,
    /// Where it has merge keys.
    pub(crate) merges: Vec<Place>,
}

/// The documents of a file.
pub(crate) fn documents(text: &str) -> Result<File, Malformed> {
    documents_at(text, &|place| place)
}

/// The documents in a text that is somewhere in a file: `place` says where a place in the text is in the file.
pub(crate) fn documents_at(text: &str, place: &dyn Fn(Place) -> Place) -> Result<File, Malformed> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = Place { line: error.marker().line(), column: error.marker().col() + 1 };
            Malformed { at: place(at), what: format!("is no YAML: {}", error.info()) }
        })?;
        let at = Place { line: span.start.line(), column: span.start.col() + 1 };
        builder.take(event, place(at))?;
    }
    Ok(builder.file)
}

#[derive(Default)]
struct Builder {
    file: File,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
}

/// An anchored node, and how many nodes it is.
struct Anchored {
    node: Rc<Node>,
    nodes: usize,
}

/// A list or a map that has begun.
struct Open {
    at: Place,
    anchor: usize,
    /// How many nodes there were before.
    before: usize,
    parts: Parts,
}

enum Parts {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, key: Option<Rc<Node>> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Place) -> Result<(), Malformed> {
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Alias(anchor) => {
                let Some(Anchored { node, nodes }) = self.anchors.get(&anchor) else {
                    // The parser knows all anchors but that of a list or map which has not ended.
                    let what = "is an alias of what it stands in".to_owned();
                    return Err(Malformed { at, what });
                };
                let (node, nodes) = (Rc::clone(node), *nodes);
                self.count(nodes, at)?;
                return self.put(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, at)?;
                let tagged = tag.is_some_and(|tag| tag.suffix == "str");
                let style = match style {
                    ScalarStyle::Plain if !tagged => Style::Plain,
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                    _ => Style::Quoted,
                };
                let kind = Kind::Scalar { text: text.into_owned(), style };
                let node = Rc::new(Node { at, kind });
                self.anchor(anchor, &node, 1);
                return self.put(node);
            }
            Event::SequenceStart(anchor, _) => {
                return self.begin(at, anchor, Parts::List(Vec::new()));
            }
            Event::MappingStart(anchor, _) => {
                return self.begin(at, anchor, Parts::Map { entries: Vec::new(), key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => return self.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, at: Place) -> Result<(), Malformed> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let what = format!("is too much: more than {MAX_NODES} values, aliases included");
            return Err(Malformed { at, what });
        }
        Ok(())
    }

    fn anchor(&mut self, anchor: usize, node: &Rc<Node>, nodes: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, Anchored { node: Rc::clone(node), nodes });
        }
    }

    fn begin(&mut self, at: Place, anchor: usize, parts: Parts) -> Result<(), Malformed> {
        if self.open.len() >= MAX_DEPTH {
            let what = format!("is nested too deep: more than {MAX_DEPTH} levels");
            return Err(Malformed { at, what });
        }
        let before = self.nodes;
        self.count(1, at)?;
        self.open.push(Open { at, anchor, before, parts });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Malformed> {
        let Some(Open { at, anchor, before, parts }) = self.open.pop() else { return Ok(()) };
        let kind = match parts {
            Parts::List(items) => Kind::List(items),
            Parts::Map { entries, .. } => Kind::Map(merged(entries)),
        };
        let node = Rc::new(Node { at, kind });
        self.anchor(anchor, &node, self.nodes - before);
        self.put(node)
    }

    /// A node is complete: it belongs to what is open, or is a document.
    fn put(&mut self, node: Rc<Node>) -> Result<(), Malformed> {
        match self.open.last_mut().map(|open| &mut open.parts) {
            None => {
                if !node.is_null() {
                    self.file.documents.push(node);
                }
            }
            Some(Parts::List(items)) => items.push(node),
            Some(Parts::Map { entries, key }) => match key.take() {
                None => *key = Some(node),
                Some(name) => {
                    let Kind::Scalar { text, .. } = &name.kind else {
                        let what = "is a key that is no text".to_owned();
                        return Err(Malformed { at: name.at, what });
                    };
                    if text == "<<" {
                        self.file.merges.push(name.at);
                    } else if entries.iter().any(|entry| entry.key == *text) {
                        let what = format!("is here twice: {text}");
                        return Err(Malformed { at: name.at, what });
                    }
                    entries.push(Entry { key: text.clone(), at: name.at, value: node });
                }
            },
        }
        Ok(())
    }
}

/// With what merge keys stand for, unless the map has the key itself.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    if entries.iter().all(|entry| entry.key != "<<") {
        return entries;
    }
    let (merges, mut own): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| entry.key == "<<");
    for merge in merges {
        let sources = match &merge.value.kind {
            Kind::List(items) => items.clone(),
            _ => vec![Rc::clone(&merge.value)],
        };
        for source in sources {
            let Kind::Map(entries) = &source.kind else { continue };
            for entry in entries {
                if own.iter().all(|known| known.key != entry.key) {
                    own.push(entry.clone());
                }
            }
        }
    }
    own
}

impl Node {
    /// The value of a field of a protobuf message, which may be written in snake case or lower camel case.
    pub(crate) fn field(&self, name: &str) -> Option<&Rc<Node>> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// The same with its key.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        let camel = camel(name);
        self.entries().iter().find(|entry| entry.key == name || entry.key == camel)
    }

    /// The value at the end of a path of fields.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.field(name).map(|node| &**node))
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn items(&self) -> &[Rc<Node>] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }

    /// The text of a scalar, whatever it means.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// How a scalar is written.
    pub(crate) fn style(&self) -> Option<Style> {
        match &self.kind {
            Kind::Scalar { style, .. } => Some(*style),
            _ => None,
        }
    }

    /// The text at the end of a path of fields.
    pub(crate) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path).and_then(Self::text)
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.json_scalar(Dialect::Exact), Some(Value::Null))
    }

    pub(crate) fn is_true(&self) -> bool {
        matches!(self.json_scalar(Dialect::Exact), Some(Value::Bool(true)))
    }

    /// As JSON.
    pub(crate) fn json(&self, dialect: Dialect) -> Value {
        match &self.kind {
            Kind::Scalar { .. } => self.json_scalar(dialect).unwrap_or_default(),
            Kind::List(items) => items.iter().map(|item| item.json(dialect)).collect(),
            Kind::Map(entries) => {
                let field = |entry: &Entry| (entry.key.clone(), entry.value.json(dialect));
                Value::Object(entries.iter().map(field).collect())
            }
        }
    }

    fn json_scalar(&self, dialect: Dialect) -> Option<Value> {
        let Kind::Scalar { text, style } = &self.kind else { return None };
        Some(match style {
            Style::Plain => plain(text, dialect),
            _ => Value::String(text.clone()),
        })
    }
}

fn plain(text: &str, dialect: Dialect) -> Value {
    let as_text = || Value::String(text.to_owned());
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        "y" | "Y" if dialect == Dialect::Envoy => return Value::Bool(true),
        "n" | "N" if dialect == Dialect::Envoy => return Value::Bool(false),
        _ => {}
    }
    let whole = match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse::<i64>().ok(),
    };
    match (whole, dialect) {
        (Some(n), Dialect::Envoy) if i32::try_from(n).is_err() => Value::String(n.to_string()),
        (Some(n), _) => Value::Number(n.into()),
        (None, Dialect::Envoy) => as_text(),
        // Not words such as `inf` or `nan`.
        (None, Dialect::Exact)
            if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) =>
        {
            let number = text.parse().ok().and_then(Number::from_f64);
            number.map_or_else(as_text, Value::Number)
        }
        (None, Dialect::Exact) => as_text(),
    }
}

/// `typed_config` as `typedConfig`.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Rc<Node> {
        documents(text).expect("YAML").documents.remove(0)
    }

    #[test]
    fn an_alias_is_where_it_was_anchored() {
        let node = one("a: &x\n  b: 1\nc: *x\n");
        let b = node.at(&["c"]).and_then(|c| c.entry("b")).expect("the aliased key");
        assert_eq!(b.at, Place { line: 2, column: 3 });
        assert_eq!(b.value.at, Place { line: 2, column: 6 });
    }

    #[test]
    fn a_merge_key_gives_what_the_map_does_not_have() {
        let node = one("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: {<<: [*x, {f: 4}]}\n");
        let json = node.json(Dialect::Exact);
        assert_eq!(json["d"], serde_json::json!({"b": 1, "c": 3}));
        assert_eq!(json["e"], serde_json::json!({"b": 1, "c": 2, "f": 4}));
    }

    #[test]
    fn scalars_are_what_those_who_load_them_make_of_them() {
        let text = "[1, -2.5, 3000000000, yes, y, ~, '1', x, 0x10, 1.5s]";
        let exact = one(text).json(Dialect::Exact);
        assert_eq!(
            exact,
            serde_json::json!([1, -2.5, 3_000_000_000_u64, true, "y", null, "1", "x", 16, "1.5s"])
        );
        let envoy = one(text).json(Dialect::Envoy);
        assert_eq!(
            envoy,
            serde_json::json!([1, "-2.5", "3000000000", true, true, null, "1", "x", 16, "1.5s"])
        );
    }

    #[test]
    fn fields_have_two_spellings() {
        let node = one("{typedConfig: {code_x: 1}}");
        assert!(node.at(&["typed_config", "code_x"]).is_some());
    }

    #[test]
    fn what_is_no_yaml_says_where() {
        let error = documents("a: 1\nb: [\n").expect_err("an open list");
        assert!(error.at.line >= 2, "{error:?}");
        let error = documents("a: 1\nb: 2\na: 3\n").expect_err("a key twice");
        assert_eq!((error.at, &*error.what), (Place { line: 3, column: 1 }, "is here twice: a"));
    }

    #[test]
    fn little_text_cannot_become_very_much() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        assert!(documents(&text).expect_err("too much").what.contains("too much"));
        let deep = "[".repeat(100_000);
        assert!(documents(&deep).is_err());
        assert!(documents("a: &a [*a]").is_err());
    }
}
