//! A stream in a dump: whole, or in pieces. Each piece has the counters of the stream and of its groups as they are then, and some
//! of what has a place: entries by id, then group by group consumers by name and pending entries by id.
//!
//! ```text
//! record   last id │ greatest deleted id │ entries added │ n × entry │ n × group        n and all numbers: varint
//! id       ms │ seq
//! entry    id │ count │ count × bytes                    field, value, field, value …
//! group    name bytes │ last id │ entries read + 1, or 0 │ n × consumer │ n × pending
//! consumer name bytes │ seen │ active + 1, or 0          Unix ms
//! pending  id │ name bytes │ delivered │ count
//! ```

use std::ops::Bound;

use super::{Counters, Group, Stream, StreamId, Words};
use crate::id::UnixMs;
use crate::snapshot::record::{Reader, RecordError, put_bytes, put_varint};

/// Where the next piece of a stream begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// At the entry with this id, or behind where it was.
    Entry(StreamId),
    /// At the consumer of a group with this name, or behind where it was.
    Consumer(Box<[u8]>, Box<[u8]>),
    /// At the pending entry of a group with this id, or behind where it was.
    Pending(Box<[u8]>, StreamId),
}

impl Place {
    /// Before the first entry.
    pub const START: Place = Place::Entry(StreamId::MIN);
}

/// Pending entries of a piece: each costs whoever loads it two searches.
const PIECE_PENDING: usize = 1_024;

/// A piece that is being written.
struct Writer {
    room: usize,
    pending_left: usize,
    /// Bytes and things so far.
    bytes: usize,
    things: usize,
}

impl Writer {
    /// Whether what comes next is for another piece; there is something in each.
    fn is_full(&self) -> bool {
        self.things > 0 && (self.bytes >= self.room || self.pending_left == 0)
    }

    /// Appends things, their number first, until there is no more room; answers the first one that is left.
    fn put<T>(
        &mut self,
        things: impl Iterator<Item = T>,
        out: &mut Vec<u8>,
        mut put: impl FnMut(&T, &mut Vec<u8>),
    ) -> Option<T> {
        let (mut encoded, mut count, mut left) = (Vec::new(), 0, None);
        for thing in things {
            if self.is_full() {
                left = Some(thing);
                break;
            }
            let before = encoded.len();
            put(&thing, &mut encoded);
            self.bytes += encoded.len() - before;
            self.things += 1;
            count += 1;
        }
        put_varint(count, out);
        out.extend_from_slice(&encoded);
        left
    }
}

impl Stream {
    /// Appends its record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer { room: usize::MAX, pending_left: usize::MAX, bytes: 0, things: 0 };
        let rest = self.write(Place::START, &mut writer, out);
        debug_assert_eq!(rest, None);
    }

    /// Appends a record of what is there from a place on, of about `room` bytes, and answers where the next piece begins.
    pub fn encode_piece(&self, from: Place, room: usize, out: &mut Vec<u8>) -> Option<Place> {
        self.write(from, &mut Writer { room, pending_left: PIECE_PENDING, bytes: 0, things: 0 }, out)
    }

    fn write(&self, from: Place, writer: &mut Writer, out: &mut Vec<u8>) -> Option<Place> {
        let Counters { last_id, max_deleted_id, entries_added } = self.counters;
        put_id(last_id, out);
        put_id(max_deleted_id, out);
        put_varint(entries_added, out);
        let first = if let Place::Entry(first) = from { Some(first) } else { None };
        let entries = first.into_iter().flat_map(|first| self.range(first, StreamId::MAX));
        let left = writer.put(entries, out, |entry, out| {
            put_id(entry.id(), out);
            out.extend_from_slice(entry.packed());
        });
        if let Some(entry) = left {
            put_varint(0, out);
            return Some(Place::Entry(entry.id()));
        }

        let mut next = None;
        let mut count = 0;
        let mut groups = Vec::new();
        let name: &[u8] = match &from {
            Place::Entry(_) => b"",
            Place::Consumer(name, _) | Place::Pending(name, _) => name,
        };
        for (name, group) in self.groups.range::<[u8], _>((Bound::Included(name), Bound::Unbounded)) {
            if writer.is_full() {
                next = Some(Place::Consumer(name.clone(), Box::default()));
                break;
            }
            // Of a group that is gone meanwhile, nothing; the one behind it from its beginning.
            let (consumer, pending) = match &from {
                Place::Consumer(of, consumer) if of == name => (Some(&**consumer), StreamId::MIN),
                Place::Pending(of, pending) if of == name => (None, *pending),
                Place::Entry(_) | Place::Consumer(..) | Place::Pending(..) => (Some(&b""[..]), StreamId::MIN),
            };
            count += 1;
            next = write_group(name, group, consumer, pending, writer, &mut groups);
            if next.is_some() {
                break;
            }
            // Only now: where it has anything, the first piece of it has some of that.
            writer.things += 1;
        }
        put_varint(count, out);
        out.extend_from_slice(&groups);
        next
    }

    /// Takes in what a record has: its counters are those of the stream now, the rest replaces or completes what is there.
    ///
    /// # Errors
    /// If the record is malformed; what came before that is taken in.
    pub fn extend(&mut self, reader: &mut Reader<'_>) -> Result<(), RecordError> {
        let (last_id, max_deleted_id) = (read_id(reader)?, read_id(reader)?);
        self.counters = Counters { last_id, max_deleted_id, entries_added: reader.varint()? };
        let mut words = Vec::new();
        for _ in 0..reader.count()? {
            let id = read_id(reader)?;
            words.clear();
            let count = reader.count()?;
            if !count.is_multiple_of(2) {
                return Err(reader.error("an entry whose last field has no value"));
            }
            for _ in 0..count {
                words.push(reader.bytes()?);
            }
            self.insert(id, Words::new(words.iter().copied()).as_bytes());
        }
        for _ in 0..reader.count()? {
            let name = reader.bytes()?;
            self.make_group(name);
            self.change_group(name, |group| read_group(group, reader)).unwrap_or(Ok(()))?;
        }
        Ok(())
    }
}

/// Appends a group from a consumer and a pending entry on (`None`: all consumers are written), and answers what is left of it.
fn write_group(
    name: &[u8],
    group: &Group,
    consumer: Option<&[u8]>,
    pending: StreamId,
    writer: &mut Writer,
    out: &mut Vec<u8>,
) -> Option<Place> {
    put_bytes(name, out);
    put_id(group.last_id(), out);
    put_optional(group.entries_read(), out);
    writer.bytes += name.len();
    let consumers = consumer.into_iter().flat_map(|from| group.consumers_from(from));
    let left = writer.put(consumers, out, |(name, consumer), out| {
        put_bytes(name, out);
        put_varint(consumer.seen.get(), out);
        put_optional(consumer.active.map(UnixMs::get), out);
    });
    if let Some((consumer, _)) = left {
        put_varint(0, out);
        return Some(Place::Consumer(name.into(), consumer.into()));
    }
    let mut count = 0;
    let limit = writer.pending_left;
    let mut all = group.pending(pending..);
    let left = writer.put(all.clone().take(limit), out, |(id, pending), out| {
        put_id(*id, out);
        put_bytes(pending.consumer(), out);
        put_varint(pending.delivered.get(), out);
        put_varint(pending.count, out);
        count += 1;
    });
    writer.pending_left -= count;
    let next = left.or_else(|| all.nth(count));
    next.map(|(id, _)| Place::Pending(name.into(), id))
}

fn read_group(group: &mut Group, reader: &mut Reader<'_>) -> Result<(), RecordError> {
    group.set(read_id(reader)?, read_optional(reader)?);
    for _ in 0..reader.count()? {
        let name = reader.bytes()?;
        group.see(name, UnixMs::new(reader.varint()?));
        if let Some(active) = read_optional(reader)? {
            group.note_active(name, UnixMs::new(active));
        }
    }
    for _ in 0..reader.count()? {
        let (id, name) = (read_id(reader)?, reader.bytes()?);
        group.pend(id, name, UnixMs::new(reader.varint()?), reader.varint()?);
    }
    Ok(())
}

fn put_id(id: StreamId, out: &mut Vec<u8>) {
    put_varint(id.ms, out);
    put_varint(id.seq, out);
}

fn read_id(reader: &mut Reader<'_>) -> Result<StreamId, RecordError> {
    Ok(StreamId::new(reader.varint()?, reader.varint()?))
}

/// A number above 0, or 0 for none. The one that has no successor is none.
fn put_optional(number: Option<u64>, out: &mut Vec<u8>) {
    put_varint(number.map_or(0, |number| number.wrapping_add(1)), out);
}

fn read_optional(reader: &mut Reader<'_>) -> Result<Option<u64>, RecordError> {
    Ok(reader.varint()?.checked_sub(1))
}
