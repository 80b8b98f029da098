//! What does a hop between shards cost: one item and in batches of 32, beside rtrb and glommio's own channel, and the
//! round trip between two parked executors?
//!
//! The first figures are one thread's, without the sleeping of either end: the price of the queue and of looking at the
//! other end's flag. Items are batches of up to 32 frames, so 60 ns an item is 2 ns a frame. Should an item alone cost
//! over 100 ns, or a batch of 32 over 20 ns an item, rtrb goes inside the ring. The round trip is the kernel's: two
//! wake-ups. Above 150 µs on an idle machine, shards on their own cores should spin by default.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use glommio::channels::shared_channel;
use kevy_replicate::id::ShardCount;
use kevy_replicate::runtime::executor::{Executors, Plan};
use kevy_replicate::runtime::lane::{Callee, Caller, lane};
use kevy_replicate::runtime::ring::ring;
use kevy_replicate::runtime::shutdown::Shutdown;

const CAPACITY: usize = 256;
const BATCH: u64 = 32;

fn one_item(c: &mut Criterion) {
    let mut group = c.benchmark_group("one item");
    let (mut producer, mut consumer) = ring::<u64>(CAPACITY);
    group.bench_function("ring", |b| {
        b.iter(|| {
            producer.try_push(black_box(1)).unwrap();
            consumer.pop()
        })
    });
    let (mut producer, mut consumer) = rtrb::RingBuffer::<u64>::new(CAPACITY);
    group.bench_function("rtrb", |b| {
        b.iter(|| {
            producer.push(black_box(1)).unwrap();
            consumer.pop()
        })
    });
    group.bench_function("shared_channel", |b| b.iter_custom(|n| through_channel(n, 1)));
    group.finish();
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch of 32");
    group.throughput(Throughput::Elements(BATCH));
    let (mut producer, mut consumer) = ring::<u64>(CAPACITY);
    group.bench_function("ring", |b| {
        b.iter_batched_ref(
            || (0..BATCH).collect::<VecDeque<u64>>(),
            |items| {
                producer.push_from(items);
                while let Some(item) = consumer.pop() {
                    black_box(item);
                }
            },
            BatchSize::SmallInput,
        )
    });
    let (mut producer, mut consumer) = rtrb::RingBuffer::<u64>::new(CAPACITY);
    group.bench_function("rtrb", |b| {
        b.iter(|| {
            producer.write_chunk_uninit(BATCH as usize).unwrap().fill_from_iter(0..BATCH);
            for item in consumer.read_chunk(BATCH as usize).unwrap() {
                black_box(item);
            }
        })
    });
    group.bench_function("shared_channel", |b| b.iter_custom(|n| through_channel(n, BATCH)));
    group.finish();
}

/// `rounds` times: `batch` items in, `batch` items out, on one executor.
fn through_channel(rounds: u64, batch: u64) -> Duration {
    glommio::LocalExecutor::default().run(async move {
        let (sender, receiver) = shared_channel::new_bounded::<u64>(CAPACITY);
        let connecting = glommio::spawn_local(sender.connect());
        let receiver = receiver.connect().await;
        let sender = connecting.await;
        let began = Instant::now();
        for _ in 0..rounds {
            for item in 0..batch {
                sender.try_send(black_box(item)).unwrap();
            }
            for _ in 0..batch {
                black_box(receiver.recv().await);
            }
        }
        began.elapsed()
    })
}

fn round_trip(c: &mut Criterion) {
    enum End {
        Asks(Caller<u64, u64>, u64),
        Answers(Callee<u64, u64>),
    }
    async fn work(end: End) -> Duration {
        let began = Instant::now();
        match end {
            End::Asks(mut caller, rounds) => {
                for round in 0..rounds {
                    caller.try_call(round).unwrap();
                    caller.ready().await.unwrap();
                    black_box(caller.pop());
                }
            }
            End::Answers(mut callee) => {
                while callee.ready().await.is_ok() {
                    while let Some(request) = callee.pop() {
                        callee.reply(request);
                    }
                }
            }
        }
        began.elapsed()
    }
    c.bench_function("round trip between parked executors", |b| {
        b.iter_custom(|rounds| {
            let (caller, callee) = lane(CAPACITY);
            let seeds = vec![End::Asks(caller, rounds), End::Answers(callee)];
            let plan = Plan::unpinned(ShardCount::new(2).unwrap());
            let executors = Executors::start(plan, seeds, &Shutdown::new(), |_, end| work(end)).unwrap();
            executors.join()[0]
        })
    });
}

criterion_group!(benches, one_item, batches, round_trip);
criterion_main!(benches);
