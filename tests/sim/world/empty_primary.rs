//! A primary that lost its data erases nobody: every order of a few things that can happen to it and to its replica.

use std::collections::HashMap;

use kevy_replicate::id::{Digest, Generation, ShardCount};
use kevy_replicate::store::hash;

use super::World;
use crate::plan::Plan;
use crate::plant::Plant;

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// A client writes.
    Write,
    /// The primary's process ends, and begins anew without data.
    RestartPrimary,
    /// … and with one shard more, or one less.
    ReshapePrimary,
    /// The replica's process ends, and begins anew without data.
    RestartReplica,
    /// The link breaks, and comes again in a moment.
    Cut,
    /// A moment passes: less than a sync takes.
    Moment,
    /// All is left alone until nothing moves.
    Rest,
    /// The operator says that the empty primary is to be followed.
    Consent,
}

const ACTS: [Act; 8] = [
    Act::Write,
    Act::RestartPrimary,
    Act::ReshapePrimary,
    Act::RestartReplica,
    Act::Cut,
    Act::Moment,
    Act::Rest,
    Act::Consent,
];

/// How many things happen in a row, after nothing or after a first write has arrived; `SIM_ORDERS` says otherwise.
const LENGTH: u32 = 4;

/// What is written.
const KEYS: [&str; 4] = ["key:0", "key:1", "key:2", "key:3"];

struct Pair {
    world: World,
    /// Whether the replica's process was told to follow an empty primary.
    consented: bool,
    /// The shards that the primary had first.
    first: u16,
    /// Of each key that the replica holds: the history that it came of.
    came_of: HashMap<&'static str, Generation>,
}

impl Pair {
    fn new(shards: (u16, u16)) -> Pair {
        let plan = Plan {
            link_bytes: 100,
            tags: 1,
            reshapes: true,
            keys: 2,
            delay_max: 0,
            turns: 10,
            ..Plan::calm(shards.0, &[shards.1])
        };
        Pair { world: World::new(plan, Plant::None, false), consented: false, first: shards.0, came_of: HashMap::new() }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Write => {
                let shards = self.world.primary.shards.len();
                let key = KEYS[self.world.rng.usize(..KEYS.len())];
                self.world.set(key, "precious");
                (0..shards).for_each(|shard| self.world.end_turn(shard));
            }
            Act::RestartPrimary => self.world.restart_primary(self.world.primary.shard_count()),
            Act::ReshapePrimary => {
                let other =
                    if self.world.primary.shard_count().get() == self.first { self.first + 1 } else { self.first };
                self.world.restart_primary(ShardCount::new(other).expect("a count"));
            }
            Act::RestartReplica => {
                self.world.restart_replica(0, self.world.replicas[0].shards());
                self.consented = false;
                self.came_of.clear();
            }
            Act::Cut => self.world.end_all(0),
            Act::Moment => self.ticks(2),
            Act::Rest => self.rest(),
            Act::Consent => self.consented |= self.world.consent(0),
        }
    }

    /// Time passes; what the replica holds of one history never gives way to another without a word.
    fn ticks(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.world.tick();
            for key in KEYS {
                let (follows, is_here) = self.stands(key);
                let came_of = self.came_of.get(key).copied();
                // Until a sync begins nothing of the new history is known of the slot.
                let gives_way = follows.map_or(!is_here, |follows| came_of.is_some_and(|came_of| came_of != follows));
                assert!(
                    came_of.is_none() || !gives_way || self.consented,
                    "{key} of {came_of:?} gave way to {follows:?}"
                );
                match follows {
                    Some(follows) if is_here => _ = self.came_of.insert(key, follows),
                    Some(_) => _ = self.came_of.remove(key),
                    None => {}
                }
            }
        }
    }

    /// Which history the slot of a key follows at the replica, if a sync of it has begun, and whether the key is there.
    fn stands(&self, key: &str) -> (Option<Generation>, bool) {
        let node = &self.world.replicas[0];
        let at = hash::locate(key.as_bytes());
        let (stream, owner) = (node.upstream().owner(at.slot).index(), node.owner_of(at.slot));
        let follows = node.applied(stream, owner).map(|(generation, _)| generation);
        (follows, node.store(owner).get(at, key.as_bytes()).is_some())
    }

    /// Until all is equal, or the replica keeps to itself.
    fn rest(&mut self) {
        let begun = self.world.now;
        while !self.world.is_at_rest() {
            self.ticks(1);
            let passed = self.world.now - begun;
            if passed > 100 && self.world.replicas[0].is_guarded() {
                return;
            }
            assert!(passed < 1_000, "neither equal nor refused: {:?}", self.world);
        }
    }

    /// What is in the slots of the streams that do not follow the primary as it is.
    fn kept(&self) -> Vec<Digest> {
        let node = &self.world.replicas[0];
        let streams = 0..usize::from(node.upstream().get());
        let refused = streams.filter(|stream| !node.follows(*stream, self.world.primary.generation));
        refused.flat_map(|stream| node.slots_of(stream).iter()).map(|slot| node.digest(slot)).collect()
    }

    /// How it ends: equal, or refused with the data as it was, and equal once the operator says so. `true` if it was refused.
    fn end(mut self) -> bool {
        self.rest();
        let refused = self.world.replicas[0].is_guarded();
        if refused {
            let kept = self.kept();
            assert!(KEYS.iter().any(|key| self.stands(key).1), "nothing is there to be kept");
            self.act(Act::Write);
            self.ticks(50);
            assert!(self.kept() == kept, "what it keeps is as it was");
            self.act(Act::Consent);
            assert!(self.consented);
            self.rest();
        }
        self.world.settle();
        refused
    }
}

#[test]
fn an_empty_primary_erases_nobody_in_any_order_of_events() {
    crate::fix_hash();
    let length = crate::number("SIM_ORDERS").map_or(LENGTH, |length| length as u32);
    let mut refused = 0;
    for shards in [(1, 1), (2, 3)] {
        for first in [&[][..], &[Act::Write, Act::Rest]] {
            for number in 0..ACTS.len().pow(length) {
                let nth = |place| ACTS[number / ACTS.len().pow(place) % ACTS.len()];
                let acts: Vec<Act> = first.iter().copied().chain((0..length).map(nth)).collect();
                // Twice the same is once, save for writes and moments.
                if acts.windows(2).any(|two| two[0] == two[1] && !matches!(two[0], Act::Write | Act::Moment)) {
                    continue;
                }
                let played = std::panic::catch_unwind(|| {
                    let mut pair = Pair::new(shards);
                    acts.iter().for_each(|act| pair.act(*act));
                    pair.end()
                });
                refused += u64::from(played.unwrap_or_else(|_| panic!("{shards:?} shards: {acts:?}")));
            }
        }
    }
    println!("{refused} orders ended in a refusal");
    assert!(refused > 500, "only {refused} orders ended in a refusal");
}
