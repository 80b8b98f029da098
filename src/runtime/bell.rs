//! How other threads wake a shard that sleeps in its set: a flag that says that they have something for it, and a descriptor that
//! is written only where it sleeps.
//!
//! The same two flags as between the ends of a [`ring`](super::ring): the sleeper raises `asleep`, **then looks whether it rang**;
//! the ringer raises `rung`, **then looks whether the shard sleeps**. A sequentially consistent fence stands between the two steps
//! on each side, so at least one of them sees the other.

#[cfg(not(loom))]
use std::{
    os::fd::OwnedFd,
    sync::Arc,
    task::{Wake, Waker},
};

#[cfg(not(loom))]
use crossbeam_queue::SegQueue;

use sync::{AtomicBool, Ordering, fence};

/// The two flags.
#[derive(Debug)]
struct Flags {
    rung: AtomicBool,
    asleep: AtomicBool,
}

impl Flags {
    fn new() -> Flags {
        Flags { rung: AtomicBool::new(false), asleep: AtomicBool::new(false) }
    }

    fn lie_down(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let may_sleep = !self.rung.load(Ordering::Relaxed);
        if !may_sleep {
            self.get_up();
        }
        may_sleep
    }

    fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::AcqRel)
    }

    /// `true`: it sleeps, and is to be woken.
    fn ring(&self) -> bool {
        let is_first = !self.rung.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        is_first && self.asleep.load(Ordering::Relaxed)
    }
}

/// The bell of one shard.
#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct Bell {
    flags: Flags,
    /// Who is to be woken.
    knocks: SegQueue<Arc<Knock>>,
    /// An eventfd in the shard's set.
    event: OwnedFd,
}

/// What a task of the shard leaves with another thread, which is to wake it.
#[cfg(not(loom))]
#[derive(Debug)]
struct Knock {
    task: Waker,
    bell: Arc<Bell>,
}

#[cfg(not(loom))]
impl Bell {
    pub fn new(event: OwnedFd) -> Bell {
        Bell { flags: Flags::new(), knocks: SegQueue::new(), event }
    }

    /// A waker that wakes `task`, which is of this shard, from any thread. Woken or not, it ends on the shard's own.
    pub fn knock(self: &Arc<Bell>, task: &Waker) -> Waker {
        Waker::from(Arc::new(Knock { task: task.clone(), bell: Arc::clone(self) }))
    }

    /// Wakes the shard if it sleeps.
    pub fn ring(&self) {
        if self.flags.ring() {
            // It fails only where the count is full, and then the descriptor is ready.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// The shard's first step of sleeping. `false`: it has rung, and the shard must not sleep.
    pub fn lie_down(&self) -> bool {
        self.flags.lie_down()
    }

    /// The shard is awake.
    pub fn get_up(&self) {
        self.flags.get_up();
    }

    /// Wakes whoever it has rung for since the last look. `true`: it had rung.
    pub fn answer(&self) -> bool {
        let has_rung = self.flags.has_rung();
        if has_rung {
            while let Some(knock) = self.knocks.pop() {
                knock.task.wake_by_ref();
            }
        }
        has_rung
    }
}

#[cfg(not(loom))]
impl Wake for Knock {
    fn wake(self: Arc<Self>) {
        let bell = Arc::clone(&self.bell);
        bell.knocks.push(self);
        bell.ring();
    }
}

#[cfg(not(loom))]
mod sync {
    pub use std::sync::atomic::{AtomicBool, Ordering, fence};
}

#[cfg(loom)]
mod sync {
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

#[cfg(all(test, loom))]
mod model {
    use loom::sync::{Arc, Notify};
    use loom::thread;

    use super::*;

    /// Every interleaving of a shard that sleeps until all ringers have done their work, which each announces. A lost wake-up is a
    /// deadlock, which the checker reports.
    fn nobody_is_left_asleep(ringers: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = model.preemption_bound.or(Some(3));
        model.check(move || {
            let flags = Arc::new(Flags::new());
            let event = Arc::new(Notify::new());
            let work: Vec<_> = (0..ringers).map(|_| Arc::new(AtomicBool::new(false))).collect();
            let ringing: Vec<_> = work
                .iter()
                .map(|done| {
                    let (flags, event, done) = (Arc::clone(&flags), Arc::clone(&event), Arc::clone(done));
                    thread::spawn(move || {
                        done.store(true, Ordering::Release);
                        if flags.ring() {
                            event.notify();
                        }
                    })
                })
                .collect();
            let mut seen = false;
            while !seen {
                if flags.lie_down() {
                    event.wait();
                    flags.get_up();
                }
                if flags.has_rung() {
                    seen = work.iter().all(|done| done.load(Ordering::Acquire));
                }
            }
            ringing.into_iter().for_each(|ringer| ringer.join().unwrap());
        });
    }

    #[test]
    fn one_ringer_is_never_missed() {
        nobody_is_left_asleep(1);
    }

    #[test]
    fn two_ringers_are_never_missed() {
        nobody_is_left_asleep(2);
    }
}
