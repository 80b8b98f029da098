//! What a stream recorded, and what each slot holds at any point of it: the truth that everything is held against.
//!
//! It applies the recorded frames, and nothing else, to a store of its own.

use std::collections::HashMap;

use kevy_replicate::id::{HashSlot, Offset};
use kevy_replicate::snapshot::{Copy, Digest, Keyspace};
use kevy_replicate::store::KeyspaceStore;
use kevy_replicate::wire::{Argv, effect};

use crate::matrix::Kind;

/// The history of one stream in one generation, from its beginning.
pub struct History {
    store: KeyspaceStore,
    head: Offset,
    /// Of each slot that ever held a key: the digest from each offset on.
    digests: HashMap<HashSlot, Vec<(Offset, Digest)>>,
    /// The offsets that lie inside a group.
    inside_groups: Vec<(Offset, Offset)>,
    /// Commands on several keys, by the first frame of each.
    commands: HashMap<Offset, Crossing>,
}

/// A command that concerns two slots, or all.
#[derive(Clone, Copy, Debug)]
pub struct Crossing {
    pub kind: Kind,
    /// Source and target; `None` for all slots.
    pub slots: Option<(HashSlot, HashSlot)>,
}

impl History {
    pub fn new() -> History {
        History {
            store: KeyspaceStore::new(),
            head: Offset::ZERO,
            digests: HashMap::new(),
            inside_groups: Vec::new(),
            commands: HashMap::new(),
        }
    }

    pub fn head(&self) -> Offset {
        self.head
    }

    /// Adds one recorded frame.
    pub fn push(&mut self, argv: Argv<'_>) {
        self.head = self.head.next();
        match effect::key_of(argv) {
            Some(key) => {
                let at = self.store.locate(key);
                self.store.apply(Copy::Live, at, argv).unwrap_or_else(|error| panic!("recorded {argv:?}: {error}"));
                self.note(at.slot);
            }
            None if argv.arg(0).eq_ignore_ascii_case(b"FLUSHALL") => {
                for slot in self.digests.keys().copied().collect::<Vec<_>>() {
                    self.store.clear(Copy::Live, slot);
                    self.note(slot);
                }
            }
            None => {}
        }
    }

    /// The `frames` latest frames were recorded as a group.
    pub fn close_group(&mut self, frames: u64) {
        let begin = Offset::new(self.head.get() - frames);
        self.inside_groups.push((begin, self.head));
    }

    /// What is recorded from `begin` on comes of a command on several keys.
    pub fn note_command(&mut self, begin: Offset, crossing: Crossing) {
        self.commands.insert(begin, crossing);
    }

    /// The command on several keys whose frames begin at `begin`. A transaction is one only if its group changes both slots.
    pub fn command(&self, begin: Offset) -> Option<Crossing> {
        let crossing = *self.commands.get(&begin)?;
        if let (Kind::Exec, Some((source, target))) = (crossing.kind, crossing.slots) {
            let end = self.group_around(begin.next())?;
            let changes = [source, target].iter().all(|slot| self.concerns(*slot, begin, end));
            return changes.then_some(crossing);
        }
        Some(crossing)
    }

    fn note(&mut self, slot: HashSlot) {
        let digest = self.store.digest(Copy::Live, slot);
        self.digests.entry(slot).or_default().push((self.head, digest));
    }

    /// The digest of `slot` with the frames below `next` applied.
    pub fn digest(&self, slot: HashSlot, next: Offset) -> Digest {
        let Some(digests) = self.digests.get(&slot) else { return Digest::default() };
        match digests.partition_point(|(from, _)| *from <= next) {
            0 => Digest::default(),
            after => digests[after - 1].1,
        }
    }

    /// Where the group ends that `next` lies inside of.
    pub fn group_around(&self, next: Offset) -> Option<Offset> {
        let after = self.inside_groups.partition_point(|(begin, _)| *begin < next);
        let (_, end) = *self.inside_groups[..after].last()?;
        (next < end).then_some(end)
    }

    /// Whether a frame from `from` on and below `until` concerns `slot`.
    pub fn concerns(&self, slot: HashSlot, from: Offset, until: Offset) -> bool {
        let Some(digests) = self.digests.get(&slot) else { return false };
        // Noted is the offset behind the frame.
        let first = digests.partition_point(|(behind, _)| *behind <= from);
        digests.get(first).is_some_and(|(behind, _)| *behind <= until)
    }
}
