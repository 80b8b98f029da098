//! The keyspace: hash slots full of keys.

use std::collections::BTreeMap;

use crate::id::{HASH_SLOTS, HashSlot, SlotRange, UnixMs};
use crate::snapshot::record::{Head, Reader};
use crate::snapshot::{ApplyError, Copy, Digest, DumpCursor, Keyspace, LoadError, Located};
use crate::store::{Entry, Value, ValueRef, command, digest, hash};
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

type Table = BTreeMap<(u64, Vec<u8>), (Option<UnixMs>, Box<Value>)>;

/// One shard's part of the keyspace, or all of it.
#[derive(Debug)]
pub struct KeyspaceStore {
    live: Vec<Table>,
    staging: Vec<(HashSlot, Table)>,
}

impl Default for KeyspaceStore {
    fn default() -> KeyspaceStore {
        KeyspaceStore::new()
    }
}

fn show<'a>((key, stored): (&'a (u64, Vec<u8>), &'a (Option<UnixMs>, Box<Value>))) -> Entry<'a> {
    let value = match &*stored.1 {
        Value::Str(bytes) => ValueRef::Str(bytes),
        #[allow(unreachable_patterns, reason = "the aggregates are being built")]
        other => ValueRef::Boxed(other),
    };
    Entry { key: &key.1, expiry: stored.0, value }
}

impl KeyspaceStore {
    /// An empty keyspace with all hash slots.
    pub fn new() -> KeyspaceStore {
        KeyspaceStore { live: (0..HASH_SLOTS).map(|_| Table::new()).collect(), staging: Vec::new() }
    }

    fn table(&self, copy: Copy, slot: HashSlot) -> Option<&Table> {
        match copy {
            Copy::Live => self.live.get(slot.index()),
            Copy::Staging => self.staging.iter().find(|(s, _)| *s == slot).map(|(_, t)| t),
        }
    }

    fn table_mut(&mut self, copy: Copy, slot: HashSlot) -> Option<&mut Table> {
        match copy {
            Copy::Live => self.live.get_mut(slot.index()),
            Copy::Staging => self.staging.iter_mut().find(|(s, _)| *s == slot).map(|(_, t)| t),
        }
    }

    /// Number of keys in live slots, expired ones included.
    pub fn len(&self) -> usize {
        self.live.iter().map(Table::len).sum()
    }

    /// Whether no live slot has a key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of keys in live slots that have an expiry.
    pub fn expires(&self) -> usize {
        self.live.iter().flat_map(Table::values).filter(|s| s.0.is_some()).count()
    }

    /// Bytes of memory that keys, values and tables hold.
    pub fn used_bytes(&self) -> usize {
        self.live.iter().flatten().map(|(k, v)| k.1.len() + v.1.memory()).sum()
    }

    /// The entry of `key`, if there is one.
    pub fn get(&self, place: impl Into<Place>, key: &[u8]) -> Option<Entry<'_>> {
        let Place { copy, at } = place.into();
        self.table(copy, at.slot)?.get_key_value(&(at.hash, key.to_vec())).map(show)
    }

    /// Makes `key` a string, whatever it was before. Does nothing in a staging copy that was not begun.
    pub fn set_string(&mut self, place: impl Into<Place>, key: &[u8], value: &[u8], expiry: Option<UnixMs>) {
        self.set_value(place, key, Box::new(Value::Str(value.to_vec())), expiry);
    }

    /// Gives `key` a value, whatever it was before. Does nothing in a staging copy that was not begun.
    pub fn set_value(&mut self, place: impl Into<Place>, key: &[u8], value: Box<Value>, expiry: Option<UnixMs>) {
        let Place { copy, at } = place.into();
        if let Some(table) = self.table_mut(copy, at.slot) {
            table.insert((at.hash, key.to_vec()), (expiry, value));
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
        let stored = self.table_mut(copy, at.slot)?.get_mut(&(at.hash, key.to_vec()))?;
        Some(change(&mut stored.1))
    }

    /// Sets or takes away the expiry of `key`. `false`: there is no such key.
    pub fn set_expiry(&mut self, place: impl Into<Place>, key: &[u8], expiry: Option<UnixMs>) -> bool {
        let Place { copy, at } = place.into();
        let stored = self.table_mut(copy, at.slot).and_then(|t| t.get_mut(&(at.hash, key.to_vec())));
        stored.map(|s| s.0 = expiry).is_some()
    }

    /// Removes `key`. `false`: there was none.
    pub fn remove(&mut self, place: impl Into<Place>, key: &[u8]) -> bool {
        let Place { copy, at } = place.into();
        self.table_mut(copy, at.slot).and_then(|t| t.remove(&(at.hash, key.to_vec()))).is_some()
    }

    /// Shows about `count` live keys from `cursor` on, and answers where to go on: [`ScanCursor::START`] at the end.
    /// A key that is there from the first call of a scan to the last is shown at least once.
    pub fn scan(&self, cursor: ScanCursor, count: usize, mut show_key: impl FnMut(Entry<'_>)) -> ScanCursor {
        let mut shown = 0;
        for slot in cursor.slot().index()..HASH_SLOTS {
            if shown >= count {
                return ScanCursor((slot as u64) << 48);
            }
            for entry in &self.live[slot] {
                show_key(show(entry));
                shown += 1;
            }
        }
        ScanCursor::START
    }

    /// Some live key, chosen by the random number; `None` if there is none.
    pub fn random_key(&self, random: u64) -> Option<Entry<'_>> {
        let n = (random % self.len().max(1) as u64) as usize;
        self.live.iter().flatten().nth(n).map(show)
    }

    /// Empties the live copies of `slots`.
    pub fn clear_slots(&mut self, slots: SlotRange) {
        for slot in slots.iter() {
            self.clear(Copy::Live, slot);
        }
    }
}

impl Keyspace for KeyspaceStore {
    #[inline]
    fn locate(&self, key: &[u8]) -> Located {
        hash::locate(key)
    }

    fn apply(&mut self, copy: Copy, at: Located, effect: Argv<'_>) -> Result<(), ApplyError> {
        command::apply(self, copy, at, effect)
    }

    fn clear(&mut self, copy: Copy, slot: HashSlot) {
        if let Some(table) = self.table_mut(copy, slot) {
            table.clear();
        }
    }

    fn slot_len(&self, copy: Copy, slot: HashSlot) -> usize {
        self.table(copy, slot).map_or(0, Table::len)
    }

    fn dump(&self, slot: HashSlot, from: DumpCursor, room: usize, out: &mut Vec<u8>) -> Option<DumpCursor> {
        let target = out.len() + room;
        for (key, (expiry, value)) in self.live[slot.index()].range((from.0, Vec::new())..) {
            if out.len() >= target && key.0 > from.0 {
                return Some(DumpCursor(key.0));
            }
            Head { kind: value.kind(), expiry: *expiry, key: &key.1 }.encode(out);
            value.encode(out);
        }
        None
    }

    fn digest(&self, copy: Copy, slot: HashSlot) -> Digest {
        let mut sum = Digest::default();
        for entry in self.table(copy, slot).into_iter().flatten().map(show) {
            sum += entry.digest();
        }
        sum
    }

    fn begin(&mut self, slot: HashSlot) {
        self.discard(slot);
        self.staging.push((slot, Table::new()));
    }

    fn load(&mut self, slot: HashSlot, records: &[u8]) -> Result<(), LoadError> {
        let mut reader = Reader::new(records);
        let refuse = |error: crate::snapshot::record::RecordError| LoadError { slot, what: error.what, at: error.at };
        while reader.remaining() > 0 {
            let head = Head::decode(&mut reader).map_err(refuse)?;
            let at = hash::locate(head.key);
            if at.slot != slot {
                return Err(LoadError { slot, what: "a key of another slot", at: reader.at() });
            }
            let value = Value::decode(head.kind, &mut reader).map_err(refuse)?;
            self.set_value(Place { copy: Copy::Staging, at }, head.key, Box::new(value), head.expiry);
        }
        Ok(())
    }

    fn install(&mut self, slot: HashSlot) {
        if let Some(n) = self.staging.iter().position(|(s, _)| *s == slot) {
            self.live[slot.index()] = self.staging.swap_remove(n).1;
        }
    }

    fn discard(&mut self, slot: HashSlot) {
        self.staging.retain(|(s, _)| *s != slot);
    }
}

impl Entry<'_> {
    /// What this key adds to the digest of its slot.
    pub fn digest(&self) -> Digest {
        let value = match self.value {
            ValueRef::Str(bytes) => digest::bytes(self.value.kind() as u64, bytes),
            ValueRef::Boxed(value) => value.digest(),
        };
        let expiry = self.expiry.map_or(u64::MAX, UnixMs::get);
        Digest(digest::pair(digest::pair(digest::bytes(0, self.key), value), expiry))
    }
}
