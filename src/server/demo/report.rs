//! The numbers of one demonstration, and what is wrong with them.

use serde::Serialize;

use super::equality::Equality;
use super::load::Loaded;

/// What `--json` writes. What was not reached is `null`.
#[derive(Default, Debug, Serialize)]
pub(super) struct Report {
    /// Whether all was as it should be.
    pub green: bool,
    /// The last line.
    pub verdict: String,
    /// How long all of it took, in milliseconds.
    pub took_ms: u64,
    /// Whether a value on the replica was altered on purpose.
    pub spoiled: bool,
    pub primary_shards: u16,
    pub replica_shards: u16,
    /// Clients alone, nobody else writes, no replica.
    pub idle: Option<Loaded>,
    /// Under writes, no replica.
    pub writes: Option<Loaded>,
    pub attach: Option<Attach>,
    pub cut: Option<Resume>,
    pub frozen: Option<Frozen>,
    pub killed: Option<Attach>,
    pub equality: Option<Equality>,
    pub cpu: Option<Cpu>,
    /// What is red, a line each.
    pub complaints: Vec<String>,
}

/// A replica that came with nothing was synced.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Attach {
    /// Until every stream was past its sync, in milliseconds: from its first connection, or from its start.
    pub took_ms: u64,
    /// Keys that it held then.
    pub keys: u64,
    pub load: Loaded,
}

/// A replica that fell behind went on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Resume {
    /// Frames that it had missed.
    pub frames: u64,
    /// How long it took to catch up, in milliseconds.
    pub took_ms: f64,
    /// Streams that were synced anew.
    pub full_syncs: u64,
    /// Whether every missed frame was still in the primary's backlog: then a full sync is a fault.
    pub window_held: bool,
    /// From the healing of the link until the replica dialled, in milliseconds; 0 where the link was never cut.
    pub dialled_after_ms: u64,
    pub load: Loaded,
}

/// A replica that was stopped, and then went on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Frozen {
    /// The primary's resident memory before, in bytes.
    pub memory_before_bytes: u64,
    /// The same when the replica had been stopped for a while.
    pub memory_bytes: u64,
    #[serde(flatten)]
    pub resume: Resume,
}

/// Processor time, from the system's accounting.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Cpu {
    /// Writes over which it was measured.
    pub writes: u64,
    pub primary_us_per_write: f64,
    pub replica_us_per_write: f64,
}
