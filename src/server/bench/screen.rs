//! What a person sees: the machine, a table that grows by a line a scene, and below it, on a terminal, how far the scene is.
//!
//! ```text
//!   shards replicas │    frames/s      MB/s                  │ primary replica │    p50 ms    p99 ms    max ms
//!   ────────────────┼────────────────────────────────────────┼─────────────────┼──────────────────────────────
//!        1        0 │   2,103,442     235.1 ████████████████ │    0.41       · │         ·         ·         ·
//!   ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸──────  1 shard, 1 replica: as fast as it goes, 1,204,113 frames/s
//! ```

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::{Report, Scene};
use crate::id::ShardCount;
use crate::server::size::Size;

/// Where the benchmark is shown.
pub(super) struct Screen {
    colours: bool,
    live: Option<Live>,
    /// The highest rate of a shard so far: what bars are measured by.
    highest: f64,
    crowded: bool,
}

struct Live {
    bars: MultiProgress,
    all: ProgressBar,
    scene: ProgressBar,
    recorded: std::cell::Cell<(Duration, u64, u64)>,
}

impl Screen {
    /// The standard output, for so many scenes.
    pub fn new(scenes: usize) -> Screen {
        let terminal = std::io::stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let live = terminal.then(|| {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            let style = |template: &str| {
                let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                style.progress_chars("━╸─")
            };
            let scene = bars.add(ProgressBar::new(1_000).with_style(style("  {bar:30.cyan/black.bright} {msg}")));
            let all = ProgressBar::new(scenes as u64)
                .with_style(style("  {bar:30.green/black.bright} {pos} of {len} scenes, {elapsed}"));
            let all = bars.add(all);
            all.enable_steady_tick(Duration::from_millis(100));
            Live { bars, all, scene, recorded: Default::default() }
        });
        Screen { colours, live, highest: 0.0, crowded: false }
    }

    /// What is measured, and where.
    pub fn head(&self, report: &Report) {
        let (machine, versions, work) = (&report.machine, &report.versions, &report.work);
        self.say(&self.paint(BOLD, "kevy bench: what a frame costs the shards at both ends of its stream"));
        let unknown = || "?".to_owned();
        let memory =
            machine.memory_bytes.map_or_else(unknown, |bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)));
        let about = format!(
            "{}, {} {}, {memory}, Linux {}, governor {}; kevy {}, glommio {}",
            machine.cpu_model.clone().unwrap_or_else(unknown),
            machine.cpus,
            if machine.cpus == 1 { "CPU" } else { "CPUs" },
            machine.kernel.clone().unwrap_or_else(unknown),
            machine.governor.as_deref().unwrap_or("not told"),
            versions.kevy,
            versions.executors,
        );
        self.say(&self.paint(DIM, &format!("  {about}")));
        let load = &work.load;
        let what = format!(
            "SET of {} bytes over {} keys, {} a turn, backlog {}, {} s an act; lag at {:.0} % of the rate",
            load.value_bytes,
            HumanCount(work.keys as u64),
            load.turn_commands,
            Size(load.backlog_bytes as u64),
            work.seconds,
            work.pace * 100.0,
        );
        self.say(&self.paint(DIM, &format!("  {what}")));
        if !versions.optimised {
            self.say(
                &self.paint(YELLOW, "  this is a debug build: build with --release for figures that mean something"),
            );
        }
        self.say("");
        let bar = self.paint(DIM, "│");
        self.say(&format!(
            "  {:15} {bar} {:^38} {bar} {:^15} {bar} {:^29}",
            "", "as fast as it goes, a shard", "CPU µs a frame", "recorded → applied, ms"
        ));
        let cells = format!(
            "  {:>6} {:>8} │ {:>11} {:>9} {:16} │ {:>7} {:>7} │ {:>9} {:>9} {:>9}",
            "shards", "replicas", "frames/s", "MB/s", "", "primary", "replica", "p50", "p99", "max"
        );
        self.say(&self.paint(DIM, &cells));
        self.say(&self.paint(DIM, &format!("  {0:─<16}┼{0:─<40}┼{0:─<17}┼{0:─<30}", "")));
    }

    /// What happens now, where it has no length.
    pub fn now(&self, shards: ShardCount, replicas: u16, what: &str) {
        if let Some(live) = &self.live {
            live.scene.set_message(self.title(shards, replicas, what));
        }
    }

    /// How far an act is that has run for `elapsed`; `length` is how long it lasts, where that is known.
    pub fn progress(
        &self,
        shards: ShardCount,
        replicas: u16,
        what: &str,
        elapsed: Duration,
        length: Option<Duration>,
        recorded: u64,
    ) {
        let Some(live) = &self.live else { return };
        let part = length.map_or(0.0, |length| elapsed.as_secs_f64() / length.as_secs_f64().max(1e-3));
        live.scene.set_position((part.min(1.0) * 1e3) as u64);
        let (since, before, mut rate) = live.recorded.get();
        // Twice a second a number can be read.
        if elapsed < since || elapsed - since >= Duration::from_millis(500) {
            let seconds = elapsed.saturating_sub(since).as_secs_f64();
            rate = if elapsed < since || seconds == 0.0 {
                0
            } else {
                (recorded.saturating_sub(before) as f64 / seconds) as u64
            };
            live.recorded.set((elapsed, recorded, rate));
        }
        let rate = if rate == 0 { String::new() } else { format!(", {} frames/s", HumanCount(rate)) };
        live.scene.set_message(format!("{}{rate}", self.title(shards, replicas, what)));
    }

    /// A scene is over.
    pub fn row(&mut self, scene: &Scene) {
        let rate = scene.mean(|shard| shard.frames_per_second);
        self.highest = self.highest.max(rate);
        let primary = scene.mean(|shard| shard.primary.cpu_us_per_frame);
        let (p50, p99, max) = match &scene.paced.lag {
            Some(lag) => (lag.p50_us, lag.p99_us, lag.max_us),
            None => (f64::NAN, f64::NAN, f64::NAN),
        };
        let ms = |us: f64| if us.is_nan() { "·".to_owned() } else { format!("{:.2}", us / 1e3) };
        let replica = scene.replica_cpu_us().map_or("·".to_owned(), |us| format!("{us:.3}"));
        let line = self.paint(DIM, "│");
        let star = if scene.crowded { "*" } else { " " };
        self.crowded |= scene.crowded;
        self.say(&format!(
            " {star}{:>6} {:>8} {line} {:>11} {:>9.1} {} {line} {primary:>7.3} {replica:>7} {line} {:>9} {:>9} {:>9}",
            scene.shards,
            scene.replicas,
            HumanCount(rate as u64).to_string(),
            scene.mean(|shard| shard.megabytes_per_second),
            self.paint(CYAN, &format!("{:16}", bar(rate / self.highest, 16))),
            ms(p50),
            ms(p99),
            ms(max),
        ));
        if let Some(live) = &self.live {
            live.all.inc(1);
        }
    }

    /// The end.
    pub fn foot(&mut self, report: &Report) {
        if let Some(live) = self.live.take() {
            live.scene.finish_and_clear();
            live.all.finish_and_clear();
            // What cannot be cleared was not drawn.
            let _ = live.bars.clear();
        }
        if self.crowded {
            let cpus = report.machine.cpus;
            let text = format!(
                "  * more threads than the {cpus} CPUs: they share them; compare CPU a frame, not frames/s or lag"
            );
            self.say(&self.paint(DIM, &text));
        }
    }

    fn title(&self, shards: ShardCount, replicas: u16, what: &str) -> String {
        let plural = |count: u16, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let name = format!("{}, {}", plural(shards.get(), "shard"), plural(replicas, "replica"));
        format!("{}: {what}", self.paint(BOLD, &name))
    }

    fn say(&self, text: &str) {
        match &self.live {
            // Without an output there is nobody to tell.
            Some(live) => drop(live.bars.println(text)),
            None => drop(writeln!(std::io::stdout(), "{text}")),
        }
    }

    fn paint(&self, ink: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{ink}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A bar of so many cells for a part of one, in eighths of a cell.
fn bar(part: f64, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part.clamp(0.0, 1.0) * cells as f64 * 8.0).round() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

const BOLD: &str = "1";
const DIM: &str = "2";
const CYAN: &str = "36";
const YELLOW: &str = "33";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_part() {
        assert_eq!(bar(1.0, 3), "███");
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!((bar(0.0, 3), bar(7.0, 2)), (String::new(), "██".to_owned()));
    }
}
