//! What a node follows, and how it comes to follow it.
//!
//! ```text
//! REPLICAOF host port ─▶ INFO of its client port: repl_port_base ─▶ base
//! upstream = host:base ──────────────────────────────────────────▶ base ─▶ how many shards? ─▶ every shard: Following(n)
//!                                                                                             pullers, lanes to owners
//! ```

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::FutureExt;

use super::config::HostPort;
use super::identity;
use super::node::{Node, Pulls, new_generation};
use super::wait::ROLE_CHANGED;
use crate::handshake::{Announced, Answer, Claim, Form, Hello, Options, Purpose, decode_answer};
use crate::id::{ShardCount, ShardId};
use crate::limits;
use crate::replica::{Dialled, Session, SessionConfig};
use crate::runtime::clock::{now, sleep};
use crate::runtime::executor::Queue;
use crate::runtime::lane::lane;
use crate::runtime::local::Local;
use crate::runtime::puller::{Backoff, FromPuller, PullEnd, Puller, ToOwner, own};
use crate::runtime::ring::Producer;
use crate::runtime::stream::Stream;
use crate::shard;
use crate::wire::effect::encode_command;

/// Where an upstream is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Address {
    /// Its client port; the replication ports are to be asked for.
    Client(HostPort),
    /// Its replication port base.
    Replication(HostPort),
}

/// What a node follows.
#[derive(Debug)]
pub(super) struct Upstream {
    pub address: Address,
    /// What keeps it from being followed at all; the streams have their own.
    pub error: RefCell<Option<String>>,
    /// Its client address, once it is known.
    pub client: RefCell<Option<HostPort>>,
    /// Since when nothing is followed, until the streams are.
    pub since: crate::id::Moment,
    /// How often its streams were set up; 0 as long as those of before may still be there.
    pub set_ups: Cell<u64>,
}

impl Address {
    fn host(&self) -> &str {
        match self {
            Address::Client(at) | Address::Replication(at) => &at.host,
        }
    }
}

/// What an operator wants this node to be.
pub(super) enum Wish {
    /// A replica of this upstream. The other end of the ring closes when it is a replica.
    Follow(Address, Producer<()>),
    /// A primary. The other end of the ring closes when it is one.
    Nobody(Producer<()>),
}

/// Wants something; what was wanted before and is not begun is not wanted any more. On shard 0 only.
pub(super) fn wish(node: &Node, wish: Wish) {
    *node.wish.borrow_mut() = Some(wish);
    node.wished.raise();
}

/// The client address of what is followed, or is going to be. On shard 0 only.
pub(super) fn wanted(node: &Node) -> Option<HostPort> {
    match &*node.wish.borrow() {
        Some(Wish::Follow(Address::Client(at), _)) => Some(at.clone()),
        Some(_) => None,
        None => node.upstream.borrow().as_ref().and_then(|upstream| upstream.client.borrow().clone()),
    }
}

/// The task that brings about what is wanted, one wish after the other, so that no two of them meet. On shard 0, once.
pub(super) async fn serve(local: Rc<Local>, node: Rc<Node>) {
    loop {
        another(&node).await;
        let wish = node.wish.borrow_mut().take();
        match wish {
            Some(Wish::Follow(address, done)) => follow(&local, &node, address, done).await,
            Some(Wish::Nobody(done)) => {
                follow_nobody(&local, &node).await;
                drop(done);
            }
            None => {}
        }
    }
}

/// Completes when something is wanted.
async fn another(node: &Node) {
    while node.wish.borrow().is_none() {
        let epoch = node.wished.epoch();
        node.wished.past(epoch).await;
    }
}

/// Follows `address` until something else is wanted.
async fn follow(local: &Rc<Local>, node: &Rc<Node>, address: Address, done: Producer<()>) {
    let client = match &address {
        Address::Client(at) => Some(at.clone()),
        Address::Replication(_) => None,
    };
    let upstream = Rc::new(Upstream {
        address: address.clone(),
        error: RefCell::new(None),
        client: RefCell::new(client),
        since: now(),
        set_ups: Cell::new(0),
    });
    *node.upstream.borrow_mut() = Some(Rc::clone(&upstream));
    stop_all(local).await;
    if local.core().following().is_none() {
        node.shared.freshness.begin(now());
    }
    become_replica(local).await;
    drop(done);
    keep_id(local, node);
    // The operator's word is consent to whatever the upstream holds now, and not to what it may hold after its next start.
    let mut dialled = Dialled::NewAddress;
    let mut backoff = Backoff::new();
    loop {
        let learned = async { Some(learn(local, node, &upstream).await) };
        match learned.or(none_after(another(node))).await {
            None => return,
            Some(Ok((base, shards))) => {
                *upstream.error.borrow_mut() = None;
                set_up(local, address.host().to_owned(), base, shards, dialled).await;
                upstream.set_ups.set(upstream.set_ups.get() + 1);
                // The pullers dial by themselves, and come to their end only where this upstream is another now.
                watch(local).or(another(node)).await;
                stop_all(local).await;
                dialled = Dialled::Again;
                backoff = Backoff::new();
            }
            Some(Err(error)) => {
                if upstream.error.borrow().as_deref() != Some(&error) {
                    tracing::warn!(host = address.host(), cause = %error, "the upstream cannot be followed; trying again");
                }
                *upstream.error.borrow_mut() = Some(error);
                sleep(backoff.next_pause()).or(another(node)).await;
            }
        }
        if node.wish.borrow().is_some() {
            return;
        }
    }
}

/// Keeps this node's name from the first time on that an upstream is told it.
fn keep_id(local: &Rc<Local>, node: &Node) {
    let shared = std::sync::Arc::clone(&node.shared);
    if shared.replica_id_file.is_some() && shared.follows.fetch_add(1, Ordering::Relaxed) == 0 {
        let executor = local.executor().clone();
        let keep = async move {
            let keep = move || {
                if let Some(file) = &shared.replica_id_file {
                    identity::keep(file, &shared.replica_id);
                }
            };
            executor.blocking(keep).await;
        };
        local.spawn(Queue::Snapshot, keep).detach();
    }
}

async fn none_after<T>(future: impl Future<Output = ()>) -> Option<T> {
    future.await;
    None
}

/// Follows nobody from now on: what was received is applied, and a new history begins.
async fn follow_nobody(local: &Rc<Local>, node: &Rc<Node>) {
    *node.upstream.borrow_mut() = None;
    if local.core().source().is_some() {
        return;
    }
    stop_all(local).await;
    let generation = new_generation();
    for shard in local.count().shards() {
        local
            .call(shard, move |local| {
                let node = Node::here();
                *node.pulls.borrow_mut() = Pulls::default();
                let role = node.primary(local.id(), generation, false);
                change_role(local, role);
            })
            .await;
    }
    tracing::info!(%generation, "a primary from now on");
}

/// Takes no writes and streams nothing from now on; what is here is served until an upstream's sync begins.
async fn become_replica(local: &Rc<Local>) {
    for shard in local.count().shards() {
        local
            .call(shard, |local| {
                let (is_replica, kept) = {
                    let core = local.core();
                    (core.following().is_some(), core.served())
                };
                if !is_replica {
                    change_role(local, Node::here().replica(local.id(), ShardCount::ONE, kept));
                }
            })
            .await;
    }
}

fn change_role(local: &Local, role: shard::Role) {
    {
        let mut core = local.core();
        core.role = role;
        if core.following().is_some() {
            core.refuse_waiting(ROLE_CHANGED);
        }
        // The scrub and the proofs of the role before go with it; they would slow every write down that concerns them.
        core.store.digest_forget_all();
    }
    local.tell_waiters();
    // Links of before find out when they are woken, and so does who waits for their acknowledgements.
    local.links_changed.raise();
    local.to_send.raise();
    local.acked.raise();
}

/// Ends all pullers, and waits until what they had read is applied.
async fn stop_all(local: &Rc<Local>) {
    for shard in local.count().shards() {
        local.call(shard, |_| Node::here().pulls.borrow().stop.stop()).await;
    }
    while local.call_all(|_| Node::here().pulls.borrow().running.get()).await.iter().any(|running| *running > 0) {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until a puller has come to its end.
async fn watch(local: &Rc<Local>) {
    loop {
        sleep(Duration::from_millis(limits::TICK_MS * 10)).await;
        let ended = local
            .call_all(|_| {
                let node = Node::here();
                let pulls = node.pulls.borrow();
                pulls.running.get() < pulls.streams.len()
            })
            .await;
        if ended.contains(&true) {
            return;
        }
    }
}

/// Finds the replication ports and the number of shards.
async fn learn(local: &Rc<Local>, node: &Node, upstream: &Upstream) -> Result<(u16, ShardCount), String> {
    let (host, base) = match &upstream.address {
        Address::Replication(at) => (at.host.clone(), at.port),
        Address::Client(at) => (at.host.clone(), replication_base(local, node, at).await?),
    };
    let configured = node.shared.config.upstream_shards;
    let password = node.settings.borrow().masterauth.clone();
    let options = Options { purpose: Purpose::Learn, password, ..Options::new(None) };
    let hello = Hello { id: node.shared.replica_id.clone(), claim: Claim::Empty, form: Form::Ours(options) };
    let mut request = Vec::new();
    hello.encode(&mut request);
    let mut answer = Vec::new();
    let reply = talk(local, &host, base, &request, |bytes| {
        answer = bytes.to_vec();
        decode_answer(bytes).is_ok_and(|answer| answer.is_none())
    })
    .await;
    reply?;
    match decode_answer(&answer) {
        Ok(Some((Answer::Welcome(welcome), _))) => {
            if let Some(configured) = configured.filter(|configured| *configured != welcome.shards) {
                let shards = welcome.shards;
                return Err(format!("{host}:{base} has {shards} shards, and upstream_shards says {configured}"));
            }
            if let Some(port) = welcome.client_port {
                *upstream.client.borrow_mut() = Some(HostPort { host, port });
            }
            Ok((base, welcome.shards))
        }
        Ok(Some((Answer::Refused(refusal), _))) => Err(refusal.to_string()),
        Ok(_) => configured
            .map(|shards| (base, shards))
            .ok_or_else(|| format!("{host}:{base} does not say how many shards it has; set upstream_shards")),
        Err(error) => Err(format!("{host}:{base}: {error}")),
    }
}

/// The `repl_port_base` of a node, by its client port.
///
/// # Errors
/// If it cannot be asked, does not say it, or is this node itself.
pub(super) async fn replication_base(local: &Rc<Local>, node: &Node, at: &HostPort) -> Result<u16, String> {
    let HostPort { host, port } = at;
    let mut text = String::new();
    let mut request = Vec::new();
    let password = node.settings.borrow().masterauth.clone();
    if let Some(password) = &password {
        encode_command([b"AUTH".as_slice(), password.reveal()].into_iter(), &mut request);
    }
    encode_command([b"INFO".as_slice(), b"server", b"replication"].into_iter(), &mut request);
    talk(local, host, *port, &request, |bytes| {
        text = String::from_utf8_lossy(bytes).into_owned();
        if password.is_some() {
            // What AUTH is answered: that it is right, or that none is wanted. If it is wrong, the next answer says so.
            text = text.split_once("\r\n").map_or_else(String::new, |(_, rest)| rest.to_owned());
        }
        let head = text.split_once("\r\n").and_then(|(head, rest)| Some((head.strip_prefix('$')?, rest)));
        match head.and_then(|(len, rest)| Some((len.parse::<usize>().ok()?, rest))) {
            Some((len, rest)) => rest.len() < len,
            None => !text.contains("\r\n") || !text.starts_with('-'),
        }
    })
    .await?;
    if text.starts_with("-NOAUTH") {
        return Err(format!("{host}:{port} wants a password: NOAUTH; set masterauth here to its requirepass"));
    }
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim).map(str::to_owned)
    };
    if field("run_id").is_some_and(|id| id == node.shared.run_id) {
        return Err(SELF.to_owned());
    }
    field("repl_port_base")
        .and_then(|base| base.parse().ok())
        .ok_or_else(|| format!("{host}:{port} has no field repl_port_base in INFO replication: it does not stream"))
}

/// What `REPLICAOF` of the node itself is answered.
pub(super) const SELF: &str = "a node cannot follow itself";

/// Connects, sends `request`, and reads for as long as `wants` more; each within the time that a dial may take.
async fn talk(
    local: &Rc<Local>,
    host: &str,
    port: u16,
    request: &[u8],
    mut wants: impl FnMut(&[u8]) -> bool,
) -> Result<(), String> {
    let timeout = Duration::from_millis(limits::CONNECT_TIMEOUT_MS);
    let executor = local.executor().clone();
    let mut stream = Stream::connect(&executor, host, port, timeout).await.map_err(|error| error.to_string())?;
    let exchange = async {
        stream.write_all(request).await?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4 << 10];
        loop {
            let len = stream.read(&mut buffer).await?;
            bytes.extend_from_slice(&buffer[..len]);
            if len == 0 || !wants(&bytes) || bytes.len() > limits::INLINE_BYTES_MAX {
                return Ok::<(), std::io::Error>(());
            }
        }
    };
    let late = async {
        sleep(timeout).await;
        Err(std::io::ErrorKind::TimedOut.into())
    };
    let result = exchange.or(late).await;
    stream.close().await;
    result.map_err(|error| format!("{host}:{port}: {error}"))
}

/// Makes every shard a follower of `shards` streams, joins pullers and owners by lanes, and starts them.
async fn set_up(local: &Rc<Local>, host: String, base: u16, shards: ShardCount, dialled: Dialled) {
    let owners = local.count();
    local.call_all(|_| *Node::here().pulls.borrow_mut() = Pulls::default()).await;
    // After the last word of the pullers of before, and before anybody reads by the new streams.
    let before = local.core().following().and_then(|following| ShardCount::new(following.streams() as u16));
    if let Some(before) = before {
        Node::here().shared.freshness.carry(before, shards);
    }
    for shard in owners.shards() {
        local
            .call(shard, move |local| {
                let kept = local.core().served();
                change_role(local, Node::here().replica(local.id(), shards, kept));
            })
            .await;
    }
    for stream in shards.shards() {
        let puller = ShardId::new(stream.get() % owners.get());
        let mut lanes: Vec<Option<ToOwner>> = Vec::new();
        if owners != shards {
            for owner in owners.shards() {
                if owner == puller {
                    lanes.push(None);
                    continue;
                }
                let (to_owner, from_puller) = lane(limits::RING_BATCHES);
                lanes.push(Some(to_owner));
                local.call(owner, move |local| start_owner(local, from_puller)).await;
            }
        }
        let host = host.clone();
        let port = base.saturating_add(stream.get());
        local.call(puller, move |local| start_puller(local, stream, shards, (host, port), lanes, dialled)).await;
    }
}

fn start_owner(local: &Rc<Local>, lane: FromPuller) {
    local.spawn(Queue::Replication, own(Rc::clone(local), lane)).detach();
}

fn start_puller(
    local: &Rc<Local>,
    stream: ShardId,
    shards: ShardCount,
    at: (String, u16),
    lanes: Vec<Option<ToOwner>>,
    dialled: Dialled,
) {
    let node = Node::here();
    let config = Arc::clone(node.settings.borrow().config());
    let mut session = Session::new(SessionConfig {
        id: node.shared.replica_id.clone(),
        run: node.shared.run,
        stream: Some(stream),
        items: true,
        observer: false,
        client: Some(Announced {
            host: config.replica_announce_ip.clone(),
            port: config.replica_announce_port.unwrap_or(config.port),
        }),
        repl_base: Some(config.listen_port_base),
        accept_empty_primary: config.accept_empty_primary,
        link_timeout_ms: config.link_timeout_ms,
    });
    session.set_checks(config.replication_checksum);
    session.set_password(node.settings.borrow().masterauth.clone());
    // The upstream may remember a dial of before; each set-up has four billion numbers of its own.
    session.count_dials_from(node.shared.set_ups.fetch_add(1, Ordering::Relaxed) << 32);
    let (stop, running) = {
        let pulls = node.pulls.borrow();
        (Rc::clone(&pulls.stop), Rc::clone(&pulls.running))
    };
    let puller = Puller::new(Rc::clone(local), stream, shards, session, at, lanes, dialled, stop);
    node.pulls.borrow_mut().streams.push((stream, Rc::clone(&puller.standing)));
    running.set(running.get() + 1);
    let task = async move {
        if let PullEnd::Reshaped(shards) = puller.run().await {
            tracing::info!(%stream, %shards, "the upstream has another number of shards; following it anew");
        }
        running.set(running.get() - 1);
    };
    local.spawn(Queue::Replication, task).detach();
}
