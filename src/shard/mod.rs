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
pub mod memory;
pub mod meter;
pub mod router;
pub mod waiting;

pub use batch::{Batch, Body, Done, FrameBatch, Gate};
pub use following::{Following, Offered, Refused};
use memory::{Memory, MemoryLimit};
pub use router::Router;
pub use waiting::{Claim, Served, Waiter};

use self::meter::Meter;
use crate::id::{Generation, HashSlot, Moment, Offset, ShardCount, ShardId, SlotRange, UnixMs};
use crate::limits;
use crate::resp::Reply;
use crate::slotset::SlotSet;
use crate::snapshot::{Keyspace, Located};
use crate::source::Source;
use crate::source::scrub::Scrubbed;
use crate::store::command::refusal::NO_MEMORY;
use crate::store::command::{Context, Flags, Lazy, Random, Spec, del, execute, group, has_expired, next_due, take_due};
use crate::store::{KeyspaceStore, Looks, Message, ScanCursor, hash};
use crate::wire::{Argv, Command, Effects, Room};

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
    /// What commands cost.
    pub meter: Meter,
    /// How much it may hold.
    memory: Memory,
    /// Where the walk goes on that looks for keys which have expired.
    expire_next: ScanCursor,
    /// Whether there is such a walk.
    expires_actively: bool,
    /// What one group may take of the stream.
    room: Room,
    /// What the transaction under way has done so far.
    group: Option<Group>,
    /// Clients that wait for one of its keys.
    waiting: waiting::Waiting,
}

/// The effects of a transaction, until they are recorded as one.
#[derive(Debug)]
struct Group {
    effects: Vec<Command>,
    /// For those to come.
    room: Room,
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

impl Group {
    fn push(&mut self, effects: Effects, argv: Argv<'_>) {
        let from = self.effects.len();
        match effects {
            Effects::None => {}
            Effects::Verbatim => self.effects.push(Command::of(argv)),
            Effects::One(command) => self.effects.push(command),
            Effects::Group(commands) => self.effects.extend(commands),
        }
        let fits = self.effects[from..].iter().try_for_each(|command| self.room.take_command(command));
        debug_assert!(fits.is_ok() || self.effects.len() == 1, "a command does no more than it has room for");
        if self.effects.len() >= limits::GROUP_FRAMES_MAX / 2 {
            self.room = Room::new(0);
        }
    }
}

/// Tells those who watch one of the keys that these effects change, or wait for one.
#[cold]
fn touch_keys(store: &mut KeyspaceStore, effects: &Effects, argv: Argv<'_>) {
    match effects {
        Effects::None => {}
        Effects::Verbatim => argv.get(1).into_iter().for_each(|key| store.touch(key)),
        Effects::One(command) => command.arg(1).into_iter().for_each(|key| store.touch(key)),
        Effects::Group(commands) => {
            commands.iter().filter_map(|command| command.arg(1)).for_each(|key| store.touch(key))
        }
    }
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
    /// Keys removed because there was no memory left.
    pub evicted_keys: u64,
    /// How often commands that read found a key, and did not.
    pub looks: Looks,
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
            meter: Meter::new(),
            memory: Memory::default(),
            expire_next: ScanCursor::START,
            expires_actively: true,
            room: Room::WHOLE,
            group: None,
            waiting: waiting::Waiting::default(),
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
        Counters { looks: self.store.looks(), ..self.counters }
    }

    /// Counts a command that was executed here and is not about keys.
    pub fn count_command(&mut self) {
        self.counters.commands += 1;
    }

    /// Begins counting anew.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
        self.store.set_looks(Looks::default());
        self.meter.reset_stats();
    }

    /// Executes one command on keys of this shard, appends its reply, records what it did, and serves those who wait for that: the
    /// only way in which a client changes anything. `at` has the places of its keys.
    #[inline]
    pub fn execute(&mut self, spec: &Spec, argv: Argv<'_>, at: &[Located], now: UnixMs, reply: &mut Reply<'_>) {
        self.execute_one(spec, argv, at, now, reply);
        if self.store.awaited.has_ready() && self.group.is_none() {
            self.serve_waiting(now);
        }
    }

    #[inline]
    fn execute_one(&mut self, spec: &Spec, argv: Argv<'_>, at: &[Located], now: UnixMs, reply: &mut Reply<'_>) {
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
        if self.memory.limit().bytes > 0 && spec.flags.has(Flags::DENYOOM) && !self.has_memory(now) {
            reply.error(NO_MEMORY);
            return;
        }
        let looks = self.store.looks();
        let mut context = Context {
            store: &mut self.store,
            now,
            random: &mut self.random,
            lazy,
            room: self.group.as_ref().map_or(self.room, |group| group.room),
            expired_keys: &mut self.counters.expired_keys,
        };
        let effects = execute(spec, &mut context, at, argv, reply);
        // As Redis counts: what writes says nothing of how good a cache this is.
        if writes {
            self.store.set_looks(looks);
        }
        if effects != Effects::None {
            self.record(effects, argv);
        }
    }

    /// Limits what it holds, from now on.
    pub fn set_memory_limit(&mut self, limit: MemoryLimit, now: UnixMs) {
        self.memory.set_limit(limit, &mut self.store, now);
    }

    /// How much it may hold.
    pub fn memory_limit(&self) -> MemoryLimit {
        self.memory.limit()
    }

    /// Whether a command that may need memory is executed: keys go until there is some, or as many as may at a time. Inside a transaction
    /// none goes, so that its effects are only its own. A replica holds what its primary holds.
    #[cold]
    fn has_memory(&mut self, now: UnixMs) -> bool {
        if matches!(self.role, Role::Replica(_)) || !self.memory.is_over(&self.store) {
            return true;
        }
        if self.group.is_none() {
            self.evict(now);
        }
        !(self.memory.is_over(&self.store) && self.memory.is_hopeless())
    }

    /// Evicts keys while it is over its limit, but not too many at a time: to be called now and then, and before commands that need
    /// memory. Never on a replica.
    pub fn evict(&mut self, now: UnixMs) {
        self.store.tick(now);
        if matches!(self.role, Role::Replica(_)) {
            return;
        }
        for _ in 0..limits::EVICTIONS_MAX {
            if !self.memory.is_over(&self.store) {
                return;
            }
            let Some((at, key)) = self.memory.choose(&self.store, &mut self.random, now) else { return };
            self.delete(at, &key);
            self.counters.evicted_keys += 1;
        }
    }

    /// Whether keys that have expired are deleted where nobody asks for them; off for tests alone.
    pub fn set_expires_actively(&mut self, on: bool) {
        self.expires_actively = on;
    }

    /// Deletes keys and fields of hashes that have expired, of the next keys in a walk over those slots that have some which expire: one step
    /// of what nobody who reads does. `true`: many had, and the next step is worth its time at once. A replica waits for its primary's word.
    pub fn expire_some(&mut self, now: UnixMs) -> bool {
        let has_some = self.store.expires() > 0 || self.store.has_times();
        if !self.expires_actively || matches!(self.role, Role::Replica(_)) || !has_some {
            return false;
        }
        let (mut looked, mut expired) = (0, Vec::new());
        let (mut timed, mut due) = (Vec::new(), Vec::new());
        let began = self.expire_next;
        self.expire_next = self.store.scan_expiring(began, limits::EXPIRY_STEP_KEYS, |entry| {
            looked += usize::from(entry.expiry().is_some());
            if has_expired(&entry, now) {
                expired.push(Box::<[u8]>::from(entry.key()));
            } else if let Some(next) = next_due(&entry) {
                looked += 1;
                timed.push(hash::slot_of(entry.key()));
                due.extend((next <= now).then(|| Box::<[u8]>::from(entry.key())));
            }
        });
        timed.iter().for_each(|slot| self.store.note_times(*slot));
        for key in &expired {
            self.delete(self.store.locate(key), key);
        }
        self.counters.expired_keys += expired.len() as u64;
        // So many fields a step, of all hashes together.
        let (mut most, mut emptied) = (limits::EXPIRY_STEP_FIELDS, 0);
        for key in &due {
            if most == 0 {
                break;
            }
            let at = self.store.locate(key);
            // Names too long for a group, even of these few, are left to whoever deletes the key.
            let Ok((effects, taken)) = take_due(&mut self.store, at, key, now, most, &mut { Room::WHOLE }) else {
                continue;
            };
            self.record(group(effects), Argv::new(&[], &[]));
            most -= taken;
            emptied += 1;
        }
        if most == 0 {
            // The same keys may have more.
            self.expire_next = began;
            return true;
        }
        if self.expire_next == ScanCursor::START {
            self.store.end_round();
        }
        (expired.len() + emptied) * 4 > looked
    }

    /// Deletes a key that no command named.
    fn delete(&mut self, at: Located, key: &[u8]) {
        self.store.remove(at, key);
        self.record(Effects::One(del(key)), Argv::new(&[], &[]));
    }

    /// Where its stream stands, where it is a primary's. Compared before and after, it tells whether commands changed anything.
    #[inline]
    pub fn recorded(&self) -> Option<Recorded> {
        self.source().map(|source| Recorded { generation: source.generation(), next: source.next() })
    }

    /// Tells the stream, those who watch and those who wait what the command `argv` did.
    #[inline]
    fn record(&mut self, effects: Effects, argv: Argv<'_>) {
        if self.store.is_looked_at() {
            touch_keys(&mut self.store, &effects, argv);
        }
        if let Role::Primary(source) = &mut self.role {
            match &mut self.group {
                None => {
                    source.record(&effects, argv);
                }
                Some(group) => group.push(effects, argv),
            }
        }
    }

    /// Records a published message, where this shard is a primary's; returns where its stream stands then.
    pub fn publish(&mut self, message: &Message) -> Option<Recorded> {
        if let Role::Primary(source) = &mut self.role {
            source.record(&Effects::One(message.effect()), Argv::new(&[], &[]));
        }
        self.recorded()
    }

    /// Begins a transaction: what is executed from now on is recorded as one group, by [`end_group`](Self::end_group), within
    /// the same borrow.
    pub fn begin_group(&mut self) {
        debug_assert!(self.group.is_none(), "transactions do not nest");
        self.group = Some(Group { effects: Vec::new(), room: self.room });
    }

    /// Ends the transaction, and serves those who wait for what it did.
    pub fn end_group(&mut self, now: UnixMs) {
        if let (Some(group), Role::Primary(source)) = (self.group.take(), &mut self.role)
            && !group.effects.is_empty()
        {
            source.record(&Effects::Group(group.effects), Argv::new(&[], &[]));
        }
        self.serve_waiting(now);
    }

    /// Why a command on keys at `at` is not executed here, if it is not.
    pub fn refusal(&self, spec: &Spec, at: &[Located]) -> Option<Refused> {
        self.following().and_then(|following| following.refusal(spec, at))
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

    /// One step of what finds divergence: on a primary digests are told, on a replica those of large slots are taken. To be made
    /// now and then, and again while there is more.
    pub fn scrub(&mut self, now: Moment) -> Scrubbed {
        match &mut self.role {
            Role::Standalone => Scrubbed::default(),
            Role::Primary(source) => source.scrub(&mut self.store, now),
            Role::Replica(following) => {
                following.prove(&mut self.store);
                Scrubbed::default()
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    use crate::id::{Generation, Offset};
    use crate::resp::{Protocol, decode_multibulk};
    use crate::snapshot::Keyspace;
    use crate::source::SourceConfig;
    use crate::store::WatchFlag;
    use crate::store::command::find;

    fn primary() -> Shard {
        let source = Source::new(SourceConfig {
            reconnect_window_ms: 1,
            ..SourceConfig::new(ShardId::new(0), ShardCount::ONE, Generation::new(1).unwrap(), 1 << 20)
        });
        Shard::new(ShardId::new(0), ShardCount::ONE, Role::Primary(Box::new(source)), 1)
    }

    fn execute(shard: &mut Shard, command: &str) -> String {
        execute_at(shard, command, UnixMs::new(1))
    }

    fn execute_at(shard: &mut Shard, command: &str, now: UnixMs) -> String {
        let encoded = Command::new(&command.split(' ').collect::<Vec<_>>());
        let mut ranges = Vec::new();
        decode_multibulk(encoded.as_bytes(), &mut ranges).unwrap();
        let argv = Argv::new(encoded.as_bytes(), &ranges);
        let spec = find(argv.arg(0)).unwrap();
        let at: Vec<Located> = spec.keys(argv).map(|index| shard.store.locate(argv.arg(index))).collect();
        let mut out = Vec::new();
        shard.execute(spec, argv, &at, now, &mut Reply::new(&mut out, Protocol::Resp2));
        String::from_utf8(out).unwrap()
    }

    /// What was recorded, as replicas get it.
    fn recorded(shard: &mut Shard) -> String {
        shard.end_turn();
        let backlog = shard.source().unwrap().backlog();
        let mut cursor = backlog.seek(Offset::ZERO).unwrap();
        let bytes = backlog.read(&mut cursor, Offset::MAX, usize::MAX).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_transaction_is_one_group() {
        let mut shard = primary();
        shard.begin_group();
        assert_eq!(execute(&mut shard, "MSET a 1 b 2"), "+OK\r\n");
        assert_eq!(execute(&mut shard, "GET a"), "$1\r\n1\r\n");
        assert!(execute(&mut shard, "LPUSH a 1").starts_with("-WRONGTYPE"));
        assert_eq!(execute(&mut shard, "INCR a"), ":2\r\n");
        shard.end_group(UnixMs::new(1));
        let stream = recorded(&mut shard);
        assert!(stream.starts_with("+GROUP 3\r\n*2\r\n:0\r\n"), "{stream}");
        assert_eq!(stream.matches("+GROUP").count(), 1, "{stream}");
        assert_eq!(shard.source().unwrap().next(), Offset::new(3));
    }

    /// What a transaction of `commands` is answered where a group may have so many bytes.
    fn transaction(bytes: usize, setup: &[String], commands: &[&str]) -> (Shard, Vec<String>) {
        let mut shard = primary();
        setup.iter().for_each(|command| assert!(!execute(&mut shard, command).starts_with('-'), "{command}"));
        shard.room = Room::new(bytes);
        shard.begin_group();
        let replies = commands.iter().map(|command| execute(&mut shard, command)).collect();
        shard.end_group(UnixMs::new(1));
        (shard, replies)
    }

    #[test]
    fn what_is_more_than_one_group_may_carry_changes_nothing() {
        let long = "v".repeat(300);
        for (setup, command) in [
            (&[format!("SET b {long}")][..], "COPY b x"),
            (&[format!("SET b {long}")], "RENAME b x"),
            (&[format!("SADD b {long} n")], &format!("SMOVE b x {long}")),
            (&[format!("RPUSH b {long}")], "LMOVE b x LEFT LEFT"),
            (&[format!("SADD b {long}")], "SUNIONSTORE x b"),
            (&[format!("SADD b 1 2 3 {long}")], "SPOP b 3"),
            (&[], "MSET x 1 y 2 z 3 a 4 b 5 c 6"),
            (&["MSET k 1 l 2 m 3 n 4 o 5".into()], "DEL x k l m n o"),
            (&[], "BITFIELD x SET u8 0 1 SET u8 8 1 SET u8 16 1"),
            (&[], &format!("SET x {long}")),
        ] {
            let (mut shard, replies) = transaction(300, setup, &["SET one 1", command, "GET one"]);
            assert!(replies[1].starts_with("-ERR what this command"), "{command}: {}", replies[1]);
            assert_eq!(replies[2], "$1\r\n1\r\n", "{command}: what reads needs no room");
            assert_eq!(execute(&mut shard, "EXISTS x"), ":0\r\n", "{command}");
            assert_eq!(
                shard.source().unwrap().next().get(),
                shard.store.len() as u64,
                "{command}: only what was before"
            );
        }
    }

    #[test]
    fn a_group_is_never_larger_than_its_room() {
        let copies: Vec<String> = (0..20).map(|n| format!("COPY b x{n}")).collect();
        let copies: Vec<&str> = copies.iter().map(String::as_str).collect();
        let (mut shard, replies) = transaction(2_000, &[format!("SET b {}", "v".repeat(300))], &copies);
        let done = replies.iter().filter(|reply| *reply == ":1\r\n").count();
        assert!((3..=5).contains(&done), "{replies:?}");
        let stream = recorded(&mut shard);
        let group = &stream[stream.find("+GROUP").expect("a group")..];
        assert!(group.len() <= 2_000 + 100, "{}", group.len());
        assert_eq!(group.matches("SET").count(), done);
    }

    #[test]
    fn a_key_is_counted_in_every_piece_of_its_value() {
        let value = "v".repeat(5 * limits::EFFECT_BYTES_TARGET);
        let key = "k".repeat(limits::EFFECT_BYTES_TARGET);
        let mut shard = primary();
        execute(&mut shard, &format!("SET a {value}"));
        shard.room = Room::new(9 * limits::EFFECT_BYTES_TARGET);
        for rename in [format!("RENAME a {key}"), format!("COPY a {key}")] {
            assert!(execute(&mut shard, &rename).starts_with("-ERR what this command"));
        }
        shard.room = Room::new(13 * limits::EFFECT_BYTES_TARGET);
        assert_eq!(execute(&mut shard, &format!("RENAME a {key}")), "+OK\r\n");
    }

    #[test]
    fn keys_that_expired_take_their_room() {
        for command in ["MGET k1 k2 k3 k4 k5 k6", "MSET k1 1 k2 2", "SET k1 1"] {
            let mut shard = primary();
            (1..7).for_each(|n| _ = execute(&mut shard, &format!("SET k{n} v PX 1")));
            shard.room = Room::new(120);
            assert!(
                execute_at(&mut shard, command, UnixMs::new(1_000)).starts_with("-ERR what this command"),
                "{command}"
            );
            assert!(recorded(&mut shard).ends_with("DEL\r\n$2\r\nk1\r\n"), "{command}: that it expired is said");
        }
    }

    #[test]
    fn a_step_takes_so_many_fields_of_all_hashes_together() {
        const HASHES: usize = 5;
        const FIELDS: usize = 400;
        let mut shard = primary();
        let fields: Vec<String> = (0..FIELDS).map(|n| format!("f{n}")).collect();
        let pairs: String = fields.iter().map(|field| format!(" {field} v")).collect();
        for n in 0..HASHES {
            execute(&mut shard, &format!("HSET h{n} stays v{pairs}"));
            execute(&mut shard, &format!("HPEXPIREAT h{n} 5 FIELDS {FIELDS} {}", fields.join(" ")));
        }
        let fields_left = |shard: &mut Shard| -> usize {
            (0..HASHES).map(|n| execute(shard, &format!("HLEN h{n}"))[1..].trim().parse::<usize>().unwrap()).sum()
        };
        assert!(shard.expire_some(UnixMs::new(50)));
        assert_eq!(fields_left(&mut shard), HASHES * (FIELDS + 1) - limits::EXPIRY_STEP_FIELDS);
        while shard.expire_some(UnixMs::new(50)) {}
        assert_eq!(fields_left(&mut shard), HASHES);
    }

    #[test]
    fn fields_that_expired_go_without_being_asked_for() {
        let mut shard = primary();
        let fields: Vec<String> = (0..limits::EXPIRY_STEP_FIELDS + 10).map(|n| format!("f{n}")).collect();
        let pairs: String = fields.iter().map(|field| format!(" {field} v")).collect();
        execute(&mut shard, &format!("HSET large g w{pairs}"));
        execute(&mut shard, &format!("HPEXPIREAT large 5 FIELDS {} {}", fields.len(), fields.join(" ")));
        for n in 0..100 {
            execute(&mut shard, &format!("HSET h{n} f v g w"));
            execute(&mut shard, &format!("HPEXPIREAT h{n} {} FIELDS 1 f", 5 + n % 2 * 100));
            execute(&mut shard, &format!("HPEXPIREAT h{n} 5 FIELDS {} g", 1));
        }
        let before = recorded(&mut shard).len();
        assert!(shard.expire_some(UnixMs::new(50)), "half of them had some, and one has more");
        while shard.expire_some(UnixMs::new(50)) {}
        let said = recorded(&mut shard).split_off(before);
        // Two fields of a hash with two are the hash.
        assert_eq!((said.matches("\r\nDEL\r\n").count(), said.matches("\r\nHDEL\r\n").count()), (50, 52));
        assert_eq!(shard.store.len(), 51);
        assert_eq!(execute(&mut shard, "HLEN large"), ":1\r\n");
        assert!(shard.store.has_times());
        (0..2).for_each(|_| _ = shard.expire_some(UnixMs::new(500)));
        assert_eq!(shard.store.len(), 1);
        (0..2).for_each(|_| _ = shard.expire_some(UnixMs::new(500)));
        assert!(!shard.store.has_times(), "nobody walks through slots for nothing");
        // Where what is left was loaded, it is known again.
        execute_at(&mut shard, "HSETEX large PX 9 FIELDS 1 f v", UnixMs::new(500));
        assert_eq!(execute_at(&mut shard, "HKEYS large", UnixMs::new(509)), "*1\r\n$1\r\ng\r\n");
    }

    #[test]
    fn what_gets_a_time_behind_the_walk_is_found_by_the_next_round() {
        // So many that a round takes several steps.
        const STAY: usize = 3 * limits::EXPIRY_STEP_KEYS;
        let mut shard = primary();
        (0..STAY).for_each(|n| _ = execute(&mut shard, &format!("SET stays{n} v PXAT 1000000")));
        let (mut now, mut made, mut rounds) = (10, 0, 0);
        // What is to go, by the round in which it got its time.
        let mut to_go: Vec<(String, usize)> = Vec::new();
        while rounds < 30 {
            let began = shard.expire_next;
            shard.expire_some(UnixMs::new(now));
            rounds += usize::from(shard.expire_next == ScanCursor::START && began != ScanCursor::START);
            let is_there = |shard: &Shard, key: &str| {
                let (at, key) = (shard.store.locate(key.as_bytes()), key.as_bytes());
                shard.store.get(at, key).is_some()
            };
            to_go.retain(|(key, round)| {
                assert!(rounds <= round + 2, "{key} is forgotten since round {round}");
                is_there(&shard, key)
            });
            // Some where the walk has been already, some where it comes, some in slots of which nothing else expires.
            for _ in 0..5 {
                made += 1;
                let at = UnixMs::new(now);
                execute_at(&mut shard, &format!("SET gone{made} v"), at);
                execute_at(&mut shard, &format!("PEXPIREAT gone{made} {}", now + 1), at);
                execute_at(&mut shard, &format!("HSET hash{made} f v"), at);
                execute_at(&mut shard, &format!("HPEXPIREAT hash{made} {} FIELDS 1 f", now + 1), at);
                to_go.extend([(format!("gone{made}"), rounds), (format!("hash{made}"), rounds)]);
            }
            now += 10;
        }
        assert!(made > 200, "{made}");
        let end = now + 20;
        while !to_go.is_empty() {
            shard.expire_some(UnixMs::new(now));
            to_go.retain(|(key, _)| shard.store.get(shard.store.locate(key.as_bytes()), key.as_bytes()).is_some());
            now += 1;
            assert!(now < end, "{to_go:?}");
        }
        assert_eq!(shard.store.len(), STAY);
    }

    #[test]
    fn a_transaction_that_changes_nothing_is_not_recorded() {
        let mut shard = primary();
        shard.begin_group();
        execute(&mut shard, "DEL nosuch");
        shard.end_group(UnixMs::new(1));
        assert_eq!(shard.source().unwrap().next(), Offset::ZERO);
        shard.begin_group();
        execute(&mut shard, "SET a 1");
        shard.end_group(UnixMs::new(1));
        assert!(recorded(&mut shard).starts_with("*2\r\n:0\r\n"), "one effect needs no group");
    }

    #[test]
    fn every_way_to_change_a_key_is_told_to_those_who_watch_it() {
        for (change, touches) in [
            ("SET k 2", true),
            ("DEL k", true),
            ("DEL other k", true),
            ("MSET other 1 k 2", true),
            ("RENAME k k2", true),
            ("EXPIRE k 100", true),
            ("FLUSHALL", true),
            ("SET other 1", false),
            ("GET k", false),
            ("SETNX k 9", false),
            ("LPUSH k 1", false),
        ] {
            let mut shard = primary();
            execute(&mut shard, "SET k 1");
            execute(&mut shard, "SET other 1");
            let flag = WatchFlag::default();
            shard.store.watched.add(b"k", &flag);
            execute(&mut shard, change);
            assert_eq!(flag.is_set(), touches, "{change}");
        }
    }
}
