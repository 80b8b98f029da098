//! What goes by itself: keys over the memory limit, and those that have expired. A replica has what its primary has.

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::Kevy;
use crate::wait_until;

fn fill(node: &Kevy, keys: usize) {
    fill_with(node, keys, &[]);
}

/// Writes so many keys with these further arguments of `SET`.
fn fill_with(node: &Kevy, keys: usize, options: &[&str]) {
    let mut connection = node.connect();
    let value = "v".repeat(400);
    for first in (0..keys).step_by(100) {
        let mut pipe = redis::pipe();
        for number in first..first + 100 {
            pipe.cmd("SET").arg(format!("key:{number}")).arg(&value).arg(options).ignore();
        }
        pipe.query::<()>(&mut connection).expect("writes are taken");
    }
}

#[test]
fn what_is_evicted_goes_on_the_replica_too_and_the_replica_evicts_nothing() {
    for policy in [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        let flags = ["--maxmemory", "4mb", "--maxmemory-policy", policy];
        let primary = Kevy::start(2, &flags);
        // Its own limit is far too small for what its primary has.
        let replica = Kevy::replica_with(3, primary.port_base, &["--maxmemory", "1mb", "--maxmemory-policy", policy]);
        let stays = primary.ask::<()>(&["SET", "stays", "for it does not expire"]);
        stays.expect("there is room");
        fill_with(&primary, 20_000, if policy.starts_with("volatile") { &["EX", "10000"] } else { &[] });
        assert!(primary.number("evicted_keys") > 5_000, "{policy}");
        if policy.starts_with("volatile") {
            assert_eq!(primary.ask::<u64>(&["EXISTS", "stays"]).expect("EXISTS"), 1, "{policy}");
        }
        wait_until("it is within its limit", || primary.number("used_memory") <= 4 << 20);
        assert_eq!(primary.number("maxmemory"), 4 << 20);
        assert_eq!(primary.info("maxmemory_policy").as_deref(), Some(policy));
        assert_becomes_equal(&primary, &replica);
        assert_eq!(replica.number("evicted_keys"), 0);
        assert!(replica.number("used_memory") > 1 << 20);
    }
}

#[test]
fn without_a_key_that_may_go_commands_that_need_memory_are_refused() {
    for policy in ["noeviction", "volatile-lru", "volatile-ttl"] {
        let node = Kevy::start(1, &["--maxmemory", "2mb", "--maxmemory-policy", policy]);
        let value = "v".repeat(1_000);
        let mut connection = node.connect();
        let mut number = 0;
        let refused = loop {
            number += 1;
            assert!(number < 10_000, "{policy}: there is a limit");
            match redis::cmd("SET").arg(format!("key:{number}")).arg(&value).query::<()>(&mut connection) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(refused.code(), Some("OOM"), "{policy}: {refused}");
        assert_eq!(refused.detail(), Some("command not allowed when used memory > 'maxmemory'."));
        assert_eq!(node.number("evicted_keys"), 0);
        let mut ask =
            |command: &[&str]| redis::cmd(command[0]).arg(&command[1..]).query::<redis::Value>(&mut connection);
        ask(&["MULTI"]).expect("a transaction begins");
        ask(&["INCR", "n"]).expect("it is queued");
        // Whether the client library calls an answer with an error in it one is no matter.
        let _ = ask(&["EXEC"]);
        assert_eq!(ask(&["EXISTS", "n"]).expect("what reads is served"), redis::Value::Int(0));
        ask(&["GET", "key:1"]).expect("what reads is served");
        ask(&["EXPIRE", "key:1", "100"]).expect("what needs no memory is served");
        ask(&["DEL", "key:2", "key:3", "key:4"]).expect("what gives memory back is served");
        ask(&["SET", "small", "value"]).expect("there is room again");
    }
}

#[test]
fn what_has_expired_goes_without_being_asked_for() {
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(3, primary.port_base);
    let mut connection = primary.connect();
    let mut pipe = redis::pipe();
    for number in 0..2_000 {
        pipe.cmd("SET").arg(format!("gone:{number}")).arg("v").arg("PX").arg(1 + number % 300).ignore();
        pipe.cmd("SET").arg(format!("stays:{number}")).arg("v").arg("EX").arg(1_000).ignore();
    }
    pipe.query::<()>(&mut connection).expect("writes are taken");
    wait_until("all of them have gone", || primary.ask::<u64>(&["DBSIZE"]).expect("DBSIZE") == 2_000);
    assert_becomes_equal(&primary, &replica);
    assert_eq!(replica.ask::<u64>(&["DBSIZE"]).expect("DBSIZE"), 2_000);
    assert_eq!(replica.number("expired_keys"), 0);
}

#[test]
fn a_limit_may_come_later_and_go_again() {
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(1, primary.port_base);
    fill(&primary, 10_000);
    assert!(primary.number("used_memory") > 4 << 20);
    let set = |name: &str, value: &str| primary.ask::<()>(&["CONFIG", "SET", name, value]).expect("it is changed");
    set("maxmemory-policy", "allkeys-lfu");
    set("maxmemory", "2mb");
    wait_until("it has come down to its limit", || primary.number("used_memory") <= 2 << 20);
    set("maxmemory", "0");
    let evicted = primary.number("evicted_keys");
    assert_eq!(primary.ask::<u64>(&["DBSIZE"]).expect("DBSIZE") + evicted, 10_000);
    fill(&primary, 10_000);
    assert_eq!(primary.number("evicted_keys"), evicted);
    assert_becomes_equal(&primary, &replica);
}

#[test]
fn a_promoted_replica_expires_by_itself() {
    let mut primary = Kevy::primary(2);
    let replica = Kevy::replica(3, primary.port_base);
    let mut pipe = redis::pipe();
    for number in 0..500 {
        pipe.cmd("SET").arg(format!("gone:{number}")).arg("v").arg("PX").arg(4_000).ignore();
        pipe.cmd("SET").arg(format!("stays:{number}")).arg("v").ignore();
    }
    pipe.query::<()>(&mut primary.connect()).expect("writes are taken");
    await_caught_up(&primary, &replica);
    primary.kill();
    let shown = |key: &str| replica.ask::<u64>(&["EXISTS", key]).expect("reads are served");
    assert_eq!((shown("gone:7"), shown("stays:7")), (1, 1), "before its time a key is there");
    wait_until("it is hidden", || shown("gone:7") == 0);
    assert_eq!(replica.ask::<u64>(&["DBSIZE"]).expect("DBSIZE"), 1_000, "who follows deletes nothing");
    assert_eq!(replica.number("expired_keys"), 0);
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("it is promoted");
    wait_until("they are gone", || replica.ask::<u64>(&["DBSIZE"]).expect("DBSIZE") == 500);
    assert_eq!(replica.number("expired_keys"), 500);
}

#[test]
fn a_replica_that_is_frozen_while_keys_expire_under_load_ends_equal() {
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(3, primary.port_base);
    let mut client = primary.connect();
    let dbsize = |node: &Kevy| node.ask::<u64>(&["DBSIZE"]).expect("DBSIZE");
    for first in (0..10_000).step_by(500) {
        let mut pipe = redis::pipe();
        for number in first..first + 500 {
            pipe.cmd("SET").arg(format!("gone:{number}")).arg("v").arg("PX").arg(1_000 + number % 500).ignore();
        }
        pipe.query::<()>(&mut client).expect("writes are taken");
    }
    replica.signal("STOP");
    let mut written = 0;
    while dbsize(&primary) > written.min(200) {
        redis::cmd("SET").arg(format!("stays:{}", written % 200)).arg(written).exec(&mut client).expect("SET");
        written += 1;
        assert!(written < 1_000_000, "{} keys are left", dbsize(&primary));
    }
    replica.signal("CONT");
    assert_becomes_equal(&primary, &replica);
    assert_eq!(dbsize(&replica), 200);
    assert_eq!((replica.number("expired_keys"), primary.number("sync_full")), (0, 2));
}
