//! A message taken as a request of its own.

use std::time::Duration;

use bridge::{HeaderMap, StatusCode};
use codec_mqtt::{Packet, Properties, Property, Publish, QoS, Version};

use crate::messages::Publication;
use crate::packets::encoded;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) publication: Publication,
    pub(crate) topic: Box<str>,
    /// When it was sent.
    pub(crate) asked: Duration,
    pub(crate) status: Option<StatusCode>,
    /// Where the response goes, if anywhere.
    pub(crate) reply: Option<Reply>,
}

/// A response to be published (MQTT 5.0 §4.10).
#[derive(Debug)]
pub(crate) struct Reply {
    topic: String,
    correlation_data: Option<Vec<u8>>,
    content_type: Option<String>,
    content: Vec<u8>,
    /// There was more content than may be held.
    too_large: bool,
}

impl Reply {
    /// A reply to a message with these properties; none if it names no Response Topic.
    pub(crate) fn to(properties: Properties<'_>) -> Option<Self> {
        let topic = properties.response_topic()?;
        Some(Self {
            topic: topic.to_owned(),
            correlation_data: properties.correlation_data().map(<[u8]>::to_vec),
            content_type: None,
            content: Vec::new(),
            too_large: false,
        })
    }

    /// What the response's header section says about the content.
    pub(crate) fn describe(&mut self, headers: &HeaderMap) {
        let content_type = headers.get("content-type").and_then(|value| value.to_str().ok());
        self.content_type = content_type.map(str::to_owned);
    }

    /// Adds content, as long as all of it is no more than so many octets.
    pub(crate) fn extend(&mut self, content: &[u8], most: usize) {
        if self.content.len() + content.len() > most {
            self.too_large = true;
            self.content = Vec::new();
        } else if !self.too_large {
            self.content.extend_from_slice(content);
        }
    }

    /// The PUBLISH; none if the content was too large.
    pub(crate) fn publish(&self, version: Version) -> Option<Vec<u8>> {
        if self.too_large {
            return None;
        }
        let mut properties = Vec::new();
        if let Some(data) = &self.correlation_data {
            properties.push(Property::CorrelationData(data));
        }
        if let Some(content_type) = &self.content_type {
            properties.push(Property::ContentType(content_type));
        }
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: &self.topic,
            // At QoS 0 there is none, and so it cannot collide with one of the broker's.
            packet_id: None,
            properties: Properties::from(&*properties),
            payload: &self.content,
        };
        encoded(&Packet::Publish(publish), version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_goes_to_the_response_topic_with_the_correlation_data() {
        let properties = [Property::ResponseTopic("r"), Property::CorrelationData(b"7")];
        let mut reply = Reply::to(Properties::from(&properties)).expect("a response topic");
        reply.extend(b"he", 4);
        reply.extend(b"y", 4);
        let octets = reply.publish(Version::V5).expect("fits");
        assert_eq!(octets, b"\x30\x0b\x00\x01r\x04\x09\x00\x017hey");
        reply.extend(b"xx", 4);
        assert_eq!(reply.publish(Version::V5), None);
        assert!(Reply::to(Properties::EMPTY).is_none());
    }
}
