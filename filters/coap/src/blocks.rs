//! Bodies that come and go in blocks (RFC 7959).

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use bridge::Bytes;
use coap_http::OptionSet;
use codec_coap::{Block, Code, OptionNumber, OptionValue, Options};

/// How many octets all sessions of a worker keep together.
#[derive(Debug)]
pub(crate) struct Budget {
    used: Cell<usize>,
    most: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self { used: Cell::new(0), most })
    }
}

/// Octets taken from a budget, and given back in the end.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Rc<Budget>,
    octets: usize,
}

impl Share {
    pub(crate) fn new(budget: &Rc<Budget>) -> Self {
        Self { budget: Rc::clone(budget), octets: 0 }
    }

    /// Takes as many as are needed to have `octets`. Whether there were enough.
    pub(crate) fn grow(&mut self, octets: usize) -> bool {
        let used = self.budget.used.get() - self.octets + octets;
        let fits = used <= self.budget.most;
        if fits {
            self.budget.used.set(used);
            self.octets = octets;
        }
        fits
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.set(self.budget.used.get() - self.octets);
    }
}

/// What tells one transfer of a client from another: a hash of the method and of the options that are part
/// of the cache key, but for the block options themselves (RFC 7959 §2.4, §2.5; RFC 7252 §5.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    pub(crate) fn of(hashes: &impl BuildHasher, code: Code, options: &Options<'_>) -> Self {
        let mut hasher = hashes.build_hasher();
        hasher.write_u8(code.0);
        for option in options.iter() {
            let number = option.number;
            if number.is_no_cache_key()
                || matches!(
                    number,
                    OptionNumber::BLOCK1
                        | OptionNumber::BLOCK2
                        | OptionNumber::OBSERVE
                        | OptionNumber::ECHO
                        | OptionNumber::NO_RESPONSE
                )
            {
                continue;
            }
            hasher.write_u16(number.0);
            match option.value {
                OptionValue::Empty => hasher.write_usize(0),
                OptionValue::Uint(value) => hasher.write_u32(value),
                OptionValue::String(text) => write(&mut hasher, text.as_bytes()),
                OptionValue::Opaque(octets) => write(&mut hasher, octets),
            }
        }
        Self(hasher.finish())
    }
}

/// Two values in a row must not be one longer value.
fn write(hasher: &mut impl Hasher, octets: &[u8]) {
    hasher.write_usize(octets.len());
    hasher.write(octets);
}

/// What a block of a request's body leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The next block may come.
    Continue,
    /// This is the body.
    Body(Vec<u8>),
    /// An earlier block is missing.
    Incomplete,
    /// The body is larger than allowed.
    TooLarge,
    /// There is no room for more bodies now.
    NoRoom,
    /// The block is not as long as it says.
    Malformed,
}

#[derive(Debug)]
struct Upload {
    key: Key,
    body: Vec<u8>,
    share: Share,
    used: Duration,
}

/// A response whose body goes out in blocks.
#[derive(Debug)]
pub(crate) struct Stored {
    key: Key,
    pub(crate) code: Code,
    pub(crate) options: OptionSet,
    pub(crate) body: Bytes,
    _share: Share,
    used: Duration,
}

/// The block-wise transfers of one client.
#[derive(Debug)]
pub(crate) struct Transfers {
    uploads: Vec<Upload>,
    stored: Vec<Stored>,
    budget: Rc<Budget>,
    most: usize,
}

impl Transfers {
    pub(crate) fn new(budget: &Rc<Budget>, most: usize) -> Self {
        let (uploads, stored) = (Vec::new(), Vec::new());
        Self { uploads, stored, budget: Rc::clone(budget), most }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.uploads.is_empty() && self.stored.is_empty()
    }

    /// Takes a block of a request's body. Blocks come one after the other (RFC 7959 §2.5); a first block
    /// begins anew.
    pub(crate) fn receive(
        &mut self,
        key: Key,
        block: Block,
        payload: &[u8],
        max_body_size: usize,
        now: Duration,
    ) -> Received {
        let size = block.size() as usize;
        let whole = if block.szx == Block::BERT {
            payload.len().is_multiple_of(size) && !payload.is_empty()
        } else {
            payload.len() == size
        };
        if block.more && !whole || block.szx != Block::BERT && payload.len() > size {
            return Received::Malformed;
        }
        let offset = block.offset() as usize;
        let at = self.uploads.iter().position(|upload| upload.key == key);
        if offset == 0 {
            if let Some(at) = at {
                self.uploads.swap_remove(at);
            }
            if self.uploads.len() >= self.most
                && let Some(oldest) = oldest(&self.uploads, |upload| upload.used)
            {
                self.uploads.swap_remove(oldest);
            }
            let share = Share::new(&self.budget);
            self.uploads.push(Upload { key, body: Vec::new(), share, used: now });
        }
        let at = if offset == 0 { self.uploads.len().checked_sub(1) } else { at };
        let Some((at, upload)) = at.and_then(|at| Some((at, self.uploads.get_mut(at)?))) else {
            return Received::Incomplete;
        };
        let outcome = if upload.body.len() != offset {
            Received::Incomplete
        } else if offset + payload.len() > max_body_size {
            Received::TooLarge
        } else if !upload.share.grow(offset + payload.len()) {
            Received::NoRoom
        } else {
            upload.body.extend_from_slice(payload);
            upload.used = now;
            if block.more {
                return Received::Continue;
            }
            Received::Body(std::mem::take(&mut upload.body))
        };
        self.uploads.swap_remove(at);
        outcome
    }

    /// Keeps a response for the requests for its other blocks. Whether there was room.
    pub(crate) fn store(
        &mut self,
        key: Key,
        code: Code,
        options: OptionSet,
        body: Bytes,
        now: Duration,
    ) -> bool {
        self.stored.retain(|stored| stored.key != key);
        if self.stored.len() >= self.most
            && let Some(oldest) = oldest(&self.stored, |stored| stored.used)
        {
            self.stored.swap_remove(oldest);
        }
        let mut share = Share::new(&self.budget);
        let fits = share.grow(body.len());
        if fits {
            self.stored.push(Stored { key, code, options, body, _share: share, used: now });
        }
        fits
    }

    /// The response that is kept for this key.
    pub(crate) fn stored(&mut self, key: Key, now: Duration) -> Option<&Stored> {
        let stored = self.stored.iter_mut().find(|stored| stored.key == key)?;
        stored.used = now;
        Some(stored)
    }

    /// Forgets a response whose last block was asked for.
    pub(crate) fn forget(&mut self, key: Key) {
        self.stored.retain(|stored| stored.key != key);
    }

    /// When the transfer was used that nobody used for longest.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let uploads = self.uploads.iter().map(|upload| upload.used);
        uploads.chain(self.stored.iter().map(|stored| stored.used)).min()
    }

    /// Forgets what nobody used for so long. How many transfers that were, in and out.
    pub(crate) fn expire(&mut self, now: Duration, timeout: Duration) -> (usize, usize) {
        let before = (self.uploads.len(), self.stored.len());
        self.uploads.retain(|upload| upload.used + timeout > now);
        self.stored.retain(|stored| stored.used + timeout > now);
        (before.0 - self.uploads.len(), before.1 - self.stored.len())
    }
}

fn oldest<T>(list: &[T], used: impl Fn(&T) -> Duration) -> Option<usize> {
    list.iter().enumerate().min_by_key(|(_, item)| used(item)).map(|(index, _)| index)
}

/// The part of a body of `len` octets that a block has, and whether more follow; nothing if it begins behind
/// the end. `most` octets fit into a message over TCP, for blocks of any size (RFC 8323 §6).
pub(crate) fn part(len: usize, block: Block, most: usize) -> Option<(Range<usize>, bool)> {
    let size = block.size() as usize;
    let size = if block.szx == Block::BERT { (most / size).max(1) * size } else { size };
    let start = block.offset() as usize;
    if start > 0 && start >= len {
        return None;
    }
    let end = start.saturating_add(size).min(len);
    Some((start..end, end < len))
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use codec_coap::CoapOption;

    use super::*;

    const KEY: Key = Key(1);

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn block(num: u32, more: bool) -> Block {
        Block { num, more, szx: 0 }
    }

    #[test]
    fn blocks_in_their_order_make_a_body() {
        let mut transfers = Transfers::new(&Budget::new(100), 4);
        let mut receive = |num, more, payload: &[u8]| {
            transfers.receive(KEY, block(num, more), payload, 40, at(0))
        };
        assert_eq!(receive(0, true, &[1; 16]), Received::Continue);
        assert_eq!(receive(1, true, &[2; 16]), Received::Continue);
        assert_eq!(
            receive(2, false, b"end"),
            Received::Body([&[1; 16][..], &[2; 16], b"end"].concat())
        );
        assert_eq!(receive(2, false, b"end"), Received::Incomplete);
        assert_eq!(receive(0, true, &[1; 16]), Received::Continue);
        assert_eq!(receive(2, true, &[1; 16]), Received::Incomplete);
        assert_eq!(receive(0, true, &[1; 15]), Received::Malformed);
        assert_eq!(receive(0, false, &[1; 17]), Received::Malformed);
        assert_eq!(receive(0, true, &[1; 16]), Received::Continue);
        assert_eq!(receive(1, true, &[1; 16]), Received::Continue);
        assert_eq!(receive(2, true, &[1; 16]), Received::TooLarge);
        assert_eq!(receive(2, true, &[1; 16]), Received::Incomplete);
    }

    #[test]
    fn what_is_kept_is_bounded_by_number_and_by_octets() {
        let budget = Budget::new(64);
        let mut transfers = Transfers::new(&budget, 2);
        for n in 0..10 {
            let received = transfers.receive(Key(n), block(0, true), &[1; 16], 100, at(n));
            assert_eq!(received, Received::Continue);
            assert!(transfers.uploads.len() <= 2 && budget.used.get() <= 32);
        }
        let body = Bytes::from_static(&[0; 33]);
        let options = OptionSet::new();
        assert!(!transfers.store(KEY, Code::CONTENT, options.clone(), body.clone(), at(0)));
        assert!(transfers.store(KEY, Code::CONTENT, options, body.slice(1..), at(0)));
        let received = transfers.receive(Key(9), block(1, true), &[1; 16], 100, at(0));
        assert_eq!(received, Received::NoRoom);
        assert_eq!(transfers.expire(at(100), at(1)), (1, 1));
        assert_eq!(budget.used.get(), 0);
    }

    #[test]
    fn a_part_of_a_body_is_a_block_or_as_many_as_fit() {
        assert_eq!(part(40, block(0, false), 0), Some((0..16, true)));
        assert_eq!(part(40, block(2, false), 0), Some((32..40, false)));
        assert_eq!(part(32, block(1, false), 0), Some((16..32, false)));
        assert_eq!(part(32, block(2, false), 0), None);
        assert_eq!(part(0, block(0, false), 0), Some((0..0, false)));
        let bert = Block { num: 1, more: false, szx: Block::BERT };
        assert_eq!(part(10_000, bert, 3000), Some((1024..3072, true)));
    }

    #[test]
    fn a_transfer_is_known_by_what_a_cache_would_look_at() {
        let hashes = RandomState::new();
        let key = |options: &[CoapOption<'_>]| Key::of(&hashes, Code::GET, &Options::from(options));
        let path = |text| CoapOption::new(OptionNumber::URI_PATH, text);
        let next = CoapOption::new(OptionNumber::BLOCK2, Block { num: 1, more: false, szx: 6 });
        let size = CoapOption::new(OptionNumber::SIZE2, 0);
        assert_eq!(key(&[path("a")]), key(&[path("a"), next, size]));
        assert_ne!(key(&[path("a")]), key(&[path("b")]));
        assert_ne!(key(&[path("ab")]), key(&[path("a"), path("b")]));
    }
}
