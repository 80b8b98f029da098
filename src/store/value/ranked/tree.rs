//! The order of a large sorted set: the numbers of its nodes in blocks, and blocks of blocks above them that count what is below. It
//! is a B+-tree whose keys are scores, with members only where scores are equal: a search reads a few blocks from end to end, and
//! looks at a node only among equals.
//!
//! ```text
//! fork                 │ least of each child: scores, ids │ members below each │ children │
//!                            ╱            │          ╲
//! leaf   │ scores, ids │     │ scores, ids │     │ scores, ids │           up to 64 each, in order
//! ```
//!
//! Who appends at either end leaves full blocks behind. A block that is less than half full is merged with a neighbour where both
//! leave room for more, so that on average a quarter of all places is in use at the least.

use super::nodes::{NodeId, Nodes};

/// Entries of a leaf, and children of a fork.
const BLOCK_MAX: usize = 64;

/// Entries of a block below which it is looked for a neighbour to be merged with.
const BLOCK_SPARSE: usize = BLOCK_MAX / 2;

/// Entries of a block that was merged, at most: some come before it is split again.
const BLOCK_MERGED_MAX: usize = BLOCK_MAX * 3 / 4;

/// A place in the order.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub score: f64,
    pub member: &'a [u8],
}

/// Nodes in the order of (score, member).
#[derive(Debug)]
pub(super) struct Tree {
    root: Branch,
    len: usize,
    census: Census,
}

/// How many blocks there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Census {
    leaves: usize,
    forks: usize,
}

#[derive(Debug)]
enum Branch {
    Leaf(Box<Block>),
    Fork(Box<Fork>),
}

/// Scores with the numbers of their nodes, in order.
#[derive(Debug)]
struct Block {
    len: usize,
    scores: [f64; BLOCK_MAX],
    ids: [NodeId; BLOCK_MAX],
}

#[derive(Debug)]
struct Fork {
    /// The least entry of each child.
    least: Block,
    /// Entries below each child, at least one.
    counts: [u32; BLOCK_MAX],
    /// All at the same height.
    children: Vec<Branch>,
}

/// Which ends of the whole order a block lies at.
#[derive(Clone, Copy)]
struct Ends {
    first: bool,
    last: bool,
}

impl Tree {
    pub fn new() -> Tree {
        Tree { root: Branch::Leaf(Box::default()), len: 0, census: Census { leaves: 1, forks: 0 } }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a node that is not there.
    pub fn insert(&mut self, nodes: &Nodes, key: Key<'_>, id: NodeId) {
        self.len += 1;
        let ends = Ends { first: true, last: true };
        let Some(upper) = self.root.insert(nodes, key, id, ends, &mut self.census) else { return };
        let lower = std::mem::replace(&mut self.root, upper);
        let upper = std::mem::replace(&mut self.root, Branch::Fork(Box::new(Fork::new())));
        self.census.forks += 1;
        let Branch::Fork(root) = &mut self.root else { return };
        root.insert(0, lower);
        root.insert(1, upper);
    }

    /// Takes a node out that is there, at `key`.
    pub fn remove(&mut self, nodes: &Nodes, key: Key<'_>, id: NodeId) {
        self.root.remove(nodes, key, id, &mut self.census);
        self.removed();
    }

    /// Takes the node of a rank out, which is below the length.
    pub fn remove_rank(&mut self, rank: usize) -> NodeId {
        assert!(rank < self.len, "there is a node of that rank");
        let id = self.root.remove_rank(rank, &mut self.census);
        self.removed();
        id
    }

    fn removed(&mut self) {
        self.len -= 1;
        while let Branch::Fork(fork) = &mut self.root
            && fork.children.len() == 1
            && let Some(only) = fork.children.pop()
        {
            self.census.forks -= 1;
            self.root = only;
        }
    }

    /// Lets the node at `key` have another number.
    pub fn renumber(&mut self, nodes: &Nodes, key: Key<'_>, from: NodeId, to: NodeId) {
        let mut branch = &mut self.root;
        loop {
            match branch {
                Branch::Leaf(leaf) => {
                    let at = leaf.before(nodes, key);
                    assert_eq!(leaf.ids[at], from, "a node stands where its score and member belong");
                    leaf.ids[at] = to;
                    return;
                }
                Branch::Fork(fork) => {
                    let child = fork.child_with(nodes, key, from);
                    if fork.least.ids[child] == from {
                        fork.least.ids[child] = to;
                    }
                    branch = &mut fork.children[child];
                }
            }
        }
    }

    /// How many nodes stand before `key`.
    pub fn rank(&self, nodes: &Nodes, key: Key<'_>) -> usize {
        self.descend(|block| block.before(nodes, key))
    }

    /// How many nodes stand before the first that is not `before`, which holds for a beginning of the order.
    pub fn partition_point(&self, before: impl Fn(f64, NodeId) -> bool) -> usize {
        self.descend(|block| block.partition_point(&before))
    }

    /// How many nodes stand before a place, of which each block says how many of its own do.
    fn descend(&self, before: impl Fn(&Block) -> usize) -> usize {
        let (mut branch, mut rank) = (&self.root, 0);
        loop {
            match branch {
                Branch::Leaf(leaf) => return rank + before(leaf),
                Branch::Fork(fork) => {
                    // The first of all stands at the place, or behind it.
                    let Some(child) = before(&fork.least).checked_sub(1) else { return rank };
                    rank += fork.count_before(child);
                    branch = &fork.children[child];
                }
            }
        }
    }

    /// The numbers from rank `rank` on.
    pub fn upwards(&self, rank: usize) -> impl Iterator<Item = (f64, NodeId)> {
        let (mut rank, mut ids, mut scores) = (rank, [].iter(), [].iter());
        std::iter::from_fn(move || {
            if ids.len() == 0 {
                let (leaf, at) = self.leaf_of(rank)?;
                (scores, ids) = (leaf.scores[at..leaf.len].iter(), leaf.ids[at..leaf.len].iter());
            }
            rank += 1;
            Some((*scores.next()?, *ids.next()?))
        })
    }

    /// The numbers before rank `end`, the last one first.
    pub fn downwards(&self, end: usize) -> impl Iterator<Item = (f64, NodeId)> {
        let (mut end, mut ids, mut scores) = (end, [].iter(), [].iter());
        std::iter::from_fn(move || {
            if ids.len() == 0 {
                let (leaf, at) = self.leaf_of(end.checked_sub(1)?)?;
                (scores, ids) = (leaf.scores[..=at].iter(), leaf.ids[..=at].iter());
            }
            end -= 1;
            Some((*scores.next_back()?, *ids.next_back()?))
        })
    }

    /// The leaf that has the node of a rank, and where there.
    fn leaf_of(&self, rank: usize) -> Option<(&Block, usize)> {
        if rank >= self.len {
            return None;
        }
        let (mut branch, mut left) = (&self.root, rank);
        loop {
            match branch {
                Branch::Leaf(leaf) => return Some((leaf, left)),
                Branch::Fork(fork) => {
                    let child;
                    (child, left) = fork.child_of(left);
                    branch = &fork.children[child];
                }
            }
        }
    }

    /// Drops up to `leaves` leaves; only dropping the whole may follow. `true`: at most one is left.
    pub fn release(&mut self, leaves: usize) -> bool {
        let Branch::Fork(root) = &mut self.root else { return true };
        for _ in 0..leaves {
            if root.children.is_empty() {
                return true;
            }
            root.drop_last_leaf();
        }
        root.children.is_empty()
    }

    /// Bytes of memory outside the tree itself. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        self.census.leaves * size_of::<Block>() + self.census.forks * Fork::BYTES
    }

    /// Asserts what must hold between calls.
    #[cfg(test)]
    pub fn invariants(&self, nodes: &Nodes) {
        let mut census = Census::default();
        let (mut order, mut heights) = (Vec::new(), Vec::new());
        self.root.invariants(0, &mut census, &mut order, &mut heights);
        assert_eq!((self.len, self.census), (order.len(), census));
        heights.dedup();
        assert_eq!(heights.len(), 1, "all leaves are at the same height");
        assert!(order.iter().all(|(score, id)| nodes.get(*id).score.to_bits() == score.to_bits()));
        let keys = order.iter().map(|(score, id)| (*score, &*nodes.get(*id).member));
        assert!(keys.is_sorted_by(|a, b| super::compare((a.1, a.0), (b.1, b.0)).is_lt()));
    }
}

impl Branch {
    /// As [`Tree::insert`]. Returns the upper part of what was too full.
    fn insert(&mut self, nodes: &Nodes, key: Key<'_>, id: NodeId, ends: Ends, census: &mut Census) -> Option<Branch> {
        match self {
            Branch::Leaf(leaf) => {
                let at = leaf.before(nodes, key);
                if leaf.len < BLOCK_MAX {
                    leaf.insert(at, key.score, id);
                    return None;
                }
                let cut = match at {
                    BLOCK_MAX if ends.last => BLOCK_MAX,
                    0 if ends.first => 0,
                    _ => BLOCK_MAX / 2,
                };
                let mut upper = Box::new(leaf.split_off(cut));
                match at {
                    BLOCK_MAX if cut == BLOCK_MAX => upper.insert(0, key.score, id),
                    at if at <= cut => leaf.insert(at, key.score, id),
                    at => upper.insert(at - cut, key.score, id),
                }
                census.leaves += 1;
                Some(Branch::Leaf(upper))
            }
            Branch::Fork(fork) => {
                let before = fork.least.before(nodes, key);
                let child = before.saturating_sub(1);
                let width = fork.children.len();
                let ends = Ends { first: ends.first && child == 0, last: ends.last && child + 1 == width };
                let split = fork.children[child].insert(nodes, key, id, ends, census);
                fork.counts[child] += 1;
                if before == 0 {
                    fork.least.set(0, key.score, id);
                }
                let new = split?;
                fork.counts[child] -= new.count();
                let at = child + 1;
                if width < BLOCK_MAX {
                    fork.insert(at, new);
                    return None;
                }
                let cut = if at == BLOCK_MAX && ends.last { BLOCK_MAX } else { BLOCK_MAX / 2 };
                let mut upper = Box::new(fork.split_off(cut));
                match at {
                    BLOCK_MAX if cut == BLOCK_MAX => upper.insert(0, new),
                    at if at <= cut => fork.insert(at, new),
                    at => upper.insert(at - cut, new),
                }
                census.forks += 1;
                Some(Branch::Fork(upper))
            }
        }
    }

    /// As [`Tree::remove`].
    fn remove(&mut self, nodes: &Nodes, key: Key<'_>, id: NodeId, census: &mut Census) {
        match self {
            Branch::Leaf(leaf) => {
                let at = leaf.before(nodes, key);
                assert!(at < leaf.len && leaf.ids[at] == id, "a node stands where its score and member belong");
                leaf.remove(at);
            }
            Branch::Fork(fork) => {
                let child = fork.child_with(nodes, key, id);
                fork.children[child].remove(nodes, key, id, census);
                fork.removed(child, id, census);
            }
        }
    }

    /// As [`Tree::remove_rank`].
    fn remove_rank(&mut self, rank: usize, census: &mut Census) -> NodeId {
        match self {
            Branch::Leaf(leaf) => {
                let id = leaf.ids[rank];
                leaf.remove(rank);
                id
            }
            Branch::Fork(fork) => {
                let (child, rank) = fork.child_of(rank);
                let id = fork.children[child].remove_rank(rank, census);
                fork.removed(child, id, census);
                id
            }
        }
    }

    /// The first entry of all below.
    fn least(&self) -> (f64, NodeId) {
        let block = match self {
            Branch::Leaf(leaf) => leaf,
            Branch::Fork(fork) => &fork.least,
        };
        (block.scores[0], block.ids[0])
    }

    /// Entries below.
    fn count(&self) -> u32 {
        match self {
            Branch::Leaf(leaf) => leaf.len as u32,
            Branch::Fork(fork) => fork.counts[..fork.least.len].iter().sum(),
        }
    }

    #[cfg(test)]
    fn invariants(&self, height: usize, census: &mut Census, order: &mut Vec<(f64, NodeId)>, heights: &mut Vec<usize>) {
        match self {
            Branch::Leaf(leaf) => {
                census.leaves += 1;
                heights.push(height);
                order.extend(leaf.scores.iter().copied().zip(leaf.ids).take(leaf.len));
            }
            Branch::Fork(fork) => {
                census.forks += 1;
                assert_eq!((fork.least.len, fork.children.capacity()), (fork.children.len(), BLOCK_MAX));
                for (at, child) in fork.children.iter().enumerate() {
                    assert_eq!((fork.least.scores[at], fork.least.ids[at]), child.least());
                    assert_eq!(fork.counts[at], child.count());
                    assert!(child.count() > 0);
                    child.invariants(height + 1, census, order, heights);
                }
            }
        }
    }
}

impl Census {
    fn drop(&mut self, branch: &Branch) {
        match branch {
            Branch::Leaf(_) => self.leaves -= 1,
            Branch::Fork(_) => self.forks -= 1,
        }
    }
}

impl Fork {
    const BYTES: usize = size_of::<Fork>() + BLOCK_MAX * size_of::<Branch>();

    fn new() -> Fork {
        Fork { least: Block::default(), counts: [0; BLOCK_MAX], children: Vec::with_capacity(BLOCK_MAX) }
    }

    /// The child that has this node, which is there.
    #[inline]
    fn child_with(&self, nodes: &Nodes, key: Key<'_>, id: NodeId) -> usize {
        let before = self.least.before(nodes, key);
        if before < self.least.len && self.least.ids[before] == id { before } else { before.saturating_sub(1) }
    }

    /// The child that has the entry of a rank, and its rank there.
    #[inline]
    fn child_of(&self, mut rank: usize) -> (usize, usize) {
        let mut child = 0;
        while rank >= self.counts[child] as usize {
            rank -= self.counts[child] as usize;
            child += 1;
        }
        (child, rank)
    }

    /// An entry below a child is gone.
    fn removed(&mut self, child: usize, id: NodeId, census: &mut Census) {
        self.counts[child] -= 1;
        if self.counts[child] == 0 {
            census.drop(&self.remove(child));
            return;
        }
        if self.least.ids[child] == id {
            let (score, id) = self.children[child].least();
            self.least.set(child, score, id);
        }
        if self.width(child) < BLOCK_SPARSE {
            self.merge(child, census);
        }
    }

    /// Entries below all children before this one.
    #[inline]
    fn count_before(&self, child: usize) -> usize {
        self.counts[..child].iter().map(|count| *count as usize).sum()
    }

    /// Entries of a child itself, or its children.
    #[inline]
    fn width(&self, child: usize) -> usize {
        match &self.children[child] {
            // A leaf's entries are counted here: it need not be looked at.
            Branch::Leaf(_) => self.counts[child] as usize,
            Branch::Fork(fork) => fork.children.len(),
        }
    }

    fn insert(&mut self, at: usize, child: Branch) {
        let (score, id) = child.least();
        self.counts.copy_within(at..self.least.len, at + 1);
        self.counts[at] = child.count();
        self.least.insert(at, score, id);
        self.children.insert(at, child);
    }

    fn remove(&mut self, at: usize) -> Branch {
        self.counts.copy_within(at + 1..self.least.len, at);
        self.least.remove(at);
        self.children.remove(at)
    }

    fn split_off(&mut self, cut: usize) -> Fork {
        let mut upper = Fork::new();
        upper.counts[..BLOCK_MAX - cut].copy_from_slice(&self.counts[cut..]);
        upper.least = self.least.split_off(cut);
        upper.children.extend(self.children.drain(cut..));
        upper
    }

    /// Merges a sparse child with a neighbour, where that leaves room.
    fn merge(&mut self, child: usize, census: &mut Census) {
        let neighbours = [child.checked_sub(1), Some(child)].into_iter().flatten();
        let fits =
            |at: &usize| at + 1 < self.children.len() && self.width(*at) + self.width(at + 1) <= BLOCK_MERGED_MAX;
        let Some(at) = neighbours.into_iter().find(fits) else { return };
        let count = self.counts[at + 1];
        let upper = self.remove(at + 1);
        census.drop(&upper);
        self.counts[at] += count;
        match (&mut self.children[at], upper) {
            (Branch::Leaf(lower), Branch::Leaf(upper)) => lower.append(&upper),
            (Branch::Fork(lower), Branch::Fork(mut upper)) => {
                let (from, more) = (lower.least.len, upper.least.len);
                lower.counts[from..from + more].copy_from_slice(&upper.counts[..more]);
                lower.least.append(&upper.least);
                lower.children.append(&mut upper.children);
            }
            (Branch::Leaf(_), Branch::Fork(_)) | (Branch::Fork(_), Branch::Leaf(_)) => {
                unreachable!("children are at the same height")
            }
        }
    }

    fn drop_last_leaf(&mut self) {
        match self.children.last_mut() {
            Some(Branch::Fork(fork)) if fork.children.len() > 1 => fork.drop_last_leaf(),
            Some(Branch::Fork(_) | Branch::Leaf(_)) => _ = self.children.pop(),
            None => {}
        }
    }
}

impl Default for Block {
    fn default() -> Block {
        Block { len: 0, scores: [0.0; BLOCK_MAX], ids: [0; BLOCK_MAX] }
    }
}

impl Block {
    /// How many entries stand before `key`.
    #[inline]
    fn before(&self, nodes: &Nodes, key: Key<'_>) -> usize {
        let scores = &self.scores[..self.len];
        // Reading all is faster than searching: the lines come together, and no branch is guessed.
        let lower = scores.iter().map(|score| u64::from(*score < key.score)).sum::<u64>() as usize;
        if scores.get(lower) != Some(&key.score) {
            return lower;
        }
        let equal = scores[lower..].iter().map(|score| u64::from(*score == key.score)).sum::<u64>() as usize;
        lower + self.ids[lower..lower + equal].partition_point(|id| *nodes.get(*id).member < *key.member)
    }

    #[inline]
    fn partition_point(&self, before: impl Fn(f64, NodeId) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = (low + high) / 2;
            match before(self.scores[middle], self.ids[middle]) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    #[inline]
    fn set(&mut self, at: usize, score: f64, id: NodeId) {
        (self.scores[at], self.ids[at]) = (score, id);
    }

    #[inline]
    fn insert(&mut self, at: usize, score: f64, id: NodeId) {
        self.scores.copy_within(at..self.len, at + 1);
        self.ids.copy_within(at..self.len, at + 1);
        self.set(at, score, id);
        self.len += 1;
    }

    #[inline]
    fn remove(&mut self, at: usize) {
        self.scores.copy_within(at + 1..self.len, at);
        self.ids.copy_within(at + 1..self.len, at);
        self.len -= 1;
    }

    /// Takes the entries of a full block from `cut` on.
    fn split_off(&mut self, cut: usize) -> Block {
        let mut upper = Block { len: BLOCK_MAX - cut, ..Block::default() };
        upper.scores[..upper.len].copy_from_slice(&self.scores[cut..]);
        upper.ids[..upper.len].copy_from_slice(&self.ids[cut..]);
        self.len = cut;
        upper
    }

    fn append(&mut self, upper: &Block) {
        self.scores[self.len..self.len + upper.len].copy_from_slice(&upper.scores[..upper.len]);
        self.ids[self.len..self.len + upper.len].copy_from_slice(&upper.ids[..upper.len]);
        self.len += upper.len;
    }
}
