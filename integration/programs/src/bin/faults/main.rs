//! `make faults`: what goes wrong, one after the other, under load of all three protocols, through an Envoy each; what was promised,
//! and what became of it.
//!
//! Promised whatever happens: no MQTT message that was acknowledged is missing, none at QoS 2 is there twice, nobody gets what
//! belongs to somebody else, clients of the same Envoy whose servers are others notice nothing of what happens to servers, afterwards
//! all are served again, and when they are gone nothing is left of them, and memory is what it was.
//!
//! `faults [name]…` runs groups alone. The table goes to the terminal and to `.build/faults/faults.md`.

mod backends;
mod limits;
mod network;
mod restarts;
mod scene;
mod surprises;

use std::fmt::Write;
use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use integration::bench::machine::Machine;
use integration::bench::stop_on_interrupt;
use integration::load::trio::{Trio, configs};
use integration::root;

use scene::{Row, Servers, attempt};

type Group = fn(&mut Trio, &mut Servers) -> Result<Vec<Row>>;
type OwnGroup = fn() -> Result<Vec<Row>>;

/// With Envoys that all of them share.
const SHARED: [(&str, Group); 3] =
    [("backends", backends::all), ("network", network::all), ("buffers", limits::buffers)];

/// With Envoys of their own.
const OWN: [(&str, OwnGroup); 5] = [
    ("limits", limits::limits),
    ("restarts", restarts::restarts),
    ("listeners", restarts::listeners),
    ("traps", surprises::traps),
    ("clocks", surprises::clocks),
];

fn main() -> ExitCode {
    match faults() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn faults() -> Result<bool> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let shared = SHARED.iter().map(|(name, _)| *name);
    let all: Vec<&str> = shared.chain(OWN.iter().map(|(name, _)| *name)).collect();
    for name in &names {
        ensure!(all.contains(&name.as_str()), "there is no group {name}, but {all:?}");
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    stop_on_interrupt()?;
    let begin = Instant::now();
    let mut rows = Vec::new();
    if SHARED.iter().any(|(name, _)| wanted(name)) {
        let mut servers = Servers::start()?;
        let mut trio = Trio::start(configs()?, servers.addresses())?;
        for (name, group) in SHARED {
            if wanted(name) {
                rows.extend(or_row(name, group(&mut trio, &mut servers)));
            }
        }
    }
    for (name, group) in OWN {
        if wanted(name) {
            rows.extend(or_row(name, group()));
        }
    }
    let mut text = Machine::here().list();
    let _ = writeln!(text, "- {} faults in {} s\n", rows.len(), begin.elapsed().as_secs());
    text.push_str(&table(&rows));
    print!("{text}");
    let dir = root().join(".build/faults");
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("faults.md"), text)?;
    for row in &rows {
        for failure in row.failures.iter().take(8) {
            eprintln!("{}: {failure}", row.fault);
        }
    }
    Ok(rows.iter().all(|row| row.broken.is_empty()))
}

/// What a group found, or that it came to nothing.
fn or_row(name: &str, rows: Result<Vec<Row>>) -> Vec<Row> {
    rows.unwrap_or_else(|error| vec![attempt(name, Err(error))])
}

fn table(rows: &[Row]) -> String {
    let mut out = String::from(
        "MQTT: published / acknowledged / lost / twice at QoS 2 / repeated at QoS 1; connections of 30 publishers, failures of 20 idle sessions.
CoAP, DNS, others: answered / sent again / failed. MiB: before / peak / after, of each Envoy.

| fault | MQTT | CoAP | DNS | others | recovered after | MiB | promises |
|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let held = if row.broken.is_empty() { "hold".to_owned() } else { row.broken.join("; ") };
        let name = if row.note.is_empty() {
            row.fault.clone()
        } else {
            format!("{}: {}", row.fault, row.note)
        };
        let Row { mqtt, coap, dns, bystanders, recovery, memory, .. } = row;
        let cells = [&name, mqtt, coap, dns, bystanders, recovery, memory, &held];
        let _ = writeln!(out, "| {} |", cells.map(String::as_str).join(" | "));
    }
    out
}
