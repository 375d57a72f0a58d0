//! What loads over UDP count, and what comes of it.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::report::{Better, Report};
use super::{Latency, float};
use crate::process::Process;

/// An address of the load's own: its ports are not those from which proxies take theirs.
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// After which a request counts as unanswered, and another one takes its place. Long before a CoAP client would send it again
/// (RFC 7252 §4.8).
pub const GIVE_UP: Duration = Duration::from_secs(1);

/// What runs, but is not measured: caches, sessions and windows find their size.
pub const WARM_UP: Duration = Duration::from_millis(100);

/// What becomes of requests.
#[derive(Debug)]
pub struct Tally {
    /// Answers that come later do not count.
    pub until: Instant,
    /// No further requests are made.
    pub closed: bool,
    from: Instant,
    /// All that were answered before `until`.
    completed: u64,
    /// Of those answered between `from` and `until`.
    micros: Vec<f64>,
    unanswered: u64,
}

impl Tally {
    /// Counts what is answered within this time, after a warm-up.
    #[must_use]
    pub fn after_warm_up(time: Duration) -> Self {
        Self::of(Instant::now() + WARM_UP, time)
    }

    /// Lets those under way be answered, for at most this long.
    #[must_use]
    pub fn closed(time: Duration) -> Self {
        Self { closed: true, ..Self::of(Instant::now(), time) }
    }

    fn of(from: Instant, time: Duration) -> Self {
        let until = from + time;
        Self { from, until, closed: false, completed: 0, micros: Vec::new(), unanswered: 0 }
    }

    /// One was answered that was sent then.
    pub fn answered(&mut self, sent: Instant) {
        let now = Instant::now();
        if now < self.until {
            self.completed += 1;
            if now >= self.from {
                self.micros.push((now - sent).as_secs_f64() * 1e6);
            }
        }
    }

    /// One was given up.
    pub fn gave_up(&mut self) {
        self.unanswered += 1;
    }

    /// How many were given up.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// What came of it, with what the proxy, if there is one, used of the CPU for it. `who` is named if nothing was answered.
    pub fn measured(self, who: &str, cpu_seconds: Option<f64>) -> Result<Measured> {
        let answered = float(self.micros.len() as u64);
        ensure!(answered > 0.0, "{who} answered nothing");
        let unanswered = float(self.unanswered);
        Ok(Measured {
            rate: answered / (self.until - self.from).as_secs_f64(),
            cpu_micros: cpu_seconds.map(|seconds| seconds * 1e6 / float(self.completed)),
            unanswered: 100.0 * unanswered / (answered + unanswered),
            latency: Latency::of(self.micros)?,
        })
    }
}

/// What came of a load.
#[derive(Debug)]
pub struct Measured {
    /// Answers per second.
    pub rate: f64,
    /// Until the answer came.
    pub latency: Latency,
    /// CPU time of the proxy per request, if there is one.
    pub cpu_micros: Option<f64>,
    /// In percent.
    pub unanswered: f64,
}

impl Measured {
    /// Adds it to the rows of a load of this name.
    pub fn add_to(&self, report: &mut Report, name: &str, side: &str) {
        let mut add = |what: &str, unit, better, sample| {
            report.add(&format!("{what}{name}"), unit, better, side, sample);
        };
        add("", "1/s", Better::High, self.rate);
        add("p50, ", "µs", Better::Low, self.latency.p50);
        add("p99, ", "µs", Better::Low, self.latency.p99);
        if let Some(micros) = self.cpu_micros {
            add("CPU of the proxy, ", "µs", Better::Low, micros);
        }
        add("unanswered, ", "%", Better::Low, self.unanswered);
    }
}

/// What each of so many sessions has added to the resident memory of a process that had this much before, in KiB.
pub fn kib_per_session(process: &Process, before: u64, sessions: usize) -> Result<f64> {
    let grown = process.resident_bytes()?.saturating_sub(before);
    Ok(float(grown) / 1024.0 / float(sessions as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_the_time_or_after_it_does_not_count() {
        let mut early = Tally::after_warm_up(Duration::from_secs(60));
        early.answered(Instant::now());
        assert!(early.measured("it", None).is_err());
        let mut late = Tally::closed(Duration::ZERO);
        late.answered(Instant::now());
        assert!(late.measured("it", None).is_err());
    }

    #[test]
    fn rates_are_per_second_and_shares_in_percent() {
        let mut tally = Tally::closed(Duration::from_secs(2));
        for _ in 0..3 {
            tally.answered(Instant::now());
        }
        tally.gave_up();
        let measured = tally.measured("it", Some(0.003)).unwrap();
        assert_eq!((measured.rate, measured.unanswered), (1.5, 25.0));
        assert!((measured.cpu_micros.unwrap() - 1000.0).abs() < 1e-6);
    }
}
