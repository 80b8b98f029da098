//! Takes one upstream stream apart for the shards that own its slots, and knows how far they have come.
//!
//! ```text
//!              ┌─ lane 0: [batch batch] open batch     ──▶ ring ──▶ owner 0
//! events ──────┼─ lane 1: [batch]       open batch     ──▶ ring ──▶ owner 1
//!              └─ lane 2: …                                  ◀── Done, in order
//! ```
//!
//! The watermark is the lowest offset that was dispatched and is not applied: what may be acknowledged. It never counts what is
//! merely received, and it stands still while batches of an earlier history are under way.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::{Batch, Body, Done, FrameBatch, Gate};
use crate::id::{Offset, ShardCount, ShardId, SlotRange};
use crate::limits;
use crate::replica::{Ask, Event};
use crate::snapshot::Located;
use crate::wire::effect::key_of;
use crate::wire::item::sections;
use crate::wire::{Frames, Item};

/// The routing of one upstream stream.
#[derive(Debug)]
pub struct Router {
    stream: ShardId,
    /// The local shards.
    owners: ShardCount,
    /// The slots of the stream.
    range: SlotRange,
    /// One for each local shard.
    lanes: Vec<Lane>,
    /// Everything below has been dispatched.
    received: Offset,
    /// Rises with every `+SYNC`: offsets of two epochs are not compared.
    epoch: u64,
    /// Rises with every connection: a marker of an earlier one says nothing about this.
    session: u64,
    /// Whether all lanes are past the marker of this session and nothing is missing: to be told once.
    synced: bool,
}

#[derive(Debug, Default)]
struct Lane {
    /// Being filled.
    open: FrameBatch,
    /// What the open batch holds up: the first offset in it, or of the group that a frame of it belongs to.
    open_floor: Offset,
    /// The first offset of the group that the latest frame of the open batch belongs to.
    open_group: Option<Offset>,
    /// Waiting for ring space.
    ready: VecDeque<Batch>,
    /// Dispatched and not done, in order; those still in `ready` included.
    pending: VecDeque<Pending>,
    /// Emptied batches.
    spare: Vec<FrameBatch>,
    /// Slots of the stream that the owner lacks, as it said last.
    missing: usize,
    /// Whether the owner may have something to ask for without having been given anything.
    proving: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    epoch: u64,
    /// The first offset that is not applied as long as this is pending.
    floor: Offset,
    /// The session of a marker.
    marker: Option<u64>,
    /// Bytes of its frames.
    bytes: usize,
    /// Whether a key may come of it.
    data: bool,
}

impl Router {
    /// A router of upstream stream `stream`, whose slots are `range`, to `owners` local shards.
    pub fn new(stream: ShardId, range: SlotRange, owners: ShardCount) -> Router {
        let lane = |owner| Lane { missing: range.intersect(owners.slots_of(owner)).len(), ..Lane::default() };
        Router {
            stream,
            owners,
            range,
            lanes: owners.shards().map(lane).collect(),
            received: Offset::ZERO,
            epoch: 0,
            session: 0,
            synced: false,
        }
    }

    /// Takes what the stream said next.
    pub fn take(&mut self, event: Event<'_>, locate: impl Fn(&[u8]) -> Located) {
        match event {
            Event::Frames(frames) => self.frames(frames, false, locate),
            Event::Group(frames) => self.frames(frames, true, locate),
            Event::Item(item) => self.item(&item),
            Event::Whole { .. } => {
                self.synced = false;
                let session = self.session;
                self.send_all(|| Body::Marker, Some(session));
            }
            Event::Heard => {
                for index in (0..self.lanes.len()).filter(|index| self.lanes[*index].proving).collect::<Vec<_>>() {
                    self.close(index);
                    self.dispatch(index, Body::Poll, self.received, None);
                }
            }
            Event::Welcomed(_) => {}
        }
    }

    /// A connection begins or ends: the owners begin their loading slots anew, and markers of before are void.
    pub fn link_cut(&mut self) {
        self.session += 1;
        self.synced = false;
        self.send_all(|| Body::Cut, None);
    }

    /// Ends the turn: what is gathered goes out.
    pub fn flush(&mut self) {
        for index in 0..self.lanes.len() {
            self.close(index);
        }
    }

    /// The next batch for an owner, if there is one. It is pending until [`complete`](Self::complete).
    pub fn pop(&mut self, owner: ShardId) -> Option<Batch> {
        self.lanes[owner.index()].ready.pop_front()
    }

    /// Puts back what did not fit the ring.
    pub fn unpop(&mut self, owner: ShardId, batch: Batch) {
        self.lanes[owner.index()].ready.push_front(batch);
    }

    /// Whether so much waits for ring space that nothing more should be read from the link.
    pub fn is_full(&self) -> bool {
        self.lanes.iter().any(|lane| lane.ready.len() >= limits::ROUTER_READY_MAX)
    }

    /// The owner is done with the oldest batch that it was given. Returns the slots to ask for.
    ///
    /// # Panics
    /// If it was given none.
    pub fn complete(&mut self, owner: ShardId, done: Done) -> Vec<Ask> {
        let lane = &mut self.lanes[owner.index()];
        let pending = lane.pending.pop_front().expect("an owner completes only what it was given");
        lane.missing = done.missing;
        lane.proving = done.proving;
        if let Some(mut batch) = done.emptied
            && lane.spare.len() < limits::ROUTER_SPARE_MAX
        {
            batch.clear();
            lane.spare.push(batch);
        }
        if pending.marker == Some(self.session) {
            let session = self.session;
            let passed = |lane: &Lane| lane.pending.iter().all(|p| p.marker != Some(session));
            self.synced = self.lanes.iter().all(passed) && self.missing() == 0;
        }
        done.asks
    }

    /// The first offset that is not applied: what may be acknowledged. `None` while batches of an earlier history are pending.
    pub fn watermark(&self) -> Option<Offset> {
        let mut lowest = self.received;
        for lane in &self.lanes {
            if let Some(pending) = lane.pending.front() {
                if pending.epoch != self.epoch {
                    return None;
                }
                lowest = lowest.min(pending.floor);
            }
            if !lane.open.is_empty() {
                lowest = lowest.min(lane.open_floor);
            }
        }
        Some(lowest)
    }

    /// Whether, since the last call, every owner has passed the marker of this connection and lacks nothing.
    pub fn take_synced(&mut self) -> bool {
        std::mem::take(&mut self.synced)
    }

    /// Slots of the stream that the owners lack.
    pub fn missing(&self) -> usize {
        self.lanes.iter().map(|lane| lane.missing).sum()
    }

    /// Bytes of frames that were taken and are not applied.
    pub fn bytes(&self) -> usize {
        let of = |lane: &Lane| lane.open.bytes() + lane.pending.iter().map(|pending| pending.bytes).sum::<usize>();
        self.lanes.iter().map(of).sum()
    }

    /// Whether something is under way to an owner of which it may come to hold keys.
    pub fn carries_data(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.open.is_empty() || lane.pending.iter().any(|pending| pending.data))
    }

    /// Whether nothing is under way.
    pub fn is_drained(&self) -> bool {
        self.lanes.iter().all(|lane| lane.pending.is_empty() && lane.open.is_empty())
    }

    fn frames(&mut self, frames: Frames<'_>, group: bool, locate: impl Fn(&[u8]) -> Located) {
        let first = frames.get(0).offset;
        for (index, frame) in frames.iter().enumerate() {
            let floor = if group { first } else { frame.offset };
            match key_of(frame.argv) {
                Some(key) => {
                    let at = locate(key);
                    self.push(self.owners.owner(at.slot), frames, index, Some(at), floor, group);
                }
                // A frame without a key is about all slots of the stream.
                None => {
                    for owner in self.owners.shards() {
                        self.push(owner, frames, index, None, floor, group);
                    }
                }
            }
            self.received = frame.offset.next();
        }
    }

    fn push(
        &mut self,
        owner: ShardId,
        frames: Frames<'_>,
        index: usize,
        at: Option<Located>,
        floor: Offset,
        group: bool,
    ) {
        let lane = &self.lanes[owner.index()];
        // The part of a group that one owner has is applied in one go: it stays in one batch.
        let group = group.then_some(floor);
        let full = lane.open.len() >= limits::BATCH_FRAMES_MAX || lane.open.bytes() >= limits::ROUTER_BATCH_BYTES;
        if full && (group.is_none() || lane.open_group != group) {
            self.close(owner.index());
        }
        let lane = &mut self.lanes[owner.index()];
        if lane.open.is_empty() {
            lane.open_floor = floor;
        }
        lane.open_group = group;
        lane.open.push(frames, index, at);
    }

    fn item(&mut self, item: &Item<&[u8]>) {
        match *item {
            Item::Sync { at, .. } => {
                // What is gathered is of the history before.
                self.flush();
                self.epoch += 1;
                self.received = at;
                let gate = Arc::new(Gate::new(self.lanes.len()));
                let item = item.map(<[u8]>::to_vec);
                self.send_all(|| Body::Sync { item: item.clone(), gate: Arc::clone(&gate) }, None);
            }
            Item::Slots { first, count, at, payload } => {
                for owner in self.owners.shards() {
                    let slots = SlotRange { first: first.get(), end: first.get() + count };
                    let slots = slots.intersect(self.owners.slots_of(owner));
                    let Some(first_here) = slots.iter().next() else { continue };
                    let mut part = Vec::new();
                    for section in sections(first, count, payload) {
                        match section {
                            Ok(section) if slots.contains(section.slot) => part.extend_from_slice(section.encoded),
                            Ok(_) => {}
                            // What cannot be read is handed on as it is: the owner rejects it by name.
                            Err(_) => part = payload.to_vec(),
                        }
                    }
                    let item = Item::Slots { first: first_here, count: slots.len() as u16, at, payload: part };
                    self.send_one(owner, Body::Item(item));
                }
            }
            Item::SlotBegin { slot, .. }
            | Item::Piece { slot, .. }
            | Item::SlotEnd { slot, .. }
            | Item::SlotDrop { slot }
            | Item::Digest { slot, .. } => {
                self.send_one(self.owners.owner(slot), Body::Item(item.map(<[u8]>::to_vec)));
            }
            Item::SyncEnd { .. } | Item::GetAck | Item::Ping { .. } => {}
        }
    }

    fn send_one(&mut self, owner: ShardId, body: Body) {
        self.close(owner.index());
        self.dispatch(owner.index(), body, self.received, None);
    }

    fn send_all(&mut self, body: impl Fn() -> Body, marker: Option<u64>) {
        for index in 0..self.lanes.len() {
            self.close(index);
            self.dispatch(index, body(), self.received, marker);
        }
    }

    fn close(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if !lane.open.is_empty() {
            let batch = std::mem::replace(&mut lane.open, lane.spare.pop().unwrap_or_default());
            let floor = lane.open_floor;
            self.dispatch(index, Body::Frames(batch), floor, None);
        }
    }

    fn dispatch(&mut self, index: usize, body: Body, floor: Offset, marker: Option<u64>) {
        // A `+SYNC` itself belongs to what was before it: until it is passed, old batches may be under way.
        let epoch = if matches!(body, Body::Sync { .. }) { self.epoch - 1 } else { self.epoch };
        let lane = &mut self.lanes[index];
        let bytes = if let Body::Frames(batch) = &body { batch.bytes() } else { 0 };
        let data = matches!(body, Body::Frames(_) | Body::Item(_));
        lane.pending.push_back(Pending { epoch, floor, marker, bytes, data });
        lane.ready.push_back(Batch { stream: self.stream, body });
    }

    /// The slots of the stream.
    pub fn range(&self) -> SlotRange {
        self.range
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hash;
    use crate::wire::Decoder;

    fn frame(offset: u64) -> String {
        format!("*2\r\n:{offset}\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
    }

    /// A router to one owner that has taken what `stream` says.
    fn taken(stream: &str) -> Router {
        let mut decoder = Decoder::new();
        decoder.recv(stream.as_bytes());
        let mut router = Router::new(ShardId::new(0), SlotRange::ALL, ShardCount::ONE);
        while let Some(message) = decoder.next().unwrap() {
            let event = match message {
                crate::wire::Message::Frames(frames) => Event::Frames(frames),
                crate::wire::Message::Group(frames) => Event::Group(frames),
                crate::wire::Message::Item(item) => Event::Item(item),
            };
            router.take(event, hash::locate);
        }
        router.flush();
        router
    }

    /// The offsets of each batch of frames.
    fn batches(router: &mut Router) -> Vec<Vec<u64>> {
        let bodies = std::iter::from_fn(|| router.pop(ShardId::new(0))).filter_map(|batch| match batch.body {
            Body::Frames(frames) => Some(frames.frames().iter().map(|frame| frame.offset.get()).collect()),
            _ => None,
        });
        bodies.collect()
    }

    #[test]
    fn a_group_stays_in_one_batch_wherever_it_begins() {
        for before in [0, 1, 30, 31, 32, 33, 40] {
            let mut stream: String = (0..before).map(frame).collect();
            stream += "+GROUP 4\r\n";
            stream.extend((before..before + 6).map(frame));
            let batches = batches(&mut taken(&stream));
            let whole = batches.iter().any(|batch| (before..before + 4).all(|offset| batch.contains(&offset)));
            assert!(whole, "behind {before} frames: {batches:?}");
            assert!(batches.concat().iter().copied().eq(0..before + 6));
        }
    }

    #[test]
    fn large_groups_do_not_share_a_batch() {
        let value = "v".repeat(limits::ROUTER_BATCH_BYTES);
        let group = |at: u64| {
            let large = format!("*2\r\n:{at}\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", value.len());
            format!("+GROUP 2\r\n{large}{}", frame(at + 1))
        };
        let batches = batches(&mut taken(&(group(0) + &group(2) + &frame(4))));
        assert_eq!(batches, [vec![0, 1], vec![2, 3], vec![4]]);
    }

    #[test]
    fn what_was_gathered_before_a_sync_is_of_the_history_before() {
        let mut router = taken(&(frame(0) + &frame(1)));
        assert_eq!(router.watermark(), Some(Offset::ZERO));
        let mut router_with_sync = taken(&(frame(0) + "+SYNC 7 50 0\r\n"));
        assert_eq!(router_with_sync.watermark(), None, "the frame and the sync are under way");
        for router in [&mut router, &mut router_with_sync] {
            while router.pop(ShardId::new(0)).is_some() {
                router.complete(ShardId::new(0), Done::default());
            }
        }
        assert_eq!(router.watermark(), Some(Offset::new(2)));
        assert_eq!(router_with_sync.watermark(), Some(Offset::new(50)));
    }
}
