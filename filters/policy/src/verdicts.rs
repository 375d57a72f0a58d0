//! Answers to checks that hold for a while.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use hashbrown::HashMap;

/// The answers one session was given. When full, the oldest is forgotten first.
#[derive(Debug)]
pub struct Verdicts<V> {
    by_key: HashMap<Rc<[u8]>, (V, Duration)>,
    in_order: VecDeque<Rc<[u8]>>,
    most: usize,
}

impl<V: Clone> Verdicts<V> {
    /// Room for so many answers.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { by_key: HashMap::new(), in_order: VecDeque::new(), most }
    }

    /// The answer for this key, if it still holds.
    #[must_use]
    pub fn get(&self, key: &[u8], now: Duration) -> Option<V> {
        let (verdict, until) = self.by_key.get(key)?;
        (now < *until).then(|| verdict.clone())
    }

    /// Remembers an answer until a time.
    pub fn put(&mut self, key: &[u8], verdict: V, until: Duration) {
        if self.most == 0 {
            return;
        }
        if let Some(known) = self.by_key.get_mut(key) {
            *known = (verdict, until);
            return;
        }
        if self.in_order.len() >= self.most
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        let key: Rc<[u8]> = key.into();
        self.in_order.push_back(Rc::clone(&key));
        self.by_key.insert(key, (verdict, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn an_answer_holds_until_its_time() {
        let mut verdicts = Verdicts::new(10);
        verdicts.put(b"a", true, at(5));
        assert_eq!(verdicts.get(b"a", at(4)), Some(true));
        assert_eq!(verdicts.get(b"a", at(5)), None);
        verdicts.put(b"a", true, at(9));
        assert_eq!(verdicts.get(b"a", at(5)), Some(true));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut verdicts = Verdicts::new(2);
        for key in [b"a", b"b", b"c"] {
            verdicts.put(key, true, at(5));
        }
        assert_eq!(verdicts.get(b"a", at(0)), None);
        assert_eq!(verdicts.get(b"b", at(0)), Some(true));
        assert_eq!(verdicts.by_key.len(), 2);
        Verdicts::new(0).put(b"a", true, at(5));
    }
}
