//! Borrow-decoding of one command encoded as a RESP2 multi-bulk, shared by clients' requests and the frames of a
//! stream. It copies nothing, trusts no announced length with memory, and goes on where it stopped.
//!
//! ```text
//! *2 ␍␊ $3 ␍␊ GET ␍␊ $1 ␍␊ k ␍␊
//! └ args_left └ bulk  └ range
//! ```

use crate::limits::{ARGS_MAX, BULK_BYTES_MAX, COMMAND_BYTES_MAX};
use crate::wire::{ArgRange, Argv, Command};

/// What is wrong with the bytes of a command. The texts are the ones that Redis answers, without the leading `ERR`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RespError {
    /// The number after `*` is no canonical number, or too large.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// The number after `$` is no canonical number, or too large, or the bytes do not end where it says.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// Something else stands where an argument begins.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    ExpectedBulk(u8),
    /// Something else stands where a command begins.
    #[error("Protocol error: expected '*', got '{}'", .0.escape_ascii())]
    ExpectedMultibulk(u8),
    /// A line without end.
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// A quoted word is not closed, or something is stuck to its closing quote.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The command as a whole is larger than [`COMMAND_BYTES_MAX`].
    #[error("Protocol error: too big mbulk request")]
    CommandTooBig,
}

/// How far the decoding of one command has come.
///
/// Invariant: everything before `at` is decoded, so that a command that arrives in many pieces is read once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// The first byte that is not decoded yet, relative to the command's beginning.
    at: usize,
    /// Arguments whose header is not decoded yet.
    args_left: usize,
    /// The length of the argument that begins at `at`, its header being decoded.
    bulk: Option<usize>,
}

impl Progress {
    /// At a command's first byte.
    pub const START: Progress = Progress { at: 0, args_left: 0, bulk: None };

    /// Decodes on in `buf`, which begins at the command's first byte and holds at least what it held before.
    /// Appends the ranges of whole arguments, relative to `buf`. `Some(n)`: the command is whole and has `n` bytes.
    /// `None`: more bytes are needed.
    ///
    /// # Errors
    /// If these bytes cannot become a command, whatever follows.
    #[inline]
    pub fn resume(&mut self, buf: &[u8], ranges: &mut Vec<ArgRange>) -> Result<Option<usize>, RespError> {
        if self.at == 0 {
            match buf.first() {
                None => return Ok(None),
                Some(b'*') => {}
                Some(&other) => return Err(RespError::ExpectedMultibulk(other)),
            }
            let Some((args, after)) = length(buf, 1, ARGS_MAX).map_err(|_| RespError::MultibulkLength)? else {
                return Ok(None);
            };
            self.args_left = args;
            self.at = after;
        }
        loop {
            let len = match self.bulk {
                Some(len) => len,
                None if self.args_left == 0 => return Ok(Some(self.at)),
                None => {
                    match buf.get(self.at) {
                        None => return Ok(None),
                        Some(b'$') => {}
                        Some(&other) => return Err(RespError::ExpectedBulk(other)),
                    }
                    let found = length(buf, self.at + 1, BULK_BYTES_MAX).map_err(|_| RespError::BulkLength)?;
                    let Some((len, after)) = found else { return Ok(None) };
                    if after + len + 2 > COMMAND_BYTES_MAX {
                        return Err(RespError::CommandTooBig);
                    }
                    self.at = after;
                    self.args_left -= 1;
                    self.bulk = Some(len);
                    len
                }
            };
            let end = self.at + len;
            let Some(line_end) = buf.get(end..end + 2) else { return Ok(None) };
            if line_end != b"\r\n" {
                return Err(RespError::BulkLength);
            }
            ranges.push(ArgRange { start: self.at as u32, len: len as u32 });
            self.at = end + 2;
            self.bulk = None;
        }
    }

    /// How many bytes the command has at least, as far as is known: a hint for the size of a buffer, as large as
    /// the peer likes to announce.
    pub fn bytes_announced(&self) -> usize {
        self.at + self.bulk.map_or(0, |len| len + 2)
    }
}

/// Decodes the command at the beginning of `buf`, canonical RESP2 multi-bulk and nothing else, and appends the ranges
/// of its arguments, relative to `buf`. Returns its length in bytes; `None` where more bytes are needed (`ranges` is then
/// as it was). A command has at least its verb.
///
/// # Errors
/// If these bytes cannot become a command, whatever follows.
#[inline]
pub fn decode_multibulk(buf: &[u8], ranges: &mut Vec<ArgRange>) -> Result<Option<usize>, RespError> {
    let before = ranges.len();
    let mut progress = Progress::START;
    let result = progress.resume(buf, ranges);
    match result {
        Ok(Some(_)) if ranges.len() == before => Err(RespError::MultibulkLength),
        Ok(Some(_)) => result,
        Ok(None) | Err(_) => {
            ranges.truncate(before);
            result
        }
    }
}

/// The arguments of a command that was encoded here, the verb among them; their ranges are appended to `ranges`. Not of one
/// that was encoded from no arguments at all.
pub fn arguments_of<'a>(command: &'a Command, ranges: &'a mut Vec<ArgRange>) -> Argv<'a> {
    let first = ranges.len();
    let decoded = decode_multibulk(command.as_bytes(), ranges);
    debug_assert!(matches!(decoded, Ok(Some(_))), "what was encoded decodes");
    Argv::new(command.as_bytes(), &ranges[first..])
}

/// Not a number, or not a canonical one, or one out of bounds.
struct BadLength;

/// The canonical decimal number at `at` and the place after its line end; `None` where the line is not whole yet.
#[inline(always)]
fn length(buf: &[u8], at: usize, max: usize) -> Result<Option<(usize, usize)>, BadLength> {
    let mut number = 0usize;
    let mut end = at;
    let stop = loop {
        let Some(&byte) = buf.get(end) else { return Ok(None) };
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break byte;
        }
        // `max` is far below `usize::MAX / 10`, so the check after each digit keeps the product in bounds.
        number = number * 10 + digit as usize;
        end += 1;
        if number > max || (end - at > 1 && buf[at] == b'0') {
            return Err(BadLength);
        }
    };
    if stop != b'\r' || end == at {
        return Err(BadLength);
    }
    match buf.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((number, end + 2))),
        Some(_) => Err(BadLength),
    }
}

const _: () = assert!(ARGS_MAX < usize::MAX / 16 && BULK_BYTES_MAX < usize::MAX / 16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Argv, Command};
    use proptest::prelude::*;

    fn args(buf: &[u8], ranges: &[ArgRange]) -> Vec<Vec<u8>> {
        Argv::new(buf, ranges).iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_command_is_decoded_wherever_its_bytes_are_cut() {
        let bytes = Command::new(&[b"SET".as_slice(), b"", b"a\r\n$1\r\n", &[0, 255]]);
        let bytes = bytes.as_bytes();
        for first in 0..bytes.len() {
            for second in first..bytes.len() {
                let mut ranges = Vec::new();
                let mut progress = Progress::START;
                assert_eq!(progress.resume(&bytes[..first], &mut ranges), Ok(None));
                assert_eq!(progress.resume(&bytes[..second], &mut ranges), Ok(None));
                assert_eq!(progress.resume(bytes, &mut ranges), Ok(Some(bytes.len())));
                assert_eq!(args(bytes, &ranges), [b"SET".to_vec(), vec![], b"a\r\n$1\r\n".to_vec(), vec![0, 255]]);
            }
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused_with_the_words_of_redis() {
        let cases: &[(&[u8], &str)] = &[
            (b"*x\r\n", "Protocol error: invalid multibulk length"),
            (b"*01\r\n", "Protocol error: invalid multibulk length"),
            (b"*1048577\r\n", "Protocol error: invalid multibulk length"),
            (b"*99999999999999999999999\r\n", "Protocol error: invalid multibulk length"),
            (b"*\r\n", "Protocol error: invalid multibulk length"),
            (b"*0\r\n", "Protocol error: invalid multibulk length"),
            (b"*1\rx", "Protocol error: invalid multibulk length"),
            (b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
            (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
            (b"*1\r\n$1\r\nabc", "Protocol error: invalid bulk length"),
            (b"GET", "Protocol error: expected '*', got 'G'"),
        ];
        for (bytes, expected) in cases {
            let mut ranges = vec![ArgRange::default()];
            let error = decode_multibulk(bytes, &mut ranges).unwrap_err();
            assert_eq!(error.to_string(), *expected, "{}", bytes.escape_ascii());
            assert_eq!(ranges.len(), 1, "ranges of a bad command are taken back");
        }
    }

    #[test]
    fn an_announced_length_costs_no_memory() {
        let mut ranges = Vec::new();
        let mut progress = Progress::START;
        assert_eq!(progress.resume(b"*1048576\r\n$536870912\r\n", &mut ranges), Ok(None));
        assert_eq!(ranges.capacity(), 0);
        assert!(progress.bytes_announced() > BULK_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(prop_oneof![
            Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'2'), any::<u8>()
        ], 0..64)) {
            let mut ranges = Vec::new();
            if let Ok(Some(used)) = decode_multibulk(&bytes, &mut ranges) {
                prop_assert!(used <= bytes.len());
                let again = Command::new(&args(&bytes, &ranges));
                prop_assert_eq!(again.as_bytes(), &bytes[..used]);
            }
        }
    }
}
