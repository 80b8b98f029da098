//! Commands on keys of several shards that cannot be taken apart: what they read is brought together, what they make is put where
//! it belongs.
//!
//! ```text
//! SINTERSTORE d a b      DUMP a, DUMP b ─▶ a scratch keyspace: execute ─▶ RESTORE d … REPLACE
//! RENAME a b             DUMP a ─▶ RESTORE b … REPLACE ─▶ DEL a, if it is still the same; else again
//! LMOVE a b LEFT RIGHT   LPOP a ─▶ RPUSH b
//! XREAD … a b            XREAD … a, XREAD … b; for a group first a look whether all have it
//! PFMERGE d a b          DUMP a, DUMP b ─▶ join them with d
//! ```
//!
//! Every step is a command of one shard, executed and recorded there like any other. Others may see what is between two steps;
//! `docs/commands.md` says what that is. No step loses what another client wrote meanwhile.

use std::rc::Rc;

use super::across::{Join, Part, by_key, integer, run};
use super::session::ClientSession;
use crate::limits;
use crate::resp::{Protocol, Reply, arguments_of};
use crate::runtime::local::{Local, unix_now};
use crate::snapshot::{Keyspace, Located};
use crate::store::command::hyperloglog::joined;
use crate::store::command::refusal::{NO_SUCH_KEY, SYNTAX, TOO_LARGE, WRONG_TYPE};
use crate::store::command::stream::read::{Query, no_such_group, put_head};
use crate::store::command::{self, Context, Flags, Lazy, Random, Refusal, Spec, block, find, find_undoing};
use crate::store::hyperloglog::Registers;
use crate::store::{KeyspaceStore, Value, ValueRef, rdb};
use crate::wire::{Argv, Command, Room};

/// How often a `RENAME` puts the value in its new place first; where somebody writes to its key each time meanwhile, it takes the
/// value away first.
const RENAMES_MAX: usize = 16;

/// Executes a command whose keys several shards own.
pub(super) async fn execute(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) {
    let mut done = Vec::new();
    let result = match spec.name {
        "sinter" | "sunion" | "sdiff" | "sintercard" | "zinter" | "zunion" | "zdiff" | "zintercard" | "lcs"
        | "pfcount" => on_copies(local, spec, argv, client, Stores::Nothing, &mut done).await,
        "sinterstore" | "sunionstore" | "sdiffstore" | "zinterstore" | "zunionstore" | "zdiffstore" | "zrangestore"
        | "bitop" | "geosearchstore" => on_copies(local, spec, argv, client, Stores::In(0), &mut done).await,
        "sort" | "georadius" | "georadiusbymember" => {
            on_copies(local, spec, argv, client, Stores::In(1), &mut done).await
        }
        "pfmerge" => merge_sketches(local, spec, argv, client, &mut done).await,
        "copy" => copy(local, spec, argv, client, &mut done).await,
        "rename" | "renamenx" => rename(local, argv, client, spec.name == "renamenx", &mut done).await,
        "lmove" | "rpoplpush" | "blmove" | "brpoplpush" => move_element(local, spec, argv, client, &mut done).await,
        "smove" => move_member(local, argv, client, &mut done).await,
        "lmpop" | "zmpop" | "blpop" | "brpop" | "blmpop" | "bzpopmin" | "bzpopmax" | "bzmpop" => {
            pop_first(local, spec, argv, client, &mut done).await
        }
        "xread" | "xreadgroup" => read_streams(local, argv, client, &mut done).await,
        "msetnx" => set_if_missing(local, spec, argv, client, &mut done).await,
        _ => Err(Stop::Refused(Refusal::Text("CROSSSLOT Keys in request don't hash to the same shard"))),
    };
    match result {
        Ok(()) => out.append(&mut done),
        Err(Stop::Refused(refusal)) => Reply::new(out, client.protocol).error(refusal),
        Err(Stop::Answered(reply)) => out.extend_from_slice(&reply),
    }
}

/// Why a command ends before its end.
enum Stop {
    /// It cannot be executed.
    Refused(Refusal),
    /// A step was answered in a way that is the answer to the whole.
    Answered(Vec<u8>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

/// Where a command leaves its result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stores {
    Nothing,
    /// In the key of this number.
    In(usize),
}

/// Executes one step where its key lives, and returns the reply; an error ends the command.
async fn ask(local: &Rc<Local>, client: &mut ClientSession, args: &[&[u8]]) -> Result<Vec<u8>, Stop> {
    answered(try_ask(local, client, args).await)
}

/// The reply of a step; an error is the answer to the whole.
fn answered(reply: Vec<u8>) -> Result<Vec<u8>, Stop> {
    if reply.first() == Some(&b'-') { Err(Stop::Answered(reply)) } else { Ok(reply) }
}

async fn try_ask(local: &Rc<Local>, client: &mut ClientSession, args: &[&[u8]]) -> Vec<u8> {
    let Some(spec) = find(args[0]) else { unreachable!("steps are commands of the table") };
    execute_step(local, client, spec, Command::new(args)).await
}

/// As [`ask`], of a step that undoes another one: what was taken goes back, also where no memory is left.
async fn undo(local: &Rc<Local>, client: &mut ClientSession, args: &[&[u8]]) -> Result<Vec<u8>, Stop> {
    let Some(spec) = find_undoing(args[0]) else { unreachable!("what undoes steps is known") };
    answered(execute_step(local, client, spec, Command::new(args)).await)
}

async fn execute_step(local: &Rc<Local>, client: &mut ClientSession, spec: &'static Spec, command: Command) -> Vec<u8> {
    let mut ranges = Vec::new();
    let argv = arguments_of(&command, &mut ranges);
    let places: Vec<Located> = spec.keys(argv).map(|key| local.core().store.locate(argv.arg(key))).collect();
    let owner = places.first().map_or(local.id(), |at| local.count().owner(at.slot));
    let part = Part { owner, argv: command, places, keys: Vec::new() };
    run(local, spec, client, vec![part]).await.pop().map_or_else(Vec::new, |replied| replied.reply)
}

/// The string that a reply is; `None` for null.
fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let rest = reply.strip_prefix(b"$").filter(|rest| !rest.starts_with(b"-"))?;
    let head = memchr::memchr(b'\n', rest)?;
    rest.get(head + 1..rest.len() - 2)
}

/// What a key holds, as `DUMP` says it.
async fn dump(local: &Rc<Local>, client: &mut ClientSession, key: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
    let reply = ask(local, client, &[b"DUMP", key]).await?;
    match bulk(&reply) {
        Some(payload) if payload.len() > limits::BULK_BYTES_MAX => Err(TOO_LARGE.into()),
        payload => Ok(payload.map(<[u8]>::to_vec)),
    }
}

/// When a key expires, in milliseconds of the epoch; 0: never.
async fn expiry(local: &Rc<Local>, client: &mut ClientSession, key: &[u8]) -> Result<i64, Stop> {
    Ok(integer(&ask(local, client, &[b"PEXPIRETIME", key]).await?).max(0))
}

/// Puts a value where it belongs. `false`: there is something already, and it is not to be replaced.
async fn put(
    local: &Rc<Local>,
    client: &mut ClientSession,
    key: &[u8],
    payload: &[u8],
    expiry: i64,
    replaces: bool,
) -> Result<bool, Stop> {
    let mut digits = itoa::Buffer::new();
    let mut args: Vec<&[u8]> = vec![b"RESTORE", key, digits.format(expiry).as_bytes(), payload, b"ABSTTL"];
    if replaces {
        args.push(b"REPLACE");
    }
    match ask(local, client, &args).await {
        Err(Stop::Answered(reply)) if !replaces && reply.starts_with(b"-BUSYKEY") => Ok(false),
        Err(stop) => Err(stop),
        Ok(_) => Ok(true),
    }
}

/// Executes a command on copies of what it reads, all brought here, and puts its result where it belongs.
async fn on_copies(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    stores: Stores,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let mut scratch = KeyspaceStore::new();
    let keys: Vec<&[u8]> = spec.keys(argv).map(|index| argv.arg(index)).collect();
    for (number, key) in keys.iter().enumerate() {
        if Stores::In(number) != stores
            && let Some(payload) = dump(local, client, key).await?
        {
            load(&mut scratch, key, &payload)?;
        }
    }
    execute_on(local, &mut scratch, spec, argv, &keys, client.protocol, out)?;
    if let Stores::In(number) = stores {
        let key = keys[number];
        match scratch.get(scratch.locate(key), key).map(|entry| rdb::encode(&entry)) {
            Some(payload) => _ = put(local, client, key, &payload, 0, true).await?,
            None => _ = ask(local, client, &[b"DEL", key]).await?,
        }
    }
    Ok(())
}

fn load(scratch: &mut KeyspaceStore, key: &[u8], payload: &[u8]) -> Result<(), Stop> {
    let at = scratch.locate(key);
    match rdb::decode(payload) {
        Ok(Value::Str(bytes)) => scratch.set_string(at, key, &bytes, None),
        Ok(value) => scratch.set_value(at, key, Box::new(value), None),
        Err(_) => return Err(Refusal::Text("ERR Bad data format").into()),
    }
    Ok(())
}

fn execute_on(
    local: &Local,
    scratch: &mut KeyspaceStore,
    spec: &Spec,
    argv: Argv<'_>,
    keys: &[&[u8]],
    protocol: Protocol,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let places: Vec<Located> = keys.iter().map(|key| scratch.locate(key)).collect();
    let mut context = Context {
        store: scratch,
        now: unix_now(),
        random: &mut Random::seeded(local.core().random()),
        lazy: Lazy::Hide,
        room: Room::WHOLE,
        expired_keys: &mut 0,
    };
    command::execute(spec, &mut context, &places, argv, &mut Reply::new(out, protocol));
    if out.first() == Some(&b'-') { Err(Stop::Answered(std::mem::take(out))) } else { Ok(()) }
}

/// `PFMERGE`: the sources are brought together here, and joined with what the destination holds where that lives, at once: what is added
/// to it meanwhile stays.
async fn merge_sketches(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let mut registers = Registers::new();
    for index in spec.keys(argv) {
        let value = dump(local, client, argv.arg(index)).await?.map(|payload| rdb::decode(&payload));
        match value.transpose() {
            Ok(None) => {}
            Ok(Some(Value::Str(bytes))) => registers.join(&bytes).map_err(Refusal::from)?,
            Ok(Some(_)) => return Err(WRONG_TYPE.into()),
            Err(_) => return Err(Refusal::Text("ERR Bad data format").into()),
        }
    }
    let key = argv.arg(1).to_vec();
    let at = local.core().store.locate(&key);
    let owner = local.count().owner(at.slot);
    let Some(set) = find(b"SET") else { unreachable!("SET is in the table") };
    let (mut batch, protocol) = (local.batch(), client.protocol);
    let join = move |local: &Rc<Local>| {
        let (mut core, now) = (local.core(), unix_now());
        let held = core.store.get(at, &key).filter(|entry| !command::has_expired(entry, now));
        let old = match held.map(|entry| entry.value()) {
            None => None,
            Some(ValueRef::Str(bytes)) => Some(bytes),
            Some(ValueRef::Boxed(_)) => return Err(WRONG_TYPE),
        };
        let joined = joined(old, &registers)?;
        if old == Some(&joined) {
            return Ok(None);
        }
        let command = Command::new(&[b"SET", key.as_slice(), joined.as_slice(), b"KEEPTTL"]);
        batch.push(set, protocol, arguments_of(&command, &mut Vec::new()), &[at]);
        batch.execute(&mut core, now);
        Ok::<_, Refusal>(Some(batch))
    };
    let Some(batch) = local.call(owner, join).await? else {
        Reply::new(out, client.protocol).ok();
        return Ok(());
    };
    local.stream_first().await;
    if let Some(recorded) = batch.recorded() {
        client.written.note(owner, recorded);
    }
    out.extend_from_slice(batch.reply(0));
    local.recycle(batch);
    Ok(())
}

/// `COPY`: the options are judged on a scratch keyspace with something of either key.
async fn copy(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let (from, to) = (argv.arg(1), argv.arg(2));
    let mut scratch = KeyspaceStore::new();
    // With something in both places it is the options that say whether there is a copy.
    for key in [from, to] {
        scratch.set_string(scratch.locate(key), key, b"", None);
    }
    execute_on(local, &mut scratch, spec, argv, &[from, to], client.protocol, out)?;
    let replaces = integer(out) == 1;
    out.clear();
    let expiry = expiry(local, client, from).await?;
    let copied = match dump(local, client, from).await? {
        Some(payload) => put(local, client, to, &payload, expiry, replaces).await?,
        None => false,
    };
    Reply::new(out, client.protocol).integer(copied.into());
    Ok(())
}

/// `RENAME`: the value is put in its new place first, and taken from the old one if nobody wrote to it meanwhile. Where somebody
/// always did, it is taken away first, and for a moment is in neither place.
async fn rename(
    local: &Rc<Local>,
    argv: Argv<'_>,
    client: &mut ClientSession,
    only_missing: bool,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let (from, to) = (argv.arg(1), argv.arg(2));
    for round in 0..RENAMES_MAX {
        let expiry = expiry(local, client, from).await?;
        let Some(payload) = dump(local, client, from).await? else {
            return match round {
                0 => Err(NO_SUCH_KEY.into()),
                // Somebody took it away after it was put in its new place.
                _ => done(client, only_missing, out),
            };
        };
        if !put(local, client, to, &payload, expiry, round > 0 || !only_missing).await? {
            Reply::new(out, client.protocol).integer(0);
            return Ok(());
        }
        if take(local, client, from, Some(Held { payload, expiry })).await.is_some() {
            return done(client, only_missing, out);
        }
    }
    if let Some(Held { payload, expiry }) = take(local, client, from, None).await
        && let Err(stop) = put(local, client, to, &payload, expiry, true).await
    {
        // Back where it was; what somebody wrote there meanwhile is newer.
        let mut digits = itoa::Buffer::new();
        let back: [&[u8]; 5] = [b"RESTORE", from, digits.format(expiry).as_bytes(), &payload, b"ABSTTL"];
        match undo(local, client, &back).await {
            Err(Stop::Answered(reply)) if reply.starts_with(b"-BUSYKEY") => {}
            undone => _ = undone?,
        }
        return Err(stop);
    }
    done(client, only_missing, out)
}

fn done(client: &ClientSession, only_missing: bool, out: &mut Vec<u8>) -> Result<(), Stop> {
    let mut reply = Reply::new(out, client.protocol);
    if only_missing {
        reply.integer(1)
    } else {
        reply.ok()
    }
    Ok(())
}

/// What a key holds, as `DUMP` says it.
#[derive(PartialEq, Eq)]
struct Held {
    payload: Vec<u8>,
    /// As `RESTORE` takes it: 0 for none.
    expiry: i64,
}

/// Removes `key` where it lives, at once, and returns what it held; only if that is what is `expected`, where something is.
async fn take(local: &Rc<Local>, client: &mut ClientSession, key: &[u8], expected: Option<Held>) -> Option<Held> {
    let at = local.core().store.locate(key);
    let owner = local.count().owner(at.slot);
    let Some(spec) = find(b"DEL") else { unreachable!("DEL is in the table") };
    let mut batch = local.batch();
    batch.push(spec, Protocol::Resp2, arguments_of(&Command::new(&[b"DEL", key]), &mut Vec::new()), &[at]);
    let key = key.to_vec();
    let remove = move |local: &Rc<Local>| {
        let mut core = local.core();
        let held = core
            .store
            .get(at, &key)
            .map(|entry| Held { expiry: entry.expiry().map_or(0, |at| at.get() as i64), payload: rdb::encode(&entry) });
        let taken = held.filter(|held| expected.as_ref().is_none_or(|expected| held == expected));
        if taken.is_some() {
            batch.execute(&mut core, unix_now());
        }
        (taken, batch)
    };
    let (taken, batch) = local.call(owner, remove).await;
    local.stream_first().await;
    if let Some(recorded) = batch.recorded().filter(|_| taken.is_some()) {
        client.written.note(owner, recorded);
    }
    local.recycle(batch);
    taken
}

/// An element on its way from one end of a list to an end of another one.
#[derive(Debug)]
pub(super) struct Move {
    from: Vec<u8>,
    to: Vec<u8>,
    from_left: bool,
    to_left: bool,
}

impl Move {
    /// What a command of a well-formed `LMOVE` or its like moves; `None` where it is not one.
    pub fn of(spec: &Spec, argv: Argv<'_>) -> Option<Move> {
        let ends: [&[u8]; 2] = match spec.name {
            "lmove" | "blmove" => [argv.arg(3), argv.arg(4)],
            "rpoplpush" | "brpoplpush" => [b"RIGHT", b"LEFT"],
            _ => return None,
        };
        let is_left = |end: &[u8]| match () {
            () if end.eq_ignore_ascii_case(b"LEFT") => Some(true),
            () if end.eq_ignore_ascii_case(b"RIGHT") => Some(false),
            () => None,
        };
        let [from_left, to_left] = [is_left(ends[0])?, is_left(ends[1])?];
        Some(Move { from: argv.arg(1).to_vec(), to: argv.arg(2).to_vec(), from_left, to_left })
    }

    /// The command that takes the element.
    pub fn taking(&self) -> (&'static Spec, Command) {
        let verb: &[u8] = if self.from_left { b"LPOP" } else { b"RPOP" };
        let Some(spec) = find(verb) else { unreachable!("LPOP and RPOP are in the table") };
        (spec, Command::new(&[verb, &self.from]))
    }
}

/// `LMOVE`: from one end of a list to an end of another one.
async fn move_element(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let moved = Move::of(spec, argv).ok_or(SYNTAX)?;
    if spec.flags.has(Flags::BLOCKING) {
        block::wish(spec, argv)?;
    }
    if integer(&ask(local, client, &[b"LLEN", &moved.from]).await?) == 0 {
        Reply::new(out, client.protocol).null();
        return Ok(());
    }
    ask(local, client, &[b"LLEN", &moved.to]).await?;
    let (taking, command) = moved.taking();
    let popped = answered(execute_step(local, client, taking, command).await)?;
    give(local, client, &moved, &popped, out).await;
    Ok(())
}

/// Gives an element that was taken where it belongs, and appends the reply.
pub(super) async fn give(
    local: &Rc<Local>,
    client: &mut ClientSession,
    moved: &Move,
    popped: &[u8],
    out: &mut Vec<u8>,
) {
    let verb = |left| -> &[u8] { if left { b"LPUSH" } else { b"RPUSH" } };
    if let Some(element) = bulk(popped)
        && let Err(Stop::Answered(error)) = ask(local, client, &[verb(moved.to_left), &moved.to, element]).await
    {
        // The other key holds something else: the element goes back.
        // It is there again or, where that key became something else meanwhile, nowhere.
        let _ = undo(local, client, &[verb(moved.from_left), &moved.from, element]).await;
        out.extend_from_slice(&error);
        return;
    }
    out.extend_from_slice(popped);
}

/// `SMOVE`: from one set to another.
async fn move_member(
    local: &Rc<Local>,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let (from, to, member) = (argv.arg(1), argv.arg(2), argv.arg(3));
    let mut moved = integer(&ask(local, client, &[b"SCARD", from]).await?) > 0;
    if moved {
        ask(local, client, &[b"SCARD", to]).await?;
        moved = integer(&ask(local, client, &[b"SREM", from, member]).await?) == 1;
    }
    if moved && let Err(stop) = ask(local, client, &[b"SADD", to, member]).await {
        // Since it was looked at, the other key became something else: the member goes back.
        undo(local, client, &[b"SADD", from, member]).await?;
        return Err(stop);
    }
    Reply::new(out, client.protocol).integer(moved.into());
    Ok(())
}

/// `LMPOP`, `BLPOP` and their like: one key after the other is asked, until one has something.
async fn pop_first(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    for number in 0..spec.keys(argv).len() {
        let part = block::restricted(spec, argv, |key| key == number);
        let mut ranges = Vec::new();
        *out = ask(local, client, &arguments_of(&part, &mut ranges).iter().collect::<Vec<_>>()).await?;
        if !Reply::is_null(out) {
            break;
        }
    }
    Ok(())
}

/// `XREAD`, `XREADGROUP`: stream after stream. That a group is missing somewhere is found before anything is delivered.
async fn read_streams(
    local: &Rc<Local>,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    let query = Query::parse(argv)?;
    for (key, id) in query.streams() {
        let look: &[&[u8]] = match query.group {
            Some((group, _)) => &[b"XPENDING", key, group],
            None => &[b"XLEN", key],
        };
        match (try_ask(local, client, look).await, query.group) {
            (reply, Some((group, _))) if reply.starts_with(b"-NOGROUP") => return Err(no_such_group(key, group).into()),
            (reply, _) if reply.starts_with(b"-") => return Err(Stop::Answered(reply)),
            _ => query.behind(id)?,
        };
    }
    let streams = query.streams().len();
    let options: Vec<&[u8]> = argv.iter().take(argv.len() - 2 * streams).collect();
    let (mut found, mut body) = (0, Vec::new());
    for (key, id) in query.streams() {
        let args: Vec<&[u8]> = options.iter().copied().chain([key, id]).collect();
        let reply = ask(local, client, &args).await?;
        // One stream: an array or a map of one.
        if let Some(stream) = reply.strip_prefix(b"*1\r\n").or_else(|| reply.strip_prefix(b"%1\r\n")) {
            found += 1;
            body.extend_from_slice(stream);
        }
    }
    let mut reply = Reply::new(out, client.protocol);
    match found {
        0 => reply.null_array(),
        found => put_head(found, &mut reply),
    }
    reply.raw(&body);
    Ok(())
}

/// `MSETNX`: first a look at all keys, then an `MSET`.
async fn set_if_missing(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) -> Result<(), Stop> {
    if argv.len().is_multiple_of(2) {
        return Err(Refusal::Arity(spec.name).into());
    }
    for index in spec.keys(argv) {
        if integer(&ask(local, client, &[b"EXISTS", argv.arg(index)]).await?) > 0 {
            Reply::new(out, client.protocol).integer(0);
            return Ok(());
        }
    }
    let Some(mset) = find(b"MSET") else { unreachable!("MSET is in the table") };
    let mut args: Vec<&[u8]> = argv.iter().collect();
    args[0] = b"MSET";
    let command = Command::new(&args);
    let mut ranges = Vec::new();
    by_key(local, mset, arguments_of(&command, &mut ranges), client, Join::Status, out).await;
    if out.first() == Some(&b'-') {
        return Err(Stop::Answered(std::mem::take(out)));
    }
    out.clear();
    Reply::new(out, client.protocol).integer(1);
    Ok(())
}
