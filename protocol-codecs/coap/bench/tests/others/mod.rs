//! A datagram as other implementations read it, and why they may read it otherwise. The test and the fuzz target
//! `differential` share it.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use coap_message_implementations::option_iteration::{OptItem, OptPayloadReader};
use codec_coap::{DecodeError, Message, OptionValue, decode};

/// A message: its version, type, code and ID, token, options and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    head: [u8; 4],
    token: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

/// Calls another crate: some panic for what is malformed.
fn quietly<T>(read: impl FnOnce() -> T) -> Option<T> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(read));
    set_hook(hook);
    result.ok()
}

/// What we read.
fn ours(octets: &[u8], message: &Message<'_>) -> Content {
    let options = message.options.iter().map(|option| {
        let value = match option.value {
            OptionValue::Empty => Vec::new(),
            OptionValue::Uint(value) => trimmed(&value.to_be_bytes()),
            OptionValue::String(text) => text.as_bytes().to_vec(),
            OptionValue::Opaque(octets) => octets.to_vec(),
        };
        (option.number.0, value)
    });
    Content {
        head: [octets[0], message.code.0, octets[2], octets[3]],
        token: message.token.to_vec(),
        options: options.collect(),
        payload: message.payload.to_vec(),
    }
}

fn trimmed(octets: &[u8]) -> Vec<u8> {
    octets.iter().copied().skip_while(|octet| *octet == 0).collect()
}

/// Whether both read the same. Numbers are compared by value: a receiver has to take leading zeros (RFC 7252 §3.2).
fn is_same(message: &Message<'_>, ours: &Content, theirs: &Content) -> bool {
    let is_number = |option| matches!(option, Some(OptionValue::Uint(_) | OptionValue::Empty));
    let numbers = message.options.iter().map(|option| is_number(Some(option.value)));
    let options = theirs.options.iter().zip(numbers.chain(std::iter::repeat(false)));
    let options = options.map(|((number, value), is_number)| {
        (*number, if is_number { trimmed(value) } else { value.clone() })
    });
    *ours == Content { options: options.collect(), ..theirs.clone() }
}

/// `coap-lite`.
pub(crate) fn coap_lite(octets: &[u8]) -> Option<Content> {
    quietly(|| {
        let packet = coap_lite::Packet::from_bytes(octets).ok()?;
        let head = &packet.header;
        let options = packet.options().flat_map(|(number, values)| {
            values.iter().map(|value| (*number, value.clone())).collect::<Vec<_>>()
        });
        Some(Content {
            head: [
                head.get_version() << 6 | (head.get_type() as u8) << 4 | head.get_token_length(),
                head.code.into(),
                (head.message_id >> 8) as u8,
                head.message_id as u8,
            ],
            token: packet.get_token().to_vec(),
            options: options.collect(),
            payload: packet.payload.clone(),
        })
    })
    .flatten()
}

/// `coap-message-implementations`. It knows no header of UDP, which is taken apart for it.
pub(crate) fn reader(octets: &[u8]) -> Option<Content> {
    let head: [u8; 4] = *octets.first_chunk()?;
    let len = usize::from(head[0] & 15);
    if head[0] >> 6 != 1 || len > 8 {
        return None;
    }
    let (token, tail) = octets[4..].split_at_checked(len)?;
    quietly(|| {
        let (mut options, mut payload) = (Vec::new(), Vec::new());
        for item in OptPayloadReader::new(tail) {
            match item {
                OptItem::Option { number, data } => options.push((number, data.to_vec())),
                OptItem::Payload(octets) => payload = octets.to_vec(),
                OptItem::Error(_) => return None,
            }
        }
        Some(Content { head, token: token.to_vec(), options, payload })
    })
    .flatten()
}

/// Why what we refuse is taken by others. Each has the section of the standard that says what we do.
pub(crate) fn why_refused(error: DecodeError) -> Option<&'static str> {
    Some(match error {
        DecodeError::ReservedCodeClass(_) => "they do not look at codes (RFC 7252 §4.2, §12.1)",
        DecodeError::EmptyMessageWithContent | DecodeError::EmptyNonConfirmable => {
            "they do not look at empty messages (RFC 7252 §4.1, §4.3)"
        }
        DecodeError::RequestInAcknowledgement(_) | DecodeError::ResetNotEmpty(_) => {
            "they do not look at the type with the code (RFC 7252 §4.2)"
        }
        DecodeError::PayloadMarkerWithoutPayload => {
            "they take no payload for an empty one (RFC 7252 §3)"
        }
        DecodeError::OptionLength { .. }
        | DecodeError::RepeatedOption(_)
        | DecodeError::InvalidUtf8 { .. }
        | DecodeError::DotSegment(_)
        | DecodeError::ReservedBlockSize(_)
        | DecodeError::HopLimitZero => {
            "they leave the values of options to their users (RFC 7252 §3.2, §5.4.3, §5.4.5, §5.10.1; RFC 7959 §2.2; RFC 8768 §3)"
        }
        // How a message is put together all have to see alike.
        _ => return None,
    })
}

/// What became of one input.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// So many of the others took what we took, and read the same.
    pub(crate) same: usize,
    /// So many refused what we refused.
    pub(crate) refused: usize,
    /// The reason for what is not the same.
    pub(crate) why: Option<&'static str>,
}

/// Compares what all say to one datagram.
///
/// # Panics
/// Where nothing explains a difference.
pub(crate) fn compare(octets: &[u8]) -> Outcome {
    let said = [("coap-lite", coap_lite(octets)), ("coap-message", reader(octets))];
    let taking = said.iter().filter(|(_, said)| said.is_some()).count();
    let mut outcome = Outcome::default();
    let text = || format!("{}: {said:?}", octets.escape_ascii());
    match decode(octets) {
        Ok(message) => {
            let ours = ours(octets, &message);
            assert!(taking > 0, "only we take {message:?} {}", text());
            for (who, theirs) in &said {
                let Some(theirs) = theirs else { continue };
                let is_same = is_same(&message, &ours, theirs);
                assert!(is_same, "{who} reads other than {ours:?} {}", text());
                outcome.same += 1;
            }
        }
        Err(error) => {
            outcome.refused = said.len() - taking;
            if taking == said.len() {
                outcome.why = why_refused(error);
                assert!(outcome.why.is_some(), "only we refuse, {error}: {}", text());
            }
        }
    }
    outcome
}
