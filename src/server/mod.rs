//! The `kevy` server around the runtime: configuration, command line, what tools read.

pub mod config;
pub mod info;
pub mod names;
pub mod size;

mod across;
mod admin;
mod admission;
mod bench;
mod block;
mod check;
mod cli;
mod client_command;
mod clients;
mod cluster;
mod config_command;
mod connection;
mod demo;
mod digests;
mod exchange;
mod gate;
mod identity;
mod meanwhile;
mod node;
mod observe;
mod pubsub;
mod rewrite;
mod serve;
mod session;
mod settings;
mod survey;
mod together;
mod transaction;
mod upstream;
mod wait;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

use self::cli::Action;
use self::config::Machine;

/// Why `kevy` ends without having done what it was asked; it becomes one line on the error output and an exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What a person wrote cannot be: usage, an unknown key, an impossible value, a port that is taken.
    #[error("{0}")]
    Usage(String),
    /// The machine does not allow what is needed; the line says the cause and the cure.
    #[error("{0}")]
    Environment(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The exit code that scripts see.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Usage(_) => 2,
            Failure::Environment(_) => 78,
            Failure::Other(_) => 1,
        })
    }
}

/// All of `kevy`: reads the command line, does what it says, and says how that went.
pub fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("kevy: {failure}");
            failure.exit_code()
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    // Counted once, before there is any thread: one that a pinned shard starts would inherit its single CPU.
    let machine = machine();
    match cli::parse(std::env::args_os(), &machine)? {
        Action::Print(text) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Action::Serve { config, log } => {
            start_log(&log)?;
            serve::run(*config, machine).map(|()| ExitCode::SUCCESS)
        }
        Action::Demo(options) => demo::run(&options),
        Action::Bench(options) => bench::run(&options).map(|()| ExitCode::SUCCESS),
        Action::Check(options) => check::run(&options),
    }
}

/// What this process may use: its affinity and its quota.
fn machine() -> Machine {
    let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
    let mut cpus: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if cpus.is_empty() {
        cpus = (0..parallelism).collect();
    }
    Machine { cpus, parallelism }
}

/// Lines go to the error output; what glommio says through `log` is among them, from warnings on.
fn start_log(directives: &str) -> Result<(), Failure> {
    let allowed = || {
        Failure::Usage(format!(
            "--log {directives:?}: must be error, warn, info, debug or trace, or directives such as \
             info,kevy_replicate=debug"
        ))
    };
    // A lone word that is no level would be read as the name of a module, and silence everything else.
    if directives.split(',').any(|part| !part.contains('=') && LevelFilter::from_str(part).is_err()) {
        return Err(allowed());
    }
    let quiet = if directives.contains("glommio") { "" } else { ",glommio=warn" };
    let filter = EnvFilter::builder().parse(format!("{directives}{quiet}")).map_err(|_| allowed())?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish()
        .try_init()
        .map_err(|error| Failure::Other(error.to_string()))
}
