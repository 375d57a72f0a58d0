//! Server-sent events (HTML Standard §9.2).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use codec_coap::ContentFormat;

/// A notification as an event.
pub(crate) fn notification(
    sequence: Option<u32>,
    format: Option<ContentFormat>,
    payload: &[u8],
) -> Bytes {
    let mut event = String::with_capacity(32 + payload.len() + payload.len() / 2);
    if let Some(sequence) = sequence {
        event.push_str("id: ");
        event.push_str(&sequence.to_string());
        event.push('\n');
    }
    match str::from_utf8(payload) {
        Ok(text) if format.is_some_and(coap_http::format::is_text) => lines(text, &mut event),
        _ => lines(&BASE64_STANDARD.encode(payload), &mut event),
    }
    event.push('\n');
    Bytes::from(event)
}

/// The end of an observation.
pub(crate) fn error(reason: &str) -> Bytes {
    let mut event = String::from("event: error\n");
    lines(reason, &mut event);
    event.push('\n');
    Bytes::from(event)
}

/// Every line of a text as a field; nothing in it can begin another field or end the event.
fn lines(text: &str, event: &mut String) {
    let mut rest = text;
    loop {
        let end = rest.find(['\n', '\r']);
        event.push_str("data: ");
        event.push_str(end.and_then(|end| rest.get(..end)).unwrap_or(rest));
        event.push('\n');
        let Some(after) = end.and_then(|end| rest.get(end..)) else { return };
        rest = after.strip_prefix("\r\n").or_else(|| after.get(1..)).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sequence: Option<u32>, format: u16, payload: &[u8]) -> String {
        let event = notification(sequence, Some(ContentFormat(format)), payload);
        String::from_utf8(event.to_vec()).unwrap()
    }

    #[test]
    fn text_is_sent_as_lines_and_everything_else_in_base64() {
        assert_eq!(text(Some(7), 0, b"21.5"), "id: 7\ndata: 21.5\n\n");
        assert_eq!(text(None, 50, b"{\n}"), "data: {\ndata: }\n\n");
        assert_eq!(text(None, 42, b"\x00\xff"), "data: AP8=\n\n");
        assert_eq!(text(None, 0, b"\xff"), "data: /w==\n\n");
        assert_eq!(text(None, 0, b""), "data: \n\n");
        assert_eq!(notification(None, None, b"a"), "data: YQ==\n\n");
    }

    #[test]
    fn a_payload_cannot_forge_a_field_or_an_event() {
        let forged = b"a\r\rb\n\nevent: x\r\nid: 1\ndata: y\n";
        let event = text(Some(1), 0, forged);
        let fields = [
            "id: 1",
            "data: a",
            "data: ",
            "data: b",
            "data: ",
            "data: event: x",
            "data: id: 1",
            "data: data: y",
            "data: ",
            "",
            "",
        ];
        assert!(event.split('\n').eq(fields), "{event:?}");
        assert!(!event.contains('\r'));
    }
}
