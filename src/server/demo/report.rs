//! The numbers of one demonstration, and what is wrong with them.

use std::time::Duration;

use indicatif::HumanCount;
use serde::Serialize;

use super::equality::Equality;
use super::load::Loaded;
use super::screen::ms;

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

impl Resume {
    /// A full sync is a fault where the backlog held what was missed.
    pub fn is_fine(&self) -> bool {
        self.full_syncs == 0 || !self.window_held
    }

    /// How it went; `verb` is what a replica does that needs no sync.
    pub fn text(&self, verb: &str) -> String {
        let (syncs, frames) = (self.full_syncs, HumanCount(self.frames));
        let took = ms(Duration::from_secs_f64(self.took_ms / 1e3));
        match (syncs, self.window_held) {
            (0, _) => format!("{verb}, 0 full syncs, {frames} frames in {took}"),
            (_, true) => format!("{syncs} full syncs though the backlog held the {frames} frames; {took}"),
            (_, false) => format!("{syncs} full syncs, the backlog was too short for {frames} frames; {took}"),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_sync_is_red_where_the_window_held() {
        let load = Loaded { writes_per_second: 0, p50_us: 0, p99_us: 0, max_us: 0, samples: 0 };
        let resume = |full_syncs, window_held| Resume {
            frames: 41_002,
            took_ms: 31.4,
            full_syncs,
            window_held,
            dialled_after_ms: 0,
            load,
        };
        assert!(resume(0, true).is_fine() && resume(0, false).is_fine() && resume(2, false).is_fine());
        assert!(!resume(1, true).is_fine());
        assert_eq!(resume(0, true).text("resumed"), "resumed, 0 full syncs, 41,002 frames in 31 ms");
        assert_eq!(resume(1, true).text("resumed"), "1 full syncs though the backlog held the 41,002 frames; 31 ms");
    }
}
