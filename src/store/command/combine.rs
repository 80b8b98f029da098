//! Sorted sets, and sets, whose members all count 1, combined into one sorted set.
//!
//! ```text
//! ZUNION 2 a b WEIGHTS 1 2 AGGREGATE SUM      a { x 1 }  b { x 3, y 1 }  ─▶  y 2, x 7
//! ```

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use super::recreate::replace;
use super::refusal::{NOT_AN_INTEGER, Refusal, SYNTAX, WRONG_TYPE};
use super::set::{cardinality_limit, key_count};
use super::zset::show;
use super::{Context, NOTHING, Outcome, number};
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::value::{Set, Zset};
use crate::store::{Entry, Value, ValueRef};
use crate::wire::Argv;

/// What is made of several sources.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Combination {
    /// What is in all of them.
    Inter,
    /// What is in any of them.
    Union,
    /// What is in the first one and in no other.
    Diff,
}

/// How the scores of one member become one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    Sum,
    Min,
    Max,
}

impl Join {
    fn parse(word: &[u8]) -> Option<Join> {
        match () {
            () if word.eq_ignore_ascii_case(b"SUM") => Some(Join::Sum),
            () if word.eq_ignore_ascii_case(b"MIN") => Some(Join::Min),
            () if word.eq_ignore_ascii_case(b"MAX") => Some(Join::Max),
            () => None,
        }
    }

    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            Join::Sum => number_or_zero(a + b),
            // Of two zeros with different signs the first stays.
            Join::Min => {
                if b < a {
                    b
                } else {
                    a
                }
            }
            Join::Max => {
                if b > a {
                    b
                } else {
                    a
                }
            }
        }
    }
}

/// Infinities of both signs, and zero times infinity, make 0.
fn number_or_zero(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number }
}

/// What a command reads from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Missing,
    Set(&'a Set),
    Zset(&'a Zset),
}

impl<'a> Source<'a> {
    fn of(entry: Option<Entry<'a>>) -> Result<Source<'a>, Refusal> {
        match entry.map(|entry| entry.value()) {
            None => Ok(Source::Missing),
            Some(ValueRef::Boxed(Value::Set(set))) => Ok(Source::Set(set)),
            Some(ValueRef::Boxed(Value::Zset(zset))) => Ok(Source::Zset(zset)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    fn len(self) -> usize {
        match self {
            Source::Missing => 0,
            Source::Set(set) => set.len(),
            Source::Zset(zset) => zset.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Missing => None,
            Source::Set(set) => set.contains(member).then_some(1.0),
            Source::Zset(zset) => zset.score(member),
        }
    }

    fn iter(self) -> impl Iterator<Item = (&'a [u8], f64)> {
        let (set, zset) = match self {
            Source::Missing => (None, None),
            Source::Set(set) => (Some(set), None),
            Source::Zset(zset) => (None, Some(zset)),
        };
        let ones = set.into_iter().flat_map(Set::iter).map(|member| (member, 1.0));
        ones.chain(zset.into_iter().flat_map(Zset::iter))
    }
}

/// A command, read.
struct Plan<'a> {
    how: Combination,
    /// The sources, each with its weight.
    sources: Vec<(Source<'a>, f64)>,
    join: Join,
    with_scores: bool,
}

impl<'a> Plan<'a> {
    /// Reads `numkeys key… [WEIGHTS weight…] [AGGREGATE SUM | MIN | MAX] [WITHSCORES]`. `at` has the places of the keys.
    fn parse(
        how: Combination,
        context: &'a Context<'_>,
        at: &[Located],
        argv: Argv<'_>,
        takes_scores: bool,
        name: &'static str,
    ) -> Result<Plan<'a>, Refusal> {
        let count = number::integer(argv.arg(0)).ok_or(NOT_AN_INTEGER)?;
        if count < 1 {
            return Err(Refusal::NoInputKey(name));
        }
        if count as usize != at.len() {
            return Err(SYNTAX);
        }
        let keys = at.iter().zip(argv.iter().skip(1));
        let sources =
            keys.map(|(&at, key)| Ok((Source::of(context.read(at, key))?, 1.0))).collect::<Result<_, Refusal>>()?;
        let mut plan = Plan { how, sources, join: Join::Sum, with_scores: false };
        let mut index = 1 + at.len();
        while let Some(option) = argv.get(index) {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if how != Combination::Diff && is(b"WEIGHTS") && argv.len() > index + at.len() {
                for ((_, weight), text) in plan.sources.iter_mut().zip(argv.skip(index + 1).iter()) {
                    *weight = number::float(text).ok_or(Refusal::Text("ERR weight value is not a float"))?;
                }
                index += 1 + at.len();
            } else if how != Combination::Diff && is(b"AGGREGATE") && argv.len() > index + 1 {
                plan.join = Join::parse(argv.arg(index + 1)).ok_or(SYNTAX)?;
                index += 2;
            } else if takes_scores && is(b"WITHSCORES") {
                plan.with_scores = true;
                index += 1;
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(plan)
    }

    fn result(self) -> Zset {
        let Plan { how, mut sources, join, .. } = self;
        let weighted = |score: f64, weight: f64| number_or_zero(score * weight);
        let mut result = Zset::new();
        if how != Combination::Diff {
            sources.sort_by_key(|(source, _)| source.len());
        }
        match how {
            Combination::Union => {
                let mut sums: IndexMap<&[u8], f64, RandomState> = IndexMap::default();
                for (source, weight) in sources {
                    for (member, score) in source.iter() {
                        let score = weighted(score, weight);
                        sums.entry(member).and_modify(|sum| *sum = join.join(*sum, score)).or_insert(score);
                    }
                }
                sums.into_iter().for_each(|(member, score)| _ = result.insert(member, score));
            }
            Combination::Inter => {
                let Some(((smallest, weight), others)) = sources.split_first() else { return result };
                for (member, score) in smallest.iter() {
                    let sum = others.iter().try_fold(weighted(score, *weight), |sum, (source, weight)| {
                        Some(join.join(sum, weighted(source.score(member)?, *weight)))
                    });
                    if let Some(sum) = sum {
                        result.insert(member, sum);
                    }
                }
            }
            Combination::Diff => {
                let Some(((first, _), others)) = sources.split_first() else { return result };
                for (member, score) in first.iter() {
                    if others.iter().all(|(source, _)| source.score(member).is_none()) {
                        result.insert(member, score);
                    }
                }
            }
        }
        result
    }
}

fn combine(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
    how: Combination,
    name: &'static str,
) -> Outcome {
    let plan = Plan::parse(how, context, at, argv.skip(1), true, name)?;
    let with_scores = plan.with_scores;
    let zset = plan.result();
    show(zset.len(), zset.iter(), with_scores, reply);
    NOTHING
}

fn combine_and_store(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
    how: Combination,
    name: &'static str,
) -> Outcome {
    let zset = Plan::parse(how, context, &at[1..], argv.skip(2), false, name)?.result();
    let len = zset.len();
    let effects = replace(context.store, context.room, at[0], argv.arg(1), Value::Zset(zset), None)?;
    reply.count(len);
    Ok(effects)
}

pub(super) fn zunion(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine(context, at, argv, reply, Combination::Union, "zunion")
}

pub(super) fn zinter(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine(context, at, argv, reply, Combination::Inter, "zinter")
}

pub(super) fn zdiff(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine(context, at, argv, reply, Combination::Diff, "zdiff")
}

pub(super) fn zunionstore(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine_and_store(context, at, argv, reply, Combination::Union, "zunionstore")
}

pub(super) fn zinterstore(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine_and_store(context, at, argv, reply, Combination::Inter, "zinterstore")
}

pub(super) fn zdiffstore(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    combine_and_store(context, at, argv, reply, Combination::Diff, "zdiffstore")
}

pub(super) fn zintercard(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    if number::integer(argv.arg(1)).ok_or(NOT_AN_INTEGER)? < 1 {
        return Err(Refusal::NoInputKey("zintercard"));
    }
    let keys = key_count(argv, 1).map_err(|_| SYNTAX)?;
    let sources = at.iter().zip(argv.iter().skip(2)).map(|(&at, key)| Source::of(context.read(at, key)));
    let mut sources: Vec<Source<'_>> = sources.collect::<Result<_, _>>()?;
    let limit = cardinality_limit(argv, 2 + keys)?;
    sources.sort_by_key(|source| source.len());
    let Some((smallest, others)) = sources.split_first() else { return Err(SYNTAX) };
    let common = smallest.iter().filter(|(member, _)| others.iter().all(|source| source.score(member).is_some()));
    reply.count(common.take(limit).count());
    NOTHING
}
