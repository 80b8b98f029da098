//! Tells tasks of one shard that something happened. No queue: whoever waits looks for itself what there is.
//!
//! A waiter remembers the epoch that it has seen, so that nothing is missed between looking and waiting.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// An event of one shard.
#[derive(Debug, Default)]
pub struct Signal {
    epoch: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Signal {
    /// A signal that was never raised.
    pub fn new() -> Signal {
        Signal::default()
    }

    /// How often it was raised.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Wakes everyone who waits.
    pub fn raise(&self) {
        self.epoch.set(self.epoch.get() + 1);
        // Waking runs nothing here and now, so that no waiter can register while they are taken.
        for waker in self.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// Waits until it has been raised since `epoch`. Cancel-safe.
    pub async fn past(&self, epoch: u64) {
        poll_fn(|cx| {
            if self.epoch.get() != epoch {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
