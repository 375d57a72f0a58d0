//! dnsperf, the load that DNS servers are measured with.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::PATIENCE;
use crate::process::{Process, program};

/// A load: clients with a source each, which keep queries under way all the time.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// The number of clients.
    pub clients: usize,
    /// Queries under way, of all clients together.
    pub outstanding: usize,
    /// How many different names are asked for, all of type A.
    pub names: usize,
    /// How long.
    pub time: Duration,
    /// On which core it has to run.
    pub core: Option<usize>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Queries answered.
    pub completed: f64,
    /// Queries that were not answered within a second.
    pub lost: f64,
    /// Queries answered per second.
    pub rate: f64,
    /// The mean time to an answer, in microseconds.
    pub mean_micros: f64,
}

/// Asks this server for that long.
pub fn run(server: SocketAddr, load: &Load) -> Result<Measured> {
    let dnsperf = program("dnsperf")?;
    let pinned = load.core.map(|core| Ok::<_, anyhow::Error>((program("taskset")?, core)));
    let pinned = pinned.transpose()?;
    let first = pinned.as_ref().map_or(&dnsperf, |(taskset, _)| taskset);
    let mut client = Process::start("dnsperf", first, |dir| {
        let names = dir.join("queries");
        let lines = (0..load.names).map(|number| format!("{} A\n", name(number)));
        fs::write(&names, lines.collect::<String>())?;
        let mut args = Vec::new();
        if let Some((_, core)) = &pinned {
            args.extend(["-c".to_owned(), core.to_string(), shown(&dnsperf)]);
        }
        let (host, port) = (server.ip().to_string(), server.port().to_string());
        let seconds = load.time.as_secs_f64().to_string();
        let (clients, outstanding) = (load.clients.to_string(), load.outstanding.to_string());
        // An address of the load's own: its ports are not those from which proxies take theirs.
        args.extend(["-s", &host, "-p", &port, "-a", "127.0.0.2"].map(str::to_owned));
        args.extend(["-c", &clients, "-T", "1", "-q", &outstanding].map(str::to_owned));
        args.extend(["-l", &seconds, "-t", "1", "-d", &shown(&names)].map(str::to_owned));
        Ok(args)
    })?;
    let status = client.wait(load.time + PATIENCE)?;
    let (out, err) = (client.stdout(), client.stderr());
    ensure!(status.success(), "dnsperf: {status}\n{out}{err}");
    read(&out).with_context(|| format!("what dnsperf printed:\n{out}"))
}

/// The `number`th name that is asked for.
#[must_use]
pub fn name(number: usize) -> String {
    format!("host-{number}.bench.example")
}

fn shown(path: &std::path::Path) -> String {
    PathBuf::from(path).to_string_lossy().into_owned()
}

fn read(out: &str) -> Result<Measured> {
    let value = |key: &str| -> Result<f64> {
        let line = out.lines().find_map(|line| line.trim_start().strip_prefix(key));
        let value = line.and_then(|rest| rest.split_whitespace().next());
        value.with_context(|| format!("no {key:?}"))?.parse().with_context(|| key.to_owned())
    };
    Ok(Measured {
        completed: value("Queries completed:")?,
        lost: value("Queries lost:")?,
        rate: value("Queries per second:")?,
        mean_micros: value("Average Latency (s):")? * 1e6,
    })
}

#[cfg(test)]
mod tests {
    use super::super::responder::Responder;
    use super::*;

    #[test]
    fn it_measures_a_server() {
        let server = Responder::start().unwrap();
        let time = Duration::from_millis(200);
        let load = Load { clients: 4, outstanding: 20, names: 10, time, core: None };
        let measured = run(server.address(), &load).unwrap();
        assert!(measured.completed > 20.0 && measured.lost == 0.0, "{measured:?}");
        assert!(measured.rate > 0.0 && measured.mean_micros > 0.0, "{measured:?}");
    }
}
