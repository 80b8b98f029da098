//! What a node remembers of one client.

use super::transaction::{Queue, Watching};
use crate::id::{Generation, Offset, ShardCount, ShardId};
use crate::resp::Protocol;
use crate::shard::Recorded;

/// One client's settings and state.
#[derive(Debug)]
pub(super) struct ClientSession {
    /// Its number, unique on the node.
    pub id: u64,
    /// Where it comes from.
    pub address: String,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// The name it gave itself.
    pub name: Vec<u8>,
    /// The library it says it uses, and its version.
    pub library: [Vec<u8>; 2],
    /// What it has written.
    pub written: Written,
    /// The commands since `MULTI`.
    pub queue: Option<Queue>,
    /// The keys that the next transaction depends on.
    pub watching: Option<Watching>,
}

/// Where each shard's stream stood after the last write of one client there: what `WAIT` waits for.
#[derive(Clone, Default, Debug)]
pub(super) struct Written {
    /// The history that the offsets are of; nothing was written before the first.
    generation: Option<Generation>,
    /// By shard, as far as any was written to; `None`: not this one.
    next: Vec<Option<Offset>>,
}

impl Written {
    /// The client's commands recorded something on `shard`. Of another history than before: that of before is given up, and nobody
    /// has it.
    pub fn note(&mut self, shard: ShardId, recorded: Recorded) {
        if self.generation != Some(recorded.generation) {
            self.generation = Some(recorded.generation);
            self.next.clear();
        }
        if self.next.len() <= shard.index() {
            self.next.resize(shard.index() + 1, None);
        }
        self.next[shard.index()] = Some(recorded.next);
    }

    /// The history, and the shards to which the client wrote with the offset up to which they must be acknowledged. Of a client
    /// that wrote nothing: all shards, from the beginning, so that whoever is whole counts.
    pub fn parts(&self, shards: ShardCount) -> (Option<Generation>, Vec<(ShardId, Offset)>) {
        let written: Vec<_> =
            shards.shards().zip(&self.next).filter_map(|(shard, next)| Some((shard, (*next)?))).collect();
        match self.generation {
            Some(_) => (self.generation, written),
            None => (None, shards.shards().map(|shard| (shard, Offset::ZERO)).collect()),
        }
    }
}

impl ClientSession {
    /// A client that has said nothing yet.
    pub fn new(id: u64, address: String) -> ClientSession {
        ClientSession {
            id,
            address,
            protocol: Protocol::Resp2,
            name: Vec::new(),
            library: [const { Vec::new() }; 2],
            written: Written::default(),
            queue: None,
            watching: None,
        }
    }

    /// Whether its commands are executed as they come, with nothing to be looked at before or after.
    pub fn is_plain(&self) -> bool {
        self.queue.is_none()
    }
}
