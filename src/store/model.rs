//! The keyspace against a plain map: every operation, in any order, with dumps and scans that go on in between.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::value::{Set, Value};
use super::{Entry, KeyspaceStore, Place, ScanCursor, Tracking, ValueRef, hash};
use crate::id::{HashSlot, UnixMs};
use crate::snapshot::{AsOf, Copy, Digest, DumpCursor, Keyspace, SumId, Summed};

/// What a key holds, in the model.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Held {
    Str(Vec<u8>),
    Set(BTreeSet<Vec<u8>>),
}

type Keys = BTreeMap<Vec<u8>, (Held, Option<UnixMs>)>;

#[derive(Clone, Debug)]
enum Op {
    SetString { key: u16, len: usize, expiry: Option<u64> },
    SetMany { first: u16, count: u16 },
    RemoveMany { first: u16, count: u16 },
    SetSet { key: u16, members: u8 },
    AddMember { key: u16, member: u8 },
    Expire { key: u16, expiry: Option<u64> },
    Remove { key: u16 },
    Track { what: Tracking },
    Use { key: u16, at: u64 },
    Clear,
    DumpStep { room: usize },
    ScanStep { count: usize },
    SumStep { of: AsOf, room: usize },
    Stage,
    Install,
    Discard,
    Reclaim,
    EmptyRuns { count: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || prop_oneof![4 => 0..60u16, 1 => 0..6000u16, 3 => LONG..LONG + 4];
    let expiry = || prop_oneof![Just(None), (0..u64::MAX).prop_map(Some)];
    let len = prop_oneof![6 => 0..80usize, 2 => 950..1050usize, 1 => 0..5000usize];
    let of = prop_oneof![Just(AsOf::Begin), Just(AsOf::End)];
    let tracking = prop_oneof![Just(Tracking::Off), Just(Tracking::Times), Just(Tracking::Frequencies)];
    let op = prop_oneof![
        8 => (key(), len, expiry()).prop_map(|(key, len, expiry)| Op::SetString { key, len, expiry }),
        3 => (0..6000u16, 1..3000u16).prop_map(|(first, count)| Op::SetMany { first, count }),
        3 => (0..6000u16, 1..5000u16).prop_map(|(first, count)| Op::RemoveMany { first, count }),
        2 => (key(), 1..200u8).prop_map(|(key, members)| Op::SetSet { key, members }),
        3 => (key(), any::<u8>()).prop_map(|(key, member)| Op::AddMember { key, member }),
        5 => (key(), expiry()).prop_map(|(key, expiry)| Op::Expire { key, expiry }),
        5 => key().prop_map(|key| Op::Remove { key }),
        2 => tracking.prop_map(|what| Op::Track { what }),
        6 => (key(), any::<u64>()).prop_map(|(key, at)| Op::Use { key, at }),
        1 => Just(Op::Clear),
        6 => (1..60_000usize).prop_map(|room| Op::DumpStep { room }),
        6 => (1..1_000usize).prop_map(|count| Op::ScanStep { count }),
        12 => (of, 1..40_000usize).prop_map(|(of, room)| Op::SumStep { of, room }),
        1 => Just(Op::Stage),
        1 => Just(Op::Install),
        1 => Just(Op::Discard),
        4 => Just(Op::Reclaim),
        6 => (1..8usize).prop_map(|count| Op::EmptyRuns { count }),
    ];
    prop::collection::vec(op, 1..60)
}

/// Numbers from here on name keys too long for an entry, and one that fits only without an expiry.
const LONG: u16 = 20_000;

/// All in one slot; of the first sixty, ten hashes are shared by six keys each.
fn key_of(number: u16) -> Vec<u8> {
    match number {
        0..60 => format!("{{tag}}~{}/{number}", number % 10).into_bytes(),
        LONG => [b"{tag}long".as_slice(), &[b'x'; 1004]].concat(),
        60..LONG => format!("{{tag}}{number}").into_bytes(),
        _ => [b"{tag}long".as_slice(), &vec![b'y'; 800 + 150 * usize::from(number - LONG)]].concat(),
    }
}

fn held(entry: Entry<'_>) -> (Held, Option<UnixMs>) {
    let value = match entry.value() {
        ValueRef::Str(bytes) => Held::Str(bytes.to_vec()),
        ValueRef::Boxed(Value::Set(set)) => Held::Set(set.iter().map(<[u8]>::to_vec).collect()),
        ValueRef::Boxed(other) => panic!("nobody put {other:?} there"),
    };
    (value, entry.expiry())
}

fn slot() -> HashSlot {
    hash::slot_of(b"{tag}")
}

/// A walk that goes on while the store changes.
#[derive(Default)]
struct Walk {
    /// Keys that were there at its first step and at all times since.
    steady: BTreeSet<Vec<u8>>,
    seen: BTreeSet<Vec<u8>>,
}

impl Walk {
    fn end(&mut self) {
        let missed: Vec<_> = self.steady.difference(&self.seen).collect();
        assert!(missed.is_empty(), "keys that were there all the time were left out: {missed:?}");
        *self = Walk::default();
    }
}

#[derive(Default)]
struct World {
    store: KeyspaceStore,
    live: Keys,
    staging: Option<Keys>,
    dump: Walk,
    /// Where the dump is; `None` between two dumps.
    dump_at: Option<DumpCursor>,
    scan: Walk,
    scan_at: ScanCursor,
    sums: Vec<Sum>,
}

/// A digest that is being taken in steps.
struct Sum {
    id: SumId,
    of: AsOf,
    /// What the digest was when it began.
    begin: Digest,
    /// Whether the slot has been emptied or replaced since.
    replaced: bool,
}

impl World {
    fn forget(&mut self, key: &[u8]) {
        self.live.remove(key);
        self.dump.steady.remove(key);
        self.scan.steady.remove(key);
    }

    fn set_string(&mut self, key: Vec<u8>, value: Vec<u8>, expiry: Option<UnixMs>) {
        self.store.set_string(hash::locate(&key), &key, &value, expiry);
        self.live.insert(key, (Held::Str(value), expiry));
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::SetString { key, len, expiry } => {
                self.set_string(key_of(key), vec![key as u8; len], expiry.map(UnixMs::new));
            }
            Op::SetMany { first, count } => {
                for number in first..first + count {
                    let expiry = (number % 3 == 0).then_some(UnixMs::new(u64::from(number)));
                    self.set_string(key_of(number), vec![count as u8; usize::from(number % 50)], expiry);
                }
            }
            Op::RemoveMany { first, count } => {
                for number in first..first + count {
                    let key = key_of(number);
                    assert_eq!(self.store.remove(hash::locate(&key), &key), self.live.contains_key(&key));
                    self.forget(&key);
                }
            }
            Op::SetSet { key, members } => {
                let key = key_of(key);
                let (mut set, mut model) = (Set::new(), BTreeSet::new());
                for member in 0..members {
                    set.insert(&[member]);
                    model.insert(vec![member]);
                }
                self.store.set_value(hash::locate(&key), &key, Box::new(Value::Set(set)), None);
                self.live.insert(key, (Held::Set(model), None));
            }
            Op::AddMember { key, member } => {
                let key = key_of(key);
                let changed = self.store.update(hash::locate(&key), &key, |value| match value {
                    Value::Set(set) => _ = set.insert(&[member]),
                    Value::Str(string) => string.extend_from_slice(&[member]),
                    other => panic!("nobody put {other:?} there"),
                });
                match self.live.get_mut(&key) {
                    Some((Held::Set(set), _)) => _ = set.insert(vec![member]),
                    Some((Held::Str(string), _)) if changed.is_some() => string.extend_from_slice(&[member]),
                    _ => assert!(changed.is_none()),
                }
            }
            Op::Expire { key, expiry } => {
                let (key, expiry) = (key_of(key), expiry.map(UnixMs::new));
                let there = self.store.set_expiry(hash::locate(&key), &key, expiry);
                assert_eq!(there, self.live.get_mut(&key).map(|held| held.1 = expiry).is_some());
            }
            Op::Remove { key } => {
                let key = key_of(key);
                assert_eq!(self.store.remove(hash::locate(&key), &key), self.live.contains_key(&key));
                self.forget(&key);
            }
            Op::Track { what } => self.store.track(what, UnixMs::new(5_000_000)),
            Op::Use { key, at } => {
                let key = key_of(key);
                self.store.note_use(hash::locate(&key), &key, UnixMs::new(at), at);
            }
            Op::Clear => {
                self.store.clear(Copy::Live, slot());
                self.sums.iter_mut().for_each(|sum| sum.replaced = true);
                self.live.clear();
                self.dump.steady.clear();
                self.scan.steady.clear();
            }
            Op::DumpStep { room } => self.dump_step(room),
            Op::ScanStep { count } => self.scan_step(count),
            Op::SumStep { of, room } => self.sum_step(of, room),
            Op::Stage => self.stage(),
            Op::Install => {
                self.store.install(slot());
                if let Some(staged) = self.staging.take() {
                    self.sums.iter_mut().for_each(|sum| sum.replaced = true);
                    self.live = staged;
                    self.dump.steady.retain(|key| self.live.contains_key(key));
                    self.scan.steady.retain(|key| self.live.contains_key(key));
                }
            }
            Op::Discard => {
                self.store.discard(slot());
                self.staging = None;
            }
            Op::Reclaim => _ = self.store.reclaim(),
            Op::EmptyRuns { count } => (0..count).for_each(|_| self.store.empty_a_run()),
        }
    }

    fn dump_step(&mut self, room: usize) {
        if self.dump_at.is_none() {
            self.dump.steady = self.live.keys().cloned().collect();
        }
        let mut records = Vec::new();
        let from = self.dump_at.take().unwrap_or(DumpCursor::START);
        self.dump_at = self.store.dump(slot(), from, room, &mut records);
        let longest = 20_000;
        assert!(records.len() < room + 12 * longest, "a step is bounded");
        let mut copy = KeyspaceStore::new();
        copy.begin(slot());
        copy.load(slot(), &records).unwrap();
        copy.install(slot());
        copy.scan(ScanCursor::START, usize::MAX, |entry| {
            assert_eq!(held(entry), self.live[entry.key()], "as it is now");
            self.dump.seen.insert(entry.key().to_vec());
        });
        if self.dump_at.is_none() {
            self.dump.end();
        }
    }

    fn scan_step(&mut self, count: usize) {
        if self.scan_at == ScanCursor::START {
            self.scan.steady = self.live.keys().cloned().collect();
        }
        let at = ScanCursor::from_u64(self.scan_at.get()).expect("as a client would give it back");
        self.scan_at = self.store.scan(at, count, |entry| {
            assert_eq!(held(entry), self.live[entry.key()]);
            self.scan.seen.insert(entry.key().to_vec());
        });
        if self.scan_at == ScanCursor::START {
            self.scan.end();
        }
    }

    /// Begins a digest, or goes on with it: it is that of its first or its last step, whatever was written in between.
    fn sum_step(&mut self, of: AsOf, room: usize) {
        self.store.set_digest_step_bytes(room);
        let now = self.store.digest(Copy::Live, slot());
        let (summed, begun) = match self.sums.iter().position(|sum| sum.of == of) {
            Some(n) => {
                let sum = self.sums.swap_remove(n);
                (self.store.digest_step(sum.id), sum)
            }
            None => {
                let summed = self.store.digest_begin(slot(), of);
                (summed, Sum { id: SumId(0), of, begin: now, replaced: false })
            }
        };
        match summed {
            Summed::More(id) => self.sums.push(Sum { id, ..begun }),
            Summed::Done(digest) if of == AsOf::End => assert_eq!(digest, now),
            Summed::Done(digest) => assert_eq!(digest, begun.begin),
            Summed::Lost => assert!(begun.replaced && of == AsOf::Begin),
        }
    }

    /// Loads the live slot into staging, with one key more.
    fn stage(&mut self) {
        self.store.begin(slot());
        let (mut at, mut records) = (Some(DumpCursor::START), Vec::new());
        while let Some(from) = at {
            records.clear();
            at = self.store.dump(slot(), from, 10_000, &mut records);
            self.store.load(slot(), &records).unwrap();
        }
        assert_eq!(self.store.digest(Copy::Staging, slot()), self.store.digest(Copy::Live, slot()));
        let place = Place { copy: Copy::Staging, at: hash::locate(b"{tag}staged") };
        self.store.set_string(place, b"{tag}staged", b"only here", None);
        assert!(self.store.get(place, b"{tag}staged").is_some());
        let mut staged = self.live.clone();
        staged.insert(b"{tag}staged".to_vec(), (Held::Str(b"only here".to_vec()), None));
        assert_eq!(self.store.slot_len(Copy::Staging, slot()), staged.len());
        self.staging = Some(staged);
    }

    fn check(&self) {
        self.store.invariants();
        assert_eq!(self.store.len(), self.live.len());
        assert_eq!(self.store.slot_len(Copy::Live, slot()), self.live.len());
        assert_eq!(self.store.expires(), self.live.values().filter(|held| held.1.is_some()).count());
        for (key, value) in &self.live {
            let entry = self.store.get(hash::locate(key), key).expect("what was put is there");
            assert_eq!(entry.key(), key);
            assert_eq!(&held(entry), value);
        }
        for number in 0..6000 {
            let key = key_of(number);
            assert_eq!(self.store.get(hash::locate(&key), &key).is_some(), self.live.contains_key(&key));
        }
        match self.store.random_key((self.live.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            Some(entry) => assert!(self.live.contains_key(entry.key())),
            None => assert!(self.live.is_empty()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_keyspace_is_a_map_that_can_be_walked_while_it_changes(ops in ops()) {
        let mut world = World::default();
        for op in ops {
            world.step(op);
        }
        world.check();
        // At the end nothing may be left over.
        world.store.clear(Copy::Live, slot());
        world.store.discard(slot());
        while world.store.reclaim() {}
        world.store.invariants();
        prop_assert_eq!(world.store.used_bytes(), KeyspaceStore::new().used_bytes());
    }
}

#[test]
fn a_slot_of_many_keys_is_split_and_comes_back_to_nothing() {
    let mut store = KeyspaceStore::new();
    let key = |n: u32| format!("{{tag}}{n}").into_bytes();
    for n in 0..100_000 {
        store.set_string(hash::locate(&key(n)), &key(n), b"value", None);
    }
    store.invariants();
    assert_eq!(store.len(), 100_000);
    let mut records = Vec::new();
    let (mut cursor, mut steps) = (Some(DumpCursor::START), 0);
    while let Some(from) = cursor {
        let before = records.len();
        cursor = store.dump(slot(), from, usize::MAX, &mut records);
        steps += 1;
        assert!(records.len() - before < 1_000 * 18, "a step of a large slot has few keys, whatever its room");
    }
    assert!((100..=200).contains(&steps), "{steps} steps");
    let one = 1 + 1 + 5 + 1 + 5;
    assert!((100_000 * one..100_000 * (one + 5)).contains(&records.len()), "each key once");
    for n in 0..100_000 {
        assert!(store.remove(hash::locate(&key(n)), &key(n)));
    }
    store.invariants();
    assert_eq!(store.used_bytes(), KeyspaceStore::new().used_bytes());
}

#[test]
fn a_digest_is_over_key_type_value_and_expiry_and_over_no_order() {
    let digest_of = |keys: &[(&[u8], &[u8], Option<u64>)]| {
        let mut store = KeyspaceStore::new();
        for (key, value, expiry) in keys {
            store.set_string(hash::locate(key), key, value, expiry.map(UnixMs::new));
        }
        store.digest(Copy::Live, slot())
    };
    assert_eq!(digest_of(&[]), Digest(0));
    let both = digest_of(&[(b"{tag}a", b"1", None), (b"{tag}b", b"2", Some(5))]);
    assert_eq!(both, digest_of(&[(b"{tag}b", b"2", Some(5)), (b"{tag}a", b"1", None)]));
    assert_ne!(both, digest_of(&[(b"{tag}a", b"2", None), (b"{tag}b", b"1", Some(5))]), "values swapped");
    assert_ne!(both, digest_of(&[(b"{tag}a", b"1", Some(5)), (b"{tag}b", b"2", None)]), "expiries swapped");
    assert_ne!(both, digest_of(&[(b"{tag}a", b"1", None), (b"{tag}b", b"2", Some(6))]));
    assert_eq!(both, Digest(1_339_833_509_396_043_310), "the same in every build");
}

#[test]
fn malformed_records_are_refused_by_name() {
    let mut store = KeyspaceStore::new();
    assert_eq!(store.load(slot(), b"\x01\x05{tag}\x01v").unwrap_err().what, "records before the slot was begun");
    store.begin(slot());
    for (records, what) in [
        (&b"\x09\x05{tag}\x01v"[..], "a kind of value that is not known"),
        (b"\x01\x05{tag}\x02v", "a length beyond the end of the payload"),
        (b"\x01\x05{tag}", "the payload ends inside a number"),
        (b"\x01\x03foo\x01v", "a key that belongs to another slot"),
    ] {
        assert_eq!(store.load(slot(), records).unwrap_err().what, what);
    }
    store.load(slot(), b"\x01\x05{tag}\x01v").unwrap();
}

#[test]
fn a_million_keys_cost_what_the_layout_promises() {
    let keys = if cfg!(debug_assertions) { 200_000u64 } else { 1_000_000 };
    let mut store = KeyspaceStore::new();
    for n in 0..keys {
        let key = format!("key:{n:012}");
        store.set_string(hash::locate(key.as_bytes()), key.as_bytes(), &[b'v'; 64], None);
    }
    let used = store.used_bytes() as f64 / keys as f64;
    let reserved = store.reserved_bytes() as f64 / keys as f64;
    println!("{keys} keys of 16 bytes with 64: {used:.1} bytes a key used, {reserved:.1} reserved");
    assert!(used < 112.0 && reserved < 125.0, "{used:.1} bytes a key used, {reserved:.1} reserved");
}

#[test]
fn overwrites_of_other_sizes_leave_little_unused() {
    let keys = if cfg!(debug_assertions) { 100_000u64 } else { 1_000_000 };
    let mut store = KeyspaceStore::new();
    let key = |n: u64| format!("key:{n:012}").into_bytes();
    for n in 0..keys {
        store.set_string(hash::locate(&key(n)), &key(n), &[b'v'; 64], None);
    }
    let mut random = fastrand::Rng::with_seed(1);
    let mut last: Vec<usize> = vec![64; keys as usize];
    for _ in 0..2 * keys {
        let n = random.u64(0..keys);
        last[n as usize] = random.usize(8..=120);
        store.set_string(hash::locate(&key(n)), &key(n), &[b'w'; 120][..last[n as usize]], None);
    }
    let used = store.used_bytes() as f64 / keys as f64;
    let reserved = store.reserved_bytes() as f64 / keys as f64;
    println!("{keys} keys after {} overwrites: {used:.1} bytes a key used, {reserved:.1} reserved", 2 * keys);
    assert!(reserved < 125.0, "{used:.1} bytes a key used, {reserved:.1} reserved");
    store.invariants();
    for (n, len) in (0..keys).zip(last) {
        let key = key(n);
        let entry = store.get(hash::locate(&key), &key).expect("every key is there");
        assert!(matches!(entry.value(), ValueRef::Str(value) if value.len() == len));
    }
}
