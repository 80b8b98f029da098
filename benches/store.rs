//! What does a key cost in the store, alone and in batches with prefetching, and what does a whole slot cost to move?
//!
//! Input: a million keys of 16 bytes (ten with `KEVY_BENCH_TEN_MILLION=1`) with values of 64, read and overwritten in
//! random order; slots of about 61 keys. Beside it a plain `hashbrown` map, which can do none of what a slot can. As a test, where
//! everything runs once, there are 200,000 keys.
//!
//! The layout would be looked at again if, on the machine where `hashbrown` overwrites in about 100 ns, a SET in a batch
//! of 32 cost more than 100 ns, or moving a slot (dump and install) more than 15 µs; see the store's module for what it is.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kevy_replicate::id::{Digest, HASH_SLOTS, HashSlot};
use kevy_replicate::limits::BATCH_FRAMES_MAX;
use kevy_replicate::snapshot::{AsOf, Copy, DumpCursor, Keyspace, Located, Summed};
use kevy_replicate::store::KeyspaceStore;

const VALUE: [u8; 64] = [b'v'; 64];

/// Keys in random order, in batches, again and again.
struct Keys {
    keys: Vec<[u8; 16]>,
    at: usize,
}

impl Keys {
    fn new(count: usize) -> Keys {
        let mut keys: Vec<[u8; 16]> = (0..count)
            .map(|n| {
                let mut key = *b"key:000000000000";
                key[4..].copy_from_slice(format!("{n:012}").as_bytes());
                key
            })
            .collect();
        let mut random = 1u64;
        for n in (1..count).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            keys.swap(n, (random >> 33) as usize % (n + 1));
        }
        Keys { keys, at: 0 }
    }

    fn batch(&mut self) -> &[[u8; 16]] {
        if self.at + BATCH_FRAMES_MAX > self.keys.len() {
            self.at = 0;
        }
        self.at += BATCH_FRAMES_MAX;
        &self.keys[self.at - BATCH_FRAMES_MAX..self.at]
    }
}

fn filled(keys: &Keys) -> KeyspaceStore {
    let mut store = KeyspaceStore::new();
    for key in &keys.keys {
        store.set_string(store.locate(key), key, &VALUE, None);
    }
    store
}

/// Whether every bench runs once, to see that it does.
fn is_test() -> bool {
    !std::env::args().any(|arg| arg == "--bench")
}

/// How many keys there are where there would be `wanted`.
fn count(wanted: usize) -> usize {
    if is_test() { 200_000 } else { wanted }
}

/// What a turn does with the commands of a connection.
fn prefetched<T>(
    store: &mut KeyspaceStore,
    batch: &[[u8; 16]],
    mut each: impl FnMut(&mut KeyspaceStore, Located, &[u8; 16]) -> T,
) {
    let at: [_; BATCH_FRAMES_MAX] = std::array::from_fn(|n| store.locate(&batch[n]));
    at.iter().for_each(|at| store.prefetch_line(*at));
    at.iter().for_each(|at| store.prefetch_entry(*at));
    for (at, key) in at.iter().zip(batch) {
        black_box(each(store, *at, key));
    }
}

fn keys(c: &mut Criterion, name: &str, count: usize) {
    let mut keys = Keys::new(count);
    let mut store = filled(&keys);
    let per_key = |bytes: usize| bytes as f64 / count as f64;
    let (used, reserved) = (per_key(store.used_bytes()), per_key(store.reserved_bytes()));
    println!("{name}: {used:.1} bytes a key used, {reserved:.1} reserved");

    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH_FRAMES_MAX as u64));
    group.bench_function("set one by one", |b| {
        b.iter(|| {
            for key in keys.batch() {
                store.set_string(store.locate(key), key, black_box(&VALUE), None);
            }
        });
    });
    group.bench_function("set in batches", |b| {
        b.iter(|| {
            let batch = keys.batch();
            prefetched(&mut store, batch, |store, at, key| {
                store.set_string(at, key, black_box(&VALUE), None);
            });
        });
    });
    // What a digest that every write keeps current would cost: the key as it was and as it is are mixed in.
    let mut sums = vec![Digest::default(); HASH_SLOTS];
    group.bench_function("set in batches, digests kept current", |b| {
        b.iter(|| {
            let batch = keys.batch();
            prefetched(&mut store, batch, |store, at, key| {
                let sum = &mut sums[at.slot.index()];
                if let Some(entry) = store.get(at, key) {
                    *sum -= entry.digest();
                }
                store.set_string(at, key, black_box(&VALUE), None);
                if let Some(entry) = store.get(at, key) {
                    *sum += entry.digest();
                }
            });
        });
    });
    // What the other way costs: a bit for each slot that says that its digest is not that of before.
    let mut dirty = vec![0u64; HASH_SLOTS / 64];
    group.bench_function("set in batches, a dirty bit", |b| {
        b.iter(|| {
            let batch = keys.batch();
            prefetched(&mut store, batch, |store, at, key| {
                dirty[at.slot.index() / 64] |= 1 << (at.slot.index() % 64);
                store.set_string(at, key, black_box(&VALUE), None);
            });
        });
    });
    store.set_digest_step_bytes(1);
    let slot = HashSlot::new(1).expect("there is one");
    let under_way = store.digest_begin(slot, AsOf::End);
    assert!(matches!(under_way, Summed::More(_)), "a slot of some keys takes several steps");
    group.bench_function("set in batches, the digest of one slot under way", |b| {
        b.iter(|| {
            let batch = keys.batch();
            prefetched(&mut store, batch, |store, at, key| {
                store.set_string(at, key, black_box(&VALUE), None);
            });
        });
    });
    if let Summed::More(id) = under_way {
        store.digest_forget(id);
    }
    group.bench_function("get one by one", |b| {
        b.iter(|| {
            for key in keys.batch() {
                black_box(store.get(store.locate(key), key).map(|entry| entry.key()[0]));
            }
        });
    });
    group.bench_function("get in batches", |b| {
        b.iter(|| {
            let batch = keys.batch();
            prefetched(&mut store, batch, |store, at, key| store.get(at, key).map(|entry| entry.key()[0]));
        });
    });
    drop(store);

    let mut map: hashbrown::HashMap<Vec<u8>, Vec<u8>, foldhash::quality::RandomState> =
        keys.keys.iter().map(|key| (key.to_vec(), VALUE.to_vec())).collect();
    group.bench_function("hashbrown: set one by one", |b| {
        b.iter(|| {
            for key in keys.batch() {
                if let Some(value) = map.get_mut(key.as_slice()) {
                    value.clear();
                    value.extend_from_slice(black_box(&VALUE));
                }
            }
        });
    });
    group.bench_function("hashbrown: get one by one", |b| {
        b.iter(|| {
            for key in keys.batch() {
                black_box(map.get(key.as_slice()).map(|value| value[0]));
            }
        });
    });
}

fn million(c: &mut Criterion) {
    keys(c, "1 M keys", count(1_000_000));
}

fn ten_million(c: &mut Criterion) {
    if std::env::var_os("KEVY_BENCH_TEN_MILLION").is_some() {
        keys(c, "10 M keys", count(10_000_000));
    }
}

fn slots(c: &mut Criterion) {
    let store = filled(&Keys::new(count(1_000_000)));
    let dumps: Vec<(HashSlot, Vec<u8>)> = (0..16_384)
        .filter_map(HashSlot::new)
        .map(|slot| {
            let mut records = Vec::new();
            store.dump(slot, DumpCursor::START, usize::MAX, &mut records);
            (slot, records)
        })
        .collect();
    let mut group = c.benchmark_group("a slot of 61 keys");
    // Neighbouring slots do not lie near each other; the step only keeps the order from being the one of filling.
    let mut number = 0;
    let mut next = move || {
        number = (number + 7919) % dumps.len();
        dumps[number].clone()
    };
    let mut out = Vec::with_capacity(64 << 10);
    group.bench_function("dump", |b| {
        b.iter_batched_ref(
            || next().0,
            |slot| {
                out.clear();
                store.dump(*slot, DumpCursor::START, usize::MAX, &mut out)
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.bench_function("digest", |b| {
        b.iter_batched_ref(|| next().0, |slot| store.digest(Copy::Live, *slot), criterion::BatchSize::SmallInput);
    });
    // Each on its own: what is loaded lies beside what is live until it is installed.
    let mut replica = KeyspaceStore::new();
    for (name, measures_load) in [("load", true), ("install over the old", false)] {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let (slot, records) = next();
                    let began = Instant::now();
                    replica.begin(slot);
                    replica.load(slot, &records).expect("what was dumped");
                    let loaded = Instant::now();
                    replica.install(slot);
                    while replica.reclaim() {}
                    took += if measures_load { loaded - began } else { loaded.elapsed() };
                }
                took
            });
        });
    }
    group.bench_function("load and install over the old", |b| {
        b.iter_batched_ref(
            &mut next,
            |(slot, records)| {
                replica.begin(*slot);
                replica.load(*slot, records).expect("what was dumped");
                replica.install(*slot);
                while replica.reclaim() {}
            },
            criterion::BatchSize::SmallInput,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500));
    targets = million, ten_million, slots
}
criterion_main!(benches);
