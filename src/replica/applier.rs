//! What one owner of slots applies of one stream.
//!
//! With one local shard there is one applier and it covers the stream; with several, each owner has its own, and each is a
//! delayed copy of a replica with one shard. It decides by slot, never by key order:
//!
//! ```text
//! frame on a key of slot s      s done        s loading       neither
//! live copy                     apply         –               –
//! staging copy                  –             apply           –          (a slot under repair is done *and* loading)
//! ```

use std::collections::VecDeque;

use crate::id::{Digest, Generation, HashSlot, Offset, SlotRange};
use crate::limits;
use crate::slotset::SlotSet;
use crate::snapshot::{ApplyError, AsOf, Copy, Keyspace, Located, SumId, Summed};
use crate::wire::effect::key_of;
use crate::wire::item::sections;
use crate::wire::{Frame, Frames, Item};

/// One stream's state at one owner.
#[derive(Debug)]
pub struct Applier {
    /// The slots of the stream that this owner has.
    range: SlotRange,
    /// Those that are whole.
    done: SlotSet,
    /// Whether a sync has begun: what was here before it is being replaced.
    begun: bool,
    /// The history that is followed, once a sync of it has begun.
    generation: Option<Generation>,
    /// The one between its begin and its end.
    loading: Option<HashSlot>,
    /// Slots to ask for, not yet fetched by [`take_asks`](Self::take_asks).
    asks: Vec<Ask>,
    /// Whole slots that turned out to differ: asked for, and not yet replaced.
    repairing: SlotSet,
    /// The digest of a large slot that is being taken.
    proof: Option<Proof>,
    /// Digests that the upstream asked to be noted, the latest last.
    noted: VecDeque<Noted>,
    counters: Counters,
    /// Reused from batch to batch.
    located: Vec<Option<Located>>,
}

/// A slot that is to be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The slot.
    pub slot: HashSlot,
    /// Whether there is a whole copy of it that goes on (a repair); else it is missing.
    pub whole: bool,
}

/// The digest of a large slot that is being taken, as of the position at which it was asked for.
#[derive(Clone, Copy, Debug)]
struct Proof {
    id: SumId,
    told: Told,
}

/// What the upstream said of a slot.
#[derive(Clone, Copy, Debug)]
struct Told {
    slot: HashSlot,
    at: Offset,
    keys: usize,
    /// Its digest there; `None`: ours is to be noted.
    digest: Option<Digest>,
}

/// The digest of a slot at a position of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Noted {
    /// The slot.
    pub slot: HashSlot,
    /// The history that the position is of.
    pub generation: Generation,
    /// The position.
    pub at: Offset,
    /// Keys in it there.
    pub keys: usize,
    /// Its digest there.
    pub digest: Digest,
}

/// What an applier has met, for `INFO`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames applied to a live copy.
    pub applied: u64,
    /// Effects that could not be applied to a whole slot: each leads to a repair.
    pub failed: u64,
    /// Frames on keys of slots that this stream does not have.
    pub misplaced: u64,
    /// Slots installed.
    pub installed: u64,
    /// Slots whose dump did not prove good.
    pub rejected: u64,
    /// Slots that were whole and turned out to differ from the upstream's.
    pub repairs: u64,
    /// Those of them that have been replaced since.
    pub repaired: u64,
    /// Digests that were held against the upstream's.
    pub compared: u64,
    /// Those of them that differed.
    pub differing: u64,
    /// Digests that could not be compared: another large slot was being summed, or this one was replaced meanwhile.
    pub skipped: u64,
}

impl Applier {
    /// An applier of a stream's slots in `range`, none of them done.
    pub fn new(range: SlotRange) -> Applier {
        Applier {
            range,
            done: SlotSet::empty(),
            begun: false,
            generation: None,
            loading: None,
            asks: Vec::new(),
            repairing: SlotSet::empty(),
            proof: None,
            noted: VecDeque::new(),
            counters: Counters::default(),
            located: Vec::new(),
        }
    }

    /// The slots that it is about.
    pub fn range(&self) -> SlotRange {
        self.range
    }

    /// The slots that are whole.
    pub fn done(&self) -> &SlotSet {
        &self.done
    }

    /// Whether a sync has begun: what was here before it is being replaced.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// How many of its slots are not whole.
    pub fn missing(&self) -> usize {
        self.range.len() - self.done.count()
    }

    /// What it has met so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Slots to be asked for since the last call.
    pub fn take_asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    /// Whether the digest of a large slot is being taken: [`prove`](Self::prove) is to be called until it is not.
    pub fn is_proving(&self) -> bool {
        self.proof.is_some()
    }

    /// Takes one step of the digest of a large slot, if one is being taken.
    pub fn prove<K: Keyspace>(&mut self, keyspace: &mut K) {
        if let Some(Proof { id, told }) = self.proof.take() {
            self.summed(told, keyspace.digest_step(id));
        }
    }

    /// The digests that were noted, the latest last.
    pub fn noted(&self) -> impl Iterator<Item = Noted> + '_ {
        self.noted.iter().copied()
    }

    /// Applies frames in order, as one batch: located, prefetched twice, then executed.
    pub fn frames<K: Keyspace>(&mut self, keyspace: &mut K, frames: Frames<'_>) {
        let mut located = std::mem::take(&mut self.located);
        located.clear();
        located.extend(frames.iter().map(|frame| key_of(frame.argv).map(|key| keyspace.locate(key))));
        // In a loop of their own: the less stands between two of them, the more are under way at once.
        located.iter().flatten().for_each(|at| keyspace.prefetch_line(*at));
        self.frames_located(keyspace, frames, &located);
        self.located = located;
    }

    /// Applies frames whose keys were located by somebody else.
    ///
    /// # Panics
    /// If there are not as many places as frames.
    pub fn frames_located<K: Keyspace>(&mut self, keyspace: &mut K, frames: Frames<'_>, located: &[Option<Located>]) {
        assert_eq!(frames.len(), located.len());
        for at in located.iter().flatten() {
            keyspace.prefetch_entry(*at);
        }
        let settled = self.loading.is_none() && self.missing() == 0;
        for (frame, at) in frames.iter().zip(located) {
            match at {
                Some(at) if settled && self.range.contains(at.slot) => self.apply_live(keyspace, *at, frame),
                Some(at) => self.apply_by_slot(keyspace, *at, frame),
                None => self.apply_keyless(keyspace, frame),
            }
        }
    }

    /// Applies a dump item.
    pub fn item<K: Keyspace>(&mut self, keyspace: &mut K, item: &Item<&[u8]>) {
        match *item {
            Item::Sync { generation, .. } => {
                self.link_cut(keyspace);
                self.done.clear();
                self.repairing.clear();
                self.noted.clear();
                self.give_up_proof(keyspace);
                self.begun = true;
                self.generation = Some(generation);
            }
            Item::Slots { first, count, payload, .. } => self.slots(keyspace, first, count, payload),
            Item::SlotBegin { slot, .. } if self.range.contains(slot) => {
                self.link_cut(keyspace);
                keyspace.begin(slot);
                self.loading = Some(slot);
            }
            Item::Piece { slot, payload, .. } if self.loading == Some(slot) => {
                if let Err(error) = keyspace.load(slot, payload) {
                    self.reject(keyspace, slot, &error);
                }
            }
            Item::SlotEnd { slot, digest, .. } if self.loading == Some(slot) => {
                if digest.is_none_or(|digest| keyspace.digest(Copy::Staging, slot) == digest) {
                    keyspace.install(slot);
                    self.loading = None;
                    self.installed(slot);
                } else {
                    self.reject(keyspace, slot, &"it differs from its digest");
                }
            }
            Item::SlotDrop { slot } if self.loading == Some(slot) => self.link_cut(keyspace),
            Item::Digest { slot, at, digest } if self.done.contains(slot) => {
                let told = Told { slot, at, keys: keyspace.slot_len(Copy::Live, slot), digest };
                match keyspace.digest_begin(slot, AsOf::Begin) {
                    // One at a time: what one stream makes an owner remember is bounded. The next round has it again.
                    Summed::More(id) if self.proof.is_some() => {
                        keyspace.digest_forget(id);
                        self.counters.skipped += 1;
                    }
                    summed => self.summed(told, summed),
                }
            }
            // About a slot that another owner has, or that was rejected in the meantime.
            Item::SlotBegin { .. } | Item::Piece { .. } | Item::SlotEnd { .. } | Item::SlotDrop { .. } => {}
            Item::Digest { .. } | Item::SyncEnd { .. } | Item::GetAck | Item::Ping { .. } => {}
        }
    }

    /// The link is cut: the loading slot will be begun anew.
    pub fn link_cut<K: Keyspace>(&mut self, keyspace: &mut K) {
        if let Some(slot) = self.loading.take() {
            keyspace.discard(slot);
        }
    }

    fn slots<K: Keyspace>(&mut self, keyspace: &mut K, first: HashSlot, count: u16, payload: &[u8]) {
        let covered = SlotRange { first: first.get(), end: first.get() + count }.intersect(self.range);
        let mut least = covered.first;
        for section in sections(first, count, payload) {
            let Ok(section) = section else {
                for slot in (least..covered.end).filter_map(HashSlot::new) {
                    self.reject(keyspace, slot, &"packed slots are malformed");
                }
                return;
            };
            let slot = section.slot;
            if !covered.contains(slot) {
                continue;
            }
            self.empty(keyspace, least, slot.get());
            least = slot.get() + 1;
            keyspace.begin(slot);
            match keyspace.load(slot, section.records) {
                Err(error) => self.reject(keyspace, slot, &error),
                Ok(()) if keyspace.digest(Copy::Staging, slot) != section.digest => {
                    self.reject(keyspace, slot, &"it differs from its digest");
                }
                Ok(()) => {
                    keyspace.install(slot);
                    self.installed(slot);
                }
            }
        }
        self.empty(keyspace, least, covered.end);
    }

    /// These slots are empty upstream.
    fn empty<K: Keyspace>(&mut self, keyspace: &mut K, first: u16, end: u16) {
        for slot in (first..end).filter_map(HashSlot::new) {
            keyspace.clear(Copy::Live, slot);
            self.installed(slot);
        }
    }

    // A frame that is handed over in memory is read back before it is written there: that waits for every write of the frame before.
    #[inline(always)]
    fn apply_live<K: Keyspace>(&mut self, keyspace: &mut K, at: Located, frame: Frame<'_>) {
        self.counters.applied += 1;
        if let Err(error) = keyspace.apply(Copy::Live, at, frame.argv) {
            self.failed(at.slot, &error);
        }
    }

    fn apply_by_slot<K: Keyspace>(&mut self, keyspace: &mut K, at: Located, frame: Frame<'_>) {
        if !self.range.contains(at.slot) {
            self.counters.misplaced += 1;
            if self.counters.misplaced == 1 {
                tracing::warn!(slot = %at.slot, "a frame on a key that its stream does not own; skipped, counted, logged once");
            }
            return;
        }
        if self.done.contains(at.slot) {
            self.apply_live(keyspace, at, frame);
        }
        if self.loading == Some(at.slot) {
            // Keys of a staging copy that are not loaded yet do not fit, and need not: the dump has them after this frame.
            let _ = keyspace.apply(Copy::Staging, at, frame.argv);
        }
    }

    fn apply_keyless<K: Keyspace>(&mut self, keyspace: &mut K, frame: Frame<'_>) {
        if frame.argv.get(0).is_some_and(|verb| verb.eq_ignore_ascii_case(b"FLUSHALL")) {
            self.counters.applied += 1;
            for slot in self.done.iter() {
                keyspace.clear(Copy::Live, slot);
            }
            if let Some(slot) = self.loading {
                keyspace.clear(Copy::Staging, slot);
            }
        }
    }

    fn failed(&mut self, slot: HashSlot, error: &ApplyError) {
        self.counters.failed += 1;
        if self.counters.failed == 1 {
            tracing::error!(%slot, %error, "an effect could not be applied; its slot is repaired (counted, logged once)");
        }
        self.repair(slot);
    }

    /// A step of a digest was taken.
    fn summed(&mut self, told: Told, summed: Summed) {
        let Told { slot, at, keys, digest } = told;
        match (summed, digest) {
            (Summed::More(id), _) => self.proof = Some(Proof { id, told }),
            (Summed::Lost, _) => self.counters.skipped += 1,
            (Summed::Done(ours), None) => {
                if self.noted.len() >= limits::DIGESTS_NOTED_MAX {
                    self.noted.pop_front();
                }
                // A slot that is whole was synced in some history.
                let Some(generation) = self.generation else { return };
                self.noted.push_back(Noted { slot, generation, at, keys, digest: ours });
            }
            (Summed::Done(ours), Some(theirs)) => {
                self.counters.compared += 1;
                if ours != theirs {
                    self.counters.differing += 1;
                    tracing::warn!(%slot, %at, keys, ours = format_args!("{:016x}", ours.0), theirs = format_args!("{:016x}", theirs.0), "a slot differs from the upstream's; repairing it");
                    self.repair(slot);
                }
            }
        }
    }

    fn give_up_proof<K: Keyspace>(&mut self, keyspace: &mut K) {
        if let Some(proof) = self.proof.take() {
            keyspace.digest_forget(proof.id);
            self.counters.skipped += 1;
        }
    }

    /// A slot is whole as of now.
    fn installed(&mut self, slot: HashSlot) {
        self.done.insert(slot);
        self.counters.installed += 1;
        if self.repairing.remove(slot) {
            self.counters.repaired += 1;
            tracing::info!(%slot, "a slot is repaired");
        }
    }

    /// A whole slot is not what the upstream has: it is to be sent again, once, however often that shows until it comes.
    fn repair(&mut self, slot: HashSlot) {
        if self.repairing.insert(slot) {
            self.counters.repairs += 1;
            self.ask(slot);
        }
    }

    /// What was loaded of `slot` is not good.
    fn reject<K: Keyspace>(&mut self, keyspace: &mut K, slot: HashSlot, cause: &dyn std::fmt::Display) {
        keyspace.discard(slot);
        if self.loading == Some(slot) {
            self.loading = None;
        }
        self.counters.rejected += 1;
        if self.counters.rejected.is_power_of_two() {
            let rejected = self.counters.rejected;
            tracing::warn!(%slot, %cause, rejected, "a dumped slot is not good; it is asked for again (logged ever more seldom)");
        }
        self.ask(slot);
    }

    fn ask(&mut self, slot: HashSlot) {
        let ask = Ask { slot, whole: self.done.contains(slot) };
        if !self.asks.contains(&ask) {
            self.asks.push(ask);
        }
    }
}
