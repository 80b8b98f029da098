//! Keys that clients wait for: who waits for which, in what order, and which of them changed. It costs a write one look at an
//! empty table as long as nobody waits.
//!
//! ```text
//! key ──▶ waiters, who came first stands first
//!  └── the key changes ──▶ ready, once ──▶ whoever serves the waiters takes it
//! ```
//!
//! It does not know what a waiter waits to do, nor whether the change was of any use to it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

/// The number of one who waits; whoever came later has a higher one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WaiterId(u64);

/// The awaited keys of one shard.
#[derive(Debug, Default)]
pub struct Awaited {
    keys: HashMap<Box<[u8]>, Key>,
    /// Keys that changed, in the order in which they did; each once, and each in `keys` when it was put here.
    ready: VecDeque<Box<[u8]>>,
    next: u64,
}

#[derive(Debug, Default)]
struct Key {
    /// Never empty.
    waiters: BTreeSet<WaiterId>,
    is_ready: bool,
}

impl Awaited {
    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key has changed that is still to be looked at.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The number of the next one who waits.
    pub fn number(&mut self) -> WaiterId {
        self.next += 1;
        WaiterId(self.next)
    }

    /// `waiter` waits for `key`.
    pub fn add(&mut self, key: &[u8], waiter: WaiterId) {
        match self.keys.get_mut(key) {
            Some(found) => _ = found.waiters.insert(waiter),
            None => {
                let waiters = BTreeSet::from([waiter]);
                self.keys.insert(key.into(), Key { waiters, is_ready: false });
            }
        }
    }

    /// `waiter` does not wait for `key` any more.
    pub fn remove(&mut self, key: &[u8], waiter: WaiterId) {
        if let Some(found) = self.keys.get_mut(key) {
            found.waiters.remove(&waiter);
            if found.waiters.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    /// `key` has changed.
    pub fn touch(&mut self, key: &[u8]) {
        if let Some(found) = self.keys.get_mut(key).filter(|found| !found.is_ready) {
            found.is_ready = true;
            self.ready.push_back(key.into());
        }
    }

    /// The keys for which `concerns` holds have changed.
    pub fn touch_where(&mut self, mut concerns: impl FnMut(&[u8]) -> bool) {
        for (key, found) in self.keys.iter_mut().filter(|(key, found)| !found.is_ready && concerns(key)) {
            found.is_ready = true;
            self.ready.push_back(key.clone());
        }
    }

    /// The key that changed first of those that are still to be looked at. From now on it may change again.
    pub fn take_ready(&mut self) -> Option<Box<[u8]>> {
        let key = self.ready.pop_front()?;
        if let Some(found) = self.keys.get_mut(&key) {
            found.is_ready = false;
        }
        Some(key)
    }

    /// Who waits for `key` and came next after `before`, or came first of all.
    pub fn waiter_after(&self, key: &[u8], before: Option<WaiterId>) -> Option<WaiterId> {
        let from = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys.get(key)?.waiters.range((from, Bound::Unbounded)).next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_of_a_key_stand_in_the_order_in_which_they_came() {
        let mut awaited = Awaited::default();
        let waiters: Vec<WaiterId> = (0..3).map(|_| awaited.number()).collect();
        for waiter in [waiters[1], waiters[0], waiters[2]] {
            awaited.add(b"a", waiter);
        }
        awaited.add(b"b", waiters[0]);
        let mut order = Vec::new();
        while let Some(waiter) = awaited.waiter_after(b"a", order.last().copied()) {
            order.push(waiter);
        }
        assert_eq!(order, waiters);
        assert_eq!(awaited.waiter_after(b"c", None), None);
        waiters.iter().for_each(|waiter| awaited.remove(b"a", *waiter));
        assert!(!awaited.is_empty());
        awaited.remove(b"b", waiters[0]);
        assert!(awaited.is_empty());
    }

    #[test]
    fn a_key_that_changed_is_ready_once_and_may_change_again_once_it_is_taken() {
        let mut awaited = Awaited::default();
        let waiter = awaited.number();
        awaited.touch(b"a");
        assert!(!awaited.has_ready(), "nobody waits for it");
        for key in [b"a", b"b", b"c"] {
            awaited.add(key, waiter);
        }
        awaited.touch(b"b");
        awaited.touch(b"a");
        awaited.touch(b"b");
        awaited.touch_where(|key| key != b"a");
        let mut taken = Vec::new();
        while let Some(key) = awaited.take_ready() {
            taken.push(key);
        }
        assert_eq!(taken, [b"b".as_slice().into(), b"a".as_slice().into(), Box::<[u8]>::from(b"c".as_slice())]);
        awaited.touch(b"a");
        awaited.remove(b"a", waiter);
        assert!(awaited.take_ready().is_some() && !awaited.has_ready(), "it may be gone by the time it is looked at");
    }
}
