//! Commands on hashes.

use super::aggregate::{Missing, in_entry, read, write};
use super::fields::{NOT_A_COUNT, named, shown};
use super::number::{self, SumError};
use super::random::Draw;
use super::recreate::expire_fields_effect;
use super::refusal::{NOT_A_FLOAT, NOT_FINITE, OVERFLOW, Refusal};
use super::string::integer;
use super::{Context, Misfit, NOTHING, Outcome, group};
use crate::resp::{Protocol, Reply};
use crate::snapshot::Located;
use crate::store::value::Hash;
use crate::store::value::hash::Shown;
use crate::store::{KeyspaceStore, Place};
use crate::wire::{Argv, Command, Effects};

// ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn hget(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk_or_null(shown(context, at[0], argv.arg(1))?.and_then(|hash| hash.get(argv.arg(2))));
    NOTHING
}

pub(super) fn hmget(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let hash = shown(context, at[0], argv.arg(1))?;
    reply.array(argv.len() - 2);
    for field in argv.skip(2).iter() {
        reply.bulk_or_null(hash.and_then(|hash| hash.get(field)));
    }
    NOTHING
}

pub(super) fn hgetall(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let hash = shown(context, at[0], argv.arg(1))?;
    reply.map(hash.map_or(0, Shown::len));
    for (field, value) in hash.into_iter().flat_map(Shown::iter) {
        reply.bulk(field);
        reply.bulk(value);
    }
    NOTHING
}

pub(super) fn hkeys(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let hash = shown(context, at[0], argv.arg(1))?;
    reply.array(hash.map_or(0, Shown::len));
    hash.into_iter().flat_map(Shown::iter).for_each(|(field, _)| reply.bulk(field));
    NOTHING
}

pub(super) fn hvals(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let hash = shown(context, at[0], argv.arg(1))?;
    reply.array(hash.map_or(0, Shown::len));
    hash.into_iter().flat_map(Shown::iter).for_each(|(_, value)| reply.bulk(value));
    NOTHING
}

pub(super) fn hlen(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(shown(context, at[0], argv.arg(1))?.map_or(0, Shown::len));
    NOTHING
}

pub(super) fn hexists(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let found = shown(context, at[0], argv.arg(1))?.and_then(|hash| hash.get(argv.arg(2)));
    reply.integer(i64::from(found.is_some()));
    NOTHING
}

pub(super) fn hstrlen(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let found = shown(context, at[0], argv.arg(1))?.and_then(|hash| hash.get(argv.arg(2)));
    reply.count(found.map_or(0, <[u8]>::len));
    NOTHING
}

pub(super) fn hrandfield(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (count, with_values) = Draw::parse(argv, b"WITHVALUES")?;
    let Context { store, random, now, .. } = context;
    let entry = store.get(at[0], argv.arg(1)).filter(|entry| !super::has_expired(entry, *now));
    let hash = entry.map(in_entry::<Hash>).transpose()?.map(|hash| hash.shown(*now)).filter(|hash| !hash.is_empty());
    match (hash, count) {
        (None, None) => reply.null(),
        (None, Some(_)) => reply.array(0),
        (Some(hash), None) => {
            let chosen = hash.nths([random.below(hash.len())]);
            reply.bulk_or_null(chosen.first().map(|(field, _)| *field));
        }
        (Some(hash), Some(count)) => {
            let drawn = count.draw(random, hash.len());
            let is_nested = with_values && reply.protocol() == Protocol::Resp3;
            reply.array(drawn.len() * if with_values && !is_nested { 2 } else { 1 });
            for (field, value) in hash.nths(drawn) {
                if is_nested {
                    reply.array(2);
                }
                reply.bulk(field);
                if with_values {
                    reply.bulk(value);
                }
            }
        }
    }
    NOTHING
}

// ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn hset(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(set_pairs(context, at[0], argv, "hset")?);
    Ok(Effects::Verbatim)
}

pub(super) fn hmset(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_pairs(context, at[0], argv, "hmset")?;
    reply.ok();
    Ok(Effects::Verbatim)
}

fn set_pairs(context: &mut Context<'_>, at: Located, argv: Argv<'_>, name: &'static str) -> Result<usize, Refusal> {
    if !argv.len().is_multiple_of(2) {
        return Err(Refusal::Arity(name));
    }
    set_all(context.store, at.into(), argv)
}

/// Sets the fields from argument 2 on, and returns how many are new.
fn set_all(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<usize, Refusal> {
    let added = write(store, place, argv.arg(1), Missing::Create, |hash: &mut Hash| {
        (2..argv.len()).step_by(2).filter(|&index| hash.set(argv.arg(index), argv.arg(index + 1))).count()
    })?;
    Ok(added.unwrap_or(0))
}

pub(super) fn hsetnx(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, field, value) = (argv.arg(1), argv.arg(2), argv.arg(3));
    if read::<Hash>(context, at[0], key)?.is_some_and(|hash| hash.get(field).is_some()) {
        reply.integer(0);
        return NOTHING;
    }
    write(context.store, at[0].into(), key, Missing::Create, |hash: &mut Hash| hash.set(field, value))?;
    reply.integer(1);
    Ok(Effects::One(Command::new(&[b"HSET", key, field, value])))
}

pub(super) fn hdel(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let removed = remove_all(context.store, at[0].into(), argv)?;
    reply.count(removed);
    Ok(if removed > 0 { Effects::Verbatim } else { Effects::None })
}

/// `HGETDEL key FIELDS numfields field…`: the values of fields, which are gone then.
pub(super) fn hgetdel(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let fields = named(argv, 2, NOT_A_COUNT)?;
    let key = argv.arg(1);
    let mut effect = vec![b"HDEL".as_slice(), key];
    let there = read::<Hash>(context, at[0], key)?.is_some();
    reply.array(fields.len());
    if !there {
        fields.iter().for_each(|_| reply.null());
        return NOTHING;
    }
    write(context.store, at[0].into(), key, Missing::Leave, |hash: &mut Hash| {
        for field in fields.iter() {
            reply.bulk_or_null(hash.get(field));
            if hash.remove(field) {
                effect.push(field);
            }
        }
    })?;
    Ok(if effect.len() > 2 { Effects::One(Command::new(&effect)) } else { Effects::None })
}

/// Removes the fields from argument 2 on, and returns how many were there.
fn remove_all(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<usize, Refusal> {
    let removed = write(store, place, argv.arg(1), Missing::Leave, |hash: &mut Hash| {
        argv.skip(2).iter().filter(|field| hash.remove(field)).count()
    })?;
    Ok(removed.unwrap_or(0))
}

pub(super) fn hincrby(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let by = integer(argv.arg(3))?;
    reply.integer(add(context.store, at[0].into(), argv.arg(1), argv.arg(2), by)?);
    Ok(Effects::Verbatim)
}

/// Adds to the number in a field; a missing one is 0.
fn add(store: &mut KeyspaceStore, place: Place, key: &[u8], field: &[u8], by: i64) -> Result<i64, Refusal> {
    let new = write(store, place, key, Missing::Create, |hash: &mut Hash| {
        let old = match hash.get(field) {
            None => 0,
            Some(text) => number::integer(text).ok_or(Refusal::Text("ERR hash value is not an integer"))?,
        };
        let new = old.checked_add(by).ok_or(OVERFLOW)?;
        hash.change(field, itoa::Buffer::new().format(new).as_bytes());
        Ok(new)
    })?;
    new.unwrap_or(Ok(by))
}

pub(super) fn hincrbyfloat(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (key, field, by) = (argv.arg(1), argv.arg(2), argv.arg(3));
    number::float(by).ok_or(NOT_A_FLOAT)?;
    let hash = read::<Hash>(context, at[0], key)?;
    let old = hash.and_then(|hash| hash.get(field)).unwrap_or(b"0");
    let new = number::sum(old, by).map_err(|error| match error {
        SumError::NotANumber => Refusal::Text("ERR hash value is not a float"),
        SumError::NotFinite => NOT_FINITE,
    })?;
    let mut effects = vec![Command::new(&[b"HSET", key, field, &new])];
    if let Some(time) = hash.and_then(|hash| hash.time_of(field)) {
        // What is set loses its time, and gets it again.
        effects.push(expire_fields_effect(key, time, &[field]));
        effects.iter().try_for_each(|effect| context.room.take_command(effect))?;
    }
    write(context.store, at[0].into(), key, Missing::Create, |hash: &mut Hash| hash.change(field, &new))?;
    reply.bulk(&new);
    Ok(group(effects))
}

// ── effects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn apply_hset(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    if !argv.len().is_multiple_of(2) {
        return Err(Misfit::Form);
    }
    set_all(store, place, argv)?;
    Ok(())
}

pub(super) fn apply_hdel(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    remove_all(store, place, argv)?;
    Ok(())
}

pub(super) fn apply_hincrby(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let by = number::integer(argv.arg(3)).ok_or(Misfit::Form)?;
    add(store, place, argv.arg(1), argv.arg(2), by)?;
    Ok(())
}
