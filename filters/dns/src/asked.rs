//! Requests of their own: checks, and queries that are HTTP requests (RFC 8484).

use std::time::Duration;

use bridge::{
    Bytes, Ended, HeaderValue, Link, OpenError, Request, Response, StatusCode, StreamId, Uri,
};
use codec_dns::{EdnsFlags, Flags, InfoCode, MAX_MESSAGE_LEN, Rcode, decode};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::response::Parts;

use crate::answer::MAX_EXTRA_TEXT;
use crate::config::{TooMany, Transport};
use crate::flows::{PATH, common_headers};
use crate::pending::{Pending, Seq};
use crate::rules::Carry;
use crate::zones::host;

/// What an HTTP status means to a query (DESIGN §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It goes on.
    Pass,
    /// It is answered with this response code and the reason for it.
    Refuse(Rcode, InfoCode),
    /// It is to come over TCP.
    Truncate,
    /// It gets no answer.
    Drop,
}

impl Outcome {
    pub(crate) fn of_status(status: StatusCode, too_many: TooMany) -> Self {
        match status.as_u16() {
            200..=299 => Self::Pass,
            400 => Self::Refuse(Rcode::FORMERR, InfoCode::OTHER),
            404 => Self::Refuse(Rcode::NXDOMAIN, InfoCode::BLOCKED),
            429 => match too_many {
                TooMany::Refuse => Self::Refuse(Rcode::REFUSED, InfoCode::PROHIBITED),
                TooMany::Truncate => Self::Truncate,
                TooMany::Drop => Self::Drop,
            },
            401..=499 => Self::Refuse(Rcode::REFUSED, InfoCode::PROHIBITED),
            504 => Self::Refuse(Rcode::SERVFAIL, InfoCode::NO_REACHABLE_AUTHORITY),
            _ => Self::Refuse(Rcode::SERVFAIL, InfoCode::NETWORK_ERROR),
        }
    }

    /// A stable name for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Refuse(Rcode::SERVFAIL, _) => "failure",
            Self::Refuse(..) => "refuse",
            Self::Truncate => "truncate",
            Self::Drop => "drop",
        }
    }

    /// Whether it says something about the query, and not about the way to who decides.
    pub(crate) fn is_verdict(self) -> bool {
        !matches!(self, Self::Refuse(Rcode::SERVFAIL, _))
    }
}

/// A request that waits for its response.
#[derive(Debug)]
pub(crate) struct Asked {
    seq: Seq,
    carry: Carry,
    holds: Duration,
    /// The response, as far as it has come.
    head: Option<Parts>,
    body: Vec<u8>,
}

impl Asked {
    /// Opens the stream of a request about a query, or with it.
    pub(crate) fn open<C>(
        link: &mut Link,
        pending: &Pending<C>,
        seq: Seq,
        carry: Carry,
        transport: Transport,
        holds: Duration,
    ) -> Result<(StreamId, Self), OpenError> {
        let is_check = carry == Carry::Check;
        let request = request(pending, carry, transport).ok_or(OpenError::InvalidRequest)?;
        let stream = link.open(request, is_check)?;
        if !is_check {
            // Always the same for the same query, so that caches can keep the answer (RFC 8484 §4.1).
            let mut message = pending.sent.to_vec();
            if let Some(id) = message.first_chunk_mut() {
                *id = [0; 2];
            }
            let mut message = Bytes::from(message);
            link.send_octets(stream, &mut message);
            if !message.is_empty() {
                link.reset(stream);
                return Err(OpenError::TooManyStreams);
            }
            link.finish(stream);
        }
        Ok((stream, Self { seq, carry, holds, head: None, body: Vec::new() }))
    }

    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    pub(crate) fn carry(&self) -> Carry {
        self.carry
    }

    pub(crate) fn holds(&self) -> Duration {
        self.holds
    }

    /// The response's header section has come.
    pub(crate) fn begin(&mut self, response: Response<()>) {
        self.head = Some(response.into_parts().0);
    }

    /// Whether it was a check, and Envoy has nothing against the query.
    pub(crate) fn is_passed(&self) -> bool {
        self.carry == Carry::Check
            && self.head.as_ref().is_some_and(|head| head.status.is_success())
    }

    /// Whether the response says something to people.
    fn is_text(&self) -> bool {
        let content_type = self.head.as_ref().and_then(|head| head.headers.get(CONTENT_TYPE));
        let text =
            content_type.and_then(|value| value.as_bytes().split(|octet| *octet == b';').next());
        text.is_some_and(|text| text.trim_ascii().eq_ignore_ascii_case(b"text/plain"))
    }

    /// A part of the response's content has come.
    pub(crate) fn body(&mut self, octets: &[u8]) {
        // One more than a message has tells that there is more.
        let most = if self.is_text() { MAX_EXTRA_TEXT } else { MAX_MESSAGE_LEN + 1 };
        let room = most.saturating_sub(self.body.len()).min(octets.len());
        self.body.extend_from_slice(octets.get(..room).unwrap_or_default());
    }

    /// The message that the response has, if it is complete: its ID is that of the request, and it is as old as
    /// the response.
    pub(crate) fn message(&mut self, how: Ended) -> Option<&[u8]> {
        if self.carry != Carry::Request || how != Ended::Complete {
            return None;
        }
        dns_doh::client::response(self.head.as_ref()?, &mut self.body).ok()?;
        Some(&self.body)
    }

    /// What the response means, without a message.
    pub(crate) fn outcome(&self, too_many: TooMany) -> Outcome {
        match &self.head {
            Some(head) => Outcome::of_status(head.status, too_many),
            None => Outcome::Refuse(Rcode::SERVFAIL, InfoCode::NETWORK_ERROR),
        }
    }

    /// The reason that the response gives, as far as it is text.
    pub(crate) fn text(&self) -> &[u8] {
        match str::from_utf8(&self.body) {
            Ok(text) if self.is_text() && !text.contains(char::is_control) => text.as_bytes(),
            _ => &[],
        }
    }
}

fn request<C>(pending: &Pending<C>, carry: Carry, transport: Transport) -> Option<Request<()>> {
    let query = decode(&pending.query).ok()?;
    let question = query.question()?;
    let host = host(question.name);
    let uri =
        Uri::builder().scheme("http").authority(host.as_str()).path_and_query(PATH).build().ok()?;
    let mut request = match carry {
        Carry::Request => dns_doh::client::request(uri),
        _ => Request::get(uri).body(()).ok()?,
    };
    let headers = request.headers_mut();
    common_headers(headers, carry, transport.label(), pending.source);
    headers.insert("x-dns-qname", HeaderValue::try_from(host).ok()?);
    let text = |text: String| HeaderValue::try_from(text).ok();
    headers.insert("x-dns-qtype", text(question.record_type.to_string())?);
    headers.insert("x-dns-qclass", text(question.class.to_string())?);
    let flags = query.header.flags;
    headers.insert("x-dns-opcode", HeaderValue::from_static(flags.opcode().label()));
    headers.insert("x-dns-rd", bit(flags.has(Flags::RD)));
    let is_do = query.edns().is_some_and(|edns| edns.flags.has(EdnsFlags::DO));
    headers.insert("x-dns-do", bit(is_do));
    if carry == Carry::Request {
        headers.insert(CONTENT_LENGTH, pending.sent.len().into());
    }
    Some(request)
}

fn bit(bit: bool) -> HeaderValue {
    HeaderValue::from_static(if bit { "1" } else { "0" })
}
