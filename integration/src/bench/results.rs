//! The file of results: one schema for whatever was measured. docs/benchmarks.md describes it; [`SCHEMA`] changes with it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::root;

/// The version of the schema.
pub const SCHEMA: u32 = 1;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it began, as in RFC 3339, UTC.
    pub started: String,
    /// Whether samples were short and rounds few.
    pub quick: bool,
    /// What it ran on.
    pub machine: Machine,
    /// What was measured, in the order in which it was.
    pub sections: Vec<Section>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Its name, for programs.
    pub name: String,
    /// Its name, for readers.
    pub title: String,
    /// The sides, in the order in which they are shown.
    pub sides: Vec<String>,
    /// Those with this project's code in them.
    pub ours: Vec<String>,
    /// The side that the others are compared with.
    pub base: String,
    /// What the number is of which a curve is drawn: `connections`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axis: Option<String>,
    /// What has to be known to read the numbers.
    pub conditions: Vec<String>,
    /// The machine's load average over a minute when it began, and when it ended.
    pub load_average: [f64; 2],
    /// What was measured.
    pub rows: Vec<Row>,
}

/// One thing that was measured, on each side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What.
    pub name: String,
    /// For what number of the section's axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
    /// The unit of all figures.
    pub unit: String,
    /// Which direction is the good one.
    pub better: Better,
    /// By side. One that is not there was not measured.
    pub sides: BTreeMap<String, Figure>,
}

/// Which direction is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    High,
    /// Less is better.
    Low,
}

impl Better {
    fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
        }
    }
}

/// One side's samples, a sample for each round, and what is computed from them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// The median of the ratios to the base in the same round; none for the base, or where there is nothing to divide by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The samples, round by round.
    pub samples: Vec<f64>,
}

impl Section {
    /// Computes from the samples what is computed from them.
    pub fn compute(&mut self) {
        for row in &mut self.rows {
            let base = row.sides.get(&self.base).map(|figure| figure.samples.clone());
            for (side, figure) in &mut row.sides {
                figure.median = median(&figure.samples);
                (figure.least, figure.most) = spread(&figure.samples);
                let base = base.as_ref().filter(|_| *side != self.base);
                figure.ratio = base.and_then(|base| ratio(&figure.samples, base));
            }
        }
    }

    /// Whether this project's code is in the side.
    #[must_use]
    pub fn is_ours(&self, side: &str) -> bool {
        self.ours.iter().any(|ours| ours == side)
    }

    /// What a row is called, with the number that it is for.
    #[must_use]
    pub fn label(&self, row: &Row) -> String {
        match (row.at, &self.axis) {
            (Some(at), Some(axis)) => format!("{} ({axis}: {})", row.name, short(at)),
            _ => row.name.clone(),
        }
    }

    /// The rows as a Markdown table; nothing, if there are none.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        if self.rows.is_empty() {
            return out;
        }
        // Writing into a String cannot fail.
        let _ = writeln!(out, "| | better | {} |", self.sides.join(" | "));
        let _ = writeln!(out, "|---|---|{}", "---|".repeat(self.sides.len()));
        for row in &self.rows {
            let cell = |side: &String| row.sides.get(side).map_or("–".into(), Figure::cell);
            let cells: Vec<String> = self.sides.iter().map(cell).collect();
            let (label, better) = (self.label(row), row.better.name());
            let _ = writeln!(out, "| {label}, {} | {better} | {} |", row.unit, cells.join(" | "));
        }
        out
    }
}

impl Figure {
    fn cell(&self) -> String {
        let mut cell = short(self.median);
        if self.samples.len() > 1 {
            let _ = write!(cell, " [{}–{}]", short(self.least), short(self.most));
        }
        if let Some(ratio) = self.ratio {
            let _ = write!(cell, " **{}**", times(ratio));
        }
        cell
    }
}

impl Results {
    /// Where results lie.
    #[must_use]
    pub fn dir() -> PathBuf {
        root().join(".build/bench")
    }

    /// Writes it, and tells where.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
        let shown = path.strip_prefix(root()).unwrap_or(path);
        eprintln!("written: {}", shown.display());
        Ok(())
    }

    /// Reads a file of this schema. What can be computed is computed again: the samples are what was measured.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut results: Self =
            serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let schema = results.schema;
        ensure!(schema == SCHEMA, "{}: schema {schema}, expected {SCHEMA}", path.display());
        for figure in results
            .sections
            .iter()
            .flat_map(|section| &section.rows)
            .flat_map(|row| row.sides.values())
        {
            ensure!(!figure.samples.is_empty(), "{}: a figure without samples", path.display());
        }
        results.sections.iter_mut().for_each(Section::compute);
        Ok(results)
    }
}

/// The middle one, or the mean of the two in the middle.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
    }
}

/// The least and the most.
#[must_use]
pub fn spread(samples: &[f64]) -> (f64, f64) {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, most)
}

/// Round by round: what slowed the machine down in one round slowed both sides down.
#[must_use]
pub fn ratios(samples: &[f64], base: &[f64]) -> Vec<f64> {
    samples.iter().zip(base).map(|(sample, base)| sample / base).collect()
}

/// The median of [`ratios`]; of nothing to nothing there is none.
#[must_use]
pub fn ratio(samples: &[f64], base: &[f64]) -> Option<f64> {
    Some(median(&ratios(samples, base))).filter(|ratio| ratio.is_finite())
}

/// A ratio.
#[must_use]
pub fn times(ratio: f64) -> String {
    if ratio.abs() < 10.0 { format!("×{ratio:.2}") } else { format!("×{}", short(ratio)) }
}

/// A number with as many digits as say something.
#[must_use]
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => grouped(value),
        size if size >= 100.0 => format!("{value:.0}"),
        0.0 => "0".into(),
        size if size.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Results with a section of bars and one of curves.
    pub(in crate::bench) fn example() -> Results {
        let row = |name: &str, at, sides: &[(&str, &[f64])]| Row {
            name: name.into(),
            at,
            unit: "1/s".into(),
            better: Better::High,
            sides: sides
                .iter()
                .map(|(side, samples)| {
                    let figure = Figure { samples: samples.to_vec(), ..Figure::default() };
                    ((*side).to_owned(), figure)
                })
                .collect(),
        };
        let section = |name: &str, axis: Option<&str>, rows| {
            let mut section = Section {
                name: name.into(),
                title: "Requests & more".into(),
                sides: vec!["plain".into(), "filter".into()],
                ours: vec!["filter".into()],
                base: "plain".into(),
                axis: axis.map(str::to_owned),
                conditions: vec!["one worker".into()],
                load_average: [0.5, 1.0],
                rows,
            };
            section.compute();
            section
        };
        let bars = vec![
            row(
                "requests",
                None,
                &[("plain", &[2000.0, 1000.0, 3000.0]), ("filter", &[1000.0, 600.0, 900.0])],
            ),
            row("unanswered", None, &[("plain", &[0.0]), ("filter", &[0.0])]),
        ];
        let curve = [10.0, 100.0, 10_000.0]
            .map(|at| row("cost", Some(at), &[("plain", &[1.0, 2.0]), ("filter", &[3.0, 4.0])]));
        Results {
            schema: SCHEMA,
            started: "2026-01-02T03:04:05Z".into(),
            quick: true,
            machine: Machine::example(),
            sections: vec![
                section("bars", None, bars),
                section("curve", Some("connections"), curve.to_vec()),
            ],
        }
    }

    #[test]
    fn medians_spreads_and_ratios_are_of_the_samples() {
        let results = example();
        let figure = &results.sections[0].rows[0].sides["filter"];
        assert_eq!((figure.median, figure.least, figure.most), (900.0, 600.0, 1000.0));
        // Round by round, 0.5, 0.6 and 0.3; not 900 to 2000.
        assert_eq!(figure.ratio, Some(0.5));
        let nothing = &results.sections[0].rows[1].sides["filter"];
        assert_eq!((nothing.median, nothing.ratio), (0.0, None));
        assert_eq!(median(&[1.0, 4.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_table_has_a_row_for_each_measurement() {
        let sections = example().sections;
        let table = sections[0].table();
        assert!(
            table.contains(
                "| requests, 1/s | high | 2,000 [1,000–3,000] | 900 [600–1,000] **×0.50** |"
            ),
            "{table}"
        );
        let curve = sections[1].table();
        assert!(curve.contains("| cost (connections: 10,000), 1/s |"), "{curve}");
    }

    #[test]
    fn what_is_written_is_read_and_computed_again() {
        let dir = std::env::temp_dir().join(format!("bench-results-{}", std::process::id()));
        let path = dir.join("results.json");
        let mut results = example();
        results.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
        // A median that somebody has changed.
        results.sections[0].rows[0].sides.get_mut("plain").unwrap().median = 7.0;
        results.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), example());
        results.schema = SCHEMA + 1;
        results.write(&path).unwrap();
        assert!(Results::read(&path).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn numbers_have_as_many_digits_as_say_something() {
        let shown = [0.0, 0.0123, 0.5, 12.34, 3.0, 123.4, 1234.5, 1_234_567.0].map(short);
        assert_eq!(shown, ["0", "0.012", "0.50", "12.3", "3", "123", "1,234", "1,234,567"]);
    }
}
