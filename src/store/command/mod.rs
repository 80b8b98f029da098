//! Commands: what they do to a keyspace, what they answer, and their effects, which is how the stream tells a replica what
//! they did. No I/O, no clock, no chance but what the caller passes in.
//!
//! ```text
//!  client   argv ──▶ table::find ──▶ execute ──▶ reply
//!                                       └──────▶ Effects ──▶ stream ──▶ apply (replica)
//! ```
//!
//! An effect names one key and is decided: expiry is absolute, members are chosen, sums of floating-point numbers are done. What
//! `apply` knows is what `execute` can leave behind, and no more.

pub mod absent;
mod aggregate;
mod bits;
pub mod block;
mod combine;
pub mod docs;
mod echo;
mod fields;
mod geo;
pub mod glob;
mod hash;
pub mod hyperloglog;
pub mod introspect;
pub mod key;
mod lcs;
mod list;
pub mod number;
pub mod object;
mod random;
mod recreate;
pub mod refusal;
mod set;
mod sort;
pub mod stream;
mod string;
pub mod table;
mod transfer;
pub mod walk;
mod zset;

pub use fields::{next_due, take_due};
pub use random::Random;
pub use refusal::Refusal;
pub use sort::reaches;
pub use table::{Flags, Spec, find, find_undoing};

use crate::id::{SlotRange, UnixMs};
use crate::limits::EXPIRY_STEP_FIELDS;
use crate::resp::{Reply, decode_multibulk};
use crate::snapshot::{ApplyError, Copy, Keyspace, Located};
use crate::store::{Entry, KeyspaceStore, Message, Place, Tracking};
use crate::wire::{Argv, Command, Effects, Full, Room};

/// What becomes of an expired key that a command meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lazy {
    /// It is removed, and the effects say so: on a primary.
    Delete,
    /// It is not shown, and stays: on a replica, whose primary will say when it goes. Only for commands that read.
    Hide,
}

/// What a command works on.
#[derive(Debug)]
pub struct Context<'a> {
    /// The keys.
    pub store: &'a mut KeyspaceStore,
    /// The time at which all of this happens.
    pub now: UnixMs,
    /// Where chance comes from.
    pub random: &'a mut Random,
    /// What becomes of expired keys.
    pub lazy: Lazy,
    /// What the effects of the command may take of the stream.
    pub room: Room,
    /// Counts the keys that were removed because they had expired.
    pub expired_keys: &'a mut u64,
}

impl Context<'_> {
    /// The entry of `key`, if it is there and has not expired.
    #[inline]
    fn read(&self, at: Located, key: &[u8]) -> Option<Entry<'_>> {
        let entry = self.store.get(at, key).filter(|entry| !has_expired(entry, self.now));
        self.store.note_look(entry.is_some());
        entry
    }
}

/// Whether the key is not there any more for whoever asks at `now`.
#[inline]
pub fn has_expired(entry: &Entry<'_>, now: UnixMs) -> bool {
    entry.expiry().is_some_and(|at| at <= now)
}

/// What a command leaves behind.
type Outcome = Result<Effects, Refusal>;

/// A command that changed nothing, or only reads.
const NOTHING: Outcome = Ok(Effects::None);

/// Executes a command of the store, appends its reply, and returns what it did. `at` has one place for each key that
/// the [`Spec`] names, in their order. An expired key that the command names is removed first, as are such fields of its hashes, and the effects begin with that.
///
/// A command of the server ([`table::Handler::Server`]) is answered with an error.
#[inline]
pub fn execute(
    spec: &Spec,
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    reply: &mut Reply<'_>,
) -> Effects {
    let table::Handler::Store { execute, .. } = spec.handler else {
        reply.error(format_args!("ERR '{}' is not a command on keys", spec.name));
        return Effects::None;
    };
    let mut spec = spec;
    if spec.has_subcommands() {
        match spec.named(argv) {
            Ok(named) => spec = named,
            Err(refusal) => {
                reply.error(refusal);
                return Effects::None;
            }
        }
    }
    if !spec.fits(argv.len()) {
        reply.error(Refusal::Arity(spec.name));
        return Effects::None;
    }
    debug_assert_eq!(at.len(), spec.keys(argv).count());
    let mut expired = Vec::new();
    let has_room = match context.lazy {
        Lazy::Delete if context.store.expires() > 0 || context.store.has_times() => {
            remove_expired(spec, context, at, argv, &mut expired)
        }
        _ => Ok(()),
    };
    if context.store.tracking() != Tracking::Off {
        note_uses(spec, context, at, argv);
    }
    // One frame that nothing else stands beside always fits.
    let fits = has_room.is_ok() && (context.room.is_whole() || !spec.writes() || context.room.holds(argv));
    let effects = match if fits { execute(context, at, argv, reply) } else { Err(refusal::TOO_LARGE) } {
        // Most outcomes: told by what they are. To move what was only just written, all of it, waits for all that was written before.
        Ok(Effects::Verbatim) if expired.is_empty() => return Effects::Verbatim,
        Ok(Effects::None) if expired.is_empty() => return Effects::None,
        Ok(effects) => effects,
        Err(refusal) => {
            reply.error(refusal);
            Effects::None
        }
    };
    if expired.is_empty() { effects } else { precede(expired, effects, argv) }
}

/// Writes down that a command uses its keys.
#[cold]
fn note_uses(spec: &Spec, context: &mut Context<'_>, at: &[Located], argv: Argv<'_>) {
    context.store.tick(context.now);
    if spec.flags.has(Flags::LOOKS) {
        return;
    }
    for (&at, index) in at.iter().zip(spec.keys(argv)) {
        context.store.note_use(at, argv.arg(index), context.now, context.random.number());
    }
}

/// Removes those keys of a command that have expired, and of its hashes the fields that have.
///
/// # Errors
/// If there is no room to say so of all of them.
#[inline(never)]
fn remove_expired(
    spec: &Spec,
    context: &mut Context<'_>,
    at: &[Located],
    argv: Argv<'_>,
    removed: &mut Vec<Command>,
) -> Result<(), Full> {
    for (&at, index) in at.iter().zip(spec.keys(argv)) {
        let key = argv.arg(index);
        let Some(entry) = context.store.get(at, key) else { continue };
        if next_due(&entry).is_some_and(|due| due <= context.now) && !has_expired(&entry, context.now) {
            // Who reads is not shown them, and need not wait until many are gone.
            let most = if spec.writes() { usize::MAX } else { EXPIRY_STEP_FIELDS };
            removed.extend(take_due(context.store, at, key, context.now, most, &mut context.room)?.0);
        } else if has_expired(&entry, context.now) {
            take_del(&mut context.room, key)?;
            context.store.remove(at, key);
            *context.expired_keys += 1;
            removed.push(del(key));
        }
    }
    Ok(())
}

/// The effects of a command behind those of the keys it found expired.
fn precede(mut first: Vec<Command>, effects: Effects, argv: Argv<'_>) -> Effects {
    match effects {
        Effects::None => {}
        Effects::Verbatim => first.push(Command::of(argv)),
        Effects::One(command) => first.push(command),
        Effects::Group(commands) => first.extend(commands),
    }
    group(first)
}

/// Some commands as effects.
pub fn group(mut commands: Vec<Command>) -> Effects {
    match commands.len() {
        0 => Effects::None,
        1 => Effects::One(commands.remove(0)),
        _ => Effects::Group(commands),
    }
}

/// Takes the room of [`del`].
fn take_del(room: &mut Room, key: &[u8]) -> Result<(), Full> {
    room.take([3, key.len()])
}

/// The effect of a removed key.
pub fn del(key: &[u8]) -> Command {
    Command::new(&[b"DEL", key])
}

/// Applies one key-local effect to one copy of the slot of its key. What the effect would change and is not there is no error:
/// an `LPOP` of a missing key changes nothing.
///
/// # Errors
/// If the effect is not in the vocabulary, or the key's value does not fit it. Nothing has changed then.
#[inline]
pub fn apply(store: &mut KeyspaceStore, copy: Copy, at: Located, effect: Argv<'_>) -> Result<(), ApplyError> {
    let verb = effect.get(0).unwrap_or_default();
    let Some(spec) = find(verb) else { return apply_other(store, Place { copy, at }, effect) };
    let table::Handler::Store { apply: Some(apply), .. } = spec.handler else { return Err(unknown(verb)) };
    if !spec.fits(effect.len()) {
        return Err(unknown(verb));
    }
    apply(store, Place { copy, at }, effect).map_err(|misfit| match misfit {
        Misfit::Form => unknown(verb),
        Misfit::Value => ApplyError::Misfit(spec.name),
    })
}

/// Applies what is said in a word of the stream alone.
#[cold]
fn apply_other(store: &mut KeyspaceStore, place: Place, effect: Argv<'_>) -> Result<(), ApplyError> {
    match stream::group::apply_effect(store, place, effect) {
        Some(applied) => applied.map_err(|misfit| match misfit {
            Misfit::Form => unknown(effect.arg(0)),
            Misfit::Value => ApplyError::Misfit("xgroup"),
        }),
        None => apply_message(store, place.copy, effect),
    }
}

/// What was published is not about keys: it is kept for whoever hands it on, once.
fn apply_message(store: &mut KeyspaceStore, copy: Copy, effect: Argv<'_>) -> Result<(), ApplyError> {
    let message = Message::from_effect(effect).ok_or_else(|| unknown(effect.get(0).unwrap_or_default()))?;
    if copy == Copy::Live {
        store.message(message);
    }
    Ok(())
}

/// Why an effect could not be applied.
enum Misfit {
    /// Its arguments are not in a form that effects have.
    Form,
    /// The key's value does not fit.
    Value,
}

impl From<Refusal> for Misfit {
    fn from(_: Refusal) -> Misfit {
        Misfit::Value
    }
}

#[cold]
fn unknown(verb: &[u8]) -> ApplyError {
    // The text goes to a log: what a peer sends is not to fill it.
    ApplyError::Unknown(verb[..verb.len().min(32)].escape_ascii().to_string())
}

/// Puts `part` at a position of the string at `key`, which is made or grows as `SETRANGE` has it. `false`: the key holds something
/// else, or a string of that length is too long.
pub(super) fn set_range(store: &mut KeyspaceStore, place: Place, key: &[u8], position: usize, part: &[u8]) -> bool {
    string::set_range(store, place, key, position, part).is_ok()
}

/// Applies one effect of a stream to the live keys: finds the places of its keys, takes effects on several keys apart (which
/// published versions of this engine send), and knows those without a key. What an embedder does with a frame.
///
/// # Errors
/// As [`apply`].
pub fn dispatch<A: AsRef<[u8]>>(store: &mut KeyspaceStore, argv: &[A]) -> Result<(), ApplyError> {
    let command = Command::new(argv);
    let mut ranges = Vec::with_capacity(argv.len());
    // What was just encoded does not decode only where it has no verb.
    let Ok(Some(_)) = decode_multibulk(command.as_bytes(), &mut ranges) else { return Err(unknown(b"")) };
    dispatch_argv(store, Argv::new(command.as_bytes(), &ranges))
}

/// As [`dispatch`], of an effect that lies encoded in a buffer.
///
/// # Errors
/// As [`apply`].
pub fn dispatch_argv(store: &mut KeyspaceStore, effect: Argv<'_>) -> Result<(), ApplyError> {
    let verb = effect.get(0).unwrap_or_default();
    let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
    if is(b"NOOP") {
        return Ok(());
    }
    if is(b"FLUSHALL") || is(b"FLUSHDB") {
        store.clear_slots(SlotRange::ALL);
        return Ok(());
    }
    let per_key = match effect.len() {
        len if len > 2 && (is(b"DEL") || is(b"UNLINK")) => 1,
        len if len > 3 && len % 2 == 1 && is(b"MSET") => 2,
        _ => {
            let at = store.locate(effect.get(1).ok_or_else(|| unknown(verb))?);
            return apply(store, Copy::Live, at, effect);
        }
    };
    for index in (1..effect.len()).step_by(per_key) {
        let key = effect.arg(index);
        let at = store.locate(key);
        if per_key == 1 {
            store.remove(at, key);
        } else {
            store.set_string(at, key, effect.arg(index + 1), None);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
