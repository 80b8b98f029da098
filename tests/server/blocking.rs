//! Commands that wait for a key: who gets what and in what order, on one shard and on several, and what a replica sees of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kevy_replicate::id::{ShardCount, ShardId};
use kevy_replicate::store::hash;
use redis::{Connection, FromRedisValue, RedisResult};

use crate::compare::await_caught_up;
use crate::kevy::Kevy;
use crate::wait_until;

type Popped = Option<(String, String)>;

fn ask<T: FromRedisValue>(client: &mut Connection, command: &str) -> RedisResult<T> {
    let mut cmd = redis::Cmd::new();
    command.split(' ').for_each(|arg| _ = cmd.arg(arg));
    cmd.query(client)
}

#[track_caller]
fn tell(client: &mut Connection, command: &str) {
    ask::<redis::Value>(client, command).unwrap_or_else(|error| panic!("{command}: {error}"));
}

/// Sends a command that will wait, and returns once it does.
fn waiting<T: FromRedisValue + Send + 'static>(node: &Kevy, command: &str) -> thread::JoinHandle<RedisResult<T>> {
    let before = node.number("blocked_clients");
    let (mut client, command) = (node.connect(), command.to_owned());
    let thread = thread::spawn(move || ask(&mut client, &command));
    wait_until("it waits", || node.number("blocked_clients") > before);
    thread
}

/// A key that shard `shard` of `shards` owns.
fn key_of(shard: u16, shards: u16, name: &str) -> String {
    let count = ShardCount::new(shards).expect("a count");
    let of_shard = |key: &String| count.owner(hash::locate(key.as_bytes()).slot) == ShardId::new(shard);
    (0..).map(|n| format!("{name}:{n}")).find(of_shard).expect("a key")
}

#[test]
fn who_waits_first_is_served_first_wherever_the_key_is() {
    for shards in [1, 3] {
        let node = Kevy::primary(shards);
        let mut client = node.connect();
        for shard in 0..shards {
            let key = key_of(shard, shards, "list");
            let waiters: Vec<_> = (0..4).map(|_| waiting::<Popped>(&node, &format!("BLPOP nosuch {key} 0"))).collect();
            assert_eq!(ask::<i64>(&mut client, &format!("RPUSH {key} a b c")).unwrap(), 3);
            wait_until("three are served", || node.number("blocked_clients") == 1);
            tell(&mut client, &format!("RPUSH {key} d e"));
            for (waiter, element) in waiters.into_iter().zip(["a", "b", "c", "d"]) {
                assert_eq!(waiter.join().unwrap().unwrap(), Some((key.clone(), element.to_owned())));
            }
            assert_eq!(ask::<i64>(&mut client, &format!("LLEN {key}")).unwrap(), 1);
        }
    }
}

#[test]
fn keys_of_several_shards_are_waited_for_at_once() {
    let node = Kevy::primary(3);
    let keys: Vec<String> = (0..3).map(|shard| key_of(shard, 3, "list")).collect();
    let mut client = node.connect();
    for shard in [2, 0, 1] {
        let list = keys.join(" ");
        let waiters = [
            waiting::<Popped>(&node, &format!("BLPOP {list} 0")),
            waiting::<Popped>(&node, &format!("BRPOP {list} 0")),
        ];
        tell(&mut client, &format!("RPUSH {} first middle last", keys[shard]));
        let got = waiters.map(|waiter| waiter.join().unwrap().unwrap().expect("an element"));
        assert_eq!(got, ["first", "last"].map(|element| (keys[shard].clone(), element.to_owned())));
        tell(&mut client, &format!("DEL {}", keys[shard]));
    }
    // What is there already is had at once, in the order in which the keys are named.
    for key in &keys {
        tell(&mut client, &format!("RPUSH {key} {key}"));
    }
    for order in [[1, 2, 0], [2, 0, 1]] {
        let list = order.map(|shard| keys[shard].as_str()).join(" ");
        let popped: Popped = ask(&mut client, &format!("BLPOP {list} 0")).unwrap();
        assert_eq!(popped.expect("an element").0, keys[order[0]]);
    }
    for command in [format!("BLMPOP 0 3 {} LEFT COUNT 2", keys.join(" ")), format!("BZMPOP 0 3 {} MAX", keys.join(" "))]
    {
        tell(&mut client, "FLUSHALL");
        let waiter = waiting::<redis::Value>(&node, &command);
        let fill = if command.contains('Z') { "ZADD {} 1 x 2 y" } else { "RPUSH {} x y" };
        tell(&mut client, &fill.replace("{}", &keys[1]));
        let shown = format!("{:?}", waiter.join().unwrap().unwrap());
        assert!(shown.contains(&keys[1]) && shown.contains("\"y\""), "{shown}");
    }
}

#[test]
fn an_element_moves_between_shards_and_wakes_who_waits_there() {
    let node = Kevy::primary(3);
    let keys: Vec<String> = (0..3).map(|shard| key_of(shard, 3, "list")).collect();
    let mut client = node.connect();
    let last = waiting::<Popped>(&node, &format!("BLPOP {} 0", keys[2]));
    let second = waiting::<String>(&node, &format!("BLMOVE {} {} LEFT RIGHT 0", keys[1], keys[2]));
    let first = waiting::<String>(&node, &format!("BRPOPLPUSH {} {} 0", keys[0], keys[1]));
    tell(&mut client, &format!("RPUSH {} x", keys[0]));
    assert_eq!(first.join().unwrap().unwrap(), "x");
    assert_eq!(second.join().unwrap().unwrap(), "x");
    assert_eq!(last.join().unwrap().unwrap(), Some((keys[2].clone(), "x".to_owned())));
    assert_eq!(ask::<i64>(&mut client, "DBSIZE").unwrap(), 0);

    // Where it cannot go, it stays, and the next one gets it.
    tell(&mut client, &format!("SET {} string", keys[1]));
    let mover = waiting::<String>(&node, &format!("BLMOVE {} {} LEFT RIGHT 0", keys[0], keys[1]));
    let next = waiting::<Popped>(&node, &format!("BLPOP {} 0", keys[0]));
    tell(&mut client, &format!("RPUSH {} y", keys[0]));
    assert_eq!(mover.join().unwrap().unwrap_err().code(), Some("WRONGTYPE"));
    assert_eq!(next.join().unwrap().unwrap(), Some((keys[0].clone(), "y".to_owned())));
    assert_eq!(node.number("blocked_clients"), 0);
}

#[test]
fn a_wait_ends_when_its_time_is_over_or_another_client_says_so() {
    let node = Kevy::primary(3);
    let mut client = node.connect();
    let began = Instant::now();
    assert_eq!(ask::<Popped>(&mut client, "BLPOP a b c 0.12").unwrap(), None);
    assert!(began.elapsed() >= Duration::from_millis(120));
    assert_eq!(ask::<Option<String>>(&mut client, "BLMOVE a b LEFT LEFT 0.01").unwrap(), None);

    for (how, is_error) in [("", false), (" TIMEOUT", false), (" ERROR", true)] {
        for command in ["BLPOP a b c 0", "BZPOPMAX z 0", "WAIT 1 0"] {
            let waiter = waiting::<redis::Value>(&node, command);
            let list: String = ask(&mut client, "CLIENT LIST").unwrap();
            let line = list.lines().find(|line| line.contains(" flags=b ")).expect("one is marked as blocked");
            let id = line.split(' ').find_map(|field| field.strip_prefix("id=")).expect("its number");
            assert_eq!(ask::<i64>(&mut client, &format!("CLIENT UNBLOCK {id}{how}")).unwrap(), 1);
            match waiter.join().unwrap() {
                Ok(redis::Value::Nil | redis::Value::Int(0)) if !is_error => {}
                Err(error) if is_error => assert_eq!(error.code(), Some("UNBLOCKED"), "{command}"),
                other => panic!("{command}{how}: {other:?}"),
            }
            assert_eq!(
                ask::<i64>(&mut client, &format!("CLIENT UNBLOCK {id}{how}")).unwrap(),
                0,
                "it does not wait any more"
            );
        }
    }
    // Nothing is left of those who gave up.
    tell(&mut client, "RPUSH a 1");
    assert_eq!(ask::<i64>(&mut client, "LLEN a").unwrap(), 1);
}

#[test]
fn who_hangs_up_or_is_killed_while_it_waits_gets_nothing() {
    for shards in [1, 3] {
        let node = Kevy::primary(shards);
        let mut client = node.connect();
        let list: Vec<String> = (0..shards).map(|shard| key_of(shard, shards, "list")).collect();
        let command = format!("BLPOP {} 0\r\nPING\r\n", list.join(" "));
        for killed in [false, true] {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", node.port)).expect("connects");
            std::io::Write::write_all(&mut stream, command.as_bytes()).expect("it listens");
            wait_until("it waits", || node.number("blocked_clients") == 1);
            if killed {
                let address = stream.local_addr().expect("connected");
                assert_eq!(ask::<i64>(&mut client, &format!("CLIENT KILL ADDR {address}")).unwrap(), 1);
            }
            drop(stream);
            wait_until("it is forgotten", || {
                node.number("blocked_clients") == 0 && node.number("connected_clients") == 2
            });
            for key in &list {
                tell(&mut client, &format!("RPUSH {key} x"));
                assert_eq!(ask::<i64>(&mut client, &format!("LLEN {key}")).unwrap(), 1);
                tell(&mut client, &format!("DEL {key}"));
            }
        }
    }
}

#[test]
fn a_node_that_becomes_a_replica_lets_nobody_wait() {
    let (primary, node) = (Kevy::primary(1), Kevy::primary(3));
    let keys: Vec<String> = (0..3).map(|shard| key_of(shard, 3, "list")).collect();
    let waiters = [
        waiting::<Popped>(&node, &format!("BLPOP {} 0", keys.join(" "))),
        waiting::<Popped>(&node, &format!("BZPOPMIN {} 0", keys[1])),
    ];
    tell(&mut node.connect(), &format!("REPLICAOF 127.0.0.1 {}", primary.port));
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap().unwrap_err().code(), Some("UNBLOCKED"));
    }
    assert_eq!(node.number("blocked_clients"), 0);
    let refused = ask::<Popped>(&mut node.connect(), &format!("BLPOP {} 0", keys[0])).unwrap_err();
    assert_eq!(refused.code(), Some("READONLY"));
}

/// A replica with another number of shards ends equal, and never learns that anybody waited.
#[test]
fn what_a_waiter_did_is_what_is_replicated() {
    for (shards, replica_shards) in [(1, 2), (3, 2)] {
        let primary = Kevy::primary(shards);
        let replica = Kevy::replica(replica_shards, primary.port_base);
        let mut client = primary.connect();
        let keys: Vec<String> = (0..8).map(|n| format!("key:{n}")).collect();
        for (n, key) in keys.iter().enumerate() {
            let other = format!("other:{n}");
            let waiters = [
                waiting::<redis::Value>(&primary, &format!("BLPOP {key} {other} 0")),
                waiting::<redis::Value>(&primary, &format!("BLMOVE {key} l:{n} LEFT RIGHT 0")),
                waiting::<redis::Value>(&primary, &format!("BLMPOP 0 2 {key} {other} RIGHT COUNT 2")),
                waiting::<redis::Value>(&primary, &format!("BZPOPMIN z:{n} 0")),
            ];
            tell(&mut client, &format!("RPUSH {key} a b c d e"));
            tell(&mut client, &format!("ZADD z:{n} 1 a 2 b"));
            waiters.into_iter().for_each(|waiter| _ = waiter.join().unwrap().unwrap());
        }
        await_caught_up(&primary, &replica);
        assert_eq!(primary.digest(), replica.digest());
        let mut reader = replica.connect();
        assert_eq!(ask::<Vec<String>>(&mut reader, "LRANGE key:3 0 -1").unwrap(), ["c"]);
        assert_eq!(ask::<Vec<String>>(&mut reader, "LRANGE l:3 0 -1").unwrap(), ["b"]);
        assert_eq!(ask::<Vec<String>>(&mut reader, "ZRANGE z:3 0 -1").unwrap(), ["b"]);
        // The effects are of this client's own commands, and WAIT knows that.
        assert_eq!(ask::<i64>(&mut client, "WAIT 1 0").unwrap(), 1);
    }
}

/// Producers and consumers over keys of all shards: every element comes out once, and none stays while somebody waits.
#[test]
fn every_element_comes_out_exactly_once() {
    const PRODUCERS: usize = 3;
    const CONSUMERS: usize = 6;
    const EACH: usize = 400;
    for shards in [1, 3] {
        let primary = Kevy::primary(shards);
        let replica = Kevy::replica(2, primary.port_base);
        let keys: Vec<String> = (0..shards).flat_map(|s| ["p", "q"].map(|n| key_of(s, shards, n))).collect();
        let keys = Arc::new(keys);
        let over = Arc::new(AtomicBool::new(false));
        let taken = Arc::new(AtomicUsize::new(0));
        let consumers: Vec<_> = (0..CONSUMERS)
            .map(|number| {
                let (keys, over, taken) = (Arc::clone(&keys), Arc::clone(&over), Arc::clone(&taken));
                let mut client = primary.connect();
                thread::spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(number as u64);
                    let mut got = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        let mut some = keys.to_vec();
                        rng.shuffle(&mut some);
                        // Each key is waited for by somebody who takes from it for good.
                        let popped: Popped = match rng.u8(..4) {
                            0 => {
                                let moved = format!("BLMOVE {} {} LEFT RIGHT 0.05", some[0], some[1]);
                                ask::<Option<String>>(&mut client, &moved).expect("BLMOVE");
                                continue;
                            }
                            1 => ask(&mut client, &format!("BRPOP {} 0.05", some.join(" "))).expect("BRPOP"),
                            _ => ask(&mut client, &format!("BLPOP {} 0.05", some.join(" "))).expect("BLPOP"),
                        };
                        if let Some((_, element)) = popped {
                            got.push(element);
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    got
                })
            })
            .collect();
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|number| {
                let (keys, mut client) = (Arc::clone(&keys), primary.connect());
                thread::spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(100 + number as u64);
                    let mut next = 0;
                    while next < EACH {
                        let several = rng.usize(1..4).min(EACH - next);
                        let elements: Vec<String> = (next..next + several).map(|n| format!("{number}-{n}")).collect();
                        next += several;
                        let key = &keys[rng.usize(..keys.len())];
                        if rng.bool() {
                            tell(&mut client, &format!("RPUSH {key} {}", elements.join(" ")));
                        } else {
                            let mut pipe = redis::pipe();
                            pipe.atomic();
                            elements.iter().for_each(|e| _ = pipe.cmd("LPUSH").arg(key).arg(e).ignore());
                            pipe.query::<()>(&mut client).expect("a transaction");
                        }
                    }
                })
            })
            .collect();
        producers.into_iter().for_each(|producer| producer.join().expect("a producer"));
        wait_until("everything is taken", || taken.load(Ordering::Relaxed) == PRODUCERS * EACH);
        over.store(true, Ordering::Relaxed);
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for consumer in consumers {
            consumer
                .join()
                .expect("a consumer")
                .into_iter()
                .for_each(|element| *count.entry(element).or_default() += 1);
        }
        assert_eq!(count.len(), PRODUCERS * EACH);
        assert!(count.values().all(|count| *count == 1));
        await_caught_up(&primary, &replica);
        assert_eq!(primary.digest(), replica.digest());
        assert_eq!(primary.number("blocked_clients"), 0);
    }
}
