//! Whether a shard that ran out of work is likely to have some again before a sleep would have paid.
//!
//! A sleep costs the shard two switches, and whoever sends to it next the waking. Where many clients send one request at a time
//! the gaps between their requests are shorter than that, and it is cheaper for both if the shard looks again. Awake for as long
//! as the sleep costs is the competitive choice (Karlin, Manasse, McGeoch and Owicki, *Competitive randomized algorithms for
//! nonuniform problems*, 1990); that the gaps were short until now is a condition beside it, so a shard that has little to do
//! never looks in vain.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::limits::VIGIL_US;

/// What a shard remembers of what came to it.
#[derive(Debug, Default)]
pub(super) struct Vigil {
    /// What came since the last review.
    found: Cell<u32>,
    /// Whether until then something came every [`VIGIL_US`].
    is_busy: Cell<bool>,
    /// Since when nothing has come.
    since: Cell<Option<Instant>>,
}

impl Vigil {
    /// So many sockets, or other shards, had something for this one.
    pub fn found(&self, count: usize) {
        self.found.set(self.found.get().saturating_add(count as u32));
        self.since.set(None);
    }

    /// Judges the time since the last review.
    pub fn review(&self, lasted: Duration) {
        let found = self.found.replace(0);
        self.is_busy.set(lasted <= Duration::from_micros(VIGIL_US) * found);
    }

    /// Whether a shard that has nothing to do `now` is to look again rather than to sleep.
    pub fn holds(&self, now: Instant) -> bool {
        if !self.is_busy.get() {
            return false;
        }
        let since = self.since.get().unwrap_or(now);
        self.since.set(Some(since));
        now.duration_since(since) < Duration::from_micros(VIGIL_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    #[test]
    fn only_who_was_busy_looks_again() {
        let (vigil, start) = (Vigil::default(), Instant::now());
        assert!(!vigil.holds(start));
        vigil.found(9);
        vigil.review(us(10 * VIGIL_US));
        assert!(!vigil.holds(start));
        vigil.found(4);
        vigil.found(6);
        vigil.review(us(10 * VIGIL_US));
        assert!(vigil.holds(start));
        vigil.review(us(10 * VIGIL_US));
        assert!(!vigil.holds(start));
    }

    #[test]
    fn it_ends_when_nothing_has_come_for_long() {
        let (vigil, start) = (Vigil::default(), Instant::now());
        vigil.found(10);
        vigil.review(us(10 * VIGIL_US));
        assert!(vigil.holds(start));
        assert!(vigil.holds(start + us(VIGIL_US - 1)));
        assert!(!vigil.holds(start + us(VIGIL_US)));
        vigil.found(1);
        assert!(vigil.holds(start + us(VIGIL_US)));
        assert!(!vigil.holds(start + us(2 * VIGIL_US)));
    }
}
