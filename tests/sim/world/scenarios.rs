//! Scenarios by name: what operators fear, played once each on purpose, with the numbers that are promised.

use std::sync::OnceLock;

use kevy_replicate::id::{HASH_SLOTS, HashSlot, ShardCount, ShardId, SlotRange, UnixMs};
use kevy_replicate::store::hash;

use super::{Connection, World};
use crate::events::Event;
use crate::plan::Plan;
use crate::plant::Plant;
use crate::workload::args;

/// Counts of shards of a primary and of its replica.
const COUNTS: [(u16, u16); 6] = [(1, 1), (2, 2), (1, 4), (4, 1), (3, 2), (2, 8)];

impl World {
    fn calm(primary_shards: u16, replica_shards: &[u16], change: impl FnOnce(&mut Plan)) -> World {
        crate::fix_hash();
        let mut plan = Plan::calm(primary_shards, replica_shards);
        change(&mut plan);
        World::new(plan, Plant::None, false)
    }

    /// A key of `bytes` in each of the hash slots.
    fn fill(&mut self, bytes: usize) {
        let value = "v".repeat(bytes);
        for key in one_key_a_slot() {
            self.set(key, &value);
        }
        (0..self.primary.shards.len()).for_each(|shard| self.end_turn(shard));
    }

    pub(super) fn set(&mut self, key: &str, value: &str) {
        let shard = self.primary.shard_count().owner(hash::slot_of(key.as_bytes())).index();
        self.execute(shard, args(&["SET", key, value]));
    }

    /// Time passes, with so many writes a tick, until `condition` holds.
    fn until(&mut self, writes: usize, mut condition: impl FnMut(&World) -> bool) {
        let begun = self.now;
        while !condition(self) {
            (0..writes).for_each(|_| self.write());
            self.tick();
            assert!(self.now < begun + 20_000, "it never came so far: {self:?}");
        }
    }

    fn missing(&self, replica: usize) -> usize {
        (0..self.primary.shards.len()).map(|stream| self.replicas[replica].missing(stream)).sum()
    }

    fn slots_dumped(&self) -> u64 {
        self.primary.shards.iter().map(|shard| shard.source().slots_dumped()).sum()
    }

    /// Until so many replicas have begun to follow the primary anew: the syncs and the dumped slots of before, in which they learned
    /// of its shards.
    fn until_followed_anew(&mut self, replicas: u64) -> (Vec<u64>, u64) {
        self.until(0, |world| world.events.get(Event::FollowedAnew) == replicas);
        (self.syncs(), self.slots_dumped())
    }

    /// Syncs so far, by stream.
    fn syncs(&self) -> Vec<u64> {
        self.primary.shards.iter().map(|shard| shard.source().counters().sync_full.iter().sum()).collect()
    }

    fn is_cut_off(&self, replica: usize) -> bool {
        self.links[replica].iter().all(|link| matches!(link, Connection::Down { .. }))
    }
}

fn one_key_a_slot() -> &'static [String] {
    static KEYS: OnceLock<Vec<String>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut keys = vec![None; HASH_SLOTS];
        let mut left = HASH_SLOTS;
        for number in 0.. {
            let key = format!("key:{number}");
            let place = &mut keys[hash::slot_of(key.as_bytes()).index()];
            if place.is_none() {
                *place = Some(key);
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        keys.into_iter().flatten().collect()
    })
}

#[test]
fn a_replica_attaches_under_load_whatever_the_numbers_of_shards() {
    for (primary, replica) in COUNTS {
        let mut world = World::calm(primary, &[replica], |_| {});
        world.fill(60);
        (0..500).for_each(|_| world.write());
        world.until(3, |world| world.missing(0) == 0);
        (0..100).for_each(|_| world.until(3, |_| true));
        world.settle();
        assert_eq!(world.syncs(), vec![1; usize::from(primary)]);
    }
}

#[test]
fn eight_that_attach_at_once_share_one_walk() {
    let mut world = World::calm(1, &[1, 2, 1, 3, 1, 2, 1, 4], |plan| plan.delay_max = 5);
    world.fill(300);
    world.until(1, |world| (0..8).all(|replica| world.missing(replica) == 0));
    let dumped = world.slots_dumped();
    assert!(dumped * 4 <= 5 * HASH_SLOTS as u64, "{dumped} slots were dumped for eight");
    world.settle();
    assert_eq!(world.slots_dumped(), dumped);
}

#[test]
fn seven_end_beside_one_that_is_stopped() {
    let ticks = |stopped: Option<usize>| {
        let mut world = World::calm(1, &[1; 8], |_| {});
        world.fill(300);
        world.until(1, |world| world.missing(0) < HASH_SLOTS * 3 / 4);
        world.stopped = stopped;
        let others = |world: &World| (0..7).all(|replica| world.missing(replica) == 0);
        world.until(1, others);
        let ended = world.now;
        let dumped = world.slots_dumped();
        assert!(dumped * 4 <= 5 * HASH_SLOTS as u64, "{dumped} slots were dumped");
        // What waits for it is bounded at every step; it goes on as if nothing had been.
        world.settle();
        world.stopped = None;
        world.settle();
        ended
    };
    let (all_run, one_stands) = (ticks(None), ticks(Some(7)));
    assert!(one_stands * 10 <= all_run * 12, "{all_run} ticks if all run, {one_stands} if one stands");
}

#[test]
fn a_sync_cut_at_half_goes_on_with_the_other_half() {
    for (primary, replica) in COUNTS {
        let mut world = World::calm(primary, &[replica], |_| {});
        world.fill(300);
        world.until(2, |world| world.missing(0) <= HASH_SLOTS / 2);
        assert!(world.missing(0) > 0, "{primary} to {replica}: it was cut too late");
        let before = world.slots_dumped();
        world.end_all(0);
        world.settle();
        let after = world.slots_dumped() - before;
        assert!(after <= HASH_SLOTS as u64 / 2, "{primary} to {replica}: {after} slots dumped after the cut");
        assert_eq!(world.syncs(), vec![1; usize::from(primary)]);
    }
}

#[test]
fn a_sync_cut_again_and_again_ends_and_dumps_little_twice() {
    let mut world = World::calm(2, &[3], |plan| plan.ring_batches = 1);
    world.fill(300);
    let mut left = HASH_SLOTS;
    while left > 0 {
        left = left.saturating_sub(HASH_SLOTS / 20);
        world.until(2, |world| world.missing(0) <= left);
        world.end_all(0);
    }
    world.settle();
    assert_eq!(world.syncs(), [1, 1]);
    let dumped = world.slots_dumped();
    // A cut loses what was on its way: a packed item or two of each stream, and what the link holds.
    assert!(dumped <= 2 * HASH_SLOTS as u64, "{dumped} slots were dumped over twenty cuts");
}

#[test]
fn a_cut_in_the_live_stream_sends_only_what_is_missing() {
    for (primary, replica) in COUNTS {
        let mut world = World::calm(primary, &[replica], |_| {});
        world.fill(10);
        world.settle();
        let (dumped, syncs) = (world.slots_dumped(), world.syncs());
        world.frames[0].fill(0);
        world.end_all(0);
        for n in 0..1_000 {
            world.set(&format!("key:{n}"), "later");
        }
        assert!(world.is_cut_off(0));
        (0..world.open_turns.len()).for_each(|shard| world.end_turn(shard));
        world.settle();
        assert_eq!(world.frames[0].iter().sum::<u64>(), 1_000, "every frame once");
        assert_eq!((world.slots_dumped(), world.syncs()), (dumped, syncs));
    }
}

#[test]
fn cuts_in_the_live_stream_while_rings_drain_lose_and_repeat_nothing() {
    for (primary, replica) in [(2, 3), (3, 2), (1, 4), (4, 1)] {
        let mut world = World::calm(primary, &[replica], |plan| {
            (plan.ring_batches, plan.turns, plan.link_bytes, plan.read_bytes) = (1, 2, 2_000, 1_000);
        });
        (0..200).for_each(|_| world.write());
        world.settle();
        let syncs = world.syncs();
        let mut with_rings_full = 0;
        for _ in 0..100 {
            for _ in 0..10 {
                (0..4).for_each(|_| world.write());
                world.tick();
            }
            with_rings_full += (0..usize::from(primary)).filter(|s| !world.replicas[0].rings_are_empty(*s)).count();
            world.end_all(0);
        }
        assert!(with_rings_full > 20, "rings were to be full at cuts, and were {with_rings_full} times");
        world.settle();
        assert_eq!(world.syncs(), syncs, "the window held all along");
    }
}

#[test]
fn a_stream_that_falls_out_of_the_window_syncs_alone() {
    let mut world = World::calm(3, &[2], |plan| plan.window_bytes = 64 << 10);
    world.settle();
    assert_eq!(world.syncs(), [1, 1, 1]);
    let dumped = world.slots_dumped();
    world.end_all(0);
    let of_shard = |key: &&String, shard: u16| World::owner_of_three(key) == ShardId::new(shard);
    let keys = one_key_a_slot();
    for key in keys.iter().filter(|key| of_shard(key, 1)) {
        world.set(key, &"v".repeat(100));
    }
    for shard in [0, 2] {
        let key = keys.iter().find(|key| of_shard(key, shard)).expect("a key");
        world.set(key, "a few");
    }
    (0..3).for_each(|shard| world.end_turn(shard));
    world.settle();
    assert_eq!(world.syncs(), [1, 2, 1]);
    let anew = world.slots_dumped() - dumped;
    assert!(anew <= (HASH_SLOTS as u64).div_ceil(3), "{anew} slots dumped for one stream of three");
}

impl World {
    fn owner_of_three(key: &str) -> ShardId {
        ShardCount::new(3).expect("a count").owner(hash::slot_of(key.as_bytes()))
    }
}

#[test]
fn a_window_of_one_frame_resumes_over_that_frame_and_syncs_over_two() {
    for (writes, syncs) in [(0, 1), (1, 1), (2, 2)] {
        let mut world = World::calm(1, &[2], |plan| plan.window_bytes = 1);
        world.settle();
        world.end_all(0);
        for n in 0..writes {
            world.set(&format!("key:{n}"), "value");
            world.end_turn(0);
        }
        world.settle();
        assert_eq!(world.syncs(), [syncs], "after {writes} writes");
    }
}

#[test]
fn a_record_larger_than_the_window_crosses() {
    let mut world = World::calm(2, &[3], |plan| plan.window_bytes = 4 << 10);
    world.settle();
    world.set("large", &"x".repeat(1 << 20));
    (0..2).for_each(|shard| world.end_turn(shard));
    world.settle();
    world.end_all(0);
    world.set("large", &"y".repeat(1 << 20));
    (0..2).for_each(|shard| world.end_turn(shard));
    world.settle();
    assert_eq!(world.syncs(), [1, 1], "the newest run stays in the window, however large");
}

#[test]
fn flushall_in_the_middle_of_a_sync_leaves_only_later_keys() {
    for (primary, replica) in COUNTS {
        let mut world = World::calm(primary, &[replica], |_| {});
        world.fill(300);
        world.until(2, |world| world.missing(0) <= HASH_SLOTS / 2);
        assert!(world.missing(0) > 0, "{primary} to {replica}: too late");
        for shard in 0..usize::from(primary) {
            world.execute(shard, args(&["FLUSHALL"]));
        }
        for n in 0..1_000 {
            world.set(&format!("after:{n}"), "value");
        }
        (0..usize::from(primary)).for_each(|shard| world.end_turn(shard));
        world.settle();
        let kept: usize = (0..usize::from(replica)).map(|owner| world.replicas[0].store(owner).len()).sum();
        assert_eq!(kept, 1_000);
    }
}

/// Counts of shards before and after a restart.
const RESHAPES: [(u16, u16); 6] = [(1, 2), (2, 1), (2, 3), (3, 2), (1, 4), (4, 1)];

fn count(shards: u16) -> ShardCount {
    ShardCount::new(shards).expect("a count")
}

#[test]
fn a_replica_that_comes_back_with_other_shards_syncs_once_and_is_equal() {
    for primary in [1, 2, 3] {
        for (before, after) in RESHAPES {
            let mut world = World::calm(primary, &[before], |_| {});
            world.fill(100);
            // In the middle of its sync, and again when it is whole.
            for syncs in [2, 3] {
                let left = if syncs == 2 { HASH_SLOTS / 2 } else { 0 };
                world.until(2, |world| world.missing(0) <= left);
                let dumped = world.slots_dumped();
                world.restart_replica(0, count(if syncs == 2 { after } else { before }));
                world.until(2, |world| world.missing(0) == 0);
                world.settle();
                assert_eq!(world.syncs(), vec![syncs; usize::from(primary)], "{primary} to {before}, {after}");
                let dumped = world.slots_dumped() - dumped;
                assert!(dumped <= HASH_SLOTS as u64, "{primary} to {before}, {after}: {dumped} slots dumped");
            }
        }
    }
}

#[test]
fn a_primary_that_comes_back_with_other_shards_erases_nobody_and_is_followed_anew() {
    for (before, after) in RESHAPES {
        for replica in [1, 2, 3] {
            let mut world = World::calm(before, &[replica], |plan| plan.reshapes = true);
            world.fill(20);
            world.settle();
            let held = |world: &World| -> Vec<_> {
                SlotRange::ALL.iter().map(|slot| world.replicas[0].digest(slot)).collect()
            };
            let shown = |world: &World| SlotRange::ALL.iter().all(|slot: HashSlot| world.replicas[0].shows(slot));
            let kept = held(&world);
            world.restart_primary(count(after));
            world.set("key:0", "of the new primary");
            (0..usize::from(after)).for_each(|shard| world.end_turn(shard));
            for _ in 0..100 {
                world.tick();
                assert!(shown(&world), "{before}, {after} to {replica}: what is kept is shown");
            }
            assert!(world.replicas[0].is_guarded() && held(&world) == kept, "{before}, {after} to {replica}");
            assert!(world.consent(0));
            let (syncs, dumped) = world.until_followed_anew(1);
            world.settle();
            assert_eq!(world.events.get(Event::FollowedAnew), 1);
            assert_eq!(world.syncs(), syncs.iter().map(|syncs| syncs + 1).collect::<Vec<_>>());
            assert!(world.slots_dumped() - dumped <= HASH_SLOTS as u64);
            assert_eq!((0..usize::from(replica)).map(|owner| world.replicas[0].store(owner).len()).sum::<usize>(), 1);
        }
    }
}

#[test]
fn who_has_nothing_to_lose_follows_a_primary_with_other_shards_by_itself() {
    for (before, after) in RESHAPES {
        let mut world = World::calm(before, &[2, 3], |plan| plan.reshapes = true);
        world.settle();
        world.restart_primary(count(after));
        world.until_followed_anew(2);
        world.fill(20);
        world.settle();
        assert_eq!((world.events.get(Event::FollowedAnew), world.events.get(Event::GuardOverruled)), (2, 0));
    }
}

#[test]
fn clocks_that_jump_on_either_side_change_only_what_is_shown() {
    const HOUR: i64 = 3_600_000;
    for (primary, replica) in [(1, 1), (2, 3), (4, 1)] {
        let mut world = World::calm(primary, &[replica, 2], |plan| plan.keys = 10);
        for tick in 0..2_000_usize {
            if tick % 20 == 0 {
                let jump = world.rng.i64(-HOUR..HOUR);
                world.clock_ms = world.clock_ms.saturating_add_signed(jump);
                // Each clock is wrong in its own way.
                world.skews_ms = (0..2).map(|_| world.rng.i64(-HOUR..HOUR)).collect();
            }
            (0..4).for_each(|_| world.write());
            (0..4).for_each(|nth| world.look(nth % 2));
            if tick % 300 == 0 {
                world.end_all(tick / 300 % 2);
            }
            world.tick();
        }
        world.settle();
        assert_eq!(world.syncs(), vec![2; usize::from(primary)], "no clock costs a sync");
        for event in [Event::ExpiredOnPrimary, Event::HiddenOnReplica] {
            assert!(world.events.get(event) > 50, "{event:?}: {}", world.events.get(event));
        }
    }
}

#[test]
fn a_sync_ends_while_writes_take_most_of_the_link() {
    for percent in [50, 80, 85] {
        let mut world = World::calm(1, &[2], |plan| {
            (plan.link_bytes, plan.delay_max, plan.read_bytes) = (4_000, 0, 4_000);
        });
        let write = |world: &mut World, n: u64| {
            world.set(&format!("written:{}", n % 10_000), &"w".repeat(64));
            world.end_turn(0);
        };
        world.fill(60);
        // What the link carries while it is full, and what a write takes of it.
        world.until(0, |world| world.missing(0) == 0);
        let link_per_tick = world.arrived / world.now;
        world.settle();
        let before = world.arrived;
        (0..1_000).for_each(|n| write(&mut world, n));
        world.settle();
        let per_write = (world.arrived - before) / 1_000;

        world.restart_replica(0, world.replicas[0].shards());
        let (begun, mut written) = (world.now, 0);
        while world.missing(0) > 0 {
            while written * per_write * 100 < (world.now - begun) * link_per_tick * percent {
                written += 1;
                write(&mut world, written);
            }
            world.tick();
            assert!(world.now < begun + 40_000, "at {percent} % of the link the sync does not end: {world:?}");
        }
        assert!(written > 1_000, "{written} writes during the sync");
        world.settle();
        assert_eq!(world.syncs(), [2]);
    }
}

#[test]
fn each_bit_of_a_run_that_flips_costs_its_link_and_nothing_else() {
    let mut world = World::calm(1, &[2], |plan| plan.delay_max = 0);
    world.set("a", "1");
    world.end_turn(0);
    world.until(0, |world| world.missing(0) == 0);
    world.settle();

    let (mut bit, mut bits) = (0, 1);
    while bit < bits {
        let before = world.primary.shards[0].source().backlog().bytes();
        for command in [&["SET", "a", "1"][..], &["APPEND", "a", "2"], &["MSET", "b", "1", "c", "2"]] {
            // In one turn, so in one run.
            world.primary.shards[0].execute(&args(command).into(), UnixMs::new(world.clock_ms), &mut world.events);
        }
        world.end_turn(0);
        bits = 8 * (world.primary.shards[0].source().backlog().bytes() - before) as u64;
        world.flip = Some(bit);
        world.settle();
        assert_eq!(world.flip, None, "bit {bit} was sent");
        bit += 1;
        let found = [Event::FlipFound, Event::FlipSilenced].map(|event| world.events.get(event));
        assert_eq!(found.iter().sum::<u64>(), bit, "every bit is found");
    }
    assert!(bits > 1_000, "{bits} bits");
    assert_eq!(world.syncs(), [1], "none costs a sync");
}
