//! A packet as other implementations read it, and why they may read it otherwise. The test and the fuzz target
//! `differential` share it.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use bytes::BytesMut;
use codec_mqtt::{DecodeError, Decoded, Packet, ReasonCode, Version, decode};
use mqtt_protocol_core::mqtt::packet as core_packet;

/// What one of the others says to a complete packet.
#[derive(Debug)]
pub(crate) enum Said {
    /// It is no packet; or the other one panicked.
    Refuses,
    /// It is this packet, encoded by the other one.
    Takes(Vec<u8>),
    /// It is a packet, but what it wrote of it cannot be compared.
    TakesIt,
    /// It does not know this version or type.
    Silent,
}

/// Calls another crate: some panic for what is malformed.
fn quietly<T>(read: impl FnOnce() -> T) -> Option<T> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(read));
    set_hook(hook);
    result.ok()
}

/// `mqttbytes`, which `rumqttc` was made of.
pub(crate) fn mqttbytes(octets: &[u8], version: Version) -> Said {
    // There it prints each packet identifier.
    if version == Version::V5 && octets.first().is_some_and(|first| first >> 4 == 10) {
        return Said::Silent;
    }
    let read = || match version {
        Version::V311 => {
            use mqttbytes::v4::{Packet, read};
            let mut out = BytesMut::new();
            let packet = read(&mut BytesMut::from(octets), octets.len()).ok()?;
            let written = match packet {
                Packet::Connect(packet) => packet.write(&mut out),
                Packet::ConnAck(packet) => packet.write(&mut out),
                Packet::Publish(packet) => packet.write(&mut out),
                Packet::PubAck(packet) => packet.write(&mut out),
                Packet::PubRec(packet) => packet.write(&mut out),
                Packet::PubRel(packet) => packet.write(&mut out),
                Packet::PubComp(packet) => packet.write(&mut out),
                Packet::Subscribe(packet) => packet.write(&mut out),
                Packet::SubAck(packet) => packet.write(&mut out),
                Packet::Unsubscribe(packet) => packet.write(&mut out),
                Packet::UnsubAck(packet) => packet.write(&mut out),
                Packet::PingReq | Packet::PingResp | Packet::Disconnect => return Some(None),
            };
            Some(written.ok().map(|_| out.to_vec()))
        }
        // It puts the properties in an order of its own.
        Version::V5 => {
            mqttbytes::v5::read(&mut BytesMut::from(octets), octets.len()).ok().map(|_| None)
        }
    };
    match quietly(read).flatten() {
        None => Said::Refuses,
        Some(None) => Said::TakesIt,
        Some(Some(octets)) => Said::Takes(octets),
    }
}

/// `mqttrs`, which knows 3.1.1 alone.
pub(crate) fn mqttrs(octets: &[u8], version: Version) -> Said {
    if version == Version::V5 {
        return Said::Silent;
    }
    let read = || {
        let packet = mqttrs::decode_slice(octets).ok()??;
        let mut out = vec![0; octets.len() + 64];
        let len = mqttrs::encode_slice(&packet, &mut out).ok();
        Some(len.map(|len| out[..len].to_vec()))
    };
    match quietly(read).flatten() {
        None => Said::Refuses,
        Some(None) => Said::TakesIt,
        Some(Some(octets)) => Said::Takes(octets),
    }
}

/// `mqtt-protocol-core`. It is given what is behind the fixed header, and reads no flags but PUBLISH's.
pub(crate) fn core(octets: &[u8], version: Version) -> Said {
    let Ok(Decoded::Complete { packet: frame, .. }) = codec_mqtt::frame(octets, u32::MAX) else {
        return Said::Refuses;
    };
    let Some(body) = octets.get(frame.header_len..frame.len()) else { return Said::Refuses };
    macro_rules! parse {
        ($version:ident, publish) => {{
            let (packet, consumed) =
                core_packet::$version::Publish::parse(octets[0] & 15, body.into()).ok()?;
            (consumed == body.len()).then(|| packet.to_continuous_buffer())
        }};
        ($version:ident, $packet:ident) => {{
            let (packet, consumed) = core_packet::$version::$packet::parse(body).ok()?;
            (consumed == body.len()).then(|| packet.to_continuous_buffer())
        }};
    }
    let read = || match (octets[0] >> 4, version) {
        (1, Version::V311) => parse!(v3_1_1, Connect),
        (2, Version::V311) => parse!(v3_1_1, Connack),
        (3, Version::V311) => parse!(v3_1_1, publish),
        (4, Version::V311) => parse!(v3_1_1, Puback),
        (5, Version::V311) => parse!(v3_1_1, Pubrec),
        (6, Version::V311) => parse!(v3_1_1, Pubrel),
        (7, Version::V311) => parse!(v3_1_1, Pubcomp),
        (8, Version::V311) => parse!(v3_1_1, Subscribe),
        (9, Version::V311) => parse!(v3_1_1, Suback),
        (10, Version::V311) => parse!(v3_1_1, Unsubscribe),
        (11, Version::V311) => parse!(v3_1_1, Unsuback),
        (1, Version::V5) => parse!(v5_0, Connect),
        (2, Version::V5) => parse!(v5_0, Connack),
        (3, Version::V5) => parse!(v5_0, publish),
        (4, Version::V5) => parse!(v5_0, Puback),
        (5, Version::V5) => parse!(v5_0, Pubrec),
        (6, Version::V5) => parse!(v5_0, Pubrel),
        (7, Version::V5) => parse!(v5_0, Pubcomp),
        (8, Version::V5) => parse!(v5_0, Subscribe),
        (9, Version::V5) => parse!(v5_0, Suback),
        (10, Version::V5) => parse!(v5_0, Unsubscribe),
        (11, Version::V5) => parse!(v5_0, Unsuback),
        (14, Version::V5) => parse!(v5_0, Disconnect),
        (15, Version::V5) => parse!(v5_0, Auth),
        _ => None,
    };
    match (quietly(read).flatten(), octets[0] >> 4) {
        // Of these it looks at nothing.
        (_, 0 | 12..) if version == Version::V311 || octets[0] >> 4 < 14 => Said::Silent,
        (None, _) => Said::Refuses,
        (Some(octets), _) => Said::Takes(octets),
    }
}

/// Why what we refuse may be taken by others. Each has the section of the standard that says what we do.
pub(crate) fn why_refused(error: DecodeError) -> Option<&'static str> {
    Some(match error {
        DecodeError::NullCharacter => "they take U+0000 in strings (§1.5.4)",
        DecodeError::TopicName(_) => {
            "they leave topic names to their users: empty, with wildcards, with U+0000 (§3.3.2.1, §4.7)"
        }
        DecodeError::TopicFilter(_) => {
            "they leave topic filters to their users: empty, misplaced wildcards, U+0000, ShareName (§4.7, §4.8.2)"
        }
        DecodeError::TrailingBytes(_) => "they do not look behind the last field (§2.1.4)",
        DecodeError::PacketIdZero => "they take packet identifier 0 (§2.2.1)",
        DecodeError::VariableByteIntegerNotMinimal(_) => {
            "they take lengths in too many bytes (§1.5.5)"
        }
        DecodeError::ReservedFlags { .. } | DecodeError::DupWithQos0 => {
            "they do not look at flags of the fixed header (§2.1.3, §3.3.1.1)"
        }
        DecodeError::ReservedConnectFlag(_) | DecodeError::WillFlagsWithoutWill(_) => {
            "they do not look at all flags of CONNECT (§3.1.2.3, §3.1.2.6, §3.1.2.7)"
        }
        DecodeError::PasswordWithoutUserName | DecodeError::EmptyClientId => {
            "they leave that to the server (3.1.1 §3.1.2.9, §3.1.3.1)"
        }
        DecodeError::ReservedConnAckFlags(_) | DecodeError::SessionPresentOnError(_) => {
            "they look at one flag of CONNACK, without its code (§3.2.2.1)"
        }
        DecodeError::ReasonCodeNotAllowed { .. } => {
            "they take codes that belong in other packets (§2.4)"
        }
        DecodeError::PropertyNotAllowed { .. }
        | DecodeError::RepeatedProperty(_)
        | DecodeError::PropertyNotBoolean { .. }
        | DecodeError::ReceiveMaximumZero
        | DecodeError::MaximumPacketSizeZero
        | DecodeError::TopicAliasZero
        | DecodeError::SubscriptionIdentifierZero
        | DecodeError::AuthenticationDataWithoutMethod
        | DecodeError::AuthenticationMethodMissing => {
            "they take properties twice, with any value, or where they do not belong (§2.2.2.2, §3.1.2.11)"
        }
        DecodeError::TopicNameAndAliasMissing => "they take neither topic nor alias (§3.3.2.1)",
        DecodeError::EmptyPayload(_) => "they take a list without entries (§3.8.3, §3.10.3)",
        DecodeError::SubscriptionQos3(_)
        | DecodeError::RetainHandling3(_)
        | DecodeError::ReservedSubscriptionOptions(_)
        | DecodeError::NoLocalOnSharedSubscription => {
            "they do not look at all subscription options (§3.8.3.1)"
        }
        // How a packet is put together all have to see alike.
        _ => return None,
    })
}

/// Why what we take may be refused by others.
pub(crate) fn why_taken(packet: &Packet<'_>) -> Option<&'static str> {
    match packet {
        Packet::Disconnect(disconnect)
            if disconnect.reason_code == ReasonCode::BAD_AUTHENTICATION_METHOD =>
        {
            Some("they know the list of §3.14.2.1 alone; that of §2.4 has the code for DISCONNECT")
        }
        Packet::Connect(connect)
            if connect.version == Version::V5
                && connect.password.is_some()
                && connect.username.is_none() =>
        {
            Some("they ask for a user name with a password, which 5.0 does not (§3.1.2.9)")
        }
        _ => None,
    }
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

/// Compares what all say to one packet.
///
/// # Panics
/// Where nothing explains a difference.
pub(crate) fn compare(octets: &[u8], version: Version) -> Outcome {
    let mut outcome = Outcome::default();
    let decoded = match decode(octets, version) {
        Ok(Decoded::Incomplete { .. }) => return outcome,
        Ok(Decoded::Complete { packet, consumed }) if consumed == octets.len() => Ok(packet),
        // What is behind the packet is the next one.
        Ok(Decoded::Complete { .. }) => return outcome,
        Err(error) => Err(error),
    };
    // A CONNECT says its version itself.
    let version = match (&decoded, octets.windows(5).find(|name| name.starts_with(b"MQTT"))) {
        (Ok(Packet::Connect(connect)), _) => connect.version,
        (Err(_), Some([.., 5])) if octets[0] >> 4 == 1 => Version::V5,
        (Err(_), Some(_)) if octets[0] >> 4 == 1 => Version::V311,
        _ => version,
    };
    let said = [
        ("mqttbytes", mqttbytes(octets, version)),
        ("mqttrs", mqttrs(octets, version)),
        ("mqtt-protocol-core", core(octets, version)),
    ];
    let heard = || said.iter().filter(|(_, said)| !matches!(said, Said::Silent));
    let refusing = heard().filter(|(_, said)| matches!(said, Said::Refuses)).count();
    let taking = heard().count() - refusing;
    let text = || format!("{version:?} {}: {said:?}", octets.escape_ascii());
    match &decoded {
        Ok(packet) => {
            if refusing > 0 && taking == 0 {
                outcome.why = why_taken(packet);
                assert!(outcome.why.is_some(), "only we take {packet:?} {}", text());
            }
            let mut other = None;
            for (who, said) in &said {
                let Said::Takes(theirs) = said else { continue };
                match decode(theirs, version) {
                    Ok(Decoded::Complete { packet: again, .. }) if again == *packet => {
                        outcome.same += 1;
                    }
                    again => other = Some(format!("{who} reads {again:?}")),
                }
            }
            // One alone may lose something, as mqttbytes does with a user name that is empty.
            if let Some(other) = other {
                assert!(outcome.same > 0, "{other} {packet:?} {}", text());
            }
        }
        Err(error) => {
            outcome.refused = refusing;
            if taking > 0 && refusing == 0 {
                outcome.why = why_refused(*error);
                assert!(outcome.why.is_some(), "only we refuse, {error}: {}", text());
            }
        }
    }
    outcome
}
