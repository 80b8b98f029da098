//! The primary's end of one connection: bytes in, bytes out.
//!
//! ```text
//! Greeting ── REPLICATE … ──▶ Streaming(link) ── error, silence ──▶ (closed by the host)
//!     │                            ▲ acks, SYNCED, NEED in; frames, items, heartbeats out
//!     └── anything else ──▶ Closing: one error line, then the end
//! ```

use bytes::Bytes;
use std::collections::VecDeque;

use super::{LinkError, Source};
use crate::handshake::{
    Answer, Form, Hello, Purpose, Refusal, RefuseReason, Request, RequestError, SyncReason, Verdict, decode_request,
};
use crate::id::{Generation, Moment, Offset};
use crate::limits;
use crate::slot::LinkId;
use crate::snapshot::Keyspace;
use crate::wire::{Upstream, WireError};

/// When a link speaks and when it is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Milliseconds between heartbeats.
    pub heartbeat_ms: u64,
    /// Milliseconds of silence after which the link is closed.
    pub link_timeout_ms: u64,
}

/// The primary's end of one connection.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// Bytes received and not understood yet; bounded by what a handshake, then a line may have.
    inbox: Vec<u8>,
    /// What is to be sent before anything of the stream.
    outbox: VecDeque<Bytes>,
    timeouts: Timeouts,
    /// When the peer was last heard; while it greets, when it came: who sends its greeting drop by drop has no more time for it.
    heard: Moment,
    heartbeat_due: Moment,
    /// A heartbeat is due, and goes out as soon as the host takes bytes again.
    owes_heartbeat: bool,
    /// When to look again for a slot, while other links are to make room first.
    look_again: Option<Moment>,
}

#[derive(Clone, Debug)]
enum State {
    /// The peer has not said what it wants.
    Greeting,
    /// It reads the stream of this history.
    Streaming { link: LinkId, generation: Generation, speaks: bool },
    /// It was refused, or told what it asked: what is in the outbox is still sent.
    Closing(Option<Refusal>),
}

/// What happened in a session that its host may want to know.
#[derive(Clone, Debug)]
pub enum Event {
    /// A replica was let in.
    Attached {
        /// Who.
        hello: Box<Hello>,
        /// Whether it goes on or syncs.
        verdict: Verdict,
        /// A link of the same replica whose connection is to be closed.
        replaces: Option<LinkId>,
    },
    /// A peer only asked what this node is.
    Told,
    /// An acknowledgement moved.
    Acked,
}

/// Why a connection ends.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SessionError {
    /// The replica was refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The peer only asked what this node is.
    #[error("told what it asked")]
    Told,
    /// The handshake is malformed, and of a form that gets no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The replica broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The link cannot go on.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Nothing was heard for too long.
    #[error("silent for {0} ms")]
    Silent(u64),
}

impl Session {
    /// A session of a connection that was just accepted.
    pub fn new(timeouts: Timeouts, now: Moment) -> Session {
        Session {
            state: State::Greeting,
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            timeouts,
            heard: now,
            heartbeat_due: now.plus_ms(timeouts.heartbeat_ms),
            owes_heartbeat: false,
            look_again: None,
        }
    }

    /// Takes bytes that were received, and tells what they did.
    ///
    /// # Errors
    /// If the connection is to be closed. What [`poll_transmit`](Self::poll_transmit) still gives is worth sending first.
    pub fn handle_input(
        &mut self,
        source: &mut Source,
        bytes: &[u8],
        now: Moment,
        mut on_event: impl FnMut(Event),
    ) -> Result<(), SessionError> {
        if self.link().is_some() {
            self.heard = now;
        }
        self.inbox.extend_from_slice(bytes);
        let mut taken = 0;
        let result = loop {
            let rest = &self.inbox[taken..];
            match &self.state {
                State::Closing(_) => break Ok(()),
                State::Greeting => match decode_request(rest) {
                    Ok(None) => break Ok(()),
                    Ok(Some((request, used))) => {
                        taken += used;
                        match self.greet(source, request, now) {
                            Ok(event) => on_event(event),
                            Err(error) => break Err(error),
                        }
                    }
                    Err(error) => break Err(self.malformed(error)),
                },
                State::Streaming { link, generation, .. } => match Upstream::decode(rest) {
                    Ok(None) => break Ok(()),
                    Ok(Some((said, used))) => {
                        taken += used;
                        let taken = match said {
                            _ if *generation != source.generation() => Err(LinkError::OtherHistory),
                            Some(said) => source.handle_upstream(*link, said, now),
                            None => Ok(false),
                        };
                        match taken {
                            Ok(true) => on_event(Event::Acked),
                            Ok(false) => {}
                            Err(error) => break Err(error.into()),
                        }
                    }
                    Err(error) => break Err(error.into()),
                },
            }
        };
        self.inbox.drain(..taken);
        result
    }

    /// The next bytes to send, or `None` until something happens.
    ///
    /// # Errors
    /// If the connection is to be closed.
    pub fn poll_transmit<K: Keyspace>(
        &mut self,
        source: &mut Source,
        keyspace: &K,
        now: Moment,
    ) -> Result<Option<Bytes>, SessionError> {
        if let Some(bytes) = self.outbox.pop_front() {
            return Ok(Some(bytes));
        }
        match &self.state {
            State::Greeting => Ok(None),
            State::Closing(Some(refusal)) => Err(SessionError::Refused(refusal.clone())),
            State::Closing(None) => Err(SessionError::Told),
            // The node was something else in between: this link is nobody's, even where its number is somebody's again.
            State::Streaming { generation, .. } if *generation != source.generation() => {
                Err(LinkError::OtherHistory.into())
            }
            &State::Streaming { link, .. } => {
                self.mark_heartbeat(now);
                if std::mem::take(&mut self.owes_heartbeat)
                    && let Some(ping) = source.heartbeat(link)
                {
                    return Ok(Some(ping));
                }
                let bytes = source.poll_transmit(link, keyspace, now)?;
                let waits = bytes.is_none() && source.needs_slots(link);
                self.look_again = waits.then(|| now.plus_ms(limits::WALK_PAUSE_MS));
                Ok(bytes)
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit) if nothing happens before.
    pub fn poll_timeout(&self) -> Moment {
        let due = match self.state {
            State::Streaming { speaks: true, .. } => self.heartbeat_due.min(self.silence_ends()),
            State::Streaming { speaks: false, .. } => self.heartbeat_due,
            State::Greeting | State::Closing(_) => self.silence_ends(),
        };
        self.look_again.map_or(due, |again| again.min(due))
    }

    /// Looks at the clock.
    ///
    /// # Errors
    /// If the peer has been silent for too long.
    pub fn handle_timeout(&mut self, now: Moment) -> Result<(), SessionError> {
        self.mark_heartbeat(now);
        self.look_again = self.look_again.filter(|again| now < *again);
        // A peer of the oldest form never says anything: only the network tells whether it is there.
        let speaks = !matches!(self.state, State::Streaming { speaks: false, .. });
        if speaks && now >= self.silence_ends() {
            return Err(SessionError::Silent(self.silence_ms_max()));
        }
        Ok(())
    }

    /// Whether the link is still this connection's: a newer one of the same replica takes its place, and another history ends them all.
    ///
    /// # Errors
    /// If the connection is to be closed.
    pub fn check_link(&self, source: &Source) -> Result<(), SessionError> {
        match self.state {
            State::Streaming { generation, .. } if generation != source.generation() => {
                Err(LinkError::OtherHistory.into())
            }
            State::Streaming { link, .. } if !source.links().any(|known| known == link) => {
                Err(LinkError::Replaced.into())
            }
            State::Streaming { .. } | State::Greeting | State::Closing(_) => Ok(()),
        }
    }

    /// The connection is gone: the replica is remembered for the reconnect window.
    pub fn hang_up(&mut self, source: &mut Source, now: Moment) {
        if let State::Streaming { link, generation, .. } = self.state
            && generation == source.generation()
        {
            source.detach(link, now);
        }
        self.state = State::Closing(None);
    }

    /// The link, once there is one.
    pub fn link(&self) -> Option<LinkId> {
        match self.state {
            State::Streaming { link, .. } => Some(link),
            State::Greeting | State::Closing(_) => None,
        }
    }

    /// The next one is due a period from now, whether or not the host can send: a deadline that has passed is no deadline.
    fn mark_heartbeat(&mut self, now: Moment) {
        if self.link().is_some() && now >= self.heartbeat_due {
            self.heartbeat_due = now.plus_ms(self.timeouts.heartbeat_ms);
            self.owes_heartbeat = true;
        }
    }

    fn silence_ends(&self) -> Moment {
        self.heard.plus_ms(self.silence_ms_max())
    }

    fn silence_ms_max(&self) -> u64 {
        match self.state {
            State::Greeting => self.timeouts.link_timeout_ms.min(limits::GREETING_MS_MAX),
            State::Streaming { .. } | State::Closing(_) => self.timeouts.link_timeout_ms,
        }
    }

    fn greet(&mut self, source: &mut Source, request: Request, now: Moment) -> Result<Event, SessionError> {
        let hello = match request {
            Request::Replicate(hello) => hello,
            Request::Reserved(_) => return Err(self.refuse(Refusal::new(RefuseReason::VerbUnsupported), true)),
        };
        let ours = matches!(hello.form, Form::Ours(_));
        if !source.admits(&hello) {
            return Err(self.refuse(Refusal::new(RefuseReason::NoAuth), ours));
        }
        if hello.options().is_some_and(|options| options.purpose == Purpose::Learn) {
            self.say(&Answer::Welcome(Box::new(source.introduction())));
            self.state = State::Closing(None);
            return Ok(Event::Told);
        }
        let accepted = source.attach(&hello, now).map_err(|refusal| self.refuse(refusal, ours))?;
        let asked = match hello.claim {
            crate::handshake::Claim::Empty => Offset::ZERO,
            crate::handshake::Claim::Bare(next) | crate::handshake::Claim::At { next, .. } => next,
        };
        let answer = match &hello.form {
            Form::Offset => Answer::Offset(asked),
            Form::Generation => Answer::Generation { generation: Some(accepted.welcome.generation), next: asked },
            Form::Ours(_) => Answer::Welcome(Box::new(accepted.welcome.clone())),
        };
        self.say(&answer);
        self.state = State::Streaming {
            link: accepted.link,
            generation: accepted.welcome.generation,
            speaks: hello.form != Form::Offset,
        };
        self.heard = now;
        self.heartbeat_due = now.plus_ms(self.timeouts.heartbeat_ms);
        Ok(Event::Attached { hello, verdict: accepted.welcome.verdict, replaces: accepted.replaces })
    }

    /// Older peers expect no word with a refusal: the connection is just closed.
    fn refuse(&mut self, refusal: Refusal, says_so: bool) -> SessionError {
        if says_so {
            self.say(&Answer::Refused(refusal.clone()));
        }
        self.state = State::Closing(Some(refusal.clone()));
        SessionError::Refused(refusal)
    }

    fn malformed(&mut self, error: RequestError) -> SessionError {
        self.refuse(Refusal::malformed(&error), true);
        SessionError::Request(error)
    }

    fn say(&mut self, answer: &Answer) {
        let mut line = Vec::new();
        answer.encode(&mut line);
        self.outbox.push_back(Bytes::from(line));
    }
}

impl Event {
    /// The reason for a sync, where there is one.
    pub fn sync_reason(&self) -> Option<SyncReason> {
        match self {
            Event::Attached { verdict: Verdict::Sync(reason), .. } => Some(*reason),
            Event::Attached { .. } | Event::Told | Event::Acked => None,
        }
    }
}
