//! Keys that clients watch: who is to know when one of them changes. It costs a write one look at an empty table as long as
//! nobody watches.
//!
//! ```text
//! key ──▶ flags of its watchers ── the key changes ──▶ the flags are set, the key is forgotten
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once one of the keys that a client watches has changed. Clones are the same flag; the client may be on another thread.
#[derive(Clone, Debug, Default)]
pub struct WatchFlag(Arc<AtomicBool>);

impl WatchFlag {
    /// Whether a watched key has changed.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the client has let go of its own flag.
    fn is_orphan(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// The watched keys of one shard.
#[derive(Debug, Default)]
pub struct Watched {
    keys: HashMap<Box<[u8]>, Vec<WatchFlag>>,
}

impl Watched {
    /// Whether no key is watched.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Sets `flag` when `key` changes.
    pub fn add(&mut self, key: &[u8], flag: &WatchFlag) {
        let flags = self.keys.entry(key.into()).or_default();
        // Clients that come and go must not gather on a key that never changes.
        flags.retain(|flag| !flag.is_orphan());
        flags.push(flag.clone());
    }

    /// `key` has changed.
    pub fn touch(&mut self, key: &[u8]) {
        if let Some(flags) = self.keys.remove(key) {
            flags.iter().for_each(WatchFlag::set);
        }
    }

    /// The keys for which `concerns` holds have changed.
    pub fn touch_where(&mut self, mut concerns: impl FnMut(&[u8]) -> bool) {
        self.keys.retain(|key, flags| {
            let touched = concerns(key);
            if touched {
                flags.iter().for_each(WatchFlag::set);
            }
            !touched
        });
    }

    /// Forgets the keys that nobody watches any more.
    pub fn sweep(&mut self) {
        self.keys.retain(|_, flags| {
            flags.retain(|flag| !flag.is_orphan());
            !flags.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_to_those_who_watch_that_key() {
        let mut watched = Watched::default();
        let (mine, yours) = (WatchFlag::default(), WatchFlag::default());
        watched.add(b"a", &mine);
        watched.add(b"a", &yours);
        watched.add(b"b", &yours);
        watched.touch(b"c");
        assert!(!mine.is_set() && !yours.is_set());
        watched.touch(b"b");
        assert!(!mine.is_set() && yours.is_set());
        watched.touch_where(|key| key == b"a");
        assert!(mine.is_set() && watched.is_empty());
    }

    #[test]
    fn who_goes_is_forgotten() {
        let mut watched = Watched::default();
        let stays = WatchFlag::default();
        for _ in 0..100 {
            watched.add(b"a", &WatchFlag::default());
        }
        assert!(watched.keys[b"a".as_slice()].len() <= 1);
        watched.add(b"b", &stays);
        watched.sweep();
        assert_eq!(watched.keys.len(), 1);
        drop(stays);
        watched.sweep();
        assert!(watched.is_empty());
    }
}
