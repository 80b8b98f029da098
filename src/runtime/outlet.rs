//! What one replication connection is still to send. Two of a shard's tasks send it, one after the other: whoever ends a turn
//! sends what the turn recorded, as far as the socket takes it at once, and the connection's own task sends everything else.
//!
//! ```text
//! a turn ends ── send_now ──▶ session ─▶ sending ─▶ socket        live, and nothing in the way
//! own task    ── next ──────▶ session ─▶ sending ─▶ socket        greeting, dumps, heartbeats, what the socket did not take
//! ```
//!
//! A turn's frames go out without a change of task, so a write costs no wake-up and its reply cannot overtake it.

use bytes::Bytes;

use super::clock::now;
use super::socket::SocketHandle;
use super::stream::write_len;
use crate::shard::Shard;
use crate::source::session::{Session, SessionError};

/// The session of a connection, and the bytes of it that are under way.
#[derive(Debug)]
pub struct Outlet {
    /// The protocol.
    pub session: Session,
    /// Taken from the session and not yet by the socket.
    sending: Bytes,
    socket: SocketHandle,
}

/// What is left for the connection's own task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Nothing, or it waits for its socket already.
    Nothing,
    /// It is to look.
    Something,
}

impl Outlet {
    pub(super) fn new(session: Session, socket: SocketHandle) -> Outlet {
        Outlet { session, sending: Bytes::new(), socket }
    }

    /// Whether everything taken from the session is sent.
    pub fn is_free(&self) -> bool {
        self.sending.is_empty()
    }

    /// What to send next, empty where there is nothing; `None` where the shard is no primary's.
    pub fn next(&mut self, core: &mut Shard) -> Option<Result<Bytes, SessionError>> {
        if self.sending.is_empty() {
            let (source, store) = core.source_and_store()?;
            match self.session.poll_transmit(source, store, now()) {
                Ok(bytes) => self.sending = bytes.unwrap_or_default(),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(self.sending.clone()))
    }

    /// The socket took the first `len` of those bytes.
    pub fn sent(&mut self, len: usize) {
        self.sending = self.sending.slice(len..);
    }

    /// Sends what the shard has recorded, if nothing else is in the way. Never waits.
    pub fn send_now(&mut self, core: &mut Shard) -> Left {
        if !self.is_free() {
            return Left::Nothing;
        }
        let Some((link, source)) = self.session.link().zip(core.source()) else { return Left::Something };
        if source.is_syncing(link) {
            return Left::Something;
        }
        match self.next(core) {
            Some(Ok(bytes)) if bytes.is_empty() => return Left::Nothing,
            Some(Ok(bytes)) => match self.socket.try_send(&bytes[..write_len(bytes.len())]) {
                Ok(len) => self.sent(len),
                // Its own task meets the same again, and knows what to do.
                Err(_) => return Left::Something,
            },
            Some(Err(_)) | None => return Left::Something,
        }
        // One send does not take everything.
        let more = core.source().is_some_and(|source| source.has_something_for(link));
        if self.is_free() && !more { Left::Nothing } else { Left::Something }
    }
}
