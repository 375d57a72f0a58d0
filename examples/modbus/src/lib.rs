//! The Modbus filter: Modbus/TCP requests as HTTP/2 streams, and an observer for plain TCP proxying. It knows no Envoy:
//! `examples/modbus/wasm` makes it a module. `docs/adding-a-protocol.md` walks through it.
//!
//! In `bridge` mode the requests for each unit are one stream, `POST /<unit>`, whose content goes to a Modbus server as
//! it is. Rules have Envoy asked about a request first (`check`), or make it an HTTP request (`request`). A request
//! that Envoy refuses, or nobody answers, is answered with an exception.

pub mod config;
mod http;
mod observe;
mod session;
mod stats;

use std::rc::Rc;

use bridge::metrics::Registry;
use bridge::{Limits, Link};
use filter_config::Mistake;

pub use observe::Observer;
pub use session::Session;

use config::{Mode, Settings};
use stats::Stats;

/// A configured filter.
#[derive(Debug)]
pub struct Filter(Rc<Common>);

/// What all connections of a filter have in common.
#[derive(Debug)]
struct Common {
    settings: Settings,
    stats: Stats,
}

impl Filter {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn new(json: &[u8], metrics: &Registry) -> Result<Self, Vec<Mistake>> {
        let settings = Settings::read(json)?;
        Ok(Self(Rc::new(Common { settings, stats: Stats::new(metrics) })))
    }

    /// How connections are treated.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.settings.mode
    }

    /// The bounds of the HTTP/2 connection that carries a client's.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let settings = &self.0.settings;
        // A stream for each flow, one for each request that waits, and one for a check.
        Limits { max_streams: settings.max_flows + settings.max_pending + 1, ..Limits::default() }
    }

    /// Carries a new connection.
    #[must_use]
    pub fn carry(&self, _: &mut Link) -> Session {
        Session::new(Rc::clone(&self.0))
    }

    /// Observes a new connection.
    #[must_use]
    pub fn watch(&self) -> Observer {
        Observer::new(Rc::clone(&self.0))
    }
}
