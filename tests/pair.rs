//! Both sessions back to back, without a socket: a primary's shard on one side, a replica on the other, and every byte between
//! them handed over by the test.

use kevy_replicate::handshake::ReplicaId;
use kevy_replicate::id::{Digest, Generation, HASH_SLOTS, HashSlot, Moment, ShardCount, ShardId, UnixMs};
use kevy_replicate::limits;
use kevy_replicate::replica::{self, Applier, Dial, Dialled, Event, SessionConfig};
use kevy_replicate::resp::{Protocol, Reply, decode_multibulk};
use kevy_replicate::shard::{Role, Shard};
use kevy_replicate::snapshot::{Copy, Keyspace};
use kevy_replicate::source::{self, Source, SourceConfig, Timeouts};
use kevy_replicate::store::{KeyspaceStore, command};
use kevy_replicate::wire::{Argv, Command};

const TIMEOUTS: Timeouts = Timeouts { heartbeat_ms: 1_000, link_timeout_ms: 10_000 };

struct Primary {
    shard: Shard,
    session: source::Session,
}

impl Primary {
    fn new(backlog_bytes: usize) -> Primary {
        let source = Source::new(SourceConfig {
            client_port: Some(6004),
            ..SourceConfig::new(ShardId::new(0), ShardCount::ONE, Generation::new(77).unwrap(), backlog_bytes)
        });
        let shard = Shard::new(ShardId::new(0), ShardCount::ONE, Role::Primary(Box::new(source)), 1);
        Primary { shard, session: source::Session::new(TIMEOUTS, Moment::ZERO) }
    }

    fn execute(&mut self, args: &[&str]) {
        let command = Command::new(args);
        let mut ranges = Vec::new();
        decode_multibulk(command.as_bytes(), &mut ranges).unwrap().unwrap();
        let argv = Argv::new(command.as_bytes(), &ranges);
        let spec = command::find(argv.arg(0)).unwrap();
        let at: Vec<_> = spec.keys(argv).map(|i| self.shard.store.locate(argv.arg(i))).collect();
        let mut out = Vec::new();
        self.shard.execute(spec, argv, &at, UnixMs::new(1_000), &mut Reply::new(&mut out, Protocol::Resp2));
        assert_ne!(out[0], b'-', "{args:?}: {}", out.escape_ascii());
    }

    fn end_turn(&mut self) {
        self.shard.end_turn();
    }
}

struct Replica {
    session: replica::Session,
    applier: Applier,
    store: KeyspaceStore,
    frames: u64,
    now: Moment,
}

impl Replica {
    fn new() -> Replica {
        let session = replica::Session::new(SessionConfig {
            id: ReplicaId::new("r").unwrap(),
            run: 1,
            stream: Some(ShardId::new(0)),
            items: true,
            observer: false,
            client: None,
            repl_base: None,
            accept_empty_primary: false,
            link_timeout_ms: 10_000,
        });
        let applier = Applier::new(session.range());
        Replica { session, applier, store: KeyspaceStore::new(), frames: 0, now: Moment::ZERO }
    }

    fn dial(&mut self) {
        self.applier.link_cut(&mut self.store);
        let holds_data = !self.store.is_empty();
        self.session.dial(Dial { dialled: Dialled::Again, holds_data }, Moment::ZERO);
    }

    /// Takes bytes in pieces of `step`.
    fn receive(&mut self, bytes: &[u8], step: usize) {
        for piece in bytes.chunks(step) {
            let room = self.session.recv_slice();
            room[..piece.len()].copy_from_slice(piece);
            self.session.recv_advance(piece.len(), Moment::ZERO);
            while let Some(event) = self.session.poll_event().unwrap() {
                match event {
                    Event::Frames(frames) | Event::Group(frames) => {
                        self.frames += frames.len() as u64;
                        self.applier.frames(&mut self.store, frames);
                    }
                    Event::Item(item) => self.applier.item(&mut self.store, &item),
                    Event::Whole { .. } => {
                        assert_eq!(self.applier.missing(), 0);
                        let applied = self.session.next();
                        self.session.applied(applied);
                        self.session.synced();
                    }
                    Event::Welcomed(_) | Event::Heard => {}
                }
                let applied = self.session.next();
                self.session.applied(applied);
            }
            assert!(self.applier.take_asks().is_empty());
        }
    }
}

/// Carries everything in both directions, at most `sends` sends of the primary.
fn exchange(primary: &mut Primary, replica: &mut Replica, sends: usize, step: usize) -> usize {
    let mut sent = 0;
    loop {
        replica.now = replica.now.plus_ms(1);
        let up = replica.session.poll_transmit(replica.now);
        let (source, store) = primary.shard.source_and_store().unwrap();
        primary.session.handle_input(source, &up, Moment::ZERO, |_| {}).unwrap();
        if sent == sends {
            return sent;
        }
        match primary.session.poll_transmit(source, store, Moment::ZERO).unwrap() {
            Some(bytes) => {
                sent += 1;
                replica.receive(&bytes, step);
            }
            None if up.is_empty() => return sent,
            None => {}
        }
    }
}

fn digest(store: &KeyspaceStore) -> Digest {
    let mut sum = Digest::default();
    for slot in (0..HASH_SLOTS as u16).filter_map(HashSlot::new) {
        sum += store.digest(Copy::Live, slot);
    }
    sum
}

fn assert_equal(primary: &Primary, replica: &Replica) {
    assert_eq!(primary.shard.store.len(), replica.store.len());
    assert_eq!(digest(&primary.shard.store), digest(&replica.store));
    let source = primary.shard.source().unwrap();
    assert_eq!(source.next(), replica.session.applied_next());
    assert_eq!(source.slots().ackers(source.next()).count(), 1, "synced, and acknowledged");
}

fn some_writes(primary: &mut Primary, round: usize) {
    let n = |i: usize| format!("key:{}", (round * 31 + i * 7) % 500);
    for i in 0..40 {
        match i % 8 {
            0 => primary.execute(&["SET", &n(i), &"v".repeat(i * 10)]),
            1 => primary.execute(&["RPUSH", &format!("list:{}", i % 5), &round.to_string()]),
            2 => primary.execute(&["HSET", "hash", &n(i), "x"]),
            3 => primary.execute(&["SADD", &format!("set:{}", i % 3), &n(i)]),
            4 => primary.execute(&["ZADD", "zset", &i.to_string(), &n(i)]),
            5 => primary.execute(&["MSET", &n(i), "a", &n(i + 1), "b"]),
            6 => primary.execute(&["DEL", &n(i), &n(i + 2)]),
            _ => primary.execute(&["APPEND", &n(i), "tail"]),
        }
    }
    primary.end_turn();
}

#[test]
fn a_replica_that_is_there_from_the_beginning_and_one_that_comes_late_end_equal() {
    for step in [1, 7, 4096, 1 << 20] {
        let mut primary = Primary::new(1 << 20);
        let mut replica = Replica::new();
        replica.dial();
        exchange(&mut primary, &mut replica, usize::MAX, step);
        for round in 0..20 {
            some_writes(&mut primary, round);
            exchange(&mut primary, &mut replica, usize::MAX, step);
        }
        assert_equal(&primary, &replica);

        let mut late = Replica::new();
        late.dial();
        primary.session = source::Session::new(TIMEOUTS, Moment::ZERO);
        exchange(&mut primary, &mut late, usize::MAX, step);
        assert_eq!(late.frames, 0, "all of it came as a dump");
        assert_equal(&primary, &late);
    }
}

#[test]
fn writes_between_any_two_sends_of_a_sync_are_not_lost_and_a_cut_goes_on_from_the_slots_that_are_done() {
    let mut primary = Primary::new(1 << 20);
    for i in 0..3_000 {
        primary.execute(&["SET", &format!("bulk:{i}"), &"x".repeat(500)]);
    }
    for i in 0..2_000 {
        primary.execute(&["SET", &format!("{{tag}}:{i}"), &"x".repeat(300)]);
    }
    some_writes(&mut primary, 0);
    let mut replica = Replica::new();
    let mut round = 1;
    loop {
        replica.dial();
        primary.session = source::Session::new(TIMEOUTS, Moment::ZERO);
        let mut done = false;
        for _ in 0..4 {
            done = exchange(&mut primary, &mut replica, 12, 100_000) < 12;
            some_writes(&mut primary, round);
            primary.execute(&["APPEND", &format!("{{tag}}:{}", round % 2_000), "more"]);
            primary.execute(&["RENAME", &format!("bulk:{round}"), &format!("{{tag}}:{round}")]);
            primary.end_turn();
            round += 1;
        }
        if done {
            break;
        }
        assert!(round < 1_000, "the sync ends");
    }
    exchange(&mut primary, &mut replica, usize::MAX, 1 << 20);
    assert_equal(&primary, &replica);
    let source = primary.shard.source().unwrap();
    assert_eq!(source.counters().sync_full.iter().sum::<u64>(), 1, "one sync, however often it was cut");
    assert!(source.slots_dumped() < 18_000, "{} slots dumped", source.slots_dumped());
    assert!(source.backlog().bytes() < limits::DUMP_QUEUE_BYTES_MAX);
}

#[test]
fn a_replica_that_falls_out_of_the_window_syncs_and_keeps_nothing_old() {
    let mut primary = Primary::new(8 << 10);
    let mut replica = Replica::new();
    replica.dial();
    some_writes(&mut primary, 0);
    exchange(&mut primary, &mut replica, usize::MAX, 1 << 20);
    assert_equal(&primary, &replica);
    replica.session.hang_up();
    primary.execute(&["FLUSHALL"]);
    for round in 0..50 {
        some_writes(&mut primary, round);
    }
    replica.dial();
    primary.session = source::Session::new(TIMEOUTS, Moment::ZERO);
    exchange(&mut primary, &mut replica, usize::MAX, 1 << 20);
    assert_equal(&primary, &replica);
    assert_eq!(primary.shard.source().unwrap().counters().sync_partial_err, 1);
}
