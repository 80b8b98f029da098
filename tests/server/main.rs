//! Real `kevy` processes on loopback, from the outside: clients, cut links, kills, bad input. Every wait is for a
//! condition and has a deadline; no test waits for time to pass.

mod bad_input;
mod bench;
mod blocking;
mod check;
mod clients;
mod cluster;
mod compare;
mod fields;
mod follow;
mod freeze;
mod gate;
mod huge;
mod identity;
mod kevy;
mod kills;
mod lag;
mod like_redis;
mod limits;
mod links;
mod load;
mod memory;
mod messages;
mod mirror;
mod observe;
mod order;
mod passwords;
mod refused;
mod relay;
mod scrub;
mod settings;
mod stale;
mod sync;
mod transactions;
mod wait;
mod writes;

use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a slow machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns once `condition` holds.
///
/// # Panics
/// If it does not within [`PATIENCE`]; the message says `what` was awaited.
#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for this: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
