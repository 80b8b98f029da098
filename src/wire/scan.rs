//! The inner loops of decoding: numbers and line ends.

use super::{ArgRange, WireError};
use crate::limits;

/// A resumable scan over the arguments of one multi-bulk command. Positions are relative to the slice that is given
/// to [`ArgScan::run`], which may grow between two calls but not move.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ArgScan {
    /// Arguments still to come; `None` before the header has been read.
    left: Option<u32>,
    /// Where the command begins.
    begin: usize,
    /// Where the scan goes on.
    pub at: usize,
}

impl ArgScan {
    pub fn starting_at(at: usize) -> ArgScan {
        ArgScan { left: None, begin: at, at }
    }

    /// Goes on; `true` when the command is complete (`at` is then its end).
    #[inline]
    pub fn run(&mut self, buf: &[u8], args: &mut Vec<ArgRange>) -> Result<bool, WireError> {
        let mut left = match self.left {
            Some(left) => left,
            None => {
                let Some((count, at)) = number_line(buf, self.at, b'*', "argument count")? else { return Ok(false) };
                if count == 0 {
                    return Err(WireError::Frame("a command without a verb"));
                }
                bound("a command's argument count", count, limits::ARGS_MAX)?;
                self.at = at;
                self.left = Some(count as u32);
                count as u32
            }
        };
        let mut at = self.at;
        while left > 0 {
            let Some((len, start)) = number_line(buf, at, b'$', "argument length")? else { break };
            bound("an argument", len, limits::BULK_BYTES_MAX)?;
            let end = start + len as usize;
            if buf.len() < end + 2 {
                break;
            }
            if buf[end] != b'\r' || buf[end + 1] != b'\n' {
                return Err(WireError::Frame("an argument does not end in CRLF"));
            }
            args.push(ArgRange { start: start as u32, len: len as u32 });
            at = end + 2;
            left -= 1;
            bound("a command", (at - self.begin) as u64, limits::FRAME_BYTES_MAX)?;
        }
        self.at = at;
        self.left = Some(left);
        Ok(left == 0)
    }
}

/// Reads `<mark><digits>␍␊` at `at`: the number and the position after it, or `None` if more bytes are needed.
#[inline]
pub(super) fn number_line(
    buf: &[u8],
    at: usize,
    mark: u8,
    what: &'static str,
) -> Result<Option<(u64, usize)>, WireError> {
    if let Some(short) = short_number_line(buf, at, mark) {
        return Ok(Some(short));
    }
    match buf.get(at) {
        None => return Ok(None),
        Some(&byte) if byte != mark => return Err(WireError::Frame(what)),
        Some(_) => {}
    }
    let mut number = 0u64;
    let mut i = at + 1;
    loop {
        match buf.get(i) {
            None => return if i - at > 20 { Err(WireError::Number(what)) } else { Ok(None) },
            Some(&digit @ b'0'..=b'9') => {
                // 19 digits always fit.
                if i - at > 19 {
                    return Err(WireError::Number(what));
                }
                number = number * 10 + u64::from(digit - b'0');
                i += 1;
            }
            Some(b'\r') if i > at + 1 => {
                return match buf.get(i + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((number, i + 2))),
                    Some(_) => Err(WireError::Number(what)),
                };
            }
            Some(_) => return Err(WireError::Number(what)),
        }
    }
}

/// [`number_line`] of one or two digits with a byte behind it, as most are; `None` for any other.
#[inline(always)]
fn short_number_line(buf: &[u8], at: usize, mark: u8) -> Option<(u64, usize)> {
    let [first, tens, ones, cr, lf] = *buf.get(at..)?.first_chunk()?;
    let (tens, digit) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if first != mark || tens > 9 {
        None
    } else if digit <= 9 && [cr, lf] == *b"\r\n" {
        Some((u64::from(tens) * 10 + u64::from(digit), at + 5))
    } else if [ones, cr] == *b"\r\n" {
        Some((u64::from(tens), at + 4))
    } else {
        None
    }
}

/// The line that begins at `at`, without its CRLF, and the position after it; `None` if more bytes are needed.
pub(super) fn line(buf: &[u8], at: usize, max: usize) -> Result<Option<(&[u8], usize)>, WireError> {
    let window = &buf[at..buf.len().min(at + max)];
    match memchr::memchr(b'\n', window) {
        Some(end) if end > 0 && window[end - 1] == b'\r' => Ok(Some((&window[..end - 1], at + end + 1))),
        Some(_) => Err(WireError::Line(shown(window))),
        None if window.len() >= max => Err(WireError::LineTooLong(max)),
        None => Ok(None),
    }
}

/// A peer's bytes as a log line may show them.
pub(super) fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(60)].escape_ascii().to_string()
}

fn bound(what: &'static str, announced: u64, limit: usize) -> Result<(), WireError> {
    if announced > limit as u64 {
        return Err(WireError::TooLarge { what, announced, limit: limit as u64 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_measured_from_where_it_begins() {
        let command = b"*1\r\n$4\r\nNOOP\r\n";
        // Nothing but its end is touched, and so takes memory.
        let begin = limits::FRAME_BYTES_MAX;
        let mut buf = vec![0; begin + command.len()];
        buf[begin..].copy_from_slice(command);
        let mut scan = ArgScan::starting_at(begin);
        assert_eq!(scan.run(&buf, &mut Vec::new()), Ok(true));
    }
}
