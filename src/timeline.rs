//! When a stream reached which offset, coarsely: what makes of a lag in frames one in milliseconds.
//!
//! ```text
//! marks  (40, t1) (40, t2) (55, t3) (90, t4)      one a tick, one only for ticks without a frame
//!                       ▲ at 47: frame 47 is younger than t2, so whoever lacks it is behind by less than now − t2
//! ```
//!
//! It is bounded: where there are too many marks every second one of the older half goes, so that what is long ago is known less
//! exactly. Whoever marks it every 10 ms knows a lag to 10 ms.

use std::collections::VecDeque;

use crate::id::{Moment, Offset};
use crate::limits::TIMELINE_MARKS_MAX;

/// Offsets of one stream and when they were reached.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Both rise.
    marks: VecDeque<Mark>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Everything below was there.
    next: Offset,
    /// The last moment at which no more was.
    at: Moment,
}

impl Timeline {
    /// Everything below `next` is there now. An offset that goes back begins anew: it is of another history.
    pub fn mark(&mut self, next: Offset, now: Moment) {
        match self.marks.back_mut() {
            Some(last) if last.next == next => {
                last.at = now;
                return;
            }
            Some(last) if last.next > next => self.marks.clear(),
            Some(_) | None => {}
        }
        if self.marks.len() == TIMELINE_MARKS_MAX {
            let half = TIMELINE_MARKS_MAX / 2;
            let mut place = 0;
            self.marks.retain(|_| {
                place += 1;
                place > half || place % 2 == 1
            });
        }
        self.marks.push_back(Mark { next, at: now });
    }

    /// How long ago at most the frame at `next` came, in milliseconds, if it is there. What is older than the first mark is taken to
    /// have come with it.
    pub fn age_ms(&self, next: Offset, now: Moment) -> u64 {
        let after = self.marks.partition_point(|mark| mark.next <= next);
        self.marks.get(after.saturating_sub(1)).map_or(0, |mark| now.ms_since(mark.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(next: u64) -> Offset {
        Offset::new(next)
    }

    fn ms(ms: u64) -> Moment {
        Moment::ZERO.plus_ms(ms)
    }

    #[test]
    fn a_frame_is_as_old_as_the_last_moment_without_it() {
        let mut line = Timeline::default();
        assert_eq!(line.age_ms(at(0), ms(100)), 0);
        for (next, now) in [(40, 10), (40, 20), (55, 30), (90, 40), (90, 1_000)] {
            line.mark(at(next), ms(now));
        }
        let age = |next| line.age_ms(at(next), ms(1_010));
        assert_eq!([age(40), age(47), age(54)], [990; 3]);
        assert_eq!([age(55), age(89)], [980; 2]);
        assert_eq!(age(90), 10, "the stream was quiet until then");
        assert_eq!(age(3), 990, "older than what is known");
        line.mark(at(5), ms(1_020));
        assert_eq!(line.age_ms(at(5), ms(1_025)), 5, "another history");
    }

    #[test]
    fn it_is_bounded_and_knows_the_latest_best() {
        let mut line = Timeline::default();
        for n in 0..1_000_000 {
            line.mark(at(n), ms(n * 10));
            assert!(line.marks.len() <= TIMELINE_MARKS_MAX);
        }
        let now = ms(10_000_000);
        for back in [1, 10, 100] {
            assert_eq!(line.age_ms(at(1_000_000 - back), now), back * 10);
        }
        assert!(line.marks.iter().zip(line.marks.iter().skip(1)).all(|(a, b)| a.next < b.next && a.at < b.at));
        let old = line.age_ms(at(600_000), now);
        assert!(old >= 4_000_000, "an age is never less than it was: {old}");
    }
}
