//! The primary's node: its shards, each with its store, its source, and a session for each connection.

use std::collections::VecDeque;

use kevy_replicate::handshake::{RefuseReason, SyncReason, Verdict};
use kevy_replicate::id::{Generation, HashSlot, Moment, Offset, ShardCount, UnixMs};
use kevy_replicate::resp::{Protocol, Reply};
use kevy_replicate::shard::{Claim, Role, Shard as Core, Waiter};
use kevy_replicate::snapshot::Located;
use kevy_replicate::snapshot::record::Kind;
use kevy_replicate::source::{Event as Told, LinkError, Session, SessionError, Source, SourceConfig, Timeouts};
use kevy_replicate::store::command::block::{self, Wish};
use kevy_replicate::store::command::{self, Spec};
use kevy_replicate::store::{KeyspaceStore, ScanCursor, WaiterId, hash};
use kevy_replicate::wire::{Check, Command, Decoder, Message};

use crate::events::{Event, Events};
use crate::history::History;
use crate::places::Places;
use crate::plan::Plan;
use crate::plant::Plant;
use crate::store::Dumped;
use crate::watch::Watch;
use crate::workload::{Args, Request};

pub struct Primary {
    pub generation: Generation,
    pub shards: Vec<Shard>,
}

pub struct Shard {
    core: Core,
    piece_bytes: usize,
    pieces: Pieces,
    connections: Vec<Option<Connection>>,
    /// Clients that wait for a key, the longest first.
    waiting: VecDeque<WaiterId>,
    plant: Plant,
}

/// Damages pieces of slots on their way: the digest at the end finds it.
struct Pieces {
    sent: u64,
    damage_every: u64,
    /// Slots of which a piece was damaged, not yet told.
    damaged: Vec<HashSlot>,
}

struct Connection {
    session: Session,
    /// What the link had no room for.
    unsent: Vec<u8>,
    watch: Watch,
    /// Where slots stand behind everything that was given out.
    places: Places,
    /// The check of a damaged piece whose own comes next.
    reseal: Option<Check>,
}

/// The connection is to be closed.
pub struct Closed;

impl Primary {
    /// A primary of so many shards that starts without data. `number` tells its starts apart.
    pub fn start(plan: &Plan, shards: ShardCount, plant: Plant, number: u64, now: UnixMs) -> Primary {
        let generation = Generation::new(plan.seed << 8 | (number + 1)).unwrap();
        let shard = |shard| {
            let mut source = Source::new(SourceConfig {
                client_port: Some(6004),
                ..SourceConfig::new(shard, shards, generation, plan.window_bytes)
            });
            if !plan.checks || plant == Plant::DumpOneLate {
                source = source.without_checks();
            }
            source.set_dump_queue_bytes(plan.dump_queue_bytes);
            source.set_scrub_slots_per_second(plan.scrub_slots_per_second);
            source.set_walk_patience_ms(plan.walk_patience);
            let mut core = Core::new(shard, shards, Role::Primary(Box::new(source)), plan.seed);
            core.store.set_digest_step_bytes(plan.digest_step_bytes);
            core.store.set_value_piece_bytes(plan.value_piece_bytes);
            if let Some([limit, _]) = plan.memory_limits(core.store.used_bytes()) {
                core.set_memory_limit(limit, now);
            }
            Shard {
                core,
                piece_bytes: plan.piece_bytes,
                pieces: Pieces { sent: 0, damage_every: plan.damage_every, damaged: Vec::new() },
                connections: Vec::new(),
                waiting: VecDeque::new(),
                plant,
            }
        };
        Primary { generation, shards: shards.shards().map(shard).collect() }
    }

    /// From now on nothing is damaged, and digests are told only of what is asked for: a slow link comes to rest.
    pub fn heal(&mut self) {
        for shard in &mut self.shards {
            if let Some((source, _)) = shard.core.source_and_store() {
                source.set_scrub_slots_per_second(0);
            }
            shard.pieces.damage_every = u64::MAX;
        }
    }

    pub fn shard_count(&self) -> ShardCount {
        ShardCount::new(self.shards.len() as u16).unwrap()
    }
}

impl Shard {
    /// Executes what a client asks for and records what it did. `true` if that was anything.
    pub fn execute(&mut self, request: &Request, now: UnixMs, events: &mut Events) -> bool {
        let next = self.source().next();
        match request {
            Request::Command(args) => self.command(args, now, true, events),
            Request::Transaction(commands) => {
                self.core.begin_group();
                commands.iter().for_each(|args| self.command(args, now, false, events));
                self.core.end_group(now);
            }
        }
        events.add(Event::Served, self.core.take_answers().len() as u64);
        let frames = self.source().next().since(next);
        events.add(Event::Group, u64::from(frames > 1));
        events.add(Event::Transaction, (frames > 1 && matches!(request, Request::Transaction(_))).into());
        frames > 0
    }

    /// What a shard does by itself.
    pub fn tidy(&mut self, now: UnixMs, events: &mut Events) {
        let before = self.core.counters();
        self.core.evict(now);
        self.core.expire_some(now);
        let after = self.core.counters();
        events.add(Event::Evicted, after.evicted_keys - before.evicted_keys);
        events.add(Event::ExpiredUnasked, after.expired_keys - before.expired_keys);
    }

    fn command(&mut self, args: &Args, now: UnixMs, may_wait: bool, events: &mut Events) {
        let encoded = Command::new(args);
        let mut ranges = Vec::new();
        let argv = crate::argv_of(encoded.as_bytes(), &mut ranges);
        let spec = command::find(argv.arg(0)).unwrap_or_else(|| panic!("{argv:?} is no command"));
        let at: Vec<_> = spec.keys(argv).map(|index| hash::locate(argv.arg(index))).collect();
        let mut reply = Vec::new();
        let (before, next) = (self.core.counters(), self.source().next());
        // Of fields that have expired a hash is freed by whoever meets it, and no counter of keys has them.
        let is_hash = |index: &usize| {
            let key = argv.arg(*index);
            let held = self.core.store.get(hash::locate(key), key);
            held.is_some_and(|entry| entry.value().kind() == Kind::Hash)
        };
        let hashes = spec.keys(argv).filter(is_hash).count();
        self.core.execute(spec, argv, &at, now, &mut Reply::new(&mut reply, Protocol::Resp2));
        assert!(!reply.is_empty(), "{argv:?} has no answer");
        let after = self.core.counters();
        let gone = [after.expired_keys - before.expired_keys, after.evicted_keys - before.evicted_keys];
        events.add(Event::ExpiredOnPrimary, gone[0]);
        events.add(Event::Evicted, gone[1]);
        events.add(Event::OutOfMemory, reply.starts_with(b"-OOM").into());
        if reply.starts_with(b"-") || !spec.writes() {
            let recorded = self.source().next().since(next);
            let said = gone.iter().sum::<u64>() + hashes as u64;
            assert!(recorded <= said, "{argv:?}: refused or read, and {recorded} frames are recorded");
        }
        if may_wait && Reply::is_null(&reply) {
            self.wait(spec, &encoded, at, now);
        }
    }

    /// A client whose command found nothing waits, if that is what such a command does. Where many wait, the first one gives up.
    fn wait(&mut self, spec: &'static Spec, command: &Command, located: Vec<Located>, now: UnixMs) {
        const WAITERS_MAX: usize = 6;
        let mut ranges = Vec::new();
        let argv = crate::argv_of(command.as_bytes(), &mut ranges);
        let Ok(Some(Wish { kind, keys, needs_keys, .. })) = block::wish(spec, argv) else { return };
        let (claim, argv, protocol) = (Claim::new(|_| ()), command.clone(), Protocol::Resp2);
        let waiter = Waiter { claim, spec, argv, located, keys, kind, needs_keys, protocol };
        self.waiting.extend(self.core.wait(waiter, now));
        if self.waiting.len() > WAITERS_MAX {
            self.waiting.pop_front().into_iter().for_each(|waiter| self.core.forget_waiter(waiter));
        }
    }

    pub fn source(&self) -> &Source {
        self.core.source().expect("it is a primary's")
    }

    pub fn store(&self) -> &KeyspaceStore {
        &self.core.store
    }

    /// The keys in a slot, or those for values of one type.
    pub fn keys_in(&self, slot: HashSlot, kind: Option<&str>) -> Vec<String> {
        let mut keys = Vec::new();
        let mut cursor = ScanCursor::at_slot(slot);
        while cursor.slot() == slot && keys.len() < 100 {
            let next = self.store().scan(cursor, 20, |entry| {
                let key = String::from_utf8_lossy(entry.key()).into_owned();
                let fits = kind.is_none_or(|kind| key.split('}').nth(1).is_some_and(|name| name.starts_with(kind)));
                if fits && hash::slot_of(entry.key()) == slot {
                    keys.push(key);
                }
            });
            if next == cursor || next == ScanCursor::START {
                break;
            }
            cursor = next;
        }
        keys
    }

    /// The scrub goes on, with `first` before anything else.
    pub fn scrub(&mut self, first: Option<HashSlot>, now: Moment) {
        let (source, _) = self.core.source_and_store().expect("it is a primary's");
        first.into_iter().for_each(|slot| source.scrub_first(slot));
        while self.core.scrub(now).more {}
    }

    pub fn end_turn(&mut self) {
        self.core.end_turn();
    }

    /// Its source, its keys as they are dumped, and its connections.
    fn parts(&mut self) -> (&mut Source, Dumped<'_>, &mut Vec<Option<Connection>>, &mut Pieces) {
        let Shard { core, piece_bytes, pieces, connections, plant, .. } = self;
        let (source, real) = core.source_and_store().expect("it is a primary's");
        (source, Dumped { real, piece_bytes: *piece_bytes, plant: *plant }, connections, pieces)
    }

    /// Adds what has been recorded to the history.
    pub fn tell(&mut self, history: &mut History) {
        let backlog = self.source().backlog();
        if backlog.closed() == history.head() {
            return;
        }
        let mut cursor = backlog.seek(history.head()).expect("every run is told before the next one is recorded");
        let mut decoder = Decoder::new();
        while history.head() < backlog.closed() {
            decoder.recv(&backlog.read(&mut cursor, backlog.closed(), usize::MAX).unwrap());
            while let Some(message) = decoder.next().unwrap() {
                match message {
                    Message::Frames(frames) => frames.iter().for_each(|frame| history.push(frame.argv)),
                    Message::Group(frames) => {
                        frames.iter().for_each(|frame| history.push(frame.argv));
                        history.close_group(frames.len() as u64);
                    }
                    Message::Item(item) => panic!("{item:?} in a backlog"),
                }
            }
        }
    }

    /// A connection comes in, of a replica whose slots stand at `places`; returns its number.
    pub fn accept(&mut self, places: Places, now: Moment) -> usize {
        let timeouts = Timeouts { heartbeat_ms: 100, link_timeout_ms: u64::MAX };
        let session = Session::new(timeouts, now);
        self.connections.push(Some(Connection {
            session,
            unsent: Vec::new(),
            watch: Watch::new(),
            places,
            reseal: None,
        }));
        self.connections.len() - 1
    }

    /// The connection is gone.
    pub fn hang_up(&mut self, number: usize, now: Moment) {
        let (source, _, connections, _) = self.parts();
        if let Some(link) = connections[number].take().and_then(|connection| connection.session.link()) {
            source.detach(link, now);
        }
    }

    /// Where slots stand at the end of what was given to a connection.
    pub fn places(&self, number: usize) -> Option<&Places> {
        self.connections[number].as_ref().map(|connection| &connection.places)
    }

    /// Slots of which a piece was damaged since the last call.
    pub fn take_damaged(&mut self) -> Vec<HashSlot> {
        std::mem::take(&mut self.pieces.damaged)
    }

    /// A slot is sent again on a connection, since its end did not fit.
    pub fn lost(&mut self, number: usize, slot: HashSlot) {
        if let Some(connection) = &mut self.connections[number] {
            connection.places.lost(slot);
        }
    }

    /// Bytes arrive.
    pub fn receive(&mut self, number: usize, bytes: &[u8], now: Moment, events: &mut Events) -> Result<(), Closed> {
        let (source, _, connections, _) = self.parts();
        let Some(connection) = &mut connections[number] else { return Err(Closed) };
        let said = connection.session.handle_input(source, bytes, now, |told| match told {
            Told::Attached { verdict: Verdict::Sync(reason), .. } => {
                events.count(Event::Sync);
                if matches!(reason, SyncReason::TooOld) {
                    events.count(Event::WindowLost);
                }
            }
            Told::Attached { verdict: Verdict::Stream, .. } | Told::Told | Told::Acked => {}
        });
        match said {
            Ok(()) => Ok(()),
            Err(SessionError::Link(LinkError::Replaced)) => Err(Closed),
            Err(SessionError::Refused(refusal)) if refusal.name == RefuseReason::OlderDial.name() => {
                events.count(Event::OlderDial);
                Err(Closed)
            }
            Err(error) => panic!("the primary closes: {error}"),
        }
    }

    /// Bytes to send, at most `room`.
    pub fn transmit(
        &mut self,
        number: usize,
        room: usize,
        now: Moment,
        events: &mut Events,
    ) -> Result<Vec<u8>, Closed> {
        let plant = self.plant;
        let (source, dumped, connections, pieces) = self.parts();
        let Some(connection) = &mut connections[number] else { return Err(Closed) };
        while connection.unsent.len() < room {
            match connection.session.poll_transmit(source, &dumped, now) {
                Ok(None) => break,
                Ok(Some(bytes)) if plant == Plant::DumpOneLate => {
                    late_by_one(&mut connection.unsent, &bytes, "+SLOTS", 3);
                }
                Ok(Some(bytes)) if plant == Plant::DigestOneLate => {
                    late_by_one(&mut connection.unsent, &bytes, "+DIGEST", 2);
                }
                Ok(Some(bytes)) => {
                    connection.watch.see(&bytes, &mut connection.places, |_, _| {});
                    let mut bytes = bytes.to_vec();
                    if let Some(check) = connection.reseal.take() {
                        replace_check(&mut bytes, 0, check);
                    }
                    if let Some(piece) = Piece::of(&bytes).filter(|_| pieces.strikes()) {
                        events.count(Event::Damaged);
                        pieces.damaged.push(piece.slot);
                        bytes[piece.end - 1] ^= 1;
                        // Whoever sends what is wrong proves what is wrong.
                        let check = Check::of(piece.at, &bytes[..piece.end]);
                        if piece.end < bytes.len() {
                            replace_check(&mut bytes, piece.end, check);
                        } else {
                            connection.reseal = Some(check);
                        }
                    }
                    connection.unsent.extend_from_slice(&bytes);
                }
                Err(SessionError::Link(LinkError::BelowWindow(_))) => {
                    events.count(Event::CursorLost);
                    return Err(Closed);
                }
                Err(SessionError::Link(LinkError::Replaced)) => return Err(Closed),
                // Whoever asked hangs up once it has heard.
                Err(SessionError::Told) => break,
                Err(error) => panic!("the primary closes: {error}"),
            }
        }
        let take = connection.unsent.len().min(room);
        if take < connection.unsent.len() {
            events.count(Event::LinkFull);
        }
        Ok(connection.unsent.drain(..take).collect())
    }

    /// Whether everything that was given to a connection is on its link.
    pub fn has_sent(&self, number: usize) -> bool {
        self.connections[number].as_ref().is_some_and(|connection| connection.unsent.is_empty())
    }
}

/// A `+PIECE` with a payload, at the beginning of a send.
struct Piece {
    slot: HashSlot,
    at: Offset,
    /// Where its payload ends.
    end: usize,
}

impl Piece {
    fn of(bytes: &[u8]) -> Option<Piece> {
        let fields = bytes.strip_prefix(b"+PIECE ")?;
        let line = fields.iter().position(|&byte| byte == b'\r')?;
        let mut numbers = std::str::from_utf8(&fields[..line]).ok()?.split(' ').map(|field| field.parse::<u64>().ok());
        let mut number = || numbers.next().flatten();
        let (slot, at, len) = (number()?, number()?, number()? as usize);
        // The last piece of a slot may be empty.
        let end = b"+PIECE ".len() + line + 2 + len;
        (len > 0).then_some(Piece { slot: HashSlot::new(slot as u16)?, at: Offset::new(at), end })
    }
}

/// Puts another check in the place of the one at `at`, if there is one.
fn replace_check(bytes: &mut Vec<u8>, at: usize, check: Check) {
    if bytes[at..].starts_with(b"+CHECK ") {
        let end = at + bytes[at..].iter().position(|&byte| byte == b'\n').expect("a line ends") + 1;
        let mut line = Vec::new();
        check.encode_to(&mut line);
        bytes.splice(at..end, line);
    }
}

impl Pieces {
    fn strikes(&mut self) -> bool {
        self.sent += 1;
        self.sent.is_multiple_of(self.damage_every)
    }
}

/// Puts an item, `word`, before the frame that it already shows, under the offset of that frame, which is the line's word `index`.
fn late_by_one(out: &mut Vec<u8>, item: &[u8], word: &str, index: usize) {
    let plain = |out: &mut Vec<u8>| out.extend_from_slice(item);
    let end = item.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let line = String::from_utf8_lossy(&item[..end]).into_owned();
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if words[0] != word {
        return plain(out);
    }
    let Some(at) = words[index].parse::<u64>().ok().and_then(|at| at.checked_sub(1)) else { return plain(out) };
    let frame = format!("*2\r\n:{at}\r\n");
    let Some(begin) = out.windows(frame.len()).rposition(|window| window == frame.as_bytes()) else {
        return plain(out);
    };
    // A group is taken whole: nothing can stand inside it.
    let mut decoder = Decoder::new();
    decoder.recv(&out[begin..]);
    if !matches!(decoder.next(), Ok(Some(Message::Frames(frames))) if frames.len() == 1)
        || out.windows(7).any(|word| word == b"+GROUP ")
    {
        return plain(out);
    }
    words[index] = at.to_string();
    let frame = out.split_off(begin);
    out.extend_from_slice(words.join(" ").as_bytes());
    out.extend_from_slice(&item[end..]);
    out.extend_from_slice(&frame);
}
