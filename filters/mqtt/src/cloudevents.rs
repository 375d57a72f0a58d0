//! Messages as CloudEvents 1.0 (HTTP protocol binding 1.0.2).

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bridge::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::message::{About, content_type};
use crate::rules::CloudEvents;

const SPEC_VERSION: &str = "1.0";
/// The type of an event that the message does not name itself.
const EVENT_TYPE: &str = "mqtt.publish";

/// A message as an event.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    /// Unique among the events of its source.
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) about: About<'a>,
}

/// The JSON event format 1.0.2.
#[derive(Serialize)]
struct Json<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    subject: &'a str,
    datacontenttype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

/// `io.cloudevents.v1.CloudEvent` of the Protobuf event format 1.0.2.
#[derive(Clone, PartialEq, Message)]
struct Protobuf {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    source: String,
    #[prost(string, tag = "3")]
    spec_version: String,
    #[prost(string, tag = "4")]
    event_type: String,
    #[prost(btree_map = "string, message", tag = "5")]
    attributes: std::collections::BTreeMap<String, Attribute>,
    #[prost(oneof = "Payload", tags = "6, 7")]
    data: Option<Payload>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(oneof = "AttributeValue", tags = "3")]
    attr: Option<AttributeValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum AttributeValue {
    #[prost(string, tag = "3")]
    CeString(String),
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Payload {
    #[prost(bytes, tag = "6")]
    BinaryData(Vec<u8>),
    #[prost(string, tag = "7")]
    TextData(String),
}

impl Event<'_> {
    /// Whether the message is an event already, by the MQTT protocol binding: in structured mode by
    /// its content type, in binary mode by its user properties.
    pub(crate) fn is_one_already(&self) -> bool {
        self.is_structured() || self.attribute("specversion") == Some(SPEC_VERSION)
    }

    fn is_structured(&self) -> bool {
        let content_type = self.about.properties.content_type().unwrap_or_default();
        content_type
            .get(..24)
            .is_some_and(|begin| begin.eq_ignore_ascii_case("application/cloudevents+"))
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.about.properties.user_property(name)
    }

    /// The event that the message is, unchanged.
    pub(crate) fn pass_on(&self, headers: &mut HeaderMap) {
        if self.is_structured() {
            return;
        }
        for (name, value) in self.about.properties.user_properties() {
            // Attribute names are lower-case letters and digits (CloudEvents 1.0 §3.1).
            let is_name = !name.is_empty()
                && name.len() <= 64
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            if is_name
                && value.len() <= 4096
                && let Ok(header) = HeaderName::try_from(format!("ce-{name}"))
                && !headers.contains_key(&header)
            {
                insert(headers, header, value);
            }
        }
    }

    /// Binary content mode: the payload is the content.
    pub(crate) fn binary(&self, headers: &mut HeaderMap) {
        for (name, value) in [
            ("ce-specversion", SPEC_VERSION),
            ("ce-id", &self.id),
            ("ce-source", &self.source),
            ("ce-type", EVENT_TYPE),
            ("ce-subject", self.about.topic),
        ] {
            insert(headers, HeaderName::from_static(name), value);
        }
    }

    /// Structured content mode: the content, and its content type.
    pub(crate) fn structured(
        &self,
        format: CloudEvents,
        payload: &[u8],
        headers: &mut HeaderMap,
    ) -> Vec<u8> {
        let (content, media_type) = match format {
            CloudEvents::Protobuf => (self.protobuf(payload), "application/cloudevents+protobuf"),
            _ => (self.json(payload), "application/cloudevents+json"),
        };
        headers.insert("content-type", HeaderValue::from_static(media_type));
        content
    }

    fn json(&self, payload: &[u8]) -> Vec<u8> {
        let value = content_type(self.about.properties);
        let datacontenttype = value.to_str().unwrap_or_default();
        let media_type = datacontenttype.split(';').next().unwrap_or_default().trim();
        let text = str::from_utf8(payload).ok();
        let data = if media_type.ends_with("/json") || media_type.ends_with("+json") {
            text.and_then(|text| serde_json::from_str(text).ok()).map(Data::Json)
        } else if media_type.starts_with("text/") {
            text.map(Data::Text)
        } else {
            None
        };
        let data_base64 = data.is_none().then(|| BASE64_STANDARD.encode(payload));
        let event = Json {
            specversion: SPEC_VERSION,
            id: &self.id,
            source: &self.source,
            event_type: EVENT_TYPE,
            subject: self.about.topic,
            datacontenttype,
            data,
            data_base64,
        };
        // Strings and numbers only: nothing that JSON cannot express.
        serde_json::to_vec(&event).unwrap_or_default()
    }

    fn protobuf(&self, payload: &[u8]) -> Vec<u8> {
        let value = content_type(self.about.properties);
        let datacontenttype = value.to_str().unwrap_or_default();
        let attribute = |name: &str, value: &str| {
            let attr = Some(AttributeValue::CeString(value.to_owned()));
            (name.to_owned(), Attribute { attr })
        };
        let text = str::from_utf8(payload).ok().filter(|_| datacontenttype.starts_with("text/"));
        let data = match text {
            Some(text) => Payload::TextData(text.to_owned()),
            None => Payload::BinaryData(payload.to_vec()),
        };
        Protobuf {
            id: self.id.clone(),
            source: self.source.clone(),
            spec_version: SPEC_VERSION.to_owned(),
            event_type: EVENT_TYPE.to_owned(),
            attributes: [
                attribute("subject", self.about.topic),
                attribute("datacontenttype", datacontenttype),
            ]
            .into(),
            data: Some(data),
        }
        .encode_to_vec()
    }
}

/// Percent-encodes as the HTTP binding says (§3.1.3.2): space, `"`, `%` and all but visible ASCII.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    if let Ok(value) = HeaderValue::try_from(encoded) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use codec_mqtt::{Properties, Property, QoS};

    use super::*;

    fn event<'a>(properties: &'a [Property<'a>]) -> Event<'a> {
        let about = About {
            topic: "a/\u{fc} \"",
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            properties: Properties::from(properties),
        };
        Event { id: "1".to_owned(), source: "mqtt://mqtt/c".to_owned(), about }
    }

    #[test]
    fn binary_mode_is_header_fields() {
        let mut headers = HeaderMap::new();
        event(&[]).binary(&mut headers);
        assert_eq!(headers.len(), 5);
        assert_eq!(headers.get("ce-subject").unwrap(), "a/%C3%BC%20%22");
        assert_eq!(headers.get("ce-type").unwrap(), "mqtt.publish");
    }

    #[test]
    fn the_json_format_holds_json_and_text_as_they_are_and_the_rest_as_base64() {
        for (content_type, payload, expected) in [
            ("application/json", &b"{\"t\": 1}"[..], r#""data":{"t": 1}"#),
            ("application/json", b"{\"t\": ", r#""data_base64":"eyJ0Ijog""#),
            ("text/plain", b"a\"b", r#""data":"a\"b""#),
            ("text/plain", b"\xff", r#""data_base64":"/w==""#),
            ("image/png", b"\x01", r#""data_base64":"AQ==""#),
        ] {
            let json = event(&[Property::ContentType(content_type)]).json(payload);
            let json = String::from_utf8(json).expect("JSON is UTF-8");
            assert!(json.contains(expected), "{json}");
            assert!(json.contains(r#""subject":"a/ü \"""#), "{json}");
        }
    }

    #[test]
    fn the_protobuf_format_has_the_fields_of_its_schema() {
        // By hand from `cloudevents.proto` 1.0.2: field number and wire type, length, content.
        let mut expected =
            b"\x0a\x011\x12\x0dmqtt://mqtt/c\x1a\x031.0\x22\x0cmqtt.publish".to_vec();
        expected.extend(b"\x2a\x1d\x0a\x0fdatacontenttype\x12\x0a\x1a\x08text/xml");
        expected.extend(b"\x2a\x13\x0a\x07subject\x12\x08\x1a\x06a/\xc3\xbc \"");
        let properties = [Property::ContentType("text/xml")];
        let text = [&expected[..], b"\x3a\x04<a/>"].concat();
        assert_eq!(event(&properties).protobuf(b"<a/>"), text);
        let binary = [&expected[..], b"\x32\x01\xff"].concat();
        assert_eq!(event(&properties).protobuf(b"\xff"), binary);
    }

    #[test]
    fn a_message_that_is_an_event_keeps_its_attributes() {
        let properties = [
            Property::UserProperty("specversion", "1.0"),
            Property::UserProperty("id", "e-1"),
            Property::UserProperty("id", "e-2"),
            Property::UserProperty("Not-An-Attribute", "x"),
        ];
        let event = event(&properties);
        assert!(event.is_one_already());
        let mut headers = HeaderMap::new();
        event.pass_on(&mut headers);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers.get("ce-id").unwrap(), "e-1");
    }
}
