//! A primary that lost its data erases nobody: every order of a few things that can happen to it and to its replica.

use kevy_replicate::id::{Digest, Generation};
use kevy_replicate::store::hash;

use super::{Noticed, World};
use crate::plan::Plan;
use crate::plant::Plant;

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// A client writes.
    Write,
    /// The primary's process ends, and begins anew without data.
    RestartPrimary,
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

const ACTS: [Act; 7] =
    [Act::Write, Act::RestartPrimary, Act::RestartReplica, Act::Cut, Act::Moment, Act::Rest, Act::Consent];

/// How many things happen in a row, after nothing or after a first write has arrived; `SIM_ORDERS` says otherwise.
const LENGTH: u32 = 4;

/// What is written.
const KEYS: [&str; 4] = ["key:0", "key:1", "key:2", "key:3"];

struct Pair {
    world: World,
    /// Whether the replica's process was told to follow an empty primary.
    consented: bool,
}

impl Pair {
    fn new(shards: (u16, u16)) -> Pair {
        let plan =
            Plan { link_bytes: 100, tags: 1, keys: 2, delay_max: 0, turns: 10, ..Plan::calm(shards.0, &[shards.1]) };
        Pair { world: World::new(plan, Plant::None, false), consented: false }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Write => {
                let shards = self.world.primary.shards.len();
                let key = KEYS[self.world.rng.usize(..KEYS.len())];
                self.world.set(key, "precious");
                (0..shards).for_each(|shard| self.world.end_turn(shard));
            }
            Act::RestartPrimary => self.world.restart_primary(),
            Act::RestartReplica => {
                self.world.restart_replica(0);
                self.consented = false;
            }
            Act::Cut => (0..self.world.primary.shards.len()).for_each(|s| self.world.end(0, s, Noticed::Both)),
            Act::Moment => self.ticks(2),
            Act::Rest => self.rest(),
            Act::Consent => self.consented |= self.world.consent(0),
        }
    }

    /// Time passes; what the replica holds of one history never gives way to another without a word.
    fn ticks(&mut self, ticks: u64) {
        for _ in 0..ticks {
            let before = self.held();
            self.world.tick();
            for ((generation, keys), (later, _)) in before.into_iter().zip(self.held()) {
                let gives_way = generation.is_some() && later != generation && keys > 0;
                assert!(!gives_way || self.consented, "{keys} keys of {generation:?} gave way to {later:?}");
            }
        }
    }

    /// Of each stream at each owner: the history that it follows, and how many keys it holds of it.
    fn held(&self) -> Vec<(Option<Generation>, usize)> {
        let node = &self.world.replicas[0];
        let held = |stream, owner| {
            let slots = node.range(stream, owner);
            let places = KEYS.map(|key| (key.as_bytes(), hash::locate(key.as_bytes())));
            let here =
                places.iter().filter(|(key, at)| slots.contains(at.slot) && node.store(owner).get(*at, key).is_some());
            (node.applied(stream, owner).map(|(generation, _)| generation), here.count())
        };
        let streams = 0..self.world.primary.shards.len();
        streams.flat_map(|stream| (0..node.owners()).map(move |owner| held(stream, owner))).collect()
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
        let shards = self.world.primary.shards.iter().enumerate();
        let refused =
            shards.filter(|(stream, _)| !self.world.replicas[0].follows(*stream, self.world.primary.generation));
        let slots = refused.flat_map(|(_, shard)| shard.source().range().iter());
        slots.map(|slot| self.world.replicas[0].digest(slot)).collect()
    }

    /// How it ends: equal, or refused with the data as it was, and equal once the operator says so. `true` if it was refused.
    fn end(mut self) -> bool {
        self.rest();
        let refused = self.world.replicas[0].is_guarded();
        if refused {
            let kept = self.kept();
            assert!(self.held().iter().any(|(_, keys)| *keys > 0), "nothing is there to be kept");
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
