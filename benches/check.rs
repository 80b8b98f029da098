//! What does it cost that runs are checked? Runs of `SET`s of 64 bytes are recorded as a primary does, with check lines and
//! without; and the CRC32C alone, of runs of three sizes. What a replica pays to decode them: `stream.rs`.
//!
//! Numbers that would make us change the design: more than 20 ns more for a `SET` in a run of 64; less than
//! 5 GB/s of CRC32C for runs of 8 KiB.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kevy_replicate::id::Offset;
use kevy_replicate::source::backlog::Backlog;
use kevy_replicate::wire::check::crc32c;
use kevy_replicate::wire::{Argv, Command, Effects};

/// Frames of one run.
const RUNS: [usize; 2] = [1, 64];

fn set(n: usize) -> Effects {
    Effects::One(Command::new(&[b"SET".as_slice(), format!("key:{n:012}").as_bytes(), &[b'v'; 64]]))
}

fn crc(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32c");
    for len in [100, 8 << 10, 256 << 10] {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 31) as u8).collect();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len} bytes"), |b| b.iter(|| crc32c(black_box(&bytes))));
    }
}

fn record(c: &mut Criterion) {
    let effects: Vec<Effects> = (0..64).map(set).collect();
    let mut group = c.benchmark_group("record");
    for frames in RUNS {
        group.throughput(Throughput::Elements(frames as u64));
        for checks in [false, true] {
            let mut backlog = Backlog::new(Offset::ZERO, 8 << 20, checks);
            group.bench_function(format!("a run of {frames}, checks {checks}"), |b| {
                b.iter(|| {
                    effects[..frames].iter().for_each(|effects| _ = backlog.record(effects, Argv::new(b"", &[])));
                    backlog.close_run();
                });
            });
        }
    }
}

criterion_group!(benches, crc, record);
criterion_main!(benches);
