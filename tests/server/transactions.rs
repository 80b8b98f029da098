//! Transactions and their replicas: nobody sees a transaction by halves, and a replica takes none that writes.

use std::thread;

use crate::compare::await_caught_up;
use crate::kevy::Kevy;
use crate::wait_until;

#[test]
fn a_replica_never_shows_half_a_transaction() {
    const ROUNDS: u64 = 3_000;
    for (shards, replica_shards) in [(1, 1), (2, 3)] {
        let primary = Kevy::primary(shards);
        let replica = Kevy::replica(replica_shards, primary.port_base);
        wait_until("the replica is synced", || replica.info("master_link_status").as_deref() == Some("up"));
        let mut writer = primary.connect();
        let writing = thread::spawn(move || {
            for round in 1..=ROUNDS {
                let mut pipe = redis::pipe();
                pipe.atomic().cmd("SET").arg("{t}first").arg(round).ignore();
                for filler in 0..40 {
                    pipe.cmd("SET").arg(format!("{{t}}{filler}")).arg(round).ignore();
                }
                pipe.cmd("INCR").arg("{t}last").ignore();
                pipe.query::<()>(&mut writer).expect("a transaction");
            }
        });
        let mut reader = replica.connect();
        let mut seen = 0;
        let mut looks = 0;
        while seen < ROUNDS {
            let keys = ["{t}first", "{t}17", "{t}last"];
            let (first, middle, last): (Option<u64>, Option<u64>, Option<u64>) =
                redis::cmd("MGET").arg(&keys).query(&mut reader).expect("MGET");
            assert!(first == middle && middle == last, "{first:?} {middle:?} {last:?}");
            seen = first.unwrap_or(0);
            looks += 1;
        }
        writing.join().expect("the writer ends");
        assert!(looks > 10, "the reader looked only {looks} times");
        await_caught_up(&primary, &replica);
        assert_eq!(primary.digest(), replica.digest());
    }
}

#[test]
fn a_replica_refuses_transactions_that_write() {
    let primary = Kevy::primary(1);
    let replica = Kevy::replica(1, primary.port_base);
    primary.ask::<()>(&["SET", "key", "1"]).expect("SET");
    await_caught_up(&primary, &replica);
    let mut client = replica.connect();
    let mut ask = |words: &[&str]| {
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&words[1..]);
        cmd.query::<redis::Value>(&mut client)
    };
    ask(&["MULTI"]).expect("MULTI");
    let refused = ask(&["SET", "key", "2"]).expect_err("a replica is read-only");
    assert_eq!(refused.code(), Some("READONLY"), "{refused}");
    let refused = ask(&["EXEC"]).expect_err("nothing is executed");
    assert_eq!(refused.code(), Some("EXECABORT"), "{refused}");
    ask(&["WATCH", "key"]).expect("WATCH");
    ask(&["MULTI"]).expect("MULTI");
    ask(&["GET", "key"]).expect("it is queued");
    let read = ask(&["EXEC"]).expect("reads are executed");
    assert_eq!(read, redis::Value::Array(vec![redis::Value::BulkString(b"1".to_vec())]));
    ask(&["WATCH", "key"]).expect("WATCH");
    primary.ask::<()>(&["SET", "key", "3"]).expect("SET");
    await_caught_up(&primary, &replica);
    ask(&["MULTI"]).expect("MULTI");
    ask(&["GET", "key"]).expect("it is queued");
    assert_eq!(ask(&["EXEC"]).expect("EXEC"), redis::Value::Nil, "the stream changed a watched key");
}

#[test]
fn wait_in_a_transaction_does_not_block() {
    let primary = Kevy::primary(2);
    let (set, acked): (String, u64) = redis::pipe()
        .atomic()
        .cmd("SET")
        .arg("key")
        .arg(1)
        .cmd("WAIT")
        .arg(1)
        .arg(0)
        .query(&mut primary.connect())
        .expect("it does not wait for a replica that is not there");
    assert_eq!((set.as_str(), acked), ("OK", 0));
}
