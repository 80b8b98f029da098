//! A sorted set: distinct members, each with a score, in the order of (score, member). Ranges of every kind are asked for by rank:
//! find the ranks with [`partition_point`](Zset::partition_point), then walk between them.
//!
//! ```text
//! Small   a sorted vector
//! Large   ranked::Ranked, a tree that counts, and a table by member
//! ```

use super::ranked::Ranked;
use super::{Part, SMALL_MEMBERS_MAX};
use crate::snapshot::record::{Reader, RecordError, put_bytes, put_f64, put_varint};
use crate::store::digest;
use crate::store::hash::keyed_hash;
use std::cmp::Ordering;
use std::convert::Infallible;

/// Distinct members in the order of their scores. No score is NaN.
#[derive(Debug, Default)]
pub struct Zset(Form);

#[derive(Debug)]
enum Form {
    Small {
        /// In the order of [`compare`].
        sorted: Vec<(Box<[u8]>, f64)>,
        /// Bytes of all members.
        bytes: usize,
    },
    Large(Box<Ranked>),
}

impl Default for Form {
    fn default() -> Form {
        Form::Small { sorted: Vec::new(), bytes: 0 }
    }
}

/// What an insertion did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// The member is new.
    Added,
    /// The member has another score than before.
    Changed,
    /// All is as it was.
    Same,
}

/// The order of a sorted set.
#[inline]
pub fn compare(a: (&[u8], f64), b: (&[u8], f64)) -> Ordering {
    a.1.partial_cmp(&b.1).unwrap_or(Ordering::Equal).then_with(|| a.0.cmp(b.0))
}

impl Zset {
    /// A sorted set without members.
    pub fn new() -> Zset {
        Zset::default()
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Small { sorted, .. } => sorted.len(),
            Form::Large(ranked) => ranked.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of `member`.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Form::Small { sorted, .. } => sorted.iter().find(|(m, _)| **m == *member).map(|(_, score)| *score),
            Form::Large(ranked) => ranked.score(member),
        }
    }

    /// Gives `member` this score, which must not be NaN.
    pub fn insert(&mut self, member: &[u8], score: f64) -> Inserted {
        let inserted = self.update::<Infallible>(member, |_| Ok(Some(score)));
        match inserted {
            Ok(inserted) => inserted.map_or(Inserted::Same, |(inserted, _)| inserted),
        }
    }

    /// Gives `member` the score, not NaN, that `decide` makes of the one it has, or leaves it as it is. Answers what that did, and the
    /// score that was decided on.
    ///
    /// # Errors
    /// That of `decide`; then nothing has changed.
    pub fn update<E>(
        &mut self,
        member: &[u8],
        decide: impl FnOnce(Option<f64>) -> Result<Option<f64>, E>,
    ) -> Result<Option<(Inserted, f64)>, E> {
        let (sorted, bytes) = match &mut self.0 {
            Form::Small { sorted, bytes } => (sorted, bytes),
            Form::Large(ranked) => return ranked.update(member, decide),
        };
        let found = sorted.iter().position(|(m, _)| **m == *member);
        let old = found.map(|at| sorted[at].1);
        let Some(score) = decide(old)? else { return Ok(None) };
        debug_assert!(!score.is_nan());
        // -0 is 0 to whoever compares: the one that was there stays.
        if old == Some(score) {
            return Ok(Some((Inserted::Same, score)));
        }
        let place =
            |sorted: &[(Box<[u8]>, f64)]| sorted.partition_point(|(m, s)| compare((m, *s), (member, score)).is_lt());
        if let Some(at) = found {
            let (member, _) = sorted.remove(at);
            sorted.insert(place(sorted), (member, score));
            return Ok(Some((Inserted::Changed, score)));
        }
        if sorted.len() < SMALL_MEMBERS_MAX {
            sorted.insert(place(sorted), (member.into(), score));
            *bytes += member.len();
        } else {
            let mut ranked = Ranked::new();
            for (m, s) in sorted.iter() {
                ranked.insert(m, *s);
            }
            ranked.insert(member, score);
            self.0 = Form::Large(Box::new(ranked));
        }
        Ok(Some((Inserted::Added, score)))
    }

    /// Takes `member` away. `false`: it was not there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.0 {
            Form::Small { sorted, bytes } => match sorted.iter().position(|(m, _)| **m == *member) {
                Some(at) => {
                    *bytes -= sorted.remove(at).0.len();
                    true
                }
                None => false,
            },
            Form::Large(ranked) => ranked.remove(member),
        }
    }

    /// Takes the members of ranks `first` up to `end` (at most the length) away.
    pub fn remove_ranks(&mut self, first: usize, end: usize) {
        match &mut self.0 {
            Form::Small { sorted, bytes } => *bytes -= sorted.drain(first..end).map(|(m, _)| m.len()).sum::<usize>(),
            Form::Large(ranked) => ranked.remove_ranks(first, end.saturating_sub(first)),
        }
    }

    /// How many members stand before `member`.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match &self.0 {
            Form::Small { sorted, .. } => sorted.iter().position(|(m, _)| **m == *member),
            Form::Large(ranked) => ranked.rank(member),
        }
    }

    /// How many members stand before the first one that is not `before`, which must hold for a beginning of the order
    /// and for nothing behind it.
    pub fn partition_point(&self, before: impl Fn(&[u8], f64) -> bool) -> usize {
        match &self.0 {
            Form::Small { sorted, .. } => sorted.partition_point(|(member, score)| before(member, *score)),
            Form::Large(ranked) => ranked.partition_point(before),
        }
    }

    /// As [`partition_point`](Self::partition_point), by scores alone.
    pub fn partition_point_by_score(&self, before: impl Fn(f64) -> bool) -> usize {
        match &self.0 {
            Form::Small { sorted, .. } => sorted.partition_point(|(_, score)| before(*score)),
            Form::Large(ranked) => ranked.partition_point_by_score(before),
        }
    }

    /// The members of ranks `first` up to `end` (at most the length), upwards.
    pub fn range(&self, first: usize, end: usize) -> impl Iterator<Item = (&[u8], f64)> {
        let (sorted, ranked) = match &self.0 {
            Form::Small { sorted, .. } => (sorted.get(first..end), None),
            Form::Large(ranked) => (None, Some(ranked.upwards(first).take(end.saturating_sub(first)))),
        };
        let sorted = sorted.into_iter().flatten().map(|(member, score)| (&**member, *score));
        sorted.chain(ranked.into_iter().flatten())
    }

    /// The members of ranks `first` up to `end` (at most the length), downwards.
    pub fn range_down(&self, first: usize, end: usize) -> impl Iterator<Item = (&[u8], f64)> {
        let (sorted, ranked) = match &self.0 {
            Form::Small { sorted, .. } => (sorted.get(first..end), None),
            Form::Large(ranked) => (None, Some(ranked.downwards(end).take(end.saturating_sub(first)))),
        };
        let sorted = sorted.into_iter().flat_map(|s| s.iter().rev()).map(|(member, score)| (&**member, *score));
        sorted.chain(ranked.into_iter().flatten())
    }

    /// All members, upwards.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], f64)> {
        self.range(0, self.len())
    }

    /// Whether it has its small form.
    pub fn is_small(&self) -> bool {
        matches!(self.0, Form::Small { .. })
    }

    /// Members whose keyed hash is at least `from`, with their hashes: some that lie together, all there are up to the place where
    /// the next ones begin. A member that is there from the first step of such a walk to the last is shown, whatever becomes of
    /// its score.
    pub(super) fn part(&self, from: u64) -> Part<(&[u8], f64)> {
        let (sorted, (ranked, next)) = match &self.0 {
            Form::Small { sorted, .. } => (&sorted[..], (None, None)),
            Form::Large(ranked) => {
                let (members, next) = ranked.part(from);
                (&[][..], (Some(members), next))
            }
        };
        let all = sorted.iter().map(|(member, score)| (&**member, *score)).chain(ranked.into_iter().flatten());
        Part::new(all.map(|pair| (keyed_hash(pair.0), pair)), from, next)
    }

    /// Shows about `count` members and answers where to go on: 0 at the end, as at the beginning. A member that is there from the
    /// first step to the last is shown, also if its score changes meanwhile.
    pub fn scan(&self, cursor: u64, count: usize, mut show: impl FnMut(&[u8], f64)) -> u64 {
        super::scan(cursor, count, |from| self.part(from), |(member, score)| show(member, score))
    }

    /// Bytes of all members.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Form::Small { bytes, .. } => *bytes,
            Form::Large(ranked) => ranked.bytes(),
        }
    }

    /// Bytes of memory outside the value itself. Costs the same for every size.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Small { sorted, bytes } => sorted.capacity() * size_of::<(Box<[u8]>, f64)>() + bytes,
            Form::Large(ranked) => ranked.heap_bytes(),
        }
    }

    /// What it adds to a digest.
    pub fn digest(&self) -> u64 {
        match &self.0 {
            Form::Small { .. } => {
                self.iter().map(|(member, score)| of_member(member, score)).fold(0, u64::wrapping_add)
            }
            Form::Large(ranked) => ranked.digest(),
        }
    }

    /// Appends its record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(self.len() as u64, out);
        for (member, score) in self.iter() {
            put_bytes(member, out);
            put_f64(score, out);
        }
    }

    /// Gives the members of a record their scores.
    ///
    /// # Errors
    /// If the record is malformed, has no member, or a score that is NaN.
    pub fn extend(&mut self, reader: &mut Reader<'_>) -> Result<(), RecordError> {
        for _ in 0..super::members(reader)? {
            let member = reader.bytes()?;
            let score = reader.f64()?;
            if score.is_nan() {
                return Err(reader.error("a score that is no number"));
            }
            self.insert(member, score);
        }
        Ok(())
    }

    /// Frees up to `members` members. `true`: what is left is cheap to drop.
    pub fn release(&mut self, members: usize) -> bool {
        match &mut self.0 {
            Form::Small { .. } => true,
            Form::Large(ranked) => ranked.release(members),
        }
    }
}

/// What one member adds to the digest.
#[inline]
pub(super) fn of_member(member: &[u8], score: f64) -> u64 {
    digest::pair(digest::bytes(5, member), score.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// What a sorted set is, said as simply as possible.
    #[derive(Default)]
    struct Model(Vec<(Vec<u8>, f64)>);

    impl Model {
        fn position(&self, member: &[u8]) -> Option<usize> {
            self.0.iter().position(|(m, _)| m == member)
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_sorted_vector_holds(
            ops in proptest::collection::vec((0u8..3, 0u16..400, -20i32..20), 0..900),
            cut in -25.0f64..25.0,
        ) {
            let mut zset = Zset::new();
            let mut model = Model::default();
            for (op, member, score) in ops {
                let member = member.to_string().into_bytes();
                let score = f64::from(score) / 2.0;
                let at = model.position(&member);
                if op == 0 {
                    prop_assert_eq!(zset.remove(&member), at.is_some());
                    at.map(|at| model.0.remove(at));
                } else {
                    let expected = match at.map(|at| model.0.remove(at).1) {
                        None => Inserted::Added,
                        Some(old) if old == score => Inserted::Same,
                        Some(_) => Inserted::Changed,
                    };
                    prop_assert_eq!(zset.insert(&member, score), expected);
                    model.0.push((member.clone(), score));
                    model.0.sort_by(|a, b| compare((&a.0, a.1), (&b.0, b.1)));
                }
                prop_assert_eq!(zset.rank(&member), model.position(&member));
                prop_assert_eq!(zset.score(&member), model.position(&member).map(|at| model.0[at].1));
            }
            let own = |(member, score): (&[u8], f64)| (member.to_vec(), score);
            prop_assert_eq!(zset.iter().map(own).collect::<Vec<_>>(), model.0.clone());
            let below = zset.partition_point(|_, score| score < cut);
            prop_assert_eq!(below, model.0.iter().filter(|(_, score)| *score < cut).count());
            prop_assert_eq!(zset.range(below, zset.len()).map(own).collect::<Vec<_>>(), model.0[below..].to_vec());
            let mut down = model.0[..below].to_vec();
            down.reverse();
            prop_assert_eq!(zset.range_down(0, below).map(own).collect::<Vec<_>>(), down);
            if !zset.is_empty() {
                let mut record = Vec::new();
                zset.encode(&mut record);
                let mut read = Zset::new();
                read.extend(&mut Reader::new(&record)).unwrap();
                prop_assert_eq!(read.digest(), zset.digest());
            }
        }
    }

    proptest! {
        /// Far more members than a small form or a block has; many scores are equal, some are infinite or -0.
        #[test]
        fn the_large_form_holds_what_an_ordered_map_holds(
            seed in any::<u64>(),
            members in 100u64..3_000,
            scores in prop_oneof![Just(1u64), Just(7), Just(100_000)],
            steps in 1usize..12,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut zset, mut model) = (Zset::new(), BTreeMap::new());
            let mut by_order = BTreeSet::new();
            for _ in 0..steps {
                let (kind, share) = (random.u8(0..6), random.u64(0..=members));
                for number in 0..share {
                    // Short members lie in their nodes, others beside them.
                    let number = if kind < 2 { number } else { random.u64(0..members) };
                    let member = format!("{number:0width$}", width = if number % 3 == 0 { 30 } else { 5 }).into_bytes();
                    let score = match random.u64(0..scores) {
                        0 => -0.0,
                        1 => f64::INFINITY,
                        2 => f64::NEG_INFINITY,
                        // Rising, falling, or anywhere.
                        score => [number as f64, -(number as f64), score as f64, score as f64][usize::from(kind % 4)],
                    };
                    let old = model.get(&member).copied();
                    if kind < 4 {
                        let expected = match old {
                            None => Inserted::Added,
                            Some(old) if old == score => Inserted::Same,
                            Some(_) => Inserted::Changed,
                        };
                        prop_assert_eq!(zset.insert(&member, score), expected);
                        if expected != Inserted::Same {
                            old.map(|old| by_order.remove(&Ordered(old, member.clone())));
                            by_order.insert(Ordered(score, member.clone()));
                            model.insert(member, score);
                        }
                    } else if kind == 4 {
                        prop_assert_eq!(zset.remove(&member), old.is_some());
                        old.map(|old| by_order.remove(&Ordered(old, member.clone())));
                        model.remove(&member);
                    } else {
                        let Some(Ordered(score, member)) = by_order.pop_first() else { break };
                        prop_assert_eq!(zset.iter().next(), Some((&*member, score)));
                        zset.remove_ranks(0, 1);
                        model.remove(&member);
                    }
                }
                if let Form::Large(ranked) = &zset.0 {
                    ranked.invariants();
                }
                let expected: Vec<(&[u8], u64)> = by_order.iter().map(|o| (&*o.1, o.0.to_bits())).collect();
                let bits = |(member, score): (_, f64)| (member, score.to_bits());
                prop_assert!(zset.iter().map(bits).eq(expected.iter().copied()));
                let len = expected.len();
                prop_assert!(zset.range_down(0, len).map(bits).eq(expected.iter().rev().copied()));
                for _ in 0..8 {
                    let (first, end) = (random.usize(0..=len), random.usize(0..=len));
                    let (first, end) = (first.min(end), first.max(end));
                    prop_assert!(zset.range(first, end).map(bits).eq(expected[first..end].iter().copied()));
                    prop_assert!(zset.range_down(first, end).map(bits).eq(expected[first..end].iter().rev().copied()));
                    let Some((member, score)) = expected.get(first) else { continue };
                    prop_assert_eq!(zset.rank(member), Some(first));
                    let score = f64::from_bits(*score);
                    let below = expected.iter().filter(|(_, s)| f64::from_bits(*s) < score).count();
                    prop_assert_eq!(zset.partition_point_by_score(|s| s < score), below);
                    prop_assert_eq!(zset.partition_point(|m, s| compare((m, s), (member, score)).is_lt()), first);
                }
            }
        }
    }

    /// A member in the order of a sorted set.
    #[derive(PartialEq, Debug)]
    struct Ordered(f64, Vec<u8>);

    impl Eq for Ordered {}

    impl Ord for Ordered {
        fn cmp(&self, other: &Ordered) -> Ordering {
            compare((&self.1, self.0), (&other.1, other.0))
        }
    }

    impl PartialOrd for Ordered {
        fn partial_cmp(&self, other: &Ordered) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    #[test]
    fn a_large_set_is_freed_in_slices() {
        let mut zset = Zset::new();
        for n in 0..20_000u32 {
            zset.insert(&n.to_be_bytes(), f64::from(n * 7_919 % 20_000));
        }
        let mut steps = 1;
        while !zset.release(64) {
            steps += 1;
        }
        assert!((500..2_000).contains(&steps), "{steps} steps of 64 members and what goes with them");
    }

    #[test]
    fn a_thousand_members_come_and_go() {
        let mut zset = Zset::new();
        for n in 0..5_000u32 {
            zset.insert(&n.to_be_bytes(), f64::from(n * 7_919 % 5_000));
        }
        let full = zset.heap_bytes();
        for n in 0..4_990u32 {
            assert!(zset.remove(&n.to_be_bytes()));
        }
        assert_eq!(zset.iter().count(), 10);
        assert!(zset.heap_bytes() < full / 4, "memory comes back: {} of {full} bytes are left", zset.heap_bytes());
        assert_eq!(zset.range_down(0, 10).count(), 10);
    }
}
