//! Scenarios by name: what operators fear, played once each on purpose, with the numbers that are promised.

use std::sync::OnceLock;

use fastrand::Rng;
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

    /// Keys of which each expires some time between `first` and `first + within` from now on.
    fn set_to_expire(&mut self, keys: u64, first: u64, within: u64) {
        for n in 0..keys {
            let key = format!("gone:{n}");
            let at = (self.clock_ms + self.now + first + n % within).to_string();
            let shard = self.primary.shard_count().owner(hash::slot_of(key.as_bytes())).index();
            self.execute(shard, args(&["SET", &key, "v", "PXAT", &at]));
        }
        (0..self.primary.shards.len()).for_each(|shard| self.end_turn(shard));
    }

    /// Whether the primary has a key, expired or not.
    fn holds(&self, key: &str) -> bool {
        let at = hash::locate(key.as_bytes());
        let shard = self.primary.shard_count().owner(at.slot).index();
        self.primary.shards[shard].store().get(at, key.as_bytes()).is_some()
    }

    /// Keys that the primary has.
    fn keys(&self) -> usize {
        self.primary.shards.iter().map(|shard| shard.store().len()).sum()
    }

    /// The clock of a replica.
    fn clock_of(&self, replica: usize) -> UnixMs {
        UnixMs::new((self.clock_ms + self.now).saturating_add_signed(self.skews_ms[replica]))
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
        let [asked, unasked, hidden] = [Event::ExpiredOnPrimary, Event::ExpiredUnasked, Event::HiddenOnReplica]
            .map(|event| world.events.get(event));
        assert!(asked + unasked > 50 && hidden > 5, "{asked} and {unasked} expired, {hidden} hidden");
    }
}

#[test]
fn keys_that_expire_by_the_thousand_under_load_end_equal() {
    for (primary, replica) in COUNTS {
        let mut world = World::calm(primary, &[replica, 2], |_| {});
        world.settle();
        world.set_to_expire(5_000, 50, 200);
        // While they expire there are writes, and somebody looks.
        let expired = |world: &World| world.events.get(Event::ExpiredUnasked);
        let names: Vec<String> = (0..5_000).map(|n| format!("gone:{n}")).collect();
        // The clock is set now and then, also while they are made.
        let made = names.iter().filter(|name| world.holds(name)).count() as u64;
        assert!(made > 2_000, "{made}");
        while names.iter().any(|name| world.holds(name)) {
            (0..3).for_each(|_| world.write());
            world.tick();
            world.look(world.now as usize % 2);
            assert!(world.now < 20_000, "{} have expired", expired(&world));
        }
        assert!(expired(&world) >= made);
        world.settle();
        let is_left = |name: &String| world.replicas.iter().any(|node| node.expiry(name).is_some());
        assert!(!names.iter().any(is_left));
        assert_eq!(world.syncs(), vec![2; usize::from(primary)], "nothing of it costs a sync");
    }
}

#[test]
fn a_replica_hides_what_has_expired_and_its_primary_deletes_it() {
    for (primary, replica) in [(1, 1), (2, 3), (3, 2)] {
        let mut world = World::calm(primary, &[replica], |_| {});
        world.set_to_expire(300, 10_000, 1);
        world.settle();
        // The clock of the replica is ahead.
        world.skews_ms[0] = 60_000;
        let clock = world.clock_of(0);
        for n in 0..300 {
            assert_eq!(world.replicas[0].ask(&args(&["EXISTS", &format!("gone:{n}")]), clock), ":0\r\n");
        }
        world.replicas[0].tidy(clock);
        assert_eq!((world.replicas[0].keys(), world.keys()), (300, 300), "hidden, and all there");
        world.skews_ms[0] = 0;
        let clock = world.clock_of(0);
        let shown = world.replicas[0].ask(&args(&["EXISTS", "gone:7"]), clock);
        assert_eq!(shown, ":1\r\n", "a clock that was wrong has cost nothing");
        // The primary's own clock is what counts.
        world.clock_ms += 20_000;
        world.until(0, |world| world.keys() == 0);
        world.settle();
        assert_eq!((world.replicas[0].keys(), world.events.get(Event::ExpiredUnasked)), (0, 300));
    }
}

#[test]
fn a_replica_that_stands_still_while_keys_expire_ends_equal() {
    for (primary, replica) in [(1, 2), (3, 2)] {
        let mut world = World::calm(primary, &[replica, 1], |_| {});
        world.settle();
        world.set_to_expire(2_000, 100, 300);
        world.until(1, |world| world.replicas[0].keys() > 1_000);
        world.stopped = Some(0);
        let before = world.replicas[0].keys();
        world.until(3, |world| !(0..2_000).any(|n| world.holds(&format!("gone:{n}"))));
        world.settle();
        assert_eq!(world.replicas[0].keys(), before, "it stands still");
        world.stopped = None;
        world.settle();
        assert_eq!(world.syncs(), vec![2; usize::from(primary)]);
    }
}

#[test]
fn a_promoted_replica_expires_by_itself() {
    let mut world = World::calm(2, &[3], |_| {});
    world.set_to_expire(300, 10_000, 1);
    (0..300).for_each(|n| world.set(&format!("stays:{n}"), "v"));
    world.settle();
    let later = UnixMs::new(world.clock_ms + world.now + 60_000);
    let node = &mut world.replicas[0];
    node.tidy(later);
    assert_eq!(node.keys(), 600, "who follows deletes nothing");
    node.promote();
    (0..1_000).for_each(|_| node.tidy(later));
    assert_eq!(node.keys(), 300);
    assert!((0..300).all(|n| node.expiry(&format!("stays:{n}")).is_some()));
}

/// Elements that clients move, take, wait for and copy; what is moved is neither lost nor doubled, on either side.
#[test]
fn what_moves_ends_where_it_was_moved_to_on_both_sides() {
    for (primary, replica) in COUNTS {
        let mut world = World::calm(primary, &[replica], |plan| plan.tags = 8);
        for shard in 0..usize::from(primary) {
            let tags: Vec<String> = world
                .workload
                .slots(world.slots_of(shard))
                .map(|slot| world.workload.key_in(slot, Some("l"), &mut Rng::with_seed(1)))
                .collect();
            let lists: Vec<String> = (0..6).map(|n| format!("{}{n}", tags[n % tags.len()])).collect();
            let sets: Vec<String> = lists.iter().map(|list| format!("{list}s")).collect();
            for n in 0..100 {
                // Few elements: lists are empty often, and somebody waits.
                if n < 10 {
                    world.execute(shard, args(&["RPUSH", &lists[n % 6], &n.to_string()]));
                }
                world.execute(shard, args(&["SADD", &sets[n % 6], &n.to_string()]));
            }
            for round in 0..1_500 {
                let one_of = |of: &[String], rng: &mut Rng| of[rng.usize(..of.len())].clone();
                let (from, to) = (one_of(&lists, &mut world.rng), one_of(&lists, &mut world.rng));
                let (source, target) = (one_of(&sets, &mut world.rng), one_of(&sets, &mut world.rng));
                let member = world.rng.usize(..100).to_string();
                let command = match world.rng.u8(..10) {
                    0 => args(&["LMOVE", &from, &to, "LEFT", "RIGHT"]),
                    1 => args(&["LMOVE", &from, &to, "RIGHT", "RIGHT"]),
                    2 => args(&["RPOPLPUSH", &from, &to]),
                    // Who waits is served by one of the others.
                    3 => args(&["BLMOVE", &from, &to, "RIGHT", "LEFT", "0"]),
                    4 => args(&["BRPOPLPUSH", &from, &to, "0"]),
                    5 | 6 => args(&["SMOVE", &source, &target, &member]),
                    7 => args(&["RENAMENX", &from, &to]),
                    8 => args(&["COPY", &from, &format!("{to}copy"), "REPLACE"]),
                    _ => args(&["SUNIONSTORE", &format!("{target}all"), &source, &target]),
                };
                world.execute(shard, command);
                if round % 300 == 299 {
                    world.end_all(0);
                }
                if round % 5 == 0 {
                    world.tick();
                }
            }
            world.end_turn(shard);
            world.settle();
            let ask = |world: &mut World, command: &[&str]| {
                let now = world.clock_of(0);
                let reply = world.replicas[0].ask(&args(command), now);
                let words = reply.split("\r\n").filter(|word| !word.starts_with(['*', '$', '~']) && !word.is_empty());
                words.map(|word| word.parse().expect("a number")).collect::<Vec<usize>>()
            };
            let mut elements: Vec<usize> =
                lists.iter().flat_map(|list| ask(&mut world, &["LRANGE", list, "0", "-1"])).collect();
            let mut members: Vec<usize> = sets.iter().flat_map(|set| ask(&mut world, &["SMEMBERS", set])).collect();
            elements.sort_unstable();
            members.sort_unstable();
            assert_eq!(elements, (0..10).collect::<Vec<_>>(), "{primary} to {replica}: of the lists");
            assert_eq!(members, (0..100).collect::<Vec<_>>(), "{primary} to {replica}: of the sets");
        }
        assert!(world.events.get(Event::Served) > 20, "{} who waited were served", world.events.get(Event::Served));
    }
}

/// What is refused, and what only reads, records nothing: every command that clients say is held against that. Here are those that
/// could, and do not.
#[test]
fn what_fails_or_changes_nothing_is_not_sent() {
    let mut world = World::calm(1, &[2], |_| {});
    for command in ["SET s v", "RPUSH l a", "SADD m a", "HSET h f v", "ZADD z 1 a", "XADD x 1-1 f v", "PFADD p a"] {
        world.execute(0, args(&command.split(' ').collect::<Vec<_>>()));
    }
    world.end_turn(0);
    world.settle();
    let before = (world.primary.shards[0].source().next(), world.frames[0][0]);
    for command in [
        "SETNX s w",
        "SET s w NX",
        "SET nosuch w XX",
        "INCR s",
        "APPEND l x",
        "SETRANGE s -1 x",
        "GETEX s",
        "MSETNX a 1 s 2",
        "DEL nosuch",
        "UNLINK nosuch",
        "PERSIST s",
        "EXPIRE nosuch 10",
        "EXPIRE s 10 XX",
        "RENAME nosuch a",
        "RENAME s s",
        "RENAMENX s l",
        "COPY s l",
        "COPY nosuch a",
        "RPUSHX nosuch a",
        "RPUSH s a",
        "LPOP nosuch",
        "LPOP l 0",
        "LSET l 5 x",
        "LREM l 0 nosuch",
        "LTRIM l 0 -1",
        "LINSERT l BEFORE nosuch x",
        "LMOVE nosuch l LEFT LEFT",
        "LMOVE l s LEFT LEFT",
        "LMOVE l l LEFT LEFT",
        "SADD m a",
        "SREM m nosuch",
        "SPOP nosuch",
        "SMOVE m s a",
        "SMOVE m nosuch nosuch",
        "SINTERSTORE nosuch m nosuch",
        "HDEL h nosuch",
        "HSETNX h f w",
        "HINCRBY h f 1",
        "ZADD z 1 a",
        "ZADD z NX 5 a",
        "ZADD z XX 5 nosuch",
        "ZREM z nosuch",
        "ZINCRBY s 1 a",
        "ZREMRANGEBYRANK z 5 9",
        "ZREMRANGEBYSCORE z 5 9",
        "ZPOPMIN nosuch",
        "ZRANGESTORE nosuch z 5 9",
        "XADD x 1-1 f v",
        "XDEL x 9-9",
        "XTRIM x MAXLEN 9",
        "XSETID x 0-1",
        "XACK x nosuch 1-1",
        "XGROUP DESTROY x nosuch",
        "PFADD p a",
        "PFMERGE p p",
        "GEOADD s 1 1 a",
        "GEOSEARCHSTORE nosuch nosuch FROMLONLAT 0 0 BYRADIUS 1 m",
        "BITOP AND nosuch nosuch",
        "GETDEL nosuch",
    ] {
        world.execute(0, args(&command.split(' ').collect::<Vec<_>>()));
        world.end_turn(0);
        assert_eq!(world.primary.shards[0].source().next(), before.0, "{command} is recorded");
    }
    world.settle();
    assert_eq!(world.frames[0][0], before.1, "a frame arrived");
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
