//! Commands on HyperLogLogs. They are strings, and what a command does to one is said as the bytes that changed, so that it may
//! meet a copy of which only the beginning has arrived.

use std::ops::Range;

use super::refusal::{CORRUPT_SKETCH, NOT_A_SKETCH, Refusal};
use super::string::{read, set_effect, set_range};
use super::{Context, NOTHING, Outcome};
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::hyperloglog::{self, Flaw, Registers, Sketch};
use crate::wire::{Argv, Command, Effects};

impl From<Flaw> for Refusal {
    fn from(flaw: Flaw) -> Refusal {
        match flaw {
            Flaw::Foreign => NOT_A_SKETCH,
            Flaw::Corrupt => CORRUPT_SKETCH,
        }
    }
}

pub(super) fn pfadd(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let old = read(context, at[0], argv.arg(1))?;
    let (mut sketch, mut is_changed) = match old {
        Some(bytes) => (Sketch::open(bytes)?, false),
        None => (Sketch::new(), true),
    };
    for element in argv.skip(2).iter() {
        is_changed |= sketch.add(element)?;
    }
    let effects = match is_changed {
        true => {
            let new = sketch.into_bytes();
            put(context, at[0], argv.arg(1), &new)?
        }
        false => Effects::None,
    };
    reply.integer(is_changed.into());
    Ok(effects)
}

/// Reads, and leaves the count that the string says of itself as it is: a replica may be asked as well as a primary.
pub(super) fn pfcount(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let count = match at {
        [at] => read(context, *at, argv.arg(1))?.map_or(Ok(0), hyperloglog::count)?,
        _ => registers(context, at, argv)?.count(),
    };
    reply.integer(count as i64);
    NOTHING
}

pub(super) fn pfmerge(context: &mut Context<'_>, at: &[Located], argv: Argv<'_>, reply: &mut Reply<'_>) -> Outcome {
    let registers = registers(context, at, argv)?;
    let merged = joined(read(context, at[0], argv.arg(1))?, &registers)?;
    let effects = put(context, at[0], argv.arg(1), &merged)?;
    reply.ok();
    Ok(effects)
}

/// Those of all the keys that are arguments.
fn registers(context: &Context<'_>, at: &[Located], argv: Argv<'_>) -> Result<Registers, Refusal> {
    let mut registers = Registers::new();
    for (&at, key) in at.iter().zip(argv.skip(1).iter()) {
        if let Some(bytes) = read(context, at, key)? {
            registers.join(bytes)?;
        }
    }
    Ok(registers)
}

/// What a key that holds `old` holds after `registers` are added.
///
/// # Errors
/// If it holds something else.
pub fn joined(old: Option<&[u8]>, registers: &Registers) -> Result<Vec<u8>, Refusal> {
    let mut sketch = old.map_or(Ok(Sketch::new()), Sketch::open)?;
    sketch.join(registers)?;
    Ok(sketch.into_bytes())
}

/// Gives `key`, whose string was something like it or is missing, this string.
fn put(context: &mut Context<'_>, at: Located, key: &[u8], new: &[u8]) -> Outcome {
    let old = context.read(at, key);
    let expiry = old.and_then(|entry| entry.expiry());
    let change = match old.map(super::string::in_entry).transpose()? {
        None => None,
        Some(old) if old == new => return NOTHING,
        Some(old) => Some(changed(old, new)),
    };
    match change {
        None => {
            let effect = set_effect(key, new, None);
            context.room.take_command(&effect)?;
            context.store.set_string(at, key, new, None);
            Ok(Effects::One(effect))
        }
        // Nothing but the whole makes a string shorter.
        Some(None) => {
            let effect = Command::new(&[b"SET", key, new, b"KEEPTTL"]);
            context.room.take_command(&effect)?;
            context.store.set_string(at, key, new, expiry);
            Ok(Effects::One(effect))
        }
        Some(Some(range)) => {
            let (position, part) = (range.start, &new[range]);
            let effect = Command::new(&[b"SETRANGE", key, itoa::Buffer::new().format(position).as_bytes(), part]);
            context.room.take_command(&effect)?;
            set_range(context.store, at.into(), key, position, part)?;
            Ok(Effects::One(effect))
        }
    }
}

/// The part of `new` that is not as in `old`; `None` if it is shorter.
fn changed(old: &[u8], new: &[u8]) -> Option<Range<usize>> {
    if new.len() < old.len() {
        return None;
    }
    let first = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let behind = match new.len() == old.len() {
        true => old.iter().zip(new).rev().take_while(|(a, b)| a == b).count(),
        false => 0,
    };
    Some(first..new.len() - behind)
}
