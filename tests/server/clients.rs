//! What clients of one node see: shards share the work, pipelines keep their order, a replica refuses writes.

use std::collections::BTreeMap;

use crate::compare::await_caught_up;
use crate::kevy::Kevy;
use crate::load::Benchmark;

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
