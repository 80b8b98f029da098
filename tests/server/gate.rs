//! `min_replicas_to_write`: clients may write only while enough replicas are whole, and were heard of lately on every stream.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::Duration;

use kevy_replicate::replica::ReplicaClient;
use kevy_replicate::store::KeyspaceStore;

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::Kevy;
use crate::wait_until;

const LAG_MS: u64 = 500;

/// A primary of 2 shards that wants one replica, heard of within [`LAG_MS`].
fn gated() -> Kevy {
    let lag = LAG_MS.to_string();
    let flags = ["--min-replicas-to-write", "1", "--min-replicas-max-lag-ms", &lag, "--heartbeat-ms", "50"];
    Kevy::start(2, &flags)
}

/// Whether a write is let through; if not, with the error of the gate.
fn writes(node: &Kevy) -> bool {
    match node.ask::<()>(&["SET", "key", "value"]) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.code(), Some("NOREPLICAS"), "{error}");
            assert!(error.to_string().contains("Not enough good replicas to write."), "{error}");
            false
        }
    }
}

#[test]
fn nobody_writes_before_a_replica_is_whole() {
    let primary = gated();
    assert!(!writes(&primary));
    assert_eq!(primary.number("min_slaves_good_slaves"), 0);
    let many =
        primary.ask::<()>(&["MSET", "a", "1", "b", "2", "c", "3", "d", "4"]).expect_err("on several shards, too");
    assert_eq!(many.code(), Some("NOREPLICAS"));
    let all = primary.ask::<()>(&["FLUSHALL"]).expect_err("and on all");
    assert_eq!(all.code(), Some("NOREPLICAS"));
    assert_eq!(primary.ask::<Option<String>>(&["GET", "key"]).expect("reads go on"), None);
    assert_eq!(primary.number("master_repl_offset"), 0, "nothing was recorded");

    let mut pipe = redis::pipe();
    pipe.cmd("GET").arg("a").cmd("SET").arg("a").arg(1).cmd("GET").arg("a");
    let refused = pipe.query::<()>(&mut primary.connect()).expect_err("in a pipeline, too").to_string();
    assert!(refused.contains("NOREPLICAS") || refused.contains("good replicas"), "{refused}");
    assert_eq!(primary.ask::<Option<String>>(&["GET", "a"]).expect("GET"), None);

    let replica = Kevy::replica(1, primary.port_base);
    wait_until("the gate opens", || writes(&primary));
    assert_eq!(primary.number("min_slaves_good_slaves"), 1);
    assert_becomes_equal(&primary, &replica);
}

#[test]
fn a_lagging_and_a_dead_replica_close_the_gate() {
    let primary = gated();
    let mut replica = Kevy::replica(2, primary.port_base);
    wait_until("the gate opens", || writes(&primary));
    await_caught_up(&primary, &replica);

    replica.signal("STOP");
    wait_until("a replica that lags closes it", || !writes(&primary));
    assert_eq!(primary.number("connected_slaves"), 1, "its links are still there");
    replica.signal("CONT");
    wait_until("it opens once the replica is heard again", || writes(&primary));

    replica.kill();
    wait_until("a dead replica closes it", || !writes(&primary));
    // The gate closes with the first of its links.
    wait_until("its links are gone", || primary.number("connected_slaves") == 0);
    replica.restart();
    wait_until("it opens again", || writes(&primary));
    assert_becomes_equal(&primary, &replica);
}

#[test]
fn a_replica_that_is_heard_on_one_stream_alone_does_not_open_the_gate() {
    let primary = gated();
    let follow = |shard: u16| {
        let mut client =
            ReplicaClient::follow(&format!("127.0.0.1:{}", primary.port_base + shard), "half").expect("a link");
        let (whole, is_whole) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let mut store = KeyspaceStore::new();
            while client.step(&mut store).is_ok() {
                if client.is_whole() {
                    let _ = whole.send(());
                }
            }
        });
        is_whole.recv_timeout(Duration::from_secs(20)).expect("it becomes whole");
    };
    follow(0);
    // The links' heartbeats go several times to and fro meanwhile.
    for _ in 0..20 {
        assert!(!writes(&primary));
        thread::sleep(Duration::from_millis(10));
    }
    follow(1);
    wait_until("the gate opens", || writes(&primary));
}

#[test]
fn a_primary_that_was_stopped_finds_its_gate_closed() {
    let primary = gated();
    let replica = Kevy::replica(1, primary.port_base);
    wait_until("the gate opens", || writes(&primary));
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, primary.port)).expect("connects");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
    client.write_all(b"PING\r\n").expect("it listens");
    client.read_exact(&mut [0; 7]).expect("PONG");
    replica.signal("STOP");
    primary.signal("STOP");
    client.write_all(b"SET key late\r\n").expect("the kernel takes it");
    // What is tested is what that time brings about.
    thread::sleep(Duration::from_millis(LAG_MS + 100));
    primary.signal("CONT");
    let mut reply = [0; 12];
    client.read_exact(&mut reply).expect("an answer");
    assert_eq!(reply.escape_ascii().to_string(), "-NOREPLICAS ");
}
