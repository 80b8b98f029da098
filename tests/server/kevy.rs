//! One `kevy` process: started on ports of its own in a directory of its own, and gone with its guard.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue, ToRedisArgs};
use tempfile::TempDir;

use crate::wait_until;

/// A running node. Dropping it kills the process.
pub struct Kevy {
    /// The clients' port.
    pub port: u16,
    /// Shard `i` listens for replicas on this + `i`.
    pub port_base: u16,
    /// The program that becomes the node, with its arguments, where that is another than kevy at first.
    by: Vec<String>,
    args: Vec<String>,
    child: Child,
    dir: TempDir,
    starts: u32,
}

impl Kevy {
    /// A primary of `shards` shards.
    pub fn primary(shards: u16) -> Kevy {
        Kevy::start(shards, &["--role", "primary"])
    }

    /// A replica of `shards` shards that follows `upstream`, a replication port base on loopback.
    pub fn replica(shards: u16, upstream: u16) -> Kevy {
        Kevy::replica_with(shards, upstream, &[])
    }

    /// A replica with further flags.
    pub fn replica_with(shards: u16, upstream: u16, flags: &[&str]) -> Kevy {
        let upstream = format!("127.0.0.1:{upstream}");
        Kevy::start(shards, &[&["--role", "replica", "--upstream", &upstream], flags].concat())
    }

    /// A node of `shards` shards with these flags; ready for clients when this returns.
    pub fn start(shards: u16, flags: &[&str]) -> Kevy {
        Kevy::start_by(&[], shards, flags)
    }

    /// The same by way of a program that prepares something and then becomes the command that follows its arguments.
    pub fn start_by(by: &[&str], shards: u16, flags: &[&str]) -> Kevy {
        let by: Vec<String> = by.iter().map(|word| (*word).to_owned()).collect();
        let port = free_ports(1 + shards);
        let port_base = port + 1;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut args = vec!["serve".to_owned()];
        for (flag, value) in [
            ("--port", port.to_string()),
            ("--listen-port-base", port_base.to_string()),
            ("--shards", shards.to_string()),
            ("--cpus", "off".to_owned()),
            ("--dir", dir.path().display().to_string()),
            ("--replication-buffer-size", "64mb".to_owned()),
        ] {
            if !flags.contains(&flag) {
                args.extend([flag.to_owned(), value]);
            }
        }
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let child = spawn(&by, &args, &dir.path().join("log-1")).expect("kevy starts");
        let mut kevy = Kevy { port, port_base, by, args, child, dir, starts: 1 };
        kevy.await_ready();
        kevy
    }

    /// Kills the process at once, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Starts it again with the same ports and flags, after [`kill`](Self::kill); ready for clients when this returns.
    pub fn restart(&mut self) {
        assert!(self.child.try_wait().expect("the process is ours").is_some(), "it still runs");
        self.starts += 1;
        self.child = spawn(&self.by, &self.args, &self.log_file()).expect("kevy starts");
        self.await_ready();
    }

    /// Asks it to end, and returns how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        wait_until("the process ends after SIGTERM", || self.child.try_wait().expect("ours").is_some());
        self.child.wait().expect("the process is ours")
    }

    /// Sends it a signal by name: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(status.success(), "{kill}");
        if name == "STOP" {
            // A thread that runs goes on until it sees the signal.
            wait_until("all threads stand", || {
                let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs").flatten();
                threads
                    .map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default())
                    .all(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')))
            });
        }
    }

    /// Changes a flag for the next start.
    pub fn set_flag(&mut self, flag: &str, value: &str) {
        let at = self.args.iter().position(|arg| arg == flag).expect("a flag that it was started with");
        value.clone_into(&mut self.args[at + 1]);
    }

    /// The most memory that the process had so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
    }

    /// Descriptors that it has open.
    pub fn descriptors(&self) -> u64 {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count() as u64
    }

    /// Limits the descriptors that it may have open.
    pub fn limit_descriptors(&self, most: u64) {
        // The soft limit: it can be raised again.
        let (pid, limit) = (self.child.id().to_string(), format!("--nofile={most}:"));
        let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status().expect("util-linux");
        assert!(status.success(), "prlimit {limit}");
    }

    /// The memory that it has now, in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
    }

    /// A path as this process sees it, which may have file systems of its own.
    pub fn sees(&self, path: &std::path::Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.child.id(), path.display()))
    }

    /// Processor time that it has used.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse().expect("ticks")).collect();
        Duration::from_millis((ticks[0] + ticks[1]) * 10)
    }

    /// The directory of this test's own; its logs are there.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs").count()
    }

    /// What it logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A new client connection.
    pub fn connect(&self) -> Connection {
        self.try_connect().unwrap_or_else(|error| panic!("connecting to {}: {error}\n{}", self.port, self.log()))
    }

    /// The answer to one command, over a connection of its own.
    pub fn ask<T: FromRedisValue>(&self, command: &[impl ToRedisArgs]) -> redis::RedisResult<T> {
        let mut cmd = redis::Cmd::new();
        for arg in command {
            cmd.arg(arg);
        }
        cmd.query(&mut self.try_connect()?)
    }

    /// One field of `INFO`; `None` if it is not there.
    pub fn info(&self, field: &str) -> Option<String> {
        let text: String = self.ask(&["INFO"]).unwrap_or_else(|error| panic!("INFO: {error}\n{}", self.log()));
        field_of(&text, field)
    }

    /// One field of `INFO` that is a number.
    #[track_caller]
    pub fn number(&self, field: &str) -> u64 {
        let text = self.info(field).unwrap_or_else(|| panic!("INFO has no {field}"));
        text.parse().unwrap_or_else(|_| panic!("{field}:{text} is not a number"))
    }

    /// The digest of all that it holds.
    pub fn digest(&self) -> String {
        self.ask(&["DEBUG", "DIGEST"]).expect("DEBUG DIGEST")
    }

    fn try_connect(&self) -> redis::RedisResult<Connection> {
        let client = Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        let connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(connection)
    }

    fn await_ready(&mut self) {
        wait_until("kevy answers PING", || {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                panic!("kevy ended, {status}\n{}", self.log());
            }
            // One that wants a password is as ready as any.
            self.ask::<String>(&["PING"]).map_or_else(|error| error.code() == Some("NOAUTH"), |_| true)
        });
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join(format!("log-{}", self.starts))
    }
}

impl Drop for Kevy {
    fn drop(&mut self) {
        // It may have ended by itself, which is no matter here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("── log of kevy on port {}\n{}", self.port, self.log());
        }
    }
}

/// The command line of the binary under test.
pub fn command(args: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kevy"));
    command.args(args).stdin(Stdio::null());
    command
}

/// The first of `count` ports in a row that are free and that no other test of this process was given.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = start_of(std::process::id());
    for _ in 0..PORTS / count {
        let taken = NEXT.fetch_add(count.into(), Ordering::Relaxed);
        let Some(port) = row_at(start, taken, count) else { continue };
        if (port..port + count).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return port;
        }
    }
    panic!("no {count} free ports in a row");
}

/// Ports of tests: below the range from which outgoing connections take theirs.
const FIRST_PORT: u16 = 12_000;
/// How many there are.
const PORTS: u16 = 20_000;

/// Where among them a process begins. Processes that run at the same time have neighbouring ids: the golden ratio puts those far apart.
fn start_of(process: u32) -> u32 {
    let spread = u64::from(process.wrapping_mul(0x9E37_79B1)) * u64::from(PORTS);
    (spread >> 32) as u32
}

/// The row of `count` ports behind `taken` ones; `None`: it would pass the end.
fn row_at(start: u32, taken: u32, count: u16) -> Option<u16> {
    let place = ((u64::from(start) + u64::from(taken)) % u64::from(PORTS)) as u16;
    (place + count <= PORTS).then_some(FIRST_PORT + place)
}

#[test]
fn no_port_is_given_twice_and_neighbouring_processes_begin_far_apart() {
    let start = start_of(std::process::id());
    let (mut given, mut taken) = (HashSet::new(), 0);
    for count in [4, 1, 7, 3].into_iter().cycle() {
        if taken + u32::from(count) > u32::from(PORTS) {
            break;
        }
        if let Some(first) = row_at(start, taken, count) {
            assert!(first >= FIRST_PORT && first + count <= FIRST_PORT + PORTS);
            assert!((first..first + count).all(|port| given.insert(port)), "{first} + {count} was given before");
        }
        taken += u32::from(count);
    }
    for process in 1_000..1_020 {
        for other in process + 1..1_020 {
            let apart = start_of(process).abs_diff(start_of(other));
            assert!(apart.min(u32::from(PORTS) - apart) > 500, "{process} and {other} are {apart} apart");
        }
    }
}

/// Listens on a port of [`free_ports`]. The socket with which it was found free may live on for a moment, in a process that another
/// test is about to start.
pub fn listen(port: u16) -> TcpListener {
    let mut listener = None;
    wait_until("the port can be listened on", || {
        listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
        listener.is_some()
    });
    listener.expect("it was just waited for")
}

fn spawn(by: &[String], args: &[String], log: &std::path::Path) -> io::Result<Child> {
    let log = File::create(log)?;
    let mut command = match by {
        [] => command(args),
        [program, rest @ ..] => {
            let mut command = Command::new(program);
            command.args(rest).arg(env!("CARGO_BIN_EXE_kevy")).args(args).stdin(Stdio::null());
            command
        }
    };
    command.stdout(log.try_clone()?).stderr(log).spawn()
}

fn field_of(info: &str, field: &str) -> Option<String> {
    info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(|value| value.trim_end().to_owned()))
}
