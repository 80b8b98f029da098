//! A shard of a replica: the puller of its stream, and the clock that reads when messages arrive.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use hdrhistogram::Histogram;

use super::stage::{Act, Stage};
use crate::handshake::ReplicaId;
use crate::id::{ShardCount, ShardId};
use crate::replica::{Dialled, Session, SessionConfig};
use crate::runtime::executor::{self, Queue};
use crate::runtime::local::{Answer, Local, Request};
use crate::runtime::mesh::Mesh;
use crate::runtime::puller::{Puller, Stop};
use crate::shard::following::Policy;
use crate::shard::{Following, Role, Shard};
use crate::store::Message;

/// What a shard begins with.
pub(super) struct Seed {
    pub shard: ShardId,
    pub shards: ShardCount,
    pub mesh: Mesh<Request, Answer>,
    pub id: ReplicaId,
    /// Random, the same on all shards of the replica.
    pub run: u64,
    /// Where the primary's shard of the same number streams.
    pub port: u16,
    /// Its number among the threads of the scene.
    pub thread: usize,
    pub stage: Arc<Stage>,
    /// Where its chance begins.
    pub random: u64,
}

/// From when a message was recorded until it was applied here, in nanoseconds.
pub(super) struct Lags {
    pub flat: Histogram<u64>,
    pub paced: Histogram<u64>,
}

impl Default for Lags {
    fn default() -> Lags {
        let histogram = || Histogram::new_with_bounds(1, LAG_NANOS_MAX, 3).expect("the bounds are a range");
        Lags { flat: histogram(), paced: histogram() }
    }
}

impl Lags {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Lags) {
        // Histograms of the same bounds can be added.
        let _ = self.flat.add(&other.flat);
        let _ = self.paced.add(&other.paced);
    }

    fn note(&mut self, message: &Message, stage: &Stage) {
        let Some((act, recorded)) = message.text.split_first() else { return };
        let Ok(recorded) = recorded.try_into().map(u64::from_le_bytes) else { return };
        let lag = (stage.epoch.elapsed().as_nanos() as u64).saturating_sub(recorded);
        let into = if *act == Act::Flat as u8 { &mut self.flat } else { &mut self.paced };
        into.saturating_record(lag);
    }
}

/// The life of one shard; returns the lags that it saw.
pub(super) async fn main(executor: executor::Shard, seed: Seed) -> Lags {
    let Seed { shard, shards, mesh, id, run, port, thread, stage, random } = seed;
    stage.enter(thread);
    let policy = Policy { read_only: true, serve_stale: false };
    let following = Following::new(shards.slots_of(shard), shards, policy);
    let core = Shard::new(shard, shards, Role::Replica(Box::new(following)), random);
    let local = Local::new(executor.clone(), core, mesh);
    let lags = Rc::new(RefCell::new(Lags::default()));
    local.on_messages({
        let lags = Rc::clone(&lags);
        move |messages| messages.iter().for_each(|message| lags.borrow_mut().note(message, &stage))
    });
    local.spawn(Queue::Clients, Rc::clone(&local).serve_mesh()).detach();
    let session = Session::new(SessionConfig {
        id,
        run,
        stream: Some(shard),
        items: true,
        observer: false,
        client: None,
        repl_base: None,
        accept_empty_primary: false,
        link_timeout_ms: 60_000,
    });
    let stop = Rc::new(Stop::default());
    let at = ("127.0.0.1".to_owned(), port);
    let puller =
        Puller::new(Rc::clone(&local), shard, shards, session, at, Vec::new(), Dialled::NewAddress, Rc::clone(&stop));
    let pulling = local.spawn(Queue::Replication, puller.run());
    executor.shutdown().await;
    stop.stop();
    pulling.await;
    lags.take()
}

/// A minute.
const LAG_NANOS_MAX: u64 = 60_000_000_000;
