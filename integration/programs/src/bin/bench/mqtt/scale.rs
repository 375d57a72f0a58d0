//! As many sessions and subscriptions as one Envoy and this machine take, for minutes, and all of them coming back at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use integration::bench::gate::Side as _;
use integration::bench::report::{Better, Report};
use integration::bench::{Run, check_stop, float, stop_on_interrupt};
use integration::broker::Mosquitto;
use integration::raise_descriptor_limit;

use super::curve::most_sessions;
use super::fleet::Fleet;
use super::gate::{Side, start};

const USAGE: &str =
    "usage: bench scale [--sessions N] [--subscriptions N] [--rate N] [--minutes N]";

/// Sessions that are opened at the same time, but in the storm.
const AT_ONCE: usize = 50;

struct Options {
    sessions: usize,
    /// Of each session; one digit of a topic.
    subscriptions: usize,
    /// Messages per second.
    rate: u32,
    minutes: u32,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self { sessions: 10_000, subscriptions: 10, rate: 1_000, minutes: 10 };
        for pair in args.chunks(2) {
            let [name, value] = pair else { bail!("{USAGE}") };
            match name.as_str() {
                "--sessions" => options.sessions = value.parse()?,
                "--subscriptions" => options.subscriptions = value.parse()?,
                "--rate" => options.rate = value.parse()?,
                "--minutes" => options.minutes = value.parse()?,
                _ => bail!("{USAGE}"),
            }
        }
        ensure!(options.sessions > 0, "no sessions");
        ensure!((1..=10).contains(&options.subscriptions), "1 to 10 subscriptions");
        Ok(options)
    }
}

pub(crate) fn main(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    stop_on_interrupt()?;
    let descriptors = raise_descriptor_limit();
    let run = Run::begin(false);
    let two_each = options.sessions <= most_sessions(descriptors);
    let side = if two_each { Side::Bridge } else { Side::Http2 };
    let one_each = most_sessions(descriptors).saturating_mul(2);
    ensure!(
        options.sessions <= one_each,
        "{descriptors} file descriptors for a process (ulimit -Hn) allow {one_each} sessions at most"
    );
    let (name, title) = match side {
        Side::Http2 => ("scale-http2", "MQTT at scale, over HTTP/2 to a second Envoy"),
        _ => ("scale", "MQTT at scale"),
    };
    let mut report = Report::new(name, title, &[side], side).over("minute");
    measure(&options, side, &mut report)?;
    let Options { sessions, subscriptions, rate, .. } = options;
    if side == Side::Http2 {
        report.condition(format!("from the Envoy that is measured, sessions go over HTTP/2 to a second one, which opens the connections to mosquitto: {descriptors} file descriptors for a process (ulimit -Hn) are too few for two for each session. Latency is that of both"));
    }
    report.condition(format!("one Envoy with one worker, one mosquitto, {sessions} sessions with {subscriptions} subscriptions each, all different; {rate} messages per second, QoS 0, 64 octets, from each session to another in turn"));
    report.condition("everything on 127.0.0.1; file descriptors: for each session one or two in Envoy, one in mosquitto, one in the load");
    report.condition("waiting for a core: time in which a thread of Envoy's could have run and other programs did. It is in the latencies");
    report.condition("storm: all connections are closed at once, and opened again at once, without waiting for one another; back is a session with its SUBACK");
    run.publish(name, [report])
}

fn measure(options: &Options, side: Side, report: &mut Report) -> Result<()> {
    let &Options { sessions, subscriptions, rate, minutes } = options;
    let mosquitto = Mosquitto::builder().setting("log_type none").start()?;
    let gate = start(side, mosquitto.address())?;
    let process = gate.process().context("no proxy")?;
    let count = float(sessions as u64);
    let mib = |bytes: u64| float(bytes) / 1024.0 / 1024.0;
    let empty = process.resident_bytes()?;

    let opening = Instant::now();
    let mut fleet = Fleet::new(gate.address, subscriptions)?;
    fleet.open_up_to(sessions, AT_ONCE)?;
    let opened = count / opening.elapsed().as_secs_f64();
    fleet.rest(Duration::from_secs(2));
    let resident = process.resident_bytes()?;
    {
        let mut add = |name: &str, unit: &str, better, sample| {
            report.add(name, unit, better, side.name(), sample);
        };
        add("sessions open at once", "sessions", Better::High, count);
        let all = float((sessions * subscriptions) as u64);
        add("subscriptions", "subscriptions", Better::High, all);
        add("sessions opened, with their subscriptions", "1/s", Better::High, opened);
        add("Envoy without sessions, resident", "MiB", Better::Low, mib(empty));
        add("Envoy with them, resident", "MiB", Better::Low, mib(resident));
        let each = (float(resident) - float(empty)) / 1024.0 / count;
        add("… per session", "KiB", Better::Low, each);
        add("file descriptors of Envoy", "descriptors", Better::Low, float(process.descriptors()?));
        add(
            "mosquitto with them, resident",
            "MiB",
            Better::Low,
            mib(mosquitto.process.resident_bytes()?),
        );
    }

    let minute = Duration::from_secs(60);
    for number in 1..=minutes {
        check_stop()?;
        let (before, waited_before) = (process.cpu_seconds()?, process.waited_seconds()?);
        let sample = fleet.publish_for(f64::from(rate), minute)?;
        let percent = |seconds: f64| 100.0 * seconds / minute.as_secs_f64();
        let cpu = percent(process.cpu_seconds()? - before);
        let waited = percent(process.waited_seconds()? - waited_before);
        let resident = mib(process.resident_bytes()?);
        let lost = sample.sent - sample.delivered;
        eprintln!(
            "minute {number}: {} messages, {lost} lost; p50 {:.0} µs, p99 {:.0} µs, most {:.0} µs; Envoy {resident:.0} MiB, {cpu:.1} % of a core, waiting for one {waited:.1} %",
            sample.sent, sample.p50, sample.p99, sample.most,
        );
        let mut add = |name: &str, unit: &str, sample: f64| {
            report.add_at(f64::from(number), name, (unit, Better::Low), side.name(), sample);
        };
        add("publish→delivery, p50", "µs", sample.p50);
        add("publish→delivery, p99", "µs", sample.p99);
        add("publish→delivery, most", "µs", sample.most);
        add("lost messages", "messages", float(lost as u64));
        add("resident memory of Envoy", "MiB", resident);
        add("CPU of Envoy", "% of a core", cpu);
        add("Envoy waiting for a core", "% of the time", waited);
    }

    let before = process.cpu_seconds()?;
    drop(fleet);
    let storm = Instant::now();
    let mut fleet = Fleet::new(gate.address, subscriptions)?;
    fleet.open_up_to(sessions, sessions)?;
    let back = storm.elapsed().as_secs_f64();
    let cpu = process.cpu_seconds()? - before;
    let sample = fleet.publish_for(f64::from(rate), Duration::from_secs(5))?;
    let mut add = |name: &str, unit: &str, better, sample| {
        report.add(name, unit, better, side.name(), sample);
    };
    add("storm: all sessions back after", "s", Better::Low, back);
    add("storm: sessions back", "1/s", Better::High, count / back);
    add("storm: CPU of Envoy per session", "µs", Better::Low, cpu * 1e6 / count);
    add(
        "storm: lost messages after it",
        "messages",
        Better::Low,
        float((sample.sent - sample.delivered) as u64),
    );
    add("Envoy after the storm, resident", "MiB", Better::Low, mib(process.resident_bytes()?));
    Ok(())
}
