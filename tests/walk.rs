//! The walk over a shard's slots, as links of different speed meet it.

use kevy_replicate::handshake::{Claim, Flags, Form, Hello, Lineage, Options, ReplicaId};
use kevy_replicate::id::{Generation, Moment, Offset, ShardCount, ShardId};
use kevy_replicate::slot::LinkId;
use kevy_replicate::source::{Source, SourceConfig};
use kevy_replicate::store::{KeyspaceStore, hash};

fn attach(source: &mut Source, id: &str) -> LinkId {
    let flags = Flags { items: true, ..Flags::default() };
    let form = Form::Ours(Options { flags, ..Options::new(None) });
    let hello = Hello { id: ReplicaId::new(id).unwrap(), claim: Claim::Empty, form };
    source.attach(&hello, Moment::ZERO).unwrap().link
}

#[test]
fn two_links_slower_than_a_step_both_get_a_large_slot() {
    let mut store = KeyspaceStore::new();
    for n in 0..200 {
        let key = format!("{{a}}{n}").into_bytes();
        store.set_string(hash::locate(&key), &key, &[b'x'; 10_000], None);
    }
    let mut source = Source::new(SourceConfig {
        shard: ShardId::new(0),
        shards: ShardCount::ONE,
        generation: Generation::new(1).unwrap(),
        born_empty: false,
        lineage: Lineage::none(),
        first: Offset::ZERO,
        backlog_bytes: 1,
        reconnect_window_ms: 1,
        client_port: None,
    });
    // One item waits for a link, and no more.
    source.set_dump_queue_bytes(1);
    let links = [attach(&mut source, "a"), attach(&mut source, "b")];
    // Now one takes an item and now the other, as links do that are equally slow.
    let mut rng = fastrand::Rng::with_seed(7);
    for ms in 0..500 {
        source.poll_transmit(links[rng.usize(..2)], &store, Moment::ZERO.plus_ms(ms)).unwrap();
    }
    assert_eq!(links.map(|link| source.is_syncing(link)), [false, false]);
}
