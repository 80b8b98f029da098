//! The node as each of its shards knows it: its settings, its name, and what it follows.
//!
//! ```text
//! Shared (one, immutable but for counters)     Node (one a shard)
//!   config, run id, replica id, process run ◀──  what this shard pulls and owns
//!                                                shard 0: the upstream, and the task that keeps it followed
//! ```

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::admission::Freshness;
use super::clients::Clients;
use super::config::{Config, HostPort, Machine, Role};
use super::exchange::{Exchange, Listening};
use super::gate::Gate;
use super::identity::Identity;
use super::settings::Settings;
use super::upstream::{Upstream, Wish};
use crate::handshake::{Lineage, ReplicaId};
use crate::id::{Generation, Moment, Offset, ShardCount, ShardId};
use crate::runtime::clock::now;
use crate::runtime::puller::{Standing, Stop};
use crate::runtime::signal::Signal;
use crate::shard;
use crate::shard::following::Policy;
use crate::slotset::SlotSet;
use crate::source::{Source, SourceConfig, Timeouts};

/// What all shards share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The settings it was started with.
    pub config: Config,
    /// 40 hexadecimal digits, random at every start.
    pub run_id: String,
    /// Random at every start: tells this process's links from those of another with the same id.
    pub run: u64,
    /// The name under which an upstream remembers this node.
    pub replica_id: ReplicaId,
    /// The file that it is to be kept in, once it is needed.
    pub replica_id_file: Option<PathBuf>,
    /// When it started.
    pub started: Instant,
    /// How many keys each shard holds, as of its last tick.
    pub keys: Vec<AtomicU64>,
    /// Client connections that are open.
    pub clients: AtomicU64,
    /// The number of the next client.
    pub next_client: AtomicU64,
    /// How many clients listen to messages or commands.
    pub listening: Listening,
    /// How often a stream was set up to be pulled.
    pub set_ups: AtomicU64,
    /// How often an upstream was begun to be followed.
    pub follows: AtomicU64,
    /// Whether clients may write, as far as replicas decide it.
    pub gate: Gate,
    /// When the upstream was last heard, as far as clients' reads depend on it.
    pub freshness: Freshness,
    /// What the machine allowed at the start.
    pub machine: Machine,
    /// Client connections that the limit of open files has room for.
    pub maxclients_most: u64,
}

/// The node, on one shard.
pub(super) struct Node {
    pub shared: Arc<Shared>,
    /// What this shard pulls, and how to end it.
    pub pulls: RefCell<Pulls>,
    /// On shard 0: what is followed.
    pub upstream: RefCell<Option<Rc<Upstream>>>,
    /// On shard 0: what is wanted next, until the task that brings it about takes it.
    pub wish: RefCell<Option<Wish>>,
    /// Raised with every wish.
    pub wished: Signal,
    /// The clients of this shard.
    pub clients: Clients,
    /// Who listens on this shard.
    pub exchange: Exchange,
    /// Until when clients wait, if they do.
    pub pause: Cell<Option<Pause>>,
    /// Where clients of a cluster find the primary, on a replica that emulates one; looked up now and then.
    pub primary: RefCell<Option<HostPort>>,
    /// The time of the last tick: for what need not be known better.
    pub clock: Cell<Moment>,
    /// What `CONFIG SET` may change.
    pub settings: RefCell<Settings>,
}

/// `CLIENT PAUSE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pause {
    /// Until then.
    pub until: Moment,
    /// Whether only those wait that would write.
    pub writes_only: bool,
}

/// The streams that one shard pulls.
#[derive(Default)]
pub(super) struct Pulls {
    pub stop: Rc<Stop>,
    pub streams: Vec<(ShardId, Rc<RefCell<Standing>>)>,
    /// Pullers that have not come to their end.
    pub running: Rc<Cell<usize>>,
}

impl Shared {
    /// A node that begins now.
    pub fn new(config: Config, identity: Identity, machine: Machine, maxclients_most: u64) -> Shared {
        let shards = config.shards.get();
        Shared {
            run_id: format!("{:016x}{:016x}{:08x}", random(), random(), random() as u32),
            run: random(),
            replica_id: identity.id,
            replica_id_file: identity.unkept,
            started: Instant::now(),
            keys: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            clients: AtomicU64::new(0),
            next_client: AtomicU64::new(1),
            listening: Listening::new(shards),
            set_ups: AtomicU64::new(0),
            follows: AtomicU64::new(0),
            gate: Gate::new(config.min_replicas_to_write),
            freshness: Freshness::new(config.replica_max_staleness_ms),
            config,
            machine,
            maxclients_most,
        }
    }

    /// The part in replication with which a shard starts. A replica begins as a primary's opposite: it follows nothing yet, and
    /// serves nothing.
    pub fn first_role(&self, shard: ShardId, generation: Generation) -> shard::Role {
        match self.config.role {
            Role::Standalone => shard::Role::Standalone,
            Role::Primary => primary(&self.config, shard, generation, true),
            Role::Replica => {
                let upstream_shards = self.config.upstream_shards.unwrap_or(ShardCount::ONE);
                replica(&self.config, shard, upstream_shards, SlotSet::empty())
            }
        }
    }
}

/// A primary's part, of a history that begins now.
fn primary(config: &Config, shard: ShardId, generation: Generation, born_empty: bool) -> shard::Role {
    let mut source = Source::new(SourceConfig {
        shard,
        shards: config.shards,
        generation,
        born_empty,
        lineage: Lineage::none(),
        first: Offset::ZERO,
        backlog_bytes: config.replication_buffer_size as usize,
        reconnect_window_ms: config.reconnect_window_ms,
        client_port: Some(config.port),
    });
    source.set_password(config.requirepass.clone());
    let mut source = if config.replication_checksum { source } else { source.without_checks() };
    source.set_scrub_slots_per_second(config.scrub_slots_per_second);
    shard::Role::Primary(Box::new(source))
}

/// A replica's part, of an upstream with this many shards; `kept` may be read as it is until it is replaced.
fn replica(config: &Config, shard: ShardId, upstream_shards: ShardCount, kept: SlotSet) -> shard::Role {
    let range = config.shards.slots_of(shard);
    let following = shard::Following::new(range, upstream_shards, policy(config)).keeping(kept);
    shard::Role::Replica(Box::new(following))
}

/// What a replica's clients may do.
fn policy(config: &Config) -> Policy {
    Policy { read_only: config.replica_read_only, serve_stale: config.serve_stale }
}

impl Node {
    /// Whether every command of every client is looked at by itself.
    #[inline]
    pub fn looks_closely(&self) -> bool {
        self.shared.listening.is_monitored() || self.pause.get().is_some()
    }

    /// A primary's part, of a history that begins now.
    pub fn primary(&self, shard: ShardId, generation: Generation, born_empty: bool) -> shard::Role {
        primary(&self.settings.borrow(), shard, generation, born_empty)
    }

    /// A replica's part, of an upstream with this many shards; `kept` may be read as it is until it is replaced.
    pub fn replica(&self, shard: ShardId, upstream_shards: ShardCount, kept: SlotSet) -> shard::Role {
        replica(&self.settings.borrow(), shard, upstream_shards, kept)
    }

    /// What a replica's clients may do.
    pub fn policy(&self) -> Policy {
        policy(&self.settings.borrow())
    }

    /// When links speak, and when they are given up.
    pub fn timeouts(&self) -> Timeouts {
        let settings = self.settings.borrow();
        Timeouts { heartbeat_ms: settings.heartbeat_ms, link_timeout_ms: settings.link_timeout_ms }
    }

    /// The node on one shard, following nothing.
    pub fn new(shared: Arc<Shared>) -> Rc<Node> {
        Rc::new(Node {
            settings: RefCell::new(Settings::new(&shared.config)),
            shared,
            clients: Clients::default(),
            exchange: Exchange::default(),
            pause: Cell::new(None),
            primary: RefCell::new(None),
            clock: Cell::new(now()),
            pulls: RefCell::default(),
            upstream: RefCell::new(None),
            wish: RefCell::new(None),
            wished: Signal::new(),
        })
    }
}

thread_local! {
    /// The node on the shard of this thread: what a call that arrives by a lane works on.
    static HERE: RefCell<Option<Rc<Node>>> = const { RefCell::new(None) };
}

impl Node {
    /// Makes this node the one of this thread.
    pub fn settle_here(self: &Rc<Node>) {
        HERE.with_borrow_mut(|here| *here = Some(Rc::clone(self)));
    }

    /// The node of this thread.
    ///
    /// # Panics
    /// On a thread that is no shard's.
    pub fn here() -> Rc<Node> {
        HERE.with_borrow(|here| Rc::clone(here.as_ref().expect("called on a shard's thread")))
    }
}

/// A random number from the system's seed of hashing.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// A generation that nobody had before.
pub(super) fn new_generation() -> Generation {
    loop {
        // RESP integers are signed, and other implementations may store it in one.
        if let Some(generation) = Generation::new(random() >> 1) {
            return generation;
        }
    }
}
