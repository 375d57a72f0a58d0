//! How much is kept, and for how long.

use std::time::Duration;

/// How much is kept, and for how long. TTLs are whole seconds: fractions of these times do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many octets everything that is kept may take, the index included. Below 4,096 nothing is kept; an
    /// answer that takes more than an eighth of it is not kept either. Default: 16 MiB.
    pub max_size: usize,
    /// TTLs below are raised to it, but for those of zero, which forbid to keep the answer (RFC 1035
    /// §3.2.1). Default: zero.
    pub min_ttl: Duration,
    /// TTLs above are lowered to it (RFC 8767 §4). It wins over `min_ttl`. Default: a day.
    pub max_ttl: Duration,
    /// For how long a negative answer is kept at most (RFC 2308 §5). It wins over `min_ttl`. Default: an
    /// hour.
    pub max_negative_ttl: Duration,
    /// For how long SERVFAIL is kept: not above five minutes (RFC 2308 §7.1), and at least a second (RFC 9520
    /// §3.2); zero: it is not. Default: 5 seconds.
    pub failure_ttl: Duration,
    /// For how long an answer that has expired may be used (RFC 8767 §5); zero: it may not. Default: zero.
    pub stale: Duration,
    /// The TTL of an answer that has expired (RFC 8767 §4), and how long after a failure the server is not
    /// asked again where there is such an answer (RFC 8767 §5). Default: 30 seconds.
    pub stale_ttl: Duration,
    /// When a hit asks for the answer to be fetched again before it expires. Default: never.
    pub prefetch: Option<Prefetch>,
}

/// When a hit asks for the answer to be fetched again before it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Less than so many hundredths of its time are left.
    pub percent: u8,
    /// And since the answer was put there were at least so many hits, this one included.
    pub hits: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_size: 16 << 20,
            min_ttl: Duration::ZERO,
            max_ttl: Duration::from_secs(86_400),
            max_negative_ttl: Duration::from_secs(3_600),
            failure_ttl: Duration::from_secs(5),
            stale: Duration::ZERO,
            stale_ttl: Duration::from_secs(30),
            prefetch: None,
        }
    }
}

/// Whole seconds, as a TTL has them.
pub(crate) fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX).min(i32::MAX as u32)
}

/// Milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
