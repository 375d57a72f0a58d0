//! One HTTP request on its way to a CoAP server and back.

use std::time::Duration;

use bridge::{Response, StreamId};
use bytes::{Bytes, BytesMut};
use coap_http::OptionSet;
use coap_http::etag::ETag;
use codec_coap::{Block, Code, ContentFormat, Message, MessageType, OptionNumber, Options};

use crate::flow::{self, Token};

/// How often a transfer may begin again because its resource changed, or the server lost track of
/// it.
const MAX_RESTARTS: u8 = 2;
/// After this time a notification is newer whatever its sequence number (RFC 7641 §3.4).
const SEQUENCE_LIFETIME: Duration = Duration::from_secs(128);

#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) flow: StreamId,
    /// Of the flow, to open another.
    pub(crate) target: Target,
    pub(crate) is_head: bool,
    pub(crate) code: Code,
    pub(crate) options: OptionSet,
    pub(crate) body: Bytes,
    pub(crate) is_confirmable: bool,
    /// Of the message sent last, unless that is the observation's.
    pub(crate) token: Option<Token>,
    pub(crate) phase: Phase,
    pub(crate) timer: Option<Duration>,
    pub(crate) upload: Option<Upload>,
    pub(crate) download: Option<Download>,
    pub(crate) observe: Observe,
    /// The server's Echo option was sent back once.
    pub(crate) is_echoed: bool,
    restarts: u8,
    pub(crate) started: Duration,
}

/// Where a flow goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) authority: String,
    pub(crate) path: String,
}

/// What the message sent last waits for.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its turn; it was not sent.
    Queued,
    /// An acknowledgement or a response (RFC 7252 §4.2).
    Sent { message_id: u16, capsule: Bytes, timeout: Duration, retransmissions: u32 },
    /// The response; with a message ID if that can still be reset.
    Accepted { message_id: Option<u16> },
    /// Nothing: the observation goes on.
    Idle,
}

/// The content on its way (RFC 7959 §2.5).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upload {
    pub(crate) offset: usize,
    pub(crate) szx: u8,
    /// The server has all of it.
    pub(crate) done: bool,
}

/// A response of which the rest is asked for (RFC 7959 §2.4).
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) head: Response<()>,
    pub(crate) code: Code,
    pub(crate) content: BytesMut,
    etag: Option<ETag>,
    szx: u8,
}

#[derive(Debug)]
pub(crate) enum Observe {
    No,
    /// The server was asked, or will be.
    Wanted,
    Active(Box<Observation>),
}

/// An observation that the server has accepted (RFC 7641).
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) token: Token,
    sequence: u32,
    at: Duration,
    pub(crate) format: Option<ContentFormat>,
    /// When the server has been silent for too long, and is asked again (RFC 7641 §3.3.1).
    pub(crate) refresh: Duration,
    /// The last event, that a slow client had no room for.
    pub(crate) waiting: Option<Bytes>,
}

impl Observation {
    pub(crate) fn new(token: Token, sequence: u32, at: Duration) -> Self {
        Self { token, sequence, at, format: None, refresh: at, waiting: None }
    }

    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Takes note of a notification, if it is newer than the last (RFC 7641 §3.4).
    pub(crate) fn is_newer(&mut self, sequence: u32, now: Duration) -> bool {
        let (v1, v2) = (self.sequence, sequence);
        let newer = (v1 < v2 && v2 - v1 < 1 << 23)
            || (v1 > v2 && v1 - v2 > 1 << 23)
            || now > self.at + SEQUENCE_LIFETIME;
        if newer {
            self.sequence = sequence;
            self.at = now;
        }
        newer
    }
}

/// What becomes of a response that is part of a transfer.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next message of the transfer, or the first once more.
    Continue,
    /// The same, as another endpoint.
    Elsewhere,
    /// The response is complete, and has no more than its payload.
    Final,
    /// The response is complete, and this is all of it.
    Whole(Box<Download>),
    /// The response cannot be used; why.
    Broken(&'static str),
}

impl Exchange {
    pub(crate) fn new(target: Target, flow: StreamId, code: Code, started: Duration) -> Self {
        Self {
            flow,
            target,
            is_head: false,
            code,
            options: OptionSet::new(),
            body: Bytes::new(),
            is_confirmable: true,
            token: None,
            phase: Phase::Queued,
            timer: None,
            upload: None,
            download: None,
            observe: Observe::No,
            is_echoed: false,
            restarts: 0,
            started,
        }
    }

    /// Whether the next message asks for the observation.
    pub(crate) fn registers(&self) -> bool {
        self.download.is_none() && !matches!(self.observe, Observe::No)
    }

    pub(crate) fn is_observing(&self) -> bool {
        matches!(self.observe, Observe::Active(_))
    }

    /// The next message, as a capsule.
    pub(crate) fn next_message(&self, message_id: u16, token: &Token) -> Option<Bytes> {
        let mut options = self.options.clone();
        let mut payload: &[u8] = &self.body;
        if let Some(download) = &self.download {
            // All other options stay: by them the server knows what it is a block of (RFC 7959 §2.4).
            options.push(OptionNumber::BLOCK2, download.next_block());
            // A FETCH is about what its payload says (RFC 8132 §2).
            if self.code != Code::FETCH || self.upload.is_some() {
                payload = &[];
            }
        } else if let Some(upload) = &self.upload {
            let block = upload.block(self.body.len());
            payload = payload.get(upload.offset..).unwrap_or_default();
            payload = payload.get(..block.size() as usize).unwrap_or(payload);
            options.push(OptionNumber::BLOCK1, block);
            if upload.offset == 0 {
                options.push(OptionNumber::SIZE1, self.body.len() as u32);
            }
        }
        if self.registers() {
            options.push(OptionNumber::OBSERVE, 0);
        }
        self.encode(message_id, token, &options, payload, self.is_confirmable)
    }

    /// The message that ends the observation (RFC 7641 §3.6). It is not repeated: a server that
    /// misses it is told by a reset message when it notifies.
    pub(crate) fn deregistration(&self, message_id: u16, token: &Token) -> Option<Bytes> {
        let mut options = self.options.clone();
        options.push(OptionNumber::OBSERVE, 1);
        self.encode(message_id, token, &options, &[], false)
    }

    fn encode(
        &self,
        message_id: u16,
        token: &Token,
        options: &OptionSet,
        payload: &[u8],
        is_confirmable: bool,
    ) -> Option<Bytes> {
        let message_type =
            if is_confirmable { MessageType::Confirmable } else { MessageType::NonConfirmable };
        flow::capsule(&Message {
            message_type,
            code: self.code,
            message_id,
            token,
            options: Options::from(&*options.as_list()),
            payload,
        })
    }

    /// Begins again; returns whether that was not done too often.
    fn restart(&mut self) -> bool {
        self.restarts += 1;
        self.begin_again();
        self.restarts <= MAX_RESTARTS
    }

    /// Forgets how far the transfers are. Without a part of the response, that is.
    pub(crate) fn begin_again(&mut self) {
        self.download = None;
        if let Some(upload) = &mut self.upload {
            upload.offset = 0;
            upload.done = false;
        }
    }

    /// What a response means for the content on its way.
    pub(crate) fn uploaded(&mut self, message: &Message<'_>) -> Step {
        let block = message.options.block1();
        let too_large = message.code == Code::REQUEST_ENTITY_TOO_LARGE;
        let len = self.body.len();
        let Some(upload) = &mut self.upload else {
            return match block {
                // The size it would take (RFC 7959 §2.9.3).
                Some(block) if too_large && (block.size() as usize) < len => {
                    self.upload = Some(Upload { offset: 0, szx: block.szx, done: false });
                    Step::Elsewhere
                }
                _ if message.code == Code::CONTINUE => Step::Broken("2.31 to what was complete"),
                _ => Step::Final,
            };
        };
        if upload.done {
            return Step::Final;
        }
        let sent = upload.block(len);
        if too_large {
            return match block {
                Some(block) if upload.offset == 0 && block.szx < upload.szx => {
                    upload.szx = block.szx;
                    Step::Continue
                }
                _ => Step::Final,
            };
        }
        if message.code == Code::REQUEST_ENTITY_INCOMPLETE {
            return if self.restart() { Step::Continue } else { Step::Final };
        }
        if message.code.class() != 2 {
            return Step::Final;
        }
        if !sent.more {
            upload.done = true;
            return match message.code {
                Code::CONTINUE => Step::Broken("2.31 to the last block"),
                _ => Step::Final,
            };
        }
        match block {
            Some(block) if block.offset() as usize == upload.offset => {
                upload.offset += sent.size() as usize;
                upload.szx = upload.szx.min(block.szx);
                Step::Continue
            }
            // The server has made up its mind without the rest.
            None if message.code != Code::CONTINUE => Step::Final,
            _ => Step::Broken("another block was acknowledged"),
        }
    }

    /// What a response means for the content that is asked for; `max` is the longest taken.
    pub(crate) fn downloaded(&mut self, message: &Message<'_>, max: usize) -> Step {
        let too_long = Step::Broken("the response is too long");
        let is_read = matches!(self.code, Code::GET | Code::FETCH);
        let payload = message.payload;
        let etag = message.options.etags().next().and_then(ETag::new);
        let block = message.options.block2();
        let is_full =
            block.is_none_or(|block| !block.more || payload.len() == block.size() as usize);
        let Some(download) = &mut self.download else {
            let Some(block) = block.filter(|block| block.more || block.num > 0) else {
                return if payload.len() > max { too_long } else { Step::Final };
            };
            if block.num != 0 || !is_full {
                return Step::Broken("the response does not begin with a whole first block");
            }
            if payload.len() > max
                || message.options.size2().is_some_and(|size| size as usize > max)
            {
                return too_long;
            }
            if self.is_head {
                return Step::Final;
            }
            let head = coap_http::response::to_http(message.code, &message.options, payload);
            let content = BytesMut::from(payload);
            let code = message.code;
            self.download = Some(Download { head, code, content, etag, szx: block.szx });
            return Step::Continue;
        };
        if message.code.class() != 2 {
            self.download = None;
            return Step::Final;
        }
        if etag != download.etag {
            // Parts of two representations do not make one (RFC 7959 §2.4).
            return if is_read && self.restart() {
                Step::Continue
            } else {
                Step::Broken("the resource changes too often")
            };
        }
        match block {
            Some(block) if block.offset() as usize == download.content.len() && is_full => {
                if download.content.len() + payload.len() > max {
                    return too_long;
                }
                download.content.extend_from_slice(payload);
                download.szx = block.szx;
                if block.more {
                    return Step::Continue;
                }
                self.download.take().map_or(Step::Final, |whole| Step::Whole(Box::new(whole)))
            }
            _ => Step::Broken("another block than asked for"),
        }
    }
}

impl Upload {
    fn block(&self, len: usize) -> Block {
        let size = 16 << self.szx;
        Block { num: (self.offset / size) as u32, more: self.offset + size < len, szx: self.szx }
    }
}

impl Download {
    fn next_block(&self) -> Block {
        let size = 16 << self.szx;
        Block { num: (self.content.len() / size) as u32, more: false, szx: self.szx }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_newer_as_the_standard_says() {
        let second = Duration::from_secs(1);
        for (v1, v2, after, newer) in [
            (1, 2, 0, true),
            (2, 1, 0, false),
            (2, 2, 0, false),
            (0, (1 << 23) - 1, 0, true),
            (0, 1 << 23, 0, false),
            ((1 << 24) - 1, 0, 0, true),
            (1 << 23, 0, 0, false),
            ((1 << 23) + 1, 0, 0, true),
            (2, 1, 128, false),
            (2, 1, 129, true),
        ] {
            let mut observation = Observation::new([0; 4], v1, second);
            let now = second * (1 + after);
            assert_eq!(observation.is_newer(v2, now), newer, "{v1} {v2} {after}");
            assert_eq!(observation.sequence(), if newer { v2 } else { v1 });
        }
    }
}
