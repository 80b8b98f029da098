//! When, or how often, a key was used: four bytes in its entry, where an eviction policy asks for it, and none where nobody does.
//!
//! ```text
//! times         0 │ seconds of the epoch, 31 bits
//! frequencies   1 │ 7 bits │ minutes of the epoch, 16 bits │ count, 8 bits
//! ```
//!
//! The count is the logarithmic one of Redis: the higher it is, the less likely a use adds to it, about a million uses make 255;
//! and each minute without a use takes one away.

use crate::id::UnixMs;

/// What is written down about the use of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tracking {
    /// Nothing.
    #[default]
    Off,
    /// When a key was used last.
    Times,
    /// How often it is used.
    Frequencies,
}

/// What an entry says about its use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Used(u32);

/// What a new key counts: so much that it does not go at once.
const COUNT_FIRST: u8 = 5;
/// How much harder each count is to reach than the one before.
const COUNT_FACTOR: u64 = 10;

impl Used {
    pub const BYTES: usize = 4;
    const IS_FREQUENCY: u32 = 1 << 31;

    /// That of a key that is made now.
    pub fn first(tracking: Tracking, now: UnixMs) -> Option<Used> {
        match tracking {
            Tracking::Off => None,
            Tracking::Times => Some(Used(seconds(now))),
            Tracking::Frequencies => Some(Used::often(now, COUNT_FIRST)),
        }
    }

    fn often(now: UnixMs, count: u8) -> Used {
        Used(Used::IS_FREQUENCY | u32::from(minutes(now)) << 8 | u32::from(count))
    }

    pub fn is_frequency(self) -> bool {
        self.0 & Used::IS_FREQUENCY != 0
    }

    /// That of the same key when it is used once more. `random` decides whether that counts.
    pub fn again(self, now: UnixMs, random: u64) -> Used {
        let Some(count) = self.frequency(now) else { return Used(seconds(now)) };
        let harder = u64::from(count.saturating_sub(COUNT_FIRST)) * COUNT_FACTOR + 1;
        let counts = random.is_multiple_of(harder);
        Used::often(now, count.saturating_add(counts.into()))
    }

    /// Seconds since its last use, if that is what it says.
    pub fn idle_seconds(self, now: UnixMs) -> Option<u64> {
        let idle = seconds(now).wrapping_sub(self.0) & !Used::IS_FREQUENCY;
        // The clock may go back.
        let idle = if idle >> 30 == 0 { idle } else { 0 };
        (!self.is_frequency()).then_some(u64::from(idle))
    }

    /// How often it is used, if that is what it says.
    pub fn frequency(self, now: UnixMs) -> Option<u8> {
        let since = minutes(now).wrapping_sub((self.0 >> 8) as u16);
        let since = if since >> 15 == 0 { since } else { 0 };
        let count = (self.0 as u8).saturating_sub(u8::try_from(since).unwrap_or(u8::MAX));
        self.is_frequency().then_some(count)
    }

    pub fn to_bytes(self) -> [u8; Used::BYTES] {
        self.0.to_le_bytes()
    }

    pub fn from_bytes(bytes: [u8; Used::BYTES]) -> Used {
        Used(u32::from_le_bytes(bytes))
    }
}

fn seconds(now: UnixMs) -> u32 {
    (now.get() / 1_000) as u32 & !Used::IS_FREQUENCY
}

fn minutes(now: UnixMs) -> u16 {
    (now.get() / 60_000) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_the_last_use() {
        let used = Used::first(Tracking::Times, UnixMs::new(5_000)).unwrap();
        assert_eq!(used.idle_seconds(UnixMs::new(12_999)), Some(7));
        assert_eq!(used.idle_seconds(UnixMs::new(1_000)), Some(0), "the clock went back");
        assert_eq!(used.again(UnixMs::new(9_000), 0).idle_seconds(UnixMs::new(12_000)), Some(3));
        assert_eq!(used.frequency(UnixMs::new(0)), None);
        assert_eq!(Used::first(Tracking::Off, UnixMs::new(0)), None);
    }

    #[test]
    fn a_frequency_grows_ever_more_slowly_and_decays() {
        let now = UnixMs::new(600_000_000);
        let mut used = Used::first(Tracking::Frequencies, now).unwrap();
        assert_eq!(used.frequency(now), Some(5));
        let mut random = 1u64;
        let mut counts = Vec::new();
        for uses in 1..=100_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            used = used.again(now, random >> 20);
            if [100, 1_000, 100_000].contains(&uses) {
                counts.push(used.frequency(now).unwrap());
            }
        }
        // Redis names 10, 18 and 142 for these in its default configuration.
        let expected = [7..=13, 14..=22, 125..=160];
        assert!(counts.iter().zip(expected).all(|(count, expected)| expected.contains(count)), "{counts:?}");
        let later = UnixMs::new(now.get() + 60_000 * 10);
        assert_eq!(used.frequency(later), used.frequency(now).map(|count| count - 10));
        assert_eq!(used.frequency(UnixMs::new(now.get() + 60_000 * 300)), Some(0));
        assert_eq!(used.idle_seconds(now), None);
    }
}
