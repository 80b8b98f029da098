//! The numbers, as `--json` writes them.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::accounting::Cpu;
use super::machine::{Machine, Versions};
use super::options::{Load, Options};

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub machine: Machine,
    pub versions: Versions,
    pub work: Work,
    pub scenes: Vec<Scene>,
}

/// What was written.
#[derive(Debug, Serialize)]
pub(super) struct Work {
    pub keys: usize,
    #[serde(flatten)]
    pub load: Load,
    /// Of each act.
    pub seconds: f64,
    /// The part of the highest rate at which lag was measured.
    pub pace: f64,
}

/// One number of shards with one number of replicas.
#[derive(Debug, Serialize)]
pub(super) struct Scene {
    pub shards: u16,
    pub replicas: u16,
    /// Of all nodes.
    pub threads: usize,
    /// Whether each has a CPU to itself.
    pub pinned: bool,
    /// Whether there are more threads than CPUs: then the machine bounds the rate, and CPU is to be compared.
    pub crowded: bool,
    pub per_shard: Vec<Flat>,
    /// While written as fast as it went: mostly what the writer lets replicas be behind. `null` without replicas.
    pub lag_flat: Option<Lag>,
    pub paced: Paced,
}

/// A shard as fast as it went.
#[derive(Debug, Serialize)]
pub(super) struct Flat {
    pub frames: u64,
    /// Until every replica had acknowledged them.
    pub seconds: f64,
    pub frames_per_second: f64,
    /// To each replica; a megabyte is 1,000,000 bytes.
    pub megabytes_per_second: f64,
    pub primary: Side,
    /// The shard of the same number of each replica.
    pub replicas: Vec<Side>,
}

/// What a frame cost one thread.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Side {
    pub cpu_us_per_frame: f64,
    /// The kernel's part of it.
    pub system_share: f64,
}

/// At a share of the highest rate.
#[derive(Debug, Serialize)]
pub(super) struct Paced {
    /// By shard.
    pub frames_per_second_per_shard: Vec<f64>,
    /// `null` without replicas.
    pub lag: Option<Lag>,
}

/// From recorded to applied, of all shards and replicas together, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Lag {
    pub samples: u64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(options: &Options, machine: Machine) -> Report {
        let work =
            Work { keys: options.keys, load: options.load, seconds: options.time.as_secs_f64(), pace: options.share };
        Report { machine, versions: Versions::here(), work, scenes: Vec::new() }
    }
}

impl Scene {
    /// The mean over the shards of what `figure` takes from each.
    pub fn mean(&self, figure: impl Fn(&Flat) -> f64) -> f64 {
        self.per_shard.iter().map(figure).sum::<f64>() / self.per_shard.len().max(1) as f64
    }

    /// The mean cost of a frame on a replica; `None` without one.
    pub fn replica_cpu_us(&self) -> Option<f64> {
        let sides: Vec<f64> =
            self.per_shard.iter().flat_map(|shard| &shard.replicas).map(|side| side.cpu_us_per_frame).collect();
        (!sides.is_empty()).then(|| sides.iter().sum::<f64>() / sides.len() as f64)
    }
}

impl Side {
    pub fn new(used: Cpu, frames: u64) -> Side {
        Side {
            cpu_us_per_frame: used.all.as_secs_f64() * 1e6 / frames.max(1) as f64,
            system_share: used.system_share(),
        }
    }
}

impl Lag {
    /// `None` if there are no samples.
    pub fn of(nanos: &Histogram<u64>) -> Option<Lag> {
        let at = |quantile: f64| nanos.value_at_quantile(quantile) as f64 / 1e3;
        (!nanos.is_empty()).then(|| Lag {
            samples: nanos.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: nanos.max() as f64 / 1e3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_samples_are_no_lag() {
        let mut nanos = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        assert!(Lag::of(&nanos).is_none());
        (1..=100u64).for_each(|us| nanos.saturating_record(us * 1_000));
        let lag = Lag::of(&nanos).unwrap();
        assert_eq!((lag.samples, lag.p50_us.round(), lag.p99_us.round()), (100, 50.0, 99.0));
    }
}
