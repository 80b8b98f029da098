//! The id of an entry of a stream: a time in milliseconds and a number within it. Ids rise along a stream.

use std::fmt;

/// Where an entry stands in its stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamId {
    /// Milliseconds, mostly of the epoch.
    pub ms: u64,
    /// The number within the millisecond.
    pub seq: u64,
}

impl StreamId {
    /// Before every entry: no entry has it.
    pub const MIN: StreamId = StreamId::new(0, 0);
    /// The last one there can be.
    pub const MAX: StreamId = StreamId::new(u64::MAX, u64::MAX);

    /// The id of these two numbers.
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The next one; `None` behind the last.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The one before; `None` before the first.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// Reads `ms-seq`, or `ms` alone, which has the number `missing_seq`.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<StreamId> {
        match memchr::memchr(b'-', text) {
            Some(at) => Some(StreamId::new(number(&text[..at])?, number(&text[at + 1..])?)),
            None => Some(StreamId::new(number(text)?, missing_seq)),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A number without a sign, as lenient as Redis is: blanks, a plus and zeros may stand before it.
pub fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if is_number { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_written_and_counted() {
        for (text, id) in [
            ("5-3", StreamId::new(5, 3)),
            ("5", StreamId::new(5, 7)),
            ("05-+3", StreamId::new(5, 3)),
            ("18446744073709551615-18446744073709551615", StreamId::MAX),
        ] {
            assert_eq!(StreamId::parse(text.as_bytes(), 7), Some(id), "{text}");
        }
        for bad in ["", "-", "+", "5-", "-5", "5--1", "5-3-1", "5 -3", "a", "18446744073709551616"] {
            assert_eq!(StreamId::parse(bad.as_bytes(), 0), None, "{bad}");
        }
        let edge = StreamId::new(4, u64::MAX);
        assert_eq!(edge.next(), Some(StreamId::new(5, 0)));
        assert_eq!(edge.next().and_then(StreamId::previous), Some(edge));
        assert_eq!((StreamId::MAX.next(), StreamId::MIN.previous()), (None, None));
        assert_eq!(edge.to_string(), "4-18446744073709551615");
    }
}
