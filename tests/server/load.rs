//! Load from `redis-benchmark`.

use std::process::{Child, Command, Stdio};

/// A running `redis-benchmark`; dropping it kills it.
pub struct Benchmark {
    child: Child,
    args: Vec<String>,
}

impl Benchmark {
    /// Whether there is one on this machine. A test that is `false` here has nothing to do.
    ///
    /// # Panics
    /// If there is none and `CI=true`: there it must not go unseen.
    pub fn is_there() -> bool {
        let found = Command::new("redis-benchmark").arg("--version").stdout(Stdio::null()).status().is_ok();
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(found || !ci, "redis-benchmark is missing: install redis-tools");
        if !found {
            eprintln!("SKIPPED: redis-benchmark is missing (install redis-tools)");
        }
        found
    }

    /// `count` SETs of 64 bytes over `keys` random keys, 64 in a pipeline, on 16 connections.
    pub fn sets(port: u16, count: u64, keys: u64) -> Benchmark {
        Benchmark::start(port, count, keys, "set")
    }

    /// Commands of every type there is, `count` of each over `keys` random keys.
    pub fn every_type(port: u16, count: u64, keys: u64) -> Benchmark {
        Benchmark::start(port, count, keys, "set,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,mset")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it failed.
    pub fn finish(mut self) {
        let status = self.child.wait().expect("it is ours");
        assert!(status.success(), "redis-benchmark: {status}");
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// Starts it again if it has ended, so that there is load for as long as a test needs it.
    ///
    /// # Panics
    /// If it failed.
    pub fn go_on(&mut self) {
        if let Some(status) = self.child.try_wait().expect("it is ours") {
            assert!(status.success(), "redis-benchmark: {status}");
            self.child = spawn(&self.args);
        }
    }

    fn start(port: u16, count: u64, keys: u64, tests: &str) -> Benchmark {
        let (port, count, keys) = (port.to_string(), count.to_string(), keys.to_string());
        let args = ["-p", &port, "-n", &count, "-r", &keys, "-t", tests, "-P", "64", "-c", "16", "-d", "64", "-q"];
        let args = args.map(str::to_owned).to_vec();
        Benchmark { child: spawn(&args), args }
    }
}

fn spawn(args: &[String]) -> Child {
    let child = Command::new("redis-benchmark").args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    child.expect("redis-benchmark starts")
}

impl Drop for Benchmark {
    fn drop(&mut self) {
        // It has ended already, unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
