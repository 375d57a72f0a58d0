//! Rules: how each message travels to the next filter.

use std::time::Duration;

use bridge::HeaderName;
use codec_mqtt::topic::{self, TopicFilter};
use codec_mqtt::{QoS, Version};
use filter_config::{Mistake, Mistakes, Seconds, Whole};
use serde::Deserialize;

/// How a message travels to the next filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Carry {
    /// In the session's stream, like everything else.
    #[default]
    Flow,
    /// In the session's stream, after a request that is only a header section was answered with
    /// 2xx.
    Check,
    /// As a complete HTTP request; the broker does not see it. `publish` only: what the rule
    /// matches besides is checked.
    Request,
}

/// The packets a rule can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PacketKind {
    /// PUBLISH from the client.
    Publish,
    /// Each topic filter of a SUBSCRIBE.
    Subscribe,
    /// The will message in CONNECT.
    Will,
    /// PUBLISH from the broker to the client.
    Delivery,
}

/// How a `request` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CloudEvents {
    /// Binary content mode: the payload is the content, attributes are `ce-` header fields.
    Binary,
    /// Structured content mode in the JSON event format.
    Structured,
    /// Structured content mode in the Protobuf event format.
    Protobuf,
}

/// One rule. All of what it names must match; the first rule that matches a message decides.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Which packets: `publish`, `subscribe`, `will`, `delivery` (PUBLISH from broker to client).
    /// Default `[publish, will]`, so that a will message is no way around a rule.
    #[serde(default = "publish_and_will")]
    pub packets: Vec<PacketKind>,
    /// Topic filters (MQTT 5.0 §4.7) of which one must match the topic name; for a SUBSCRIBE, one
    /// must have a topic name in common with the requested filter. Default: any topic.
    #[serde(default)]
    pub topic_filters: Vec<String>,
    /// The User Name begins so. Default: any, or none.
    #[serde(default)]
    pub username_prefix: Option<String>,
    /// The Client Identifier begins so. Default: any.
    #[serde(default)]
    pub client_id_prefix: Option<String>,
    /// The message's QoS is one of these (for a SUBSCRIBE, the requested one). Default: any.
    #[serde(default)]
    pub qos: Option<Vec<Whole>>,
    /// Whether RETAIN is set; never matches a SUBSCRIBE. Default: either.
    #[serde(default)]
    pub retain: Option<bool>,
    /// How the message travels: `flow`, `check` or `request`.
    pub carry: Carry,
    /// How long the answer to a `check` also holds for messages of the session with the same topic,
    /// QoS, RETAIN, content type and `user_properties`. Answers of 5xx are not kept. Default `0s`:
    /// each message is checked.
    #[serde(default)]
    pub verdict_cache: Option<Seconds>,
    /// Whether the `authorization` header goes along. Default: true for `check`, false for
    /// `request`.
    #[serde(default)]
    pub credentials: Option<bool>,
    /// User properties that become the header `x-mqtt-user-property-<name>`, the first of each name.
    /// Default none. MQTT 5.0 only.
    #[serde(default)]
    pub user_properties: Vec<String>,
    /// Makes a `request` a CloudEvents 1.0 message: `binary`, `structured` (JSON) or `protobuf`.
    /// Default: the payload is the content and nothing is added.
    #[serde(default)]
    pub cloudevents: Option<CloudEvents>,
    /// Whether the content of the answer to a `request` is published to the client, to the message's
    /// Response Topic with its Correlation Data, at QoS 0. Default false. MQTT 5.0 only.
    #[serde(default)]
    pub publish_reply: bool,
}

fn publish_and_will() -> Vec<PacketKind> {
    vec![PacketKind::Publish, PacketKind::Will]
}

/// A rule as the filter uses it.
#[derive(Debug)]
pub(crate) struct Rule {
    /// One bit for each [`PacketKind`].
    packets: u8,
    topic_filters: Vec<Filter>,
    username_prefix: Option<String>,
    client_id_prefix: Option<String>,
    /// One bit for each QoS.
    qos: u8,
    retain: Option<bool>,
    pub(crate) carry: Carry,
    pub(crate) verdict_cache: Duration,
    pub(crate) credentials: bool,
    pub(crate) user_properties: Vec<(String, HeaderName)>,
    pub(crate) cloudevents: Option<CloudEvents>,
    pub(crate) publish_reply: bool,
}

/// A topic filter, and how much of it stands before its first wildcard: few topics get further.
#[derive(Debug)]
struct Filter {
    text: String,
    literal: usize,
}

impl Filter {
    fn new(text: String) -> Self {
        let literal = text.find(['+', '#']).unwrap_or(text.len());
        // `a/#` matches `a` too (MQTT 5.0 §4.7.1.2).
        let literal = text.get(..literal).map_or(0, |before| before.trim_end_matches('/').len());
        Self { text, literal }
    }

    fn matches(&self, topic: &str) -> bool {
        let literal = self.text.as_bytes().get(..self.literal).unwrap_or_default();
        topic.as_bytes().starts_with(literal) && topic::matches(&self.text, topic)
    }
}

/// Much more would be a rule that never asks again.
const LONGEST_CACHE: Duration = Duration::from_secs(24 * 3600);

impl Rule {
    pub(crate) fn compile(config: RuleConfig, path: &str, mistakes: &mut Mistakes) -> Self {
        let mut mistake = |field: &str, what: String| {
            mistakes.push(Mistake::new(format!("{path}.{field}"), what));
        };
        if config.packets.is_empty() {
            mistake("packets", "must not be empty".to_owned());
        }
        let mut packets = config.packets.iter().fold(0, |bits, kind| bits | kind.bit());
        if config.retain.is_some() {
            packets &= !PacketKind::Subscribe.bit();
        }
        for (index, filter) in config.topic_filters.iter().enumerate() {
            // In the configuration `$share/…` has no meaning of its own.
            if let Err(error) = TopicFilter::new(filter, Version::V311) {
                mistake(&format!("topic_filters[{index}]"), format!("{error} (got {filter:?})"));
            }
        }
        let qos = match &config.qos {
            None => 0b111,
            Some(list) => list.iter().enumerate().fold(0, |bits, (index, Whole(qos))| {
                if *qos > 2 {
                    mistake(&format!("qos[{index}]"), format!("must be 0, 1 or 2 (got {qos})"));
                }
                bits | 1_u8.checked_shl(u32::try_from(*qos).unwrap_or(u32::MAX)).unwrap_or(0)
            }),
        };
        if qos == 0 {
            mistake("qos", "must not be empty".to_owned());
        }
        let request = config.carry == Carry::Request;
        if request && !config.packets.contains(&PacketKind::Publish) {
            mistake("carry", "request needs publish among the packets".to_owned());
        }
        let verdict_cache = config.verdict_cache.map_or(Duration::ZERO, |Seconds(time)| time);
        if config.verdict_cache.is_some() && config.carry != Carry::Check {
            mistake("verdict_cache", "has a meaning only with carry: check".to_owned());
        }
        if verdict_cache > LONGEST_CACHE {
            let most = LONGEST_CACHE.as_secs();
            mistake("verdict_cache", format!("must be at most {most}s (got {verdict_cache:?})"));
        }
        if config.cloudevents.is_some() && !request {
            mistake("cloudevents", "has a meaning only with carry: request".to_owned());
        }
        if config.publish_reply && !request {
            mistake("publish_reply", "has a meaning only with carry: request".to_owned());
        }
        let mut user_properties = Vec::new();
        for (index, name) in config.user_properties.into_iter().enumerate() {
            let header = format!("x-mqtt-user-property-{name}").to_ascii_lowercase();
            match HeaderName::try_from(header) {
                Ok(header) if !name.is_empty() => user_properties.push((name, header)),
                _ => mistake(
                    &format!("user_properties[{index}]"),
                    format!("cannot be part of a header's name (got {name:?})"),
                ),
            }
        }
        Self {
            packets,
            topic_filters: config.topic_filters.into_iter().map(Filter::new).collect(),
            username_prefix: config.username_prefix,
            client_id_prefix: config.client_id_prefix,
            qos,
            retain: config.retain,
            carry: config.carry,
            verdict_cache,
            credentials: config.credentials.unwrap_or(!request),
            user_properties,
            cloudevents: config.cloudevents,
            publish_reply: config.publish_reply,
        }
    }

    /// Whether the rule can match any such packet of this client.
    pub(crate) fn concerns(
        &self,
        kind: PacketKind,
        client_id: &str,
        username: Option<&str>,
    ) -> bool {
        let begins = |prefix: &Option<String>, with: Option<&str>| match (prefix, with) {
            (None, _) => true,
            (Some(prefix), Some(with)) => with.starts_with(prefix),
            (Some(_), None) => false,
        };
        self.packets & kind.bit() != 0
            && begins(&self.username_prefix, username)
            && begins(&self.client_id_prefix, Some(client_id))
    }

    /// Whether the rule, which concerns this packet, matches it.
    pub(crate) fn matches(&self, topic: &str, qos: QoS, retain: bool) -> bool {
        self.qos & 1 << (qos as u8) != 0
            && self.retain.is_none_or(|wanted| wanted == retain)
            && (self.topic_filters.is_empty()
                || self.topic_filters.iter().any(|filter| filter.matches(topic)))
    }

    /// The same for one topic filter of a SUBSCRIBE, without `$share/{ShareName}/`.
    pub(crate) fn matches_filter(&self, requested: &str, qos: QoS) -> bool {
        self.qos & 1 << (qos as u8) != 0
            && (self.topic_filters.is_empty()
                || self.topic_filters.iter().any(|filter| topic::overlap(&filter.text, requested)))
    }
}

impl PacketKind {
    /// A stable name for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Will => "will",
            Self::Delivery => "delivery",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Rule {
        let (config, mut mistakes) = filter_config::read::<crate::config::Config>(
            format!(r#"{{"rules": [{json}]}}"#).as_bytes(),
        );
        let config = config.rules.into_iter().next().expect("one rule");
        let rule = Rule::compile(config, "rules[0]", &mut mistakes);
        assert_eq!(mistakes.into_list(), []);
        rule
    }

    #[test]
    fn a_rule_matches_what_it_names_and_nothing_else() {
        let rule = rule(
            r#"{"topic_filters": ["a/#", "b"], "qos": [1], "retain": false, "username_prefix": "u",
                "client_id_prefix": "c", "carry": "check"}"#,
        );
        assert!(rule.concerns(PacketKind::Publish, "c1", Some("u1")));
        assert!(rule.concerns(PacketKind::Will, "c1", Some("u1")));
        assert!(!rule.concerns(PacketKind::Subscribe, "c1", Some("u1")));
        assert!(!rule.concerns(PacketKind::Publish, "c1", None));
        assert!(!rule.concerns(PacketKind::Publish, "d", Some("u1")));
        assert!(rule.matches("a/x", QoS::AtLeastOnce, false));
        assert!(!rule.matches("a/x", QoS::AtMostOnce, false));
        assert!(!rule.matches("a/x", QoS::AtLeastOnce, true));
        assert!(!rule.matches("c", QoS::AtLeastOnce, false));
        assert!(rule.credentials);
    }

    #[test]
    fn the_part_before_a_wildcard_excludes_nothing_that_matches() {
        for (filter, topic) in [
            ("a/#", "a"),
            ("a/#", "a/b"),
            ("#", "a"),
            ("+", "a"),
            ("a", "a"),
            ("/+", "/a"),
            ("a//#", "a//b"),
        ] {
            assert!(Filter::new(filter.to_owned()).matches(topic), "{filter} {topic}");
        }
        for (filter, topic) in
            [("a/#", "ab"), ("a", "ab"), ("/+", "a"), ("a/+", "a"), ("#", "$SYS")]
        {
            assert!(!Filter::new(filter.to_owned()).matches(topic), "{filter} {topic}");
        }
    }

    #[test]
    fn a_subscription_cannot_get_around_a_rule_with_a_wider_filter() {
        let rule = rule(
            r#"{"packets": ["subscribe"], "topic_filters": ["secret/+/x"], "carry": "check"}"#,
        );
        for filter in ["secret/1/x", "#", "+/1/x", "secret/#", "secret/+/+"] {
            assert!(rule.matches_filter(filter, QoS::AtMostOnce), "{filter}");
        }
        for filter in ["public/#", "secret", "secret/1/y", "+/+"] {
            assert!(!rule.matches_filter(filter, QoS::AtMostOnce), "{filter}");
        }
    }
}
