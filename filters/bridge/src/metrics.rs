//! Counters and gauges that cost an addition to a number in memory, and histograms that cost one more
//! number until they are reported.
//!
//! A protocol keeps handles to the ones it needs on the path of every message and looks up rare
//! ones by their labels. Whoever runs the bridge reads the changes from time to time with
//! [`Registry::changes`] and passes them on, so that no message pays for a call to the host.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How a metric's value moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
    /// Many values, of which the distribution matters.
    Histogram,
}

/// A handle to one metric. Clones count into the same one.
#[derive(Debug, Clone)]
pub struct Metric(Rc<Entry>);

#[derive(Debug)]
struct Entry {
    name: String,
    kind: Kind,
    value: Cell<i64>,
    reported: Cell<i64>,
    /// Values of a histogram that were not reported.
    values: RefCell<Vec<u64>>,
    /// What the surroundings know this metric by, once they have seen it.
    id: Cell<Option<u32>>,
}

impl Metric {
    /// Adds to the metric.
    pub fn add(&self, n: i64) {
        self.0.value.set(self.0.value.get().wrapping_add(n));
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The value now.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.value.get()
    }
}

/// A handle to a histogram. Between two reports at most 10,000 values are kept; others are not
/// counted.
#[derive(Debug, Clone)]
pub struct Histogram(Metric);

const MAX_VALUES: usize = 10_000;

impl Histogram {
    /// Adds a value.
    pub fn record(&self, value: u64) {
        let mut values = self.0.0.values.borrow_mut();
        if values.len() < MAX_VALUES {
            values.push(value);
            self.0.increment();
        }
    }
}

/// A change of one metric since it was last read.
#[derive(Debug)]
pub struct Change<'a> {
    entry: &'a Entry,
    /// How much the value moved.
    pub by: i64,
}

impl Change<'_> {
    /// The metric's name with its labels: `name.label=value.label=value`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// How its value moves.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.entry.kind
    }

    /// The new values of a histogram.
    #[must_use]
    pub fn take_values(&self) -> Vec<u64> {
        self.entry.values.take()
    }

    /// The identifier given with [`Change::set_id`], if any.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.entry.id.get()
    }

    /// Remembers the surroundings' identifier of this metric.
    pub fn set_id(&self, id: u32) {
        self.entry.id.set(Some(id));
    }
}

/// All metrics of one filter. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Registry(Rc<RefCell<BTreeMap<String, Metric>>>);

impl Registry {
    /// The counter of this name and these labels; it starts at zero.
    #[must_use]
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> Metric {
        self.metric(Kind::Counter, name, labels)
    }

    /// The gauge of this name and these labels; it starts at zero.
    #[must_use]
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Metric {
        self.metric(Kind::Gauge, name, labels)
    }

    /// The histogram of this name and these labels.
    #[must_use]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        Histogram(self.metric(Kind::Histogram, name, labels))
    }

    fn metric(&self, kind: Kind, name: &str, labels: &[(&str, &str)]) -> Metric {
        let name = full_name(name, labels);
        let mut metrics = self.0.borrow_mut();
        if let Some(known) = metrics.get(&name) {
            return known.clone();
        }
        let metric = Metric(Rc::new(Entry {
            name: name.clone(),
            kind,
            value: Cell::new(0),
            reported: Cell::new(0),
            values: RefCell::default(),
            id: Cell::new(None),
        }));
        metrics.insert(name, metric.clone());
        metric
    }

    /// Calls `report` for every metric that moved since the last time, and the first time for every
    /// gauge, because that of something that has not happened is 0 rather than missing.
    pub fn changes(&self, mut report: impl FnMut(&Change<'_>)) {
        for Metric(entry) in self.0.borrow().values() {
            let value = entry.value.get();
            let by = value.wrapping_sub(entry.reported.get());
            let is_new = entry.kind == Kind::Gauge && entry.id.get().is_none();
            if by != 0 || is_new {
                entry.reported.set(value);
                report(&Change { entry, by });
            }
        }
    }
}

/// `name.label=value`: label values must not contain a dot, because the dot ends them.
fn full_name(name: &str, labels: &[(&str, &str)]) -> String {
    let mut full = String::from(name);
    for (label, value) in labels {
        full.push('.');
        full.push_str(label);
        full.push('=');
        full.extend(value.chars().map(|c| if c == '.' { '_' } else { c }));
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_reported_before_it_moves() {
        let registry = Registry::default();
        let _active = registry.gauge("active", &[]);
        let mut seen = Vec::new();
        registry.changes(|change| {
            seen.push(change.by);
            change.set_id(1);
        });
        registry.changes(|change| panic!("{} was reported twice", change.name()));
        assert_eq!(seen, [0]);
    }

    #[test]
    fn only_what_moved_is_reported_and_only_once() {
        let registry = Registry::default();
        let publishes = registry.counter("packets", &[("type", "publish"), ("version", "3.1.1")]);
        let active = registry.gauge("active", &[]);
        let _idle = registry.counter("idle", &[]);
        publishes.add(3);
        registry.counter("packets", &[("type", "publish"), ("version", "3.1.1")]).increment();
        active.add(-1);

        let mut seen = Vec::new();
        registry.changes(|change| {
            seen.push((change.name().to_owned(), change.kind(), change.by));
            change.set_id(7);
        });
        assert_eq!(
            seen,
            [
                ("active".to_owned(), Kind::Gauge, -1),
                ("packets.type=publish.version=3_1_1".to_owned(), Kind::Counter, 4),
            ]
        );
        registry.changes(|change| panic!("{} was reported twice", change.name()));
        publishes.increment();
        registry.changes(|change| assert_eq!((change.id(), change.by), (Some(7), 1)));
    }
}
