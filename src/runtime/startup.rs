//! What is settled before any thread exists: whether there is an io_uring, how much memory may be locked, how many
//! descriptors may be open, and which CPUs this process may use. Threads inherit these, and an executor that cannot be
//! made panics, so every error that a user can cure is found here.

use std::fmt;
use std::io;

use rlimit::Resource;

use crate::id::{ShardCount, ShardId};
use crate::limits::{EXECUTOR_MEMLOCK_BYTES, SHARDS_MAX};

use super::cpus::CpuId;
use super::iouring;

/// Why the executors cannot be started. One line that names the cause and the cure.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The kernel has no io_uring.
    #[error("io_uring is missing from this kernel; kevy needs Linux 5.8 or later with io_uring built in")]
    IoUringMissing,
    /// An administrator has switched it off.
    #[error("io_uring is switched off by kernel.io_uring_disabled = {0}; cure: sysctl -w kernel.io_uring_disabled=0")]
    IoUringDisabled(u8),
    /// Something else forbids it.
    #[error(
        "io_uring is forbidden here, as container runtimes do; cure: a seccomp profile that allows io_uring_setup, \
         io_uring_enter and io_uring_register (or --security-opt seccomp=unconfined)"
    )]
    IoUringForbidden,
    /// Too little memory may be locked.
    #[error(
        "locked memory is limited to {limit} bytes and {needed} are needed; cure: ulimit -l {kib}, LimitMEMLOCK= in \
         systemd, --ulimit memlock= in containers",
        kib = needed.div_ceil(1024)
    )]
    LockedMemory {
        /// The hard limit.
        limit: u64,
        /// What the executors need at least.
        needed: u64,
    },
    /// The kernel refused for a reason of its own.
    #[error("io_uring cannot be set up: {0}")]
    IoUring(io::Error),
    /// The executor of a shard could not be made.
    #[error("the executor of shard {shard} cannot be started: {cause}")]
    Executor {
        /// Which shard.
        shard: ShardId,
        /// What glommio or the system said.
        cause: String,
    },
}

impl StartupError {
    /// The exit code of a server that ends with this error (`EX_CONFIG`).
    pub const EXIT_CODE: u8 = 78;
}

/// What this process may use.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The CPUs that the affinity mask and the cpuset allow, in order; empty where the system does not say.
    pub cpus: Vec<CpuId>,
    /// How many of them its CPU quota pays for; at least 1.
    pub parallelism: usize,
    /// Descriptors that may be open at a time.
    pub descriptors: u64,
}

impl Environment {
    /// Looks, raises the limit of open descriptors as far as it goes, and tries io_uring. First thing in `main`: a
    /// thread that runs on one CPU sees only that one.
    ///
    /// # Errors
    /// If there is no io_uring for this process.
    pub fn look() -> Result<Environment, StartupError> {
        let cpus: Vec<CpuId> =
            core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| CpuId::new(core.id)).collect();
        let quota = std::thread::available_parallelism().map_or(1, |n| n.get());
        let parallelism = if cpus.is_empty() { quota } else { quota.min(cpus.len()) };
        let descriptors = raise_descriptors();
        // The probe itself may need locked memory on old kernels.
        lock_memory(ShardCount::ONE)?;
        iouring::probe().map_err(|error| judge(error, io_uring_disabled()))?;
        Ok(Environment { cpus, parallelism, descriptors })
    }

    /// One shard for each CPU that is paid for.
    pub fn shards(&self) -> ShardCount {
        let shards = self.parallelism.min(SHARDS_MAX) as u16;
        ShardCount::new(shards).unwrap_or(ShardCount::ONE)
    }
}

/// Raises the soft limit of locked memory to what the executors of `shards` need.
///
/// # Errors
/// If the hard limit is below what a single executor needs.
pub fn lock_memory(shards: ShardCount) -> Result<(), StartupError> {
    let needed = EXECUTOR_MEMLOCK_BYTES * u64::from(shards.get());
    let Ok((soft, hard)) = Resource::MEMLOCK.get() else { return Ok(()) };
    if soft >= needed || Resource::MEMLOCK.set(needed, hard.max(needed)).is_ok() {
        return Ok(());
    }
    if hard < EXECUTOR_MEMLOCK_BYTES {
        return Err(StartupError::LockedMemory { limit: hard, needed });
    }
    // Kernels since 5.12 count most of a ring elsewhere: less than the sum of all executors is often enough.
    let _ = Resource::MEMLOCK.set(hard.min(needed).max(soft), hard);
    tracing::warn!(limit = hard, needed, "locked memory is short for so many shards");
    Ok(())
}

fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = Resource::NOFILE.get() else { return 1_024 };
    match Resource::NOFILE.set(hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// The sysctl, where this kernel has it.
fn io_uring_disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn judge(error: io::Error, disabled: Option<u8>) -> StartupError {
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some(level @ 1..)) => StartupError::IoUringDisabled(level),
        (Some(libc::EPERM | libc::EACCES), _) => StartupError::IoUringForbidden,
        // A seccomp profile may answer like a kernel without the call; the sysctl's file tells them apart.
        (Some(libc::ENOSYS), Some(_)) => StartupError::IoUringForbidden,
        (Some(libc::ENOSYS), None) => StartupError::IoUringMissing,
        (Some(libc::ENOMEM), _) => {
            let limit = Resource::MEMLOCK.get().map_or(0, |(soft, _)| soft);
            StartupError::LockedMemory { limit, needed: EXECUTOR_MEMLOCK_BYTES.max(limit + 1) }
        }
        _ => StartupError::IoUring(error),
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} CPUs, {} paid for, {} descriptors", self.cpus.len(), self.parallelism, self.descriptors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(errno: i32, disabled: Option<u8>) -> String {
        judge(io::Error::from_raw_os_error(errno), disabled).to_string()
    }

    #[test]
    fn every_refusal_names_its_cause_and_its_cure() {
        assert!(said(libc::EPERM, Some(2)).contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(said(libc::EPERM, Some(0)).contains("seccomp"));
        assert!(said(libc::EPERM, None).contains("seccomp"));
        assert!(said(libc::ENOSYS, Some(0)).contains("seccomp"));
        assert!(said(libc::ENOSYS, None).contains("Linux 5.8"));
        assert!(said(libc::ENOMEM, None).contains("ulimit -l"));
        assert!(said(libc::EMFILE, None).contains("cannot be set up"));
    }

    #[test]
    fn the_environment_has_at_least_one_cpu_and_shard() {
        let environment = Environment::look().expect("these tests need io_uring");
        assert!(environment.parallelism >= 1);
        assert!(environment.shards().get() >= 1);
        assert!(environment.descriptors > 0);
    }
}
