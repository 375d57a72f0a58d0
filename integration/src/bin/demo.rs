//! `make demo`: brokers, Envoy and real clients on 127.0.0.1, and what Envoy saw of them.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use integration::broker::Mosquitto as Broker;
use integration::client::Mosquitto as Client;
use integration::envoy::{Config, Envoy};
use integration::wire::Version::{self, V3, V5};
use integration::{eventually, root};
use serde_json::Value;

const CONFIG: &str = "envoy-configs/mqtt.yaml";

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
    let ports = Ports::from_environment()?;
    let once = std::env::var("ONCE").is_ok_and(|once| !matches!(once.as_str(), "" | "0"));
    for file in ["dist/mqtt.wasm", ".build/certs/server.crt"] {
        ensure!(root().join(file).is_file(), "{file} is not there: `make wasm certs` makes it");
    }
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))?;

    let mut demo = Demo::start(ports)?;
    if let Err(error) = demo.show() {
        check_stop()?;
        let log = demo.envoy.process.stderr();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n");
        eprintln!("Envoy's log ends with:\n{tail}\n");
        return Err(error);
    }
    if once {
        say("all of it worked");
        return Ok(());
    }
    demo.explain();
    demo.follow()
}

/// Ports on 127.0.0.1, each with the number that `envoy-configs/mqtt.yaml` has for it as default.
struct Ports {
    mqtt: u16,
    tls: u16,
    admin: u16,
    broker: u16,
    broker_2: u16,
    broker_eu: u16,
}

impl Ports {
    fn from_environment() -> Result<Self> {
        let mut wrong = Vec::new();
        let mut used = BTreeSet::new();
        let mut port = |variable, default| {
            let port = port_from(variable, default);
            let port = port.and_then(|port| {
                ensure!(used.insert(port), "{variable}: port {port} is another variable's, too");
                check_free(variable, port)?;
                Ok(port)
            });
            port.unwrap_or_else(|error| {
                wrong.push(format!("{error:#}"));
                0
            })
        };
        let ports = Self {
            mqtt: port("MQTT_PORT", 1883),
            tls: port("MQTT_TLS_PORT", 8883),
            admin: port("ADMIN_PORT", 9901),
            broker: port("BROKER_PORT", 21_883),
            broker_2: port("BROKER2_PORT", 21_885),
            broker_eu: port("BROKER_EU_PORT", 21_884),
        };
        ensure!(wrong.is_empty(), "{}", wrong.join("\nerror: "));
        Ok(ports)
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
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == AddrInUse => {
            bail!("port {port} is in use: `make demo {variable}=…` takes another one")
        }
        Err(error) => bail!("port {port} cannot be used ({error}): see {variable}"),
    }
}

/// What each session has to look like in Envoy's access log: client identifier, route and response code.
const EXPECTED: [(&str, &str, u64); 8] = [
    ("phone", "default", 200),
    ("sensor", "default", 200),
    ("eu-phone", "eu-by-username", 200),
    ("eu-sensor", "eu-by-username", 200),
    ("tls-phone", "eu-by-username", 200),
    ("tls-sensor", "eu-by-certificate", 200),
    ("blocked-3", "default", 403),
    ("blocked-5", "default", 403),
];

struct Demo {
    ports: Ports,
    envoy: Envoy,
    broker: Broker,
    broker_2: Broker,
    broker_eu: Broker,
}

impl Demo {
    fn start(ports: Ports) -> Result<Self> {
        let Ports { mqtt, tls, admin, broker, broker_2, broker_eu } = ports;
        say(&format!(
            "starting mosquitto on {broker} and {broker_2} (everybody) and {broker_eu} (Europe)"
        ));
        let second = Broker::builder().port(broker_2).start()?;
        // Envoy spreads the clients over these two, so they have to pass messages on to each other.
        let first = Broker::builder()
            .port(broker)
            .setting("connection other")
            .setting(&format!("address 127.0.0.1:{broker_2}"))
            .setting("remote_clientid bridge")
            .setting("topic # both 2")
            .start()?;
        eventually("the bridge between the brokers", || {
            Ok(second.log().contains("Sending SUBACK to bridge").then_some(()))
        })?;
        let eu = Broker::builder().port(broker_eu).start()?;
        check_stop()?;

        say(&format!(
            "starting Envoy with {CONFIG}: MQTT on {mqtt}, MQTT over TLS on {tls}, admin on {admin}"
        ));
        let envoy = Config::from_file(CONFIG)?
            .port(1883, mqtt)
            .port(8883, tls)
            .port(9901, admin)
            .port(21_883, broker)
            .port(21_885, broker_2)
            .port(21_884, broker_eu)
            .start()?;
        Ok(Self { ports, envoy, broker: first, broker_2: second, broker_eu: eu })
    }

    /// All that is to be seen, each outcome checked.
    fn show(&mut self) -> Result<()> {
        let Ports { mqtt, tls, .. } = self.ports;
        say("a subscriber with MQTT 3.1.1, a publisher with MQTT 5");
        exchange(
            Client::subscriber(mqtt, V3, "home/+").args(&["-i", "phone", "-u", "anna"]),
            Client::publisher(mqtt, V5, "home/attic").args(&["-i", "sensor", "-u", "bert"]),
        )?;
        say("users named eu-* are routed to the European broker");
        exchange(
            Client::subscriber(mqtt, V5, "home/+").args(&["-i", "eu-phone", "-u", "eu-carla"]),
            Client::publisher(mqtt, V3, "home/attic").args(&["-i", "eu-sensor", "-u", "eu-dirk"]),
        )?;
        say("the same over TLS, where a client certificate can choose the route, too");
        let phone = Client::subscriber(tls, V3, "home/+").args(&["-i", "tls-phone"]);
        let sensor = Client::publisher(tls, V5, "home/attic").args(&["-i", "tls-sensor"]);
        exchange(phone.args(&["-u", "eu-emma"]).tls(None), sensor.tls(Some("device-eu")))?;
        say("the user blocked is refused by an RBAC rule, with the reason of each version");
        refused(mqtt, V3, "blocked-3", "Connection Refused: not authorised")?;
        refused(mqtt, V5, "blocked-5", "Not authorized")?;

        say("what Envoy saw: its access log, one line per session");
        for (client_id, route, code) in EXPECTED {
            self.check(client_id, route, code)?;
        }
        print_rows(true, &self.envoy.access_log());

        say("… and the filter's metrics, from /stats/prometheus");
        for line in self.metrics()? {
            println!("    {line}");
        }
        Ok(())
    }

    /// An error unless this session went where it should have gone, and nowhere else.
    fn check(&mut self, id: &str, route: &str, code: u64) -> Result<()> {
        check_stop()?;
        let entry = self.envoy.access_log_entry(|entry| text(entry, "client_id") == id)?;
        let upstream = text(&entry, "upstream");
        let europe = route.starts_with("eu-");
        let allowed = match code {
            200 if europe => vec![self.broker_eu.address().to_string()],
            200 => [&self.broker, &self.broker_2].map(|broker| broker.address().to_string()).into(),
            _ => vec!["-".to_owned()],
        };
        let as_expected = text(&entry, "route") == route
            && entry.get("code").and_then(Value::as_u64) == Some(code)
            && allowed.iter().any(|address| address == upstream);
        ensure!(as_expected, "{id}: expected {code} by {route} at {allowed:?}, got {entry}");
        for broker in [&self.broker, &self.broker_2, &self.broker_eu] {
            let (address, seen) = (broker.address().to_string(), broker.has_seen(id));
            ensure!(seen == (upstream == address), "{id}: seen by the broker at {address}: {seen}");
        }
        Ok(())
    }

    /// The filter's metrics once it has reported the last session: it does so every second.
    fn metrics(&mut self) -> Result<Vec<String>> {
        let all = EXPECTED.len() as f64;
        eventually("the filter to report every session", || {
            check_stop()?;
            // Of these every session has one, also a refused one, and it comes last.
            Ok((self.envoy.metric("mqtt_connections_closed_total", &[])? == Some(all))
                .then_some(()))
        })?;
        let errors = self.envoy.metric("mqtt_decode_errors_total", &[])?;
        ensure!(errors.is_none_or(|count| count == 0.0), "the filter counted decode errors");
        integration::setup::expect_healthy(&mut self.envoy)?;
        let text = self.envoy.get("/stats/prometheus")?;
        Ok(text.lines().filter(|line| line.starts_with("mqtt_")).map(str::to_owned).collect())
    }

    fn explain(&self) {
        let Ports { mqtt, tls, admin, .. } = self.ports;
        say("try it yourself (Ctrl-C ends it); a session that ends appears below");
        println!(
            "    mosquitto_sub -p {mqtt} -i me -u anna -t 'home/#' -v
    mosquitto_pub -p {mqtt} -V mqttv5 -u bert -t home/door -m open
    mosquitto_pub -p {mqtt} -V mqttv5 -u blocked -t home/door -m open
    mosquitto_pub -p {tls} --cafile .build/certs/ca.crt -u eu-carla -t home/door -m open
    curl -s http://127.0.0.1:{admin}/stats/prometheus | grep ^mqtt_
    less {}",
            self.envoy.process.dir().join("stderr").display()
        );
    }

    /// Prints what comes into the access log, until Ctrl-C or until something ends by itself.
    fn follow(&mut self) -> Result<()> {
        let mut shown = self.envoy.access_log().len();
        loop {
            check_stop()?;
            for broker in [&mut self.broker, &mut self.broker_2, &mut self.broker_eu] {
                broker.process.expect_running()?;
            }
            self.envoy.process.expect_running()?;
            let log = self.envoy.access_log();
            print_rows(false, log.get(shown..).unwrap_or_default());
            shown = log.len();
            sleep(Duration::from_millis(300));
        }
    }
}

/// One message from the publisher to the subscriber.
fn exchange(subscriber: Client, publisher: Client) -> Result<()> {
    const MESSAGE: &str = "21.5 °C";
    check_stop()?;
    let subscriber = subscriber.args(&["-q", "1", "-C", "1"]);
    let publisher = publisher.args(&["-q", "1", "-m", MESSAGE]);
    println!("    {}\n    {}", subscriber.command_line(), publisher.command_line());
    let subscriber = subscriber.start_subscribed()?;
    publisher.run()?;
    let messages = subscriber.wait()?;
    let [message] = messages.as_slice() else { bail!("one message was expected: {messages:?}") };
    ensure!(message.ends_with(&format!(" {MESSAGE}")), "another message came: {message}");
    println!("    → {message}");
    Ok(())
}

/// A publisher that has to be refused with this reason.
fn refused(port: u16, version: Version, id: &str, reason: &str) -> Result<()> {
    check_stop()?;
    let client = Client::publisher(port, version, "home/door");
    let client = client.args(&["-i", id, "-u", "blocked", "-m", "open"]);
    println!("    {}", client.command_line());
    let said = client.run_refused()?;
    let line = said.lines().find(|line| line.contains(reason));
    let line = line.ok_or_else(|| anyhow!("{id}: {reason:?} was expected, got:\n{said}"))?;
    println!("    → {line}");
    Ok(())
}

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or("-")
}

/// Access-log entries as lines of a table.
fn print_rows(header: bool, entries: &[Value]) {
    let row = |[id, user, version, route, code, upstream]: [&str; 6]| {
        println!("    {id:<15} {user:<9} {version:<7} {route:<18} {code:<5} {upstream}");
    };
    if header {
        row(["CLIENT ID", "USER", "VERSION", "ROUTE", "CODE", "UPSTREAM"]);
    }
    for entry in entries {
        let code = entry.get("code").map(Value::to_string).unwrap_or_default();
        row([
            text(entry, "client_id"),
            text(entry, "username"),
            text(entry, "version"),
            text(entry, "route"),
            &code,
            text(entry, "upstream"),
        ]);
    }
}

fn say(what: &str) {
    if std::io::stdout().is_terminal() {
        println!("\x1b[1m==>\x1b[0m {what}");
    } else {
        println!("==> {what}");
    }
}
