//! Waiting: for a condition, until a deadline, or until somebody presses Ctrl-C. Nothing here waits for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::Trouble;

/// How the demonstration waits.
pub(super) struct Patience {
    interrupted: Arc<AtomicBool>,
}

impl Patience {
    /// From now on SIGINT, SIGTERM and SIGHUP end every wait instead of the process.
    pub fn new() -> Result<Patience, Trouble> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .map_err(|error| Trouble::new(format!("signals: {error}")))?;
        }
        Ok(Patience { interrupted })
    }

    /// What `look` finds, as soon as it finds something; `what` says in an error what was awaited in vain.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>, Trouble>) -> Result<T, Trouble> {
        let began = Instant::now();
        loop {
            self.check()?;
            if let Some(found) = look()? {
                return Ok(found);
            }
            if began.elapsed() > LIMIT {
                return Err(Trouble::new(format!("waited {} s in vain: {what}", LIMIT.as_secs())));
            }
            std::thread::sleep(PERIOD);
        }
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) -> Result<(), Trouble> {
        let began = Instant::now();
        while let Some(rest) = time.checked_sub(began.elapsed()) {
            self.check()?;
            std::thread::sleep(rest.min(PERIOD * 10));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Trouble> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(Trouble::Interrupted),
            false => Ok(()),
        }
    }
}

/// What nothing here takes on any machine that works.
const LIMIT: Duration = Duration::from_secs(20);
const PERIOD: Duration = Duration::from_millis(2);
