//! What is kept, and how it is read.

use codec_dns::{ExtendedError, HEADER_LEN, InfoCode, Name, Rcode, patch};

use crate::answer::{Audience, Encoded};
use crate::asked::{AskedFlags, Key};
use crate::limits::{Limits, millis, seconds};
use crate::network::Network;

/// An answer that is kept. Times are in milliseconds.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Of the key, and of the network.
    pub(crate) hash: u64,
    encoded: Encoded,
    put_at: u64,
    /// The server need not be asked again before.
    quiet_until: u64,
    pub(crate) audience: Audience,
    /// Since it was put.
    hits: u32,
    flags: AskedFlags,
    pub(crate) is_failure: bool,
    /// Since the hand was there.
    pub(crate) was_used: bool,
}

/// What time has made of an answer; the greater the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Age {
    /// It is not used any more.
    Gone,
    /// A failure. An answer that has expired is better (RFC 8767 §5).
    Failure,
    /// It has expired.
    Stale,
    /// It holds.
    Fresh,
}

impl Entry {
    pub(crate) fn new(
        (hash, flags): (u64, AskedFlags),
        (encoded, is_failure): (Encoded, bool),
        audience: Audience,
        now: u64,
    ) -> Self {
        Self {
            hash,
            encoded,
            put_at: now,
            quiet_until: 0,
            audience,
            hits: 0,
            flags,
            is_failure,
            was_used: false,
        }
    }

    /// How many octets it takes besides its place in the table.
    pub(crate) fn octets(&self) -> usize {
        self.encoded.octets.len()
    }

    #[inline]
    pub(crate) fn is(&self, key: &Key, hash: u64, network: Option<&Network>) -> bool {
        self.hash == hash
            && self.flags == key.flags
            && self.audience.network.as_ref() == network
            && key.is(self.question())
    }

    fn question(&self) -> &[u8] {
        let question = HEADER_LEN..usize::from(self.encoded.question_end);
        self.encoded.octets.get(question).unwrap_or_default()
    }

    /// How long it has been kept, and how long it holds.
    fn times(&self, now: u64) -> (u64, u64) {
        (now.saturating_sub(self.put_at), u64::from(self.encoded.lifetime) * 1_000)
    }

    #[inline]
    pub(crate) fn age(&self, now: u64, limits: &Limits) -> Age {
        let (passed, lifetime) = self.times(now);
        match (passed < lifetime, self.is_failure) {
            (true, true) => Age::Failure,
            (true, false) => Age::Fresh,
            (false, false) if passed - lifetime < millis(limits.stale) => Age::Stale,
            (false, _) => Age::Gone,
        }
    }

    /// Notes that the server failed to answer.
    pub(crate) fn failed(&mut self, now: u64, limits: &Limits) {
        self.quiet_until = now.saturating_add(millis(limits.stale_ttl));
    }

    /// Finds it for this query.
    #[inline]
    pub(crate) fn hit<'a>(
        &'a mut self,
        name: Name<'a>,
        age: Age,
        now: u64,
        limits: &Limits,
    ) -> Hit<'a> {
        self.was_used = true;
        self.hits = self.hits.saturating_add(1);
        let (passed, lifetime) = self.times(now);
        let is_quiet = now < self.quiet_until;
        let mut ttl = Ttl::Passed((passed / 1_000) as u32);
        let mut state = State::Fresh;
        if age == Age::Stale {
            ttl = Ttl::Is(seconds(limits.stale_ttl));
            state = if is_quiet { State::StaleAndFailing } else { State::Stale };
        } else if age == Age::Fresh
            && !is_quiet
            && let Some(prefetch) = limits.prefetch
            && self.hits >= prefetch.hits
            && (lifetime - passed) * 100 < lifetime * u64::from(prefetch.percent)
        {
            self.quiet_until = now.saturating_add(PREFETCH_PAUSE);
            state = State::Prefetch;
        }
        Hit { state, entry: self, name, ttl }
    }
}

/// After so long another hit asks for an answer that did not come.
const PREFETCH_PAUSE: u64 = 5_000;

/// What to do with a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Answer with it.
    Fresh,
    /// Answer with it, and ask the server again, because it expires soon. One hit says so; another one after
    /// five seconds, if until then nothing was put.
    Prefetch,
    /// It has expired. Ask the server, and answer with it if that fails or takes too long (RFC 8767 §5).
    Stale,
    /// It has expired, and the server has just failed to answer: answer with it without asking (RFC 8767
    /// §5).
    StaleAndFailing,
}

/// What becomes of the TTLs.
#[derive(Clone, Copy, Debug)]
enum Ttl {
    /// So many seconds have passed.
    Passed(u32),
    /// All of them are so many seconds.
    Is(u32),
}

/// An answer that was found.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    state: State,
    entry: &'a Entry,
    /// In the case it is asked in.
    name: Name<'a>,
    ttl: Ttl,
}

impl<'a> Hit<'a> {
    /// What to do with it. The extended error of an answer that has expired is the caller's to add (RFC 8914
    /// §4.4, §4.20), and so is that of a failure (§4.14).
    #[inline]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Its response code: NOERROR, NXDOMAIN or SERVFAIL.
    #[inline]
    pub fn rcode(&self) -> Rcode {
        let flags = self.entry.encoded.octets.get(3).copied().unwrap_or_default();
        Rcode(u16::from(flags & 15))
    }

    /// How many octets [`write`](Self::write) appends.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "there is a header")]
    pub const fn len(&self) -> usize {
        self.entry.encoded.message_len as usize
    }

    /// SCOPE PREFIX-LENGTH for the answer to a query with a client subnet (RFC 7871 §7.2.1).
    #[inline]
    pub const fn scope_prefix(&self) -> u8 {
        self.entry.audience.scope_prefix
    }

    /// The extended errors that came with it (RFC 8914), to repeat them.
    #[inline]
    pub fn extended_errors(&self) -> ExtendedErrors<'a> {
        let Encoded { octets, message_len, ttls, .. } = &self.entry.encoded;
        let at = usize::from(*message_len) + 2 * usize::from(*ttls);
        ExtendedErrors(octets.get(at..).unwrap_or_default())
    }

    /// Appends the answer to `out`: the complete message but for OPT, with this ID, the question in the case
    /// it is asked in, and TTLs as they are now.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>, id: u16) {
        let Encoded { octets, message_len, ttls, .. } = &self.entry.encoded;
        let (message, rest) =
            octets.split_at_checked(usize::from(*message_len)).unwrap_or_default();
        let start = out.len();
        out.extend_from_slice(message);
        let message = out.get_mut(start..).unwrap_or_default();
        // There is a header.
        let _ = patch::set_id(message, id);
        // Nothing is in front of this name that it could point to.
        let mut place = message.get_mut(HEADER_LEN..).unwrap_or_default();
        for label in self.name.labels() {
            let Some((old, after)) = place.split_at_mut_checked(1 + label.len()) else { break };
            old.get_mut(1..).unwrap_or_default().copy_from_slice(label);
            place = after;
        }
        let (offsets, _) = rest.as_chunks();
        for &at in offsets.iter().take(usize::from(*ttls)) {
            let at = usize::from(u16::from_be_bytes(at));
            if let Some(place) = message.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                let ttl = match self.ttl {
                    Ttl::Passed(seconds) => u32::from_be_bytes(*place).saturating_sub(seconds),
                    Ttl::Is(seconds) => seconds,
                };
                *place = ttl.to_be_bytes();
            }
        }
    }
}

/// The extended errors of an answer, one by one.
#[derive(Clone, Debug)]
pub struct ExtendedErrors<'a>(&'a [u8]);

impl<'a> Iterator for ExtendedErrors<'a> {
    type Item = ExtendedError<'a>;

    #[inline]
    fn next(&mut self) -> Option<ExtendedError<'a>> {
        let (&[i, c, l, n], rest) = self.0.split_first_chunk()?;
        let (extra_text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l, n])))?;
        self.0 = rest;
        let info_code = InfoCode(u16::from_be_bytes([i, c]));
        Some(ExtendedError { info_code, extra_text })
    }
}
