//! Log lines that may repeat: one a kind a second, with the number of those that were left out.

use std::sync::atomic::{AtomicU64, Ordering};

use super::clock;

/// The state of one kind of line. Lives in a `static` at its call site; [`warn_seldom!`](crate::warn_seldom) makes it.
#[derive(Debug, Default)]
pub struct Seldom {
    /// Milliseconds of [`clock::now`] from which the next line may be written.
    next_ms: AtomicU64,
    suppressed: AtomicU64,
}

impl Seldom {
    /// A kind that has not been logged yet.
    pub const fn new() -> Seldom {
        Seldom { next_ms: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether a line may be written now: then how many were left out since the last one.
    pub fn permit(&self) -> Option<u64> {
        self.permit_at(clock::now().micros() / 1_000)
    }

    fn permit_at(&self, now_ms: u64) -> Option<u64> {
        let next = self.next_ms.load(Ordering::Relaxed);
        let ours = now_ms >= next
            && self.next_ms.compare_exchange(next, now_ms + 1_000, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if ours {
            Some(self.suppressed.swap(0, Ordering::Relaxed))
        } else {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// `tracing::warn!`, at most once a second for each place in the code that says it; `suppressed` counts the rest.
#[macro_export]
macro_rules! warn_seldom {
    ($($arg:tt)+) => {{
        static KIND: $crate::runtime::warn::Seldom = $crate::runtime::warn::Seldom::new();
        if let Some(suppressed) = KIND.permit() {
            ::tracing::warn!(suppressed, $($arg)+);
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_says_how_many_were_left_out() {
        let kind = Seldom::new();
        assert_eq!(kind.permit_at(5), Some(0));
        assert_eq!((kind.permit_at(6), kind.permit_at(1_004)), (None, None));
        assert_eq!(kind.permit_at(1_005), Some(2));
        assert_eq!(kind.permit_at(1_006), None);
    }
}
