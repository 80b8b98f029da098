//! What does a hop between shards cost: one item and in batches of 32, beside rtrb and glommio's own channel, and the
//! round trip between two parked executors?
//!
//! The first figures are one thread's, without the sleeping of either end: the price of the queue and of looking at the
//! other end's flag. Items are batches of up to 32 frames, so 60 ns an item is 2 ns a frame. Should an item alone cost
//! over 100 ns, or a batch of 32 over 20 ns an item, rtrb goes inside the ring. Between two executors a million items keep
//! the consumer awake: above 150 ns an item alone the wake-up protocol is looked at again. The round trip is the kernel's:
//! two wake-ups. Above 150 µs on an idle machine, shards on their own cores should spin by default.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use glommio::channels::shared_channel::{self, SharedReceiver, SharedSender};
use kevy_replicate::id::ShardCount;
use kevy_replicate::runtime::executor::{Executors, Plan};
use kevy_replicate::runtime::lane::{Callee, Caller, lane};
use kevy_replicate::runtime::ring::{Consumer, Producer, ring};
use kevy_replicate::runtime::shutdown::Shutdown;

const CAPACITY: usize = 256;
const BATCH: u64 = 32;
/// Items of one measurement between executors: starting them is not what is asked.
const AWAKE_ITEMS: u64 = 100_000;

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

/// Items cross to a consumer that has no time to sleep: the producer always has more.
fn awake(c: &mut Criterion) {
    enum End {
        Push(Producer<u64>, u64, u64),
        Pop(Consumer<u64>),
        Send(SharedSender<u64>, u64),
        Receive(SharedReceiver<u64>),
    }
    async fn work(end: End) -> Duration {
        let began = Instant::now();
        match end {
            End::Push(mut producer, items, batch) => {
                let mut waiting = VecDeque::new();
                for first in (0..items).step_by(batch as usize) {
                    waiting.extend(first..items.min(first + batch));
                    while producer.push_from(&mut waiting) == 0 || !waiting.is_empty() {
                        producer.space().await.unwrap();
                    }
                }
            }
            End::Pop(mut consumer) => {
                while consumer.ready().await.is_ok() {
                    while let Some(item) = consumer.pop() {
                        black_box(item);
                    }
                }
            }
            End::Send(sender, items) => {
                let sender = sender.connect().await;
                for item in 0..items {
                    sender.send(item).await.unwrap();
                }
            }
            End::Receive(receiver) => {
                let receiver = receiver.connect().await;
                while let Some(item) = receiver.recv().await {
                    black_box(item);
                }
            }
        }
        began.elapsed()
    }
    /// Until the consumer has them all.
    fn cross(ends: [End; 2]) -> Duration {
        let plan = Plan::unpinned(ShardCount::new(2).unwrap());
        let executors = Executors::start(plan, ends.into(), &Shutdown::new(), |_, end| work(end)).unwrap();
        executors.join()[1]
    }
    let mut group = c.benchmark_group("between executors, the consumer awake");
    group.throughput(Throughput::Elements(AWAKE_ITEMS));
    for batch in [1, BATCH] {
        group.bench_function(format!("ring, {batch} at a time"), |b| {
            b.iter_custom(|rounds| {
                let (producer, consumer) = ring(CAPACITY);
                cross([End::Push(producer, rounds * AWAKE_ITEMS, batch), End::Pop(consumer)])
            })
        });
    }
    group.bench_function("shared_channel", |b| {
        b.iter_custom(|rounds| {
            let (sender, receiver) = shared_channel::new_bounded(CAPACITY);
            cross([End::Send(sender, rounds * AWAKE_ITEMS), End::Receive(receiver)])
        })
    });
    // rtrb wakes nobody: both ends spin, on two threads.
    group.bench_function("rtrb, spinning", |b| {
        b.iter_custom(|rounds| {
            let (mut producer, mut consumer) = rtrb::RingBuffer::<u64>::new(CAPACITY);
            let items = rounds * AWAKE_ITEMS;
            let began = Instant::now();
            let pushing = std::thread::spawn(move || {
                for item in 0..items {
                    while producer.push(item).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
            let mut popped = 0;
            while popped < items {
                match consumer.pop() {
                    Ok(item) => {
                        black_box(item);
                        popped += 1;
                    }
                    Err(_) => std::thread::yield_now(),
                }
            }
            pushing.join().unwrap();
            began.elapsed()
        })
    });
    group.finish();
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

criterion_group!(benches, one_item, batches, awake, round_trip);
criterion_main!(benches);
