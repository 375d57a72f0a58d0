//! Answers to checks and requests.

use bridge::{Ended, Response, StatusCode, StreamId};
use codec_mqtt::PacketType;

use super::{Cx, Entry, Messages, Passing};
use crate::check::Check;
use crate::config::Settings;
use crate::exchange::Exchange;
use crate::message::Verdict;
use crate::packets::Fault;
use crate::subscribe::Place;

impl Messages {
    /// A response arrived.
    pub(crate) fn handle_response(
        &mut self,
        cx: &mut Cx<'_>,
        stream: StreamId,
        response: &Response<()>,
    ) -> Result<(), Fault> {
        let status = response.status();
        if let Some(exchange) = self.exchanges.get_mut(&stream) {
            exchange.status = Some(status);
            if let Some(reply) = &mut exchange.reply
                && status.is_success()
            {
                reply.describe(response.headers());
            } else {
                self.settle(cx, stream, Some(status))?;
            }
            return Ok(());
        }
        self.decide(cx, stream, Verdict::from_status(status))
    }

    /// Content of a response arrived.
    pub(crate) fn handle_body(&mut self, settings: &Settings, stream: StreamId, body: &[u8]) {
        if let Some(Exchange { reply: Some(reply), .. }) = self.exchanges.get_mut(&stream) {
            reply.extend(body, settings.max_buffered_size);
        }
    }

    /// A response ended, or there will be none.
    pub(crate) fn handle_ended(
        &mut self,
        cx: &mut Cx<'_>,
        stream: StreamId,
        how: Ended,
    ) -> Result<(), Fault> {
        // Nothing more can be sent on it.
        match self.passing {
            Passing::ToExchange(to, left) if to == stream => self.passing = Passing::Discard(left),
            Passing::Content(to, _) if to == stream => self.passing = Passing::Nothing,
            _ => {}
        }
        // The next filter may end the stream before it has all of the content.
        cx.link.finish(stream);
        if let Some(exchange) = self.exchanges.get(&stream) {
            let status = exchange.status.filter(|_| how == Ended::Complete);
            self.settle(cx, stream, status)?;
        } else {
            self.decide(cx, stream, Verdict::Failed)?;
        }
        // There is room for one more stream.
        self.pump(cx)
    }

    /// An exchange came to its end.
    fn settle(
        &mut self,
        cx: &mut Cx<'_>,
        stream: StreamId,
        status: Option<StatusCode>,
    ) -> Result<(), Fault> {
        let Some(exchange) = self.exchanges.remove(&stream) else { return Ok(()) };
        let verdict = status.map_or(Verdict::Failed, Verdict::from_status);
        cx.stats.request(verdict, cx.link.now().saturating_sub(exchange.asked));
        self.answer(cx, exchange.publication, verdict)?;
        if verdict == Verdict::Allowed
            && let Some(reply) = exchange.reply
        {
            let sent = reply
                .publish(cx.version())
                .is_some_and(|octets| cx.reply_octets(PacketType::PUBLISH, octets));
            cx.stats.reply(sent);
        }
        Ok(())
    }

    /// A check was answered.
    fn decide(&mut self, cx: &mut Cx<'_>, stream: StreamId, verdict: Verdict) -> Result<(), Fault> {
        let now = cx.link.now();
        let Some(check) = self.check(stream).filter(|check| check.verdict.is_none()) else {
            return Ok(());
        };
        check.verdict = Some(verdict);
        let (kind, asked, cache) = (check.kind, check.asked, check.cache);
        let key = std::mem::take(&mut check.key);
        cx.stats.verdict(kind, verdict, false);
        cx.stats.check_took(now.saturating_sub(asked));
        // A failure is no answer.
        if !key.is_empty() && verdict != Verdict::Failed {
            self.verdicts.put(&key, verdict, now + cache);
        }
        self.pump(cx)
    }

    fn check(&mut self, stream: StreamId) -> Option<&mut Check> {
        let gate = self.gate.iter_mut();
        let delivery = self.delivery.iter_mut().filter_map(|delivery| delivery.check.as_mut());
        let outbox = self.outbox.iter_mut().flat_map(|entry| match entry {
            Entry::Ready(_) => Checks::None,
            Entry::Publish { check, .. } => Checks::One(Some(check)),
            Entry::Subscribe(pending) => Checks::Places(pending.places.iter_mut()),
        });
        gate.chain(delivery).chain(outbox).find(|check| check.stream == stream)
    }
}

/// The checks of one entry.
enum Checks<'a> {
    None,
    One(Option<&'a mut Check>),
    Places(std::slice::IterMut<'a, Place>),
}

impl<'a> Iterator for Checks<'a> {
    type Item = &'a mut Check;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::None => None,
            Self::One(check) => check.take(),
            Self::Places(places) => places.find_map(|place| match place {
                Place::Asked(check) => Some(check),
                _ => None,
            }),
        }
    }
}
