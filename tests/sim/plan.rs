//! What a seed decides before anything runs.

use fastrand::Rng;
use kevy_replicate::id::ShardCount;
use kevy_replicate::shard::memory::{MemoryLimit, Policy};

/// Most shards of a node that comes back with any number of them.
pub const SHARDS_MAX: u16 = 4;

/// The shape of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Shards of the primary.
    pub primary_shards: u16,
    /// Shards of each replica.
    pub replica_shards: Vec<u16>,
    /// Bytes of a shard's backlog.
    pub window_bytes: usize,
    /// Bytes of a dump step.
    pub piece_bytes: usize,
    /// Whether the two ends agree on check lines.
    pub checks: bool,
    /// Where they do, a bit flips in one in this many sends.
    pub flip_every: u64,
    /// Bytes of a value that is dumped whole. More than a number has: what is added to is no part of a value.
    pub value_piece_bytes: usize,
    /// Every so manyeth piece of a slot is sent damaged, with a check that fits.
    pub damage_every: u64,
    /// Bytes of a step of a digest.
    pub digest_step_bytes: usize,
    /// Slots whose digests a primary tells in a second.
    pub scrub_slots_per_second: u32,
    /// One in this many ticks spoils a key of a replica.
    pub spoil_every: u64,
    /// Bytes of dump items that wait for a link.
    pub dump_queue_bytes: usize,
    /// Ticks for which a walk waits for a link that has no room.
    pub walk_patience: u64,
    /// Batches that a ring between puller and owner holds.
    pub ring_batches: usize,
    /// Bytes that a puller reads at once, at most.
    pub read_bytes: usize,
    /// What shards of a replica do in a tick, at most, after each link was looked at.
    pub turns: usize,
    /// Bytes that a link holds in each direction.
    pub link_bytes: usize,
    /// Whether every link holds so many; else some hold less.
    pub equal_links: bool,
    /// Ticks that bytes travel, at most.
    pub delay_max: u64,
    /// Distinct hash tags, so distinct slots with keys.
    pub tags: usize,
    /// Distinct keys of a tag and type.
    pub keys: usize,
    /// Whether writes during a sync are aimed at the states that were met least.
    pub aims: bool,
    /// Writes before anything else, at most.
    pub preload: u64,
    /// Ticks with faults and writes.
    pub ticks: u64,
    /// Commands of a tick, at most.
    pub writes_per_tick: usize,
    /// Ticks for which a link that was cut stays away, less than one of these.
    pub pauses: &'static [u64],
    /// One in this many ticks cuts a link.
    pub cut_every: u64,
    /// One in this many ticks restarts a replica.
    pub replica_restart_every: u64,
    /// One in this many ticks restarts the primary.
    pub primary_restart_every: u64,
    /// Whether nodes come back from a restart with any number of shards.
    pub reshapes: bool,
    /// One in this many writes is a FLUSHALL.
    pub flush_every: u64,
    /// Bytes that the keys of a shard of the primary may take; 0: any number. Those of a replica may take none.
    pub memory_bytes: usize,
}

impl Plan {
    pub fn of(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed ^ 0x9e37_79b9_7f4a_7c15);
        let mut one_of = |choices: &[u64]| choices[rng.usize(..choices.len())];
        let primary_shards = one_of(&[1, 1, 2, 3]) as u16;
        let replicas = one_of(&[1, 1, 2, 3]) as usize;
        let same_counts = one_of(&[0, 0, 1]) == 1;
        let replica_shards =
            (0..replicas).map(|_| if same_counts { primary_shards } else { one_of(&[1, 2, 3, 4]) as u16 }).collect();
        let plan = Plan {
            seed,
            primary_shards,
            replica_shards,
            window_bytes: one_of(&[1, 200, 1_000, 4_000, 100_000]) as usize,
            piece_bytes: one_of(&[1, 1, 60, 100_000]) as usize,
            value_piece_bytes: one_of(&[40, 40, 100, 65_536]) as usize,
            checks: one_of(&[1, 1, 1, 0]) == 1,
            flip_every: one_of(&[20, 200, 1_000_000]),
            damage_every: one_of(&[5, 20, 1_000_000]),
            digest_step_bytes: one_of(&[1, 1, 300, 128 << 10]) as usize,
            scrub_slots_per_second: one_of(&[0, 16, 100]) as u32,
            spoil_every: one_of(&[20, 100, 1_000_000]),
            dump_queue_bytes: one_of(&[1, 131_200, 132_000, 1 << 20]) as usize,
            walk_patience: one_of(&[0, 0, 5, 50]),
            ring_batches: one_of(&[1, 1, 2, 8]) as usize,
            read_bytes: one_of(&[50, 1_000, 100_000]) as usize,
            turns: one_of(&[2, 6, 20]) as usize,
            link_bytes: one_of(&[64, 300, 2_000, 20_000, 300_000]) as usize,
            equal_links: false,
            delay_max: one_of(&[0, 1, 5, 20]),
            tags: one_of(&[2, 4, 8]) as usize,
            keys: one_of(&[1, 4, 20, 40]) as usize,
            aims: true,
            preload: one_of(&[0, 100, 1_000]),
            ticks: one_of(&[100, 200, 400]),
            writes_per_tick: one_of(&[1, 2, 4]) as usize,
            pauses: &[1, 1, 40, 40, 40, 40, 40, 400],
            cut_every: one_of(&[10, 30, 100]),
            replica_restart_every: one_of(&[60, 200, 1_000_000]),
            primary_restart_every: one_of(&[150, 1_000_000, 1_000_000, 1_000_000]),
            flush_every: one_of(&[30, 100, 1_000]),
            reshapes: one_of(&[0, 1]) == 1,
            memory_bytes: one_of(&[0, 0, 0, 0, 0, 2_000, 10_000, 30_000]) as usize,
        };
        if seed % 4 == 3 { plan.with_long_syncs(&mut one_of) } else { plan }
    }

    /// A shape in which nothing goes wrong, and nothing is narrow.
    pub fn calm(primary_shards: u16, replica_shards: &[u16]) -> Plan {
        Plan {
            seed: 1,
            primary_shards,
            replica_shards: replica_shards.to_vec(),
            window_bytes: 16 << 20,
            piece_bytes: 1 << 20,
            value_piece_bytes: 64 << 10,
            checks: true,
            flip_every: u64::MAX,
            damage_every: u64::MAX,
            dump_queue_bytes: 1 << 20,
            digest_step_bytes: 300,
            scrub_slots_per_second: 16,
            spoil_every: u64::MAX,
            walk_patience: 50,
            ring_batches: 8,
            read_bytes: 100_000,
            turns: 20,
            link_bytes: 20_000,
            equal_links: true,
            delay_max: 1,
            tags: 3,
            keys: 3,
            aims: false,
            preload: 0,
            ticks: 0,
            writes_per_tick: 1,
            pauses: &[3],
            cut_every: u64::MAX,
            replica_restart_every: u64::MAX,
            primary_restart_every: u64::MAX,
            reshapes: false,
            flush_every: u64::MAX,
            memory_bytes: 0,
        }
    }

    /// How much shards of the primary may hold, and those of its replicas, of which `used` is taken from the beginning.
    pub fn memory_limits(&self, used: usize) -> Option<[MemoryLimit; 2]> {
        let (policy, _) = Policy::ALL[self.seed as usize % Policy::ALL.len()];
        let limit = |bytes| MemoryLimit { bytes, policy, samples: 5 };
        (self.memory_bytes > 0).then(|| [limit(used + self.memory_bytes), limit(1)])
    }

    /// How many shards the primary may ever have.
    pub fn primary_counts(&self) -> Vec<ShardCount> {
        let counts = if self.reshapes { 1..=SHARDS_MAX } else { self.primary_shards..=self.primary_shards };
        counts.filter_map(ShardCount::new).collect()
    }

    /// The same shape with syncs that take long: large slots in small pieces over narrow links, in a window that holds.
    fn with_long_syncs(self, one_of: &mut impl FnMut(&[u64]) -> u64) -> Plan {
        Plan {
            window_bytes: 1 << 20,
            piece_bytes: one_of(&[1, 60]) as usize,
            flip_every: one_of(&[200, 1_000_000]),
            damage_every: one_of(&[5, 20]),
            link_bytes: one_of(&[300, 2_000]) as usize,
            delay_max: one_of(&[0, 1, 5]),
            tags: 8,
            keys: one_of(&[4, 20]) as usize,
            preload: 1_000,
            ticks: 400,
            cut_every: one_of(&[30, 100]),
            replica_restart_every: 100,
            primary_restart_every: u64::MAX,
            flush_every: 1_000,
            memory_bytes: 0,
            ..self
        }
    }
}
