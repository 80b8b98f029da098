//! Writes of every shape, from several clients at once, while a replica attaches: commands on several keys, on whole shards,
//! and with effects that are not their own words.

use std::thread;

use crate::compare::{assert_becomes_equal, await_caught_up};
use crate::kevy::Kevy;
use crate::load::Benchmark;
use crate::relay::Relay;
use crate::wait_until;

#[test]
fn one_to_one() {
    writes(1, 1);
}

#[test]
fn two_to_three() {
    writes(2, 3);
}

#[test]
fn three_to_one() {
    writes(3, 1);
}

#[test]
fn flushall_in_the_middle_of_a_sync() {
    if !Benchmark::is_there() {
        return;
    }
    let primary = Kevy::primary(2);
    Benchmark::sets(primary.port, 200_000, 100_000).finish();
    let relay = Relay::start(primary.port_base, 2);
    relay.stall_at(1_000_000);
    let replica = Kevy::replica(3, relay.port_base);
    wait_until("a part of the dump crossed", || relay.is_stalled());
    wait_until("the replica syncs", || replica.number("master_sync_in_progress") == 1);
    let mut client = primary.connect();
    for i in 0..1_000 {
        redis::cmd("SET").arg(format!("before:{i}")).arg(i).exec(&mut client).expect("SET");
    }
    redis::cmd("FLUSHALL").exec(&mut client).expect("FLUSHALL");
    for i in 0..1_000 {
        redis::cmd("SET").arg(format!("after:{i}")).arg(i).exec(&mut client).expect("SET");
    }
    relay.heal();
    assert_becomes_equal(&primary, &replica);
    assert_eq!(replica.ask::<u64>(&["DBSIZE"]).expect("DBSIZE"), 1_000);
}

/// Three clients write; the replica attaches after a third, its link is cut after two thirds.
fn writes(primary_shards: u16, replica_shards: u16) {
    let primary = Kevy::primary(primary_shards);
    let relay = Relay::start(primary.port_base, primary_shards);
    let recorded = || primary.number("master_repl_offset");
    let replica = thread::scope(|scope| {
        for seed in 0..3 {
            let primary = &primary;
            scope.spawn(move || client(primary, seed));
        }
        wait_until("a part of the writes is there", || recorded() > 10_000);
        let replica = Kevy::replica(replica_shards, relay.port_base);
        wait_until("more of the writes are there", || recorded() > 25_000);
        relay.cut();
        relay.heal();
        replica
    });
    assert_becomes_equal(&primary, &replica);
    primary.ask::<()>(&["SET", "last", "1"]).expect("SET");
    await_caught_up(&primary, &replica);
}

#[test]
fn what_moves_between_shards_is_neither_lost_nor_doubled() {
    let primary = Kevy::primary(3);
    let lists: Vec<String> = (0..8).map(|n| format!("list:{n}")).collect();
    let mut connection = primary.connect();
    for n in 0..200 {
        redis::cmd("RPUSH").arg(&lists[n % 8]).arg(n).exec(&mut connection).expect("RPUSH");
    }
    thread::scope(|scope| {
        for seed in 0..3 {
            let (primary, lists) = (&primary, &lists);
            scope.spawn(move || {
                let mut connection = primary.connect();
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..500 {
                    let (from, to) = (random.usize(0..8), random.usize(0..8));
                    let moved =
                        redis::cmd("LMOVE").arg(&lists[from]).arg(&lists[to]).arg("LEFT").arg("RIGHT").to_owned();
                    moved.exec(&mut connection).expect("LMOVE");
                }
            });
        }
        // Somebody adds to a key that somebody else renames.
        scope.spawn(|| {
            let mut connection = primary.connect();
            for n in 1_000..1_500 {
                redis::cmd("RPUSH").arg("source").arg(n).exec(&mut connection).expect("RPUSH");
            }
        });
        scope.spawn(|| {
            let mut connection = primary.connect();
            for n in 0..100 {
                // It may not be there.
                let _ = redis::cmd("RENAME").arg("source").arg(format!("target:{n}")).exec(&mut connection);
            }
        });
    });
    let mut found: Vec<u32> = Vec::new();
    let renamed = (0..100).map(|n| format!("target:{n}")).chain(["source".to_owned()]);
    for list in lists.into_iter().chain(renamed) {
        let elements: Vec<u32> = redis::cmd("LRANGE").arg(list).arg(0).arg(-1).query(&mut connection).expect("LRANGE");
        found.extend(elements);
    }
    found.sort_unstable();
    assert_eq!(found, (0..200).chain(1_000..1_500).collect::<Vec<u32>>());
}

#[test]
fn elements_that_move_between_shards_end_equal_on_a_replica() {
    let primary = Kevy::primary(3);
    let relay = Relay::start(primary.port_base, 3);
    let replica = Kevy::replica(2, relay.port_base);
    let mut connection = primary.connect();
    for n in 0..40 {
        redis::cmd("RPUSH").arg(format!("l{}", n % 4)).arg(n).exec(&mut connection).expect("RPUSH");
        redis::cmd("SADD").arg(format!("m{}", n % 4)).arg(n).exec(&mut connection).expect("SADD");
    }
    thread::scope(|scope| {
        for seed in 0..4 {
            let primary = &primary;
            scope.spawn(move || {
                let mut connection = primary.connect();
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..600 {
                    let mut key = |kind: &str| format!("{kind}{}", random.u32(0..12));
                    let [from, to, source, target] = [key("l"), key("l"), key("m"), key("m")];
                    let member = random.u32(0..40).to_string();
                    // A list that is empty is waited for: one of the others may bring something.
                    let words = match random.u32(0..11) {
                        0..3 => vec!["LMOVE", &from, &to, "LEFT", "RIGHT"],
                        3 => vec!["RPOPLPUSH", &from, &to],
                        4 => vec!["BLMOVE", &from, &to, "RIGHT", "LEFT", "0.01"],
                        5 => vec!["BRPOPLPUSH", &from, &to, "0.01"],
                        6 | 7 => vec!["SMOVE", &source, &target, &member],
                        // An observer may see a value in both places: nobody takes from these.
                        8 => vec!["RENAME", "union", "renamed"],
                        9 => vec!["COPY", &from, "copy", "REPLACE"],
                        _ => vec!["SUNIONSTORE", "union", &source, &target],
                    };
                    // What is not there cannot be renamed.
                    let _: redis::RedisResult<redis::Value> = redis::Cmd::new().arg(words).query(&mut connection);
                }
            });
        }
        wait_until("many have moved", || primary.number("master_repl_offset") > 1_000);
        relay.cut();
        relay.heal();
    });
    assert_becomes_equal(&primary, &replica);
    let mut reader = replica.connect();
    let mut elements: Vec<u32> = Vec::new();
    let mut members: Vec<u32> = Vec::new();
    for n in 0..12 {
        elements.extend(
            redis::cmd("LRANGE").arg(format!("l{n}")).arg(0).arg(-1).query::<Vec<u32>>(&mut reader).expect("LRANGE"),
        );
        members.extend(redis::cmd("SMEMBERS").arg(format!("m{n}")).query::<Vec<u32>>(&mut reader).expect("SMEMBERS"));
    }
    elements.sort_unstable();
    members.sort_unstable();
    assert_eq!((&elements, &members), (&(0..40).collect(), &(0..40).collect()), "neither lost nor doubled");
}

/// Keys of a command are on several shards: what fails in one part has no effect in another.
#[test]
fn what_fails_or_changes_nothing_across_shards_is_not_recorded() {
    let primary = Kevy::primary(3);
    let mut connection = primary.connect();
    let mut ask = |command: &str| {
        let mut cmd = redis::Cmd::new();
        command.split(' ').for_each(|word| _ = cmd.arg(word));
        cmd.query::<redis::Value>(&mut connection)
    };
    // Several of each type, so that some are on the shard of the other key and some are not.
    for n in 0..6 {
        for command in [
            format!("SET s{n} v"),
            format!("RPUSH l{n} a"),
            format!("SADD m{n} a"),
            format!("ZADD z{n} 1 a"),
            format!("PFADD p{n} a"),
        ] {
            ask(&command).expect("it is made");
        }
    }
    let before = primary.number("master_repl_offset");
    for (n, o) in (0..6).flat_map(|n| (0..6).map(move |o| (n, o))) {
        for command in [
            format!("RENAME no{n} s{o}"),
            format!("RENAMENX s{n} l{o}"),
            format!("COPY s{n} l{o}"),
            format!("COPY no{n} l{o}"),
            format!("MSETNX no{n} 1 s{o} 2"),
            format!("DEL no{n} no{o}x"),
            format!("LMOVE no{n} l{o} LEFT LEFT"),
            format!("LMOVE l{n} s{o} LEFT LEFT"),
            format!("RPOPLPUSH l{n} m{o}"),
            format!("BLMOVE l{n} s{o} LEFT LEFT 0.001"),
            format!("BLPOP no{n} no{o}x 0.001"),
            format!("BLPOP no{n} s{o} 0.001"),
            format!("LMPOP 2 no{n} no{o}x LEFT"),
            format!("LMPOP 2 no{n} s{o} LEFT"),
            format!("SMOVE m{n} s{o} a"),
            format!("SMOVE m{n} m{o} nosuch"),
            format!("SINTERSTORE no{n} m{o} nosuch"),
            format!("SUNIONSTORE no{n} m{o} s{o}"),
            format!("SDIFFSTORE no{n} m{o} m{o} m{n}"),
            format!("ZUNIONSTORE no{n} 2 z{o} s{n}"),
            format!("ZINTERSTORE no{n} 2 z{o} nosuch"),
            format!("ZRANGESTORE no{n} z{o} 5 9"),
            format!("ZMPOP 2 no{n} s{o} MIN"),
            format!("PFMERGE p{n} p{o}"),
            format!("PFMERGE p{n} s{o}"),
            format!("BITOP AND no{n} no{o}x l{n}"),
            format!("SORT no{n} STORE no{o}x"),
            format!("SORT s{n} STORE no{o}"),
            format!("GEOSEARCHSTORE no{n} no{o}x FROMLONLAT 0 0 BYRADIUS 1 m"),
        ] {
            // An error, or nothing.
            let reply = ask(&command);
            assert_eq!(primary.number("master_repl_offset"), before, "{command}, answered {reply:?}, is recorded");
        }
    }
}

/// Pipelines of commands from a seed. What the store refuses is refused, and changes nothing.
fn client(primary: &Kevy, seed: u64) {
    let mut connection = primary.connect();
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..400 {
        let mut pipe = redis::pipe();
        for _ in 0..50 {
            pipe.add_command(command(&mut random)).ignore();
        }
        if round == 200 && seed == 0 {
            pipe.cmd("FLUSHALL").ignore();
        }
        // Some find a value of another type, or none.
        let _: redis::RedisResult<()> = pipe.query(&mut connection);
    }
}

fn command(random: &mut fastrand::Rng) -> redis::Cmd {
    // The kind is a part of the name, so that most commands find what they are made for; a tag keeps two keys on one shard.
    let number = random.u32(0..2_000);
    let mut key = |kind: &str| format!("{kind}:{{{}}}:{}", number % 500, random.u32(0..4));
    let keys: Vec<String> = ["s", "s", "n", "l", "h", "z", "m", "any"].iter().map(|kind| key(kind)).collect();
    let [string, other, integer, list, hash, zset, set, any] = &keys[..] else { unreachable!("eight kinds") };
    let value = format!("value-{}", random.u64(..));
    let member = format!("member-{}", random.u32(0..50));
    // Keys whose slots may be another shard's.
    let mut far = |kind: &str| format!("{kind}:{{{}}}:0", random.u32(0..500));
    let [far_string, far_list, far_set, far_zset, far_any] = ["s", "l", "m", "z", "any"].map(&mut far);
    let words: Vec<&str> = match random.u32(0..36) {
        0..=3 => vec!["SET", string, &value],
        4 => vec!["SET", string, &value, "EX", "10000"],
        5 => vec!["MSET", string, &value, "s:{1}:0", &value, "s:{2}:0", &value, "s:{3}:0", &value],
        6 => vec!["RENAME", string, other],
        7 => vec!["RENAME", hash, any],
        8 => vec!["DEL", string, "s:{4}:0", list, "s:{5}:1", any],
        9 => vec!["APPEND", string, &value],
        10 => vec!["INCRBY", integer, "7"],
        11 => vec!["DECR", integer],
        12 => vec!["LPUSH", list, &value, &member],
        13 => vec!["RPUSH", list, &value],
        14 => vec!["LPOP", list],
        15 => vec!["HSET", hash, &member, &value],
        16 => vec!["HDEL", hash, &member],
        17 => vec!["ZADD", zset, "1.5", &member],
        18 => vec!["ZREM", zset, &member],
        19 => vec!["SADD", set, &member],
        20 => vec!["SPOP", set],
        21 => vec!["PEXPIRE", string, "100000000"],
        22 => vec!["PERSIST", string],
        23 => vec!["SINTERSTORE", &far_set, set, set],
        24 => vec!["SUNIONSTORE", &far_any, set, &far_set],
        25 => vec!["ZUNIONSTORE", &far_zset, "2", zset, &far_set, "WEIGHTS", "1", "2"],
        26 => vec!["LMOVE", list, &far_list, "LEFT", "RIGHT"],
        27 => vec!["SMOVE", set, &far_set, &member],
        28 => vec!["COPY", zset, &far_any, "REPLACE"],
        29 => vec!["RENAME", string, &far_string],
        30 => vec!["RENAMENX", list, &far_list],
        31 => vec!["BITOP", "XOR", &far_string, string, other],
        32 => vec!["LMPOP", "2", &far_list, list, "RIGHT", "COUNT", "2"],
        33 => vec!["SORT", set, "ALPHA", "DESC", "STORE", &far_list],
        34 => vec!["SETBIT", string, "77", "1"],
        _ => vec!["SETRANGE", string, "3", &member],
    };
    let mut command = redis::Cmd::new();
    command.arg(words);
    command
}
