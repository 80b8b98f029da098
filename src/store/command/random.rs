//! The randomness of commands, passed in like the clock: a run with the same seed chooses the same.

use std::ops::RangeInclusive;

use super::number;
use super::refusal::{NOT_AN_INTEGER, OUT_OF_RANGE, Refusal, SYNTAX};
use crate::limits;
use crate::wire::Argv;

/// A small generator (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

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
}

/// How many members a command wants by chance: so many different ones, or, for a negative number, as many that may repeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Draw(i64);

impl Draw {
    /// Reads `[count [<pairs>]]` from argument 2 on: how many, and whether with what belongs to them.
    pub(super) fn parse(argv: Argv<'_>, pairs: &[u8]) -> Result<(Option<Draw>, bool), Refusal> {
        let count = argv.get(2).map(Draw::parse_count).transpose()?;
        match argv.get(3) {
            None => Ok((count, false)),
            Some(option) if argv.len() == 4 && option.eq_ignore_ascii_case(pairs) => match count {
                Some(Draw(count)) if !DOUBLED_COUNTS.contains(&count) => Err(TOO_MANY),
                count => Ok((count, true)),
            },
            Some(_) => Err(SYNTAX),
        }
    }

    pub(super) fn parse_count(text: &[u8]) -> Result<Draw, Refusal> {
        match number::integer(text).ok_or(NOT_AN_INTEGER)? {
            i64::MIN => Err(OUT_OF_RANGE),
            count if count < -REPEATED_MAX => Err(TOO_MANY),
            count => Ok(Draw(count)),
        }
    }

    /// Numbers below `len`, which is not 0.
    pub(super) fn draw(self, random: &mut Random, len: usize) -> Vec<usize> {
        match usize::try_from(self.0) {
            Ok(count) => random.choose(len, count),
            Err(_) => (0..self.0.unsigned_abs()).map(|_| random.below(len)).collect(),
        }
    }
}

/// How many members may be asked for where each is answered by two replies.
const DOUBLED_COUNTS: RangeInclusive<i64> = -i64::MAX / 2..=i64::MAX / 2;

const REPEATED_MAX: i64 = limits::DRAWN_MAX as i64;

const TOO_MANY: Refusal = Refusal::Text("ERR value is out of range");
