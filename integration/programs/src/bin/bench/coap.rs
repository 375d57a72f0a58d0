//! What does it cost to put a CoAP exchange over UDP through each of these? Everything side by side in one run, the sides
//! taking turns within each round, so that what the machine does meanwhile hits all of them.

mod gate;
mod load;

use anyhow::Result;
use integration::bench::gate::{Side as _, sides};
use integration::bench::report::{Better, Report};
use integration::bench::service::{self, Answer};
use integration::bench::{self, check_stop, progress, sample_time, stop_on_interrupt};
use integration::coap::echo;
use integration::raise_descriptor_limit;

use gate::{Backends, Side, start_all};
use load::Load;

const USAGE: &str =
    "usage: bench coap [--rounds N] [--quick] [--sides direct,udp_proxy,flow,check,request,libcoap,aiocoap]
                  [--only latency,pipelined,non,one-shot,memory]";

/// Sessions held open for the memory of one.
const SESSIONS: usize = 10_000;

/// How long a session of an Envoy goes on without a message: hardly, where each request is another session; and long.
const SHORT: &str = "0.2s";
const LONG: &str = "300s";

/// Name on the command line, name of the rows, and what it is.
const LOADS: [(&str, &str, Load); 4] = [
    (
        "latency",
        "1 client, 1 CON",
        Load { clients: 1, window: 1, one_shot: false, confirmable: true },
    ),
    (
        "pipelined",
        "8 clients, 16 CON each",
        Load { clients: 8, window: 16, one_shot: false, confirmable: true },
    ),
    (
        "non",
        "8 clients, 16 NON each",
        Load { clients: 8, window: 16, one_shot: false, confirmable: false },
    ),
    (
        "one-shot",
        "16 at once, each from a new port, CON",
        Load { clients: 16, window: 1, one_shot: true, confirmable: true },
    ),
];

/// The name of a row.
const MEMORY: &str = "memory of an idle session, 10,000 of them";

pub(crate) fn main(args: &[String]) -> Result<()> {
    let options = bench::Options::parse(args, USAGE)?;
    let sides: Vec<Side> = sides(&options.sides)?;
    stop_on_interrupt()?;
    raise_descriptor_limit();
    let run = bench::Run::begin(options.quick);
    let mut report = Report::new("coap", "CoAP over UDP", &sides, Side::UdpProxy);

    let server = echo::Server::start()?;
    let service = service::start(Answer::Same)?;
    let backends = Backends { server: server.address(), service };
    let mut gates = start_all(&sides, backends, SHORT)?;
    for (_, name, load) in LOADS.iter().filter(|(what, ..)| options.wants(what)) {
        for round in 0..options.rounds {
            progress(name, round, options.rounds);
            // A proxy may remember each client for minutes, and take longer the more it remembers.
            if load.one_shot {
                gates = start_all(&sides, backends, SHORT)?;
            }
            for gate in &gates {
                check_stop()?;
                let measured = load::run(gate, load, sample_time(options.quick))?;
                measured.add_to(&mut report, name, gate.side.name());
            }
        }
    }

    drop(gates);
    // libcoap's and aiocoap's proxies have no sessions of this kind.
    let with_sessions = [Side::UdpProxy, Side::Flow];
    for round in 0..if options.wants("memory") { options.rounds.min(3) } else { 0 } {
        progress("memory", round, options.rounds.min(3));
        for side in with_sessions.into_iter().filter(|side| sides.contains(side)) {
            check_stop()?;
            let gates = start_all(&[side], backends, LONG)?;
            for gate in &gates {
                if let Some(kib) = load::session_memory(gate, SESSIONS)? {
                    report.add(MEMORY, "KiB", Better::Low, side.name(), kib);
                }
            }
        }
    }

    let alone = service::alone(service, 16, sample_time(options.quick))?;
    for condition in [
        &format!("the HTTP service behind `request` alone, with 16 clients: {alone:.0} requests/s"),
        "`flow`, `check` and `request`: envoy-configs/coap.yaml without its access log; the check is answered by the route",
        "everything on 127.0.0.1; Envoy with one worker; POST with 32 bytes, answered with the same",
        "server: this project's own, one thread that keeps nothing; `direct` is it and the load alone",
        "of confirmable requests, libcoap has one at a time under way for each client, aiocoap one for all (RFC 7252 §4.7)",
        "aiocoap as scripts/aiocoap pins it",
    ] {
        report.condition(condition);
    }
    run.publish("coap", [report])
}
