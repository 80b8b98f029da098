//! Whether two nodes hold the same: by their digests, and by what a client finds by SCAN and reading. The second knows
//! nothing of the first.

use std::collections::BTreeMap;

use redis::{Connection, Value};

use crate::kevy::Kevy;
use crate::wait_until;

/// Waits until `replica` has applied all that `primary` recorded, then asserts that they hold the same.
#[track_caller]
pub fn assert_becomes_equal(primary: &Kevy, replica: &Kevy) {
    let mut digests = [const { String::new() }; 2];
    // What a primary evicts or expires by itself between two looks is no difference.
    wait_until("the primary records nothing while both are looked at", || {
        await_caught_up(primary, replica);
        let recorded = primary.number("master_repl_offset");
        digests = [primary.digest(), replica.digest()];
        primary.number("master_repl_offset") == recorded
    });
    assert_eq!(digests[0], digests[1], "digests of {} and {}", primary.port, replica.port);
    let sizes = [primary, replica].map(|node| node.ask::<u64>(&["DBSIZE"]).expect("DBSIZE"));
    assert_eq!(sizes[0], sizes[1], "DBSIZE");
    let (ours, theirs) = (contents(&mut primary.connect()), contents(&mut replica.connect()));
    assert_eq!([ours.len() as u64, theirs.len() as u64], sizes, "number of keys that SCAN finds");
    for (key, value) in &ours {
        assert_eq!(Some(value), theirs.get(key), "key {:?}", String::from_utf8_lossy(key));
    }
}

/// Waits until the link is up and the offsets are the same. The primary must be quiet.
#[track_caller]
pub fn await_caught_up(primary: &Kevy, replica: &Kevy) {
    wait_until("the replica has applied everything", || {
        replica.info("master_link_status").as_deref() == Some("up")
            && replica.number("slave_repl_offset") == primary.number("master_repl_offset")
    });
}

/// Every key with its value and its expiry, as a client sees them. Sets and hashes are sorted: their order means
/// nothing.
fn contents(connection: &mut Connection) -> BTreeMap<Vec<u8>, (Value, i64)> {
    let mut found = BTreeMap::new();
    let mut cursor = 0_u64;
    loop {
        let (next, keys): (u64, Vec<Vec<u8>>) =
            redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(1_000).query(connection).expect("SCAN");
        read(connection, keys, &mut found);
        cursor = next;
        if cursor == 0 {
            return found;
        }
    }
}

fn read(connection: &mut Connection, keys: Vec<Vec<u8>>, found: &mut BTreeMap<Vec<u8>, (Value, i64)>) {
    if keys.is_empty() {
        return;
    }
    let mut types = redis::pipe();
    for key in &keys {
        types.cmd("TYPE").arg(key).cmd("PEXPIRETIME").arg(key);
    }
    let types: Vec<Value> = types.query(connection).expect("TYPE");
    let mut reads = redis::pipe();
    for (key, answers) in keys.iter().zip(types.chunks(2)) {
        let kind: String = redis::from_redis_value(answers[0].clone()).expect("a type");
        match kind.as_str() {
            "string" => reads.cmd("GET").arg(key),
            "hash" => reads.cmd("HGETALL").arg(key),
            "list" => reads.cmd("LRANGE").arg(key).arg(0).arg(-1),
            "set" => reads.cmd("SMEMBERS").arg(key),
            "zset" => reads.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"),
            other => panic!("{:?} is of type {other}", String::from_utf8_lossy(key)),
        };
    }
    let values: Vec<Value> = reads.query(connection).expect("reading");
    for ((key, answers), value) in keys.into_iter().zip(types.chunks(2)).zip(values) {
        let kind: String = redis::from_redis_value(answers[0].clone()).expect("a type");
        let expiry: i64 = redis::from_redis_value(answers[1].clone()).expect("an expiry");
        found.insert(key, (in_order(&kind, value), expiry));
    }
}

/// `value` with members in an order of their own.
fn in_order(kind: &str, value: Value) -> Value {
    let Value::Array(mut items) = value else { return value };
    match kind {
        "set" => items.sort_by_key(text),
        "hash" => {
            let mut pairs: Vec<_> = items.chunks(2).map(<[Value]>::to_vec).collect();
            pairs.sort_by_key(|pair| text(&pair[0]));
            items = pairs.concat();
        }
        _ => {}
    }
    Value::Array(items)
}

fn text(value: &Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes.clone(),
        other => format!("{other:?}").into_bytes(),
    }
}
