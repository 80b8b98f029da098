//! The real store, with the size of a dump's pieces chosen by the run: small data has large slots, too.

use kevy_replicate::id::{Digest, HashSlot};
use kevy_replicate::snapshot::{ApplyError, Copy, DumpCursor, Keyspace, LoadError, Located};
use kevy_replicate::store::KeyspaceStore;
use kevy_replicate::wire::Argv;

use crate::plant::Plant;

pub struct SimStore {
    pub real: KeyspaceStore,
    /// Most bytes of a dump step, unless one key is larger.
    piece_bytes: usize,
    plant: Plant,
    /// Effects applied to live slots.
    applied: u64,
}

impl SimStore {
    pub fn new(piece_bytes: usize, plant: Plant) -> SimStore {
        SimStore { real: KeyspaceStore::new(), piece_bytes, plant, applied: 0 }
    }
}

impl Keyspace for SimStore {
    fn locate(&self, key: &[u8]) -> Located {
        self.real.locate(key)
    }

    fn apply(&mut self, copy: Copy, at: Located, effect: Argv<'_>) -> Result<(), ApplyError> {
        let struck = copy == Copy::Live && {
            self.applied += 1;
            self.applied.is_multiple_of(50)
        };
        match self.plant {
            Plant::SkipFrame if struck => Ok(()),
            Plant::ApplyTwice if struck => {
                self.real.apply(copy, at, effect)?;
                self.real.apply(copy, at, effect)
            }
            _ => self.real.apply(copy, at, effect),
        }
    }

    fn clear(&mut self, copy: Copy, slot: HashSlot) {
        self.real.clear(copy, slot);
    }

    fn slot_len(&self, copy: Copy, slot: HashSlot) -> usize {
        self.real.slot_len(copy, slot)
    }

    fn dump(&self, slot: HashSlot, from: DumpCursor, room: usize, out: &mut Vec<u8>) -> Option<DumpCursor> {
        self.real.dump(slot, from, room.min(self.piece_bytes), out)
    }

    fn digest(&self, copy: Copy, slot: HashSlot) -> Digest {
        self.real.digest(copy, slot)
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
