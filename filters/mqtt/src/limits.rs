//! Token buckets: how many messages and octets clients may publish.

use std::time::Duration;

use filter_config::Mistakes;
pub(crate) use policy::limits::Shared;
use policy::limits::{BucketConfig, Limit};
use serde::Deserialize;

/// Whose messages a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One connection's.
    #[default]
    Connection,
    /// Those of all connections with one Client Identifier.
    ClientId,
    /// Those of all connections with one User Name; those without one together.
    Username,
    /// Those of all connections from one address.
    SourceAddress,
}

/// What happens to a message for which a bucket has too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Exceeded {
    /// It waits, and with it all that the client sends after it: nothing more is read from the
    /// connection.
    #[default]
    Delay,
    /// It is dropped without an answer. At QoS 1 and 2 a client sends it again when it reconnects.
    Drop,
    /// It is refused with reason code 0x97, Quota exceeded (MQTT 3.1.1: as `refused_in_3_1_1` says);
    /// at QoS 0 dropped.
    Reject,
    /// The connection ends; an MQTT 5.0 client is told 0x96, Message rate too high.
    Disconnect,
}

impl Exceeded {
    /// A stable name for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Disconnect => "disconnect",
        }
    }
}

/// A limit on what clients publish. A message must find enough in every bucket; each worker of Envoy
/// counts for itself.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Whose messages are counted together: `connection` (default), `client_id`, `username` or
    /// `source_address`.
    #[serde(default)]
    pub per: Per,
    /// A token is a PUBLISH packet.
    #[serde(default)]
    pub messages: Option<BucketConfig>,
    /// A token is an octet of a PUBLISH packet, its header included. A packet larger than `burst`
    /// needs a full bucket and leaves a debt.
    #[serde(default)]
    pub octets: Option<BucketConfig>,
    /// What happens to a message above the limit: `delay` (default), `drop`, `reject` or
    /// `disconnect`.
    #[serde(default)]
    pub exceeded: Exceeded,
}

/// A limit as the filter uses it.
pub(crate) type RateLimit = Limit<Per, Exceeded>;

/// Whether a message may pass.
pub(crate) type Charge = policy::limits::Charge<Exceeded>;

pub(crate) fn compile(config: &RateLimitConfig, path: &str, mistakes: &mut Mistakes) -> RateLimit {
    let rates = (config.messages.as_ref(), config.octets.as_ref());
    Limit::compile((config.per, config.exceeded), rates, path, mistakes)
}

/// Charges every bucket for a message, or none.
pub(crate) fn charge(
    limits: &[RateLimit],
    buckets: &[Shared],
    octets: usize,
    now: Duration,
) -> Charge {
    policy::limits::charge(limits, buckets, octets, now, |exceeded| exceeded == Exceeded::Delay)
}
