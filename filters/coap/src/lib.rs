//! The CoAP filter: CoAP messages over UDP and TCP as HTTP/2 streams and requests, and an observer for
//! plain proxying. It knows no Envoy: `filters/coap/wasm` makes it a module.
//!
//! In `bridge` mode each client has a [`Session`]. By its rules a request goes to a CoAP server as it is,
//! in a *flow*: a stream with the flow key as its path and the messages as its content, over UDP in
//! capsules (RFC 9297) as an HTTP UDP upstream takes them. Or it goes that way after Envoy has answered a
//! *check*; or it is an HTTP *request* by itself (RFC 8075), whose response becomes the CoAP response.
//!
//! Every message of a client is validated before any octet of it is passed on. In a flow it stays as it is:
//! message IDs, tokens, Observe, blocks and OSCORE are between the client and the server.

mod answers;
mod asked;
mod blocks;
pub mod config;
mod echo;
mod exchanges;
mod flows;
pub mod identity;
mod memory;
pub mod rules;
mod session;
mod sse;
mod stats;
mod watch;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::rc::Rc;

use bridge::metrics::Registry;
use bridge::{Limits, Link};
use filter_config::Mistake;
use policy::limits::Buckets;

pub use session::{Client, Session};
pub use watch::Observer;

use coap_egress::Egress;

use blocks::Budget;
use config::{Mode, Settings, Transport};
use echo::Echo;
use memory::Memory;
use stats::Stats;

/// A configured filter.
#[derive(Debug, Clone)]
pub struct Filter {
    common: Rc<Common>,
    dtls: Option<Rc<dtls::Shared>>,
}

/// What all sessions of a filter have in common.
#[derive(Debug)]
struct Common {
    settings: Settings,
    stats: Stats,
    buckets: RefCell<Buckets>,
    memory: RefCell<Memory>,
    budget: Rc<Budget>,
    echo: Echo,
    /// Hashes with a key that nobody knows.
    hashes: RandomState,
    numbers: Cell<u64>,
}

impl Common {
    /// A number that is hard to guess.
    fn unique_number(&self) -> u16 {
        let number = self.numbers.get();
        self.numbers.set(number.wrapping_add(1));
        self.hashes.hash_one(number) as u16
    }
}

impl Filter {
    /// Reads the configuration, a JSON document; an empty one means the defaults.
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn new(json: &[u8], metrics: &Registry) -> Result<Self, Vec<Mistake>> {
        let mut settings = Settings::read(json)?;
        let dtls = match settings.take_dtls() {
            Some(settings) => Some(dtls::Shared::new(settings, metrics).map_err(|error| {
                vec![Mistake::new("dtls", format!("there is no randomness: {error}"))]
            })?),
            None => None,
        };
        let common = Rc::new(Common {
            stats: Stats::new(metrics),
            buckets: RefCell::new(Buckets::new(settings.max_rate_limit_keys)),
            memory: RefCell::new(Memory::new(
                settings.max_remembered,
                settings.max_remembered_size,
            )),
            budget: Budget::new(settings.max_transfer_memory),
            echo: Echo::default(),
            hashes: RandomState::new(),
            numbers: Cell::new(0),
            settings,
        });
        Ok(Self { common, dtls })
    }

    /// What the filter does.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.common.settings.mode
    }

    /// What terminates DTLS, where clients' messages come over it.
    #[must_use]
    pub fn dtls(&self) -> Option<Rc<dtls::Shared>> {
        self.dtls.clone()
    }

    /// How clients' messages come.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.common.settings.transport
    }

    /// The limits of the connection to the next filter.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let settings = &self.common.settings;
        if settings.mode == Mode::Egress {
            return settings.egress.link_limits();
        }
        // Flows, checks and requests; over UDP those of many sessions.
        let per_session = settings.max_flows + settings.max_outstanding + settings.max_observations;
        let max_streams = match settings.transport {
            Transport::Udp | Transport::Dtls => (settings.max_sessions as usize).saturating_mul(4),
            Transport::Tcp => per_session,
        };
        let connection_window = match settings.transport {
            // Sessions must not wait for one another.
            Transport::Udp | Transport::Dtls => (1 << 31) - 1,
            Transport::Tcp => Limits::default().connection_window,
        };
        Limits { max_streams, connection_window, ..Limits::default() }
    }

    /// The bounds of the tunnels that sessions over UDP come in.
    #[must_use]
    pub fn tunnels(&self, metrics: &Registry) -> tunnels::Settings {
        let settings = &self.common.settings;
        tunnels::Settings::new(settings.max_sessions, 128 << 10, metrics)
    }

    /// What serves the HTTP clients of one connection, and the bounds of that.
    #[must_use]
    pub fn egress(&self, metrics: &Registry) -> (Egress, http_server::Limits) {
        let settings = &self.common.settings.egress;
        let seed = self.common.hashes.hash_one(self.common.unique_number());
        (Egress::new(Rc::clone(settings), metrics, seed), settings.server_limits())
    }

    /// A connection is to be watched.
    #[must_use]
    pub fn watch(&self) -> Observer {
        Observer::new(Rc::clone(&self.common))
    }

    /// A client is to be carried.
    #[must_use]
    pub fn carry(&self, link: &mut Link, client: Client) -> Session {
        Session::new(Rc::clone(&self.common), link, client)
    }
}
