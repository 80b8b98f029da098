//! One upstream stream as a replica follows it: dials, claims what it has, and checks what it is told.
//!
//! ```text
//!          dial               welcome                    cut
//! Down ──────────▶ Greeting ───────────▶ Streaming ─────────────▶ Down
//!   ▲                  │ refused, guard                             │ position and slots stay: the next dial claims them
//!   └──────────────────┴────────────────────────────────────────────┘
//! ```
//!
//! The position is what was **received**, not what was applied: whatever was handed out is applied sooner or later, on the
//! way that it took, also across a cut.

use crate::handshake::{
    Announced, Answer, AnswerError, Claim, Dialer, Done, Flags, Form, GuardRefusal, Held, Hello, Lineage, Options,
    Purpose, Refusal, ReplicaId, StreamOf, Verdict, Welcome, decode_answer, guard,
};
use crate::id::{Generation, HashSlot, Moment, Offset, ShardCount, ShardId, SlotRange};
use crate::limits;
use crate::slotset::SlotSet;
use crate::wire::{Decoder, Frames, Item, Message, Upstream, WireError};

pub use crate::handshake::Dialled;

/// Who follows, and what.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The replica's name.
    pub id: ReplicaId,
    /// A random number of this process.
    pub run: u64,
    /// The upstream shard whose stream it is.
    pub stream: ShardId,
    /// Whether dump items are taken. Without them the stream must go on from what the replica has.
    pub items: bool,
    /// Whether the replica counts for nobody.
    pub observer: bool,
    /// Where its clients find it.
    pub client: Option<Announced>,
    /// Its own replication port base.
    pub repl_base: Option<u16>,
    /// `accept_empty_primary`.
    pub accept_empty_primary: bool,
    /// Milliseconds of silence after which the link is given up.
    pub link_timeout_ms: u64,
}

/// One upstream stream, over any number of connections.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    state: State,
    /// The history that the position is of; `None` before the first.
    history: Option<Known>,
    /// Everything below has been received.
    next: Offset,
    /// The slots of the stream that are whole, or will be once what was handed out is applied.
    done: SlotSet,
    /// The slot between its begin and its end.
    loading: Option<HashSlot>,
    /// Slots that were asked for again.
    needs: SlotSet,
    decoder: Decoder,
    /// What goes out next: the handshake, then lines.
    outbox: Vec<u8>,
    ack: Ack,
    dials: u64,
    heard: Moment,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Down,
    /// The request is out.
    Greeting(Held),
    /// The answer was good.
    Streaming(Phase),
}

/// Where a running stream stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A sync was promised; `+SYNC` has not come.
    BeforeSync,
    /// Frames and items come.
    Live,
}

/// What the peer is, as far as its answer told.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    generation: Generation,
    lineage: Lineage,
    shards: ShardCount,
}

/// What is to be acknowledged.
#[derive(Clone, Copy, Debug, Default)]
struct Ack {
    /// Everything below is applied.
    applied: Offset,
    /// What was said last on this link.
    sent: Option<Offset>,
    sent_at: Moment,
    /// The peer wants to hear it at once, once this is applied.
    wanted: Option<Offset>,
}

/// Why a stream is dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dial {
    /// By itself, or by an operator's new address.
    pub dialled: Dialled,
    /// Whether the replica holds any key of this stream.
    pub holds_data: bool,
}

/// One thing that the stream says, checked. It is to be applied in this order.
#[derive(Debug)]
pub enum Event<'a> {
    /// The handshake is done.
    Welcomed(Box<Welcome>),
    /// Consecutive frames.
    Frames(Frames<'a>),
    /// Frames that are applied all or none.
    Group(Frames<'a>),
    /// A dump item: `Sync`, `Slots`, `SlotBegin`, `Piece`, `SlotEnd`, `SlotDrop` or `Digest`.
    Item(Item<&'a [u8]>),
    /// Nothing is missing any more: once all that came before is applied, say [`Session::synced`].
    Whole {
        /// Where.
        at: Offset,
    },
}

/// Why a link ends. The position stays; the next dial claims it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SessionError {
    /// The upstream refused.
    #[error(transparent)]
    Refused(Refusal),
    /// Following would erase what is here.
    #[error(transparent)]
    Guard(#[from] GuardRefusal),
    /// The answer could not be understood.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The upstream answered in a form that was not asked for.
    #[error("the answer is of another form than the request")]
    OtherForm,
    /// The upstream broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A frame is missing, or comes twice.
    #[error("frame {got} came where {expected} was to come")]
    Gap {
        /// What was to come.
        expected: Offset,
        /// What came.
        got: Offset,
    },
    /// A dump item is not of the position at which it came.
    #[error("a dump item of position {at} came at {next}")]
    ItemPosition {
        /// What it says.
        at: Offset,
        /// Where it came.
        next: Offset,
    },
    /// A dump item is about a slot that this stream does not have, or that was not begun.
    #[error("a dump item about slot {0}, which is not this stream's or was not begun")]
    ItemSlot(HashSlot),
    /// A sync was promised, and something else came.
    #[error("a sync was to begin, and something else came")]
    NoSync,
    /// An item came that was not asked for.
    #[error("a dump item came on a link that takes none")]
    UnwantedItem,
    /// Nothing was heard for too long.
    #[error("silent for {0} ms")]
    Silent(u64),
}

impl Session {
    /// A session that has nothing, and no connection.
    pub fn new(config: SessionConfig) -> Session {
        Session {
            config,
            state: State::Down,
            history: None,
            next: Offset::ZERO,
            done: SlotSet::empty(),
            loading: None,
            needs: SlotSet::empty(),
            decoder: Decoder::new(),
            outbox: Vec::new(),
            ack: Ack::default(),
            dials: 0,
            heard: Moment::ZERO,
        }
    }

    /// A session that claims everything below `next` of a history it cannot name: for a plain reader of frames.
    pub fn from_offset(config: SessionConfig, next: Offset) -> Session {
        Session { next, ..Session::new(config) }
    }

    /// A connection is there: the request goes out first. What came on the one before is forgotten, what it made is not.
    pub fn dial(&mut self, dial: Dial, now: Moment) {
        self.hang_up();
        self.dials += 1;
        self.heard = now;
        self.ack.sent = None;
        let hello = Hello {
            id: self.config.id.clone(),
            claim: self.claim(),
            form: Form::Ours(Options {
                dialer: Some(Dialer { run: self.config.run, dial: self.dials }),
                flags: Flags { crc: false, items: self.config.items, observer: self.config.observer },
                purpose: Purpose::Follow,
                client: self.config.client.clone(),
                repl_base: self.config.repl_base,
                ..Options::new(StreamOf {
                    shard: self.config.stream,
                    of: self.history.as_ref().map(|known| known.shards),
                })
            }),
        };
        hello.encode(&mut self.outbox);
        self.state = State::Greeting(Held {
            data: dial.holds_data,
            generation: self.history.as_ref().map(|known| known.generation),
            dialled: dial.dialled,
            accept_empty_primary: self.config.accept_empty_primary,
        });
    }

    /// The connection is gone. The slot that was loading is begun anew another time; the host discards its staging copy
    /// with [`Applier::link_cut`](super::Applier::link_cut).
    pub fn hang_up(&mut self) {
        self.state = State::Down;
        self.decoder = Decoder::new();
        self.outbox.clear();
        self.loading = None;
        self.ack.wanted = None;
    }

    /// Forgets history, position and slots: another upstream, or another number of shards.
    pub fn start_over(&mut self) {
        self.hang_up();
        self.history = None;
        self.next = Offset::ZERO;
        self.done.clear();
        self.needs.clear();
        self.ack = Ack::default();
    }

    /// Room for bytes to be received into.
    pub fn recv_slice(&mut self) -> &mut [u8] {
        self.decoder.recv_slice()
    }

    /// Says that `len` bytes were received.
    pub fn recv_advance(&mut self, len: usize, now: Moment) {
        self.decoder.recv_advance(len);
        self.heard = now;
    }

    /// The next thing that the stream says, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// If the link is to be closed.
    pub fn poll_event(&mut self) -> Result<Option<Event<'_>>, SessionError> {
        if let State::Greeting(held) = self.state {
            return Ok(self.poll_welcome(held)?.map(|welcome| Event::Welcomed(Box::new(welcome))));
        }
        let State::Streaming(phase) = self.state else { return Ok(None) };
        loop {
            let Some(message) = self.decoder.next()? else { return Ok(None) };
            match message {
                Message::Frames(_) | Message::Group(_) if phase == Phase::BeforeSync => {
                    return Err(SessionError::NoSync);
                }
                Message::Frames(frames) => {
                    check_dense(frames, &mut self.next)?;
                    // Borrowing again is what the borrow checker of a loop needs here; nothing is decoded twice.
                    return Ok(Some(Event::Frames(frames)));
                }
                Message::Group(frames) => {
                    check_dense(frames, &mut self.next)?;
                    return Ok(Some(Event::Group(frames)));
                }
                Message::Item(item) => {
                    let known = self.history.as_ref();
                    let shards = known.map_or(ShardCount::ONE, |known| known.shards);
                    let mut tracker = Tracker {
                        next: &mut self.next,
                        done: &mut self.done,
                        loading: &mut self.loading,
                        needs: &mut self.needs,
                        range: shards.slots_of(self.config.stream),
                    };
                    match item {
                        Item::Ping { .. } => self.ack.wanted = Some(self.next),
                        Item::GetAck => self.ack.wanted = Some(self.next),
                        _ if !self.config.items => return Err(SessionError::UnwantedItem),
                        Item::Sync { generation, at, .. } => {
                            tracker.sync(at);
                            if let Some(known) = &mut self.history {
                                known.generation = generation;
                            }
                            self.ack.applied = self.ack.applied.max(at);
                            self.state = State::Streaming(Phase::Live);
                            return Ok(Some(Event::Item(item)));
                        }
                        _ if phase == Phase::BeforeSync => return Err(SessionError::NoSync),
                        Item::SyncEnd { at } => {
                            tracker.stands_at(at)?;
                            return Ok(Some(Event::Whole { at }));
                        }
                        _ => {
                            tracker.item(&item)?;
                            return Ok(Some(Event::Item(item)));
                        }
                    }
                }
            }
        }
    }

    /// Everything below `next` is applied: to be acknowledged in time.
    pub fn applied(&mut self, next: Offset) {
        debug_assert!(next <= self.next);
        self.ack.applied = next;
    }

    /// All slots of the stream are installed, and none waits for a `NEED`: acknowledgements count from `applied` on.
    pub fn synced(&mut self) {
        if let (State::Streaming(_), Some(known)) = (&self.state, &self.history) {
            Upstream::Synced { generation: known.generation, at: self.ack.applied }.encode(&mut self.outbox);
            self.send_ack(None);
        }
    }

    /// A slot is to be sent again. `whole` says whether the copy that is here goes on taking frames (a repair), or is not
    /// to be claimed (its end did not fit).
    pub fn need(&mut self, slot: HashSlot, whole: bool) {
        if !whole {
            self.done.remove(slot);
        }
        self.needs.insert(slot);
        if matches!(self.state, State::Streaming(_)) {
            Upstream::Need(slot).encode(&mut self.outbox);
        }
    }

    /// The next bytes to send, or nothing until something happens.
    pub fn poll_transmit(&mut self, now: Moment) -> Vec<u8> {
        if matches!(self.state, State::Streaming(Phase::Live)) {
            let asked = self.ack.wanted.is_some_and(|wanted| wanted <= self.ack.applied);
            let moved = self.ack.sent != Some(self.ack.applied);
            if asked || moved && now >= self.ack.sent_at.plus_ms(limits::ACK_INTERVAL_MS) {
                self.send_ack(Some(now));
                if asked {
                    self.ack.wanted = None;
                }
            }
        }
        std::mem::take(&mut self.outbox)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit) if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let silence = self.heard.plus_ms(self.config.link_timeout_ms);
        match self.state {
            State::Down => None,
            State::Streaming(Phase::Live) if self.ack.sent != Some(self.ack.applied) => {
                Some(silence.min(self.ack.sent_at.plus_ms(limits::ACK_INTERVAL_MS)))
            }
            State::Greeting(_) | State::Streaming(_) => Some(silence),
        }
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// If the upstream has been silent for too long.
    pub fn handle_timeout(&self, now: Moment) -> Result<(), SessionError> {
        let timeout = self.config.link_timeout_ms;
        if self.state != State::Down && now >= self.heard.plus_ms(timeout) {
            return Err(SessionError::Silent(timeout));
        }
        Ok(())
    }

    /// The stream's number.
    pub fn stream(&self) -> ShardId {
        self.config.stream
    }

    /// Everything below has been received.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Everything below is applied, as far as it was said.
    pub fn applied_next(&self) -> Offset {
        self.ack.applied
    }

    /// The history that is followed, once one is.
    pub fn generation(&self) -> Option<Generation> {
        self.history.as_ref().map(|known| known.generation)
    }

    /// How many shards the upstream has, once it said so.
    pub fn shards(&self) -> Option<ShardCount> {
        self.history.as_ref().map(|known| known.shards)
    }

    /// Whether the handshake is done.
    pub fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming(_))
    }

    /// The slots that are whole, or will be once what was handed out is applied.
    pub fn done(&self) -> &SlotSet {
        &self.done
    }

    /// `accept_empty_primary`, from the next dial on.
    pub fn set_accept_empty_primary(&mut self, accept: bool) {
        self.config.accept_empty_primary = accept;
    }

    fn claim(&self) -> Claim {
        match &self.history {
            None if self.next > Offset::ZERO => Claim::Bare(self.next),
            None => Claim::Empty,
            // A plain reader has all that it wants of its stream.
            Some(known) if !self.config.items => {
                Claim::At { generation: known.generation, next: self.next, done: Done::All }
            }
            Some(known) => {
                let mut done = self.done.clone();
                done.subtract(&self.needs);
                let all = done.count() == known.shards.slots_of(self.config.stream).len();
                let done = if all { Done::All } else { Done::These(done) };
                Claim::At { generation: known.generation, next: self.next, done }
            }
        }
    }

    fn poll_welcome(&mut self, held: Held) -> Result<Option<Welcome>, SessionError> {
        let room = self.decoder.unread();
        let Some((answer, used)) = decode_answer(room)? else { return Ok(None) };
        self.decoder.skip(used);
        let welcome = match answer {
            Answer::Welcome(welcome) => *welcome,
            Answer::Refused(refusal) => return Err(SessionError::Refused(refusal)),
            Answer::Offset(_) | Answer::Generation { .. } => return Err(SessionError::OtherForm),
        };
        guard(held, &welcome)?;
        let phase = match welcome.verdict {
            Verdict::Sync(_) => Phase::BeforeSync,
            Verdict::Stream => Phase::Live,
        };
        if phase == Phase::Live && welcome.next != self.next {
            return Err(SessionError::Gap { expected: self.next, got: welcome.next });
        }
        if phase == Phase::Live && self.history.is_none() && self.config.items {
            return Err(SessionError::NoSync);
        }
        self.history = Some(Known {
            generation: welcome.generation,
            lineage: welcome.lineage.clone(),
            shards: welcome.shards,
        });
        self.state = State::Streaming(phase);
        Ok(Some(welcome))
    }

    /// Says the ack; `now` where it is to hold back the next one.
    fn send_ack(&mut self, now: Option<Moment>) {
        Upstream::Ack(self.ack.applied).encode(&mut self.outbox);
        self.ack.sent = Some(self.ack.applied);
        if let Some(now) = now {
            self.ack.sent_at = now;
        }
    }
}

/// What dump items say of a stream's slots, kept as they are handed out.
struct Tracker<'a> {
    next: &'a mut Offset,
    done: &'a mut SlotSet,
    loading: &'a mut Option<HashSlot>,
    needs: &'a mut SlotSet,
    range: SlotRange,
}

impl Tracker<'_> {
    fn sync(&mut self, at: Offset) {
        *self.next = at;
        self.done.clear();
        self.needs.clear();
        *self.loading = None;
    }

    fn stands_at(&self, at: Offset) -> Result<(), SessionError> {
        if at == *self.next { Ok(()) } else { Err(SessionError::ItemPosition { at, next: *self.next }) }
    }

    fn item(&mut self, item: &Item<&[u8]>) -> Result<(), SessionError> {
        if let Some(at) = item.at() {
            self.stands_at(at)?;
        }
        let ours = |slot: HashSlot| if self.range.contains(slot) { Ok(()) } else { Err(SessionError::ItemSlot(slot)) };
        let begun = |slot: HashSlot| {
            if *self.loading == Some(slot) { Ok(()) } else { Err(SessionError::ItemSlot(slot)) }
        };
        match *item {
            Item::Slots { first, count, .. } => {
                let end = HashSlot::new(first.get() + count - 1).ok_or(SessionError::ItemSlot(first))?;
                ours(first)?;
                ours(end)?;
                let range = SlotRange { first: first.get(), end: first.get() + count };
                self.done.insert_range(range);
                self.needs.remove_range(range);
            }
            Item::SlotBegin { slot, .. } => {
                ours(slot)?;
                *self.loading = Some(slot);
            }
            Item::Piece { slot, .. } => begun(slot)?,
            Item::SlotEnd { slot, .. } => {
                begun(slot)?;
                *self.loading = None;
                self.done.insert(slot);
                self.needs.remove(slot);
            }
            Item::SlotDrop { slot } => {
                begun(slot)?;
                *self.loading = None;
            }
            Item::Digest { slot, .. } => ours(slot)?,
            Item::Sync { .. } | Item::SyncEnd { .. } | Item::GetAck | Item::Ping { .. } => {}
        }
        Ok(())
    }
}

/// Frames come one after the other, from `next` on.
fn check_dense(frames: Frames<'_>, next: &mut Offset) -> Result<(), SessionError> {
    for frame in frames.iter() {
        if frame.offset != *next {
            return Err(SessionError::Gap { expected: *next, got: frame.offset });
        }
        *next = next.next();
    }
    Ok(())
}
