//! A run of entries of a stream side by side in one buffer, walked from the front: short enough that a walk is cheap.
//!
//! ```text
//! node    │ entry │ entry │ …                                        ≤ 100 entries, ≤ 4 KiB unless there is only one
//! entry   size varint │ ms varint │ seq varint │ words               ms: above that of the node
//! words   count varint │ count × (length varint │ bytes)             field, value, field, value …
//! ```

use super::StreamId;
use crate::snapshot::record::{put_bytes, put_varint};
use crate::store::digest;

/// Entries of a node, as in Redis: approximate trimming removes whole nodes, and clients know how many entries that are.
pub(super) const NODE_ENTRIES: usize = 100;

/// Bytes of a node with more than one entry.
const NODE_BYTES: usize = 4 << 10;

/// Seeds the digest of an entry's words.
const OF_WORDS: u64 = 6;

/// Fields and values of one entry, packed.
#[derive(Clone, Debug)]
pub struct Words(Vec<u8>);

impl Words {
    /// Packs fields and values, which take turns.
    pub fn new<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>) -> Words {
        let mut packed = Vec::new();
        put_varint(words.len() as u64, &mut packed);
        words.for_each(|word| put_bytes(word, &mut packed));
        Words(packed)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One entry of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    id: StreamId,
    /// Packed.
    words: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Its id.
    pub fn id(self) -> StreamId {
        self.id
    }

    /// How many words it has: fields and values.
    pub fn len(self) -> usize {
        varint(self.words, &mut 0) as usize
    }

    /// Whether it has no field.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Fields and values, which take turns.
    pub fn words(self) -> impl Iterator<Item = &'a [u8]> {
        let mut at = 0;
        let count = varint(self.words, &mut at);
        (0..count).map(move |_| {
            let len = varint(self.words, &mut at) as usize;
            at += len;
            &self.words[at - len..at]
        })
    }

    pub(super) fn packed(self) -> &'a [u8] {
        self.words
    }

    fn digest(self) -> u64 {
        digest::pair(digest::pair(self.id.ms, self.id.seq), digest::bytes(OF_WORDS, self.words))
    }
}

/// Some entries with rising ids.
#[derive(Debug)]
pub(super) struct Node {
    bytes: Vec<u8>,
    /// The least `ms` there may be in it.
    ms: u64,
    count: u32,
    /// The id of the last entry, if there is one.
    last: StreamId,
    /// The sum of the digests of the entries, kept current.
    sum: u64,
}

impl Node {
    /// A node without entries, for ids of at least `ms`.
    pub fn new(ms: u64) -> Node {
        Node { bytes: Vec::new(), ms, count: 0, last: StreamId::MIN, sum: 0 }
    }

    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the entries.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn memory(&self) -> usize {
        size_of::<Node>() + size_of::<StreamId>() + self.bytes.capacity()
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The id of the last entry.
    pub fn last(&self) -> StreamId {
        self.last
    }

    /// The entries, from the first on.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.places().map(|(_, entry)| entry)
    }

    /// The entries with the places where they begin.
    fn places(&self) -> impl Iterator<Item = (usize, Entry<'_>)> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let begin = next;
            if begin == self.bytes.len() {
                return None;
            }
            let mut at = begin;
            let size = varint(&self.bytes, &mut at) as usize;
            next = at + size;
            let ms = self.ms + varint(&self.bytes, &mut at);
            let seq = varint(&self.bytes, &mut at);
            Some((begin, Entry { id: StreamId::new(ms, seq), words: &self.bytes[at..next] }))
        })
    }

    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.iter().find(|entry| entry.id >= id).filter(|entry| entry.id == id)
    }

    /// Whether one more entry may be added.
    pub fn fits(&self, words: &[u8]) -> bool {
        self.count == 0 || self.len() < NODE_ENTRIES && self.bytes.len() + words.len() <= NODE_BYTES
    }

    /// Adds an entry behind the last one.
    pub fn push(&mut self, id: StreamId, words: &[u8]) {
        debug_assert!(id.ms >= self.ms, "a node is for ids from its own on");
        put_entry(self.ms, id, words, &mut self.bytes);
        self.count += 1;
        self.last = id;
        self.sum = self.sum.wrapping_add(Entry { id, words }.digest());
    }

    /// Where the entry with this id begins and ends, or where it would be put among the others.
    pub fn find(&self, id: StreamId) -> Result<(usize, usize), usize> {
        let mut places = self.places().skip_while(|(_, entry)| entry.id < id);
        match places.next() {
            Some((at, entry)) if entry.id == id => Ok((at, places.next().map_or(self.bytes.len(), |(at, _)| at))),
            Some((at, _)) => Err(at),
            None => Err(self.bytes.len()),
        }
    }

    /// Puts an entry before the last one, at the place that [`find`](Self::find) gave.
    pub fn insert(&mut self, at: usize, id: StreamId, words: &[u8]) {
        let mut encoded = Vec::with_capacity(words.len() + 24);
        put_entry(self.ms, id, words, &mut encoded);
        self.bytes.splice(at..at, encoded);
        self.count += 1;
        self.sum = self.sum.wrapping_add(Entry { id, words }.digest());
    }

    /// Removes the entry with this id. `false`: there is none.
    pub fn remove(&mut self, id: StreamId) -> bool {
        let (Ok((at, end)), Some(entry)) = (self.find(id), self.get(id)) else { return false };
        self.sum = self.sum.wrapping_sub(entry.digest());
        self.count -= 1;
        self.bytes.drain(at..end);
        if id == self.last {
            self.last = self.iter().last().map_or(StreamId::MIN, Entry::id);
        }
        true
    }

    /// Removes the first `count` entries, which are not all.
    pub fn drop_front(&mut self, count: usize) {
        let gone = self.iter().take(count).map(Entry::digest).fold(0, u64::wrapping_add);
        let end = self.places().nth(count).map_or(self.bytes.len(), |(at, _)| at);
        self.sum = self.sum.wrapping_sub(gone);
        self.count -= count as u32;
        self.bytes.drain(..end);
    }

    /// The entries from the place `at` on, of which there is one, taken away into a node of their own.
    pub fn split_off(&mut self, at: usize) -> (StreamId, Node) {
        let first = self.places().find(|(place, _)| *place >= at).map_or(StreamId::MAX, |(_, entry)| entry.id);
        let mut upper = Node::new(first.ms);
        self.places().filter(|(place, _)| *place >= at).for_each(|(_, entry)| upper.push(entry.id, entry.words));
        self.count -= upper.count;
        self.sum = self.sum.wrapping_sub(upper.sum);
        self.bytes.truncate(at);
        self.last = self.iter().last().map_or(StreamId::MIN, Entry::id);
        (first, upper)
    }

    /// Gives back the room for entries that will not come.
    pub fn close(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Gives memory back once most of it is unused.
    pub fn tighten(&mut self) {
        if self.bytes.capacity() > 4 * self.bytes.len() + 64 {
            self.bytes.shrink_to(2 * self.bytes.len());
        }
    }
}

fn put_entry(ms: u64, id: StreamId, words: &[u8], out: &mut Vec<u8>) {
    let size = varint_len(id.ms - ms) + varint_len(id.seq) + words.len();
    put_varint(size as u64, out);
    put_varint(id.ms - ms, out);
    put_varint(id.seq, out);
    out.extend_from_slice(words);
}

/// Bytes that a number takes.
fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// A number that was written here, at `at`, which moves behind it.
#[inline]
fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
        shift += 7;
    }
}
