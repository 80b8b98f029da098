//! A hash: fields with values. A few short ones stand side by side in one buffer, in the form of a dump; more stand in a table.
//!
//! ```text
//! Small   field bytes │ value bytes │ field bytes │ value bytes …      walked
//! Large   parted::Parted, by the keyed hashes of the fields            O(1)
//! ```

use super::packed::Packed;
use super::parted::Parted;
use super::{Part, SMALL_BYTES_MAX, SMALL_ITEM_BYTES_MAX, SMALL_MEMBERS_MAX};
use crate::snapshot::record::{Reader, RecordError, put_bytes, put_varint};
use crate::store::digest;
use crate::store::hash::keyed_hash;

/// Distinct fields, each with a value.
#[derive(Debug, Default)]
pub struct Hash(Form);

#[derive(Debug)]
enum Form {
    /// Fields and values in turn.
    Small(Packed),
    Large {
        table: Parted<Field>,
        /// Bytes of all fields and values.
        bytes: usize,
        /// The sum over all fields, kept current: the digest of a million fields is there at once.
        sum: u64,
    },
}

/// A field and its value.
type Field = (Box<[u8]>, Box<[u8]>);

fn hash_of((field, _): &Field) -> u64 {
    keyed_hash(field)
}

fn is(field: &[u8]) -> impl Fn(&Field) -> bool {
    move |(this, _)| **this == *field
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
            Form::Large { table, .. } => table.find(keyed_hash(field), is(field)).map(|(_, value)| &**value),
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
        let hash = keyed_hash(field);
        if let Some((_, old)) = table.find_mut(hash, is(field)) {
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
        table.insert(hash, (field.into(), value.into()), hash_of);
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
            Form::Large { table, bytes, sum } => match table.remove(keyed_hash(field), is(field), hash_of) {
                Some((field, value)) => {
                    *bytes -= field.len() + value.len();
                    *sum = sum.wrapping_sub(of_field(&field, &value));
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
        packed.chain(table.into_iter().flat_map(Parted::iter).map(|(field, value)| (&**field, &**value)))
    }

    /// Whether it has its small form.
    pub fn is_small(&self) -> bool {
        matches!(self.0, Form::Small(_))
    }

    /// Field number `index` with its value, in no order that means anything: for choosing by chance. Changes renumber.
    pub fn nth(&self, index: usize) -> Option<(&[u8], &[u8])> {
        match &self.0 {
            Form::Small(packed) => packed.pairs().nth(index),
            Form::Large { table, .. } => table.nth(index).map(|(field, value)| (&**field, &**value)),
        }
    }

    /// Fields whose keyed hash is at least `from`, with their hashes: some that lie together, all there are up to the place where
    /// the next ones begin. A field that is there from the first step of such a walk to the last is shown.
    pub(super) fn part(&self, from: u64) -> Part<(&[u8], &[u8])> {
        let (packed, (table, next)) = match &self.0 {
            Form::Small(packed) => (Some(packed), (None, None)),
            Form::Large { table, .. } => {
                let (fields, next) = table.part(from);
                (None, (Some(fields), next))
            }
        };
        let fields = table.into_iter().flatten().map(|(field, value)| (&**field, &**value));
        let all = packed.into_iter().flat_map(Packed::pairs).chain(fields);
        Part::new(all.map(|pair| (keyed_hash(pair.0), pair)), from, next)
    }

    /// Shows about `count` fields and answers where to go on: 0 at the end, as at the beginning. A field that is there from the
    /// first step to the last is shown.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(&[u8], &[u8])) -> u64 {
        super::scan(cursor, count, |from| self.part(from), |(field, value)| show(field, value))
    }

    /// Bytes of all fields and values.
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
                for (field, value) in table.iter() {
                    put_bytes(field, out);
                    put_bytes(value, out);
                }
            }
        }
    }

    /// Sets the fields of a record.
    ///
    /// # Errors
    /// If the record is malformed or has no field.
    pub fn extend(&mut self, reader: &mut Reader<'_>) -> Result<(), RecordError> {
        for _ in 0..super::members(reader)? {
            let field = reader.bytes()?;
            self.set(field, reader.bytes()?);
        }
        Ok(())
    }

    /// Frees up to `members` fields. `true`: what is left is cheap to drop.
    pub fn release(&mut self, members: usize) -> bool {
        match &mut self.0 {
            Form::Small(_) => true,
            Form::Large { table, .. } => table.release(members),
        }
    }

    fn enlarge(&mut self) {
        let mut table = Parted::new();
        let (mut bytes, sum) = (0, self.digest());
        for (field, value) in self.iter() {
            bytes += field.len() + value.len();
            table.insert(keyed_hash(field), (field.into(), value.into()), hash_of);
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
                let mut read = Hash::new();
                read.extend(&mut reader).unwrap();
                prop_assert_eq!(read.digest(), hash.digest());
                prop_assert_eq!(reader.remaining(), 0);
            }
        }
    }
}
