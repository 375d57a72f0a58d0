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

mod check;
mod cloudevents;
pub mod config;
mod exchange;
mod http;
pub mod limits;
mod message;
mod messages;
mod observe;
mod packets;
mod prefix;
mod qos2;
pub mod rules;
mod session;
mod stats;
mod subscribe;
mod to_client;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bridge::metrics::Registry;
use bridge::{Limits, Link, OwnShelf, Shelf};
use filter_config::Mistake;

pub use observe::Observer;
pub use session::Session;

use config::{Mode, Settings};
use policy::limits::Buckets;
use qos2::Sessions;
use stats::Stats;

/// A configured filter.
#[derive(Debug)]
pub struct Filter(Rc<Common>);

/// What all connections of a filter have in common.
#[derive(Debug)]
struct Common {
    settings: Settings,
    stats: Stats,
    buckets: RefCell<Buckets>,
    sessions: Rc<Sessions>,
    websocket: Option<Rc<websocket::Settings>>,
}

impl Filter {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn new(json: &[u8], metrics: &Registry) -> Result<Self, Vec<Mistake>> {
        Self::with_shelf(json, metrics, Box::<OwnShelf>::default())
    }

    /// The same, for one of several instances that share a shelf: what remains of sessions is on it.
    ///
    /// # Errors
    /// All mistakes in the configuration.
    pub fn with_shelf(
        json: &[u8],
        metrics: &Registry,
        shelf: Box<dyn Shelf>,
    ) -> Result<Self, Vec<Mistake>> {
        let settings = Settings::read(json)?;
        let stats = Stats::new(metrics, settings.mode);
        let buckets = RefCell::new(Buckets::new(settings.max_rate_limit_keys));
        let sessions = Rc::new(Sessions::new(shelf));
        let websocket = settings.websocket.then(|| {
            Rc::new(websocket::Settings {
                subprotocol: "mqtt",
                max_held: settings.max_buffered_size,
                metrics: metrics.clone(),
            })
        });
        Ok(Self(Rc::new(Common { settings, stats, buckets, sessions, websocket })))
    }

    /// How sessions are treated.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.settings.mode
    }

    /// The bounds of the HTTP/2 connection that carries a session.
    #[must_use]
    pub fn limits(&self) -> Limits {
        // The session's own stream, one for each message that waits, and one for a delivery.
        Limits { max_streams: 2 + self.0.settings.max_pending_messages, ..Limits::default() }
    }

    /// Carries a new connection.
    #[must_use]
    pub fn carry(&self, link: &mut Link) -> Session {
        Session::new(Rc::clone(&self.0), link)
    }

    /// What goes around a session so that it may come over WebSocket, unless that is switched off.
    #[must_use]
    pub fn websocket(&self) -> Option<Rc<websocket::Settings>> {
        self.0.websocket.clone()
    }

    /// Observes a new connection.
    #[must_use]
    pub fn watch(&self, now: Duration) -> Observer {
        Observer::new(Rc::clone(&self.0), now)
    }
}
