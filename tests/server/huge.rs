//! Huge keys and a huge slot, each changed by a client while it is dumped, and freed afterwards. `KEVY_TURN_USEC_MAX` makes these tests
//! fail where a shard had a longer turn: for a machine that does nothing else. What a turn does at most, unit tests say.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use redis::Connection;

use crate::compare::await_caught_up;
use crate::kevy::Kevy;
use crate::wait_until;

const MEMBERS: u64 = 1_000_000;
const KEY: &str = "{huge}";

#[test]
fn a_string_of_200_mib() {
    let fill = |client: &mut Connection| {
        let part: Vec<u8> = (0..1u32 << 20).map(|n| (n * 7 + n / 251) as u8).collect();
        (0..200).for_each(|_| redis::cmd("APPEND").arg(KEY).arg(&part).exec(client).expect("APPEND"));
    };
    survives("string", 200 << 20, fill, |pipe, n| {
        pipe.cmd("SETRANGE").arg(KEY).arg(n * 1_000_003 % (200 << 20)).arg(n);
        pipe.cmd("APPEND").arg(KEY).arg(n);
    });
}

#[test]
fn a_hash_of_a_million_fields() {
    let fill = |client: &mut Connection| fill(client, "HSET", |pipe, n| _ = pipe.arg(n).arg("value"));
    survives("hash", 60 << 20, fill, |pipe, n| {
        pipe.cmd("HSET").arg(KEY).arg(MEMBERS + n).arg("new");
        pipe.cmd("HINCRBY").arg(KEY).arg(format!("count{}", n % 1_000)).arg(1);
        pipe.cmd("HDEL").arg(KEY).arg(n * 7_919 % MEMBERS);
    });
}

#[test]
fn a_set_of_a_million_members() {
    let fill = |client: &mut Connection| fill(client, "SADD", |pipe, n| _ = pipe.arg(n));
    survives("set", 40 << 20, fill, |pipe, n| {
        pipe.cmd("SADD").arg(KEY).arg(MEMBERS + n);
        pipe.cmd("SREM").arg(KEY).arg(n * 7_919 % MEMBERS);
    });
}

#[test]
fn a_sorted_set_of_a_million_members() {
    let fill = |client: &mut Connection| fill(client, "ZADD", |pipe, n| _ = pipe.arg(n * 31 % MEMBERS).arg(n));
    survives("sorted set", 100 << 20, fill, |pipe, n| {
        pipe.cmd("ZADD").arg(KEY).arg(n).arg(MEMBERS + n);
        pipe.cmd("ZINCRBY").arg(KEY).arg(2.5).arg(n * 104_729 % MEMBERS);
        pipe.cmd("ZREM").arg(KEY).arg(n * 7_919 % MEMBERS);
    });
}

#[test]
fn a_list_of_a_million_elements() {
    let fill = |client: &mut Connection| fill(client, "RPUSH", |pipe, n| _ = pipe.arg(n));
    survives("list", 30 << 20, fill, |pipe, n| {
        pipe.cmd("RPUSH").arg(KEY).arg(n);
        pipe.cmd("LPOP").arg(KEY);
        pipe.cmd("LSET").arg(KEY).arg(n * 7_919 % 900_000).arg(n);
        pipe.cmd("RPUSH").arg(KEY).arg(n);
    });
}

#[test]
fn a_stream_of_a_million_entries() {
    let fill = |client: &mut Connection| {
        redis::cmd("XGROUP").arg(&["CREATE", KEY, "group", "0", "MKSTREAM"]).exec(client).expect("XGROUP");
        for first in (0..MEMBERS).step_by(1_000) {
            let mut pipe = redis::pipe();
            (first..first + 1_000).for_each(|n| _ = pipe.cmd("XADD").arg(KEY).arg(n + 1).arg("field").arg(n).ignore());
            pipe.exec(client).expect("XADD");
        }
        // Of a tenth of them it is not known whether somebody is done with them.
        for n in 0..100 {
            let consumer = format!("consumer{}", n % 7);
            let read = ["GROUP", "group", &consumer, "COUNT", "1000", "STREAMS", KEY, ">"];
            redis::cmd("XREADGROUP").arg(&read).exec(client).expect("XREADGROUP");
        }
    };
    survives("stream", 80 << 20, fill, |pipe, n| {
        pipe.cmd("XADD").arg(KEY).arg("*").arg("field").arg(n);
        pipe.cmd("XDEL").arg(KEY).arg(1 + n * 7_919 % MEMBERS);
        pipe.cmd("XREADGROUP").arg(&["GROUP", "group", "late", "COUNT", "3", "STREAMS", KEY, ">"]);
        pipe.cmd("XACK").arg(KEY).arg("group").arg(1 + n * 104_729 % 100_000);
    });
}

#[test]
fn a_million_keys_under_one_tag() {
    let fill = |client: &mut Connection| {
        for first in (0..MEMBERS).step_by(1_000) {
            let mut pipe = redis::cmd("MSET");
            (first..first + 1_000).for_each(|n| _ = pipe.arg(format!("{KEY}{n}")).arg("value"));
            pipe.exec(client).expect("MSET");
        }
    };
    survives("slot", 60 << 20, fill, |pipe, n| {
        pipe.cmd("SET").arg(format!("{KEY}{}", MEMBERS + n)).arg(n);
        pipe.cmd("APPEND").arg(format!("{KEY}{}", n * 104_729 % MEMBERS)).arg(n);
        pipe.cmd("DEL").arg(format!("{KEY}{}", n * 7_919 % MEMBERS));
    });
}

/// A million members, a thousand in a command.
fn fill(client: &mut Connection, command: &str, put: impl Fn(&mut redis::Cmd, u64)) {
    for first in (0..MEMBERS).step_by(1_000) {
        let mut pipe = redis::cmd(command);
        pipe.arg(KEY);
        (first..first + 1_000).for_each(|n| put(&mut pipe, n));
        pipe.exec(client).expect(command);
    }
}

/// Fills a primary, attaches a replica while a client changes what is there, and frees it all.
fn survives(what: &str, bytes: u64, fill: impl Fn(&mut Connection), change: fn(&mut redis::Pipeline, u64)) {
    // A window that takes the writes of one value's transfer.
    let primary = Kevy::start(1, &["--role", "primary", "--replication-buffer-size", "32mb"]);
    let replica = Kevy::primary(2);
    let nodes = [&primary, &replica];
    fill(&mut primary.connect());
    nodes.iter().for_each(|node| reset(node));
    let before = nodes.map(Kevy::peak_memory);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let attached = AtomicBool::new(false);
    let (began, mut synced, mut written_meanwhile) = (Instant::now(), 0, 0);
    let [alone, meanwhile] = thread::scope(|scope| {
        // Also where a wait below fails: the scope would wait for the writer for ever.
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut client = primary.connect();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let mut pipe = redis::pipe();
                change(&mut pipe, n);
                pipe.exec(&mut client).expect("a change");
                written.fetch_add(1, Ordering::Relaxed);
                // A steady client, which leaves a small machine time for the dump.
                thread::sleep(Duration::from_millis(1));
            }
        });
        let probe = scope.spawn(|| {
            let (mut client, mut waits) = (primary.connect(), [waits(), waits()]);
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                redis::cmd("GET").arg("nosuch").exec(&mut client).expect("GET");
                let phase = usize::from(attached.load(Ordering::Relaxed));
                let took = began.elapsed().as_micros() as u64;
                // Who would have asked while one waited would have waited, too.
                waits[phase].record_correct(took, 1_000).expect("a minute holds");
                thread::sleep(Duration::from_millis(1));
            }
            waits
        });
        wait_until("there are writes", || written.load(Ordering::Relaxed) > 500);
        attached.store(true, Ordering::Relaxed);
        replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]).expect("REPLICAOF");
        let first = written.load(Ordering::Relaxed);
        wait_until("the replica is whole", || replica.info("master_link_status").as_deref() == Some("up"));
        written_meanwhile = written.load(Ordering::Relaxed) - first;
        synced = began.elapsed().as_millis();
        stop.store(true, Ordering::Relaxed);
        probe.join().expect("the probe ends").map(|waits| waits.value_at_quantile(0.99))
    });
    assert!(written_meanwhile > 0, "nothing was written during the dump");
    println!("{what}: a client waits for {alone} us at p99 before the dump, {meanwhile} us during it");
    assert!(meanwhile < 4 * alone + 50_000, "p99 of a client during the dump: {meanwhile} us, {alone} before");
    await_caught_up(&primary, &replica);
    // The digests of the comparison are taken all at once.
    let turns = nodes.map(longest_turn);
    assert_eq!(primary.digest(), replica.digest());
    assert_eq!(primary.number("sync_full"), 1);
    let grown = nodes.map(Kevy::peak_memory);
    println!(
        "{what}: synced in {synced} ms with {written_meanwhile} rounds of writes; longest turns {turns:?} us; \
         the primary's memory from {} to {} MiB, the replica's from {} to {}",
        before[0] >> 20,
        grown[0] >> 20,
        before[1] >> 20,
        grown[1] >> 20
    );
    // The window, and what the bound of a sync allows; on the replica what is there, and that again for growing.
    let grown = [0, 1].map(|n| grown[n].saturating_sub(before[n]));
    assert!(grown[0] < 80 << 20, "the primary grew by {} MiB", grown[0] >> 20);
    assert!(grown[1] < 2 * bytes + (80 << 20), "the replica grew by {} MiB", grown[1] >> 20);

    nodes.iter().for_each(|node| reset(node));
    primary.ask::<()>(&["FLUSHALL"]).expect("FLUSHALL");
    let empty = 8 << 20;
    wait_until("all is freed", || nodes.iter().all(|node| node.number("used_memory") < empty));
    println!("{what}, freed: longest turns {:?} us", nodes.map(longest_turn));
}

/// How long clients waited, in microseconds.
fn waits() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 2).expect("bounds")
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn reset(node: &Kevy) {
    node.ask::<()>(&["CONFIG", "RESETSTAT"]).expect("CONFIG RESETSTAT");
    assert!(longest_turn(node) < 60_000_000, "microseconds");
}

fn longest_turn(node: &Kevy) -> u64 {
    // Of work: other tests run at the same time.
    let turn = node.number("longest_turn_cpu_usec");
    if let Ok(most) = std::env::var("KEVY_TURN_USEC_MAX") {
        assert!(turn < most.parse().expect("a number"), "a turn took {turn} us");
    }
    turn
}
