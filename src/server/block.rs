//! Commands that wait for a key: `BLPOP`, `XREAD` and their like. Each is tried as it is; where it finds nothing, it leaves a waiter with
//! every shard that owns one of its keys, and the first of these that has something answers for all.
//!
//! ```text
//! try ── something ─▶ reply
//!  └─ nothing ─▶ a waiter on each shard, one claim ─▶ answered │ late │ unblocked │ gone ─▶ the others are forgotten
//! ```
//!
//! What is executed for a waiter is executed by the shard, in the borrow in which it found out that there is something: no other
//! client comes between. `BLMOVE` from one shard to another waits to take, and gives when it has taken.

use std::rc::Rc;

use super::across::{self, Part};
use super::clients::Unblocked;
use super::meanwhile::{self, Ended, Waited};
use super::node::Node;
use super::session::ClientSession;
use super::together;
use crate::id::{Moment, ShardId};
use crate::resp::{Protocol, Reply, RequestDecoder, arguments_of};
use crate::runtime::clock::now;
use crate::runtime::executor::Queue;
use crate::runtime::local::{Local, unix_now};
use crate::runtime::ring::{Consumer, ring};
use crate::runtime::stream::Stream;
use crate::shard::{Claim, Served, Waiter};
use crate::snapshot::record::Kind;
use crate::snapshot::{Keyspace, Located};
use crate::store::WaiterId;
use crate::store::command::stream::read::top;
use crate::store::command::{Spec, block};
use crate::wire::{Argv, Command};

/// What a client waits for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// One for each shard that owns a key which it waits for, in the order of the keys.
    waits: Vec<Wait>,
    kind: Kind,
    needs_keys: bool,
    deadline: Option<Moment>,
    then: Then,
}

/// What it waits for on one shard.
#[derive(Debug)]
struct Wait {
    owner: ShardId,
    spec: &'static Spec,
    argv: Command,
    located: Vec<Located>,
    /// For the first so many of its keys.
    keys: usize,
    protocol: Protocol,
}

/// What comes after it was served.
#[derive(Debug)]
enum Then {
    /// What it was answered is the reply.
    Reply,
    /// It was answered an element that goes elsewhere.
    Give(together::Move),
}

/// Executes the command as it is; returns what is to be waited for where it found nothing.
pub(super) async fn execute(
    local: &Rc<Local>,
    spec: &'static Spec,
    argv: Argv<'_>,
    client: &mut ClientSession,
    out: &mut Vec<u8>,
) -> Option<Wanted> {
    let from = out.len();
    let (settled, mut ranges) = (settle(local, spec, argv).await, Vec::new());
    let argv = settled.as_ref().map_or(argv, |command| arguments_of(command, &mut ranges));
    let located: Vec<Located> = spec.keys(argv).map(|key| local.core().store.locate(argv.arg(key))).collect();
    let owners: Vec<ShardId> = located.iter().map(|at| local.count().owner(at.slot)).collect();
    let first = owners.first().copied().unwrap_or(local.id());
    let command = Command::of(argv);
    let is_of_one = owners.iter().all(|owner| *owner == first);
    if is_of_one {
        let part = Part { owner: first, argv: command.clone(), places: located.clone(), keys: Vec::new() };
        across::run(local, spec, client, vec![part])
            .await
            .iter()
            .for_each(|replied| out.extend_from_slice(&replied.reply));
    } else {
        across::execute(local, spec, argv, client, out).await;
    }
    // What is wrong with its arguments it has said by now.
    let wish = block::wish(spec, argv).ok().flatten().filter(|_| Reply::is_null(&out[from..]))?;
    out.truncate(from);
    let mut then = Then::Reply;
    let mut waits = Vec::new();
    if is_of_one {
        waits.push(Wait { owner: first, spec, argv: command, located, keys: wish.keys, protocol: client.protocol });
    } else if let Some(moved) = together::Move::of(spec, argv) {
        let (spec, argv) = moved.taking();
        waits.push(Wait {
            owner: first,
            spec,
            argv,
            located: located[..1].to_vec(),
            keys: 1,
            protocol: Protocol::Resp2,
        });
        then = Then::Give(moved);
    } else {
        for (number, owner) in owners.iter().enumerate() {
            if owners[..number].contains(owner) {
                continue;
            }
            let fits = |key: usize| owners[key] == *owner;
            let part: Vec<Located> =
                located.iter().enumerate().filter(|(key, _)| fits(*key)).map(|(_, at)| *at).collect();
            let argv = block::restricted(spec, argv, fits);
            let keys = part.len();
            waits.push(Wait { owner: *owner, spec, argv, located: part, keys, protocol: client.protocol });
        }
    }
    let deadline = wish.timeout_ms.map(|ms| now().plus_ms(ms));
    Some(Wanted { waits, kind: wish.kind, needs_keys: wish.needs_keys, deadline, then })
}

/// The command with the ids that its `$` mean now: whatever comes from now on is new to it, however often it is looked for.
async fn settle(local: &Rc<Local>, spec: &'static Spec, argv: Argv<'_>) -> Option<Command> {
    let tops = block::tops(spec, argv);
    let mut ids = Vec::with_capacity(tops.len());
    for (key, id) in tops {
        let key = argv.arg(key).to_vec();
        let at = local.core().store.locate(&key);
        let look = move |local: &Rc<Local>| top(&local.core().store, at, &key, unix_now());
        ids.push((id, local.call(local.count().owner(at.slot), look).await.to_string()));
    }
    let id_at = |index| ids.iter().find(|(id, _)| *id == index).map(|(_, text)| text.as_bytes());
    let args = argv.iter().enumerate().map(|(index, arg)| id_at(index).unwrap_or(arg));
    (!ids.is_empty()).then(|| Command::new(&args.collect::<Vec<_>>()))
}

/// Waits as `wanted` says, and appends the reply. What else arrives from the client meanwhile is kept in `requests`.
pub(super) async fn wait(
    local: &Rc<Local>,
    node: &Node,
    stream: &mut Stream,
    requests: &mut RequestDecoder,
    client: &mut ClientSession,
    wanted: Wanted,
    out: &mut Vec<u8>,
) -> Waited {
    let (mut teller, mut told) = ring(1);
    // There is room for the one thing that is ever said; a client that has gone is not there to hear it.
    let claim = Claim::new(move |served: Served| drop(teller.try_push(served)));
    let mut waiting: Vec<(ShardId, WaiterId)> = Vec::new();
    for Wait { owner, spec, argv, located, keys, protocol } in wanted.waits {
        let Wanted { kind, needs_keys, .. } = wanted;
        let waiter = Waiter { claim: claim.clone(), spec, argv, located, keys, kind, needs_keys, protocol };
        match local.call(owner, move |local| local.core().wait(waiter, unix_now())).await {
            Some(id) => waiting.push((owner, id)),
            // It is answered, by this shard or by one before it.
            None => break,
        }
    }
    local.stream_first().await;
    let event = answer(&mut told);
    let ended = meanwhile::until(local, node, stream, requests, client, wanted.deadline, event).await;
    let (served, waited) = match ended {
        Ok(served) => (served, Waited::Answered),
        Err(ended) if claim.give_up() => {
            forget(local, waiting);
            let mut reply = Reply::new(out, client.protocol);
            match ended {
                Ended::Gone => return Waited::Gone,
                Ended::Late | Ended::Unblocked(Unblocked::Timeout) => reply.null_array(),
                Ended::Unblocked(Unblocked::Error) => reply.error(UNBLOCKED),
            }
            return Waited::Answered;
        }
        // Something was taken for it just before.
        Err(Ended::Gone) => (answer(&mut told).await, Waited::Gone),
        Err(_) => (answer(&mut told).await, Waited::Answered),
    };
    forget(local, waiting);
    // The shard that was to answer has ended.
    let Some(served) = served else { return Waited::Gone };
    if let Some(recorded) = served.recorded {
        client.written.note(served.shard, recorded);
    }
    match wanted.then {
        Then::Reply => out.extend_from_slice(&served.reply),
        Then::Give(moved) => together::give(local, client, &moved, &served.reply, out).await,
    }
    waited
}

async fn answer(told: &mut Consumer<Served>) -> Option<Served> {
    // Whether it came or never will is seen by what there is.
    let _ = told.ready().await;
    told.pop()
}

/// Takes the waiters away. Nobody waits for that: they can do nothing any more.
fn forget(local: &Rc<Local>, waiting: Vec<(ShardId, WaiterId)>) {
    let here = Rc::clone(local);
    let task = async move {
        for (owner, id) in waiting {
            here.call(owner, move |local| local.core().forget_waiter(id)).await;
        }
    };
    local.spawn(Queue::Clients, task).detach();
}

/// What `CLIENT UNBLOCK … ERROR` lets the other client hear.
pub(super) const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
