//! What does it cost to put a DNS query over UDP through each of these? Everything side by side in one run, the sides taking
//! turns within each round, so that what the machine does meanwhile hits all of them.

mod cores;
mod gate;
mod load;

use std::time::Duration;

use anyhow::Result;
use integration::bench::gate::{Side as _, sides};
use integration::bench::report::{Better, Report};
use integration::bench::service::{self, Answer};
use integration::bench::{self, check_stop, progress, sample_time, stop_on_interrupt};
use integration::dns::dnsperf;
use integration::dns::responder::Responder;
use integration::raise_descriptor_limit;

use cores::Cores;
use gate::{Backends, Side, start_all};

const USAGE: &str = "usage: bench dns [--rounds N] [--quick] [--only long-lived,one-shot,latency,memory]
                 [--sides direct,udp_proxy,dnsdist,dnsdist-cache,unbound,unbound-cache,flow,flow-cache,check,request]";

/// Sessions held open for the memory of one.
const SESSIONS: usize = 10_000;

/// How long a session of an Envoy goes on without a message: hardly, where each query is another session, which is how long
/// the filter lets it by itself; and long.
const SHORT: &str = "0.1s";
const LONG: &str = "300s";

/// What runs before anything is measured: caches are filled, sessions open, and what V8 has compiled in haste it compiles
/// well, beside the worker and on the same core.
const WARM_UP: Duration = Duration::from_millis(1500);

/// Names of rows.
const LONG_LIVED: &str = "8 clients, 100 queries under way";
const ONE_SHOT: &str = "64 at once, each from a new port";
const LATENCY: &str = "1 client, 1 query";
const MEMORY: &str = "memory of an idle session, 10,000 of them";

pub(crate) fn main(args: &[String]) -> Result<()> {
    let options = bench::Options::parse(args, USAGE)?;
    let sides: Vec<Side> = sides(&options.sides)?;
    stop_on_interrupt()?;
    raise_descriptor_limit();
    let run = bench::Run::begin(options.quick);
    let cores = Cores::new();
    // Before anything is started, because that inherits it.
    cores.pin_load()?;
    let mut report = Report::new("dns", "DNS over UDP", &sides, Side::UdpProxy);

    let server = Responder::start()?;
    let service = service::start(Answer::Dns)?;
    let backends = Backends { server: server.address(), service };
    let time = sample_time(options.quick);

    if options.wants("long-lived") {
        let gates = start_all(&sides, backends, LONG, cores)?;
        let load = |time: Duration| dnsperf::Load {
            clients: 8,
            outstanding: 100,
            names: load::NAMES,
            time,
            core: cores.load(),
        };
        for gate in &gates {
            dnsperf::run(gate.address, &load(WARM_UP))?;
        }
        for round in 0..options.rounds {
            progress(LONG_LIVED, round, options.rounds);
            for gate in &gates {
                check_stop()?;
                let load::LongLived { measured, cpu_micros } = load::long_lived(gate, &load(time))?;
                let mut add = |what: &str, unit, better, sample| {
                    let name = format!("{what}{LONG_LIVED}");
                    report.add(&name, unit, better, gate.side.name(), sample);
                };
                add("", "1/s", Better::High, measured.rate);
                add("mean, ", "µs", Better::Low, measured.mean_micros);
                if let Some(micros) = cpu_micros {
                    add("CPU of the proxy, ", "µs", Better::Low, micros);
                }
                let lost = 100.0 * measured.lost / (measured.completed + measured.lost);
                add("unanswered, ", "%", Better::Low, lost);
            }
        }
    }

    for (what, name, clients, one_shot) in
        [("one-shot", ONE_SHOT, 64, true), ("latency", LATENCY, 1, false)]
    {
        if !options.wants(what) {
            continue;
        }
        let idle = if one_shot { SHORT } else { LONG };
        let gates = start_all(&sides, backends, idle, cores)?;
        for gate in &gates {
            load::run(gate, clients, one_shot, WARM_UP)?;
        }
        for round in 0..options.rounds {
            progress(name, round, options.rounds);
            for gate in &gates {
                check_stop()?;
                let measured = load::run(gate, clients, one_shot, time)?;
                measured.add_to(&mut report, name, gate.side.name());
            }
        }
    }

    // dnsdist and unbound have no sessions of this kind.
    let with_sessions = [Side::UdpProxy, Side::Flow];
    for round in 0..if options.wants("memory") { options.rounds.min(3) } else { 0 } {
        progress("memory", round, options.rounds.min(3));
        for side in with_sessions.into_iter().filter(|side| sides.contains(side)) {
            check_stop()?;
            for gate in &start_all(&[side], backends, LONG, cores)? {
                if let Some(kib) = load::session_memory(gate, SESSIONS)? {
                    report.add(MEMORY, "KiB", Better::Low, side.name(), kib);
                }
            }
        }
    }

    for condition in [
        &format!(
            "everything on 127.0.0.1; {}; one worker or thread for each proxy",
            cores.describe()
        ),
        &format!(
            "A queries for {} names, without EDNS; the first row with dnsperf, the others with this project's own load",
            load::NAMES
        ),
        "server: this project's own, one thread, one record for every question; `direct` is it and the load alone",
        "dnsdist-cache, unbound-cache and flow-cache have every answer in their cache",
        "flow, check, request: udp_proxy, the filter and the HTTP connection manager, no access log; the check is answered by the route, the request by an HTTP/1.1 service of this project's own",
    ] {
        report.condition(condition);
    }
    run.publish("dns", [report])
}
