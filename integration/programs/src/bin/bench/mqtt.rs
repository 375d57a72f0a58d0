//! What does it cost to put an MQTT session through each of these? Everything side by side in one run, the sides taking
//! turns within each round, so that what the machine does meanwhile hits all of them.

mod curve;
mod fleet;
mod gate;
mod load;
pub(crate) mod scale;

use anyhow::{Result, bail};
use integration::bench::gate::{Side as _, sides};
use integration::bench::report::{Better, Report};
use integration::bench::{Options, Run, check_stop, progress, stop_on_interrupt};
use integration::broker::{Mosquitto, Sink};
use integration::raise_descriptor_limit;

use gate::{Side, start, start_all};

const USAGE: &str =
    "usage: bench mqtt [--rounds N] [--quick] [--sides direct,tcp_proxy,haproxy,observe,bridge]
                  [--only bulk,mosquitto,latency,connections,memory,messages,number]";

pub(crate) fn main(args: &[String]) -> Result<()> {
    let options = Options::parse(args, USAGE)?;
    let sides: Vec<Side> = sides(&options.sides)?;
    stop_on_interrupt()?;
    let descriptors = raise_descriptor_limit();
    let run = Run::begin(options.quick);
    let base = Side::TcpProxy;
    let mut report = Report::new("mqtt", "MQTT sessions", &sides, base);
    let mut by_message =
        Report::new("mqtt-messages", "MQTT message by message", &Side::MESSAGES, base);
    let mut by_number = Report::new(
        "mqtt-connections",
        "MQTT: cost against the number of connections",
        &curve::SIDES,
        base,
    )
    .over("connections");

    if options.wants("bulk") {
        bulk(&options, &sides, &mut report)?;
    }
    if options.wants("mosquitto") {
        bulk_to_mosquitto(&options, &sides, &mut report)?;
    }
    if options.wants("latency") {
        latency(&options, &sides, &mut report)?;
    }
    if options.wants("connections") {
        connections(&options, &sides, &mut report)?;
    }
    if options.wants("memory") {
        memory(&options, &sides, &mut report, descriptors)?;
    }
    if options.wants("messages") {
        messages(&options, &mut by_message)?;
    }
    if options.wants("number") {
        curve::run(&options, &mut by_number, descriptors)?;
    }
    for report in [&mut report, &mut by_message] {
        report.condition(
            "everything on 127.0.0.1; Envoy with one worker, HAProxy with one thread, MQTT 5.0",
        );
    }
    run.publish("mqtt", [report, by_message, by_number])
}

fn bulk(options: &Options, sides: &[Side], report: &mut Report) -> Result<()> {
    let sink = Sink::start()?;
    let gates = start_all(sides, sink.address())?;
    for (payload, size) in [(64 * 1024, "64 KiB"), (1024, "1 KiB")] {
        let name = format!("bulk publish, QoS 0, {size} payloads");
        for round in 0..options.rounds {
            progress(&name, round, options.rounds);
            for gate in &gates {
                check_stop()?;
                let bulk = load::bulk(gate, &sink, payload, load::MEGABYTE, options.quick)?;
                report.add(
                    &name,
                    "MB/s",
                    Better::High,
                    gate.side.name(),
                    bulk.megabytes_per_second,
                );
                if let Some(cpu) = bulk.cpu_seconds_per_gigabyte {
                    report.add(
                        &format!("… CPU of the proxy, {size}"),
                        "s/GB",
                        Better::Low,
                        gate.side.name(),
                        cpu,
                    );
                }
            }
        }
    }
    Ok(())
}

fn bulk_to_mosquitto(options: &Options, sides: &[Side], report: &mut Report) -> Result<()> {
    let mosquitto = Mosquitto::builder().setting("log_type none").start()?;
    let gates = start_all(sides, mosquitto.address())?;
    let name = "bulk publish to mosquitto, 64 KiB payloads";
    for round in 0..options.rounds {
        progress(name, round, options.rounds);
        for gate in &gates {
            check_stop()?;
            let rate = load::bulk_confirmed(gate, 64 * 1024, options.quick)?;
            report.add(name, "MB/s", Better::High, gate.side.name(), rate);
        }
    }
    Ok(())
}

fn latency(options: &Options, sides: &[Side], report: &mut Report) -> Result<()> {
    let mosquitto = Mosquitto::builder().setting("log_type none").start()?;
    let gates = start_all(sides, mosquitto.address())?;
    for round in 0..options.rounds {
        progress("publish→subscribe latency", round, options.rounds);
        for gate in &gates {
            check_stop()?;
            let micros = load::latency(gate, options.quick)?;
            report.add("publish→subscribe, p50", "µs", Better::Low, gate.side.name(), micros.p50);
            report.add("publish→subscribe, p99", "µs", Better::Low, gate.side.name(), micros.p99);
        }
    }
    Ok(())
}

fn connections(options: &Options, sides: &[Side], report: &mut Report) -> Result<()> {
    let sink = Sink::start()?;
    let gates = start_all(sides, sink.address())?;
    for round in 0..options.rounds {
        progress("new connections", round, options.rounds);
        for gate in &gates {
            check_stop()?;
            let rate = load::connections(gate, options.quick)?;
            report.add("new connections", "1/s", Better::High, gate.side.name(), rate);
        }
    }
    Ok(())
}

fn messages(options: &Options, report: &mut Report) -> Result<()> {
    let sink = Sink::start()?;
    // A request's content does not reach the sink.
    let native: Vec<_> = Side::MESSAGES.into_iter().filter(|&side| side != Side::Request).collect();
    let gates = start_all(&native, sink.address())?;
    for round in 0..options.rounds {
        progress("messages, QoS 0", round, options.rounds);
        for gate in &gates {
            check_stop()?;
            let bulk = load::bulk(gate, &sink, 64, load::MESSAGES, options.quick)?;
            let rate = bulk.megabytes_per_second * 1e6 / load::bulk_packet_len(64);
            report.add(
                "publish, QoS 0, 64 B payloads",
                "1/s",
                Better::High,
                gate.side.name(),
                rate,
            );
        }
    }
    let mosquitto = Mosquitto::builder().setting("log_type none").start()?;
    let gates = start_all(&Side::MESSAGES, mosquitto.address())?;
    for round in 0..options.rounds {
        progress("messages, QoS 1", round, options.rounds);
        for gate in &gates {
            check_stop()?;
            let rate = load::acknowledged(gate, options.quick)?;
            let name = "publish, QoS 1, 64 B payloads, 64 at once";
            report.add(name, "1/s", Better::High, gate.side.name(), rate);
            let micros = load::acknowledgement(gate, options.quick)?;
            report.add("publish→PUBACK, p50", "µs", Better::Low, gate.side.name(), micros.p50);
            report.add("publish→PUBACK, p99", "µs", Better::Low, gate.side.name(), micros.p99);
        }
    }
    Ok(())
}

fn memory(options: &Options, sides: &[Side], report: &mut Report, descriptors: u64) -> Result<()> {
    let most = usize::try_from(descriptors / 2).unwrap_or(usize::MAX).saturating_sub(200);
    let (few, many) = if options.quick { (500, 1_500) } else { (1_000, 5_000) };
    if many > most {
        bail!(
            "{many} idle connections need more than the {descriptors} file descriptors allowed here (ulimit -n)"
        );
    }
    let rounds = options.rounds.min(3);
    for round in 0..rounds {
        progress(&format!("memory of {many} idle connections"), round, rounds);
        for &side in sides.iter().filter(|&&side| side != Side::Direct) {
            check_stop()?;
            // A fresh proxy each time: memory that was freed but not given back would hide what sessions need.
            let sink = Sink::start()?;
            let gate = start(side, sink.address())?;
            let memory = load::memory(&gate, &sink, few, many)?;
            report.add(
                "idle connection, resident",
                "KiB",
                Better::Low,
                side.name(),
                memory.resident,
            );
            if let Some(allocated) = memory.allocated {
                report.add(
                    "idle connection, allocated",
                    "KiB",
                    Better::Low,
                    side.name(),
                    allocated,
                );
            }
        }
    }
    Ok(())
}
