//! One step of the dump of a slot: keys by rising hash, each as of now, and of a value that is larger than a step only a piece.
//!
//! ```text
//!            string             bytes from a position on
//! a piece of hash, set, zset    members from a keyed hash on, as they are now
//!            stream             entries from an id on, then what its groups have, as they are now
//!            list               nodes of the list as it was when it was frozen, one step after the other without a frame between
//! ```
//!
//! Whatever is written between two steps, a member that was there all the time is in some piece, and what was written is in the
//! frames that the receiver applies to its copy meanwhile. So a piece of a key that is gone is not missing, and a dump of a key
//! that was made anew merely says some of it twice.
//!
//! A string of which only the beginning has arrived may be written to by what replaces it, appends to it or names places in it:
//! places that have not arrived are overwritten when they do, and it never gets longer than the whole.

use super::heap::Heap;
use super::slab::Handle;
use super::slot::{Slot, Storage};
use super::value::list::Frozen;
use super::value::stream::Place;
use super::{Entry, Value, ValueRef, hash};
use crate::id::UnixMs;
use crate::snapshot::DumpCursor;
use crate::snapshot::record::{Head, Kind, put_bytes, put_varint};

/// Where inside a line of the table a dump stands, and where inside a value.
#[derive(Debug)]
struct Inside {
    /// Keys before it, in the order of (hash, key), are dumped.
    key: Box<[u8]>,
    next: Next,
}

/// What comes next of a key.
#[derive(Debug)]
enum Next {
    /// All of it.
    Key,
    /// The bytes of a string from this position on.
    Bytes(usize),
    /// The members whose keyed hashes are at least this.
    Members(u64),
    /// What a stream has from this place on.
    Places(Place),
    /// The rest of a list as it was, with the expiry that its key had.
    Elements(Frozen, Option<UnixMs>),
    /// Nothing.
    Done,
}

/// A dump step under way.
pub(super) struct Step<'a> {
    pub slot: Slot,
    pub storage: &'a Storage,
    /// Bytes of a value that is written whole.
    pub piece_bytes: usize,
    /// Keys that may still be written.
    pub keys_left: usize,
    pub out: &'a mut Vec<u8>,
}

impl Step<'_> {
    /// Goes on from `cursor` until about `room` bytes are written. `None`: the slot is at its end.
    pub fn run(mut self, cursor: DumpCursor, room: usize) -> Option<DumpCursor> {
        let begin = self.out.len();
        let full = begin.saturating_add(room);
        let mut from = cursor.at;
        let mut inside = cursor.inside.and_then(|inside| inside.downcast().ok()).map(|inside| *inside);
        if let Some(Inside { key, next }) = inside {
            let next = self.piece(from, &key, next, room);
            let is_over = matches!(next, Next::Key | Next::Done);
            let here = Inside { key, next };
            // After a list as it was comes the rest of the slot as it is: in another step.
            if !is_over || cursor.frozen {
                return Some(here.cursor(from));
            }
            inside = Some(here);
        }
        loop {
            if inside.is_none() {
                let line = self.out.len();
                match self.line(from, full) {
                    Ok(next) => {
                        from = next?;
                        if self.out.len() >= full || self.keys_left == 0 {
                            return Some(DumpCursor::at(from));
                        }
                        continue;
                    }
                    Err(DoesNotFit) if line > begin => return Some(DumpCursor::at(from)),
                    Err(DoesNotFit) => {}
                }
            }
            match self.key_by_key(from, inside.take(), full) {
                Ok(next) => from = next?,
                Err((hash, inside)) => return Some(inside.cursor(hash)),
            }
            if self.out.len() >= full || self.keys_left == 0 {
                return Some(DumpCursor::at(from));
            }
        }
    }

    /// Writes the line of the table at `from` whole, or nothing; answers where the next one begins.
    fn line(&mut self, from: u64, full: usize) -> Result<Option<u64>, DoesNotFit> {
        let Step { slot, storage, piece_bytes, keys_left, out } = self;
        let line = out.len();
        let (mut fits, mut keys) = (true, 0);
        let next = slot.walk(storage, from, |handle| {
            if !fits {
                return;
            }
            let entry = storage.heap.entry(handle);
            fits = out.len() < full && entry.value().record_bytes() <= *piece_bytes;
            if fits {
                entry.encode(out);
                keys += 1;
            }
        });
        if fits {
            *keys_left = keys_left.saturating_sub(keys);
            return Ok(next);
        }
        out.truncate(line);
        Err(DoesNotFit)
    }

    /// Writes the keys of the line at `from` in the order of (hash, key), those that lie behind `inside`; answers where the next
    /// line begins, or the place, by hash, where there was no more room.
    fn key_by_key(&mut self, from: u64, inside: Option<Inside>, full: usize) -> Result<Option<u64>, (u64, Inside)> {
        let heap = &self.storage.heap;
        let mut line: Vec<(u64, Handle)> = Vec::new();
        let next = self.slot.walk(self.storage, from, |handle| line.push((hash::keyed_hash(heap.key(handle)), handle)));
        line.sort_unstable_by(|a, b| by_hash_and_key(heap, *a, *b));
        for (hash, handle) in line {
            let entry = heap.entry(handle);
            let is_dumped = inside.as_ref().is_some_and(|inside| match (hash, entry.key()).cmp(&(from, &inside.key)) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => matches!(inside.next, Next::Done),
                std::cmp::Ordering::Greater => false,
            });
            if is_dumped {
                continue;
            }
            let here = |next| (hash, Inside { key: entry.key().into(), next });
            if self.out.len() >= full {
                return Err(here(Next::Key));
            }
            if entry.value().record_bytes() <= self.piece_bytes {
                entry.encode(self.out);
                self.keys_left = self.keys_left.saturating_sub(1);
                continue;
            }
            match self.first_piece(&entry, full - self.out.len()) {
                Next::Key | Next::Done => {}
                next => return Err(here(next)),
            }
        }
        Ok(next)
    }

    /// Begins a value that is too large for a step.
    fn first_piece(&mut self, entry: &Entry<'_>, room: usize) -> Next {
        let room = self.piece_room(room);
        entry.head().encode(self.out);
        match entry.value() {
            ValueRef::Str(bytes) => {
                let end = room.min(bytes.len());
                put_bytes(&bytes[..end], self.out);
                if end < bytes.len() { Next::Bytes(end) } else { Next::Done }
            }
            ValueRef::Boxed(Value::List(list)) => {
                let mut frozen = list.freeze(&self.storage.heap.thawed);
                if frozen.encode(room, self.out) { Next::Done } else { Next::Elements(frozen, entry.expiry()) }
            }
            ValueRef::Boxed(Value::Stream(stream)) => {
                stream.encode_piece(Place::START, room, self.out).map_or(Next::Done, Next::Places)
            }
            ValueRef::Boxed(value) => value.encode_piece(0, room, self.out).1.map_or(Next::Done, Next::Members),
        }
    }

    /// Bytes of a piece, where a step has this much room: not too few, so that a value needs a bounded number of pieces.
    fn piece_room(&self, room: usize) -> usize {
        room.clamp(self.piece_bytes.div_ceil(2), self.piece_bytes)
    }

    /// The next piece of the value of `key`, if it still is one.
    fn piece(&mut self, hash: u64, key: &[u8], next: Next, room: usize) -> Next {
        let room = self.piece_room(room);
        let head = |kind, expiry| Head { kind, expiry, key, is_more: true, has_times: false };
        let entry = self.slot.get(self.storage, hash, key);
        match (next, entry.map(|entry| (entry.value(), entry.expiry()))) {
            (Next::Elements(mut frozen, expiry), _) => {
                head(Kind::List, expiry).encode(self.out);
                if frozen.encode(room, self.out) { Next::Done } else { Next::Elements(frozen, expiry) }
            }
            (Next::Bytes(at), Some((ValueRef::Str(bytes), expiry))) if at < bytes.len() => {
                let end = at + room.min(bytes.len() - at);
                head(Kind::String, expiry).encode(self.out);
                put_varint(at as u64, self.out);
                put_bytes(&bytes[at..end], self.out);
                if end < bytes.len() { Next::Bytes(end) } else { Next::Done }
            }
            (Next::Members(from), Some((ValueRef::Boxed(value), expiry))) => {
                let mark = self.out.len();
                Head { has_times: value.has_times(), ..head(value.kind(), expiry) }.encode(self.out);
                let value_at = self.out.len();
                let (mut count, next) = value.encode_piece(from, room, self.out);
                if count == 0 {
                    // All that it has was written after its hashes had been passed. The receiver's key may have gone meanwhile, and
                    // with it the expiry: that travels with any member.
                    self.out.truncate(value_at);
                    count = value.encode_piece(0, 1, self.out).0;
                }
                if count == 0 {
                    self.out.truncate(mark);
                }
                next.map_or(Next::Done, Next::Members)
            }
            (Next::Places(from), Some((ValueRef::Boxed(Value::Stream(stream)), expiry))) => {
                head(Kind::Stream, expiry).encode(self.out);
                stream.encode_piece(from, room, self.out).map_or(Next::Done, Next::Places)
            }
            (Next::Key, _) => Next::Key,
            // It is gone, or another value: frames made it what it is.
            (Next::Bytes(_) | Next::Members(_) | Next::Places(_) | Next::Done, _) => Next::Done,
        }
    }
}

/// The line of a table is more than a step may write, or has a value that goes in pieces.
struct DoesNotFit;

impl Inside {
    /// The cursor at the key, whose hash is this.
    fn cursor(self, hash: u64) -> DumpCursor {
        let frozen = matches!(self.next, Next::Elements(..));
        DumpCursor { at: hash, inside: Some(Box::new(self)), frozen }
    }
}

fn by_hash_and_key(heap: &Heap, a: (u64, Handle), b: (u64, Handle)) -> std::cmp::Ordering {
    a.0.cmp(&b.0).then_with(|| heap.key(a.1).cmp(heap.key(b.1)))
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use crate::id::{HashSlot, UnixMs};
    use crate::resp::decode_multibulk;
    use crate::snapshot::{Copy, DumpCursor, Keyspace};
    use crate::store::value::{Hash, List, Set, Zset, list::End};
    use crate::store::{KeyspaceStore, Place, Value, ValueRef, hash};
    use crate::wire::{Argv, Command};

    fn slot() -> HashSlot {
        hash::slot_of(b"{tag}")
    }

    /// A write of any kind on one of a few keys, some of which have the same hash.
    fn effect(rng: &mut Rng) -> Vec<String> {
        let kind = ["s", "h", "e", "z", "l"][rng.usize(..5)];
        let key = format!("{{tag}}{kind}~{}{}", rng.u8(..2), rng.u8(..3));
        let (member, text) = (format!("m{}", rng.u8(..60)), rng.u16(..).to_string());
        let long = "v".repeat(rng.usize(..300));
        let mut words = match (kind, rng.u8(..10)) {
            (_, 0) => return if rng.u8(..4) == 0 { vec!["DEL".into(), key] } else { vec!["PERSIST".into(), key] },
            (_, 1) => vec!["PEXPIREAT", &text],
            ("s", 2..5) => vec!["APPEND", &text],
            ("s", 5) => vec!["SET", &long],
            ("s", _) => {
                return vec!["SETRANGE".into(), key, rng.usize(..400).to_string(), text];
            }
            ("h", 2..4) => vec!["HSET", &member, &long],
            ("h", 4) => vec!["HPEXPIREAT", &text, "FIELDS", "2", &member, "m7"],
            ("h", 5..8) => vec!["HINCRBY", &member, "3"],
            ("h", _) => vec!["HDEL", &member, "m1", "m2"],
            ("e", 2..7) => vec!["SADD", &member, &text],
            ("e", _) => vec!["SREM", &member],
            ("z", 2..7) => vec!["ZADD", &text, &member],
            ("z", _) => vec!["ZREM", &member],
            ("l", 2..4) => vec!["RPUSH", &text, &long],
            ("l", 4..6) => vec!["LPUSH", &text],
            ("l", 6) => vec!["LPOP"],
            ("l", 7) => vec!["RPOP"],
            ("l", 8) => vec!["LSET", "-1", &text],
            _ => vec!["LTRIM", "1", "-1"],
        };
        words.insert(1, &key);
        words.into_iter().map(str::to_owned).collect()
    }

    fn apply(store: &mut KeyspaceStore, copy: Copy, words: &[String]) -> bool {
        let command = Command::new(words);
        let mut ranges = Vec::new();
        decode_multibulk(command.as_bytes(), &mut ranges).unwrap().unwrap();
        let argv = Argv::new(command.as_bytes(), &ranges);
        store.apply(copy, hash::locate(argv.arg(1)), argv).is_ok()
    }

    /// What a replica does with the slot: staging takes every frame from the begin on, and every piece.
    fn dump_while_writing(seed: u64) {
        let mut rng = Rng::with_seed(seed);
        let (mut primary, mut replica) = (KeyspaceStore::new(), KeyspaceStore::new());
        let piece_bytes = [10, 40, 200, 1_000][rng.usize(..4)];
        primary.set_value_piece_bytes(piece_bytes);
        for _ in 0..rng.usize(..1_500) {
            apply(&mut primary, Copy::Live, &effect(&mut rng));
        }
        replica.begin(slot());
        let mut cursor = Some(DumpCursor::START);
        while let Some(from) = cursor {
            for _ in 0..if from.frozen { 0 } else { rng.usize(..8) } {
                let effect = effect(&mut rng);
                if apply(&mut primary, Copy::Live, &effect) {
                    apply(&mut replica, Copy::Staging, &effect);
                }
            }
            let room = [1, 100, 2_000][rng.usize(..3)];
            let mut records = Vec::new();
            cursor = primary.dump(slot(), from, room, &mut records);
            // The longest member, and the heads of records.
            assert!(records.len() <= room + piece_bytes + 400, "{} bytes, {room} of room", records.len());
            replica.load(slot(), &records).unwrap();
        }
        let digests = [primary.digest(Copy::Live, slot()), replica.digest(Copy::Staging, slot())];
        if digests[0] != digests[1] {
            replica.install(slot());
            primary.scan(Default::default(), usize::MAX, |entry| {
                let theirs = replica.get(hash::locate(entry.key()), entry.key());
                if theirs.map(|e| e.digest()) != Some(entry.digest()) {
                    println!("{:?} is {theirs:?}", entry);
                }
            });
            panic!("seed {seed}: the copy differs");
        }
        replica.install(slot());
        primary.invariants();
        replica.invariants();
    }

    #[test]
    fn a_slot_that_is_written_to_while_it_is_dumped_in_pieces_arrives_as_it_is() {
        for seed in 0..400 {
            dump_while_writing(seed);
        }
    }

    #[test]
    fn a_key_of_which_all_that_is_left_has_arrived_keeps_its_expiry() {
        for [add, remove] in [["SADD", "SREM"], ["HSET", "HDEL"], ["ZADD", "ZREM"]] {
            let (mut primary, mut replica) = (KeyspaceStore::new(), KeyspaceStore::new());
            primary.set_value_piece_bytes(100);
            let at = hash::locate(b"{tag}");
            let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
            let adding = |member: &str| match add {
                "SADD" => words(&[add, "{tag}", member]),
                "HSET" => words(&[add, "{tag}", member, "v"]),
                _ => words(&[add, "{tag}", "7", member]),
            };
            let members: Vec<String> = (0..200).map(|n| format!("member {n}")).collect();
            for member in &members {
                assert!(apply(&mut primary, Copy::Live, &adding(member)));
            }
            assert!(apply(&mut primary, Copy::Live, &words(&["PEXPIREAT", "{tag}", "5000"])));

            replica.begin(slot());
            let mut records = Vec::new();
            let mut cursor = primary.dump(slot(), DumpCursor::START, 100, &mut records);
            replica.load(slot(), &records).unwrap();
            let arrived = replica.get(Place { copy: Copy::Staging, at }, b"{tag}").unwrap();
            let ValueRef::Boxed(value) = arrived.value() else { unreachable!() };
            let (sent, rest): (Vec<_>, Vec<_>) = members.iter().partition(|member| match value {
                Value::Set(set) => set.contains(member.as_bytes()),
                Value::Hash(hash) => hash.get(member.as_bytes()).is_some(),
                Value::Zset(zset) => zset.score(member.as_bytes()).is_some(),
                Value::Str(_) | Value::List(_) | Value::Stream(_) => unreachable!(),
            });
            assert!(!sent.is_empty() && !rest.is_empty());

            // In staging the key goes, and with it its expiry; on the primary it is there all the time.
            let removing = |member: &String| words(&[remove, "{tag}", member]);
            let frames = sent.iter().copied().map(removing);
            let frames = frames.chain([adding(sent[0])]).chain(rest.iter().copied().map(removing));
            for frame in frames {
                assert!(apply(&mut primary, Copy::Live, &frame));
                assert!(apply(&mut replica, Copy::Staging, &frame));
            }
            while let Some(from) = cursor {
                records.clear();
                cursor = primary.dump(slot(), from, 100, &mut records);
                replica.load(slot(), &records).unwrap();
            }
            replica.install(slot());
            let entry = replica.get(at, b"{tag}").unwrap();
            assert_eq!(entry.expiry(), Some(UnixMs::new(5000)), "{add}");
            assert_eq!(primary.digest(Copy::Live, slot()), replica.digest(Copy::Live, slot()));
        }
    }

    #[test]
    fn a_dump_that_nobody_goes_on_with_leaves_its_list_to_be_freed_in_steps() {
        let mut store = KeyspaceStore::new();
        let mut list = List::new();
        (0..400).for_each(|_| list.push(End::Tail, &[7; 16 << 10]));
        let at = hash::locate(b"{tag}");
        store.set_value(at, b"{tag}", Box::new(Value::List(list)), None);
        let cursor = store.dump(slot(), DumpCursor::START, 1, &mut Vec::new()).unwrap();
        assert!(cursor.frozen);
        store.remove(at, b"{tag}");
        let mut steps = || std::iter::repeat_with(|| store.reclaim()).take_while(|more| *more).count();
        // The nodes are the cursor's, too.
        let while_shared = steps();
        assert_eq!(steps(), 0);
        drop(cursor);
        assert!(steps().abs_diff(while_shared) <= 1);
        assert!(while_shared > 2 && steps() == 0);
    }

    #[test]
    fn no_step_writes_more_than_a_piece_beyond_its_room_however_large_values_are() {
        let mut store = KeyspaceStore::new();
        let at = |name: &str| (hash::locate(name.as_bytes()), name.as_bytes().to_vec());
        let (mut h, mut e, mut z, mut l) = (Hash::new(), Set::new(), Zset::new(), List::new());
        for n in 0..40_000u32 {
            let member = n.to_le_bytes();
            h.set(&member, b"value");
            e.insert(&member);
            z.insert(&member, f64::from(n));
            l.push(End::Tail, &member);
        }
        let values =
            [Value::Hash(h), Value::Set(e), Value::Zset(z), Value::List(l), Value::Str(vec![7; 1 << 20].into())];
        for (n, value) in values.into_iter().enumerate() {
            let (at, key) = at(&format!("{{tag}}{n}"));
            store.set_value(at, &key, Box::new(value), None);
        }
        let mut copy = KeyspaceStore::new();
        copy.begin(slot());
        let mut cursor = Some(DumpCursor::START);
        let mut steps = 0;
        while let Some(from) = cursor {
            let mut records = Vec::new();
            cursor = store.dump(slot(), from, 64 << 10, &mut records);
            assert!(records.len() <= 128 << 10, "{} bytes", records.len());
            copy.load(slot(), &records).unwrap();
            steps += 1;
        }
        assert!((200..400).contains(&steps), "{steps} steps");
        assert_eq!(store.digest(Copy::Live, slot()), copy.digest(Copy::Staging, slot()));
    }

    #[test]
    fn pieces_that_fit_nothing_are_refused_by_name() {
        let mut store = KeyspaceStore::new();
        store.begin(slot());
        store.load(slot(), b"\x01\x05{tag}\x03abc").unwrap();
        store.load(slot(), b"\x41\x05{tag}\x02\x03xyz").unwrap();
        for (piece, what) in [
            (&b"\x41\x05{tag}\x06\x01x"[..], "a piece beyond the end of its string"),
            (b"\x41\x05{tag}\xff\xff\xff\xff\xff\x01\x01x", "a piece beyond the end of its string"),
            (b"\x44\x05{tag}\x01\x01m", "a piece of a value of another type"),
            (b"\x44\x06{tag}n\0", "an aggregate without members"),
        ] {
            assert_eq!(store.load(slot(), piece).unwrap_err().what, what);
        }
        store.load(slot(), b"\x44\x06{tag}n\x01\x01m").unwrap();
        let missing = store.load(slot(), b"\x41\x06{tag}n\0\x01x").unwrap_err();
        assert_eq!(missing.what, "a piece of a value of another type");
    }
}
