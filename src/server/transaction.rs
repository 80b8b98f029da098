//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`.
//!
//! ```text
//! MULTI ─▶ queue ─▶ EXEC ─▶ plan ─┬─ commands of one shard: one batch a shard, one borrow, one group ─┬─▶ replies in order
//!                                 ├─ a command of several shards: by itself, in its place             │
//!                                 └─ commands of the server: after them ──────────────────────────────┘
//! ```
//!
//! What one shard does for a transaction nobody sees by halves. Several shards do their parts one beside the other:
//! `docs/commands.md` says what may be seen.

use std::fmt::Display;
use std::rc::Rc;

use super::admission::Admission;
use super::connection::note_alone;
use super::node::Node;
use super::session::ClientSession;
use super::{across, admin, wait};
use crate::id::ShardId;
use crate::limits;
use crate::resp::{Reply, arguments_of};
use crate::runtime::clock::nanos;
use crate::runtime::commands::{Aborted, CommandBatch, Guard};
use crate::runtime::local::{Answer, Local, Request, unix_now};
use crate::shard::Refused;
use crate::snapshot::{Keyspace, Located};
use crate::store::WatchFlag;
use crate::store::command::table::Handler;
use crate::store::command::{Spec, has_expired};
use crate::wire::{ArgRange, Argv, Command};

/// The commands since `MULTI`.
#[derive(Debug, Default)]
pub(super) struct Queue {
    commands: Vec<Queued>,
    /// Bytes of them, with what each costs beside its own.
    bytes: usize,
    /// Whether one was refused: `EXEC` will not execute the others.
    broken: bool,
}

#[derive(Debug)]
struct Queued {
    spec: &'static Spec,
    argv: Command,
}

/// The keys that the next transaction depends on.
#[derive(Debug, Default)]
pub(super) struct Watching {
    flag: WatchFlag,
    keys: Vec<WatchedKey>,
}

#[derive(Debug)]
struct WatchedKey {
    key: Box<[u8]>,
    at: Located,
    /// Whether it was there, and had not expired.
    lived: bool,
}

/// There is no room for one more command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("ERR the transaction is too large")]
struct Full;

impl Queue {
    /// Keeps one more command.
    ///
    /// # Errors
    /// If that is more than a transaction may have; it is broken then, and has none any more.
    fn push(&mut self, spec: &'static Spec, argv: Argv<'_>) -> Result<(), Full> {
        let own: usize = argv.iter().map(|arg| arg.len() + limits::QUEUED_ARG_BYTES).sum();
        self.bytes += own + limits::QUEUED_COMMAND_BYTES;
        if self.bytes > limits::TRANSACTION_BYTES_MAX || self.commands.len() >= limits::TRANSACTION_COMMANDS_MAX {
            self.broken = true;
            self.bytes = limits::TRANSACTION_BYTES_MAX;
            self.commands = Vec::new();
            return Err(Full);
        }
        self.commands.push(Queued { spec, argv: Command::of(argv) });
        Ok(())
    }

    /// Whether one of its commands may write.
    pub fn writes(&self) -> bool {
        self.commands.iter().any(|queued| queued.spec.writes() || matches!(queued.spec.name, "publish" | "spublish"))
    }
}

/// Whether a command is executed at once although its client is in a transaction.
pub(super) fn is_immediate(spec: &Spec) -> bool {
    matches!(spec.name, "multi" | "exec" | "discard" | "watch" | "quit" | "reset")
}

/// A command of a client in a transaction could not even be queued.
pub(super) fn refuse(client: &mut ClientSession) {
    if let Some(queue) = &mut client.queue {
        queue.broken = true;
    }
}

/// `EXEC` itself is refused: its transaction is over.
pub(super) fn abort(client: &mut ClientSession, why: impl Display, out: &mut Vec<u8>) {
    client.end_transaction();
    let why = why.to_string();
    let why = why.strip_prefix("ERR ").unwrap_or(&why);
    Reply::new(out, client.protocol).error(format_args!("EXECABORT Transaction discarded because of: {why}"));
}

/// Keeps a command for `EXEC`.
pub(super) fn queue(local: &Local, client: &mut ClientSession, spec: &'static Spec, argv: Argv<'_>, out: &mut Vec<u8>) {
    let Some(queue) = &mut client.queue else { return };
    let mut reply = Reply::new(out, client.protocol);
    let read_only = local.core().following().is_some_and(|following| following.policy().read_only);
    if read_only && spec.writes() {
        queue.broken = true;
        return reply.error(Refused::ReadOnly);
    }
    if let Err(full) = queue.push(spec, argv) {
        return reply.error(full);
    }
    client.me.queued.set(Some(queue.commands.len()));
    reply.simple("QUEUED");
}

/// Executes `MULTI`.
pub(super) fn multi(client: &mut ClientSession, reply: &mut Reply<'_>) {
    if client.queue.is_some() {
        return reply.error("ERR MULTI calls can not be nested");
    }
    client.queue = Some(Queue::default());
    client.me.queued.set(Some(0));
    reply.ok();
}

/// Executes `DISCARD`.
pub(super) fn discard(client: &mut ClientSession, reply: &mut Reply<'_>) {
    if client.queue.take().is_none() {
        return reply.error("ERR DISCARD without MULTI");
    }
    client.end_transaction();
    reply.ok();
}

/// Executes `WATCH`.
pub(super) async fn watch(local: &Rc<Local>, client: &mut ClientSession, argv: Argv<'_>, out: &mut Vec<u8>) {
    if client.queue.is_some() {
        return Reply::new(out, client.protocol).error("ERR WATCH inside MULTI is not allowed");
    }
    let watching = client.watching.get_or_insert_default();
    for key in argv.iter().skip(1) {
        if watching.keys.iter().any(|watched| *watched.key == *key) {
            continue;
        }
        let at = local.core().store.locate(key);
        let (key, flag): (Box<[u8]>, _) = (key.into(), watching.flag.clone());
        let watched = move |local: &Rc<Local>| {
            let mut core = local.core();
            let lived = core.store.get(at, &key).is_some_and(|entry| !has_expired(&entry, unix_now()));
            core.store.watched.add(&key, &flag);
            WatchedKey { key, at, lived }
        };
        let watched = local.call(local.count().owner(at.slot), watched).await;
        watching.keys.push(watched);
        client.me.watches.set(watching.keys.len());
    }
    Reply::new(out, client.protocol).ok();
}

impl Watching {
    /// What a transaction on shard `owner` depends on.
    fn guard(&self, local: &Local, owner: ShardId) -> Guard {
        let here = |watched: &&WatchedKey| watched.lived && local.count().owner(watched.at.slot) == owner;
        let keys = self.keys.iter().filter(here).map(|watched| (watched.key.clone(), watched.at)).collect();
        Guard { flag: Some(self.flag.clone()), keys }
    }

    /// Whether a watched key has changed, wherever it is.
    async fn is_broken(&self, local: &Rc<Local>) -> bool {
        for owner in local.count().shards() {
            let guard = self.guard(local, owner);
            if guard.flag.as_ref().is_some_and(WatchFlag::is_set) {
                return true;
            }
            let broken = move |local: &Rc<Local>| guard.is_broken(&local.core(), unix_now());
            if self.keys.iter().any(|watched| local.count().owner(watched.at.slot) == owner)
                && local.call(owner, broken).await
            {
                return true;
            }
        }
        false
    }
}

/// Executes `EXEC`. `false`: the connection ends once the replies are out.
pub(super) async fn exec(local: &Rc<Local>, node: &Rc<Node>, client: &mut ClientSession, out: &mut Vec<u8>) -> bool {
    let Some(queue) = client.queue.take() else {
        Reply::new(out, client.protocol).error("ERR EXEC without MULTI");
        return true;
    };
    let watching = client.watching.take();
    client.end_transaction();
    if queue.broken {
        Reply::new(out, client.protocol).error("EXECABORT Transaction discarded because of previous errors.");
        return true;
    }
    let mut ranges = Vec::new();
    let commands: Vec<Prepared> = queue.commands.iter().map(|queued| prepare(local, queued, &mut ranges)).collect();
    let argv = |index: usize| {
        let Prepared { first, end, .. } = commands[index];
        Argv::new(queue.commands[index].argv.as_bytes(), &ranges[first..end])
    };
    let admission = Admission::now(local, node);
    let slots = |command: &Prepared| command.located.iter().map(|at| at.slot).collect::<Vec<_>>();
    let refused = |command: &Prepared| admission.refusal(command.spec, slots(command).into_iter());
    if let Some(refused) = commands.iter().find_map(refused) {
        abort(client, refused, out);
        return true;
    }
    // Who is told what is published has its limit for all of that together.
    let most = node.settings.borrow().output_limits.normal.most_at_once().filter(|_| !client.me.takes_pushes());
    let mut replies = Replies::new(commands.len(), most);
    match execute_store(local, &commands, argv, watching, client, &mut replies).await {
        Ok(()) => {}
        Err(Aborted::Changed) => {
            Reply::new(out, client.protocol).null_array();
            return true;
        }
        Err(Aborted::Refused(refused)) => {
            abort(client, refused, out);
            return true;
        }
    }
    if client.wants_reply() && most.is_some_and(|most| replies.bytes > most) {
        client.left_out = Some(replies.bytes);
    }
    Reply::new(out, client.protocol).array(commands.len());
    let mut goes_on = true;
    for (index, command) in commands.iter().enumerate() {
        match command.place {
            Place::Server => {
                let (begun, from) = (nanos(), out.len());
                goes_on &= execute_server(local, node, client, command.spec, argv(index), out).await;
                note_alone(local, client, command.spec, argv(index), begun, out.get(from..).unwrap_or_default());
            }
            Place::Shard(_) | Place::Several => out.append(&mut replies.each[index]),
        }
    }
    goes_on
}

/// The replies to the commands of a transaction. All of it is executed, whatever it answers: what is over the limit of its client, which
/// goes for that, is not kept.
struct Replies {
    each: Vec<Vec<u8>>,
    /// Bytes of them.
    bytes: usize,
    /// Bytes over which no more are kept; `None`: whatever they are.
    most: Option<usize>,
}

impl Replies {
    fn new(commands: usize, most: Option<usize>) -> Replies {
        Replies { each: vec![Vec::new(); commands], bytes: 0, most }
    }

    /// Keeps the reply to command number `index`.
    fn keep(&mut self, index: usize, reply: &[u8]) {
        if self.most.is_none_or(|most| self.bytes <= most) {
            self.bytes += reply.len();
            self.each[index] = reply.to_vec();
        }
    }
}

/// A queued command, as it will be executed.
struct Prepared {
    spec: &'static Spec,
    place: Place,
    /// The places of its keys.
    located: Vec<Located>,
    /// Its arguments among all ranges.
    first: usize,
    end: usize,
}

/// Who executes it.
#[derive(Clone, Copy)]
enum Place {
    Shard(ShardId),
    Several,
    Server,
}

fn prepare(local: &Local, queued: &Queued, ranges: &mut Vec<ArgRange>) -> Prepared {
    let first = ranges.len();
    let argv = arguments_of(&queued.argv, ranges);
    let spec = queued.spec;
    let store = &local.core().store;
    let located: Vec<Located> = spec.keys(argv).map(|index| store.locate(argv.arg(index))).collect();
    let mut owners = located.iter().map(|at| local.count().owner(at.slot));
    let place = match (spec.handler, owners.next()) {
        (Handler::Server, _) => Place::Server,
        (Handler::Store { .. }, _) if across::reaches(local, spec, argv) => Place::Several,
        (Handler::Store { .. }, Some(owner)) if owners.all(|other| other == owner) => Place::Shard(owner),
        (Handler::Store { .. }, None) => Place::Shard(local.id()),
        (Handler::Store { .. }, _) => Place::Several,
    };
    Prepared { spec, place, located, first, end: ranges.len() }
}

/// Executes the commands of the store, in their order on each shard, and fills in their replies.
async fn execute_store<'a>(
    local: &Rc<Local>,
    commands: &[Prepared],
    argv: impl Fn(usize) -> Argv<'a>,
    watching: Option<Watching>,
    client: &mut ClientSession,
    replies: &mut Replies,
) -> Result<(), Aborted> {
    let mut guard = None;
    if let Some(watching) = watching {
        let mut owners = commands.iter().filter_map(|command| match command.place {
            Place::Shard(owner) => Some(Some(owner)),
            Place::Several => Some(None),
            Place::Server => None,
        });
        let only = owners.next().flatten().filter(|owner| owners.all(|other| other == Some(*owner)));
        let elsewhere = |watched: &WatchedKey| Some(local.count().owner(watched.at.slot)) != only;
        if (only.is_none() || watching.keys.iter().any(elsewhere)) && watching.is_broken(local).await {
            return Err(Aborted::Changed);
        }
        // A single shard looks itself, in the borrow in which it executes.
        guard = only.map(|owner| watching.guard(local, owner));
    }
    let mut parts: Vec<Option<Box<CommandBatch>>> = local.count().shards().map(|_| None).collect();
    let mut planned = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        match command.place {
            Place::Shard(owner) => {
                let part = parts[owner.index()].get_or_insert_with(|| local.batch());
                part.push(command.spec, client.protocol, argv(index), &command.located);
                planned.push((index, owner));
            }
            Place::Several => {
                execute_parts(local, &mut parts, guard.take().unwrap_or_default(), &planned, client, replies).await?;
                planned.clear();
                let mut reply = Vec::new();
                across::execute(local, command.spec, argv(index), client, &mut reply).await;
                replies.keep(index, &reply);
            }
            Place::Server => {}
        }
    }
    execute_parts(local, &mut parts, guard.unwrap_or_default(), &planned, client, replies).await
}

/// Executes one batch on each shard, those of other shards at the same time.
async fn execute_parts(
    local: &Rc<Local>,
    parts: &mut [Option<Box<CommandBatch>>],
    guard: Guard,
    planned: &[(usize, ShardId)],
    client: &mut ClientSession,
    replies: &mut Replies,
) -> Result<(), Aborted> {
    let mut answers = Vec::new();
    for (owner, part) in local.count().shards().zip(parts.iter_mut()) {
        let Some(mut batch) = part.take() else { continue };
        batch.set_transaction(guard.clone());
        batch.set_replies_max(replies.most);
        if owner == local.id() {
            *part = Some(batch);
        } else {
            answers.push((owner, local.send(owner, Request::Commands(batch)).await));
        }
    }
    if let Some(batch) = &mut parts[local.id().index()] {
        batch.execute(&mut local.core(), unix_now());
    }
    local.stream_first().await;
    for (owner, answer) in answers {
        match answer.await {
            Answer::Commands(batch) => parts[owner.index()] = Some(batch),
            Answer::Called(_) | Answer::Taken => unreachable!("commands are answered by commands"),
        }
    }
    let mut aborted = None;
    for (index, owner) in planned {
        let Some(batch) = &mut parts[owner.index()] else { continue };
        match (batch.aborted(), batch.next_reply()) {
            (Some(why), _) => aborted = Some(why),
            (None, reply) => replies.keep(*index, reply.unwrap_or_default()),
        }
    }
    for (shard, batch) in local.count().shards().zip(parts) {
        let Some(batch) = batch.take() else { continue };
        if let Some(recorded) = batch.recorded() {
            client.written.note(shard, recorded);
        }
        local.recycle(batch);
    }
    aborted.map_or(Ok(()), Err)
}

/// Executes a command of the server, which never waits here.
async fn execute_server(
    local: &Rc<Local>,
    node: &Rc<Node>,
    client: &mut ClientSession,
    spec: &'static Spec,
    argv: Argv<'_>,
    out: &mut Vec<u8>,
) -> bool {
    if spec.name == "wait" {
        let mut reply = Reply::new(out, client.protocol);
        let Some(wanted) = wait::Wanted::parse(local, argv, &mut reply) else { return true };
        let acked = wait::count(local, &client.written, wanted.replicas).await;
        Reply::new(out, client.protocol).count(acked.unwrap_or(0));
        return true;
    }
    Box::pin(admin::execute(local, node, client, spec, argv, out)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::command::find;

    #[test]
    fn a_queue_counts_what_a_command_costs_beside_its_bytes() {
        let spec = find(b"EXISTS").unwrap();
        let mut queue = Queue::default();
        // An argument without a byte, again and again.
        let ranges = vec![ArgRange::default(); 1 << 18];
        let argv = Argv::new(b"", &ranges);
        while queue.push(spec, argv).is_ok() {
            assert!(queue.commands.len() * ranges.len() * limits::QUEUED_ARG_BYTES <= limits::TRANSACTION_BYTES_MAX);
        }
        assert!(queue.broken && queue.commands.capacity() == 0);
        assert_eq!(queue.push(spec, Argv::new(b"", &ranges[..1])), Err(Full), "nothing fits any more");
    }

    #[test]
    fn a_queue_has_so_many_commands() {
        let spec = find(b"PING").unwrap();
        let mut queue = Queue::default();
        let argv = Argv::new(b"PING", &[ArgRange { start: 0, len: 4 }]);
        let queued = (0..limits::TRANSACTION_COMMANDS_MAX + 1).take_while(|_| queue.push(spec, argv).is_ok()).count();
        assert_eq!(queued, limits::TRANSACTION_COMMANDS_MAX);
        assert!(queue.broken);
    }
}
