//! The three filters.

use std::fmt;

use bridge::metrics::Registry;
use clap::ValueEnum;
use filter_config::Mistake;

/// A protocol that has a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Protocol {
    Mqtt,
    Coap,
    Dns,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Mqtt, Self::Coap, Self::Dns];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Coap => "coap",
            Self::Dns => "dns",
        }
    }

    /// As people write it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Mqtt => "MQTT",
            Self::Coap => "CoAP",
            Self::Dns => "DNS",
        }
    }

    /// The only one that a name has in it.
    pub(crate) fn named_in(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let mut named = Self::ALL.into_iter().filter(|protocol| text.contains(protocol.name()));
        named.next().filter(|_| named.next().is_none())
    }

    /// All mistakes in a configuration: what the filter itself would say.
    pub(crate) fn mistakes(self, json: &[u8]) -> Vec<Mistake> {
        let metrics = Registry::default();
        let mistakes = match self {
            Self::Mqtt => filter_mqtt::Filter::new(json, &metrics).err(),
            Self::Coap => filter_coap::Filter::new(json, &metrics).err(),
            Self::Dns => filter_dns::Filter::new(json, &metrics).err(),
        };
        mistakes.unwrap_or_default()
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
