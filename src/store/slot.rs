//! One copy of a hash slot: a single table as long as it is small; beyond that a directory of sub-tables, split one at
//! a time by the top bits of the hash, so that no write waits while a large slot is rebuilt.
//!
//! ```text
//! slot ──▶ table                                 up to about 2,000 keys
//! slot ──▶ directory, by the top `depth` bits    each table by its own, at most as many
//!            00 ─▶ table 0…
//!            01 ─▶ table 0…
//!            10 ─▶ table 10
//!            11 ─▶ table 11
//! ```

use super::hash::keyed_hash;
use super::heap::{Content, Heap};
use super::line::{self, Found, Line};
use super::slab::{Handle, Slab};
use super::table::{self, LINE_BITS, LINES_AHEAD, LINES_MAX, TABLE_KEYS_MAX, Table};
use super::{Entry, prefetch};
use crate::id::UnixMs;
use crate::limits::SUBTABLE_KEYS_MAX;

/// What all slots of a shard lie in.
#[derive(Debug)]
pub(super) struct Storage {
    pub heap: Heap,
    pub lines: Slab<Line>,
    directories: Vec<Directory>,
    directories_free: Vec<u32>,
}

impl Storage {
    pub fn new() -> Storage {
        Storage {
            heap: Heap::new(),
            lines: Slab::new(LINES_MAX),
            directories: Vec::new(),
            directories_free: Vec::new(),
        }
    }
}

/// The header of a slot, in 8 bytes. Default: no keys.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot(Table);

const _: () = assert!(size_of::<Slot>() == 8);

/// What stands for the size of a table where the slot has a directory.
const MANY: u8 = u8::MAX;

#[derive(Debug, Default)]
struct Directory {
    /// Bits of the hash that `index` is by.
    depth: u32,
    /// Numbers of parts; `2^depth` of them.
    index: Vec<u32>,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    table: Table,
    /// Top bits that the hashes in the table have in common; at most those of the directory.
    depth: u32,
}

/// Top bits by which a slot can be split; with those that choose a line they fit a [`Cursor`].
const DEPTH_MAX: u32 = 24;

/// Keys at which a directory gives way to a single table again.
const COLLAPSE_KEYS: usize = SUBTABLE_KEYS_MAX / 2;

/// What an operation did to the counts of its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Change {
    pub keys: isize,
    pub expires: isize,
}

/// A lower bound of hashes at the boundary of a line. The low 16 bits are 0, whatever the shape of the tables.
pub(super) type Cursor = u64;

const _: () = assert!(64 - DEPTH_MAX - LINE_BITS == 16);

impl Slot {
    /// The table where keys of this hash are, and its depth.
    #[inline]
    fn table(self, directories: &[Directory], hash: u64) -> (Table, u32) {
        if self.0.size() != MANY {
            return (self.0, 0);
        }
        let part = directories[self.0.first() as usize].part(hash);
        (part.table, part.depth)
    }

    #[inline]
    fn table_mut<'a>(&'a mut self, directories: &'a mut [Directory], hash: u64) -> (&'a mut Table, u32) {
        if self.0.size() != MANY {
            return (&mut self.0, 0);
        }
        let directory = &mut directories[self.0.first() as usize];
        let number = directory.number(hash);
        let part = &mut directory.parts[number];
        (&mut part.table, part.depth)
    }

    fn tables(self, storage: &Storage) -> impl Iterator<Item = Table> {
        let (single, many) = match self.0.size() {
            MANY => (None, &storage.directories[self.0.first() as usize].parts[..]),
            _ => (Some(self.0), &[][..]),
        };
        single.into_iter().chain(many.iter().map(|part| part.table))
    }

    /// Whether it has several tables.
    pub fn is_split(self) -> bool {
        self.0.size() == MANY
    }

    /// Number of keys.
    #[inline]
    pub fn len(self, storage: &Storage) -> usize {
        if self.0.size() != MANY {
            return self.0.len();
        }
        self.tables(storage).map(Table::len).sum()
    }

    /// Number of keys with an expiry.
    pub fn expires(self, storage: &Storage) -> usize {
        self.tables(storage).map(Table::expires).sum()
    }

    /// First stage of prefetching: the line.
    #[inline]
    pub fn prefetch_line(self, storage: &Storage, hash: u64) {
        let (table, depth) = self.table(&storage.directories, hash);
        if let Some(line) = table.lines(&storage.lines).get(table::home(hash, depth, table.lines_len())) {
            prefetch::read(line);
        }
    }

    /// Second stage: the entry that the line names.
    #[inline]
    pub fn prefetch_entry(self, storage: &Storage, hash: u64) {
        let (table, depth) = self.table(&storage.directories, hash);
        if let Some(line) = table.lines(&storage.lines).get(table::home(hash, depth, table.lines_len()))
            && let Some((_, handle)) = line.candidates(line::Tag::of(hash)).next()
        {
            storage.heap.prefetch(handle);
        }
    }

    #[inline]
    fn find(self, storage: &Storage, hash: u64, key: &[u8]) -> Option<Found> {
        let (table, depth) = self.table(&storage.directories, hash);
        table.find(&storage.lines, &storage.heap, hash, depth, key)
    }

    /// The entry of a key.
    #[inline]
    pub fn get<'a>(self, storage: &'a Storage, hash: u64, key: &[u8]) -> Option<Entry<'a>> {
        self.find(storage, hash, key).map(|found| storage.heap.entry(found.handle))
    }

    /// The handle of the entry of a key.
    #[inline]
    pub fn handle(self, storage: &Storage, hash: u64, key: &[u8]) -> Option<Handle> {
        self.find(storage, hash, key).map(|found| found.handle)
    }

    /// Puts a key, whatever was there before.
    #[inline]
    pub fn put(
        &mut self,
        storage: &mut Storage,
        hash: u64,
        key: &[u8],
        content: Content<'_>,
        expiry: Option<UnixMs>,
    ) -> Change {
        let Storage { heap, lines, directories, .. } = storage;
        let (table, depth) = self.table_mut(directories, hash);
        if let Some(found) = table.find(lines, heap, hash, depth, key) {
            let had_expiry = heap.has_expiry(found.handle);
            let handle = heap.replace(found.handle, key, content, expiry);
            table.replace(lines, found, handle, had_expiry, expiry.is_some());
            return Change { keys: 0, expires: isize::from(expiry.is_some()) - isize::from(had_expiry) };
        }
        let handle = heap.alloc(key, content, expiry);
        if !table.is_full() {
            table.insert(lines, hash, depth, handle, expiry.is_some());
        } else {
            self.make_room(storage, hash);
            let (table, depth) = self.table_mut(&mut storage.directories, hash);
            table.insert(&mut storage.lines, hash, depth, handle, expiry.is_some());
        }
        Change { keys: 1, expires: isize::from(expiry.is_some()) }
    }

    /// Gives a key another expiry; `None` if there is no such key.
    pub fn set_expiry(
        &mut self,
        storage: &mut Storage,
        hash: u64,
        key: &[u8],
        expiry: Option<UnixMs>,
    ) -> Option<Change> {
        let Storage { heap, lines, directories, .. } = storage;
        let (table, depth) = self.table_mut(directories, hash);
        let found = table.find(lines, heap, hash, depth, key)?;
        let had_expiry = heap.has_expiry(found.handle);
        let handle = heap.set_expiry(found.handle, expiry);
        table.replace(lines, found, handle, had_expiry, expiry.is_some());
        Some(Change { keys: 0, expires: isize::from(expiry.is_some()) - isize::from(had_expiry) })
    }

    /// Writes down that a key is used now, if it is there.
    pub fn note_use(&mut self, storage: &mut Storage, hash: u64, key: &[u8], now: UnixMs, random: u64) {
        let Storage { heap, lines, directories, .. } = storage;
        let (table, depth) = self.table_mut(directories, hash);
        let Some(found) = table.find(lines, heap, hash, depth, key) else { return };
        let has_expiry = heap.has_expiry(found.handle);
        let handle = heap.note_use(found.handle, now, random);
        table.replace(lines, found, handle, has_expiry, has_expiry);
    }

    /// Moves an entry of this slot to another place in memory. `false`: it is not of this slot.
    pub fn move_entry(&mut self, storage: &mut Storage, hash: u64, handle: Handle) -> bool {
        let Storage { heap, lines, directories, .. } = storage;
        let (table, depth) = self.table_mut(directories, hash);
        let Some(found) = table.find_handle(lines, hash, depth, handle) else { return false };
        let has_expiry = heap.has_expiry(handle);
        table.replace(lines, found, heap.move_entry(handle), has_expiry, has_expiry);
        true
    }

    /// Removes a key; `None` if there is no such key.
    #[inline]
    pub fn remove(&mut self, storage: &mut Storage, hash: u64, key: &[u8]) -> Option<Change> {
        let Storage { heap, lines, directories, .. } = storage;
        let (table, depth) = self.table_mut(directories, hash);
        let found = table.find(lines, heap, hash, depth, key)?;
        let had_expiry = heap.has_expiry(found.handle);
        table.remove(lines, hash, depth, found, had_expiry);
        heap.free(found.handle);
        if table.len() == 0 || table.is_sparse() {
            self.shrink(storage, hash);
        }
        Some(Change { keys: -1, expires: -isize::from(had_expiry) })
    }

    /// Makes room for about `keys` keys in an empty slot.
    pub fn reserve(&mut self, storage: &mut Storage, keys: usize) {
        debug_assert_eq!(self.len(storage), 0);
        if self.0.lines_len() == 0 {
            self.0 = Table::with_room(&mut storage.lines, keys.min(SUBTABLE_KEYS_MAX));
        }
    }

    /// Shows the entries of the line at `cursor`, and answers where the next line begins; `None` at the end. The steps
    /// of a walk together cover every hash once, whatever happens to the tables in between; and the hash of a key does
    /// not change. So a key that is there from the first step to the last is shown.
    #[inline]
    pub fn walk(self, storage: &Storage, cursor: Cursor, show: impl FnMut(Handle)) -> Option<Cursor> {
        let (table, depth) = self.table(&storage.directories, cursor);
        let lines = table.lines(&storage.lines);
        let at = table::home(cursor, depth, lines.len());
        if !lines.is_empty() {
            // Entries lie all over memory: without looking ahead a walk would wait for each of them.
            let ahead = if at == 0 { 0..LINES_AHEAD + 1 } else { at + LINES_AHEAD..at + LINES_AHEAD + 1 };
            for (_, handle) in lines.iter().take(ahead.end).skip(ahead.start).flat_map(Line::entries) {
                storage.heap.prefetch(handle);
            }
            let home_of = |handle| table::home(keyed_hash(storage.heap.key(handle)), depth, lines.len());
            line::for_each_of_home(lines, at, home_of, show);
        }
        // What the hashes of this table have in common, and how far it reaches.
        let base = cursor.unbounded_shr(64 - depth).unbounded_shl(64 - depth);
        if at + 1 < lines.len() {
            let offset = (((at + 1) as u64) << LINE_BITS).div_ceil(lines.len() as u64);
            return Some(base | offset << (64 - LINE_BITS - depth));
        }
        if depth == 0 { None } else { base.checked_add(1 << (64 - depth)) }
    }

    /// Some entry of those that are `wanted`, near the given hash; `None` if there is none.
    pub fn near(self, storage: &Storage, hash: u64, wanted: impl Fn(Handle) -> bool) -> Option<Handle> {
        let after = |from: Cursor| {
            let mut cursor = Some(from);
            while let Some(from) = cursor {
                let (mut seen, mut chosen) = (0, None);
                cursor = self.walk(storage, from, |handle| {
                    if !wanted(handle) {
                        return;
                    }
                    // The low bits of the hash choose among those of a line.
                    seen += 1;
                    if hash.is_multiple_of(seen) {
                        chosen = Some(handle);
                    }
                });
                if chosen.is_some() {
                    return chosen;
                }
            }
            None
        };
        after(hash & !0xffff).or_else(|| after(0))
    }

    /// Grows the table of `hash`, or splits it.
    #[cold]
    fn make_room(&mut self, storage: &mut Storage, hash: u64) {
        loop {
            let total = self.len(storage);
            let (table, depth) = self.table_mut(&mut storage.directories, hash);
            if !table.is_full() {
                return;
            }
            // Keys whose hashes are nearly the same could be split for ever without effect.
            let depth_useful = ((total / SUBTABLE_KEYS_MAX + 1).ilog2() + 4).min(DEPTH_MAX);
            let may_split = table.len() >= SUBTABLE_KEYS_MAX && depth < depth_useful;
            if may_split {
                self.split(storage, hash);
            } else if table.lines_len() < LINES_MAX {
                let keys = table.len() + 1;
                table.resize(&mut storage.lines, &storage.heap, depth, keys);
            } else if table.len() >= TABLE_KEYS_MAX && depth < DEPTH_MAX {
                self.split(storage, hash);
            } else {
                return;
            }
        }
    }

    /// Splits the table of `hash` in two, by the first bit that its hashes may differ in.
    fn split(&mut self, storage: &mut Storage, hash: u64) {
        if self.0.size() != MANY {
            let directory = Directory { depth: 0, index: vec![0], parts: vec![Part { table: self.0, depth: 0 }] };
            let number = storage.directories_free.pop().unwrap_or_else(|| {
                storage.directories.push(Directory::default());
                storage.directories.len() as u32 - 1
            });
            storage.directories[number as usize] = directory;
            self.0 = Table::from_parts(number, MANY);
        }
        let Storage { heap, lines, directories, .. } = storage;
        let directory = &mut directories[self.0.first() as usize];
        let number = directory.number(hash);
        let Part { mut table, depth } = directory.parts[number];

        let hashed = table.hashed_entries(lines, heap);
        let of_upper = |hash: u64| (hash << depth) >> 63 == 1;
        let upper_len = hashed.iter().filter(|(hash, _)| of_upper(*hash)).count();
        table.free_lines(lines);
        let mut lower = Table::with_room(lines, hashed.len() - upper_len + 1);
        let mut upper = Table::with_room(lines, upper_len + 1);
        for (hash, handle) in hashed {
            let half = if of_upper(hash) { &mut upper } else { &mut lower };
            half.insert(lines, hash, depth + 1, handle, heap.has_expiry(handle));
        }
        directory.replace_by_halves(number, hash, lower, upper);
    }

    /// Makes a table smaller that has lost its keys, and a slot simpler.
    #[cold]
    fn shrink(&mut self, storage: &mut Storage, hash: u64) {
        if self.0.size() == MANY && self.len(storage) <= COLLAPSE_KEYS {
            let tables: Vec<Table> = self.tables(storage).collect();
            let keys = self.len(storage);
            let mut single = Table::with_room(&mut storage.lines, keys);
            for mut table in tables {
                for (hash, handle) in table.hashed_entries(&storage.lines, &storage.heap) {
                    single.insert(&mut storage.lines, hash, 0, handle, storage.heap.has_expiry(handle));
                }
                table.free_lines(&mut storage.lines);
            }
            self.drop_directory(storage);
            self.0 = single;
        }
        let Storage { heap, lines, directories, .. } = storage;
        let (table, depth) = self.table_mut(directories, hash);
        match table.len() {
            0 => table.free_lines(lines),
            keys if table.is_sparse() => table.resize(lines, heap, depth, keys * 3 / 2),
            _ => {}
        }
    }

    fn drop_directory(&mut self, storage: &mut Storage) {
        storage.directories[self.0.first() as usize] = Directory::default();
        storage.directories_free.push(self.0.first());
        self.0 = Table::default();
    }

    /// Takes the slot apart: its tables, with all their entries, are the caller's now.
    pub fn take_tables(&mut self, storage: &mut Storage, out: &mut Vec<Table>) {
        out.extend(self.tables(storage).filter(|table| table.lines_len() > 0));
        if self.0.size() == MANY {
            self.drop_directory(storage);
        }
        self.0 = Table::default();
    }

    #[cfg(test)]
    pub fn invariants(self, storage: &Storage) {
        let check = |table: Table, depth: u32, prefix: Option<u64>| {
            let hash_of = |handle| keyed_hash(storage.heap.key(handle));
            line::invariants(table.lines(&storage.lines), hash_of, |handle| {
                table::home(hash_of(handle), depth, table.lines_len())
            });
            let handles: Vec<Handle> = table.entries(&storage.lines).collect();
            assert_eq!(handles.len(), table.len());
            assert_eq!(handles.iter().filter(|h| storage.heap.has_expiry(**h)).count(), table.expires());
            if let Some(prefix) = prefix {
                assert!(handles.iter().all(|h| hash_of(*h) >> (64 - depth) == prefix));
            }
        };
        if self.0.size() != MANY {
            return check(self.0, 0, None);
        }
        let directory = &storage.directories[self.0.first() as usize];
        assert_eq!(directory.index.len(), 1 << directory.depth);
        let mut checked = vec![false; directory.parts.len()];
        for (at, &number) in directory.index.iter().enumerate() {
            let part = &directory.parts[number as usize];
            if !std::mem::replace(&mut checked[number as usize], true) {
                check(part.table, part.depth, Some((at >> (directory.depth - part.depth)) as u64));
            }
        }
        assert!(checked.iter().all(|c| *c), "every part can be reached");
    }
}

impl Directory {
    #[inline]
    fn number(&self, hash: u64) -> usize {
        self.index[hash.unbounded_shr(64 - self.depth) as usize] as usize
    }

    #[inline]
    fn part(&self, hash: u64) -> &Part {
        &self.parts[self.number(hash)]
    }

    /// Part `number`, where `hash` belongs, becomes two.
    fn replace_by_halves(&mut self, number: usize, hash: u64, lower: Table, upper: Table) {
        let depth = self.parts[number].depth + 1;
        if depth > self.depth {
            self.index = self.index.iter().flat_map(|number| [*number; 2]).collect();
            self.depth += 1;
        }
        let upper_number = self.parts.len() as u32;
        self.parts[number] = Part { table: lower, depth };
        self.parts.push(Part { table: upper, depth });
        // The entries of the index that begin with the old prefix: their upper half.
        let reach = 1usize << (self.depth - depth);
        let first = ((hash >> (64 - depth)) | 1) as usize * reach;
        self.index[first..first + reach].fill(upper_number);
    }
}
