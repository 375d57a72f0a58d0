//! Runs a filter inside Envoy: the only crate that touches proxy-wasm.
//!
//! A filter implements [`Filter`] and is installed with [`filter!`]. Everything Envoy does is
//! translated here: its callbacks into calls of [`bridge::Bridge`] or [`bridge::Observer`], their
//! output into Envoy's buffers, their deadlines into ticks, their metrics into Envoy's statistics.
//!
//! # Delivering octets
//!
//! Octets for the next filter can be delivered while the client's octets are being read, or from a
//! stack with nothing of this connection on it; never while the next filter is writing. Octets for
//! the client can be delivered only while the next filter is writing. So this crate keeps a list
//! of connections that have something to do and wakes itself through a shared queue of its own;
//! and it asks the next filter to write something (an HTTP/2 PING is always answered) where the
//! client is to be told something and nothing else is under way.
//!
//! # Backpressure
//!
//! Octets that a protocol cannot consume yet stay in Envoy's read buffer, whose limit then stops
//! the socket. Octets for the next filter must replace the whole buffer while they are delivered;
//! what was in it is put aside for just as long and put back before the socket is read again.

mod configuration;
mod connection;
mod filter_state;
mod root;
mod shelf;

use bridge::{Bridge, Limits, Link, Observer, Protocol, metrics::Registry};

pub use bridge;
#[doc(hidden)]
pub use proxy_wasm;
pub use shelf::SharedData;

/// A filter: its configuration, and what it does with each connection.
pub trait Filter: Sized + 'static {
    /// What carries a connection in bridge mode.
    type Protocol: Protocol;
    /// What watches a connection in observe mode.
    type Observer: Observer;

    /// Reads the configuration, a JSON document; it is empty where the user gave none.
    ///
    /// # Errors
    /// All mistakes, each in a line that says where it is and what is wrong.
    fn configure(json: &[u8], metrics: &Registry) -> Result<Self, Vec<String>>;

    /// How connections are treated.
    fn mode(&self) -> Mode;

    /// A connection to be carried was accepted.
    fn carry(&self, link: &mut Link) -> Self::Protocol;

    /// A connection to be watched was accepted, at this time.
    fn watch(&self, now: core::time::Duration) -> Self::Observer;
}

/// How a filter treats its connections.
#[derive(Debug, Clone)]
pub enum Mode {
    /// Carried to the HTTP connection manager that is the next filter.
    Bridge(Limits),
    /// Watched on their way to the next filter.
    Observe,
}

enum Session<F: Filter> {
    Bridge(Box<Bridge<F::Protocol>>),
    Observe(F::Observer),
}

impl<F: Filter> Session<F> {
    fn deadline(&self) -> Option<core::time::Duration> {
        match self {
            Self::Bridge(bridge) => bridge.next_step().deadline,
            Self::Observe(observer) => observer.deadline(),
        }
    }
}

/// Installs a filter in this module.
pub fn install<F: Filter>() {
    proxy_wasm::set_root_context(root::create::<F>);
}

/// Makes a module's entry point that installs a [`Filter`].
#[macro_export]
macro_rules! filter {
    ($filter:ty) => {
        $crate::proxy_wasm::main! {{ $crate::install::<$filter>() }}
    };
}
