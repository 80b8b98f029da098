//! Commands on sets.

use super::aggregate::{Missing, read, write};
use super::recreate::removal;
use super::refusal::{Refusal, SYNTAX};
use super::string::{count_of, integer};
use super::{Context, Misfit, NOTHING, Outcome, Random};
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::value::Set;
use crate::store::{KeyspaceStore, Place};
use crate::wire::{Argv, Effects};

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
    let count = argv.get(2).map(integer).transpose()?;
    // A negative count may name a member more than once; Redis bounds it for its own arithmetic.
    if count.is_some_and(|count| count < i64::MIN / 2) {
        return Err(Refusal::Text(
            "ERR value is out of range, value must between -4611686018427387903 and 4611686018427387903",
        ));
    }
    let Context { store, random, now, .. } = context;
    let entry = store.get(at[0], argv.arg(1)).filter(|entry| !super::has_expired(entry, *now));
    let set = entry.map(super::aggregate::in_entry::<Set>).transpose()?.filter(|set| !set.is_empty());
    match (set, count) {
        (None, None) => reply.null(),
        (None, Some(_)) => reply.array(0),
        (Some(set), None) => reply.bulk_or_null(set.nth(random.below(set.len()))),
        (Some(set), Some(count)) if count < 0 => {
            let count = count.unsigned_abs() as usize;
            reply.array(count);
            for _ in 0..count {
                reply.bulk_or_null(set.nth(random.below(set.len())));
            }
        }
        (Some(set), Some(count)) => {
            let chosen = choose(random, set.len(), count as usize);
            reply.array(chosen.len());
            chosen.into_iter().for_each(|index| reply.bulk_or_null(set.nth(index)));
        }
    }
    NOTHING
}

/// `count` different numbers below `len`, or all of them, each choice as likely as another.
fn choose(random: &mut Random, len: usize, count: usize) -> Vec<usize> {
    if count >= len {
        return (0..len).collect();
    }
    if count * 3 > len {
        // Most are chosen: shuffle the beginning.
        let mut all: Vec<usize> = (0..len).collect();
        for index in 0..count {
            all.swap(index, index + random.below(len - index));
        }
        all.truncate(count);
        return all;
    }
    // Few are chosen (Floyd): of the numbers up to `top`, one more each time.
    let mut chosen = indexmap::IndexSet::with_capacity(count);
    for top in len - count..len {
        let one = random.below(top + 1);
        if !chosen.insert(one) {
            chosen.insert(top);
        }
    }
    chosen.into_iter().collect()
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
    let Context { store, random, .. } = context;
    let Some(entry) = store.get(at[0], key) else {
        if count.is_some() {
            reply.set(0)
        } else {
            reply.null()
        }
        return NOTHING;
    };
    let set = super::aggregate::in_entry::<Set>(entry)?;
    let chosen = choose(random, set.len(), count.unwrap_or(1));
    let chosen: Vec<Box<[u8]>> = chosen.into_iter().filter_map(|index| set.nth(index)).map(Box::from).collect();
    let is_all = chosen.len() == set.len();
    let effects = match chosen.is_empty() {
        true => Effects::None,
        false => removal(b"SREM", key, chosen.iter().map(|member| &**member), is_all)?,
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

// ── effects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn apply_sadd(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    add_all(store, place, argv)?;
    Ok(())
}

pub(super) fn apply_srem(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    remove_all(store, place, argv)?;
    Ok(())
}
