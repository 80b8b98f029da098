//! What clients write: few keys of few slots, so that everything meets everything.

use fastrand::Rng;
use kevy_replicate::id::{HashSlot, ShardCount, SlotRange};
use kevy_replicate::store::hash;

pub type Args = Vec<Vec<u8>>;

/// What a client asks for at once.
#[derive(Clone, Debug)]
pub enum Request {
    /// One command.
    Command(Args),
    /// What stands between a MULTI and its EXEC.
    Transaction(Vec<Args>),
}

impl From<Args> for Request {
    fn from(command: Args) -> Request {
        Request::Command(command)
    }
}

impl Request {
    pub fn commands(&self) -> &[Args] {
        match self {
            Request::Command(command) => std::slice::from_ref(command),
            Request::Transaction(commands) => commands,
        }
    }

    pub fn is_flushall(&self) -> bool {
        self.commands().iter().any(|command| command[0] == b"FLUSHALL")
    }
}

/// Writes commands for one primary.
pub struct Workload {
    /// The hash tags that keys have, with their slots.
    tags: Vec<(HashSlot, String)>,
    keys: usize,
    flush_every: u64,
    counter: u64,
}

impl Workload {
    /// About `tags` hash tags, so many that with each of `counts` there are at least two a shard.
    pub fn new(counts: &[ShardCount], tags: usize, keys: usize, flush_every: u64) -> Workload {
        let mut lacking: Vec<Vec<usize>> =
            counts.iter().map(|count| vec![(tags / usize::from(count.get())).max(2); count.get().into()]).collect();
        let mut chosen = Vec::new();
        for number in 0.. {
            if lacking.iter().flatten().all(|lacking| *lacking == 0) {
                break;
            }
            let tag = format!("{{{number}}}");
            let slot = hash::slot_of(tag.as_bytes());
            let owners: Vec<usize> = counts.iter().map(|count| count.owner(slot).index()).collect();
            if lacking.iter().zip(&owners).any(|(lacking, owner)| lacking[*owner] > 0) {
                lacking.iter_mut().zip(&owners).for_each(|(l, owner)| l[*owner] = l[*owner].saturating_sub(1));
                chosen.push((slot, tag));
            }
        }
        Workload { tags: chosen, keys, flush_every, counter: 0 }
    }

    /// The slots of a range that ever hold a key.
    pub fn slots(&self, range: SlotRange) -> impl Iterator<Item = HashSlot> + '_ {
        self.tags.iter().map(|(slot, _)| *slot).filter(move |slot| range.contains(*slot))
    }

    fn key(&self, range: SlotRange, kind: &str, rng: &mut Rng) -> String {
        let tags: Vec<&String> =
            self.tags.iter().filter(|(slot, _)| range.contains(*slot)).map(|(_, tag)| tag).collect();
        format!("{}{kind}{}", tags[rng.usize(..tags.len())], rng.usize(..self.keys))
    }

    /// A key of a type in a slot that clients write to.
    pub fn key_in(&self, slot: HashSlot, kind: Option<&str>, rng: &mut Rng) -> String {
        let (_, tag) = self.tags.iter().find(|(of, _)| *of == slot).expect("one of the slots");
        let kind = kind.unwrap_or_else(|| KINDS[rng.usize(..KINDS.len())]);
        format!("{tag}{kind}{}", rng.usize(..self.keys))
    }

    /// What a client asks for of the shard that owns `range`. `now_ms` is the primary's clock.
    pub fn request(&mut self, range: SlotRange, now_ms: u64, rng: &mut Rng) -> Request {
        if rng.u64(..self.flush_every) == 0 {
            return args(&["FLUSHALL"]).into();
        }
        if rng.u8(..30) == 0 {
            let commands = 0..rng.usize(1..5);
            return Request::Transaction(commands.map(|_| self.command(range, now_ms, rng)).collect());
        }
        self.command(range, now_ms, rng).into()
    }

    /// A command whose keys are all of `range`.
    fn command(&mut self, range: SlotRange, now_ms: u64, rng: &mut Rng) -> Args {
        self.counter += 1;
        let n = self.counter.to_string();
        // A key of any type now and then: what holds a value of another type answers with an error, or is replaced.
        let any = |rng: &mut Rng| KINDS[rng.usize(..KINDS.len())];
        let key = |kind: &str, rng: &mut Rng| self.key(range, kind, rng);
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
