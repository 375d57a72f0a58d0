//! One endpoint towards a CoAP server: a stream of datagrams to the next filter.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bridge::{Link, StreamId};
use bytes::{Bytes, BytesMut};
use codec_capsule::{
    CapsuleType, Datagram, Decoder, Event, Header, MAX_UDP_PAYLOAD_LEN, UDP_PAYLOAD, varint,
};
use codec_coap::{Message, MessageType};
use http_server::RequestId;

use crate::random::Random;

/// Tells the requests of a flow apart (RFC 7252 §5.3.1).
pub(crate) type Token = [u8; 4];

/// Message IDs used before a flow is replaced. A server may take a message ID that returns within
/// 247 s for a duplicate (EXCHANGE_LIFETIME, RFC 7252 §4.8.2), and by address and port it knows a
/// flow.
const MAX_MESSAGE_IDS: u32 = 60_000;
/// Confirmable messages of the server that are remembered, to answer duplicates alike (RFC 7252
/// §4.5).
const MAX_REMEMBERED: usize = 32;
/// Bytes that may wait for room on the stream. What does not fit is lost like any other datagram.
const MAX_UNSENT: usize = 64 << 10;
/// A context ID has at most so many bytes.
const MAX_CONTEXT_ID_LEN: u64 = 8;

/// What a flow is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Authority and path.
    pub(crate) target: String,
    /// One transfer after the other, instead of whatever comes.
    pub(crate) is_exclusive: bool,
}

/// What requests with the same first part of their URI share.
#[derive(Debug)]
pub(crate) struct Flow {
    stream: StreamId,
    /// What it is found by; none for one that nobody else may use.
    pub(crate) key: Option<Key>,
    tokens: BTreeMap<Token, RequestId>,
    /// The messages sent last for each request, to find what is acknowledged or reset.
    message_ids: BTreeMap<u16, RequestId>,
    next_message_id: u16,
    used: u32,
    /// Requests that count for NSTART.
    pub(crate) active: BTreeSet<RequestId>,
    /// Requests that wait for that.
    pub(crate) queue: VecDeque<RequestId>,
    /// All requests, those that only wait for a response included.
    pub(crate) members: BTreeSet<RequestId>,
    decoder: Decoder,
    /// The capsule that is not complete; none if it is skipped.
    partial: Option<BytesMut>,
    remembered: VecDeque<(u16, MessageType)>,
    unsent: BytesMut,
    /// When it ends, without a request.
    pub(crate) idle: Option<Duration>,
    /// The next filter has taken it.
    pub(crate) accepted: bool,
}

impl Flow {
    pub(crate) fn new(stream: StreamId, key: Option<Key>, random: &mut Random) -> Self {
        Self {
            stream,
            key,
            tokens: BTreeMap::new(),
            message_ids: BTreeMap::new(),
            next_message_id: random.next() as u16,
            used: 0,
            active: BTreeSet::new(),
            queue: VecDeque::new(),
            members: BTreeSet::new(),
            decoder: Decoder::new(),
            partial: None,
            remembered: VecDeque::new(),
            unsent: BytesMut::new(),
            idle: None,
            accepted: false,
        }
    }

    /// Whether its message IDs are used up.
    pub(crate) fn is_used_up(&self) -> bool {
        self.used >= MAX_MESSAGE_IDS
    }

    /// A token that no request has.
    pub(crate) fn new_token(&mut self, id: RequestId, random: &mut Random) -> Token {
        loop {
            let token = (random.next() as u32).to_be_bytes();
            if let Entry::Vacant(free) = self.tokens.entry(token) {
                free.insert(id);
                return token;
            }
        }
    }

    pub(crate) fn forget_token(&mut self, token: &Token) {
        self.tokens.remove(token);
    }

    pub(crate) fn by_token(&self, token: &[u8]) -> Option<RequestId> {
        self.tokens.get(&Token::try_from(token).ok()?).copied()
    }

    /// A message ID for a message of this request.
    pub(crate) fn new_message_id(&mut self, id: RequestId) -> u16 {
        let message_id = self.unassigned_message_id();
        self.message_ids.insert(message_id, id);
        message_id
    }

    /// A message ID of which no answer is expected.
    pub(crate) fn unassigned_message_id(&mut self) -> u16 {
        let message_id = self.next_message_id;
        self.next_message_id = message_id.wrapping_add(1);
        self.used += 1;
        message_id
    }

    pub(crate) fn forget_message_id(&mut self, message_id: u16) {
        self.message_ids.remove(&message_id);
    }

    pub(crate) fn by_message_id(&self, message_id: u16) -> Option<RequestId> {
        self.message_ids.get(&message_id).copied()
    }

    /// How the message of the server with this ID was answered, if it was.
    pub(crate) fn remembered(&self, message_id: u16) -> Option<MessageType> {
        self.remembered.iter().find(|(known, _)| *known == message_id).map(|(_, answer)| *answer)
    }

    pub(crate) fn remember(&mut self, message_id: u16, answer: MessageType) {
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((message_id, answer));
    }

    /// Sends a datagram; returns whether there was room for it.
    pub(crate) fn send(&mut self, link: &mut Link, capsule: &Bytes) -> bool {
        if self.unsent.is_empty() {
            let mut rest = capsule.clone();
            link.send_octets(self.stream, &mut rest);
            self.unsent.extend_from_slice(&rest);
            return true;
        }
        if self.unsent.len() + capsule.len() > MAX_UNSENT {
            return false;
        }
        self.unsent.extend_from_slice(capsule);
        self.flush(link);
        true
    }

    /// Sends what waited for room. Returns whether all of it was sent.
    pub(crate) fn flush(&mut self, link: &mut Link) -> bool {
        let mut octets = self.unsent.split().freeze();
        link.send_octets(self.stream, &mut octets);
        self.unsent.extend_from_slice(&octets);
        self.unsent.is_empty()
    }

    pub(crate) fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Takes the next datagram off what arrived.
    pub(crate) fn next_datagram(&mut self, input: &mut &[u8]) -> Option<Bytes> {
        while let Some(event) = self.decoder.next(input) {
            match event {
                Event::Begin(header) => {
                    let max = MAX_UDP_PAYLOAD_LEN as u64 + MAX_CONTEXT_ID_LEN;
                    let wanted =
                        header.capsule_type == CapsuleType::DATAGRAM && header.check(max).is_ok();
                    // What arrived of it, and not what its header claims, is what it takes.
                    self.partial = wanted.then(BytesMut::new);
                }
                Event::Value(bytes) => {
                    if let Some(partial) = &mut self.partial {
                        partial.extend_from_slice(bytes);
                    }
                }
                Event::End => {
                    let Some(value) = self.partial.take().map(BytesMut::freeze) else { continue };
                    if let Ok(Datagram { context_id: UDP_PAYLOAD, payload }) =
                        Datagram::decode(&value)
                    {
                        let payload = value.slice_ref(payload);
                        return Some(payload);
                    }
                }
            }
        }
        None
    }
}

/// A message as a DATAGRAM capsule.
pub(crate) fn capsule(message: &Message<'_>) -> Option<Bytes> {
    let len = message.encoded_len().ok()?;
    let context_id_len = varint::len(UDP_PAYLOAD).ok()?;
    let header = Header { capsule_type: CapsuleType::DATAGRAM, len: (context_id_len + len) as u64 };
    let mut capsule = vec![0; header.encoded_len().ok()? + context_id_len + len];
    let mut at = header.encode(&mut capsule).ok()?;
    at += varint::encode(UDP_PAYLOAD, capsule.get_mut(at..)?).ok()?;
    message.encode(capsule.get_mut(at..)?).ok()?;
    Some(Bytes::from(capsule))
}
