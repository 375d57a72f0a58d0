//! The filter's configuration: what the user writes, and what it compiles to.

use std::time::Duration;

use codec_mqtt::MAX_PACKET_SIZE;
use filter_config::{Mistake, Mistakes, Seconds, Whole};
use serde::Deserialize;

use crate::limits::{self, RateLimit, RateLimitConfig};
use crate::packets::Bounds;
use crate::prefix::Template;
use crate::rules::{PacketKind, Rule, RuleConfig};

/// What the filter does with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Carries it to an HTTP connection manager as an HTTP/2 stream.
    #[default]
    Bridge,
    /// Watches it on its way to the next filter.
    Observe,
}

impl Mode {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Observe => "observe",
        }
    }
}

/// How sessions travel to the HTTP connection manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// With HTTP/2.
    #[default]
    Http2,
    /// With HTTP/1.1 where nothing looks at the messages of a session, else with HTTP/2.
    Auto,
}

/// What becomes the `authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Authorization {
    /// `Basic`, from User Name and Password (RFC 7617). Left out for a User Name with a colon,
    /// which that scheme cannot express.
    #[default]
    Basic,
    /// `Bearer`, from Password (RFC 6750 §2.1). Left out where the Password is not a token.
    Bearer,
    /// None.
    None,
}

/// What an MQTT 3.1.1 client, whose acknowledgements know no reasons, is told of a QoS 1 or 2 message
/// that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The message is acknowledged and dropped.
    #[default]
    Acknowledge,
    /// The connection is closed.
    Disconnect,
}

/// What happens when nobody could say whether a QoS 1 or 2 message is accepted (5xx, no answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Failed {
    /// An MQTT 5.0 client is told 0x83, Implementation specific error, and may send it again. An MQTT
    /// 3.1.1 client is told nothing; it sends it again when it reconnects.
    #[default]
    Answer,
    /// The connection is closed, without an acknowledgement; an MQTT 5.0 client is told 0x89, Server
    /// busy. A client with a session sends the message again when it reconnects.
    Disconnect,
}

/// The configuration as the user writes it.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the filter does with sessions: `bridge` (default) or `observe`.
    pub mode: Mode,
    /// How sessions travel to the HTTP connection manager: `http2` (default), or `auto`, which takes HTTP/1.1 for sessions whose
    /// messages nothing looks at, so for all where there are no rules, no limits on messages and no `topic_prefix`. An
    /// idle session then costs less than two thirds of the memory, but a client that is disconnected in the middle of such a
    /// session for a mistake of its own is not told the reason. `auto` needs `codec_type: AUTO` in the connection manager. `bridge` only.
    pub codec: Codec,
    /// `:authority` of a session whose client sent no TLS server name. Default `mqtt`. `bridge` only.
    pub authority: String,
    /// What becomes the `authorization` header: `basic` (default), `bearer` or `none`. `bridge` only.
    pub authorization: Authorization,
    /// Within this time of the connection the whole CONNECT packet must have arrived. Default `10s`.
    pub connect_timeout: Seconds,
    /// The largest CONNECT packet accepted, in octets. Default 65536.
    pub max_connect_size: Whole,
    /// The largest packet accepted from a client, in octets. Default 268435460, the largest MQTT
    /// can express. `bridge` only.
    pub max_packet_size: Whole,
    /// The largest packet other than CONNECT and PUBLISH accepted from a client, and the largest
    /// PUBLISH without its payload, in octets: the most that is held until it is complete.
    /// Default 65536. `bridge` only.
    pub max_buffered_size: Whole,
    /// How messages travel to the next filter. The first rule that matches a message decides; where
    /// none does it travels in the session's stream. `bridge` only.
    pub rules: Vec<RuleConfig>,
    /// How many of a session's messages may wait for answers at once, 1 to 1000. When so many do,
    /// nothing more is read from the client. Default 64. `bridge` only.
    pub max_pending_messages: Whole,
    /// How many octets may wait behind them. Default 262144. `bridge` only.
    pub max_pending_size: Whole,
    /// How many answers to checks are remembered for a session, when rules have a `verdict_cache`;
    /// the oldest is forgotten first. Default 256. `bridge` only.
    pub max_cached_verdicts: Whole,
    /// What an MQTT 3.1.1 client is told of a refused QoS 1 or 2 message: `acknowledge` (default; it is
    /// dropped) or `disconnect`. `bridge` only.
    pub refused_in_3_1_1: Refused,
    /// What happens to a QoS 1 or 2 message of which nobody could say whether it is accepted: `answer`
    /// (default: reason code 0x83; none in MQTT 3.1.1) or `disconnect`. `bridge` only.
    pub failed: Failed,
    /// Limits on what clients publish. `bridge` only.
    pub rate_limits: Vec<RateLimitConfig>,
    /// How many buckets are kept for keys that connections share, on each worker; those in use are
    /// never forgotten. Default 10000. `bridge` only.
    pub max_rate_limit_keys: Whole,
    /// The longest topic name of a PUBLISH, in octets. A longer one is refused with 0x90, Topic Name
    /// invalid. Default 65535. `bridge` only.
    pub max_topic_length: Whole,
    /// The most topic levels of a PUBLISH and of a topic filter. Default 65535, which is no limit.
    /// `bridge` only.
    pub max_topic_levels: Whole,
    /// The most topic filters a client may be subscribed to, counted since it connected. One more is
    /// refused with 0x97, Quota exceeded. Default: no limit. `bridge` only.
    pub max_subscriptions: Option<Whole>,
    /// The most QoS 1 and 2 messages of a client that are not acknowledged. It is told as Receive
    /// Maximum, if the broker's is not smaller; more end the session with 0x93, Receive Maximum
    /// exceeded. Default: the broker's. `bridge` only.
    pub max_in_flight: Option<Whole>,
    /// The topic aliases a client may use where messages are looked at; the filter resolves them, and
    /// the broker sees none. Default 16. `bridge` only.
    pub max_topic_aliases: Whole,
    /// Whether a client that is silent for one and a half times its Keep Alive is disconnected
    /// (MQTT 5.0 §3.1.2.10), so that it need not wait for the broker to notice. Default false.
    /// `bridge` only.
    pub enforce_keep_alive: bool,
    /// Put before every topic on the way to the broker and taken off on the way back, such as
    /// `tenants/{username}/`: `{username}` and `{client_id}` stand for the client's. A client whose name
    /// is not one topic level cannot connect. Rules and requests have the client's own topics. Default
    /// none. `bridge` only.
    pub topic_prefix: String,
    /// Whether clients may come over WebSocket (MQTT 5.0 §6). Default `true`. `bridge` only.
    pub websocket: bool,
    /// Which cluster `tcp_proxy` uses; the first rule that matches wins, and where none does, or
    /// the list is empty, `tcp_proxy` keeps its own. `observe` only.
    pub tcp_proxy_clusters: Vec<ClusterRule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            codec: Codec::default(),
            authority: "mqtt".to_owned(),
            authorization: Authorization::default(),
            connect_timeout: Seconds(Duration::from_secs(10)),
            max_connect_size: Whole(65_536),
            max_packet_size: Whole(MAX_PACKET_SIZE.into()),
            max_buffered_size: Whole(65_536),
            rules: Vec::new(),
            max_pending_messages: Whole(64),
            max_pending_size: Whole(262_144),
            max_cached_verdicts: Whole(256),
            refused_in_3_1_1: Refused::default(),
            failed: Failed::default(),
            rate_limits: Vec::new(),
            max_rate_limit_keys: Whole(10_000),
            max_topic_length: Whole(65_535),
            max_topic_levels: Whole(65_535),
            max_subscriptions: None,
            max_in_flight: None,
            max_topic_aliases: Whole(16),
            enforce_keep_alive: false,
            topic_prefix: String::new(),
            websocket: true,
            tcp_proxy_clusters: Vec::new(),
        }
    }
}

/// Sends some sessions to a cluster. Has exactly one of the two prefixes.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClusterRule {
    /// Matches sessions whose Client Identifier begins so.
    pub client_id_prefix: Option<String>,
    /// Matches sessions whose User Name begins so.
    pub username_prefix: Option<String>,
    /// The name of the cluster.
    pub cluster: String,
}

/// The smallest CONNECT packet of any version: an MQTT 3.1.1 one with an empty Client Identifier.
const SMALLEST_CONNECT: u64 = 14;

/// The configuration as the filter uses it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) codec: Codec,
    pub(crate) authority: String,
    pub(crate) authorization: Authorization,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_connect_size: usize,
    pub(crate) max_packet_size: u32,
    pub(crate) max_buffered_size: usize,
    pub(crate) rules: Vec<Rule>,
    pub(crate) max_pending_messages: usize,
    pub(crate) max_pending_size: usize,
    pub(crate) max_cached_verdicts: usize,
    pub(crate) refused_in_3_1_1: Refused,
    pub(crate) failed: Failed,
    pub(crate) rate_limits: Vec<RateLimit>,
    pub(crate) max_rate_limit_keys: usize,
    pub(crate) max_topic_length: usize,
    pub(crate) max_topic_levels: usize,
    pub(crate) max_subscriptions: Option<usize>,
    pub(crate) max_in_flight: Option<u16>,
    pub(crate) max_topic_aliases: u16,
    pub(crate) enforce_keep_alive: bool,
    pub(crate) topic_prefix: Template,
    pub(crate) websocket: bool,
    clusters: Vec<Cluster>,
}

#[derive(Debug)]
struct Cluster {
    key: Key,
    prefix: String,
    name: String,
}

#[derive(Debug, Clone, Copy)]
enum Key {
    ClientId,
    UserName,
}

impl Settings {
    pub(crate) fn read(json: &[u8]) -> Result<Self, Vec<Mistake>> {
        let (config, mut mistakes) = filter_config::read::<Config>(json);
        let settings = Self::compile(config, &mut mistakes);
        if mistakes.is_empty() { Ok(settings) } else { Err(mistakes.into_list()) }
    }

    fn compile(config: Config, mistakes: &mut Mistakes) -> Self {
        let authority = config.authority;
        if bridge::Uri::builder()
            .scheme("http")
            .authority(authority.as_str())
            .path_and_query("/")
            .build()
            .is_err()
        {
            mistakes.push(Mistake::new(
                "authority",
                format!("must be a host with an optional port (got {authority:?})"),
            ));
        }
        let connect_timeout = config.connect_timeout.0;
        if connect_timeout.is_zero() || connect_timeout > Duration::from_secs(3600) {
            mistakes.push(Mistake::new(
                "connect_timeout",
                format!("must be more than 0s and at most 3600s (got {connect_timeout:?})"),
            ));
        }
        let packet = SMALLEST_CONNECT..=u64::from(MAX_PACKET_SIZE);
        let small = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        let max_connect_size =
            mistakes.whole("max_connect_size", config.max_connect_size, packet.clone());
        let max_packet_size =
            mistakes.whole("max_packet_size", config.max_packet_size, packet.clone()) as u32;
        let max_buffered_size =
            mistakes.whole("max_buffered_size", config.max_buffered_size, packet);
        let max_pending_messages =
            mistakes.whole("max_pending_messages", config.max_pending_messages, 1..=1000);
        let max_pending_size = mistakes.whole(
            "max_pending_size",
            config.max_pending_size,
            1024..=u64::from(MAX_PACKET_SIZE),
        );
        let max_cached_verdicts =
            mistakes.whole("max_cached_verdicts", config.max_cached_verdicts, 1..=1_000_000);
        let max_rate_limit_keys =
            mistakes.whole("max_rate_limit_keys", config.max_rate_limit_keys, 1..=10_000_000);
        let max_topic_length =
            mistakes.whole("max_topic_length", config.max_topic_length, 1..=65_535);
        let max_topic_levels =
            mistakes.whole("max_topic_levels", config.max_topic_levels, 1..=65_535);
        let max_topic_aliases =
            mistakes.whole("max_topic_aliases", config.max_topic_aliases, 0..=1000);
        let max_subscriptions = config
            .max_subscriptions
            .map(|n| mistakes.whole("max_subscriptions", n, 0..=1_000_000) as usize);
        let max_in_flight =
            config.max_in_flight.map(|n| small(mistakes.whole("max_in_flight", n, 1..=65_535)));
        let topic_prefix = Template::compile(&config.topic_prefix, mistakes);
        let rules = config.rules.into_iter().enumerate();
        let rules: Vec<_> = rules
            .map(|(index, rule)| Rule::compile(rule, &format!("rules[{index}]"), mistakes))
            .collect();
        let rate_limits = config.rate_limits.iter().enumerate();
        let rate_limits: Vec<_> = rate_limits
            .map(|(n, limit)| limits::compile(limit, &format!("rate_limits[{n}]"), mistakes))
            .collect();
        if config.mode == Mode::Observe {
            for (path, used) in [
                ("rules", !rules.is_empty()),
                ("rate_limits", !rate_limits.is_empty()),
                ("topic_prefix", !topic_prefix.is_empty()),
                ("codec", config.codec == Codec::Auto),
            ] {
                if used {
                    mistakes.push(Mistake::new(path, "has a meaning only with mode: bridge"));
                }
            }
        }
        if config.mode == Mode::Bridge && !config.tcp_proxy_clusters.is_empty() {
            mistakes.push(Mistake::new(
                "tcp_proxy_clusters",
                "has a meaning only with mode: observe; with mode: bridge routes choose the cluster",
            ));
        }
        let mut clusters = Vec::new();
        for (index, rule) in config.tcp_proxy_clusters.into_iter().enumerate() {
            let path = format!("tcp_proxy_clusters[{index}]");
            if rule.cluster.is_empty() {
                mistakes.push(Mistake::new(format!("{path}.cluster"), "must not be empty"));
            }
            let (key, prefix) = match (rule.client_id_prefix, rule.username_prefix) {
                (Some(prefix), None) => (Key::ClientId, prefix),
                (None, Some(prefix)) => (Key::UserName, prefix),
                _ => {
                    mistakes.push(Mistake::new(
                        path,
                        "must have exactly one of client_id_prefix and username_prefix",
                    ));
                    continue;
                }
            };
            clusters.push(Cluster { key, prefix, name: rule.cluster });
        }
        Self {
            mode: config.mode,
            codec: config.codec,
            authority,
            authorization: config.authorization,
            connect_timeout,
            max_connect_size: max_connect_size as usize,
            max_packet_size,
            max_buffered_size: max_buffered_size as usize,
            rules,
            max_pending_messages: max_pending_messages as usize,
            max_pending_size: max_pending_size as usize,
            max_cached_verdicts: max_cached_verdicts as usize,
            refused_in_3_1_1: config.refused_in_3_1_1,
            failed: config.failed,
            rate_limits,
            max_rate_limit_keys: max_rate_limit_keys as usize,
            max_topic_length: max_topic_length as usize,
            max_topic_levels: max_topic_levels as usize,
            max_subscriptions,
            max_in_flight,
            max_topic_aliases: small(max_topic_aliases),
            enforce_keep_alive: config.enforce_keep_alive,
            topic_prefix,
            websocket: config.websocket,
            clusters,
        }
    }

    /// The limits on every packet of a client after CONNECT.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds { max_packet_size: self.max_packet_size, max_buffered_size: self.max_buffered_size }
    }

    /// Whether a limit needs each message to be looked at, besides the rate limits.
    pub(crate) fn limits_messages(&self) -> bool {
        self.max_topic_length < 65_535
            || self.max_in_flight.is_some()
            || self.limits_subscriptions()
    }

    /// Whether a limit needs each SUBSCRIBE to be looked at.
    pub(crate) fn limits_subscriptions(&self) -> bool {
        self.max_topic_levels < 65_535 || self.max_subscriptions.is_some()
    }

    /// The rules that can match such packets of this client.
    pub(crate) fn rules_for(
        &self,
        kind: PacketKind,
        client_id: &str,
        username: Option<&str>,
    ) -> Vec<u16> {
        let rules = self.rules.iter().zip(0_u16..);
        let concerning = rules.filter(|(rule, _)| rule.concerns(kind, client_id, username));
        concerning.map(|(_, index)| index).collect()
    }

    /// The rule at an index from [`rules_for`](Self::rules_for).
    pub(crate) fn rule(&self, index: u16) -> Option<&Rule> {
        self.rules.get(usize::from(index))
    }

    /// Whether what CONNECT says chooses the cluster.
    pub(crate) fn chooses_cluster(&self) -> bool {
        !self.clusters.is_empty()
    }

    /// The cluster for a session, if a rule matches.
    pub(crate) fn cluster(&self, client_id: &str, user_name: Option<&str>) -> Option<&str> {
        let matching = self.clusters.iter().find(|cluster| match cluster.key {
            Key::ClientId => client_id.starts_with(&cluster.prefix),
            Key::UserName => user_name.is_some_and(|name| name.starts_with(&cluster.prefix)),
        });
        matching.map(|cluster| cluster.name.as_str())
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
        assert_eq!(settings.authority, "mqtt");
        assert_eq!(settings.max_packet_size, 268_435_460);
    }

    #[test]
    fn mistakes_of_form_and_of_meaning_are_reported_together() {
        assert_eq!(
            mistakes(
                r#"{"mode": "brigde", "connect_timeout": "0s", "max_connect_size": 3,
                    "tcp_proxy_clusters": [{"cluster": ""}]}"#
            ),
            [
                "mode: unknown variant `brigde`, expected `bridge` or `observe` (got \"brigde\")",
                "connect_timeout: must be more than 0s and at most 3600s (got 0ns)",
                "max_connect_size: must be from 14 to 268435460 (got 3)",
                "tcp_proxy_clusters: has a meaning only with mode: observe; with mode: bridge \
                 routes choose the cluster",
                "tcp_proxy_clusters[0].cluster: must not be empty",
                "tcp_proxy_clusters[0]: must have exactly one of client_id_prefix and \
                 username_prefix",
            ]
        );
    }

    #[test]
    fn the_first_matching_rule_chooses_the_cluster() {
        let settings = Settings::read(
            br#"{"mode": "observe", "tcp_proxy_clusters": [
                {"username_prefix": "eu-", "cluster": "eu"},
                {"client_id_prefix": "t", "cluster": "test"}]}"#,
        )
        .expect("valid");
        assert_eq!(settings.cluster("t1", Some("eu-1")), Some("eu"));
        assert_eq!(settings.cluster("t1", None), Some("test"));
        assert_eq!(settings.cluster("x", Some("us")), None);
    }
}
