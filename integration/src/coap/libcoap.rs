//! libcoap's command-line client and example server, the ones that Debian packages.
//!
//! What the server has: `/` and `/example_data` (text, PUT replaces the latter), `/time` (observable, each second), `/async`
//! (a separate response, after `?<seconds>`), `/.well-known/core`, and what is PUT, if it was started with `-d`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{local, wait_until_listening};
use crate::ports::two_free_ports;
use crate::process::{Process, program};
use crate::{PATIENCE, eventually};

/// What it does TLS and DTLS with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Neither.
    None,
    /// OpenSSL.
    OpenSsl,
    /// GnuTLS.
    GnuTls,
}

impl Tls {
    /// Those that can do it.
    pub const BOTH: [Self; 2] = [Self::OpenSsl, Self::GnuTls];

    fn program(self, name: &str) -> Result<PathBuf> {
        let suffix = match self {
            Self::None => "notls",
            Self::OpenSsl => "openssl",
            Self::GnuTls => "gnutls",
        };
        program(&format!("{name}-{suffix}"))
    }
}

/// Arguments for a certificate in `.build/certs` and its key, and for trusting the development CA alone.
#[must_use]
pub fn certificate(name: &str) -> Vec<String> {
    let file = |name: &str| format!(".build/certs/{name}");
    let args = ["-c", &file(&format!("{name}.crt")), "-j", &file(&format!("{name}.key"))];
    let trust = ["-C", &file("ca.crt")];
    args.into_iter().chain(trust).map(str::to_owned).collect()
}

/// A server on ports of its own.
#[derive(Debug)]
pub struct Server {
    /// The process, for its log and its end.
    pub process: Process,
    port: u16,
    tls: Tls,
    args: Vec<String>,
}

impl Server {
    /// Starts it without TLS, and waits until it listens; it keeps at most 100 resources that were PUT.
    pub fn start() -> Result<Self> {
        Self::start_with(Tls::None, &["-d", "100"])
    }

    /// Starts it as a forward proxy for `Proxy-Uri`, without TLS. The name is one that it is not asked for.
    pub fn start_proxy() -> Result<Self> {
        Self::start_with(Tls::None, &["-P", ",proxy.invalid"])
    }

    /// Starts it with more arguments, as on the command line.
    pub fn start_with(tls: Tls, args: &[&str]) -> Result<Self> {
        let port = two_free_ports()?;
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        Ok(Self { process: Self::launch(tls, port, &args)?, port, tls, args })
    }

    fn launch(tls: Tls, port: u16, args: &[String]) -> Result<Process> {
        let mut process = Process::start("coap-server", &tls.program("coap-server")?, |_| {
            let port = port.to_string();
            let own = ["-A", "127.0.0.1", "-p", &port].map(str::to_owned);
            Ok(own.into_iter().chain(args.iter().cloned()).collect())
        })?;
        wait_until_listening(&mut process, local(port))?;
        Ok(process)
    }

    /// Starts it again on the same ports, after its process was ended; it has nothing of what was PUT.
    pub fn restart(&mut self) -> Result<()> {
        self.process = Self::launch(self.tls, self.port, &self.args)?;
        Ok(())
    }

    /// Where it takes CoAP over UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// Where it takes CoAP over DTLS and TLS, if it can.
    #[must_use]
    pub fn secure_address(&self) -> SocketAddr {
        local(self.port + 1)
    }
}

/// A client about to be started.
#[derive(Debug, Clone)]
pub struct Client {
    tls: Tls,
    uri: String,
    args: Vec<String>,
}

impl Client {
    /// A GET, unless an argument says otherwise. `coap://`, `coap+tcp://` and, with TLS, `coaps://` and `coaps+tcp://`.
    #[must_use]
    pub fn new(tls: Tls, uri: &str) -> Self {
        // It tells its errors on level 4, and else nothing.
        Self { tls, uri: uri.to_owned(), args: vec!["-v".into(), "4".into()] }
    }

    /// With this method: `get`, `put`, `post`, `delete`, `fetch`, `patch` or `ipatch`.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        self.args(&["-m", method])
    }

    /// More arguments, as on the command line.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// With a certificate in `.build/certs`, trusting the development CA.
    #[must_use]
    pub fn certificate(mut self, name: &str) -> Self {
        self.args.extend(certificate(name));
        self
    }

    /// Starts it.
    pub fn start(&self) -> Result<Running> {
        let mut input = None;
        let process = Process::start("coap-client", &self.tls.program("coap-client")?, |dir| {
            let mut args = self.args.clone();
            let output = dir.join("output");
            args.extend(["-o".into(), output.to_string_lossy().into_owned(), self.uri.clone()]);
            input = Some(output);
            Ok(args)
        })?;
        Ok(Running { process, output: input.context("the client has no folder")? })
    }

    /// Runs it to its end.
    pub fn run(&self) -> Result<Output> {
        self.start()?.wait(PATIENCE)
    }
}

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// All payloads of successful responses, one after the other.
    pub payload: Vec<u8>,
    /// What it said beside: `4.04 Not Found`, or what went wrong. Empty if all went well.
    pub complaint: String,
}

impl Output {
    /// The payload, which has to be text, of an exchange that went well.
    pub fn text(&self) -> Result<&str> {
        ensure!(self.complaint.is_empty(), "coap-client said {}", self.complaint);
        Ok(std::str::from_utf8(&self.payload)?)
    }
}

/// A client that runs; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub process: Process,
    output: PathBuf,
}

impl Running {
    /// What it has got so far.
    #[must_use]
    pub fn output(&self) -> Output {
        let complaint = format!("{}{}", self.process.stdout(), self.process.stderr());
        Output {
            // It makes the file when the first response comes.
            payload: std::fs::read(&self.output).unwrap_or_default(),
            complaint: complaint.trim().to_owned(),
        }
    }

    /// Waits until `enough` says so of the payloads so far.
    pub fn wait_for(&mut self, what: &str, enough: impl Fn(&[u8]) -> bool) -> Result<Output> {
        eventually(what, || {
            let output = self.output();
            if enough(&output.payload) {
                return Ok(Some(output));
            }
            self.process.expect_running()?;
            Ok(None)
        })
    }

    /// Waits for its end.
    pub fn wait(mut self, limit: Duration) -> Result<Output> {
        let status = self.process.wait(limit)?;
        let output = self.output();
        ensure!(status.success(), "coap-client: {status}: {}", output.complaint);
        Ok(output)
    }
}
