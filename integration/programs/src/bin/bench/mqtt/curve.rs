//! What a connection and a message cost, beside how many connections there are: the same messages per second, spread over
//! more and more sessions.

use std::time::Duration;

use anyhow::{Context, Result};
use integration::bench::gate::Side as _;
use integration::bench::report::{Better, Report};
use integration::bench::{Options, check_stop, float, progress};
use integration::broker::Mosquitto;

use super::fleet::Fleet;
use super::gate::{Side, start};

pub(crate) const SIDES: [Side; 3] = [Side::TcpProxy, Side::Bridge, Side::Http1];

/// How many sessions.
const NUMBERS: [usize; 4] = [10, 100, 1_000, 10_000];

/// Messages per second, of all sessions together.
const RATE: f64 = 2_000.0;

/// Sessions that are opened at the same time.
const AT_ONCE: usize = 50;

/// The most sessions that one proxy can have, with so many file descriptors allowed: two for each, and some of its own.
pub(crate) fn most_sessions(descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(100) / 2).unwrap_or(usize::MAX)
}

pub(crate) fn run(options: &Options, report: &mut Report, descriptors: u64) -> Result<()> {
    let most = most_sessions(descriptors);
    let time = Duration::from_secs(if options.quick { 2 } else { 8 });
    for sessions in NUMBERS.map(|number| number.min(most)) {
        for round in 0..options.rounds {
            progress(&format!("{sessions} sessions"), round, options.rounds);
            for side in SIDES {
                check_stop()?;
                measure(side, sessions, time, report)?;
            }
        }
    }
    report.condition(format!("{RATE} messages per second in all, QoS 0, 64 octets, from each session to another in turn, so each passes the proxy twice; each session has one subscription"));
    report.condition("everything on 127.0.0.1; Envoy with one worker, MQTT 5.0, mosquitto behind it; a fresh Envoy and mosquitto for each figure");
    report.condition("memory, allocated: as Envoy counts it, without that of the wasm VM. Resident: what the process has more; a few sessions find room that others left, so it says something from 1,000 connections on");
    report.condition("CPU per message: all of Envoy's CPU time while messages pass, so what idle sessions cost is in it");
    if most < 10_000 {
        report.condition(format!("the last number is the most that {descriptors} file descriptors (ulimit -Hn) allow one Envoy: two for each session"));
    }
    Ok(())
}

fn measure(side: Side, sessions: usize, time: Duration, report: &mut Report) -> Result<()> {
    let mosquitto = Mosquitto::builder().setting("log_type none").start()?;
    let gate = start(side, mosquitto.address())?;
    let process = gate.process().context("no proxy")?;
    let envoy = gate.envoy().context("not Envoy")?;
    // What the first sessions and messages cost once: code that V8 compiles, tables that grow.
    let mut first = Fleet::new(gate.address, 1)?;
    first.open_up_to(20, 20)?;
    first.publish_for(RATE, Duration::from_secs(1))?;
    drop(first);
    std::thread::sleep(Duration::from_millis(500));

    let at = float(sessions as u64);
    let mut add = |name: &str, unit: &str, sample: f64| {
        report.add_at(at, name, (unit, Better::Low), side.name(), sample);
    };
    let (resident, allocated) = (process.resident_bytes()?, envoy.allocated_bytes()?);
    let mut fleet = Fleet::new(gate.address, 1)?;
    fleet.open_up_to(sessions, AT_ONCE)?;
    // Buffers that were needed for a moment only are given back.
    fleet.rest(Duration::from_secs(1));
    let each = |before: u64, after: u64| (float(after) - float(before)) / 1024.0 / at;
    add("memory per connection, allocated", "KiB", each(allocated, envoy.allocated_bytes()?));
    add("memory per connection, resident", "KiB", each(resident, process.resident_bytes()?));

    let before = process.cpu_seconds()?;
    fleet.rest(time / 2);
    let idle = process.cpu_seconds()?;
    let sample = fleet.publish_for(RATE, time)?;
    let used = process.cpu_seconds()? - idle;
    add("CPU per message", "µs", used * 1e6 / float(sample.sent as u64));
    add("publish→delivery, p50", "µs", sample.p50);
    add("publish→delivery, p99", "µs", sample.p99);
    add("CPU without messages", "% of a core", 100.0 * (idle - before) / (time / 2).as_secs_f64());
    add(
        "lost messages",
        "%",
        100.0 * (1.0 - float(sample.delivered as u64) / float(sample.sent as u64)),
    );
    Ok(())
}
