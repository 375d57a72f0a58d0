//! A table with a fixed number of places.

/// How many places there are for one key.
const WAYS: usize = 8;

/// What is known of one key.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Entry {
    key: u64,
    /// When there is nothing to know any more, in nanoseconds; what the entry says is void from then on.
    pub(crate) until: u64,
    /// For whoever uses the table; zero in a new entry.
    pub(crate) note: u8,
}

/// What is known of keys: hashes with a secret, so that nobody can choose where in the table they are.
/// Where there is no room, the entry that says something for the shortest time is forgotten.
#[derive(Debug)]
pub(crate) struct Table {
    /// Allocated with the first key.
    sets: Vec<[Entry; WAYS]>,
    places: usize,
    forgotten: u64,
}

impl Table {
    /// A table of so many places, or up to seven more.
    pub(crate) fn new(places: usize) -> Self {
        Self { sets: Vec::new(), places, forgotten: 0 }
    }

    /// The entry of this key, if it still says something.
    pub(crate) fn find(&mut self, key: u64, now: u64) -> Option<&mut Entry> {
        let entry = self.set(key)?.iter_mut().find(|entry| entry.key == key)?;
        (entry.until > now).then_some(entry)
    }

    /// Changes the entry of this key, or a new one that says nothing yet.
    pub(crate) fn change<R>(
        &mut self,
        key: u64,
        now: u64,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> Option<R> {
        if self.sets.is_empty() {
            self.sets = vec![[Entry::default(); WAYS]; self.places.div_ceil(WAYS)];
        }
        let set = self.set(key)?;
        let new = Entry { key, until: 0, note: 0 };
        let mut forgets = false;
        let entry = match set.iter().position(|entry| entry.key == key) {
            Some(at) => set.get_mut(at)?,
            None => {
                let entry = set.iter_mut().min_by_key(|entry| entry.until)?;
                forgets = entry.until > now;
                *entry = new;
                entry
            }
        };
        if entry.until <= now {
            *entry = new;
        }
        let result = change(entry);
        self.forgotten += u64::from(forgets);
        Some(result)
    }

    /// How many entries that still said something had to make room.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How many octets it takes.
    pub(crate) fn memory(&self) -> usize {
        self.sets.capacity() * size_of::<[Entry; WAYS]>()
    }

    /// Of the key's 64 bits, the upper half says where it is.
    fn set(&mut self, key: u64) -> Option<&mut [Entry; WAYS]> {
        let index = ((key >> 32) * self.sets.len() as u64) >> 32;
        self.sets.get_mut(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(table: &mut Table, key: u64, now: u64, until: u64) {
        table.change(key, now, |entry| entry.until = entry.until.max(until));
    }

    fn until(table: &mut Table, key: u64) -> Option<u64> {
        table.find(key, 0).map(|entry| entry.until)
    }

    #[test]
    fn a_full_table_forgets_what_says_something_for_the_shortest_time() {
        let mut table = Table::new(8);
        for key in 1..=8 {
            put(&mut table, key, 0, 100 + key);
        }
        put(&mut table, 9, 0, 200);
        assert_eq!((until(&mut table, 1), until(&mut table, 9)), (None, Some(200)));
        assert_eq!(table.forgotten(), 1);
        // The newcomer goes first, where all others say more.
        put(&mut table, 10, 0, 50);
        put(&mut table, 11, 0, 60);
        assert_eq!((until(&mut table, 2), until(&mut table, 10)), (None, None));
        for key in 3..=8 {
            assert_eq!(until(&mut table, key), Some(100 + key));
        }
        assert_eq!(table.forgotten(), 3);
    }

    #[test]
    fn what_says_nothing_any_more_makes_room_at_no_loss() {
        let mut table = Table::new(8);
        for key in 1..=8 {
            put(&mut table, key, 0, 100);
        }
        for key in 11..=18 {
            put(&mut table, key, 100, 200);
        }
        assert_eq!(table.forgotten(), 0);
        assert!(table.find(1, 0).is_none() && table.find(11, 200).is_none());
    }

    #[test]
    fn an_entry_that_says_nothing_any_more_is_as_new() {
        let mut table = Table::new(8);
        table.change(1, 0, |entry| (entry.until, entry.note) = (100, 7));
        assert_eq!(table.find(1, 99).map(|entry| entry.note), Some(7));
        assert_eq!(table.change(1, 100, |entry| (entry.until, entry.note)), Some((0, 0)));
    }

    #[test]
    fn a_table_never_grows() {
        let mut table = Table::new(1000);
        assert_eq!(table.sets.capacity(), 0);
        for n in 0..100_000_u64 {
            put(&mut table, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n, n + 1_000_000);
            assert_eq!(table.sets.capacity() * WAYS, 1000);
        }
        let used = table.sets.iter().flatten().filter(|entry| entry.until > 0).count();
        assert_eq!(used, 1000);
        assert_eq!(table.forgotten(), 99_000);
    }
}
