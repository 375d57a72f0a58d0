//! What the filter says to a client by itself, and says again until it was heard.

use std::rc::Rc;
use std::time::Duration;

use bridge::{Bytes, Direction, Link, StreamId};
use coap_http::OptionSet;
use codec_coap::{
    CoapOption, Code, Header, Message, MessageType, OptionNumber, Options, TcpMessage,
};

use crate::config::Transport;
use crate::exchanges::Seen;
use crate::session::Session;
use crate::wire::{self, Incoming, Token};

/// Answers that wait for an acknowledgement, of one session.
const MAX_CONFIRMABLES: usize = 256;

/// Which request an answer is to.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) token: Token,
    pub(crate) method: Code,
    /// How it came over UDP.
    udp: Option<Datagram>,
    /// Its octets.
    size: usize,
    /// The classes of responses that the client wants none of (RFC 7967 §2).
    pub(crate) no_response: u8,
}

#[derive(Debug, Clone, Copy)]
struct Datagram {
    confirmable: bool,
    id: u16,
    /// An empty acknowledgement was sent: the response comes separately.
    acknowledged: bool,
}

impl Origin {
    pub(crate) fn of(message: &Incoming<'_>) -> Self {
        let udp = message.udp.map(|(message_type, id)| Datagram {
            confirmable: message_type == MessageType::Confirmable,
            id,
            acknowledged: false,
        });
        Self {
            token: Token::new(message.token),
            method: message.code,
            udp,
            size: message.size,
            no_response: message.options.no_response().unwrap_or_default(),
        }
    }

    /// That of a datagram whose rest is not a message; none if it has no token that could be echoed.
    pub(crate) fn of_header(header: Header, datagram: &[u8]) -> Option<Self> {
        let confirmable = header.message_type == MessageType::Confirmable;
        let udp = Datagram { confirmable, id: header.message_id, acknowledged: false };
        Some(Self {
            token: Token::new(header.token(datagram)?),
            method: header.code,
            udp: Some(udp),
            size: datagram.len(),
            no_response: 0,
        })
    }

    pub(crate) fn of_tcp(token: Token, method: Code) -> Self {
        Self { token, method, udp: None, size: 0, no_response: 0 }
    }

    /// Whether it only reads (RFC 7252 §5.1, RFC 8132 §2): it may be made twice.
    pub(crate) fn is_safe(&self) -> bool {
        matches!(self.method, Code::GET | Code::FETCH)
    }

    /// The message with this ID was acknowledged: if it is this one, the response comes separately.
    pub(crate) fn acknowledged(&mut self, id: u16) {
        if let Some(udp) = self.udp.as_mut().filter(|udp| udp.id == id) {
            udp.acknowledged = true;
        }
    }

    /// Whether it waits for an acknowledgement.
    pub(crate) fn waits(&self) -> bool {
        self.udp.is_some_and(|udp| udp.confirmable && !udp.acknowledged)
    }

    fn suppresses(&self, code: Code) -> bool {
        self.no_response & 1_u8.checked_shl(u32::from(code.class()) - 1).unwrap_or_default() != 0
    }
}

/// A confirmable message of ours that was not acknowledged (RFC 7252 §4.2).
#[derive(Debug)]
pub(crate) struct Confirmable {
    id: u16,
    capsule: Bytes,
    due: Duration,
    timeout: Duration,
    left: u32,
    /// The stream of events that it is a notification of.
    notifies: Option<StreamId>,
}

impl Confirmable {
    pub(crate) fn is_of(&self, stream: StreamId) -> bool {
        self.notifies == Some(stream)
    }
}

impl Session {
    /// Answers a request.
    pub(crate) fn respond(
        &mut self,
        link: &mut Link,
        origin: &Origin,
        code: Code,
        options: &OptionSet,
        payload: &[u8],
    ) {
        self.respond_to_observer(link, origin, (code, options, payload), None);
    }

    /// Answers a request, maybe with the first notification of a stream of events. Returns the type and
    /// the message ID of the answer, if it went out over UDP.
    pub(crate) fn respond_to_observer(
        &mut self,
        link: &mut Link,
        origin: &Origin,
        (code, options, payload): (Code, &OptionSet, &[u8]),
        notifies: Option<StreamId>,
    ) -> Option<(MessageType, u16)> {
        if origin.suppresses(code) {
            self.acknowledge(link, origin);
            return None;
        }
        let list = options.as_list();
        let options = Options::from(&*list);
        let Some(udp) = origin.udp else {
            let token = origin.token.as_slice();
            self.common.stats.code(code);
            self.send_frame(link, &TcpMessage { code, token, options, payload });
            return None;
        };
        let (message_type, message_id) = match (udp.confirmable, udp.acknowledged) {
            (true, false) => (MessageType::Acknowledgement, udp.id),
            (true, true) => (MessageType::Confirmable, self.new_id()),
            (false, _) => (MessageType::NonConfirmable, self.new_id()),
        };
        let token = origin.token.as_slice();
        let mut message = Message { message_type, code, message_id, token, options, payload };
        if !self.proven && self.is_too_large(origin, &message) {
            if code.class() == 2 && origin.is_safe() {
                self.challenge(link, origin);
                return None;
            }
            // What was done must not be done again for a proof, and an error needs no explanation.
            self.common.stats.limited("amplification_factor", "cut");
            message.payload = &[];
            if self.is_too_large(origin, &message) {
                message.options = Options::EMPTY;
            }
            if self.is_too_large(origin, &message) {
                return None;
            }
        }
        self.common.stats.code(code);
        let capsule = self.send(link, &message)?;
        match message_type {
            // Whoever asks again has not heard the acknowledgement.
            MessageType::Confirmable => self.confirm(link, message_id, capsule, notifies),
            _ => self.exchanges.set(udp.id, Seen::Answered(capsule)),
        }
        Some((message_type, message_id))
    }

    fn is_too_large(&self, origin: &Origin, message: &Message<'_>) -> bool {
        self.exceeds(origin, message.encoded_len().unwrap_or_default())
    }

    /// Answers a request with a diagnostic payload (RFC 7252 §5.5.2).
    pub(crate) fn explain(&mut self, link: &mut Link, origin: &Origin, code: Code, text: &str) {
        self.respond(link, origin, code, &OptionSet::new(), text.as_bytes());
    }

    /// Sends an empty acknowledgement, if the request still waits for one.
    pub(crate) fn acknowledge(&mut self, link: &mut Link, origin: &Origin) {
        if let Some(udp) = origin.udp
            && origin.waits()
            && let Some(capsule) =
                self.send(link, &Message::empty(MessageType::Acknowledgement, udp.id))
        {
            self.exchanges.set(udp.id, Seen::Answered(capsule));
        }
    }

    /// Whether a response of so many octets is too large for a client that has not proved its address.
    pub(crate) fn exceeds(&self, origin: &Origin, octets: usize) -> bool {
        let factor = self.common.settings.amplification_factor;
        factor.is_some_and(|factor| octets > origin.size.saturating_mul(factor))
            || !self.may_get(octets)
    }

    /// Whether so many octets more may go to a client: if it has not proved its address, all it gets is at
    /// most so many times what it has sent, sent again or not.
    pub(crate) fn may_get(&self, octets: usize) -> bool {
        let factor = self.common.settings.amplification_factor.filter(|_| !self.proven);
        factor.is_none_or(|factor| self.sent + octets <= self.received.saturating_mul(factor))
    }

    /// Has the client prove its address: 4.01 with an Echo option (RFC 9175 §2.4).
    pub(crate) fn challenge(&mut self, link: &mut Link, origin: &Origin) {
        self.common.stats.limited("amplification_factor", "challenge");
        let value = self.common.echo.value(self.client, link.now());
        let options = [CoapOption::new(OptionNumber::ECHO, &value[..])];
        let Some(udp) = origin.udp else { return };
        let (message_type, message_id) = if origin.waits() {
            (MessageType::Acknowledgement, udp.id)
        } else {
            (MessageType::NonConfirmable, self.new_id())
        };
        let message = Message {
            message_type,
            code: Code::UNAUTHORIZED,
            message_id,
            token: origin.token.as_slice(),
            options: Options::from(&options),
            payload: &[],
        };
        // A request that is too short even for this gets nothing.
        if message.encoded_len().is_ok_and(|size| !self.exceeds(origin, size)) {
            self.common.stats.code(message.code);
            if let Some(capsule) = self.send(link, &message) {
                self.exchanges.set(udp.id, Seen::Answered(capsule));
            }
        }
    }

    /// Sends a message in a datagram, and returns its capsule.
    pub(crate) fn send(&mut self, link: &mut Link, message: &Message<'_>) -> Option<Bytes> {
        let Some(capsule) = wire::capsule(message) else {
            log::warn!("a message could not be encoded: {:?}", message.encoded_len());
            return None;
        };
        self.sent = self.sent.saturating_add(capsule.len());
        let stats = &self.common.stats;
        stats.message(Direction::ToClient, Some(message.message_type), capsule.len());
        if matches!(message.message_type, MessageType::Confirmable | MessageType::NonConfirmable) {
            self.to_client.own(message.message_id, Token::new(message.token));
        }
        link.reply(capsule.clone());
        Some(capsule)
    }

    /// Sends a message on a stream.
    pub(crate) fn send_frame(&mut self, link: &mut Link, message: &TcpMessage<'_>) {
        if let Some(octets) = wire::frame(message) {
            self.common.stats.message(Direction::ToClient, None, octets.len());
            link.reply(octets);
        }
    }

    pub(crate) fn new_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if !self.to_client.has(self.next_id) {
                return self.next_id;
            }
        }
    }

    /// Sends a notification, and returns its type and message ID over UDP. A confirmable one is sent again
    /// until it was heard.
    pub(crate) fn notify(
        &mut self,
        link: &mut Link,
        token: Token,
        confirmable: bool,
        (code, options, payload): (Code, &OptionSet, &[u8]),
        stream: StreamId,
    ) -> Option<(MessageType, u16)> {
        let list = options.as_list();
        let options = Options::from(&*list);
        self.common.stats.code(code);
        if self.transport == Transport::Tcp {
            let token = token.as_slice();
            self.send_frame(link, &TcpMessage { code, token, options, payload });
            return None;
        }
        let message_id = self.new_id();
        let message_type =
            if confirmable { MessageType::Confirmable } else { MessageType::NonConfirmable };
        let token = token.as_slice();
        let message = Message { message_type, code, message_id, token, options, payload };
        let capsule = self.send(link, &message)?;
        if confirmable {
            self.confirm(link, message_id, capsule, Some(stream));
        }
        Some((message_type, message_id))
    }

    /// Has a confirmable message sent again until it was heard.
    fn confirm(&mut self, link: &mut Link, id: u16, capsule: Bytes, notifies: Option<StreamId>) {
        if self.confirmables.len() >= MAX_CONFIRMABLES {
            self.common.stats.delivery("given_up");
            return;
        }
        let settings = &self.common.settings;
        // ACK_RANDOM_FACTOR: 1 to 1.5. The message ID is as good as any number for it.
        let timeout = settings.ack_timeout + settings.ack_timeout * u32::from(id & 0xff) / 510;
        let due = link.now() + timeout;
        let left = settings.max_retransmit;
        self.confirmables.push(Confirmable { id, capsule, due, timeout, left, notifies });
        self.wake_at(link, due);
    }

    /// The client has acknowledged or rejected a message. Whether it was one of ours.
    pub(crate) fn heard(&mut self, link: &mut Link, id: u16, rejected: bool) -> bool {
        let at = self.confirmables.iter().position(|confirmable| confirmable.id == id);
        let notifies = match at {
            Some(at) => {
                self.common.stats.delivery(if rejected { "rejected" } else { "acknowledged" });
                self.confirmables.swap_remove(at).notifies
            }
            // A notification that was not confirmable can be rejected all the same (RFC 7641 §4.4).
            None if rejected => self.notified_with(id),
            None => None,
        };
        if let Some(stream) = notifies {
            if rejected {
                self.stop_observing(link, stream);
            } else {
                self.notification_heard(link, stream);
            }
        }
        at.is_some() || notifies.is_some()
    }

    /// Sends what was not heard again, and gives up what was sent often enough.
    pub(crate) fn retransmit(&mut self, link: &mut Link) {
        let now = link.now();
        let common = Rc::clone(&self.common);
        let (mut lost, mut again) = (Vec::new(), Vec::new());
        self.confirmables.retain_mut(|confirmable| {
            if confirmable.due > now {
                return true;
            }
            if confirmable.left == 0 {
                common.stats.delivery("given_up");
                lost.extend(confirmable.notifies);
                return false;
            }
            confirmable.left -= 1;
            confirmable.timeout *= 2;
            confirmable.due = now + confirmable.timeout;
            again.push(confirmable.capsule.clone());
            true
        });
        for capsule in again {
            if self.may_get(capsule.len()) {
                self.sent = self.sent.saturating_add(capsule.len());
                common.stats.delivery("retransmitted");
                link.reply(capsule);
            }
        }
        for stream in lost {
            self.stop_observing(link, stream);
        }
        if let Some(due) = self.confirmables.iter().map(|confirmable| confirmable.due).min() {
            self.wake_at(link, due);
        }
    }

    /// Acknowledges requests whose response takes too long to be piggybacked on that.
    pub(crate) fn separate(&mut self, link: &mut Link) {
        let now = link.now();
        let after = self.common.settings.separate_after;
        let mut next: Option<Duration> = None;
        let mut due = Vec::new();
        for asked in self.asked.values_mut() {
            let Some(origin) = asked.origin_to_acknowledge() else { continue };
            let at = asked.since + after;
            if at <= now {
                due.push(origin.clone());
                if let Some(udp) = &mut asked.origin.udp {
                    udp.acknowledged = true;
                }
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        for origin in due {
            self.acknowledge(link, &origin);
        }
        if let Some(next) = next {
            self.wake_at(link, next);
        }
    }
}
