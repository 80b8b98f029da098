//! A recorded stream of a primary, 64 KiB of it, and every bit that can flip in it, against the replica's session: whatever it
//! does, nothing since the check line before is handed out, and the next dial claims what had been proved.

use kevy_replicate::handshake::{
    Claim, Flags, Form, Hello, Lineage, Options, ReplicaId, Request, Verdict, decode_request,
};
use kevy_replicate::id::{Generation, HashSlot, Moment, Offset, ShardCount, ShardId};
use kevy_replicate::replica::{self, Dial, Dialled, SessionConfig, SessionError};
use kevy_replicate::source::{self, Source, SourceConfig, Timeouts};
use kevy_replicate::store::{KeyspaceStore, hash};
use kevy_replicate::wire::{Argv, Check, Command, Effects, Item};

const STREAM_BYTES: usize = 64 << 10;
const LINK_TIMEOUT_MS: u64 = 10_000;

/// Bytes between two check lines, with the one behind them; and where they begin.
struct Part {
    from: Offset,
    bytes: Vec<u8>,
}

/// The answer to the handshake, and what follows it.
fn record(stream_bytes: usize) -> (Vec<u8>, Vec<Part>) {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut store = KeyspaceStore::new();
    for n in 0..200 {
        let key = format!("bulk:{n}").into_bytes();
        store.set_string(hash::locate(&key), &key, &vec![b'x'; rng.usize(1..100)], None);
    }
    let mut source = Source::new(SourceConfig {
        shard: ShardId::new(0),
        shards: ShardCount::ONE,
        generation: Generation::new(0x0123_4567_89ab_cdef).unwrap(),
        born_empty: false,
        lineage: Lineage::none(),
        first: Offset::new(95),
        backlog_bytes: 1 << 20,
        reconnect_window_ms: 1_000,
        client_port: Some(6004),
    });
    let mut session =
        source::Session::new(Timeouts { heartbeat_ms: 100, link_timeout_ms: LINK_TIMEOUT_MS }, Moment::ZERO);
    let flags = Flags { crc: true, items: true, observer: false };
    let form = Form::Ours(Options { flags, ..Options::new(None) });
    let mut request = Vec::new();
    Hello { id: ReplicaId::new("r").unwrap(), claim: Claim::Empty, form }.encode(&mut request);
    session.handle_input(&mut source, &request, Moment::ZERO, |_| {}).unwrap();

    let answer = session.poll_transmit(&mut source, &store, Moment::ZERO).unwrap().unwrap().to_vec();
    let mut now = Moment::ZERO;
    let mut stream = Vec::new();
    while stream.len() < stream_bytes {
        while let Some(bytes) = session.poll_transmit(&mut source, &store, now).unwrap() {
            stream.extend_from_slice(&bytes);
        }
        now = now.plus_ms(rng.u64(0..30));
        for _ in 0..rng.usize(1..40) {
            let set = |rng: &mut fastrand::Rng| {
                Command::new(&["SET".into(), format!("k{}", rng.u16(..)), "v".repeat(rng.usize(0..150))])
            };
            let effects = match rng.u8(0..8) {
                0 => Effects::Group((0..rng.usize(2..6)).map(|_| set(&mut rng)).collect()),
                _ => Effects::One(set(&mut rng)),
            };
            source.record(&effects, Argv::new(b"", &[]));
        }
        source.end_turn();
        if rng.u8(0..4) == 0 {
            source.get_acks();
        }
    }
    // A slot in pieces, as a larger store would have it.
    let (at, slot) = (source.next(), HashSlot::new(77).unwrap());
    let records = vec![b'r'; 700];
    let items: [Item<&[u8]>; 6] = [
        Item::SlotBegin { slot, at },
        Item::Piece { slot, at, payload: &records },
        Item::SlotEnd { slot, at, digest: None },
        Item::SlotBegin { slot, at },
        Item::SlotDrop { slot },
        Item::SyncEnd { at },
    ];
    for item in items {
        let bytes = item.encode();
        stream.extend_from_slice(&bytes);
        Check::of(at, &bytes).encode_to(&mut stream);
    }
    (answer, apart(&stream))
}

/// Cuts behind each check line.
fn apart(stream: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for at in memchr::memmem::find_iter(stream, b"+CHECK ") {
        let end = at + memchr::memchr(b'\n', &stream[at..]).unwrap() + 1;
        let from = stream[at + 7..end].split(|&byte| byte == b' ').next().unwrap();
        let from = Offset::new(std::str::from_utf8(from).unwrap().parse().unwrap());
        let mut check = Vec::new();
        Check::of(from, &stream[begin..at]).encode_to(&mut check);
        assert_eq!(check, stream[at..end], "no frame holds these words");
        parts.push(Part { from, bytes: stream[begin..end].to_vec() });
        begin = end;
    }
    assert_eq!(begin, stream.len());
    parts
}

fn session() -> replica::Session {
    replica::Session::new(SessionConfig {
        id: ReplicaId::new("r").unwrap(),
        run: 1,
        stream: Some(ShardId::new(0)),
        items: true,
        observer: false,
        client: None,
        repl_base: None,
        accept_empty_primary: false,
        link_timeout_ms: LINK_TIMEOUT_MS,
    })
}

/// Dials, and says what is claimed.
fn dial(session: &mut replica::Session) -> Claim {
    session.dial(Dial { dialled: Dialled::Again, holds_data: false }, Moment::ZERO);
    match decode_request(&session.poll_transmit(Moment::ZERO)) {
        Ok(Some((Request::Replicate(hello), _))) => hello.claim,
        other => panic!("{other:?}"),
    }
}

/// Takes bytes; says how many things came of them, and why it ended if it did.
fn hear(session: &mut replica::Session, mut bytes: &[u8], now: Moment) -> (usize, Option<SessionError>) {
    let mut events = 0;
    while !bytes.is_empty() {
        let room = session.recv_slice();
        let len = room.len().min(bytes.len());
        room[..len].copy_from_slice(&bytes[..len]);
        session.recv_advance(len, now);
        bytes = &bytes[len..];
        loop {
            match session.poll_event() {
                Ok(Some(_)) => events += 1,
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

/// A session that stands where `part` begins, with its slot begun if it is of one.
fn stand_before(session: &mut replica::Session, answer: &[u8], part: &Part) {
    session.start_over();
    dial(session);
    assert_eq!(hear(session, answer, Moment::ZERO), (1, None));
    let sync = Item::<&[u8]>::Sync { generation: Generation::new(5).unwrap(), at: part.from, last_tx: 0 };
    let begin = Item::<&[u8]>::SlotBegin { slot: HashSlot::new(77).unwrap(), at: part.from };
    let of_a_slot = [&b"+PIECE"[..], b"+SLOTEND", b"+SLOTDROP"].iter().any(|word| part.bytes.starts_with(word));
    for (item, wanted) in [(sync, !part.bytes.starts_with(b"+SYNC ")), (begin, of_a_slot)] {
        let mut bytes = item.encode().to_vec();
        let check = Check::of(part.from, &bytes);
        check.encode_to(&mut bytes);
        if wanted {
            assert_eq!(hear(session, &bytes, Moment::ZERO), (1, None));
        }
    }
}

#[test]
fn every_bit_that_flips_is_found_before_anything_of_its_run_is_handed_out() {
    let (answer, parts) = record(STREAM_BYTES);
    let bytes: usize = parts.iter().map(|part| part.bytes.len()).sum();
    assert!(bytes >= STREAM_BYTES);
    let words: [&[u8]; 9] =
        [b"+SYNC ", b"+SLOTS", b"+SYNCEND", b"+PING", b"+GETACK", b"+SLOTBEGIN", b"+PIECE", b"+GROUP", b"*2"];
    for word in words {
        assert!(parts.iter().any(|part| part.bytes.starts_with(word)), "{}", word.escape_ascii());
    }
    let threads = 4;
    let mut waited = 0;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (answer, parts) = (&answer, &parts);
                scope.spawn(move || {
                    (thread..parts.len()).step_by(threads).map(|at| flip_all(answer, parts, at)).sum::<usize>()
                })
            })
            .collect();
        waited = running.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>();
    });
    println!(
        "{} bits of {} parts; {waited} times the session waited for what a damaged length announced",
        bytes * 8,
        parts.len()
    );
}

/// Flips each bit of part number `index`. Says how many of them were found by silence alone.
fn flip_all(answer: &[u8], parts: &[Part], index: usize) -> usize {
    let part = &parts[index];
    let mut session = session();
    stand_before(&mut session, answer, part);
    let (events, error) = hear(&mut session, &part.bytes, Moment::ZERO);
    assert!(events > 0 && error.is_none(), "as it was sent it is good: {error:?}");

    let mut waited = 0;
    let mut bad = part.bytes.clone();
    for bit in 0..bad.len() * 8 {
        stand_before(&mut session, answer, part);
        let before = session.next();
        bad[bit / 8] ^= 1 << (bit % 8);
        let mut heard = hear(&mut session, &bad, Moment::ZERO);
        bad[bit / 8] ^= 1 << (bit % 8);
        // What follows is good, and does not make it good.
        for next in &parts[index + 1..] {
            if heard.1.is_some() {
                break;
            }
            assert_eq!(heard.0, 0);
            heard = hear(&mut session, &next.bytes, Moment::ZERO);
        }
        assert_eq!(heard.0, 0, "bit {bit} of part {index}: something is handed out");
        assert_eq!(session.next(), before, "bit {bit} of part {index}");
        match heard.1 {
            Some(SessionError::Damaged { at, .. }) => assert_eq!(at, before),
            Some(other) => panic!("bit {bit} of part {index}: {other}"),
            None => {
                waited += 1;
                // Heartbeats go on to come, and are not enough.
                let later = Moment::ZERO.plus_ms(LINK_TIMEOUT_MS);
                let ping = Item::<&[u8]>::Ping { generation: Generation::new(5).unwrap(), next: before }.encode();
                let (events, error) = hear(&mut session, &ping, later);
                assert_eq!(events, 0);
                if error.is_none() {
                    assert_eq!(session.handle_timeout(later), Err(SessionError::Silent(LINK_TIMEOUT_MS)));
                }
            }
        }
    }
    stand_before(&mut session, answer, part);
    session.hang_up();
    match dial(&mut session) {
        Claim::At { next, .. } => assert_eq!(next, part.from, "what was proved is claimed"),
        Claim::Empty if part.bytes.starts_with(b"+SYNC ") => {}
        other => panic!("{other:?}"),
    }
    waited
}

#[test]
fn a_run_without_its_check_is_named_once_it_is_over_the_bound() {
    let (answer, parts) = record(1);
    let mut session = session();
    stand_before(&mut session, &answer, &parts[1]);
    let mut next = session.next();
    let error = loop {
        let frame = format!("*2\r\n:{next}\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\n{}\r\n", "v".repeat(100));
        let (events, error) = hear(&mut session, frame.as_bytes(), Moment::ZERO);
        assert_eq!(events, 0);
        if let Some(error) = error {
            break error;
        }
        assert!(session.buffered() < 300_000);
        next = next.next();
    };
    assert!(error.to_string().contains("no check line after"), "{error}");
}

#[test]
fn an_upstream_that_offers_no_checks_is_followed_without() {
    let mut source = Source::new(SourceConfig {
        reconnect_window_ms: 1_000,
        ..SourceConfig::new(ShardId::new(0), ShardCount::ONE, Generation::new(9).unwrap(), 1 << 20)
    })
    .without_checks();
    let store = KeyspaceStore::new();
    let mut primary = source::Session::new(Timeouts { heartbeat_ms: 100, link_timeout_ms: 1_000 }, Moment::ZERO);
    let mut replica = session();
    replica.dial(Dial { dialled: Dialled::Again, holds_data: false }, Moment::ZERO);
    primary
        .handle_input(&mut source, &replica.poll_transmit(Moment::ZERO), Moment::ZERO, |event| {
            assert!(matches!(event, source::Event::Attached { verdict: Verdict::Sync(_), .. }));
        })
        .unwrap();
    source.record(&Effects::One(Command::new(&["DEL", "k"])), Argv::new(b"", &[]));
    source.end_turn();
    let mut said = Vec::new();
    while let Some(bytes) = primary.poll_transmit(&mut source, &store, Moment::ZERO).unwrap() {
        said.extend_from_slice(&bytes);
    }
    assert!(memchr::memmem::find(&said, b"+CHECK").is_none());
    assert_eq!(hear(&mut replica, &said, Moment::ZERO).1, None);
    assert_eq!(replica.next(), Offset::new(1));
}
