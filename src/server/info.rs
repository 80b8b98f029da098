//! `INFO` and `ROLE`: text made of a [`Snapshot`] of plain numbers. Nothing is counted here, and nothing is asked.
//!
//! Fields have the names that Redis gives them, so that tools read them; what Redis has no name for is a line per
//! shard (`shard0:`), per recorded stream (`stream0:`), per link (`replica0_stream0:`), in Redis's `key=value,` form.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use crate::id::{Generation, Offset};
use crate::resp::Reply;
use crate::runtime::local::Rates;
use crate::shard::memory::Policy;
use crate::shard::meter::Stats;
use crate::source::Lag;

/// The level of Redis that clients may expect.
pub const REDIS_VERSION: &str = "7.2.4";

/// A node at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Random at every start: 40 hexadecimal digits.
    pub run_id: String,
    /// The process's id.
    pub process_id: u32,
    /// The clients' port.
    pub tcp_port: u16,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Client connections that are allowed at a time.
    pub maxclients: u32,
    /// Bytes that the node may hold; 0: no limit.
    pub maxmemory: u64,
    /// What goes at the limit.
    pub maxmemory_policy: Policy,
    /// Bytes of resident memory.
    pub used_memory_rss: u64,
    /// Processor time of the process in user mode, in microseconds.
    pub cpu_user_micros: u64,
    /// Processor time of the process in the kernel, in microseconds.
    pub cpu_system_micros: u64,
    /// Whether it speaks to clients as a cluster of one primary does.
    pub emulates_cluster: bool,
    /// The file that it was configured by.
    pub config_file: String,
    /// The program that runs.
    pub executable: String,
    /// What the wall clock says, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Most resident memory so far, in bytes.
    pub used_memory_peak: u64,
    /// Memory of the machine, in bytes.
    pub total_system_memory: u64,
    /// What every command cost, by name.
    pub commands: BTreeMap<&'static str, Stats>,
    /// How often each error was answered, by its code.
    pub errors: BTreeMap<Box<str>, u64>,
    /// Every shard, in order.
    pub shards: Vec<Shard>,
    /// Where the node stands in replication.
    pub standing: Standing,
}

/// One shard's numbers; those that count what was done only rise.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shard {
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// Client connections that are open.
    pub clients: u64,
    /// Client connections accepted so far.
    pub accepted: u64,
    /// Clients that subscribe or monitor.
    pub listeners: u64,
    /// Clients that watch keys.
    pub watching: u64,
    /// Bytes that wait for clients to read them.
    pub output_bytes: u64,
    /// Channels and patterns that somebody subscribes to.
    pub channels: u64,
    /// See [`channels`](Self::channels).
    pub patterns: u64,
    /// See [`channels`](Self::channels).
    pub shard_channels: u64,
    /// Clients in a `WAIT`.
    pub blocked: u64,
    /// Connections that were closed as there were too many.
    pub rejected: u64,
    /// Slow commands that are remembered.
    pub slow: u64,
    /// Commands executed here, wherever they were received.
    pub commands: u64,
    /// Keys.
    pub keys: u64,
    /// Keys that expire.
    pub expires: u64,
    /// Bytes of data.
    pub used_memory: u64,
    /// What was taken from the system for it.
    pub reserved_memory: u64,
    /// Keys that expired so far.
    pub expired_keys: u64,
    /// Keys that went because there was no memory left.
    pub evicted_keys: u64,
    /// Keys that commands which read found.
    pub hits: u64,
    /// Keys that they did not find.
    pub misses: u64,
    /// Bytes from clients.
    pub received_bytes: u64,
    /// Bytes to clients.
    pub sent_bytes: u64,
    /// What it did in the latest second.
    pub rates: Rates,
    /// Times that its executor made no progress for a second.
    pub stalls: u64,
    /// The longest time that one task kept it to itself.
    pub longest_turn_us: u64,
    /// The most CPU time that one task took in such a stretch.
    pub longest_turn_cpu_us: u64,
    /// Digests of large slots that are being taken.
    pub digests: u64,
    /// What its scrub has found.
    pub scrub: Scrub,
}

/// What a shard's scrub has done, on either side; all of it only rises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scrub {
    /// Slots whose digest a primary told.
    pub told: u64,
    /// Times that it came around.
    pub rounds: u64,
    /// Digests that a replica held against the primary's.
    pub compared: u64,
    /// Those that differed.
    pub differing: u64,
    /// Those that could not be compared.
    pub skipped: u64,
    /// Whole slots that were replaced since they differed.
    pub repaired: u64,
    /// Dumps of slots that did not prove good.
    pub rejected: u64,
}

/// Where a node stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// By itself.
    Standalone,
    /// It records streams.
    Primary {
        /// The identity of its history.
        generation: Generation,
        /// Shard `i` listens for replicas on this port + `i`.
        port_base: u16,
        /// Replicas that count for the write gate, where it is on.
        good_replicas: Option<usize>,
        /// One per shard, in order.
        streams: Vec<Recorded>,
    },
    /// It follows an upstream.
    Replica(Following),
}

/// A stream that a shard of this node records; what counts only rises.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recorded {
    /// The first offset in the window.
    pub oldest: Offset,
    /// The next offset to be recorded.
    pub next: Offset,
    /// Bytes in the window.
    pub backlog_bytes: u64,
    /// Bytes that the window may hold.
    pub backlog_budget: u64,
    /// Links that went on where the replica was.
    pub sync_partial_ok: u64,
    /// Links whose claim could not be met, and that were synced or refused.
    pub sync_partial_err: u64,
    /// Hash slots dumped for replicas, each counted once for all that took it.
    pub slots_dumped: u64,
    /// Syncs, by the name of their reason.
    pub sync_full: BTreeMap<&'static str, u64>,
    /// Replicas that are not connected, and still remembered.
    pub away: u64,
    /// The replicas that are connected to this stream.
    pub links: Vec<Link>,
}

/// One replica's link on one stream, as the primary knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The name under which the replica is remembered.
    pub replica: String,
    /// The replica's client address.
    pub ip: IpAddr,
    /// The replica's client port.
    pub port: u16,
    /// Past its sync: its acks count.
    pub synced: bool,
    /// The first offset that it has not acknowledged.
    pub acked_next: Offset,
    /// It reads along, and counts for nothing.
    pub observer: bool,
    /// How far it is behind.
    pub lag: Lag,
    /// Milliseconds since its last ack.
    pub ack_age_ms: u64,
}

/// A replica as its primary knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownReplica {
    /// Where clients find it.
    pub host: String,
    /// See [`host`](Self::host).
    pub port: u16,
    /// The sum of the offsets that it has acknowledged.
    pub offset: u64,
    /// Whether all its streams are whole.
    pub is_online: bool,
}

/// A replica's side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Following {
    /// The upstream's host.
    pub host: String,
    /// The upstream's client port.
    pub port: u16,
    /// Why it is not followed, while it is not.
    pub error: Option<String>,
    /// Since when a stream's link is down, in milliseconds.
    pub down_ms: Option<u64>,
    /// Whether clients' writes are refused.
    pub read_only: bool,
    /// A failover tool's preference, as configured.
    pub priority: u32,
    /// One per shard of the upstream; empty until their number is known.
    pub streams: Vec<Pulled>,
}

/// A stream that this node pulls.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pulled {
    /// The local shard that pulls it.
    pub shard: usize,
    /// The history that is followed.
    pub generation: Option<Generation>,
    /// Whether its link is up.
    pub linked: bool,
    /// Whether everything up to `applied_next` is here, under the present upstream.
    pub synced: bool,
    /// The next offset to be received.
    pub next: Offset,
    /// The first offset that is not applied.
    pub applied_next: Offset,
    /// The next offset to be recorded upstream, as far as is known.
    pub upstream_next: Offset,
    /// Bytes received and not applied.
    pub lag_bytes: u64,
    /// Milliseconds since it was known of the first frame that is not applied.
    pub lag_ms: u64,
    /// Milliseconds since the upstream was last heard.
    pub heard_ms: u64,
    /// How often the link ended because what came was damaged.
    pub runs_damaged: u64,
}

impl Snapshot {
    /// The sections named by `sections`, in Redis's order; the usual ones if none is named, or one is `default`; all of them if one
    /// is `all` or `everything`. Unknown names are nothing.
    pub fn info(&self, sections: &[&[u8]]) -> String {
        let names = |word: &str| sections.iter().any(|section| section.eq_ignore_ascii_case(word.as_bytes()));
        let all = names("all") || names("everything");
        let usual = sections.is_empty() || names("default");
        let mut out = String::with_capacity(4_096);
        for (name, is_usual, write) in SECTIONS {
            if all || usual && *is_usual || names(name) {
                if !out.is_empty() {
                    out.push_str("\r\n");
                }
                line(&mut out, format_args!("# {name}"));
                write(self, &mut out);
            }
        }
        out
    }

    /// The answer to `ROLE`.
    pub fn role(&self, reply: &mut Reply<'_>) {
        match &self.standing {
            Standing::Standalone | Standing::Primary { .. } => {
                let replicas = self.replicas();
                reply.array(3);
                reply.bulk(b"master");
                reply.integer(self.recorded_next() as i64);
                reply.array(replicas.len());
                for replica in replicas {
                    reply.array(3);
                    reply.bulk(replica.ip.to_string().as_bytes());
                    reply.bulk_integer(i64::from(replica.port));
                    reply.bulk_integer(replica.acked as i64);
                }
            }
            Standing::Replica(following) => {
                reply.array(5);
                reply.bulk(b"slave");
                reply.bulk(following.host.as_bytes());
                reply.integer(i64::from(following.port));
                reply.bulk(following.state().as_bytes());
                reply.integer(following.offset() as i64);
            }
        }
    }

    /// The replicas of a primary, in the order of their names.
    pub fn known_replicas(&self) -> Vec<KnownReplica> {
        let streams = self.recorded().len();
        let known = |replica: Replica<'_>| KnownReplica {
            host: replica.ip.to_string(),
            port: replica.port,
            offset: replica.acked,
            is_online: replica.is_online(streams),
        };
        self.replicas().into_iter().map(known).collect()
    }

    fn recorded(&self) -> &[Recorded] {
        match &self.standing {
            Standing::Primary { streams, .. } => streams,
            _ => &[],
        }
    }

    /// Frames that were recorded on all shards.
    pub fn recorded_next(&self) -> u64 {
        self.recorded().iter().map(|stream| stream.next.get()).sum()
    }

    /// The links of each replica put together, in the order of their names.
    fn replicas(&self) -> Vec<Replica<'_>> {
        self.readers(false)
    }

    /// The replicas, or the observers.
    fn readers(&self, observers: bool) -> Vec<Replica<'_>> {
        let streams = self.recorded();
        let mut replicas: BTreeMap<&str, Replica<'_>> = BTreeMap::new();
        for (stream, recorded) in streams.iter().enumerate() {
            for link in recorded.links.iter().filter(|link| link.observer == observers) {
                let replica = replicas.entry(&link.replica).or_insert(Replica {
                    name: &link.replica,
                    ip: link.ip,
                    port: link.port,
                    acked: 0,
                    ack_age_ms: 0,
                    links: Vec::new(),
                });
                replica.acked += link.acked_next.get();
                replica.ack_age_ms = replica.ack_age_ms.max(link.ack_age_ms);
                replica.links.push((stream, recorded, link));
            }
        }
        replicas.into_values().collect()
    }

    fn sum(&self, of: impl Fn(&Shard) -> u64) -> u64 {
        self.shards.iter().map(of).sum()
    }

    fn server(&self, out: &mut String) {
        line(out, format_args!("redis_version:{REDIS_VERSION}"));
        line(out, format_args!("kevy_version:{}", env!("CARGO_PKG_VERSION")));
        let mode = if self.emulates_cluster { "cluster" } else { "standalone" };
        line(out, format_args!("redis_mode:{mode}"));
        line(out, format_args!("os:{}", std::env::consts::OS));
        line(out, format_args!("arch_bits:{}", usize::BITS));
        line(out, format_args!("process_id:{}", self.process_id));
        line(out, format_args!("run_id:{}", self.run_id));
        line(out, format_args!("tcp_port:{}", self.tcp_port));
        line(out, format_args!("server_time_usec:{}", self.unix_ms * 1_000));
        line(out, format_args!("multiplexing_api:epoll"));
        line(out, format_args!("uptime_in_seconds:{}", self.uptime_seconds));
        line(out, format_args!("uptime_in_days:{}", self.uptime_seconds / 86_400));
        line(out, format_args!("config_file:{}", self.config_file));
        line(out, format_args!("executable:{}", self.executable));
        line(out, format_args!("io_threads_active:0"));
        line(out, format_args!("shards:{}", self.shards.len()));
        for (i, shard) in self.shards.iter().enumerate() {
            let Shard { clients, accepted, commands, keys, stalls, longest_turn_us, .. } = shard;
            let cpu = shard.cpu.map_or("none".to_owned(), |cpu| cpu.to_string());
            line(
                out,
                format_args!(
                    "shard{i}:cpu={cpu},clients={clients},accepted={accepted},commands={commands},keys={keys},stalls={stalls},longest_turn_usec={longest_turn_us}"
                ),
            );
        }
    }

    fn clients(&self, out: &mut String) {
        line(out, format_args!("connected_clients:{}", self.sum(|s| s.clients)));
        line(out, format_args!("maxclients:{}", self.maxclients));
        line(out, format_args!("clients_output_bytes:{}", self.sum(|s| s.output_bytes)));
        line(out, format_args!("blocked_clients:{}", self.sum(|s| s.blocked)));
        line(out, format_args!("tracking_clients:0"));
        line(out, format_args!("pubsub_clients:{}", self.sum(|s| s.listeners)));
        line(out, format_args!("watching_clients:{}", self.sum(|s| s.watching)));
    }

    fn memory(&self, out: &mut String) {
        for (name, bytes) in [
            ("used_memory", self.used_memory()),
            ("used_memory_rss", self.used_memory_rss),
            ("used_memory_peak", self.used_memory_peak),
            ("total_system_memory", self.total_system_memory),
        ] {
            line(out, format_args!("{name}:{bytes}"));
            line(out, format_args!("{name}_human:{}", human(bytes)));
        }
        line(out, format_args!("used_memory_dataset:{}", self.used_memory()));
        let (used, reserved) = (self.used_memory(), self.sum(|s| s.reserved_memory));
        line(out, format_args!("allocator_allocated:{used}"));
        line(out, format_args!("allocator_active:{reserved}"));
        line(out, format_args!("allocator_frag_ratio:{:.2}", reserved as f64 / used.max(1) as f64));
        line(out, format_args!("allocator_frag_bytes:{}", reserved.saturating_sub(used)));
        line(out, format_args!("mem_fragmentation_ratio:{:.2}", self.fragmentation()));
        line(out, format_args!("mem_allocator:mimalloc"));
        line(out, format_args!("mem_fragmentation_bytes:{}", self.used_memory_rss.saturating_sub(used)));
        let backlogs: u64 = self.recorded().iter().map(|stream| stream.backlog_bytes).sum();
        line(out, format_args!("mem_replication_backlog:{backlogs}"));
        line(out, format_args!("mem_clients_normal:{}", self.sum(|s| s.output_bytes)));
        line(out, format_args!("mem_clients_slaves:0"));
        line(out, format_args!("active_defrag_running:0"));
        line(out, format_args!("maxmemory:{}", self.maxmemory));
        line(out, format_args!("maxmemory_human:{}", human(self.maxmemory)));
        line(out, format_args!("maxmemory_policy:{}", self.maxmemory_policy));
    }

    /// Bytes of data on all shards.
    pub fn used_memory(&self) -> u64 {
        self.sum(|s| s.used_memory)
    }

    fn fragmentation(&self) -> f64 {
        self.used_memory_rss as f64 / self.used_memory().max(1) as f64
    }

    /// What `MEMORY STATS` tells.
    pub fn memory_stats(&self) -> Vec<(&'static str, u64)> {
        let keys = self.sum(|s| s.keys);
        let backlog = self.recorded().iter().map(|stream| stream.backlog_bytes).sum();
        vec![
            ("peak.allocated", self.used_memory_peak),
            ("total.allocated", self.used_memory_rss),
            ("replication.backlog", backlog),
            ("clients.normal", self.sum(|s| s.output_bytes)),
            ("keys.count", keys),
            ("keys.bytes-per-key", self.used_memory().checked_div(keys).unwrap_or(0)),
            ("dataset.bytes", self.used_memory()),
            ("allocator.resident", self.used_memory_rss),
        ]
    }

    fn commandstats(&self, out: &mut String) {
        for (name, stats) in &self.commands {
            let Stats { calls, failed, rejected, nanos, .. } = stats;
            let mean = *nanos as f64 / 1_000.0 / (*calls).max(1) as f64;
            line(
                out,
                format_args!(
                    "cmdstat_{name}:calls={calls},usec={},usec_per_call={mean:.2},rejected_calls={rejected},failed_calls={failed}",
                    nanos / 1_000
                ),
            );
        }
    }

    fn errorstats(&self, out: &mut String) {
        for (code, count) in &self.errors {
            line(out, format_args!("errorstat_{code}:count={count}"));
        }
    }

    fn latencystats(&self, out: &mut String) {
        for (name, stats) in &self.commands {
            if let [Some(p50), Some(p99), Some(p999)] = [500, 990, 999].map(|share| stats.percentile(share)) {
                line(out, format_args!("latency_percentiles_usec_{name}:p50={p50},p99={p99},p99.9={p999}"));
            }
        }
    }

    fn persistence(&self, out: &mut String) {
        line(out, format_args!("loading:0"));
        line(out, format_args!("async_loading:0"));
        line(out, format_args!("rdb_changes_since_last_save:0"));
        line(out, format_args!("rdb_bgsave_in_progress:0"));
        line(out, format_args!("rdb_last_save_time:0"));
        line(out, format_args!("rdb_last_bgsave_status:ok"));
        line(out, format_args!("aof_enabled:0"));
        line(out, format_args!("aof_rewrite_in_progress:0"));
        line(out, format_args!("aof_rewrite_scheduled:0"));
        line(out, format_args!("aof_last_bgrewrite_status:ok"));
        line(out, format_args!("aof_last_write_status:ok"));
        line(out, format_args!("rdb_last_bgsave_time_sec:-1"));
        line(out, format_args!("rdb_current_bgsave_time_sec:-1"));
    }

    fn stats(&self, out: &mut String) {
        let streams = self.recorded();
        line(out, format_args!("total_connections_received:{}", self.sum(|s| s.accepted)));
        line(out, format_args!("total_commands_processed:{}", self.sum(|s| s.commands)));
        line(out, format_args!("instantaneous_ops_per_sec:{}", self.sum(|s| s.rates.commands)));
        let kilobytes = |bytes: u64| bytes as f64 / 1_024.0;
        line(out, format_args!("total_net_input_bytes:{}", self.sum(|s| s.received_bytes)));
        line(out, format_args!("total_net_output_bytes:{}", self.sum(|s| s.sent_bytes)));
        line(out, format_args!("instantaneous_input_kbps:{:.2}", kilobytes(self.sum(|s| s.rates.received))));
        line(out, format_args!("instantaneous_output_kbps:{:.2}", kilobytes(self.sum(|s| s.rates.sent))));
        line(out, format_args!("expired_keys:{}", self.sum(|s| s.expired_keys)));
        line(out, format_args!("evicted_keys:{}", self.sum(|s| s.evicted_keys)));
        line(out, format_args!("keyspace_hits:{}", self.sum(|s| s.hits)));
        line(out, format_args!("keyspace_misses:{}", self.sum(|s| s.misses)));
        line(out, format_args!("rejected_connections:{}", self.sum(|s| s.rejected)));
        line(out, format_args!("pubsub_channels:{}", self.sum(|s| s.channels)));
        line(out, format_args!("pubsub_patterns:{}", self.sum(|s| s.patterns)));
        line(out, format_args!("pubsubshard_channels:{}", self.sum(|s| s.shard_channels)));
        // There are no forks.
        line(out, format_args!("latest_fork_usec:0"));
        line(out, format_args!("total_forks:0"));
        line(out, format_args!("total_error_replies:{}", self.errors.values().sum::<u64>()));
        line(out, format_args!("slowlog_len:{}", self.sum(|s| s.slow)));
        line(out, format_args!("executor_stalls:{}", self.sum(|s| s.stalls)));
        let longest = |of: fn(&Shard) -> u64| self.shards.iter().map(of).max().unwrap_or(0);
        line(out, format_args!("longest_turn_usec:{}", longest(|s| s.longest_turn_us)));
        line(out, format_args!("longest_turn_cpu_usec:{}", longest(|s| s.longest_turn_cpu_us)));
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in streams.iter().flat_map(|stream| &stream.sync_full) {
            *reasons.entry(reason).or_default() += count;
        }
        line(out, format_args!("sync_full:{}", reasons.values().sum::<u64>()));
        line(out, format_args!("sync_partial_ok:{}", streams.iter().map(|s| s.sync_partial_ok).sum::<u64>()));
        line(out, format_args!("sync_partial_err:{}", streams.iter().map(|s| s.sync_partial_err).sum::<u64>()));
        for (reason, count) in reasons {
            line(out, format_args!("sync_full_reason_{reason}:{count}"));
        }
        line(out, format_args!("slots_dumped:{}", streams.iter().map(|s| s.slots_dumped).sum::<u64>()));
        line(out, format_args!("scrub_slots_told:{}", self.sum(|s| s.scrub.told)));
        // A round of the node is over when that of its last shard is.
        line(out, format_args!("scrub_rounds:{}", self.shards.iter().map(|s| s.scrub.rounds).min().unwrap_or(0)));
        line(out, format_args!("scrub_slots_compared:{}", self.sum(|s| s.scrub.compared)));
        line(out, format_args!("scrub_slots_differing:{}", self.sum(|s| s.scrub.differing)));
        line(out, format_args!("scrub_slots_skipped:{}", self.sum(|s| s.scrub.skipped)));
        line(out, format_args!("slots_repaired:{}", self.sum(|s| s.scrub.repaired)));
        line(out, format_args!("slots_rejected:{}", self.sum(|s| s.scrub.rejected)));
        line(out, format_args!("digests_under_way:{}", self.sum(|s| s.digests)));
    }

    fn replication(&self, out: &mut String) {
        match &self.standing {
            Standing::Standalone => {
                line(out, format_args!("role:master"));
                line(out, format_args!("connected_slaves:0"));
                line(out, format_args!("master_repl_offset:0"));
            }
            Standing::Primary { generation, port_base, good_replicas, streams } => {
                line(out, format_args!("role:master"));
                if let Some(good) = good_replicas {
                    line(out, format_args!("min_slaves_good_slaves:{good}"));
                }
                self.primary(*generation, *port_base, streams, out);
            }
            Standing::Replica(following) => following.write(out),
        }
    }

    fn primary(&self, generation: Generation, port_base: u16, streams: &[Recorded], out: &mut String) {
        let replicas = self.replicas();
        line(out, format_args!("connected_slaves:{}", replicas.len()));
        for (i, replica) in replicas.iter().enumerate() {
            let Replica { ip, port, acked, ack_age_ms, .. } = replica;
            let (state, lag) = (state(replica.is_online(streams.len())), ack_age_ms / 1_000);
            line(out, format_args!("slave{i}:ip={ip},port={port},state={state},offset={acked},lag={lag}"));
        }
        line(out, format_args!("connected_observers:{}", self.readers(true).len()));
        line(out, format_args!("replicas_away:{}", streams.iter().map(|s| s.away).max().unwrap_or(0)));
        line(out, format_args!("master_failover_state:no-failover"));
        line(out, format_args!("master_replid:{:040x}", generation.get()));
        line(out, format_args!("master_repl_offset:{}", self.recorded_next()));
        line(out, format_args!("repl_port_base:{port_base}"));
        line(out, format_args!("repl_backlog_active:1"));
        line(out, format_args!("repl_backlog_size:{}", streams.iter().map(|s| s.backlog_budget).sum::<u64>()));
        line(out, format_args!("repl_backlog_histlen:{}", streams.iter().map(|s| s.backlog_bytes).sum::<u64>()));
        for (i, stream) in streams.iter().enumerate() {
            let Recorded { oldest, next, backlog_bytes, .. } = stream;
            let cpu = self.shards.get(i).and_then(|shard| shard.cpu).map_or("none".to_owned(), |cpu| cpu.to_string());
            line(
                out,
                format_args!(
                    "stream{i}:cpu={cpu},generation={generation},oldest={oldest},next={next},bytes={backlog_bytes}"
                ),
            );
        }
        for (i, replica) in replicas.iter().enumerate() {
            let Lag { frames, bytes, ms } = replica.lag();
            let better =
                replicas.iter().filter(|other| other.standing(streams.len()) < replica.standing(streams.len()));
            let (rank, whole) = (better.count() + 1, replica.links.iter().filter(|(_, _, link)| link.synced).count());
            line(
                out,
                format_args!(
                    "replica{i}:id={},rank={rank},synced_streams={whole}/{},lag_frames={frames},lag_bytes={bytes},lag_ms={ms}",
                    replica.name.replace([',', '='], "_"),
                    streams.len(),
                ),
            );
            replica.write_links(&format!("replica{i}"), out);
        }
        for (i, observer) in self.readers(true).iter().enumerate() {
            line(out, format_args!("observer{i}:id={}", observer.name.replace([',', '='], "_")));
            observer.write_links(&format!("observer{i}"), out);
        }
    }

    fn cpu(&self, out: &mut String) {
        let seconds = |micros: u64| format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        line(out, format_args!("used_cpu_sys:{}", seconds(self.cpu_system_micros)));
        line(out, format_args!("used_cpu_user:{}", seconds(self.cpu_user_micros)));
        // There are no processes beside it.
        line(out, format_args!("used_cpu_sys_children:0.000000"));
        line(out, format_args!("used_cpu_user_children:0.000000"));
    }

    fn cluster(&self, out: &mut String) {
        line(out, format_args!("cluster_enabled:{}", u8::from(self.emulates_cluster)));
    }

    fn keyspace(&self, out: &mut String) {
        let keys = self.sum(|s| s.keys);
        if keys > 0 {
            line(out, format_args!("db0:keys={keys},expires={},avg_ttl=0", self.sum(|s| s.expires)));
        }
    }
}

impl Following {
    /// Whether every stream is whole.
    pub fn is_synced(&self) -> bool {
        !self.streams.is_empty() && self.streams.iter().all(|stream| stream.synced)
    }

    /// Whether every stream is whole and its link is up.
    pub fn is_up(&self) -> bool {
        self.is_synced() && self.streams.iter().all(|stream| stream.linked)
    }

    fn is_syncing(&self) -> bool {
        self.streams.iter().any(|stream| stream.linked && !stream.synced)
    }

    /// Comparable with what other replicas say only when every stream is whole; 0 until then.
    pub fn offset(&self) -> u64 {
        if self.is_synced() { self.streams.iter().map(|stream| stream.applied_next.get()).sum() } else { 0 }
    }

    /// As `ROLE` says it.
    fn state(&self) -> &'static str {
        match () {
            () if self.is_up() => "connected",
            () if self.is_syncing() => "sync",
            () if self.streams.iter().any(|stream| stream.linked) => "connecting",
            () => "connect",
        }
    }

    fn write(&self, out: &mut String) {
        line(out, format_args!("role:slave"));
        line(out, format_args!("master_host:{}", self.host));
        line(out, format_args!("master_port:{}", self.port));
        line(out, format_args!("master_link_status:{}", if self.is_up() { "up" } else { "down" }));
        if let Some(error) = &self.error {
            line(out, format_args!("master_link_error:{}", error.replace(['\r', '\n'], " ")));
        }
        if let Some(ms) = self.down_ms {
            line(out, format_args!("master_link_down_since_seconds:{}", ms / 1_000));
        }
        let last_io = self.streams.iter().map(|stream| stream.heard_ms / 1_000).max();
        match last_io {
            Some(seconds) if self.is_up() => line(out, format_args!("master_last_io_seconds_ago:{seconds}")),
            _ => line(out, format_args!("master_last_io_seconds_ago:-1")),
        }
        line(out, format_args!("master_sync_in_progress:{}", u8::from(self.is_syncing())));
        line(out, format_args!("slave_repl_offset:{}", self.offset()));
        line(out, format_args!("slave_priority:{}", if self.is_synced() { self.priority } else { 0 }));
        line(out, format_args!("slave_read_only:{}", u8::from(self.read_only)));
        line(out, format_args!("runs_damaged:{}", self.streams.iter().map(|stream| stream.runs_damaged).sum::<u64>()));
        line(out, format_args!("connected_slaves:0"));
        line(out, format_args!("master_repl_offset:{}", self.offset()));
        for (i, stream) in self.streams.iter().enumerate() {
            let Pulled { shard, next, applied_next, upstream_next, lag_bytes, lag_ms, heard_ms, .. } = stream;
            let generation = stream.generation.map_or(0, Generation::get);
            let state = match (stream.linked, stream.synced) {
                (false, _) => "down",
                (true, false) => "sync",
                (true, true) => "online",
            };
            let lag_frames = upstream_next.since(*applied_next);
            line(
                out,
                format_args!(
                    "stream{i}:shard={shard},state={state},generation={generation},next={next},applied={applied_next},upstream_next={upstream_next},\
                     lag_frames={lag_frames},lag_bytes={lag_bytes},lag_ms={lag_ms},heard_ms={heard_ms}"
                ),
            );
        }
    }
}

/// One replica over all its links.
struct Replica<'a> {
    name: &'a str,
    ip: IpAddr,
    port: u16,
    acked: u64,
    ack_age_ms: u64,
    /// The stream's number, the stream, the link.
    links: Vec<(usize, &'a Recorded, &'a Link)>,
}

impl Replica<'_> {
    /// All of its streams together; the milliseconds are those of the worst.
    fn lag(&self) -> Lag {
        self.links.iter().fold(Lag::default(), |sum, (_, _, Link { lag, .. })| Lag {
            frames: sum.frames + lag.frames,
            bytes: sum.bytes + lag.bytes,
            ms: sum.ms.max(lag.ms),
        })
    }

    /// Whether all of `streams` are there and whole.
    fn is_online(&self, streams: usize) -> bool {
        self.links.len() == streams && self.links.iter().all(|(_, _, link)| link.synced)
    }

    /// What makes one better than another: streams that are not whole, then frames that it lacks; the less, the better.
    fn standing(&self, streams: usize) -> (usize, u64) {
        let whole = self.links.iter().filter(|(_, _, link)| link.synced).count();
        (streams.saturating_sub(whole), self.lag().frames)
    }

    fn write_links(&self, name: &str, out: &mut String) {
        for (stream, _, link) in &self.links {
            let (state, acked, Lag { frames, bytes, ms }) = (state(link.synced), link.acked_next, link.lag);
            line(
                out,
                format_args!(
                    "{name}_stream{stream}:state={state},acked={acked},lag_frames={frames},lag_bytes={bytes},lag_ms={ms},heard_ms={}",
                    link.ack_age_ms
                ),
            );
        }
    }
}

type Section = fn(&Snapshot, &mut String);

/// Name, whether it is shown where none is asked for, what writes it.
const SECTIONS: &[(&str, bool, Section)] = &[
    ("Server", true, Snapshot::server),
    ("Clients", true, Snapshot::clients),
    ("Memory", true, Snapshot::memory),
    ("Persistence", true, Snapshot::persistence),
    ("Stats", true, Snapshot::stats),
    ("Replication", true, Snapshot::replication),
    ("CPU", true, Snapshot::cpu),
    ("Modules", true, |_, _| {}),
    ("Commandstats", false, Snapshot::commandstats),
    ("Errorstats", true, Snapshot::errorstats),
    ("Latencystats", false, Snapshot::latencystats),
    ("Cluster", true, Snapshot::cluster),
    ("Keyspace", true, Snapshot::keyspace),
];

fn state(online: bool) -> &'static str {
    if online { "online" } else { "sync" }
}

/// Bytes as people say them.
fn human(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes}B"),
        1_024..1_048_576 => format!("{:.2}K", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.2}M", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2}G", bytes as f64 / 1_073_741_824.0),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{text}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Protocol;

    fn stats() -> Stats {
        let mut stats = Stats { calls: 4, failed: 1, rejected: 2, nanos: 10_000, ..Stats::default() };
        (stats.buckets[1], stats.buckets[3]) = (3, 1);
        stats
    }

    fn snapshot(standing: Standing) -> Snapshot {
        Snapshot {
            run_id: "0123456789abcdef0123456789abcdef01234567".into(),
            process_id: 42,
            tcp_port: 6004,
            uptime_seconds: 90_000,
            maxclients: 10_000,
            maxmemory: 0,
            maxmemory_policy: Policy::NoEviction,
            used_memory_rss: 5_000_000,
            cpu_user_micros: 1_500_000,
            cpu_system_micros: 250,
            emulates_cluster: false,
            config_file: "kevy.toml".into(),
            executable: "kevy".into(),
            unix_ms: 1_000,
            used_memory_peak: 6_000_000,
            total_system_memory: 1 << 30,
            commands: BTreeMap::from([("get", stats())]),
            errors: BTreeMap::from([("ERR".into(), 3)]),
            shards: vec![
                Shard {
                    cpu: Some(3),
                    clients: 2,
                    accepted: 5,
                    commands: 70,
                    keys: 10,
                    expires: 1,
                    hits: 5,
                    misses: 2,
                    received_bytes: 3,
                    ..Shard::default()
                },
                Shard {
                    clients: 1,
                    accepted: 4,
                    commands: 30,
                    keys: 20,
                    used_memory: 640,
                    reserved_memory: 800,
                    stalls: 1,
                    hits: 7,
                    sent_bytes: 5,
                    rates: Rates { commands: 9, received: 2_048, sent: 512 },
                    longest_turn_us: 700,
                    longest_turn_cpu_us: 600,
                    ..Shard::default()
                },
            ],
            standing,
        }
    }

    fn link(replica: &str, synced: bool, acked: u64) -> Link {
        Link {
            replica: replica.into(),
            ip: IpAddr::from([10, 0, 0, 7]),
            port: 6005,
            synced,
            acked_next: Offset::new(acked),
            observer: false,
            lag: Lag { frames: 100 - acked.min(100), bytes: 115, ms: 7 },
            ack_age_ms: 2_100,
        }
    }

    fn primary() -> Snapshot {
        let recorded = |next, links| Recorded {
            oldest: Offset::new(5),
            next: Offset::new(next),
            backlog_bytes: 1_000,
            backlog_budget: 1 << 20,
            sync_partial_ok: 2,
            sync_partial_err: 1,
            slots_dumped: 16_384,
            sync_full: BTreeMap::from([("empty", 1), ("too_old", 1)]),
            away: 0,
            links,
        };
        snapshot(Standing::Primary {
            good_replicas: None,
            generation: Generation::new(0xabc).unwrap(),
            port_base: 16_004,
            streams: vec![
                recorded(100, vec![link("b", true, 99), link("a", true, 100)]),
                recorded(200, vec![link("a", true, 200), link("b", false, 0)]),
            ],
        })
    }

    fn replica() -> Following {
        let stream = |applied| Pulled {
            upstream_next: Offset::new(applied + 4),
            lag_ms: 30,
            shard: 0,
            generation: Generation::new(7),
            linked: true,
            synced: true,
            next: Offset::new(applied + 3),
            applied_next: Offset::new(applied),
            lag_bytes: 345,
            heard_ms: 1_020,
            runs_damaged: 1,
        };
        Following {
            host: "db.example".into(),
            port: 6004,
            error: None,
            down_ms: None,
            read_only: true,
            priority: 100,
            streams: vec![stream(97), stream(200)],
        }
    }

    fn role(snapshot: &Snapshot) -> String {
        let mut out = Vec::new();
        snapshot.role(&mut Reply::new(&mut out, Protocol::Resp2));
        String::from_utf8(out).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn a_primary_shows_its_replicas_over_all_their_streams() {
        let text = primary().info(&[b"replication"]);
        let expected = "\
# Replication
role:master
connected_slaves:2
slave0:ip=10.0.0.7,port=6005,state=online,offset=300,lag=2
slave1:ip=10.0.0.7,port=6005,state=sync,offset=99,lag=2
connected_observers:0
replicas_away:0
master_failover_state:no-failover
master_replid:0000000000000000000000000000000000000abc
master_repl_offset:300
repl_port_base:16004
repl_backlog_active:1
repl_backlog_size:2097152
repl_backlog_histlen:2000
stream0:cpu=3,generation=2748,oldest=5,next=100,bytes=1000
stream1:cpu=none,generation=2748,oldest=5,next=200,bytes=1000
replica0:id=a,rank=1,synced_streams=2/2,lag_frames=0,lag_bytes=230,lag_ms=7
replica0_stream0:state=online,acked=100,lag_frames=0,lag_bytes=115,lag_ms=7,heard_ms=2100
replica0_stream1:state=online,acked=200,lag_frames=0,lag_bytes=115,lag_ms=7,heard_ms=2100
replica1:id=b,rank=2,synced_streams=1/2,lag_frames=101,lag_bytes=230,lag_ms=7
replica1_stream0:state=online,acked=99,lag_frames=1,lag_bytes=115,lag_ms=7,heard_ms=2100
replica1_stream1:state=sync,acked=0,lag_frames=100,lag_bytes=115,lag_ms=7,heard_ms=2100
";
        assert_eq!(text, expected.replace('\n', "\r\n"));
        assert_eq!(
            role(&primary()),
            "*3 $6 master :300 *2 *3 $8 10.0.0.7 $4 6005 $3 300 *3 $8 10.0.0.7 $4 6005 $2 99 "
        );
    }

    #[test]
    fn a_replica_that_misses_a_link_is_not_online() {
        let mut snapshot = primary();
        let Standing::Primary { streams, .. } = &mut snapshot.standing else { unreachable!() };
        streams[1].links.remove(0);
        assert!(snapshot.info(&[b"replication"]).contains("slave0:ip=10.0.0.7,port=6005,state=sync,offset=100,"));
    }

    #[test]
    fn a_replica_shows_its_upstream_and_every_stream() {
        let text = snapshot(Standing::Replica(replica())).info(&[b"REPLICATION"]);
        let expected = "\
# Replication
role:slave
master_host:db.example
master_port:6004
master_link_status:up
master_last_io_seconds_ago:1
master_sync_in_progress:0
slave_repl_offset:297
slave_priority:100
slave_read_only:1
runs_damaged:2
connected_slaves:0
master_repl_offset:297
stream0:shard=0,state=online,generation=7,next=100,applied=97,upstream_next=101,lag_frames=4,lag_bytes=345,lag_ms=30,heard_ms=1020
stream1:shard=0,state=online,generation=7,next=203,applied=200,upstream_next=204,lag_frames=4,lag_bytes=345,lag_ms=30,heard_ms=1020
";
        assert_eq!(text, expected.replace('\n', "\r\n"));
        assert_eq!(
            role(&snapshot(Standing::Replica(replica()))),
            "*5 $5 slave $10 db.example :6004 $9 connected :297 "
        );
    }

    #[test]
    fn until_every_stream_is_synced_a_replica_offers_nothing() {
        let mut following = replica();
        following.streams[1].synced = false;
        following.error = Some("it began\nempty".into());
        following.down_ms = Some(4_200);
        let syncing = snapshot(Standing::Replica(following.clone()));
        let text = syncing.info(&[b"replication"]);
        for field in [
            "master_link_status:down",
            "master_link_error:it began empty",
            "master_link_down_since_seconds:4",
            "master_sync_in_progress:1",
            "slave_repl_offset:0",
            "slave_priority:0",
        ] {
            assert!(text.contains(&format!("{field}\r\n")), "{field} is not in {text}");
        }
        assert_eq!(role(&syncing), "*5 $5 slave $10 db.example :6004 $4 sync :0 ");
        following.streams.clear();
        assert_eq!(role(&snapshot(Standing::Replica(following))), "*5 $5 slave $10 db.example :6004 $7 connect :0 ");
    }

    #[test]
    fn a_cut_keeps_the_offset_and_says_down() {
        let mut following = replica();
        following.streams[0].linked = false;
        let text = snapshot(Standing::Replica(following)).info(&[b"replication"]);
        assert!(text.contains("master_link_status:down\r\n") && text.contains("slave_repl_offset:297\r\n"), "{text}");
        assert!(text.contains("master_sync_in_progress:0\r\n") && text.contains("slave_priority:100\r\n"), "{text}");
    }

    #[test]
    fn the_other_sections_sum_over_the_shards() {
        let expected = format!(
            "\
# Server
redis_version:7.2.4
kevy_version:{}
redis_mode:standalone
os:linux
arch_bits:64
process_id:42
run_id:0123456789abcdef0123456789abcdef01234567
tcp_port:6004
server_time_usec:1000000
multiplexing_api:epoll
uptime_in_seconds:90000
uptime_in_days:1
config_file:kevy.toml
executable:kevy
io_threads_active:0
shards:2
shard0:cpu=3,clients=2,accepted=5,commands=70,keys=10,stalls=0,longest_turn_usec=0
shard1:cpu=none,clients=1,accepted=4,commands=30,keys=20,stalls=1,longest_turn_usec=700

# Clients
connected_clients:3
maxclients:10000
clients_output_bytes:0
blocked_clients:0
tracking_clients:0
pubsub_clients:0
watching_clients:0

# Memory
used_memory:640
used_memory_human:640B
used_memory_rss:5000000
used_memory_rss_human:4.77M
used_memory_peak:6000000
used_memory_peak_human:5.72M
total_system_memory:1073741824
total_system_memory_human:1.00G
used_memory_dataset:640
allocator_allocated:640
allocator_active:800
allocator_frag_ratio:1.25
allocator_frag_bytes:160
mem_fragmentation_ratio:7812.50
mem_allocator:mimalloc
mem_fragmentation_bytes:4999360
mem_replication_backlog:0
mem_clients_normal:0
mem_clients_slaves:0
active_defrag_running:0
maxmemory:0
maxmemory_human:0B
maxmemory_policy:noeviction

# Persistence
loading:0
async_loading:0
rdb_changes_since_last_save:0
rdb_bgsave_in_progress:0
rdb_last_save_time:0
rdb_last_bgsave_status:ok
aof_enabled:0
aof_rewrite_in_progress:0
aof_rewrite_scheduled:0
aof_last_bgrewrite_status:ok
aof_last_write_status:ok
rdb_last_bgsave_time_sec:-1
rdb_current_bgsave_time_sec:-1

# Stats
total_connections_received:9
total_commands_processed:100
instantaneous_ops_per_sec:9
total_net_input_bytes:3
total_net_output_bytes:5
instantaneous_input_kbps:2.00
instantaneous_output_kbps:0.50
expired_keys:0
evicted_keys:0
keyspace_hits:12
keyspace_misses:2
rejected_connections:0
pubsub_channels:0
pubsub_patterns:0
pubsubshard_channels:0
latest_fork_usec:0
total_forks:0
total_error_replies:3
slowlog_len:0
executor_stalls:1
longest_turn_usec:700
longest_turn_cpu_usec:600
sync_full:0
sync_partial_ok:0
sync_partial_err:0
slots_dumped:0
scrub_slots_told:0
scrub_rounds:0
scrub_slots_compared:0
scrub_slots_differing:0
scrub_slots_skipped:0
slots_repaired:0
slots_rejected:0
digests_under_way:0

# Replication
role:master
connected_slaves:0
master_repl_offset:0

# CPU
used_cpu_sys:0.000250
used_cpu_user:1.500000
used_cpu_sys_children:0.000000
used_cpu_user_children:0.000000

# Modules

# Errorstats
errorstat_ERR:count=3

# Cluster
cluster_enabled:0

# Keyspace
db0:keys=30,expires=1,avg_ttl=0
",
            env!("CARGO_PKG_VERSION")
        );
        let standalone = snapshot(Standing::Standalone);
        assert_eq!(standalone.info(&[]), expected.replace('\n', "\r\n"));
        assert_eq!(standalone.info(&[b"default"]), standalone.info(&[]));
        assert_eq!(standalone.info(&[b"everything"]).matches("# ").count(), SECTIONS.len());
        assert_eq!(
            standalone.info(&[b"commandstats", b"LatencyStats"]),
            "# Commandstats\r\ncmdstat_get:calls=4,usec=10,usec_per_call=2.50,rejected_calls=2,failed_calls=1\r\n\r\n\
             # Latencystats\r\nlatency_percentiles_usec_get:p50=2,p99=8,p99.9=8\r\n"
        );
        assert_eq!(standalone.info(&[b"cluster", b"CPU"]).matches("# ").count(), 2);
        assert_eq!(standalone.info(&[b"nonsense"]), "");
        assert_eq!(role(&standalone), "*3 $6 master :0 *0 ");
    }

    #[test]
    fn syncs_are_counted_by_reason() {
        let text = primary().info(&[b"stats"]);
        for field in [
            "sync_full:4",
            "sync_partial_ok:4",
            "sync_partial_err:2",
            "sync_full_reason_empty:2",
            "sync_full_reason_too_old:2",
        ] {
            assert!(text.contains(&format!("{field}\r\n")), "{field} is not in {text}");
        }
    }
}
