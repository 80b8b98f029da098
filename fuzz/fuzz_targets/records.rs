//! The records of a dumped slot: no panic, and what can be loaded is dumped and loaded again to the same digest.

#![no_main]

use kevy_replicate::id::HashSlot;
use kevy_replicate::snapshot::record::{Head, Reader};
use kevy_replicate::snapshot::{Copy, DumpCursor, Keyspace};
use kevy_replicate::store::KeyspaceStore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|records: &[u8]| {
    let mut store = KeyspaceStore::new();
    // The slot that the first key belongs to, so that the rest is looked at.
    let slot = match Head::decode(&mut Reader::new(records)) {
        Ok(head) => store.locate(head.key).slot,
        Err(_) => HashSlot::from_crc16(0),
    };
    store.begin(slot);
    if store.load(slot, records).is_err() {
        store.discard(slot);
        return;
    }
    store.install(slot);

    let mut again = KeyspaceStore::new();
    again.begin(slot);
    let mut from = Some(DumpCursor::START);
    while let Some(cursor) = from {
        let mut out = Vec::new();
        from = store.dump(slot, cursor, 1_024, &mut out);
        again.load(slot, &out).expect("what we dump can be loaded");
    }
    again.install(slot);
    assert_eq!(store.digest(Copy::Live, slot), again.digest(Copy::Live, slot));
});
