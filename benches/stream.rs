//! What does a frame cost a primary from its command to the sockets, and a replica before it touches the store?
//!
//! Input: `SET`s of 16-byte keys and 64-byte values, in turns of 64. An append into a window of 1 MiB stays in the cache; over one of
//! 256 MiB it meets memory that was written a whole window ago. An effect that is encoded is copied
//! behind its offset, and so is a command that a client sent; one in pieces is encoded where it will lie. A run is decoded as a
//! replica does, and every key of it looked at.
//! Fan-out: a turn is recorded, and each of so many links takes it, sockets not counted.
//!
//! Numbers that would make us change the design, on a machine where memory is copied at 10 GB/s: an encoded effect above 12 ns
//! hot or 70 ns over the whole window; more than 30 ns to encode a `SET`; fewer than 30 million frames a second decoded; more than 2 ns a frame for
//! each further link; more than 20 ns more for a checked `SET` in a run of 64.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kevy_replicate::handshake::{Claim, Done, Flags, Form, Hello, Options, ReplicaId, StreamOf};
use kevy_replicate::id::{Generation, Moment, Offset, ShardCount, ShardId};
use kevy_replicate::slot::LinkId;
use kevy_replicate::source::backlog::Backlog;
use kevy_replicate::source::{Source, SourceConfig};
use kevy_replicate::store::KeyspaceStore;
use kevy_replicate::wire::frame::Envelope;
use kevy_replicate::wire::{ArgRange, Argv, Decoder, Effects, Message, effect};

/// Frames of one turn.
const TURN: usize = 64;

/// `SET key value` as a client's decoder hands it out, and as the table of commands says that it is recorded.
struct Command {
    bytes: Vec<u8>,
    ranges: [ArgRange; 3],
}

impl Command {
    /// As a client sent it.
    fn new(number: usize) -> Command {
        let head = format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{number:012}\r\n$64\r\n");
        let bytes = [head.as_bytes(), &[b'v'; 64], b"\r\n"].concat();
        let range = |start, len| ArgRange { start, len };
        Command { bytes, ranges: [range(8, 3), range(18, 16), range(41, 64)] }
    }

    /// The same in pieces, as where a part of it is another than the client's.
    fn in_pieces(&self) -> Command {
        let bytes: Vec<u8> = self.argv().iter().flatten().copied().collect();
        let range = |start, len| ArgRange { start, len };
        Command { bytes, ranges: [range(0, 3), range(3, 16), range(19, 64)] }
    }

    fn argv(&self) -> Argv<'_> {
        Argv::new(&self.bytes, &self.ranges)
    }
}

fn commands() -> Vec<Command> {
    (0..TURN).map(|n| Command::new(n * 7_919)).collect()
}

/// Whether every bench runs once, to see that it does.
fn is_test() -> bool {
    !std::env::args().any(|arg| arg == "--bench")
}

fn append(c: &mut Criterion) {
    let commands = commands();
    let effects: Vec<Effects> =
        commands.iter().map(|command| Effects::One(effect::Command::of(command.argv()))).collect();
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(TURN as u64));
    for (window, bytes) in [("a hot window, 1 MiB", 1 << 20), ("a whole window, 256 MiB", 256 << 20)] {
        for (what, is_encoded) in [("an effect that is encoded", true), ("a SET as a client sent it", false)] {
            let mut backlog = Backlog::new(Offset::ZERO, bytes, false);
            let mut turn = || {
                for (command, effect) in commands.iter().zip(&effects) {
                    backlog.record(if is_encoded { effect } else { &Effects::Verbatim }, command.argv());
                }
                backlog.close_run();
                backlog.bytes()
            };
            // Twice around: what is measured meets no memory for the first time.
            let turns = if is_test() { 1 } else { 2 * bytes / (TURN * 110) };
            (0..turns).for_each(|_| _ = turn());
            group.bench_function(format!("{what}, {window}"), |b| b.iter(&mut turn));
        }
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let sent = commands();
    let pieces: Vec<Command> = sent.iter().map(Command::in_pieces).collect();
    let mut out = vec![0; 64 << 10];
    let mut envelope = Envelope::at(Offset::new(1_000_000_000));
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(TURN as u64));
    for (what, commands) in [("a SET", sent), ("a SET in pieces", pieces)] {
        group.bench_function(what, |b| {
            b.iter(|| {
                let mut at = 0;
                for command in &commands {
                    at += envelope.encode(black_box(command.argv()), &mut out[at..]);
                    envelope.step();
                }
                at
            });
        });
    }
    group.finish();
}

/// One run of `frames` frames, as it is sent.
fn run(frames: usize, checks: bool) -> Bytes {
    let mut backlog = Backlog::new(Offset::ZERO, 64 << 20, checks);
    (0..frames).for_each(|n| _ = backlog.record(&Effects::Verbatim, Command::new(n).argv()));
    backlog.close_run();
    let mut cursor = backlog.seek(Offset::ZERO).expect("it is in the window");
    let read = if checks { Backlog::read_checked } else { Backlog::read };
    read(&backlog, &mut cursor, Offset::MAX, usize::MAX).expect("it is in the window")
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode and walk");
    for frames in [1, 64, 1_024] {
        group.throughput(Throughput::Elements(frames as u64));
        for checks in [false, true] {
            let bytes = run(frames, checks);
            let mut decoder = Decoder::new();
            if checks {
                decoder.expect_checks(Offset::ZERO);
            }
            group.bench_function(format!("a run of {frames}, checks {checks}"), |b| {
                b.iter(|| {
                    decoder.recv(&bytes);
                    let mut sum = 0;
                    while let Some(message) = decoder.next().expect("it is good") {
                        if let Message::Frames(frames) = message {
                            sum += frames.iter().map(|frame| frame.argv.arg(1)[15] as usize).sum::<usize>();
                        }
                    }
                    sum
                });
            });
        }
    }
    group.finish();
}

/// A source of one shard, and so many links that read its stream from the beginning on.
fn with_links(links: usize) -> (Source, Vec<LinkId>) {
    let generation = Generation::new(7).expect("it is not zero");
    let mut source = Source::new(SourceConfig::new(ShardId::new(0), ShardCount::ONE, generation, 16 << 20));
    let attach = |number: usize| {
        let stream = StreamOf { shard: ShardId::new(0), of: Some(ShardCount::ONE) };
        let flags = Flags { crc: true, items: true, observer: false };
        let hello = Hello {
            id: ReplicaId::new(&format!("replica {number}")).expect("it is short"),
            claim: Claim::At { generation, next: Offset::ZERO, done: Done::All },
            form: Form::Ours(Options { flags, ..Options::new(stream) }),
        };
        source.attach(&hello, Moment::ZERO).expect("it is let in").link
    };
    let links = (0..links).map(attach).collect();
    (source, links)
}

fn fan_out(c: &mut Criterion) {
    let commands = commands();
    let store = KeyspaceStore::new();
    let mut group = c.benchmark_group("record and fan out");
    group.throughput(Throughput::Elements(TURN as u64));
    for count in [0, 1, 2, 4, 8, 16] {
        let (mut source, links) = with_links(count);
        group.bench_function(format!("{count} links"), |b| {
            b.iter(|| {
                commands.iter().for_each(|command| _ = source.record(&Effects::Verbatim, command.argv()));
                source.end_turn();
                let mut sent = 0;
                for link in &links {
                    while let Some(bytes) =
                        source.poll_transmit(*link, &store, Moment::ZERO).expect("the link is in the window")
                    {
                        sent += bytes.len();
                    }
                }
                assert_eq!(sent > 0, count > 0);
                sent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, encode, decode, fan_out);
criterion_main!(benches);
