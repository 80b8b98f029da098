//! Where it was measured.

use std::fs;

use serde::Serialize;

use crate::runtime::startup::Environment;

/// The machine and what runs on it. What the system does not say is `null`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Machine {
    /// The processor's name.
    pub cpu_model: Option<String>,
    /// Such as `x86_64`.
    pub architecture: &'static str,
    /// CPUs that this process may use, its quota counted.
    pub cpus: usize,
    pub memory_bytes: Option<u64>,
    pub kernel: Option<String>,
    /// How the clock of the first CPU is governed; virtual machines do not say.
    pub governor: Option<String>,
    /// Of the last minute, before the first scene.
    pub load_average: Option<f64>,
}

/// What was measured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Versions {
    pub kevy: &'static str,
    /// Of the executors.
    #[serde(rename = "glommio")]
    pub executors: &'static str,
    /// Whether the compiler optimised for speed: figures of anything else say little.
    pub optimised: bool,
}

impl Machine {
    pub fn look(environment: &Environment) -> Machine {
        let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let memory = read("/proc/meminfo").and_then(|text| field(&text, "MemTotal"));
        let kibibytes = memory.and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok());
        Machine {
            cpu_model: read("/proc/cpuinfo").and_then(|text| field(&text, "model name")),
            architecture: std::env::consts::ARCH,
            cpus: environment.parallelism,
            memory_bytes: kibibytes.map(|kib| kib * 1024),
            kernel: read("/proc/sys/kernel/osrelease"),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            load_average: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}

impl Versions {
    pub fn here() -> Versions {
        Versions {
            kevy: env!("CARGO_PKG_VERSION"),
            executors: locked(include_str!("../../../Cargo.lock"), "glommio").unwrap_or("unknown"),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let at = lock.find(&format!("name = \"{package}\"\n"))?;
    lock[at..].lines().nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_locked_is_found() {
        assert_eq!(locked("[[package]]\nname = \"a\"\nversion = \"1.2\"\n", "a"), Some("1.2"));
        assert_eq!(locked("", "a"), None);
        assert!(Versions::here().executors.starts_with(|c: char| c.is_ascii_digit()));
    }
}
