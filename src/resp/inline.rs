//! The words of an inline command, as typed into telnet: separated by blanks, quoted as redis-cli quotes.
//! The words are unescaped in place, since none grows by it.
//!
//! ```text
//! SET "a\x20\n" 'it\'s'   ──▶   SET · a␠␊ · it's
//! ```

use super::command::RespError;
use crate::wire::ArgRange;

/// Splits `line` (without its line end) into words and appends their ranges, relative to `line`.
///
/// # Errors
/// If a quote is not closed or something is stuck to a closing one.
pub fn split(line: &mut [u8], ranges: &mut Vec<ArgRange>) -> Result<(), RespError> {
    let mut read = 0;
    loop {
        while line.get(read).is_some_and(|&b| is_blank(b)) {
            read += 1;
        }
        if read == line.len() {
            return Ok(());
        }
        let start = read;
        let mut write = read;
        let mut quote = None;
        while let Some(&byte) = line.get(read) {
            let (out, used) = match quote {
                None if is_blank(byte) => break,
                None if byte == b'"' || byte == b'\'' => {
                    quote = Some(byte);
                    read += 1;
                    continue;
                }
                Some(mark) if byte == mark => {
                    if line.get(read + 1).is_some_and(|&next| !is_blank(next)) {
                        return Err(RespError::UnbalancedQuotes);
                    }
                    quote = None;
                    read += 1;
                    continue;
                }
                Some(b'"') if byte == b'\\' => unescape(&line[read..]),
                Some(b'\'') if line[read..].starts_with(b"\\'") => (b'\'', 2),
                _ => (byte, 1),
            };
            line[write] = out;
            write += 1;
            read += used;
        }
        if quote.is_some() {
            return Err(RespError::UnbalancedQuotes);
        }
        ranges.push(ArgRange { start: start as u32, len: (write - start) as u32 });
    }
}

/// The byte that an escape sequence inside double quotes means, and how many bytes it takes.
fn unescape(text: &[u8]) -> (u8, usize) {
    match *text {
        [_, b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            (hex(high) << 4 | hex(low), 4)
        }
        [_, b'n', ..] => (b'\n', 2),
        [_, b'r', ..] => (b'\r', 2),
        [_, b't', ..] => (b'\t', 2),
        [_, b'b', ..] => (0x08, 2),
        [_, b'a', ..] => (0x07, 2),
        [_, other, ..] => (other, 2),
        _ => (b'\\', 1),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// What separates words (C's `isspace`).
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Argv;
    use proptest::prelude::*;

    fn words(line: &str) -> Result<Vec<Vec<u8>>, RespError> {
        let mut line = line.as_bytes().to_vec();
        let mut ranges = Vec::new();
        split(&mut line, &mut ranges)?;
        Ok(Argv::new(&line, &ranges).iter().map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn words_are_quoted_as_redis_cli_quotes() {
        assert_eq!(words("").unwrap(), [] as [&[u8]; 0]);
        assert_eq!(words("  PING \t ").unwrap(), [b"PING"]);
        assert_eq!(words(r#"SET k "a b\n\x41\"\q""#).unwrap(), [b"SET".as_slice(), b"k", b"a b\nA\"q"]);
        assert_eq!(words(r"SET k 'it\'s \n' ''").unwrap(), [b"SET".as_slice(), b"k", b"it's \\n", b""]);
        assert_eq!(words(r#"a"b c""#).unwrap(), [b"ab c"]);
        for bad in [r#"SET "k"#, r#"SET "k"v"#, "SET 'k", r#"SET "k\"#, r"'a\'"] {
            assert_eq!(words(bad), Err(RespError::UnbalancedQuotes), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_line_splits_or_errs(line in r#"[ "'\\xab0n]{0,32}"#) {
            let _ = words(&line);
        }
    }
}
