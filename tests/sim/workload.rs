//! What clients write: few keys of few slots, so that everything meets everything.

use fastrand::Rng;
use kevy_replicate::id::{HashSlot, ShardCount, ShardId};
use kevy_replicate::store::hash;

pub type Args = Vec<Vec<u8>>;

/// Writes commands for one primary.
pub struct Workload {
    /// The hash tags whose slots each shard owns.
    tags: Vec<Vec<String>>,
    keys: usize,
    flush_every: u64,
    counter: u64,
}

impl Workload {
    /// About `tags` hash tags over `shards` shards, at least two a shard.
    pub fn new(shards: ShardCount, tags: usize, keys: usize, flush_every: u64) -> Workload {
        let per_shard = (tags / usize::from(shards.get())).max(2);
        let mut of_shard = vec![Vec::new(); usize::from(shards.get())];
        for number in 0.. {
            let tag = format!("{{{number}}}");
            let owner = shards.owner(hash::locate(tag.as_bytes()).slot);
            if of_shard[owner.index()].len() < per_shard {
                of_shard[owner.index()].push(tag);
            }
            if of_shard.iter().all(|tags| tags.len() == per_shard) {
                break;
            }
        }
        Workload { tags: of_shard, keys, flush_every, counter: 0 }
    }

    /// The slots of a shard that ever hold a key.
    pub fn slots(&self, shard: ShardId) -> impl Iterator<Item = HashSlot> + '_ {
        self.tags[shard.index()].iter().map(|tag| hash::slot_of(tag.as_bytes()))
    }

    fn key(&self, shard: ShardId, kind: &str, rng: &mut Rng) -> String {
        let tags = &self.tags[shard.index()];
        format!("{}{kind}{}", tags[rng.usize(..tags.len())], rng.usize(..self.keys))
    }

    /// A key of a type in a slot that clients write to.
    pub fn key_in(&self, shard: ShardId, slot: HashSlot, kind: Option<&str>, rng: &mut Rng) -> String {
        let tag = self.tags[shard.index()].iter().find(|tag| hash::slot_of(tag.as_bytes()) == slot);
        let kind = kind.unwrap_or_else(|| KINDS[rng.usize(..KINDS.len())]);
        format!("{}{kind}{}", tag.expect("one of the slots"), rng.usize(..self.keys))
    }

    /// A command whose keys are all of `shard`. `now_ms` is the primary's clock.
    pub fn command(&mut self, shard: ShardId, now_ms: u64, rng: &mut Rng) -> Args {
        self.counter += 1;
        if rng.u64(..self.flush_every) == 0 {
            return args(&["FLUSHALL"]);
        }
        let n = self.counter.to_string();
        // A key of any type now and then: what holds a value of another type answers with an error, or is replaced.
        let any = |rng: &mut Rng| KINDS[rng.usize(..KINDS.len())];
        let key = |kind: &str, rng: &mut Rng| self.key(shard, kind, rng);
        let member = || format!("m{}", small(self.counter));
        let soon = (now_ms + rng.u64(1..60)).to_string();
        let index = rng.i8(-4..4).to_string();
        match rng.u8(..42) {
            0..2 => args(&["SET", &key("s", rng), &n]),
            2 => args(&["SET", &key(any(rng), rng), &"v".repeat(rng.usize(..300))]),
            3..7 => args(&["APPEND", &key("s", rng), &n]),
            7..9 => args(&["INCR", &key("n", rng)]),
            9..11 => args(&["RPUSH", &key("l", rng), &n]),
            11 => args(&["LPUSH", &key("l", rng), &n, &n]),
            12 => args(&["LPOP", &key("l", rng)]),
            13 => args(&["RPOP", &key("l", rng)]),
            14..16 => args(&["HINCRBY", &key("h", rng), &member(), "7"]),
            16 => args(&["HSET", &key("h", rng), &member(), &n]),
            17 => args(&["HDEL", &key("h", rng), "m0", "m1", "m2"]),
            18 => args(&["SADD", &key("e", rng), &member(), &n]),
            19 => args(&["SREM", &key("e", rng), &member()]),
            20 => args(&["ZADD", &key("z", rng), &n, &member()]),
            21 => args(&["ZREM", &key("z", rng), &member()]),
            22 => args(&["DEL", &key(any(rng), rng)]),
            23 => args(&["DEL", &key(any(rng), rng), &key(any(rng), rng)]),
            24 => args(&["RPUSH", &key("x", rng), &n]),
            25 => args(&["HSET", &key("x", rng), "f", &n]),
            26..28 => args(&["RENAME", &key(any(rng), rng), &key(any(rng), rng)]),
            28 => args(&["MSET", &key("s", rng), &n, &key("n", rng), &n, &key("x", rng), &n]),
            29 => args(&["SET", &key("s", rng), &n, "PXAT", &soon]),
            30 => args(&["PEXPIREAT", &key(any(rng), rng), &soon]),
            31 => args(&["PERSIST", &key(any(rng), rng)]),
            32 => args(&["GET", &key("s", rng)]),
            33 => args(&["SETRANGE", &key("s", rng), &rng.usize(..400).to_string(), &n]),
            34 => args(&["HDEL", &key("h", rng), &member()]),
            35 => args(&["SREM", &key("e", rng), &small_number(self.counter, rng)]),
            36 => args(&["LSET", &key("l", rng), &index, &n]),
            37 => args(&["LINSERT", &key("l", rng), "BEFORE", &small_number(self.counter, rng), &n]),
            38 => args(&["LREM", &key("l", rng), &index, &small_number(self.counter, rng)]),
            39 => args(&["LTRIM", &key("l", rng), "1", "-2"]),
            40 => args(&["LPUSH", &key("l", rng), &n, &"w".repeat(rng.usize(..200))]),
            _ => args(&["SETRANGE", &key("s", rng), &rng.usize(..40).to_string(), &n]),
        }
    }
}

/// What keys are for: strings, numbers, lists, hashes, sets, sorted sets, and what changes its type.
const KINDS: [&str; 7] = ["s", "n", "l", "h", "e", "z", "x"];

/// One of the last numbers that were written, often enough.
fn small_number(counter: u64, rng: &mut Rng) -> String {
    counter.saturating_sub(rng.u64(..60)).to_string()
}

fn small(counter: u64) -> u64 {
    counter.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60
}

pub fn args(args: &[&str]) -> Args {
    args.iter().map(|arg| arg.as_bytes().to_vec()).collect()
}
