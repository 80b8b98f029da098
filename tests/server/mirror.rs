//! A replica that attaches in the middle of a load ends equal, whatever the numbers of shards are.

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::Kevy;
use crate::load::Benchmark;
use crate::wait_until;

#[test]
fn one_to_one() {
    mirrors(1, 1);
}

#[test]
fn two_to_two() {
    mirrors(2, 2);
}

#[test]
fn one_to_three() {
    mirrors(1, 3);
}

#[test]
fn three_to_two() {
    mirrors(3, 2);
}

#[test]
fn four_to_one() {
    mirrors(4, 1);
}

#[test]
fn every_type_is_mirrored() {
    if !Benchmark::is_there() {
        return;
    }
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(3, primary.port_base);
    Benchmark::every_type(primary.port, 20_000, 2_000).finish();
    assert_becomes_equal(&primary, &replica);
}

#[test]
fn flushall_and_expiry_are_mirrored() {
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(1, primary.port_base);
    let mut client = primary.connect();
    for i in 0..1_000 {
        redis::cmd("SET").arg(format!("before:{i}")).arg(i).exec(&mut client).expect("SET");
    }
    redis::cmd("FLUSHALL").exec(&mut client).expect("FLUSHALL");
    for i in 0..1_000 {
        redis::cmd("SET").arg(format!("after:{i}")).arg(i).arg("PX").arg(3_600_000 + i).exec(&mut client).expect("SET");
    }
    assert_becomes_equal(&primary, &replica);
    assert_eq!(replica.ask::<u64>(&["DBSIZE"]).expect("DBSIZE"), 1_000);
}

#[test]
fn a_frame_of_any_size_crosses() {
    let primary = Kevy::primary(1);
    let replica = Kevy::replica(2, primary.port_base);
    let big = vec![b'x'; 200 << 20];
    redis::cmd("SET").arg("big").arg(&big).exec(&mut primary.connect()).expect("SET");
    redis::cmd("SET").arg("small").arg(1).exec(&mut primary.connect()).expect("SET");
    assert_becomes_equal(&primary, &replica);
    assert_eq!(replica.ask::<u64>(&["STRLEN", "big"]).expect("STRLEN"), big.len() as u64);
    for node in [&primary, &replica] {
        let peak = node.peak_memory();
        assert!(peak < 6 * big.len() as u64, "{} MiB at most", peak >> 20);
    }
}

/// Attaches a replica once a part of the load is there, and while the rest still comes.
fn mirrors(primary_shards: u16, replica_shards: u16) {
    if !Benchmark::is_there() {
        return;
    }
    let primary = Kevy::primary(primary_shards);
    let mut load = Benchmark::sets(primary.port, 200_000, 50_000);
    wait_until("a part of the load is there", || primary.number("master_repl_offset") > 50_000);
    let replica = Kevy::replica(replica_shards, primary.port_base);
    wait_until("the replica is whole", || {
        load.go_on();
        replica.info("master_link_status").as_deref() == Some("up")
    });
    load.finish();
    assert_becomes_equal(&primary, &replica);
    assert_eq!(primary.number("master_repl_offset") % 200_000, 0, "every SET is one frame");
    assert_eq!(primary.number("connected_slaves"), 1);
}

#[test]
fn a_sync_takes_little_memory_on_either_side() {
    if !Benchmark::is_there() {
        return;
    }
    // A small window, filled before the sync: what grows then, grows because of it.
    let primary = Kevy::start(1, &["--role", "primary", "--replication-buffer-size", "16mb"]);
    Benchmark::sets(primary.port, 600_000, 300_000).finish();
    let before = primary.peak_memory();
    let replica = Kevy::replica(2, primary.port_base);
    await_caught_up(&primary, &replica);
    assert_eq!(primary.number("sync_full"), 1);
    let grown = primary.peak_memory() - before;
    assert!(grown <= 32 << 20, "the primary's peak grew by {} MiB", grown >> 20);
    let (peak, end) = (replica.peak_memory(), replica.number("used_memory_rss"));
    assert!(peak * 10 <= end * 12, "the replica's peak was {} MiB, it ends with {}", peak >> 20, end >> 20);
    assert_eq!(primary.digest(), replica.digest());
}
