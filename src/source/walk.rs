//! One walk over the hash slots of a shard, for all replicas that need some.
//!
//! Whoever is ready to send calls [`Walk::step`], so the fastest link drives. A step encodes the next piece **now**, as of
//! the head, and hands the same bytes to every member of the slot; a member without room leaves the slot and gets it
//! another time. A link that joins late needs nothing more than its set of needed slots: the walk wraps around.
//!
//! A link whose queue is full is waited for, but only for a moment and only once until its queue has been empty: links are not equally
//! fast at every moment, and what one misses is dumped again; a link that stands still holds nobody up.
//!
//! Only members drive a slot that is open; a link that comes while others are in one begins its own. Who drives has room, so
//! somebody finishes each slot. If strangers drove it, too, two links slower than a step would throw each other out for ever.
//!
//! ```text
//! slots   … done │ packed: +SLOTS │ +SLOTBEGIN piece piece … │ not begun …
//!                └ ≤ 128 KiB      └ open: members, cursor; a link is in one at most
//! ```
//!
//! Of a value that has no places for pieces as of now, a long list, all pieces are of the moment at which the store froze it: its
//! members are **held** there, so that no frame goes before the last of them. Only here the window must last for one value.

use super::backlog::Backlog;
use super::link::Link;
use crate::id::{HASH_SLOTS, HashSlot, Offset, SlotRange};
use crate::limits;
use crate::slot::LinkId;
use crate::slotset::SlotSet;
use crate::snapshot::{Copy, DumpCursor, Keyspace};
use crate::wire::Item;
use crate::wire::item::{SECTION_HEAD_BYTES, seal_section};

/// The state of a shard's walk.
#[derive(Debug)]
pub(super) struct Walk {
    /// Slots that are being dumped in pieces. No link is a member of two; none is without members.
    open: Vec<OpenSlot>,
    /// Where the search for the next slot begins.
    next: HashSlot,
    /// Slots whose latest dump ended without a digest.
    pub unproved: SlotSet,
    /// Slots dumped so far, in whole or in part, for INFO.
    pub slots_dumped: u64,
}

/// A slot that is being dumped in pieces.
#[derive(Debug)]
struct OpenSlot {
    slot: HashSlot,
    cursor: DumpCursor,
    /// The links that have its beginning.
    members: Vec<LinkId>,
    /// The position that the next piece shows, while it is the same as that of the last one; the members are held there.
    held: Option<Offset>,
    /// Bytes encoded so far: a slot that is too large to digest at once is proved otherwise.
    bytes: usize,
}

impl Walk {
    pub fn new() -> Walk {
        Walk { open: Vec::new(), next: HashSlot::from_crc16(0), unproved: SlotSet::empty(), slots_dumped: 0 }
    }

    /// Encodes the next piece and queues it for its members. `caller` is the index of a link that needs a slot.
    pub fn step<K: Keyspace>(&mut self, links: &mut [Link], caller: usize, backlog: &mut Backlog, keyspace: &K) {
        // What a dump shows is the end of a run: the open one ends here.
        backlog.close_run();
        let id = links[caller].id;
        match self.open.iter().position(|open| open.members.contains(&id)) {
            Some(index) => {
                let open = self.open.swap_remove(index);
                self.go_on(open, links, backlog, keyspace);
            }
            None => self.begin(links, caller, backlog, keyspace),
        }
    }

    /// Whether a link can take the beginning of a slot.
    fn is_free(&self, link: &Link) -> bool {
        link.has_room() && !self.open.iter().any(|open| open.members.contains(&link.id))
    }

    /// A link is gone.
    pub fn forget(&mut self, link: LinkId) {
        self.open.retain_mut(|open| {
            open.members.retain(|member| *member != link);
            !open.members.is_empty()
        });
    }

    /// A link wants a slot from its beginning on: it has no part any more in the one that is open. `true`: it had.
    pub fn leave(&mut self, link: LinkId, slot: HashSlot) -> bool {
        let had = self.open.iter().any(|open| open.slot == slot && open.members.contains(&link));
        if had {
            // It is in no other.
            self.forget(link);
        }
        had
    }

    /// Takes the next slot that the caller needs; small ones that follow it go into the same item.
    fn begin<K: Keyspace>(&mut self, links: &mut [Link], caller: usize, backlog: &Backlog, keyspace: &K) {
        let at = backlog.closed();
        let Some(first) = links[caller].need.first_from(self.next) else { return };
        let mut payload = Vec::with_capacity(limits::DUMP_SLOTS_BYTES_MAX + limits::DUMP_STEP_BYTES / 4);
        let mut count = 0;
        while let Some(slot) = HashSlot::new(first.get() + count)
            && links[caller].need.contains(slot)
            && payload.len() < limits::DUMP_SLOTS_BYTES_MAX * 3 / 4
        {
            let head = payload.len();
            if keyspace.slot_len(Copy::Live, slot) > 0 {
                payload.resize(head + SECTION_HEAD_BYTES, 0);
                let room = limits::DUMP_SLOTS_BYTES_MAX - payload.len();
                match keyspace.dump(slot, DumpCursor::START, room, &mut payload) {
                    None => {
                        seal_section(slot, keyspace.digest(Copy::Live, slot), head, &mut payload);
                    }
                    Some(cursor) if count == 0 => {
                        self.open_slot(slot, cursor, &payload[SECTION_HEAD_BYTES..], links, backlog);
                        return;
                    }
                    Some(_) => {
                        payload.truncate(head);
                        break;
                    }
                }
            }
            count += 1;
        }
        self.next = HashSlot::from_crc16((first.get() + count) % HASH_SLOTS as u16);
        self.slots_dumped += u64::from(count);
        let item = Item::Slots { first, count, at, payload }.seal(at, backlog.has_checks());
        let packed = || (first.get()..first.get() + count).filter_map(HashSlot::new);
        self.unproved.remove_range(SlotRange { first: first.get(), end: first.get() + count });
        for link in links.iter_mut().filter(|l| self.is_free(l) && packed().any(|slot| l.need.contains(slot))) {
            link.push(at, &item);
            for slot in packed() {
                link.need.remove(slot);
            }
            link.end_if_whole(at);
        }
    }

    /// Begins a slot that does not fit one item; `records` are its first piece, and `cursor` is behind it.
    fn open_slot(&mut self, slot: HashSlot, cursor: DumpCursor, records: &[u8], links: &mut [Link], backlog: &Backlog) {
        let at = backlog.closed();
        let begin = Item::<&[u8]>::SlotBegin { slot, at }.seal(at, backlog.has_checks());
        let piece = Item::Piece { slot, at, payload: records }.seal(at, backlog.has_checks());
        let mut members = Vec::new();
        for link in links.iter_mut().filter(|l| self.is_free(l) && l.need.contains(slot)) {
            link.push(at, &begin);
            link.push(at, &piece);
            if cursor.frozen {
                link.hold(at);
            }
            members.push(link.id);
        }
        let held = cursor.frozen.then_some(at);
        self.open.push(OpenSlot { slot, cursor, members, held, bytes: records.len() });
        self.next = after(slot);
    }

    /// The next piece of the open slot, and its end if that was the last.
    fn go_on<K: Keyspace>(&mut self, open: OpenSlot, links: &mut [Link], backlog: &Backlog, keyspace: &K) {
        let OpenSlot { slot, cursor, mut members, held, bytes } = open;
        let at = held.unwrap_or(backlog.closed());
        let mut payload = Vec::with_capacity(limits::DUMP_STEP_BYTES * 5 / 4);
        let rest = keyspace.dump(slot, cursor, limits::DUMP_STEP_BYTES, &mut payload);
        let bytes = bytes + payload.len();
        let piece = Item::Piece { slot, at, payload }.seal(at, backlog.has_checks());
        let end = rest.is_none().then(|| {
            // What the keyspace is now is not what it was where the members are held.
            let small = bytes <= limits::DIGEST_AT_ONCE_BYTES_MAX && held.is_none();
            let digest = small.then(|| keyspace.digest(Copy::Live, slot));
            match small {
                true => self.unproved.remove(slot),
                false => self.unproved.insert(slot),
            };
            Item::<&[u8]>::SlotEnd { slot, at, digest }.seal(at, backlog.has_checks())
        });
        let holds = rest.as_ref().is_some_and(|cursor| cursor.frozen);
        members.retain(|member| {
            let Some(link) = links.iter_mut().find(|l| l.id == *member) else { return false };
            if !link.has_room() {
                link.push(at, &Item::<&[u8]>::SlotDrop { slot }.seal(at, link.checks));
                link.release(backlog.closed());
                return false;
            }
            link.push(at, &piece);
            if let Some(end) = &end {
                link.push(at, end);
                link.need.remove(slot);
                if self.unproved.contains(slot) {
                    link.unproved.insert(slot);
                }
                link.end_if_whole(at);
            }
            match holds {
                true => link.hold(at),
                false => link.release(backlog.closed()),
            }
            true
        });
        match rest {
            Some(cursor) if !members.is_empty() => {
                self.open.push(OpenSlot { slot, cursor, members, held: holds.then_some(at), bytes });
            }
            Some(_) => {}
            None => self.slots_dumped += 1,
        }
    }
}

/// The slot after `slot`, around the end.
fn after(slot: HashSlot) -> HashSlot {
    HashSlot::from_crc16((slot.get() + 1) % HASH_SLOTS as u16)
}
