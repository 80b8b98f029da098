//! Sockets, lanes, timers and busy loops on three executors, with every core kept busy by others: no executor, and no
//! kind of work on it, may stand still for a second. `KEVY_STALL_SECONDS` says for how long (`scripts/stall.sh`).
#![cfg(feature = "runtime")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kevy_replicate::id::ShardCount;
use kevy_replicate::runtime::clock;
use kevy_replicate::runtime::executor::{Executors, Plan, Queue, Shard};
use kevy_replicate::runtime::lane::{Callee, Caller, lane};
use kevy_replicate::runtime::listener::Listener;
use kevy_replicate::runtime::shutdown::Shutdown;
use kevy_replicate::runtime::stream::Stream;
use kevy_replicate::runtime::turn::Turn;

const SHARDS: usize = 3;
const GAP_MAX: Duration = Duration::from_secs(1);

/// How often one kind of work came on, and its longest pause.
struct Pace {
    what: &'static str,
    last: Instant,
    times: u64,
    worst: Duration,
}

impl Pace {
    fn new(what: &'static str) -> Pace {
        Pace { what, last: Instant::now(), times: 0, worst: Duration::ZERO }
    }

    fn step(&mut self) {
        let now = Instant::now();
        self.worst = self.worst.max(now - self.last);
        self.last = now;
        self.times += 1;
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (longest pause {:.1} ms)", self.times, self.what, self.worst.as_secs_f64() * 1e3)
    }
}

/// What a shard is given: it calls the next one and connects to it, and serves the one before it.
struct Seed {
    caller: Caller<u64, u64>,
    callee: Callee<u64, u64>,
    listener: Listener,
    next_port: u16,
    end: Instant,
}

#[test]
fn no_executor_stands_still_under_pressure() {
    let seconds = std::env::var("KEVY_STALL_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    let pressed = Arc::new(AtomicBool::new(true));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let pressure: Vec<_> = (0..cores)
        .map(|_| {
            let pressed = Arc::clone(&pressed);
            std::thread::spawn(move || {
                while pressed.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();

    let shutdown = Shutdown::new();
    let plan = Plan::unpinned(ShardCount::new(SHARDS as u16).unwrap());
    let executors = Executors::start(plan, seeds(Duration::from_secs(seconds)), &shutdown, work).unwrap();
    let health = executors.health();
    let paces = executors.join();
    pressed.store(false, Ordering::Relaxed);
    pressure.into_iter().for_each(|thread| thread.join().unwrap());

    println!("{seconds} s, {SHARDS} executors, {cores} cores kept busy by others");
    let mut still = Vec::new();
    for (i, (progress, paces)) in health.iter().zip(&paces).enumerate() {
        let gap = Duration::from_micros(progress.longest_gap_us());
        println!("shard {i}: {} ticks (longest gap {:.1} ms)", progress.ticks(), gap.as_secs_f64() * 1e3);
        for pace in paces {
            println!("    {pace}");
        }
        let paused = paces.iter().filter(|pace| pace.worst >= GAP_MAX || pace.times == 0).map(|pace| pace.what);
        still.extend(paused.map(|what| format!("shard {i}: {what}")));
        if gap >= GAP_MAX || progress.stalls() > 0 {
            still.push(format!("shard {i}: the executor"));
        }
    }
    assert!(still.is_empty(), "stood still: {still:?}");
}

fn seeds(time: Duration) -> Vec<Seed> {
    let listeners: Vec<Listener> = (0..SHARDS).map(|_| Listener::bind("127.0.0.1", 0).unwrap()).collect();
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().port()).collect();
    let (callers, mut callees): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| lane(8)).unzip();
    callees.rotate_right(1);
    let end = Instant::now() + time;
    let ends = callers.into_iter().zip(callees).zip(listeners).enumerate();
    ends.map(|(i, ((caller, callee), listener))| {
        let next_port = ports[(i + 1) % SHARDS];
        Seed { caller, callee, listener, next_port, end }
    })
    .collect()
}

async fn work(shard: Shard, seed: Seed) -> Vec<Pace> {
    let Seed { caller, callee, listener, next_port, end } = seed;
    let answering = shard.spawn(Queue::Replication, answer(callee));
    let serving = shard.spawn(Queue::Clients, serve(shard.clone(), listener));
    let paced = [
        shard.spawn(Queue::Replication, ask(caller, end)),
        shard.spawn(Queue::Clients, send(shard.clone(), next_port, end)),
        shard.spawn(Queue::Snapshot, compute(end)),
        shard.spawn(Queue::Clients, wait(end)),
    ];
    let mut paces = Vec::new();
    for task in paced {
        paces.push(task.await);
    }
    answering.await;
    serving.await;
    paces
}

async fn ask(mut caller: Caller<u64, u64>, end: Instant) -> Pace {
    let mut pace = Pace::new("replies over a lane");
    let mut turn = Turn::begin();
    while Instant::now() < end {
        while caller.try_call(pace.times).is_ok() {}
        caller.ready().await.unwrap();
        while caller.pop().is_some() {
            pace.step();
        }
        turn.pass_if_over().await;
    }
    pace
}

async fn answer(mut callee: Callee<u64, u64>) {
    let mut turn = Turn::begin();
    while callee.ready().await.is_ok() {
        while let Some(request) = callee.pop() {
            callee.reply(request);
        }
        turn.pass_if_over().await;
    }
}

/// Sends chunks of many sizes and reads them back, one at a time.
async fn send(shard: Shard, port: u16, end: Instant) -> Pace {
    let mut stream = Stream::connect(&shard, "127.0.0.1", port, Duration::from_secs(5)).await.unwrap();
    let (chunk, mut buffer) = (vec![1; 100_000], vec![0; 128 << 10]);
    let mut pace = Pace::new("echoes over a socket");
    let mut size = 1;
    let mut turn = Turn::begin();
    while Instant::now() < end {
        size = size * 7 % 99_991;
        stream.write_all(&chunk[..size]).await.unwrap();
        let mut left = size;
        while left > 0 {
            left -= stream.read(&mut buffer).await.unwrap();
        }
        pace.step();
        turn.pass_if_over().await;
    }
    stream.close().await;
    pace
}

/// Echoes on one connection until its end.
async fn serve(shard: Shard, listener: Listener) {
    let mut closer = Some(listener.closer().unwrap());
    let mut echoing = None;
    let accepting = listener.accept_each(|connection| {
        echoing = Some(shard.spawn(Queue::Clients, echo(connection.attach().unwrap())));
        if let Some(closer) = closer.take() {
            closer.close();
        }
    });
    accepting.await.unwrap();
    echoing.expect("the peer has connected").await;
}

async fn echo(mut stream: Stream) {
    let mut buffer = vec![0; 128 << 10];
    let mut turn = Turn::begin();
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => stream.write_all(&buffer[..n]).await.unwrap(),
        }
        turn.pass_if_over().await;
    }
    stream.close().await;
}

/// A busy loop of two milliseconds out of ten.
async fn compute(end: Instant) -> Pace {
    let mut pace = Pace::new("passes of a busy loop");
    let mut turn = Turn::begin();
    while Instant::now() < end {
        let until = Instant::now() + Duration::from_millis(2);
        while Instant::now() < until {
            turn.pass_if_over().await;
        }
        pace.step();
        clock::sleep(Duration::from_millis(8)).await;
    }
    pace
}

async fn wait(end: Instant) -> Pace {
    let mut pace = Pace::new("timers");
    while Instant::now() < end {
        clock::sleep(Duration::from_millis(1 + pace.times % 20)).await;
        pace.step();
    }
    pace
}
