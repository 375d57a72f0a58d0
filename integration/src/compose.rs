//! `compose.yaml`, brought up under a name of its own and on ports of its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::ports::free_port;
use crate::process::{Process, program};
use crate::{eventually_within, root};

/// How long containers may take for what they do: Envoy compiles three modules when it starts.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// How long images may take to be made.
const BUILD_PATIENCE: Duration = Duration::from_secs(1200);

/// All projects of tests are called so and by the number of their process.
const PREFIX: &str = "beyond-http-test-";

/// Ports of `compose.yaml`, each the variable that sets it.
pub mod port {
    /// MQTT.
    pub const MQTT: &str = "MQTT_PORT";
    /// MQTT over TLS.
    pub const MQTT_TLS: &str = "MQTT_TLS_PORT";
    /// CoAP over UDP and over TCP.
    pub const COAP: &str = "COAP_PORT";
    /// HTTP for the CoAP server.
    pub const HTTP: &str = "HTTP_PORT";
    /// DNS over UDP and over TCP.
    pub const DNS: &str = "DNS_PORT";
    /// DNS over TLS.
    pub const DNS_TLS: &str = "DNS_TLS_PORT";
    /// DNS over HTTPS.
    pub const DOH: &str = "DOH_PORT";
    /// Envoy's admin interface.
    pub const ADMIN: &str = "ADMIN_PORT";
    /// The service that takes events.
    pub const EVENTS: &str = "EVENTS_PORT";
    /// Prometheus.
    pub const PROMETHEUS: &str = "PROMETHEUS_PORT";
    /// Grafana.
    pub const GRAFANA: &str = "GRAFANA_PORT";
    /// All of them.
    pub const ALL: [&str; 11] =
        [MQTT, MQTT_TLS, COAP, HTTP, DNS, DNS_TLS, DOH, ADMIN, EVENTS, PROMETHEUS, GRAFANA];
}

/// Why there can be no containers here, if so.
#[must_use]
pub fn no_engine() -> Option<String> {
    match Command::new("docker").arg("info").output() {
        Err(error) => Some(format!("docker cannot be run: {error}")),
        Ok(output) if !output.status.success() => {
            Some(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
        Ok(_) => None,
    }
}

/// Runs `docker` to its end: what it printed, or an error.
pub fn docker(args: &[&str]) -> Result<String> {
    run("docker", args.iter().map(|&arg| arg.to_owned()).collect(), PATIENCE)
}

/// The project; dropping it removes its containers, networks and volumes.
#[derive(Debug)]
pub struct Project {
    name: String,
    ports: BTreeMap<&'static str, u16>,
}

impl Project {
    /// Makes stand-ins for the images that are not there, starts everything and waits until all of it is healthy.
    pub fn up() -> Result<Self> {
        remove_leftovers()?;
        let script = root().join("scripts/images").to_string_lossy().into_owned();
        // What a registry has today must not decide about a test.
        let args = ["PULL=never", &script, "compose"].map(str::to_owned);
        let images = run("env", args.to_vec(), BUILD_PATIENCE)?;
        println!("images:\n{images}");
        let ports = port::ALL.into_iter().map(|name| Ok((name, free_port()?)));
        let name = format!("{PREFIX}{}", std::process::id());
        let project = Self { name, ports: ports.collect::<Result<_>>()? };
        project.compose(&["up", "-d"])?;
        project.wait_until_healthy()?;
        Ok(project)
    }

    /// A published port.
    pub fn port(&self, name: &str) -> Result<u16> {
        self.ports.get(name).copied().with_context(|| format!("no {name} in compose.yaml"))
    }

    /// Where a published port is.
    pub fn address(&self, name: &str) -> Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, self.port(name)?).into())
    }

    /// What `curl` gets from there.
    pub fn get(&self, name: &str, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.address(name)?);
        let args = ["--silent", "--show-error", "--fail", "--max-time", "20", &url];
        run("curl", args.map(str::to_owned).to_vec(), crate::PATIENCE * 2)
    }

    /// The same as JSON.
    pub fn get_json(&self, name: &str, path: &str) -> Result<Value> {
        let text = self.get(name, path)?;
        serde_json::from_str(&text).with_context(|| format!("{name}{path} said {text}"))
    }

    /// Stops a service, as an operator would.
    pub fn stop(&self, service: &str) -> Result<()> {
        self.compose(&["stop", "--timeout", "10", service]).map(drop)
    }

    /// Starts it again.
    pub fn start(&self, service: &str) -> Result<()> {
        self.compose(&["start", service]).map(drop)
    }

    /// Kills a service's first process, as a crash would: Docker does not take it for the operator's wish.
    pub fn crash(&self, service: &str) -> Result<()> {
        let container = self.inspect(service)?;
        let pid = container.pointer("/State/Pid").and_then(Value::as_u64).context("no Pid")?;
        // Its number is one of the engine's, which may be another machine's: only a container is sure to be there.
        let kill = format!("kill -KILL {pid}");
        let image = "beyond-http/dns-server:1.17.1";
        let run = ["run", "--rm", "--pid", "host", "--user", "0:0", "--entrypoint", "sh"];
        docker(&[&run[..], &[image, "-c", &kill]].concat()).map(drop)
    }

    /// What Docker knows of a service's container.
    pub fn inspect(&self, service: &str) -> Result<Value> {
        self.containers()?.remove(service).with_context(|| format!("no container of {service}"))
    }

    /// The same of all of them, by service.
    pub fn containers(&self) -> Result<BTreeMap<String, Value>> {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let ids = docker(&["ps", "--all", "--quiet", "--filter", &project])?;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        ensure!(!ids.is_empty(), "{} has no containers", self.name);
        let inspected = docker(&[&["inspect"], &ids[..]].concat())?;
        let containers: Vec<Value> = serde_json::from_str(&inspected)?;
        let named = containers.into_iter().map(|container| {
            let service = container.pointer("/Config/Labels/com.docker.compose.service");
            let service = service.and_then(Value::as_str).context("a container of no service")?;
            Ok((service.to_owned(), container))
        });
        named.collect()
    }

    /// Waits until all containers run and their health checks say so.
    pub fn wait_until_healthy(&self) -> Result<()> {
        let mut states = String::new();
        let healthy = eventually_within(PATIENCE, "healthy containers", || {
            let containers = self.containers()?;
            let state = |container: &Value| {
                let health = container.pointer("/State/Health/Status").and_then(Value::as_str);
                health.unwrap_or("without a health check").to_owned()
            };
            let mut ill = containers.iter().filter(|(_, container)| state(container) != "healthy");
            states = ill.clone().map(|(name, one)| format!("{name}: {}\n", state(one))).collect();
            Ok(ill.next().is_none().then_some(()))
        });
        healthy.with_context(|| format!("{states}{}", self.logs()))
    }

    /// The end of all containers' logs.
    #[must_use]
    pub fn logs(&self) -> String {
        self.compose(&["logs", "--tail", "40"]).unwrap_or_else(|error| error.to_string())
    }

    fn compose(&self, args: &[&str]) -> Result<String> {
        compose(&self.name, &self.ports, args)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- logs ---\n{}\n--- end ---", self.logs());
        }
        if let Err(error) = self.compose(&["down", "--volumes", "--timeout", "5"]) {
            eprintln!("{} is still there: {error}", self.name);
        }
    }
}

/// Removes what tests left behind that were killed.
fn remove_leftovers() -> Result<()> {
    let names = docker(&[
        "ps",
        "--all",
        "--format",
        "{{.Label \"com.docker.compose.project\"}}",
        "--filter",
        "label=com.docker.compose.project",
    ])?;
    for name in names.lines() {
        let Some(process) = name.strip_prefix(PREFIX) else { continue };
        if !Path::new("/proc").join(process).exists() {
            compose(name, &BTreeMap::new(), &["down", "--volumes", "--timeout", "5"])?;
        }
    }
    Ok(())
}

/// Compose, the plug-in of Docker or else the program of old, with the project of this name.
fn compose(name: &str, ports: &BTreeMap<&str, u16>, args: &[&str]) -> Result<String> {
    let plugin = Command::new("docker").args(["compose", "version"]).output()?;
    let command: &[&str] =
        if plugin.status.success() { &["docker", "compose"] } else { &["docker-compose"] };
    let mut all: Vec<String> = ports.iter().map(|(name, port)| format!("{name}={port}")).collect();
    let project = ["--project-name", name];
    all.extend([command, &project, args].concat().into_iter().map(str::to_owned));
    run("env", all, PATIENCE)
}

fn run(name: &str, args: Vec<String>, limit: Duration) -> Result<String> {
    let shown = format!("{name} {}", args.join(" "));
    let mut process = Process::start(name, &program(name)?, |_| Ok(args))?;
    let status = process.wait(limit)?;
    if !status.success() {
        bail!("{shown}: {status}\n{}{}", process.stdout(), process.stderr());
    }
    Ok(process.stdout())
}

/// The titles of the dashboards in `deploy/grafana/dashboards`.
pub fn dashboard_titles() -> Result<Vec<String>> {
    let mut titles = Vec::new();
    for entry in fs::read_dir(root().join("deploy/grafana/dashboards"))? {
        let path = entry?.path();
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        let title = dashboard.get("title").and_then(Value::as_str);
        titles.push(title.with_context(|| format!("no title in {}", path.display()))?.to_owned());
    }
    titles.sort();
    Ok(titles)
}
