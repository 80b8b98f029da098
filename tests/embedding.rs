//! What an embedder writes: the recipe of the blocking client, and the other ways to read a stream, over sockets of the standard
//! library and without a runtime on either side.

#![allow(clippy::disallowed_types, reason = "a primary on threads, as a host without a runtime would write it")]

#[allow(dead_code, reason = "each reader uses what it needs")]
#[path = "support/primary.rs"]
mod primary;

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use kevy_replicate::id::{Generation, Offset, ShardCount, ShardId, SlotRange};
use kevy_replicate::replica::ReplicaClient;
use kevy_replicate::replica::client::{ClientError, ClientEvent};
use kevy_replicate::store::command::key::digest;
use kevy_replicate::store::{KeyspaceStore, dispatch, hash};
use kevy_replicate::wire::Item;
use primary::Shard;

/// A primary of some shards on consecutive ports, whose links a test can cut.
struct Primary {
    shards: Vec<Arc<Shard>>,
    base: u16,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Primary {
    fn start(count: u16, backlog_bytes: usize) -> Primary {
        let count = ShardCount::new(count).unwrap();
        let generation = Generation::new(0x5eed).unwrap();
        let shards: Vec<_> = count.shards().map(|shard| Shard::new(shard, count, generation, backlog_bytes)).collect();
        let listeners = consecutive(count.get());
        let base = listeners[0].local_addr().unwrap().port();
        let sockets = Arc::new(Mutex::new(Vec::new()));
        for (shard, listener) in shards.iter().zip(listeners) {
            let (shard, sockets) = (Arc::clone(shard), Arc::clone(&sockets));
            thread::spawn(move || {
                for socket in listener.incoming().flatten() {
                    sockets.lock().unwrap().push(socket.try_clone().unwrap());
                    let shard = Arc::clone(&shard);
                    thread::spawn(move || shard.serve(&socket));
                }
            });
        }
        Primary { shards, base, sockets }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.base)
    }

    fn write(&self, effect: &[&str]) {
        let count = ShardCount::new(self.shards.len() as u16).unwrap();
        let owner = count.owner(hash::locate(effect[1].as_bytes()).slot);
        self.shards[owner.index()].write(effect);
    }

    /// Writes of every type; returns how many.
    fn load(&self, round: usize) -> u64 {
        let n = |i: usize| format!("key:{}", (round * 31 + i * 7) % 500);
        for i in 0..100 {
            match i % 6 {
                0 => self.write(&["SET", &n(i), &"v".repeat(i * 10)]),
                1 => self.write(&["RPUSH", &format!("list:{}", i % 5), &round.to_string()]),
                2 => self.write(&["HSET", "hash", &n(i), "x"]),
                3 => self.write(&["SADD", &format!("set:{}", i % 3), &n(i)]),
                4 => self.write(&["ZADD", "zset", &i.to_string(), &n(i)]),
                _ => self.write(&["DEL", &n(i)]),
            }
        }
        100
    }

    fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn digest(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(shard.digest()))
    }
}

fn consecutive(count: u16) -> Vec<TcpListener> {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = first.local_addr().unwrap().port();
        let rest = (1..count).map(|i| TcpListener::bind(("127.0.0.1", base.checked_add(i)?)).ok());
        if let Some(listeners) = std::iter::once(Some(first)).chain(rest).collect() {
            return listeners;
        }
    }
}

fn digest_of(store: &KeyspaceStore) -> u64 {
    digest(store, SlotRange::ALL).0
}

#[test]
fn replica_apply_dispatch_mirrors_primary_store() {
    let primary = Primary::start(1, 64 << 20);
    let before = primary.load(0);
    let mut client = ReplicaClient::connect(&primary.address(), "replica-a", 0).unwrap();
    let mut store = KeyspaceStore::new();
    let all = before + primary.load(1);
    for frame in &mut client {
        let frame = frame.unwrap();
        dispatch(&mut store, &frame.argv).unwrap();
        if frame.offset == Offset::new(all - 1) {
            break;
        }
    }
    assert!(!store.is_empty());
    assert_eq!(digest_of(&store), primary.digest());
    assert_eq!(client.expected_offset(), Offset::new(all));
}

#[test]
fn the_readme_shows_the_recipe_of_the_client_which_runs() {
    let recipe = |text: &str, begin: &str| -> Vec<String> {
        let lines = text.lines().skip_while(|line| !line.starts_with(begin)).skip(1);
        lines.take_while(|line| !line.starts_with("```")).map(str::to_owned).collect()
    };
    let client = include_str!("../src/replica/client.rs");
    let header: String = client.lines().map_while(|line| line.strip_prefix("//!")).fold(String::new(), |all, line| {
        let line = line.strip_prefix(' ').unwrap_or(line);
        if line.starts_with("# ") { all } else { all + line + "\n" }
    });
    let shown = recipe(include_str!("../README.md"), "```rust");
    assert!(shown.iter().any(|line| line.contains("dispatch(")), "{shown:?}");
    assert_eq!(shown, recipe(&header, "```"));
}

#[test]
fn the_page_on_embedding_shows_the_primary_of_these_tests() {
    let (shown, _) = include_str!("support/primary.rs").split_once("// Up to here").unwrap();
    assert!(include_str!("../docs/embedding.md").contains(shown.trim_end()));
}

#[test]
fn redial_goes_on_at_the_next_frame() {
    let primary = Primary::start(1, 64 << 20);
    let mut client = ReplicaClient::connect(&primary.address(), "replica-a", 0).unwrap();
    let mut store = KeyspaceStore::new();
    let mut expected = 0;
    for round in 0..5 {
        let all = expected + primary.load(round);
        primary.cut();
        // What was received before the cut may still come; then the iterator ends with the cause.
        loop {
            for frame in &mut client {
                let Ok(frame) = frame else { break };
                assert_eq!(frame.offset, Offset::new(expected), "each frame once");
                dispatch(&mut store, &frame.argv).unwrap();
                expected += 1;
                if expected == all {
                    break;
                }
            }
            if expected == all {
                break;
            }
            client.redial().unwrap();
        }
    }
    assert_eq!(digest_of(&store), primary.digest());
}

#[test]
fn below_the_window_the_error_says_that_a_sync_is_needed() {
    let primary = Primary::start(1, 8 << 10);
    for round in 0..20 {
        primary.load(round);
    }
    let error = ReplicaClient::connect(&primary.address(), "replica-a", 0).unwrap_err();
    assert!(error.needs_sync() && error.to_string().contains("sync"), "{error}");

    // One that was there, and was away for too long.
    let primary = Primary::start(1, 8 << 10);
    let mut client = ReplicaClient::connect(&primary.address(), "replica-a", 0).unwrap();
    primary.write(&["SET", "k", "v"]);
    assert!(client.next().unwrap().is_ok());
    primary.cut();
    for round in 0..20 {
        primary.load(round);
    }
    let last = client.by_ref().last().unwrap();
    assert!(matches!(last, Err(ClientError::Closed | ClientError::Io { .. })), "{last:?}");
    assert!(client.next().is_none(), "an iterator that has ended stays so");
    let error = client.redial().unwrap_err();
    assert!(error.needs_sync(), "{error}");
}

#[test]
fn run_syncs_follows_acknowledges_and_goes_on_after_a_cut() {
    let primary = Primary::start(1, 8 << 10);
    for round in 0..20 {
        primary.load(round);
    }
    let mut client = ReplicaClient::follow(&primary.address(), "replica-a").unwrap();
    let mut store = KeyspaceStore::new();
    while !client.is_whole() {
        client.step(&mut store).unwrap();
    }
    assert_eq!(digest_of(&store), primary.digest(), "all of it came as a dump");
    for round in 0..5 {
        primary.load(round);
        primary.cut();
        let error = client.run(&mut store).unwrap_err();
        assert!(matches!(error, ClientError::Closed | ClientError::Io { .. }), "{error}");
        client.redial().unwrap();
    }
    primary.write(&["SET", "last", "word"]);
    let head = primary.shards[0].head();
    while !client.is_whole() || client.expected_offset() < head {
        client.step(&mut store).unwrap();
    }
    assert_eq!(digest_of(&store), primary.digest());
    let follower = thread::spawn(move || client.run(&mut store));
    primary.shards[0].wait_for_ack(head);
    primary.cut();
    assert!(follower.join().unwrap().is_err());
}

#[test]
fn a_primary_that_came_back_empty_erases_nothing_without_consent() {
    let primary = Primary::start(1, 1 << 20);
    primary.load(0);
    let mut client = ReplicaClient::follow(&primary.address(), "replica-a").unwrap();
    let mut store = KeyspaceStore::new();
    while !client.is_whole() {
        client.step(&mut store).unwrap();
    }
    let held = digest_of(&store);
    primary.shards[0].forget_everything(Generation::new(0xdead).unwrap());
    primary.cut();
    client.run(&mut store).unwrap_err();
    let error = client.redial().unwrap_err();
    assert!(error.to_string().contains("without its data"), "{error}");
    assert_eq!(digest_of(&store), held);
    client.set_accept_empty_primary(true);
    client.redial().unwrap();
    while !store.is_empty() {
        client.step(&mut store).unwrap();
    }
}

#[test]
fn next_event_shows_what_a_sync_is_made_of() {
    let primary = Primary::start(1, 1 << 20);
    primary.load(0);
    let mut client = ReplicaClient::follow(&primary.address(), "replica-a").unwrap();
    let mut seen = Vec::new();
    loop {
        match client.next_event().unwrap() {
            ClientEvent::Item(Item::Sync { .. }) => seen.push("sync"),
            ClientEvent::Item(Item::Slots { payload, .. }) => {
                assert!(!payload.is_empty());
                seen.push("slots");
            }
            ClientEvent::Item(_) | ClientEvent::Heard => {}
            ClientEvent::Whole { at } => {
                assert_eq!(at, primary.shards[0].head());
                seen.push("whole");
                primary.write(&["SET", "k", "v"]);
            }
            ClientEvent::Frame(frame) => {
                assert_eq!(frame.argv, ["SET", "k", "v"].map(|arg| arg.as_bytes().to_vec()));
                break;
            }
            ClientEvent::Group(_) => panic!("nobody wrote one"),
        }
    }
    seen.dedup();
    assert_eq!(seen, ["sync", "slots", "whole"]);
}

#[test]
fn connect_all_gives_one_client_a_shard() {
    let primary = Primary::start(3, 64 << 20);
    primary.load(0);
    let heads: Vec<Offset> = primary.shards.iter().map(|shard| shard.head()).collect();
    let mut clients = ReplicaClient::connect_all(&primary.address(), "replica-a").unwrap();
    assert_eq!(clients.len(), 3);
    let mut store = KeyspaceStore::new();
    for ((shard, client), head) in clients.iter_mut().enumerate().zip(heads) {
        assert_eq!(client.welcome().shard, ShardId::new(shard as u16));
        while client.expected_offset() < head {
            let frame = client.next().unwrap().unwrap();
            dispatch(&mut store, &frame.argv).unwrap();
        }
    }
    assert_eq!(digest_of(&store), primary.digest());

    let mut store = KeyspaceStore::new();
    for client in &mut ReplicaClient::follow_all(&primary.address(), "replica-b").unwrap() {
        while !client.is_whole() {
            client.step(&mut store).unwrap();
        }
    }
    assert_eq!(digest_of(&store), primary.digest(), "each stream fills its own slots");
}

#[test]
fn a_client_repairs_a_large_slot_that_differs() {
    let primary = Primary::start(1, 64 << 20);
    let key = b"large";
    primary.write(&["SET", "large", &"x".repeat(2 << 20)]);
    let mut client = ReplicaClient::follow(&primary.address(), "replica-a").unwrap();
    let mut store = KeyspaceStore::new();
    while !client.is_whole() {
        client.step(&mut store).unwrap();
    }
    assert_eq!(digest_of(&store), primary.digest());
    store.set_string(hash::locate(key), key, &[b'y'; 2 << 20], None);
    primary.shards[0].tell_digest(hash::slot_of(key));
    // Heartbeats end a step, too.
    for _ in 0..40 {
        if digest_of(&store) == primary.digest() {
            return;
        }
        client.step(&mut store).unwrap();
    }
    panic!("it still differs");
}
