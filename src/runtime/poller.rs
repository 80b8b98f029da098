//! What wakes a shard: its sockets and the bell of the other shards, in one epoll set, looked at by one task.
//!
//! glommio would arm one poll a socket and read, which is a system call a request more than a set costs; and when a shard runs out
//! of work it goes through its rings six or seven times before it sleeps. So while there is traffic the shard sleeps in the set
//! itself, and only when there has been none for [`LINGER_MS`] does it park on its ring, which then watches the set.
//!
//! ```text
//!            ┌──────────── someone ran, or yields ───────────┐
//!            ▼                                               │
//!   let the others run ── all sleep ──▶ wait in the set ──▶ wake whoever has something
//!            ▲                           │ nothing for a while
//!            └────── the set is ready ── park: glommio's ring watches the set (and timers)
//! ```
//!
//! A busy shard does not sleep at once: a [`Vigil`] says how long it looks again instead.
//!
//! Timers, and what runs beside the shard, come by glommio's ring: they are late by no more than [`LINGER_MS`] and the turns meanwhile,
//! as a *pass* goes through the ring that often.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use slab::Slab;

use super::bell::Bell;
use super::fd;
use super::signal::Signal;
use super::turn::reactor_pass;
use super::vigil::Vigil;
use crate::limits::{LINGER_MS, POLLED_AT_ONCE};

/// The bell's place among the tokens: no socket's.
const BELL: u64 = u64::MAX;

/// The epoll set of one shard, and who waits for what in it.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    /// The same once more: parking uses one up.
    spare: RefCell<Option<OwnedFd>>,
    sockets: RefCell<Slab<Rc<Interest>>>,
    bell: Arc<Bell>,
    /// Stretches that tasks of this shard have run.
    stretches: Cell<u64>,
    /// Tasks that let others run, and are ready themselves.
    yielding: Cell<usize>,
    /// One of them went on.
    resumed: Signal,
    /// The set was looked at for those who yield.
    looked: Signal,
    /// Whether busy tasks are to let glommio's ring be looked at.
    pass_due: Cell<bool>,
    passed: Cell<Instant>,
    /// Whether the task sleeps on glommio's ring.
    parked: Cell<bool>,
    closed: Cell<bool>,
    vigil: Vigil,
}

/// What a socket is known to be ready for, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Interest {
    pub read: Side,
    pub write: Side,
}

/// One direction of a socket.
#[derive(Debug)]
pub(super) struct Side {
    /// Whether the next system call may succeed; what says it did not lowers it, and the kernel's next edge raises it.
    ready: Cell<bool>,
    /// Whether nothing will ever come but the end.
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Default for Side {
    fn default() -> Side {
        Side { ready: Cell::new(true), ended: Cell::new(false), waker: RefCell::new(None) }
    }
}

impl Side {
    /// Does `call` as soon as it does not say that it would block.
    pub fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut() -> rustix::io::Result<T>,
    ) -> Poll<io::Result<T>> {
        while self.ready.get() {
            match call() {
                Err(rustix::io::Errno::AGAIN) => self.ready.set(false),
                Err(rustix::io::Errno::INTR) => {}
                done => return Poll::Ready(done.map_err(io::Error::from)),
            }
        }
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The last call took all that there was: the next edge says when there is more, unless it was the last.
    pub fn drained(&self) {
        self.ready.set(self.ended.get());
    }

    /// Whether the next system call may succeed.
    pub fn is_ready(&self) -> bool {
        self.ready.get()
    }

    fn raise(&self, ended: bool) {
        self.ended.set(self.ended.get() || ended);
        self.ready.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A socket's place in the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token(usize);

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// If there is no free descriptor.
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &event, EventData::new_u64(BELL), EventFlags::IN | EventFlags::ET)?;
        Ok(Poller {
            spare: RefCell::new(Some(epoll.try_clone()?)),
            epoll,
            sockets: RefCell::default(),
            bell: Arc::new(Bell::new(event)),
            stretches: Cell::new(0),
            yielding: Cell::new(0),
            resumed: Signal::new(),
            looked: Signal::new(),
            pass_due: Cell::new(false),
            passed: Cell::new(Instant::now()),
            parked: Cell::new(false),
            closed: Cell::new(false),
            vigil: Vigil::default(),
        })
    }

    /// The set of the shard whose thread this is.
    ///
    /// # Panics
    /// Off a shard.
    pub fn here() -> Rc<Poller> {
        HERE.with_borrow(|here| here.clone()).expect("sockets live on a shard")
    }

    /// Makes it the set of this thread, until what is returned is dropped.
    pub fn enter(self: &Rc<Poller>) -> Entered {
        HERE.set(Some(Rc::clone(self)));
        Entered
    }

    /// Watches `socket` until [`forget`](Self::forget).
    ///
    /// # Errors
    /// If the kernel has no memory for it, or watches too many already.
    pub fn watch(&self, socket: impl AsFd, interest: &Rc<Interest>) -> io::Result<Token> {
        let token = self.sockets.borrow_mut().insert(Rc::clone(interest));
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        match epoll::add(&self.epoll, socket, EventData::new_u64(token as u64), events) {
            Ok(()) => Ok(Token(token)),
            Err(error) => {
                self.sockets.borrow_mut().remove(token);
                Err(error.into())
            }
        }
    }

    /// Watches it no more.
    pub fn forget(&self, token: Token, socket: impl AsFd) {
        // It was added, and is open: there is nothing that this could say.
        let _ = epoll::delete(&self.epoll, socket);
        self.sockets.borrow_mut().remove(token.0);
    }

    /// A task has run.
    pub fn ran(&self) {
        self.stretches.set(self.stretches.get() + 1);
    }

    /// Counts a task that yields for as long as it does.
    pub fn yields(self: &Rc<Poller>) -> Yielding {
        self.yielding.set(self.yielding.get() + 1);
        Yielding { poller: Rc::clone(self) }
    }

    /// Completes when the set has been looked at once more, and whoever it has something for is woken.
    pub async fn look_again(self: &Rc<Poller>) {
        // Who runs now was woken by a timer: the task below sleeps, and no socket needs to become ready ever.
        if self.parked.get() || self.closed.get() {
            self.look(0);
            return;
        }
        let _yielding = self.yields();
        self.looked.past(self.looked.epoch()).await;
    }

    /// Lets the task end, wherever it waits. It is to be awaited: glommio never frees a task that is dropped while it is ready.
    pub fn close(&self) {
        self.closed.set(true);
        self.bell.ring();
        self.resumed.raise();
        self.looked.raise();
    }

    /// Nobody is woken any more: tasks that wait for a socket are dropped with the executor.
    pub fn let_go(&self) {
        let mut wakers = Vec::new();
        for (_, interest) in &*self.sockets.borrow() {
            wakers.extend(interest.read.waker.take().into_iter().chain(interest.write.waker.take()));
        }
        // With its last waker a task goes, and takes its socket out of the set.
        drop(wakers);
    }

    /// Whether yielding is not enough for others to live: glommio's ring is to be looked at, or the shard had parked on it.
    pub fn wants_pass(&self) -> bool {
        self.pass_due.get()
    }

    /// The task. Ends when the shard does.
    pub async fn run(self: Rc<Poller>) {
        let mut unlooked = false;
        while !self.closed.get() {
            let before = self.stretches.get();
            let_others_run().await;
            let all_sleep = self.stretches.get() == before && self.yielding.get() == 0;
            if all_sleep {
                let now = Instant::now();
                if self.vigil.holds(now) {
                    self.look(0);
                } else {
                    let since_pass = now.duration_since(self.passed.get()).as_millis() as u64;
                    if !self.look(LINGER_MS.saturating_sub(since_pass).max(1)) {
                        self.park().await;
                    }
                }
                unlooked = false;
            } else if self.yielding.get() > 0 {
                self.look(0);
                self.looked.raise();
                // Their queues may be behind this one's for long, as they have run for long.
                self.resumed.past(self.resumed.epoch()).await;
                unlooked = false;
            } else if unlooked {
                self.look(0);
                unlooked = false;
            } else {
                // They ran, and have probably come to rest: the next round sees.
                unlooked = true;
            }
            if self.passed.get().elapsed() >= Duration::from_millis(LINGER_MS) {
                self.pass().await;
            }
        }
    }

    async fn pass(&self) {
        self.pass_due.set(true);
        reactor_pass().await;
        self.pass_due.set(false);
        self.has_passed();
    }

    fn has_passed(&self) {
        let now = Instant::now();
        self.vigil.review(now.duration_since(self.passed.replace(now)));
    }

    /// Sleeps on glommio's ring until the set is ready.
    async fn park(&self) {
        self.pass_due.set(true);
        if self.bell.lie_down() {
            self.parked.set(true);
            match self.spare.take() {
                Some(set) => fd::readable(set).await,
                // There was no free descriptor: it does not park.
                None => reactor_pass().await,
            }
            self.parked.set(false);
            self.bell.get_up();
            *self.spare.borrow_mut() = self.epoll.try_clone().ok();
        }
        self.look(0);
        self.pass_due.set(false);
        self.has_passed();
    }

    /// Wakes whoever the set has something for; where there is nothing, waits for it for at most so many milliseconds. `false`:
    /// nothing came.
    fn look(&self, wait_ms: u64) -> bool {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; POLLED_AT_ONCE];
        let wait_ms = if wait_ms > 0 && self.bell.lie_down() { wait_ms } else { 0 };
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait_ms as i64 * 1_000_000 };
        // A signal is an interruption like a timeout.
        let found = epoll::wait(&self.epoll, &mut events, Some(&timeout)).map_or(&mut [][..], |(found, _)| found);
        if wait_ms > 0 {
            self.bell.get_up();
        }
        for event in &*found {
            let (flags, token) = (event.flags, event.data.u64());
            if token == BELL {
                continue;
            }
            let interest = self.sockets.borrow().get(token as usize).cloned();
            let Some(interest) = interest else { continue };
            let over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            if over || flags.intersects(EventFlags::IN | EventFlags::RDHUP) {
                interest.read.raise(over || flags.contains(EventFlags::RDHUP));
            }
            if over || flags.contains(EventFlags::OUT) {
                interest.write.raise(over);
            }
        }
        let rang = self.bell.answer();
        let count = found.len() + usize::from(rang);
        if count > 0 {
            self.vigil.found(count);
        }
        count > 0
    }
}

/// The waker to leave with another thread, so that `waker` is woken: on a shard one that rings its bell, elsewhere itself.
pub(super) fn doorstep(waker: &Waker) -> Waker {
    HERE.with_borrow(|here| here.as_ref().map_or_else(|| waker.clone(), |poller| poller.bell.knock(waker)))
}

thread_local! {
    static HERE: RefCell<Option<Rc<Poller>>> = const { RefCell::new(None) };
}

/// While it lives the thread has its set.
pub(super) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

/// While it lives a task yields.
pub(super) struct Yielding {
    poller: Rc<Poller>,
}

impl Drop for Yielding {
    fn drop(&mut self) {
        let poller = &self.poller;
        poller.yielding.set(poller.yielding.get() - 1);
        poller.resumed.raise();
    }
}

/// Lets every other queue run until nothing in it is ready.
async fn let_others_run() {
    glommio::executor().yield_task_queue_now().await;
}
