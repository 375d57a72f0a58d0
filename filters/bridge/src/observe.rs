//! Watching a connection whose octets pass by untouched.

use std::time::Duration;

use crate::Peer;

/// Which way octets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the native client to its server.
    FromClient,
    /// From the server to the native client.
    ToClient,
}

/// Watches one connection in both directions and never changes an octet.
pub trait Observer {
    /// The next octets in one direction, split anywhere. Returns how many after them it need not
    /// see; they are not offered.
    fn see(&mut self, direction: Direction, octets: &[u8]) -> u64;

    /// So many octets passed in one direction, shown or not.
    fn passed(&mut self, _direction: Direction, _octets: usize) {}

    /// Whether the connection may go on to its server. While this is false the client's octets
    /// are held back, so that what they say can still decide where they go.
    fn may_proceed(&self) -> bool {
        true
    }

    /// Until when [`Observer::may_proceed`] must have become true.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// The deadline passed. Returns whether the connection is to be closed.
    fn handle_timeout(&mut self) -> bool {
        false
    }

    /// Calls `set` with each attribute of the connection learnt since the last call.
    fn attributes(&mut self, _set: &mut dyn FnMut(&str, &str)) {}

    /// The connection ended.
    fn handle_close(&mut self, _by: Peer) {}
}
