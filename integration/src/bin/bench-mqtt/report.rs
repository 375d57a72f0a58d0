//! Medians, spread and ratios, as a Markdown table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::gate::Side;

/// Which direction is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    High,
    Low,
}

struct Row {
    name: String,
    unit: &'static str,
    better: Better,
    samples: BTreeMap<Side, Vec<f64>>,
}

/// All that was measured, in the order in which it came.
pub(crate) struct Report {
    sides: Vec<Side>,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(sides: &[Side]) -> Self {
        Self { sides: sides.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        name: &str,
        unit: &'static str,
        better: Better,
        side: Side,
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

    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        for line in machine() {
            // Writing into a String cannot fail.
            let _ = writeln!(out, "- {line}");
        }
        out + &self.table()
    }

    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        if self.rows.is_empty() {
            return out;
        }
        let names: Vec<&str> = self.sides.iter().map(|side| side.name()).collect();
        let _ = writeln!(
            out,
            "\nMedian, [least–most] over the rounds, × = median of the ratios to tcp_proxy in the same round.\n"
        );
        let _ = writeln!(out, "| | better | {} |", names.join(" | "));
        let _ = writeln!(out, "|---|---|{}", "---|".repeat(names.len()));
        for row in &self.rows {
            let better = if row.better == Better::High { "high" } else { "low" };
            let cells: Vec<String> = self.sides.iter().map(|&side| row.cell(side)).collect();
            let _ =
                writeln!(out, "| {}, {} | {better} | {} |", row.name, row.unit, cells.join(" | "));
        }
        out
    }

    /// These results and those of another table.
    pub(crate) fn json_with(&self, other: &Self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .chain(&other.rows)
            .map(|row| {
                let sides: serde_json::Map<String, Value> = row
                    .samples
                    .iter()
                    .map(|(&side, samples)| {
                        let value = json!({
                            "median": median(samples),
                            "samples": samples,
                            "ratio_to_tcp_proxy": row.ratio(side),
                        });
                        (side.name().to_owned(), value)
                    })
                    .collect();
                let better = if row.better == Better::High { "high" } else { "low" };
                json!({"name": row.name, "unit": row.unit, "better": better, "sides": sides})
            })
            .collect();
        json!({"machine": machine(), "results": rows})
    }
}

impl Row {
    fn cell(&self, side: Side) -> String {
        let Some(samples) = self.samples.get(&side) else { return "–".into() };
        let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut cell = format!("{} [{}–{}]", short(median(samples)), short(least), short(most));
        if let Some(ratio) = self.ratio(side).filter(|_| side != Side::TcpProxy) {
            let _ = write!(cell, " **×{ratio:.2}**");
        }
        cell
    }

    /// Round by round: what slowed the machine down in one round slowed both sides down.
    fn ratio(&self, side: Side) -> Option<f64> {
        let base = self.samples.get(&Side::TcpProxy)?;
        let samples = self.samples.get(&side)?;
        let ratios: Vec<f64> =
            samples.iter().zip(base).map(|(sample, base)| sample / base).collect();
        Some(median(&ratios))
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

/// What the numbers were measured on, and with.
fn machine() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown CPU", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kib: u64 = read("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    let mut lines = vec![
        format!("machine: {model}, {cores} cores, {} GiB", kib.div_ceil(1024 * 1024)),
        format!("kernel: Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        "everything on 127.0.0.1; Envoy with one worker, HAProxy with one thread, MQTT 5.0"
            .to_owned(),
    ];
    if let Ok(envoy) = integration::envoy::binary()
        && let Some(version) = first_line(&envoy.to_string_lossy(), "--version", "version:")
    {
        lines.push(format!("Envoy {version}"));
    }
    for (program, argument) in [("haproxy", "-v"), ("mosquitto", "-h")] {
        let path = integration::process::program(program).unwrap_or_else(|_| program.into());
        lines.extend(first_line(&path.to_string_lossy(), argument, "version"));
    }
    lines
}

fn first_line(program: &str, argument: &str, containing: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains(containing))?.trim();
    // Envoy puts its path before, which says nothing to a reader.
    Some(line.rsplit_once("version: ").map_or(line, |(_, version)| version).to_owned())
}
