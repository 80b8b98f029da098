//! What the thread that shows and the shards that work tell each other: which act is on, how far it is, and who has ended it.

use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::accounting::Cpu;
use crate::id::{ShardCount, ShardId};

/// What is being done; acts follow each other in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Act {
    /// Nothing yet.
    None = 0,
    /// Every key is written once.
    Fill = 1,
    /// Written as fast as it goes.
    Flat = 2,
    /// Written at a given rate.
    Paced = 3,
}

/// One scene's stage.
pub(super) struct Stage {
    /// What moments are counted from.
    pub epoch: Instant,
    act: AtomicU8,
    /// Shards that have ended the act.
    ended: AtomicU32,
    /// By shard of the primary: frames recorded so far.
    recorded: Vec<AtomicU64>,
    /// By shard: frames a second of the paced act.
    rates: Vec<AtomicU64>,
    /// The threads as the system numbers them: the primary's, then each replica's. 0 until it runs.
    threads: Vec<AtomicI32>,
    /// By shard: how the act went that it ended last.
    played: Vec<Written>,
}

/// How an act went on one shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Played {
    /// Frames that it recorded.
    pub frames: u64,
    /// Until the last replica had acknowledged them.
    pub took: Duration,
    /// The mean size of a frame in the backlog.
    pub frame_bytes: f64,
}

/// A [`Played`] that one thread writes before it says that it has ended, and another reads after that.
#[derive(Default)]
struct Written {
    frames: AtomicU64,
    nanos: AtomicU64,
    /// The bits of the float.
    frame_bytes: AtomicU64,
}

impl Written {
    fn write(&self, played: Played) {
        self.frames.store(played.frames, Ordering::Relaxed);
        self.nanos.store(played.took.as_nanos() as u64, Ordering::Relaxed);
        self.frame_bytes.store(played.frame_bytes.to_bits(), Ordering::Relaxed);
    }

    fn read(&self) -> Played {
        Played {
            frames: self.frames.load(Ordering::Relaxed),
            took: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
            frame_bytes: f64::from_bits(self.frame_bytes.load(Ordering::Relaxed)),
        }
    }
}

impl Played {
    /// Frames a second.
    pub fn rate(&self) -> f64 {
        self.frames as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

impl Stage {
    pub fn new(shards: ShardCount, threads: usize) -> Stage {
        let zeros = || shards.shards().map(|_| AtomicU64::new(0)).collect();
        Stage {
            epoch: Instant::now(),
            act: AtomicU8::new(Act::None as u8),
            ended: AtomicU32::new(0),
            recorded: zeros(),
            rates: zeros(),
            threads: (0..threads).map(|_| AtomicI32::new(0)).collect(),
            played: shards.shards().map(|_| Written::default()).collect(),
        }
    }

    /// Begins an act. The one before must be over.
    pub fn begin(&self, act: Act) {
        self.ended.store(0, Ordering::Relaxed);
        self.act.store(act as u8, Ordering::Release);
    }

    /// Whether `act` has begun.
    pub fn has_begun(&self, act: Act) -> bool {
        self.act.load(Ordering::Acquire) >= act as u8
    }

    /// A shard has ended its part of the act.
    pub fn end(&self, shard: ShardId, played: Played) {
        self.played[shard.index()].write(played);
        self.ended.fetch_add(1, Ordering::Release);
    }

    /// Whether all have.
    pub fn is_over(&self) -> bool {
        self.ended.load(Ordering::Acquire) as usize == self.recorded.len()
    }

    /// How the act that is over went, by shard.
    pub fn played(&self) -> Vec<Played> {
        self.played.iter().map(Written::read).collect()
    }

    /// Notes how many frames a shard has recorded.
    pub fn set_recorded(&self, shard: ShardId, frames: u64) {
        self.recorded[shard.index()].store(frames, Ordering::Relaxed);
    }

    /// Frames recorded by all shards so far.
    pub fn recorded(&self) -> u64 {
        self.recorded.iter().map(|frames| frames.load(Ordering::Relaxed)).sum()
    }

    /// Says how fast each shard is to write in the paced act.
    pub fn set_rates(&self, rates: &[f64]) {
        for (to, rate) in self.rates.iter().zip(rates) {
            to.store(*rate as u64, Ordering::Relaxed);
        }
    }

    /// Frames a second of a shard in the paced act.
    pub fn rate(&self, shard: ShardId) -> u64 {
        self.rates[shard.index()].load(Ordering::Relaxed)
    }

    /// The thread that calls this is number `index`.
    pub fn enter(&self, index: usize) {
        self.threads[index].store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Release);
    }

    /// What every thread has had of a CPU.
    pub fn cpu(&self) -> Vec<Cpu> {
        self.threads.iter().map(|thread| Cpu::of_thread(thread.load(Ordering::Acquire))).collect()
    }
}
