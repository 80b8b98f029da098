//! A set: distinct members. A few short ones stand side by side in one buffer, in the form of a dump; more stand in a table.
//!
//! ```text
//! Small   member bytes │ member bytes …                             walked
//! Large   parted::Parted, by the keyed hashes of the members        O(1)
//! ```

use super::packed::Packed;
use super::parted::{KeptHash, Parted};
use super::{Part, SMALL_BYTES_MAX, SMALL_ITEM_BYTES_MAX, SMALL_MEMBERS_MAX};
use crate::snapshot::record::{Reader, RecordError, put_bytes, put_varint};
use crate::store::digest;
use crate::store::hash::keyed_hash;

/// Distinct members.
#[derive(Debug, Default)]
pub struct Set(Form);

#[derive(Debug)]
enum Form {
    Small(Packed),
    Large {
        table: Parted<Member>,
        /// Bytes of all members.
        bytes: usize,
        /// The sum over all members, kept current: the digest of a million members is there at once.
        sum: u64,
    },
}

/// A member of the large form.
#[derive(Debug)]
struct Member {
    bytes: Box<[u8]>,
    hash: KeptHash,
}

impl Member {
    fn new(hash: u64, bytes: &[u8]) -> Member {
        Member { bytes: bytes.into(), hash: KeptHash::of(hash) }
    }

    fn hash_of(&self) -> u64 {
        self.hash.hash()
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn is(bytes: &[u8]) -> impl Fn(&Member) -> bool {
    move |member| *member.bytes == *bytes
}

impl Default for Form {
    fn default() -> Form {
        Form::Small(Packed::default())
    }
}

impl Set {
    /// A set without members.
    pub fn new() -> Set {
        Set::default()
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Small(packed) => packed.len(),
            Form::Large { table, .. } => table.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `member` is one.
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.0 {
            Form::Small(packed) => packed.find(member, 1).is_some(),
            Form::Large { table, .. } => table.find(keyed_hash(member), is(member)).is_some(),
        }
    }

    /// Adds `member`. `true`: it was not there before.
    pub fn insert(&mut self, member: &[u8]) -> bool {
        if let Form::Small(packed) = &mut self.0 {
            if packed.find(member, 1).is_some() {
                return false;
            }
            let fits = packed.len() < SMALL_MEMBERS_MAX
                && member.len() <= SMALL_ITEM_BYTES_MAX
                && packed.bytes() + member.len() <= SMALL_BYTES_MAX;
            if fits {
                packed.push(member);
                return true;
            }
            self.enlarge();
        }
        let Form::Large { table, bytes, sum } = &mut self.0 else { return false };
        let hash = keyed_hash(member);
        if table.find(hash, is(member)).is_some() {
            return false;
        }
        *bytes += member.len();
        *sum = sum.wrapping_add(of_member(member));
        table.insert(hash, Member::new(hash, member), Member::hash_of);
        true
    }

    /// Takes `member` away. `false`: it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Form::Small(packed) => match packed.find(member, 1) {
                Some(at) => {
                    packed.remove(at, 1);
                    true
                }
                None => false,
            },
            Form::Large { table, bytes, sum } => {
                let found = table.remove(keyed_hash(member), is(member), Member::hash_of).is_some();
                if found {
                    *bytes -= member.len();
                    *sum = sum.wrapping_sub(of_member(member));
                }
                found
            }
        }
    }

    /// Member number `index`, in no order that means anything: for choosing by chance. Changes renumber.
    pub fn nth(&self, index: usize) -> Option<&[u8]> {
        match &self.0 {
            Form::Small(packed) => packed.iter().nth(index),
            Form::Large { table, .. } => table.nth(index).map(Member::bytes),
        }
    }

    /// All members, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let (packed, table) = match &self.0 {
            Form::Small(packed) => (Some(packed), None),
            Form::Large { table, .. } => (None, Some(table)),
        };
        let packed = packed.into_iter().flat_map(Packed::iter);
        packed.chain(table.into_iter().flat_map(Parted::iter).map(Member::bytes))
    }

    /// Whether it has its small form.
    pub fn is_small(&self) -> bool {
        matches!(self.0, Form::Small(_))
    }

    /// Members whose keyed hash is at least `from`, with their hashes: some that lie together, all there are up to the place where
    /// the next ones begin. A member that is there from the first step of such a walk to the last is shown.
    pub(super) fn part(&self, from: u64) -> Part<&[u8]> {
        let (packed, (table, next)) = match &self.0 {
            Form::Small(packed) => (Some(packed), (None, None)),
            Form::Large { table, .. } => {
                let (members, next) = table.part(from);
                (None, (Some(members), next))
            }
        };
        let members = table.into_iter().flatten().map(Member::bytes);
        let all = packed.into_iter().flat_map(Packed::iter).chain(members);
        Part::new(all.map(|member| (keyed_hash(member), member)), from, next)
    }

    /// Shows about `count` members and answers where to go on: 0 at the end, as at the beginning. A member that is there from the
    /// first step to the last is shown.
    pub fn scan(&self, cursor: u64, count: usize, show: impl FnMut(&[u8])) -> u64 {
        super::scan(cursor, count, |from| self.part(from), show)
    }

    /// Bytes of all members.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Form::Small(packed) => packed.bytes(),
            Form::Large { bytes, .. } => *bytes,
        }
    }

    /// Bytes of memory outside the value itself. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Small(packed) => packed.heap_bytes(),
            Form::Large { table, bytes, .. } => table.heap_bytes() + bytes,
        }
    }

    /// What it adds to a digest, whatever the order of its members.
    pub fn digest(&self) -> u64 {
        match &self.0 {
            Form::Small(_) => self.iter().map(of_member).fold(0, u64::wrapping_add),
            Form::Large { sum, .. } => *sum,
        }
    }

    /// Appends its record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(self.len() as u64, out);
        match &self.0 {
            Form::Small(packed) => out.extend_from_slice(packed.as_bytes()),
            Form::Large { table, .. } => table.iter().for_each(|member| put_bytes(member.bytes(), out)),
        }
    }

    /// Adds the members of a record.
    ///
    /// # Errors
    /// If the record is malformed or has no member.
    pub fn extend(&mut self, reader: &mut Reader<'_>) -> Result<(), RecordError> {
        for _ in 0..super::members(reader)? {
            self.insert(reader.bytes()?);
        }
        Ok(())
    }

    /// Frees up to `members` members. `true`: what is left is cheap to drop.
    pub fn release(&mut self, members: usize) -> bool {
        match &mut self.0 {
            Form::Small(_) => true,
            Form::Large { table, .. } => table.release(members),
        }
    }

    fn enlarge(&mut self) {
        let mut table = Parted::new();
        let (mut bytes, sum) = (0, self.digest());
        for member in self.iter() {
            bytes += member.len();
            let hash = keyed_hash(member);
            table.insert(hash, Member::new(hash, member), Member::hash_of);
        }
        self.0 = Form::Large { table, bytes, sum };
    }
}

/// What one member adds to the digest.
#[inline]
fn of_member(member: &[u8]) -> u64 {
    digest::bytes(3, member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(ops in proptest::collection::vec((any::<bool>(), 0u16..300), 0..600)) {
            let mut set = Set::new();
            let mut model = BTreeSet::new();
            for (add, member) in ops {
                let member = member.to_string().into_bytes();
                if add {
                    prop_assert_eq!(set.insert(&member), model.insert(member.clone()));
                } else {
                    prop_assert_eq!(set.remove(&member), model.remove(&member));
                }
                prop_assert_eq!(set.contains(&member), model.contains(&member));
                prop_assert_eq!(set.len(), model.len());
            }
            prop_assert_eq!(set.iter().map(<[u8]>::to_vec).collect::<BTreeSet<_>>(), model.clone());
            prop_assert_eq!((0..set.len()).map(|n| set.nth(n).unwrap().to_vec()).collect::<BTreeSet<_>>(), model.clone());
            if !model.is_empty() {
                let mut record = Vec::new();
                set.encode(&mut record);
                let mut read = Set::new();
                read.extend(&mut Reader::new(&record)).unwrap();
                prop_assert_eq!(read.digest(), set.digest());
            }
        }
    }
}
