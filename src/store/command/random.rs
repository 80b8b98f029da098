//! The randomness of commands, passed in like the clock: a run with the same seed chooses the same.

use std::ops::RangeInclusive;

/// A small generator (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// How many members may be asked for where each is answered by two replies.
pub(super) const DOUBLED_COUNTS: RangeInclusive<i64> = -i64::MAX / 2..=i64::MAX / 2;

impl Random {
    /// The generator that this seed gives.
    pub fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    #[inline]
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    #[inline]
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.number()) * end as u128) >> 64) as usize
    }

    /// `count` different numbers below `len`, or all of them, each choice as likely as another.
    pub fn choose(&mut self, len: usize, count: usize) -> Vec<usize> {
        if count >= len {
            return (0..len).collect();
        }
        if count * 3 > len {
            // Most are chosen: shuffle the beginning.
            let mut all: Vec<usize> = (0..len).collect();
            for index in 0..count {
                all.swap(index, index + self.below(len - index));
            }
            all.truncate(count);
            return all;
        }
        // Few are chosen (Floyd): of the numbers up to `top`, one more each time.
        let mut chosen = indexmap::IndexSet::with_capacity(count);
        for top in len - count..len {
            let one = self.below(top + 1);
            if !chosen.insert(one) {
                chosen.insert(top);
            }
        }
        chosen.into_iter().collect()
    }

    /// Numbers below `len`, as a command with a count chooses members: so many different ones, or `-count` that may repeat.
    pub(super) fn draw(&mut self, len: usize, count: i64) -> Vec<usize> {
        match usize::try_from(count) {
            Ok(count) => self.choose(len, count),
            Err(_) => (0..count.unsigned_abs()).map(|_| self.below(len)).collect(),
        }
    }
}
