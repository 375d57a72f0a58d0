//! unbound, the resolver: with names of its own, or as a forwarder.

use std::fs;
use std::net::SocketAddr;

use anyhow::Result;

use super::{local, wait_until_answering};
use crate::ports::free_port;
use crate::process::{Process, program};
use crate::root;

/// A server on a port of its own, over UDP and TCP; dropping it ends it.
#[derive(Debug)]
pub struct Unbound {
    /// The process, for its log, its CPU time and its end.
    pub process: Process,
    port: u16,
    https: Option<u16>,
}

impl Unbound {
    /// One that has these records, in a zone file's format, and refuses everything else. It logs each query.
    pub fn with_records(records: &[&str]) -> Result<Self> {
        Self::start(&local_data(records))
    }

    /// As [`with_records`](Self::with_records), and it takes DNS over HTTPS, too, with the development certificate of
    /// `make certs` and the path `/dns-query`.
    pub fn with_https(records: &[&str]) -> Result<Self> {
        let https = free_port()?;
        let certs = root().join(".build/certs");
        let (chain, key) = (certs.join("server.crt"), certs.join("server.key"));
        let server = Self::start(&format!(
            "  interface: 127.0.0.1@{https}\n  https-port: {https}\n  tls-service-pem: \"{}\"\n  tls-service-key: \"{}\"\n{}",
            chain.display(),
            key.display(),
            local_data(records),
        ))?;
        Ok(Self { https: Some(https), ..server })
    }

    /// One that asks this server whatever it is asked, with a cache or without.
    pub fn forwarder(server: SocketAddr, cache: bool) -> Result<Self> {
        let no_cache = if cache { "no" } else { "yes" };
        let sizes = if cache { "" } else { "  msg-cache-size: 0\n  rrset-cache-size: 0\n" };
        let (address, port) = (server.ip(), server.port());
        Self::start(&format!(
            "{sizes}forward-zone:\n  name: .\n  forward-addr: {address}@{port}\n  forward-no-cache: {no_cache}\n"
        ))
    }

    /// One with this after the settings that all have; they are those of a `server:` clause.
    pub fn start(config: &str) -> Result<Self> {
        let port = free_port()?;
        let mut process = Process::start("unbound", &program("unbound")?, |dir| {
            let file = dir.join("unbound.conf");
            fs::write(&file, format!("{COMMON}  interface: 127.0.0.1@{port}\n{config}"))?;
            Ok(["-d", "-p", "-c", &file.to_string_lossy()].map(str::to_owned).to_vec())
        })?;
        wait_until_answering(&mut process, local(port))?;
        Ok(Self { process, port, https: None })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// Where it takes DNS over HTTPS, if it does.
    #[must_use]
    pub fn https(&self) -> Option<SocketAddr> {
        self.https.map(local)
    }

    /// How many queries for this name and type it has logged: `www.example.`, `A`.
    #[must_use]
    pub fn count(&self, name: &str, record_type: &str) -> usize {
        let wanted = format!(" {name} {record_type} IN");
        self.process.stderr().lines().filter(|line| line.ends_with(&wanted)).count()
    }
}

/// The settings that make these records all that there is.
fn local_data(records: &[&str]) -> String {
    let mut config = "  log-queries: yes\n  local-zone: . refuse\n".to_owned();
    for record in records {
        // Both quotes may be in a record, but not in the same.
        let quote = if record.contains('"') { '\'' } else { '"' };
        config.push_str(&format!("  local-data: {quote}{record}{quote}\n"));
    }
    config
}

// One thread and the iterator alone: it is compared with proxies that have one thread and validate nothing. Ports as they
// are with unbound, a new one for each query of its own.
const COMMON: &str = "server:
  chroot: \"\"
  username: \"\"
  pidfile: \"\"
  directory: /
  use-syslog: no
  logfile: \"\"
  do-daemonize: no
  num-threads: 1
  module-config: iterator
  do-not-query-localhost: no
  do-ip6: no
  so-rcvbuf: 4m
  outgoing-range: 8192
  num-queries-per-thread: 4096
  access-control: 127.0.0.0/8 allow
";

#[cfg(test)]
mod tests {
    use codec_dns::{Rcode, RecordType};

    use super::super::authority::Authority;
    use super::super::clients::Dig;
    use super::super::query::Query;
    use super::super::{tcp, udp};
    use super::*;

    #[test]
    fn it_has_its_records_and_nothing_else() {
        let records = ["www.example. 60 IN A 192.0.2.7", "www.example. TXT \"a b\""];
        let server = Unbound::with_records(&records).unwrap();
        let client = udp::Client::connect(server.address()).unwrap();
        let ask = |name, record_type| client.ask(&Query::new(name, record_type).unwrap()).unwrap();
        assert_eq!(ask("www.example", RecordType::A).a().unwrap().len(), 1);
        assert_eq!(ask("www.example", RecordType::TXT).texts().unwrap(), ["a b"]);
        assert_eq!(ask("other.example", RecordType::A).rcode().unwrap(), Rcode::REFUSED);
        assert_eq!(server.count("www.example.", "A"), 1);
    }

    #[test]
    fn it_takes_dns_over_https_if_it_is_to() {
        let server = Unbound::with_https(&["www.example. 60 IN A 192.0.2.7"]).unwrap();
        let dig = Dig::new(server.https().unwrap(), "www.example", "A").args(&["+https"]);
        assert_eq!(dig.run().unwrap().short(), ["192.0.2.7"]);
    }

    #[test]
    fn as_a_forwarder_it_caches_if_it_is_to() {
        let authority = Authority::with_address([192, 0, 2, 1].into(), 60).unwrap();
        for (cache, name, queries) in [(false, "off.example", 3), (true, "on.example", 1)] {
            let server = Unbound::forwarder(authority.address(), cache).unwrap();
            let mut client = tcp::Client::connect(server.address()).unwrap();
            for _ in 0..3 {
                client.ask(&Query::new(name, RecordType::A).unwrap()).unwrap();
            }
            assert_eq!(authority.count(&format!("{name}.")), queries, "{name}");
        }
    }
}
