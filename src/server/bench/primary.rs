//! A shard of the primary: its listener, its streamers, and the writer in place of clients.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::options::Load;
use super::stage::{Act, Played, Stage};
use crate::id::{Generation, Offset, ShardCount, ShardId};
use crate::limits::BATCH_FRAMES_MAX;
use crate::resp::{Protocol, Reply};
use crate::runtime::clock::sleep;
use crate::runtime::executor::{self, Queue};
use crate::runtime::listener::Listener;
use crate::runtime::local::{Answer, Local, Request, unix_now};
use crate::runtime::mesh::Mesh;
use crate::runtime::streamer;
use crate::runtime::turn::Turn;
use crate::shard::{Role, Shard};
use crate::snapshot::{Keyspace, Located};
use crate::source::{Source, SourceConfig, Timeouts};
use crate::store::Message;
use crate::store::command::{Spec, find};
use crate::store::hash::locate;
use crate::wire::{ArgRange, Argv};

/// The keys of each shard, in random order.
pub(super) struct Keys(Vec<Vec<Key>>);

type Key = [u8; KEY_BYTES];

impl Keys {
    /// `count` different keys for a node with so many shards.
    pub fn new(count: usize, shards: ShardCount) -> Keys {
        let mut of_shard =
            vec![Vec::with_capacity(count / usize::from(shards.get()) * 9 / 8); usize::from(shards.get())];
        for number in 0..count {
            let mut key = *b"key:000000000000";
            key[4..].copy_from_slice(format!("{number:012}").as_bytes());
            of_shard[shards.owner(locate(&key).slot).index()].push(key);
        }
        let mut random = fastrand::Rng::with_seed(1);
        of_shard.iter_mut().for_each(|keys| random.shuffle(keys));
        Keys(of_shard)
    }
}

/// What a shard begins with.
pub(super) struct Seed {
    pub shard: ShardId,
    pub shards: ShardCount,
    pub generation: Generation,
    pub mesh: Mesh<Request, Answer>,
    pub listener: Listener,
    pub keys: Arc<Keys>,
    pub stage: Arc<Stage>,
    pub replicas: usize,
    pub options: Load,
    /// How long an act lasts.
    pub time: Duration,
    /// Where its chance begins.
    pub random: u64,
}

/// The life of one shard.
pub(super) async fn main(executor: executor::Shard, seed: Seed) {
    let Seed { shard, shards, generation, mesh, listener, keys, stage, replicas, options, time, random } = seed;
    stage.enter(shard.index());
    let source = Source::new(SourceConfig::new(shard, shards, generation, options.backlog_bytes));
    let core = Shard::new(shard, shards, Role::Primary(Box::new(source)), random);
    let local = Local::new(executor.clone(), core, mesh);
    local.spawn(Queue::Clients, Rc::clone(&local).serve_mesh()).detach();
    let closer = listener.closer();
    let here = Rc::clone(&local);
    let accepting = local.spawn(
        Queue::Replication,
        listener.accept_each(move |connection| {
            // One that cannot be watched is closed, and its replica says so.
            if let Ok(stream) = connection.attach() {
                here.spawn(Queue::Replication, streamer::serve(Rc::clone(&here), stream, TIMEOUTS)).detach();
            }
        }),
    );
    let writer = Writer {
        local: Rc::clone(&local),
        stage,
        replicas,
        time,
        turn_commands: options.turn_commands,
        slack: options.backlog_bytes / 4,
        requests: Requests::new(options.value_bytes),
        keys,
        next_key: 0,
        probed: Instant::now(),
    };
    local.spawn(Queue::Clients, writer.run()).await;
    executor.shutdown().await;
    if let Ok(closer) = closer {
        closer.close();
        // However it ended, the scene is over.
        let _ = accepting.await;
    }
}

/// Writes as the acts say.
struct Writer {
    local: Rc<Local>,
    stage: Arc<Stage>,
    replicas: usize,
    time: Duration,
    turn_commands: usize,
    /// Bytes that a replica may be behind before nothing more is written.
    slack: usize,
    requests: Requests,
    keys: Arc<Keys>,
    next_key: usize,
    /// When the last message went out.
    probed: Instant,
}

impl Writer {
    async fn run(mut self) {
        for act in [Act::Fill, Act::Flat, Act::Paced] {
            while !self.stage.has_begun(act) {
                if self.local.executor().is_shutting_down() {
                    return;
                }
                sleep(PACE).await;
            }
            let first = self.next();
            let began = Instant::now();
            match act {
                Act::None => {}
                Act::Fill => self.fill().await,
                Act::Flat => self.flat(began).await,
                Act::Paced => self.paced(began).await,
            }
            self.acknowledged().await;
            let took = began.elapsed();
            let frames = self.next().since(first);
            self.stage.end(self.local.id(), Played { frames, took, frame_bytes: self.frame_bytes() });
        }
    }

    /// Every key once, and until the window has moved on: what is measured afterwards touches no memory for the first time.
    async fn fill(&mut self) {
        let mut left = self.keys.0[self.local.id().index()].len();
        let mut turn = Turn::begin();
        while (left > 0 || !self.has_moved_on()) && !self.local.executor().is_shutting_down() {
            self.write(self.turn_commands).await;
            left = left.saturating_sub(self.turn_commands);
            turn.pass_if_over().await;
            self.wait_for_room().await;
        }
    }

    async fn flat(&mut self, began: Instant) {
        let mut turn = Turn::begin();
        while began.elapsed() < self.time && !self.local.executor().is_shutting_down() {
            if self.probed.elapsed() >= PACE {
                self.probe(Act::Flat);
            }
            self.write(self.turn_commands).await;
            turn.pass_if_over().await;
            self.wait_for_room().await;
        }
    }

    async fn paced(&mut self, began: Instant) {
        let rate = self.stage.rate(self.local.id()) as f64;
        let mut written = 0;
        while began.elapsed() < self.time && !self.local.executor().is_shutting_down() {
            sleep(PACE).await;
            let due = (began.elapsed().as_secs_f64() * rate) as usize;
            while written < due {
                let count = (due - written).min(self.turn_commands);
                if self.probed.elapsed() >= PACE {
                    self.probe(Act::Paced);
                }
                self.write(count).await;
                written += count;
                self.wait_for_room().await;
            }
        }
    }

    /// One turn: `count` commands, and what they recorded is sent.
    async fn write(&mut self, count: usize) {
        let keys = &self.keys.0[self.local.id().index()];
        {
            let mut core = self.local.core();
            let now = unix_now();
            let mut left = count;
            while left > 0 {
                if self.next_key >= keys.len() {
                    self.next_key = 0;
                }
                let end = keys.len().min(self.next_key + left.min(BATCH_FRAMES_MAX));
                self.requests.execute(&mut core, &keys[self.next_key..end], now);
                left -= end - self.next_key;
                self.next_key = end;
            }
        }
        self.local.stream_first().await;
        self.stage.set_recorded(self.local.id(), self.next().get());
    }

    /// Records a message that says when it was recorded.
    fn probe(&mut self, act: Act) {
        self.probed = Instant::now();
        let nanos = self.stage.epoch.elapsed().as_nanos() as u64;
        let mut text = vec![act as u8];
        text.extend_from_slice(&nanos.to_le_bytes());
        let message = Message { sharded: true, channel: Arc::from(CHANNEL), text: text.into() };
        self.local.core().publish(&message);
    }

    /// Waits while a replica is far behind, so that none falls out of the window.
    async fn wait_for_room(&self) {
        while self.replicas > 0 && self.behind() > self.slack {
            sleep(PACE).await;
        }
    }

    fn behind(&self) -> usize {
        let core = self.local.core();
        let Some(source) = core.source() else { return 0 };
        source.links().filter_map(|link| source.bytes_behind(link)).map(|(bytes, _)| bytes).max().unwrap_or(0)
    }

    /// Waits until every replica has acknowledged everything.
    async fn acknowledged(&self) {
        let next = self.next();
        let all = || {
            let core = self.local.core();
            core.source().is_none_or(|source| source.slots().ackers(next).count() >= self.replicas)
        };
        while !all() && !self.local.executor().is_shutting_down() {
            sleep(PACE).await;
        }
    }

    fn next(&self) -> Offset {
        self.local.core().source().map_or(Offset::ZERO, Source::next)
    }

    fn has_moved_on(&self) -> bool {
        self.local.core().source().is_none_or(|source| source.backlog().oldest() > Offset::ZERO)
    }

    /// What a frame takes in the window, with its share of check lines.
    fn frame_bytes(&self) -> f64 {
        let core = self.local.core();
        let Some(backlog) = core.source().map(Source::backlog) else { return 0.0 };
        backlog.bytes() as f64 / backlog.next().since(backlog.oldest()).max(1) as f64
    }
}

/// `SET`s as the decoder hands them out: arguments that lie in one buffer.
struct Requests {
    set: &'static Spec,
    /// The verb, the keys of a batch, the value.
    bytes: Vec<u8>,
    ranges: Vec<[ArgRange; 3]>,
    at: Vec<Located>,
    replies: Vec<u8>,
}

impl Requests {
    fn new(value_bytes: usize) -> Requests {
        let mut bytes = b"SET".to_vec();
        bytes.resize(VERB_BYTES + BATCH_FRAMES_MAX * KEY_BYTES, 0);
        let value = ArgRange { start: bytes.len() as u32, len: value_bytes as u32 };
        bytes.resize(bytes.len() + value_bytes, b'v');
        let verb = ArgRange { start: 0, len: VERB_BYTES as u32 };
        let key = |n: usize| ArgRange { start: (VERB_BYTES + n * KEY_BYTES) as u32, len: KEY_BYTES as u32 };
        Requests {
            set: find(b"SET").expect("it is in the table"),
            bytes,
            ranges: (0..BATCH_FRAMES_MAX).map(|n| [verb, key(n), value]).collect(),
            at: Vec::with_capacity(BATCH_FRAMES_MAX),
            replies: Vec::new(),
        }
    }

    /// One batch, as the commands of a client's pipeline are executed.
    fn execute(&mut self, shard: &mut Shard, keys: &[Key], now: crate::id::UnixMs) {
        self.at.clear();
        self.replies.clear();
        for (key, [_, range, _]) in keys.iter().zip(&self.ranges) {
            self.bytes[range.start as usize..][..KEY_BYTES].copy_from_slice(key);
            self.at.push(shard.store.locate(key));
        }
        self.at.iter().for_each(|at| shard.store.prefetch_line(*at));
        self.at.iter().for_each(|at| shard.store.prefetch_entry(*at));
        for (at, ranges) in self.at.iter().zip(&self.ranges) {
            let argv = Argv::new(&self.bytes, ranges);
            let mut reply = Reply::new(&mut self.replies, Protocol::Resp2);
            shard.execute(self.set, argv, std::slice::from_ref(at), now, &mut reply);
        }
    }
}

const KEY_BYTES: usize = 16;
const VERB_BYTES: usize = 3;
const CHANNEL: &[u8] = b"bench";
/// How often a message goes out, and how often a writer looks whether it may go on.
const PACE: Duration = Duration::from_millis(1);
const TIMEOUTS: Timeouts = Timeouts { heartbeat_ms: 1_000, link_timeout_ms: 60_000 };
