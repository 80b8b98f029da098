//! A replica's node: a session and a router for each stream, a ring for each (stream, owner), and the owners.

use std::collections::VecDeque;

use fastrand::Rng;
use kevy_replicate::handshake::{ReplicaId, Verdict, decode_answer};
use kevy_replicate::id::{Digest, Generation, HashSlot, Moment, Offset, ShardCount, ShardId, SlotRange, UnixMs};
use kevy_replicate::replica::{Ask, Dial, Dialled, Event as Said, Session, SessionConfig, SessionError};
use kevy_replicate::resp::{Protocol, Reply};
use kevy_replicate::shard::following::{Following, Offered, Policy};
use kevy_replicate::shard::{Batch, Body, Done, Role, Router, Shard as Core};
use kevy_replicate::slotset::SlotSet;
use kevy_replicate::snapshot::{Copy, Keyspace};
use kevy_replicate::store::{KeyspaceStore, ScanCursor, command, hash};
use kevy_replicate::wire::{Command, Decoder, Frames, Item, Message};

use crate::events::{Event, Events};
use crate::plan::Plan;
use crate::plant::Plant;
use crate::store::Applied;
use crate::workload::Args;

/// Looked at only where a bit has flipped: a length that became too long makes a replica wait.
const LINK_TIMEOUT_MS: u64 = 10_000;

const POLICY: Policy = Policy { read_only: true, serve_stale: false };

/// The connection is to be closed.
#[derive(Debug)]
pub struct Ended;

pub struct Replica {
    id: String,
    streams: Vec<Stream>,
    owners: Vec<Owner>,
    shards: ShardCount,
    /// How many shards it takes its upstream to have.
    upstream: ShardCount,
    /// How often it began to follow.
    set_ups: u64,
    run: u64,
    /// Its upstream turned out to have another number of shards: what was received is applied, and then it follows anew.
    reshaping: bool,
    /// Whether it keeps its data from a primary that came back empty.
    guarded: bool,
    /// Whether it was told to follow one all the same.
    accepts_empty: bool,
    plant: Plant,
}

struct Stream {
    session: Session,
    router: Router,
    /// One to each owner.
    rings: Vec<Ring>,
    /// What applies, where nothing is checked before.
    unchecked: Option<Unchecked>,
}

/// A planted bug: takes the stream as it arrives, whatever its checks say.
struct Unchecked {
    answer: Option<Vec<u8>>,
    decoder: Decoder,
}

impl Unchecked {
    fn new() -> Unchecked {
        Unchecked { answer: Some(Vec::new()), decoder: Decoder::new() }
    }

    fn receive(&mut self, bytes: &[u8], router: &mut Router) {
        match &mut self.answer {
            None => self.decoder.recv(bytes),
            Some(answer) => {
                answer.extend_from_slice(bytes);
                let Ok(Some((_, end))) = decode_answer(answer) else { return };
                self.decoder.recv(&answer[end..]);
                self.answer = None;
            }
        }
        while let Ok(Some(message)) = self.decoder.next() {
            let said = match message {
                Message::Frames(frames) => Said::Frames(frames),
                Message::Group(frames) => Said::Group(frames),
                Message::Item(Item::SyncEnd { at }) => Said::Whole { at },
                Message::Item(item) => Said::Item(item),
            };
            router.take(said, hash::locate);
        }
    }
}

struct Ring {
    batches: VecDeque<Batch>,
    capacity: usize,
    /// What the owner has answered and the puller not read.
    done: VecDeque<Done>,
}

struct Owner {
    core: Core,
    /// Effects that it applied to live slots.
    effects: u64,
    /// Of each stream: the history that it follows, and the frame after the last thing applied.
    positions: Vec<Option<(Generation, Offset)>>,
}

impl Replica {
    /// A replica of `shards` shards without data, of a primary that has `upstream` shards. `run` tells its starts apart.
    pub fn start(
        plan: &Plan,
        shards: ShardCount,
        upstream: ShardCount,
        plant: Plant,
        index: usize,
        run: u64,
    ) -> Replica {
        let owner = |owner| {
            let following = Following::new(shards.slots_of(owner), upstream, POLICY);
            let mut core = Core::new(owner, shards, Role::Replica(Box::new(following)), plan.seed);
            core.store.set_digest_step_bytes(plan.digest_step_bytes);
            if let Some([_, limit]) = plan.memory_limits(0) {
                core.set_memory_limit(limit, UnixMs::new(0));
            }
            Owner { core, effects: 0, positions: Vec::new() }
        };
        let mut replica = Replica {
            id: format!("replica-{index}"),
            streams: Vec::new(),
            owners: shards.shards().map(owner).collect(),
            shards,
            upstream,
            set_ups: 0,
            run,
            reshaping: false,
            guarded: false,
            accepts_empty: false,
            plant,
        };
        replica.set_up(plan, upstream);
        replica
    }

    /// Follows a primary of `upstream` shards from now on, with nothing of its history, as the server does: what is here is shown
    /// until the sync of its stream begins.
    pub fn set_up(&mut self, plan: &Plan, upstream: ShardCount) {
        self.set_ups += 1;
        self.upstream = upstream;
        (self.reshaping, self.guarded) = (false, false);
        for owner in &mut self.owners {
            let kept = if self.plant == Plant::ForgetKept { SlotSet::empty() } else { owner.core.served() };
            let following = Following::new(owner.core.range(), upstream, POLICY).keeping(kept);
            owner.core.role = Role::Replica(Box::new(following));
            owner.core.store.digest_forget_all();
            owner.positions = upstream.shards().map(|_| None).collect();
        }
        let ring = || Ring { batches: VecDeque::new(), capacity: plan.ring_batches, done: VecDeque::new() };
        let stream = |stream: ShardId| {
            let mut session = Session::new(SessionConfig {
                id: ReplicaId::new(&self.id).unwrap(),
                run: self.run,
                stream: Some(stream),
                items: true,
                observer: false,
                client: None,
                repl_base: None,
                accept_empty_primary: self.accepts_empty,
                link_timeout_ms: LINK_TIMEOUT_MS,
            });
            session.count_dials_from(self.set_ups << 32);
            Stream {
                session,
                unchecked: None,
                router: Router::new(stream, upstream.slots_of(stream), self.shards),
                rings: self.shards.shards().map(|_| ring()).collect(),
            }
        };
        self.streams = upstream.shards().map(stream).collect();
    }

    /// A client of this node asks for something about one key, when the node's clock says `now`; what it is answered.
    pub fn ask(&mut self, args: &Args, now: UnixMs) -> String {
        let encoded = Command::new(args);
        let mut ranges = Vec::new();
        let argv = crate::argv_of(encoded.as_bytes(), &mut ranges);
        let spec = command::find(argv.arg(0)).unwrap_or_else(|| panic!("{argv:?} is no command"));
        let at = hash::locate(argv.arg(1));
        let mut reply = Vec::new();
        let owner = self.owner_of(at.slot);
        self.owners[owner].core.execute(spec, argv, &[at], now, &mut Reply::new(&mut reply, Protocol::Resp2));
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// What a node does by itself when its clock says `now`. On one that follows it does nothing.
    pub fn tidy(&mut self, now: UnixMs) {
        for Owner { core, .. } in &mut self.owners {
            core.evict(now);
            core.expire_some(now);
        }
    }

    /// It follows nobody any more.
    pub fn promote(&mut self) {
        self.owners.iter_mut().for_each(|owner| owner.core.role = Role::Standalone);
    }

    /// Keys that are there, expired or not.
    pub fn keys(&self) -> usize {
        self.owners.iter().map(|owner| owner.core.store.len()).sum()
    }

    /// When a key expires, if it is there and ever does.
    pub fn expiry(&self, key: &str) -> Option<Option<UnixMs>> {
        let at = hash::locate(key.as_bytes());
        self.store(self.owner_of(at.slot)).get(at, key.as_bytes()).map(|entry| entry.expiry())
    }

    /// Whether it is about to follow anew; and whether all that it had received is applied.
    pub fn reshaping(&self) -> Option<bool> {
        self.reshaping.then(|| self.streams.iter().all(|stream| stream.router.is_drained()))
    }

    /// How many shards it takes its upstream to have: so many streams it follows.
    pub fn upstream(&self) -> ShardCount {
        self.upstream
    }

    /// How many shards it has.
    pub fn shards(&self) -> ShardCount {
        self.shards
    }

    /// The slots of a stream.
    pub fn slots_of(&self, stream: usize) -> SlotRange {
        self.streams[stream].router.range()
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Takes over whatever the primary holds, from the next dial on, where it kept its own data so far. `true` if it did.
    pub fn consent(&mut self) -> bool {
        let guarded = std::mem::take(&mut self.guarded);
        if guarded {
            self.accepts_empty = true;
            for stream in &mut self.streams {
                stream.session.set_accept_empty_primary(true);
            }
        }
        guarded
    }

    /// Whether it keeps its data from a primary that came back empty.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    pub fn dial(&mut self, stream: usize, now: Moment) {
        let range = self.streams[stream].router.range();
        // What is on its way to an owner is held, too.
        let holds_data = self.streams[stream].router.carries_data()
            || range.iter().any(|slot| self.store(self.owner_of(slot)).slot_len(Copy::Live, slot) > 0);
        self.streams[stream].unchecked = (self.plant == Plant::CheckAfterApply).then(Unchecked::new);
        self.streams[stream].session.dial(Dial { dialled: Dialled::Again, holds_data }, now);
    }

    pub fn hang_up(&mut self, stream: usize) {
        let Stream { session, router, .. } = &mut self.streams[stream];
        session.hang_up();
        router.link_cut();
    }

    /// Whether the puller reads from its link: only while the rings take what it reads.
    pub fn can_receive(&self, stream: usize) -> bool {
        !self.streams[stream].router.is_full()
    }

    /// Bytes arrive, on a link on which a bit may have `flipped`.
    pub fn receive(
        &mut self,
        stream: usize,
        mut bytes: &[u8],
        flipped: bool,
        now: Moment,
        events: &mut Events,
    ) -> Result<(), Ended> {
        let Stream { session, router, unchecked, .. } = &mut self.streams[stream];
        if let Some(unchecked) = unchecked {
            unchecked.receive(bytes, router);
        }
        if flipped && session.handle_timeout(now).is_err() {
            events.count(Event::FlipSilenced);
            return Err(Ended);
        }
        while !bytes.is_empty() {
            let room = session.recv_slice();
            let take = room.len().min(bytes.len());
            room[..take].copy_from_slice(&bytes[..take]);
            session.recv_advance(take, now);
            bytes = &bytes[take..];
            loop {
                match session.poll_event() {
                    Ok(None) => break,
                    Ok(Some(said)) => {
                        if let Said::Welcomed(welcome) = &said {
                            self.guarded = false;
                            if welcome.shards != self.upstream && self.plant != Plant::IgnoreReshape {
                                self.reshaping = true;
                                return Err(Ended);
                            }
                        }
                        if let Said::Welcomed(welcome) = &said
                            && welcome.verdict == Verdict::Stream
                        {
                            let partly = router.missing() > 0;
                            events.count(if partly { Event::ResumeMidSync } else { Event::Resume });
                        }
                        let ignored =
                            self.plant == Plant::IgnoreDigests && matches!(said, Said::Item(Item::Digest { .. }));
                        if unchecked.is_none() && !ignored {
                            router.take(said, hash::locate);
                        }
                    }
                    Err(SessionError::Guard(_)) => {
                        events.count(Event::GuardRefused);
                        self.guarded = true;
                        return Err(Ended);
                    }
                    Err(SessionError::Willing) => {
                        self.guarded = false;
                        return Err(Ended);
                    }
                    Err(_) if flipped => {
                        events.count(Event::FlipFound);
                        return Err(Ended);
                    }
                    Err(error) => panic!("{} closes: {error}", self.id),
                }
            }
        }
        Ok(())
    }

    pub fn transmit(&mut self, stream: usize, room: usize, now: Moment) -> Vec<u8> {
        const LINES: usize = 4_096;
        if room < LINES { Vec::new() } else { self.streams[stream].session.poll_transmit(now) }
    }

    /// One shard of the node does something: puller or owner. Tells which slots of which stream it asks for again.
    pub fn turn(&mut self, rng: &mut Rng, events: &mut Events) -> Option<(usize, Vec<Ask>)> {
        let stream = rng.usize(..self.streams.len());
        let owner = rng.usize(..self.owners.len());
        match rng.u8(0..5) {
            4 => self.prove(owner, events),
            0 => self.push(stream, owner, rng, events),
            1 | 2 => self.apply(stream, owner),
            _ => return Some((stream, self.complete(stream, owner, rng, events))),
        }
        None
    }

    /// The owners take a step of the digests that they take.
    fn prove(&mut self, owner: usize, events: &mut Events) {
        let Owner { core, .. } = &mut self.owners[owner];
        let (following, store) = core.following_and_store().expect("it is a replica's");
        events.add(Event::DigestInSteps, following.is_proving().into());
        following.prove(store);
    }

    /// Something goes wrong in the memory of this node: a key of `slot`, which is whole, is another than it was. `true` if there
    /// was one.
    pub fn spoil(&mut self, stream: usize, slot: HashSlot, rng: &mut Rng) -> bool {
        let owner = self.owner_of(slot);
        if !self.is_done(stream, owner, slot) {
            return false;
        }
        let store = &mut self.owners[owner].core.store;
        let mut found = None;
        store.scan(ScanCursor::at_slot(slot), 1, |entry| {
            if hash::slot_of(entry.key()) == slot {
                found = Some((entry.key().to_vec(), entry.expiry()));
            }
        });
        let Some((key, expiry)) = found else { return false };
        match rng.u8(..4) {
            0 => _ = store.remove(hash::locate(&key), &key),
            1 => _ = store.set_expiry(hash::locate(&key), &key, Some(UnixMs::new(1))),
            2 => store.set_string(hash::locate(&key), &key, b"spoiled", expiry),
            _ => {
                let more = [&key[..], b"-more"].concat();
                store.set_string(hash::locate(&more), &more, b"spoiled", None);
            }
        }
        true
    }

    /// The puller moves batches to a ring, as far as it takes them.
    fn push(&mut self, stream: usize, owner: usize, rng: &mut Rng, events: &mut Events) {
        let Stream { router, rings, .. } = &mut self.streams[stream];
        router.flush();
        let id = ShardId::new(owner as u16);
        while let Some(batch) = router.pop(id) {
            let ring = &mut rings[owner];
            if ring.batches.len() >= ring.capacity {
                events.count(Event::RingFull);
                router.unpop(id, batch);
                return;
            }
            let loses = self.plant == Plant::LoseBatch && matches!(batch.body, Body::Frames(_)) && rng.u8(0..30) == 0;
            if loses && ring.batches.is_empty() && ring.done.is_empty() {
                let missing = self.owners[owner].following().missing(ShardId::new(stream as u16));
                ring.done.push_back(Done { missing, ..Done::default() });
            } else {
                ring.batches.push_back(batch);
            }
        }
    }

    /// The owner applies what is first in a ring.
    fn apply(&mut self, stream: usize, owner: usize) {
        let ring = &mut self.streams[stream].rings[owner];
        let Owner { core, effects, positions } = &mut self.owners[owner];
        let (following, real) = core.following_and_store().expect("it is a replica's");
        let mut store = Applied { real, plant: self.plant, effects };
        let Some(batch) = ring.batches.pop_front() else { return };
        let position = &mut positions[stream];
        let after = match &batch.body {
            Body::Frames(frames) => {
                if self.plant == Plant::ApplyNotBegun {
                    apply_not_begun(&mut store, following.done(batch.stream), frames.frames());
                }
                let last = frames.frames().get(frames.len() - 1).offset.next();
                position.map(|(generation, _)| (generation, last))
            }
            Body::Sync { item: Item::Sync { generation, at, .. }, .. } => Some((*generation, *at)),
            Body::Item(item) => position.map(|(generation, next)| (generation, item.at().unwrap_or(next))),
            _ => *position,
        };
        match following.offer(&mut store, batch) {
            Offered::Gated(batch) => ring.batches.push_front(batch),
            Offered::Done(done) => {
                *position = after;
                ring.done.push_back(done);
            }
        }
    }

    /// The puller hears what an owner is done with.
    fn complete(&mut self, stream: usize, owner: usize, rng: &mut Rng, events: &mut Events) -> Vec<Ask> {
        let mut asked = Vec::new();
        let Stream { session, router, rings, .. } = &mut self.streams[stream];
        for _ in 0..rng.u8(1..4) {
            let Some(done) = rings[owner].done.pop_front() else { break };
            for ask in router.complete(ShardId::new(owner as u16), done) {
                events.count(Event::Asked);
                let wrong = events.get(Event::Damaged) + events.get(Event::Spoiled);
                assert!(wrong > 0, "{ask:?}, and nothing was damaged");
                events.add(Event::Repair, ask.whole.into());
                session.need(ask.slot, ask.whole);
                asked.push(ask);
            }
        }
        let applied = if self.plant == Plant::AckBeforeApply { Some(session.next()) } else { router.watermark() };
        let applied = applied.map(|applied| applied.min(session.next()));
        if let Some(applied) = applied {
            session.applied(applied);
        }
        if router.take_synced() {
            events.count(Event::Synced);
            session.synced();
        }
        asked
    }

    pub fn rings_are_empty(&self, stream: usize) -> bool {
        self.streams[stream].router.is_drained()
    }

    /// Slots of the stream that no owner has whole.
    pub fn missing(&self, stream: usize) -> usize {
        let id = ShardId::new(stream as u16);
        let done: usize = self.owners.iter().map(|owner| owner.following().done(id).count()).sum();
        self.streams[stream].router.range().len() - done
    }

    pub fn owners(&self) -> usize {
        self.owners.len()
    }

    /// What an owner has applied of a stream: the history, and the frame after the last one applied.
    pub fn applied(&self, stream: usize, owner: usize) -> Option<(Generation, Offset)> {
        self.owners[owner].positions[stream]
    }

    /// Whether every owner follows this history of a stream.
    pub fn follows(&self, stream: usize, generation: Generation) -> bool {
        self.owners.iter().all(|owner| owner.positions[stream].is_some_and(|(of, _)| of == generation))
    }

    pub fn range(&self, stream: usize, owner: usize) -> SlotRange {
        self.streams[stream].router.range().intersect(self.shards.slots_of(ShardId::new(owner as u16)))
    }

    pub fn is_done(&self, stream: usize, owner: usize, slot: HashSlot) -> bool {
        self.owners[owner].following().done(ShardId::new(stream as u16)).contains(slot)
    }

    pub fn store(&self, owner: usize) -> &KeyspaceStore {
        &self.owners[owner].core.store
    }

    /// Whether clients are shown keys of `slot`.
    pub fn serves(&self, owner: usize, slot: HashSlot) -> bool {
        self.owners[owner].core.serves(slot)
    }

    /// Whether clients are shown keys of `slot`, whoever owns it.
    pub fn shows(&self, slot: HashSlot) -> bool {
        self.serves(self.owner_of(slot), slot)
    }

    pub fn digest(&self, slot: HashSlot) -> Digest {
        self.store(self.owner_of(slot)).digest(Copy::Live, slot)
    }

    pub fn show(&self, stream: usize) -> String {
        let Stream { session, router, rings, .. } = &self.streams[stream];
        let rings: Vec<_> = rings.iter().map(|ring| (ring.batches.len(), ring.done.len())).collect();
        format!(
            "next {}, watermark {:?}, missing {}, rings {rings:?}",
            session.next(),
            router.watermark(),
            self.missing(stream)
        )
    }

    pub fn owner_of(&self, slot: HashSlot) -> usize {
        self.shards.owner(slot).index()
    }
}

impl Owner {
    fn following(&self) -> &Following {
        self.core.following().expect("it is a replica's")
    }
}

fn apply_not_begun(store: &mut Applied<'_>, done: &kevy_replicate::slotset::SlotSet, frames: Frames<'_>) {
    for frame in frames.iter() {
        if let Some(key) = kevy_replicate::wire::effect::key_of(frame.argv) {
            let at = store.locate(key);
            if !done.contains(at.slot) {
                let _ = store.apply(Copy::Live, at, frame.argv);
            }
        }
    }
}
