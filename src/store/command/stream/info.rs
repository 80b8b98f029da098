//! `XINFO`: what a stream, its groups and their consumers are like.

use super::super::aggregate::read as read_value;
use super::super::refusal::{NO_SUCH_KEY, Refusal};
use super::super::string::integer;
use super::super::{Context, NOTHING, Outcome};
use super::group::no_group_of;
use super::{bulk_id, show};
use crate::id::UnixMs;
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::value::Stream;
use crate::store::value::stream::{Entry, Group, StreamId};
use crate::wire::Argv;

/// Entries and pending entries that `XINFO STREAM FULL` shows, unless it is told how many.
const SHOWN_MAX: usize = 10;

pub(in super::super) fn xinfo(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let sub = argv.arg(1).to_ascii_lowercase();
    if sub == b"help" {
        reply.lines(&XINFO_HELP);
        return NOTHING;
    }
    let key = argv.arg(2);
    let stream = read_value::<Stream>(context, at[0], key)?.ok_or(NO_SUCH_KEY)?;
    match sub.as_slice() {
        b"stream" if argv.len() == 3 => about_stream(stream, reply),
        b"stream" => about_all(stream, shown(argv)?, reply),
        b"groups" => about_groups(stream, reply),
        _ => {
            let group = stream.group(argv.arg(3)).ok_or_else(|| no_group_of(key, argv.arg(3)))?;
            about_consumers(group, context.now, reply);
        }
    }
    NOTHING
}

/// How many entries `FULL` shows.
fn shown(argv: Argv<'_>) -> Result<usize, Refusal> {
    let is_count = |at: usize| argv.arg(at).eq_ignore_ascii_case(b"COUNT");
    let count = match argv.len() {
        _ if !argv.arg(3).eq_ignore_ascii_case(b"FULL") => return Err(Refusal::misused("XINFO", argv.arg(1))),
        4 => return Ok(SHOWN_MAX),
        6 if is_count(4) => integer(argv.arg(5))?,
        _ => return Err(Refusal::misused("XINFO", argv.arg(1))),
    };
    // As Redis has it: less than none is the usual, and none is all.
    Ok(match usize::try_from(count) {
        Ok(0) => usize::MAX,
        Ok(count) => count,
        Err(_) => SHOWN_MAX,
    })
}

fn name(text: &str, reply: &mut Reply<'_>) {
    reply.bulk(text.as_bytes());
}

fn number(text: &str, number: i64, reply: &mut Reply<'_>) {
    name(text, reply);
    reply.integer(number);
}

fn id(text: &str, id: StreamId, reply: &mut Reply<'_>) {
    name(text, reply);
    bulk_id(id, reply);
}

fn optional(text: &str, number: Option<i64>, reply: &mut Reply<'_>) {
    name(text, reply);
    match number {
        Some(number) => reply.integer(number),
        None => reply.null(),
    }
}

fn about_entries(stream: &Stream, reply: &mut Reply<'_>) {
    let counters = stream.counters();
    number("length", stream.len() as i64, reply);
    // What there is instead of a radix tree.
    number("radix-tree-keys", stream.nodes() as i64, reply);
    number("radix-tree-nodes", stream.nodes() as i64 + 1, reply);
    id("last-generated-id", counters.last_id, reply);
    id("max-deleted-entry-id", counters.max_deleted_id, reply);
    number("entries-added", counters.entries_added as i64, reply);
    id("recorded-first-entry-id", stream.first().map_or(StreamId::MIN, Entry::id), reply);
}

fn about_stream(stream: &Stream, reply: &mut Reply<'_>) {
    reply.map(10);
    about_entries(stream, reply);
    number("groups", stream.groups().len() as i64, reply);
    for (text, entry) in [("first-entry", stream.first()), ("last-entry", stream.last())] {
        name(text, reply);
        match entry {
            Some(entry) => show(entry, reply),
            None => reply.null(),
        }
    }
}

fn about_all(stream: &Stream, most: usize, reply: &mut Reply<'_>) {
    reply.map(9);
    about_entries(stream, reply);
    name("entries", reply);
    let entries: Vec<_> = stream.range(StreamId::MIN, StreamId::MAX).take(most).collect();
    super::show_all(&entries, reply);
    name("groups", reply);
    reply.array(stream.groups().len());
    for (group_name, group) in stream.groups() {
        reply.map(7);
        name("name", reply);
        reply.bulk(group_name);
        id("last-delivered-id", group.last_id(), reply);
        optional("entries-read", group.entries_read().map(|read| read as i64), reply);
        optional("lag", stream.lag(group), reply);
        number("pel-count", group.len() as i64, reply);
        name("pending", reply);
        reply.array(group.len().min(most));
        for (id, pending) in group.pending(..).take(most) {
            reply.array(4);
            bulk_id(id, reply);
            reply.bulk(pending.consumer());
            reply.integer(pending.delivered.get() as i64);
            reply.integer(pending.count as i64);
        }
        name("consumers", reply);
        reply.array(group.consumers().len());
        for (consumer_name, consumer) in group.consumers() {
            reply.map(5);
            name("name", reply);
            reply.bulk(consumer_name);
            number("seen-time", consumer.seen.get() as i64, reply);
            number("active-time", consumer.active.map_or(-1, |active| active.get() as i64), reply);
            number("pel-count", consumer.len() as i64, reply);
            name("pending", reply);
            reply.array(consumer.len().min(most));
            let pending = consumer.pending(..).filter_map(|id| Some((id, group.get(id)?)));
            for (id, pending) in pending.take(most) {
                reply.array(3);
                bulk_id(id, reply);
                reply.integer(pending.delivered.get() as i64);
                reply.integer(pending.count as i64);
            }
        }
    }
}

fn about_groups(stream: &Stream, reply: &mut Reply<'_>) {
    reply.array(stream.groups().len());
    for (group_name, group) in stream.groups() {
        reply.map(6);
        name("name", reply);
        reply.bulk(group_name);
        number("consumers", group.consumers().len() as i64, reply);
        number("pending", group.len() as i64, reply);
        id("last-delivered-id", group.last_id(), reply);
        optional("entries-read", group.entries_read().map(|read| read as i64), reply);
        optional("lag", stream.lag(group), reply);
    }
}

fn about_consumers(group: &Group, now: UnixMs, reply: &mut Reply<'_>) {
    let since = |time: UnixMs| now.get().saturating_sub(time.get()) as i64;
    reply.array(group.consumers().len());
    for (consumer_name, consumer) in group.consumers() {
        reply.map(4);
        name("name", reply);
        reply.bulk(consumer_name);
        number("pending", consumer.len() as i64, reply);
        number("idle", since(consumer.seen), reply);
        number("inactive", consumer.active.map_or(-1, since), reply);
    }
}

const XINFO_HELP: [&str; 9] = [
    "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CONSUMERS <key> <groupname>",
    "    Show consumers of <groupname>.",
    "GROUPS <key>",
    "    Show the stream consumer groups.",
    "STREAM <key> [FULL [COUNT <count>]",
    "    Show information about the stream.",
    "HELP",
    "    Print this help.",
];
