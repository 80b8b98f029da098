//! A primary that lost its data must not erase its replicas: what a replica asks itself before it takes a sync.
//!
//! Judged by how the peer's generation *began*, not by whether it is empty now: one write after the restart would hide
//! that. Consent is an operator's: `accept_empty_primary`, or a `REPLICAOF` to a new address.

use super::Welcome;
use super::answer::Verdict;
use crate::id::Generation;

/// Why this link was dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialled {
    /// By itself, or by the same `REPLICAOF` repeated, to the upstream that it followed before.
    Again,
    /// By a `REPLICAOF` to another address than before: the operator wants that node's data.
    NewAddress,
}

/// What the replica has to lose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Whether it holds any key of the stream.
    pub data: bool,
    /// The generation that the data is of, if it is known.
    pub generation: Option<Generation>,
    /// Why it dials.
    pub dialled: Dialled,
    /// `accept_empty_primary`.
    pub accept_empty_primary: bool,
}

/// The replica keeps what it has, and does not follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the primary came back without its data (generation {theirs} began empty and does not continue ours); keeping what is here. \
     To take its data over instead: set accept_empty_primary, or REPLICAOF another address"
)]
pub struct GuardRefusal {
    /// The peer's generation.
    pub theirs: Generation,
}

/// Whether a replica that holds `held` may do what `welcome` says.
///
/// # Errors
/// If that would replace data by that of a history which began from nothing and which nobody consented to.
pub fn guard(held: Held, welcome: &Welcome) -> Result<(), GuardRefusal> {
    let continues =
        held.generation.is_some_and(|own| own == welcome.generation || welcome.lineage.fork_of(own).is_some());
    let refuse = held.data
        && held.dialled == Dialled::Again
        && matches!(welcome.verdict, Verdict::Sync(_))
        && !continues
        && welcome.born_empty
        && !held.accept_empty_primary;
    if refuse { Err(GuardRefusal { theirs: welcome.generation }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::{Fork, Lineage, SyncReason};
    use super::*;
    use crate::id::{Offset, ShardCount, ShardId};

    fn generation(number: u64) -> Generation {
        Generation::new(number).unwrap()
    }

    /// A primary that began empty, and knows nothing of generation 5.
    fn restarted() -> Welcome {
        Welcome {
            generation: generation(9),
            next: Offset::new(3),
            shard: ShardId::new(0),
            shards: ShardCount::ONE,
            born_empty: true,
            lineage: Lineage::none(),
            oldest: Offset::ZERO,
            head: Offset::new(3),
            verdict: Verdict::Sync(SyncReason::UnknownGeneration),
            crc: false,
            client_port: None,
        }
    }

    fn held() -> Held {
        Held { data: true, generation: Some(generation(5)), dialled: Dialled::Again, accept_empty_primary: false }
    }

    #[test]
    fn every_condition_is_needed() {
        let fork = Fork { generation: generation(5), at: Offset::new(1), shards: ShardCount::ONE };
        let table: [(&str, Held, Welcome, bool); 8] = [
            ("came back empty", held(), restarted(), false),
            ("unknown own generation", Held { generation: None, ..held() }, restarted(), false),
            ("nothing to lose", Held { data: false, ..held() }, restarted(), true),
            ("a new address", Held { dialled: Dialled::NewAddress, ..held() }, restarted(), true),
            ("accepted", Held { accept_empty_primary: true, ..held() }, restarted(), true),
            ("goes on", held(), Welcome { verdict: Verdict::Stream, ..restarted() }, true),
            ("continues ours", held(), Welcome { lineage: Lineage::new([fork]), ..restarted() }, true),
            ("began with data", held(), Welcome { born_empty: false, ..restarted() }, true),
        ];
        for (what, held, welcome, allowed) in table {
            assert_eq!(guard(held, &welcome).is_ok(), allowed, "{what}");
        }
        let same = Held { generation: Some(generation(9)), ..held() };
        assert!(guard(same, &restarted()).is_ok(), "the very same history, only too far behind");
    }

    #[test]
    fn one_write_before_the_reconnect_changes_nothing() {
        let welcome = Welcome { head: Offset::new(1_000_000), oldest: Offset::new(999), ..restarted() };
        assert!(guard(held(), &welcome).is_err());
    }
}
