//! One `kevy serve` as a child process: its ports, its life and death, and what the system says about it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::Trouble;
use super::client::Client;
use super::patience::Patience;
use super::ports::Ports;

/// A node of the demonstration. Dropping it kills the process, whatever state that is in.
pub(super) struct Node {
    name: &'static str,
    /// The clients' port.
    pub port: u16,
    /// Shard `i` listens for replicas on this + `i`.
    pub port_base: u16,
    pub shards: u16,
    flags: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// Starts a node of `shards` shards, its log in `directory`; ready for clients when this returns.
    pub fn start(
        name: &'static str,
        shards: u16,
        flags: &[&str],
        directory: &Path,
        ports: &mut Ports,
        patience: &Patience,
    ) -> Result<Node, Trouble> {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let log = directory.join(format!("{name}.log"));
        let mut node = Node { name, port: 0, port_base: 0, shards, flags, log, child: None };
        let mut attempts = PORT_ATTEMPTS;
        loop {
            // Somebody may take a port between our look and the node's bind: then others are tried.
            let first = ports.take(1 + shards)?;
            (node.port, node.port_base) = (first, first + 1);
            attempts -= 1;
            match node.run(patience) {
                Err(trouble) if attempts > 0 && trouble.to_string().contains("choose a port that is free") => {}
                result => return result.map(|()| node),
            }
        }
    }

    /// Starts the process again, on the same ports, after [`kill`](Self::kill).
    pub fn restart(&mut self, patience: &Patience) -> Result<(), Trouble> {
        self.run(patience)
    }

    fn run(&mut self, patience: &Patience) -> Result<(), Trouble> {
        let failed = |error: io::Error| Trouble::new(format!("the {} cannot be started: {error}", self.name));
        let log = File::create(&self.log).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args(["serve", "--cpus", "off", "--bind", "127.0.0.1"])
            .args(["--port", &self.port.to_string(), "--listen-port-base", &self.port_base.to_string()])
            .args(["--shards", &self.shards.to_string()])
            .args(&self.flags)
            // Ctrl-C is for the demonstration, which then ends its nodes.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        self.child = Some(command.spawn().map_err(failed)?);
        let port = self.port;
        patience.until(&format!("the {} answers on port {port}", self.name), || {
            self.check()?;
            Ok(Client::connect(port).and_then(|mut client| client.ask(&["PING"])).ok())
        })?;
        Ok(())
    }

    /// Fails if the process has ended, with the last line of its log.
    pub fn check(&mut self) -> Result<(), Trouble> {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(Trouble::new(format!("the {} ended, {status}: {}", self.name, last_line(&self.log))))
            }
            Err(error) => Err(Trouble::new(format!("the {}: {error}", self.name))),
        }
    }

    /// The process's id; 0 when there is none.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Stops the process where it is.
    pub fn freeze(&self) -> Result<(), Trouble> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<(), Trouble> {
        self.signal(Signal::CONT)
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) -> Result<(), Trouble> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let ended = child.kill().and_then(|()| child.wait());
        ended.map(drop).map_err(|error| Trouble::new(format!("killing the {}: {error}", self.name)))
    }

    fn signal(&self, signal: Signal) -> Result<(), Trouble> {
        let pid = self.child.as_ref().map(Pid::from_child);
        pid.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process(pid, signal))
            .map_err(|error| Trouble::new(format!("a signal to the {}: {error}", self.name)))
    }

    /// Resident memory, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
    }

    /// Processor time so far, user and system, in microseconds; counted in ticks of 10 ms.
    pub fn cpu_micros(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // Behind the name, which may hold spaces, utime and stime are the 12th and the 13th field.
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_MICROS
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = self.kill();
    }
}

fn last_line(log: &Path) -> String {
    let lines = File::open(log).map(|file| BufReader::new(file).lines().map_while(Result::ok));
    lines.ok().and_then(|lines| lines.filter(|line| !line.is_empty()).last()).unwrap_or_else(|| "no log".to_owned())
}

const PORT_ATTEMPTS: usize = 5;
const TICK_MICROS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_a_process_uses() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let node = |child| Node {
            name: "sleeper",
            port: 0,
            port_base: 0,
            shards: 1,
            flags: Vec::new(),
            log: PathBuf::new(),
            child,
        };
        assert_eq!(node(None).rss_bytes(), 0);
        let pid = child.id();
        assert!(child.try_wait().unwrap().is_none());
        let mut sleeper = node(Some(child));
        assert!(sleeper.rss_bytes() > 0);
        sleeper.freeze().unwrap();
        sleeper.check().unwrap();
        sleeper.kill().unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "killed though it was frozen, and reaped");
    }
}
