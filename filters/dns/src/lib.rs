//! The DNS filter: queries over UDP, TCP, TLS and HTTPS as HTTP/2 streams and requests, and an observer for
//! plain proxying. It knows no Envoy: `filters/dns/wasm` makes it a module.
//!
//! By its rules a query goes to a DNS server in a *flow*: a stream that many queries for the same zone travel
//! in, over UDP in capsules (RFC 9297) as an HTTP UDP upstream takes them, over TCP with their lengths in
//! front. Each has an ID of its own there, hard to guess, by which and by the question its answer is known. Or
//! it goes that way after Envoy has answered a *check*; or it is an HTTP *request* by itself (RFC 8484). Or the
//! filter answers it.
//!
//! Every message of a client is validated before any octet of it is passed on, and every answer of a server
//! before it is.

mod answer;
mod asked;
pub mod config;
mod flows;
mod https;
mod pending;
mod proxy;
pub mod rules;
mod stats;
mod stream;
mod transfer;
mod udp;
mod watch;
pub mod zones;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bridge::metrics::Registry;
use bridge::{Limits, Link};
use codec_dns::{Message, Opcode, Question, Rcode, RecordType};
use dns_limits::{Exceeded, Sending};
use filter_config::Mistake;
use policy::Verdicts;

pub use https::Https;
pub use stream::Stream;
pub use udp::Udp;
pub use watch::Observer;

use asked::Outcome;
use config::{Mode, Settings, Transport};
use stats::Stats;

/// A configured filter.
#[derive(Debug, Clone)]
pub struct Filter {
    common: Rc<Common>,
}

/// A cache that filters may share.
#[derive(Debug)]
struct SharedCache {
    answers: RefCell<dns_cache::Cache>,
    /// What metrics have been told of it: evictions, entries and octets. Those of all filters are added up.
    told: Cell<[i64; 3]>,
}

/// What a cache keeps, and where it is while a filter has it.
type NamedCache = (dns_cache::Limits, Weak<SharedCache>);

thread_local! {
    /// The caches with a name: in a module, those of one VM.
    static CACHES: RefCell<BTreeMap<String, NamedCache>> = RefCell::default();
}

/// The cache that the configuration asks for: where one of that name is as large and keeps answers as long, that
/// one. Another takes its name, for those who ask next; a configuration that changes does so filter by filter.
fn cache(config: &config::Cache) -> Rc<SharedCache> {
    let new = || {
        let answers = RefCell::new(dns_cache::Cache::new(config.limits));
        Rc::new(SharedCache { answers, told: Cell::default() })
    };
    let Some(name) = &config.name else { return new() };
    CACHES.with_borrow_mut(|caches| {
        let known = caches.get(name).filter(|(limits, _)| *limits == config.limits);
        known.and_then(|(_, cache)| cache.upgrade()).unwrap_or_else(|| {
            let cache = new();
            caches.retain(|_, (_, cache)| cache.strong_count() > 0);
            caches.insert(name.clone(), (config.limits, Rc::downgrade(&cache)));
            cache
        })
    })
}

/// The answer to a check.
#[derive(Debug, Clone)]
struct Verdict {
    outcome: Outcome,
    /// The reason for it.
    text: Rc<[u8]>,
}

/// What all connections of a filter have in common.
#[derive(Debug)]
struct Common {
    settings: Settings,
    stats: Stats,
    verdicts: RefCell<Verdicts<Verdict>>,
    cache: Option<Rc<SharedCache>>,
    limits: RefCell<dns_limits::Limits>,
    /// The Unix time at which the filter was configured.
    began: Duration,
    /// Hashes with a key that nobody knows.
    hashes: RandomState,
    numbers: Cell<u64>,
}

impl Common {
    /// The cache for a zone's answers.
    fn cache_of(&self, zone: usize) -> Option<&SharedCache> {
        let cache = self.cache.as_ref()?;
        self.settings.zones.get(zone).is_none_or(|zone| zone.cache).then_some(cache)
    }

    /// Whether the same query of another client may have another answer.
    fn answers_depend_on_client(&self) -> bool {
        let settings = &self.settings;
        settings.client_subnet.is_own()
            || settings.flow_key == config::FlowKey::Client
            || settings.rules.iter().any(|rule| {
                matches!(
                    rule.fate,
                    rules::Fate::Carry(rules::Carry::Check | rules::Carry::Request, _)
                )
            })
    }

    /// The time on the clock that filters in one VM share.
    fn cache_time(&self, now: Duration) -> Duration {
        self.began + now
    }

    /// Counts a query. What is to be done about it if it is above a limit.
    fn exceeded(
        &self,
        who: &dns_limits::Client,
        record_type: RecordType,
        now: Duration,
    ) -> Option<Exceeded> {
        let settings = &self.settings.limits;
        if settings.limits() == 0 {
            return None;
        }
        match self.limits.borrow_mut().query(who, record_type, now) {
            dns_limits::Verdict::Pass => None,
            dns_limits::Verdict::Exceeded(excess) => {
                let label = settings.label(excess.limit);
                self.stats.limited(label, excess.action.label());
                if excess.begins_block {
                    self.stats.block(label);
                }
                Some(excess.action)
            }
        }
    }

    /// Counts an answer. What is to become of it.
    fn sending<'a>(
        &self,
        who: &dns_limits::Client,
        answer: impl FnOnce() -> dns_limits::Answer<'a>,
        now: Duration,
    ) -> Sending {
        if self.settings.limits.is_empty() {
            return Sending::Send;
        }
        self.limits.borrow_mut().answer(who, &answer(), now)
    }

    /// What a query's cookie tells; nothing if there is none, or cookies are not the filter's business.
    fn cookie(
        &self,
        query: &Message<'_>,
        source: Option<IpAddr>,
        now: Duration,
    ) -> Option<dns_cookies::Verdict> {
        let secrets = &self.settings.cookies.as_ref()?.secrets;
        let cookie = query.edns()?.options.cookie()?;
        Some(secrets.check(cookie, source?, (self.began + now).as_secs()))
    }

    /// The cookie of the answer to a query that has one.
    fn own_cookie(
        &self,
        query: &Message<'_>,
        source: Option<IpAddr>,
        now: Duration,
    ) -> Option<[u8; 24]> {
        let secrets = &self.settings.cookies.as_ref()?.secrets;
        let cookie = query.edns()?.options.cookie()?;
        let source = source?;
        let unix = (self.began + now).as_secs();
        let mut own = [0; 24];
        let (client, server) = own.split_first_chunk_mut()?;
        *client = cookie.client;
        if secrets.check(cookie, source, unix) == dns_cookies::Verdict::Valid {
            server.copy_from_slice(cookie.server);
        } else {
            server.copy_from_slice(&secrets.make(cookie.client, source, unix));
        }
        Some(own)
    }

    /// Writes a line about an answered query, if it is one of those.
    fn log(
        &self,
        source: Option<IpAddr>,
        query: &Message<'_>,
        rcode: Rcode,
        from: &str,
        since: Duration,
        now: Duration,
    ) {
        let Some(one_in) = self.settings.query_log else { return };
        let number = self.numbers.get();
        self.numbers.set(number.wrapping_add(1));
        if !self.hashes.hash_one(number).is_multiple_of(one_in) {
            return;
        }
        let Some(question) = query.question() else { return };
        let source = source.map_or_else(String::new, |source| source.to_string());
        // None of it has anything that would have to be escaped.
        log::info!(
            r#"{{"client":"{source}","transport":"{}","qname":"{}","qtype":"{}","rcode":"{}","from":"{from}","us":{}}}"#,
            self.settings.transport.label(),
            zones::host(question.name),
            question.record_type,
            rcode.label(),
            now.saturating_sub(since).as_micros(),
        );
    }

    /// A number that is hard to guess.
    fn unique_number(&self) -> u16 {
        let number = self.numbers.get();
        self.numbers.set(number.wrapping_add(1));
        self.hashes.hash_one(number) as u16
    }

    /// What the answer to a check is remembered by: all that Envoy was told. Nothing if it is not remembered.
    fn verdict_key(
        &self,
        source: Option<IpAddr>,
        opcode: Opcode,
        question: &Question<'_>,
        holds: Duration,
    ) -> Vec<u8> {
        if holds.is_zero() {
            return Vec::new();
        }
        let mut wire = [0; codec_dns::MAX_NAME_LEN];
        let mut key = question.name.to_wire(&mut wire).to_ascii_lowercase();
        key.extend_from_slice(&question.record_type.0.to_be_bytes());
        key.extend_from_slice(&question.class.0.to_be_bytes());
        key.push(opcode.0);
        match source {
            Some(IpAddr::V4(ip)) => key.extend_from_slice(&ip.octets()),
            Some(IpAddr::V6(ip)) => key.extend_from_slice(&ip.octets()),
            None => {}
        }
        key
    }

    fn known_verdict(&self, key: &[u8], now: Duration) -> Option<Verdict> {
        if key.is_empty() { None } else { self.verdicts.borrow().get(key, now) }
    }

    fn remember_verdict(&self, key: &[u8], outcome: Outcome, text: &[u8], until: Duration) {
        if !key.is_empty() && outcome.is_verdict() {
            let verdict = Verdict { outcome, text: text.into() };
            self.verdicts.borrow_mut().put(key, verdict, until);
        }
    }
}

impl Filter {
    /// Reads the configuration, a JSON document; an empty one means the defaults.
    ///
    /// # Errors
    /// All mistakes in it.
    pub fn new(json: &[u8], metrics: &Registry) -> Result<Self, Vec<Mistake>> {
        let settings = Settings::read(json)?;
        let common = Rc::new(Common {
            stats: Stats::new(&settings, metrics),
            verdicts: RefCell::new(Verdicts::new(settings.max_cached_verdicts)),
            cache: settings.cache.as_ref().map(cache),
            limits: RefCell::new(dns_limits::Limits::new(Rc::clone(&settings.limits))),
            began: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            hashes: RandomState::new(),
            numbers: Cell::new(0),
            settings,
        });
        Ok(Self { common })
    }

    /// What the filter does.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.common.settings.mode
    }

    /// How clients' queries come.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.common.settings.transport
    }

    /// The limits of the connection to the next filter.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let settings = &self.common.settings;
        Limits {
            // Checks and requests, and flows.
            max_streams: settings.max_outstanding + 1000,
            // Flows must not wait for one another.
            connection_window: (1 << 31) - 1,
            ..Limits::default()
        }
    }

    /// The bounds of the tunnels that clients over UDP come in.
    #[must_use]
    pub fn tunnels(&self, metrics: &Registry) -> tunnels::Settings {
        tunnels::Settings::new(self.common.settings.max_sessions, 64 << 10, metrics)
    }

    /// What serves the clients of a connection of `udp_proxy`.
    #[must_use]
    pub fn udp(&self) -> Udp {
        Udp::new(Rc::clone(&self.common))
    }

    /// What serves the HTTP clients of one connection, and the bounds of that.
    #[must_use]
    pub fn https(&self) -> (Https, http_server::Limits) {
        let settings = &self.common.settings;
        let limits = http_server::Limits {
            max_requests: u32::try_from(settings.max_outstanding).unwrap_or(u32::MAX),
            max_content: usize::from(settings.max_query_size),
            ..http_server::Limits::default()
        };
        (Https::new(Rc::clone(&self.common)), limits)
    }

    /// What serves the client of a TCP or TLS connection.
    #[must_use]
    pub fn stream(&self, link: &mut Link) -> Stream {
        Stream::new(Rc::clone(&self.common), link)
    }

    /// A connection is to be watched.
    #[must_use]
    pub fn watch(&self) -> Observer {
        Observer::new(Rc::clone(&self.common))
    }
}
