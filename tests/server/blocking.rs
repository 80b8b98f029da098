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

type Stream = (String, Vec<(String, Vec<String>)>);

/// What a read of streams was answered, as text; `-`: nothing.
fn shown(waiter: thread::JoinHandle<RedisResult<Option<Vec<Stream>>>>) -> String {
    let show = |(key, entries): Stream| {
        let entries = entries.into_iter().map(|(id, words)| format!(" {id} {}", words.join(" ")));
        key + &entries.collect::<String>()
    };
    match waiter.join().unwrap() {
        Ok(Some(streams)) => streams.into_iter().map(show).collect::<Vec<_>>().join(" "),
        Ok(None) => "-".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_comes_into_a_stream_is_read_by_everybody_who_waits() {
    for shards in [1, 3] {
        let node = Kevy::primary(shards);
        let mut client = node.connect();
        let keys: Vec<String> = (0..shards).map(|shard| key_of(shard, shards, "stream")).collect();
        for key in &keys {
            tell(&mut client, &format!("XADD {key} 5-0 f old"));
        }
        for key in &keys {
            let ids = vec!["$"; keys.len()].join(" ");
            let readers = [
                waiting(&node, &format!("XREAD BLOCK 0 STREAMS {} {ids}", keys.join(" "))),
                waiting(&node, &format!("XREAD COUNT 1 BLOCK 10000 STREAMS nosuch {key} 0 5-0")),
                waiting(&node, &format!("XREAD BLOCK 0 STREAMS {key} 6-0")),
            ];
            // What is gone by the end of the transaction was not there, and does not change what is new.
            redis::pipe()
                .atomic()
                .cmd("XADD")
                .arg(key)
                .arg("5-1")
                .arg("f")
                .arg("x")
                .ignore()
                .cmd("XDEL")
                .arg(key)
                .arg("5-1")
                .ignore()
                .query::<()>(&mut client)
                .unwrap();
            tell(&mut client, &format!("XADD {key} 6-0 f new"));
            wait_until("two are served", || node.number("blocked_clients") == 1);
            tell(&mut client, &format!("XADD {key} 7-0 f last"));
            let [tail, since, above] = readers.map(shown);
            assert_eq!([tail, since], [(); 2].map(|()| format!("{key} 6-0 f new")));
            assert_eq!(above, format!("{key} 7-0 f last"));
        }
        // What is there already is had at once, and of all keys.
        let all: Option<Vec<Stream>> = ask(
            &mut client,
            &format!("XREAD COUNT 1 BLOCK 0 STREAMS {} {}", keys.join(" "), vec!["0"; keys.len()].join(" ")),
        )
        .unwrap();
        assert_eq!(all.map(|streams| streams.len()), Some(keys.len()));
        assert_eq!(
            ask::<Option<Vec<Stream>>>(&mut client, &format!("XREAD BLOCK 20 STREAMS {} $", keys[0])).unwrap(),
            None
        );
        let in_transaction: (Option<Vec<Stream>>,) = redis::pipe()
            .atomic()
            .cmd("XREAD")
            .arg(&["BLOCK", "0", "STREAMS", &keys[0], "$"])
            .query(&mut client)
            .unwrap();
        assert_eq!(in_transaction, (None,));
    }
}

#[test]
fn whatever_makes_a_stream_wakes_who_waits_for_one() {
    for shards in [1, 3] {
        let node = Kevy::primary(shards);
        let mut client = node.connect();
        let (from, to) = (key_of(0, shards, "from"), key_of(shards - 1, shards, "to"));
        for wakes in ["RENAME", "COPY", "RESTORE"] {
            tell(&mut client, &format!("XADD {from} 1-0 f v"));
            let reader = waiting(&node, &format!("XREAD BLOCK 0 STREAMS {to} $"));
            for stranger in [format!("RPUSH {to} 1"), format!("DEL {to}")] {
                tell(&mut client, &stranger);
            }
            assert_eq!(node.number("blocked_clients"), 1);
            if wakes == "RESTORE" {
                let payload: Vec<u8> = ask(&mut client, &format!("DUMP {from}")).unwrap();
                redis::cmd(wakes).arg(&to).arg(0).arg(payload).query::<()>(&mut client).unwrap();
            } else {
                tell(&mut client, &format!("{wakes} {from} {to}"));
            }
            assert_eq!(shown(reader), format!("{to} 1-0 f v"), "{wakes}");
            tell(&mut client, &format!("DEL {from} {to}"));
        }
    }
}

#[test]
fn an_entry_goes_to_the_consumer_who_came_first() {
    for shards in [1, 3] {
        let node = Kevy::primary(shards);
        let replica = Kevy::replica(2, node.port_base);
        let mut client = node.connect();
        let keys: Vec<String> = (0..shards).map(|shard| key_of(shard, shards, "stream")).collect();
        for key in &keys {
            tell(&mut client, &format!("XGROUP CREATE {key} g $ MKSTREAM"));
        }
        let (list, ids) = (keys.join(" "), vec![">"; keys.len()].join(" "));
        for key in &keys {
            let consumers = ["a", "b", "c"]
                .map(|name| waiting(&node, &format!("XREADGROUP GROUP g {name} COUNT 1 BLOCK 0 STREAMS {list} {ids}")));
            for number in 1..4 {
                tell(&mut client, &format!("XADD {key} {number}-0 f {number}"));
            }
            let got = consumers.map(shown);
            assert_eq!(got, [1, 2, 3].map(|number| format!("{key} {number}-0 f {number}")));
            // What was delivered before is had at once, also where that is nothing.
            let again: Option<Vec<Stream>> =
                ask(&mut client, &format!("XREADGROUP GROUP g b BLOCK 0 STREAMS {key} 0")).unwrap();
            assert_eq!(again.expect("its history")[0].1[0].0, "2-0");
            let nothing: Option<Vec<Stream>> =
                ask(&mut client, &format!("XREADGROUP GROUP g d BLOCK 0 STREAMS {key} 0")).unwrap();
            assert_eq!(nothing.expect("its history")[0].1, []);
            assert_eq!(
                ask::<Option<Vec<Stream>>>(&mut client, &format!("XREADGROUP GROUP g b BLOCK 20 STREAMS {key} >"))
                    .unwrap(),
                None
            );
        }
        await_caught_up(&node, &replica);
        assert_eq!(node.digest(), replica.digest());
        assert_eq!(
            ask::<(i64,)>(&mut client, &format!("XPENDING {} g", keys[0])).map(|(count,)| count).unwrap_or(3),
            3
        );
    }
}

/// The group goes with its stream: nobody waits for what will never come.
#[test]
fn who_waits_for_a_group_hears_that_it_is_gone() {
    for shards in [1, 3] {
        let node = Kevy::primary(shards);
        let mut client = node.connect();
        let keys: Vec<String> = (0..shards).map(|shard| key_of(shard, shards, "stream")).collect();
        let (list, ids) = (keys.join(" "), vec![">"; keys.len()].join(" "));
        let key = &keys[usize::from(shards) - 1];
        for (ends, error) in [
            (format!("DEL {key}"), "NOGROUP"),
            (format!("SET {key} string"), "WRONGTYPE"),
            (format!("XGROUP DESTROY {key} g"), "NOGROUP"),
            (format!("RENAME {key} elsewhere"), "NOGROUP"),
            (format!("PEXPIRE {key} 1"), "NOGROUP"),
            (format!("PEXPIREAT {key} 1"), "NOGROUP"),
            ("FLUSHALL".to_owned(), "NOGROUP"),
        ] {
            for key in &keys {
                tell(&mut client, &format!("DEL {key}"));
                tell(&mut client, &format!("XGROUP CREATE {key} g $ MKSTREAM"));
            }
            let consumer = waiting(&node, &format!("XREADGROUP GROUP g a BLOCK 0 STREAMS {list} {ids}"));
            let reader = waiting::<Option<Vec<Stream>>>(&node, &format!("XREAD BLOCK 0 STREAMS {key} $"));
            tell(&mut client, &ends);
            let heard = shown(consumer);
            assert!(heard.contains(error), "{ends}: {heard}");
            assert_eq!(node.number("blocked_clients"), 1, "{ends}: a stream may come again");
            tell(&mut client, &format!("DEL {key}"));
            tell(&mut client, &format!("XADD {key} 1-0 f v"));
            assert_eq!(shown(reader), format!("{key} 1-0 f v"), "{ends}");
        }
    }
}

#[test]
fn a_replica_wakes_those_who_read_from_it() {
    let primary = Kevy::primary(3);
    let replica = Kevy::replica(2, primary.port_base);
    let mut client = primary.connect();
    tell(&mut client, "XADD stream 1-0 f v");
    await_caught_up(&primary, &replica);
    let reader = waiting(&replica, "XREAD BLOCK 0 STREAMS other stream $ $");
    tell(&mut client, "XADD stream 2-0 f w");
    assert_eq!(shown(reader), "stream 2-0 f w");
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
