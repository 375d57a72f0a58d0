//! The filter's metrics. Those on the path of every packet are plain numbers in memory.

use bridge::Direction;
use bridge::metrics::{Metric, Registry};
use codec_mqtt::{PacketType, QoS, Version};

use crate::config::Mode;

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
}
