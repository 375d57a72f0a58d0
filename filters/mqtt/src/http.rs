//! A session as an HTTP request, and an HTTP status as a CONNACK.
//!
//! | header | value |
//! |---|---|
//! | `:method`, `:path` | `POST`, `/` |
//! | `:authority` | the TLS server name, else as configured |
//! | `authorization` | `Basic` or `Bearer`, as configured |
//! | `x-protocol`, `x-carry` | `mqtt`, `flow` |
//! | `x-mqtt-client-id` | Client Identifier; absent where it is empty |
//! | `x-mqtt-username` | User Name; absent where the client sent none |
//! | `x-mqtt-version` | `3.1.1` or `5.0` |
//! | `x-mqtt-clean-start` | `true` or `false` |
//! | `x-mqtt-keep-alive` | Keep Alive, in seconds; 0 means none |
//! | `x-mqtt-will-topic` | Will Topic; absent without a will message |
//!
//! Text from the client is percent-encoded but for the visible ASCII characters other than `%` and
//! `,`, so that it is one legal header value whatever it contains.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bridge::text::{encode, is_host_name};
use bridge::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use codec_mqtt::{
    ConnAck, Connect, ConnectCode, ConnectReturnCode, Properties, Property, ReasonCode, Version,
};

use crate::config::{Authorization, Settings};

pub(crate) const CLIENT_ID: HeaderName = HeaderName::from_static("x-mqtt-client-id");
pub(crate) const USERNAME: HeaderName = HeaderName::from_static("x-mqtt-username");
const VERSION: HeaderName = HeaderName::from_static("x-mqtt-version");
const CLEAN_START: HeaderName = HeaderName::from_static("x-mqtt-clean-start");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("x-mqtt-keep-alive");
const WILL_TOPIC: HeaderName = HeaderName::from_static("x-mqtt-will-topic");

/// The request that a session is carried by.
pub(crate) fn request(
    connect: &Connect<'_>,
    settings: &Settings,
    server_name: Option<String>,
) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = server_name
        .filter(|name| is_host_name(name))
        .and_then(|name| uri(&name))
        .or_else(|| uri(&settings.authority))
        .unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert("x-protocol", HeaderValue::from_static("mqtt"));
    headers.insert("x-carry", HeaderValue::from_static("flow"));
    if let Some(credentials) = credentials(connect, settings.authorization) {
        headers.insert("authorization", credentials);
    }
    let mut text = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::try_from(encode(text)) {
            headers.insert(name, value);
        }
    };
    if !connect.client_id.is_empty() {
        text(CLIENT_ID, connect.client_id);
    }
    if let Some(username) = connect.username {
        text(USERNAME, username);
    }
    if let Some(will) = &connect.will {
        text(WILL_TOPIC, will.topic);
    }
    headers.insert(VERSION, HeaderValue::from_static(connect.version.label()));
    let clean_start = if connect.clean_start { "true" } else { "false" };
    headers.insert(CLEAN_START, HeaderValue::from_static(clean_start));
    headers.insert(KEEP_ALIVE, HeaderValue::from(connect.keep_alive));
    request
}

fn uri(authority: &str) -> Option<Uri> {
    Uri::builder().scheme("http").authority(authority).path_and_query("/").build().ok()
}

fn credentials(connect: &Connect<'_>, authorization: Authorization) -> Option<HeaderValue> {
    let value = match authorization {
        Authorization::None => return None,
        Authorization::Basic => {
            let username = connect.username?;
            // The first colon ends the user-id (RFC 7617 §2): with one in it, one user could pass
            // for another.
            if username.contains(':') {
                return None;
            }
            let mut pair = Vec::from(username.as_bytes());
            pair.push(b':');
            pair.extend_from_slice(connect.password.unwrap_or_default());
            format!("Basic {}", BASE64_STANDARD.encode(pair))
        }
        Authorization::Bearer => {
            let token = str::from_utf8(connect.password?).ok()?;
            let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
            if token.is_empty() || !token.bytes().all(is_token) {
                return None;
            }
            format!("Bearer {token}")
        }
    };
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Why a session was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The reason code of an MQTT 5.0 CONNACK.
    pub(crate) reason_code: ReasonCode,
    /// The return code of an MQTT 3.1.1 CONNACK; none where that version can only close.
    pub(crate) return_code: Option<ConnectReturnCode>,
    /// Another server to use, as Server Reference (MQTT 5.0 §4.11).
    pub(crate) server_reference: Option<String>,
    /// What to tell a human.
    pub(crate) reason: String,
}

impl Refusal {
    /// A refusal for a reason of MQTT's own.
    pub(crate) fn new(
        reason_code: ReasonCode,
        return_code: Option<ConnectReturnCode>,
        reason: &str,
    ) -> Self {
        Self { reason_code, return_code, server_reference: None, reason: reason.to_owned() }
    }

    /// The one table from HTTP status to MQTT.
    pub(crate) fn from_status(status: StatusCode, headers: &HeaderMap) -> Self {
        use ConnectReturnCode as V311;
        use ReasonCode as V5;
        let location = headers.get("location").and_then(server_reference);
        let unavailable = (V5::SERVER_UNAVAILABLE, Some(V311::SERVER_UNAVAILABLE));
        let (reason_code, return_code) = match status.as_u16() {
            301 | 308 if location.is_some() => (V5::SERVER_MOVED, Some(V311::SERVER_UNAVAILABLE)),
            300..=399 if location.is_some() => {
                (V5::USE_ANOTHER_SERVER, Some(V311::SERVER_UNAVAILABLE))
            }
            400 => (V5::PROTOCOL_ERROR, None),
            401 => (V5::BAD_USER_NAME_OR_PASSWORD, Some(V311::BAD_USER_NAME_OR_PASSWORD)),
            403 => (V5::NOT_AUTHORIZED, Some(V311::NOT_AUTHORIZED)),
            404 => (V5::TOPIC_NAME_INVALID, None),
            413 | 431 => (V5::PACKET_TOO_LARGE, None),
            429 => (V5::CONNECTION_RATE_EXCEEDED, Some(V311::SERVER_UNAVAILABLE)),
            402..=499 => (V5::UNSPECIFIED_ERROR, None),
            _ => unavailable,
        };
        let mut reason = status.as_str().to_owned();
        if let Some(phrase) = status.canonical_reason() {
            reason.push(' ');
            reason.push_str(phrase);
        }
        let redirects = matches!(reason_code, V5::SERVER_MOVED | V5::USE_ANOTHER_SERVER);
        let server_reference = location.filter(|_| redirects);
        Self { reason_code, return_code, server_reference, reason }
    }

    /// Adds what the response's content says, if a human can read it.
    pub(crate) fn explain(&mut self, content: &[u8]) {
        if let Ok(text) = str::from_utf8(content) {
            let text = text.trim();
            if !text.is_empty() && !text.chars().any(char::is_control) {
                self.reason.push_str(": ");
                self.reason.push_str(text);
            }
        }
    }

    /// The CONNACK that says so, no larger than the client accepts; none where the version has no
    /// word for it.
    pub(crate) fn connack(&self, version: Version, max_packet_size: u32) -> Option<Vec<u8>> {
        if version == Version::V311 {
            let connack = ConnAck {
                session_present: false,
                code: ConnectCode::V311(self.return_code?),
                properties: Properties::EMPTY,
            };
            return encoded(&connack, version, max_packet_size);
        }
        let mut properties = Vec::new();
        if let Some(server) = &self.server_reference {
            properties.push(Property::ServerReference(server));
        }
        properties.push(Property::ReasonString(&self.reason));
        // The properties are left out where they would exceed what the client accepts
        // (MQTT 5.0 §3.2.2.3.9).
        let mut connack = ConnAck {
            session_present: false,
            code: ConnectCode::V5(self.reason_code),
            properties: Properties::from(&*properties),
        };
        if let Some(octets) = encoded(&connack, version, max_packet_size) {
            return Some(octets);
        }
        connack.properties = Properties::EMPTY;
        encoded(&connack, version, max_packet_size)
    }

    /// A stable name for metrics.
    pub(crate) fn label(&self, version: Version) -> &'static str {
        match (version, self.return_code) {
            (Version::V5, _) => self.reason_code.label(),
            (Version::V311, Some(code)) => code.label(),
            (Version::V311, None) => "closed",
        }
    }
}

fn encoded(connack: &ConnAck<'_>, version: Version, max_packet_size: u32) -> Option<Vec<u8>> {
    let len = connack.encoded_len(version).ok()?;
    if len > max_packet_size as usize {
        return None;
    }
    let mut octets = vec![0; len];
    connack.encode(version, &mut octets).ok()?;
    Some(octets)
}

/// The host and port of a location, as Server Reference writes them.
fn server_reference(location: &HeaderValue) -> Option<String> {
    let location = location.to_str().ok()?;
    let after_scheme = location.split_once("://").map_or(location, |(_, rest)| rest);
    let host = after_scheme.split(['/', '?', '#']).next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Settings {
        Settings::read(json.as_bytes()).expect("valid")
    }

    fn connect() -> Connect<'static> {
        Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 60,
            client_id: "sensor-1",
            username: Some("joe"),
            password: Some(b"secret"),
            will: None,
            properties: Properties::EMPTY,
        }
    }

    fn header(request: &Request<()>, name: &str) -> Option<String> {
        request.headers().get(name).map(|value| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn connect_becomes_the_documented_request() {
        let request = request(&connect(), &settings("{}"), None);
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "http://mqtt/");
        let expected = [
            ("x-protocol", "mqtt"),
            ("x-carry", "flow"),
            ("authorization", "Basic am9lOnNlY3JldA=="),
            ("x-mqtt-client-id", "sensor-1"),
            ("x-mqtt-username", "joe"),
            ("x-mqtt-version", "5.0"),
            ("x-mqtt-clean-start", "true"),
            ("x-mqtt-keep-alive", "60"),
        ];
        for (name, value) in expected {
            assert_eq!(header(&request, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(request.headers().len(), expected.len());
    }

    #[test]
    fn the_server_name_is_the_authority_if_it_can_be_one() {
        let settings = settings(r#"{"authority": "broker.example:1883"}"#);
        let authority = |name: &str| {
            let request = request(&connect(), &settings, Some(name.to_owned()));
            request.uri().authority().expect("always one").to_string()
        };
        assert_eq!(authority("eu.example"), "eu.example");
        for no_name in ["", "a b", "a/b", "eu.example:80", "eu.example.", "x@eu.example", "\u{e9}"]
        {
            assert_eq!(authority(no_name), "broker.example:1883", "{no_name}");
        }
    }

    #[test]
    fn text_from_the_client_cannot_become_more_than_one_plain_value() {
        let connect = Connect {
            client_id: "a\r\nx-mqtt-username: admin",
            username: Some("ü,%\u{7f}"),
            ..connect()
        };
        let request = request(&connect, &settings("{}"), None);
        assert_eq!(
            header(&request, "x-mqtt-client-id").as_deref(),
            Some("a%0D%0Ax-mqtt-username:%20admin")
        );
        assert_eq!(header(&request, "x-mqtt-username").as_deref(), Some("%C3%BC%2C%25%7F"));
        assert_eq!(request.headers().get_all("x-mqtt-username").iter().count(), 1);
    }

    #[test]
    fn credentials_that_the_scheme_cannot_express_are_left_out() {
        let authorization = |json: &str, connect: &Connect<'_>| {
            header(&request(connect, &settings(json), None), "authorization")
        };
        let colon = Connect { username: Some("a:b"), ..connect() };
        assert_eq!(authorization("{}", &colon), None);
        let nobody = Connect { username: None, password: None, ..connect() };
        assert_eq!(authorization("{}", &nobody), None);
        let bearer = r#"{"authorization": "bearer"}"#;
        assert_eq!(authorization(bearer, &connect()).as_deref(), Some("Bearer secret"));
        let spaced = Connect { password: Some(b"a b"), ..connect() };
        assert_eq!(authorization(bearer, &spaced), None);
        assert_eq!(authorization(r#"{"authorization": "none"}"#, &connect()), None);
    }

    fn refusal(status: u16, location: Option<&'static str>) -> Refusal {
        let mut headers = HeaderMap::new();
        if let Some(location) = location {
            headers.insert("location", HeaderValue::from_static(location));
        }
        Refusal::from_status(StatusCode::from_u16(status).expect("valid"), &headers)
    }

    #[test]
    fn every_status_has_its_connack_in_both_versions() {
        for (status, location, v5, v311) in [
            (400, None, 0x82, None),
            (401, None, 0x86, Some(4)),
            (403, None, 0x87, Some(5)),
            (404, None, 0x90, None),
            (413, None, 0x95, None),
            (429, None, 0x9F, Some(3)),
            (418, None, 0x80, None),
            (302, Some("mqtt://other:1883/"), 0x9C, Some(3)),
            (301, Some("other"), 0x9D, Some(3)),
            (302, None, 0x88, Some(3)),
            (500, None, 0x88, Some(3)),
            (503, None, 0x88, Some(3)),
        ] {
            let refusal = refusal(status, location);
            let connack = refusal.connack(Version::V5, u32::MAX).expect("always one");
            assert_eq!(connack[3], v5, "{status}");
            let connack = refusal.connack(Version::V311, u32::MAX);
            assert_eq!(connack.map(|octets| octets[3]), v311, "{status}");
        }
    }

    #[test]
    fn a_redirect_names_the_other_server() {
        let refusal = refusal(307, Some("mqtts://eu.example:8883/path?x"));
        assert_eq!(refusal.server_reference.as_deref(), Some("eu.example:8883"));
        let connack = refusal.connack(Version::V5, u32::MAX).expect("one");
        let text = String::from_utf8_lossy(&connack);
        assert!(text.contains("eu.example:8883") && text.contains("307 Temporary Redirect"));
    }

    #[test]
    fn a_connack_is_no_larger_than_the_client_accepts() {
        let mut refusal = refusal(403, None);
        refusal.explain(b" RBAC: access denied\n");
        assert_eq!(refusal.reason, "403 Forbidden: RBAC: access denied");
        refusal.explain(b"\x1b[31m");
        refusal.explain(b"\xff");
        assert_eq!(refusal.reason, "403 Forbidden: RBAC: access denied");
        assert_eq!(refusal.connack(Version::V5, 10).expect("short"), [0x20, 3, 0, 0x87, 0]);
        assert_eq!(refusal.connack(Version::V5, 4), None);
    }
}
