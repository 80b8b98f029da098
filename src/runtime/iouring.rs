//! Asks the kernel whether it gives this process an io_uring. The executors' library panics where it does not.
#![allow(unsafe_code, reason = "io_uring_setup has no wrapper in std or libc; the safe face is `probe`")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `struct io_uring_params` of the kernel's interface: 120 bytes, all zero for a ring without options.
#[repr(C, align(8))]
struct Params([u8; 120]);

/// Sets up a ring of four entries and gives it back.
///
/// # Errors
/// What the kernel says.
pub(super) fn probe() -> io::Result<()> {
    let mut params = Params([0; 120]);
    // SAFETY: the kernel reads and writes the 120 bytes of `params`, which outlives the call and is aligned, and maps
    // no memory until it is asked to.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4_u32, &raw mut params) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is a descriptor that was just opened, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    Ok(())
}

#[cfg(test)]
mod tests {
    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn the_probe_answers_like_the_kernel_and_leaves_nothing_open() {
        let answers: Vec<_> = (0..1_000).map(|_| super::probe().map_err(|e| e.raw_os_error())).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "the answer does not change");
        assert!(open_descriptors() < 900, "each probe closes its ring");
    }
}
