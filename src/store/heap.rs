//! Where the entries of a shard lie, whichever slot they belong to: one slab item each, and a box beside it for what is
//! too large. It does not know where an entry is looked for.
//!
//! ```text
//! entry  4 bytes                          8, if flagged   4, if flagged
//!        │ flags 8 │ key 12 │ value 12 │  │ expiry │      │ use │       key bytes  │ value bytes │
//!                    lengths in bytes                                   or nothing    or the number of a box
//!
//! box    value, and the key if even that is too long for the slab
//! ```

use super::slab::{Handle, Slab, Word};
use super::used::{Tracking, Used};
use super::value::list::Thawed;
use super::{Entry, Value, ValueRef, prefetch};
use crate::id::UnixMs;
use crate::limits::ENTRY_BYTES_MAX;

/// What is to be kept under a key.
pub(super) enum Content<'a> {
    /// A string of any length.
    Str(&'a [u8]),
    /// Anything, in its box already.
    Boxed(Box<Value>),
}

/// The entries of a shard.
#[derive(Debug)]
pub(super) struct Heap {
    slab: Slab<Word>,
    boxes: Vec<Vec<Option<Boxed>>>,
    /// Numbers of boxes that can be taken again.
    boxes_free: Vec<u32>,
    /// Bytes of memory of all boxes in use.
    boxed_bytes: usize,
    /// Values too large to be freed at once.
    dying: Vec<Value>,
    /// What dumps of lists leave, the same.
    pub thawed: Thawed,
    /// What entries that are made say about their use.
    used_first: Option<Used>,
}

#[derive(Debug)]
struct Boxed {
    key: Option<Box<[u8]>>,
    value: Box<Value>,
}

impl Boxed {
    fn memory(&self) -> usize {
        self.value.memory() + self.key.as_ref().map_or(0, |key| key.len())
    }
}

/// What the first four bytes of an entry say.
#[derive(Clone, Copy)]
struct Header(u32);

impl Header {
    const HAS_EXPIRY: u32 = 1;
    const HAS_BOX: u32 = 2;
    const HAS_KEY_IN_BOX: u32 = 4;
    const HAS_USE: u32 = 8;
    const BYTES: usize = 4;
    const LEN_BITS: u32 = 12;
    const LEN_MASK: u32 = (1 << Header::LEN_BITS) - 1;

    #[inline]
    fn of(entry: &[u8]) -> Header {
        Header(u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]))
    }

    #[inline]
    fn new(flags: u32, key: usize, value: usize) -> Header {
        debug_assert!(key <= Header::LEN_MASK as usize && value <= Header::LEN_MASK as usize);
        Header(flags | (key as u32) << 8 | (value as u32) << (8 + Header::LEN_BITS))
    }

    #[inline]
    fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    #[inline]
    fn use_at(self) -> usize {
        if self.has(Header::HAS_EXPIRY) { Header::BYTES + 8 } else { Header::BYTES }
    }

    #[inline]
    fn key_at(self) -> usize {
        self.use_at() + if self.has(Header::HAS_USE) { Used::BYTES } else { 0 }
    }

    #[inline]
    fn value_at(self) -> usize {
        self.key_at() + (self.0 >> 8 & Header::LEN_MASK) as usize
    }

    #[inline]
    fn end(self) -> usize {
        self.value_at() + (self.0 >> (8 + Header::LEN_BITS)) as usize
    }
}

const _: () = assert!(ENTRY_BYTES_MAX <= Header::LEN_MASK as usize);

const BOX_NUMBER_BYTES: usize = 4;
const BOXES_CHUNK: usize = 4096;
const RELEASE_MEMBERS: usize = 64;

impl Heap {
    pub fn new() -> Heap {
        Heap {
            slab: Slab::new(ENTRY_BYTES_MAX.div_ceil(size_of::<Word>())),
            boxes: Vec::new(),
            boxes_free: Vec::new(),
            boxed_bytes: 0,
            dying: Vec::new(),
            thawed: Thawed::default(),
            used_first: None,
        }
    }

    /// Says what entries that are made from now on say about their use.
    pub fn set_tracking(&mut self, tracking: Tracking, now: UnixMs) {
        self.used_first = Used::first(tracking, now);
    }

    /// Bytes of all entries, those of their boxes included.
    pub fn used_bytes(&self) -> usize {
        self.slab.used_bytes() + self.boxed_bytes
    }

    /// Bytes taken from the system for it.
    pub fn reserved_bytes(&self) -> usize {
        self.slab.reserved_bytes() + self.boxed_bytes
    }

    /// Fetches what most entries take: two cache lines.
    #[inline]
    pub fn prefetch(&self, handle: Handle) {
        let words = self.slab.from(handle);
        for at in [0, 64 / size_of::<Word>()] {
            if let Some(word) = words.get(at) {
                prefetch::read(word);
            }
        }
    }

    /// Fetches where an entry begins: its header, and most keys.
    #[inline]
    pub fn prefetch_key(&self, handle: Handle) {
        if let Some(word) = self.slab.from(handle).first() {
            prefetch::read(word);
        }
    }

    #[inline]
    fn bytes(&self, handle: Handle) -> &[u8] {
        self.slab.from(handle).as_flattened()
    }

    #[inline]
    fn boxed(&self, entry: &[u8], header: Header) -> &Boxed {
        let number = number_of_box(entry, header);
        match &self.boxes[number / BOXES_CHUNK][number % BOXES_CHUNK] {
            Some(boxed) => boxed,
            None => unreachable!("an entry in use has its box"),
        }
    }

    /// The key of an entry.
    #[inline]
    pub fn key(&self, handle: Handle) -> &[u8] {
        let entry = self.bytes(handle);
        let header = Header::of(entry);
        if header.has(Header::HAS_KEY_IN_BOX) {
            return self.boxed(entry, header).key.as_deref().unwrap_or_default();
        }
        &entry[header.key_at()..header.value_at()]
    }

    /// An entry, whole.
    #[inline]
    pub fn entry(&self, handle: Handle) -> Entry<'_> {
        let bytes = self.bytes(handle);
        let header = Header::of(bytes);
        let (key, value) = if header.has(Header::HAS_BOX) {
            let boxed = self.boxed(bytes, header);
            let key = boxed.key.as_deref().unwrap_or(&bytes[header.key_at()..header.value_at()]);
            let value = match &*boxed.value {
                Value::Str(string) => ValueRef::Str(string),
                value => ValueRef::Boxed(value),
            };
            (key, value)
        } else {
            let value = ValueRef::Str(&bytes[header.value_at()..header.end()]);
            (&bytes[header.key_at()..header.value_at()], value)
        };
        Entry { key, expiry: expiry_of(bytes, header), value }
    }

    /// Whether an entry has an expiry.
    #[inline]
    pub fn has_expiry(&self, handle: Handle) -> bool {
        Header::of(self.bytes(handle)).has(Header::HAS_EXPIRY)
    }

    /// Whether an entry has a box, and so takes longer to free.
    #[inline]
    pub fn has_box(&self, handle: Handle) -> bool {
        Header::of(self.bytes(handle)).has(Header::HAS_BOX)
    }

    /// Makes an entry.
    #[inline]
    pub fn alloc(&mut self, key: &[u8], content: Content<'_>, expiry: Option<UnixMs>) -> Handle {
        let value = match content {
            Content::Str(value) if inline_len(key, value, expiry, self.used_first) <= ENTRY_BYTES_MAX => value,
            content => return self.alloc_boxed(key, content, expiry),
        };
        let used = self.used_first;
        let units = inline_len(key, value, expiry, used).div_ceil(size_of::<Word>());
        let handle = self.slab.alloc(units);
        write(self.slab.get_mut(handle, units), 0, key, value, expiry, used);
        handle
    }

    #[cold]
    fn alloc_boxed(&mut self, key: &[u8], content: Content<'_>, expiry: Option<UnixMs>) -> Handle {
        let value = match content {
            Content::Str(string) => Box::new(Value::Str(string.into())),
            Content::Boxed(value) => value,
        };
        let used = self.used_first;
        let fits = inline_len(key, &[0; BOX_NUMBER_BYTES], expiry, used) <= ENTRY_BYTES_MAX;
        let (key, boxed_key, flags) = match fits {
            true => (key, None, Header::HAS_BOX),
            false => (&[][..], Some(key.into()), Header::HAS_BOX | Header::HAS_KEY_IN_BOX),
        };
        let number = self.put_box(Boxed { key: boxed_key, value }).to_le_bytes();
        let units = inline_len(key, &number, expiry, used).div_ceil(size_of::<Word>());
        let handle = self.slab.alloc(units);
        write(self.slab.get_mut(handle, units), flags, key, &number, expiry, used);
        handle
    }

    fn put_box(&mut self, boxed: Boxed) -> u32 {
        self.boxed_bytes += boxed.memory();
        if let Some(number) = self.boxes_free.pop() {
            self.boxes[number as usize / BOXES_CHUNK][number as usize % BOXES_CHUNK] = Some(boxed);
            return number;
        }
        if self.boxes.last().is_none_or(|chunk| chunk.len() == BOXES_CHUNK) {
            self.boxes.push(Vec::with_capacity(BOXES_CHUNK));
        }
        let chunk = self.boxes.len() - 1;
        self.boxes[chunk].push(Some(boxed));
        (chunk * BOXES_CHUNK + self.boxes[chunk].len() - 1) as u32
    }

    /// Puts other contents under the key of an entry; the entry may have another handle then.
    #[inline]
    pub fn replace(&mut self, old: Handle, key: &[u8], content: Content<'_>, expiry: Option<UnixMs>) -> Handle {
        if let Content::Str(value) = content {
            let used = self.used_of_next(old);
            let len = inline_len(key, value, expiry, used);
            let units = len.div_ceil(size_of::<Word>());
            if len <= ENTRY_BYTES_MAX && units == self.slab.units_of(old) && !self.has_box(old) {
                write(self.slab.get_mut(old, units), 0, key, value, expiry, used);
                return old;
            }
        }
        let used = self.used_of_next(old);
        let new = self.alloc(key, content, expiry);
        self.free(old);
        if let Some(used) = used {
            self.set_used(new, used);
        }
        new
    }

    /// What an entry says about its use that comes in the place of `old`: how often a key is used is not forgotten.
    #[inline]
    fn used_of_next(&self, old: Handle) -> Option<Used> {
        let first = self.used_first?;
        let old = self.used(old).filter(|used| used.is_frequency() && first.is_frequency());
        Some(old.unwrap_or(first))
    }

    /// What an entry says about its use, if it does.
    #[inline]
    pub fn used(&self, handle: Handle) -> Option<Used> {
        let bytes = self.bytes(handle);
        let header = Header::of(bytes);
        if !header.has(Header::HAS_USE) {
            return None;
        }
        bytes[header.use_at()..].first_chunk().map(|bytes| Used::from_bytes(*bytes))
    }

    /// Writes down that an entry is used now; it may have another handle then.
    pub fn note_use(&mut self, handle: Handle, now: UnixMs, random: u64) -> Handle {
        let Some(first) = self.used_first else { return handle };
        match self.used(handle).filter(|used| used.is_frequency() == first.is_frequency()) {
            Some(used) => {
                self.set_used(handle, used.again(now, random));
                handle
            }
            None if self.used(handle).is_some() => {
                self.set_used(handle, first);
                handle
            }
            None => {
                let expiry = expiry_of(self.bytes(handle), Header::of(self.bytes(handle)));
                self.reshape(handle, expiry, Some(first))
            }
        }
    }

    /// Changes what an entry says about its use, if it does.
    fn set_used(&mut self, handle: Handle, used: Used) {
        let header = Header::of(self.bytes(handle));
        if header.has(Header::HAS_USE) {
            let (units, at) = (self.slab.units_of(handle), header.use_at());
            let bytes = self.slab.get_mut(handle, units).as_flattened_mut();
            bytes[at..at + Used::BYTES].copy_from_slice(&used.to_bytes());
        }
    }

    /// Gives an entry another expiry; it may have another handle then.
    pub fn set_expiry(&mut self, old: Handle, expiry: Option<UnixMs>) -> Handle {
        let header = Header::of(self.bytes(old));
        if header.has(Header::HAS_EXPIRY) == expiry.is_some() {
            if let Some(expiry) = expiry {
                let units = self.slab.units_of(old);
                let bytes = self.slab.get_mut(old, units).as_flattened_mut();
                bytes[Header::BYTES..Header::BYTES + 8].copy_from_slice(&expiry.get().to_le_bytes());
            }
            return old;
        }
        self.reshape(old, expiry, self.used(old))
    }

    /// Gives an entry what it has not beside its key, or takes it away.
    fn reshape(&mut self, old: Handle, expiry: Option<UnixMs>, used: Option<Used>) -> Handle {
        let header = Header::of(self.bytes(old));
        // Key and value keep their bytes, the number of a box among them.
        let mut copy = [0; ENTRY_BYTES_MAX];
        let (key_len, value_len) = (header.value_at() - header.key_at(), header.end() - header.value_at());
        let both = key_len + value_len;
        copy[..both].copy_from_slice(&self.bytes(old)[header.key_at()..header.end()]);
        let (key, value) = copy[..both].split_at(key_len);
        if inline_len(key, value, expiry, used) > ENTRY_BYTES_MAX {
            return self.move_into_box(old, expiry);
        }
        let units = inline_len(key, value, expiry, used).div_ceil(size_of::<Word>());
        let new = if units == self.slab.units_of(old) {
            old
        } else {
            self.slab.free(old);
            self.slab.alloc(units)
        };
        let flags = header.0 & (Header::HAS_BOX | Header::HAS_KEY_IN_BOX);
        write(self.slab.get_mut(new, units), flags, key, value, expiry, used);
        new
    }

    /// The rare entry that is too large for the slab by the eight bytes of its expiry.
    #[cold]
    fn move_into_box(&mut self, old: Handle, expiry: Option<UnixMs>) -> Handle {
        let entry = self.entry(old);
        let key = entry.key().to_vec();
        let content = match self.take_box(old) {
            Some(boxed) => Content::Boxed(boxed.value),
            None => match self.entry(old).value() {
                ValueRef::Str(value) => Content::Boxed(Box::new(Value::Str(value.into()))),
                ValueRef::Boxed(_) => unreachable!("what is boxed was taken"),
            },
        };
        self.slab.free(old);
        self.alloc(&key, content, expiry)
    }

    /// Changes the value in the box of an entry. `None`, without a call, if it has none.
    pub fn update<R>(&mut self, handle: Handle, change: impl FnOnce(&mut Value) -> R) -> Option<R> {
        let entry = self.slab.from(handle).as_flattened();
        let header = Header::of(entry);
        if !header.has(Header::HAS_BOX) {
            return None;
        }
        let number = number_of_box(entry, header);
        let Some(boxed) = &mut self.boxes[number / BOXES_CHUNK][number % BOXES_CHUNK] else {
            unreachable!("an entry in use has its box")
        };
        let before = boxed.memory();
        let result = change(&mut boxed.value);
        self.boxed_bytes = self.boxed_bytes + boxed.memory() - before;
        Some(result)
    }

    /// Whether entries lie so sparse that some are to be moved, by [`close_sparse`](Self::close_sparse).
    #[inline]
    pub fn is_owed(&self) -> bool {
        self.slab.is_owed()
    }

    /// Chooses entries to be moved, as [`Slab::close_sparse`] does.
    pub fn close_sparse(&mut self, out: &mut Vec<Handle>) -> Option<u32> {
        self.slab.close_sparse(out)
    }

    /// See [`Slab::open_again`].
    pub fn open_again(&mut self, run: u32) {
        self.slab.open_again(run);
    }

    /// Moves an entry; it has another handle then.
    pub fn move_entry(&mut self, old: Handle) -> Handle {
        let units = self.slab.units_of(old);
        let mut copy = [Word::default(); ENTRY_BYTES_MAX / size_of::<Word>()];
        copy[..units].copy_from_slice(self.slab.get(old, units));
        let new = self.slab.alloc(units);
        self.slab.get_mut(new, units).copy_from_slice(&copy[..units]);
        self.slab.free(old);
        new
    }

    /// Gives an entry up. A large value is only put aside: [`reclaim`](Self::reclaim) frees it.
    #[inline]
    pub fn free(&mut self, handle: Handle) {
        if self.has_box(handle)
            && let Some(mut boxed) = self.take_box(handle)
            && !boxed.value.release(RELEASE_MEMBERS)
        {
            self.dying.push(*boxed.value);
        }
        self.slab.free(handle);
    }

    #[cold]
    fn take_box(&mut self, handle: Handle) -> Option<Boxed> {
        let entry = self.slab.from(handle).as_flattened();
        let header = Header::of(entry);
        if !header.has(Header::HAS_BOX) {
            return None;
        }
        let number = number_of_box(entry, header);
        let boxed = self.boxes[number / BOXES_CHUNK][number % BOXES_CHUNK].take()?;
        self.boxes_free.push(number as u32);
        self.boxed_bytes -= boxed.memory();
        Some(boxed)
    }

    /// Puts a value aside that is no entry's: [`reclaim`](Self::reclaim) frees it.
    pub fn free_later(&mut self, value: Value) {
        self.dying.push(value);
    }

    /// Frees up to `members` members of values that were put aside. `true`: there are more.
    pub fn reclaim(&mut self, members: usize) -> bool {
        let Some(value) = self.dying.last_mut() else { return !self.thawed.release(members) };
        if value.release(members) {
            self.dying.pop();
        }
        !self.dying.is_empty() || !self.thawed.release(0)
    }

    #[cfg(test)]
    pub fn invariants(&self) {
        self.slab.invariants();
        let boxed: usize = self.boxes.iter().flatten().flatten().map(Boxed::memory).sum();
        assert_eq!(boxed, self.boxed_bytes);
    }
}

#[inline]
fn inline_len(key: &[u8], value: &[u8], expiry: Option<UnixMs>, used: Option<Used>) -> usize {
    let fixed = if expiry.is_some() { Header::BYTES + 8 } else { Header::BYTES };
    let used = if used.is_some() { Used::BYTES } else { 0 };
    fixed + used + key.len() + value.len()
}

#[inline]
fn write(item: &mut [Word], flags: u32, key: &[u8], value: &[u8], expiry: Option<UnixMs>, used: Option<Used>) {
    let bytes = item.as_flattened_mut();
    let flags = if expiry.is_some() { flags | Header::HAS_EXPIRY } else { flags };
    let flags = if used.is_some() { flags | Header::HAS_USE } else { flags };
    let header = Header::new(flags, key.len(), value.len());
    bytes[..Header::BYTES].copy_from_slice(&header.0.to_le_bytes());
    if let Some(expiry) = expiry {
        bytes[Header::BYTES..Header::BYTES + 8].copy_from_slice(&expiry.get().to_le_bytes());
    }
    if let Some(used) = used {
        bytes[header.use_at()..header.key_at()].copy_from_slice(&used.to_bytes());
    }
    bytes[header.key_at()..header.value_at()].copy_from_slice(key);
    bytes[header.value_at()..header.end()].copy_from_slice(value);
}

#[inline]
fn expiry_of(entry: &[u8], header: Header) -> Option<UnixMs> {
    if !header.has(Header::HAS_EXPIRY) {
        return None;
    }
    let bytes = entry[Header::BYTES..].first_chunk()?;
    Some(UnixMs::new(u64::from_le_bytes(*bytes)))
}

#[inline]
fn number_of_box(entry: &[u8], header: Header) -> usize {
    let at = header.value_at();
    u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]) as usize
}
