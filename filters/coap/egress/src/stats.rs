//! What is counted.

use std::collections::BTreeMap;

use bridge::metrics::{Histogram, Metric, Registry};
use codec_coap::Code;

/// The metrics of one filter.
#[derive(Debug)]
pub(crate) struct Stats {
    metrics: Registry,
    /// By method and code.
    requests: BTreeMap<(&'static str, &'static str), Metric>,
    pub(crate) flows: Metric,
    pub(crate) observations: Metric,
    pub(crate) retransmissions: Metric,
    pub(crate) timeouts: Metric,
    pub(crate) dropped: Metric,
    pub(crate) skipped: Metric,
    pub(crate) microseconds: Histogram,
}

impl Stats {
    pub(crate) fn new(metrics: &Registry) -> Self {
        Self {
            flows: metrics.gauge("coap_egress_flows_active", &[]),
            observations: metrics.gauge("coap_egress_observations_active", &[]),
            retransmissions: metrics.counter("coap_egress_retransmissions_total", &[]),
            timeouts: metrics.counter("coap_egress_timeouts_total", &[]),
            dropped: metrics.counter("coap_egress_datagrams_dropped_total", &[]),
            skipped: metrics.counter("coap_egress_events_skipped_total", &[]),
            microseconds: metrics.histogram("coap_egress_request_microseconds", &[]),
            requests: BTreeMap::new(),
            metrics: metrics.clone(),
        }
    }

    /// A request was answered: with a CoAP response, or for a reason of the gateway's own.
    pub(crate) fn request(&mut self, method: &'static str, code: &'static str) {
        let metrics = &self.metrics;
        let requests = self.requests.entry((method, code)).or_insert_with(|| {
            let labels = [("method", method), ("code", code)];
            metrics.counter("coap_egress_requests_total", &labels)
        });
        requests.increment();
    }

    /// A datagram had no effect.
    pub(crate) fn ignored(&self, reason: &'static str) {
        self.metrics
            .counter("coap_egress_datagrams_ignored_total", &[("reason", reason)])
            .increment();
    }
}

/// The label of a method.
pub(crate) fn method(code: Option<Code>) -> &'static str {
    code.map_or("unknown", Code::label)
}
