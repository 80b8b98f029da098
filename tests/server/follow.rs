//! `REPLICAOF`: what a node follows is changed while it runs.

use std::thread;

use crate::compare::assert_becomes_equal;
use crate::kevy::{Kevy, free_ports};
use crate::wait_until;

#[test]
fn a_dead_host_flushes_nothing() {
    let node = Kevy::primary(2);
    for i in 0..100 {
        node.ask::<()>(&["SET", &format!("key:{i}"), "value"]).expect("SET");
    }
    let digest = node.digest();
    let dead = free_ports(1).to_string();
    for host in ["127.0.0.1", "no-such-host.invalid"] {
        node.ask::<()>(&["REPLICAOF", host, &dead]).expect("REPLICAOF");
        wait_until("INFO says why", || {
            node.info("master_link_error").is_some_and(|error| error.contains(host) && error.contains(&dead))
        });
        assert_eq!(node.info("role").as_deref(), Some("slave"));
        assert_eq!(node.info("master_link_status").as_deref(), Some("down"));
        assert_eq!(node.ask::<String>(&["GET", "key:7"]).expect("it serves reads"), "value");
        assert_eq!(node.ask::<u64>(&["DBSIZE"]).expect("it serves reads"), 100);
        let refused = node.ask::<()>(&["SET", "key:7", "other"]).expect_err("a replica is read-only");
        assert_eq!(refused.code(), Some("READONLY"), "{refused}");
    }
    node.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("REPLICAOF NO ONE");
    assert_eq!(node.digest(), digest);
    node.ask::<()>(&["SET", "key:7", "other"]).expect("a primary takes writes");
}

#[test]
fn another_primary_replaces_the_data() {
    let (first, second) = (Kevy::primary(2), Kevy::primary(3));
    for i in 0..1_000 {
        first.ask::<()>(&["SET", &format!("first:{i}"), "1"]).expect("SET");
        second.ask::<()>(&["SET", &format!("second:{i}"), "2"]).expect("SET");
    }
    let replica = Kevy::replica(2, first.port_base);
    assert_becomes_equal(&first, &replica);
    for primary in [&second, &first] {
        replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]).expect("REPLICAOF");
        wait_until("it follows the other", || replica.info("master_port") == Some(primary.port.to_string()));
        assert_becomes_equal(primary, &replica);
    }
}

#[test]
fn replicas_of_a_promoted_node_sync_anew() {
    let old = Kevy::primary(1);
    old.ask::<()>(&["SET", "key", "value"]).expect("SET");
    let promoted = Kevy::replica(2, old.port_base);
    assert_becomes_equal(&old, &promoted);
    let replica = Kevy::replica(3, promoted.port_base);
    wait_until("a replica refuses to be followed", || {
        replica.info("master_link_error").is_some_and(|error| error.contains("not a primary"))
    });

    promoted.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("REPLICAOF NO ONE");
    promoted.ask::<()>(&["SET", "own", "1"]).expect("a primary takes writes");
    assert_becomes_equal(&promoted, &replica);
    old.ask::<()>(&["SET", "key", "late"]).expect("SET");
    assert_eq!(promoted.ask::<String>(&["GET", "key"]).expect("GET"), "value");

    // What followed it goes on from where it is, if it says so twice.
    promoted.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("REPLICAOF NO ONE");
    promoted.ask::<()>(&["SET", "own", "2"]).expect("SET");
    assert_becomes_equal(&promoted, &replica);
}

#[test]
fn many_at_once_end_in_the_last() {
    let primaries: Vec<_> = [1, 2, 3].map(Kevy::primary).into();
    for (i, primary) in primaries.iter().enumerate() {
        for key in 0..200 {
            primary.ask::<()>(&["SET", &format!("key:{i}:{key}"), "value"]).expect("SET");
        }
    }
    let node = Kevy::primary(2);
    thread::scope(|scope| {
        for i in 0..100 {
            let (node, primaries) = (&node, &primaries);
            scope.spawn(move || {
                let port = primaries[i % 3].port.to_string();
                if i % 10 == 9 {
                    node.ask::<()>(&["REPLICAOF", "NO", "ONE"]).expect("REPLICAOF NO ONE");
                } else {
                    node.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).expect("REPLICAOF");
                }
            });
        }
    });
    let last = &primaries[1];
    node.ask::<()>(&["REPLICAOF", "127.0.0.1", &last.port.to_string()]).expect("REPLICAOF");
    wait_until("it follows the last", || node.info("master_port") == Some(last.port.to_string()));
    last.ask::<()>(&["SET", "after", "1"]).expect("SET");
    assert_becomes_equal(last, &node);
    wait_until("the others are not followed", || {
        [0, 2].iter().all(|other| primaries[*other].number("connected_slaves") == 0)
    });
}
