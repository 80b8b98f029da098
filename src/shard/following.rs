//! A replica's shard: what it applies of every upstream stream, and which of its slots may be read.

use super::batch::{Batch, Body, Done};
use crate::id::{HashSlot, ShardCount, ShardId, SlotRange};
use crate::replica::{Applier, Counters, Noted};
use crate::slotset::SlotSet;
use crate::snapshot::{Keyspace, Located};
use crate::store::command::{Flags, Spec};

/// One local shard's copies of the upstream streams.
#[derive(Debug)]
pub struct Following {
    /// The local shard's slots.
    range: SlotRange,
    /// One for each upstream stream.
    streams: Vec<Stream>,
    policy: Policy,
    /// Slots that are served as they were before this upstream was followed: until its sync begins, nothing is replaced.
    kept: SlotSet,
    /// Whether some slot of this shard may not be read.
    loading: bool,
}

/// What a replica lets its clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Writes of clients are refused.
    pub read_only: bool,
    /// A slot that is being replaced is served as it was until the new one is whole.
    pub serve_stale: bool,
}

#[derive(Debug)]
struct Stream {
    applier: Applier,
    /// Whether this owner has told the gate at the head of the stream's ring that it is there.
    arrived: bool,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Offered {
    /// It is applied.
    Done(Done),
    /// It waits for the other owners, at the head of its ring. Offer it again.
    Gated(Batch),
}

/// Why a command is not executed here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It writes, and replicas are read-only.
    #[error("READONLY You can't write against a read only replica.")]
    ReadOnly,
    /// It names a key of a slot that is not whole yet, or is about all keys.
    #[error("LOADING kevy is loading the dataset in memory")]
    Loading,
}

impl Following {
    /// Nothing of anything yet, of an upstream with `upstream_shards` shards.
    pub fn new(range: SlotRange, upstream_shards: ShardCount, policy: Policy) -> Following {
        let stream =
            |shard| Stream { applier: Applier::new(range.intersect(upstream_shards.slots_of(shard))), arrived: false };
        let streams = upstream_shards.shards().map(stream).collect();
        Following { range, streams, policy, kept: SlotSet::empty(), loading: true }
    }

    /// Changes what clients may do.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.settle();
    }

    /// Serves the slots in `kept` as they are, each until the sync of its stream begins.
    pub fn keeping(mut self, kept: SlotSet) -> Following {
        self.kept = kept;
        self.settle();
        self
    }

    /// The slots that may be read.
    pub fn served(&self) -> SlotSet {
        let mut served = self.kept.clone();
        self.streams.iter().for_each(|stream| served.union_with(stream.applier.done()));
        served
    }

    /// Applies a batch, or leaves it where a gate is closed. What waits behind it on the same stream waits, too; other streams
    /// do not.
    ///
    /// # Panics
    /// If the batch is of a stream that the upstream does not have.
    pub fn offer<K: Keyspace>(&mut self, keyspace: &mut K, batch: Batch) -> Offered {
        let stream = &mut self.streams[batch.stream.index()];
        let applier = &mut stream.applier;
        let mut emptied = None;
        match batch.body {
            Body::Frames(frames) => {
                applier.frames_located(keyspace, frames.frames(), frames.located());
                emptied = Some(frames);
            }
            Body::Item(item) => {
                let payload = item.as_ref().map(Vec::as_slice);
                applier.item(keyspace, &payload);
            }
            Body::Sync { ref item, ref gate } => {
                if !stream.arrived {
                    gate.arrive();
                    stream.arrived = true;
                }
                if !gate.is_open() {
                    return Offered::Gated(batch);
                }
                stream.arrived = false;
                applier.item(keyspace, &item.as_ref().map(Vec::as_slice));
            }
            Body::Cut => applier.link_cut(keyspace),
            Body::Marker | Body::Poll => {}
        }
        let done =
            Done { missing: applier.missing(), asks: applier.take_asks(), proving: applier.is_proving(), emptied };
        self.settle();
        Offered::Done(done)
    }

    /// Whether the digest of a large slot is being taken.
    pub fn is_proving(&self) -> bool {
        self.streams.iter().any(|stream| stream.applier.is_proving())
    }

    /// Takes one step of each digest of a large slot that is being taken.
    pub fn prove<K: Keyspace>(&mut self, keyspace: &mut K) {
        self.streams.iter_mut().for_each(|stream| stream.applier.prove(keyspace));
    }

    /// The digest that was noted last of each of `slots`, where one was, in the order of the slots.
    pub fn noted_in(&self, slots: SlotRange) -> Vec<Noted> {
        let mut latest = vec![None; slots.len()];
        for noted in self.streams.iter().flat_map(|stream| stream.applier.noted()) {
            if slots.contains(noted.slot) {
                latest[noted.slot.index() - usize::from(slots.first)] = Some(noted);
            }
        }
        latest.into_iter().flatten().collect()
    }

    /// One stream's applier, for whoever pulls a stream that nobody else has a part of.
    pub fn applier(&mut self, stream: ShardId) -> &mut Applier {
        &mut self.streams[stream.index()].applier
    }

    /// The slots of one stream that are whole here.
    pub fn done(&self, stream: ShardId) -> &SlotSet {
        self.streams[stream.index()].applier.done()
    }

    /// How many slots of one stream are not whole here.
    pub fn missing(&self, stream: ShardId) -> usize {
        self.streams[stream.index()].applier.missing()
    }

    /// To be called after [`applier`](Self::applier) was used: which slots may be read may have changed.
    pub fn settle(&mut self) {
        if !self.kept.is_empty() {
            for stream in self.streams.iter().filter(|stream| stream.applier.has_begun()) {
                self.kept.remove_range(stream.applier.range());
            }
        }
        self.loading = self.streams.iter().any(|Stream { applier, .. }| {
            applier.missing() > 0 && (applier.has_begun() || !self.kept.contains_range(applier.range()))
        });
    }

    /// Whether some slot of this shard may not be read.
    pub fn is_loading(&self) -> bool {
        self.loading
    }

    /// Whether there are keys here that may not be read: then what is about all keys is not answered.
    pub fn hides_keys(&self) -> bool {
        self.loading && !self.policy.serve_stale
    }

    /// Whether keys of `slot` may be read.
    pub fn serves(&self, slot: HashSlot) -> bool {
        !self.loading
            || self.policy.serve_stale
            || self.kept.contains(slot)
            || self.streams.iter().any(|s| s.applier.done().contains(slot))
    }

    /// Why a command on keys at `at` is not executed, if it is not.
    #[inline]
    pub fn refusal(&self, spec: &Spec, at: &[Located]) -> Option<Refused> {
        if self.policy.read_only && spec.writes() {
            return Some(Refused::ReadOnly);
        }
        let all_keys = spec.flags.has(Flags::ALL_KEYS) && self.hides_keys();
        if self.loading && (all_keys || !at.iter().all(|at| self.serves(at.slot))) {
            return Some(Refused::Loading);
        }
        None
    }

    /// What clients may do.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The local shard's slots.
    pub fn range(&self) -> SlotRange {
        self.range
    }

    /// What one stream has met here.
    pub fn counters(&self, stream: ShardId) -> Counters {
        self.streams[stream.index()].applier.counters()
    }

    /// How many upstream streams there are.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, Offset};
    use crate::store::KeyspaceStore;
    use crate::wire::Item;

    #[test]
    fn what_was_here_is_served_until_the_sync_of_its_stream_begins() {
        let upstream = ShardCount::new(2).unwrap();
        let policy = Policy { read_only: true, serve_stale: false };
        let streams: Vec<_> = upstream.shards().collect();
        let slots: Vec<_> =
            streams.iter().map(|stream| HashSlot::new(upstream.slots_of(*stream).first).unwrap()).collect();

        let nothing = Following::new(SlotRange::ALL, upstream, policy);
        assert!(nothing.is_loading() && !nothing.serves(slots[0]));
        assert!(nothing.served().is_empty());

        let mut following = Following::new(SlotRange::ALL, upstream, policy).keeping(SlotSet::full(SlotRange::ALL));
        assert!(!following.is_loading());
        let sync = Item::Sync { generation: Generation::new(7).unwrap(), at: Offset::ZERO, last_tx: 0 };
        following.applier(streams[0]).item(&mut KeyspaceStore::new(), &sync);
        following.settle();
        assert!(following.is_loading());
        assert_eq!(slots.iter().map(|slot| following.serves(*slot)).collect::<Vec<_>>(), [false, true]);
        assert_eq!(following.served(), SlotSet::full(upstream.slots_of(streams[1])));
    }
}
