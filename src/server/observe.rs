//! What a node tells about itself beyond `INFO`: `SLOWLOG`, `LATENCY`, `MEMORY`, `DEBUG OBJECT`. Every shard is asked for its part.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::node::Node;
use super::survey;
use crate::resp::{Protocol, Reply};
use crate::runtime::local::{Local, unix_now};
use crate::shard::meter::{Latency, Slow, Stats};
use crate::snapshot::Keyspace;
use crate::store::command::refusal::{NOT_AN_INTEGER, SYNTAX};
use crate::store::command::{Refusal, has_expired, number, object, table};
use crate::wire::Argv;

/// Executes `SLOWLOG`.
pub(super) async fn slowlog(local: &Rc<Local>, argv: Argv<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let sub = argv.arg(1).to_ascii_lowercase();
    match (sub.as_slice(), argv.len()) {
        (b"get", 2 | 3) => {
            let count = match argv.get(2).map(number::integer) {
                None => 10,
                Some(Some(-1)) => usize::MAX,
                Some(Some(count @ 0..)) => count as usize,
                Some(_) => {
                    return Reply::new(out, protocol).error("ERR count should be greater than or equal to -1");
                }
            };
            let all = local.call_all(|local| local.core().meter.slow().clone()).await;
            let shards = all.len() as u64;
            let numbered = all.into_iter().zip(0..).flat_map(|(slow, shard)| {
                // One series of numbers a shard, none of which is another's.
                slow.into_iter().map(move |slow| (slow.number * shards + shard, slow))
            });
            let mut slow: Vec<(u64, Slow)> = numbered.collect();
            slow.sort_by_key(|(id, slow)| std::cmp::Reverse((slow.at, *id)));
            slow.truncate(count);
            let mut reply = Reply::new(out, protocol);
            reply.array(slow.len());
            for (id, slow) in slow {
                let (address, name) = slow.client.unwrap_or_default();
                reply.array(6);
                reply.integer(id as i64);
                reply.integer((slow.at.get() / 1_000) as i64);
                reply.integer(slow.micros as i64);
                reply.array(slow.args.len());
                slow.args.iter().for_each(|arg| reply.bulk(arg));
                reply.bulk(address.as_bytes());
                reply.bulk(&name);
            }
        }
        (b"len", 2) => {
            let len: usize = local.call_all(|local| local.core().meter.slow().len()).await.into_iter().sum();
            Reply::new(out, protocol).count(len);
        }
        (b"reset", 2) => {
            local.call_all(|local| local.core().meter.reset_slow()).await;
            Reply::new(out, protocol).ok();
        }
        (b"help", 2) => {
            let lines = ["SLOWLOG <subcommand>. Subcommands are:", "GET [<count>]", "LEN", "RESET"];
            Reply::new(out, protocol).lines(&lines);
        }
        _ => Reply::new(out, protocol).error(Refusal::misused("slowlog", argv.arg(1))),
    }
}

/// Executes `LATENCY`.
pub(super) async fn latency(local: &Rc<Local>, argv: Argv<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let sub = argv.arg(1).to_ascii_lowercase();
    match (sub.as_slice(), argv.len()) {
        (b"latest", 2) => {
            let latencies = latencies(local).await;
            let mut reply = Reply::new(out, protocol);
            reply.array(latencies.len());
            for (kind, latency) in latencies {
                let (second, ms) = latency.samples.back().copied().unwrap_or_default();
                reply.array(4);
                reply.bulk(kind.as_bytes());
                reply.integer(second as i64);
                reply.integer(ms as i64);
                reply.integer(latency.max_ms as i64);
            }
        }
        (b"history", 3) => {
            let latencies = latencies(local).await;
            let samples = std::str::from_utf8(argv.arg(2)).ok().and_then(|kind| latencies.get(kind));
            let mut reply = Reply::new(out, protocol);
            reply.array(samples.map_or(0, |latency| latency.samples.len()));
            for (second, ms) in samples.iter().flat_map(|latency| &latency.samples) {
                reply.array(2);
                reply.integer(*second as i64);
                reply.integer(*ms as i64);
            }
        }
        (b"reset", _) => {
            let kinds: Vec<Vec<u8>> = argv.skip(2).iter().map(<[u8]>::to_vec).collect();
            let reset = move |local: &Rc<Local>| {
                local.core().meter.reset_latencies((!kinds.is_empty()).then_some(kinds.as_slice()))
            };
            let kinds = local.call_all(reset).await.into_iter().max().unwrap_or(0);
            Reply::new(out, protocol).count(kinds);
        }
        (b"doctor", 2) => {
            let text = diagnosis(&latencies(local).await, Node::here().settings.borrow().latency_monitor_threshold);
            Reply::new(out, protocol).verbatim("txt", text.as_bytes());
        }
        (b"graph", 3) => {
            let latencies = latencies(local).await;
            let latency = std::str::from_utf8(argv.arg(2)).ok().and_then(|kind| latencies.get(kind));
            let mut reply = Reply::new(out, protocol);
            match latency {
                Some(latency) => reply.verbatim("txt", graph(latency).as_bytes()),
                None => {
                    let kind = String::from_utf8_lossy(argv.arg(2)).into_owned();
                    reply.error(format_args!("ERR No samples available for event '{kind}'"));
                }
            }
        }
        (b"histogram", _) => {
            let named = argv.skip(2).iter().filter_map(table::find_named);
            let names: Vec<&str> =
                named.flat_map(|spec| spec.subcommands().iter().chain([spec])).map(|spec| spec.name).collect();
            let mut stats = stats(local).await;
            stats.retain(|name, stats| stats.calls > 0 && (argv.len() == 2 || names.contains(name)));
            let mut reply = Reply::new(out, protocol);
            reply.map(stats.len());
            for (name, stats) in stats {
                reply.bulk(name.as_bytes());
                histogram(&stats, &mut reply);
            }
        }
        (b"help", 2) => Reply::new(out, protocol).lines(&[
            "LATENCY <subcommand>. Subcommands are:",
            "DOCTOR",
            "GRAPH <event>",
            "HISTORY <event>",
            "LATEST",
            "RESET [<event> ...]",
            "HISTOGRAM [<command> ...]",
        ]),
        _ => Reply::new(out, protocol).error(Refusal::misused("latency", argv.arg(1))),
    }
}

/// What took long, on all shards.
async fn latencies(local: &Rc<Local>) -> BTreeMap<&'static str, Latency> {
    let mut all: BTreeMap<&'static str, Latency> = BTreeMap::new();
    for part in local.call_all(|local| local.core().meter.latencies().clone()).await {
        for (kind, latency) in part {
            all.entry(kind).or_default().merge(&latency);
        }
    }
    all
}

/// What every command cost, on all shards, by name.
pub(super) async fn stats(local: &Rc<Local>) -> BTreeMap<&'static str, Stats> {
    let part = |local: &Rc<Local>| -> Vec<(&'static str, Stats)> {
        local.core().meter.stats().map(|(spec, stats)| (spec.name, *stats)).collect()
    };
    let mut all: BTreeMap<&'static str, Stats> = BTreeMap::new();
    for (name, stats) in local.call_all(part).await.into_iter().flatten() {
        all.entry(name).or_default().add(&stats);
    }
    all
}

/// How often each error was answered, on all shards.
pub(super) async fn errors(local: &Rc<Local>) -> BTreeMap<Box<str>, u64> {
    let mut all: BTreeMap<Box<str>, u64> = BTreeMap::new();
    for (code, count) in local.call_all(|local| local.core().meter.errors().clone()).await.into_iter().flatten() {
        *all.entry(code).or_default() += count;
    }
    all
}

fn histogram(stats: &Stats, reply: &mut Reply<'_>) {
    let filled = || stats.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
    reply.map(2);
    reply.bulk(b"calls");
    reply.integer(stats.calls as i64);
    reply.bulk(b"histogram_usec");
    reply.map(filled().count());
    let mut below = 0;
    for (bucket, count) in filled() {
        below += i64::from(*count);
        reply.integer(1 << bucket);
        reply.integer(below);
    }
}

fn diagnosis(latencies: &BTreeMap<&'static str, Latency>, threshold_ms: u64) -> String {
    if threshold_ms == 0 {
        return "Latencies are not noted: CONFIG SET latency-monitor-threshold <milliseconds> switches that on.\n"
            .into();
    }
    if latencies.is_empty() {
        return format!("Nothing took {threshold_ms} ms or longer since the start or the last LATENCY RESET.\n");
    }
    let mut text = String::new();
    for (kind, latency) in latencies {
        let count = latency.samples.len() as u64;
        let mean = latency.samples.iter().map(|(_, ms)| ms).sum::<u64>() / count.max(1);
        text += &format!(
            "{kind}: in {count} seconds something took {mean} ms on average, at most {} ms.\n",
            latency.max_ms
        );
    }
    text + "SLOWLOG GET shows which commands; INFO server shows the longest turn of each shard.\n"
}

/// One column a second, the latest last.
fn graph(latency: &Latency) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = latency.samples.iter().map(|(_, ms)| *ms).max().unwrap_or(0).max(1);
    let column = |(_, ms): &(u64, u64)| LEVELS[(ms * 7 / most) as usize];
    let columns: String = latency.samples.iter().map(column).collect();
    format!("high {most} ms (all time high {} ms)\n{columns}\n", latency.max_ms)
}

/// Executes `MEMORY`.
pub(super) async fn memory(local: &Rc<Local>, node: &Rc<Node>, argv: Argv<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let sub = argv.arg(1).to_ascii_lowercase();
    match (sub.as_slice(), argv.len()) {
        (b"usage", 3..) => {
            // Nothing is sampled: what a value takes is known.
            let samples = match argv.get(4).map(number::integer) {
                Some(None) if argv.arg(3).eq_ignore_ascii_case(b"samples") => Err(NOT_AN_INTEGER),
                Some(Some(0..)) if argv.len() == 5 && argv.arg(3).eq_ignore_ascii_case(b"samples") => Ok(()),
                None if argv.len() == 3 => Ok(()),
                _ => Err(SYNTAX),
            };
            if let Err(refusal) = samples {
                return Reply::new(out, protocol).error(refusal);
            }
            let described = describe(local, argv.arg(2)).await;
            let mut reply = Reply::new(out, protocol);
            match described {
                Some(described) => reply.count(described.bytes),
                None => reply.null(),
            }
        }
        (b"stats", 2) => {
            let facts = survey::snapshot(local, node).await.memory_stats();
            let mut reply = Reply::new(out, protocol);
            reply.map(facts.len());
            for (name, value) in facts {
                reply.bulk(name.as_bytes());
                reply.integer(value as i64);
            }
        }
        (b"doctor", 2) => {
            let snapshot = survey::snapshot(local, node).await;
            let text = format!(
                "{} bytes of data in {} bytes of resident memory. The backlogs take up to repl-backlog-size of it.\n",
                snapshot.used_memory(),
                snapshot.used_memory_rss
            );
            Reply::new(out, protocol).verbatim("txt", text.as_bytes());
        }
        // What is free is given back by the shards themselves, in slices.
        (b"purge", 2) => Reply::new(out, protocol).ok(),
        (b"malloc-stats", 2) => Reply::new(out, protocol)
            .verbatim("txt", b"The allocator, mimalloc, keeps no statistics in this build. See MEMORY STATS.\n"),
        (b"help", 2) => Reply::new(out, protocol).lines(&[
            "MEMORY <subcommand>. Subcommands are:",
            "DOCTOR",
            "MALLOC-STATS",
            "PURGE",
            "STATS",
            "USAGE <key> [SAMPLES <count>]",
        ]),
        _ => Reply::new(out, protocol).error(Refusal::misused("memory", argv.arg(1))),
    }
}

/// `DEBUG OBJECT key`.
pub(super) async fn object(local: &Rc<Local>, key: &[u8], protocol: Protocol, out: &mut Vec<u8>) {
    let described = describe(local, key).await;
    let mut reply = Reply::new(out, protocol);
    match described {
        Some(Described { encoding, record_bytes, .. }) => reply.simple(&format!(
            "Value at:0x0 refcount:1 encoding:{encoding} serializedlength:{record_bytes} lru:0 lru_seconds_idle:0"
        )),
        None => reply.error("ERR no such key"),
    }
}

/// What is told of one key.
struct Described {
    encoding: &'static str,
    record_bytes: usize,
    bytes: usize,
}

async fn describe(local: &Rc<Local>, key: &[u8]) -> Option<Described> {
    let owner = local.count().owner(local.core().store.locate(key).slot);
    let key = key.to_vec();
    let look = move |local: &Rc<Local>| {
        let core = local.core();
        let at = core.store.locate(&key);
        if !core.serves(at.slot) {
            return None;
        }
        let entry = core.store.get(at, &key).filter(|entry| !has_expired(entry, unix_now()))?;
        let (encoding, record_bytes) = (object::encoding(&entry), entry.record_bytes());
        Some(Described { encoding, record_bytes, bytes: record_bytes + key.len() + ENTRY_BYTES })
    };
    local.call(owner, look).await
}

/// What an entry costs beside its key and its value, about: its head, and its place in the table.
const ENTRY_BYTES: usize = 40;
