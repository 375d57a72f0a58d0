//! Zones: what a query name belongs to.

use std::fmt::Write;

use codec_dns::{MAX_NAME_LEN, Name, NameBuf};
use filter_config::{Mistake, Mistakes};
use hashbrown::HashMap;
use http::uri::Authority;
use serde::Deserialize;

use crate::config::{Upstream, zone_name};

/// A zone that is routed by itself.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// Its name, such as `corp.example`: it has that name and all below it.
    pub zone: String,
    /// How its servers are asked: `same` (default), `udp` or `tcp`.
    #[serde(default)]
    pub upstream: Upstream,
    /// Whether its answers are cached, where there is a cache. Default true.
    #[serde(default = "yes")]
    pub cache: bool,
}

fn yes() -> bool {
    true
}

/// A zone as the filter uses it.
#[derive(Debug)]
pub(crate) struct Zone {
    name: NameBuf,
    /// The `:authority` of its flows.
    pub(crate) authority: Authority,
    /// For metrics.
    pub(crate) label: String,
    pub(crate) upstream: Upstream,
    pub(crate) cache: bool,
}

impl Zone {
    fn compile(config: &ZoneConfig, path: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let name = zone_name(&config.zone, path, mistakes)?;
        if name.as_name().is_root() {
            let what = "is the root: what is in no zone has `authority` and `upstream`";
            mistakes.push(Mistake::new(path, what));
            return None;
        }
        let label = host(name.as_name());
        // Encoded like that, any name is one.
        let authority = Authority::try_from(label.as_str()).ok()?;
        Some(Self { name, authority, label, upstream: config.upstream, cache: config.cache })
    }

    /// What is in no zone.
    pub(crate) fn rest(authority: Authority, upstream: Upstream) -> Self {
        let name = NameBuf::from(Name::ROOT);
        Self { name, authority, label: "other".to_owned(), upstream, cache: true }
    }
}

/// All zones; the last one is for names that are in none.
#[derive(Debug)]
pub(crate) struct Zones {
    zones: Vec<Zone>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// The most labels that a zone has.
    most_labels: usize,
}

impl Zones {
    pub(crate) fn compile(configs: &[ZoneConfig], rest: Zone, mistakes: &mut Mistakes) -> Self {
        let (mut zones, mut by_name) = (Vec::<Zone>::new(), HashMap::new());
        for (index, config) in configs.iter().enumerate() {
            let path = format!("zones[{index}].zone");
            let Some(zone) = Zone::compile(config, &path, mistakes) else { continue };
            let key = zone.name.as_wire().to_ascii_lowercase().into_boxed_slice();
            if by_name.insert(key, zones.len()).is_some() {
                let what = format!("is there twice (got {:?})", zone.label);
                mistakes.push(Mistake::new(path, what));
            }
            zones.push(zone);
        }
        let most_labels = zones.iter().map(|zone| zone.name.as_name().labels().count()).max();
        zones.push(rest);
        Self { zones, by_name, most_labels: most_labels.unwrap_or(0) }
    }

    /// The zone that a name is in, as an index.
    pub(crate) fn find(&self, name: Name<'_>) -> usize {
        let none = self.zones.len() - 1;
        if self.by_name.is_empty() {
            return none;
        }
        let mut wire = [0; MAX_NAME_LEN];
        let len = name.to_wire(&mut wire).len();
        let wire = wire.get_mut(..len).unwrap_or_default();
        wire.make_ascii_lowercase();
        let labels = name.labels().count();
        let mut rest = &*wire;
        for left in (1..=labels).rev() {
            if left <= self.most_labels
                && let Some(index) = self.by_name.get(rest)
            {
                return *index;
            }
            let label = rest.first().copied().map_or(0, usize::from);
            rest = rest.get(1 + label..).unwrap_or_default();
        }
        none
    }

    /// A zone by its index.
    pub(crate) fn get(&self, index: usize) -> Option<&Zone> {
        self.zones.get(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter()
    }
}

/// A name as a host (RFC 3986 §3.2.2): in lower case, without the dot at its end. Each octet that is not a
/// letter, a digit, a hyphen or an underscore becomes `=` and two hexadecimal digits, because hosts with `%` are
/// not taken by everybody. The root is a dot.
pub(crate) fn host(name: Name<'_>) -> String {
    let mut host = String::with_capacity(64);
    for label in name.labels() {
        if !host.is_empty() {
            host.push('.');
        }
        for &octet in label {
            if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_') {
                host.push(char::from(octet.to_ascii_lowercase()));
            } else {
                // Writing to a string does not fail.
                let _ = write!(host, "={octet:02X}");
            }
        }
    }
    if host.is_empty() {
        host.push('.');
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones(names: &[&str]) -> Zones {
        let mut mistakes = Mistakes::default();
        let config = |name: &&str| ZoneConfig {
            zone: (*name).to_owned(),
            upstream: Upstream::Same,
            cache: true,
        };
        let configs: Vec<_> = names.iter().map(config).collect();
        let rest = Zone::rest(Authority::from_static("dns"), Upstream::Same);
        let zones = Zones::compile(&configs, rest, &mut mistakes);
        assert!(mistakes.is_empty());
        zones
    }

    #[test]
    fn a_name_belongs_to_the_longest_zone_it_is_in() {
        let zones = zones(&["example", "Corp.Example", "a.b.corp.example"]);
        for (name, expected) in [
            ("example.", 0),
            ("www.EXAMPLE", 0),
            ("corp.example", 1),
            ("x.y.corp.example", 1),
            ("b.corp.example", 1),
            ("x.a.b.corp.example", 2),
            ("notexample", 3),
            ("corp.example.org", 3),
            (".", 3),
        ] {
            let name = NameBuf::from_text(name).expect("a name");
            assert_eq!(zones.find(name.as_name()), expected, "{}", name.as_name());
        }
        assert_eq!(zones.get(1).map(|zone| zone.authority.as_str()), Some("corp.example"));
    }

    #[test]
    fn any_name_is_one_host_and_no_other() {
        for (name, expected) in [
            ("WWW.example.", "www.example"),
            (".", "."),
            ("_dmarc.a-b.example", "_dmarc.a-b.example"),
            ("a\\.b.example", "a=2Eb.example"),
            ("a:80.\\@x.\\000\\255.%41.=41", "a=3A80.=40x.=00=FF.=2541.=3D41"),
        ] {
            let name = NameBuf::from_text(name).expect("a name");
            let host = host(name.as_name());
            assert_eq!(host, expected);
            let authority = Authority::try_from(host.as_str()).expect("an authority");
            assert_eq!((authority.host(), authority.port_u16()), (expected, None));
        }
    }
}
