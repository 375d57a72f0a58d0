//! Whether Envoy was at the end what it was in the beginning: the first third of the samples beside the last one.

use anyhow::Error;
use integration::load::Counts;

use crate::PROTOCOLS;
use crate::sample::Sample;

/// By how many descriptors two times may differ: connections come and go.
pub(crate) const FEW: u64 = 10;

/// By how much memory may have grown, in MiB.
const GROWTH: f64 = 8.0;

/// A promise, and what became of it.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) found: String,
    pub(crate) bound: String,
    pub(crate) holds: bool,
}

impl Check {
    fn new(what: impl Into<String>, found: String, bound: impl Into<String>, holds: bool) -> Self {
        Self { what: what.into(), found, bound: bound.into(), holds }
    }
}

pub(crate) fn checks(
    samples: &[Sample],
    counts: &[Counts],
    before: &Sample,
    after: &Sample,
    wrong: Option<Error>,
) -> Vec<Check> {
    let third = samples.len() / 3;
    let first = samples.get(..third).unwrap_or_default();
    let last = samples.get(samples.len() - third..).unwrap_or_default();
    let medians = |of: &dyn Fn(&Sample) -> f64| (median(first, of), median(last, of));
    let mut checks = Vec::new();

    for (n, protocol) in PROTOCOLS.iter().enumerate() {
        let proxy = |sample: &Sample| sample.envoys.get(n).cloned().unwrap_or_default();
        let resident = |sample: &Sample| float(proxy(sample).resident_kib) / 1024.0;
        let (begin, end) = medians(&resident);
        checks.push(Check::new(
            format!("{protocol}, resident memory in MiB: medians"),
            format!("{begin:.1} → {end:.1}"),
            format!("+{GROWTH}"),
            end <= begin + GROWTH,
        ));
        let later = samples.get(third..).unwrap_or_default();
        let slope = slope(later, &resident);
        let time = later.last().map_or(0.0, |it| it.at) - later.first().map_or(0.0, |it| it.at);
        checks.push(Check::new(
            format!("{protocol}, the same: slope over the last two thirds"),
            format!("{:+.1} per hour, {:+.1} in all", slope * 3600.0, slope * time),
            format!("+{GROWTH} in all"),
            slope * time <= GROWTH,
        ));
        let (begin, end) = medians(&|sample| float(proxy(sample).allocated) / 1_048_576.0);
        checks.push(Check::new(
            format!("{protocol}, MiB by Envoy's allocator: medians"),
            format!("{begin:.1} → {end:.1}"),
            format!("+{GROWTH}"),
            end <= begin + GROWTH,
        ));
        let (begin, end) = medians(&|sample| float(proxy(sample).descriptors));
        checks.push(Check::new(
            format!("{protocol}, file descriptors: medians"),
            format!("{begin:.0} → {end:.0}"),
            format!("+{FEW}"),
            end <= begin + float(FEW),
        ));
        let mut threads: Vec<u64> = samples.iter().map(|sample| proxy(sample).threads).collect();
        threads.dedup();
        checks.push(Check::new(
            format!("{protocol}, threads"),
            format!("{threads:?}"),
            "always the same",
            threads.len() == 1,
        ));
        let (begin, end) = medians(&|sample| float(proxy(sample).connections));
        checks.push(Check::new(
            format!("{protocol}, connections over TCP: medians"),
            format!("{begin:.0} → {end:.0}"),
            format!("±{FEW}"),
            (end - begin).abs() <= float(FEW),
        ));
    }
    for (n, protocol) in PROTOCOLS.iter().enumerate() {
        let of = |p99: bool| {
            medians(&|sample: &Sample| {
                let activity = sample.activities.get(n).copied().unwrap_or_default();
                if p99 { activity.p99 / 1000.0 } else { activity.p50 / 1000.0 }
            })
        };
        let (begin, end) = of(false);
        checks.push(Check::new(
            format!("{protocol}, latency p50 in ms: medians"),
            format!("{begin:.2} → {end:.2}"),
            "twice, and 1",
            end <= 2.0 * begin + 1.0,
        ));
        let (begin, end) = of(true);
        checks.push(Check::new(
            format!("{protocol}, latency p99 in ms: medians"),
            format!("{begin:.2} → {end:.2}"),
            "three times, and 50",
            end <= 3.0 * begin + 50.0,
        ));
    }
    for (protocol, counts) in PROTOCOLS.iter().zip(counts) {
        checks.push(Check::new(
            format!("{protocol}: failed, and of these with data of others"),
            format!("{} and {} of {}", counts.failed, counts.foreign, counts.answered),
            "0",
            counts.failed == 0 && counts.answered > 0,
        ));
    }
    for (protocol, counts) in PROTOCOLS.iter().zip(counts).skip(1) {
        let Counts { repeated, answered, .. } = counts;
        checks.push(Check::new(
            format!("{protocol}, datagrams sent again because no answer came"),
            format!("{repeated} for {answered} answers"),
            "1 %",
            repeated * 100 <= *answered,
        ));
    }
    for ((protocol, before), after) in PROTOCOLS.iter().zip(&before.envoys).zip(&after.envoys) {
        checks.push(Check::new(
            format!("{protocol}, VMs that trapped"),
            after.reloads.to_string(),
            "0",
            after.reloads == 0,
        ));
        checks.push(Check::new(
            format!(
                "{protocol}, when all clients were gone: connections, sessions, descriptors without {} kept connections to the HTTP service",
                after.pooled
            ),
            format!(
                "{}, {}, {}",
                after.connections,
                after.sessions,
                after.descriptors - after.pooled
            ),
            format!("0, 0, {}", before.descriptors + FEW),
            after.is_empty_again(before),
        ));
    }
    let holds = wrong.is_none();
    let said = wrong.map_or_else(|| "nothing".to_owned(), |error| error.to_string());
    checks.push(Check::new("what went wrong in Envoy's log", said, "nothing", holds));
    checks
}

fn median(samples: &[Sample], of: &dyn Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Of the line with the least squares, per second.
fn slope(samples: &[Sample], of: &dyn Fn(&Sample) -> f64) -> f64 {
    let count = float(samples.len() as u64);
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(&|sample| sample.at), mean(of));
    let covariance: f64 = samples.iter().map(|it| (it.at - x) * (of(it) - y)).sum();
    let variance: f64 = samples.iter().map(|it| (it.at - x).powi(2)).sum();
    covariance / variance
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(value: u64) -> f64 {
    value as f64
}
