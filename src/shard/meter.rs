//! What commands cost on one shard: how often each was called and failed, how long they took, and which were slow. It counts; it
//! has no clock: who executes commands tells it the time.
//!
//! ```text
//! a run of commands on this shard, and when the clock is read:
//!   │ GET SET INCR │ LRANGE │ GET GET │
//!   t0             t1       t2        t3
//! ```
//!
//! Light commands (those that cost much the same whatever a value holds) are timed together, and each gets its share; every other is
//! timed by itself. So a run reads the clock twice, and a command for which reading it would be a cost never does. Where light
//! commands together were slow, the one with the most bytes of arguments is taken to be the cause.

use std::collections::{BTreeMap, VecDeque};

use crate::id::UnixMs;
use crate::store::command::Spec;
use crate::store::command::table;
use crate::wire::Argv;

/// What one shard knows about commands.
#[derive(Debug)]
pub struct Meter {
    /// By row of the table of commands.
    stats: Box<[Stats]>,
    /// How often each error was answered, by its code.
    errors: BTreeMap<Box<str>, u64>,
    /// The slow ones, the latest last.
    slow: VecDeque<Slow>,
    /// How many slow ones there ever were.
    slow_count: u64,
    /// What took long, by its kind.
    latencies: BTreeMap<&'static str, Latency>,
    limits: Limits,
}

/// From when on something is worth to be noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Nanoseconds from which on a command is slow.
    pub slow_nanos: u64,
    /// Slow commands that are remembered.
    pub slow_max: usize,
    /// Nanoseconds from which on a command is a latency.
    pub latency_nanos: u64,
}

/// One command's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Times that it was executed.
    pub calls: u64,
    /// Those of them that were answered with an error.
    pub failed: u64,
    /// Times that it was refused before it was executed.
    pub rejected: u64,
    /// Time of all calls.
    pub nanos: u64,
    /// Calls by the logarithm of their microseconds: number 0 took less than one, number n less than 2ⁿ.
    pub buckets: [u32; BUCKETS],
}

/// Buckets of a histogram; the last one, from a bit over half an hour on, holds the rest.
pub const BUCKETS: usize = 32;

/// A slow command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slow {
    /// Its number on this shard.
    pub number: u64,
    /// When it was done.
    pub at: UnixMs,
    /// How long it took.
    pub micros: u64,
    /// Its first arguments, each as far as it is short.
    pub args: Vec<Vec<u8>>,
    /// Where the client is, where this shard knows it.
    pub client: Option<(String, Vec<u8>)>,
}

/// What took long.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Latency {
    /// The longest time since the last reset, in milliseconds.
    pub max_ms: u64,
    /// By second, the longest time in it; the latest last.
    pub samples: VecDeque<(u64, u64)>,
}

/// Commands that are being timed together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lap {
    /// The first of them, by its number in the run.
    first: usize,
    /// When it began.
    begun: u64,
    /// Whether the latest of the run is light.
    was_light: bool,
}

impl Lap {
    /// A run begins at `nanos`, or goes on, with command number `first`.
    #[inline]
    pub fn begin(first: usize, nanos: u64) -> Lap {
        Lap { first, begun: nanos, was_light: false }
    }

    /// Whether the clock is to be read before command number `at` of the run is executed: it is timed by itself.
    #[inline]
    pub fn is_due(&mut self, at: usize, next: &Spec) -> bool {
        let was_light = std::mem::replace(&mut self.was_light, next.is_light());
        at > self.first && !(self.was_light && was_light)
    }
}

impl Meter {
    /// Nothing was counted yet.
    pub fn new() -> Meter {
        Meter {
            stats: vec![Stats::default(); table::rows()].into(),
            errors: BTreeMap::new(),
            slow: VecDeque::new(),
            slow_count: 0,
            latencies: BTreeMap::new(),
            limits: Limits { slow_nanos: u64::MAX, slow_max: 0, latency_nanos: u64::MAX },
        }
    }

    /// Changes what is worth to be noted.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.forget_slow();
    }

    /// A command was executed, and this is the beginning of its reply.
    #[inline]
    pub fn executed(&mut self, spec: &Spec, reply: &[u8]) {
        let stats = &mut self.stats[spec.row()];
        stats.calls += 1;
        if reply.first() == Some(&b'-') {
            stats.failed += 1;
            self.error(reply);
        }
    }

    /// A command was refused before it was executed; `None`: there is none of that name.
    #[cold]
    pub fn rejected(&mut self, spec: Option<&Spec>, reply: &[u8]) {
        if let Some(spec) = spec {
            self.stats[spec.row()].rejected += 1;
        }
        self.error(reply);
    }

    #[cold]
    fn error(&mut self, reply: &[u8]) {
        let code = reply[1..].split(|byte| !byte.is_ascii_uppercase()).next().unwrap_or_default();
        let code = if code.is_empty() { "ERR" } else { std::str::from_utf8(code).unwrap_or("ERR") };
        if let Some(count) = self.errors.get_mut(code) {
            *count += 1;
        } else if self.errors.len() < ERROR_CODES_MAX {
            // The codes that there are can be counted; those that DEBUG ERROR makes up cannot.
            self.errors.insert(code.into(), 1);
        }
    }

    /// The commands of the run from where `lap` began to `end` are done, at `nanos`; a new lap begins. `command` has each by its number.
    #[inline]
    pub fn lap<'a>(
        &mut self,
        lap: &mut Lap,
        end: usize,
        nanos: u64,
        now: UnixMs,
        command: impl Fn(usize) -> (&'static Spec, Argv<'a>),
    ) {
        let count = end - lap.first;
        if count == 0 {
            return;
        }
        let taken = nanos.saturating_sub(lap.begun);
        let each = taken / count as u64;
        for at in lap.first..end {
            self.took(command(at).0, each);
        }
        if self.is_worth_noting(taken) {
            let heaviest = (lap.first..end).max_by_key(|at| command(*at).1.iter().map(<[u8]>::len).sum::<usize>());
            let (spec, argv) = command(heaviest.unwrap_or(lap.first));
            self.note(spec, argv, taken, now, None);
        }
        (lap.first, lap.begun) = (end, nanos);
    }

    /// A call of `spec` took so long.
    #[inline]
    pub fn took(&mut self, spec: &Spec, nanos: u64) {
        let stats = &mut self.stats[spec.row()];
        stats.nanos = stats.nanos.saturating_add(nanos);
        let bucket = (u64::BITS - (nanos / 1_000).leading_zeros()) as usize;
        stats.buckets[bucket.min(BUCKETS - 1)] += 1;
    }

    /// Whether so long is long.
    #[inline]
    pub fn is_worth_noting(&self, nanos: u64) -> bool {
        nanos >= self.limits.slow_nanos.min(self.limits.latency_nanos)
    }

    /// A command took so long; notes it where that is long.
    pub fn note(&mut self, spec: &Spec, argv: Argv<'_>, nanos: u64, now: UnixMs, client: Option<(String, Vec<u8>)>) {
        if nanos >= self.limits.slow_nanos {
            let args = shortened(argv);
            self.slow.push_back(Slow { number: self.slow_count, at: now, micros: nanos / 1_000, args, client });
            self.slow_count += 1;
            self.forget_slow();
        }
        if nanos >= self.limits.latency_nanos {
            let kind = if spec.is_light() { "fast-command" } else { "command" };
            self.latencies.entry(kind).or_default().add(now.get() / 1_000, nanos / 1_000_000);
        }
    }

    fn forget_slow(&mut self) {
        while self.slow.len() > self.limits.slow_max {
            self.slow.pop_front();
        }
    }

    /// Every command that was called or refused, with its numbers.
    pub fn stats(&self) -> impl Iterator<Item = (&'static Spec, &Stats)> {
        table::all_named().zip(&self.stats).filter(|(_, stats)| stats.calls + stats.rejected > 0)
    }

    /// How often each error was answered, by its code.
    pub fn errors(&self) -> &BTreeMap<Box<str>, u64> {
        &self.errors
    }

    /// The slow commands, the latest last.
    pub fn slow(&self) -> &VecDeque<Slow> {
        &self.slow
    }

    /// What took long, by its kind.
    pub fn latencies(&self) -> &BTreeMap<&'static str, Latency> {
        &self.latencies
    }

    /// Forgets the slow commands.
    pub fn reset_slow(&mut self) {
        self.slow.clear();
    }

    /// Forgets what took long, of these kinds or of all; returns how many there were.
    pub fn reset_latencies(&mut self, kinds: Option<&[Vec<u8>]>) -> usize {
        let before = self.latencies.len();
        let goes = |name: &str| kinds.is_none_or(|kinds| kinds.iter().any(|kind| kind == name.as_bytes()));
        self.latencies.retain(|name, _| !goes(name));
        before - self.latencies.len()
    }

    /// Begins counting anew.
    pub fn reset_stats(&mut self) {
        self.stats.fill(Stats::default());
        self.errors.clear();
    }
}

impl Default for Meter {
    fn default() -> Meter {
        Meter::new()
    }
}

impl Stats {
    /// These and those of another shard.
    pub fn add(&mut self, other: &Stats) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.rejected += other.rejected;
        self.nanos = self.nanos.saturating_add(other.nanos);
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, count)| *sum = sum.saturating_add(count));
    }

    /// Microseconds that this share of the calls, in thousandths, stayed below, to the next power of two; `None`: nothing was timed.
    pub fn percentile(&self, per_mille: u64) -> Option<u64> {
        let all: u64 = self.buckets.iter().map(|count| u64::from(*count)).sum();
        let wanted = (all * per_mille).div_ceil(1_000).max(1);
        let mut seen = 0;
        let mut reached = |count: &u32| {
            seen += u64::from(*count);
            seen >= wanted
        };
        self.buckets.iter().position(&mut reached).map(|bucket| 1 << bucket)
    }
}

impl Latency {
    fn add(&mut self, second: u64, ms: u64) {
        self.max_ms = self.max_ms.max(ms);
        match self.samples.back_mut() {
            Some((last, most)) if *last == second => *most = (*most).max(ms),
            _ => self.samples.push_back((second, ms)),
        }
        if self.samples.len() > LATENCY_SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// These samples and those of another shard.
    pub fn merge(&mut self, other: &Latency) {
        self.max_ms = self.max_ms.max(other.max_ms);
        let mut by_second: BTreeMap<u64, u64> = BTreeMap::new();
        for (second, ms) in self.samples.iter().chain(&other.samples) {
            let most = by_second.entry(*second).or_default();
            *most = (*most).max(*ms);
        }
        let skipped = by_second.len().saturating_sub(LATENCY_SAMPLES_MAX);
        self.samples = by_second.into_iter().skip(skipped).collect();
    }
}

/// Arguments as the slow log shows them.
fn shortened(argv: Argv<'_>) -> Vec<Vec<u8>> {
    let shown = if argv.len() > SLOW_ARGS_MAX { SLOW_ARGS_MAX - 1 } else { argv.len() };
    let short = |arg: &[u8]| match arg.len().checked_sub(SLOW_ARG_BYTES_MAX) {
        None | Some(0) => arg.to_vec(),
        Some(more) => [&arg[..SLOW_ARG_BYTES_MAX], format!("... ({more} more bytes)").as_bytes()].concat(),
    };
    let mut args: Vec<Vec<u8>> = argv.iter().take(shown).map(short).collect();
    if shown < argv.len() {
        args.push(format!("... ({} more arguments)", argv.len() - shown).into_bytes());
    }
    args
}

/// Arguments of a slow command that are kept.
const SLOW_ARGS_MAX: usize = 32;
/// Bytes of each of them that are kept.
const SLOW_ARG_BYTES_MAX: usize = 128;
/// Seconds of which a latency is kept.
const LATENCY_SAMPLES_MAX: usize = 160;
/// Codes of errors that are counted.
const ERROR_CODES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode_multibulk;
    use crate::store::command::find;
    use crate::wire::Command;

    fn limits(slow_nanos: u64, latency_nanos: u64) -> Limits {
        Limits { slow_nanos, slow_max: 2, latency_nanos }
    }

    fn note(meter: &mut Meter, command: &str, nanos: u64, second: u64) {
        let encoded = Command::new(&command.split(' ').collect::<Vec<_>>());
        let mut ranges = Vec::new();
        decode_multibulk(encoded.as_bytes(), &mut ranges).unwrap();
        let argv = Argv::new(encoded.as_bytes(), &ranges);
        meter.note(find(argv.arg(0)).unwrap(), argv, nanos, UnixMs::new(second * 1_000), None);
    }

    #[test]
    fn light_commands_are_timed_together_and_others_by_themselves() {
        let run: Vec<&'static Spec> = ["get", "set", "lrange", "smembers", "get", "incr"]
            .iter()
            .map(|name| find(name.as_bytes()).unwrap())
            .collect();
        let mut meter = Meter::new();
        let mut lap = Lap::begin(0, 0);
        let mut reads = 0;
        let command = |at: usize| (run[at], Argv::new(&[], &[]));
        for (at, spec) in run.iter().enumerate() {
            if lap.is_due(at, spec) {
                reads += 1;
                meter.lap(&mut lap, at, at as u64 * 1_000, UnixMs::new(0), command);
            }
            meter.executed(spec, b"+OK");
        }
        meter.lap(&mut lap, run.len(), 8_000, UnixMs::new(0), command);
        assert_eq!(reads, 3, "behind SET, LRANGE and SMEMBERS");
        let nanos = |name: &str| meter.stats[find(name.as_bytes()).unwrap().row()].nanos;
        assert_eq!([nanos("set"), nanos("lrange"), nanos("smembers"), nanos("incr")], [1_000, 1_000, 1_000, 2_000]);
        assert_eq!(nanos("get"), 3_000);
        assert_eq!(meter.stats().map(|(_, stats)| stats.calls).sum::<u64>(), 6);
    }

    #[test]
    fn slow_commands_are_noted_and_shortened() {
        let mut meter = Meter::new();
        meter.set_limits(limits(10_000, u64::MAX));
        note(&mut meter, "GET quick", 9_999, 1);
        let large = format!("SET k {}", "v".repeat(200));
        note(&mut meter, &large, 10_000, 2);
        note(&mut meter, &format!("DEL{}", " k".repeat(40)), 20_000, 3);
        let shown: Vec<_> = meter.slow().iter().map(|slow| (slow.number, slow.micros, slow.args.len())).collect();
        assert_eq!(shown, [(0, 10, 3), (1, 20, 32)]);
        assert_eq!(meter.slow()[0].args[2].len(), 128 + "... (72 more bytes)".len());
        assert_eq!(meter.slow()[1].args[31], b"... (10 more arguments)");
        note(&mut meter, "GET k", 10_000, 4);
        assert_eq!(meter.slow().iter().map(|slow| slow.number).collect::<Vec<_>>(), [1, 2], "two are remembered");
        meter.set_limits(Limits { slow_max: 0, ..limits(10_000, u64::MAX) });
        assert!(meter.slow().is_empty());
    }

    #[test]
    fn what_took_long_is_kept_by_the_second() {
        let mut meter = Meter::new();
        meter.set_limits(limits(u64::MAX, 1_000_000));
        for (ms, second) in [(3, 10), (5, 10), (2, 11)] {
            note(&mut meter, "KEYS *", ms * 1_000_000, second);
            note(&mut meter, "GET k", ms * 1_000_000, second);
        }
        assert_eq!(meter.latencies().keys().copied().collect::<Vec<_>>(), ["command", "fast-command"]);
        assert_eq!(meter.latencies()["command"].samples, [(10, 5), (11, 2)]);
        let mut merged = meter.latencies()["command"].clone();
        merged.merge(&Latency { max_ms: 9, samples: [(9, 9), (11, 4)].into() });
        assert_eq!((merged.max_ms, merged.samples), (9, [(9, 9), (10, 5), (11, 4)].into()));
        assert_eq!(meter.reset_latencies(Some(&[b"command".to_vec(), b"nosuch".to_vec()])), 1);
        assert_eq!(meter.reset_latencies(None), 1);
    }

    #[test]
    fn calls_fall_into_powers_of_two() {
        let get = find(b"get").unwrap();
        let mut meter = Meter::new();
        assert_eq!(meter.stats[get.row()].percentile(500), None);
        for micros in [0, 1, 1, 3, 1_000_000] {
            meter.took(get, micros * 1_000);
        }
        let stats = meter.stats[get.row()];
        assert_eq!(&stats.buckets[..4], &[1, 2, 1, 0]);
        assert_eq!([200, 500, 800, 1_000].map(|share| stats.percentile(share)), [1, 2, 4, 1 << 20].map(Some));
        meter.took(get, u64::MAX);
    }

    #[test]
    fn errors_are_counted_by_their_code() {
        let get = find(b"get").unwrap();
        let mut meter = Meter::new();
        meter.executed(get, b"-WRONGTYPE Operation against a key");
        meter.executed(get, b"$1\r\nv\r\n");
        meter.rejected(Some(get), b"-ERR wrong number of arguments");
        meter.rejected(None, b"-ERR unknown command");
        let shown: Vec<_> = meter.errors().iter().map(|(code, count)| (&**code, *count)).collect();
        assert_eq!(shown, [("ERR", 2), ("WRONGTYPE", 1)]);
        let stats = meter.stats[get.row()];
        assert_eq!((stats.calls, stats.failed, stats.rejected), (2, 1, 1));
        meter.reset_stats();
        assert_eq!((meter.stats().count(), meter.errors().len()), (0, 0));
    }
}
