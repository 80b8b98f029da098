//! Effects made of many members: those that make a value anew under some key, which is how RENAME is said without naming two
//! keys in one effect, and those that take chosen members away.
//!
//! ```text
//! string       SET k piece, APPEND k piece …
//! hash         HSET k field value …          each command with about 64 KiB of payload,
//! list         RPUSH k element …             a single larger member alone in its own
//! set          SADD k member …
//! sorted set   ZADD k score member …
//! times        HPEXPIREAT k ms FIELDS n field …, those that expire together
//! stream       XADD k id field value …, each; XSETID; what its groups have
//! expiry       PEXPIREAT k ms, last
//! ```

use super::group as group_of;
use super::refusal::Refusal;
use super::stream::{counters_effect, group};
use super::string::set_effect;
use crate::id::UnixMs;
use crate::limits::EFFECT_BYTES_TARGET;
use crate::resp::{arguments_of, double};
use crate::snapshot::{Copy, Located};
use crate::store::value::Stream;
use crate::store::value::stream::StreamId;
use crate::store::value::times::Times;
use crate::store::{Entry, KeyspaceStore, Value, ValueRef};
use crate::wire::{Command, Effects, Full, Room};

/// Bytes that an argument takes beside its own, at most.
const ARG_BYTES: usize = 16;

/// Appends to `out` what makes the value of `entry`, with its expiry, the value of `key`, which has none, and takes its room.
///
/// # Errors
/// If there is not so much; `out` is then in between.
pub(super) fn recreate(entry: &Entry<'_>, key: &[u8], room: &mut Room, out: &mut Vec<Command>) -> Result<(), Full> {
    match entry.value() {
        ValueRef::Boxed(Value::Stream(value)) => stream(value, key, room, out)?,
        ValueRef::Str(bytes) => string(bytes, key, room, out)?,
        ValueRef::Boxed(Value::Str(bytes)) => string(bytes, key, room, out)?,
        ValueRef::Boxed(Value::Hash(hash)) => {
            let mut pieces = Pieces::new(b"HSET", key, room, out);
            hash.iter().try_for_each(|(field, value)| pieces.push([field, value]))?;
            pieces.end()?;
            hash.times().map_or(Ok(()), |times| times_of_fields(times, key, room, out))?;
        }
        ValueRef::Boxed(Value::List(list)) => {
            let mut pieces = Pieces::new(b"RPUSH", key, room, out);
            list.iter().try_for_each(|element| pieces.push([element]))?;
            pieces.end()?;
        }
        ValueRef::Boxed(Value::Set(set)) => {
            let mut pieces = Pieces::new(b"SADD", key, room, out);
            set.iter().try_for_each(|member| pieces.push([member]))?;
            pieces.end()?;
        }
        ValueRef::Boxed(Value::Zset(zset)) => {
            let mut pieces = Pieces::new(b"ZADD", key, room, out);
            let mut text = Vec::new();
            for (member, score) in zset.iter() {
                text.clear();
                double::write(score, &mut text);
                pieces.push([&text, member])?;
            }
            pieces.end()?;
        }
    }
    if let Some(expiry) = entry.expiry() {
        push(expire_effect(key, expiry), room, out)?;
    }
    Ok(())
}

fn stream(stream: &Stream, key: &[u8], room: &mut Room, out: &mut Vec<Command>) -> Result<(), Full> {
    for entry in stream.range(StreamId::MIN, StreamId::MAX) {
        let id = entry.id().to_string();
        let args: Vec<&[u8]> = [&b"XADD"[..], key, id.as_bytes()].into_iter().chain(entry.words()).collect();
        push(Command::new(&args), room, out)?;
    }
    if stream.is_empty() {
        // An entry that goes at once makes a stream without any.
        push(Command::new(&[&b"XADD"[..], key, b"MAXLEN", b"=", b"0", b"0-1", b"x", b"y"]), room, out)?;
    }
    push(counters_effect(key, stream.counters()), room, out)?;
    let mut fits = Ok(());
    for (name, group) in stream.groups() {
        group::recreate(key, name, group, |command| fits = fits.and_then(|()| push(command, room, out)));
    }
    fits
}

/// Gives `key` this value, whatever it had before, and says so; an aggregate without members takes the key away.
///
/// # Errors
/// If there is no room for that; nothing has changed then.
pub(super) fn replace(
    store: &mut KeyspaceStore,
    mut room: Room,
    at: Located,
    key: &[u8],
    value: Value,
    expiry: Option<UnixMs>,
) -> Result<Effects, Refusal> {
    let mut effects = Vec::new();
    if let Value::Str(bytes) = &value {
        // SET replaces what is there, whatever it is.
        match expiry {
            Some(_) if bytes.len() <= EFFECT_BYTES_TARGET => {
                push(set_effect(key, bytes, expiry), &mut room, &mut effects)?;
            }
            _ => {
                recreate(&Entry { key, expiry, value: ValueRef::Boxed(&value) }, key, &mut room, &mut effects)?;
            }
        }
        store.set_string(at, key, bytes, expiry);
        return Ok(group_of(effects));
    }
    if store.get(at, key).is_some() {
        push(super::del(key), &mut room, &mut effects)?;
    }
    if value.is_empty() {
        store.remove(at, key);
    } else {
        recreate(&Entry { key, expiry, value: ValueRef::Boxed(&value) }, key, &mut room, &mut effects)?;
        store.set_value(at, key, Box::new(value), expiry);
    }
    Ok(group_of(effects))
}

/// Applies what [`recreate`] made to `key`, which is not there.
pub(super) fn apply_all(store: &mut KeyspaceStore, at: Located, effects: &[Command]) {
    let mut ranges = Vec::new();
    for effect in effects {
        ranges.clear();
        let applied = super::apply(store, Copy::Live, at, arguments_of(effect, &mut ranges));
        debug_assert_eq!(applied, Ok(()), "what recreates a value fits a missing key");
    }
}

/// The effect of an expiry.
pub(super) fn expire_effect(key: &[u8], expiry: UnixMs) -> Command {
    Command::new(&[b"PEXPIREAT", key, itoa::Buffer::new().format(expiry.get()).as_bytes()])
}

/// The effect of a time at which fields expire.
pub(super) fn expire_fields_effect(key: &[u8], at: UnixMs, fields: &[&[u8]]) -> Command {
    let (time, count) = (at.get().to_string(), fields.len().to_string());
    let head = [b"HPEXPIREAT", key, time.as_bytes(), b"FIELDS", count.as_bytes()];
    Command::new(&[&head, fields].concat())
}

fn times_of_fields(times: &Times, key: &[u8], room: &mut Room, out: &mut Vec<Command>) -> Result<(), Full> {
    let all: Vec<(UnixMs, &[u8])> = times.iter().collect();
    for together in all.chunk_by(|(a, _), (b, _)| a == b) {
        let (mut fields, mut bytes) = (Vec::new(), 0);
        for (at, field) in together {
            if bytes > 0 && bytes + field.len() + ARG_BYTES > EFFECT_BYTES_TARGET {
                push(expire_fields_effect(key, *at, &fields), room, out)?;
                (fields, bytes) = (Vec::new(), 0);
            }
            fields.push(*field);
            bytes += field.len() + ARG_BYTES;
        }
        if let Some((at, _)) = together.first() {
            push(expire_fields_effect(key, *at, &fields), room, out)?;
        }
    }
    Ok(())
}

/// The effects of taking `members`, which are not none, away from `key` by `verb`; all of them at once is the end of the key.
///
/// # Errors
/// If there is no room for that.
pub(super) fn removal<'a>(
    mut room: Room,
    verb: &[u8],
    key: &[u8],
    mut members: impl Iterator<Item = &'a [u8]>,
    is_all: bool,
) -> Result<Effects, Refusal> {
    let (first, mut others) = (members.next(), members.peekable());
    // Mostly it is one, and costs one allocation.
    let only = match (is_all, first, others.peek()) {
        (true, ..) => Some(super::del(key)),
        (false, Some(first), None) => Some(Command::new(&[verb, key, first])),
        _ => None,
    };
    if let Some(command) = only {
        room.take_command(&command)?;
        return Ok(Effects::One(command));
    }
    let mut out = Vec::new();
    let mut pieces = Pieces::new(verb, key, &mut room, &mut out);
    for member in first.into_iter().chain(others) {
        pieces.push([member])?;
    }
    pieces.end()?;
    Ok(group_of(out))
}

fn string(bytes: &[u8], key: &[u8], room: &mut Room, out: &mut Vec<Command>) -> Result<(), Full> {
    let (first, others) = bytes.split_at(bytes.len().min(EFFECT_BYTES_TARGET));
    push(Command::new(&[b"SET", key, first]), room, out)?;
    others.chunks(EFFECT_BYTES_TARGET).try_for_each(|piece| push(Command::new(&[b"APPEND", key, piece]), room, out))
}

fn push(command: Command, room: &mut Room, out: &mut Vec<Command>) -> Result<(), Full> {
    room.take_command(&command)?;
    out.push(command);
    Ok(())
}

/// Gathers members into commands.
pub(super) struct Pieces<'a> {
    verb: &'a [u8],
    key: &'a [u8],
    args: Vec<Vec<u8>>,
    /// Bytes of `args`, encoded, about: members without a byte make a large command, too.
    payload: usize,
    room: &'a mut Room,
    out: &'a mut Vec<Command>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(verb: &'a [u8], key: &'a [u8], room: &'a mut Room, out: &'a mut Vec<Command>) -> Pieces<'a> {
        Pieces { verb, key, args: Vec::new(), payload: 0, room, out }
    }

    pub(super) fn push<const N: usize>(&mut self, member: [&[u8]; N]) -> Result<(), Full> {
        let bytes: usize = member.iter().map(|arg| arg.len() + ARG_BYTES).sum();
        if self.payload > 0 && self.payload + bytes > EFFECT_BYTES_TARGET {
            self.flush()?;
        }
        self.args.extend(member.map(<[u8]>::to_vec));
        self.payload += bytes;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Full> {
        let mut command: Vec<&[u8]> = vec![self.verb, self.key];
        command.extend(self.args.iter().map(Vec::as_slice));
        push(Command::new(&command), self.room, self.out)?;
        self.args.clear();
        self.payload = 0;
        Ok(())
    }

    pub(super) fn end(mut self) -> Result<(), Full> {
        if self.args.is_empty() { Ok(()) } else { self.flush() }
    }
}
