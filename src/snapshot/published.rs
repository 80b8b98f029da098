//! The snapshot of released kevy versions: what they send to a replica that has to begin anew, and what a replica of theirs is sent.
//! A codec only: it knows no store, and allocates nothing on a length it was told.
//!
//! ```text
//! "KEVYSNAP" │ version u8 │ generation u64, offset u64, from version 5 on │ records │ 0
//!
//! record   op u8 │ ttl │ key bytes │ value            ttl     0 │ 1, unix ms u64 (version 2: ms that are left)
//! bytes    length u32 │ that many bytes               all integers little-endian
//!
//! op 1   string       bytes
//! op 2   hash         count u32 │ count × (field bytes │ value bytes)
//! op 3   list         count u32 │ count × bytes
//! op 4   set          count u32 │ count × bytes
//! op 5   sorted set   count u32 │ count × (member bytes │ f64), in order
//! op 6   stream       last, highest deleted (ms u64, seq u64 each) │ entries added u64 │ count u32 │ count × entry
//!                     from version 4 on: count u32 │ count × group
//! op 7   from version 6 on, without ttl: key bytes │ field bytes │ unix ms u64: when a field of a hash expires
//! op 8   a reference into files of the sender: nobody else can follow it
//!
//! entry      ms u64, seq u64 │ count u32 │ count × (field bytes │ value bytes)
//! group      name bytes │ last delivered ms u64, seq u64 │ count u32 │ count × consumer │ count u32 │ count × pending
//! consumer   name bytes │ seen unix ms u64
//! pending    ms u64, seq u64 │ consumer bytes │ delivered unix ms u64 │ count u32
//! ```
//!
//! What may stand behind the 0 is for those who know it.

use crate::id::UnixMs;
use crate::limits::BULK_BYTES_MAX;

/// Which form a snapshot has: what may be in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version(u8);

impl Version {
    /// The one that every released peer reads.
    pub const COMMON: Version = Version(4);
    /// As [`COMMON`](Self::COMMON), with times of fields, and where its stream stands. Released peers from 7.0 on read it.
    pub const WITH_FIELD_TIMES: Version = Version(6);

    const OLDEST: Version = Version(2);
    const NEWEST: Version = Version(7);
    const WITH_ABSOLUTE_TIMES: Version = Version(3);
    const WITH_GROUPS: Version = Version(4);
    const WITH_ORIGIN: Version = Version(5);

    /// Its number.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// What stands before the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The form of what follows.
    pub version: Version,
    /// The sender's generation and the offset that the records are of, where the version says it.
    pub origin: Option<(u64, u64)>,
}

const MAGIC: &[u8; 8] = b"KEVYSNAP";

impl Header {
    /// Appends it to `out`. The origin is written where the version has one; 0 and 0 stand for none.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        out.push(self.version.0);
        if self.version >= Version::WITH_ORIGIN {
            let (generation, offset) = self.origin.unwrap_or_default();
            put_u64(generation, out);
            put_u64(offset, out);
        }
    }

    /// Reads it from the beginning of `bytes`, with how many it takes. `None`: more are needed.
    ///
    /// # Errors
    /// If this is no snapshot, or of a version that is not known.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, SnapshotError> {
        if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
            return Err(SnapshotError::Magic);
        }
        let mut reader = Reader { bytes, at: MAGIC.len() };
        complete(Header::read(&mut reader).map(|header| (header, reader.at)))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Header, Stop> {
        let version = Version(reader.u8()?);
        if !(Version::OLDEST..=Version::NEWEST).contains(&version) {
            return Err(Stop::Wrong(SnapshotError::Version(version.0)));
        }
        let origin = if version >= Version::WITH_ORIGIN { Some((reader.u64()?, reader.u64()?)) } else { None };
        Ok(Header { version, origin })
    }
}

/// One record.
#[derive(Clone, PartialEq, Debug)]
pub enum Record<'a> {
    /// A key with its value.
    Key {
        /// The key.
        key: &'a [u8],
        /// When it expires, if it does.
        expiry: Option<UnixMs>,
        /// Its value.
        value: Value<'a>,
    },
    /// When a field of a hash expires, whose record came before.
    FieldExpiry {
        /// The key of the hash.
        key: &'a [u8],
        /// The field.
        field: &'a [u8],
        /// When it expires.
        expiry: UnixMs,
    },
    /// There are no more.
    End,
}

/// A value, borrowed.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'a> {
    /// A string of bytes.
    String(&'a [u8]),
    /// Fields with values.
    Hash(Vec<(&'a [u8], &'a [u8])>),
    /// Elements, from the head.
    List(Vec<&'a [u8]>),
    /// Members.
    Set(Vec<&'a [u8]>),
    /// Members with scores, in their order.
    Zset(Vec<(&'a [u8], f64)>),
    /// Entries, and who has read them.
    Stream(Stream<'a>),
}

/// A stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stream<'a> {
    /// The id of the last entry that was added.
    pub last: StreamId,
    /// The highest id that was deleted.
    pub max_deleted: StreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
    /// The entries, in the order of their ids.
    pub entries: Vec<StreamEntry<'a>>,
    /// The groups; a version without them says of none.
    pub groups: Vec<Group<'a>>,
}

/// The id of an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct StreamId {
    /// Milliseconds of the epoch.
    pub ms: u64,
    /// Which one of that millisecond.
    pub seq: u64,
}

/// An entry of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamEntry<'a> {
    /// Its id.
    pub id: StreamId,
    /// Its fields with their values.
    pub fields: Vec<(&'a [u8], &'a [u8])>,
}

/// A group of consumers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Group<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The last entry that one of them got.
    pub last_delivered: StreamId,
    /// Their names, and when each was seen last.
    pub consumers: Vec<(&'a [u8], UnixMs)>,
    /// What was delivered and not acknowledged.
    pub pending: Vec<Pending<'a>>,
}

/// An entry that was delivered and not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending<'a> {
    /// The id of the entry.
    pub id: StreamId,
    /// Who got it.
    pub consumer: &'a [u8],
    /// When.
    pub delivered: UnixMs,
    /// How often.
    pub count: u32,
}

/// Why bytes are no snapshot that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It begins in another way.
    #[error("this is no snapshot")]
    Magic,
    /// Its version is not known.
    #[error("snapshots of version {0} are not known")]
    Version(u8),
    /// A record is of a kind that is not known.
    #[error("a record of kind {0} is not known")]
    Kind(u8),
    /// A record of a kind that its version does not have.
    #[error("a record of kind {0} in a version that has none")]
    TooNew(u8),
    /// A record refers to files of the sender.
    #[error("a record of kind 8, a reference into the sender's own files, cannot be followed")]
    Reference,
    /// The mark before an expiry is neither 0 nor 1.
    #[error("an expiry that is neither there nor absent")]
    Expiry,
    /// Something is longer than it may be.
    #[error("{0} bytes in one piece")]
    TooLong(u32),
    /// A score is not a number.
    #[error("a score that is not a number")]
    Score,
}

const OP_FIELD_EXPIRY: u8 = 7;
const OP_REFERENCE: u8 = 8;

impl<'a> Record<'a> {
    /// Appends it to `out`, in the form of `version`, which must say times as absolute ones. `false`, and nothing is appended: that
    /// version has no such record.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> bool {
        debug_assert!(version >= Version::WITH_ABSOLUTE_TIMES, "times that are left mean nothing without a clock");
        match self {
            Record::End => out.push(0),
            Record::FieldExpiry { .. } if version < Version::WITH_FIELD_TIMES => return false,
            Record::FieldExpiry { key, field, expiry } => {
                out.push(OP_FIELD_EXPIRY);
                put_bytes(key, out);
                put_bytes(field, out);
                put_u64(expiry.get(), out);
            }
            Record::Key { key, expiry, value } => {
                out.push(value.op());
                match expiry {
                    None => out.push(0),
                    Some(at) => {
                        out.push(1);
                        put_u64(at.get(), out);
                    }
                }
                put_bytes(key, out);
                value.encode(version, out);
            }
        }
        true
    }

    /// Reads the record at the beginning of `bytes`, with how many it takes. `None`: more are needed; whoever gathers them does well to
    /// get twice as many before the next try. `now` is for times that are said as what is left of them.
    ///
    /// # Errors
    /// If this is no record of `version`.
    pub fn decode(
        version: Version,
        bytes: &'a [u8],
        now: UnixMs,
    ) -> Result<Option<(Record<'a>, usize)>, SnapshotError> {
        let mut reader = Reader { bytes, at: 0 };
        complete(Record::read(version, &mut reader, now).map(|record| (record, reader.at)))
    }

    fn read(version: Version, reader: &mut Reader<'a>, now: UnixMs) -> Result<Record<'a>, Stop> {
        let op = reader.u8()?;
        match op {
            0 => return Ok(Record::End),
            1..=6 => {}
            OP_FIELD_EXPIRY if version < Version::WITH_FIELD_TIMES => {
                return Err(Stop::Wrong(SnapshotError::TooNew(op)));
            }
            OP_FIELD_EXPIRY => {
                let (key, field) = (reader.bytes()?, reader.bytes()?);
                return Ok(Record::FieldExpiry { key, field, expiry: UnixMs::new(reader.u64()?) });
            }
            OP_REFERENCE => return Err(Stop::Wrong(SnapshotError::Reference)),
            _ => return Err(Stop::Wrong(SnapshotError::Kind(op))),
        }
        let expiry = match reader.u8()? {
            0 => None,
            1 if version < Version::WITH_ABSOLUTE_TIMES => Some(now.get().saturating_add(reader.u64()?)),
            1 => Some(reader.u64()?),
            _ => return Err(Stop::Wrong(SnapshotError::Expiry)),
        };
        let key = reader.bytes()?;
        let value = Value::read(op, version, reader)?;
        Ok(Record::Key { key, expiry: expiry.map(UnixMs::new), value })
    }
}

impl<'a> Value<'a> {
    fn op(&self) -> u8 {
        match self {
            Value::String(_) => 1,
            Value::Hash(_) => 2,
            Value::List(_) => 3,
            Value::Set(_) => 4,
            Value::Zset(_) => 5,
            Value::Stream(_) => 6,
        }
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Value::String(bytes) => put_bytes(bytes, out),
            Value::Hash(pairs) => put_pairs(pairs, out),
            Value::List(items) | Value::Set(items) => {
                put_count(items.len(), out);
                items.iter().for_each(|item| put_bytes(item, out));
            }
            Value::Zset(members) => {
                put_count(members.len(), out);
                for (member, score) in members {
                    put_bytes(member, out);
                    put_u64(score.to_bits(), out);
                }
            }
            Value::Stream(stream) => stream.encode(version, out),
        }
    }

    fn read(op: u8, version: Version, reader: &mut Reader<'a>) -> Result<Value<'a>, Stop> {
        Ok(match op {
            1 => Value::String(reader.bytes()?),
            2 => Value::Hash(reader.several(Reader::pair)?),
            3 => Value::List(reader.several(Reader::bytes)?),
            4 => Value::Set(reader.several(Reader::bytes)?),
            5 => Value::Zset(reader.several(|reader| {
                let (member, score) = (reader.bytes()?, f64::from_bits(reader.u64()?));
                if score.is_nan() { Err(Stop::Wrong(SnapshotError::Score)) } else { Ok((member, score)) }
            })?),
            _ => Value::Stream(Stream::read(version, reader)?),
        })
    }
}

impl<'a> Stream<'a> {
    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_id(self.last, out);
        put_id(self.max_deleted, out);
        put_u64(self.entries_added, out);
        put_count(self.entries.len(), out);
        for entry in &self.entries {
            put_id(entry.id, out);
            put_pairs(&entry.fields, out);
        }
        if version < Version::WITH_GROUPS {
            return;
        }
        put_count(self.groups.len(), out);
        for group in &self.groups {
            put_bytes(group.name, out);
            put_id(group.last_delivered, out);
            put_count(group.consumers.len(), out);
            for (name, seen) in &group.consumers {
                put_bytes(name, out);
                put_u64(seen.get(), out);
            }
            put_count(group.pending.len(), out);
            for Pending { id, consumer, delivered, count } in &group.pending {
                put_id(*id, out);
                put_bytes(consumer, out);
                put_u64(delivered.get(), out);
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
    }

    fn read(version: Version, reader: &mut Reader<'a>) -> Result<Stream<'a>, Stop> {
        let (last, max_deleted, entries_added) = (reader.id()?, reader.id()?, reader.u64()?);
        let entries =
            reader.several(|reader| Ok(StreamEntry { id: reader.id()?, fields: reader.several(Reader::pair)? }))?;
        let groups = match version >= Version::WITH_GROUPS {
            true => reader.several(Group::read)?,
            false => Vec::new(),
        };
        Ok(Stream { last, max_deleted, entries_added, entries, groups })
    }
}

impl<'a> Group<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Group<'a>, Stop> {
        let (name, last_delivered) = (reader.bytes()?, reader.id()?);
        let consumers = reader.several(|reader| Ok((reader.bytes()?, UnixMs::new(reader.u64()?))))?;
        let pending = reader.several(|reader| {
            let (id, consumer, delivered) = (reader.id()?, reader.bytes()?, UnixMs::new(reader.u64()?));
            Ok(Pending { id, consumer, delivered, count: reader.u32()? })
        })?;
        Ok(Group { name, last_delivered, consumers, pending })
    }
}

/// Why reading stops.
enum Stop {
    /// There are not enough bytes.
    More,
    Wrong(SnapshotError),
}

fn complete<T>(read: Result<T, Stop>) -> Result<Option<T>, SnapshotError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Stop::More) => Ok(None),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// The first byte that is not read; it may be behind the end.
    at: usize,
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let array = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or(Stop::More)?;
        self.at += N;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, Stop> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        self.array().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Result<StreamId, Stop> {
        Ok(StreamId { ms: self.u64()?, seq: self.u64()? })
    }

    fn bytes(&mut self) -> Result<&'a [u8], Stop> {
        let claimed = self.u32()?;
        let len = claimed as usize;
        if len > BULK_BYTES_MAX {
            return Err(Stop::Wrong(SnapshotError::TooLong(claimed)));
        }
        let bytes = self.bytes.get(self.at..self.at + len).ok_or(Stop::More)?;
        self.at += len;
        Ok(bytes)
    }

    fn pair(&mut self) -> Result<(&'a [u8], &'a [u8]), Stop> {
        Ok((self.bytes()?, self.bytes()?))
    }

    /// As many as a count says; room is made as they come.
    fn several<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Stop>) -> Result<Vec<T>, Stop> {
        let count = self.u32()?;
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(read(self)?);
        }
        Ok(all)
    }
}

fn put_u64(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_id(id: StreamId, out: &mut Vec<u8>) {
    put_u64(id.ms, out);
    put_u64(id.seq, out);
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    debug_assert!(u32::try_from(count).is_ok(), "no value has so many members");
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_pairs(pairs: &[(&[u8], &[u8])], out: &mut Vec<u8>) {
    put_count(pairs.len(), out);
    for (first, second) in pairs {
        put_bytes(first, out);
        put_bytes(second, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMs = UnixMs::new(1_000);

    fn key(key: &'static [u8], expiry: Option<u64>, value: Value<'static>) -> Record<'static> {
        Record::Key { key, expiry: expiry.map(UnixMs::new), value }
    }

    fn stream() -> Stream<'static> {
        let id = |ms, seq| StreamId { ms, seq };
        Stream {
            last: id(9, 1),
            max_deleted: id(2, 0),
            entries_added: 3,
            entries: vec![StreamEntry { id: id(9, 1), fields: vec![(b"f", b"v")] }],
            groups: vec![Group {
                name: b"g",
                last_delivered: id(9, 1),
                consumers: vec![(b"c", UnixMs::new(0x0102))],
                pending: vec![Pending { id: id(9, 1), consumer: b"c", delivered: UnixMs::new(7), count: 5 }],
            }],
        }
    }

    /// Every kind of record, with its bytes in version 6.
    fn golden() -> Vec<(Record<'static>, Vec<u8>)> {
        let stream_bytes = [
            &b"\x06\0\x01\0\0\0x"[..],
            b"\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0",
            b"\x01\0\0\0\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0f\x01\0\0\0v",
            b"\x01\0\0\0\x01\0\0\0g\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0",
            b"\x01\0\0\0\x01\0\0\0c\x02\x01\0\0\0\0\0\0",
            b"\x01\0\0\0\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0c\x07\0\0\0\0\0\0\0\x05\0\0\0",
        ];
        vec![
            (
                key(b"key", Some(0x0102_0304), Value::String(b"value")),
                b"\x01\x01\x04\x03\x02\x01\0\0\0\0\x03\0\0\0key\x05\0\0\0value".to_vec(),
            ),
            (
                key(b"h", None, Value::Hash(vec![(b"f", b"v"), (b"g", b"")])),
                b"\x02\0\x01\0\0\0h\x02\0\0\0\x01\0\0\0f\x01\0\0\0v\x01\0\0\0g\0\0\0\0".to_vec(),
            ),
            (
                key(b"l", None, Value::List(vec![b"a", b"b"])),
                b"\x03\0\x01\0\0\0l\x02\0\0\0\x01\0\0\0a\x01\0\0\0b".to_vec(),
            ),
            (key(b"e", None, Value::Set(vec![b"m"])), b"\x04\0\x01\0\0\0e\x01\0\0\0\x01\0\0\0m".to_vec()),
            (
                key(b"z", None, Value::Zset(vec![(b"m", -1.5)])),
                b"\x05\0\x01\0\0\0z\x01\0\0\0\x01\0\0\0m\0\0\0\0\0\0\xf8\xbf".to_vec(),
            ),
            (key(b"x", None, Value::Stream(stream())), stream_bytes.concat()),
            (
                Record::FieldExpiry { key: b"h", field: b"f", expiry: UnixMs::new(0x0203) },
                b"\x07\x01\0\0\0h\x01\0\0\0f\x03\x02\0\0\0\0\0\0".to_vec(),
            ),
            (Record::End, b"\0".to_vec()),
        ]
    }

    #[test]
    fn every_record_has_these_bytes_and_comes_back() {
        for (record, bytes) in golden() {
            let mut out = Vec::new();
            assert!(record.encode(Version::WITH_FIELD_TIMES, &mut out));
            assert_eq!(out, bytes, "{record:?}");
            out.extend_from_slice(b"more");
            let decoded = Record::decode(Version::WITH_FIELD_TIMES, &out, NOW);
            assert_eq!(decoded, Ok(Some((record, bytes.len()))));
        }
    }

    #[test]
    fn a_record_cut_anywhere_needs_more() {
        for (record, bytes) in golden() {
            for end in 0..bytes.len() {
                assert_eq!(Record::decode(Version::WITH_FIELD_TIMES, &bytes[..end], NOW), Ok(None), "{record:?}");
            }
        }
    }

    #[test]
    fn headers_have_these_bytes() {
        let common = Header { version: Version::COMMON, origin: None };
        let with_origin = Header { version: Version::WITH_FIELD_TIMES, origin: Some((0x0a0b, 7)) };
        for (header, bytes) in
            [(common, &b"KEVYSNAP\x04"[..]), (with_origin, b"KEVYSNAP\x06\x0b\x0a\0\0\0\0\0\0\x07\0\0\0\0\0\0\0")]
        {
            let mut out = Vec::new();
            header.encode(&mut out);
            assert_eq!(out, bytes);
            assert_eq!(Header::decode(&out), Ok(Some((header, bytes.len()))));
            for end in 0..bytes.len() {
                assert_eq!(Header::decode(&bytes[..end]), Ok(None));
            }
        }
        assert_eq!(Header::decode(b"KEVYSNAP\x01"), Err(SnapshotError::Version(1)));
        assert_eq!(Header::decode(b"KEVYSNAP\x08"), Err(SnapshotError::Version(8)));
        assert_eq!(Header::decode(b"KEVI"), Err(SnapshotError::Magic));
    }

    #[test]
    fn older_versions_say_less() {
        let mut out = Vec::new();
        let field = Record::FieldExpiry { key: b"h", field: b"f", expiry: NOW };
        assert!(!field.encode(Version::COMMON, &mut out) && out.is_empty());
        let seven = b"\x07\x01\0\0\0h\x01\0\0\0f\0\0\0\0\0\0\0\0";
        assert_eq!(Record::decode(Version(5), seven, NOW), Err(SnapshotError::TooNew(7)));
        // Version 3 knows no groups.
        key(b"x", None, Value::Stream(stream())).encode(Version(3), &mut out);
        let alone = Stream { groups: Vec::new(), ..stream() };
        let decoded = Record::decode(Version(3), &out, NOW);
        assert_eq!(decoded, Ok(Some((key(b"x", None, Value::Stream(alone)), out.len()))));
        // Version 2 says what is left.
        let left = b"\x01\x01\x05\0\0\0\0\0\0\0\x01\0\0\0k\0\0\0\0";
        let expected = key(b"k", Some(1_005), Value::String(b""));
        assert_eq!(Record::decode(Version(2), left, NOW), Ok(Some((expected, left.len()))));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bytes, error) in [
            (&b"\x08"[..], SnapshotError::Reference),
            (b"\x0b", SnapshotError::Kind(11)),
            (b"\x01\x02", SnapshotError::Expiry),
            (b"\x01\0\xff\xff\xff\xff", SnapshotError::TooLong(u32::MAX)),
            (b"\x05\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\xf8\x7f", SnapshotError::Score),
        ] {
            assert_eq!(Record::decode(Version::NEWEST, bytes, NOW), Err(error));
        }
        // A count that is only claimed makes no room.
        assert_eq!(Record::decode(Version::NEWEST, b"\x03\0\0\0\0\0\xff\xff\xff\xff", NOW), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), version in 2u8..=7) {
            let _ = Header::decode(&bytes);
            if let Ok(Some((record, used))) = Record::decode(Version(version), &bytes, NOW) {
                prop_assert!(used <= bytes.len());
                if version >= 3 {
                    let mut out = Vec::new();
                    prop_assert!(record.encode(Version(version), &mut out));
                    prop_assert_eq!(&out, &bytes[..used]);
                }
            }
        }
    }
}
