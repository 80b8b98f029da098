//! The arguments of one command, borrowed from the buffer that holds its encoding: no copy, no allocation.
//!
//! ```text
//! buffer  *3␍␊$3␍␊SET␍␊$1␍␊k␍␊$1␍␊v␍␊
//! ranges             ^^^      ^      ^
//! ```

use std::fmt;

/// Where one argument lies in its buffer, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ArgRange {
    /// First byte.
    pub start: u32,
    /// Length.
    pub len: u32,
}

/// The arguments of one command: the verb is number 0.
#[derive(Clone, Copy)]
pub struct Argv<'a> {
    buf: &'a [u8],
    ranges: &'a [ArgRange],
}

impl<'a> Argv<'a> {
    /// The arguments of `buf` at `ranges`; each range must lie inside `buf`.
    #[inline]
    pub fn new(buf: &'a [u8], ranges: &'a [ArgRange]) -> Argv<'a> {
        debug_assert!(ranges.iter().all(|r| r.start as usize + r.len as usize <= buf.len()));
        Argv { buf, ranges }
    }

    /// How many arguments there are, the verb included.
    #[inline]
    pub fn len(self) -> usize {
        self.ranges.len()
    }

    /// Whether there is not even a verb.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.ranges.is_empty()
    }

    /// Where the arguments lie in their buffer.
    #[inline]
    pub fn ranges(self) -> &'a [ArgRange] {
        self.ranges
    }

    /// Argument number `index`.
    ///
    /// # Panics
    /// Where there is no such argument: check the arity first.
    #[inline]
    pub fn arg(self, index: usize) -> &'a [u8] {
        let r = self.ranges[index];
        &self.buf[r.start as usize..r.start as usize + r.len as usize]
    }

    /// Argument number `index`, if there is one.
    #[inline]
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        (index < self.ranges.len()).then(|| self.arg(index))
    }

    /// All arguments in order, the verb first.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone {
        let buf = self.buf;
        self.ranges.iter().map(move |r| &buf[r.start as usize..r.start as usize + r.len as usize])
    }

    /// The command as a RESP multi-bulk, where its buffer begins with that; `None` where the arguments lie otherwise: inline, or in
    /// pieces. Nobody else who decodes it needs to encode it again.
    ///
    /// The buffer is one that was decoded: then no number in it is shorter than its shortest form, so that a whole of the least
    /// possible length has all of them in that form.
    #[inline]
    pub fn encoded(self) -> Option<&'a [u8]> {
        let last = self.ranges.last()?;
        let end = last.start as usize + last.len as usize + LINE_END.len();
        let encoded = self.buf.get(..end)?;
        let is_shortest = end == encoded_bytes(self.ranges.iter().map(|range| range.len as usize));
        (is_shortest && begins_with_count(encoded, self.len())).then_some(encoded)
    }

    /// The arguments from number `first` on, as a command of its own.
    #[inline]
    pub fn skip(self, first: usize) -> Argv<'a> {
        Argv { buf: self.buf, ranges: &self.ranges[first.min(self.ranges.len())..] }
    }
}

pub(super) const LINE_END: &[u8] = b"\r\n";

/// Bytes of a multi-bulk of arguments of these lengths.
#[inline]
fn encoded_bytes(lens: impl ExactSizeIterator<Item = usize>) -> usize {
    let line = |number: usize| 1 + digits(number) + LINE_END.len();
    line(lens.len()) + lens.map(|len| line(len) + len + LINE_END.len()).sum::<usize>()
}

/// Whether these bytes are a multi-bulk of so many arguments, and no inline command.
#[inline]
fn begins_with_count(encoded: &[u8], count: usize) -> bool {
    match encoded {
        [b'*', digit, b'\r', ..] if count < 10 => *digit == b'0' + count as u8,
        [b'*', line @ ..] => line
            .strip_prefix(itoa::Buffer::new().format(count).as_bytes())
            .is_some_and(|rest| rest.starts_with(LINE_END)),
        _ => false,
    }
}

/// Decimal digits of a number.
#[inline]
fn digits(number: usize) -> usize {
    match number {
        0..10 => 1,
        10..100 => 2,
        _ => number.ilog10() as usize + 1,
    }
}

impl fmt::Debug for Argv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|a| a.escape_ascii().to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Command;
    use crate::wire::scan::ArgScan;

    #[test]
    fn a_command_is_taken_as_it_was_sent_unless_it_was_sent_otherwise() {
        for args in [&["PING"][..], &["SET", "k", ""], &["SET", &"k".repeat(9), &"v".repeat(1_000)], &["DEL"; 12]] {
            let command = Command::new(args);
            let sent = [command.as_bytes(), b"*1\r\n$4\r\nPING\r\n"].concat();
            let mut ranges = Vec::new();
            assert_eq!(ArgScan::default().run(&sent, &mut ranges), Ok(true));
            assert_eq!(Argv::new(&sent, &ranges).encoded(), Some(command.as_bytes()));
        }
        // As long as it would be in the other form.
        let inline = b"SET          k          v\r\n";
        let ranges = [(0, 3), (13, 1), (24, 1)].map(|(start, len)| ArgRange { start, len });
        assert_eq!(inline.len(), Command::new(&["SET", "k", "v"]).as_bytes().len());
        assert_eq!(Argv::new(inline, &ranges).encoded(), None);
        let command = Command::new(&["SET", "k", "v"]);
        let ranges = [(8, 3), (17, 1), (24, 1)].map(|(start, len)| ArgRange { start, len });
        let whole = Argv::new(command.as_bytes(), &ranges);
        assert_eq!(whole.encoded(), Some(command.as_bytes()));
        for part in
            [whole.skip(1), Argv::new(command.as_bytes(), &ranges[..2]), Argv::new(command.as_bytes(), &ranges[..1])]
        {
            assert_eq!(part.encoded(), None, "a part is another command");
        }
        assert_eq!(Argv::new(b"*kv", &[ArgRange { start: 0, len: 1 }, ArgRange { start: 1, len: 1 }]).encoded(), None);
        assert_eq!(Argv::new(b"", &[]).encoded(), None);
    }
}
