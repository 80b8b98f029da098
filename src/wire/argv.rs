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

    /// The arguments from number `first` on, as a command of its own.
    #[inline]
    pub fn skip(self, first: usize) -> Argv<'a> {
        Argv { buf: self.buf, ranges: &self.ranges[first.min(self.ranges.len())..] }
    }
}

impl fmt::Debug for Argv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|a| a.escape_ascii().to_string())).finish()
    }
}
