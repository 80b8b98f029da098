//! Whole clusters in virtual time, from a seed: the shard cores with the real store, over links and rings that fill, delay,
//! split and break, held against what was recorded, on every step.
//!
//! ```text
//! workload ─▶ primary shards ═▶ link ═▶ router ─▶ ring ─▶ owner ─▶ store
//!                  │                                        │
//!                  └────────▶ history (the truth) ◀─ check ─┘
//! ```
//!
//! `SIM_SEEDS` says how many seeds run (1,000), `SIM_FIRST` which is the first, `SIM_HASH` how stores lay out their keys, `SIM_SEED` that
//! only one seed runs, with a trace.
//! A seed that fails names the command that runs it again.

mod events;
mod history;
mod link;
mod matrix;
mod places;
mod plan;
mod plant;
mod primary;
mod replica;
mod store;
mod watch;
mod workload;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use events::Events;
use kevy_replicate::wire::{ArgRange, Argv};
use plan::Plan;
use plant::Plant;
use world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// The arguments of an encoded command.
fn argv_of<'a>(encoded: &'a [u8], ranges: &'a mut Vec<ArgRange>) -> Argv<'a> {
    ranges.clear();
    let mut at = 0;
    let mut number = |kind: u8| {
        assert_eq!(encoded[at], kind);
        let end = at + encoded[at..].iter().position(|&byte| byte == b'\n').unwrap();
        let number: u32 = std::str::from_utf8(&encoded[at + 1..end - 1]).unwrap().parse().unwrap();
        at = end + 1;
        if kind == b'$' {
            ranges.push(ArgRange { start: at as u32, len: number });
            at += number as usize + 2;
        }
        number
    };
    for _ in 0..number(b'*') {
        number(b'$');
    }
    Argv::new(encoded, ranges)
}

fn run(seed: u64, plant: Plant) -> Events {
    World::new(Plan::of(seed), plant, false).run()
}

/// Every run of a process has the same layout of its stores: another one with another `SIM_HASH`.
fn fix_hash() -> u64 {
    static FIXED: OnceLock<u64> = OnceLock::new();
    *FIXED.get_or_init(|| {
        let hash = number("SIM_HASH").unwrap_or(0);
        assert!(kevy_replicate::store::hash::fix_seed(hash), "a key was hashed before");
        hash
    })
}

/// Every seed converges, and together they meet what they are there to meet.
#[test]
fn seeds_converge() {
    let hash = fix_hash();
    if let Some(seed) = number("SIM_SEED") {
        println!("{:#?}", Plan::of(seed));
        println!("{}", World::new(Plan::of(seed), Plant::None, true).run());
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(1_000);
    let first = number("SIM_FIRST").unwrap_or(0);
    let mut events = Events::new();
    for seed in first..first + seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed, Plant::None))) {
            Ok(met) => events.merge(&met),
            Err(_) => {
                // Printed: the other test of many seeds silences what a thread panics with.
                println!(
                    "seed {seed} fails; again, alone:\n    SIM_HASH={hash} SIM_SEED={seed} cargo test --no-default-features --test sim seeds -- --nocapture"
                );
                panic!("seed {seed} fails");
            }
        }
    }
    println!("{seeds} seeds:\n{events}");
    if seeds >= 100 {
        let seldom = events.under_floor(seeds);
        assert!(seldom.is_empty(), "too seldom in {seeds} seeds: {seldom:?}");
    }
    if seeds >= 1_000 {
        let empty = events.matrix.empty();
        assert!(empty.is_empty(), "never met in {seeds} seeds: {empty:?}");
    }
}

/// Each planted bug is found, within 200 seeds.
#[test]
fn planted_bugs_are_found() {
    fix_hash();
    // What a found bug panics with is no news.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found: Vec<_> = Plant::BUGS
        .map(|bug| {
            let seed = (0..200).find(|&seed| catch_unwind(AssertUnwindSafe(|| run(seed, bug))).is_err());
            (bug, seed)
        })
        .into();
    std::panic::set_hook(hook);
    for (bug, seed) in &found {
        println!("{bug:?}: found by seed {seed:?}");
    }
    assert!(found.iter().all(|(_, seed)| seed.is_some()));
}
