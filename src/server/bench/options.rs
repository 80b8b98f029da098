//! What is to be measured: the flags as they were written, and what they mean.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::id::ShardCount;
use crate::server::Failure;
use crate::server::size::Size;

/// The flags. Read here and not by clap, so that what is wrong is said as everywhere: name, value, what is allowed.
#[derive(Args)]
pub(in crate::server) struct Raw {
    /// Shards of the primary and of each replica: numbers, comma between them [default: 1, 2, 4 … as many as there are CPUs]
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    shards: Option<String>,
    /// Replicas: numbers, comma between them
    #[arg(long, value_name = "LIST", default_value = "0,1,2", allow_hyphen_values = true)]
    replicas: String,
    /// How long each act of a scene lasts
    #[arg(long, value_name = "SECONDS", default_value = "2", allow_hyphen_values = true)]
    seconds: String,
    /// Different keys of the primary
    #[arg(long, value_name = "COUNT", default_value = "1m", allow_hyphen_values = true)]
    keys: String,
    /// Bytes of a value
    #[arg(long, value_name = "SIZE", default_value = "64", allow_hyphen_values = true)]
    value_size: String,
    /// Commands in one turn of a shard: what is recorded between two sends
    #[arg(long, value_name = "COUNT", default_value = "256", allow_hyphen_values = true)]
    turn: String,
    /// The backlog of each shard
    #[arg(long, value_name = "SIZE", default_value = "64mb", allow_hyphen_values = true)]
    backlog: String,
    /// The share of the highest rate at which lag is measured, in percent
    #[arg(long, value_name = "PERCENT", default_value = "50", allow_hyphen_values = true)]
    pace: String,
    /// auto: each shard has a CPU to itself where there are enough; off: none is pinned
    #[arg(long, value_name = "auto|off", default_value = "auto")]
    cpus: String,
    /// Write the numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is to be measured.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::server) struct Options {
    pub shards: Vec<ShardCount>,
    pub replicas: Vec<u16>,
    /// Of each act.
    pub time: Duration,
    /// Different keys.
    pub keys: usize,
    pub load: Load,
    /// At which part of the highest rate lag is measured.
    pub share: f64,
    pub pin: bool,
    pub json: Option<PathBuf>,
}

/// What a shard writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(in crate::server) struct Load {
    pub value_bytes: usize,
    pub turn_commands: usize,
    pub backlog_bytes: usize,
}

impl Options {
    /// Reads the flags; `cpus` is how many there are.
    ///
    /// # Errors
    /// One line that names the flag, its value and what is allowed.
    pub fn read(raw: Raw, cpus: usize) -> Result<Options, Failure> {
        let shards = match &raw.shards {
            Some(text) => list("shards", text, 1..=NODES_MAX)?,
            None => {
                std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| usize::from(*n) <= cpus.max(1)).collect()
            }
        };
        let load = Load {
            value_bytes: size("value-size", &raw.value_size, 0..=1 << 20)? as usize,
            turn_commands: size("turn", &raw.turn, 1..=4_096)? as usize,
            backlog_bytes: size("backlog", &raw.backlog, 1 << 20..=16 << 30)? as usize,
        };
        let turn_bytes = load.turn_commands * (load.value_bytes + FRAME_BYTES);
        if turn_bytes * TURNS_IN_BACKLOG > load.backlog_bytes {
            let least = Size((turn_bytes * TURNS_IN_BACKLOG) as u64);
            return Err(refuse("backlog", &raw.backlog, &format!("at least {least}, for turns of that many commands")));
        }
        let options = Options {
            shards: shards.into_iter().filter_map(ShardCount::new).collect(),
            replicas: list("replicas", &raw.replicas, 0..=NODES_MAX)?,
            time: Duration::from_secs_f64(number("seconds", &raw.seconds, 0.1..=600.0)?),
            keys: size("keys", &raw.keys, 10_000..=100_000_000)? as usize,
            load,
            share: number("pace", &raw.pace, 1.0..=100.0)? / 100.0,
            pin: match raw.cpus.as_str() {
                "auto" => true,
                "off" => false,
                other => return Err(refuse("cpus", other, "auto or off")),
            },
            json: raw.json,
        };
        Ok(options)
    }
}

fn refuse(flag: &str, value: &str, allowed: &str) -> Failure {
    Failure::Usage(format!("--{flag} {value:?}: must be {allowed}"))
}

fn list(flag: &str, text: &str, allowed: RangeInclusive<u16>) -> Result<Vec<u16>, Failure> {
    let one = |part: &str| part.trim().parse().ok().filter(|number| allowed.contains(number));
    let numbers: Option<Vec<u16>> = text.split(',').map(one).collect();
    numbers.ok_or_else(|| {
        let (from, to) = allowed.into_inner();
        refuse(flag, text, &format!("numbers from {from} to {to}, comma between them"))
    })
}

fn number(flag: &str, text: &str, allowed: RangeInclusive<f64>) -> Result<f64, Failure> {
    let found = text.parse().ok().filter(|number| allowed.contains(number));
    found.ok_or_else(|| refuse(flag, text, &format!("a number from {} to {}", allowed.start(), allowed.end())))
}

fn size(flag: &str, text: &str, allowed: RangeInclusive<u64>) -> Result<u64, Failure> {
    let found = Size::from_str(text).ok().map(|size| size.0).filter(|size| allowed.contains(size));
    found.ok_or_else(|| {
        refuse(flag, text, &format!("from {} to {}, such as 100k", Size(*allowed.start()), Size(*allowed.end())))
    })
}

/// Shards of a node, and replicas, at most.
const NODES_MAX: u16 = 64;
/// What a frame of a `SET` takes beside its value, roughly.
const FRAME_BYTES: usize = 64;
/// A backlog that holds fewer turns would be left behind by every replica.
const TURNS_IN_BACKLOG: usize = 8;
