//! What a replica answers while it is behind: `-LOADING` for slots that are being replaced, `-STALE` for those of which nothing was
//! heard for too long, and everything else as ever.

use std::thread;
use std::time::Duration;

use kevy_replicate::id::{ShardCount, ShardId};
use kevy_replicate::store::hash;

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::Kevy;
use crate::relay::Relay;
use crate::wait_until;

/// Keys `key:0` to `key:1999`, those of each shard of 2.
fn keys() -> [Vec<String>; 2] {
    let two = ShardCount::new(2).expect("a count");
    let (first, second) = (0..2_000)
        .map(|n| format!("key:{n}"))
        .partition(|key| two.owner(hash::locate(key.as_bytes()).slot) == ShardId::new(0));
    [first, second]
}

/// Sets all of [`keys`] to values of 1 KB that begin with `text`.
fn fill(node: &Kevy, text: &str) {
    let mut pipe = redis::pipe();
    for key in keys().concat() {
        pipe.cmd("SET").arg(key).arg(format!("{text}{}", "x".repeat(1_000))).ignore();
    }
    pipe.exec(&mut node.connect()).expect("SET");
}

/// What a command is refused with; `None` if it is executed.
fn refused(node: &Kevy, command: &[&str]) -> Option<String> {
    node.ask::<redis::Value>(command).err().map(|error| error.code().map_or_else(|| error.to_string(), str::to_owned))
}

fn is_loading(node: &Kevy, command: &[&str]) -> bool {
    let refused = refused(node, command);
    assert!(refused.is_none() || refused.as_deref() == Some("LOADING"), "{refused:?}");
    refused.is_some()
}

const ABOUT_ALL: [&[&str]; 4] = [&["DBSIZE"], &["SCAN", "0"], &["KEYS", "*"], &["RANDOMKEY"]];

#[test]
fn a_stale_shard_does_not_take_the_node_out() {
    for replica_shards in [2, 3] {
        let primary = Kevy::primary(2);
        fill(&primary, "new");
        let relay = Relay::start(primary.port_base, 2);
        // In the middle of the dump of the second stream.
        relay.stall_port_after(1, 300_000);
        let replica = Kevy::replica(replica_shards, relay.port_base);
        let [first, second] = keys();
        wait_until("the second stream stands in the middle of its sync", || relay.is_port_stalled(1));
        wait_until("the first is whole", || first.iter().all(|key| !is_loading(&replica, &["GET", key])));
        wait_until("what has arrived of the second is applied", || {
            second.iter().any(|key| !is_loading(&replica, &["GET", key]))
        });
        let missing = second.iter().filter(|key| is_loading(&replica, &["GET", key])).count();
        assert!((1..second.len()).contains(&missing), "{missing} of {} are not whole", second.len());
        for command in ABOUT_ALL {
            assert!(is_loading(&replica, command), "{command:?} is about slots that are not whole");
        }
        let unfinished = second.iter().find(|key| is_loading(&replica, &["GET", key])).expect("it is not whole");
        assert!(is_loading(&replica, &["MGET", &first[0], unfinished]), "half of an answer is none");
        assert_eq!(replica.info("master_sync_in_progress").as_deref(), Some("1"));
        relay.heal();
        assert_becomes_equal(&primary, &replica);
        for command in ABOUT_ALL {
            assert!(!is_loading(&replica, command), "{command:?}");
        }
    }
}

#[test]
fn serve_stale_answers_from_the_old_slot_until_the_new_one_is_whole() {
    let primary = Kevy::start(2, &["--replication-buffer-size", "64kb"]);
    fill(&primary, "old");
    primary.ask::<()>(&["SET", "only-here", "1"]).expect("SET");
    let relay = Relay::start(primary.port_base, 2);
    let replica = Kevy::replica_with(2, relay.port_base, &["--serve-stale"]);
    assert_becomes_equal(&primary, &replica);

    relay.cut();
    wait_until("the primary sees the cut", || primary.number("connected_slaves") == 0);
    fill(&primary, "new");
    primary.ask::<()>(&["DEL", "only-here"]).expect("DEL");
    for port in [0, 1] {
        relay.stall_port_after(port, 300_000);
    }
    relay.let_through();
    wait_until("both streams stand in the middle of their sync", || (0..2).all(|port| relay.is_port_stalled(port)));
    let value = |key: &str| replica.ask::<Option<String>>(&["GET", key]).expect("GET").unwrap_or_default();
    let all = keys().concat();
    let begins = |with: &str| all.iter().filter(|key| value(key).starts_with(with)).count();
    wait_until("what has arrived is applied", || begins("new") > 0);
    assert_eq!(begins("new") + begins("old"), all.len(), "each slot is the old or the new one");
    assert!(begins("old") > 0);
    for command in ABOUT_ALL {
        assert_eq!(refused(&replica, command), None, "{command:?}");
    }
    relay.heal();
    assert_becomes_equal(&primary, &replica);
    assert_eq!(value("only-here"), "");
}

#[test]
fn reads_of_what_was_not_heard_of_for_too_long_are_refused() {
    let flags = ["--heartbeat-ms", "50"];
    let primary = Kevy::start(2, &flags);
    let relay = Relay::start(primary.port_base, 2);
    let replica =
        Kevy::replica_with(1, relay.port_base, &[&flags[..], &["--replica-max-staleness-ms", "400"]].concat());
    let [first, second] = keys().map(|keys| keys[0].clone());
    for key in [&first, &second] {
        primary.ask::<()>(&["SET", key, "value"]).expect("SET");
    }
    await_caught_up(&primary, &replica);
    // A quiet link is not silent: it has heartbeats.
    for _ in 0..50 {
        assert_eq!(refused(&replica, &["GET", &first]), None);
        thread::sleep(Duration::from_millis(10));
    }

    relay.stall_port(1);
    wait_until("the second stream is stale", || refused(&replica, &["GET", &second]).as_deref() == Some("STALE"));
    assert_eq!(refused(&replica, &["GET", &first]), None, "the first is not");
    for command in ABOUT_ALL {
        assert_eq!(refused(&replica, command).as_deref(), Some("STALE"), "{command:?}");
    }
    assert_eq!(refused(&replica, &["SET", &second, "1"]).as_deref(), Some("READONLY"));
    assert_eq!(refused(&replica, &["PING"]), None);
    relay.heal();
    wait_until("it is heard again", || refused(&replica, &["GET", &second]).is_none());

    drop(primary);
    wait_until("a dead primary is silent, too", || {
        [&first, &second].iter().all(|key| refused(&replica, &["GET", key]).as_deref() == Some("STALE"))
    });
    // Nobody listens there: what is here is no younger for that.
    replica.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]).expect("REPLICAOF");
    for key in [&first, &second] {
        assert_eq!(refused(&replica, &["GET", key]).as_deref(), Some("STALE"));
    }
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("REPLICAOF NO ONE");
    assert_eq!(refused(&replica, &["GET", &second]), None, "a primary's own data is not stale");
}
