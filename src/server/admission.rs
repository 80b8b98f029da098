//! Whether a client's commands may be executed at this moment, as far as that is a matter of the node's links and not of the command's
//! keys being here: the write gate of a primary, the staleness of a replica.
//!
//! Both are off by default. Where one is on it is looked at once for each batch that a client sends, not for each command.

use std::sync::atomic::{AtomicU64, Ordering};

use super::config::HostPort;
use super::node::Node;
use crate::id::{HashSlot, Moment, ShardCount, ShardId};
use crate::limits::SHARDS_MAX;
use crate::runtime::clock::now;
use crate::runtime::local::Local;
use crate::store::command::{Flags, Spec};

/// What may be executed now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// Everything, as far as this is concerned.
    Everything,
    /// Nothing that may write: too few replicas are there.
    NoWrites,
    /// No write: it is for the primary, which is there.
    Elsewhere { primary: HostPort },
    /// No read of what these upstream streams have, nor of all keys: nothing was heard of them for too long.
    NotOf { streams: Vec<ShardId>, upstream: ShardCount },
}

/// Why a command is not executed now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refused {
    /// The write gate is closed.
    #[error("NOREPLICAS Not enough good replicas to write.")]
    TooFewReplicas,
    /// A cluster's client is to ask the primary, as is said of the hash slot.
    #[error("MOVED {0} {1}:{2}")]
    Moved(u16, String, u16),
    /// The replica may be too far behind.
    #[error("STALE Nothing was heard of the primary for longer than replica_max_staleness_ms")]
    Stale,
}

impl Admission {
    /// What may be executed on this node now.
    #[inline]
    pub fn now(local: &Local, node: &Node) -> Admission {
        let shared = &node.shared;
        if !shared.gate.is_on() && !shared.freshness.is_on() && !shared.config.emulates_cluster {
            return Admission::Everything;
        }
        let core = local.core();
        if core.source().is_some() && !shared.gate.is_open(now()) {
            return Admission::NoWrites;
        }
        let Some(upstream) = core.following().and_then(|following| ShardCount::new(following.streams() as u16)) else {
            return Admission::Everything;
        };
        let streams = shared.freshness.silent(upstream, now());
        if !streams.is_empty() {
            return Admission::NotOf { streams, upstream };
        }
        match &*node.primary.borrow() {
            Some(primary) if node.settings.borrow().replica_read_only => {
                Admission::Elsewhere { primary: primary.clone() }
            }
            _ => Admission::Everything,
        }
    }

    /// Why a command on keys of these slots is not executed, if it is not.
    #[inline]
    pub fn refusal(&self, spec: &Spec, mut slots: impl Iterator<Item = HashSlot>) -> Option<Refused> {
        match self {
            Admission::Everything => None,
            Admission::NoWrites => spec.writes().then_some(Refused::TooFewReplicas),
            Admission::Elsewhere { primary } => {
                // What names no key is said of the first slot: all of them are there.
                let slot = spec.writes().then(|| slots.next().map_or(0, HashSlot::get))?;
                Some(Refused::Moved(slot, primary.host.clone(), primary.port))
            }
            Admission::NotOf { streams, upstream } => {
                let silent = |slot| streams.contains(&upstream.owner(slot));
                let reads = !spec.writes() && (spec.flags.has(Flags::ALL_KEYS) || slots.any(silent));
                reads.then_some(Refused::Stale)
            }
        }
    }
}

/// When each upstream stream was last heard, for `replica_max_staleness_ms`.
#[derive(Debug)]
pub(super) struct Freshness {
    /// 0: it does not matter.
    max_staleness_ms: AtomicU64,
    /// By stream, in microseconds of the node's clock.
    heard: Box<[AtomicU64]>,
}

impl Freshness {
    /// Nothing was heard since the node's start.
    pub fn new(max_staleness_ms: u64) -> Freshness {
        Freshness {
            max_staleness_ms: AtomicU64::new(max_staleness_ms),
            heard: (0..SHARDS_MAX).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether it matters.
    pub fn is_on(&self) -> bool {
        self.max_staleness_ms() > 0
    }

    fn max_staleness_ms(&self) -> u64 {
        self.max_staleness_ms.load(Ordering::Relaxed)
    }

    /// From now on so much is allowed; 0: it does not matter.
    pub fn set_max_staleness_ms(&self, ms: u64) {
        self.max_staleness_ms.store(ms, Ordering::Relaxed);
    }

    /// A stream was heard then.
    pub fn heard(&self, stream: ShardId, at: Moment) {
        if let Some(heard) = self.heard.get(stream.index()) {
            heard.fetch_max(at.micros(), Ordering::Relaxed);
        }
    }

    /// A node that followed nothing is a replica from now on: what is here was the truth until now.
    pub fn begin(&self, now: Moment) {
        self.heard.iter().for_each(|heard| heard.store(now.micros(), Ordering::Relaxed));
    }

    /// Instead of `before` streams there are `after` from now on, of this upstream or another. What is here stays as old as it
    /// was: where other streams have other slots, as old as the oldest of it.
    pub fn carry(&self, before: ShardCount, after: ShardCount) {
        if before == after {
            return;
        }
        let of = |stream: ShardId| self.heard.get(stream.index()).map(|heard| heard.load(Ordering::Relaxed));
        if let Some(oldest) = before.shards().filter_map(of).min() {
            self.heard.iter().for_each(|heard| heard.store(oldest, Ordering::Relaxed));
        }
    }

    /// The streams that were not heard for too long.
    fn silent(&self, upstream: ShardCount, now: Moment) -> Vec<ShardId> {
        let most = self.max_staleness_ms();
        if most == 0 {
            return Vec::new();
        }
        let is_silent = |stream: &ShardId| {
            let heard = self.heard.get(stream.index()).map(|heard| heard.load(Ordering::Relaxed));
            heard.is_some_and(|heard| now.ms_since(Moment::from_micros(heard)) > most)
        };
        upstream.shards().filter(is_silent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::command::find;

    #[test]
    fn only_reads_of_what_is_silent_are_refused() {
        let upstream = ShardCount::new(2).unwrap();
        let freshness = Freshness::new(100);
        let streams: Vec<ShardId> = upstream.shards().collect();
        let ms = |ms| Moment::ZERO.plus_ms(ms);
        freshness.heard(streams[0], ms(50));
        assert!(freshness.silent(upstream, ms(100)).is_empty());
        freshness.heard(streams[0], ms(20));
        assert_eq!(freshness.silent(upstream, ms(101)), [streams[1]]);
        assert_eq!(freshness.silent(upstream, ms(151)), streams);
        freshness.begin(ms(151));
        assert!(freshness.silent(upstream, ms(251)).is_empty());
        freshness.heard(streams[1], ms(200));
        let three = ShardCount::new(3).unwrap();
        freshness.carry(upstream, three);
        assert!(freshness.silent(three, ms(251)).is_empty());
        assert_eq!(freshness.silent(three, ms(252)).len(), 3, "each has slots of the stream that is as old as that");
        assert!(Freshness::new(0).silent(upstream, ms(9_999)).is_empty());

        let admission = Admission::NotOf { streams: vec![streams[1]], upstream };
        let slots: Vec<HashSlot> =
            streams.iter().map(|s| HashSlot::new(upstream.slots_of(*s).first).unwrap()).collect();
        let refused = |command: &[u8], slots: &[HashSlot]| {
            admission.refusal(find(command).unwrap(), slots.iter().copied()).is_some()
        };
        assert!(!refused(b"GET", &slots[..1]) && refused(b"GET", &slots[1..]) && refused(b"MGET", &slots));
        assert!(refused(b"DBSIZE", &[]) && refused(b"SCAN", &[]));
        assert!(!refused(b"SET", &slots[1..]), "a write is refused as such");
        assert!(Admission::NoWrites.refusal(find(b"GET").unwrap(), slots.iter().copied()).is_none());
        assert!(Admission::NoWrites.refusal(find(b"FLUSHALL").unwrap(), [].into_iter()).is_some());
    }
}
