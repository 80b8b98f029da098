//! A sub-table: the keys of a slot whose hashes begin with certain bits. Its lines are in the order of the hashes, so
//! that a walk by rising hash needs no sorting, whatever the number of lines.
//!
//! ```text
//! hash   │ depth bits │ 24 bits │ …        │ tag │
//!          which table  × lines / 2²⁴ = home line
//! ```

use super::hash::keyed_hash;
use super::heap::Heap;
use super::line::{self, Found, Line, PLACES, Tag};
use super::slab::{Handle, Slab};

/// A sub-table without its lines, in 8 bytes. Default: empty.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Table {
    /// Its lines; without meaning if there are none.
    first: Handle,
    /// `size` in the low 8 bits, `len` in 12, `expires` in 12.
    shape: u32,
}

/// Lines that a table can have: each step about 4/3 of the one before.
const SIZES: [u16; 17] = [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256];

/// Keys that lines take before there are more of them: three quarters of the places.
const KEYS_PER_LINE: usize = PLACES * 3 / 4;

/// Lines of the largest table.
pub(super) const LINES_MAX: usize = SIZES[SIZES.len() - 1] as usize;

/// Keys that a table of the largest size takes, if it cannot be split; a few places stay empty.
pub(super) const TABLE_KEYS_MAX: usize = LINES_MAX * (PLACES - 1);

const _: () = assert!(TABLE_KEYS_MAX < 1 << 12);
const _: () = assert!(crate::limits::SUBTABLE_KEYS_MAX <= LINES_MAX * KEYS_PER_LINE);

/// How far ahead the entries of a table are fetched where they are looked at one after the other.
pub(super) const LINES_AHEAD: usize = 3;

/// Bits of a hash that choose a line.
pub(super) const LINE_BITS: u32 = 24;

/// The home line of a hash in a table of `lines` lines whose hashes have `depth` bits in common.
#[inline]
pub(super) fn home(hash: u64, depth: u32, lines: usize) -> usize {
    (((hash << depth) >> (64 - LINE_BITS)) as usize * lines) >> LINE_BITS
}

impl Table {
    #[inline]
    pub(super) fn from_parts(first: u32, size: u8) -> Table {
        Table { first: Handle(first), shape: u32::from(size) }
    }

    #[inline]
    pub(super) fn first(self) -> u32 {
        self.first.0
    }

    #[inline]
    pub(super) fn size(self) -> u8 {
        self.shape as u8
    }

    /// Number of keys.
    #[inline]
    pub fn len(self) -> usize {
        (self.shape >> 8 & 0xfff) as usize
    }

    /// Number of keys with an expiry.
    #[inline]
    pub fn expires(self) -> usize {
        (self.shape >> 20) as usize
    }

    /// Number of lines.
    #[inline]
    pub fn lines_len(self) -> usize {
        usize::from(SIZES[usize::from(self.size())])
    }

    #[inline]
    pub fn lines(self, lines: &Slab<Line>) -> &[Line] {
        match self.lines_len() {
            0 => &[],
            n => lines.get(self.first, n),
        }
    }

    #[inline]
    fn lines_mut(self, lines: &mut Slab<Line>) -> &mut [Line] {
        match self.lines_len() {
            0 => &mut [],
            n => lines.get_mut(self.first, n),
        }
    }

    /// Whether it should have more lines, or be split, before it takes another key.
    #[inline]
    pub fn is_full(self) -> bool {
        self.len() >= self.lines_len() * KEYS_PER_LINE
    }

    /// Whether most of its lines are of no use.
    #[inline]
    pub fn is_sparse(self) -> bool {
        self.lines_len() > 4 && self.len() < self.lines_len() * KEYS_PER_LINE / 4
    }

    /// Finds a key.
    #[inline]
    pub fn find(self, lines: &Slab<Line>, heap: &Heap, hash: u64, depth: u32, key: &[u8]) -> Option<Found> {
        if self.lines_len() == 0 {
            return None;
        }
        let home = home(hash, depth, self.lines_len());
        line::find(self.lines(lines), home, Tag::of(hash), |handle| heap.key(handle) == key)
    }

    /// Finds an entry by its handle.
    pub fn find_handle(self, lines: &Slab<Line>, hash: u64, depth: u32, handle: Handle) -> Option<Found> {
        if self.lines_len() == 0 {
            return None;
        }
        let home = home(hash, depth, self.lines_len());
        line::find(self.lines(lines), home, Tag::of(hash), |other| other == handle)
    }

    /// Takes an entry in; there is room: it [is not full](Self::is_full).
    #[inline]
    pub fn insert(&mut self, lines: &mut Slab<Line>, hash: u64, depth: u32, handle: Handle, has_expiry: bool) {
        assert!(self.len() < TABLE_KEYS_MAX, "more keys than places: the hash has no spread");
        line::insert(self.lines_mut(lines), home(hash, depth, self.lines_len()), Tag::of(hash), handle);
        self.shape += 1 << 8 | u32::from(has_expiry) << 20;
    }

    /// Lets an entry have another handle and another kind of expiry.
    #[inline]
    pub fn replace(&mut self, lines: &mut Slab<Line>, at: Found, handle: Handle, had_expiry: bool, has_expiry: bool) {
        if handle != at.handle {
            line::set_handle(self.lines_mut(lines), at, handle);
        }
        self.shape = self.shape + (u32::from(has_expiry) << 20) - (u32::from(had_expiry) << 20);
    }

    /// Takes an entry out.
    #[inline]
    pub fn remove(&mut self, lines: &mut Slab<Line>, hash: u64, depth: u32, at: Found, had_expiry: bool) {
        let home = home(hash, depth, self.lines_len());
        line::remove(self.lines_mut(lines), home, at);
        self.shape -= 1 << 8 | u32::from(had_expiry) << 20;
    }

    /// Gives the table as many lines as `keys` keys need.
    pub fn resize(&mut self, lines: &mut Slab<Line>, heap: &Heap, depth: u32, keys: usize) {
        // The lines of a slab cannot be read and written at once.
        let entries = self.hashed_entries(lines, heap);
        let mut new = Table::with_room(lines, keys.max(self.len()));
        for (hash, handle) in entries {
            new.insert(lines, hash, depth, handle, false);
        }
        new.shape |= (self.expires() as u32) << 20;
        self.free_lines(lines);
        *self = new;
    }

    /// An empty table with room for about `keys` keys.
    pub fn with_room(lines: &mut Slab<Line>, keys: usize) -> Table {
        let size = SIZES.iter().position(|n| usize::from(*n) * KEYS_PER_LINE >= keys).unwrap_or(SIZES.len() - 1);
        let mut table = Table::default();
        if size > 0 {
            let n = usize::from(SIZES[size]);
            table = Table::from_parts(lines.alloc(n).0, size as u8);
            lines.get_mut(table.first, n).fill(Line::default());
        }
        table
    }

    /// Gives its lines up. The entries are the caller's.
    pub fn free_lines(&mut self, lines: &mut Slab<Line>) {
        if self.lines_len() > 0 {
            lines.free(self.first);
        }
        *self = Table::default();
    }

    /// All entries with the hashes of their keys, in no order.
    pub fn hashed_entries(self, lines: &Slab<Line>, heap: &Heap) -> Vec<(u64, Handle)> {
        // Keys lie all over memory: without looking ahead each would be waited for.
        let lines = self.lines(lines);
        let mut entries = Vec::with_capacity(self.len());
        for at in 0..lines.len() + LINES_AHEAD {
            if let Some(ahead) = lines.get(at) {
                ahead.entries().for_each(|(_, handle)| heap.prefetch_key(handle));
            }
            if let Some(line) = at.checked_sub(LINES_AHEAD).and_then(|at| lines.get(at)) {
                entries.extend(line.entries().map(|(_, handle)| (keyed_hash(heap.key(handle)), handle)));
            }
        }
        entries
    }

    /// All entries, in no order.
    #[cfg(test)]
    pub fn entries(self, lines: &Slab<Line>) -> impl Iterator<Item = Handle> {
        self.lines(lines).iter().flat_map(|line| line.entries().map(|(_, handle)| handle))
    }
}
