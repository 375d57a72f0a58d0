//! A TCP relay between clients and a server that is slow, stands still, or cuts all connections when it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustix::net::sockopt::set_socket_linger;

use crate::ports::free_port;

/// How the way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// Open.
    Open,
    /// Seven octets at a time, with a pause of 2 ms after each.
    Trickle,
    /// All that comes is 300 ms late.
    Late,
    /// Nothing moves, and nothing is closed.
    Blocked,
    /// Each connection is reset, once.
    Cut,
    /// The relay is gone.
    Gone,
}

const WAYS: [Way; 6] = [Way::Open, Way::Trickle, Way::Late, Way::Blocked, Way::Cut, Way::Gone];

/// How soon connections notice that the way is another one.
const GLANCE: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct State {
    way: AtomicU8,
    /// How often all connections were cut.
    cuts: AtomicU64,
}

impl State {
    fn way(&self) -> Way {
        let way = usize::from(self.way.load(Ordering::Relaxed));
        WAYS.get(way).copied().unwrap_or(Way::Gone)
    }
}

/// A relay in threads of this process; dropping it ends it.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
}

impl Relay {
    /// One in front of `server`.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port()?))?;
        listener.set_nonblocking(true)?;
        let (address, state) = (listener.local_addr()?, Arc::<State>::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            while shared.way() != Way::Gone {
                match listener.accept() {
                    Ok((client, _)) => {
                        let state = Arc::clone(&shared);
                        // A connection that cannot be relayed is closed.
                        thread::spawn(move || drop(relay(&client, server, &state)));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Ok(Self { address, state })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it is like that.
    pub fn become_(&self, way: Way) {
        let way = if way == Way::Cut {
            self.state.cuts.fetch_add(1, Ordering::Relaxed);
            Way::Open
        } else {
            way
        };
        self.state.way.store(way as u8, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.become_(Way::Gone);
    }
}

fn relay(client: &TcpStream, server: SocketAddr, state: &Arc<State>) -> Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect(server)?;
    let (up_from, up_to) = (client.try_clone()?, server.try_clone()?);
    let shared = Arc::clone(state);
    let up = thread::spawn(move || drop(pump(&up_from, &up_to, &shared)));
    let down = pump(&server, client, state);
    let _ = up.join();
    down
}

/// Carries octets one way, until one of the two ends or the connection is cut.
fn pump(mut from: &TcpStream, mut to: &TcpStream, state: &State) -> Result<()> {
    to.set_nodelay(true)?;
    from.set_read_timeout(Some(GLANCE))?;
    let cuts = state.cuts.load(Ordering::Relaxed);
    let mut buffer = [0; 16_384];
    loop {
        let way = state.way();
        if way == Way::Gone || state.cuts.load(Ordering::Relaxed) != cuts {
            for stream in [from, to] {
                // Closed with this, a socket sends RST.
                let _ = set_socket_linger(stream, Some(Duration::ZERO));
            }
            return Ok(());
        }
        if way == Way::Blocked {
            thread::sleep(GLANCE);
            continue;
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(to.shutdown(std::net::Shutdown::Write)?),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) => {
                // The other side is to know.
                let _ = set_socket_linger(to, Some(Duration::ZERO));
                let _ = to.shutdown(std::net::Shutdown::Both);
                return Err(error.into());
            }
        };
        let octets = buffer.get(..count).unwrap_or_default();
        match way {
            Way::Trickle => {
                for piece in octets.chunks(7) {
                    to.write_all(piece)?;
                    thread::sleep(Duration::from_millis(2));
                }
            }
            Way::Late => {
                thread::sleep(Duration::from_millis(300));
                to.write_all(octets)?;
            }
            _ => to.write_all(octets)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::ledger::{Broker, Publishers};

    #[test]
    fn sessions_go_on_behind_a_way_that_is_slow_and_begin_again_when_it_was_cut() {
        let broker = Broker::start().unwrap();
        let relay = Relay::start(broker.address()).unwrap();
        let publishers = Publishers::start(relay.address(), 3, Duration::from_millis(10));
        for way in [Way::Trickle, Way::Cut, Way::Late, Way::Open] {
            relay.become_(way);
            thread::sleep(Duration::from_millis(400));
        }
        let balance = publishers.balance(&broker);
        assert!(balance.holds(), "{balance:?}");
        assert!(balance.connections >= 6, "{balance:?}");
    }
}
