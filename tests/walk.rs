//! The walk over a shard's slots, as links of different speed meet it.

use kevy_replicate::handshake::{Claim, Done, Flags, Form, Hello, Options, ReplicaId, StreamOf};
use kevy_replicate::id::{Generation, HashSlot, Moment, Offset, ShardCount, ShardId, SlotRange};
use kevy_replicate::slot::LinkId;
use kevy_replicate::slotset::SlotSet;
use kevy_replicate::source::{Source, SourceConfig};
use kevy_replicate::store::{KeyspaceStore, dispatch, hash};
use kevy_replicate::wire::{Argv, Command, Decoder, Effects, Item, Message, Upstream};

fn source(backlog_bytes: usize) -> Source {
    Source::new(SourceConfig {
        born_empty: false,
        reconnect_window_ms: 1,
        ..SourceConfig::new(ShardId::new(0), ShardCount::ONE, Generation::new(1).unwrap(), backlog_bytes)
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
    /// How often a slot was begun, and ended.
    begun: usize,
    ended: usize,
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
                            Item::SlotBegin { .. } => self.begun += 1,
                            Item::SlotEnd { .. } => self.ended += 1,
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
    attach_with(source, id, Claim::Empty)
}

fn attach_with(source: &mut Source, id: &str, claim: Claim) -> LinkId {
    let flags = Flags { items: true, ..Flags::default() };
    let stream = StreamOf { shard: ShardId::new(0), of: Some(ShardCount::ONE) };
    let form = Form::Ours(Options { flags, ..Options::new(Some(stream)) });
    let hello = Hello { id: ReplicaId::new(id).unwrap(), claim, form };
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

#[test]
fn a_slot_that_is_asked_for_again_while_it_is_dumped_comes_again() {
    let mut store = KeyspaceStore::new();
    let mut source = source(64 << 20);
    write(&mut source, &mut store, &["SET", "long", &"x".repeat(2 << 20)]);
    let link = attach(&mut source, "a");
    let mut reader = Reader::default();
    while reader.begun == 0 {
        reader.read(&source.poll_transmit(link, &store, Moment::ZERO).unwrap().unwrap());
    }
    // A piece that the replica could not load.
    source.handle_upstream(link, Upstream::Need(hash::slot_of(b"long")), Moment::ZERO).unwrap();
    reader.drain(&mut source, &store, link, Moment::ZERO);
    assert_eq!((reader.begun, reader.ended, reader.is_whole), (2, 1, true));
    assert!(!source.is_syncing(link));
}

/// A slot that is too large to digest at once, dumped to a link that is told digests of no other slots.
fn dumped_without_a_digest() -> (KeyspaceStore, Source, LinkId, Reader) {
    let mut store = KeyspaceStore::new();
    let mut source = source(64 << 20);
    write(&mut source, &mut store, &["SET", "long", &"x".repeat(2 << 20)]);
    let link = attach(&mut source, "a");
    let mut reader = Reader::default();
    reader.drain(&mut source, &store, link, Moment::ZERO);
    assert!(reader.is_whole && reader.digests.is_empty());
    (store, source, link, reader)
}

/// Steps of the scrub in `ticks` of 10 ms from `from` on.
fn scrub(source: &mut Source, store: &mut KeyspaceStore, from: u64, ticks: u64) {
    for tick in 0..ticks {
        while source.scrub(store, Moment::ZERO.plus_ms(from + tick * 10)).more {}
    }
}

#[test]
fn a_slot_that_was_dumped_without_a_digest_is_proved_though_its_sum_was_lost() {
    let (mut store, mut source, link, mut reader) = dumped_without_a_digest();
    for tick in 0..500 {
        write(&mut source, &mut store, &["APPEND", "long", "y"]);
        scrub(&mut source, &mut store, tick * 10, 1);
    }
    reader.drain(&mut source, &store, link, Moment::ZERO);
    assert_eq!(reader.digests, [], "it is written to all the time");
    scrub(&mut source, &mut store, 5_000, 5_000);
    reader.drain(&mut source, &store, link, Moment::ZERO);
    assert_eq!(reader.digests, [(hash::slot_of(b"long"), true)], "once");
}

#[test]
fn a_link_that_could_not_take_the_digest_of_a_dumped_slot_is_told_it_later() {
    let (mut store, mut source, link, mut reader) = dumped_without_a_digest();
    (0..100).for_each(|_| _ = source.probe(HashSlot::new(0).unwrap()));
    scrub(&mut source, &mut store, 0, 100);
    reader.drain(&mut source, &store, link, Moment::ZERO);
    scrub(&mut source, &mut store, 1_000, 100);
    reader.digests.retain(|(_, told)| *told);
    reader.drain(&mut source, &store, link, Moment::ZERO);
    assert_eq!(reader.digests, [(hash::slot_of(b"long"), true)]);
}

#[test]
fn a_replica_that_comes_back_is_told_the_digests_that_its_dump_did_not_have() {
    let (mut store, mut source, link, reader) = dumped_without_a_digest();
    // One is on its way when the link is cut.
    scrub(&mut source, &mut store, 0, 100);
    source.detach(link, Moment::ZERO);
    let done = SlotSet::full(SlotRange::ALL);
    let claim = Claim::At { generation: source.generation(), next: reader.next, done: Done::These(done) };
    let link = attach_with(&mut source, "a", claim);
    assert!(!source.is_syncing(link));
    let mut reader = Reader { next: reader.next, ..Reader::default() };
    scrub(&mut source, &mut store, 1_000, 100);
    reader.drain(&mut source, &store, link, Moment::ZERO);
    assert_eq!(reader.digests, [(hash::slot_of(b"long"), true)]);
}

#[test]
fn what_still_waits_for_a_link_is_known_before_it_is_taken() {
    let (mut store, mut source, link, mut reader) = dumped_without_a_digest();
    write(&mut source, &mut store, &["SET", "key", "value"]);
    source.get_acks();
    let mut sends = 0;
    while source.has_something_for(link) {
        let bytes = source.poll_transmit(link, &store, Moment::ZERO).unwrap().unwrap();
        reader.read(&bytes);
        sends += 1;
    }
    assert_eq!(source.poll_transmit(link, &store, Moment::ZERO), Ok(None));
    assert_eq!((sends, reader.next), (1, source.next()), "a frame with the question behind it");
    source.get_acks();
    assert!(!source.has_something_for(link), "that is asked already");
    write(&mut source, &mut store, &["SET", "key", "other"]);
    source.get_acks();
    let both = source.poll_transmit(link, &store, Moment::ZERO).unwrap().unwrap();
    assert!(both.starts_with(b"*2") && both.windows(7).any(|part| part == b"+GETACK"), "{}", both.escape_ascii());
}
