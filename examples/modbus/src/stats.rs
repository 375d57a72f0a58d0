//! The filter's metrics.

use bridge::Direction;
use bridge::metrics::{Metric, Registry};
use codec_modbus::{DecodeError, Exception, Function};

#[derive(Debug)]
pub(crate) struct Stats {
    registry: Registry,
    /// Connections now open.
    pub(crate) active: Metric,
    /// What came from servers and answers nothing that waits.
    pub(crate) unmatched: Metric,
}

impl Stats {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            active: registry.gauge("modbus_connections_active", &[]),
            unmatched: registry.counter("modbus_unmatched_total", &[]),
            registry: registry.clone(),
        }
    }

    /// Counts a request by its function and how it travels.
    pub(crate) fn request(&self, function: Function, carry: &str) {
        let labels = [("function", function.label()), ("carry", carry)];
        self.registry.counter("modbus_requests_total", &labels).increment();
    }

    /// Counts an exception that is the filter's own.
    pub(crate) fn exception(&self, exception: Exception) {
        let labels = [("code", exception.label())];
        self.registry.counter("modbus_exceptions_total", &labels).increment();
    }

    /// Counts octets that are no Modbus.
    pub(crate) fn decode_error(&self, direction: Direction, error: DecodeError) {
        let direction = match direction {
            Direction::FromClient => "from_client",
            Direction::ToClient => "to_client",
        };
        let labels = [("direction", direction), ("kind", error.label())];
        self.registry.counter("modbus_decode_errors_total", &labels).increment();
    }
}
