//! A node from its start to its end.

use std::io::ErrorKind;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Failure;
use super::clients::Client;
use super::config::{Config, Cpus, Machine, Role};
use super::connection;
use super::exchange::{Exchange, Said};
use super::gate;
use super::identity;
use super::node::{Node, Shared, new_generation, random};
use super::session::ClientSession;
use super::upstream::{self, Address, Wish};
use crate::handshake::ReplicaId;
use crate::id::{Moment, ShardId};
use crate::limits;
use crate::runtime::clock::{now, sleep};
use crate::runtime::cpus::{CpuSetting, Placement};
use crate::runtime::executor::{self, Executors, Plan, Queue};
use crate::runtime::listener::{BindError, Connection, Listener};
use crate::runtime::local::{Answer, Local, Rates, Request, unix_now};
use crate::runtime::mesh::{Mesh, mesh};
use crate::runtime::ring::ring;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::startup::Environment;
use crate::runtime::stream::Stream;
use crate::runtime::streamer;
use crate::runtime::turn::Turn;
use crate::shard::Shard;
use crate::source::scrub::Scrubbed;

/// What a shard's thread begins with.
struct Seed {
    shared: Arc<Shared>,
    mesh: Mesh<Request, Answer>,
    /// The clients' port, on shard 0.
    clients: Option<Listener>,
    /// This shard's replication port.
    replicas: Option<Listener>,
    core: Shard,
}

/// Runs a node until it is told to end.
pub(super) fn run(config: Config, machine: Machine) -> Result<(), Failure> {
    if let Err(cause) = rustix::thread::disable_transparent_huge_pages(true) {
        // The memory that a huge page needs is cleared in one go, in the middle of a command.
        tracing::debug!(%cause, "transparent huge pages stay as the system has them");
    }
    let environment = Environment::look().map_err(|error| Failure::Environment(error.to_string()))?;
    let mut config = config;
    let maxclients_most = fit_clients(&mut config, &environment);
    let placement = place(&config, &environment)?;
    let host = config.bind.to_string();
    let patience = Instant::now() + Duration::from_millis(limits::PORT_WAIT_MS);
    let listen = |port, key: &str| {
        bind(&host, port, patience)
            .map_err(|error| Failure::Usage(format!("{key} {port}: {error}; choose a port that is free")))
    };
    let clients = listen(config.port, "port")?;
    let mut replicas = Vec::new();
    for shard in config.shards.shards() {
        let port = config.listen_port_base.saturating_add(shard.get());
        let listener = match config.role {
            Role::Standalone => None,
            Role::Primary | Role::Replica => Some(listen(port, "listen_port_base + shard")?),
        };
        replicas.push(listener);
    }
    let identity = identity::find(&config).map_err(|error| Failure::Usage(format!("replica_id: {error}")))?;
    let shards = config.shards;
    announce(&config, &identity.id);
    let shared = Arc::new(Shared::new(config, identity, machine, maxclients_most));
    let generation = new_generation();
    let mut clients = Some(clients);
    let seeds =
        shards.shards().zip(mesh(shards, limits::MESH_REQUESTS)).zip(replicas).map(|((shard, mesh), replicas)| {
            let role = shared.first_role(shard, generation);
            let mut core = Shard::new(shard, shards, role, random());
            core.set_memory_limit(shared.config.memory_limit(), unix_now());
            Seed { shared: Arc::clone(&shared), mesh, clients: clients.take(), replicas, core }
        });
    let seeds = seeds.collect();
    let shutdown = Shutdown::new();
    shutdown.on_signals().map_err(|error| Failure::Other(format!("signals: {error}")))?;
    let executors = Executors::start(Plan::new(shards, &placement), seeds, &shutdown, shard_main)
        .map_err(|error| Failure::Environment(error.to_string()))?;
    executors.join();
    tracing::info!("stopped");
    Ok(())
}

/// Lowers `maxclients` to what the limit of descriptors has room for, so that clients alone never take what links need. Returns that.
fn fit_clients(config: &mut Config, environment: &Environment) -> u64 {
    let kept = limits::DESCRIPTORS_KEPT + limits::DESCRIPTORS_KEPT_PER_SHARD * u64::from(config.shards.get());
    let most = environment.descriptors.saturating_sub(kept).max(1);
    if u64::from(config.maxclients) > most {
        let (descriptors, wanted) = (environment.descriptors, config.maxclients);
        tracing::warn!(
            descriptors,
            wanted,
            most,
            "maxclients is lowered to what the limit of open files (ulimit -n) has room for"
        );
        config.maxclients = most as u32;
    }
    most
}

/// Binds a port; one that is in use is tried again until `patience` ends, so that a node which was killed can be started anew at
/// once.
fn bind(host: &str, port: u16, patience: Instant) -> Result<Listener, BindError> {
    loop {
        match Listener::bind(host, port) {
            Err(error) if error.cause.kind() == ErrorKind::AddrInUse && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(limits::TICK_MS));
            }
            bound => return bound,
        }
    }
}

fn place(config: &Config, environment: &Environment) -> Result<Placement, Failure> {
    let setting = match &config.cpus {
        Cpus::Auto => "auto".to_owned(),
        Cpus::Off => "off".to_owned(),
        Cpus::List(cpus) => cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
    };
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(format!("cpus {setting:?}: {error}"));
    let parsed = CpuSetting::from_str(&setting).map_err(|error| usage(&error))?;
    Placement::choose(&parsed, &environment.cpus, config.shards).map_err(|error| usage(&error))
}

fn announce(config: &Config, id: &ReplicaId) {
    let Config { bind, port, shards, role, listen_port_base: base, .. } = config;
    tracing::info!(%bind, port, %shards, ?role, replication_base = base, replica_id = %id, "kevy {}", env!("CARGO_PKG_VERSION"));
    if *role == Role::Standalone {
        return;
    }
    let backlog = config.replication_buffer_size * u64::from(shards.get());
    let memory = memory_bytes();
    tracing::info!(bytes = backlog, "backlog of all shards, allocated as it is used");
    if memory.is_some_and(|memory| backlog > memory / 4) {
        tracing::warn!(bytes = backlog, memory, "the backlogs may take more than a quarter of this machine's memory");
    }
}

/// Memory of the machine.
pub(super) fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The life of one shard.
async fn shard_main(executor: executor::Shard, seed: Seed) {
    let Seed { shared, mesh, clients, replicas, core } = seed;
    let id = executor.id();
    let local = Local::new(executor.clone(), core, mesh);
    let node = Node::new(Arc::clone(&shared));
    node.settle_here();
    local.core().meter.set_limits(node.settings.borrow().meter_limits());
    local.on_connection({
        let (local, node) = (Rc::clone(&local), Rc::clone(&node));
        move |connection| serve_client(&local, &node, connection)
    });
    local.on_messages({
        // The shard outlives its tasks; a cycle of the two would keep both.
        let (local, node) = (Rc::downgrade(&local), Rc::downgrade(&node));
        move |messages| {
            let (Some(local), Some(node)) = (local.upgrade(), node.upgrade()) else { return };
            for message in messages {
                node.exchange.post(&local, &node, Said::Message(message), None);
            }
        }
    });
    local.spawn(Queue::Clients, Exchange::serve(Rc::clone(&local), Rc::clone(&node))).detach();
    local.spawn(Queue::Clients, Rc::clone(&local).serve_mesh()).detach();
    local.spawn(Queue::Snapshot, housekeeping(Rc::clone(&local), Rc::clone(&node))).detach();
    let mut closers = Vec::new();
    let mut accepting = Vec::new();
    if let Some(listener) = replicas {
        closers.extend(listener.closer());
        let (local_here, node) = (Rc::clone(&local), Rc::clone(&node));
        let accept = listener.accept_each(move |connection| {
            let Some(stream) = attached(connection) else { return };
            let task = streamer::serve(Rc::clone(&local_here), stream, node.timeouts());
            local_here.spawn(Queue::Replication, task).detach();
        });
        accepting.push(local.spawn(Queue::Replication, async move { report("replication", accept.await) }));
    }
    if let Some(listener) = clients {
        closers.extend(listener.closer());
        let accept = accept_clients(Rc::clone(&local), listener);
        accepting.push(local.spawn(Queue::Clients, accept));
        if let Some(at) = &shared.config.upstream
            && shared.config.role == Role::Replica
        {
            upstream::wish(&node, Wish::Follow(Address::Replication(at.clone()), ring(1).0));
        }
        local.spawn(Queue::Replication, gate::keep(Rc::clone(&local), Rc::clone(&node))).detach();
        local.spawn(Queue::Replication, upstream::serve(Rc::clone(&local), Rc::clone(&node))).detach();
        tracing::info!("ready to accept connections");
    }
    executor.shutdown().await;
    for closer in closers {
        closer.close();
    }
    for task in accepting {
        task.await;
    }
    tracing::debug!(shard = %id, "ended");
}

fn report(port: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(port, %error, "a listener ended");
    }
}

/// Accepts clients on shard 0, and gives them to the shards in turn.
async fn accept_clients(local: Rc<Local>, listener: Listener) {
    let mut turn = 0;
    let shards = local.count().get();
    let here = Rc::clone(&local);
    let accepted = listener.accept_each(move |connection| {
        let to = ShardId::new(turn);
        turn = (turn + 1) % shards;
        if to == here.id() {
            here.serve_connection(connection);
        } else if let Err(Request::Connection(connection)) =
            here.try_send(to, Request::Connection(connection)).map(drop)
        {
            // That shard has more to do than it can take: this one serves the client.
            here.serve_connection(connection);
        }
    });
    report("clients", accepted.await);
}

/// A stream of this shard, or nothing where the system cannot watch one more.
fn attached(connection: Connection) -> Option<Stream> {
    let attached = connection.attach();
    if let Err(error) = &attached {
        crate::warn_seldom!(%error, "a new connection is closed: the system cannot watch it");
    }
    attached.ok()
}

fn serve_client(local: &Rc<Local>, node: &Rc<Node>, connection: Connection) {
    let shared = &node.shared;
    let Some(mut stream) = attached(connection) else { return };
    let open = shared.clients.fetch_add(1, Ordering::Relaxed);
    local.gauges.accepted.set(local.gauges.accepted.get() + 1);
    local.gauges.clients.set(local.gauges.clients.get() + 1);
    let (local, node) = (Rc::clone(local), Rc::clone(node));
    let queue_of = Rc::clone(&local);
    let task = async move {
        if open >= u64::from(node.settings.borrow().maxclients) {
            local.gauges.rejected.set(local.gauges.rejected.get() + 1);
            // The connection ends whether this arrives or not.
            let _ = stream.write_all(b"-ERR max number of clients reached\r\n").await;
            stream.close().await;
        } else {
            let id = node.shared.next_client.fetch_add(1, Ordering::Relaxed);
            let shown = |address: std::io::Result<std::net::SocketAddr>| {
                address.map_or_else(|_| String::new(), |a| a.to_string())
            };
            stream.handle().keep_alive(Duration::from_secs(node.settings.borrow().tcp_keepalive.into()));
            let me = Rc::new(Client::new(id, shown(stream.peer_addr()), shown(stream.local_addr()), stream.handle()));
            node.clients.add(Rc::clone(&me));
            let authenticated = node.settings.borrow().requirepass.is_none();
            let client = ClientSession::new(Rc::clone(&me), authenticated);
            connection::serve(Rc::clone(&local), Rc::clone(&node), stream, client).await;
            node.exchange.leave(&local, &node, &me);
            node.clients.remove(id);
        }
        node.shared.clients.fetch_sub(1, Ordering::Relaxed);
        local.gauges.clients.set(local.gauges.clients.get() - 1);
    };
    queue_of.spawn(Queue::Clients, task).detach();
}

/// When the second began in which commands and bytes are counted, and how many there had been then.
struct Second {
    begun: Moment,
    so_far: Rates,
}

impl Second {
    /// It is over, about: what was done in it is what is done in a second, and another begins.
    fn end(&mut self, local: &Local) {
        let (gauges, ms) = (&local.gauges, now().ms_since(self.begun).max(1));
        let so_far = Rates {
            commands: local.core().counters().commands,
            received: gauges.received.get(),
            sent: gauges.sent.get(),
        };
        // Counters may have begun anew meanwhile.
        let rate = |now: u64, before: u64| now.saturating_sub(before) * 1_000 / ms;
        gauges.rates.set(Rates {
            commands: rate(so_far.commands, self.so_far.commands),
            received: rate(so_far.received, self.so_far.received),
            sent: rate(so_far.sent, self.so_far.sent),
        });
        *self = Second { begun: now(), so_far };
    }
}

/// What is done now and then: memory is given back in slices, digests are told, replicas are forgotten, the number of keys is published.
async fn housekeeping(local: Rc<Local>, node: Rc<Node>) {
    let mut turn = Turn::begin();
    let mut second = Second { begun: now(), so_far: Rates::default() };
    for tick in 0u64.. {
        sleep(Duration::from_millis(limits::TICK_MS)).await;
        local.tick();
        while reclaim(&local) {
            turn.pass_if_over().await;
        }
        note_streams(&node);
        while scrub(&local) {
            turn.pass_if_over().await;
        }
        while tick.is_multiple_of(limits::EXPIRY_TICKS) && expire(&local) {
            turn.pass_if_over().await;
        }
        node.clock.set(now());
        if tick.is_multiple_of(limits::SWEEP_TICKS) {
            end_silent_clients(&node);
            second.end(&local);
            if node.shared.config.emulates_cluster {
                let primary = local.call(ShardId::new(0), |_| upstream::wanted(&Node::here())).await;
                *node.primary.borrow_mut() = primary;
            }
        }
        let mut core = local.core();
        core.evict(unix_now());
        // A key that expired or was evicted may be one without which somebody does not wait on.
        core.serve_waiting(unix_now());
        if core.end_turn() {
            local.to_send.raise();
        }
        if tick.is_multiple_of(limits::SWEEP_TICKS) && !core.store.watched.is_empty() {
            core.store.watched.sweep();
        }
        node.shared.keys[local.id().index()].store(core.store.len() as u64, Ordering::Relaxed);
        if let Some((source, _)) = core.source_and_store() {
            source.mark(now());
            source.expire_slots(now());
            let retired = source.take_retired();
            if !retired.is_empty() {
                let executor = local.executor().clone();
                let free = async move { executor.blocking(move || drop(retired)).await };
                local.spawn(Queue::Snapshot, free).detach();
            }
        }
        drop(core);
        local.tell_waiters();
    }
}

/// Ends the clients that have said nothing for `timeout` seconds. Whoever listens or waits is not expected to say anything.
fn end_silent_clients(node: &Node) {
    let timeout = node.settings.borrow().timeout;
    if timeout == 0 {
        return;
    }
    for client in node.clients.all() {
        let silent_ms = node.clock.get().ms_since(client.heard.get());
        if silent_ms > timeout * 1_000 && !client.takes_pushes() && !client.is_waiting() {
            tracing::info!(
                client = client.address,
                id = client.id,
                seconds = silent_ms / 1_000,
                "closed: it was silent for longer than timeout"
            );
            client.kill();
        }
    }
}

/// Notes where the streams are that this shard pulls, and when they were last heard.
fn note_streams(node: &Node) {
    let freshness = &node.shared.freshness;
    for (stream, standing) in &node.pulls.borrow().streams {
        let mut standing = standing.borrow_mut();
        standing.mark(now());
        freshness.heard(*stream, standing.heard);
    }
}

/// One step of the scrub. `true`: another one is due.
fn scrub(local: &Local) -> bool {
    let Scrubbed { sends, more } = local.core().scrub(now());
    if sends {
        local.to_send.raise();
    }
    more
}

/// One step of deleting what has expired. `true`: there is more.
fn expire(local: &Local) -> bool {
    let mut core = local.core();
    let more = core.expire_some(unix_now());
    if core.end_turn() {
        local.to_send.raise();
    }
    more
}

fn reclaim(local: &Local) -> bool {
    crate::snapshot::Keyspace::reclaim(&mut local.core().store)
}
