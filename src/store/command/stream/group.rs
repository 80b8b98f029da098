//! Consumer groups: commands on them, and the effects that say what became of a group.
//!
//! ```text
//! XGROUPSET      key group last-id entries-read                       there is such a group; entries-read may be `-`
//! XGROUPDEL      key group                                            there is none
//! XCONSUMERSET   key group consumer seen                              it has such a consumer
//! XCONSUMERDEL   key group consumer                                   it has none, nor what was pending with it
//! XPENDINGSET    key group consumer delivered (id count)…             these are pending with that consumer and with no other
//! XACK           key group id…                                        these are pending no longer
//! ```
//!
//! Each says what is, so that it may also be applied to a copy that has only some of the group yet. All but the last are words of
//! the stream alone: clients' commands name the key elsewhere, and say more than one thing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::aggregate::{Missing, read as read_value, write};
use super::super::refusal::{Refusal, SYNTAX};
use super::super::string::integer;
use super::super::{Context, Misfit, NOTHING, Outcome, number};
use super::{any_id, bulk_id, effect_id, effect_number, first_of_range, last_of_range, show, strict_id, with_ids};
use crate::id::UnixMs;
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::value::Stream;
use crate::store::value::stream::{Group, StreamId};
use crate::store::{KeyspaceStore, Place, Value};
use crate::wire::{Argv, Command, Effects};

// ── changes and their effects ───────────────────────────────────────────────────────────────────────────────────────

/// What may become of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change<'a> {
    /// It is there, and has come so far.
    Group { last_id: StreamId, entries_read: Option<u64> },
    /// It is not there.
    NoGroup,
    /// It has this consumer, who was seen then.
    Consumer { consumer: &'a [u8], seen: UnixMs },
    /// It does not have this consumer.
    NoConsumer { consumer: &'a [u8] },
    /// These were delivered to this consumer, then, for so many times each.
    Pending { consumer: &'a [u8], delivered: UnixMs, ids: Cow<'a, [(StreamId, u64)]> },
    /// These are not pending.
    Acked { ids: Cow<'a, [StreamId]> },
}

/// Ids that one effect names.
const EFFECT_IDS: usize = 1_000;

impl<'a> Change<'a> {
    /// What is pending with a consumer now, in effects of bounded size.
    pub(super) fn pending(
        consumer: &'a [u8],
        delivered: UnixMs,
        ids: &[(StreamId, u64)],
    ) -> impl Iterator<Item = Change<'a>> {
        let pieces = ids.chunks(EFFECT_IDS);
        pieces.map(move |ids| Change::Pending { consumer, delivered, ids: ids.to_vec().into() })
    }

    /// Makes the change. What a group no longer has and is much to free is returned.
    pub(super) fn apply(&self, stream: &mut Stream, group: &[u8]) -> Option<Stream> {
        match self {
            Change::Group { last_id, entries_read } => {
                stream.make_group(group);
                stream.change_group(group, |group| group.set(*last_id, *entries_read));
            }
            Change::NoGroup => return stream.drop_group(group).flatten(),
            Change::Consumer { consumer, seen } => _ = stream.change_group(group, |group| group.see(consumer, *seen)),
            Change::NoConsumer { consumer } => _ = stream.change_group(group, |group| group.drop_consumer(consumer)),
            Change::Pending { consumer, delivered, ids } => {
                stream.change_group(group, |group| {
                    ids.iter().for_each(|(id, count)| group.pend(*id, consumer, *delivered, *count));
                });
            }
            Change::Acked { ids } => {
                stream.change_group(group, |group| ids.iter().for_each(|id| _ = group.ack(*id)));
            }
        }
        None
    }

    /// Its effect.
    pub(super) fn command(&self, key: &[u8], group: &[u8]) -> Command {
        let ms = |time: &UnixMs| time.get().to_string();
        match self {
            Change::Group { last_id, entries_read } => {
                let read = entries_read.map_or("-".to_owned(), |read| read.to_string());
                Command::new(&[b"XGROUPSET", key, group, last_id.to_string().as_bytes(), read.as_bytes()])
            }
            Change::NoGroup => Command::new(&[b"XGROUPDEL", key, group]),
            Change::Consumer { consumer, seen } => {
                Command::new(&[b"XCONSUMERSET", key, group, consumer, ms(seen).as_bytes()])
            }
            Change::NoConsumer { consumer } => Command::new(&[b"XCONSUMERDEL", key, group, consumer]),
            Change::Pending { consumer, delivered, ids } => {
                let words: Vec<String> =
                    ids.iter().flat_map(|(id, count)| [id.to_string(), count.to_string()]).collect();
                let delivered = ms(delivered);
                let mut args: Vec<&[u8]> = vec![b"XPENDINGSET", key, group, consumer, delivered.as_bytes()];
                args.extend(words.iter().map(String::as_bytes));
                Command::new(&args)
            }
            Change::Acked { ids } => with_ids(&[b"XACK", key, group], ids),
        }
    }

    /// Reads an effect.
    fn parse(argv: Argv<'a>) -> Result<Change<'a>, Misfit> {
        let verb = argv.arg(0);
        let is = |name: &[u8], len: usize| verb.eq_ignore_ascii_case(name) && argv.len() == len;
        let ids = argv.skip(5);
        Ok(match () {
            () if is(b"XGROUPSET", 5) => Change::Group {
                last_id: effect_id(argv.arg(3))?,
                entries_read: match argv.arg(4) {
                    b"-" => None,
                    number => Some(effect_number(number)?),
                },
            },
            () if is(b"XGROUPDEL", 3) => Change::NoGroup,
            () if is(b"XCONSUMERSET", 5) => {
                Change::Consumer { consumer: argv.arg(3), seen: UnixMs::new(effect_number(argv.arg(4))?) }
            }
            () if is(b"XCONSUMERDEL", 4) => Change::NoConsumer { consumer: argv.arg(3) },
            () if verb.eq_ignore_ascii_case(b"XPENDINGSET") && !ids.is_empty() && ids.len().is_multiple_of(2) => {
                let pair = |at: usize| Ok((effect_id(ids.arg(at))?, effect_number(ids.arg(at + 1))?));
                Change::Pending {
                    consumer: argv.arg(3),
                    delivered: UnixMs::new(effect_number(argv.arg(4))?),
                    ids: (0..ids.len()).step_by(2).map(pair).collect::<Result<_, Misfit>>()?,
                }
            }
            () if verb.eq_ignore_ascii_case(b"XACK") && argv.len() > 3 => {
                let ids = argv.skip(3).iter().map(|id| StreamId::parse(id, 0).ok_or(Misfit::Form));
                Change::Acked { ids: ids.collect::<Result<_, Misfit>>()? }
            }
            () => return Err(Misfit::Form),
        })
    }
}

/// Applies an effect on a group. `None`: it is none.
#[cold]
pub(in super::super) fn apply_effect(
    store: &mut KeyspaceStore,
    place: Place,
    argv: Argv<'_>,
) -> Option<Result<(), Misfit>> {
    const VERBS: [&[u8]; 5] = [b"XGROUPSET", b"XGROUPDEL", b"XCONSUMERSET", b"XCONSUMERDEL", b"XPENDINGSET"];
    let verb = argv.get(0)?;
    VERBS.iter().any(|name| verb.eq_ignore_ascii_case(name)).then(|| apply(store, place, argv))
}

pub(in super::super) fn apply(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let change = Change::parse(argv)?;
    // A group is made together with its stream; anything else about what is not there changes nothing.
    let missing = if matches!(change, Change::Group { .. }) { Missing::Create } else { Missing::Leave };
    let group = argv.arg(2);
    let rest = write::<Stream, _>(store, place, argv.arg(1), missing, |stream| change.apply(stream, group))?;
    free(store, rest.flatten());
    Ok(())
}

fn free(store: &mut KeyspaceStore, rest: Option<Stream>) {
    if let Some(rest) = rest {
        store.free_later(Value::Stream(rest));
    }
}

/// The effects that make a group what it is, on a stream that has none.
pub(in super::super) fn recreate(key: &[u8], name: &[u8], group: &Group, mut put: impl FnMut(Command)) {
    let come = Change::Group { last_id: group.last_id(), entries_read: group.entries_read() };
    put(come.command(key, name));
    for (consumer, of_consumer) in group.consumers() {
        put(Change::Consumer { consumer, seen: of_consumer.seen }.command(key, name));
    }
    // What was delivered to one consumer at one time is said together.
    let mut pending: Vec<_> = group.pending(..).collect();
    pending.sort_by_key(|(id, pending)| (pending.consumer(), pending.delivered, *id));
    for alike in pending.chunk_by(|(_, a), (_, b)| (a.consumer(), a.delivered) == (b.consumer(), b.delivered)) {
        let Some((_, first)) = alike.first() else { continue };
        let ids: Vec<_> = alike.iter().map(|(id, pending)| (*id, pending.count)).collect();
        Change::pending(first.consumer(), first.delivered, &ids).for_each(|change| put(change.command(key, name)));
    }
}

/// Makes some changes to a group, whose effects must have room, and returns those.
fn change(
    context: &mut Context<'_>,
    at: Located,
    key: &[u8],
    group: &[u8],
    missing: Missing,
    changes: &[Change<'_>],
) -> Result<Vec<Command>, Refusal> {
    let effects: Vec<Command> = changes.iter().map(|change| change.command(key, group)).collect();
    effects.iter().try_for_each(|effect| context.room.take_command(effect))?;
    let rest = write::<Stream, _>(context.store, at.into(), key, missing, |stream| {
        changes.iter().filter_map(|change| change.apply(stream, group)).collect::<Vec<_>>()
    })?;
    rest.into_iter().flatten().for_each(|rest| free(context.store, Some(rest)));
    Ok(effects)
}

// ── XGROUP ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A text with names in it, whatever bytes they have.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The refusal of a group that is not there, nor perhaps its key.
pub(super) fn no_group(key: &[u8], group: &[u8]) -> Refusal {
    Refusal::Message(format!("NOGROUP No such key '{}' or consumer group '{}'", lossy(key), lossy(group)))
}

/// The refusal of a group that is not there, of a key that is.
pub(super) fn no_group_of(key: &[u8], group: &[u8]) -> Refusal {
    Refusal::Message(format!("NOGROUP No such consumer group '{}' for key name '{}'", lossy(group), lossy(key)))
}

/// The subcommands of `XGROUP`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sub {
    Create,
    SetId,
    Destroy,
    CreateConsumer,
    DelConsumer,
}

impl Sub {
    /// The subcommand of this name.
    fn find(name: &[u8]) -> Option<Sub> {
        match name.to_ascii_lowercase().as_slice() {
            b"create" => Some(Sub::Create),
            b"setid" => Some(Sub::SetId),
            b"destroy" => Some(Sub::Destroy),
            b"createconsumer" => Some(Sub::CreateConsumer),
            b"delconsumer" => Some(Sub::DelConsumer),
            _ => None,
        }
    }
}

pub(in super::super) fn xgroup(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    // Any other than these is HELP.
    let Some(sub) = Sub::find(argv.arg(1)) else {
        reply.lines(&XGROUP_HELP);
        return NOTHING;
    };
    let (at, key, group) = (at[0], argv.arg(2), argv.arg(3));
    let (makes_stream, entries_read) = options(sub, argv)?;
    let stream = read_value::<Stream>(context, at, key)?;
    if stream.is_none() && !makes_stream {
        return Err(Refusal::Text(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM \
             option to create an empty stream automatically.",
        ));
    }
    let of_group = stream.and_then(|stream| stream.group(group));
    let needs_group = matches!(sub, Sub::SetId | Sub::CreateConsumer | Sub::DelConsumer);
    if needs_group && of_group.is_none() {
        return Err(no_group_of(key, group));
    }
    let top = stream.map_or(StreamId::MIN, |stream| stream.counters().last_id);
    let made = match sub {
        Sub::Create => {
            let last_id = if argv.arg(4) == b"$" { top } else { strict_id(argv.arg(4), 0)? };
            if of_group.is_some() {
                return Err(Refusal::Text("BUSYGROUP Consumer Group name already exists"));
            }
            reply.ok();
            Some(Change::Group { last_id, entries_read })
        }
        Sub::SetId => {
            let last_id = if argv.arg(4) == b"$" { top } else { any_id(argv.arg(4), 0)? };
            reply.ok();
            let is_new =
                of_group.is_some_and(|group| (group.last_id(), group.entries_read()) != (last_id, entries_read));
            is_new.then_some(Change::Group { last_id, entries_read })
        }
        Sub::Destroy => {
            reply.integer(of_group.is_some().into());
            of_group.map(|_| Change::NoGroup)
        }
        Sub::CreateConsumer => {
            let is_new = of_group.is_some_and(|group| group.consumer(argv.arg(4)).is_none());
            reply.integer(is_new.into());
            is_new.then(|| Change::Consumer { consumer: argv.arg(4), seen: context.now })
        }
        Sub::DelConsumer => {
            let consumer = of_group.and_then(|group| group.consumer(argv.arg(4)));
            reply.count(consumer.map_or(0, |consumer| consumer.len()));
            consumer.map(|_| Change::NoConsumer { consumer: argv.arg(4) })
        }
    };
    let effects = change(context, at, key, group, Missing::Create, made.as_slice())?;
    Ok(super::super::group(effects))
}

/// Whether a missing stream is made, and the number of entries that the group has read.
fn options(sub: Sub, argv: Argv<'_>) -> Result<(bool, Option<u64>), Refusal> {
    let (mut makes_stream, mut entries_read) = (false, None);
    let mut index = 5;
    while let Some(option) = argv.get(index) {
        let value = argv.get(index + 1);
        match value {
            _ if sub == Sub::Create && option.eq_ignore_ascii_case(b"MKSTREAM") => {
                makes_stream = true;
                index += 1;
            }
            Some(value) if matches!(sub, Sub::Create | Sub::SetId) && option.eq_ignore_ascii_case(b"ENTRIESREAD") => {
                entries_read = match integer(value)? {
                    -1 => None,
                    number => Some(
                        u64::try_from(number)
                            .map_err(|_| Refusal::Text("ERR value for ENTRIESREAD must be positive or -1"))?,
                    ),
                };
                index += 2;
            }
            _ => return Err(Refusal::misused("XGROUP", argv.arg(1))),
        }
    }
    // As Redis has it.
    let most = if sub == Sub::Create { 8 } else { 7 };
    let fits = argv.len() <= most && (sub != Sub::SetId || argv.len() != 6);
    if fits { Ok((makes_stream, entries_read)) } else { Err(Refusal::misused("XGROUP", argv.arg(1))) }
}

const XGROUP_HELP: [&str; 17] = [
    "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a new consumer group. Options are:",
    "    * MKSTREAM",
    "      Create the empty stream if it does not exist.",
    "    * ENTRIESREAD entries_read",
    "      Set the group's entries_read counter (internal use).",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a new consumer in the specified group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove the specified consumer.",
    "DESTROY <key> <groupname>",
    "    Remove the specified group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the current group ID and entries_read counter.",
    "HELP",
    "    Print this help.",
];

// ── what is pending ─────────────────────────────────────────────────────────────────────────────────────────────────

pub(in super::super) fn xack(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (key, name) = (argv.arg(1), argv.arg(2));
    let Some(group) = read_value::<Stream>(context, at[0], key)?.and_then(|stream| stream.group(name)) else {
        reply.integer(0);
        return NOTHING;
    };
    let ids = argv.skip(3).iter().map(|id| strict_id(id, 0)).collect::<Result<Vec<_>, _>>()?;
    let all = ids.len();
    let mut there: Vec<StreamId> = ids.into_iter().filter(|id| group.get(*id).is_some()).collect();
    there.sort_unstable();
    there.dedup();
    reply.count(there.len());
    if there.is_empty() {
        return NOTHING;
    }
    let is_all = there.len() == all;
    let change = Change::Acked { ids: there.into() };
    let effect = (!is_all).then(|| change.command(key, name));
    write::<Stream, _>(context.store, at[0].into(), key, Missing::Leave, |stream| _ = change.apply(stream, name))?;
    Ok(effect.map_or(Effects::Verbatim, Effects::One))
}

/// Milliseconds since something was delivered; less than none where clocks differ.
fn idle(now: UnixMs, delivered: UnixMs) -> i64 {
    now.get().wrapping_sub(delivered.get()) as i64
}

pub(in super::super) fn xpending(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (key, name) = (argv.arg(1), argv.arg(2));
    let query = match argv.len() {
        3 => None,
        6..=9 => {
            let (least_idle, range) = match argv.arg(3).eq_ignore_ascii_case(b"IDLE") {
                true => (integer(argv.arg(4))?, argv.skip(5)),
                false => (0, argv.skip(3)),
            };
            if range.len() < 3 {
                return Err(SYNTAX);
            }
            let count = usize::try_from(integer(range.arg(2))?).unwrap_or(0);
            Some((least_idle, first_of_range(range.arg(0))?, last_of_range(range.arg(1))?, count, range.get(3)))
        }
        _ => return Err(SYNTAX),
    };
    let stream = read_value::<Stream>(context, at[0], key)?;
    let group = stream.and_then(|stream| stream.group(name)).ok_or_else(|| no_group(key, name))?;
    let Some((least_idle, first, last, count, consumer)) = query else {
        summary(group, reply);
        return NOTHING;
    };
    let ids: Vec<StreamId> = match consumer.map(|name| group.consumer(name)) {
        Some(None) => Vec::new(),
        // A range that ends before it begins is empty.
        _ if first > last => Vec::new(),
        Some(Some(consumer)) => consumer.pending(first..=last).collect(),
        None => group.pending(first..=last).map(|(id, _)| id).collect(),
    };
    let now = context.now;
    let pending = ids.into_iter().filter_map(|id| Some((id, group.get(id)?)));
    let shown: Vec<_> = pending
        .filter(|(_, pending)| least_idle == 0 || idle(now, pending.delivered) >= least_idle)
        .take(count)
        .collect();
    reply.array(shown.len());
    for (id, pending) in shown {
        reply.array(4);
        bulk_id(id, reply);
        reply.bulk(pending.consumer());
        reply.integer(idle(now, pending.delivered).max(0));
        reply.integer(pending.count as i64);
    }
    NOTHING
}

fn summary(group: &Group, reply: &mut Reply<'_>) {
    reply.array(4);
    reply.count(group.len());
    let (first, last) = (group.pending(..).next(), group.pending(..).next_back());
    let (Some((first, _)), Some((last, _))) = (first, last) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    bulk_id(first, reply);
    bulk_id(last, reply);
    let consumers: Vec<_> = group.consumers().filter(|(_, consumer)| !consumer.is_empty()).collect();
    reply.array(consumers.len());
    for (name, consumer) in consumers {
        reply.array(2);
        reply.bulk(name);
        reply.bulk_integer(consumer.len() as i64);
    }
}

// ── claiming ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// What a claim does, before it is done.
struct Claim<'a> {
    consumer: &'a [u8],
    just_id: bool,
    least_idle: i64,
    now: UnixMs,
    /// When what is claimed counts as delivered.
    delivered: UnixMs,
    /// How often it counts as delivered; `None`: once more.
    count: Option<u64>,
    /// What was claimed, with its count.
    claimed: BTreeMap<StreamId, u64>,
    /// What was claimed, in the order of the reply.
    order: Vec<StreamId>,
    /// What is pending and is not in the stream any more.
    gone: Vec<StreamId>,
}

impl<'a> Claim<'a> {
    fn new(consumer: &'a [u8], least_idle: i64, now: UnixMs) -> Claim<'a> {
        Claim {
            consumer,
            just_id: false,
            least_idle: least_idle.max(0),
            now,
            delivered: now,
            count: None,
            claimed: BTreeMap::new(),
            order: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Claims an entry that was delivered at this time for so many times. `false`: not for long enough.
    fn claim(&mut self, id: StreamId, delivered: Option<UnixMs>, count: u64) -> bool {
        let (delivered, count) = match self.claimed.get(&id) {
            Some(count) => (Some(self.delivered), *count),
            None => (delivered, count),
        };
        if self.least_idle > 0 && delivered.is_some_and(|delivered| idle(self.now, delivered) < self.least_idle) {
            return false;
        }
        let count = self.count.unwrap_or_else(|| count.saturating_add(u64::from(!self.just_id)));
        self.claimed.insert(id, count);
        self.order.push(id);
        true
    }

    /// What is to change.
    fn changes(&self, group: &Group, last_id: Option<StreamId>) -> Vec<Change<'a>> {
        let mut changes = Vec::new();
        if let Some(last_id) = last_id.filter(|last_id| *last_id > group.last_id()) {
            changes.push(Change::Group { last_id, entries_read: group.entries_read() });
        }
        if group.consumer(self.consumer).is_none() {
            changes.push(Change::Consumer { consumer: self.consumer, seen: self.now });
        }
        if !self.gone.is_empty() {
            changes.push(Change::Acked { ids: self.gone.clone().into() });
        }
        let ids: Vec<_> = self.claimed.iter().map(|(id, count)| (*id, *count)).collect();
        changes.extend(Change::pending(self.consumer, self.delivered, &ids));
        changes
    }

    /// Does it, and says its effects.
    fn execute(
        self,
        context: &mut Context<'_>,
        at: Located,
        key: &[u8],
        group: &[u8],
        changes: &[Change<'_>],
    ) -> Result<Effects, Refusal> {
        let effects = change(context, at, key, group, Missing::Leave, changes)?;
        let is_active = !self.order.is_empty();
        write::<Stream, _>(context.store, at.into(), key, Missing::Leave, |stream| {
            stream.change_group(group, |group| {
                group.see(self.consumer, self.now);
                if is_active {
                    group.note_active(self.consumer, self.now);
                }
            });
        })?;
        Ok(super::super::group(effects))
    }

    fn show(&self, stream: &Stream, reply: &mut Reply<'_>) {
        reply.array(self.order.len());
        for id in &self.order {
            match stream.get(*id).filter(|_| !self.just_id) {
                Some(entry) => show(entry, reply),
                None => bulk_id(*id, reply),
            }
        }
    }
}

/// The number in an option of `XCLAIM`.
fn option_number(text: &[u8], refusal: &'static str) -> Result<i64, Refusal> {
    number::integer(text).ok_or(Refusal::Text(refusal))
}

pub(in super::super) fn xclaim(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (key, name, now) = (argv.arg(1), argv.arg(2), context.now);
    let stream = read_value::<Stream>(context, at[0], key)?;
    let Some((stream, group)) = stream.and_then(|stream| Some((stream, stream.group(name)?))) else {
        return Err(no_group(key, name));
    };
    let least_idle = option_number(argv.arg(4), "ERR Invalid min-idle-time argument for XCLAIM")?;
    let mut claim = Claim::new(argv.arg(3), least_idle, now);
    let ids: Vec<StreamId> = argv.skip(5).iter().map_while(|id| strict_id(id, 0).ok()).collect();
    let (mut forces, mut last_id) = (false, None);
    let mut index = 5 + ids.len();
    while let Some(option) = argv.get(index) {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let value = argv.get(index + 1);
        index += 1;
        match value {
            _ if is(b"FORCE") => forces = true,
            _ if is(b"JUSTID") => claim.just_id = true,
            Some(value) if is(b"IDLE") || is(b"TIME") => {
                let time = match is(b"IDLE") {
                    true => {
                        let idle = option_number(value, "ERR Invalid IDLE option argument for XCLAIM")?;
                        (now.get() as i64).saturating_sub(idle)
                    }
                    false => option_number(value, "ERR Invalid TIME option argument for XCLAIM")?,
                };
                // As Redis has it, what cannot be is now.
                let time = u64::try_from(time).ok().filter(|time| *time <= now.get());
                claim.delivered = time.map_or(now, UnixMs::new);
                index += 1;
            }
            Some(value) if is(b"RETRYCOUNT") => {
                let count = option_number(value, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                claim.count = u64::try_from(count).ok();
                index += 1;
            }
            Some(value) if is(b"LASTID") => {
                last_id = Some(strict_id(value, 0)?);
                index += 1;
            }
            _ => return Err(Refusal::Message(format!("ERR Unrecognized XCLAIM option '{}'", lossy(option)))),
        }
    }
    for id in ids {
        let pending = group.get(id);
        if stream.get(id).is_none() {
            if pending.is_some() && !claim.gone.contains(&id) {
                claim.gone.push(id);
            }
        } else if let Some(pending) = pending {
            claim.claim(id, Some(pending.delivered), pending.count);
        } else if forces {
            // As Redis has it, what was never delivered counts as delivered once before.
            claim.claim(id, None, 1);
        }
    }
    let mut body = Vec::new();
    claim.show(stream, &mut Reply::new(&mut body, reply.protocol()));
    let changes = claim.changes(group, last_id);
    let effects = claim.execute(context, at[0], key, name, &changes)?;
    reply.raw(&body);
    Ok(effects)
}

/// Entries that `XAUTOCLAIM` claims, unless it is told how many; and how many it looks at for each.
const CLAIMED_MAX: usize = 100;
const LOOKED_AT_FOR_EACH: usize = 10;

pub(in super::super) fn xautoclaim(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (key, name, now) = (argv.arg(1), argv.arg(2), context.now);
    let least_idle = option_number(argv.arg(4), "ERR Invalid min-idle-time argument for XAUTOCLAIM")?;
    let mut claim = Claim::new(argv.arg(3), least_idle, now);
    let first = first_of_range(argv.arg(5))?;
    let mut count = CLAIMED_MAX;
    let mut index = 6;
    while let Some(option) = argv.get(index) {
        match argv.get(index + 1) {
            Some(value) if option.eq_ignore_ascii_case(b"COUNT") => {
                let most = i64::MAX as usize / size_of::<StreamId>();
                let number = number::integer(value).and_then(|number| usize::try_from(number).ok());
                count =
                    number.filter(|count| (1..=most).contains(count)).ok_or(Refusal::Text("ERR COUNT must be > 0"))?;
                index += 1;
            }
            _ if option.eq_ignore_ascii_case(b"JUSTID") => claim.just_id = true,
            _ => return Err(SYNTAX),
        }
        index += 1;
    }
    let stream = read_value::<Stream>(context, at[0], key)?;
    let Some((stream, group)) = stream.and_then(|stream| Some((stream, stream.group(name)?))) else {
        return Err(no_group(key, name));
    };
    let mut pending = group.pending(first..);
    let (mut looks, mut left) = (count.saturating_mul(LOOKED_AT_FOR_EACH), count);
    while looks > 0
        && left > 0
        && let Some((id, of_entry)) = pending.next()
    {
        looks -= 1;
        if stream.get(id).is_none() {
            claim.gone.push(id);
            left -= 1;
        } else if claim.claim(id, Some(of_entry.delivered), of_entry.count) {
            left -= 1;
        }
    }
    let next = pending.next().map_or(StreamId::MIN, |(id, _)| id);
    drop(pending);
    let mut body = Vec::new();
    let part = &mut Reply::new(&mut body, reply.protocol());
    part.array(3);
    bulk_id(next, part);
    claim.show(stream, part);
    part.array(claim.gone.len());
    claim.gone.iter().for_each(|id| bulk_id(*id, part));
    let changes = claim.changes(group, None);
    let effects = claim.execute(context, at[0], key, name, &changes)?;
    reply.raw(&body);
    Ok(effects)
}
