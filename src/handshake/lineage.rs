//! Which earlier generations a history continues, and up to where.
//!
//! ```text
//! generation 7   0 ──────────── 40                       lineage of 9:  7 up to 40 (cut)
//! generation 8                  40 ──────── 90                          8 up to 90
//! generation 9                              90 ───▶
//! ```

use crate::id::{Generation, Offset, ShardCount};
use crate::limits::LINEAGE_FORKS_MAX;

/// An earlier generation that a history continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fork {
    /// The earlier generation.
    pub generation: Generation,
    /// The first offset that is no longer common: everything below it is the same in both.
    pub at: Offset,
    /// How many shards the earlier node had. Where it differs, the stream held other slots.
    pub shards: ShardCount,
}

/// The generations that a history continues, the latest first; at most [`LINEAGE_FORKS_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage(Vec<Fork>);

impl Lineage {
    /// The lineage of a history that continues none.
    pub const fn none() -> Lineage {
        Lineage(Vec::new())
    }

    /// The lineage with these forks, the latest first; what is beyond the limit is left out.
    pub fn new(forks: impl IntoIterator<Item = Fork>) -> Lineage {
        Lineage(forks.into_iter().take(LINEAGE_FORKS_MAX).collect())
    }

    /// The forks, the latest first.
    pub fn forks(&self) -> &[Fork] {
        &self.0
    }

    /// Where `generation` was left, if this history continues it.
    pub fn fork_of(&self, generation: Generation) -> Option<&Fork> {
        self.0.iter().find(|fork| fork.generation == generation)
    }

    /// The lineage of the generation that begins at `at`, continuing `generation` of a node with `shards` shards, whose
    /// lineage is this one. Inherited forks are cut to `at`: of what came after it, the new history knows nothing.
    pub fn continued(&self, generation: Generation, at: Offset, shards: ShardCount) -> Lineage {
        let inherited = self.0.iter().map(|fork| Fork { at: fork.at.min(at), ..*fork });
        Lineage::new(std::iter::once(Fork { generation, at, shards }).chain(inherited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: u64) -> Generation {
        Generation::new(number).unwrap()
    }

    #[test]
    fn inherited_forks_are_cut_to_the_position_of_the_new_one() {
        let first = Lineage::none().continued(generation(1), Offset::new(90), ShardCount::ONE);
        let second = first.continued(generation(2), Offset::new(40), ShardCount::ONE);
        let at = |number| second.fork_of(generation(number)).map(|fork| fork.at.get());
        assert_eq!((at(1), at(2), at(3)), (Some(40), Some(40), None));
    }

    #[test]
    fn the_oldest_forks_are_forgotten_first() {
        let mut lineage = Lineage::none();
        for number in 1..=LINEAGE_FORKS_MAX as u64 + 3 {
            lineage = lineage.continued(generation(number), Offset::new(number), ShardCount::ONE);
        }
        assert_eq!(lineage.forks().len(), LINEAGE_FORKS_MAX);
        assert!(lineage.fork_of(generation(3)).is_none());
        assert!(lineage.fork_of(generation(4)).is_some());
    }
}
