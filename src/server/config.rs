//! What a node is told: defaults, then `kevy.toml`, then flags; the later wins.
//!
//! `KEYS` is the one place where a key says its section, its name, its default, what it is for and what it accepts.
//! The file's keys and the command line's flags are both made of it, and every value, wherever it comes from, goes
//! through the same setter. A key whose part is not built is not in the table, so it is refused like an unknown one.
//!
//! ```text
//! kevy.toml ──▶ (section, key, text) ─┐
//!                                     ├─▶ setter ─▶ Draft ─▶ checks between keys ─▶ Config
//! --flag text ─▶ (key, text) ─────────┘
//! ```

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::settings::OutputLimits;
use super::size::Size;
use crate::handshake::Password;
use crate::id::ShardCount;
use crate::limits::{PASSWORD_BYTES_MAX, REPLICA_ID_BYTES_MAX, REPLICA_SLOTS_MAX, SHARDS_MAX};
use crate::shard::memory::{MemoryLimit, Policy};

/// Everything a node is told, checked and complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The address that clients and replicas connect to.
    pub bind: IpAddr,
    /// The clients' port.
    pub port: u16,
    /// How many shards the node has.
    pub shards: ShardCount,
    /// Where the shards run.
    pub cpus: Cpus,
    /// The directory of the node's files.
    pub dir: PathBuf,
    /// Client connections at a time.
    pub maxclients: u32,
    /// The password of clients and replicas; `None`: they need none.
    pub requirepass: Option<Password>,
    /// Without a password, only loopback is listened on.
    pub protected_mode: bool,
    /// Whether `DEBUG` damages data for clients of the same machine.
    pub enable_debug_command: bool,
    /// Bytes of keys, values and tables of all shards; 0: no limit.
    pub maxmemory: u64,
    /// What goes at the limit.
    pub maxmemory_policy: Policy,
    /// Keys that are looked at for one that goes.
    pub maxmemory_samples: usize,
    /// The password of the upstream.
    pub masterauth: Option<Password>,
    /// Seconds after which a client that says nothing is closed; 0: never.
    pub timeout: u64,
    /// Seconds after which the machine of a client that says nothing is asked whether it is there; 0: never.
    pub tcp_keepalive: u32,
    /// Bytes of a client's command that is not whole, over which it is closed.
    pub client_query_buffer_limit: u64,
    /// How much may wait for a client to read it.
    pub output_limits: OutputLimits,
    /// Microseconds from which on a command is slow; `None`: none is.
    pub slowlog_log_slower_than: Option<u64>,
    /// How many slow commands are remembered.
    pub slowlog_max_len: usize,
    /// Milliseconds from which on what took long is remembered as a latency; 0: nothing is.
    pub latency_monitor_threshold: u64,
    /// Whether clients that know clusters are answered as by one of a single primary.
    pub emulates_cluster: bool,
    /// What the node is when it starts.
    pub role: Role,
    /// Shard `i` listens for replicas on this port + `i`.
    pub listen_port_base: u16,
    /// The upstream's replication port base; a replica has one.
    pub upstream: Option<HostPort>,
    /// How many shards the upstream has; `None`: it says so in the handshake.
    pub upstream_shards: Option<ShardCount>,
    /// The name under which the upstream remembers this replica; `None`: one is made at the start, and logged.
    pub replica_id: Option<String>,
    /// The address that the upstream shows for this replica; `None`: the one it sees.
    pub replica_announce_ip: Option<String>,
    /// The client port that the upstream shows for this replica; `None`: [`port`](Self::port).
    pub replica_announce_port: Option<u16>,
    /// What a failover tool prefers: lower first; 0 means never.
    pub replica_priority: u32,
    /// Bytes of backlog per shard.
    pub replication_buffer_size: u64,
    /// How long a replica that is gone is remembered, in milliseconds.
    pub reconnect_window_ms: u64,
    /// A link on which nothing came for this long is closed, in milliseconds.
    pub link_timeout_ms: u64,
    /// How often a quiet link says that it lives, in milliseconds; below `link_timeout_ms`.
    pub heartbeat_ms: u64,
    /// Check lines are offered to replicas, and asked of the upstream.
    pub replication_checksum: bool,
    /// A replica refuses clients' writes.
    pub replica_read_only: bool,
    /// Keys of a slot that is being synced are answered from the old copy.
    pub serve_stale: bool,
    /// Clients may write only while so many replicas are there; 0: always.
    pub min_replicas_to_write: usize,
    /// A replica is there if it acknowledged something within this time, in milliseconds; above `heartbeat_ms`.
    pub min_replicas_max_lag_ms: u64,
    /// A replica that has not heard of its upstream for longer than this answers no reads, in milliseconds; above `heartbeat_ms`, or
    /// 0: it does not matter.
    pub replica_max_staleness_ms: u64,
    /// A primary that lost its data may erase what this replica has.
    pub accept_empty_primary: bool,
    /// Hash slots whose digests a primary tells its replicas in a second, all shards together; 0 is none.
    pub scrub_slots_per_second: u32,
    /// The file that it was read from.
    pub file: Option<PathBuf>,
}

/// What the machine allows this process; counted once, before there is any thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// The CPUs of its affinity, by number.
    pub cpus: Vec<usize>,
    /// How many CPUs its quota is worth; at least 1.
    pub parallelism: usize,
}

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Takes writes and streams them.
    Primary,
    /// Follows an upstream.
    Replica,
    /// Takes writes; no backlog, no replication ports.
    Standalone,
}

/// Where the shards run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cpus {
    /// Each shard takes the first CPU that no other kevy of this machine holds.
    Auto,
    /// Nowhere in particular.
    Off,
    /// Shard `i` on the `i`th of these, all different; more shards than CPUs share them in turn.
    List(Vec<usize>),
}

/// A host, by name or by address, and a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort {
    /// The name or address; an IPv6 address without its brackets.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
}

/// One line that says which key has which value, and what is allowed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", self.line())]
pub struct ConfigError {
    origin: Option<Origin>,
    key: String,
    value: Option<String>,
    allowed: String,
}

/// Where a value was written.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Origin {
    File(String),
    Flag,
}

/// One key of the file, one flag of the command line.
pub(super) struct Key {
    /// The table of the file in which it stands.
    pub section: &'static str,
    /// Its name in the file; the flag has dashes.
    pub name: &'static str,
    /// Another name for it, in both.
    pub alias: Option<&'static str>,
    /// What its value is called in the help.
    pub value: &'static str,
    /// The value it has when nobody says anything.
    pub default: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
    /// Whether it may change while the node runs.
    pub live: bool,
    /// Its value in a configuration, as `set` takes it.
    pub show: fn(&Config) -> String,
    set: fn(&mut Draft, &str) -> Result<(), String>,
}

/// A configuration whose keys are set one by one; `None` stands for what depends on other keys or on the machine.
#[derive(Clone)]
struct Draft {
    config: Config,
    shards: Option<ShardCount>,
    listen_port_base: Option<u16>,
}

impl Default for Config {
    /// A primary of one shard, on the ports that are usual.
    fn default() -> Config {
        Config {
            bind: IpAddr::from([127, 0, 0, 1]),
            port: 6004,
            shards: ShardCount::ONE,
            cpus: Cpus::Auto,
            dir: PathBuf::from("."),
            maxclients: 10_000,
            requirepass: None,
            protected_mode: true,
            enable_debug_command: false,
            maxmemory: 0,
            maxmemory_policy: Policy::NoEviction,
            maxmemory_samples: 5,
            masterauth: None,
            timeout: 0,
            tcp_keepalive: 300,
            client_query_buffer_limit: 1 << 30,
            output_limits: OutputLimits::default(),
            slowlog_log_slower_than: Some(10_000),
            slowlog_max_len: 128,
            latency_monitor_threshold: 0,
            emulates_cluster: false,
            role: Role::Primary,
            listen_port_base: 16_004,
            upstream: None,
            upstream_shards: None,
            replica_id: None,
            replica_announce_ip: None,
            replica_announce_port: None,
            replica_priority: 100,
            replication_buffer_size: 256 << 20,
            reconnect_window_ms: 60_000,
            link_timeout_ms: 60_000,
            heartbeat_ms: 1_000,
            replication_checksum: true,
            replica_read_only: true,
            serve_stale: false,
            min_replicas_to_write: 0,
            min_replicas_max_lag_ms: 10_000,
            replica_max_staleness_ms: 0,
            accept_empty_primary: false,
            scrub_slots_per_second: 16,
            file: None,
        }
    }
}

impl Config {
    /// What each shard may hold: an equal share.
    pub fn memory_limit(&self) -> MemoryLimit {
        let bytes = self.maxmemory.div_ceil(u64::from(self.shards.get())) as usize;
        MemoryLimit { bytes, policy: self.maxmemory_policy, samples: self.maxmemory_samples }
    }

    /// Reads the text of a configuration file (a name for messages, and what it holds), then `flags`, pairs of a key
    /// and its text.
    ///
    /// # Errors
    /// The first key that is unknown, or whose value is impossible, by itself or beside the others.
    pub fn read(
        file: Option<(&str, &str)>,
        flags: &[(&'static str, String)],
        machine: &Machine,
    ) -> Result<Config, ConfigError> {
        let mut draft = Draft { config: Config::default(), shards: None, listen_port_base: None };
        if let Some((name, text)) = file {
            draft.read_file(name, text)?;
        }
        for (key, value) in flags {
            draft.set(Some(Origin::Flag), None, key, value)?;
        }
        draft.finish(machine)
    }

    /// This configuration with other values of some keys that may change while the node runs: all of them, or none.
    ///
    /// # Errors
    /// The first key that is unknown or may not change, or whose value is impossible, by itself or beside the others.
    pub fn changed(&self, changes: &[(&str, String)]) -> Result<Config, ConfigError> {
        let mut draft = Draft { config: self.clone(), shards: None, listen_port_base: None };
        for (name, value) in changes {
            if KEYS.iter().any(|key| key.name == *name && !key.live) {
                let allowed = "cannot change while the node runs".to_owned();
                return Err(ConfigError { origin: None, key: (*name).to_owned(), value: Some(value.clone()), allowed });
            }
            draft.set(None, None, name, value)?;
        }
        draft.config.check()?;
        Ok(draft.config)
    }

    /// What one key alone cannot tell.
    fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, value: String, allowed: String| {
            Err(ConfigError { origin: None, key: key.to_owned(), value: Some(value), allowed })
        };
        if self.protected_mode && self.requirepass.is_none() && !self.bind.is_loopback() {
            let allowed = "must be a loopback address, unless requirepass is set or protected_mode = false";
            return fail("bind", self.bind.to_string(), allowed.into());
        }
        if self.role == Role::Replica && self.upstream.is_none() {
            return fail("upstream", String::new(), "a replica needs HOST:PORT, its primary's replication port".into());
        }
        if self.heartbeat_ms >= self.link_timeout_ms {
            let most = self.link_timeout_ms;
            return fail(
                "heartbeat_ms",
                self.heartbeat_ms.to_string(),
                format!("must be below link_timeout_ms, {most}"),
            );
        }
        if self.min_replicas_to_write > 0 && self.role == Role::Standalone {
            let wanted = self.min_replicas_to_write.to_string();
            return fail("min_replicas_to_write", wanted, "must be 0: a standalone node has no replicas".into());
        }
        for (key, value, is_on) in [
            ("min_replicas_max_lag_ms", self.min_replicas_max_lag_ms, self.min_replicas_to_write > 0),
            ("replica_max_staleness_ms", self.replica_max_staleness_ms, self.replica_max_staleness_ms > 0),
        ] {
            if is_on && value <= self.heartbeat_ms {
                return fail(key, value.to_string(), format!("must be above heartbeat_ms, {}", self.heartbeat_ms));
            }
        }
        Ok(())
    }
}

impl Draft {
    fn read_file(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let origin = || Origin::File(name.to_owned());
        let fail = |key: &str, value: Option<String>, allowed: String| {
            Err(ConfigError { origin: Some(origin()), key: key.to_owned(), value, allowed })
        };
        let tables: toml::Table = match text.parse() {
            Ok(tables) => tables,
            Err(error) => {
                let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(text));
                let line = before.matches('\n').count() + 1;
                return fail(&format!("line {line}"), None, error.message().replace('\n', ", "));
            }
        };
        for (section, keys) in &tables {
            let toml::Value::Table(keys) = keys else {
                return fail(section, Some(plain(keys)), format!("a key must stand in one of {}", sections()));
            };
            if !KEYS.iter().any(|key| key.section == section) {
                return fail(&format!("[{section}]"), None, format!("unknown section; there are {}", sections()));
            }
            for key in KEYS {
                if let Some(alias) = key.alias
                    && keys.contains_key(alias)
                    && keys.contains_key(key.name)
                {
                    return fail(
                        alias,
                        Some(plain(&keys[alias])),
                        format!("is another name for {}, also given", key.name),
                    );
                }
            }
            for (key, value) in keys {
                self.set(Some(origin()), Some(section), key, &plain(value))?;
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        origin: Option<Origin>,
        section: Option<&str>,
        name: &str,
        value: &str,
    ) -> Result<(), ConfigError> {
        let key = KEYS.iter().find(|key| {
            section.is_none_or(|section| section == key.section) && (key.name == name || key.alias == Some(name))
        });
        let outcome = match key {
            Some(key) => (key.set)(self, value).map_err(|allowed| format!("must be {allowed}")),
            None => {
                let known: Vec<_> =
                    KEYS.iter().filter(|k| section.is_none_or(|s| s == k.section)).map(|k| k.name).collect();
                Err(format!("unknown key; there are {}", known.join(", ")))
            }
        };
        outcome.map_err(|allowed| ConfigError { origin, key: name.to_owned(), value: Some(value.to_owned()), allowed })
    }

    /// What depends on other keys or on the machine.
    fn finish(self, machine: &Machine) -> Result<Config, ConfigError> {
        let fail = |key: &str, value: String, allowed: String| {
            Err(ConfigError { origin: None, key: key.to_owned(), value: Some(value), allowed })
        };
        let mut config = self.config;
        let wanted = match &config.cpus {
            Cpus::List(list) => list.len(),
            Cpus::Auto | Cpus::Off => machine.cpus.len().min(machine.parallelism),
        };
        let wanted = wanted.clamp(1, SHARDS_MAX) as u16;
        config.shards = self.shards.or(ShardCount::new(wanted)).unwrap_or(ShardCount::ONE);

        if let Cpus::List(list) = &config.cpus
            && let Some(cpu) = list.iter().find(|cpu| !machine.cpus.contains(cpu))
        {
            return fail("cpus", cpu.to_string(), format!("this process may use the CPUs {}", join(&machine.cpus)));
        }

        if config.role != Role::Standalone {
            let shards = u32::from(config.shards.get());
            let base = self.listen_port_base.map_or(u32::from(config.port) + 10_000, u32::from);
            if base + shards > 65_535 {
                let (key, value) = match self.listen_port_base {
                    Some(base) => ("listen_port_base", base.to_string()),
                    None => ("listen_port_base", format!("0 (port + 10000 = {base})")),
                };
                let most = 65_535 - shards;
                return fail(key, value, format!("with {shards} shards it must be at most {most}"));
            }
            if (base..base + shards).contains(&u32::from(config.port)) {
                let last = base + shards - 1;
                return fail(
                    "port",
                    config.port.to_string(),
                    format!("must not be a replication port, {base} to {last}"),
                );
            }
            config.listen_port_base = base as u16;
        }

        config.check()?;
        Ok(config)
    }
}

/// Every key there is.
pub(super) const KEYS: &[Key] = &[
    Key {
        section: "server",
        name: "bind",
        alias: None,
        value: "IP",
        default: "127.0.0.1",
        help: "Address that clients and replicas connect to",
        live: false,
        show: |config| config.bind.to_string(),
        set: |draft, text| parsed(text, "an IP address").map(|ip| draft.config.bind = ip),
    },
    Key {
        section: "server",
        name: "port",
        alias: None,
        value: "PORT",
        default: "6004",
        help: "Port for clients",
        live: false,
        show: |config| config.port.to_string(),
        set: |draft, text| number(text, 1..=65_535).map(|port| draft.config.port = port as u16),
    },
    Key {
        section: "server",
        name: "shards",
        alias: Some("threads"),
        value: "N",
        default: "0",
        help: "How many shards, each a thread; 0 is one per CPU",
        live: false,
        show: |config| config.shards.to_string(),
        set: |draft, text| shard_count(text).map(|shards| draft.shards = shards),
    },
    Key {
        section: "server",
        name: "cpus",
        alias: None,
        value: "auto|off|LIST",
        default: "auto",
        help: "CPUs of the shards: the free ones, any, or a list such as 0,2-3",
        live: false,
        show: |config| config.cpus.to_string(),
        set: |draft, text| parsed(text, CPUS_ALLOWED).map(|cpus| draft.config.cpus = cpus),
    },
    Key {
        section: "server",
        name: "dir",
        alias: None,
        value: "DIR",
        default: ".",
        help: "Directory of the node's files",
        live: false,
        show: |config| config.dir.display().to_string(),
        set: |draft, text| {
            if !Path::new(text).is_dir() {
                return Err("a directory that exists".into());
            }
            draft.config.dir = PathBuf::from(text);
            Ok(())
        },
    },
    Key {
        section: "server",
        name: "maxclients",
        alias: None,
        value: "N",
        default: "10000",
        help: "Client connections at a time",
        live: true,
        show: |config| config.maxclients.to_string(),
        set: |draft, text| number(text, 1..=1_000_000).map(|clients| draft.config.maxclients = clients as u32),
    },
    Key {
        section: "server",
        name: "requirepass",
        alias: None,
        value: "PASSWORD",
        default: "",
        help: "What clients must say with AUTH, and replicas with masterauth",
        live: true,
        show: |config| revealed(config.requirepass.as_ref()),
        set: |draft, text| password(text).map(|password| draft.config.requirepass = password),
    },
    Key {
        section: "server",
        name: "protected_mode",
        alias: None,
        value: "BOOL",
        default: "true",
        help: "Without a password, listen on nothing but loopback",
        live: true,
        show: |config| config.protected_mode.to_string(),
        set: |draft, text| boolean(text).map(|yes| draft.config.protected_mode = yes),
    },
    Key {
        section: "server",
        name: "enable_debug_command",
        alias: None,
        value: "BOOL",
        default: "false",
        help: "DEBUG CORRUPT damages a value on a replica, for tests",
        live: false,
        show: |config| config.enable_debug_command.to_string(),
        set: |draft, text| boolean(text).map(|yes| draft.config.enable_debug_command = yes),
    },
    Key {
        section: "server",
        name: "maxmemory",
        alias: None,
        value: "SIZE",
        default: "0",
        help: "Bytes of keys and values, an equal share for each shard; 0 is no limit",
        live: true,
        show: |config| Size(config.maxmemory).to_string(),
        set: |draft, text| size(text, 0..=1 << 50).map(|bytes| draft.config.maxmemory = bytes),
    },
    Key {
        section: "server",
        name: "maxmemory_policy",
        alias: None,
        value: "POLICY",
        default: "noeviction",
        help: "What goes at the limit: noeviction, allkeys-lru, volatile-ttl …",
        live: true,
        show: |config| config.maxmemory_policy.to_string(),
        set: |draft, text| {
            let allowed = "noeviction, allkeys-lru, allkeys-lfu, allkeys-random, volatile-lru, volatile-lfu, \
                           volatile-random or volatile-ttl";
            parsed(text, allowed).map(|policy| draft.config.maxmemory_policy = policy)
        },
    },
    Key {
        section: "server",
        name: "maxmemory_samples",
        alias: None,
        value: "N",
        default: "5",
        help: "Keys that are looked at for one that goes",
        live: true,
        show: |config| config.maxmemory_samples.to_string(),
        set: |draft, text| number(text, 1..=64).map(|n| draft.config.maxmemory_samples = n as usize),
    },
    Key {
        section: "server",
        name: "timeout",
        alias: None,
        value: "SECONDS",
        default: "0",
        help: "Close clients that are silent for this long; 0 is never",
        live: true,
        show: |config| config.timeout.to_string(),
        set: |draft, text| number(text, 0..=i32::MAX as u64).map(|seconds| draft.config.timeout = seconds),
    },
    Key {
        section: "server",
        name: "tcp_keepalive",
        alias: None,
        value: "SECONDS",
        default: "300",
        help: "Ask silent clients' machines whether they are there this often; 0 is never",
        live: true,
        show: |config| config.tcp_keepalive.to_string(),
        set: |draft, text| number(text, 0..=32_767).map(|seconds| draft.config.tcp_keepalive = seconds as u32),
    },
    Key {
        section: "server",
        name: "client_query_buffer_limit",
        alias: None,
        value: "SIZE",
        default: "1gb",
        help: "Close a client with more than this of a command that is not whole",
        live: true,
        show: |config| Size(config.client_query_buffer_limit).to_string(),
        set: |draft, text| size(text, 1 << 20..=1 << 40).map(|bytes| draft.config.client_query_buffer_limit = bytes),
    },
    Key {
        section: "server",
        name: "client_output_buffer_limit",
        alias: None,
        value: "LIMITS",
        default: "normal 0 0 0 pubsub 32mb 8mb 60",
        help: "Close a client that leaves more than this unread: class, at once, for so many seconds",
        live: true,
        show: |config| config.output_limits.to_string(),
        set: |draft, text| {
            let limits = draft.config.output_limits.changed(text).ok_or(OUTPUT_LIMITS_ALLOWED)?;
            draft.config.output_limits = limits;
            Ok(())
        },
    },
    Key {
        section: "server",
        name: "slowlog_log_slower_than",
        alias: None,
        value: "MICROSECONDS",
        default: "10000",
        help: "Note commands that took at least this long in SLOWLOG; -1 is none",
        live: true,
        show: |config| config.slowlog_log_slower_than.map_or("-1".to_owned(), |micros| micros.to_string()),
        set: |draft, text| {
            let micros = if text == "-1" { None } else { Some(number(text, 0..=u64::MAX / 2_000)?) };
            draft.config.slowlog_log_slower_than = micros;
            Ok(())
        },
    },
    Key {
        section: "server",
        name: "slowlog_max_len",
        alias: None,
        value: "N",
        default: "128",
        help: "Commands that SLOWLOG remembers",
        live: true,
        show: |config| config.slowlog_max_len.to_string(),
        set: |draft, text| number(text, 0..=100_000).map(|len| draft.config.slowlog_max_len = len as usize),
    },
    Key {
        section: "server",
        name: "latency_monitor_threshold",
        alias: None,
        value: "MS",
        default: "0",
        help: "Note commands that took at least this long in LATENCY; 0 is none",
        live: true,
        show: |config| config.latency_monitor_threshold.to_string(),
        set: |draft, text| number(text, 0..=WEEK_MS).map(|ms| draft.config.latency_monitor_threshold = ms),
    },
    Key {
        section: "server",
        name: "cluster_enabled",
        alias: None,
        value: "no|emulated",
        default: "no",
        help: "Answer clients that know clusters as one of a single primary does",
        live: false,
        show: |config| if config.emulates_cluster { "emulated" } else { "no" }.to_owned(),
        set: |draft, text| match text {
            "no" | "emulated" => {
                draft.config.emulates_cluster = text == "emulated";
                Ok(())
            }
            _ => Err("no or emulated: there is no cluster to be a part of".into()),
        },
    },
    Key {
        section: "replication",
        name: "role",
        alias: None,
        value: "ROLE",
        default: "primary",
        help: "primary, replica or standalone",
        live: false,
        show: |config| config.role.to_string(),
        set: |draft, text| parsed(text, "primary, replica or standalone").map(|role| draft.config.role = role),
    },
    Key {
        section: "replication",
        name: "listen_port_base",
        alias: None,
        value: "PORT",
        default: "0",
        help: "Shard i listens for replicas on PORT + i; 0 is the client port + 10000",
        live: false,
        show: |config| config.listen_port_base.to_string(),
        set: |draft, text| {
            number(text, 0..=65_535).map(|base| draft.listen_port_base = (base > 0).then_some(base as u16))
        },
    },
    Key {
        section: "replication",
        name: "upstream",
        alias: None,
        value: "HOST:PORT",
        default: "",
        help: "Of a replica: its primary's replication port base",
        live: false,
        show: |config| shown(config.upstream.as_ref()),
        set: |draft, text| optional(text, "HOST:PORT").map(|upstream| draft.config.upstream = upstream),
    },
    Key {
        section: "replication",
        name: "masterauth",
        alias: None,
        value: "PASSWORD",
        default: "",
        help: "Of a replica: its primary's requirepass",
        live: true,
        show: |config| revealed(config.masterauth.as_ref()),
        set: |draft, text| password(text).map(|password| draft.config.masterauth = password),
    },
    Key {
        section: "replication",
        name: "upstream_shards",
        alias: None,
        value: "N",
        default: "0",
        help: "How many shards the upstream has; 0 is to ask it",
        live: false,
        show: |config| config.upstream_shards.map_or(0, ShardCount::get).to_string(),
        set: |draft, text| shard_count(text).map(|shards| draft.config.upstream_shards = shards),
    },
    Key {
        section: "replication",
        name: "replica_id",
        alias: None,
        value: "NAME",
        default: "",
        help: "Name under which the upstream remembers this replica; made once if empty",
        live: false,
        show: |config| shown(config.replica_id.as_ref()),
        set: |draft, text| word(text, REPLICA_ID_BYTES_MAX).map(|id| draft.config.replica_id = id),
    },
    Key {
        section: "replication",
        name: "replica_announce_ip",
        alias: None,
        value: "HOST",
        default: "",
        help: "Address that the upstream shows for this replica; empty is what it sees",
        live: true,
        show: |config| shown(config.replica_announce_ip.as_ref()),
        set: |draft, text| word(text, HOST_BYTES_MAX).map(|ip| draft.config.replica_announce_ip = ip),
    },
    Key {
        section: "replication",
        name: "replica_announce_port",
        alias: None,
        value: "PORT",
        default: "0",
        help: "Client port that the upstream shows for this replica; 0 is its own",
        live: true,
        show: |config| config.replica_announce_port.unwrap_or(0).to_string(),
        set: |draft, text| {
            number(text, 0..=65_535).map(|port| draft.config.replica_announce_port = (port > 0).then_some(port as u16))
        },
    },
    Key {
        section: "replication",
        name: "replica_priority",
        alias: None,
        value: "N",
        default: "100",
        help: "Preference of a failover tool: lower first, 0 never",
        live: true,
        show: |config| config.replica_priority.to_string(),
        set: |draft, text| number(text, 0..=i32::MAX as u64).map(|n| draft.config.replica_priority = n as u32),
    },
    Key {
        section: "replication",
        name: "replication_buffer_size",
        alias: None,
        value: "SIZE",
        default: "256mb",
        help: "Backlog of each shard, allocated as it is used",
        live: true,
        show: |config| Size(config.replication_buffer_size).to_string(),
        set: |draft, text| size(text, 1 << 10..=1 << 40).map(|bytes| draft.config.replication_buffer_size = bytes),
    },
    Key {
        section: "replication",
        name: "reconnect_window_ms",
        alias: None,
        value: "MS",
        default: "60000",
        help: "How long a replica that is gone is remembered",
        live: false,
        show: |config| config.reconnect_window_ms.to_string(),
        set: |draft, text| number(text, 0..=WEEK_MS).map(|ms| draft.config.reconnect_window_ms = ms),
    },
    Key {
        section: "replication",
        name: "link_timeout_ms",
        alias: None,
        value: "MS",
        default: "60000",
        help: "A link that is silent for this long is closed",
        live: true,
        show: |config| config.link_timeout_ms.to_string(),
        set: |draft, text| number(text, 100..=WEEK_MS).map(|ms| draft.config.link_timeout_ms = ms),
    },
    Key {
        section: "replication",
        name: "heartbeat_ms",
        alias: None,
        value: "MS",
        default: "1000",
        help: "How often a quiet link says that it lives",
        live: true,
        show: |config| config.heartbeat_ms.to_string(),
        set: |draft, text| number(text, 10..=WEEK_MS).map(|ms| draft.config.heartbeat_ms = ms),
    },
    Key {
        section: "replication",
        name: "replica_read_only",
        alias: None,
        value: "BOOL",
        default: "true",
        help: "A replica refuses clients' writes",
        live: true,
        show: |config| config.replica_read_only.to_string(),
        set: |draft, text| boolean(text).map(|yes| draft.config.replica_read_only = yes),
    },
    Key {
        section: "replication",
        name: "replication_checksum",
        alias: None,
        value: "BOOL",
        default: "true",
        help: "Prove what travels by its CRC32C before it is applied, where both ends do",
        live: false,
        show: |config| config.replication_checksum.to_string(),
        set: |draft, text| boolean(text).map(|yes| draft.config.replication_checksum = yes),
    },
    Key {
        section: "replication",
        name: "serve_stale",
        alias: None,
        value: "BOOL",
        default: "false",
        help: "Answer from the old copy of a slot while it is synced",
        live: true,
        show: |config| config.serve_stale.to_string(),
        set: |draft, text| boolean(text).map(|yes| draft.config.serve_stale = yes),
    },
    Key {
        section: "replication",
        name: "min_replicas_to_write",
        alias: None,
        value: "N",
        default: "0",
        help: "Refuse writes while fewer replicas are there; 0 is never",
        live: true,
        show: |config| config.min_replicas_to_write.to_string(),
        set: |draft, text| {
            number(text, 0..=REPLICA_SLOTS_MAX as u64).map(|n| draft.config.min_replicas_to_write = n as usize)
        },
    },
    Key {
        section: "replication",
        name: "min_replicas_max_lag_ms",
        alias: None,
        value: "MS",
        default: "10000",
        help: "A replica that acknowledged nothing for this long does not count for it",
        live: true,
        show: |config| config.min_replicas_max_lag_ms.to_string(),
        set: |draft, text| number(text, 1..=WEEK_MS).map(|ms| draft.config.min_replicas_max_lag_ms = ms),
    },
    Key {
        section: "replication",
        name: "replica_max_staleness_ms",
        alias: None,
        value: "MS",
        default: "0",
        help: "Refuse reads of what a silent link has not updated for this long; 0 is never",
        live: true,
        show: |config| config.replica_max_staleness_ms.to_string(),
        set: |draft, text| number(text, 0..=WEEK_MS).map(|ms| draft.config.replica_max_staleness_ms = ms),
    },
    Key {
        section: "replication",
        name: "accept_empty_primary",
        alias: None,
        value: "BOOL",
        default: "false",
        help: "Follow a primary that lost its data, and lose it too",
        live: true,
        show: |config| config.accept_empty_primary.to_string(),
        set: |draft, text| boolean(text).map(|yes| draft.config.accept_empty_primary = yes),
    },
    Key {
        section: "replication",
        name: "scrub_slots_per_second",
        alias: None,
        value: "N",
        default: "16",
        help: "Slots a second that a primary lets its replicas compare and repair; 0 is none",
        live: true,
        show: |config| config.scrub_slots_per_second.to_string(),
        set: |draft, text| number(text, 0..=1_000_000).map(|slots| draft.config.scrub_slots_per_second = slots as u32),
    },
    Key {
        section: "persistence",
        name: "save",
        alias: None,
        value: "RULE",
        default: "",
        help: "When to write a snapshot; only the empty string, never, for now",
        live: true,
        show: |_| String::new(),
        set: |_, text| match text {
            "" => Ok(()),
            _ => Err("empty: snapshots on disk are not supported yet".into()),
        },
    },
];

impl Key {
    /// Whether it is on or off, so that its flag may stand alone.
    pub(super) fn is_switch(&self) -> bool {
        self.value == "BOOL"
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Role, ()> {
        match text {
            "primary" => Ok(Role::Primary),
            "replica" => Ok(Role::Replica),
            "standalone" => Ok(Role::Standalone),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::Standalone => "standalone",
        })
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cpus::Auto => f.write_str("auto"),
            Cpus::Off => f.write_str("off"),
            Cpus::List(cpus) => f.write_str(&join(cpus)),
        }
    }
}

impl FromStr for Cpus {
    type Err = ();

    fn from_str(text: &str) -> Result<Cpus, ()> {
        match text {
            "auto" => return Ok(Cpus::Auto),
            "off" => return Ok(Cpus::Off),
            _ => {}
        }
        let mut list = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u16 = first.parse().map_err(drop)?;
            let last: u16 = last.parse().map_err(drop)?;
            for cpu in usize::from(first)..=usize::from(last) {
                if list.contains(&cpu) {
                    return Err(());
                }
                list.push(cpu);
            }
            if last < first || list.len() > SHARDS_MAX {
                return Err(());
            }
        }
        Ok(Cpus::List(list))
    }
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<HostPort, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let port: u16 = port.parse().map_err(drop)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if port == 0 || !is_word(host, HOST_BYTES_MAX) || (host.contains(':') && bare.is_none()) {
            return Err(());
        }
        Ok(HostPort { host: bare.unwrap_or(host).to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl ConfigError {
    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    fn line(&self) -> String {
        let mut line = match &self.origin {
            Some(Origin::File(name)) => format!("{name}: {}", self.key),
            Some(Origin::Flag) => format!("--{}", self.key.replace('_', "-")),
            None => self.key.clone(),
        };
        match (&self.origin, &self.value) {
            (Some(Origin::Flag), Some(value)) => line += &format!(" {:?}", value),
            (_, Some(value)) => line += &format!(" = {:?}", value),
            (_, None) => {}
        }
        format!("{line}: {}", self.allowed)
    }
}

fn number(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(format!("a whole number from {} to {}", allowed.start(), allowed.end())),
    }
}

fn size(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    match text.parse() {
        Ok(Size(bytes)) if allowed.contains(&bytes) => Ok(bytes),
        _ => Err(format!("a size from {} to {}, such as 64mb", Size(*allowed.start()), Size(*allowed.end()))),
    }
}

fn password(text: &str) -> Result<Option<Password>, String> {
    match Password::new(text.as_bytes()) {
        None if !text.is_empty() => Err(format!("at most {PASSWORD_BYTES_MAX} bytes")),
        password => Ok(password),
    }
}

/// A password in the clear, for whoever may see and write the configuration.
fn revealed(password: Option<&Password>) -> String {
    password.map_or_else(String::new, |password| String::from_utf8_lossy(password.reveal()).into_owned())
}

fn shown(value: Option<&impl fmt::Display>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err("true or false".into()),
    }
}

fn parsed<T: FromStr>(text: &str, allowed: &str) -> Result<T, String> {
    text.parse().map_err(|_| allowed.to_owned())
}

fn optional<T: FromStr>(text: &str, allowed: &str) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { parsed(text, allowed).map(Some) }
}

fn shard_count(text: &str) -> Result<Option<ShardCount>, String> {
    number(text, 0..=SHARDS_MAX as u64).map(|shards| ShardCount::new(shards as u16))
}

/// Text that can stand in a handshake line; `None` if it is empty.
fn word(text: &str, bytes_max: usize) -> Result<Option<String>, String> {
    match text {
        "" => Ok(None),
        _ if is_word(text, bytes_max) => Ok(Some(text.to_owned())),
        _ => Err(format!("at most {bytes_max} visible ASCII characters")),
    }
}

fn is_word(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

fn join(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn sections() -> String {
    let mut names: Vec<String> = KEYS.iter().map(|key| format!("[{}]", key.section)).collect();
    names.dedup();
    names.join(", ")
}

/// A value as one would write it on the command line.
fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

const OUTPUT_LIMITS_ALLOWED: &str =
    "classes (normal, pubsub, replica), each with a size, a smaller size or 0, and seconds: pubsub 32mb 8mb 60";
const CPUS_ALLOWED: &str = "auto, off, or a list of different CPUs such as 0,2-3";
const HOST_BYTES_MAX: usize = 255;
const WEEK_MS: u64 = 7 * 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Machine {
        Machine { cpus: vec![0, 1], parallelism: 2 }
    }

    fn file(text: &str) -> Result<Config, ConfigError> {
        Config::read(Some(("kevy.toml", text)), &[], &two())
    }

    fn flags(flags: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
        let flags: Vec<_> = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Config::read(None, &flags, &two())
    }

    #[test]
    fn the_default_of_every_key_is_what_the_table_says() {
        let expected = Config { shards: ShardCount::new(2).unwrap(), ..Config::default() };
        assert_eq!(flags(&[]).unwrap(), expected);
        for key in KEYS {
            assert_eq!(flags(&[(key.name, key.default)]).unwrap(), expected, "{}", key.name);
        }
    }

    #[test]
    fn what_a_key_shows_is_what_it_was_set_to() {
        let config = flags(&[]).unwrap();
        for key in KEYS {
            let shown = (key.show)(&config);
            let told: &[(&'static str, &str)] = &[(key.name, &shown), ("role", "primary")];
            let again = if key.name == "role" { flags(&told[..1]) } else { flags(told) };
            assert_eq!(again.unwrap(), config, "{} = {shown:?}", key.name);
        }
    }

    #[test]
    fn a_change_is_whole_or_none() {
        let config = flags(&[]).unwrap();
        let change = |pairs: &[(&'static str, &str)]| {
            config.changed(&pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect::<Vec<_>>())
        };
        let changed = change(&[("timeout", "7"), ("link_timeout_ms", "5000"), ("heartbeat_ms", "4000")]).unwrap();
        assert_eq!((changed.timeout, changed.link_timeout_ms, changed.heartbeat_ms), (7, 5_000, 4_000));
        assert_eq!(changed.shards, config.shards);
        for (pairs, line) in [
            (&[("timeout", "7"), ("port", "1")][..], "port = \"1\": cannot change while the node runs"),
            (&[("timeout", "x")], "timeout = \"x\": must be a whole number from 0 to 2147483647"),
            (&[("heartbeat_ms", "60000")], "heartbeat_ms = \"60000\": must be below link_timeout_ms, 60000"),
        ] {
            assert_eq!(change(pairs).unwrap_err().to_string(), line);
        }
    }

    #[test]
    fn the_manual_has_every_key() {
        let manual = include_str!("../../docs/operating.md");
        for key in KEYS {
            let default = if key.default.is_empty() { "\"\"" } else { key.default };
            let row = format!("| `{}` | `{default}` | {} |", key.name, key.help);
            assert!(manual.contains(&row), "docs/operating.md lacks this line: {row}");
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let text = "[server]\nport = 7000\nshards = 3\n[replication]\nreplication_buffer_size = \"64mb\"\n";
        let config = Config::read(Some(("kevy.toml", text)), &[("port", "7001".into())], &two()).unwrap();
        assert_eq!(config.port, 7001);
        assert_eq!(config.listen_port_base, 17_001);
        assert_eq!(config.shards.get(), 3);
        assert_eq!(config.replication_buffer_size, 64 << 20);
        assert_eq!(config.maxclients, 10_000);
    }

    #[test]
    fn values_may_be_written_in_every_usual_way() {
        let config = file(
            "[server]\nbind = \"::1\"\nthreads = 4\ncpus = \"0-1\"\n\
             [replication]\nrole = \"replica\"\nupstream = \"[::1]:16004\"\nreplica_read_only = false\n\
             replication_buffer_size = 1048576\naccept_empty_primary = \"yes\"\n[persistence]\nsave = \"\"\n",
        )
        .unwrap();
        assert_eq!(config.shards.get(), 4);
        assert_eq!(config.cpus, Cpus::List(vec![0, 1]));
        assert_eq!(config.upstream, Some(HostPort { host: "::1".into(), port: 16_004 }));
        assert_eq!(config.upstream.unwrap().to_string(), "[::1]:16004");
        assert_eq!(config.replication_buffer_size, 1 << 20);
        assert!(!config.replica_read_only && config.accept_empty_primary);
    }

    #[test]
    fn shards_follow_the_cpus_unless_told() {
        let shards = |pairs: &[(&'static str, &str)]| flags(pairs).unwrap().shards.get();
        assert_eq!(shards(&[]), 2);
        assert_eq!(shards(&[("cpus", "off")]), 2);
        assert_eq!(shards(&[("cpus", "1")]), 1);
        assert_eq!(shards(&[("cpus", "1"), ("shards", "5")]), 5);
        let quota = Machine { cpus: vec![0, 1, 2, 3], parallelism: 1 };
        assert_eq!(Config::read(None, &[], &quota).unwrap().shards.get(), 1);
        assert!(Config::read(None, &[("cpus", "3".into())], &quota).is_ok());
    }

    #[test]
    fn a_standalone_node_needs_no_replication_ports() {
        assert!(flags(&[("port", "60000")]).is_err());
        assert!(flags(&[("port", "60000"), ("role", "standalone")]).is_ok());
    }

    #[test]
    fn what_is_impossible_in_the_file_is_named_in_one_line() {
        for (text, line) in [
            ("[server]\nport = 0", "kevy.toml: port = \"0\": must be a whole number from 1 to 65535"),
            ("[server]\nport = 65536", "kevy.toml: port = \"65536\": must be a whole number from 1 to 65535"),
            ("[server]\nport = \"http\"", "kevy.toml: port = \"http\": must be a whole number from 1 to 65535"),
            ("[server]\nport = [1]", "kevy.toml: port = \"[1]\": must be a whole number from 1 to 65535"),
            ("[server]\nbind = \"nowhere\"", "kevy.toml: bind = \"nowhere\": must be an IP address"),
            ("[server]\nshards = 1025", "kevy.toml: shards = \"1025\": must be a whole number from 0 to 1024"),
            ("[server]\nshards = 1\nthreads = 1", "kevy.toml: threads = \"1\": is another name for shards, also given"),
            (
                "[server]\nmaxmemory = \"much\"",
                "kevy.toml: maxmemory = \"much\": must be a size from 0 to 1048576gb, such as 64mb",
            ),
            (
                "[server]\nmaxmemory_policy = \"lru\"",
                "kevy.toml: maxmemory_policy = \"lru\": must be noeviction, allkeys-lru, allkeys-lfu, allkeys-random, \
                 volatile-lru, volatile-lfu, volatile-random or volatile-ttl",
            ),
            ("[server]\ndir = \"/no/such\"", "kevy.toml: dir = \"/no/such\": must be a directory that exists"),
            (
                "[persistence]\nsave = \"60 1\"",
                "kevy.toml: save = \"60 1\": must be empty: snapshots on disk are not supported yet",
            ),
            ("[persistence]\nappendonly = true", "kevy.toml: appendonly = \"true\": unknown key; there are save"),
            (
                "[server]\nrole = \"primary\"",
                "kevy.toml: role = \"primary\": unknown key; there are bind, port, shards, cpus, dir, maxclients, \
                 requirepass, protected_mode, enable_debug_command, maxmemory, maxmemory_policy, maxmemory_samples, timeout, tcp_keepalive, \
                 client_query_buffer_limit, client_output_buffer_limit, slowlog_log_slower_than, slowlog_max_len, \
                 latency_monitor_threshold, cluster_enabled",
            ),
            ("port = 1", "kevy.toml: port = \"1\": a key must stand in one of [server], [replication], [persistence]"),
            ("[clutser]", "kevy.toml: [clutser]: unknown section; there are [server], [replication], [persistence]"),
            ("[server]\nport = 1\nport = 2", "kevy.toml: line 3: duplicate key"),
        ] {
            let error = file(text).expect_err(text).to_string();
            assert_eq!(error, line, "{text}");
        }
        for text in ["[server", "\u{0}", "[server]\nport ="] {
            let error = file(text).expect_err(text).to_string();
            assert!(error.starts_with("kevy.toml: line ") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn keys_whose_part_is_not_built_are_unknown() {
        for key in ["promote_gather_ms", "relay_buffer_size"] {
            let error = file(&format!("[replication]\n{key} = 1")).expect_err(key).to_string();
            assert!(error.starts_with(&format!("kevy.toml: {key} = \"1\": unknown key; there are role, ")), "{error}");
        }
    }

    #[test]
    fn what_is_impossible_as_a_flag_is_named_in_one_line() {
        for (pairs, line) in [
            (&[("port", "-1")][..], "--port \"-1\": must be a whole number from 1 to 65535"),
            (
                &[("replication_buffer_size", "12 parsecs")],
                "--replication-buffer-size \"12 parsecs\": must be a size from 1kb to 1024gb, such as 64mb",
            ),
            (
                &[("replication_buffer_size", "0")],
                "--replication-buffer-size \"0\": must be a size from 1kb to 1024gb, such as 64mb",
            ),
            (&[("cpus", "0,0")], "--cpus \"0,0\": must be auto, off, or a list of different CPUs such as 0,2-3"),
            (&[("cpus", "3-1")], "--cpus \"3-1\": must be auto, off, or a list of different CPUs such as 0,2-3"),
            (&[("cpus", "0-7")], "cpus = \"2\": this process may use the CPUs 0,1"),
            (&[("role", "master")], "--role \"master\": must be primary, replica or standalone"),
            (&[("role", "replica")], "upstream = \"\": a replica needs HOST:PORT, its primary's replication port"),
            (&[("upstream", "somewhere")], "--upstream \"somewhere\": must be HOST:PORT"),
            (&[("upstream", "::1:16004")], "--upstream \"::1:16004\": must be HOST:PORT"),
            (&[("upstream", "a b:1")], "--upstream \"a b:1\": must be HOST:PORT"),
            (&[("upstream", "a:0")], "--upstream \"a:0\": must be HOST:PORT"),
            (&[("replica_id", "a\r\nb")], "--replica-id \"a\\r\\nb\": must be at most 256 visible ASCII characters"),
            (&[("replica_read_only", "maybe")], "--replica-read-only \"maybe\": must be true or false"),
            (
                &[("heartbeat_ms", "1000"), ("link_timeout_ms", "500")],
                "heartbeat_ms = \"1000\": must be below link_timeout_ms, 500",
            ),
            (
                &[("min_replicas_to_write", "1"), ("min_replicas_max_lag_ms", "1000")],
                "min_replicas_max_lag_ms = \"1000\": must be above heartbeat_ms, 1000",
            ),
            (
                &[("replica_max_staleness_ms", "999")],
                "replica_max_staleness_ms = \"999\": must be above heartbeat_ms, 1000",
            ),
            (
                &[("min_replicas_to_write", "1"), ("role", "standalone")],
                "min_replicas_to_write = \"1\": must be 0: a standalone node has no replicas",
            ),
            (
                &[("port", "60000")],
                "listen_port_base = \"0 (port + 10000 = 70000)\": with 2 shards it must be at most 65533",
            ),
            (&[("listen_port_base", "65534")], "listen_port_base = \"65534\": with 2 shards it must be at most 65533"),
            (
                &[("port", "7001"), ("listen_port_base", "7000")],
                "port = \"7001\": must not be a replication port, 7000 to 7001",
            ),
        ] {
            let error = flags(pairs).expect_err(line).to_string();
            assert_eq!(error, line);
        }
        assert!(flags(&[("listen_port_base", "65533")]).is_ok());
    }
}
