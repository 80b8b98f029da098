//! When fields of a hash expire: of those that do, by name and in the order in which they will.
//!
//! ```text
//! by name   f ─▶ 17:05   g ─▶ 17:00          HPEXPIRETIME, HSET, HDEL
//! by time   17:00 g   17:05 f                what is due stands first
//! ```
//!
//! It knows no clock, and nothing of the values: its hash tells it which fields are gone.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::UnixMs;
use crate::store::digest;

/// The times of some fields of one hash.
#[derive(Debug, Default)]
pub struct Times {
    /// The same pairs as in `by_time`.
    by_field: BTreeMap<Box<[u8]>, UnixMs>,
    by_time: BTreeSet<(UnixMs, Box<[u8]>)>,
    /// Bytes of all these fields.
    bytes: usize,
    /// The sum of what they add to a digest.
    sum: u64,
}

/// Bytes that a field and its time take in memory beside those of the field, about: two nodes that are three quarters full.
const FIELD_BYTES: usize = 2 * size_of::<(UnixMs, Box<[u8]>)>() * 4 / 3;

impl Times {
    /// How many fields expire.
    pub fn len(&self) -> usize {
        self.by_field.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.by_field.is_empty()
    }

    /// When `field` expires, if it does.
    pub fn get(&self, field: &[u8]) -> Option<UnixMs> {
        self.by_field.get(field).copied()
    }

    /// `field` expires then.
    pub fn set(&mut self, field: &[u8], at: UnixMs) {
        self.remove(field);
        self.bytes += field.len();
        self.sum = self.sum.wrapping_add(of_time(field, at));
        self.by_field.insert(field.into(), at);
        self.by_time.insert((at, field.into()));
    }

    /// `field` does not expire, or is gone. `false`: it did not before.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let Some((field, at)) = self.by_field.remove_entry(field) else { return false };
        self.bytes -= field.len();
        self.sum = self.sum.wrapping_sub(of_time(&field, at));
        self.by_time.remove(&(at, field))
    }

    /// When the next one expires.
    pub fn first(&self) -> Option<UnixMs> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// All of them by rising time.
    pub fn iter(&self) -> impl Iterator<Item = (UnixMs, &[u8])> {
        self.by_time.iter().map(|(at, field)| (*at, &**field))
    }

    /// The fields whose time has come, the longest ago first.
    pub fn due(&self, now: UnixMs) -> impl Iterator<Item = &[u8]> {
        self.iter().take_while(move |(at, _)| *at <= now).map(|(_, field)| field)
    }

    /// Bytes of these fields with their times, as a record has them, about.
    pub fn bytes(&self) -> usize {
        self.bytes + (1 + size_of::<UnixMs>()) * self.len()
    }

    /// Bytes of memory, about; itself included. Costs the same for every size.
    pub fn memory(&self) -> usize {
        size_of::<Times>() + 2 * self.bytes + FIELD_BYTES * self.len()
    }

    /// What they add to the digest of their hash.
    pub fn digest(&self) -> u64 {
        self.sum
    }

    /// Frees up to `fields` of them; only dropping the whole may follow. `true`: what is left is cheap to drop.
    pub fn release(&mut self, fields: usize) -> bool {
        for _ in 0..fields {
            self.by_time.pop_first();
            self.by_field.pop_first();
        }
        self.by_field.len() <= fields
    }
}

/// What the time of one field adds.
fn of_time(field: &[u8], at: UnixMs) -> u64 {
    digest::pair(digest::bytes(3, field), at.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_times_is_kept_whatever_changes() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut times, mut model) = (Times::default(), BTreeMap::new());
        for _ in 0..5_000 {
            let field = rng.u8(..60).to_string().into_bytes();
            match rng.u8(..3) {
                0 => assert_eq!(times.remove(&field), model.remove(&field).is_some()),
                _ => {
                    let at = UnixMs::new(rng.u64(..40));
                    times.set(&field, at);
                    model.insert(field.clone(), at);
                }
            }
            assert_eq!((times.get(&field), times.len()), (model.get(&field).copied(), model.len()));
        }
        let now = UnixMs::new(20);
        let due: BTreeSet<_> = times.due(now).map(<[u8]>::to_vec).collect();
        assert_eq!(due, model.iter().filter(|(_, at)| **at <= now).map(|(field, _)| field.clone()).collect());
        assert_eq!(times.first(), model.values().min().copied());
        assert!(times.iter().is_sorted_by_key(|(at, _)| at));
        let mut other = Times::default();
        model.iter().for_each(|(field, at)| other.set(field, *at));
        assert_eq!((other.digest(), other.memory()), (times.digest(), times.memory()));
        model.keys().for_each(|field| assert!(times.remove(field)));
        assert_eq!((times.digest(), times.memory()), (0, Times::default().memory()));
    }
}
