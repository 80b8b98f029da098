//! Free ports of loopback, each given out once.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use super::Trouble;

/// Ports below the range from which outgoing connections take theirs. They are free when they are given out; another
/// process may still take one before it is bound.
pub(super) struct Ports {
    next: u16,
    /// Ports not looked at yet; so the search ends.
    left: u16,
}

impl Ports {
    /// Begins somewhere, so that two demonstrations seldom meet.
    pub fn new() -> Ports {
        Ports { next: fastrand::u16(RANGE), left: RANGE.end - RANGE.start }
    }

    /// The first of `count` free ports in a row.
    pub fn take(&mut self, count: u16) -> Result<u16, Trouble> {
        while self.left >= count {
            if self.next > RANGE.end - count {
                self.next = RANGE.start;
            }
            let first = self.next;
            self.next += count;
            self.left -= count;
            let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            if (first..first + count).map(bind).collect::<io::Result<Vec<_>>>().is_ok() {
                return Ok(first);
            }
        }
        Err(Trouble::new(format!("no {count} free ports in a row from {} to {}", RANGE.start, RANGE.end)))
    }
}

const RANGE: Range<u16> = 12_000..32_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_out_is_free_and_given_out_once() {
        let mut ports = Ports { next: RANGE.end - 5, left: RANGE.end - RANGE.start };
        let (first, second) = (ports.take(3).unwrap(), ports.take(3).unwrap());
        assert!(first.abs_diff(second) >= 3);
        let all = (first..first + 3).chain(second..second + 3);
        let held: Vec<_> = all.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
        assert!(held.iter().all(Result::is_ok));
        // A row that would begin at a held port is passed over.
        ports.next = second;
        assert_ne!(ports.take(3).unwrap(), second);
    }

    #[test]
    fn the_search_ends() {
        let mut ports = Ports { next: RANGE.start, left: 2 };
        assert!(ports.take(3).is_err());
    }
}
