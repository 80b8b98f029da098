//! A node from its start to its end.

use super::Failure;
use super::config::Config;

/// Runs a node until it is told to end.
pub(super) fn run(config: Config) -> Result<(), Failure> {
    Err(Failure::Other(format!("this build cannot serve yet (asked to, on {}:{})", config.bind, config.port)))
}
