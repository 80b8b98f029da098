//! The members of a large sorted set with their scores, by number. Nodes lie in chunks, so that no growth moves more than one, and a
//! short member lies in its node: most are reached with one look at memory.
//!
//! ```text
//! node   32 bytes   │ score │ a member of up to 22 bytes, or where it lies │
//! ```

use std::ops::Deref;

/// A node's number.
pub(super) type NodeId = u32;

/// Nodes of a chunk.
const CHUNK_NODES: usize = 512;

/// Bytes of a member that lies in its node.
const SHORT_BYTES_MAX: usize = 22;

/// One member and its score.
#[derive(Debug)]
pub(super) struct Node {
    /// NaN: the node holds nothing.
    pub score: f64,
    pub member: Member,
}

const _: () = assert!(size_of::<Node>() == 32, "two nodes in a cache line");

impl Node {
    pub fn free() -> Node {
        Node { score: f64::NAN, member: Member::from(&[][..]) }
    }

    pub fn is_free(&self) -> bool {
        self.score.is_nan()
    }
}

/// The bytes of a member.
#[derive(Debug)]
pub(super) enum Member {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Box<[u8]>),
}

impl From<&[u8]> for Member {
    #[inline]
    fn from(member: &[u8]) -> Member {
        let mut bytes = [0; SHORT_BYTES_MAX];
        match bytes.get_mut(..member.len()) {
            Some(place) => {
                place.copy_from_slice(member);
                Member::Short { len: member.len() as u8, bytes }
            }
            None => Member::Long(member.into()),
        }
    }
}

impl Deref for Member {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Member::Short { len, bytes } => &bytes[..usize::from(*len)],
            Member::Long(bytes) => bytes,
        }
    }
}

impl Member {
    /// Bytes of memory outside the node.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Member::Short { .. } => 0,
            Member::Long(bytes) => bytes.len(),
        }
    }
}

/// Nodes by their numbers, from 0 on.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// All but the last one full.
    chunks: Vec<Vec<Node>>,
    len: usize,
}

impl Nodes {
    /// How many there are, those that hold nothing included.
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn get(&self, id: NodeId) -> &Node {
        &self.chunks[id as usize / CHUNK_NODES][id as usize % CHUNK_NODES]
    }

    #[inline]
    pub fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.chunks[id as usize / CHUNK_NODES][id as usize % CHUNK_NODES]
    }

    pub fn push(&mut self, node: Node) {
        self.len += 1;
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_NODES => chunk.push(node),
            // A small set pays for no whole chunk.
            None => self.chunks.push(vec![node]),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK_NODES);
                chunk.push(node);
                self.chunks.push(chunk);
            }
        }
    }

    pub fn pop(&mut self) -> Option<Node> {
        let chunk = self.chunks.last_mut()?;
        let node = chunk.pop();
        if chunk.is_empty() {
            self.chunks.pop();
        }
        self.len -= usize::from(node.is_some());
        node
    }

    /// Bytes of memory, without that of long members. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        let nodes: usize = match &self.chunks[..] {
            [only] => only.capacity(),
            more => more.len() * CHUNK_NODES,
        };
        nodes * size_of::<Node>() + self.chunks.capacity() * size_of::<Vec<Node>>()
    }
}
