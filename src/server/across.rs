//! Commands on keys of several shards: taken apart, executed where the keys live, put together.
//!
//! There is no isolation between shards here: a reader may see one part before the other. `docs/commands.md` says what may be
//! seen.

use std::rc::Rc;

use super::session::ClientSession;
use super::together;
use crate::id::ShardId;
use crate::resp::{Protocol, Reply, arguments_of};
use crate::runtime::local::{Answer, Local, Request, unix_now};
use crate::shard::following::Refused;
use crate::snapshot::{Keyspace, Located};
use crate::store::command::walk::{scan_count, scan_cursor};
use crate::store::command::{Flags, Spec};
use crate::store::{ScanCursor, command};
use crate::wire::{Argv, Command};

/// How the parts of a command become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Join {
    /// Counts are added.
    Sum,
    /// Each part is a status; the first one is the answer.
    Status,
    /// One element a key, in the order of the keys.
    Elements,
    /// Arrays, one after the other.
    Concatenate,
}

/// Whether a command reads keys that may be anywhere: all of them, or some that it does not name. On a node of one shard that is that
/// shard.
pub(super) fn reaches(local: &Local, spec: &Spec, argv: Argv<'_>) -> bool {
    local.count().get() > 1
        && (spec.flags.has(Flags::ALL_KEYS) || spec.flags.has(Flags::REACHES) && command::reaches(argv))
}

/// Executes a command of the store that is not of one shard alone.
pub(super) async fn execute(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) {
    match spec.name {
        "scan" => scan(local, spec, argv, client, out).await,
        "randomkey" => random_key(local, spec, argv, client, out).await,
        "dbsize" => everywhere(local, spec, argv, client, Join::Sum, out).await,
        "keys" => everywhere(local, spec, argv, client, Join::Concatenate, out).await,
        "flushall" | "flushdb" => everywhere(local, spec, argv, client, Join::Status, out).await,
        "del" | "unlink" | "exists" | "touch" => by_key(local, spec, argv, client, Join::Sum, out).await,
        "mset" => by_key(local, spec, argv, client, Join::Status, out).await,
        "mget" => by_key(local, spec, argv, client, Join::Elements, out).await,
        "sort" | "sort_ro" if reaches(local, spec, argv) => Reply::new(out, client.protocol).error(PATTERNS),
        _ => together::execute(local, spec, argv, client, out).await,
    }
}

const PATTERNS: &str =
    "ERR BY and GET patterns of SORT are not possible on a node of several shards: the keys may be anywhere";

/// The same command on every shard.
async fn everywhere(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    join: Join,
    out: &mut Vec<u8>,
) {
    let parts = local.count().shards().map(|owner| Part::without_keys(owner, argv));
    let replies = run(local, spec, client, parts.collect()).await;
    put_together(join, &replies, 0, client.protocol, out);
}

/// The command once for each shard that has some of its keys.
pub(super) async fn by_key(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    join: Join,
    out: &mut Vec<u8>,
) {
    let step = usize::from(spec.keys.step);
    if !(argv.len() - 1).is_multiple_of(step) {
        Reply::new(out, client.protocol).error(command::Refusal::Arity(spec.name));
        return;
    }
    let keys: Vec<usize> = spec.keys(argv).collect();
    // By shard, in the order in which they are named first.
    let mut shares: Vec<(ShardId, Vec<(usize, Located)>)> = Vec::new();
    for (number, index) in keys.iter().enumerate() {
        let at = local.core().store.locate(argv.arg(*index));
        let owner = local.count().owner(at.slot);
        match shares.iter_mut().find(|(shard, _)| *shard == owner) {
            Some((_, share)) => share.push((number, at)),
            None => shares.push((owner, vec![(number, at)])),
        }
    }
    let parts = shares.into_iter().map(|(owner, share)| {
        let arguments = share.iter().flat_map(|(number, _)| (0..step).map(|i| argv.arg(keys[*number] + i)));
        let args: Vec<&[u8]> = std::iter::once(argv.arg(0)).chain(arguments).collect();
        let (keys, places) = share.iter().copied().unzip();
        Part { owner, argv: Command::new(&args), places, keys }
    });
    let replies = run(local, spec, client, parts.collect()).await;
    put_together(join, &replies, keys.len(), client.protocol, out);
}

/// A part of a command, for one shard.
pub(super) struct Part {
    pub owner: ShardId,
    /// What that shard executes.
    pub argv: Command,
    /// Where its keys live there.
    pub places: Vec<Located>,
    /// Which of the command's keys it has, by number.
    pub keys: Vec<usize>,
}

impl Part {
    /// The command as it is, for a shard that is not named by a key.
    fn without_keys(owner: ShardId, argv: Argv<'_>) -> Part {
        let argv = Command::of(argv);
        Part { owner, argv, places: Vec::new(), keys: Vec::new() }
    }
}

/// What a part was answered.
pub(super) struct Replied {
    keys: Vec<usize>,
    /// The reply, encoded.
    pub reply: Vec<u8>,
}

/// Executes all parts, those of other shards at the same time.
pub(super) async fn run(
    local: &Rc<Local>,
    spec: &'static Spec,
    client: &mut ClientSession,
    parts: Vec<Part>,
) -> Vec<Replied> {
    let mut answers = Vec::new();
    for part in parts {
        let mut batch = local.batch();
        batch.push(spec, client.protocol, arguments_of(&part.argv, &mut Vec::new()), &part.places);
        if part.owner == local.id() {
            batch.execute(&mut local.core(), unix_now());
            answers.push((part.owner, part.keys, Ok(batch)));
        } else {
            answers.push((part.owner, part.keys, Err(local.send(part.owner, Request::Commands(batch)).await)));
        }
    }
    local.stream_first().await;
    let mut replies = Vec::with_capacity(answers.len());
    for (owner, keys, answer) in answers {
        let batch = match answer {
            Ok(batch) => batch,
            Err(answer) => match answer.await {
                Answer::Commands(batch) => batch,
                Answer::Called(_) | Answer::Taken => unreachable!("commands are answered by commands"),
            },
        };
        if let Some(recorded) = batch.recorded() {
            client.written.note(owner, recorded);
        }
        replies.push(Replied { keys, reply: batch.reply(0).to_vec() });
        local.recycle(batch);
    }
    replies
}

fn put_together(join: Join, replies: &[Replied], keys: usize, protocol: Protocol, out: &mut Vec<u8>) {
    if let Some(error) = replies.iter().find(|r| r.reply.first() == Some(&b'-')) {
        out.extend_from_slice(&error.reply);
        return;
    }
    let mut reply = Reply::new(out, protocol);
    match join {
        Join::Sum => reply.integer(replies.iter().map(|r| integer(&r.reply)).sum()),
        Join::Status => reply.raw(replies.first().map_or(b"+OK\r\n", |r| &r.reply[..])),
        Join::Concatenate => {
            let parts: Vec<(usize, &[u8])> = replies.iter().map(|r| array(&r.reply)).collect();
            reply.array(parts.iter().map(|(count, _)| count).sum());
            for (_, elements) in parts {
                reply.raw(elements);
            }
        }
        Join::Elements => {
            let mut elements = vec![&b""[..]; keys];
            for replied in replies {
                let mut rest = array(&replied.reply).1;
                for key in &replied.keys {
                    let len = bulk_len(rest);
                    (elements[*key], rest) = rest.split_at(len);
                }
            }
            reply.array(keys);
            for element in elements {
                reply.raw(element);
            }
        }
    }
}

/// The number of `:n␍␊`.
pub(super) fn integer(reply: &[u8]) -> i64 {
    line(reply).and_then(|(text, _)| text.get(1..)?.parse().ok()).unwrap_or(0)
}

/// The length of an array, and its elements.
fn array(reply: &[u8]) -> (usize, &[u8]) {
    line(reply).and_then(|(text, rest)| Some((text.get(1..)?.parse().ok()?, rest))).unwrap_or((0, b""))
}

/// How many bytes the bulk string or null at the beginning takes.
fn bulk_len(reply: &[u8]) -> usize {
    let Some((text, rest)) = line(reply) else { return reply.len() };
    let head = reply.len() - rest.len();
    match text.strip_prefix('$').and_then(|len| len.parse::<usize>().ok()) {
        Some(len) => head + len + 2,
        None => head,
    }
}

fn line(reply: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr(b'\r', reply)?;
    Some((std::str::from_utf8(&reply[..end]).ok()?, reply.get(end + 2..)?))
}

/// Whether some slot of some shard may not be read: then nothing that is about all keys is answered.
async fn is_loading(local: &Rc<Local>) -> bool {
    if local.core().following().is_none() {
        return false;
    }
    let loading = |local: &Rc<Local>| local.core().following().is_some_and(|following| following.hides_keys());
    local.call_all(loading).await.contains(&true)
}

/// One shard after the other: the cursor says which slot is next, and with it which shard. A shard that is at its end before as many
/// keys were found as are wanted is followed by the next one, so that a small node is walked in one step.
async fn scan(local: &Rc<Local>, spec: &'static Spec, argv: Argv<'_>, client: &mut ClientSession, out: &mut Vec<u8>) {
    let (mut cursor, wanted) = match scan_cursor(argv).and_then(|cursor| Ok((cursor, scan_count(argv)?))) {
        Ok(asked) => asked,
        Err(refusal) => return Reply::new(out, client.protocol).error(refusal),
    };
    if cursor == ScanCursor::START && is_loading(local).await {
        return Reply::new(out, client.protocol).error(Refused::Loading);
    }
    let (mut keys, mut found) = (Vec::new(), 0);
    loop {
        let owner = local.count().owner(cursor.slot());
        let text = cursor.get().to_string();
        let args: Vec<&[u8]> =
            argv.iter().enumerate().map(|(at, arg)| if at == 1 { text.as_bytes() } else { arg }).collect();
        let part = Part { owner, argv: Command::new(&args), places: Vec::new(), keys: Vec::new() };
        let replies = run(local, spec, client, vec![part]).await;
        let Some(Replied { reply, .. }) = replies.first() else { return };
        let Some(step) = scanned(reply) else { return out.extend_from_slice(reply) };
        keys.extend_from_slice(step.keys);
        found += step.count;
        let next = ShardId::new(owner.get() + 1);
        let is_last = next.get() == local.count().get();
        cursor = match local.count().slots_of(if is_last { owner } else { next }).iter().next() {
            Some(first) if step.cursor == 0 && !is_last => ScanCursor::at_slot(first),
            _ => ScanCursor::from_u64(step.cursor).unwrap_or(ScanCursor::START),
        };
        if step.cursor > 0 || is_last || found >= wanted {
            break;
        }
    }
    let mut joined = Reply::new(out, client.protocol);
    joined.array(2);
    joined.bulk(itoa::Buffer::new().format(cursor.get()).as_bytes());
    joined.array(found);
    joined.raw(&keys);
}

/// What one shard answered to `SCAN`.
struct Scanned<'a> {
    cursor: u64,
    count: usize,
    /// The keys, encoded.
    keys: &'a [u8],
}

/// Reads `*2␍␊$n␍␊cursor␍␊*count␍␊keys`; `None`: it is an error.
fn scanned(reply: &[u8]) -> Option<Scanned<'_>> {
    let (_, rest) = line(reply.strip_prefix(b"*2\r\n$")?)?;
    let (cursor, rest) = line(rest)?;
    let (count, keys) = line(rest.strip_prefix(b"*")?)?;
    Some(Scanned { cursor: cursor.parse().ok()?, count: count.parse().ok()?, keys })
}

/// A key of a shard that is drawn by its number of keys.
async fn random_key(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) {
    if is_loading(local).await {
        return Reply::new(out, client.protocol).error(Refused::Loading);
    }
    let counts = local.call_all(|local| local.core().store.len()).await;
    let total: usize = counts.iter().sum();
    let mut drawn = ((u128::from(local.core().random()) * total as u128) >> 64) as usize;
    let mut owner = 0;
    while owner + 1 < counts.len() && drawn >= counts[owner] {
        drawn -= counts[owner];
        owner += 1;
    }
    let owner = ShardId::new(owner as u16);
    let part = Part::without_keys(owner, argv);
    for Replied { reply, .. } in run(local, spec, client, vec![part]).await {
        out.extend_from_slice(&reply);
    }
}
