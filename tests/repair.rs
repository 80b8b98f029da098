//! One owner of slots that finds, or is told, that a slot of its own is not what it should be.

use kevy_replicate::id::{Digest, Generation, HashSlot, Offset, SlotRange};
use kevy_replicate::replica::{Applier, Ask};
use kevy_replicate::snapshot::{Copy, DumpCursor, Keyspace};
use kevy_replicate::store::{KeyspaceStore, hash};
use kevy_replicate::wire::Item;

const KEY: &[u8] = b"{tag}key";

fn slot() -> HashSlot {
    hash::slot_of(KEY)
}

fn set(store: &mut KeyspaceStore, value: &[u8]) {
    store.set_string(hash::locate(KEY), KEY, value, None);
}

fn value(store: &KeyspaceStore) -> Vec<u8> {
    let mut records = Vec::new();
    store.dump(slot(), DumpCursor::START, usize::MAX, &mut records);
    records
}

/// An applier whose slots are all whole and empty at offset 10.
fn whole(store: &mut KeyspaceStore) -> Applier {
    let mut applier = Applier::new(SlotRange::ALL);
    let first = HashSlot::new(0).unwrap();
    let at = Offset::new(10);
    applier.item(store, &Item::Sync { generation: Generation::new(7).unwrap(), at, last_tx: 0 });
    applier.item(store, &Item::Slots { first, count: 16_384, at, payload: b"" });
    assert_eq!(applier.missing(), 0);
    applier
}

/// The slot as a primary with this value dumps it in pieces.
fn dump(applier: &mut Applier, store: &mut KeyspaceStore, sent: &[u8], digest: Option<Digest>) {
    let at = Offset::new(10);
    let mut upstream = KeyspaceStore::new();
    set(&mut upstream, sent);
    let records = value(&upstream);
    applier.item(store, &Item::SlotBegin { slot: slot(), at });
    applier.item(store, &Item::Piece { slot: slot(), at, payload: &records });
    let digest = digest.or(Some(upstream.digest(Copy::Live, slot())));
    applier.item(store, &Item::SlotEnd { slot: slot(), at, digest });
}

fn told(digest: u64) -> Item<&'static [u8]> {
    Item::Digest { slot: slot(), at: Offset::new(10), digest: Some(Digest(digest)) }
}

#[test]
fn a_slot_that_differs_is_asked_for_once_and_served_until_it_is_replaced() {
    let mut store = KeyspaceStore::new();
    let mut applier = whole(&mut store);
    set(&mut store, b"wrong");
    for _ in 0..3 {
        applier.item(&mut store, &told(0xaa));
    }
    assert_eq!(applier.take_asks(), [Ask { slot: slot(), whole: true }]);
    assert_eq!((applier.missing(), applier.counters().differing, applier.counters().repairs), (0, 3, 1));
    dump(&mut applier, &mut store, b"right", None);
    assert_eq!((applier.missing(), applier.counters().repaired), (0, 1));
    let right = store.digest(Copy::Live, slot());
    applier.item(&mut store, &told(right.0));
    assert_eq!(applier.take_asks(), []);
    applier.item(&mut store, &told(right.0 ^ 1));
    assert_eq!(applier.take_asks().len(), 1, "and again, when it differs again");
}

#[test]
fn a_dump_with_a_wrong_digest_is_dropped_and_asked_for_again() {
    let mut store = KeyspaceStore::new();
    let mut applier = whole(&mut store);
    set(&mut store, b"wrong");
    applier.item(&mut store, &told(0xaa));
    applier.take_asks();
    let before = value(&store);
    dump(&mut applier, &mut store, b"right", Some(Digest(0xbb)));
    assert_eq!(value(&store), before, "what is there stays");
    assert_eq!(applier.counters().rejected, 1);
    assert_eq!(applier.take_asks(), [Ask { slot: slot(), whole: true }], "it is still served");
    dump(&mut applier, &mut store, b"right", None);
    assert_eq!(applier.counters().repaired, 1);
    assert_ne!(value(&store), before);
}

#[test]
fn a_probe_is_noted_and_compares_nothing() {
    let mut store = KeyspaceStore::new();
    let mut applier = whole(&mut store);
    set(&mut store, b"value");
    applier.item(&mut store, &Item::Digest { slot: slot(), at: Offset::new(10), digest: None });
    let noted: Vec<_> = applier.noted().collect();
    assert_eq!((noted[0].slot, noted[0].at, noted[0].keys), (slot(), Offset::new(10), 1));
    assert_eq!(noted[0].digest, store.digest(Copy::Live, slot()));
    assert_eq!((applier.counters().compared, applier.take_asks().len()), (0, 0));
}
