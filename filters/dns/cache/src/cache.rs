//! The table of answers.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use codec_dns::{ClientSubnet, MAX_MESSAGE_LEN, Message};
use hashbrown::HashTable;

use crate::answer::{Answer, Audience, Encoded, Stored};
use crate::asked::{Asked, Key};
use crate::entry::{Age, Entry, Hit};
use crate::limits::{Limits, millis};
use crate::network::{Lengths, Network};

/// Below so many octets the table leaves no room for answers.
const MIN_SIZE: usize = 4_096;
/// The largest answer takes this part of all.
const SHARE: usize = 8;
/// For so many more answers there is room when the table grows, and an eighth of those that are there.
const SPARE: usize = 16;

/// The answers of one worker. See the [crate's description](crate).
///
/// What goes when there is no room is found by a clock: a hand goes around all answers and takes out those
/// that have expired, or that were not used since it came by last. So a hit has to set a bit only, and
/// answers that are asked for once, as random names are, do not drive out those that are asked for again.
#[derive(Debug)]
pub struct Cache<S = RandomState> {
    limits: Limits,
    hasher: S,
    /// Where in `entries` the answers with a hash are.
    index: HashTable<u32>,
    entries: Vec<Entry>,
    /// Of the entries, besides their places.
    octets: usize,
    lengths: Lengths,
    /// The next that is looked at to make room.
    hand: usize,
    evictions: u64,
    /// Where answers are encoded: as long as the largest.
    room: Box<[u8]>,
}

impl Cache {
    /// An empty one. Its hashes are keyed with a secret, so that nobody can choose names that end up in the
    /// same place.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with_hasher(limits, RandomState::new())
    }
}

impl<S: BuildHasher> Cache<S> {
    /// An empty one with other hashes. Whatever they are, what is found is what was asked for.
    #[must_use]
    pub fn with_hasher(limits: Limits, hasher: S) -> Self {
        let largest = if limits.max_size < MIN_SIZE { 0 } else { limits.max_size / SHARE };
        Self {
            limits,
            hasher,
            index: HashTable::new(),
            entries: Vec::new(),
            octets: 0,
            lengths: Lengths::new(),
            hand: 0,
            evictions: 0,
            room: vec![0; largest.min(MAX_MESSAGE_LEN)].into_boxed_slice(),
        }
    }

    /// How many answers there are, those that have expired included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many octets they take, the index included. It is what was allocated for them, without what the
    /// allocator itself takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.octets + self.entries.capacity() * size_of::<Entry>() + self.index.allocation_size()
    }

    /// How many answers had to go that could still have been used.
    #[must_use]
    pub const fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Forgets all answers.
    pub fn clear(&mut self) {
        self.index = HashTable::new();
        self.entries = Vec::new();
        self.octets = 0;
        self.lengths = Lengths::new();
        self.hand = 0;
    }

    /// Finds the answer to what is asked.
    #[inline]
    pub fn get<'a>(&'a mut self, asked: &Asked<'a>, now: Duration) -> Option<Hit<'a>> {
        let now = millis(now);
        let key = Key::new(asked, &self.hasher);
        let (index, age) = self.best(&key, asked.subnet, now)?;
        let entry = self.entries.get_mut(index)?;
        Some(entry.hit(asked.question.name, age, now, &self.limits))
    }

    /// Keeps an answer, if it can be kept. What was known before about the same is forgotten, unless the
    /// answer says nothing about it.
    pub fn put(&mut self, asked: &Asked<'_>, answer: &Message<'_>, now: Duration) -> Stored {
        match self.try_put(asked, answer, millis(now)) {
            Ok(()) => Stored::Yes,
            Err(why) => why,
        }
    }

    fn try_put(&mut self, asked: &Asked<'_>, answer: &Message<'_>, now: u64) -> Result<(), Stored> {
        let kind = Answer::read(asked, answer)?;
        let mut audience = Audience::read(asked, answer)?;
        let key = Key::new(asked, &self.hasher);
        let is_failure = matches!(kind, Answer::Failure);
        if is_failure {
            if let Some((index, Age::Fresh | Age::Stale)) = self.best(&key, asked.subnet, now)
                && let Some(entry) = self.entries.get_mut(index)
            {
                entry.failed(now, &self.limits);
                return Err(Stored::FailureWithAnswer);
            }
            if self.limits.failure_ttl.as_secs() == 0 {
                return Err(Stored::Failure);
            }
            audience = Audience::of_failure(asked);
        }
        let hash = self.hash(&key, audience.network.as_ref());
        let old = self.find(&key, hash, audience.network.as_ref());
        let encoded = Encoded::new(asked, answer, kind, &self.limits, &mut self.room);
        match (encoded, old) {
            (Ok(encoded), _) => {
                let identity = (hash, key.flags);
                let entry = Entry::new(identity, (encoded, is_failure), audience, now);
                match old {
                    Some(index) => self.replace(index, entry),
                    None => self.insert(entry),
                }
                while self.size() > self.limits.max_size && self.evict(now) {}
                Ok(())
            }
            (Err(why), old) => {
                if let Some(index) = old {
                    self.remove(index);
                }
                Err(why)
            }
        }
    }

    /// The best answer for this subnet: an answer before a failure, one that holds before one that has
    /// expired, and of those the one for the smallest network (RFC 7871 §7.3.2).
    #[inline]
    fn best(&self, key: &Key, subnet: Option<ClientSubnet>, now: u64) -> Option<(usize, Age)> {
        let subnet = subnet.filter(|subnet| subnet.source_prefix() > 0);
        let mut best = None;
        if let Some(subnet) = subnet {
            best = self.best_around(key, subnet, now);
            if let Some((_, Age::Fresh)) = best {
                return best;
            }
        }
        let found = self.find(key, key.hash, None).and_then(|index| {
            let entry = self.entries.get(index)?;
            let is_for_them = subnet.is_none() || entry.audience.is_for_all;
            is_for_them.then(|| (index, entry.age(now, &self.limits)))
        });
        better(best, found)
    }

    #[inline(never)]
    fn best_around(&self, key: &Key, subnet: ClientSubnet, now: u64) -> Option<(usize, Age)> {
        let mut best = None;
        for network in self.lengths.around(subnet) {
            let found = self.find(key, self.hash(key, Some(&network)), Some(&network));
            let found = found
                .and_then(|index| Some((index, self.entries.get(index)?.age(now, &self.limits))));
            best = better(best, found);
            if let Some((_, Age::Fresh)) = best {
                break;
            }
        }
        best
    }

    fn hash(&self, key: &Key, network: Option<&Network>) -> u64 {
        network.map_or(key.hash, |network| self.hasher.hash_one((key.hash, network)))
    }

    #[inline]
    fn find(&self, key: &Key, hash: u64, network: Option<&Network>) -> Option<usize> {
        let is = |index: &u32| {
            self.entries.get(*index as usize).is_some_and(|entry| entry.is(key, hash, network))
        };
        self.index.find(hash, is).map(|index| *index as usize)
    }

    fn insert(&mut self, entry: Entry) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            self.entries.reserve_exact(len / 8 + SPARE);
        }
        self.octets += entry.octets();
        if let Some(network) = &entry.audience.network {
            self.lengths.add(network);
        }
        let hash = entry.hash;
        self.entries.push(entry);
        let hash_of = |index: &u32| self.entries.get(*index as usize).map_or(0, |entry| entry.hash);
        // Each takes octets: there are far fewer of them than an index can count.
        self.index.insert_unique(hash, len as u32, hash_of);
    }

    /// Puts an answer in the place of an older one with the same key.
    fn replace(&mut self, index: usize, entry: Entry) {
        if let Some(place) = self.entries.get_mut(index) {
            self.octets = self.octets - place.octets() + entry.octets();
            let was_used = place.was_used;
            *place = entry;
            place.was_used = was_used;
        }
    }

    /// Takes an answer out. The last takes its place.
    fn remove(&mut self, index: usize) {
        let Some(last) = self.entries.len().checked_sub(1).filter(|last| index <= *last) else {
            return;
        };
        let entry = self.entries.swap_remove(index);
        self.octets -= entry.octets();
        if let Some(network) = &entry.audience.network {
            self.lengths.remove(network);
        }
        if let Ok(found) = self.index.find_entry(entry.hash, |at| *at as usize == index) {
            found.remove();
        }
        if let Some(moved) = self.entries.get(index)
            && let Some(at) = self.index.find_mut(moved.hash, |at| *at as usize == last)
        {
            *at = index as u32;
        }
        let least = self.entries.len() + self.entries.len() / 8 + SPARE;
        if 2 * least < self.entries.capacity() {
            self.entries.shrink_to(least);
            let entries = &self.entries;
            let hash_of = |index: &u32| entries.get(*index as usize).map_or(0, |entry| entry.hash);
            self.index.shrink_to(least, hash_of);
        }
    }

    /// Takes out one answer; not the last, which is the newest. Whether there was any other.
    fn evict(&mut self, now: u64) -> bool {
        loop {
            let Some(last) = self.entries.len().checked_sub(1).filter(|last| *last > 0) else {
                return false;
            };
            if self.hand >= last {
                self.hand = 0;
            }
            let Some(entry) = self.entries.get_mut(self.hand) else { return false };
            let is_gone = entry.age(now, &self.limits) == Age::Gone;
            if entry.was_used && !is_gone {
                entry.was_used = false;
                self.hand += 1;
                continue;
            }
            self.evictions += u64::from(!is_gone);
            self.remove(self.hand);
            // The newest is there now.
            self.hand += 1;
            return true;
        }
    }
}

fn better(one: Option<(usize, Age)>, other: Option<(usize, Age)>) -> Option<(usize, Age)> {
    let other = other.filter(|(_, age)| *age != Age::Gone);
    match (one, other) {
        (Some((_, age)), Some((_, other_age))) if other_age > age => other,
        (None, _) => other,
        _ => one,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use codec_dns::{Builder, Class, EdnsFlags, Flags, NameBuf, Question, RecordData, RecordType};
    use codec_dns::{Section, decode};

    use super::*;
    use crate::asked::AskedFlags;

    /// Puts an answer with so many octets of text.
    fn put(cache: &mut Cache, name: u32, octets: usize, ttl: u32, now: u64) -> Stored {
        let name = NameBuf::from_text(&format!("name{name}.example")).unwrap();
        let question =
            Question { name: name.as_name(), record_type: RecordType(9_999), class: Class::IN };
        let subnet = ClientSubnet::new([10, octets as u8, 0, 0].into(), 16, 0);
        let subnet = subnet.filter(|_| octets.is_multiple_of(3));
        let flags = AskedFlags::new(Flags::RD, EdnsFlags::NONE);
        let asked = Asked { question, flags, subnet };
        let mut out = vec![0; 65_535];
        let mut builder = Builder::new(&mut out, 0, Flags::QR).unwrap();
        builder.question(&question).unwrap();
        let text = vec![0; octets];
        let data = RecordData::Other { record_type: RecordType(9_999), octets: &text };
        builder.record(Section::Answer, name.as_name(), Class::IN, ttl, &data).unwrap();
        let scoped = [codec_dns::EdnsOption::ClientSubnet(
            ClientSubnet::new([10, octets as u8, 0, 0].into(), 16, octets as u8 % 20).unwrap(),
        )];
        if subnet.is_some() {
            let options = scoped[..].into();
            builder.edns(codec_dns::Edns { options, ..codec_dns::Edns::new(512) }, None).unwrap();
        }
        let len = builder.finish().unwrap();
        let stored = cache.put(&asked, &decode(&out[..len]).unwrap(), Duration::from_millis(now));
        assert!(cache.size() <= cache.limits.max_size, "{} octets", cache.size());
        stored
    }

    /// Counts everything anew.
    fn check(cache: &Cache) {
        assert_eq!(cache.octets, cache.entries.iter().map(Entry::octets).sum::<usize>());
        assert_eq!(cache.index.len(), cache.entries.len());
        let places: HashSet<u32> = cache.index.iter().copied().collect();
        assert_eq!(places.len(), cache.entries.len());
        let mut lengths = Lengths::new();
        for (at, entry) in cache.entries.iter().enumerate() {
            assert!(cache.index.find(entry.hash, |found| *found as usize == at).is_some());
            entry.audience.network.iter().for_each(|network| lengths.add(network));
        }
        assert_eq!(format!("{lengths:?}"), format!("{:?}", cache.lengths));
    }

    #[test]
    fn what_is_kept_is_counted_to_the_octet() {
        for max_size in [0, 4_095, 4_096, 6_000, 50_000, 1 << 20] {
            let limits = Limits { max_size, stale: Duration::from_secs(1), ..Limits::default() };
            let mut cache = Cache::new(limits);
            let mut random = 1_u32;
            let mut now = 0;
            let puts = if cfg!(target_family = "wasm") { 2_000 } else { 20_000 };
            for n in 0..puts {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let size = if random >> 28 == 0 { random >> 12 & 0xffff } else { random >> 22 };
                let name = random >> 8 & 0xfff;
                put(&mut cache, name, size.min(60_000) as usize, random >> 16 & 15, now);
                now += u64::from(random >> 30);
                if n % (puts / 20) == 0 {
                    check(&cache);
                }
            }
            assert_eq!(cache.is_empty(), max_size < MIN_SIZE);
            cache.clear();
            check(&cache);
            assert_eq!((cache.size(), cache.len()), (0, 0));
        }
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let limits = Limits { max_size: 50_000, ..Limits::default() };
        let mut cache = Cache::new(limits);
        let name = NameBuf::from_text("name0.example").unwrap();
        let question =
            Question { name: name.as_name(), record_type: RecordType(9_999), class: Class::IN };
        let flags = AskedFlags::new(Flags::RD, EdnsFlags::NONE);
        let asked = Asked { question, flags, subnet: None };
        put(&mut cache, 0, 100, 900, 0);
        for n in 1..10_000 {
            put(&mut cache, n, 100, 900, 0);
            if n % 50 == 0 {
                assert!(cache.get(&asked, Duration::ZERO).is_some());
                // One that takes its place is used as much.
                put(&mut cache, 0, 100, 900, 0);
            }
        }
        assert_eq!(cache.evictions(), 10_000 - cache.len() as u64);
        assert!(cache.len() > 50_000 / 400, "{} answers", cache.len());
        put(&mut cache, 10_000, 100, 900, 0);
        for n in 20_000..21_000 {
            put(&mut cache, n, 100, 900, 0);
        }
        assert!(cache.get(&asked, Duration::ZERO).is_none(), "not used for long");
    }

    #[test]
    fn what_has_expired_goes_first_and_is_no_eviction() {
        let limits = Limits { max_size: 50_000, ..Limits::default() };
        let mut cache = Cache::new(limits);
        let mut n = 0;
        while cache.evictions() == 0 {
            put(&mut cache, n, 100, if n % 2 == 0 { 1 } else { 900 }, 0);
            n += 1;
        }
        let evictions = cache.evictions();
        let some = cache.len() as u32 / 4;
        for entry in &mut cache.entries {
            entry.was_used = true;
        }
        for name in 0..some {
            put(&mut cache, 10_000 + name, 100, 900, 1_000);
        }
        assert_eq!(cache.evictions(), evictions);
    }

    #[test]
    fn room_is_given_back_when_few_large_answers_replace_many_small_ones() {
        let limits = Limits { max_size: 1 << 20, ..Limits::default() };
        let mut cache = Cache::new(limits);
        for n in 0..20_000 {
            put(&mut cache, n, 1, 900, 0);
        }
        for n in 0..100 {
            put(&mut cache, 100_000 + n, 60_000, 900, 0);
        }
        assert!(cache.octets > cache.size() * 9 / 10, "{} of {}", cache.octets, cache.size());
        check(&cache);
    }
}
