//! mosquitto's own command-line clients.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{Process, program};
use crate::wire::Version;
use crate::{PATIENCE, eventually};

/// A client about to be started.
#[derive(Debug, Clone)]
pub struct Mosquitto {
    program: &'static str,
    args: Vec<String>,
}

impl Mosquitto {
    /// `mosquitto_pub` towards a port on 127.0.0.1.
    #[must_use]
    pub fn publisher(port: u16, version: Version, topic: &str) -> Self {
        Self::new("mosquitto_pub", port, version, topic)
    }

    /// `mosquitto_sub` towards a port on 127.0.0.1. It prints each message as `topic payload`.
    #[must_use]
    pub fn subscriber(port: u16, version: Version, topic: &str) -> Self {
        Self::new("mosquitto_sub", port, version, topic).args(&["-v"])
    }

    /// `mosquitto_rr` in MQTT 5.0: it publishes a request and prints the reply that comes to `response_topic`.
    #[must_use]
    pub fn requester(port: u16, topic: &str, response_topic: &str) -> Self {
        Self::new("mosquitto_rr", port, Version::V5, topic).args(&["-e", response_topic])
    }

    fn new(program: &'static str, port: u16, version: Version, topic: &str) -> Self {
        let version = if version == Version::V5 { "mqttv5" } else { "mqttv311" };
        let port = port.to_string();
        // By name, because that is what a server certificate for development is made out to.
        Self { program, args: Vec::new() }.args(&[
            "-d",
            "-h",
            "localhost",
            "-p",
            &port,
            "-V",
            version,
            "-t",
            topic,
        ])
    }

    /// More arguments, as on the command line.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Over TLS, trusting the development CA; with the client certificate of that name in `.build/certs`, if any.
    #[must_use]
    pub fn tls(self, client_certificate: Option<&str>) -> Self {
        let client = self.args(&["--cafile", ".build/certs/ca.crt"]);
        match client_certificate {
            Some(name) => {
                let file = |ending| format!(".build/certs/{name}.{ending}");
                client.args(&["--cert", &file("crt"), "--key", &file("key")])
            }
            None => client,
        }
    }

    /// The command line, for a reader.
    #[must_use]
    pub fn command_line(&self) -> String {
        let shown = self.args.iter().filter(|arg| *arg != "-d").map(|arg| {
            if arg.is_empty() || arg.contains(' ') { format!("'{arg}'") } else { arg.clone() }
        });
        std::iter::once(self.program.to_owned()).chain(shown).collect::<Vec<_>>().join(" ")
    }

    /// Starts it.
    pub fn start(self) -> Result<Running> {
        // Into a file it would write in blocks, and a message would show when many more have come.
        let mut args =
            vec!["-oL".to_owned(), program(self.program)?.to_string_lossy().into_owned()];
        args.extend(self.args);
        let process = Process::start(self.program, &program("stdbuf")?, |_| Ok(args))?;
        Ok(Running { process })
    }

    /// Starts a subscriber and waits until the broker has confirmed its subscription.
    pub fn start_subscribed(self) -> Result<Running> {
        let mut running = self.start()?;
        eventually("a SUBACK", || {
            if running.process.stdout().contains("Subscribed (mid:") {
                return Ok(Some(()));
            }
            running.process.expect_running()?;
            Ok(None)
        })?;
        Ok(running)
    }

    /// Runs it to its end; an error if it fails.
    pub fn run(self) -> Result<String> {
        let mut running = self.start()?;
        let status = running.process.wait(PATIENCE)?;
        let (out, err) = (running.process.stdout(), running.process.stderr());
        ensure!(status.success(), "mosquitto client: {status}\n{out}{err}");
        Ok(out)
    }

    /// Runs it to its end, which has to be a failure; what it said.
    pub fn run_refused(self) -> Result<String> {
        let mut running = self.start()?;
        let status = running.process.wait(PATIENCE)?;
        let said = format!("{}{}", running.process.stdout(), running.process.stderr());
        ensure!(!status.success(), "mosquitto client was not refused:\n{said}");
        Ok(said)
    }
}

/// A client that runs; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub process: Process,
}

impl Running {
    /// The messages received so far, as `topic payload`, without the client's own reports.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        let out = self.process.stdout();
        let reports = ["Client ", "Subscribed (mid:"];
        out.lines()
            .filter(|line| !reports.iter().any(|report| line.starts_with(report)))
            .map(str::to_owned)
            .collect()
    }

    /// Waits for this many messages.
    pub fn wait_for_messages(&mut self, count: usize) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let messages = self.messages();
            if messages.len() >= count {
                return Ok(messages);
            }
            if Instant::now() > deadline {
                bail!("{} of {count} messages came:\n{}", messages.len(), self.process.stdout());
            }
            if messages.len() < count && self.process.exit_status()?.is_some() {
                // It may have written its last lines between the two looks.
                let messages = self.messages();
                ensure!(messages.len() >= count, "the subscriber ended after {messages:?}");
                return Ok(messages);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<Vec<String>> {
        let status = self.process.wait(PATIENCE).context("mosquitto_sub")?;
        ensure!(status.success(), "mosquitto_sub: {status}\n{}", self.process.stderr());
        Ok(self.messages())
    }
}
