//! `XREAD` and `XREADGROUP`: what came into some streams behind some ids.

use super::super::aggregate::{Missing, read as read_value, write};
use super::super::refusal::{Refusal, SYNTAX};
use super::super::string::integer;
use super::super::{Context, NOTHING, Outcome, has_expired};
use super::group::{Change, no_group};
use super::{bulk_id, show, show_all, strict_id};
use crate::id::UnixMs;
use crate::resp::{Protocol, Reply};
use crate::snapshot::Located;
use crate::store::value::stream::{Entry, Stream, StreamId};
use crate::store::{KeyspaceStore, Value, ValueRef};
use crate::wire::Argv;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Entries of a stream at most.
    pub count: usize,
    /// Milliseconds to wait where there is nothing; 0: as long as it takes.
    pub block: Option<u64>,
    /// Group and consumer.
    pub group: Option<(&'a [u8], &'a [u8])>,
    /// Whether what is delivered counts as acknowledged.
    pub no_ack: bool,
    /// As many keys as ids, one behind the other.
    streams: Argv<'a>,
}

/// Behind which id entries are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// This one.
    Id(StreamId),
    /// The last one that there is.
    Top,
    /// The last one that was delivered to the group.
    Delivered,
}

impl<'a> Query<'a> {
    /// Reads a whole command.
    ///
    /// # Errors
    /// As Redis has them.
    pub fn parse(argv: Argv<'a>) -> Result<Query<'a>, Refusal> {
        let of_group = argv.arg(0).len() == b"XREADGROUP".len();
        let mut query =
            Query { count: usize::MAX, block: None, group: None, no_ack: false, streams: argv.skip(argv.len()) };
        let mut index = 1;
        while let Some(option) = argv.get(index) {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            let more = argv.len() - index - 1;
            if is(b"BLOCK") && more > 0 {
                query.block = Some(timeout(argv.arg(index + 1))?);
                index += 1;
            } else if is(b"COUNT") && more > 0 {
                let count = usize::try_from(integer(argv.arg(index + 1))?).unwrap_or(0);
                query.count = if count == 0 { usize::MAX } else { count };
                index += 1;
            } else if is(b"STREAMS") && more > 0 {
                query.streams = argv.skip(index + 1);
                break;
            } else if is(b"GROUP") && more >= 2 {
                if !of_group {
                    return Err(Refusal::Text(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                query.group = Some((argv.arg(index + 1), argv.arg(index + 2)));
                index += 2;
            } else if is(b"NOACK") {
                if !of_group {
                    return Err(Refusal::Text(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                query.no_ack = true;
            } else {
                return Err(SYNTAX);
            }
            index += 1;
        }
        if !query.streams.len().is_multiple_of(2) {
            let (name, symbol) = if of_group { ("xreadgroup", '>') } else { ("xread", '$') };
            return Err(Refusal::Message(format!(
                "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{symbol}' must be specified."
            )));
        }
        if query.streams.is_empty() {
            return Err(SYNTAX);
        }
        if of_group && query.group.is_none() {
            return Err(Refusal::Text("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(query)
    }

    /// The keys, each with what is asked for.
    pub fn streams(self) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone {
        let keys = self.streams.len() / 2;
        self.streams.iter().take(keys).zip(self.streams.skip(keys).iter())
    }

    /// Reads an id.
    ///
    /// # Errors
    /// If it is none, or none that the command may have.
    pub fn behind(self, id: &[u8]) -> Result<Behind, Refusal> {
        match (id, self.group) {
            (b"$", None) => Ok(Behind::Top),
            (b"$", Some(_)) => Err(Refusal::Text(
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                 consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an \
                 empty result set.",
            )),
            (b">", Some(_)) => Ok(Behind::Delivered),
            (b">", None) => Err(Refusal::Text(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            )),
            (id, _) => strict_id(id, 0).map(Behind::Id),
        }
    }
}

/// The last id of the stream at `key`, for whoever waits for what comes behind it; where there is none: of what is not there yet.
pub fn top(store: &KeyspaceStore, at: Located, key: &[u8], now: UnixMs) -> StreamId {
    match store.get(at, key).filter(|entry| !has_expired(entry, now)).map(|entry| entry.value()) {
        Some(ValueRef::Boxed(Value::Stream(stream))) => stream.counters().last_id,
        _ => StreamId::MIN,
    }
}

fn timeout(text: &[u8]) -> Result<u64, Refusal> {
    let ms = integer(text).map_err(|_| Refusal::Text("ERR timeout is not an integer or out of range"))?;
    u64::try_from(ms).map_err(|_| Refusal::Text("ERR timeout is negative"))
}

/// The refusal of a read on behalf of a group that is not there.
pub fn no_such_group(key: &[u8], group: &[u8]) -> Refusal {
    let Refusal::Message(text) = no_group(key, group) else { unreachable!("it names key and group") };
    Refusal::Message(text + " in XREADGROUP with GROUP option")
}

/// The arguments that are keys: the first half of what stands behind `STREAMS`.
pub(in super::super) fn keys(argv: Argv<'_>) -> Option<std::ops::Range<usize>> {
    let mut index = 1;
    loop {
        let option = argv.get(index)?;
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        index += match () {
            () if is(b"STREAMS") => break,
            () if is(b"BLOCK") || is(b"COUNT") => 2,
            () if is(b"GROUP") => 3,
            () if is(b"NOACK") => 1,
            () => return None,
        };
    }
    let rest = argv.len() - index - 1;
    rest.is_multiple_of(2).then_some(index + 1..index + 1 + rest / 2)
}

/// The head of a reply on some streams.
pub fn put_head(streams: usize, reply: &mut Reply<'_>) {
    match reply.protocol() {
        Protocol::Resp2 => reply.array(streams),
        Protocol::Resp3 => reply.map(streams),
    }
}

/// The head of one stream of a reply; its entries follow.
fn put_key(key: &[u8], reply: &mut Reply<'_>) {
    if reply.protocol() == Protocol::Resp2 {
        reply.array(2);
    }
    reply.bulk(key);
}

pub(in super::super) fn xread(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let query = Query::parse(argv)?;
    let mut found: Vec<(&[u8], Vec<Entry<'_>>)> = Vec::new();
    for (&at, (key, id)) in at.iter().zip(query.streams()) {
        let stream = read_value::<Stream>(context, at, key)?;
        let behind = match (query.behind(id)?, stream) {
            (Behind::Id(id), Some(stream)) => id.next().map(|first| (stream, first)),
            // There is nothing behind the top, and nothing in what is missing.
            (Behind::Id(_) | Behind::Top | Behind::Delivered, _) => None,
        };
        if let Some((stream, first)) = behind {
            let entries: Vec<_> = stream.range(first, StreamId::MAX).take(query.count).collect();
            if !entries.is_empty() {
                found.push((key, entries));
            }
        }
    }
    if found.is_empty() {
        reply.null_array();
        return NOTHING;
    }
    put_head(found.len(), reply);
    for (key, entries) in found {
        put_key(key, reply);
        show_all(&entries, reply);
    }
    NOTHING
}

/// Ids that are counted without a look at how many there really are.
const COUNTED_MAX: usize = 100_000;

pub(in super::super) fn xreadgroup(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let query = Query::parse(argv)?;
    let Some((group, consumer)) = query.group else { return Err(SYNTAX) };
    let mut behind = Vec::with_capacity(at.len());
    for (&at, (key, id)) in at.iter().zip(query.streams()) {
        let stream = read_value::<Stream>(context, at, key)?;
        let Some((stream, group)) = stream.and_then(|stream| Some((stream, stream.group(group)?))) else {
            return Err(no_such_group(key, group));
        };
        behind.push(query.behind(id)?);
        // What is said of an id is no more than a frame of its own.
        let most = query.count.min(stream.len().max(group.len()));
        let most = match group.last_id().next() {
            Some(first) if most > COUNTED_MAX && behind.last() == Some(&Behind::Delivered) => {
                stream.range(first, StreamId::MAX).take(most).count()
            }
            _ => most,
        };
        let longest = StreamId::MAX.to_string().len();
        context.room.take_times(most + 2, [16, key.len(), group_len(query), consumer.len(), longest, longest])?;
    }
    let (mut served, mut body, mut effects) = (0, Vec::new(), Vec::new());
    for ((&at, (key, _)), behind) in at.iter().zip(query.streams()).zip(behind) {
        let Some(stream) = read_value::<Stream>(context, at, key)? else { continue };
        let part = &mut Reply::new(&mut body, reply.protocol());
        let Some(delivery) = Delivery::plan(stream, query, key, behind, context.now, part) else { continue };
        served += usize::from(delivery.is_answer);
        effects.extend(delivery.changes.iter().map(|change| change.command(key, group)));
        let now = context.now;
        write::<Stream, _>(context.store, at.into(), key, Missing::Leave, |stream| {
            delivery.changes.iter().for_each(|change| _ = change.apply(stream, group));
            // When somebody was seen is not recorded: a look that finds nothing would be, too.
            stream.change_group(group, |group| {
                group.see(consumer, now);
                if delivery.is_active {
                    group.note_active(consumer, now);
                }
            });
        })?;
    }
    match served {
        0 => reply.null_array(),
        served => {
            put_head(served, reply);
            reply.raw(&body);
        }
    }
    Ok(super::super::group(effects))
}

fn group_len(query: Query<'_>) -> usize {
    query.group.map_or(0, |(group, _)| group.len())
}

/// What becomes of one stream that is read on behalf of a group.
struct Delivery<'a> {
    changes: Vec<Change<'a>>,
    /// Whether the stream is in the reply.
    is_answer: bool,
    /// Whether the consumer got something.
    is_active: bool,
}

impl<'a> Delivery<'a> {
    /// Says what is delivered, and appends it to the reply. `None`: the group is gone.
    fn plan(
        stream: &Stream,
        query: Query<'a>,
        key: &[u8],
        behind: Behind,
        now: UnixMs,
        reply: &mut Reply<'_>,
    ) -> Option<Delivery<'a>> {
        let (name, consumer) = query.group?;
        let group = stream.group(name)?;
        let mut changes = Vec::new();
        if group.consumer(consumer).is_none() {
            changes.push(Change::Consumer { consumer, seen: now });
        }
        if let Behind::Id(id) = behind {
            let first = id.next();
            let ids = first.and_then(|first| Some(group.consumer(consumer)?.pending(first..))).into_iter().flatten();
            let ids: Vec<StreamId> = ids.take(query.count).collect();
            put_key(key, reply);
            reply.array(ids.len());
            let mut again = Vec::new();
            for id in ids {
                match stream.get(id) {
                    Some(entry) => {
                        show(entry, reply);
                        again.extend(group.get(id).map(|pending| (id, pending.count.saturating_add(1))));
                    }
                    None => {
                        reply.array(2);
                        bulk_id(id, reply);
                        reply.null_array();
                    }
                }
            }
            changes.extend(Change::pending(consumer, now, &again));
            return Some(Delivery { changes, is_answer: true, is_active: !again.is_empty() });
        }
        let first = group.last_id().next();
        let entries = first.into_iter().flat_map(|first| stream.range(first, StreamId::MAX));
        let entries: Vec<Entry<'_>> = entries.take(query.count).collect();
        let Some(last) = entries.last() else { return Some(Delivery { changes, is_answer: false, is_active: false }) };
        put_key(key, reply);
        show_all(&entries, reply);
        let mut entries_read = group.entries_read();
        for entry in &entries {
            entries_read = match entries_read {
                Some(read) if !stream.has_deleted_behind(entry.id()) => Some(read.saturating_add(1)),
                read if stream.counters().entries_added == 0 => read,
                _ => stream.number_of(entry.id()),
            };
        }
        changes.push(Change::Group { last_id: last.id(), entries_read });
        if !query.no_ack {
            let ids: Vec<(StreamId, u64)> = entries.iter().map(|entry| (entry.id(), 1)).collect();
            changes.extend(Change::pending(consumer, now, &ids));
        }
        Some(Delivery { changes, is_answer: true, is_active: true })
    }
}
