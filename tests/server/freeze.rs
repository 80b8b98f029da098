//! A replica that is stopped: `WAIT` tells the truth, and the primary goes on.

use std::time::Instant;

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
