//! The primary's end of one connection, told what time it is: deadlines, and what a link is allowed to be.

use kevy_replicate::handshake::{Claim, Flags, Form, Hello, Options, ReplicaId};
use kevy_replicate::id::{Generation, HashSlot, Moment, ShardCount, ShardId};
use kevy_replicate::source::{LinkError, Session, SessionError, Source, SourceConfig, Timeouts};
use kevy_replicate::store::KeyspaceStore;

const TIMEOUTS: Timeouts = Timeouts { heartbeat_ms: 100, link_timeout_ms: 1_000 };

fn source(generation: u64) -> Source {
    Source::new(config(generation))
}

fn config(generation: u64) -> SourceConfig {
    SourceConfig {
        reconnect_window_ms: 1_000,
        ..SourceConfig::new(ShardId::new(0), ShardCount::ONE, Generation::new(generation).unwrap(), 1 << 20)
    }
}

fn at(ms: u64) -> Moment {
    Moment::ZERO.plus_ms(ms)
}

/// What replica `id` says that has nothing and speaks in this form.
fn greeting(id: &str, form: Form) -> Vec<u8> {
    let mut request = Vec::new();
    Hello { id: ReplicaId::new(id).unwrap(), claim: Claim::Empty, form }.encode(&mut request);
    request
}

/// A session that has let in a replica that says so.
fn streaming(source: &mut Source, id: &str, form: Form) -> Session {
    let mut session = Session::new(TIMEOUTS, Moment::ZERO);
    session.handle_input(source, &greeting(id, form), Moment::ZERO, |_| {}).unwrap();
    assert!(session.link().is_some());
    session
}

#[test]
fn no_deadline_stays_in_the_past_while_the_host_cannot_send() {
    let mut source = source(7);
    for form in [Form::Offset, Form::Generation] {
        let mut session = streaming(&mut source, "r", form);
        let mut now = Moment::ZERO;
        for _ in 0..9 {
            now = session.poll_timeout();
            session.handle_timeout(now).unwrap();
            assert!(session.poll_timeout() > now);
        }
        assert_eq!(now, at(900), "once a heartbeat");
    }
}

#[test]
fn a_peer_that_never_speaks_is_neither_given_up_nor_looked_at_without_end() {
    let mut source = source(7);
    let mut session = streaming(&mut source, "one", Form::Offset);
    session.handle_timeout(at(5_000)).unwrap();
    assert_eq!(session.poll_timeout(), at(5_100));
}

#[test]
fn a_greeting_drop_by_drop_ends_like_none() {
    let mut source = source(7);
    let mut session = Session::new(TIMEOUTS, Moment::ZERO);
    for (drop, ms) in greeting("slow", Form::Offset).chunks(1).zip((0..).step_by(120)).take(9) {
        session.handle_input(&mut source, drop, at(ms), |_| {}).unwrap();
    }
    assert_eq!(session.handle_timeout(session.poll_timeout()), Err(SessionError::Silent(1_000)));
    assert_eq!(session.poll_timeout(), at(1_000));
}

#[test]
fn who_takes_nothing_gathers_no_questions_and_who_takes_no_items_gets_none() {
    let mut source = source(7);
    let store = KeyspaceStore::new();
    let flags = Flags { items: true, ..Flags::default() };
    let mut session = streaming(&mut source, "ours", Form::Ours(Options { flags, ..Options::new(None) }));
    while session.poll_transmit(&mut source, &store, Moment::ZERO).unwrap().is_some() {}
    for _ in 0..1_000 {
        source.get_acks();
    }
    let queued = source.bytes_behind(session.link().unwrap()).unwrap().1;
    assert_eq!(queued, b"+GETACK\r\n".len());

    let mut plain = streaming(&mut source, "one", Form::Offset);
    plain.handle_input(&mut source, b"NEED 5\r\n", Moment::ZERO, |_| {}).unwrap();
    let answer = plain.poll_transmit(&mut source, &store, Moment::ZERO).unwrap();
    assert_eq!(answer.as_deref(), Some(&b"+ACK 0\r\n"[..]));
    assert_eq!(plain.poll_transmit(&mut source, &store, Moment::ZERO), Ok(None));
}

#[test]
fn a_link_of_an_earlier_history_does_not_read_as_another_of_the_same_number() {
    let mut before = source(7);
    let mut old = streaming(&mut before, "old", Form::Offset);
    let mut after = source(9);
    let new = streaming(&mut after, "new", Form::Offset);
    assert_eq!(old.link(), new.link(), "numbers begin anew");
    let store = KeyspaceStore::new();
    while let Ok(Some(_)) = old.poll_transmit(&mut before, &store, Moment::ZERO) {}
    let end = SessionError::Link(LinkError::OtherHistory);
    assert_eq!(old.poll_transmit(&mut after, &store, Moment::ZERO), Err(end.clone()));
    assert_eq!(old.handle_input(&mut after, b"REPLCONF ACK 0\r\n", Moment::ZERO, |_| {}), Err(end));
    old.hang_up(&mut after, Moment::ZERO);
    assert_eq!(after.slots().connected(), 1, "the other link stays");
}

#[test]
fn a_slot_of_another_shard_is_not_to_be_asked_for() {
    let shards = ShardCount::new(2).unwrap();
    let mut source = Source::new(SourceConfig { shards, ..config(7) });
    let flags = Flags { items: true, ..Flags::default() };
    let mut session = streaming(&mut source, "ours", Form::Ours(Options { flags, ..Options::new(None) }));
    session.handle_input(&mut source, b"NEED 5\r\n", Moment::ZERO, |_| {}).unwrap();
    let foreign = HashSlot::new(9_000).unwrap();
    let end = session.handle_input(&mut source, b"NEED 9000\r\n", Moment::ZERO, |_| {});
    assert_eq!(end, Err(SessionError::Link(LinkError::ForeignSlot(foreign))));
}

#[test]
fn who_takes_nothing_gathers_few_digests_and_who_lacks_the_slot_none() {
    let mut source = source(7);
    let mut store = KeyspaceStore::new();
    source.set_scrub_slots_per_second(10_000);
    let flags = Flags { items: true, ..Flags::default() };
    let mut session = streaming(&mut source, "ours", Form::Ours(Options { flags, ..Options::new(None) }));
    let scrub = |source: &mut Source, store: &mut KeyspaceStore| {
        for tick in 0..100 {
            while source.scrub(store, at(tick * 10)).more {}
        }
        assert!(source.scrub_counters().slots >= 9_900);
    };
    let sync = source.bytes_behind(session.link().unwrap()).unwrap().1;
    scrub(&mut source, &mut store);
    assert_eq!(source.bytes_behind(session.link().unwrap()).unwrap().1, sync, "it has no slot yet");
    while session.poll_transmit(&mut source, &store, at(0)).unwrap().is_some() {}
    scrub(&mut source, &mut store);
    let queued = source.bytes_behind(session.link().unwrap()).unwrap().1;
    assert!((1..64 * 40).contains(&queued), "{queued} bytes wait");
}
