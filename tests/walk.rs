//! The walk over a shard's slots, as links of different speed meet it.

use kevy_replicate::handshake::{Claim, Flags, Form, Hello, Lineage, Options, ReplicaId};
use kevy_replicate::id::{Generation, HashSlot, Moment, Offset, ShardCount, ShardId};
use kevy_replicate::slot::LinkId;
use kevy_replicate::source::{Source, SourceConfig};
use kevy_replicate::store::{KeyspaceStore, dispatch, hash};
use kevy_replicate::wire::{Argv, Command, Decoder, Effects, Item, Message};

fn source(backlog_bytes: usize) -> Source {
    Source::new(SourceConfig {
        shard: ShardId::new(0),
        shards: ShardCount::ONE,
        generation: Generation::new(1).unwrap(),
        born_empty: false,
        lineage: Lineage::none(),
        first: Offset::ZERO,
        backlog_bytes,
        reconnect_window_ms: 1,
        client_port: None,
    })
}

/// Writes on the primary: executed, recorded, the turn ended.
fn write(source: &mut Source, store: &mut KeyspaceStore, effect: &[&str]) {
    dispatch(store, effect).unwrap();
    source.record(&Effects::One(Command::new(effect)), Argv::new(b"", &[]));
    source.end_turn();
}

/// What a link was sent, read as a replica reads it.
#[derive(Default)]
struct Reader {
    decoder: Decoder,
    next: Offset,
    digests: Vec<(HashSlot, bool)>,
    is_whole: bool,
}

impl Reader {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.decoder.recv_slice();
            let len = bytes.len().min(room.len());
            room[..len].copy_from_slice(&bytes[..len]);
            self.decoder.recv_advance(len);
            bytes = &bytes[len..];
            while let Some(message) = self.decoder.next().unwrap() {
                match message {
                    Message::Frames(frames) | Message::Group(frames) => {
                        for frame in frames.iter() {
                            assert_eq!(frame.offset, self.next);
                            self.next = frame.offset.next();
                        }
                    }
                    Message::Item(Item::Sync { at, .. }) => self.next = at,
                    Message::Item(item) => {
                        assert!(item.at().is_none_or(|at| at == self.next), "{item:?} came at {}", self.next);
                        match item {
                            Item::Digest { slot, digest, .. } => self.digests.push((slot, digest.is_some())),
                            Item::SyncEnd { .. } => self.is_whole = true,
                            _ => {}
                        }
                    }
                }
            }
        }
    }

    /// Everything that there is for a link.
    fn drain(&mut self, source: &mut Source, store: &KeyspaceStore, link: LinkId, now: Moment) {
        while let Some(bytes) = source.poll_transmit(link, store, now).unwrap() {
            self.read(&bytes);
        }
    }
}

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
    let mut source = source(1);
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

#[test]
fn a_digest_does_not_go_between_two_pieces_of_one_moment() {
    let mut store = KeyspaceStore::new();
    let mut source = source(1 << 20);
    let element = "e".repeat(10_000);
    (0..100).for_each(|_| write(&mut source, &mut store, &["RPUSH", "list", &element]));
    let links = [attach(&mut source, "a"), attach(&mut source, "b")];
    let mut readers = [Reader::default(), Reader::default()];
    // Up to the first pieces of the list, which are of one moment; the other link has taken nothing of them.
    for _ in 0..4 {
        let bytes = source.poll_transmit(links[0], &store, Moment::ZERO).unwrap().unwrap();
        readers[0].read(&bytes);
    }
    assert!(source.is_syncing(links[0]));
    write(&mut source, &mut store, &["SET", "key", "value"]);
    let done = HashSlot::new(0).unwrap();
    source.scrub_first(done);
    source.scrub(&mut store, Moment::ZERO);
    source.probe(done);
    // One waits for the other for a moment.
    for ms in 0..100 {
        for (link, reader) in links.into_iter().zip(&mut readers) {
            reader.drain(&mut source, &store, link, Moment::ZERO.plus_ms(ms));
        }
    }
    for reader in readers {
        assert_eq!((reader.is_whole, reader.next), (true, source.next()));
    }
}
