//! The primary's end: what a shard records, and how it reaches every replica.
//!
//! ```text
//!  record ──▶ backlog ──┬── cursor ── link ──▶ Session ──▶ bytes to replica a
//!                       ├── cursor ── link ──▶ Session ──▶ bytes to replica b
//!  store  ──▶ walk ─────┴── dump items, the same bytes for all
//! ```
//!
//! [`Source`] is the shard's; a [`Session`] is one connection's. Neither does I/O nor reads a clock.

pub mod backlog;
mod link;
pub mod scrub;
mod segment;
pub mod session;
mod walk;

use bytes::Bytes;

pub use backlog::BelowWindow;
pub use session::{Event, Session, SessionError, Timeouts};

use crate::handshake::{
    Claim, Done, Form, Hello, History, Judgement, Lineage, Password, Refusal, RefuseReason, SyncReason, Verdict,
    Welcome, judge,
};
use crate::id::{Digest, Generation, HASH_SLOTS, HashSlot, Moment, Offset, ShardCount, ShardId, SlotRange};
use crate::limits;
use crate::slot::{AttachError, LinkId, SlotTable};
use crate::slotset::SlotSet;
use crate::snapshot::Keyspace;
use crate::timeline::Timeline;
use crate::wire::{Argv, Effects, Item, Upstream};
use backlog::Backlog;
use link::{Link, Peer};
use scrub::{Scrub, Scrubbed};
use walk::Walk;

/// How a [`Source`] begins.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// The shard.
    pub shard: ShardId,
    /// How many shards the node has.
    pub shards: ShardCount,
    /// The history that it begins; the same on all shards of the node.
    pub generation: Generation,
    /// Whether that history begins without data.
    pub born_empty: bool,
    /// What it continues.
    pub lineage: Lineage,
    /// Frames of the history before the first one that will be recorded here.
    pub first: Offset,
    /// Bytes of the backlog.
    pub backlog_bytes: usize,
    /// Milliseconds for which a replica that went away is remembered.
    pub reconnect_window_ms: u64,
    /// Where clients find this node, for the answer of the handshake.
    pub client_port: Option<u16>,
}

impl SourceConfig {
    /// A history that begins now, with nothing: no data, no ancestors, a minute for replicas that went away, no port for clients.
    pub fn new(shard: ShardId, shards: ShardCount, generation: Generation, backlog_bytes: usize) -> SourceConfig {
        SourceConfig {
            shard,
            shards,
            generation,
            born_empty: true,
            lineage: Lineage::none(),
            first: Offset::ZERO,
            backlog_bytes,
            reconnect_window_ms: 60_000,
            client_port: None,
        }
    }
}

/// The primary's part of one shard: its stream and everyone who reads it.
#[derive(Debug)]
pub struct Source {
    config: SourceConfig,
    backlog: Backlog,
    links: Vec<Link>,
    walk: Walk,
    scrub: Scrub,
    slots: SlotTable,
    counters: Counters,
    timeline: Timeline,
    /// Dump bytes that may wait for one link.
    dump_queue_bytes: usize,
    /// For how long a walk waits for a link whose queue is full.
    walk_patience_ms: u64,
    /// What a replica must say to be let in.
    password: Option<Password>,
}

/// What a source has done so far, for `INFO`.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Handshakes that ended in a sync, by the reason's place in [`SyncReason::ALL`].
    pub sync_full: [u64; SyncReason::ALL.len()],
    /// Handshakes that went on in the window with something to go on from.
    pub sync_partial_ok: u64,
    /// Handshakes that named a position and could not go on from it.
    pub sync_partial_err: u64,
    /// Handshakes that were refused.
    pub refused: u64,
}

/// How far a replica is behind on one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lag {
    /// Frames recorded and not acknowledged.
    pub frames: u64,
    /// Their bytes, as far as they are in the window, and dump bytes that wait.
    pub bytes: u64,
    /// How long ago the first of them was recorded, in milliseconds.
    pub ms: u64,
}

/// A replica that was let in.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its link.
    pub link: LinkId,
    /// The link of the same replica that it replaces: that connection is to be closed.
    pub replaces: Option<LinkId>,
    /// What it is told.
    pub welcome: Welcome,
}

/// Why a link cannot go on. It is closed; the shard is unharmed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkError {
    /// It fell out of the window: the replica will dial again and sync.
    #[error(transparent)]
    BelowWindow(#[from] BelowWindow),
    /// The link is not known any more: a newer one of the same replica replaced it.
    #[error("replaced by a newer link of the same replica")]
    Replaced,
    /// The shard has begun another history since.
    #[error("this node records another history now")]
    OtherHistory,
    /// The replica says that it has what was never recorded.
    #[error("acknowledges {acked}, and only {head} is recorded")]
    AckAhead {
        /// What it says.
        acked: Offset,
        /// What there is.
        head: Offset,
    },
    /// The replica wants a slot that this stream does not have.
    #[error("needs slot {0}, which is another shard's")]
    ForeignSlot(HashSlot),
}

impl Source {
    /// A source that has recorded nothing.
    pub fn new(config: SourceConfig) -> Source {
        Source {
            backlog: Backlog::new(config.first, config.backlog_bytes, true),
            links: Vec::new(),
            walk: Walk::new(),
            scrub: Scrub::new(config.shards.slots_of(config.shard)),
            slots: SlotTable::new(config.reconnect_window_ms),
            counters: Counters::default(),
            timeline: Timeline::default(),
            dump_queue_bytes: limits::DUMP_QUEUE_BYTES_MAX,
            walk_patience_ms: limits::WALK_PATIENCE_MS,
            password: None,
            config,
        }
    }

    /// The same source, which offers no check lines.
    ///
    /// # Panics
    /// If anything has been recorded.
    pub fn without_checks(mut self) -> Source {
        assert!(self.backlog.next() == self.config.first, "checks are of the whole window");
        self.backlog = Backlog::new(self.config.first, self.config.backlog_bytes, false);
        self
    }

    /// Records what the command `argv` did: the one place where a write gets its offset. Returns how many frames it took.
    #[inline]
    pub fn record(&mut self, effects: &Effects, argv: Argv<'_>) -> u64 {
        self.backlog.record(effects, argv)
    }

    /// Ends the turn: what it recorded may be sent from now on. `true` if there is a link that has something to send.
    pub fn end_turn(&mut self) -> bool {
        self.backlog.close_run();
        self.links.iter().any(|l| l.cursor.next() < self.backlog.closed())
    }

    /// The history that this shard records.
    pub fn history(&self) -> History {
        History {
            shard: self.config.shard,
            shards: self.config.shards,
            generation: self.config.generation,
            born_empty: self.config.born_empty,
            lineage: self.config.lineage.clone(),
            oldest: self.backlog.oldest(),
            head: self.backlog.next(),
        }
    }

    /// Its generation.
    pub fn generation(&self) -> Generation {
        self.config.generation
    }

    /// The slots that its stream is about.
    pub fn range(&self) -> SlotRange {
        self.config.shards.slots_of(self.config.shard)
    }

    /// The offset that the next frame will take.
    #[inline]
    pub fn next(&self) -> Offset {
        self.backlog.next()
    }

    /// The window of the latest frames.
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Sets what a replica must say to be let in, from the next link on; older forms cannot say it.
    pub fn set_password(&mut self, password: Option<Password>) {
        self.password = password;
    }

    /// Whether a peer that says this may be let in, or told what this node is.
    pub fn admits(&self, hello: &Hello) -> bool {
        let said = hello.options().and_then(|options| options.password.as_ref());
        self.password.is_none() || self.password.as_ref() == said
    }

    /// Sets the budget of the backlog, in bytes.
    pub fn set_backlog_bytes(&mut self, bytes: usize) {
        self.config.backlog_bytes = bytes;
        self.backlog.set_budget(bytes);
    }

    /// Memory that the backlog has given up and that takes long to give back: to be dropped beside the shard. Where nobody takes it,
    /// little of it piles up.
    pub fn take_retired(&mut self) -> Vec<impl Send + use<>> {
        self.backlog.take_retired()
    }

    /// Sets for how many milliseconds a walk waits for a link whose queue is full.
    pub fn set_walk_patience_ms(&mut self, ms: u64) {
        self.walk_patience_ms = ms;
    }

    /// Sets how many dump bytes may wait for a link, from the next link on; one item may, however large.
    pub fn set_dump_queue_bytes(&mut self, bytes: usize) {
        self.dump_queue_bytes = bytes;
    }

    /// Sets how many slots a second the whole node tells the digests of; 0, as at first, is none.
    pub fn set_scrub_slots_per_second(&mut self, slots: u32) {
        self.scrub.slots_per_second = slots;
    }

    /// One step of the scrub, to be made now and then, and again while there is more.
    pub fn scrub<K: Keyspace>(&mut self, keyspace: &mut K, now: Moment) -> Scrubbed {
        if !self.links.iter().any(|link| link.peer == Peer::Items) {
            self.scrub.rest(keyspace);
            return Scrubbed::default();
        }
        let (range, shards) = (self.range(), self.config.shards);
        self.scrub.fill(now, shards);
        let told = self.scrub.step(keyspace, range, shards, self.to_prove());
        if let Some((slot, digest)) = told {
            self.tell_digest(slot, Some(digest), limits::SCRUB_QUEUE_ITEMS_MAX);
        }
        Scrubbed { sends: told.is_some(), more: self.scrub.is_due(shards, self.to_prove()) }
    }

    /// Scrubs `slot` before the round goes on, for every replica that has it, whatever the rate.
    pub fn scrub_first(&mut self, slot: HashSlot) {
        if self.range().contains(slot) {
            for link in self.links.iter_mut().filter(|link| !link.need.contains(slot)) {
                link.unproved.insert(slot);
            }
        }
    }

    /// The next slot that is to be proved to a link that takes its digest now.
    fn to_prove(&self) -> Option<HashSlot> {
        let start = self.scrub.after_proved;
        let of_links = self.links.iter().filter_map(|link| link.to_prove(start, limits::SCRUB_QUEUE_ITEMS_MAX));
        of_links.min_by_key(|slot| slot.get().wrapping_sub(start.get()) % HASH_SLOTS as u16)
    }

    /// Lets every replica that has `slot` note the digest that it has at this point of the stream, which is returned.
    pub fn probe(&mut self, slot: HashSlot) -> Offset {
        self.tell_digest(slot, None, limits::PROBE_QUEUE_ITEMS_MAX)
    }

    /// Tells every replica that has `slot`, and for which no more than some items wait, the digest that it has at this moment.
    fn tell_digest(&mut self, slot: HashSlot, digest: Option<Digest>, waiting_max: usize) -> Offset {
        self.backlog.close_run();
        let at = self.backlog.closed();
        let line = Item::<&[u8]>::Digest { slot, at, digest }.seal(at, self.backlog.has_checks());
        for link in self.links.iter_mut().filter(|link| link.takes_digest_of(slot, waiting_max)) {
            link.push(at, &line);
            if digest.is_some() {
                link.unproved.remove(slot);
            }
        }
        at
    }

    /// What the scrub has done so far.
    pub fn scrub_counters(&self) -> scrub::Counters {
        self.scrub.counters
    }

    /// The replicas that are remembered.
    pub fn slots(&self) -> &SlotTable {
        &self.slots
    }

    /// Notes where the stream is now: what lags are measured by. To be called often, and also where nothing was recorded.
    pub fn mark(&mut self, now: Moment) {
        self.timeline.mark(self.backlog.next(), now);
    }

    /// How far a replica is behind that has acknowledged everything below `acked` on `link`.
    pub fn lag(&self, link: LinkId, acked: Offset, now: Moment) -> Lag {
        let (unsent, dump) = self.bytes_behind(link).unwrap_or_default();
        // What is on its way is not there. Below the window it is known only of what is still here.
        let bytes = self.backlog.seek(acked).map_or(unsent, |cursor| self.backlog.bytes_behind(cursor));
        let frames = self.backlog.next().since(acked);
        let ms = if frames == 0 { 0 } else { self.timeline.age_ms(acked, now) };
        Lag { frames, bytes: (bytes + dump) as u64, ms }
    }

    /// Forgets the replicas that have been away for too long.
    pub fn expire_slots(&mut self, now: Moment) {
        self.slots.expire(now);
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Slots dumped so far, once for all links that took them.
    pub fn slots_dumped(&self) -> u64 {
        self.walk.slots_dumped
    }

    /// How far a link is behind, in encoded bytes of the backlog and in dump bytes that wait for it.
    pub fn bytes_behind(&self, link: LinkId) -> Option<(usize, usize)> {
        let link = self.links.iter().find(|l| l.id == link)?;
        Some((self.backlog.bytes_behind(link.cursor), link.queued_bytes()))
    }

    /// Lets a replica in, as [`judge`](fn@judge) says.
    ///
    /// # Errors
    /// What it is to be told if it is refused.
    pub fn attach(&mut self, hello: &Hello, now: Moment) -> Result<Accepted, Refusal> {
        self.backlog.close_run();
        let history = self.history();
        let judgement = judge(hello, &history);
        let verdict = Verdict::of(judgement).map_err(|reason| self.refuse(reason))?;
        let range = self.range();
        let (next, need) = match judgement {
            Judgement::Stream { next, .. } => (next, self.still_needed(&hello.claim, range)),
            Judgement::Sync(_) | Judgement::Refuse(_) => (history.head, SlotSet::full(range)),
        };
        // A position in the window that lies inside a group was never claimed by us: groups are taken whole.
        let cursor = self.backlog.seek(next).map_err(|_| self.refuse(RefuseReason::NeedsSync(SyncReason::TooOld)))?;
        let attached = self.slots.attach(hello, next, now).map_err(|error| match error {
            AttachError::OlderDial { .. } => self.refuse(RefuseReason::OlderDial),
            AttachError::Full => self.refuse(RefuseReason::TooManyReplicas),
        })?;
        if let Some(old) = attached.replaces {
            self.forget(old);
        }
        let peer = match &hello.form {
            Form::Ours(options) if options.flags.items => Peer::Items,
            Form::Ours(_) | Form::Generation => Peer::Pings,
            Form::Offset => Peer::Frames,
        };
        let mut link = Link::new(attached.link, peer, cursor, need, self.dump_queue_bytes);
        link.checks = self.takes_checks(hello);
        // Whether it was told them before, or they were lost with its last link, nobody knows.
        link.unproved = self.walk.unproved.clone();
        link.unproved.subtract(&link.need);
        match verdict {
            Verdict::Sync(reason) => {
                if let Some(index) = SyncReason::ALL.iter().position(|r| *r == reason) {
                    self.counters.sync_full[index] += 1;
                }
                if hello.claim != Claim::Empty {
                    self.counters.sync_partial_err += 1;
                }
                let sync = Item::<&[u8]>::Sync { generation: history.generation, at: next, last_tx: 0 };
                link.push(next, &sync.seal(next, link.checks));
            }
            Verdict::Stream if hello.claim != Claim::Empty => self.counters.sync_partial_ok += 1,
            Verdict::Stream => {}
        }
        let crc = link.checks;
        self.links.push(link);
        let welcome = Welcome { next, verdict, crc, ..self.introduction() };
        Ok(Accepted { link: attached.link, replaces: attached.replaces, welcome })
    }

    /// What this shard is, for a peer that asks nothing else.
    pub fn introduction(&self) -> Welcome {
        let history = self.history();
        Welcome {
            generation: history.generation,
            next: history.head,
            shard: history.shard,
            shards: history.shards,
            born_empty: history.born_empty,
            lineage: history.lineage,
            oldest: history.oldest,
            head: history.head,
            verdict: Verdict::Sync(SyncReason::Empty),
            crc: false,
            client_port: self.config.client_port,
        }
    }

    /// The link is gone; the replica is remembered for the reconnect window.
    pub fn detach(&mut self, link: LinkId, now: Moment) {
        self.forget(link);
        self.slots.detach(link, now);
    }

    /// Takes what a replica said. `true` if an acknowledgement moved: whoever waits for one may look again.
    ///
    /// # Errors
    /// If it says what cannot be.
    pub fn handle_upstream(&mut self, id: LinkId, said: Upstream, now: Moment) -> Result<bool, LinkError> {
        let range = self.range();
        let link = self.links.iter_mut().find(|l| l.id == id).ok_or(LinkError::Replaced)?;
        match said {
            Upstream::Ack(acked) | Upstream::Synced { at: acked, .. } if acked > self.backlog.next() => {
                Err(LinkError::AckAhead { acked, head: self.backlog.next() })
            }
            Upstream::Ack(acked) => Ok(self.slots.acked(id, acked, now)),
            Upstream::Synced { generation, at } => {
                // A word about another history, or from before a slot that is needed again, is not about this link.
                let counts = generation == self.config.generation && link.need.is_empty();
                if counts {
                    self.slots.synced(id, at);
                }
                Ok(counts)
            }
            Upstream::Need(slot) if !range.contains(slot) => Err(LinkError::ForeignSlot(slot)),
            // Whoever takes no items cannot have missed one.
            Upstream::Need(_) if link.peer != Peer::Items => Ok(false),
            Upstream::Need(slot) => {
                // What it has of a slot under way it has rejected, and the end of that must not count as the slot.
                if self.walk.leave(id, slot) {
                    link.release(self.backlog.closed());
                }
                link.need.insert(slot);
                link.unproved.remove(slot);
                link.owes_end = true;
                Ok(false)
            }
        }
    }

    /// The next bytes for a link, as the merge rule has it: a dump never overtakes a frame, and no frame overtakes a dump of
    /// an earlier position. `None`: it has everything, or [waits](Self::needs_slots) for a moment until others can take a slot, too.
    ///
    /// # Errors
    /// If the link cannot go on.
    pub fn poll_transmit<K: Keyspace>(
        &mut self,
        id: LinkId,
        keyspace: &K,
        now: Moment,
    ) -> Result<Option<Bytes>, LinkError> {
        let index = self.links.iter().position(|l| l.id == id).ok_or(LinkError::Replaced)?;
        loop {
            let link = &mut self.links[index];
            let until = link.frames_until().min(self.backlog.closed());
            if link.cursor.next() < until {
                let read = if link.checks { Backlog::read_checked } else { Backlog::read };
                let bytes = read(&self.backlog, &mut link.cursor, until, limits::SEND_BYTES_TARGET)?;
                self.slots.sent(id, link.cursor.next());
                let strip = link.peer != Peer::Items && self.backlog.has_groups();
                let bytes = if strip { backlog::without_group_lines(bytes) } else { bytes };
                return Ok(Some(link.with_items(bytes)));
            }
            if let Some(bytes) = link.pop() {
                return Ok(Some(bytes));
            }
            if link.need.is_empty() {
                return Ok(None);
            }
            if self.waits_for_others(index, now) {
                return Ok(None);
            }
            self.walk.step(&mut self.links, index, &mut self.backlog, keyspace);
        }
    }

    /// Whether a link that could drive the walk leaves another one time to make room: what a link misses is dumped again.
    fn waits_for_others(&mut self, index: usize, now: Moment) -> bool {
        let patience = self.walk_patience_ms;
        let others = self.links.iter_mut().enumerate().filter(|(other, _)| *other != index);
        // All are looked at, so that the time of all that are full begins now.
        others.filter_map(|(_, link)| link.holds_up(now, patience).then_some(())).count() > 0
    }

    /// The heartbeat of a link, or `None` where the peer knows none.
    pub fn heartbeat(&mut self, id: LinkId) -> Option<Bytes> {
        let ping = Item::<&[u8]>::Ping { generation: self.config.generation, next: self.backlog.closed() };
        let link = self.links.iter_mut().find(|l| l.id == id)?;
        (link.peer != Peer::Frames).then(|| ping.seal(link.cursor.next(), link.checks).of_link(link.checks))
    }

    /// Asks every replica of ours to acknowledge at once.
    pub fn get_acks(&mut self) {
        self.backlog.close_run();
        let at = self.backlog.closed();
        for link in self.links.iter_mut().filter(|l| l.peer == Peer::Items) {
            link.ask(at);
        }
    }

    /// Links that are open, in the order in which they came.
    pub fn links(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.links.iter().map(|l| l.id)
    }

    /// Whether a link has slots to come that are not queued for it.
    pub fn needs_slots(&self, link: LinkId) -> bool {
        self.links.iter().any(|l| l.id == link && !l.need.is_empty())
    }

    /// Whether a link still needs slots.
    pub fn is_syncing(&self, link: LinkId) -> bool {
        self.links.iter().any(|l| l.id == link && (l.owes_end || !l.need.is_empty()))
    }

    /// Whether a replica wants check lines and is sent what they are of: runs with their group lines.
    fn takes_checks(&self, hello: &Hello) -> bool {
        self.backlog.has_checks() && hello.options().is_some_and(|options| options.flags.crc && options.flags.items)
    }

    /// Whether a link that needs no slots can be given more at once: frames or items.
    pub fn has_something_for(&self, link: LinkId) -> bool {
        self.links.iter().any(|l| l.id == link && l.has_something(self.backlog.closed()))
    }

    fn still_needed(&self, claim: &Claim, range: SlotRange) -> SlotSet {
        match claim {
            Claim::At { done: Done::These(done), .. } => {
                let mut need = SlotSet::full(range);
                need.subtract(done);
                need
            }
            Claim::At { done: Done::All, .. } | Claim::Empty | Claim::Bare(_) => SlotSet::empty(),
        }
    }

    fn forget(&mut self, link: LinkId) {
        self.links.retain(|l| l.id != link);
        self.walk.forget(link);
    }

    fn refuse(&mut self, reason: RefuseReason) -> Refusal {
        self.counters.refused += 1;
        if matches!(reason, RefuseReason::NeedsSync(_)) {
            self.counters.sync_partial_err += 1;
        }
        Refusal::new(reason)
    }
}
