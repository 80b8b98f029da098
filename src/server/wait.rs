//! `WAIT`: until enough replicas have applied what was recorded before it, on every shard. Woken by acknowledgements, with no
//! timer in the path but the caller's own.

use std::collections::HashSet;
use std::rc::Rc;

use futures_lite::FutureExt;

use crate::handshake::ReplicaId;
use crate::id::{Moment, Offset};
use crate::resp::{Protocol, Reply};
use crate::runtime::clock::{now, sleep_until};
use crate::runtime::executor::Queue;
use crate::runtime::local::Local;
use crate::runtime::ring::{Consumer, ring};
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
    let wanted = usize::try_from(wanted).unwrap_or(0);
    // What this client wrote is recorded before here, on every shard.
    let heads = local.call_all(|local| local.core().source().map_or(Offset::ZERO, |source| source.next())).await;
    let mut least = wanted;
    loop {
        let acked = acked_everywhere(local, &heads, least, deadline).await;
        let late = deadline.is_some_and(|deadline| now() >= deadline);
        if acked >= wanted || late || local.executor().is_shutting_down() {
            return Reply::new(out, protocol).count(acked);
        }
        // Each shard has enough replicas, and not the same: one more is needed somewhere.
        least += 1;
    }
}

/// How many replicas have applied everything below `heads` on every shard, once each shard has `least` of them or it is late.
async fn acked_everywhere(local: &Rc<Local>, heads: &[Offset], least: usize, deadline: Option<Moment>) -> usize {
    let mut answers: Vec<Consumer<HashSet<ReplicaId>>> = Vec::with_capacity(heads.len());
    for (shard, head) in local.count().shards().zip(heads) {
        let head = *head;
        let (mut answer, answered) = ring(1);
        local
            .call(shard, move |local| {
                let here = Rc::clone(local);
                let task = async move {
                    // Who asked may have gone.
                    let _ = answer.try_push(acked_here(&here, head, least, deadline).await);
                };
                local.spawn(Queue::Clients, task).detach();
            })
            .await;
        answers.push(answered);
    }
    let mut common: Option<HashSet<ReplicaId>> = None;
    for mut answered in answers {
        let ids = match answered.ready().await {
            Ok(()) => answered.pop().unwrap_or_default(),
            Err(_) => HashSet::new(),
        };
        common = Some(match common {
            Some(common) => common.intersection(&ids).cloned().collect(),
            None => ids,
        });
    }
    common.map_or(0, |common| common.len())
}

/// The replicas that have applied everything below `head` on this shard, once they are `least` or it is late.
async fn acked_here(local: &Rc<Local>, head: Offset, least: usize, deadline: Option<Moment>) -> HashSet<ReplicaId> {
    let mut asked = false;
    loop {
        let epoch = local.acked.epoch();
        {
            let mut core = local.core();
            let Some((source, _)) = core.source_and_store() else { return HashSet::new() };
            let ids: HashSet<ReplicaId> = source.slots().acked_ids(head).cloned().collect();
            // A stream without a frame has nothing to acknowledge: who follows it has all of it.
            if ids.len() >= least || deadline.is_some_and(|deadline| now() >= deadline) {
                return ids;
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
            return HashSet::new();
        }
    }
}
