//! The node at one moment: every shard is asked for its numbers, one after the other, and they are put together for `INFO` and
//! `ROLE`.

use std::rc::Rc;
use std::sync::Arc;

use super::config::HostPort;
use super::exchange::Kind;
use super::info::{self, Following, Link, Pulled, Recorded, Snapshot, Standing};
use super::node::Node;
use super::observe;
use crate::handshake::SyncReason;
use crate::id::{Moment, Offset, ShardId};
use crate::runtime::clock::now;
use crate::runtime::local::{Local, unix_now};
use crate::shard::Role;
use crate::slot;
use crate::source::Source;

/// One shard's part of a [`Snapshot`].
struct Part {
    shard: info::Shard,
    standing: PartStanding,
}

enum PartStanding {
    Standalone,
    Primary(crate::id::Generation, Recorded),
    Replica(Vec<(ShardId, Pulled, Option<String>, Option<u64>)>),
}

/// The node at this moment, each shard for itself.
pub(super) async fn snapshot(local: &Rc<Local>, node: &Rc<Node>) -> Snapshot {
    let shared = &node.shared;
    let before = facts(local).await;
    let parts = local.call_all(part).await;
    // Where what is followed changed meanwhile, or has no streams yet, those that were seen are of something else.
    let upstream =
        facts(local).await.map(|now| UpstreamFacts { streams: now.streams && before == Some(now.clone()), ..now });
    let (user, system) = cpu_micros();
    let mut shards = Vec::new();
    let mut standings = Vec::new();
    for part in parts {
        shards.push(part.shard);
        standings.push(part.standing);
    }
    Snapshot {
        run_id: shared.run_id.clone(),
        process_id: std::process::id(),
        tcp_port: shared.config.port,
        uptime_seconds: shared.started.elapsed().as_secs(),
        emulates_cluster: shared.config.emulates_cluster,
        config_file: shared.config.file.as_ref().map_or_else(String::new, |file| file.display().to_string()),
        executable: std::env::current_exe().map_or_else(|_| String::new(), |path| path.display().to_string()),
        unix_ms: unix_now().get(),
        used_memory_peak: status_bytes("VmHWM:"),
        total_system_memory: super::serve::memory_bytes().unwrap_or(0),
        commands: observe::stats(local).await,
        errors: observe::errors(local).await,
        maxclients: node.settings.borrow().maxclients,
        maxmemory: node.settings.borrow().maxmemory,
        maxmemory_policy: node.settings.borrow().maxmemory_policy,
        used_memory_rss: status_bytes("VmRSS:"),
        cpu_user_micros: user,
        cpu_system_micros: system,
        shards,
        standing: put_together(node, standings, upstream),
    }
}

/// What shard 0 knows of what is followed.
#[derive(Clone, PartialEq, Eq)]
struct UpstreamFacts {
    client: Option<HostPort>,
    error: Option<String>,
    since: Moment,
    /// Whether it has streams, and how often they were set up.
    streams: bool,
    set_ups: u64,
}

async fn facts(local: &Rc<Local>) -> Option<UpstreamFacts> {
    local
        .call(ShardId::new(0), |_| {
            let node = Node::here();
            let upstream = node.upstream.borrow();
            upstream.as_ref().map(|upstream| UpstreamFacts {
                client: upstream.client.borrow().clone(),
                error: upstream.error.borrow().clone(),
                since: upstream.since,
                streams: upstream.set_ups.get() > 0,
                set_ups: upstream.set_ups.get(),
            })
        })
        .await
}

fn put_together(node: &Node, parts: Vec<PartStanding>, upstream: Option<UpstreamFacts>) -> Standing {
    let config = Arc::clone(node.settings.borrow().config());
    let mut recorded = Vec::new();
    let mut pulled = Vec::new();
    let mut history = None;
    let mut replica = false;
    for part in parts {
        match part {
            PartStanding::Standalone => {}
            PartStanding::Primary(generation, stream) => {
                history = Some(generation);
                recorded.push(stream);
            }
            PartStanding::Replica(streams) => {
                replica = true;
                pulled.extend(streams);
            }
        }
    }
    if replica {
        pulled.sort_by_key(|(stream, ..)| *stream);
        let (client, error, since, streams) =
            upstream.map_or((None, None, now(), false), |u| (u.client, u.error, u.since, u.streams));
        if !streams {
            pulled.clear();
        }
        let client = client.or_else(|| config.upstream.clone());
        let down = pulled.iter().filter_map(|(_, _, _, down)| *down).max();
        let error = error.or_else(|| pulled.iter().find_map(|(_, _, error, _)| error.clone()));
        return Standing::Replica(Following {
            host: client.as_ref().map_or_else(String::new, |at| at.host.clone()),
            port: client.map_or(0, |at| at.port),
            error,
            down_ms: if pulled.is_empty() { Some(now().ms_since(since)) } else { down },
            read_only: config.replica_read_only,
            priority: config.replica_priority,
            streams: pulled.into_iter().map(|(_, pulled, ..)| pulled).collect(),
        });
    }
    match history {
        Some(generation) => Standing::Primary {
            generation,
            port_base: config.listen_port_base,
            good_replicas: node.shared.gate.is_on().then(|| node.shared.gate.good()),
            streams: recorded,
        },
        None => Standing::Standalone,
    }
}

/// This shard's numbers.
fn part(local: &Rc<Local>) -> Part {
    let node = Node::here();
    let core = local.core();
    let counters = core.counters();
    let clients = node.clients.all();
    let shard = info::Shard {
        cpu: local.executor().cpu().map(|cpu| cpu.get()),
        clients: local.gauges.clients.get(),
        accepted: local.gauges.accepted.get(),
        listeners: clients.iter().filter(|client| client.takes_pushes()).count() as u64,
        watching: clients.iter().filter(|client| client.watches.get() > 0).count() as u64,
        output_bytes: clients.iter().map(|client| client.output_bytes() as u64).sum(),
        channels: node.exchange.listeners(Kind::Channel).len() as u64,
        patterns: node.exchange.listeners(Kind::Pattern).len() as u64,
        rejected: local.gauges.rejected.get(),
        slow: core.meter.slow().len() as u64,
        blocked: local.gauges.blocked.get(),
        commands: counters.commands,
        keys: core.store.len() as u64,
        expires: core.store.expires() as u64,
        used_memory: core.store.used_bytes() as u64,
        reserved_memory: core.store.reserved_bytes() as u64,
        expired_keys: counters.expired_keys,
        evicted_keys: counters.evicted_keys,
        hits: counters.looks.hits,
        misses: counters.looks.misses,
        received_bytes: local.gauges.received.get(),
        sent_bytes: local.gauges.sent.get(),
        rates: local.gauges.rates.get(),
        shard_channels: node.exchange.listeners(Kind::ShardChannel).len() as u64,
        stalls: local.executor().health()[local.id().index()].stalls(),
        digests: core.store.digests_under_way() as u64,
        scrub: scrub(&core.role),
        longest_turn_us: local.executor().health()[local.id().index()].longest_turn_us(),
        longest_turn_cpu_us: local.executor().health()[local.id().index()].longest_turn_cpu_us(),
    };
    let standing = match &core.role {
        Role::Standalone => PartStanding::Standalone,
        Role::Primary(source) => PartStanding::Primary(source.generation(), recorded(source)),
        Role::Replica(_) => PartStanding::Replica(pulled(local, &node)),
    };
    Part { shard, standing }
}

fn scrub(role: &Role) -> info::Scrub {
    let mut scrub = info::Scrub::default();
    match role {
        Role::Standalone => {}
        Role::Primary(source) => {
            let counters = source.scrub_counters();
            (scrub.told, scrub.rounds) = (counters.slots, counters.rounds);
        }
        Role::Replica(following) => {
            for stream in (0..following.streams()).map(|stream| ShardId::new(stream as u16)) {
                let counters = following.counters(stream);
                scrub.compared += counters.compared;
                scrub.differing += counters.differing;
                scrub.skipped += counters.skipped;
                scrub.repaired += counters.repaired;
                scrub.rejected += counters.rejected;
            }
        }
    }
    scrub
}

fn recorded(source: &Source) -> Recorded {
    let backlog = source.backlog();
    let counters = source.counters();
    let sync_full = SyncReason::ALL.iter().zip(counters.sync_full).filter(|(_, count)| *count > 0);
    let mut links = Vec::new();
    let away = source.slots().iter().filter(|(_, slot)| slot.link().is_none()).count() as u64;
    for (id, slot) in source.slots().iter() {
        if let slot::State::Connected { link, acked_next, acked_at, synced, .. } = slot.state {
            let client = slot.client.as_ref();
            links.push(Link {
                replica: id.to_string(),
                ip: client
                    .and_then(|client| client.host.as_deref()?.parse().ok())
                    .unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
                port: client.map_or(0, |client| client.port),
                synced: synced.is_some(),
                acked_next: acked_next.unwrap_or(Offset::ZERO),
                observer: slot.observer,
                lag: source.lag(link, acked_next.unwrap_or(Offset::ZERO), now()),
                ack_age_ms: now().ms_since(acked_at),
            });
        }
    }
    Recorded {
        oldest: backlog.oldest(),
        next: backlog.next(),
        backlog_bytes: backlog.bytes() as u64,
        backlog_budget: backlog.budget() as u64,
        sync_partial_ok: counters.sync_partial_ok,
        sync_partial_err: counters.sync_partial_err,
        slots_dumped: source.slots_dumped(),
        sync_full: sync_full.map(|(reason, count)| (reason.name(), count)).collect(),
        away,
        links,
    }
}

fn pulled(local: &Local, node: &Node) -> Vec<(ShardId, Pulled, Option<String>, Option<u64>)> {
    let pulls = node.pulls.borrow();
    let streams = pulls.streams.iter().map(|(stream, standing)| {
        let standing = standing.borrow();
        let pulled = Pulled {
            shard: local.id().index(),
            generation: standing.generation,
            linked: standing.linked,
            synced: standing.synced,
            next: Offset::new(standing.next),
            applied_next: Offset::new(standing.applied),
            upstream_next: Offset::new(standing.upstream_next),
            lag_bytes: standing.lag_bytes,
            lag_ms: standing.lag_ms(now()),
            heard_ms: now().ms_since(standing.heard),
            runs_damaged: standing.runs_damaged,
        };
        (*stream, pulled, standing.error.clone(), standing.down_since.map(|since| now().ms_since(since)))
    });
    streams.collect()
}

/// User and system time of the process.
fn cpu_micros() -> (u64, u64) {
    // Fields 14 and 15 behind the name, which may itself hold spaces; in ticks of 10 ms.
    const TICK_MICROS: u64 = 10_000;
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) * TICK_MICROS, ticks(12) * TICK_MICROS)
}

/// A field of the process's status that is in kilobytes.
fn status_bytes(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
