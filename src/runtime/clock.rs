//! The monotonic clock of the process, as the moments that state machines are told. One for all shards.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::id::Moment;

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The moment.
pub fn now() -> Moment {
    Moment::from_micros(BEGINNING.elapsed().as_micros() as u64)
}

/// Nanoseconds since the process's first look at the clock.
#[inline]
pub fn nanos() -> u64 {
    BEGINNING.elapsed().as_nanos() as u64
}

/// Waits until `deadline`; for one that has passed, not at all. On an executor only.
pub async fn sleep_until(deadline: Moment) {
    let wait = deadline.micros().saturating_sub(now().micros());
    if wait > 0 {
        sleep(Duration::from_micros(wait)).await;
    }
}

/// Waits for `time`. On an executor only. Cancel-safe: what is raced against it with `or` leaves nothing behind.
pub async fn sleep(time: Duration) {
    glommio::timer::Timer::new(time).await;
}
