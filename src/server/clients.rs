//! The clients of one shard, as the others know them: who they are, what is pushed to them, and how they are ended.
//!
//! ```text
//! connection's task ── owns ──▶ ClientSession ──▶ Rc<Client> ◀── Clients, by number ◀── CLIENT LIST, KILL; messages; MONITOR
//!        ▲                                           │
//!        └────────── pushed ── outbox ◀──────────────┘
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::settings::OutputLimit;
use crate::id::Moment;
use crate::resp::Protocol;
use crate::runtime::clock::now;
use crate::runtime::signal::Signal;
use crate::runtime::stream::SocketHandle;

/// One client, as others on its shard know it.
#[derive(Debug)]
pub(super) struct Client {
    /// Its number, unique on the node.
    pub id: u64,
    /// Where it comes from.
    pub address: String,
    /// Where it came to.
    pub local_address: String,
    socket: SocketHandle,
    /// When it came.
    pub since: Moment,
    /// The name it gave itself.
    pub name: RefCell<Vec<u8>>,
    /// The library it says it uses, and its version.
    pub library: RefCell<[Vec<u8>; 2]>,
    /// The protocol it speaks.
    pub protocol: Cell<Protocol>,
    /// What it subscribes to.
    pub subscribed: RefCell<Subscribed>,
    /// Whether it sees every command.
    pub monitors: Cell<bool>,
    /// What it last asked.
    pub last: Cell<&'static str>,
    /// When it last said something, to a tick.
    pub heard: Cell<Moment>,
    /// Commands that wait for its `EXEC`; `None`: it is in no transaction.
    pub queued: Cell<Option<usize>>,
    /// How many keys it watches.
    pub watches: Cell<usize>,
    /// Whether it asked not to be evicted, and not to touch keys.
    pub no_evict: Cell<bool>,
    /// See [`no_evict`](Self::no_evict).
    pub no_touch: Cell<bool>,
    /// Whether a command of it waits.
    waits: Cell<Waits>,
    /// Whether it is to go once its replies are out.
    killed: Cell<bool>,
    outbox: RefCell<Vec<u8>>,
    /// Bytes that are on their way to its socket.
    sending: Cell<usize>,
    /// Since when its outbox is over the soft limit.
    over_since: Cell<Option<Moment>>,
    pushed: Signal,
}

/// Whether a command of a client waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    No,
    Yes,
    /// It did, and is to wait no longer.
    Over(Unblocked),
}

/// How another client ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unblocked {
    /// As if its time had passed.
    Timeout,
    /// By an error.
    Error,
}

/// What happens to a client whose command waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Disturbed {
    /// It is to go.
    Killed,
    /// It is to wait no longer.
    Unblocked(Unblocked),
    /// Something is left for it.
    Pushed,
}

/// What a client subscribes to.
#[derive(Debug, Default)]
pub(super) struct Subscribed {
    /// Channels.
    pub channels: BTreeSet<Arc<[u8]>>,
    /// Patterns of channels.
    pub patterns: BTreeSet<Arc<[u8]>>,
    /// Shard channels.
    pub shard_channels: BTreeSet<Arc<[u8]>>,
}

impl Subscribed {
    /// Channels and patterns.
    pub fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Whether it is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.count() == 0 && self.shard_channels.is_empty()
    }
}

impl Client {
    /// A client that has said nothing yet.
    pub fn new(id: u64, address: String, local_address: String, socket: SocketHandle) -> Client {
        Client {
            id,
            address,
            local_address,
            socket,
            since: now(),
            name: RefCell::default(),
            library: RefCell::default(),
            protocol: Cell::new(Protocol::Resp2),
            subscribed: RefCell::default(),
            monitors: Cell::new(false),
            last: Cell::new("NULL"),
            heard: Cell::new(now()),
            queued: Cell::new(None),
            watches: Cell::new(0),
            no_evict: Cell::new(false),
            no_touch: Cell::new(false),
            waits: Cell::new(Waits::No),
            killed: Cell::new(false),
            outbox: RefCell::default(),
            sending: Cell::new(0),
            over_since: Cell::new(None),
            pushed: Signal::new(),
        }
    }

    /// Whether something may be pushed to it at any time.
    pub fn takes_pushes(&self) -> bool {
        self.monitors.get() || !self.subscribed.borrow().is_empty()
    }

    /// Whether it may only change its subscriptions: in RESP2 nothing tells a reply from a message.
    pub fn only_subscribes(&self) -> bool {
        self.protocol.get() == Protocol::Resp2 && !self.subscribed.borrow().is_empty()
    }

    /// Leaves `bytes` for it. A client that does not read what is left for it is ended.
    pub fn push(&self, bytes: &[u8], limit: OutputLimit) {
        if self.killed.get() {
            return;
        }
        let held = {
            let mut outbox = self.outbox.borrow_mut();
            outbox.extend_from_slice(bytes);
            outbox.len() + self.sending.get()
        };
        if limit.is_over_hard(held) {
            return self.kill_unread(held);
        }
        if !limit.is_over_soft(held) {
            self.over_since.set(None);
        } else {
            let since = self.over_since.get().unwrap_or_else(now);
            self.over_since.set(Some(since));
            if now().ms_since(since) >= limit.soft_seconds * 1_000 {
                return self.kill_unread(held);
            }
        }
        self.pushed.raise();
    }

    #[cold]
    fn kill_unread(&self, held: usize) {
        tracing::warn!(
            client = self.address,
            id = self.id,
            bytes = held,
            "closed: it does not read what it subscribed to"
        );
        *self.outbox.borrow_mut() = Vec::new();
        self.kill();
    }

    /// Ends the connection now.
    pub fn kill(&self) {
        self.killed.set(true);
        self.socket.hang_up();
        self.pushed.raise();
    }

    /// Ends the connection once its replies are out.
    pub fn kill_after_reply(&self) {
        self.killed.set(true);
    }

    /// Whether it is to go.
    pub fn is_killed(&self) -> bool {
        self.killed.get()
    }

    /// Whether nobody would read a reply.
    pub fn is_gone(&self) -> bool {
        self.killed.get() || self.socket.is_gone()
    }

    /// Moves what was left for it to the end of `out`.
    pub fn take_pushed(&self, out: &mut Vec<u8>) {
        out.append(&mut self.outbox.borrow_mut());
    }

    /// So many bytes are on their way to its socket.
    pub fn set_sending(&self, bytes: usize) {
        self.sending.set(bytes);
    }

    /// Completes once something is left for it. Cancel-safe.
    pub async fn pushed(&self) {
        let epoch = self.pushed.epoch();
        if self.outbox.borrow().is_empty() && !self.killed.get() {
            self.pushed.past(epoch).await;
        }
    }

    /// A command of it waits from now on.
    pub fn begin_wait(&self) {
        self.waits.set(Waits::Yes);
    }

    /// And does not any more.
    pub fn end_wait(&self) {
        self.waits.set(Waits::No);
    }

    /// Whether a command of it waits.
    pub fn is_waiting(&self) -> bool {
        self.waits.get() != Waits::No
    }

    /// Lets it wait no longer. `false`: it did not.
    pub fn unblock(&self, how: Unblocked) -> bool {
        let waits = self.waits.get() == Waits::Yes;
        if waits {
            self.waits.set(Waits::Over(how));
            self.pushed.raise();
        }
        waits
    }

    /// Completes once something happens to it while it waits. Cancel-safe.
    pub async fn disturbed(&self) -> Disturbed {
        loop {
            let epoch = self.pushed.epoch();
            match self.waits.get() {
                _ if self.killed.get() => return Disturbed::Killed,
                Waits::Over(how) => return Disturbed::Unblocked(how),
                _ if !self.outbox.borrow().is_empty() => return Disturbed::Pushed,
                Waits::No | Waits::Yes => self.pushed.past(epoch).await,
            }
        }
    }

    /// Bytes that wait for it to read.
    pub fn output_bytes(&self) -> usize {
        self.outbox.borrow().len() + self.sending.get()
    }
}

/// The clients of one shard, by number.
#[derive(Debug, Default)]
pub(super) struct Clients {
    all: RefCell<BTreeMap<u64, Rc<Client>>>,
}

impl Clients {
    /// A client came.
    pub fn add(&self, client: Rc<Client>) {
        self.all.borrow_mut().insert(client.id, client);
    }

    /// A client went.
    pub fn remove(&self, id: u64) {
        self.all.borrow_mut().remove(&id);
    }

    /// The client of this number, if it is one of this shard.
    pub fn get(&self, id: u64) -> Option<Rc<Client>> {
        self.all.borrow().get(&id).cloned()
    }

    /// All of them, as of now, in the order in which they came.
    pub fn all(&self) -> Vec<Rc<Client>> {
        self.all.borrow().values().cloned().collect()
    }
}
