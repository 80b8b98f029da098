//! What a shard keeps of one replica's link: a cursor into the backlog, the slots it still needs, and the dump items
//! that wait for it.
//!
//! ```text
//! backlog  … frame frame frame frame frame │ head
//!                    ▲ cursor       ▲ H of the front item: frames go first up to there, then the item
//! queue              [ (H, bytes) (H, bytes) … ]   at most `DUMP_QUEUE_BYTES_MAX` and one item
//! held                    H: a value of one moment comes in several items; no frame goes before the last of them
//! ```

use std::collections::VecDeque;

use bytes::Bytes;

use super::backlog::Cursor;
use crate::id::{HashSlot, Moment, Offset};
use crate::limits;
use crate::slot::LinkId;
use crate::slotset::SlotSet;
use crate::wire::Item;
use crate::wire::item::Sealed;

/// One replica's link, as the merge of frames and dump items sees it.
#[derive(Debug)]
pub(super) struct Link {
    pub id: LinkId,
    /// What the peer at the other end takes.
    pub peer: Peer,
    /// Whether check lines are sent.
    pub checks: bool,
    /// No frame from here on is sent: the pieces of a value that are of this moment are still coming.
    held: Option<Held>,
    pub cursor: Cursor,
    /// Slots that are still to be sent.
    pub need: SlotSet,
    /// Slots that it has and that were dumped without a digest, until it is told one. None of them is needed.
    pub unproved: SlotSet,
    /// Whether `+SYNCEND` is owed once nothing is needed any more.
    pub owes_end: bool,
    queue: VecDeque<Queued>,
    /// The position of the last question.
    asked: Option<Offset>,
    queued_bytes: usize,
    /// Most dump bytes that wait, one item and what ends it excepted.
    queue_bytes_max: usize,
    /// Since when the queue has been found full, if it has not been empty since.
    full_since: Option<Moment>,
}

/// What a peer takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Peer {
    /// Frames, groups, dump items, control lines.
    Items,
    /// Frames and heartbeats.
    Pings,
    /// Frames and nothing else.
    Frames,
}

/// The moment at which a link is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    at: Offset,
    /// An acknowledgement was asked for meanwhile.
    asked: bool,
}

/// A dump item that waits for its turn.
#[derive(Debug)]
struct Queued {
    /// The position that it shows: it is sent when the cursor stands there.
    at: Offset,
    bytes: Bytes,
    /// Whether it asks for an acknowledgement.
    is_question: bool,
}

impl Link {
    pub fn new(id: LinkId, peer: Peer, cursor: Cursor, need: SlotSet, queue_bytes_max: usize) -> Link {
        Link {
            id,
            peer,
            checks: false,
            held: None,
            cursor,
            owes_end: !need.is_empty(),
            need,
            unproved: SlotSet::empty(),
            queue: VecDeque::new(),
            asked: None,
            queued_bytes: 0,
            queue_bytes_max,
            full_since: None,
        }
    }

    /// Whether one more dump item may wait for this link.
    pub fn has_room(&self) -> bool {
        self.queue.is_empty() || self.queued_bytes + limits::DUMP_SLOTS_BYTES_MAX <= self.queue_bytes_max
    }

    /// Whether a digest of `slot` is of use to it now.
    pub fn takes_digest_of(&self, slot: HashSlot, waiting_max: usize) -> bool {
        self.takes_digests(waiting_max) && !self.need.contains(slot)
    }

    /// The first slot from `start` on, around the end, that is to be proved to it, if it takes digests now.
    pub fn to_prove(&self, start: HashSlot, waiting_max: usize) -> Option<HashSlot> {
        if self.takes_digests(waiting_max) { self.unproved.first_from(start) } else { None }
    }

    /// One that takes nothing must not gather digests. And nothing of a later moment goes between two pieces of one: a link that
    /// is held misses this round.
    fn takes_digests(&self, waiting_max: usize) -> bool {
        self.peer == Peer::Items && self.held.is_none() && self.queue.len() < waiting_max
    }

    /// Whether the walk is to wait for this link: it needs slots and has no room, and has not been so for `patience_ms`. Replicas are
    /// not equally fast at every moment; what one misses is dumped again for it.
    pub fn holds_up(&mut self, now: Moment, patience_ms: u64) -> bool {
        if self.need.is_empty() || self.has_room() {
            return false;
        }
        now.ms_since(*self.full_since.get_or_insert(now)) < patience_ms
    }

    /// Whether anything can be sent at once, where frames are sent up to `closed`.
    pub fn has_something(&self, closed: Offset) -> bool {
        !self.queue.is_empty() || self.cursor.next() < self.frames_until().min(closed)
    }

    /// Dump bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Frames are sent up to here, and not further: to the position of the next waiting item, or to where the link is held.
    pub fn frames_until(&self) -> Offset {
        let held = self.held.map_or(Offset::MAX, |held| held.at);
        self.queue.front().map_or(held, |queued| queued.at.min(held))
    }

    /// Holds the frames from `at` on, until [`release`](Self::release).
    pub fn hold(&mut self, at: Offset) {
        let asked = self.held.is_some_and(|held| held.asked);
        self.held = Some(Held { at, asked });
    }

    /// Lets the frames go that were held; `at` is the head.
    pub fn release(&mut self, at: Offset) {
        if self.held.take().is_some_and(|held| held.asked) {
            self.ask(at);
        }
    }

    /// Queues an item that was sealed at `at`.
    pub fn push(&mut self, at: Offset, item: &Sealed) {
        self.enqueue(Queued { at, bytes: item.of_link(self.checks), is_question: false });
    }

    fn enqueue(&mut self, item: Queued) {
        assert!(self.cursor.next() <= item.at, "a dump item must not lie behind its link's cursor");
        debug_assert!(self.queue.back().is_none_or(|q| q.at <= item.at));
        self.queued_bytes += item.bytes.len();
        self.queue.push_back(item);
    }

    /// Asks for an acknowledgement behind everything up to `at`, once: what was asked is answered as soon as that is applied. Nor does
    /// one question follow another that still waits: a peer that takes nothing must not gather them.
    pub fn ask(&mut self, at: Offset) {
        if self.asked == Some(at) {
            return;
        }
        // Nothing of a later moment goes between two pieces of one.
        if let Some(held) = &mut self.held {
            held.asked = true;
            return;
        }
        if !self.queue.back().is_some_and(|last| last.is_question) {
            let question = Item::<&[u8]>::GetAck.seal(at, self.checks);
            self.enqueue(Queued { at, bytes: question.of_link(self.checks), is_question: true });
            self.asked = Some(at);
        }
    }

    /// These frames, which end at the cursor, with the items that come right behind them where all of it is little: one send does.
    pub fn with_items(&mut self, frames: Bytes) -> Bytes {
        let joins = |link: &Link, len: usize| {
            let next = link.queue.front().filter(|next| next.at == link.cursor.next());
            next.is_some_and(|next| len + next.bytes.len() <= limits::SEND_JOINED_BYTES_MAX)
        };
        if !joins(self, frames.len()) {
            return frames;
        }
        let mut joined = frames.to_vec();
        while joins(self, joined.len())
            && let Some(item) = self.pop()
        {
            joined.extend_from_slice(&item);
        }
        joined.into()
    }

    /// The item that is next, once the frames before it are sent.
    pub fn pop(&mut self) -> Option<Bytes> {
        let queued = self.queue.pop_front()?;
        assert!(self.cursor.next() == queued.at, "a dump item is sent at its own position");
        self.queued_bytes -= queued.bytes.len();
        if self.queue.is_empty() {
            self.full_since = None;
        }
        Some(queued.bytes)
    }

    /// After slots were taken out of `need`: announces the end if that was the last.
    pub fn end_if_whole(&mut self, at: Offset) {
        if self.owes_end && self.need.is_empty() {
            self.owes_end = false;
            self.push(at, &Item::<&[u8]>::SyncEnd { at }.seal(at, self.checks));
        }
    }
}
