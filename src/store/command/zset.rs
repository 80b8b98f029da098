//! Commands on sorted sets. Every range — by rank, by score, by member, from either side — becomes a range of ranks first.

use super::aggregate::{Missing, in_entry, read, write};
use super::list::several;
use super::number;
use super::random::Draw;
use super::recreate::{removal, replace};
use super::refusal::{NOT_A_FLOAT, Refusal, SYNTAX};
use super::string::{clamp, count_of, integer};
use super::{Context, Misfit, NOTHING, Outcome, block};
use crate::resp::{Protocol, Reply, double};
use crate::snapshot::Located;
use crate::store::value::Zset;
use crate::store::value::zset::Inserted;
use crate::store::{KeyspaceStore, Place, Value};
use crate::wire::{Argv, Command, Effects};

fn float(text: &[u8]) -> Result<f64, Refusal> {
    number::float(text).ok_or(NOT_A_FLOAT)
}

fn score_text(score: f64) -> Vec<u8> {
    let mut text = Vec::with_capacity(24);
    double::write(score, &mut text);
    text
}

// ── ranges ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// One end of a range.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Bound<T> {
    Below,
    At(T),
    Beyond(T),
    Above,
}

/// What range is meant.
#[derive(Clone, Copy, Debug)]
enum Span<'a> {
    /// Indexes, both inclusive, negative ones from the back.
    Rank(i64, i64),
    /// From the lower to the upper score.
    Score(Bound<f64>, Bound<f64>),
    /// From the lower to the upper member, among equal scores.
    Lex(Bound<&'a [u8]>, Bound<&'a [u8]>),
}

impl<'a> Span<'a> {
    fn rank(first: &[u8], end: &[u8]) -> Result<Span<'a>, Refusal> {
        Ok(Span::Rank(integer(first)?, integer(end)?))
    }

    fn score(lower: &[u8], upper: &[u8]) -> Result<Span<'a>, Refusal> {
        let bound = |text: &[u8]| match text {
            [b'(', rest @ ..] => number::lenient_float(rest).map(Bound::Beyond),
            text => number::lenient_float(text).map(Bound::At),
        };
        let not_a_float = Refusal::Text("ERR min or max is not a float");
        match (bound(lower), bound(upper)) {
            (Some(lower), Some(upper)) => Ok(Span::Score(lower, upper)),
            _ => Err(not_a_float),
        }
    }

    fn lex(lower: &'a [u8], upper: &'a [u8]) -> Result<Span<'a>, Refusal> {
        let bound = |text: &'a [u8]| match text {
            b"-" => Ok(Bound::Below),
            b"+" => Ok(Bound::Above),
            [b'[', rest @ ..] => Ok(Bound::At(rest)),
            [b'(', rest @ ..] => Ok(Bound::Beyond(rest)),
            _ => Err(Refusal::Text("ERR min or max not valid string range item")),
        };
        Ok(Span::Lex(bound(lower)?, bound(upper)?))
    }

    /// The ranks that the range has in `zset`, half-open. With `down`, rank 0 of a range of ranks is the last member.
    fn ranks(self, zset: &Zset, down: bool) -> (usize, usize) {
        let len = zset.len();
        let (first, end) = match self {
            Span::Rank(start, end) => {
                let (first, end) = clamp(start, end, len).unwrap_or((0, 0));
                if down { (len - end, len - first) } else { (first, end) }
            }
            Span::Score(lower, upper) => (
                zset.partition_point_by_score(|score| is_before(lower, score)),
                zset.partition_point_by_score(|score| !is_behind(upper, score)),
            ),
            Span::Lex(lower, upper) => (
                zset.partition_point(|member, _| is_before(lower, member)),
                zset.partition_point(|member, _| !is_behind(upper, member)),
            ),
        };
        (first, end.max(first))
    }
}

/// Whether `value` is before a range that begins at `lower`.
fn is_before<T: PartialOrd>(lower: Bound<T>, value: T) -> bool {
    match lower {
        Bound::Below => false,
        Bound::At(bound) => value < bound,
        Bound::Beyond(bound) => value <= bound,
        Bound::Above => true,
    }
}

/// Whether `value` is behind a range that ends at `upper`.
fn is_behind<T: PartialOrd>(upper: Bound<T>, value: T) -> bool {
    match upper {
        Bound::Below => true,
        Bound::At(bound) => value > bound,
        Bound::Beyond(bound) => value >= bound,
        Bound::Above => false,
    }
}

/// A range as it is answered.
#[derive(Clone, Copy, Debug)]
struct Query<'a> {
    span: Span<'a>,
    down: bool,
    with_scores: bool,
    /// Members to pass over, members to show; a negative number of them is all.
    limit: Option<(i64, i64)>,
}

impl<'a> Query<'a> {
    fn of(span: Span<'a>, down: bool) -> Query<'a> {
        Query { span, down, with_scores: false, limit: None }
    }

    /// Reads `min max [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]`.
    fn parse(argv: Argv<'a>, takes_scores: bool) -> Result<Query<'a>, Refusal> {
        #[derive(PartialEq)]
        enum By {
            Rank,
            Score,
            Lex,
        }
        let (mut by, mut down, mut with_scores, mut limit) = (By::Rank, false, false, None);
        let mut index = 2;
        while let Some(option) = argv.get(index) {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            // Each is said once.
            if by == By::Rank && is(b"BYSCORE") {
                by = By::Score;
            } else if by == By::Rank && is(b"BYLEX") {
                by = By::Lex;
            } else if !down && is(b"REV") {
                down = true;
            } else if takes_scores && is(b"WITHSCORES") {
                with_scores = true;
            } else if is(b"LIMIT") && argv.len() > index + 2 {
                limit = Some((integer(argv.arg(index + 1))?, integer(argv.arg(index + 2))?));
                index += 2;
            } else {
                return Err(SYNTAX);
            }
            index += 1;
        }
        // Downwards, the upper bound comes first.
        let (lower, upper) = if down { (argv.arg(1), argv.arg(0)) } else { (argv.arg(0), argv.arg(1)) };
        let span = match by {
            By::Rank => Span::rank(argv.arg(0), argv.arg(1))?,
            By::Score => Span::score(lower, upper)?,
            By::Lex => Span::lex(lower, upper)?,
        };
        Query { span, down, with_scores, limit }.checked()
    }

    /// The ranks that are meant, half-open.
    fn ranks(self, zset: &Zset) -> (usize, usize) {
        let (mut first, mut end) = self.span.ranks(zset, self.down);
        if let Some((skip, count)) = self.limit {
            let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(end - first);
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(end - first - skip);
            (first, end) = match self.down {
                false => (first + skip, first + skip + count),
                true => (end - skip - count, end - skip),
            };
        }
        (first, end)
    }

    fn answer(self, context: &Context<'_>, at: Located, key: &[u8], reply: &mut Reply<'_>) -> Outcome {
        let Some(zset) = read::<Zset>(context, at, key)? else {
            reply.array(0);
            return NOTHING;
        };
        let (first, end) = self.ranks(zset);
        match self.down {
            false => show(end - first, zset.range(first, end), self.with_scores, reply),
            true => show(end - first, zset.range_down(first, end), self.with_scores, reply),
        }
        NOTHING
    }

    /// Reads `[WITHSCORES] [LIMIT offset count]` from argument 4 on, for the older commands.
    fn options(mut self, argv: Argv<'_>) -> Result<Query<'a>, Refusal> {
        let mut index = 4;
        while let Some(option) = argv.get(index) {
            if option.eq_ignore_ascii_case(b"WITHSCORES") {
                self.with_scores = true;
                index += 1;
            } else if option.eq_ignore_ascii_case(b"LIMIT") && argv.len() > index + 2 {
                self.limit = Some((integer(argv.arg(index + 1))?, integer(argv.arg(index + 2))?));
                index += 3;
            } else {
                return Err(SYNTAX);
            }
        }
        self.checked()
    }

    /// Ranks take no limit, but one without a count, which means nothing; members have no scores to show.
    fn checked(mut self) -> Result<Query<'a>, Refusal> {
        match self.span {
            Span::Rank(..) if self.limit.is_some_and(|(_, count)| count != -1) => Err(Refusal::Text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            )),
            Span::Lex(..) if self.with_scores => {
                Err(Refusal::Text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"))
            }
            Span::Rank(..) => {
                self.limit = None;
                Ok(self)
            }
            Span::Score(..) | Span::Lex(..) => Ok(self),
        }
    }
}

/// Answers with `count` members, with their scores or without.
pub(super) fn show<'m>(
    count: usize,
    members: impl Iterator<Item = (&'m [u8], f64)>,
    with_scores: bool,
    reply: &mut Reply<'_>,
) {
    let is_flat = reply.protocol() == Protocol::Resp2;
    reply.array(count * if with_scores && is_flat { 2 } else { 1 });
    for (member, score) in members {
        if with_scores && !is_flat {
            reply.array(2);
        }
        reply.bulk(member);
        if with_scores {
            reply.double(score);
        }
    }
}

pub(super) fn zrange(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    Query::parse(argv.skip(2), true)?.answer(context, at[0], argv.arg(1), reply)
}

pub(super) fn zrangestore(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let query = Query::parse(argv.skip(3), false)?;
    let mut result = Zset::new();
    if let Some(zset) = read::<Zset>(context, at[1], argv.arg(2))? {
        let (first, end) = query.ranks(zset);
        zset.range(first, end).for_each(|(member, score)| _ = result.insert(member, score));
    }
    let len = result.len();
    let effects = replace(context.store, context.room, at[0], argv.arg(1), Value::Zset(result), None)?;
    reply.count(len);
    Ok(effects)
}

pub(super) fn zrevrange(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let query = Query::of(Span::rank(argv.arg(2), argv.arg(3))?, true);
    query.options(argv)?.answer(context, at[0], argv.arg(1), reply)
}

pub(super) fn zrangebyscore(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let query = Query::of(Span::score(argv.arg(2), argv.arg(3))?, false);
    query.options(argv)?.answer(context, at[0], argv.arg(1), reply)
}

pub(super) fn zrevrangebyscore(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let query = Query::of(Span::score(argv.arg(3), argv.arg(2))?, true);
    query.options(argv)?.answer(context, at[0], argv.arg(1), reply)
}

pub(super) fn zrangebylex(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let query = Query::of(Span::lex(argv.arg(2), argv.arg(3))?, false);
    query.options(argv)?.answer(context, at[0], argv.arg(1), reply)
}

pub(super) fn zrevrangebylex(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let query = Query::of(Span::lex(argv.arg(3), argv.arg(2))?, true);
    query.options(argv)?.answer(context, at[0], argv.arg(1), reply)
}

// ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn zcard(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(read::<Zset>(context, at[0], argv.arg(1))?.map_or(0, Zset::len));
    NOTHING
}

pub(super) fn zscore(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    double_or_null(read::<Zset>(context, at[0], argv.arg(1))?.and_then(|zset| zset.score(argv.arg(2))), reply);
    NOTHING
}

pub(super) fn zmscore(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let zset = read::<Zset>(context, at[0], argv.arg(1))?;
    reply.array(argv.len() - 2);
    for member in argv.skip(2).iter() {
        double_or_null(zset.and_then(|zset| zset.score(member)), reply);
    }
    NOTHING
}

pub(super) fn zrandmember(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (count, with_scores) = Draw::parse(argv, b"WITHSCORES")?;
    let Context { store, random, now, .. } = context;
    let entry = store.get(at[0], argv.arg(1)).filter(|entry| !super::has_expired(entry, *now));
    let zset = entry.map(in_entry::<Zset>).transpose()?.filter(|zset| !zset.is_empty());
    let of_rank =
        |zset: &'_ Zset, rank: usize| zset.range(rank, rank + 1).next().map(|(m, s)| (Box::<[u8]>::from(m), s));
    match (zset, count) {
        (None, None) => reply.null(),
        (None, Some(_)) => reply.array(0),
        (Some(zset), None) => {
            let drawn = of_rank(zset, random.below(zset.len()));
            reply.bulk_or_null(drawn.as_ref().map(|(member, _)| &**member));
        }
        (Some(zset), Some(count)) => {
            let drawn: Vec<_> =
                count.draw(random, zset.len()).into_iter().filter_map(|rank| of_rank(zset, rank)).collect();
            show(drawn.len(), drawn.iter().map(|(member, score)| (&**member, *score)), with_scores, reply);
        }
    }
    NOTHING
}

fn double_or_null(number: Option<f64>, reply: &mut Reply<'_>) {
    match number {
        Some(number) => reply.double(number),
        None => reply.null(),
    }
}

pub(super) fn zrank(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    rank(context, at[0], argv, false, reply)
}

pub(super) fn zrevrank(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    rank(context, at[0], argv, true, reply)
}

fn rank(context: &Context<'_>, at: Located, argv: Argv<'_>, down: bool, reply: &mut Reply<'_>) -> Outcome {
    let with_score = match argv.get(3) {
        None => false,
        Some(option) if argv.len() == 4 && option.eq_ignore_ascii_case(b"WITHSCORE") => true,
        Some(_) => return Err(SYNTAX),
    };
    let zset = read::<Zset>(context, at, argv.arg(1))?;
    let found = zset.and_then(|zset| Some((zset, zset.rank(argv.arg(2))?, zset.score(argv.arg(2))?)));
    match found {
        None if with_score => reply.null_array(),
        None => reply.null(),
        Some((zset, rank, score)) => {
            if with_score {
                reply.array(2);
            }
            reply.count(if down { zset.len() - 1 - rank } else { rank });
            if with_score {
                reply.double(score);
            }
        }
    }
    NOTHING
}

pub(super) fn zcount(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    count(context, at[0], argv, Span::score(argv.arg(2), argv.arg(3))?, reply)
}

pub(super) fn zlexcount(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    count(context, at[0], argv, Span::lex(argv.arg(2), argv.arg(3))?, reply)
}

fn count(context: &Context<'_>, at: Located, argv: Argv<'_>, span: Span<'_>, reply: &mut Reply<'_>) -> Outcome {
    let ranks = read::<Zset>(context, at, argv.arg(1))?.map_or((0, 0), |zset| span.ranks(zset, false));
    reply.count(ranks.1 - ranks.0);
    NOTHING
}

// ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The options of `ZADD`.
#[derive(Clone, Copy, Default)]
pub(super) struct Adding {
    pub nx: bool,
    pub xx: bool,
    gt: bool,
    lt: bool,
    pub ch: bool,
    incr: bool,
}

/// What one pair of `ZADD` did.
enum Added {
    /// An option forbade it.
    Refused,
    Done(Inserted, f64),
}

impl Adding {
    /// The options from argument 2 on, and the first argument behind them.
    fn parse(argv: Argv<'_>) -> (Adding, usize) {
        let mut adding = Adding::default();
        for index in 2..argv.len() {
            let option = argv.arg(index);
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            let flag = match option.len() {
                2 if is(b"NX") => &mut adding.nx,
                2 if is(b"XX") => &mut adding.xx,
                2 if is(b"GT") => &mut adding.gt,
                2 if is(b"LT") => &mut adding.lt,
                2 if is(b"CH") => &mut adding.ch,
                4 if is(b"INCR") => &mut adding.incr,
                _ => return (adding, index),
            };
            *flag = true;
        }
        (adding, argv.len())
    }

    fn check(self) -> Result<(), Refusal> {
        if self.nx && self.xx {
            return Err(Refusal::Text("ERR XX and NX options at the same time are not compatible"));
        }
        if (self.gt || self.lt) && self.nx || self.gt && self.lt {
            return Err(Refusal::Text("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        Ok(())
    }

    fn add(self, zset: &mut Zset, member: &[u8], score: f64) -> Result<Added, Refusal> {
        let done = zset.update(member, |old| {
            if old.is_some() && self.nx || old.is_none() && self.xx {
                return Ok(None);
            }
            let new = if self.incr { old.unwrap_or(0.0) + score } else { score };
            if new.is_nan() {
                return Err(Refusal::Text("ERR resulting score is not a number (NaN)"));
            }
            let refused = old.is_some_and(|old| self.gt && new <= old || self.lt && new >= old);
            Ok((!refused).then_some(new))
        })?;
        Ok(done.map_or(Added::Refused, |(inserted, score)| Added::Done(inserted, score)))
    }
}

pub(super) fn zadd(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (adding, first) = Adding::parse(argv);
    let args = argv.len() - first;
    if args == 0 || !args.is_multiple_of(2) {
        return Err(SYNTAX);
    }
    adding.check()?;
    if adding.incr && args > 2 {
        return Err(Refusal::Text("ERR INCR option supports a single increment-element pair"));
    }
    let key = argv.arg(1);
    // All scores are read before anything changes.
    let pairs: Vec<(f64, &[u8])> = (first..argv.len())
        .step_by(2)
        .map(|index| Ok((float(argv.arg(index))?, argv.arg(index + 1))))
        .collect::<Result<_, Refusal>>()?;
    let added = add_pairs(context.store, at[0], key, adding, pairs)?;
    match adding.incr {
        true => double_or_null(added.last, reply),
        false => reply.integer(added.count(adding)),
    }
    if first == 2 && !added.changed.is_empty() {
        return Ok(Effects::Verbatim);
    }
    Ok(added.effects(key))
}

/// What [`add_pairs`] did.
#[derive(Default)]
pub(super) struct Tally<'a> {
    added: i64,
    updated: i64,
    /// The last score that was not refused.
    last: Option<f64>,
    /// What is there now and was not.
    changed: Vec<(f64, &'a [u8])>,
}

impl Tally<'_> {
    /// What the command answers.
    pub fn count(&self, adding: Adding) -> i64 {
        self.added + if adding.ch { self.updated } else { 0 }
    }

    pub fn effects(&self, key: &[u8]) -> Effects {
        if self.changed.is_empty() { Effects::None } else { Effects::One(add_effect(key, &self.changed)) }
    }
}

/// Adds members with these scores, as the options have it.
pub(super) fn add_pairs<'a>(
    store: &mut KeyspaceStore,
    at: Located,
    key: &[u8],
    adding: Adding,
    pairs: Vec<(f64, &'a [u8])>,
) -> Result<Tally<'a>, Refusal> {
    let missing = if adding.xx { Missing::Leave } else { Missing::Create };
    let mut tally = Tally::default();
    write(store, at.into(), key, missing, |zset: &mut Zset| {
        for (score, member) in pairs {
            let Added::Done(inserted, score) = adding.add(zset, member, score)? else { continue };
            tally.last = Some(score);
            match inserted {
                Inserted::Added => tally.added += 1,
                Inserted::Changed => tally.updated += 1,
                Inserted::Same => continue,
            }
            tally.changed.push((score, member));
        }
        Ok::<(), Refusal>(())
    })?
    .unwrap_or(Ok(()))?;
    Ok(tally)
}

/// `ZADD` without options.
fn add_effect(key: &[u8], pairs: &[(f64, &[u8])]) -> Command {
    let scores: Vec<Vec<u8>> = pairs.iter().map(|(score, _)| score_text(*score)).collect();
    let mut effect: Vec<&[u8]> = vec![b"ZADD", key];
    for (score, (_, member)) in scores.iter().zip(pairs) {
        effect.extend([score.as_slice(), *member]);
    }
    Command::new(&effect)
}

pub(super) fn zincrby(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, by, member) = (argv.arg(1), float(argv.arg(2))?, argv.arg(3));
    let adding = Adding { incr: true, ..Adding::default() };
    let added =
        write(context.store, at[0].into(), key, Missing::Create, |zset: &mut Zset| adding.add(zset, member, by))?;
    match added.transpose()? {
        Some(Added::Done(inserted, score)) => {
            reply.double(score);
            if inserted == Inserted::Same {
                return NOTHING;
            }
            Ok(Effects::One(add_effect(key, &[(score, member)])))
        }
        Some(Added::Refused) | None => {
            reply.null();
            NOTHING
        }
    }
}

pub(super) fn zrem(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let removed = remove_all(context.store, at[0].into(), argv)?;
    reply.count(removed);
    Ok(if removed > 0 { Effects::Verbatim } else { Effects::None })
}

/// Removes the members from argument 2 on, and returns how many were there.
fn remove_all(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<usize, Refusal> {
    let removed = write(store, place, argv.arg(1), Missing::Leave, |zset: &mut Zset| {
        argv.skip(2).iter().filter(|member| zset.remove(member)).count()
    })?;
    Ok(removed.unwrap_or(0))
}

pub(super) fn zpopmin(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(context, at[0], argv, false, reply)
}

pub(super) fn zpopmax(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(context, at[0], argv, true, reply)
}

fn pop(context: &mut Context<'_>, at: Located, argv: Argv<'_>, down: bool, reply: &mut Reply<'_>) -> Outcome {
    if argv.len() > 3 {
        return Err(SYNTAX);
    }
    let count = match argv.get(2) {
        None => None,
        Some(text) => Some(count_of(text)?),
    };
    let key = argv.arg(1);
    let Some(zset) = read::<Zset>(context, at, key)? else {
        reply.array(0);
        return NOTHING;
    };
    let taken = Taken::from_end(zset, count.unwrap_or(1), down);
    let effects = taken.effects(context, key)?;
    let is_nested = count.is_some() && reply.protocol() == Protocol::Resp3;
    reply.array(if is_nested { taken.len() } else { taken.len() * 2 });
    for (member, score) in taken.members() {
        if is_nested {
            reply.array(2);
        }
        reply.bulk(member);
        reply.double(score);
    }
    let ranks = (taken.first, taken.end);
    remove_ranks(context.store, at, key, |_| ranks)?;
    Ok(effects)
}

/// Members that are to be taken out of a sorted set: those of ranks that follow each other.
struct Taken<'z> {
    zset: &'z Zset,
    first: usize,
    end: usize,
    /// They are named the last one first.
    down: bool,
}

impl<'z> Taken<'z> {
    /// Up to `count` members from the lower end, or from the upper one with `down`.
    fn from_end(zset: &'z Zset, count: usize, down: bool) -> Taken<'z> {
        let (len, count) = (zset.len(), count.min(zset.len()));
        let (first, end) = if down { (len - count, len) } else { (0, count) };
        Taken { zset, first, end, down }
    }

    fn len(&self) -> usize {
        self.end - self.first
    }

    fn members(&self) -> impl Iterator<Item = (&'z [u8], f64)> {
        let &Taken { zset, first, end, down } = self;
        let upwards = (!down).then(|| zset.range(first, end)).into_iter().flatten();
        upwards.chain(down.then(|| zset.range_down(first, end)).into_iter().flatten())
    }

    /// The effects that say so.
    fn effects(&self, context: &Context<'_>, key: &[u8]) -> Outcome {
        if self.len() == 0 {
            return NOTHING;
        }
        let is_all = self.len() == self.zset.len();
        removal(context.room, b"ZREM", key, self.members().map(|(member, _)| member), is_all)
    }
}

/// Takes the members of the ranks that `which` says away, and returns how many that are; with the last of them goes the key.
fn remove_ranks(
    store: &mut KeyspaceStore,
    place: impl Into<Place>,
    key: &[u8],
    which: impl FnOnce(&Zset) -> (usize, usize),
) -> Result<usize, Refusal> {
    let removed = write(store, place.into(), key, Missing::Leave, |zset: &mut Zset| {
        let (first, end) = which(zset);
        let all = (end - first == zset.len()).then(|| std::mem::take(zset));
        if all.is_none() {
            zset.remove_ranks(first, end);
        }
        (end - first, all)
    })?;
    let Some((count, all)) = removed else { return Ok(0) };
    all.into_iter().for_each(|zset| store.free_later(Value::Zset(zset)));
    Ok(count)
}

pub(super) fn zmpop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (down, count) = several(argv, at.len(), |word| match () {
        () if word.eq_ignore_ascii_case(b"MIN") => Some(false),
        () if word.eq_ignore_ascii_case(b"MAX") => Some(true),
        () => None,
    })?;
    for (&at, key) in at.iter().zip(argv.iter().skip(2)) {
        let Some(zset) = read::<Zset>(context, at, key)? else { continue };
        let taken = Taken::from_end(zset, count, down);
        let effects = taken.effects(context, key)?;
        reply.array(2);
        reply.bulk(key);
        reply.array(taken.len());
        for (member, score) in taken.members() {
            reply.array(2);
            reply.bulk(member);
            reply.double(score);
        }
        let ranks = (taken.first, taken.end);
        remove_ranks(context.store, at, key, |_| ranks)?;
        return Ok(effects);
    }
    reply.null_array();
    NOTHING
}

pub(super) fn bzpopmin(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop_first(context, at, argv, false, reply)
}

pub(super) fn bzpopmax(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop_first(context, at, argv, true, reply)
}

/// Takes one member from the first sorted set that is there.
fn pop_first(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, down: bool, reply: &mut Reply<'_>) -> Outcome {
    block::seconds(argv.arg(argv.len() - 1))?;
    for (&at, key) in at.iter().zip(argv.skip(1).iter()) {
        let Some(zset) = read::<Zset>(context, at, key)? else { continue };
        let taken = Taken::from_end(zset, 1, down);
        let effects = taken.effects(context, key)?;
        for (member, score) in taken.members() {
            reply.array(3);
            reply.bulk(key);
            reply.bulk(member);
            reply.double(score);
        }
        let ranks = (taken.first, taken.end);
        remove_ranks(context.store, at, key, |_| ranks)?;
        return Ok(effects);
    }
    reply.null_array();
    NOTHING
}

pub(super) fn bzmpop(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    block::seconds(argv.arg(1))?;
    zmpop(context, at, argv.skip(1), reply)
}

/// Where scores differ, what lies between two members depends on how it is searched: the effect names the members.
pub(super) fn zremrangebylex(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    take_range(context, at[0], argv.arg(1), Span::lex(argv.arg(2), argv.arg(3))?, reply)
}

/// A replica that is being sent the set in pieces has other members at these ranks: the effect names the members.
pub(super) fn zremrangebyrank(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    take_range(context, at[0], argv.arg(1), Span::rank(argv.arg(2), argv.arg(3))?, reply)
}

/// Takes a range of members away, by effects that name them.
fn take_range(context: &mut Context<'_>, at: Located, key: &[u8], span: Span<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(zset) = read::<Zset>(context, at, key)? else {
        reply.integer(0);
        return NOTHING;
    };
    let (first, end) = span.ranks(zset, false);
    let effects = Taken { zset, first, end, down: false }.effects(context, key)?;
    reply.count(remove_ranks(context.store, at, key, |_| (first, end))?);
    Ok(effects)
}

pub(super) fn zremrangebyscore(
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Outcome {
    let span = Span::score(argv.arg(2), argv.arg(3))?;
    let removed = remove_ranks(context.store, at[0], argv.arg(1), |zset| span.ranks(zset, false))?;
    reply.count(removed);
    Ok(if removed > 0 { Effects::Verbatim } else { Effects::None })
}

// ── effects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn apply_zadd(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let pairs = || (2..argv.len()).step_by(2);
    if !argv.len().is_multiple_of(2) || pairs().any(|index| number::float(argv.arg(index)).is_none()) {
        return Err(Misfit::Form);
    }
    write(store, place, argv.arg(1), Missing::Create, |zset: &mut Zset| {
        for index in pairs() {
            if let Some(score) = number::float(argv.arg(index)) {
                zset.insert(argv.arg(index + 1), score);
            }
        }
    })?;
    Ok(())
}

pub(super) fn apply_zrem(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    remove_all(store, place, argv)?;
    Ok(())
}

pub(super) fn apply_zremrangebyrank(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let span = Span::rank(argv.arg(2), argv.arg(3)).map_err(|_| Misfit::Form)?;
    remove_ranks(store, place, argv.arg(1), |zset| span.ranks(zset, false))?;
    Ok(())
}

pub(super) fn apply_zremrangebyscore(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let span = Span::score(argv.arg(2), argv.arg(3)).map_err(|_| Misfit::Form)?;
    remove_ranks(store, place, argv.arg(1), |zset| span.ranks(zset, false))?;
    Ok(())
}
