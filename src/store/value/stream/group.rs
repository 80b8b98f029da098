//! A consumer group of a stream: how far it has come, its consumers, and the entries that were delivered and not acknowledged.
//!
//! ```text
//! Group   pending    by id          consumer, when it was delivered, how often
//!         consumers  by name        when it was seen; the ids that are pending with it
//! ```
//!
//! When a consumer was seen is for people: it is no part of the digest, since a look that finds nothing changes it and is not
//! recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;
use std::sync::Arc;

use super::StreamId;
use crate::id::UnixMs;
use crate::store::digest;

/// A consumer group.
#[derive(Debug, Default)]
pub struct Group {
    last_id: StreamId,
    entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    consumers: BTreeMap<Arc<[u8]>, Consumer>,
    /// Bytes of the names of all consumers.
    names: usize,
    /// The sum of the digests of consumers and pending entries, kept current.
    sum: u64,
}

/// An entry that was delivered and not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    consumer: Arc<[u8]>,
    /// When it was delivered last.
    pub delivered: UnixMs,
    /// How often it was delivered.
    pub count: u64,
}

/// A member of a group.
#[derive(Debug)]
pub struct Consumer {
    /// When it asked for something.
    pub seen: UnixMs,
    /// When it got something; `None`: never.
    pub active: Option<UnixMs>,
    pending: BTreeSet<StreamId>,
}

/// Bytes that a pending entry takes, in both trees, about.
const PENDING_BYTES: usize = 96;

/// Bytes that a consumer takes beside its name, about.
const CONSUMER_BYTES: usize = 128;

/// Bytes of a pending entry in a record beside its consumer's name, about.
const PENDING_RECORD_BYTES: usize = 20;

/// Seeds the digests of names.
const OF_GROUP: u64 = 7;
const OF_CONSUMER: u64 = 8;
const OF_PENDING: u64 = 9;

impl Pending {
    /// The consumer that it was delivered to.
    pub fn consumer(&self) -> &[u8] {
        &self.consumer
    }

    fn digest(&self, id: StreamId) -> u64 {
        let when = digest::pair(self.delivered.get(), self.count);
        let id = digest::pair(id.ms, id.seq);
        digest::pair(digest::pair(digest::bytes(OF_PENDING, &self.consumer), id), when)
    }
}

impl Consumer {
    fn new(seen: UnixMs) -> Consumer {
        Consumer { seen, active: None, pending: BTreeSet::new() }
    }

    /// Entries that are pending with it.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing is pending with it.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The ids of those in a range.
    pub fn pending(&self, range: impl RangeBounds<StreamId>) -> impl Iterator<Item = StreamId> {
        self.pending.range(range).copied()
    }
}

impl Group {
    /// The last id that was delivered.
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// How many entries of the stream the group has passed, if that is known.
    pub fn entries_read(&self) -> Option<u64> {
        self.entries_read
    }

    /// Says how far the group has come.
    pub fn set(&mut self, last_id: StreamId, entries_read: Option<u64>) {
        (self.last_id, self.entries_read) = (last_id, entries_read);
    }

    /// Entries that are pending with any consumer.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// What is pending of an entry.
    pub fn get(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// What is pending in a range, by id.
    pub fn pending(
        &self,
        range: impl RangeBounds<StreamId>,
    ) -> impl DoubleEndedIterator<Item = (StreamId, &Pending)> + Clone {
        self.pending.range(range).map(|(id, pending)| (*id, pending))
    }

    /// A consumer.
    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.consumers.get(name)
    }

    /// All consumers, by name.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = (&[u8], &Consumer)> {
        self.consumers.iter().map(|(name, consumer)| (&**name, consumer))
    }

    /// The consumers whose names are not before `from`.
    pub(super) fn consumers_from<'g>(
        &'g self,
        from: &[u8],
    ) -> impl Iterator<Item = (&'g [u8], &'g Consumer)> + use<'g> {
        let range = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        self.consumers.range::<[u8], _>(range).map(|(name, consumer)| (&**name, consumer))
    }

    /// Notes that a consumer asked for something, and makes it if need be. `true`: it is new.
    pub fn see(&mut self, name: &[u8], now: UnixMs) -> bool {
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.seen = consumer.seen.max(now);
            return false;
        }
        self.names += name.len();
        self.sum = self.sum.wrapping_add(digest::bytes(OF_CONSUMER, name));
        self.consumers.insert(name.into(), Consumer::new(now));
        true
    }

    /// Says when a consumer was seen last.
    pub fn set_seen(&mut self, name: &[u8], seen: UnixMs) {
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.seen = seen;
        }
    }

    /// Notes that a consumer got something.
    pub fn note_active(&mut self, name: &[u8], now: UnixMs) {
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.seen = consumer.seen.max(now);
            consumer.active = consumer.active.max(Some(now));
        }
    }

    /// Takes a consumer away with what is pending with it, and returns how much that was.
    pub fn drop_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let consumer = self.consumers.remove(name)?;
        self.names -= name.len();
        self.sum = self.sum.wrapping_sub(digest::bytes(OF_CONSUMER, name));
        for id in &consumer.pending {
            if let Some(pending) = self.pending.remove(id) {
                self.sum = self.sum.wrapping_sub(pending.digest(*id));
            }
        }
        Some(consumer.pending.len())
    }

    /// An entry is pending with a consumer, which is made if need be, and with no other.
    pub fn pend(&mut self, id: StreamId, name: &[u8], delivered: UnixMs, count: u64) {
        self.ack(id);
        self.see(name, delivered);
        let Some((consumer, _)) = self.consumers.get_key_value(name) else { return };
        let pending = Pending { consumer: Arc::clone(consumer), delivered, count };
        self.sum = self.sum.wrapping_add(pending.digest(id));
        self.pending.insert(id, pending);
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.pending.insert(id);
        }
    }

    /// An entry is pending no longer. `false`: it was not.
    pub fn ack(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        self.sum = self.sum.wrapping_sub(pending.digest(id));
        if let Some(consumer) = self.consumers.get_mut(&pending.consumer) {
            consumer.pending.remove(&id);
        }
        true
    }

    /// What the group adds to a digest.
    pub(super) fn digest(&self, name: &[u8]) -> u64 {
        let place = digest::pair(self.last_id.ms, self.last_id.seq);
        // Unknown is told apart from every number of entries that there can be.
        let place = digest::pair(place, self.entries_read.unwrap_or(u64::MAX));
        digest::pair(digest::pair(digest::bytes(OF_GROUP, name), place), self.sum)
    }

    /// Bytes of memory, its name included, about.
    pub(super) fn memory(&self, name: &[u8]) -> usize {
        size_of::<Group>()
            + name.len()
            + self.pending.len() * PENDING_BYTES
            + self.consumers.len() * CONSUMER_BYTES
            + self.names
    }

    /// Bytes of its record, about.
    pub(super) fn record_bytes(&self, name: &[u8]) -> usize {
        let mean_name = self.names / self.consumers.len().max(1);
        name.len() + CONSUMER_BYTES / 4 + self.names + self.pending.len() * (PENDING_RECORD_BYTES + mean_name)
    }

    /// Frees up to `members` pending entries; only dropping the whole may follow. `true`: what is left is cheap to drop.
    pub(super) fn release(&mut self, members: usize) -> bool {
        for _ in 0..members {
            if self.pending.pop_first().is_some() {
                continue;
            }
            let Some(mut consumer) = self.consumers.first_entry() else { return true };
            if consumer.get_mut().pending.pop_first().is_none() {
                consumer.remove();
            }
        }
        self.consumers.is_empty() && self.pending.is_empty()
    }

    #[cfg(test)]
    pub(super) fn invariants(&self) {
        let of_pending = self.pending.iter().map(|(id, pending)| pending.digest(*id));
        let of_consumers = self.consumers.keys().map(|name| digest::bytes(OF_CONSUMER, name));
        assert_eq!(of_pending.chain(of_consumers).fold(0, u64::wrapping_add), self.sum);
        assert_eq!(self.consumers.keys().map(|name| name.len()).sum::<usize>(), self.names);
        assert_eq!(self.consumers.values().map(Consumer::len).sum::<usize>(), self.pending.len());
        for (id, pending) in &self.pending {
            assert!(self.consumers[&pending.consumer].pending.contains(id));
        }
    }
}
