//! Who hears what on one shard, and how what is said anywhere on the node gets there, in one order.
//!
//! ```text
//! PUBLISH ─▶ shard of the channel's slot: record it, post it ─▶ queue ─▶ deliver: shard 0, shard 1, … ─▶ outboxes
//! stream of the primary ─▶ shard of the slot: post it ───────────▲
//! ```
//!
//! All messages of a channel pass the queue of one shard, so every subscriber of the node sees them in the same order, and
//! those of a replica in the order of the stream. Shards on which nobody subscribes are not asked.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clients::Client;
use super::node::Node;
use crate::id::ShardId;
use crate::limits;
use crate::resp::{Protocol, Reply};
use crate::runtime::local::Local;
use crate::runtime::ring::Producer;
use crate::runtime::signal::Signal;
use crate::store::Message;
use crate::store::command::glob;

/// What is said to whoever listens.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// A published message.
    Message(Message),
    /// A command, for those who monitor: the line that they see.
    Line(Arc<[u8]>),
}

/// How many listen, by shard: looked at from all shards.
#[derive(Debug)]
pub(super) struct Listening {
    subscriptions: Box<[AtomicU64]>,
    monitors: AtomicU64,
}

impl Listening {
    /// Nobody, on so many shards.
    pub fn new(shards: u16) -> Listening {
        Listening { subscriptions: (0..shards).map(|_| AtomicU64::new(0)).collect(), monitors: AtomicU64::new(0) }
    }

    /// Whether some client of the node monitors.
    #[inline]
    pub fn is_monitored(&self) -> bool {
        self.monitors.load(Ordering::Relaxed) > 0
    }

    fn listens(&self, shard: ShardId) -> bool {
        self.subscriptions[shard.index()].load(Ordering::Acquire) > 0
    }
}

/// The listeners of one shard, and what waits to be said to all of them.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    channels: RefCell<Table>,
    patterns: RefCell<Table>,
    shard_channels: RefCell<Table>,
    monitors: RefCell<Vec<Rc<Client>>>,
    queue: RefCell<VecDeque<Posted>>,
    queued_bytes: Cell<usize>,
    /// Whether something was said that is not delivered everywhere.
    busy: Cell<bool>,
    /// Whether the queue was full, and something was not said.
    lost: Cell<bool>,
    posted: Signal,
}

/// Listeners by what they listen to.
type Table = HashMap<Arc<[u8]>, Vec<Rc<Client>>>;

#[derive(Debug)]
struct Posted {
    said: Said,
    /// Who wants to know how many heard it.
    answer: Option<Producer<usize>>,
}

/// What a subscription is to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A channel.
    Channel,
    /// A pattern of channels.
    Pattern,
    /// A shard channel.
    ShardChannel,
}

impl Exchange {
    fn table(&self, kind: Kind) -> &RefCell<Table> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::ShardChannel => &self.shard_channels,
        }
    }

    /// `client` listens to `name` from now on.
    pub fn subscribe(&self, local: &Local, node: &Node, client: &Rc<Client>, kind: Kind, name: &[u8]) {
        let name: Arc<[u8]> = name.into();
        if set_of(client, kind, |set| set.insert(Arc::clone(&name))) {
            self.table(kind).borrow_mut().entry(name).or_default().push(Rc::clone(client));
            node.shared.listening.subscriptions[local.id().index()].fetch_add(1, Ordering::Release);
        }
    }

    /// `client` does not listen to `name` any more. `false`: it did not before.
    pub fn unsubscribe(&self, local: &Local, node: &Node, client: &Client, kind: Kind, name: &[u8]) -> bool {
        if !set_of(client, kind, |set| set.remove(name)) {
            return false;
        }
        let mut table = self.table(kind).borrow_mut();
        if let Some(listeners) = table.get_mut(name) {
            listeners.retain(|other| other.id != client.id);
            if listeners.is_empty() {
                table.remove(name);
            }
        }
        node.shared.listening.subscriptions[local.id().index()].fetch_sub(1, Ordering::Release);
        true
    }

    /// `client` sees every command from now on.
    pub fn monitor(&self, local: &Local, node: &Node, client: &Rc<Client>) {
        if !client.monitors.replace(true) {
            self.monitors.borrow_mut().push(Rc::clone(client));
            node.shared.listening.subscriptions[local.id().index()].fetch_add(1, Ordering::Release);
            node.shared.listening.monitors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `client` listens to nothing any more.
    pub fn leave(&self, local: &Local, node: &Node, client: &Client) {
        for kind in [Kind::Channel, Kind::Pattern, Kind::ShardChannel] {
            let names: Vec<Arc<[u8]>> = set_of(client, kind, |set| set.iter().cloned().collect());
            for name in names {
                self.unsubscribe(local, node, client, kind, &name);
            }
        }
        if client.monitors.replace(false) {
            self.monitors.borrow_mut().retain(|other| other.id != client.id);
            node.shared.listening.subscriptions[local.id().index()].fetch_sub(1, Ordering::Release);
            node.shared.listening.monitors.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Channels of this shard with the number of their listeners.
    pub fn listeners(&self, kind: Kind) -> BTreeMap<Arc<[u8]>, usize> {
        self.table(kind).borrow().iter().map(|(name, listeners)| (Arc::clone(name), listeners.len())).collect()
    }

    /// Says something to all listeners of the node. Where that is done at once, the number of those who heard it; else `answer` is
    /// told.
    pub fn post(&self, local: &Local, node: &Node, said: Said, answer: Option<Producer<usize>>) -> Option<usize> {
        let others = || local.count().shards().any(|shard| shard != local.id() && node.shared.listening.listens(shard));
        if !self.busy.get() && !others() {
            return Some(self.deliver(node, &said));
        }
        let bytes = said.bytes();
        if self.queued_bytes.get() + bytes > limits::EXCHANGE_BYTES_MAX {
            self.lost.set(true);
            return Some(0);
        }
        self.queued_bytes.set(self.queued_bytes.get() + bytes);
        self.queue.borrow_mut().push_back(Posted { said, answer });
        self.busy.set(true);
        self.posted.raise();
        None
    }

    /// The task that delivers what is posted on this shard to all of them, in order. Never ends.
    pub async fn serve(local: Rc<Local>, node: Rc<Node>) {
        let exchange = &node.exchange;
        loop {
            let epoch = exchange.posted.epoch();
            let posted: Vec<Posted> = exchange.queue.borrow_mut().drain(..).collect();
            if posted.is_empty() && !exchange.lost.get() {
                exchange.busy.set(false);
                exchange.posted.past(epoch).await;
                continue;
            }
            exchange.queued_bytes.set(0);
            if exchange.lost.replace(false) {
                tracing::warn!(shard = %local.id(), "more was published than could be handed on: subscribers are closed");
                local.call_all(|_| Node::here().exchange.end_all()).await;
            }
            let said: Arc<[Said]> = posted.iter().map(|posted| posted.said.clone()).collect();
            let mut heard = vec![0; said.len()];
            for shard in local.count().shards().filter(|shard| node.shared.listening.listens(*shard)) {
                let said = Arc::clone(&said);
                let deliver = move |_: &Rc<Local>| {
                    let node = Node::here();
                    said.iter().map(|said| node.exchange.deliver(&node, said)).collect::<Vec<usize>>()
                };
                for (sum, heard) in heard.iter_mut().zip(local.call(shard, deliver).await) {
                    *sum += heard;
                }
            }
            for (posted, heard) in posted.into_iter().zip(heard) {
                if let Some(mut answer) = posted.answer {
                    // Whoever asked may be gone.
                    let _ = answer.try_push(heard);
                }
            }
        }
    }

    /// Says something to the listeners of this shard; returns how many they are.
    fn deliver(&self, node: &Node, said: &Said) -> usize {
        let limit = node.settings.borrow().output_limits.pubsub;
        match said {
            Said::Line(line) => {
                self.monitors.borrow().iter().for_each(|client| client.push(line, limit));
                0
            }
            Said::Message(message) => {
                let kind = if message.sharded { Kind::ShardChannel } else { Kind::Channel };
                let word: &[u8] = if message.sharded { b"smessage" } else { b"message" };
                let parts: [&[u8]; 3] = [word, &message.channel, &message.text];
                let mut encoded = Encoded::new(&parts);
                let mut heard = 0;
                if let Some(listeners) = self.table(kind).borrow().get(&message.channel) {
                    listeners.iter().for_each(|client| client.push(encoded.of(client.protocol.get()), limit));
                    heard += listeners.len();
                }
                if message.sharded {
                    return heard;
                }
                for (pattern, listeners) in self.patterns.borrow().iter() {
                    if glob::fits(pattern, &message.channel) {
                        let parts: [&[u8]; 4] = [b"pmessage", pattern, &message.channel, &message.text];
                        let mut encoded = Encoded::new(&parts);
                        listeners.iter().for_each(|client| client.push(encoded.of(client.protocol.get()), limit));
                        heard += listeners.len();
                    }
                }
                heard
            }
        }
    }

    /// Ends all who listen here: they missed something.
    fn end_all(&self) {
        let tables = [&self.channels, &self.patterns, &self.shard_channels];
        let mut all: Vec<Rc<Client>> = self.monitors.borrow().clone();
        tables.iter().for_each(|table| all.extend(table.borrow().values().flatten().cloned()));
        all.iter().for_each(|client| client.kill());
    }
}

impl Said {
    fn bytes(&self) -> usize {
        match self {
            Said::Message(message) => message.bytes(),
            Said::Line(line) => line.len(),
        }
    }
}

fn set_of<R>(client: &Client, kind: Kind, change: impl FnOnce(&mut std::collections::BTreeSet<Arc<[u8]>>) -> R) -> R {
    let mut subscribed = client.subscribed.borrow_mut();
    change(match kind {
        Kind::Channel => &mut subscribed.channels,
        Kind::Pattern => &mut subscribed.patterns,
        Kind::ShardChannel => &mut subscribed.shard_channels,
    })
}

/// A pushed message, encoded once for each protocol that some listener speaks.
struct Encoded<'a> {
    parts: &'a [&'a [u8]],
    by_protocol: [Vec<u8>; 2],
}

impl<'a> Encoded<'a> {
    fn new(parts: &'a [&'a [u8]]) -> Encoded<'a> {
        Encoded { parts, by_protocol: Default::default() }
    }

    fn of(&mut self, protocol: Protocol) -> &[u8] {
        let encoded = &mut self.by_protocol[usize::from(protocol == Protocol::Resp3)];
        if encoded.is_empty() {
            let mut reply = Reply::new(encoded, protocol);
            reply.push(self.parts.len());
            self.parts.iter().for_each(|part| reply.bulk(part));
        }
        encoded
    }
}
