//! aiocoap: the server of `integration/tests/aiocoap_server.py`, the client of `aiocoap_client.py`, and its proxy.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{local, wait_until_listening};
use crate::ports::free_port;
use crate::process::{Process, program};
use crate::{PATIENCE, eventually, root};

/// Starts `python3` with aiocoap within reach.
fn start(name: &str, args: &[&str]) -> Result<Process> {
    let provided = Command::new(root().join("scripts/aiocoap")).output()?;
    ensure!(provided.status.success(), "scripts/aiocoap: {provided:?}");
    let path = format!("PYTHONPATH={}", String::from_utf8(provided.stdout)?.trim());
    let args = [&path, "PYTHONUNBUFFERED=1", "python3"].into_iter().chain(args.iter().copied());
    let args = args.map(str::to_owned).collect();
    Process::start(name, &program("env")?, |_| Ok(args))
}

/// The server, over UDP and TCP on one port.
///
/// | resource | what it does |
/// |---|---|
/// | `/small` | GET: `small` |
/// | `/large/<bytes>` | GET: [`pattern`](super::pattern) of that length |
/// | `/same` | POST, PUT, FETCH, PATCH, iPATCH: answers with the payload and the Content-Format that came |
/// | `/methods` | each method: its name, with the code that is usual for it; POST with a Location-Path |
/// | `/slow/<milliseconds>` | GET: `slow`, then; so with a separate response, after 100 ms |
/// | `/ticks/<count>/<milliseconds>` | GET, observable: `0`, then one notification each, up to the count |
/// | `/options` | each method: the request's options and length, as JSON |
/// | `/strict` | each method: `strict`, or 4.02 if there is a critical option that RFC 7252 and RFC 7959 do not define |
/// | `/status/<code>` | each method: that code as a number, such as 132 for 4.04, and `status` |
/// | `/cached` | GET: `cached`, with ETag and Max-Age 30; 2.03 for that ETag |
/// | `/.well-known/core` | the list of these |
///
/// All but the last are there below `/config` and `/fw` as well.
#[derive(Debug)]
pub struct Server {
    /// The process, for its log and its end.
    pub process: Process,
    port: u16,
}

impl Server {
    /// Starts it and waits until it listens.
    pub fn start() -> Result<Self> {
        let port = free_port()?;
        let mut process =
            start("aiocoap", &["integration/tests/aiocoap_server.py", &port.to_string()])?;
        wait_until_listening(&mut process, local(port))?;
        Ok(Self { process, port })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// The requests that came, each block on its own: `method`, `path`, `query`, `length`, `options`, `type` and, as
    /// `host:port`, `remote`.
    pub fn requests(&self) -> Result<Vec<Value>> {
        let out = self.process.stdout();
        // The last line may be in the making.
        let (lines, _) = out.rsplit_once('\n').unwrap_or_default();
        lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// Its proxy, which asks one server whatever it is asked.
#[derive(Debug)]
pub struct Proxy {
    /// The process, for its CPU time.
    pub process: Process,
    port: u16,
}

impl Proxy {
    /// Starts it in front of `server` and waits until it listens.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let port = free_port()?;
        let bind = format!("127.0.0.1:{port}");
        let rule = ["--reverse", "--unconditional", &server.to_string()].map(str::to_owned);
        let mut args = vec!["-m", "aiocoap.cli.proxy", "--bind", &bind];
        args.extend(rule.iter().map(String::as_str));
        let mut process = start("aiocoap-proxy", &args)?;
        wait_until_listening(&mut process, local(port))?;
        Ok(Self { process, port })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }
}

/// A request about to be made.
#[derive(Debug, Clone)]
pub struct Request(Value);

impl Request {
    /// A confirmable one, by the method's name: `GET`, `iPATCH`. `coap://` and `coap+tcp://`.
    #[must_use]
    pub fn new(method: &str, uri: &str) -> Self {
        Self(json!({"method": method, "uri": uri}))
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        if let Some(map) = self.0.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
        self
    }

    /// With this text.
    #[must_use]
    pub fn payload(self, text: &str) -> Self {
        self.with("payload", text.into())
    }

    /// With [`pattern`](super::pattern) of this length.
    #[must_use]
    pub fn pattern(self, length: usize) -> Self {
        self.with("pattern", length.into())
    }

    /// With one more option.
    #[must_use]
    pub fn option(mut self, number: u16, value: &[u8]) -> Self {
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(options) = self
            .0
            .as_object_mut()
            .and_then(|map| map.entry("options").or_insert_with(|| json!([])).as_array_mut())
        {
            options.push(json!([number, hex]));
        }
        self
    }

    /// Non-confirmable.
    #[must_use]
    pub fn non_confirmable(self) -> Self {
        self.with("non", true.into())
    }

    /// Observes, until so many notifications came after the first response, and then cancels.
    #[must_use]
    pub fn observe(self, notifications: usize) -> Self {
        self.with("observe", notifications.into())
    }

    /// Without block-wise transfer: one message there, one back.
    #[must_use]
    pub fn one_block(self) -> Self {
        self.with("one_block", true.into())
    }
}

/// A response, or a notification, as the client prints it.
#[derive(Debug, Clone, PartialEq)]
pub struct Response(Value);

impl Response {
    /// The code as it is written: `2.05`; or what went wrong, by the name of aiocoap's exception.
    #[must_use]
    pub fn code(&self) -> &str {
        self.0.get("code").and_then(Value::as_str).unwrap_or_default()
    }

    /// The payload's length in bytes.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.0.get("length").and_then(Value::as_u64)
    }

    /// The payload, if it is text of at most 4 KiB.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get("text").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether the payload is [`pattern`](super::pattern) of its length.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.0.get("pattern") == Some(&Value::Bool(true))
    }

    /// The value of the first option with this number, in hexadecimal.
    #[must_use]
    pub fn option(&self, number: u16) -> Option<&str> {
        let options = self.0.get("options")?.as_array()?;
        let wanted = options.iter().find(|option| option.get(0) == Some(&number.into()))?;
        wanted.get(1)?.as_str()
    }
}

/// Runs the client: all requests one after the other from one source, and what came to each, with all notifications.
pub fn run(requests: &[Request]) -> Result<Vec<Vec<Response>>> {
    let steps: Vec<&Value> = requests.iter().map(|request| &request.0).collect();
    let steps = serde_json::to_string(&steps)?;
    let mut client = start("aiocoap-client", &["integration/tests/aiocoap_client.py", &steps])?;
    let status = client.wait(PATIENCE * 3)?;
    ensure!(status.success(), "aiocoap_client.py: {status}\n{}", client.stderr());
    let answers: Vec<Vec<Value>> =
        serde_json::from_str(&client.stdout()).context("what aiocoap_client.py printed")?;
    ensure!(answers.len() == requests.len(), "{} answers", answers.len());
    Ok(answers.into_iter().map(|all| all.into_iter().map(Response).collect()).collect())
}

/// The last response to each of these.
pub fn responses(requests: &[Request]) -> Result<Vec<Response>> {
    let answers = run(requests)?.into_iter().map(|mut all| all.pop().context("no response"));
    answers.collect()
}

/// Waits until the server has logged a request that `wanted` accepts.
pub fn request_seen(server: &mut Server, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually("a request at the aiocoap server", || {
        server.process.expect_running()?;
        Ok(server.requests()?.into_iter().find(&wanted))
    })
}
