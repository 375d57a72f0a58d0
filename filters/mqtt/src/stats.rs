//! The filter's metrics. Those on the path of every packet are plain numbers in memory.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use bridge::Direction;
use bridge::metrics::{Histogram, Metric, Registry};
use codec_mqtt::{PacketType, QoS, Version};

use crate::config::Mode;
use crate::message::Verdict;
use crate::rules::PacketKind;

/// Labels of the two directions.
fn label(direction: Direction) -> &'static str {
    match direction {
        Direction::FromClient => "from_client",
        Direction::ToClient => "to_client",
    }
}

#[derive(Debug)]
pub(crate) struct Stats {
    registry: Registry,
    mode: &'static str,
    /// Sessions now open.
    pub(crate) active: Metric,
    from_client: Traffic,
    to_client: Traffic,
    /// Messages that an answer to an earlier check let pass: on the path of every message.
    cached_publishes: Metric,
    check_took: Histogram,
    request_took: Histogram,
    /// Different for every worker and start.
    seed: u64,
    ids: Cell<u64>,
}

#[derive(Debug)]
struct Traffic {
    octets: Metric,
    /// By the number of the packet type, 1 to 15; PUBLISH by its QoS.
    packets: [Metric; 15],
    publishes: [Metric; 3],
}

impl Traffic {
    fn new(registry: &Registry, direction: Direction) -> Self {
        let direction = ("direction", label(direction));
        let packets = |number: usize| {
            let packet_type = PacketType(u8::try_from(number + 1).unwrap_or_default());
            let labels = [direction, ("type", packet_type.label())];
            registry.counter("mqtt_packets_total", &labels)
        };
        let publishes = |qos: usize| {
            let qos = ["0", "1", "2"].get(qos).copied().unwrap_or_default();
            let labels = [direction, ("type", "publish"), ("qos", qos)];
            registry.counter("mqtt_packets_total", &labels)
        };
        Self {
            octets: registry.counter("mqtt_bytes_total", &[direction]),
            packets: std::array::from_fn(packets),
            publishes: std::array::from_fn(publishes),
        }
    }
}

impl Stats {
    pub(crate) fn new(registry: &Registry, mode: Mode) -> Self {
        let mode = mode.label();
        Self {
            mode,
            active: registry.gauge("mqtt_sessions_active", &[("mode", mode)]),
            from_client: Traffic::new(registry, Direction::FromClient),
            to_client: Traffic::new(registry, Direction::ToClient),
            cached_publishes: verdicts(registry, PacketKind::Publish, Verdict::Allowed, true),
            check_took: registry.histogram("mqtt_check_microseconds", &[]),
            request_took: registry.histogram("mqtt_request_microseconds", &[]),
            seed: RandomState::new().hash_one(()),
            ids: Cell::new(0),
            registry: registry.clone(),
        }
    }

    fn traffic(&self, direction: Direction) -> &Traffic {
        match direction {
            Direction::FromClient => &self.from_client,
            Direction::ToClient => &self.to_client,
        }
    }

    /// Counts octets of MQTT.
    pub(crate) fn octets(&self, direction: Direction, n: usize) {
        self.traffic(direction).octets.add(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// Counts a packet by the first octet of its fixed header.
    pub(crate) fn packet(&self, direction: Direction, packet_type: PacketType, flags: u8) {
        let traffic = self.traffic(direction);
        let metric = if packet_type == PacketType::PUBLISH {
            let qos = QoS::from_u8((flags >> 1) & 3);
            qos.and_then(|qos| traffic.publishes.get(usize::from(qos as u8)))
        } else {
            traffic.packets.get(usize::from(packet_type.0).wrapping_sub(1))
        };
        if let Some(metric) = metric {
            metric.increment();
        }
    }

    /// Counts a session that began.
    pub(crate) fn session(&self, version: Version) {
        let labels = [("mode", self.mode), ("version", version.label())];
        self.registry.counter("mqtt_sessions_total", &labels).increment();
        self.active.increment();
    }

    /// Counts a connection that ended, by what ended it.
    pub(crate) fn closed(&self, cause: &str) {
        let labels = [("mode", self.mode), ("cause", cause)];
        self.registry.counter("mqtt_connections_closed_total", &labels).increment();
    }

    /// Counts a CONNACK, by who made it and its code.
    pub(crate) fn connack(&self, source: &str, reason: &str) {
        let labels = [("source", source), ("reason", reason)];
        self.registry.counter("mqtt_connack_total", &labels).increment();
    }

    /// Counts a DISCONNECT by its code.
    pub(crate) fn disconnect(&self, direction: Direction, reason: &str) {
        let labels = [("direction", label(direction)), ("reason", reason)];
        self.registry.counter("mqtt_disconnect_total", &labels).increment();
    }

    /// Counts octets that are not MQTT.
    pub(crate) fn decode_error(&self, direction: Direction, kind: &str) {
        let labels = [("direction", label(direction)), ("kind", kind)];
        self.registry.counter("mqtt_decode_errors_total", &labels).increment();
    }

    /// Counts what was decided about a packet, and whether by an earlier answer.
    pub(crate) fn verdict(&self, kind: PacketKind, verdict: Verdict, cached: bool) {
        if cached && kind == PacketKind::Publish && verdict == Verdict::Allowed {
            self.cached_publishes.increment();
        } else {
            verdicts(&self.registry, kind, verdict, cached).increment();
        }
    }

    /// Counts how long the answer to a check took.
    pub(crate) fn check_took(&self, time: Duration) {
        self.check_took.record(microseconds(time));
    }

    /// Counts a message that was a request of its own.
    pub(crate) fn request(&self, verdict: Verdict, time: Duration) {
        let labels = [("verdict", verdict.label())];
        self.registry.counter("mqtt_requests_total", &labels).increment();
        self.request_took.record(microseconds(time));
    }

    /// Counts a response that was to be published to the client.
    pub(crate) fn reply(&self, published: bool) {
        let labels = [("outcome", if published { "published" } else { "dropped" })];
        self.registry.counter("mqtt_replies_total", &labels).increment();
    }

    /// Counts something above a limit, by what happened to it.
    pub(crate) fn limit(&self, limit: &str, action: &str) {
        let labels = [("limit", limit), ("action", action)];
        self.registry.counter("mqtt_limited_total", &labels).increment();
    }

    /// A text that this filter has never given out before, and no other either.
    pub(crate) fn unique_id(&self) -> String {
        let id = self.ids.get();
        self.ids.set(id.wrapping_add(1));
        format!("{:016x}-{id:x}", self.seed)
    }
}

fn verdicts(registry: &Registry, kind: PacketKind, verdict: Verdict, cached: bool) -> Metric {
    let labels = [
        ("packet", kind.label()),
        ("verdict", verdict.label()),
        ("source", if cached { "cached" } else { "asked" }),
    ];
    registry.counter("mqtt_verdicts_total", &labels)
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
