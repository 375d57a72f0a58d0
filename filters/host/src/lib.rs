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
//! # Gathering
//!
//! An HTTP connection manager writes every datagram of a UDP upstream by itself. Where a filter asks for it,
//! the first octets are read at once, and those that follow in the same turn of Envoy's event loop together
//! after that: one look at many answers costs much less than a look at each.
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

    /// Whether what the next filter writes one after the other is read at once, where the connections are
    /// those of many clients: it then costs less, and comes a little later.
    fn gathers(&self) -> bool {
        false
    }

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

/// Makes an enum a [`Protocol`](bridge::Protocol) whose variants have one each: `protocols!(Connection { Udp, Tcp })`.
/// Every call goes to the one that there is.
#[macro_export]
macro_rules! protocols {
    ($name:ident { $($variant:ident),+ $(,)? }) => {
        impl $crate::bridge::Protocol for $name {
            fn handle_native(
                &mut self,
                link: &mut $crate::bridge::Link,
                input: &mut $crate::bridge::Input,
            ) -> $crate::bridge::Want {
                match self { $(Self::$variant(protocol) => protocol.handle_native(link, input)),+ }
            }

            fn handle_native_end(
                &mut self,
                link: &mut $crate::bridge::Link,
            ) {
                match self { $(Self::$variant(protocol) => protocol.handle_native_end(link)),+ }
            }

            fn handle_response(
                &mut self,
                link: &mut $crate::bridge::Link,
                stream: $crate::bridge::StreamId,
                response: $crate::bridge::Response<()>,
            ) {
                match self { $(Self::$variant(protocol) => protocol.handle_response(link, stream, response)),+ }
            }

            fn handle_body(
                &mut self,
                link: &mut $crate::bridge::Link,
                stream: $crate::bridge::StreamId,
                body: $crate::bridge::Bytes,
            ) {
                match self { $(Self::$variant(protocol) => protocol.handle_body(link, stream, body)),+ }
            }

            fn handle_ended(
                &mut self,
                link: &mut $crate::bridge::Link,
                stream: $crate::bridge::StreamId,
                how: $crate::bridge::Ended,
            ) {
                match self { $(Self::$variant(protocol) => protocol.handle_ended(link, stream, how)),+ }
            }

            fn handle_writable(
                &mut self,
                link: &mut $crate::bridge::Link,
                stream: $crate::bridge::StreamId,
            ) {
                match self { $(Self::$variant(protocol) => protocol.handle_writable(link, stream)),+ }
            }

            fn settle(
                &mut self,
                link: &mut $crate::bridge::Link,
            ) -> bool {
                match self { $(Self::$variant(protocol) => protocol.settle(link)),+ }
            }

            fn handle_timeout(
                &mut self,
                link: &mut $crate::bridge::Link,
            ) {
                match self { $(Self::$variant(protocol) => protocol.handle_timeout(link)),+ }
            }

            fn handle_close(
                &mut self,
                by: $crate::bridge::Peer,
            ) {
                match self { $(Self::$variant(protocol) => protocol.handle_close(by)),+ }
            }
        }
    };
}
