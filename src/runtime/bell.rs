//! How other threads wake a shard that sleeps in its set: a flag that says that they have something for it, and a descriptor that
//! is written only where it sleeps.
//!
//! The same two flags as between the ends of a [`ring`](super::ring): the sleeper raises `asleep`, **then looks whether it rang**;
//! the ringer raises `rung`, **then looks whether the shard sleeps**. All four are sequentially consistent, so at least one of
//! them sees the other.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

/// The bell of one shard.
#[derive(Debug)]
pub(super) struct Bell {
    rung: AtomicBool,
    asleep: AtomicBool,
    /// An eventfd in the shard's set.
    event: OwnedFd,
}

impl Bell {
    pub fn new(event: OwnedFd) -> Bell {
        Bell { rung: AtomicBool::new(false), asleep: AtomicBool::new(false), event }
    }

    /// The shard's first step of sleeping. `false`: it has rung, and the shard must not sleep.
    pub fn lie_down(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        if !self.rung.load(Ordering::SeqCst) {
            return true;
        }
        self.get_up();
        false
    }

    /// The shard is awake.
    pub fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Whether it has rung since the last look.
    pub fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::SeqCst) && self.asleep.load(Ordering::SeqCst) {
            // It fails only where 2^64 are unread, and then the descriptor is ready.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}
