//! One shard on its executor: its core, its lanes to the others, and the signals between its tasks.
//!
//! ```text
//!                     ┌──────────────── Local (one thread) ────────────────┐
//!  clients ─ tasks ──▶│ core: Shard ── to_send ──▶ streamers ──▶ replicas   │
//!  other shards ─────▶│  ▲  mesh task                                      │
//!  upstream ─ puller ─┼──┘             acked ────▶ WAIT                    │
//!                     └────────────────────────────────────────────────────┘
//! ```
//!
//! A task borrows the core, never across an await; what it recorded is sent before anyone is told
//! ([`Local::stream_first`]).

use std::any::Any;
use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use super::commands::CommandBatch;
use super::executor::{self, Queue, Task};
use super::inflow::Inflow;
use super::listener::Connection;
use super::mesh::Mesh;
use super::outlet::{Left, Outlet};
use super::signal::Signal;
use super::turn::Turn;
use crate::id::{ShardCount, ShardId, UnixMs};
use crate::shard::Shard;
use crate::shard::waiting::Answer as Answered;
use crate::store::Message;

/// What one shard asks of another.
pub enum Request {
    /// Execute these commands.
    Commands(Box<CommandBatch>),
    /// Run this, and send back what it returns.
    Call(Call),
    /// Serve this client.
    Connection(Connection),
}

/// What a shard answers.
pub enum Answer {
    /// The commands, executed.
    Commands(Box<CommandBatch>),
    /// What the call returned.
    Called(Box<dyn Any + Send>),
    /// The client is served.
    Taken,
}

/// A function that travels to another shard.
pub type Call = Box<dyn FnOnce(&Rc<Local>) -> Box<dyn Any + Send> + Send>;

/// What takes a connection that arrives by a lane.
type Serve = Rc<dyn Fn(Connection)>;

/// What takes the published messages that the stream brought.
type Tell = Rc<dyn Fn(Vec<Message>)>;

/// One shard on its executor.
pub struct Local {
    executor: executor::Shard,
    core: RefCell<Shard>,
    mesh: RefCell<Mesh<Request, Answer>>,
    /// By shard: who waits for the answers of that lane, in the order of the requests.
    waiting: RefCell<Vec<Waiting>>,
    /// A request was answered: there is room on a lane.
    answered: Signal,
    /// The replication connections of this shard.
    outlets: RefCell<Vec<Rc<RefCell<Outlet>>>>,
    /// The tasks of replication connections are to look whether they have something to send.
    pub to_send: Signal,
    /// A replica acknowledged something.
    pub acked: Signal,
    /// What the upstreams' streams bring.
    pub(super) inflow: Rc<Inflow>,
    /// Links to replicas may be nobody's any more: another one took the place of one, or this node records another history.
    pub links_changed: Signal,
    /// What a connection that arrives by a lane is given to.
    serve: RefCell<Option<Serve>>,
    /// What published messages are given to.
    tell: RefCell<Option<Tell>>,
    /// Emptied batches.
    #[expect(clippy::vec_box, reason = "they cross lanes by their boxes")]
    spare: RefCell<Vec<Box<CommandBatch>>>,
    /// Numbers for `INFO`.
    pub gauges: Gauges,
}

/// What a shard's tasks count.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Client connections that are open.
    pub clients: Cell<u64>,
    /// Client connections accepted so far.
    pub accepted: Cell<u64>,
    /// Client connections that were closed as there were too many.
    pub rejected: Cell<u64>,
    /// Connections on the replication port that have not said what they want.
    pub greeting: Cell<u64>,
    /// Clients whose command waits.
    pub blocked: Cell<u64>,
    /// Bytes received from clients so far.
    pub received: Cell<u64>,
    /// Bytes sent to clients so far.
    pub sent: Cell<u64>,
    /// What was done in the latest second.
    pub rates: Cell<Rates>,
}

/// What a shard did in the latest second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    /// Commands.
    pub commands: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
}

/// Those who wait for the answers of one lane, the next one first.
type Waiting = VecDeque<Rc<Waiter>>;

#[derive(Default)]
struct Waiter {
    answer: RefCell<Option<Answer>>,
    waker: RefCell<Option<Waker>>,
}

impl Local {
    /// The shard `core` on the executor of this thread.
    pub fn new(executor: executor::Shard, core: Shard, mesh: Mesh<Request, Answer>) -> Rc<Local> {
        let lanes = executor.count().get() as usize;
        Rc::new(Local {
            executor,
            core: RefCell::new(core),
            mesh: RefCell::new(mesh),
            waiting: RefCell::new((0..lanes).map(|_| VecDeque::new()).collect()),
            answered: Signal::new(),
            outlets: RefCell::new(Vec::new()),
            to_send: Signal::new(),
            acked: Signal::new(),
            inflow: Rc::default(),
            links_changed: Signal::new(),
            serve: RefCell::new(None),
            tell: RefCell::new(None),
            spare: RefCell::new(Vec::new()),
            gauges: Gauges::default(),
        })
    }

    /// Its number.
    pub fn id(&self) -> ShardId {
        self.executor.id()
    }

    /// How many shards the node has.
    pub fn count(&self) -> ShardCount {
        self.executor.count()
    }

    /// Its executor.
    pub fn executor(&self) -> &executor::Shard {
        &self.executor
    }

    /// The shard itself. The borrow must not live across an await.
    pub fn core(&self) -> RefMut<'_, Shard> {
        self.core.borrow_mut()
    }

    /// Ends a turn that may have recorded something, and sends it before anyone is told: a reply does not overtake its own
    /// frame. Whoever else has commands executes them first, so that one send carries the frames of all.
    pub async fn stream_first(&self) {
        if self.end_turn() {
            yield_now().await;
            if self.end_turn() {
                self.send_now();
            }
        }
        self.tell_waiters();
    }

    /// Completes when what the sockets of upstreams hold is applied, a turn of each stream at most, or after two [`tick`](Self::tick)s: to be
    /// awaited behind what a reader sent, and before it is answered.
    pub async fn apply_first(&self) {
        self.inflow.applied().await;
    }

    /// To be called every [`TICK_MS`](crate::limits::TICK_MS): bounds what [`apply_first`](Self::apply_first) waits for, and for how long
    /// a reader counts as one.
    pub fn tick(&self) {
        self.inflow.tick();
    }

    /// Tells those who waited for a key what they got.
    pub fn tell_waiters(&self) {
        // Whoever hears it may begin to wait again.
        let answers = self.core().take_answers();
        answers.into_iter().for_each(Answered::tell);
    }

    /// Ends a turn that may have recorded something. `true`: a replica that takes it has something to be sent.
    fn end_turn(&self) -> bool {
        self.core.borrow_mut().end_turn() && self.outlets.borrow().iter().any(|outlet| outlet.borrow().is_free())
    }

    /// Sends to replicas what there is, as far as their sockets take it at once; their own tasks do the rest.
    pub fn send_now(&self) {
        let mut core = self.core.borrow_mut();
        let mut left = Left::Nothing;
        for outlet in self.outlets.borrow().iter() {
            if outlet.borrow_mut().send_now(&mut core) == Left::Something {
                left = Left::Something;
            }
        }
        drop(core);
        if left == Left::Something {
            self.to_send.raise();
        }
    }

    /// A replication connection begins: what is recorded goes out by `outlet` from now on.
    pub(super) fn open_outlet(&self, outlet: Rc<RefCell<Outlet>>) {
        self.outlets.borrow_mut().push(outlet);
    }

    /// It has ended.
    pub(super) fn close_outlet(&self, outlet: &Rc<RefCell<Outlet>>) {
        self.outlets.borrow_mut().retain(|other| !Rc::ptr_eq(other, outlet));
    }

    /// Runs a task on this shard. It is polled once at once: hold no borrow.
    pub fn spawn<T: 'static>(&self, queue: Queue, future: impl Future<Output = T> + 'static) -> Task<T> {
        self.executor.spawn(queue, future)
    }

    /// Says who serves connections that come by a lane.
    pub fn on_connection(&self, serve: impl Fn(Connection) + 'static) {
        *self.serve.borrow_mut() = Some(Rc::new(serve));
    }

    /// Says who takes the published messages that the stream brings.
    pub fn on_messages(&self, tell: impl Fn(Vec<Message>) + 'static) {
        *self.tell.borrow_mut() = Some(Rc::new(tell));
        self.core().store.keep_messages();
    }

    /// Hands on what the stream brought: published messages, and keys that somebody waits for.
    pub fn tell_applied(&self) {
        let mut core = self.core();
        if core.store.awaited.has_ready() {
            core.serve_waiting(unix_now());
        }
        let messages = core.store.take_messages();
        drop(core);
        self.tell_waiters();
        if !messages.is_empty()
            && let Some(tell) = self.tell.borrow().clone()
        {
            tell(messages);
        }
    }

    /// An empty batch of commands, one that was used before where there is one.
    pub fn batch(&self) -> Box<CommandBatch> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a batch back; one with much memory is dropped.
    pub fn recycle(&self, mut batch: Box<CommandBatch>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < crate::limits::ROUTER_SPARE_MAX && !batch.is_large() {
            batch.clear();
            spare.push(batch);
        }
    }

    /// Sends a request to another shard, waiting for room on the lane, and gives back a future of the answer. For tasks with a
    /// socket behind them.
    ///
    /// # Panics
    /// If `to` is this shard.
    pub async fn send(&self, to: ShardId, request: Request) -> impl Future<Output = Answer> + use<> {
        let mut request = request;
        loop {
            let epoch = self.answered.epoch();
            match self.try_send(to, request) {
                Ok(answer) => return answer,
                Err(back) => request = back,
            }
            self.answered.past(epoch).await;
        }
    }

    /// Sends a request where the lane has room for it.
    ///
    /// # Errors
    /// The request, where it has not.
    pub fn try_send(&self, to: ShardId, request: Request) -> Result<impl Future<Output = Answer> + use<>, Request> {
        self.mesh.borrow_mut().caller(to).try_call(request)?;
        let waiter = Rc::new(Waiter::default());
        self.waiting.borrow_mut()[to.index()].push_back(Rc::clone(&waiter));
        Ok(poll_fn(move |cx| match waiter.answer.borrow_mut().take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                *waiter.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }))
    }

    /// Runs `f` on shard `to`, this one included, and returns what it gives.
    pub async fn call<T: Send + 'static>(
        self: &Rc<Local>,
        to: ShardId,
        f: impl FnOnce(&Rc<Local>) -> T + Send + 'static,
    ) -> T {
        if to == self.id() {
            return f(self);
        }
        let call: Call = Box::new(move |local| Box::new(f(local)));
        match self.send(to, Request::Call(call)).await.await {
            Answer::Called(value) => *value.downcast().expect("a call returns what it was made to return"),
            Answer::Commands(_) | Answer::Taken => unreachable!("a call is answered by its value"),
        }
    }

    /// Runs `f` on every shard, in order, and returns what each gives.
    pub async fn call_all<T: Send + 'static>(
        self: &Rc<Local>,
        f: impl Fn(&Rc<Local>) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let mut values = Vec::with_capacity(self.count().get() as usize);
        for shard in self.count().shards() {
            let f = f.clone();
            values.push(self.call(shard, move |local| f(local)).await);
        }
        values
    }

    /// The task that serves the lanes: requests of other shards, and answers to this one's. Never ends.
    pub async fn serve_mesh(self: Rc<Local>) {
        let mut turn = Turn::begin();
        let mut answers = Vec::new();
        loop {
            if self.serve_lanes(&mut answers) {
                self.stream_first().await;
                for (other, answer) in answers.drain(..) {
                    self.mesh.borrow_mut().callee(other).reply(answer);
                }
                turn.pass_if_over().await;
            } else {
                poll_fn(|cx| self.mesh.borrow_mut().poll_ready(cx)).await;
                turn = Turn::begin();
            }
        }
    }

    /// Serves what has arrived on the lanes, once around, and leaves in `answers` what is to be told. `true` if there was
    /// something.
    fn serve_lanes(self: &Rc<Local>, answers: &mut Vec<(ShardId, Answer)>) -> bool {
        // Most rounds find nothing, and need no clock.
        let mut now = None;
        let mut busy = false;
        for other in self.count().shards().filter(|other| *other != self.id()) {
            loop {
                let request = self.mesh.borrow_mut().callee(other).pop();
                let Some(request) = request else { break };
                busy = true;
                let answer = match request {
                    Request::Commands(mut batch) => {
                        batch.execute(&mut self.core(), *now.get_or_insert_with(unix_now));
                        Answer::Commands(batch)
                    }
                    Request::Call(call) => Answer::Called(call(self)),
                    Request::Connection(connection) => {
                        self.serve_connection(connection);
                        Answer::Taken
                    }
                };
                answers.push((other, answer));
            }
            loop {
                let answer = self.mesh.borrow_mut().caller(other).pop();
                let Some(answer) = answer else { break };
                busy = true;
                let waiter = self.waiting.borrow_mut()[other.index()].pop_front();
                if let Some(waiter) = waiter {
                    *waiter.answer.borrow_mut() = Some(answer);
                    if let Some(waker) = waiter.waker.borrow_mut().take() {
                        waker.wake();
                    }
                }
            }
        }
        if busy {
            self.answered.raise();
        }
        busy
    }

    /// Serves a client here.
    pub fn serve_connection(&self, connection: Connection) {
        let serve = self.serve.borrow().clone();
        match serve {
            Some(serve) => serve(connection),
            None => drop(connection),
        }
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Lets every other task of the same queue that is ready run once.
async fn yield_now() {
    futures_lite::future::yield_now().await;
}

/// What the wall clock says: what expiry is judged by.
pub fn unix_now() -> UnixMs {
    UnixMs::new(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

/// What the wall clock says, in microseconds: what people are shown.
pub fn unix_now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
