//! `SCAN` and its kin: step by step through the keyspace, or through one value. What is there from the first step to the last is
//! returned at least once, whatever else comes and goes.
//!
//! ```text
//! SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]          ─▶ cursor, keys
//! HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]      ─▶ cursor, fields with values
//! ```

use super::aggregate::{Aggregate, read};
use super::glob;
use super::key::type_name;
use super::refusal::{Refusal, SYNTAX};
use super::string::integer;
use super::{Context, NOTHING, Outcome, has_expired};
use crate::id::UnixMs;
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::value::{Hash, Set, Zset};
use crate::store::{Entry, ScanCursor};
use crate::wire::Argv;

/// How many keys or members a step without `COUNT` looks at.
const SCAN_COUNT: usize = 10;

/// How many keys or members one step looks at, whatever its `COUNT`.
const SCAN_COUNT_MAX: usize = 10_000;

const INVALID_CURSOR: Refusal = Refusal::Text("ERR invalid cursor");

/// Which keys or members a step is asked for.
#[derive(Clone, Copy, Debug)]
struct Options<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    novalues: bool,
}

/// What is walked through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Keys,
    Fields,
    Members,
}

impl<'a> Options<'a> {
    /// Reads the options from argument `first` on.
    fn parse(argv: Argv<'a>, first: usize, over: Over) -> Result<Options<'a>, Refusal> {
        let mut options = Options { count: SCAN_COUNT, pattern: None, kind: None, novalues: false };
        let mut index = first;
        while let Some(option) = argv.get(index) {
            if over == Over::Fields && option.eq_ignore_ascii_case(b"NOVALUES") {
                options.novalues = true;
                index += 1;
                continue;
            }
            let value = argv.get(index + 1).ok_or(SYNTAX)?;
            index += 2;
            if option.eq_ignore_ascii_case(b"MATCH") {
                options.pattern = Some(value);
            } else if option.eq_ignore_ascii_case(b"COUNT") {
                let count = usize::try_from(integer(value)?).ok().filter(|count| *count > 0).ok_or(SYNTAX)?;
                options.count = count.min(SCAN_COUNT_MAX);
            } else if over == Over::Keys && option.eq_ignore_ascii_case(b"TYPE") {
                options.kind = Some(value);
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(options)
    }

    fn fits(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::fits(pattern, name))
    }

    fn wants(&self, entry: &Entry<'_>, now: UnixMs) -> bool {
        !has_expired(entry, now)
            && self.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(type_name(entry.value().kind()).as_bytes()))
            && self.fits(entry.key())
    }
}

/// A cursor as `strtoul` reads it: nothing is 0, and a negative number wraps.
fn cursor(text: &[u8]) -> Result<u64, Refusal> {
    let (negative, digits) = match text {
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let number: u64 = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(INVALID_CURSOR)?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

/// Where a `SCAN` goes on, as its cursor says.
///
/// # Errors
/// If the command is no `SCAN` that could be executed.
pub fn scan_cursor(argv: Argv<'_>) -> Result<ScanCursor, Refusal> {
    let from = ScanCursor::from_u64(cursor(argv.arg(1))?).ok_or(INVALID_CURSOR)?;
    Options::parse(argv, 2, Over::Keys)?;
    Ok(from)
}

/// How many keys a `SCAN` is to look at.
///
/// # Errors
/// If one of its options is none.
pub fn scan_count(argv: Argv<'_>) -> Result<usize, Refusal> {
    Options::parse(argv, 2, Over::Keys).map(|options| options.count)
}

pub(super) fn scan(context: &mut Context<'_>, _: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (from, options) = (scan_cursor(argv)?, Options::parse(argv, 2, Over::Keys)?);
    let now = context.now;
    let mut found = Found::new(reply);
    let next = context.store.scan(from, options.count, |entry| {
        if options.wants(&entry, now) {
            found.push(|keys| keys.bulk(entry.key()), 1);
        }
    });
    found.answer(next.get(), reply);
    NOTHING
}

/// What a step found, as replies.
struct Found {
    bytes: Vec<u8>,
    count: usize,
    protocol: crate::resp::Protocol,
}

impl Found {
    fn new(reply: &Reply<'_>) -> Found {
        Found { bytes: Vec::new(), count: 0, protocol: reply.protocol() }
    }

    fn push(&mut self, show: impl FnOnce(&mut Reply<'_>), replies: usize) {
        show(&mut Reply::new(&mut self.bytes, self.protocol));
        self.count += replies;
    }

    fn answer(self, next: u64, reply: &mut Reply<'_>) {
        reply.array(2);
        reply.bulk(itoa::Buffer::new().format(next).as_bytes());
        reply.array(self.count);
        reply.raw(&self.bytes);
    }
}

/// A step through one value: `step` takes it from a cursor to the next.
fn through<A: Aggregate>(
    context: &Context<'_>,
    at: Located,
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
    over: Over,
    step: impl FnOnce(&A, u64, &Options<'_>, &mut Found) -> u64,
) -> Outcome {
    let from = cursor(argv.arg(2))?;
    let mut found = Found::new(reply);
    // As Redis has it, nobody looks at the options for a missing value.
    let next = match read::<A>(context, at, argv.arg(1))? {
        Some(value) => step(value, from, &Options::parse(argv, 3, over)?, &mut found),
        None => 0,
    };
    found.answer(next, reply);
    NOTHING
}

pub(super) fn hscan(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let now = context.now;
    through(context, at[0], argv, reply, Over::Fields, |hash: &Hash, from, options, found| {
        hash.shown(now).scan(from, options.count, |field, value| match () {
            () if !options.fits(field) => {}
            () if options.novalues => found.push(|reply| reply.bulk(field), 1),
            () => found.push(
                |reply| {
                    reply.bulk(field);
                    reply.bulk(value);
                },
                2,
            ),
        })
    })
}

pub(super) fn sscan(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    through(context, at[0], argv, reply, Over::Members, |set: &Set, from, options, found| {
        set.scan(from, options.count, |member| {
            if options.fits(member) {
                found.push(|reply| reply.bulk(member), 1);
            }
        })
    })
}

pub(super) fn zscan(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    through(context, at[0], argv, reply, Over::Members, |zset: &Zset, from, options, found| {
        zset.scan(from, options.count, |member, score| {
            if options.fits(member) {
                found.push(
                    |reply| {
                        reply.bulk(member);
                        reply.bulk_double(score);
                    },
                    2,
                );
            }
        })
    })
}
