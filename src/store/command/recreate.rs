//! Effects made of many members: those that make a value anew under some key, which is how RENAME is said without naming two
//! keys in one effect, and those that take chosen members away.
//!
//! ```text
//! string       SET k piece, APPEND k piece …
//! hash         HSET k field value …          each command with about 64 KiB of payload,
//! list         RPUSH k element …             a single larger member alone in its own
//! set          SADD k member …
//! sorted set   ZADD k score member …
//! expiry       PEXPIREAT k ms, last
//! ```

use super::group;
use super::refusal::{Refusal, TOO_LARGE};
use super::string::set_effect;
use crate::id::UnixMs;
use crate::limits::{COMMAND_BYTES_MAX, EFFECT_BYTES_TARGET};
use crate::resp::{decode_multibulk, double};
use crate::snapshot::{Copy, Located};
use crate::store::{Entry, KeyspaceStore, Value, ValueRef};
use crate::wire::{Argv, Command, Effects};

/// Bytes that an argument takes beside its own, at most.
const ARG_BYTES: usize = 16;

/// Appends to `out` what makes the value of `entry`, with its expiry, the value of `key`, which has none.
///
/// # Errors
/// If that would be more than the largest command; `out` is then in between.
pub(super) fn recreate(entry: &Entry<'_>, key: &[u8], out: &mut Vec<Command>) -> Result<(), Refusal> {
    match entry.value() {
        ValueRef::Str(bytes) => string(bytes, key, out),
        ValueRef::Boxed(Value::Str(bytes)) => string(bytes, key, out),
        ValueRef::Boxed(Value::Hash(hash)) => {
            let mut pieces = Pieces::new(b"HSET", key, out);
            hash.iter().try_for_each(|(field, value)| pieces.push([field, value]))?;
            pieces.end();
        }
        ValueRef::Boxed(Value::List(list)) => {
            let mut pieces = Pieces::new(b"RPUSH", key, out);
            list.iter().try_for_each(|element| pieces.push([element]))?;
            pieces.end();
        }
        ValueRef::Boxed(Value::Set(set)) => {
            let mut pieces = Pieces::new(b"SADD", key, out);
            set.iter().try_for_each(|member| pieces.push([member]))?;
            pieces.end();
        }
        ValueRef::Boxed(Value::Zset(zset)) => {
            let mut pieces = Pieces::new(b"ZADD", key, out);
            let mut text = Vec::new();
            for (member, score) in zset.iter() {
                text.clear();
                double::write(score, &mut text);
                pieces.push([&text, member])?;
            }
            pieces.end();
        }
    }
    if let Some(expiry) = entry.expiry() {
        out.push(expire_effect(key, expiry));
    }
    Ok(())
}

/// Gives `key` this value, whatever it had before, and says so; an aggregate without members takes the key away.
///
/// # Errors
/// If that would be more than the largest command; nothing has changed then.
pub(super) fn replace(
    store: &mut KeyspaceStore,
    at: Located,
    key: &[u8],
    value: Value,
    expiry: Option<UnixMs>,
) -> Result<Effects, Refusal> {
    let mut effects = Vec::new();
    if let Value::Str(bytes) = &value {
        // SET replaces what is there, whatever it is.
        match expiry {
            Some(_) if bytes.len() <= EFFECT_BYTES_TARGET => effects.push(set_effect(key, bytes, expiry)),
            _ => {
                string(bytes, key, &mut effects);
                effects.extend(expiry.map(|expiry| expire_effect(key, expiry)));
            }
        }
        store.set_string(at, key, bytes, expiry);
        return Ok(group(effects));
    }
    if store.get(at, key).is_some() {
        effects.push(super::del(key));
    }
    if value.is_empty() {
        store.remove(at, key);
    } else {
        recreate(&Entry { key, expiry, value: ValueRef::Boxed(&value) }, key, &mut effects)?;
        store.set_value(at, key, Box::new(value), expiry);
    }
    Ok(group(effects))
}

/// Applies what [`recreate`] made to `key`, which is not there.
pub(super) fn apply_all(store: &mut KeyspaceStore, at: Located, effects: &[Command]) {
    let mut ranges = Vec::new();
    for effect in effects {
        ranges.clear();
        let decoded = decode_multibulk(effect.as_bytes(), &mut ranges);
        debug_assert!(matches!(decoded, Ok(Some(_))), "what was encoded decodes");
        let applied = super::apply(store, Copy::Live, at, Argv::new(effect.as_bytes(), &ranges));
        debug_assert_eq!(applied, Ok(()), "what recreates a value fits a missing key");
    }
}

/// The effect of an expiry.
pub(super) fn expire_effect(key: &[u8], expiry: UnixMs) -> Command {
    Command::new(&[b"PEXPIREAT", key, itoa::Buffer::new().format(expiry.get()).as_bytes()])
}

/// The effects of taking `members`, which are not none, away from `key` by `verb`; all of them at once is the end of the key.
///
/// # Errors
/// If that would be more than the largest command.
pub(super) fn removal<'a>(
    verb: &[u8],
    key: &[u8],
    members: impl Iterator<Item = &'a [u8]>,
    is_all: bool,
) -> Result<Effects, Refusal> {
    if is_all {
        return Ok(Effects::One(super::del(key)));
    }
    let mut out = Vec::new();
    let mut pieces = Pieces::new(verb, key, &mut out);
    for member in members {
        pieces.push([member])?;
    }
    pieces.end();
    Ok(group(out))
}

fn string(bytes: &[u8], key: &[u8], out: &mut Vec<Command>) {
    let first = bytes.len().min(EFFECT_BYTES_TARGET);
    out.push(Command::new(&[b"SET", key, &bytes[..first]]));
    out.extend(bytes[first..].chunks(EFFECT_BYTES_TARGET).map(|piece| Command::new(&[b"APPEND", key, piece])));
}

/// Gathers members into commands.
struct Pieces<'a> {
    verb: &'a [u8],
    key: &'a [u8],
    args: Vec<Vec<u8>>,
    /// Bytes of `args`.
    payload: usize,
    /// Bytes of all, so far.
    total: usize,
    out: &'a mut Vec<Command>,
}

impl<'a> Pieces<'a> {
    fn new(verb: &'a [u8], key: &'a [u8], out: &'a mut Vec<Command>) -> Pieces<'a> {
        Pieces { verb, key, args: Vec::new(), payload: 0, total: 0, out }
    }

    fn push<const N: usize>(&mut self, member: [&[u8]; N]) -> Result<(), Refusal> {
        let bytes: usize = member.iter().map(|arg| arg.len()).sum();
        if self.payload > 0 && self.payload + bytes > EFFECT_BYTES_TARGET {
            self.flush();
        }
        self.args.extend(member.map(<[u8]>::to_vec));
        self.payload += bytes;
        self.total += bytes + N * ARG_BYTES;
        if self.total > COMMAND_BYTES_MAX { Err(TOO_LARGE) } else { Ok(()) }
    }

    fn flush(&mut self) {
        let mut command: Vec<&[u8]> = vec![self.verb, self.key];
        command.extend(self.args.iter().map(Vec::as_slice));
        self.out.push(Command::new(&command));
        self.args.clear();
        self.payload = 0;
    }

    fn end(mut self) {
        if !self.args.is_empty() {
            self.flush();
        }
    }
}
