//! `WAIT`: until enough replicas have applied what was recorded before it, on every shard. Woken by acknowledgements, with no
//! timer in the path but the caller's own.

use std::collections::HashSet;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use futures_lite::FutureExt;

use crate::handshake::ReplicaId;
use crate::id::{Moment, Offset, ShardId};
use crate::resp::{Protocol, Reply};
use crate::runtime::clock::{now, sleep_until};
use crate::runtime::executor::Queue;
use crate::runtime::local::Local;
use crate::runtime::ring::{Consumer, ring};
use crate::source::Source;
use crate::store::command::number;
use crate::wire::Argv;

/// Executes `WAIT replicas milliseconds`.
pub(super) async fn execute(local: &Rc<Local>, argv: Argv<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let mut reply = Reply::new(out, protocol);
    let numbers = (number::integer(argv.arg(1)), number::integer(argv.arg(2)));
    let (wanted, deadline) = match numbers {
        (None, _) | (_, None) => return reply.error("ERR value is not an integer or out of range"),
        (_, Some(timeout)) if timeout < 0 => return reply.error("ERR timeout is negative"),
        (Some(wanted), Some(0)) => (wanted, None),
        (Some(wanted), Some(timeout)) => (wanted, Some(now().plus_ms(timeout as u64))),
    };
    if local.core().following().is_some() {
        return reply.error("ERR WAIT cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.");
    }
    let acked = wait(local, usize::try_from(wanted).unwrap_or(0), deadline).await;
    Reply::new(out, protocol).count(acked);
}

/// One shard, as far as a `WAIT` has looked at it.
struct Part {
    /// Where it stood when the client asked: what that client wrote is recorded before.
    head: Offset,
    /// Who has applied everything up to there.
    acked: HashSet<ReplicaId>,
    /// Who has, as soon as there is one more; nothing, where the shard is no primary's any more.
    news: Option<Consumer<Option<HashSet<ReplicaId>>>>,
}

/// How many replicas have applied what was recorded before now on every shard, once they are `wanted` or it is late.
async fn wait(local: &Rc<Local>, wanted: usize, deadline: Option<Moment>) -> usize {
    let look = |local: &Rc<Local>| {
        let core = local.core();
        let source = core.source()?;
        Some(Part { head: source.next(), acked: acked_ids(source, source.next()), news: None })
    };
    let Some(mut parts) = local.call_all(look).await.into_iter().collect::<Option<Vec<Part>>>() else { return 0 };
    loop {
        let acked = acked_everywhere(&parts);
        let late = deadline.is_some_and(|deadline| now() >= deadline);
        if acked >= wanted || late || local.executor().is_shutting_down() {
            return acked;
        }
        for (shard, part) in local.count().shards().zip(&mut parts) {
            if part.news.is_none() {
                part.news = Some(ask(local, shard, part.head, part.acked.clone(), deadline).await);
            }
        }
        let news = poll_fn(|cx| {
            for part in &mut parts {
                if let Some(news) = &mut part.news
                    && news.poll_ready(cx).is_ready()
                {
                    let ids = news.pop().flatten();
                    part.news = None;
                    return Poll::Ready(ids.map(|ids| part.acked.extend(ids)));
                }
            }
            Poll::Pending
        });
        if news.await.is_none() {
            return acked;
        }
    }
}

/// How many replicas have it on every shard: each must have all of it by itself.
fn acked_everywhere(parts: &[Part]) -> usize {
    let Some((first, others)) = parts.split_first() else { return 0 };
    first.acked.iter().filter(|id| others.iter().all(|part| part.acked.contains(*id))).count()
}

/// Asks a shard for the replicas that have applied everything below `head`, once there is one that is not `known`, or it is late.
async fn ask(
    local: &Rc<Local>,
    shard: ShardId,
    head: Offset,
    known: HashSet<ReplicaId>,
    deadline: Option<Moment>,
) -> Consumer<Option<HashSet<ReplicaId>>> {
    let (mut answer, answered) = ring(1);
    let start = move |local: &Rc<Local>| {
        let here = Rc::clone(local);
        let task = async move {
            let acked = async { Some(acked_here(&here, head, &known, deadline).await) };
            // Whoever asked may have its answer from elsewhere.
            let gone = async {
                answer.closed().await;
                None
            };
            if let Some(acked) = acked.or(gone).await {
                let _ = answer.try_push(acked);
            }
        };
        local.spawn(Queue::Clients, task).detach();
    };
    local.call(shard, start).await;
    answered
}

async fn acked_here(
    local: &Rc<Local>,
    head: Offset,
    known: &HashSet<ReplicaId>,
    deadline: Option<Moment>,
) -> Option<HashSet<ReplicaId>> {
    let mut asked = false;
    loop {
        let epoch = local.acked.epoch();
        {
            let mut core = local.core();
            let (source, _) = core.source_and_store()?;
            let ids = acked_ids(source, head);
            if !ids.is_subset(known) || deadline.is_some_and(|deadline| now() >= deadline) {
                return Some(ids);
            }
            if !asked {
                source.get_acks();
            }
        }
        if !asked {
            asked = true;
            local.to_send.raise();
        }
        let acked = local.acked.past(epoch);
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let ending = local.executor().shutdown();
        acked.or(late).or(ending).await;
        if local.executor().is_shutting_down() {
            return None;
        }
    }
}

/// The replicas that have applied everything below `head`. A stream without a frame has nothing to acknowledge: who follows it
/// has all of it.
fn acked_ids(source: &Source, head: Offset) -> HashSet<ReplicaId> {
    source.slots().acked_ids(head).cloned().collect()
}
