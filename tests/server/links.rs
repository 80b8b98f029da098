//! Links that are cut, stall, or lead nowhere.

use std::time::{Duration, Instant};

use kevy_replicate::replica::ReplicaClient;

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::{Kevy, free_ports};
use crate::load::Benchmark;
use crate::relay::Relay;
use crate::wait_until;

#[test]
fn a_cut_link_resumes_without_a_sync() {
    if !Benchmark::is_there() {
        return;
    }
    let primary = Kevy::primary(2);
    let relay = Relay::start(primary.port_base, 2);
    let replica = Kevy::replica(3, relay.port_base);
    redis::cmd("SET").arg("first").arg(1).exec(&mut primary.connect()).expect("SET");
    await_caught_up(&primary, &replica);
    let syncs = primary.number("sync_full");

    let mut load = Benchmark::sets(primary.port, 200_000, 20_000);
    for _ in 0..5 {
        let moved = relay.bytes_to_replica();
        wait_until("the stream moves", || {
            load.go_on();
            relay.bytes_to_replica() > moved + 100_000
        });
        relay.cut();
        wait_until("the replica sees the cut", || replica.info("master_link_status").as_deref() == Some("down"));
        relay.heal();
        let connections = relay.connections();
        wait_until("it dials again", || relay.connections() > connections);
    }
    load.finish();
    assert_becomes_equal(&primary, &replica);
    assert_eq!(primary.number("sync_full"), syncs, "the window held all along");
    assert!(primary.number("sync_partial_ok") >= 5);
}

#[test]
fn a_flipped_bit_costs_the_link_and_no_sync() {
    let primary = Kevy::primary(2);
    let relay = Relay::start(primary.port_base, 2);
    let replica = Kevy::replica(3, relay.port_base);
    let mut client = primary.connect();
    redis::cmd("SET").arg("first").arg(1).exec(&mut client).expect("SET");
    await_caught_up(&primary, &replica);
    let syncs = primary.number("sync_full");
    assert_eq!(replica.number("runs_damaged"), 0);

    let mut written = 0;
    for round in 1..=20 {
        relay.flip();
        wait_until("the damage is found", || {
            for _ in 0..100 {
                let key = format!("key:{}", written % 1_000);
                redis::cmd("APPEND").arg(key).arg(written).exec(&mut client).expect("APPEND");
                written += 1;
            }
            replica.number("runs_damaged") == round
        });
    }
    assert_becomes_equal(&primary, &replica);
    assert_eq!(primary.number("sync_full"), syncs, "every link went on where the last check was good");
    assert!(replica.log().contains("the stream is damaged behind "), "{}", replica.log());
}

#[test]
fn a_node_without_checksums_and_one_with_follow_each_other() {
    for (of_primary, of_replica) in [("true", "false"), ("false", "true")] {
        let primary = Kevy::start(1, &["--replication-checksum", of_primary]);
        let replica = Kevy::replica_with(1, primary.port_base, &["--replication-checksum", of_replica]);
        redis::cmd("MSET").arg("a").arg(1).arg("b").arg(2).exec(&mut primary.connect()).expect("MSET");
        assert_becomes_equal(&primary, &replica);
    }
}

#[test]
fn a_link_cut_for_longer_than_the_window_syncs() {
    if !Benchmark::is_there() {
        return;
    }
    let primary = Kevy::start(1, &["--replication-buffer-size", "64kb"]);
    let relay = Relay::start(primary.port_base, 1);
    let replica = Kevy::replica(2, relay.port_base);
    redis::cmd("SET").arg("first").arg(1).exec(&mut primary.connect()).expect("SET");
    await_caught_up(&primary, &replica);
    let syncs = primary.number("sync_full");
    relay.cut();
    wait_until("the primary sees the cut", || primary.number("connected_slaves") == 0);
    Benchmark::sets(primary.port, 50_000, 5_000).finish();
    relay.heal();
    assert_becomes_equal(&primary, &replica);
    assert_eq!(primary.number("sync_full"), syncs + 1);
    assert_eq!(primary.number("sync_full_reason_too_old"), 1);
}

#[test]
fn a_link_that_stalls_is_given_up_and_dialled_again() {
    let primary = Kevy::start(1, &["--link-timeout-ms", "500", "--heartbeat-ms", "100"]);
    let relay = Relay::start(primary.port_base, 1);
    let replica = Kevy::replica_with(1, relay.port_base, &["--link-timeout-ms", "500", "--heartbeat-ms", "100"]);
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    await_caught_up(&primary, &replica);
    assert!(relay.bytes_to_primary() > 0 && relay.bytes_to_replica() > 0);

    relay.stall();
    wait_until("the replica gives up the link", || replica.info("master_link_status").as_deref() == Some("down"));
    primary.ask::<()>(&["SET", "key", "2"]).expect("SET");
    relay.heal();
    assert_becomes_equal(&primary, &replica);
}

#[test]
fn an_upstream_that_is_not_there_is_tried_again_and_named() {
    let port_base = free_ports(1);
    let replica = Kevy::replica(1, port_base);
    wait_until("INFO says why", || replica.info("master_link_error").is_some());
    assert_eq!(replica.info("master_link_status").as_deref(), Some("down"));
    assert_eq!(replica.number("slave_repl_offset"), 0);

    let primary = Kevy::start(1, &["--listen-port-base", &port_base.to_string()]);
    redis::cmd("SET").arg("key").arg(1).exec(&mut primary.connect()).expect("SET");
    assert_becomes_equal(&primary, &replica);
    assert_eq!(replica.info("master_link_error"), None);
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let replica = Kevy::start(1, &["--role", "replica", "--upstream", "no-such-host.invalid:16004"]);
    wait_until("INFO says why", || {
        replica.info("master_link_error").is_some_and(|error| error.contains("no-such-host.invalid"))
    });
    assert_eq!(replica.ask::<String>(&["PING"]).expect("PING"), "PONG");
}

#[test]
fn replicaof_follows_and_lets_go() {
    let primary = Kevy::primary(2);
    let other = Kevy::primary(3);
    redis::cmd("SET").arg("key").arg("value").exec(&mut primary.connect()).expect("SET");
    let port = primary.port.to_string();
    other.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).expect("REPLICAOF");
    assert_becomes_equal(&primary, &other);
    assert_eq!(other.info("role").as_deref(), Some("slave"));
    assert_eq!(other.number("master_port"), u64::from(primary.port));

    other.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("REPLICAOF NO ONE");
    wait_until("it is a primary", || other.info("role").as_deref() == Some("master"));
    redis::cmd("SET").arg("own").arg(1).exec(&mut other.connect()).expect("a primary takes writes");
    assert_eq!(other.ask::<String>(&["GET", "key"]).expect("GET"), "value");
}

#[test]
fn both_ends_say_that_a_link_is_cut_within_100_ms() {
    let primary = Kevy::primary(2);
    let relay = Relay::start(primary.port_base, 2);
    let replica = Kevy::replica(2, relay.port_base);
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    let mut rounds = Vec::new();
    for _ in 0..5 {
        await_caught_up(&primary, &replica);
        relay.cut();
        let began = Instant::now();
        wait_until("both say so", || {
            replica.info("master_link_status").as_deref() == Some("down") && primary.number("connected_slaves") == 0
        });
        rounds.push(began.elapsed());
        relay.heal();
    }
    // The machine may be busy with other things; not each time.
    eprintln!("until both ends say that the link is cut: {rounds:?}");
    assert!(rounds.iter().min() < Some(&Duration::from_millis(100)), "{rounds:?}");
}

#[test]
fn a_link_is_up_soon_after_its_upstream_is_back() {
    let mut primary = Kevy::start(1, &["--log", "debug"]);
    let relay = Relay::start(primary.port_base, 1);
    let replica = Kevy::replica_with(1, relay.port_base, &["--accept-empty-primary"]);
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    await_caught_up(&primary, &replica);

    // One that lived is dialled again at once.
    let mut rounds = Vec::new();
    for _ in 0..5 {
        wait_until("it has lived for a while", || replica.info("master_link_status").as_deref() == Some("up"));
        std::thread::sleep(Duration::from_millis(1_100));
        let connections = relay.connections();
        let began = Instant::now();
        relay.cut();
        relay.heal();
        wait_until("the link is up again", || {
            relay.connections() > connections && replica.info("master_link_status").as_deref() == Some("up")
        });
        rounds.push(began.elapsed());
    }
    eprintln!("until a link that was cut is up again: {rounds:?}");
    assert!(rounds.iter().min() < Some(&Duration::from_millis(100)), "{rounds:?}");

    primary.kill();
    wait_until("it is dialled in vain", || replica.info("master_link_status").as_deref() == Some("down"));
    std::thread::sleep(Duration::from_millis(2_000));
    primary.restart();
    let began = Instant::now();
    wait_until("the link is up", || replica.info("master_link_status").as_deref() == Some("up"));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_silent_replica_is_dropped_remembered_and_forgotten() {
    let flags = ["--link-timeout-ms", "600", "--heartbeat-ms", "100", "--reconnect-window-ms", "400"];
    let primary = Kevy::start(2, &flags);
    let replica = Kevy::replica(2, primary.port_base);
    let mut client = primary.connect();
    redis::cmd("SET").arg("key").arg(1).exec(&mut client).expect("SET");
    await_caught_up(&primary, &replica);
    assert_eq!(primary.number("replicas_away"), 0);
    assert_eq!(redis::cmd("WAIT").arg(1).arg(0).query::<u64>(&mut client).expect("WAIT"), 1);

    replica.signal("STOP");
    wait_until("its links are closed after the timeout", || primary.number("connected_slaves") == 0);
    assert_eq!(redis::cmd("WAIT").arg(1).arg(50).query::<u64>(&mut client).expect("WAIT"), 0, "it does not count");
    wait_until("it is remembered", || primary.number("replicas_away") == 1 || primary.log().contains("silent"));
    wait_until("and forgotten", || primary.number("replicas_away") == 0);
    assert_eq!(redis::cmd("WAIT").arg(1).arg(50).query::<u64>(&mut client).expect("WAIT"), 0, "it does not count");
    replica.signal("CONT");
    primary.ask::<()>(&["SET", "key", "2"]).expect("SET");
    assert_becomes_equal(&primary, &replica);
    assert_eq!(primary.number("sync_full"), 2, "the window had everything");
}

#[test]
fn a_link_that_was_replaced_ends_although_its_socket_takes_nothing() {
    let primary = Kevy::primary(1);
    let address = format!("127.0.0.1:{}", primary.port_base);
    let first = ReplicaClient::follow(&address, "replica").expect("a link");
    let mut client = primary.connect();
    for i in 0..40 {
        redis::cmd("SET").arg(i).arg(vec![b'x'; 1 << 20]).exec(&mut client).expect("SET");
    }
    let second = ReplicaClient::follow(&address, "replica").expect("a newer link");
    let began = Instant::now();
    wait_until("the first one ends", || primary.log().contains("replaced by a newer link"));
    assert!(began.elapsed() < Duration::from_secs(20), "that was its timeout: {:?}", began.elapsed());
    drop((first, second));
}

#[test]
fn an_upstream_that_is_followed_again_knows_the_newest_dial() {
    let primary = Kevy::primary(1);
    let relay = Relay::start(primary.port_base, 1);
    let replica = Kevy::replica(1, relay.port_base);
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    for _ in 0..5 {
        await_caught_up(&primary, &replica);
        let connections = relay.connections();
        relay.cut();
        relay.heal();
        wait_until("it dials again", || relay.connections() > connections);
    }
    await_caught_up(&primary, &replica);
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("REPLICAOF NO ONE");
    replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]).expect("REPLICAOF");
    assert_becomes_equal(&primary, &replica);
    assert!(!primary.log().contains("refused"), "{}", primary.log());
}
