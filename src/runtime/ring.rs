//! A bounded ring between exactly one producer and one consumer, usually two shards: the only thing that crosses cores.
//!
//! It is a queue and a way to sleep on it, no more: what travels (batches, requests, connections) is the caller's
//! choice, and so is what to do when it is full. Neither end can be cloned. A task that drains rings must never wait
//! for space; only one with a socket behind it may, and then it stops reading that socket.
//!
//! ```text
//!              try_push ──▶ ┌───┬───┬───┬───┐ ──▶ pop
//!   Producer                │   │ c │ b │ a │            Consumer
//!              space  ◀──── └───┴───┴───┴───┘ ────▶ ready
//!               (kick per half ring)   (kick only if the consumer sleeps)
//! ```
//!
//! The wake-up protocol is the classic one of two flags: the sleeper registers its waker, raises its flag, **then looks
//! again**; the other end changes the queue, **then looks at the flag**. A sequentially consistent fence stands between
//! the two steps on each side, so at least one of them sees the other. Kicking a parked shard costs several
//! microseconds, so the flag is lowered by whoever kicks: a batch pays for one kick.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::task::{Context, Poll, Waker};

use sync::{Arc, ArrayQueue, AtomicBool, AtomicWaker, Ordering, fence};

/// Makes a ring of `capacity` items.
///
/// # Panics
/// If `capacity` is 0.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let shared = Arc::new(Shared { queue: ArrayQueue::new(capacity), consumer: End::new(), producer: End::new() });
    let producer = Producer { shared: Arc::clone(&shared), not_sync: PhantomData };
    let announce_every = (capacity / 2).max(1);
    let consumer = Consumer { shared, announce_every, unannounced: 0, not_sync: PhantomData };
    (producer, consumer)
}

/// The other end of the ring is gone; for a consumer: and everything it had pushed is popped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the other end of the ring is gone")]
pub struct Closed;

/// The end that pushes. It can be sent to another thread, not shared between threads.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Producer<T> {
    /// Pushes `item` and wakes the consumer if it sleeps. If the consumer is gone, the item is never popped.
    ///
    /// # Errors
    /// If the ring is full; the item comes back.
    #[inline]
    pub fn try_push(&mut self, item: T) -> Result<(), T> {
        self.shared.queue.push(item)?;
        self.shared.consumer.kick();
        Ok(())
    }

    /// Pushes from the front of `items` as many as there is room for, with at most one wake-up. Returns how many.
    pub fn push_from(&mut self, items: &mut VecDeque<T>) -> usize {
        let mut pushed = 0;
        while let Some(item) = items.pop_front() {
            match self.shared.queue.push(item) {
                Ok(()) => pushed += 1,
                Err(item) => {
                    items.push_front(item);
                    break;
                }
            }
        }
        if pushed > 0 {
            self.shared.consumer.kick();
        }
        pushed
    }

    /// Waits until there is space, or the consumer is gone. Cancel-safe.
    ///
    /// # Errors
    /// If the consumer is gone.
    pub async fn space(&mut self) -> Result<(), Closed> {
        poll_fn(|cx| self.poll_space(cx)).await
    }

    /// [`space`](Self::space) for hand-written futures: registers the task when it is pending.
    pub fn poll_space(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let end = &self.shared.producer;
        if let Some(answer) = self.look() {
            return Poll::Ready(answer);
        }
        end.lie_down(cx.waker());
        match self.look() {
            Some(answer) => {
                end.get_up();
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }

    /// Waits until the consumer is gone. Cancel-safe.
    pub async fn closed(&mut self) {
        poll_fn(|cx| {
            let end = &self.shared.producer;
            if !self.is_closed() {
                end.lie_down(cx.waker());
            }
            if !self.is_closed() {
                return Poll::Pending;
            }
            end.get_up();
            Poll::Ready(())
        })
        .await;
    }

    /// Items in the ring.
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether nothing is in the ring.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Whether a push would fail now.
    pub fn is_full(&self) -> bool {
        self.shared.queue.is_full()
    }

    /// Items that the ring can hold.
    pub fn capacity(&self) -> usize {
        self.shared.queue.capacity()
    }

    /// Whether the consumer is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.consumer.is_gone()
    }

    fn look(&self) -> Option<Result<(), Closed>> {
        if self.is_closed() {
            Some(Err(Closed))
        } else if !self.is_full() {
            Some(Ok(()))
        } else {
            None
        }
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.producer.leave();
        self.shared.consumer.kick();
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

/// The end that pops. It can be sent to another thread, not shared between threads.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// Half the capacity, at least 1: a sleeping producer is woken once per this many pops, and when the ring runs dry.
    announce_every: usize,
    /// Pops that a sleeping producer has not been told of; below `announce_every`.
    unannounced: usize,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Consumer<T> {
    /// Pops the oldest item.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let item = self.shared.queue.pop();
        match &item {
            Some(_) => {
                self.unannounced += 1;
                if self.unannounced >= self.announce_every {
                    self.announce();
                }
            }
            None if self.unannounced > 0 => self.announce(),
            None => {}
        }
        item
    }

    /// Waits until there is something to pop, or the producer is gone and there never will be. Cancel-safe.
    ///
    /// # Errors
    /// If the producer is gone and the ring is empty.
    pub async fn ready(&mut self) -> Result<(), Closed> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// [`ready`](Self::ready) for a task that waits for several rings: registers the task when it is pending.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        if let Some(answer) = self.look() {
            return Poll::Ready(answer);
        }
        if self.unannounced > 0 {
            self.announce();
        }
        let end = &self.shared.consumer;
        end.lie_down(cx.waker());
        match self.look() {
            Some(answer) => {
                end.get_up();
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }

    /// Items in the ring.
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether nothing is in the ring.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    /// Whether the ring is full.
    pub fn is_full(&self) -> bool {
        self.shared.queue.is_full()
    }

    /// Whether the producer is gone and nothing is left to pop.
    pub fn is_closed(&self) -> bool {
        self.look() == Some(Err(Closed))
    }

    /// What `ready` answers now. The producer's last push precedes its leaving, so the flag is read first.
    fn look(&self) -> Option<Result<(), Closed>> {
        let gone = self.shared.producer.is_gone();
        if !self.is_empty() {
            Some(Ok(()))
        } else if gone {
            Some(Err(Closed))
        } else {
            None
        }
    }

    fn announce(&mut self) {
        self.unannounced = 0;
        self.shared.producer.kick();
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.shared.consumer.leave();
        self.shared.producer.kick();
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("len", &self.len()).field("announce_every", &self.announce_every).finish()
    }
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    consumer: End,
    producer: End,
}

/// What one end shows the other.
struct End {
    /// Raised by the owner before it sleeps, lowered by whoever kicks it.
    asleep: AtomicBool,
    /// Raised once, by the owner's drop.
    gone: AtomicBool,
    /// The owner's task. Between the two runtimes' wakers, so that a busy task is never woken twice for one sleep.
    waker: AtomicWaker,
}

impl End {
    fn new() -> End {
        End { asleep: AtomicBool::new(false), gone: AtomicBool::new(false), waker: AtomicWaker::new() }
    }

    /// The owner's first step of sleeping. It must look at the queue again after it.
    fn lie_down(&self, waker: &Waker) {
        self.waker.register(waker);
        // A swap, like the one that lowers it: it orders this sleep after the kick that ended the last one.
        self.asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// The owner found something to do after all.
    fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// The other end has changed the queue, or left.
    #[inline]
    fn kick(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// The owner leaves. Its waker goes with it: a task's last waker is best dropped on its own thread.
    fn leave(&self) {
        self.gone.store(true, Ordering::Release);
        self.waker.forget();
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

#[cfg(not(loom))]
mod sync {
    pub use std::sync::Arc;
    pub use std::sync::atomic::{AtomicBool, Ordering, fence};

    pub use crossbeam_queue::ArrayQueue;

    /// One task's waker, which another thread may wake.
    pub struct AtomicWaker(atomic_waker::AtomicWaker);

    impl AtomicWaker {
        pub fn new() -> AtomicWaker {
            AtomicWaker(atomic_waker::AtomicWaker::new())
        }

        pub fn register(&self, waker: &std::task::Waker) {
            self.0.register(&crate::runtime::poller::doorstep(waker));
        }

        pub fn wake(&self) {
            self.0.wake();
        }

        pub fn forget(&self) {
            drop(self.0.take());
        }
    }
}

/// The same names under the model checker. The model queue orders memory no more strongly than the real one: an
/// emptiness test is two loads, so that a missing fence shows.
#[cfg(loom)]
mod sync {
    use std::task::Waker;

    use loom::sync::Mutex;
    use loom::sync::atomic::AtomicUsize;

    pub use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicBool, Ordering, fence};

    pub struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub fn new() -> AtomicWaker {
            AtomicWaker(loom::future::AtomicWaker::new())
        }

        pub fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub fn wake(&self) {
            self.0.wake();
        }

        pub fn forget(&self) {
            drop(self.0.take_waker());
        }
    }

    pub struct ArrayQueue<T> {
        /// Items popped, written by the consumer.
        head: AtomicUsize,
        /// Items pushed, written by the producer.
        tail: AtomicUsize,
        slots: Vec<Mutex<Option<T>>>,
    }

    impl<T> ArrayQueue<T> {
        pub fn new(capacity: usize) -> ArrayQueue<T> {
            let slots = (0..capacity).map(|_| Mutex::new(None)).collect();
            ArrayQueue { head: AtomicUsize::new(0), tail: AtomicUsize::new(0), slots }
        }

        pub fn push(&self, item: T) -> Result<(), T> {
            let tail = self.tail.load(Ordering::Relaxed);
            if tail - self.head.load(Ordering::Acquire) == self.slots.len() {
                return Err(item);
            }
            *self.slots[tail % self.slots.len()].lock().unwrap() = Some(item);
            self.tail.store(tail + 1, Ordering::Release);
            Ok(())
        }

        pub fn pop(&self) -> Option<T> {
            let head = self.head.load(Ordering::Relaxed);
            if self.tail.load(Ordering::Acquire) == head {
                return None;
            }
            let item = self.slots[head % self.slots.len()].lock().unwrap().take();
            self.head.store(head + 1, Ordering::Release);
            item
        }

        pub fn len(&self) -> usize {
            let head = self.head.load(Ordering::Acquire);
            self.tail.load(Ordering::Acquire).saturating_sub(head)
        }

        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        pub fn is_full(&self) -> bool {
            self.len() == self.slots.len()
        }

        pub fn capacity(&self) -> usize {
            self.slots.len()
        }
    }
}

#[cfg(all(test, loom))]
mod model {
    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// Three preemptions take seconds, four a minute; `LOOM_MAX_PREEMPTIONS` asks for more.
    fn bounded() -> loom::model::Builder {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = model.preemption_bound.or(Some(3));
        model
    }

    /// Every interleaving of a consumer that sleeps whenever the ring is empty and a producer that sleeps whenever it
    /// is full. A lost wake-up is a deadlock, which the checker reports.
    fn all_items_arrive(capacity: usize, items: usize) {
        bounded().check(move || {
            let (mut producer, mut consumer) = ring::<usize>(capacity);
            let pushing = thread::spawn(move || {
                block_on(async move {
                    for item in 0..items {
                        producer.space().await.unwrap();
                        producer.try_push(item).unwrap();
                    }
                });
            });
            block_on(async move {
                let mut expected = 0;
                while consumer.ready().await.is_ok() {
                    while let Some(item) = consumer.pop() {
                        assert_eq!(item, expected);
                        expected += 1;
                    }
                }
                assert_eq!(expected, items);
            });
            pushing.join().unwrap();
        });
    }

    #[test]
    fn no_wakeup_is_lost_in_a_ring_of_one() {
        all_items_arrive(1, 2);
    }

    #[test]
    fn no_wakeup_is_lost_in_a_ring_of_two() {
        all_items_arrive(2, 3);
    }

    #[test]
    fn a_sleeping_producer_learns_that_the_consumer_left() {
        bounded().check(|| {
            let (mut producer, mut consumer) = ring::<usize>(1);
            producer.try_push(0).unwrap();
            let popping = thread::spawn(move || {
                consumer.pop();
            });
            block_on(async move {
                while producer.space().await.is_ok() {
                    let _ = producer.try_push(1);
                }
            });
            popping.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wakes {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn items_come_out_in_order_and_a_full_ring_gives_them_back() {
        let (mut producer, mut consumer) = ring(2);
        assert_eq!(producer.try_push('a'), Ok(()));
        assert_eq!(producer.try_push('b'), Ok(()));
        assert_eq!(producer.try_push('c'), Err('c'));
        assert!(producer.is_full());
        assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some('a'), Some('b'), None));
    }

    #[test]
    fn a_batch_kicks_a_sleeping_consumer_once_and_a_waking_one_never() {
        let (mut producer, mut consumer) = ring(8);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        assert!(consumer.poll_ready(&mut cx).is_pending());
        for item in 0..3 {
            producer.try_push(item).unwrap();
        }
        assert_eq!(producer.push_from(&mut (3..6).collect()), 3);
        assert_eq!(wakes.count(), 1);
        assert_eq!(consumer.poll_ready(&mut cx), Poll::Ready(Ok(())));
        producer.try_push(6).unwrap();
        assert_eq!(wakes.count(), 1);
    }

    #[test]
    fn what_does_not_fit_stays_in_its_order() {
        let (mut producer, mut consumer) = ring(2);
        let mut overflow = VecDeque::from([1, 2, 3]);
        assert_eq!(producer.push_from(&mut overflow), 2);
        assert_eq!(overflow, [3]);
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(producer.push_from(&mut overflow), 1);
        assert_eq!((consumer.pop(), consumer.pop()), (Some(2), Some(3)));
    }

    #[test]
    fn a_sleeping_producer_is_woken_once_per_half_ring() {
        let (mut producer, mut consumer) = ring(4);
        assert_eq!(producer.push_from(&mut (0..4).collect()), 4);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        assert!(producer.poll_space(&mut cx).is_pending());
        consumer.pop();
        assert_eq!(wakes.count(), 0);
        consumer.pop();
        assert_eq!(wakes.count(), 1);
        assert_eq!(producer.poll_space(&mut cx), Poll::Ready(Ok(())));
    }

    #[test]
    fn each_end_learns_that_the_other_is_gone() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);

        let (mut producer, mut consumer) = ring(2);
        assert!(consumer.poll_ready(&mut cx).is_pending());
        producer.try_push(1).unwrap();
        drop(producer);
        assert!(!consumer.is_closed(), "what was pushed is popped first");
        assert_eq!(consumer.poll_ready(&mut cx), Poll::Ready(Ok(())));
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(consumer.poll_ready(&mut cx), Poll::Ready(Err(Closed)));
        assert_eq!(wakes.count(), 1);

        let (mut producer, consumer) = ring(1);
        producer.try_push(1).unwrap();
        assert!(producer.poll_space(&mut cx).is_pending());
        drop(consumer);
        assert_eq!(producer.poll_space(&mut cx), Poll::Ready(Err(Closed)));
        assert_eq!(wakes.count(), 2);
    }
}
