//! SUBSCRIBE, filter by filter: some may be refused while the others reach the broker.

use std::borrow::Cow;
use std::num::NonZeroU16;

use bridge::Bytes;
use codec_mqtt::{
    Decoded, Packet, ReasonCode, ReasonCodes, SubAck, Subscribe, Subscription, Subscriptions,
    Version, decode,
};

use crate::check::Check;
use crate::message::Verdict;
use crate::packets::encoded;
use crate::prefix::Prefix;

/// A SUBSCRIBE whose topic filters are being decided about.
#[derive(Debug)]
pub(crate) struct Pending {
    octets: Bytes,
    /// One for each topic filter, in their order.
    pub(crate) places: Vec<Place>,
}

/// What is known about one topic filter.
#[derive(Debug)]
pub(crate) enum Place {
    /// The rule at this index says that it is to be checked.
    Unasked(u16),
    Asked(Check),
    Allowed,
    Refused(ReasonCode),
}

/// What a SUBSCRIBE that was decided about becomes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) packet_id: NonZeroU16,
    /// What the broker gets; nothing if no filter was allowed.
    pub(crate) to_broker: Option<Bytes>,
    /// The client's SUBACK, with gaps for the broker's codes; none if the broker's is the client's.
    pub(crate) codes: Option<Vec<Option<ReasonCode>>>,
}

impl From<Verdict> for Place {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allowed => Self::Allowed,
            _ => Self::Refused(verdict.suback()),
        }
    }
}

impl Place {
    pub(crate) fn is_decided(&self) -> bool {
        matches!(self, Self::Allowed | Self::Refused(_))
    }
}

impl Pending {
    pub(crate) fn new(octets: Bytes, places: Vec<Place>) -> Self {
        Self { octets, places }
    }

    pub(crate) fn len(&self) -> usize {
        self.octets.len()
    }

    /// The packet; it was validated before.
    pub(crate) fn packet(&self, version: Version) -> Option<Subscribe<'_>> {
        subscribe(&self.octets, version)
    }

    /// Whether every filter is decided about.
    pub(crate) fn is_decided(&self) -> bool {
        self.places.iter().all(Place::is_decided)
    }

    /// What it becomes once it is decided.
    pub(crate) fn decide(&self, version: Version, prefix: &Prefix) -> Option<Decided> {
        let packet = self.packet(version)?;
        let packet_id = packet.packet_id;
        let refused = |place: &Place| match place {
            Place::Refused(code) => Some(*code),
            _ => None,
        };
        let codes: Vec<_> = self.places.iter().map(refused).collect();
        let partly = codes.iter().any(Option::is_some);
        if !partly && prefix.is_empty() {
            let to_broker = Some(self.octets.clone());
            return Some(Decided { packet_id, to_broker, codes: None });
        }
        let allowed = packet.subscriptions.iter().zip(&codes);
        let allowed: Vec<(Cow<'_, str>, Subscription<'_>)> = allowed
            .filter(|(_, code)| code.is_none())
            .map(|(subscription, _)| (prefix.add_to_filter(subscription.filter), subscription))
            .collect();
        let subscriptions: Vec<_> = allowed
            .iter()
            .map(|(filter, subscription)| Subscription { filter, ..*subscription })
            .collect();
        let to_broker = if subscriptions.is_empty() {
            None
        } else {
            let subscriptions = Subscriptions::from(&*subscriptions);
            Some(
                encoded(&Packet::Subscribe(Subscribe { subscriptions, ..packet }), version)?.into(),
            )
        };
        Some(Decided { packet_id, to_broker, codes: partly.then_some(codes) })
    }
}

pub(crate) fn subscribe(octets: &[u8], version: Version) -> Option<Subscribe<'_>> {
    match decode(octets, version) {
        Ok(Decoded::Complete { packet: Packet::Subscribe(packet), .. }) => Some(packet),
        _ => None,
    }
}

/// The client's SUBACK: the broker's codes in the gaps, in their order.
pub(crate) fn merge(
    codes: &[Option<ReasonCode>],
    broker: &SubAck<'_>,
    version: Version,
) -> Option<Vec<u8>> {
    let mut theirs = broker.reason_codes.iter();
    let merged: Vec<u8> = codes
        .iter()
        .map(|code| match code {
            Some(code) => suback_code(*code, version),
            None => theirs.next().unwrap_or(ReasonCode::UNSPECIFIED_ERROR).0,
        })
        .collect();
    let reason_codes = ReasonCodes::new(&merged);
    encoded(&Packet::SubAck(SubAck { reason_codes, ..*broker }), version)
}

/// A SUBACK to which the broker contributes nothing.
pub(crate) fn refusal(decided: &Decided, version: Version) -> Option<Vec<u8>> {
    let nothing = SubAck {
        packet_id: decided.packet_id,
        properties: codec_mqtt::Properties::EMPTY,
        reason_codes: ReasonCodes::default(),
    };
    merge(decided.codes.as_deref()?, &nothing, version)
}

/// MQTT 3.1.1 knows only failure (§3.9.3 there).
fn suback_code(code: ReasonCode, version: Version) -> u8 {
    match version {
        Version::V311 => ReasonCode::UNSPECIFIED_ERROR.0,
        Version::V5 => code.0,
    }
}

#[cfg(test)]
mod tests {
    use codec_mqtt::{Properties, QoS};

    use super::*;

    fn pending(version: Version, places: Vec<Place>) -> Pending {
        let subscriptions = ["a", "b/#", "c"].map(|f| Subscription::new(f, QoS::AtLeastOnce));
        let packet = Subscribe {
            packet_id: NonZeroU16::new(7).expect("not 0"),
            properties: Properties::EMPTY,
            subscriptions: Subscriptions::from(&subscriptions),
        };
        let octets = encoded(&Packet::Subscribe(packet), version).expect("valid");
        Pending::new(octets.into(), places)
    }

    fn filters(octets: &[u8], version: Version) -> Vec<String> {
        let packet = subscribe(octets, version).expect("SUBSCRIBE");
        packet.subscriptions.iter().map(|s| s.filter.to_owned()).collect()
    }

    #[test]
    fn the_broker_gets_the_allowed_filters_and_the_client_a_code_in_each_place() {
        for (version, refused) in [(Version::V5, 0x87), (Version::V311, 0x80)] {
            let no = || Place::Refused(ReasonCode::NOT_AUTHORIZED);
            let pending = pending(version, vec![no(), Place::Allowed, no()]);
            assert!(pending.is_decided());
            let decided = pending.decide(version, &Prefix::default()).expect("decided");
            assert_eq!(filters(decided.to_broker.as_ref().expect("some"), version), ["b/#"]);
            let broker = SubAck {
                packet_id: decided.packet_id,
                properties: Properties::EMPTY,
                reason_codes: ReasonCodes::new(&[1]),
            };
            let merged = merge(decided.codes.as_deref().expect("codes"), &broker, version);
            assert!(merged.expect("encodes").ends_with(&[refused, 1, refused]));
        }
    }

    #[test]
    fn nothing_reaches_the_broker_if_nothing_is_allowed() {
        let no = || Place::Refused(ReasonCode::TOPIC_FILTER_INVALID);
        let pending = pending(Version::V5, vec![no(), no(), no()]);
        let decided = pending.decide(Version::V5, &Prefix::default()).expect("decided");
        assert_eq!(decided.to_broker, None);
        let suback = refusal(&decided, Version::V5).expect("encodes");
        assert_eq!(suback, [0x90, 6, 0, 7, 0, 0x8F, 0x8F, 0x8F]);
    }

    #[test]
    fn a_packet_that_is_allowed_whole_is_the_clients_own() {
        let yes = || Place::Allowed;
        let pending = pending(Version::V5, vec![yes(), yes(), yes()]);
        let decided = pending.decide(Version::V5, &Prefix::default()).expect("decided");
        assert_eq!((decided.to_broker, decided.codes), (Some(pending.octets.clone()), None));
    }
}
