//! Commands on strings.

use super::number::{self, SumError};
use super::refusal::{
    NOT_A_FLOAT, NOT_AN_INTEGER, NOT_FINITE, NOT_POSITIVE, OVERFLOW, Refusal, SYNTAX, TOO_LONG, WRONG_TYPE,
};
use super::{Context, Misfit, NOTHING, Outcome, group};
use crate::buffer::Buffer;
use crate::id::UnixMs;
use crate::limits::BULK_BYTES_MAX;
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::{Entry, KeyspaceStore, Place, Value, ValueRef};
use crate::wire::{Argv, Command, Effects};

/// The string in an entry.
#[inline]
pub(super) fn in_entry(entry: Entry<'_>) -> Result<&[u8], Refusal> {
    match entry.value() {
        ValueRef::Str(bytes) => Ok(bytes),
        ValueRef::Boxed(_) => Err(WRONG_TYPE),
    }
}

/// The string at `key`, if there is one that has not expired.
#[inline]
pub(super) fn read<'c>(context: &'c Context<'_>, at: Located, key: &[u8]) -> Result<Option<&'c [u8]>, Refusal> {
    context.read(at, key).map(in_entry).transpose()
}

/// `SET k v`, with its expiry.
pub(super) fn set_effect(key: &[u8], value: &[u8], expiry: Option<UnixMs>) -> Command {
    match expiry {
        None => Command::new(&[b"SET", key, value]),
        Some(at) => {
            let mut digits = itoa::Buffer::new();
            Command::new(&[b"SET", key, value, b"PXAT", digits.format(at.get()).as_bytes()])
        }
    }
}

// ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn get(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk_or_null(read(context, at[0], argv.arg(1))?);
    NOTHING
}

pub(super) fn mget(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.array(at.len());
    for (index, &at) in at.iter().enumerate() {
        // What is no string is as good as missing here.
        reply.bulk_or_null(read(context, at, argv.arg(index + 1)).unwrap_or_default());
    }
    NOTHING
}

pub(super) fn strlen(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(read(context, at[0], argv.arg(1))?.map_or(0, <[u8]>::len));
    NOTHING
}

pub(super) fn getrange(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (start, end) = (integer(argv.arg(2))?, integer(argv.arg(3))?);
    let value = read(context, at[0], argv.arg(1))?.unwrap_or_default();
    // Unlike with lists, an end before the beginning is the beginning, unless that turns the range around.
    let is_turned = start < 0 && end < 0 && start > end;
    let range = if is_turned { None } else { clamp(start, end.max(-(value.len() as i64)), value.len()) };
    reply.bulk(range.map_or(b"", |(first, end)| &value[first..end]));
    NOTHING
}

/// Indexes from the front, or negative ones from the back, both inclusive, as a half-open range within `len`; `None` where
/// it is empty.
pub(super) fn clamp(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let len = len as i64;
    let from_front = |index: i64| if index < 0 { index.saturating_add(len).max(0) } else { index };
    let end_is_before = end < 0 && end.saturating_add(len) < 0;
    let (start, end) = (from_front(start), from_front(end).min(len - 1));
    (!end_is_before && start <= end && start < len).then(|| (start as usize, end as usize + 1))
}

pub(super) fn integer(text: &[u8]) -> Result<i64, Refusal> {
    number::integer(text).ok_or(NOT_AN_INTEGER)
}

/// How many of something are asked for.
pub(super) fn count_of(text: &[u8]) -> Result<usize, Refusal> {
    number::integer(text).and_then(|count| usize::try_from(count).ok()).ok_or(NOT_POSITIVE)
}

// ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// When a command asks for a string to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfMissing,
    IfThere,
}

/// What becomes of the expiry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry {
    None,
    Keep,
    At(i64),
}

pub(super) fn set(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, value) = (argv.arg(1), argv.arg(2));
    if argv.len() == 3 {
        context.store.set_string(at[0], key, value, None);
        reply.ok();
        return Ok(Effects::Verbatim);
    }
    let mut condition = Condition::Always;
    let mut expiry = Expiry::None;
    let mut answers_old = false;
    let mut index = 3;
    while let Some(option) = argv.get(index) {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"NX") && condition != Condition::IfThere {
            condition = Condition::IfMissing;
        } else if is(b"XX") && condition != Condition::IfMissing {
            condition = Condition::IfThere;
        } else if is(b"GET") {
            answers_old = true;
        } else if is(b"KEEPTTL") && expiry == Expiry::None {
            expiry = Expiry::Keep;
        } else if let (Some(unit), Some(time), Expiry::None) = (Unit::parse(option), argv.get(index + 1), expiry) {
            expiry = Expiry::At(unit.absolute_positive(time, context.now, "set")?);
            index += 1;
        } else {
            return Err(SYNTAX);
        }
        index += 1;
    }
    let old = context.read(at[0], key);
    let (is_there, old_expiry) = (old.is_some(), old.and_then(|entry| entry.expiry()));
    let old = if answers_old { old.map(in_entry).transpose()? } else { None };
    let writes = match condition {
        Condition::Always => true,
        Condition::IfMissing => !is_there,
        Condition::IfThere => is_there,
    };
    match (answers_old, writes) {
        (true, _) => reply.bulk_or_null(old),
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    if !writes {
        return NOTHING;
    }
    let expiry = match expiry {
        Expiry::None => None,
        Expiry::Keep => {
            context.store.set_string(at[0], key, value, old_expiry);
            return Ok(Effects::One(Command::new(&[b"SET", key, value, b"KEEPTTL"])));
        }
        Expiry::At(ms) => Some(ms),
    };
    Ok(write_until(context, at[0], key, value, expiry))
}

/// Writes a string that expires at `expiry`, in milliseconds of the epoch; at once, if that is over.
fn write_until(context: &mut Context<'_>, at: Located, key: &[u8], value: &[u8], expiry: Option<i64>) -> Effects {
    let expiry = expiry.map(|ms| UnixMs::new(ms.max(0) as u64));
    if expiry.is_some_and(|at| at <= context.now) {
        return if context.store.remove(at, key) { Effects::One(super::del(key)) } else { Effects::None };
    }
    context.store.set_string(at, key, value, expiry);
    Effects::One(set_effect(key, value, expiry))
}

/// How a command says a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Millis,
    /// Seconds of the epoch.
    EpochSeconds,
    /// Milliseconds of the epoch.
    EpochMillis,
}

impl Unit {
    /// The unit that an option of this name has.
    pub(super) fn parse(option: &[u8]) -> Option<Unit> {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        Some(match option {
            _ if is(b"EX") => Unit::Seconds,
            _ if is(b"PX") => Unit::Millis,
            _ if is(b"EXAT") => Unit::EpochSeconds,
            _ if is(b"PXAT") => Unit::EpochMillis,
            _ => return None,
        })
    }

    /// The time in milliseconds of the epoch; it may be over.
    pub(super) fn absolute(self, time: &[u8], now: UnixMs, command: &'static str) -> Result<i64, Refusal> {
        let time = integer(time)?;
        let ms = match self {
            Unit::Seconds | Unit::EpochSeconds => time.checked_mul(1_000),
            Unit::Millis | Unit::EpochMillis => Some(time),
        };
        let ms = match self {
            Unit::Seconds | Unit::Millis => ms.and_then(|ms| ms.checked_add(now.get() as i64)),
            Unit::EpochSeconds | Unit::EpochMillis => ms,
        };
        ms.ok_or(Refusal::ExpireTime(command))
    }

    /// As [`absolute`](Self::absolute), where a time that is not positive is refused.
    fn absolute_positive(self, time: &[u8], now: UnixMs, command: &'static str) -> Result<i64, Refusal> {
        if integer(time)? <= 0 {
            return Err(Refusal::ExpireTime(command));
        }
        self.absolute(time, now, command)
    }
}

pub(super) fn setex(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_for(context, at[0], argv, Unit::Seconds, "setex", reply)
}

pub(super) fn psetex(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_for(context, at[0], argv, Unit::Millis, "psetex", reply)
}

fn set_for(
    context: &mut Context<'_>,
    at: Located,
    argv: Argv<'_>,
    unit: Unit,
    name: &'static str,
    reply: &mut Reply<'_>,
) -> Outcome {
    let expiry = unit.absolute_positive(argv.arg(2), context.now, name)?;
    let effects = write_until(context, at, argv.arg(1), argv.arg(3), Some(expiry));
    reply.ok();
    Ok(effects)
}

pub(super) fn setnx(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, value) = (argv.arg(1), argv.arg(2));
    if context.read(at[0], key).is_some() {
        reply.integer(0);
        return NOTHING;
    }
    context.store.set_string(at[0], key, value, None);
    reply.integer(1);
    Ok(Effects::One(set_effect(key, value, None)))
}

pub(super) fn getset(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, value) = (argv.arg(1), argv.arg(2));
    reply.bulk_or_null(read(context, at[0], key)?);
    context.store.set_string(at[0], key, value, None);
    Ok(Effects::One(set_effect(key, value, None)))
}

pub(super) fn getdel(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = argv.arg(1);
    let old = read(context, at[0], key)?;
    reply.bulk_or_null(old);
    if old.is_none() {
        return NOTHING;
    }
    context.store.remove(at[0], key);
    Ok(Effects::One(super::del(key)))
}

pub(super) fn getex(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = argv.arg(1);
    enum Change<'a> {
        None,
        Persist,
        At(Unit, &'a [u8]),
    }
    let change = match (argv.get(2), argv.get(3), argv.len()) {
        (None, ..) => Change::None,
        (Some(option), None, _) if option.eq_ignore_ascii_case(b"PERSIST") => Change::Persist,
        (Some(option), Some(time), 4) => Change::At(Unit::parse(option).ok_or(SYNTAX)?, time),
        _ => return Err(SYNTAX),
    };
    // As Redis has it, nobody looks at the time for a missing key.
    let Some(entry) = context.read(at[0], key) else {
        reply.null();
        return NOTHING;
    };
    let value = in_entry(entry)?;
    match change {
        Change::None => {
            reply.bulk(value);
            NOTHING
        }
        Change::Persist => {
            reply.bulk(value);
            if entry.expiry().is_none() {
                return NOTHING;
            }
            context.store.set_expiry(at[0], key, None);
            Ok(Effects::One(Command::new(&[b"PERSIST", key])))
        }
        Change::At(unit, time) => {
            let ms = unit.absolute_positive(time, context.now, "getex")?;
            reply.bulk(value);
            Ok(super::key::expire_at(context, at[0], key, ms))
        }
    }
}

pub(super) fn mset(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let effects = set_pairs(context, at, argv, "mset")?;
    reply.ok();
    Ok(effects)
}

pub(super) fn msetnx(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    if argv.len().is_multiple_of(2) {
        return Err(Refusal::Arity("msetnx"));
    }
    if at.iter().enumerate().any(|(n, &at)| context.read(at, argv.arg(1 + 2 * n)).is_some()) {
        reply.integer(0);
        return NOTHING;
    }
    let effects = set_pairs(context, at, argv, "msetnx")?;
    reply.integer(1);
    Ok(effects)
}

fn set_pairs(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, name: &'static str) -> Outcome {
    if argv.len().is_multiple_of(2) {
        return Err(Refusal::Arity(name));
    }
    for n in 0..at.len() {
        context.room.take([3, argv.arg(1 + 2 * n).len(), argv.arg(2 + 2 * n).len()])?;
    }
    let mut effects = Vec::with_capacity(at.len());
    for (n, &at) in at.iter().enumerate() {
        let (key, value) = (argv.arg(1 + 2 * n), argv.arg(2 + 2 * n));
        context.store.set_string(at, key, value, None);
        effects.push(set_effect(key, value, None));
    }
    Ok(group(effects))
}

pub(super) fn incr(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(add(context.store, at[0].into(), argv.arg(1), 1)?);
    Ok(Effects::Verbatim)
}

pub(super) fn decr(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(add(context.store, at[0].into(), argv.arg(1), -1)?);
    Ok(Effects::Verbatim)
}

pub(super) fn incrby(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(add(context.store, at[0].into(), argv.arg(1), integer(argv.arg(2))?)?);
    Ok(Effects::Verbatim)
}

pub(super) fn decrby(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let by = integer(argv.arg(2))?.checked_neg().ok_or(Refusal::Text("ERR decrement would overflow"))?;
    reply.integer(add(context.store, at[0].into(), argv.arg(1), by)?);
    Ok(Effects::Verbatim)
}

/// Adds to the number at `key`; a missing one is 0.
fn add(store: &mut KeyspaceStore, place: Place, key: &[u8], by: i64) -> Result<i64, Refusal> {
    let (old, expiry) = match store.get(place, key) {
        None => (0, None),
        Some(entry) => (integer(in_entry(entry)?)?, entry.expiry()),
    };
    let new = old.checked_add(by).ok_or(OVERFLOW)?;
    store.set_string(place, key, itoa::Buffer::new().format(new).as_bytes(), expiry);
    Ok(new)
}

pub(super) fn incrbyfloat(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = argv.arg(1);
    let (old, expiry) = match context.read(at[0], key) {
        None => (b"0".as_slice(), None),
        Some(entry) => (in_entry(entry)?, entry.expiry()),
    };
    let new = number::sum(old, argv.arg(2)).map_err(|error| match error {
        SumError::NotANumber => NOT_A_FLOAT,
        SumError::NotFinite => NOT_FINITE,
    })?;
    context.store.set_string(at[0], key, &new, expiry);
    reply.bulk(&new);
    Ok(Effects::One(Command::new(&[b"SET", key, &new, b"KEEPTTL"])))
}

pub(super) fn append(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, tail) = (argv.arg(1), argv.arg(2));
    let was_there = context.store.get(at[0], key).is_some();
    reply.count(append_to(context.store, at[0].into(), key, tail)?);
    if was_there && tail.is_empty() { NOTHING } else { Ok(Effects::Verbatim) }
}

fn append_to(store: &mut KeyspaceStore, place: Place, key: &[u8], tail: &[u8]) -> Result<usize, Refusal> {
    let (len, expiry) = match store.get(place, key) {
        None => (0, None),
        Some(entry) => (in_entry(entry)?.len(), entry.expiry()),
    };
    let new_len = len + tail.len();
    if new_len > BULK_BYTES_MAX {
        return Err(TOO_LONG);
    }
    let is_done = store.update(place, key, |value| {
        let Value::Str(bytes) = value else { return };
        bytes.extend_from_slice(tail);
    });
    if is_done.is_none() {
        let mut whole = Vec::with_capacity(new_len);
        if let Some(entry) = store.get(place, key) {
            whole.extend_from_slice(in_entry(entry)?);
        }
        whole.extend_from_slice(tail);
        store.set_string(place, key, &whole, expiry);
    }
    Ok(new_len)
}

pub(super) fn setrange(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let offset = integer(argv.arg(2))?;
    let offset = usize::try_from(offset).map_err(|_| Refusal::Text("ERR offset is out of range"))?;
    let len = set_range(context.store, at[0].into(), argv.arg(1), offset, argv.arg(3))?;
    reply.count(len);
    if argv.arg(3).is_empty() { NOTHING } else { Ok(Effects::Verbatim) }
}

/// Overwrites a part of a string, which grows with zeros where it is too short. Returns its length.
pub(super) fn set_range(
    store: &mut KeyspaceStore,
    place: Place,
    key: &[u8],
    offset: usize,
    part: &[u8],
) -> Result<usize, Refusal> {
    let (len, expiry) = match store.get(place, key) {
        None => (0, None),
        Some(entry) => (in_entry(entry)?.len(), entry.expiry()),
    };
    if part.is_empty() {
        return Ok(len);
    }
    let end = offset.saturating_add(part.len());
    if end > BULK_BYTES_MAX {
        return Err(TOO_LONG);
    }
    let write = |bytes: &mut Buffer| {
        bytes.lengthen(end);
        bytes[offset..end].copy_from_slice(part);
    };
    let is_done = store.update(place, key, |value| {
        if let Value::Str(bytes) = value {
            write(bytes);
        }
    });
    if is_done.is_none() {
        let mut whole = match store.get(place, key) {
            Some(entry) => Buffer::from(in_entry(entry)?),
            None => Buffer::default(),
        };
        write(&mut whole);
        store.set_string(place, key, &whole, expiry);
    }
    Ok(len.max(end))
}

// ── effects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[inline]
pub(super) fn apply_set(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let (key, value) = (argv.arg(1), argv.arg(2));
    let expiry = match argv.len() {
        3 => None,
        4 if argv.arg(3).eq_ignore_ascii_case(b"KEEPTTL") => store.get(place, key).and_then(|entry| entry.expiry()),
        5 if argv.arg(3).eq_ignore_ascii_case(b"PXAT") => Some(epoch_millis(argv.arg(4))?),
        _ => return Err(Misfit::Form),
    };
    store.set_string(place, key, value, expiry);
    Ok(())
}

/// A time as effects say it.
pub(super) fn epoch_millis(text: &[u8]) -> Result<UnixMs, Misfit> {
    let ms = number::integer(text).and_then(|ms| u64::try_from(ms).ok());
    ms.map(UnixMs::new).ok_or(Misfit::Form)
}

pub(super) fn apply_incr(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    add(store, place, argv.arg(1), 1)?;
    Ok(())
}

pub(super) fn apply_decr(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    add(store, place, argv.arg(1), -1)?;
    Ok(())
}

pub(super) fn apply_incrby(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let by = number::integer(argv.arg(2)).ok_or(Misfit::Form)?;
    add(store, place, argv.arg(1), by)?;
    Ok(())
}

pub(super) fn apply_decrby(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let by = number::integer(argv.arg(2)).and_then(i64::checked_neg).ok_or(Misfit::Form)?;
    add(store, place, argv.arg(1), by)?;
    Ok(())
}

pub(super) fn apply_append(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    append_to(store, place, argv.arg(1), argv.arg(2))?;
    Ok(())
}

pub(super) fn apply_setrange(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let offset = number::integer(argv.arg(2)).and_then(|offset| usize::try_from(offset).ok()).ok_or(Misfit::Form)?;
    set_range(store, place, argv.arg(1), offset, argv.arg(3))?;
    Ok(())
}
