//! The write gate, `min_replicas_to_write`: clients may write only while enough replicas are whole and were heard of lately, on every
//! shard's stream. Off by default, and then nobody asks it anything.
//!
//! ```text
//! each tick, every shard: who counts on your stream, and until when? ─▶ Gate ─▶ open until …
//!                                                                               ▲ asked once for each batch of a client
//! ```
//!
//! What is published is the moment at which it closes by itself, so that it needs no timer to close in time: a node that was stopped
//! and goes on finds it closed.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::node::Node;
use crate::id::Moment;
use crate::limits;
use crate::runtime::clock::{now, sleep};
use crate::runtime::local::Local;
use crate::slot::Acker;

/// The write gate of a node; shared by its shards, and kept by the first.
#[derive(Debug)]
pub(super) struct Gate {
    /// `min_replicas_to_write`; 0: it is always open.
    wanted: AtomicUsize,
    /// Microseconds of the node's clock.
    open_until: AtomicU64,
    /// Replicas that counted on all shards at the last tick.
    good: AtomicUsize,
}

impl Gate {
    /// A gate that opens for `wanted` replicas, of a node that has heard of none.
    pub fn new(wanted: usize) -> Gate {
        Gate { wanted: AtomicUsize::new(wanted), open_until: AtomicU64::new(0), good: AtomicUsize::new(0) }
    }

    /// Whether it ever closes.
    pub fn is_on(&self) -> bool {
        self.wanted() > 0
    }

    fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Relaxed)
    }

    /// From now on it opens for `wanted` replicas.
    pub fn set_wanted(&self, wanted: usize) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Whether clients may write now.
    pub fn is_open(&self, now: Moment) -> bool {
        !self.is_on() || now.micros() < self.open_until.load(Ordering::Relaxed)
    }

    /// Replicas that count, as of the last tick.
    pub fn good(&self) -> usize {
        self.good.load(Ordering::Relaxed)
    }

    /// Decides anew: by shard, who counts on its stream, each with the moment until which it does.
    fn decide(&self, shards: &[Vec<(Acker, Moment)>], now: Moment) {
        let mut everywhere = on_every_shard(shards);
        everywhere.sort_unstable_by(|a, b| b.cmp(a));
        // It is open for as long as the last one that is wanted counts.
        let until = self.wanted().checked_sub(1).and_then(|last| everywhere.get(last));
        self.open_until.store(until.map_or(0, |until| until.micros()), Ordering::Relaxed);
        self.good.store(everywhere.iter().filter(|until| now < **until).count(), Ordering::Relaxed);
    }
}

/// The task that keeps the gate, on one shard of the node. Never ends.
pub(super) async fn keep(local: Rc<Local>, node: Rc<Node>) {
    let gate = &node.shared.gate;
    loop {
        if !gate.is_on() {
            sleep(Duration::from_millis(limits::GATE_LOOK_MS)).await;
            continue;
        }
        let lag = node.settings.borrow().min_replicas_max_lag_ms;
        let heard = move |local: &Rc<Local>| -> Vec<(Acker, Moment)> {
            let core = local.core();
            let heard = core.source().map(|source| source.slots().heard());
            heard.into_iter().flatten().map(|(acker, at)| (acker, at.plus_ms(lag))).collect()
        };
        gate.decide(&local.call_all(heard).await, now());
        sleep(Duration::from_millis(limits::TICK_MS)).await;
    }
}

/// Until when each replica that is on every shard counts on all of them.
fn on_every_shard(all: &[Vec<(Acker, Moment)>]) -> Vec<Moment> {
    let Some((first, others)) = all.split_first() else { return Vec::new() };
    let there =
        |acker: &Acker, shard: &[(Acker, Moment)]| shard.iter().find(|(a, _)| a == acker).map(|(_, until)| *until);
    let until = |(acker, until): &(Acker, Moment)| {
        others.iter().try_fold(*until, |least, shard| Some(least.min(there(acker, shard)?)))
    };
    first.iter().filter_map(until).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{Claim, Form, Hello, ReplicaId};
    use crate::id::Offset;
    use crate::slot::SlotTable;

    fn acker(id: &str) -> Acker {
        let mut table = SlotTable::new(0);
        let hello = Hello { id: ReplicaId::new(id).unwrap(), claim: Claim::Empty, form: Form::Generation };
        let link = table.attach(&hello, Offset::ZERO, Moment::ZERO).unwrap().link;
        table.acked(link, Offset::ZERO, Moment::ZERO);
        table.synced(link, Offset::ZERO);
        table.ackers(Offset::ZERO).next().unwrap()
    }

    fn ms(ms: u64) -> Moment {
        Moment::ZERO.plus_ms(ms)
    }

    #[test]
    fn it_is_open_for_as_long_as_enough_replicas_count_on_every_shard() {
        let gate = Gate::new(1);
        assert!(!gate.is_open(ms(0)));
        let first = vec![(acker("a"), ms(90)), (acker("b"), ms(70))];
        gate.decide(&[first.clone(), Vec::new()], ms(0));
        assert!(!gate.is_open(ms(0)), "nobody is there on the other shard");
        gate.decide(&[first.clone(), vec![(acker("b"), ms(80)), (acker("c"), ms(99))]], ms(0));
        assert_eq!(gate.good(), 1);
        assert!(gate.is_open(ms(69)) && !gate.is_open(ms(70)), "b counts on both, until 70");
        gate.decide(&[first.clone(), vec![(acker("b"), ms(80)), (acker("a"), ms(60))]], ms(65));
        assert!(gate.is_open(ms(69)) && !gate.is_open(ms(70)), "the one that counts longest decides");
        assert_eq!(gate.good(), 1);

        let gate = Gate::new(2);
        gate.decide(&[vec![(acker("a"), ms(90)), (acker("b"), ms(70)), (acker("c"), ms(80))]], ms(0));
        assert!(gate.is_open(ms(79)) && !gate.is_open(ms(80)), "two are wanted");
        assert!(Gate::new(0).is_open(ms(1)));
    }
}
