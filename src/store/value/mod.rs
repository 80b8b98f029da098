//! The values of keys that do not fit an entry of the slab: big strings and all aggregates.
//!
//! An aggregate has a small form, which a dump copies, and a large form, whose operations cost O(log n) or less. Both give the
//! same digest, so that a node that built a value member by member equals one that was loaded with it.

pub mod hash;
pub mod list;
mod packed;
mod parted;
mod ranked;
pub mod set;
pub mod stream;
pub mod times;
pub mod zset;

pub use hash::Hash;
pub use list::List;
pub use set::Set;
pub use stream::Stream;
pub use zset::Zset;

use self::hash::put_times;
use crate::buffer::Buffer;
use crate::limits::{VALUE_PIECE_BYTES, VALUE_PIECE_MEMBERS};
use crate::snapshot::record::{Head, Kind, Reader, RecordError, put_bytes, put_f64, put_varint};
use crate::store::digest;

/// Members of a hash, set or sorted set in its small form.
const SMALL_MEMBERS_MAX: usize = 64;

/// Bytes of one field, value or member in a small form.
const SMALL_ITEM_BYTES_MAX: usize = 256;

/// What a member counts for, in bytes, where a string is freed.
const MEMBER_BYTES: usize = 2 << 10;

/// Bytes of a small form, at which walking it stops being cheap.
const SMALL_BYTES_MAX: usize = 4 << 10;

/// A value that lives in a box of its own.
#[derive(Debug)]
pub enum Value {
    /// A string too long for the slab.
    Str(Buffer),
    /// Fields with values.
    Hash(Hash),
    /// Elements in an order.
    List(List),
    /// Distinct members.
    Set(Set),
    /// Distinct members with scores.
    Zset(Zset),
    /// Entries by rising ids.
    Stream(Stream),
}

impl Value {
    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Str(_) => Kind::String,
            Value::Hash(_) => Kind::Hash,
            Value::List(_) => Kind::List,
            Value::Set(_) => Kind::Set,
            Value::Zset(_) => Kind::Zset,
            Value::Stream(_) => Kind::Stream,
        }
    }

    /// Whether it has nothing in it. An aggregate without members is not kept; a stream is one without entries, too.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Str(bytes) => bytes.is_empty(),
            Value::Hash(hash) => hash.is_empty(),
            Value::List(list) => list.is_empty(),
            Value::Set(set) => set.is_empty(),
            Value::Zset(zset) => zset.is_empty(),
            Value::Stream(_) => false,
        }
    }

    /// Whether it is a hash with fields that expire.
    #[inline]
    pub fn has_times(&self) -> bool {
        matches!(self, Value::Hash(hash) if hash.times().is_some())
    }

    /// Bytes of memory that it holds, itself included. Costs the same for every size.
    pub fn memory(&self) -> usize {
        size_of::<Value>()
            + match self {
                Value::Str(bytes) => bytes.heap_bytes(),
                Value::Hash(hash) => hash.heap_bytes(),
                Value::List(list) => list.heap_bytes(),
                Value::Set(set) => set.heap_bytes(),
                Value::Zset(zset) => zset.heap_bytes(),
                Value::Stream(stream) => stream.heap_bytes(),
            }
    }

    /// What it adds to the digest of its key: over type and contents, not over the order of unordered members.
    pub fn digest(&self) -> u64 {
        let contents = match self {
            Value::Str(bytes) => return digest::bytes(Kind::String as u64, bytes),
            Value::Hash(hash) => hash.digest(),
            Value::List(list) => list.digest(),
            Value::Set(set) => set.digest(),
            Value::Zset(zset) => zset.digest(),
            Value::Stream(stream) => stream.digest(),
        };
        digest::pair(self.kind() as u64, contents)
    }

    /// Bytes of its record, about. Costs the same for every size.
    pub fn record_bytes(&self) -> usize {
        // Short lengths take a byte.
        match self {
            Value::Str(bytes) => bytes.len(),
            Value::Hash(hash) => hash.bytes() + 2 * hash.len(),
            Value::List(list) => list.bytes() + list.len(),
            Value::Set(set) => set.bytes() + set.len(),
            Value::Zset(zset) => zset.bytes() + (1 + size_of::<f64>()) * zset.len(),
            Value::Stream(stream) => stream.record_bytes(),
        }
    }

    /// Appends a record of members whose keyed hashes are at least `from`, by rising hash, of about `room` bytes and at least one
    /// if there are any. Answers how many, and where the next piece begins. For hashes, sets and sorted sets.
    pub(super) fn encode_piece(&self, from: u64, room: usize, out: &mut Vec<u8>) -> (usize, Option<u64>) {
        match self {
            Value::Hash(hash) => {
                let mut times = Vec::new();
                // They are in no piece's room: a time may take three times what a short field does.
                let room = if hash.times().is_some() { room / 4 } else { room };
                let ended = piece(
                    from,
                    room,
                    out,
                    |from| hash.part(from),
                    |(field, value), out| {
                        put_bytes(field, out);
                        put_bytes(value, out);
                        times.extend(hash.time_of(field).map(|at| (at, field)));
                    },
                );
                if hash.times().is_some() {
                    put_times(times.len(), times.into_iter(), out);
                }
                ended
            }
            Value::Set(set) => piece(from, room, out, |from| set.part(from), put_bytes),
            Value::Zset(zset) => piece(
                from,
                room,
                out,
                |from| zset.part(from),
                |(member, score), out| {
                    put_bytes(member, out);
                    put_f64(score, out);
                },
            ),
            Value::Str(_) | Value::List(_) | Value::Stream(_) => (0, None),
        }
    }

    /// Appends its record, without the head.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Str(bytes) => put_bytes(bytes, out),
            Value::Hash(hash) => {
                hash.encode(out);
                if hash.times().is_some() {
                    hash.encode_times(out);
                }
            }
            Value::List(list) => list.encode(out),
            Value::Set(set) => set.encode(out),
            Value::Zset(zset) => zset.encode(out),
            Value::Stream(stream) => stream.encode(out),
        }
    }

    /// Reads the record behind `head`.
    ///
    /// # Errors
    /// If the record is malformed.
    pub fn decode(head: &Head<'_>, reader: &mut Reader<'_>) -> Result<Value, RecordError> {
        Ok(match head.kind {
            Kind::String => Value::Str(reader.bytes()?.into()),
            kind => {
                let mut value = Value::without_members(kind);
                value.extend(head, reader)?;
                value
            }
        })
    }

    fn without_members(kind: Kind) -> Value {
        match kind {
            Kind::String => Value::Str(Buffer::default()),
            Kind::Hash => Value::Hash(Hash::new()),
            Kind::List => Value::List(List::new()),
            Kind::Set => Value::Set(Set::new()),
            Kind::Zset => Value::Zset(Zset::new()),
            Kind::Stream => Value::Stream(Stream::new()),
        }
    }

    /// Takes the members of the record behind `head` in; a string gets longer.
    ///
    /// # Errors
    /// If the record is malformed; what came before that is taken in.
    pub fn extend(&mut self, head: &Head<'_>, reader: &mut Reader<'_>) -> Result<(), RecordError> {
        match self {
            Value::Str(bytes) => bytes.extend_from_slice(reader.bytes()?),
            Value::Hash(hash) => {
                hash.extend(reader)?;
                if head.has_times {
                    hash.extend_times(reader)?;
                }
            }
            Value::List(list) => list.extend(reader)?,
            Value::Set(set) => set.extend(reader)?,
            Value::Zset(zset) => zset.extend(reader)?,
            Value::Stream(stream) => stream.extend(reader)?,
        }
        Ok(())
    }

    /// Frees up to `members` members. `true`: what is left is cheap to drop.
    pub fn release(&mut self, members: usize) -> bool {
        match self {
            Value::Str(bytes) => bytes.release(members * MEMBER_BYTES),
            Value::Hash(hash) => hash.release(members),
            Value::List(list) => list.release(members),
            Value::Set(set) => set.release(members),
            Value::Zset(zset) => zset.release(members),
            Value::Stream(stream) => stream.release(members),
        }
    }
}

/// Members of a value whose keyed hashes lie together, by their hashes.
pub(super) struct Part<M> {
    /// By rising hash.
    members: Vec<(u64, M)>,
    /// The least hash that the next part may have; `None`: this is the last.
    next: Option<u64>,
}

impl<M> Part<M> {
    fn new(all: impl Iterator<Item = (u64, M)>, from: u64, next: Option<u64>) -> Part<M> {
        let mut members: Vec<_> = all.filter(|(hash, _)| *hash >= from).collect();
        members.sort_unstable_by_key(|(hash, _)| *hash);
        Part { members, next }
    }
}

/// The work of [`Value::encode_piece`].
fn piece<M>(
    mut from: u64,
    room: usize,
    out: &mut Vec<u8>,
    part: impl Fn(u64) -> Part<M>,
    mut put: impl FnMut(M, &mut Vec<u8>),
) -> (usize, Option<u64>) {
    let mut encoded = Vec::with_capacity(room.min(VALUE_PIECE_BYTES) * 5 / 4);
    let mut count = 0;
    let next = 'parts: loop {
        let Part { members, next } = part(from);
        for (hash, member) in members {
            // Members with the same hash stay together: a hash is all that a cursor knows.
            let full = encoded.len() >= room || count >= VALUE_PIECE_MEMBERS;
            if full && count > 0 && hash > from {
                break 'parts Some(hash);
            }
            put(member, &mut encoded);
            count += 1;
            from = hash;
        }
        match next {
            Some(next) => from = next,
            None => break None,
        }
    };
    put_varint(count as u64, out);
    out.extend_from_slice(&encoded);
    (count, next)
}

/// Shows about `count` members from `cursor` on, part by part, and answers where to go on; 0 is both ends.
fn scan<M>(cursor: u64, count: usize, part: impl Fn(u64) -> Part<M>, mut show: impl FnMut(M)) -> u64 {
    let mut from = cursor;
    let mut shown = 0;
    loop {
        let Part { members, next } = part(from);
        shown += members.len();
        members.into_iter().for_each(|(_, member)| show(member));
        match next {
            None => return 0,
            Some(next) if shown >= count => return next,
            Some(next) => from = next,
        }
    }
}

/// The number of members at the front of an aggregate's record; never 0.
fn members(reader: &mut Reader<'_>) -> Result<usize, RecordError> {
    match reader.count()? {
        0 => Err(reader.error("an aggregate without members")),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::UnixMs;

    #[test]
    fn a_hash_with_times_has_these_bytes() {
        let mut hash = Hash::new();
        hash.set(b"f", b"v");
        hash.set(b"g", b"w");
        hash.set_time(b"g", Some(UnixMs::new(0x0102)));
        let value = Value::Hash(hash);
        let head = Head { kind: Kind::Hash, expiry: None, key: b"k", is_more: false, has_times: value.has_times() };
        let mut out = Vec::new();
        head.encode(&mut out);
        value.encode(&mut out);
        assert_eq!(out, b"\x22\x01k\x02\x01f\x01v\x01g\x01w\x01\x01g\x02\x01\0\0\0\0\0\0");
        let mut reader = Reader::new(&out);
        let read = Head::decode(&mut reader).unwrap();
        assert_eq!(read, head);
        assert_eq!(Value::decode(&read, &mut reader).unwrap().digest(), value.digest());
        // Of nothing else there are such times.
        for code in [0x21, 0x23, 0x24, 0x25, 0x26] {
            assert!(Head::decode(&mut Reader::new(&[code, 1, b'k'])).is_err(), "{code:x}");
        }
    }
}
