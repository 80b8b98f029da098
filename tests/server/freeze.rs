//! A replica that is stopped: `WAIT` tells the truth, and the primary goes on.

use std::time::{Duration, Instant};

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::Kevy;
use crate::load::Benchmark;

#[test]
fn wait_counts_only_what_is_applied() {
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(2, primary.port_base);
    let mut client = primary.connect();
    redis::cmd("SET").arg("key").arg(0).exec(&mut client).expect("SET");
    await_caught_up(&primary, &replica);

    replica.signal("STOP");
    redis::cmd("SET").arg("key").arg(1).exec(&mut client).expect("SET");
    let began = Instant::now();
    let acked: u64 = redis::cmd("WAIT").arg(1).arg(300).query(&mut client).expect("WAIT");
    assert_eq!(acked, 0);
    let waited = began.elapsed();
    assert!((300..3_000).contains(&waited.as_millis()), "it gave up after {waited:?}");

    replica.signal("CONT");
    let acked: u64 = redis::cmd("WAIT").arg(1).arg(10_000).query(&mut client).expect("WAIT");
    assert_eq!(acked, 1);
    assert_eq!(replica.ask::<u64>(&["GET", "key"]).expect("GET"), 1);
}

#[test]
fn wait_after_flushall_counts_only_what_is_applied() {
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(2, primary.port_base);
    let mut client = primary.connect();
    for key in 0..1_000 {
        redis::cmd("SET").arg(key).arg("before").exec(&mut client).expect("SET");
    }
    await_caught_up(&primary, &replica);

    replica.signal("STOP");
    redis::cmd("FLUSHALL").exec(&mut client).expect("FLUSHALL");
    redis::cmd("SET").arg("key").arg("after").exec(&mut client).expect("SET");
    let acked: u64 = redis::cmd("WAIT").arg(1).arg(300).query(&mut client).expect("WAIT");
    assert_eq!(acked, 0, "what was acknowledged before says nothing of what came after");
    replica.signal("CONT");
    let acked: u64 = redis::cmd("WAIT").arg(1).arg(10_000).query(&mut client).expect("WAIT");
    assert_eq!(acked, 1);
    assert_becomes_equal(&primary, &replica);
    assert_eq!(replica.ask::<u64>(&["DBSIZE"]).expect("DBSIZE"), 1);
}

/// What a round of the same load cost a primary.
#[derive(Clone, Copy, Debug)]
struct Round {
    writing: Duration,
    cpu: Duration,
    p99: Duration,
}

/// 100,000 SETs in pipelines, then a thousand GETs one by one.
fn round(node: &Kevy, client: &mut redis::Connection, value: &str) -> Round {
    let (cpu, began) = (node.cpu(), Instant::now());
    for first in (0..100_000).step_by(500) {
        let mut pipe = redis::pipe();
        for key in first..first + 500 {
            pipe.cmd("SET").arg(key % 20_000).arg(value).ignore();
        }
        pipe.exec(client).expect("SET");
    }
    let (writing, cpu) = (began.elapsed(), node.cpu() - cpu);
    let mut waits: Vec<Duration> = (0..1_000)
        .map(|key| {
            let began = Instant::now();
            redis::cmd("GET").arg(key).exec(client).expect("GET");
            began.elapsed()
        })
        .collect();
    waits.sort_unstable();
    Round { writing, cpu, p99: waits[989] }
}

/// What the round cost that was disturbed least.
fn least(rounds: &[Round], of: impl Fn(&Round) -> Duration) -> Duration {
    rounds.iter().map(of).min().expect("there were rounds")
}

/// Two primaries, one with a replica that stands still, do the same in turn. Other tests run beside this one, and take from both alike
/// but not at once: what the replica costs is in every round, what they cost is not.
#[test]
fn a_frozen_replica_costs_its_primary_neither_throughput_nor_latency_nor_memory() {
    let flags = ["--role", "primary", "--link-timeout-ms", "600000"];
    let nodes = [Kevy::start(2, &flags), Kevy::start(2, &flags)];
    let replica = Kevy::replica_with(1, nodes[0].port_base, &["--link-timeout-ms", "600000"]);
    let mut clients = [&nodes[0], &nodes[1]].map(Kevy::connect);
    let value = "v".repeat(64);
    nodes.iter().zip(&mut clients).for_each(|(node, client)| _ = round(node, client, &value));
    await_caught_up(&nodes[0], &replica);
    let before = [&nodes[0], &nodes[1]].map(Kevy::memory);
    let syncs = nodes[0].number("sync_full");

    replica.signal("STOP");
    let mut rounds = [Vec::new(), Vec::new()];
    for nth in 0..7 {
        for index in [nth % 2, 1 - nth % 2] {
            rounds[index].push(round(&nodes[index], &mut clients[index], &value));
        }
    }
    let behind = nodes[0].number("master_repl_offset") - acked(&nodes[0]);
    assert!(behind > 100_000, "it stood still, and is {behind} frames behind");
    let grown = [0, 1].map(|index| nodes[index].memory().saturating_sub(before[index]));
    let [frozen, alone] = [0, 1].map(|index| {
        let of = |of: fn(&Round) -> Duration| least(&rounds[index], of);
        (of(|round| round.writing), of(|round| round.cpu), of(|round| round.p99))
    });
    eprintln!("writing, CPU, p99 beside a frozen replica {frozen:?}, alone {alone:?}; bytes grown {grown:?}");
    assert!(frozen.0 < alone.0 * 3 / 2, "throughput");
    assert!(frozen.1 < alone.1 * 5 / 4 + Duration::from_millis(20), "processor time");
    assert!(frozen.2 < alone.2 * 2 + Duration::from_millis(2), "p99");
    assert!(grown[0] <= grown[1] + (8 << 20), "memory");

    replica.signal("CONT");
    assert_becomes_equal(&nodes[0], &replica);
    assert_eq!(nodes[0].number("sync_full"), syncs, "the window had all that it missed");
}

/// The sum of what the first replica has acknowledged.
fn acked(primary: &Kevy) -> u64 {
    let line = primary.info("slave0").expect("a replica");
    let offset = line.split(',').find_map(|field| field.strip_prefix("offset=")).expect("its offset");
    offset.parse().expect("a number")
}

#[test]
fn a_replica_frozen_for_longer_than_the_window_syncs() {
    let primary = Kevy::start(2, &["--role", "primary", "--replication-buffer-size", "1mb"]);
    let replica = Kevy::replica(3, primary.port_base);
    let mut client = primary.connect();
    let value = "v".repeat(64);
    round(&primary, &mut client, &value);
    await_caught_up(&primary, &replica);
    let syncs = primary.number("sync_full");
    replica.signal("STOP");
    let large = "w".repeat(1_000);
    round(&primary, &mut client, &large);
    replica.signal("CONT");
    assert_becomes_equal(&primary, &replica);
    assert_eq!(primary.number("sync_full"), syncs + 2, "one for each stream");
}

#[test]
fn a_frozen_replica_catches_up() {
    if !Benchmark::is_there() {
        return;
    }
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(1, primary.port_base);
    redis::cmd("SET").arg("key").arg(0).exec(&mut primary.connect()).expect("SET");
    await_caught_up(&primary, &replica);
    replica.signal("STOP");
    Benchmark::sets(primary.port, 200_000, 20_000).finish();
    replica.signal("CONT");
    assert_becomes_equal(&primary, &replica);
}
