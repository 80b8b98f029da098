//! Tells tasks of one shard that something happened. No queue: whoever waits looks for itself what there is.
//!
//! A waiter remembers the epoch that it has seen, so that nothing is missed between looking and waiting. One that gives up
//! takes its waker with it: what is never raised keeps nobody.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// An event of one shard.
#[derive(Debug, Default)]
pub struct Signal {
    epoch: Cell<u64>,
    /// Each under its own number.
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next_waiting: Cell<u64>,
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
        // Taken out first: a task's last waker may end it, and with it others that wait.
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_values().for_each(Waker::wake);
    }

    /// Waits until it has been raised since `epoch`. Cancel-safe.
    pub fn past(&self, epoch: u64) -> impl Future<Output = ()> + '_ {
        let number = self.next_waiting.get();
        self.next_waiting.set(number + 1);
        Past { signal: self, epoch, number }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.borrow().len()
    }
}

/// The future of [`Signal::past`].
struct Past<'a> {
    signal: &'a Signal,
    epoch: u64,
    number: u64,
}

impl Future for Past<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.signal.epoch.get() != self.epoch {
            return Poll::Ready(());
        }
        let before = self.signal.waiting.borrow_mut().insert(self.number, cx.waker().clone());
        drop(before);
        Poll::Pending
    }
}

impl Drop for Past<'_> {
    fn drop(&mut self) {
        let waker = self.signal.waiting.borrow_mut().remove(&self.number);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[test]
    fn who_gives_up_leaves_nothing_behind() {
        let signal = Signal::new();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..10 {
            let mut past = pin!(signal.past(signal.epoch()));
            assert!(past.as_mut().poll(&mut cx).is_pending());
            assert_eq!(signal.waiting(), 1);
        }
        assert_eq!(signal.waiting(), 0);
        let mut past = pin!(signal.past(signal.epoch()));
        assert!(past.as_mut().poll(&mut cx).is_pending());
        signal.raise();
        assert!(past.as_mut().poll(&mut cx).is_ready());
    }
}
