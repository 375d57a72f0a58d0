//! Messages as requests, and what the answers mean.

use std::fmt::Write;

use bridge::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use codec_mqtt::{Properties, QoS, ReasonCode};

use crate::http::{CLIENT_ID, USERNAME};
use crate::rules::{Carry, Rule};

const QOS: HeaderName = HeaderName::from_static("x-mqtt-qos");
const RETAIN: HeaderName = HeaderName::from_static("x-mqtt-retain");
const DUP: HeaderName = HeaderName::from_static("x-mqtt-dup");
const DIRECTION: HeaderName = HeaderName::from_static("x-mqtt-direction");
const SHARE_NAME: HeaderName = HeaderName::from_static("x-mqtt-share-name");

/// The longest path; together with the other headers it fits Envoy's default of 60 KiB.
const MAX_PATH: usize = 32 << 10;
/// The longest value that is taken over from a message into a header.
const MAX_VALUE: usize = 4 << 10;

/// What the requests for a session's messages have in common.
#[derive(Debug)]
pub(crate) struct Identity {
    authority: String,
    headers: HeaderMap,
    authorization: Option<HeaderValue>,
    /// Client Identifier, percent-encoded.
    pub(crate) client_id: String,
}

/// The parts of a PUBLISH that its request shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) topic: &'a str,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) properties: Properties<'a>,
}

/// The topic cannot be a path that every HTTP server reads alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoPath;

impl Identity {
    /// That of the session that was opened with this request.
    pub(crate) fn of(session: &Request<()>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("x-protocol", HeaderValue::from_static("mqtt"));
        for name in [CLIENT_ID, USERNAME] {
            if let Some(value) = session.headers().get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let client_id = headers.get(CLIENT_ID).and_then(|value| value.to_str().ok());
        Self {
            authority: session.uri().authority().map(ToString::to_string).unwrap_or_default(),
            client_id: client_id.unwrap_or_default().to_owned(),
            headers,
            authorization: session.headers().get("authorization").cloned(),
        }
    }

    /// The source of its events, as CloudEvents 1.0 wants it: a URI-reference.
    pub(crate) fn source(&self) -> String {
        format!("mqtt://{}/{}", self.authority, self.client_id)
    }

    /// The request for a PUBLISH of the client, or for its will message.
    pub(crate) fn publish(
        &self,
        about: About<'_>,
        rule: &Rule,
        carry: Carry,
    ) -> Result<Request<()>, NoPath> {
        let mut request = self.request(Method::POST, about.topic, rule, carry)?;
        self.describe(&mut request, about, rule);
        Ok(request)
    }

    /// The request for a PUBLISH to the client.
    pub(crate) fn delivery(&self, about: About<'_>, rule: &Rule) -> Result<Request<()>, NoPath> {
        let mut request = self.request(Method::GET, about.topic, rule, Carry::Check)?;
        request.headers_mut().insert(DIRECTION, HeaderValue::from_static("to-client"));
        self.describe(&mut request, about, rule);
        Ok(request)
    }

    /// The request for one topic filter of a SUBSCRIBE.
    pub(crate) fn subscribe(
        &self,
        filter: &str,
        share_name: Option<&str>,
        qos: QoS,
        properties: Properties<'_>,
        rule: &Rule,
    ) -> Result<Request<()>, NoPath> {
        let mut request = self.request(Method::GET, filter, rule, Carry::Check)?;
        let headers = request.headers_mut();
        headers.insert(QOS, HeaderValue::from(qos as u16));
        if let Some(share_name) = share_name {
            insert_text(headers, SHARE_NAME, share_name);
        }
        user_properties(headers, properties, rule);
        Ok(request)
    }

    fn request(
        &self,
        method: Method,
        topic: &str,
        rule: &Rule,
        carry: Carry,
    ) -> Result<Request<()>, NoPath> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(path(topic)?)
            .build()
            .map_err(|_| NoPath)?;
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        let carry = if carry == Carry::Request { "request" } else { "check" };
        request.headers_mut().insert("x-carry", HeaderValue::from_static(carry));
        if rule.credentials
            && let Some(authorization) = &self.authorization
        {
            request.headers_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }

    fn describe(&self, request: &mut Request<()>, about: About<'_>, rule: &Rule) {
        let flag = |set| HeaderValue::from_static(if set { "true" } else { "false" });
        let headers = request.headers_mut();
        headers.insert(QOS, HeaderValue::from(about.qos as u16));
        headers.insert(RETAIN, flag(about.retain));
        headers.insert(DUP, flag(about.dup));
        headers.insert("content-type", content_type(about.properties));
        trace_context(headers, about.properties);
        user_properties(headers, about.properties, rule);
    }
}

/// The path of a topic name or topic filter: its levels are the segments. All but the unreserved
/// characters of RFC 3986 §2.3 are percent-encoded.
///
/// There is none for a topic with a level `.` or `..`: whoever normalizes the path would see
/// another topic than the broker does.
fn path(topic: &str) -> Result<String, NoPath> {
    let mut path = String::with_capacity(topic.len() + 1);
    for level in topic.split('/') {
        if matches!(level, "." | "..") {
            return Err(NoPath);
        }
        path.push('/');
        for byte in level.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                path.push(char::from(byte));
            } else {
                // Writing to a string does not fail.
                let _ = write!(path, "%{byte:02X}");
            }
        }
        if path.len() > MAX_PATH {
            return Err(NoPath);
        }
    }
    Ok(path)
}

/// The Content Type of a message as a header's value.
pub(crate) fn content_type(properties: Properties<'_>) -> HeaderValue {
    properties
        .content_type()
        .filter(|text| text.bytes().all(|b| b.is_ascii_graphic() || b == b' '))
        .filter(|text| !text.trim().is_empty() && text.len() <= MAX_VALUE)
        .and_then(|text| HeaderValue::try_from(text.trim()).ok())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Lets the device's trace go on (W3C Trace Context for MQTT: the user properties of these names).
fn trace_context(headers: &mut HeaderMap, properties: Properties<'_>) {
    let is_parent = |text: &str| {
        text.len() == 55 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
    };
    let Some(parent) = properties.user_property("traceparent").filter(|text| is_parent(text))
    else {
        return;
    };
    let Ok(parent) = HeaderValue::try_from(parent) else { return };
    headers.insert("traceparent", parent);
    // White space around a value is malformed in HTTP/2 (RFC 9113 §8.2.1): the request would be reset.
    if let Some(state) = properties.user_property("tracestate").map(str::trim)
        && (1..=512).contains(&state.len())
        && state.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        && let Ok(state) = HeaderValue::try_from(state)
    {
        headers.insert("tracestate", state);
    }
}

fn user_properties(headers: &mut HeaderMap, properties: Properties<'_>, rule: &Rule) {
    for (name, header) in &rule.user_properties {
        if let Some(value) = properties.user_property(name) {
            insert_text(headers, header.clone(), value);
        }
    }
}

/// Adds a header whose value is any text, unless it is too long.
fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if text.len() <= MAX_VALUE
        && let Ok(value) = HeaderValue::try_from(bridge::text::encode(text))
    {
        headers.insert(name, value);
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may go on, or was taken.
    Allowed,
    /// It was refused, for good.
    Refused(ReasonCode),
    /// Nobody could say; it may be tried again.
    Failed,
}

impl Verdict {
    /// The one table from HTTP status to the reason codes of PUBACK, PUBREC and SUBACK.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Allowed,
            400 => Self::Refused(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR),
            401 | 403 => Self::Refused(ReasonCode::NOT_AUTHORIZED),
            404 => Self::Refused(ReasonCode::TOPIC_NAME_INVALID),
            413 | 429 | 431 => Self::Refused(ReasonCode::QUOTA_EXCEEDED),
            402..=499 => Self::Refused(ReasonCode::UNSPECIFIED_ERROR),
            _ => Self::Failed,
        }
    }

    /// A stable name for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused(_) => "refused",
            Self::Failed => "failed",
        }
    }

    /// What SUBACK says of it, where it is not allowed (MQTT 5.0 §3.9.3).
    pub(crate) fn suback(self) -> ReasonCode {
        match self {
            Self::Refused(ReasonCode::TOPIC_NAME_INVALID) => ReasonCode::TOPIC_FILTER_INVALID,
            Self::Refused(code) => code,
            Self::Allowed | Self::Failed => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        }
    }
}

impl From<NoPath> for Verdict {
    fn from(NoPath: NoPath) -> Self {
        Self::Refused(ReasonCode::TOPIC_NAME_INVALID)
    }
}

#[cfg(test)]
mod tests {
    use codec_mqtt::Property;

    use super::*;

    #[test]
    fn a_topic_is_one_path() {
        for (topic, expected) in [
            ("a/b", "/a/b"),
            ("/a", "//a"),
            ("a//b/", "/a//b/"),
            ("a b?c#d%e;f", "/a%20b%3Fc%23d%25e%3Bf"),
            ("+/#", "/%2B/%23"),
            ("\u{fc}\\", "/%C3%BC%5C"),
            ("$SYS/x.y/...", "/%24SYS/x.y/..."),
        ] {
            assert_eq!(path(topic).as_deref(), Ok(expected), "{topic}");
        }
    }

    #[test]
    fn a_path_that_could_be_read_as_another_one_does_not_exist() {
        for topic in ["secret/../public", "..", "a/.", "./a"] {
            assert_eq!(path(topic), Err(NoPath), "{topic}");
        }
        assert_eq!(path(&"\u{fc}".repeat(6000)), Err(NoPath));
    }

    #[test]
    fn only_a_trace_context_that_is_one_goes_on() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = |parent, state| {
            let properties = [
                Property::UserProperty("traceparent", parent),
                Property::UserProperty("tracestate", state),
            ];
            let mut headers = HeaderMap::new();
            trace_context(&mut headers, Properties::from(&properties));
            headers
        };
        assert_eq!(headers(parent, "a=b").get("traceparent").unwrap(), parent);
        assert_eq!(headers(parent, "a=b").get("tracestate").unwrap(), "a=b");
        assert_eq!(headers(parent, "a\r\nx: y").len(), 1);
        assert_eq!(headers("00-x", "a=b").len(), 0);
    }

    #[test]
    fn a_content_type_is_a_legal_value_or_none() {
        let value = |text| content_type(Properties::from(&[Property::ContentType(text)]));
        assert_eq!(value("text/plain; charset=utf-8"), "text/plain; charset=utf-8");
        for bad in ["", " ", "a\tb", "\u{fc}"] {
            assert_eq!(value(bad), "application/octet-stream", "{bad:?}");
        }
    }
}
