//! The executors: one thread a shard, nothing shared between them but rings.
//!
//! glommio as it is, with the settings under which it does not hang: its default preemption timer, no task queue whose
//! latency matters, and a ticker on every executor, so that one that parks with work to run wakes within 10 ms.
//!
//! ```text
//!   Executors::start(plan, seeds, main)
//!      thread 0: executor ── ticker ── main(Shard 0, seed 0) ── tasks in three queues: replication, clients, snapshot; the poller in a fourth
//!      thread 1: executor ── ticker ── main(Shard 1, seed 1) ── …
//!      watchdog: are the tickers ticking?
//! ```
//!
//! A panic on a shard ends the process, after its message: there is never half a node.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{Latency, LocalExecutor, LocalExecutorBuilder, PoolPlacement, Shares, TaskQueueHandle};

use crate::id::{ShardCount, ShardId};
use crate::limits::{EXECUTOR_IO_BYTES, TICK_MS};

use super::clock;
use super::cpus::{CpuId, Placement};
use super::poller::Poller;
use super::shutdown::Shutdown;
use super::startup::{StartupError, lock_memory};
use super::stopwatch::Stopwatch;
use super::watchdog::{Health, Progress, Watchdog};

/// A task on this shard. Await it for its result, or detach it: dropping it cancels it, which leaks a little.
pub type Task<T> = glommio::Task<T>;

/// How the executors are started.
#[derive(Debug)]
pub struct Plan {
    /// Where each shard runs; its length is the number of shards.
    pub cpus: Vec<Option<CpuId>>,
    /// How long an executor looks for work before it sleeps. Anything but zero only for cores that are ours alone;
    /// unpinned shards never spin.
    pub spin: Duration,
}

impl Plan {
    /// Shards placed as `placement` says, without spinning.
    pub fn new(shards: ShardCount, placement: &Placement) -> Plan {
        Plan { cpus: shards.shards().map(|shard| placement.cpu(shard)).collect(), spin: Duration::ZERO }
    }

    /// Unpinned shards, without spinning: what tests use.
    pub fn unpinned(shards: ShardCount) -> Plan {
        Plan { cpus: vec![None; shards.get() as usize], spin: Duration::ZERO }
    }
}

/// The threads of all shards.
#[derive(Debug)]
pub struct Executors<T> {
    threads: Vec<JoinHandle<Option<T>>>,
    health: Health,
    watchdog: Watchdog,
}

impl<T: Send + 'static> Executors<T> {
    /// Starts one executor a shard and runs `main` on each, with the seed of that shard: whatever was made for it
    /// before there were threads (its ends of rings, its listeners). Returns when all executors stand. A shard ends
    /// when its `main` returns; tasks that it has not awaited are dropped then.
    ///
    /// # Errors
    /// If an executor cannot be made; no `main` has run then.
    ///
    /// # Panics
    /// If there are not as many seeds as shards.
    pub fn start<S, F, M>(plan: Plan, seeds: Vec<S>, shutdown: &Shutdown, main: M) -> Result<Executors<T>, StartupError>
    where
        S: Send + 'static,
        F: Future<Output = T> + 'static,
        M: Fn(Shard, S) -> F + Clone + Send + 'static,
    {
        assert_eq!(plan.cpus.len(), seeds.len(), "one seed a shard");
        let count = ShardCount::new(seeds.len() as u16).expect("1 to SHARDS_MAX shards");
        lock_memory(count)?;
        let health: Health = seeds.iter().map(|_| Progress::default()).collect();
        let gate = Arc::new(Gate::new(count));
        let mut threads = Vec::new();
        for (id, seed) in count.shards().zip(seeds) {
            let (main, gate_of_thread) = (main.clone(), Arc::clone(&gate));
            let start = Start { id, count, cpu: plan.cpus[id.index()], spin: plan.spin, shutdown: shutdown.clone() };
            let health = Arc::clone(&health);
            let thread = std::thread::Builder::new()
                .name(format!("kevy-shard-{id}"))
                .spawn(move || run(start, seed, main, &gate_of_thread, health));
            match thread {
                Ok(thread) => threads.push(thread),
                Err(cause) => {
                    gate.close();
                    return Err(StartupError::Executor { shard: id, cause: cause.to_string() });
                }
            }
        }
        gate.open_when_all_stand()?;
        let watchdog = Watchdog::start(Arc::clone(&health))
            .map_err(|cause| StartupError::Executor { shard: ShardId::new(0), cause: cause.to_string() })?;
        Ok(Executors { threads, health, watchdog })
    }

    /// The health of all executors; stays readable after their end.
    pub fn health(&self) -> Health {
        Arc::clone(&self.health)
    }

    /// Waits for all shards to end. Returns what their `main`s returned, in order.
    pub fn join(self) -> Vec<T> {
        // A shard that panics ends the process, and all have passed the gate.
        let results = self.threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect();
        drop(self.watchdog);
        results
    }
}

/// What the tasks of a shard know of it. Clones are cheap and stay on the shard's thread.
#[derive(Clone)]
pub struct Shard {
    inner: Rc<Inner>,
}

struct Inner {
    id: ShardId,
    count: ShardCount,
    cpu: Option<CpuId>,
    queues: Queues,
    health: Health,
    shutdown: Shutdown,
    /// Tasks that wait for the end of the process, each under its own number.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next_waiting: Cell<u64>,
    stopwatch: Stopwatch,
    poller: Rc<Poller>,
}

/// Which share of its shard a task lives on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    /// Streams to and from other nodes.
    Replication,
    /// Connections of clients.
    Clients,
    /// What may be slow: at most a sixth of the two others.
    Snapshot,
}

impl Shard {
    /// Its number.
    pub fn id(&self) -> ShardId {
        self.inner.id
    }

    /// How many shards the node has.
    pub fn count(&self) -> ShardCount {
        self.inner.count
    }

    /// The CPU it is pinned to.
    pub fn cpu(&self) -> Option<CpuId> {
        self.inner.cpu
    }

    /// The health of all executors of the node.
    pub fn health(&self) -> &Health {
        &self.inner.health
    }

    /// Runs `future` as a task of this shard. It is polled once at once, inside this call: hold no borrow that it
    /// needs.
    pub fn spawn<T: 'static>(&self, queue: Queue, future: impl Future<Output = T> + 'static) -> Task<T> {
        let Queues { replication, clients, snapshot, .. } = self.inner.queues;
        let handle = match queue {
            Queue::Replication => replication,
            Queue::Clients => clients,
            Queue::Snapshot => snapshot,
        };
        glommio::spawn_local_into(timed(Rc::clone(&self.inner), future), handle)
            .expect("the queue lives as long as the executor")
    }

    /// Runs `work`, which may block, beside the shard. It must not panic: whoever awaits it would wait for ever.
    pub async fn blocking<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        glommio::executor().spawn_blocking(work).await
    }

    /// Completes within a tick of the beginning of the orderly end. Cancel-safe.
    pub fn shutdown(&self) -> impl Future<Output = ()> + 'static {
        let number = self.inner.next_waiting.get();
        self.inner.next_waiting.set(number + 1);
        Ending { inner: Rc::clone(&self.inner), number }
    }

    /// Whether the orderly end has begun.
    pub fn is_shutting_down(&self) -> bool {
        self.inner.shutdown.is_begun()
    }

    /// Begins the orderly end of all shards.
    pub fn begin_shutdown(&self) {
        self.inner.shutdown.begin();
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("id", &self.id()).field("cpu", &self.cpu()).finish_non_exhaustive()
    }
}

/// A task, with a look at the clock before and behind each stretch that it runs: once for all the commands that have arrived, not
/// once for each.
async fn timed<T>(inner: Rc<Inner>, task: impl Future<Output = T>) -> T {
    let mut task = std::pin::pin!(task);
    std::future::poll_fn(|cx| {
        inner.poller.ran();
        inner.stopwatch.time(&inner.health[inner.id.index()], || task.as_mut().poll(cx))
    })
    .await
}

/// The future of [`Shard::shutdown`]. The ticker wakes it.
struct Ending {
    inner: Rc<Inner>,
    number: u64,
}

impl Future for Ending {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.shutdown.is_begun() {
            return Poll::Ready(());
        }
        self.inner.waiting.borrow_mut().insert(self.number, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let waker = self.inner.waiting.borrow_mut().remove(&self.number);
        drop(waker);
    }
}

#[derive(Clone, Copy)]
struct Queues {
    replication: TaskQueueHandle,
    clients: TaskQueueHandle,
    snapshot: TaskQueueHandle,
    sockets: TaskQueueHandle,
}

impl Queues {
    /// On the executor of this thread, from inside it.
    fn create() -> Queues {
        let queue =
            |shares, name| glommio::executor().create_task_queue(Shares::Static(shares), Latency::NotImportant, name);
        Queues {
            replication: queue(1_000, "replication"),
            clients: queue(1_000, "clients"),
            snapshot: queue(200, "snapshot"),
            sockets: queue(1_000, "sockets"),
        }
    }
}

/// Lets the other queues of this shard run what is ready there. Yielding alone only lets other tasks of the same queue run. No promise: where
/// the others' tasks lost time to another process, this queue may be the next again.
pub async fn yield_to_queues() {
    let _yielding = Poller::here().yields();
    glommio::executor().yield_task_queue_now().await;
}

struct Start {
    id: ShardId,
    count: ShardCount,
    cpu: Option<CpuId>,
    spin: Duration,
    shutdown: Shutdown,
}

/// The life of a shard's thread. `None`: the gate did not open.
fn run<S, F, M, T>(start: Start, seed: S, main: M, gate: &Gate, health: Health) -> Option<T>
where
    F: Future<Output = T> + 'static,
    M: Fn(Shard, S) -> F,
    T: 'static,
{
    let Start { id, count, cpu, spin, shutdown } = start;
    let made = Poller::new().map_err(|error| error.to_string()).and_then(|poller| Ok((make(cpu, spin)?, poller)));
    let ((executor, cpu), poller) = match made {
        Ok((made, poller)) => (made, Rc::new(poller)),
        Err(cause) => {
            gate.report(id, Err(cause));
            return None;
        }
    };
    gate.report(id, Ok(()));
    if !gate.wait() {
        return None;
    }
    // Dropped before the executor when a panic unwinds: what the executor's tasks would do then is not waited for.
    let _whole = WholeNode;
    let _entered = poller.enter();
    let progress = Arc::clone(&health);
    let result = executor.run(async move {
        let inner = Inner {
            id,
            count,
            cpu,
            queues: Queues::create(),
            health,
            shutdown,
            waiting: RefCell::default(),
            next_waiting: Cell::new(0),
            stopwatch: Stopwatch::new(),
            poller,
        };
        let shard = Shard { inner: Rc::new(inner) };
        glommio::spawn_local(tick(Rc::clone(&shard.inner))).detach();
        let looking = Rc::clone(&shard.inner.poller).run();
        let looking = glommio::spawn_local_into(looking, shard.inner.queues.sockets).expect("the queue was just made");
        let poller = Rc::clone(&shard.inner.poller);
        let result = main(shard, seed).await;
        poller.close();
        looking.await;
        poller.let_go();
        result
    });
    progress[id.index()].end();
    Some(result)
}

/// Makes an executor on this thread, pinned to `cpu` if that can be had. An executor that cannot be made panics in
/// some cases, and that is no reason to end the process.
fn make(cpu: Option<CpuId>, spin: Duration) -> Result<(LocalExecutor, Option<CpuId>), String> {
    if let Some(id) = cpu {
        match catch(|| builder(glommio::Placement::Fixed(id.get()), spin).make()) {
            Ok(executor) => return Ok((executor, cpu)),
            Err(cause) => tracing::warn!(cpu = %id, cause, "the shard cannot be pinned and runs unpinned"),
        }
    }
    catch(|| builder(glommio::Placement::Unbound, Duration::ZERO).make()).map(|executor| (executor, None))
}

fn builder(placement: glommio::Placement, spin: Duration) -> LocalExecutorBuilder {
    let builder = LocalExecutorBuilder::new(placement)
        .io_memory(EXECUTOR_IO_BYTES)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1));
    if spin.is_zero() { builder } else { builder.spin_before_park(spin) }
}

fn catch(make: impl FnOnce() -> glommio::Result<LocalExecutor, ()>) -> Result<LocalExecutor, String> {
    match catch_unwind(AssertUnwindSafe(make)) {
        Ok(made) => made.map_err(|error| error.to_string()),
        Err(_) => Err("glommio panicked; its message is above".into()),
    }
}

/// The ticker: shows that the executor lives, wakes it should it have parked by mistake, and spreads the end.
async fn tick(shard: Rc<Inner>) {
    let progress = &shard.health[shard.id.index()];
    loop {
        progress.tick(clock::now());
        if shard.shutdown.is_begun() {
            let waiting = std::mem::take(&mut *shard.waiting.borrow_mut());
            waiting.into_values().for_each(Waker::wake);
        }
        clock::sleep(Duration::from_millis(TICK_MS)).await;
    }
}

/// Holds every shard until all executors stand, so that no `main` runs on half a node.
struct Gate {
    stands: Box<[OnceLock<Result<(), String>>]>,
    open: OnceLock<bool>,
}

impl Gate {
    fn new(count: ShardCount) -> Gate {
        Gate { stands: count.shards().map(|_| OnceLock::new()).collect(), open: OnceLock::new() }
    }

    fn report(&self, shard: ShardId, stands: Result<(), String>) {
        let _ = self.stands[shard.index()].set(stands);
    }

    fn wait(&self) -> bool {
        *self.open.wait()
    }

    fn close(&self) {
        let _ = self.open.set(false);
    }

    fn open_when_all_stand(&self) -> Result<(), StartupError> {
        for (i, stands) in self.stands.iter().enumerate() {
            if let Err(cause) = stands.wait() {
                self.close();
                return Err(StartupError::Executor { shard: ShardId::new(i as u16), cause: cause.clone() });
            }
        }
        let _ = self.open.set(true);
        Ok(())
    }
}

/// Ends the process if it is dropped by a panic, whose message has been printed by then.
struct WholeNode;

impl Drop for WholeNode {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            eprintln!("{} panicked: the process ends, there is no half a node", thread.name().unwrap_or("a shard"));
            std::process::abort();
        }
    }
}
