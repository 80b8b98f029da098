//! Commands on lists.

use super::aggregate::{Missing, read, write};
use super::number;
use super::refusal::{INDEX_OUT_OF_RANGE, NO_SUCH_KEY, OUT_OF_RANGE, Refusal, SYNTAX};
use super::string::{clamp, count_of, integer};
use super::{Context, Misfit, NOTHING, Outcome, block, del};
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::value::List;
use crate::store::value::list::End;
use crate::store::{KeyspaceStore, Place};
use crate::wire::{Argv, Command, Effects};

/// A command that was recorded word for word if it changed something.
fn if_changed(changed: bool) -> Outcome {
    Ok(if changed { Effects::Verbatim } else { Effects::None })
}

/// An index from the front, or a negative one from the back, within a list of `len`.
fn index_within(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(len as i64)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}

// ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn llen(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(read::<List>(context, at[0], argv.arg(1))?.map_or(0, List::len));
    NOTHING
}

pub(super) fn lindex(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    // As Redis has it, nobody looks at the index of a missing list.
    let Some(list) = read::<List>(context, at[0], argv.arg(1))? else {
        reply.null();
        return NOTHING;
    };
    let index = integer(argv.arg(2))?;
    reply.bulk_or_null(index_within(index, list.len()).and_then(|index| list.get(index)));
    NOTHING
}

pub(super) fn lrange(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (start, end) = (integer(argv.arg(2))?, integer(argv.arg(3))?);
    let list = read::<List>(context, at[0], argv.arg(1))?;
    match list.and_then(|list| Some((list, clamp(start, end, list.len())?))) {
        None => reply.array(0),
        Some((list, (first, end))) => {
            reply.array(end - first);
            list.range(first, end).for_each(|element| reply.bulk(element));
        }
    }
    NOTHING
}

pub(super) fn lpos(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (mut rank, mut count, mut limit) = (1, None, 0);
    for index in (3..argv.len()).step_by(2) {
        let (option, value) = (argv.arg(index), argv.get(index + 1).ok_or(SYNTAX)?);
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let not_negative = |refusal| number::integer(value).and_then(|n| usize::try_from(n).ok()).ok_or(refusal);
        if is(b"RANK") {
            rank = integer(value)?;
            match rank {
                0 => return Err(RANK_IS_ZERO),
                i64::MIN => return Err(OUT_OF_RANGE),
                _ => {}
            }
        } else if is(b"COUNT") {
            count = Some(not_negative(Refusal::Text("ERR COUNT can't be negative"))?);
        } else if is(b"MAXLEN") {
            limit = not_negative(Refusal::Text("ERR MAXLEN can't be negative"))?;
        } else {
            return Err(SYNTAX);
        }
    }
    let Some(list) = read::<List>(context, at[0], argv.arg(1))? else {
        if count.is_some() {
            reply.array(0)
        } else {
            reply.null()
        }
        return NOTHING;
    };
    // How many equal ones are passed over, how many shown, how many elements looked at.
    let skip = rank.unsigned_abs() as usize - 1;
    let wanted = count.map_or(1, |count| if count == 0 { usize::MAX } else { count });
    let limit = if limit == 0 { list.len() } else { limit.min(list.len()) };
    let places: Vec<usize> = if rank > 0 {
        equal_places(list.iter().take(limit), argv.arg(2)).skip(skip).take(wanted).collect()
    } else {
        let last = list.len().saturating_sub(1);
        let from_back = equal_places(list.iter().rev().take(limit), argv.arg(2)).skip(skip).take(wanted);
        from_back.map(|place| last - place).collect()
    };
    match (count, places.first()) {
        (None, None) => reply.null(),
        (None, Some(place)) => reply.count(*place),
        (Some(_), _) => {
            reply.array(places.len());
            places.into_iter().for_each(|place| reply.count(place));
        }
    }
    NOTHING
}

const RANK_IS_ZERO: Refusal = Refusal::Text(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of \
     the list",
);

/// Where elements stand that are equal to this one.
fn equal_places<'a>(elements: impl Iterator<Item = &'a [u8]>, element: &[u8]) -> impl Iterator<Item = usize> {
    elements.enumerate().filter(move |(_, e)| *e == element).map(|(place, _)| place)
}

// ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Adds the elements from argument 2 on, and returns the length.
fn push_all(
    store: &mut KeyspaceStore,
    place: Place,
    argv: Argv<'_>,
    missing: Missing,
    end: End,
) -> Result<usize, Refusal> {
    let len = write(store, place, argv.arg(1), missing, |list: &mut List| {
        argv.skip(2).iter().for_each(|element| list.push(end, element));
        list.len()
    })?;
    Ok(len.unwrap_or(0))
}

fn push(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
    missing: Missing,
    end: End,
) -> Outcome {
    let len = push_all(context.store, at[0].into(), argv, missing, end)?;
    reply.count(len);
    if_changed(len > 0)
}

pub(super) fn lpush(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    push(context, at, argv, reply, Missing::Create, End::Head)
}

pub(super) fn rpush(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    push(context, at, argv, reply, Missing::Create, End::Tail)
}

pub(super) fn lpushx(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    push(context, at, argv, reply, Missing::Leave, End::Head)
}

pub(super) fn rpushx(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    push(context, at, argv, reply, Missing::Leave, End::Tail)
}

fn pop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>, end: End) -> Outcome {
    if argv.len() > 3 {
        let name = if end == End::Head { "lpop" } else { "rpop" };
        return Err(Refusal::Arity(name));
    }
    let count = argv.get(2).map(count_of).transpose()?;
    let len = read::<List>(context, at[0], argv.arg(1))?.map(List::len);
    let (len, popped) = match (len, count) {
        (None, None) => {
            reply.null();
            return NOTHING;
        }
        (None, Some(_)) => {
            reply.null_array();
            return NOTHING;
        }
        (Some(_), None) => (None, 1),
        (Some(len), Some(count)) => (Some(len.min(count)), len.min(count)),
    };
    if let Some(len) = len {
        reply.array(len);
    }
    let left = pop_some(context.store, at[0].into(), argv.arg(1), end, popped, |element| reply.bulk(element))?;
    taken(popped, left, argv)
}

/// The effect of a command that took `taken` elements away and left `left`. Of a list that is gone it says so: a replica that is being
/// sent the slot may have other elements of it, which the command would leave.
fn taken(taken: usize, left: usize, argv: Argv<'_>) -> Outcome {
    Ok(match (taken, left) {
        (0, _) => Effects::None,
        (_, 0) => Effects::One(del(argv.arg(1))),
        _ => Effects::Verbatim,
    })
}

/// Takes elements from an end, and returns how many are left.
fn pop_some(
    store: &mut KeyspaceStore,
    place: Place,
    key: &[u8],
    end: End,
    count: usize,
    mut show: impl FnMut(&[u8]),
) -> Result<usize, Refusal> {
    let left = write(store, place, key, Missing::Leave, |list: &mut List| {
        for _ in 0..count {
            let Some(element) = list.pop(end) else { break };
            show(&element);
        }
        list.len()
    })?;
    Ok(left.unwrap_or(0))
}

pub(super) fn lpop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(context, at, argv, reply, End::Head)
}

pub(super) fn rpop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(context, at, argv, reply, End::Tail)
}

pub(super) fn lset(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    // Redis looks for the key before it looks at the index.
    read::<List>(context, at[0], argv.arg(1))?.ok_or(NO_SUCH_KEY)?;
    let index = integer(argv.arg(2))?;
    set_at(context.store, at[0].into(), argv.arg(1), index, argv.arg(3))?;
    reply.ok();
    Ok(Effects::Verbatim)
}

/// Puts an element in the place of another one; of a missing list there is nothing to replace.
fn set_at(store: &mut KeyspaceStore, place: Place, key: &[u8], index: i64, element: &[u8]) -> Result<(), Refusal> {
    let set = write(store, place, key, Missing::Leave, |list: &mut List| {
        index_within(index, list.len()).is_some_and(|index| list.set(index, element))
    })?;
    if set == Some(false) { Err(INDEX_OUT_OF_RANGE) } else { Ok(()) }
}

pub(super) fn lrem(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let count = integer(argv.arg(2))?;
    let (removed, left) = remove_equal(context.store, at[0].into(), argv.arg(1), count, argv.arg(3))?;
    reply.count(removed);
    taken(removed, left, argv)
}

/// Removes `count` equal elements from the head, `-count` from the tail, or all for 0: how many, and how many are left.
fn remove_equal(
    store: &mut KeyspaceStore,
    place: Place,
    key: &[u8],
    count: i64,
    element: &[u8],
) -> Result<(usize, usize), Refusal> {
    let end = if count < 0 { End::Tail } else { End::Head };
    let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let removed = write(store, place, key, Missing::Leave, |list: &mut List| {
        let removed = list.remove_equal(end, element, limit);
        (removed, list.len())
    })?;
    Ok(removed.unwrap_or_default())
}

pub(super) fn ltrim(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (start, end) = (integer(argv.arg(2))?, integer(argv.arg(3))?);
    let (removed, left) = trim(context.store, at[0].into(), argv.arg(1), start, end)?;
    reply.ok();
    taken(removed, left, argv)
}

/// Keeps a range: how many elements that removed, and how many are left.
fn trim(store: &mut KeyspaceStore, place: Place, key: &[u8], start: i64, end: i64) -> Result<(usize, usize), Refusal> {
    let removed = write(store, place, key, Missing::Leave, |list: &mut List| {
        let before = list.len();
        let (first, end) = clamp(start, end, before).unwrap_or((0, 0));
        list.keep(first, end);
        (before - list.len(), list.len())
    })?;
    Ok(removed.unwrap_or_default())
}

// ── moving ──────────────────────────────────────────────────────────────────────────────────────────────────────────

impl End {
    fn parse(text: &[u8]) -> Option<End> {
        match () {
            () if text.eq_ignore_ascii_case(b"LEFT") => Some(End::Head),
            () if text.eq_ignore_ascii_case(b"RIGHT") => Some(End::Tail),
            () => None,
        }
    }

    /// The verb that takes from this end.
    fn pop(self) -> &'static [u8] {
        if self == End::Head { b"LPOP" } else { b"RPOP" }
    }

    /// The verb that adds at this end.
    fn push(self) -> &'static [u8] {
        if self == End::Head { b"LPUSH" } else { b"RPUSH" }
    }
}

pub(super) fn lmove(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (from, to) = (End::parse(argv.arg(3)).ok_or(SYNTAX)?, End::parse(argv.arg(4)).ok_or(SYNTAX)?);
    move_one(context, at, argv, from, to, reply)
}

pub(super) fn rpoplpush(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    move_one(context, at, argv, End::Tail, End::Head, reply)
}

/// Takes an element from one end of argument 1 and adds it at an end of argument 2.
fn move_one(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    from: End,
    to: End,
    reply: &mut Reply<'_>,
) -> Outcome {
    let (source, destination) = (argv.arg(1), argv.arg(2));
    // As Redis has it, nobody looks at the destination of a missing list.
    let Some(list) = read::<List>(context, at[0], source)? else {
        reply.null();
        return NOTHING;
    };
    read::<List>(context, at[1], destination)?;
    let index = if from == End::Head { Some(0) } else { list.len().checked_sub(1) };
    let Some(element) = index.and_then(|index| list.get(index)).map(Box::<[u8]>::from) else {
        reply.null();
        return NOTHING;
    };
    let mut room = context.room;
    room.take([4, source.len()])?;
    room.take([5, destination.len(), element.len()])?;
    reply.bulk(&element);
    // A list that is turned by one element keeps its expiry, also where that is its only one.
    if source == destination && (from == to || list.len() == 1) {
        return NOTHING;
    }
    let left = pop_some(context.store, at[0].into(), source, from, 1, |_| {})?;
    write(context.store, at[1].into(), destination, Missing::Create, |list: &mut List| list.push(to, &element))?;
    let taken = if left == 0 { del(source) } else { Command::new(&[from.pop(), source]) };
    Ok(Effects::Group(vec![taken, Command::new(&[to.push(), destination, &element])]))
}

pub(super) fn lmpop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (end, count) = several(argv, at.len(), End::parse)?;
    for (&at, key) in at.iter().zip(argv.iter().skip(2)) {
        let Some(len) = read::<List>(context, at, key)?.map(List::len) else { continue };
        let popped = len.min(count);
        reply.array(2);
        reply.bulk(key);
        reply.array(popped);
        let left = pop_some(context.store, at.into(), key, end, popped, |element| reply.bulk(element))?;
        let digits = &mut itoa::Buffer::new();
        let taken = match left {
            0 => del(key),
            _ => Command::new(&[end.pop(), key, digits.format(popped).as_bytes()]),
        };
        return Ok(Effects::One(taken));
    }
    reply.null_array();
    NOTHING
}

/// `BLPOP`, as it is where it need not wait, or must not.
pub(super) fn blpop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop_first(context, at, argv, End::Head, reply)
}

pub(super) fn brpop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop_first(context, at, argv, End::Tail, reply)
}

/// Takes one element from the first list that is there.
fn pop_first(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, end: End, reply: &mut Reply<'_>) -> Outcome {
    block::seconds(argv.arg(argv.len() - 1))?;
    for (&at, key) in at.iter().zip(argv.skip(1).iter()) {
        if read::<List>(context, at, key)?.is_none() {
            continue;
        }
        reply.array(2);
        reply.bulk(key);
        let left = pop_some(context.store, at.into(), key, end, 1, |element| reply.bulk(element))?;
        return Ok(Effects::One(if left == 0 { del(key) } else { Command::new(&[end.pop(), key]) }));
    }
    reply.null_array();
    NOTHING
}

pub(super) fn blmove(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let ends = (End::parse(argv.arg(3)).ok_or(SYNTAX)?, End::parse(argv.arg(4)).ok_or(SYNTAX)?);
    block::seconds(argv.arg(5))?;
    move_one(context, at, argv, ends.0, ends.1, reply)
}

pub(super) fn brpoplpush(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    block::seconds(argv.arg(3))?;
    move_one(context, at, argv, End::Tail, End::Head, reply)
}

pub(super) fn blmpop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    block::seconds(argv.arg(1))?;
    lmpop(context, at, argv.skip(1), reply)
}

/// Reads `numkeys key… <where> [COUNT count]` of a command that takes from the first key that is not empty: where from, and how many.
pub(super) fn several<T>(
    argv: Argv<'_>,
    keys: usize,
    parse: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<(T, usize), Refusal> {
    let positive = |text: &[u8], refusal| {
        let number = number::integer(text).and_then(|number| usize::try_from(number).ok());
        number.filter(|number| *number > 0).ok_or(refusal)
    };
    let stated = positive(argv.arg(1), Refusal::Text("ERR numkeys should be greater than 0"))?;
    if stated != keys {
        return Err(SYNTAX);
    }
    let from = parse(argv.get(2 + keys).ok_or(SYNTAX)?).ok_or(SYNTAX)?;
    let mut count = None;
    for index in (3 + keys..argv.len()).step_by(2) {
        let value = argv.get(index + 1).ok_or(SYNTAX)?;
        if count.is_some() || !argv.arg(index).eq_ignore_ascii_case(b"COUNT") {
            return Err(SYNTAX);
        }
        count = Some(positive(value, Refusal::Text("ERR count should be greater than 0"))?);
    }
    Ok((from, count.unwrap_or(1)))
}

// ── inserting ───────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn linsert(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let side = Side::parse(argv.arg(2)).ok_or(SYNTAX)?;
    let len = insert(context.store, at[0].into(), argv.arg(1), side, argv.arg(3), argv.arg(4))?;
    match len {
        None => reply.integer(0),
        Some(None) => reply.integer(-1),
        Some(Some(len)) => reply.count(len),
    }
    if_changed(matches!(len, Some(Some(_))))
}

/// Where an element goes, beside another one.
#[derive(Clone, Copy)]
enum Side {
    Before,
    After,
}

impl Side {
    fn parse(text: &[u8]) -> Option<Side> {
        match () {
            () if text.eq_ignore_ascii_case(b"BEFORE") => Some(Side::Before),
            () if text.eq_ignore_ascii_case(b"AFTER") => Some(Side::After),
            () => None,
        }
    }
}

/// Inserts beside the first element equal to `pivot`, and returns the length: `Some(None)` without such an element, `None` without
/// a list.
fn insert(
    store: &mut KeyspaceStore,
    place: Place,
    key: &[u8],
    side: Side,
    pivot: &[u8],
    element: &[u8],
) -> Result<Option<Option<usize>>, Refusal> {
    write(store, place, key, Missing::Leave, |list: &mut List| {
        let found = list.iter().position(|e| e == pivot)?;
        list.insert(if matches!(side, Side::Before) { found } else { found + 1 }, element);
        Some(list.len())
    })
}

// ── effects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn apply_lpush(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    push_all(store, place, argv, Missing::Create, End::Head)?;
    Ok(())
}

pub(super) fn apply_rpush(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    push_all(store, place, argv, Missing::Create, End::Tail)?;
    Ok(())
}

pub(super) fn apply_lpushx(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    push_all(store, place, argv, Missing::Leave, End::Head)?;
    Ok(())
}

pub(super) fn apply_rpushx(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    push_all(store, place, argv, Missing::Leave, End::Tail)?;
    Ok(())
}

pub(super) fn apply_lpop(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    apply_pop(store, place, argv, End::Head)
}

pub(super) fn apply_rpop(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    apply_pop(store, place, argv, End::Tail)
}

fn apply_pop(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>, end: End) -> Result<(), Misfit> {
    let count = argv.get(2).map_or(Ok(1), |count| count_of(count).map_err(|_| Misfit::Form))?;
    pop_some(store, place, argv.arg(1), end, count, |_| {})?;
    Ok(())
}

pub(super) fn apply_lset(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    set_at(store, place, argv.arg(1), form(argv.arg(2))?, argv.arg(3))?;
    Ok(())
}

pub(super) fn apply_lrem(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    remove_equal(store, place, argv.arg(1), form(argv.arg(2))?, argv.arg(3))?;
    Ok(())
}

pub(super) fn apply_ltrim(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    trim(store, place, argv.arg(1), form(argv.arg(2))?, form(argv.arg(3))?)?;
    Ok(())
}

pub(super) fn apply_linsert(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let side = Side::parse(argv.arg(2)).ok_or(Misfit::Form)?;
    insert(store, place, argv.arg(1), side, argv.arg(3), argv.arg(4))?;
    Ok(())
}

fn form(text: &[u8]) -> Result<i64, Misfit> {
    number::integer(text).ok_or(Misfit::Form)
}
