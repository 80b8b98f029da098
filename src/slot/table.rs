//! The replicas of one stream: who is there, how far it is, since when it is gone.
//!
//! Neither the sending nor the waiting: the streamer has its own cursor, and `WAIT` asks here who has acknowledged what.
//!
//! ```text
//!            attach               SYNCED
//! (unknown) ───────▶ syncing ──────────────▶ online        acks count
//!      ▲               │  ▲                    │
//!      │ window over   ▼  │ attach             ▼ detach
//!      └──────────────── away ◀────────────────┘           acks are forgotten
//! ```
//!
//! One replica id has one link per stream. A new link of the same id replaces the old one and inherits nothing of it, except
//! that a process which dialled twice keeps its newest dial, whichever arrives last.

use std::collections::HashMap;

use crate::handshake::{Announced, Dialer, Hello, ReplicaId};
use crate::id::{Moment, Offset};
use crate::limits::REPLICA_SLOTS_MAX;

/// A link of this stream: unique for the life of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(u64);

/// The replica slots of one stream.
#[derive(Debug)]
pub struct SlotTable {
    slots: HashMap<ReplicaId, ReplicaSlot>,
    /// Who holds which link: exactly the ids of the slots that are connected.
    links: HashMap<LinkId, ReplicaId>,
    links_made: u64,
    reconnect_window_ms: u64,
}

/// What is remembered of one replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaSlot {
    /// The process and dial of its latest link, where it says so.
    pub dialer: Option<Dialer>,
    /// Whether it never counts.
    pub observer: bool,
    /// Where its clients find it, if it says so.
    pub client: Option<Announced>,
    /// Whether it is there.
    pub state: State,
}

/// Whether a replica is there, and how far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It has a link. What is said here is of this link only.
    Connected {
        /// The link.
        link: LinkId,
        /// Since when.
        since: Moment,
        /// Everything below was handed to the network.
        sent_next: Offset,
        /// Everything below is applied there, as it says.
        acked_next: Option<Offset>,
        /// When it last said so.
        acked_at: Moment,
        /// The first acknowledgement that counts; `None` while slots are missing.
        synced: Option<Offset>,
    },
    /// It has none.
    Away {
        /// Since when.
        since: Moment,
    },
}

/// A link that was let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attached {
    /// Its name from now on.
    pub link: LinkId,
    /// The link that it replaces: to be closed. It is not known here any more.
    pub replaces: Option<LinkId>,
}

/// A process that follows. What is acknowledged on several streams counts together only where it is of one process: another one of
/// the same replica id may have begun from nothing in between.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Acker {
    replica: Box<str>,
    run: Option<u64>,
}

/// Why a link was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AttachError {
    /// The same process has dialled again since.
    #[error("dial {dialled} of a process whose dial {newest} is known")]
    OlderDial {
        /// This link's.
        dialled: u64,
        /// The newest one's.
        newest: u64,
    },
    /// Too many ids are remembered, and all of them are connected.
    #[error("{REPLICA_SLOTS_MAX} replicas are connected")]
    Full,
}

impl SlotTable {
    /// A table that forgets a replica `reconnect_window_ms` after its link went.
    pub fn new(reconnect_window_ms: u64) -> SlotTable {
        SlotTable { slots: HashMap::new(), links: HashMap::new(), links_made: 0, reconnect_window_ms }
    }

    /// Lets in a link that sent `hello` and will be sent frames from `next` on.
    ///
    /// # Errors
    /// If a newer dial of the same process is known, or the table is full of connected replicas.
    pub fn attach(&mut self, hello: &Hello, next: Offset, now: Moment) -> Result<Attached, AttachError> {
        let options = hello.options();
        let dialer = options.and_then(|options| options.dialer);
        let known = self.slots.get(&hello.id);
        if let (Some(Dialer { run, dial }), Some(newest)) = (dialer, known.and_then(|slot| slot.dialer))
            && run == newest.run
            && dial < newest.dial
        {
            return Err(AttachError::OlderDial { dialled: dial, newest: newest.dial });
        }
        if known.is_none() && self.slots.len() >= REPLICA_SLOTS_MAX {
            self.forget_longest_away()?;
        }
        let link = LinkId(self.links_made);
        self.links_made += 1;
        let slot = ReplicaSlot {
            dialer,
            observer: options.is_some_and(|options| options.flags.observer),
            client: options.and_then(|options| options.client.clone()),
            state: State::Connected {
                link,
                since: now,
                sent_next: next,
                acked_next: None,
                acked_at: now,
                synced: None,
            },
        };
        let replaces = self.slots.insert(hello.id.clone(), slot).and_then(|old| old.link());
        if let Some(old) = replaces {
            self.links.remove(&old);
        }
        self.links.insert(link, hello.id.clone());
        self.invariants();
        Ok(Attached { link, replaces })
    }

    /// The link is gone: what it acknowledged counts no more. Nothing happens where it was replaced.
    pub fn detach(&mut self, link: LinkId, now: Moment) {
        if let Some(id) = self.links.remove(&link)
            && let Some(slot) = self.slots.get_mut(&id)
        {
            slot.state = State::Away { since: now };
        }
        self.invariants();
    }

    /// Frames up to `next` were handed to the network.
    pub fn sent(&mut self, link: LinkId, next: Offset) {
        if let Some(State::Connected { sent_next, .. }) = self.state_mut(link) {
            *sent_next = (*sent_next).max(next);
        }
    }

    /// The replica says that it has applied everything below `next`. `false` where it says nothing new, or the link is not known.
    pub fn acked(&mut self, link: LinkId, next: Offset, now: Moment) -> bool {
        match self.state_mut(link) {
            Some(State::Connected { acked_next, acked_at, .. }) => {
                *acked_at = now;
                let news = acked_next.is_none_or(|old| old < next);
                if news {
                    *acked_next = Some(next);
                }
                news
            }
            _ => false,
        }
    }

    /// The replica has all slots of the stream; its acknowledgements count from `next` on.
    pub fn synced(&mut self, link: LinkId, next: Offset) {
        if let Some(State::Connected { synced, .. }) = self.state_mut(link) {
            *synced = Some(next);
        }
    }

    /// Forgets the replicas that were away for the whole reconnect window. Returns how many.
    pub fn expire(&mut self, now: Moment) -> usize {
        let before = self.slots.len();
        let window = self.reconnect_window_ms;
        self.slots.retain(|_, slot| match slot.state {
            State::Connected { .. } => true,
            State::Away { since } => now.ms_since(since) < window,
        });
        before - self.slots.len()
    }

    /// Which counting replicas have applied everything below `next`, by process: what a `WAIT` over several shards compares.
    pub fn ackers(&self, next: Offset) -> impl Iterator<Item = Acker> {
        self.slots.iter().filter(move |(_, slot)| slot.has_acked(next)).map(|(id, slot)| Acker::new(id, slot))
    }

    /// Whether there is one among the [`ackers`](Self::ackers) that is not `known`.
    pub fn has_more_ackers(&self, next: Offset, known: &[Acker]) -> bool {
        let mut acked = self.slots.iter().filter(|(_, slot)| slot.has_acked(next));
        acked.any(|(id, slot)| !known.iter().any(|acker| acker.is(id, slot)))
    }

    /// The counting replicas, each with when it last acknowledged: what the write gate asks.
    pub fn heard(&self) -> impl Iterator<Item = (Acker, Moment)> {
        self.slots.iter().filter(|(_, slot)| slot.counted_ack().is_some()).filter_map(|(id, slot)| match slot.state {
            State::Connected { acked_at, .. } => Some((Acker::new(id, slot), acked_at)),
            State::Away { .. } => None,
        })
    }

    /// What is remembered of the replica at the other end of `link`.
    pub fn get(&self, link: LinkId) -> Option<&ReplicaSlot> {
        self.slots.get(self.links.get(&link)?)
    }

    /// Everything that is remembered, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&ReplicaId, &ReplicaSlot)> {
        self.slots.iter()
    }

    /// How many replicas are connected, without the observers.
    pub fn connected(&self) -> usize {
        self.slots.values().filter(|slot| !slot.observer && slot.link().is_some()).count()
    }

    fn state_mut(&mut self, link: LinkId) -> Option<&mut State> {
        let id = self.links.get(&link)?;
        self.slots.get_mut(id).map(|slot| &mut slot.state)
    }

    fn forget_longest_away(&mut self) -> Result<(), AttachError> {
        let away = self.slots.iter().filter_map(|(id, slot)| match slot.state {
            State::Connected { .. } => None,
            State::Away { since } => Some((since, id)),
        });
        let id = away.min().map(|(_, id)| id.clone()).ok_or(AttachError::Full)?;
        self.slots.remove(&id);
        Ok(())
    }

    /// # Panics
    /// If the links are not exactly those of the connected slots.
    fn invariants(&self) {
        debug_assert!(self.slots.len() <= REPLICA_SLOTS_MAX);
        debug_assert_eq!(self.links.len(), self.slots.values().filter(|slot| slot.link().is_some()).count());
        debug_assert!(self.links.iter().all(|(&link, id)| self.slots[id].link() == Some(link)));
    }
}

impl Acker {
    /// The process at the other end of the latest link of `slot`, which is that of replica `id`.
    fn new(id: &ReplicaId, slot: &ReplicaSlot) -> Acker {
        Acker { replica: id.replica().into(), run: slot.dialer.map(|dialer| dialer.run) }
    }

    fn is(&self, id: &ReplicaId, slot: &ReplicaSlot) -> bool {
        *self.replica == *id.replica() && self.run == slot.dialer.map(|dialer| dialer.run)
    }
}

impl ReplicaSlot {
    /// Its link, if it has one.
    pub fn link(&self) -> Option<LinkId> {
        match self.state {
            State::Connected { link, .. } => Some(link),
            State::Away { .. } => None,
        }
    }

    fn has_acked(&self, next: Offset) -> bool {
        self.counted_ack().is_some_and(|acked| acked >= next)
    }

    /// What it has acknowledged, if that counts: it has all slots, is connected, and is no observer.
    pub fn counted_ack(&self) -> Option<Offset> {
        match self.state {
            State::Connected { acked_next: Some(acked), synced: Some(from), .. } if !self.observer && acked >= from => {
                Some(acked)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{Claim, Flags, Form, Options, StreamOf};
    use crate::id::ShardId;

    const WINDOW_MS: u64 = 1_000;

    fn hello(id: &str, dialer: Option<(u64, u64)>) -> Hello {
        let options = Options {
            dialer: dialer.map(|(run, dial)| Dialer { run, dial }),
            ..Options::new(StreamOf { shard: ShardId::new(0), of: None })
        };
        Hello { id: ReplicaId::new(id).unwrap(), claim: Claim::Empty, form: Form::Ours(options) }
    }

    fn observer(id: &str) -> Hello {
        let mut hello = hello(id, None);
        if let Form::Ours(options) = &mut hello.form {
            options.flags = Flags { observer: true, ..Flags::default() };
        }
        hello
    }

    fn ms(ms: u64) -> Moment {
        Moment::ZERO.plus_ms(ms)
    }

    fn at(next: u64) -> Offset {
        Offset::new(next)
    }

    fn table() -> SlotTable {
        SlotTable::new(WINDOW_MS)
    }

    fn min_acked(table: &SlotTable) -> Option<Offset> {
        table.iter().filter_map(|(_, slot)| slot.counted_ack()).min()
    }

    fn attach(table: &mut SlotTable, hello: &Hello) -> Attached {
        table.attach(hello, Offset::ZERO, ms(0)).unwrap()
    }

    #[test]
    fn an_ack_counts_only_once_the_link_is_synced() {
        let mut table = table();
        let link = attach(&mut table, &hello("r", None)).link;
        assert!(table.acked(link, at(10), ms(1)));
        assert_eq!((min_acked(&table), table.ackers(at(1)).count()), (None, 0), "slots are missing");
        table.synced(link, at(12));
        assert_eq!(table.ackers(at(1)).count(), 0, "it was sent before the first one that counts");
        table.acked(link, at(12), ms(2));
        assert_eq!(
            (min_acked(&table), table.ackers(at(12)).count(), table.ackers(at(13)).count()),
            (Some(at(12)), 1, 0)
        );
        assert!(!table.acked(link, at(11), ms(3)), "an ack never goes back");
    }

    #[test]
    fn an_observer_never_counts() {
        let mut table = table();
        let link = attach(&mut table, &observer("o")).link;
        table.synced(link, at(0));
        table.acked(link, at(10), ms(0));
        assert_eq!((min_acked(&table), table.ackers(at(0)).count(), table.connected()), (None, 0, 0));
        assert_eq!(table.heard().count(), 0);
    }

    #[test]
    fn the_newest_dial_of_a_process_wins_whichever_arrives_last() {
        let mut table = table();
        let newest = attach(&mut table, &hello("r", Some((7, 5))));
        table.synced(newest.link, at(0));
        table.acked(newest.link, at(3), ms(0));
        let error = table.attach(&hello("r", Some((7, 4))), at(0), ms(0));
        assert_eq!(error, Err(AttachError::OlderDial { dialled: 4, newest: 5 }));
        assert_eq!(min_acked(&table), Some(at(3)), "the live link is as it was");

        table.detach(newest.link, ms(0));
        assert!(table.attach(&hello("r", Some((7, 4))), at(0), ms(1)).is_err(), "also while it is away");
        let next = table.attach(&hello("r", Some((7, 6))), at(0), ms(1)).unwrap();
        let other_process = table.attach(&hello("r", Some((8, 1))), at(0), ms(2)).unwrap();
        assert_eq!(other_process.replaces, Some(next.link));
    }

    #[test]
    fn what_two_processes_of_one_id_acknowledge_does_not_add_up() {
        let acker = |run: u64| {
            let mut table = table();
            let link = attach(&mut table, &hello("r#0", Some((run, 1)))).link;
            table.synced(link, at(0));
            table.acked(link, at(5), ms(0));
            table.ackers(at(5)).next().unwrap()
        };
        assert_eq!(acker(7), acker(7));
        assert_ne!(acker(7), acker(8));
        let mut table = table();
        let link = attach(&mut table, &hello("r#1", Some((7, 9)))).link;
        table.synced(link, at(0));
        table.acked(link, at(5), ms(0));
        assert!(!table.has_more_ackers(at(5), &[acker(7)]), "the same process, on another stream");
        assert!(table.has_more_ackers(at(5), &[acker(8)]));
        assert!(!table.has_more_ackers(at(6), &[]));
    }

    #[test]
    fn what_a_replaced_link_said_is_forgotten_at_once() {
        let mut table = table();
        let old = attach(&mut table, &hello("r", Some((7, 1)))).link;
        table.synced(old, at(0));
        table.acked(old, at(100), ms(0));
        let new = attach(&mut table, &hello("r", Some((7, 2))));
        assert_eq!(new.replaces, Some(old));
        assert_eq!(min_acked(&table), None);
        // Whatever the old one still says, or that it ends, concerns nobody.
        assert!(!table.acked(old, at(200), ms(1)));
        table.synced(old, at(0));
        table.detach(old, ms(1));
        assert_eq!(table.get(new.link).and_then(ReplicaSlot::link), Some(new.link));
    }

    #[test]
    fn a_replica_is_forgotten_after_the_reconnect_window() {
        let mut table = table();
        let link = attach(&mut table, &hello("r", None)).link;
        let stays = attach(&mut table, &hello("s", None)).link;
        assert_eq!(table.expire(ms(99_999)), 0);
        table.detach(link, ms(500));
        assert_eq!(table.expire(ms(499 + WINDOW_MS)), 0);
        assert_eq!(table.expire(ms(500 + WINDOW_MS)), 1);
        assert_eq!(table.iter().count(), 1);
        assert!(table.get(stays).is_some());
    }

    #[test]
    fn the_slowest_counting_replica_decides() {
        let mut table = table();
        for (id, acked) in [("a", 5), ("b", 9), ("c", 7)] {
            let link = attach(&mut table, &hello(id, None)).link;
            table.synced(link, at(0));
            table.acked(link, at(acked), ms(acked));
        }
        attach(&mut table, &hello("syncing", None));
        assert_eq!(min_acked(&table), Some(at(5)));
        assert_eq!([5, 6, 8, 10].map(|next| table.ackers(at(next)).count()), [3, 2, 1, 0]);
        let mut heard: Vec<Moment> = table.heard().map(|(_, at)| at).collect();
        heard.sort();
        assert_eq!(heard, [5, 7, 9].map(ms));
        assert_eq!(table.connected(), 4);
    }

    #[test]
    fn dead_ids_make_room_and_connected_ones_do_not() {
        let mut table = table();
        let links: Vec<LinkId> =
            (0..REPLICA_SLOTS_MAX).map(|n| attach(&mut table, &hello(&format!("r{n}"), None)).link).collect();
        assert_eq!(table.attach(&hello("one-more", None), at(0), ms(0)), Err(AttachError::Full));
        table.detach(links[3], ms(1));
        assert!(table.attach(&hello("one-more", None), at(0), ms(2)).is_ok());
        assert_eq!(table.iter().count(), REPLICA_SLOTS_MAX);
    }
}
