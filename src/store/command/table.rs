//! The one table of commands: name, arity, keys, flags, and what executes it. A new command is one row here and one function.
//!
//! ```text
//! row("set", -3, ONE_KEY, WRITE | DENYOOM, effect(string::set, string::apply_set))
//!             │      │          │                      │               └ applies it as an effect
//!             │      │          │                      └ executes it
//!             │      │          └ for COMMAND, for READONLY, for the memory limit
//!             │      └ which arguments are keys
//!             └ arguments with the verb; negative: at least so many
//! ```
//!
//! A command that has subcommands is executed as a whole; the rows of its subcommands say what is different about each of them.

use std::iter::StepBy;
use std::ops::{BitOr, Range};

use super::{
    Context, Misfit, Outcome, Refusal, absent, bits, combine, echo, fields, geo, hash, hyperloglog, key, lcs, list,
    number, object, set, sort, stream, string, transfer, walk, zset,
};
use crate::resp::Reply;
use crate::snapshot::Located;
use crate::store::{KeyspaceStore, Place};
use crate::wire::Argv;

/// What a command is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(u16);

impl Flags {
    /// Nothing special.
    pub const NONE: Flags = Flags(0);
    /// It may change keys.
    pub const WRITE: Flags = Flags(1);
    /// It reads keys and changes none.
    pub const READONLY: Flags = Flags(1 << 1);
    /// It may need more memory: refused at the limit.
    pub const DENYOOM: Flags = Flags(1 << 2);
    /// It takes the same time whatever a value holds, or nearly.
    pub const FAST: Flags = Flags(1 << 3);
    /// It is for operators.
    pub const ADMIN: Flags = Flags(1 << 4);
    /// It is answered while data is being loaded.
    pub const LOADING: Flags = Flags(1 << 5);
    /// It is answered on a replica that lost its primary.
    pub const STALE: Flags = Flags(1 << 6);
    /// It needs no authentication.
    pub const NO_AUTH: Flags = Flags(1 << 7);
    /// It may wait.
    pub const BLOCKING: Flags = Flags(1 << 8);
    /// It concerns all keys, and names none.
    pub const ALL_KEYS: Flags = Flags(1 << 9);
    /// It may read keys that it does not name.
    pub const REACHES: Flags = Flags(1 << 10);

    /// It looks at a key without using it.
    pub const LOOKS: Flags = Flags(1 << 11);

    /// It is about what is published.
    pub const PUBSUB: Flags = Flags(1 << 12);

    /// The flags that `COMMAND` tells, with their names there.
    const NAMES: [(Flags, &'static str); 10] = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::FAST, "fast"),
        (Flags::ADMIN, "admin"),
        (Flags::PUBSUB, "pubsub"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::BLOCKING, "blocking"),
    ];

    /// Whether all of `flags` are set.
    #[inline]
    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// The names of those that are set, as `COMMAND` tells them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        self.and(other)
    }
}

/// Which arguments of a command are keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keys {
    /// The first one; 0: there are none.
    pub first: u8,
    /// The last one; negative: from the last argument, which is -1.
    pub last: i8,
    /// How far apart they are.
    pub step: u8,
    /// Those behind them, whose places other arguments tell.
    pub movable: Movable,
}

/// Which arguments are keys is for other arguments to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Movable {
    /// There are none of this sort.
    None,
    /// As many as the argument of this number says, right behind it.
    Counted(u8),
    /// The one behind the last option `STORE` of `SORT`.
    Stored,
    /// The one behind the last option `STORE` or `STOREDIST` of `GEORADIUS`.
    StoredPlaces,
    /// The first half of those behind `STREAMS`.
    Streams,
}

impl Keys {
    /// Whether there may be some.
    pub fn are_some(self) -> bool {
        self.first > 0 || self.are_movable()
    }

    /// Whether other arguments say where some of them are.
    pub fn are_movable(self) -> bool {
        self.movable != Movable::None
    }
}

const fn fixed(first: u8, last: i8, step: u8) -> Keys {
    Keys { first, last, step, movable: Movable::None }
}

pub(super) const NO_KEYS: Keys = fixed(0, 0, 0);
const ONE_KEY: Keys = fixed(1, 1, 1);
const TWO_KEYS: Keys = fixed(1, 2, 1);
const ALL_ARGS: Keys = fixed(1, -1, 1);
const EVERY_SECOND: Keys = fixed(1, -1, 2);
/// Behind a subcommand.
const SECOND: Keys = fixed(2, 2, 1);
const FROM_SECOND: Keys = fixed(2, -1, 1);
/// In front of a last argument that is none.
const BUT_LAST: Keys = fixed(1, -2, 1);
const COUNTED: Keys = Keys { movable: Movable::Counted(1), ..NO_KEYS };
const ONE_AND_COUNTED: Keys = Keys { movable: Movable::Counted(2), ..ONE_KEY };
/// Behind a timeout.
const SECOND_COUNTED: Keys = Keys { movable: Movable::Counted(2), ..NO_KEYS };
const STREAMS: Keys = Keys { movable: Movable::Streams, ..NO_KEYS };
const ONE_AND_STORED: Keys = Keys { movable: Movable::Stored, ..ONE_KEY };

const ONE_AND_STORED_PLACES: Keys = Keys { movable: Movable::StoredPlaces, ..ONE_KEY };

/// The arguments that are keys, by number.
#[derive(Clone, Debug)]
pub struct KeyArgs {
    fixed: StepBy<Range<usize>>,
    movable: Range<usize>,
}

impl Iterator for KeyArgs {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        self.fixed.next().or_else(|| self.movable.next())
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.fixed.len() + self.movable.len();
        (len, Some(len))
    }
}

impl ExactSizeIterator for KeyArgs {}

/// Executes a command.
pub(super) type Execute = fn(&mut Context<'_>, &[Located], Argv<'_>, &mut Reply<'_>) -> Outcome;

/// Applies an effect.
pub(super) type Apply = fn(&mut KeyspaceStore, Place, Argv<'_>) -> Result<(), Misfit>;

/// Who executes a command.
#[derive(Clone, Copy, Debug)]
#[allow(private_interfaces, reason = "the functions are called by `execute` and `apply` only")]
pub enum Handler {
    /// The store, by [`execute`](super::execute).
    Store {
        /// Executes it.
        execute: Execute,
        /// Applies it, if it is in the vocabulary of effects.
        apply: Option<Apply>,
    },
    /// The server: it concerns a connection, the node or several shards.
    Server,
}

/// A command.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name, in lower case; of a subcommand `config|get`.
    pub name: &'static str,
    /// How many arguments it has, the verb included; negative: at least so many.
    pub arity: i8,
    /// Which of them are keys.
    pub keys: Keys,
    /// What it is like.
    pub flags: Flags,
    /// Who executes it.
    pub handler: Handler,
    /// Its row of the table.
    row: u16,
    /// The rows of its subcommands among theirs: the first, and one past the last.
    subcommands: (u8, u8),
}

impl Spec {
    /// Its name without that of the subcommand.
    pub fn verb(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(verb, _)| verb)
    }

    /// Its subcommands.
    pub fn subcommands(&self) -> &'static [Spec] {
        &SUBCOMMANDS[usize::from(self.subcommands.0)..usize::from(self.subcommands.1)]
    }

    /// Whether it is one of several things, which the first argument says.
    #[inline]
    pub const fn has_subcommands(&self) -> bool {
        self.subcommands.0 < self.subcommands.1
    }

    /// The command that `argv`, which begins with its name, means: where it has subcommands, one of them.
    ///
    /// # Errors
    /// If there is no such subcommand.
    #[inline]
    pub fn named<'a>(&'a self, argv: Argv<'_>) -> Result<&'a Spec, Refusal> {
        if self.has_subcommands() && argv.len() > 1 { self.subcommand(argv.arg(1)) } else { Ok(self) }
    }

    fn subcommand(&self, name: &[u8]) -> Result<&'static Spec, Refusal> {
        let is = |sub: &&Spec| sub.name.as_bytes()[self.name.len() + 1..].eq_ignore_ascii_case(name);
        self.subcommands().iter().find(is).ok_or_else(|| {
            let absent = absent::find(&[self.name.as_bytes(), name].join(&b'|'));
            let name = String::from_utf8_lossy(&name[..name.len().min(128)]).into_owned();
            match absent {
                Some(absent) => {
                    let verb = self.name.to_ascii_uppercase();
                    Refusal::Message(format!("ERR {verb} {name} is not supported: {}", absent.why))
                }
                None => Refusal::UnknownSubcommand(self.name, name),
            }
        })
    }

    /// Whether it takes so many arguments, the verb included.
    #[inline]
    pub const fn fits(&self, args: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { args >= arity } else { args == arity }
    }

    /// Its row of the table.
    #[inline]
    pub fn row(&self) -> usize {
        usize::from(self.row)
    }

    /// Whether it costs much the same whatever a value holds: a look at the clock would be a good part of it.
    #[inline]
    pub fn is_light(&self) -> bool {
        self.flags.has(Flags::FAST) || self.row() == SET
    }

    /// Whether it may change keys.
    #[inline]
    pub const fn writes(&self) -> bool {
        self.flags.has(Flags::WRITE)
    }

    /// Which arguments are keys, by number. Where a count of keys is impossible, it counts none: the command says what is wrong.
    #[inline]
    pub fn keys(&self, argv: Argv<'_>) -> KeyArgs {
        let Keys { first, last, step, movable } = self.keys;
        let end = match (first, last) {
            (0, _) => 0,
            (_, 0..) => (last as usize + 1).min(argv.len()),
            (..) => (argv.len() + 1).saturating_sub(last.unsigned_abs() as usize),
        };
        let movable = match movable {
            Movable::None => 0..0,
            Movable::Counted(at) => counted(argv, at.into()).unwrap_or_default(),
            Movable::StoredPlaces => geo::destination(argv).map_or(0..0, |at| at..at + 1),
            Movable::Streams => stream::read::keys(argv).unwrap_or_default(),
            Movable::Stored => sort::destination(argv).map_or(0..0, |at| at..at + 1),
        };
        KeyArgs { fixed: (first as usize..end).step_by(step.max(1) as usize), movable }
    }
}

/// The arguments that the one at `at` counts.
fn counted(argv: Argv<'_>, at: usize) -> Option<Range<usize>> {
    let count = usize::try_from(number::integer(argv.get(at)?)?).ok()?;
    let end = (at + 1).checked_add(count)?;
    (end <= argv.len()).then_some(at + 1..end)
}

/// The command of this name, in whatever case.
#[inline]
pub fn find(verb: &[u8]) -> Option<&'static Spec> {
    // What most traffic is made of stands first in the table.
    match verb {
        [] => return None,
        [a, b, c] if [a | 0x20, b | 0x20, c | 0x20] == *b"set" => return Some(&TABLE[SET]),
        [a, b, c] if [a | 0x20, b | 0x20, c | 0x20] == *b"get" => return Some(&TABLE[GET]),
        _ => {}
    }
    let mut place = bucket(verb);
    loop {
        let spec = TABLE.get(usize::from(INDEX[place]))?;
        if spec.name.as_bytes().eq_ignore_ascii_case(verb) {
            return Some(spec);
        }
        place = (place + 1) % INDEX.len();
    }
}

/// The command of this name as a step that undoes another one, which no limit of memory stops.
pub fn find_undoing(verb: &[u8]) -> Option<&'static Spec> {
    UNDOING.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(verb))
}

/// The command or the subcommand of this name, in whatever case: `config` and `config|get`.
pub fn find_named(name: &[u8]) -> Option<&'static Spec> {
    match memchr::memchr(b'|', name) {
        None => find(name),
        Some(bar) => find(&name[..bar])?.subcommand(&name[bar + 1..]).ok(),
    }
}

/// Every command, by group.
pub fn all() -> &'static [Spec] {
    TABLE
}

/// Every command, then every subcommand: in the order of their [rows](Spec::row).
pub fn all_named() -> impl Iterator<Item = &'static Spec> {
    TABLE.iter().chain(SUBCOMMANDS)
}

/// How many rows there are.
pub fn rows() -> usize {
    TABLE.len() + SUBCOMMANDS.len()
}

/// Where a verb is in [`INDEX`], or soon behind it. Setting bit 5 makes upper-case letters lower.
const fn bucket(verb: &[u8]) -> usize {
    let len = verb.len();
    let (first, middle, last) = (verb[0] | 0x20, verb[len / 2] | 0x20, verb[len - 1] | 0x20);
    let second = verb[if len > 1 { 1 } else { 0 }] | 0x20;
    let mixed =
        (first as usize) * 31 + (second as usize) * 83 + (middle as usize) * 7 + (last as usize) * 57 + len * 113;
    (mixed ^ (mixed >> 9)) % INDEX_LEN
}

const INDEX_LEN: usize = 1024;

/// Rows of the two commonest commands.
const SET: usize = 0;
const GET: usize = 1;

/// No row.
const EMPTY: u8 = u8::MAX;

/// Rows of [`TABLE`] by the bucket of their name; a name whose bucket is taken is in the next free one.
static INDEX: [u8; INDEX_LEN] = {
    let mut index = [EMPTY; INDEX_LEN];
    let mut row = 0;
    while row < TABLE.len() {
        let mut place = bucket(TABLE[row].name.as_bytes());
        while index[place] != EMPTY {
            place = (place + 1) % INDEX_LEN;
        }
        index[place] = row as u8;
        row += 1;
    }
    index
};

const _: () = assert!(TABLE.len() < EMPTY as usize && TABLE.len() * 2 < INDEX_LEN);

const fn row(name: &'static str, arity: i8, keys: Keys, flags: Flags, handler: Handler) -> Spec {
    Spec { name, arity, keys, flags, handler, row: 0, subcommands: (0, 0) }
}

/// The rows with their numbers, and where their subcommands are.
const fn numbered<const N: usize>(mut rows: [Spec; N]) -> [Spec; N] {
    let mut row = 0;
    while row < N {
        rows[row].row = row as u16;
        let verb = rows[row].name;
        let mut first = 0;
        while first < SUBCOMMAND_ROWS.len() && !is_of(SUBCOMMAND_ROWS[first].0, verb) {
            first += 1;
        }
        let mut end = first;
        while end < SUBCOMMAND_ROWS.len() && is_of(SUBCOMMAND_ROWS[end].0, verb) {
            end += 1;
        }
        rows[row].subcommands = (first as u8, end as u8);
        row += 1;
    }
    rows
}

/// Whether a subcommand is one of the command `verb`.
const fn is_of(subcommand: &str, verb: &str) -> bool {
    let (name, verb) = (subcommand.as_bytes(), verb.as_bytes());
    let mut at = 0;
    while at < verb.len() && name[at] == verb[at] {
        at += 1;
    }
    at == verb.len() && name[at] == b'|'
}

/// The rows of the subcommands: each is executed by its command.
const fn of_commands<const N: usize>() -> [Spec; N] {
    let mut rows = [TABLE[0]; N];
    let mut at = 0;
    while at < N {
        let (name, arity, keys, flags) = SUBCOMMAND_ROWS[at];
        let mut command = 0;
        while !is_of(name, TABLE[command].name) {
            command += 1;
        }
        let row = (TABLE.len() + at) as u16;
        rows[at] = Spec { name, arity, keys, flags, handler: TABLE[command].handler, row, subcommands: (0, 0) };
        at += 1;
    }
    rows
}

/// The row of this name without a limit of memory.
const fn undoing(name: &str) -> Spec {
    let mut row = 0;
    while !name.as_bytes().eq_ignore_ascii_case(TABLE[row].name.as_bytes()) {
        row += 1;
    }
    let spec = TABLE[row];
    Spec { flags: spec.flags.without(Flags::DENYOOM), ..spec }
}

/// The store executes it; it is no effect.
const fn store(execute: Execute) -> Handler {
    Handler::Store { execute, apply: None }
}

/// The store executes it, and applies it as an effect.
const fn effect(execute: Execute, apply: Apply) -> Handler {
    Handler::Store { execute, apply: Some(apply) }
}

const SERVER: Handler = Handler::Server;
const NONE: Flags = Flags::NONE;
const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
const READ_ALL: Flags = Flags::READONLY.and(Flags::ALL_KEYS);
const WRITE: Flags = Flags::WRITE;
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const WRITE_MORE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const WRITE_MORE_FAST: Flags = WRITE_MORE.and(Flags::FAST);
const WRITE_ALL: Flags = Flags::WRITE.and(Flags::ALL_KEYS);
const WRITE_WAIT: Flags = Flags::WRITE.and(Flags::BLOCKING);
const ALWAYS: Flags = Flags::LOADING.and(Flags::STALE);
const ALWAYS_FAST: Flags = ALWAYS.and(Flags::FAST);
const GREETING: Flags = ALWAYS_FAST.and(Flags::NO_AUTH);
const OPERATOR: Flags = ALWAYS.and(Flags::ADMIN);
const LISTENING: Flags = ALWAYS.and(Flags::PUBSUB);

/// Commands that undo a step of a larger one: as those of their names, but no limit of memory stops them.
static UNDOING: [Spec; 4] = [undoing("lpush"), undoing("rpush"), undoing("sadd"), undoing("restore")];

#[rustfmt::skip]
static TABLE: &[Spec] = &numbered([
    // Strings.
    row("set", -3, ONE_KEY, WRITE_MORE, effect(string::set, string::apply_set)),
    row("get", 2, ONE_KEY, READ_FAST, store(string::get)),
    row("mget", -2, ALL_ARGS, READ_FAST, store(string::mget)),
    row("mset", -3, EVERY_SECOND, WRITE_MORE, store(string::mset)),
    row("msetnx", -3, EVERY_SECOND, WRITE_MORE, store(string::msetnx)),
    row("setnx", 3, ONE_KEY, WRITE_MORE_FAST, store(string::setnx)),
    row("setex", 4, ONE_KEY, WRITE_MORE, store(string::setex)),
    row("psetex", 4, ONE_KEY, WRITE_MORE, store(string::psetex)),
    row("getset", 3, ONE_KEY, WRITE_MORE_FAST, store(string::getset)),
    row("getdel", 2, ONE_KEY, WRITE_FAST, store(string::getdel)),
    row("getex", -2, ONE_KEY, WRITE_FAST, store(string::getex)),
    row("incr", 2, ONE_KEY, WRITE_MORE_FAST, effect(string::incr, string::apply_incr)),
    row("decr", 2, ONE_KEY, WRITE_MORE_FAST, effect(string::decr, string::apply_decr)),
    row("incrby", 3, ONE_KEY, WRITE_MORE_FAST, effect(string::incrby, string::apply_incrby)),
    row("decrby", 3, ONE_KEY, WRITE_MORE_FAST, effect(string::decrby, string::apply_decrby)),
    row("incrbyfloat", 3, ONE_KEY, WRITE_MORE_FAST, store(string::incrbyfloat)),
    row("append", 3, ONE_KEY, WRITE_MORE_FAST, effect(string::append, string::apply_append)),
    row("strlen", 2, ONE_KEY, READ_FAST, store(string::strlen)),
    row("setrange", 4, ONE_KEY, WRITE_MORE, effect(string::setrange, string::apply_setrange)),
    row("getrange", 4, ONE_KEY, READ, store(string::getrange)),
    row("substr", 4, ONE_KEY, READ, store(string::getrange)),
    row("lcs", -3, TWO_KEYS, READ, store(lcs::lcs)),
    row("setbit", 4, ONE_KEY, WRITE_MORE, store(bits::setbit)),
    row("getbit", 3, ONE_KEY, READ_FAST, store(bits::getbit)),
    row("bitcount", -2, ONE_KEY, READ, store(bits::bitcount)),
    row("bitpos", -3, ONE_KEY, READ, store(bits::bitpos)),
    row("bitop", -4, FROM_SECOND, WRITE_MORE, store(bits::bitop)),
    row("bitfield", -2, ONE_KEY, WRITE_MORE, store(bits::bitfield)),
    row("bitfield_ro", -2, ONE_KEY, READ_FAST, store(bits::bitfield_ro)),
    // Keys.
    row("del", -2, ALL_ARGS, WRITE, effect(key::del, key::apply_del)),
    row("unlink", -2, ALL_ARGS, WRITE_FAST, effect(key::del, key::apply_del)),
    row("exists", -2, ALL_ARGS, READ_FAST.and(Flags::LOOKS), store(key::exists)),
    row("touch", -2, ALL_ARGS, READ_FAST, store(key::exists)),
    row("type", 2, ONE_KEY, READ_FAST.and(Flags::LOOKS), store(key::kind)),
    row("expire", -3, ONE_KEY, WRITE_FAST, store(key::expire)),
    row("pexpire", -3, ONE_KEY, WRITE_FAST, store(key::pexpire)),
    row("expireat", -3, ONE_KEY, WRITE_FAST, store(key::expireat)),
    row("pexpireat", -3, ONE_KEY, WRITE_FAST, effect(key::pexpireat, key::apply_pexpireat)),
    row("persist", 2, ONE_KEY, WRITE_FAST, effect(key::persist, key::apply_persist)),
    row("ttl", 2, ONE_KEY, READ_FAST.and(Flags::LOOKS), store(key::ttl)),
    row("pttl", 2, ONE_KEY, READ_FAST.and(Flags::LOOKS), store(key::pttl)),
    row("expiretime", 2, ONE_KEY, READ_FAST.and(Flags::LOOKS), store(key::expiretime)),
    row("pexpiretime", 2, ONE_KEY, READ_FAST.and(Flags::LOOKS), store(key::pexpiretime)),
    row("rename", 3, TWO_KEYS, WRITE, store(key::rename)),
    row("renamenx", 3, TWO_KEYS, WRITE_FAST, store(key::renamenx)),
    row("copy", -3, TWO_KEYS, WRITE_MORE, store(key::copy)),
    row("move", 3, ONE_KEY, WRITE_FAST, store(key::move_away)),
    row("dump", 2, ONE_KEY, READ, store(transfer::dump)),
    row("restore", -4, ONE_KEY, WRITE_MORE, store(transfer::restore)),
    row("object", -2, SECOND, READ.and(Flags::LOOKS), store(object::object)),
    row("sort", -2, ONE_AND_STORED, WRITE_MORE.and(Flags::REACHES), store(sort::sort)),
    row("sort_ro", -2, ONE_KEY, READ.and(Flags::REACHES), store(sort::sort_ro)),
    row("randomkey", 1, NO_KEYS, READ_ALL, store(key::randomkey)),
    row("dbsize", 1, NO_KEYS, READ_ALL.and(Flags::FAST), store(key::dbsize)),
    row("scan", -2, NO_KEYS, READ_ALL, store(walk::scan)),
    row("keys", 2, NO_KEYS, READ_ALL, store(key::keys)),
    row("flushall", -1, NO_KEYS, WRITE_ALL, store(key::flush)),
    row("flushdb", -1, NO_KEYS, WRITE_ALL, store(key::flush)),
    // Hashes.
    row("hset", -4, ONE_KEY, WRITE_MORE_FAST, effect(hash::hset, hash::apply_hset)),
    row("hmset", -4, ONE_KEY, WRITE_MORE_FAST, effect(hash::hmset, hash::apply_hset)),
    row("hsetnx", 4, ONE_KEY, WRITE_MORE_FAST, store(hash::hsetnx)),
    row("hget", 3, ONE_KEY, READ_FAST, store(hash::hget)),
    row("hmget", -3, ONE_KEY, READ_FAST, store(hash::hmget)),
    row("hgetall", 2, ONE_KEY, READ, store(hash::hgetall)),
    row("hdel", -3, ONE_KEY, WRITE_FAST, effect(hash::hdel, hash::apply_hdel)),
    row("hgetdel", -5, ONE_KEY, WRITE_FAST, store(hash::hgetdel)),
    row("hgetex", -5, ONE_KEY, WRITE_FAST, store(fields::hgetex)),
    row("hsetex", -6, ONE_KEY, WRITE_MORE_FAST, store(fields::hsetex)),
    row("hexpire", -6, ONE_KEY, WRITE_MORE_FAST, store(fields::hexpire)),
    row("hpexpire", -6, ONE_KEY, WRITE_MORE_FAST, store(fields::hpexpire)),
    row("hexpireat", -6, ONE_KEY, WRITE_MORE_FAST, store(fields::hexpireat)),
    row("hpexpireat", -6, ONE_KEY, WRITE_MORE_FAST, effect(fields::hpexpireat, fields::apply_hpexpireat)),
    row("hpersist", -5, ONE_KEY, WRITE_FAST, effect(fields::hpersist, fields::apply_hpersist)),
    row("httl", -5, ONE_KEY, READ_FAST, store(fields::httl)),
    row("hpttl", -5, ONE_KEY, READ_FAST, store(fields::hpttl)),
    row("hexpiretime", -5, ONE_KEY, READ_FAST, store(fields::hexpiretime)),
    row("hpexpiretime", -5, ONE_KEY, READ_FAST, store(fields::hpexpiretime)),
    row("hlen", 2, ONE_KEY, READ_FAST, store(hash::hlen)),
    row("hexists", 3, ONE_KEY, READ_FAST, store(hash::hexists)),
    row("hkeys", 2, ONE_KEY, READ, store(hash::hkeys)),
    row("hvals", 2, ONE_KEY, READ, store(hash::hvals)),
    row("hstrlen", 3, ONE_KEY, READ_FAST, store(hash::hstrlen)),
    row("hincrby", 4, ONE_KEY, WRITE_MORE_FAST, effect(hash::hincrby, hash::apply_hincrby)),
    row("hincrbyfloat", 4, ONE_KEY, WRITE_MORE_FAST, store(hash::hincrbyfloat)),
    row("hrandfield", -2, ONE_KEY, READ, store(hash::hrandfield)),
    row("hscan", -3, ONE_KEY, READ, store(walk::hscan)),
    // Lists.
    row("lpush", -3, ONE_KEY, WRITE_MORE_FAST, effect(list::lpush, list::apply_lpush)),
    row("rpush", -3, ONE_KEY, WRITE_MORE_FAST, effect(list::rpush, list::apply_rpush)),
    row("lpushx", -3, ONE_KEY, WRITE_MORE_FAST, effect(list::lpushx, list::apply_lpushx)),
    row("rpushx", -3, ONE_KEY, WRITE_MORE_FAST, effect(list::rpushx, list::apply_rpushx)),
    row("lpop", -2, ONE_KEY, WRITE_FAST, effect(list::lpop, list::apply_lpop)),
    row("rpop", -2, ONE_KEY, WRITE_FAST, effect(list::rpop, list::apply_rpop)),
    row("llen", 2, ONE_KEY, READ_FAST, store(list::llen)),
    row("lindex", 3, ONE_KEY, READ, store(list::lindex)),
    row("lrange", 4, ONE_KEY, READ, store(list::lrange)),
    row("lset", 4, ONE_KEY, WRITE_MORE, effect(list::lset, list::apply_lset)),
    row("lrem", 4, ONE_KEY, WRITE, effect(list::lrem, list::apply_lrem)),
    row("ltrim", 4, ONE_KEY, WRITE, effect(list::ltrim, list::apply_ltrim)),
    row("linsert", 5, ONE_KEY, WRITE_MORE, effect(list::linsert, list::apply_linsert)),
    row("lpos", -3, ONE_KEY, READ, store(list::lpos)),
    row("lmove", 5, TWO_KEYS, WRITE_MORE, store(list::lmove)),
    row("rpoplpush", 3, TWO_KEYS, WRITE_MORE, store(list::rpoplpush)),
    row("lmpop", -4, COUNTED, WRITE, store(list::lmpop)),
    row("blpop", -3, BUT_LAST, WRITE_WAIT, store(list::blpop)),
    row("brpop", -3, BUT_LAST, WRITE_WAIT, store(list::brpop)),
    row("blmove", 6, TWO_KEYS, WRITE_WAIT.and(Flags::DENYOOM), store(list::blmove)),
    row("brpoplpush", 4, TWO_KEYS, WRITE_WAIT.and(Flags::DENYOOM), store(list::brpoplpush)),
    row("blmpop", -5, SECOND_COUNTED, WRITE_WAIT, store(list::blmpop)),
    // Sets.
    row("sadd", -3, ONE_KEY, WRITE_MORE_FAST, effect(set::sadd, set::apply_sadd)),
    row("srem", -3, ONE_KEY, WRITE_FAST, effect(set::srem, set::apply_srem)),
    row("smembers", 2, ONE_KEY, READ, store(set::smembers)),
    row("sismember", 3, ONE_KEY, READ_FAST, store(set::sismember)),
    row("smismember", -3, ONE_KEY, READ_FAST, store(set::smismember)),
    row("scard", 2, ONE_KEY, READ_FAST, store(set::scard)),
    row("spop", -2, ONE_KEY, WRITE_FAST, store(set::spop)),
    row("srandmember", -2, ONE_KEY, READ, store(set::srandmember)),
    row("smove", 4, TWO_KEYS, WRITE_FAST, store(set::smove)),
    row("sinter", -2, ALL_ARGS, READ, store(set::sinter)),
    row("sunion", -2, ALL_ARGS, READ, store(set::sunion)),
    row("sdiff", -2, ALL_ARGS, READ, store(set::sdiff)),
    row("sinterstore", -3, ALL_ARGS, WRITE_MORE, store(set::sinterstore)),
    row("sunionstore", -3, ALL_ARGS, WRITE_MORE, store(set::sunionstore)),
    row("sdiffstore", -3, ALL_ARGS, WRITE_MORE, store(set::sdiffstore)),
    row("sintercard", -3, COUNTED, READ, store(set::sintercard)),
    row("sscan", -3, ONE_KEY, READ, store(walk::sscan)),
    // Sorted sets.
    row("zadd", -4, ONE_KEY, WRITE_MORE_FAST, effect(zset::zadd, zset::apply_zadd)),
    row("zincrby", 4, ONE_KEY, WRITE_MORE_FAST, store(zset::zincrby)),
    row("zrem", -3, ONE_KEY, WRITE_FAST, effect(zset::zrem, zset::apply_zrem)),
    row("zscore", 3, ONE_KEY, READ_FAST, store(zset::zscore)),
    row("zmscore", -3, ONE_KEY, READ_FAST, store(zset::zmscore)),
    row("zcard", 2, ONE_KEY, READ_FAST, store(zset::zcard)),
    row("zrank", -3, ONE_KEY, READ_FAST, store(zset::zrank)),
    row("zrevrank", -3, ONE_KEY, READ_FAST, store(zset::zrevrank)),
    row("zcount", 4, ONE_KEY, READ_FAST, store(zset::zcount)),
    row("zlexcount", 4, ONE_KEY, READ_FAST, store(zset::zlexcount)),
    row("zrange", -4, ONE_KEY, READ, store(zset::zrange)),
    row("zrevrange", -4, ONE_KEY, READ, store(zset::zrevrange)),
    row("zrangebyscore", -4, ONE_KEY, READ, store(zset::zrangebyscore)),
    row("zrevrangebyscore", -4, ONE_KEY, READ, store(zset::zrevrangebyscore)),
    row("zrangebylex", -4, ONE_KEY, READ, store(zset::zrangebylex)),
    row("zrevrangebylex", -4, ONE_KEY, READ, store(zset::zrevrangebylex)),
    row("zpopmin", -2, ONE_KEY, WRITE_FAST, store(zset::zpopmin)),
    row("zpopmax", -2, ONE_KEY, WRITE_FAST, store(zset::zpopmax)),
    row("zremrangebyrank", 4, ONE_KEY, WRITE, effect(zset::zremrangebyrank, zset::apply_zremrangebyrank)),
    row("zremrangebyscore", 4, ONE_KEY, WRITE, effect(zset::zremrangebyscore, zset::apply_zremrangebyscore)),
    row("zremrangebylex", 4, ONE_KEY, WRITE, store(zset::zremrangebylex)),
    row("zrangestore", -5, TWO_KEYS, WRITE_MORE, store(zset::zrangestore)),
    row("zmpop", -4, COUNTED, WRITE, store(zset::zmpop)),
    row("bzpopmin", -3, BUT_LAST, WRITE_WAIT.and(Flags::FAST), store(zset::bzpopmin)),
    row("bzpopmax", -3, BUT_LAST, WRITE_WAIT.and(Flags::FAST), store(zset::bzpopmax)),
    row("bzmpop", -5, SECOND_COUNTED, WRITE_WAIT, store(zset::bzmpop)),
    row("zrandmember", -2, ONE_KEY, READ, store(zset::zrandmember)),
    row("zscan", -3, ONE_KEY, READ, store(walk::zscan)),
    row("zunion", -3, COUNTED, READ, store(combine::zunion)),
    row("zinter", -3, COUNTED, READ, store(combine::zinter)),
    row("zdiff", -3, COUNTED, READ, store(combine::zdiff)),
    row("zintercard", -3, COUNTED, READ, store(combine::zintercard)),
    row("zunionstore", -4, ONE_AND_COUNTED, WRITE_MORE, store(combine::zunionstore)),
    row("zinterstore", -4, ONE_AND_COUNTED, WRITE_MORE, store(combine::zinterstore)),
    row("zdiffstore", -4, ONE_AND_COUNTED, WRITE_MORE, store(combine::zdiffstore)),
    // HyperLogLogs.
    row("pfadd", -2, ONE_KEY, WRITE_MORE_FAST, store(hyperloglog::pfadd)),
    row("pfcount", -2, ALL_ARGS, READ, store(hyperloglog::pfcount)),
    row("pfmerge", -2, ALL_ARGS, WRITE_MORE, store(hyperloglog::pfmerge)),
    // Places.
    row("geoadd", -5, ONE_KEY, WRITE_MORE, store(geo::geoadd)),
    row("geodist", -4, ONE_KEY, READ, store(geo::geodist)),
    row("geohash", -2, ONE_KEY, READ, store(geo::geohash)),
    row("geopos", -2, ONE_KEY, READ, store(geo::geopos)),
    row("geosearch", -7, ONE_KEY, READ, store(geo::geosearch)),
    row("geosearchstore", -8, TWO_KEYS, WRITE_MORE, store(geo::geosearchstore)),
    row("georadius", -6, ONE_AND_STORED_PLACES, WRITE_MORE, store(geo::georadius)),
    row("georadius_ro", -6, ONE_KEY, READ, store(geo::georadius_ro)),
    row("georadiusbymember", -5, ONE_AND_STORED_PLACES, WRITE_MORE, store(geo::georadiusbymember)),
    row("georadiusbymember_ro", -5, ONE_KEY, READ, store(geo::georadiusbymember_ro)),
    // Streams.
    row("xadd", -5, ONE_KEY, WRITE_MORE_FAST, effect(stream::xadd, stream::apply_xadd)),
    row("xlen", 2, ONE_KEY, READ_FAST, store(stream::xlen)),
    row("xrange", -4, ONE_KEY, READ, store(stream::xrange)),
    row("xrevrange", -4, ONE_KEY, READ, store(stream::xrevrange)),
    row("xdel", -3, ONE_KEY, WRITE_FAST, effect(stream::xdel, stream::apply_xdel)),
    row("xtrim", -4, ONE_KEY, WRITE, effect(stream::xtrim, stream::apply_xtrim)),
    row("xsetid", -3, ONE_KEY, WRITE_MORE_FAST, effect(stream::xsetid, stream::apply_xsetid)),
    row("xread", -4, STREAMS, READ.and(Flags::BLOCKING), store(stream::read::xread)),
    row("xreadgroup", -7, STREAMS, WRITE.and(Flags::BLOCKING), store(stream::read::xreadgroup)),
    row("xgroup", -2, SECOND, WRITE_MORE, store(stream::group::xgroup)),
    row("xack", -4, ONE_KEY, WRITE_FAST, effect(stream::group::xack, stream::group::apply)),
    row("xpending", -3, ONE_KEY, READ, store(stream::group::xpending)),
    row("xclaim", -6, ONE_KEY, WRITE_FAST, store(stream::group::xclaim)),
    row("xautoclaim", -6, ONE_KEY, WRITE_FAST, store(stream::group::xautoclaim)),
    row("xinfo", -2, SECOND, READ, store(stream::info::xinfo)),
    // The connection, the node.
    row("ping", -1, NO_KEYS, ALWAYS_FAST, store(echo::ping)),
    row("echo", 2, NO_KEYS, ALWAYS_FAST, store(echo::echo)),
    row("hello", -1, NO_KEYS, GREETING, SERVER),
    row("auth", -2, NO_KEYS, GREETING, SERVER),
    row("quit", -1, NO_KEYS, GREETING, SERVER),
    row("reset", 1, NO_KEYS, GREETING, SERVER),
    row("select", 2, NO_KEYS, ALWAYS_FAST, SERVER),
    row("acl", -2, NO_KEYS, ALWAYS, SERVER),
    row("cluster", -2, NO_KEYS, ALWAYS, SERVER),
    row("readonly", 1, NO_KEYS, ALWAYS_FAST, SERVER),
    row("readwrite", 1, NO_KEYS, ALWAYS_FAST, SERVER),
    row("client", -2, NO_KEYS, ALWAYS, SERVER),
    row("command", -1, NO_KEYS, ALWAYS, SERVER),
    row("config", -2, NO_KEYS, OPERATOR, SERVER),
    row("debug", -2, NO_KEYS, OPERATOR, SERVER),
    row("info", -1, NO_KEYS, ALWAYS, SERVER),
    row("kevy", -2, NO_KEYS, OPERATOR, SERVER),
    row("latency", -2, NO_KEYS, OPERATOR, SERVER),
    row("memory", -2, SECOND, READ, SERVER),
    row("slowlog", -2, NO_KEYS, OPERATOR, SERVER),
    row("lastsave", 1, NO_KEYS, ALWAYS_FAST, SERVER),
    row("replicaof", 3, NO_KEYS, OPERATOR, SERVER),
    row("slaveof", 3, NO_KEYS, OPERATOR, SERVER),
    row("role", 1, NO_KEYS, ALWAYS_FAST, SERVER),
    row("shutdown", -1, NO_KEYS, OPERATOR, SERVER),
    row("time", 1, NO_KEYS, ALWAYS_FAST, SERVER),
    // Messages.
    row("publish", 3, NO_KEYS, LISTENING.and(Flags::FAST), SERVER),
    row("spublish", 3, NO_KEYS, LISTENING.and(Flags::FAST), SERVER),
    row("subscribe", -2, NO_KEYS, LISTENING, SERVER),
    row("unsubscribe", -1, NO_KEYS, LISTENING, SERVER),
    row("psubscribe", -2, NO_KEYS, LISTENING, SERVER),
    row("punsubscribe", -1, NO_KEYS, LISTENING, SERVER),
    row("ssubscribe", -2, NO_KEYS, LISTENING, SERVER),
    row("sunsubscribe", -1, NO_KEYS, LISTENING, SERVER),
    row("pubsub", -2, NO_KEYS, ALWAYS, SERVER),
    row("monitor", 1, NO_KEYS, OPERATOR, SERVER),
    // Transactions.
    row("multi", 1, NO_KEYS, ALWAYS_FAST, SERVER),
    row("exec", 1, NO_KEYS, ALWAYS, SERVER),
    row("discard", 1, NO_KEYS, ALWAYS_FAST, SERVER),
    row("watch", -2, ALL_ARGS, ALWAYS_FAST, SERVER),
    row("unwatch", 1, NO_KEYS, ALWAYS_FAST, SERVER),
    row("wait", 3, NO_KEYS, NONE.and(Flags::BLOCKING), SERVER),
]);

/// The subcommands, those of a command one after the other: name, arity, keys, flags.
#[rustfmt::skip]
const SUBCOMMAND_ROWS: &[(&str, i8, Keys, Flags)] = &[
    // Keys.
    ("object|encoding", 3, SECOND, READ.and(Flags::LOOKS)),
    ("object|freq", 3, SECOND, READ.and(Flags::LOOKS)),
    ("object|help", 2, NO_KEYS, ALWAYS),
    ("object|idletime", 3, SECOND, READ.and(Flags::LOOKS)),
    ("object|refcount", 3, SECOND, READ.and(Flags::LOOKS)),
    // Streams.
    ("xgroup|create", -5, SECOND, WRITE_MORE),
    ("xgroup|createconsumer", 5, SECOND, WRITE_MORE),
    ("xgroup|delconsumer", 5, SECOND, WRITE),
    ("xgroup|destroy", 4, SECOND, WRITE),
    ("xgroup|help", 2, NO_KEYS, ALWAYS),
    ("xgroup|setid", -5, SECOND, WRITE),
    ("xinfo|consumers", 4, SECOND, READ),
    ("xinfo|groups", 3, SECOND, READ),
    ("xinfo|help", 2, NO_KEYS, ALWAYS),
    ("xinfo|stream", -3, SECOND, READ),
    // The connection, the node.
    ("acl|whoami", 2, NO_KEYS, ALWAYS),
    ("client|getname", 2, NO_KEYS, ALWAYS),
    ("client|getredir", 2, NO_KEYS, ALWAYS),
    ("client|help", 2, NO_KEYS, ALWAYS),
    ("client|id", 2, NO_KEYS, ALWAYS),
    ("client|info", 2, NO_KEYS, ALWAYS),
    ("client|kill", -3, NO_KEYS, OPERATOR),
    ("client|list", -2, NO_KEYS, OPERATOR),
    ("client|no-evict", 3, NO_KEYS, OPERATOR),
    ("client|no-touch", 3, NO_KEYS, ALWAYS),
    ("client|pause", -3, NO_KEYS, OPERATOR),
    ("client|reply", 3, NO_KEYS, ALWAYS),
    ("client|setinfo", 4, NO_KEYS, ALWAYS),
    ("client|setname", 3, NO_KEYS, ALWAYS),
    ("client|unblock", -3, NO_KEYS, OPERATOR),
    ("client|unpause", 2, NO_KEYS, OPERATOR),
    ("cluster|countkeysinslot", 3, NO_KEYS, ALWAYS),
    ("cluster|getkeysinslot", 4, NO_KEYS, ALWAYS),
    ("cluster|help", 2, NO_KEYS, ALWAYS),
    ("cluster|info", 2, NO_KEYS, ALWAYS),
    ("cluster|keyslot", 3, NO_KEYS, ALWAYS),
    ("cluster|links", 2, NO_KEYS, ALWAYS),
    ("cluster|myid", 2, NO_KEYS, ALWAYS),
    ("cluster|nodes", 2, NO_KEYS, ALWAYS),
    ("cluster|replicas", 3, NO_KEYS, OPERATOR),
    ("cluster|shards", 2, NO_KEYS, ALWAYS),
    ("cluster|slaves", 3, NO_KEYS, OPERATOR),
    ("cluster|slots", 2, NO_KEYS, ALWAYS),
    ("command|count", 2, NO_KEYS, ALWAYS),
    ("command|docs", -2, NO_KEYS, ALWAYS),
    ("command|getkeys", -3, NO_KEYS, ALWAYS),
    ("command|getkeysandflags", -3, NO_KEYS, ALWAYS),
    ("command|help", 2, NO_KEYS, ALWAYS),
    ("command|info", -2, NO_KEYS, ALWAYS),
    ("command|list", -2, NO_KEYS, ALWAYS),
    ("config|get", -3, NO_KEYS, OPERATOR),
    ("config|help", 2, NO_KEYS, ALWAYS),
    ("config|resetstat", 2, NO_KEYS, OPERATOR),
    ("config|rewrite", 2, NO_KEYS, OPERATOR),
    ("config|set", -4, NO_KEYS, OPERATOR),
    ("kevy|digest", 4, NO_KEYS, OPERATOR),
    ("kevy|probe", 4, NO_KEYS, OPERATOR),
    ("kevy|probed", 4, NO_KEYS, OPERATOR),
    ("latency|doctor", 2, NO_KEYS, OPERATOR),
    ("latency|graph", 3, NO_KEYS, OPERATOR),
    ("latency|help", 2, NO_KEYS, ALWAYS),
    ("latency|histogram", -2, NO_KEYS, OPERATOR),
    ("latency|history", 3, NO_KEYS, OPERATOR),
    ("latency|latest", 2, NO_KEYS, OPERATOR),
    ("latency|reset", -2, NO_KEYS, OPERATOR),
    ("memory|doctor", 2, NO_KEYS, NONE),
    ("memory|help", 2, NO_KEYS, ALWAYS),
    ("memory|malloc-stats", 2, NO_KEYS, NONE),
    ("memory|purge", 2, NO_KEYS, NONE),
    ("memory|stats", 2, NO_KEYS, NONE),
    ("memory|usage", -3, SECOND, READ),
    ("slowlog|get", -2, NO_KEYS, OPERATOR),
    ("slowlog|help", 2, NO_KEYS, ALWAYS),
    ("slowlog|len", 2, NO_KEYS, OPERATOR),
    ("slowlog|reset", 2, NO_KEYS, OPERATOR),
    // Messages.
    ("pubsub|channels", -2, NO_KEYS, LISTENING),
    ("pubsub|help", 2, NO_KEYS, ALWAYS),
    ("pubsub|numpat", 2, NO_KEYS, LISTENING),
    ("pubsub|numsub", -2, NO_KEYS, LISTENING),
    ("pubsub|shardchannels", -2, NO_KEYS, LISTENING),
    ("pubsub|shardnumsub", -2, NO_KEYS, LISTENING),
];

static SUBCOMMANDS: &[Spec] = &of_commands::<{ SUBCOMMAND_ROWS.len() }>();

const _: () = assert!(SUBCOMMAND_ROWS.len() < u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::inline;

    #[test]
    fn every_command_is_found_in_every_case_and_nothing_else_is() {
        for spec in all() {
            assert_eq!(find(spec.name.as_bytes()).unwrap().name, spec.name);
            assert_eq!(all()[spec.row()].name, spec.name);
            assert_eq!(find(spec.name.to_ascii_uppercase().as_bytes()).unwrap().name, spec.name);
            assert_eq!(all().iter().filter(|other| other.name == spec.name).count(), 1, "{} stands once", spec.name);
            assert!(spec.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", spec.name);
            assert!(!(spec.flags.has(Flags::WRITE) && spec.flags.has(Flags::READONLY)), "{}", spec.name);
            assert!(spec.subcommands().iter().all(|sub| sub.verb() == spec.name && sub.row() >= all().len()));
        }
        assert_eq!(all().iter().map(|spec| spec.subcommands().len()).sum::<usize>(), SUBCOMMANDS.len());
        for (row, spec) in all_named().enumerate() {
            assert_eq!(
                (spec.row(), find_named(spec.name.to_ascii_uppercase().as_bytes()).unwrap().name),
                (row, spec.name)
            );
        }
        for spec in &UNDOING {
            assert_eq!(all()[spec.row()].name, spec.name);
            assert!(!spec.flags.has(Flags::DENYOOM) && all()[spec.row()].flags.has(Flags::DENYOOM));
        }
        for stranger in
            [b"".as_slice(), b"s", b"sett", b"\x13ET", b"xgroupset", b"config|get", b"config|", &[b'a'; 1_000]]
        {
            assert!(find(stranger).is_none(), "{}", stranger.escape_ascii());
            assert!(find_named(stranger).is_none() || stranger == b"config|get", "{}", stranger.escape_ascii());
        }
    }

    #[test]
    fn most_commands_are_found_at_the_first_look() {
        let at_home = all().iter().enumerate().filter(|(row, spec)| INDEX[bucket(spec.name.as_bytes())] == *row as u8);
        assert!(at_home.count() * 10 >= TABLE.len() * 8);
    }

    #[test]
    fn keys_are_where_redis_says() {
        let keys = |line: &str| {
            let (mut bytes, mut ranges) = (line.as_bytes().to_vec(), Vec::new());
            inline::split(&mut bytes, &mut ranges).unwrap();
            let argv = Argv::new(&bytes, &ranges);
            let keys = find(argv.arg(0)).unwrap().keys(argv);
            assert_eq!(keys.len(), keys.clone().count());
            keys.map(|at| String::from_utf8_lossy(argv.arg(at)).into_owned()).collect::<Vec<_>>().join(" ")
        };
        for (line, expected) in [
            ("get a", "a"),
            ("set a b ex 10", "a"),
            ("mset a 1 b 2", "a b"),
            ("del a b c", "a b c"),
            ("rename a b", "a b"),
            ("ping a", ""),
            ("object encoding a", "a"),
            ("bitop and a b c", "a b c"),
            ("zinter 2 a b weights 1 2", "a b"),
            ("zunionstore a 2 b c", "a b c"),
            ("lmpop 1 a left", "a"),
            ("blpop a b 0", "a b"),
            ("blpop 0", ""),
            ("blmpop 0.5 2 a b left", "a b"),
            ("blmpop 2 x a b left", ""),
            ("zinter 3 a b", ""),
            ("zinter x a b", ""),
            ("zinter -1 a b", ""),
            ("zinterstore a 9223372036854775807 b", "a"),
            ("sort a by b store c", "a c"),
            ("sort a by store get #", "a"),
            ("sort a get store store c", "a c"),
            ("sort a store c get store desc", "a c"),
            ("sort a store b store c limit 0 store", "a c"),
            ("sort a store", "a"),
            ("georadius a 1 2 3 km asc store b storedist c", "a c"),
            ("georadiusbymember a m 3 km store store", "a store"),
            ("georadius a 1 2 3 km store", "a"),
            ("geosearchstore a b fromlonlat 1 2 byradius 3 km", "a b"),
            ("xread count 2 streams a b 0 0", "a b"),
            ("xread streams a b 0", ""),
            ("xreadgroup group streams streams noack streams a >", "a"),
            ("xgroup create a g $", "a"),
            ("del", ""),
        ] {
            assert_eq!(keys(line), expected, "{line}");
        }
    }
}
