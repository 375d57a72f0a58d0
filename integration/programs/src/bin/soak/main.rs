//! `make soak`: an Envoy for each protocol under a mixed, moderate load for an hour, or `SOAK_SECONDS`. Is it at the end what it was in
//! the beginning?
//!
//! What was measured goes to `.build/soak`: `samples.csv`, `summary.json` and `soak.svg`.

mod chart;
mod sample;
mod verdict;

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::bench::machine::Machine;
use integration::bench::{check_stop, stop_on_interrupt};
use integration::load::trio::{Backends, Trio, configs};
use integration::load::{Load, Tally, broken, coap, dns, mqtt};
use integration::{eventually_within, root};
use serde_json::json;

use sample::{Sample, Sampler};

/// The protocols, in the order of everything here.
const PROTOCOLS: [&str; 3] = ["MQTT", "CoAP", "DNS"];

/// More than so many names fill the DNS cache of 2 MiB, so that it does not grow while memory is watched.
const NAMES: u32 = 12_000;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let seconds = std::env::var("SOAK_SECONDS").ok().filter(|text| !text.is_empty());
    let seconds: u32 = seconds.map_or(Ok(3600), |text| text.parse()).context("SOAK_SECONDS")?;
    ensure!(seconds >= 10, "SOAK_SECONDS is less than 10");
    let time = Duration::from_secs(seconds.into());
    for file in ["dist/mqtt.wasm", "dist/coap.wasm", "dist/dns.wasm", ".build/certs/server.crt"] {
        ensure!(root().join(file).is_file(), "{file} is not there: `make wasm certs` makes it");
    }
    stop_on_interrupt()?;
    let [mqtt, coap, dns] = configs()?;
    let dns = dns.replace("max_size: 33554432", "max_size: 2097152")?;
    let backends = Backends::start()?;
    let mut trio = Trio::start([mqtt, coap, dns], backends.addresses())?;
    let [_, _, address] = trio.addresses()?;
    dns::fill(address, NAMES)?;
    let before = Sampler::new(&trio.envoys)?.take(&trio.envoys, &[])?;

    let tallies: [Arc<Tally>; 3] = Default::default();
    let load = load(&trio, &tallies)?;
    // All sessions are there, and Envoy has what it needs for them.
    wait((time / 20).clamp(Duration::from_secs(5), Duration::from_secs(60)))?;
    for tally in &tallies {
        let _ = tally.take_latencies();
    }

    let samples = sample_for(time, &mut trio, &tallies)?;
    load.stop();
    let counts = tallies.each_ref().map(|tally| tally.counts());
    let after = rest(&mut trio, &before)?;
    let sound = trio.expect_healthy();

    let checks = verdict::checks(&samples, &counts, &before, &after, sound.err());
    let notes: Vec<String> = tallies.iter().flat_map(|tally| tally.take_notes()).collect();
    let dir = root().join(".build/soak");
    fs::write(dir.join("soak.svg"), chart::draw(&samples))?;
    let checks_json: Vec<_> = checks
        .iter()
        .map(|check| json!({"what": check.what, "found": check.found, "bound": check.bound, "holds": check.holds}))
        .collect();
    let counts_json: Vec<_> = PROTOCOLS
        .iter()
        .zip(counts)
        .map(|(protocol, counts)| {
            json!({"protocol": protocol, "answered": counts.answered, "repeated": counts.repeated,
                   "failed": counts.failed, "foreign": counts.foreign, "sessions": counts.sessions})
        })
        .collect();
    let machine = Machine::here();
    let summary = json!({"machine": machine, "seconds": seconds, "counts": counts_json,
                         "checks": checks_json, "failures": notes});
    fs::write(dir.join("summary.json"), serde_json::to_string_pretty(&summary)? + "\n")?;

    print!("{}", machine.list());
    println!(
        "- {seconds} s, {} samples, an Envoy with one worker for each protocol\n",
        samples.len()
    );
    println!("| | answered | sent again | failed | of others | sessions |");
    println!("|---|---|---|---|---|---|");
    for (protocol, counts) in PROTOCOLS.iter().zip(counts) {
        println!(
            "| {protocol} | {} | {} | {} | {} | {} |",
            counts.answered, counts.repeated, counts.failed, counts.foreign, counts.sessions
        );
    }
    println!("\n| | found | bound | |\n|---|---|---|---|");
    for check in &checks {
        let holds = if check.holds { "holds" } else { "**DOES NOT HOLD**" };
        println!("| {} | {} | {} | {holds} |", check.what, check.found, check.bound);
    }
    for note in &notes {
        println!("failure: {note}");
    }
    Ok(checks.iter().all(|check| check.holds))
}

/// What some hundred devices do: about 300 exchanges and 50 new sessions a second.
fn load(trio: &Trio, tallies: &[Arc<Tally>; 3]) -> Result<Load> {
    let ms = Duration::from_millis;
    let mut load = Load::default();
    let [tally, coap_tally, dns_tally] = tallies;
    let [mqtt_address, coap_address, dns_address] = trio.addresses()?;
    let address = mqtt_address;
    load.clients("lasting MQTT", 30, ms(400), tally, |n| mqtt::lasting(address, n, ms(400)));
    load.clients("fleeting MQTT", 6, ms(1000), tally, |n| mqtt::fleeting(address, n, ms(1000)));
    load.clients("idle MQTT", 30, ms(2000), tally, |n| mqtt::idle(address, n));

    let (tally, address) = (coap_tally, coap_address);
    load.clients("lasting CoAP", 16, ms(400), tally, |n| coap::lasting(address, n, ms(400)));
    load.clients("fleeting CoAP", 6, ms(500), tally, |n| {
        coap::fleeting(address, 1000 * n + 100, ms(500))
    });
    load.clients("observing CoAP", 3, ms(1000), tally, |n| coap::observing(address, n + 50));
    load.clients("CoAP over TCP", 3, ms(400), tally, |n| coap::over_tcp(address, n, ms(400), 1000));
    load.clients("short CoAP over TCP", 3, ms(1000), tally, |n| {
        coap::over_tcp(address, n + 10, ms(500), 2)
    });

    let (tally, address) = (dns_tally, dns_address);
    // Each with another period: what comes just when a session ends may be lost, and then it is not always the same.
    load.clients("lasting DNS", 12, ms(200), tally, |n| {
        dns::lasting(address, n, ms(100 + 20 * u64::from(n)))
    });
    load.clients("fleeting DNS", 6, ms(250), tally, |n| dns::fleeting(address, n, ms(250)));
    load.clients("DNS over TCP", 3, ms(500), tally, |_| dns::over_tcp(address, ms(500), 1000));
    load.clients("short DNS over TCP", 3, ms(1000), tally, |_| dns::over_tcp(address, ms(500), 1));

    // Nobody waits for them, so they are nobody's.
    let broken = broken::all(mqtt_address, coap_address, dns_address, ms(2000));
    load.client("broken", ms(0), &Arc::default(), broken);
    Ok(load)
}

/// Waits, but not longer than until Ctrl-C.
fn wait(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        check_stop()?;
        std::thread::sleep(left.min(Duration::from_millis(200)));
    }
    Ok(())
}

/// A sample each ten seconds, or ten times that in a short run; each goes into the file at once.
fn sample_for(time: Duration, trio: &mut Trio, tallies: &[Arc<Tally>; 3]) -> Result<Vec<Sample>> {
    let period = (time / 12).min(Duration::from_secs(10));
    let dir = root().join(".build/soak");
    fs::create_dir_all(&dir)?;
    let mut csv = Sample::header() + "\n";
    let mut sampler = Sampler::new(&trio.envoys)?;
    // What was counted before is no part of the first sample.
    sampler.take(&trio.envoys, tallies)?;
    let mut samples = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() + period / 2 < time {
        wait(period)?;
        for envoy in &mut trio.envoys {
            envoy.process.expect_running()?;
        }
        let sample = sampler.take(&trio.envoys, tallies)?;
        csv.push_str(&sample.csv());
        csv.push('\n');
        fs::write(dir.join("samples.csv"), &csv)?;
        samples.push(sample);
    }
    Ok(samples)
}

/// What is left when all clients are gone: waits until there are no sessions any more.
fn rest(trio: &mut Trio, before: &Sample) -> Result<Sample> {
    let limit = Duration::from_secs(60);
    let mut sampler = Sampler::new(&trio.envoys)?;
    let ended = eventually_within(limit, "the end of all sessions", || {
        check_stop()?;
        let sample = sampler.take(&trio.envoys, &[])?;
        let mut pairs = sample.envoys.iter().zip(&before.envoys);
        let gone = pairs.all(|(now, before)| now.is_empty_again(before));
        Ok(gone.then_some(sample))
    });
    ended.or_else(|_| sampler.take(&trio.envoys, &[]))
}
