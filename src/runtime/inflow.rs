//! What the streams of a shard's upstreams bring, for readers: what a socket already holds is applied before a reader is answered.
//!
//! ```text
//! reader   bytes read ─▶ the set is looked at ─▶ pullers that have something take a turn ─▶ commands executed
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::poller::{Interest, Poller};
use super::signal::Signal;

/// The upstream links of one shard.
#[derive(Debug, Default)]
pub(super) struct Inflow {
    links: RefCell<Vec<Rc<Link>>>,
    /// A puller has taken a turn, or ended; or it ticked.
    moved: Signal,
    ticks: Cell<u64>,
    /// The tick from which on the last reader is too long ago to count.
    readers_until: Cell<u64>,
}

#[derive(Debug)]
struct Link {
    interest: Rc<Interest>,
    /// Whether its puller has read what it has not applied.
    has_read: Cell<bool>,
    /// Turns that its puller has taken.
    turns: Cell<u64>,
    /// Whether its puller does not read: owners are behind.
    is_held: Cell<bool>,
}

impl Link {
    fn has_something(&self) -> bool {
        !self.is_held.get() && (self.has_read.get() || self.interest.read.is_ready())
    }
}

impl Inflow {
    /// To be called every [`TICK_MS`](crate::limits::TICK_MS).
    pub fn tick(&self) {
        self.ticks.set(self.ticks.get() + 1);
        self.moved.raise();
    }

    /// Whether a reader came within the last tick or two.
    pub fn has_readers(&self) -> bool {
        self.ticks.get() < self.readers_until.get()
    }

    /// Counts a link until what is returned is dropped.
    pub fn begin(self: &Rc<Inflow>, interest: &Rc<Interest>) -> Inlet {
        let link = Rc::new(Link {
            interest: Rc::clone(interest),
            has_read: Cell::new(false),
            turns: Cell::new(0),
            is_held: Cell::new(false),
        });
        self.links.borrow_mut().push(Rc::clone(&link));
        Inlet { inflow: Rc::clone(self), link }
    }

    /// Completes when every puller that has something now has taken a turn, or after two ticks: a stream that does not go on keeps no
    /// reader from what is there.
    pub async fn applied(&self) {
        self.readers_until.set(self.ticks.get() + 2);
        Poller::here().look_again().await;
        let waits_for: Vec<(Rc<Link>, u64)> = self
            .links
            .borrow()
            .iter()
            .filter(|link| link.has_something())
            .map(|link| (Rc::clone(link), link.turns.get()))
            .collect();
        let too_late = self.ticks.get() + 2;
        while self.ticks.get() < too_late {
            let epoch = self.moved.epoch();
            if waits_for.iter().all(|(link, turns)| link.turns.get() != *turns) {
                return;
            }
            self.moved.past(epoch).await;
        }
    }
}

/// A puller's end of a link.
#[derive(Debug)]
pub(super) struct Inlet {
    inflow: Rc<Inflow>,
    link: Rc<Link>,
}

impl Inlet {
    /// Something was read.
    pub fn read(&self) {
        self.link.has_read.set(true);
    }

    /// What had been read is applied, or `is_held`: it stays where it is, as owners are behind.
    pub fn turn(&self, is_held: bool) {
        self.link.turns.set(self.link.turns.get() + 1);
        self.link.has_read.set(false);
        self.link.is_held.set(is_held);
        self.inflow.moved.raise();
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.inflow.links.borrow_mut().retain(|link| !Rc::ptr_eq(link, &self.link));
        self.turn(true);
    }
}
