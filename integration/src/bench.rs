//! What the benches have in common: several sides are measured in turns, round by round, so that what the machine does
//! meanwhile hits all of them; then medians, spread and ratios go to the terminal and into a file, from which pages, plots and
//! comparisons are made.

pub mod codecs;
pub mod compare;
pub mod gate;
pub mod load;
pub mod machine;
pub mod page;
pub mod plot;
pub mod report;
pub mod results;
pub mod service;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use machine::Machine;
use report::Report;
use results::{Results, SCHEMA, Section};

/// What is given on the command line.
#[derive(Debug)]
pub struct Options {
    /// How often each side is measured.
    pub rounds: usize,
    /// Shorter samples, and at most three rounds.
    pub quick: bool,
    /// The names of the sides; empty for all.
    pub sides: Vec<String>,
    /// The names of the measurements; empty for all.
    pub only: Vec<String>,
}

impl Options {
    /// Reads them; `usage` is what is said when they are wrong.
    pub fn parse(args: &[String], usage: &str) -> Result<Self> {
        let mut options = Self { rounds: 7, quick: false, sides: Vec::new(), only: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{usage}"));
            let list = |text: &String| text.split(',').map(str::to_owned).collect();
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                "--only" => options.only = list(value()?),
                "--sides" => options.sides = list(value()?),
                _ => bail!("{usage}"),
            }
        }
        if options.quick {
            options.rounds = options.rounds.min(3);
        }
        Ok(options)
    }

    /// Whether this measurement is to be made.
    #[must_use]
    pub fn wants(&self, what: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == what)
    }
}

/// A run that has begun: when, and on what.
#[derive(Debug)]
pub struct Run {
    started: String,
    quick: bool,
    machine: Machine,
}

impl Run {
    /// Begins it: what the machine is busy with is looked at before anything is started.
    #[must_use]
    pub fn begin(quick: bool) -> Self {
        Self { started: machine::now(), quick, machine: Machine::here() }
    }

    /// What came of it.
    #[must_use]
    pub fn end(self, sections: Vec<Section>) -> Results {
        let Self { started, quick, machine } = self;
        Results { schema: SCHEMA, started, quick, machine, sections }
    }

    /// Prints the tables, after what they were measured on, and writes it all to `.build/bench/<name>.json`.
    pub fn publish(self, name: &str, reports: impl IntoIterator<Item = Report>) -> Result<()> {
        let results = self.end(reports.into_iter().filter_map(Report::finish).collect());
        println!("{}", page::tables(&results));
        results.write(&Results::dir().join(format!("{name}.json")))
    }
}

/// How long one sample takes.
#[must_use]
pub fn sample_time(quick: bool) -> Duration {
    Duration::from_millis(if quick { 300 } else { 800 })
}

/// How long something took, of many times.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// The median, in microseconds.
    pub p50: f64,
    /// What one in a hundred took longer than, in microseconds.
    pub p99: f64,
}

impl Latency {
    /// Of these microseconds, in any order; an error if there are none.
    pub fn of(mut micros: Vec<f64>) -> Result<Self> {
        micros.sort_by(f64::total_cmp);
        let at = |part: usize| {
            let index = micros.len() * part / 100;
            micros.get(index).copied().context("nothing was measured")
        };
        Ok(Self { p50: at(50)?, p99: at(99)? })
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C unwind out of the run at the next [`check_stop`], so that everything that was started is ended.
pub fn stop_on_interrupt() -> Result<()> {
    Ok(ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))?)
}

/// An error after Ctrl-C.
pub fn check_stop() -> Result<()> {
    if STOP.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Tells who watches how far the run is.
pub fn progress(what: &str, round: usize, rounds: usize) {
    eprintln!("{what}: round {} of {rounds}", round + 1);
}

/// As a number with a point.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
#[must_use]
pub fn float(number: u64) -> f64 {
    number as f64
}
