//! A set: distinct members. A few short ones stand side by side in one buffer, in the form of a dump; more stand in a table.
//!
//! ```text
//! Small   member bytes │ member bytes …                             walked
//! Large   IndexSet: members side by side, a table of their places   O(1); any member by its number
//! ```

use foldhash::fast::RandomState;
use indexmap::IndexSet;

use super::packed::Packed;
use super::{SMALL_BYTES_MAX, SMALL_ITEM_BYTES_MAX, SMALL_MEMBERS_MAX};
use crate::snapshot::record::{Reader, RecordError, put_bytes, put_varint};
use crate::store::digest;

/// Distinct members.
#[derive(Debug, Default)]
pub struct Set(Form);

#[derive(Debug)]
enum Form {
    Small(Packed),
    Large {
        table: IndexSet<Box<[u8]>, RandomState>,
        /// Bytes of all members.
        bytes: usize,
        /// The sum over all members, kept current: the digest of a million members is there at once.
        sum: u64,
    },
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
            Form::Large { table, .. } => table.contains(member),
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
        if table.contains(member) {
            return false;
        }
        *bytes += member.len();
        *sum = sum.wrapping_add(of_member(member));
        table.insert(member.into())
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
                let found = table.swap_remove(member);
                if found {
                    *bytes -= member.len();
                    *sum = sum.wrapping_sub(of_member(member));
                    if table.len() * 8 < table.capacity() {
                        table.shrink_to(table.len() * 2);
                    }
                }
                found
            }
        }
    }

    /// Member number `index`, in no order that means anything: for choosing by chance. Removing members renumbers.
    pub fn nth(&self, index: usize) -> Option<&[u8]> {
        match &self.0 {
            Form::Small(packed) => packed.iter().nth(index),
            Form::Large { table, .. } => table.get_index(index).map(|member| &**member),
        }
    }

    /// All members, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let (packed, table) = match &self.0 {
            Form::Small(packed) => (Some(packed), None),
            Form::Large { table, .. } => (None, Some(table)),
        };
        let packed = packed.into_iter().flat_map(Packed::iter);
        packed.chain(table.into_iter().flatten().map(|member| &**member))
    }

    /// Bytes of memory outside the value itself. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Small(packed) => packed.heap_bytes(),
            Form::Large { table, bytes, .. } => table.capacity() * (size_of::<Box<[u8]>>() + 16) + bytes,
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
            Form::Large { table, .. } => table.iter().for_each(|member| put_bytes(member, out)),
        }
    }

    /// Reads its record.
    ///
    /// # Errors
    /// If the record is malformed or has no member.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Set, RecordError> {
        let count = super::members(reader)?;
        let mut set = Set::new();
        for _ in 0..count {
            set.insert(reader.bytes()?);
        }
        Ok(set)
    }

    /// Frees up to `members` members. `true`: what is left is cheap to drop.
    pub fn release(&mut self, members: usize) -> bool {
        match &mut self.0 {
            Form::Small(_) => true,
            Form::Large { table, .. } => {
                table.truncate(table.len().saturating_sub(members));
                table.is_empty()
            }
        }
    }

    fn enlarge(&mut self) {
        let mut table = IndexSet::with_hasher(RandomState::default());
        let (mut bytes, sum) = (0, self.digest());
        for member in self.iter() {
            bytes += member.len();
            table.insert(member.into());
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
                prop_assert_eq!(Set::decode(&mut Reader::new(&record)).unwrap().digest(), set.digest());
            }
        }
    }
}
