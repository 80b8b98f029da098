//! Full syncs on sockets: shared by those that attach together, taken up again after a cut, and no matter to anybody else.

use std::thread;
use std::time::{Duration, Instant};

use kevy_replicate::id::{HASH_SLOTS, ShardCount, ShardId};
use kevy_replicate::store::hash;
use redis::Connection;

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::Kevy;
use crate::relay::Relay;
use crate::wait_until;

const KEYS: u64 = 150_000;

/// `KEYS` keys of 100 bytes.
fn fill(node: &Kevy) {
    let mut connection = node.connect();
    for begin in (0..KEYS).step_by(5_000) {
        let mut pipe = redis::pipe();
        for number in begin..begin + 5_000 {
            pipe.cmd("SET").arg(format!("key:{number}")).arg([b'v'; 100].as_slice()).ignore();
        }
        pipe.exec(&mut connection).expect("SET");
    }
}

/// How many keys the shards of a node hold, whether or not they are shown to clients.
fn keys_held(node: &Kevy) -> u64 {
    let info: String = node.ask(&["INFO", "server"]).expect("INFO");
    let shards = info.lines().filter(|line| line.starts_with("shard") && line.contains("keys="));
    shards
        .map(|line| line.split("keys=").nth(1).and_then(|rest| rest.split(',').next()).expect("a field").trim())
        .map(|keys| keys.parse::<u64>().expect("a number"))
        .sum()
}

fn slots_of(shards: u16, shard: u16, connection: &mut Connection, count: usize, value: &[u8]) {
    let shards = ShardCount::new(shards).expect("a count");
    let of_shard = |key: &String| shards.owner(hash::slot_of(key.as_bytes())) == ShardId::new(shard);
    let mut pipe = redis::pipe();
    for key in (0..).map(|number| format!("key:{number}")).filter(of_shard).take(count) {
        pipe.cmd("SET").arg(key).arg(value).ignore();
    }
    pipe.exec(connection).expect("SET");
}

#[test]
fn a_sync_cut_at_half_goes_on_with_the_other_half() {
    for (shards, replica_shards) in [(1, 1), (2, 3)] {
        let primary = Kevy::primary(shards);
        fill(&primary);
        let relay = Relay::start(primary.port_base, shards);
        // A key takes a little more than its value.
        relay.stall_at(KEYS * 115 * 6 / 10);
        let replica = Kevy::replica(replica_shards, relay.port_base);
        wait_until("more than half of it is there", || relay.is_stalled() && keys_held(&replica) * 100 > KEYS * 52);
        assert!(keys_held(&replica) < KEYS);
        relay.cut();
        wait_until("the primary sees the cut", || primary.number("connected_slaves") == 0);
        let before = primary.number("slots_dumped");
        relay.heal();
        assert_becomes_equal(&primary, &replica);
        let after = primary.number("slots_dumped") - before;
        assert!(after > 0 && after <= HASH_SLOTS as u64 / 2, "{after} slots were dumped after the cut");
        assert_eq!(primary.number("sync_full"), u64::from(shards));
    }
}

#[test]
fn a_cut_in_the_live_stream_sends_only_what_is_missing() {
    let primary = Kevy::primary(2);
    let relay = Relay::start(primary.port_base, 2);
    let replica = Kevy::replica(3, relay.port_base);
    fill(&primary);
    await_caught_up(&primary, &replica);
    let (dumped, syncs) = (primary.number("slots_dumped"), primary.number("sync_full"));
    relay.cut();
    wait_until("the primary sees the cut", || primary.number("connected_slaves") == 0);
    let mut connection = primary.connect();
    for shard in 0..2 {
        slots_of(2, shard, &mut connection, 500, &[b'w'; 100]);
    }
    let sent = relay.bytes_to_replica();
    relay.heal();
    await_caught_up(&primary, &replica);
    let sent = relay.bytes_to_replica() - sent;
    // A thousand frames of 100 bytes with their framing, two handshakes, a few heartbeats.
    assert!((100_000..200_000).contains(&sent), "{sent} bytes were sent for a thousand frames");
    assert_eq!((primary.number("slots_dumped"), primary.number("sync_full")), (dumped, syncs));
    assert_eq!(primary.digest(), replica.digest());
}

#[test]
fn a_stream_that_falls_out_of_the_window_syncs_alone() {
    let primary = Kevy::start(3, &["--replication-buffer-size", "64kb"]);
    let relay = Relay::start(primary.port_base, 3);
    let replica = Kevy::replica(2, relay.port_base);
    let mut connection = primary.connect();
    (0..3).for_each(|shard| slots_of(3, shard, &mut connection, 100, b"value"));
    await_caught_up(&primary, &replica);
    let (dumped, syncs) = (primary.number("slots_dumped"), primary.number("sync_full"));
    relay.cut();
    wait_until("the primary sees the cut", || primary.number("connected_slaves") == 0);
    slots_of(3, 0, &mut connection, 10, b"a few");
    slots_of(3, 1, &mut connection, 2_000, &[b'w'; 100]);
    relay.heal();
    assert_becomes_equal(&primary, &replica);
    assert_eq!(primary.number("sync_full"), syncs + 1, "one stream");
    assert_eq!(primary.number("sync_full_reason_too_old"), 1);
    let anew = primary.number("slots_dumped") - dumped;
    assert!(anew <= (HASH_SLOTS as u64).div_ceil(3), "{anew} slots were dumped for one stream of three");
}

#[test]
fn eight_that_attach_at_once_share_one_walk() {
    let primary = Kevy::primary(1);
    fill(&primary);
    let relay = Relay::start(primary.port_base, 1);
    relay.stall();
    let replicas: Vec<Kevy> = (0..8).map(|_| Kevy::replica(1, relay.port_base)).collect();
    wait_until("all have dialled", || relay.connections() >= 8);
    relay.heal();
    for replica in &replicas {
        await_caught_up(&primary, replica);
        assert_eq!(primary.digest(), replica.digest());
    }
    let dumped = primary.number("slots_dumped");
    assert!(dumped * 4 <= 5 * HASH_SLOTS as u64, "{dumped} slots were dumped for eight");
    assert_eq!((primary.number("sync_full"), primary.number("connected_slaves")), (8, 8));
}

#[test]
fn seven_end_beside_one_that_is_stopped() {
    let primary = Kevy::start(1, &["--replication-buffer-size", "1mb"]);
    fill(&primary);
    let relay = Relay::start(primary.port_base, 1);
    relay.stall();
    let mut replicas: Vec<Kevy> = (0..8).map(|_| Kevy::replica(1, relay.port_base)).collect();
    wait_until("all have dialled", || relay.connections() >= 8);
    let stopped = replicas.pop().expect("eight");
    stopped.signal("STOP");
    let before = primary.peak_memory();
    relay.heal();
    for replica in &replicas {
        await_caught_up(&primary, replica);
        assert_eq!(primary.digest(), replica.digest());
    }
    let dumped = primary.number("slots_dumped");
    assert!(dumped * 4 <= 5 * HASH_SLOTS as u64, "{dumped} slots were dumped for eight");
    let grown = primary.peak_memory() - before;
    assert!(grown <= 32 << 20, "the primary's peak grew by {} MiB", grown >> 20);
    stopped.signal("CONT");
    assert_becomes_equal(&primary, &stopped);
}

#[test]
fn a_replica_that_stops_reading_in_a_sync_is_given_up_and_goes_on_later() {
    let primary = Kevy::start(1, &["--link-timeout-ms", "500", "--heartbeat-ms", "100"]);
    fill(&primary);
    let relay = Relay::start(primary.port_base, 1);
    relay.stall_at(KEYS * 40);
    let replica = Kevy::replica_with(2, relay.port_base, &["--link-timeout-ms", "500", "--heartbeat-ms", "100"]);
    wait_until("a part of the dump crossed", || relay.is_stalled());
    // A client that had to wait for it would wait until it is given up.
    let mut client = primary.connect();
    for n in 0..100 {
        let began = Instant::now();
        redis::cmd("SET").arg("meanwhile").arg(n).exec(&mut client).expect("SET");
        assert!(began.elapsed() < Duration::from_millis(250), "a write took {:?}", began.elapsed());
    }
    wait_until("the primary gives it up", || primary.number("connected_slaves") == 0);
    relay.heal();
    assert_becomes_equal(&primary, &replica);
    assert_eq!(primary.number("sync_full"), 1, "it went on where it was");
}

#[test]
fn twenty_that_come_and_go_leave_nothing_behind() {
    let primary = Kevy::primary(2);
    let mut connection = primary.connect();
    (0..2).for_each(|shard| slots_of(2, shard, &mut connection, 2_000, &[b'v'; 100]));
    let replica = Kevy::start(3, &[]);
    let port = primary.port.to_string();
    let cycle = || {
        replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).expect("REPLICAOF");
        await_caught_up(&primary, &replica);
        replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("REPLICAOF NO ONE");
        wait_until("it is gone", || primary.number("connected_slaves") == 0);
    };
    (0..3).for_each(|_| cycle());
    let files = |node: &Kevy| node.open_files();
    let before = [&primary, &replica].map(|node| (files(node), node.threads(), node.number("used_memory_rss")));
    (0..20).for_each(|_| cycle());
    for (node, (files_before, threads, memory)) in [&primary, &replica].into_iter().zip(before) {
        wait_until("files are closed", || files(node) <= files_before);
        assert_eq!(node.threads(), threads);
        let grown = node.number("used_memory_rss").saturating_sub(memory);
        assert!(grown <= 8 << 20, "port {}: {} KiB more", node.port, grown >> 10);
    }
    assert_eq!(primary.digest(), replica.digest());
}

#[test]
fn a_hundred_replicaof_at_once_to_one_primary_sync_once() {
    let primary = Kevy::primary(2);
    let mut connection = primary.connect();
    (0..2).for_each(|shard| slots_of(2, shard, &mut connection, 1_000, b"value"));
    let node = Kevy::start(2, &[]);
    let port = primary.port.to_string();
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| node.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).expect("REPLICAOF"));
        }
    });
    assert_becomes_equal(&primary, &node);
    assert_eq!(primary.number("connected_slaves"), 1);
    assert_eq!(primary.number("sync_full"), 2, "the same command again changes nothing");
}
