//! A type for every number that means something: none of them is a bare integer inside the library.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU64};

/// How many hash slots a keyspace has, as in Redis Cluster.
pub const HASH_SLOTS: usize = 16_384;

/// The number of frames of one shard's stream before a point. Dense and half-open: a stream that has
/// recorded `n` frames has `next == Offset(n)`, and its first frame has offset 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Offset(u64);

impl Offset {
    /// The beginning of a history.
    pub const ZERO: Offset = Offset(0);

    /// The largest offset that the wire can carry (RESP integers are signed).
    pub const MAX: Offset = Offset(i64::MAX as u64);

    /// The offset with `frames` frames before it.
    #[inline]
    pub const fn new(frames: u64) -> Offset {
        Offset(frames)
    }

    /// The number of frames before this point.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The point one frame later.
    #[inline]
    pub const fn next(self) -> Offset {
        Offset(self.0 + 1)
    }

    /// The point `frames` frames later.
    #[inline]
    pub const fn advance(self, frames: u64) -> Offset {
        Offset(self.0 + frames)
    }

    /// How many frames lie from `earlier` to here; 0 where `earlier` is not earlier.
    #[inline]
    pub const fn since(self, earlier: Offset) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of one history: random and never zero; every process start and every promotion begins one.
/// Two generations have no order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Generation(NonZeroU64);

impl Generation {
    /// The generation with this number; `None` for 0, which the wire uses for "unknown".
    #[inline]
    pub const fn new(number: u64) -> Option<Generation> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Generation(number)),
            None => None,
        }
    }

    /// Its number, as the wire carries it.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a shard within its node, from 0. A stream has the number of the shard that records it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(u16);

impl ShardId {
    /// Shard number `index`.
    #[inline]
    pub const fn new(index: u16) -> ShardId {
        ShardId(index)
    }

    /// Its number, for indexing.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its number.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many shards a node has. It fixes the placement: shard `i` of `n` owns a contiguous range of hash slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ShardCount(NonZeroU16);

impl ShardCount {
    /// One shard.
    pub const ONE: ShardCount = ShardCount(NonZeroU16::MIN);

    /// `count` shards; `None` for 0 and for more than [`shards_max`](crate::limits::SHARDS_MAX).
    pub const fn new(count: u16) -> Option<ShardCount> {
        if count as usize > crate::limits::SHARDS_MAX {
            return None;
        }
        match NonZeroU16::new(count) {
            Some(count) => Some(ShardCount(count)),
            None => None,
        }
    }

    /// The count, at least 1.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// All shards, in order.
    pub fn shards(self) -> impl Iterator<Item = ShardId> {
        (0..self.get()).map(ShardId::new)
    }

    /// The shard that owns `slot`.
    #[inline]
    pub const fn owner(self, slot: HashSlot) -> ShardId {
        ShardId((slot.0 as u32 * self.0.get() as u32 / HASH_SLOTS as u32) as u16)
    }

    /// The slots that `shard` owns, as a half-open range of their numbers.
    pub const fn slots_of(self, shard: ShardId) -> SlotRange {
        let n = self.0.get() as u32;
        let first = (shard.0 as u32 * HASH_SLOTS as u32).div_ceil(n);
        let end = ((shard.0 as u32 + 1) * HASH_SLOTS as u32).div_ceil(n);
        SlotRange { first: first as u16, end: end as u16 }
    }
}

impl fmt::Display for ShardCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A hash slot: CRC16 of a key (or of its `{tag}`) modulo 16,384. The unit of placement, of full sync and of digests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HashSlot(u16);

impl HashSlot {
    /// Slot number `number`; `None` from 16,384 on.
    #[inline]
    pub const fn new(number: u16) -> Option<HashSlot> {
        if (number as usize) < HASH_SLOTS { Some(HashSlot(number)) } else { None }
    }

    /// The slot that a CRC16 maps to.
    #[inline]
    pub const fn from_crc16(crc: u16) -> HashSlot {
        HashSlot(crc % HASH_SLOTS as u16)
    }

    /// Its number, for indexing; below [`HASH_SLOTS`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its number.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for HashSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A contiguous range of hash slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotRange {
    /// The first slot's number.
    pub first: u16,
    /// One past the last slot's number; `first <= end <= 16,384`.
    pub end: u16,
}

impl SlotRange {
    /// Every hash slot.
    pub const ALL: SlotRange = SlotRange { first: 0, end: HASH_SLOTS as u16 };

    /// Whether `slot` is in the range.
    #[inline]
    pub const fn contains(self, slot: HashSlot) -> bool {
        self.first <= slot.0 && slot.0 < self.end
    }

    /// How many slots it has.
    pub const fn len(self) -> usize {
        (self.end - self.first) as usize
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.first == self.end
    }

    /// Its slots, in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = HashSlot> {
        (self.first..self.end).map(HashSlot)
    }

    /// The slots in both.
    pub fn intersect(self, other: SlotRange) -> SlotRange {
        let first = self.first.max(other.first);
        SlotRange { first, end: self.end.min(other.end).max(first) }
    }
}

/// A digest of keys, types, values and absolute expiries: a wrapping sum over the keys, so that it does not depend
/// on their order, on the layout or on the number of shards. An empty slot has digest 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Digest(pub u64);

impl std::ops::SubAssign for Digest {
    fn sub_assign(&mut self, other: Digest) {
        self.0 = self.0.wrapping_sub(other.0);
    }
}

impl std::ops::AddAssign for Digest {
    fn add_assign(&mut self, other: Digest) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

/// Milliseconds since the Unix epoch: what expiry is written in. Never used to measure time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnixMs(u64);

impl UnixMs {
    /// This many milliseconds after the epoch.
    #[inline]
    pub const fn new(ms: u64) -> UnixMs {
        UnixMs(ms)
    }

    /// Milliseconds after the epoch.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A point of monotonic time, in microseconds since some beginning of the host's choice. State machines
/// never read a clock: they are told the moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(u64);

impl Moment {
    /// The host's beginning of time.
    pub const ZERO: Moment = Moment(0);

    /// `micros` microseconds after the beginning.
    #[inline]
    pub const fn from_micros(micros: u64) -> Moment {
        Moment(micros)
    }

    /// Microseconds after the beginning.
    #[inline]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// The moment `ms` milliseconds later.
    #[inline]
    pub const fn plus_ms(self, ms: u64) -> Moment {
        Moment(self.0.saturating_add(ms.saturating_mul(1_000)))
    }

    /// Whole milliseconds from `earlier` to here; 0 where `earlier` is not earlier.
    #[inline]
    pub const fn ms_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_exactly_the_owner_whose_range_holds_it() {
        for n in [1, 2, 3, 5, 7, 8, 64, 1000] {
            let count = ShardCount::new(n).unwrap();
            let mut expected_first = 0;
            for shard in count.shards() {
                let range = count.slots_of(shard);
                assert_eq!(range.first, expected_first, "ranges of {n} shards leave no gap");
                expected_first = range.end;
                for slot in range.iter() {
                    assert_eq!(count.owner(slot), shard);
                }
            }
            assert_eq!(expected_first as usize, HASH_SLOTS);
        }
    }
}
