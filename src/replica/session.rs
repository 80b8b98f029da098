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

use std::collections::{BTreeMap, BTreeSet};

use crate::handshake::{
    Announced, Answer, AnswerError, Claim, Dialer, Done, Flags, Form, GuardRefusal, Held, Hello, Lineage, Options,
    Password, Purpose, Refusal, ReplicaId, StreamOf, Verdict, Welcome, decode_answer, guard,
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
    /// The upstream shard whose stream it is; `None`: whichever is behind the port.
    pub stream: Option<ShardId>,
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
    /// Everything below is recorded, as the upstream last said.
    told: Offset,
    /// The slots of the stream that are whole, or will be once what was handed out is applied.
    done: SlotSet,
    /// The slot between its begin and its end.
    loading: Option<Loading>,
    /// Slots that were asked for again.
    needs: SlotSet,
    /// How often, where that is not long ago.
    asked: BTreeMap<HashSlot, Asked>,
    /// Those whose question waits, by when it is due.
    later: BTreeSet<(Moment, HashSlot)>,
    /// The latest moment that was told.
    clock: Moment,
    decoder: Decoder,
    /// What goes out next: the handshake, then lines.
    outbox: Vec<u8>,
    ack: Ack,
    /// The history that a promised sync is of. Position and slots are of the one before until `+SYNC` comes: a cut in between
    /// must not claim them of the new one.
    promised: Option<Known>,
    /// The link goes on from a claim that lacked nothing: that is to be told.
    whole_due: bool,
    dials: u64,
    /// The upstream would have erased what is here: it is only asked what it is, until that is no longer so.
    wary: bool,
    heard: Moment,
    progress: Progress,
    /// Whether check lines are asked for.
    checks: bool,
    /// The password of the upstream.
    password: Option<Password>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// When the first of what is applied and was not said was received, and the last.
    first: Moment,
    last: Moment,
    /// The peer wants to hear it at once, once this is applied.
    wanted: Option<Offset>,
    /// Whether one that nobody asked for waits until nothing more comes.
    is_deferred: bool,
}

impl Ack {
    fn apply(&mut self, next: Offset, heard: Moment) {
        if self.sent == Some(self.applied) {
            self.first = heard;
        }
        if self.applied != next {
            (self.applied, self.last) = (next, heard);
        }
    }

    /// When it is to be said, if nobody asks for it; `None`: it was.
    fn due(&self) -> Option<Moment> {
        let at_once = self.sent_at.plus_ms(limits::ACK_INTERVAL_MS);
        let quiet = self.last.plus_ms(limits::ACK_INTERVAL_MS).min(self.first.plus_ms(limits::ACK_DEFERRED_MS_MAX));
        let due = if self.is_deferred { at_once.max(quiet) } else { at_once };
        (self.sent != Some(self.applied)).then_some(due)
    }
}

/// A slot between its begin and its end.
#[derive(Clone, Copy, Debug)]
struct Loading {
    slot: HashSlot,
    /// A part of it was not good, and it was asked for again: its end does not make it whole.
    rejected: bool,
}

/// A slot that was asked for. One whose repair fails again and again must not go round at the speed of the link.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    times: u32,
    /// When it was, or will be, asked for last.
    at: Moment,
}

/// Whether the link gets anywhere. On a link with check lines a damaged length makes the decoder wait for what will never
/// come, while heartbeats go on to arrive: then neither they nor a few bytes count as a sign of life.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// When something last was proved, or as much had arrived as counts.
    at: Moment,
    /// Bytes that arrived since.
    bytes: usize,
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
    /// The upstream is alive; nothing is to be applied.
    Heard,
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
    /// What came is not what was sent, or cannot be understood, on a link with check lines. Nothing of it was handed out: the
    /// next dial claims what was proved before.
    #[error("the stream is damaged behind {at}: {cause}")]
    Damaged {
        /// The position up to which all was handed out.
        at: Offset,
        /// How it showed.
        cause: WireError,
    },
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
    /// The upstream, which was only asked what it is after it had been refused, may be followed now: dial again.
    #[error("the upstream may be followed again")]
    Willing,
    /// Nothing was heard for too long, or nothing that makes sense.
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
            told: Offset::ZERO,
            done: SlotSet::empty(),
            loading: None,
            needs: SlotSet::empty(),
            asked: BTreeMap::new(),
            later: BTreeSet::new(),
            clock: Moment::ZERO,
            decoder: Decoder::new(),
            outbox: Vec::new(),
            ack: Ack::default(),
            promised: None,
            whole_due: false,
            dials: 0,
            wary: false,
            heard: Moment::ZERO,
            progress: Progress::default(),
            checks: true,
            password: None,
        }
    }

    /// Sets the password that the next dials say.
    pub fn set_password(&mut self, password: Option<Password>) {
        self.password = password;
    }

    /// Whether the next dials ask for check lines, which prove that the stream arrives as it was sent. They do at first.
    pub fn set_checks(&mut self, checks: bool) {
        self.checks = checks;
    }

    /// A session that claims everything below `next` of a history it cannot name: for a plain reader of frames.
    pub fn from_offset(config: SessionConfig, next: Offset) -> Session {
        Session { next, ..Session::new(config) }
    }

    /// The numbers of the next dials are above `number`. One process gives no number twice for a stream: where it makes a session anew,
    /// that one counts on.
    pub fn count_dials_from(&mut self, number: u64) {
        self.dials = self.dials.max(number);
    }

    /// A connection is there: the request goes out first. What came on the one before is forgotten, what it made is not.
    pub fn dial(&mut self, dial: Dial, now: Moment) {
        self.hang_up();
        self.dials += 1;
        (self.heard, self.clock) = (now, now);
        self.progress = Progress { at: now, bytes: 0 };
        self.ack.sent = None;
        let hello = Hello {
            id: self.config.id.clone(),
            claim: self.claim(),
            form: Form::Ours(Options {
                dialer: Some(Dialer { run: self.config.run, dial: self.dials }),
                flags: Flags { crc: self.checks, items: self.config.items, observer: self.config.observer },
                purpose: if self.wary { Purpose::Learn } else { Purpose::Follow },
                client: self.config.client.clone(),
                repl_base: self.config.repl_base,
                password: self.password.clone(),
                ..Options::new(self.config.stream.map(|shard| StreamOf { shard, of: self.shards() }))
            }),
        };
        hello.encode(&mut self.outbox);
        self.state = State::Greeting(Held {
            data: dial.holds_data,
            generation: self.generation(),
            dialled: dial.dialled,
            accept_empty_primary: self.config.accept_empty_primary,
        });
    }

    /// The connection is gone. The slot that was loading is begun anew another time; the host discards its staging copy
    /// with [`Applier::link_cut`](super::Applier::link_cut).
    pub fn hang_up(&mut self) {
        self.state = State::Down;
        self.decoder.clear();
        self.outbox.clear();
        self.loading = None;
        self.later.clear();
        self.ack.wanted = None;
        self.promised = None;
        self.whole_due = false;
    }

    /// Forgets history, position and slots: another upstream, or another number of shards.
    pub fn start_over(&mut self) {
        self.hang_up();
        self.history = None;
        (self.next, self.told) = (Offset::ZERO, Offset::ZERO);
        self.done.clear();
        self.needs.clear();
        self.asked.clear();
        self.ack = Ack::default();
        self.wary = false;
    }

    /// Room for bytes to be received into.
    pub fn recv_slice(&mut self) -> &mut [u8] {
        self.decoder.recv_slice()
    }

    /// Says that `len` bytes were received.
    pub fn recv_advance(&mut self, len: usize, now: Moment) {
        self.decoder.recv_advance(len);
        (self.heard, self.clock) = (now, now);
        self.progress.bytes += len;
        if !self.decoder.expects_checks() || self.progress.bytes >= limits::PROGRESS_BYTES {
            self.progress = Progress { at: now, bytes: 0 };
        }
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
        if std::mem::take(&mut self.whole_due) {
            return Ok(Some(Event::Whole { at: self.next }));
        }
        let range = self.range();
        let (at, checked) = (self.next, self.decoder.expects_checks());
        let wrong = |cause| if checked { SessionError::Damaged { at, cause } } else { SessionError::Wire(cause) };
        let Some(message) = self.decoder.next().map_err(wrong)? else { return Ok(None) };
        self.progress = Progress { at: self.heard, bytes: 0 };
        match message {
            Message::Frames(_) | Message::Group(_) if phase == Phase::BeforeSync => Err(SessionError::NoSync),
            Message::Frames(frames) => {
                check_dense(frames, &mut self.next)?;
                Ok(Some(Event::Frames(frames)))
            }
            Message::Group(frames) => {
                check_dense(frames, &mut self.next)?;
                Ok(Some(Event::Group(frames)))
            }
            Message::Item(item @ (Item::Ping { .. } | Item::GetAck)) => {
                if let Item::Ping { next, .. } = item {
                    self.told = next;
                }
                self.ack.wanted = Some(self.next);
                Ok(Some(Event::Heard))
            }
            Message::Item(_) if !self.config.items => Err(SessionError::UnwantedItem),
            Message::Item(item @ Item::Sync { generation, at, .. }) => {
                (self.next, self.told) = (at, at);
                self.done.clear();
                self.needs.clear();
                self.loading = None;
                self.ack.applied = at;
                let known = self.promised.take().or(self.history.take());
                self.history = known.map(|known| Known { generation, ..known });
                self.state = State::Streaming(Phase::Live);
                Ok(Some(Event::Item(item)))
            }
            Message::Item(_) if phase == Phase::BeforeSync => Err(SessionError::NoSync),
            Message::Item(item) => {
                if let Some(at) = item.at()
                    && at != self.next
                {
                    return Err(SessionError::ItemPosition { at, next: self.next });
                }
                if let Item::SyncEnd { at } = item {
                    return Ok(Some(Event::Whole { at }));
                }
                track(&item, range, &mut self.done, &mut self.needs, &mut self.loading)?;
                Ok(Some(Event::Item(item)))
            }
        }
    }

    /// Everything below `next` is applied: to be acknowledged in time.
    pub fn applied(&mut self, next: Offset) {
        debug_assert!(next <= self.next);
        self.ack.apply(next, self.heard);
    }

    /// Whether an acknowledgement that nobody asked for waits until the stream has been quiet for
    /// [`ACK_INTERVAL_MS`](limits::ACK_INTERVAL_MS), at most [`ACK_DEFERRED_MS_MAX`](limits::ACK_DEFERRED_MS_MAX). For a replica that
    /// serves readers: they come right behind what they wrote, and would wait while it is sent.
    pub fn defer_acks(&mut self, defer: bool) {
        self.ack.is_deferred = defer;
    }

    /// All slots of the stream are installed, and none waits for a `NEED`: acknowledgements count from `applied` on.
    pub fn synced(&mut self) {
        if let (State::Streaming(_), Some(known)) = (&self.state, &self.history) {
            Upstream::Synced { generation: known.generation, at: self.ack.applied }.encode(&mut self.outbox);
            self.send_ack(None);
        }
    }

    /// A slot is to be sent again: the first time at once, then after a pause that doubles. `whole` says whether the copy that is
    /// here goes on taking frames (a repair), or is not to be claimed (its end did not fit).
    pub fn need(&mut self, slot: HashSlot, whole: bool) {
        if !whole {
            self.done.remove(slot);
        }
        self.needs.insert(slot);
        if let Some(loading) = self.loading.as_mut().filter(|loading| loading.slot == slot) {
            loading.rejected = true;
        }
        let State::Streaming(_) = self.state else { return };
        let asked = self.asked.entry(slot).or_default();
        if self.later.contains(&(asked.at, slot)) {
            return;
        }
        if self.clock.ms_since(asked.at) > limits::NEED_REMEMBERED_MS {
            asked.times = 0;
        }
        let pause = match asked.times {
            0 => 0,
            times => (limits::NEED_PAUSE_MS_MIN << (times - 1).min(16)).min(limits::NEED_PAUSE_MS_MAX),
        };
        *asked = Asked { times: asked.times.saturating_add(1), at: self.clock.plus_ms(pause) };
        if pause == 0 {
            Upstream::Need(slot).encode(&mut self.outbox);
            return;
        }
        self.later.insert((asked.at, slot));
        if asked.times.is_power_of_two() {
            tracing::warn!(%slot, times = asked.times, pause_ms = pause, "a slot has to be asked for again and again");
        }
    }

    /// Asks for the slots whose time has come, where they did not come by themselves.
    fn ask_again(&mut self, now: Moment) {
        while let Some((at, slot)) = self.later.first().copied()
            && at <= now
        {
            self.later.pop_first();
            if self.needs.contains(slot) {
                Upstream::Need(slot).encode(&mut self.outbox);
            }
        }
    }

    /// The next bytes to send, or nothing until something happens.
    pub fn poll_transmit(&mut self, now: Moment) -> Vec<u8> {
        self.clock = now;
        self.ask_again(now);
        if matches!(self.state, State::Streaming(Phase::Live)) {
            let asked = self.ack.wanted.is_some_and(|wanted| wanted <= self.ack.applied);
            if asked || self.ack.due().is_some_and(|due| due <= now) {
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
        let mut due = self.progress.at.plus_ms(self.config.link_timeout_ms);
        match self.state {
            State::Down => return None,
            State::Streaming(Phase::Live) => due = self.ack.due().map_or(due, |ack| due.min(ack)),
            State::Greeting(_) | State::Streaming(_) => {}
        }
        Some(self.later.first().map_or(due, |(at, _)| due.min(*at)))
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// If the upstream has been silent for too long.
    pub fn handle_timeout(&self, now: Moment) -> Result<(), SessionError> {
        let timeout = self.config.link_timeout_ms;
        if self.state != State::Down && now >= self.progress.at.plus_ms(timeout) {
            return Err(SessionError::Silent(timeout));
        }
        Ok(())
    }

    /// The stream's number, once it is known.
    pub fn stream(&self) -> Option<ShardId> {
        self.config.stream
    }

    /// The slots that the stream is about; all, until the upstream has said how many shards it has.
    pub fn range(&self) -> SlotRange {
        let stream = self.config.stream.zip(self.shards());
        stream.map_or(SlotRange::ALL, |(shard, shards)| shards.slots_of(shard))
    }

    /// Everything below has been received.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Everything below is recorded upstream, as far as is known here.
    pub fn upstream_next(&self) -> Offset {
        self.told.max(self.next)
    }

    /// When the upstream was last heard, or dialled.
    pub fn heard(&self) -> Moment {
        self.heard
    }

    /// Bytes that were received and not taken.
    pub fn buffered(&self) -> usize {
        self.decoder.buffered()
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
        self.promised.as_ref().or(self.history.as_ref()).map(|known| known.shards)
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
                let done = if self.lacks_nothing() { Done::All } else { Done::These(done) };
                Claim::At { generation: known.generation, next: self.next, done }
            }
        }
    }

    fn lacks_nothing(&self) -> bool {
        self.needs.is_empty() && self.done.count() == self.range().len()
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
        let was_wary = self.wary;
        // Whoever refuses again and again must not have a sync begun each time.
        self.wary = self.config.items;
        guard(held, &welcome)?;
        self.wary = false;
        if was_wary {
            return Err(SessionError::Willing);
        }
        let phase = match welcome.verdict {
            Verdict::Sync(_) => Phase::BeforeSync,
            Verdict::Stream => Phase::Live,
        };
        if phase == Phase::Live {
            self.told = welcome.head;
            if welcome.next != self.next {
                return Err(SessionError::Gap { expected: self.next, got: welcome.next });
            }
            if self.history.is_none() && self.config.items {
                return Err(SessionError::NoSync);
            }
            self.whole_due = self.config.items && self.lacks_nothing();
            // What was found missing since the claim was written is not in it.
            for slot in self.needs.iter() {
                Upstream::Need(slot).encode(&mut self.outbox);
            }
        }
        if welcome.crc {
            self.decoder.expect_checks(welcome.next);
        }
        self.config.stream = Some(welcome.shard);
        let known = Known { generation: welcome.generation, lineage: welcome.lineage.clone(), shards: welcome.shards };
        match phase {
            Phase::BeforeSync => self.promised = Some(known),
            Phase::Live => self.history = Some(known),
        }
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

/// Follows what a dump item says of the stream's slots, as it is handed out.
fn track(
    item: &Item<&[u8]>,
    range: SlotRange,
    done: &mut SlotSet,
    needs: &mut SlotSet,
    loading: &mut Option<Loading>,
) -> Result<(), SessionError> {
    let ours = |slot: HashSlot| if range.contains(slot) { Ok(()) } else { Err(SessionError::ItemSlot(slot)) };
    let begun = |slot: HashSlot, loading: Option<Loading>| {
        loading.filter(|loading| loading.slot == slot).ok_or(SessionError::ItemSlot(slot))
    };
    match *item {
        Item::Slots { first, count, .. } => {
            let slots = SlotRange { first: first.get(), end: first.get() + count };
            if slots.intersect(range) != slots {
                return Err(SessionError::ItemSlot(first));
            }
            done.insert_range(slots);
            needs.remove_range(slots);
        }
        Item::SlotBegin { slot, .. } => {
            ours(slot)?;
            *loading = Some(Loading { slot, rejected: false });
        }
        Item::Piece { slot, .. } => _ = begun(slot, *loading)?,
        Item::SlotEnd { slot, .. } => {
            if !begun(slot, loading.take())?.rejected {
                done.insert(slot);
                needs.remove(slot);
            }
        }
        Item::SlotDrop { slot } => _ = begun(slot, loading.take())?,
        Item::Digest { slot, .. } => ours(slot)?,
        Item::Sync { .. } | Item::SyncEnd { .. } | Item::GetAck | Item::Ping { .. } => {}
    }
    Ok(())
}

/// Frames come one after the other, from `next` on.
fn check_dense(frames: Frames<'_>, next: &mut Offset) -> Result<(), SessionError> {
    let mut expected = *next;
    for frame in frames.iter() {
        if frame.offset != expected {
            // None of them is handed out, so none is received: the next dial claims them.
            return Err(SessionError::Gap { expected, got: frame.offset });
        }
        expected = expected.next();
    }
    *next = expected;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{Request, SyncReason, decode_request};
    use crate::wire::Check;

    fn session() -> Session {
        Session::new(SessionConfig {
            id: ReplicaId::new("r").unwrap(),
            run: 1,
            stream: None,
            items: true,
            observer: false,
            client: None,
            repl_base: None,
            accept_empty_primary: false,
            link_timeout_ms: 1_000,
        })
    }

    /// Dials, and says what is claimed.
    fn dial(session: &mut Session) -> Claim {
        session.dial(Dial { dialled: Dialled::Again, holds_data: false }, Moment::ZERO);
        match decode_request(&session.poll_transmit(Moment::ZERO)) {
            Ok(Some((Request::Replicate(hello), _))) => hello.claim,
            other => panic!("{other:?}"),
        }
    }

    fn hear(session: &mut Session, bytes: &[u8]) {
        hear_at(session, bytes, Moment::ZERO);
    }

    fn hear_at(session: &mut Session, bytes: &[u8], now: Moment) {
        session.recv_slice()[..bytes.len()].copy_from_slice(bytes);
        session.recv_advance(bytes.len(), now);
        while session.poll_event().unwrap().is_some() {}
    }

    #[test]
    fn a_slot_that_has_to_be_asked_for_again_and_again_is_asked_for_less_and_less_often() {
        let mut session = session();
        dial(&mut session);
        hear(&mut session, &promise(5));
        hear(&mut session, b"+SYNC 5 10 0\r\n+SLOTS 0 16384 10 0\r\n+SYNCEND 10\r\n");
        let slot = HashSlot::new(3).unwrap();
        session.poll_transmit(Moment::ZERO);
        let (mut now, mut pauses) = (Moment::ZERO, Vec::new());
        let asks = |session: &mut Session, now| session.poll_transmit(now).windows(6).any(|bytes| bytes == b"NEED 3");
        for _ in 0..11 {
            session.need(slot, true);
            session.need(slot, true);
            let began = now;
            while !asks(&mut session, now) {
                let due = session.poll_timeout().unwrap();
                assert!(due > now);
                now = due;
                session.progress.at = now;
            }
            pauses.push(now.ms_since(began));
            assert!(!asks(&mut session, now), "once");
            // It comes, and is not good again.
            hear_at(&mut session, b"+SLOTS 3 1 10 0\r\n", now);
        }
        assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        now = now.plus_ms(limits::NEED_REMEMBERED_MS + 1);
        hear_at(&mut session, b"+GETACK\r\n", now);
        session.need(slot, true);
        assert!(asks(&mut session, now), "a first time again");
    }

    #[test]
    fn a_deferred_ack_waits_until_the_stream_is_quiet_but_not_for_ever_and_goes_at_once_where_it_is_asked_for() {
        let at = |ms| Moment::from_micros(1_000_000).plus_ms(ms);
        let mut session = session();
        dial(&mut session);
        hear_at(&mut session, &promise(5), at(0));
        hear_at(&mut session, b"+SYNC 5 0 0\r\n+SLOTS 0 16384 0 0\r\n+SYNCEND 0\r\n", at(0));
        session.synced();
        session.poll_transmit(at(0));
        let mut next = 0;
        let mut apply = |session: &mut Session, ms| {
            hear_at(session, format!("*2\r\n:{next}\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n").as_bytes(), at(ms));
            next += 1;
            session.applied(Offset::new(next));
            format!("REPLCONF ACK {next}\r\n").into_bytes()
        };
        let ack = apply(&mut session, 100);
        assert_eq!(session.poll_transmit(at(100)), ack, "nobody is let go first");

        session.defer_acks(true);
        let ack = apply(&mut session, 200);
        assert!(session.poll_transmit(at(200)).is_empty());
        assert_eq!(session.poll_timeout(), Some(at(200 + limits::ACK_INTERVAL_MS)));
        assert_eq!(session.poll_transmit(at(200 + limits::ACK_INTERVAL_MS)), ack, "quiet");

        // Never quiet for as long as that.
        let said: Vec<u64> = (300..300 + 2 * limits::ACK_DEFERRED_MS_MAX)
            .filter(|&ms| {
                let ack = apply(&mut session, ms);
                let said = session.poll_transmit(at(ms));
                assert!(said.is_empty() || said == ack);
                !said.is_empty()
            })
            .collect();
        assert_eq!(said, [300 + limits::ACK_DEFERRED_MS_MAX]);

        let ack = apply(&mut session, 400);
        hear_at(&mut session, b"+GETACK\r\n", at(400));
        assert_eq!(session.poll_transmit(at(400)), ack, "asked for");
    }

    #[test]
    fn a_slot_rejected_before_its_end_is_not_claimed() {
        let slot = HashSlot::new(3).unwrap();
        for rejected in [false, true] {
            let mut session = session();
            dial(&mut session);
            hear(&mut session, &promise(5));
            hear(&mut session, b"+SYNC 5 10 0\r\n+SLOTS 0 3 10 0\r\n+SLOTS 4 16380 10 0\r\n+SLOTBEGIN 3 10\r\n");
            if rejected {
                session.need(slot, false);
            }
            hear(&mut session, b"+SLOTEND 3 10 -\r\n");
            session.hang_up();
            match dial(&mut session) {
                Claim::At { done: Done::All, .. } => assert!(!rejected),
                Claim::At { done: Done::These(done), .. } => assert!(rejected && !done.contains(slot)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn frames_that_are_not_handed_out_are_not_claimed() {
        let mut session = session();
        dial(&mut session);
        hear(&mut session, &promise(5));
        hear(&mut session, b"+SYNC 5 10 0\r\n+SLOTS 0 16384 10 0\r\n+SYNCEND 10\r\n");
        let frame = |offset| format!("*2\r\n:{offset}\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n");
        let bytes = [frame(10), frame(11), frame(13)].concat();
        session.recv_slice()[..bytes.len()].copy_from_slice(bytes.as_bytes());
        session.recv_advance(bytes.len(), Moment::ZERO);
        let gap = SessionError::Gap { expected: Offset::new(12), got: Offset::new(13) };
        let mut handed_out = 0;
        let end = loop {
            match session.poll_event() {
                Ok(Some(Event::Frames(frames))) => handed_out += frames.len(),
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(end, gap);
        assert_eq!(session.next(), Offset::new(10 + handed_out as u64));
    }

    #[test]
    fn a_digest_of_another_position_or_slot_ends_the_link_and_touches_nothing() {
        let slot = |number| HashSlot::new(number).unwrap();
        for (line, error) in [
            (
                "+DIGEST 7 11 00000000000000aa\r\n",
                SessionError::ItemPosition { at: Offset::new(11), next: Offset::new(10) },
            ),
            ("+DIGEST 7 9 -\r\n", SessionError::ItemPosition { at: Offset::new(9), next: Offset::new(10) }),
            ("+DIGEST 9000 10 -\r\n", SessionError::ItemSlot(slot(9_000))),
            ("+SLOTEND 7 10 00000000000000aa\r\n", SessionError::ItemSlot(slot(7))),
        ] {
            let mut session = session();
            dial(&mut session);
            hear(&mut session, &promise_of(5, ShardCount::new(2).unwrap()));
            hear(&mut session, b"+SYNC 5 10 0\r\n+SLOTS 0 8192 10 0\r\n+SYNCEND 10\r\n");
            session.recv_slice()[..line.len()].copy_from_slice(line.as_bytes());
            session.recv_advance(line.len(), Moment::ZERO);
            assert_eq!(session.poll_event().map(|event| event.is_some()), Err(error), "{line}");
            assert_eq!(session.next(), Offset::new(10));
        }
    }

    fn promise(generation: u64) -> Vec<u8> {
        promise_of(generation, ShardCount::ONE)
    }

    fn promise_of(generation: u64, shards: ShardCount) -> Vec<u8> {
        answer(generation, shards, false)
    }

    /// The answer of a primary with `shards` shards that promises a sync at 30.
    fn answer(generation: u64, shards: ShardCount, crc: bool) -> Vec<u8> {
        let mut line = Vec::new();
        let welcome = Welcome {
            generation: Generation::new(generation).unwrap(),
            next: Offset::new(30),
            shard: ShardId::new(0),
            shards,
            born_empty: false,
            lineage: Lineage::none(),
            oldest: Offset::ZERO,
            head: Offset::new(30),
            verdict: Verdict::Sync(SyncReason::UnknownGeneration),
            crc,
            client_port: None,
        };
        Answer::Welcome(Box::new(welcome)).encode(&mut line);
        line
    }

    #[test]
    fn a_cut_between_promise_and_sync_claims_nothing_of_the_new_history() {
        let mut session = session();
        assert_eq!(dial(&mut session), Claim::Empty);
        hear(&mut session, &promise(5));
        assert_eq!(dial(&mut session), Claim::Empty);
        hear(&mut session, &promise(5));
        hear(&mut session, b"+SYNC 5 10 0\r\n+SLOTS 0 16384 10 0\r\n+SYNCEND 10\r\n");
        let at_ten = Claim::At { generation: Generation::new(5).unwrap(), next: Offset::new(10), done: Done::All };
        assert_eq!(dial(&mut session), at_ten);
        hear(&mut session, &promise(9));
        assert_eq!(dial(&mut session), at_ten, "its position is still of the history before");
        hear(&mut session, &promise(9));
        hear(&mut session, b"+SYNC 9 30 0\r\n");
        let nothing_yet = Done::These(SlotSet::empty());
        let at_thirty = Claim::At { generation: Generation::new(9).unwrap(), next: Offset::new(30), done: nothing_yet };
        assert_eq!(dial(&mut session), at_thirty);
    }

    #[test]
    fn what_an_upstream_may_not_say_ends_the_link_by_name_and_hands_nothing_out() {
        const TB: &str = "1099511627776";
        // At 30, with the slots 0 to 8191, and slot 7 begun.
        let cases: [(String, &str); 19] = [
            ("+SLOTBEGIN 5 31\r\n".into(), "a dump item of position 31 came at 30"),
            ("+PIECE 7 29 1\r\nx".into(), "a dump item of position 29 came at 30"),
            ("+SLOTS 0 1 31 0\r\n".into(), "a dump item of position 31 came at 30"),
            ("+SLOTEND 7 31 -\r\n".into(), "a dump item of position 31 came at 30"),
            ("+SYNCEND 29\r\n".into(), "a dump item of position 29 came at 30"),
            ("+DIGEST 5 31 0000000000000001\r\n".into(), "a dump item of position 31 came at 30"),
            ("+SLOTS 8190 3 30 0\r\n".into(), "slot 8190, which is not this stream's"),
            ("+SLOTBEGIN 8192 30\r\n".into(), "slot 8192, which is not this stream's"),
            ("+DIGEST 8192 30 0000000000000001\r\n".into(), "slot 8192, which is not this stream's"),
            ("+PIECE 6 30 1\r\nx".into(), "slot 6, which is not this stream's or was not begun"),
            ("+SLOTEND 6 30 -\r\n".into(), "slot 6, which is not this stream's or was not begun"),
            ("+SLOTDROP 6\r\n".into(), "slot 6, which is not this stream's or was not begun"),
            ("+SLOTBEGIN 16384 30\r\n".into(), "malformed line"),
            ("+SLOTS 16383 2 30 0\r\n".into(), "malformed line"),
            ("*2\r\n:31\r\n*1\r\n$4\r\nNOOP\r\n".into(), "frame 31 came where 30 was to come"),
            ("*2\r\n:29\r\n*1\r\n$4\r\nNOOP\r\n".into(), "frame 29 came where 30 was to come"),
            (format!("+PIECE 7 30 {TB}\r\n"), "a dump item announces 1099511627776"),
            (format!("*2\r\n:30\r\n*2\r\n$3\r\nDEL\r\n${TB}\r\n"), "an argument announces 1099511627776"),
            (format!("+GROUP {TB}\r\n"), "a group announces 1099511627776"),
        ];
        for checks in [false, true] {
            for (bytes, words) in &cases {
                let sealed = |bytes: &[u8], from: u64| {
                    let mut sealed = bytes.to_vec();
                    if checks {
                        Check::of(Offset::new(from), bytes).encode_to(&mut sealed);
                    }
                    sealed
                };
                let mut session = session();
                dial(&mut session);
                hear(&mut session, &answer(5, ShardCount::new(2).unwrap(), checks));
                hear(&mut session, &sealed(b"+SYNC 5 30 0\r\n", 30));
                hear(&mut session, &sealed(b"+SLOTS 0 4 30 0\r\n", 30));
                hear(&mut session, &sealed(b"+SLOTBEGIN 7 30\r\n", 30));
                let done = session.done().clone();

                // A check that fits what is wrong does not make it right.
                let from = [29, 31]
                    .into_iter()
                    .find(|at| bytes.contains(&format!(":{at}\r")) || words.contains(&format!("position {at} ")));
                let bytes = sealed(bytes.as_bytes(), from.unwrap_or(30));
                session.recv_slice()[..bytes.len()].copy_from_slice(&bytes);
                session.recv_advance(bytes.len(), Moment::ZERO);
                let error = session.poll_event().map(|event| format!("{event:?}")).expect_err(words);
                assert!(error.to_string().contains(words), "{error} instead of {words}, checks {checks}");
                session.hang_up();
                assert_eq!((session.next(), session.done()), (Offset::new(30), &done), "{words}");
            }
        }
    }
}
