//! One ordinary thread that watches all executors: glommio can park one that has work to run, and any of them can be
//! kept busy by a loop that makes no pass. Such a shard says so in the log and is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::id::{Moment, ShardId};
use crate::limits::{STALL_MS, WATCH_MS};

/// What one executor shows of its health. Its ticker writes, anyone reads.
#[derive(Debug, Default)]
pub struct Progress {
    ticks: AtomicU64,
    /// Microseconds of [`Moment`], 0 before the first tick.
    last_tick: AtomicU64,
    longest_gap_us: AtomicU64,
    longest_turn_us: AtomicU64,
    longest_turn_cpu_us: AtomicU64,
    stalls: AtomicU64,
    ended: AtomicBool,
}

impl Progress {
    /// Ticks so far, one every 10 ms on an idle executor.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// The longest time between two ticks, in microseconds: 10,000 on an idle executor, and never less than its
    /// longest turn.
    pub fn longest_gap_us(&self) -> u64 {
        self.longest_gap_us.load(Ordering::Relaxed)
    }

    /// The longest time that one task kept the shard to itself, in microseconds, since the beginning or the last
    /// [`reset_turns`](Self::reset_turns). Where the machine has more to do than CPUs, that includes waiting for one.
    pub fn longest_turn_us(&self) -> u64 {
        self.longest_turn_us.load(Ordering::Relaxed)
    }

    /// Forgets the longest turn.
    pub fn reset_turns(&self) {
        self.longest_turn_us.store(0, Ordering::Relaxed);
        self.longest_turn_cpu_us.store(0, Ordering::Relaxed);
    }

    /// As [`longest_turn_us`](Self::longest_turn_us), of the time that the task had a CPU: what it did, not what it waited for.
    pub fn longest_turn_cpu_us(&self) -> u64 {
        self.longest_turn_cpu_us.load(Ordering::Relaxed)
    }

    /// A task of the executor has run for this long.
    #[inline]
    pub(super) fn turn(&self, wall: Duration, cpu: Duration) {
        for (longest, time) in [(&self.longest_turn_us, wall), (&self.longest_turn_cpu_us, cpu)] {
            let micros = time.as_micros() as u64;
            // Hardly ever the longest: no more than a load.
            if micros > longest.load(Ordering::Relaxed) {
                longest.fetch_max(micros, Ordering::Relaxed);
            }
        }
    }

    /// How often it made no progress for a second or more.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Only the executor's own ticker calls this.
    pub(super) fn tick(&self, now: Moment) {
        let last = self.last_tick.swap(now.micros(), Ordering::Relaxed);
        if last != 0 {
            self.longest_gap_us.fetch_max(now.micros().saturating_sub(last), Ordering::Relaxed);
        }
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// The executor has come to its end: standing still is no stall any more.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// The health of all executors, in the order of their shards.
pub type Health = Arc<[Progress]>;

/// The thread. Ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    pub(super) fn start(health: Health) -> std::io::Result<Watchdog> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("kevy-watchdog".into()).spawn(move || {
            let mut watch = Watch::new(health, Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(WATCH_MS));
                watch.look(Instant::now());
            }
        })?;
        Ok(Watchdog { stop, thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// What the watchdog remembers between two looks.
struct Watch {
    health: Health,
    looked: Instant,
    seen: Vec<Seen>,
}

struct Seen {
    ticks: u64,
    /// When `ticks` was first seen.
    since: Instant,
    stalled: bool,
}

impl Watch {
    fn new(health: Health, now: Instant) -> Watch {
        let seen = health.iter().map(|p| Seen { ticks: p.ticks(), since: now, stalled: false }).collect();
        Watch { health, looked: now, seen }
    }

    fn look(&mut self, now: Instant) {
        // Where the watchdog itself did not run, the whole process was stopped or starved: that is no shard's stall.
        let blind = now.duration_since(self.looked) > Duration::from_millis(2 * WATCH_MS);
        self.looked = now;
        for (i, (progress, seen)) in self.health.iter().zip(&mut self.seen).enumerate() {
            let (shard, ticks) = (ShardId::new(i as u16), progress.ticks());
            if ticks != seen.ticks || blind || progress.ended.load(Ordering::Relaxed) {
                if seen.stalled && !blind {
                    let ms = now.duration_since(seen.since).as_millis() as u64;
                    tracing::info!(%shard, ms, "the executor makes progress again");
                }
                *seen = Seen { ticks, since: now, stalled: seen.stalled && ticks == seen.ticks };
            } else if !seen.stalled && now.duration_since(seen.since) >= Duration::from_millis(STALL_MS) {
                seen.stalled = true;
                progress.stalls.fetch_add(1, Ordering::Relaxed);
                crate::warn_seldom!(%shard, "the executor has made no progress for a second");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_is_counted_once_and_a_stopped_process_not_at_all() {
        let health: Health = (0..2).map(|_| Progress::default()).collect();
        let mut now = Instant::now();
        let mut watch = Watch::new(Arc::clone(&health), now);
        let mut look = |ms: u64, moving: &[usize]| {
            now += Duration::from_millis(ms);
            for &i in moving {
                health[i].tick(Moment::from_micros(1));
            }
            watch.look(now);
            [health[0].stalls(), health[1].stalls()]
        };
        for _ in 0..3 {
            assert_eq!(look(250, &[0]), [0, 0]);
        }
        assert_eq!(look(250, &[0]), [0, 1], "a second has passed");
        assert_eq!(look(250, &[0]), [0, 1], "one stall, however long");
        assert_eq!(look(250, &[0, 1]), [0, 1]);
        assert_eq!(look(60_000, &[]), [0, 1], "nobody ran, the watchdog neither");
        for _ in 0..3 {
            look(250, &[]);
        }
        assert_eq!(look(250, &[]), [1, 2]);
    }
}
