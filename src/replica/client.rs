//! A replica for people without a runtime: blocking, over a socket of the standard library.
//!
//! ```
//! # mod primary {
//! #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/primary.rs"));
//! #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/demonstration.rs"));
//! # }
//! use kevy_replicate::replica::ReplicaClient;
//! use kevy_replicate::store::{KeyspaceStore, dispatch};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let primary = primary::Demonstration::start(1)?;
//! # use primary::elsewhere::ReplicaClient;
//! let mut client = ReplicaClient::connect("127.0.0.1:16004", "replica-a", 0)?; // one upstream shard; 0 = from nothing
//! let mut store = KeyspaceStore::new();
//! for frame in &mut client {
//!     let frame = frame?;
//!     dispatch(&mut store, &frame.argv)?;
//! #   if frame.offset.next() == primary.shards[0].head() { break; }
//! }
//! # let digest = kevy_replicate::store::command::key::digest(&store, kevy_replicate::id::SlotRange::ALL);
//! # assert_eq!((store.len(), digest.0), (100, primary.digest()));
//! # Ok(())
//! # }
//! ```
//!
//! Three ways to read, from the plainest to the whole:
//!
//! ```text
//! connect ─▶ for frame in &mut client   frames; an error that says so where a sync would be needed
//! follow  ─▶ next_event                 frames, groups and dump items, for a store of one's own making
//!         └▶ run(&mut keyspace)         everything: sync, frames, repairs, acknowledgements
//! ```
//!
//! All three end when the link does; [`redial`](ReplicaClient::redial) goes on where they were. `docs/embedding.md` has each of
//! them as a program.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::BuildHasher;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Applier, Dial, Dialled, Event, Session, SessionConfig, SessionError};
use crate::handshake::{IdError, Password, RefuseReason, ReplicaId, SyncReason, Welcome};
use crate::id::{Generation, Moment, Offset, ShardId};
use crate::limits;
use crate::snapshot::Keyspace;
use crate::wire::{Frames, Item};

/// One upstream shard's stream, over a blocking connection.
#[derive(Debug)]
pub struct ReplicaClient {
    /// As it was given: a name is looked up anew at each dial.
    address: String,
    socket: TcpStream,
    session: Session,
    welcome: Welcome,
    /// Where [`Moment`]s are counted from.
    began: Instant,
    /// Frames that were decoded together and not given out yet.
    ahead: VecDeque<Frame>,
    /// Applied state of [`run`](ReplicaClient::run).
    applier: Option<Applier>,
    /// Whether there is anything to lose to a primary that came back empty.
    holds_data: bool,
    /// The iterator has given its error.
    ended: bool,
}

/// One frame that its reader owns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Its place in the stream.
    pub offset: Offset,
    /// The effect: the verb, then its arguments.
    pub argv: Vec<Vec<u8>>,
}

/// One thing that a stream says, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientEvent {
    /// One frame.
    Frame(Frame),
    /// Frames that are applied all or none.
    Group(Vec<Frame>),
    /// A dump item; `docs/protocol.md` says what each means.
    Item(Item<Vec<u8>>),
    /// No slot is missing any more.
    Whole {
        /// The position.
        at: Offset,
    },
    /// The primary is alive.
    Heard,
}

/// Opens clients that say a password to their primary, as `masterauth` does for a server: made by
/// [`ReplicaClient::with_password`].
#[derive(Clone, Debug)]
pub struct Opener {
    password: Option<Password>,
}

impl Opener {
    /// As [`ReplicaClient::connect`].
    ///
    /// # Errors
    /// As `connect`, or if the password is wrong.
    pub fn connect(&self, address: &str, id: &str, from: u64) -> Result<ReplicaClient, ClientError> {
        self.open(address, id, None, Offset::new(from), Reads::Frames)
    }

    /// As [`ReplicaClient::connect_all`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect); the first one that fails ends it.
    pub fn connect_all(&self, base: &str, id: &str) -> Result<Vec<ReplicaClient>, ClientError> {
        self.open_all(base, id, Reads::Frames)
    }

    /// As [`ReplicaClient::follow`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn follow(&self, address: &str, id: &str) -> Result<ReplicaClient, ClientError> {
        self.open(address, id, None, Offset::ZERO, Reads::Following)
    }

    /// As [`ReplicaClient::follow_all`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect); the first one that fails ends it.
    pub fn follow_all(&self, base: &str, id: &str) -> Result<Vec<ReplicaClient>, ClientError> {
        self.open_all(base, id, Reads::Following)
    }

    /// As [`ReplicaClient::observe`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn observe(&self, address: &str, id: &str) -> Result<ReplicaClient, ClientError> {
        self.open(address, id, None, Offset::ZERO, Reads::Observing)
    }

    fn open(
        &self,
        address: &str,
        id: &str,
        stream: Option<ShardId>,
        from: Offset,
        reads: Reads,
    ) -> Result<ReplicaClient, ClientError> {
        let config = SessionConfig {
            id: ReplicaId::new(id)?,
            run: *RUN,
            stream,
            items: reads != Reads::Frames,
            observer: reads == Reads::Observing,
            client: None,
            repl_base: None,
            accept_empty_primary: false,
            link_timeout_ms: limits::CLIENT_LINK_TIMEOUT_MS,
        };
        let mut session = Session::from_offset(config, from);
        session.set_password(self.password.clone());
        session.count_dials_from(DIALS.fetch_add(1, Ordering::Relaxed));
        session.dial(Dial { dialled: Dialled::NewAddress, holds_data: false }, Moment::ZERO);
        let socket = dial(address)?;
        let began = Instant::now();
        let welcome = exchange(&socket, address, &mut session, began)?;
        Ok(ReplicaClient {
            address: address.to_owned(),
            socket,
            session,
            welcome,
            began,
            ahead: VecDeque::new(),
            applier: None,
            holds_data: false,
            ended: false,
        })
    }

    fn open_all(&self, base: &str, id: &str, reads: Reads) -> Result<Vec<ReplicaClient>, ClientError> {
        let first = self.open(base, id, Some(ShardId::new(0)), Offset::ZERO, reads)?;
        let shards = first.welcome.shards;
        let no_ports =
            || io_error(base, io::Error::new(io::ErrorKind::InvalidInput, "not host:port, or no room for all ports"));
        let (host, port) = base.rsplit_once(':').ok_or_else(no_ports)?;
        let port: u16 = port.parse().map_err(|_| no_ports())?;
        let mut clients = vec![first];
        for shard in shards.shards().skip(1) {
            let port = port.checked_add(shard.get()).ok_or_else(no_ports)?;
            clients.push(self.open(&format!("{host}:{port}"), id, Some(shard), Offset::ZERO, reads)?);
        }
        Ok(clients)
    }
}

/// What a client takes, and whether it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reads {
    /// Frames alone.
    Frames,
    /// Everything, as a replica.
    Following,
    /// Everything, as an observer.
    Observing,
}

/// Why a client stops.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection could not be made, or broke.
    #[error("{address}: {source}")]
    Io {
        /// The primary.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The primary closed the connection.
    #[error("the primary closed the connection")]
    Closed,
    /// The id is not one.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The protocol was broken, or the primary refused: where a sync would be needed, it says so here.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Tells this process from every other one: what its clients acknowledge on several streams counts together.
static RUN: LazyLock<u64> = LazyLock::new(|| foldhash::quality::RandomState::default().hash_one(std::process::id()));

/// Dials of this process so far: the newest one of an id wins.
static DIALS: AtomicU64 = AtomicU64::new(0);

impl ClientError {
    /// Whether the primary no longer has the frames that are wanted: only a client that takes a sync gets any further.
    pub fn needs_sync(&self) -> bool {
        matches!(self, ClientError::Session(SessionError::Refused(refusal))
            if refusal.name == RefuseReason::NeedsSync(SyncReason::TooOld).name())
    }
}

impl ReplicaClient {
    /// Connects to the replication port of one upstream shard and asks for its frames from `from` on. With 0 it asks for all of
    /// them, from nothing.
    ///
    /// # Errors
    /// If the connection fails, or the primary refuses: it no longer has that frame, so that a sync would be needed.
    pub fn connect(address: &str, id: &str, from: u64) -> Result<ReplicaClient, ClientError> {
        Opener { password: None }.connect(address, id, from)
    }

    /// Connects to every shard of a primary, whose first replication port is at `base`, and asks each for all its frames, from
    /// nothing. One client for each shard, in their order.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); the first one that fails ends it.
    pub fn connect_all(base: &str, id: &str) -> Result<Vec<ReplicaClient>, ClientError> {
        Opener { password: None }.connect_all(base, id)
    }

    /// Connects to one upstream shard as a replica that takes a sync; to be read with [`next_event`](Self::next_event) or
    /// [`run`](Self::run).
    ///
    /// # Errors
    /// If the connection fails, or the primary refuses.
    pub fn follow(address: &str, id: &str) -> Result<ReplicaClient, ClientError> {
        Opener { password: None }.follow(address, id)
    }

    /// As [`follow`](Self::follow), but as an observer: it is sent everything, and counts for nothing: not for `WAIT`, not for the write
    /// gate, not as a connected replica.
    ///
    /// # Errors
    /// As `follow`.
    pub fn observe(address: &str, id: &str) -> Result<ReplicaClient, ClientError> {
        Opener { password: None }.observe(address, id)
    }

    /// As [`follow`](Self::follow), for every shard of a primary whose first replication port is at `base`.
    ///
    /// # Errors
    /// As `follow`; the first one that fails ends it.
    pub fn follow_all(base: &str, id: &str) -> Result<Vec<ReplicaClient>, ClientError> {
        Opener { password: None }.follow_all(base, id)
    }

    /// What opens clients that say this password at each dial.
    pub fn with_password(password: Password) -> Opener {
        Opener { password: Some(password) }
    }

    /// What the primary said at the handshake.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The next frame that is wanted.
    pub fn expected_offset(&self) -> Offset {
        self.ahead.front().map_or(self.session.next(), |frame| frame.offset)
    }

    /// The history that the frames are of.
    pub fn generation(&self) -> Generation {
        self.session.generation().unwrap_or(self.welcome.generation)
    }

    /// Waits for the next thing that the stream says, and acknowledges what was given out before.
    ///
    /// # Errors
    /// If the stream ends. [`redial`](Self::redial) goes on from [`expected_offset`](Self::expected_offset).
    pub fn next_event(&mut self) -> Result<ClientEvent, ClientError> {
        if let Some(frame) = self.ahead.pop_front() {
            return Ok(ClientEvent::Frame(frame));
        }
        loop {
            let next = self.session.next();
            self.session.applied(next);
            self.send()?;
            let event = match self.session.poll_event()? {
                Some(Event::Frames(frames)) => {
                    self.ahead.extend(owned(frames));
                    self.ahead.pop_front().map(ClientEvent::Frame)
                }
                Some(Event::Group(frames)) => Some(ClientEvent::Group(owned(frames).collect())),
                Some(Event::Item(item)) => Some(ClientEvent::Item(item.map(<[u8]>::to_vec))),
                Some(Event::Whole { at }) => Some(ClientEvent::Whole { at }),
                Some(Event::Heard) => Some(ClientEvent::Heard),
                Some(Event::Welcomed(_)) => None,
                None => {
                    self.receive()?;
                    None
                }
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// Follows the stream with `keyspace` until the link ends: sync, frames, acknowledgements, repairs. Never returns `Ok`.
    ///
    /// # Errors
    /// Why the link ended. Call [`redial`](Self::redial), then `run` again with the same keyspace: it goes on where it was.
    pub fn run<K: Keyspace>(&mut self, keyspace: &mut K) -> Result<Infallible, ClientError> {
        loop {
            self.step(keyspace)?;
        }
    }

    /// Waits for the next thing that the stream says and applies it, with whatever came along: one turn of
    /// [`run`](Self::run).
    ///
    /// # Errors
    /// As `run`.
    pub fn step<K: Keyspace>(&mut self, keyspace: &mut K) -> Result<(), ClientError> {
        let result = self.try_step(keyspace);
        if result.is_err() {
            self.holds_data = keyspace.holds_any_of(self.session.range());
            if let Some(applier) = &mut self.applier {
                applier.link_cut(keyspace);
            }
        }
        result
    }

    fn try_step<K: Keyspace>(&mut self, keyspace: &mut K) -> Result<(), ClientError> {
        while !self.apply(keyspace)? {
            self.send()?;
            self.receive()?;
        }
        while keyspace.reclaim() {}
        self.send()
    }

    /// Applies what has been received. `false` if that was nothing.
    fn apply<K: Keyspace>(&mut self, keyspace: &mut K) -> Result<bool, ClientError> {
        let range = self.session.range();
        let applier = self.applier.get_or_insert_with(|| Applier::new(range));
        let mut some = false;
        while let Some(event) = self.session.poll_event()? {
            some = true;
            let mut whole = false;
            match event {
                // What comes in one call is applied in one call: a group is never seen in half.
                Event::Frames(frames) | Event::Group(frames) => applier.frames(keyspace, frames),
                Event::Item(item) => applier.item(keyspace, &item),
                Event::Whole { .. } => whole = true,
                Event::Welcomed(_) | Event::Heard => {}
            }
            // Nobody waits for this thread: the digest of a large slot is taken at once.
            while applier.is_proving() {
                applier.prove(keyspace);
            }
            for ask in applier.take_asks() {
                self.session.need(ask.slot, ask.whole);
            }
            let applied = self.session.next();
            self.session.applied(applied);
            if whole && applier.missing() == 0 {
                self.session.synced();
            }
        }
        Ok(some)
    }

    /// Whether every slot of the stream is whole in the keyspace that [`run`](Self::run) follows with.
    pub fn is_whole(&self) -> bool {
        self.applier.as_ref().is_some_and(|applier| applier.missing() == 0)
    }

    /// Whether a primary that lost its data may replace what is here by nothing, from the next dial on. It may not at first.
    pub fn set_accept_empty_primary(&mut self, accept: bool) {
        self.session.set_accept_empty_primary(accept);
    }

    /// Dials again after an error, claiming what there is: the stream goes on at [`expected_offset`](Self::expected_offset), if
    /// the primary still has it.
    ///
    /// # Errors
    /// As [`connect`](Self::connect). Where it [needs a sync](ClientError::needs_sync) that this client cannot take, there is no
    /// way on but a new one, from nothing.
    pub fn redial(&mut self) -> Result<(), ClientError> {
        let exchanged = match self.try_redial() {
            // It was only asked what it is.
            Err(ClientError::Session(SessionError::Willing)) => self.try_redial(),
            other => other,
        };
        self.welcome = exchanged?;
        self.ended = false;
        Ok(())
    }

    fn try_redial(&mut self) -> Result<Welcome, ClientError> {
        self.socket = dial(&self.address)?;
        self.session.count_dials_from(DIALS.fetch_add(1, Ordering::Relaxed));
        self.session.dial(Dial { dialled: Dialled::Again, holds_data: self.holds_data }, self.now());
        exchange(&self.socket, &self.address, &mut self.session, self.began)
    }

    fn now(&self) -> Moment {
        now(self.began)
    }

    fn send(&mut self) -> Result<(), ClientError> {
        let now = self.now();
        send(&self.socket, &self.address, &mut self.session, now)
    }

    fn receive(&mut self) -> Result<(), ClientError> {
        receive(&self.socket, &self.address, &mut self.session, self.began)
    }
}

/// The frames, one by one; those of a group like any other. Waits for each. The first error ends it, until
/// [`redial`](ReplicaClient::redial) was called.
impl Iterator for ReplicaClient {
    type Item = Result<Frame, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        loop {
            match self.next_event() {
                Ok(ClientEvent::Frame(frame)) => return Some(Ok(frame)),
                Ok(ClientEvent::Group(frames)) => self.ahead.extend(frames),
                Ok(ClientEvent::Item(_) | ClientEvent::Whole { .. } | ClientEvent::Heard) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

fn owned(frames: Frames<'_>) -> impl Iterator<Item = Frame> {
    frames.iter().map(|frame| Frame { offset: frame.offset, argv: frame.argv.iter().map(<[u8]>::to_vec).collect() })
}

fn dial(address: &str) -> Result<TcpStream, ClientError> {
    let io_error = |source| io_error(address, source);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs().map_err(io_error)? {
        match TcpStream::connect_timeout(&address, Duration::from_millis(limits::CONNECT_TIMEOUT_MS)) {
            Ok(socket) => {
                socket.set_nodelay(true).map_err(io_error)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(io_error(last))
}

/// The handshake of a session that has just dialled.
fn exchange(socket: &TcpStream, address: &str, session: &mut Session, began: Instant) -> Result<Welcome, ClientError> {
    send(socket, address, session, now(began))?;
    loop {
        if let Some(Event::Welcomed(welcome)) = session.poll_event()? {
            return Ok(*welcome);
        }
        receive(socket, address, session, began)?;
    }
}

fn send(mut socket: &TcpStream, address: &str, session: &mut Session, now: Moment) -> Result<(), ClientError> {
    let bytes = session.poll_transmit(now);
    socket.write_all(&bytes).map_err(|source| io_error(address, source))
}

/// Waits for bytes, for as long as the session's deadline allows.
fn receive(mut socket: &TcpStream, address: &str, session: &mut Session, began: Instant) -> Result<(), ClientError> {
    let io_error = |source| io_error(address, source);
    loop {
        let wait = session.poll_timeout().map(|at| {
            let micros = at.micros().saturating_sub(now(began).micros());
            Duration::from_micros(micros.max(1))
        });
        socket.set_read_timeout(wait).map_err(io_error)?;
        match socket.read(session.recv_slice()) {
            Ok(0) => return Err(ClientError::Closed),
            Ok(len) => {
                session.recv_advance(len, now(began));
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                session.handle_timeout(now(began))?;
                send(socket, address, session, now(began))?;
            }
            Err(error) => return Err(io_error(error)),
        }
    }
}

fn now(began: Instant) -> Moment {
    Moment::from_micros(began.elapsed().as_micros() as u64)
}

fn io_error(address: &str, source: io::Error) -> ClientError {
    ClientError::Io { address: address.to_owned(), source }
}
