//! A hash: fields with values. A few short ones stand side by side in one buffer, in the form of a dump; more stand in a table.
//!
//! ```text
//! Small   field bytes │ value bytes │ field bytes │ value bytes …      walked
//! Large   parted::Parted, by the keyed hashes of the fields            O(1)
//!
//! times   Times, where some fields expire                              beside either; a hash without pays nothing
//! ```
//!
//! What is here is physical: a field whose time has come is here until it is taken away, and [`Hash::shown`] is the hash without those.

use super::packed::Packed;
use super::parted::{KeptHash, Parted};
use super::times::Times;
use super::{Part, SMALL_BYTES_MAX, SMALL_ITEM_BYTES_MAX, SMALL_MEMBERS_MAX};
use crate::id::UnixMs;
use crate::limits::{BULK_BYTES_MAX, FIELD_TIME_MS_MAX};
use crate::snapshot::record::{Reader, RecordError, put_bytes, put_varint};
use crate::store::digest;
use crate::store::hash::keyed_hash;

/// Distinct fields, each with a value.
#[derive(Debug, Default)]
pub struct Hash {
    form: Form,
    /// Of those fields that expire, all of which are in `form`; never empty.
    times: Option<Box<Times>>,
}

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

/// A field and its value, side by side: whoever finds the one has the other at hand.
#[derive(Debug)]
struct Field {
    bytes: Box<[u8]>,
    /// Where the value begins.
    name_len: u32,
    /// That of the name.
    hash: KeptHash,
}

impl Field {
    fn new(hash: u64, name: &[u8], value: &[u8]) -> Field {
        Field { bytes: [name, value].concat().into(), name_len: name.len() as u32, hash: KeptHash::of(hash) }
    }

    fn hash_of(&self) -> u64 {
        self.hash.hash()
    }

    #[inline]
    fn pair(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.name_len as usize)
    }

    /// A value of the same length keeps its place.
    fn set_value(&mut self, value: &[u8]) {
        let (name, old) = self.bytes.split_at_mut(self.name_len as usize);
        if old.len() == value.len() {
            old.copy_from_slice(value);
        } else {
            self.bytes = [name, value].concat().into();
        }
    }
}

const _: () = assert!(BULK_BYTES_MAX <= u32::MAX as usize);

fn is(name: &[u8]) -> impl Fn(&Field) -> bool {
    move |field| field.pair().0 == name
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
        match &self.form {
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
        match &self.form {
            Form::Small(packed) => packed.find(field, 2).map(|at| packed.item(packed.after(at))),
            Form::Large { table, .. } => table.find(keyed_hash(field), is(field)).map(|found| found.pair().1),
        }
    }

    /// Sets `field`, which does not expire then. `true`: it was not there before.
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        if self.times.is_some() {
            self.set_time(field, None);
        }
        self.change(field, value)
    }

    /// Sets `field`, which expires when it did before. `true`: it was not there before.
    pub fn change(&mut self, field: &[u8], value: &[u8]) -> bool {
        if let Form::Small(packed) = &mut self.form {
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
        let Form::Large { table, bytes, sum } = &mut self.form else { return false };
        *bytes += value.len();
        *sum = sum.wrapping_add(of_field(field, value));
        let hash = keyed_hash(field);
        if let Some(found) = table.find_mut(hash, is(field)) {
            let (_, old) = found.pair();
            *bytes -= old.len();
            *sum = sum.wrapping_sub(of_field(field, old));
            found.set_value(value);
            return false;
        }
        *bytes += field.len();
        table.insert(hash, Field::new(hash, field, value), Field::hash_of);
        true
    }

    /// Takes `field` away. `false`: it was not there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        if self.times.is_some() {
            self.set_time(field, None);
        }
        match &mut self.form {
            Form::Small(packed) => match packed.find(field, 2) {
                Some(at) => {
                    packed.remove(at, 2);
                    true
                }
                None => false,
            },
            Form::Large { table, bytes, sum } => match table.remove(keyed_hash(field), is(field), Field::hash_of) {
                Some(removed) => {
                    let (field, value) = removed.pair();
                    *bytes -= field.len() + value.len();
                    *sum = sum.wrapping_sub(of_field(field, value));
                    true
                }
                None => false,
            },
        }
    }

    /// When some of its fields expire; `None`: none does.
    #[inline]
    pub fn times(&self) -> Option<&Times> {
        self.times.as_deref()
    }

    /// When `field` expires, if it does.
    #[inline]
    pub fn time_of(&self, field: &[u8]) -> Option<UnixMs> {
        self.times()?.get(field)
    }

    /// Sets or takes away the time at which `field` expires. `false`: that changes nothing, or there is no such field.
    pub fn set_time(&mut self, field: &[u8], at: Option<UnixMs>) -> bool {
        match at {
            None => {
                let Some(times) = &mut self.times else { return false };
                let removed = times.remove(field);
                if times.is_empty() {
                    self.times = None;
                }
                removed
            }
            Some(at) => {
                let changes = self.time_of(field) != Some(at) && self.get(field).is_some();
                if changes {
                    self.times.get_or_insert_default().set(field, at);
                }
                changes
            }
        }
    }

    /// Takes away the fields whose time has come.
    pub fn drop_due(&mut self, now: UnixMs) {
        let due: Vec<Box<[u8]>> = self.times().into_iter().flat_map(|times| times.due(now)).map(Box::from).collect();
        due.iter().for_each(|field| _ = self.remove(field));
    }

    /// The hash as it is at `now`, without the fields whose time has come.
    #[inline]
    pub fn shown(&self, now: UnixMs) -> Shown<'_> {
        Shown { hash: self, now }
    }

    /// All fields with their values, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (packed, table) = match &self.form {
            Form::Small(packed) => (Some(packed), None),
            Form::Large { table, .. } => (None, Some(table)),
        };
        let packed = packed.into_iter().flat_map(Packed::pairs);
        packed.chain(table.into_iter().flat_map(Parted::iter).map(Field::pair))
    }

    /// Whether it has its small form.
    pub fn is_small(&self) -> bool {
        matches!(self.form, Form::Small(_))
    }

    /// Field number `index` with its value, in no order that means anything: for choosing by chance. Changes renumber.
    pub fn nth(&self, index: usize) -> Option<(&[u8], &[u8])> {
        match &self.form {
            Form::Small(packed) => packed.pairs().nth(index),
            Form::Large { table, .. } => table.nth(index).map(Field::pair),
        }
    }

    /// Fields whose keyed hash is at least `from`, with their hashes: some that lie together, all there are up to the place where
    /// the next ones begin. A field that is there from the first step of such a walk to the last is shown.
    pub(super) fn part(&self, from: u64) -> Part<(&[u8], &[u8])> {
        let (packed, (table, next)) = match &self.form {
            Form::Small(packed) => (Some(packed), (None, None)),
            Form::Large { table, .. } => {
                let (fields, next) = table.part(from);
                (None, (Some(fields), next))
            }
        };
        let fields = table.into_iter().flatten().map(Field::pair);
        let all = packed.into_iter().flat_map(Packed::pairs).chain(fields);
        Part::new(all.map(|pair| (keyed_hash(pair.0), pair)), from, next)
    }

    /// Shows about `count` fields and answers where to go on: 0 at the end, as at the beginning. A field that is there from the
    /// first step to the last is shown.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(&[u8], &[u8])) -> u64 {
        super::scan(cursor, count, |from| self.part(from), |(field, value)| show(field, value))
    }

    /// Bytes of all fields and values, and of the times.
    pub fn bytes(&self) -> usize {
        let times = self.times().map_or(0, Times::bytes);
        times
            + match &self.form {
                Form::Small(packed) => packed.bytes(),
                Form::Large { bytes, .. } => *bytes,
            }
    }

    /// Bytes of memory outside the value itself. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        let times = self.times().map_or(0, Times::memory);
        times
            + match &self.form {
                Form::Small(packed) => packed.heap_bytes(),
                Form::Large { table, bytes, .. } => table.heap_bytes() + bytes,
            }
    }

    /// What it adds to a digest, whatever the order of its fields.
    pub fn digest(&self) -> u64 {
        self.times().map_or(0, Times::digest).wrapping_add(self.digest_of_fields())
    }

    fn digest_of_fields(&self) -> u64 {
        match &self.form {
            Form::Small(_) => self.iter().map(|(field, value)| of_field(field, value)).fold(0, u64::wrapping_add),
            Form::Large { sum, .. } => *sum,
        }
    }

    /// Appends its record, without the times.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(self.len() as u64, out);
        match &self.form {
            Form::Small(packed) => out.extend_from_slice(packed.as_bytes()),
            Form::Large { table, .. } => {
                for (field, value) in table.iter().map(Field::pair) {
                    put_bytes(field, out);
                    put_bytes(value, out);
                }
            }
        }
    }

    /// Sets the fields of a record, which do not expire as long as their times have not been read.
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

    /// Appends the record of the times of all fields that have one.
    pub fn encode_times(&self, out: &mut Vec<u8>) {
        put_times(self.times().map_or(0, Times::len), self.times().into_iter().flat_map(Times::iter), out);
    }

    /// Sets the times of a record. Those of fields that are not there mean nothing.
    ///
    /// # Errors
    /// If the record is malformed, or has a time that no command can give a field.
    pub fn extend_times(&mut self, reader: &mut Reader<'_>) -> Result<(), RecordError> {
        for _ in 0..reader.count()? {
            let field = reader.bytes()?;
            let at = u64::from_le_bytes(reader.array()?);
            if at > FIELD_TIME_MS_MAX {
                return Err(reader.error("a time that no field can have"));
            }
            self.set_time(field, Some(UnixMs::new(at)));
        }
        Ok(())
    }

    /// Frees up to `members` fields. `true`: what is left is cheap to drop.
    pub fn release(&mut self, members: usize) -> bool {
        if let Some(times) = &mut self.times
            && !times.release(members)
        {
            return false;
        }
        self.times = None;
        match &mut self.form {
            Form::Small(_) => true,
            Form::Large { table, .. } => table.release(members),
        }
    }

    fn enlarge(&mut self) {
        let mut table = Parted::new();
        let (mut bytes, sum) = (0, self.digest_of_fields());
        for (field, value) in self.iter() {
            bytes += field.len() + value.len();
            let hash = keyed_hash(field);
            table.insert(hash, Field::new(hash, field, value), Field::hash_of);
        }
        self.form = Form::Large { table, bytes, sum };
    }
}

/// Appends the record of some times.
pub(super) fn put_times<'a>(count: usize, times: impl Iterator<Item = (UnixMs, &'a [u8])>, out: &mut Vec<u8>) {
    put_varint(count as u64, out);
    for (at, field) in times {
        put_bytes(field, out);
        out.extend_from_slice(&at.get().to_le_bytes());
    }
}

/// A hash as it is at some moment. On a primary that is all of it, since whoever asks takes away first what is due; a replica waits for its
/// primary's word.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    hash: &'a Hash,
    now: UnixMs,
}

impl<'a> Shown<'a> {
    #[inline]
    fn hides(self, field: &[u8]) -> bool {
        self.hash.time_of(field).is_some_and(|at| at <= self.now)
    }

    /// How many fields are hidden.
    fn hidden(self) -> usize {
        self.hash.times().map_or(0, |times| times.due(self.now).count())
    }

    /// How many fields it has. Hidden ones are counted one by one.
    pub fn len(self) -> usize {
        self.hash.len() - self.hidden()
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The value of `field`.
    #[inline]
    pub fn get(self, field: &[u8]) -> Option<&'a [u8]> {
        self.hash.get(field).filter(|_| !self.hides(field))
    }

    /// When `field`, which is there, expires, if it does.
    pub fn time_of(self, field: &[u8]) -> Option<UnixMs> {
        self.hash.time_of(field)
    }

    /// All fields with their values, in no order that means anything.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.hash.iter().filter(move |(field, _)| !self.hides(field))
    }

    /// The fields of these numbers, with their values. Where some are hidden, all are looked at, once.
    pub fn nths(self, indexes: impl IntoIterator<Item = usize>) -> Vec<(&'a [u8], &'a [u8])> {
        let hides_some = self.hash.times().is_some_and(|times| times.due(self.now).next().is_some());
        if !hides_some {
            return indexes.into_iter().filter_map(|index| self.hash.nth(index)).collect();
        }
        let shown: Vec<_> = self.iter().collect();
        indexes.into_iter().filter_map(|index| shown.get(index).copied()).collect()
    }

    /// As [`Hash::scan`].
    pub fn scan(self, cursor: u64, count: usize, mut show: impl FnMut(&[u8], &[u8])) -> u64 {
        self.hash.scan(cursor, count, |field, value| {
            if !self.hides(field) {
                show(field, value);
            }
        })
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

    #[test]
    fn a_time_that_no_command_can_give_is_no_record() {
        let record = |at: u64| {
            let mut hash = Hash::new();
            hash.set(b"f", b"v");
            hash.set_time(b"f", Some(UnixMs::new(at)));
            let mut out = Vec::new();
            hash.encode_times(&mut out);
            Hash::new().extend_times(&mut Reader::new(&out)).map_err(|error| error.what)
        };
        assert_eq!(record(FIELD_TIME_MS_MAX), Ok(()));
        assert_eq!(record(FIELD_TIME_MS_MAX + 1), Err("a time that no field can have"));
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(ops in proptest::collection::vec((0u8..6, 0u16..200, 0usize..100), 0..600)) {
            let mut hash = Hash::new();
            // Fields with their values and times.
            let mut model: BTreeMap<Vec<u8>, (Vec<u8>, Option<UnixMs>)> = BTreeMap::new();
            for (op, field, len) in ops {
                let (field, value) = (field.to_string().into_bytes(), vec![b'v'; len]);
                let at = UnixMs::new(len as u64);
                let old = model.get(&field).cloned();
                match op {
                    0 => prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
                    1 | 2 => {
                        prop_assert_eq!(hash.set(&field, &value), old.is_none());
                        model.insert(field.clone(), (value, None));
                    }
                    3 => {
                        prop_assert_eq!(hash.change(&field, &value), old.is_none());
                        model.insert(field.clone(), (value, old.and_then(|(_, time)| time)));
                    }
                    _ => {
                        let time = (op == 4).then_some(at);
                        prop_assert_eq!(hash.set_time(&field, time), old.is_some_and(|(_, old)| old != time));
                        model.entry(field.clone()).and_modify(|held| held.1 = time);
                    }
                }
                let held = model.get(&field);
                prop_assert_eq!(hash.get(&field), held.map(|held| held.0.as_slice()));
                prop_assert_eq!(hash.time_of(&field), held.and_then(|held| held.1));
                prop_assert_eq!(hash.len(), model.len());
                prop_assert_eq!(hash.times().map_or(0, Times::len), model.values().filter(|held| held.1.is_some()).count());
            }
            let seen: BTreeMap<_, _> =
                hash.iter().map(|(f, v)| (f.to_vec(), (v.to_vec(), hash.time_of(f)))).collect();
            prop_assert_eq!(&seen, &model);
            // At every moment there is what is not due.
            for now in [0, 50, 100].map(UnixMs::new) {
                let shown = hash.shown(now);
                let left: BTreeMap<_, _> =
                    model.iter().filter(|(_, held)| held.1.is_none_or(|at| at > now)).map(|(f, held)| (f.clone(), held.0.clone())).collect();
                prop_assert_eq!(shown.len(), left.len());
                prop_assert_eq!(shown.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect::<BTreeMap<_, _>>(), left.clone());
                prop_assert_eq!(shown.nths(0..=shown.len()).len(), left.len());
                prop_assert!(model.keys().all(|field| shown.get(field) == left.get(field).map(Vec::as_slice)));
            }
            let mut rebuilt = Hash::new();
            for (field, (value, time)) in model.iter().rev() {
                rebuilt.set(field, value);
                rebuilt.set_time(field, *time);
            }
            prop_assert_eq!(rebuilt.digest(), hash.digest());
            if !model.is_empty() {
                let mut record = Vec::new();
                hash.encode(&mut record);
                hash.encode_times(&mut record);
                let mut reader = Reader::new(&record);
                let mut read = Hash::new();
                read.extend(&mut reader).unwrap();
                read.extend_times(&mut reader).unwrap();
                prop_assert_eq!(read.digest(), hash.digest());
                prop_assert_eq!(reader.remaining(), 0);
            }
        }
    }
}
