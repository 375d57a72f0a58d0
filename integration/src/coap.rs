//! CoAP: clients and servers of others, and by hand.
//!
//! * [`libcoap`] and [`aiocoap`] run two implementations that are not ours, as client and as server.
//! * [`draft`] makes any message, also one that no decent client would send; [`udp`] and [`tcp`] send it and show exactly
//!   what comes back.
//! * [`setup`] is Envoy between them.
//! * [`echo`] is a server that costs next to nothing, for loads.

pub mod aiocoap;
pub mod draft;
pub mod echo;
pub mod libcoap;
pub mod setup;
pub mod tcp;
pub mod udp;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use crate::eventually;
use crate::process::Process;

/// The port's address on 127.0.0.1.
fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Waits until what listens there answers a ping (RFC 7252 §4.3).
fn wait_until_listening(process: &mut Process, address: SocketAddr) -> Result<()> {
    let client = udp::Client::connect(address)?;
    eventually("a CoAP server", || {
        process.expect_running()?;
        // Refused, as long as nothing listens.
        if client.send(&[0x40, 0, 0, 1]).is_err() {
            return Ok(None);
        }
        Ok(client.receive_within(Duration::from_millis(50)).ok().flatten().map(drop))
    })
}

/// Bytes in which a displaced or repeated one shows; integration/tests/aiocoap_server.py makes the same.
#[must_use]
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [first, ..] = state.to_be_bytes();
        first
    };
    (0..length).map(next).collect()
}
