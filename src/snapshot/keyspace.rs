//! What the engine needs of a store. `kevy`'s own store is one implementation; a host may bring another.
//!
//! A hash slot exists in up to two copies: the **live** one, which clients read, and a **staging** one, which is
//! being loaded from a dump and replaces the live one when it is whole. `apply` reaches no [`Source`], so what is
//! applied can never be recorded again.
//!
//! ```text
//!            begin          load* / apply(Staging)*         install
//! (nothing) ───────▶ staging ───────────────────────▶ staging ──────▶ live (the old live copy is freed in slices)
//!                       └──────────── discard ──────────▶ (nothing)
//! ```
//!
//! [`Source`]: crate::source::Source

use std::any::Any;

use crate::id::{Digest, HashSlot, SlotRange};
use crate::wire::Argv;

/// Where a key lives: computed once, by [`Keyspace::locate`], and handed on with the command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located {
    /// CRC16 of the key or its `{tag}`: placement.
    pub slot: HashSlot,
    /// A keyed 64-bit hash of the whole key: the place in the slot's table. Seeded per process.
    pub hash: u64,
}

/// Which copy of a slot is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copy {
    /// What clients read.
    Live,
    /// What is being loaded.
    Staging,
}

/// How far the dump of a slot has come; only the store that made it can read it. Stays good while the slot is written to: a key
/// that is in the slot from the first step to the last is dumped at least once, and of a value that goes in pieces so is each
/// member.
#[derive(Debug, Default)]
pub struct DumpCursor {
    /// Where in the slot.
    pub at: u64,
    /// Where inside a value that goes in pieces, in a form of the store's own.
    pub inside: Option<Box<dyn Any + Send>>,
    /// The next step shows the same moment as the last one, whatever is written in between: the rest of a value that has no
    /// places for pieces as of now. No frame may come between the two.
    pub frozen: bool,
}

impl DumpCursor {
    /// Before the first key.
    pub const START: DumpCursor = DumpCursor::at(0);

    /// Between two keys.
    pub const fn at(at: u64) -> DumpCursor {
        DumpCursor { at, inside: None, frozen: false }
    }
}

/// The moment that a digest which is taken in steps is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AsOf {
    /// Its first step.
    Begin,
    /// Its last step.
    End,
}

/// A digest that is being taken in steps; the numbers of one store are all different.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SumId(pub u64);

/// How far a digest in steps has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Summed {
    /// It needs more steps.
    More(SumId),
    /// This is it.
    Done(Digest),
    /// What it was to be of is gone: the slot was emptied or replaced.
    Lost,
}

/// Why an effect could not be applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ApplyError {
    /// The store knows no such effect, or not with these arguments.
    #[error("effect `{0}` is not known here, or not in this form")]
    Unknown(String),
    /// The key holds a value that the effect does not fit.
    #[error("effect `{0}` does not fit the value of its key")]
    Misfit(&'static str),
}

/// Why dumped records could not be loaded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("dump of slot {slot}: {what} at byte {at}")]
pub struct LoadError {
    /// The slot that was being loaded.
    pub slot: HashSlot,
    /// What is wrong.
    pub what: &'static str,
    /// Where in the payload.
    pub at: usize,
}

/// A store of keys in hash slots, as replication sees it.
pub trait Keyspace {
    /// The place of `key`.
    fn locate(&self, key: &[u8]) -> Located;

    /// First stage of prefetching: touches the slot's header and the table line of `at`.
    fn prefetch_line(&self, _at: Located) {}

    /// Second stage, some operations later: touches the entry that the line names.
    fn prefetch_entry(&self, _at: Located) {}

    /// Applies one key-local effect to one copy of the slot of its key. Reads no clock and no other key.
    ///
    /// # Errors
    /// If the store does not know the effect or the key's value does not fit it; nothing has changed then.
    fn apply(&mut self, copy: Copy, at: Located, effect: Argv<'_>) -> Result<(), ApplyError>;

    /// Empties one copy of a slot; what it held is freed by [`reclaim`](Self::reclaim).
    fn clear(&mut self, copy: Copy, slot: HashSlot);

    /// Number of keys in one copy of a slot, expired ones included.
    fn slot_len(&self, copy: Copy, slot: HashSlot) -> usize;

    /// Whether the live copies of these slots hold any key.
    fn holds_any_of(&self, slots: SlotRange) -> bool {
        slots.iter().any(|slot| self.slot_len(Copy::Live, slot) > 0)
    }

    /// Appends records of keys of the live slot to `out`, from `from` on, until `out` has grown by about `room` bytes: whole keys as
    /// of now, and large values in pieces. A piece of a string names its place; a piece of a hash, set or sorted set has some of
    /// its members as of now; the pieces of a list are of one moment, and the cursor is [frozen](DumpCursor::frozen) between them.
    /// A single member is written whole. `None`: the slot is at its end.
    fn dump(&self, slot: HashSlot, from: DumpCursor, room: usize, out: &mut Vec<u8>) -> Option<DumpCursor>;

    /// The digest of one copy of a slot, all at once.
    fn digest(&self, copy: Copy, slot: HashSlot) -> Digest;

    /// Begins the digest of a live slot in steps of bounded length, and takes the first one. Writes may come in between.
    /// A store that has no steps takes it all at once.
    fn digest_begin(&mut self, slot: HashSlot, _of: AsOf) -> Summed {
        Summed::Done(self.digest(Copy::Live, slot))
    }

    /// Takes the next step of a digest that needs more.
    fn digest_step(&mut self, _id: SumId) -> Summed {
        Summed::Lost
    }

    /// Forgets a digest that needs more.
    fn digest_forget(&mut self, _id: SumId) {}

    /// Begins an empty staging copy of `slot`; one that was there is discarded.
    fn begin(&mut self, slot: HashSlot);

    /// Loads dumped records into the staging copy. A key that is there already is replaced, or completed by a piece that follows.
    ///
    /// # Errors
    /// If the records are malformed; the staging copy is to be discarded then.
    fn load(&mut self, slot: HashSlot, records: &[u8]) -> Result<(), LoadError>;

    /// The staging copy becomes the live one.
    fn install(&mut self, slot: HashSlot);

    /// Drops the staging copy, if there is one.
    fn discard(&mut self, slot: HashSlot);

    /// Frees a bounded part of what was replaced or dropped. `true`: there is more to free.
    fn reclaim(&mut self) -> bool {
        false
    }
}
