//! A request that asks whether a message may go on.

use std::time::Duration;

use bridge::{Link, OpenError, Request, StreamId};

use crate::message::Verdict;
use crate::rules::PacketKind;

/// A question under way.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) stream: StreamId,
    pub(crate) kind: PacketKind,
    /// When it was asked.
    pub(crate) asked: Duration,
    /// What the answer also holds for, and how long; empty if for nothing.
    pub(crate) key: Vec<u8>,
    pub(crate) cache: Duration,
    pub(crate) verdict: Option<Verdict>,
}

impl Check {
    /// Asks.
    pub(crate) fn ask(
        link: &mut Link,
        request: Request<()>,
        kind: PacketKind,
        key: Vec<u8>,
        cache: Duration,
    ) -> Result<Self, OpenError> {
        let stream = link.open(request, true)?;
        Ok(Self { stream, kind, asked: link.now(), key, cache, verdict: None })
    }
}
