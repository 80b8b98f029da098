//! The settings of a node as one shard sees them now, and what `CONFIG SET` does to them.
//!
//! ```text
//! CONFIG SET ─▶ shard 0: the next configuration, checked as a whole ─▶ every shard: its copy is replaced, and what depends on it
//! ```
//!
//! Each shard has its own copy, so that looking at one costs nothing.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::config::{Config, ConfigError};
use super::node::Node;
use super::size::Size;
use crate::id::ShardId;
use crate::limits;
use crate::runtime::local::{Local, unix_now};
use crate::shard::Role;
use crate::shard::meter::Limits;

/// What one shard does now.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How often the settings have changed since the start.
    version: u64,
    config: Arc<Config>,
}

impl Deref for Settings {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

impl Settings {
    /// What a node begins with.
    pub fn new(config: &Config) -> Settings {
        Settings { version: 0, config: Arc::new(config.clone()) }
    }

    /// What of commands is worth to be noted.
    pub fn meter_limits(&self) -> Limits {
        Limits {
            slow_nanos: self.slowlog_log_slower_than.map_or(u64::MAX, |micros| micros * 1_000),
            slow_max: self.slowlog_max_len,
            latency_nanos: match self.latency_monitor_threshold {
                0 => u64::MAX,
                ms => ms * 1_000_000,
            },
        }
    }

    /// All of them.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

/// Changes settings on all shards, all of them or none.
///
/// # Errors
/// The first change that is not possible.
pub(super) async fn change(local: &Rc<Local>, changes: Vec<(&'static str, String)>) -> Result<(), ConfigError> {
    // One shard decides, so that two clients cannot undo each other's change.
    let decide = move |_: &Rc<Local>| {
        let node = Node::here();
        let mut settings = node.settings.borrow_mut();
        let next = settings.config.changed(&changes)?;
        *settings = Settings { version: settings.version + 1, config: Arc::new(next) };
        Ok(settings.clone())
    };
    let next = local.call(ShardId::new(0), decide).await?;
    local.call_all(move |local| settle(local, &next)).await;
    Ok(())
}

/// This shard does as `next` says, unless something later was said already.
fn settle(local: &Rc<Local>, next: &Settings) {
    let node = Node::here();
    if node.settings.borrow().version > next.version {
        return;
    }
    *node.settings.borrow_mut() = next.clone();
    let mut core = local.core();
    core.meter.set_limits(next.meter_limits());
    if core.memory_limit() != next.memory_limit() {
        core.set_memory_limit(next.memory_limit(), unix_now());
    }
    match &mut core.role {
        Role::Standalone => {}
        Role::Primary(source) => {
            source.set_password(next.requirepass.clone());
            source.set_backlog_bytes(next.replication_buffer_size as usize);
            source.set_scrub_slots_per_second(next.scrub_slots_per_second);
        }
        Role::Replica(following) => following.set_policy(node.policy()),
    }
    node.shared.gate.set_wanted(next.min_replicas_to_write);
    node.shared.freshness.set_max_staleness_ms(next.replica_max_staleness_ms);
}

/// How much may wait for a client to read it. 0: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputLimit {
    /// Bytes over which it goes at once.
    pub hard: u64,
    /// Bytes over which it goes if they stay for `soft_seconds`.
    pub soft: u64,
    /// See [`soft`](Self::soft).
    pub soft_seconds: u64,
}

impl OutputLimit {
    /// Whether so many bytes are too many at once.
    pub fn is_over_hard(self, bytes: usize) -> bool {
        self.hard > 0 && bytes as u64 > self.hard
    }

    /// Bytes of replies over which a pipeline hands them out: more would be memory for nothing, unless it is the limit itself that is to
    /// be found passed.
    pub fn gathered_max(self) -> usize {
        limits::REPLY_BYTES_KEPT.max(usize::try_from(self.hard.max(self.soft)).unwrap_or(usize::MAX))
    }

    /// Bytes over which it goes at once, if there is such a limit.
    pub fn most_at_once(self) -> Option<usize> {
        (self.hard > 0).then(|| usize::try_from(self.hard).unwrap_or(usize::MAX))
    }

    /// Whether so many bytes are too many in the long run.
    pub fn is_over_soft(self, bytes: usize) -> bool {
        self.soft > 0 && bytes as u64 > self.soft
    }
}

/// The limits of all classes of clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputLimits {
    /// Clients that ask and are answered.
    pub normal: OutputLimit,
    /// Clients that subscribe or monitor.
    pub pubsub: OutputLimit,
}

impl Default for OutputLimits {
    fn default() -> OutputLimits {
        OutputLimits {
            normal: OutputLimit { hard: 0, soft: 0, soft_seconds: 0 },
            pubsub: OutputLimit { hard: 32 << 20, soft: 8 << 20, soft_seconds: 60 },
        }
    }
}

impl OutputLimits {
    /// These limits with those of the classes that `text` names, four words each. `None`: it does not name limits. Those of replicas
    /// are taken and mean nothing: a link to one holds no buffer of its own.
    pub fn changed(self, text: &str) -> Option<OutputLimits> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut limits = self;
        if words.is_empty() {
            return None;
        }
        for class in words.chunks(4) {
            let [name, hard, soft, seconds] = class else { return None };
            let bytes = |text: &str| text.parse::<Size>().ok().map(|size| size.0);
            let limit = OutputLimit {
                hard: bytes(hard)?,
                soft: bytes(soft)?,
                soft_seconds: seconds.parse::<u32>().ok()?.into(),
            };
            match name.to_ascii_lowercase().as_str() {
                "normal" => limits.normal = limit,
                "pubsub" => limits.pubsub = limit,
                "replica" | "slave" => {}
                _ => return None,
            }
        }
        Some(limits)
    }

    /// As Redis shows them. A link to a replica holds no buffer of its own.
    pub fn in_bytes(self) -> String {
        let limit = |limit: OutputLimit| format!("{} {} {}", limit.hard, limit.soft, limit.soft_seconds);
        format!("normal {} slave 0 0 0 pubsub {}", limit(self.normal), limit(self.pubsub))
    }
}

impl fmt::Display for OutputLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = |limit: &OutputLimit| format!("{} {} {}", Size(limit.hard), Size(limit.soft), limit.soft_seconds);
        write!(f, "normal {} pubsub {}", limit(&self.normal), limit(&self.pubsub))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_changed_class_by_class() {
        let limits = OutputLimits::default();
        assert_eq!(limits.changed(&limits.to_string()), Some(limits));
        assert_eq!(limits.changed(&limits.in_bytes()), Some(limits));
        let changed = limits.changed("normal 1mb 512kb 10 slave 1 2 3").unwrap();
        assert_eq!(changed.normal, OutputLimit { hard: 1 << 20, soft: 512 << 10, soft_seconds: 10 });
        assert_eq!(changed.pubsub, limits.pubsub);
        for wrong in
            ["", "normal", "normal 1 2", "normal x 1 1", "nobody 1 1 1", "normal 1 1 1 pubsub", "normal 0 1 4294967296"]
        {
            assert_eq!(limits.changed(wrong), None, "{wrong:?}");
        }
    }
}
