//! The large form of a sorted set: a skip list whose links count what they skip, with numbered nodes, and a table from members to
//! nodes. Finding by member is O(1); inserting, removing, ranks and places are O(log n). Nodes lie in chunks and the table is
//! parted, so that neither growing nor shrinking ever moves more than a bounded part.
//!
//! ```text
//! level 2  head ──────────────4─────────────▶ d ──────▶ nil
//! level 1  head ─────2──────▶ b ──────2─────▶ d ──────▶ nil
//! level 0  head ──▶ a ──▶ b ──▶ c ──▶ d ──▶ e ──▶ nil       each link skips one; and back again
//! ```
//!
//! How high a node reaches is read off the keyed hash of its member, so that nobody outside can choose it.

use super::parted::Parted;
use super::zset::{compare, of_member};
use crate::store::hash::keyed_hash;

/// A node's number. Number 0 is the head, which has no member; as the end of a link it means nil.
type NodeId = u32;
const HEAD: NodeId = 0;
const NIL: NodeId = 0;

/// Levels of the head: enough for 4^16 members, since every fourth node of a level is in the next.
const LEVELS_MAX: usize = 16;

/// Nodes of a chunk.
const CHUNK_NODES: usize = 512;

/// From this many nodes on, memory is given back when most are free.
const NODES_WORTH_TIGHTENING: usize = 256;

/// Nodes that a removal takes away while most are free: so many that most never are.
const NODES_TIGHTENED: usize = 2;

/// Members in the order of (score, member).
#[derive(Debug)]
pub(super) struct Ranked {
    nodes: Nodes,
    /// Nodes that hold nothing. Numbers from the length on are without meaning.
    free: Vec<NodeId>,
    /// By member.
    table: Parted<NodeId>,
    /// Levels in use, at least 1.
    levels: usize,
    /// Bytes of all members and of the links above level 0.
    bytes: usize,
    /// The last node, or the head.
    last: NodeId,
    /// The sum over all members, kept current: the digest of a million members is there at once.
    sum: u64,
}

/// Nodes by their numbers.
#[derive(Debug)]
struct Nodes {
    /// All but the last one full.
    chunks: Vec<Vec<Node>>,
    len: usize,
}

#[derive(Debug)]
struct Node {
    member: Box<[u8]>,
    /// NaN: the node holds nothing.
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
            nodes: Nodes { chunks: vec![vec![head]], len: 1 },
            free: Vec::new(),
            table: Parted::new(),
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
        let hash = keyed_hash(&member);
        let trail = self.descend(|m, s| compare((m, s), (&member, score)).is_lt());
        let height = height_of(hash);
        let mut upper = vec![Link { to: NIL, span: 0 }; height - 1].into_boxed_slice();
        let len = self.len() as u32;
        for level in self.levels..height {
            self.nodes.get_mut(HEAD).upper[level - 1] = Link { to: NIL, span: len };
        }
        self.levels = self.levels.max(height);
        let id = self.take_free().unwrap_or(self.nodes.len as NodeId);
        for level in 1..self.levels {
            // How many nodes lie between the one on the trail and the new one.
            let between = trail.rank[0] - trail.rank[level];
            let link = &mut self.nodes.get_mut(trail.node[level]).upper[level - 1];
            if level < height {
                upper[level - 1] = Link { to: link.to, span: link.span - between };
                *link = Link { to: id, span: between + 1 };
            } else {
                link.span += 1;
            }
        }
        let back = trail.node[0];
        let next = std::mem::replace(&mut self.nodes.get_mut(back).next, id);
        if next == NIL {
            self.last = id;
        } else {
            self.nodes.get_mut(next).back = id;
        }
        self.bytes += member.len() + size_of_val(&*upper);
        self.sum = self.sum.wrapping_add(of_member(&member, score));
        let node = Node { member, score, next, back, upper };
        match (id as usize) < self.nodes.len {
            true => *self.nodes.get_mut(id) = node,
            false => self.nodes.push(node),
        }
        let Ranked { table, nodes, .. } = self;
        table.insert(hash, id, |&id| keyed_hash(&nodes.get(id).member));
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let Ranked { table, nodes, .. } = self;
        let hash_of = |&id: &NodeId| keyed_hash(&nodes.get(id).member);
        let Some(id) = table.remove(keyed_hash(member), |&id| *nodes.get(id).member == *member, hash_of) else {
            return false;
        };
        let score = self.node(id).score;
        let trail = self.descend(|m, s| compare((m, s), (member, score)).is_lt());
        let gone = std::mem::replace(self.nodes.get_mut(id), Node::free());
        for level in 1..self.levels {
            let link = &mut self.nodes.get_mut(trail.node[level]).upper[level - 1];
            if link.to == id {
                let beyond = gone.upper[level - 1];
                *link = Link { to: beyond.to, span: link.span + beyond.span - 1 };
            } else {
                link.span -= 1;
            }
        }
        self.nodes.get_mut(gone.back).next = gone.next;
        if gone.next == NIL {
            self.last = gone.back;
        } else {
            self.nodes.get_mut(gone.next).back = gone.back;
        }
        while self.levels > 1 && self.node(HEAD).upper[self.levels - 2].to == NIL {
            self.levels -= 1;
        }
        self.bytes -= gone.member.len() + size_of_val(&*gone.upper);
        self.sum = self.sum.wrapping_sub(of_member(&gone.member, gone.score));
        self.free.push(id);
        for _ in 0..NODES_TIGHTENED {
            if self.nodes.len > NODES_WORTH_TIGHTENING && self.len() * 2 < self.nodes.len {
                self.tighten();
            }
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
            + self.nodes.heap_bytes()
            + self.free.capacity() * size_of::<NodeId>()
            + self.table.heap_bytes()
            + self.bytes
    }

    /// Bytes of all members, and of what makes the list more than its lowest level.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Members of one part of the table: see [`Parted::part`].
    pub(super) fn part(&self, from: u64) -> (impl Iterator<Item = (&[u8], f64)>, Option<u64>) {
        let (part, next) = self.table.part(from);
        let members = part.map(|&id| {
            let node = self.node(id);
            (&*node.member, node.score)
        });
        (members, next)
    }

    /// Drops up to `members` nodes; only dropping the whole may follow. `true`: what is left is cheap to drop.
    pub(super) fn release(&mut self, members: usize) -> bool {
        for _ in 0..members {
            if self.nodes.pop().is_none() {
                // Members of the table are numbers: a part is freed at once.
                return self.table.release(members);
            }
        }
        false
    }

    fn find(&self, member: &[u8]) -> Option<NodeId> {
        self.table.find(keyed_hash(member), |&id| *self.node(id).member == *member).copied()
    }

    #[inline]
    fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id)
    }

    fn take_free(&mut self) -> Option<NodeId> {
        loop {
            let id = self.free.pop()?;
            if (id as usize) < self.nodes.len {
                return Some(id);
            }
        }
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

    /// Takes the last node away: what it holds moves to a free one.
    fn tighten(&mut self) {
        let from = (self.nodes.len - 1) as NodeId;
        if self.node(from).score.is_nan() {
            self.nodes.pop();
            return;
        }
        let Some(to) = self.take_free() else { return };
        let Node { member, score, next, back, .. } = self.node(from);
        let (hash, next, back) = (keyed_hash(member), *next, *back);
        let trail = self.descend(|m, s| compare((m, s), (member, *score)).is_lt());
        for level in 1..self.levels {
            let link = &mut self.nodes.get_mut(trail.node[level]).upper[level - 1];
            if link.to == from {
                link.to = to;
            }
        }
        self.nodes.get_mut(back).next = to;
        match next {
            NIL => self.last = to,
            next => self.nodes.get_mut(next).back = to,
        }
        if let Some(id) = self.table.find_mut(hash, |&id| id == from) {
            *id = to;
        }
        if let Some(node) = self.nodes.pop() {
            *self.nodes.get_mut(to) = node;
        }
        if self.free.capacity() > NODES_WORTH_TIGHTENING && self.free.len() * 8 < self.free.capacity() {
            self.free.shrink_to(self.free.len() * 2);
        }
    }
}

impl Node {
    fn free() -> Node {
        Node { member: Box::default(), score: f64::NAN, next: NIL, back: NIL, upper: Box::default() }
    }
}

impl Nodes {
    #[inline]
    fn get(&self, id: NodeId) -> &Node {
        &self.chunks[id as usize / CHUNK_NODES][id as usize % CHUNK_NODES]
    }

    #[inline]
    fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.chunks[id as usize / CHUNK_NODES][id as usize % CHUNK_NODES]
    }

    fn push(&mut self, node: Node) {
        self.len += 1;
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_NODES => chunk.push(node),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK_NODES);
                chunk.push(node);
                self.chunks.push(chunk);
            }
        }
    }

    fn pop(&mut self) -> Option<Node> {
        let chunk = self.chunks.last_mut()?;
        let node = chunk.pop();
        if chunk.is_empty() {
            self.chunks.pop();
        }
        self.len -= usize::from(node.is_some());
        node
    }

    fn heap_bytes(&self) -> usize {
        let chunks: usize = match &self.chunks[..] {
            [only] => only.capacity(),
            more => more.len() * CHUNK_NODES,
        };
        chunks * size_of::<Node>() + self.chunks.capacity() * size_of::<Vec<Node>>()
    }
}

/// How many levels a member takes part in: one, and another with a chance of a quarter, and so on.
fn height_of(hash: u64) -> usize {
    // The table looks at other bits of the hash; these come from a multiplication of all.
    let bits = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    (1 + bits.trailing_zeros() as usize / 2).min(LEVELS_MAX)
}
