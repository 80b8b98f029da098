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
//! A string of more than a megabyte is read in steps of its own, behind the cursor. Written to in between it is read anew; a digest
//! that this would keep from ending, or that is to be of before, is given up.
//!
//! It is no lock and no copy: the slot may grow, split and shrink between steps, since a cursor is a bound of hashes.

use super::hash::keyed_hash;
use super::slot::{Cursor, Slot, Storage};
use super::{Entry, ValueRef, digest};
use crate::id::{Digest, HashSlot};
use crate::limits::DIGEST_AT_ONCE_BYTES_MAX as LONG_BYTES;
use crate::snapshot::record::Kind;
use crate::snapshot::{AsOf, Located, SumId};

/// A digest under way.
#[derive(Debug)]
pub(super) struct SlotSum {
    pub id: SumId,
    pub slot: HashSlot,
    of: AsOf,
    /// Keys with smaller hashes are summed, or are in `long`; `None`: all are.
    cursor: Option<Cursor>,
    sum: Digest,
    /// Strings behind the cursor that take several steps themselves, and are not in the sum yet.
    long: Vec<Long>,
    /// Those that are in the sum, each with what it adds: it is not to be read again to be taken out.
    long_summed: Vec<(Box<[u8]>, Digest)>,
    /// How often a long string was written to before or after it was read.
    restarts: u32,
    /// What the digest was to be of is gone.
    is_lost: bool,
}

/// A long string that is being read.
#[derive(Debug)]
struct Long {
    key: Box<[u8]>,
    hash: u64,
    parts: digest::Parts,
    /// Bytes read.
    read: usize,
}

/// How far a step came.
pub(super) enum Stepped {
    More,
    Done(Digest),
    Lost,
}

/// What an entry counts for beside the bytes of its value: about as much as finding and mixing it takes.
const ENTRY_COST: usize = 64;
/// What an aggregate counts for: a small one is walked, of a large one the sum is kept.
const AGGREGATE_COST: usize = 512;
/// Bytes of a long string that are read at least at a time, however short a step is to be.
const LONG_STEP_BYTES_MIN: usize = 64 << 10;
/// Writes to long strings of a slot after which its digest is given up: one that is written to all the time has no end.
const RESTARTS_MAX: u32 = 8;

impl SlotSum {
    pub fn new(id: SumId, slot: HashSlot, of: AsOf) -> SlotSum {
        SlotSum {
            id,
            slot,
            of,
            cursor: Some(0),
            sum: Digest::default(),
            long: Vec::new(),
            long_summed: Vec::new(),
            restarts: 0,
            is_lost: false,
        }
    }

    /// Goes on for about `room` bytes.
    pub fn step(&mut self, slot: Slot, storage: &Storage, room: usize) -> Stepped {
        let mut spent = 0;
        while spent < room {
            if self.is_lost {
                return Stepped::Lost;
            }
            if let Some(long) = self.long.pop() {
                spent += self.read_on(long, slot, storage, room - spent);
                continue;
            }
            let Some(from) = self.cursor else { return Stepped::Done(self.sum) };
            self.cursor = slot.walk(storage, from, |handle| {
                let entry = storage.heap.entry(handle);
                let hash = keyed_hash(entry.key());
                // The tables may have changed since the cursor was at the boundary of a line.
                if hash < from {
                    return;
                }
                if is_long(&entry) {
                    self.long.push(Long::new(&entry, hash));
                } else {
                    self.sum += entry.digest();
                    spent += cost(&entry);
                }
            });
            spent += 1;
        }
        match self.is_lost {
            true => Stepped::Lost,
            false if self.cursor.is_none() && self.long.is_empty() => Stepped::Done(self.sum),
            false => Stepped::More,
        }
    }

    /// Reads up to `room` bytes of a long string, and says how many.
    fn read_on(&mut self, mut long: Long, slot: Slot, storage: &Storage, room: usize) -> usize {
        let Some(entry) = slot.get(storage, long.hash, &long.key) else { return 0 };
        let ValueRef::Str(bytes) = entry.value() else { return 0 };
        let end = bytes.len().min(long.read + room.max(LONG_STEP_BYTES_MIN));
        long.parts.push(&bytes[long.read..end]);
        let spent = end - long.read;
        long.read = end;
        if end < bytes.len() {
            self.long.push(long);
        } else {
            let digest = entry.digest_of(long.parts.digest());
            self.sum += digest;
            self.long_summed.push((long.key, digest));
        }
        spent
    }

    /// Whether a write on this key is to be told.
    #[inline]
    pub fn concerns(&self, at: Located, key: &[u8]) -> bool {
        let is_behind = || self.cursor.is_none_or(|cursor| at.hash < cursor);
        at.slot == self.slot
            && (is_behind() == (self.of == AsOf::End) || self.long.iter().any(|long| *long.key == *key))
    }

    /// This key is about to change.
    pub fn before(&mut self, entry: &Entry<'_>) {
        let unread = self.long.iter().position(|long| *long.key == *entry.key());
        let summed = self.long_summed.iter().position(|(key, _)| **key == *entry.key());
        match (self.of, unread, summed) {
            // It is not in the sum; what comes after it will be.
            (AsOf::End, Some(n), _) => _ = self.long.swap_remove(n),
            (AsOf::End, None, Some(n)) => self.sum -= self.long_summed.swap_remove(n).1,
            (AsOf::End, None, None) => self.sum -= entry.digest(),
            // Too long to be read now, and soon no more what it was.
            (AsOf::Begin, ..) if is_long(entry) => self.is_lost = true,
            (AsOf::Begin, ..) => self.sum += entry.digest(),
        }
    }

    /// It has changed.
    pub fn after(&mut self, entry: &Entry<'_>, hash: u64) {
        match self.of {
            AsOf::End if is_long(entry) => {
                self.restarts += 1;
                self.is_lost |= self.restarts > RESTARTS_MAX;
                self.long.push(Long::new(entry, hash));
            }
            AsOf::End => self.sum += entry.digest(),
            AsOf::Begin if is_long(entry) => self.is_lost = true,
            AsOf::Begin => self.sum -= entry.digest(),
        }
    }

    /// The slot holds something else altogether.
    pub fn replaced(&mut self) {
        *self = SlotSum { is_lost: self.of == AsOf::Begin, ..SlotSum::new(self.id, self.slot, self.of) };
    }
}

impl Long {
    fn new(entry: &Entry<'_>, hash: u64) -> Long {
        Long { key: entry.key().into(), hash, parts: digest::Parts::new(Kind::String as u64), read: 0 }
    }
}

fn is_long(entry: &Entry<'_>) -> bool {
    matches!(entry.value(), ValueRef::Str(bytes) if bytes.len() > LONG_BYTES)
}

fn cost(entry: &Entry<'_>) -> usize {
    ENTRY_COST
        + match entry.value() {
            ValueRef::Str(bytes) => bytes.len(),
            ValueRef::Boxed(_) => AGGREGATE_COST,
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
        assert_eq!(store.digests_under_way(), 0);
    }

    #[test]
    fn long_strings_are_read_in_steps_and_anew_where_they_were_written_to() {
        let mut random = Rng::with_seed(13);
        let mut store = KeyspaceStore::new();
        (0..500).for_each(|_| write(&mut store, &mut random));
        let (one, other) = (&b"{tag}long"[..], &b"{tag}longer"[..]);
        store.set_string(store.locate(one), one, &vec![b'x'; 3 << 20], None);
        store.set_string(store.locate(other), other, &vec![b'y'; 5 << 20], Some(UnixMs::new(5)));
        let append = |store: &mut KeyspaceStore, key: &[u8]| {
            let Some(()) = store.update(store.locate(key), key, |value| match value {
                Value::Str(string) => string.extend_from_slice(b"z"),
                _ => panic!("a string"),
            }) else {
                panic!("it is there")
            };
        };
        // Left alone, written to a few times, and all the time; taken away in the middle.
        for (of, appends, expected) in [
            (AsOf::End, 0, true),
            (AsOf::Begin, 0, true),
            (AsOf::End, 5, true),
            (AsOf::End, 999, false),
            (AsOf::Begin, 1, false),
        ] {
            let begin = store.digest(Copy::Live, slot());
            let mut summed = store.digest_begin(slot(), of);
            let (mut steps, mut left) = (0, appends);
            while let Summed::More(id) = summed {
                steps += 1;
                if left > 0 && steps % 5 == 0 {
                    left -= 1;
                    append(&mut store, [one, other][left % 2]);
                }
                (0..random.u8(..3)).for_each(|_| write(&mut store, &mut random));
                summed = store.digest_step(id);
            }
            let digest = if of == AsOf::End { store.digest(Copy::Live, slot()) } else { begin };
            assert_eq!(summed, if expected { Summed::Done(digest) } else { Summed::Lost }, "{of:?}, {appends} appends");
            assert!(steps >= 5 && store.digests_under_way() == 0, "{steps} steps");
        }
        let Summed::More(id) = store.digest_begin(slot(), AsOf::End) else { panic!("it is large") };
        (0..60).for_each(|_| assert!(matches!(store.digest_step(id), Summed::More(_))));
        store.remove(store.locate(one), one);
        store.set_string(store.locate(other), other, b"short", None);
        let mut summed = store.digest_step(id);
        while let Summed::More(id) = summed {
            summed = store.digest_step(id);
        }
        assert_eq!(summed, Summed::Done(store.digest(Copy::Live, slot())));
        // What was there when it began is gone before it was read.
        store.set_string(store.locate(one), one, &vec![b'x'; 3 << 20], None);
        store.set_digest_step_bytes(1);
        let Summed::More(id) = store.digest_begin(slot(), AsOf::Begin) else { panic!("it is large") };
        store.remove(store.locate(one), one);
        assert_eq!(store.digest_step(id), Summed::Lost);
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
        assert_eq!(store.digests_under_way(), 0);
    }

    #[test]
    fn what_is_forgotten_concerns_no_write() {
        let mut random = Rng::with_seed(14);
        let mut store = KeyspaceStore::new();
        (0..2_000).for_each(|_| write(&mut store, &mut random));
        store.set_digest_step_bytes(1);
        let (one, other) = (store.digest_begin(slot(), AsOf::Begin), store.digest_begin(slot(), AsOf::End));
        let (Summed::More(one), Summed::More(other)) = (one, other) else { panic!("{one:?} {other:?}") };
        store.digest_forget_all();
        assert_eq!(store.digests_under_way(), 0);
        assert_eq!([store.digest_step(one), store.digest_step(other)], [Summed::Lost; 2]);
    }
}
