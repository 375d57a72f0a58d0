//! What was measured on, and with what.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::{envoy, process, root};

/// A machine, and the programs on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The model of the CPU, by its own account.
    pub cpu: String,
    /// All that there are; a measurement may keep to some of them.
    pub cores: usize,
    /// In MiB.
    pub memory_mib: u64,
    /// The version of Linux.
    pub kernel: String,
    /// What chooses the CPU's frequency; none, where it cannot be read, as in most virtual machines.
    pub governor: Option<String>,
    /// The commit that was measured; `-dirty` after it, if files had been changed.
    pub commit: String,
    /// The versions of Envoy, the compiler and the peers, as they say them.
    pub versions: BTreeMap<String, String>,
    /// The load average over 1, 5 and 15 minutes when it began: what else ran.
    pub load_average: [f64; 3],
}

/// Programs, how they are asked for their version, and what is in the line that says it.
const PEERS: [(&str, &str, &str); 8] = [
    ("rustc", "--version", "rustc "),
    ("node", "--version", "v"),
    ("mosquitto", "-h", "version"),
    ("haproxy", "-v", "version"),
    ("coap-server-notls", "-?", "a small CoAP implementation"),
    ("dnsdist", "--version", "dnsdist "),
    ("unbound", "-V", "Version"),
    ("dnsperf", "-h", "Version"),
];

impl Machine {
    /// This one, now.
    #[must_use]
    pub fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        let kib: u64 = read("/proc/meminfo")
            .lines()
            .find_map(|line| {
                line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok()
            })
            .unwrap_or_default();
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let peer = |(name, argument, containing): (&str, &str, &str)| {
            let path = process::program(name).ok()?;
            Some((name.to_owned(), line_of(&path, &[argument], containing)?))
        };
        let mut versions: BTreeMap<String, String> = PEERS.into_iter().filter_map(peer).collect();
        let envoy =
            envoy::binary().ok().and_then(|path| line_of(&path, &["--version"], "version:"));
        versions.extend(envoy.map(|version| ("envoy".to_owned(), version)));
        let git =
            ["-C", &root().to_string_lossy(), "describe", "--always", "--dirty", "--abbrev=12"]
                .map(str::to_owned);
        Self {
            cpu: model.to_owned(),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            governor: Some(governor.trim().to_owned()).filter(|name| !name.is_empty()),
            commit: line_of(Path::new("git"), &git.each_ref().map(String::as_str), "")
                .unwrap_or_else(|| "unknown".into()),
            versions,
            load_average: load_average(),
        }
    }

    /// As a list in Markdown.
    #[must_use]
    pub fn list(&self) -> String {
        let governor = self.governor.as_deref().unwrap_or("not readable");
        let [one, five, fifteen] = self.load_average;
        let mut out = format!(
            "- {}, {} cores, {} MiB; Linux {}; governor: {governor}\n- load average at the start: {one}, {five}, {fifteen}\n- commit {}\n",
            self.cpu, self.cores, self.memory_mib, self.kernel, self.commit
        );
        for (name, version) in &self.versions {
            // Writing into a String cannot fail.
            let _ = writeln!(out, "- {name}: {version}");
        }
        out
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            cpu: "Example 1".into(),
            cores: 2,
            memory_mib: 2048,
            kernel: "6.1".into(),
            governor: None,
            commit: "0123456789ab".into(),
            versions: BTreeMap::from([("envoy".into(), "1.40.0".into())]),
            load_average: [0.1, 0.2, 0.3],
        }
    }
}

/// The load average over 1, 5 and 15 minutes.
#[must_use]
pub fn load_average() -> [f64; 3] {
    let text = read("/proc/loadavg");
    let mut values = text.split_whitespace().map(|value| value.parse().unwrap_or_default());
    std::array::from_fn(|_| values.next().unwrap_or_default())
}

/// The time, as in RFC 3339, UTC.
#[must_use]
pub fn now() -> String {
    line_of(Path::new("date"), &["-u", "+%Y-%m-%dT%H:%M:%SZ"], "")
        .unwrap_or_else(|| "unknown".into())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first line of a program's output that has this in it.
fn line_of(program: &Path, arguments: &[&str], containing: &str) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    // Help that was not asked for goes to the other one.
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let line = text.lines().find(|line| line.contains(containing))?.trim();
    // Envoy puts its path before, which says nothing to a reader.
    Some(line.rsplit_once("version: ").map_or(line, |(_, version)| version).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_and_a_time() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && machine.memory_mib > 0, "{machine:?}");
        assert!(machine.versions.contains_key("rustc"), "{machine:?}");
        let now = now();
        assert!(now.len() == 20 && now.ends_with('Z'), "{now}");
        assert!(machine.list().contains(&machine.kernel));
    }
}
