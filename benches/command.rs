//! What does a command cost before and beside the store? One pipelined read of 64 `SET`s of 64 bytes is decoded, its verbs are looked
//! up, and its commands are executed; members of a large sorted set are ranked.
//!
//! Numbers that would make us change the design: more than 30 ns to decode a `SET`, more than 10 ns to find a verb, more than
//! 2 µs for a rank among 100,000 members.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kevy_replicate::id::UnixMs;
use kevy_replicate::resp::{Protocol, Reply, RequestDecoder};
use kevy_replicate::snapshot::{Keyspace, Located};
use kevy_replicate::store::KeyspaceStore;
use kevy_replicate::store::command::{self, Context, Lazy, Random};
use kevy_replicate::store::value::Zset;
use kevy_replicate::wire::{Command, Room};

/// Commands of one pipeline.
const PIPELINE: usize = 64;

fn pipeline() -> Vec<u8> {
    let one = |n: usize| Command::new(&[b"SET".as_slice(), format!("key:{n:012}").as_bytes(), &[b'v'; 64]]);
    (0..PIPELINE).flat_map(|n| one(n * 7_919).as_bytes().to_vec()).collect()
}

fn receive(decoder: &mut RequestDecoder, bytes: &[u8]) {
    decoder.recv_slice()[..bytes.len()].copy_from_slice(bytes);
    decoder.recv_advance(bytes.len());
}

fn commands(c: &mut Criterion) {
    let bytes = pipeline();
    let mut group = c.benchmark_group("command");
    group.throughput(Throughput::Elements(PIPELINE as u64));

    let mut decoder = RequestDecoder::new();
    group.bench_function("decode", |b| {
        b.iter(|| {
            receive(&mut decoder, &bytes);
            while decoder.fill(32).unwrap_or(0) > 0 {
                black_box(decoder.command(31).arg(2));
                decoder.release(32);
            }
        });
    });

    group.bench_function("find", |b| {
        let verbs = [b"SET".as_slice(), b"get", b"HSET", b"ZRANGEBYSCORE", b"lpush", b"INCR", b"DEL", b"nosuch"];
        b.iter(|| {
            for _ in 0..PIPELINE / verbs.len() {
                verbs.iter().for_each(|verb| _ = black_box(command::find(black_box(verb))));
            }
        });
    });

    let mut store = KeyspaceStore::new();
    let (mut random, mut expired_keys) = (Random::seeded(1), 0);
    let mut out = Vec::new();
    group.bench_function("decode and execute SET", |b| {
        b.iter(|| {
            receive(&mut decoder, &bytes);
            out.clear();
            while let Ok(Some(argv)) = decoder.next() {
                let Some(spec) = command::find(argv.arg(0)) else { continue };
                let at: [Located; 1] = [store.locate(argv.arg(1))];
                let mut context = Context {
                    store: &mut store,
                    now: UnixMs::new(1),
                    random: &mut random,
                    lazy: Lazy::Delete,
                    room: Room::WHOLE,
                    expired_keys: &mut expired_keys,
                };
                let mut reply = Reply::new(&mut out, Protocol::Resp2);
                black_box(command::execute(spec, &mut context, &at, argv, &mut reply));
            }
        });
    });
    group.finish();
}

fn sorted_sets(c: &mut Criterion) {
    const MEMBERS: u64 = 100_000;
    let member = |n: u64| (n * 48_271 % MEMBERS).to_string().into_bytes();
    let mut zset = Zset::new();
    for n in 0..MEMBERS {
        zset.insert(&member(n), n as f64);
    }
    let mut group = c.benchmark_group("zset of 100,000");
    let mut n = 0;
    group.bench_function("rank", |b| {
        b.iter_batched(
            || {
                n = (n + 7_919) % MEMBERS;
                member(n)
            },
            |member| black_box(zset.rank(&member)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("change a score", |b| {
        let mut score = 0.0;
        b.iter_batched(
            || {
                n = (n + 7_919) % MEMBERS;
                score += 0.5;
                (member(n), score)
            },
            |(member, score)| black_box(zset.insert(&member, score)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, commands, sorted_sets);
criterion_main!(benches);
