//! MQTT: three brokers, and an Envoy that sends each session to one of them.

use anyhow::{Result, anyhow, bail, ensure};
use integration::broker::Mosquitto as Broker;
use integration::client::Mosquitto as Client;
use integration::envoy::{Config, Envoy};
use integration::eventually;
use integration::wire::Version::{self, V3, V5};
use serde_json::Value;

use crate::{Chosen, check_stop, say, text};

const CONFIG: &str = "envoy-configs/mqtt.yaml";

/// Ports on 127.0.0.1, each with the number that `envoy-configs/mqtt.yaml` has for it as default.
pub(crate) struct Ports {
    mqtt: u16,
    tls: u16,
    admin: u16,
    broker: u16,
    broker_2: u16,
    broker_eu: u16,
}

impl Ports {
    pub(crate) fn choose(chosen: &mut Chosen) -> Self {
        Self {
            mqtt: chosen.port("MQTT_PORT", 1883),
            tls: chosen.port("MQTT_TLS_PORT", 8883),
            admin: chosen.port("ADMIN_PORT", 9901),
            broker: chosen.port("BROKER_PORT", 21_883),
            broker_2: chosen.port("BROKER2_PORT", 21_885),
            broker_eu: chosen.port("BROKER_EU_PORT", 21_884),
        }
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

pub(crate) struct Demo {
    ports: Ports,
    pub(crate) envoy: Envoy,
    broker: Broker,
    broker_2: Broker,
    broker_eu: Broker,
    /// How many entries of the access log were printed.
    printed: usize,
}

impl Demo {
    pub(crate) fn start(ports: Ports) -> Result<Self> {
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
        Ok(Self { ports, envoy, broker: first, broker_2: second, broker_eu: eu, printed: 0 })
    }

    /// All that is to be seen, each outcome checked.
    pub(crate) fn show(&mut self) -> Result<()> {
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
        let log = self.envoy.access_log();
        print_rows(true, &log);
        self.printed = log.len();

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

    pub(crate) fn explain(&self) {
        let Ports { mqtt, tls, admin, .. } = self.ports;
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

    /// Prints what has come into the access log; an error if something has ended by itself.
    pub(crate) fn follow(&mut self) -> Result<()> {
        for broker in [&mut self.broker, &mut self.broker_2, &mut self.broker_eu] {
            broker.process.expect_running()?;
        }
        self.envoy.process.expect_running()?;
        let log = self.envoy.access_log();
        print_rows(false, log.get(self.printed..).unwrap_or_default());
        self.printed = log.len();
        Ok(())
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
