//! What there is to see of Envoy and of the clients at one time.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use integration::bench::Latency;
use integration::envoy::Envoy;
use integration::load::{Counts, Tally};

use crate::{PROTOCOLS, verdict};

/// What one protocol did since the sample before.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Activity {
    pub(crate) counts: Counts,
    /// In microseconds; nothing, if nothing was answered.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// What one Envoy is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxy {
    pub(crate) resident_kib: u64,
    /// By Envoy's allocator: what is in use, and what it has from the kernel.
    pub(crate) allocated: u64,
    pub(crate) heap: u64,
    pub(crate) descriptors: u64,
    /// Connections to the HTTP service, which Envoy keeps for later: for an hour, by default.
    pub(crate) pooled: u64,
    pub(crate) threads: u64,
    /// Of one core, since the sample before.
    pub(crate) cpu_percent: f64,
    /// Of clients over TCP, the broken ones' included.
    pub(crate) connections: u64,
    /// Sessions of MQTT, or of clients over UDP.
    pub(crate) sessions: u64,
    pub(crate) wasm_vms: u64,
    pub(crate) reloads: u64,
}

impl Proxy {
    /// Whether it has no clients, and not much more descriptors than before it had any.
    pub(crate) fn is_empty_again(&self, before: &Self) -> bool {
        self.connections == 0
            && self.sessions == 0
            && self.descriptors - self.pooled <= before.descriptors + verdict::FEW
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Seconds since the first one was waited for.
    pub(crate) at: f64,
    pub(crate) own_cpu_percent: f64,
    /// Of the whole machine, over a minute: others use it, too.
    pub(crate) load_average: f64,
    /// By protocol.
    pub(crate) envoys: Vec<Proxy>,
    pub(crate) activities: Vec<Activity>,
}

impl Sample {
    /// The names of what [`Sample::csv`] has.
    pub(crate) fn header() -> String {
        const PROXY: [&str; 11] = [
            "resident_kib",
            "allocated",
            "heap",
            "descriptors",
            "pooled",
            "threads",
            "cpu_percent",
            "connections",
            "sessions",
            "wasm_vms",
            "reloads",
        ];
        const ACTIVITY: [&str; 6] =
            ["answered", "repeated", "failed", "foreign", "p50_us", "p99_us"];
        let mut fields =
            ["seconds", "clients_cpu_percent", "load_average"].map(str::to_owned).to_vec();
        for names in [&PROXY[..], &ACTIVITY] {
            for protocol in PROTOCOLS {
                let protocol = protocol.to_ascii_lowercase();
                fields.extend(names.iter().map(|name| format!("{protocol}_{name}")));
            }
        }
        fields.join(",")
    }

    pub(crate) fn csv(&self) -> String {
        let mut fields = vec![
            format!("{:.1}", self.at),
            format!("{:.1}", self.own_cpu_percent),
            format!("{:.2}", self.load_average),
        ];
        for proxy in &self.envoys {
            let Proxy { resident_kib, allocated, heap, descriptors, pooled, threads, .. } = proxy;
            let Proxy { cpu_percent, connections, sessions, wasm_vms, reloads, .. } = proxy;
            fields.push(format!(
                "{resident_kib},{allocated},{heap},{descriptors},{pooled},{threads}"
            ));
            fields.push(format!("{cpu_percent:.1},{connections},{sessions},{wasm_vms},{reloads}"));
        }
        for Activity { counts, p50, p99 } in &self.activities {
            let Counts { answered, repeated, failed, foreign, .. } = counts;
            fields.push(format!("{answered},{repeated},{failed},{foreign},{p50:.0},{p99:.0}"));
        }
        fields.join(",")
    }
}

/// Takes samples, and remembers what the last one had.
#[derive(Debug)]
pub(crate) struct Sampler {
    begin: Instant,
    last: Instant,
    envoy_cpu: Vec<f64>,
    own_cpu: f64,
    counts: Vec<Counts>,
}

impl Sampler {
    pub(crate) fn new(envoys: &[Envoy]) -> Result<Self> {
        let now = Instant::now();
        let envoy_cpu = envoys.iter().map(|envoy| envoy.process.cpu_seconds());
        let (envoy_cpu, own_cpu) = (envoy_cpu.collect::<Result<_>>()?, own_cpu_seconds()?);
        Ok(Self { begin: now, last: now, envoy_cpu, own_cpu, counts: Vec::new() })
    }

    pub(crate) fn take(&mut self, envoys: &[Envoy], tallies: &[Arc<Tally>]) -> Result<Sample> {
        let elapsed = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let percent = |last: &mut f64, now: f64| {
            let used = now - std::mem::replace(last, now);
            if elapsed > 0.0 { 100.0 * used / elapsed } else { 0.0 }
        };
        let own_cpu_percent = percent(&mut self.own_cpu, own_cpu_seconds()?);
        self.counts.resize(tallies.len(), Counts::default());
        let mut activities = Vec::new();
        for (tally, last) in tallies.iter().zip(&mut self.counts) {
            let now = tally.counts();
            let counts = now.since(std::mem::replace(last, now));
            let latency =
                Latency::of(tally.take_latencies()).unwrap_or(Latency { p50: 0.0, p99: 0.0 });
            activities.push(Activity { counts, p50: latency.p50, p99: latency.p99 });
        }
        let mut proxies = Vec::new();
        for (envoy, last) in envoys.iter().zip(&mut self.envoy_cpu) {
            let cpu_percent = percent(last, envoy.process.cpu_seconds()?);
            proxies.push(Proxy { cpu_percent, ..look(envoy)? });
        }
        Ok(Sample {
            at: self.begin.elapsed().as_secs_f64(),
            own_cpu_percent,
            load_average: load_average()?,
            envoys: proxies,
            activities,
        })
    }
}

fn look(envoy: &Envoy) -> Result<Proxy> {
    let proc = format!("/proc/{}", envoy.process.pid());
    let memory: serde_json::Value = serde_json::from_str(&envoy.get("/memory")?)?;
    let memory = |name: &str| -> Result<u64> {
        let value = memory.get(name).and_then(serde_json::Value::as_str);
        Ok(value.with_context(|| format!("no {name} in /memory"))?.parse()?)
    };
    let stats = envoy.get("/stats")?;
    let stats: Vec<(&str, u64)> = stats
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
        .collect();
    let sum = |wanted: &dyn Fn(&str) -> bool| {
        stats.iter().filter(|(name, _)| wanted(name)).map(|(_, value)| value).sum()
    };
    Ok(Proxy {
        resident_kib: envoy.process.resident_bytes()? / 1024,
        allocated: memory("allocated")?,
        heap: memory("heap_size")?,
        descriptors: fs::read_dir(format!("{proc}/fd"))?.count() as u64,
        pooled: sum(&|name| {
            matches!(
                name,
                "cluster.service.upstream_cx_active" | "cluster.telemetry.upstream_cx_active"
            )
        }),
        threads: fs::read_dir(format!("{proc}/task"))?.count() as u64,
        cpu_percent: 0.0,
        connections: sum(&|name| {
            name.starts_with("listener.127")
                && name.ends_with(".downstream_cx_active")
                && !name.contains("worker")
        }),
        sessions: sum(&|name| {
            let name = name.strip_prefix("wasmcustom.").unwrap_or_default();
            matches!(name.split('.').next(), Some("mqtt_sessions_active" | "udp_sessions_active"))
        }),
        wasm_vms: sum(&|name| name == "wasm.envoy.wasm.runtime.v8.active"),
        reloads: sum(&|name| name.ends_with("vm_reload_success")),
    })
}

fn own_cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(") ").context("unexpected /proc/self/stat")?;
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 ticks")]
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().context("/proc/loadavg is empty")?.parse()?)
}
