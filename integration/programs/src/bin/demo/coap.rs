//! CoAP: two CoAP servers, an HTTP service, and an Envoy that sends each request to one of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::coap::libcoap::Server;
use integration::envoy::{Config, Envoy};
use integration::process::Process;
use integration::{PATIENCE, eventually};
use serde_json::Value;

use crate::commands::{expect, start};
use crate::{Chosen, check_stop, say, text};

const CONFIG: &str = "envoy-configs/coap.yaml";
/// libcoap's client with OpenSSL, for DTLS and TLS.
const CLIENT: &str = "coap-client-openssl";

/// Ports on 127.0.0.1, each with the number that `envoy-configs/coap.yaml` has for it as default. Envoy's admin has the
/// next one, because 9901 is that of the Envoy for MQTT.
pub(crate) struct Ports {
    /// UDP and TCP.
    coap: u16,
    /// DTLS and TLS.
    coaps: u16,
    http: u16,
    admin: u16,
}

impl Ports {
    pub(crate) fn choose(chosen: &mut Chosen) -> Self {
        Self {
            coap: chosen.port("COAP_PORT", 5683),
            coaps: chosen.port("COAPS_PORT", 5684),
            http: chosen.port("HTTP_PORT", 8080),
            admin: chosen.port("COAP_ADMIN_PORT", 9902),
        }
    }
}

/// Who is behind Envoy.
#[derive(Debug, Clone, Copy)]
enum Behind {
    Server,
    Firmware,
    Service,
    Nobody,
}

/// What has to be in Envoy's access log: transport, carry, path, route, response code, and who answered.
const EXPECTED: [(&str, &str, &str, &str, u64, Behind); 7] = [
    ("udp", "flow", "/time", "default", 200, Behind::Server),
    ("tcp", "flow", "/", "coap-tcp", 200, Behind::Server),
    ("dtls", "flow", "/time", "default", 200, Behind::Server),
    ("dtls", "request", "/telemetry/attic", "telemetry", 204, Behind::Service),
    ("udp", "flow", "/fw", "firmware", 200, Behind::Firmware),
    ("udp", "check", "/config/led", "check", 403, Behind::Nobody),
    ("udp", "flow", "/lamp", "default", 200, Behind::Server),
];

pub(crate) struct Demo {
    ports: Ports,
    pub(crate) envoy: Envoy,
    server: Server,
    firmware: Server,
    service: Service,
    /// How many entries of the access log were printed.
    printed: usize,
}

impl Demo {
    pub(crate) fn start(ports: Ports) -> Result<Self> {
        let (server, firmware) = (Server::start()?, Server::start()?);
        let service = Service::start()?;
        say(&format!(
            "CoAP: starting libcoap's server on {} and, for firmware, on {}; an HTTP service on {}",
            server.address().port(),
            firmware.address().port(),
            service.address.port(),
        ));
        check_stop()?;
        let Ports { coap, coaps, http, admin } = ports;
        say(&format!(
            "starting Envoy with {CONFIG}: CoAP over UDP and TCP on {coap}, over DTLS and TLS on {coaps}, HTTP on {http}, \
             admin on {admin}"
        ));
        let envoy = Config::from_file(CONFIG)?
            .port(5683, coap)
            .port(5684, coaps)
            .port(8080, http)
            .port(9901, admin)
            .port(25_683, server.address().port())
            .port(25_783, firmware.address().port())
            .port(28_080, service.address.port())
            .start()?;
        Ok(Self { ports, envoy, server, firmware, service, printed: 0 })
    }

    /// All that is to be seen, each outcome checked.
    pub(crate) fn show(&mut self) -> Result<()> {
        let Ports { coap, coaps, http, .. } = self.ports;
        say("a CoAP client asks a CoAP server for the time: over UDP, TCP, DTLS and TLS");
        let is_time = |said: &str| said.contains(':') && !said.contains("ERR");
        expect(CLIENT, &[&format!("coap://127.0.0.1:{coap}/time")], is_time)?;
        expect(CLIENT, &[&format!("coap+tcp://127.0.0.1:{coap}/time")], is_time)?;
        let key = ["-u", "device-1", "-k", "key-of-device-1!"];
        let over_dtls = format!("coaps://127.0.0.1:{coaps}");
        let time = format!("{over_dtls}/time");
        expect(CLIENT, &[&key[..], &[&time]].concat(), is_time)?;
        let over_tls = format!("coaps+tcp://127.0.0.1:{coaps}/time");
        expect(CLIENT, &["-C", ".build/certs/ca.crt", &over_tls], is_time)?;

        say(
            "a rule of the filter makes telemetry an HTTP request; the device's DTLS identity goes along",
        );
        let post = ["-m", "post", "-e", "21.5", &format!("{over_dtls}/telemetry/attic")];
        expect(CLIENT, &[&key[..], &post].concat(), str::is_empty)?;
        let request = self.service.requests.recv_timeout(PATIENCE).context("no HTTP request")?;
        for part in ["POST /telemetry/attic ", "\nx-coap-psk-identity: device-1\n", "\n\n21.5"] {
            ensure!(request.contains(part), "the HTTP request has no {part:?}:\n{request}");
        }
        println!("    → the HTTP service got");
        request.lines().for_each(|line| println!("        {line}"));

        say("an ordinary Envoy route sends /fw to the other server");
        let app = format!("coap://127.0.0.1:{coap}/fw/app");
        expect(CLIENT, &["-m", "put", "-e", "version 2", &app], str::is_empty)?;
        expect(CLIENT, &[&app], |said| said == "version 2")?;

        say("Envoy's RBAC filter is asked about /config first, and lets nobody change that");
        let led = format!("coap://127.0.0.1:{coap}/config/led");
        expect(CLIENT, &["-m", "put", "-e", "on", &led], |said| said == "4.03 Forbidden")?;

        say("the other way round: an HTTP client uses a CoAP server …");
        let json = ["-H", "content-type: application/json", "-d", r#"{"on":true}"#];
        let lamp = format!("http://127.0.0.1:{http}/lamp");
        expect("curl", &[&["-s", "-X", "PUT"], &json[..], &[&lamp]].concat(), str::is_empty)?;
        expect("curl", &["-s", &lamp], |said| said == r#"{"on":true}"#)?;
        say("… and observes a resource: what changes over CoAP comes as a server-sent event");
        let mut events = start("curl", &["-sN", "-H", "accept: text/event-stream", &lamp])?;
        wait_for(&mut events, r#"data: {"on":true}"#)?;
        let lamp = format!("coap://127.0.0.1:{coap}/lamp");
        let json = ["-t", "50", "-e", r#"{"on":false}"#];
        expect(CLIENT, &[&["-m", "put"], &json[..], &[&lamp]].concat(), str::is_empty)?;
        wait_for(&mut events, r#"data: {"on":false}"#)?;
        println!("    → curl got");
        events.stdout().trim_end().lines().for_each(|line| println!("        {line}"));
        drop(events);

        say("what Envoy saw: its access log, one line per flow, check and request");
        for (transport, carry, path, route, code, behind) in EXPECTED {
            self.check(transport, carry, path, (route, code, behind))?;
        }
        let log = self.envoy.access_log();
        print_rows(true, &log);
        self.printed = log.len();

        say("… and the filter's metrics, from /stats/prometheus, without the histograms");
        for line in self.metrics()? {
            println!("    {line}");
        }
        Ok(())
    }

    /// An error unless this message went where it should have gone. Flows are logged when they end, which takes seconds.
    fn check(
        &mut self,
        transport: &str,
        carry: &str,
        path: &str,
        (route, code, behind): (&str, u64, Behind),
    ) -> Result<()> {
        check_stop()?;
        let entry = self.envoy.access_log_entry(|entry| {
            let wanted = [("transport", transport), ("carry", carry), ("path", path)];
            wanted.iter().all(|(key, value)| text(entry, key) == *value)
        })?;
        let upstream = match behind {
            Behind::Server => self.server.address().to_string(),
            Behind::Firmware => self.firmware.address().to_string(),
            Behind::Service => self.service.address.to_string(),
            Behind::Nobody => "-".to_owned(),
        };
        let as_expected = text(&entry, "route") == route
            && entry.get("code").and_then(Value::as_u64) == Some(code)
            && text(&entry, "upstream") == upstream;
        ensure!(as_expected, "expected {code} by {route} at {upstream}, got {entry}");
        Ok(())
    }

    /// The filter's metrics once it has reported what came last: it does so every second.
    fn metrics(&mut self) -> Result<Vec<String>> {
        eventually("the filter to report every session", || {
            check_stop()?;
            let observed = [("method", "get"), ("code", "gone")];
            let gone = self.envoy.metric("coap_egress_requests_total", &observed)?;
            let handshakes = [("result", "completed")];
            let shaken = self.envoy.metric("dtls_handshakes_total", &handshakes)?;
            let sessions = self.envoy.metric("udp_sessions_active", &[])?;
            let all = gone == Some(1.0) && shaken == Some(2.0) && sessions == Some(0.0);
            Ok(all.then_some(()))
        })?;
        let errors = self.envoy.metric("coap_decode_errors_total", &[])?;
        ensure!(errors.is_none_or(|count| count == 0.0), "the filter counted decode errors");
        integration::setup::expect_healthy(&mut self.envoy)?;
        let text = self.envoy.get("/stats/prometheus")?;
        let ours = |line: &&str| {
            ["coap_", "dtls_", "udp_"].iter().any(|start| line.starts_with(start))
                && ["_total", "_active"].iter().any(|part| line.contains(part))
        };
        Ok(text.lines().filter(ours).map(str::to_owned).collect())
    }

    pub(crate) fn explain(&self) {
        let Ports { coap, coaps, http, admin } = self.ports;
        println!(
            "    {CLIENT} -w -s 10 coap://127.0.0.1:{coap}/time
    {CLIENT} coap+tcp://127.0.0.1:{coap}/.well-known/core
    {CLIENT} -u device-2 -k 'key-of-device-2!' -m post -e 19 coaps://127.0.0.1:{coaps}/telemetry/cellar
    curl -i http://127.0.0.1:{http}/time
    curl -N -H 'accept: text/event-stream' http://127.0.0.1:{http}/lamp
    curl -s http://127.0.0.1:{admin}/stats/prometheus | grep -E '^(coap|dtls|udp)_'
    less {}",
            self.envoy.process.dir().join("stderr").display()
        );
    }

    /// Prints what has come into the access log; an error if something has ended by itself.
    pub(crate) fn follow(&mut self) -> Result<()> {
        for server in [&mut self.server, &mut self.firmware] {
            server.process.expect_running()?;
        }
        self.envoy.process.expect_running()?;
        let log = self.envoy.access_log();
        print_rows(false, log.get(self.printed..).unwrap_or_default());
        self.printed = log.len();
        Ok(())
    }
}

/// Waits until a process has written this line.
fn wait_for(process: &mut Process, wanted: &str) -> Result<()> {
    eventually(wanted, || {
        check_stop()?;
        process.expect_running()?;
        Ok(process.stdout().lines().any(|line| line == wanted).then_some(()))
    })
}

/// An HTTP service that takes every request, and answers 204.
struct Service {
    address: SocketAddr,
    /// The requests as they came: head, an empty line, content.
    requests: mpsc::Receiver<String>,
}

impl Service {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A request that is cut off is none.
                let Ok(request) = take(stream) else { continue };
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        Ok(Self { address, requests })
    }
}

/// Takes one request with Content-Length.
fn take(stream: TcpStream) -> Result<String> {
    const MAX_CONTENT: usize = 1 << 20;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(&stream);
    let mut request = String::new();
    let mut len = 0;
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "cut off");
        let line = line.trim_end();
        request.push_str(line);
        request.push('\n');
        match line.split_once(": ") {
            _ if line.is_empty() => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                len = value.parse()?
            }
            _ => {}
        }
    }
    if len > MAX_CONTENT {
        bail!("content of {len} octets");
    }
    let mut content = vec![0; len];
    reader.read_exact(&mut content)?;
    request.push_str(&String::from_utf8_lossy(&content));
    (&stream).write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")?;
    Ok(request)
}

/// Access-log entries as lines of a table.
fn print_rows(header: bool, entries: &[Value]) {
    let row = |[transport, carry, method, path, route, code, upstream]: [&str; 7]| {
        println!(
            "    {transport:<10} {carry:<8} {method:<7} {path:<18} {route:<10} {code:<5} {upstream}"
        );
    };
    if header {
        row(["TRANSPORT", "CARRY", "METHOD", "PATH", "ROUTE", "CODE", "UPSTREAM"]);
    }
    for entry in entries {
        let code = entry.get("code").map(Value::to_string).unwrap_or_default();
        row([
            text(entry, "transport"),
            text(entry, "carry"),
            text(entry, "method"),
            text(entry, "path"),
            text(entry, "route"),
            &code,
            text(entry, "upstream"),
        ]);
    }
}
