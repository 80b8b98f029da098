//! Commands on sets.

use super::aggregate::{Missing, in_entry, read, write};
use super::random::Draw;
use super::recreate::{removal, replace};
use super::refusal::{Refusal, SYNTAX};
use super::string::count_of;
use super::{Context, Misfit, NOTHING, Outcome, group, number};
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::value::Set;
use crate::store::{KeyspaceStore, Place, Value};
use crate::wire::{Argv, Command, Effects};

// ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn scard(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(read::<Set>(context, at[0], argv.arg(1))?.map_or(0, Set::len));
    NOTHING
}

pub(super) fn smembers(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let set = read::<Set>(context, at[0], argv.arg(1))?;
    reply.set(set.map_or(0, Set::len));
    set.into_iter().flat_map(Set::iter).for_each(|member| reply.bulk(member));
    NOTHING
}

pub(super) fn sismember(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let found = read::<Set>(context, at[0], argv.arg(1))?.is_some_and(|set| set.contains(argv.arg(2)));
    reply.integer(i64::from(found));
    NOTHING
}

pub(super) fn smismember(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let set = read::<Set>(context, at[0], argv.arg(1))?;
    reply.array(argv.len() - 2);
    for member in argv.skip(2).iter() {
        reply.integer(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    NOTHING
}

pub(super) fn srandmember(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    if argv.len() > 3 {
        return Err(SYNTAX);
    }
    let count = argv.get(2).map(Draw::parse_count).transpose()?;
    let Context { store, random, now, .. } = context;
    let entry = store.get(at[0], argv.arg(1)).filter(|entry| !super::has_expired(entry, *now));
    let set = entry.map(in_entry::<Set>).transpose()?.filter(|set| !set.is_empty());
    match (set, count) {
        (None, None) => reply.null(),
        (None, Some(_)) => reply.array(0),
        (Some(set), None) => reply.bulk_or_null(set.nth(random.below(set.len()))),
        (Some(set), Some(count)) => {
            let drawn = count.draw(random, set.len());
            reply.array(drawn.len());
            drawn.into_iter().for_each(|index| reply.bulk_or_null(set.nth(index)));
        }
    }
    NOTHING
}

// ── combining ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// What is made of several sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Combination {
    /// What is in all of them.
    Inter,
    /// What is in any of them.
    Union,
    /// What is in the first one and in no other.
    Diff,
}

/// The sets at some keys, each of which has a place; `None` for a missing one.
fn sets<'c, 'k>(
    context: &'c Context<'_>,
    at: &[Located],
    keys: impl Iterator<Item = &'k [u8]>,
) -> Result<Vec<Option<&'c Set>>, Refusal> {
    at.iter().zip(keys).map(|(&at, key)| read::<Set>(context, at, key)).collect()
}

/// What is in all of the sets, in the order of the smallest one.
fn intersection(mut sets: Vec<Option<&Set>>) -> impl Iterator<Item = &[u8]> {
    sets.sort_by_key(|set| set.map_or(0, Set::len));
    let mut sets = sets.into_iter();
    let smallest = sets.next().flatten();
    // Where one is missing, the smallest is.
    let others: Vec<&Set> = sets.flatten().collect();
    smallest.into_iter().flat_map(Set::iter).filter(move |member| others.iter().all(|set| set.contains(member)))
}

fn combined(how: Combination, sets: Vec<Option<&Set>>) -> Set {
    let mut result = Set::new();
    match how {
        Combination::Inter => intersection(sets).for_each(|member| _ = result.insert(member)),
        Combination::Union => {
            sets.into_iter().flatten().flat_map(Set::iter).for_each(|member| _ = result.insert(member))
        }
        Combination::Diff => {
            let mut sets = sets.into_iter();
            let first = sets.next().flatten();
            let others: Vec<&Set> = sets.flatten().collect();
            let stays = |member: &&[u8]| !others.iter().any(|set| set.contains(member));
            first.into_iter().flat_map(Set::iter).filter(stays).for_each(|member| _ = result.insert(member));
        }
    }
    result
}

fn combine(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
    how: Combination,
) -> Outcome {
    let set = combined(how, sets(context, at, argv.iter().skip(1))?);
    reply.set(set.len());
    set.iter().for_each(|member| reply.bulk(member));
    NOTHING
}

fn combine_and_store(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
    how: Combination,
) -> Outcome {
    let set = combined(how, sets(context, &at[1..], argv.iter().skip(2))?);
    let len = set.len();
    let effects = replace(context.store, context.room, at[0], argv.arg(1), Value::Set(set), None)?;
    reply.count(len);
    Ok(effects)
}

pub(super) fn sinter(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine(context, at, argv, reply, Combination::Inter)
}

pub(super) fn sunion(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine(context, at, argv, reply, Combination::Union)
}

pub(super) fn sdiff(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine(context, at, argv, reply, Combination::Diff)
}

pub(super) fn sinterstore(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine_and_store(context, at, argv, reply, Combination::Inter)
}

pub(super) fn sunionstore(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine_and_store(context, at, argv, reply, Combination::Union)
}

pub(super) fn sdiffstore(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine_and_store(context, at, argv, reply, Combination::Diff)
}

pub(super) fn sintercard(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let keys = key_count(argv, 1)?;
    let limit = cardinality_limit(argv, 2 + keys)?;
    let sets = sets(context, at, argv.iter().skip(2))?;
    reply.count(intersection(sets).take(limit).count());
    NOTHING
}

/// How many keys argument `at` says there are behind it.
pub(super) fn key_count(argv: Argv<'_>, at: usize) -> Result<usize, Refusal> {
    let too_few = Refusal::Text("ERR numkeys should be greater than 0");
    let count = number::integer(argv.arg(at)).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    match count {
        0 => Err(too_few),
        count if count > argv.len() - at - 1 => {
            Err(Refusal::Text("ERR Number of keys can't be greater than number of args"))
        }
        count => Ok(count),
    }
}

/// Reads `[LIMIT limit]`, at the end of a command that counts; 0 is no limit.
pub(super) fn cardinality_limit(argv: Argv<'_>, from: usize) -> Result<usize, Refusal> {
    let mut limit = 0;
    for index in (from..argv.len()).step_by(2) {
        if !argv.arg(index).eq_ignore_ascii_case(b"LIMIT") {
            return Err(SYNTAX);
        }
        let text = argv.get(index + 1).ok_or(SYNTAX)?;
        let number = number::integer(text).and_then(|limit| usize::try_from(limit).ok());
        limit = number.ok_or(Refusal::Text("ERR LIMIT can't be negative"))?;
    }
    Ok(if limit == 0 { usize::MAX } else { limit })
}

// ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Adds the members from argument 2 on, and returns how many are new.
fn add_all(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<usize, Refusal> {
    let added = write(store, place, argv.arg(1), Missing::Create, |set: &mut Set| {
        argv.skip(2).iter().filter(|member| set.insert(member)).count()
    })?;
    Ok(added.unwrap_or(0))
}

/// Removes the members from argument 2 on, and returns how many were there.
fn remove_all(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<usize, Refusal> {
    let removed = write(store, place, argv.arg(1), Missing::Leave, |set: &mut Set| {
        argv.skip(2).iter().filter(|member| set.remove(member)).count()
    })?;
    Ok(removed.unwrap_or(0))
}

pub(super) fn sadd(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let added = add_all(context.store, at[0].into(), argv)?;
    reply.count(added);
    Ok(if added > 0 { Effects::Verbatim } else { Effects::None })
}

pub(super) fn srem(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let removed = remove_all(context.store, at[0].into(), argv)?;
    reply.count(removed);
    Ok(if removed > 0 { Effects::Verbatim } else { Effects::None })
}

pub(super) fn spop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    if argv.len() > 3 {
        return Err(SYNTAX);
    }
    let count = argv.get(2).map(count_of).transpose()?;
    let key = argv.arg(1);
    let Context { store, random, room, .. } = context;
    let Some(entry) = store.get(at[0], key) else {
        if count.is_some() {
            reply.set(0)
        } else {
            reply.null()
        }
        return NOTHING;
    };
    let set = in_entry::<Set>(entry)?;
    let chosen = random.choose(set.len(), count.unwrap_or(1));
    let chosen: Vec<Box<[u8]>> = chosen.into_iter().filter_map(|index| set.nth(index)).map(Box::from).collect();
    let is_all = chosen.len() == set.len();
    let effects = match chosen.is_empty() {
        true => Effects::None,
        false => removal(*room, b"SREM", key, chosen.iter().map(|member| &**member), is_all)?,
    };
    if count.is_some() {
        reply.set(chosen.len());
    }
    chosen.iter().for_each(|member| reply.bulk(member));
    if is_all {
        store.remove(at[0], key);
    } else {
        write(store, at[0].into(), key, Missing::Leave, |set: &mut Set| {
            chosen.iter().for_each(|member| _ = set.remove(member));
        })?;
    }
    Ok(effects)
}

pub(super) fn smove(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (from, to, member) = (argv.arg(1), argv.arg(2), argv.arg(3));
    // As Redis has it, nobody looks at the destination of a missing set.
    let Some(source) = read::<Set>(context, at[0], from)? else {
        reply.integer(0);
        return NOTHING;
    };
    let destination = read::<Set>(context, at[1], to)?;
    let is_there = source.contains(member);
    let mut room = context.room;
    room.take([4, from.len(), member.len()])?;
    room.take([4, to.len(), member.len()])?;
    reply.integer(i64::from(is_there));
    if !is_there || from == to {
        return NOTHING;
    }
    let mut effects = vec![Command::new(&[b"SREM", from, member])];
    if !destination.is_some_and(|set| set.contains(member)) {
        effects.push(Command::new(&[b"SADD", to, member]));
    }
    write(context.store, at[0].into(), from, Missing::Leave, |set: &mut Set| set.remove(member))?;
    write(context.store, at[1].into(), to, Missing::Create, |set: &mut Set| set.insert(member))?;
    Ok(group(effects))
}

// ── effects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn apply_sadd(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    add_all(store, place, argv)?;
    Ok(())
}

pub(super) fn apply_srem(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    remove_all(store, place, argv)?;
    Ok(())
}
