//! What a shard keeps of one replica's link: a cursor into the backlog, the slots it still needs, and the dump items
//! that wait for it.
//!
//! ```text
//! backlog  … frame frame frame frame frame │ head
//!                    ▲ cursor       ▲ H of the front item: frames go first up to there, then the item
//! queue              [ (H, bytes) (H, bytes) … ]   at most `DUMP_QUEUE_BYTES_MAX` and one item
//! ```

use std::collections::VecDeque;

use bytes::Bytes;

use super::backlog::Cursor;
use crate::id::Offset;
use crate::limits;
use crate::slot::LinkId;
use crate::slotset::SlotSet;
use crate::wire::Item;

/// One replica's link, as the merge of frames and dump items sees it.
#[derive(Debug)]
pub(super) struct Link {
    pub id: LinkId,
    /// What the peer at the other end takes.
    pub peer: Peer,
    pub cursor: Cursor,
    /// Slots that are still to be sent.
    pub need: SlotSet,
    /// Whether `+SYNCEND` is owed once nothing is needed any more.
    pub owes_end: bool,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// Most dump bytes that wait, one item and what ends it excepted.
    queue_bytes_max: usize,
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

/// A dump item that waits for its turn.
#[derive(Debug)]
struct Queued {
    /// The position that it shows: it is sent when the cursor stands there.
    at: Offset,
    bytes: Bytes,
}

impl Link {
    pub fn new(id: LinkId, peer: Peer, cursor: Cursor, need: SlotSet, queue_bytes_max: usize) -> Link {
        let owes_end = !need.is_empty();
        Link { id, peer, cursor, need, owes_end, queue: VecDeque::new(), queued_bytes: 0, queue_bytes_max }
    }

    /// Whether one more dump item may wait for this link.
    pub fn has_room(&self) -> bool {
        self.queue.is_empty() || self.queued_bytes + limits::DUMP_SLOTS_BYTES_MAX <= self.queue_bytes_max
    }

    /// Dump bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// The position of the next waiting item.
    pub fn front(&self) -> Option<Offset> {
        self.queue.front().map(|q| q.at)
    }

    pub fn push(&mut self, at: Offset, bytes: Bytes) {
        assert!(self.cursor.next() <= at, "a dump item must not lie behind its link's cursor");
        debug_assert!(self.queue.back().is_none_or(|q| q.at <= at));
        self.queued_bytes += bytes.len();
        self.queue.push_back(Queued { at, bytes });
    }

    /// Asks for an acknowledgement behind everything up to `at`. One question that still waits is enough: what comes after its
    /// place is acknowledged as soon as that is applied, and a peer that takes nothing must not gather questions.
    pub fn ask(&mut self, at: Offset) {
        let question = Item::<&[u8]>::GetAck.encode();
        if self.queue.back().is_none_or(|last| last.bytes != question) {
            self.push(at, question);
        }
    }

    pub fn pop(&mut self) -> Option<Bytes> {
        let queued = self.queue.pop_front()?;
        self.queued_bytes -= queued.bytes.len();
        Some(queued.bytes)
    }

    /// After slots were taken out of `need`: announces the end if that was the last.
    pub fn end_if_whole(&mut self, at: Offset) {
        if self.owes_end && self.need.is_empty() {
            self.owes_end = false;
            self.push(at, Item::<&[u8]>::SyncEnd { at }.encode());
        }
    }
}
