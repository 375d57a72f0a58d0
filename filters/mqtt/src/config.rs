//! The filter's configuration: what the user writes, and what it compiles to.

use std::time::Duration;

use codec_mqtt::MAX_PACKET_SIZE;
use filter_config::{Mistake, Seconds, Whole};
use serde::Deserialize;

/// What the filter does with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
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

/// What becomes the `authorization` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
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

/// The configuration as the user writes it.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the filter does with sessions: `bridge` (default) or `observe`.
    pub mode: Mode,
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
    /// Which cluster `tcp_proxy` uses; the first rule that matches wins, and where none does, or
    /// the list is empty, `tcp_proxy` keeps its own. `observe` only.
    pub tcp_proxy_clusters: Vec<ClusterRule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            authority: "mqtt".to_owned(),
            authorization: Authorization::default(),
            connect_timeout: Seconds(Duration::from_secs(10)),
            max_connect_size: Whole(65_536),
            max_packet_size: Whole(MAX_PACKET_SIZE.into()),
            max_buffered_size: Whole(65_536),
            tcp_proxy_clusters: Vec::new(),
        }
    }
}

/// Sends some sessions to a cluster. Has exactly one of the two prefixes.
#[derive(Debug, Deserialize)]
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
    pub(crate) authority: String,
    pub(crate) authorization: Authorization,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_connect_size: usize,
    pub(crate) max_packet_size: u32,
    pub(crate) max_buffered_size: usize,
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
        if mistakes.is_empty() { Ok(settings) } else { Err(mistakes) }
    }

    fn compile(config: Config, mistakes: &mut Vec<Mistake>) -> Self {
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
        let mut size = |path: &str, Whole(size): Whole, least: u64| {
            let most = u64::from(MAX_PACKET_SIZE);
            if !(least..=most).contains(&size) {
                mistakes.push(Mistake::new(
                    path,
                    format!("must be from {least} to {most} octets (got {size})"),
                ));
            }
            u32::try_from(size).unwrap_or(MAX_PACKET_SIZE)
        };
        let max_connect_size = size("max_connect_size", config.max_connect_size, SMALLEST_CONNECT);
        let max_packet_size = size("max_packet_size", config.max_packet_size, SMALLEST_CONNECT);
        let max_buffered_size =
            size("max_buffered_size", config.max_buffered_size, SMALLEST_CONNECT);
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
            authority,
            authorization: config.authorization,
            connect_timeout,
            max_connect_size: max_connect_size as usize,
            max_packet_size,
            max_buffered_size: max_buffered_size as usize,
            clusters,
        }
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
                "max_connect_size: must be from 14 to 268435460 octets (got 3)",
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
