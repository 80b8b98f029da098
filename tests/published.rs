//! The client of the published crate, as its users run it, follows a primary of ours over TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use kevy_replicate::handshake::RefuseReason;
use kevy_replicate::id::{Generation, Moment, Offset, ShardCount, ShardId};
use kevy_replicate::source::{Session, SessionError, Source, SourceConfig, Timeouts};
use kevy_replicate::store::KeyspaceStore;
use kevy_replicate::wire::{ArgRange, Argv, Command, Effects};
use published::replica::{ReplicaClient, ReplicaError};

fn source(backlog_bytes: usize) -> Source {
    Source::new(SourceConfig::new(ShardId::new(0), ShardCount::ONE, Generation::new(7).unwrap(), backlog_bytes))
}

/// What write number `n` records: now and then a group, now and then bytes that need care.
fn effects(n: u64) -> Vec<Vec<Vec<u8>>> {
    let key = format!("key:{n}").into_bytes();
    match n % 5 {
        0 => vec![vec![b"DEL".to_vec(), key.clone()], vec![b"SET".to_vec(), key, b"renamed".to_vec()]],
        1 => vec![vec![b"SET".to_vec(), key, b"*2\r\n:7\r\n+PING\r\n".to_vec()]],
        2 => vec![vec![b"SET".to_vec(), key, vec![b'x'; 5_000]]],
        _ => vec![vec![b"APPEND".to_vec(), key, n.to_string().into_bytes()]],
    }
}

/// Records `writes` writes, a few of them in each turn; returns every frame's arguments.
fn record(source: &mut Source, writes: u64) -> Vec<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    for n in 0..writes {
        let these = effects(n);
        let mut commands: Vec<Command> = these.iter().map(|args| Command::new(args)).collect();
        let effects = if commands.len() == 1 { Effects::One(commands.remove(0)) } else { Effects::Group(commands) };
        source.record(&effects, Argv::new(b"", &[] as &[ArgRange]));
        frames.extend(these);
        if n % 3 == 0 {
            source.end_turn();
        }
    }
    source.end_turn();
    frames
}

/// Serves one connection, with threads and blocking sockets: the sessions need no runtime. Ends when the peer goes or the session
/// does; returns why the session did.
fn serve(mut source: Source) -> (SocketAddr, JoinHandle<Option<SessionError>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        serve_one(socket, &mut source).err()
    });
    (addr, served)
}

fn serve_one(mut socket: TcpStream, source: &mut Source) -> Result<(), SessionError> {
    // A clock in a hurry: a heartbeat is due whenever the session looks. A client that knows none would stumble over it.
    let mut ms = 0;
    let mut now = || {
        ms += 1_000;
        Moment::ZERO.plus_ms(ms)
    };
    let store = KeyspaceStore::new();
    let mut session = Session::new(Timeouts { heartbeat_ms: 1_000, link_timeout_ms: 60_000 }, now());
    let mut buf = [0; 4_096];
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    loop {
        match socket.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(read) => session.handle_input(source, &buf[..read], now(), |_| {})?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Ok(()),
        }
        while let Some(bytes) = session.poll_transmit(source, &store, now())? {
            if socket.write_all(&bytes).is_err() {
                return Ok(());
            }
        }
    }
}

/// The next `count` frames: offset and arguments.
fn take(client: &mut ReplicaClient, count: usize) -> Vec<(u64, Vec<Vec<u8>>)> {
    let frames = client.by_ref().take(count).map(|frame| {
        let frame = frame.unwrap();
        (frame.offset, frame.argv.iter().map(<[u8]>::to_vec).collect())
    });
    frames.collect()
}

fn numbered(frames: &[Vec<Vec<u8>>], from: usize) -> Vec<(u64, Vec<Vec<u8>>)> {
    frames.iter().enumerate().skip(from).map(|(offset, frame)| (offset as u64, frame.clone())).collect()
}

#[test]
fn from_offset_zero_it_yields_what_was_recorded() {
    let mut source = source(64 << 20);
    let frames = record(&mut source, 500);
    let (addr, served) = serve(source);
    let mut client = ReplicaClient::connect(addr, "kevy-replica-0", 0).unwrap();
    assert_eq!(client.primary_offset_at_handshake(), 0);
    assert_eq!(take(&mut client, frames.len()), numbered(&frames, 0));
    drop(client);
    assert_eq!(served.join().unwrap(), None);
}

#[test]
fn from_the_middle_of_the_window_it_goes_on_there() {
    let mut source = source(200_000);
    let frames = record(&mut source, 500);
    let oldest = source.backlog().oldest().get() as usize;
    assert!(oldest > 0, "the window has moved");
    for from in [oldest, oldest + 1, (oldest + frames.len()) / 2, frames.len() - 1] {
        let mut again = self::source(200_000);
        record(&mut again, 500);
        let (addr, served) = serve(again);
        let mut client = ReplicaClient::connect(addr, "kevy-replica-0", from as u64).unwrap();
        assert_eq!(take(&mut client, frames.len() - from), numbered(&frames, from), "from {from}");
        drop(client);
        assert_eq!(served.join().unwrap(), None);
    }
}

#[test]
fn below_the_window_it_is_refused_without_a_word_and_with_a_reason_for_the_log() {
    let mut source = source(50_000);
    record(&mut source, 500);
    assert!(source.backlog().oldest() > Offset::new(1));
    let (addr, served) = serve(source);
    let refused = ReplicaClient::connect(addr, "kevy-replica-0", 1);
    assert!(matches!(refused, Err(ReplicaError::HandshakeRejected)), "{:?}", refused.err());
    let Some(SessionError::Refused(refusal)) = served.join().unwrap() else { panic!("not refused") };
    let reason = RefuseReason::NeedsSync(kevy_replicate::handshake::SyncReason::TooOld);
    assert_eq!((refusal.name.as_str(), refusal.text), (reason.name(), reason.to_string()));
}
