//! What a node remembers of one client.

use std::rc::Rc;

use super::clients::Client;
use super::transaction::{Queue, Watching};
use crate::id::{Generation, Offset, ShardCount, ShardId};
use crate::resp::Protocol;
use crate::shard::Recorded;

/// One client's settings and state.
#[derive(Debug)]
pub(super) struct ClientSession {
    /// As others on its shard know it.
    pub me: Rc<Client>,
    /// The protocol it speaks.
    pub protocol: Protocol,
    /// What it has written.
    pub written: Written,
    /// Which replies it wants.
    pub replies: Replies,
    /// Whether it has said the password, or none is wanted.
    pub authenticated: bool,
    /// The commands since `MULTI`.
    pub queue: Option<Queue>,
    /// The keys that the next transaction depends on.
    pub watching: Option<Watching>,
    /// Bytes of replies that were over its limit, so that others were not kept: it goes.
    pub left_out: Option<usize>,
}

/// Which replies a client wants, as it said with `CLIENT REPLY`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Replies {
    /// All.
    On,
    /// None.
    Off,
    /// Not this one, nor the next one.
    SkipNext,
    /// Not this one.
    Skip,
}

/// Where each shard's stream stood after the last write of one client there: what `WAIT` waits for.
#[derive(Clone, Default, Debug)]
pub(super) struct Written {
    /// The history that the offsets are of; nothing was written before the first.
    generation: Option<Generation>,
    /// By shard, as far as any was written to; `None`: not this one.
    next: Vec<Option<Offset>>,
}

impl Written {
    /// The client's commands recorded something on `shard`. Of another history than before: that of before is given up, and nobody
    /// has it.
    pub fn note(&mut self, shard: ShardId, recorded: Recorded) {
        if self.generation != Some(recorded.generation) {
            self.generation = Some(recorded.generation);
            self.next.clear();
        }
        if self.next.len() <= shard.index() {
            self.next.resize(shard.index() + 1, None);
        }
        self.next[shard.index()] = Some(recorded.next);
    }

    /// The history, and the shards to which the client wrote with the offset up to which they must be acknowledged. Of a client
    /// that wrote nothing: all shards, from the beginning, so that whoever is whole counts.
    pub fn parts(&self, shards: ShardCount) -> (Option<Generation>, Vec<(ShardId, Offset)>) {
        let written: Vec<_> =
            shards.shards().zip(&self.next).filter_map(|(shard, next)| Some((shard, (*next)?))).collect();
        match self.generation {
            Some(_) => (self.generation, written),
            None => (None, shards.shards().map(|shard| (shard, Offset::ZERO)).collect()),
        }
    }
}

impl ClientSession {
    /// A client that has said nothing yet; `authenticated`: nothing is wanted of it.
    pub fn new(me: Rc<Client>, authenticated: bool) -> ClientSession {
        ClientSession {
            me,
            protocol: Protocol::Resp2,
            written: Written::default(),
            replies: Replies::On,
            authenticated,
            queue: None,
            watching: None,
            left_out: None,
        }
    }

    /// Changes the protocol that it speaks.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.me.protocol.set(protocol);
    }

    /// Forgets what it said about itself and what it began.
    pub fn reset(&mut self, authenticated: bool) {
        let written = std::mem::take(&mut self.written);
        *self = ClientSession { written, ..ClientSession::new(Rc::clone(&self.me), authenticated) };
        self.me.protocol.set(Protocol::Resp2);
        self.me.name.borrow_mut().clear();
    }

    /// It is in no transaction any more, and watches nothing.
    pub fn end_transaction(&mut self) {
        (self.queue, self.watching) = (None, None);
        self.me.queued.set(None);
        self.me.watches.set(0);
    }

    /// Whether it wants the reply to the command that is executed now.
    pub fn wants_reply(&self) -> bool {
        matches!(self.replies, Replies::On | Replies::SkipNext)
    }

    /// Takes the reply that begins at `from` back, where the client does not want it.
    pub fn keep_wanted(&mut self, from: usize, out: &mut Vec<u8>) {
        match self.replies {
            Replies::On => return,
            Replies::Off => {}
            Replies::SkipNext => self.replies = Replies::Skip,
            Replies::Skip => self.replies = Replies::On,
        }
        out.truncate(from);
    }

    /// Whether its commands are executed as they come, with nothing to be looked at before or after.
    pub fn is_plain(&self) -> bool {
        self.authenticated && self.queue.is_none() && self.replies == Replies::On && !self.me.only_subscribes()
    }
}
