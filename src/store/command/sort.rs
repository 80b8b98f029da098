//! `SORT`: the elements of a list, set or sorted set in an order, or what other keys say of them.
//!
//! ```text
//! SORT ids BY weight_* GET # GET user_*->name LIMIT 0 10 ALPHA DESC STORE result
//! ```
//!
//! A pattern names other keys: `*` stands for the element, `->` leads to a field of a hash. Such keys are looked up where the
//! command is executed; a node of several shards refuses patterns.

use std::cmp::Ordering;

use super::recreate::replace;
use super::refusal::{Refusal, SYNTAX, WRONG_TYPE};
use super::string::integer;
use super::{Context, NOTHING, Outcome, number};
use crate::resp::Reply;
use crate::snapshot::{Keyspace, Located};
use crate::store::value::List;
use crate::store::value::list::End;
use crate::store::{Value, ValueRef};
use crate::wire::Argv;

/// What a `SORT` is asked for.
#[derive(Default)]
struct Query<'a> {
    by: Option<&'a [u8]>,
    /// The first one, and how many; a negative number of them is all.
    limit: Option<(i64, i64)>,
    get: Vec<&'a [u8]>,
    descending: bool,
    alpha: bool,
    /// The number of the argument that is the destination.
    destination: Option<usize>,
}

impl<'a> Query<'a> {
    fn parse(argv: Argv<'a>, stores: bool) -> Result<Query<'a>, Refusal> {
        let mut query = Query::default();
        let mut index = 2;
        while let Some(option) = argv.get(index) {
            let word = Word::parse(option, argv.len() - index - 1, stores);
            match word {
                Word::Ascending => query.descending = false,
                Word::Descending => query.descending = true,
                Word::Alpha => query.alpha = true,
                Word::Limit => query.limit = Some((integer(argv.arg(index + 1))?, integer(argv.arg(index + 2))?)),
                Word::Store => query.destination = Some(index + 1),
                Word::By => query.by = Some(argv.arg(index + 1)),
                Word::Get => query.get.push(argv.arg(index + 1)),
                Word::Unknown => return Err(SYNTAX),
            }
            index += 1 + word.values();
        }
        Ok(query)
    }
}

/// An option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Ascending,
    Descending,
    Alpha,
    Limit,
    Store,
    By,
    Get,
    Unknown,
}

impl Word {
    /// The option that `word` is with `left` arguments behind it.
    fn parse(word: &[u8], left: usize, stores: bool) -> Word {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        match () {
            () if is(b"ASC") => Word::Ascending,
            () if is(b"DESC") => Word::Descending,
            () if is(b"ALPHA") => Word::Alpha,
            () if is(b"LIMIT") && left >= 2 => Word::Limit,
            () if stores && is(b"STORE") && left >= 1 => Word::Store,
            () if is(b"BY") && left >= 1 => Word::By,
            () if is(b"GET") && left >= 1 => Word::Get,
            () => Word::Unknown,
        }
    }

    /// How many arguments belong to it.
    fn values(self) -> usize {
        match self {
            Word::Limit => 2,
            Word::Store | Word::By | Word::Get => 1,
            Word::Ascending | Word::Descending | Word::Alpha | Word::Unknown => 0,
        }
    }
}

/// Which argument is the key that `SORT` stores into, if it does.
pub(super) fn destination(argv: Argv<'_>) -> Option<usize> {
    let (mut index, mut found) = (2, None);
    while let Some(option) = argv.get(index) {
        let word = Word::parse(option, argv.len() - index - 1, true);
        match word {
            Word::Store => found = Some(index + 1),
            Word::Unknown => break,
            _ => {}
        }
        index += 1 + word.values();
    }
    found
}

/// Whether the command reads keys that it does not name.
pub fn reaches(argv: Argv<'_>) -> bool {
    let (mut index, mut found) = (2, false);
    while let Some(option) = argv.get(index) {
        let word = Word::parse(option, argv.len() - index - 1, true);
        found |= matches!(word, Word::By | Word::Get) && argv.arg(index + 1).contains(&b'*');
        index += 1 + word.values();
    }
    found
}

/// What a pattern says of an element.
fn look_up<'c>(context: &'c Context<'_>, pattern: &[u8], element: &'c [u8]) -> Option<&'c [u8]> {
    if pattern == b"#" {
        return Some(element);
    }
    let star = memchr::memchr(b'*', pattern)?;
    let rest = &pattern[star + 1..];
    let arrow = memchr::memmem::find(rest, b"->").filter(|at| at + 2 < rest.len());
    let key = [&pattern[..star], element, &rest[..arrow.unwrap_or(rest.len())]].concat();
    let entry = context.store.get(context.store.locate(&key), &key);
    let value = entry.filter(|entry| !super::has_expired(entry, context.now))?.value();
    match (value, arrow) {
        (ValueRef::Str(bytes), None) => Some(bytes),
        (ValueRef::Boxed(Value::Hash(hash)), Some(arrow)) => hash.shown(context.now).get(&rest[arrow + 2..]),
        _ => None,
    }
}

/// What an element is sorted by.
enum Weight<'a> {
    Number(f64),
    Text(Option<&'a [u8]>),
}

impl Weight<'_> {
    fn compare(&self, other: &Weight<'_>) -> Ordering {
        match (self, other) {
            (Weight::Number(a), Weight::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
            (Weight::Number(_), Weight::Text(_)) | (Weight::Text(_), Weight::Number(_)) => Ordering::Equal,
        }
    }
}

/// The elements that are meant, in their order.
fn sorted<'c>(context: &'c Context<'_>, at: Located, key: &[u8], query: &Query<'_>) -> Result<Vec<&'c [u8]>, Refusal> {
    let value = context.read(at, key).map(|entry| entry.value());
    let mut elements: Vec<&[u8]> = match value {
        None => Vec::new(),
        Some(ValueRef::Boxed(Value::List(list))) => list.iter().collect(),
        Some(ValueRef::Boxed(Value::Set(set))) => set.iter().collect(),
        Some(ValueRef::Boxed(Value::Zset(zset))) => zset.iter().map(|(member, _)| member).collect(),
        Some(_) => return Err(WRONG_TYPE),
    };
    let is_set = matches!(value, Some(ValueRef::Boxed(Value::Set(_))));
    // By something that is the same for all means: as they are. A set has no order of its own, so what is stored gets one.
    let (by, alpha, sorts) = match query.by {
        Some(pattern) if !pattern.contains(&b'*') => (None, true, is_set && query.destination.is_some()),
        by => (by, query.alpha, true),
    };
    if sorts {
        let mut weighed: Vec<(Weight<'_>, &[u8])> = elements
            .into_iter()
            .map(|element| {
                let text = match by {
                    Some(pattern) => look_up(context, pattern, element),
                    None => Some(element),
                };
                Ok((if alpha { Weight::Text(text) } else { Weight::Number(number_of(text)?) }, element))
            })
            .collect::<Result<_, Refusal>>()?;
        let compare = |a: &(Weight<'_>, &[u8]), b: &(Weight<'_>, &[u8])| {
            let order = a.0.compare(&b.0).then_with(|| a.1.cmp(b.1));
            if query.descending { order.reverse() } else { order }
        };
        weighed.sort_unstable_by(compare);
        elements = weighed.into_iter().map(|(_, element)| element).collect();
    } else if query.descending && !is_set {
        elements.reverse();
    }
    if let Some((first, count)) = query.limit {
        let first = usize::try_from(first).unwrap_or(0).min(elements.len());
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        elements = elements.into_iter().skip(first).take(count).collect();
    }
    Ok(elements)
}

/// A missing weight is 0.
fn number_of(text: Option<&[u8]>) -> Result<f64, Refusal> {
    let number = text.map_or(Some(0.0), number::lenient_float);
    number.ok_or(Refusal::Text("ERR One or more scores can't be converted into double"))
}

pub(super) fn sort(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let query = Query::parse(argv, true)?;
    let Some(destination) = query.destination else { return answer(context, at[0], argv, &query, reply) };
    let mut list = List::new();
    for element in sorted(context, at[0], argv.arg(1), &query)? {
        if query.get.is_empty() {
            list.push(End::Tail, element);
        }
        for pattern in &query.get {
            list.push(End::Tail, look_up(context, pattern, element).unwrap_or_default());
        }
    }
    let len = list.len();
    let effects = replace(context.store, context.room, at[1], argv.arg(destination), Value::List(list), None)?;
    reply.count(len);
    Ok(effects)
}

pub(super) fn sort_ro(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    answer(context, at[0], argv, &Query::parse(argv, false)?, reply)
}

fn answer(context: &Context<'_>, at: Located, argv: Argv<'_>, query: &Query<'_>, reply: &mut Reply<'_>) -> Outcome {
    let elements = sorted(context, at, argv.arg(1), query)?;
    reply.array(elements.len() * query.get.len().max(1));
    for element in elements {
        if query.get.is_empty() {
            reply.bulk(element);
        }
        for pattern in &query.get {
            reply.bulk_or_null(look_up(context, pattern, element));
        }
    }
    NOTHING
}
