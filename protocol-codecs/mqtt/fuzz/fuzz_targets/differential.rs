//! Beside other implementations: what only we take or only we refuse, and what is read differently, has an explanation.
//!
//! The first octet says how the input is made a packet: with a length that is right, as it stands, or built by our encoder and
//! then changed.
#![no_main]

use codec_mqtt::{
    Connect, Packet, Properties, Property, Publish, QoS, RetainHandling, Subscribe, Subscription,
    Subscriptions, Version, Will,
};
use libfuzzer_sys::fuzz_target;

#[path = "../../bench/tests/others/mod.rs"]
mod others;

struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn octet(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn octets(&mut self) -> &'a [u8] {
        let len = (self.octet() % 12).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn text(&mut self) -> &'a str {
        str::from_utf8(self.octets()).unwrap_or("a/b")
    }

    fn qos(&mut self) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][self.octet() % 3]
    }

    fn properties(&mut self) -> Vec<Property<'a>> {
        let number = |n: usize| n as u32;
        (0..self.octet() % 4)
            .map(|_| match self.octet() % 16 {
                0 => Property::PayloadFormatIndicator(self.octet() % 2 == 1),
                1 => Property::MessageExpiryInterval(number(self.octet())),
                2 => Property::ContentType(self.text()),
                3 => Property::ResponseTopic(self.text()),
                4 => Property::CorrelationData(self.octets()),
                5 => Property::SessionExpiryInterval(number(self.octet())),
                6 => Property::AuthenticationMethod(self.text()),
                7 => Property::AuthenticationData(self.octets()),
                8 => Property::RequestProblemInformation(self.octet() % 2 == 1),
                9 => Property::WillDelayInterval(number(self.octet())),
                10 => Property::TopicAliasMaximum(self.octet() as u16),
                11 => Property::ReasonString(self.text()),
                12 => Property::ServerReference(self.text()),
                13 => Property::ResponseInformation(self.text()),
                _ => Property::UserProperty(self.text(), self.text()),
            })
            .collect()
    }
}

/// A packet by our encoder, if it takes it.
fn built(choices: &mut Choices<'_>, version: Version) -> Option<Vec<u8>> {
    let properties = if version == Version::V5 { choices.properties() } else { Vec::new() };
    let properties = Properties::from(&*properties);
    let more = if version == Version::V5 { choices.properties() } else { Vec::new() };
    let filters: Vec<Subscription<'_>> = (0..choices.octet() % 4)
        .map(|_| Subscription {
            filter: choices.text(),
            qos: choices.qos(),
            no_local: version == Version::V5 && choices.octet() % 2 == 1,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        })
        .collect();
    let id = u16::try_from(choices.octet()).ok().and_then(|id| id.try_into().ok());
    let packet = match choices.octet() % 3 {
        0 => {
            let qos = choices.qos();
            Packet::Publish(Publish {
                dup: qos != QoS::AtMostOnce && choices.octet() % 2 == 1,
                qos,
                retain: choices.octet() % 2 == 1,
                topic: choices.text(),
                packet_id: id.filter(|_| qos != QoS::AtMostOnce),
                properties,
                payload: choices.octets(),
            })
        }
        1 => Packet::Subscribe(Subscribe {
            packet_id: id?,
            properties,
            subscriptions: Subscriptions::from(&*filters),
        }),
        _ => Packet::Connect(Connect {
            version,
            clean_start: choices.octet() % 2 == 1,
            keep_alive: choices.octet() as u16,
            client_id: choices.text(),
            username: (choices.octet() % 2 == 1).then(|| choices.text()),
            password: (choices.octet() % 2 == 1).then(|| choices.octets()),
            will: (choices.octet() % 2 == 1).then(|| Will {
                topic: choices.text(),
                payload: choices.octets(),
                qos: choices.qos(),
                retain: choices.octet() % 2 == 1,
                properties: Properties::from(&*more),
            }),
            properties,
        }),
    };
    let mut octets = vec![0; packet.encoded_len(version).ok()?];
    let len = packet.encode(version, &mut octets).ok()?;
    octets.truncate(len);
    Some(octets)
}

fuzz_target!(|input: &[u8]| {
    let Some((mode, octets)) = input.split_first() else { return };
    let version = if mode & 1 == 0 { Version::V311 } else { Version::V5 };
    let octets = match mode >> 1 & 3 {
        0 => octets.to_vec(),
        1 => {
            let Some((first, body)) = octets.split_first() else { return };
            if body.len() >= 1 << 14 {
                return;
            }
            let mut octets = vec![*first];
            match body.len() {
                len @ 0..128 => octets.push(len as u8),
                len => octets.extend([len as u8 & 0x7f | 0x80, (len >> 7) as u8]),
            }
            octets.extend(body);
            octets
        }
        _ => {
            let mut choices = Choices(octets);
            let changes = choices.octet() % 4;
            let Some(mut octets) = built(&mut choices, version) else { return };
            for _ in 0..changes {
                let at = choices.octet() % octets.len();
                octets[at] = choices.octet() as u8;
            }
            octets
        }
    };
    others::compare(&octets, version);
});
