//! A stream: entries by rising ids, and the consumer groups that read them. Entries lie in nodes of bounded size, which are found
//! by id, so that adding, finding and removing an entry costs O(log n) however many there are.
//!
//! ```text
//! Stream   nodes    by the id that they begin at      each ≤ 100 entries, ≤ 4 KiB       node
//!          groups   by name                           consumers, pending entries        group
//! ```
//!
//! Entries, consumers and pending entries have places that stay, their ids and names. So a dump of a large stream goes in pieces
//! that each show their part as it is then (`piece`), and effects may come between them.

mod group;
mod id;
mod node;
mod piece;

use std::collections::BTreeMap;

pub use group::{Consumer, Group, Pending};
pub use id::{StreamId, number};
pub use node::{Entry, Words};
pub use piece::Place;

use crate::store::digest;
use node::Node;

/// Entries by rising ids, and who reads them. It may be empty: its counters are a value, too.
#[derive(Debug, Default)]
pub struct Stream {
    /// By an id that is not above any in it, and above all in the node before. None is empty.
    nodes: BTreeMap<StreamId, Node>,
    len: usize,
    /// Bytes of the entries of all nodes.
    bytes: usize,
    /// Bytes of memory of all nodes.
    memory: usize,
    /// The sum of the digests of all entries, kept current.
    sum: u64,
    counters: Counters,
    groups: BTreeMap<Box<[u8]>, Group>,
    of_groups: Totals,
}

/// What a stream knows of its past.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// The greatest id there ever was; the next entry's is above it.
    pub last_id: StreamId,
    /// The greatest id that was deleted by name.
    pub max_deleted_id: StreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
}

/// What all groups have together, kept current.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Totals {
    sum: u64,
    memory: usize,
    record_bytes: usize,
}

/// Which entries a stream is to keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// So many of the newest.
    Newest(usize),
    /// Those with an id not below this.
    From(StreamId),
}

/// How exactly a stream is trimmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exactness {
    /// All that is to go goes.
    Exact,
    /// Only whole nodes go, of at most so many entries.
    WholeNodes(usize),
}

/// What trimming did.
#[derive(Debug, Default)]
pub struct Trimmed {
    /// Entries that are gone.
    pub entries: usize,
    /// What is still to be freed, where that is much: it looks like a stream.
    pub rest: Option<Stream>,
}

/// Nodes that are freed where they are trimmed.
const FREED_AT_ONCE: usize = 32;

/// What a node counts for, in members, when a stream is released.
const NODE_MEMBERS: usize = 8;

/// Pending entries of a group that is freed where it is dropped.
const GROUP_FREED_AT_ONCE: usize = 256;

impl Stream {
    /// A stream without entries.
    pub fn new() -> Stream {
        Stream::default()
    }

    // ── entries ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many nodes the entries take.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// What it knows of its past.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Says what its past was.
    pub fn set_counters(&mut self, counters: Counters) {
        self.counters = counters;
    }

    /// Adds an entry, and counts it.
    pub fn add(&mut self, id: StreamId, words: &Words) {
        self.insert(id, words.as_bytes());
        self.counters.last_id = self.counters.last_id.max(id);
        self.counters.entries_added = self.counters.entries_added.saturating_add(1);
    }

    /// Removes an entry by name. `false`: there was none. That it is gone is noted either way: a copy may not have had it yet.
    pub fn delete(&mut self, id: StreamId) -> bool {
        self.counters.max_deleted_id = self.counters.max_deleted_id.max(id);
        self.remove(id)
    }

    /// The entry with this id.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.nodes.range(..=id).next_back()?.1.get(id)
    }

    /// The first entry.
    pub fn first(&self) -> Option<Entry<'_>> {
        self.nodes.first_key_value()?.1.iter().next()
    }

    /// The last entry.
    pub fn last(&self) -> Option<Entry<'_>> {
        self.nodes.last_key_value()?.1.iter().last()
    }

    /// The entries from `first` to `last`, both included, by rising ids.
    pub fn range(&self, first: StreamId, last: StreamId) -> impl Iterator<Item = Entry<'_>> {
        let from = self.nodes.range(..=first).next_back().map_or(first, |(key, _)| *key);
        let entries = self.nodes.range(from..).flat_map(|(_, node)| node.iter());
        entries.skip_while(move |entry| entry.id() < first).take_while(move |entry| entry.id() <= last)
    }

    /// The same from the last one back.
    pub fn range_down(&self, first: StreamId, last: StreamId) -> impl Iterator<Item = Entry<'_>> {
        // A node is read from the front.
        let entries =
            self.nodes.range(..=last).rev().flat_map(|(_, node)| node.iter().collect::<Vec<_>>().into_iter().rev());
        entries.skip_while(move |entry| entry.id() > last).take_while(move |entry| entry.id() >= first)
    }

    /// Takes away what is not to be kept.
    pub fn trim(&mut self, keep: Keep, exactness: Exactness) -> Trimmed {
        let mut gone: Vec<(StreamId, Node)> = Vec::new();
        let mut entries = 0;
        while let Some((key, node)) = self.nodes.first_key_value() {
            let over = match keep {
                Keep::Newest(count) => self.len.saturating_sub(count).min(node.len()),
                Keep::From(id) if node.last() < id => node.len(),
                Keep::From(id) => node.iter().take_while(|entry| entry.id() < id).count(),
            };
            let is_whole = over == node.len();
            let (key, may_go) = (
                *key,
                match exactness {
                    Exactness::Exact => over > 0,
                    Exactness::WholeNodes(limit) => is_whole && entries + over <= limit,
                },
            );
            if !may_go {
                break;
            }
            entries += over;
            if is_whole {
                gone.extend(self.take_node(key).map(|node| (key, node)));
            } else {
                self.change_node(key, |node| node.drop_front(over));
                break;
            }
        }
        let rest = (gone.len() > FREED_AT_ONCE).then(|| Stream { nodes: gone.into_iter().collect(), ..Stream::new() });
        Trimmed { entries, rest }
    }

    /// Puts an entry where it belongs, in the place of one with the same id.
    fn insert(&mut self, id: StreamId, words: &[u8]) {
        let Some((&key, node)) = self.nodes.range(..=id).next_back() else { return self.put_node(id, words) };
        if id > node.last() {
            if node.fits(words) {
                return self.change_node(key, |node| node.push(id, words));
            }
            self.change_node(key, Node::close);
            return self.put_node(id, words);
        }
        match node.find(id) {
            Ok(_) => {
                self.remove(id);
                self.insert(id, words);
            }
            Err(at) if node.fits(words) => self.change_node(key, |node| node.insert(at, id, words)),
            Err(at) => {
                let upper = self.change_node(key, |node| Some(node.split_off(at)));
                upper.into_iter().for_each(|(first, upper)| self.take_in(first, upper));
                if self.nodes.get(&key).is_some_and(|node| node.len() == 0) {
                    self.take_node(key);
                }
                self.insert(id, words);
            }
        }
    }

    fn remove(&mut self, id: StreamId) -> bool {
        let Some((&key, _)) = self.nodes.range(..=id).next_back() else { return false };
        let removed = self.change_node(key, |node| node.remove(id));
        if self.nodes.get(&key).is_some_and(|node| node.len() == 0) {
            self.take_node(key);
        }
        removed
    }

    /// A node that begins with this entry.
    fn put_node(&mut self, id: StreamId, words: &[u8]) {
        let mut node = Node::new(id.ms);
        node.push(id, words);
        self.take_in(id, node);
    }

    fn take_in(&mut self, key: StreamId, node: Node) {
        self.len += node.len();
        self.bytes += node.bytes();
        self.memory += node.memory();
        self.sum = self.sum.wrapping_add(node.sum());
        self.nodes.insert(key, node);
    }

    fn take_node(&mut self, key: StreamId) -> Option<Node> {
        let node = self.nodes.remove(&key)?;
        self.len -= node.len();
        self.bytes -= node.bytes();
        self.memory -= node.memory();
        self.sum = self.sum.wrapping_sub(node.sum());
        Some(node)
    }

    /// Changes the node at `key`, which is there.
    fn change_node<R: Default>(&mut self, key: StreamId, change: impl FnOnce(&mut Node) -> R) -> R {
        let Some(node) = self.nodes.get_mut(&key) else { return R::default() };
        let (len, bytes, memory, sum) = (node.len(), node.bytes(), node.memory(), node.sum());
        let result = change(node);
        node.tighten();
        self.len = self.len + node.len() - len;
        self.bytes = self.bytes + node.bytes() - bytes;
        self.memory = self.memory + node.memory() - memory;
        self.sum = self.sum.wrapping_add(node.sum()).wrapping_sub(sum);
        result
    }

    // ── counting ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Whether an entry behind this id was deleted by name, so that numbers of entries before and behind differ by more than there
    /// are between them. What was deleted before the first entry that is left does not count.
    pub fn has_deleted_behind(&self, id: StreamId) -> bool {
        let deleted = self.counters.max_deleted_id;
        deleted > StreamId::MIN && id <= deleted && self.first().is_some_and(|first| first.id() <= deleted)
    }

    /// How many entries there ever were up to this id, if that can be known.
    pub fn number_of(&self, id: StreamId) -> Option<u64> {
        let Counters { last_id, max_deleted_id, entries_added } = self.counters;
        if entries_added == 0 {
            return Some(0);
        }
        let Some(first) = self.first().map(Entry::id) else { return (id <= last_id).then_some(entries_added) };
        if id >= last_id {
            return (id == last_id).then_some(entries_added);
        }
        let is_dense = max_deleted_id == StreamId::MIN || max_deleted_id < first;
        let before = entries_added.saturating_sub(self.len as u64);
        match id.cmp(&first) {
            std::cmp::Ordering::Less if is_dense => Some(before),
            std::cmp::Ordering::Equal if is_dense => Some(before + 1),
            _ => None,
        }
    }

    /// How many entries a group has not passed, if that can be known.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        let added = self.counters.entries_added;
        let read = match group.entries_read() {
            _ if added == 0 => return Some(0),
            Some(read) if !self.has_deleted_behind(group.last_id()) => read,
            _ => self.number_of(group.last_id())?,
        };
        Some(added.wrapping_sub(read) as i64)
    }

    // ── groups ──────────────────────────────────────────────────────────────────────────────────────────────────────

    /// A consumer group.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    /// All groups, by name.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }

    /// Changes a group. `None`, without a call, if there is none.
    pub fn change_group<R>(&mut self, name: &[u8], change: impl FnOnce(&mut Group) -> R) -> Option<R> {
        let group = self.groups.get_mut(name)?;
        let before = Totals::of(name, group);
        let result = change(group);
        let after = Totals::of(name, group);
        self.of_groups = self.of_groups.without(before).with(after);
        Some(result)
    }

    /// Makes a group, if there is none of this name.
    pub fn make_group(&mut self, name: &[u8]) {
        if !self.groups.contains_key(name) {
            let group = Group::default();
            self.of_groups = self.of_groups.with(Totals::of(name, &group));
            self.groups.insert(name.into(), group);
        }
    }

    /// Takes a group away. `None`: there was none. What is still to be freed, where that is much, looks like a stream.
    pub fn drop_group(&mut self, name: &[u8]) -> Option<Option<Stream>> {
        let (name, group) = self.groups.remove_entry(name)?;
        self.of_groups = self.of_groups.without(Totals::of(&name, &group));
        let is_large = group.len() > GROUP_FREED_AT_ONCE;
        Some(is_large.then(|| Stream { groups: BTreeMap::from([(name, group)]), ..Stream::new() }))
    }

    // ── as a value ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// Bytes of its record, about. Costs the same for every size.
    pub fn record_bytes(&self) -> usize {
        // Ids are written in full there.
        self.bytes + 6 * self.len + self.of_groups.record_bytes
    }

    /// Bytes of memory outside the value itself. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        self.memory + self.of_groups.memory
    }

    /// What it adds to a digest.
    pub fn digest(&self) -> u64 {
        let Counters { last_id, max_deleted_id, entries_added } = self.counters;
        let ids =
            digest::pair(digest::pair(last_id.ms, last_id.seq), digest::pair(max_deleted_id.ms, max_deleted_id.seq));
        digest::pair(digest::pair(ids, entries_added), digest::pair(self.sum, self.of_groups.sum))
    }

    /// Frees nodes and groups that count for about `members` members. `true`: what is left is cheap to drop.
    pub fn release(&mut self, members: usize) -> bool {
        for _ in 0..members.div_ceil(NODE_MEMBERS) {
            if self.nodes.pop_first().is_some() {
                continue;
            }
            let Some(mut group) = self.groups.first_entry() else { return true };
            if group.get_mut().release(NODE_MEMBERS) {
                group.remove();
            }
        }
        self.nodes.is_empty() && self.groups.is_empty()
    }

    #[cfg(test)]
    pub(super) fn invariants(&self) {
        let nodes = || self.nodes.values();
        assert_eq!(nodes().map(Node::len).sum::<usize>(), self.len);
        assert_eq!(nodes().map(Node::bytes).sum::<usize>(), self.bytes);
        assert_eq!(nodes().map(Node::memory).sum::<usize>(), self.memory);
        assert_eq!(nodes().map(Node::sum).fold(0, u64::wrapping_add), self.sum);
        let mut before = None;
        for (key, node) in &self.nodes {
            assert!(before.is_none_or(|before| before < *key), "nodes overlap");
            assert!(node.len() > 0 && node.len() <= node::NODE_ENTRIES);
            assert_eq!(node.iter().count(), node.len());
            for entry in node.iter() {
                assert!(entry.id() >= *key && before.is_none_or(|before| before < entry.id()));
                before = Some(entry.id());
            }
        }
        self.groups.values().for_each(Group::invariants);
        let totals = self.groups.iter().map(|(name, group)| Totals::of(name, group));
        assert_eq!(totals.fold(Totals::default(), Totals::with), self.of_groups);
    }
}

impl Totals {
    fn of(name: &[u8], group: &Group) -> Totals {
        Totals { sum: group.digest(name), memory: group.memory(name), record_bytes: group.record_bytes(name) }
    }

    fn with(self, other: Totals) -> Totals {
        Totals {
            sum: self.sum.wrapping_add(other.sum),
            memory: self.memory + other.memory,
            record_bytes: self.record_bytes + other.record_bytes,
        }
    }

    fn without(self, other: Totals) -> Totals {
        Totals {
            sum: self.sum.wrapping_sub(other.sum),
            memory: self.memory - other.memory,
            record_bytes: self.record_bytes - other.record_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fastrand::Rng;

    use super::*;
    use crate::id::UnixMs;
    use crate::snapshot::record::Reader;

    type Model = BTreeMap<StreamId, Vec<Vec<u8>>>;

    fn words(words: &[Vec<u8>]) -> Words {
        Words::new(words.iter().map(Vec::as_slice))
    }

    fn seen<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<(StreamId, Vec<Vec<u8>>)> {
        entries.map(|entry| (entry.id(), entry.words().map(<[u8]>::to_vec).collect())).collect()
    }

    fn check(stream: &Stream, model: &Model, rng: &mut Rng) {
        stream.invariants();
        assert_eq!(stream.len(), model.len());
        let mut bound = || StreamId::new(rng.u64(..40), rng.u64(..6));
        for _ in 0..4 {
            let (first, last) = (bound(), bound());
            let expected: Vec<_> = match first <= last {
                true => model.range(first..=last).map(|(id, words)| (*id, words.clone())).collect(),
                false => Vec::new(),
            };
            assert_eq!(seen(stream.range(first, last)), expected);
            assert!(seen(stream.range_down(first, last)).into_iter().rev().eq(expected));
            assert_eq!(stream.get(first).is_some(), model.contains_key(&first));
        }
        assert_eq!(stream.first().map(Entry::id), model.keys().next().copied());
        assert_eq!(stream.last().map(Entry::id), model.keys().next_back().copied());
    }

    /// A stream that holds the same and came about in another way.
    fn rebuilt(stream: &Stream, rng: &mut Rng) -> Stream {
        let (mut copy, mut place) = (Stream::new(), Some(Place::START));
        while let Some(from) = place {
            let mut record = Vec::new();
            place = stream.encode_piece(from, rng.usize(1..200), &mut record);
            copy.extend(&mut Reader::new(&record)).unwrap();
        }
        copy
    }

    #[test]
    fn it_holds_what_a_map_holds_wherever_entries_come() {
        for seed in 0..60 {
            let mut rng = Rng::with_seed(seed);
            let (mut stream, mut model) = (Stream::new(), Model::new());
            for _ in 0..rng.usize(..900) {
                let id = StreamId::new(rng.u64(..40), rng.u64(1..6));
                match rng.u8(..12) {
                    0..8 => {
                        let fields = vec![vec![b'f'; rng.usize(..4)], vec![b'v'; [3, 200, 5_000][rng.usize(..9) / 4]]];
                        stream.add(id, &words(&fields));
                        model.insert(id, fields);
                    }
                    8..10 => assert_eq!(stream.delete(id), model.remove(&id).is_some()),
                    10 if rng.u8(..6) == 0 => {
                        let newest = rng.usize(..60);
                        let trimmed = stream.trim(Keep::Newest(newest), Exactness::Exact);
                        let gone = model.len().saturating_sub(newest);
                        assert_eq!(trimmed.entries, gone);
                        (0..gone).for_each(|_| _ = model.pop_first());
                    }
                    _ if rng.u8(..6) == 0 => {
                        let trimmed = stream.trim(Keep::From(id), Exactness::Exact);
                        let left = model.split_off(&id);
                        assert_eq!(trimmed.entries, model.len());
                        model = left;
                    }
                    _ => {}
                }
            }
            check(&stream, &model, &mut rng);
            let copy = rebuilt(&stream, &mut rng);
            check(&copy, &model, &mut rng);
            assert_eq!(copy.digest(), stream.digest());
        }
    }

    fn long(entries: u64) -> Stream {
        let mut stream = Stream::new();
        for n in 1..=entries {
            stream.add(StreamId::new(n, 0), &words(&[b"f".to_vec(), n.to_string().into_bytes()]));
        }
        stream
    }

    #[test]
    fn approximate_trimming_takes_whole_nodes_and_no_more_than_it_may() {
        let mut stream = long(1_000);
        assert_eq!(stream.trim(Keep::Newest(950), Exactness::WholeNodes(usize::MAX)).entries, 0);
        assert_eq!(stream.trim(Keep::Newest(10), Exactness::WholeNodes(250)).entries, 200);
        assert_eq!(stream.trim(Keep::From(StreamId::new(450, 0)), Exactness::WholeNodes(usize::MAX)).entries, 200);
        assert_eq!(stream.first().map(Entry::id), Some(StreamId::new(401, 0)));
        stream.invariants();
    }

    #[test]
    fn what_was_deleted_before_the_first_entry_is_no_gap() {
        let mut stream = long(20);
        assert!(stream.delete(StreamId::new(5, 0)));
        stream.set_counters(Counters { max_deleted_id: StreamId::new(5, 0), ..stream.counters() });
        assert!(stream.has_deleted_behind(StreamId::MIN) && stream.has_deleted_behind(StreamId::new(5, 0)));
        assert!(!stream.has_deleted_behind(StreamId::new(6, 0)));
        stream.make_group(b"g");
        stream.change_group(b"g", |group| group.set(StreamId::MIN, Some(3)));
        let lag = |stream: &Stream| stream.group(b"g").and_then(|group| stream.lag(group));
        let before = lag(&stream);
        assert_eq!(before, None);

        stream.trim(Keep::Newest(10), Exactness::Exact);
        assert!(!stream.has_deleted_behind(StreamId::MIN));
        assert_eq!(lag(&stream), Some(stream.counters().entries_added as i64 - 3));
    }

    #[test]
    fn groups_come_in_pieces_whatever_is_in_them() {
        let mut rng = Rng::with_seed(5);
        let mut stream = long(30);
        for g in 0..20u8 {
            stream.make_group(&[b'g', g]);
            stream.change_group(&[b'g', g], |group| {
                group.set(StreamId::new(u64::from(g), 1), (g > 9).then_some(5));
                (0..rng.u8(..9)).for_each(|c| _ = group.see(&[c; 40], UnixMs::new(9)));
                for _ in 0..rng.u16(..900) {
                    group.pend(StreamId::new(rng.u64(..500), 0), &[rng.u8(..12); 3], UnixMs::new(rng.u64(..9)), 2);
                }
                (0..9).for_each(|_| _ = group.ack(StreamId::new(rng.u64(..500), 0)));
                group.drop_consumer(&[3; 3]);
            });
        }
        stream.invariants();
        let copy = rebuilt(&stream, &mut rng);
        copy.invariants();
        assert_eq!(copy.digest(), stream.digest());
        let mut record = Vec::new();
        stream.encode(&mut record);
        let (bytes, about) = (record.len(), stream.record_bytes());
        assert!(about > bytes / 4 && about < 4 * bytes, "{bytes} bytes, about {about}");
        let mut whole = Stream::new();
        whole.extend(&mut Reader::new(&record)).unwrap();
        assert_eq!(whole.digest(), stream.digest());

        let before = stream.digest();
        assert!(stream.change_group(&[b'g', 1], |group| group.see(b"somebody", UnixMs::new(1))).unwrap());
        assert_ne!(stream.digest(), before, "a consumer counts");
        let after = stream.digest();
        stream.change_group(&[b'g', 1], |group| group.see(b"somebody", UnixMs::new(2)));
        assert_eq!(stream.digest(), after, "when it was seen does not");
        (0..20u8).for_each(|g| assert!(stream.drop_group(&[b'g', g]).is_some()));
        assert_eq!(stream.digest(), long(30).digest());
        assert_eq!(stream.heap_bytes(), long(30).heap_bytes());
    }

    #[test]
    fn what_is_large_is_freed_in_steps() {
        let mut stream = long(20_000);
        stream.make_group(b"g");
        stream.change_group(b"g", |group| {
            (0..5_000).for_each(|n| group.pend(StreamId::new(n, 0), b"consumer", UnixMs::new(1), 1));
        });
        let steps = |mut stream: Stream| {
            let mut steps = 1;
            while !stream.release(512) {
                steps += 1;
            }
            steps
        };
        assert!(steps(stream.drop_group(b"g").flatten().unwrap()) > 5);
        assert!(steps(stream.trim(Keep::Newest(10_000), Exactness::Exact).rest.unwrap()) > 1);
        assert!(stream.trim(Keep::Newest(9_000), Exactness::Exact).rest.is_none());
        assert_eq!(stream.len(), 9_000);
        assert!(steps(stream) > 1);
    }

    #[test]
    fn a_stream_of_short_entries_is_small() {
        let stream = long(100_000);
        assert!(stream.heap_bytes() < 100_000 * 16, "{} bytes", stream.heap_bytes());
    }
}
