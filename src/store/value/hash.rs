//! A hash: fields with values. A few short ones stand side by side in one buffer, in the form of a dump; more stand in a table.
//!
//! ```text
//! Small   field bytes │ value bytes │ field bytes │ value bytes …      walked
//! Large   IndexMap: entries side by side, a table of their places      O(1); any entry by its number
//! ```

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use super::packed::Packed;
use super::{SMALL_BYTES_MAX, SMALL_ITEM_BYTES_MAX, SMALL_MEMBERS_MAX};
use crate::snapshot::record::{Reader, RecordError, put_bytes, put_varint};
use crate::store::digest;

/// Distinct fields, each with a value.
#[derive(Debug, Default)]
pub struct Hash(Form);

#[derive(Debug)]
enum Form {
    /// Fields and values in turn.
    Small(Packed),
    Large {
        table: IndexMap<Box<[u8]>, Box<[u8]>, RandomState>,
        /// Bytes of all fields and values.
        bytes: usize,
        /// The sum over all fields, kept current: the digest of a million fields is there at once.
        sum: u64,
    },
}

impl Default for Form {
    fn default() -> Form {
        Form::Small(Packed::default())
    }
}

impl Hash {
    /// A hash without fields.
    pub fn new() -> Hash {
        Hash::default()
    }

    /// How many fields it has.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Small(packed) => packed.len() / 2,
            Form::Large { table, .. } => table.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `field`.
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        match &self.0 {
            Form::Small(packed) => packed.find(field, 2).map(|at| packed.item(packed.after(at))),
            Form::Large { table, .. } => table.get(field).map(|value| &**value),
        }
    }

    /// Sets `field`. `true`: it was not there before.
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        if let Form::Small(packed) = &mut self.0 {
            let fits = field.len().max(value.len()) <= SMALL_ITEM_BYTES_MAX
                && packed.bytes() + field.len() + value.len() <= SMALL_BYTES_MAX;
            if fits {
                if let Some(at) = packed.find(field, 2) {
                    packed.replace(packed.after(at), value);
                    return false;
                }
                if packed.len() / 2 < SMALL_MEMBERS_MAX {
                    packed.push(field);
                    packed.push(value);
                    return true;
                }
            }
            self.enlarge();
        }
        let Form::Large { table, bytes, sum } = &mut self.0 else { return false };
        *bytes += value.len();
        *sum = sum.wrapping_add(of_field(field, value));
        if let Some(old) = table.get_mut(field) {
            *bytes -= old.len();
            *sum = sum.wrapping_sub(of_field(field, old));
            // A value of the same length keeps its allocation.
            if old.len() == value.len() {
                old.copy_from_slice(value)
            } else {
                *old = value.into()
            }
            return false;
        }
        *bytes += field.len();
        table.insert(field.into(), value.into());
        true
    }

    /// Takes `field` away. `false`: it was not there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.0 {
            Form::Small(packed) => match packed.find(field, 2) {
                Some(at) => {
                    packed.remove(at, 2);
                    true
                }
                None => false,
            },
            Form::Large { table, bytes, sum } => match table.swap_remove_entry(field) {
                Some((field, value)) => {
                    *bytes -= field.len() + value.len();
                    *sum = sum.wrapping_sub(of_field(&field, &value));
                    if table.len() * 8 < table.capacity() {
                        table.shrink_to(table.len() * 2);
                    }
                    true
                }
                None => false,
            },
        }
    }

    /// All fields with their values, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (packed, table) = match &self.0 {
            Form::Small(packed) => (Some(packed), None),
            Form::Large { table, .. } => (None, Some(table)),
        };
        let packed = packed.into_iter().flat_map(Packed::pairs);
        packed.chain(table.into_iter().flatten().map(|(field, value)| (&**field, &**value)))
    }

    /// Bytes of memory outside the value itself. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Small(packed) => packed.heap_bytes(),
            Form::Large { table, bytes, .. } => table.capacity() * (2 * size_of::<Box<[u8]>>() + 16) + bytes,
        }
    }

    /// What it adds to a digest, whatever the order of its fields.
    pub fn digest(&self) -> u64 {
        match &self.0 {
            Form::Small(_) => self.iter().map(|(field, value)| of_field(field, value)).fold(0, u64::wrapping_add),
            Form::Large { sum, .. } => *sum,
        }
    }

    /// Appends its record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(self.len() as u64, out);
        match &self.0 {
            Form::Small(packed) => out.extend_from_slice(packed.as_bytes()),
            Form::Large { table, .. } => {
                for (field, value) in table {
                    put_bytes(field, out);
                    put_bytes(value, out);
                }
            }
        }
    }

    /// Reads its record.
    ///
    /// # Errors
    /// If the record is malformed or has no field.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Hash, RecordError> {
        let count = super::members(reader)?;
        let mut hash = Hash::new();
        for _ in 0..count {
            let field = reader.bytes()?;
            hash.set(field, reader.bytes()?);
        }
        Ok(hash)
    }

    /// Frees up to `members` fields. `true`: what is left is cheap to drop.
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
        let mut table = IndexMap::with_hasher(RandomState::default());
        let (mut bytes, sum) = (0, self.digest());
        for (field, value) in self.iter() {
            bytes += field.len() + value.len();
            table.insert(field.into(), value.into());
        }
        self.0 = Form::Large { table, bytes, sum };
    }
}

/// What one field adds to the digest.
#[inline]
fn of_field(field: &[u8], value: &[u8]) -> u64 {
    digest::pair(digest::bytes(1, field), digest::bytes(2, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(ops in proptest::collection::vec((any::<bool>(), 0u16..200, 0usize..100), 0..600)) {
            let mut hash = Hash::new();
            let mut model = BTreeMap::new();
            for (set, field, len) in ops {
                let (field, value) = (field.to_string().into_bytes(), vec![b'v'; len]);
                if set {
                    prop_assert_eq!(hash.set(&field, &value), model.insert(field.clone(), value).is_none());
                } else {
                    prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                }
                prop_assert_eq!(hash.get(&field), model.get(&field).map(Vec::as_slice));
                prop_assert_eq!(hash.len(), model.len());
            }
            let seen: BTreeMap<_, _> = hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(&seen, &model);
            let mut rebuilt = Hash::new();
            for (field, value) in model.iter().rev() {
                rebuilt.set(field, value);
            }
            prop_assert_eq!(rebuilt.digest(), hash.digest());
            if !model.is_empty() {
                let mut record = Vec::new();
                hash.encode(&mut record);
                let mut reader = Reader::new(&record);
                prop_assert_eq!(Hash::decode(&mut reader).unwrap().digest(), hash.digest());
                prop_assert_eq!(reader.remaining(), 0);
            }
        }
    }
}
