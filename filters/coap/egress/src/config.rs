//! What the user writes, and what it compiles to.

use std::time::Duration;

use filter_config::{Fraction, Mistake, Mistakes, Seconds, Whole};
use serde::Deserialize;

/// How HTTP requests become CoAP requests, and how CoAP servers are spoken to.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Egress"))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// After this time a confirmable message that was not acknowledged is sent again; each time
    /// twice as long (ACK_TIMEOUT, RFC 7252 §4.8). Default `2s`.
    pub ack_timeout: Seconds,
    /// The first of these times is chosen at random up to so many times as long (ACK_RANDOM_FACTOR,
    /// RFC 7252 §4.8), 1 to 10. Default 1.5.
    pub ack_random_factor: Fraction,
    /// How often a confirmable message is sent again before the request is answered with 504
    /// (MAX_RETRANSMIT, RFC 7252 §4.8), 0 to 10. Default 4.
    pub max_retransmit: Whole,
    /// Within this time after it was acknowledged, or sent if it is non-confirmable, a request must
    /// have been answered by the CoAP server; otherwise it is answered with 504. Default `60s`.
    pub response_timeout: Seconds,
    /// How many requests of a flow may be unacknowledged and unanswered at once (NSTART, RFC 7252
    /// §4.7), 1 to 1000. Default 1.
    pub nstart: Whole,
    /// How many requests may wait for their turn in one flow; more are answered with 503. Default 100.
    pub max_queued_requests: Whole,
    /// How many flows there may be on one connection of the HTTP side; requests that need one more
    /// are answered with 503. Default 1000.
    pub max_flows: Whole,
    /// After this time without a request a flow ends. Default `10s`.
    pub flow_idle_timeout: Seconds,
    /// How many segments of the path are part of a flow's key, next to the authority. Default 1.
    pub flow_path_segments: Whole,
    /// The largest payload of a message, in bytes: 16, 32, 64, 128, 256, 512 or 1024 (RFC 7959
    /// §2.2). Longer content goes block by block. Default 1024.
    pub block_size: Whole,
    /// How many requests may be open on one connection of the HTTP side. Default 1000.
    pub max_requests: Whole,
    /// The longest content of a request, in bytes; more is answered with 413. Default 1048576.
    pub max_request_size: Whole,
    /// The longest payload of a response, in bytes, all its blocks together; more is answered with
    /// 502. Default 1048576.
    pub max_response_size: Whole,
    /// How many bytes of incomplete requests, and how many of incomplete responses, one connection
    /// of the HTTP side may hold; a request that would need more is answered with 503. Default
    /// 16777216.
    pub max_held_size: Whole,
    /// How many bytes of events may wait for a client that observes; while there are more it misses
    /// events. Default 65536.
    pub max_held_events: Whole,
    /// The Hop-Limit option of requests without `x-coap-hop-limit` (RFC 8768 §3), 1 to 255.
    /// Default: none.
    pub hop_limit: Option<Whole>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ack_timeout: Seconds(Duration::from_secs(2)),
            ack_random_factor: Fraction(1.5),
            max_retransmit: Whole(4),
            response_timeout: Seconds(Duration::from_secs(60)),
            nstart: Whole(1),
            max_queued_requests: Whole(100),
            max_flows: Whole(1000),
            flow_idle_timeout: Seconds(Duration::from_secs(10)),
            flow_path_segments: Whole(1),
            block_size: Whole(1024),
            max_requests: Whole(1000),
            max_request_size: Whole(1 << 20),
            max_response_size: Whole(1 << 20),
            max_held_size: Whole(16 << 20),
            max_held_events: Whole(64 << 10),
            hop_limit: None,
        }
    }
}

/// The configuration as the service uses it.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) ack_timeout: Duration,
    pub(crate) ack_random_factor: f64,
    pub(crate) max_retransmit: u32,
    pub(crate) response_timeout: Duration,
    pub(crate) nstart: usize,
    pub(crate) max_queued_requests: usize,
    pub(crate) max_flows: usize,
    pub(crate) flow_idle_timeout: Duration,
    pub(crate) flow_path_segments: usize,
    /// The size exponent of blocks (RFC 7959 §2.2).
    pub(crate) szx: u8,
    pub(crate) max_requests: u32,
    pub(crate) max_request_size: usize,
    pub(crate) max_response_size: usize,
    pub(crate) max_held_size: usize,
    pub(crate) max_held_events: usize,
    pub(crate) hop_limit: Option<u8>,
}

/// The longest body that blocks of 16 bytes can number (RFC 7959 §2.2).
const MAX_BODY: u64 = 16 << 20;

impl Settings {
    /// Compiles the configuration; `at` is where in the user's document it is, such as `egress.`.
    #[must_use]
    pub fn compile(config: &Config, at: &str, mistakes: &mut Mistakes) -> Self {
        let mut time = |name: &str, Seconds(time): Seconds| {
            if time.is_zero() || time > Duration::from_secs(3600) {
                let what = format!("must be more than 0s and at most 3600s (got {time:?})");
                mistakes.push(Mistake::new(format!("{at}{name}"), what));
            }
            time
        };
        let ack_timeout = time("ack_timeout", config.ack_timeout);
        let response_timeout = time("response_timeout", config.response_timeout);
        let flow_idle_timeout = time("flow_idle_timeout", config.flow_idle_timeout);
        let Fraction(ack_random_factor) = config.ack_random_factor;
        if !(1.0..=10.0).contains(&ack_random_factor) {
            let what = format!("must be from 1 to 10 (got {ack_random_factor})");
            mistakes.push(Mistake::new(format!("{at}ack_random_factor"), what));
        }
        let block_size = config.block_size.0;
        if !(16..=1024).contains(&block_size) || !block_size.is_power_of_two() {
            let what = format!("must be 16, 32, 64, 128, 256, 512 or 1024 (got {block_size})");
            mistakes.push(Mistake::new(format!("{at}block_size"), what));
        }
        let mut whole = |name: &str, n, range| mistakes.whole(&format!("{at}{name}"), n, range);
        let mut size = |name: &str, n, range| whole(name, n, range) as usize;
        let nstart = size("nstart", config.nstart, 1..=1000);
        let max_queued_requests =
            size("max_queued_requests", config.max_queued_requests, 0..=100_000);
        let max_flows = size("max_flows", config.max_flows, 1..=100_000);
        let flow_path_segments = size("flow_path_segments", config.flow_path_segments, 0..=255);
        let max_request_size = size("max_request_size", config.max_request_size, 0..=MAX_BODY);
        let max_response_size = size("max_response_size", config.max_response_size, 1..=MAX_BODY);
        let max_held_size = size("max_held_size", config.max_held_size, 1..=1 << 30);
        let max_held_events = size("max_held_events", config.max_held_events, 1..=MAX_BODY);
        let max_retransmit = whole("max_retransmit", config.max_retransmit, 0..=10) as u32;
        let max_requests = whole("max_requests", config.max_requests, 1..=100_000) as u32;
        let hop_limit = config.hop_limit.map(|n| whole("hop_limit", n, 1..=255) as u8);
        Self {
            ack_timeout,
            ack_random_factor,
            max_retransmit,
            response_timeout,
            nstart,
            max_queued_requests,
            max_flows,
            flow_idle_timeout,
            flow_path_segments,
            szx: block_size.max(16).ilog2().saturating_sub(4) as u8,
            max_requests,
            max_request_size,
            max_response_size,
            max_held_size,
            max_held_events,
            hop_limit,
        }
    }

    /// The bounds of the server that the service is behind.
    #[must_use]
    pub fn server_limits(&self) -> http_server::Limits {
        http_server::Limits {
            max_requests: self.max_requests,
            max_content: self.max_request_size,
            max_held: self.max_held_size,
            ..http_server::Limits::default()
        }
    }

    /// The bounds of the HTTP/2 connection to the next filter.
    #[must_use]
    pub fn link_limits(&self) -> bridge::Limits {
        // A flow that was ended stays until the next filter has ended it too.
        bridge::Limits { max_streams: 2 * self.max_flows, ..bridge::Limits::default() }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::compile(&Config::default(), "", &mut Mistakes::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(json: &str) -> (Settings, Vec<String>) {
        let (config, mut mistakes) = filter_config::read::<Config>(json.as_bytes());
        let settings = Settings::compile(&config, "egress.", &mut mistakes);
        (settings, mistakes.into_list().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_default_is_what_the_standards_say() {
        let (settings, mistakes) = compile("{}");
        assert_eq!(mistakes, [""; 0]);
        assert_eq!(settings.ack_timeout, Duration::from_secs(2));
        assert_eq!((settings.max_retransmit, settings.nstart, settings.szx), (4, 1, 6));
        assert_eq!(compile(r#"{"block_size": 16}"#).0.szx, 0);
    }

    #[test]
    fn every_mistake_is_found() {
        let json = r#"{"ack_timeout": "0s", "ack_random_factor": 0.5, "block_size": 100, "nstart": 0,
            "hop_limit": 256, "max_retransmit": 11, "nstrat": 1}"#;
        assert_eq!(
            compile(json).1,
            [
                "nstrat: unknown field `nstrat`, expected one of `ack_timeout`, `ack_random_factor`, `max_retransmit`, \
                 `response_timeout`, `nstart`, `max_queued_requests`, `max_flows`, `flow_idle_timeout`, \
                 `flow_path_segments`, `block_size`, `max_requests`, `max_request_size`, `max_response_size`, \
                 `max_held_size`, `max_held_events`, `hop_limit` (got 1)",
                "egress.ack_timeout: must be more than 0s and at most 3600s (got 0ns)",
                "egress.ack_random_factor: must be from 1 to 10 (got 0.5)",
                "egress.block_size: must be 16, 32, 64, 128, 256, 512 or 1024 (got 100)",
                "egress.nstart: must be from 1 to 1000 (got 0)",
                "egress.max_retransmit: must be from 0 to 10 (got 11)",
                "egress.hop_limit: must be from 1 to 255 (got 256)",
            ]
        );
    }
}
