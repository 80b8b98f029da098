//! The large form of whatever is found by its hash: many small tables instead of one that doubles, so that no insertion, removal or
//! release takes longer than one small table does, however many members there are.
//!
//! ```text
//! hash   │ top bits: which part │ …            members of a part have these bits in common
//!
//! parts  │ 00 │ 1 │ 01 │             linear hashing by the bits from the top: parts are split one after the other, in the order of
//!          0    1   2                their numbers, and merged again from the last one down
//! ```
//!
//! A walk by rising hash meets each member that is there from its first step to its last, whatever is split or merged meanwhile.

use hashbrown::HashTable;

/// Members of a part, on average; a part that is next to be split has twice as many.
const PART_MEMBERS: usize = 128;

/// Parts whose members are counted together.
const GROUP_PARTS: usize = 64;

/// What a [`Parted`] needs of the hash of a member, in four bytes: whoever keeps it beside a member need not look at that while the table
/// grows or shrinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeptHash(u32);

impl KeptHash {
    pub fn of(hash: u64) -> KeptHash {
        KeptHash((hash >> 32) as u32)
    }

    /// A hash with the same place.
    pub fn hash(self) -> u64 {
        u64::from(self.0) << 32
    }
}

/// Members found by a 64-bit hash, which is the same for all time. Where they lie depends on its upper half alone, the
/// [`KeptHash`].
#[derive(Debug)]
pub(super) struct Parted<T> {
    /// At least one.
    parts: Vec<HashTable<T>>,
    /// Members of each [`GROUP_PARTS`] parts.
    groups: Vec<u32>,
    len: usize,
    /// Bytes that the tables have allocated.
    bytes: usize,
}

impl<T> Parted<T> {
    pub fn new() -> Parted<T> {
        Parted { parts: vec![HashTable::new()], groups: vec![0], len: 0, bytes: 0 }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory outside the members. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        self.parts.capacity() * size_of::<HashTable<T>>() + self.groups.capacity() * size_of::<u32>() + self.bytes
    }

    /// The member with this hash that `is_it` takes.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts[self.number(hash)].find(inner(hash), is_it)
    }

    /// As [`find`](Self::find). The hash must stay what it is.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let number = self.number(hash);
        self.parts[number].find_mut(inner(hash), is_it)
    }

    /// Adds a member that is not there. `hash_of` gives the hash of every member.
    pub fn insert(&mut self, hash: u64, member: T, hash_of: impl Fn(&T) -> u64) {
        if self.len >= self.parts.len() * PART_MEMBERS {
            self.split(&hash_of);
        }
        let number = self.number(hash);
        let part = &mut self.parts[number];
        let before = part.allocation_size();
        part.insert_unique(inner(hash), member, |member| inner(hash_of(member)));
        self.bytes = self.bytes + part.allocation_size() - before;
        self.groups[number / GROUP_PARTS] += 1;
        self.len += 1;
    }

    /// Takes the member with this hash that `is_it` takes out.
    pub fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool, hash_of: impl Fn(&T) -> u64) -> Option<T> {
        let number = self.number(hash);
        let (member, _) = self.parts[number].find_entry(inner(hash), is_it).ok()?.remove();
        self.groups[number / GROUP_PARTS] -= 1;
        self.len -= 1;
        if self.parts.len() > 1 && self.len < self.parts.len() * (PART_MEMBERS / 4) {
            self.merge(&hash_of);
        }
        Some(member)
    }

    /// All members, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flat_map(HashTable::iter)
    }

    /// Member number `index`, in no order that means anything. Changes renumber.
    pub fn nth(&self, index: usize) -> Option<&T> {
        let mut left = index;
        let skip = |count: usize, left: &mut usize| {
            let all = *left >= count;
            *left -= if all { count } else { 0 };
            all
        };
        let group = self.groups.iter().position(|count| !skip(*count as usize, &mut left))?;
        self.parts[group * GROUP_PARTS..].iter().find(|part| !skip(part.len(), &mut left))?.iter().nth(left)
    }

    /// The part that has the members whose hash is `from`, and where the next one by rising hash begins; `None` at the end.
    pub fn part(&self, from: u64) -> (impl Iterator<Item = &T>, Option<u64>) {
        let number = self.number(from);
        let level = self.parts.len().ilog2();
        let is_split = number >= 1 << level || number < self.parts.len() - (1 << level);
        let shift = 64 - level - u32::from(is_split);
        let next = if shift == 64 { None } else { ((from >> shift) + 1).checked_shl(shift) };
        // The last one's end is 2^64.
        let next = next.filter(|next| next >> shift != 0 && *next > from);
        (self.parts[number].iter(), next)
    }

    /// Frees some parts, of about `members` members; only dropping the whole may follow. `true`: what is left is cheap to drop.
    pub fn release(&mut self, members: usize) -> bool {
        let mut freed = 0;
        while freed < members
            && let Some(part) = self.parts.pop()
        {
            freed += part.len() + 1;
        }
        self.parts.is_empty()
    }

    /// The number of the part for a hash: its bits from the top on, read backwards, as many as there are parts for.
    #[inline]
    fn number(&self, hash: u64) -> usize {
        let level = self.parts.len().ilog2();
        let bits = hash.reverse_bits() as usize;
        let number = bits & ((2 << level) - 1);
        if number < self.parts.len() { number } else { bits & ((1 << level) - 1) }
    }

    /// Splits the next part.
    #[cold]
    fn split(&mut self, hash_of: &impl Fn(&T) -> u64) {
        let upper = self.parts.len();
        let lower = upper - (1 << upper.ilog2());
        let members = std::mem::take(&mut self.parts[lower]);
        self.bytes -= members.allocation_size();
        self.groups[lower / GROUP_PARTS] -= members.len() as u32;
        for number in [lower, upper] {
            let half = HashTable::with_capacity(members.len() * 5 / 8);
            self.bytes += half.allocation_size();
            match number == upper {
                true => self.parts.push(half),
                false => self.parts[lower] = half,
            }
        }
        if upper.is_multiple_of(GROUP_PARTS) {
            self.groups.push(0);
        }
        self.take_in(members, hash_of);
    }

    /// Merges the last part with the one that it was split from.
    #[cold]
    fn merge(&mut self, hash_of: &impl Fn(&T) -> u64) {
        let Some(members) = self.parts.pop() else { return };
        self.bytes -= members.allocation_size();
        self.groups[self.parts.len() / GROUP_PARTS] -= members.len() as u32;
        self.groups.truncate(self.parts.len().div_ceil(GROUP_PARTS));
        self.take_in(members, hash_of);
        if self.parts.capacity() > 64 && self.parts.len() * 4 < self.parts.capacity() {
            self.parts.shrink_to(self.parts.len() * 2);
        }
    }

    fn take_in(&mut self, members: HashTable<T>, hash_of: &impl Fn(&T) -> u64) {
        for member in members {
            let hash = hash_of(&member);
            let number = self.number(hash);
            let part = &mut self.parts[number];
            let before = part.allocation_size();
            part.insert_unique(inner(hash), member, |member| inner(hash_of(member)));
            self.bytes = self.bytes + part.allocation_size() - before;
            self.groups[number / GROUP_PARTS] += 1;
        }
    }
}

/// The hash inside a part, of the upper half: its top bits, by which a table tells its members apart, must not be those that they
/// have in common.
#[inline]
fn inner(hash: u64) -> u64 {
    (hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn hash_of(number: &u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn check(parted: &Parted<u64>, model: &BTreeSet<u64>) {
        assert_eq!(parted.len(), model.len());
        assert_eq!(parted.bytes, parted.parts.iter().map(HashTable::allocation_size).sum::<usize>());
        assert_eq!(parted.iter().copied().collect::<BTreeSet<_>>(), *model);
        assert_eq!((0..parted.len()).map(|n| *parted.nth(n).unwrap()).collect::<BTreeSet<_>>(), *model);
        assert!(parted.nth(parted.len()).is_none());
        let (mut from, mut walked) = (Some(0), 0);
        while let Some(at) = from {
            let (part, next) = parted.part(at);
            for member in part {
                assert!(hash_of(member) >= at && next.is_none_or(|next| hash_of(member) < next));
                walked += 1;
            }
            from = next;
        }
        assert_eq!(walked, model.len());
        let largest = parted.parts.iter().map(HashTable::len).max().unwrap();
        assert!(largest <= 4 * PART_MEMBERS, "a part of {largest}");
    }

    #[test]
    fn members_are_found_and_walked_while_parts_are_split_and_merged() {
        let mut parted = Parted::new();
        let mut model = BTreeSet::new();
        for round in 0..4u64 {
            for number in 0..20_000 {
                if number % 4 != round {
                    if model.insert(number) {
                        parted.insert(hash_of(&number), number, hash_of);
                    }
                } else if model.remove(&number) {
                    assert_eq!(parted.remove(hash_of(&number), |n| *n == number, hash_of), Some(number));
                }
            }
            check(&parted, &model);
        }
        // A walk under way while everything else goes.
        let kept: BTreeSet<u64> = model.iter().copied().filter(|number| number % 100 == 1).collect();
        let mut going: Vec<u64> = model.difference(&kept).copied().collect();
        let (mut from, mut seen) = (Some(0), BTreeSet::new());
        while let Some(at) = from {
            let (part, next) = parted.part(at);
            seen.extend(part.filter(|member| hash_of(member) >= at).copied());
            from = next;
            for number in going.split_off(going.len().saturating_sub(500)) {
                assert!(parted.remove(hash_of(&number), |n| *n == number, hash_of).is_some());
                model.remove(&number);
            }
        }
        assert!(seen.is_superset(&kept));
        check(&parted, &model);
        for number in &model {
            assert!(parted.find(hash_of(number), |n| n == number).is_some());
        }
        let mut steps = 0;
        while !parted.release(100) {
            steps += 1;
        }
        assert!(steps >= model.len() / 500);
    }
}
