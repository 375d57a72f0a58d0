//! dig, kdig and dnspython: whether a message is in order is their word.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::process::{Process, program};
use crate::{PATIENCE, root};

/// What dig or kdig printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output(pub String);

impl Output {
    /// The answer section, a record each: `www.example. 300 IN A 192.0.2.1`.
    #[must_use]
    pub fn answers(&self) -> Vec<String> {
        let section = self.0.split_once(";; ANSWER SECTION:").map_or("", |(_, section)| section);
        let lines = section.lines().skip(1).take_while(|line| !line.is_empty());
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    /// The same without name, TTL, class and type.
    #[must_use]
    pub fn short(&self) -> Vec<String> {
        let answers = self.answers();
        let data = answers.iter().filter_map(|line| line.splitn(5, ' ').nth(4));
        data.map(str::to_owned).collect()
    }

    /// The response code: `NOERROR`.
    #[must_use]
    pub fn status(&self) -> &str {
        let status = self.0.split_once("status: ").map_or("", |(_, rest)| rest);
        status.split([',', ';', '\n']).next().unwrap_or_default()
    }
}

/// dig about to be run: it asks once, without falling back to anything, unless an argument says otherwise.
#[derive(Debug, Clone)]
pub struct Dig(Vec<String>);

impl Dig {
    /// A question over UDP.
    #[must_use]
    pub fn new(server: SocketAddr, name: &str, record_type: &str) -> Self {
        let (host, port) = (format!("@{}", server.ip()), server.port().to_string());
        // Nothing from a .digrc.
        let args =
            ["-r", &host, "-p", &port, "-t", record_type, "-q", name, "+tries=1", "+time=10"];
        Self(args.map(str::to_owned).to_vec())
    }

    /// More arguments, as on the command line.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.0.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Runs it to its end; an error if it fails, as it does without an answer.
    pub fn run(self) -> Result<Output> {
        run("dig", self.0)
    }
}

/// kdig about to be run: it asks once, without falling back to anything, unless an argument says otherwise.
#[derive(Debug, Clone)]
pub struct Kdig(Vec<String>);

impl Kdig {
    /// A question over UDP.
    #[must_use]
    pub fn new(server: SocketAddr, name: &str, record_type: &str) -> Self {
        let (host, port) = (format!("@{}", server.ip()), server.port().to_string());
        let args = [&host, "-p", &port, "-t", record_type, "-q", name, "+retry=0", "+time=10"];
        Self(args.map(str::to_owned).to_vec())
    }

    /// More arguments, as on the command line.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.0.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// Runs it to its end; an error if it fails.
    pub fn run(self) -> Result<Output> {
        run("kdig", self.0)
    }
}

fn run(name: &str, args: Vec<String>) -> Result<Output> {
    let mut client = Process::start(name, &program(name)?, |_| Ok(args))?;
    let status = client.wait(PATIENCE)?;
    let (out, err) = (client.stdout(), client.stderr());
    ensure!(status.success(), "{name}: {status}\n{out}{err}");
    Ok(Output(out))
}

/// A query for dnspython, over UDP unless something else is said.
#[derive(Debug, Clone)]
pub struct PythonQuery(Value);

impl PythonQuery {
    /// A question.
    #[must_use]
    pub fn new(server: SocketAddr, name: &str, record_type: &str) -> Self {
        let (host, port) = (server.ip().to_string(), server.port());
        Self(json!({"server": host, "port": port, "name": name, "type": record_type}))
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        if let Some(map) = self.0.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
        self
    }

    /// `udp`, `tcp`, or `tls` or `https` with the development CA trusted.
    #[must_use]
    pub fn transport(self, transport: &str) -> Self {
        self.with("transport", transport.into())
    }

    /// With EDNS, this much room over UDP, and DO or not.
    #[must_use]
    pub fn edns(self, payload_size: u16, dnssec_ok: bool) -> Self {
        self.with("edns", json!({"payload": payload_size, "do": dnssec_ok}))
    }
}

/// What dnspython says of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct PythonAnswer(Value);

impl PythonAnswer {
    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn list(&self, key: &str) -> Vec<String> {
        let list = self.0.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The response code: `NOERROR`; or what went wrong, by the name of its exception: `BadResponse`, `Timeout`.
    #[must_use]
    pub fn rcode(&self) -> &str {
        self.text("rcode")
    }

    /// The flags: `QR AA RD`.
    #[must_use]
    pub fn flags(&self) -> &str {
        self.text("flags")
    }

    /// The answer section, a record each: `www.example. 300 IN A 192.0.2.1`.
    #[must_use]
    pub fn answers(&self) -> Vec<String> {
        self.list("answers")
    }

    /// The extended errors: `EDE 18 (Prohibited)`.
    #[must_use]
    pub fn extended_errors(&self) -> Vec<String> {
        self.list("extended_errors")
    }
}

/// Runs dnspython: all queries one after the other, and what came to each.
pub fn dnspython(queries: &[PythonQuery]) -> Result<Vec<PythonAnswer>> {
    let provided = Command::new(root().join("scripts/dnspython")).output()?;
    ensure!(provided.status.success(), "scripts/dnspython: {provided:?}");
    let path = format!("PYTHONPATH={}", String::from_utf8(provided.stdout)?.trim());
    let queries: Vec<&Value> = queries.iter().map(|query| &query.0).collect();
    let queries = serde_json::to_string(&queries)?;
    let script = "integration/tests/dnspython_client.py".to_owned();
    let mut client = Process::start("dnspython", &program("env")?, |_| {
        Ok(vec![path, "python3".to_owned(), script, queries])
    })?;
    let status = client.wait(PATIENCE * 3)?;
    ensure!(status.success(), "dnspython_client.py: {status}\n{}", client.stderr());
    let answers: Vec<Value> =
        serde_json::from_str(&client.stdout()).context("what dnspython_client.py printed")?;
    Ok(answers.into_iter().map(PythonAnswer).collect())
}

#[cfg(test)]
mod tests {
    use codec_dns::{InfoCode, Rcode};

    use super::super::authority::{Authority, Reply};
    use super::*;

    #[test]
    fn all_clients_read_an_answer() {
        let server = Authority::with_address([192, 0, 2, 1].into(), 60).unwrap();
        let address = server.address();
        for output in [
            Dig::new(address, "a.example", "A").run().unwrap(),
            Dig::new(address, "a.example", "A").args(&["+tcp"]).run().unwrap(),
            Kdig::new(address, "a.example", "A").run().unwrap(),
            Kdig::new(address, "a.example", "A").args(&["+tcp"]).run().unwrap(),
        ] {
            assert_eq!(output.status(), "NOERROR");
            assert_eq!(output.answers(), ["a.example. 60 IN A 192.0.2.1"]);
            assert_eq!(output.short(), ["192.0.2.1"]);
        }
        let query = PythonQuery::new(address, "a.example", "A");
        let queries = [query.clone(), query.transport("tcp").edns(1232, true)];
        for answer in dnspython(&queries).unwrap() {
            assert_eq!((answer.rcode(), answer.flags()), ("NOERROR", "QR AA RD"));
            assert_eq!(answer.answers(), ["a.example. 60 IN A 192.0.2.1"]);
        }
    }

    #[test]
    fn they_see_refusals_and_extended_errors() {
        let server = Authority::start(|asked| {
            let reply = Reply::to(asked)?.rcode(Rcode::REFUSED);
            Ok(vec![reply.extended_error(InfoCode::PROHIBITED, "").send()?])
        });
        let address = server.as_ref().unwrap().address();
        let output = Dig::new(address, "a.example", "A").run().unwrap();
        assert_eq!(output.status(), "REFUSED");
        assert!(output.0.contains("EDE: 18 (Prohibited)"), "{output:?}");
        let query = PythonQuery::new(address, "a.example", "A").edns(1232, false);
        let answers = dnspython(&[query]).unwrap();
        assert_eq!(answers[0].rcode(), "REFUSED");
        assert_eq!(answers[0].extended_errors(), ["EDE 18 (Prohibited)"]);
    }
}
