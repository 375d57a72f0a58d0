//! Samples on their way into a [`Section`].

use std::collections::BTreeMap;

use super::gate::Side;
pub use super::results::Better;
use super::results::{Figure, Row, Section};

/// All that was measured, in the order in which it came.
#[derive(Debug)]
pub struct Report {
    section: Section,
}

impl Report {
    /// An empty one with a column for each of these sides, which are compared with `base`.
    #[must_use]
    pub fn new<S: Side>(name: &str, title: &str, sides: &[S], base: S) -> Self {
        let named = |side: &S| side.name().to_owned();
        let ours = sides.iter().filter(|side| side.is_ours()).map(named).collect();
        Self::of(name, title, sides.iter().map(named).collect(), ours, base.name())
    }

    /// One whose sides are known by their names alone.
    #[must_use]
    pub fn of(name: &str, title: &str, sides: Vec<String>, ours: Vec<String>, base: &str) -> Self {
        let [load, ..] = super::machine::load_average();
        Self {
            section: Section {
                name: name.into(),
                title: title.into(),
                sides,
                ours,
                base: base.into(),
                axis: None,
                conditions: Vec::new(),
                load_average: [load, load],
                rows: Vec::new(),
            },
        }
    }

    /// Its rows are for numbers of this.
    #[must_use]
    pub fn over(mut self, axis: &str) -> Self {
        self.section.axis = Some(axis.into());
        self
    }

    /// What has to be known to read the numbers.
    pub fn condition(&mut self, what: impl Into<String>) {
        self.section.conditions.push(what.into());
    }

    /// Adds what one round measured to the row of that name.
    pub fn add(&mut self, name: &str, unit: &str, better: Better, side: &str, sample: f64) {
        self.push(name, None, (unit, better), side, sample);
    }

    /// The same, for a number of [`over`](Self::over).
    pub fn add_at(
        &mut self,
        at: f64,
        name: &str,
        (unit, better): (&str, Better),
        side: &str,
        sample: f64,
    ) {
        self.push(name, Some(at), (unit, better), side, sample);
    }

    fn push(
        &mut self,
        name: &str,
        at: Option<f64>,
        (unit, better): (&str, Better),
        side: &str,
        sample: f64,
    ) {
        let rows = &mut self.section.rows;
        let row = match rows.iter_mut().position(|row| row.name == name && row.at == at) {
            Some(index) => rows.get_mut(index),
            None => {
                let sides = BTreeMap::new();
                rows.push(Row { name: name.into(), at, unit: unit.into(), better, sides });
                rows.last_mut()
            }
        };
        if let Some(row) = row {
            let figure: &mut Figure = row.sides.entry(side.to_owned()).or_default();
            figure.samples.push(sample);
        }
    }

    /// What came of it; none, if nothing was measured.
    #[must_use]
    pub fn finish(mut self) -> Option<Section> {
        if self.section.rows.is_empty() {
            return None;
        }
        let [before, _] = self.section.load_average;
        let [after, ..] = super::machine::load_average();
        self.section.load_average = [before, after];
        self.section.compute();
        Some(self.section)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_name_and_number_are_one_row() {
        let sides = vec!["a".to_owned(), "b".to_owned()];
        let mut report = Report::of("n", "N", sides, Vec::new(), "a").over("connections");
        for (at, side, sample) in
            [(1.0, "a", 2.0), (1.0, "b", 4.0), (2.0, "a", 1.0), (1.0, "a", 4.0)]
        {
            report.add_at(at, "cost", ("µs", Better::Low), side, sample);
        }
        let section = report.finish().unwrap();
        assert_eq!(section.rows.len(), 2);
        assert_eq!(section.rows[0].sides["a"].samples, [2.0, 4.0]);
        assert_eq!(section.rows[0].sides["b"].ratio, Some(2.0));
    }

    #[test]
    fn a_report_of_nothing_is_none() {
        assert!(Report::of("n", "N", Vec::new(), Vec::new(), "a").finish().is_none());
    }
}
