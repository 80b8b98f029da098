//! How long one task keeps its shard to itself: on the clock, and in CPU time, which a machine with too few CPUs does not stretch.
//!
//! ```text
//! wall  ──┤ sample ├── turn ── turn ──┤ sample ├── turn, over a millisecond ──┤ sample
//! CPU       c0                          c1                                      c2: at most c2 − c1 of it was that turn's
//! ```
//!
//! The clock is looked at once before and once behind a turn, never for each command. CPU time costs a system call: it is sampled
//! twice a millisecond at most, so a long turn is said to have taken up to half a millisecond more of it than it did.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::watchdog::Progress;

/// Measures the turns of one shard, on its thread.
#[derive(Debug)]
pub(super) struct Stopwatch {
    /// When CPU time was looked at last, and what it was.
    sampled: Cell<(Instant, Duration)>,
}

/// How old a sample may be when a turn begins.
const SAMPLE_EVERY: Duration = Duration::from_micros(500);

/// A turn from which on its CPU time is of interest.
const LONG: Duration = Duration::from_millis(1);

impl Stopwatch {
    pub fn new() -> Stopwatch {
        Stopwatch { sampled: Cell::new((Instant::now(), cpu_time())) }
    }

    /// Runs one turn, and notes how long it took.
    #[inline]
    pub fn time<T>(&self, progress: &Progress, turn: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        if began.duration_since(self.sampled.get().0) >= SAMPLE_EVERY {
            self.sampled.set((began, cpu_time()));
        }
        let result = turn();
        let wall = began.elapsed();
        let cpu = if wall < LONG { wall } else { self.cpu_since_sample().min(wall) };
        progress.turn(wall, cpu);
        result
    }

    #[cold]
    fn cpu_since_sample(&self) -> Duration {
        let cpu = cpu_time();
        let (_, before) = self.sampled.replace((Instant::now(), cpu));
        cpu.saturating_sub(before)
    }
}

/// What this thread has had of a CPU.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_no_work_and_work_is_counted() {
        let (stopwatch, progress) = (Stopwatch::new(), Progress::default());
        stopwatch.time(&progress, || std::thread::sleep(Duration::from_millis(50)));
        let (wall, cpu) = (progress.longest_turn_us(), progress.longest_turn_cpu_us());
        assert!(wall >= 50_000 && cpu < wall / 2, "{wall} us, of which {cpu} on a CPU");
        progress.reset_turns();
        let until = cpu_time() + Duration::from_millis(20);
        stopwatch.time(&progress, || while cpu_time() < until {});
        assert!(progress.longest_turn_cpu_us() >= 20_000);
    }
}
