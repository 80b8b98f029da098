//! Requests from one shard to another, and their replies: two rings of one capacity.
//!
//! The caller holds as many credits as the lane has capacity. A request takes one, a reply that was popped gives it
//! back. So whatever is under way has its place in the reply ring before it is sent, the callee's reply can never find
//! that ring full, and a task that drains a lane never waits.
//!
//! ```text
//!   Caller ──▶ [ requests ] ──▶ Callee        in requests + in the callee's hands + in replies  ≤  capacity
//!          ◀── [ replies  ] ◀──
//! ```

use std::task::{Context, Poll};

use super::ring::{Closed, Consumer, Producer, ring};

/// Makes a lane on which `capacity` requests may be under way.
///
/// # Panics
/// If `capacity` is 0.
pub fn lane<Req, Rep>(capacity: usize) -> (Caller<Req, Rep>, Callee<Req, Rep>) {
    let (requests_in, requests_out) = ring(capacity);
    let (replies_in, replies_out) = ring(capacity);
    let caller = Caller { requests: requests_in, replies: replies_out, under_way: 0 };
    let callee = Callee { requests: requests_out, replies: replies_in, owed: 0 };
    (caller, callee)
}

/// The shard that asks.
#[derive(Debug)]
pub struct Caller<Req, Rep> {
    requests: Producer<Req>,
    replies: Consumer<Rep>,
    /// Requests whose reply has not been popped; at most the capacity.
    under_way: usize,
}

impl<Req, Rep> Caller<Req, Rep> {
    /// Sends a request. Never waits.
    ///
    /// # Errors
    /// If as many requests are under way as the lane holds; the request comes back. Popping a reply makes room.
    pub fn try_call(&mut self, request: Req) -> Result<(), Req> {
        if self.credits() == 0 {
            return Err(request);
        }
        self.requests.try_push(request)?;
        self.under_way += 1;
        Ok(())
    }

    /// The oldest reply that has come.
    pub fn pop(&mut self) -> Option<Rep> {
        let reply = self.replies.pop()?;
        self.under_way -= 1;
        Some(reply)
    }

    /// How many requests may be sent now.
    pub fn credits(&self) -> usize {
        self.requests.capacity() - self.under_way
    }

    /// Requests whose reply has not been popped.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Registers the task until there is a reply to pop.
    /// The callee being gone shows once what it replied is popped.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.replies.poll_ready(cx)
    }

    /// Waits for a reply to pop. Cancel-safe.
    ///
    /// # Errors
    /// If the callee is gone and all its replies are popped.
    pub async fn ready(&mut self) -> Result<(), Closed> {
        self.replies.ready().await
    }
}

/// The shard that answers.
#[derive(Debug)]
pub struct Callee<Req, Rep> {
    requests: Consumer<Req>,
    replies: Producer<Rep>,
    /// Requests popped and not yet replied to.
    owed: usize,
}

impl<Req, Rep> Callee<Req, Rep> {
    /// The oldest request. Exactly one [`reply`](Self::reply) is owed for it, in any order.
    pub fn pop(&mut self) -> Option<Req> {
        let request = self.requests.pop()?;
        self.owed += 1;
        Some(request)
    }

    /// Replies. Never waits: the place was reserved when the request was sent.
    ///
    /// # Panics
    /// If no reply is owed.
    pub fn reply(&mut self, reply: Rep) {
        assert!(self.owed > 0, "one reply a request");
        self.owed -= 1;
        let pushed = self.replies.try_push(reply);
        assert!(pushed.is_ok(), "the caller's credits reserve the place of every reply");
    }

    /// Requests popped and not yet replied to.
    pub fn owed(&self) -> usize {
        self.owed
    }

    /// Registers the task until there is a request to pop.
    /// The caller being gone shows once what it asked is popped.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.requests.poll_ready(cx)
    }

    /// Waits for a request to pop. Cancel-safe.
    ///
    /// # Errors
    /// If the caller is gone and all its requests are popped.
    pub async fn ready(&mut self) -> Result<(), Closed> {
        self.requests.ready().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_finds_its_place_however_late_it_comes() {
        for capacity in [1, 2, 3, 8] {
            let (mut caller, mut callee) = lane::<usize, usize>(capacity);
            let (mut sent, mut received, mut held) = (0, 0, Vec::new());
            for round in 0..1_000 {
                while caller.try_call(sent).is_ok() {
                    sent += 1;
                }
                assert_eq!(caller.under_way(), capacity, "all credits are out");
                while let Some(request) = callee.pop() {
                    held.push(request);
                }
                // Replies to some of what it holds, the newest first.
                for _ in 0..=(round % capacity) {
                    if let Some(request) = held.pop() {
                        callee.reply(request);
                    }
                }
                while caller.pop().is_some() {
                    received += 1;
                }
                assert_eq!(sent - received, caller.under_way());
            }
        }
    }

    #[test]
    #[should_panic(expected = "one reply a request")]
    fn a_reply_that_nobody_asked_for_is_a_mistake() {
        let (_caller, mut callee) = lane::<(), ()>(1);
        callee.reply(());
    }
}
