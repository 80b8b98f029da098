//! `kevy demo`: a primary and a replica as child processes, real traffic, a link that is cut, a replica that is frozen
//! and one that is killed; and then the proof, twice, that both hold the same. It ends by itself.
//!
//! ```text
//!            clients: writers, and two that measure
//!               │
//!           ┌───▼─────┐      ┌───────┐      ┌─────────┐
//!           │ primary ├──────┤ relay ├──────┤ replica │      each box but the relay is a process
//!           │ 2 shards│      │ ✂     │      │ 3 shards│
//!           └───┬─────┘      └───────┘      └────┬────┘
//!               └── DEBUG DIGEST, SCAN and reads ┘
//! ```
//!
//! Nothing waits for ever, and no process outlives the demonstration, however it ends.

pub(super) mod client;
mod equality;
mod load;
mod monitor;
mod node;
mod patience;
mod ports;
mod relay;
mod report;
mod screen;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::HumanCount;

use self::client::{Client, Info};
use self::equality::Equality;
use self::load::{Load, Loaded};
use self::monitor::Monitor;
use self::node::Node;
use self::patience::Patience;
use self::ports::Ports;
use self::relay::Relay;
use self::report::{Attach, Cpu, Frozen, Report, Resume};
use self::screen::{Mark, Screen, mib, ms};
use super::Failure;
use crate::runtime::startup::Environment;

/// What is to be shown.
pub(super) struct Options {
    /// Alter one value on the replica, so that the verdict must be red.
    pub spoil: bool,
    /// Where to write the numbers.
    pub json: Option<PathBuf>,
}

/// Why the demonstration cannot go on; its verdict is red.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// What this line says.
    #[error("{0}")]
    Said(String),
}

impl Trouble {
    fn new(line: String) -> Trouble {
        Trouble::Said(line)
    }
}

/// Shows everything; 0 if it ended green, 1 if red.
///
/// # Errors
/// If this machine has no io_uring for us, or the numbers cannot be written. Whatever else goes wrong is a red verdict.
pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    Environment::look().map_err(|error| Failure::Environment(error.to_string()))?;
    // Opened first: nobody likes to hear at the end that the numbers are lost.
    let json = options.json.as_deref().map(|path| File::create(path).map_err(|error| unwritable(path, &error)));
    let mut json = json.transpose()?;
    let mut directory = Directory::create()?;
    let began = Instant::now();
    let mut screen = Screen::new();
    let mut report = Report { spoiled: options.spoil, ..Report::default() };
    match show(options, &directory.path, &mut screen, &mut report) {
        Ok(()) => directory.keep = !report.complaints.is_empty() && !options.spoil,
        Err(trouble) => {
            directory.keep = !matches!(trouble, Trouble::Interrupted);
            report.complaints.push(trouble.to_string());
        }
    }
    report.took_ms = began.elapsed().as_millis() as u64;
    report.green = report.complaints.is_empty();
    if directory.keep {
        screen.say("");
        screen.say(&format!("the nodes' logs are in {}", directory.path.display()));
    }
    report.verdict = verdict(&report);
    screen.verdict(Mark::of(report.green), &report.verdict);
    if let (Some(file), Some(path)) = (&mut json, &options.json) {
        let written = serde_json::to_writer_pretty(&mut *file, &report).map_err(io::Error::from);
        written.and_then(|()| file.write_all(b"\n")).map_err(|error| unwritable(path, &error))?;
    }
    Ok(if report.green { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("--json {:?}: must be a file that can be written: {error}", path.display()))
}

fn verdict(report: &Report) -> String {
    if report.green {
        let seconds = report.took_ms as f64 / 1e3;
        format!("both hold the same, and nothing was synced that the backlog still held; {seconds:.1} s")
    } else {
        report.complaints.join("; ")
    }
}

/// Sets the stage, and plays every act on it. What the stage holds is gone when this returns.
fn show(options: &Options, directory: &Path, screen: &mut Screen, report: &mut Report) -> Result<(), Trouble> {
    let patience = Patience::new()?;
    let mut ports = Ports::new();
    screen.now("start", "two nodes come up");
    let backlog = BACKLOG_BYTES.to_string();
    let common = ["--log", "info", "--replication-buffer-size", &backlog];
    // What is altered on purpose is for the comparison to find, not for the scrub to repair.
    let scrub = if options.spoil { "0" } else { "16" };
    let flags = ["--role", "primary", "--scrub-slots-per-second", scrub];
    let primary = Node::start("primary", 2, &[&common[..], &flags].concat(), directory, &mut ports, &patience)?;
    let relay = Relay::new(primary.port_base, primary.shards, &mut ports)?;
    let upstream = format!("127.0.0.1:{}", relay.port_base);
    let read_only = if options.spoil { "false" } else { "true" };
    let flags = ["--role", "replica", "--upstream", &upstream, "--replica-read-only", read_only];
    let replica = Node::start("replica", 3, &[&common[..], &flags].concat(), directory, &mut ports, &patience)?;
    (report.primary_shards, report.replica_shards) = (primary.shards, replica.shards);
    let mut stage = Stage {
        to_primary: Client::connect(primary.port)?,
        to_replica: Client::connect(replica.port)?,
        primary,
        replica,
        relay,
        patience,
        screen,
        report,
    };
    let played = stage.play(options.spoil);
    if played.is_err() {
        // That a node ended explains more than that it does not answer.
        stage.primary.check()?;
        stage.replica.check()?;
    }
    played
}

/// Everything that the acts need.
struct Stage<'a> {
    // Connections go before the nodes do.
    to_primary: Client,
    to_replica: Client,
    primary: Node,
    replica: Node,
    relay: Relay,
    patience: Patience,
    screen: &'a mut Screen,
    report: &'a mut Report,
}

impl Stage<'_> {
    fn play(&mut self, spoil: bool) -> Result<(), Trouble> {
        self.ports()?;
        self.before()?;
        self.attach()?;
        self.cut()?;
        self.freeze()?;
        self.kill()?;
        let cpu = self.burst()?;
        if spoil {
            self.spoil()?;
        }
        self.equality()?;
        self.cpu(cpu);
        Ok(())
    }

    fn ports(&mut self) -> Result<(), Trouble> {
        let (primary, replica) = (&self.primary, &self.replica);
        self.screen.title(&format!(
            "kevy demo: a primary of {} shards, a replica of {}, and between them a link that can be cut",
            primary.shards, replica.shards
        ));
        for (name, node) in [("primary", primary), ("replica", replica)] {
            let what = format!("pid {}, replication ports from {}", node.pid(), node.port_base);
            self.screen.place(name, &format!("redis-cli -p {}", node.port), &what);
        }
        self.screen.say("  attach with redis-cli now");
        self.screen.watch(Monitor::new(primary.port)?);
        self.screen.columns();
        Ok(())
    }

    /// The primary without a replica: what the rest is to be compared with.
    fn before(&mut self) -> Result<(), Trouble> {
        self.screen.now("load", &format!("{} keys are written", HumanCount(load::STRINGS)));
        load::fill(self.primary.port)?;
        let keys = keys(&mut self.to_primary)?;
        self.screen.now("idle", "two clients measure, nobody else is here");
        let load = Load::idle(self.primary.port);
        self.patience.pass(SCENE)?;
        let idle = load.finish()?;
        self.screen.row(Mark::Green, "idle", &idle, &format!("{} keys are there, nobody writes", HumanCount(keys)));
        self.report.idle = Some(idle);

        self.screen.now("writes", "clients write, there is no replica");
        let load = Load::writes(self.primary.port);
        self.patience.pass(SCENE)?;
        let writes = load.finish()?;
        self.screen.row(Mark::Green, "writes", &writes, "no replica yet");
        self.report.writes = Some(writes);
        Ok(())
    }

    /// The replica comes, and is synced while clients write.
    fn attach(&mut self) -> Result<(), Trouble> {
        self.screen.now("attach", "the replica is synced, clients go on writing");
        let load = Load::writes(self.primary.port);
        let connections = self.relay.connections();
        self.relay.heal()?;
        self.await_dial(connections)?;
        let began = Instant::now();
        self.await_synced()?;
        let took = began.elapsed();
        let keys = keys(&mut self.to_replica)?;
        self.patience.pass(SCENE.saturating_sub(took))?;
        let load = load.finish()?;
        let text = format!("synced in {}, {} keys", ms(took), HumanCount(keys));
        self.screen.row(Mark::Green, "attach", &load, &text);
        self.report.attach = Some(Attach { took_ms: took.as_millis() as u64, keys, load });
        Ok(())
    }

    /// The link is cut and healed.
    fn cut(&mut self) -> Result<(), Trouble> {
        self.screen.now("cut", "the link is down, clients go on writing");
        let load = Load::writes(self.primary.port);
        self.patience.pass(SCENE / 4)?;
        self.relay.cut();
        self.patience.pass(SCENE)?;
        let before = self.before_resume()?;
        let connections = self.relay.connections();
        self.relay.heal()?;
        let healed = Instant::now();
        self.await_dial(connections)?;
        let dialled_after = healed.elapsed();
        let mut resume = self.resume(&before)?;
        resume.dialled_after_ms = dialled_after.as_millis() as u64;
        resume.load = load.finish()?;
        let (fine, text) = self.judge("cut", "resumed", &resume);
        self.screen.row(fine, "cut", &resume.load, &text);
        self.screen.more(&format!("the replica dialled {} after the link was back", ms(dialled_after)));
        self.report.cut = Some(resume);
        Ok(())
    }

    /// The replica is stopped, and goes on.
    fn freeze(&mut self) -> Result<(), Trouble> {
        self.screen.now("frozen", "the replica is stopped, clients go on writing");
        let memory_before_bytes = self.primary.rss_bytes();
        // Asked before: a frozen replica answers nothing.
        let before = self.before_resume()?;
        self.replica.freeze()?;
        let load = Load::writes(self.primary.port);
        self.patience.pass(SCENE * 3 / 2)?;
        let load = load.finish()?;
        let memory_bytes = self.primary.rss_bytes();
        self.replica.thaw()?;
        let mut resume = self.resume(&before)?;
        resume.load = load;
        let (fine, text) = self.judge("frozen", "went on", &resume);
        let grown = memory_bytes.saturating_sub(memory_before_bytes);
        let memory = format!("the primary's memory {}, before {}", mib(memory_bytes), mib(memory_before_bytes));
        let fits = grown <= MEMORY_GROWTH_MAX;
        if !fits {
            self.complain(format!("a frozen replica made the primary's memory grow by {}", mib(grown)));
        }
        self.screen.row(if fits { fine } else { Mark::Red }, "frozen", &resume.load, &memory);
        self.screen.more(&text);
        self.report.frozen = Some(Frozen { memory_before_bytes, memory_bytes, resume });
        Ok(())
    }

    /// The replica is killed and started again.
    fn kill(&mut self) -> Result<(), Trouble> {
        self.screen.now("killed", "the replica is killed and started again, clients go on writing");
        let load = Load::writes(self.primary.port);
        self.replica.kill()?;
        self.patience.pass(SCENE / 4)?;
        let began = Instant::now();
        self.replica.restart(&self.patience)?;
        self.to_replica = Client::connect(self.replica.port)?;
        self.await_synced()?;
        let took = began.elapsed();
        let keys = keys(&mut self.to_replica)?;
        self.patience.pass(SCENE.saturating_sub(took))?;
        let load = load.finish()?;
        let text = format!("resynced in {} from its start, {} keys", ms(took), HumanCount(keys));
        self.screen.row(Mark::Green, "killed", &load, &text);
        self.report.killed = Some(Attach { took_ms: took.as_millis() as u64, keys, load });
        Ok(())
    }

    /// Writes as fast as it goes, to see what one costs. In parts that the backlog holds, so that nothing is synced.
    fn burst(&mut self) -> Result<Cpu, Trouble> {
        self.screen.now("CPU", &format!("{} writes as fast as it goes", HumanCount(BURST_WRITES * BURSTS)));
        self.await_caught_up()?;
        let syncs = self.full_syncs()?;
        let before = (self.primary.cpu_micros(), self.replica.cpu_micros());
        let mut writes = 0;
        for _ in 0..BURSTS {
            writes += load::burst(self.primary.port, BURST_WRITES)?;
            self.await_caught_up()?;
        }
        let cost = |after: u64, before: u64| after.saturating_sub(before) as f64 / writes as f64;
        let cpu = Cpu {
            writes,
            primary_us_per_write: cost(self.primary.cpu_micros(), before.0),
            replica_us_per_write: cost(self.replica.cpu_micros(), before.1),
        };
        let synced = self.full_syncs()? - syncs;
        if synced > 0 {
            self.complain(format!("{synced} full syncs while the link was up"));
        }
        Ok(cpu)
    }

    /// Alters one value on the replica behind its primary's back.
    fn spoil(&mut self) -> Result<(), Trouble> {
        self.await_caught_up()?;
        let key = load::some_key();
        self.to_replica.ask(&["SET", &key, "spoiled"])?;
        self.screen.say("");
        self.screen.fact(Mark::Red, "spoiled", &format!("{key} was altered on the replica, on purpose"));
        Ok(())
    }

    fn equality(&mut self) -> Result<(), Trouble> {
        self.screen.now("equality", "both are digested, scanned and read");
        self.await_caught_up()?;
        let found = Equality::judge(self.primary.port, self.replica.port)?;
        if !self.report.spoiled {
            self.screen.say("");
        }
        let (by_digest, by_reading) = (found.by_digest(), found.by_reading());
        let text = match by_digest {
            true => format!("{} on both", short(&found.primary_digest)),
            false => format!("{} and {}", short(&found.primary_digest), short(&found.replica_digest)),
        };
        self.screen.fact(Mark::of(by_digest), "digest", &text);
        let keys = HumanCount(found.primary_keys as u64);
        let differ = if found.differing_keys == 1 { "differs" } else { "differ" };
        let text = match &found.first_difference {
            None => format!("{keys} keys scanned and read on both: type, value and expiry are the same"),
            Some(key) => {
                format!("{keys} keys scanned and read on both: {} {differ}, {key} first", found.differing_keys)
            }
        };
        self.screen.fact(Mark::of(by_reading), "reading", &text);
        match &found.first_difference {
            Some(key) => self.complain(format!("{} of {keys} keys {differ}, {key} first", found.differing_keys)),
            None if found.primary_keys == 0 => self.complain("there was no key to compare".to_owned()),
            None => {}
        }
        if !by_digest {
            self.complain("the digests differ".to_owned());
        }
        self.report.equality = Some(found);
        Ok(())
    }

    fn cpu(&mut self, cpu: Cpu) {
        let text = format!(
            "{:.2} µs a write on the primary, {:.2} µs on the replica ({} writes)",
            cpu.primary_us_per_write,
            cpu.replica_us_per_write,
            HumanCount(cpu.writes)
        );
        self.screen.fact(Mark::Green, "CPU", &text);
        self.report.cpu = Some(cpu);
    }

    fn complain(&mut self, complaint: String) {
        self.report.complaints.push(complaint);
    }

    fn full_syncs(&mut self) -> Result<u64, Trouble> {
        Ok(self.to_primary.info("stats")?.number("sync_full"))
    }

    fn before_resume(&mut self) -> Result<BeforeResume, Trouble> {
        let full_syncs = self.full_syncs()?;
        let info = self.to_replica.info("replication")?;
        let applied = (0..self.primary.shards).map(|stream| info.part(&format!("stream{stream}"), "applied")).collect();
        Ok(BeforeResume { full_syncs, applied })
    }

    /// Waits until the replica has applied what the primary has recorded up to now.
    fn resume(&mut self, before: &BeforeResume) -> Result<Resume, Trouble> {
        let began = Instant::now();
        let target = self.to_primary.info("replication")?.number("master_repl_offset");
        self.await_applied(target)?;
        let took = began.elapsed();
        let info = self.to_primary.info("replication")?;
        let held = before.applied.iter().enumerate().all(|(stream, applied)| oldest(&info, stream) <= *applied);
        Ok(Resume {
            frames: target.saturating_sub(before.applied.iter().sum()),
            took_ms: took.as_secs_f64() * 1e3,
            full_syncs: self.full_syncs()?.saturating_sub(before.full_syncs),
            window_held: held,
            dialled_after_ms: 0,
            load: Loaded { writes_per_second: 0, p50_us: 0, p99_us: 0, max_us: 0, samples: 0 },
        })
    }

    /// Says how a resume went; a complaint where it is red.
    fn judge(&mut self, act: &str, verb: &str, resume: &Resume) -> (Mark, String) {
        let text = resume.text(verb);
        if !resume.is_fine() {
            self.complain(format!("{act}: {text}"));
        }
        (Mark::of(resume.is_fine()), text)
    }

    fn await_dial(&mut self, connections: u64) -> Result<(), Trouble> {
        let Stage { patience, relay, replica, .. } = self;
        patience.until("the replica dials", || {
            replica.check()?;
            Ok((relay.connections() > connections).then_some(()))
        })
    }

    fn await_synced(&mut self) -> Result<(), Trouble> {
        let Stage { patience, to_replica, .. } = self;
        patience.until("the replica is synced", || {
            let info = to_replica.info("replication")?;
            Ok((info.text("master_link_status") == Some("up")).then_some(()))
        })
    }

    /// Waits until the replica has applied that many frames.
    fn await_applied(&mut self, frames: u64) -> Result<(), Trouble> {
        let Stage { patience, to_replica, .. } = self;
        patience.until(&format!("the replica has applied {frames} frames"), || {
            let info = to_replica.info("replication")?;
            Ok((info.number("slave_repl_offset") >= frames).then_some(()))
        })
    }

    /// Waits until the replica has everything. Nobody may write.
    fn await_caught_up(&mut self) -> Result<(), Trouble> {
        let frames = self.to_primary.info("replication")?.number("master_repl_offset");
        self.await_applied(frames)
    }
}

/// What is remembered of a replica that is about to fall behind, or to go on.
struct BeforeResume {
    full_syncs: u64,
    /// Frames applied, by stream.
    applied: Vec<u64>,
}

/// A directory for the nodes' logs, gone with its value unless it is to be kept.
struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    fn create() -> Result<Directory, Failure> {
        let path = std::env::temp_dir().join(format!("kevy-demo-{}", std::process::id()));
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(Directory { path, keep: false }),
            Err(error) => Err(Failure::Other(format!("{}: {error}", path.display()))),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep {
            // What stays behind is small, and in the system's directory for such things.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The first offset in the window of a stream.
fn oldest(info: &Info, stream: usize) -> u64 {
    info.part(&format!("stream{stream}"), "oldest")
}

fn keys(client: &mut Client) -> Result<u64, Trouble> {
    match client.ask(&["DBSIZE"])? {
        client::Value::Integer(keys) => Ok(keys.unsigned_abs()),
        other => Err(Trouble::new(format!("DBSIZE was answered with {other:?}"))),
    }
}

/// The beginning of a digest: enough to tell two apart.
fn short(digest: &str) -> String {
    digest.trim_start_matches('0').chars().take(16).collect()
}

/// How long an act lasts.
const SCENE: Duration = Duration::from_millis(1_500);
/// Of each shard. The first keys fill it, so that memory is at its height from then on.
const BACKLOG_BYTES: u64 = 16 << 20;
const BURST_WRITES: u64 = 100_000;
const BURSTS: u64 = 5;
/// More than the primary's memory may grow by chance while the replica is frozen.
const MEMORY_GROWTH_MAX: u64 = 16 << 20;
