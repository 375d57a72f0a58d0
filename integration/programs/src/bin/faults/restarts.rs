//! Envoy ends, is replaced while it runs, drains, and gets new listeners, with sessions open.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration::envoy::Config;
use integration::load::trio::{Trio, configs};
use integration::ports::free_port;
use integration::{eventually_within, root};
use rustix::process::Signal;

use crate::scene::{Doors, Fault, LASTS, PROTOCOLS, Row, Servers, attempt, run, wait};

/// In which the old process or listener ends all that it still has.
const DRAIN: &str = "8";
const SHUTDOWN: &str = "10";

pub(crate) fn restarts() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut servers = Servers::start()?;
    let own = u32::from(free_port()?);
    let mut number = 0;
    let configs = configs()?.map(|config| {
        number += 1;
        // Ports are given out once, so no other Envoy of this project has one of these.
        let config = config.restartable(own * 4 + number);
        config.args(&["--drain-time-s", DRAIN, "--parent-shutdown-time-s", SHUTDOWN])
    });
    let mut trio = Trio::start(configs, servers.addresses())?;
    let doors = Doors::of(&trio)?;

    let mut fault = Fault::of_all("hot restart of all three Envoys under load");
    fault.recovery = Duration::from_secs(30);
    rows.push(attempt(
        &fault.name,
        run(&fault, &mut trio, &mut servers, doors, |trio, _| {
            let begin = Instant::now();
            let mut predecessors = Vec::new();
            for envoy in &mut trio.envoys {
                let successor = envoy.successor()?;
                predecessors.push(std::mem::replace(envoy, successor));
            }
            let ready = begin.elapsed();
            for predecessor in &mut predecessors {
                predecessor.process.wait(Duration::from_secs(60))?;
            }
            Ok(format!(
                "ready after {:.0} s, the old ones gone after {:.0} s",
                ready.as_secs_f64(),
                begin.elapsed().as_secs_f64()
            ))
        }),
    ));
    let mut fault = Fault::of_all("drain for 6 s, then end (SIGTERM), and start again");
    fault.recovery = Duration::from_secs(30);
    rows.push(attempt(
        &fault.name,
        run(&fault, &mut trio, &mut servers, doors, |trio, _| {
            for envoy in &trio.envoys {
                envoy.post("/drain_listeners?graceful")?;
            }
            wait(LASTS)?;
            for envoy in &mut trio.envoys {
                envoy.process.signal(Signal::TERM)?;
                envoy.process.wait(Duration::from_secs(30))?;
                envoy.replace()?;
            }
            Ok(String::new())
        }),
    ));
    let mut fault = Fault::of_all("Envoys killed (SIGKILL) and started again");
    fault.recovery = Duration::from_secs(30);
    rows.push(attempt(
        &fault.name,
        run(&fault, &mut trio, &mut servers, doors, |trio, _| {
            for envoy in &mut trio.envoys {
                envoy.process.kill()?;
            }
            for envoy in &mut trio.envoys {
                envoy.replace()?;
            }
            Ok(String::new())
        }),
    ));
    drop(trio);
    for number in 1..=3 {
        // Killed, Envoy leaves it there; it may be gone.
        let name = format!("/dev/shm/envoy_shared_memory_{}0", own * 4 + number);
        let _ = fs::remove_file(name);
    }
    Ok(rows)
}

/// Listeners in a file (filesystem xDS), which is replaced by one with the module in another file.
pub(crate) fn listeners() -> Result<Vec<Row>> {
    let dir = root().join(".build/faults/lds");
    fs::create_dir_all(&dir)?;
    let mut servers = Servers::start()?;
    let mut dynamic = Vec::new();
    let mut listeners = Vec::new();
    for (config, protocol) in servers.addresses().in_configs(configs()?)?.into_iter().zip(PROTOCOLS)
    {
        let (config, own) = split(config, &dir, &protocol.to_ascii_lowercase())?;
        dynamic.push(config);
        listeners.push(own);
    }
    let dynamic: [Config; 3] = dynamic.try_into().ok().context("three configurations")?;
    for own in &listeners {
        own.publish(0)?;
    }
    let mut trio = Trio::start_with_servers(dynamic)?;
    let doors = Doors::of(&trio)?;
    let mut fault = Fault::of_all(
        "all listeners updated by filesystem xDS, with the module in another file, twice",
    );
    fault.recovery = Duration::from_secs(30);
    let row = run(&fault, &mut trio, &mut servers, doors, |trio, _| {
        let mut took = Vec::new();
        for version in 1..=2 {
            let begin = Instant::now();
            for (own, envoy) in listeners.iter().zip(&trio.envoys) {
                let before = envoy.stat("listener_manager.lds.update_success")?;
                own.publish(version)?;
                eventually_within(Duration::from_secs(90), "new listeners", || {
                    let updated = envoy.stat("listener_manager.lds.update_success")? > before;
                    let warming = envoy.stat("listener_manager.total_listeners_warming")?;
                    let draining = envoy.stat("listener_manager.total_listeners_draining")?
                        + envoy.stat("listener_manager.total_filter_chains_draining")?;
                    Ok((updated && warming == 0 && draining == 0).then_some(()))
                })?;
            }
            took.push(format!("{:.0} s", begin.elapsed().as_secs_f64()));
        }
        let mut ways = Vec::new();
        for (envoy, protocol) in trio.envoys.iter().zip(PROTOCOLS) {
            let of = |name: &str| envoy.stat(&format!("listener_manager.{name}"));
            ways.push(format!(
                "{protocol} {} in place of {} modified, {} refused",
                of("listener_in_place_updated")?,
                of("listener_modified")?,
                of("lds.update_rejected")?
            ));
        }
        Ok(format!("drained after {}; {}", took.join(" and "), ways.join(", ")))
    });
    Ok(vec![attempt(&fault.name, row)])
}

/// Listeners of one Envoy, in a file of their own.
struct Listeners {
    yaml: String,
    module: String,
    file: PathBuf,
}

impl Listeners {
    /// Writes them, with the module under another name for each version.
    fn publish(&self, version: u32) -> Result<()> {
        let module = self.file.with_extension(format!("{version}.wasm"));
        fs::copy(root().join(&self.module), &module)?;
        let yaml = self.yaml.replace(&self.module, &module.to_string_lossy());
        let new = self.file.with_extension("new");
        fs::write(&new, yaml)?;
        // Envoy waits for a file that is moved there.
        Ok(fs::rename(new, &self.file)?)
    }
}

/// Takes the listeners out of a configuration.
fn split(config: Config, dir: &Path, name: &str) -> Result<(Config, Listeners)> {
    const BUFFER: &str = "[{level: 1, name: 8, int_value: 4194304, state: STATE_PREBIND}]";
    const RESOURCE: &str =
        "\n  - \"@type\": type.googleapis.com/envoy.config.listener.v3.Listener\n    name: ";
    let file = dir.join(format!("{name}.yaml"));
    let config = config.resolved()?;
    let yaml = config.yaml();
    let (head, rest) = yaml.split_once("  listeners:\n").context("no listeners")?;
    let (listeners, tail) = rest.split_once("\n  clusters:\n").context("no clusters")?;
    let listeners = format!("\n{listeners}").replace("\n  - name: ", RESOURCE);
    let bootstrap = format!(
        "{}\nnode: {{id: faults, cluster: faults}}\ndynamic_resources:\n  lds_config: {{resource_api_version: V3, path_config_source: {{path: \"{}\"}}}}\nstatic_resources:\n  clusters:\n{}",
        head.replace("static_resources:\n", ""),
        file.display(),
        tail.replace("*receive_buffer", BUFFER),
    );
    let listeners = Listeners {
        yaml: format!("resources:{listeners}\n"),
        module: format!("dist/{name}.wasm"),
        file,
    };
    Ok((config.with_yaml(bootstrap).args(&["--drain-time-s", DRAIN]), listeners))
}
