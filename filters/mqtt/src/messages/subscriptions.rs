//! SUBSCRIBE on its way to the broker.

use bridge::{Bytes, OpenError};
use codec_mqtt::topic::{TopicFilter, TopicFilterError};
use codec_mqtt::{PacketType, QoS, ReasonCode, Version};

use super::{Cx, Entry, Messages, TOO_LARGE, UNAVAILABLE, first_match, levels, make_key};
use crate::check::Check;
use crate::config::Settings;
use crate::message::{About, NoPath, Verdict};
use crate::packets::Fault;
use crate::rules::{Carry, PacketKind};
use crate::subscribe::{self, Place};

/// A topic filter as rules see it. Brokers grant shared subscriptions to MQTT 3.1.1 clients too, so
/// `$share/` is no way around a rule in either version.
fn parse(filter: &str) -> Result<TopicFilter<'_>, TopicFilterError> {
    TopicFilter::new(filter, Version::V5)
}

impl Messages {
    /// What is to happen with one topic filter.
    pub(super) fn place(&self, settings: &Settings, filter: &str, qos: QoS) -> Place {
        let Ok(parsed) = parse(filter) else {
            return Place::Refused(ReasonCode::TOPIC_FILTER_INVALID);
        };
        if levels(parsed.filter()) > settings.max_topic_levels {
            return Place::Refused(ReasonCode::TOPIC_FILTER_INVALID);
        }
        let rule = first_match(settings, &self.subscribe_rules, |rule| {
            rule.matches_filter(parsed.filter(), qos)
        });
        match rule {
            Some((index, rule)) if rule.carry != Carry::Flow => Place::Unasked(index),
            _ => Place::Allowed,
        }
    }

    /// Asks about the topic filters of the SUBSCRIBE in front of the outbox. When all are decided
    /// about: what the broker gets, if anything.
    pub(super) fn pump_subscribe(
        &mut self,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Option<Bytes>>, Fault> {
        let version = cx.version();
        let Some(Entry::Subscribe(pending)) = self.outbox.front_mut() else { return Ok(None) };
        let size = pending.len();
        let mut places = std::mem::take(&mut pending.places);
        if let Some(packet) = pending.packet(version) {
            for (place, subscription) in places.iter_mut().zip(packet.subscriptions.iter()) {
                if let Place::Asked(Check { verdict: Some(verdict), .. }) = place {
                    *place = Place::from(*verdict);
                }
                let Place::Unasked(index) = place else { continue };
                let index = *index;
                let (Some(rule), Ok(filter)) =
                    (cx.settings.rule(index), parse(subscription.filter))
                else {
                    continue;
                };
                self.key.clear();
                if !rule.verdict_cache.is_zero() {
                    let about = About {
                        topic: subscription.filter,
                        qos: subscription.qos,
                        retain: false,
                        dup: false,
                        properties: packet.properties,
                    };
                    make_key(&mut self.key, PacketKind::Subscribe, index, about, rule);
                    if let Some(verdict) = self.verdicts.get(&self.key, cx.link.now()) {
                        cx.stats.verdict(PacketKind::Subscribe, verdict, true);
                        *place = Place::from(verdict);
                        continue;
                    }
                }
                let request = self.identity.subscribe(
                    filter.filter(),
                    filter.share_name(),
                    subscription.qos,
                    packet.properties,
                    rule,
                );
                let Ok(request) = request else {
                    *place = Place::from(Verdict::from(NoPath));
                    continue;
                };
                let (kind, key) = (PacketKind::Subscribe, self.key.clone());
                match Check::ask(cx.link, request, kind, key, rule.verdict_cache) {
                    Ok(check) => *place = Place::Asked(check),
                    // Again when one of those under way has ended.
                    Err(OpenError::TooManyStreams) => break,
                    Err(_) => return Err(UNAVAILABLE),
                }
            }
            if let Some(most) = cx.settings.max_subscriptions
                && places.iter().all(Place::is_decided)
            {
                for (place, subscription) in places.iter_mut().zip(packet.subscriptions.iter()) {
                    let filter = self.prefix.add_to_filter(subscription.filter);
                    if !matches!(place, Place::Allowed) || self.subscriptions.contains(&*filter) {
                    } else if self.subscriptions.len() < most {
                        self.subscriptions.insert(filter.into_owned());
                    } else {
                        cx.stats.limit("subscriptions", "reject");
                        *place = Place::Refused(ReasonCode::QUOTA_EXCEEDED);
                    }
                }
            }
        }
        pending.places = places;
        if !pending.is_decided() {
            return Ok(None);
        }
        let decided = pending.decide(version, &self.prefix).ok_or(TOO_LARGE)?;
        self.outbox_octets -= size;
        match &decided.to_broker {
            Some(octets) => {
                let len = octets.len();
                self.outbox_octets += len;
                self.check_size(len)?;
                if let Some(codes) = decided.codes {
                    self.subacks.insert(decided.packet_id, codes);
                }
            }
            None => {
                if let Some(suback) = subscribe::refusal(&decided, version) {
                    cx.reply_octets(PacketType::SUBACK, suback);
                }
            }
        }
        Ok(Some(decided.to_broker))
    }
}
