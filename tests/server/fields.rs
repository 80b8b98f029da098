//! Fields of hashes that expire, over processes: nobody asks for them, and they are gone on both sides; times go where their hash goes.

use redis::{Connection, FromRedisValue};

use crate::compare::await_caught_up;
use crate::kevy::Kevy;
use crate::wait_until;

fn ask<T: FromRedisValue>(client: &mut Connection, command: &str) -> T {
    let mut cmd = redis::Cmd::new();
    command.split(' ').for_each(|arg| _ = cmd.arg(arg));
    cmd.query(client).unwrap_or_else(|error| panic!("{command}: {error}"))
}

#[test]
fn fields_go_on_both_sides_without_being_asked_for() {
    const HASHES: u64 = 40;
    let primary = Kevy::primary(2);
    let replica = Kevy::replica(3, primary.port_base);
    let mut client = primary.connect();
    for n in 0..HASHES {
        ask::<i64>(&mut client, &format!("HSET h:{n} stays v"));
        ask::<i64>(&mut client, &format!("HSETEX h:{n} PX 300 FIELDS 2 f v g w"));
        ask::<i64>(&mut client, &format!("HSETEX gone:{n} PX 300 FIELDS 1 f v"));
    }
    let recorded = primary.number("master_repl_offset");
    wait_until("all of it is said", || primary.number("master_repl_offset") == recorded + 2 * HASHES);
    await_caught_up(&primary, &replica);
    assert_eq!(primary.digest(), replica.digest());
    let mut reader = replica.connect();
    assert_eq!(ask::<u64>(&mut reader, "DBSIZE"), HASHES);
    for n in 0..HASHES {
        assert_eq!(ask::<Vec<String>>(&mut reader, &format!("HKEYS h:{n}")), ["stays"]);
    }
    assert_eq!(ask::<u64>(&mut client, "DBSIZE"), HASHES);
}

/// A replica that attaches gets the times by the dump, in pieces for a large hash, and acts on them once it is a primary.
#[test]
fn a_replica_that_is_promoted_expires_fields_by_itself() {
    let primary = Kevy::primary(3);
    let mut client = primary.connect();
    let mut large = redis::cmd("HSET");
    large.arg("large");
    (0..30_000).for_each(|n| _ = large.arg(n).arg("v".repeat(60)));
    large.exec(&mut client).expect("HSET");
    let mut expires = redis::cmd("HPEXPIRE");
    expires.arg("large").arg(3_600_000).arg("FIELDS").arg(20_000);
    (0..20_000).for_each(|n| _ = expires.arg(n));
    expires.exec(&mut client).expect("HPEXPIRE");
    ask::<i64>(&mut client, "HSETEX small EX 3600 FIELDS 1 f v");
    let replica = Kevy::replica(2, primary.port_base);
    await_caught_up(&primary, &replica);
    assert_eq!(primary.digest(), replica.digest());
    let mut promoted = replica.connect();
    let times = "HPEXPIRETIME large FIELDS 3 0 19999 20000";
    assert_eq!(ask::<Vec<i64>>(&mut promoted, times), ask::<Vec<i64>>(&mut client, times));
    ask::<String>(&mut promoted, "REPLICAOF NO ONE");
    ask::<Vec<i64>>(&mut promoted, "HPEXPIRE small 1 FIELDS 1 f");
    wait_until("it goes by itself", || replica.ask::<u64>(&["DBSIZE"]).expect("DBSIZE") == 1);
}

#[test]
fn times_go_from_shard_to_shard() {
    let primary = Kevy::primary(3);
    let replica = Kevy::replica(1, primary.port_base);
    let mut client = primary.connect();
    for n in 0..12 {
        ask::<i64>(&mut client, &format!("HSET from:{n} f v g w"));
        ask::<Vec<i64>>(&mut client, &format!("HEXPIREAT from:{n} 33333333333 FIELDS 1 f"));
        ask::<i64>(&mut client, &format!("COPY from:{n} copy:{n}"));
        ask::<String>(&mut client, &format!("RENAME from:{n} to:{n}"));
        for key in ["copy", "to"] {
            let times: Vec<i64> = ask(&mut client, &format!("HEXPIRETIME {key}:{n} FIELDS 3 f g x"));
            assert_eq!(times, [33_333_333_333, -1, -2], "{key}:{n}");
        }
    }
    await_caught_up(&primary, &replica);
    assert_eq!(primary.digest(), replica.digest());
}
