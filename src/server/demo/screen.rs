//! What a person sees: one line for everything that is settled, the last one the verdict. On a terminal there are
//! colours, and below those lines a live view of what happens now; elsewhere the lines are all.
//!
//! ```text
//!   ✓ cut        0.33 ms    31,900   resumed, 0 full syncs, 31,112 frames in 23 ms      settled
//!   ⠹ frozen     the replica is stopped, clients go on writing                         ┐
//!     writes/s      31,877  ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇                                       │ live
//!     behind        48,112  ▁▁▁▁▁▁▁▁▂▃▄▅▆▇█                                            │
//!     memory       88.1 MB  ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇                                       ┘
//! ```

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::load::Loaded;
use super::monitor::Monitor;

/// Where the demonstration is told.
pub(super) struct Screen {
    colours: bool,
    live: Option<Live>,
}

/// How something ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    /// As it should.
    Green,
    /// As it must not.
    Red,
}

impl Mark {
    /// Green if `fine`.
    pub fn of(fine: bool) -> Mark {
        if fine { Mark::Green } else { Mark::Red }
    }
}

impl Screen {
    /// The standard output.
    pub fn new() -> Screen {
        let terminal = std::io::stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen { colours, live: terminal.then(Live::new) }
    }

    /// From now on the live view shows what `monitor` sees.
    pub fn watch(&mut self, monitor: Monitor) {
        let ink = if self.colours { CYAN } else { PLAIN };
        if let Some(live) = &mut self.live {
            live.watch(monitor, ink);
        }
    }

    /// A line of text.
    pub fn say(&self, text: &str) {
        match &self.live {
            // Without an output there is nobody to tell.
            Some(live) => drop(live.bars.println(text)),
            None => drop(writeln!(std::io::stdout(), "{text}")),
        }
    }

    /// A heading.
    pub fn title(&self, text: &str) {
        self.say(&self.paint(BOLD, text));
        self.say("");
    }

    /// Something that is there: its name, how to reach it, what it is.
    pub fn place(&self, name: &str, reach: &str, what: &str) {
        self.say(&format!("  {name:<9} {}   {}", self.paint(BOLD, reach), self.paint(DIM, what)));
    }

    /// The names of the columns of [`row`](Self::row).
    pub fn columns(&self) {
        self.say("");
        self.say(&self.paint(DIM, &format!("{:15}{:>10} {:>10}", "", "client p99", "writes/s")));
    }

    /// What happens now.
    pub fn now(&self, name: &str, what: &str) {
        if let Some(live) = &self.live {
            live.now.set_message(format!("{} {what}", self.paint(BOLD, &format!("{name:<9}"))));
        }
    }

    /// What was settled under a load.
    pub fn row(&self, mark: Mark, name: &str, loaded: &Loaded, text: &str) {
        let writes = match loaded.writes_per_second {
            0 => "-".to_owned(),
            writes => HumanCount(writes).to_string(),
        };
        let p99 = loaded.p99_us as f64 / 1e3;
        self.say(&format!("  {} {name:<9} {p99:>8.2} ms {writes:>10}   {text}", self.mark(mark)));
    }

    /// More about the row before.
    pub fn more(&self, text: &str) {
        self.say(&format!("{:39}{text}", ""));
    }

    /// What was settled otherwise.
    pub fn fact(&self, mark: Mark, name: &str, text: &str) {
        self.say(&format!("  {} {name:<9} {text}", self.mark(mark)));
    }

    /// The last line; ends the live view.
    pub fn verdict(mut self, mark: Mark, text: &str) {
        if let Some(mut live) = self.live.take() {
            live.end();
        }
        self.say("");
        let (ink, word) = match mark {
            Mark::Green => (GREEN, "green"),
            Mark::Red => (RED, "red"),
        };
        self.say(&format!("{} {text}", self.paint(ink, &format!("{word}:"))));
    }

    fn mark(&self, mark: Mark) -> String {
        match mark {
            Mark::Green => self.paint(GREEN, "✓"),
            Mark::Red => self.paint(RED, "✗"),
        }
    }

    fn paint(&self, ink: &str, text: &str) -> String {
        paint(if self.colours { ink } else { PLAIN }, text)
    }
}

fn paint(ink: &str, text: &str) -> String {
    if ink == PLAIN { text.to_owned() } else { format!("\x1b[{ink}m{text}\x1b[0m") }
}

/// The lines that change.
struct Live {
    bars: MultiProgress,
    now: ProgressBar,
    over: Arc<AtomicBool>,
    gauges: Option<JoinHandle<()>>,
}

impl Live {
    fn new() -> Live {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let now = bars.add(ProgressBar::new_spinner().with_style(style("  {spinner:.cyan} {msg}")));
        now.enable_steady_tick(FRAME);
        Live { bars, now, over: Arc::new(AtomicBool::new(false)), gauges: None }
    }

    fn watch(&mut self, monitor: Monitor, ink: &'static str) {
        let gauge = |name: &'static str| {
            let bar = ProgressBar::new_spinner().with_style(style("    {prefix:9.dim} {msg}"));
            self.bars.add(bar.with_prefix(name))
        };
        let bars = [gauge("writes/s"), gauge("behind"), gauge("memory")];
        let over = Arc::clone(&self.over);
        self.gauges = Some(thread::spawn(move || show(monitor, &bars, ink, &over)));
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(gauges) = self.gauges.take() {
            // Whether it ended well or not, it draws no more.
            let _ = gauges.join();
        }
        self.now.finish_and_clear();
        // What cannot be cleared was not drawn.
        let _ = self.bars.clear();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

/// Draws what the monitor sees until it is over, or the monitor sees nothing more.
fn show(mut monitor: Monitor, bars: &[ProgressBar; 3], ink: &str, over: &AtomicBool) {
    let mut histories: [VecDeque<u64>; 3] = Default::default();
    let mut before = Instant::now();
    let mut frames = None;
    while !over.load(Ordering::Relaxed) {
        let Ok(seen) = monitor.look() else { break };
        let seconds = before.elapsed().as_secs_f64().max(0.001);
        before = Instant::now();
        let rate = seen.frames.saturating_sub(frames.unwrap_or(seen.frames)) as f64 / seconds;
        frames = Some(seen.frames);
        let values = [rate as u64, seen.behind, seen.memory_bytes];
        for ((bar, history), value) in bars.iter().zip(&mut histories).zip(values) {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(value);
            let unit = bar.prefix();
            let text = if unit == "memory" { mib(value) } else { HumanCount(value).to_string() };
            bar.set_message(format!("{text:>11}   {}", paint(ink, &spark(history))));
        }
        thread::sleep(GLANCE);
    }
    bars.iter().for_each(ProgressBar::finish_and_clear);
}

/// Bytes as a person reads them.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A time as a person reads it.
pub(super) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{} ms", HumanCount(ms as u64)) }
}

/// A small picture of numbers over time: the highest is a full block.
fn spark(history: &VecDeque<u64>) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let top = history.iter().copied().max().unwrap_or(0).max(1);
    history.iter().map(|value| BLOCKS[(value.saturating_mul(7) / top) as usize]).collect()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

const PLAIN: &str = "";
const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "1;32";
const RED: &str = "1;31";
const CYAN: &str = "36";
const FRAME: Duration = Duration::from_millis(100);
const GLANCE: Duration = Duration::from_millis(150);
/// Numbers in a small picture.
const HISTORY: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spark_rises_with_its_numbers() {
        assert_eq!(spark(&VecDeque::from([0, 0])), "▁▁");
        assert_eq!(spark(&VecDeque::from([0, 1, 2, 3, 4, 5, 6, 7])), "▁▂▃▄▅▆▇█");
        assert_eq!(spark(&VecDeque::from([7_000, 7_000])), "██");
    }
}
