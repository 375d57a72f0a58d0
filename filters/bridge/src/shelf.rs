//! Small values that outlive a connection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// A place for small values that all instances of a filter in one process see. Keys cannot be listed
/// or removed, so their number has to be bounded by whoever chooses them.
pub trait Shelf: fmt::Debug {
    /// The value of a key, empty if there is none, and a number that changes with it.
    fn load(&self, key: &str) -> (Vec<u8>, u32);

    /// Replaces a value if it is still the one that came with this number. Whether it was.
    fn store(&self, key: &str, value: &[u8], number: u32) -> bool;
}

/// A shelf of one instance alone.
#[derive(Debug, Default)]
pub struct OwnShelf(RefCell<BTreeMap<String, (Vec<u8>, u32)>>);

impl Shelf for OwnShelf {
    fn load(&self, key: &str) -> (Vec<u8>, u32) {
        self.0.borrow().get(key).cloned().unwrap_or_default()
    }

    fn store(&self, key: &str, value: &[u8], number: u32) -> bool {
        let mut values = self.0.borrow_mut();
        let known = values.entry(key.to_owned()).or_default();
        let same = known.1 == number;
        if same {
            *known = (value.to_vec(), number.wrapping_add(1));
        }
        same
    }
}
