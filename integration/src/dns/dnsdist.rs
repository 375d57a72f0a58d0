//! dnsdist, the load balancer for DNS: in front of a server, with a packet cache or without.

use std::fs;
use std::net::SocketAddr;

use anyhow::Result;

use super::{local, wait_until_answering};
use crate::ports::free_port;
use crate::process::{Process, program};
use crate::root;

/// Which listeners there are besides UDP and TCP, and what they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encrypted {
    /// None.
    No,
    /// DNS over TLS and DNS over HTTPS with the development certificate of `make certs`, and DNS over HTTP/2 without TLS.
    Yes,
}

/// One in front of a server; dropping it ends it.
#[derive(Debug)]
pub struct Dnsdist {
    /// The process, for its log, its CPU time and its end.
    pub process: Process,
    port: u16,
    tls: u16,
    https: u16,
    http: u16,
}

impl Dnsdist {
    /// Starts it in front of this server; with a packet cache of 100,000 answers, or without.
    pub fn start(server: SocketAddr, cache: bool, encrypted: Encrypted) -> Result<Self> {
        let [port, tls, https, http] = [free_port()?, free_port()?, free_port()?, free_port()?];
        // A second thread listens on the same socket if there are two of setLocal: one is one.
        let mut config = format!(
            "setLocal('127.0.0.1:{port}')\n\
             newServer({{address='{server}', sockets=8}})\n\
             setACL('127.0.0.0/8')\n\
             setSecurityPollSuffix('')\n\
             setMaxUDPOutstanding(65535)\n"
        );
        if cache {
            config.push_str("getPool(''):setCache(newPacketCache(100000))\n");
        }
        if encrypted == Encrypted::Yes {
            let certs = root().join(".build/certs");
            let (chain, key) = (certs.join("server.crt"), certs.join("server.key"));
            let files = format!("'{}', '{}'", chain.display(), key.display());
            config.push_str(&format!(
                "addTLSLocal('127.0.0.1:{tls}', {files})\n\
                 addDOHLocal('127.0.0.1:{https}', {files}, '/dns-query')\n\
                 addDOHLocal('127.0.0.1:{http}', nil, nil, '/dns-query')\n"
            ));
        }
        let mut process = Process::start("dnsdist", &program("dnsdist")?, |dir| {
            let file = dir.join("dnsdist.conf");
            fs::write(&file, config)?;
            let file = file.to_string_lossy();
            Ok(["--supervised", "--disable-syslog", "-C", &file].map(str::to_owned).to_vec())
        })?;
        wait_until_answering(&mut process, local(port))?;
        Ok(Self { process, port, tls, https, http })
    }

    /// Where it takes DNS over UDP and TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// Where it takes DNS over TLS.
    #[must_use]
    pub fn tls(&self) -> SocketAddr {
        local(self.tls)
    }

    /// Where it takes DNS over HTTPS, with the path `/dns-query`.
    #[must_use]
    pub fn https(&self) -> SocketAddr {
        local(self.https)
    }

    /// Where it takes the same over HTTP/2 without TLS.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        local(self.http)
    }
}

#[cfg(test)]
mod tests {
    use codec_dns::RecordType;

    use super::super::authority::Authority;
    use super::super::clients::{Dig, Kdig};
    use super::super::query::Query;
    use super::super::udp;
    use super::*;

    #[test]
    fn it_forwards_and_caches_if_it_is_to() {
        let authority = Authority::with_address([192, 0, 2, 1].into(), 60).unwrap();
        for (cache, name, queries) in [(false, "off.example", 3), (true, "on.example", 1)] {
            let server = Dnsdist::start(authority.address(), cache, Encrypted::No).unwrap();
            let client = udp::Client::connect(server.address()).unwrap();
            for _ in 0..3 {
                client.ask(&Query::new(name, RecordType::A).unwrap()).unwrap();
            }
            assert_eq!(authority.count(&format!("{name}.")), queries, "{name}");
        }
    }

    #[test]
    fn it_takes_dns_over_tls_and_https() {
        let authority = Authority::with_address([192, 0, 2, 1].into(), 60).unwrap();
        let server = Dnsdist::start(authority.address(), false, Encrypted::Yes).unwrap();
        let ask = |dig: Dig| dig.run().unwrap().short();
        assert_eq!(ask(Dig::new(server.tls(), "a.example", "A").args(&["+tls"])), ["192.0.2.1"]);
        let https = Dig::new(server.https(), "a.example", "A").args(&["+https"]);
        assert_eq!(ask(https), ["192.0.2.1"]);
        let http = Dig::new(server.http(), "a.example", "A").args(&["+http-plain"]);
        assert_eq!(ask(http), ["192.0.2.1"]);
        let tls = Kdig::new(server.tls(), "a.example", "A").args(&["+tls"]);
        assert_eq!(tls.run().unwrap().short(), ["192.0.2.1"]);
    }
}
