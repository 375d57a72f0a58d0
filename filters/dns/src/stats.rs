//! The filter's metrics. Those on the path of every message are plain numbers in memory.

use std::cell::RefCell;
use std::time::Duration;

use bridge::Direction;
use bridge::metrics::{Histogram, Metric, Registry};
use codec_dns::{Rcode, RecordType};
use hashbrown::HashMap;

use crate::SharedCache;
use crate::config::{Settings, Transport};
use crate::rules::Carry;

fn label(direction: Direction) -> &'static str {
    match direction {
        Direction::FromClient => "from_client",
        Direction::ToClient => "to_client",
    }
}

#[derive(Debug)]
pub(crate) struct Stats {
    registry: Registry,
    transport: Transport,
    /// For the label of a zone.
    zones: Vec<String>,
    /// By zone and type; all types without a name have one.
    queries: RefCell<HashMap<(usize, u16), Metric>>,
    /// By response code, as far as there were any.
    answers: RefCell<[Option<Metric>; 24]>,
    octets: [Metric; 2],
    pub(crate) truncated: Metric,
    pub(crate) retried: Metric,
    pub(crate) unmatched: Metric,
    pub(crate) timeouts: Metric,
    pub(crate) outstanding: Metric,
    pub(crate) flows: Metric,
    pub(crate) cache_hits: Metric,
    pub(crate) cache_misses: Metric,
    pub(crate) cache_stale: Metric,
    cache_evictions: Metric,
    cache_entries: Metric,
    cache_size: Metric,
    took: [Histogram; 3],
}

impl Stats {
    pub(crate) fn new(settings: &Settings, registry: &Registry) -> Self {
        let took = [Carry::Flow, Carry::Check, Carry::Request].map(|carry| {
            registry.histogram("dns_answer_microseconds", &[("carry", carry.label())])
        });
        let octets = [Direction::FromClient, Direction::ToClient].map(|direction| {
            registry.counter("dns_bytes_total", &[("direction", label(direction))])
        });
        Self {
            transport: settings.transport,
            zones: settings.zones.iter().map(|zone| zone.label.clone()).collect(),
            queries: RefCell::default(),
            answers: RefCell::default(),
            octets,
            truncated: registry.counter("dns_truncated_total", &[]),
            retried: registry.counter("dns_retried_total", &[]),
            unmatched: registry.counter("dns_unmatched_total", &[]),
            timeouts: registry.counter("dns_timeouts_total", &[]),
            outstanding: registry.gauge("dns_outstanding", &[]),
            flows: registry.gauge("dns_flows_active", &[]),
            cache_hits: registry.counter("dns_cache_hits_total", &[]),
            cache_misses: registry.counter("dns_cache_misses_total", &[]),
            cache_stale: registry.counter("dns_cache_stale_total", &[]),
            cache_evictions: registry.counter("dns_cache_evictions_total", &[]),
            cache_entries: registry.gauge("dns_cache_entries", &[]),
            cache_size: registry.gauge("dns_cache_bytes", &[]),
            took,
            registry: registry.clone(),
        }
    }

    /// Counts a query.
    pub(crate) fn query(&self, zone: usize, record_type: RecordType, octets: usize) {
        let [from_client, _] = &self.octets;
        from_client.add(i64::try_from(octets).unwrap_or_default());
        let label = record_type.label();
        let number = if label == "other" { u16::MAX } else { record_type.0 };
        let mut queries = self.queries.borrow_mut();
        let queries = queries.entry((zone, number)).or_insert_with(|| {
            let zone = self.zones.get(zone).map_or("other", String::as_str);
            let transport = ("transport", self.transport.label());
            let labels = [("type", label), transport, ("zone", zone)];
            self.registry.counter("dns_queries_total", &labels)
        });
        queries.increment();
    }

    /// Counts an answer.
    pub(crate) fn answer(&self, rcode: Rcode, octets: usize) {
        let [_, to_client] = &self.octets;
        to_client.add(i64::try_from(octets).unwrap_or_default());
        let counter = || self.registry.counter("dns_answers_total", &[("rcode", rcode.label())]);
        match self.answers.borrow_mut().get_mut(usize::from(rcode.0)) {
            Some(known) => known.get_or_insert_with(counter).increment(),
            None => counter().increment(),
        }
    }

    /// Counts octets that are no message that may be processed, by kind.
    pub(crate) fn decode_error(&self, direction: Direction, kind: &str) {
        let labels = [("direction", label(direction)), ("kind", kind)];
        self.registry.counter("dns_decode_errors_total", &labels).increment();
    }

    /// Counts an HTTP request without a query in it, by what is wrong.
    pub(crate) fn doh_error(&self, kind: &str) {
        self.registry.counter("dns_doh_errors_total", &[("kind", kind)]).increment();
    }

    /// Counts a query that met a limit, by what happened to it.
    pub(crate) fn limited(&self, limit: &str, action: &str) {
        let labels = [("limit", limit), ("action", action)];
        self.registry.counter("dns_limited_total", &labels).increment();
    }

    /// Counts a query with a cookie, by what that tells.
    pub(crate) fn cookie(&self, verdict: &str) {
        self.registry.counter("dns_cookies_total", &[("verdict", verdict)]).increment();
    }

    /// Counts a client that is blocked from now on.
    pub(crate) fn block(&self, limit: &str) {
        self.registry.counter("dns_blocks_total", &[("limit", limit)]).increment();
    }

    /// Tells how large the cache is, as far as no filter has told it yet.
    pub(crate) fn cache(&self, cache: &SharedCache) {
        let answers = cache.answers.borrow();
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let now =
            [whole(answers.evictions()), whole(answers.len() as u64), whole(answers.size() as u64)];
        let told = cache.told.replace(now);
        let metrics = [&self.cache_evictions, &self.cache_entries, &self.cache_size];
        for ((metric, now), told) in metrics.into_iter().zip(now).zip(told) {
            metric.add(now - told);
        }
    }

    /// Counts a query that a rule has answered.
    pub(crate) fn ruled(&self, answer: &str) {
        self.registry.counter("dns_ruled_total", &[("answer", answer)]).increment();
    }

    /// Counts what was decided about a query, and whether by an earlier answer.
    pub(crate) fn verdict(&self, verdict: &str, cached: bool) {
        let source = ("source", if cached { "cached" } else { "asked" });
        self.registry.counter("dns_verdicts_total", &[("verdict", verdict), source]).increment();
    }

    /// Counts how long a query waited for its answer.
    pub(crate) fn took(&self, carry: Carry, time: Duration) {
        if let Some(took) = self.took.get(carry as usize) {
            took.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
    }
}
