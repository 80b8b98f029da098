//! The real store, seen as a run wants it: dumped in pieces of its size, or with a bug that is planted.

use kevy_replicate::id::{Digest, HashSlot};
use kevy_replicate::snapshot::{ApplyError, AsOf, Copy, DumpCursor, Keyspace, LoadError, Located, SumId, Summed};
use kevy_replicate::store::KeyspaceStore;
use kevy_replicate::wire::Argv;

use crate::plant::Plant;

/// A primary's store while it is dumped: small data has large slots, too.
pub struct Dumped<'a> {
    pub real: &'a KeyspaceStore,
    /// Most bytes of a dump step, unless one key is larger.
    pub piece_bytes: usize,
    pub plant: Plant,
}

/// A replica's store while something is applied to it.
pub struct Applied<'a> {
    pub real: &'a mut KeyspaceStore,
    pub plant: Plant,
    /// Effects that were applied to live slots.
    pub effects: &'a mut u64,
}

impl Keyspace for Dumped<'_> {
    fn locate(&self, key: &[u8]) -> Located {
        self.real.locate(key)
    }

    fn slot_len(&self, copy: Copy, slot: HashSlot) -> usize {
        self.real.slot_len(copy, slot)
    }

    fn dump(&self, slot: HashSlot, from: DumpCursor, room: usize, out: &mut Vec<u8>) -> Option<DumpCursor> {
        let next = self.real.dump(slot, from, room.min(self.piece_bytes), out)?;
        Some(DumpCursor { frozen: next.frozen && self.plant != Plant::ListAsOfNow, ..next })
    }

    fn digest(&self, copy: Copy, slot: HashSlot) -> Digest {
        self.real.digest(copy, slot)
    }

    fn apply(&mut self, _: Copy, _: Located, _: Argv<'_>) -> Result<(), ApplyError> {
        unreachable!("a dump changes nothing")
    }

    fn clear(&mut self, _: Copy, _: HashSlot) {
        unreachable!("a dump changes nothing")
    }

    fn begin(&mut self, _: HashSlot) {
        unreachable!("a dump changes nothing")
    }

    fn load(&mut self, _: HashSlot, _: &[u8]) -> Result<(), LoadError> {
        unreachable!("a dump changes nothing")
    }

    fn install(&mut self, _: HashSlot) {
        unreachable!("a dump changes nothing")
    }

    fn discard(&mut self, _: HashSlot) {
        unreachable!("a dump changes nothing")
    }
}

impl Keyspace for Applied<'_> {
    fn apply(&mut self, copy: Copy, at: Located, effect: Argv<'_>) -> Result<(), ApplyError> {
        let struck = copy == Copy::Live && {
            *self.effects += 1;
            self.effects.is_multiple_of(50)
        };
        match self.plant {
            Plant::SkipFrame if struck => Ok(()),
            Plant::ApplyTwice if struck => {
                self.real.apply(copy, at, effect)?;
                self.real.apply(copy, at, effect)
            }
            Plant::SkipStaging if copy == Copy::Staging => Ok(()),
            _ => self.real.apply(copy, at, effect),
        }
    }

    fn locate(&self, key: &[u8]) -> Located {
        self.real.locate(key)
    }

    fn clear(&mut self, copy: Copy, slot: HashSlot) {
        if self.plant != Plant::KeepStaging || copy == Copy::Live {
            self.real.clear(copy, slot);
        }
    }

    fn slot_len(&self, copy: Copy, slot: HashSlot) -> usize {
        self.real.slot_len(copy, slot)
    }

    fn dump(&self, slot: HashSlot, from: DumpCursor, room: usize, out: &mut Vec<u8>) -> Option<DumpCursor> {
        self.real.dump(slot, from, room, out)
    }

    fn digest(&self, copy: Copy, slot: HashSlot) -> Digest {
        self.real.digest(copy, slot)
    }

    fn digest_begin(&mut self, slot: HashSlot, of: AsOf) -> Summed {
        self.real.digest_begin(slot, if self.plant == Plant::DigestOfEnd { AsOf::End } else { of })
    }

    fn digest_step(&mut self, id: SumId) -> Summed {
        self.real.digest_step(id)
    }

    fn digest_forget(&mut self, id: SumId) {
        self.real.digest_forget(id);
    }

    fn begin(&mut self, slot: HashSlot) {
        self.real.begin(slot);
    }

    fn load(&mut self, slot: HashSlot, records: &[u8]) -> Result<(), LoadError> {
        self.real.load(slot, records)
    }

    fn install(&mut self, slot: HashSlot) {
        self.real.install(slot);
    }

    fn discard(&mut self, slot: HashSlot) {
        self.real.discard(slot);
    }

    fn reclaim(&mut self) -> bool {
        self.real.reclaim()
    }
}
