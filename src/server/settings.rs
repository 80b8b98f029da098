//! Settings that `CONFIG SET` changes while the node runs. Each shard has its own copy, so that looking at one costs nothing.

use super::config::Config;
use crate::handshake::Password;

/// What one shard does now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    /// The password of clients and replicas.
    pub requirepass: Option<Password>,
    /// The password of the upstream.
    pub masterauth: Option<Password>,
    /// How much may wait for a subscriber, or for one that monitors, to read it.
    pub pubsub_output: OutputLimit,
}

/// How much may wait for a client to read it. 0: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OutputLimit {
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

    /// Whether so many bytes are too many in the long run.
    pub fn is_over_soft(self, bytes: usize) -> bool {
        self.soft > 0 && bytes as u64 > self.soft
    }
}

impl Settings {
    /// What a node begins with.
    pub fn new(config: &Config) -> Settings {
        Settings {
            requirepass: config.requirepass.clone(),
            masterauth: config.masterauth.clone(),
            pubsub_output: OutputLimit { hard: 32 << 20, soft: 8 << 20, soft_seconds: 60 },
        }
    }
}
