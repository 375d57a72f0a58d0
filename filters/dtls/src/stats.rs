//! What is counted.

use std::time::Duration;

use bridge::metrics::{Histogram, Metric, Registry};

/// Why a record, or a datagram, is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// It is no DTLS record, or no message that can be read.
    Malformed,
    /// It cannot be decrypted, or came before.
    Rejected,
    /// It is not protected where it has to be.
    Plaintext,
    /// It belongs to no association.
    NoAssociation,
    /// Its cookie is not, or no more, valid.
    Cookie,
    /// It is a part of a ClientHello.
    FragmentedHello,
    /// It is longer than a handshake's datagram may be, or than a record can be.
    TooLong,
}

impl Dropped {
    fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Rejected => "rejected",
            Self::Plaintext => "plaintext",
            Self::NoAssociation => "no_association",
            Self::Cookie => "cookie",
            Self::FragmentedHello => "fragmented_hello",
            Self::TooLong => "too_long",
        }
    }
}

/// The metrics of one filter.
#[derive(Debug)]
pub(crate) struct Stats {
    registry: Registry,
    pub(crate) handshakes_active: Metric,
    pub(crate) associations_active: Metric,
    pub(crate) cookies_sent: Metric,
    duration: Histogram,
}

impl Stats {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            registry: registry.clone(),
            handshakes_active: registry.gauge("dtls_handshakes_active", &[]),
            associations_active: registry.gauge("dtls_associations_active", &[]),
            cookies_sent: registry.counter("dtls_cookies_sent_total", &[]),
            duration: registry.histogram("dtls_handshake_duration_microseconds", &[]),
        }
    }

    /// A handshake ended in this way.
    pub(crate) fn handshake(&self, result: &str) {
        self.registry.counter("dtls_handshakes_total", &[("result", result)]).increment();
    }

    /// A handshake was completed.
    pub(crate) fn completed(&self, is_1_3: bool, suite: u16, duration: Duration) {
        self.handshake("completed");
        self.duration.record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        let version = if is_1_3 { "1.3" } else { "1.2" };
        let labels = [("version", version), ("cipher_suite", name(suite))];
        self.registry.counter("dtls_negotiated_total", &labels).increment();
    }

    pub(crate) fn dropped(&self, reason: Dropped) {
        let labels = [("reason", reason.label())];
        self.registry.counter("dtls_records_dropped_total", &labels).increment();
    }

    /// An association ended in this way.
    pub(crate) fn closed(&self, reason: &str) {
        self.registry.counter("dtls_associations_closed_total", &[("reason", reason)]).increment();
    }
}

/// The name of a cipher suite in IANA's registry.
fn name(suite: u16) -> &'static str {
    match suite {
        0xc0a8 => "TLS_PSK_WITH_AES_128_CCM_8",
        0xc02b => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        0xc02c => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        0xcca9 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        0x1301 => "TLS_AES_128_GCM_SHA256",
        0x1302 => "TLS_AES_256_GCM_SHA384",
        0x1303 => "TLS_CHACHA20_POLY1305_SHA256",
        _ => "unknown",
    }
}
