//! Commands on the entries of streams. What groups have to do with them is in [`group`] and [`read`].
//!
//! ```text
//! XADD k MAXLEN ~ 1000 * f v   ──▶   XADD k MINID = first id f v       what it was, and which entries are left
//! XTRIM k MAXLEN 10            ──▶   XTRIM k MINID = first
//! XDEL k a b c                 ──▶   XDEL k a c                        those that were there
//! XSETID k id                  ──▶   XSETID k id ENTRIESADDED n MAXDELETEDID id
//! ```
//!
//! A trimmed stream is said by the first id that is left, never by a length: that is the same for a copy that has only some of the
//! entries yet.

pub mod group;
pub mod info;
pub mod read;

use super::aggregate::{Missing, read as read_value, write};
use super::refusal::{NO_SUCH_KEY, Refusal, SYNTAX};
use super::string::integer;
use super::{Context, Misfit, NOTHING, Outcome};
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::value::stream::{
    Counters, Entry, Exactness, Keep, Stream, StreamId, Trimmed, Words, number as digits,
};
use crate::store::{KeyspaceStore, Place, Value};
use crate::wire::{Argv, Command, Effects};

const INVALID_ID: Refusal = Refusal::Text("ERR Invalid stream ID specified as stream command argument");
const NOT_ABOVE_ZERO: Refusal = Refusal::Text("ERR The ID specified in XADD must be greater than 0-0");
const NOT_ABOVE_TOP: Refusal =
    Refusal::Text("ERR The ID specified in XADD is equal or smaller than the target stream top item");
const EXHAUSTED: Refusal = Refusal::Text("ERR The stream has exhausted the last possible ID, unable to add more items");

/// The longest id that is looked at.
const ID_BYTES_MAX: usize = 127;

/// Entries that approximate trimming takes away at most, unless it is told how many: a hundred nodes.
const TRIMMED_MAX: usize = 10_000;

/// An id, in which the number may be missing.
fn strict_id(text: &[u8], missing_seq: u64) -> Result<StreamId, Refusal> {
    if text.len() > ID_BYTES_MAX { None } else { StreamId::parse(text, missing_seq) }.ok_or(INVALID_ID)
}

/// An id, or `-` or `+` for the first or the last that there can be.
fn any_id(text: &[u8], missing_seq: u64) -> Result<StreamId, Refusal> {
    match text {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        text => strict_id(text, missing_seq),
    }
}

/// Where a range begins.
fn first_of_range(text: &[u8]) -> Result<StreamId, Refusal> {
    match text {
        [b'(', rest @ ..] if !rest.is_empty() => {
            strict_id(rest, 0)?.next().ok_or(Refusal::Text("ERR invalid start ID for the interval"))
        }
        text => any_id(text, 0),
    }
}

/// Where a range ends.
fn last_of_range(text: &[u8]) -> Result<StreamId, Refusal> {
    match text {
        [b'(', rest @ ..] if !rest.is_empty() => {
            strict_id(rest, u64::MAX)?.previous().ok_or(Refusal::Text("ERR invalid end ID for the interval"))
        }
        text => any_id(text, u64::MAX),
    }
}

fn bulk_id(id: StreamId, reply: &mut Reply<'_>) {
    reply.bulk(id.to_string().as_bytes());
}

/// An id with the fields and values of its entry.
fn show(entry: Entry<'_>, reply: &mut Reply<'_>) {
    reply.array(2);
    bulk_id(entry.id(), reply);
    reply.array(entry.len());
    entry.words().for_each(|word| reply.bulk(word));
}

fn show_all(entries: &[Entry<'_>], reply: &mut Reply<'_>) {
    reply.array(entries.len());
    entries.iter().for_each(|entry| show(*entry, reply));
}

// ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

pub(super) fn xlen(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(read_value::<Stream>(context, at[0], argv.arg(1))?.map_or(0, Stream::len));
    NOTHING
}

pub(super) fn xrange(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(context, at[0], argv, reply, false)
}

pub(super) fn xrevrange(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(context, at[0], argv, reply, true)
}

fn range(context: &Context<'_>, at: Located, argv: Argv<'_>, reply: &mut Reply<'_>, down: bool) -> Outcome {
    let (first, last) = if down { (argv.arg(3), argv.arg(2)) } else { (argv.arg(2), argv.arg(3)) };
    let (first, last) = (first_of_range(first)?, last_of_range(last)?);
    let mut count = None;
    for index in (4..argv.len()).step_by(2) {
        match argv.get(index + 1) {
            Some(value) if argv.arg(index).eq_ignore_ascii_case(b"COUNT") => count = Some(integer(value)?),
            _ => return Err(SYNTAX),
        }
    }
    // As Redis has it, one less than nothing is everything.
    let count = count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(0));
    let Some(stream) = read_value::<Stream>(context, at, argv.arg(1))? else {
        reply.array(0);
        return NOTHING;
    };
    if count == 0 {
        reply.null_array();
        return NOTHING;
    }
    let entries: Vec<_> = match down {
        false => stream.range(first, last).take(count).collect(),
        true => stream.range_down(first, last).take(count).collect(),
    };
    show_all(&entries, reply);
    NOTHING
}

// ── adding, trimming ────────────────────────────────────────────────────────────────────────────────────────────────

/// The id that a new entry is to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NewId {
    /// The time, or what comes next.
    Auto,
    /// In this millisecond.
    In(u64),
    /// This one.
    Given(StreamId),
}

impl NewId {
    fn parse(text: &[u8]) -> Result<NewId, Refusal> {
        match text {
            b"*" => Ok(NewId::Auto),
            [ms @ .., b'-', b'*'] if text.len() <= ID_BYTES_MAX => digits(ms).map(NewId::In).ok_or(INVALID_ID),
            text => strict_id(text, 0).map(NewId::Given),
        }
    }

    /// The id behind `last`; `None`: what is wanted is not behind it.
    fn behind(self, last: StreamId, now: u64) -> Option<StreamId> {
        match self {
            NewId::Auto if now > last.ms => Some(StreamId::new(now, 0)),
            NewId::Auto => last.next(),
            NewId::In(ms) if ms == last.ms => last.seq.checked_add(1).map(|seq| StreamId::new(ms, seq)),
            NewId::In(ms) => Some(StreamId::new(ms, 0)),
            NewId::Given(id) => Some(id),
        }
        .filter(|id| *id > last)
    }
}

/// How `XADD` and `XTRIM` are to trim, and what else stands before the id.
#[derive(Clone, Copy, Debug)]
struct Options {
    trim: Option<(Keep, Exactness)>,
    /// Whether a missing stream stays missing.
    leaves_missing: bool,
    id: NewId,
    /// The first argument behind them, and behind the id.
    end: usize,
}

impl Options {
    /// Reads the arguments from number 2 on.
    fn parse(argv: Argv<'_>, is_add: bool) -> Result<Options, Refusal> {
        let (mut keep, mut is_approximate, mut limit, mut leaves_missing, mut id) = (None, false, None, false, None);
        let mut index = 2;
        while let Some(option) = argv.get(index) {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            let has_more = index + 1 < argv.len();
            if has_more && (is(b"MAXLEN") || is(b"MINID")) {
                if keep.is_some() {
                    return Err(Refusal::Text(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                is_approximate = false;
                index += 1;
                if index + 1 < argv.len() && matches!(argv.arg(index), b"~" | b"=") {
                    is_approximate = argv.arg(index) == b"~";
                    index += 1;
                }
                keep = Some(if is(b"MINID") {
                    Keep::From(strict_id(argv.arg(index), 0)?)
                } else {
                    let newest = usize::try_from(integer(argv.arg(index))?);
                    Keep::Newest(newest.map_err(|_| Refusal::Text("ERR The MAXLEN argument must be >= 0."))?)
                });
            } else if has_more && is(b"LIMIT") {
                index += 1;
                let number = usize::try_from(integer(argv.arg(index))?);
                limit = Some(number.map_err(|_| Refusal::Text("ERR The LIMIT argument must be >= 0."))?);
            } else if is_add && is(b"NOMKSTREAM") {
                leaves_missing = true;
            } else if is_add {
                id = Some(NewId::parse(option)?);
                index += 1;
                break;
            } else {
                return Err(SYNTAX);
            }
            index += 1;
        }
        if keep.is_none() && limit.is_some_and(|limit| limit > 0) {
            return Err(Refusal::Text("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"));
        }
        if keep.is_none() && !is_add {
            return Err(Refusal::Text("ERR syntax error, XTRIM must be called with a trimming strategy"));
        }
        let exactness = match limit {
            Some(_) if !is_approximate => {
                return Err(Refusal::Text("ERR syntax error, LIMIT cannot be used without the special ~ option"));
            }
            Some(0) => Exactness::WholeNodes(usize::MAX),
            Some(limit) => Exactness::WholeNodes(limit),
            None if is_approximate => Exactness::WholeNodes(TRIMMED_MAX),
            None => Exactness::Exact,
        };
        let trim = keep.map(|keep| (keep, exactness));
        // A command that has only options has no id; that it has no fields is said before that.
        Ok(Options { trim, leaves_missing, id: id.unwrap_or(NewId::Auto), end: index })
    }
}

/// What a trimmed stream keeps, as its effect says it.
fn kept(stream: &Stream) -> [Vec<u8>; 2] {
    match stream.first() {
        Some(entry) => [b"MINID".to_vec(), entry.id().to_string().into_bytes()],
        None => [b"MAXLEN".to_vec(), b"0".to_vec()],
    }
}

/// Puts what trimming left aside.
fn free(store: &mut KeyspaceStore, trimmed: Trimmed) {
    if let Some(rest) = trimmed.rest {
        store.free_later(Value::Stream(rest));
    }
}

pub(super) fn xadd(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = Options::parse(argv, true)?;
    let fields = argv.skip(options.end);
    if fields.is_empty() || !fields.len().is_multiple_of(2) {
        return Err(Refusal::Arity("xadd"));
    }
    if options.id == NewId::Given(StreamId::MIN) {
        return Err(NOT_ABOVE_ZERO);
    }
    let key = argv.arg(1);
    let last_id = match read_value::<Stream>(context, at[0], key)? {
        Some(stream) => stream.counters().last_id,
        None if options.leaves_missing => {
            reply.null();
            return NOTHING;
        }
        None => StreamId::MIN,
    };
    if last_id == StreamId::MAX {
        return Err(EXHAUSTED);
    }
    let id = options.id.behind(last_id, context.now.get()).ok_or(NOT_ABOVE_TOP)?;
    let words = Words::new(fields.iter());
    let added = write::<Stream, _>(context.store, at[0].into(), key, Missing::Create, |stream| {
        stream.add(id, &words);
        let trimmed = options.trim.map_or_else(Trimmed::default, |(keep, exactness)| stream.trim(keep, exactness));
        let kept = (trimmed.entries > 0).then(|| kept(stream));
        (trimmed, kept)
    })?;
    let Some((trimmed, kept)) = added else { return NOTHING };
    free(context.store, trimmed);
    let id = id.to_string();
    reply.bulk(id.as_bytes());
    if kept.is_none() && argv.arg(2) == id.as_bytes() {
        return Ok(Effects::Verbatim);
    }
    let mut effect: Vec<&[u8]> = vec![b"XADD", key];
    if let Some([option, value]) = &kept {
        effect.extend([option, &b"="[..], value]);
    }
    effect.push(id.as_bytes());
    effect.extend(fields.iter());
    Ok(Effects::One(Command::new(&effect)))
}

pub(super) fn xtrim(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let options = Options::parse(argv, false)?;
    let Some((keep, exactness)) = options.trim else { return NOTHING };
    let key = argv.arg(1);
    let trimmed = write::<Stream, _>(context.store, at[0].into(), key, Missing::Leave, |stream| {
        let trimmed = stream.trim(keep, exactness);
        (trimmed, kept(stream))
    })?;
    let Some((trimmed, [option, value])) = trimmed else {
        reply.integer(0);
        return NOTHING;
    };
    reply.count(trimmed.entries);
    let effects = match trimmed.entries {
        0 => Effects::None,
        _ => Effects::One(Command::new(&[b"XTRIM", key, &option, b"=", &value])),
    };
    free(context.store, trimmed);
    Ok(effects)
}

pub(super) fn xdel(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = argv.arg(1);
    // As Redis has it, nobody looks at the ids of a missing stream.
    let Some(stream) = read_value::<Stream>(context, at[0], key)? else {
        reply.integer(0);
        return NOTHING;
    };
    let ids = argv.skip(2).iter().map(|id| strict_id(id, 0)).collect::<Result<Vec<_>, _>>()?;
    let all = ids.len();
    let mut there: Vec<StreamId> = ids.into_iter().filter(|id| stream.get(*id).is_some()).collect();
    there.sort_unstable();
    there.dedup();
    reply.count(there.len());
    if there.is_empty() {
        return NOTHING;
    }
    write::<Stream, _>(context.store, at[0].into(), key, Missing::Leave, |stream| {
        there.iter().for_each(|id| _ = stream.delete(*id));
    })?;
    if there.len() == all {
        return Ok(Effects::Verbatim);
    }
    Ok(Effects::One(with_ids(&[b"XDEL", key], &there)))
}

/// A command whose last arguments are ids.
fn with_ids(args: &[&[u8]], ids: &[StreamId]) -> Command {
    let ids: Vec<String> = ids.iter().map(StreamId::to_string).collect();
    let args: Vec<&[u8]> = args.iter().copied().chain(ids.iter().map(String::as_bytes)).collect();
    Command::new(&args)
}

pub(super) fn xsetid(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let last_id = strict_id(argv.arg(2), 0)?;
    let (mut added, mut deleted) = (None, None);
    for index in (3..argv.len()).step_by(2) {
        let (option, value) = (argv.arg(index), argv.get(index + 1).ok_or(SYNTAX)?);
        if option.eq_ignore_ascii_case(b"ENTRIESADDED") {
            let number = u64::try_from(integer(value)?);
            added = Some(number.map_err(|_| Refusal::Text("ERR entries_added must be positive"))?);
        } else if option.eq_ignore_ascii_case(b"MAXDELETEDID") {
            let id = strict_id(value, 0)?;
            if last_id < id {
                return Err(Refusal::Text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            deleted = Some(id);
        } else {
            return Err(SYNTAX);
        }
    }
    let key = argv.arg(1);
    let stream = read_value::<Stream>(context, at[0], key)?.ok_or(NO_SUCH_KEY)?;
    let before = stream.counters();
    if last_id < before.max_deleted_id {
        return Err(Refusal::Text("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"));
    }
    if stream.last().is_some_and(|top| last_id < top.id()) {
        return Err(Refusal::Text("ERR The ID specified in XSETID is smaller than the target stream top item"));
    }
    if !stream.is_empty() && added.is_some_and(|added| added < stream.len() as u64) {
        return Err(Refusal::Text(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    let after = Counters {
        last_id,
        max_deleted_id: deleted.filter(|id| *id > StreamId::MIN).unwrap_or(before.max_deleted_id),
        entries_added: added.unwrap_or(before.entries_added),
    };
    reply.ok();
    if after == before {
        return NOTHING;
    }
    write::<Stream, _>(context.store, at[0].into(), key, Missing::Leave, |stream| stream.set_counters(after))?;
    Ok(Effects::One(counters_effect(key, after)))
}

/// The effect that says what a stream knows of its past.
pub(super) fn counters_effect(key: &[u8], counters: Counters) -> Command {
    let [last, added, deleted] =
        [counters.last_id.to_string(), counters.entries_added.to_string(), counters.max_deleted_id.to_string()];
    Command::new(&[
        b"XSETID",
        key,
        last.as_bytes(),
        b"ENTRIESADDED",
        added.as_bytes(),
        b"MAXDELETEDID",
        deleted.as_bytes(),
    ])
}

// ── effects ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// An id as effects have it.
fn effect_id(text: &[u8]) -> Result<StreamId, Misfit> {
    StreamId::parse(text, 0).filter(|_| text.contains(&b'-')).ok_or(Misfit::Form)
}

/// A number as effects have it.
fn effect_number(text: &[u8]) -> Result<u64, Misfit> {
    digits(text).ok_or(Misfit::Form)
}

/// Reads `MINID = id` or `MAXLEN = 0`.
fn effect_keep(args: Argv<'_>) -> Result<Keep, Misfit> {
    match (args.get(0), args.get(1), args.get(2)) {
        (Some(option), Some(b"="), Some(id)) if option.eq_ignore_ascii_case(b"MINID") => Ok(Keep::From(effect_id(id)?)),
        (Some(option), Some(b"="), Some(b"0")) if option.eq_ignore_ascii_case(b"MAXLEN") => Ok(Keep::Newest(0)),
        _ => Err(Misfit::Form),
    }
}

pub(super) fn apply_xadd(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let (keep, rest) = match effect_keep(argv.skip(2)) {
        Ok(keep) => (Some(keep), argv.skip(5)),
        Err(_) => (None, argv.skip(2)),
    };
    let id = effect_id(rest.get(0).ok_or(Misfit::Form)?)?;
    let fields = rest.skip(1);
    if fields.is_empty() || !fields.len().is_multiple_of(2) {
        return Err(Misfit::Form);
    }
    let words = Words::new(fields.iter());
    let trimmed = write::<Stream, _>(store, place, argv.arg(1), Missing::Create, |stream| {
        stream.add(id, &words);
        keep.map_or_else(Trimmed::default, |keep| stream.trim(keep, Exactness::Exact))
    })?;
    free(store, trimmed.unwrap_or_default());
    Ok(())
}

pub(super) fn apply_xtrim(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let keep = effect_keep(argv.skip(2)).and_then(|keep| if argv.len() == 5 { Ok(keep) } else { Err(Misfit::Form) })?;
    let trimmed =
        write::<Stream, _>(store, place, argv.arg(1), Missing::Leave, |stream| stream.trim(keep, Exactness::Exact))?;
    free(store, trimmed.unwrap_or_default());
    Ok(())
}

pub(super) fn apply_xdel(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    // Word for word, an id may have its number missing.
    let ids =
        argv.skip(2).iter().map(|id| StreamId::parse(id, 0).ok_or(Misfit::Form)).collect::<Result<Vec<_>, _>>()?;
    write::<Stream, _>(store, place, argv.arg(1), Missing::Leave, |stream| {
        ids.iter().for_each(|id| _ = stream.delete(*id));
    })?;
    Ok(())
}

pub(super) fn apply_xsetid(store: &mut KeyspaceStore, place: Place, argv: Argv<'_>) -> Result<(), Misfit> {
    let words = [argv.get(3), argv.get(5)].map(Option::unwrap_or_default);
    if argv.len() != 7 || words != [&b"ENTRIESADDED"[..], b"MAXDELETEDID"] {
        return Err(Misfit::Form);
    }
    let counters = Counters {
        last_id: effect_id(argv.arg(2))?,
        entries_added: effect_number(argv.arg(4))?,
        max_deleted_id: effect_id(argv.arg(6))?,
    };
    write::<Stream, _>(store, place, argv.arg(1), Missing::Leave, |stream| stream.set_counters(counters))?;
    Ok(())
}
