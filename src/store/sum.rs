//! The digest of one live slot, taken in steps while the slot is written to: the sum over the keys behind a cursor, which
//! runs over the hashes. A write says what its key added before and what it adds now; whether that matters depends on the
//! side of the cursor on which the key lies, and on the moment that the digest is to be of.
//!
//! ```text
//!                   summed              cursor          still to be summed
//! hashes   0 ─────────────────────────────┼──────────────────────────────── 2^64
//! of the end      − before, + after       │   nothing: the cursor will see it
//! of the begin    nothing                 │   + before, − after: the cursor will see what is there now
//! ```
//!
//! It is no lock and no copy: the slot may grow, split and shrink between steps, since a cursor is a bound of hashes.

use super::Entry;
use super::hash::keyed_hash;
use super::slot::{Cursor, Slot, Storage};
use crate::id::{Digest, HashSlot};
use crate::snapshot::{AsOf, Located, SumId};

/// A digest under way.
#[derive(Debug)]
pub(super) struct SlotSum {
    pub id: SumId,
    pub slot: HashSlot,
    of: AsOf,
    /// Keys with smaller hashes are summed.
    cursor: Cursor,
    sum: Digest,
}

/// What an entry counts for beside the bytes of its value: about as much as finding and mixing it takes.
const ENTRY_COST: usize = 64;
/// What an aggregate counts for: a small one is walked, of a large one the sum is kept.
const AGGREGATE_COST: usize = 512;

impl SlotSum {
    pub fn new(id: SumId, slot: HashSlot, of: AsOf) -> SlotSum {
        SlotSum { id, slot, of, cursor: 0, sum: Digest::default() }
    }

    /// Goes on for about `room` bytes. The digest, once all is summed.
    pub fn step(&mut self, slot: Slot, storage: &Storage, room: usize) -> Option<Digest> {
        let mut spent = 0;
        while spent < room {
            let from = self.cursor;
            let next = slot.walk(storage, from, |handle| {
                let entry = storage.heap.entry(handle);
                // The tables may have changed since the cursor was at the boundary of a line.
                if keyed_hash(entry.key()) >= from {
                    self.sum += entry.digest();
                    spent += cost(&entry);
                }
            });
            spent += 1;
            match next {
                Some(next) => self.cursor = next,
                None => return Some(self.sum),
            }
        }
        None
    }

    /// Whether a write on a key at this place is to be told.
    #[inline]
    pub fn concerns(&self, at: Located) -> bool {
        at.slot == self.slot && (at.hash < self.cursor) == (self.of == AsOf::End)
    }

    /// What the key that is about to change adds.
    pub fn before(&mut self, digest: Digest) {
        match self.of {
            AsOf::End => self.sum -= digest,
            AsOf::Begin => self.sum += digest,
        }
    }

    /// What it adds now that it has changed.
    pub fn after(&mut self, digest: Digest) {
        match self.of {
            AsOf::End => self.sum += digest,
            AsOf::Begin => self.sum -= digest,
        }
    }

    /// The slot holds something else altogether. `false`: what was to be summed is gone.
    pub fn replaced(&mut self) -> bool {
        self.cursor = 0;
        self.sum = Digest::default();
        self.of == AsOf::End
    }
}

fn cost(entry: &Entry<'_>) -> usize {
    ENTRY_COST
        + match entry.value() {
            super::ValueRef::Str(bytes) => bytes.len(),
            super::ValueRef::Boxed(_) => AGGREGATE_COST,
        }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use crate::id::{HashSlot, UnixMs};
    use crate::snapshot::{AsOf, Copy, Keyspace, Summed};
    use crate::store::value::{Set, Value};
    use crate::store::{KeyspaceStore, hash};

    fn slot() -> HashSlot {
        hash::slot_of(b"{tag}")
    }

    /// One write of any kind on a key of the slot.
    fn write(store: &mut KeyspaceStore, random: &mut Rng) {
        let key = format!("{{tag}}{}", random.u16(..6_000)).into_bytes();
        let at = store.locate(&key);
        match random.u8(..7) {
            0 => store.set_string(at, &key, &random.u64(..).to_le_bytes(), None),
            1 => store.set_string(at, &key, &vec![random.u8(..); random.usize(..2_000)], Some(UnixMs::new(5))),
            2 => _ = store.set_expiry(at, &key, Some(UnixMs::new(random.u64(..9)))),
            3 => _ = store.set_expiry(at, &key, None),
            4 => _ = store.remove(at, &key),
            5 => {
                let mut set = Set::new();
                (0..random.u8(..90)).for_each(|member| _ = set.insert(&[member]));
                store.set_value(at, &key, Box::new(Value::Set(set)), None);
            }
            _ => {
                store.update(at, &key, |value| match value {
                    Value::Set(set) => _ = set.insert(&[random.u8(..)]),
                    Value::Str(string) => string.extend_from_slice(&[random.u8(..)]),
                    _ => {}
                });
            }
        }
    }

    #[test]
    fn writes_between_steps_do_not_blur_the_moment() {
        let mut random = Rng::with_seed(11);
        let mut store = KeyspaceStore::new();
        let mut steps = 0;
        for round in 0..60 {
            let of = if round % 2 == 0 { AsOf::End } else { AsOf::Begin };
            (0..round * 40).for_each(|_| write(&mut store, &mut random));
            store.set_digest_step_bytes(random.usize(1..20_000));
            let begin = store.digest(Copy::Live, slot());
            let mut summed = store.digest_begin(slot(), of);
            while let Summed::More(id) = summed {
                (0..random.u8(..8)).for_each(|_| write(&mut store, &mut random));
                steps += 1;
                summed = store.digest_step(id);
            }
            let expected = if of == AsOf::End { store.digest(Copy::Live, slot()) } else { begin };
            assert_eq!(summed, Summed::Done(expected), "round {round}");
        }
        assert!(steps > 1_000, "{steps} steps");
        assert!(store.sums_are_over());
    }

    #[test]
    fn what_is_replaced_has_no_digest_of_before() {
        let mut random = Rng::with_seed(12);
        let mut store = KeyspaceStore::new();
        (0..2_000).for_each(|_| write(&mut store, &mut random));
        store.set_digest_step_bytes(1);
        let (begin, end) = (store.digest_begin(slot(), AsOf::Begin), store.digest_begin(slot(), AsOf::End));
        let (Summed::More(begin), Summed::More(end)) = (begin, end) else { panic!("{begin:?} {end:?}") };
        store.clear(Copy::Live, slot());
        assert_eq!(store.digest_step(begin), Summed::Lost);
        assert_eq!(store.digest_step(end), Summed::Done(Default::default()));
        assert!(store.sums_are_over());
    }
}
