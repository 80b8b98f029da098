//! `WAIT`: until enough replicas have applied what this client wrote, on every shard to which it wrote. Woken by
//! acknowledgements, with no timer in the path but the caller's own.
//!
//! ```text
//! written ──▶ look at each of its shards: who has acknowledged? (and ask the others to, at once)
//!                 │ not enough
//!                 ▼
//!             this shard: look again whenever something is acknowledged ─┐
//!             a watcher on each other: tells whenever there is one more ─┴▶ who is in all of them?
//! ```
//!
//! A replica counts where one process of it has acknowledged every shard: two that have half each are none.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use futures_lite::FutureExt;

use super::block;
use super::clients::Unblocked;
use super::meanwhile::{self, Ended, Waited};
use super::node::Node;
use super::session::{ClientSession, Written};
use crate::id::{Generation, Moment, Offset, ShardId};
use crate::resp::{Reply, RequestDecoder};
use crate::runtime::clock::now;
use crate::runtime::executor::Queue;
use crate::runtime::local::Local;
use crate::runtime::ring::{Consumer, ring};
use crate::runtime::stream::Stream;
use crate::shard::{Role, Shard};
use crate::slot::Acker;
use crate::source::Source;
use crate::store::command::number;
use crate::wire::Argv;

/// What a `WAIT` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    /// So many replicas.
    pub replicas: usize,
    /// Until then; `None`: for as long as it takes.
    deadline: Option<Moment>,
}

impl Wanted {
    /// Reads the arguments of `WAIT replicas milliseconds`; `None` where the reply says what is wrong with them.
    pub fn parse(local: &Local, argv: Argv<'_>, reply: &mut Reply<'_>) -> Option<Wanted> {
        let Some(replicas) = number::integer(argv.arg(1)) else {
            reply.error("ERR value is not an integer or out of range");
            return None;
        };
        let Some(timeout) = number::integer(argv.arg(2)) else {
            reply.error("ERR timeout is not an integer or out of range");
            return None;
        };
        let Ok(timeout) = u64::try_from(timeout) else {
            reply.error("ERR timeout is negative");
            return None;
        };
        if local.core().following().is_some() {
            reply.error(ON_A_REPLICA);
            return None;
        }
        let deadline = (timeout > 0).then(|| now().plus_ms(timeout));
        Some(Wanted { replicas: usize::try_from(replicas).unwrap_or(0), deadline })
    }
}

/// How many replicas have applied what was written, as far as is known now: the whole of a `WAIT` that must not block, such as one
/// inside `MULTI`. Where they are fewer than `wanted`, they are asked to acknowledge at once. `None`: the history that was written is
/// not recorded here any more.
pub(super) async fn count(local: &Rc<Local>, written: &Written, wanted: usize) -> Option<usize> {
    Some(acked_everywhere(&look(local, written, wanted).await?))
}

/// Waits as `wanted` says, and appends the reply. What else arrives from the client meanwhile is kept in `requests`.
pub(super) async fn execute(
    local: &Rc<Local>,
    node: &Node,
    stream: &mut Stream,
    requests: &mut RequestDecoder,
    client: &ClientSession,
    wanted: Wanted,
    out: &mut Vec<u8>,
) -> Waited {
    let acked = wait(local, &client.written, wanted.replicas);
    let ended = meanwhile::until(local, node, stream, requests, client, wanted.deadline, acked).await;
    let acked = match ended {
        Ok(acked) => acked,
        Err(Ended::Late | Ended::Unblocked(Unblocked::Timeout)) => count(local, &client.written, 0).await,
        Err(Ended::Unblocked(Unblocked::Error)) => {
            Reply::new(out, client.protocol).error(block::UNBLOCKED);
            return Waited::Answered;
        }
        Err(Ended::Gone) => return Waited::Gone,
    };
    let mut reply = Reply::new(out, client.protocol);
    match acked {
        Some(acked) => reply.count(acked),
        None => reply.error(ROLE_CHANGED),
    }
    Waited::Answered
}

/// Who has acknowledged what was written to one shard.
struct Part {
    shard: ShardId,
    /// What was written there lies below.
    next: Offset,
    acked: Vec<Acker>,
}

/// What a watcher tells: who has acknowledged, or that nothing more will be, because that history is recorded no more.
type News = Option<Vec<Acker>>;

async fn look(local: &Rc<Local>, written: &Written, wanted: usize) -> Option<Vec<Part>> {
    let (generation, shards) = written.parts(local.count());
    let mut parts = Vec::with_capacity(shards.len());
    for (shard, next) in shards {
        let look = move |local: &Rc<Local>| {
            let mut core = local.core();
            let acked = acked_here(&mut core, generation, next)?;
            if acked.len() < wanted
                && let Some(source) = source_of(&mut core, generation)
            {
                source.get_acks();
                drop(core);
                local.send_now();
            }
            Some(acked)
        };
        let acked = local.call(shard, look).await?;
        parts.push(Part { shard, next, acked });
    }
    Some(parts)
}

/// How many replicas have applied what was written, once they are as many as wanted. `None`: the history that was
/// written is not recorded here any more.
async fn wait(local: &Rc<Local>, written: &Written, wanted: usize) -> Option<usize> {
    let mut parts = look(local, written, wanted).await?;
    if acked_everywhere(&parts) >= wanted {
        return Some(acked_everywhere(&parts));
    }
    let (generation, _) = written.parts(local.count());
    let mut watchers = Vec::new();
    for (index, part) in parts.iter().enumerate().filter(|(_, part)| part.shard != local.id()) {
        let (shard, next, known) = (part.shard, part.next, part.acked.clone());
        watchers.push((index, local.call(shard, move |local| watch(local, generation, next, known)).await));
    }
    let mine = parts.iter().position(|part| part.shard == local.id());
    loop {
        let epoch = local.acked.epoch();
        if let Some(part) = mine.map(|index| &mut parts[index]) {
            part.acked = acked_here(&mut local.core(), generation, part.next)?;
        }
        let acked = acked_everywhere(&parts);
        if acked >= wanted || local.executor().is_shutting_down() {
            return Some(acked);
        }
        let elsewhere = poll_fn(|cx| {
            for (index, watcher) in &mut watchers {
                if watcher.poll_ready(cx).is_ready() {
                    let news = watcher.pop().flatten();
                    return Poll::Ready(news.map(|acked| parts[*index].acked = acked));
                }
            }
            Poll::Pending
        });
        let here = async {
            match mine {
                Some(_) => local.acked.past(epoch).or(local.executor().shutdown()).await,
                None => local.executor().shutdown().await,
            }
            Some(())
        };
        match elsewhere.or(here).await {
            Some(()) => {}
            None if local.executor().is_shutting_down() => return Some(acked),
            None => return None,
        }
    }
}

/// How many replicas have it on every shard: one process each, that has all of it.
fn acked_everywhere(parts: &[Part]) -> usize {
    let Some((first, others)) = parts.split_first() else { return 0 };
    first.acked.iter().filter(|id| others.iter().all(|part| part.acked.contains(*id))).count()
}

/// Tells, from this shard, who has acknowledged everything below `next`, whenever there is one more than `known`; until the asker
/// has enough, and drops its end.
fn watch(local: &Rc<Local>, generation: Option<Generation>, next: Offset, mut known: Vec<Acker>) -> Consumer<News> {
    let (mut teller, told) = ring(1);
    let here = Rc::clone(local);
    let task = async move {
        loop {
            let epoch = here.acked.epoch();
            let news = {
                let mut core = here.core();
                let stands_alone = matches!(core.role, Role::Standalone);
                match source_of(&mut core, generation) {
                    Some(source) if !source.slots().has_more_ackers(next, &known) => None,
                    Some(source) => Some(Some(source.slots().ackers(next).collect::<Vec<_>>())),
                    None if stands_alone => None,
                    None => Some(None),
                }
            };
            if let Some(news) = news {
                // What is said next holds what was said before: it may wait until that is heard.
                if teller.space().await.is_err() || teller.try_push(news.clone()).is_err() {
                    return;
                }
                match news {
                    Some(acked) => known = acked,
                    None => return,
                }
            }
            here.acked.past(epoch).or(teller.closed()).or(here.executor().shutdown()).await;
            if teller.is_closed() || here.executor().is_shutting_down() {
                return;
            }
        }
    };
    local.spawn(Queue::Clients, task).detach();
    told
}

/// Who has acknowledged everything below `next` of this shard: nobody where it has no replicas. `None`: that history is recorded no more.
fn acked_here(shard: &mut Shard, generation: Option<Generation>, next: Offset) -> Option<Vec<Acker>> {
    if matches!(shard.role, Role::Standalone) {
        return Some(Vec::new());
    }
    Some(source_of(shard, generation)?.slots().ackers(next).collect())
}

/// The shard's source, if it still records the history that was written.
fn source_of(shard: &mut Shard, generation: Option<Generation>) -> Option<&mut Source> {
    let (source, _) = shard.source_and_store()?;
    generation.is_none_or(|generation| generation == source.generation()).then_some(source)
}

const ON_A_REPLICA: &str = "ERR WAIT cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.";

/// What a client hears that waits on a primary which becomes a replica.
pub(super) const ROLE_CHANGED: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
