//! How a loop that always finds work lets the others live.
//!
//! Sockets and other shards are looked at by the task of the shard's epoll set, which runs when a loop yields: so a loop yields once
//! a turn of about a hundred microseconds. Timers come only between runs of all task queues, and yielding does not bring the executor
//! there. A *reactor pass* does: the task waits for something that the reactor itself hands back the next time it looks. It costs
//! several microseconds; the poller says when one is due.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use glommio::channels::shared_channel::{self, SharedSender};

use super::executor::yield_to_queues;
use super::poller::Poller;
use crate::limits::TURN_US_MAX;

/// Lets the reactor look once at sockets, timers and rings, and every other task that is ready run.
pub async fn reactor_pass() {
    let mut asked = false;
    poll_fn(|cx| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
        HANDLE.with_borrow_mut(|handle| {
            let executor = glommio::executor().id();
            if handle.as_ref().is_none_or(|handle| handle.executor != executor) {
                *handle = Some(Handle::new(executor));
            }
            if let Some(handle) = handle {
                handle.ask(cx);
            }
        });
        Poll::Pending
    })
    .await;
}

/// The stretch of time that a loop may run without a reactor pass.
#[derive(Debug)]
pub struct Turn {
    began: Instant,
}

impl Turn {
    /// A turn that begins now.
    pub fn begin() -> Turn {
        Turn { began: Instant::now() }
    }

    /// Whether the turn has been as long as it may be.
    pub fn is_over(&self) -> bool {
        self.began.elapsed() >= Duration::from_micros(TURN_US_MAX)
    }

    /// Waits for what a round of the loop begins with. Where that takes waiting, the reactor has been looking meanwhile, and the
    /// turn begins with what came: otherwise a loop that was idle would make a pass before it does its first work.
    pub async fn wait_for<F: Future>(&mut self, event: F) -> F::Output {
        let mut event = pin!(event);
        let mut waited = false;
        let output = poll_fn(|cx| {
            let polled = event.as_mut().poll(cx);
            waited |= polled.is_pending();
            polled
        })
        .await;
        if waited {
            *self = Turn::begin();
        }
        output
    }

    /// Lets the others live if the turn is over, and begins the next one. Call it once per round of a busy loop.
    pub async fn pass_if_over(&mut self) {
        if self.is_over() {
            match Poller::here().wants_pass() {
                true => reactor_pass().await,
                false => yield_to_queues().await,
            }
            *self = Turn::begin();
        }
    }
}

thread_local! {
    /// Made once per executor: each one registers itself with the reactor for good.
    static HANDLE: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Half of a channel whose other half never connects. Whoever waits for that is woken by every look of the reactor.
struct Handle {
    executor: usize,
    never: Pin<Box<dyn Future<Output = ()>>>,
    _other_half: SharedSender<()>,
}

impl Handle {
    fn new(executor: usize) -> Handle {
        let (sender, receiver) = shared_channel::new_bounded::<()>(1);
        let never = Box::pin(async move {
            receiver.connect().await;
        });
        Handle { executor, never, _other_half: sender }
    }

    fn ask(&mut self, cx: &mut Context<'_>) {
        let answer = self.never.as_mut().poll(cx);
        assert!(answer.is_pending(), "the other half never connects");
    }
}
