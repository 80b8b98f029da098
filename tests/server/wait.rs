//! `WAIT` is about what its client wrote, counts replicas and not links, and is woken by the acknowledgement.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kevy_replicate::id::{ShardCount, ShardId};
use kevy_replicate::replica::ReplicaClient;
use kevy_replicate::store::{KeyspaceStore, hash};
use redis::Connection;

use crate::compare::await_caught_up;
use crate::kevy::Kevy;
use crate::wait_until;

/// Follows one shard's stream for as long as it lasts.
fn follow(node: &Kevy, shard: u16, id: &str) {
    let address = format!("127.0.0.1:{}", node.port_base + shard);
    let mut client = ReplicaClient::follow(&address, id).expect("a link");
    thread::spawn(move || {
        let mut store = KeyspaceStore::new();
        while client.step(&mut store).is_ok() {}
    });
}

/// A key that shard `shard` of `shards` owns.
fn key_of(shard: u16, shards: u16) -> String {
    let count = ShardCount::new(shards).expect("a count");
    let of_shard = |key: &String| count.owner(hash::locate(key.as_bytes()).slot) == ShardId::new(shard);
    (0..).map(|n| format!("key:{n}")).find(of_shard).expect("a key")
}

fn set(client: &mut Connection, key: &str) {
    redis::cmd("SET").arg(key).arg("value").exec(client).expect("SET");
}

fn wait(client: &mut Connection, replicas: u64, ms: u64) -> u64 {
    redis::cmd("WAIT").arg(replicas).arg(ms).query(client).expect("WAIT")
}

#[test]
fn two_replicas_with_half_of_it_each_are_none() {
    let node = Kevy::primary(2);
    follow(&node, 0, "half");
    follow(&node, 1, "whole");
    let mut client = node.connect();
    for shard in [0, 1] {
        set(&mut client, &key_of(shard, 2));
    }
    assert_eq!(wait(&mut client, 1, 500), 0);
    let (counted, count) = mpsc::channel();
    thread::spawn(move || counted.send(wait(&mut client, 1, 0)));
    follow(&node, 0, "whole");
    let count = count.recv_timeout(Duration::from_secs(20)).expect("WAIT ends once a replica has everything");
    assert_eq!(count, 1);
}

#[test]
fn wait_is_about_the_writes_of_its_own_client() {
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(2, primary.port_base);
    let (mut early, mut late) = (primary.connect(), primary.connect());
    set(&mut early, &key_of(0, 2));
    await_caught_up(&primary, &replica);
    assert_eq!(wait(&mut early, 1, 0), 1);

    replica.signal("STOP");
    set(&mut late, &key_of(0, 2));
    redis::cmd("MSET").arg(key_of(0, 2)).arg(1).arg(key_of(1, 2)).arg(1).exec(&mut late).expect("MSET");
    assert_eq!(wait(&mut late, 1, 100), 0, "the replica is stopped");
    assert_eq!(wait(&mut early, 1, 0), 1, "what this client wrote was acknowledged before");
    assert_eq!(wait(&mut primary.connect(), 1, 0), 1, "who wrote nothing counts the replicas that are whole");
    assert_eq!(wait(&mut early, 2, 50), 1, "and more there are not");
    replica.signal("CONT");
    assert_eq!(wait(&mut late, 1, 0), 1);
}

#[test]
fn wait_is_woken_by_the_ack_and_by_no_timer() {
    let primary = Kevy::start(2, &["--heartbeat-ms", "30000"]);
    let replica = Kevy::replica(2, primary.port_base);
    let mut client = primary.connect();
    set(&mut client, "key");
    await_caught_up(&primary, &replica);
    let mut rounds = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        set(&mut client, "key");
        assert_eq!(wait(&mut client, 1, 0), 1);
        rounds.push(began.elapsed());
    }
    rounds.sort();
    let median = rounds[rounds.len() / 2];
    eprintln!("SET and WAIT 1: median {median:?}, worst {:?}", rounds[rounds.len() - 1]);
    assert!(median < Duration::from_millis(5), "a timer of 10 ms is in the path: {median:?}");
}

#[test]
fn a_client_that_hangs_up_in_its_wait_is_gone() {
    let node = Kevy::primary(2);
    for behind in [&b""[..], b"PING\r\n"] {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).expect("connects");
        client.write_all(b"SET key value\r\nWAIT 1 0\r\n").expect("it listens");
        let mut reply = [0; 5];
        client.read_exact(&mut reply).expect("what was before the WAIT is answered before it ends");
        assert_eq!(&reply, b"+OK\r\n");
        client.write_all(behind).expect("it listens");
        wait_until("the WAIT waits", || node.number("blocked_clients") == 1);
        drop(client);
        wait_until("its connection is freed", || {
            node.number("blocked_clients") == 0 && node.number("connected_clients") == 1
        });
    }
}

#[test]
fn what_is_sent_behind_a_wait_is_answered_behind_it() {
    let node = Kevy::primary(1);
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).expect("connects");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
    client.write_all(b"SET key 1\r\nWAIT 1 0\r\nINCR key\r\n").expect("it listens");
    wait_until("the WAIT waits", || node.number("blocked_clients") == 1);
    client.write_all(b"INCR key\r\n").expect("it listens");
    assert_eq!(
        node.ask::<u64>(&["GET", "key"]).expect("GET"),
        1,
        "what is behind the WAIT is not executed before its end"
    );
    follow(&node, 0, "replica");
    let expected = b"+OK\r\n:1\r\n:2\r\n:3\r\n";
    let mut replies = vec![0; expected.len()];
    client.read_exact(&mut replies).expect("all replies");
    assert_eq!(replies, expected);
}

#[test]
fn a_standalone_node_has_no_replicas_to_wait_for() {
    let node = Kevy::start(2, &["--role", "standalone"]);
    let mut client = node.connect();
    for shard in [0, 1] {
        set(&mut client, &key_of(shard, 2));
    }
    assert_eq!(wait(&mut client, 0, 0), 0, "none are wanted: at once");
    let began = Instant::now();
    assert_eq!(wait(&mut client, 1, 60), 0);
    assert!(began.elapsed() >= Duration::from_millis(60), "some are wanted: when the time is over");
}

#[test]
fn what_cannot_be_waited_for_is_an_error() {
    let primary = Kevy::primary(1);
    let replica = Kevy::replica(2, primary.port_base);
    set(&mut primary.connect(), "key");
    await_caught_up(&primary, &replica);
    let error = replica.ask::<u64>(&["WAIT", "1", "0"]).expect_err("a replica has no replicas").to_string();
    assert!(error.contains("WAIT cannot be used with replica instances"), "{error}");
    for (args, said) in [(["1", "-1"], "timeout is negative"), (["one", "0"], "not an integer")] {
        let error = primary.ask::<u64>(&["WAIT", args[0], args[1]]).expect_err(said).to_string();
        assert!(error.contains(said), "{error}");
    }

    // Who waits while the node becomes a replica waits for nothing any more.
    let other = Kevy::primary(1);
    let mut client = other.connect();
    set(&mut client, "key");
    let waiting = thread::spawn(move || redis::cmd("WAIT").arg(1).arg(0).query::<u64>(&mut client));
    wait_until("the WAIT waits", || other.number("blocked_clients") == 1);
    other.ask::<()>(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]).expect("REPLICAOF");
    let error = waiting.join().expect("no panic").expect_err("the node is a replica").to_string();
    assert!(error.contains("UNBLOCKED") || error.contains("unblock"), "{error}");
}
