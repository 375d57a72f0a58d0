//! The filter's metrics. Those on the path of every message are plain numbers in memory.

use std::cell::RefCell;
use std::time::Duration;

use bridge::Direction;
use bridge::metrics::{Histogram, Metric, Registry};
use codec_coap::{Code, MessageType};

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
    from_client: Traffic,
    to_client: Traffic,
    /// Requests and responses by code, as far as there were any.
    codes: RefCell<[Option<Metric>; 256]>,
    /// Requests that the client had sent before.
    pub(crate) retransmissions: Metric,
    /// Such requests that were answered or dropped here.
    pub(crate) deduplicated: Metric,
    pub(crate) observations: Metric,
    pub(crate) flows: Metric,
    took: [Histogram; 3],
}

#[derive(Debug)]
struct Traffic {
    octets: Metric,
    /// By type: Confirmable, Non-confirmable, Acknowledgement, Reset; then those over TCP, without one.
    messages: [Metric; 5],
}

impl Traffic {
    fn new(registry: &Registry, direction: Direction) -> Self {
        let direction = ("direction", label(direction));
        let messages = ["con", "non", "ack", "rst", "tcp"].map(|message_type| {
            let labels = [direction, ("type", message_type)];
            registry.counter("coap_messages_total", &labels)
        });
        Self { octets: registry.counter("coap_bytes_total", &[direction]), messages }
    }
}

impl Stats {
    pub(crate) fn new(registry: &Registry) -> Self {
        let took = [Carry::Flow, Carry::Check, Carry::Request].map(|carry| {
            registry.histogram("coap_response_microseconds", &[("carry", carry.label())])
        });
        Self {
            from_client: Traffic::new(registry, Direction::FromClient),
            to_client: Traffic::new(registry, Direction::ToClient),
            codes: RefCell::new([const { None }; 256]),
            retransmissions: registry.counter("coap_retransmissions_total", &[]),
            deduplicated: registry.counter("coap_deduplicated_total", &[]),
            observations: registry.gauge("coap_observations_active", &[]),
            flows: registry.gauge("coap_flows_active", &[]),
            took,
            registry: registry.clone(),
        }
    }

    /// Counts a message of so many octets; over TCP it has no type.
    pub(crate) fn message(
        &self,
        direction: Direction,
        message_type: Option<MessageType>,
        octets: usize,
    ) {
        let traffic = match direction {
            Direction::FromClient => &self.from_client,
            Direction::ToClient => &self.to_client,
        };
        let index = message_type.map_or(4, |message_type| message_type as usize);
        if let Some(metric) = traffic.messages.get(index) {
            metric.increment();
        }
        traffic.octets.add(i64::try_from(octets).unwrap_or(i64::MAX));
    }

    /// Counts a request by its method, or a response by its code. Codes without a name are counted
    /// together.
    pub(crate) fn code(&self, code: Code) {
        let mut codes = self.codes.borrow_mut();
        let Some(metric) = codes.get_mut(usize::from(code.0)) else { return };
        metric
            .get_or_insert_with(|| {
                if code.is_request() {
                    let method = ("method", code.label());
                    self.registry.counter("coap_requests_total", &[method])
                } else {
                    self.registry.counter("coap_responses_total", &[("code", code.label())])
                }
            })
            .increment();
    }

    /// Counts octets that are no message, or one that may not be.
    pub(crate) fn decode_error(&self, direction: Direction, kind: &str) {
        let labels = [("direction", label(direction)), ("kind", kind)];
        self.registry.counter("coap_decode_errors_total", &labels).increment();
    }

    /// Counts something above a limit, by what happened to it.
    pub(crate) fn limited(&self, limit: &str, action: &str) {
        let labels = [("limit", limit), ("action", action)];
        self.registry.counter("coap_limited_total", &labels).increment();
    }

    /// Counts what was decided about a request, and whether by an earlier answer.
    pub(crate) fn verdict(&self, verdict: &str, cached: bool) {
        let source = ("source", if cached { "cached" } else { "asked" });
        self.registry.counter("coap_verdicts_total", &[("verdict", verdict), source]).increment();
    }

    /// Counts a block-wise transfer that ended.
    pub(crate) fn transfer(&self, direction: Direction, outcome: &str) {
        let labels = [("direction", label(direction)), ("outcome", outcome)];
        self.registry.counter("coap_block_transfers_total", &labels).increment();
    }

    /// Counts a separate response or notification of ours, by what became of it.
    pub(crate) fn delivery(&self, outcome: &str) {
        self.registry.counter("coap_confirmable_total", &[("outcome", outcome)]).increment();
    }

    /// Counts how long a request waited for its response, or a check for its answer.
    pub(crate) fn took(&self, carry: Carry, time: Duration) {
        if let Some(took) = self.took.get(carry as usize) {
            took.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
    }
}
