//! One shard, without its executor: a part of the keyspace and its part in replication. Synchronous; no I/O, no clock.
//!
//! ```text
//!               ┌────────────────────────── Shard ──────────────────────────┐
//! command ─────▶│ store ── effects ──▶ Role::Primary(Source) ──▶ every link  │
//!               │   ▲                                                        │
//!  Batch  ─────▶│   └── Role::Replica(Following): an Applier a stream        │──▶ Done
//!               └────────────────────────────────────────────────────────────┘
//! ```
//!
//! A replica's shard has no [`Source`]: it cannot record, so nothing that came by a stream is ever recorded again.

pub mod batch;
pub mod following;
pub mod router;

pub use batch::{Batch, Body, Done, FrameBatch, Gate};
pub use following::{Following, Offered};
pub use router::Router;

use crate::id::{Generation, HashSlot, Offset, ShardCount, ShardId, SlotRange, UnixMs};
use crate::resp::Reply;
use crate::slotset::SlotSet;
use crate::snapshot::Located;
use crate::source::Source;
use crate::store::KeyspaceStore;
use crate::store::command::{Context, Lazy, Random, Spec, execute};
use crate::wire::{Argv, Effects};

/// One shard.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    shards: ShardCount,
    /// Its part of the keyspace.
    pub store: KeyspaceStore,
    /// Its part in replication.
    pub role: Role,
    /// Where chance comes from.
    random: Random,
    counters: Counters,
}

/// A shard's part in replication.
#[derive(Debug)]
pub enum Role {
    /// None: writes are not recorded.
    Standalone,
    /// It records what it does, and streams it.
    Primary(Box<Source>),
    /// It applies what upstream streams say.
    Replica(Box<Following>),
}

/// Where a shard's stream stands: everything below `next` of this history is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// The history.
    pub generation: Generation,
    /// The offset of the next frame.
    pub next: Offset,
}

/// What a shard has done so far, for `INFO`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Commands executed here.
    pub commands: u64,
    /// Those of them that may write.
    pub writes: u64,
    /// Keys removed because they had expired.
    pub expired_keys: u64,
}

impl Shard {
    /// Shard `id` of `shards`, with an empty keyspace. `seed` is where its chance begins.
    pub fn new(id: ShardId, shards: ShardCount, role: Role, seed: u64) -> Shard {
        Shard {
            id,
            shards,
            store: KeyspaceStore::new(),
            role,
            random: Random::seeded(seed),
            counters: Counters::default(),
        }
    }

    /// Its number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The slots that it owns.
    pub fn range(&self) -> SlotRange {
        self.shards.slots_of(self.id)
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Executes one command on keys of this shard, appends its reply, and records what it did: the only way in which a client
    /// changes anything. `at` has the places of its keys.
    #[inline]
    pub fn execute(&mut self, spec: &Spec, argv: Argv<'_>, at: &[Located], now: UnixMs, reply: &mut Reply<'_>) {
        self.counters.commands += 1;
        let writes = spec.writes();
        self.counters.writes += u64::from(writes);
        let lazy = match &self.role {
            Role::Standalone | Role::Primary(_) => Lazy::Delete,
            Role::Replica(following) => {
                if let Some(refusal) = following.refusal(spec, at) {
                    reply.error(refusal);
                    return;
                }
                // A replica that takes writes of its own expires what it wrote like any other store.
                if writes { Lazy::Delete } else { Lazy::Hide }
            }
        };
        let mut context = Context {
            store: &mut self.store,
            now,
            random: &mut self.random,
            lazy,
            expired_keys: &mut self.counters.expired_keys,
        };
        let effects = execute(spec, &mut context, at, argv, reply);
        if let Role::Primary(source) = &mut self.role
            && effects != Effects::None
        {
            source.record(&effects, argv);
        }
    }

    /// Where its stream stands, where it is a primary's. Compared before and after, it tells whether commands changed anything.
    #[inline]
    pub fn recorded(&self) -> Option<Recorded> {
        self.source().map(|source| Recorded { generation: source.generation(), next: source.next() })
    }

    /// A random number.
    pub fn random(&mut self) -> u64 {
        self.random.number()
    }

    /// Ends the turn. `true` if a replica has something to be sent.
    pub fn end_turn(&mut self) -> bool {
        match &mut self.role {
            Role::Primary(source) => source.end_turn(),
            Role::Standalone | Role::Replica(_) => false,
        }
    }

    /// Its source, where it is a primary's.
    pub fn source(&self) -> Option<&Source> {
        match &self.role {
            Role::Primary(source) => Some(source),
            Role::Standalone | Role::Replica(_) => None,
        }
    }

    /// Its source and its keys, where it is a primary's.
    pub fn source_and_store(&mut self) -> Option<(&mut Source, &KeyspaceStore)> {
        match &mut self.role {
            Role::Primary(source) => Some((source, &self.store)),
            Role::Standalone | Role::Replica(_) => None,
        }
    }

    /// What it follows, where it is a replica's.
    pub fn following(&self) -> Option<&Following> {
        match &self.role {
            Role::Replica(following) => Some(following),
            Role::Standalone | Role::Primary(_) => None,
        }
    }

    /// What it follows and its keys, where it is a replica's.
    pub fn following_and_store(&mut self) -> Option<(&mut Following, &mut KeyspaceStore)> {
        match &mut self.role {
            Role::Replica(following) => Some((following, &mut self.store)),
            Role::Standalone | Role::Primary(_) => None,
        }
    }

    /// The slots that may be read here.
    pub fn served(&self) -> SlotSet {
        match &self.role {
            Role::Standalone | Role::Primary(_) => SlotSet::full(self.range()),
            Role::Replica(following) => following.served(),
        }
    }

    /// Whether keys of `slot` may be read here.
    pub fn serves(&self, slot: HashSlot) -> bool {
        self.following().is_none_or(|following| following.serves(slot))
    }
}
