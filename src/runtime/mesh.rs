//! A lane from every shard to every other.
//!
//! ```text
//!              to 0      to 1      to 2
//!   shard 0     -       caller    caller        callee of 1 and 2
//!   shard 1   caller      -       caller        callee of 0 and 2
//!   shard 2   caller    caller      -           callee of 0 and 1
//! ```

use std::task::{Context, Poll};

use crate::id::{ShardCount, ShardId};

use super::lane::{Callee, Caller, lane};

/// Makes the ends of all shards, in order. Each lane carries `capacity` requests at a time.
///
/// # Panics
/// If `capacity` is 0.
pub fn mesh<Req, Rep>(shards: ShardCount, capacity: usize) -> Vec<Mesh<Req, Rep>> {
    let n = shards.get() as usize;
    let mut ends: Vec<Mesh<Req, Rep>> =
        shards.shards().map(|me| Mesh { me, callers: Vec::with_capacity(n), callees: Vec::with_capacity(n) }).collect();
    for from in 0..n {
        for to in 0..n {
            let (caller, callee) = (from != to).then(|| lane(capacity)).unzip();
            ends[from].callers.push(caller);
            ends[to].callees.push(callee);
        }
    }
    ends
}

/// One shard's ends of all its lanes.
#[derive(Debug)]
pub struct Mesh<Req, Rep> {
    me: ShardId,
    /// By shard; none for itself.
    callers: Vec<Option<Caller<Req, Rep>>>,
    /// By shard; none for itself.
    callees: Vec<Option<Callee<Req, Rep>>>,
}

impl<Req, Rep> Mesh<Req, Rep> {
    /// The shard whose ends these are.
    pub fn me(&self) -> ShardId {
        self.me
    }

    /// The lane on which `to` is asked.
    ///
    /// # Panics
    /// If `to` is this shard itself, or none of the mesh.
    pub fn caller(&mut self, to: ShardId) -> &mut Caller<Req, Rep> {
        self.callers[to.index()].as_mut().expect("a shard has no lane to itself")
    }

    /// The lane on which `from` asks.
    ///
    /// # Panics
    /// If `from` is this shard itself, or none of the mesh.
    pub fn callee(&mut self, from: ShardId) -> &mut Callee<Req, Rep> {
        self.callees[from.index()].as_mut().expect("a shard has no lane to itself")
    }

    /// The lanes to all others, in order.
    pub fn callers(&mut self) -> impl Iterator<Item = (ShardId, &mut Caller<Req, Rep>)> {
        numbered(&mut self.callers)
    }

    /// The lanes from all others, in order.
    pub fn callees(&mut self) -> impl Iterator<Item = (ShardId, &mut Callee<Req, Rep>)> {
        numbered(&mut self.callees)
    }

    /// Waits until some lane has a request or a reply to pop. Lanes whose other end is gone no longer count; with none
    /// left it waits for ever. Cancel-safe.
    pub async fn ready(&mut self) {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// [`ready`](Self::ready) for hand-written futures: registers the task on every lane.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = false;
        for caller in self.callers.iter_mut().flatten() {
            ready |= matches!(caller.poll_ready(cx), Poll::Ready(Ok(())));
        }
        for callee in self.callees.iter_mut().flatten() {
            ready |= matches!(callee.poll_ready(cx), Poll::Ready(Ok(())));
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn numbered<T>(lanes: &mut [Option<T>]) -> impl Iterator<Item = (ShardId, &mut T)> {
    lanes.iter_mut().enumerate().filter_map(|(i, lane)| Some((ShardId::new(i as u16), lane.as_mut()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_joined_in_both_directions_and_none_to_itself() {
        let count = ShardCount::new(3).unwrap();
        let mut ends = mesh::<(u16, u16), ()>(count, 1);
        for end in &mut ends {
            let me = end.me();
            assert_eq!(end.callers().count(), 2);
            for (to, caller) in end.callers() {
                caller.try_call((me.get(), to.get())).unwrap();
            }
        }
        for end in &mut ends {
            let me = end.me();
            for (from, callee) in end.callees() {
                assert_eq!(callee.pop(), Some((from.get(), me.get())));
            }
        }
    }
}
