//! `make demo`: brokers, CoAP and DNS servers, Envoys and real clients on 127.0.0.1, and what Envoy saw of them.

mod coap;
mod commands;
mod dns;
mod mqtt;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::envoy::Envoy;
use integration::root;
use serde_json::Value;

static STOP: AtomicBool = AtomicBool::new(false);

fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Unwinds on Ctrl-C, so that everything that was started is ended.
fn check_stop() -> Result<()> {
    ensure!(!stopping(), "interrupted");
    Ok(())
}

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    // A terminal sends Ctrl-C to the children, too, and one may be gone before our own handler has run.
    sleep(Duration::from_millis(100));
    if stopping() {
        say("stopped");
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn run() -> Result<()> {
    let mut chosen = Chosen::default();
    let mqtt = mqtt::Ports::choose(&mut chosen);
    let coap = coap::Ports::choose(&mut chosen);
    let dns = dns::Ports::choose(&mut chosen);
    ensure!(chosen.wrong.is_empty(), "{}", chosen.wrong.join("\nerror: "));
    let once = std::env::var("ONCE").is_ok_and(|once| !matches!(once.as_str(), "" | "0"));
    for file in ["dist/mqtt.wasm", "dist/coap.wasm", "dist/dns.wasm", ".build/certs/server.crt"] {
        ensure!(root().join(file).is_file(), "{file} is not there: `make wasm certs` makes it");
    }
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))?;

    let mut mqtt = mqtt::Demo::start(mqtt)?;
    let shown = mqtt.show();
    with_log(shown, &mqtt.envoy)?;
    let mut coap = coap::Demo::start(coap)?;
    let shown = coap.show();
    with_log(shown, &coap.envoy)?;
    let mut dns = dns::Demo::start(dns)?;
    let shown = dns.show();
    with_log(shown, &dns.envoy)?;
    if once {
        say("all of it worked");
        return Ok(());
    }
    say("try it yourself (Ctrl-C ends it); what ends appears below");
    mqtt.explain();
    println!();
    coap.explain();
    println!();
    dns.explain();
    loop {
        check_stop()?;
        mqtt.follow()?;
        coap.follow()?;
        dns.follow()?;
        sleep(Duration::from_millis(300));
    }
}

/// The result; if it is an error, and not for Ctrl-C, Envoy's log is shown with it.
fn with_log(result: Result<()>, envoy: &Envoy) -> Result<()> {
    if result.is_err() {
        check_stop()?;
        let log = envoy.process.stderr();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
        eprintln!("Envoy's log ends with:\n{tail}\n");
    }
    result
}

/// Ports that were chosen, and all that is wrong with them.
#[derive(Default)]
struct Chosen {
    used: BTreeSet<u16>,
    wrong: Vec<String>,
}

impl Chosen {
    /// A port on 127.0.0.1: the variable's, else the default.
    fn port(&mut self, variable: &str, default: u16) -> u16 {
        let port = port_from(variable, default).and_then(|port| {
            ensure!(self.used.insert(port), "{variable}: port {port} is another variable's, too");
            check_free(variable, port)?;
            Ok(port)
        });
        port.unwrap_or_else(|error| {
            self.wrong.push(format!("{error:#}"));
            0
        })
    }
}

fn port_from(variable: &str, default: u16) -> Result<u16> {
    let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) else {
        return Ok(default);
    };
    let value = value.to_string_lossy();
    let port = value.parse().ok().filter(|&port| port != 0);
    port.with_context(|| format!("{variable}={value} is not a port: it takes 1 to 65535"))
}

fn check_free(variable: &str, port: u16) -> Result<()> {
    use std::io::ErrorKind::AddrInUse;
    let address = (Ipv4Addr::LOCALHOST, port);
    match TcpListener::bind(address).map(drop).and_then(|()| UdpSocket::bind(address).map(drop)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == AddrInUse => {
            bail!("port {port} is in use: `make demo {variable}=…` takes another one")
        }
        Err(error) => bail!("port {port} cannot be used ({error}): see {variable}"),
    }
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or("-")
}

fn say(what: &str) {
    if std::io::stdout().is_terminal() {
        println!("\x1b[1m==>\x1b[0m {what}");
    } else {
        println!("==> {what}");
    }
}
