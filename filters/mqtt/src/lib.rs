//! The MQTT filter: MQTT 3.1.1 and 5.0 sessions as HTTP/2 streams, and an observer for plain TCP
//! proxying. It knows no Envoy: `filters/mqtt/wasm` makes it a module.
//!
//! In `bridge` mode a session's CONNECT becomes the HTTP request `POST /` with the headers that
//! [`http`] lists; the MQTT octets of the session, CONNECT included, are its content, and the
//! server's octets are the response's content. Every packet of the client is validated before any
//! octet of it is passed on. An answer other than 2xx becomes the CONNACK that says the same.
//!
//! In `observe` mode no octet is changed or held back, but for those before the end of CONNECT
//! where it decides about the cluster.

pub mod config;
mod http;
mod observe;
mod packets;
mod session;
mod stats;

use std::rc::Rc;
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{Limits, Link};
use filter_config::Mistake;

pub use observe::Observer;
pub use session::Session;

use config::{Mode, Settings};
use stats::Stats;

/// A configured filter.
#[derive(Debug)]
pub struct Filter {
    settings: Rc<Settings>,
    stats: Rc<Stats>,
}

impl Filter {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn new(json: &[u8], metrics: &Registry) -> Result<Self, Vec<Mistake>> {
        let settings = Settings::read(json)?;
        let stats = Stats::new(metrics, settings.mode);
        Ok(Self { settings: Rc::new(settings), stats: Rc::new(stats) })
    }

    /// How sessions are treated.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// The bounds of the HTTP/2 connection that carries a session.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { max_streams: 1, ..Limits::default() }
    }

    /// Carries a new connection.
    #[must_use]
    pub fn carry(&self, link: &mut Link) -> Session {
        Session::new(Rc::clone(&self.settings), Rc::clone(&self.stats), link)
    }

    /// Observes a new connection.
    #[must_use]
    pub fn watch(&self, now: Duration) -> Observer {
        Observer::new(Rc::clone(&self.settings), Rc::clone(&self.stats), now)
    }
}
