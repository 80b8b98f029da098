//! The replica's task around one upstream stream: dials, reads, hands what it reads to the shards that own it, acknowledges.
//!
//! ```text
//!               ┌ equal shard counts: applied here, out of the receive buffer ┐
//! socket ─▶ Session                                                          ├─▶ watermark ─▶ ack
//!               └ else: Router ─▶ one lane an owner ─▶ owner's mesh of streams ┘
//! ```

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::FutureExt;

use super::clock::{now, sleep};
use super::lane::{Callee, Caller};
use super::local::Local;
use super::signal::Signal;
use super::stream::{ConnectError, Moved, Stream};
use super::turn::Turn;
use crate::handshake::{AnswerError, Verdict, Welcome};
use crate::id::{Moment, Offset, ShardCount, ShardId};
use crate::limits;
use crate::replica::{Dial, Dialled, Event, Session, SessionError};
use crate::shard::{Batch, Done, Offered, Router};
use crate::snapshot::Keyspace;
use crate::store::hash::locate;
use crate::timeline::Timeline;
use crate::wire::Item;

/// How much of what was there is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Taken {
    /// All of it.
    All,
    /// There may be more.
    Some,
}

/// The puller's end of a lane to an owner.
pub type ToOwner = Caller<Batch, Done>;
/// The owner's end of a lane from a puller.
pub type FromPuller = Callee<Batch, Done>;

/// Why a link to the upstream ended.
#[derive(Debug, thiserror::Error)]
pub enum PullEnd {
    /// It could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The upstream closed it.
    #[error("closed by the upstream")]
    Closed,
    /// The session ended it.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The upstream has another number of shards than it was taken to have.
    #[error("the upstream has {0} shards now")]
    Reshaped(ShardCount),
    /// This upstream is not to be followed any more.
    #[error("no longer followed")]
    Stopped,
}

impl PullEnd {
    /// Whether what came is not what was sent.
    fn is_damage(&self) -> bool {
        matches!(self, PullEnd::Session(SessionError::Damaged { .. } | SessionError::Answer(AnswerError::Damaged)))
    }
}

/// How a stream stands, for `INFO`.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Whether its link is up.
    pub linked: bool,
    /// Whether everything is installed under the present upstream.
    pub synced: bool,
    /// Everything below has been received.
    pub next: u64,
    /// Everything below is applied.
    pub applied: u64,
    /// Everything below is recorded upstream, as far as is known.
    pub upstream_next: u64,
    /// When that was so.
    timeline: Timeline,
    /// Bytes received and not applied.
    pub lag_bytes: u64,
    /// The history that is followed.
    pub generation: Option<crate::id::Generation>,
    /// When the upstream was last heard.
    pub heard: Moment,
    /// Since when the link is down.
    pub down_since: Option<Moment>,
    /// Why it is down.
    pub error: Option<String>,
    /// How often the link ended because what came was damaged.
    pub runs_damaged: u64,
    /// The upstream's client port, as it says.
    pub client_port: Option<u16>,
}

impl Standing {
    /// Notes where the stream is now. To be called often.
    pub fn mark(&mut self, now: Moment) {
        self.timeline.mark(Offset::new(self.upstream_next), now);
    }

    /// How long ago it was known of the first frame that is not applied that it is recorded, in milliseconds.
    pub fn lag_ms(&self, now: Moment) -> u64 {
        let applied = Offset::new(self.applied);
        if self.applied >= self.upstream_next { 0 } else { self.timeline.age_ms(applied, now) }
    }
}

/// One upstream stream at the shard that pulls it.
pub struct Puller {
    local: Rc<Local>,
    stream: ShardId,
    /// How many shards the upstream is taken to have.
    upstream_shards: ShardCount,
    session: Session,
    /// Where the upstream listens for this stream.
    host: String,
    port: u16,
    /// By owner; none for this shard itself. Empty where the counts are equal and nothing crosses.
    lanes: Vec<Option<ToOwner>>,
    router: Option<Router>,
    /// Whether the next dial is an operator's consent to another upstream.
    dialled: Dialled,
    stop: Rc<Stop>,
    /// Shared with `INFO`.
    pub standing: Rc<RefCell<Standing>>,
}

/// Ends the pullers and owners of an upstream that is no longer followed.
#[derive(Debug, Default)]
pub struct Stop {
    stopped: std::cell::Cell<bool>,
    signal: Signal,
}

impl Stop {
    /// Ends them.
    pub fn stop(&self) {
        self.stopped.set(true);
        self.signal.raise();
    }

    /// Whether they are to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Completes when they are to end.
    pub async fn stopped(&self) {
        if !self.stopped.get() {
            self.signal.past(self.signal.epoch()).await;
        }
    }
}

/// How long to wait before the next dial: not at all at first, then longer and longer, up to a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backoff {
    pause_ms: u64,
}

impl Backoff {
    /// Before the first dial.
    pub fn new() -> Backoff {
        Backoff::default()
    }

    /// The pause before the next dial.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.pause_ms;
        self.pause_ms = (pause * 2).clamp(limits::REDIAL_MS_MIN, limits::REDIAL_MS_MAX);
        Duration::from_millis(pause)
    }
}

impl Puller {
    /// A puller of `stream` from `host:port`, which has sent nothing yet. With `lanes` its slots are owned by several shards.
    #[allow(clippy::too_many_arguments, reason = "all of it is decided by whoever sets up what is followed")]
    pub fn new(
        local: Rc<Local>,
        stream: ShardId,
        upstream_shards: ShardCount,
        session: Session,
        (host, port): (String, u16),
        lanes: Vec<Option<ToOwner>>,
        dialled: Dialled,
        stop: Rc<Stop>,
    ) -> Puller {
        let owners = local.count();
        let router = (owners != upstream_shards).then(|| Router::new(stream, upstream_shards.slots_of(stream), owners));
        let standing = Standing { down_since: Some(now()), ..Standing::default() };
        Puller {
            local,
            stream,
            upstream_shards,
            session,
            host,
            port,
            lanes,
            router,
            dialled,
            stop,
            standing: Rc::new(RefCell::new(standing)),
        }
    }

    /// Hands on what was read, until every owner has applied it.
    async fn drain(&mut self) {
        let mut turn = Turn::begin();
        loop {
            self.settle_all(&mut turn).await;
            if self.router.as_ref().is_none_or(Router::is_drained) {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Follows the stream, dialling again and again, until it is stopped or the upstream has another number of shards.
    pub async fn run(mut self) -> PullEnd {
        let mut backoff = Backoff::new();
        loop {
            let began = now();
            let end = self.link().await;
            self.cut().await;
            match end {
                PullEnd::Stopped | PullEnd::Reshaped(_) => {
                    self.drain().await;
                    return end;
                }
                // It was only asked what it is.
                PullEnd::Session(SessionError::Willing) => continue,
                _ => {}
            }
            {
                let mut standing = self.standing.borrow_mut();
                if standing.error.as_deref() != Some(&end.to_string()) || standing.linked {
                    tracing::warn!(stream = %self.stream, host = %self.host, port = self.port, cause = %end, "the upstream link is down");
                }
                standing.runs_damaged += u64::from(end.is_damage());
                standing.linked = false;
                standing.down_since.get_or_insert(now());
                standing.error = Some(end.to_string());
            }
            // A link that lived is dialled again at once.
            if now().ms_since(began) >= limits::REDIAL_MS_MAX {
                backoff = Backoff::new();
            }
            sleep(backoff.next_pause()).or(self.stop.stopped()).await;
            if self.stop.is_stopped() {
                self.drain().await;
                return PullEnd::Stopped;
            }
        }
    }

    /// Whether the node holds keys of this stream, or they are on their way to their owners. Not those of the other streams: they
    /// may have come a moment ago from the very primary that is to be judged.
    async fn holds_data(&self) -> bool {
        if self.router.as_ref().is_some_and(Router::carries_data) {
            return true;
        }
        let range = self.upstream_shards.slots_of(self.stream);
        self.local.call_all(move |local| local.core().store.holds_any_of(range)).await.contains(&true)
    }

    /// One connection, from its dial to its end.
    async fn link(&mut self) -> PullEnd {
        let timeout = Duration::from_millis(limits::CONNECT_TIMEOUT_MS);
        let executor = self.local.executor().clone();
        let dial = async { Some(Stream::connect(&executor, &self.host, self.port, timeout).await) };
        let stopped = async {
            self.stop.stopped().await;
            None
        };
        let mut stream = match dial.or(stopped).await {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => return error.into(),
            None => return PullEnd::Stopped,
        };
        let holds_data = self.holds_data().await;
        self.session.dial(Dial { dialled: self.dialled, holds_data }, now());
        let end = match self.follow(&mut stream).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        stream.close().await;
        end
    }

    async fn follow(&mut self, stream: &mut Stream) -> Result<std::convert::Infallible, PullEnd> {
        let mut sending: Vec<u8> = Vec::new();
        let mut sent = 0;
        let mut turn = Turn::begin();
        let inlet = self.local.inflow.begin(stream.interest());
        loop {
            // Where owners are behind, the link is not read: the socket fills, and the primary's cursor waits.
            let taken = self.take_events(&turn)?;
            let settled = self.settle(&turn);
            let waits_for_owners = taken == Taken::Some && self.router.as_ref().is_some_and(Router::is_full);
            inlet.turn(waits_for_owners);
            if settled == Taken::Some || (taken == Taken::Some && !waits_for_owners) {
                // What was received before is still to be taken or applied here: nobody else would say so.
                turn.pass_if_over().await;
                continue;
            }
            self.session.defer_acks(self.local.inflow.has_readers());
            if sent == sending.len() {
                sending = self.session.poll_transmit(now());
                sent = 0;
            }
            let deadline = self.session.poll_timeout();
            let moved = if taken == Taken::All {
                let Puller { session, lanes, stop, .. } = self;
                let moved = async { Some(stream.duplex(session.recv_slice(), &sending[sent..]).await) };
                turn.wait_for(moved.or(wait(lanes, stop, deadline))).await
            } else if sent < sending.len() {
                let written = async { Some(stream.write(&sending[sent..]).await.map(Moved::Written)) };
                turn.wait_for(written.or(wait(&mut self.lanes, &self.stop, deadline))).await
            } else {
                turn.wait_for(wait(&mut self.lanes, &self.stop, deadline)).await
            };
            match moved {
                Some(Ok(Moved::Written(len))) => sent += len,
                Some(Ok(Moved::Read(0))) => return Err(PullEnd::Closed),
                Some(Ok(Moved::Read(len))) => {
                    self.session.recv_advance(len, now());
                    inlet.read();
                }
                Some(Err(error)) => return Err(error.into()),
                None => {}
            }
            if self.stop.is_stopped() {
                return Err(PullEnd::Stopped);
            }
            self.session.handle_timeout(now())?;
            turn.pass_if_over().await;
        }
    }

    /// Takes what has been received, as far as owners have room for it and the turn lasts.
    fn take_events(&mut self, turn: &Turn) -> Result<Taken, PullEnd> {
        loop {
            if self.router.as_ref().is_some_and(Router::is_full) || turn.is_over() {
                return Ok(Taken::Some);
            }
            let Some(event) = self.session.poll_event()? else { return Ok(Taken::All) };
            if let Event::Welcomed(welcome) = event {
                welcomed(&self.standing, self.upstream_shards, &welcome)?;
                if welcome.verdict == Verdict::Stream {
                    self.dialled = Dialled::Again;
                }
                continue;
            }
            // A link that ends before its sync begins has used up no consent: nothing was replaced.
            if let Event::Item(Item::Sync { .. }) = event {
                self.dialled = Dialled::Again;
            }
            match &mut self.router {
                Some(router) => router.take(event, locate),
                None => {
                    let mut core = self.local.core();
                    let Some((following, store)) = core.following_and_store() else { return Err(PullEnd::Stopped) };
                    let applier = following.applier(self.stream);
                    let mut whole = false;
                    match event {
                        Event::Frames(frames) | Event::Group(frames) => applier.frames(store, frames),
                        Event::Item(item) => applier.item(store, &item),
                        Event::Whole { .. } => whole = true,
                        Event::Welcomed(_) | Event::Heard => {}
                    }
                    let asks = applier.take_asks();
                    let missing = applier.missing();
                    following.settle();
                    drop(core);
                    for ask in asks {
                        self.session.need(ask.slot, ask.whole);
                    }
                    let applied = self.session.next();
                    self.session.applied(applied);
                    if missing > 0 {
                        self.standing.borrow_mut().synced = false;
                    } else if whole {
                        self.session.synced();
                        self.standing.borrow_mut().synced = true;
                    }
                }
            }
        }
    }

    /// Ends the turn: hands out what is gathered, applies what is this shard's while the turn lasts, takes back what is done, and
    /// works out what may be acknowledged.
    fn settle(&mut self, turn: &Turn) -> Taken {
        let mut here = Taken::All;
        if let Some(router) = &mut self.router {
            router.flush();
            for owner in self.local.count().shards() {
                match &mut self.lanes[owner.index()] {
                    Some(lane) => {
                        while let Some(done) = lane.pop() {
                            for ask in router.complete(owner, done) {
                                self.session.need(ask.slot, ask.whole);
                            }
                        }
                        while let Some(batch) = router.pop(owner) {
                            if let Err(batch) = lane.try_call(batch) {
                                router.unpop(owner, batch);
                                break;
                            }
                        }
                    }
                    None => here = apply_here(&self.local, router, owner, &mut self.session, turn),
                }
            }
            if let Some(applied) = router.watermark() {
                self.session.applied(applied);
            }
            if router.missing() > 0 {
                self.standing.borrow_mut().synced = false;
            }
            if router.take_synced() {
                self.session.synced();
                self.standing.borrow_mut().synced = true;
            }
        }
        let mut core = self.local.core();
        core.store.reclaim();
        drop(core);
        self.local.tell_applied();
        let mut standing = self.standing.borrow_mut();
        standing.next = self.session.next().get();
        standing.upstream_next = self.session.upstream_next().get();
        standing.applied = self.session.applied_next().get();
        standing.generation = self.session.generation();
        standing.lag_bytes = (self.session.buffered() + self.router.as_ref().map_or(0, Router::bytes)) as u64;
        if self.session.is_streaming() {
            standing.heard = self.session.heard();
        }
        here
    }

    /// The link is gone: loading slots are begun anew; what is in the rings goes on.
    async fn cut(&mut self) {
        self.session.hang_up();
        match &mut self.router {
            Some(router) => router.link_cut(),
            None => {
                if let Some((following, store)) = self.local.core().following_and_store() {
                    following.applier(self.stream).link_cut(store);
                }
            }
        }
        self.settle_all(&mut Turn::begin()).await;
    }

    /// As [`settle`](Self::settle), turn after turn, until nothing of this shard is left.
    async fn settle_all(&mut self, turn: &mut Turn) {
        while self.settle(turn) == Taken::Some {
            turn.pass_if_over().await;
        }
    }
}

/// Completes when an owner is done with something, the deadline comes, or it is all over.
async fn wait<T>(lanes: &mut [Option<ToOwner>], stop: &Stop, deadline: Option<Moment>) -> Option<T> {
    let done = std::future::poll_fn(|cx| {
        let ready = lanes.iter_mut().flatten().any(|lane| lane.poll_ready(cx).is_ready());
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    let timer = async {
        match deadline {
            Some(deadline) => super::clock::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    done.or(timer).or(stop.stopped()).await;
    None
}

fn apply_here(local: &Local, router: &mut Router, owner: ShardId, session: &mut Session, turn: &Turn) -> Taken {
    let mut core = local.core();
    let Some((following, store)) = core.following_and_store() else { return Taken::All };
    while let Some(batch) = router.pop(owner) {
        match following.offer(store, batch) {
            Offered::Done(done) => {
                for ask in router.complete(owner, done) {
                    session.need(ask.slot, ask.whole);
                }
            }
            Offered::Gated(batch) => {
                // The last of the others to arrive completes its part, and that wakes this task.
                router.unpop(owner, batch);
                return Taken::All;
            }
        }
        if turn.is_over() {
            return Taken::Some;
        }
    }
    Taken::All
}

fn welcomed(standing: &RefCell<Standing>, expected: ShardCount, welcome: &Welcome) -> Result<(), PullEnd> {
    if welcome.shards != expected {
        return Err(PullEnd::Reshaped(welcome.shards));
    }
    tracing::info!(stream = %welcome.shard, generation = %welcome.generation, verdict = ?welcome.verdict, "following the upstream");
    let mut standing = standing.borrow_mut();
    standing.linked = true;
    standing.synced &= welcome.verdict == Verdict::Stream;
    standing.down_since = None;
    standing.error = None;
    standing.client_port = welcome.client_port;
    Ok(())
}

/// The task of an owner for one stream: takes batches off the lane and applies them, in order, until the puller is gone.
pub async fn own(local: Rc<Local>, mut lane: FromPuller) {
    let mut held: Option<Batch> = None;
    let mut turn = Turn::begin();
    loop {
        let mut busy = false;
        while let Some(batch) = held.take().or_else(|| lane.pop()) {
            let mut core = local.core();
            let Some((following, store)) = core.following_and_store() else { return };
            match following.offer(store, batch) {
                Offered::Done(done) => {
                    store.reclaim();
                    drop(core);
                    local.tell_applied();
                    lane.reply(done);
                    busy = true;
                }
                Offered::Gated(batch) => {
                    held = Some(batch);
                    break;
                }
            }
            if turn.is_over() {
                break;
            }
        }
        if held.is_some() {
            // The others arrive at their gates soon; a sync begins rarely.
            sleep(Duration::from_millis(1)).await;
        } else if busy {
            turn.pass_if_over().await;
        } else if lane.ready().await.is_err() {
            return;
        } else {
            turn = Turn::begin();
        }
    }
}
