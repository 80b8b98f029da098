//! What clients write: few keys of few slots, so that everything meets everything.

#[path = "../support/commands.rs"]
mod commands;

use std::collections::HashSet;

use commands::Draw;
use fastrand::Rng;
use kevy_replicate::id::{HashSlot, ShardCount, SlotRange};
use kevy_replicate::store::command::{find, table};
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

    /// A key of a type in a slot that clients write to.
    pub fn key_in(&self, slot: HashSlot, kind: Option<&str>, rng: &mut Rng) -> String {
        let (_, tag) = self.tags.iter().find(|(of, _)| *of == slot).expect("one of the slots");
        let kind = kind.unwrap_or_else(|| commands::KINDS[rng.usize(..commands::KINDS.len())]);
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
        let tags = self.tags.iter().filter(|(slot, _)| range.contains(*slot)).map(|(_, tag)| tag.as_str()).collect();
        commands::draw(&mut Client { rng, tags, keys: self.keys, now_ms, number: self.counter })
    }
}

/// A client of one shard.
struct Client<'a> {
    rng: &'a mut Rng,
    tags: Vec<&'a str>,
    keys: usize,
    now_ms: u64,
    number: u64,
}

impl Draw for Client<'_> {
    fn below(&mut self, end: usize) -> usize {
        self.rng.usize(..end)
    }

    fn key(&mut self, kind: &str) -> String {
        format!("{}{kind}{}", self.tags[self.rng.usize(..self.tags.len())], self.rng.usize(..self.keys))
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn number(&self) -> u64 {
        self.number
    }
}

pub fn args(args: &[&str]) -> Args {
    args.iter().map(|arg| arg.as_bytes().to_vec()).collect()
}

/// A command that clients never say is one that nobody has seen go wrong.
#[test]
fn every_write_command_is_drawn() {
    const NOT_DRAWN: [(&str, &str); 2] = [
        ("flushdb", "with one database it is FLUSHALL, which requests are now and then"),
        ("move", "always refused: there is one database"),
    ];
    let mut rng = Rng::with_seed(1);
    let mut workload = Workload::new(&[ShardCount::ONE], 2, 3, 1_000);
    let mut drawn = HashSet::new();
    for _ in 0..50_000 {
        let request = workload.request(SlotRange::ALL, 1_000_000, &mut rng);
        drawn.extend(request.commands().iter().map(|command| command[0].to_ascii_lowercase()));
    }
    for (name, why) in NOT_DRAWN {
        assert!(find(name.as_bytes()).is_some() && !drawn.contains(name.as_bytes()), "{name}: {why}");
    }
    let is_left_out = |name: &str| NOT_DRAWN.iter().any(|(other, _)| *other == name);
    let writes = table::all().iter().filter(|spec| spec.writes()).map(|spec| spec.name);
    let missing: Vec<&str> = writes.filter(|name| !drawn.contains(name.as_bytes()) && !is_left_out(name)).collect();
    assert!(missing.is_empty(), "never drawn: {missing:?}");
}
