//! The large form of a sorted set: a skip list whose links count what they skip, with its nodes in one vector, and a table from
//! members to nodes. Finding by member is O(1); inserting, removing, ranks and places are O(log n).
//!
//! ```text
//! level 2  head ──────────────4─────────────▶ d ──────▶ nil
//! level 1  head ─────2──────▶ b ──────2─────▶ d ──────▶ nil
//! level 0  head ──▶ a ──▶ b ──▶ c ──▶ d ──▶ e ──▶ nil       each link skips one; and back again
//! ```
//!
//! How high a node reaches is read off the keyed hash of its member, so that nobody outside can choose it.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::zset::{compare, of_member};

/// A node's number. Number 0 is the head, which has no member; as the end of a link it means nil.
type NodeId = u32;
const HEAD: NodeId = 0;
const NIL: NodeId = 0;

/// Levels of the head: enough for 4^16 members, since every fourth node of a level is in the next.
const LEVELS_MAX: usize = 16;

/// From this many nodes on, memory is given back when most are free.
const NODES_WORTH_TIGHTENING: usize = 256;

/// Members in the order of (score, member).
#[derive(Debug)]
pub(super) struct Ranked {
    nodes: Vec<Node>,
    /// Nodes that hold nothing.
    free: Vec<NodeId>,
    /// By member.
    table: HashTable<NodeId>,
    hasher: RandomState,
    /// Levels in use, at least 1.
    levels: usize,
    /// Bytes of all members and of the links above level 0.
    bytes: usize,
    /// The last node, or the head.
    last: NodeId,
    /// The sum over all members, kept current: the digest of a million members is there at once.
    sum: u64,
}

#[derive(Debug)]
struct Node {
    member: Box<[u8]>,
    score: f64,
    next: NodeId,
    back: NodeId,
    /// The links of level 1 and above.
    upper: Box<[Link]>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    to: NodeId,
    /// How many nodes further the link leads; where it leads to nil, the number of nodes behind.
    span: u32,
}

/// Where a search passed on its way down: for each level the last node before the place, and how many nodes are before that.
struct Trail {
    node: [NodeId; LEVELS_MAX],
    rank: [u32; LEVELS_MAX],
}

impl Ranked {
    pub(super) fn new() -> Ranked {
        let upper = vec![Link { to: NIL, span: 0 }; LEVELS_MAX - 1].into_boxed_slice();
        let head = Node { member: Box::default(), score: 0.0, next: NIL, back: HEAD, upper };
        Ranked {
            nodes: vec![head],
            free: Vec::new(),
            table: HashTable::new(),
            hasher: RandomState::default(),
            levels: 1,
            bytes: 0,
            last: HEAD,
            sum: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// What the members add to a digest.
    pub(super) fn digest(&self) -> u64 {
        self.sum
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.find(member).map(|id| self.node(id).score)
    }

    /// Adds a member that is not there.
    pub(super) fn insert(&mut self, member: Box<[u8]>, score: f64) {
        let hash = self.hasher.hash_one(&*member);
        let trail = self.descend(|m, s| compare((m, s), (&member, score)).is_lt());
        let height = height_of(hash);
        let mut upper = vec![Link { to: NIL, span: 0 }; height - 1].into_boxed_slice();
        let len = self.len() as u32;
        for level in self.levels..height {
            self.nodes[HEAD as usize].upper[level - 1] = Link { to: NIL, span: len };
        }
        self.levels = self.levels.max(height);
        let id = self.free.pop().unwrap_or(self.nodes.len() as NodeId);
        for level in 1..self.levels {
            // How many nodes lie between the one on the trail and the new one.
            let between = trail.rank[0] - trail.rank[level];
            let link = &mut self.nodes[trail.node[level] as usize].upper[level - 1];
            if level < height {
                upper[level - 1] = Link { to: link.to, span: link.span - between };
                *link = Link { to: id, span: between + 1 };
            } else {
                link.span += 1;
            }
        }
        let back = trail.node[0];
        let next = std::mem::replace(&mut self.nodes[back as usize].next, id);
        if next == NIL {
            self.last = id;
        } else {
            self.nodes[next as usize].back = id;
        }
        self.bytes += member.len() + size_of_val(&*upper);
        self.sum = self.sum.wrapping_add(of_member(&member, score));
        let node = Node { member, score, next, back, upper };
        match self.nodes.get_mut(id as usize) {
            Some(free) => *free = node,
            None => self.nodes.push(node),
        }
        let Ranked { table, nodes, hasher, .. } = self;
        table.insert_unique(hash, id, |&id| hasher.hash_one(&*nodes[id as usize].member));
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let hash = self.hasher.hash_one(member);
        let nodes = &self.nodes;
        let Ok(found) = self.table.find_entry(hash, |&id| *nodes[id as usize].member == *member) else { return false };
        let (id, _) = found.remove();
        let score = self.node(id).score;
        let trail = self.descend(|m, s| compare((m, s), (member, score)).is_lt());
        let empty = Node { member: Box::default(), score: 0.0, next: NIL, back: NIL, upper: Box::default() };
        let gone = std::mem::replace(&mut self.nodes[id as usize], empty);
        for level in 1..self.levels {
            let link = &mut self.nodes[trail.node[level] as usize].upper[level - 1];
            if link.to == id {
                let beyond = gone.upper[level - 1];
                *link = Link { to: beyond.to, span: link.span + beyond.span - 1 };
            } else {
                link.span -= 1;
            }
        }
        self.nodes[gone.back as usize].next = gone.next;
        if gone.next == NIL {
            self.last = gone.back;
        } else {
            self.nodes[gone.next as usize].back = gone.back;
        }
        while self.levels > 1 && self.node(HEAD).upper[self.levels - 2].to == NIL {
            self.levels -= 1;
        }
        self.bytes -= gone.member.len() + size_of_val(&*gone.upper);
        self.sum = self.sum.wrapping_sub(of_member(&gone.member, gone.score));
        self.free.push(id);
        if self.nodes.len() > NODES_WORTH_TIGHTENING && self.len() * 8 < self.nodes.len() {
            self.tighten();
        }
        true
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.partition_point(|m, s| compare((m, s), (member, score)).is_lt()))
    }

    pub(super) fn partition_point(&self, before: impl Fn(&[u8], f64) -> bool) -> usize {
        self.descend(before).rank[0] as usize
    }

    /// The members from rank `first` on.
    pub(super) fn upwards(&self, first: usize) -> impl Iterator<Item = (&[u8], f64)> {
        let mut id = self.at_rank(first);
        std::iter::from_fn(move || {
            let node = (id != NIL).then(|| self.node(id))?;
            id = node.next;
            Some((&*node.member, node.score))
        })
    }

    /// The members before rank `end`, the last one first.
    pub(super) fn downwards(&self, end: usize) -> impl Iterator<Item = (&[u8], f64)> {
        let mut id =
            if end == self.len() { self.last } else { end.checked_sub(1).map_or(NIL, |rank| self.at_rank(rank)) };
        std::iter::from_fn(move || {
            let node = (id != HEAD).then(|| self.node(id))?;
            id = node.back;
            Some((&*node.member, node.score))
        })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Ranked>()
            + self.nodes.capacity() * size_of::<Node>()
            + self.free.capacity() * size_of::<NodeId>()
            + self.table.capacity() * (size_of::<NodeId>() + 1)
            + self.bytes
    }

    /// Drops up to `members` nodes; only dropping the whole may follow. `true`: what is left is cheap to drop.
    pub(super) fn release(&mut self, members: usize) -> bool {
        self.nodes.truncate(self.nodes.len().saturating_sub(members).max(1));
        self.nodes.len() == 1
    }

    fn find(&self, member: &[u8]) -> Option<NodeId> {
        let hash = self.hasher.hash_one(member);
        self.table.find(hash, |&id| *self.node(id).member == *member).copied()
    }

    #[inline]
    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The link of `id` at `level`.
    #[inline]
    fn link(&self, id: NodeId, level: usize) -> Link {
        let node = self.node(id);
        if level == 0 { Link { to: node.next, span: 1 } } else { node.upper[level - 1] }
    }

    /// Searches the first node that is not `before`.
    fn descend(&self, before: impl Fn(&[u8], f64) -> bool) -> Trail {
        let mut trail = Trail { node: [HEAD; LEVELS_MAX], rank: [0; LEVELS_MAX] };
        let (mut id, mut rank) = (HEAD, 0);
        for level in (0..self.levels).rev() {
            loop {
                let link = self.link(id, level);
                if link.to == NIL {
                    break;
                }
                let next = self.node(link.to);
                if !before(&next.member, next.score) {
                    break;
                }
                id = link.to;
                rank += link.span;
            }
            trail.node[level] = id;
            trail.rank[level] = rank;
        }
        trail
    }

    /// The node of a rank; nil where there is none.
    fn at_rank(&self, rank: usize) -> NodeId {
        if rank >= self.len() {
            return NIL;
        }
        // The head counts as the place before rank 0.
        let (mut id, mut left) = (HEAD, rank + 1);
        for level in (0..self.levels).rev() {
            loop {
                let link = self.link(id, level);
                if link.to == NIL || link.span as usize > left {
                    break;
                }
                id = link.to;
                left -= link.span as usize;
            }
        }
        id
    }

    /// Builds itself anew, without free nodes.
    fn tighten(&mut self) {
        let mut order = Vec::with_capacity(self.len());
        let mut id = self.node(HEAD).next;
        while id != NIL {
            let node = &mut self.nodes[id as usize];
            order.push((std::mem::take(&mut node.member), node.score));
            id = node.next;
        }
        *self = Ranked::new();
        for (member, score) in order {
            self.insert(member, score);
        }
    }
}

/// How many levels a member takes part in: one, and another with a chance of a quarter, and so on.
fn height_of(hash: u64) -> usize {
    // The table looks at the ends of the hash; these bits come from a multiplication of all.
    let bits = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    (1 + bits.trailing_zeros() as usize / 2).min(LEVELS_MAX)
}
