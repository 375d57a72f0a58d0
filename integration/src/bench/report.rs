//! Medians, spread and ratios, as a Markdown table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// Which direction is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    High,
    /// Less is better.
    Low,
}

#[derive(Debug)]
struct Row {
    name: String,
    unit: &'static str,
    better: Better,
    samples: BTreeMap<&'static str, Vec<f64>>,
}

/// All that was measured, in the order in which it came.
#[derive(Debug)]
pub struct Report {
    sides: Vec<&'static str>,
    base: &'static str,
    rows: Vec<Row>,
}

impl Report {
    /// An empty one with a column for each of these sides, which are compared with `base`.
    pub fn new(sides: impl IntoIterator<Item = &'static str>, base: &'static str) -> Self {
        Self { sides: sides.into_iter().collect(), base, rows: Vec::new() }
    }

    /// Adds what one round measured to the row of that name.
    pub fn add(
        &mut self,
        name: &str,
        unit: &'static str,
        better: Better,
        side: &'static str,
        sample: f64,
    ) {
        let row = match self.rows.iter_mut().position(|row| row.name == name) {
            Some(index) => self.rows.get_mut(index),
            None => {
                self.rows.push(Row { name: name.into(), unit, better, samples: BTreeMap::new() });
                self.rows.last_mut()
            }
        };
        if let Some(row) = row {
            row.samples.entry(side).or_default().push(sample);
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
        let _ = writeln!(
            out,
            "\nMedian, [least–most] over the rounds, × = median of the ratios to {} in the same round.\n",
            self.base
        );
        let _ = writeln!(out, "| | better | {} |", self.sides.join(" | "));
        let _ = writeln!(out, "|---|---|{}", "---|".repeat(self.sides.len()));
        for row in &self.rows {
            let better = if row.better == Better::High { "high" } else { "low" };
            let cells: Vec<String> =
                self.sides.iter().map(|side| row.cell(side, self.base)).collect();
            let _ =
                writeln!(out, "| {}, {} | {better} | {} |", row.name, row.unit, cells.join(" | "));
        }
        out
    }

    /// The rows for a program to read.
    #[must_use]
    pub fn rows_json(&self) -> Vec<Value> {
        let ratio_name = format!("ratio_to_{}", self.base);
        let row_json = |row: &Row| {
            let sides = row.samples.iter().map(|(&side, samples)| {
                let value = json!({
                    "median": median(samples),
                    "samples": samples,
                    &ratio_name: row.ratio(side, self.base),
                });
                (side.to_owned(), value)
            });
            let sides: serde_json::Map<String, Value> = sides.collect();
            let better = if row.better == Better::High { "high" } else { "low" };
            json!({"name": row.name, "unit": row.unit, "better": better, "sides": sides})
        };
        self.rows.iter().map(row_json).collect()
    }
}

impl Row {
    fn cell(&self, side: &str, base: &str) -> String {
        let Some(samples) = self.samples.get(side) else { return "–".into() };
        let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut cell = format!("{} [{}–{}]", short(median(samples)), short(least), short(most));
        if let Some(ratio) = self.ratio(side, base).filter(|_| side != base) {
            let _ = write!(cell, " **×{ratio:.2}**");
        }
        cell
    }

    /// Round by round: what slowed the machine down in one round slowed both sides down.
    fn ratio(&self, side: &str, base: &str) -> Option<f64> {
        let base = self.samples.get(base)?;
        let samples = self.samples.get(side)?;
        let ratios: Vec<f64> =
            samples.iter().zip(base).map(|(sample, base)| sample / base).collect();
        // Of nothing to nothing there is none.
        Some(median(&ratios)).filter(|ratio| ratio.is_finite())
    }
}

fn median(samples: &[f64]) -> f64 {
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

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What the numbers were measured on, and with which Envoy.
#[must_use]
pub fn machine() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown CPU", |(_, model)| model);
    // Not what this process may use: a bench may keep to some of them.
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kib: u64 = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    let mut lines = vec![
        format!("machine: {model}, {cores} cores, {} GiB", kib.div_ceil(1024 * 1024)),
        format!("kernel: Linux {}", read("/proc/sys/kernel/osrelease").trim()),
    ];
    if let Ok(envoy) = crate::envoy::binary()
        && let Some(version) = first_line(&envoy.to_string_lossy(), "--version", "version:")
    {
        lines.push(format!("Envoy {version}"));
    }
    lines
}

/// What a program that is installed says of itself: the first line of its output that has this in it.
#[must_use]
pub fn installed(name: &str, argument: &str, containing: &str) -> Option<String> {
    let path = crate::process::program(name).ok()?;
    first_line(&path.to_string_lossy(), argument, containing)
}

fn first_line(program: &str, argument: &str, containing: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    // Help that was not asked for goes to the other one.
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let line = text.lines().find(|line| line.contains(containing))?.trim();
    // Envoy puts its path before, which says nothing to a reader.
    Some(line.rsplit_once("version: ").map_or(line, |(_, version)| version).to_owned())
}
