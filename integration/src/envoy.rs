//! The real Envoy, with a configuration from `envoy-configs/` or inline.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::ports::free_port;
use crate::process::{Process, program};
use crate::{PATIENCE, eventually, eventually_within, root};

/// How long it may take to start: it compiles the module first, for each worker, which takes seconds where nothing else runs.
const START: Duration = Duration::from_secs(180);

/// Where the binary is: `$ENVOY`, else what `make envoy` provides.
pub fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("ENVOY") {
        Some(path) => PathBuf::from(path),
        None => root().join(".build/envoy-1.40.0/envoy"),
    };
    ensure!(path.is_file(), "no Envoy at {}; `make envoy` provides it", path.display());
    Ok(path)
}

/// A configuration on its way to a running Envoy.
///
/// Its ports are names: each `port_value` is replaced by a free port, the same one wherever the same number stands,
/// unless [`Config::port`] says which.
#[derive(Debug, Clone)]
pub struct Config {
    yaml: String,
    ports: BTreeMap<u16, u16>,
    concurrency: u32,
    args: Vec<String>,
    environment: Vec<String>,
    restartable: Option<Restartable>,
}

/// What the processes of hot restarts have in common, and which of them one is.
#[derive(Debug, Clone, Copy)]
struct Restartable {
    base_id: u32,
    epoch: u32,
}

impl Config {
    /// A file, named relative to the repository's root.
    pub fn from_file(path: &str) -> Result<Self> {
        let yaml =
            fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))?;
        Ok(Self::from_text(yaml))
    }

    /// Inline YAML.
    #[must_use]
    pub fn from_text(yaml: impl Into<String>) -> Self {
        Self {
            yaml: yaml.into(),
            ports: BTreeMap::new(),
            concurrency: 2,
            args: Vec::new(),
            environment: Vec::new(),
            restartable: None,
        }
    }

    /// `port_value: written` becomes `used`.
    #[must_use]
    pub fn port(mut self, written: u16, used: u16) -> Self {
        self.ports.insert(written, used);
        self
    }

    /// The number of worker threads; 2 unless said otherwise, so that workers can get into each other's way.
    #[must_use]
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// More arguments for the command line.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// With this environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// So that [`Envoy::successor`] can take over. `base_id` is that of no other Envoy on this machine, up to 2^26.
    #[must_use]
    pub fn restartable(mut self, base_id: u32) -> Self {
        self.restartable = Some(Restartable { base_id, epoch: 0 });
        self
    }

    /// The YAML; ports as they are written, unless it is [`Config::resolved`].
    #[must_use]
    pub fn yaml(&self) -> &str {
        &self.yaml
    }

    /// With its ports chosen and written into it.
    pub fn resolved(mut self) -> Result<Self> {
        self.yaml = self.with_ports()?;
        let used: Vec<u16> = self.ports.values().copied().collect();
        self.ports.extend(used.into_iter().map(|port| (port, port)));
        Ok(self)
    }

    /// The same ports and arguments with another text.
    #[must_use]
    pub fn with_yaml(mut self, yaml: String) -> Self {
        self.yaml = yaml;
        self
    }

    /// Replaces every `from`; an error if there is none, so that a test notices when the file has moved on.
    pub fn replace(mut self, from: &str, to: &str) -> Result<Self> {
        ensure!(self.yaml.contains(from), "the configuration does not contain {from:?}");
        self.yaml = self.yaml.replace(from, to);
        Ok(self)
    }

    /// Starts Envoy and waits until it is ready.
    pub fn start(self) -> Result<Envoy> {
        let mut envoy = self.launch()?;
        envoy.wait_until_ready()?;
        Ok(envoy)
    }

    /// Starts Envoy with a configuration that it has to refuse; its log.
    pub fn start_refused(self) -> Result<String> {
        let mut envoy = self.launch()?;
        let status = envoy.process.wait(PATIENCE)?;
        ensure!(!status.success(), "Envoy accepted the configuration");
        Ok(envoy.process.stderr())
    }

    fn launch(mut self) -> Result<Envoy> {
        let absent = std::env::var("ENVOY_WITHOUT").unwrap_or_default();
        let yaml = without(&self.with_ports()?, &absent);
        let binary = binary()?;
        // It replaces itself with Envoy, so the process is Envoy's.
        let program = if self.environment.is_empty() { binary.clone() } else { program("env")? };
        let process = Process::start("envoy", &program, |dir| {
            let file = dir.join("envoy.yaml");
            fs::write(&file, yaml)?;
            let mut args = self.environment.clone();
            if !args.is_empty() {
                args.push(binary.to_string_lossy().into_owned());
            }
            match self.restartable {
                // Several Envoys side by side would share the hot-restart memory.
                None => args.push("--disable-hot-restart".to_owned()),
                Some(Restartable { base_id, epoch }) => {
                    args.extend(["--base-id".to_owned(), base_id.to_string()]);
                    args.extend(["--restart-epoch".to_owned(), epoch.to_string()]);
                }
            }
            let own = [
                "-c",
                &file.to_string_lossy(),
                "--concurrency",
                &self.concurrency.to_string(),
                // The default of ten seconds would make every look into the access log a long wait.
                "--file-flush-interval-msec",
                "50",
                "--log-level",
                "info",
                // It starts by listing all its extensions.
                "--component-log-level",
                "main:warning",
            ];
            args.extend(own.map(str::to_owned));
            args.extend(self.args.iter().cloned());
            Ok(args)
        })?;
        Ok(Envoy { process, config: self })
    }

    /// The YAML with each `port_value` replaced.
    fn with_ports(&mut self) -> Result<String> {
        const KEY: &str = "port_value:";
        let mut out = String::with_capacity(self.yaml.len());
        let mut rest = self.yaml.as_str();
        while let Some((before, after)) = rest.split_once(KEY) {
            let number = after.trim_start();
            let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
            let (digits, tail) = number.split_at(end);
            let written: u16 = digits.parse().with_context(|| format!("{KEY} {digits:?}"))?;
            let used = match self.ports.get(&written) {
                // Any port: of the kernel's choice, and another one for each socket.
                None if written == 0 => 0,
                Some(used) => *used,
                None => *self.ports.entry(written).or_insert(free_port()?),
            };
            out.push_str(before);
            out.push_str(&format!("{KEY} {used}"));
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The YAML without the lines that set one of the `absent` fields, whose names are separated by blanks.
///
/// `$ENVOY_WITHOUT` has the fields that an older Envoy does not know: it refuses a configuration with one of them, and all else
/// could not be tested with it. `scripts/versions` sets it.
fn without(yaml: &str, absent: &str) -> String {
    let is_absent = |line: &str| {
        let field = line.trim_start().split_once(':').map(|(field, _)| field);
        field.is_some_and(|field| absent.split_whitespace().any(|absent| absent == field))
    };
    yaml.split_inclusive('\n').filter(|line| !is_absent(line)).collect()
}

/// A running Envoy; dropping it ends it.
#[derive(Debug)]
pub struct Envoy {
    /// The process, for its log, its memory and its end.
    pub process: Process,
    /// With all ports.
    config: Config,
}

impl Envoy {
    /// Where the port that the configuration calls `written` is in this run.
    pub fn port(&self, written: u16) -> Result<u16> {
        let port = self.config.ports.get(&written).copied();
        port.with_context(|| format!("the configuration has no port {written}"))
    }

    /// Ends it, and starts another one with the same configuration and ports.
    pub fn replace(&mut self) -> Result<()> {
        self.process.kill()?;
        let mut config = self.config.clone();
        if let Some(restartable) = &mut config.restartable {
            // There is nobody to take anything from.
            restartable.epoch = 0;
        }
        *self = config.start()?;
        Ok(())
    }

    /// Starts the one that takes this one's sockets over (hot restart), and waits until it is ready. This one drains, and ends.
    pub fn successor(&self) -> Result<Self> {
        let mut config = self.config.clone();
        let restartable = config.restartable.as_mut().context("it is not restartable")?;
        restartable.epoch += 1;
        let epoch = restartable.epoch;
        let mut successor = config.launch()?;
        // Until it takes over, its predecessor answers.
        eventually_within(START, "the successor", || {
            successor.process.expect_running()?;
            let Ok((200, info)) = successor.request("GET", "/server_info") else { return Ok(None) };
            let info: Value = serde_json::from_str(&info)?;
            let options = info.pointer("/command_line_options/restart_epoch");
            let is_live = info.pointer("/state").and_then(Value::as_str) == Some("LIVE");
            Ok((is_live && options.and_then(Value::as_u64) == Some(epoch.into())).then_some(()))
        })?;
        Ok(successor)
    }

    /// The address of a listener that the configuration puts on `written`.
    pub fn address(&self, written: u16) -> Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port(written)?)))
    }

    /// The address of the admin interface.
    pub fn admin(&self) -> Result<SocketAddr> {
        self.address(9901)
    }

    /// `GET path` from the admin interface.
    pub fn get(&self, path: &str) -> Result<String> {
        let (status, body) = self.request("GET", path)?;
        ensure!(status == 200, "GET {path}: {status} {body}");
        Ok(body)
    }

    /// `POST path` to the admin interface.
    pub fn post(&self, path: &str) -> Result<String> {
        let (status, body) = self.request("POST", path)?;
        ensure!(status == 200, "POST {path}: {status} {body}");
        Ok(body)
    }

    fn request(&self, method: &str, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin()?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer from admin")?;
        let status = head.split(' ').nth(1).context("no HTTP status from admin")?.parse()?;
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        Ok((status, if chunked { dechunk(body)? } else { body.to_owned() }))
    }

    /// One of Envoy's own statistics by its full name; 0 when it was never touched.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let all = self.get("/stats")?;
        let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(Ok(0), |value| Ok(value.trim().parse()?))
    }

    /// The sum of a Prometheus metric over all series that carry these labels; `None` if there is no such series.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<Option<f64>> {
        let text = self.get("/stats/prometheus")?;
        let mut sum = None;
        for sample in text.lines().filter_map(Sample::parse) {
            let wanted = labels.iter().all(|(key, value)| sample.label(key) == Some(value));
            if sample.name == name && wanted {
                sum = Some(sum.unwrap_or(0.0) + sample.value);
            }
        }
        Ok(sum)
    }

    /// Bytes that Envoy has allocated, by its own count.
    pub fn allocated_bytes(&self) -> Result<u64> {
        let memory: Value = serde_json::from_str(&self.get("/memory")?)?;
        let allocated = memory.get("allocated").and_then(Value::as_str);
        Ok(allocated.context("no `allocated` in /memory")?.parse()?)
    }

    /// The access log so far. Lines that are not JSON are skipped: another test's configuration may write text.
    #[must_use]
    pub fn access_log(&self) -> Vec<Value> {
        self.process.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The first access-log entry that `wanted` accepts; waits for it.
    pub fn access_log_entry(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        eventually("an access-log entry", || {
            self.process.expect_running()?;
            Ok(self.access_log().into_iter().find(&wanted))
        })
        .map_err(|error| anyhow!("{error}; the access log is:\n{}", self.process.stdout()))
    }

    // A sign that our own admin answers, not somebody else's on the same port.
    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = std::time::Instant::now() + START;
        loop {
            self.process.expect_running()?;
            if self.request("GET", "/ready").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            if std::time::Instant::now() > deadline {
                bail!("Envoy was not ready after {START:?}:\n{}", self.process.stderr());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn dechunk(mut rest: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("truncated chunk from admin")?;
        let size = usize::from_str_radix(size.trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        let (chunk, after) = after.split_at_checked(size).context("truncated chunk from admin")?;
        body.push_str(chunk);
        rest = after.strip_prefix("\r\n").unwrap_or(after);
    }
}

/// One line of Prometheus' text format.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        Some(Self { name, labels, value: value.parse().ok()? })
    }

    /// A label's value; label values with a quote or a comma in them do not occur here.
    fn label(&self, key: &str) -> Option<&'a str> {
        self.labels
            .split(',')
            .find_map(|label| label.strip_prefix(key)?.strip_prefix("=\"")?.strip_suffix('"'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_port_number_becomes_the_same_port() {
        let text = "a: {port_value: 1883}\nb: {port_value: 1884}\nc: {port_value: 1883}";
        let mut config = Config::from_text(text).port(1884, 7);
        let yaml = config.with_ports().unwrap();
        let used = config.ports[&1883];
        assert_eq!(
            yaml,
            format!("a: {{port_value: {used}}}\nb: {{port_value: 7}}\nc: {{port_value: {used}}}")
        );
    }

    #[test]
    fn ports_are_chosen_once() {
        let config = Config::from_text("a: {port_value: 1883}").resolved().unwrap();
        let yaml = config.yaml().to_owned();
        assert_eq!(config.clone().with_ports().unwrap(), yaml);
        assert_eq!(yaml, format!("a: {{port_value: {}}}", config.ports[&1883]));
    }

    #[test]
    fn a_port_that_is_left_to_the_kernel_still_is() {
        let mut config = Config::from_text("a: {port_value: 0}");
        assert_eq!(config.with_ports().unwrap(), "a: {port_value: 0}");
    }

    #[test]
    fn a_replacement_that_finds_nothing_is_an_error() {
        assert!(Config::from_text("a: 1").replace("b", "c").is_err());
    }

    #[test]
    fn fields_that_an_envoy_does_not_have_are_left_out() {
        let yaml = "a:\n  old: 1\n  new: 300s\n  newer: 2\n";
        assert_eq!(without(yaml, "new other"), "a:\n  old: 1\n  newer: 2\n");
        assert_eq!(without(yaml, ""), yaml);
    }

    #[test]
    fn samples_are_read_with_their_labels() {
        let sample = Sample::parse(r#"packets_total{type="publish",qos="1"} 5"#).unwrap();
        assert_eq!((sample.name, sample.value), ("packets_total", 5.0));
        assert_eq!((sample.label("qos"), sample.label("typ")), (Some("1"), None));
    }

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(dechunk("3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n").unwrap(), "abcd");
    }
}
