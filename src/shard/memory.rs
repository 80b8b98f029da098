//! The memory limit of a shard: which keys go when it is reached. A sampler, as in Redis: it looks at a few keys by chance, remembers
//! the best it has seen, and takes the best of those. No order of all keys is kept.
//!
//! ```text
//! every round   samples keys by chance ─▶ pool, at most 16, the best last ─▶ the best that is still there goes
//! ```

use std::fmt;
use std::str::FromStr;

use crate::id::UnixMs;
use crate::limits::EVICTION_POOL_KEYS;
use crate::snapshot::{Keyspace, Located};
use crate::store::command::Random;
use crate::store::{Entry, KeyspaceStore, Tracking};

/// What goes at the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// Nothing: what needs more memory is refused.
    #[default]
    NoEviction,
    /// Any key.
    AllKeys(By),
    /// A key that expires.
    Volatile(By),
    /// The key that expires first.
    VolatileTtl,
}

/// Which key goes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The one that was not used for the longest time.
    Recency,
    /// The one that is used least.
    Frequency,
    /// Any.
    Chance,
}

impl Policy {
    /// Each of them by the name that Redis has for it.
    pub const ALL: [(Policy, &'static str); 8] = [
        (Policy::NoEviction, "noeviction"),
        (Policy::AllKeys(By::Recency), "allkeys-lru"),
        (Policy::AllKeys(By::Frequency), "allkeys-lfu"),
        (Policy::AllKeys(By::Chance), "allkeys-random"),
        (Policy::Volatile(By::Recency), "volatile-lru"),
        (Policy::Volatile(By::Frequency), "volatile-lfu"),
        (Policy::Volatile(By::Chance), "volatile-random"),
        (Policy::VolatileTtl, "volatile-ttl"),
    ];

    fn tracking(self) -> Tracking {
        match self {
            Policy::AllKeys(By::Recency) | Policy::Volatile(By::Recency) => Tracking::Times,
            Policy::AllKeys(By::Frequency) | Policy::Volatile(By::Frequency) => Tracking::Frequencies,
            _ => Tracking::Off,
        }
    }

    fn takes_all(self) -> bool {
        matches!(self, Policy::AllKeys(_))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Policy::ALL.iter().find(|(policy, _)| policy == self).map_or("", |(_, name)| *name);
        f.write_str(name)
    }
}

/// What is no name of a policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an eviction policy")]
pub struct NotAPolicy;

impl FromStr for Policy {
    type Err = NotAPolicy;

    fn from_str(name: &str) -> Result<Policy, NotAPolicy> {
        let found = Policy::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        found.map(|(policy, _)| *policy).ok_or(NotAPolicy)
    }
}

/// How much a shard may hold, and what then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryLimit {
    /// Bytes of keys, values and tables; 0: no limit.
    pub bytes: usize,
    /// What goes.
    pub policy: Policy,
    /// Keys that are looked at for one that goes.
    pub samples: usize,
}

impl Default for MemoryLimit {
    fn default() -> MemoryLimit {
        MemoryLimit { bytes: 0, policy: Policy::NoEviction, samples: 5 }
    }
}

/// The limit of a shard, and the keys that could go next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    limit: MemoryLimit,
    /// The best last; no key twice.
    pool: Vec<Candidate>,
    /// Nothing was left to go when it was looked for last.
    is_stuck: bool,
}

#[derive(Debug)]
struct Candidate {
    key: Box<[u8]>,
    /// The higher, the sooner it goes.
    rank: u64,
}

/// Times that keys are drawn anew, when all that were drawn are gone.
const ROUNDS_MAX: usize = 4;

impl Memory {
    pub fn set_limit(&mut self, limit: MemoryLimit, store: &mut KeyspaceStore, now: UnixMs) {
        // What counts for one policy means nothing to another.
        *self = Memory { limit, ..Memory::default() };
        let tracking = if limit.bytes == 0 { Tracking::Off } else { limit.policy.tracking() };
        store.track(tracking, now);
    }

    pub fn limit(&self) -> MemoryLimit {
        self.limit
    }

    pub fn is_over(&self, store: &KeyspaceStore) -> bool {
        self.limit.bytes > 0 && store.used_bytes() > self.limit.bytes
    }

    /// Whether nothing can be done about being over the limit.
    pub fn is_hopeless(&self) -> bool {
        self.is_stuck || self.limit.policy == Policy::NoEviction
    }

    /// The key that goes next; `None` if none may.
    pub fn choose(&mut self, store: &KeyspaceStore, random: &mut Random, now: UnixMs) -> Option<(Located, Box<[u8]>)> {
        let chosen = self.choose_one(store, random, now);
        self.is_stuck = chosen.is_none();
        chosen.map(|key| (store.locate(&key), key))
    }

    fn choose_one(&mut self, store: &KeyspaceStore, random: &mut Random, now: UnixMs) -> Option<Box<[u8]>> {
        let policy = self.limit.policy;
        let draw = |random: &mut Random| match policy.takes_all() {
            true => store.random_key(random.number()),
            false => store.random_key_that_expires(random.number()),
        };
        match policy {
            Policy::NoEviction => return None,
            Policy::AllKeys(By::Chance) | Policy::Volatile(By::Chance) => {
                return draw(random).map(|entry| entry.key().into());
            }
            _ => {}
        }
        for _ in 0..ROUNDS_MAX {
            for _ in 0..self.limit.samples {
                let entry = draw(random)?;
                let rank = rank(policy, store, &entry, now);
                self.remember(entry.key(), rank);
            }
            while let Some(Candidate { key, .. }) = self.pool.pop() {
                let entry = store.get(store.locate(&key), &key);
                if entry.is_some_and(|entry| policy.takes_all() || entry.expiry().is_some()) {
                    return Some(key);
                }
            }
        }
        None
    }

    fn remember(&mut self, key: &[u8], rank: u64) {
        self.pool.retain(|candidate| *candidate.key != *key);
        let at = self.pool.partition_point(|candidate| candidate.rank < rank);
        if self.pool.len() < EVICTION_POOL_KEYS {
            self.pool.insert(at, Candidate { key: key.into(), rank });
        } else if at > 0 {
            self.pool.insert(at, Candidate { key: key.into(), rank });
            self.pool.remove(0);
        }
    }
}

/// How soon a key goes.
fn rank(policy: Policy, store: &KeyspaceStore, entry: &Entry<'_>, now: UnixMs) -> u64 {
    let at = store.locate(entry.key());
    match policy {
        Policy::VolatileTtl => u64::MAX - entry.expiry().map_or(u64::MAX, UnixMs::get),
        Policy::AllKeys(By::Recency) | Policy::Volatile(By::Recency) => store.idle_seconds(at, entry.key(), now),
        _ => u64::from(u8::MAX - store.frequency(at, entry.key(), now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Vec<u8> {
        format!("k{number}").into_bytes()
    }

    /// A thousand keys of which every second one expires, later the higher its number; those below 500 were used since.
    fn store(policy: Policy) -> (Memory, KeyspaceStore, UnixMs) {
        let (mut memory, mut store) = (Memory::default(), KeyspaceStore::new());
        let limit = MemoryLimit { bytes: 1, policy, samples: 10 };
        memory.set_limit(limit, &mut store, UnixMs::new(1_000));
        for number in 0..1_000usize {
            let expiry = (number % 2 == 0).then(|| UnixMs::new(1_000_000 + number as u64));
            store.set_string(store.locate(&key(number)), &key(number), b"v", expiry);
        }
        let now = UnixMs::new(100_000);
        for use_ in 0..40 {
            for number in 0..500 {
                store.note_use(store.locate(&key(number)), &key(number), now, use_);
            }
        }
        (memory, store, now)
    }

    /// The numbers of the first keys that go.
    fn gone(policy: Policy, count: usize) -> Vec<usize> {
        let (mut memory, mut store, now) = store(policy);
        let mut random = Random::seeded(7);
        let mut gone = Vec::new();
        for _ in 0..count {
            let Some((at, key)) = memory.choose(&store, &mut random, now) else { break };
            assert!(store.remove(at, &key), "what goes is there");
            gone.push(std::str::from_utf8(&key[1..]).unwrap().parse().unwrap());
        }
        gone
    }

    #[test]
    fn what_was_used_stays_longer() {
        for policy in [Policy::AllKeys(By::Recency), Policy::AllKeys(By::Frequency)] {
            let gone = gone(policy, 300);
            let used = gone.iter().filter(|number| **number < 500).count();
            assert!(gone.len() == 300 && used < 15, "{policy}: {used} of 300");
        }
    }

    #[test]
    fn each_policy_goes_by_what_it_is_called_after() {
        // Of 1,600 keys half expire; half of those soon. Half were used lately, half were used often, and half of each are of each.
        let expires = |number: usize| number.is_multiple_of(2);
        let expires_soon = |number: usize| (number / 2).is_multiple_of(2);
        let used_lately = |number: usize| (number / 4).is_multiple_of(2);
        let used_often = |number: usize| (number / 8).is_multiple_of(2);
        for (policy, name) in Policy::ALL {
            let (mut memory, mut store) = (Memory::default(), KeyspaceStore::new());
            memory.set_limit(MemoryLimit { bytes: 1, policy, samples: 10 }, &mut store, UnixMs::new(1_000));
            for number in 0..1_600 {
                let at = if expires_soon(number) { 1_000_000 } else { 2_000_000 };
                let expiry = expires(number).then(|| UnixMs::new(at + number as u64));
                store.set_string(store.locate(&key(number)), &key(number), b"v", expiry);
            }
            for number in (0..1_600).filter(|number| used_often(*number)) {
                (0..20).for_each(|_| store.note_use(store.locate(&key(number)), &key(number), UnixMs::new(2_000), 0));
            }
            for number in 0..1_600 {
                // Every key as often, so that this says nothing of how often.
                let at = if used_lately(number) { 30_000 } else { 2_000 };
                store.note_use(store.locate(&key(number)), &key(number), UnixMs::new(at), 1);
            }
            let mut random = Random::seeded(11);
            let mut gone: Vec<usize> = Vec::new();
            while gone.len() < 150 {
                let Some((at, key)) = memory.choose(&store, &mut random, UnixMs::new(40_000)) else { break };
                assert!(store.remove(at, &key), "what goes is there");
                gone.push(std::str::from_utf8(&key[1..]).unwrap().parse().unwrap());
            }
            let share = |is: &dyn Fn(usize) -> bool| gone.iter().filter(|number| is(**number)).count() * 100 / 150;
            let shares = [share(&expires), share(&expires_soon), share(&used_lately), share(&used_often)];
            // Of a hundred that go: which expire, which soon, which were used lately, which often. In between: by chance.
            let (all, some, none) = (95..=100, 35..=65, 0..=5);
            let expected = match policy {
                Policy::NoEviction => {
                    assert!(gone.is_empty() && memory.is_hopeless());
                    continue;
                }
                Policy::AllKeys(By::Recency) => [&some, &some, &none, &some],
                Policy::AllKeys(By::Frequency) => [&some, &some, &some, &none],
                Policy::AllKeys(By::Chance) => [&some, &some, &some, &some],
                Policy::Volatile(By::Recency) => [&all, &some, &none, &some],
                Policy::Volatile(By::Frequency) => [&all, &some, &some, &none],
                Policy::Volatile(By::Chance) => [&all, &some, &some, &some],
                Policy::VolatileTtl => [&all, &all, &some, &some],
            };
            assert!(gone.len() == 150 && !memory.is_hopeless(), "{name}");
            for (share, expected) in shares.iter().zip(expected) {
                assert!(expected.contains(share), "{name}: {shares:?}");
            }
        }
    }

    #[test]
    fn volatile_policies_take_what_expires_and_end_with_it() {
        for (policy, name) in Policy::ALL {
            let gone = gone(policy, 2_000);
            let expected = match policy {
                Policy::NoEviction => 0,
                Policy::AllKeys(_) => 1_000,
                Policy::Volatile(_) | Policy::VolatileTtl => 500,
            };
            assert_eq!(gone.len(), expected, "{name}");
            assert!(policy.takes_all() || gone.iter().all(|number| number % 2 == 0), "{name}");
        }
        let first = gone(Policy::VolatileTtl, 100);
        let early = first.iter().filter(|number| **number < 500).count();
        assert!(early > 95, "{early} of 100 expire in the first half");
    }

    #[test]
    fn a_key_says_something_about_its_use_only_where_somebody_asks() {
        let bytes = |policy| store(policy).1.used_bytes();
        assert_eq!(bytes(Policy::AllKeys(By::Chance)), bytes(Policy::NoEviction));
        let cost = bytes(Policy::AllKeys(By::Recency)) - bytes(Policy::NoEviction);
        assert!(cost <= 1_000 * 8, "{cost} bytes for 1000 keys");
    }

    #[test]
    fn policies_have_the_names_of_redis() {
        for (policy, name) in Policy::ALL {
            assert_eq!(name.parse(), Ok(policy));
            assert_eq!(policy.to_string(), name);
        }
        assert_eq!("lru".parse::<Policy>(), Err(NotAPolicy));
    }
}
