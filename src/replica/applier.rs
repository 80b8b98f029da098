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

use crate::id::{HashSlot, SlotRange};
use crate::slotset::SlotSet;
use crate::snapshot::{ApplyError, Copy, Keyspace, Located};
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
    /// The one between its begin and its end.
    loading: Option<HashSlot>,
    /// Slots to ask for, not yet fetched by [`take_asks`](Self::take_asks).
    asks: Vec<Ask>,
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
}

impl Applier {
    /// An applier of a stream's slots in `range`, none of them done.
    pub fn new(range: SlotRange) -> Applier {
        Applier {
            range,
            done: SlotSet::empty(),
            begun: false,
            loading: None,
            asks: Vec::new(),
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

    /// Applies frames in order, as one batch: located, prefetched twice, then executed.
    pub fn frames<K: Keyspace>(&mut self, keyspace: &mut K, frames: Frames<'_>) {
        let mut located = std::mem::take(&mut self.located);
        located.clear();
        for frame in frames.iter() {
            let at = key_of(frame.argv).map(|key| keyspace.locate(key));
            if let Some(at) = at {
                keyspace.prefetch_line(at);
            }
            located.push(at);
        }
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
            Item::Sync { .. } => {
                self.link_cut(keyspace);
                self.done.clear();
                self.begun = true;
            }
            Item::Slots { first, count, payload, .. } => self.slots(keyspace, first, count, payload),
            Item::SlotBegin { slot, .. } if self.range.contains(slot) => {
                self.link_cut(keyspace);
                keyspace.begin(slot);
                self.loading = Some(slot);
            }
            Item::Piece { slot, payload, .. } if self.loading == Some(slot) => {
                if let Err(error) = keyspace.load(slot, payload) {
                    tracing::warn!(%error, "a dumped slot could not be loaded; asking for it again");
                    self.reject(keyspace, slot);
                }
            }
            Item::SlotEnd { slot, digest, .. } if self.loading == Some(slot) => {
                if digest.is_none_or(|digest| keyspace.digest(Copy::Staging, slot) == digest) {
                    keyspace.install(slot);
                    self.loading = None;
                    self.done.insert(slot);
                    self.counters.installed += 1;
                } else {
                    tracing::warn!(%slot, "a dumped slot differs from its digest; asking for it again");
                    self.reject(keyspace, slot);
                }
            }
            Item::SlotDrop { slot } if self.loading == Some(slot) => self.link_cut(keyspace),
            Item::Digest { slot, digest, .. } if self.done.contains(slot) => {
                if keyspace.digest(Copy::Live, slot) != digest {
                    tracing::warn!(%slot, "a slot differs from the upstream's; repairing it");
                    self.counters.repairs += 1;
                    self.ask(slot);
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
                tracing::warn!(%first, "packed slots are malformed; asking for them again");
                for slot in (least..covered.end).filter_map(HashSlot::new) {
                    self.reject(keyspace, slot);
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
            let loaded = keyspace.load(slot, section.records).is_ok();
            if loaded && keyspace.digest(Copy::Staging, slot) == section.digest {
                keyspace.install(slot);
                self.done.insert(slot);
                self.counters.installed += 1;
            } else {
                tracing::warn!(%slot, loaded, "a dumped slot does not prove good; asking for it again");
                self.reject(keyspace, slot);
            }
        }
        self.empty(keyspace, least, covered.end);
    }

    /// These slots are empty upstream.
    fn empty<K: Keyspace>(&mut self, keyspace: &mut K, first: u16, end: u16) {
        for slot in (first..end).filter_map(HashSlot::new) {
            keyspace.clear(Copy::Live, slot);
            self.done.insert(slot);
            self.counters.installed += 1;
        }
    }

    #[inline]
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
        self.counters.repairs += 1;
        self.ask(slot);
    }

    /// What was loaded of `slot` is not good.
    fn reject<K: Keyspace>(&mut self, keyspace: &mut K, slot: HashSlot) {
        keyspace.discard(slot);
        if self.loading == Some(slot) {
            self.loading = None;
        }
        self.counters.rejected += 1;
        self.ask(slot);
    }

    fn ask(&mut self, slot: HashSlot) {
        let ask = Ask { slot, whole: self.done.contains(slot) };
        if !self.asks.contains(&ask) {
            self.asks.push(ask);
        }
    }
}
