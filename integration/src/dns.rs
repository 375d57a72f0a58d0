//! DNS: clients and servers of others, and by hand.
//!
//! * [`unbound`], [`dnsdist`] and [`knot`] run three servers that are not ours.
//! * [`clients`] runs dig, kdig and dnspython, [`https`] curl, [`dnsperf`] the load of that name.
//! * [`query`] makes any query and reads any answer; [`udp`] and [`tcp`] send it and show exactly what comes back.
//! * [`authority`] is a server that does what a test says, [`responder`] one that costs next to nothing, for loads.
//! * [`setup`] is Envoy between them.

pub mod authority;
pub mod clients;
pub mod dnsdist;
pub mod dnsperf;
pub mod https;
pub mod knot;
pub mod query;
pub mod responder;
pub mod setup;
pub mod tcp;
pub mod udp;
pub mod unbound;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use codec_dns::RecordType;

use crate::eventually;
use crate::process::Process;
use query::Query;

/// The port's address on 127.0.0.1.
fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Waits until what listens there answers anything at all over UDP.
fn wait_until_answering(process: &mut Process, address: SocketAddr) -> Result<()> {
    let client = udp::Client::connect(address)?;
    let query = Query::new("localhost", RecordType::SOA)?.octets()?;
    eventually("a DNS server", || {
        process.expect_running()?;
        // Refused, as long as nothing listens.
        if client.send(&query).is_err() {
            return Ok(None);
        }
        Ok(client.receive_within(Duration::from_millis(50)).ok().flatten().map(drop))
    })
}
