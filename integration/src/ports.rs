//! Port numbers on 127.0.0.1 that nobody else takes between being chosen and being listened on.
//!
//! They lie below the range from which the kernel takes the ports of outgoing connections, so that no client can sit on
//! one. Blocks of them are claimed by a lock on a file, which the kernel releases with the process: so test processes
//! running side by side never meet. Within a process a number is given out once only.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

const FIRST: u16 = 12_000;
const BLOCK: u16 = 100;
const BLOCKS: u16 = 200;

struct Claimed {
    /// The locks on the claimed blocks; never released before the process ends.
    locks: Vec<File>,
    /// The block from which numbers are taken, and the next offset in it.
    current: Option<(u16, u16)>,
    next_block: u16,
}

static CLAIMED: Mutex<Claimed> =
    Mutex::new(Claimed { locks: Vec::new(), current: None, next_block: 0 });

/// A port on 127.0.0.1 that nothing has, over TCP or UDP, given to this caller alone.
pub fn free_port() -> Result<u16> {
    next_free(&mut CLAIMED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Two ports in a row, the first of them: a server of libcoap takes the next one for TLS and DTLS.
pub fn two_free_ports() -> Result<u16> {
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut first = next_free(&mut claimed)?;
    loop {
        let second = next_free(&mut claimed)?;
        if second == first + 1 {
            return Ok(first);
        }
        first = second;
    }
}

/// The `number`th address of 127.0.0.0/8 after 127.0.0.1: one for each of many sources.
#[must_use]
pub fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number % 0x00FF_FFF0)
}

fn next_free(claimed: &mut Claimed) -> Result<u16> {
    loop {
        let (block, offset) = match claimed.current {
            Some((block, offset)) if offset < BLOCK => (block, offset),
            _ => (claim_block(claimed)?, 0),
        };
        claimed.current = Some((block, offset + 1));
        let port = FIRST + block * BLOCK + offset;
        // Something that is not ours may use it.
        if is_free(port) {
            return Ok(port);
        }
    }
}

/// Whether a TCP listener and a UDP socket on 127.0.0.1 could have this port now.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn claim_block(claimed: &mut Claimed) -> Result<u16> {
    let dir = std::env::temp_dir().join("integration-ports");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    while claimed.next_block < BLOCKS {
        let block = claimed.next_block;
        claimed.next_block += 1;
        let path = dir.join(format!("{block}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if lock.try_lock().is_ok() {
            claimed.locks.push(lock);
            return Ok(block);
        }
    }
    bail!("all {BLOCKS} blocks of ports in {} are taken", dir.display())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_port_is_given_out_once() {
        let ports: HashSet<u16> = (0..250).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 250);
    }

    #[test]
    fn a_port_in_use_is_not_given_out() {
        let taken = free_port().unwrap();
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, taken + 1));
        let next = free_port().unwrap();
        assert!(held.is_err() || next != taken + 1);
    }

    #[test]
    fn a_port_in_use_over_udp_is_not_given_out() {
        let taken = free_port().unwrap();
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, taken));
        assert!(held.is_err() || !is_free(taken));
    }

    #[test]
    fn two_ports_in_a_row_are_both_given_out() {
        let first = two_free_ports().unwrap();
        let others: HashSet<u16> = (0..250).map(|_| free_port().unwrap()).collect();
        assert!(!others.contains(&first) && !others.contains(&(first + 1)));
    }
}
