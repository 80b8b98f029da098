//! Streams in the format of Redis's own files. Written is the form of Redis 7.0; read are also those of 5.0 and 7.2.
//!
//! ```text
//! stream    n × (first id │ listpack) │ length │ last id │ first id │ greatest deleted id │ entries added │ n × group
//! listpack  entries │ deleted ones │ fields │ field… │ 0 │ entry…                the fields are those of most entries
//! entry     flags │ ms and seq above the first id │ [fields │ field] value… │ items of this entry
//! group     name │ last id │ entries read │ n × (id │ delivered │ count) │ n × consumer
//! consumer  name │ seen │ [active] │ n × id                                    ids: 16 bytes, or two lengths
//! ```

use std::collections::BTreeMap;

use super::{Input, listpack, put_len, put_string};
use crate::id::UnixMs;
use crate::limits::ARGS_MAX;
use crate::store::value::Stream;
use crate::store::value::stream::{Counters, Entry, StreamId, Words};

/// The type that is written: with what a stream knows of its past.
pub(super) const STREAM: u8 = 19;
/// Those that are only read: without, and with when consumers were active.
pub(super) const STREAM_OLD: u8 = 15;
pub(super) const STREAM_NEW: u8 = 21;

/// The entry was deleted.
const IS_DELETED: i64 = 1;
/// It has the fields that stand at the front.
const HAS_SAME_FIELDS: i64 = 2;

/// Entries and bytes of a listpack, about, as Redis has them.
const LISTPACK_ENTRIES: usize = 100;
const LISTPACK_BYTES: usize = 4 << 10;

/// Appends a stream, behind its type.
pub(super) fn put(stream: &Stream, out: &mut Vec<u8>) {
    let mut runs: Vec<Vec<Entry<'_>>> = Vec::new();
    let mut bytes = 0;
    for entry in stream.range(StreamId::MIN, StreamId::MAX) {
        let size: usize = entry.words().map(<[u8]>::len).sum();
        match runs.last_mut() {
            Some(run) if run.len() < LISTPACK_ENTRIES && bytes + size <= LISTPACK_BYTES => {
                run.push(entry);
                bytes += size;
            }
            _ => {
                runs.push(vec![entry]);
                bytes = size;
            }
        }
    }
    put_len(runs.len(), out);
    for run in &runs {
        let Some(first) = run.first() else { continue };
        let mut key = Vec::with_capacity(16);
        put_raw_id(first.id(), &mut key);
        put_string(&key, out);
        put_string(&packed(run), out);
    }
    let Counters { last_id, max_deleted_id, entries_added } = stream.counters();
    put_len(stream.len(), out);
    put_id(last_id, out);
    put_id(stream.first().map_or(StreamId::MIN, Entry::id), out);
    put_id(max_deleted_id, out);
    put_len(entries_added as usize, out);

    put_len(stream.groups().len(), out);
    for (name, group) in stream.groups() {
        put_string(name, out);
        put_id(group.last_id(), out);
        put_len(group.entries_read().unwrap_or(u64::MAX) as usize, out);
        put_len(group.len(), out);
        for (id, pending) in group.pending(..) {
            put_raw_id(id, out);
            out.extend_from_slice(&pending.delivered.get().to_le_bytes());
            put_len(pending.count as usize, out);
        }
        put_len(group.consumers().len(), out);
        for (name, consumer) in group.consumers() {
            put_string(name, out);
            out.extend_from_slice(&consumer.seen.get().to_le_bytes());
            put_len(consumer.len(), out);
            consumer.pending(..).for_each(|id| put_raw_id(id, out));
        }
    }
}

const _: () = assert!(size_of::<usize>() == size_of::<u64>(), "lengths carry numbers of 64 bits");

/// Some entries in one listpack.
fn packed(run: &[Entry<'_>]) -> Vec<u8> {
    let Some(first) = run.first() else { return Vec::new() };
    let fields = |entry: &Entry<'_>| entry.words().step_by(2).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let of_first = fields(first);
    let mut pack = Listpack::new();
    pack.integer(run.len() as i64);
    pack.integer(0);
    pack.integer(of_first.len() as i64);
    of_first.iter().for_each(|field| pack.string(field));
    pack.integer(0);
    for entry in run {
        let (id, count) = (entry.id(), (entry.len() / 2) as i64);
        let is_same = fields(entry) == of_first;
        pack.integer(if is_same { HAS_SAME_FIELDS } else { 0 });
        pack.integer(id.ms.wrapping_sub(first.id().ms) as i64);
        pack.integer(id.seq.wrapping_sub(first.id().seq) as i64);
        if is_same {
            entry.words().skip(1).step_by(2).for_each(|value| pack.string(value));
            pack.integer(count + 3);
        } else {
            pack.integer(count);
            entry.words().for_each(|word| pack.string(word));
            pack.integer(2 * count + 4);
        }
    }
    pack.end()
}

/// A listpack that is being written.
struct Listpack {
    bytes: Vec<u8>,
    items: usize,
}

impl Listpack {
    const HEAD_BYTES: usize = 6;

    fn new() -> Listpack {
        Listpack { bytes: vec![0; Listpack::HEAD_BYTES], items: 0 }
    }

    fn integer(&mut self, number: i64) {
        let begin = self.bytes.len();
        match number {
            0..=0x7f => self.bytes.push(number as u8),
            -0x1000..=0xfff => self.bytes.extend_from_slice(&[0xc0 | (number >> 8) as u8 & 0x1f, number as u8]),
            -0x8000..=0x7fff => self.tagged(0xf1, &(number as i16).to_le_bytes()),
            -0x8000_0000..=0x7fff_ffff => self.tagged(0xf3, &(number as i32).to_le_bytes()),
            _ => self.tagged(0xf4, &number.to_le_bytes()),
        }
        self.close(begin);
    }

    fn string(&mut self, bytes: &[u8]) {
        let begin = self.bytes.len();
        match bytes.len() {
            len @ 0..0x40 => self.bytes.push(0x80 | len as u8),
            len @ 0x40..0x1000 => self.bytes.extend_from_slice(&[0xe0 | (len >> 8) as u8, len as u8]),
            len => self.tagged(0xf0, &(len as u32).to_le_bytes()),
        }
        self.bytes.extend_from_slice(bytes);
        self.close(begin);
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(bytes);
    }

    /// Behind an item stands its length, to be read backwards.
    fn close(&mut self, begin: usize) {
        let len = self.bytes.len() - begin;
        let bytes = match len {
            0..=127 => 1,
            128..=16_382 => 2,
            16_383..=2_097_150 => 3,
            2_097_151..=268_435_454 => 4,
            _ => 5,
        };
        for at in (0..bytes).rev() {
            let more = if at + 1 == bytes { 0 } else { 0x80 };
            self.bytes.push((len >> (7 * at)) as u8 & 0x7f | more);
        }
        self.items += 1;
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.push(0xff);
        let total = (self.bytes.len() as u32).to_le_bytes();
        // More than can be said is said to be unknown.
        let items = u16::try_from(self.items).unwrap_or(u16::MAX).to_le_bytes();
        self.bytes[..4].copy_from_slice(&total);
        self.bytes[4..Listpack::HEAD_BYTES].copy_from_slice(&items);
        self.bytes
    }
}

fn put_id(id: StreamId, out: &mut Vec<u8>) {
    put_len(id.ms as usize, out);
    put_len(id.seq as usize, out);
}

fn put_raw_id(id: StreamId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.ms.to_be_bytes());
    out.extend_from_slice(&id.seq.to_be_bytes());
}

impl Input<'_> {
    /// The stream behind its type.
    pub(super) fn stream(&mut self, kind: u8) -> Option<Stream> {
        let mut stream = Stream::new();
        for _ in 0..self.count()? {
            let key = self.string()?;
            let first = Input(&key).raw_id().filter(|_| key.len() == 16)?;
            unpack(first, &listpack(&self.string()?)?, &mut stream)?;
        }
        let len = self.count()?;
        let last_id = self.id()?;
        let top = stream.last().map_or(StreamId::MIN, Entry::id);
        if len != stream.len() || last_id < top {
            return None;
        }
        let mut counters = Counters { last_id, max_deleted_id: StreamId::MIN, entries_added: len as u64 };
        if kind != STREAM_OLD {
            // The first id is that of the first entry.
            self.id()?;
            counters.max_deleted_id = self.id()?;
            counters.entries_added = self.count()? as u64;
        }
        stream.set_counters(counters);
        for _ in 0..self.count()? {
            self.group(kind, &mut stream)?;
        }
        Some(stream)
    }

    fn group(&mut self, kind: u8, stream: &mut Stream) -> Option<()> {
        let (name, last_id) = (self.string()?, self.id()?);
        let entries_read = match kind {
            STREAM_OLD => stream.number_of(last_id),
            _ => Some(self.count()? as u64).filter(|read| i64::try_from(*read).is_ok()),
        };
        let mut pending = BTreeMap::new();
        for _ in 0..self.count()? {
            let id = self.raw_id()?;
            let delivered = UnixMs::new(u64::from_le_bytes(self.array()?));
            pending.insert(id, (delivered, self.count()? as u64));
        }
        if stream.group(&name).is_some() {
            return None;
        }
        stream.make_group(&name);
        stream.change_group(&name, |group| {
            group.set(last_id, entries_read);
            for _ in 0..self.count()? {
                let consumer = self.string()?;
                let seen = UnixMs::new(u64::from_le_bytes(self.array()?));
                if !group.see(&consumer, seen) {
                    return None;
                }
                if kind == STREAM_NEW
                    && let Ok(active) = u64::try_from(i64::from_le_bytes(self.array()?))
                {
                    group.note_active(&consumer, UnixMs::new(active));
                }
                for _ in 0..self.count()? {
                    let id = self.raw_id()?;
                    let (delivered, count) = pending.remove(&id)?;
                    group.pend(id, &consumer, delivered, count);
                }
                group.set_seen(&consumer, seen);
            }
            // What is pending is pending with somebody.
            pending.is_empty().then_some(())
        })?
    }

    fn id(&mut self) -> Option<StreamId> {
        Some(StreamId::new(self.count()? as u64, self.count()? as u64))
    }

    fn raw_id(&mut self) -> Option<StreamId> {
        Some(StreamId::new(u64::from_be_bytes(self.array()?), u64::from_be_bytes(self.array()?)))
    }
}

/// Adds the entries of a listpack.
fn unpack(first: StreamId, items: &[Vec<u8>], stream: &mut Stream) -> Option<()> {
    let mut items = items.iter().map(Vec::as_slice);
    let mut there = integer(items.next()?)?;
    integer(items.next()?)?;
    let fields = usize::try_from(integer(items.next()?)?).ok()?;
    if fields > items.len() {
        return None;
    }
    let of_first: Vec<&[u8]> = items.by_ref().take(fields).collect();
    items.next()?;
    while let Some(flags) = items.next() {
        let flags = integer(flags)?;
        let above = |base: u64, difference: i64| base.wrapping_add(difference as u64);
        let ms = above(first.ms, integer(items.next()?)?);
        let id = StreamId::new(ms, above(first.seq, integer(items.next()?)?));
        let words: Vec<&[u8]> = if flags & HAS_SAME_FIELDS != 0 {
            let mut words = Vec::with_capacity(2 * fields);
            for field in &of_first {
                words.extend([field, items.next()?]);
            }
            words
        } else {
            let words = usize::try_from(integer(items.next()?)?).ok()?.checked_mul(2)?;
            if words > items.len() {
                return None;
            }
            items.by_ref().take(words).collect()
        };
        items.next()?;
        if flags & IS_DELETED == 0 {
            // What no command could have said, no effect could say either.
            if id <= stream.counters().last_id || words.is_empty() || words.len() + ADD_WORDS > ARGS_MAX {
                return None;
            }
            stream.add(id, &Words::new(words.into_iter()));
            there = there.checked_sub(1)?;
        }
    }
    (there == 0).then_some(())
}

/// The verb, the key and the id of an `XADD`.
const ADD_WORDS: usize = 3;

fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
