//! A value together with the way to it.

use std::rc::Rc;

use crate::yaml::{Node, Place};

/// A value, its path in the document and where it is in the file: its key, if it has one.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    pub(crate) node: Rc<Node>,
    pub(crate) path: String,
    pub(crate) at: Place,
}

impl Spot {
    pub(crate) fn root(node: &Rc<Node>) -> Self {
        Self { node: Rc::clone(node), path: String::new(), at: node.at }
    }

    /// A document that is the text of this value.
    pub(crate) fn inside(&self, node: &Rc<Node>) -> Self {
        Self { node: Rc::clone(node), path: self.path.clone(), at: node.at }
    }

    /// A field of a protobuf message, in either spelling.
    pub(crate) fn field(&self, name: &str) -> Option<Self> {
        let entry = self.node.entry(name)?;
        Some(self.child(&entry.key, entry.at, &entry.value))
    }

    /// What is at the end of a path of fields.
    pub(crate) fn find(&self, path: &[&str]) -> Option<Self> {
        path.iter().try_fold(self.clone(), |spot, name| spot.field(name))
    }

    /// As much of a path of fields as there is.
    pub(crate) fn nearest(&self, path: &[&str]) -> Self {
        let mut spot = self.clone();
        for name in path {
            match spot.field(name) {
                Some(next) => spot = next,
                None => break,
            }
        }
        spot
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.node.text()
    }

    pub(crate) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.node.text_at(path)
    }

    /// The elements of a list.
    pub(crate) fn items(&self) -> Vec<Self> {
        let items = self.node.items().iter().enumerate();
        let spot = |(index, node): (usize, &Rc<Node>)| {
            let path = format!("{}[{index}]", self.path);
            Self { node: Rc::clone(node), path, at: node.at }
        };
        items.map(spot).collect()
    }

    /// The elements of the list in a field.
    pub(crate) fn items_of(&self, name: &str) -> Vec<Self> {
        self.field(name).map(|list| list.items()).unwrap_or_default()
    }

    /// All values directly in it.
    pub(crate) fn children(&self) -> Vec<Self> {
        let entries = self.node.entries().iter();
        let fields = entries.map(|entry| self.child(&entry.key, entry.at, &entry.value));
        fields.chain(self.items()).collect()
    }

    fn child(&self, key: &str, at: Place, node: &Rc<Node>) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let path = match (key.chars().all(plain), self.path.is_empty()) {
            (true, true) => key.to_owned(),
            (true, false) => format!("{}.{key}", self.path),
            (false, _) => format!("{}[\"{key}\"]", self.path),
        };
        Self { node: Rc::clone(node), path, at }
    }

    /// What the path of a [`filter_config::Mistake`] leads to: as much of it as there is.
    pub(crate) fn resolve(&self, path: &str) -> Self {
        let mut spot = self.clone();
        let mut rest = path;
        while !rest.is_empty() {
            let next = match rest.strip_prefix('[') {
                Some(indexed) => {
                    let Some((index, after)) = indexed.split_once(']') else { break };
                    rest = after;
                    index.parse().ok().and_then(|index: usize| spot.items().into_iter().nth(index))
                }
                None => {
                    // A key may have dots in it: the longest that is there.
                    let mut fits: Vec<_> = spot.node.entries().iter().collect();
                    fits.retain(|entry| {
                        let after = rest.strip_prefix(&entry.key);
                        after.is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
                    });
                    let Some(entry) = fits.into_iter().max_by_key(|entry| entry.key.len()) else {
                        break;
                    };
                    rest = rest.get(entry.key.len()..).unwrap_or_default();
                    Some(spot.child(&entry.key, entry.at, &entry.value))
                }
            };
            rest = rest.strip_prefix('.').unwrap_or(rest);
            match next {
                Some(next) => spot = next,
                None => break,
            }
        }
        spot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> Spot {
        Spot::root(&crate::yaml::documents(text).expect("YAML").documents[0])
    }

    #[test]
    fn paths_lead_to_places() {
        let root = root("a:\n- b: 1\n- b.c: 2\n  d: 3\n");
        let spot = root.resolve("a[1].b.c");
        assert_eq!((spot.at, &*spot.path), (Place { line: 3, column: 3 }, "a[1][\"b.c\"]"));
        // What is missing is where it would have to be.
        assert_eq!(root.resolve("a[0].x.y").path, "a[0]");
        assert_eq!(root.resolve("").path, "");
        assert_eq!(root.resolve("a[9").path, "a");
    }
}
