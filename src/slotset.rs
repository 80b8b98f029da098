//! A set of hash slots: which a replica has whole, which a link still needs, which a stream owns.
//!
//! A bit for each of the 16,384 slots (2 KiB, on the heap), and the number of bits that are set, so that "how many" and "none
//! left" cost nothing.
//!
//! ```text
//! word 0           word 1                word 255
//! slots 0 … 63     slots 64 … 127   …    slots 16,320 … 16,383
//! ```

use std::fmt;

use crate::id::{HASH_SLOTS, HashSlot, SlotRange};

const WORD_BITS: usize = 64;
const WORDS: usize = HASH_SLOTS / WORD_BITS;

/// A set of hash slots.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet {
    words: Box<[u64; WORDS]>,
    /// How many bits of `words` are set.
    count: usize,
}

impl SlotSet {
    /// The set without a slot.
    pub fn empty() -> SlotSet {
        SlotSet { words: Box::new([0; WORDS]), count: 0 }
    }

    /// The set of all slots of `range`.
    pub fn full(range: SlotRange) -> SlotSet {
        let mut set = SlotSet::empty();
        set.insert_range(range);
        set
    }

    /// Adds `slot`; `false` if it was in already.
    #[inline]
    pub fn insert(&mut self, slot: HashSlot) -> bool {
        let (word, bit) = place(slot);
        let absent = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += usize::from(absent);
        absent
    }

    /// Adds every slot of `range`.
    pub fn insert_range(&mut self, range: SlotRange) {
        self.change_range(range, |word, mask| word | mask);
    }

    /// Takes `slot` out; `false` if it was not in.
    #[inline]
    pub fn remove(&mut self, slot: HashSlot) -> bool {
        let (word, bit) = place(slot);
        let present = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        self.count -= usize::from(present);
        present
    }

    /// Takes every slot of `range` out.
    pub fn remove_range(&mut self, range: SlotRange) {
        self.change_range(range, |word, mask| word & !mask);
    }

    /// Takes every slot out.
    pub fn clear(&mut self) {
        self.words.fill(0);
        self.count = 0;
    }

    /// Whether `slot` is in.
    #[inline]
    pub fn contains(&self, slot: HashSlot) -> bool {
        let (word, bit) = place(slot);
        self.words[word] & bit != 0
    }

    /// Whether every slot of `range` is in.
    pub fn contains_range(&self, range: SlotRange) -> bool {
        masks(range).all(|(word, mask)| self.words[word] & mask == mask)
    }

    /// How many slots are in.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether none is in.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The slots that are in, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = HashSlot> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            std::iter::successors((word != 0).then_some(word), |&rest| {
                let rest = rest & (rest - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |rest| slot_at(index, rest.trailing_zeros()))
        })
    }

    /// The first slot that is in, seen from `start` on and around the end: `start` itself is looked at first, the one before
    /// it last.
    pub fn first_from(&self, start: HashSlot) -> Option<HashSlot> {
        if self.is_empty() {
            return None;
        }
        let (first_word, bit) = place(start);
        let from_start = !(bit - 1);
        let first = self.words[first_word] & from_start;
        if first != 0 {
            return Some(slot_at(first_word, first.trailing_zeros()));
        }
        // The last word looked at is the first one again, without the bits that were looked at.
        (1..=WORDS).map(|step| (first_word + step) % WORDS).find_map(|index| {
            let word = self.words[index];
            (word != 0).then(|| slot_at(index, word.trailing_zeros()))
        })
    }

    /// Adds every slot of `other`.
    pub fn union_with(&mut self, other: &SlotSet) {
        self.combine(other, |mine, theirs| mine | theirs);
    }

    /// Keeps only the slots that are in `other`, too.
    pub fn intersect_with(&mut self, other: &SlotSet) {
        self.combine(other, |mine, theirs| mine & theirs);
    }

    /// Takes every slot of `other` out.
    pub fn subtract(&mut self, other: &SlotSet) {
        self.combine(other, |mine, theirs| mine & !theirs);
    }

    /// The slots of `range` as a bitmap: bit `i` (least significant first) of the bytes is slot `range.first + i`.
    pub fn to_bitmap(&self, range: SlotRange) -> Vec<u8> {
        let mut bytes = vec![0; range.len().div_ceil(8)];
        for slot in range.iter().filter(|&slot| self.contains(slot)) {
            let bit = slot.index() - range.first as usize;
            bytes[bit / 8] |= 1 << (bit % 8);
        }
        bytes
    }

    /// The set whose bitmap over `range` is `bytes`. `None` where the length is not the range's, or a bit beyond it is set.
    pub fn from_bitmap(range: SlotRange, bytes: &[u8]) -> Option<SlotSet> {
        if bytes.len() != range.len().div_ceil(8) {
            return None;
        }
        let mut set = SlotSet::empty();
        for (index, &byte) in bytes.iter().enumerate() {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                let number = u16::try_from(range.first as usize + index * 8 + bit).ok()?;
                let slot = HashSlot::new(number).filter(|&slot| range.contains(slot))?;
                set.insert(slot);
            }
        }
        Some(set)
    }

    fn change_range(&mut self, range: SlotRange, change: impl Fn(u64, u64) -> u64) {
        for (word, mask) in masks(range) {
            let old = self.words[word];
            self.set_word(word, change(old, mask));
        }
    }

    fn combine(&mut self, other: &SlotSet, change: impl Fn(u64, u64) -> u64) {
        for word in 0..WORDS {
            self.set_word(word, change(self.words[word], other.words[word]));
        }
    }

    fn set_word(&mut self, word: usize, new: u64) {
        self.count -= self.words[word].count_ones() as usize;
        self.count += new.count_ones() as usize;
        self.words[word] = new;
    }
}

impl Default for SlotSet {
    fn default() -> SlotSet {
        SlotSet::empty()
    }
}

impl FromIterator<HashSlot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = HashSlot>>(slots: I) -> SlotSet {
        let mut set = SlotSet::empty();
        set.extend(slots);
        set
    }
}

impl Extend<HashSlot> for SlotSet {
    fn extend<I: IntoIterator<Item = HashSlot>>(&mut self, slots: I) {
        for slot in slots {
            self.insert(slot);
        }
    }
}

/// As ranges: `{0..=3, 7, 16000..=16383}`.
impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut slots = self.iter().map(HashSlot::get).peekable();
        f.write_str("{")?;
        let mut separator = "";
        while let Some(first) = slots.next() {
            let mut last = first;
            while let Some(next) = slots.next_if(|&next| next == last + 1) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last != first {
                write!(f, "..={last}")?;
            }
            separator = ", ";
        }
        f.write_str("}")
    }
}

#[inline]
fn place(slot: HashSlot) -> (usize, u64) {
    (slot.index() / WORD_BITS, 1 << (slot.index() % WORD_BITS))
}

#[inline]
fn slot_at(word: usize, bit: u32) -> HashSlot {
    HashSlot::from_crc16((word * WORD_BITS) as u16 + bit as u16)
}

/// The words that `range` touches, each with the mask of its bits in the range.
fn masks(range: SlotRange) -> impl Iterator<Item = (usize, u64)> {
    let (first, end) = (range.first as usize, range.end as usize);
    (first / WORD_BITS..end.div_ceil(WORD_BITS)).map(move |word| {
        let low = first.saturating_sub(word * WORD_BITS);
        let high = (end - word * WORD_BITS).min(WORD_BITS);
        let below = |bits: usize| if bits == WORD_BITS { u64::MAX } else { (1u64 << bits) - 1 };
        (word, below(high) & !below(low))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn slot(number: u16) -> HashSlot {
        HashSlot::new(number).unwrap()
    }

    fn range(first: u16, end: u16) -> SlotRange {
        SlotRange { first, end }
    }

    #[test]
    fn a_full_range_holds_exactly_that_range() {
        for r in [range(0, 0), range(0, 1), range(63, 65), range(64, 128), range(100, 5462), SlotRange::ALL] {
            let set = SlotSet::full(r);
            assert_eq!(set.count(), r.len());
            assert!(set.contains_range(r));
            assert!(set.iter().eq(r.iter()), "{set:?}");
        }
    }

    #[test]
    fn first_from_goes_around_the_end_and_looks_at_its_start_first() {
        let set: SlotSet = [slot(5), slot(70), slot(16_383)].into_iter().collect();
        let cases = [(0, 5), (5, 5), (6, 70), (70, 70), (71, 16_383), (16_383, 16_383)];
        for (start, expected) in cases {
            assert_eq!(set.first_from(slot(start)), Some(slot(expected)), "from {start}");
        }
        let one: SlotSet = [slot(64)].into_iter().collect();
        for start in [0, 63, 64, 65, 127, 128, 16_383] {
            assert_eq!(one.first_from(slot(start)), Some(slot(64)), "from {start}");
        }
        assert_eq!(SlotSet::empty().first_from(slot(3)), None);
    }

    #[test]
    fn a_bitmap_with_a_wrong_length_or_a_bit_beyond_its_range_is_refused() {
        assert_eq!(SlotSet::from_bitmap(range(10, 13), &[0b101]).unwrap().iter().count(), 2);
        assert!(SlotSet::from_bitmap(range(10, 13), &[0b1000]).is_none());
        assert!(SlotSet::from_bitmap(range(10, 13), &[0, 0]).is_none());
        assert!(SlotSet::from_bitmap(range(10, 13), &[]).is_none());
        assert!(SlotSet::from_bitmap(range(16_380, 16_384), &[0xff]).is_none());
    }

    #[test]
    fn debug_shows_ranges() {
        let set: SlotSet = [1, 2, 3, 9, 16_382, 16_383].into_iter().map(slot).collect();
        assert_eq!(format!("{set:?}"), "{1..=3, 9, 16382..=16383}");
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((0u8..4, 0u16..300, 0u16..300), 0..80)) {
            let mut set = SlotSet::empty();
            let mut model = BTreeSet::new();
            for (what, a, b) in steps {
                let r = range(a.min(b), a.max(b));
                match what {
                    0 => prop_assert_eq!(set.insert(slot(a)), model.insert(a)),
                    1 => prop_assert_eq!(set.remove(slot(a)), model.remove(&a)),
                    2 => { set.insert_range(r); model.extend(r.first..r.end); }
                    _ => { set.remove_range(r); model.retain(|&s| !r.contains(slot(s))); }
                }
                prop_assert_eq!(set.count(), model.len());
                prop_assert!(set.iter().map(HashSlot::get).eq(model.iter().copied()));
                let first = model.range(b..).next().or(model.first()).copied();
                prop_assert_eq!(set.first_from(slot(b)).map(HashSlot::get), first);
            }
            let r = range(17, 290);
            let bitmap = set.to_bitmap(r);
            set.intersect_with(&SlotSet::full(r));
            prop_assert_eq!(SlotSet::from_bitmap(r, &bitmap), Some(set));
        }
    }
}
