//! Published messages: over all shards of a node in one order, to subscribers on replicas, and what becomes of a subscriber that does
//! not read.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};

use redis::{Connection, Value};

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::Kevy;
use crate::wait_until;

/// What a subscriber on `node` hears until it hears `last`.
fn hear(mut connection: Connection, last: &str, ready: impl FnOnce() + Send) -> Vec<String> {
    let mut heard = Vec::new();
    let mut ready = Some(ready);
    connection.set_read_timeout(Some(crate::PATIENCE)).expect("a socket option");
    let mut listening = connection.as_pubsub();
    listening.psubscribe("*").expect("PSUBSCRIBE");
    if let Some(ready) = ready.take() {
        ready();
    }
    while heard.last().is_none_or(|text| text != last) {
        heard.push(listening.get_message().expect("a message").get_payload::<String>().expect("a text"));
    }
    heard
}

#[test]
fn messages_reach_subscribers_on_replicas_in_order() {
    const MESSAGES: usize = 2_000;
    for (shards, replica_shards) in [(1, 1), (2, 3)] {
        let primary = Kevy::primary(shards);
        let replica = Kevy::replica(replica_shards, primary.port_base);
        primary.ask::<()>(&["SET", "key", "value"]).expect("SET");
        await_caught_up(&primary, &replica);
        std::thread::scope(|scope| {
            let (told, ready) = std::sync::mpsc::channel();
            let subscribers: Vec<_> = [&primary, &replica, &replica, &replica]
                .iter()
                .map(|node| {
                    let (connection, told) = (node.connect(), told.clone());
                    scope.spawn(move || hear(connection, "last", move || told.send(()).expect("it is awaited")))
                })
                .collect();
            subscribers.iter().for_each(|_| ready.recv().expect("it subscribes"));
            let mut publisher = primary.connect();
            for number in 0..MESSAGES {
                let heard: u64 = redis::cmd("PUBLISH").arg("news").arg(number).query(&mut publisher).expect("PUBLISH");
                assert_eq!(heard, 1, "those of this node are counted");
            }
            redis::cmd("PUBLISH").arg("news").arg("last").exec(&mut publisher).expect("PUBLISH");
            let expected: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).chain(["last".to_owned()]).collect();
            for subscriber in subscribers {
                assert_eq!(subscriber.join().expect("it hears the last one"), expected);
            }
        });
        // They took offsets, changed no key, and were no reason to sync.
        assert_becomes_equal(&primary, &replica);
        assert_eq!(replica.ask::<u64>(&["DBSIZE"]).expect("DBSIZE"), 1);
        assert_eq!(primary.number("sync_full"), u64::from(shards));
    }
}

#[test]
fn a_message_follows_the_writes_before_it() {
    let primary = Kevy::primary(1);
    let replica = Kevy::replica(2, primary.port_base);
    primary.ask::<()>(&["SET", "{t}key", "0"]).expect("SET");
    await_caught_up(&primary, &replica);
    let mut listener = replica.connect();
    let mut reader = replica.connect();
    let mut writer = primary.connect();
    let mut listening = listener.as_pubsub();
    listening.subscribe("{t}channel").expect("SUBSCRIBE");
    for number in 1..=300 {
        let (): () = redis::pipe()
            .cmd("SET")
            .arg("{t}key")
            .arg(number)
            .cmd("PUBLISH")
            .arg("{t}channel")
            .arg(number)
            .ignore()
            .query::<Vec<Value>>(&mut writer)
            .map(drop)
            .expect("a pipeline");
        let heard: u64 = listening.get_message().expect("a message").get_payload().expect("a number");
        let read: u64 = redis::cmd("GET").arg("{t}key").query(&mut reader).expect("GET");
        assert_eq!((heard, read), (number, number), "same slot, same order");
    }
}

#[test]
fn whoever_does_not_read_goes_and_the_others_stay() {
    let node = Kevy::primary(2);
    let mut stuck: Vec<TcpStream> = Vec::new();
    for command in ["SUBSCRIBE news", "MONITOR"] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).expect("connects");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("it is sent");
        stuck.push(stream);
    }
    wait_until("both listen", || {
        let heard: u64 = node.ask(&["PUBLISH", "news", "x"]).expect("PUBLISH");
        heard == 1
    });
    let text = "x".repeat(1 << 20);
    let mut publisher = node.connect();
    wait_until("the subscriber is closed", || {
        redis::cmd("PUBLISH").arg("news").arg(&text).query::<u64>(&mut publisher).expect("PUBLISH") == 0
    });
    wait_until("both are closed", || node.log().matches("it does not read what it subscribed to").count() == 2);
    wait_until("the node knows", || node.number("connected_clients") == 2);
    assert_eq!(node.ask::<String>(&["PING"]).expect("the node goes on"), "PONG");
    assert!(node.peak_memory() < 512 << 20, "{} MiB", node.peak_memory() >> 20);
}
