//! One cluster in virtual time: who does what in a tick, what goes wrong, and what must hold after it.

mod empty_primary;
mod scenarios;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use fastrand::Rng;
use kevy_replicate::id::{Digest, Generation, HashSlot, Moment, Offset, ShardCount, SlotRange, UnixMs};
use kevy_replicate::limits;
use kevy_replicate::replica::Ask;
use kevy_replicate::slot::State;
use kevy_replicate::snapshot::{Copy, Keyspace};
use kevy_replicate::store::hash;

use crate::events::{Event, Events};
use crate::history::{Crossing, History};
use crate::link::Link;
use crate::matrix::{Cell, Kind, Matrix, Place};
use crate::places::Places;
use crate::plan::{Plan, SHARDS_MAX};
use crate::plant::Plant;
use crate::primary::Primary;
use crate::replica::{Ended, Replica};
use crate::watch::Watch;
use crate::workload::{Args, Request, Workload, args};

/// Ticks within which a healed and quiet cluster must have come to rest.
const TICKS_TO_CONVERGE: u64 = 30_000;

/// The primary's clock at the beginning.
const CLOCK_MS: u64 = 1_700_000_000_000;

pub struct World {
    plan: Plan,
    plant: Plant,
    rng: Rng,
    /// Milliseconds since the beginning: a tick is one.
    now: u64,
    /// The primary's clock at the beginning.
    clock_ms: u64,
    /// By how many milliseconds the clock of each replica is off.
    skews_ms: Vec<i64>,
    events: Events,
    workload: Workload,
    primary: Primary,
    starts: u64,
    replicas: Vec<Replica>,
    replica_starts: u64,
    /// Of each replica and stream.
    links: Vec<Vec<Connection>>,
    /// Connections that their replica has given up and the primary has not: acknowledgements of before may still arrive.
    half_open: Vec<HalfOpen>,
    /// Every history there ever was: of each generation, one a stream.
    archive: HashMap<Generation, Vec<History>>,
    /// What a slot held that a replica does not have whole: until it is replaced or flushed, it may not change.
    stale: HashMap<(usize, HashSlot), Digest>,
    /// Slots that a replica shows as they were before it followed its primary anew, until their stream's sync begins.
    kept: HashSet<(usize, HashSlot)>,
    /// Of each replica and stream: where slots stand behind everything that has arrived.
    places: Vec<Vec<Places>>,
    /// Slots of which a damaged piece was sent to a replica.
    damaged: HashSet<(usize, HashSlot)>,
    /// What was spoiled in a replica's memory and is not yet as it was recorded again.
    spoiled: HashSet<(usize, HashSlot)>,
    /// Whether nothing goes wrong any more.
    healed: bool,
    /// What the workload aimed at so far.
    aimed: Matrix,
    /// A replica that does nothing, and reads nothing.
    stopped: Option<usize>,
    /// Bytes that arrived at replicas.
    arrived: u64,
    /// Of each replica and stream: frames that arrived.
    frames: Vec<Vec<u64>>,
    /// Shards of the primary whose turn has not ended.
    open_turns: Vec<bool>,
    /// The bit of what is sent next on the first link that flips.
    flip: Option<u64>,
    /// Whether it tells what happens.
    traced: bool,
}

/// A connection, or when it is tried again.
enum Connection {
    Down { until: u64 },
    Up { link: Box<Link>, number: usize, watch: Box<Watch>, primary_is_gone: bool, flipped: bool },
}

struct HalfOpen {
    replica: usize,
    stream: usize,
    number: usize,
    link: Box<Link>,
    until: u64,
}

/// Which end notices first that a connection is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Noticed {
    Both,
    Replica,
    Primary,
}

impl World {
    pub fn new(plan: Plan, plant: Plant, traced: bool) -> World {
        let rng = Rng::with_seed(plan.seed);
        let shards = ShardCount::new(plan.primary_shards).expect("a plan has shards");
        let primary = Primary::start(&plan, shards, plant, 0, UnixMs::new(CLOCK_MS));
        let workload = Workload::new(&plan.primary_counts(), plan.tags, plan.keys, plan.flush_every);
        let counts = plan.replica_shards.iter().map(|count| ShardCount::new(*count).expect("a plan has shards"));
        let replicas: Vec<Replica> = counts
            .enumerate()
            .map(|(index, count)| Replica::start(&plan, count, shards, plant, index, index as u64))
            .collect();
        let links = replicas.iter().map(|_| shards.shards().map(|_| Connection::Down { until: 0 }).collect()).collect();
        let mut world = World {
            rng,
            now: 0,
            clock_ms: CLOCK_MS,
            skews_ms: vec![0; replicas.len()],
            events: Events::new(),
            places: replicas.iter().map(|_| shards.shards().map(|_| Places::new()).collect()).collect(),
            aimed: Matrix::new(),
            stopped: None,
            arrived: 0,
            frames: replicas.iter().map(|_| vec![0; usize::from(shards.get())]).collect(),
            damaged: HashSet::new(),
            spoiled: HashSet::new(),
            healed: false,
            workload,
            starts: 1,
            replica_starts: replicas.len() as u64,
            replicas,
            links,
            half_open: Vec::new(),
            archive: HashMap::new(),
            stale: HashMap::new(),
            kept: HashSet::new(),
            open_turns: vec![false; usize::from(shards.get())],
            primary,
            plan,
            plant,
            flip: None,
            traced,
        };
        world.open_histories();
        for index in 0..world.replicas.len() {
            let same = world.plan.replica_shards[index] == world.plan.primary_shards;
            world.events.count(if same { Event::SameShardCounts } else { Event::OtherShardCounts });
        }
        world
    }

    /// Runs with writes and faults, then heals everything, and sees whether all come to rest and are equal.
    pub fn run(mut self) -> Events {
        // Something to sync, more often than not.
        for _ in 0..self.rng.u64(0..=self.plan.preload) {
            self.write();
        }
        for _ in 0..self.plan.ticks {
            for _ in 0..self.rng.usize(0..=self.plan.writes_per_tick) {
                self.write();
            }
            self.strike();
            self.tick();
        }
        self.primary.heal();
        self.plan.flip_every = u64::MAX;
        self.settle();
        self.events
    }

    /// Leaves the cluster alone until all rests, and sees whether all are equal.
    fn settle(&mut self) {
        let healed = self.now;
        self.healed = true;
        while !self.is_at_rest() {
            self.tick();
            for replica in 0..self.replicas.len() {
                self.consent(replica);
            }
            assert!(
                self.now < healed + TICKS_TO_CONVERGE,
                "no rest {TICKS_TO_CONVERGE} ticks after the heal: {self:?}"
            );
        }
        self.check_equal();
    }

    fn trace(&self, what: impl std::fmt::Display) {
        if self.traced {
            println!("{:>6} {what}", self.now);
        }
    }

    fn moment(&self) -> Moment {
        Moment::ZERO.plus_ms(self.now)
    }

    fn open_histories(&mut self) {
        let histories = self.primary.shards.iter().map(|_| History::new()).collect();
        self.archive.insert(self.primary.generation, histories);
    }

    /// One command on some shard, or a few: of the workload, or aimed at what has been met least. Its turn ends now or later.
    fn write(&mut self) {
        let shard = self.rng.usize(..self.primary.shards.len());
        let aimed = if self.plan.aims && self.rng.bool() { self.aim(shard) } else { None };
        let Some((rarity, requests)) = aimed else {
            let clock = self.clock_ms + self.now;
            let loading = if self.plan.aims && self.rng.bool() { self.in_dump(shard) } else { None };
            let slots =
                loading.map_or(self.slots_of(shard), |slot| SlotRange { first: slot.get(), end: slot.get() + 1 });
            let request = self.workload.request(slots, clock, &mut self.rng);
            return self.execute(shard, request);
        };
        requests.into_iter().for_each(|request| self.execute(shard, request));
        // What does not come often is made use of.
        for _ in 0..rarity {
            let Some((_, requests)) = self.aim(shard) else { break };
            requests.into_iter().for_each(|request| self.execute(shard, request));
        }
    }

    /// A slot that is in the middle of its dump, at the end of some stream.
    fn in_dump(&mut self, shard: usize) -> Option<HashSlot> {
        let replica = self.rng.usize(..self.replicas.len());
        let Some(Connection::Up { number, primary_is_gone: false, .. }) = self.links[replica].get(shard) else {
            return None;
        };
        let places = self.primary.shards[shard].places(*number)?;
        self.workload.slots(self.slots_of(shard)).find(|slot| places.of(*slot) == Place::InDump)
    }

    /// The slots that a shard of the primary owns.
    fn slots_of(&self, shard: usize) -> SlotRange {
        self.primary.shards[shard].source().range()
    }

    /// A command on several keys whose slots stand, at the end of some stream that is being synced, as they stood least often; and how
    /// rare that is.
    fn aim(&mut self, shard: usize) -> Option<(u8, Vec<Request>)> {
        let replica = self.rng.usize(..self.replicas.len());
        let Some(Connection::Up { number, primary_is_gone: false, .. }) = self.links[replica].get(shard) else {
            return None;
        };
        let slots = self.workload.slots(self.slots_of(shard));
        let places = self.primary.shards[shard].places(*number)?.while_syncing(slots)?;
        let kinds: Vec<Kind> = Kind::all().collect();
        // FLUSHALL leaves little to aim at.
        let kind = kinds[self.rng.usize(..kinds.len())];
        if kind == Kind::FlushAll && self.rng.u8(0..4) != 0 {
            return None;
        }
        let mut slots: Vec<HashSlot> = places.keys().copied().collect();
        slots.sort_unstable();
        self.rng.shuffle(&mut slots);
        let pairs = slots.iter().flat_map(|source| slots.iter().map(move |target| (*source, *target)));
        let cell = |(source, target): &(HashSlot, HashSlot)| cell(places[source], places[target], source == target);
        let (source, target) =
            pairs.min_by_key(|pair| (self.aimed.get(kind, cell(pair)), Reverse(cell(pair).rarity())))?;
        let rarity = cell(&(source, target)).rarity();
        self.aimed.count(kind, cell(&(source, target)));
        let wanted = kind.type_wanted();
        let mut key = |slot: HashSlot| {
            // One that is there, if one is: what is dumped or not yet dumped is what matters.
            let there = self.primary.shards[shard].keys_in(slot, wanted);
            if there.is_empty() || self.rng.u8(0..4) == 0 {
                self.workload.key_in(slot, wanted, &mut self.rng)
            } else {
                there[self.rng.usize(..there.len())].clone()
            }
        };
        let (source, target) = (key(source), key(target));
        Some((rarity, kind.requests(&source, &target, &self.now.to_string())))
    }

    fn execute(&mut self, shard: usize, request: impl Into<Request>) {
        let request = request.into();
        self.tell(shard);
        if self.rng.u8(0..100) == 0 {
            // Somebody sets the clock.
            self.clock_ms = self.clock_ms.saturating_add_signed(self.rng.i64(-200..200));
        }
        let clock = self.clock_ms + self.now;
        let begin = self.primary.shards[shard].source().next();
        let recorded = self.primary.shards[shard].execute(&request, UnixMs::new(clock), &mut self.events);
        if let Some((kind, keys)) = Kind::of(&request).filter(|_| recorded) {
            let slots = keys.map(|[source, target]| (hash::slot_of(source), hash::slot_of(target)));
            let histories = self.archive.get_mut(&self.primary.generation).expect("it was opened at the start");
            histories[shard].note_command(begin, Crossing { kind, slots });
        }
        // A command that does not fit the segment closes the run before it.
        self.tell(shard);
        if recorded {
            let shown =
                |args: &Args| args.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
            self.trace(format_args!(
                "shard {shard}: {} → {}",
                request.commands().iter().map(shown).collect::<Vec<_>>().join("; "),
                self.primary.shards[shard].source().next()
            ));
            let is_syncing = |link: &Connection| matches!(link, Connection::Up { watch, .. } if watch.syncing);
            let syncing = self.links.iter().any(|links| links.get(shard).is_some_and(is_syncing));
            let flush = request.is_flushall();
            self.events.count(Event::Write);
            self.events.add(Event::WriteDuringSync, syncing.into());
            self.events.add(Event::FlushAll, flush.into());
            self.events.add(Event::FlushAllDuringSync, (flush && syncing).into());
        }
        self.open_turns[shard] = true;
        if self.rng.u8(0..3) != 0 {
            self.end_turn(shard);
        }
    }

    /// A client of a replica looks for a key. It is shown what is there and has not expired by the replica's clock; and nothing changes.
    fn look(&mut self, replica: usize) {
        if self.rng.u8(0..50) == 0 {
            // Somebody sets the clock of the replica.
            self.skews_ms[replica] = self.rng.i64(-200..200);
        }
        let now = UnixMs::new((self.clock_ms + self.now).saturating_add_signed(self.skews_ms[replica]));
        let slots: Vec<HashSlot> = self.workload.slots(SlotRange::ALL).collect();
        let slot = slots[self.rng.usize(..slots.len())];
        let key = self.workload.key_in(slot, None, &mut self.rng);
        let node = &mut self.replicas[replica];
        let before = node.digest(slot);
        let shown = node.ask(&args(&["EXISTS", &key]), now);
        let also = ["GET", "TTL", "PERSIST", "DEL"][self.rng.usize(..4)];
        node.ask(&args(&[also, &key]), now);
        node.tidy(now);
        let expiry = node.expiry(&key);
        let expired = expiry.flatten().is_some_and(|at| at <= now);
        let expected = match expiry {
            _ if !node.shows(slot) => "-LOADING",
            Some(_) if !expired => ":1",
            _ => ":0",
        };
        assert!(
            shown.starts_with(expected),
            "replica {replica}: {key} of {expiry:?} at {now:?} is {expected}, not {shown}"
        );
        assert_eq!(node.digest(slot), before, "replica {replica}: what a client asked for changed slot {slot}");
        self.events.count(if node.shows(slot) { Event::Shown } else { Event::ToldLoading });
        self.events.add(Event::HiddenOnReplica, (expired && node.shows(slot)).into());
    }

    fn end_turn(&mut self, shard: usize) {
        self.primary.shards[shard].end_turn();
        self.open_turns[shard] = false;
        self.tell(shard);
    }

    fn tell(&mut self, shard: usize) {
        let histories = self.archive.get_mut(&self.primary.generation).expect("it was opened at the start");
        self.primary.shards[shard].tell(&mut histories[shard]);
    }

    /// What goes wrong in this tick.
    fn strike(&mut self) {
        let replica = self.rng.usize(..self.replicas.len());
        if self.rng.u64(..self.plan.cut_every) == 0 {
            let stream = self.rng.usize(..self.links[replica].len());
            self.cut(replica, stream);
        }
        self.look(replica);
        if self.rng.u8(0..20) == 0 {
            self.consent(replica);
        }
        if self.rng.u64(..self.plan.spoil_every) == 0 {
            self.spoil(replica);
        }
        if self.rng.u64(..self.plan.replica_restart_every) == 0 {
            let shards = self.count_after(self.replicas[replica].shards());
            self.restart_replica(replica, shards);
        }
        if self.rng.u64(..self.plan.primary_restart_every) == 0 {
            let shards = self.count_after(self.primary.shard_count());
            self.restart_primary(shards);
            // A write before the first replica is back hides that it came back empty, unless one looks at how it began.
            for _ in 0..self.rng.u64(0..4) {
                self.write();
            }
        }
    }

    /// With how many shards a node comes back that has `now`.
    fn count_after(&mut self, now: ShardCount) -> ShardCount {
        let other = self.plan.reshapes && self.rng.bool();
        if other { ShardCount::new(self.rng.u16(1..=SHARDS_MAX)).expect("at least one") } else { now }
    }

    /// The primary's process ends, and another one begins without data.
    fn restart_primary(&mut self, shards: ShardCount) {
        self.events.count(Event::PrimaryRestart);
        self.events.add(Event::PrimaryReshaped, (shards != self.primary.shard_count()).into());
        self.trace(format_args!("the primary restarts, without data, with {shards} shards"));
        (0..self.replicas.len()).for_each(|replica| self.end_all(replica));
        self.half_open.clear();
        let clock = UnixMs::new(self.clock_ms + self.now);
        self.primary = Primary::start(&self.plan, shards, self.plant, self.starts, clock);
        self.starts += 1;
        self.open_turns = vec![false; shards.get().into()];
        self.open_histories();
    }

    /// All connections of a replica end.
    fn end_all(&mut self, replica: usize) {
        (0..self.links[replica].len()).for_each(|stream| self.end(replica, stream, Noticed::Both));
    }

    /// A replica that has drained follows a primary with another number of shards.
    fn follow_anew(&mut self, replica: usize) {
        let shards = self.primary.shard_count();
        self.trace(format_args!("replica {replica} follows anew: {shards} shards"));
        self.events.count(Event::FollowedAnew);
        let node = &mut self.replicas[replica];
        for slot in self.workload.slots(SlotRange::ALL) {
            self.stale.insert((replica, slot), node.digest(slot));
            self.kept.extend(node.shows(slot).then_some((replica, slot)));
        }
        node.set_up(&self.plan, shards);
        self.links[replica] = shards.shards().map(|_| Connection::Down { until: self.now }).collect();
        self.forget_streams(replica);
    }

    fn forget_streams(&mut self, replica: usize) {
        let streams = self.replicas[replica].upstream().get().into();
        self.places[replica] = vec![Places::new(); streams];
        self.frames[replica] = vec![0; streams];
    }

    /// A replica's process ends, and another one begins without data.
    fn restart_replica(&mut self, replica: usize, shards: ShardCount) {
        self.events.count(Event::ReplicaRestart);
        self.events.add(Event::ReplicaReshaped, (shards != self.replicas[replica].shards()).into());
        self.trace(format_args!("replica {replica} restarts with {shards} shards"));
        self.end_all(replica);
        // The end of a process closes all its connections.
        self.half_open.iter_mut().filter(|half| half.replica == replica).for_each(|half| half.until = 0);
        self.pump_half_open();
        let upstream = self.primary.shard_count();
        self.replicas[replica] = Replica::start(&self.plan, shards, upstream, self.plant, replica, self.replica_starts);
        self.replica_starts += 1;
        self.stale.retain(|(of, _), _| *of != replica);
        self.kept.retain(|(of, _)| *of != replica);
        self.spoiled.retain(|(of, _)| *of != replica);
        self.links[replica].resize_with(upstream.get().into(), || Connection::Down { until: self.now });
        self.forget_streams(replica);
    }

    /// Something goes wrong in the memory of a replica.
    fn spoil(&mut self, replica: usize) {
        let node = &self.replicas[replica];
        let stream = self.rng.usize(..usize::from(node.upstream().get()));
        let slots: Vec<HashSlot> = self.workload.slots(node.slots_of(stream)).collect();
        let slot = slots[self.rng.usize(..slots.len())];
        if self.replicas[replica].spoil(stream, slot, &mut self.rng) {
            self.events.count(Event::Spoiled);
            self.trace(format_args!("replica {replica} stream {stream}: slot {slot} is spoiled"));
            self.spoiled.insert((replica, slot));
            self.damaged.insert((replica, slot));
        }
    }

    /// The scrub of a shard goes on. Few of the slots ever hold a key: those come more often than by the round alone.
    fn scrub(&mut self, shard: usize) {
        if self.healed && self.spoiled.is_empty() {
            return;
        }
        let sooner = self.rng.u8(0..40) == 0;
        let slots: Vec<HashSlot> = self.workload.slots(self.slots_of(shard)).collect();
        let first = sooner.then(|| slots[self.rng.usize(..slots.len())]);
        let now = self.moment();
        self.primary.shards[shard].scrub(first, now);
        self.tell(shard);
    }

    /// What a shard of the primary does by itself, now and then.
    fn tidy(&mut self, shard: usize) {
        if self.rng.u8(0..4) == 0 {
            self.tell(shard);
            let (next, clock) = (self.primary.shards[shard].source().next(), UnixMs::new(self.clock_ms + self.now));
            self.primary.shards[shard].tidy(clock, &mut self.events);
            self.tell(shard);
            self.open_turns[shard] |= self.primary.shards[shard].source().next() > next;
        }
    }

    /// The operator's word: what a primary that came back empty holds is to be followed.
    fn consent(&mut self, replica: usize) -> bool {
        let guarded = self.replicas[replica].consent();
        if guarded {
            self.events.count(Event::GuardOverruled);
            self.trace(format_args!("replica {replica} is told to follow"));
        }
        guarded
    }

    /// A connection breaks in the network.
    fn cut(&mut self, replica: usize, stream: usize) {
        let noticed = [Noticed::Both, Noticed::Replica, Noticed::Primary][self.rng.usize(..3)];
        if let Connection::Up { watch, .. } = &mut self.links[replica][stream] {
            self.events.count(Event::Cut);
            self.events.add(Event::CutInFrame, watch.is_in_frame().into());
            self.events.add(Event::CutInDump, watch.is_in_dump().into());
            self.events.add(Event::CutWithRingsFull, (!self.replicas[replica].rings_are_empty(stream)).into());
        }
        self.end(replica, stream, noticed);
    }

    /// A connection ends.
    fn end(&mut self, replica: usize, stream: usize, noticed: Noticed) {
        // Now and then it is away for long, and now and then back before the other end has noticed.
        let pause = self.plan.pauses[self.rng.usize(..self.plan.pauses.len())];
        let until = self.now + self.rng.u64(0..pause);
        let now = self.moment();
        if matches!(self.links[replica][stream], Connection::Up { .. }) {
            self.trace(format_args!("replica {replica} stream {stream}: link ends, noticed by {noticed:?}"));
        }
        match std::mem::replace(&mut self.links[replica][stream], Connection::Down { until }) {
            Connection::Down { until } => self.links[replica][stream] = Connection::Down { until },
            Connection::Up { link, number, watch, flipped, .. } if noticed == Noticed::Primary => {
                self.primary.shards[stream].hang_up(number, now);
                self.links[replica][stream] = Connection::Up { link, number, watch, primary_is_gone: true, flipped };
            }
            Connection::Up { link, number, primary_is_gone, .. } => {
                self.replicas[replica].hang_up(stream);
                self.places[replica][stream].cut();
                if noticed == Noticed::Replica && !primary_is_gone {
                    let until = self.now + self.rng.u64(0..200);
                    self.half_open.push(HalfOpen { replica, stream, number, link, until });
                } else {
                    self.primary.shards[stream].hang_up(number, now);
                }
            }
        }
    }

    /// What a replica said on connections that it has given up arrives, and then their end.
    fn pump_half_open(&mut self) {
        let now = self.moment();
        let World { half_open, primary, rng, events, now: tick, .. } = self;
        half_open.retain_mut(|HalfOpen { stream, number, link, until, .. }| {
            let shard = &mut primary.shards[*stream];
            let arrived = link.up.read(*tick, usize::MAX, rng);
            let ended = shard.receive(*number, &arrived, now, events).is_err()
                || shard.transmit(*number, link.down.room(), now, events).is_err()
                || *tick >= *until;
            if ended {
                shard.hang_up(*number, now);
            }
            !ended
        });
    }

    fn tick(&mut self) {
        self.now += 1;
        self.pump_half_open();
        for shard in 0..self.primary.shards.len() {
            if self.open_turns[shard] && self.rng.u8(0..3) == 0 {
                self.end_turn(shard);
            }
        }
        (0..self.primary.shards.len()).for_each(|shard| self.tidy(shard));
        (0..self.primary.shards.len()).for_each(|shard| self.scrub(shard));
        self.check_queues();
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].reshaping() == Some(true) {
                self.follow_anew(replica);
            }
        }
        let streams =
            |(replica, links): (usize, &Vec<Connection>)| (0..links.len()).map(move |stream| (replica, stream));
        let mut order: Vec<(usize, usize)> = self.links.iter().enumerate().flat_map(streams).collect();
        self.rng.shuffle(&mut order);
        for (replica, stream) in order {
            if self.stopped == Some(replica) {
                continue;
            }
            if self.pump(replica, stream).is_err() {
                self.end(replica, stream, Noticed::Both);
                if self.replicas[replica].reshaping().is_some() {
                    self.end_all(replica);
                }
            }
            (0..self.primary.shards.len()).for_each(|shard| self.tell(shard));
            self.check(replica, stream);
            for _ in 0..self.rng.usize(0..=self.plan.turns) {
                let some = self.rng.usize(..self.replicas.len());
                if self.stopped == Some(some) {
                    continue;
                }
                if let Some((of, asks)) = self.replicas[some].turn(&mut self.rng, &mut self.events) {
                    asks.into_iter().for_each(|ask| self.asked(some, of, ask));
                }
                self.check_all(some);
            }
        }
    }

    /// A replica asks for a slot again: only because it was damaged.
    fn asked(&mut self, replica: usize, stream: usize, Ask { slot, whole }: Ask) {
        let damaged = self.damaged.contains(&(replica, slot));
        assert!(damaged, "replica {replica} stream {stream}: asks for slot {slot}, of which nothing was damaged");
        if !whole {
            self.places[replica][stream].lost(slot);
            if let Connection::Up { number, primary_is_gone: false, .. } = self.links[replica][stream] {
                self.primary.shards[stream].lost(number, slot);
            }
        }
    }

    /// Moves bytes on one link, in both directions.
    fn pump(&mut self, replica: usize, stream: usize) -> Result<(), Ended> {
        let (now, shards) = (self.moment(), self.primary.shards.len());
        if let Connection::Down { until } = self.links[replica][stream] {
            if self.now >= until && stream < shards && self.replicas[replica].reshaping().is_none() {
                self.trace(format_args!(
                    "replica {replica} stream {stream}: dials, {}",
                    self.replicas[replica].show(stream)
                ));
                let (node, shard) = (&mut self.replicas[replica], &mut self.primary.shards[stream]);
                node.dial(stream, now);
                // No two links are equally fast.
                let narrower = if self.plan.equal_links { 0 } else { self.rng.u8(0..5) };
                let capacity = (self.plan.link_bytes >> narrower).max(32);
                self.links[replica][stream] = Connection::Up {
                    link: Box::new(Link::new(capacity, self.plan.delay_max)),
                    number: shard.accept(self.places[replica][stream].clone(), now),
                    watch: Box::new(Watch::new()),
                    primary_is_gone: false,
                    flipped: false,
                };
            }
            return Ok(());
        }
        let (node, shard) = (&mut self.replicas[replica], &mut self.primary.shards[stream]);
        let Connection::Up { link, number, watch, primary_is_gone, flipped } = &mut self.links[replica][stream] else {
            return Ok(());
        };
        let up = node.transmit(stream, link.up.room(), now);
        link.up.write(&up, self.now, &mut self.rng);
        if *primary_is_gone {
            // What it had sent still arrives, and then the end.
            if link.down.is_empty() {
                return Err(Ended);
            }
        } else {
            let arrived = link.up.read(self.now, usize::MAX, &mut self.rng);
            shard.receive(*number, &arrived, now, &mut self.events).map_err(|_| Ended)?;
            let mut down = shard.transmit(*number, link.down.room(), now, &mut self.events).map_err(|_| Ended)?;
            let bits = down.len() as u64 * 8;
            let flip = match &mut self.flip {
                Some(bit) if (replica, stream) == (0, 0) => {
                    let now = (*bit < bits).then_some(*bit);
                    self.flip = bit.checked_sub(bits);
                    now
                }
                _ if self.plan.checks && bits > 0 && self.rng.u64(..self.plan.flip_every) == 0 => {
                    Some(self.rng.u64(..bits))
                }
                _ => None,
            };
            if let Some(bit) = flip {
                self.events.count(Event::BitFlipped);
                *flipped = true;
                down[bit as usize / 8] ^= 1 << (bit % 8);
            }
            link.down.write(&down, self.now, &mut self.rng);
            self.damaged.extend(shard.take_damaged().into_iter().map(|slot| (replica, slot)));
        }
        if node.can_receive(stream) {
            let room = self.rng.usize(1..=self.plan.read_bytes);
            let arrived = link.down.read(self.now, room, &mut self.rng);
            self.arrived += arrived.len() as u64;
            let (range, same_shape) = (node.slots_of(stream), usize::from(node.upstream().get()) == shards);
            let (slots, histories) = (&self.workload, &self.archive[&self.primary.generation]);
            let (history, matrix, frames) =
                (&histories[stream], &mut self.events.matrix, &mut self.frames[replica][stream]);
            watch.see(&arrived, &mut self.places[replica][stream], |places, offset| {
                *frames += 1;
                let Some(crossing) = history.command(offset).filter(|_| same_shape) else { return };
                let slots = slots.slots(range);
                if let Some(places) = places.while_syncing(slots) {
                    count_cells(matrix, crossing, &places, |slot| history.digest(slot, offset) != Digest::default());
                }
            });
            self.events.add(Event::Begun, std::mem::take(&mut watch.begun));
            let [lists, others] = std::mem::take(&mut watch.value_pieces);
            self.events.add(Event::ListPiece, lists);
            self.events.add(Event::ValuePiece, others);
            self.events.add(Event::Dropped, std::mem::take(&mut watch.dropped));
            node.receive(stream, &arrived, *flipped, now, &mut self.events)?;
        }
        Ok(())
    }

    /// Whether nothing is left to do.
    fn is_at_rest(&self) -> bool {
        !self.open_turns.contains(&true)
            && self.spoiled.iter().all(|(replica, _)| self.stopped == Some(*replica))
            && self.replicas.iter().enumerate().filter(|(index, _)| self.stopped != Some(*index)).all(|(index, node)| {
                node.upstream() == self.primary.shard_count() && node.reshaping().is_none() && self.primary.shards.iter().enumerate().all(|(stream, shard)| {
                    matches!(&self.links[index][stream], Connection::Up { link, number, .. } if link.is_idle() && shard.has_sent(*number))
                        && node.follows(stream, self.primary.generation)
                        && self.counted_ack(index, stream) == Some(shard.source().next())
                })
            })
    }

    /// What the primary counts as applied by this replica.
    fn counted_ack(&self, replica: usize, stream: usize) -> Option<Offset> {
        let id = self.replicas[replica].id();
        let slot = self.primary.shards.get(stream)?.source().slots().iter().find(|(known, _)| known.as_str() == id)?.1;
        match slot.state {
            State::Connected { .. } => slot.counted_ack(),
            State::Away { .. } => None,
        }
    }

    fn check_all(&mut self, replica: usize) {
        for stream in 0..self.links[replica].len() {
            self.check(replica, stream);
        }
    }

    /// What waits for links is bounded, at every step.
    fn check_queues(&self) {
        for source in self.primary.shards.iter().map(|shard| shard.source()) {
            for (_, queued) in source.links().filter_map(|link| source.bytes_behind(link)) {
                let (item, lines) = (limits::DUMP_SLOTS_BYTES_MAX, 1_024);
                assert!(queued <= self.plan.dump_queue_bytes + item + lines, "{queued} dump bytes wait for a link");
            }
        }
    }

    /// What must hold of one stream of one replica, at every step.
    fn check(&mut self, replica: usize, stream: usize) {
        let node = &self.replicas[replica];
        let acked = self.counted_ack(replica, stream);
        if acked.is_some() {
            self.events.count(Event::CountedAck);
            assert!(
                node.follows(stream, self.primary.generation),
                "replica {replica} stream {stream}: an ack of another history counts"
            );
            assert_eq!(
                node.missing(stream),
                0,
                "replica {replica} stream {stream}: an ack counts, and slots are missing"
            );
        }
        for owner in 0..node.owners() {
            let Some((generation, applied)) = self.replicas[replica].applied(stream, owner) else {
                self.check_kept(replica, stream, owner);
                continue;
            };
            let node = &self.replicas[replica];
            let history = &self.archive[&generation][stream];
            assert!(applied <= history.head(), "replica {replica} stream {stream}: beyond what was recorded");
            let slots = node.range(stream, owner);
            for slot in self.workload.slots(slots) {
                self.kept.remove(&(replica, slot));
                if let Some(acked) = acked {
                    assert!(
                        !history.concerns(slot, applied, acked),
                        "replica {replica} stream {stream} owner {owner}: {acked} is acknowledged, slot {slot} stands at {applied}"
                    );
                }
                assert_eq!(
                    node.serves(owner, slot),
                    node.is_done(stream, owner, slot),
                    "replica {replica} stream {stream} owner {owner}: slot {slot} is shown exactly if it is whole"
                );
                let live = node.store(owner).digest(Copy::Live, slot);
                if node.is_done(stream, owner, slot) {
                    let torn = history.group_around(applied).is_some_and(|end| history.concerns(slot, applied, end));
                    assert!(
                        !torn,
                        "replica {replica} stream {stream} owner {owner}: at {applied} a group is visible in part"
                    );
                    self.stale.remove(&(replica, slot));
                    let recorded = history.digest(slot, applied);
                    if live == recorded {
                        self.events.add(Event::Repaired, self.spoiled.remove(&(replica, slot)).into());
                    } else if self.spoiled.contains(&(replica, slot)) {
                        continue;
                    }
                    assert_eq!(
                        live, recorded,
                        "replica {replica} stream {stream} owner {owner}: slot {slot} is not what was recorded below {applied}"
                    );
                } else {
                    let before = *self.stale.entry((replica, slot)).or_insert(live);
                    assert_eq!(
                        live, before,
                        "replica {replica} stream {stream} owner {owner}: slot {slot}, not whole, changed"
                    );
                }
            }
        }
    }

    /// What must hold of slots whose stream has not begun a sync, at every step: they are as they were, and shown if they were shown.
    fn check_kept(&mut self, replica: usize, stream: usize, owner: usize) {
        let node = &self.replicas[replica];
        for slot in self.workload.slots(node.range(stream, owner)) {
            let live = node.store(owner).digest(Copy::Live, slot);
            let before = *self.stale.entry((replica, slot)).or_insert(live);
            assert_eq!(live, before, "replica {replica} stream {stream} owner {owner}: slot {slot}, kept, changed");
            let kept = self.kept.contains(&(replica, slot));
            self.events.add(Event::KeptAnew, (kept && live != Digest::default()).into());
            assert_eq!(
                node.serves(owner, slot),
                kept,
                "replica {replica} stream {stream} owner {owner}: slot {slot} is shown exactly if it was"
            );
        }
    }

    /// After the rest: every node holds the same.
    fn check_equal(&self) {
        for (stream, shard) in self.primary.shards.iter().enumerate() {
            let history = &self.archive[&self.primary.generation][stream];
            assert_eq!(history.head(), shard.source().next());
            for slot in shard.source().range().iter() {
                let expected = shard.store().digest(Copy::Live, slot);
                assert_eq!(
                    expected,
                    history.digest(slot, history.head()),
                    "the primary's slot {slot} is not what it recorded"
                );
                for (index, node) in self.replicas.iter().enumerate() {
                    if self.stopped == Some(index) {
                        continue;
                    }
                    assert_eq!(node.digest(slot), expected, "replica {index}: slot {slot} differs at the end");
                }
            }
        }
    }
}

/// Counts which states a command met. FLUSHALL meets those of every pair of slots of which one `held` a key.
fn count_cells(
    matrix: &mut Matrix,
    crossing: Crossing,
    places: &HashMap<HashSlot, Place>,
    held: impl Fn(HashSlot) -> bool,
) {
    match crossing.slots {
        Some((source, target)) => {
            let place = |slot| places.get(&slot).copied().expect("the workload's slots are known");
            matrix.count(crossing.kind, cell(place(source), place(target), source == target));
        }
        None => {
            let pairs = places.keys().filter(|slot| held(**slot)).flat_map(|source| {
                places.keys().map(move |target| cell(places[source], places[target], source == target))
            });
            pairs.collect::<HashSet<Cell>>().into_iter().for_each(|cell| matrix.count(crossing.kind, cell));
        }
    }
}

fn cell(source: Place, target: Place, same: bool) -> Cell {
    if same { Cell::One(source) } else { Cell::Two(source, target) }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "tick {}", self.now)?;
        for (stream, shard) in self.primary.shards.iter().enumerate() {
            let source = shard.source();
            writeln!(
                f,
                "stream {stream}: {:?} [{}, {})",
                source.generation(),
                source.backlog().oldest(),
                source.next()
            )?;
            for link in source.links() {
                let (behind, syncing) = (source.bytes_behind(link), source.is_syncing(link));
                writeln!(f, "  {link:?}: syncing {syncing}, behind {behind:?}")?;
            }
            for (index, node) in self.replicas.iter().enumerate() {
                let Some(link) = self.links[index].get(stream) else { continue };
                let up = match link {
                    Connection::Down { until } => format!("down until {until}"),
                    Connection::Up { link, number, primary_is_gone, .. } => {
                        format!("up {number}, gone {primary_is_gone}, {link:?}")
                    }
                };
                writeln!(
                    f,
                    "  replica {index}: {up}, {:?}, acked {:?}, {}",
                    (0..node.owners()).map(|owner| node.applied(stream, owner)).collect::<Vec<_>>(),
                    self.counted_ack(index, stream),
                    node.show(stream)
                )?;
            }
        }
        Ok(())
    }
}
