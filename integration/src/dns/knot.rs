//! Knot DNS, an authoritative server: for answers of all sizes and types, signed ones too.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;

use anyhow::Result;

use super::{local, wait_until_answering};
use crate::eventually;
use crate::ports::free_port;
use crate::process::{Process, program};

/// The server, over UDP and TCP on one port; dropping it ends it.
///
/// It has two zones. `plain.example`:
///
/// | name | what is there |
/// |---|---|
/// | `plain.example` | SOA, NS, MX, CAA, and the whole zone over TCP (AXFR) |
/// | `www` | A 192.0.2.10, AAAA 2001:db8::10 |
/// | `alias` | CNAME to `www`; `chain` is one to `alias` |
/// | `*.wild` | TXT `wild` |
/// | `below.moved` | CNAME to `below.www` by the DNAME of `moved` |
/// | `text-<octets>` | TXT strings, together this long: 100, 1000, 3000, 20000 or 60000 |
/// | `many` | 500 A records |
/// | `types` | one record each of LOC, NAPTR, SSHFP, TLSA, URI, SVCB, HTTPS, SRV, HINFO, CERT and TYPE65280 |
/// | `sub` | delegated, with glue |
///
/// `signed.example` has SOA, NS and `www`, and is signed with keys of its own making; it has NSEC records.
#[derive(Debug)]
pub struct Knot {
    /// The process, for its log and its end.
    pub process: Process,
    port: u16,
}

impl Knot {
    /// Starts it.
    pub fn start() -> Result<Self> {
        let port = free_port()?;
        let mut process = Process::start("knotd", &program("knotd")?, |dir| {
            let folder = dir.to_string_lossy();
            fs::write(dir.join("plain.example.zone"), plain()?)?;
            fs::write(dir.join("signed.example.zone"), SIGNED)?;
            let file = dir.join("knot.conf");
            let config = CONFIG.replace("FOLDER", &folder).replace("PORT", &port.to_string());
            fs::write(&file, config)?;
            Ok(["-c", &file.to_string_lossy()].map(str::to_owned).to_vec())
        })?;
        wait_until_answering(&mut process, local(port))?;
        eventually("a signed zone", || {
            process.expect_running()?;
            let log = format!("{}{}", process.stdout(), process.stderr());
            Ok(log.contains("[signed.example.] loaded").then_some(()))
        })?;
        Ok(Self { process, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }
}

/// The sizes of `text-<octets>`.
pub const TEXTS: [usize; 5] = [100, 1000, 3000, 20_000, 60_000];

/// What `plain.example` has.
fn plain() -> Result<String> {
    let mut zone = PLAIN.to_owned();
    for size in TEXTS {
        write!(zone, "text-{size} TXT")?;
        let mut left = size;
        while left > 0 {
            let length = left.min(255);
            write!(zone, " {}", "x".repeat(length))?;
            left -= length;
        }
        zone.push('\n');
    }
    for number in 0..500 {
        writeln!(zone, "many A 198.51.{}.{}", 100 + number / 250, number % 250)?;
    }
    Ok(zone)
}

const CONFIG: &str = "server:
    rundir: FOLDER
    listen: 127.0.0.1@PORT
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
control:
    listen: FOLDER/knot.sock
log:
  - target: stdout
    any: info
database:
    storage: FOLDER
acl:
  - id: anybody
    address: 127.0.0.0/8
    action: transfer
template:
  - id: default
    storage: FOLDER
    file: FOLDER/%s.zone
    acl: anybody
zone:
  - domain: plain.example
  - domain: signed.example
    dnssec-signing: on
    zonefile-sync: -1
    zonefile-load: difference
    journal-content: all
";

const PLAIN: &str = "$ORIGIN plain.example.
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
@ MX 10 mail
@ CAA 0 issue \"ca.example\"
ns A 127.0.0.1
mail A 192.0.2.25
www A 192.0.2.10
www AAAA 2001:db8::10
alias CNAME www
chain CNAME alias
*.wild TXT wild
moved DNAME www
types LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
types NAPTR 100 50 \"s\" \"http+E2U\" \"\" www
types SSHFP 1 1 450c7d19d5da9a3a5b7c19992d1fbde15d8dad34
types TLSA 3 1 1 0c72ac70b745ac19998811b131d662c9ac69dbdbe7cb23e5b514b56664c5d3d6
types URI 10 1 \"https://www.example/path\"
types SVCB 1 www alpn=h2,h3 port=8443 ipv4hint=192.0.2.10
types HTTPS 1 . alpn=h3 ipv6hint=2001:db8::10
types SRV 1 2 853 www
types HINFO cpu os
types CERT PGP 0 0 YWJj
types TYPE65280 \\# 4 0a0b0c0d
sub NS ns.sub
ns.sub A 192.0.2.53
";

const SIGNED: &str = "$ORIGIN signed.example.
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
www A 192.0.2.11
";

#[cfg(test)]
mod tests {
    use codec_dns::RecordType;

    use super::super::query::Query;
    use super::super::{tcp, udp};
    use super::*;

    #[test]
    fn it_has_answers_of_all_sizes_and_types() {
        let server = Knot::start().unwrap();
        let udp = udp::Client::connect(server.address()).unwrap();
        let mut tcp = tcp::Client::connect(server.address()).unwrap();
        for size in TEXTS {
            let name = format!("text-{size}.plain.example");
            let query = Query::new(&name, RecordType::TXT).unwrap().edns(1232);
            assert_eq!(udp.ask(&query).unwrap().is_truncated().unwrap(), size > 1200, "{size}");
            let texts = tcp.ask(&query).unwrap().texts().unwrap();
            assert_eq!(texts, ["x".repeat(size)]);
        }
        let query = Query::new("many.plain.example", RecordType::A).unwrap();
        assert_eq!(tcp.ask(&query).unwrap().a().unwrap().len(), 500);
        for (type_name, name) in [("SVCB", "types"), ("TYPE65280", "types"), ("A", "chain")] {
            let name = format!("{name}.plain.example");
            let query = Query::new(&name, type_name.parse().unwrap()).unwrap();
            assert!(udp.ask(&query).unwrap().message().unwrap().header.answers > 0, "{name}");
        }
        let query = Query::new("www.signed.example", RecordType::A).unwrap().dnssec_ok();
        let answer = udp.ask(&query).unwrap();
        let types: Vec<RecordType> =
            answer.message().unwrap().answers().map(|record| record.record_type).collect();
        assert_eq!(types, [RecordType::A, RecordType::RRSIG]);
    }
}
