//! What clients of one node see: shards share the work, pipelines keep their order, a replica refuses writes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::compare::await_caught_up;
use crate::kevy::Kevy;
use crate::load::Benchmark;
use crate::wait_until;

#[test]
fn connections_and_keys_are_spread_over_the_shards() {
    if !Benchmark::is_there() {
        return;
    }
    let node = Kevy::primary(4);
    let connections: Vec<_> = (0..16).map(|_| node.connect()).collect();
    let accepted = shards(&node, "clients");
    // The connection that asks is one more.
    let of_sixteen: u64 = accepted.values().sum();
    assert_eq!(of_sixteen, 17, "{accepted:?}");
    assert!(accepted.values().all(|count| (4..=5).contains(count)), "{accepted:?}");
    drop(connections);

    let before = shards(&node, "commands");
    Benchmark::sets(node.port, 200_000, 1_000_000).finish();
    let after = shards(&node, "commands");
    let executed: BTreeMap<_, _> = after.iter().map(|(shard, count)| (shard, count - before[shard])).collect();
    let all: u64 = executed.values().sum();
    for (shard, count) in &executed {
        let share = *count as f64 / all as f64;
        assert!((0.20..=0.30).contains(&share), "shard {shard} executed {share:.3} of all: {executed:?}");
    }
}

#[test]
fn a_pipeline_keeps_its_order_over_the_shards() {
    let node = Kevy::primary(4);
    let mut pipe = redis::pipe();
    for i in 0..1_000 {
        pipe.cmd("SET").arg(format!("key:{i}")).arg(i).ignore();
        pipe.cmd("GET").arg(format!("key:{i}"));
    }
    let read: Vec<u64> = pipe.query(&mut node.connect()).expect("a pipeline");
    assert_eq!(read, (0..1_000).collect::<Vec<_>>());
}

#[test]
fn a_replica_refuses_writes_and_serves_reads() {
    let primary = Kevy::primary(1);
    let replica = Kevy::replica(2, primary.port_base);
    primary.ask::<()>(&["SET", "key", "value"]).expect("SET");
    await_caught_up(&primary, &replica);
    let refused = replica.ask::<()>(&["SET", "key", "other"]).expect_err("a replica is read-only");
    assert_eq!(refused.code(), Some("READONLY"), "{refused}");
    assert_eq!(replica.ask::<String>(&["GET", "key"]).expect("GET"), "value");
}

/// `field` of the line of each shard.
fn shards(node: &Kevy, field: &str) -> BTreeMap<u64, u64> {
    let info: String = node.ask(&["INFO", "server"]).expect("INFO");
    let mut found = BTreeMap::new();
    for line in info.lines() {
        let Some((shard, fields)) = line.strip_prefix("shard").and_then(|line| line.split_once(':')) else { continue };
        let Ok(shard) = shard.parse() else { continue };
        let value = fields.trim_end().split(',').find_map(|pair| pair.strip_prefix(field)?.strip_prefix('='));
        found.insert(shard, value.expect(field).parse().expect("a number"));
    }
    assert!(!found.is_empty(), "INFO has no lines of shards\n{info}");
    found
}

/// Rounds of a busy client that each take longer than a shard lets its ring go unlooked at: the others' sockets are looked at between
/// them all the same.
#[test]
fn who_asks_for_much_that_is_slow_keeps_nobody_waiting_until_the_end() {
    const ASKED: usize = 2_000;
    let node = Kevy::primary(1);
    let mut other = node.connect();
    redis::cmd("SETRANGE").arg("bits").arg(4 << 20).arg("x").exec(&mut other).expect("SETRANGE");
    let mut busy = TcpStream::connect(("127.0.0.1", node.port)).expect("connects");
    let replies = BufReader::new(busy.try_clone().expect("a descriptor"));
    let answered = Arc::new(AtomicUsize::new(0));
    let reading = thread::spawn({
        let answered = Arc::clone(&answered);
        move || replies.lines().take(ASKED).for_each(|line| _ = line.map(|_| answered.fetch_add(1, Ordering::Relaxed)))
    });
    busy.write_all("BITCOUNT bits\r\n".repeat(ASKED).as_bytes()).expect("it reads");
    wait_until("the busy one has its first answers", || answered.load(Ordering::Relaxed) > 0);
    (0..5).for_each(|_| redis::cmd("PING").exec(&mut other).expect("PING"));
    let meanwhile = answered.load(Ordering::Relaxed);
    assert!(meanwhile < ASKED / 2, "five PINGs were answered behind {meanwhile} commands of another client");
    reading.join().expect("it only reads");
    assert_eq!(answered.load(Ordering::Relaxed), ASKED);
}
