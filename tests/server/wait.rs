//! `WAIT` counts replicas, not links: one replica must have everything, on every shard.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kevy_replicate::id::{ShardCount, ShardId};
use kevy_replicate::replica::ReplicaClient;
use kevy_replicate::store::{KeyspaceStore, hash};

use crate::kevy::Kevy;

/// Follows one shard's stream for as long as it lasts.
fn follow(node: &Kevy, shard: u16, id: &str) {
    let address = format!("127.0.0.1:{}", node.port_base + shard);
    let mut client = ReplicaClient::follow(&address, id).expect("a link");
    thread::spawn(move || {
        let mut store = KeyspaceStore::new();
        while client.step(&mut store).is_ok() {}
    });
}

#[test]
fn two_replicas_with_half_of_it_each_are_none() {
    let node = Kevy::primary(2);
    follow(&node, 0, "half");
    follow(&node, 1, "whole");
    let shards = ShardCount::new(2).expect("a count");
    for shard in [0, 1] {
        let of_shard = |key: &String| shards.owner(hash::locate(key.as_bytes()).slot) == ShardId::new(shard);
        let key = (0..).map(|n| format!("key:{n}")).find(of_shard).expect("a key");
        node.ask::<()>(&["SET", &key, "value"]).expect("SET");
    }
    assert_eq!(node.ask::<u64>(&["WAIT", "1", "500"]).expect("WAIT"), 0);
    let (counted, count) = mpsc::channel();
    let mut connection = node.connect();
    thread::spawn(move || counted.send(redis::cmd("WAIT").arg(1).arg(0).query::<u64>(&mut connection)));
    follow(&node, 0, "whole");
    let count = count.recv_timeout(Duration::from_secs(20)).expect("WAIT ends once a replica has everything");
    assert_eq!(count.expect("WAIT"), 1);
}
