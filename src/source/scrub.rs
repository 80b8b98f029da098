//! The scrub: one slot after the other, its digest at a position of the stream, for replicas to hold theirs against. Taken
//! once for all replicas, when it is due, in steps: nothing is kept for it while keys are written.
//!
//! ```text
//! round     … told │ told │ ▒▒▒▒▒▒ under way, in steps │ next │ …   at so many slots a second, around the end
//! to prove  slots that were dumped to a link without a digest: before the round's next one, whatever the rate, until told
//! ```

use crate::id::{HASH_SLOTS, HashSlot, Moment, ShardCount, SlotRange};
use crate::limits;
use crate::snapshot::{AsOf, Keyspace, SumId, Summed};

/// What a shard's scrub has done so far, for `INFO`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Slots whose digest was told.
    pub slots: u64,
    /// Times that it came to the end of the shard's slots.
    pub rounds: u64,
}

/// What one step of the scrub did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scrubbed {
    /// Links have something to send.
    pub sends: bool,
    /// More is due at once.
    pub more: bool,
}

/// The state of a shard's scrub.
#[derive(Debug)]
pub(super) struct Scrub {
    /// Of the whole node; 0: none.
    pub slots_per_second: u32,
    pub counters: Counters,
    /// In slots × milliseconds of a second × shards of the node, so that nothing is rounded; at most a burst.
    credit: u64,
    /// Up to when there was credit for the time that passed.
    filled: Option<Moment>,
    /// Where the round goes on.
    next: HashSlot,
    /// Where the search for a slot that is to be proved goes on.
    pub after_proved: HashSlot,
    under_way: Option<(HashSlot, SumId)>,
    /// Digests that were given up, one after the other, and until when no slot is proved for that.
    lost: u32,
    rests_until: Moment,
}

impl Scrub {
    pub fn new(range: SlotRange) -> Scrub {
        Scrub {
            slots_per_second: 0,
            counters: Counters::default(),
            credit: 0,
            filled: None,
            next: HashSlot::from_crc16(range.first),
            after_proved: HashSlot::from_crc16(range.first),
            under_way: None,
            lost: 0,
            rests_until: Moment::ZERO,
        }
    }

    /// Nobody listens: what is under way is forgotten, and the time that passes is not made up for.
    pub fn rest<K: Keyspace>(&mut self, keyspace: &mut K) {
        if let Some((_, id)) = self.under_way.take() {
            keyspace.digest_forget(id);
        }
        self.filled = None;
    }

    /// Credits the time since the last call.
    pub fn fill(&mut self, now: Moment, shards: ShardCount) {
        let passed = self.filled.map_or(0, |filled| now.ms_since(filled));
        self.filled = Some(now);
        let rate = u64::from(self.slots_per_second);
        let burst = (rate * limits::SCRUB_BURST_MS).max(price(shards));
        self.credit = (self.credit + rate * passed).min(burst);
    }

    /// One step: a slot whose digest is complete as of now, if there is one. A slot that is to be proved comes first.
    pub fn step<K: Keyspace>(
        &mut self,
        keyspace: &mut K,
        range: SlotRange,
        shards: ShardCount,
        to_prove: Option<HashSlot>,
    ) -> Option<(HashSlot, crate::id::Digest)> {
        let (slot, summed) = match self.under_way.take() {
            Some((slot, id)) => (slot, keyspace.digest_step(id)),
            None => {
                let slot = self.choose(range, shards, to_prove)?;
                (slot, keyspace.digest_begin(slot, AsOf::End))
            }
        };
        match summed {
            Summed::More(id) => {
                self.under_way = Some((slot, id));
                None
            }
            Summed::Done(digest) => {
                self.counters.slots += 1;
                (self.lost, self.rests_until) = (0, Moment::ZERO);
                Some((slot, digest))
            }
            // It is still to be proved, if it was, or has its turn in the next round.
            Summed::Lost => {
                let pause = limits::SCRUB_LOST_MS_MIN << self.lost.min(16);
                self.rests_until = self.now().plus_ms(pause.min(limits::SCRUB_LOST_MS_MAX));
                self.lost += 1;
                None
            }
        }
    }

    /// Whether another slot is due. One that is under way has its next step later: a large slot must not keep a shard busy.
    pub fn is_due(&self, shards: ShardCount, to_prove: Option<HashSlot>) -> bool {
        self.under_way.is_none() && (to_prove.is_some() && self.may_prove() || self.may_pay(shards))
    }

    fn may_prove(&self) -> bool {
        self.now() >= self.rests_until
    }

    /// The time of the last call that said it.
    fn now(&self) -> Moment {
        self.filled.unwrap_or(Moment::ZERO)
    }

    fn may_pay(&self, shards: ShardCount) -> bool {
        self.slots_per_second > 0 && self.credit >= price(shards)
    }

    fn choose(&mut self, range: SlotRange, shards: ShardCount, to_prove: Option<HashSlot>) -> Option<HashSlot> {
        if let Some(slot) = to_prove
            && self.may_prove()
        {
            self.after_proved = HashSlot::from_crc16((slot.get() + 1) % HASH_SLOTS as u16);
            return Some(slot);
        }
        if !self.may_pay(shards) {
            return None;
        }
        self.credit -= price(shards);
        let slot = self.next;
        let after = slot.get() + 1;
        if after >= range.end {
            self.counters.rounds += 1;
        }
        self.next = HashSlot::from_crc16(if after < range.end { after } else { range.first } % HASH_SLOTS as u16);
        Some(slot)
    }
}

/// What a slot of one shard costs in credit of the whole node.
fn price(shards: ShardCount) -> u64 {
    1_000 * u64::from(shards.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;
    use crate::id::ShardId;
    use crate::snapshot::{ApplyError, Copy, DumpCursor, LoadError, Located};
    use crate::wire::Argv;

    /// Holds nothing, and takes digests at once.
    struct Nothing;

    impl Keyspace for Nothing {
        fn digest(&self, _: Copy, _: HashSlot) -> Digest {
            Digest::default()
        }

        fn slot_len(&self, _: Copy, _: HashSlot) -> usize {
            0
        }

        fn dump(&self, _: HashSlot, _: DumpCursor, _: usize, _: &mut Vec<u8>) -> Option<DumpCursor> {
            None
        }

        fn locate(&self, _: &[u8]) -> Located {
            unreachable!("a scrub names no key")
        }

        fn apply(&mut self, _: Copy, _: Located, _: Argv<'_>) -> Result<(), ApplyError> {
            unreachable!("a scrub changes nothing")
        }

        fn clear(&mut self, _: Copy, _: HashSlot) {}

        fn begin(&mut self, _: HashSlot) {}

        fn load(&mut self, _: HashSlot, _: &[u8]) -> Result<(), LoadError> {
            unreachable!("a scrub changes nothing")
        }

        fn install(&mut self, _: HashSlot) {}

        fn discard(&mut self, _: HashSlot) {}
    }

    /// How many slots are told in `seconds`, with a step whenever one is due in every tick of 10 ms.
    fn told(shards: u16, slots_per_second: u32, seconds: u64) -> u64 {
        let shards = ShardCount::new(shards).unwrap();
        let range = shards.slots_of(ShardId::new(0));
        let mut scrub = Scrub::new(range);
        scrub.slots_per_second = slots_per_second;
        let mut store = Nothing;
        for tick in 0..=seconds * 100 {
            scrub.fill(Moment::ZERO.plus_ms(tick * 10), shards);
            while scrub.is_due(shards, None) {
                scrub.step(&mut store, range, shards, None).expect("an empty slot takes one step");
            }
        }
        scrub.counters.slots
    }

    #[test]
    fn the_rate_is_that_of_the_whole_node() {
        assert_eq!(told(1, 16, 10), 160);
        assert_eq!(told(4, 16, 10), 40);
        assert_eq!(told(3, 1, 30), 10);
        assert_eq!(told(1, 20_000, 2), 40_000, "more than a round");
        assert_eq!(told(1, 0, 10), 0);
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let range = SlotRange::ALL;
        let mut scrub = Scrub::new(range);
        scrub.slots_per_second = 100;
        let mut store = Nothing;
        scrub.fill(Moment::ZERO, ShardCount::ONE);
        scrub.rest(&mut store);
        scrub.fill(Moment::ZERO.plus_ms(60_000), ShardCount::ONE);
        assert!(!scrub.is_due(ShardCount::ONE, None));
        scrub.fill(Moment::ZERO.plus_ms(120_000), ShardCount::ONE);
        let burst = std::iter::from_fn(|| scrub.step(&mut store, range, ShardCount::ONE, None)).count();
        assert_eq!(burst as u64, 100 * limits::SCRUB_BURST_MS / 1_000);
    }
}
