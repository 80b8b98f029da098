//! Commands on the times at which fields of a hash expire, and what becomes of fields whose time has come.
//!
//! ```text
//! HEXPIRE k 10 FIELDS 3 a b c       ──▶   HPEXPIREAT k 1010000 FIELDS 2 a c     those whose time it changed
//! HEXPIRE k 0 FIELDS 1 a            ──▶   HDEL k a                              DEL k, where nothing is left
//! HPERSIST k FIELDS 2 a b           ──▶   HPERSIST k FIELDS 1 a
//! HGETEX k PX 5 FIELDS 1 a          ──▶   as HPEXPIRE
//! HSETEX k EX 10 FIELDS 1 a v       ──▶   HSET k a v; HPEXPIREAT k 1010000 FIELDS 1 a
//! ```
//!
//! Every command on a key first takes away what is due in it ([`take_due`]), and says so: what the others see here is what is there. An
//! effect looks at no clock, and a field goes only where it is said.

use std::collections::BTreeMap;

use super::aggregate::{Missing, read, write};
use super::number;
use super::recreate::{Pieces, expire_fields_effect};
use super::refusal::Refusal;
use super::string::{Unit, epoch_millis, integer};
use super::{Context, Misfit, NOTHING, Outcome, group};
use crate::id::UnixMs;
use crate::limits::FIELD_TIME_MS_MAX;
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::value::Hash;
use crate::store::value::hash::Shown;
use crate::store::{Entry, KeyspaceStore, Place, Value, ValueRef};
use crate::wire::{Argv, Command, Effects, Full, Room};

// ── what is due ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// When the next field of a hash expires; `None`: it is none, or none does.
#[inline]
pub fn next_due(entry: &Entry<'_>) -> Option<UnixMs> {
    match entry.value() {
        ValueRef::Boxed(Value::Hash(hash)) => hash.times().and_then(|times| times.first()),
        ValueRef::Boxed(_) | ValueRef::Str(_) => None,
    }
}

/// Takes away those fields of a hash whose time has come, `most` of them at most, and returns the effects, for which it takes room, and how
/// many they were; the key goes with its last field. Without a hash at `key` it does nothing.
///
/// # Errors
/// If there is no room to say so. Nothing has changed then.
pub fn take_due(
    store: &mut KeyspaceStore,
    at: Located,
    key: &[u8],
    now: UnixMs,
    most: usize,
    room: &mut Room,
) -> Result<(Vec<Command>, usize), Full> {
    let mut effects = Vec::new();
    let Some(ValueRef::Boxed(Value::Hash(hash))) = store.get(at, key).map(|entry| entry.value()) else {
        return Ok((effects, 0));
    };
    let due = || hash.times().into_iter().flat_map(|times| times.due(now)).take(most);
    let count = due().count();
    if count > 0 && count == hash.len() {
        super::take_del(room, key)?;
        store.remove(at, key);
        effects.push(super::del(key));
        return Ok((effects, count));
    }
    let due: Vec<Box<[u8]>> = due().map(Box::from).collect();
    let mut pieces = Pieces::new(b"HDEL", key, room, &mut effects);
    due.iter().try_for_each(|field| pieces.push([field]))?;
    pieces.end()?;
    store.update(at, key, |value| {
        if let Value::Hash(hash) = value {
            due.iter().for_each(|field| _ = hash.remove(field));
        }
    });
    Ok((effects, count))
}

/// The hash at `key` as it is now, if there is one.
#[inline]
pub(super) fn shown<'c>(context: &'c Context<'_>, at: Located, key: &[u8]) -> Result<Option<Shown<'c>>, Refusal> {
    Ok(read::<Hash>(context, at, key)?.map(|hash| hash.shown(context.now)))
}

// ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────────────

const NO_FIELDS: Refusal = Refusal::Text("ERR Mandatory argument FIELDS is missing or not at the right position");
const MISCOUNTED: Refusal = Refusal::Text("ERR The `numfields` parameter must match the number of arguments");
/// What a count of fields is that is none.
pub(super) const NOT_A_COUNT: Refusal = Refusal::Text("ERR Number of fields must be a positive integer");
/// What commands that set times say instead.
const NOT_ABOVE_ZERO: Refusal = Refusal::Text("ERR Parameter `numFields` should be greater than 0");
const NEGATIVE_TIME: Refusal = Refusal::Text("ERR invalid expire time, must be >= 0");

/// The fields that stand behind `FIELDS`, argument number `at`, and their number.
pub(super) fn named(argv: Argv<'_>, at: usize, not_a_count: Refusal) -> Result<Argv<'_>, Refusal> {
    if !argv.get(at).is_some_and(|word| word.eq_ignore_ascii_case(b"FIELDS")) {
        return Err(NO_FIELDS);
    }
    let count = argv.get(at + 1).and_then(number::integer).filter(|count| *count > 0).ok_or(not_a_count)?;
    let fields = argv.skip(at + 2);
    if usize::try_from(count) == Ok(fields.len()) { Ok(fields) } else { Err(MISCOUNTED) }
}

/// A time, which may be over but must be one that a field can have.
fn absolute(text: &[u8], unit: Unit, now: UnixMs, name: &'static str) -> Result<UnixMs, Refusal> {
    if integer(text)? < 0 {
        return Err(NEGATIVE_TIME);
    }
    let ms = u64::try_from(unit.absolute(text, now, name)?).ok().filter(|ms| *ms <= FIELD_TIME_MS_MAX);
    ms.map(UnixMs::new).ok_or(Refusal::ExpireTime(name))
}

/// On what it depends whether a field gets its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// It has none yet.
    Missing,
    /// It has one.
    Present,
    /// It has one, and the new one is later.
    Later,
    /// It has none, which is later than all, or the new one is earlier.
    Earlier,
}

impl Condition {
    fn parse(option: &[u8]) -> Option<Condition> {
        let all: [(&[u8], _); 4] = [
            (b"NX", Condition::Missing),
            (b"XX", Condition::Present),
            (b"GT", Condition::Later),
            (b"LT", Condition::Earlier),
        ];
        all.into_iter().find(|(name, _)| option.eq_ignore_ascii_case(name)).map(|(_, condition)| condition)
    }

    fn holds(self, old: Option<UnixMs>, new: UnixMs) -> bool {
        match self {
            Condition::Missing => old.is_none(),
            Condition::Present => old.is_some(),
            Condition::Later => old.is_some_and(|old| new > old),
            Condition::Earlier => old.is_none_or(|old| new < old),
        }
    }
}

// ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn httl(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = context.now.get();
    tell(context, at[0], argv, reply, |ms| ms.saturating_sub(now).div_ceil(1_000))
}

pub(super) fn hpttl(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = context.now.get();
    tell(context, at[0], argv, reply, |ms| ms.saturating_sub(now))
}

pub(super) fn hexpiretime(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    tell(context, at[0], argv, reply, |ms| ms.div_ceil(1_000))
}

pub(super) fn hpexpiretime(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    tell(context, at[0], argv, reply, |ms| ms)
}

/// Tells the times of fields: -1 where there is none, -2 where there is no field.
fn tell(
    context: &Context<'_>,
    at: Located,
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
    say: impl Fn(u64) -> u64,
) -> Outcome {
    let hash = shown(context, at, argv.arg(1))?;
    let fields = named(argv, 2, NOT_A_COUNT)?;
    reply.array(fields.len());
    for field in fields.iter() {
        let time = hash.and_then(|hash| hash.get(field).map(|_| hash.time_of(field)));
        reply.integer(match time {
            None => -2,
            Some(None) => -1,
            Some(Some(at)) => say(at.get()) as i64,
        });
    }
    NOTHING
}

// ── setting times ───────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn hexpire(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_by(context, at[0], argv, Unit::Seconds, "hexpire", reply)
}

pub(super) fn hpexpire(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_by(context, at[0], argv, Unit::Millis, "hpexpire", reply)
}

pub(super) fn hexpireat(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_by(context, at[0], argv, Unit::EpochSeconds, "hexpireat", reply)
}

pub(super) fn hpexpireat(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_by(context, at[0], argv, Unit::EpochMillis, "hpexpireat", reply)
}

fn expire_by(
    context: &mut Context<'_>,
    at: Located,
    argv: Argv<'_>,
    unit: Unit,
    name: &'static str,
    reply: &mut Reply<'_>,
) -> Outcome {
    let key = argv.arg(1);
    read::<Hash>(context, at, key)?;
    let time = absolute(argv.arg(2), unit, context.now, name)?;
    let condition = Condition::parse(argv.arg(3));
    let fields = named(argv, 3 + usize::from(condition.is_some()), NOT_ABOVE_ZERO)?;
    let done = if time <= context.now { 2 } else { 1 };
    reply.array(fields.len());
    change(context, at, key, fields, Change::At(time), |found| {
        let told = match found {
            None => -2,
            Some((_, old)) if condition.is_some_and(|condition| !condition.holds(old, time)) => 0,
            Some(_) => done,
        };
        reply.integer(told);
        told == done
    })
}

pub(super) fn hpersist(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = argv.arg(1);
    read::<Hash>(context, at[0], key)?;
    let fields = named(argv, 2, NOT_A_COUNT)?;
    reply.array(fields.len());
    change(context, at[0], key, fields, Change::Never, |found| {
        reply.integer(match found {
            None => -2,
            Some((_, None)) => -1,
            Some((_, Some(_))) => 1,
        });
        true
    })
}

/// `HGETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST] FIELDS numfields field…`: the values of fields, whose times change.
pub(super) fn hgetex(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = argv.arg(1);
    read::<Hash>(context, at[0], key)?;
    let (wanted, fields) = match Unit::parse(argv.arg(2)) {
        Some(unit) => (Some(Change::At(absolute(argv.arg(3), unit, context.now, "hgetex")?)), 4),
        None if argv.arg(2).eq_ignore_ascii_case(b"PERSIST") => (Some(Change::Never), 3),
        None => (None, 2),
    };
    let fields = named(argv, fields, NOT_A_COUNT)?;
    reply.array(fields.len());
    let Some(wanted) = wanted else {
        let hash = shown(context, at[0], key)?;
        fields.iter().for_each(|field| reply.bulk_or_null(hash.and_then(|hash| hash.get(field))));
        return NOTHING;
    };
    change(context, at[0], key, fields, wanted, |found| {
        reply.bulk_or_null(found.map(|(value, _)| value));
        true
    })
}

/// What becomes of the time of a field.
#[derive(Clone, Copy)]
enum Change {
    /// It expires then; now, if that is over.
    At(UnixMs),
    /// It does not expire.
    Never,
}

/// Changes the times of those of `fields` that are there and `wanted` takes, one after the other; it is shown each with its value and its
/// time as they are by then.
fn change(
    context: &mut Context<'_>,
    at: Located,
    key: &[u8],
    fields: Argv<'_>,
    change: Change,
    mut wanted: impl FnMut(Option<(&[u8], Option<UnixMs>)>) -> bool,
) -> Outcome {
    let is_over = matches!(change, Change::At(time) if time <= context.now);
    let mut changed: Vec<&[u8]> = Vec::new();
    let there = write(context.store, at.into(), key, Missing::Leave, |hash: &mut Hash| {
        for field in fields.iter() {
            let is_wanted = wanted(hash.get(field).map(|value| (value, hash.time_of(field))));
            let has_changed = is_wanted
                && match change {
                    Change::At(_) if is_over => hash.remove(field),
                    Change::At(time) => hash.set_time(field, Some(time)),
                    Change::Never => hash.set_time(field, None),
                };
            if has_changed {
                changed.push(field);
            }
        }
    })?;
    if there.is_none() {
        fields.iter().for_each(|_| _ = wanted(None));
    }
    if changed.is_empty() {
        return NOTHING;
    }
    Ok(Effects::One(match change {
        Change::At(_) if is_over && context.store.get(at, key).is_none() => super::del(key),
        Change::At(_) if is_over => with_fields(&[b"HDEL", key], &changed),
        Change::At(time) => expire_fields_effect(key, time, &changed),
        Change::Never => {
            let count = changed.len().to_string();
            with_fields(&[b"HPERSIST", key, b"FIELDS", count.as_bytes()], &changed)
        }
    }))
}

fn with_fields(head: &[&[u8]], fields: &[&[u8]]) -> Command {
    Command::new(&[head, fields].concat())
}

// ── values with times ───────────────────────────────────────────────────────────────────────────────────────────────

/// What `HSETEX` is asked for.
struct Setting<'a> {
    /// Whether all of the fields must be there, or none.
    all_present: Option<bool>,
    time: Time,
    /// Fields and values in turn.
    pairs: Argv<'a>,
}

/// The times that fields have which are set.
#[derive(Clone, Copy)]
enum Time {
    /// None.
    None,
    /// This one.
    At(UnixMs),
    /// That which they had.
    Kept,
}

impl<'a> Setting<'a> {
    fn parse(argv: Argv<'a>, now: UnixMs) -> Result<Setting<'a>, Refusal> {
        let (mut all_present, mut time) = (None, None);
        let mut index = 2;
        while let Some(option) = argv.get(index) {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            let unit = Unit::parse(option);
            if is(b"FIELDS") {
                // With a count, a field and a value behind it.
                let count = argv.get(index + 1).filter(|_| index + 3 < argv.len()).ok_or(Refusal::Arity("hsetex"))?;
                let count =
                    number::integer(count).and_then(|count| i32::try_from(count).ok()).filter(|count| *count > 0);
                let count = count.ok_or(Refusal::Text("ERR invalid number of fields"))?;
                let pairs = argv.skip(index + 2);
                if pairs.len() != 2 * count as usize {
                    return Err(Refusal::Arity("hsetex"));
                }
                return Ok(Setting { all_present, time: time.unwrap_or(Time::None), pairs });
            } else if unit.is_some() || is(b"KEEPTTL") {
                if time.is_some() {
                    return Err(Refusal::Text(
                        "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                    ));
                }
                time = Some(match unit {
                    None => Time::Kept,
                    Some(unit) => {
                        index += 1;
                        let text = argv.get(index).ok_or(Refusal::Text("ERR missing expire time"))?;
                        Time::At(absolute(text, unit, now, "hsetex")?)
                    }
                });
            } else if is(b"FXX") || is(b"FNX") {
                if all_present.is_some() {
                    return Err(Refusal::Text("ERR Only one of FXX or FNX arguments can be specified"));
                }
                all_present = Some(is(b"FXX"));
            } else {
                return Err(Refusal::Message(format!("ERR unknown argument: {}", option.escape_ascii())));
            }
            index += 1;
        }
        Err(Refusal::Arity("hsetex"))
    }

    fn fields(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.pairs.iter().step_by(2)
    }
}

/// `HSETEX key [FNX | FXX] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL] FIELDS numfields field value…`: sets fields with their times.
pub(super) fn hsetex(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, now) = (argv.arg(1), context.now);
    let setting = Setting::parse(argv, now)?;
    let hash = read::<Hash>(context, at[0], key)?;
    let is_there = |field: &[u8]| hash.is_some_and(|hash| hash.get(field).is_some());
    if setting.all_present.is_some_and(|present| setting.fields().any(|field| is_there(field) != present)) {
        reply.integer(0);
        return NOTHING;
    }
    let mut times: BTreeMap<UnixMs, Vec<&[u8]>> = BTreeMap::new();
    for field in setting.fields() {
        let time = match setting.time {
            Time::None => None,
            Time::At(time) => Some(time),
            Time::Kept => hash.and_then(|hash| hash.time_of(field)),
        };
        if let Some(time) = time {
            times.entry(time).or_default().push(field);
        }
    }
    if let Time::At(time) = setting.time
        && time <= now
    {
        // It is set, and gone at once.
        let all: Vec<&[u8]> = setting.fields().collect();
        reply.integer(1);
        return remove(context, at[0], key, &all);
    }
    let mut effects = vec![with_fields(&[b"HSET", key], &setting.pairs.iter().collect::<Vec<_>>())];
    effects.extend(times.iter().map(|(time, fields)| expire_fields_effect(key, *time, fields)));
    if effects.len() > 1 {
        effects.iter().try_for_each(|effect| context.room.take_command(effect))?;
    }
    write(context.store, at[0].into(), key, Missing::Create, |hash: &mut Hash| {
        for index in (0..setting.pairs.len()).step_by(2) {
            hash.set(setting.pairs.arg(index), setting.pairs.arg(index + 1));
        }
        for (time, fields) in &times {
            fields.iter().for_each(|field| _ = hash.set_time(field, Some(*time)));
        }
    })?;
    reply.integer(1);
    Ok(group(effects))
}

/// Takes fields away, and says of which that is true.
fn remove(context: &mut Context<'_>, at: Located, key: &[u8], fields: &[&[u8]]) -> Outcome {
    let removed = write(context.store, at.into(), key, Missing::Leave, |hash: &mut Hash| {
        fields.iter().copied().filter(|field| hash.remove(field)).collect::<Vec<_>>()
    })?;
    Ok(match removed.unwrap_or_default() {
        removed if removed.is_empty() => Effects::None,
        _ if context.store.get(at, key).is_none() => Effects::One(super::del(key)),
        removed => Effects::One(with_fields(&[b"HDEL", key], &removed)),
    })
}

// ── effects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn apply_hpexpireat(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let time = epoch_millis(argv.arg(2))?;
    if time.get() > FIELD_TIME_MS_MAX {
        return Err(Misfit::Form);
    }
    set_times(store, place, argv, 3, Some(time))
}

pub(super) fn apply_hpersist(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    set_times(store, place, argv, 2, None)
}

fn set_times(
    store: &mut KeyspaceStore,
    place: Place,
    argv: Argv<'_>,
    at: usize,
    time: Option<UnixMs>,
) -> Result<(), Misfit> {
    let fields = named(argv, at, NOT_A_COUNT).map_err(|_| Misfit::Form)?;
    write(store, place, argv.arg(1), Missing::Leave, |hash: &mut Hash| {
        fields.iter().for_each(|field| _ = hash.set_time(field, time));
    })?;
    Ok(())
}
