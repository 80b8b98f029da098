//! What a thread has had of a CPU, as the system accounts for it.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// CPU time of one thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cpu {
    /// In user mode and in the kernel.
    pub all: Duration,
    /// In ticks of the accounting, a hundredth of a second: in user mode.
    pub user_ticks: u64,
    /// In the kernel.
    pub system_ticks: u64,
}

impl Cpu {
    /// A thread of this process. Zero for one that is not there.
    pub fn of_thread(thread: i32) -> Cpu {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/task/{thread}/{file}")).unwrap_or_default();
        parse(&read("schedstat"), &read("stat"))
    }

    /// The kernel's part of it, as far as ticks say.
    pub fn system_share(self) -> f64 {
        let ticks = self.user_ticks + self.system_ticks;
        if ticks == 0 { 0.0 } else { self.system_ticks as f64 / ticks as f64 }
    }
}

/// Kernels without scheduler statistics have the ticks alone.
fn parse(schedstat: &str, stat: &str) -> Cpu {
    // The name of the thread stands in parentheses and may have blanks.
    let numbers = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n: usize| numbers.split_whitespace().nth(n).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (user_ticks, system_ticks) = (field(11), field(12));
    let all = match schedstat.split_whitespace().next().and_then(|text| text.parse().ok()) {
        Some(nanos) => Duration::from_nanos(nanos),
        None => Duration::from_millis((user_ticks + system_ticks) * MS_PER_TICK),
    };
    Cpu { all, user_ticks, system_ticks }
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, before: Cpu) -> Cpu {
        Cpu {
            all: self.all.saturating_sub(before.all),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
        }
    }
}

/// What Linux shows to user space is in hundredths of a second, whatever the kernel's own tick.
const MS_PER_TICK: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 31 9 0 0 20 0 1 0 5 6 7";

    #[test]
    fn both_files_are_read() {
        let cpu = parse("401000000 5 6\n", STAT);
        assert_eq!(cpu, Cpu { all: Duration::from_millis(401), user_ticks: 31, system_ticks: 9 });
        assert_eq!(cpu.system_share(), 0.225);
        assert_eq!(parse("", STAT).all, Duration::from_millis(400));
        assert_eq!(parse("", ""), Cpu::default());
    }

    #[test]
    fn work_is_counted() {
        let me = rustix::thread::gettid().as_raw_nonzero().get();
        let before = Cpu::of_thread(me);
        let mut last = before;
        while (last - before).all < Duration::from_millis(5) {
            last = Cpu::of_thread(me);
        }
        assert_eq!(Cpu::of_thread(-1), Cpu::default());
    }
}
