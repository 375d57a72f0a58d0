//! The filter's configuration: what the user writes, and what it compiles to.

use std::rc::Rc;
use std::time::Duration;

use filter_config::{Mistake, Mistakes, Seconds, Whole};
use http::uri::Authority;
use policy::limits::{BucketConfig, Limit};
use serde::Deserialize;

use crate::rules::{Carry, Rule, RuleConfig};

/// What the filter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Carries clients' messages to an HTTP connection manager.
    #[default]
    Bridge,
    /// Watches messages on their way to the next filter.
    Observe,
    /// The other way round: serves HTTP clients with what CoAP servers have. The connections are those of
    /// an Envoy cluster, over HTTP/2.
    Egress,
}

/// How clients' messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Over UDP, through Envoy's `udp_proxy` with `tunneling_config` and an internal listener.
    #[default]
    Udp,
    /// Over DTLS, which the filter terminates; the datagrams come as over UDP.
    Dtls,
    /// Over TCP, or over TLS that the listener has terminated (RFC 8323).
    Tcp,
}

impl Transport {
    /// A stable name, for the header `x-coap-transport` and for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Dtls => "dtls",
            Self::Tcp => "tcp",
        }
    }
}

/// Which of a client's messages travel in one stream, and so from one endpoint, to a CoAP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FlowKey {
    /// Those with the same Uri-Host, Uri-Port and first segment of the Uri-Path.
    #[default]
    Path,
    /// All of them.
    Session,
    /// All of them, in a stream that names the LwM2M endpoint once it has registered: a registration with
    /// another name begins a new one.
    Lwm2mEndpoint,
}

/// Whose messages a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One session's: over UDP the messages from one address and port, over TCP one connection's.
    #[default]
    Connection,
    /// Those from one IPv4 address, or from one IPv6 network of 64 bits.
    SourceAddress,
}

/// What happens to a request for which a bucket has too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Exceeded {
    /// It is answered with 4.29, Too Many Requests; Max-Age says when to try again (RFC 8516).
    #[default]
    Reject,
    /// It is dropped.
    Drop,
}

impl Exceeded {
    /// A stable name for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Drop => "drop",
        }
    }
}

/// A limit on what clients request. A request must find enough in every bucket; each worker of Envoy
/// counts for itself. Retransmissions that the filter answers by itself are not counted.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Whose requests are counted together: `connection` (default) or `source_address`.
    #[serde(default)]
    pub per: Per,
    /// A token is a request.
    #[serde(default)]
    pub messages: Option<BucketConfig>,
    /// A token is an octet of a request, its header included.
    #[serde(default)]
    pub octets: Option<BucketConfig>,
    /// What happens to a request above the limit: `reject` (default) or `drop`.
    #[serde(default)]
    pub exceeded: Exceeded,
}

/// A limit as the filter uses it.
pub(crate) type RateLimit = Limit<Per, Exceeded>;

/// The configuration as the user writes it.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `bridge` (default), `observe` or `egress`.
    pub mode: Mode,
    /// `udp` (default), `dtls`, or `tcp`, which is also for TLS.
    pub transport: Transport,
    /// How CoAP servers are used. With `mode: egress` only, where all other fields have no effect.
    pub egress: Option<coap_egress::Config>,
    /// Keys and limits of DTLS. With `transport: dtls` only, and needed there.
    pub dtls: Option<dtls::Config>,
    /// The `:authority` of what a client sends without Uri-Host, where TLS has no server name either.
    /// Default `coap`.
    pub authority: String,
    /// How requests travel; the first rule that matches wins, and where none does, the request travels
    /// in its `flow`. Default none.
    pub rules: Vec<RuleConfig>,
    /// Which messages share a flow: `path` (default; Uri-Host, Uri-Port and the first segment of
    /// Uri-Path), `session`, or `lwm2m_endpoint`.
    pub flow_key: FlowKey,
    /// The most flows of a session. One more ends the one that was used least recently, and first of all those
    /// in which no request waits for a response. Default 8.
    pub max_flows: Whole,
    /// The largest message, in octets. A larger request is answered with 4.13 and this as Size1. Over TCP it is
    /// told as Max-Message-Size, and a larger message ends the connection. Default 1472 over UDP and DTLS, what
    /// an IPv4 Ethernet frame holds, and 65536 over TCP.
    pub max_message_size: Option<Whole>,
    /// The most options of a request; one with more is answered with 4.00. Default 64.
    pub max_options: Whole,
    /// The most requests of a session that are not answered; one more is answered with 4.29. Default 64.
    pub max_outstanding: Whole,
    /// How long a session that waits for nothing lives on after its last message, of which all octets have to
    /// be there. It waits while a request has no response, a confirmable message no acknowledgement, a resource is
    /// observed or a block-wise transfer is under way; over TCP also while an LwM2M registration holds. Default
    /// `2s` over UDP and `600s` over TCP, where the client is told by Release. Not over DTLS, which has its own.
    pub idle_timeout: Option<Seconds>,
    /// How long a session lives on for a CoAP server's response, and for the client's acknowledgement of a
    /// server's message; so long, too, a request in a flow counts for `max_outstanding`. Default `30s`.
    pub response_timeout: Seconds,
    /// How long a session with an LwM2M registration lives on after its last message, at most as long as
    /// the registration's lifetime: so long the server can reach the device. The `idle_timeout` of
    /// `udp_proxy` must be longer. Default `0s`: as any other session. `transport: udp` only.
    pub registration_timeout: Seconds,
    /// After what time a confirmable request to an HTTP service is acknowledged, so that its response
    /// comes separately (RFC 7252 §5.2.2). Default `0.5s`. Not over TCP.
    pub separate_after: Seconds,
    /// After what time, times 1 to 1.5, a separate response or notification is sent again: ACK_TIMEOUT of
    /// RFC 7252 §4.8. Default `2s`. Not over TCP.
    pub ack_timeout: Seconds,
    /// How often it is sent again: MAX_RETRANSMIT of RFC 7252 §4.8. Default 4. Not over TCP.
    pub max_retransmit: Whole,
    /// The largest body of a `request` and of its response, in octets. A larger request body is answered
    /// with 4.13, a larger response with 5.02. Default 1048576.
    pub max_body_size: Whole,
    /// The largest block the filter sends, in octets: 16, 32, 64, 128, 256, 512 or 1024. Default 1024.
    pub block_size: Whole,
    /// The most block-wise transfers of a session, each way, that are kept at once; the oldest is
    /// forgotten for a new one. Default 4.
    pub max_transfers: Whole,
    /// How many octets of bodies each worker holds, of block-wise transfers and of requests and responses
    /// under way; what needs more gets 5.03. Default 67108864.
    pub max_transfer_memory: Whole,
    /// How long a body is kept after its last block, and a session lives on for the next block of a transfer
    /// in a flow. Default `30s`.
    pub transfer_timeout: Seconds,
    /// The most resources that a session observes by `request`. One more is answered without being
    /// observed. Default 16.
    pub max_observations: Whole,
    /// How many answers to checks a session keeps, where a rule has a `verdict_cache`. Default 256.
    pub max_cached_verdicts: Whole,
    /// Limits on what clients request. Default none.
    pub rate_limits: Vec<RateLimitConfig>,
    /// How many addresses' buckets each worker keeps. Default 10000.
    pub max_rate_limit_keys: Whole,
    /// A response may have so many times the octets of its request, and all that a client gets so many times
    /// the octets of all it sent, as long as it has not proved that it is at the address it sends from.
    /// Instead of more, a GET or FETCH gets 4.01 with an Echo option, and the client proves its address by
    /// repeating the request with that (RFC 9175 §2.4); any other response is cut to what fits. 0: no such
    /// limit. Default 3. `transport: udp` only: DTLS and TCP have proved it before.
    pub amplification_factor: Whole,
    /// How many clients whose session has ended each worker remembers, with the answers that a
    /// retransmission gets again, the proof of their address and their LwM2M endpoint name. Default
    /// 10000. `transport: udp` only.
    pub max_remembered: Whole,
    /// How many octets of such answers each worker keeps. Default 8388608. `transport: udp` only.
    pub max_remembered_size: Whole,
    /// The most sessions on one connection of `udp_proxy`'s cluster, which opens another one for more;
    /// the cluster's circuit breakers bound them all. Default 10000. Not over TCP.
    pub max_sessions: Whole,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = |seconds| Seconds(Duration::from_secs(seconds));
        Self {
            mode: Mode::default(),
            transport: Transport::default(),
            egress: None,
            dtls: None,
            authority: "coap".to_owned(),
            rules: Vec::new(),
            flow_key: FlowKey::default(),
            max_flows: Whole(8),
            max_message_size: None,
            max_options: Whole(64),
            max_outstanding: Whole(64),
            idle_timeout: None,
            response_timeout: seconds(30),
            registration_timeout: seconds(0),
            separate_after: Seconds(Duration::from_millis(500)),
            ack_timeout: seconds(2),
            max_retransmit: Whole(4),
            max_body_size: Whole(1 << 20),
            block_size: Whole(1024),
            max_transfers: Whole(4),
            max_transfer_memory: Whole(64 << 20),
            transfer_timeout: seconds(30),
            max_observations: Whole(16),
            max_cached_verdicts: Whole(256),
            rate_limits: Vec::new(),
            max_rate_limit_keys: Whole(10_000),
            amplification_factor: Whole(3),
            max_remembered: Whole(10_000),
            max_remembered_size: Whole(8 << 20),
            max_sessions: Whole(10_000),
        }
    }
}

/// The configuration as the filter uses it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) transport: Transport,
    pub(crate) egress: Rc<coap_egress::Settings>,
    /// What [`Settings::take_dtls`] takes.
    dtls: Option<dtls::Settings>,
    pub(crate) authority: Authority,
    pub(crate) rules: Vec<Rule>,
    pub(crate) flow_key: FlowKey,
    pub(crate) max_flows: usize,
    pub(crate) max_message_size: u32,
    pub(crate) max_options: usize,
    pub(crate) max_outstanding: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) registration_timeout: Duration,
    pub(crate) separate_after: Duration,
    pub(crate) ack_timeout: Duration,
    pub(crate) max_retransmit: u32,
    pub(crate) max_body_size: usize,
    /// The size exponent of the largest block sent (RFC 7959 §2.2).
    pub(crate) szx: u8,
    pub(crate) max_transfers: usize,
    pub(crate) max_transfer_memory: usize,
    pub(crate) transfer_timeout: Duration,
    pub(crate) max_observations: usize,
    pub(crate) max_cached_verdicts: usize,
    pub(crate) rate_limits: Vec<RateLimit>,
    pub(crate) max_rate_limit_keys: usize,
    pub(crate) amplification_factor: Option<usize>,
    pub(crate) max_remembered: usize,
    pub(crate) max_remembered_size: usize,
    pub(crate) max_sessions: u32,
}

impl Settings {
    pub(crate) fn read(json: &[u8]) -> Result<Self, Vec<Mistake>> {
        let (config, mut mistakes) = filter_config::read::<Config>(json);
        let settings = Self::compile(config, &mut mistakes);
        if mistakes.is_empty() { Ok(settings) } else { Err(mistakes.into_list()) }
    }

    fn compile(config: Config, mistakes: &mut Mistakes) -> Self {
        let authority = Authority::try_from(config.authority.as_str()).unwrap_or_else(|_| {
            let what = format!("must be a host with an optional port (got {:?})", config.authority);
            mistakes.push(Mistake::new("authority", what));
            Authority::from_static("coap")
        });
        const GIB: u64 = 1 << 30;
        let max_message_size = config.max_message_size.unwrap_or(match config.transport {
            Transport::Udp | Transport::Dtls => Whole(1472),
            Transport::Tcp => Whole(65_536),
        });
        let max_message_size = mistakes.whole(
            "max_message_size",
            max_message_size,
            match config.transport {
                Transport::Udp | Transport::Dtls => 64..=65_507,
                // Who says nothing takes messages of 1152 octets (RFC 8323 §5.3.1).
                Transport::Tcp => 1152..=16_777_216,
            },
        ) as u32;
        let max_flows = mistakes.whole("max_flows", config.max_flows, 1..=1000) as usize;
        let max_options = mistakes.whole("max_options", config.max_options, 1..=1000) as usize;
        let max_outstanding =
            mistakes.whole("max_outstanding", config.max_outstanding, 1..=10_000) as usize;
        let max_retransmit = mistakes.whole("max_retransmit", config.max_retransmit, 0..=10) as u32;
        let max_body_size = mistakes.whole("max_body_size", config.max_body_size, 0..=GIB) as usize;
        let max_transfers =
            mistakes.whole("max_transfers", config.max_transfers, 1..=1000) as usize;
        let max_transfer_memory =
            mistakes.whole("max_transfer_memory", config.max_transfer_memory, 0..=4 * GIB - 1)
                as usize;
        let max_observations =
            mistakes.whole("max_observations", config.max_observations, 0..=10_000) as usize;
        let max_cached_verdicts =
            mistakes.whole("max_cached_verdicts", config.max_cached_verdicts, 1..=1_000_000)
                as usize;
        let max_rate_limit_keys =
            mistakes.whole("max_rate_limit_keys", config.max_rate_limit_keys, 1..=10_000_000)
                as usize;
        let factor =
            mistakes.whole("amplification_factor", config.amplification_factor, 0..=1000) as usize;
        let max_remembered =
            mistakes.whole("max_remembered", config.max_remembered, 0..=10_000_000) as usize;
        let max_remembered_size =
            mistakes.whole("max_remembered_size", config.max_remembered_size, 0..=GIB) as usize;
        let max_sessions =
            mistakes.whole("max_sessions", config.max_sessions, 1..=1_000_000) as u32;
        let szx = match config.block_size {
            Whole(size @ (16 | 32 | 64 | 128 | 256 | 512 | 1024)) => {
                size.trailing_zeros() as u8 - 4
            }
            Whole(size) => {
                let what = format!("must be a power of two from 16 to 1024 (got {size})");
                mistakes.push(Mistake::new("block_size", what));
                6
            }
        };
        let day = Duration::from_secs(86_400);
        let (some, any) = (Duration::from_millis(100)..=day, Duration::ZERO..=day);
        let idle_timeout = config.idle_timeout.unwrap_or(match config.transport {
            Transport::Udp | Transport::Dtls => Seconds(Duration::from_secs(2)),
            Transport::Tcp => Seconds(Duration::from_secs(600)),
        });
        let idle_timeout = mistakes.time("idle_timeout", idle_timeout, some.clone());
        let response_timeout =
            mistakes.time("response_timeout", config.response_timeout, some.clone());
        let registration_timeout =
            mistakes.time("registration_timeout", config.registration_timeout, any);
        let separate_after = mistakes.time("separate_after", config.separate_after, some.clone());
        let ack_timeout = mistakes.time("ack_timeout", config.ack_timeout, some.clone());
        let transfer_timeout =
            mistakes.time("transfer_timeout", config.transfer_timeout, some.clone());
        let rules = config.rules.into_iter().enumerate();
        let rules: Vec<_> = rules
            .map(|(index, rule)| Rule::compile(rule, &format!("rules[{index}]"), mistakes))
            .collect();
        let rate_limits = config.rate_limits.iter().enumerate();
        let rate_limits: Vec<_> = rate_limits
            .map(|(index, limit)| {
                let rates = (limit.messages.as_ref(), limit.octets.as_ref());
                let path = format!("rate_limits[{index}]");
                Limit::compile((limit.per, limit.exceeded), rates, &path, mistakes)
            })
            .collect();
        if config.mode != Mode::Bridge {
            for (path, used) in
                [("rules", !rules.is_empty()), ("rate_limits", !rate_limits.is_empty())]
            {
                if used {
                    let what = "has a meaning only with mode: bridge";
                    mistakes.push(Mistake::new(path, what));
                }
            }
        }
        let dtls = match (config.transport, config.dtls) {
            (Transport::Dtls, Some(dtls)) => dtls::Settings::compile(dtls, "dtls", mistakes),
            (Transport::Dtls, None) => {
                mistakes.push(Mistake::new("dtls", "is needed with transport: dtls"));
                None
            }
            (_, Some(_)) => {
                let what = "has a meaning only with transport: dtls";
                mistakes.push(Mistake::new("dtls", what));
                None
            }
            (_, None) => None,
        };
        if config.mode != Mode::Egress && config.egress.is_some() {
            mistakes.push(Mistake::new("egress", "has a meaning only with mode: egress"));
        }
        let egress = config.egress.unwrap_or_default();
        let egress = coap_egress::Settings::compile(&egress, "egress.", mistakes);
        if config.mode == Mode::Observe && config.transport == Transport::Dtls {
            let what = "cannot be dtls with mode: observe: nothing can be seen in it";
            mistakes.push(Mistake::new("transport", what));
        }
        Self {
            mode: config.mode,
            transport: config.transport,
            egress: Rc::new(egress),
            dtls,
            authority,
            rules,
            flow_key: config.flow_key,
            max_flows,
            max_message_size,
            max_options,
            max_outstanding,
            idle_timeout,
            response_timeout,
            registration_timeout,
            separate_after,
            ack_timeout,
            max_retransmit,
            max_body_size,
            szx,
            max_transfers,
            max_transfer_memory,
            transfer_timeout,
            max_observations,
            max_cached_verdicts,
            rate_limits,
            max_rate_limit_keys,
            amplification_factor: (factor > 0).then_some(factor),
            max_remembered,
            max_remembered_size,
            max_sessions,
        }
    }

    /// The settings of DTLS, which go to whoever terminates it.
    pub(crate) fn take_dtls(&mut self) -> Option<dtls::Settings> {
        self.dtls.take()
    }

    /// How a request travels: by the first rule that matches.
    pub(crate) fn carry(
        &self,
        code: codec_coap::Code,
        options: &codec_coap::Options<'_>,
    ) -> (Carry, Duration) {
        let rule = self.rules.iter().find(|rule| rule.matches(code, options));
        rule.map_or((Carry::Flow, Duration::ZERO), |rule| (rule.carry, rule.verdict_cache))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(json: &str) -> Vec<String> {
        let mistakes = Settings::read(json.as_bytes()).err().unwrap_or_default();
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_configuration_means_the_defaults() {
        let settings = Settings::read(b"").expect("the defaults are valid");
        assert_eq!(settings.mode, Mode::Bridge);
        assert_eq!(settings.authority, "coap");
        assert_eq!((settings.max_message_size, settings.szx), (1472, 6));
        let tcp = Settings::read(br#"{"transport": "tcp"}"#).expect("valid");
        assert_eq!(tcp.max_message_size, 65_536);
    }

    #[test]
    fn mistakes_of_form_and_of_meaning_are_reported_together() {
        assert_eq!(
            mistakes(
                r#"{"mode": "observe", "block_size": 100, "idle_timeout": "0s", "max_flows": 0,
                    "rules": [{"carry": "flow", "verdict_cache": "1s", "paths": ["x"]}],
                    "rate_limits": [{}]}"#
            ),
            [
                "max_flows: must be from 1 to 1000 (got 0)",
                "block_size: must be a power of two from 16 to 1024 (got 100)",
                "idle_timeout: must be from 100ms to 86400s (got 0ns)",
                "rules[0].paths[0]: must begin with a slash (got \"x\")",
                "rules[0].verdict_cache: has a meaning only with carry: check",
                "rate_limits[0]: needs messages, octets or both",
                "rules: has a meaning only with mode: bridge",
                "rate_limits: has a meaning only with mode: bridge",
            ]
        );
    }
}
