//! What travels from the shard that pulls a stream to a shard that owns some of its slots, and what comes back.
//!
//! ```text
//! puller (shard u mod M) ── Batch: ≤ 32 frames, or one item ──▶ owner
//!                        ◀── Done: the batch to fill again ────
//! ```
//!
//! One bounded ring for each (stream, owner); everything of a stream goes through it in order, so each owner is a delayed copy
//! of a replica with one shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::buffer::Buffer;
use crate::id::ShardId;
use crate::replica::Ask;
use crate::snapshot::Located;
use crate::wire::decoder::FrameRef;
use crate::wire::effect::key_of;
use crate::wire::{ArgRange, Frame, Frames, Item};

/// One ring slot from a puller to an owner.
#[derive(Debug)]
pub struct Batch {
    /// The upstream shard.
    pub stream: ShardId,
    /// What it carries.
    pub body: Body,
}

/// What a batch carries.
#[derive(Debug)]
pub enum Body {
    /// Frames, in order; or the part of a group that this owner has.
    Frames(FrameBatch),
    /// A dump item, or this owner's part of it.
    Item(Item<Vec<u8>>),
    /// `+SYNC`: no owner goes past it before all have met it.
    Sync {
        /// The item.
        item: Item<Vec<u8>>,
        /// Counts those that have not met it.
        gate: Arc<Gate>,
    },
    /// The link was cut: what was loading is begun anew.
    Cut,
    /// Nothing: an owner with something to tell is asked for it.
    Poll,
    /// Everything before it is dispatched; told back in order, so that the puller knows when it is applied.
    Marker,
}

/// What an owner says when it is done with a batch.
#[derive(Debug, Default)]
pub struct Done {
    /// How many slots of the stream this owner still lacks.
    pub missing: usize,
    /// Slots to ask for again.
    pub asks: Vec<Ask>,
    /// Whether this owner still takes the digest of a large slot, and may have to ask for it afterwards.
    pub proving: bool,
    /// A batch of frames to be filled again, so that nothing is allocated in steady state.
    pub emptied: Option<FrameBatch>,
}

/// Frames in a buffer of their own, with the places of their keys.
#[derive(Debug, Default)]
pub struct FrameBatch {
    bytes: Buffer,
    refs: Vec<FrameRef>,
    args: Vec<ArgRange>,
    located: Vec<Option<Located>>,
}

impl FrameBatch {
    /// How many frames it holds.
    pub fn len(&self) -> usize {
        self.refs.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.refs.is_empty()
    }

    /// Bytes of its frames.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The frames.
    pub fn frames(&self) -> Frames<'_> {
        Frames::new(&self.bytes, &self.refs, &self.args)
    }

    /// The places of their keys.
    pub fn located(&self) -> &[Option<Located>] {
        &self.located
    }

    /// Appends frame number `index` of `frames`.
    pub fn push(&mut self, frames: Frames<'_>, index: usize, at: Option<Located>) {
        let Frame { encoded, .. } = frames.get(index);
        let (old, args) = frames.raw(index);
        let start = self.bytes.len() as u32;
        let first_arg = self.args.len() as u32;
        self.bytes.extend_from_slice(encoded);
        self.args.extend(args.iter().map(|a| ArgRange { start: a.start - old.start + start, len: a.len }));
        self.refs.push(FrameRef {
            offset: old.offset,
            start,
            end: self.bytes.len() as u32,
            first_arg,
            end_arg: self.args.len() as u32,
        });
        self.located.push(at);
        debug_assert_eq!(at.is_some(), key_of(frames.get(index).argv).is_some());
    }

    /// Forgets its frames, and keeps its memory if that is the usual.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.refs.clear();
        self.args.clear();
        self.located.clear();
    }
}

/// Opens when every owner has arrived.
#[derive(Debug)]
pub struct Gate {
    absent: AtomicU32,
}

impl Gate {
    /// A gate for `owners` owners.
    pub fn new(owners: usize) -> Gate {
        Gate { absent: AtomicU32::new(owners as u32) }
    }

    /// One owner is there; each says so once.
    pub fn arrive(&self) {
        let before = self.absent.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "an owner arrived twice");
    }

    /// Whether all are.
    pub fn is_open(&self) -> bool {
        self.absent.load(Ordering::Acquire) == 0
    }
}
