//! Processes that are killed: replicas come back and end equal; a primary that comes back empty erases nobody.

use std::time::{Duration, Instant};

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::Kevy;
use crate::load::Benchmark;
use crate::relay::Relay;
use crate::wait_until;

#[test]
fn twenty_kills_of_the_replica_end_equal() {
    if !Benchmark::is_there() {
        return;
    }
    let primary = Kevy::primary(2);
    let mut replica = Kevy::replica(3, primary.port_base);
    let mut load = Benchmark::every_type(primary.port, 60_000, 5_000);
    for kill in 0..20_u64 {
        // Each kill meets the replica at another point: while it dials, in its sync, in the live stream.
        let frames = kill * kill * 50;
        let from = primary.number("master_repl_offset");
        wait_until("some writes came", || {
            load.go_on();
            primary.number("master_repl_offset") >= from + frames
        });
        replica.kill();
        replica.restart();
    }
    load.finish();
    assert_becomes_equal(&primary, &replica);
}

#[test]
fn a_primary_that_comes_back_empty_does_not_erase_its_replica() {
    let mut primary = Kevy::start(2, &["--log", "debug"]);
    let replica = Kevy::replica(2, primary.port_base);
    for i in 0..100 {
        primary.ask::<()>(&["SET", &format!("key:{i}"), "precious"]).expect("SET");
    }
    await_caught_up(&primary, &replica);
    let digest = replica.digest();

    primary.kill();
    primary.restart();
    primary.ask::<()>(&["SET", "new", "1"]).expect("SET");
    wait_until("INFO says why it does not sync", || {
        replica.info("master_link_error").is_some_and(|error| error.contains("empty"))
    });
    assert_eq!(replica.info("master_link_status").as_deref(), Some("down"));
    assert_eq!(replica.ask::<String>(&["GET", "key:7"]).expect("it serves reads"), "precious");
    assert_eq!(replica.digest(), digest);
    assert!(replica.log().contains("accept_empty_primary"), "the log says the way out\n{}", replica.log());

    // It asks again and again, and no sync is begun for it.
    wait_until("each stream was refused once", || primary.number("sync_full") >= 2);
    let asked = || primary.log().matches("asked").count();
    let before = asked();
    wait_until("it asks again and again", || asked() > before + 6);
    assert_eq!(primary.number("sync_full"), 2, "{}", primary.log());
}

#[test]
fn a_replica_without_data_follows_its_primary_through_an_empty_restart() {
    let mut primary = Kevy::primary(2);
    let relay = Relay::start(primary.port_base, 2);
    let replica = Kevy::replica(2, relay.port_base);
    await_caught_up(&primary, &replica);
    relay.cut();
    primary.kill();
    primary.restart();
    for i in 0..100 {
        primary.ask::<()>(&["SET", &format!("key:{i}"), "value"]).expect("SET");
    }
    // One stream has the new history when the other dials: what came with it is nothing to lose to the same primary.
    relay.stall_port(1);
    relay.let_through();
    wait_until("the first stream is there", || replica.ask::<u64>(&["DBSIZE"]).is_ok_and(|keys| keys > 0));
    relay.cut();
    relay.heal();
    assert_becomes_equal(&primary, &replica);
}

#[test]
fn a_replica_that_accepts_an_empty_primary_follows_it() {
    let mut primary = Kevy::primary(2);
    let replica = Kevy::replica_with(2, primary.port_base, &["--accept-empty-primary"]);
    primary.ask::<()>(&["SET", "old", "1"]).expect("SET");
    await_caught_up(&primary, &replica);

    primary.kill();
    primary.restart();
    primary.ask::<()>(&["SET", "new", "1"]).expect("SET");
    wait_until("it has what the primary has", || replica.digest() == primary.digest());
    assert_becomes_equal(&primary, &replica);
}

#[test]
fn a_primary_that_comes_back_empty_with_fewer_shards_erases_nothing() {
    let mut primary = Kevy::primary(3);
    let replica = Kevy::replica(2, primary.port_base);
    for i in 0..100 {
        primary.ask::<()>(&["SET", &format!("key:{i}"), "precious"]).expect("SET");
    }
    await_caught_up(&primary, &replica);
    let digest = replica.digest();

    primary.kill();
    primary.set_flag("--shards", "2");
    primary.restart();
    wait_until("INFO says why it does not sync", || {
        replica.info("master_link_error").is_some_and(|error| error.contains("empty"))
    });
    assert_eq!(replica.ask::<String>(&["GET", "key:7"]).expect("it serves reads"), "precious");
    assert_eq!(replica.ask::<u64>(&["DBSIZE"]).expect("it serves reads"), 100);
    assert_eq!(replica.digest(), digest);
}

#[test]
fn nodes_under_load_that_are_asked_to_end_end_soon_and_well() {
    if !Benchmark::is_there() {
        return;
    }
    let mut primary = Kevy::primary(2);
    let mut replica = Kevy::replica(3, primary.port_base);
    let mut load = Benchmark::sets(primary.port, 100_000_000, 20_000);
    wait_until("the stream runs", || replica.number("slave_repl_offset") > 20_000);
    for node in [&mut replica, &mut primary] {
        assert!(load.is_running());
        let began = Instant::now();
        assert_eq!(node.stop().code(), Some(0), "{}", node.log());
        assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    }
}

#[test]
fn a_node_that_is_asked_to_end_ends_well() {
    let mut primary = Kevy::primary(2);
    let mut replica = Kevy::replica(1, primary.port_base);
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    await_caught_up(&primary, &replica);
    assert_eq!(replica.stop().code(), Some(0), "{}", replica.log());
    assert_eq!(primary.stop().code(), Some(0), "{}", primary.log());
}
