//! The large form of a sorted set: numbered nodes, a tree that has their numbers in order, and a table from members to numbers.
//! Finding by member is O(1); inserting, removing, ranks and places are O(log n). Nodes lie in chunks, the tree is of blocks and the
//! table is parted, so that neither growing nor shrinking ever moves more than a bounded part.
//!
//! ```text
//!          member                   rank, score
//!            │                           │
//!   table    ▼  (hash, number)   tree    ▼  (score, number)
//!            └──────────────┬────────────┘
//!                   nodes   ▼  (score, member)
//! ```

mod nodes;
mod tree;

use super::parted::{KeptHash, Parted};
#[cfg(test)]
use super::zset::compare;
use super::zset::{Inserted, of_member};
use crate::store::hash::keyed_hash;
use crate::store::prefetch;
use nodes::{Member, Node, NodeId, Nodes};
use tree::{Key, Tree};

/// From this many nodes on, memory is given back when most are free.
const NODES_WORTH_TIGHTENING: usize = 256;

/// Nodes for each member from which on memory is given back, and nodes that a removal takes away then: on average one of them holds
/// something, and moves.
const NODES_PER_MEMBER_MAX: usize = 4;

/// How far ahead a node is fetched where they go one after the other.
const RANKS_AHEAD: usize = 8;

/// Nodes of a leaf, for whoever frees some of both.
const NODES_PER_LEAF: usize = 32;

/// Members in the order of (score, member).
#[derive(Debug)]
pub(super) struct Ranked {
    nodes: Nodes,
    /// Nodes that hold nothing. Numbers from the length on are without meaning.
    free: Vec<NodeId>,
    tree: Tree,
    table: Parted<Named>,
    /// Bytes of all members.
    bytes: usize,
    /// Those of them that lie outside their nodes.
    long_bytes: usize,
    /// The sum over all members, kept current: the digest of a million members is there at once.
    sum: u64,
}

/// A node in the table.
#[derive(Clone, Copy, Debug)]
struct Named {
    id: NodeId,
    hash: KeptHash,
}

impl Named {
    fn new(id: NodeId, hash: u64) -> Named {
        Named { id, hash: KeptHash::of(hash) }
    }

    fn hash(&self) -> u64 {
        self.hash.hash()
    }
}

impl Ranked {
    pub(super) fn new() -> Ranked {
        Ranked {
            nodes: Nodes::default(),
            free: Vec::new(),
            tree: Tree::new(),
            table: Parted::new(),
            bytes: 0,
            long_bytes: 0,
            sum: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    /// What the members add to a digest.
    pub(super) fn digest(&self) -> u64 {
        self.sum
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.find(keyed_hash(member), member).map(|id| self.nodes.get(id).score)
    }

    /// Gives `member` the score that `decide` makes of the one it has, or leaves it as it is.
    pub(super) fn update<E>(
        &mut self,
        member: &[u8],
        decide: impl FnOnce(Option<f64>) -> Result<Option<f64>, E>,
    ) -> Result<Option<(Inserted, f64)>, E> {
        let hash = keyed_hash(member);
        let found = self.find(hash, member);
        let old = found.map(|id| self.nodes.get(id).score);
        let Some(score) = decide(old)? else { return Ok(None) };
        debug_assert!(!score.is_nan());
        let Some((id, old)) = found.zip(old) else {
            self.add(hash, member, score);
            return Ok(Some((Inserted::Added, score)));
        };
        if old == score {
            return Ok(Some((Inserted::Same, score)));
        }
        self.tree.remove(&self.nodes, Key { score: old, member }, id);
        self.nodes.get_mut(id).score = score;
        self.tree.insert(&self.nodes, Key { score, member }, id);
        self.sum = self.sum.wrapping_sub(of_member(member, old)).wrapping_add(of_member(member, score));
        Ok(Some((Inserted::Changed, score)))
    }

    /// Adds a member that is not there.
    pub(super) fn insert(&mut self, member: &[u8], score: f64) {
        self.add(keyed_hash(member), member, score);
    }

    fn add(&mut self, hash: u64, member: &[u8], score: f64) {
        let node = Node { score, member: Member::from(member) };
        self.bytes += member.len();
        self.long_bytes += node.member.heap_bytes();
        self.sum = self.sum.wrapping_add(of_member(member, score));
        let id = match self.take_free() {
            Some(id) => {
                *self.nodes.get_mut(id) = node;
                id
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as NodeId
            }
        };
        self.tree.insert(&self.nodes, Key { score, member }, id);
        self.table.insert(hash, Named::new(id, hash), Named::hash);
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let hash = keyed_hash(member);
        match self.find(hash, member) {
            Some(id) => {
                let score = self.nodes.get(id).score;
                self.tree.remove(&self.nodes, Key { score, member }, id);
                self.remove_node(hash, id);
                true
            }
            None => false,
        }
    }

    /// Takes the members of `count` ranks from `first` on away; there are as many.
    pub(super) fn remove_ranks(&mut self, first: usize, count: usize) {
        for _ in 0..count {
            let id = self.tree.remove_rank(first);
            self.remove_node(keyed_hash(&self.nodes.get(id).member), id);
        }
        // Who pops at an end does it again: the next nodes lie all over memory.
        let ahead = if first == 0 { RANKS_AHEAD } else { first.saturating_sub(RANKS_AHEAD) };
        if let Some((_, id)) = self.tree.upwards(ahead).next() {
            prefetch::read(self.nodes.get(id));
        }
    }

    /// Takes a node away that is not in the tree any more.
    fn remove_node(&mut self, hash: u64, id: NodeId) {
        self.table.remove(hash, |named| named.id == id, Named::hash);
        let gone = std::mem::replace(self.nodes.get_mut(id), Node::free());
        self.bytes -= gone.member.len();
        self.long_bytes -= gone.member.heap_bytes();
        self.sum = self.sum.wrapping_sub(of_member(&gone.member, gone.score));
        self.free.push(id);
        for _ in 0..NODES_PER_MEMBER_MAX {
            if self.nodes.len() > NODES_WORTH_TIGHTENING.max(self.len() * NODES_PER_MEMBER_MAX) {
                self.tighten();
            }
        }
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.tree.rank(&self.nodes, Key { score, member }))
    }

    pub(super) fn partition_point(&self, before: impl Fn(&[u8], f64) -> bool) -> usize {
        self.tree.partition_point(|score, id| before(&self.nodes.get(id).member, score))
    }

    /// As [`partition_point`](Self::partition_point), by scores alone: no node is looked at.
    pub(super) fn partition_point_by_score(&self, before: impl Fn(f64) -> bool) -> usize {
        self.tree.partition_point(|score, _| before(score))
    }

    /// The members from rank `first` on.
    pub(super) fn upwards(&self, first: usize) -> impl Iterator<Item = (&[u8], f64)> {
        self.tree.upwards(first).map(|(score, id)| (&*self.nodes.get(id).member, score))
    }

    /// The members before rank `end`, the last one first.
    pub(super) fn downwards(&self, end: usize) -> impl Iterator<Item = (&[u8], f64)> {
        self.tree.downwards(end).map(|(score, id)| (&*self.nodes.get(id).member, score))
    }

    /// Bytes of memory. Costs the same for every size.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Ranked>()
            + self.nodes.heap_bytes()
            + self.free.capacity() * size_of::<NodeId>()
            + self.tree.heap_bytes()
            + self.table.heap_bytes()
            + self.long_bytes
    }

    /// Bytes of all members.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Members of one part of the table: see [`Parted::part`].
    pub(super) fn part(&self, from: u64) -> (impl Iterator<Item = (&[u8], f64)>, Option<u64>) {
        let (part, next) = self.table.part(from);
        // Nodes of a part lie all over memory: without looking ahead each would be waited for.
        let part: Vec<NodeId> = part.map(|named| named.id).collect();
        part.iter().for_each(|id| prefetch::read(self.nodes.get(*id)));
        let members = part.into_iter().map(|id| {
            let Node { score, member } = self.nodes.get(id);
            (&**member, *score)
        });
        (members, next)
    }

    /// Drops about `members` members; only dropping the whole may follow. `true`: what is left is cheap to drop.
    pub(super) fn release(&mut self, members: usize) -> bool {
        for _ in 0..members {
            if self.nodes.pop().is_none() {
                return self.tree.release(members.div_ceil(NODES_PER_LEAF)) && self.table.release(members);
            }
        }
        false
    }

    #[inline]
    fn find(&self, hash: u64, member: &[u8]) -> Option<NodeId> {
        let named = Named::new(0, hash);
        let is_it = |other: &Named| other.hash == named.hash && *self.nodes.get(other.id).member == *member;
        self.table.find(hash, is_it).map(|named| named.id)
    }

    fn take_free(&mut self) -> Option<NodeId> {
        loop {
            let id = self.free.pop()?;
            if (id as usize) < self.nodes.len() {
                return Some(id);
            }
        }
    }

    /// Takes the last node away: what it holds moves to a free one.
    fn tighten(&mut self) {
        let from = (self.nodes.len() - 1) as NodeId;
        if self.nodes.get(from).is_free() {
            self.nodes.pop();
            return;
        }
        let Some(to) = self.take_free() else { return };
        let Node { score, member } = self.nodes.get(from);
        self.tree.renumber(&self.nodes, Key { score: *score, member }, from, to);
        if let Some(named) = self.table.find_mut(keyed_hash(member), |named| named.id == from) {
            named.id = to;
        }
        if let Some(node) = self.nodes.pop() {
            *self.nodes.get_mut(to) = node;
        }
        if self.free.capacity() > NODES_WORTH_TIGHTENING && self.free.len() * 8 < self.free.capacity() {
            self.free.shrink_to(self.free.len() * 2);
        }
    }

    /// Asserts what must hold between calls.
    #[cfg(test)]
    pub(super) fn invariants(&self) {
        self.tree.invariants(&self.nodes);
        assert_eq!(self.tree.len(), self.table.len());
        let members = || self.upwards(0);
        assert_eq!(self.bytes, members().map(|(member, _)| member.len()).sum::<usize>());
        assert_eq!(self.sum, members().map(|(m, s)| of_member(m, s)).fold(0, u64::wrapping_add));
        assert!(members().all(|(member, score)| self.score(member).map(f64::to_bits) == Some(score.to_bits())));
        let nodes = || (0..self.nodes.len() as NodeId).map(|id| self.nodes.get(id));
        assert_eq!(self.long_bytes, nodes().map(|node| node.member.heap_bytes()).sum::<usize>());
        let free = self.free.iter().filter(|id| (**id as usize) < self.nodes.len());
        assert_eq!(free.count() + self.len(), self.nodes.len());
        assert_eq!(nodes().filter(|node| node.is_free()).count() + self.len(), self.nodes.len());
    }
}
