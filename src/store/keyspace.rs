//! The keyspace of one shard: live slots, the few that are being loaded, and what waits to be freed. It reads no clock:
//! a key that has expired is here until somebody removes it.
//!
//! ```text
//!   live    [Slot; 16,384] ─┐
//!   staging [(number, Slot)]┼──▶ tables of lines ──▶ entries ──▶ boxes
//!   dead    [Table] ────────┘         Slab<Line>       Slab<Word>
//! ```

use std::cell::Cell;

use super::dump::Step;
use super::heap::Content;
use super::slab::Handle;
use super::slot::{Change, Slot, Storage};
use super::sum::{SlotSum, Stepped};
use super::table::Table;
use super::used::{Tracking, Used};
use super::{Awaited, Entry, Message, Value, ValueRef, Watched, command, hash};
use crate::id::{HASH_SLOTS, HashSlot, SlotRange, UnixMs};
use crate::limits::{DIGEST_STEP_BYTES, DUMP_STEP_KEYS_MAX, RECLAIM_ENTRIES_MAX, VALUE_PIECE_BYTES};
use crate::slotset::SlotSet;
use crate::snapshot::record::{Head, Kind, Reader, RecordError};
use crate::snapshot::{ApplyError, AsOf, Copy, Digest, DumpCursor, Keyspace, LoadError, Located, SumId, Summed};
use crate::wire::Argv;

/// Where a key is looked for: in which copy of its slot, and where there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The copy of the slot.
    pub copy: Copy,
    /// Slot and hash of the key.
    pub at: Located,
}

/// The live copy.
impl From<Located> for Place {
    #[inline]
    fn from(at: Located) -> Place {
        Place { copy: Copy::Live, at }
    }
}

/// How far a `SCAN` has come. Its number is for the client, and the hash slot where the scan goes on is in it, so that
/// a node with several shards knows whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScanCursor(u64);

impl ScanCursor {
    /// Before the first key of the first slot; as an answer: the scan is over.
    pub const START: ScanCursor = ScanCursor(0);

    /// The cursor with this number; `None` if no scan ever gave it.
    pub fn from_u64(number: u64) -> Option<ScanCursor> {
        (number >> 48 < HASH_SLOTS as u64).then_some(ScanCursor(number))
    }

    /// At the beginning of `slot`.
    pub fn at_slot(slot: HashSlot) -> ScanCursor {
        ScanCursor(u64::from(slot.get()) << 48)
    }

    /// Its number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The slot where the scan goes on.
    pub fn slot(self) -> HashSlot {
        HashSlot::from_crc16((self.0 >> 48) as u16)
    }
}

/// Bits of a [`ScanCursor`] below the slot: the top bits of a hash, all that a boundary between lines can have.
const SCAN_HASH_BITS: u32 = 48;

/// One shard's part of the keyspace, or all of it.
///
/// Every operation takes a [`Place`], which [`Keyspace::locate`] computes from the key once; the same code works on
/// live slots and on those that are being loaded.
#[derive(Debug)]
pub struct KeyspaceStore {
    live: Box<[Slot]>,
    staging: Vec<(HashSlot, Slot)>,
    storage: Storage,
    /// Tables that nobody can reach, with their entries.
    dead: Vec<Dead>,
    /// Keys in live slots.
    keys: usize,
    /// Keys in live slots that have an expiry.
    expires: usize,
    /// Slots some copy of which may have hashes with fields that expire: all that have some, and others until a round of the walk
    /// that looks for them has not met any.
    timed: SlotSet,
    /// Those of them that this round has met, and those that came meanwhile.
    timed_met: SlotSet,
    /// Digests that are being taken in steps: those of a few large slots, and most of the time none.
    sums: Vec<SlotSum>,
    /// The number of the next one.
    sum_next: u64,
    /// Bytes of a step.
    digest_step_bytes: usize,
    /// Who is to know when a live key changes. What `apply` and whole slots change is told by the store itself; whoever
    /// executes a command tells what its effects say.
    pub watched: Watched,
    /// Who waits for a live key. Its changes are told as to those who watch.
    pub awaited: Awaited,
    /// Bytes of a value that is dumped whole.
    value_piece_bytes: usize,
    /// What is written down about the use of keys.
    tracking: Tracking,
    /// Since when.
    tracked_since: UnixMs,
    /// Messages that were applied and not taken; `None`: nobody wants them.
    messages: Option<Vec<Message>>,
    /// How often commands looked for a key.
    looks: Cell<Looks>,
}

/// How often commands looked for a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Looks {
    /// Times that it was there.
    pub hits: u64,
    /// Times that it was not.
    pub misses: u64,
}

/// Where in a slot something is looked for: independent of which slot it is.
fn near(random: u64) -> u64 {
    super::digest::pair(random, 0)
}

#[derive(Debug)]
struct Dead {
    table: Table,
    /// Lines whose entries are still to be freed, from the first on.
    lines_left: usize,
}

/// What an entry with a box counts for while the dead are freed.
const BOX_ENTRIES: usize = 16;

impl Default for KeyspaceStore {
    fn default() -> KeyspaceStore {
        KeyspaceStore::new()
    }
}

impl KeyspaceStore {
    /// An empty keyspace with all hash slots.
    pub fn new() -> KeyspaceStore {
        KeyspaceStore {
            live: vec![Slot::default(); HASH_SLOTS].into_boxed_slice(),
            staging: Vec::new(),
            storage: Storage::new(),
            dead: Vec::new(),
            keys: 0,
            expires: 0,
            timed: SlotSet::empty(),
            timed_met: SlotSet::empty(),
            sums: Vec::new(),
            sum_next: 0,
            digest_step_bytes: DIGEST_STEP_BYTES,
            watched: Watched::default(),
            awaited: Awaited::default(),
            value_piece_bytes: VALUE_PIECE_BYTES,
            tracking: Tracking::Off,
            tracked_since: UnixMs::new(0),
            messages: None,
            looks: Cell::default(),
        }
    }

    /// Says what is written down about the use of keys from now on. Keys that are there say nothing until they are used.
    pub fn track(&mut self, tracking: Tracking, now: UnixMs) {
        if tracking != self.tracking {
            (self.tracking, self.tracked_since) = (tracking, now);
        }
        self.storage.heap.set_tracking(tracking, now);
    }

    /// What is written down about the use of keys.
    #[inline]
    pub fn tracking(&self) -> Tracking {
        self.tracking
    }

    /// Says what time it is: keys that are made count as used then.
    #[inline]
    pub fn tick(&mut self, now: UnixMs) {
        if self.tracking != Tracking::Off {
            self.storage.heap.set_tracking(self.tracking, now);
        }
    }

    /// Writes down that a live key is used now, if it is there and somebody wants to know.
    pub fn note_use(&mut self, at: Located, key: &[u8], now: UnixMs, random: u64) {
        if self.tracking != Tracking::Off {
            self.live[at.slot.index()].note_use(&mut self.storage, at.hash, key, now, random);
        }
    }

    /// Seconds since a live key was used last. Where it was not since times are tracked: as many as they are; where they are not:
    /// none.
    pub fn idle_seconds(&self, at: Located, key: &[u8], now: UnixMs) -> u64 {
        if self.tracking != Tracking::Times {
            return 0;
        }
        let idle = self.used(at, key).and_then(|used| used.idle_seconds(now));
        idle.unwrap_or(now.get().saturating_sub(self.tracked_since.get()) / 1_000)
    }

    /// How often a live key is used, from 0 to 255.
    pub fn frequency(&self, at: Located, key: &[u8], now: UnixMs) -> u8 {
        self.used(at, key).and_then(|used| used.frequency(now)).unwrap_or(0)
    }

    fn used(&self, at: Located, key: &[u8]) -> Option<Used> {
        let handle = self.live[at.slot.index()].handle(&self.storage, at.hash, key)?;
        self.storage.heap.used(handle)
    }

    /// Number of keys in live slots, expired ones included.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// How often commands looked for a key, as far as they said so.
    #[inline]
    pub fn looks(&self) -> Looks {
        self.looks.get()
    }

    /// Counts from `looks` on.
    #[inline]
    pub fn set_looks(&mut self, looks: Looks) {
        self.looks.set(looks);
    }

    /// A command looked for a key, and found it or did not.
    #[inline]
    pub(super) fn note_look(&self, found: bool) {
        let Looks { hits, misses } = self.looks.get();
        self.looks.set(Looks { hits: hits + u64::from(found), misses: misses + u64::from(!found) });
    }

    /// Whether no live slot has a key.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Number of keys in live slots that have an expiry.
    pub fn expires(&self) -> usize {
        self.expires
    }

    /// Whether there may be hashes with fields that expire.
    #[inline]
    pub fn has_times(&self) -> bool {
        !self.timed.is_empty()
    }

    /// A hash with fields that expire is in `slot`, in some copy.
    pub fn note_times(&mut self, slot: HashSlot) {
        self.timed.insert(slot);
        self.timed_met.insert(slot);
    }

    /// A round of [`scan_expiring`](Self::scan_expiring) is over, from the beginning to the end, and every hash with fields that expire
    /// which it met was noted: slots without any are forgotten.
    pub fn end_round(&mut self) {
        // What is being loaded was not walked through.
        for (slot, _) in self.staging.iter().filter(|(slot, _)| self.timed.contains(*slot)) {
            self.timed_met.insert(*slot);
        }
        std::mem::swap(&mut self.timed, &mut self.timed_met);
        self.timed_met.clear();
    }

    /// Sets the bytes of a value that is dumped whole; a larger one goes in pieces of at most as many.
    pub fn set_value_piece_bytes(&mut self, bytes: usize) {
        self.value_piece_bytes = bytes.max(1);
    }

    /// Sets how many bytes one step of a digest takes, about.
    pub fn set_digest_step_bytes(&mut self, bytes: usize) {
        self.digest_step_bytes = bytes;
    }

    /// Bytes of memory that keys, values and tables take, whatever copy they are in, and what waits to be freed.
    pub fn used_bytes(&self) -> usize {
        self.storage.heap.used_bytes() + self.storage.lines.used_bytes() + size_of_val(&*self.live)
    }

    /// Bytes taken from the system for them: what is above [`used_bytes`](Self::used_bytes) is room for more, or waste.
    pub fn reserved_bytes(&self) -> usize {
        self.storage.heap.reserved_bytes() + self.storage.lines.reserved_bytes() + size_of_val(&*self.live)
    }

    #[inline]
    fn slot(&self, copy: Copy, slot: HashSlot) -> Option<Slot> {
        match copy {
            Copy::Live => Some(self.live[slot.index()]),
            Copy::Staging => self.staging.iter().find(|(s, _)| *s == slot).map(|(_, slot)| *slot),
        }
    }

    #[inline]
    fn slot_mut(&mut self, copy: Copy, slot: HashSlot) -> Option<(&mut Slot, &mut Storage)> {
        let header = match copy {
            Copy::Live => &mut self.live[slot.index()],
            Copy::Staging => self.staging.iter_mut().find(|(s, _)| *s == slot).map(|(_, slot)| slot)?,
        };
        Some((header, &mut self.storage))
    }

    #[inline]
    fn count(&mut self, copy: Copy, change: Change) {
        if copy == Copy::Live {
            self.keys = self.keys.wrapping_add_signed(change.keys);
            self.expires = self.expires.wrapping_add_signed(change.expires);
        }
    }

    /// The entry of `key`, if there is one.
    #[inline]
    pub fn get(&self, place: impl Into<Place>, key: &[u8]) -> Option<Entry<'_>> {
        let Place { copy, at } = place.into();
        self.slot(copy, at.slot)?.get(&self.storage, at.hash, key)
    }

    /// Makes `key` a string, whatever it was before. Does nothing in a staging copy that was not begun.
    #[inline]
    pub fn set_string(&mut self, place: impl Into<Place>, key: &[u8], value: &[u8], expiry: Option<UnixMs>) {
        self.put(place.into(), key, Content::Str(value), expiry);
    }

    /// Gives `key` a value, whatever it was before. Does nothing in a staging copy that was not begun.
    pub fn set_value(&mut self, place: impl Into<Place>, key: &[u8], value: Box<Value>, expiry: Option<UnixMs>) {
        self.put(place.into(), key, Content::Boxed(value), expiry);
    }

    #[inline]
    fn put(&mut self, Place { copy, at }: Place, key: &[u8], content: Content<'_>, expiry: Option<UnixMs>) {
        let summed = self.before(copy, at, key);
        if matches!(&content, Content::Boxed(value) if value.has_times()) {
            self.note_times(at.slot);
        }
        if let Some((slot, storage)) = self.slot_mut(copy, at.slot) {
            let change = slot.put(storage, at.hash, key, content, expiry);
            self.count(copy, change);
        }
        if summed {
            self.after(at, key);
        }
        if self.storage.heap.is_owed() {
            self.empty_a_run();
        }
    }

    /// Moves the entries of a part of memory that has few to others that have room for them. Keys keep their values, their places in
    /// their slots and their order: nobody who walks, dumps or digests a slot notices.
    #[cold]
    pub(super) fn empty_a_run(&mut self) {
        let mut handles = Vec::new();
        let Some(run) = self.storage.heap.close_sparse(&mut handles) else { return };
        let entries: Vec<(Handle, Located)> =
            handles.into_iter().map(|handle| (handle, hash::locate(self.storage.heap.key(handle)))).collect();
        entries.iter().for_each(|(_, at)| self.prefetch_line(*at));
        for (handle, at) in entries {
            // What is in no copy waits to be freed, and stays.
            let _ = self.live[at.slot.index()].move_entry(&mut self.storage, at.hash, handle)
                || self
                    .staging
                    .iter_mut()
                    .any(|(slot, staging)| *slot == at.slot && staging.move_entry(&mut self.storage, at.hash, handle));
        }
        self.storage.heap.open_again(run);
    }

    /// A live key is about to change: digests that are being taken are told. `true`: they are to be told [`after`](Self::after), too.
    #[inline]
    fn before(&mut self, copy: Copy, at: Located, key: &[u8]) -> bool {
        copy == Copy::Live && !self.sums.is_empty() && self.before_in_sums(at, key)
    }

    #[cold]
    fn before_in_sums(&mut self, at: Located, key: &[u8]) -> bool {
        if !self.sums.iter().any(|sum| sum.concerns(at, key)) {
            return false;
        }
        if let Some(entry) = self.live[at.slot.index()].get(&self.storage, at.hash, key) {
            self.sums.iter_mut().filter(|sum| sum.concerns(at, key)).for_each(|sum| sum.before(&entry));
        }
        true
    }

    #[cold]
    fn after(&mut self, at: Located, key: &[u8]) {
        if let Some(entry) = self.live[at.slot.index()].get(&self.storage, at.hash, key) {
            self.sums.iter_mut().filter(|sum| sum.concerns(at, key)).for_each(|sum| sum.after(&entry, at.hash));
        }
    }

    /// Changes an aggregate or a long string in place. `None`, without a call, if there is no such key or it is a short
    /// string: those are written by [`set_string`](Self::set_string). An aggregate that is left empty is to be removed
    /// by the caller.
    pub fn update<R>(
        &mut self,
        place: impl Into<Place>,
        key: &[u8],
        change: impl FnOnce(&mut Value) -> R,
    ) -> Option<R> {
        let Place { copy, at } = place.into();
        let summed = self.before(copy, at, key);
        let (slot, storage) = self.slot_mut(copy, at.slot)?;
        let mut has_times = false;
        let noting = |value: &mut Value| {
            let changed = change(value);
            has_times = value.has_times();
            changed
        };
        let changed = slot.handle(storage, at.hash, key).and_then(|handle| storage.heap.update(handle, noting));
        if has_times {
            self.note_times(at.slot);
        }
        if summed {
            self.after(at, key);
        }
        changed
    }

    /// Frees a value that was taken out of another one later, by [`Keyspace::reclaim`].
    pub fn free_later(&mut self, value: Value) {
        self.storage.heap.free_later(value);
    }

    /// Keeps the published messages that are applied from now on, for [`take_messages`](Self::take_messages).
    pub fn keep_messages(&mut self) {
        self.messages.get_or_insert_default();
    }

    /// The messages that were applied since the last call.
    #[inline]
    pub fn take_messages(&mut self) -> Vec<Message> {
        self.messages.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A message was applied to the live copy.
    pub(super) fn message(&mut self, message: Message) {
        if let Some(messages) = &mut self.messages {
            messages.push(message);
        }
    }

    /// Sets or takes away the expiry of `key`. `false`: there is no such key.
    pub fn set_expiry(&mut self, place: impl Into<Place>, key: &[u8], expiry: Option<UnixMs>) -> bool {
        let Place { copy, at } = place.into();
        let summed = self.before(copy, at, key);
        let Some((slot, storage)) = self.slot_mut(copy, at.slot) else { return false };
        let Some(change) = slot.set_expiry(storage, at.hash, key, expiry) else { return false };
        self.count(copy, change);
        if summed {
            self.after(at, key);
        }
        true
    }

    /// Removes `key`. `false`: there was none. A large value is freed later, by [`Keyspace::reclaim`].
    #[inline]
    pub fn remove(&mut self, place: impl Into<Place>, key: &[u8]) -> bool {
        let Place { copy, at } = place.into();
        self.before(copy, at, key);
        let Some((slot, storage)) = self.slot_mut(copy, at.slot) else { return false };
        let Some(change) = slot.remove(storage, at.hash, key) else { return false };
        self.count(copy, change);
        true
    }

    /// Shows about `count` live keys from `cursor` on, and answers where to go on: [`ScanCursor::START`] at the end.
    /// A key that is there from the first call of a scan to the last is shown at least once.
    pub fn scan(&self, cursor: ScanCursor, count: usize, show: impl FnMut(Entry<'_>)) -> ScanCursor {
        self.scan_slots(cursor, count, |_| true, show)
    }

    /// As [`scan`](Self::scan), of the slots that have keys which expire, or may have hashes with such fields.
    pub fn scan_expiring(&self, cursor: ScanCursor, count: usize, show: impl FnMut(Entry<'_>)) -> ScanCursor {
        let wanted = |slot: HashSlot| self.live[slot.index()].expires(&self.storage) > 0 || self.timed.contains(slot);
        self.scan_slots(cursor, count, wanted, show)
    }

    fn scan_slots(
        &self,
        cursor: ScanCursor,
        count: usize,
        wanted: impl Fn(HashSlot) -> bool,
        mut show: impl FnMut(Entry<'_>),
    ) -> ScanCursor {
        let mut shown = 0;
        let mut from = cursor.0 << (64 - SCAN_HASH_BITS);
        for number in cursor.slot().index()..HASH_SLOTS {
            if !wanted(HashSlot::from_crc16(number as u16)) {
                from = 0;
                continue;
            }
            loop {
                let next = self.live[number].walk(&self.storage, from, |handle| {
                    show(self.storage.heap.entry(handle));
                    shown += 1;
                });
                from = next.unwrap_or(0);
                if shown >= count {
                    let slot = number + usize::from(next.is_none());
                    return match slot < HASH_SLOTS {
                        true => ScanCursor((slot as u64) << SCAN_HASH_BITS | from >> (64 - SCAN_HASH_BITS)),
                        false => ScanCursor::START,
                    };
                }
                if next.is_none() {
                    break;
                }
            }
        }
        ScanCursor::START
    }

    /// Some live key, chosen by the random number; `None` if there is none. Not every key is equally likely.
    pub fn random_key(&self, random: u64) -> Option<Entry<'_>> {
        if self.keys == 0 {
            return None;
        }
        self.random_in(random, |slot| slot.near(&self.storage, near(random), |_| true))
    }

    /// As [`random_key`](Self::random_key), of the keys that have an expiry.
    pub fn random_key_that_expires(&self, random: u64) -> Option<Entry<'_>> {
        if self.expires == 0 {
            return None;
        }
        self.random_in(random, |slot| {
            let has_some = slot.expires(&self.storage) > 0;
            has_some.then(|| slot.near(&self.storage, near(random), |handle| self.storage.heap.has_expiry(handle)))?
        })
    }

    /// What is found in the first slot that has it, from one on that the random number chooses.
    fn random_in(&self, random: u64, find: impl Fn(&Slot) -> Option<Handle>) -> Option<Entry<'_>> {
        let (before, after) = self.live.split_at(random as usize % HASH_SLOTS);
        let handle = after.iter().chain(before).find_map(find)?;
        Some(self.storage.heap.entry(handle))
    }

    /// Empties the live copies of `slots`; what they held is freed by [`Keyspace::reclaim`].
    pub fn clear_slots(&mut self, slots: SlotRange) {
        for slot in slots.iter() {
            self.clear(Copy::Live, slot);
        }
    }

    /// Lets nobody reach what was in a slot.
    fn bury(&mut self, mut slot: Slot) {
        let mut tables = Vec::new();
        slot.take_tables(&mut self.storage, &mut tables);
        self.dead.extend(tables.into_iter().map(|table| Dead { table, lines_left: table.lines_len() }));
    }

    /// Puts another copy in the place of a live slot.
    fn replace_live(&mut self, slot: HashSlot, by: Slot) {
        if self.is_looked_at() {
            self.touch_slot(slot, by);
        }
        let old = std::mem::replace(&mut self.live[slot.index()], by);
        let keys = by.len(&self.storage) as isize - old.len(&self.storage) as isize;
        let expires = by.expires(&self.storage) as isize - old.expires(&self.storage) as isize;
        self.count(Copy::Live, Change { keys, expires });
        if !self.sums.is_empty() {
            self.sums.iter_mut().filter(|sum| sum.slot == slot).for_each(SlotSum::replaced);
        }
        self.bury(old);
    }

    /// Forgets every digest under way: whoever began one finds it lost.
    pub fn digest_forget_all(&mut self) {
        self.sums.clear();
    }

    /// How many digests are being taken.
    pub fn digests_under_way(&self) -> usize {
        self.sums.len()
    }

    /// Whether somebody watches a key or waits for one.
    #[inline]
    pub fn is_looked_at(&self) -> bool {
        !self.watched.is_empty() || !self.awaited.is_empty()
    }

    /// Tells those who watch a live key or wait for it that it has changed.
    #[cold]
    pub fn touch(&mut self, key: &[u8]) {
        self.watched.touch(key);
        self.awaited.touch(key);
    }

    /// Tells those who watch or await a key that is in a live slot or in what replaces it.
    #[cold]
    fn touch_slot(&mut self, slot: HashSlot, by: Slot) {
        let (old, storage) = (self.live[slot.index()], &self.storage);
        let concerns = |key: &[u8]| {
            let at = hash::locate(key);
            at.slot == slot && [old, by].iter().any(|copy| copy.get(storage, at.hash, key).is_some())
        };
        self.watched.touch_where(concerns);
        self.awaited.touch_where(concerns);
    }

    /// Loads a piece that follows the first one of its value.
    fn load_more(&mut self, at: Located, head: Head<'_>, reader: &mut Reader<'_>) -> Result<(), RecordError> {
        let place = Place { copy: Copy::Staging, at };
        if head.kind == Kind::String {
            let position = reader.varint()?;
            let len = match self.get(place, head.key).map(|entry| entry.value()) {
                Some(ValueRef::Str(bytes)) => bytes.len(),
                Some(ValueRef::Boxed(_)) => return Err(reader.error("a piece of a value of another type")),
                None => 0,
            };
            if position > len as u64 {
                return Err(reader.error("a piece beyond the end of its string"));
            }
            if !command::set_range(self, place, head.key, position as usize, reader.bytes()?) {
                return Err(reader.error("a string that is too long"));
            }
        } else {
            // Frames may have taken away all that had arrived of it, and with that the key.
            let extended = self.update(place, head.key, |value| match value.kind() == head.kind {
                true => Some(value.extend(&head, reader)),
                false => None,
            });
            match extended {
                Some(Some(extended)) => extended?,
                None if self.get(place, head.key).is_none() => {
                    let value = Value::decode(&head, reader)?;
                    self.set_value(place, head.key, Box::new(value), head.expiry);
                }
                Some(None) | None => return Err(reader.error("a piece of a value of another type")),
            }
        }
        if self.get(place, head.key).is_some_and(|entry| entry.expiry() != head.expiry) {
            self.set_expiry(place, head.key, head.expiry);
        }
        Ok(())
    }

    /// Asserts what must hold between calls.
    #[cfg(test)]
    pub(super) fn invariants(&self) {
        let slots = || self.live.iter().chain(self.staging.iter().map(|(_, slot)| slot));
        slots().for_each(|slot| slot.invariants(&self.storage));
        assert_eq!(self.live.iter().map(|slot| slot.len(&self.storage)).sum::<usize>(), self.keys);
        assert_eq!(self.live.iter().map(|slot| slot.expires(&self.storage)).sum::<usize>(), self.expires);
        self.storage.heap.invariants();
        self.storage.lines.invariants();
    }
}

impl Keyspace for KeyspaceStore {
    #[inline]
    fn locate(&self, key: &[u8]) -> Located {
        hash::locate(key)
    }

    #[inline]
    fn prefetch_line(&self, at: Located) {
        self.live[at.slot.index()].prefetch_line(&self.storage, at.hash);
    }

    #[inline]
    fn prefetch_entry(&self, at: Located) {
        self.live[at.slot.index()].prefetch_entry(&self.storage, at.hash);
    }

    #[inline]
    fn apply(&mut self, copy: Copy, at: Located, effect: Argv<'_>) -> Result<(), ApplyError> {
        if copy == Copy::Live
            && self.is_looked_at()
            && let Some(key) = effect.get(1)
        {
            self.touch(key);
        }
        command::apply(self, copy, at, effect)
    }

    fn clear(&mut self, copy: Copy, slot: HashSlot) {
        match copy {
            Copy::Live => self.replace_live(slot, Slot::default()),
            Copy::Staging => {
                if let Some((_, staging)) = self.staging.iter_mut().find(|(s, _)| *s == slot) {
                    let old = std::mem::take(staging);
                    self.bury(old);
                }
            }
        }
    }

    fn slot_len(&self, copy: Copy, slot: HashSlot) -> usize {
        self.slot(copy, slot).map_or(0, |slot| slot.len(&self.storage))
    }

    fn dump(&self, slot: HashSlot, from: DumpCursor, room: usize, out: &mut Vec<u8>) -> Option<DumpCursor> {
        let (slot, storage) = (self.live[slot.index()], &self.storage);
        // Tables of a split slot split again, each at about the same time: few keys in a step make few of them split in a turn.
        let keys_left = if slot.is_split() { DUMP_STEP_KEYS_MAX } else { usize::MAX };
        Step { slot, storage, piece_bytes: self.value_piece_bytes, keys_left, out }.run(from, room)
    }

    fn digest(&self, copy: Copy, slot: HashSlot) -> Digest {
        let mut sum = Digest::default();
        let slot = self.slot(copy, slot).unwrap_or_default();
        let mut from = Some(0);
        while let Some(at) = from {
            from = slot.walk(&self.storage, at, |handle| sum += self.storage.heap.entry(handle).digest());
        }
        sum
    }

    fn digest_begin(&mut self, slot: HashSlot, of: AsOf) -> Summed {
        let id = SumId(self.sum_next);
        let mut sum = SlotSum::new(id, slot, of);
        match sum.step(self.live[slot.index()], &self.storage, self.digest_step_bytes) {
            Stepped::Done(digest) => Summed::Done(digest),
            Stepped::Lost => Summed::Lost,
            Stepped::More => {
                self.sum_next += 1;
                self.sums.push(sum);
                Summed::More(id)
            }
        }
    }

    fn digest_step(&mut self, id: SumId) -> Summed {
        let Some(n) = self.sums.iter().position(|sum| sum.id == id) else { return Summed::Lost };
        let sum = &mut self.sums[n];
        match sum.step(self.live[sum.slot.index()], &self.storage, self.digest_step_bytes) {
            Stepped::More => Summed::More(id),
            Stepped::Done(digest) => {
                self.sums.swap_remove(n);
                Summed::Done(digest)
            }
            Stepped::Lost => {
                self.sums.swap_remove(n);
                Summed::Lost
            }
        }
    }

    fn digest_forget(&mut self, id: SumId) {
        self.sums.retain(|sum| sum.id != id);
    }

    fn begin(&mut self, slot: HashSlot) {
        self.discard(slot);
        self.staging.push((slot, Slot::default()));
    }

    fn load(&mut self, slot: HashSlot, records: &[u8]) -> Result<(), LoadError> {
        let refuse = |error: RecordError| LoadError { slot, what: error.what, at: error.at };
        let mut reader = Reader::new(records);
        while reader.remaining() > 0 {
            let Some((staging, storage)) = self.slot_mut(Copy::Staging, slot) else {
                return Err(LoadError { slot, what: "records before the slot was begun", at: 0 });
            };
            let before = reader.at();
            let head = Head::decode(&mut reader).map_err(refuse)?;
            let at = hash::locate(head.key);
            if at.slot != slot {
                return Err(LoadError { slot, what: "a key that belongs to another slot", at: before });
            }
            if head.is_more {
                self.load_more(at, head, &mut reader).map_err(refuse)?;
                continue;
            }
            let content = match head.kind {
                Kind::String => Content::Str(reader.bytes().map_err(refuse)?),
                _ => Content::Boxed(Box::new(Value::decode(&head, &mut reader).map_err(refuse)?)),
            };
            if before == 0 && staging.len(storage) == 0 {
                // Records of a slot are often alike; if they are not, the table only grows or shrinks later.
                staging.reserve(storage, records.len() / reader.at());
            }
            staging.put(storage, at.hash, head.key, content, head.expiry);
            if head.has_times {
                self.note_times(slot);
            }
        }
        Ok(())
    }

    fn install(&mut self, slot: HashSlot) {
        if let Some(n) = self.staging.iter().position(|(s, _)| *s == slot) {
            let (_, staging) = self.staging.swap_remove(n);
            self.replace_live(slot, staging);
        }
    }

    fn discard(&mut self, slot: HashSlot) {
        if let Some(n) = self.staging.iter().position(|(s, _)| *s == slot) {
            let (_, staging) = self.staging.swap_remove(n);
            self.bury(staging);
        }
    }

    fn reclaim(&mut self) -> bool {
        let Storage { heap, lines, .. } = &mut self.storage;
        if heap.reclaim(RECLAIM_ENTRIES_MAX) {
            return true;
        }
        let mut freed = 0;
        while let Some(dead) = self.dead.last_mut() {
            if dead.lines_left == 0 {
                dead.table.free_lines(lines);
                self.dead.pop();
                continue;
            }
            if freed >= RECLAIM_ENTRIES_MAX {
                return true;
            }
            dead.lines_left -= 1;
            if let Some(ahead) = dead.lines_left.checked_sub(1) {
                dead.table.lines(lines)[ahead].entries().for_each(|(_, handle)| heap.prefetch(handle));
            }
            for (_, handle) in dead.table.lines(lines)[dead.lines_left].entries() {
                freed += if heap.has_box(handle) { BOX_ENTRIES } else { 1 };
                heap.free(handle);
            }
            freed += 1;
        }
        heap.reclaim(0)
    }
}
