//! The orderly end of the process: a flag that every shard sees within a tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the end has begun. Clones share it; any thread may begin it, once is for good.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    begun: Arc<AtomicBool>,
}

impl Shutdown {
    /// Not begun.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Begins the end. [`Shard::shutdown`](super::executor::Shard::shutdown) of every shard completes within a tick.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Whether the end has begun.
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Begins the end on SIGINT and SIGTERM; a second one ends the process at once, with 128 + its number. Starts an
    /// ordinary thread that lives as long as the process. Call it before the executors are started.
    ///
    /// # Errors
    /// If the handlers cannot be installed or the thread cannot be started.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let shutdown = self.clone();
        std::thread::Builder::new().name("kevy-signals".into()).spawn(move || {
            for signal in signals.forever() {
                if shutdown.is_begun() {
                    std::process::exit(128 + signal);
                }
                tracing::info!(signal, "shutting down");
                shutdown.begin();
            }
        })?;
        Ok(())
    }
}
