//! Commands on keys of any type, and on the keyspace as a whole.
//!
//! `SCAN`, `KEYS`, `DBSIZE`, `RANDOMKEY` and `FLUSHALL` name no key: what they do here is one shard's part; who has several
//! shards joins the parts.

use super::glob;
use super::recreate::{apply_all, expire_effect, recreate};
use super::refusal::{NO_SUCH_KEY, Refusal, SYNTAX};
use super::string::{Unit, epoch_millis, integer};
use super::{Context, Misfit, NOTHING, Outcome, group, has_expired};
use crate::id::{SlotRange, UnixMs};
use crate::resp::{Protocol, Reply};
use crate::snapshot::record::Kind;
use crate::snapshot::{Copy, Digest, Keyspace, Located};
use crate::store::{KeyspaceStore, Place, ScanCursor};
use crate::wire::{Argv, Command, Effects};

/// The name of a type, as `TYPE` says it.
pub fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "string",
        Kind::Hash => "hash",
        Kind::List => "list",
        Kind::Set => "set",
        Kind::Zset => "zset",
        Kind::Stream => "stream",
    }
}

// ── existence ───────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn del(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    argv.skip(1).iter().try_for_each(|key| super::take_del(&mut context.room, key))?;
    let mut effects = Vec::new();
    for (index, &at) in at.iter().enumerate() {
        let key = argv.arg(index + 1);
        if context.store.remove(at, key) {
            effects.push(super::del(key));
        }
    }
    reply.count(effects.len());
    Ok(group(effects))
}

pub(super) fn exists(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(at.iter().enumerate().filter(|(index, at)| context.read(**at, argv.arg(index + 1)).is_some()).count());
    NOTHING
}

pub(super) fn kind(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.simple(context.read(at[0], argv.arg(1)).map_or("none", |entry| type_name(entry.value().kind())));
    NOTHING
}

pub(super) fn apply_del(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    if argv.len() != 2 {
        return Err(Misfit::Form);
    }
    store.remove(place, argv.arg(1));
    Ok(())
}

// ── expiry ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Lets `key`, which is there, expire at `ms` of the epoch; at once, if that is over.
pub(super) fn expire_at(context: &mut Context<'_>, at: Located, key: &[u8], ms: i64) -> Effects {
    let expiry = UnixMs::new(ms.max(0) as u64);
    if expiry <= context.now {
        context.store.remove(at, key);
        return Effects::One(super::del(key));
    }
    context.store.set_expiry(at, key, Some(expiry));
    Effects::One(expire_effect(key, expiry))
}

pub(super) fn expire(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_by(context, at[0], argv, Unit::Seconds, "expire", reply)
}

pub(super) fn pexpire(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_by(context, at[0], argv, Unit::Millis, "pexpire", reply)
}

pub(super) fn expireat(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_by(context, at[0], argv, Unit::EpochSeconds, "expireat", reply)
}

pub(super) fn pexpireat(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_by(context, at[0], argv, Unit::EpochMillis, "pexpireat", reply)
}

fn expire_by(
    context: &mut Context<'_>,
    at: Located,
    argv: Argv<'_>,
    unit: Unit,
    name: &'static str,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in argv.skip(3).iter() {
        match option.to_ascii_uppercase().as_slice() {
            b"NX" => nx = true,
            b"XX" => xx = true,
            b"GT" => gt = true,
            b"LT" => lt = true,
            _ => return Err(Refusal::UnsupportedOption(option.escape_ascii().to_string())),
        }
    }
    if nx && (xx || gt || lt) {
        return Err(Refusal::Text("ERR NX and XX, GT or LT options at the same time are not compatible"));
    }
    if gt && lt {
        return Err(Refusal::Text("ERR GT and LT options at the same time are not compatible"));
    }
    let key = argv.arg(1);
    let new = unit.absolute(argv.arg(2), context.now, name)?;
    let Some(entry) = context.read(at, key) else {
        reply.integer(0);
        return NOTHING;
    };
    // A key without expiry lives for ever: later than everything.
    let old = entry.expiry().map(|old| old.get() as i64);
    let refused = nx && old.is_some()
        || xx && old.is_none()
        || gt && old.is_none_or(|old| new <= old)
        || lt && old.is_some_and(|old| new >= old);
    if refused {
        reply.integer(0);
        return NOTHING;
    }
    reply.integer(1);
    Ok(expire_at(context, at, key, new))
}

pub(super) fn persist(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = argv.arg(1);
    let expires = context.read(at[0], key).is_some_and(|entry| entry.expiry().is_some());
    reply.integer(i64::from(expires));
    if !expires {
        return NOTHING;
    }
    context.store.set_expiry(at[0], key, None);
    Ok(Effects::Verbatim)
}

pub(super) fn ttl(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(in_seconds(time_to_live(context, at[0], argv.arg(1))));
    NOTHING
}

pub(super) fn pttl(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(time_to_live(context, at[0], argv.arg(1)));
    NOTHING
}

pub(super) fn expiretime(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(in_seconds(expiry_of(context, at[0], argv.arg(1))));
    NOTHING
}

pub(super) fn pexpiretime(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.integer(expiry_of(context, at[0], argv.arg(1)));
    NOTHING
}

/// The expiry in milliseconds of the epoch, -1 without one, -2 without a key.
fn expiry_of(context: &Context<'_>, at: Located, key: &[u8]) -> i64 {
    context.read(at, key).map_or(-2, |entry| entry.expiry().map_or(-1, |expiry| expiry.get() as i64))
}

fn time_to_live(context: &Context<'_>, at: Located, key: &[u8]) -> i64 {
    let expiry = expiry_of(context, at, key);
    if expiry < 0 { expiry } else { expiry - context.now.get() as i64 }
}

/// Milliseconds as the nearest second; what is negative is no time.
fn in_seconds(ms: i64) -> i64 {
    if ms < 0 { ms } else { ms.saturating_add(500) / 1_000 }
}

pub(super) fn apply_pexpireat(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    if argv.len() != 3 {
        return Err(Misfit::Form);
    }
    store.set_expiry(place, argv.arg(1), Some(epoch_millis(argv.arg(2))?));
    Ok(())
}

pub(super) fn apply_persist(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    store.set_expiry(place, argv.arg(1), None);
    Ok(())
}

// ── renaming ────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn rename(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let effects = move_value(context, at, argv)?;
    reply.ok();
    Ok(effects)
}

pub(super) fn renamenx(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    if context.read(at[0], argv.arg(1)).is_none() {
        return Err(NO_SUCH_KEY);
    }
    if context.read(at[1], argv.arg(2)).is_some() {
        reply.integer(0);
        return NOTHING;
    }
    let effects = move_value(context, at, argv)?;
    reply.integer(1);
    Ok(effects)
}

/// Gives the value of argument 1 to argument 2, by the very effects that a replica will apply.
fn move_value(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>) -> Outcome {
    let (from, to) = (argv.arg(1), argv.arg(2));
    let entry = context.read(at[0], from).ok_or(NO_SUCH_KEY)?;
    if from == to {
        return NOTHING;
    }
    let mut room = context.room;
    super::take_del(&mut room, from)?;
    super::take_del(&mut room, to)?;
    let mut effects = vec![super::del(from)];
    if context.store.get(at[1], to).is_some() {
        effects.push(super::del(to));
    }
    let deleted = effects.len();
    recreate(&entry, to, &mut room, &mut effects)?;
    context.store.remove(at[0], from);
    context.store.remove(at[1], to);
    apply_all(context.store, at[1], &effects[deleted..]);
    Ok(Effects::Group(effects))
}

pub(super) fn copy(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (from, to) = (argv.arg(1), argv.arg(2));
    let mut replaces = false;
    let mut index = 3;
    while let Some(option) = argv.get(index) {
        if option.eq_ignore_ascii_case(b"REPLACE") {
            replaces = true;
            index += 1;
        } else if let (true, Some(number)) = (option.eq_ignore_ascii_case(b"DB"), argv.get(index + 1)) {
            only_database(number)?;
            index += 2;
        } else {
            return Err(SYNTAX);
        }
    }
    if from == to {
        return Err(SAME_OBJECT);
    }
    let is_taken = context.read(at[1], to).is_some();
    let Some(entry) = context.read(at[0], from).filter(|_| replaces || !is_taken) else {
        reply.integer(0);
        return NOTHING;
    };
    let mut room = context.room;
    super::take_del(&mut room, to)?;
    let mut effects = Vec::new();
    if is_taken {
        effects.push(super::del(to));
    }
    let deleted = effects.len();
    recreate(&entry, to, &mut room, &mut effects)?;
    context.store.remove(at[1], to);
    apply_all(context.store, at[1], &effects[deleted..]);
    reply.integer(1);
    Ok(group(effects))
}

const SAME_OBJECT: Refusal = Refusal::Text("ERR source and destination objects are the same");

/// There is one database, number 0.
fn only_database(number: &[u8]) -> Result<(), Refusal> {
    match i32::try_from(integer(number)?) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Refusal::Text("ERR DB index is out of range")),
        Err(_) => Err(Refusal::Text("ERR value is out of range, value must between -2147483648 and 2147483647")),
    }
}

/// `MOVE`: to the only database there is.
pub(super) fn move_away(_: &mut Context<'_>, _: &[Located], argv: Argv<'_>, _: &mut Reply<'_>) -> Outcome {
    only_database(argv.arg(2))?;
    Err(SAME_OBJECT)
}

// ── the whole keyspace ──────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn dbsize(context: &mut Context<'_>, _: &[Located], _: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(context.store.len());
    NOTHING
}

pub(super) fn randomkey(context: &mut Context<'_>, _: &[Located], _: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    // Where nearly all have expired, giving up beats searching for ever.
    for _ in 0..100 {
        match context.store.random_key(context.random.number()) {
            Some(entry) if has_expired(&entry, context.now) => {}
            Some(entry) => {
                reply.bulk(entry.key());
                return NOTHING;
            }
            None => break,
        }
    }
    reply.null();
    NOTHING
}

pub(super) fn keys(context: &mut Context<'_>, _: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut found = Vec::new();
    let count = keys_fitting(context.store, context.now, argv.arg(1), reply.protocol(), &mut found);
    reply.array(count);
    reply.raw(&found);
    NOTHING
}

/// Appends to `out`, as replies, the keys that fit a pattern and have not expired, and returns how many: `KEYS` of one shard.
pub fn keys_fitting(
    store: &KeyspaceStore,
    now: UnixMs,
    pattern: &[u8],
    protocol: Protocol,
    out: &mut Vec<u8>,
) -> usize {
    let mut reply = Reply::new(out, protocol);
    let mut count = 0;
    store.scan(ScanCursor::START, usize::MAX, |entry| {
        if !has_expired(&entry, now) && glob::fits(pattern, entry.key()) {
            reply.bulk(entry.key());
            count += 1;
        }
    });
    count
}

/// The digest of the live keys in `slots`, expired ones included: what `DEBUG DIGEST` adds up over the shards.
pub fn digest(store: &KeyspaceStore, slots: SlotRange) -> Digest {
    let mut sum = Digest::default();
    slots.iter().for_each(|slot| sum += store.digest(Copy::Live, slot));
    sum
}

pub(super) fn flush(context: &mut Context<'_>, _: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    match argv.get(1) {
        None => {}
        Some(how) if argv.len() == 2 && (how.eq_ignore_ascii_case(b"ASYNC") || how.eq_ignore_ascii_case(b"SYNC")) => {}
        Some(_) => return Err(SYNTAX),
    }
    context.store.clear_slots(SlotRange::ALL);
    reply.ok();
    Ok(Effects::One(Command::new(&[b"FLUSHALL"])))
}
